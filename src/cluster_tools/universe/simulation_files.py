"""The published files of MDPL2 and Uchuu: found by their names, read in pieces.

Galaxies by UniverseMachine (Behroozi et al. 2019; Aung et al. 2023), haloes by Rockstar:

- MDPL2-UM, ``sfr_catalog_<a>.bin``: rows of 128 bytes, see `ROW`. ``m`` is the virial mass.
- Uchuu-UM, ``Uchuu_UM_z0p00_data1..3.h5``: one dataset a column, the columns over three files.
- MDPL2 Rockstar: a table exported from CosmoSim as CSV, or the same asked for by `cosmosim`.
- Uchuu Rockstar, ``halolist_z0p00_<n>.h5``: one dataset a column, many files.

In all of them halo masses are in Msun/h, stellar masses in Msun without h, positions in comoving
Mpc/h, velocities peculiar, physical, in km/s. What is read is checked and joined in
`universe_machine`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cluster_tools import paths
from cluster_tools.cosmology import Simulation, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import cosmosim

# Which simulations each source of galaxies exists for.
SOURCES = {"universe_machine": ("mdpl2", "uchuu"), "uchuu": ("uchuu",)}
LOG_M_HOST = 13.5  # log10 Msun/h, of hosts: the training sets begin at 13.6
ROW = np.dtype(
    [
        ("id", "<i8"), ("descid", "<i8"), ("upid", "<i8"), ("flags", "<i4"), ("uparent_dist", "<f4"), ("pos", "<f4", 6),
        *((name, "<f4") for name in (
            "vmp", "lvmp", "mp", "m", "v", "r", "rank1", "rank2", "ra", "rarank",
            "A_UV", "sm", "icl", "sfr", "obs_sm", "obs_sfr", "obs_uv", "empty")),
    ]
)  # fmt: skip
PHASE_SPACE = ("x", "y", "z", "vx", "vy", "vz")
HALO_COLUMNS = ("id", "upid", "Mvir", "M200c", *PHASE_SPACE)
UCHUU_COLUMNS = {1: ("id", "upid", "Mvir", "obs_sm"), 2: ("x", "y", "z"), 3: ("vx", "vy", "vz")}
PIECE = 2**20  # rows read at a time
WHOLE = 2**26  # bytes of a file that is read whole to tell whether it has changed
HDF5_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError)

Columns = dict[str, np.ndarray]
# File of each column, number of the first row, the columns themselves under their names in lower case.
Piece = tuple[dict[str, str], int, Columns]


def content(name: str, source: str, path: Path | str | None) -> dict[str, str]:
    """What stands for the content of the files that would be read: size and digest, by name.

    Nothing for the source "synthetic", which reads none. Files of more than 64 MiB are too large to
    be read whole for this. Of these the digest covers 64 blocks of 64 KiB, the first, the last and
    others spread evenly between: another file, or one cut short, is found out, a single changed
    byte most likely not. For haloes that CosmoSim is asked for, the query stands.

    Raises `ClusterToolsError` as `find` does, and for a path that "synthetic" has no use for.
    """
    if source == "synthetic":
        if path is None:
            return {}
        raise ClusterToolsError(
            f"path is {str(path)!r}, but source is 'synthetic', which reads no files; add -p source universe_machine."
        )
    galaxy_files, halo_files = find(name, source, path)
    found = {file.name: _sampled_digest(file) for file in (*galaxy_files, *halo_files)}
    return found if halo_files else found | {"CosmoSim": cosmosim.query(LOG_M_HOST)}


def _sampled_digest(path: Path) -> str:
    size = path.stat().st_size
    blocks, block = (1, size) if size <= WHOLE else (64, 2**16)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for start in np.linspace(0, size - block, blocks).astype(int):
            file.seek(start)
            digest.update(file.read(block))
    return f"{size} bytes, {digest.hexdigest()[:16]}"


# Finding the files


def find(name: str, source: str, path: Path | str | None) -> tuple[list[Path], list[Path]]:
    """The files of galaxies, and of haloes (none: CosmoSim is to be asked), in `path` and below.

    Raises `ClusterToolsError` if the source is unknown or does not have this simulation, and for
    files that are missing, ambiguous, or of another snapshot.
    """
    sim = simulation(name)
    if source not in SOURCES:
        raise ClusterToolsError(f"source is {source!r}, but one of synthetic, {', '.join(SOURCES)} is expected.")
    if name not in SOURCES[source]:
        raise ClusterToolsError(
            f"source {source!r} has no {name}; give simulation={SOURCES[source][0]!r}, or source='universe_machine'."
        )
    directory = _directory(source, path)
    files = sorted(file for file in directory.rglob("*") if file.is_file() and not file.name.startswith("."))
    if unreadable := [file for file in files if not os.access(file, os.R_OK)]:
        raise ClusterToolsError(f"{paths.shown(unreadable[0])} may not be read by you; change its permissions.")
    of = {
        "mdpl2": [file for file in files if re.fullmatch(r"sfr_catalog_[\d.]+\.bin", file.name)],
        "uchuu": [file for file in files if re.fullmatch(r"Uchuu_UM_z\d+p\d+_data[123]\.h5", file.name)],
    }
    if not of[name] and any(of.values()):
        other = next(key for key in of if of[key])
        raise ClusterToolsError(
            f"{paths.shown(directory)} has galaxies of {other} ({of[other][0].name}), but none of {name}; "
            f"add -p simulation {other}, or put the files of {name} there."
        )
    if name == "mdpl2":
        return [_sfr_catalog(sim, directory, of[name])], _only_csv(directory, files)
    parts = [
        _one(directory, [file for file in of[name] if file.name == wanted], wanted, [f.name for f in of[name]])
        for wanted in (f"Uchuu_UM_z0p00_data{n}.h5" for n in (1, 2, 3))
    ]
    haloes = [file for file in files if file.suffix in (".h5", ".hdf5") and not file.name.startswith("Uchuu_UM")]
    return parts, _numbered(directory, haloes)


def _directory(source, path) -> Path:
    if path is None or not str(path).strip():
        raise ClusterToolsError(f"source is {source!r}, but path is {path!r}; give the directory of its files.")
    given = Path(str(path)).expanduser()
    for directory in (given, paths.project_root() / given):
        if directory.is_dir():
            return directory.resolve()
    raise ClusterToolsError(f"path is {str(path)!r}, but the directory that holds the simulation's files is expected.")


def _one(directory, found: Sequence[Path], wanted: str, others: Sequence[str]) -> Path:
    """The one file found, or an error that says what else there is."""
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} files {wanted} ({', '.join(paths.shown(f) for f in found)})" if found else f"no {wanted}"
    instead = f", only {', '.join(others[:5])}" if others and not found else ""
    raise ClusterToolsError(
        f"{paths.shown(directory)} has {what}{instead}; exactly one is expected there or in a directory below."
    )


def _sfr_catalog(sim: Simulation, directory, found: Sequence[Path]) -> Path:
    """The ``sfr_catalog_<a>.bin`` of the simulation's snapshot."""
    wanted = 1 / (1 + sim.redshift)

    def scale(file: Path) -> float:
        return float(re.sub(r"[^\d.]|\.$", "", file.stem.rpartition("_")[2]) or "nan")

    now = [file for file in found if file.stem.count(".") == 1 and abs(scale(file) - wanted) < 0.005]
    return _one(directory, now, f"sfr_catalog_<a>.bin with a = {wanted:.3f}", [file.name for file in found])


def _only_csv(directory, files: Sequence[Path]) -> list[Path]:
    found = [file for file in files if file.suffix.lower() == ".csv"]
    if len(found) > 1:
        raise ClusterToolsError(
            f"{paths.shown(directory)} has {len(found)} CSV files ({', '.join(f.name for f in found[:5])}); leave "
            "only the one of MDPL2's Rockstar haloes there."
        )
    return found


def _numbered(directory, files: Sequence[Path]) -> list[Path]:
    """Uchuu's halo files at z = 0, all parts of them."""
    redshifts = {file: re.search(r"_z(\d+p\d+)", file.stem) for file in files}
    now = [file for file in files if redshifts[file] is None or float(redshifts[file][1].replace("p", ".")) == 0]
    if not now:
        instead = f"only {', '.join(file.name for file in files[:5])}" if files else "none"
        raise ClusterToolsError(
            f"{paths.shown(directory)} has no Rockstar files of Uchuu at z = 0 (found {instead}); halolist_z0p00_0.h5 "
            "and its like are expected there or in a directory below."
        )
    numbers = [int(found[1]) if (found := re.search(r"_(\d+)$", file.stem)) else None for file in now]
    known = {number for number in numbers if number is not None}
    missing = sorted(set(range(min(known | {1}), max(known, default=0))) - known)  # counted from 0 or 1
    if missing:
        raise ClusterToolsError(
            f"{paths.shown(directory)} has {len(now)} Rockstar files up to number {max(known)}, but number "
            f"{', '.join(map(str, missing[:5]))} is missing; download all parts."
        )
    if len(known) + (None in numbers) < len(now):
        raise ClusterToolsError(
            f"{paths.shown(directory)} has Rockstar files of the same number twice (such as {now[0].name}); leave one "
            "set of haloes there."
        )
    return now


# Reading them, in pieces


def galaxies(sim: Simulation, files: Sequence[Path]) -> Iterator[Piece]:
    """Pieces of UniverseMachine's galaxies: id, upid, mvir, obs_sm, x to vz; for MDPL2 also flags."""
    return _bin_pieces(files[0]) if sim.name == "mdpl2" else _uchuu_um_pieces(files)


def haloes(sim: Simulation, files: Sequence[Path], log_m_host: float) -> Iterator[Piece]:
    """Pieces of Rockstar's haloes (id, upid, mvir, m200c, x to vz) from HDF5, CSV, or CosmoSim if there is no file."""
    if sim.name == "uchuu":
        for file in files:
            yield from _hdf5_pieces({file: HALO_COLUMNS})
    elif files:
        yield from _csv_pieces(files[0])
    else:
        table = cosmosim.table(log_m_host)
        columns = {name.lower(): np.asarray(table[name]) for name in table.colnames}
        columns = _this_snapshot(columns, "CosmoSim's answer")
        yield dict.fromkeys(columns, "CosmoSim's answer"), 0, columns


def _bin_pieces(path: Path) -> Iterator[Piece]:
    """MDPL2-UM, ``sfr_catalog_<a>.bin``."""
    shown = paths.shown(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        begin = file.read(8)
        if begin == b"\x89HDF\r\n\x1a\n":
            raise ClusterToolsError(f"{shown} is an HDF5 file, but rows of {ROW.itemsize} bytes are expected.")
        if size == 0 or size % ROW.itemsize:
            raise ClusterToolsError(
                f"{shown} has {size} bytes (it begins with {begin!r}), but a multiple of {ROW.itemsize}, the size of a "
                "row, is expected; it is cut short or another kind of file: download it again."
            )
        file.seek(0)
        first = 0
        while len(rows := np.fromfile(file, ROW, PIECE)):
            columns = {name: rows[name] for name in ("id", "upid", "flags", "obs_sm")} | {"mvir": rows["m"]}
            columns |= {name: rows["pos"][:, i] for i, name in enumerate(PHASE_SPACE)}
            yield dict.fromkeys(columns, shown), first, columns
            first += len(rows)


def _uchuu_um_pieces(files: Sequence[Path]) -> Iterator[Piece]:
    """Uchuu-UM, ``Uchuu_UM_z0p00_data1..3.h5``."""
    return _hdf5_pieces(dict(zip(files, UCHUU_COLUMNS.values(), strict=True)))


def _hdf5_pieces(wanted: Mapping[Path, Sequence[str]]) -> Iterator[Piece]:
    """Columns of equal length from one or more HDF5 files."""
    import h5py

    datasets, files, rows = {}, {}, None
    with ExitStack() as stack:
        for path, columns in wanted.items():
            shown = paths.shown(path)
            try:
                file = stack.enter_context(h5py.File(path, "r"))
                found = {column: file[column] for column in columns if isinstance(file.get(column), h5py.Dataset)}
                kinds = {column: (dataset.dtype, dataset.shape) for column, dataset in found.items()}
                listed = ", ".join(list(file)[:12]) or "none"
            except HDF5_ERRORS as error:
                raise _damaged(shown, error) from None
            if missing := [column for column in columns if column not in found]:
                raise ClusterToolsError(
                    f"{shown} lacks the datasets {', '.join(missing)} (it has {listed}); it is another file."
                )
            for column, (dtype, shape) in kinds.items():
                whole = column in ("id", "upid")
                if len(shape) != 1 or dtype.kind not in ("iu" if whole else "iuf") or dtype.itemsize > 8:
                    raise ClusterToolsError(
                        f"{shown}, dataset {column}, is of type {dtype} and shape {shape}; one column of "
                        f"{'integers' if whole else 'numbers'} is expected."
                    )
                rows = shape[0] if rows is None else rows
                if shape[0] != rows:
                    raise ClusterToolsError(
                        f"{shown}, dataset {column}, has {shape[0]} rows, but {rows} as in the others are expected; "
                        "the files do not belong together, or one is cut short: download them again."
                    )
            datasets |= {column.lower(): dataset for column, dataset in found.items()}
            files |= {column.lower(): shown for column in found}
        for first in range(0, rows, PIECE):
            piece = {}
            for column, dataset in datasets.items():
                try:
                    piece[column] = dataset[first : first + PIECE]
                except HDF5_ERRORS as error:
                    raise _damaged(files[column], error) from None
            yield files, first, piece


def _damaged(shown: str, error: Exception) -> ClusterToolsError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ClusterToolsError(f"{shown} is no whole HDF5 file ({reason}); download it again.")


def _csv_pieces(path: Path) -> Iterator[Piece]:
    """MDPL2.Rockstar as CosmoSim exports it: names of any case, ids as whole numbers."""
    import pandas as pd

    shown = paths.shown(path)
    wanted = [name.lower() for name in cosmosim.COLUMNS]
    try:
        header = pd.read_csv(path, nrows=0, comment="#", skipinitialspace=True, index_col=False).columns
        names = {name: name.strip().lower() for name in header if name.strip().lower() in wanted}
        missing = set(wanted) - {"snapnum"} - set(names.values())
        if missing:
            raise ClusterToolsError(
                f"{shown} lacks the columns {', '.join(sorted(missing))} (it has {', '.join(header[:12])}); export "
                f'them all: "{cosmosim.query(LOG_M_HOST)}"'
            )
        types = {name: np.int64 if names[name] in ("rockstarid", "upid", "snapnum") else np.float64 for name in names}
        first = 0
        for table in pd.read_csv(
            path, usecols=list(names), dtype=types, comment="#", skipinitialspace=True, index_col=False,
            chunksize=PIECE,
        ):  # fmt: skip
            columns = _this_snapshot({names[name]: table[name].to_numpy() for name in table.columns}, shown)
            yield dict.fromkeys(columns, shown), first, columns
            first += len(table)
    except (OSError, ValueError, OverflowError) as error:  # pandas' own are all of the second kind
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ClusterToolsError(
            f"{shown} is no whole table of numbers ({reason}); export it from CosmoSim again."
        ) from None


def _this_snapshot(columns: Columns, shown: str) -> Columns:
    """Columns of CosmoSim under their standard names, refused if they are of another snapshot."""
    number = columns.get("snapnum", np.empty(0, np.int64))
    if (wrong := number[number != cosmosim.SNAPNUM]).size:
        raise ClusterToolsError(
            f"{shown} has haloes of snapnum {wrong[0]}, but {cosmosim.SNAPNUM} (a = 0.978) alone is expected; export "
            f'them anew: "{cosmosim.query(LOG_M_HOST)}"'
        )
    return {"id": columns["rockstarid"]} | {name: columns[name] for name in ("upid", "mvir", "m200c", *PHASE_SPACE)}
