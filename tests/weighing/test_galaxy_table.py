"""Any table of galaxies ends in galaxies, or in one sentence: columns, units, UCDs, damage."""

import functools
import gzip
import io
import os
import signal
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import small_cluster
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.io.votable.tree import Resource, TableElement, VOTableFile
from astropy.table import Column, Table, vstack
from damage import FORMATS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cluster_tools import table_files
from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import galaxy_table, selection

GOOD = Table(small_cluster.table(n=30))
C = 299792.458  # km/s


def assert_good(table, compared=("ra", "dec", "z"), rtol=1e-12, **options):
    """That the galaxies of a table are those of `GOOD`; returns them."""
    found = galaxy_table.read(table, **options)
    for name in compared:
        np.testing.assert_allclose(found[name], galaxy_table.read(GOOD)[name], rtol=rtol)
    return found


# What is read


@pytest.mark.parametrize("ending", [*FORMATS, "csv.gz", "vot.gz"])
def test_every_format_gives_the_same_galaxies(tmp_path, ending):
    path, plain = tmp_path / f"galaxies.{ending}", tmp_path / "plain"
    GOOD.write(plain, format=FORMATS[ending.partition(".")[0]])
    path.write_bytes(gzip.compress(plain.read_bytes()) if ending.endswith(".gz") else plain.read_bytes())
    assert_good(path, GOOD.colnames)


def test_tables_in_memory_and_in_any_order_give_the_same_galaxies():
    frame = GOOD.to_pandas()
    frames = frame, frame.set_index("ra"), pd.concat([frame, frame[["z"]] + 1], axis=1)
    for table in (*frames, dict(GOOD), {c: list(GOOD[c]) for c in GOOD.colnames}, GOOD.as_array(), GOOD[::-1]):
        assert_good(table, GOOD.colnames)


@pytest.mark.parametrize("names", ["RAJ2000 DEJ2000 zspec", "alpha delta ZBEST", "one two three"])
def test_columns_are_found_by_name_or_given(names):
    table = Table(dict(zip(names.split(), (GOOD["ra"], GOOD["dec"], GOOD["z"]))))
    columns = dict(zip(("ra", "dec", "z"), table.colnames)) if "one" in names else {}
    assert assert_good(table, columns=columns)["z"].description == f"column {table.colnames[2]}"
    table["dz"] = 1e-4  # a name that errors have only if it is given
    found = assert_good(table, columns=columns | {"error": "dz"})
    np.testing.assert_allclose(found["v_error"], 1e-4 * C / (1 + found["z"]))
    assert "v_error" not in galaxy_table.read(table, columns=columns).colnames


def test_columns_are_found_by_ucd_and_the_main_one_wins(tmp_path):
    table = Table({"a": GOOD["ra"], "b": GOOD["dec"], "c": GOOD["z"], "ra": GOOD["ra"] + 1, "zphot": GOOD["z"] + 0.1})
    for column, ucd in zip(table.colnames, ("pos.eq.ra;meta.main", "pos.eq.dec;meta.main", "src.redshift", "pos.eq.ra",
                                            "src.redshift.phot")):  # fmt: skip
        table[column].meta["ucd"] = ucd
    table.write(tmp_path / "a.vot", format="votable")
    assert_good(tmp_path / "a.vot")
    assert_good(table)


def test_velocities_pass_for_redshifts_only_if_they_say_that_they_are_cz():
    cz, place = C * np.array(GOOD["z"]), {"ra": GOOD["ra"], "dec": GOOD["dec"]}
    for column in ({"cz": cz}, {"z": cz * u.km / u.s}, {"velocity": cz * 1000 * u.m / u.s}):
        found = assert_good(Table(place | column))
        assert found["z"].description.startswith("cz of column")
    assert_good(Table(place | {"z": cz}), columns='{"cz": "z"}')  # as text, as papermill hands it over
    few = np.where(np.arange(30) < 20, GOOD["z"], cz)
    for column, words in (
        ({"velocity": cz}, "velocities in column 'velocity' but no redshifts"),
        ({"v_los": (cz - cz.mean()) * u.km / u.s}, "velocities in column 'v_los'"),
        ({"z": cz}, "30 of 30 values out of range and holds velocities .first .* in row 1"),
        ({"z": few}, "10 of 30 values out of range and holds velocities .first .* in row 21"),
    ):
        with pytest.raises(ClusterToolsError, match=words):
            galaxy_table.read(Table(place | column))


def test_rows_that_cannot_be_used_are_counted_by_reason():
    for name, factor in (("z", 1), ("HV", C)):
        table = Table({"ra": GOOD["ra"], "dec": GOOD["dec"], name: factor * GOOD["z"]}, masked=True)
        table["ra"][0], table[name][1], table["dec"][2] = np.nan, np.inf, -99
        table[name].mask[3] = True
        table[name][4] = 0  # no redshift was measured
        table.add_row(dict(table[10]))
        found = galaxy_table.read(table)
        assert found.meta["rejected"] == {galaxy_table.POSITION: 5, galaxy_table.REPEATED: 1}
        assert len(found) == len(table) - 6


def test_a_galaxy_may_be_in_two_clusters_but_once_in_each():
    table = GOOD.copy()
    table["group"] = ["a"] * 15 + ["b"] * 13 + [" ", "-1"]
    table.add_row(dict(table[0]) | {"group": "b"})
    table.add_row(dict(table[0]))
    found = galaxy_table.read(table, cluster_column="group")
    assert found.meta["rejected"] == {galaxy_table.POSITION: 0, galaxy_table.NO_CLUSTER: 2, galaxy_table.REPEATED: 1}
    assert (np.unique(found["cluster"], return_counts=True)[1] == [15, 14]).all()


@pytest.mark.parametrize("dec", [0.0, 60.0, -89.0])
@pytest.mark.parametrize("ra", [0.0, 150.0])
def test_rows_within_one_arcsecond_are_one_galaxy(ra, dec):
    rng, n = np.random.default_rng(1), 500
    width = 2 / np.cos(np.radians(dec))
    sky = SkyCoord(ra + rng.uniform(-width, width, n), dec + rng.uniform(-0.9, 0.9, n), unit="deg")
    angles = rng.uniform(0, 360, n) * u.deg
    for apart, once in ((0.9, True), (1.6, False)):
        again = sky.directional_offset_by(angles, apart * u.arcsec)
        table = {name: np.r_[getattr(sky, name).deg, getattr(again, name).deg] for name in ("ra", "dec")}
        found = galaxy_table.read(table | {"z": np.full(2 * n, 0.05), "zerr": np.repeat([2e-4, 1e-4], n)})
        assert len(found) == (n if once else 2 * n)
        if once:
            np.testing.assert_allclose(np.sort(found["dec"]), np.sort(again.dec.deg), atol=1e-9)
    many = {"ra": rng.uniform(0, 360, 20_000), "dec": np.full(20_000, 90.0), "z": np.full(20_000, 0.05)}
    assert len(galaxy_table.read(many)) == 1


def test_right_ascension_may_run_from_minus_180():
    table = small_cluster.table(n=30, centre=(0.2, 10.0))
    wrapped = table | {"ra": (table["ra"] + 180) % 360 - 180}
    assert (wrapped["ra"] < 0).any()
    np.testing.assert_allclose(galaxy_table.read(wrapped)["ra"], galaxy_table.read(table)["ra"], atol=1e-9)


def test_names_of_clusters_cannot_steer_a_terminal():
    found = galaxy_table.read({**GOOD, "id": ["a\x1b[2J\nb"] * 30}, cluster_column="id")
    assert set(found["cluster"]) == {"a?[2J b"}


def test_data_that_lie_elsewhere_are_not_fetched(tmp_path):
    GOOD.write(tmp_path / "a.vot", format="votable", tabledata_format="binary")
    before, _, rest = (tmp_path / "a.vot").read_text().partition("<STREAM")
    for href in ("file:///etc/passwd", "http://localhost:9/x"):
        for encoding in ("utf-8", "utf-16"):
            changed = f'{before}<STREAM href="{href}">{rest[rest.index("</STREAM>") :]}'.replace("utf-8", encoding)
            (tmp_path / "a.vot").write_bytes(changed.encode(encoding))
            with pytest.raises(ClusterToolsError, match="keeps its data in another place"):
                galaxy_table.read(tmp_path / "a.vot")


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (5, {}, "type int"),
        (np.zeros((3, 3)), {}, "no names of columns"),
        ({}, {}, "has no rows"),
        ({"ra": [1.0], "dec": [1.0]}, {}, "no column of z"),
        ({"ra": [1.0, 2.0], "dec": [1.0], "z": [0.1]}, {}, "cannot be used"),
        ({"ra": ["a"], "dec": [1.0], "z": [0.1]}, {}, "not numeric"),
        ({"ra": [np.nan], "dec": [1.0], "z": [0.1]}, {}, "no galaxy with position"),
        ({"ra": [[1.0, 2.0]], "dec": [1.0], "z": [0.1]}, {}, "not numeric"),
        ("", {}, "does not exist"),
        (GOOD, {"columns": {"z": "nosuch"}}, "'nosuch'"),
        (GOOD, {"centre_columns": ("ra", "nosuch")}, "'nosuch'"),
        *((GOOD, {name: "nosuch"}, "'nosuch'") for name in ("cluster_column", "redshift_column")),
    ],
)
def test_wrong_tables_are_refused_in_a_sentence(table, options, words):
    with pytest.raises(ClusterToolsError, match=words) as refusal:
        galaxy_table.read(table, **options)
    assert "\n" not in str(refusal.value)


# Tables as people write them


def lines(separator, *, names=("ra", "dec", "z"), below=(), change=lambda cell: cell):
    """The galaxies of `GOOD` as text with these names, and rows `below` them."""
    rows = [[change(f"{value:.12g}") for value in row] for row in zip(GOOD["ra"], GOOD["dec"], GOOD["z"])]
    return "\n".join(separator.join(row) for row in [names, *below, *rows]) + "\n"


def sexagesimal(separator="\t"):
    sky = SkyCoord(GOOD["ra"], GOOD["dec"], unit="deg")
    rows = zip(sky.ra.to_string("hour", sep=":", precision=9), sky.dec.to_string(sep=" ", precision=9), GOOD["z"])
    return separator.join(("RA", "Dec", "z")) + "".join(f"\n{separator.join(map(str, row))}" for row in rows)


def written(form, table=GOOD):
    """A table as astropy writes it."""
    text = io.StringIO()
    table.write(text, format=form)
    return text.getvalue()


def behind(text, note):
    """A text with a note behind each line but the first."""
    first, *rest = text.splitlines()
    return "\n".join([first, *(line + note for line in rest)]).encode()


def under(head, text):
    """A text with another first line."""
    return "\n".join([head, *text.splitlines()[1:]]).encode()


def numbered(text, number):
    """A text with the number of each line before it."""
    return "\n".join(f"{number.format(i)} {line}" for i, line in enumerate(text.splitlines()))


def drawn(rule):
    """A table between bars, with a line such as |---|---| or +---+---+ below the names."""
    first, *rest = lines("|").splitlines()
    rows = [f"| {line} |" for line in rest]
    return "\n".join([f"| {first} |", rule, *rows, rule.replace(":", "-")])


VIZIER = [("deg", "deg", " "), ("--------",) * 3]


@pytest.mark.parametrize("text", [
    lines(",", names=("\ufeffR.A.", "Dec.", "Redshift")).encode(),
    lines(";", change=lambda cell: cell.replace(".", ",")).encode(),
    lines("|").encode("utf-16"),
    lines("   ").encode(),
    ("# SDSS\n# " + lines(" ")).encode(),
    ("#\n#Column\tz\t(F8)\n\n" + lines("\t", names=("_RAJ2000", "_DEJ2000", "zsp"), below=VIZIER)).encode(),
    lines(",", names=("RAdeg", "DEdeg", "z_spec"), below=VIZIER[:1]).encode(),
    lines(",", names=("ra", "dec", "z", "r\xe9f")).encode("latin-1"),
    sexagesimal().encode(),
    sexagesimal(",").replace("RA,", "TARGET_RA,").encode(),
    written("ascii.ipac").encode(),
    written("ascii.mrt", Table({"place": SkyCoord(GOOD["ra"], GOOD["dec"], unit="deg"), "HV": C * GOOD["z"]})).encode(),
    drawn("|:---|----|---|").encode(),
    ("+---+---+---+\n" + drawn("+---+---+---+") + "\n(30 rows)\n").encode(),
    ("Galaxies of the 1.2 m telescope\n\n" + lines(",")).encode(),
    *(behind(lines(each), f"{blank}# here, 2 notes") for each, blank in zip(" ,\t", "\t  ")),
    behind(lines(","), ':  # 2" off'), ("Simple TST\n\n" + lines("\t", below=[("--",) * 3]) + "[EOD]\n").encode(),
    lines(" ", names=("RA (deg)", "Dec  [deg]", "z # spectra")).encode(),
    lines(",").replace("\n", "\nra,dec,z\n").encode(),
    *(under("ra,dec,z", lines(each)) for each in " \t;"), under("# ra, dec, z", lines(" ")),
    under("ra\tdec\tz", lines(" ")), under("ra dec  z", lines(",")),
    under("ra dec z", numbered(lines(" "), "{}")), under('"ra" "dec" "z"', numbered(lines(" "), '"{}"')),
    under("'ra','dec','z'", lines(",", change=lambda cell: f"'{cell}'")),
    under("p.ra,p.dec,s.z", lines(",")), under("RA_1,DEC_1,Z_1,RA_2", behind(lines(","), ",1").decode()),
    written("ascii.latex").encode(), written("ascii.aastex").encode(), written("ascii.rst").encode(),
    under(r"R.A. & Decl. & $z$ \\", behind(lines(" & ", change="${}$".format), r" \\ \hline").decode()),
], ids=["bom", "semicolons", "bars", "blanks", "names in a comment", "vizier", "units", "latin-1", "sexagesimal",
        "sexagesimal csv", "ipac", "mrt", "markdown", "drawn", "title",
        "notes after blanks", "notes after commas", "notes after tabs", "notes after marks", "tst",
        "units in names between blanks", "joined",
        "blanks below commas", "tabs below commas", "semicolons below commas", "blanks below commas in a comment",
        "blanks below tabs", "commas below blanks", "pandas", "R", "single quotes", "SQL", "TOPCAT match",
        "latex", "aastex", "rst", "rows of latex"])  # fmt: skip
def test_dialects_of_text_give_the_same_galaxies(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text)
    assert_good(tmp_path / "a.txt", rtol=2e-7)


@pytest.mark.parametrize(
    "word", ["null", "--", "...", ":", "N/A", "#N/A", "nan", "nd", "", "-", "None", r"\nodata", "--  # x"]
)
def test_words_for_missing_values_leave_a_row_out(tmp_path, word):
    rows = lines(",").splitlines()
    rows[5] = rows[5].rpartition(",")[0] + "," + word
    (tmp_path / "a.csv").write_text("\n".join(rows))
    rejected = galaxy_table.read(tmp_path / "a.csv").meta["rejected"]
    assert rejected == {galaxy_table.POSITION: 1, galaxy_table.REPEATED: 0}


@pytest.mark.parametrize("write", [
    "{:.0f}:", "{:.0f}::", "{:.0f}(30)", "{:.0f}$^{{a}}$",
    "{:.0f}?", "{:.0f}*", "{:.0f} ± 30", "{:.0f} +/- 30", r"{:.0f} $\pm$ 30", "${:.0f}$", "b'{:.0f}'",
    "{:,.0f}", "{:,.1f}", lambda cz: f"{cz:,.0f}".replace(",", "\u202f"), lambda cz: f"{cz:,.0f}".replace(",", "'"),
])  # fmt: skip
def test_numbers_are_read_with_their_signs_errors_and_thousands(tmp_path, write):
    cz = [getattr(write, "format", write)(C * z) for z in GOOD["z"]]
    for sign in "−–":  # minus and dash
        dec = [f"{sign}{value}°" for value in GOOD["dec"]]
        table = Table({"ra": GOOD["ra"], "dec": dec, "cz": cz})
        table.write(tmp_path / "a.csv", overwrite=True)
        for read in (table, tmp_path / "a.csv"):
            found = galaxy_table.read(read)
            np.testing.assert_allclose(found["z"], galaxy_table.read(GOOD)["z"], atol=1.7e-6)
            np.testing.assert_array_equal(np.sort(-found["dec"]), np.sort(GOOD["dec"]))


def test_commas_are_decimal_in_angles_and_where_they_cannot_part_thousands(tmp_path):
    rows = [f"{ra:.3f};{dec:.3f};{z:.3f}".replace(".", ",") for ra, dec, z in GOOD["ra", "dec", "z"]]
    (tmp_path / "a.csv").write_text("\n".join(["ra;dec;z", *rows]))
    found = galaxy_table.read(tmp_path / "a.csv")
    assert found["ra"].min() > 190 and 0.01 < found["z"].min() and found["z"].max() < 0.04
    (tmp_path / "a.csv").write_text("\n".join(["ra;dec;z;g;r", *(f"{row};15,123;14,123" for row in rows)]))
    with pytest.raises(ClusterToolsError, match="column 'g', is not numeric .found '15,123' in row 1"):
        galaxy_table.read(tmp_path / "a.csv")  # they may part thousands


def test_a_row_with_too_few_values_before_a_comment_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(lines(",") + "194.9,27.9  # no redshift")
    with pytest.raises(ClusterToolsError, match="column 'dec', is not numeric .found '27.9  # no redshift' in row 31"):
        galaxy_table.read(tmp_path / "a.csv")


def test_a_sign_in_a_name_begins_no_comment(tmp_path):
    rows = lines(",").splitlines()
    for first, last in (("A #{},", ""), ("", ",A #{}"), ("", ',"2 #{}"')):
        text = [f"{first.format(i)}{row}{last.format(i)}" for i, row in enumerate(rows[1:])]
        (tmp_path / "a.csv").write_text("\n".join(["id,ra,dec,z" if first else "ra,dec,z,id", *text]))
        assert_good(tmp_path / "a.csv", rtol=2e-7)
        assert len(set(galaxy_table.read(tmp_path / "a.csv", cluster_column="id")["cluster"])) == 30


def test_names_of_surveys_and_units_of_any_spelling(tmp_path):
    hours, cz = GOOD["ra"] / 15, C * GOOD["z"]
    for names, ra, velocity, below in (
        ("al2000,de2000,vhelio", hours, cz, ""), ("R.A.,Decl.,V (km/s)", GOOD["ra"], cz, ""),
        ("RA (Deg),Dec (DEG),cz_km_s", GOOD["ra"], cz, ""), ("ra,dec,Velocity [m s-1]", GOOD["ra"], 1e3 * cz, ""),
        ("ra,dec,v", GOOD["ra"], cz, r"Deg,deg,km s$^{-1}$"), ("ra,dec,v", GOOD["ra"], cz, "degree,deg,kms"),
        ("ra,dec,Heliocentric Redshift", GOOD["ra"], GOOD["z"], ""), ("sky.ra,sky.dec,z", GOOD["ra"], GOOD["z"], ""),
    ):  # fmt: skip
        rows = [",".join(f"{value:.12g}" for value in row) for row in zip(ra, GOOD["dec"], velocity)]
        (tmp_path / "a.csv").write_text("\n".join([names, *filter(None, [below]), *rows]))
        assert_good(tmp_path / "a.csv", rtol=1e-9)
    (tmp_path / "a.csv").write_text("\n".join(["ra,dec,cz", "deg,deg,furlong/s", *rows]))
    with pytest.raises(ClusterToolsError, match="column 'cz', is in 'furlong/s'"):
        galaxy_table.read(tmp_path / "a.csv")


def test_objects_and_text_in_memory_are_numbers_where_they_can_be():
    frame = GOOD.to_pandas().astype(object)
    frame.loc[3, "z"], frame.loc[4, "z"] = None, pd.NA
    frame["ra"] = frame["ra"].map(lambda value: Decimal(repr(value)))
    assert galaxy_table.read(frame).meta["rejected"][galaxy_table.POSITION] == 2
    for bad in ("0.023x", True):
        frame.loc[5, "z"] = bad
        with pytest.raises(ClusterToolsError, match=f"column 'z', is not numeric .found '{bad}' in row 6"):
            galaxy_table.read(frame)


@pytest.mark.parametrize("signs", [
    {"ZWARN": [0, 4]}, {"spectype": ["GALAXY", "STAR"]}, {"Q": [4, 1]}, {"e_z": [1e-4, 1e-2]},
    {"ZWARN": [0, 4], "e_z": [1e-2, 1e-4], "Q": [1, 4]}, {"Q": ["A", "c"]},
])  # fmt: skip
def test_of_repeated_targets_the_good_redshift_is_kept(signs):
    good, bad = GOOD.copy(), GOOD[:12].copy()
    bad["z"] -= 0.02
    for name, (one, other) in signs.items():
        good[name], bad[name] = one, other
    assert assert_good(vstack([bad, good])).meta["rejected"][galaxy_table.REPEATED] == 12


def test_right_ascensions_in_hours_are_converted_or_refused():
    hours = GOOD.copy()
    hours["ra"] /= 15
    with pytest.raises(ClusterToolsError, match="column ra, has values up to .* 15 times too narrow.*multiply"):
        galaxy_table.read(hours)
    hours["ra"].unit = u.hourangle
    assert_good(hours)
    hours["RA"] = Column(Angle(hours["ra"].value, "hourangle").to_string(sep=":", precision=12), unit="h")
    assert_good(hours["RA", "dec", "z"])
    hours["ra"].unit = u.deg
    assert galaxy_table.read(hours)["ra"].max() < 14


@pytest.mark.parametrize(("ra", "cz", "scale"), [("RA (h)", "cz [m/s]", 1e3), ("RA_deg", "cz_kms", 1), ("ra", "Vh", 1)])
def test_units_in_names_are_read(tmp_path, ra, cz, scale):
    place = {ra: GOOD["ra"] / (15 if "h)" in ra else 1), "Dec [arcmin]": 60 * GOOD["dec"], cz: scale * C * GOOD["z"]}
    for name, error in {f"e_{cz}": 0.4 * scale, f"err_{cz}": 0.4 * scale, "e_z (%)": 40 / C}.items():
        table = Table(place | {name: np.full(30, error)})
        table.write(tmp_path / "a.csv", overwrite=True)
        for read in (table, tmp_path / "a.csv"):
            found = assert_good(read)
            np.testing.assert_allclose(found["v_error"], 0.4 / (1 + found["z"]), rtol=1e-9, err_msg=name)


def test_linear_masses_are_brought_to_logarithms_and_bad_ones_matter_only_if_wanted():
    table = GOOD.copy()
    table["log_mstar"] = 10 ** table["log_mstar"]
    assert_good(table, GOOD.colnames)
    table["log_mstar"] = ["big", *map(str, table["log_mstar"][1:])]
    with pytest.raises(ClusterToolsError, match="'big' in row 1"):
        galaxy_table.read(table)
    assert assert_good(table, with_mass=False).colnames == ["ra", "dec", "z", "row"]


@pytest.mark.parametrize("ending", ["fits", "vot"])
def test_of_several_tables_the_one_that_suits_is_read_or_asked_for(tmp_path, ending):
    def write(**tables):
        path = tmp_path / f"a.{ending}"
        if ending == "fits":
            hdus = [fits.BinTableHDU(table, name=name) for name, table in tables.items()]
            fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
            return path
        document = VOTableFile()
        document.resources.append(Resource())
        for name, table in tables.items():
            document.resources[0].tables.append(TableElement.from_table(document, table))
            document.resources[0].tables[-1].name = name
        document.to_xml(str(path))
        return path

    other = Table({"ra": [1.0, 2.0], "flag": [1, 2]})
    assert_good(write(FIELDS=other, GALAXIES=GOOD))
    path = write(CLUSTERS=GOOD[:2], GALAXIES=GOOD)
    with pytest.raises(ClusterToolsError, match=r"tables 'CLUSTERS', 'GALAXIES', .*\[GALAXIES\]'"):
        galaxy_table.read(path)
    assert_good(f"{path}[galaxies]")
    with pytest.raises(ClusterToolsError, match="no table 'x'; expected one of 'CLUSTERS', 'GALAXIES'"):
        galaxy_table.read(f"{path}[x]")


# Files that claim what they do not hold


def fits_table(rows, width, form="D", data=b""):
    """A FITS file whose one table has such a header, and these data."""
    header = fits.BinTableHDU(Table({name: [1.0] for name in ("ra", "dec", "z", "v")})).header
    header["NAXIS2"], header["NAXIS1"], header["TFORM4"], header["PCOUNT"] = rows, width, form, len(data) - rows * width
    return fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode() + data + bytes(-len(data) % 2880)


def votable(attributes="", field="", head=""):
    fields = "".join(f'<FIELD name="{name}" datatype="double" {field}/>' for name in ("ra", "dec", "z"))
    table = f"<TABLE {attributes}>{fields}<DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA></TABLE>"
    return f'<?xml version="1.0"?>{head}<VOTABLE version="1.4"><RESOURCE>{table}</RESOURCE></VOTABLE>'.encode()


LOOPS = b"# - &a {x: 1}\n# - &b {<<: [*a, *a]}\n# - {<<: [*b, *b]}\n"


@pytest.mark.parametrize(("content", "words"), [
    (gzip.compress(b"ra,dec,z\n" + bytes(50_000_000)), "holds more than 20 times its own"),
    (gzip.compress(lines(",").encode())[:300], "cut short"),
    (fits_table(10**12, 32), "a table of 1000000000000 rows"),
    (fits_table(10**11, 0), "a table of 100000000000 rows"),
    (gzip.compress(fits_table(10**12, 32)), "a table of 1000000000000 rows"),
    (votable('nrows="2000000000"'), "claims 48000000024 bytes"),
    (votable(field='arraysize="500000000"'), "claims 12000000000 bytes"),
    (votable(head='<!DOCTYPE V [<!ENTITY a "aaa">]>'), "defines entities"),
    (b"<RESOURCE>" * 200, "100 elements in one another"),
    (b"# %ECSV 1.0\n# ---\n# datatype:\n" + LOOPS + b"ra dec z\n1 1 1\n", "merged mappings"),
    (b",".join(b"c%d" % i for i in range(3000)), "names of its columns should be"),
    (b"ra,dec,z\n1,1," + b"x" * 200_000, "field larger than field limit"),
    (b"ra,dec,z\n" + b"1," * 1000, "row 1 has 1001 values"),
    (b"PK\x03\x04\0\0" + bytes(100), "is no .csv"),
])  # fmt: skip
def test_what_a_file_cannot_hold_is_refused_before_it_costs_memory(tmp_path, content, words):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ClusterToolsError, match=words):
        galaxy_table.read(tmp_path / "a")


def ascii_table(columns, rows):
    """A FITS table of text whose columns all begin at the first byte."""
    header = fits.Header({"XTENSION": "TABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 10, "NAXIS2": rows, "PCOUNT": 0,
                          "GCOUNT": 1, "TFIELDS": columns})  # fmt: skip
    for number in range(1, columns + 1):
        header.update({f"TTYPE{number}": f"c{number}", f"TBCOL{number}": 1, f"TFORM{number}": "E10.3"})
    data = b" 1.000E+00" * rows
    return fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode() + data + bytes(-len(data) % 2880)


def byte_by_byte(columns, rows):
    """An MRT file whose columns are all the first byte."""
    rule, described = "-" * 80, "".join(f"   1-  1 I1     ---    c{number} d\n" for number in range(columns))
    title = f"Title: a\nByte-by-byte Description of file: a\n{rule}\n   Bytes Format Units  Label     Explanations\n"
    return f"{title}{rule}\n{described}{rule}\n" + "1\n" * rows


ENDLESS = {
    "a line as between others": "ra,dec,z\n1,2,3\n+" + "-" * 100_000 + "x\n",
    "a command of LaTeX": "ra,dec,z\n1,2,3\n\\" + "a" * 100_000 + "&\n",
    "blanks in a number": "ra,dec,z\n1" + " " * 60_000 + "x,2,3\n",
    "signs": "ra,dec,z\n" + "+/" * 50_000 + "x,2,3\n",
    "a name of brackets": "ra,dec,x" + "(" * 100_000 + "\n1,2,3\n",
    "a power in a unit": "ra,dec,z\ndeg,deg,10**300000000\n1,2,3\n",
    "a power in IPAC": "|ra|dec|z|\n|double|double|double|\n|deg|deg|10**300000000|\n|null|null|null|\n 1  1   1 \n",
    "a power in VOTable": votable(field='unit="10+300000000"'),
    "a power in a parameter": votable(head="<!-- -->").replace(b"<DATA>", b'<PARAM unit="10**300000000"/><DATA>'),
    "tables": b"<VOTABLE>" + b"<RESOURCE><TABLE/></RESOURCE>" * 100_000 + b"</VOTABLE>",
    "a shape": votable(field='arraysize="' + "9x" * 1_000_000 + '9"'),
    "columns of FITS": fits_table(1, 32).replace(b"TFIELDS =                    4", b"TFIELDS =            100000000"),
    "columns of FITS that overlap": ascii_table(900, 100_000),
    "columns of MRT that overlap": byte_by_byte(2000, 100_000),
    "empty cells": "ra,dec,z\n" + ",,\n" * 1_000_000,
    "empty lines": "ra,dec,z\n" + "\n" * 5_000_000,
}


@pytest.mark.parametrize("content", ENDLESS.values(), ids=ENDLESS)
def test_what_would_be_read_for_minutes_is_refused_at_once(tmp_path, content):
    def stop(*_):
        raise Stopped

    (tmp_path / "a").write_bytes(content if isinstance(content, bytes) else content.encode())
    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)  # it takes a second, but other tests run beside it
    try:
        with pytest.raises(ClusterToolsError):
            galaxy_table.read(tmp_path / "a")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def test_arrays_of_any_length_are_passed_over(tmp_path):
    """Each row may claim the same 1 MB."""
    rows = np.zeros(5000, dtype=[("ra", ">f8"), ("dec", ">f8"), ("z", ">f8"), ("v", ">i4", 2)])
    rows["ra"], rows["z"], rows["v"][:, 0] = np.linspace(100, 102, 5000), 0.03, 1_000_000
    (tmp_path / "a.fits").write_bytes(fits_table(5000, 32, "1PB(1000000)", rows.tobytes() + bytes(1_000_000)))
    assert len(galaxy_table.read(tmp_path / "a.fits")) > 3000


class Stopped(Exception):
    """No reader raises it."""


class Caller:
    """An object that is called as a function is."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        self.function(*arguments)


@pytest.mark.parametrize("kind", [lambda stop: stop, functools.partial, Caller])
@pytest.mark.parametrize("error", [Stopped, TimeoutError, ValueError, RuntimeError])
def test_what_no_reader_raises_is_not_taken_for_a_bad_file(tmp_path, monkeypatch, error, kind):
    """Nor what a signal handler raises while it reads, even if it handles no further signal."""

    def stop(*_):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise error("too late")

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGUSR1)

    (tmp_path / "a.csv").write_text(lines(","))
    monkeypatch.setattr(table_files, "_delimited", stop if error is Stopped else interrupted)
    previous = signal.signal(signal.SIGUSR1, kind(stop))
    try:
        with pytest.raises(error, match="too late"):
            galaxy_table.read(tmp_path / "a.csv")
    finally:
        signal.signal(signal.SIGUSR1, previous)


# Bad inputs: each ends in a phase-space image, or in an error of the project. Damaged files: attack/tables.py.


value = st.one_of(
    st.floats(), st.floats(0, 360), st.integers(-(2**70), 2**70), st.text(max_size=4), st.none(), st.booleans(),
    st.binary(max_size=3), st.sampled_from([194.95, 27.98, 0.0231, 0.024, -0.0, 1e300, "nan", [1.0], {}]),
)  # fmt: skip
column = st.one_of(
    st.lists(value, max_size=14),
    st.sampled_from([np.full(12, 194.95), np.full(12, 0.0231), np.full(12, np.nan), np.arange(12.0), np.zeros((12, 2)),
                     np.linspace(0.02, 0.026, 12), np.array(["x"] * 12), np.ma.masked_all(12), np.zeros(12, complex)]),
    st.lists(st.floats(0.01, 0.04), min_size=12, max_size=12),
    value,
)  # fmt: skip
names = st.sampled_from(["ra", "dec", "z", "RA", "cz", "log_mstar", "g", "r", "flux_g", "flux_r", "v", "id", ""])
PLAIN = {"ra": np.linspace(194.5, 195.5, 12), "dec": np.linspace(27.8, 28.2, 12) ** 1.01, "z": np.full(12, 0.0231)}


@settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, column, max_size=6), st.booleans(), st.booleans())
@example({"ra": np.full(12, 1.0), "dec": np.full(12, 1.0), "z": np.full(12, 0.02)}, True, True)
def test_odd_columns_end_in_a_result_or_a_sentence(odd, by_cluster, fill):
    try:
        galaxies = galaxy_table.read(PLAIN | odd if fill else odd, cluster_column="id" if by_cluster else None)
        image = selection.select_galaxies(galaxies, name="it", min_log_mstar=None).image()
    except ClusterToolsError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error)
    else:
        assert np.isfinite(image).all() and abs(image.sum() - 1) < 1e-3
