"""Look at a snapshot as a survey would: galaxies in a cylinder of phase space around a cluster.

Every cluster is placed at Coma's redshift, seen plane-parallel along any direction. The box is
periodic in all three axes. Ho et al. 2022, Methods, "Mock catalog generation"; Ho et al. 2019.

The box is looked at slab by slab, a slab being some whole layers of search cells. Each slab is one
task of Dask, on threads of this machine or on a cluster. The galaxies of an observation come in
the order of their cells, so nothing depends on how the box was cut, or on who looked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numba import config, njit

from cluster_tools import arrays, hdf5
from cluster_tools.cosmology import COMA_REDSHIFT, SPEED_OF_LIGHT, comoving_distance
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import snapshots

APERTURE = 2.3  # comoving Mpc/h: the largest r_proj
VELOCITY_CUT = 3785.0  # km/s: abs(v_los) stays below it (the paper rounds to 3800)
FEWEST_GALAXIES = 11  # "strictly more than 10"
MARGIN = 1e-3  # Mpc/h: more than float32 rounding can put a galaxy into the next cell

GIB = 2**30
PROGRAM = 0.5  # GiB, of Python and its libraries
BYTES_PER_GALAXY = 72  # of a slab, at most, while it is put in order of its cells
BYTES_PER_CELL = 24
SLABS_PER_THREAD = 4  # at least, so that no thread waits long for another's last slab
CONNECT_SECONDS = 5
RETRIES = 2  # of a slab whose task failed; that of a dead worker goes to another one anyway

# An observation; near and far are the ends [Mpc/h] of what can be in its window of velocities.
ROW = np.dtype(
    [
        ("host", "<i4"), ("position", "<f4", 3), ("direction", "<f8", 3),
        ("v_cluster", "<f8"), ("near", "<f8"), ("far", "<f8"),
    ]
)  # fmt: skip


def lines_of_sight(n: int) -> np.ndarray:
    """Unit vectors (n, 3): the three axes of the box, then directions spread evenly.

    The further ones lie on a Fibonacci spiral over half the sphere: seen from the other side, a
    cluster is its own mirror image.
    """
    axes = np.eye(3)
    k = np.arange(max(n - 3, 0))
    height = (k + 0.5) / max(n - 3, 1)
    angle = (k + 0.5) * np.pi * (3 - np.sqrt(5))  # the half keeps the first one off the axes
    radius = np.sqrt(1 - height**2)
    return np.concatenate([axes, np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)])[:n]


def hubble_velocity_table(omega_m: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Comoving distances [Mpc/h] up to `reach` and the recession velocity [km/s] there.

    v = c ((1 + z)^2 - 1) / ((1 + z)^2 + 1).
    """
    z = np.linspace(0, 0.12, 4001)
    distance = comoving_distance(z, omega_m=omega_m)
    if reach > distance[-1]:
        raise ClusterToolsError(f"A distance of {reach:g} Mpc/h was asked for, but {distance[-1]:.0f} is the farthest.")
    squared = (1 + z) ** 2
    return distance, SPEED_OF_LIGHT * (squared - 1) / (squared + 1)


def observe(
    snapshot,
    host,
    direction,
    *,
    galaxies: str = "all",
    min_log_mstar: float | None = None,
    memory: float = 4.0,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The galaxies around clusters, for each of n pairs (cluster, line of sight).

    Parameters
    ----------
    snapshot : `snapshots.Snapshot`, in memory or in a file
    host : int array (n,)
        Index of the cluster to look at, for each observation.
    direction : array (n, 3)
        Unit vector from the observer to the cluster.
    galaxies : "all" (as a survey sees) or "satellites" (as the authors' public code keeps)
    min_log_mstar : log10 of the least stellar mass [Msun, no h]; None takes all galaxies
    memory : GiB that this process may take, and each worker of `scheduler`; a snapshot in memory
        comes on top
    scheduler : address of a dask.distributed scheduler, such as ``tcp://host:8786``, whose workers
        see the snapshot's file under the same name. None: threads of this machine, as many as
        Dask's ``num_workers`` says, or else ``NUMBA_NUM_THREADS``, or else all cores
    progress : called with (slabs done, slabs in all)

    Returns
    -------
    count : int64 array (n,), galaxies of each observation
    v_los, r_proj : float32 arrays (count.sum(),), in km/s and comoving Mpc/h
    is_member : bool array (count.sum(),)
        Galaxies with r_proj <= 2.3 and abs(v_los) < 3785, one observation after the other; v_los
        is the relativistic difference of the velocities of galaxy and cluster. They are the same,
        bit by bit, whatever `memory` and `scheduler` are.

    Raises
    ------
    ClusterToolsError
        For hosts that the snapshot does not have, directions that are no unit vectors, an unknown `galaxies`, too
        little `memory`, a snapshot file that is missing or damaged,
        and a `scheduler` that does not answer, has no workers, or loses them again and again.
    """
    if galaxies not in ("all", "satellites"):
        raise ClusterToolsError(f"galaxies is {galaxies!r}, but 'all' or 'satellites' is expected.")
    if scheduler is not None and snapshot.path is None:
        raise ClusterToolsError(
            f"The snapshot is in memory, where the workers of {scheduler} cannot read it; "
            "write it to a file that they see, or leave scheduler out."
        )
    expansion = _expansion(snapshot.simulation.omega_m)
    rows = _rows(snapshot, *_pairs(snapshot, host, direction), *expansion)
    layers, order = _layers(snapshot)
    look = partial(
        _look_at_slab,
        box_size=snapshot.box_size,
        expansion=expansion,
        satellites_only=galaxies == "satellites",
        least=-np.inf if min_log_mstar is None else min_log_mstar,
    )
    with _workers(scheduler) as (client, at_once):
        slabs = _slabs(layers, snapshot.box_size, memory, at_once)
        meeting = [_meeting(rows, slab, snapshot.box_size) for slab in slabs]
        tasks = [
            partial(look, number, slab, _source(snapshot, order, layers[slab[0]], layers[slab[1]]), rows[mine])
            for number, (slab, mine) in enumerate(zip(slabs, meeting))
        ]
        parts = _collected(tasks, client, at_once, memory, progress)
    return _assembled(len(rows), meeting, parts)


def _pairs(snapshot, host, direction) -> tuple[np.ndarray, np.ndarray]:
    """Clusters (n,) and lines of sight (n, 3) as arrays, if they are such."""
    clusters, direction = arrays.numbers("host", host), arrays.numbers("direction", direction)
    last = len(snapshot.host_position) - 1
    if clusters.ndim != 1 or not np.isin(clusters, np.arange(last + 1)).all():
        raise ClusterToolsError(f"host must be numbers of clusters, whole ones from 0 to {last}, in one row.")
    if direction.shape != (len(clusters), 3) or not (np.abs(np.linalg.norm(direction, axis=1) - 1) < 1e-6).all():
        raise ClusterToolsError(
            f"direction has shape {direction.shape}, but {len(clusters)} unit vectors, one for each host, are expected."
        )
    return clusters.astype(np.int64), direction


def _rows(snapshot, host, direction, d_cluster: float, distance: np.ndarray, recession: np.ndarray) -> np.ndarray:
    """The observations (ROW), with how far from the cluster a galaxy in the window can be."""
    rows = np.empty(len(host), ROW)
    rows["host"], rows["direction"], rows["position"] = host, direction, snapshot.host_position[host]
    peculiar = np.einsum("ij,ij->i", direction, snapshot.host_velocity[host].astype(np.float64))
    rows["v_cluster"] = _add_velocities(np.interp(d_cluster, distance, recession), peculiar)
    # The fastest galaxy comes into the window from here at the nearest, and from there at the farthest.
    fastest = _fastest(snapshot)
    window = VELOCITY_CUT + 1.0  # more than rounding can add
    nearest = _add_velocities(_add_velocities(rows["v_cluster"], -window), -fastest)
    farthest = _add_velocities(_add_velocities(rows["v_cluster"], window), fastest)
    if len(rows) and farthest.max() > recession[-1]:
        raise ClusterToolsError(
            f"The fastest galaxy of the snapshot moves at {fastest:,.0f} km/s, which no galaxy does; "
            "check that its velocities are in km/s."
        )
    half = snapshot.box_size / 2  # beyond it, another image of the galaxy is closer
    rows["near"] = np.maximum(np.interp(nearest, recession, distance) - d_cluster, -half)
    rows["far"] = np.minimum(np.interp(farthest, recession, distance) - d_cluster, half)
    return rows


def _expansion(omega_m: float) -> tuple[float, np.ndarray, np.ndarray]:
    """The cluster's distance [Mpc/h], and the table of `hubble_velocity_table` around it."""
    return float(comoving_distance(COMA_REDSHIFT, omega_m=omega_m)), *hubble_velocity_table(omega_m, 0.0)


def _fastest(snapshot) -> float:
    """Speed [km/s] that no galaxy of the snapshot exceeds."""
    if snapshot.path is not None:
        return float(snapshot.provenance["fastest"])
    return snapshots.fastest(snapshot.velocity)


def _layers(snapshot) -> tuple[np.ndarray, np.ndarray | None]:
    """Where each layer of cells begins, and the galaxies in order of layers if they are not so already."""
    if snapshot.path is not None:
        return snapshot.layers, None
    n = snapshots.cells_on_a_side(snapshot.box_size)
    layer = snapshots.layer_of(snapshot.position, snapshot.box_size).astype(np.int16)
    return np.r_[0, np.cumsum(np.bincount(layer, minlength=n))], np.argsort(layer, kind="stable")


@contextmanager
def _workers(scheduler: str | None) -> Iterator[tuple]:
    """The client of a Dask cluster (None on this machine), and how many slabs one process looks at at once."""
    import dask

    if scheduler is None:
        yield None, dask.config.get("num_workers", None) or config.NUMBA_NUM_THREADS
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise ClusterToolsError(
            f"No Dask scheduler answers at {scheduler!r} within {CONNECT_SECONDS} s; start one with `dask scheduler`, "
            "workers with `dask worker`, and give its address, or leave scheduler out."
        ) from error
    with client, client.as_current():
        threads = client.nthreads()
        if not threads:
            raise ClusterToolsError(
                f"The Dask scheduler at {scheduler} has no workers; start some with: dask worker {scheduler}"
            )
        yield client, max(threads.values())


def _slabs(layers: np.ndarray, box_size: float, memory: float, at_once: int) -> list[tuple[int, int]]:
    """Ranges of layers, all but the last equally thick, `at_once` of which fit into half of the memory."""
    n = len(layers) - 1
    layer = int(np.diff(layers).max()) * BYTES_PER_GALAXY + n**2 * BYTES_PER_CELL
    thickness = 0.5 * (memory - PROGRAM) * GIB / (at_once * layer)
    if not thickness >= 1:  # nor for NaN
        raise ClusterToolsError(
            f"memory is {memory:g} GiB, but {PROGRAM + 2 * at_once * layer / GIB:.2g} GiB is the least for a box of "
            f"{box_size:g} Mpc/h with {layers[-1]:,} galaxies and {at_once} threads; give more, or fewer threads."
        )
    thickness = max(int(min(thickness, n // (SLABS_PER_THREAD * at_once))), 1)
    return [(begin, min(begin + thickness, n)) for begin in range(0, n, thickness)]


def _meeting(rows: np.ndarray, slab: tuple[int, int], box_size: float) -> np.ndarray:
    """Which rows (int32) have a cylinder that may meet the slab or one of its images."""
    n = snapshots.cells_on_a_side(box_size)
    along = rows["direction"][:, 0]
    ends = np.stack([rows["near"] * along, rows["far"] * along])
    first = np.floor((rows["position"][:, 0] + ends.min(axis=0) - APERTURE - MARGIN) * (n / box_size)).astype(int)
    last = np.floor((rows["position"][:, 0] + ends.max(axis=0) + APERTURE + MARGIN) * (n / box_size)).astype(int)
    begin, end = slab
    begins_inside = (first - begin) % n < end - begin
    reaches_it = (begin - first) % n <= last - first
    return np.flatnonzero(begins_inside | reaches_it).astype(np.int32)


def _source(snapshot, order: np.ndarray | None, first: int, last: int) -> Callable[[], dict[str, np.ndarray]]:
    """What reads the galaxies from `first` to `last`, in order of layers."""
    if snapshot.path is not None:
        return partial(_read, str(Path(snapshot.path).resolve()), first, last)
    columns = {name: getattr(snapshot, name) for name in snapshots.GALAXY.names}
    return partial(_taken, columns, order[first:last])


def _read(path: str, first: int, last: int) -> dict[str, np.ndarray]:
    with hdf5.opened(path, snapshots.FORMAT, snapshots.REMEDY) as file:
        return {name: file[name][first:last] for name in snapshots.GALAXY.names}


def _taken(columns: dict[str, np.ndarray], galaxies: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column.take(galaxies, axis=0) for name, column in columns.items()}


def _look_at_slab(
    number: int,
    slab: tuple[int, int],
    source: Callable,
    rows: np.ndarray,
    *,
    box_size: float,
    expansion: tuple[float, np.ndarray, np.ndarray],
    satellites_only: bool,
    least: float,
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `rows` show of one slab: its number, the count of each row, v_los, r_proj, is_member."""
    begin, end = slab
    n = snapshots.cells_on_a_side(box_size)
    columns = source()
    cells = (end - begin) * n**2
    cell = snapshots.cell_of(columns["position"], box_size) - begin * n**2
    unseen = columns.pop("log_mstar") < least
    is_satellite = columns.pop("is_satellite")
    if satellites_only:
        unseen |= ~is_satellite
    cell[unseen] = cells  # one that nobody looks into
    starts, order = _into_cells(cell, cells + 1)
    del cell
    # One after the other, each in place of the column that it is made from.
    position, velocity, member_of = (columns.pop(name).take(order, axis=0) for name in ("position", "velocity", "host"))
    return number, *_walk(rows, position, velocity, member_of, starts, begin, end, n, box_size, *expansion)


def _collected(tasks: list, client, at_once: int, memory: float, progress) -> list:
    """Have all tasks done; their results in order of the slabs."""
    parts: list = [None] * len(tasks)
    done = size = 0

    def receive(result: tuple) -> None:
        nonlocal done, size
        number, *parts[number] = result
        done, size = done + 1, size + sum(part.nbytes for part in parts[number])
        if size > 0.5 * (memory - PROGRAM) * GIB:
            raise ClusterToolsError(
                f"memory is {memory:g} GiB, but the galaxies found in {done} of {len(tasks)} slabs take "
                f"{size / GIB:.2g} GiB, more than half of it; give more memory, or observe fewer rows."
            )
        if progress:
            progress(done, len(tasks))

    if client is None:
        _run_here(tasks, at_once, receive)
    else:
        _run_there(tasks, client, receive)
    return parts


def _run_here(tasks: list, threads: int, receive: Callable) -> None:
    import dask
    from dask.callbacks import Callback

    with Callback(posttask=lambda key, result, *_: receive(result)):
        dask.compute(*(dask.delayed(task, pure=False)() for task in tasks), scheduler="threads", num_workers=threads)


def _run_there(tasks: list, client, receive: Callable) -> None:
    from distributed import as_completed

    futures = [client.submit(task, pure=False, retries=RETRIES) for task in tasks]
    waiting = as_completed(futures, with_results=True)
    del futures  # a worker forgets a result as soon as it has arrived here
    try:
        for _, result in waiting:
            receive(result)
    except ClusterToolsError:
        raise
    except Exception as error:  # whatever goes wrong on a worker arrives here
        raise ClusterToolsError(
            f"Observing failed on the workers of {client.scheduler.address} ({type(error).__name__}: {error}); "
            "see that they run this version of cluster_tools and have the memory that they are given."
        ) from error


def _assembled(n_rows: int, meeting: list, parts: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The parts of all slabs, put together row by row; `parts` is used up."""
    count = np.zeros(n_rows, np.int64)
    for mine, part in zip(meeting, parts):
        count[mine] += part[0]
    columns = [np.empty(count.sum(), dtype) for dtype in (np.float32, np.float32, np.bool_)]
    free = np.cumsum(count) - count  # where each row's next galaxies go
    for mine, (number, *found) in zip(meeting, (parts.pop(0) for _ in meeting)):
        place = np.repeat(free[mine] - (np.cumsum(number) - number), number)
        place += np.arange(len(place))
        for column, values in zip(columns, found):
            column[place] = values
        free[mine] += number
    v_los, r_proj, is_member = columns
    return count, v_los, r_proj, is_member


@njit(cache=True, nogil=True)
def _into_cells(cell, n_cells):
    """Where each of the cells begins, and the order of the galaxies by cell: a stable counting sort."""
    starts = np.zeros(n_cells + 2, np.int64)
    for c in cell:
        starts[c + 2] += 1
    for k in range(2, n_cells + 2):
        starts[k] += starts[k - 1]
    order = np.empty(len(cell), np.int64)
    for g, c in enumerate(cell):
        order[starts[c + 1]] = g
        starts[c + 1] += 1
    return starts[:-1], order


@njit(cache=True, nogil=True)
def _add_velocities(v1, v2):
    return (v1 + v2) / (1 + v1 * v2 / SPEED_OF_LIGHT**2)


@njit(cache=True, nogil=True)
def _at(x, table_x, table_y):
    """One value by linear interpolation; numba's np.interp takes ten times as long for one."""
    k = min(max(np.searchsorted(table_x, x), 1), len(table_x) - 1)
    slope = (table_y[k] - table_y[k - 1]) / (table_x[k] - table_x[k - 1])
    return table_y[k - 1] + slope * (x - table_x[k - 1])


@njit(cache=True, nogil=True)
def _walk(
    rows, position, velocity, member_of, starts, begin, end, n_cells, box_size, d_cluster, distance, recession
):  # fmt: skip
    """Walk along each cylinder, layer by layer of grid cells across its steepest axis, staying in the slab."""
    size = box_size / n_cells
    count = np.zeros(len(rows), np.int64)
    room = 1024
    galaxy = np.empty(room, np.int64)
    v_los = np.empty(room, np.float32)
    r_proj = np.empty(room, np.float32)
    is_member = np.empty(room, np.bool_)
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
        last = min(int(np.floor((centre[steep] + high) / size)), first + n_cells - 1)
        row_begins = total
        for layer in range(first, last + 1):
            cell[steep] = layer % n_cells
            if steep == 0 and not begin <= cell[0] < end:
                continue
            away = (layer + 0.5) * size - centre[steep]
            middle_2 = centre[second] + slope_2 * away
            middle_3 = centre[third] + slope_3 * away
            for c2 in range(int(np.floor((middle_2 - half_2) / size)), int(np.floor((middle_2 + half_2) / size)) + 1):
                cell[second] = c2 % n_cells
                if second == 0 and not begin <= cell[0] < end:
                    continue
                for c3 in range(
                    int(np.floor((middle_3 - half_3) / size)), int(np.floor((middle_3 + half_3) / size)) + 1
                ):
                    cell[third] = c3 % n_cells
                    if third == 0 and not begin <= cell[0] < end:
                        continue
                    index = ((cell[0] - begin) * n_cells + cell[1]) * n_cells + cell[2]
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
                        v_galaxy = _add_velocities(_at(d_cluster + separation, distance, recession), peculiar)
                        relative = np.float32(_add_velocities(v_galaxy, -row.v_cluster))
                        if abs(relative) >= VELOCITY_CUT:  # as it will be stored
                            continue
                        if total == room:
                            galaxy = np.concatenate((galaxy, np.empty(room, np.int64)))
                            v_los = np.concatenate((v_los, np.empty(room, np.float32)))
                            r_proj = np.concatenate((r_proj, np.empty(room, np.float32)))
                            is_member = np.concatenate((is_member, np.empty(room, np.bool_)))
                            room *= 2
                        galaxy[total] = g
                        v_los[total] = relative
                        r_proj[total] = np.sqrt(max(across, 0.0))
                        is_member[total] = member_of[g] == row.host
                        total += 1
        count[i] = total - row_begins
    # Of each cylinder in the order of the galaxies. Element by element: an array assigned to a slice takes
    # Numba two seconds more to compile, for the text of an error about their shapes.
    order = np.empty(total, np.int64)
    row_begins = 0
    for number in count:
        for g, k in enumerate(np.argsort(galaxy[row_begins : row_begins + number], kind="mergesort")):
            order[row_begins + g] = row_begins + k
        row_begins += number
    return count, v_los[order], r_proj[order], is_member[order]
