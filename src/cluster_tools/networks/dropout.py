"""Forward passes of the convolutional network with dropout, in NumPy and Numba.

`weigh` draws with these passes, which start without TensorFlow. A layer of width w is w matrix products by
NumPy's BLAS, on views of its input. One loop does all between two layers: bias, ReLU, dropout and its
rescaling. Dropout uses 16 random bits per value. Keras defines the network (`cnn.build`); tests hold these
passes to it.

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
    generator = np.random.SFC64(seed)
    row = np.repeat(np.arange(len(images)), n_draws)
    outputs = np.empty((len(row), 2), np.float32)
    for begin in range(0, len(row), BATCH):
        batch = slice(begin, begin + BATCH)
        outputs[batch], _ = forward(weights, images[row[batch]], dropout_rate, generator)
    return outputs.reshape(len(images), n_draws, 2)


@one_thread
def activations(weights: Sequence[np.ndarray], images: np.ndarray) -> np.ndarray:
    """Activations (n, units) of the last hidden layer in passes that drop nothing, float32; see `draws`."""
    last = np.empty((len(images), len(weights[-2])), np.float32)
    for begin in range(0, len(images), BATCH):
        batch = slice(begin, begin + BATCH)
        _, (*_, last[batch]) = forward(weights, images[batch], 0.0, np.random.SFC64(0))
    return last


def forward(weights: Sequence[np.ndarray], images: np.ndarray, dropout_rate: float, generator: np.random.BitGenerator):
    """One pass with dropout from the bits of a `generator`: outputs (n, 2), and the input of each layer.

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
        bits = generator.random_raw((n, (values + 3) // 4)).view(np.uint16)
        _activate(z, values, bias, floor, factor, np.uint16(threshold), bits, x[margin:].reshape(n, -1))
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
def _activate(z, values, bias, floor, factor, threshold, bits, out):
    """Bias, ReLU and dropout of the first values of each row of z; 0 in the rest of each row of `out`."""
    shift = np.empty(values, np.float32)
    for k in range(values):
        shift[k] = bias[k % len(bias)]
    for i in range(len(z)):
        before, after, drawn = z[i], out[i], bits[i]
        for k in range(values):
            y = max(before[k] + shift[k], floor) * factor
            after[k] = y if drawn[k] >= threshold else np.float32(0)
        after[values:] = 0
