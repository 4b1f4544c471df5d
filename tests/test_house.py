"""The house: folders and their order, committed notebooks, configuration, and how nbval compares."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from cluster_tools import paths, store
from cluster_tools.book import pages
from conftest import same_printed

ROOT = Path(__file__).parents[1]
TEXTS = sorted((ROOT / "notebooks").glob("*.md"))


def test_a_folder_imports_only_from_those_above_it():
    """`store.FOLDERS` has the order; root modules import from no folder, but for the command line."""
    for file in paths.PACKAGE.rglob("*.py"):
        folder = "" if file.parent == paths.PACKAGE else file.parent.name
        allowed = store.FOLDERS[: store.FOLDERS.index(folder) + 1] if folder else ()
        imported = re.findall(r"^ *from cluster_tools\.(\w+)(?:\.\w+)* import", file.read_text(), flags=re.MULTILINE)
        if file.name not in ("cli.py", "__init__.py"):
            assert set(imported) & set(store.FOLDERS) <= set(allowed), file


def test_a_module_fits_in_the_head():
    for file in paths.PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file


def test_every_folder_of_tests_is_collected(request):
    """A name among pytest's `norecursedirs` once hid the tests of a whole folder."""
    hidden = request.config.getini("norecursedirs")
    folders = {folder for file in (ROOT / "tests").rglob("test_*.py") for folder in file.relative_to(ROOT).parts[:-1]}
    assert not [folder for folder in folders for pattern in hidden if fnmatch(folder, pattern)]


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
def test_code_fits_the_page_and_labels_can_be_made_unique(text):
    lines = [line for cell in jupytext.read(text).cells if cell.cell_type == "code" for line in cell.source.split("\n")]
    assert [line for line in lines if len(line) > 80] == []
    forms = r"^\((\S+)\)=|^ +name: (?!python3)(\S+)$|^:(?:name|label): (\S+)$|\$\$ \((\S+)\)"
    for label in map("".join, re.findall(forms, text.read_text(), flags=re.MULTILINE)):
        assert pages.LABEL.fullmatch(label), f"{label}: begin labels with fig-, eq-, sec- or tab-"


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
