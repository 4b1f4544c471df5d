"""The book as one PDF: the articles of all pages in one, printed by Chromium. No LaTeX is needed."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urljoin

from cluster_tools import machine, paths, store
from cluster_tools.book.contain import contained
from cluster_tools.errors import ClusterToolsError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 600  # seconds; formulas and figures of the whole book are laid out anew
LAYOUT = """
:root { font-size: 75%; }
article.bd-article { break-before: page; max-width: none; padding: 0; }
article.bd-article:first-of-type { break-before: auto; }
.headerlink, .page-facts .download, .figure-data { display: none; }
@page { size: A4; margin: 18mm 16mm; }
"""


def write(site: Path, pages: list[str], path: Path) -> None:
    """Print pages of a built site, such as ``chapters/x``, into one PDF, in this order.

    Raises `ClusterToolsError` if Chromium is missing or fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ClusterToolsError("a PDF needs Chromium, which was not found; on Debian: apt-get install chromium")
    whole = site / "_whole.html"  # beside the pages, since it uses their styles, scripts and pictures
    try:
        whole.write_text(joined(site, pages), encoding="utf-8")
        with store.atomic(path) as temporary, TemporaryDirectory(prefix=".chromium-", dir=path.parent) as profile:
            options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
            options += ["--no-pdf-header-footer", "--virtual-time-budget=120000", f"--print-to-pdf={temporary}"]
            command = [browser, *options, whole.resolve().as_uri()]
            environment = os.environ | machine.private_home(paths.caches())
            with contained(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as browser:
                browser.wait(timeout=TIMEOUT)
            if not temporary.read_bytes().startswith(b"%PDF"):
                raise OSError("Chromium wrote no PDF")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterToolsError(f"{paths.shown(path)} could not be printed: {error}") from error
    finally:
        whole.unlink(missing_ok=True)


def joined(site: Path, pages: list[str]) -> str:
    """Return one HTML page with the articles of all `pages`; links between them lead inside it."""
    from bs4 import BeautifulSoup  # comes with the theme

    whole = None
    for name in pages:
        page = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        article = page.select_one("article.bd-article")
        for tag in [article, *article.find_all(True)]:
            if tag is article or tag.get("id"):
                tag["id"] = _anchor(name, tag.get("id", ""))
            for attribute in {"href", "src"} & set(tag.attrs):
                address = urljoin(f"{name}.html", tag[attribute])  # from the root of the site, where the whole lies
                target, _, fragment = address.partition("#")
                target = target.removesuffix(".html")
                tag[attribute] = "#" + _anchor(target, fragment) if target in pages else address
            if tag.name == "details":
                tag["open"] = ""
        if whole is None:
            whole = page
            whole.html["data-theme"] = "light"
            whole.head.append(whole.new_tag("style", string=LAYOUT))
            whole.body.clear()
        whole.body.append(article)
    return str(whole)


def _anchor(page: str, fragment: str) -> str:
    """Return an id that no other page has."""
    return f"{page.replace('/', '-')}--{fragment}"
