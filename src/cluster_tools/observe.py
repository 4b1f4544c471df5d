"""Look at a snapshot as a survey would: galaxies in a cylinder of phase space around a cluster.

Every cluster is placed at Coma's redshift, seen plane-parallel along any direction. The box is
periodic in all three axes. Ho et al. 2022, Methods, "Mock catalog generation"; Ho et al. 2019.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cluster_tools.errors import ClusterToolsError
from cluster_tools.simulations import SPEED_OF_LIGHT, comoving_distance

APERTURE = 2.3  # comoving Mpc/h: the largest r_proj
VELOCITY_CUT = 3785.0  # km/s: abs(v_los) stays below it (the paper rounds to 3800)
FEWEST_GALAXIES = 11  # "strictly more than 10"
REDSHIFT = 0.0231  # of Coma, and of every mock observation
CELL = 5.0  # Mpc/h, of the search grid
MARGIN = 1e-3  # Mpc/h: more than float32 rounding can put a galaxy into the next cell


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
    distance = comoving_distance(omega_m, z)
    if reach > distance[-1]:
        raise ClusterToolsError(f"A distance of {reach:g} Mpc/h was asked for, but {distance[-1]:.0f} is the farthest.")
    squared = (1 + z) ** 2
    return distance, SPEED_OF_LIGHT * (squared - 1) / (squared + 1)


def observe(snapshot, host, direction, *, galaxies: str = "all", batch: int = 2000, progress=None):
    """Yield the galaxies around clusters, batch by batch of (cluster, line of sight) pairs.

    Parameters
    ----------
    snapshot : `cluster_tools.snapshots.Snapshot`
    host : int array (n,)
        Index of the cluster to look at, for each observation.
    direction : array (n, 3)
        Unit vector from the observer to the cluster.
    galaxies : "all" (as a survey sees) or "satellites" (as the authors' public code keeps)
    batch : observations in one batch
    progress : called with the number of observations done after each batch

    Yields
    ------
    count (n_batch,), v_los [km/s], r_proj [comoving Mpc/h], is_member
        Galaxies with r_proj <= 2.3 and abs(v_los) < 3785, one observation after the other; v_los
        is the relativistic difference of the velocities of galaxy and cluster.

    Raises
    ------
    ClusterToolsError
        For an unknown `galaxies`.
    """
    if galaxies not in ("all", "satellites"):
        raise ClusterToolsError(f"galaxies is {galaxies!r}, but 'all' or 'satellites' is expected.")
    sim = snapshot.simulation
    seen = slice(None) if galaxies == "all" else snapshot.is_satellite
    velocity = snapshot.velocity[seen]
    fastest = np.sqrt(max((velocity[:, axis].astype(np.float64) ** 2).max() for axis in range(3)) * 3)
    d_cluster = float(comoving_distance(sim.omega_m, REDSHIFT))
    # Farther along the line of sight than this, no peculiar velocity brings a galaxy into the window.
    reach = min((VELOCITY_CUT + 2 * fastest) / 95.0, snapshot.box_size / 2)
    distance, recession = hubble_velocity_table(sim.omega_m, d_cluster + reach)
    order, starts, n_cells = _sorted_into_cells(snapshot.position[seen], snapshot.box_size)
    position = snapshot.position[seen][order]
    velocity = velocity[order]
    member_of = snapshot.host[seen][order]
    for begin in range(0, len(host), batch):
        rows = slice(begin, begin + batch)
        yield _observe_rows(
            snapshot.host_position[host[rows]].astype(np.float64),
            snapshot.host_velocity[host[rows]].astype(np.float64),
            np.asarray(host[rows], dtype=np.int64),
            np.ascontiguousarray(direction[rows], dtype=np.float64),
            position, velocity, member_of, starts, n_cells,
            snapshot.box_size, reach, d_cluster, distance, recession,
        )  # fmt: skip
        if progress:
            progress(min(begin + batch, len(host)))


def _sorted_into_cells(position, box_size):
    """Order that sorts galaxies by grid cell, and where each cell begins."""
    n_cells = max(int(box_size / CELL), 1)
    cell = np.zeros(len(position), np.int64)
    for axis in range(3):
        cell *= n_cells
        cell += np.minimum((position[:, axis] * (n_cells / box_size)).astype(np.int64), n_cells - 1)
    return np.argsort(cell, kind="stable"), np.r_[0, np.cumsum(np.bincount(cell, minlength=n_cells**3))], n_cells


@njit(cache=True)
def _add_velocities(v1, v2):
    return (v1 + v2) / (1 + v1 * v2 / SPEED_OF_LIGHT**2)


@njit(cache=True)
def _observe_rows(
    centre, centre_velocity, host, direction, position, velocity, member_of, starts, n_cells,
    box_size, reach, d_cluster, distance, recession,
):  # fmt: skip
    """Walk along each cylinder, layer by layer of grid cells across its steepest axis."""
    size = box_size / n_cells
    count = np.zeros(len(host), np.int64)
    v_los = np.empty(1024)
    r_proj = np.empty(1024)
    is_member = np.empty(1024, np.bool_)
    total = 0
    for i in range(len(host)):
        along = direction[i]
        steep = np.argmax(np.abs(along))
        second, third = (steep + 1) % 3, (steep + 2) % 3
        slope_2, slope_3 = along[second] / along[steep], along[third] / along[steep]
        # The cylinder's cross-section with a layer is an ellipse; this box contains it.
        half_2 = APERTURE * np.sqrt(1 + slope_2**2) + 0.5 * size * abs(slope_2) + MARGIN
        half_3 = APERTURE * np.sqrt(1 + slope_3**2) + 0.5 * size * abs(slope_3) + MARGIN
        half_1 = reach * abs(along[steep]) + APERTURE
        first = int(np.floor((centre[i, steep] - half_1) / size))
        last = min(int(np.floor((centre[i, steep] + half_1) / size)), first + n_cells - 1)
        v_cluster = _add_velocities(np.interp(d_cluster, distance, recession), np.dot(along, centre_velocity[i]))
        cell = np.empty(3, np.int64)
        delta = np.empty(3)
        for layer in range(first, last + 1):
            cell[steep] = layer % n_cells
            away = (layer + 0.5) * size - centre[i, steep]
            middle_2 = centre[i, second] + slope_2 * away
            middle_3 = centre[i, third] + slope_3 * away
            for c2 in range(int(np.floor((middle_2 - half_2) / size)), int(np.floor((middle_2 + half_2) / size)) + 1):
                cell[second] = c2 % n_cells
                for c3 in range(
                    int(np.floor((middle_3 - half_3) / size)), int(np.floor((middle_3 + half_3) / size)) + 1
                ):
                    cell[third] = c3 % n_cells
                    index = (cell[0] * n_cells + cell[1]) * n_cells + cell[2]
                    for g in range(starts[index], starts[index + 1]):
                        # The image of the galaxy that lies in this cell of the unwrapped box.
                        delta[steep] = position[g, steep] + (layer - cell[steep]) * size - centre[i, steep]
                        delta[second] = position[g, second] + (c2 - cell[second]) * size - centre[i, second]
                        delta[third] = position[g, third] + (c3 - cell[third]) * size - centre[i, third]
                        separation = delta[0] * along[0] + delta[1] * along[1] + delta[2] * along[2]
                        if separation > reach or separation < -min(reach, d_cluster):
                            continue
                        across = delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2 - separation**2
                        if across > APERTURE**2:
                            continue
                        peculiar = velocity[g, 0] * along[0] + velocity[g, 1] * along[1] + velocity[g, 2] * along[2]
                        v_galaxy = _add_velocities(np.interp(d_cluster + separation, distance, recession), peculiar)
                        relative = _add_velocities(v_galaxy, -v_cluster)
                        if abs(np.float32(relative)) >= VELOCITY_CUT:  # as it will be stored
                            continue
                        if total == len(v_los):
                            v_los = np.concatenate((v_los, np.empty(total)))
                            r_proj = np.concatenate((r_proj, np.empty(total)))
                            is_member = np.concatenate((is_member, np.empty(total, np.bool_)))
                        v_los[total] = relative
                        r_proj[total] = np.sqrt(max(across, 0.0))
                        is_member[total] = member_of[g] == host[i]
                        total += 1
                        count[i] += 1
    return count, v_los[:total].copy(), r_proj[:total].copy(), is_member[:total].copy()
