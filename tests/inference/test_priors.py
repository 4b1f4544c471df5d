"""Posteriors under another prior, against Gaussians and mixtures whose answer is a formula."""

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid
from scipy.stats import norm, truncnorm

from cluster_tools import cosmology
from cluster_tools.inference import priors, validation
from cluster_tools.inference.priors import Prior
from cluster_tools.universe import synthetic

EVEN = norm.ppf((np.arange(200) + 0.5) / 200)


def gaussians(mean, sigma):
    mean, sigma = np.asarray(mean, float), np.asarray(sigma, float)
    return mean, sigma, mean[:, None] + sigma[:, None] * EVEN


def power_law(slope, low=5.0, high=25.0):
    return Prior(np.array([low, high]), slope * np.array([low, high]))


@pytest.mark.parametrize("slope", [0.0, -3.0, -8.0])
def test_power_law_shifts_a_gaussian_by_slope_times_variance(slope):
    # exp(-(m - mu)^2 / 2 s^2 + b m) is a Gaussian of the same width about mu + b s^2; 0.4 dex * 8: 3.2 sigma.
    mean, sigma, samples = gaussians([14.2, 14.8, 15.1], [0.08, 0.2, 0.4])
    posterior = priors.reweighted(mean, sigma, samples, power_law(slope))
    np.testing.assert_allclose(posterior.mean, mean + slope * sigma**2, atol=0.01 * sigma.max())
    np.testing.assert_allclose(posterior.sigma, sigma, rtol=0.015)
    expected = (mean + slope * sigma**2)[:, None] + sigma[:, None] * norm.ppf([0.16, 0.5, 0.84])
    np.testing.assert_allclose(priors.quantiles(posterior.samples), expected, atol=0.015 * sigma.max())
    assert posterior.samples.dtype == np.float32 and (np.diff(posterior.samples, axis=1) > 0).all()


# In the last case the prior begins 5 sigma above the posterior.
@pytest.mark.parametrize("mean, sigma", [(14.5, 0.1), (14.0, 0.15), (13.9, 0.2), (13.5, 0.1)])
def test_prior_that_ends_truncates(mean, sigma):
    posterior = priors.reweighted(*gaussians([mean], [sigma]), Prior(np.array([14.0, 15.5]), np.zeros(2)))
    exact = truncnorm((14 - mean) / sigma, (15.5 - mean) / sigma, mean, sigma)
    assert posterior.mean[0] == pytest.approx(exact.mean(), abs=0.01 * sigma)
    assert posterior.sigma[0] == pytest.approx(exact.std(), rel=0.02)
    np.testing.assert_allclose(priors.quantiles(posterior.samples)[0], exact.ppf([0.16, 0.5, 0.84]), atol=0.02 * sigma)
    assert posterior.samples.min() >= 14


def test_posterior_of_draws_that_differ_is_that_of_their_mixture():
    """Each Gaussian of a mixture tilts on its own: mean m + b s^2, weight exp(b m + b^2 s^2 / 2)."""
    rng = np.random.default_rng(3)
    m, s = 14.5 + rng.normal(0, 0.06, (50, 100)), 0.12 * np.exp(rng.normal(0, 0.2, (50, 100)))
    noise = rng.permuted(np.broadcast_to(norm.ppf((np.arange(100) + 0.5) / 100), m.shape), axis=1)
    mean, sigma = m.mean(axis=1), np.sqrt(m.var(axis=1) + (s**2).mean(axis=1))
    posterior = priors.reweighted(mean, sigma, m + s * noise, power_law(-5.0))
    weight = np.exp(-5 * (m - 14.5) + 12.5 * s**2)
    weight /= weight.sum(axis=1, keepdims=True)
    exact = (weight * (m - 5 * s**2)).sum(axis=1)
    spread = np.sqrt((weight * (s**2 + (m - 5 * s**2) ** 2)).sum(axis=1) - exact**2)
    # The prior moves the mean by -0.09 dex.
    assert abs((posterior.mean - exact).mean()) < 0.005 and (posterior.mean - exact).std() < 0.006
    assert abs((posterior.sigma / spread - 1).mean()) < 0.05


def test_halo_abundance_is_the_mass_function_above_a_limit():
    sim = cosmology.simulation("mdpl2")
    low, high = sim.log_m200c_range
    assert tuple(priors.halo_abundance(sim).log_m200c[[0, -1]]) == (low, high)
    prior = priors.halo_abundance(sim, 14.0)
    assert (prior.log_m200c[0], prior.log_m200c[-1]) == (14.0, high)
    np.testing.assert_allclose(prior.log_density, np.log(synthetic.halo_mass_function(sim, prior.log_m200c)))


def test_corrected_posteriors_of_a_steep_population_are_calibrated():
    """Clusters drawn from the mass function, seen with a Gaussian error: the likelihood is the flat posterior."""
    rng = np.random.default_rng(5)
    sim = cosmology.simulation("uchuu")
    grid = np.linspace(14.0, sim.log_m200c_range[1], 3001)
    share = cumulative_trapezoid(synthetic.halo_mass_function(sim, grid), initial=0)
    truth = np.interp(rng.uniform(0, share[-1], 10_000), share, grid)
    mean, sigma, samples = gaussians(truth + rng.normal(0, 0.12, 10_000), np.full(10_000, 0.12))
    number = np.arange(10_000)
    flat = validation.Predictions(np.full(10_000, "uchuu"), number, number, truth, mean, sigma, samples, {})
    posterior = priors.corrected(flat, priors.halo_abundance(sim, 14.0))
    inside = ((priors.quantiles(posterior.samples)[:, [0, 2]] - truth[:, None]) * [1, -1] < 0).all(axis=1)
    assert inside.mean() == pytest.approx(0.68, abs=0.014)  # 3 standard deviations
    assert abs(posterior.residual.mean()) < 0.005
    assert ((mean > truth) & (mean > 14.3)).sum() > 1.3 * ((mean < truth) & (mean > 14.3)).sum()  # before: too high
    np.testing.assert_array_equal(posterior.log_m200c, flat.log_m200c)
