"""Headless Chromium on a site served from a local port, for tests.

Chromium is the system's (Debian and Ubuntu: ``apt-get install chromium``); Playwright drives it and downloads
nothing. Where one of the two is missing, tests are skipped with the reason, but fail where ``CI`` is set.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import running

from cluster_tools.book import pdf


def require(condition, reason: str) -> None:
    """Skip the test for this reason if the condition does not hold; on CI, where all must be there, fail."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a directory from a free port of this machine; yields the address, with a final slash."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

        def end_headers(self):
            self.send_header("Cache-Control", "max-age=600")  # as servers of pages do for files that they share
            super().end_headers()

    with running(partial(Quiet, directory=str(site))) as address:
        yield f"{address}/"


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium, as Playwright's ``Browser``."""
    executable = next(filter(None, map(shutil.which, pdf.BROWSERS)), None)
    require(executable, "needs Chromium; on Debian: apt-get install chromium")
    require(importlib.util.find_spec("playwright"), "needs Playwright; pip install -e .[test]")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox wants a kernel that containers often lack; the pages are our own.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", name="chromium")
def chromium_of_a_module() -> Iterator:
    """One `chromium` for all tests of a module."""
    with chromium() as browser:
        yield browser
