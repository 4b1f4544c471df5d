"""Training of one convolutional network on images and their mirror images."""

from __future__ import annotations

import gc

import numpy as np

from cluster_tools.networks import cnn
from cluster_tools.networks.ensembles import Network, scaled


def train(
    images, log_m200c, validation_images, validation_log_m200c, *, log_m200c_range, architecture=None, fold=0,
    epochs=40, batch_size=100, peak_learning_rate=1.5e-3, decay=True, seed=0, progress=None,
) -> Network:  # fmt: skip
    """Train one network on images and their mirror images in v_los, on a GPU where TensorFlow finds one.

    Adam's step size falls as a cosine from `peak_learning_rate` to 0 over all steps, or stays, without `decay`. On a
    processor, the network depends on the arguments only.

    Parameters
    ----------
    images : float32 array (n, 48) or (n, 48, 48)
        Training images, axes [v_los, r_proj].
    log_m200c : array (n,)
        Their log10 M200c [Msun/h].
    validation_images, validation_log_m200c : arrays (m, ...) and (m,)
        Clusters that only the history's ``val_loss`` uses.
    log_m200c_range : (float, float)
        Masses [log10 Msun/h] that are scaled to -1 and 1.
    architecture : cnn.Architecture, optional
        By default the paper's, for images of this dimension.
    fold : int
        Fold that the training clusters leave out; kept with the network.
    epochs, batch_size : int
        Passes over all images, and images in one step.
    peak_learning_rate : float
        First step size of Adam.
    decay : bool
        Whether the step size falls.
    seed : int
        Seed of first weights, order of the images and dropout.
    progress : callable, optional
        Called with (epoch, loss) after each epoch.

    Returns
    -------
    ensembles.Network
        Its history holds ``loss`` and ``val_loss`` of each epoch, dropout and L2 penalty included.
    """
    keras = cnn.load_keras()
    import tensorflow as tf

    images = np.asarray(images, np.float32)
    images = tf.constant(np.concatenate([images, images[:, ::-1]]))
    target = tf.constant(np.tile(scaled(log_m200c, log_m200c_range), (2, 1)))
    validation_images = tf.constant(validation_images, tf.float32)
    validation_target = tf.constant(scaled(validation_log_m200c, log_m200c_range))
    architecture = architecture or cnn.Architecture(len(images.shape) - 1)
    batch_size = min(batch_size, len(images))
    steps = len(images) // batch_size
    model = cnn.build(architecture, seed)
    schedule = keras.optimizers.schedules.CosineDecay(peak_learning_rate, epochs * steps)
    optimizer = keras.optimizers.Adam(schedule if decay else peak_learning_rate)
    optimizer.build(model.trainable_variables)

    def total_loss(batch, masses):
        return cnn.gaussian_loss(masses, model(batch)) + tf.add_n(model.losses)

    @tf.function
    def one_epoch(order):
        loss = 0.0
        for step in tf.range(steps):
            rows = order[step]
            with tf.GradientTape() as tape:
                batch_loss = total_loss(tf.gather(images, rows), tf.gather(target, rows))
            gradients = tape.gradient(batch_loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            loss += batch_loss / steps
        return loss, total_loss(validation_images, validation_target)

    rng = np.random.default_rng(seed)
    history = {"loss": [], "val_loss": []}
    for epoch in range(epochs):
        order = rng.permutation(len(images))[: steps * batch_size].reshape(steps, batch_size)
        losses = one_epoch(tf.constant(order, tf.int32))
        for name, loss in zip(history, losses):
            history[name].append(float(loss))
        if progress:
            progress(epoch + 1, history["loss"][-1])
    network = Network(model.get_weights(), architecture, fold, seed, history)
    # A traced function refers to itself: without this, a process that trains many networks keeps all their images.
    del one_epoch
    gc.collect()
    return network
