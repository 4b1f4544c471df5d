"""The built book in a browser: complete, legible, and usable without a mouse, a network or good eyes.

The pages are those of the smoke build, which is made first. Where the browser is missing, a test is skipped with the
reason, but fails on CI.
"""

import functools
import hashlib
import importlib.util
import io
import json
import re
import subprocess
import tomllib
import urllib.parse
from pathlib import Path
from types import SimpleNamespace

import browser
import nbformat
import pandas as pd
import pytest
import yaml

from cluster_tools import paths, store
from cluster_tools.book import chapters, deposit, numbers, pages, publish
from cluster_tools.coma import literature
from conftest import RecordedKernel, executed_by_small_book

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "smoke" / "site"
pytestmark = pytest.mark.usefixtures("small_book")
PAGES = [  # seven of the eight trainings have none
    run for run in chapters.plan("smoke") if f"chapters/{run.name}" in publish.expected_pages(ROOT / "_toc.yml")
]
PRINTED = ("06_classical_estimators", "07_historical_masses", "08_coma_mass", "09_robustness", "13_scoreboard")
PHONE, A4, LAPTOP, DESK = (  # A4 less its margins
    {"width": width, "height": height} for width, height in ((360, 740), (720, 1000), (1100, 800), (1280, 900))
)

# What axe-core calls serious or critical must not occur. `preload` would have it fetch style sheets by itself.
AXE = """async (rules) => {
    const options = {preload: false, resultTypes: ["violations"], ...rules};
    const found = await axe.run(document, options);
    return found.violations.filter(one => ["serious", "critical"].includes(one.impact)).flatMap(one =>
        one.nodes.slice(0, 3).map(node => `${one.id} (${one.impact}): ${node.html.slice(0, 120)}`)); }"""
COLOURS = ["color-contrast", "link-in-text-block"]
CONTRAST = {"runOnly": {"type": "rule", "values": COLOURS}}
# `region`, which asks every element, is of moderate impact.
ALL_BUT_CONTRAST = {"rules": {rule: {"enabled": False} for rule in [*COLOURS, "region"]}}
# Before contrast is measured, which takes axe-core seconds for some hundred elements: of elements that are coloured
# alike, at the same place in the tree of tags and classes, the first stands for all, here and on pages that follow.
FEWER = """(measured) => {
    const kinds = new Map(), known = new Set(measured), all = [...document.body.querySelectorAll("*")], again = [];
    for (const element of all) {
        const {color, backgroundColor, fontSize, opacity, textDecorationLine} = getComputedStyle(element);
        const names = element.getAttribute("class")?.replace(/\\d+/g, ""), seen = element.checkVisibility();
        const kind = [...[kinds.get(element.parentElement), element.tagName, names, color, backgroundColor, fontSize,
            opacity, textDecorationLine, seen].join(" ")]
            .reduce((sum, letter) => (31 * sum + letter.charCodeAt()) % 2 ** 47, 0);
        kinds.set(element, kind);
        // Scripts may look for what has no text, and for parts of the page by their id.
        if (known.has(kind) && element.textContent.trim() && !(element.id && element.children.length))
            again.push(element);
        known.add(kind); }
    for (const element of again.reverse())  // what is inside comes first
        if (!element.children.length) element.remove();
    return [...known]; }"""
# Other rules ask for roles, names and structure. The colours of code and the strokes of formulas, a third of all
# elements, have none of them and are put back afterwards; code that does have some stays.
PLAIN = """() => { window.whole = [...document.querySelectorAll("pre, mjx-container svg")]
    .filter(part => !part.querySelector("[role], [tabindex], [href], [id], a, button, img")).map(part => {
        const inside = [...part.childNodes];
        part.textContent = part.localName == "pre" ? part.textContent : "";
        return () => part.replaceChildren(...inside); }); }"""
WHOLE = "() => window.whole.forEach(restore => restore())"
WIDER = """() => document.documentElement.scrollWidth > innerWidth
    ? [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .slice(0, 3).map(e => e.outerHTML.slice(0, 120)).concat("scrolls sideways") : []"""
# With all that is folded unfolded for a moment.
CUT = """() => { const folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach(part => part.open = true);
    const cut = [...document.querySelectorAll(".bd-article :is(table, pre)")]
        .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML.slice(0, 120));
    folded.forEach(part => part.open = false);
    return cut; }"""
# Pictures that are missing, blurred on dense screens, out of proportion, transparent, or whose text is too small on a
# phone: ten points, drawn with 200 pixels to the inch, are eight pixels high or more there.
PICTURES = """() => [...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.src)"""
FIGURES = """(fault) => [...document.querySelectorAll("main figure img")].filter(i => {
    const around = 2 * parseFloat(getComputedStyle(i).paddingLeft), drawn = /\\.svg/.test(i.src);
    const shown = (i.clientWidth - around) / (i.clientHeight - around);
    return {blurred: !drawn && i.naturalWidth < 1.9 * i.clientWidth,
        small: i.getBoundingClientRect().width < (drawn ? 0.6 : 0.29) * i.naturalWidth,
        squeezed: Math.abs(shown * i.naturalHeight / i.naturalWidth - 1) > 0.03,
        transparent: getComputedStyle(i).backgroundColor !== "rgb(255, 255, 255)"}[fault];
    }).map(i => `${fault}: ${i.src}`)"""
# The theme prints a heading of its own, and hides that of the text.
PRINT = """() => [...document.querySelectorAll(".bd-sidebar-primary, .bd-header-article, .prev-next-area")]
    .filter(e => e.getBoundingClientRect().width).map(e => `printed: ${e.className}`)
    .concat([...document.querySelectorAll("h1")].some(e => e.getBoundingClientRect().height) ? [] : "no heading")"""
STILL = "*, ::before, ::after { transition: none !important; animation: none !important }"
READY = "() => document.fonts.ready.then(() => window.MathJax?.startup?.promise).then(() => true)"


def page_files() -> list[Path]:
    return sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)


@functools.cache
def soup(path: Path):
    from bs4 import BeautifulSoup  # comes with the theme

    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def address(chromium):
    with browser.served(SITE) as started:
        yield started


def test_no_page_has_a_fault(chromium, address):
    """Every page on a laptop, a phone, some on paper; then, wide, light and dark."""
    package = importlib.util.find_spec("axe_playwright_python")  # carries axe-core
    browser.require(package, "needs axe-core; pip install -e .[test]")
    axe = Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    faults, kinds = [], []
    page = chromium.new_page(viewport=DESK)

    def note(fault, texts):
        faults.extend(f"{fault}: {name}: {text}" for text in texts)

    page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or note("request elsewhere", [r.url]))
    page.on("console", lambda m: m.type in ("error", "warning") and note("console", [m.text]))
    page.on("pageerror", lambda error: note("console", [error]))
    page.on("response", lambda r: r.status >= 400 and note("console", [f"{r.status} {r.url}"]))
    for path in page_files():
        name = path.relative_to(SITE).as_posix()
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(LAPTOP)
        page.goto(address + name, wait_until="load")
        page.evaluate(READY)
        page.add_style_tag(content=STILL)  # colours are measured, not their way from light to dark
        note("missing picture", page.evaluate(PICTURES))
        note("table or code is cut", page.evaluate(CUT))
        page.set_viewport_size(PHONE)
        note("wider than a phone", page.evaluate(WIDER))
        note("figure on a phone", page.evaluate(FIGURES, "squeezed") + page.evaluate(FIGURES, "small"))
        if path.stem in ("index", *PRINTED):
            page.set_viewport_size(A4)
            page.emulate_media(media="print")
            note("print", page.evaluate(PRINT) + page.evaluate(WIDER) + page.evaluate(CUT))
            page.emulate_media(media="screen")
        page.set_viewport_size(DESK)
        note("blurred", page.evaluate(FIGURES, "blurred"))
        page.evaluate(axe)
        page.evaluate(PLAIN)
        note("inaccessible", page.evaluate(AXE, ALL_BUT_CONTRAST))
        page.evaluate(WHOLE)
        kinds = page.evaluate(FEWER, kinds)
        note("low contrast in light", page.evaluate(AXE, CONTRAST))
        page.emulate_media(color_scheme="dark")
        # Not `wait_for_function`, which a page's policy may forbid.
        page.locator("html[data-theme=dark]").wait_for(state="attached", timeout=60_000)
        note("low contrast in the dark", page.evaluate(AXE, CONTRAST))
        note("transparent figure", page.evaluate(FIGURES, "transparent"))
    page.close()
    assert not faults, "\n".join(faults)


def test_first_key_skips_to_the_content_and_focus_is_seen(chromium, address):
    page = chromium.new_page(viewport=DESK)
    page.goto(address + "chapters/08_coma_mass.html")
    page.add_style_tag(content=STILL)
    page.keyboard.press("Tab")
    focus = "(e => [e.textContent.trim(), e.getBoundingClientRect().top >= 0, e.getAttribute('href')])"
    text, seen, target = page.evaluate(f"() => {focus}(document.activeElement)")
    assert text == "Skip to main content" and seen
    page.keyboard.press("Enter")
    assert page.evaluate(f"() => document.querySelector('{target}') !== null")
    style = "(s => [s.outlineStyle, s.boxShadow])(getComputedStyle(document.activeElement))"
    for _ in range(25):
        page.keyboard.press("Tab")
        assert page.evaluate(style) != ["none", "none"], page.evaluate("document.activeElement.outerHTML")
    page.close()


def test_tables_fade_where_they_go_on_and_negative_numbers_have_a_minus_sign(chromium, address):
    page = chromium.new_page(viewport=PHONE)
    page.goto(address + "chapters/05_validation.html", wait_until="load")
    table = page.locator("main table.goes-on").first
    assert "linear-gradient" in table.evaluate("e => getComputedStyle(e).maskImage")
    table.evaluate("e => { e.scrollLeft = e.scrollWidth; window.faded = e; }")
    page.wait_for_function("() => !window.faded.classList.contains('goes-on')")
    numbers = "\n".join(page.locator("main :is(.cell_output td, .pasted-text)").all_text_contents())
    assert "−" in numbers and not re.search(r"(?<![\w.])-\d", numbers)
    page.close()


def test_without_scripts_the_text_and_the_figures_are_there(chromium, address):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "chapters/08_coma_mass.html")
    assert page.locator("main figure img").first.is_visible() and page.locator("article h1").first.is_visible()
    context.close()


# What needs no browser


def test_nbval_compares_with_the_small_book_unless_a_notebook_has_other_code():
    path = ROOT / "notebooks" / "03_preprocessing.ipynb"
    notebook = SimpleNamespace(path=path, nb=nbformat.read(path, as_version=4))
    kernel = RecordedKernel(executed_by_small_book(notebook))
    code = [cell for cell in notebook.nb.cells if cell.cell_type == "code"]
    for cell in code:
        kernel.execute_cell_input(cell.source)
        kinds = list(iter(lambda: kernel.get_message("iopub")["msg_type"], "status"))
        assert kinds == [output.output_type for output in cell.outputs], cell.source
    code[3].source += "\n1 / 0"
    assert executed_by_small_book(notebook) == []


def test_pictures_are_as_many_as_the_plan_has():
    planned = sum(chapters.notebook_path(run.notebook).read_text().count("\n    name: fig-") for run in PAGES)
    shown = [image for path in page_files() for image in soup(path).select("main figure img")]
    assert len(shown) >= planned > 40


def test_no_link_or_anchor_is_dead():
    pages = {path: soup(path) for path in page_files()}
    anchors = {path: {tag.get("id") or tag.get("name") for tag in page.find_all(True)} for path, page in pages.items()}
    dead = set()
    for path, page in pages.items():
        for tag in page.find_all(["a", "link", "script", "img"]):
            address = urllib.parse.urlsplit(tag.get("href") or tag.get("src") or "")
            if address.scheme or address.netloc:  # `publish.check` says which may be there
                continue
            target = (path.parent / urllib.parse.unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            known = anchors.get(target, {address.fragment})
            if not target.is_file() or (address.fragment and address.fragment not in known):
                dead.add(f"{path.name}: {address.geturl()}")
    assert dead == set()


def test_figures_are_numbered_captioned_and_described():
    lacking = []
    for path in page_files():
        for figure in soup(path).select("main figure"):
            number, caption = figure.select_one(".caption-number"), figure.select_one(".caption-text")
            words = [image.get("alt", "") for image in figure.find_all("img")]
            words += [drawing.get("aria-label", "") for drawing in figure.select("svg[role=img]")]
            if not (number and caption and len(caption.text.strip()) > 20):
                lacking.append(f"{path.name}: {figure.get('id')} has no number or caption")
            if not words or any(len(text) < 20 or re.search(r"\.(png|svg)$", text) for text in words):
                lacking.append(f"{path.name}: {figure.get('id')} is not described: {words}")
        lacking += [f"{path.name}: a figure without caption" for _ in soup(path).select("main .cell_output > img")]
    assert lacking == []


@pytest.mark.parametrize("run", PAGES, ids=lambda run: run.name)
def test_chapter_says_how_it_was_made_and_hands_out_its_notebook_and_numbers(run):
    path = SITE / "chapters" / f"{run.name}.html"
    page = soup(path)
    facts = page.select_one(".page-facts").text
    assert re.search(r"Runs in \d+ (s|min|h)", facts) and "Notebook" in facts
    foot = {row.td.text: row.find_all("td")[1].text for row in page.select(".admonition table tr") if row.td}
    assert foot["Profile"] == "smoke" and "cores" in foot["Took"] and "numpy" in foot["Made with"]
    assert len(re.findall(r"\b[0-9a-f]{16}\b", foot["Writes"])) == len(run.writes)
    figures = len(page.select("main figure img"))
    tables = [path.parent / tag["href"] for tag in page.select(".figure-data a[href]")]
    assert len(tables) <= figures
    for table in tables:
        numbers = pd.read_csv(io.StringIO(table.read_text()))
        assert not {"x", "y"} & set(numbers.columns) and len(numbers) > 1, table.name
    offered = [tag["href"] for tag in page.select("a.download")]
    for name in run.writes:
        assert any(href.endswith("/" + Path(name).name) for href in offered) is name.endswith((".csv", ".tex")), name


@pytest.mark.parametrize("run", PAGES, ids=lambda run: run.name)
def test_sections_are_numbered_and_end_in_a_number(run):
    page = soup(SITE / "chapters" / f"{run.name}.html")
    lacking = []
    for section in page.select("main section > section"):
        heading = section.find(["h2", "h3"]).text
        assert run.name.startswith("00") or re.match(r"\d+(\.\d+)+\. ", heading), heading  # 00 stands before the first
        # What was printed, or taken into the text; a figure or a table leaves it to the reader to find the number.
        last = section.select(".cell_output, .pasted-text")[-1]
        if last.select_one("img, svg, table") or not re.search(r"\d", last.text):
            lacking.append(f"{heading}: {last.text.strip()[:80]}")
    assert lacking == []


@pytest.mark.parametrize("run", PAGES, ids=lambda run: run.name)
def test_plumbing_is_out_of_sight_and_numbers_of_chapters_are_right(run):
    page = soup(SITE / "chapters" / f"{run.name}.html")
    shown = "\n".join(block.text for block in page.select("main pre"))
    assert not re.search(r"^ *(assert |glue\(|np\.testing\.)", shown, flags=re.MULTILINE)
    named = re.findall(r"[Cc]hapters? (\d+)", page.main.text)
    assert set(map(int, named)) <= {int(each.notebook[:2]) for each in PAGES}


def test_no_page_gives_a_path_of_this_machine_away():
    for path in [*page_files(), *(SITE / "_downloads").rglob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(rf"/(?:home|root|Users)/\w|{re.escape(str(ROOT))}|site-packages", text), path.name


def test_the_book_for_machines_has_all_files_with_digests_and_units():
    """For an archive; unlike the pages it stays where the book was built."""
    folder = SITE.parent / "deposit"
    manifest = json.loads((folder / deposit.MANIFEST).read_text())
    listed = {each["path"]: each for each in manifest["resources"]}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(listed) == files - {deposit.MANIFEST} and manifest["licenses"][0]["name"] == "BSD-3-Clause"
    assert {f"data/{run.name}.ipynb" for run in chapters.plan("smoke")} | {"data/table1.csv"} <= set(listed)
    for name, each in listed.items():
        assert each["hash"] == f"sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"
    lacking = []
    for name in {Path(name).name for run in chapters.plan("smoke") for name in run.writes if name.endswith(".csv")}:
        table = pd.read_csv(folder / "data" / name)
        units = {field["name"]: field.get("unit") for field in listed[f"data/{name}"]["schema"]["fields"]}
        floats = table.select_dtypes("float").columns
        lacking += [f"{name}: {column}" for column in floats if units[column] is None]
    assert lacking == []  # a number with decimals has a unit: give it one in deposit.UNITS


def test_the_switch_shows_all_code_and_remembers(chromium, address):
    page = chromium.new_page(viewport=DESK)
    page.goto(address + "chapters/08_coma_mass.html")
    folded = page.locator("details.hide.above-input")
    assert folded.count() > 3 and not folded.last.locator("pre").first.is_visible()
    page.get_by_role("button", name="Show all code").click()
    assert all(folded.nth(i).locator("pre").first.is_visible() for i in range(folded.count()))
    page.goto(address + "chapters/07_historical_masses.html")
    assert page.locator("details.hide.above-input").last.locator("pre").first.is_visible()
    page.get_by_role("button", name="Fold the code").click()
    assert not page.locator("details.hide.above-input").last.locator("pre").first.is_visible()
    page.close()


def test_numbers_of_a_run_are_collected_and_those_that_differ_are_named():
    """The small book has the numbers that the README shows; as its masses mean nothing, Coma's are not the same."""
    measured = store.read_digested(numbers.measured_path())
    assert numbers.collect("smoke")["numbers"].keys() == measured["numbers"].keys()
    said = numbers.differences("smoke")
    assert any(line.startswith("Coma ") for line in said) and all("results/measured.json" in line for line in said)


# Sources


def test_the_readme_has_the_numbers_of_the_last_run():
    measured = store.read_digested(numbers.measured_path())
    shown = numbers.BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))[0]
    assert numbers.markdown(measured, literature.published_table1()) in shown, "run: cluster-tools numbers"


def test_the_badges_of_the_readme_are_true():
    badges = re.findall(r"/badge/([^)]+)-blue\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    shown = dict(urllib.parse.unquote(each).replace("--", "~").split("-") for each in badges)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert shown["licence"].replace("~", "-") == project["license"] == citation["license"]
    assert shown["paper"].replace("~", "-") == citation["preferred-citation"]["doi"]
    assert ">=" + shown["Python"].rstrip("+") == project["requires-python"]


@pytest.mark.parametrize("text", sorted((ROOT / "notebooks").glob("*.md")), ids=lambda path: path.stem)
def test_chapter_has_all_its_parts(text):
    source = text.read_text()
    for part in ("# ", "**In one line:**", "**Goals.**", "**Needs.**", "## Summary", "**What next.**"):
        assert f"\n{part}" in source, part
    exercise = source.split("\n**Exercise.**")[1]
    assert "```{admonition} Solution\n:class: dropdown\n" in exercise
    named = re.findall(r"-p (\w+)", exercise)
    assert set(named) <= set(chapters.default_parameters(text.stem))


@pytest.mark.parametrize(
    "origin, name",
    [
        *((origin, "some/one") for origin in ("https://github.com/some/one.git", "https://github.com/some/one/")),
        *((origin, "some/one") for origin in ("git@github.com:some/one.git", "ssh://git@github.com/some/one")),
        *((origin, None) for origin in ("https://example.org/some/one", "/home/someone/book", "")),
    ],
)
def test_launch_buttons_follow_the_checkout(origin, name, tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path)]
    for command in (["init", "--quiet"], *[["remote", "add", "origin", origin]] * bool(origin)):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    links = pages.launch("05_validation", {"url": "", "branch": "main"})
    assert set(links) == ({"Binder", "Colab"} if name else set())
    if name:
        assert f"/gh/{name}/main?labpath=notebooks/05_validation.ipynb" in links["Binder"]
        assert (ROOT / links["Colab"].split("/blob/main/")[1]).is_file()
    monkeypatch.setenv("GITHUB_REPOSITORY", "own/book")  # as in a workflow
    assert "/github/own/book/blob/main/" in pages.launch("05_validation", {"url": ""})["Colab"]
    other = pages.launch("x", {"url": "https://github.com/an/other", "branch": "v2"})
    assert "/github/an/other/blob/v2/" in other["Colab"]


def test_colab_fetches_the_repository_of_the_configuration():
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert f'repository = \\"{url}\\"' in (ROOT / "launch" / "colab.ipynb").read_text()
