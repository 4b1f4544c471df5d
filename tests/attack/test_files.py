"""A tenth of the damaged tables, flipped bytes, clusters of a batch and rounds side by side of `make attack`."""

import pytest

from attack import __main__ as attack


@pytest.mark.slow
@pytest.mark.parametrize("name", ["damage_tables", "flip_bytes", "many_clusters", "two_at_once"])
def test_damage_is_noticed_and_no_cluster_is_lost(name, tmp_path):
    outcomes = attack.tenth(name, tmp_path)
    assert outcomes["wrong"] == 0, outcomes
