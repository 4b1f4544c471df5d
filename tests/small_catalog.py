"""Small synthetic catalogues and boxes for tests."""

from dataclasses import replace

import numpy as np

from cluster_tools import hdf5
from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.mocks.catalogs import MockCatalog
from cluster_tools.universe import snapshots


def catalog(clusters, log_m200c):
    """A catalogue of clusters with these (v_los, r_proj), folds in turn."""
    n = len(clusters)
    v_los, r_proj = (np.concatenate(column).astype(np.float32) for column in zip(*clusters))
    return MockCatalog(
        offsets=np.r_[0, np.cumsum([len(v) for v, _ in clusters])], v_los=v_los, r_proj=r_proj,
        is_member=np.ones(len(v_los), bool), cluster=np.arange(n), log_m200c=np.asarray(log_m200c, float),
        fold=np.arange(n) % 10, line_of_sight=np.zeros(n, int), in_train=np.ones(n, bool), in_test=np.ones(n, bool),
        extra_host=np.zeros(n, bool),
    )  # fmt: skip


def ten_folds(n=60, seed=0):
    """A catalogue of n clusters of 20 galaxies each: even rows to train, odd ones to test, both in ten folds."""
    rng, even = np.random.default_rng(seed), np.arange(n) % 2 == 0
    clusters = [(rng.normal(0, 900, 20), rng.uniform(0, 2.3, 20)) for _ in range(n)]
    made = catalog(clusters, rng.uniform(14, 15, n))
    return replace(made, fold=np.arange(n) // 2 % 10, in_train=even, in_test=~even)


def write_box(path, velocity=0.0):
    """A box of one host and 3000 galaxies, with this velocity along each axis, written in two pieces."""
    galaxies = np.zeros(3000, snapshots.GALAXY)
    galaxies["position"] = np.random.default_rng(1).uniform(0, 60, (3000, 3))
    galaxies["velocity"] = velocity
    hosts = np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), np.array([14.5])
    pieces = [galaxies[:1000], galaxies[1000:]]
    snapshots.collect(SIMULATIONS["mdpl2"], 60.0, *hosts, pieces, path=path).position.file.close()


def read_box(path):
    """All that a box holds, with h5py's errors as they reach a reader."""
    box = snapshots.open_snapshot(path)
    try:
        with hdf5.opened(path, snapshots.FORMAT, snapshots.REMEDY):
            columns = {name: getattr(box, name)[:] for name in snapshots.GALAXY.names}
    finally:
        box.position.file.close()
    return columns | {name: getattr(box, name) for name in (*snapshots.HOST_COLUMNS, "provenance")}
