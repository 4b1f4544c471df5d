"""One mass from several models: the algebra by hand, and priors against independent numbers."""

import numpy as np
import pandas as pd
import pytest

from cluster_tools import cosmology
from cluster_tools.coma import combined_mass, survey
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import priors
from cluster_tools.inference.validation import Predictions
from cluster_tools.mocks import kde


def predictions(residual, *, seed=0):
    """Predictions with these residuals (n,), in random order."""
    n = len(residual)
    order = np.random.default_rng(seed).permutation(n)
    log_m200c = np.full(n, 15.0)
    columns = np.full(n, "uchuu"), np.arange(n), np.arange(n), log_m200c, log_m200c + residual, np.full(n, 0.1)
    return Predictions(*columns, np.zeros((n, 2)), {}).select(order)


def scatter(n, *sigmas, correlation=0.0):
    """Residuals of two models with exactly these errors, correlation and no mean."""
    white = np.random.default_rng(1).standard_normal((2, n))
    white -= white.mean(axis=1, keepdims=True)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(white)), white)
    covariance = np.diag(sigmas) @ np.array([[1, correlation], [correlation, 1]]) @ np.diag(sigmas)
    return np.linalg.cholesky(covariance) @ white


def test_independent_models_are_weighted_by_their_variance():
    """Errors 0.1 and 0.2 dex: weights 4/5 and 1/5, and sigma = 1 / sqrt(1/0.1^2 + 1/0.2^2); biases are taken off."""
    first, second = scatter(200, 0.1, 0.2)
    both = [predictions(first + 0.03), predictions(second - 0.02, seed=2)]
    combined = combined_mass.combine([15.03, 14.98], both, systematic=0.05)
    assert combined.weights == pytest.approx([0.8, 0.2], abs=1e-5)
    assert combined.bias == pytest.approx([0.03, -0.02]) and combined.mean == pytest.approx(15.0)
    assert combined.statistical == pytest.approx(0.2 / np.sqrt(5), rel=1e-5)
    assert combined.sigma == pytest.approx(np.hypot(0.2 / np.sqrt(5), 0.05)) and combined.clusters == 200
    # A second model with the same errors adds nothing: least variance would need a negative weight.
    alike = combined_mass.combine([15.0, 15.0], [*map(predictions, scatter(200, 0.1, 0.2, correlation=0.9))])
    assert alike.weights == pytest.approx([1, 0], abs=1e-5) and alike.statistical == pytest.approx(0.1, rel=1e-4)


def test_only_clusters_near_that_mass_count_and_they_must_be_the_same():
    masses = np.array([14.0, 14.9, 15.05, 15.2])
    assert sorted(combined_mass.near(np.repeat(masses, 30), 15.0)) == list(range(30, 90))
    assert sorted(combined_mass.near(np.repeat(masses, 5), 16.0)) == list(range(20))  # the nearest, if all are far
    first, second = scatter(200, 0.1, 0.2)
    with pytest.raises(ClusterToolsError, match="of 200 and 199 clusters"):
        combined_mass.combine([15.0, 15.0], [predictions(first), predictions(second[:-1])])


def test_systematic_error_is_what_statistics_do_not_explain():
    for shift_error, expected in ((0.03, 0.04), (0.1, 0)):
        variations = pd.DataFrame({"shift": [0.05, -0.05], "shift_error": shift_error})
        assert combined_mass.systematic_error(variations) == pytest.approx(expected)


@pytest.mark.parametrize("name", cosmology.PAPER_SIMULATIONS)
def test_heaviest_halo_against_monte_carlo(name):
    """Poisson numbers of haloes in the volume; masses drawn from the mass function; the heaviest of each."""
    sim, volume = cosmology.simulation(name), 3e7
    prior, abundance = combined_mass.heaviest_halo(sim, volume), priors.halo_abundance(sim)
    density = np.exp(abundance.log_density)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(abundance.log_m200c))])
    rng = np.random.default_rng(1)
    numbers = rng.poisson(volume * cumulative[-1], 4000)
    assert numbers.min() > 0
    heaviest = [np.interp(rng.random(n).max() * cumulative[-1], cumulative, abundance.log_m200c) for n in numbers]
    weight = np.exp(prior.log_density - prior.log_density.max())
    mean = np.average(prior.log_m200c, weights=weight)
    sigma = np.sqrt(np.average((prior.log_m200c - mean) ** 2, weights=weight))
    assert mean == pytest.approx(np.mean(heaviest), abs=0.01) and sigma == pytest.approx(np.std(heaviest), rel=0.05)


def test_the_heaviest_in_our_volume_weighs_what_coma_does():
    """Within 68.9 Mpc/h, Tinker et al. expect less than one halo above 10^14.9 and more than one above 10^14.5."""
    volume = combined_mass.coma_volume()
    assert volume == pytest.approx(4 / 3 * np.pi * 68.9**3, rel=2e-3)
    prior = combined_mass.heaviest_halo(cosmology.simulation("uchuu"), volume)
    assert 14.5 < prior.log_m200c[prior.log_density.argmax()] < 14.9
    # A Gaussian likelihood under a flat prior stays as it is; the abundance pulls more than the extreme value.
    combined = combined_mass.CombinedMass(14.9, 0.1, 0.0, np.ones(1), np.zeros(1), np.full((1, 1), 0.01), 9)
    flat = combined.under(priors.Prior(np.linspace(13, 17, 9), np.zeros(9)))
    assert flat == pytest.approx((14.9, 0.1), abs=1e-3)
    abundance = combined.under(priors.halo_abundance(cosmology.simulation("uchuu")))[0]
    assert abundance < combined.under(prior)[0] < 14.9


def test_weighting_to_a_profile_gives_that_profile():
    sample = survey.load_sample()
    v_los, r_proj = sample["v_los"].value, sample["r_proj"].value
    plain = kde.phase_space_images(v_los, r_proj, [0, len(sample)])[0]
    np.testing.assert_allclose(combined_mass.image_with_profile_of(sample, r_proj), plain, atol=1e-6)
    image = combined_mass.image_with_profile_of(sample, 2.3 * np.random.default_rng(3).random(5000) ** 0.8)
    outer = kde.r_proj_grid() > 1.5
    assert image[:, outer].sum() > 1.3 * plain[:, outer].sum()
