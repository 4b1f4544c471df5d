"""A small share of the attacks of `make attack`, and the page that shows what came out of a large one."""

import json

import pytest
from attack import __main__ as attack
from attack import kills

QUICK = {"kill_book": 1, "kill_batch": 1, "damage_tables": 240, "flip_bytes": 90, "many_clusters": 20, "two_at_once": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_no_attack_succeeds(name, tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "PATIENCE", 60)  # other tests run beside this one
    outcomes = attack.ATTACKS[name][0](QUICK[name], tmp_path)
    assert outcomes["wrong"] == 0, outcomes


def test_the_benchmarks_page_shows_what_came_out():
    readme = (attack.BENCHMARKS / "README.md").read_text(encoding="utf-8")
    results = json.loads(attack.RESULTS.read_text())
    assert readme.partition(attack.BEGIN)[2].partition(attack.END)[0].strip() == attack.markdown(results)
    assert all(result["outcomes"]["wrong"] == 0 for result in results.values())
