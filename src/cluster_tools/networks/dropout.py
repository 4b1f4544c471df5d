"""Forward and backward passes of the network of `ensembles.build`, with dropout, on many images at once.

So small a network takes Keras and TensorFlow longer to arrange than to compute. Here a layer of width w is w matrix
products by numpy's BLAS, on views of its input, of which none is copied; all between two layers is one loop: bias,
ReLU, dropout and its rescaling. Dropout has 16 random bits a decision. Keras remains the definition, and the form in
which networks are kept; tests hold passes, gradients and steps of training to it.

Weights are kernels and biases in turn, as `get_weights` of the Keras model gives them. A dense layer is a
convolution of width 1 along an axis of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from cluster_tools.machine import one_thread
from cluster_tools.mocks.kde import PIXELS

L2 = 1e-4  # of all kernels but the last
LEARNING_RATE, DECAY, EPSILON = 1e-3, (0.9, 0.999), 1e-7  # of Adam; Keras' defaults
TOGETHER = 50  # images in one pass of `draws`; fixed, to keep draws reproducible
DECISIONS = 2**16


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
    noise = noise_of(seed)
    row = np.repeat(np.arange(len(images)), n_draws)
    outputs = np.empty((len(row), 2), np.float32)
    for begin in range(0, len(row), TOGETHER):
        some = slice(begin, begin + TOGETHER)
        outputs[some], _ = forward(weights, images[row[some]], dropout_rate, noise)
    return outputs.reshape(len(images), n_draws, 2)


@one_thread
def without_dropout(weights: Sequence[np.ndarray], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations (n, 64) of the last hidden layer and outputs (n, 2), both float32, of passes that drop nothing."""
    activations, outputs = (np.empty((len(images), width), np.float32) for width in weights[-2].shape)
    for begin in range(0, len(images), TOGETHER):
        some = slice(begin, begin + TOGETHER)
        outputs[some], (*_, activations[some]) = forward(weights, images[some], 0.0, noise_of(0))
    return activations, outputs


def noise_of(seed) -> np.ndarray:
    """The state of numpy's bit generator SFC64, uint64 (4,): passes draw their dropout from it, and move it on."""
    return np.random.SFC64(seed).state["state"]["state"].copy()


def forward(weights: Sequence[np.ndarray], images: np.ndarray, dropout_rate: float, noise: np.ndarray):
    """Outputs (n, 2) of one pass with dropout, and what each layer was given, for `gradient`.

    `noise` is of `noise_of`; parameters are else as for `draws`. What a layer of width w was given is a row for each
    place, image after image, with w // 2 rows of zeros before each image and after the last.
    """
    n, values = len(images), images[0].size
    least, scale = _dropout(dropout_rate)
    z = np.ascontiguousarray(images, np.float32).reshape(n, values)
    bias, floor, factor = np.zeros(1, np.float32), np.float32(-np.inf), scale * np.float32(values)
    seen = []
    for kernel, next_bias in _layers(weights):
        x, inside = _padded(n, values, kernel.shape[1], len(kernel))
        _activate(z, values, bias, floor, factor, least, noise, inside)
        z = _convolved(x, kernel).reshape(n, -1)
        values, bias, floor, factor = values // kernel.shape[1] * kernel.shape[2], next_bias, np.float32(0), scale
        seen.append(x)
    return z + bias, seen


def gradient(weights: Sequence[np.ndarray], seen: list, delta: np.ndarray, dropout_rate: float, out) -> None:
    """Gradient with respect to the weights, written into the arrays of `out`, from that to the outputs, `delta`."""
    _, scale = _dropout(dropout_rate)
    layers, n = _layers(weights), len(delta)
    for i in reversed(range(len(layers))):
        kernel, x = layers[i][0], seen[i]
        width, beyond = len(kernel), len(kernel) // 2
        places, of_kernel = delta[beyond:], out[2 * i].reshape(-1, kernel.shape[2])
        for first, windows in enumerate(_windows(x, width)):
            deltas = places[first::width][: len(windows)]
            if first == 0:
                np.matmul(windows.T, deltas, out=of_kernel)
            else:
                of_kernel += windows.T @ deltas
        _sum(places, out[2 * i + 1])
        if i == 0:
            return
        back = _convolved(delta, kernel[::-1].transpose(0, 2, 1)).reshape(n, -1)
        earlier = layers[i - 1][0]
        values = x.size // n if width == 1 else PIXELS * kernel.shape[1]
        delta, inside = _padded(n, values, earlier.shape[2], len(earlier))
        _through(back, x[beyond:].reshape(n, -1), scale, values, inside)


class Training:
    """Weights that learn step by step, by Adam."""

    def __init__(self, weights: Sequence[np.ndarray], *, dropout_rate: float, seed) -> None:
        """`seed` is of the dropout, as `numpy.random.SeedSequence` takes it."""
        shapes = [weight.shape for weight in weights]
        # One array for all weights, so that Adam is one loop; the layers' are views of it.
        self._flat = np.concatenate([weight.ravel() for weight in weights]).astype(np.float32)
        self._flat_gradient, *self._moments = np.zeros((3, len(self._flat)), np.float32)
        self.weights, self.gradient = _views(self._flat, shapes), _views(self._flat_gradient, shapes)
        self._dropout_rate, self._noise, self._steps = dropout_rate, noise_of(seed), 0

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
    """`ensembles.gaussian_loss` of outputs (n, 2) and scaled masses (n, 1), and the L2 regularisation of the weights."""
    mu, s = outputs[:, :1], outputs[:, 1:]
    penalty = L2 * sum(float(np.vdot(kernel, kernel)) for kernel in weights[:-2:2])
    return float(np.mean((target - mu) ** 2 * np.exp(-s) + s) / 2) + penalty


def _views(flat, shapes) -> list[np.ndarray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes)]


def _layers(weights) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) of each layer, kernels as (width, channels in, channels out)."""
    return [(k if k.ndim == 3 else k[None], bias) for k, bias in zip(weights[::2], weights[1::2])]


def _padded(n, values, channels, width) -> tuple[np.ndarray, np.ndarray]:
    """Rows of n images for a layer, and what follows the first zeros as (n, values and then zeros), to be filled."""
    beyond = width // 2
    rows = np.empty((beyond + n * (values // channels + beyond), channels), np.float32)
    rows[:beyond] = 0
    return rows, rows[beyond:].reshape(n, -1)


def _convolved(rows, kernel) -> np.ndarray:
    """Sums over each place and its neighbours, a row a place; those of the zeros between images mean nothing."""
    width, channels, filters = kernel.shape
    matrix, z = kernel.reshape(-1, filters), np.empty((len(rows) - width // 2, filters), np.float32)
    for first, windows in enumerate(_windows(rows, width)):
        np.matmul(windows, matrix, out=z[first::width][: len(windows)])
    return z


def _windows(rows, width) -> list[np.ndarray]:
    """Each `width` rows in sequence as one row: those of places 0, width, ...; of 1, width + 1, ...; without a copy."""
    flat, values = rows.ravel(), width * rows.shape[1]
    counts = [(len(rows) - first) // width for first in range(width)]
    starts = [first * rows.shape[1] for first in range(width)]
    return [flat[start : start + count * values].reshape(count, values) for start, count in zip(starts, counts)]


def _dropout(rate) -> tuple[np.uint16, np.float32]:
    """The least 16 bits that keep a value, and by what the kept are multiplied."""
    least = min(round(rate * DECISIONS), DECISIONS - 1)
    return np.uint16(least), np.float32(DECISIONS / (DECISIONS - least))


@njit(cache=True)
def _activate(z, values, bias, floor, factor, least, noise, out):
    """Bias, ReLU and dropout of the first values of each row of z; 0 in the rest of each row of `out`."""
    words = np.empty((values + 3) // 4, np.uint64)
    bits, shift = words.view(np.uint16), np.empty(values, np.float32)
    for k in range(values):
        shift[k] = bias[k % len(bias)]
    for i in range(len(z)):
        _fill(noise, words)
        before, after = z[i], out[i]
        for k in range(values):
            y = max(before[k] + shift[k], floor) * factor
            after[k] = y if bits[k] >= least else np.float32(0)
        after[values:] = 0


@njit(cache=True)
def _fill(noise, words):
    """What `random_raw` of numpy's SFC64 gives, Doty-Humphrey's Small Fast Chaotic generator."""
    a, b, c, counter = noise
    for i in range(len(words)):
        words[i] = a + b + counter
        counter += np.uint64(1)
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + words[i]
    noise[0], noise[1], noise[2], noise[3] = a, b, c, counter


@njit(cache=True)
def _through(delta, x, scale, values, out):
    """The gradient before bias, ReLU and dropout, from that after it: what came out as 0 has none."""
    for i in range(len(delta)):
        after, seen, before = delta[i], x[i], out[i]
        for k in range(values):
            before[k] = after[k] * scale if seen[k] > np.float32(0) else np.float32(0)
        before[values:] = 0


@njit(cache=True)
def _sum(rows, out):
    out[:] = 0
    for i in range(len(rows)):
        out += rows[i]


@njit(cache=True, error_model="numpy")  # which lets the division be vectorised
def _adam(weights, gradient, first, second, rate):
    for i in range(weights.size):
        first[i] += (gradient[i] - first[i]) * np.float32(1 - DECAY[0])
        second[i] += (gradient[i] ** 2 - second[i]) * np.float32(1 - DECAY[1])
        weights[i] -= rate * first[i] / (np.sqrt(second[i]) + np.float32(EPSILON))
