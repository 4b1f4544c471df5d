"""A tenth of the clusters and of the rounds side by side of `make attack`."""

import pytest

from attack import __main__ as attack


@pytest.mark.slow
@pytest.mark.parametrize("name", ["many_clusters", "two_at_once"])
def test_every_cluster_of_every_batch_is_weighed(name, tmp_path):
    outcomes = attack.tenth(name, tmp_path)
    assert outcomes["wrong"] == 0, outcomes
