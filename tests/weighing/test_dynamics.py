"""Dynamical state: tests of Gaussian velocities and of substructure, against scipy and planted groups."""

import numpy as np
import pytest
import small_cluster
from scipy import stats

from cluster_tools.weighing import dynamics, one_cluster, output


def cluster(n, seed, group=0.0):
    """Positions and velocities; a share `group` of the galaxies lies together at another velocity."""
    rng, k = np.random.default_rng(seed), int(group * n)
    position, v_los = rng.normal(0, 1, (n, 2)), rng.normal(0, 900, n)
    position[:k], v_los[:k] = rng.normal([1, 0], 0.15, (k, 2)), rng.normal(1200, 300, k)
    return position, v_los


def test_anderson_darling_is_that_of_scipy_and_flat_for_gaussians():
    rng = np.random.default_rng(1)
    for n in (25, 100, 400):
        samples = [rng.normal(5, 900, n) + 400 * rng.standard_t(3, n) for _ in range(30)]
        pairs = [(dynamics.anderson_darling(v), stats.anderson(v, method="interpolate").pvalue) for v in samples]
        inside = [pair for pair in pairs if 0.012 < pair[1] < 0.148]  # the ends of scipy's table
        assert len(inside) > 2
        assert all(ours == pytest.approx(theirs, rel=0.15) for ours, theirs in inside)
    assert all(dynamics.anderson_darling(np.repeat([-900.0, 900.0], n)) < 1e-9 for n in (30, 1000, 20_000))  # two humps
    p = np.array([dynamics.anderson_darling(v) for v in rng.normal(0, 900, (2000, 40))])
    assert [np.mean(p < level) for level in (0.05, 0.2, 0.5)] == pytest.approx([0.05, 0.2, 0.5], abs=0.035)


def test_substructure_is_found_where_there_is_some_and_not_where_there_is_none():
    none = [dynamics.dressler_shectman(*cluster(50, seed), seed=seed) for seed in range(40)]
    planted = [dynamics.dressler_shectman(*cluster(80, seed, group=0.2), seed=seed) for seed in range(10)]
    assert 0.3 < np.mean(none) < 0.7 and np.mean(np.array(none) < 0.05) < 0.15
    assert np.median(planted) < 0.01
    position, v_los = cluster(60, 3, group=0.15)
    turned = position @ [[0.6, 0.8], [-0.8, 0.6]] * 57.3 + 3  # no unit, angle or mean matters
    p = dynamics.dressler_shectman(position, v_los)
    assert dynamics.dressler_shectman(turned, v_los / 1000 + 7) == pytest.approx(p, abs=0.01)


def test_random_numbers_are_those_of_the_standard_generator():
    numbers = dynamics._random(10_000, seed=0)
    assert numbers[-1] == 399268537  # of minstd_rand, as the standard of C++ has it ([rand.predef])
    assert (dynamics._random(10, 0, 7) == numbers[7:17]).all()
    assert len(np.unique(numbers)) == 10_000 and (numbers[:10] != dynamics._random(10, seed=1)).all()


def test_few_members_and_velocities_that_are_alike_are_not_tested():
    position, v_los = cluster(30, 4)
    for v, p in ((v_los, np.r_[np.ones(19), np.zeros(11)]), (np.zeros(30), np.ones(30))):
        found = dynamics.state(v, position, p)
        assert np.isnan([found["p_gaussian"], found["p_substructure"]]).all() and "not tested" in found["dynamics"]
    assert "sky" not in dynamics.state(v_los, None, np.ones(30))["dynamics"]


def test_the_state_is_beside_the_mass():
    table = small_cluster.table(14.8, 120)
    record = output.record(one_cluster.weigh(table, redshift=0.0231, centre=(194.95, 27.98), min_log_mstar=None))
    assert 0 < record["p_gaussian"] <= 1 and 0 < record["p_substructure"] <= 1
    assert "dynamical state       velocities of" in output.text(record)
