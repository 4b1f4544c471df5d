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

from cluster_tools import cli, kde, networks, passes  # noqa: E402

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

    machine = cli.machine()
    print(f"{machine['cpu']}, one thread of {cli.cores()} cores, load {os.getloadavg()[0]:.1f} before")
    peak = peak_speed()
    print(f"product of two 1500 x 1500 matrices: {peak / 1e9:.0f} GFLOP/s\n")
    images, log_m200c = clusters(options.clusters, options.input_dim)
    for of_keras in (False, True):  # compile, trace
        train(images[:150], log_m200c[:150], 0, 1, of_keras=of_keras)
    compare_training(images, log_m200c, options, peak)
    compare_draws(images[: options.clusters // 20], options, peak)


def compare_training(images, log_m200c, options, peak) -> None:
    """Train each fold both ways; print how long, and the losses."""
    seconds, losses, model = {}, {}, None
    for of_keras in (True, False):
        started = time.process_time()
        models = [train(images, log_m200c, fold, options.epochs, of_keras=of_keras) for fold in range(options.folds)]
        seconds[of_keras] = time.process_time() - started
        losses[of_keras] = [validation_loss(model, images, log_m200c, fold) for fold, model in enumerate(models)]
    shown = sum(2 * (np.arange(len(images)) % FOLDS != fold).sum() for fold in range(options.folds)) * options.epochs
    # Backwards, each product happens twice more, but for the first convolution's: images need no gradient.
    first = 48 * 5 * (48 if images.ndim == 3 else 1) * 24 * 2
    work = shown * (3 * OPERATIONS[images.ndim - 1] - first)
    report(f"{options.folds} folds of a {images.ndim - 1}D model, {options.epochs} epochs of {len(images)} clusters",
           "model.fit", seconds, work, peak)  # fmt: skip
    for of_keras, name in ((True, "model.fit"), (False, "ours")):
        print(f"  loss of the clusters left out, {name:<10} {np.mean(losses[of_keras]):.3f}, by fold and seed "
              + " ".join(f"{loss:.3f}" for loss in losses[of_keras]))  # fmt: skip
    print()


def compare_draws(images, options, peak) -> None:
    """Draw both ways from one network, untrained, which takes as long; print how long, and how far apart they are."""
    model = networks.build(images.ndim - 1, seed=1)
    one = networks.Ensemble([networks.Network(model, 0, 1, {})], MASS_RANGE, {})
    one.posterior(images[:2], draws=2)
    model.predict(images[:2], verbose=0)
    started = time.process_time()
    theirs = model.predict(np.repeat(images, options.draws, axis=0), verbose=0).reshape(len(images), -1, 2)
    seconds = {True: time.process_time() - started}
    started = time.process_time()
    found = one.posterior(images, draws=options.draws)
    seconds[False] = time.process_time() - started
    work = len(images) * options.draws * OPERATIONS[images.ndim - 1]
    report(f"{options.draws} draws of {len(images)} clusters", "predict", seconds, work, peak)
    low, high = MASS_RANGE
    mean = low + (theirs[..., 0].mean(axis=1) + 1) * (high - low) / 2
    print(f"  means differ by {np.sqrt(np.mean((found.mean - mean) ** 2)):.4f} dex (rms), "
          f"of which draws explain {(high - low) / 2 * np.sqrt(2 * theirs[..., 0].var(axis=1).mean() / options.draws):.4f}")  # fmt: skip  # noqa: E501


def report(what: str, plain: str, seconds: dict, work: float, peak: float) -> None:
    print(f"{what}: processor time")
    for of_keras, name in ((True, plain), (False, "ours")):
        speed = work / seconds[of_keras]
        print(f"  {name:<10} {seconds[of_keras]:8.2f} s  {speed / 1e9:5.1f} GFLOP/s, {speed / peak:4.0%} of the product"
              f"   {seconds[True] / seconds[of_keras]:4.1f} times as fast")  # fmt: skip


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
