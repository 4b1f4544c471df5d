"""From executed chapters to pages: stage the sources, have Jupyter Book render them, check the site.

Nothing is executed here. The prose pages of ``book/`` and the executed notebooks are staged in
``_build/<profile>/source``; the same content is never rendered twice.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from cluster_tools import artefacts, chapters, paths
from cluster_tools.errors import ClusterToolsError

MATHJAX = "tex-svg.js"  # one file, no fonts; from the package below, never from the network
MATHJAX_PACKAGE = "sphinx-mathjax-offline"
# Labels begin with what they label, so that they cannot be taken for ordinary words.
LABEL = re.compile(r"(?<![\w-])(?:fig|eq|sec|tab)-[a-z0-9-]+(?![\w-])")
FETCHED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon))[^>]*href=["'](?:https?:)?//[^"']+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+|url\(["']?(?:https?:)?//[^"')]+""",
    re.IGNORECASE,
)


def build(profile: str, runs: list[chapters.ChapterRun], run_keys: dict, *, publish_html: bool) -> Path:
    """Make the site of a finished run and return its ``index.html``.

    With `publish_html` the site takes the place of ``_build/html``, whole and at once; else it
    stays in ``_build/<profile>/site``. Raises `ClusterToolsError` if Jupyter Book warns, a page
    is missing, or a page would ask the network for anything.
    """
    root = paths.project_root()
    home = root / "_build" / profile
    source, site = home / "source", home / "site"
    stage(source, runs, run_keys)
    configuration = [root / "_config.yml", root / "_toc.yml"]
    tree = {
        str(path.relative_to(source)): artefacts.file_digest(path)
        for path in sorted(source.rglob("*"))
        if path.is_file()
    }
    key = artefacts.digest(
        [tree, *(path.read_text() for path in configuration), importlib.metadata.version("jupyter-book")]
    )
    if read_key(site) != key:
        print("pages: building", flush=True)
        render(home, source, root)
        check(home / "_build" / "html", expected_pages(root / "_toc.yml"))
        swap(home / "_build" / "html", site, key)
        shutil.rmtree(home / "_build")
    if not publish_html:
        return site / "index.html"
    if read_key(root / "_build" / "html") != key:
        swap(site, root / "_build" / "html", key)
    return root / "_build" / "html" / "index.html"


def read_key(site: Path) -> str | None:
    """The key of the content that a site was made from."""
    path = site / ".content-key"
    return path.read_text() if path.is_file() else None


def swap(new: Path, site: Path, key: str) -> None:
    """Copy `new` beside `site` and let it take its place."""
    copy, old = site.with_name(f".{site.name}-new"), site.with_name(f".{site.name}-old")
    for leftover in (copy, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(new, copy)
    (copy / ".content-key").write_text(key)
    if site.exists():
        site.rename(old)
    copy.rename(site)
    shutil.rmtree(old, ignore_errors=True)


def stage(source: Path, runs: list[chapters.ChapterRun], run_keys: dict) -> None:
    """Fill `source` with the prose pages, the pages of all runs, MathJax and what weigh.md needs, and nothing else."""
    shutil.rmtree(source, ignore_errors=True)
    book = paths.project_root() / "book"
    shutil.copytree(book, source, ignore=shutil.ignore_patterns("chapters", "weigh", "_build", ".*"))
    (source / "chapters").mkdir()
    seen: set[str] = set()
    for run in runs:
        executed = nbformat.read(chapters.executed_path(run), as_version=4)
        record = json.loads(chapters.record_path(run, run_keys[run.name].page).read_text())
        nbformat.write(
            page(executed, run, record, first=run.notebook not in seen), source / "chapters" / f"{run.name}.ipynb"
        )
        seen.add(run.notebook)
    extra = source / "_extra" / "_static"
    extra.mkdir(parents=True)
    shutil.copyfile(mathjax(), extra / MATHJAX)
    # Not in book/_static, whose scripts Jupyter Book loads on every page.
    shutil.copytree(book / "weigh", extra / "weigh")
    for file in page_data(source.parent / "weigh").glob("*.js"):
        shutil.copy(file, extra / "weigh")


def page_data(home: Path) -> Path:
    """Networks and example of weigh.md, in the directory `home`; made again only if they changed."""
    from cluster_tools import web

    if read_key(home) != (key := web.key()):
        web.export(home)  # TensorFlow takes its seconds
        artefacts.write_text(home / ".content-key", key)
    return home


def mathjax() -> Path:
    """MathJax as one file, from an installed package."""
    try:
        files = importlib.metadata.files(MATHJAX_PACKAGE) or []
        return next(Path(file.locate()) for file in files if file.name == MATHJAX)
    except (importlib.metadata.PackageNotFoundError, StopIteration) as error:
        raise ClusterToolsError(
            f"{MATHJAX} was not found; install the package it comes with: pip install {MATHJAX_PACKAGE}"
        ) from error


def page(executed, run: chapters.ChapterRun, record: dict, *, first: bool):
    """The page of a run: the executed notebook (nbformat), made fit to stand beside its siblings.

    One cell shows the parameters in effect, the heading names the run, labels of a second and
    further run of the same notebook (`first` false) are made unique, and a note at the end says
    how the page was made.
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
        heading = next(cell for cell in notebook.cells if cell.cell_type == "markdown" and "# " in cell.source)
        heading.source = re.sub(r"^(# .*)$", rf"\1: {run.title}", heading.source, count=1, flags=re.MULTILINE)
    if not first:
        suffix = run.name.removeprefix(f"{run.notebook}_").replace("_", "-")
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = LABEL.sub(rf"\g<0>-{suffix}", cell.source)
            if "mystnb" in cell.metadata:
                cell.metadata = json.loads(LABEL.sub(rf"\g<0>-{suffix}", json.dumps(cell.metadata)))
    notebook.cells.append(nbformat.v4.new_markdown_cell(provenance(run, record)))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    return notebook


def in_effect(source: str, parameters: dict) -> str:
    """The source of a ``parameters`` cell with the values that were passed in place of its defaults."""
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and (name := statement.targets[0].id) in parameters:
            value, line = statement.value, statement.lineno - 1
            if value.end_lineno != statement.lineno:
                raise ClusterToolsError(f"parameter {name} of a chapter must be written on one line.")
            shown = parameters[name]
            shown = paths.shown(shown) if isinstance(shown, str) and Path(shown).is_absolute() else shown
            literal = json.dumps(shown, ensure_ascii=False) if isinstance(shown, str) else repr(shown)
            text = lines[line].encode()  # the tree counts bytes
            lines[line] = (text[: value.col_offset] + literal.encode() + text[value.end_col_offset :]).decode()
    return "\n".join(lines)


def provenance(run: chapters.ChapterRun, record: dict) -> str:
    """A note that says what made the page, folded away."""
    rows = {
        "Profile": f"`{run.parameters['profile']}`",
        "Commit": f"`{record['commit']}`",
        "Took": f"{record['seconds']:.0f} s on one core, {record['peak_memory_mb'] / 1000:.1f} GB of memory",
        "Made with": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "Artefact key": f"`{record['artefact_key']}`",
        "Reads": ", ".join(f"{name} `{key}`" for name, key in record["reads"].items()) or "nothing",
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    return f":::{{admonition}} How this page was made\n:class: dropdown\n\n| | |\n|---|---|\n{table}\n:::"


def expected_pages(toc: Path) -> list[str]:
    """All pages that a ``_toc.yml`` names, its root first."""

    def files(entry) -> list[str]:
        if isinstance(entry, list):
            return [name for item in entry for name in files(item)]
        own = [entry[name] for name in ("root", "file") if name in entry]
        return own + [name for part in ("parts", "chapters", "sections") for name in files(entry.get(part, []))]

    return files(yaml.safe_load(toc.read_text()))


def render(home: Path, source: Path, root: Path) -> None:
    """Run Jupyter Book from scratch, warnings being errors; its words go to ``pages.log``.

    From scratch, because a second, incremental build would not repeat the warnings of the first.
    """
    shutil.rmtree(home / "_build", ignore_errors=True)
    command = [
        sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", source,
        "--config", root / "_config.yml", "--toc", root / "_toc.yml", "--path-output", home, "-W", "-n", "--keep-going",
    ]  # fmt: skip
    log = home / "pages.log"
    with open(log, "w", encoding="utf-8") as words:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT)
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    if done.returncode:
        lines = [line.replace(f"{source}/", "") for line in text.splitlines()]
        warnings = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-3:]
        raise ClusterToolsError(f"Jupyter Book stopped (all it said is in {paths.shown(log)}):\n" + "\n".join(warnings))


def check(site: Path, pages: list[str]) -> None:
    """Refuse a site that lacks a page or whose pages would fetch something from the network."""
    missing = [name for name in ["index", *pages] if not (site / f"{name}.html").is_file()]
    if missing:
        raise ClusterToolsError(
            f"the built site lacks the pages {', '.join(missing)}; see whether _toc.yml names them."
        )
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        if found := FETCHED.search(path.read_text(encoding="utf-8", errors="replace")):
            raise ClusterToolsError(
                f"{path.relative_to(site)} would ask the network for {found[0]!r}; pages must be whole."
            )
