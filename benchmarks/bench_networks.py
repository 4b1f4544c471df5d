"""Training and draws, beside plain Keras on the same made-up clusters.

The losses that training ends with are compared on clusters left out, over 20 draws each: the two ways start from
the same weights, but shuffle and drop out differently, so that they agree within the scatter from seed to seed.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import mocks
import numpy as np
import plain
import pytest

from cluster_tools.machine import SINGLE_THREADED
from cluster_tools.mocks import kde
from cluster_tools.networks import cnn, dropout, ensembles, training

pytestmark = pytest.mark.benchmark(timer=time.process_time)

FOLDS, DRAWS, EPOCHS = 10, 100, 8
# Multiplications and additions of a pass: two convolutions at 48 velocities, three dense layers.
OPERATIONS = {dim: 2 * (kde.PIXELS * (5 * channels * 24 + 72 * 10) + 480 * 128 + 128 * 64 + 128)
              for dim, channels in ((1, 1), (2, kde.PIXELS))}  # fmt: skip
# Backwards, each product happens twice more, but for the first convolution's: images need no gradient.
OF_TRAINING = {dim: 3 * OPERATIONS[dim] - 2 * kde.PIXELS * 5 * channels * 24 for dim, channels in ((1, 1), (2, 48))}


@pytest.mark.parametrize("clusters", (10, 50, 250))
def bench_draws(measure, speed, way, clusters):
    """`model.predict` on each image a hundred times, which leaves dropout out: it does less than is asked for."""
    images, _ = mocks.images(clusters, 2)
    model, ensemble = untrained()
    expected = dropout.draws(model.get_weights(), images, 1, dropout_rate=0.0, seed=1)
    np.testing.assert_allclose(plain.predict(model, images, 1), expected, rtol=0, atol=1e-3)
    ensemble.posterior(images[:2], draws=2)
    ways = {"plain": lambda: plain.predict(model, images, DRAWS),
            "ours": lambda: ensemble.posterior(images, draws=DRAWS)}  # fmt: skip
    measure("draws", way, ways[way], growth="clusters", rounds=2, limit=limit_of_draws(clusters, speed),
            clusters=clusters, draws=DRAWS)  # fmt: skip


def bench_draws_compiled(measure, speed, way):
    """A compiled Keras model with dropout, as many images at once as `model.predict` takes."""
    import tensorflow as tf

    images, _ = mocks.images(50, 2)
    model, ensemble = untrained()
    compiled = tf.function(model, input_signature=[tf.TensorSpec((None, kde.PIXELS, kde.PIXELS))])
    compiled(images[:2])
    ensemble.posterior(images[:2], draws=2)
    ways = {"plain": lambda: plain.compiled_passes(compiled, images, DRAWS),
            "ours": lambda: ensemble.posterior(images, draws=DRAWS)}  # fmt: skip
    measure("draws_compiled", way, ways[way], same=same_mean, rounds=2, limit=limit_of_draws(50, speed),
            clusters=50, draws=DRAWS)  # fmt: skip


def bench_ten_folds(measure, speed, way):
    """Ten folds of one 2D model, one after another."""
    ten_folds(measure, speed, way, "ten_folds", 1000, EPOCHS)


def bench_ten_folds_of_the_book(full, measure, speed, way):
    ten_folds(measure, speed, way, "ten_folds_of_the_book", 7700, 20)


def ten_folds(measure, speed, way, stage, clusters, epochs):
    images, log_m200c = mocks.images(clusters, 2)
    train(way, images[:150], log_m200c[:150], 0, 1)  # compiles
    shown = 2 * (FOLDS - 1) * clusters * epochs
    measure(stage, way, lambda: [train(way, images, log_m200c, fold, epochs) for fold in range(FOLDS)],
            same=lambda *both: same_losses(*both, images, log_m200c), limit=shown * OF_TRAINING[2] / speed["float32"],
            clusters=clusters, folds=FOLDS, epochs=epochs)  # fmt: skip


@pytest.mark.parametrize("clusters", (250, 1000, 4000))
def bench_training(measure, speed, way, clusters):
    """One network, 3 epochs."""
    images, log_m200c = mocks.images(clusters, 2)
    train(way, images[:150], log_m200c[:150], 0, 1)  # compiles
    shown = 2 * (clusters - len(range(0, clusters, FOLDS))) * 3
    measure("training", way, lambda: train(way, images, log_m200c, 0, 3), growth="clusters",
            limit=shown * OF_TRAINING[2] / speed["float32"], clusters=clusters, epochs=3)  # fmt: skip


@pytest.mark.benchmark(timer=time.perf_counter)
def bench_eight_models(measure, speed, way):
    """Four models of either kind: Keras' one after another with all cores, ours two side by side with a core each.

    Processes are started, and have compiled, before the clock: in the book they live for minutes.
    """
    models = [(way, input_dim, seed) for input_dim in (2, 1) for seed in range(4)]
    with workers(way) as pool:
        list(pool.map(train_one, [(way, 2, 0, 150, 1)] * 2))
        shown = 2 * 900 * EPOCHS * 4
        measure("eight_models", way, lambda: list(pool.map(train_one, [(*model, 1000, EPOCHS) for model in models])),
                same=lambda *both: {f"losses_{dim}d": within_scatter(*(losses[part] for losses in both))
                                    for dim, part in ((2, slice(4)), (1, slice(4, 8)))},
                limit=shown * (OF_TRAINING[1] + OF_TRAINING[2]) / speed["float32"] / 2,
                clusters=1000, models=8, epochs=EPOCHS)  # fmt: skip


def workers(way: str) -> ProcessPoolExecutor:
    """Two processes of one thread; or one with as many threads as TensorFlow likes."""
    threads = str(os.cpu_count()) if way == "plain" else "1"
    os.environ.update({variable: threads for variable in SINGLE_THREADED if variable.endswith("_THREADS")})
    # TensorFlow does not survive a fork.
    return ProcessPoolExecutor(1 if way == "plain" else 2, mp_context=multiprocessing.get_context("spawn"))


def train_one(task) -> float:
    """Train a model in a process of its own; return its loss of the clusters left out."""
    way, input_dim, seed, clusters, epochs = task
    images, log_m200c = mocks.images(clusters, input_dim)
    return validation_loss(train(way, images, log_m200c, seed, epochs), images, log_m200c, seed)


def train(way, images, log_m200c, fold: int, epochs: int):
    """The model trained without a fold, whose number is also the seed."""
    held_out = np.arange(len(images)) % FOLDS == fold
    some, mass = images[~held_out], log_m200c[~held_out]
    if way == "plain":
        return plain.fit(some, mass, mocks.MASS_RANGE, epochs=epochs, seed=fold).get_weights()
    settings = {"log_m200c_range": mocks.MASS_RANGE, "epochs": epochs, "seed": fold}
    return training.train(some, mass, some[:1], mass[:1], **settings).weights


def validation_loss(weights, images, log_m200c, fold: int) -> float:
    """Of the clusters left out, over 20 draws."""
    held_out = np.arange(len(images)) % FOLDS == fold
    outputs = dropout.draws(weights, images[held_out], 20, dropout_rate=0.1, seed=1).reshape(-1, 2)
    mu, s = outputs.astype(float).T
    target = np.repeat(ensembles.scaled(log_m200c[held_out], mocks.MASS_RANGE), 20)
    return float(np.mean((target - mu) ** 2 * np.exp(-s) + s) / 2)


def same_losses(theirs, ours, images, log_m200c) -> dict:
    losses = [[validation_loss(model, images, log_m200c, fold) for fold, model in enumerate(models)]
              for models in (theirs, ours)]  # fmt: skip
    return {"losses": within_scatter(*losses)}


def within_scatter(theirs, ours) -> dict:
    """Refuse means that are further apart than three times what the scatter from seed to seed makes of them."""
    mean, scatter = np.mean([theirs, ours], axis=1), np.std([theirs, ours], axis=1, ddof=1)
    if abs(mean[1] - mean[0]) > 3 * np.hypot(*scatter) / np.sqrt(len(ours)):
        raise AssertionError(f"losses of the clusters left out: {theirs} by Keras, {ours} by ours")
    return {"plain": [float(mean[0]), float(scatter[0])], "ours": [float(mean[1]), float(scatter[1])]}


def same_mean(theirs, ours) -> None:
    """The means over draws differ by no more than so few draws make them."""
    low, high = mocks.MASS_RANGE
    mu = low + (theirs[..., 0] + 1) * (high - low) / 2
    apart, expected = ours.mean - mu.mean(axis=1), np.sqrt(2 * mu.var(axis=1).mean() / DRAWS)
    if np.sqrt(np.mean(apart**2)) > 2 * expected:
        raise AssertionError(f"means are {apart} dex apart, where {expected} is to be expected")


def untrained():
    """A network that has not learnt, which takes as long, and the ensemble of it alone."""
    architecture = cnn.Architecture(2)
    model = cnn.build(architecture, seed=1)
    network = ensembles.Network(model.get_weights(), architecture, 0, 1, {})
    return model, ensembles.CNNEnsemble([network], mocks.MASS_RANGE, {})


def limit_of_draws(clusters: int, speed) -> float:
    return clusters * DRAWS * OPERATIONS[2] / speed["float32"]
