"""Training and MC-dropout draws against plain Keras, on the same made-up clusters, in one run on one thread.

The plain way is `model.fit` for each fold, with the same epochs and batches, on the images and their mirror
images, and `model.predict(np.repeat(images, draws, axis=0))`. Besides seconds and their ratio, it prints the
loss of the clusters left out, dropout on, by both ways and seeds, and how much of the processor's speed in a
large product of matrices is reached. `python benchmarks/bench_networks.py --help`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402

from cluster_tools import cli, kde, machine, networks, passes  # noqa: E402

MASS_RANGE = (14.0, 15.25)
GALAXIES, FOLDS = 60, 10
# Multiplications and additions of a pass: two convolutions at 48 velocities, three dense layers.
OPERATIONS = {dim: 2 * (48 * (5 * channels * 24 + 72 * 10) + 480 * 128 + 128 * 64 + 128)
              for dim, channels in ((1, 1), (2, 48))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="How long training and draws take, beside plain Keras.")
    parser.add_argument("--input-dim", type=int, choices=(1, 2), default=2)
    parser.add_argument("--clusters", type=int, default=1000, help="of the training set, with all folds")
    parser.add_argument("--folds", type=int, default=2, help="left out in turn, of ten")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--full", action="store_true", help="scale of the book: 7,700 clusters, ten folds, 20 epochs")
    options = parser.parse_args()
    if options.full:
        options.clusters, options.folds, options.epochs = 7700, FOLDS, 20

    about = machine.description()
    print(f"{about['cpu']}, one thread of {cli.cores()} cores, load {os.getloadavg()[0]:.1f} before")
    peak = peak_speed()
    print(f"product of two 1500 x 1500 matrices: {peak / 1e9:.0f} GFLOP/s\n")
    images, log_m200c = clusters(options.clusters, options.input_dim)
    for of_keras in (False, True):  # compile, trace
        train(images[:150], log_m200c[:150], 0, 1, of_keras=of_keras)
    compare_training(images, log_m200c, options, peak)
    compare_draws(images[: options.clusters // 20], options, peak)


def compare_training(images, log_m200c, options, peak) -> None:
    """Train each fold both ways; print how long, and the losses."""
    seconds, losses = {}, {}
    for name in ("model.fit", "ours"):
        started = time.process_time()
        models = [
            train(images, log_m200c, fold, options.epochs, of_keras=name != "ours") for fold in range(options.folds)
        ]
        seconds[name] = time.process_time() - started
        losses[name] = [validation_loss(model, images, log_m200c, fold) for fold, model in enumerate(models)]
    shown = sum(2 * (np.arange(len(images)) % FOLDS != fold).sum() for fold in range(options.folds)) * options.epochs
    # Backwards, each product happens twice more, but for the first convolution's: images need no gradient.
    first = 48 * 5 * (48 if images.ndim == 3 else 1) * 24 * 2
    work = shown * (3 * OPERATIONS[images.ndim - 1] - first)
    what = f"{options.folds} folds of a {images.ndim - 1}D model, {options.epochs} epochs of {len(images)} clusters"
    report(what, seconds, work, peak)
    print("  loss of the clusters left out, by fold, each its own seed:")
    for name, each in losses.items():
        print(f"  {name:<20}{np.mean(each):8.3f}: " + " ".join(f"{loss:.3f}" for loss in each))
    print()


def compare_draws(images, options, peak) -> None:
    """Draw from one network, untrained, which takes as long; print how long, and how far apart the ways are.

    `predict` of the book's Keras models switches dropout off, so that it does less than is asked for: a
    bound. The plain way with dropout is the compiled model on as many images at once as `predict` takes.
    """
    import tensorflow as tf

    model = networks.build(images.ndim - 1, seed=1)
    one = networks.Ensemble([networks.Network(model, 0, 1, {})], MASS_RANGE, {})
    compiled, repeated = tf.function(model), np.repeat(images, options.draws, axis=0)
    repeated = repeated[: len(repeated) // 32 * 32].reshape(-1, 32, *images.shape[1:])
    one.posterior(images[:2], draws=2)
    compiled(repeated[0])
    model.predict(images[:2], verbose=0)
    seconds = {}
    for name, way in {
        "predict, no dropout": lambda: model.predict(np.concatenate(repeated), verbose=0),
        "Keras": lambda: np.concatenate([compiled(batch).numpy() for batch in repeated]),
        "ours": lambda: one.posterior(images, draws=options.draws),
    }.items():
        started = time.process_time()
        found = way()
        seconds[name] = time.process_time() - started
        if name == "Keras":
            theirs = found
    work = len(images) * options.draws * OPERATIONS[images.ndim - 1]
    report(f"{options.draws} draws of {len(images)} clusters", seconds, work, peak)
    to_dex = (MASS_RANGE[1] - MASS_RANGE[0]) / 2
    whole = len(theirs) // options.draws
    mu = MASS_RANGE[0] + (theirs[: whole * options.draws, 0].reshape(whole, -1) + 1) * to_dex
    apart = np.sqrt(np.mean((found.mean[:whole] - mu.mean(axis=1)) ** 2))
    expected = np.sqrt(2 * mu.var(axis=1).mean() / options.draws)
    print(f"  means are {apart:.4f} dex apart (rms); {expected:.4f} is what so few draws leave")


def report(what: str, seconds: dict[str, float], work: float, peak: float) -> None:
    """How long each way took, the last one being ours, and at what speed."""
    print(f"{what}, processor time:")
    *_, ours = seconds.values()
    for name, each in seconds.items():
        speed = work / each
        print(f"  {name:<20}{each:8.2f} s  {speed / 1e9:5.1f} GFLOP/s, {speed / peak:4.0%} of the product"
              + (f"   ours {each / ours:.1f} times as fast" if each != ours else ""))  # fmt: skip


def train(images, log_m200c, fold: int, epochs: int, *, of_keras: bool):
    """The model trained without a fold, whose number is also the seed."""
    held_out = np.arange(len(images)) % FOLDS == fold
    some, mass = images[~held_out], log_m200c[~held_out]
    if not of_keras:
        return networks.train(
            some, mass, some[:1], mass[:1], log_m200c_range=MASS_RANGE, epochs=epochs, seed=fold
        ).model
    keras = networks.load_keras()
    keras.utils.set_random_seed(fold)
    model = networks.build(images.ndim - 1, seed=fold)
    model.compile(keras.optimizers.Adam(1e-3), networks.gaussian_loss, jit_compile=False)
    target = networks.scaled(np.tile(mass, 2), MASS_RANGE)
    model.fit(np.concatenate([some, some[:, ::-1]]), target, batch_size=50, epochs=epochs, verbose=0)
    return model


def validation_loss(model, images, log_m200c, fold: int) -> float:
    """Of the clusters left out, over 20 draws."""
    held_out = np.arange(len(images)) % FOLDS == fold
    outputs = passes.draws(model.get_weights(), images[held_out], 20, dropout_rate=0.1, seed=1).reshape(-1, 2)
    target = np.repeat(networks.scaled(log_m200c[held_out], MASS_RANGE), 20, axis=0)
    return passes.loss_of(model.get_weights(), outputs, target)


def clusters(n: int, input_dim: int):
    """Images of `GALAXIES` galaxies each, whose velocities tell the mass by their dispersion, and the masses."""
    rng = np.random.default_rng(1)
    log_m200c = rng.uniform(*MASS_RANGE, n)
    v_los = (rng.normal(size=(n, GALAXIES)) * 1000 * 10 ** ((log_m200c[:, None] - 15) / 3)).ravel()
    r_proj = rng.uniform(0, kde.APERTURE, n * GALAXIES)
    return kde.phase_space_images(v_los, r_proj, GALAXIES * np.arange(n + 1), input_dim=input_dim), log_m200c


def peak_speed() -> float:
    """Operations a second in a product of matrices, the best of five."""
    a = np.ones((1500, 1500), np.float32)
    best = np.inf
    for _ in range(5):
        started = time.process_time()
        a @ a
        best = min(best, time.process_time() - started)
    return 2 * 1500**3 / best


if __name__ == "__main__":
    main()
