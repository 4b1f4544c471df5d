"""The survey network against Keras, scipy's densities, symmetries, and a problem with a known answer."""

import numpy as np
import pytest
from scipy.stats import norm, truncnorm

from cluster_tools.networks import survey_network
from cluster_tools.networks.survey_network import COMPONENTS


def observations(n=7, seed=0):
    """Features, index of the cluster, offsets, and two numbers that are known of each cluster."""
    rng = np.random.default_rng(seed)
    richness = rng.integers(1, 40, n)
    v_los, r_proj = rng.normal(0, 800, richness.sum()), rng.uniform(0, 2.3, richness.sum())
    cluster = np.repeat(np.arange(n), richness).astype(np.int32)
    known = rng.normal(size=(n, 2)).astype(np.float32)
    return survey_network.features(v_los, r_proj), cluster, np.r_[0, np.cumsum(richness)], known


def test_numpy_passes_as_keras_does_and_order_and_other_clusters_do_not_matter():
    galaxies, cluster, offsets, known = observations()
    model = survey_network.build(2, seed=3)
    weights = survey_network.get_weights(model)
    assert [weight.shape for weight in weights] == survey_network.shapes(2)
    one, labels = survey_network.forward(weights, galaxies, offsets, known)
    for ours, theirs in zip((one, labels), model([galaxies, cluster, known]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    shuffled = np.lexsort([np.random.default_rng(1).random(len(cluster)), cluster])
    other, moved = survey_network.forward(weights, galaxies[shuffled], offsets, known)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(labels[shuffled], moved, atol=1e-5)
    alone, _ = survey_network.forward(weights, galaxies[cluster == 2], np.array([0, (cluster == 2).sum()]), known[2:3])
    np.testing.assert_allclose(alone[0], one[2], atol=1e-5)


def test_densities_are_those_of_scipy_cut_off_at_the_ends_of_the_range():
    mu, sigma, share = np.array([-0.9, 0.2, 3.0]), np.array([0.4, 0.05, 0.6]), np.array([0.5, 0.3, 0.2])
    answer = np.full((1, 3 * COMPONENTS + 1), -40.0)
    for i, values in enumerate((np.log(share), mu, np.log(sigma - survey_network.MIN_SIGMA))):
        answer[0, i * COMPONENTS : i * COMPONENTS + 3] = values
    y = np.linspace(-1, 1, 4001)
    inside = norm.cdf(1, mu, sigma) - norm.cdf(-1, mu, sigma)
    cut = [truncnorm.pdf(y, (-1 - m) / s, (1 - m) / s, m, s) * w for m, s, w in zip(mu, sigma, share * inside)]
    expected = np.sum(cut, axis=0) / (share * inside).sum()
    density = np.exp(survey_network.log_likelihood(answer, y)[0])
    np.testing.assert_allclose(density, expected, rtol=1e-6)
    assert np.trapezoid(density, y) == pytest.approx(1, abs=1e-4)


def test_the_loss_is_minus_the_log_likelihood_with_odds_and_labels():
    rng = np.random.default_rng(2)
    answer, labels = rng.normal(0, 0.5, (5, 3 * COMPONENTS + 1)), rng.normal(size=(9, 3))
    y, weight, exists = rng.uniform(-1, 1, 5), rng.uniform(0, 1, 5), np.array([1.0, 1, 0, 1, 1])
    label, label_weight = rng.integers(0, 3, 9), rng.uniform(0, 1, 9)
    log_density = [survey_network.log_likelihood(answer[i : i + 1], y[i : i + 1])[0, 0] for i in range(5)]
    odds = np.exp(answer[:, -1])
    share = np.exp(labels) / np.exp(labels).sum(axis=1, keepdims=True)
    expected = -np.average(log_density, weights=weight)
    expected -= np.mean(np.log(np.where(exists == 1, odds, 1) / (1 + odds)))
    expected -= survey_network.LABEL_SHARE * np.average(np.log(share[np.arange(9), label]), weights=label_weight)
    tensors = [np.asarray(each, np.float32) for each in (answer, labels, y, weight, exists)]
    loss = survey_network.loss(*tensors, label.astype(np.int32), label_weight.astype(np.float32))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_training_learns_a_dispersion_from_many_galaxies_or_few():
    """v_los scatters by a factor of four over the range: the error of a mass is 1 / sqrt(2 N) of it, in natural log."""
    rng = np.random.default_rng(3)

    def draw(number, n=64):
        mass = rng.uniform(-1, 1, n).astype(np.float32)
        richness = rng.integers(10, 60, n)
        cluster = np.repeat(np.arange(n), richness).astype(np.int32)
        v_los = rng.normal(0, 1, len(cluster)) * 600 * 2.0 ** mass[cluster]
        known = np.log10(richness / 30)[:, None].astype(np.float32)
        galaxies = survey_network.features(v_los, np.ones(len(cluster)))
        ones = np.ones(n, np.float32)
        return galaxies, cluster, known, mass, ones, ones, np.zeros_like(cluster), np.ones(len(cluster), np.float32)

    weights, history = survey_network.train(draw, steps=400, n_conditions=1, seed=1)
    assert history[-1] < history[0] and len(history) == 4
    galaxies, cluster, known, mass, *_ = draw(0, 400)
    offsets = np.searchsorted(cluster, np.arange(401))
    y = np.linspace(-1, 1, 401)
    density = np.exp(survey_network.log_likelihood(survey_network.forward(weights, galaxies, offsets, known)[0], y))
    mean = (density * y).sum(axis=1) / density.sum(axis=1)
    sigma = np.sqrt((density * (y - mean[:, None]) ** 2).sum(axis=1) / density.sum(axis=1))
    ideal = 1 / (np.sqrt(2 * np.diff(offsets)) * np.log(2))
    assert np.sqrt(np.mean(((mean - mass) / ideal) ** 2)) < 1.5
    assert 0.8 < np.mean(((mean - mass) / sigma) ** 2) < 1.3 and np.corrcoef(sigma, ideal)[0, 1] > 0.6
