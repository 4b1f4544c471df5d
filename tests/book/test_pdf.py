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
    index = '<h1 id="t">Book</h1><a href="chapters/a.html#t">a</a> <a href="https://doi.org/1">doi</a>'
    chapter = (
        '<h1 id="t">A</h1><a href="#t">up</a> <a href="../index.html">home</a> <a href="../cite.html">cite</a>'
        '<img src="../_images/x.png"/><details><p>folded</p></details>'
    )
    (tmp_path / "chapters").mkdir()
    for name, text in zip(PAGES, (index, chapter)):
        (tmp_path / f"{name}.html").write_text(PAGE.format(text))
    return tmp_path


def test_links_lead_inside_and_ids_are_unique(site):
    whole = pdf.joined(site, PAGES)
    ids = ('id="index--"', 'id="index--t"', 'id="chapters-a--t"')
    links = ('href="#chapters-a--t"', 'href="#index--"', 'href="https://doi.org/1"', 'href="cite.html"')
    for part in (*ids, *links, 'src="_images/x.png"', '<details open="">'):
        assert part in whole, part
    assert "menu" not in whole and whole.index("Book") < whole.index(">A<")


def test_printed_by_chromium_or_refused_in_one_sentence(site, monkeypatch):
    with monkeypatch.context() as without, pytest.raises(ClusterToolsError, match="needs Chromium"):
        without.setattr(shutil, "which", lambda name: None)
        pdf.write(site, PAGES, site / "book.pdf")
    browser.require(any(map(shutil.which, pdf.BROWSERS)), "needs Chromium; on Debian: apt-get install chromium")
    pdf.write(site, PAGES, site / "book.pdf")
    assert (site / "book.pdf").read_bytes().startswith(b"%PDF") and not (site / "_whole.html").exists()
