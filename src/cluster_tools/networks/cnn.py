"""The approximate Bayesian convolutional network of the paper, in Keras.

Architecture and loss: Ho et al. (2022), Figure 1 and Methods, "Approximate Bayesian Deep Neural
Networks"; Ho et al. (2021). Dropout before every layer acts in training and in prediction alike:
each forward pass is one draw from an approximate posterior over the weights (Gal & Ghahramani 2015).
The two outputs are mean and log variance of a Gaussian in log mass.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from dataclasses import dataclass
from functools import cache

from cluster_tools import machine
from cluster_tools.mocks.kde import PIXELS

L2 = 1e-4  # penalty on all kernels but the last


@dataclass(frozen=True)
class Architecture:
    """Layers of the network; the defaults are the paper's."""

    input_dim: int  #: 1 for images of v_los, 2 for images of v_los and r_proj
    filters: tuple[int, ...] = (24, 10)  #: number of filters of each convolution along v_los
    kernel_widths: tuple[int, ...] = (5, 3)  #: their widths, which are odd
    units: tuple[int, ...] = (128, 64)  #: width of each hidden dense layer
    dropout_rate: float = 0.1  #: share of the values that is dropped before each layer, from 0 to below 1

    def __post_init__(self):
        for name in ("filters", "kernel_widths", "units"):  # lists come from JSON and from parameters of notebooks
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of kernels and biases in turn, from the first layer to the last."""
        channels = (PIXELS if self.input_dim == 2 else 1, *self.filters)
        kernels = list(zip(self.kernel_widths, channels, channels[1:]))
        values = (PIXELS * channels[-1], *self.units, 2)
        kernels += zip(values, values[1:])
        return [shape for kernel in kernels for shape in (kernel, kernel[-1:])]


def build(architecture: Architecture, seed: int = 0):
    """The untrained Keras model.

    It maps images (n, 48) or (n, 48, 48) to (n, 2): mean and log variance of the scaled mass. The paper's layers have
    70,828 (1D) or 76,468 (2D) parameters. Convolutions run along v_los only; in 2D the 48 radii are the channels of the
    input. Images sum to 1: the first layer brings their mean pixel to 1, which sets the scale of the gradients. `seed`
    is that of the first weights (Glorot & Bengio 2010) and of dropout.
    """
    keras = load_keras()
    layers, dropout, seeds = keras.layers, quick_dropout(), iter(range(100 * seed, 100 * seed + 100))
    hidden = {"activation": "relu", "kernel_regularizer": keras.regularizers.L2(L2)}

    def after_dropout(x, kind, *shape, **options):
        layer = kind(*shape, kernel_initializer=keras.initializers.GlorotUniform(next(seeds)), **options)
        return layer(dropout(architecture.dropout_rate, seed=next(seeds))(x, training=True))

    images = keras.Input((PIXELS,) * architecture.input_dim, name="image")
    x = layers.Rescaling(float(PIXELS**architecture.input_dim))(images)
    x = layers.Reshape((PIXELS, PIXELS if architecture.input_dim == 2 else 1))(x)
    for shape in zip(architecture.filters, architecture.kernel_widths, strict=True):
        x = after_dropout(x, layers.Conv1D, *shape, padding="same", **hidden)
    x = layers.Flatten()(x)
    for units in architecture.units:
        x = after_dropout(x, layers.Dense, units, **hidden)
    x = after_dropout(x, layers.Dense, 2)
    return keras.Model(images, x, name=f"bayesian_cnn_{architecture.input_dim}d")


@cache
def quick_dropout() -> type:
    """Keras' dropout layer with 8 random bits per value; with a float per value, it takes half of the training time.

    A rate of 0.1 lies between 25 and 26 of 256 levels: each call takes one of the two at random, so that the mean
    rate is 0.1.
    """
    keras = load_keras()
    import tensorflow as tf

    class QuickDropout(keras.layers.Dropout):  # type: ignore[name-defined]
        def call(self, inputs, training=False):
            if not training or not self.rate:
                return inputs
            shape = tf.shape(inputs)
            size = tf.reduce_prod(shape)
            draw = {"seed": tf.cast(self.seed_generator.next(), tf.int32), "minval": None, "maxval": None}
            words = tf.random.stateless_uniform([size // 4 + 2], dtype=tf.uint32, **draw)  # the last one rounds
            between = tf.cast(words[-1], tf.float32) / 2**32
            smallest = tf.cast(tf.minimum(tf.floor(256 * self.rate + between), 255), tf.uint8)
            kept = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size] >= smallest
            return tf.where(tf.reshape(kept, shape), inputs / (1 - self.rate), 0.0)

    return QuickDropout


def gaussian_loss(scaled_mass, prediction):
    """Minus the mean Gaussian log likelihood, up to a constant: [(y - mu)^2 exp(-s) + s] / 2, s the log variance.

    Masses y are scaled to [-1, 1], (n, 1); `prediction` (n, 2) holds mu and s.
    """
    from keras import ops  # not load_keras: AutoGraph would convert it, too

    mu, s = prediction[:, 0], prediction[:, 1]
    return ops.mean((scaled_mass[:, 0] - mu) ** 2 * ops.exp(-s) + s) / 2


def load_keras():
    """Keras on TensorFlow with one thread (`machine.SINGLE_THREADED`), without messages on start-up and tracing."""
    for name, value in machine.SINGLE_THREADED.items():
        if name.startswith("TF_"):
            os.environ.setdefault(name, value)
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # chapters side by side share a GPU's memory
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if "keras" not in sys.modules and os.environ["KERAS_BACKEND"] == "tensorflow":
        saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)  # whatever the log level, TensorFlow 2.21 says on native stderr that it finds no GPU
            importlib.import_module("tensorflow")
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)
    import keras

    return keras


def device() -> str:
    """Where networks are trained: "processor", or the name of the first GPU that TensorFlow finds."""
    load_keras()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "processor"
