"""Untrained networks with random weights, without Keras, and trainings of a few steps."""

from contextlib import contextmanager

import numpy as np

from cluster_tools.networks.cnn import Architecture
from cluster_tools.networks.ensembles import CNNEnsemble, Network

MASS_RANGE = (14.0, 15.0)


def network(mu=None, log_variance=None, *, input_dim=1, fold=0, seed=0, dropout_rate=0.0):
    """Kernels as Glorot & Bengio (2010); with `mu` and `log_variance`, one that answers these to every image."""
    architecture, rng, weights = Architecture(input_dim, dropout_rate=dropout_rate), np.random.default_rng(seed), []
    for shape in architecture.shapes():
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1]))) if len(shape) > 1 else 0
        weights.append(rng.uniform(-limit, limit, shape).astype(np.float32))
    if mu is not None:
        weights[-2:] = 0 * weights[-2], np.array([mu, log_variance], np.float32)
    return Network(weights, architecture, fold, seed, {"loss": [0.5], "val_loss": [0.25]})


def ensemble(*networks, mass_range=MASS_RANGE):
    return CNNEnsemble(list(networks), mass_range, {"key": "0123", "parameters": {"seed": 1}})


@contextmanager
def untraced():
    """TensorFlow takes seconds to trace what a training does again and again: a few steps are run as they come."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def random_images(n, input_dim):
    images = np.random.default_rng(0).exponential(size=(n,) + (48,) * input_dim).astype(np.float32)
    return images / images.sum(axis=tuple(range(1, input_dim + 1)), keepdims=True)
