"""NumPy's forward passes against Keras, which defines the network."""

import numpy as np
import pytest
from small_networks import network, random_images

from cluster_tools.networks import cnn, dropout
from cluster_tools.networks.cnn import Architecture

ARCHITECTURES = [Architecture(1), Architecture(2), Architecture(2, [6], [7], [9, 8, 7]), Architecture(1, [], [], [30])]


def model_with_biases(architecture, *, seed=0):
    model = cnn.build(architecture, seed)
    rng = np.random.default_rng(seed)
    model.set_weights([w + 0.05 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_pass_that_drops_nothing_has_the_activations_of_keras(architecture):
    keras = cnn.load_keras()
    model = model_with_biases(Architecture(**{**vars(architecture), "dropout_rate": 0.0}))
    images = random_images(dropout.BATCH + 3, architecture.input_dim)
    last_hidden = [layer for layer in model.layers if hasattr(layer, "kernel")][-2]
    expected = keras.Model(model.input, [last_hidden.output, model.output])(images)
    weights = model.get_weights()
    passed = dropout.activations(weights, images), dropout.draws(weights, images, 1, dropout_rate=0.0, seed=0)[:, 0]
    for ours, theirs in zip(passed, expected, strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("input_dim, rate", [(1, 0.1), (2, 0.1), (2, 0.5)])
def test_draws_scatter_as_the_dropout_of_keras_does(input_dim, rate):
    model = model_with_biases(Architecture(input_dim, dropout_rate=rate))
    images, n = random_images(3, input_dim), 3000
    ours = dropout.draws(model.get_weights(), images, n, dropout_rate=rate, seed=1)
    theirs = np.asarray(model(np.repeat(images, n, axis=0))).reshape(3, n, 2)
    error = np.sqrt((ours.var(axis=1) + theirs.var(axis=1)) / n)
    assert (np.abs(ours.mean(axis=1) - theirs.mean(axis=1)) < 4.5 * error).all()
    # Standard deviations of 3000 draws are known to 1.3%, their ratio to 1.8%; more for long tails.
    np.testing.assert_allclose(ours.std(axis=1), theirs.std(axis=1), rtol=0.1)
    assert len(np.unique(ours[..., 0])) > 0.99 * 3 * n  # each draw has new dropout


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.75])
def test_dropout_drops_the_rate_and_scales_the_rest_up(rate):
    images = np.ones((400, 48, 48), np.float32)
    _, inputs = dropout.forward(network(input_dim=2).weights, images, rate, np.random.SFC64(3))
    first = inputs[0][2:].reshape(400, 50, 48)[:, :48]  # 921,600 pixels between the zeros of the edges
    assert (first == 0).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / first.size))
    assert first.mean() == pytest.approx(48**2, rel=0.01)
    dropped = (first == 0).mean(axis=0)
    assert dropped.std() < 1.2 * np.sqrt(rate * (1 - rate) / 400) + 1e-9  # no pixel more than another


def test_draws_of_a_cluster_depend_on_the_seed_only():
    weights, images = network().weights, random_images(8, 1)
    first, again, other = (dropout.draws(weights, images, 25, dropout_rate=0.1, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    fewer = dropout.draws(weights, images[:4], 25, dropout_rate=0.1, seed=1)  # whole batches of the same
    np.testing.assert_allclose(fewer, first[:4], atol=1e-6)
    assert dropout.draws(weights, images[:0], 25, dropout_rate=0.1, seed=1).shape == (0, 25, 2)
