"""A tenth of the kills of `make attack`."""

import pytest

from attack import __main__ as attack
from attack import kills


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kill_book", "kill_batch"])
def test_what_is_killed_and_started_again_ends_as_if_left_alone(name, tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "PATIENCE", 60)  # other tests run beside this one
    outcomes = attack.tenth(name, tmp_path)
    assert outcomes["wrong"] == 0, outcomes
