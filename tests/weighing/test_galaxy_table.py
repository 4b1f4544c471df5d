"""Any table of galaxies ends in galaxies, or in one sentence: columns, units, UCDs, damage."""

import gzip
import io

import numpy as np
import pandas as pd
import pytest
import small_cluster
from astropy import units as u
from astropy.table import MaskedColumn, Table
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import galaxy_table, selection

GOOD = Table(small_cluster.table(n=30))
C = 299792.458  # km/s


FORMATS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable"}


def assert_good(table, compared=("ra", "dec", "z"), **options):
    """That the galaxies of a table are those of `GOOD`; returns them."""
    found = galaxy_table.read(table, **options)
    for name in compared:
        np.testing.assert_allclose(found[name], galaxy_table.read(GOOD)[name], rtol=1e-12)
    return found


# What is read


@pytest.mark.parametrize("ending", [*FORMATS, "csv.gz", "vot.gz"])
def test_every_format_gives_the_same_galaxies(tmp_path, ending):
    path, plain = tmp_path / f"galaxies.{ending}", tmp_path / "plain"
    GOOD.write(plain, format=FORMATS[ending.partition(".")[0]])
    path.write_bytes(gzip.compress(plain.read_bytes()) if ending.endswith(".gz") else plain.read_bytes())
    assert_good(path, GOOD.colnames)


def test_tables_in_memory_and_in_any_order_give_the_same_galaxies():
    for table in (GOOD.to_pandas(), dict(GOOD), {c: list(GOOD[c]) for c in GOOD.colnames}, GOOD.as_array(), GOOD[::-1]):
        assert_good(table, GOOD.colnames)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("RAJ2000", "DEJ2000", "zspec"), {}),
        (("alpha", "delta", "ZBEST"), {"ra": "alpha", "dec": "delta", "z": "ZBEST"}),
    ],
)
def test_columns_are_found_by_name_or_given(names, columns):
    table = Table(dict(zip(names, (GOOD["ra"], GOOD["dec"], GOOD["z"]))))
    found = assert_good(table, columns=columns)
    assert found["z"].description == f"column {names[2]}"


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
    for column, words in (
        ({"velocity": cz}, "velocities in column 'velocity' but no redshifts"),
        ({"z": cz}, "30 of 30 values out of range"),
        ({"v_los": (cz - cz.mean()) * u.km / u.s}, "velocities in column 'v_los'"),
    ):
        with pytest.raises(ClusterToolsError, match=words):
            galaxy_table.read(Table(place | column))


def test_rows_that_cannot_be_used_are_counted_by_reason():
    table = GOOD.copy()
    table["ra"][0], table["z"][1], table["dec"][2] = np.nan, np.inf, -99
    table = Table({c: MaskedColumn(table[c]) for c in table.colnames})
    table["z"].mask[3] = True
    table.add_row(dict(table[10]))
    found = galaxy_table.read(table)
    assert found.meta["rejected"] == {galaxy_table.POSITION: 4, galaxy_table.REPEATED: 1}
    assert len(found) + sum(found.meta["rejected"].values()) == len(table)


def test_a_galaxy_may_be_in_two_clusters_but_once_in_each():
    table = GOOD.copy()
    table["group"] = ["a"] * 15 + ["b"] * 14 + [" "]
    table.add_row(dict(table[0]) | {"group": "b"})
    table.add_row(dict(table[0]))
    found = galaxy_table.read(table, cluster_column="group")
    assert found.meta["rejected"] == {galaxy_table.POSITION: 0, galaxy_table.NO_CLUSTER: 1, galaxy_table.REPEATED: 1}
    assert (np.unique(found["cluster"], return_counts=True)[1] == [15, 15]).all()


def test_right_ascension_may_run_from_minus_180():
    table = small_cluster.table(n=30, centre=(0.2, 10.0))
    wrapped = table | {"ra": (table["ra"] + 180) % 360 - 180}
    assert (wrapped["ra"] < 0).any()
    np.testing.assert_allclose(galaxy_table.read(wrapped)["ra"], galaxy_table.read(table)["ra"], atol=1e-9)


def test_names_of_clusters_cannot_steer_a_terminal():
    found = galaxy_table.read({**GOOD, "id": ["a\x1b[2J\nb"] * 30}, cluster_column="id")
    assert set(found["cluster"]) == {"a?[2J b"}


def test_data_that_lie_elsewhere_are_not_fetched(tmp_path):
    text = io.BytesIO()
    GOOD.write(text, format="votable", tabledata_format="binary")
    before, _, rest = text.getvalue().decode().partition("<STREAM")
    for href in ("file:///etc/passwd", "http://localhost:9/x"):
        for encoding in ("utf-8", "utf-16"):
            changed = f'{before}<STREAM href="{href}">{rest[rest.index("</STREAM>") :]}'.replace("utf-8", encoding)
            (tmp_path / "a.vot").write_bytes(changed.encode(encoding))
            with pytest.raises(ClusterToolsError, match="keeps its data in another place"):
                galaxy_table.read(tmp_path / "a.vot")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (5, "type int"),
        (np.zeros((3, 3)), "no names of columns"),
        ({}, "has no rows"),
        ({"ra": [1.0], "dec": [1.0]}, "no column of z"),
        ({"ra": [1.0, 2.0], "dec": [1.0], "z": [0.1]}, "cannot be used"),
        ({"ra": ["a"], "dec": [1.0], "z": [0.1]}, "not numeric"),
        ({"ra": [np.nan], "dec": [1.0], "z": [0.1]}, "no galaxy with position"),
        ({"ra": [[1.0, 2.0]], "dec": [1.0], "z": [0.1]}, "not numeric"),
        (pd.DataFrame({"ra": [1.0]}), "no column of dec"),
        ("", "does not exist"),
        ("/nosuch.csv", "does not exist"),
    ],
)
def test_wrong_tables_are_refused_in_a_sentence(table, words):
    with pytest.raises(ClusterToolsError, match=words) as refusal:
        galaxy_table.read(table)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("option", ["columns", "cluster_column", "redshift_column", "centre_columns"])
def test_missing_columns_are_refused(option):
    given = {"columns": {"z": "nosuch"}, "centre_columns": ("ra", "nosuch")}.get(option, "nosuch")
    with pytest.raises(ClusterToolsError, match="'nosuch'"):
        galaxy_table.read(GOOD, **{option: given})


# Bad inputs: each ends in a phase-space image, or in an error of the project.


def ends_well(table, **options):
    try:
        observation = selection.select_galaxies(galaxy_table.read(table, **options), name="it", min_log_mstar=None)
        image = observation.image()
    except ClusterToolsError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error)
    else:
        assert np.isfinite(image).all() and abs(image.sum() - 1) < 1e-3
        assert len(observation.v_los) + sum(observation.rejected.values()) == observation.n_table


def damaged(content: bytes, rng) -> bytes:
    """One to four faults anywhere: a byte flipped, bytes lost, inserted or repeated, the end lost."""
    for fault in rng.choice(5, rng.integers(1, 5), p=[0.3, 0.2, 0.2, 0.2, 0.1]):
        at, extra = int(rng.integers(max(len(content), 1))), rng.bytes(rng.integers(9))
        before, after = content[:at], content[at:]
        flipped = bytes(byte ^ (extra[0] if extra else 1) for byte in after[:1]) + after[1:]
        content = before + (flipped, after[len(extra) + 1 :], extra + after, after[:50] + after, b"")[fault]
    return content


@pytest.mark.parametrize(("ending", "files"), [("csv", 1000), ("ecsv", 600), ("fits", 600), ("vot", 1000)])
def test_a_damaged_file_ends_in_a_result_or_a_sentence(tmp_path, ending, files):
    path, rng = tmp_path / f"bad.{ending}", np.random.default_rng(1)
    GOOD.write(path, format=FORMATS[ending])
    good = path.read_bytes()
    for number in range(files):
        path.write_bytes(damaged(good, rng))
        try:
            ends_well(path)
        except Exception as error:
            raise AssertionError(f"damaged file number {number}: {path.read_bytes()!r}") from error


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
    ends_well(PLAIN | odd if fill else odd, cluster_column="id" if by_cluster else None)
