"""Calibration diagnostics on Gaussian posteriors that are right, too wide, or off; Table 1 with errors."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from cluster_tools import cosmology
from cluster_tools.coma import literature
from cluster_tools.errors import ClusterToolsError
from cluster_tools.figures import diagnostics
from cluster_tools.inference import calibration, priors, table1, validation


def gaussian(n=3000, *, factor=1.0, shift=0.0, seed=0, sights=3, k=100, simulation="uchuu"):
    """Posteriors whose sigma is `factor` times, and whose mean is `shift` more than, it should be."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.uniform(14, 15, n // sights), sights)
    sigma = rng.uniform(0.08, 0.2, len(truth))
    mean = truth + sigma * rng.normal(size=len(truth)) + shift
    samples = mean[:, None] + factor * sigma[:, None] * norm.ppf((np.arange(k) + 0.5) / k)
    cluster = np.repeat(np.arange(n // sights), sights)
    names = np.full(len(truth), simulation)
    columns = (np.arange(len(truth)), cluster, truth, mean, factor * sigma, samples.astype(np.float32))
    return validation.Predictions(names, *columns, {})


def test_pit_is_the_cumulative_probability_of_the_truth():
    some = gaussian(300)
    expected = norm.cdf(some.log_m200c, some.mean, some.sigma)
    np.testing.assert_allclose(calibration.pit(some), expected, atol=0.01)  # 1 / k
    outside = validation.Predictions(
        np.array(["uchuu"] * 2), *np.arange(4).reshape(2, 2), np.array([10.0, 20.0]), np.full(2, 14.0),
        np.full(2, 0.1), np.linspace(13.9, 14.1, 20).reshape(2, 10), {},
    )  # fmt: skip
    np.testing.assert_allclose(calibration.pit(outside), [0.025, 0.975])


@pytest.mark.parametrize("factor", [1.0, 1.5, 0.6])
def test_coverage_and_its_tarp_counterpart_tell_the_width(factor):
    some, levels = gaussian(6000, factor=factor, seed=2), np.array([0.1, 0.5, 0.68, 0.9])
    exact = 2 * norm.cdf(factor * norm.ppf(0.5 + levels / 2)) - 1
    np.testing.assert_allclose(calibration.coverage(calibration.pit(some), levels), exact, atol=0.02)
    expected = calibration.expected_coverage(some, levels, seed=1)
    if factor == 1:
        np.testing.assert_allclose(expected, levels, atol=0.02)
    else:
        assert (np.sign(expected - levels)[1:] == np.sign(factor - 1)).all()


def test_diagnosis_of_right_posteriors_is_right_within_its_errors_and_of_shifted_ones_is_not():
    right, off = (calibration.diagnose(gaussian(shift=shift), seed=1, resamples=50) for shift in (0.0, 0.1))
    for name, ideal in (("histogram", 1.0), ("covered", right.levels), ("expected", right.levels)):
        deviation = (getattr(right, name) - ideal) / getattr(right, f"{name}_error")
        assert np.sqrt(np.mean(deviation**2)) < 2
    assert right.levels[0] == 0.05 and right.levels[-1] == 0.95
    assert off.histogram[0] > 1.5 and off.histogram[-1] < 0.6


def test_bootstrap_draws_whole_clusters():
    # Three equal lines of sight tell no more than one: the error is sigma / sqrt(clusters).
    value = np.repeat(np.random.default_rng(1).normal(size=400), 3)
    found = calibration.bootstrap(lambda rows: value[rows].mean(), np.repeat(np.arange(400), 3), seed=2, resamples=1000)
    assert found.shape == (1000,) and found.std() == pytest.approx(value.std() / 20, rel=0.1)
    lone = calibration.bootstrap(lambda rows: value[rows].mean(), np.arange(1200), seed=2, resamples=1000)
    assert lone.std() == pytest.approx(found.std() / np.sqrt(3), rel=0.15)
    again = calibration.bootstrap(lambda rows: value[rows].mean(), np.repeat(np.arange(400), 3), seed=2, resamples=1000)
    np.testing.assert_array_equal(found, again)


def test_bins_hold_equally_many_rows_and_are_fewer_for_few_clusters():
    some = gaussian(3000, shift=0.05)
    table = calibration.in_bins(some, some.log_m200c, 4, seed=1)
    assert list(table["clusters"]) == [250] * 4 and table["middle"].is_monotonic_increasing
    assert (np.abs(table["median"] - 0.05) < 4 * table["median_error"]).all()
    assert (table[["inside_error", "half_width_error"]] > 0).all(axis=None)
    few = gaussian(90)
    assert len(calibration.in_bins(few, few.mean, 5, seed=1)) == 3
    # All in one bin: what the whole test set has.
    whole = calibration.in_bins(some, some.mean, seed=1).iloc[0]
    assert whole["inside"] == calibration.coverage(calibration.pit(some), [0.68])[0]
    assert whole["median"] == np.median(some.residual)


def test_recalibration_finds_shift_and_factor_and_takes_them_back():
    held_out, test = gaussian(3000, factor=1.6, shift=0.08, seed=3), gaussian(3000, factor=1.6, shift=0.08, seed=4)
    learnt = calibration.fit(held_out)
    found = learnt(test)
    assert abs(np.median(found.residual)) < 0.01
    np.testing.assert_allclose(found.samples.mean(axis=1), found.mean, atol=1e-3)
    np.testing.assert_allclose(
        found.samples.std(axis=1) / test.samples.std(axis=1), found.sigma / test.sigma, rtol=1e-3
    )
    assert calibration.coverage(calibration.pit(found), [0.68])[0] == pytest.approx(0.68, abs=0.03)
    with pytest.raises(ClusterToolsError, match="there are 4 held-out clusters"):
        calibration.fit(held_out.select(np.arange(4)))


def test_recalibration_unbends_masses_that_are_drawn_to_the_middle():
    """A network that shrinks all masses towards 14.3 by a third, with a sigma that is too small for light clusters."""
    rng = np.random.default_rng(6)
    mean, x = rng.uniform(14, 15, (2, 4000)), rng.standard_normal(4000)
    mean = mean[0]
    sigma = 0.1 * np.exp(-0.5 * (mean - 14.3))
    truth = 14.3 + 1.5 * (mean - 14.3) + sigma * x
    told = gaussian(4000)
    told = validation.Predictions(
        told.simulation, told.row, told.cluster, truth, mean, np.full(4000, 0.1), told.samples, {}
    )
    found = calibration.fit(told)
    assert found.slope == pytest.approx(0.5, abs=0.02) and found.growth == pytest.approx(-0.5, abs=0.1)
    assert found.factor == pytest.approx(1, rel=0.03) and abs(found.shift) < 0.01


def test_abundance_weights_bring_a_flat_sample_to_the_mass_function():
    prior = priors.halo_abundance(cosmology.simulation("uchuu"), above=14.0)
    rng = np.random.default_rng(7)
    flat = np.concatenate([rng.uniform(13.7, 15.4, 60_000), rng.uniform(14.5, 14.6, 5_000)])  # and a heap
    weights = calibration.abundance_weights(flat, prior)
    assert (weights[flat < 14] == 0).all() and (weights[flat > 14] > 0).all()
    fine = np.linspace(14, 15.4, 2001)
    density = np.exp(np.interp(fine, prior.log_m200c, prior.log_density))
    assert np.average(flat, weights=weights) == pytest.approx(np.average(fine, weights=density), abs=0.01)


def test_no_cluster_is_recalibrated_by_itself():
    """Clusters numbered as those of one fold are: by tens. One that is wildly off changes the other half only."""
    test = gaussian(600, seed=5)
    test = validation.Predictions(test.simulation, test.row, 10 * test.cluster, *list(vars(test).values())[3:])
    prior = priors.Prior(np.array([10.0, 20.0]), np.zeros(2))
    before = calibration.cross_fitted(test, test, prior, seed=1)
    mean = test.mean.copy()
    mean[:3] += 3.0
    off = validation.Predictions(*list(vars(test).values())[:4], mean, *list(vars(test).values())[5:])
    after = calibration.cross_fitted(off, test, prior, seed=1)
    moved = before.mean != after.mean
    assert not moved[:3].any() and 0.4 < moved.mean() < 0.6


def both_simulations(**settings):
    own, other = gaussian(1500, seed=1, **settings), gaussian(900, seed=2, simulation="mdpl2", **settings)
    pairs = zip(list(vars(own).values())[:-1], list(vars(other).values())[:-1], strict=True)
    return validation.Predictions(*(np.concatenate(pair) for pair in pairs), {})


def test_errors_of_table_1_are_those_of_gaussian_residuals():
    some = both_simulations()
    found = table1.errors(some, "uchuu", "mdpl2", seed=1)
    columns = set(validation.summary(some, "uchuu", "mdpl2"))
    assert set(found) == {f"{name}_error" for name in columns}
    # Of the median of n Gaussian numbers: 1.253 sigma / sqrt(n); here the sights of a cluster are independent.
    residual = some.of("uchuu").residual
    assert found["val_median_error"] == pytest.approx(1.253 * residual.std() / np.sqrt(1500), rel=0.3)
    assert found["xval_median_error"] > found["val_median_error"]
    assert found == table1.errors(some, "uchuu", "mdpl2", seed=1)


@pytest.fixture
def table():
    some = both_simulations()
    which = {"simulation": "uchuu", "input_dim": 2, "reweighted": False}
    columns = validation.summary(some, "uchuu", "mdpl2") | table1.errors(some, "uchuu", "mdpl2", seed=1)
    return pd.DataFrame([{**which, **columns}])


def test_table_1_as_html_and_latex(table, tmp_path):
    table1.write(tmp_path, table, literature.published_table1())
    html, tex = ((tmp_path / f"table1.{kind}").read_text(encoding="utf-8") for kind in ("html", "tex"))
    assert html.count("<tr>") == 3 and "uchuu 2D" in html and "--pst-color-text-muted" in html
    rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and all(row.count("&") == 5 for row in rows)
    assert tex.isascii() and r"[$-$" in rows[1]  # a plain pdflatex reads it


def test_m_sigma_has_a_row_of_its_own():
    from test_validation import catalog

    catalogs = {"uchuu": catalog(300, seed=1), "mdpl2": catalog(300, seed=2)}
    row = table1.m_sigma(catalogs, "uchuu", "mdpl2", range(10), selection="raw", seed=1)
    assert row["input_dim"] == 0 and np.isfinite([v for k, v in row.items() if k.startswith(("val", "sqrt"))]).all()
    shown = validation.beside_published(pd.DataFrame([row]), literature.published_table1())
    assert list(shown["model"]) == ["uchuu M-σ"]


def test_figures_draw_what_they_are_given():
    some = gaussian(900)
    found = calibration.diagnose(some, seed=1, resamples=10)
    fig, panels = plt.subplots(1, 3)
    diagnostics.pit_histogram(panels[0], found, 0, "flat")
    diagnostics.coverage_error(panels[1], found, 1, "flat", expected=True)
    diagnostics.binned(panels[2], calibration.in_bins(some, some.mean, 2, seed=1), "inside", 2, "x")
    np.testing.assert_allclose(panels[1].lines[-1].get_ydata(), 100 * (found.expected - found.levels))
    np.testing.assert_allclose(panels[0].patches[-1].get_data().values, found.histogram)
    plt.close(fig)
