"""Observing against the straightforward way of doing it, on the same box, in one run.

The straightforward way, for each line of sight: pad the box with its periodic images, rotate all
galaxies so that the line of sight is the third axis, put their projected positions into a
`scipy.spatial.KDTree`, ask it for the galaxies within the aperture of every cluster, and cut in
velocity cluster by cluster. Both must find the same galaxies. `python benchmarks/bench_observe.py --help`.
"""

from __future__ import annotations

import argparse
import os
import time

import dask
import numpy as np
from scipy.spatial import KDTree

from cluster_tools import catalogs, cli, machine, observe, snapshots
from cluster_tools.simulations import SPEED_OF_LIGHT, comoving_distance

SIMULATION = "uchuu"


def main() -> None:
    parser = argparse.ArgumentParser(description="How long mock observations take, beside the straightforward way.")
    parser.add_argument("--box-size", type=float, default=300.0, help="Mpc/h, of the comparison (default: 300)")
    parser.add_argument("--lines", type=int, default=12, help="lines of sight of each cluster (default: 12)")
    parser.add_argument("--full", type=float, metavar="MPC_H",
                        help="also make a box of this size and its whole catalogue, such as 1000")  # fmt: skip
    options = parser.parse_args()

    about = machine.description()
    print(f"{about['cpu']}, {cli.cores()} cores, {about['memory_gb']} GB, load {os.getloadavg()[0]:.1f} before\n")
    compare(options.box_size, options.lines)
    if options.full:
        full(options.full)


def compare(box_size: float, n_lines: int) -> None:
    """Observe all clusters above 10^14 Msun/h along `n_lines`, both ways; print seconds and their ratio."""
    box = snapshots.synthetic(SIMULATION, box_size=box_size, seed=1)
    clusters = np.flatnonzero(box.host_log_m200c >= catalogs.TEST_LOG_M200C)
    lines = observe.lines_of_sight(n_lines)
    host, direction = np.tile(clusters, n_lines), np.repeat(lines, len(clusters), axis=0)
    observe.observe(box, host[:1], direction[:1])  # compiles

    seconds = {}
    for threads in (1, cli.cores()):
        with dask.config.set(num_workers=threads):
            started = time.perf_counter()
            found = observe.observe(box, host, direction)
            seconds[threads] = time.perf_counter() - started
    started = time.perf_counter()
    expected = [straightforward(box, clusters, line) for line in lines]
    theirs = time.perf_counter() - started

    assert_same(found, [view for views in expected for view in views])
    print(f"box of {box_size:g} Mpc/h, {len(box.position):,} galaxies, {len(clusters)} clusters x {n_lines} lines of "
          f"sight, {found[0].sum():,} galaxies found by both")  # fmt: skip
    print(f"straightforward        {theirs:8.2f} s")
    for threads, ours in seconds.items():
        print(f"ours, threads: {threads:<6}  {ours:8.2f} s   {theirs / ours:4.0f} times as fast")
    print()


def straightforward(box, clusters: np.ndarray, line: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """v_los, r_proj and is_member of each cluster along one line of sight."""
    omega_m, d_cluster = box.simulation.omega_m, comoving_distance(box.simulation.omega_m, observe.REDSHIFT)
    distance, recession = observe.hubble_velocity_table(omega_m, 0.0)
    reach = min(distance[-1] - d_cluster, box.box_size / 2)
    position, source = padded(box, line, reach)
    across_1 = np.cross(line, np.eye(3)[np.argmin(np.abs(line))])
    across_1 /= np.linalg.norm(across_1)
    turn = np.stack([across_1, np.cross(line, across_1), line])
    position = position @ turn.T
    peculiar = box.velocity.astype(np.float64) @ line
    centre = box.host_position[clusters].astype(np.float64) @ turn.T
    v_cluster = add(np.interp(d_cluster, distance, recession), box.host_velocity[clusters].astype(np.float64) @ line)
    views = []
    for near, middle, v, number in zip(
        KDTree(position[:, :2]).query_ball_point(centre[:, :2], observe.APERTURE), centre, v_cluster, clusters
    ):
        near = np.array(near, np.int64)
        along = position[near, 2] - middle[2]
        near = near[(along >= -min(reach, d_cluster)) & (along <= reach)]
        separation = position[near] - middle
        v_galaxy = add(np.interp(d_cluster + separation[:, 2], distance, recession), peculiar[source[near]])
        v_los = add(v_galaxy, -v)
        inside = np.abs(v_los) < observe.VELOCITY_CUT
        r_proj = np.hypot(separation[inside, 0], separation[inside, 1])
        views.append((v_los[inside], r_proj, box.host[source[near[inside]]] == number))
    return views


def padded(box, line: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the galaxies and of those periodic images that a cylinder can reach, and whose they are."""
    margin = reach * np.abs(line) + observe.APERTURE * np.sqrt(1 - line**2) + 0.01
    position, source = box.position.astype(np.float64), np.arange(len(box.position))
    for axis in range(3):
        low, high = position[:, axis] < margin[axis], position[:, axis] > box.box_size - margin[axis]
        shift = box.box_size * np.eye(3)[axis]
        position = np.concatenate([position, position[low] + shift, position[high] - shift])
        source = np.concatenate([source, source[low], source[high]])
    return position, source


def add(v1, v2):
    """The relativistic sum of velocities."""
    return (v1 + v2) / (1 + v1 * v2 / SPEED_OF_LIGHT**2)


def assert_same(found: tuple, expected: list) -> None:
    """The same galaxies in each view: how many, v_los to 0.01 km/s, r_proj of members and others to 10^-5 Mpc/h."""
    count, *ours = found
    np.testing.assert_array_equal(count, [len(v_los) for v_los, _, _ in expected])
    row = np.repeat(np.arange(len(count)), count)
    for v_los, r_proj, is_member in (both := [ours, [np.concatenate(column) for column in zip(*expected)]]):
        v_los[:] = v_los[np.lexsort((v_los, row))]
        order = np.lexsort((r_proj, is_member, row))
        r_proj[:], is_member[:] = r_proj[order], is_member[order]
    for one, other, tolerance in zip(*both, (1e-2, 1e-5, 0)):
        np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=0, atol=tolerance)


def full(box_size: float) -> None:
    """Make a box, and observe all test clusters along three axes and the flat training set."""
    started = time.perf_counter()
    box = snapshots.synthetic(SIMULATION, box_size=box_size, seed=1)
    made = time.perf_counter() - started
    catalog = catalogs.build(box, seed=1)
    seconds = time.perf_counter() - started
    print(f"box of {box_size:g} Mpc/h, {len(box.position):,} galaxies: made in {made:.0f} s; {catalog.in_test.sum():,} "
          f"test rows and {catalog.in_train.sum():,} training rows with {catalog.offsets[-1]:,} galaxies in "
          f"{seconds - made:.0f} s; {seconds:.0f} s in all")  # fmt: skip


if __name__ == "__main__":
    main()
