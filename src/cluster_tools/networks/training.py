"""Training of one convolutional network on images and their mirror images."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from cluster_tools.networks import cnn
from cluster_tools.networks.ensembles import Network, scaled

NO_DECAY = 1e30  # steps, so many that the step size stays as it is


def train(
    images, log_m200c, validation_images, validation_log_m200c, *, log_m200c_range, architecture=None, fold=0,
    epochs=40, batch_size=100, peak_learning_rate=1.5e-3, decay=True, seed=0, progress=None,
) -> Network:  # fmt: skip
    """Train one network on images and their mirror images in v_los, on a GPU where TensorFlow finds one.

    Parameters
    ----------
    images : float32 array (n, 48) or (n, 48, 48)
        Training images, axes [v_los, r_proj].
    log_m200c : array (n,)
        Their masses, log10 M200c [Msun/h].
    validation_images, validation_log_m200c : arrays (m, ...) and (m,)
        Clusters that only the history's ``val_loss`` uses.
    log_m200c_range : (float, float)
        Masses [log10 Msun/h] that are scaled to -1 and 1.
    architecture : cnn.Architecture, optional
        By default the paper's, for images of this dimension.
    fold : int
        Fold that the training clusters leave out; kept with the network.
    epochs, batch_size : int
        Passes over the training set, and images in each step.
    peak_learning_rate : float
        First learning rate of Adam.
    decay : bool
        Whether the learning rate falls as a cosine to 0 over all steps.
    seed : int
        Seed of first weights, order of the images and dropout. On a processor, equal arguments give equal networks.
    progress : callable, optional
        Called with (epoch, loss) after each epoch. Losses in the history include dropout and the L2 penalty.
    """
    images = np.asarray(images, np.float32)
    images = np.concatenate([images, images[:, ::-1]])
    target = np.tile(scaled(log_m200c, log_m200c_range), (2, 1))
    architecture = architecture or cnn.Architecture(images.ndim - 1)
    batch_size = min(batch_size, len(images))
    model, restart, one_epoch = _traced(architecture, batch_size, peak_learning_rate)
    restart(seed, epochs * (len(images) // batch_size) if decay else NO_DECAY)
    import tensorflow as tf

    data = [images, target, validation_images, scaled(validation_log_m200c, log_m200c_range)]
    data = [tf.constant(each, tf.float32) for each in data]

    def one_pass(order, rng):
        return one_epoch(*data, tf.constant(order, tf.int32))

    history = passes(one_pass, (len(images), batch_size), epochs, seed, progress)
    return Network(model.get_weights(), architecture, fold, seed, history)


def passes(one_pass: Callable, shape: tuple[int, int], epochs: int, seed: int, progress: Callable | None) -> dict:
    """The history of `epochs` passes over the rows of a training set, each in another random order.

    `shape` is (rows, rows in a batch); `one_pass` takes the order (steps, batch) and the random
    generator, and returns loss and validation loss.
    """
    rng, (n, batch_size) = np.random.default_rng(seed), shape
    history: dict[str, list[float]] = {"loss": [], "val_loss": []}
    for epoch in range(epochs):
        losses = one_pass(rng.permutation(n)[: n // batch_size * batch_size].reshape(-1, batch_size), rng)
        for name, loss in zip(history, losses):
            history[name].append(float(loss))
        if progress:
            progress(epoch + 1, history["loss"][-1])
    return history


def restartable(build: Callable, architecture, peak_learning_rate: float):
    """A model, its optimizer Adam, and the function of (seed, decay_steps) that starts both anew.

    TensorFlow takes seconds to trace a training step, so that networks of one architecture share the trace. The
    learning rate falls as a cosine over `decay_steps`, or stays, for `NO_DECAY`.
    """
    keras, model = cnn.load_keras(), build(architecture)
    steps = keras.Variable(1.0, trainable=False)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(peak_learning_rate, steps))
    optimizer.build(model.trainable_variables)
    start = [variable.numpy() for variable in optimizer.variables]

    def restart(seed: int, decay_steps: float) -> None:
        first = [*build(architecture, seed).variables, *start]
        for variable, value in zip([*model.variables, *optimizer.variables], first, strict=True):
            variable.assign(value)
        steps.assign(decay_steps)

    return model, optimizer, restart


@lru_cache(maxsize=4)
def _traced(architecture: cnn.Architecture, batch_size: int, peak_learning_rate: float):
    """A model, its `restart`, and one epoch of its training; images are no part of the trace, which stays in memory."""
    model, optimizer, restart = restartable(cnn.build, architecture, peak_learning_rate)
    import tensorflow as tf

    def total_loss(images, target):
        return cnn.gaussian_loss(target, model(images)) + tf.add_n(model.losses)

    data = [tf.TensorSpec((None, *model.input_shape[1:])), tf.TensorSpec((None, 1))]

    @tf.function(input_signature=[*data, *data, tf.TensorSpec((None, batch_size), tf.int32)])
    def one_epoch(images, target, validation_images, validation_target, order):
        loss = 0.0
        for rows in order:
            with tf.GradientTape() as tape:
                batch_loss = total_loss(tf.gather(images, rows), tf.gather(target, rows))
            gradients = tape.gradient(batch_loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            loss += batch_loss
        return loss / tf.cast(len(order), tf.float32), total_loss(validation_images, validation_target)

    return model, restart, one_epoch
