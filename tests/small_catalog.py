"""Small synthetic catalogues for tests."""

from dataclasses import replace

import numpy as np

from cluster_tools.mocks.catalogs import MockCatalog


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
