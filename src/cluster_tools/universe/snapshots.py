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
from functools import partial
from pathlib import Path

import numpy as np

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
    box_size: float
    host_position: np.ndarray  # float32 (n_hosts, 3)
    host_velocity: np.ndarray  # float32 (n_hosts, 3)
    host_log_m200c: np.ndarray  # float64 (n_hosts,), log10 Msun/h
    position: np.ndarray  # float32 (n_galaxies, 3)
    velocity: np.ndarray  # float32 (n_galaxies, 3)
    host: np.ndarray  # int32 (n_galaxies,): index of the galaxy's host; -1 in haloes that are not listed
    is_satellite: np.ndarray  # bool (n_galaxies,)
    log_mstar: np.ndarray  # float32 (n_galaxies,): observed stellar mass [log10 Msun, no h]
    layers: np.ndarray  # int64 (n + 1,): first galaxy of each layer of search cells
    provenance: dict  # with the stamp of `store.stamp`
    path: Path | None = None  # file that the galaxies are read from, if they are not in memory


def wrapped(position: np.ndarray, box_size: float) -> np.ndarray:
    """Positions in [0, box_size), in their own precision."""
    position = position % position.dtype.type(box_size)
    position[position >= box_size] = 0.0  # a tiny negative is rounded up to the edge
    return position


def shortest(difference: np.ndarray, box_size: float) -> np.ndarray:
    """Differences of positions in the periodic box, along the shortest way."""
    return difference - box_size * np.round(difference / box_size)


def quick_tree(position: np.ndarray, box_size: float):
    """Periodic `scipy.spatial.cKDTree` of positions (n, 3), quick to build: for few queries."""
    from scipy.spatial import cKDTree

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


def fastest(velocity: np.ndarray) -> float:
    """The highest speed among velocities (n, 3), in their unit; 0 if there are none."""
    squares = np.einsum("ij,ij->i", velocity, velocity, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0.0)))


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
        galaxies, in_layer = _sorted_by_cell(np.concatenate([np.empty(0, GALAXY), *pieces]), box_size)
        columns = {name: np.ascontiguousarray(galaxies[name]) for name in GALAXY.names}
        provenance = {**provenance, "fastest": fastest(columns["velocity"])}
        return Snapshot(
            simulation, box_size, **hosts, **columns, layers=cluster_offsets(in_layer), provenance=provenance
        )
    path = Path(path)
    scratch = partial(tempfile.TemporaryDirectory, prefix=f".{path.stem}-", dir=path.parent)
    with hdf5.create(path, FORMAT, {}) as file, scratch() as directory:
        for name, column in hosts.items():
            file.create_dataset(name, data=column, **hdf5.CHECKED).attrs["unit"] = np.bytes_(UNITS[name])
        highest = _write_galaxies(file, _write_slabs(pieces, box_size, Path(directory)), box_size)
        box = {"simulation": simulation.name, "box_size": box_size, "fastest": highest}
        hdf5.set_provenance(file, {**provenance, **box})
    return open_snapshot(path)


def open_snapshot(path: Path | str) -> Snapshot:
    """Open a snapshot file of `collect`, whose galaxies are read only when they are sliced.

    Raises `ClusterToolsError` for a file that is missing, damaged or foreign.
    """
    import h5py

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
    """Add to the provenance of a snapshot file that is not in its place yet, and that nothing has open."""
    import h5py

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


def _sorted_by_cell(galaxies: np.ndarray, box_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Galaxies in the order of their cells, else as they came, and the number in each layer."""
    cell, n = cell_of(galaxies["position"], box_size), cells_on_a_side(box_size)
    return galaxies[np.argsort(cell, kind="stable")], np.bincount(cell // n**2, minlength=n)


def _write_slabs(pieces: Iterable[np.ndarray], box_size: float, scratch: Path) -> list[Path]:
    """Files of galaxies, one for each slab of whole layers along x, in the order in which they came."""
    slabs = [scratch / f"{number}.galaxies" for number in range(-(-cells_on_a_side(box_size) // SLAB_LAYERS))]
    with ExitStack() as stack:
        files = [stack.enter_context(open(slab, "wb")) for slab in slabs]
        for piece in pieces:
            number = layer_of(piece["position"], box_size) // SLAB_LAYERS
            order = np.argsort(number, kind="stable")
            ends = np.cumsum(np.bincount(number, minlength=len(slabs)))
            for file, galaxies in zip(files, np.split(piece[order], ends[:-1])):
                file.write(galaxies.tobytes())
    return slabs


def _write_galaxies(file, slabs: list[Path], box_size: float) -> float:
    """Write the galaxies of all slabs in order of their cells, and each layer's first; return the highest speed."""
    n = cells_on_a_side(box_size)
    total = sum(slab.stat().st_size for slab in slabs) // GALAXY.itemsize
    if total == 0:
        raise ClusterToolsError("The box holds no galaxy at all; lower min_log_mstar, or choose a larger box_size.")
    for name in GALAXY.names:
        shape = GALAXY[name].shape
        layout = {"chunks": (min(total, 2**18), *shape), "fletcher32": True}
        dataset = file.create_dataset(name, (total, *shape), GALAXY[name].base, **layout)
        dataset.attrs["unit"] = np.bytes_(UNITS[name])
    in_layer, begin, highest = np.zeros(n, np.int64), 0, 0.0
    for slab in slabs:
        galaxies, number = _sorted_by_cell(np.fromfile(slab, GALAXY), box_size)
        in_layer += number
        highest = max(highest, fastest(galaxies["velocity"]))
        for name in GALAXY.names:
            file[name][begin : begin + len(galaxies)] = galaxies[name]
        begin += len(galaxies)
        slab.unlink()
    file.create_dataset("layers", data=cluster_offsets(in_layer), **hdf5.CHECKED)
    return highest
