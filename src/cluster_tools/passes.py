"""Forward and backward passes of the network of `networks.build`, with dropout, on many images at once.

So small a network takes Keras and TensorFlow longer to arrange than to compute. Here a layer is one matrix
product by numpy's BLAS, and all between two products is one loop: bias, ReLU, dropout and its rescaling.
Dropout has 16 random bits a decision. Keras remains the definition, and the form in which networks are kept;
tests hold passes, gradients and steps of training to it.

Weights are kernels and biases in turn, as `get_weights` of the Keras model gives them. A dense layer is a
convolution of width 1 along an axis of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import as_strided
from threadpoolctl import threadpool_limits

from cluster_tools.kde import PIXELS

L2 = 1e-4  # of all kernels but the last
LEARNING_RATE, DECAY, EPSILON = 1e-3, (0.9, 0.999), 1e-7  # of Adam; Keras' defaults
TOGETHER = 50  # images in one pass of `draws`; fixed, to keep draws reproducible
DECISIONS = 2**16

# BLAS with more threads rounds its sums otherwise, and takes longer for products so small.
one_thread = threadpool_limits.wrap(limits=1, user_api="blas")


@one_thread
def draws(weights: Sequence[np.ndarray], images: np.ndarray, n_draws: int, *, dropout_rate: float, seed) -> np.ndarray:
    """Outputs (mu, s) of `n_draws` passes of each image, each with dropout of its own.

    Parameters
    ----------
    weights : of the network
    images : float32 array (n, 48) or (n, 48, 48)
    dropout_rate : from 0 to below 1
    seed : of the dropout, as `numpy.random.SeedSequence` takes it

    Returns
    -------
    float32 array (n, n_draws, 2), the same on any number of cores
    """
    noise = np.random.SFC64(seed)
    row = np.repeat(np.arange(len(images)), n_draws)
    outputs = np.empty((len(row), 2), np.float32)
    for begin in range(0, len(row), TOGETHER):
        some = slice(begin, begin + TOGETHER)
        outputs[some], _ = forward(weights, images[row[some]], dropout_rate, noise)
    return outputs.reshape(len(images), n_draws, 2)


def forward(weights: Sequence[np.ndarray], images: np.ndarray, dropout_rate: float, noise) -> tuple[np.ndarray, list]:
    """Outputs (n, 2) of one pass with dropout, and what each layer was given, for `gradient`.

    `noise` is a bit generator of numpy's; parameters are else as for `draws`.
    """
    n, pixels = len(images), images[0].size
    least, scale = _dropout(dropout_rate)
    z = images.reshape(n, PIXELS, -1)
    bias, floor, scale_in = np.zeros(z.shape[2], np.float32), np.float32(-np.inf), scale * np.float32(pixels)
    seen = []
    for kernel, next_bias in _layers(weights):
        x = np.empty((n, z.shape[1] + len(kernel) - 1, z.shape[2]), np.float32)
        _activate(z, bias, floor, _bits(noise, z.shape), least, scale_in, x)
        columns = _windows(x.reshape(n, -1, kernel.shape[1]), len(kernel))
        z = (columns @ _matrix(kernel)).reshape(n, -1, kernel.shape[2])
        bias, floor, scale_in = next_bias, np.float32(0), scale
        seen.append((x, columns))
    return z[:, 0] + bias, seen


def gradient(weights: Sequence[np.ndarray], seen: list, delta: np.ndarray, dropout_rate: float, out) -> None:
    """Gradient with respect to the weights, written into the arrays of `out`, from that to the outputs, `delta`."""
    _, scale = _dropout(dropout_rate)
    layers, n = _layers(weights), len(delta)
    for i in reversed(range(len(layers))):
        kernel, (x, columns) = layers[i][0], seen[i]
        delta = delta.reshape(-1, kernel.shape[2])
        np.matmul(columns.T, delta, out=out[2 * i].reshape(columns.shape[1], -1))
        np.matmul(np.ones(len(delta), np.float32), delta, out=out[2 * i + 1])
        if i == 0:
            return
        delta, width = delta.reshape(n, -1, kernel.shape[2]), len(kernel)
        padded = np.zeros((n, delta.shape[1] + width - 1, delta.shape[2]), np.float32)
        padded[:, width // 2 : width // 2 + delta.shape[1]] = delta
        delta = (_windows(padded, width) @ _matrix(kernel[::-1].transpose(0, 2, 1))).reshape(n, -1, x.shape[2])
        _through(delta, x, scale)


class Training:
    """Weights that learn step by step, by Adam."""

    def __init__(self, weights: Sequence[np.ndarray], *, dropout_rate: float, seed) -> None:
        """`seed` is of the dropout, as `numpy.random.SeedSequence` takes it."""
        shapes = [weight.shape for weight in weights]
        # One array for all weights, so that Adam is one loop; the layers' are views of it.
        self._flat = np.concatenate([weight.ravel() for weight in weights]).astype(np.float32)
        self._flat_gradient, *self._moments = np.zeros((3, len(self._flat)), np.float32)
        self.weights, self.gradient = _views(self._flat, shapes), _views(self._flat_gradient, shapes)
        self._dropout_rate, self._noise, self._steps = dropout_rate, np.random.SFC64(seed), 0

    def step(self, images: np.ndarray, target: np.ndarray) -> float:
        """One step on a batch (n, 48) or (n, 48, 48) of scaled masses (n, 1); returns the loss before it."""
        outputs, seen = forward(self.weights, images, self._dropout_rate, self._noise)
        loss = loss_of(self.weights, outputs, target)
        off, precision = outputs[:, :1] - target, np.exp(-outputs[:, 1:])
        delta = np.concatenate([off * precision, (1 - off**2 * precision) / 2], axis=1) / np.float32(len(images))
        gradient(self.weights, seen, delta, self._dropout_rate, self.gradient)
        for kernel, of_kernel in zip(self.weights[:-2:2], self.gradient[:-2:2]):
            of_kernel += np.float32(2 * L2) * kernel
        self._steps += 1
        first, second = DECAY
        rate = LEARNING_RATE * np.sqrt(1 - second**self._steps) / (1 - first**self._steps)
        _adam(self._flat, self._flat_gradient, *self._moments, np.float32(rate))
        return loss


def loss_of(weights: Sequence[np.ndarray], outputs: np.ndarray, target: np.ndarray) -> float:
    """`networks.gaussian_loss` of outputs (n, 2) and scaled masses (n, 1), and the L2 regularisation of the weights."""
    mu, s = outputs[:, :1], outputs[:, 1:]
    penalty = L2 * sum(float(np.vdot(kernel, kernel)) for kernel in weights[:-2:2])
    return float(np.mean((target - mu) ** 2 * np.exp(-s) + s) / 2) + penalty


def _views(flat, shapes) -> list[np.ndarray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes)]


def _layers(weights) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) of each layer, kernels as (width, channels in, channels out)."""
    return [(k if k.ndim == 3 else k[None], bias) for k, bias in zip(weights[::2], weights[1::2])]


def _matrix(kernel) -> np.ndarray:
    return kernel.reshape(-1, kernel.shape[2])


def _windows(x, width) -> np.ndarray:
    """Each pixel's neighbourhood along the second axis of x (n, length + width - 1, channels), one a row."""
    n, padded, channels = x.shape
    return as_strided(x, (n, padded - width + 1, width * channels), x.strides).reshape(-1, width * channels)


def _dropout(rate) -> tuple[np.uint16, np.float32]:
    """The least 16 bits that keep a value, and by what the kept are multiplied."""
    least = min(round(rate * DECISIONS), DECISIONS - 1)
    return np.uint16(least), np.float32(DECISIONS / (DECISIONS - least))


def _bits(noise, shape) -> np.ndarray:
    size = int(np.prod(shape))
    return noise.random_raw(-(-size // 4)).view(np.uint16)[:size].reshape(shape)


@njit(cache=True)
def _activate(z, bias, floor, bits, least, scale, x):
    """Bias, ReLU and dropout, written into the middle of x (n, length + pad, channels), 0 beyond."""
    n, length, channels = z.shape
    pad = (x.shape[1] - length) // 2
    zero = np.float32(0)
    for i in range(n):
        x[i, :pad] = zero
        x[i, length + pad :] = zero
        for j in range(length):
            for k in range(channels):
                y = max(z[i, j, k] + bias[k], floor) * scale
                x[i, j + pad, k] = y if bits[i, j, k] >= least else zero


@njit(cache=True)
def _through(delta, x, scale):
    """The gradient before bias, ReLU and dropout, from that after it: what came out as 0 has none."""
    n, length, channels = delta.shape
    pad = (x.shape[1] - length) // 2
    zero = np.float32(0)
    for i in range(n):
        for j in range(length):
            for k in range(channels):
                y = delta[i, j, k] * scale
                delta[i, j, k] = y if x[i, j + pad, k] > zero else zero


@njit(cache=True, error_model="numpy")  # which lets the division be vectorised
def _adam(weights, gradient, first, second, rate):
    for i in range(weights.size):
        first[i] += (gradient[i] - first[i]) * np.float32(1 - DECAY[0])
        second[i] += (gradient[i] ** 2 - second[i]) * np.float32(1 - DECAY[1])
        weights[i] -= rate * first[i] / (np.sqrt(second[i]) + np.float32(EPSILON))
