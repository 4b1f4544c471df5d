"""Deep sets against a forward pass by hand, scipy's densities, symmetries, and a problem with a known answer."""

import dataclasses
import json
import os

import numpy as np
import pytest
from damage import flip_byte
from scipy.stats import norm

from cluster_tools import store
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation
from cluster_tools.mocks import catalogs, kde
from cluster_tools.networks import deep_sets, ensembles

MASS_RANGE = (14.0, 15.0)


def some_galaxies(n=6, seed=0, *, counted=False, reference_r_proj=None):
    """Clusters of 12 to 60 galaxies."""
    rng = np.random.default_rng(seed)
    offsets = np.r_[0, np.cumsum(rng.integers(12, 60, n))]
    v_los, r_proj = rng.normal(0, 900, offsets[-1]), rng.uniform(0, 2.3, offsets[-1])
    return deep_sets.galaxies(v_los, r_proj, offsets, reference_r_proj, counted=counted)


def clusters(n, seed, *, counted=False, skewed=False):
    """40 to 80 galaxies each, whose velocities tell the mass: by dispersion, or by how far they lie to one side."""
    rng = np.random.default_rng(seed)
    log_m200c = rng.uniform(*MASS_RANGE, n)
    offsets = np.r_[0, np.cumsum(rng.integers(40, 80, n))]
    mass = np.repeat(log_m200c, np.diff(offsets))
    v_los = rng.normal(size=len(mass)) * (300 if skewed else 1000 * 10 ** ((mass - 15) / 2))
    v_los += 2000 * (mass - 14) * skewed
    return deep_sets.galaxies(v_los, rng.uniform(0, 2.3, len(mass)), offsets, counted=counted), log_m200c


def one_network(weights=None, mu=0.0, log_variance=0.0, *, counted=False, fold=0, seed=0):
    """An untrained network; with `weights`, one that answers this mixture to everything."""
    model = deep_sets.build(counted=counted, seed=seed)
    if weights is not None:
        answer = np.broadcast_arrays(np.log(weights), mu, log_variance, np.zeros(deep_sets.COMPONENTS))[:3]
        kernel, _ = model.layers[-1].get_weights()
        model.layers[-1].set_weights([0 * kernel, np.concatenate(answer)])
    return ensembles.Network(model, fold, seed, {"loss": [0.5], "val_loss": [0.25]})


def ensemble(*members, mass_range=MASS_RANGE):
    return deep_sets.Ensemble(list(members), mass_range, {"key": "0123", "parameters": {"seed": 1}})


def trained(inputs, log_m200c, **settings):
    unseen = clusters(20, seed=99, counted=inputs.counted)
    return deep_sets.train(inputs, log_m200c, *unseen, log_m200c_range=MASS_RANGE, **settings)


# --- what the networks read -----------------------------------------------------------------------


def test_rows_of_galaxies_are_those_clusters_in_that_order():
    some = some_galaxies()
    chosen = some[np.array([4, 1])]
    assert len(chosen) == 2 and chosen.counted == some.counted
    for i, row in enumerate((4, 1)):
        for name in ("features", "weight"):
            parts = [getattr(g, name)[g.offsets[k] : g.offsets[k + 1]] for g, k in ((chosen, i), (some, row))]
            assert np.array_equal(*parts)
    assert np.array_equal(some[np.arange(6) != 2].features, some[np.array([0, 1, 3, 4, 5])].features)


def test_galaxies_are_scaled_and_reweighted_as_images_are():
    v_los, r_proj = np.array([1500.0, -200, 30, 900]), np.array([0.5, 1.0, 2.0, 0.1])
    found = deep_sets.galaxies(v_los, r_proj, [0, 2, 4])
    np.testing.assert_allclose(found.features, np.stack([v_los / 1000, r_proj], axis=1), rtol=1e-6)
    assert (len(found), found.kind) == (2, "sets") and (found.weight == 1).all()
    radii = np.random.default_rng(0).uniform(0, 2.3, 100)
    rng = np.random.default_rng(1)
    r_proj, offsets = rng.uniform(0, 2.3, 60), np.array([0, 25, 60])
    found = deep_sets.galaxies(rng.normal(0, 900, 60), r_proj, offsets, radii, counted=True)
    np.testing.assert_allclose(found.weight, kde.radial_weights(r_proj, offsets, radii), rtol=1e-5)
    assert found.kind == "counted"


@pytest.mark.parametrize(
    "v_los, r_proj, offsets, said",
    [
        ([1, 2], [1, np.nan], [0, 2], "r_proj holds NaN"),
        ([1, np.inf], [1, 2], [0, 2], "v_los holds NaN or infinite"),
        ([1, 2], [1], [0, 2], r"r_proj has shape \(1,\), but one number a galaxy"),
        ([1, "x"], [1, 2], [0, 2], "v_los must hold numbers"),
        ([1, 2], [1, 2], [0, 3], "offsets must rise from 0 to the number of galaxies, 2"),
        ([1, 2], [1, 2], [1, 2], "offsets must rise from 0"),
        ([1, 2], [1, 2], [0, 1, 1, 2], "cluster 1 has no galaxies"),
    ],
)
def test_galaxies_that_make_no_sense_are_refused(v_los, r_proj, offsets, said):
    with pytest.raises(ClusterToolsError, match=said):
        deep_sets.galaxies(v_los, r_proj, offsets)


# --- architecture and loss ------------------------------------------------------------------------


@pytest.mark.parametrize("counted, parameters", [(False, 16_524), (True, 16_652)])
def test_forward_pass_equals_one_by_hand(counted, parameters):
    model = deep_sets.build(counted=counted, seed=3)
    assert model.count_params() == parameters
    rng = np.random.default_rng(4)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    inputs = some_galaxies(counted=counted, reference_r_proj=rng.uniform(0, 2.3, 50))

    def dense(name, x):
        kernel, bias = model.get_layer(name).get_weights()
        return x @ kernel + bias

    def relu(x):
        return np.maximum(x, 0)

    expected = []
    for i in range(len(inputs)):
        rows = slice(inputs.offsets[i], inputs.offsets[i + 1])
        w = (inputs.weight[rows] / inputs.weight[rows].sum())[:, None]
        x = relu(dense("phi_2", relu(dense("phi_1", inputs.features[rows]))))
        x = relu(dense("galaxy", x) + dense("mean", (w * x).sum(axis=0)))
        x = (w * x).sum(axis=0)
        if counted:
            x = np.r_[x, np.log10((rows.stop - rows.start) / 100)]
        expected.append(dense("mixture", relu(dense("rho_2", relu(dense("rho_1", x))))))
    np.testing.assert_allclose(deep_sets._predict(model, inputs), expected, rtol=1e-4, atol=1e-4)


def test_order_of_the_galaxies_does_not_matter():
    inputs, rng = some_galaxies(), np.random.default_rng(5)
    shuffled = np.concatenate([rng.permutation(np.arange(*ends)) for ends in zip(inputs.offsets, inputs.offsets[1:])])
    other = dataclasses.replace(inputs, features=inputs.features[shuffled], weight=inputs.weight[shuffled])
    model = deep_sets.build(seed=1)
    np.testing.assert_allclose(deep_sets._predict(model, other), deep_sets._predict(model, inputs), atol=1e-5)


def test_only_a_counted_network_sees_richness():
    once = {counted: some_galaxies(counted=counted) for counted in (False, True)}
    for counted, inputs in once.items():
        features, weight = (np.repeat(x, 2, axis=0) for x in (inputs.features, inputs.weight))
        twice = dataclasses.replace(inputs, features=features, weight=weight, offsets=2 * inputs.offsets)
        model = deep_sets.build(counted=counted, seed=1)
        difference = np.abs(deep_sets._predict(model, twice) - deep_sets._predict(model, inputs)).max()
        assert difference > 1e-3 if counted else difference < 1e-5


def test_a_cluster_does_not_depend_on_those_beside_it():
    inputs = some_galaxies(n=deep_sets.PREDICTION_BATCH + 3)
    last = slice(inputs.offsets[-2], inputs.offsets[-1])
    alone = deep_sets.Galaxies(
        inputs.features[last], inputs.weight[last], inputs.offsets[-2:] - inputs.offsets[-2], False
    )
    model = deep_sets.build(seed=1)
    np.testing.assert_allclose(deep_sets._predict(model, alone)[0], deep_sets._predict(model, inputs)[-1], atol=1e-5)


def test_loss_is_minus_the_log_likelihood_of_the_mixture():
    rng = np.random.default_rng(0)
    k = deep_sets.COMPONENTS
    y, log_weight, mu, s = rng.normal(size=50), *rng.normal(size=(3, 50, k))
    weight = np.exp(log_weight) / np.exp(log_weight).sum(axis=1, keepdims=True)
    expected = -np.log((weight * norm.pdf(y[:, None], mu, np.exp(s / 2))).sum(axis=1)).mean()
    prediction = np.concatenate([log_weight, mu, s], axis=1).astype(np.float32)
    assert float(deep_sets.mixture_loss(y.astype(np.float32), prediction)) == pytest.approx(expected, rel=1e-5)


# --- training -------------------------------------------------------------------------------------


def test_a_training_batch_is_thinned_and_mirrored_and_roughly_counted_in_full():
    inputs = some_galaxies(n=400, counted=True)
    rows = np.arange(3, 400)
    features, weight, cluster, log_count = deep_sets._batch(inputs, rows, np.random.default_rng(1))
    count = np.diff(inputs.offsets)[rows]
    kept = np.bincount(cluster)
    assert (kept >= count / 2).all() and (kept <= count).all() and 0.7 < (kept / count).mean() < 0.8
    off = log_count[:, 0] - np.log10(count / 100)  # of all its galaxies, not of those that are shown
    assert abs(off.mean()) < 0.01 and off.std() == pytest.approx(deep_sets.COUNT_NOISE, rel=0.15)
    np.testing.assert_allclose(np.bincount(cluster, weight[:, 0]), 1, atol=1e-5)
    mirrored = []
    for i, row in enumerate(rows):
        its_own = {tuple(galaxy) for galaxy in inputs.features[inputs.offsets[row] : inputs.offsets[row + 1]]}
        shown = features[cluster == i]
        assert len({tuple(galaxy) for galaxy in shown}) == len(shown)  # none twice
        mirrored.append({(-v, r) for v, r in shown} <= its_own)
        assert mirrored[-1] or {tuple(galaxy) for galaxy in shown} <= its_own
    assert 0.4 < np.mean(mirrored) < 0.6


def test_training_is_the_same_again_with_the_same_seed_only():
    inputs, log_m200c = clusters(60, seed=1)
    first, again, other = (trained(inputs, log_m200c, epochs=2, batch_size=20, seed=s, fold=3) for s in (5, 5, 6))
    for one, two, three in zip(*(n.model.get_weights() for n in (first, again, other)), strict=True):
        assert np.array_equal(one, two) and not np.array_equal(one, three)
    assert first.history == again.history and (first.fold, first.seed) == (3, 5)


@pytest.mark.parametrize("counted", [False, True])
def test_a_trained_network_reads_masses_off_velocity_dispersions(counted):
    inputs, log_m200c = clusters(400, seed=1, counted=counted)
    calls = []
    network = trained(inputs, log_m200c, epochs=12, batch_size=20, seed=1, progress=lambda *call: calls.append(call))
    assert [epoch for epoch, _ in calls] == list(range(1, 13))
    assert [loss for _, loss in calls] == network.history["loss"]
    assert network.history["val_loss"][-1] < network.history["val_loss"][0] - 0.3
    unseen, truth = clusters(300, seed=2, counted=counted)
    found = ensemble(network).posterior(unseen)
    residual = found.mean - truth
    # The prior's scatter is 1 / sqrt(12) = 0.29 dex; 60 galaxies allow 2 * 0.434 / sqrt(120) = 0.08 dex.
    assert residual.std() < 0.12 and abs(residual.mean()) < 0.05
    assert 0.5 < (np.abs(residual) < found.sigma).mean() < 0.9


def test_a_network_trained_on_one_side_knows_the_mirror_image():
    inputs, log_m200c = clusters(300, seed=3, skewed=True)
    one = ensemble(trained(inputs, log_m200c, epochs=10, batch_size=20, seed=2))
    unseen, truth = clusters(100, seed=4, skewed=True)
    for side in (1, -1):
        shown = dataclasses.replace(unseen, features=unseen.features * np.float32([side, 1]))
        assert (one.posterior(shown).mean - truth).std() < 0.12


def test_a_gpu_is_named_where_tensorflow_finds_one(monkeypatch):
    import tensorflow as tf

    assert deep_sets.device() == "processor"  # tests see no GPU: conftest.py
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * (kind == "GPU"))
    for details, name in (({"device_name": "NVIDIA H200"}, "NVIDIA H200"), ({}, "GPU")):
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu, details=details: details)
        assert deep_sets.device() == name
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_too_few_clusters_to_train_on_are_refused():
    with pytest.raises(ClusterToolsError, match="there are 10 clusters to train on, but at least batch_size, 20"):
        trained(*clusters(10, seed=1), batch_size=20)


# --- posterior ------------------------------------------------------------------------------------


def test_mean_and_sigma_of_networks_that_disagree_are_those_of_the_mixture():
    members = (
        one_network([0.25, 0.25, 0.25, 0.25], -0.5, np.log(0.04)),
        one_network([0.5, 0.5, 1e-9, 1e-9], [0.3, 0.7, 0, 0], np.log(0.16)),
    )
    found = ensemble(*members, mass_range=(13.6, 15.6)).posterior(some_galaxies(), draws=500)
    np.testing.assert_allclose(found.mean, 14.6 + (-0.5 + 0.5) / 2, atol=1e-5)
    # Law of total variance: of the means -0.5 and 0.5, and of 0.04 and 0.16 + 0.2^2.
    np.testing.assert_allclose(found.sigma, np.sqrt(0.25 + (0.04 + 0.20) / 2), rtol=1e-5)
    assert found.samples.shape == (6, 1000)
    np.testing.assert_allclose(found.samples.mean(axis=1), found.mean, atol=1e-3)
    np.testing.assert_allclose(found.samples.std(axis=1), found.sigma, rtol=0.01)


def test_samples_are_quantiles_of_the_mixture_even_if_one_component_is_narrow():
    weights, mu, s = (
        np.array([0.5, 0.3, 0.2 - 1e-9, 1e-9]),
        np.array([-0.2, 0.5, 0.1, 0.0]),
        np.array([-14.0, -4, -2, 6]),
    )
    found = ensemble(one_network(weights, mu, s)).posterior(some_galaxies(n=2), draws=99)
    scaled = 2 * (np.sort(found.samples[0]) - 14) - 1
    below = (weights * norm.cdf(scaled[:, None], mu, np.exp(s / 2))).sum(axis=1)
    np.testing.assert_allclose(below, (np.arange(99) + 0.5) / 99, atol=4e-3)


def test_seed_orders_the_samples_and_changes_nothing_else():
    one = ensemble(one_network(seed=1))
    first, again, other = (one.posterior(some_galaxies(), draws=30, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.samples, again.samples) and not np.array_equal(first.samples, other.samples)
    assert np.array_equal(np.sort(first.samples), np.sort(other.samples)) and np.array_equal(first.mean, other.mean)


def test_fold_uses_only_the_networks_that_left_it_out():
    even = np.full(4, 0.25)
    three = ensemble(*(one_network(even, mu, -9, fold=fold) for mu, fold in ((-0.4, 0), (0.2, 1), (0.4, 1))))
    for fold, scaled in ((0, -0.4), (1, 0.3), (None, 0.2 / 3)):
        np.testing.assert_allclose(three.posterior(some_galaxies(), fold=fold).mean, 14.5 + scaled / 2, atol=1e-6)
    with pytest.raises(ClusterToolsError, match=r"fold is 7.*\[0, 1\]"):
        three.posterior(some_galaxies(), fold=7)


def test_inputs_of_another_kind_are_refused():
    with pytest.raises(ClusterToolsError, match="of kind 'counted', but 'sets' is expected"):
        ensemble(one_network()).posterior(some_galaxies(counted=True))
    with pytest.raises(ClusterToolsError, match="of kind 'ndarray', but 'counted' is expected"):
        ensemble(one_network(counted=True)).posterior(np.zeros((3, 48, 48)))


@pytest.mark.parametrize("bad", [{"draws": 0}, {"draws": 2.5}, {"seed": -1}])
def test_draws_and_seeds_that_make_no_sense_are_refused(bad):
    with pytest.raises(ClusterToolsError, match=f"{next(iter(bad))} is .* whole number"):
        ensemble(one_network()).posterior(some_galaxies(), **bad)


@pytest.mark.parametrize("counted", [False, True])
def test_test_sets_are_predicted_through_the_interface_of_the_image_networks(counted):
    n, rng = 40, np.random.default_rng(0)
    offsets = 20 * np.arange(n + 1)
    mock = catalogs.MockCatalog(
        offsets=offsets, v_los=rng.normal(0, 900, 20 * n).astype(np.float32),
        r_proj=rng.uniform(0, 2.3, 20 * n).astype(np.float32), is_member=np.ones(20 * n, bool),
        cluster=np.arange(n, dtype=np.int32), log_m200c=rng.uniform(14, 15, n), fold=(np.arange(n) % 2).astype(np.int8),
        line_of_sight=np.zeros(n, np.int16), in_train=np.arange(n) < 20, in_test=np.arange(n) >= 20,
    )  # fmt: skip
    both = ensemble(*(one_network(counted=counted, fold=fold, seed=fold) for fold in (0, 1)))
    found = validation.predict(both, {"uchuu": mock}, draws=7)
    assert sorted(found.row) == list(range(20, 40)) and found.samples.shape == (20, 7)
    direct = both.posterior(validation.observables(mock.select(found.row), both.input_dim), draws=7, fold=1)
    of_fold = mock.fold[found.row] == 1
    np.testing.assert_allclose(found.mean[of_fold], direct.mean[of_fold], atol=1e-5)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    original = ensemble(*(one_network(seed=seed, fold=seed) for seed in (0, 1)))
    original.save(tmp_path / "model")
    return original, tmp_path / "model"


@pytest.mark.parametrize("counted", [False, True])
def test_saved_networks_give_the_same_posterior_when_loaded(tmp_path, counted):
    original = ensemble(*(one_network(counted=counted, seed=seed, fold=seed) for seed in (0, 1)))
    original.save(tmp_path)
    loaded = deep_sets.Ensemble.load(tmp_path)
    assert loaded.input_dim == ("counted" if counted else "sets") and loaded.provenance == original.provenance
    inputs = some_galaxies(counted=counted)
    for fold in (None, 1):
        before, after = (e.posterior(inputs, draws=5, seed=9, fold=fold) for e in (original, loaded))
        for name in ("mean", "sigma", "samples"):
            assert np.array_equal(getattr(before, name), getattr(after, name))


@pytest.mark.parametrize(
    "damage, said",
    [
        (flip_byte, "fold0_network0.keras is not the file"),
        (lambda file: file.unlink(), "fold0_network0.keras is missing"),
        (lambda file: (file.parent / "ensemble.json").unlink(), "ensemble.json is missing"),
        (
            lambda file: (file.parent / "ensemble.json").write_text("{"),
            "ensemble.json is not a 'cluster_tools deep",
        ),
        (lambda file: edit(file.parent, "14.0", "13.0"), "ensemble.json is not as it was saved"),
    ],
)
def test_damaged_networks_are_refused_by_the_name_of_the_file(saved, damage, said):
    damage(saved[1] / "fold0_network0.keras")
    with pytest.raises(ClusterToolsError, match=said) as refusal:
        deep_sets.Ensemble.load(saved[1])
    assert "make book" in str(refusal.value)


def edit(path, old, new):
    file = path / "ensemble.json"
    file.write_text(file.read_text().replace(old, new, 1))


def test_image_networks_and_deep_sets_do_not_pass_for_each_other(saved, tmp_path):
    with pytest.raises(ClusterToolsError, match="is not a 'cluster_tools ensemble 1'"):
        ensembles.Ensemble.load(saved[1])
    of_images = ensembles.Network(ensembles.BayesianCNN.untrained(1), 0, 0, {})
    ensembles.Ensemble([of_images], MASS_RANGE, {}).save(tmp_path / "images")
    with pytest.raises(ClusterToolsError, match="is not a 'cluster_tools deep sets 1'"):
        deep_sets.Ensemble.load(tmp_path / "images")


def test_code_in_a_weights_file_is_never_run(saved, tmp_path):
    import keras

    marker, file = tmp_path / "was_run", saved[1] / "fold0_network0.keras"
    inputs = keras.Input((2,))
    touch = eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")
    keras.Model(inputs, keras.layers.Lambda(touch, output_shape=(2,))(inputs)).save(file)
    marker.unlink(missing_ok=True)
    content = json.loads((saved[1] / "ensemble.json").read_text())
    content.pop("digest")
    content["networks"][0]["digest"] = store.file_digest(file)
    store.write_json(saved[1] / "ensemble.json", content | {"digest": store.digest(content)})
    with pytest.raises(ClusterToolsError, match="fold0_network0.keras could not be loaded"):
        deep_sets.Ensemble.load(saved[1])
    assert not marker.exists()
