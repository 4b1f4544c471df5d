"""One run of a chapter as a page: the executed notebook, its downloads, and a record of how it was made."""

import ast
import importlib
import json
import os
import pprint
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import nbformat

from cluster_tools import machine, paths
from cluster_tools.book import chapters
from cluster_tools.figures import figure_data

# Labels begin with what they label, so that they cannot be taken for ordinary words.
LABEL = re.compile(r"(?<![\w-])(?:fig|eq|sec|tab)-[a-z0-9-]+(?![\w-])")
HEADING = re.compile(r"^# (.*)$", re.MULTILINE)
TABLE_CELL = re.compile(r"(<td\b[^>]*>)([^<]+)(?=<)")
SHORT_CELL = 16  # characters; shorter cells stay on one line
LONG_TABLE = 20  # rows; longer ones are folded
CODE_WIDTH = 80  # columns
BEFORE_ERROR = re.compile(r" (?=[±×])|(?<=[±×]) |(?<=\d) (?=[-−+]\d)")  # blanks in a number with its error
DOWNLOADS = (".csv", ".tex")  # artefacts for readers; the others are large, or for other chapters only
ROOT_MODULES = "Modules at the root of the package: cosmology, files, paths, errors, the machine, and the command line."
GITHUB = re.compile(r"(?:https://github\.com/|(?:ssh://)?git@github\.com[:/])([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def page(executed, run: chapters.ChapterRun, *, first: bool):
    """Return the executed notebook of a run as one of the book's pages.

    The heading names the run, and labels are made unique in all but the first run of a notebook. papermill's cell with
    the parameters of this run stands below the cell with the defaults, which is folded.
    """
    metadata = {name: executed.metadata[name] for name in ("kernelspec", "language_info") if name in executed.metadata}
    notebook = nbformat.v4.new_notebook(metadata=metadata, cells=executed.cells)
    defaults = next((cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])), None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            source = re.sub(r"\A# Parameters$", "# Parameters of this page", cell.source, flags=re.MULTILINE)
            cell.source = "\n".join(map(_wrapped, _without_root(source).splitlines()))
            defaults.metadata["tags"].append("hide-input")
        cell.metadata = {name: cell.metadata[name] for name in ("tags", "mystnb") if name in cell.metadata}
    if run.title:
        _add_to_heading(notebook, f": {escaped(run.title)}")
    if not first:
        unique = rf"\g<0>-{run.name.removeprefix(f'{run.notebook}_').replace('_', '-')}"
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = LABEL.sub(unique, cell.source)
            cell.metadata = json.loads(LABEL.sub(unique, json.dumps(cell.metadata)))
    number_cells(notebook)
    return notebook


def _wrapped(line: str) -> str:
    """A line ``name = literal`` of papermill, broken at `CODE_WIDTH` columns."""
    name, _, value = line.partition(" = ")
    if len(line) <= CODE_WIDTH or "'" in value:
        return line
    indent = "\n" + " " * (len(name) + 3)
    text = pprint.pformat(ast.literal_eval(value), width=CODE_WIDTH - len(name) - 3, sort_dicts=False)
    return f"{name} = " + text.replace("'", '"').replace("\n", indent)


def remove_figure_data(notebook, run: chapters.ChapterRun) -> list[tuple[int, str, str]]:
    """Take the CSV texts out of the notebook's figures (see `figure_data`).

    Returns for each figure the index of its cell, a file name, and the CSV text.
    """
    tables = []
    for index, cell in enumerate(notebook.cells):
        texts = [output.get("data", {}).pop(figure_data.MIME_TYPE, None) for output in cell.get("outputs", [])]
        label = cell.metadata.get("mystnb", {}).get("figure", {}).get("name") or f"{run.name}-{cell['id']}"
        for number, text in enumerate(filter(None, texts), start=1):
            tables.append((index, f"{label}-{number}.csv" if number > 1 else f"{label}.csv", text))
    return tables


def arrange_tables(notebook) -> None:
    """Fold printed tables that are long; in all, keep short cells, and a number and its error, on one line.

    A narrow column would else break "14.88 ± 0.12" in two.
    """

    def joined(cell: re.Match) -> str:
        if len(cell[2]) <= SHORT_CELL:
            return f"{cell[1]}<span class='short-cell'>{cell[2]}</span>"
        return cell[1] + BEFORE_ERROR.sub("\xa0", cell[2]).replace("re-weighted", "re-\u2060weighted")

    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if table := output.get("data", {}).get("text/html"):
            rows = len(re.findall(r"<tr\b", table.partition("<tbody>")[2]))
            table = TABLE_CELL.sub(joined, table)
            folded = f"<details><summary>Table of {rows} rows</summary>\n{table}\n</details>"
            output["data"]["text/html"] = folded if rows > LONG_TABLE else table


def add_data_links(notebook, tables: list[tuple[int, str, str]]) -> None:
    """Add below each figure a link to the file of its numbers in ``../data``."""
    for index, name, _ in reversed(tables):
        link = f":::{{div}} figure-data\n{{download}}`Data of this figure (CSV) <../data/{name}>`\n:::"
        notebook.cells.insert(index + 1, nbformat.v4.new_markdown_cell(link))
    number_cells(notebook)


def add_head(notebook, run: chapters.ChapterRun, record: Mapping, repository: Mapping) -> None:
    """Say below the heading how long the page took, and link its notebook, its tables, Binder and Colab."""
    links = [_download("Notebook", f"{run.name}.ipynb"), *(_download(path.name, path.name) for path in downloads(run))]
    buttons = [f"[{name}]({address})" for name, address in launch(run.notebook, repository).items()]
    links += buttons or ["{ref}`Binder, Colab <sec-in-the-browser>`"]
    facts = f"Runs in {machine.duration(record['seconds'])} on one core, profile {code(run.parameters['profile'])}."
    _add_to_heading(notebook, f"\n\n:::{{div}} page-facts\n{facts} {' · '.join(links)}\n:::")


def launch(notebook: str, repository: Mapping) -> dict[str, str]:
    """Return where a chapter's notebook runs in the browser, as name -> address; empty without a GitHub repository.

    `repository` has ``url`` and ``branch``, as in ``_config.yml``. An empty url stands for the repository of the
    workflow that builds the pages, or the origin of the checkout. On Colab, a small notebook installs the package.
    """
    address = repository.get("url")
    if not address and (ours := os.environ.get("GITHUB_REPOSITORY")):  # set by GitHub Actions
        address = f"https://github.com/{ours}"
    with suppress(OSError):  # no git here
        command = ["git", "-C", str(paths.project_root()), "config", "--get", "remote.origin.url"]
        address = address or subprocess.run(command, capture_output=True, text=True).stdout.strip()
    github = GITHUB.fullmatch(address or "")
    if not github:
        return {}
    name, branch = github[1], repository.get("branch") or "main"
    return {
        "Binder": f"https://mybinder.org/v2/gh/{name}/{branch}?labpath=notebooks/{notebook}.ipynb",
        "Colab": f"https://colab.research.google.com/github/{name}/blob/{branch}/launch/colab.ipynb",
    }


def foot(run: chapters.ChapterRun, record: Mapping, digests: Mapping[str, str]) -> str:
    """Return a folded note that says how the page was made, from the record of the run.

    `digests` are SHA-256 (16 digits) of artefacts by their path below ``results/<profile>``.
    """
    offered = {path.name for path in downloads(run)}

    def artefact(path: str) -> str:
        name = Path(path).name
        return f"{_download(path, name) if name in offered else code(path)} {code(digests.get(path, 'without digest'))}"

    took = f"{record['seconds']:.0f} s on one core, {record['peak_memory_mb'] / 1000:.1f} GB of memory"
    rows = {
        "Profile": code(run.parameters["profile"]),
        "Parameters": ", ".join(code(f"{name} = {value!r}") for name, value in run.parameters.items()),
        "Commit": code(record["commit"]),
        "Took": f"{took}, {escaped(record['machine']['cpu'])} with {record['machine']['cores']} cores",
        "Made with": ", ".join(escaped(f"{name} {version}") for name, version in record["versions"].items()),
        "Reads": ", ".join(map(artefact, run.reads)) or "nothing",
        "Writes": ", ".join(map(artefact, run.writes)) or "nothing",
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    return f":::{{admonition}} How this page was made\n:class: dropdown\n\n| | |\n|---|---|\n{table}\n:::"


def reference(folder: str) -> str:
    """Return the page of the reference that lists the modules of a folder of the package; "" stands for its root."""
    package = f"cluster_tools.{folder}" if folder else "cluster_tools"
    names = sorted(path.stem for path in (paths.PACKAGE / folder).glob("[!_]*.py"))
    introduction = importlib.import_module(package).__doc__ if folder else ROOT_MODULES
    lines = [f"# {folder.capitalize() or 'Foundations'}", "", introduction.strip(), "", "```{eval-rst}"]
    lines += [".. autosummary::", "", *(f"   ~{package}.{name}" for name in names), "```"]
    for name in names:
        lines += ["", f"## {name}", "", "```{eval-rst}", f".. automodule:: {package}.{name}", "   :members:", "```"]
    return "\n".join(lines) + "\n"


def downloads(run: chapters.ChapterRun) -> list[Path]:
    """Return the artefacts of a run that its page offers to readers."""
    return [run.results / name for name in run.writes if name.endswith(DOWNLOADS)]


def escaped(text) -> str:
    """Return any text as Markdown that shows it unchanged: special characters become HTML entities."""
    return re.sub(r"[^\w .,+=-]|_", lambda character: f"&#{ord(character[0])};", _without_root(str(text)))


def code(text) -> str:
    """Return any text as inline code; unlike backticks, this holds for text with backticks, pipes or HTML."""
    return f'<code class="docutils literal notranslate">{escaped(text)}</code>'


def _download(text: str, name: str) -> str:
    return f"{{download}}`{text} <../data/{name}>`"


def _without_root(text: str) -> str:
    return text.replace(f"{paths.project_root()}/", "")


def title(notebook) -> str:
    """The heading of a page."""
    return HEADING.search(_first_text(notebook).source)[1]


def _add_to_heading(notebook, text: str) -> None:
    cell = _first_text(notebook)
    cell.source = HEADING.sub(lambda heading: heading[0] + text, cell.source, count=1)


def _first_text(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "markdown" and "# " in cell.source)


def number_cells(notebook) -> None:
    """Give each cell its number as id."""
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
