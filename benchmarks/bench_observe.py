"""Mock observations, beside rotating the whole catalogue for each line of sight and asking a `KDTree`."""

import functools
import time

import dask
import numpy as np
import plain
import pytest

from cluster_tools.mocks import catalogs, observe
from cluster_tools.universe import synthetic

pytestmark = pytest.mark.benchmark(timer=time.process_time)

SIMULATION = "uchuu"
# Bytes of each observed galaxy: position, velocity, host and layer of the box, v_los, r_proj and is_member of a view.
BYTES = 33 + 9

box = functools.cache(functools.partial(synthetic.synthetic, SIMULATION, seed=1))


@pytest.mark.parametrize("lines", (1, 3, 12))
def bench_lines(measure, speed, way, lines):
    """Lines of sight, in a box of 300 Mpc/h."""
    observed(measure, speed, way, 300.0, lines, growth="lines")


@pytest.mark.parametrize("box_size", (160.0, 200.0, 250.0))
def bench_clusters(measure, speed, way, box_size):
    """Boxes of other sizes, along three lines of sight."""
    observed(measure, speed, way, box_size, 3, growth="clusters")


def bench_whole_catalogue(full, measure):
    """A box of 1000 Mpc/h, its test clusters along three axes, and the flat training set."""
    seconds = []

    def whole():
        started = time.process_time()
        large = synthetic.synthetic(SIMULATION, box_size=1000.0, seed=1)
        seconds.append(time.process_time() - started)
        catalogs.build(large, seed=1)

    measure("whole_catalogue", "ours", whole, box_size=1000.0)["seconds_for_the_box"] = seconds


def observed(measure, speed, way, box_size, n_lines, growth):
    snapshot = box(box_size=box_size)
    clusters = np.flatnonzero(snapshot.host_log_m200c >= catalogs.TEST_LOG_M200C)
    lines = observe.lines_of_sight(n_lines)
    host, direction = np.tile(clusters, n_lines), np.repeat(lines, len(clusters), axis=0)
    with dask.config.set(num_workers=1):
        count, *_ = observe.observe(snapshot, host, direction)  # compiles
        ways = {"plain": lambda: plain.observed(snapshot, clusters, lines),
                "ours": lambda: observe.observe(snapshot, host, direction)}  # fmt: skip
        measure("observe", way, ways[way], same=assert_same, rounds=3 if way == "ours" else 1, growth=growth,
                limit=BYTES * count.sum() / speed["bytes"],
                clusters=len(clusters), lines=n_lines, galaxies_in_box=len(snapshot.position))  # fmt: skip


def assert_same(expected: list, found: tuple) -> None:
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
