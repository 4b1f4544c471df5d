"""Executed chapters become pages, and pages a site."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from cluster_tools import paths
from cluster_tools.book import chapters, docstrings, pages, publish
from cluster_tools.errors import ClusterToolsError
from cluster_tools.figures import figure_data

ROOT = Path(__file__).parents[2]


def notebook(*cells):
    made = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    return nbformat.v4.new_notebook(cells=[made[kind](text, metadata=metadata) for kind, text, metadata in cells])


def test_page_shows_parameters_in_effect_and_unique_labels():
    executed = notebook(
        ("markdown", "(sec-t)=\n# Training\n\nSee {numref}`fig-t` and {eq}`eq-t-2`.", {}),
        ("code", 'profile = "smoke"  # größe\ninput_dim = 2  # or 1', {"tags": ["parameters"], "papermill": {}}),
        ("code", "input_dim = 1", {"tags": ["injected-parameters"]}),
        ("code", "plot()", {"mystnb": {"figure": {"name": "fig-t"}}, "papermill": {"duration": 1}}),
    )
    parameters = {"profile": "book", "input_dim": 1}
    run = chapters.ChapterRun("03_t_uchuu_1d", "t", "03_t", "uchuu, 1D", parameters)
    record = {
        "commit": "abc",
        "seconds": 3.2,
        "peak_memory_mb": 500,
        "versions": {"numpy": "2"},
    }
    page = pages.page(executed, run, first=False)
    assert [cell.cell_type for cell in page.cells] == ["markdown", "code", "code"]
    pages.add_head(page, run, record, {"url": "https://github.com/some/one"})
    assert page.cells[0].source.splitlines()[:2] == ["(sec-t-uchuu-1d)=", "# Training: uchuu, 1D"]
    assert "Runs in 3 s on one core, profile `book`" in page.cells[0].source
    assert "https://mybinder.org/v2/gh/some/one/main?labpath=notebooks/03_t.ipynb" in page.cells[0].source
    assert "sec-in-the-browser" not in page.cells[0].source
    assert "`fig-t-uchuu-1d`" in page.cells[0].source and "`eq-t-2-uchuu-1d`" in page.cells[0].source
    assert page.cells[1].source == 'profile = "book"  # größe\ninput_dim = 1  # or 1'
    assert page.cells[2].metadata == {"mystnb": {"figure": {"name": "fig-t-uchuu-1d"}}}
    assert "`input_dim = 1`" in pages.foot(run, record) and "numpy 2" in pages.foot(run, record)
    nbformat.validate(page)


def test_page_without_a_repository_leads_to_how_binder_and_colab_get_one():
    page = notebook(("markdown", "# Training", {}))
    run = chapters.ChapterRun("03_t", "t", "03_t", "", {"profile": "book"})
    pages.add_head(page, run, {"seconds": 3.2}, {"url": "https://example.org/no/github"})
    assert page.cells[0].source.count("<sec-in-the-browser>") == 1 and "mybinder" not in page.cells[0].source
    assert "(sec-in-the-browser)=" in (paths.project_root() / "book" / "running.md").read_text()


def test_parameters_in_effect_take_the_place_of_defaults_on_one_line_or_more():
    source = 'a = {\n    "x": [1],  # größe\n}  # first\nb = "é"  # second\nc = 3'
    assert pages.in_effect(source, {"a": {"x": [2]}, "b": 1}) == "a = {'x': [2]}  # first\nb = 1  # second\nc = 3"


def test_numbers_of_a_figure_become_a_file_with_a_link_below_it():
    executed = notebook(("markdown", "# T", {}), ("code", "plot()", {"mystnb": {"figure": {"name": "fig-t"}}}))
    executed.cells[1].outputs = [
        nbformat.v4.new_output("display_data", {"image/png": "x", figure_data.MIME_TYPE: "a,b\n"})
    ]
    run = chapters.ChapterRun("03_t", "t", "03_t", "", {"profile": "book"})
    page = pages.page(executed, run, first=True)
    tables = pages.take_tables(page, run)
    assert tables == [(1, "fig-t.csv", "a,b\n")] and set(page.cells[1].outputs[0].data) == {"image/png"}
    pages.add_links(page, tables)
    assert [cell.cell_type for cell in page.cells] == ["markdown", "code", "markdown"]
    assert "<../data/fig-t.csv>" in page.cells[2].source


def test_short_cells_of_tables_stay_on_one_line_and_long_ones_do_not():
    page = notebook(("code", "table", {}))
    cells = '<th>a ± b</th><td id="x" >35% of 300</td><td>{}</td><td><b>a b</b></td>'
    long = "an explanation of 14.88 ± 0.12 and 1.78 -0.19 +0.22, which takes more than one line"
    page.cells[0].outputs = [
        nbformat.v4.new_output("display_data", {"text/html": cells.format(long), "text/plain": "a b"})
    ]
    pages.keep_together(page)
    expected = cells.format(long).replace("35% of 300", "35%\xa0of\xa0300").replace(" ± 0", "\xa0±\xa00")
    expected = expected.replace(" -0", "\xa0-0").replace(" +0", "\xa0+0")
    assert page.cells[0].outputs[0].data == {"text/html": expected, "text/plain": "a b"}


def test_site_with_a_missing_page_or_a_fetched_script_is_refused(tmp_path):
    for name in ("index", "a"):
        (tmp_path / f"{name}.html").write_text('<a href="https://doi.org/1">x</a><script src="_static/x.js"></script>')
    publish.check(tmp_path, ["index", "a"])
    with pytest.raises(ClusterToolsError, match="lacks the pages b"):
        publish.check(tmp_path, ["index", "a", "b"])
    for text in ('<script async src="https://cdn.net/m.js">', '<link href="//f.com/a.css" rel="stylesheet">'):
        (tmp_path / "a.html").write_text(text)
        with pytest.raises(ClusterToolsError, match="network"):
            publish.check(tmp_path, ["a"])


def test_site_is_swapped_whole(tmp_path):
    new, site = tmp_path / "new", tmp_path / "html"
    for key in ("1", "2"):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        (new / f"page{key}.html").write_text(key)
        publish.swap(new, site, key)
        assert publish.read_key(site) == key
    assert {path.name for path in site.iterdir()} == {"page2.html", ".content-key"}
    assert {path.name for path in tmp_path.iterdir()} == {"new", "html"}


def test_toc_has_exactly_the_plan_and_the_prose_pages():
    named = publish.expected_pages(ROOT / "_toc.yml")
    assert len(named) == len(set(named))
    prose = {path.relative_to(ROOT / "book").with_suffix("").as_posix() for path in (ROOT / "book").rglob("*.md")}
    assert set(named) == {f"chapters/{run.name}" for run in chapters.plan("smoke")} | prose


def test_every_module_is_in_the_reference_once():
    text = "".join(path.read_text() for path in (ROOT / "book" / "api").glob("*.md"))
    modules = sorted(path.stem for path in (ROOT / "src" / "cluster_tools").glob("[!_]*.py"))
    for once in (r"^## (\w+)$", r"^\.\. automodule:: cluster_tools\.(\w+)$", r"^   ~cluster_tools\.(\w+)$"):
        assert sorted(re.findall(once, text, re.MULTILINE)) == modules


def test_citation_becomes_bibtex():
    text = publish.bibtex(yaml.safe_load((ROOT / "CITATION.cff").read_text()))
    assert text.startswith("@article{ho2022,") and "@software{cluster_tools," in text
    assert "author = {Ho, Matthew and Ntampaka, Michelle" in text and "pages = {936--941}" in text
    assert text.count("{") == text.count("}")


def test_docstrings_in_running_text_are_joined_and_descriptions_stay():
    lines = ["Parameters", "---", "r : array, as", "    in `f` of", "    Coma", "x, y : float", "    Where it is.", ""]
    lines += ["Returns", "---", "mass, and", "error"]
    docstrings.join_parameters(None, "function", "f", None, None, lines)
    assert lines[2:6] == ["r : array, as in `f` of Coma", "x, y : float", "    Where it is.", ""]
    docstrings.join_running_text(None, "function", "f", None, None, lines)
    assert lines[6:] == ["Returns", "---", "mass, and error"]
