"""Posterior predictive checks, against numbers by hand and mocks that are right by construction."""

import numpy as np
import pytest

from cluster_tools.coma import predictive_checks
from cluster_tools.ragged import ClusterGalaxies, cluster_offsets


def test_summaries_by_hand():
    v_los = np.array([2500.0, -100, 100, 0, -2100, 0, 300])
    r_proj = np.array([0.1, 0.2, 0.3, 2.0, 0.4, 1.2, 2.2])
    table = predictive_checks.summaries(ClusterGalaxies(v_los, r_proj, np.array([0, 4, 7])))
    assert table[predictive_checks.NUMBER].tolist() == [4, 3]
    assert table[predictive_checks.FAST_SHARE].tolist() == pytest.approx([25, 100 / 3])
    assert table[predictive_checks.OUTER_SHARE].tolist() == pytest.approx([25, 100 / 3])
    core = table.filter(like="0 to 0.5").iloc[:, 0]
    assert core[0] == pytest.approx(np.std([2500, -100, 100], ddof=1)) and np.isnan(core[1])


def mocks(log_m200c, rng):
    """Clusters whose number of galaxies and dispersion grow with mass."""
    richness = rng.poisson(300 * 10 ** (log_m200c - 15))
    v_los = rng.standard_normal(richness.sum()) * np.repeat(1000 * 10 ** ((log_m200c - 15) / 3), richness)
    return ClusterGalaxies(v_los, 2.3 * rng.random(richness.sum()), cluster_offsets(richness))


def test_clusters_of_the_same_kind_are_not_extreme_and_one_of_another_kind_is():
    """If Coma is a mock of a mass drawn from its posterior, its ranks are uniform."""
    rng = np.random.default_rng(1)
    log_m200c = rng.uniform(14.5, 15.5, 1500)
    made = mocks(log_m200c, rng)
    tables = [
        predictive_checks.check(mocks(np.array([m]), rng), made, log_m200c, 15, 0.1) for m in rng.normal(15, 0.1, 30)
    ]
    ranks = np.array([table["below"] for table in tables])
    assert ranks.mean(axis=0) == pytest.approx(0.5, abs=4 / np.sqrt(12 * 30))
    assert ranks.min() < 0.1 and ranks.max() > 0.9
    table = predictive_checks.check(mocks(np.array([15.6]), rng), made, log_m200c, 15.0, 0.05).set_index("summary")
    assert (table["low"] < table["median"]).all() and (table["median"] < table["high"]).all()
    assert table.loc[predictive_checks.NUMBER, "below"] > 0.99  # 1200 galaxies, where 300 are usual
    assert 0.1 < table.loc[predictive_checks.OUTER_SHARE, "below"] < 0.9
