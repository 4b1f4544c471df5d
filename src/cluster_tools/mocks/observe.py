"""Mock observations: the galaxies of a snapshot in a cylinder of phase space around each cluster.

Every cluster is placed at Coma's redshift and seen plane-parallel along any direction; the box is periodic in all
three axes (Ho et al. 2022, Methods, "Mock catalog generation"; Ho et al. 2019).

The box is cut into slabs of whole layers of search cells. Each slab is one task, on a thread of this machine or on a
worker of Dask. Galaxies of an observation are sorted by cell, so slabs and workers do not change the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from numba import config, njit

from cluster_tools import hdf5, machine
from cluster_tools.cosmology import COMA_REDSHIFT, SPEED_OF_LIGHT, comoving_distance
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import snapshots

APERTURE = 2.3  # comoving Mpc/h: the largest r_proj
VELOCITY_CUT = 3785.0  # km/s: abs(v_los) stays below it (the paper rounds to 3800)
FEWEST_GALAXIES = 11  # "strictly more than 10"
MARGIN = 1e-3  # Mpc/h: more than float32 rounding can put a galaxy into the next cell

GIB = 2**30
PROGRAM = 0.5  # GiB of Python and its libraries
BYTES_PER_GALAXY = 72  # upper limit while a slab is sorted by cell
BYTES_PER_CELL = 24
SLABS_PER_THREAD = 4  # at least, so that no thread waits long for the last slab of another
RETRIES = 2  # repeats of a failed slab; Dask itself repeats the slabs of a dead worker

# One observation; near and far bound the separations along the line of sight [Mpc/h] inside the velocity window.
ROW = np.dtype("i4, 3f4, 3f8, f8, f8, f8")
ROW.names = ("host", "position", "direction", "v_cluster", "near", "far")


def lines_of_sight(n: int) -> np.ndarray:
    """Unit vectors (n, 3): the three axes of the box, then directions spread evenly.

    The further ones lie on a Fibonacci spiral over half the sphere: the opposite direction shows the mirror image.
    """
    k = np.arange(max(n - 3, 0))
    height = (k + 0.5) / max(n - 3, 1)
    angle = (k + 0.5) * np.pi * (3 - np.sqrt(5))  # the half keeps the first one off the axes
    radius = np.sqrt(1 - height**2)
    return np.concatenate([np.eye(3), np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)])[:n]


def hubble_velocity_table(omega_m: float, *, z_max: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    """Comoving distances [Mpc/h] up to the redshift `z_max`, and recession velocities [km/s] there, (4001,) each.

    v = c ((1 + z)^2 - 1) / ((1 + z)^2 + 1), the relativistic Doppler velocity.
    """
    z = np.linspace(0, z_max, 4001)
    squared = (1 + z) ** 2
    return comoving_distance(z, omega_m=omega_m), SPEED_OF_LIGHT * (squared - 1) / (squared + 1)


def observe(
    snapshot: snapshots.Snapshot,
    host,
    direction,
    *,
    galaxies: str = "all",
    min_log_mstar: float | None = None,
    memory: float = 4.0,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Galaxies with r_proj <= 2.3 Mpc/h and abs(v_los) < 3785 km/s around clusters, for n observations.

    `host` (n,) is the index of the cluster of each observation, `direction` (n, 3) the unit vector from the observer
    to it. `galaxies` is "all" (as a survey sees) or "satellites" (as the authors' public code keeps);
    `min_log_mstar` is the lower limit of log10 stellar mass [Msun, no h], None takes all.

    `memory` [GiB] is the limit for this process, and for each worker of `scheduler`; a snapshot in memory comes on top.
    `scheduler` is the address of a dask.distributed scheduler, such as ``tcp://host:8786``, whose workers find the
    snapshot's file under the same name; None takes ``NUMBA_NUM_THREADS`` threads of this machine. Neither changes a bit
    of the result. `progress` is called with the number of slabs done and of all slabs.

    Returns the number of galaxies of each observation, int64 (n,), and of these, one observation after the other,
    the relativistic v_los [km/s] and r_proj [comoving Mpc/h] from the cluster, float32 (n_galaxies,), and whether they
    belong to the cluster's halo, bool (n_galaxies,). Raises `ClusterToolsError` for an unknown `galaxies`, velocities
    in another unit, too little `memory`, a missing or damaged snapshot file, or a `scheduler` that does not answer or
    has no workers.
    """
    if galaxies not in ("all", "satellites"):
        raise ClusterToolsError(f"galaxies is {galaxies!r}, but 'all' or 'satellites' is expected.")
    if scheduler is not None and snapshot.path is None:
        raise ClusterToolsError(
            f"The snapshot is in memory, where the workers of {scheduler} cannot read it; "
            "write it to a file that they see, or leave scheduler out."
        )
    omega_m, box_size = snapshot.simulation.omega_m, snapshot.box_size
    expansion = (float(comoving_distance(COMA_REDSHIFT, omega_m=omega_m)), *hubble_velocity_table(omega_m))
    rows = _rows(snapshot, np.asarray(host), np.asarray(direction, np.float64), *expansion)
    opened = partial(nullcontext, vars(snapshot))
    if snapshot.path is not None:
        opened = partial(hdf5.opened, Path(snapshot.path).resolve(), snapshots.FORMAT, snapshots.REMEDY)
    least = -np.inf if min_log_mstar is None else min_log_mstar
    look = partial(_look_at_slab, opened, box_size, expansion, galaxies == "satellites", least)
    with _pool(scheduler) as (pool, threads):
        slabs = _slabs(snapshot.layers, box_size, memory, threads)
        meeting = [_meeting(rows, slab, box_size) for slab in slabs]
        tasks = [partial(look, snapshot.layers, slab, rows[meets]) for slab, meets in zip(slabs, meeting)]
        parts = _collected(pool, tasks, memory, progress)
    return _assembled(len(rows), meeting, parts)


def _rows(snapshot, host, direction, d_cluster: float, distance: np.ndarray, recession: np.ndarray) -> np.ndarray:
    """The observations (ROW), with the separations between which a galaxy can be inside the velocity window."""
    rows = np.empty(len(host), ROW)
    rows["host"], rows["direction"], rows["position"] = host, direction, snapshot.host_position[host]
    peculiar = np.einsum("ij,ij->i", direction, snapshot.host_velocity[host].astype(np.float64))
    rows["v_cluster"] = add_velocities(np.interp(d_cluster, distance, recession), peculiar)
    fastest = float(snapshot.provenance["fastest"])
    window = VELOCITY_CUT + 1.0  # more than rounding can add
    nearest = add_velocities(add_velocities(rows["v_cluster"], -window), -fastest)
    farthest = add_velocities(add_velocities(rows["v_cluster"], window), fastest)
    if len(rows) and farthest.max() > recession[-1]:
        raise ClusterToolsError(
            f"The fastest galaxy of the snapshot moves at {fastest:,.0f} km/s, which no galaxy does; "
            "check that its velocities are in km/s."
        )
    half = snapshot.box_size / 2  # beyond it, another image of the galaxy is closer
    rows["near"] = np.maximum(np.interp(nearest, recession, distance) - d_cluster, -half)
    rows["far"] = np.minimum(np.interp(farthest, recession, distance) - d_cluster, half)
    return rows


@contextmanager
def _pool(scheduler: str | None) -> Iterator[tuple[Executor, int]]:
    """Threads of this machine or the workers of a Dask cluster, and the number of threads of one process."""
    if scheduler is None:
        with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:
            yield pool, config.NUMBA_NUM_THREADS
        return
    with machine.dask_client(scheduler) as client:
        try:
            yield client.get_executor(pure=False, retries=RETRIES), max(client.nthreads().values())
        except ClusterToolsError:
            raise
        except Exception as error:  # any exception of a worker arrives here
            raise ClusterToolsError(
                f"Observing failed on the workers of {scheduler} ({type(error).__name__}: {error}); see that they run "
                "this version of cluster_tools and have the memory that they are given."
            ) from error


def _slabs(layers: np.ndarray, box_size: float, memory: float, threads: int) -> list[tuple[int, int]]:
    """Ranges of layers, all but the last equally thick; one slab for each thread fits into half of the memory."""
    n = len(layers) - 1
    layer = int(np.diff(layers).max()) * BYTES_PER_GALAXY + n**2 * BYTES_PER_CELL
    thickness = 0.5 * (memory - PROGRAM) * GIB / (threads * layer)
    if not thickness >= 1:  # nor for NaN
        raise ClusterToolsError(
            f"memory is {memory:g} GiB, but {PROGRAM + 2 * threads * layer / GIB:.2g} GiB is the least for a box of "
            f"{box_size:g} Mpc/h with {layers[-1]:,} galaxies and {threads} threads; give more, or fewer threads."
        )
    thickness = max(int(min(thickness, n // (SLABS_PER_THREAD * threads))), 1)
    return [(begin, min(begin + thickness, n)) for begin in range(0, n, thickness)]


def _meeting(rows: np.ndarray, slab: tuple[int, int], box_size: float) -> np.ndarray:
    """Indices (int32) of the rows whose cylinder may meet the slab or one of its images."""
    n = snapshots.cells_on_a_side(box_size)
    along = rows["direction"][:, 0]
    ends = np.stack([rows["near"] * along, rows["far"] * along])
    first = np.floor((rows["position"][:, 0] + ends.min(axis=0) - APERTURE - MARGIN) * (n / box_size)).astype(int)
    last = np.floor((rows["position"][:, 0] + ends.max(axis=0) + APERTURE + MARGIN) * (n / box_size)).astype(int)
    begin, end = slab
    begins_inside, reaches = (first - begin) % n < end - begin, (begin - first) % n <= last - first
    return np.flatnonzero(begins_inside | reaches).astype(np.int32)


def _look_at_slab(opened, box_size, expansion, satellites_only, least, layers, slab, rows) -> tuple:
    """One slab's share of the observations `rows`: count of each row, v_los, r_proj, is_member."""
    (begin, end), n = slab, snapshots.cells_on_a_side(box_size)
    with opened() as box:
        columns = {name: box[name][layers[begin] : layers[end]] for name in snapshots.GALAXY.names}
    seen = ~(columns.pop("log_mstar") < least) & (columns.pop("is_satellite") | (not satellites_only))
    # One after the other: each column is freed as soon as it is cut.
    position, velocity, member_of = (columns.pop(name)[seen] for name in ("position", "velocity", "host"))
    in_cell = np.bincount(snapshots.cell_of(position, box_size) - begin * n**2, minlength=(end - begin) * n**2)
    starts = np.r_[0, np.cumsum(in_cell)]
    count, galaxy, v_los, r_proj = _walk(rows, position, velocity, starts, begin, end, n, box_size, *expansion)
    row = np.repeat(np.arange(len(rows), dtype=np.int32), count)
    order = np.lexsort((galaxy, row))
    return count, v_los[order], r_proj[order], member_of[galaxy[order]] == rows["host"][row]


def _collected(pool: Executor, tasks: list, memory: float, progress) -> list:
    """Run all tasks; their results in the order of the slabs."""
    parts: list = [None] * len(tasks)
    waiting = {pool.submit(task): number for number, task in enumerate(tasks)}
    size = 0
    try:
        for done, future in enumerate(as_completed(waiting), 1):
            parts[waiting.pop(future)] = part = future.result()
            size += sum(column.nbytes for column in part)
            if size > 0.5 * (memory - PROGRAM) * GIB:
                raise ClusterToolsError(
                    f"memory is {memory:g} GiB, but the galaxies found in {done} of {len(tasks)} slabs take "
                    f"{size / GIB:.2g} GiB, more than half of it; give more memory, or observe fewer rows."
                )
            if progress:
                progress(done, len(tasks))
    finally:
        for future in waiting:
            future.cancel()
    return parts


def _assembled(n_rows: int, meeting: list, parts: list) -> tuple:
    """The parts of all slabs, joined row by row; `parts` is emptied on the way."""
    count = np.zeros(n_rows, np.int64)
    for meets, part in zip(meeting, parts):
        count[meets] += part[0]
    columns = [np.empty(count.sum(), dtype) for dtype in (np.float32, np.float32, np.bool_)]
    free = np.cumsum(count) - count  # the next place of each row
    for meets, (number, *values) in zip(meeting, (parts.pop(0) for _ in meeting)):
        place = np.arange(number.sum()) + np.repeat(free[meets] - (np.cumsum(number) - number), number)
        for column, part in zip(columns, values):
            column[place] = part
        free[meets] += number
    return count, *columns


@njit(cache=True, nogil=True)
def add_velocities(v1, v2):
    """Sum of two velocities [km/s] in special relativity."""
    return (v1 + v2) / (1 + v1 * v2 / SPEED_OF_LIGHT**2)


@njit(cache=True, nogil=True)
def interpolated(x, table_x, table_y):
    """Linear interpolation at one x; numba's np.interp takes ten times as long for one."""
    k = min(max(np.searchsorted(table_x, x), 1), len(table_x) - 1)
    slope = (table_y[k] - table_y[k - 1]) / (table_x[k] - table_x[k - 1])
    return table_y[k - 1] + slope * (x - table_x[k - 1])


@njit(cache=True, nogil=True)
def _walk(rows, position, velocity, starts, begin, end, n, box_size, d_cluster, distance, recession):
    """Walk along each cylinder, layer by layer of cells across its steepest axis, inside the slab.

    Returns the number of galaxies in each, and their indices, v_los and r_proj, one cylinder after the other.
    """
    size = box_size / n
    count = np.zeros(len(rows), np.int64)
    galaxy = np.empty(1024, np.int64)
    v_and_r = np.empty((1024, 2), np.float32)
    total = 0
    cell = np.empty(3, np.int64)
    delta = np.empty(3)
    for i in range(len(rows)):
        row = rows[i]
        along = row.direction
        centre = row.position.astype(np.float64)
        steep = np.argmax(np.abs(along))
        second, third = (steep + 1) % 3, (steep + 2) % 3
        slope_2, slope_3 = along[second] / along[steep], along[third] / along[steep]
        # The cylinder's cross-section with a layer is an ellipse; this box contains it.
        half_2 = APERTURE * np.sqrt(1 + slope_2**2) + 0.5 * size * abs(slope_2) + MARGIN
        half_3 = APERTURE * np.sqrt(1 + slope_3**2) + 0.5 * size * abs(slope_3) + MARGIN
        low = min(row.near * along[steep], row.far * along[steep]) - APERTURE - MARGIN
        high = max(row.near * along[steep], row.far * along[steep]) + APERTURE + MARGIN
        first = int(np.floor((centre[steep] + low) / size))
        last = min(int(np.floor((centre[steep] + high) / size)), first + n - 1)
        for layer in range(first, last + 1):
            cell[steep] = layer % n
            away = (layer + 0.5) * size - centre[steep]
            middle_2 = centre[second] + slope_2 * away
            middle_3 = centre[third] + slope_3 * away
            first_3, last_3 = int(np.floor((middle_3 - half_3) / size)), int(np.floor((middle_3 + half_3) / size))
            for c2 in range(int(np.floor((middle_2 - half_2) / size)), int(np.floor((middle_2 + half_2) / size)) + 1):
                cell[second] = c2 % n
                for c3 in range(first_3, last_3 + 1):
                    cell[third] = c3 % n
                    if not begin <= cell[0] < end:
                        continue
                    index = ((cell[0] - begin) * n + cell[1]) * n + cell[2]
                    for g in range(starts[index], starts[index + 1]):
                        # The image of the galaxy that lies in this cell of the unwrapped box.
                        delta[steep] = position[g, steep] + (layer - cell[steep]) * size - centre[steep]
                        delta[second] = position[g, second] + (c2 - cell[second]) * size - centre[second]
                        delta[third] = position[g, third] + (c3 - cell[third]) * size - centre[third]
                        separation = delta[0] * along[0] + delta[1] * along[1] + delta[2] * along[2]
                        if separation > row.far or separation < row.near:
                            continue
                        across = delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2 - separation**2
                        if across > APERTURE**2:
                            continue
                        peculiar = velocity[g, 0] * along[0] + velocity[g, 1] * along[1] + velocity[g, 2] * along[2]
                        v_hubble = interpolated(d_cluster + separation, distance, recession)
                        v_los = np.float32(add_velocities(add_velocities(v_hubble, peculiar), -row.v_cluster))
                        if abs(v_los) >= VELOCITY_CUT:  # as it will be stored
                            continue
                        if total == len(galaxy):
                            galaxy = np.concatenate((galaxy, np.empty(total, np.int64)))
                            v_and_r = np.concatenate((v_and_r, np.empty((total, 2), np.float32)))
                        galaxy[total] = g
                        v_and_r[total, 0] = v_los
                        v_and_r[total, 1] = np.sqrt(max(across, 0.0))
                        total += 1
                        count[i] += 1
    return count, galaxy[:total], v_and_r[:total, 0], v_and_r[:total, 1]
