"""What `make bench` and `make attack` have left: every stage is in it, tables and plots are those of the results."""

import importlib.util
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from attack import __main__ as attack

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def report():
    spec = importlib.util.spec_from_file_location("report", BENCHMARKS / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measured():
    return json.loads((BENCHMARKS / "results.json").read_text())


def test_every_stage_was_measured(report, measured):
    assert {row["stage"] for row in measured["rows"] if row["growth"] is None} <= {*report.COMPARED, *report.ALONE}
    for stage in {*report.COMPARED, *report.ALONE} - report.FULL_ONLY:
        assert report.shown(measured, stage), stage
    for stage, of in report.GROWTH:
        assert len({row["sizes"][of] for row in measured["rows"] if (row["stage"], row["growth"]) == (stage, of)}) >= 3


def test_the_tables_are_those_of_the_results(report, measured):
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert text.partition(report.BEGIN)[2].partition(report.END)[0].strip() == report.tables(measured).strip()


def test_the_page_shows_what_came_out_of_the_attacks():
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    results = json.loads(attack.RESULTS.read_text())
    assert text.partition(attack.BEGIN)[2].partition(attack.END)[0].strip() == attack.markdown(results)
    assert all(result["outcomes"]["wrong"] == 0 for result in results.values())


def test_the_readme_shows_its_plots_on_an_opaque_background():
    images = re.findall(r"!\[([^\]]+)\]\((\w+\.svg)\)", (BENCHMARKS / "README.md").read_text(encoding="utf-8"))
    assert {name for _, name in images} == {"ratios.svg", "growth.svg"} and all(len(alt) > 40 for alt, _ in images)
    for _, name in images:
        drawn = ElementTree.parse(BENCHMARKS / name).getroot().iter("{http://www.w3.org/2000/svg}path")
        assert "fill: #ffffff" in next(path.get("style") for path in drawn if path.get("style"))
