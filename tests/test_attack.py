"""The page that shows what came out of the attacks of `make attack`."""

import json

from attack import __main__ as attack


def test_the_benchmarks_page_shows_what_came_out():
    readme = (attack.BENCHMARKS / "README.md").read_text(encoding="utf-8")
    results = json.loads(attack.RESULTS.read_text())
    assert readme.partition(attack.BEGIN)[2].partition(attack.END)[0].strip() == attack.markdown(results)
    assert all(result["outcomes"]["wrong"] == 0 for result in results.values())
