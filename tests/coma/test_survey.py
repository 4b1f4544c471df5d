"""Coma's samples: DESI as shipped, tables of a user with their faults, SDSS from a server that misbehaves."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from skyserver import ERROR_PAGE, csv_answer, skyserver

from cluster_tools import ClusterToolsError, paths, tables
from cluster_tools.coma import survey
from cluster_tools.cosmology import COMA_REDSHIFT
from cluster_tools.mocks import kde

SDSS_FIELD = Path(
    os.environ.get("CLUSTER_TOOLS_TEST_SDSS")
    or Path(__file__).resolve().parents[3] / "shared" / "data" / "coma" / "sdss_coma_field.csv"
)
needs_sdss = pytest.mark.skipif(
    not SDSS_FIELD.is_file(),
    reason="the SDSS table of the Coma field is not shipped: set CLUSTER_TOOLS_TEST_SDSS to its path",
)


def field():
    """60 galaxies inside Coma's cylinder, with masses above the cut."""
    rng = np.random.default_rng(5)
    ra, dec = np.array([[survey.CENTRE_RA], [survey.CENTRE_DEC]]) + rng.uniform(-1, 1, (2, 60))
    z, log_mstar = COMA_REDSHIFT + rng.uniform(-0.008, 0.008, 60), rng.uniform(9.6, 11.5, 60)
    return Table([ra, dec, z, log_mstar], names=("ra", "dec", "z", "log_mstar"))


galaxies = pytest.fixture(field)
ROWS = [(*map(float, row), 60) for row in field()]


@pytest.fixture
def write(tmp_path):
    """Write a table, or text, and give back the path."""

    def write(content, name="galaxies.ecsv"):
        path = tmp_path / name
        content.write(path, overwrite=True) if isinstance(content, Table) else path.write_text(content)
        return path

    return write


def test_desi_sample():
    # Counts and dispersions: data/README.md.
    sample, cylinder = survey.load_sample(), survey.load_sample("desi", min_log_mstar=None)
    assert (len(sample), len(cylinder)) == (541, 978)
    assert [np.std(each["v_los"], ddof=1) for each in (sample, cylinder)] == pytest.approx([954, 1012], abs=0.5)
    assert sample.colnames == ["ra", "dec", "z", "log_mstar", "v_los", "r_proj"]
    assert [str(sample[name].unit) for name in ("ra", "v_los", "r_proj")] == ["deg", "km / s", "Mpc / littleh"]
    assert sample["r_proj"].max() <= 2.3 and np.abs(sample["v_los"]).max() < 3785 and sample["log_mstar"].min() >= 9.5
    assert (sample.meta["n_field"], sample.meta["n_cylinder"], sample.meta["min_log_mstar"]) == (1118, 978, 9.5)
    # J2000 position and heliocentric velocity (7362 km/s) of NGC 4839, the heaviest, from NED. The two giants of
    # the centre, NGC 4889 and NGC 4874, are not in the DESI table (data/README.md).
    heaviest = sample[sample["log_mstar"].argmax()]
    assert [heaviest["ra"], heaviest["dec"]] == pytest.approx([194.3515, 27.4977], abs=1e-3)
    assert 299792.458 * heaviest["z"] == pytest.approx(7362, abs=50) and 11.3 < heaviest["log_mstar"] < 12


@needs_sdss
def test_sdss_field_and_desi_agree():
    cylinder = survey.load_sample(SDSS_FIELD, min_log_mstar=None)
    # The table's own description counts 872, within 1.913 deg; one of them is 14 pc/h beyond 2.3 Mpc/h.
    assert len(cylinder) == 871 and np.std(cylinder["v_los"], ddof=1) == pytest.approx(1035.6, abs=0.5)
    desi, sdss = tables.read_galaxies(paths.PACKAGE_DATA / "desi_coma.csv"), tables.read_galaxies(SDSS_FIELD)
    places = [SkyCoord(each["ra"], each["dec"], unit="deg") for each in (desi, sdss)]
    nearest, apart, _ = places[0].match_to_catalog_sky(places[1])
    common = apart < 3 * u.arcsec
    difference = 299792.458 * (desi["z"] - sdss["z"][nearest])[common]
    assert common.sum() == 886 and np.abs(difference).max() < 200
    assert 1.4826 * np.median(np.abs(difference - np.median(difference))) == pytest.approx(12, abs=0.5)
    assert np.median((desi["mag_r"] - sdss["mag_r"][nearest])[common]) == pytest.approx(-0.14, abs=0.01)


def test_sdss_image_is_an_image():
    image, facts = survey.sdss_image()
    assert image.shape == (48, 48) and image.sum() == pytest.approx(1, abs=1e-4) and (image >= 0).all()
    radius = image.sum(axis=0) @ kde.r_proj_grid()  # the mean of a skewed profile lies above its median
    assert facts["median_r_proj"] < radius < 1.2 and facts["galaxies"] == 529


@needs_sdss
def test_sdss_image_is_that_of_the_field():
    sample, (image, facts) = survey.load_sample(SDSS_FIELD), survey.sdss_image()
    v_los, r_proj = sample["v_los"].value, sample["r_proj"].value
    made = kde.phase_space_images(v_los, r_proj, [0, len(sample)])[0]
    np.testing.assert_allclose(image, made, rtol=6e-4, atol=1e-30)
    expected = {"galaxies": len(sample), "dispersion": np.std(v_los, ddof=1), "median_r_proj": np.median(r_proj)}
    assert facts == pytest.approx(expected | {"beyond_1.9": np.mean(r_proj > 1.9)}, rel=1e-5)


def test_default_sample_is_the_environment_s(monkeypatch, galaxies, write):
    monkeypatch.delenv("CLUSTER_TOOLS_COMA_SAMPLE", raising=False)
    assert len(survey.load_sample(None)) == 541
    monkeypatch.setenv("CLUSTER_TOOLS_COMA_SAMPLE", str(write(galaxies)))
    assert len(survey.load_sample(None)) == 60 and len(survey.load_sample("desi")) == 541


# Tables of a user


def test_fluxes_and_magnitudes_give_the_same_masses(galaxies, write):
    del galaxies["log_mstar"]
    galaxies["mag_g"], galaxies["mag_r"] = 15.7, 15.0
    magnitudes = survey.load_sample(write(galaxies, "mag.csv"))
    galaxies["flux_g"], galaxies["flux_r"] = 10 ** (0.4 * (22.5 - 15.7)), 1000.0
    fluxes = write(galaxies["ra", "dec", "z", "flux_g", "flux_r"], "flux.ecsv")
    sample = survey.load_sample(fluxes)
    np.testing.assert_allclose(sample["log_mstar"], magnitudes["log_mstar"], rtol=1e-12)
    assert "Bell" in sample.meta["source"]


@pytest.mark.parametrize(
    ("column", "unit", "good"),
    [
        *(("log_mstar", unit, True) for unit in ("dex", "dex(solMass)", "log10(M_sun)", "[Msun]")),
        *(("mag_r", unit, True) for unit in ("mag(AB)", "AB mag")),
        *(("log_mstar", unit, False) for unit in ("solMass", "dex(kg)", "dex(solMass / littleh2)", "log(Msun/h)")),
        *(("mag_r", unit, False) for unit in ("nmgy", "mag(ST)", "Vega")),
        *(("z", unit, False) for unit in ("km/s", "dex", "c")),
        ("flux_r", "Jy", False),
    ],
)
def test_only_the_right_unit_passes_however_it_is_spelt(galaxies, write, column, unit, good):
    photometry = {"mag_r": {"mag_g": 15.7, "mag_r": 15.0}, "flux_r": {"flux_g": 15.7, "flux_r": 15.0}}
    if column in photometry:
        del galaxies["log_mstar"]
    for name, value in photometry.get(column, {}).items():
        galaxies[name] = value
    # Written by hand: Table.write would put some of these units in another form.
    plain = write(galaxies)
    path = write(plain.read_text().replace(f"name: {column},", f"name: {column}, unit: '{unit}',"), "unit.ecsv")
    if good:
        masses = [survey.load_sample(each)["log_mstar"] for each in (path, plain)]
        np.testing.assert_array_equal(*masses)
    else:
        with pytest.raises(ClusterToolsError, match=f"unit.ecsv.*column '{column}', is in .*convert the column"):
            survey.load_sample(path)


def test_without_masses_only_without_the_cut(galaxies, write):
    path = write(galaxies["ra", "dec", "z"])
    with pytest.raises(ClusterToolsError, match="mag_g and mag_r.*flux_g.*min_log_mstar=None"):
        survey.load_sample(path)
    assert np.isnan(survey.load_sample(path, min_log_mstar=None)["log_mstar"]).sum() == 60
    assert len(survey.load_sample(write(galaxies[:11]))) == 11
    galaxies["log_mstar"][3:6] = [np.nan, -99, 99]  # not measured, as some catalogues write it
    assert np.isnan(survey.load_sample(write(galaxies), min_log_mstar=None)["log_mstar"]).sum() == 3


@pytest.mark.parametrize(
    ("column", "value", "rows", "message"),
    [
        ("z", 6900.0, slice(None), "column 'z', has 60 of 60 values out of range.*not velocities"),
        ("z", np.nan, slice(4, 9), "column 'z', has 5 of 60 values missing.*row 5.*drop these rows"),
        ("dec", -91.0, 1, "column 'dec', has 1 of 60 .*from -90 to 90"),
        ("log_mstar", 300.0, slice(None), "column 'log_mstar', has 60 of 60 values out of range.*log10"),
        ("log_mstar", np.nan, 1, "column 'log_mstar', has 1 of 60 values missing.*min_log_mstar=None"),
        ("ra", 12.997, slice(10, None), "10 in the cylinder .*10 of them with log_mstar >= 9.5.*at least 11"),
        ("ra", 12.997, slice(None), "60 galaxies, 0 in the cylinder.*check the units"),
    ],
)
def test_bad_tables_get_one_sentence(galaxies, write, column, value, rows, message):
    galaxies[column][rows] = value
    path = write(galaxies)
    with pytest.raises(ClusterToolsError, match=message) as raised:
        survey.load_sample(path)
    text = str(raised.value)
    assert path.name in text and "\n" not in text and text.endswith(".")


@pytest.mark.parametrize(
    ("sample", "cut", "message"),
    [
        *((name, 9.5, "neither") for name in ("DESI", "a" * 5000, "nul\0.csv", " ")),
        (7, 9.5, "coma_sample=7"),
        (".", 9.5, "a directory"),
        ("desi", "9.5", "min_log_mstar='9.5'"),
        ("desi", 13, "0 of them with log_mstar >= 13"),
    ],
)
def test_bad_names_of_samples_and_bad_cuts(sample, cut, message):
    with pytest.raises(ClusterToolsError, match=message):
        survey.load_sample(sample, min_log_mstar=cut)


# SDSS, from a local server


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and no proxy between us and the local server."""
    monkeypatch.setenv("CLUSTER_TOOLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


def test_sdss_answer_is_used_and_cached(galaxies, cache):
    with skyserver(csv_answer(ROWS)) as server:
        samples = [survey.load_sample("sdss", release=release) for release in (12, 12, 17)]
        assert [request.path[:6] for request in server.requests] == ["/dr12/", "/dr17/"]  # once from the cache
    assert server.requests[0].query["format"] == "csv"
    assert server.requests[0].query["cmd"].split() == survey.sdss_query().split()
    for column in galaxies.colnames:
        np.testing.assert_array_equal(samples[1][column], galaxies[column])
    assert "SDSS DR12" in samples[1].meta["source"] and samples[1].meta["query"] == survey.sdss_query()
    assert sorted(p.name for p in cache.iterdir()) == ["sdss_coma_dr12.ecsv", "sdss_coma_dr17.ecsv"]
    assert len(survey.load_sample("sdss")) == 60  # with no server at all


def test_the_query_covers_the_cylinder_and_little_more():
    limits = re.findall(r"s\.(\w+) BETWEEN ([\d.]+) AND ([\d.]+)", survey.sdss_query())
    box = {name: (float(low), float(high)) for name, low, high in limits}
    # The rim of the cylinder: a circle of 2.3 Mpc/h (1.9129 deg), and the redshifts of 3785 km/s.
    centre = SkyCoord(194.95, 27.98, unit="deg")
    rim = centre.directional_offset_by(np.linspace(0, 360, 721) * u.deg, 1.9129 * u.deg)
    for name, values in (("ra", rim.ra.deg), ("dec", rim.dec.deg), ("z", [0.0102, 0.0360])):
        low, high = box[name]
        assert low < min(values) and max(values) < high
        assert high - low < 1.02 * np.ptp(values)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("sent '<html><head> <title>Skyserver Error", {"body": ERROR_PAGE}),
        ("HTTP status 500", {"body": ERROR_PAGE, "status": 500}),
        ("no whole answer .ChunkedEncodingError", {"body": csv_answer(ROWS), "cut": 900}),
        ("no whole answer .ReadTimeout", {"silent": True}),
        ("sent 20 rows, not as many as it counted", {"body": csv_answer(ROWS[:20]), "declare_length": False}),
        ("sent", {"body": csv_answer(ROWS)[:-2], "declare_length": False}),  # of 60 rows in the last one only "6"
        ("10 galaxies with 10 in the cylinder", {"body": csv_answer([(*row[:4], 10) for row in ROWS[:10]])}),
        ("sent values .*no rows", {"body": csv_answer([])}),
        ("sent ''", {"body": ""}),
        ("sent '#Table1 ra,dec,z,logMass,rows 19", {"body": csv_answer(ROWS, "ra,dec,z,logMass,rows")}),
        ("not numeric", {"body": csv_answer([("x", *row[1:]) for row in ROWS])}),
    ],
)
def test_a_server_that_misbehaves(message, options, cache):
    with skyserver(**options) as server, pytest.raises(ClusterToolsError, match=message) as raised:
        survey.load_sample("sdss")
    text = str(raised.value)
    assert f"SDSS DR12 at {server.url}" in text and "\n" not in text
    assert "release=17" in text and 'coma_sample="desi"' in text
    assert not cache.exists()


@pytest.mark.parametrize("change", [
    lambda lines: lines[:-5], lambda lines: [*lines[:-1], lines[-1].replace("19", "18", 1)], lambda lines: ["\x00\x01"],
])  # fmt: skip
def test_a_damaged_cache_is_asked_for_again_and_kept_if_that_fails(change, cache):
    with skyserver(csv_answer(ROWS)):
        survey.load_sample("sdss")
    path = cache / "sdss_coma_dr12.ecsv"
    lines = path.read_text().splitlines()
    damaged = "\n".join(change(lines)) + "\n"
    path.write_text(damaged)
    with skyserver(ERROR_PAGE), pytest.raises(ClusterToolsError, match="SDSS DR12"):
        survey.load_sample("sdss")
    assert path.read_text() == damaged and len(list(cache.iterdir())) == 1
    with skyserver(csv_answer(ROWS)) as server:
        assert len(survey.load_sample("sdss")) == 60 and len(server.requests) == 1
    assert path.read_text().splitlines() == lines
