"""The interactive figure: complete, reproducible, and usable with a pointer, a keyboard, or neither."""

import re
from xml.etree import ElementTree

import browser
import numpy as np
import pytest

from cluster_tools.figures import clusters
from cluster_tools.mocks import kde

N = 40


@pytest.fixture(scope="module")
def galaxies():
    rng = np.random.default_rng(1)
    ra, dec = rng.normal(195, 0.5, N), rng.normal(28, 0.5, N)
    v_los, r_proj = rng.normal(0, 900, N), rng.uniform(0.05, 2.2, N)
    return ra, dec, v_los, r_proj, kde.phase_space_images(v_los, r_proj, [0, N])[0]


@pytest.fixture(scope="module")
def figure(galaxies):
    return clusters.explorer(*galaxies, name="<b>Coma & co")


def test_each_galaxy_has_a_marker_with_its_own_title(figure, galaxies):
    ra, dec, v_los, r_proj, _ = galaxies
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", figure, flags=re.DOTALL)[0])
    space = f"{{{clusters.SVG}}}"
    markers = svg.findall(f".//{space}g[@id='galaxies']//{space}use")
    assert len(markers) == N and svg.get("aria-label").startswith("Phase space of <b>Coma & co: 40 galaxies")
    order = np.argsort(r_proj)
    x, y = (np.array([float(marker.get(axis)) for marker in markers]) for axis in "xy")
    # A marker and its title belong to the same galaxy: on paper both axes are linear.
    assert abs(np.corrcoef(x, r_proj[order])[0, 1]) > 1 - 1e-9 and np.corrcoef(y, v_los[order])[0, 1] < -1 + 1e-9
    for i, (marker, galaxy) in enumerate(zip(markers, order)):
        title = marker.find(f"{space}title").text
        assert title.startswith(f"Galaxy {i + 1} of 40: RA {ra[galaxy]:.4f}°, Dec {dec[galaxy]:+.4f}°")
        assert f"{v_los[galaxy]:+.0f} km/s, {r_proj[galaxy]:.2f} comoving" in title


def test_it_fetches_nothing_and_is_the_same_each_time(figure, galaxies):
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", figure) and "url(http" not in figure
    assert figure == clusters.explorer(*galaxies, name="<b>Coma & co")


def test_pointer_and_keyboard_choose_a_galaxy_and_print_shows_the_drawing(figure, tmp_path):
    (tmp_path / "figure.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{figure}", encoding="utf-8")
    with browser.chromium() as chromium:
        page, faults = chromium.new_page(), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((tmp_path / "figure.html").as_uri())
        page.locator("#galaxies use").nth(7).hover(force=True)
        assert page.inner_text("output").startswith("Galaxy 8 of 40")
        page.focus("input")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("output") == page.get_attribute("input", "aria-valuetext")
        assert page.inner_text("output").startswith("Galaxy 9 of 40")
        ring, marker = page.locator(".ring"), page.locator("#galaxies use").nth(8)
        assert [ring.get_attribute(at) for at in ("cx", "cy")] == [marker.get_attribute(at) for at in ("x", "y")]
        page.emulate_media(media="print")
        assert page.is_visible("svg") and not page.is_visible("input") and not page.is_visible("output")
        assert faults == []
