"""The real Coma: geometry, stellar masses, samples, and every way in which a table can be bad."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from skyserver import ERROR_PAGE, csv_answer, skyserver

from cluster_tools import ClusterToolsError, paths, tables
from cluster_tools.coma import survey
from cluster_tools.cosmology import COMA_REDSHIFT

DESI = paths.PACKAGE_DATA / "desi_coma.csv"
SDSS_FIELD = Path(
    os.environ.get("CLUSTER_TOOLS_TEST_SDSS")
    or Path(__file__).resolve().parents[3] / "shared" / "data" / "coma" / "sdss_coma_field.csv"
)
needs_sdss = pytest.mark.skipif(
    not SDSS_FIELD.is_file(),
    reason="the SDSS table of the Coma field is not shipped: set CLUSTER_TOOLS_TEST_SDSS to its path",
)


def dispersion(v_los):
    return np.std(v_los, ddof=1)


@pytest.fixture
def galaxies():
    """60 galaxies inside Coma's cylinder, with masses above the cut."""
    rng = np.random.default_rng(5)
    return Table(
        {
            "ra": survey.CENTRE_RA + rng.uniform(-1, 1, 60),
            "dec": survey.CENTRE_DEC + rng.uniform(-1, 1, 60),
            "z": COMA_REDSHIFT + rng.uniform(-0.008, 0.008, 60),
            "log_mstar": rng.uniform(9.6, 11.5, 60),
        }
    )


@pytest.fixture
def write(tmp_path):
    """Write a table, or raw bytes, and give back the path."""

    def write(content, name="galaxies.ecsv"):
        path = tmp_path / name
        if isinstance(content, Table):
            content.write(path, overwrite=True)
        else:
            path.write_bytes(content)
        return path

    return write


# --- geometry and masses ---------------------------------------------------------------------------


def test_observables_against_numbers_by_hand():
    # Comoving distance in flat LCDM to third order in z, with q0 = 1.5 Om - 1 = -0.55 and jerk 1:
    # (c/100) [z - (1 + q0) z^2 / 2 + (2 + 4 q0 + 3 q0^2 - 1) z^3 / 6], here 68.890 Mpc/h.
    z, q0 = 0.0231, -0.55
    distance = 2997.92458 * (z - (1 + q0) / 2 * z**2 + (1 + 4 * q0 + 3 * q0**2) / 6 * z**3)
    # Due north by 1 deg, due south by 1.913 deg, and 1 deg of right ascension at the centre's declination,
    # from the haversine formula.
    haversine = 2 * np.arcsin(np.cos(np.radians(27.98)) * np.sin(np.radians(0.5)))
    ra, dec = [194.95, 194.95, 195.95], [28.98, 27.98 - 1.913, 27.98]
    v_los, r_proj = survey.observables(ra, dec, [0.0231, 0.0102, 0.0360])
    expected = distance * np.array([np.pi / 180, 1.913 * np.pi / 180, haversine])
    np.testing.assert_allclose(r_proj, expected, rtol=2e-6)
    np.testing.assert_allclose(r_proj[1], 2.3, atol=2e-4)  # facts: 2.3 Mpc/h is 1.913 deg
    np.testing.assert_allclose(v_los, [0, -3780.0, 3780.0], atol=0.5)  # facts: the window in redshift


def test_observables_across_the_meridian_and_at_a_pole():
    _, r_proj = survey.observables([359.5], [0.0], [0.05], centre_ra=0.5, centre_dec=0.0, redshift=0.05)
    _, r_north = survey.observables([123.0], [89.0], [0.05], centre_ra=0.0, centre_dec=90.0, redshift=0.05)
    np.testing.assert_allclose(r_proj, r_north, rtol=1e-12)


def test_rotating_the_sky_about_the_line_of_sight_changes_nothing(galaxies):
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    centre = SkyCoord(survey.CENTRE_RA, survey.CENTRE_DEC, unit="deg")
    sky = SkyCoord(galaxies["ra"], galaxies["dec"], unit="deg")
    turned = centre.directional_offset_by(centre.position_angle(sky) + 73 * u.deg, centre.separation(sky))
    v_los, r_proj = survey.observables(galaxies["ra"], galaxies["dec"], galaxies["z"])
    v_turned, r_turned = survey.observables(turned.ra.deg, turned.dec.deg, galaxies["z"])
    np.testing.assert_allclose(r_turned, r_proj, atol=1e-9)
    np.testing.assert_array_equal(v_turned, v_los)


def test_stellar_mass_by_hand():
    # g - r = 0.75, r = 16: distance modulus 35.0149 (100.69 Mpc), K-correction 0.0248, so M_r = -19.0397;
    # log L = 0.4 (4.65 + 19.0397) = 9.4759; log M/L = -0.306 + 0.8228 - 0.15 = 0.3668.
    assert survey.stellar_mass(16.75, 16.0) == pytest.approx(9.8426, abs=2e-4)
    # 2.5 mag fainter at the same colour is 1 dex, 0.1 mag redder at the same r is 0.1097 dex.
    assert survey.stellar_mass(16.75, 16.0) - survey.stellar_mass(19.25, 18.5) == pytest.approx(1)
    assert survey.stellar_mass(16.85, 16.0) - survey.stellar_mass(16.75, 16.0) == pytest.approx(0.1097)


# --- the samples ------------------------------------------------------------------------------------


def test_desi_sample():
    # Counts and dispersions: data/README.md.
    cylinder = survey.load_sample("desi", min_log_mstar=None)
    assert len(cylinder) == 978
    assert dispersion(cylinder["v_los"]) == pytest.approx(1012, abs=0.5)
    sample = survey.load_sample()
    assert len(sample) == 541
    assert dispersion(sample["v_los"]) == pytest.approx(954, abs=0.5)
    assert sample.colnames == ["ra", "dec", "z", "log_mstar", "v_los", "r_proj"]
    assert [str(sample[name].unit) for name in ("ra", "v_los", "r_proj")] == ["deg", "km / s", "Mpc / littleh"]
    assert sample["r_proj"].max() <= 2.3 and np.abs(sample["v_los"]).max() < 3785 and sample["log_mstar"].min() >= 9.5
    assert "DESI" in sample.meta["source"]
    assert (sample.meta["n_field"], sample.meta["n_cylinder"], sample.meta["min_log_mstar"]) == (1118, 978, 9.5)


def test_the_heaviest_galaxy_is_ngc_4839():
    # J2000 position and heliocentric velocity (7362 km/s) of NGC 4839 from NED. The two giants of
    # the centre, NGC 4889 and NGC 4874, are not in the DESI table (data/README.md).
    sample = survey.load_sample("desi")
    heaviest = sample[sample["log_mstar"].argmax()]
    assert heaviest["ra"] == pytest.approx(194.3515, abs=1e-3)
    assert heaviest["dec"] == pytest.approx(27.4977, abs=1e-3)
    assert 299792.458 * heaviest["z"] == pytest.approx(7362, abs=50)
    assert 11.3 < heaviest["log_mstar"] < 12


@needs_sdss
def test_sdss_field_and_desi_agree():
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    cylinder = survey.load_sample(SDSS_FIELD, min_log_mstar=None)
    # The table's own description counts 872, within 1.913 deg; one of them is 14 pc/h beyond 2.3 Mpc/h.
    assert len(cylinder) == 871
    assert dispersion(cylinder["v_los"]) == pytest.approx(1035.6, abs=0.5)

    desi, sdss = tables.read_galaxies(DESI), tables.read_galaxies(SDSS_FIELD)
    nearest, apart, _ = SkyCoord(desi["ra"], desi["dec"], unit="deg").match_to_catalog_sky(
        SkyCoord(sdss["ra"], sdss["dec"], unit="deg")
    )
    common = apart < 3 * u.arcsec
    difference = 299792.458 * (desi["z"] - sdss["z"][nearest])[common]
    assert common.sum() == 886
    assert 1.4826 * np.median(np.abs(difference - np.median(difference))) == pytest.approx(12, abs=0.5)
    assert np.abs(difference).max() < 200
    assert np.median((desi["mag_r"] - sdss["mag_r"][nearest])[common]) == pytest.approx(-0.14, abs=0.01)


def test_default_sample_is_the_environment_s(monkeypatch, galaxies, write):
    monkeypatch.delenv("CLUSTER_TOOLS_COMA_SAMPLE", raising=False)
    assert survey.default_sample() == "desi"
    path = write(galaxies)
    monkeypatch.setenv("CLUSTER_TOOLS_COMA_SAMPLE", str(path))
    assert survey.default_sample() == str(path)
    assert len(survey.load_sample(None)) == 60
    assert len(survey.load_sample("desi")) == 541


# --- tables of the user ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["g.csv", "g.ecsv", "g.fits", "g.ecsv.gz", "G.FITS"])
def test_formats_give_the_same_galaxies(galaxies, write, name):
    if name.endswith(".gz"):
        import gzip

        path = write(gzip.compress(write(galaxies).read_bytes()), name)
    elif name == "G.FITS":
        path = write(write(galaxies, "g.fits").read_bytes(), name)
    else:
        path = write(galaxies, name)
    sample = survey.load_sample(path)
    for column in galaxies.colnames:
        np.testing.assert_array_equal(sample[column], galaxies[column])
    assert name in sample.meta["source"] and sample.meta["n_field"] == 60


def test_row_order_changes_nothing_but_the_order(galaxies, write):
    order = np.random.default_rng(1).permutation(60)
    one, other = survey.load_sample(write(galaxies)), survey.load_sample(write(galaxies[order], "shuffled.ecsv"))
    for column in one.colnames:
        np.testing.assert_array_equal(one[column][order], other[column])


@pytest.mark.parametrize(
    "names",
    [("RA", "DEC", "Redshift", "logMass"), ("RAJ2000", "DEJ2000", "zspec", "logMstar"), ("ra", "dec", "Z", "MSTAR")],
)
def test_common_names(galaxies, write, names):
    galaxies.rename_columns(galaxies.colnames, names)
    assert len(survey.load_sample(write(galaxies, "g.csv"))) == 60


def test_a_magnitude_called_z_is_not_the_redshift(galaxies, write):
    galaxies.rename_column("z", "redshift")
    galaxies["z"] = 15.5
    assert len(survey.load_sample(write(galaxies))) == 60


def test_fluxes_and_magnitudes_give_the_same_masses(galaxies, write):
    del galaxies["log_mstar"]
    galaxies["mag_g"], galaxies["mag_r"] = 15.7, 15.0
    magnitudes = survey.load_sample(write(galaxies, "mag.csv"))
    galaxies["flux_g"], galaxies["flux_r"] = 10 ** (0.4 * (22.5 - 15.7)), 1000.0
    fluxes = survey.load_sample(write(galaxies["ra", "dec", "z", "flux_g", "flux_r"], "flux.csv"))
    np.testing.assert_allclose(fluxes["log_mstar"], magnitudes["log_mstar"], rtol=1e-12)
    assert "Bell" in fluxes.meta["source"]


def test_units_of_the_table_are_honoured(galaxies, write):
    expected = survey.load_sample(write(galaxies))
    galaxies["ra"] /= 15
    galaxies["ra"].unit = "hourangle"
    galaxies["dec"] = np.radians(galaxies["dec"])
    galaxies["dec"].unit = "rad"
    sample = survey.load_sample(write(galaxies, "units.ecsv"))
    np.testing.assert_allclose(sample["r_proj"], expected["r_proj"], rtol=1e-9)


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        *(("log_mstar", unit) for unit in (None, "", "dex", "dex(Msun)", "dex(solMass)", "dimensionless")),
        *(("log_mstar", unit) for unit in ("log(solMass)", "log10(Msun)", "log10(M_sun)", "[Msun]", "log Msun")),
        *(("mag_r", unit) for unit in (None, "mag", "mag(AB)", "ABmag", "AB mag")),
        *(("z", unit) for unit in ("redshift", "")),
    ],
)
def test_spellings_of_the_right_unit(galaxies, write, column, unit):
    galaxies["mag_g"], galaxies["mag_r"] = 15.7, 15.0
    if column == "mag_r":
        del galaxies["log_mstar"]
    expected = survey.load_sample(write(galaxies))
    # Written by hand: Table.write would put some of these units in another form.
    text = write(galaxies).read_text()
    entry = f"{{name: {column}, datatype: float64}}"
    assert entry in text
    spelt = entry if unit is None else entry.replace("}", f", unit: '{unit}'}}")
    sample = survey.load_sample(write(text.replace(entry, spelt).encode(), "spelt.ecsv"))
    for name in sample.colnames:
        np.testing.assert_array_equal(sample[name], expected[name])


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        *(("log_mstar", unit) for unit in ("kg", "solMass", "Msun", "dex(kg)", "dex(solMass / littleh2)", "mag", "%")),
        *(("log_mstar", unit) for unit in ("log(Msun/h)", "1e10 Msun", "dex(1e10 Msun)")),
        *(("mag_r", unit) for unit in ("nmgy", "Jy", "mag(ST)", "dex", "Vega")),
        *(("z", unit) for unit in ("km/s", "dex", "mag", "c")),
        *(("flux_r", unit) for unit in ("Jy", "mag(AB)")),
    ],
)
def test_every_other_unit_is_refused(galaxies, write, column, unit):
    galaxies["mag_g"] = galaxies["mag_r"] = galaxies["flux_g"] = galaxies["flux_r"] = 15.0
    if column != "log_mstar":
        del galaxies["log_mstar"]
    if column == "flux_r":
        galaxies.remove_columns(["mag_g", "mag_r"])
    text = write(galaxies).read_text().replace(f"name: {column},", f"name: {column}, unit: '{unit}',")
    with pytest.raises(ClusterToolsError, match=f"column '{column}', is in .*; expected .*: convert the column"):
        survey.load_sample(write(text.encode(), "wrong.ecsv"))


def test_fluxes_in_logarithms_are_converted_as_such(galaxies, write):
    del galaxies["log_mstar"]
    galaxies["flux_g"], galaxies["flux_r"] = 500.0, 1000.0
    expected = survey.load_sample(write(galaxies))
    galaxies["flux_r"] = 3.0
    text = write(galaxies).read_text().replace("name: flux_r,", "name: flux_r, unit: dex(nmgy),")
    sample = survey.load_sample(write(text.encode(), "dex.ecsv"))
    np.testing.assert_allclose(sample["log_mstar"], expected["log_mstar"], rtol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (",", ";", "ra;dec;z;log_mstar"),
        (",", "\t", "ra.+log_mstar"),
        (",", " ", "ra dec"),
        ("ra,dec", "# ra,dec", "19"),
    ],
)
def test_csv_with_another_delimiter_or_header_is_told_so(galaxies, write, old, new, found):
    text = write(galaxies, "g.csv").read_text().replace(old, new)
    with pytest.raises(ClusterToolsError, match=f"g.csv' has '{found}.*'ra,dec,z,log_mstar', without '#', and commas"):
        survey.load_sample(write(text.encode(), "g.csv"))


def test_csv_with_decimal_commas_is_told_so(write):
    with pytest.raises(ClusterToolsError, match="cannot be read as CSV.*without '#'.*separated by commas"):
        survey.load_sample(write(b"ra;dec;z;log_mstar\n" + 20 * b"194,9;28,0;0,023;10,1\n", "g.csv"))


def test_a_sample_can_be_written_and_read_again(tmp_path):
    sample = survey.load_sample("desi")
    for name in ("again.ecsv", "again.csv"):
        sample.write(tmp_path / name)
        again = survey.load_sample(tmp_path / name)
        np.testing.assert_array_equal(again["v_los"], sample["v_los"])


def test_a_path_is_seen_from_the_project_too(galaxies, write, monkeypatch, tmp_path):
    write(galaxies, "mine.ecsv")
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    assert len(survey.load_sample("mine.ecsv")) == 60


def test_without_masses_only_without_the_cut(galaxies, write):
    path = write(galaxies["ra", "dec", "z"])
    with pytest.raises(ClusterToolsError, match="mag_g and mag_r.*flux_g.*min_log_mstar=None"):
        survey.load_sample(path)
    sample = survey.load_sample(path, min_log_mstar=None)
    assert len(sample) == 60 and np.isnan(sample["log_mstar"]).all()
    galaxies["log_mstar"][3] = np.nan
    galaxies["log_mstar"][4:6] = [-99, 99]  # not measured, as some catalogues write it
    assert np.isnan(survey.load_sample(write(galaxies), min_log_mstar=None)["log_mstar"]).sum() == 3
    galaxies["log_mstar"] = 3e10
    with pytest.raises(ClusterToolsError, match="60 of 60 values out of range .first 3e.10.*log10.*convert the column"):
        survey.load_sample(write(galaxies), min_log_mstar=None)


def change(column, rows, value):
    def edit(galaxies):
        galaxies[column][rows] = value

    return edit


def masked(galaxies):
    galaxies["z"] = MaskedColumn(galaxies["z"], mask=np.arange(60) < 7)


def sexagesimal(galaxies):
    galaxies["ra"] = ["12:59:48.7"] * 60


def velocities(galaxies):
    galaxies["cz"] = 299792.458 * galaxies["z"]
    del galaxies["z"]


def kilometres_a_second(galaxies):
    galaxies["z"] = 299792.458 * galaxies["z"]
    galaxies["z"].unit = "km/s"


def numbers_in_text(galaxies):
    galaxies["z"] = galaxies["z"].astype(str)
    galaxies["z"][:] = "0.0231"


def in_parsec(galaxies):
    galaxies["dec"].unit = "pc"


def linear_mass(galaxies):
    galaxies["log_mstar"] = 10 ** galaxies["log_mstar"]


def vector(galaxies):
    galaxies["z"] = np.ones((60, 2))


def few(galaxies):
    galaxies.remove_rows(slice(10, None))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda g: g.remove_column("z"), "no column of z .*found 'ra', 'dec', 'log_mstar'.*rename"),
        (lambda g: g.remove_column("ra"), "no column of ra"),
        (velocities, "velocities in column 'cz' but no redshifts.*z = cz / 299792.458"),
        (kilometres_a_second, "column 'z', is in 'km / s'; expected redshifts.*convert the column"),
        (change("z", slice(None), 6900.0), "column 'z', has 60 of 60 values out of range.*not velocities"),
        (change("z", 2, -0.9), "column 'z', has 1 of 60 values out of range"),
        (change("z", slice(4, 9), np.nan), "column 'z', has 5 of 60 values missing.*row 5.*drop these rows"),
        (change("dec", 0, np.inf), "column 'dec', has 1 of 60 values missing"),
        (masked, "column 'z', has 7 of 60 values missing"),
        (sexagesimal, "column 'ra', is not numeric .found '12:59:48.7'.; expected degrees.*as a column of numbers"),
        (numbers_in_text, "column 'z', is not numeric .found '0.0231'.; expected redshifts.*as a column of numbers"),
        (change("ra", 1, 361.0), "column 'ra', has 1 of 60 .*from 0 to 360"),
        (change("dec", 1, -91.0), "column 'dec', has 1 of 60 .*from -90 to 90"),
        (in_parsec, "column 'dec', is in 'pc'; expected degrees"),
        (linear_mass, "column 'log_mstar', has 60 of 60 values out of range.*log10"),
        (change("log_mstar", 1, np.nan), "column 'log_mstar', has 1 of 60 values missing.*min_log_mstar=None"),
        (vector, "column 'z', is not numeric .found an array of shape .2,. in each row.*one number a row"),
        (lambda g: g.remove_rows(slice(None)), "no rows"),
        (few, "10 galaxies, 10 in the cylinder .*10 of them with log_mstar >= 9.5.*at least 11"),
        (change("ra", slice(None), 12.997), "60 galaxies, 0 in the cylinder.*check the units"),
    ],
)
def test_bad_tables_get_one_sentence(galaxies, write, edit, message):
    edit(galaxies)
    path = write(galaxies)
    with pytest.raises(ClusterToolsError, match=message) as caught:
        survey.load_sample(path)
    text = str(caught.value)
    assert path.name in text and "\n" not in text and text.endswith(".")


def test_eleven_galaxies_are_enough(galaxies, write):
    assert len(survey.load_sample(write(galaxies[:11]))) == 11


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("sloan", 'neither "desi" nor "sdss" nor a file'),
        ("DESI", "neither"),
        ("nowhere/g.csv", "neither"),
        ("a" * 5000, "neither"),
        ("nul\0.csv", "neither"),
        ("~nobody-of-this-name/g.csv", "neither"),
        (7, "coma_sample=7 is no name"),
        (".", "is a directory"),
        ("", "coma_sample='' is neither"),
        (" ", "coma_sample=' ' is neither"),
    ],
)
def test_samples_that_are_none(sample, message):
    with pytest.raises(ClusterToolsError, match=message):
        survey.load_sample(sample)


def test_a_directory_another_format_and_a_wrong_cut(galaxies, write, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ClusterToolsError, match="is a directory"):
        survey.load_sample(tmp_path / "folder.csv")
    with pytest.raises(ClusterToolsError, match="'' does not exist; give the path"):
        tables.read_galaxies("")
    with pytest.raises(ClusterToolsError, match="no .csv, .ecsv, .fits or .vot file"):
        survey.load_sample(write(b"PK", "galaxies.xlsx"))
    with pytest.raises(ClusterToolsError, match="min_log_mstar='9.5' is no number"):
        survey.load_sample(write(galaxies), min_log_mstar="9.5")
    with pytest.raises(ClusterToolsError, match="0 of them with log_mstar >= 13"):
        survey.load_sample(write(galaxies), min_log_mstar=13)


def bad_files():
    rng = np.random.default_rng(2)
    yield from ((rng.bytes(int(n)), f"noise of {n} bytes") for n in (1, 80, 3000, 20000))
    yield b"", "empty"
    yield b"ra,dec,z,log_mstar\n", "a header only"
    yield b"ra,dec,z,log_mstar\n194.9,28,0.023,10\n194.9,28,0.023,10,11,12\n", "ragged"
    yield b"ra,dec,z,log_mstar\n194.9,28\n", "short rows"
    yield b"ra,dec,z,log_mstar\n" + 20 * b"194.9,28,1" + b"0" * 400 + b",10\n", "huge numbers"
    yield b"ra,dec,z,log_mstar\n" + 20 * b"194.9,28,1e999,10\n", "infinite numbers"
    yield b"ra,dec,z,log_mstar\n194.9,\x00\x00,0.02,10\n", "NUL bytes"
    yield "räktaszension,ζ\n½,①\n".encode(), "unicode"
    yield "ra,dec,z,log_mstar\n".encode("utf-16"), "UTF-16"
    yield b"ra,ra,ra\n,,\n", "repeated names"
    yield b"<html><body>404</body></html>", "HTML"
    yield b"SIMPLE  =                    T" + b" " * 2850, "a header of FITS without an end"
    yield b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: z, datatype: object}\nz\n[]\n", "objects"
    yield b"# %ECSV 1.0\n# ---\n# !!python/object/apply:os.system ['false']\nz\n1\n", "code"


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "ecsv.gz"])
def test_no_file_content_raises_anything_else(write, suffix):
    for content, what in bad_files():
        with pytest.raises(ClusterToolsError) as caught:
            survey.load_sample(write(content, f"bad.{suffix}"))
        assert "\n" not in str(caught.value), what


@pytest.mark.parametrize("name", ["g.csv", "g.ecsv", "g.fits"])
def test_a_table_cut_and_scrambled_anywhere(galaxies, write, name):
    whole = write(galaxies, name).read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(40):
        content = np.frombuffer(whole, np.uint8)[: rng.integers(1, len(whole) + 1)].copy()
        content[rng.integers(len(content), size=3)] = rng.integers(256, size=3)
        try:
            sample = survey.load_sample(write(content.tobytes(), name))
        except ClusterToolsError:
            continue
        assert len(sample) >= 11 and np.isfinite(sample["v_los"]).all()


# --- SDSS, from a local server ----------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and no proxy between us and the local server."""
    monkeypatch.setenv("CLUSTER_TOOLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def rows(galaxies):
    return [(*map(float, row), 60) for row in galaxies]


def test_sdss_answer_is_used_and_cached(galaxies, rows, cache):
    with skyserver(csv_answer(rows)) as server:
        sample = survey.load_sample("sdss")
        assert len(survey.load_sample("sdss")) == 60  # from the cache
        assert len(server.requests) == 1
        assert len(survey.load_sample("sdss", release=17)) == 60  # another release is another question
    assert [request.path for request in server.requests] == [
        "/dr12/en/tools/search/x_results.aspx", "/dr17/en/tools/search/x_results.aspx",
    ]  # fmt: skip
    assert server.requests[0].query["format"] == "csv"
    assert server.requests[0].query["cmd"].split() == survey.sdss_query().split()
    for column in galaxies.colnames:
        np.testing.assert_array_equal(sample[column], galaxies[column])
    assert "SDSS DR12" in sample.meta["source"] and sample.meta["query"] == survey.sdss_query()
    assert sorted(p.name for p in cache.iterdir()) == ["sdss_coma_dr12.ecsv", "sdss_coma_dr17.ecsv"]
    assert len(survey.load_sample("sdss")) == 60  # with no server at all


def test_the_query_covers_the_cylinder_and_little_more():
    import re

    limits = re.findall(r"s\.(\w+) BETWEEN ([\d.]+) AND ([\d.]+)", survey.sdss_query())
    box = {name: (float(low), float(high)) for name, low, high in limits}
    # The rim of the cylinder: a circle of 2.3 Mpc/h (1.9129 deg), and the redshifts of facts and paper.
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    centre = SkyCoord(194.95, 27.98, unit="deg")
    rim = centre.directional_offset_by(np.linspace(0, 360, 721) * u.deg, 1.9129 * u.deg)
    for name, values in (("ra", rim.ra.deg), ("dec", rim.dec.deg), ("z", [0.0102, 0.0360])):
        low, high = box[name]
        assert low < min(values) and max(values) < high
        assert high - low < 1.02 * np.ptp(values)


def test_failed_fits_of_stellar_masses_are_left_out_by_the_query():
    assert "m.logMass > 0" in survey.sdss_query()


SCHEMA = "ra,dec,redshift,mass,n_rows"
MISBEHAVIOUR = {
    "a page of HTML": (lambda rows: {"body": ERROR_PAGE}, "sent '<html><head> <title>Skyserver Error"),
    "status 500": (lambda rows: {"body": ERROR_PAGE, "status": 500}, "HTTP status 500"),
    "status 404": (lambda rows: {"body": "gone", "status": 404}, "HTTP status 404"),
    "an error in JSON": (lambda rows: {"body": '{"error_message": "bad query"}'}, "error_message"),
    "a body cut short": (lambda rows: {"body": csv_answer(rows), "cut": 900}, "no whole answer .ChunkedEncodingError"),
    "a body cut between rows": (
        lambda rows: {"body": csv_answer(rows[:20]), "declare_length": False},
        "sent 20 rows, not as many as it counted",
    ),
    "a body cut within a row": (
        lambda rows: {"body": csv_answer(rows), "cut": len(csv_answer(rows)) - 12, "declare_length": False},
        "sent 60 rows, not as many|values that cannot be used",
    ),
    "a body without a count, cut within a row": (
        lambda rows: {"body": csv_answer([r[:4] for r in rows], "ra,dec,z,logMass")[:-12], "declare_length": False},
        "sent '#Table1 ra,dec,z,logMass 19",
    ),
    "fewer galaxies than a cluster needs": (
        lambda rows: {"body": csv_answer([(*r[:4], 10) for r in rows[:10]])},
        "sent 10 galaxies with 10 in the cylinder, fewer than 11",
    ),
    "galaxies elsewhere": (
        lambda rows: {"body": csv_answer([(10.0, *r[1:]) for r in rows])},
        "sent 60 galaxies with 0 in the cylinder",
    ),
    "a header only": (lambda rows: {"body": csv_answer([])}, "sent no rows"),
    "nothing": (lambda rows: {"body": ""}, "sent ''"),
    "a remark": (lambda rows: {"body": "No objects have been found"}, "sent 'No objects have been found'"),
    "other columns": (lambda rows: {"body": csv_answer(rows, SCHEMA)}, "sent '#Table1 ra,dec,redshift,mass,n_rows 19"),
    "text for numbers": (lambda rows: {"body": csv_answer([("x", *r[1:]) for r in rows])}, "not numeric"),
    "silence": (lambda rows: {"silent": True}, "no whole answer .ReadTimeout"),
}


@pytest.mark.parametrize("case", MISBEHAVIOUR)
def test_a_server_that_misbehaves(case, rows, cache):
    options, message = MISBEHAVIOUR[case]
    with skyserver(**options(rows)) as server, pytest.raises(ClusterToolsError, match=message) as caught:
        survey.load_sample("sdss")
    text = str(caught.value)
    assert f"SDSS DR12 at {server.url}" in text and "\n" not in text
    assert "release=17" in text and 'coma_sample="desi"' in text
    assert not cache.exists()


def test_no_server_at_all(cache):
    with skyserver() as server:
        pass
    from astroquery.sdss import conf

    with conf.set_temp("skyserver_baseurl", server.url), pytest.raises(ClusterToolsError, match="ConnectionError"):
        survey.load_sample("sdss")


@pytest.mark.parametrize("damage", ["cut", "changed", "other query", "noise"])
def test_a_damaged_cache_is_asked_for_again_and_kept_if_that_fails(damage, rows, cache):
    with skyserver(csv_answer(rows)):
        survey.load_sample("sdss")
    path = cache / "sdss_coma_dr12.ecsv"
    lines = path.read_text().splitlines()
    damaged = {
        "cut": lines[:-5],
        "changed": [*lines[:-1], lines[-1].replace("19", "18", 1)],
        "other query": [line.replace("BETWEEN", "LIKE") for line in lines],
        "noise": ["\x00\x01"],
    }[damage]
    path.write_text("\n".join(damaged) + "\n")
    before = path.read_bytes()
    with skyserver(ERROR_PAGE), pytest.raises(ClusterToolsError, match="SDSS DR12"):
        survey.load_sample("sdss")
    assert path.read_bytes() == before and len(list(cache.iterdir())) == 1
    with skyserver(csv_answer(rows)) as server:
        assert len(survey.load_sample("sdss")) == 60
        assert len(server.requests) == 1
    assert path.read_text().splitlines() == lines


@pytest.mark.parametrize("length", [1, 2, 3, 5, 12, 40])
def test_no_answer_cut_in_its_last_row_is_taken_for_whole(length, rows, cache):
    body = csv_answer(rows)
    assert body.endswith(",60\n")
    with skyserver(body, cut=len(body) - length, declare_length=False):
        if length == 1:  # only the end of the line is lost
            assert len(survey.load_sample("sdss")) == 60
        else:
            with pytest.raises(ClusterToolsError, match="SDSS DR12.*sent"):
                survey.load_sample("sdss")
            assert not cache.exists()


def test_a_cached_answer_with_too_few_galaxies_is_asked_for_again(rows, cache, monkeypatch):
    with monkeypatch.context() as once, skyserver(csv_answer([(*r[:4], 5) for r in rows[:5]])):
        once.setattr(survey, "FEWEST_GALAXIES", 1)
        assert len(survey.load_sample("sdss")) == 5
    with skyserver(csv_answer(rows)):
        assert len(survey.load_sample("sdss")) == 60


@pytest.mark.parametrize("release", [7, "12", 12.0, None])
def test_releases_that_are_none(release, cache):
    with pytest.raises(ClusterToolsError, match="no SDSS release with stellar masses"):
        survey.load_sample("sdss", release=release)
