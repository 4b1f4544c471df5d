"""Calibration diagnostics and recalibration, on Gaussian posteriors that are right, too wide, or biased."""

import dataclasses

import numpy as np
import pytest
from gaussian_predictions import gaussian
from scipy.stats import norm

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import calibration


def test_pit_is_the_cumulative_probability_of_the_truth():
    predictions = gaussian(300)
    pit = calibration.pit(predictions)
    np.testing.assert_allclose(pit, calibration.gaussian_pit(predictions), atol=0.01)  # 1 / k
    outside = dataclasses.replace(predictions, log_m200c=np.repeat([10.0, 20.0], 150))
    np.testing.assert_allclose(calibration.pit(outside), np.repeat([0.0025, 0.9975], 150))


@pytest.mark.parametrize("factor", [1.0, 1.5, 0.6])
def test_coverage_and_its_tarp_counterpart_tell_the_width(factor):
    predictions, levels = gaussian(6000, factor=factor, seed=2), np.array([0.0, 0.1, 0.5, 0.68, 0.9, 1.0])
    exact = 2 * norm.cdf(factor * norm.ppf(0.5 + levels / 2)) - 1
    for pit in (calibration.pit(predictions), calibration.gaussian_pit(predictions)):
        np.testing.assert_allclose(calibration.coverage(pit, levels), exact, atol=0.02)
    expected = calibration.expected_coverage(predictions, levels, seed=1)
    if factor == 1:
        np.testing.assert_allclose(expected, levels, atol=0.02)
    else:
        assert (np.sign(expected - levels)[2:-1] == np.sign(factor - 1)).all()


def test_diagnosis_of_right_posteriors_is_right_within_its_errors_and_of_shifted_ones_is_not():
    right, off = (calibration.diagnose(gaussian(shift=shift), seed=1, resamples=50) for shift in (0.0, 0.1))
    for name, ideal in (("histogram", 1.0), ("covered", right.levels), ("expected", right.levels)):
        deviation = (getattr(right, name) - ideal) / getattr(right, f"{name}_error")
        assert np.sqrt(np.mean(deviation**2)) < 2
    assert off.histogram[0] > 1.5 and off.histogram[-1] < 0.6


def test_bootstrap_draws_whole_clusters():
    # Three equal lines of sight tell no more than one: the error is sigma / sqrt(clusters).
    value = np.repeat(np.random.default_rng(1).normal(size=400), 3)

    def values(clusters):
        return calibration.bootstrap(lambda rows: value[rows].mean(), clusters, seed=2, resamples=1000)

    by_cluster = values(np.repeat(np.arange(400), 3))
    assert by_cluster.shape == (1000,) and by_cluster.std() == pytest.approx(value.std() / 20, rel=0.1)
    assert values(np.arange(1200)).std() == pytest.approx(by_cluster.std() / np.sqrt(3), rel=0.15)
    np.testing.assert_array_equal(by_cluster, values(np.repeat(np.arange(400), 3)))


def test_bins_hold_equally_many_rows_and_are_fewer_for_few_clusters():
    predictions, few = gaussian(3000, shift=0.05), gaussian(90)
    table = calibration.in_bins(predictions, predictions.log_m200c, 4, seed=1)
    assert list(table["clusters"]) == [250] * 4 and table["middle"].is_monotonic_increasing
    assert (np.abs(table["median"] - 0.05) < 4 * table["median_error"]).all()
    assert len(calibration.in_bins(few, few.mean, 5, seed=1)) == 3
    edges = np.quantile(predictions.log_m200c, [0.25, 0.5, 1])
    by_edges = calibration.in_bins(predictions, predictions.log_m200c, edges, seed=1)
    assert by_edges["middle"][0] == table["middle"][1]
    assert calibration.in_bins(few, few.log_m200c, [0, 1, 20], seed=1)["clusters"].tolist() == [30]
    whole = calibration.in_bins(predictions, predictions.mean, seed=1).iloc[0]
    assert whole["inside"] == calibration.coverage(calibration.pit(predictions), [0.68])[0]


def test_recalibration_finds_shift_and_factor_and_takes_them_back():
    held_out, test = (gaussian(3000, factor=1.6, shift=0.08, seed=seed) for seed in (3, 4))
    corrected = calibration.Recalibration.fit(held_out)(test)
    assert abs(np.median(corrected.residual)) < 0.01
    np.testing.assert_allclose(corrected.samples.mean(axis=1), corrected.mean, atol=1e-3)
    ratio = corrected.samples.std(axis=1) / test.samples.std(axis=1)
    np.testing.assert_allclose(ratio, corrected.sigma / test.sigma, rtol=1e-3)
    assert calibration.coverage(calibration.pit(corrected), [0.68])[0] == pytest.approx(0.68, abs=0.03)
    with pytest.raises(ClusterToolsError, match="4 other clusters.*max_test"):
        calibration.Recalibration.fit(held_out.select(np.arange(4)))


def test_recalibration_finds_slopes_in_mass():
    """A network that shrinks masses towards 14.3 by a third, with a sigma too small for light clusters."""
    rng = np.random.default_rng(6)
    mean = rng.uniform(14, 15, 3000)
    truth = 14.3 + 1.5 * (mean - 14.3) + 0.1 * np.exp(-0.5 * (mean - 14.3)) * rng.standard_normal(3000)
    shrunk = dataclasses.replace(gaussian(), log_m200c=truth, mean=mean, sigma=np.full(3000, 0.1))
    fit = calibration.Recalibration.fit(shrunk)
    assert fit.slope == pytest.approx(0.5, abs=0.03) and fit.growth == pytest.approx(-0.5, abs=0.1)
    assert fit.factor == pytest.approx(1, rel=0.05) and abs(fit.shift) < 0.01


def test_no_cluster_is_recalibrated_by_itself():
    """Clusters of one fold have numbers in steps of ten; a wild one changes the other half only."""
    test = gaussian(600, seed=5)
    test = dataclasses.replace(test, cluster=10 * test.cluster)
    simulation, wild = test.simulation[0], np.arange(600) < 3
    wild = dataclasses.replace(test, mean=test.mean + 3.0 * wild)
    before, after = (calibration.cross_fitted(each, simulation, seed=1) for each in (test, wild))
    moved = before.mean != after.mean
    assert 0.4 < moved[3:].mean() < 0.6  # the three belong to one half, or to both
    # A simulation that only ever is the other one teaches nothing.
    mixed = dataclasses.replace(test, simulation=np.where(np.arange(600) < 300, simulation, "other"))
    spoilt = dataclasses.replace(mixed, mean=mixed.mean + 3.0 * (mixed.simulation == "other"))
    before, after = (calibration.cross_fitted(each, simulation, seed=1) for each in (mixed, spoilt))
    np.testing.assert_array_equal(before.mean[:300], after.mean[:300])


def test_half_width_differences_are_paired_and_know_the_scatter_of_seeds():
    rng = np.random.default_rng(1)
    residual, truth = rng.normal(0, 0.2, 3000), gaussian()

    def networks(*factors):
        means = [truth.log_m200c + factor * residual + rng.normal(0, 0.01, 3000) for factor in factors]
        return [dataclasses.replace(truth, mean=mean) for mean in means]

    wide = networks(1, 1)
    difference, error = calibration.half_width_difference(networks(0.5, 0.5), wide, seed=1)
    assert difference == pytest.approx(-0.1, abs=0.01)
    # A half-width is uncertain by 1.19 sigma / sqrt(n) if lines of sight are independent, as here.
    assert error == pytest.approx(0.5 * 1.19 * 0.2 / np.sqrt(3000), rel=0.5)
    # Networks with half-widths of 0.08 and 0.12 differ by 0.028, so their mean is uncertain by 0.02.
    difference, error = calibration.half_width_difference(networks(0.4, 0.6), wide, seed=1)
    assert difference == pytest.approx(-0.1, abs=0.01) and error == pytest.approx(0.02, rel=0.1)
    with pytest.raises(ClusterToolsError, match="two or more"):
        calibration.half_width_difference(wide[:1], wide, seed=1)
    with pytest.raises(ClusterToolsError, match="of 3000 and 2999 clusters.*max_test"):
        calibration.half_width_difference(wide, [wide[0], wide[1].select(slice(1, None))], seed=1)
