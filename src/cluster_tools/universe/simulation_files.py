"""The published files of MDPL2 and Uchuu: found by their names, read in pieces.

Galaxies by UniverseMachine (Behroozi et al. 2019; Aung et al. 2023), haloes by Rockstar:

- MDPL2-UM, ``sfr_catalog_<a>.bin``: rows of 128 bytes, see `ROW`. ``m`` is the virial mass.
- Uchuu-UM, ``Uchuu_UM_z0p00_data1..3.h5``: one dataset a column, the columns over three files.
- MDPL2 Rockstar: a table exported from CosmoSim as CSV, or asked from there by `cosmosim`.
- Uchuu Rockstar, ``halolist_z0p00_<n>.h5``: one dataset a column, many files.

In all of them halo masses are in Msun/h, stellar masses in Msun without h, positions in comoving
Mpc/h, velocities peculiar, physical, in km/s. `universe_machine` checks and joins the pieces.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from astropy.table import Table

from cluster_tools import hdf5, paths
from cluster_tools.cosmology import Simulation, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.table_files import parsing
from cluster_tools.universe import cosmosim

SOURCES = {"universe_machine": ("mdpl2", "uchuu"), "uchuu": ("uchuu",)}  # simulations of each source
DRAWN = ("synthetic", "foreign")  # sources that read no files
ROW = np.dtype(  # all that is read of it
    {
        "names": ("id", "upid", "flags", "pos", "m", "obs_sm"), "offsets": (0, 16, 24, 32, 68, 112), "itemsize": 128,
        "formats": ("<i8", "<i8", "<i4", ("<f4", 6), "<f4", "<f4"),
    }
)  # fmt: skip
PHASE_SPACE = ("x", "y", "z", "vx", "vy", "vz")
HALO_COLUMNS = ("id", "upid", "Mvir", "M200c", *PHASE_SPACE)
UCHUU_FILE = "Uchuu_UM_z0p00_data{}.h5"
UCHUU_COLUMNS = {1: ("id", "upid", "Mvir", "obs_sm"), 2: ("x", "y", "z"), 3: ("vx", "vy", "vz")}
PIECE = 2**20  # rows read at a time
WHOLE = 2**26  # bytes: larger files are digested by samples

Columns = dict[str, np.ndarray]
# File of each column, number of the first row, the columns themselves under their names in lower case.
Piece = tuple[dict[str, str], int, Columns]


def content(name: str, source: str, path: Path | str | None) -> dict[str, str]:
    """Size and digest, by name, of the files that `universe_machine.read` reads; none for "synthetic" and "foreign".

    Of files above 64 MiB, 64 blocks of 64 KiB are digested, which finds an exchanged or truncated file, but rarely a
    single changed byte. The query stands for haloes from CosmoSim. Raises `ClusterToolsError` as `find` does,
    and for a path given with "synthetic" or "foreign".
    """
    if source in DRAWN:
        if path is None:
            return {}
        raise ClusterToolsError(
            f"path is {str(path)!r}, but source is {source!r}, which reads no files; add -p source universe_machine."
        )
    galaxy_files, halo_files = find(name, source, path)
    digests = {file.name: _sampled_digest(file) for file in (*galaxy_files, *halo_files)}
    return digests if halo_files else digests | {"CosmoSim": cosmosim.QUERY}


def _sampled_digest(path: Path) -> str:
    size = path.stat().st_size
    blocks, block = (1, size) if size <= WHOLE else (64, 2**16)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for start in np.linspace(0, size - block, blocks).astype(int):
            file.seek(start)
            digest.update(file.read(block))
    return f"{size} bytes, {digest.hexdigest()[:16]}"


def find(name: str, source: str, path: Path | str | None) -> tuple[list[Path], list[Path]]:
    """Files of galaxies, and of haloes (none: CosmoSim is to be asked), in `path` and below; see `universe_machine`.

    Raises `ClusterToolsError` for a source that does not have this simulation, and for files that are missing,
    ambiguous, or of another snapshot.
    """
    sim = simulation(name)
    if name not in SOURCES.get(source, ()):
        raise ClusterToolsError(
            f"source is {source!r} for {name}, but synthetic, foreign or universe_machine is expected."
        )
    directory = paths.existing(path or "")
    if directory is None or not directory.is_dir():
        raise ClusterToolsError(f"path is {path!r}, but the directory of the simulation's files is expected.")
    directory = directory.resolve()
    files = sorted(file for file in directory.rglob("*") if file.is_file() and not file.name.startswith("."))
    if unreadable := [file for file in files if not os.access(file, os.R_OK)]:
        raise ClusterToolsError(f"{paths.shown(unreadable[0])} may not be read by you; change its permissions.")
    if name == "mdpl2":
        a = {file: re.fullmatch(r"sfr_catalog_(\d+\.\d+)\.bin", file.name) for file in files}
        now = [file for file in files if a[file] and abs(float(a[file][1]) - 1 / (1 + sim.redshift)) < 0.005]
        galaxies = [_one(directory, now, "sfr_catalog_<a>.bin with a = 0.978", [file for file in files if a[file]])]
        haloes = [file for file in files if file.suffix.lower() == ".csv"]
        return galaxies, [_one(directory, haloes, "*.csv of Rockstar haloes", files)] if haloes else []
    umachine = [file for file in files if file.name.startswith("Uchuu_UM")]
    parts = {part: [file for file in umachine if file.name == part] for part in map(UCHUU_FILE.format, UCHUU_COLUMNS)}
    haloes = [file for file in files if file.suffix in (".h5", ".hdf5") and file not in umachine]
    return [_one(directory, found, part, umachine) for part, found in parts.items()], _all_parts(directory, haloes)


def _one(directory: Path, matching: Sequence[Path], wanted: str, others: Sequence[Path]) -> Path:
    """The one matching file, or an error that lists the others."""
    if len(matching) != 1:
        listed = ", ".join(paths.shown(file) for file in (matching or others)[:5]) or "nothing"
        raise ClusterToolsError(
            f"{paths.shown(directory)} has {len(matching)} files {wanted} (found {listed}); exactly one is expected "
            "there or in a directory below."
        )
    return matching[0]


def _all_parts(directory: Path, files: Sequence[Path]) -> list[Path]:
    """Uchuu's halo files at z = 0, all parts of them, which are counted from 0 or 1."""
    redshifts = {file: re.search(r"_z(\d+p\d+)", file.stem) for file in files}
    now = [file for file in files if redshifts[file] is None or float(redshifts[file][1].replace("p", ".")) == 0]
    numbers = sorted(int(match[1]) for file in now if (match := re.search(r"_(\d+)$", file.stem)))
    if not now or numbers and numbers not in [list(range(first, first + len(numbers))) for first in (0, 1)]:
        listed = f"numbers {numbers}" if now else f"found {', '.join(file.name for file in files[:5]) or 'nothing'}"
        raise ClusterToolsError(
            f"{paths.shown(directory)} has {len(now)} files halolist_z0p00_<n>.h5 of Uchuu at z = 0 ({listed[:200]}); "
            "put all parts of one set of haloes there, each once."
        )
    return now


def galaxies(sim: Simulation, files: Sequence[Path]) -> Iterator[Piece]:
    """Pieces of UniverseMachine's galaxies: id, upid, mvir, obs_sm, x to vz; for MDPL2 also flags."""
    if sim.name == "uchuu":
        return _hdf5_pieces(dict(zip(files, UCHUU_COLUMNS.values(), strict=True)))
    return _bin_pieces(files[0])


def haloes(sim: Simulation, files: Sequence[Path]) -> Iterator[Piece]:
    """Pieces of Rockstar's haloes (id, upid, mvir, m200c, x to vz) from HDF5, CSV, or CosmoSim if there is no file."""
    if sim.name == "uchuu":
        for file in files:
            yield from _hdf5_pieces({file: HALO_COLUMNS})
    else:
        shown = paths.shown(files[0]) if files else "CosmoSim"
        table = _csv(files[0], shown) if files else cosmosim.table()
        table.rename_column("rockstarid", "id")
        piece = {name.lower(): np.asarray(table[name.lower()]) for name in HALO_COLUMNS}
        yield dict.fromkeys(piece, shown), 0, piece


def _bin_pieces(path: Path) -> Iterator[Piece]:
    """MDPL2-UM, ``sfr_catalog_<a>.bin``."""
    shown, size = paths.shown(path), path.stat().st_size
    if size == 0 or size % ROW.itemsize:
        raise ClusterToolsError(
            f"{shown} has {size} bytes, but rows of {ROW.itemsize} bytes are expected; it is cut short or another "
            "kind of file: download it again."
        )
    for first in range(0, size // ROW.itemsize, PIECE):
        rows = np.fromfile(path, ROW, PIECE, offset=first * ROW.itemsize)
        columns = {name: rows[name] for name in ("id", "upid", "flags", "obs_sm")} | {"mvir": rows["m"]}
        columns |= {name: rows["pos"][:, i] for i, name in enumerate(PHASE_SPACE)}
        yield dict.fromkeys(columns, shown), first, columns


def _reading(shown: str):
    """Refuse a file by name when its reader fails."""
    return parsing(f"{shown} is damaged or of another kind", "download or export it again")


def _hdf5_pieces(wanted: Mapping[Path, Sequence[str]]) -> Iterator[Piece]:
    """Columns of equal length from one or more HDF5 files."""
    datasets, files, rows = {}, {}, None
    with ExitStack() as stack:
        for path, columns in wanted.items():
            shown = paths.shown(path)
            with _reading(shown):
                file = stack.enter_context(h5py.File(path, "r"))
                hdf5.refuse_references(file)
                for column in columns:
                    dataset = file[column]
                    rows = len(dataset) if rows is None else rows
                    kinds, kind = ("iu", "integers") if column in ("id", "upid") else ("iuf", "numbers")
                    if dataset.shape != (rows,) or dataset.dtype.kind not in kinds:
                        raise ClusterToolsError(
                            f"{shown}, dataset {column}, is of type {dataset.dtype} and shape {dataset.shape}, but "
                            f"{rows} {kind} as in the other columns are expected; download the files again."
                        )
                    datasets[column.lower()], files[column.lower()] = dataset, shown
        for first in range(0, rows, PIECE):
            piece = {}
            for column, dataset in datasets.items():
                with _reading(files[column]):
                    piece[column] = dataset[first : first + PIECE]
            yield files, first, piece


def _csv(path: Path, shown: str):
    """MDPL2.Rockstar as CosmoSim exports it."""
    with _reading(shown):  # of a path, astropy may leave the file open
        table = Table.read(path.read_text().splitlines(), format="ascii.csv", comment="#")
    return cosmosim.checked(table, shown)
