"""The house stands: plan, profiles, keys, notebooks, configuration, pages, atomic files."""

import ast
import errno
import json
import os
import re
import shutil
import time
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from cluster_tools import cli, paths, store
from cluster_tools.book import chapters, docstrings, pages, publish
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.errors import ClusterToolsError
from cluster_tools.figures import figure_data
from conftest import same_printed

ROOT = Path(__file__).parents[1]
TEXTS = sorted((ROOT / "notebooks").glob("*.md"))
HEADER = """---
kernelspec:
  display_name: Python 3 (ipykernel)
  language: python
  name: python3
---
"""


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A copy of what keys are made of, which a test may edit."""
    for name in ("notebooks", "params", "src/cluster_tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "published.yml", tmp_path / "results")
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    monkeypatch.setattr(paths, "PACKAGE_DATA", tmp_path / "src" / "cluster_tools" / "data")
    return tmp_path


def keys():
    return chapters.keys(chapters.plan("smoke"))


def changed(before: dict, kind: str) -> set[str]:
    """The runs whose page or artefact key is another one than before."""
    return {name for name, key in keys().items() if getattr(key, kind) != getattr(before[name], kind)}


def runs_of(*numbers: str) -> set[str]:
    return {run.name for run in chapters.plan("smoke") if run.name[:2] in numbers}


def with_readers(*numbers: str) -> set[str]:
    """The runs of these chapters and all that read from them, directly or not."""
    found, runs = runs_of(*numbers), chapters.plan("smoke")
    for run in runs:
        if {other.name for other in chapters.upstream(run, runs)} & found:
            found.add(run.name)
    return found


# The plan and the profiles


def test_plan_has_every_notebook_and_only_reads_what_was_written_before():
    runs = chapters.plan("smoke")
    assert {run.notebook for run in runs} == {path.stem for path in TEXTS}
    assert len({run.name for run in runs}) == len(runs)
    written: set[str] = set()
    for run in runs:
        assert set(run.reads) <= written
        assert not set(run.writes) & written
        written |= set(run.writes)


@pytest.mark.parametrize("profile", ["smoke", "book", "paper"])
def test_profiles_set_parameters_that_the_notebooks_have(profile):
    for run in chapters.plan(profile):
        assert set(chapters.default_parameters(chapters.read_notebook(run.notebook))) == set(run.parameters), run.name


def test_defaults_of_notebooks_are_the_smoke_profile():
    first = {run.notebook: run for run in reversed(chapters.plan("smoke"))}
    for notebook, run in first.items():
        assert chapters.default_parameters(chapters.read_notebook(notebook)) == run.parameters


def test_unknown_profile_is_one_sentence_that_lists_those_that_exist():
    with pytest.raises(ClusterToolsError, match="no profile 'nosuch'.*book, paper, smoke") as error:
        chapters.plan("nosuch")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "must have the sections"),
        ("training: {}", "must have the sections"),
        ("\xff", "must have the sections"),
    ],
)
def test_bad_profile_is_refused(tree, text, message):
    (tree / "params" / "own.yml").write_text(text)
    with pytest.raises(ClusterToolsError, match=message):
        profile_parameters("own")


def test_parameter_that_no_notebook_has_is_refused(tree):
    path = tree / "params" / "own.yml"
    path.write_text((tree / "params" / "smoke.yml").read_text().replace("epochs:", "epoch:"))
    with pytest.raises(ClusterToolsError, match=r"params/own.yml sets epoch for training.*epochs"):
        chapters.keys(chapters.plan("own"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("---\na: [\n---\n", "not a notebook in MyST"),
        (HEADER + "# Empty\n", "exactly one cell tagged parameters, but this one has 0"),
        (HEADER + "```{code-cell}\n:tags: [parameters]\na = f()\n```\n", "not valid Python"),
        (HEADER + "```{code-cell}\nx = = 1\n```\n", "not valid Python"),
    ],
)
def test_damaged_notebook_is_refused_by_name(tree, text, message):
    (tree / "notebooks" / "03_preprocessing.md").write_text(text)
    with pytest.raises(ClusterToolsError, match=f"notebooks/03_preprocessing.md.*{message}"):
        keys()


def test_command_line_says_errors_in_a_sentence_and_leaves_nothing(tree, capsys):
    assert cli.main(["book", "--profile", "nosuch"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no profile 'nosuch'")
    assert not (tree / "results" / "nosuch").exists()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["book", "--cores", "0"])


# Keys: what runs again after which change


def test_prose_changes_the_page_of_its_own_chapter_only(tree):
    before = keys()
    with open(tree / "notebooks" / "01_mock_catalogues.md", "a") as text:
        text.write("\nOne more sentence.\n")
    assert changed(before, "page") == runs_of("01")
    assert changed(before, "artefact") == set()


def test_file_times_change_nothing(tree):
    before = keys()
    for path in tree.rglob("*"):
        os.utime(path, (0, 0))
    assert keys() == before


def test_code_of_a_chapter_changes_all_that_reads_from_it(tree):
    before = keys()
    with open(tree / "notebooks" / "04_training.md", "a") as text:
        text.write("\n```{code-cell} ipython3\nprint(1)\n```\n")
    assert changed(before, "page") == changed(before, "artefact") == with_readers("03")


@pytest.mark.parametrize(
    ("module", "reruns", "spared"),
    [("networks", ("03", "04", "06"), ("01", "02", "05")), ("baselines", ("04", "06"), ("01", "03"))],
)
def test_module_changes_its_dependents_only(tree, module, reruns, spared):
    before = keys()
    path = tree / "src" / "cluster_tools" / f"{module}.py"
    path.write_text(path.read_text() + "\n\nEXTRA = 1\n")
    assert runs_of(*reruns) <= changed(before, "page") & changed(before, "artefact")
    assert not runs_of(*spared) & changed(before, "page")


def test_comments_and_docstrings_do_not_reach_what_was_made(tree):
    before = keys()
    path = tree / "src" / "cluster_tools" / "kde.py"
    path.write_text(path.read_text().replace('"""', '"""Reworded. ', 1) + "\n# A comment.\n")
    assert runs_of("02", "03") <= changed(before, "page")
    assert changed(before, "artefact") == set()


def test_parameters_data_and_sample_of_coma_count(tree, monkeypatch):
    before = keys()
    own = tree / "own.csv"
    own.write_text("ra,dec,z\n")
    monkeypatch.setenv("CLUSTER_TOOLS_COMA_SAMPLE", str(own))
    with_sample = keys()
    assert runs_of("06") <= changed(before, "page") and not runs_of("01", "05") & changed(before, "page")
    own.write_text("ra,dec,z\n1,2,3\n")
    assert changed(with_sample, "page") >= runs_of("06")
    monkeypatch.delenv("CLUSTER_TOOLS_COMA_SAMPLE")
    with open(tree / "results" / "published.yml", "a") as text:
        text.write("\n# A comment.\n")
    assert runs_of("05") <= changed(before, "page")
    before = keys()
    path = tree / "params" / "smoke.yml"
    sections = yaml.safe_load(path.read_text())
    sections["training"]["epochs"] += 1
    path.write_text(yaml.safe_dump(sections))
    assert changed(before, "page") == with_readers("03")


def test_shipped_networks_change_the_chapter_that_uses_them_and_no_other(tree):
    before = keys()
    (tree / "src/cluster_tools/data/uchuu_2d/ensemble.json").write_text("{}")
    assert changed(before, "page") == changed(before, "artefact") == runs_of("00", "08")


def test_dependencies_follow_calls_not_whole_modules(tmp_path, monkeypatch):
    (tmp_path / "hub.py").write_text(
        "from cluster_tools import base\n\ndef one():\n    from cluster_tools import first\n    return helper()\n\n"
        "def helper():\n    from cluster_tools.second import name\n\ndef two():\n    from cluster_tools import third\n"
    )
    for name in ("base", "first", "second", "third"):
        (tmp_path / f"{name}.py").write_text("")

    def used(source: str) -> set[str]:
        return set(dependencies.modules_used(ast.parse(source)))

    assert used("from cluster_tools import hub\nhub.one()") == {"hub", "base", "first", "second"}
    assert used("from cluster_tools.hub import helper as h") == {"hub", "base", "second"}
    assert used("from cluster_tools import hub\ngetattr(hub, 'two')") == {"hub", "base", "first", "second", "third"}
    assert used("import numpy as np\nfrom os import path") == set()


def test_run_is_done_while_record_chapter_and_artefacts_are_there(tree):
    runs = chapters.plan("smoke")
    run_keys = chapters.keys(runs)
    results = paths.results("smoke")
    for run in runs:
        for path in (chapters.executed_path(run), *(results / name for name in run.writes)):
            store.write_text(path, "whole")
        store.write_json(chapters.record_path(run, run_keys[run.name].page), {"made": chapters.made(run)})

    def undone():
        return [run.name for run in chapters.pending(runs, run_keys)]

    assert undone() == []
    (results / "networks/uchuu_2d/ensemble.json").unlink()
    assert undone() == ["03_training_uchuu_2d"]
    chapters.record_path(runs[0], run_keys[runs[0].name].page).unlink()
    assert undone() == [runs[0].name, "03_training_uchuu_2d"]
    (results / "networks/mdpl2_2d/fold0_network0.weights.h5").write_text("damaged")
    (results / "catalogs/mdpl2.h5").write_text("damaged")
    chapters.record_path(runs[-1], run_keys[runs[-1].name].page).write_text("{damaged")
    expected = [runs[0].name, "01_mock_catalogues_mdpl2", "03_training_uchuu_2d", "03_training_mdpl2_2d", runs[-1].name]
    assert undone() == expected


# Running a chapter


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A notebook of one's own in an empty tree: call it with its last cell to get its run."""
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()

    def make(code: str) -> chapters.ChapterRun:
        cells = (
            ':tags: [parameters]\n\nprofile = "own"',
            f"from cluster_tools import ClusterToolsError, artefacts, paths\n{code}",
        )
        text = HEADER + "\n# Stub\n" + "".join(f"\n```{{code-cell}} ipython3\n{cell}\n```\n" for cell in cells)
        (tmp_path / "notebooks" / "07_stub.md").write_text(text)
        return chapters.ChapterRun("07_stub", "stub", "07_stub", "", {"profile": "own"}, writes=("made.txt",))

    return make


def test_chapter_that_fails_says_so_and_keeps_what_there_was(stub):
    write = 'artefacts.write_text(paths.results(profile) / "made.txt", "x")'
    run = stub(write)
    assert chapters.execute(run, chapters.keys([run]), [run]) is True
    executed = chapters.executed_path(run).read_bytes()
    assert chapters.execute(run, {run.name: chapters.Keys("other", "key")}, [run]) is False  # the same files as before
    record = json.loads(next(paths.results("own").glob("runs/07_stub.*.json")).read_text())
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 10 and record["parameters"] == {"profile": "own"}

    run = stub('print("so far")\nraise ClusterToolsError("column z has 3 NaN; drop those rows.")')
    with pytest.raises(
        ClusterToolsError, match=r"07_stub stopped at In \[3\]: column z has 3 NaN; drop those rows.*failed/07_stub"
    ):
        chapters.execute(run, chapters.keys([run]), [run])
    assert chapters.executed_path(run).read_bytes() == executed
    failed = nbformat.read(paths.results("own") / "failed" / "07_stub.ipynb", as_version=4)
    outputs = [out for cell in failed.cells for out in cell.get("outputs", [])]
    assert "so far\n" in [out.get("text") for out in outputs] and "error" in [out.output_type for out in outputs]
    assert [path.name for path in chapters.executed_path(run).parent.iterdir()] == ["07_stub.ipynb"]


# Notebooks


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_pair_has_the_same_cells(text):
    def cells(notebook):
        kept = ("tags", "mystnb")
        return [(c.cell_type, c.source, {k: c.metadata[k] for k in kept if k in c.metadata}) for c in notebook.cells]

    assert cells(jupytext.read(text)) == cells(nbformat.read(text.with_suffix(".ipynb"), as_version=4)), (
        "run: make notebooks"
    )


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_notebook_is_committed_executed_and_gives_nobody_away(text):
    raw = text.with_suffix(".ipynb").read_text()
    notebook = nbformat.reads(raw, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run: make notebooks"
    assert not any(out.output_type == "error" for cell in code for out in cell.outputs)
    assert not [cell for cell in notebook.cells if set(cell.metadata) - {"tags", "mystnb"}]
    outputs = json.dumps(
        [{k: v for k, v in out.get("data", out).items() if k != "image/png"} for c in code for out in c.outputs]
    )
    assert not re.search(rf"/(?:home|root|Users|tmp)/|[A-Z]:\\\\Users|{re.escape(str(ROOT))}|site-packages", outputs)


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_labels_can_be_made_unique(text):
    source = text.read_text()
    labels = re.findall(
        r"^\(([^)\s]+)\)=|^ +name: (\S+)$|^:(?:name|label): (\S+)$|\$\$ \(([^)\s]+)\)", source, flags=re.MULTILINE
    )
    for label in filter(None, (name for found in labels for name in found)):
        assert pages.LABEL.fullmatch(label) or label == "python3", f"{label}: begin labels with fig-, eq-, sec- or tab-"


# Pages


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
        "artefact_key": "k",
        "reads": {},
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
    executed.cells[1].outputs = [nbformat.v4.new_output("display_data", {"image/png": "x", figure_data.MIME_TYPE: "a,b\n"})]
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


def test_config_has_no_unknown_key():
    import jupyter_book

    master = Path(jupyter_book.__file__).with_name("default_config.yml")  # its "master list" of keys
    known = yaml.safe_load(master.read_text()) | {"bibtex_bibfiles": []}
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert set(config) <= set(known)
    for section, content in config.items():
        if isinstance(content, dict):
            assert set(content) <= set(known[section]), section
    assert config["execute"]["execute_notebooks"] == "off"  # unquoted, YAML reads it as False
    assert config["only_build_toc_files"] is True


# How nbval compares


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("m = 15.10 ± 0.15", "m = 15.11 ± 0.15", True),
        ("m = 15.10", "m = 15.12", False),
        ("978 galaxies", "979 galaxies", False),
        ("1.234567e14", "1.234570e14", True),
        ("1.2e14 Msun/h", "1.4e14 Msun/h", False),
        ("mean 0.5", "median 0.5", False),
        ("0.5 0.6", "0.5", False),
        ("-0.001", "0.000", True),
        ("2D", "1D", False),
        ("nan", "0.1", False),
    ],
)
def test_outputs_compare_as_printed(one, other, same):
    assert same_printed(one, other) is same


# Files are written whole


def test_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    store.write_text(path, "old")
    with pytest.raises(ValueError), store.atomic(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    store.write_text(path, "old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ClusterToolsError, match=r"a\.txt could not be written \(No space left on device\)") as error:
        store.write_text(path, "new")
    assert "\n" not in str(error.value)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_killed_runs_left_is_cleared_after_an_hour(tmp_path):
    hour_ago = time.time() - 3700
    for kept in (True, False):
        folder = tmp_path / "snapshots" / (".uchuu-abcd_123" if kept else ".mdpl2-abcd_123")
        folder.mkdir(parents=True)
        (folder / "0.galaxies").write_bytes(b"x")
        file = tmp_path / ("." + ("new" if kept else "old") + "-abcd_123.h5")
        file.write_bytes(b"x")
        if not kept:
            for path in (folder / "0.galaxies", folder, file):
                os.utime(path, (hour_ago, hour_ago))
    (tmp_path / "table1.csv").write_text("m")
    os.utime(tmp_path / "table1.csv", (hour_ago, hour_ago))
    cli.clear_leftovers(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"snapshots/.uchuu-abcd_123/0.galaxies", ".new-abcd_123.h5", "table1.csv"}
    assert not (tmp_path / "snapshots" / ".mdpl2-abcd_123").exists()
