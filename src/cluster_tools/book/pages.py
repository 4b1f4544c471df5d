"""One chapter's run as a page: the executed notebook, what one may take along, and how it was made."""

from __future__ import annotations

import ast
import json
import os
import pprint
import re
import subprocess
from pathlib import Path

import nbformat

from cluster_tools import machine, paths, store
from cluster_tools.book import chapters
from cluster_tools.figures import figure_data

# Labels begin with what they label, so that they cannot be taken for ordinary words.
LABEL = re.compile(r"(?<![\w-])(?:fig|eq|sec|tab)-[a-z0-9-]+(?![\w-])")
CELL = re.compile(r"(<td\b[^>]*>)([^<]+)(?=<)")
SHORT = 16  # characters of a cell that are not parted
ERROR = re.compile(r" (?=±)|(?<=±) |(?<=\d) (?=[-−+]\d)")  # blanks inside of a number with its error
OFFERED = (".csv", ".tex")  # artefacts that a reader may download; the others are large or the pipeline's own


def page(executed, run: chapters.ChapterRun, *, first: bool):
    """The executed notebook (nbformat) of a run, made fit to stand beside its siblings.

    One cell shows the parameters in effect, the heading names the run, and labels of a second and
    further run of the same notebook (`first` false) are made unique.
    """
    notebook = nbformat.v4.new_notebook(metadata={
        name: executed.metadata[name] for name in ("kernelspec", "language_info") if name in executed.metadata
    })  # fmt: skip
    for cell in executed.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            continue
        if "parameters" in tags:
            cell.source = in_effect(cell.source, run.parameters)
        cell.metadata = {name: cell.metadata[name] for name in ("tags", "mystnb") if name in cell.metadata}
        notebook.cells.append(cell)
    if run.title:
        heading = _heading(notebook)
        heading.source = re.sub(r"^(# .*)$", rf"\1: {run.title}", heading.source, count=1, flags=re.MULTILINE)
    if not first:
        suffix = run.name.removeprefix(f"{run.notebook}_").replace("_", "-")
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = LABEL.sub(rf"\g<0>-{suffix}", cell.source)
            if "mystnb" in cell.metadata:
                cell.metadata = json.loads(LABEL.sub(rf"\g<0>-{suffix}", json.dumps(cell.metadata)))
    _number(notebook)
    return notebook


def take_tables(notebook, run: chapters.ChapterRun) -> list[tuple[int, str, str]]:
    """Take the numbers out of the notebook's figures: index of the cell, file name, CSV text (see `figure_data`)."""
    tables = []
    for index, cell in enumerate(notebook.cells):
        found = [
            output["data"].pop(figure_data.MIME_TYPE, None) for output in cell.get("outputs", []) if "data" in output
        ]
        label = cell.metadata.get("mystnb", {}).get("figure", {}).get("name") or f"{run.name}-{cell['id']}"
        for number, text in enumerate(filter(None, found), start=1):
            tables.append((index, f"{label}-{number}.csv" if number > 1 else f"{label}.csv", text))
    return tables


def keep_together(notebook) -> None:
    """Keep short cells of printed tables, and in long ones a number and its error, on one line.

    In a narrow column "14.88 ± 0.12" would be torn apart.
    """

    def cell(found) -> str:
        blank = re.compile(" ") if len(found[2]) <= SHORT else ERROR
        return found[1] + blank.sub("\xa0", found[2])

    for output in (output for each in notebook.cells for output in each.get("outputs", [])):
        if table := output.get("data", {}).get("text/html"):
            output["data"]["text/html"] = CELL.sub(cell, table)


def add_links(notebook, tables: list[tuple[int, str, str]]) -> None:
    """Below each figure, a link to the file of its numbers in ``../data``."""
    for index, name, _ in reversed(tables):
        link = f":::{{div}} figure-data\n{{download}}`Data of this figure (CSV) <../data/{name}>`\n:::"
        notebook.cells.insert(index + 1, nbformat.v4.new_markdown_cell(link))
    _number(notebook)


def add_head(notebook, run: chapters.ChapterRun, record: dict, repository: dict) -> None:
    """Say below the heading how long the page took, and where notebook and tables can be had, or run."""
    links = [f"{{download}}`Notebook <../data/{run.name}.ipynb>`"]
    links += [f"{{download}}`{path.name} <../data/{path.name}>`" for path in downloads(run)]
    buttons = [f"[{name}]({address})" for name, address in launch(run.notebook, repository).items()]
    links += buttons or ["{ref}`Binder, Colab <sec-in-the-browser>`"]
    facts = f"Runs in {machine.duration(record['seconds'])} on one core, profile `{run.parameters['profile']}`."
    line = f":::{{div}} page-facts\n{facts} {' · '.join(links)}\n:::"
    heading = _heading(notebook)
    heading.source = re.sub(
        r"^# .*$", lambda found: f"{found[0]}\n\n{line}", heading.source, count=1, flags=re.MULTILINE
    )


GITHUB = re.compile(r"(?:https://github\.com/|(?:ssh://)?git@github\.com[:/])([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def launch(notebook: str, repository: dict) -> dict[str, str]:
    """Where a chapter's notebook can be run in the browser: name -> address; none without a repository on GitHub.

    `repository` has ``url`` and ``branch``, as in ``_config.yml``. Where the url is empty, it is that of the
    workflow that builds the pages, or where the checkout comes from. Colab begins with a machine that lacks the
    package, so there a small notebook comes first, which installs it.
    """
    found = GITHUB.fullmatch(repository.get("url") or _origin())
    if not found:
        return {}
    name, branch = found[1], repository.get("branch") or "main"
    return {
        "Binder": f"https://mybinder.org/v2/gh/{name}/{branch}?labpath=notebooks/{notebook}.ipynb",
        "Colab": f"https://colab.research.google.com/github/{name}/blob/{branch}/launch/colab.ipynb",
    }


def _origin() -> str:
    if name := os.environ.get("GITHUB_REPOSITORY"):  # set by GitHub Actions
        return f"https://github.com/{name}"
    try:
        command = ["git", "-C", str(paths.project_root()), "config", "--get", "remote.origin.url"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git here
        return ""


def foot(run: chapters.ChapterRun, record: dict) -> str:
    """What made the page, folded away, and the files that it made."""
    rows = {
        "Profile": f"`{run.parameters['profile']}`",
        "Parameters": ", ".join(f"`{name} = {_shown(value)!r}`" for name, value in run.parameters.items()),
        "Commit": f"`{record['commit']}`",
        "Took": f"{record['seconds']:.0f} s on one core, {record['peak_memory_mb'] / 1000:.1f} GB of memory",
        "Made with": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "Reads": ", ".join(f"`{name}`" for name in run.reads) or "nothing",
        "Writes": ", ".join(_made(run, name) for name in run.writes) or "nothing",
    }
    if on := record.get("machine"):  # older records have none
        rows["Took"] += f", {on['cpu']} with {on['cores']} cores"
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    return f":::{{admonition}} How this page was made\n:class: dropdown\n\n| | |\n|---|---|\n{table}\n:::"


def downloads(run: chapters.ChapterRun) -> list[Path]:
    """The artefacts of a run that its page offers."""
    return [paths.results(run.parameters["profile"]) / name for name in run.writes if Path(name).suffix in OFFERED]


def _made(run: chapters.ChapterRun, name: str) -> str:
    """An artefact with its checksum: the first 16 digits of the SHA-256 of its bytes."""
    path = paths.results(run.parameters["profile"]) / name
    shown = f"{{download}}`{name} <../data/{path.name}>`" if path.suffix in OFFERED else f"`{name}`"
    return f"{shown} `{store.file_digest(path)}`"


def in_effect(source: str, parameters: dict) -> str:
    """The source of a ``parameters`` cell with the values that were passed in place of its defaults."""
    lines = [line.encode() for line in source.splitlines()]  # the tree counts bytes
    for statement in reversed(ast.parse(source).body):  # the last first: others keep their lines
        if isinstance(statement, ast.Assign) and (name := statement.targets[0].id) in parameters:
            value, shown = statement.value, _shown(parameters[name])
            literal = json.dumps(shown, ensure_ascii=False) if isinstance(shown, str) else _literal(shown)
            begin, end = value.lineno - 1, value.end_lineno
            text = lines[begin][: value.col_offset] + literal.encode() + lines[end - 1][value.end_col_offset :]
            lines[begin:end] = [text]
    return b"\n".join(lines).decode()


def _literal(value) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False)


def _shown(value):
    """A parameter as readers should see it: no path of this machine."""
    return paths.shown(value) if isinstance(value, str) and Path(value).is_absolute() else value


def _heading(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "markdown" and "# " in cell.source)


def _number(notebook) -> None:
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
