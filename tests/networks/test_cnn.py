"""The Keras model against the paper's layers, a forward pass by hand and scipy's likelihood."""

import numpy as np
import pytest
from scipy.signal import correlate
from scipy.stats import norm
from small_networks import random_images

from cluster_tools.networks import cnn
from cluster_tools.networks.cnn import Architecture


# Counts: the authors' public code (McWilliamsCenter/halo_cnn).
@pytest.mark.parametrize("input_dim, parameters", [(1, 70_828), (2, 76_468)])
def test_layers_and_parameter_counts_are_the_papers(input_dim, parameters):
    model = cnn.build(Architecture(input_dim, dropout_rate=0.2))
    assert model.count_params() == parameters
    kinds = [type(layer).__name__ for layer in model.layers]
    expected = ["QuickDropout", "Conv1D"] * 2 + ["QuickDropout", "Dense"] * 3
    assert [kind for kind in kinds[3:] if kind != "Flatten"] == expected
    assert all(layer.rate == 0.2 for layer in model.layers if type(layer).__name__ == "QuickDropout")
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    shapes = [(5, 48 if input_dim == 2 else 1, 24), (3, 24, 10), (480, 128), (128, 64), (64, 2)]
    assert [kernel.shape for kernel in kernels] == shapes
    for architecture in (Architecture(input_dim), Architecture(2, [6], [7], [9, 8, 7])):
        assert [weight.shape for weight in cnn.build(architecture).get_weights()] == architecture.shapes()
    squares = sum(float((kernel.numpy() ** 2).sum()) for kernel in kernels[:-1])  # L2 spares the last kernel
    assert sum(map(float, model.losses)) == pytest.approx(1e-4 * squares, rel=1e-5)


@pytest.mark.parametrize("rate", [0.1, 0.37, 0.99])
def test_dropout_drops_its_rate_independently_and_keeps_the_mean(rate):
    layer, ones = cnn.quick_dropout()(rate, seed=3), np.ones((3, 7, 4999), np.float32)
    passes = np.array([layer(ones, training=True) for _ in range(60)])
    dropped = passes == 0
    error = np.sqrt(rate * (1 - rate) / dropped.size)
    # Each pass drops one of two shares, 1/256 apart: the scatter of their mean comes on top.
    assert dropped.mean() == pytest.approx(rate, abs=4 * error + 4 * 0.5 / 256 / np.sqrt(60))
    np.testing.assert_allclose(passes[~dropped], 1 / (1 - rate), rtol=1e-6)
    values = dropped.reshape(60, -1) - rate
    neighbours = (values[:, 1:] * values[:, :-1]).mean() / values.var()
    assert abs(neighbours) < 4 / np.sqrt(values.size)  # four values share a random word
    assert abs((values[1:] * values[:-1]).mean() / values.var()) < 4 / np.sqrt(values.size)
    np.testing.assert_array_equal(layer(ones), ones)
    np.testing.assert_array_equal(cnn.quick_dropout()(0.0)(ones, training=True), ones)


@pytest.mark.parametrize("input_dim", [1, 2])
def test_forward_pass_equals_one_by_hand_that_convolves_along_velocity(input_dim):
    model = cnn.build(Architecture(input_dim, dropout_rate=0.0), seed=4)
    rng = np.random.default_rng(5)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    (w1, b1), (w2, b2), *dense, last = [layer.get_weights() for layer in model.layers if hasattr(layer, "kernel")]
    images = random_images(3, input_dim)

    def convolved(x, kernel, bias):  # zero-padded cross-correlation along the first axis
        return [
            sum(correlate(x[:, c], kernel[:, c, f], mode="same") for c in range(x.shape[1])) + bias[f]
            for f in range(kernel.shape[2])
        ]

    by_hand = []
    for image in images:
        x = 48**input_dim * image.astype(float).reshape(48, -1)
        for kernel, bias in ((w1, b1), (w2, b2)):
            x = np.maximum(np.transpose(convolved(x, kernel, bias)), 0)
        x = x.ravel()
        for kernel, bias in dense:
            x = np.maximum(x @ kernel + bias, 0)
        by_hand.append(x @ last[0] + last[1])
    np.testing.assert_allclose(np.asarray(model(images)), by_hand, rtol=1e-4, atol=1e-5)


def test_loss_is_minus_the_gaussian_log_likelihood():
    rng = np.random.default_rng(0)
    y, mu, log_variance = rng.uniform(-1, 1, (3, 200)).astype(np.float32)
    expected = -norm.logpdf(y, mu, np.exp(log_variance / 2)).mean() - np.log(2 * np.pi) / 2
    loss = cnn.gaussian_loss(y[:, None], np.stack([mu, log_variance], axis=1))
    assert float(loss) == pytest.approx(expected, abs=1e-6)
