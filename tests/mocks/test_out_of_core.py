"""Observing a snapshot in a file: the same for any slabs, threads and workers, within the memory."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys

import numba
import numpy as np
import pytest
from test_observe import random_box, rebuilt

from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import observe
from cluster_tools.universe import snapshots

LAYERS = 32


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """One snapshot in a file and in memory."""
    in_memory = random_box(1, 40_000)
    return rebuilt(in_memory, path=tmp_path_factory.mktemp("box") / "box.h5"), in_memory


@pytest.fixture(scope="module")
def whole(boxes):
    """Observation of the snapshot in memory as one slab."""
    with pytest.MonkeyPatch.context() as patch:
        cut(patch, LAYERS)
        observed = look(boxes[1])
    assert observed[0].min() > 100 and 0.2 < observed[3].mean() < 0.9  # galaxies and members in every view
    return observed


def look(snapshot, **options):
    """All hosts along twelve lines of sight."""
    hosts = len(snapshot.host_position)
    return observe.observe(
        snapshot, np.repeat(np.arange(hosts), 12), np.tile(observe.lines_of_sight(12), (hosts, 1)), **options
    )


def cut(patch, thickness):
    """Make all slabs as thick as this, in layers."""
    slabs = [(begin, min(begin + thickness, LAYERS)) for begin in range(0, LAYERS, thickness)]
    patch.setattr(observe, "_slabs", lambda *_: slabs)


def assert_identical(observed, expected):
    for one, other in zip(observed, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize(("thickness", "threads"), [(1, 2), (7, 1), (LAYERS, 2)])
def test_slabs_and_threads_change_nothing(boxes, whole, monkeypatch, thickness, threads):
    cut(monkeypatch, thickness)
    reports = []
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
    for snapshot in boxes:
        assert_identical(look(snapshot, progress=lambda *report: reports.append(report)), whole)
    slabs = -(-LAYERS // thickness)
    assert reports == 2 * [(done, slabs) for done in range(1, slabs + 1)]
    options = {"galaxies": "satellites", "min_log_mstar": 10.0}
    assert_identical(*(look(snapshot, **options) for snapshot in boxes))


def test_too_little_memory_is_refused(boxes, monkeypatch):
    with pytest.raises(ClusterToolsError, match=r"memory is 0.1 GiB, but 0.5\d* GiB is the least"):
        look(boxes[0], memory=0.1)
    monkeypatch.setattr(observe, "PROGRAM", 0.0)
    cut(monkeypatch, 8)
    with pytest.raises(ClusterToolsError, match=r"memory is 0.0001 GiB, but the galaxies found in \d of 4 slabs take"):
        look(boxes[0], memory=1e-4)


PEAK = """
import sys
from pathlib import Path
import numpy as np
from cluster_tools.mocks import observe
from cluster_tools.universe import snapshots
def memory(name):
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])
snapshot = snapshots.open_snapshot(sys.argv[1])
host, direction = np.arange(24).repeat(3), np.tile(np.eye(3), (24, 1))
observe.observe(snapshot, host[:0], direction[:0])  # all that is compiled and imported
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here, and not with what was imported or read before
observe.observe(snapshot, host, direction, memory=float(sys.argv[2]))
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
def test_peak_memory_of_a_file_larger_than_it(tmp_path):
    """2 million galaxies (65 MB, 145 MB with all that sorting takes) in half of 0.06 GiB."""
    rng = np.random.default_rng(2)

    def pieces():
        for _ in range(2):
            piece = np.zeros(10**6, snapshots.GALAXY)
            piece["position"] = rng.uniform(0, 300, (10**6, 3))
            piece["velocity"] = rng.normal(0, 500, (10**6, 3))
            yield piece

    hosts = rng.uniform(0, 300, (24, 3)).astype(np.float32), np.zeros((24, 3), np.float32), np.full(24, 14.5)
    snapshots.collect(SIMULATIONS["mdpl2"], 300.0, *hosts, pieces(), path=tmp_path / "box.h5")
    command = [sys.executable, "-c", PEAK, tmp_path / "box.h5", "0.56"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.01 * 2**30 < int(done.stdout) < 0.06 * 2**30


# On a cluster


def test_two_processes_and_a_death_change_nothing(boxes, whole, monkeypatch, tmp_path):
    """One of two workers is killed when the first slab is done; its slabs are observed again."""
    from distributed import LocalCluster

    cut(monkeypatch, 1)
    with LocalCluster(2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL) as cluster:
        address, killed = cluster.scheduler_address, []

        def kill(done, slabs):
            if done == 1:
                killed.append(min(worker.pid for worker in cluster.workers.values()))
                os.kill(killed[0], signal.SIGKILL)

        assert_identical(look(boxes[0], scheduler=address), whole)
        assert_identical(look(boxes[0], scheduler=address, progress=kill), whole)
        assert killed
        missing = dataclasses.replace(boxes[0], path=tmp_path / "gone.h5")
        with pytest.raises(ClusterToolsError, match=r"gone\.h5 is missing; make it again"):
            look(missing, scheduler=address)


def test_a_scheduler_that_cannot_help_is_refused(boxes):
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=logging.CRITICAL) as idle:
        with pytest.raises(ClusterToolsError, match="has no workers; .*dask worker tcp://"):
            look(boxes[0], scheduler=idle.scheduler_address)
    for address in ("tcp://127.0.0.1:1", "nonsense://somewhere"):
        with pytest.raises(ClusterToolsError, match=f"No Dask scheduler answers at '{address}'"):
            look(boxes[0], scheduler=address)
    with pytest.raises(ClusterToolsError, match="in memory, where the workers of tcp://127.0.0.1:1 cannot read it"):
        look(boxes[1], scheduler="tcp://127.0.0.1:1")
