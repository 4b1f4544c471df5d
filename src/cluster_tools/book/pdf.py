"""The book as one PDF: the articles of all pages in one, printed by Chromium. No LaTeX is needed."""

from __future__ import annotations

import posixpath
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster_tools import paths, store
from cluster_tools.errors import ClusterToolsError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 600  # seconds; formulas and figures of the whole book are set anew
LAYOUT = """
:root { font-size: 75%; }
article.bd-article { break-before: page; max-width: none; padding: 0; }
article.bd-article:first-of-type { break-before: auto; }
.headerlink, .page-facts .download, .figure-data { display: none; }
@page { size: A4; margin: 18mm 16mm; }
"""


def write(site: Path, pages: list[str], path: Path) -> None:
    """Print these pages of a built site (``chapters/x``, without suffix), in this order, into one PDF at `path`.

    Raises `ClusterToolsError` if Chromium is missing or fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ClusterToolsError("a PDF needs Chromium, which was not found; on Debian: apt-get install chromium")
    whole = site / "_whole.html"  # beside the pages, since it uses their styles, scripts and pictures
    try:
        whole.write_text(joined(site, pages), encoding="utf-8")
        with store.atomic(path) as temporary, TemporaryDirectory() as home:
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}",
                       "--no-pdf-header-footer", "--virtual-time-budget=120000",
                       f"--print-to-pdf={temporary}", whole.resolve().as_uri()]  # fmt: skip
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            except subprocess.TimeoutExpired as error:
                raise ClusterToolsError(
                    f"Chromium took more than {PATIENCE} s to print {paths.shown(path)}."
                ) from error
            if done.returncode or not temporary.read_bytes().startswith(b"%PDF"):
                last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise ClusterToolsError(f"Chromium printed no PDF at {paths.shown(path)}: {last}")
    finally:
        whole.unlink(missing_ok=True)


def joined(site: Path, pages: list[str]) -> str:
    """One HTML page with the articles of all these pages; links between them lead inside it."""
    from bs4 import BeautifulSoup  # comes with the theme

    def read(name: str):
        return BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")

    whole = read(pages[0])
    style = whole.new_tag("style")
    style.string = LAYOUT
    whole.head.append(style)
    whole.body.clear()
    whole.html["data-theme"] = "light"
    for name in pages:
        page = read(name)
        article = page.select_one("article.bd-article")
        for tag in article.find_all(id=True):
            tag["id"] = anchor(name, tag["id"])
        for tag in article.find_all(href=True):
            tag["href"] = inside(tag["href"], name, pages)
        for tag in article.find_all(src=True):
            tag["src"] = inside(tag["src"], name, pages)
        for tag in article.find_all("details"):
            tag["open"] = ""
        article["id"] = anchor(name, "")
        whole.body.append(article)
    return str(whole)


def anchor(page: str, fragment: str) -> str:
    """The id that an anchor of a page has in the whole."""
    return f"{page.replace('/', '-')}--{fragment}"


def inside(address: str, page: str, pages: list[str]) -> str:
    """An address on a page as it is in the whole, which lies at the root of the site."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme or parts.netloc:
        return address
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), parts.path)) if parts.path else f"{page}.html"
    if (name := path.removesuffix(".html")) in pages:
        return "#" + anchor(name, parts.fragment)
    return path
