"""Training on problems with a known answer, against a forward pass and steps by Keras."""

import numpy as np
import pytest
from small_networks import MASS_RANGE, ensemble

from cluster_tools.mocks import kde
from cluster_tools.networks import cnn, ensembles, training
from cluster_tools.networks.cnn import Architecture


def clusters(n, seed, *, one_sided=False):
    """1D images of 100 galaxies, whose dispersion depends on mass, or, if `one_sided`, their mean velocity."""
    rng = np.random.default_rng(seed)
    log_m200c = rng.uniform(*MASS_RANGE, n)
    velocity = rng.normal(size=(n, 100)) * (300 if one_sided else 1000 * 10 ** ((log_m200c[:, None] - 15) / 3))
    if one_sided:
        velocity += 3000 * (log_m200c[:, None] - 14)
    images = kde.phase_space_images(velocity.ravel(), velocity.ravel(), 100 * np.arange(n + 1), input_dim=1)
    return images, log_m200c


def trained(images, log_m200c, **settings):
    return training.train(images, log_m200c, images[:50], log_m200c[:50], log_m200c_range=MASS_RANGE, **settings)


def test_training_is_the_same_again_with_the_same_seed_only():
    images, log_m200c = clusters(60, seed=1)
    first, again, other = (trained(images, log_m200c, epochs=2, batch_size=30, seed=seed, fold=3) for seed in (5, 5, 6))
    for one, two, three in zip(*(network.weights for network in (first, again, other)), strict=True):
        assert np.array_equal(one, two) and not np.array_equal(one, three)
    assert first.history == again.history and (first.fold, first.seed) == (3, 5)


def test_steps_are_those_of_keras_fit():
    """Without dropout, one epoch in one batch is one step of Adam on all images and their mirror images."""
    keras = cnn.load_keras()
    architecture = Architecture(1, filters=(6,), kernel_widths=(7,), units=(9,), dropout_rate=0.0)
    images, log_m200c = clusters(60, seed=1)
    network = trained(images, log_m200c, epochs=3, batch_size=120, architecture=architecture, seed=3)
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
    validation = cnn.gaussian_loss(ensembles.scaled(log_m200c[:50], MASS_RANGE), model(images[:50])) + sum(model.losses)
    assert network.history["val_loss"][-1] == pytest.approx(float(validation), rel=1e-4)


def test_a_trained_network_reads_masses_off_velocity_dispersions():
    images, log_m200c = clusters(400, seed=1)
    calls = []
    network = trained(images, log_m200c, epochs=8, batch_size=50, seed=1, progress=lambda *call: calls.append(call))
    assert [epoch for epoch, _ in calls] == list(range(1, 9))
    assert [loss for _, loss in calls] == network.history["loss"]
    assert len(network.history["val_loss"]) == 8
    assert network.history["loss"][-1] < network.history["loss"][0] - 0.3
    unseen, truth = clusters(300, seed=2)
    posterior = ensemble(network).posterior(unseen, draws=5)
    residual = posterior.mean - truth
    # The prior's scatter is 1 / sqrt(12) = 0.29 dex; 100 galaxies allow 3 * 0.434 / sqrt(200) = 0.09 dex.
    assert residual.std() < 0.16 and abs(residual.mean()) < 0.1
    assert 0.5 < (np.abs(residual) < posterior.sigma).mean() < 0.98


def test_a_network_trained_on_one_side_knows_the_mirror_image():
    images, log_m200c = clusters(300, seed=3, one_sided=True)
    network = trained(images, log_m200c, epochs=8, batch_size=50, seed=2)
    unseen, truth = clusters(200, seed=4, one_sided=True)
    for side in (unseen, unseen[:, ::-1]):
        assert (ensemble(network).posterior(side, draws=5).mean - truth).std() < 0.15
