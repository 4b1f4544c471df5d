"""Small synthetic catalogues for tests."""

import numpy as np

from cluster_tools.mocks.catalogs import MockCatalog


def catalog(clusters, log_m200c):
    """A catalogue of clusters with these (v_los, r_proj), folds in turn."""
    n = len(clusters)
    v_los, r_proj = (np.concatenate(column).astype(np.float32) for column in zip(*clusters))
    return MockCatalog(
        offsets=np.r_[0, np.cumsum([len(v) for v, _ in clusters])],
        v_los=v_los,
        r_proj=r_proj,
        is_member=np.ones(len(v_los), bool),
        cluster=np.arange(n),
        log_m200c=np.asarray(log_m200c, float),
        fold=np.arange(n) % 10,
        line_of_sight=np.zeros(n, int),
        in_train=np.ones(n, bool),
        in_test=np.ones(n, bool),
        extra_host=np.zeros(n, bool),
    )
