"""A tenth of the damaged tables and flipped bytes of `make attack`."""

import pytest

from attack import __main__ as attack


@pytest.mark.slow
@pytest.mark.parametrize("name", ["damage_tables", "flip_bytes"])
def test_damage_is_noticed_or_has_no_effect(name, tmp_path):
    outcomes = attack.tenth(name, tmp_path)
    assert outcomes["wrong"] == 0, outcomes
