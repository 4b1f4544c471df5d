"""From executed chapters to a site: stage the sources, render them with Jupyter Book, check the pages.

Nothing is executed here. The prose of ``book/`` and the executed notebooks are staged in ``_build/<profile>/source``.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import nbformat
import yaml

from cluster_tools import machine, paths, store
from cluster_tools.book import chapters, deposit, gallery, pages
from cluster_tools.book.contain import contained
from cluster_tools.errors import ClusterToolsError

MANIFEST = ".manifest.json"  # a file of each site: the digests of all others
MATHJAX = "tex-svg.js"  # one file, no fonts; from the package below, never from the network
MATHJAX_PACKAGE = "sphinx-mathjax-offline"
JUPYTER_BOOK = (
    "from cluster_tools import machine; machine.collect_garbage_rarely(); "
    "from jupyter_book.cli.main import main; main()"
)
ROOT_FILES = (  # included or offered by pages
    "CHANGELOG.md", "CITATION.cff", "LICENSE", "benchmarks/README.md", "benchmarks/ratios.svg", "benchmarks/growth.svg",
)  # fmt: skip
NETWORK_REQUEST = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon))[^>]*href=["'](?:https?:)?//[^"']+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+|url\(["']?(?:https?:)?//[^"')]+""",
    re.IGNORECASE,
)


def site_path(profile: str) -> Path:
    """The directory of a profile's pages."""
    return paths.project_root() / "_build" / profile / "site"


def inputs() -> list[Path]:
    """Files that the pages are made from, beside the executed chapters and their records."""
    root = paths.project_root()
    prose = [file for file in sorted((root / "book").rglob("*")) if file.is_file()]
    others = [root / name for name in ("_config.yml", "_toc.yml", *ROOT_FILES)]
    return [*prose, *others, *sorted(paths.PACKAGE.rglob("*.py")), *sorted((paths.PACKAGE_DATA).rglob("*.*"))]


def build(profile: str, runs: list[chapters.ChapterRun]) -> None:
    """Make the site of a finished run in ``_build/<profile>/site``.

    Raises `ClusterToolsError` if files of the run were changed, Jupyter Book warns, a page is missing, or a page would
    ask the network for anything.
    """
    chapters.check(runs)
    root, site = paths.project_root(), site_path(profile)
    home, new = site.parent, site.parent / "_build" / "html"
    stage(home / "source", runs)
    render(home, home / "source", root)
    check(new, expected_pages(root / "_toc.yml"))
    store.write_digested(new / MANIFEST, digests(new))
    swap(new, site)
    deposit.write(home / "source", home / "deposit", store.commit())
    shutil.rmtree(home / "_build")


def digests(site: Path) -> dict[str, str]:
    """Return the digest of each file of a site but the manifest."""
    files = sorted(path for path in site.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(site).as_posix(): store.file_digest(path) for path in files}


def remove_damaged(profile: str) -> None:
    """Remove the first page of a site whose files changed since it was built, so that it is built again."""
    site = site_path(profile)
    if store.read_digested(site / MANIFEST) != digests(site):
        (site / "index.html").unlink(missing_ok=True)


def install(profile: str) -> Path:
    """Let the profile's site take the place of ``_build/html``, whole and at once; return its ``index.html``."""
    site, html = site_path(profile), paths.project_root() / "_build" / "html"
    if store.read_digested(site / MANIFEST) != digests(html):
        swap(site, html)
    return html / "index.html"


def swap(new: Path, site: Path) -> None:
    """Copy `new` beside `site` and let it take its place."""
    copy, old = site.with_name(f".{site.name}-new"), site.with_name(f".{site.name}-old")
    for leftover in (copy, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(new, copy)
    if site.exists():
        site.rename(old)
    copy.rename(site)
    shutil.rmtree(old, ignore_errors=True)


def stage(source: Path, runs: list[chapters.ChapterRun]) -> None:
    """Fill the directory `source` with the sources of all pages, and nothing else.

    Prose lies at its root, the pages of all runs in ``chapters/``, downloads in ``data/``, the paper's figures in
    ``figures/``, MathJax and the scripts of ``weigh.md`` in ``_extra/``.
    """
    from cluster_tools.book import web

    root = paths.project_root()
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book", source, ignore=shutil.ignore_patterns("chapters", "weigh", "_build", ".*"))
    for name in ("api", "chapters", "data", "figures", "root"):
        (source / name).mkdir()
    repository = yaml.safe_load((root / "_config.yml").read_text()).get("repository") or {}
    records = list(map(chapters.read_record, runs))
    digests = {path: digest for record in records for path, digest in record["digests"].items()}
    figures = {}
    for run, record in zip(runs, records):
        executed = nbformat.read(chapters.executed_path(run), as_version=4)
        notebook = pages.page(executed, run, first=run.notebook not in figures)
        figures.setdefault(run.notebook, (pages.title(notebook), gallery.thumbnails(notebook)))
        tables = pages.remove_figure_data(notebook, run)
        nbformat.write(notebook, source / "data" / f"{run.name}.ipynb")
        for _, name, text in tables:
            (source / "data" / name).write_text(text, encoding="utf-8")
        for path in pages.downloads(run):
            shutil.copyfile(path, source / "data" / path.name)
        for name in run.writes:
            if name.startswith("figures/"):
                shutil.copyfile(run.results / name, source / name)
        pages.arrange_tables(notebook)
        pages.add_data_links(notebook, tables)
        pages.add_head(notebook, run, record, repository)
        notebook.cells.append(nbformat.v4.new_markdown_cell(pages.foot(run, record, digests), id="how-made"))
        nbformat.write(notebook, source / "chapters" / f"{run.name}.ipynb")
    gallery.write(source, [figures[name] for name in sorted(figures)])
    for folder in ("", *store.FOLDERS):
        (source / "api" / f"{folder or 'package'}.md").write_text(pages.reference(folder), encoding="utf-8")
    for name in ROOT_FILES:
        shutil.copyfile(root / name, source / "root" / Path(name).name)
    extra = source / "_extra" / "_static"
    # Not in book/_static, whose scripts Jupyter Book loads on every page.
    shutil.copytree(root / "book" / "weigh", extra / "weigh")
    shutil.copyfile(mathjax(), extra / MATHJAX)
    weigh = (source / "weigh.md").read_text(encoding="utf-8").replace(web.COLUMNS, web.columns_table())
    (source / "weigh.md").write_text(weigh, encoding="utf-8")
    web.export(extra / "weigh")


def mathjax() -> Path:
    """Return the path of MathJax, which is one file of an installed package."""
    with suppress(importlib.metadata.PackageNotFoundError, StopIteration):
        files = importlib.metadata.files(MATHJAX_PACKAGE) or []
        return next(Path(file.locate()) for file in files if file.name == MATHJAX)
    raise ClusterToolsError(f"{MATHJAX} was not found; install it with: pip install {MATHJAX_PACKAGE}")


def expected_pages(toc: Path) -> list[str]:
    """Return all pages of a ``_toc.yml``, its root first."""
    from sphinx_external_toc.parsing import parse_toc_yaml  # comes with Jupyter Book

    return list(parse_toc_yaml(toc))


def render(home: Path, source: Path, root: Path) -> None:
    """Run Jupyter Book from scratch, with warnings as errors; its output goes to ``pages.log``.

    An incremental build would not repeat the warnings of the first.
    """
    shutil.rmtree(home / "_build", ignore_errors=True)
    command = [
        sys.executable, "-c", JUPYTER_BOOK, "build", source,
        "--config", root / "_config.yml", "--toc", root / "_toc.yml", "--path-output", home, "-W", "-n", "--keep-going",
    ]  # fmt: skip
    log = home / "pages.log"
    with open(log, "w", encoding="utf-8") as output:
        environment = os.environ | machine.private_home(paths.caches())
        with contained(command, stdout=output, stderr=subprocess.STDOUT, env=environment) as done:
            done.wait()
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    if done.returncode:
        lines = [line.replace(f"{source}/", "") for line in text.splitlines()]
        warnings = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-3:]
        raise ClusterToolsError(f"Jupyter Book stopped (its output is in {paths.shown(log)}):\n" + "\n".join(warnings))


def check(site: Path, pages: list[str]) -> None:
    """Raise `ClusterToolsError` for a site that lacks a page, or whose pages would fetch something from the network."""
    missing = [name for name in ["index", *pages] if not (site / f"{name}.html").is_file()]
    if missing:
        raise ClusterToolsError(f"the site lacks the pages {', '.join(missing)}; see whether _toc.yml names them.")
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        if request := NETWORK_REQUEST.search(path.read_text(encoding="utf-8", errors="replace")):
            raise ClusterToolsError(
                f"{path.relative_to(site)} would ask the network for {request[0]!r}; pages must be whole."
            )
