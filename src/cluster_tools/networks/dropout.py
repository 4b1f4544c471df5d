"""Forward passes of the convolutional network with dropout, in NumPy and Numba.

`weigh` and the web page draw with these passes: they start without TensorFlow, and the page repeats them
bit by bit. A layer of width w is w matrix products by NumPy's BLAS, on views of its input. One loop does
all between two layers: bias, ReLU, dropout and its rescaling. Dropout uses 16 random bits per value.
Keras defines the network (`cnn.build`); tests hold these passes to it.

Weights are kernels and biases in turn, as `keras.Model.get_weights` gives them. A dense layer is a
convolution of width 1 along an axis of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from cluster_tools.machine import one_thread

BATCH = 50  # images in one pass; fixed, so that the same seed gives the same draws
DECISIONS = 2**16  # levels of the random bits of dropout


@one_thread
def draws(weights: Sequence[np.ndarray], images: np.ndarray, n_draws: int, *, dropout_rate: float, seed) -> np.ndarray:
    """Outputs of `n_draws` passes of each image, each pass with new dropout: float32 (n, n_draws, 2).

    They are mean and log variance of the scaled mass, the same on any number of cores. `images` are float32 arrays (n,
    48) or (n, 48, 48) of `kde.phase_space_images`; `dropout_rate` is from 0 to below 1; `seed` is an integer, or a list
    of them, as `numpy.random.SeedSequence` takes it.
    """
    state = generator_state(seed)
    row = np.repeat(np.arange(len(images)), n_draws)
    outputs = np.empty((len(row), 2), np.float32)
    for begin in range(0, len(row), BATCH):
        batch = slice(begin, begin + BATCH)
        outputs[batch], _ = forward(weights, images[row[batch]], dropout_rate, state)
    return outputs.reshape(len(images), n_draws, 2)


@one_thread
def activations(weights: Sequence[np.ndarray], images: np.ndarray) -> np.ndarray:
    """Activations (n, units) of the last hidden layer in passes that drop nothing, float32; see `draws`."""
    last = np.empty((len(images), len(weights[-2])), np.float32)
    for begin in range(0, len(images), BATCH):
        batch = slice(begin, begin + BATCH)
        _, (*_, last[batch]) = forward(weights, images[batch], 0.0, generator_state(0))
    return last


def without_denormals(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Weights with denormal floats set to 0.

    Weight decay lets the weights of dead units sink below 1e-38, where each operation takes a hundred cycles.
    """
    return [np.where(np.abs(weight) < np.finfo(np.float32).tiny, np.float32(0), weight) for weight in weights]


def generator_state(seed) -> np.ndarray:
    """State of NumPy's bit generator SFC64, uint64 (4,); passes draw from it and advance it."""
    return np.random.SFC64(seed).state["state"]["state"].copy()


def forward(weights: Sequence[np.ndarray], images: np.ndarray, dropout_rate: float, state: np.ndarray):
    """One pass with dropout from the generator's `state`: outputs (n, 2), and the input of each layer.

    The input of a layer of width w has one row per place, image after image; w // 2 rows of zeros lie
    before each image and after the last.
    """
    n, values = len(images), images[0].size
    threshold = min(round(dropout_rate * DECISIONS), DECISIONS - 1)  # the smallest bits that keep a value
    scale = np.float32(DECISIONS / (DECISIONS - threshold))
    z = np.ascontiguousarray(images, np.float32).reshape(n, values)
    bias, floor, factor = np.zeros(1, np.float32), np.float32(-np.inf), scale * np.float32(values)
    inputs = []
    for kernel, next_bias in zip(weights[::2], weights[1::2]):
        kernel = kernel if kernel.ndim == 3 else kernel[None]
        width, channels, filters = kernel.shape
        margin = width // 2
        x = np.empty((margin + n * (values // channels + margin), channels), np.float32)
        x[:margin] = 0
        _activate(z, values, bias, floor, factor, np.uint16(threshold), state, x[margin:].reshape(n, -1))
        z = _convolve(x, kernel).reshape(n, -1)
        values, bias, floor, factor = values // channels * filters, next_bias, np.float32(0), scale
        inputs.append(x)
    return z + bias, inputs


def _convolve(x, kernel) -> np.ndarray:
    """Products of the kernel with each place and its neighbours; rows between images hold no result.

    Windows that start at rows k, k + width, ... are views of x with `width` rows in one (im2col).
    """
    width, channels, filters = kernel.shape
    matrix, flat, z = kernel.reshape(-1, filters), x.ravel(), np.empty((len(x) - width // 2, filters), np.float32)
    for first in range(width):
        count = (len(x) - first) // width
        begin = first * channels
        windows = flat[begin : begin + count * width * channels].reshape(count, -1)
        np.matmul(windows, matrix, out=z[first::width][:count])
    return z


@njit(cache=True)
def _activate(z, values, bias, floor, factor, threshold, state, out):
    """Bias, ReLU and dropout of the first values of each row of z; 0 in the rest of each row of `out`."""
    words = np.empty((values + 3) // 4, np.uint64)
    bits, shift = words.view(np.uint16), np.empty(values, np.float32)
    for k in range(values):
        shift[k] = bias[k % len(bias)]
    for i in range(len(z)):
        _random_words(state, words)
        before, after = z[i], out[i]
        for k in range(values):
            y = max(before[k] + shift[k], floor) * factor
            after[k] = y if bits[k] >= threshold else np.float32(0)
        after[values:] = 0


@njit(cache=True)
def _random_words(state, words):
    """The generator SFC64 (Doty-Humphrey's Small Fast Chaotic), as `numpy.random.SFC64.random_raw`."""
    a, b, c, counter = state
    for i in range(len(words)):
        words[i] = a + b + counter
        counter += np.uint64(1)
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + words[i]
    state[0], state[1], state[2], state[3] = a, b, c, counter
