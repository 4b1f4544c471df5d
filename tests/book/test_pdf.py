"""All pages in one, for print: links lead inside, ids stay unique, and Chromium makes a PDF of it."""

import shutil

import browser
import pytest

from cluster_tools import ClusterToolsError
from cluster_tools.book import pdf

PAGE = '<html><head></head><body><nav>menu</nav><article class="bd-article">{}</article></body></html>'
PAGES = ["index", "chapters/a"]


@pytest.fixture
def site(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "index.html").write_text(
        PAGE.format('<h1 id="t">Book</h1><a href="chapters/a.html#t">a</a> <a href="https://doi.org/1">doi</a>')
    )
    (tmp_path / "chapters" / "a.html").write_text(
        PAGE.format(
            '<h1 id="t">A</h1><a href="#t">up</a> <a href="../index.html">home</a> <a href="../cite.html">cite</a>'
            '<img src="../_images/x.png"/><details><p>folded</p></details>'
        )
    )
    return tmp_path


def test_links_lead_inside_and_ids_are_unique(site):
    whole = pdf.joined(site, PAGES)
    ids = ('id="index--"', 'id="index--t"', 'id="chapters-a--t"')
    links = ('href="#chapters-a--t"', 'href="#index--"', 'href="https://doi.org/1"', 'href="cite.html"')
    for part in (*ids, *links, 'src="_images/x.png"', '<details open="">'):
        assert part in whole, part
    assert "menu" not in whole and whole.index("Book") < whole.index(">A<")


def test_without_chromium_one_sentence(site, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ClusterToolsError, match="needs Chromium"):
        pdf.write(site, PAGES, site / "book.pdf")


def test_printed_by_chromium(site):
    browser.require(any(map(shutil.which, pdf.BROWSERS)), "needs Chromium; on Debian: apt-get install chromium")
    pdf.write(site, PAGES, site / "book.pdf")
    assert (site / "book.pdf").read_bytes().startswith(b"%PDF") and not (site / "_whole.html").exists()
