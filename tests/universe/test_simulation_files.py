"""Real simulations' files, byte for byte in their published layouts: read, joined, counted, or refused."""

import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from astropy.table import Table
from cosmosim_server import cosmosim_server, votable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster_tools import paths
from cluster_tools.book import artefacts
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import cosmosim, simulation_files, snapshots, universe_machine
from cluster_tools.universe.simulation_files import content, find
from cluster_tools.universe.universe_machine import read

# The 128 bytes of a row, as the header of UniverseMachine's make_sf_catalog lists them.
FLOATS = "vmp lvmp mp m v r rank1 rank2 ra rarank A_UV sm icl sfr obs_sm obs_sfr obs_uv empty".split()
LAYOUT = np.dtype(
    [("id", "<i8"), ("descid", "<i8"), ("upid", "<i8"), ("flags", "<i4"), ("uparent_dist", "<f4"), ("pos", "<f4", 6)]
    + [(name, "<f4") for name in FLOATS]
)
BOX = {"mdpl2": 1000.0, "uchuu": 2000.0}
AXES = ("x", "y", "z", "vx", "vy", "vz")
# Datasets by file, as the release notes of Uchuu-UM (DR2) list them; of Uchuu's Rockstar haloes (DR1), the nearest.
UCHUU_UM = {
    1: ("id", "upid", "Mvir", "sm", "icl", "sfr", "obs_sm", "obs_sfr"), 2: AXES[:3],
    3: ("desc_id", *AXES[3:], "Mpeak", "Vmax_Mpeak", "vmax", "A_UV"),
}  # fmt: skip
UCHUU_ROCKSTAR = (
    "id", "desc_id", "pid", "upid", "sam_Mvir", "Mvir", "Rvir", "rs", "vrms", *AXES, "Jx", "Jy", "Jz", "Orig_halo_ID",
    "Mvir_all", "M200b", "M200c", "M500c", "M2500c", "Mpeak",
)  # fmt: skip
TOKEN = "s3cr3t-0123456789"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """An empty project, and no token."""
    shutil.copytree(paths.project_root() / "params", tmp_path / "params")
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    monkeypatch.delenv("CLUSTER_TOOLS_CACHE", raising=False)
    monkeypatch.delenv(cosmosim.TOKEN, raising=False)


def universe(name):
    """Haloes and galaxies as dictionaries of columns: hosts, satellites, orphans, field, and what must be left out."""
    rng = np.random.default_rng(1)
    side, n_hosts = BOX[name], 60
    m200c = 10 ** np.sort(rng.uniform(13.52, 15.2, n_hosts))
    ids = rng.choice(10**11, n_hosts, replace=False) + 10**12
    position, velocity = rng.uniform(0, side, (n_hosts, 3)), rng.normal(0, 300, (n_hosts, 3))
    position[0] = [0.01, side - 0.01, 5]  # at the edge of the box
    haloes = [(ids[i], -1, m200c[i] / 0.8, m200c[i], *position[i], *velocity[i]) for i in range(n_hosts)]
    haloes.append((17, -1, 3e12, 2e12, 1, 2, 3, 0, 0, 0))  # too light to be a host
    haloes.append((19, -1, 3.5e13, 3e13, 9, 9, 9, 0, 0, 0))  # so is this one, whose virial mass is enough
    haloes.append((18, ids[-1], 9e13, 7e13, *(position[-1] + 1) % side, 0, 0, 0))  # heavy, but inside a larger one
    galaxies = [(ids[i], -1, 0, m200c[i] / 0.8, 10**11.5, *position[i], *velocity[i]) for i in range(n_hosts)]
    galaxies.append((18, ids[-1], 0, 9e13, 10**11, *(position[-1] + 1) % side, 0, 0, 0))
    galaxies.append((19, -1, 0, 3.5e13, 10**11, 9, 9, 9, 0, 0, 0))
    galaxies.append((900, 18, 0, 1e12, 10**10, *(position[-1] + 1) % side, 0, 0, 0))  # a satellite of that satellite
    galaxies.append((1000, -1, 0, 1e12, 10**10, 5, 5, 5, 0, 0, 0))  # a field galaxy
    galaxies.append((1001, 1000, 0, 1e11, 10**9.6, 5, 5, 5, 0, 0, 0))  # with a satellite
    galaxies.append((1002, ids[3], 16, 1e11, 10**11, 1, 1, 1, 0, 0, 0))  # flagged
    galaxies.append((1003, ids[3], 16 + 4, 1e11, 10**11, -999, 1, 1, 0, 0, 0))  # flagged, and nonsense
    galaxies.append((1004, ids[3], 8, 1e11, 10**9.49, 1, 1, 1, 0, 0, 0))  # 10^9.5 Msun/h is 10^9.67 Msun: below both
    galaxies.append((1005, ids[3], 8, 1e11, 10**9.55, 1, 1, 1, 0, 0, 0))  # kept: the cut has no h
    galaxies.append((2 * 10**15 + ids[5], ids[4], 0, 1e11, 10**10, 1, 1, 1, 0, 0, 0))  # an orphan, not halo ids[5]
    galaxies.append((1006, -1, 0, 1e12, 10**10, side + 0.25, -0.5, 5, 0, 0, 0))  # a little outside: belongs inside
    for i in range(n_hosts):
        for k in range(25):
            xyz = (position[i] + rng.normal(0, 0.5, 3)) % side
            log_mstar, vxyz = rng.uniform(9.51, 11), velocity[i] + rng.normal(0, 600, 3)
            galaxies.append((10**6 + 100 * i + k, ids[i], 0, 1e11, 10**log_mstar, *xyz, *vxyz))
    rng.shuffle(galaxies)
    rng.shuffle(haloes)
    haloes = dict(zip(("id", "upid", "Mvir", "M200c", *AXES), map(np.array, zip(*haloes))))
    galaxies = dict(zip(("id", "upid", "flags", "Mvir", "obs_sm", *AXES), map(np.array, zip(*galaxies))))
    if name == "uchuu":  # whose files carry no flags
        keep = galaxies.pop("flags") & 16 == 0
        galaxies = {key: values[keep] for key, values in galaxies.items()}
    return SimpleNamespace(haloes=haloes, galaxies=galaxies)


def stacked(columns, axes, rows=slice(None)):
    return np.stack([columns[axis][rows] for axis in axes], axis=1).astype(np.float32)


def bin_rows(galaxies):
    rows = np.zeros(len(galaxies["id"]), LAYOUT)
    for name, column in (("id", "id"), ("upid", "upid"), ("flags", "flags"), ("m", "Mvir"), ("obs_sm", "obs_sm")):
        rows[name] = galaxies[column]
    rows["pos"] = stacked(galaxies, AXES)
    rows["r"], rows["sm"], rows["mp"], rows["rank1"] = 300.0, 1e8, 5e15, -7.0  # what a shifted reader would find
    return rows


def write_csv(path, haloes):
    """All columns of MDPL2.Rockstar that matter, in its order."""
    columns = {
        "rockstarId": haloes["id"], "upId": haloes["upid"], "pId": haloes["upid"], "Mvir": haloes["Mvir"],
        "Rvir": 1000.0, "Rs": 300.0, "M500c": 0.5 * haloes["M200c"], "M200c": haloes["M200c"],
        **{axis: haloes[axis] for axis in AXES}, "snapnum": 124,
    }  # fmt: skip
    table = Table({name: np.broadcast_to(values, len(haloes["id"])) for name, values in columns.items()})
    table.write(path, format="ascii.csv", overwrite=True)


def write_hdf5(path, columns, names):
    """One dataset a column: ids as int64, all else as float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name in names:
            data = np.asarray(columns[name]) if name in columns else np.full(len(columns["id"]), 7e8)  # a decoy
            file.create_dataset(name, data=data.astype(np.int64 if name.endswith("id") else np.float32))


def write(directory, name, box=None):
    """All files of a simulation, in its layouts and under its names; ``name``, ``directory`` and ``box``."""
    box = box or universe(name)
    directory.mkdir(parents=True, exist_ok=True)
    if name == "mdpl2":
        (directory / "sfr_catalog_0.978100.bin").write_bytes(bin_rows(box.galaxies).tobytes())
        write_csv(directory / "2026-01-01-haloes.csv", box.haloes)
    else:
        for number, names in UCHUU_UM.items():
            write_hdf5(directory / f"Uchuu_UM_z0p00_data{number}.h5", box.galaxies, names)
        for number in range(3):
            part = {key: values[number::3] for key, values in box.haloes.items()}
            write_hdf5(directory / f"rockstar/halolist_z0p00_{number}.h5", part, UCHUU_ROCKSTAR)
    return SimpleNamespace(name=name, directory=directory, box=box)


@pytest.fixture(params=["mdpl2", "uchuu"])
def files(request, tmp_path):
    return write(tmp_path / "my files", request.param)


@pytest.fixture
def mdpl2(tmp_path):
    return write(tmp_path / "files", "mdpl2")


def look(files, **options):
    return read(files.name, "universe_machine", files.directory, **options)


# What is read


def kept(g, side):
    """Rows of the galaxies that are read, in the order of their search cells, and their positions."""
    rows = np.flatnonzero((g["obs_sm"] >= 10**9.5) & (g.get("flags", 0) & 16 == 0))
    position = snapshots.wrapped(stacked(g, "xyz", rows), side)
    order = np.argsort(snapshots.cell_of(position, side), kind="stable")
    return rows[order], position[order]


def test_snapshot_has_what_the_files_hold(files):
    snapshot, h, g = look(files), files.box.haloes, files.box.galaxies
    hosts = [i for i in np.argsort(h["id"]) if h["upid"][i] == -1 and h["M200c"][i] >= 10**13.5]
    np.testing.assert_allclose(snapshot.host_log_m200c, np.log10(h["M200c"][hosts]), atol=1e-6)
    keep, position = kept(g, BOX[files.name])
    np.testing.assert_allclose(snapshot.log_mstar, np.log10(g["obs_sm"][keep]), atol=1e-5)
    for name, expected in {
        "host_position": stacked(h, "xyz", hosts), "host_velocity": stacked(h, AXES[3:], hosts), "position": position,
        "velocity": stacked(g, AXES[3:], keep), "is_satellite": g["upid"][keep] != -1,
    }.items():  # fmt: skip
        np.testing.assert_array_equal(getattr(snapshot, name), expected, err_msg=name)
    host_ids = list(h["id"][hosts])
    up = {**dict(zip(h["id"], h["upid"])), **dict(zip(g["id"], g["upid"]))}
    for k, host in zip(keep, snapshot.host, strict=True):
        top = g["id"][k]
        while up.get(top, -1) != -1:
            top = up[top]
        assert host == (host_ids.index(top) if top in host_ids else -1), (g["id"][k], top)
    assert snapshot.simulation.name == files.name and snapshot.box_size == BOX[files.name]
    assert snapshot.position.min() >= 0 and snapshot.position.max() < snapshot.box_size


def same(one, two):
    """Two snapshots hold the same."""
    for name in (*snapshots.HOST_COLUMNS, *snapshots.GALAXY.names, "layers"):
        np.testing.assert_array_equal(getattr(two, name)[:], getattr(one, name)[:], err_msg=name, strict=True)
    assert one.provenance["counts"] == two.provenance["counts"]
    assert (one.simulation, one.box_size) == (two.simulation, two.box_size)


def test_a_snapshot_in_a_file_holds_the_same_galaxies(files, tmp_path, monkeypatch):
    """In memory and in a file, in any pieces."""
    in_memory, file, lines = look(files), tmp_path / "new/box.h5", []
    monkeypatch.setattr(simulation_files, "PIECE", 7)
    monkeypatch.setattr(universe_machine, "ROWS_PER_LINE", 500)
    in_file = look(files, file=file, progress=lines.append)
    assert [line.partition(" rows read")[0] for line in lines[1:-1]] == ["504", "1,001", "1,505"]
    same(in_memory, in_file)
    assert in_memory.path is None and in_file.path == file and in_file.layers[-1] == len(in_file.host)
    same(in_file, snapshots.open_snapshot(file))
    assert list(file.parent.iterdir()) == [file]  # and nothing else is left


def test_everything_is_counted_and_told(mdpl2):
    counts = look(mdpl2, progress=(lines := []).append).provenance["counts"]
    heavy = (mdpl2.box.galaxies["Mvir"] >= 10**13.6) & (mdpl2.box.galaxies["upid"] == -1)
    assert counts == {
        "rows": 1571, "ignored": 2, "below_cut": 1, "galaxies": 1568, "orphans": 1, "hosts": 60,
        "hosts_without_central": 0, "massive_centrals": heavy.sum(), "centrals_without_halo": 0,
    }  # fmt: skip
    assert "62 haloes of at least 10^13.5" in lines[0] and "1,568 galaxies" in lines[-1] and "2 ignored" in lines[-1]


def test_a_hierarchy_is_climbed_to_its_top_over_haloes(mdpl2):
    """Three haloes one inside the other, and two that damage has put inside each other."""
    first, second, third, fourth, fifth = np.sort(mdpl2.box.haloes["id"])[-5:]
    for below, above in ((first, second), (second, third), (fourth, fifth), (fifth, fourth)):
        for part in (mdpl2.box.haloes, mdpl2.box.galaxies):
            part["upid"][part["id"] == below] = above
    write(mdpl2.directory, "mdpl2", mdpl2.box)
    snapshot, g = look(mdpl2), mdpl2.box.galaxies
    assert len(snapshot.host_log_m200c) == 60 - 4
    top = np.log10(mdpl2.box.haloes["M200c"][mdpl2.box.haloes["id"] == third])
    halo = np.where(g["upid"] == -1, g["id"], g["upid"])[kept(g, 1000.0)[0]]
    members = snapshot.host[np.isin(halo, [first, second, third])]
    assert len(members) > 75 and np.allclose(snapshot.host_log_m200c[members], top, atol=1e-6)
    assert (snapshot.host[np.isin(halo, [fourth, fifth])] == -1).all()


def test_a_central_in_what_rockstar_calls_a_subhalo_is_no_second_central(mdpl2):
    box = mdpl2.box
    inner, outer = np.argsort(box.haloes["M200c"])[[-9, -2]]
    box.haloes["upid"][inner] = box.haloes["id"][outer]
    write(mdpl2.directory, "mdpl2", box)
    snapshot = look(mdpl2)
    assert snapshot.provenance["counts"]["hosts_without_central"] == 0 and len(snapshot.host_log_m200c) == 59
    of_outer = np.isclose(snapshot.host_log_m200c[snapshot.host], np.log10(box.haloes["M200c"][outer]))
    of_outer &= snapshot.host >= 0
    assert of_outer.sum() > 50 and (~snapshot.is_satellite[of_outer]).sum() == 2


def test_the_cut_is_a_parameter(files):
    full, snapshot = look(files), look(files, min_log_mstar=10.5)
    np.testing.assert_array_equal(snapshot.log_mstar, full.log_mstar[full.log_mstar >= 10.5])
    refused(files, "none of .* rows has obs_sm of at least 10.13 Msun", min_log_mstar=13)


# Refused files


def refused(files, pattern, **options):
    with pytest.raises(ClusterToolsError, match=pattern) as error:
        look(files, **options)
    assert "\n" not in str(error.value)


BIN, CSV = "sfr_catalog_0.978100.bin", "2026-01-01-haloes.csv"


def content_of(name, change):
    """Put other bytes into a file."""
    return lambda at: (at / name).write_bytes(change((at / name).read_bytes()))


def text_of(old, new):
    """Change the haloes' CSV."""
    return content_of(CSV, lambda content: content.replace(old.encode(), new.encode(), 1))


def renamed(pattern, old, new, make=Path.rename):
    """Rename all these files, or put a copy beside them."""
    return lambda at: [make(file, file.with_name(file.name.replace(old, new))) for file in at.rglob(pattern)]


def datasets(number, **columns):
    """Change datasets of a file of Uchuu-UM."""

    def spoil(at):
        with h5py.File(at / f"Uchuu_UM_z0p00_data{number}.h5", "a") as file:
            for name, values in columns.items():
                values = values(file[name][()])
                del file[name]
                if values is not None:
                    file[name] = values

    return spoil


def without_rows(at):
    for path in at.rglob("Uchuu_UM*.h5"):
        with h5py.File(path) as file:
            number, names = re.search(r"data(\d+)", path.name)[1], list(file)
        datasets(number, **dict.fromkeys(names, lambda values: values[:0]))(path.parent)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("mdpl2", lambda at: (at / BIN).unlink(), "files has 0 files sfr_catalog.*exactly one is expected"),
        ("uchuu", lambda at: shutil.copytree(at, at / "a"), "files has 2 files .*Uchuu_UM.*exactly one is expected"),
        ("mdpl2", renamed(BIN, "0.978100", "1.000000"), "a = 0.978 .found .*sfr_catalog_1.000000.bin.; exactly one"),
        ("mdpl2", renamed(CSV, "haloes", "second", shutil.copy), "2 files .*.csv .*second.csv.*exactly one"),
        ("uchuu", renamed("halolist*", "z0p00", "z0p49"), "Uchuu at z = 0 .*z0p49_0"),
        ("uchuu", lambda at: shutil.copytree(at / "rockstar", at / "b"), r"6 files .*numbers .0, 0, 1, 1, 2, 2"),
        ("uchuu", lambda at: (at / "rockstar/halolist_z0p00_1.h5").unlink(), "2 files .*numbers .0, 2"),
        ("uchuu", renamed("halolist*_0.h5", "_0.h5", "_1.h5", shutil.copy), r"has the id \d+ 2 times"),
        ("mdpl2", content_of(BIN, lambda rows: rows[:129]), f"{BIN} has 129 bytes.* rows of 128.*download it again"),
        ("mdpl2", content_of(BIN, lambda rows: rows[: 128 * 700]), r"\d+ of 60 hosts have no central .*at most 5%"),
        ("uchuu", content_of("Uchuu_UM_z0p00_data3.h5", lambda _: b"<html>404"), "data3.h5 is damaged .*download"),
        ("uchuu", datasets(2, z=lambda z: None), "data2.h5 is damaged or of another kind .*'z'"),
        ("uchuu", datasets(2, z=lambda z: z[:-1]), "data2.h5, dataset z, .* shape .1568,., but 1569 numbers"),
        ("uchuu", datasets(1, id=lambda id: id.astype(float)), "dataset id, is of type float64 .*integers"),
        ("mdpl2", content_of(CSV, lambda text: b""), "haloes.csv lacks the columns rockstarid"),
        ("mdpl2", text_of("M200c", "M200b"), "lacks the columns m200c; export.*SELECT rockstarId"),
        ("mdpl2", content_of(CSV, lambda text: b"\0\xff\xfe" + text), "haloes.csv"),
        ("mdpl2", text_of(",124", ",125"), "haloes.csv has haloes of snapnum 125, not 124 .*; export"),
        ("mdpl2", text_of(",124", ",124.5"), "haloes.csv has float64 in snapnum, not whole numbers"),
        ("mdpl2", text_of(",124", ","), "haloes.csv has gaps in snapnum; export"),
        ("uchuu", without_rows, "holds no rows at all; download it again"),
    ],
)
def test_missing_other_and_damaged_files(name, spoil, message, tmp_path):
    files = write(tmp_path / "files", name)
    spoil(files.directory)
    refused(files, message)


def put(part, column, row, value):
    return lambda box: getattr(box, part)[column].__setitem__(row, value)


def scaled(part, column, factor):
    return lambda box: getattr(box, part).__setitem__(column, getattr(box, part)[column] * factor)


def a_central_twice(box):
    for column in box.galaxies.values():
        column[box.galaxies["id"] == 1000] = column[box.galaxies["Mvir"].argmax()]


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("mdpl2", put("galaxies", "x", 7, 1004.0), "column x, row 8: found 1004, but a position from 0 to 1000 Mpc/h"),
        ("mdpl2", put("galaxies", "z", 7, np.nan), "column z, row 8: found nan, but a position"),
        ("mdpl2", put("galaxies", "vy", 7, 3e5), "column vy, row 8: found 300000, but a velocity below 20000 km/s"),
        ("mdpl2", put("galaxies", "obs_sm", 7, -1e10), r"column obs_sm, row 8: found -1e\+10, but a mass"),
        ("mdpl2", put("galaxies", "id", 7, -5), "column id, row 8: found -5, but 0 or more"),
        ("mdpl2", put("galaxies", "upid", 7, -2), "column upid, row 8: found -2, but -1 or more"),
        ("uchuu", put("galaxies", "y", 3, 2e5), "data2.h5, column y, row 4: found 200000"),
        ("uchuu", put("haloes", "M200c", 4, -1), "halolist_z0p00_1.h5, column m200c, row 2: found -1"),
        ("mdpl2", a_central_twice, "has the id .* 2 times"),
        ("mdpl2", scaled("haloes", "M200c", 1 / 0.6777), "M200c to Mvir of haloes is 1.18.*Msun/h.*near 0.68 or 1.48"),
        ("mdpl2", scaled("haloes", "Mvir", 0.6777), "ratio of Mvir of galaxies to Mvir of haloes is 1.48"),
        ("mdpl2", scaled("haloes", "x", 0.6777), "distance .Mpc/h. of central galaxies from the haloes of their ids"),
    ],
)
def test_values_that_cannot_be_and_units_that_disagree(name, spoil, message, tmp_path):
    box = universe(name)
    if name == "mdpl2":
        box.galaxies["flags"][7], box.galaxies["obs_sm"][7] = 0, 1e11
    spoil(box)
    refused(write(tmp_path / "files", name, box), message, file=tmp_path / "new/box.h5")
    assert not list(tmp_path.glob("new/*"))  # no file is left


def test_paths_and_sources_that_are_none(files, tmp_path, monkeypatch):
    for path in (tmp_path / "none", None, " "):
        refused(SimpleNamespace(name=files.name, directory=path), "path is .*, but the directory")
    other = {"mdpl2": "uchuu", "uchuu": "mdpl2"}[files.name]
    refused(SimpleNamespace(name=other, directory=files.directory), "exactly one is expected")
    for name, source in (("mdpl2", "eagle"), ("mdpl2", "uchuu"), ("uchuu", "illustris")):
        with pytest.raises(ClusterToolsError, match=f"source is '{source}' for {name}, but .* universe_machine"):
            find(name, source, tmp_path)
    monkeypatch.setattr(simulation_files.os, "access", lambda file, how: file.suffix == ".csv")
    refused(files, "may not be read by you; change its permissions")


def test_another_snapshot_beside_and_another_case_of_names_are_no_matter(mdpl2):
    renamed(BIN, "0.978100", "1.000000", shutil.copy)(mdpl2.directory)
    text_of("rockstarId", "rockstarid")(mdpl2.directory)
    text_of("M200c", " M200C")(mdpl2.directory)
    look(mdpl2)


def test_ids_that_do_not_join_are_counted_and_too_many_refused(files):
    box = files.box
    gone = np.flatnonzero(box.haloes["Mvir"] > 10**14.2)[:2]
    box.haloes["id"][gone] += 1  # as if two of 60 were not there
    write(files.directory, files.name, box)
    counts = look(files, progress=(lines := []).append).provenance["counts"]
    assert counts["hosts_without_central"] == counts["centrals_without_halo"] == 2
    assert "2 hosts without central" in lines[-1] and "2 centrals without halo" in lines[-1]
    box.haloes["id"] += 10**6
    box.haloes["upid"][box.haloes["upid"] > 0] += 10**6
    write(files.directory, files.name, box)
    refused(files, "60 of 60 hosts have no central galaxy of their id.*same simulation and snapshot")


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bytes_end_in_a_snapshot_or_one_sentence(tmp_path, data):
    directory = tmp_path / "damaged"
    name = data.draw(st.sampled_from(["mdpl2", "uchuu"]))
    shutil.rmtree(directory, ignore_errors=True)
    write(directory, name)
    path = data.draw(st.sampled_from(sorted(file for file in directory.rglob("*") if file.is_file())))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:  # anywhere; HDF5 itself, which checks nothing, is spared in its tables
        first = 0
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                first = min(file[name].id.get_offset() for name in file)
        for at in data.draw(st.lists(st.integers(first, len(content) - 1), min_size=1, max_size=5)):
            content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        snapshot = read(name, "universe_machine", directory)
    except ClusterToolsError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(snapshot.position).all() and np.isfinite(snapshot.host_log_m200c).all()


# CosmoSim


@pytest.fixture
def answer():
    table = Table(universe("mdpl2").haloes)
    table.rename_column("id", "rockstarid")
    table["snapnum"] = 124
    return table


@pytest.fixture
def ask(mdpl2, monkeypatch):
    """Read MDPL2 without a CSV file, with CosmoSim at this server and this token."""
    next(mdpl2.directory.glob("*.csv")).unlink()

    def call(server, token=TOKEN):
        monkeypatch.setattr(cosmosim, "URL", server.url)
        for name, seconds in (("REQUEST_SECONDS", 0.5), ("POLL_SECONDS", 0.02), ("JOB_SECONDS", 0.3)):
            monkeypatch.setattr(cosmosim, name, seconds)
        if token is not None:
            monkeypatch.setenv(cosmosim.TOKEN, token)
        return look(mdpl2)

    return call


@pytest.mark.parametrize("phase", ["QUEUED", "UNKNOWN"])
def test_cosmosim_gives_what_the_csv_gives_and_is_asked_once(ask, answer, tmp_path, phase):
    expected = look(write(tmp_path / "with csv", "mdpl2"))
    with cosmosim_server(votable(answer), token=TOKEN, waits=4, phase=phase) as server:
        snapshot = ask(server)
    same(expected, snapshot)
    (form,) = server.forms
    assert "FROM MDPL2.Rockstar WHERE snapnum = 124" in form["QUERY"] and form["LANG"] == "ADQL"
    assert form["QUEUE"] == "1h" and int(form["MAXREC"]) >= 10**6  # not the service's minute, not its few rows
    assert set(server.tokens) == {f"Token {TOKEN}"} and server.deleted == ["/tap/async/1"]
    again = ask(server)  # which is gone by now
    np.testing.assert_array_equal(again.host_log_m200c, snapshot.host_log_m200c)
    cached = next((tmp_path / "results/cache").iterdir())
    assert TOKEN not in cached.read_text()
    cached.write_text(cached.read_text()[:-200])  # a damaged cache is asked for again
    with cosmosim_server(votable(answer), token=TOKEN) as server:
        ask(server)
    assert len(server.forms) == 1


def test_the_token_is_not_taken_elsewhere(ask, answer):
    with cosmosim_server(votable(answer)) as other:
        with cosmosim_server(votable(answer), token=TOKEN, elsewhere=other.url) as server:
            snapshot = ask(server)
    assert other.tokens == [""] and len(snapshot.host_log_m200c) == 60


@pytest.mark.parametrize(
    ("behaviour", "token", "message"),
    [
        ({}, None, "COSMOSIM_TOKEN is not set; put your API token .* or export this query as CSV.*SELECT rockstarId"),
        ({}, "wrong-token", "refused the token in COSMOSIM_TOKEN .HTTP status 401."),
        ({"status": 500}, TOKEN, "answered with HTTP status 500"),
        ({"page": b"<html>Down for maintenance, {}</html>"}, TOKEN, "failed "),
        ({"fault": f"Token {TOKEN} is out of date"}, TOKEN, "failed .*Token <token> is out of date"),
        ({"cut": 5000}, TOKEN, "failed "),
        ({"silent": True}, TOKEN, "failed .*[tT]imed? ?out"),
        ({"waits": np.inf}, TOKEN, "failed .*the query was still EXECUTING after 0.3 s"),
        ({"rows": 0}, TOKEN, "CosmoSim has no rows"),
        ({"overflow": True}, TOKEN, "cut its answer short after 63 rows"),
    ],
)
def test_cosmosim_misbehaves(ask, answer, tmp_path, behaviour, token, message, capfd, caplog):
    behaviour = dict(behaviour)
    sent = votable(answer[: behaviour.pop("rows", None)], overflow=behaviour.pop("overflow", False))
    with cosmosim_server(sent, token=TOKEN, **behaviour) as server:
        with pytest.raises(ClusterToolsError, match=message) as error:
            ask(server, token)
    said = str(error.value) + "".join(capfd.readouterr()) + caplog.text
    assert "\n" not in str(error.value) and TOKEN not in said and "wrong-token" not in said
    assert not list((tmp_path / "results").rglob("*.ecsv"))


def test_the_page_shows_the_query_that_is_sent():
    page = Path(__file__).parents[2] / "book/real_simulations.md"
    assert cosmosim.QUERY in " ".join(page.read_text().split())


# On through the pipeline


def test_chapter_01_takes_them_with_source_and_path(mdpl2, tmp_path, monkeypatch):
    make = partial(
        artefacts.mock_catalog, "smoke", "mdpl2", source="universe_machine", path=str(mdpl2.directory), box_size=250.0,
        rows_per_dex=100, galaxies="all", seed=1,
    )  # fmt: skip
    catalog = make(progress=(lines := []).append)
    assert catalog.provenance["box_size"] == 1000 and catalog.provenance["counts"]["hosts"] == 60
    assert any("60 hosts" in line for line in lines)
    (file,) = (tmp_path / "results/smoke/snapshots").iterdir()
    assert re.fullmatch(r"mdpl2@[0-9a-f]{8}\.h5", file.name)
    stamp = snapshots.open_snapshot(file).provenance
    assert set(stamp["inputs"]) == {"sfr_catalog_0.978100.bin", "2026-01-01-haloes.csv"}
    assert catalog.provenance["inputs"] == {"snapshot": stamp["key"]}
    assert stamp["counts"] == catalog.provenance["counts"]
    monkeypatch.setattr(universe_machine, "read", None)
    np.testing.assert_array_equal(make().v_los, catalog.v_los)
    other = make(seed=2, box_size=500.0)
    assert len(other) and len(list(file.parent.iterdir())) == 1  # of the same box
    mdpl2.box.haloes["M200c"] *= 1.01
    write(mdpl2.directory, "mdpl2", mdpl2.box)
    with pytest.raises(TypeError):  # read again, since the files have changed
        make()
    with pytest.raises(ClusterToolsError, match="source is 'synthetic', which reads no files; add -p source universe"):
        make(source="synthetic")


def test_large_files_are_known_by_samples(tmp_path):
    path, size = tmp_path / "large", 65 * 2**20 + 5
    digests = set()
    for length, at in ((size, None), (size, 0), (size, size - 1), (size - 128, size - 129)):
        with open(path, "wb") as file:
            file.truncate(length)
            if at is not None:
                file.seek(at)
                file.write(b"x")
        digests.add(simulation_files._sampled_digest(path))
    assert len(digests) == 4


def test_digests_stand_for_files_and_the_query_for_cosmosim(mdpl2):
    before = content("mdpl2", "universe_machine", mdpl2.directory)
    content_of(BIN, lambda rows: rows[:1000] + bytes([rows[1000] ^ 1]) + rows[1001:])(mdpl2.directory)
    after = content("mdpl2", "universe_machine", mdpl2.directory)
    assert len(before) == 2 and [name for name in before if before[name] != after[name]] == ["sfr_catalog_0.978100.bin"]
    next(mdpl2.directory.glob("*.csv")).unlink()
    assert content("mdpl2", "universe_machine", mdpl2.directory)["CosmoSim"] == cosmosim.QUERY
