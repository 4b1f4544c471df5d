"""Passes, gradients and training steps against Keras, which defines the network."""

import numpy as np
import pytest

from cluster_tools.networks import dropout, ensembles


def images_and_target(n, input_dim, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.exponential(size=(n,) + (48,) * input_dim).astype(np.float32)
    images /= images.sum(axis=tuple(range(1, input_dim + 1)), keepdims=True)
    return images, rng.uniform(-1, 1, (n, 1)).astype(np.float32)


def model_with_biases(input_dim, *, dropout_rate=0.0, seed=0):
    model = ensembles.build(input_dim, dropout_rate=dropout_rate, seed=seed)
    rng = np.random.default_rng(seed)
    model.set_weights([w + 0.05 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("input_dim", [1, 2])
def test_pass_without_dropout_equals_keras(input_dim):
    model = model_with_biases(input_dim)
    images, _ = images_and_target(7, input_dim)
    for shown in (images, images - images.mean()):  # images are no masses: what is below 0 passes as well
        outputs, _ = dropout.forward(model.get_weights(), shown, 0.0, dropout.noise_of(1))
        np.testing.assert_allclose(outputs, np.asarray(model(shown)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("input_dim", [1, 2])
def test_a_pass_that_drops_nothing_has_the_activations_of_keras(input_dim):
    keras = ensembles.load_keras()
    model = model_with_biases(input_dim)
    images, _ = images_and_target(dropout.TOGETHER + 3, input_dim)
    last_hidden = [layer for layer in model.layers if hasattr(layer, "kernel")][-2]
    expected = keras.Model(model.input, [last_hidden.output, model.output])(images)
    found = dropout.without_dropout(model.get_weights(), images)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-5, atol=1e-6)


def test_noise_is_that_of_numpy():
    noise, words = dropout.noise_of(7), np.empty(1000, np.uint64)
    generator = np.random.SFC64(7)
    for _ in range(2):
        dropout._fill(noise, words)
        np.testing.assert_array_equal(words, generator.random_raw(1000))


@pytest.mark.parametrize("input_dim", [1, 2])
def test_loss_and_gradient_equal_those_that_tensorflow_derives(input_dim):
    import tensorflow as tf

    model = model_with_biases(input_dim)
    images, target = images_and_target(40, input_dim)
    with tf.GradientTape() as tape:
        loss = ensembles.gaussian_loss(target, model(images)) + sum(model.losses)
    expected = tape.gradient(loss, model.trainable_variables)
    training = dropout.Training(model.get_weights(), dropout_rate=0.0, seed=0)
    assert training.step(images, target) == pytest.approx(float(loss), rel=1e-5)
    for found, derived in zip(training.gradient, expected, strict=True):
        np.testing.assert_allclose(found, derived.numpy(), rtol=1e-4, atol=1e-6)


def test_gradient_with_dropout_is_the_slope_of_the_loss_of_the_same_pass():
    # Central differences along random directions, with the same random bits on both sides.
    weights = model_with_biases(2, seed=1).get_weights()
    images, target = images_and_target(30, 2)
    gradient = [np.zeros_like(weight) for weight in weights]
    outputs, seen = dropout.forward(weights, images, 0.3, dropout.noise_of(5))
    delta = np.concatenate([outputs[:, :1] - target, outputs[:, 1:]], axis=1) / 30
    dropout.gradient(weights, seen, delta, 0.3, gradient)

    def half_square(moved):
        out, _ = dropout.forward(moved, images, 0.3, dropout.noise_of(5))
        return (np.sum((out[:, 0] - target[:, 0]) ** 2, dtype=float) + np.sum(out[:, 1] ** 2, dtype=float)) / 60

    for layer, weight in enumerate(weights):
        along = np.sign(gradient[layer]) * np.float32(1e-3 / np.sqrt(weight.size))
        up, down = ([*weights[:layer], weight + step, *weights[layer + 1 :]] for step in (along, -along))
        slope = (half_square(up) - half_square(down)) / 2
        assert slope == pytest.approx(np.vdot(gradient[layer], along), rel=0.05), layer


@pytest.mark.parametrize("input_dim", [1, 2])
def test_steps_of_training_are_those_of_keras_fit(input_dim):
    keras = ensembles.load_keras()
    model = ensembles.build(input_dim, dropout_rate=0.0, seed=3)
    images, target = images_and_target(200, input_dim)
    training = dropout.Training(model.get_weights(), dropout_rate=0.0, seed=0)
    model.compile(keras.optimizers.Adam(1e-3), ensembles.gaussian_loss, jit_compile=False)
    model.fit(images, target, batch_size=50, shuffle=False, verbose=0)
    for begin in range(0, 200, 50):
        training.step(images[begin : begin + 50], target[begin : begin + 50])
    pairs = zip(training.weights, model.get_weights(), strict=True)
    apart = np.concatenate([np.abs(found - expected).ravel() for found, expected in pairs])
    # Adam moves a weight by up to 1e-3 whatever the size of its gradient: where that is all but 0, rounding decides.
    assert np.median(apart) < 1e-7 and np.quantile(apart, 0.999) < 1e-5 and apart.max() < 1e-3


@pytest.mark.parametrize("input_dim, rate", [(1, 0.1), (2, 0.1), (2, 0.5)])
def test_draws_scatter_as_the_dropout_of_keras_does(input_dim, rate):
    model = model_with_biases(input_dim, dropout_rate=rate)
    images, _ = images_and_target(3, input_dim)
    n = 3000
    ours = dropout.draws(model.get_weights(), images, n, dropout_rate=rate, seed=1)
    theirs = np.asarray(model(np.repeat(images, n, axis=0))).reshape(3, n, 2)
    error = np.sqrt((ours.var(axis=1) + theirs.var(axis=1)) / n)
    assert (np.abs(ours.mean(axis=1) - theirs.mean(axis=1)) < 4.5 * error).all()
    # Standard deviations of 3000 draws are known to 1.3%, their ratio to 1.8%; more for long tails.
    np.testing.assert_allclose(ours.std(axis=1), theirs.std(axis=1), rtol=0.1)
    assert len(np.unique(ours[..., 0])) > 0.99 * 3 * n  # each draw has its own dropout


def test_share_of_what_is_dropped_is_the_rate():
    weights = ensembles.build(2).get_weights()
    images = np.ones((400, 48, 48), np.float32)
    for rate in (0.0, 0.1, 0.75):
        _, seen = dropout.forward(weights, images, rate, dropout.noise_of(3))
        first = seen[0][2:].reshape(400, 50, 48)[:, :48]  # 921,600 pixels between the zeros of the edges
        assert (first == 0).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / first.size))
        assert first.mean() == pytest.approx(48**2, rel=0.01)  # what is kept is scaled up
        dropped = (first == 0).mean(axis=0)
        assert dropped.std() < 1.2 * np.sqrt(rate * (1 - rate) / 400) + 1e-9  # no pixel more than another


def test_draws_of_a_cluster_depend_on_the_seed_only():
    weights = ensembles.build(1).get_weights()
    images, _ = images_and_target(8, 1)
    first, again, other = (dropout.draws(weights, images, 25, dropout_rate=0.1, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    fewer = dropout.draws(weights, images[:4], 25, dropout_rate=0.1, seed=1)  # whole batches of the same
    np.testing.assert_allclose(fewer, first[:4], atol=1e-6)
    assert dropout.draws(weights, images[:0], 25, dropout_rate=0.1, seed=1).shape == (0, 25, 2)
