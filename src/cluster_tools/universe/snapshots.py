"""A periodic box at one time: its hosts in memory, its galaxies in memory or, when they are many, in a file.

Sources of snapshots hand over their galaxies in pieces (arrays of `GALAXY`), so that a box of any size passes through
a bounded memory. Galaxies are kept in the order of the search cells that `observe` walks through, so that a layer of
the box is one stretch of each column.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial import cKDTree

from cluster_tools import hdf5
from cluster_tools.cosmology import Simulation, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.ragged import cluster_offsets

CELL = 5.0  # Mpc/h: about the side of a search cell, and the thickness of a layer of them along x
SLAB_LAYERS = 5  # galaxies are sorted one slab of so many layers at a time
FORMAT = "cluster_tools snapshot 1"
REMEDY = "make it again with `make book`, or with chapter 01"
GALAXY = np.dtype(
    [("position", "<f4", 3), ("velocity", "<f4", 3), ("host", "<i4"), ("is_satellite", "?"), ("log_mstar", "<f4")]
)
HOST_COLUMNS = ("host_position", "host_velocity", "host_log_m200c")
UNITS = {
    "position": "comoving Mpc/h", "velocity": "km/s", "host": "", "is_satellite": "", "log_mstar": "log10 Msun",
    "host_position": "comoving Mpc/h", "host_velocity": "km/s", "host_log_m200c": "log10 Msun/h",
}  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """Hosts (clusters) and galaxies of one periodic box at one time.

    Lengths are comoving Mpc/h in [0, box_size), velocities peculiar and physical, in km/s. Galaxies are sorted by
    search cell. Their columns are arrays or, in a file, datasets, whose slices are arrays. The provenance has
    ``fastest``, the highest speed of a galaxy [km/s], and that of a real simulation ``counts`` of rows.
    """

    simulation: Simulation
    box_size: float  #: side of the box
    host_position: np.ndarray  #: float32 (n_hosts, 3)
    host_velocity: np.ndarray  #: float32 (n_hosts, 3)
    host_log_m200c: np.ndarray  #: float64 (n_hosts,), log10 Msun/h
    position: np.ndarray  #: float32 (n_galaxies, 3)
    velocity: np.ndarray  #: float32 (n_galaxies, 3)
    host: np.ndarray  #: int32 (n_galaxies,): index of the galaxy's host; -1 in haloes that are not listed
    is_satellite: np.ndarray  #: bool (n_galaxies,)
    log_mstar: np.ndarray  #: float32 (n_galaxies,): observed stellar mass [log10 Msun, no h]
    layers: np.ndarray  #: int64 (n + 1,): first galaxy of each layer of search cells
    provenance: dict  #: with the stamp of `store.stamp`
    path: Path | None = None  #: file that the galaxies are read from, if they are not in memory


def galaxy_table(**columns) -> np.ndarray:
    """Galaxies as an array of `GALAXY`, from a column, or one value for all, for each of its names."""
    galaxies = np.empty(len(columns["position"]), GALAXY)
    for name in GALAXY.names:
        galaxies[name] = columns[name]
    return galaxies


def wrapped(position: np.ndarray, box_size: float) -> np.ndarray:
    """Positions in [0, box_size), in their own precision."""
    position = position % position.dtype.type(box_size)
    position[position >= box_size] = 0.0  # a tiny negative is rounded up to the edge
    return position


def shortest(difference: np.ndarray, box_size: float) -> np.ndarray:
    """Differences of positions along the shortest way through the periodic box."""
    return difference - box_size * np.round(difference / box_size)


def quick_tree(position: np.ndarray, box_size: float) -> cKDTree:
    """Periodic tree of positions (n, 3), quick to build: for few queries."""
    return cKDTree(wrapped(position, box_size), boxsize=box_size, balanced_tree=False, compact_nodes=False)


def cells_on_a_side(box_size: float) -> int:
    """Number of search cells along each axis."""
    return max(int(box_size / CELL), 1)


def layer_of(position: np.ndarray, box_size: float, axis: int = 0) -> np.ndarray:
    """Layer of search cells along an axis (int64) of each position (n, 3)."""
    n = cells_on_a_side(box_size)
    return np.minimum((position[:, axis] * (n / box_size)).astype(np.int64), n - 1)


def cell_of(position: np.ndarray, box_size: float) -> np.ndarray:
    """Search cell (int64) of each position (n, 3), numbered with x slowest."""
    n = cells_on_a_side(box_size)
    cell = np.zeros(len(position), np.int64)  # in place: memory is counted in bytes per galaxy
    for axis in range(3):
        cell *= n
        cell += layer_of(position, box_size, axis)
    return cell


def collect(
    simulation: Simulation,
    box_size: float,
    host_position: np.ndarray,
    host_velocity: np.ndarray,
    host_log_m200c: np.ndarray,
    pieces: Iterable[np.ndarray],
    *,
    path: Path | str | None = None,
    provenance: dict | None = None,
) -> Snapshot:
    """Collect hosts and the galaxies of all pieces (arrays of `GALAXY`, read once) to a snapshot.

    Hosts are as in `Snapshot`, `box_size` is the side [comoving Mpc/h]; galaxies outside are wrapped into it. `path`
    is a file to write, for many galaxies; None keeps all in memory. `provenance` is written last, so that the source of
    the pieces may fill it on the way. Raises `ClusterToolsError` if the file cannot be written, there is no galaxy, or
    a position or velocity is not finite.
    """
    provenance = {} if provenance is None else provenance
    pieces = (_inside(piece, box_size) for piece in pieces)
    hosts = dict(zip(HOST_COLUMNS, (host_position, host_velocity, host_log_m200c)))
    if path is None:
        galaxies = np.concatenate([np.empty(0, GALAXY), *pieces])
        columns = {name: np.empty_like(galaxies[name]) for name in GALAXY.names}
        layers, fastest = _sort_into(columns, [galaxies], box_size)
        provenance = {**provenance, "fastest": fastest}
        return Snapshot(simulation, box_size, **hosts, **columns, layers=layers, provenance=provenance)
    path = Path(path)
    with hdf5.create(path, FORMAT, {}) as file, ExitStack() as stack:
        n_slabs = -(-cells_on_a_side(box_size) // SLAB_LAYERS)
        slabs = [stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in range(n_slabs)]
        total = sum(_distribute(piece, slabs, box_size) for piece in pieces)
        if total == 0:
            raise ClusterToolsError("The box holds no galaxy at all; lower min_log_mstar, or choose a larger box_size.")
        for name in GALAXY.names:
            shape = GALAXY[name].shape
            layout = {"chunks": (min(total, 2**18), *shape), "fletcher32": True}
            file.create_dataset(name, (total, *shape), GALAXY[name].base, **layout)
        layers, fastest = _sort_into(file, map(_read_once, slabs), box_size)
        for name, column in {**hosts, "layers": layers}.items():
            file.create_dataset(name, data=column, **hdf5.CHECKED)
        for name, unit in UNITS.items():
            file[name].attrs["unit"] = np.bytes_(unit)
        box = {"simulation": simulation.name, "box_size": box_size, "fastest": fastest}
        hdf5.set_provenance(file, {**provenance, **box})
    return open_snapshot(path)


def open_snapshot(path: Path | str) -> Snapshot:
    """Open a snapshot file of `collect`, whose galaxies are read only when they are sliced.

    Raises `ClusterToolsError` for a file that is missing, damaged or foreign.
    """
    with hdf5.opened(path, FORMAT, REMEDY) as file:
        provenance = hdf5.provenance(file)
        hosts = {name: file[name][()] for name in HOST_COLUMNS}
        [len(file[name]) for name in GALAXY.names]  # damage of what describes the datasets shows here
        layers = file["layers"][()]
        sim, box_size = simulation(provenance["simulation"]), float(provenance["box_size"])
    file = h5py.File(path, "r")  # stays open as long as its datasets are in use
    columns = {name: file[name] for name in GALAXY.names}
    return Snapshot(sim, box_size, **hosts, **columns, layers=layers, provenance=provenance, path=Path(path))


def stamp(path: Path | str, provenance: dict) -> None:
    """Add `provenance` to a snapshot file that is not in its place yet, and that nothing has open."""
    with h5py.File(path, "r+", libver="v110") as file:
        hdf5.set_provenance(file, {**hdf5.provenance(file), **provenance})


def _inside(piece: np.ndarray, box_size: float) -> np.ndarray:
    for name in ("position", "velocity"):
        if bad := int((~np.isfinite(piece[name]).all(axis=1)).sum()):
            raise ClusterToolsError(
                f"{name} is NaN or infinite for {bad} of {len(piece)} galaxies; numbers in {UNITS[name]} are expected: "
                "leave these galaxies out."
            )
    piece["position"] = wrapped(piece["position"], box_size)
    return piece


def _distribute(piece: np.ndarray, slabs: list, box_size: float) -> int:
    """Append galaxies to the files of their slabs, of whole layers along x, in the order in which they came."""
    number = layer_of(piece["position"], box_size) // SLAB_LAYERS
    ends = np.cumsum(np.bincount(number, minlength=len(slabs)))
    for slab, galaxies in zip(slabs, np.split(piece[np.argsort(number, kind="stable")], ends[:-1])):
        slab.write(galaxies.tobytes())
    return len(piece)


def _read_once(slab) -> np.ndarray:
    """The galaxies of a slab, whose file and its space on the disk are given back."""
    with slab:
        slab.seek(0)
        return np.fromfile(slab, GALAXY)


def _sort_into(columns, parts: Iterable[np.ndarray], box_size: float) -> tuple[np.ndarray, float]:
    """Fill columns with parts of whole layers, sorted by cell; each layer's first galaxy, and the highest speed."""
    n = cells_on_a_side(box_size)
    in_layer, begin, fastest = np.zeros(n, np.int64), 0, 0.0
    for galaxies in parts:
        cell = cell_of(galaxies["position"], box_size)
        order, end = np.argsort(cell, kind="stable"), begin + len(galaxies)
        in_layer += np.bincount(cell // n**2, minlength=n)
        squares = np.einsum("ij,ij->i", galaxies["velocity"], galaxies["velocity"], dtype=np.float64)
        fastest = max(fastest, float(np.sqrt(squares.max(initial=0.0))))
        for name in GALAXY.names:
            columns[name][begin:end] = galaxies[name][order]
        begin = end
    return cluster_offsets(in_layer), fastest
