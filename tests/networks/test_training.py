"""Training of both kinds of networks on problems with a known answer, and of images against steps by Keras."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from small_networks import MASS_RANGE

from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde
from cluster_tools.networks import cnn, deep_sets, ensembles, training
from cluster_tools.networks.cnn import Architecture
from cluster_tools.ragged import ClusterGalaxies, cluster_offsets

# Of each kind: how to train and read networks, and the batch, always the same, since each takes seconds to trace.
KINDS = {
    "images": (training.train, ensembles.CNNEnsemble, 50),
    "sets": (deep_sets.train, deep_sets.SetEnsemble, 20),
    "counted": (deep_sets.train, deep_sets.SetEnsemble, 20),
}


def clusters(kind, n, seed, *, one_sided=False):
    """100 galaxies (images) or 40 to 80, whose dispersion depends on mass, or, if `one_sided`, their mean velocity."""
    rng = np.random.default_rng(seed)
    log_m200c = rng.uniform(*MASS_RANGE, n)
    offsets = cluster_offsets(np.full(n, 100) if kind == "images" else rng.integers(40, 80, n))
    mass = np.repeat(log_m200c, np.diff(offsets))
    sigma = 300 if one_sided else 1000 * 10 ** ((mass - 15) / (3 if kind == "images" else 2))
    v_los = rng.normal(size=len(mass)) * sigma + 2500 * (mass - 14) * one_sided
    if kind == "images":
        return kde.phase_space_images(v_los, v_los, offsets, input_dim=1), log_m200c
    galaxies = ClusterGalaxies(v_los, rng.uniform(0, 2.3, len(mass)), offsets)
    return deep_sets.inputs(galaxies, counted=kind == "counted"), log_m200c


def trained(kind, observed, log_m200c, **settings):
    unseen = clusters(kind, 50, seed=99)
    return KINDS[kind][0](observed, log_m200c, *unseen, log_m200c_range=MASS_RANGE, **settings)


def posterior(kind, network, observed):
    return KINDS[kind][1]([network], MASS_RANGE, {}).posterior(observed, draws=5)


@pytest.mark.parametrize("kind", ["images", "sets"])
def test_training_is_the_same_again_with_the_same_seed_only(kind):
    """The second and third network take the step that was traced for the first."""
    train = partial(trained, kind, *clusters(kind, 60, seed=1), epochs=2, batch_size=KINDS[kind][2], fold=3)
    first, again, other = (train(seed=seed) for seed in (5, 5, 6))
    for one, two, three in zip(*(network.weights for network in (first, again, other)), strict=True):
        assert np.array_equal(one, two) and not np.array_equal(one, three)
    assert first.history == again.history and (first.fold, first.seed) == (3, 5)


def test_steps_are_those_of_keras_fit():
    """Without dropout, one epoch in one batch is one step of Adam on all images and their mirror images."""
    keras = cnn.load_keras()
    architecture = Architecture(1, filters=(6,), kernel_widths=(7,), units=(9,), dropout_rate=0.0)
    images, log_m200c = clusters("images", 60, seed=1)
    unseen, truth = clusters("images", 50, seed=99)
    network = trained("images", images, log_m200c, epochs=3, batch_size=120, architecture=architecture, seed=3)
    model = cnn.build(architecture, seed=3)
    before = model.get_weights()
    schedule = keras.optimizers.schedules.CosineDecay(1.5e-3, 3)
    model.compile(keras.optimizers.Adam(schedule), cnn.gaussian_loss, jit_compile=False)
    target = np.tile(ensembles.scaled(log_m200c, MASS_RANGE), (2, 1))
    losses = model.fit(np.concatenate([images, images[:, ::-1]]), target, batch_size=120, epochs=3, verbose=0)
    np.testing.assert_allclose(network.history["loss"], losses.history["loss"], rtol=1e-5)
    for ours, theirs, start in zip(network.weights, model.get_weights(), before, strict=True):
        assert np.abs(theirs - start).max() > 1e-3  # training moves all layers
        # Adam moves a weight by up to 1.5e-3 whatever its gradient: where that is about 0, rounding decides.
        assert np.median(np.abs(ours - theirs)) < 1e-6
    validation = cnn.gaussian_loss(ensembles.scaled(truth, MASS_RANGE), model(unseen)) + sum(model.losses)
    assert network.history["val_loss"][-1] == pytest.approx(float(validation), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_network_reads_masses_off_velocity_dispersions(kind):
    observed, log_m200c = clusters(kind, 400, seed=1)
    calls, epochs = [], 8 if kind == "images" else 12
    settings = {"epochs": epochs, "batch_size": KINDS[kind][2], "progress": lambda *call: calls.append(call)}
    network = trained(kind, observed, log_m200c, seed=1, **settings)
    assert calls == list(enumerate(network.history["loss"], 1)) and len(network.history["val_loss"]) == epochs
    assert network.history["val_loss"][-1] < network.history["val_loss"][0] - 0.3
    unseen, truth = clusters(kind, 300, seed=2)
    predicted = posterior(kind, network, unseen)
    residual = predicted.mean - truth
    # The prior's scatter is 1 / sqrt(12) = 0.29 dex; 100 galaxies allow 3 * 0.434 / sqrt(200) = 0.09 dex in images, and
    # 60 galaxies 2 * 0.434 / sqrt(120) = 0.08 dex in sets.
    scatter, bias, coverage = (0.16, 0.1, 0.98) if kind == "images" else (0.12, 0.05, 0.9)
    assert residual.std() < scatter and abs(residual.mean()) < bias
    assert 0.5 < (np.abs(residual) < predicted.sigma).mean() < coverage


def test_sets_trained_on_one_side_know_the_mirror_image():
    network = trained("sets", *clusters("sets", 300, seed=3, one_sided=True), epochs=10, batch_size=20, seed=2)
    unseen, truth = clusters("sets", 200, seed=4, one_sided=True)
    for side in (unseen, dataclasses.replace(unseen, v_los=-unseen.v_los)):
        assert (posterior("sets", network, side).mean - truth).std() < 0.12


def test_too_few_clusters_to_train_on_are_refused():
    with pytest.raises(ClusterToolsError, match="there are 10 clusters to train on, but at least batch_size, 20"):
        trained("sets", *clusters("sets", 10, seed=1), batch_size=20)
