"""Deep sets against a forward pass by hand, scipy's densities, symmetries, and a problem with a known answer."""

import numpy as np
import pytest
from scipy.stats import norm
from small_networks import MASS_RANGE

from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde
from cluster_tools.networks import deep_sets, ensembles
from cluster_tools.networks.deep_sets import SetArchitecture
from cluster_tools.ragged import ClusterGalaxies, cluster_offsets


def random_clusters(n=6, seed=0, *, counted=False, reference_r_proj=None):
    """Clusters of 12 to 60 galaxies."""
    rng = np.random.default_rng(seed)
    offsets = cluster_offsets(rng.integers(12, 60, n))
    v_los, r_proj = rng.normal(0, 900, offsets[-1]), rng.uniform(0, 2.3, offsets[-1])
    return deep_sets.inputs(ClusterGalaxies(v_los, r_proj, offsets), reference_r_proj, counted=counted)


def one_network(weights=None, mu=0.0, log_variance=0.0, *, counted=False, fold=0, seed=0):
    """An untrained network; with `weights`, one that answers this mixture to everything."""
    architecture = SetArchitecture(counted)
    learnt = deep_sets.build(architecture, seed).get_weights()
    if weights is not None:
        answer = np.broadcast_arrays(np.log(weights), mu, log_variance, np.zeros(deep_sets.COMPONENTS))[:3]
        learnt[-2:] = 0 * learnt[-2], np.concatenate(answer).astype(np.float32)
    return ensembles.Network(learnt, architecture, fold, seed, {"loss": [0.5], "val_loss": [0.25]})


def ensemble(*members, mass_range=MASS_RANGE):
    return deep_sets.SetEnsemble(list(members), mass_range, {"key": "0123", "parameters": {"seed": 1}})


def test_galaxies_are_reweighted_as_images_are_and_no_cluster_is_empty():
    radii, galaxies = np.random.default_rng(1).uniform(0, 2.3, 100), random_clusters()
    weighted = deep_sets.inputs(galaxies, radii, counted=True)
    expected = kde.radial_weights(galaxies.r_proj, galaxies.offsets, radii)
    np.testing.assert_allclose(weighted.weight, expected, rtol=1e-5)
    assert (galaxies.kind, weighted.kind) == ("sets", "counted") and (galaxies.weight == 1).all()
    with pytest.raises(ClusterToolsError, match="cluster 1"):
        deep_sets.inputs(ClusterGalaxies(np.ones(2), np.ones(2), np.array([0, 1, 1, 2])))


@pytest.mark.parametrize("counted, parameters", [(False, 16_524), (True, 16_652)])
def test_forward_pass_equals_one_by_hand(counted, parameters):
    """Of each cluster alone, as a mean over its galaxies: so neither their order nor other clusters matter."""
    model = deep_sets.build(SetArchitecture(counted), seed=3)
    assert model.count_params() == parameters
    rng = np.random.default_rng(4)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    clusters = deep_sets.PREDICTION_BATCH + 3
    inputs = random_clusters(clusters, counted=counted, reference_r_proj=rng.uniform(0, 2.3, 50))

    def dense(name, x):
        kernel, bias = model.get_layer(name).get_weights()
        return x @ kernel + bias

    def relu(x):
        return np.maximum(x, 0)

    expected = []
    for i in range(len(inputs)):
        rows = inputs.slice(i)
        w = (inputs.weight[rows] / inputs.weight[rows].sum())[:, None]
        features = np.stack([inputs.v_los[rows] / 1000, inputs.r_proj[rows]], axis=1)
        x = relu(dense("phi_2", relu(dense("phi_1", features))))
        x = relu(dense("galaxy", x) + dense("mean", (w * x).sum(axis=0)))
        x = (w * x).sum(axis=0)
        if counted:
            x = np.r_[x, np.log10((rows.stop - rows.start) / 100)]
        expected.append(dense("mixture", relu(dense("rho_2", relu(dense("rho_1", x))))))
    np.testing.assert_allclose(deep_sets._predict(model, inputs), expected, rtol=1e-4, atol=1e-4)


def test_loss_is_minus_the_log_likelihood_of_the_mixture():
    rng = np.random.default_rng(0)
    k = deep_sets.COMPONENTS
    y, log_weight, mu, s = rng.normal(size=50), *rng.normal(size=(3, 50, k))
    weight = np.exp(log_weight) / np.exp(log_weight).sum(axis=1, keepdims=True)
    expected = -np.log((weight * norm.pdf(y[:, None], mu, np.exp(s / 2))).sum(axis=1)).mean()
    prediction = np.concatenate([log_weight, mu, s], axis=1).astype(np.float32)
    assert float(deep_sets.mixture_loss(y.astype(np.float32), prediction)) == pytest.approx(expected, rel=1e-5)


def test_a_training_batch_is_thinned_and_mirrored_and_its_count_has_noise():
    inputs = random_clusters(n=400, counted=True)
    rows = np.arange(3, 400)
    features, weight, cluster, log_count = deep_sets._batch(inputs, rows, np.random.default_rng(1))
    count, kept = inputs.richness[rows], np.bincount(cluster)
    assert (kept >= count / 2).all() and (kept <= count).all() and 0.7 < (kept / count).mean() < 0.8
    noise = log_count[:, 0] - np.log10(count / 100)  # around the number before thinning
    assert abs(noise.mean()) < 0.01 and noise.std() == pytest.approx(deep_sets.COUNT_NOISE, rel=0.15)
    np.testing.assert_allclose(np.bincount(cluster, weight[:, 0]), 1, atol=1e-5)
    full, _, row, _ = deep_sets._batch(inputs, rows)
    mirrored = []
    for i in range(len(rows)):
        original, thinned = ({tuple(galaxy) for galaxy in part} for part in (full[row == i], features[cluster == i]))
        assert len(thinned) == kept[i]  # none twice
        mirrored.append({(-v, r) for v, r in thinned} <= original)
        assert mirrored[-1] or thinned <= original
    assert 0.4 < np.mean(mirrored) < 0.6


def test_mean_and_sigma_of_networks_that_disagree_are_those_of_the_mixture():
    members = (
        one_network([0.25, 0.25, 0.25, 0.25], -0.5, np.log(0.04)),
        one_network([0.5, 0.5, 1e-9, 1e-9], [0.3, 0.7, 0, 0], np.log(0.16)),
    )
    posterior = ensemble(*members, mass_range=(13.6, 15.6)).posterior(random_clusters(), draws=500)
    np.testing.assert_allclose(posterior.mean, 14.6 + (-0.5 + 0.5) / 2, atol=1e-5)
    # Law of total variance: of the means -0.5 and 0.5, and of 0.04 and 0.16 + 0.2^2.
    np.testing.assert_allclose(posterior.sigma, np.sqrt(0.25 + (0.04 + 0.20) / 2), rtol=1e-5)
    assert posterior.samples.shape == (6, 1000)
    np.testing.assert_allclose(posterior.samples.mean(axis=1), posterior.mean, atol=1e-3)
    np.testing.assert_allclose(posterior.samples.std(axis=1), posterior.sigma, rtol=0.01)


def test_samples_are_quantiles_of_the_mixture_even_if_one_component_is_narrow():
    weights, mu, s = np.array([[0.5, 0.3, 0.2 - 1e-9, 1e-9], [-0.2, 0.5, 0.1, 0.0], [-14.0, -4, -2, 6]])
    one = ensemble(one_network(weights, mu, s))
    first, again, other = (one.posterior(random_clusters(n=2), draws=99, seed=seed) for seed in (3, 3, 4))
    scaled = 2 * (np.sort(first.samples[0]) - 14) - 1
    below = (weights * norm.cdf(scaled[:, None], mu, np.exp(s / 2))).sum(axis=1)
    np.testing.assert_allclose(below, (np.arange(99) + 0.5) / 99, atol=4e-3)
    # The seed orders the samples and changes nothing else.
    assert np.array_equal(first.samples, again.samples) and not np.array_equal(first.samples, other.samples)
    assert np.array_equal(np.sort(first.samples), np.sort(other.samples)) and np.array_equal(first.mean, other.mean)


def test_inputs_of_another_kind_are_refused():
    with pytest.raises(ClusterToolsError, match="of kind 'counted', but 'sets' is expected"):
        ensemble(one_network()).posterior(random_clusters(counted=True))
    with pytest.raises(ClusterToolsError, match="of kind 'ndarray', but 'counted' is expected"):
        ensemble(one_network(counted=True)).posterior(np.zeros((3, 48, 48)))


@pytest.mark.parametrize("counted", [False, True])
def test_saved_networks_give_the_same_posterior_when_loaded_and_are_none_of_images(tmp_path, counted):
    original = ensemble(*(one_network(counted=counted, seed=seed, fold=seed) for seed in (0, 1)))
    original.save(tmp_path)
    loaded, inputs = deep_sets.SetEnsemble.load(tmp_path), random_clusters(counted=counted)
    assert loaded.input_dim == ("counted" if counted else "sets") and loaded.provenance == original.provenance
    before, after = (each.posterior(inputs, draws=5, seed=9) for each in (original, loaded))
    for name in ("mean", "sigma", "samples"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    with pytest.raises(ClusterToolsError, match="ensemble.json is not a 'cluster_tools CNN ensemble"):
        ensembles.CNNEnsemble.load(tmp_path)
