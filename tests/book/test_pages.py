"""Executed chapters become pages, and pages a site."""

import ast
import base64
import io
import json
import re
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from damage import flip_byte
from docutils.core import publish_string
from myst_parser.docutils_ import Parser
from PIL import Image

from cluster_tools import paths, store, tables
from cluster_tools.book import chapters, gallery, pages, publish, web
from cluster_tools.errors import ClusterToolsError
from cluster_tools.figures import figure_data

ROOT = Path(__file__).parents[2]
HOSTILE = "`a`|<script>alert(1)</script> {ref}`x` [x](javascript:y) $y$ *z* _CPU_ \\1"
RECORD = {
    "commit": HOSTILE, "seconds": 3.2, "peak_memory_mb": 500, "versions": {"numpy": "2"},
    "machine": {"cpu": HOSTILE, "cores": 2},
}  # fmt: skip
RUN = chapters.ChapterRun("03_t", "t", "03_t", "", {"profile": "book"})


def notebook(*cells, outputs=()):
    """A notebook of (kind, text, metadata), whose last cells have these outputs."""
    new = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    made = nbformat.v4.new_notebook(cells=[new[kind](text, metadata=metadata) for kind, text, metadata in cells])
    for cell, data in zip(made.cells[-len(outputs) :], outputs):
        cell.outputs = [nbformat.v4.new_output("display_data", data)]
    return made


def test_the_page_that_weighs_lists_every_name_that_a_column_may_have():
    """Also its unit or values; `stage` puts the table in place of a comment."""
    rows = [row.strip("| ").split(" | ") for row in web.columns_table().splitlines()[2:]]
    listed = {name.strip("`()"): (values, re.findall("`(.*?)`", ways)) for name, _, values, ways in rows}
    assert [*listed] == [*tables.NAMES, "velocity", *tables.QUALITY] and {len(row) for row in rows} == {4}
    for name, aliases in (tables.NAMES | tables.QUALITY).items():
        values, ways = listed[name]
        assert name == "error" or set(aliases) <= set(ways), name
        assert values == tables.EXPECTED[name][-1] if name in tables.EXPECTED else values
    velocities = {*listed["cz"][1], *listed["velocity"][1]}
    assert set(tables.VELOCITIES) - velocities == {"v_los"}  # is relative to the cluster
    affixes = re.compile("(?:e_|err_)(.*)|(.*)(?:_err|_error)")
    for name in set(tables.QUALITY["error"]) - {*listed["error"][1]}:
        assert set(affixes.fullmatch(name).groups()) & {*listed["z"][1], *velocities, "v_los"}, name
    assert (ROOT / "book" / "weigh.md").read_text().count(web.COLUMNS) == 1


def test_page_shows_the_parameters_of_its_run_and_unique_labels():
    table = f"{paths.project_root()}/mine.csv"
    executed = notebook(
        ("markdown", "(sec-t)=\n# Training\n\nSee {numref}`fig-t` and {eq}`eq-t-2`.", {}),
        ("code", 'profile = "smoke"\ntable = None  # a file', {"tags": ["parameters"], "papermill": {}}),
        ("code", f'# Parameters\nprofile = "book"\ntable = "{table}"', {"tags": ["injected-parameters"]}),
        ("code", "plot()", {"mystnb": {"figure": {"name": "fig-t"}}, "papermill": {"duration": 1}}),
    )
    run = chapters.ChapterRun("03_t_uchuu_1d", "t", "03_t", "uchuu, 1D", {"profile": "book", "table": table})
    page = pages.page(executed, run, first=False)
    pages.add_head(page, run, RECORD, {"url": "https://github.com/some/one"})
    head, defaults, parameters, plot = page.cells
    assert head.source.splitlines()[:2] == ["(sec-t-uchuu-1d)=", "# Training: uchuu, 1D"]
    assert "Runs in 3 s on one core" in head.source and "sec-in-the-browser" not in head.source
    assert "https://mybinder.org/v2/gh/some/one/main?labpath=notebooks/03_t.ipynb" in head.source
    assert "`fig-t-uchuu-1d`" in head.source and "`eq-t-2-uchuu-1d`" in head.source
    assert defaults.source == 'profile = "smoke"\ntable = None  # a file'
    assert defaults.metadata["tags"] == ["parameters", "hide-input"]
    assert parameters.source == '# Parameters of this page\nprofile = "book"\ntable = "mine.csv"'
    assert plot.metadata == {"mystnb": {"figure": {"name": "fig-t-uchuu-1d"}}}
    nbformat.validate(page)


def rendered(markdown):
    settings = {"report_level": 5, "line_length_limit": 10**6}
    html = publish_string(markdown, parser=Parser(), writer_name="html5", settings_overrides=settings)
    return BeautifulSoup(html.decode(), "html.parser")


def test_foot_has_parameters_and_digests_and_shows_hostile_text_as_it_is():
    parameters = {name: HOSTILE for planned in chapters.plan("smoke") for name in planned.parameters}
    run = chapters.ChapterRun("t", "t", "t", HOSTILE, parameters, (), ("a.h5",), ("b.csv", "c.h5"))
    text = pages.foot(run, RECORD, {"a.h5": "0" * 16, "b.csv": "1" * 16, "c.h5": "2" * 16})
    assert "{download}`b.csv <../data/b.csv>`" in text and "3 s on one core, 0.5 GB" in text and "numpy 2" in text
    soup = rendered("\n".join(line for line in text.splitlines() if line.startswith("|") and "download" not in line))
    rows = {row.td.text: row.find_all("td")[1].text for row in soup.select("tr") if row.td}
    assert rows["Profile"] == HOSTILE and rows["Commit"] == HOSTILE
    assert rows["Parameters"] == ", ".join(f"{name} = {HOSTILE!r}" for name in parameters)
    assert rows["Reads"] == "a.h5 0000000000000000"
    assert rows["Took"].endswith(f"{HOSTILE} with 2 cores")
    assert not soup.find("script") and len(rows) == 6
    page = pages.page(notebook(("markdown", "# Training", {})), run, first=True)
    pages.add_head(page, run, RECORD, {"url": "https://github.com/some/one"})
    head = rendered(page.cells[0].source)
    assert HOSTILE in head.text and not head.find("script")


def test_page_without_a_repository_leads_to_how_binder_and_colab_get_one():
    page = notebook(("markdown", "# Training", {}))
    pages.add_head(page, RUN, RECORD, {"url": "https://example.org/no/github"})
    assert page.cells[0].source.count("<sec-in-the-browser>") == 1 and "mybinder" not in page.cells[0].source
    assert "(sec-in-the-browser)=" in (paths.project_root() / "book" / "running.md").read_text()


def test_numbers_of_a_figure_become_a_file_with_a_link_below_it():
    cells = ("markdown", "# T", {}), ("code", "plot()", {"mystnb": {"figure": {"name": "fig-t"}}})
    executed = notebook(*cells, outputs=[{"image/png": "x", figure_data.MIME_TYPE: "a,b\n"}])
    page = pages.page(executed, RUN, first=True)
    tables = pages.remove_figure_data(page, RUN)
    assert tables == [(1, "fig-t.csv", "a,b\n")] and set(page.cells[1].outputs[0].data) == {"image/png"}
    pages.add_data_links(page, tables)
    assert [cell.cell_type for cell in page.cells] == ["markdown", "code", "markdown"]
    assert "<../data/fig-t.csv>" in page.cells[2].source


def picture(*size):
    image = io.BytesIO()
    Image.new("RGB", size, "white").save(image, format="PNG")
    return {"image/png": base64.b64encode(image.getvalue()).decode()}


def test_gallery_shows_each_captioned_figure_once_under_its_page(tmp_path):
    caption, alt = "Mass by Ho et al. (2022). Error bars: 1 sigma.", {"alt": "Bars."}
    described = [{"figure": {"name": label, "caption": caption}, "image": alt} for label in ("fig-a", "fig-b")]
    cells = ("code", "", {}), *(("code", "", {"mystnb": each}) for each in described)
    full = notebook(*cells, outputs=[picture(10, 10), picture(1400, 700), picture(300, 900)])
    empty = notebook(cells[0], outputs=[picture(10, 10)])
    gallery.write(tmp_path, [("The mass of Coma", gallery.thumbnails(full)), ("History", gallery.thumbnails(empty))])
    text = (tmp_path / "gallery.md").read_text()
    assert text.count("grid-item-card") == 2 and "## The mass of Coma\n" in text and "History" not in text
    assert ":link: fig-a\n" in text and "\nMass by Ho et al. (2022).\n" in text and "1 sigma" not in text
    sizes = [Image.open(tmp_path / "gallery" / f"{label}.png").size for label in ("fig-a", "fig-b")]
    assert sizes == [(640, 320), (213, 640)]


def test_short_cells_of_tables_stay_on_one_line_and_long_tables_are_folded():
    cells = '<th>a ± b</th><td id="x" >35% of 300</td><td>{}</td><td><b>a b</b></td>'
    cells = cells.format("an explanation of 14.88 ± 0.12 and 1.78 -0.19 +0.22, which takes more than one line")
    rows = ["<table><thead><tr></tr></thead><tbody>" + "<tr></tr>" * rows + "</tbody></table>" for rows in (20, 21)]
    outputs = [{"text/html": text, "text/plain": "a b"} for text in (cells, *rows)]
    page = notebook(*[("code", "table", {})] * 3, outputs=outputs)
    pages.arrange_tables(page)
    expected = cells.replace("35% of 300", "<span class='short-cell'>35% of 300</span>")
    expected = expected.replace(" ± 0", "\xa0±\xa00").replace(" -0", "\xa0-0").replace(" +0", "\xa0+0")
    assert page.cells[0].outputs[0].data == {"text/html": expected, "text/plain": "a b"}
    short, folded = (cell.outputs[0].data["text/html"] for cell in page.cells[1:])
    assert short == rows[0] and "<summary>Table of 21 rows</summary>" in folded and rows[1] in folded


def test_long_parameters_are_wrapped():
    value = {"first": [13.6, True], "second": [f"a cut at {i}" for i in range(9)]}
    source = f"# Parameters\nseed = 1\nanalyses = {json.dumps(value).replace('true', 'True')}"
    executed = notebook(("code", "", {"tags": ["parameters"]}), ("code", source, {"tags": ["injected-parameters"]}))
    shown = pages.page(executed, RUN, first=True).cells[1].source
    assert max(map(len, shown.splitlines())) <= 80 and "seed = 1\n" in shown
    assert ast.literal_eval(shown.partition("analyses = ")[2]) == value


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


def test_a_site_takes_the_place_of_the_old_one_whole_unless_a_byte_was_flipped(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    site, html = tmp_path / "_build" / "smoke" / "site", tmp_path / "_build" / "html"
    (site / "_images").mkdir(parents=True)
    html.mkdir()
    for path in (html / "old.html", site / "index.html", picture := site / "_images" / "figure3.svg"):
        path.write_text(f"text of {path.name}")
    store.write_digested(site / publish.MANIFEST, publish.digests(site))
    publish.remove_damaged("smoke")
    assert publish.install("smoke").read_text() == "text of index.html"
    assert publish.digests(html) == publish.digests(site)
    assert {path.name for path in html.parent.iterdir()} == {"smoke", "html"}
    flip_byte(html / "_images" / "figure3.svg")
    publish.install("smoke")  # as the site is whole
    assert publish.digests(html) == publish.digests(site)
    flip_byte(picture)
    publish.remove_damaged("smoke")  # without its first page Snakemake has it built again
    assert not (site / "index.html").exists()


def test_toc_has_the_plan_and_the_prose_pages_and_one_page_of_the_eight_trainings():
    named = publish.expected_pages(ROOT / "_toc.yml")
    prose = {path.relative_to(ROOT / "book").with_suffix("").as_posix() for path in (ROOT / "book").rglob("*.md")}
    planned = chapters.plan("smoke")
    unread = [run.name for run in planned if run.chapter == "training"][1:]
    made = {f"api/{folder or 'package'}" for folder in ("", *store.FOLDERS)} | {"gallery"}
    assert set(named) == {f"chapters/{run.name}" for run in planned if run.name not in unread} | prose | made
    text = chapters.notebook_path("04_training").read_text(encoding="utf-8")
    assert [f"<../data/{name}.ipynb>" in text for name in unread] == [True] * 7


def test_numbered_chapters_have_the_numbers_of_their_files():
    """Jupyter Book counts from 1 in a part that is numbered."""
    (part,) = [part for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"] if part.get("numbered")]
    files = [chapter["file"].removeprefix("chapters/") for chapter in part["chapters"]]
    assert [int(file[:2]) for file in files] == list(range(1, len(files) + 1))
    for chapter in part["chapters"]:
        assert all(section["file"][:11] == chapter["file"][:11] for section in chapter.get("sections", []))


def test_the_reference_has_a_page_for_each_folder_and_each_module_once():
    for folder in ("", *store.FOLDERS):
        modules = sorted(path.stem for path in (paths.PACKAGE / folder).glob("[!_]*.py"))
        assert re.findall(r"^\.\. automodule:: [\w.]+\.(\w+)$", pages.reference(folder), re.MULTILINE) == modules


def test_bibtex_agrees_with_the_citation_file():
    citation, bibtex = yaml.safe_load((ROOT / "CITATION.cff").read_text()), (ROOT / "book" / "cite.bib").read_text()
    article = citation["preferred-citation"]
    assert f"{{{citation['version']}}}" in bibtex and f"{{{article['doi']}}}" in bibtex
    assert " and ".join(f"{a['family-names']}, {a['given-names']}" for a in article["authors"]) in bibtex
