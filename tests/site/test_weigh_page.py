"""The page that weighs a cluster, in a browser: what it finds is what the package finds, and no table can harm it.

Where Chromium or Playwright is missing, tests are skipped with the reason, but fail on CI.
"""

import gzip
import html
import io
import json
import re
import shutil
from pathlib import Path

import browser
import numpy as np
import pytest
import small_cluster
import yaml
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

from cluster_tools import paths
from cluster_tools.book import web
from cluster_tools.coma import survey
from cluster_tools.cosmology import COMA_REDSHIFT
from cluster_tools.cosmology import SPEED_OF_LIGHT as C
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import observe
from cluster_tools.sky import positions
from cluster_tools.weighing import galaxy_table, one_cluster, selection, survey_effects, survey_estimate
from cluster_tools.weighing.survey_model import SurveyModel

BOOK = Path(__file__).parents[2] / "book"
SAME = 1e-3
SUBMIT = "#weigh-form [type=submit]"
FILL = """([fields, complete]) => { const part = (name) => document.getElementById(`weigh-${name}`);
    for (const [name, text] of Object.entries(fields)) part(name).value = text;
    part("complete").checked = complete;
    part("form").requestSubmit(); }"""
COMA = {"centre": (survey.CENTRE_RA, survey.CENTRE_DEC), "redshift": COMA_REDSHIFT}


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
    return submit(page, table=table, **given)


def submit(page, **given):
    """Fill the form, with an empty field for what is not given, and send it; the keyboard has a test of its own."""
    fields = {name: str(given.get(name, "")) for name in ("ra", "dec", "z", "error", "columns")}
    fields |= {"table": given["table"]} if "table" in given else {}
    page.evaluate(FILL, [fields, given.get("complete", False)])
    return done(page)


def phase_space(n, seed, tilt=0.0):
    rng = np.random.default_rng(seed)
    r_proj = np.abs(rng.normal(0, 0.8, n)) % observe.APERTURE
    return rng.normal(0, 900, n) + tilt * r_proj, r_proj


def text(separator=",", below=(), **columns):
    rows = [[each if isinstance(each, str) else f"{each:.10g}" for each in row] for row in zip(*columns.values())]
    return "\n".join(map(separator.join, [columns, *below, *rows])) + "\n"


# --- the page and the package ---------------------------------------------------------------------


def check_same(found, expected):
    """The page's answer is the package's: numbers to 1e-3, the same words of refusals, warnings and dynamical state."""
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
    assert found["dynamics"] == expected.state["dynamics"]


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
    ra, dec, redshifts = positions(v_los[kept], r_proj[kept], centre_ra=150, centre_dec=-22, redshift=z, seed=number)
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
        told = {"complete": number % 3 == 1}
        known = told if error is None else told | {"error": error}
        found = weigh(page, text(**columns), **place, **known)
        given = {"centre": (place["ra"], place["dec"]), "redshift": place["z"], "velocity_error": error} | told
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
    found = weigh(page, text(v_los=v_los, r_proj=r_proj), z=0.05)
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
    check_same(found, one_cluster.weigh(columns, **COMA, model=model))
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
    check_same(found, one_cluster.weigh(paths.PACKAGE_DATA / "desi_coma.csv", **COMA, model=model))


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
    placed = positions(v_los, r_proj, centre_ra=ra, centre_dec=dec, redshift=z, seed=1)
    columns = dict(zip(("ra", "dec", "z"), placed))
    columns = {name: np.array([float(f"{value:.10g}") for value in column]) for name, column in columns.items()}
    found = weigh(page, text(RA=columns["ra"], Dec=columns["dec"], zspec=columns["z"]))
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


# --- tables as people write them ------------------------------------------------------------------

N = 40
PLAIN = {k: np.array([float(f"{x:.10g}") for x in v]) for k, v in small_cluster.table(14.8, N).items()}
CZ, KMS = C * PLAIN["z"], np.linspace(30, 70, N)


def with_cell(cell):
    columns = {name: PLAIN[name].astype(object) for name in ("ra", "dec", "z")}
    columns["z"][5] = cell
    return text(**columns)


def written(form, table):
    out = io.StringIO()
    Table(table).write(out, format=form)
    return out.getvalue()


def tables():
    """Texts that the package reads, refuses or warns of, by their point."""
    ra, dec, z = (PLAIN[name] for name in ("ra", "dec", "z"))
    sky, place = SkyCoord(ra, dec, unit="deg"), {"ra": ra, "dec": dec}
    good = place | {"z": z}
    twice = {name: np.r_[column, column[:9]] for name, column in good.items()}
    twice["z"][N:] -= 0.01
    repeats = {"ZWARN": (0, 4), "spectype": ("GALAXY", "STAR"), "Q": ("A", "D"), "nq": (4, 1), "e_z": (1e-4, 1e-2)}
    apart = {name: np.r_[column, column[:20]] for name, column in good.items()}
    apart["ra"][N:], apart["dec"][N:] = apart["ra"][N:] + 1e-4, apart["dec"][N:] + 2e-4  # 0.32 and 0.72 arcsec
    v_los, r_proj = np.random.default_rng(1).uniform([[-3700], [0.1]], [[3700], [2.2]], (2, 25))
    field = dict(zip(good, positions(v_los, r_proj, centre_ra=5, centre_dec=5, redshift=0.05, seed=1)))
    other = {name: np.r_[column, column] for name, column in good.items()}
    other["dec"][N:] += 0.002
    other["z"][N:] += 0.04
    units = [("deg", "deg", "km/s", "km/s"), ("---",) * 4]
    mixed = np.where(np.arange(N) % 2, z, CZ)
    hms, unicode = sky.ra.to_string("hour", precision=6), str.maketrans("hms", "\u02b0\u1d50\u02e2")
    return {
        "units in names": text(**{"RA (deg)": ra, "Dec [arcmin]": 60 * dec, "cz [m/s]": 1e3 * CZ, "e_cz [m/s]": KMS}),
        "units below": text("\t", units, _RAJ2000=ra, _DEJ2000=dec, HRV=CZ, e_HRV=KMS),
        "units in brackets": text(below=[("[deg]", "(deg)", "%", "%")], RA=ra, Dec=dec, z=100 * z, zerr=KMS * 100 / C),
        "suffixes": text("|", ra_deg=ra, dec_deg=dec, cz_kms=CZ, cz_err_kms=KMS),
        "small errors of velocities": text(ra=ra, dec=dec, cz=CZ, e_cz=KMS / 200),
        "decimal commas": text(";", **good).replace(".", ","),
        "markdown": "| " + text("|", [("---", ":---", "---")], **good).strip().replace("\n", " |\n| ") + " |",
        "title": "Galaxies\n\n" + text(**good), "byte order mark": "\ufeff" + text(**good),
        "spaces": text("  ", **good), "names in a comment": "# " + text("\t", **good),
        "quotes": text(name=[f'"Abell, ""{i}"""' for i in range(N)], **{f'"{name}"': good[name] for name in good}),
        "lines of Windows": written("ascii.ecsv", good).replace("\n", "\r\n"),
        "angles": text(ra=hms, dec=sky.dec.to_string("deg", sep=" ", precision=5), z=z),
        "signs": text(ra=[each.translate(unicode) for each in hms], dec=dec, z=z),
        "parts": text(RAh=sky.ra.hms.h, RAm=sky.ra.hms.m, RAs=sky.ra.hms.s, DEd=dec, z=z),
        "hours": text(ra=ra / 15, dec=dec, z=z),
        "hours by unit": text(below=[("h", "deg", "")], ra=ra / 15, dec=dec, z=z),
        "ecsv": written("ascii.ecsv", {"ra": ra * u.deg, "dec": dec, "v": CZ * u.km / u.s, "v_err": KMS * u.km / u.s}),
        "ipac": written("ascii.ipac", place | {"cz": CZ, "e_cz": KMS}),
        "mrt": written("ascii.mrt", {"RAdeg": ra * u.deg, "DEdeg": dec * u.deg, "cz": CZ * u.km / u.s}),
        "repeats nearby": text(**apart), "a few galaxies of a field": text(**field),
        "two clusters": text(**other), "linear masses": text(**good, mstar=10 ** PLAIN["log_mstar"]),
        "magnitudes": text(**good, g=np.full(N, 15.0), r=np.where(np.arange(N) % 5, 14.2, 99.0)),
        "velocities": text(**place, z=CZ), "mixed": text(**place, z=mixed), "v": text(**place, v=CZ),
        "no z": text(**place), "no names": text(**good).split("\n", 1)[1], "short": "a b c\n1 2\n",
        "another unit": text(below=[("furlong", "deg", "")], ra=ra, dec=dec, z=z),
        "nothing": text(ra=[""], dec=[""], z=["1"]),
        "comments after blanks": text(" ", **good).replace("\n", "  # a, b\n").replace("z  # a, b", "z", 1),
        "comments after commas": text(ra=ra, z=[f"{each}:" for each in z], dec=[f'{each} # 2" #x' for each in dec]),
        "signs in names": text(**good, name=[f'"{i} #1"' for i in range(N)], last=[f"A #{i}" for i in range(N)]),
        "cut by a comment": text(**good) + "194.9,27.9 # no z",
        "latex": written("ascii.latex", good),
        "rows of latex": text(" & ", **{"R.A.": ra, "Decl.": [f"$-${each}" for each in dec], r"$cz$ (km s$^{-1}$) \\":
                              [rf"{each:.1f}$\pm$30$^{{a}}$ \\ \hline" for each in CZ]}),
        "thousands": text("\t", ["deg\tdeg\tkm s^-1".split("\t")], ra=ra, dec=dec, v=[f"{each:,.1f}" for each in CZ]),
        "thousands or decimals": text(";", **good, g=["15,123"] * N, r=["14,123"] * N),
        "names between tabs": text(" ", **good).replace(" ", "\t", 2), "names again": 2 * text(**good),
        "row numbers": "ra dec z" + "".join(f"\n{i} {row}" for i, row in enumerate(text(" ", **good).splitlines()[1:])),
        "hyperleda": text("|", al2000=ra / 15, de2000=dec, vhelio=[f"{each:.0f} (30)" for each in CZ]),
        "bytes": text(**{f"p.{name}": [f"b'{each}'" for each in column] for name, column in good.items()}),
        "units after blanks": text(" ", **{"RA (°)": ra, "Dec [deg]": dec, "Vel (KM/S)": CZ}),
        "tst": "Simple TST\n\n" + text("\t", [("--",) * 3], **good) + "[EOD]\n",
        "commas below blanks": "ra dec z\n" + text(**good).split("\n", 1)[1],
        "blanks below a comment with commas": "# ra, dec, z\n" + text(" ", **good).split("\n", 1)[1],
        "numbers of R": '"ra" "dec" "z"\n' + text(" ", i=[f'"{i}"' for i in range(1, N + 1)], **good).split("\n", 1)[1],
        "single quotes": text(**{f"'{name}'": [f"'{each}'" for each in good[name]] for name in good}),
        "aastex": written("ascii.aastex", place | {"cz": CZ}), "rst": written("ascii.rst", good),
        "errors": text(ra=[f"{x}°" for x in ra], dec=[f"–{x}" for x in dec], cz=[f"{x} ± 30" for x in CZ]),
        "another unit of cz": text(below=[("deg", "deg", "furlong/s")], ra=ra, dec=dec, cz=CZ),
        **{f"repeats by {name}": text(**twice, **{name: [a] * N + [b] * 9}) for name, (a, b) in repeats.items()},
        **{f"a cell of {cell!r}": with_cell(cell) for cell in ("null", ":", "0", "-99", "", "0.02:", "x", "-- #")},
    }  # fmt: skip


def test_tables_as_they_are_give_the_same_as_the_package(page, model, tmp_path):
    """The same galaxies, masses, dynamical states, warnings and refusals."""
    for name, content in tables().items():
        file = tmp_path / "a.txt"
        file.write_text(content)
        found = weigh(page, content)
        try:
            expected = one_cluster.weigh(file, model=model)
        except ClusterToolsError as refusal:
            assert found == str(refusal).replace(repr(str(file)), "'the table'"), name
            continue
        assert isinstance(found, dict), (name, found)
        check_same(found, expected)
        assert found["galaxies"]["used"] == len(expected.observation.v_los), name
        assert sum(found["galaxies"]["rejected"].values()) == sum(expected.observation.rejected.values()), name
        if not expected.refusal:
            assert found["dynamics"] in page.inner_text("#weigh-numbers")


@pytest.mark.parametrize(("ra", "dec"), [("12:59:48", "+27 58 48"), ("12h59m48s", "27,98"), ("-165.05", "27d58m48s")])
def test_centres_are_numbers_or_angles(page, ra, dec):
    found = weigh(page, text(**{name: PLAIN[name] for name in ("ra", "dec", "z")}), ra=ra, dec=dec)["centre"]
    assert (found["ra"], found["dec"]) == pytest.approx((194.95, 27.98), abs=1e-9)


def test_columns_are_given_as_to_the_package(page, model):
    columns = {"R.A.": PLAIN["ra"], "Y": PLAIN["dec"], "Velo": CZ, "DV": KMS / C, "z": PLAIN["z"] + 0.01}
    content, place = text(**columns), {"ra": "R.A.", "dec": "Y"}
    for given in (place, place | {"cz": "Velo"}, place | {"cz": "Velo", "error": "DV"}, {"z": "no"}, {"mass": "z"}):
        found = weigh(page, content, columns=", ".join(f"{name}={column}" for name, column in given.items()))
        try:
            check_same(found, one_cluster.weigh(columns, columns=given, model=model))
        except ClusterToolsError as refusal:
            assert found == str(refusal)
    assert "such as z=ZBEST" in weigh(page, content, columns="ZBEST")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "gzip"])
def test_files_are_read_in_any_encoding(page, tmp_path, encoding):
    content = text(**{name: PLAIN[name] for name in ("ra", "dec", "z")}, **{"r\xe9f": ["\xe9"] * N})
    data = gzip.compress(content.encode()) if encoding == "gzip" else content.encode(encoding)
    (tmp_path / "a.csv").write_bytes(data)
    page.set_input_files("#weigh-file", tmp_path / "a.csv")
    page.locator("#weigh-source", has_text="a.csv").wait_for()
    assert done(page)["galaxies"]["used"] == weigh(page, content)["galaxies"]["used"] > 30
    if encoding == "gzip":
        (tmp_path / "b.csv").write_bytes(data[:60])
        page.set_input_files("#weigh-file", tmp_path / "b.csv")
        page.locator("#weigh-status", has_text="b.csv is damaged").wait_for()


# --- bad tables -----------------------------------------------------------------------------------

BAD = {
    "": "empty",
    "# ra dec z\n# 1 2 3": "no galaxy",
    "v_los,r_proj\n100,0.1\nfast,0.2": "'v_los', is not numeric (found 'fast' in row 2)",
    "v_los,r_proj\nnan,0.1": "no galaxy with v_los and r_proj",
    "SIMPLE  =  T": "is FITS, VOTable or no text",
    "ra,dec,cz\n194.9,27.9,6925": "1 of 1 galaxies can be used, but at least 8",
    "v_los,r_proj\n" + "".join(f"{100 * i},{i}e3\n" for i in range(1, 20)): "comoving Mpc/h, not kpc/h",
    "v_los,r_proj\n" + "".join(f"{1000 * i},{0.1 * i}\n" for i in range(1, 20)): "at 3785 km/s or more",
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
    junk = ["null,nan,1", "nan,inf,-inf", ",,", "1e999,0.5,x", "5000,0.5,x", "0,99,x", '"', "--,...,\\u0000"]
    rows += [junk[i % len(junk)] for i in range(90_000)]
    text = "\n".join([f"v_los,r_proj,{html_cell}", *rows])
    page.evaluate("([text]) => { document.getElementById('weigh-table').value = text; }", [text])
    page.click(SUBMIT)
    assert page.evaluate("1 + 1") == 2  # the page answers while its worker works
    found = done(page)
    assert found["galaxies"]["rows"] == 100_000
    assert found["galaxies"]["used"] == (np.abs(v_los) < observe.VELOCITY_CUT).sum()
    assert page.title() == "Weigh" and page.locator("main img").count() == 0
    for bad in (f"ra,dec,{html_cell}\n1,2,3", f"ra,dec,z\n1,2,{html_cell}"):
        said = weigh(page, bad)
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
    page.keyboard.insert_text(text(v_los=v_los, r_proj=r_proj))
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    fields = (f"weigh-{name}" for name in ("file", "ra", "dec", "z", "error", "columns", "complete"))
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
