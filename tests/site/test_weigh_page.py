"""The page that weighs a cluster, in a browser: what it finds is what the package finds, and no table can harm it.

Where Chromium or Playwright is missing, tests are skipped with the reason, but fail on CI.
"""

import html
import json
import re
import shutil
from pathlib import Path

import browser
import numpy as np
import pytest
import small_cluster
import yaml

from cluster_tools import paths
from cluster_tools.book import web
from cluster_tools.coma import survey
from cluster_tools.cosmology import COMA_REDSHIFT, comoving_distance
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import observe
from cluster_tools.weighing import galaxy_table, one_cluster, selection, survey_effects, survey_estimate
from cluster_tools.weighing.survey_model import SurveyModel

BOOK = Path(__file__).parents[2] / "book"
SAME = 1e-3
SUBMIT = "#weigh-form [type=submit]"


@pytest.fixture(scope="module")
def model():
    return SurveyModel.load()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page as ``book/weigh.md`` has it, without the theme around it."""
    site = tmp_path_factory.mktemp("site")
    text = (BOOK / "weigh.md").read_text()
    policy = yaml.safe_load(text.split("---\n")[1])["myst"]["html_meta"]["http-equiv=Content-Security-Policy"]
    (body,) = re.findall(r"```\{raw\} html\n(.*?)```", text, flags=re.DOTALL)
    (site / "weigh.html").write_text(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Weigh</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}"></head>'
        f"<body><main><h1>Weigh</h1>{body}</main></body></html>"
    )
    shutil.copytree(BOOK / "weigh", site / "_static" / "weigh")
    web.export(site / "_static" / "weigh")
    return site


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        yield found


@pytest.fixture
def page(chromium, site):
    """The page, opened from the disk; a script that fails, and a request for anything else, fail the test."""
    context = chromium.new_context(viewport={"width": 1000, "height": 900})
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith((site.as_uri(), "data:", "blob:")) else
            faults.append(asked.url))  # fmt: skip
    page.goto((site / "weigh.html").as_uri())
    yield page
    context.close()
    assert faults == []


def done(page):
    """Wait for a result, which is given back as the file that the page saves, or for a refusal."""
    page.locator("#weigh-result:visible, #weigh-status.refused").first.wait_for()
    if page.locator("#weigh-status.refused").count():
        return page.inner_text("#weigh-status")
    with page.expect_download() as saved:
        page.click("#weigh-save")
    return json.loads(Path(saved.value.path()).read_text())


def weigh(page, table, **given):
    # Not `fill`, which is slow for a long text.
    page.evaluate("([table]) => { document.getElementById('weigh-table').value = table; }", [table])
    return submit(page, **given)


def submit(page, **given):
    for name in ("ra", "dec", "z", "error"):
        page.fill(f"#weigh-{name}", str(given.get(name, "")))
    page.click(SUBMIT)
    return done(page)


def phase_space(n, seed, tilt=0.0):
    rng = np.random.default_rng(seed)
    r_proj = np.abs(rng.normal(0, 0.8, n)) % observe.APERTURE
    return rng.normal(0, 900, n) + tilt * r_proj, r_proj


def table(names, *columns, separator=","):
    lines = [separator.join(f"{value:.10g}" for value in row) for row in zip(*columns)]
    return "\n".join([separator.join(names), *lines])


def on_the_sky(v_los, r_proj, ra, dec, z, seed=1):
    """Galaxies at these places in phase space about a centre: ra, dec [deg], redshift."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    angle = r_proj / (comoving_distance(z))
    around = np.random.default_rng(seed).uniform(0, 360, len(v_los))
    sky = SkyCoord(ra, dec, unit="deg").directional_offset_by(around * u.deg, angle * u.rad)
    return sky.ra.deg, sky.dec.deg, z + v_los / observe.SPEED_OF_LIGHT * (1 + z)


# --- the page and the package ---------------------------------------------------------------------


def check_same(found, expected):
    """The page's answer is the package's: numbers to 1e-3, and the same words of refusals and warnings."""
    assert found.get("refusal") == expected.refusal
    if expected.refusal:
        assert "posterior" not in found
        return
    ours = found["posterior"]
    assert found["warnings"] == list(expected.warnings)
    assert found["error"] == pytest.approx(expected.assumed["velocity_error"])
    assert found["errorIs"] == expected.assumed["velocity_error_is"]
    for name, values in (("quantiles", expected.quantiles), ("quantiles95", expected.quantiles_95),
                         ("abundance", expected.abundance)):  # fmt: skip
        np.testing.assert_allclose(ours[name], values, atol=SAME, err_msg=name)
    np.testing.assert_allclose([ours["mean"], ours["sigma"]], [expected.mean, expected.sigma], atol=SAME)
    density = np.array(ours["density"])
    np.testing.assert_allclose(density / density.max(), np.exp(expected.log_likelihood), atol=SAME)
    np.testing.assert_allclose(found["r200c"], expected.r200c, rtol=3 * SAME)
    members = [np.nan if each is None else each for each in found["member"]]
    np.testing.assert_allclose(np.sort(members), np.sort(expected.labels[:, 2]), atol=SAME)
    assert found["logOdds"] == pytest.approx(expected.log_odds, abs=SAME)


def small_table(number):
    """One of 30 tables: clusters from rich to poor, at all redshifts, in small fields, and uniform fields."""
    rng = np.random.default_rng(number)
    if number % 5 == 4:
        n = int(rng.integers(10, 700))
        v_los, r_proj = rng.uniform(-3784, 3784, n), 2.3 * np.sqrt(rng.random(n))
    else:
        n = int(np.exp(rng.uniform(np.log(9), np.log(400))))
        v_los, r_proj = small_cluster.phase_space(rng.uniform(13.2, 15.4), n, number)
    field = (2.3, 2.3, 1.0, 0.5, 2.3)[number % 7 % 5]
    if number == 13:
        r_proj = r_proj * 0.13  # to 0.3 Mpc/h
    z = (0.0231, 0.05, 0.3, 0.009, 0.65, 0.0231)[number % 6]
    error = (None, 0.0, 200.0, 400.0)[number % 11 % 4]
    fastest = 2000 if number % 9 == 8 else 4000
    kept = (r_proj < field) & (np.abs(v_los) < fastest)
    ra, dec, redshifts = on_the_sky(v_los[kept], r_proj[kept], 150, -22, z, seed=number)
    columns = {"ra": ra, "dec": dec, "z": redshifts}
    if number % 4 == 1:
        columns["e_cz"] = rng.uniform(20, 200, len(ra))
    if number % 4 == 2:
        columns["zerr"] = np.where(rng.random(len(ra)) < 0.2, 0.0, rng.uniform(1e-5, 3e-4, len(ra)))
    if number % 3 == 0:
        columns["log_mstar"] = rng.uniform(9.2, 11, len(ra))
    columns = {name: np.array([float(f"{value:.10g}") for value in column]) for name, column in columns.items()}
    return columns, {"ra": 150.0, "dec": -22.0, "z": z}, error


def test_thirty_tables_are_weighed_warned_of_and_refused_as_by_the_package(page, model):
    seen = []
    for number in range(30):
        columns, place, error = small_table(number)
        found = weigh(page, table(columns, *columns.values()), **place, **({} if error is None else {"error": error}))
        given = {"centre": (place["ra"], place["dec"]), "redshift": place["z"], "velocity_error": error}
        try:
            expected = one_cluster.weigh(columns, **given, model=model)
        except ClusterToolsError as refusal:
            assert "at least 8 are needed" in str(refusal) and "at least 8" in found, number
            seen.append("few")
            continue
        check_same(found, expected)
        seen.append(expected.refusal or "; ".join(expected.warnings))
    for words in ("few", "no cluster", "outside 0.005", "errors of 400", "interlopers", "smallest field"):
        assert any(words in each for each in seen), (words, seen)


@pytest.mark.parametrize(("n", "seed", "tilt"), [(60, 2, 0.0), (400, 3, 900.0)])
def test_phase_space_is_weighed_as_by_the_package(page, model, n, seed, tilt):
    v_los, r_proj = phase_space(n, seed, tilt)
    inside = np.abs(v_los) < observe.VELOCITY_CUT
    found = weigh(page, table(("v_los", "r_proj"), v_los, r_proj), z=0.05)
    assert found["galaxies"]["used"] == inside.sum() and found["galaxies"]["rejected"]["fast"] == (~inside).sum()
    field = float(survey_effects.estimated_field(r_proj.max(), n))
    known = {"name": "a", "centre_ra": 0, "centre_dec": 0, "centre_is": "given", "redshift_is": "given", "rejected": {}}
    observation = selection.Observation(
        **known, redshift=0.05, v_los=v_los[inside], r_proj=r_proj[inside], min_log_mstar=None, field=field
    )
    check_same(found, survey_estimate.estimate(observation, model))


def test_the_example_is_coma_as_the_package_weighs_it(page, model):
    sample = survey.load_sample("desi")
    page.click("#weigh-example")
    found = done(page)
    for name in ("v_los", "r_proj"):
        np.testing.assert_allclose(np.sort(found[name]), np.sort(sample[name].value), rtol=1e-9)
    columns = {name: [float(each) for each in sample[name]] for name in ("ra", "dec", "z", "log_mstar")}
    place = {"centre": (survey.CENTRE_RA, survey.CENTRE_DEC), "redshift": COMA_REDSHIFT}
    check_same(found, one_cluster.weigh(columns, **place, model=model))
    assert "Coma" in page.inner_text("#weigh-source") and "CC BY 4.0" in page.inner_text("#weigh-source")
    assert f"{found['posterior']['quantiles'][1]:.2f}" in page.inner_text("#weigh-numbers")
    assert "541 used of 541" in page.inner_text("#weigh-numbers")


def test_a_file_of_fluxes_is_cut_in_stellar_mass_as_by_the_package(page, model):
    sample = survey.load_sample("desi")
    page.fill("#weigh-ra", "10")
    page.set_input_files("#weigh-file", paths.PACKAGE_DATA / "desi_coma.csv")
    page.locator("#weigh-source", has_text="desi_coma.csv").wait_for()
    assert page.input_value("#weigh-ra") == ""  # another file, another cluster
    assert done(page)["centre"]["z"] == pytest.approx(COMA_REDSHIFT, abs=0.001)
    found = submit(page, ra=survey.CENTRE_RA, dec=survey.CENTRE_DEC, z=COMA_REDSHIFT)
    assert found["galaxies"]["used"] == len(sample) and found["galaxies"]["rows"] == sample.meta["n_field"]
    np.testing.assert_allclose(np.sort(found["r_proj"]), np.sort(sample["r_proj"].value), rtol=1e-9)
    place = {"centre": (survey.CENTRE_RA, survey.CENTRE_DEC), "redshift": COMA_REDSHIFT}
    check_same(found, one_cluster.weigh(paths.PACKAGE_DATA / "desi_coma.csv", **place, model=model))


CLUSTERS = {
    "Coma's place": (194.95, 27.98, 0.0231, 300, 500.0),
    "across ra = 0": (0.1, -5.0, 0.05, 300, 0.0),
    "near the pole": (80.0, 88.5, 0.08, 80, 100.0),
    "few": (10.0, 0.0, 0.03, 14, 100.0),
}


@pytest.mark.parametrize("place", CLUSTERS)
def test_centre_and_redshift_are_found_as_by_the_package(page, place):
    ra, dec, z, n, tilt = CLUSTERS[place]
    v_los, r_proj = phase_space(n, 5, tilt)
    columns = dict(zip(("ra", "dec", "z"), on_the_sky(v_los, r_proj, ra, dec, z)))
    columns = {name: np.array([float(f"{value:.10g}") for value in column]) for name, column in columns.items()}
    found = weigh(page, table(("RA", "Dec", "zspec"), *columns.values()))
    seen = selection.select_galaxies(galaxy_table.read(columns), name=place, fewest=8)
    assert found["centre"]["ra"] == pytest.approx(seen.centre_ra, abs=1e-6)
    assert found["centre"]["dec"] == pytest.approx(seen.centre_dec, abs=1e-6)
    assert found["centre"]["z"] == pytest.approx(seen.redshift, abs=1e-8)
    assert found["galaxies"]["used"] == len(seen.v_los)
    np.testing.assert_allclose(np.sort(found["v_los"]), np.sort(seen.v_los), atol=1e-2)
    if not tilt:  # near the truth
        centre = found["centre"]
        assert abs((centre["ra"] - ra + 180) % 360 - 180) < 0.2 and abs(centre["dec"] - dec) < 0.2
        assert abs(centre["z"] - z) < 0.001 and len(found["how"]) == 2
        assert "densest place" in page.inner_text("#weigh-numbers")


def test_order_separators_comments_quotes_and_windows_lines_make_no_difference(page):
    v_los, r_proj = phase_space(20, 8)
    plain = table(("v_los", "r_proj"), v_los, r_proj).split("\n")
    expected = weigh(page, "\n".join(plain))["posterior"]["mean"]
    for separator in (",", "\t", ";", "|", "  "):
        order = np.random.default_rng(len(separator)).permutation(20)
        found = weigh(page, table(("v_los", "r_proj"), v_los[order], r_proj[order], separator=separator))
        assert found["posterior"]["mean"] == pytest.approx(expected, abs=1e-9)
    ecsv = ["\ufeff# %ECSV 1.0", "# ---", "# datatype:", "# - {name: v_los, datatype: float64}", *plain]
    quoted = ['name,"v_los","r_proj"', *(f'"Abell, ""{i}""",{line}' for i, line in enumerate(plain[1:]))]
    commented = [f"# {plain[0].replace(',', ' ')}", *(line.replace(",", "\t") for line in plain[1:])]
    for lines, end in ((ecsv, "\r\n"), (quoted, "\n"), (commented, "\n")):
        assert weigh(page, end.join(lines))["posterior"]["mean"] == pytest.approx(expected, abs=1e-12)


# --- bad tables -----------------------------------------------------------------------------------

BAD = {
    "": "empty",
    "# ra dec z\n# 1 2 3": "no galaxy",
    "ra,dec,z": "no galaxy",
    "1,2,0.02\n3,4,0.02": "names of the columns",
    "ra,dec\n1,2": "no column of z; found: ra, dec",
    "ra,dec,cz\n1,2,6900": "z = cz / 299792.458",
    "ra,dec,z\n1,2,6900": "redshifts, not velocities",
    "ra,dec,z\na,b,c": "Column ra holds no number",
    "ra,dec,z\n1,2,nan\n1,nan,0.02\n1,2,x": "None of 3 rows",
    "ra,dec,z\n194.9,27.9,0.0231": "1 of 1 galaxies can be used, but at least 8",
    "v_los,r_proj\n" + "".join(f"{100 * i},{i}e3\n" for i in range(1, 20)): "comoving Mpc/h, not kpc/h",
    "v_los,r_proj\n" + "".join(f"{1000 * i},{0.1 * i}\n" for i in range(1, 20)): "beyond 3785 km/s",
    "ra,dec,z\n" + "".join(f"{i},{i},0.0001\n" for i in range(20)): "redshift above 0.003",
    "ra,dec,z\n" + 200_000 * "1,2,0.02\n": "200000 are the most",
}


def test_bad_tables_and_centres_are_refused_in_a_sentence(page):
    for bad, said in BAD.items():
        found = weigh(page, bad)
        assert isinstance(found, str) and said in found and "\n" not in found and len(found) < 400, (bad[:40], found)
    for given in ({"ra": 400, "dec": 1}, {"z": "x"}, {"z": -1}, {"ra": 10}):
        assert "expected a number" in (said := weigh(page, "ra,dec,z\n1,2,0.02", **given)) or "both ra and dec" in said


def test_a_hostile_table_is_weighed_and_does_nothing_else(page):
    """10^5 rows, a tenth of them of use, and HTML wherever a cell or a name can hold it, which is shown as text."""
    v_los, r_proj = phase_space(10_000, 9)
    html_cell = "<img src=x onerror=document.title='run'><script>document.title='run'</script>"
    rows = [f"{v:.3f},{r:.5f},{html_cell}" for v, r in zip(v_los, r_proj)]
    junk = [f"{html_cell},nan,1", "nan,inf,-inf", ",,", "1e999,0.5,x", "5000,0.5,x", "0,99,x", '"', "=1+1,0x10,\\u0000"]
    rows += [junk[i % len(junk)] for i in range(90_000)]
    text = "\n".join([f"v_los,r_proj,{html_cell}", *rows])
    page.evaluate("([text]) => { document.getElementById('weigh-table').value = text; }", [text])
    page.click(SUBMIT)
    assert page.evaluate("1 + 1") == 2  # the page answers while its worker works
    found = done(page)
    assert found["galaxies"]["rows"] == 100_000
    assert found["galaxies"]["used"] == (np.abs(v_los) < observe.VELOCITY_CUT).sum()
    assert page.title() == "Weigh" and page.locator("main img").count() == 0
    said = weigh(page, "<img src=x onerror=document.title='run'>,dec\n1,2")
    assert "<img" in said and page.title() == "Weigh" and page.locator("main img").count() == 0


# --- nothing leaves, and everyone can use it ------------------------------------------------------


def test_the_policy_of_the_page_forbids_requests(chromium, site):
    context = chromium.new_context()
    with browser.served(site) as address:
        page = context.new_page()
        page.goto(f"{address}weigh.html")
        page.click("#weigh-example")
        assert done(page)["galaxies"]["used"] == 541  # over HTTP as from a disk
        for ask in ("fetch('/weigh.html')", "fetch('https://example.org')"):
            assert page.evaluate(f"{ask}.then(() => 'went out', () => 'forbidden')") == "forbidden"
        policy = page.get_attribute("meta[http-equiv=Content-Security-Policy]", "content")
        assert {"default-src 'none'", "connect-src 'none'"} <= set(policy.split("; "))
    context.close()


def test_the_keyboard_is_enough(page):
    v_los, r_proj = phase_space(30, 10)
    page.keyboard.press("Tab")
    page.keyboard.insert_text(table(("v_los", "r_proj"), v_los, r_proj))
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    fields = (f"weigh-{name}" for name in ("file", "ra", "dec", "z", "error"))
    assert reached == [*fields, "Weigh", "weigh-example"]
    page.focus(SUBMIT)
    page.keyboard.press("Enter")
    assert done(page)["galaxies"]["used"] == 30
    assert page.get_attribute("#weigh-status", "role") == "status"


def test_it_fits_a_phone_and_prints_the_result(page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.click("#weigh-example")
    done(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(media="print")
    assert not page.is_visible("#weigh-form") and not page.is_visible("#weigh-save")
    for shown in ("numbers", "phase-space", "posterior"):
        assert page.is_visible(f"#weigh-{shown}")
    assert page.locator("svg[role=img][aria-label]").count() == 2
