"""From executed chapters to pages: stage the sources, have Jupyter Book render them, check the site.

Nothing is executed here. The prose pages of ``book/`` and the executed notebooks are staged in
``_build/<profile>/source``; the same content is never rendered twice.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from cluster_tools import paths, store
from cluster_tools.book import chapters, pages
from cluster_tools.errors import ClusterToolsError

MATHJAX = "tex-svg.js"  # one file, no fonts; from the package below, never from the network
MATHJAX_PACKAGE = "sphinx-mathjax-offline"
ROOT_FILES = (  # that pages include, show or offer
    "CHANGELOG.md", "CITATION.cff", "LICENSE", "benchmarks/README.md", "benchmarks/ratios.svg", "benchmarks/growth.svg",
)  # fmt: skip
FETCHED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon))[^>]*href=["'](?:https?:)?//[^"']+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+|url\(["']?(?:https?:)?//[^"')]+""",
    re.IGNORECASE,
)


def build(profile: str, runs: list[chapters.ChapterRun], *, publish_html: bool) -> Path:
    """Make the site of a finished run and return its ``index.html``.

    With `publish_html` the site takes the place of ``_build/html``, whole and at once; else it
    stays in ``_build/<profile>/site``. Raises `ClusterToolsError` if Jupyter Book warns, a page
    is missing, or a page would ask the network for anything.
    """
    root = paths.project_root()
    home = root / "_build" / profile
    source, site = home / "source", home / "site"
    stage(source, runs)
    configuration = [root / "_config.yml", root / "_toc.yml"]
    tree = {
        str(path.relative_to(source)): store.file_digest(path) for path in sorted(source.rglob("*")) if path.is_file()
    }
    docstrings = [store.file_digest(path) for path in sorted(paths.PACKAGE.rglob("*.py"))]
    key = store.digest(
        [tree, docstrings, *(path.read_text() for path in configuration), importlib.metadata.version("jupyter-book")]
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


def stage(source: Path, runs: list[chapters.ChapterRun]) -> None:
    """Fill `source` with all that the pages are made from, and nothing else.

    The prose pages, the pages of all runs in ``chapters/``, what can be downloaded in ``data/``, the
    paper's figures in ``figures/``, MathJax, and what ``weigh.md`` runs.
    """
    from cluster_tools.book import web

    root = paths.project_root()
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source, ignore=shutil.ignore_patterns("chapters", "weigh", "_build", ".*"))
    repository = yaml.safe_load((root / "_config.yml").read_text()).get("repository") or {}
    for name in ("chapters", "data", "root"):
        (source / name).mkdir()
    seen: set[str] = set()
    for run in runs:
        executed = nbformat.read(chapters.executed_path(run), as_version=4)
        record = json.loads(chapters.record_path(run).read_text())
        notebook = pages.page(executed, run, first=run.notebook not in seen)
        seen.add(run.notebook)
        tables = pages.take_tables(notebook, run)
        nbformat.write(notebook, source / "data" / f"{run.name}.ipynb")
        for _, name, text in tables:
            (source / "data" / name).write_text(text, encoding="utf-8")
        for path in pages.downloads(run):
            shutil.copyfile(path, source / "data" / path.name)
        pages.keep_together(notebook)
        pages.add_links(notebook, tables)
        pages.add_head(notebook, run, record, repository)
        notebook.cells.append(nbformat.v4.new_markdown_cell(pages.foot(run, record), id="how-made"))
        nbformat.write(notebook, source / "chapters" / f"{run.name}.ipynb")
    for name in ROOT_FILES:
        shutil.copyfile(root / name, source / "root" / Path(name).name)
    (source / "root" / "citation.bib").write_text(bibtex(yaml.safe_load((root / "CITATION.cff").read_text())))
    profile = runs[0].parameters["profile"]
    shutil.copytree(paths.results(profile) / "figures", source / "figures")
    extra = source / "_extra" / "_static"
    extra.mkdir(parents=True)
    shutil.copyfile(mathjax(), extra / MATHJAX)
    # Not in book/_static, whose scripts Jupyter Book loads on every page.
    shutil.copytree(root / "book" / "weigh", extra / "weigh")
    web.export(extra / "weigh")


def bibtex(citation: dict) -> str:
    """The entries of a ``CITATION.cff``, the software and the article it prefers, as BibTeX."""
    entries = []
    for entry, key in ((citation["preferred-citation"], "article"), (citation, "software")):
        authors = [f"{a['family-names']}, {a['given-names']}" if "family-names" in a else f"{{{a['name']}}}"
                   for a in entry["authors"]]  # fmt: skip
        fields = {
            "author": " and ".join(authors), "title": f"{{{entry['title']}}}", "journal": entry.get("journal"),
            "year": entry.get("year"), "volume": entry.get("volume"), "doi": entry.get("doi"),
            "pages": f"{entry['start']}--{entry['end']}" if "start" in entry else None,
            "version": entry.get("version"), "url": entry.get("repository-code"),
        }  # fmt: skip
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        entries.append(f"@{key}{{{'ho2022' if key == 'article' else 'cluster_tools'},\n" + ",\n".join(lines) + "\n}")
    return "\n\n".join(entries) + "\n"


def mathjax() -> Path:
    """MathJax as one file, from an installed package."""
    try:
        files = importlib.metadata.files(MATHJAX_PACKAGE) or []
        return next(Path(file.locate()) for file in files if file.name == MATHJAX)
    except (importlib.metadata.PackageNotFoundError, StopIteration) as error:
        raise ClusterToolsError(
            f"{MATHJAX} was not found; install the package it comes with: pip install {MATHJAX_PACKAGE}"
        ) from error


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
