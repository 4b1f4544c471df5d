"""Approximate Bayesian convolutional networks: build, train, draw posteriors, save, load.

Architecture and loss: Ho et al. 2022, Figure 1 and Methods, "Approximate Bayesian Deep Neural
Networks"; Ho et al. 2021. Dropout before every layer, on in training and in prediction alike,
makes each forward pass one draw from an approximate posterior over the weights (Gal &
Ghahramani 2015). The two outputs are mean and log variance of a Gaussian in log mass.
"""

from __future__ import annotations

import io
import json
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.stats import norm

from cluster_tools import paths, store
from cluster_tools.errors import ClusterToolsError
from cluster_tools.machine import one_thread
from cluster_tools.mocks.kde import PIXELS
from cluster_tools.networks import dropout

FORMAT = "cluster_tools ensemble 1"
DESCRIPTION = "ensemble.json"
SHIPPED = "uchuu_2d"  # where, in the package data, the networks of `Ensemble.shipped` lie
# Of `build`: layers, activations, and where Keras stores what has weights.
LAYERS = "InputLayer Rescaling Reshape Dropout Conv1D Dropout Conv1D Flatten Dropout Dense Dropout Dense Dropout Dense"
ACTIVATIONS = ["relu", "relu", "relu", "relu", "linear"]
STORED = ("conv1d", "conv1d_1", "dense", "dense_1", "dense_2")
UNTRAINED = "untrained_{}d.keras"  # in the package data: what `build` saves, with weights of zero


@dataclass(frozen=True)
class Posterior:
    """Predicted log10 M200c [Msun/h] of n clusters.

    Attributes
    ----------
    mean, sigma : float64 arrays (n,), sigma in dex
        Mean, and square root of the total variance: spread of the draws' means plus mean of their
        predicted variances (Ho et al. 2021, eq. 9), over all networks and draws, unless
        `Ensemble.posterior` was asked for the rule of 2019.
    samples : float32 array (n, networks * draws)
        One mass from each draw's Gaussian, at random: samples of the full posterior.
    """

    mean: np.ndarray
    sigma: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class BayesianCNN:
    """What a network of `build` has learnt, in a form that needs no Keras, which takes seconds to start.

    Attributes
    ----------
    weights : float32 arrays
        Kernels and biases in turn, as the Keras model's `get_weights` gives them.
    dropout_rate : from 0 to below 1
    """

    weights: Sequence[np.ndarray]
    dropout_rate: float

    @property
    def input_dim(self) -> int:
        return 1 if self.weights[0].shape[1] == 1 else 2

    @classmethod
    def of(cls, model) -> BayesianCNN:
        """From a Keras model of `build`."""
        rate = next(layer.rate for layer in model.layers if type(layer).__name__ == "Dropout")
        return cls(model.get_weights(), rate)

    def count_params(self) -> int:
        """How many numbers it has learnt, as Keras models tell it."""
        return sum(weight.size for weight in self.weights)

    def layers(self) -> list[dict]:
        """Its layers from first to last, as Keras describes them in a ``.keras`` file."""
        return json.loads(self._untrained_parts()["config.json"])["config"]["layers"]

    def _untrained_parts(self) -> dict[str, bytes]:
        """What Keras saves of `build`, by name, with this dropout and weights of zero."""
        with zipfile.ZipFile(paths.PACKAGE_DATA / UNTRAINED.format(self.input_dim)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(parts["config.json"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Dropout":
                layer["config"]["rate"] = self.dropout_rate
        return parts | {"config.json": json.dumps(config).encode()}

    @classmethod
    def untrained(cls, input_dim: int, *, dropout_rate: float = 0.1, seed: int = 0) -> BayesianCNN:
        """With kernels that are uniform within the limits of Glorot & Bengio (2010), and biases of zero."""
        rng, weights = np.random.default_rng([seed, 0]), []
        for shape in kernels(PIXELS if input_dim == 2 else 1):
            limit = np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
            weights += [rng.uniform(-limit, limit, shape).astype(np.float32), np.zeros(shape[-1], np.float32)]
        return cls(weights, dropout_rate)

    def keras(self):
        """As a Keras model of `build`."""
        model = build(self.input_dim, dropout_rate=self.dropout_rate)
        model.set_weights(self.weights)
        return model

    def save(self, file: Path | str) -> None:
        """Write a ``.keras`` file, as Keras saves the model of `build`."""
        parts = self._untrained_parts()
        content = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(content, "r+") as stored:
            for i, weight in enumerate(self.weights):
                stored[f"layers/{STORED[i // 2]}/vars/{i % 2}"][:] = weight
        parts["model.weights.h5"] = content.getvalue()
        with zipfile.ZipFile(file, "w") as archive:
            for name, part in parts.items():
                archive.writestr(zipfile.ZipInfo(name), part)  # without the time: the same network, the same file

    @classmethod
    def load(cls, file: Path | str) -> BayesianCNN:
        """Read a ``.keras`` file of a model of `build`: numbers only, no code is run, none is there to run.

        Raises `ClusterToolsError` for another network; what a damaged file raises is anything.
        """
        with zipfile.ZipFile(file) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
            content = io.BytesIO(archive.read("model.weights.h5"))
        activations = [layer["config"]["activation"] for layer in layers if "activation" in layer["config"]]
        if " ".join(layer["class_name"] for layer in layers) != LAYERS or activations != ACTIVATIONS:
            raise foreign(file)
        channels, *others = layers[0]["config"]["batch_shape"][2:] or [1]
        with h5py.File(content) as stored:
            weights = [stored[f"layers/{name}/vars/{i}"][()] for name in STORED for i in (0, 1)]
        expected = [shape for kernel in kernels(channels) for shape in (kernel, kernel[-1:])]
        if others or [weight.shape for weight in weights] != expected:
            raise foreign(file)
        return cls(weights, next(layer["config"]["rate"] for layer in layers if layer["class_name"] == "Dropout"))


def kernels(channels: int) -> Sequence[tuple[int, ...]]:
    """Shapes of the kernels of `build`, for images with so many channels: 1 (1D) or 48 (2D)."""
    return (5, channels, 24), (3, 24, 10), (480, 128), (128, 64), (64, 2)


@dataclass(frozen=True)
class Network:
    """One trained network: what it has learnt, the fold it has not seen, and how it learnt.

    `model` is a `BayesianCNN`, or the Keras model of `deep_sets`; both have ``save``.
    """

    model: Any
    fold: int
    seed: int
    history: dict[str, list[float]]


def build(input_dim: int, *, dropout_rate: float = 0.1, seed: int = 0):
    """The untrained Keras model: 70,828 (1D) or 76,468 (2D) parameters.

    The convolutions run along v_los only; in 2D the 48 radii are the channels of the input.
    Images sum to 1; the first layer brings their mean pixel to 1, which sets the scale of the
    gradients and changes no parameter.
    """
    keras = load_keras()
    layers, l2 = keras.layers, keras.regularizers.L2(dropout.L2)
    shape = (PIXELS,) if input_dim == 1 else (PIXELS, PIXELS)
    seeds = iter(range(100 * seed, 100 * seed + 100))

    def drop():
        return layers.Dropout(dropout_rate, seed=next(seeds))

    def glorot():
        return keras.initializers.GlorotUniform(seed=next(seeds))

    def conv(filters, width):
        return layers.Conv1D(filters, width, padding="same", activation="relu",
                             kernel_initializer=glorot(), kernel_regularizer=l2)  # fmt: skip

    def dense(units):
        return layers.Dense(units, activation="relu", kernel_initializer=glorot(), kernel_regularizer=l2)

    images = keras.Input(shape, name="image")
    x = layers.Rescaling(float(PIXELS**input_dim))(images)
    x = layers.Reshape((PIXELS, PIXELS if input_dim == 2 else 1))(x)
    for layer in (conv(24, 5), conv(10, 3)):
        x = layer(drop()(x, training=True))
    x = layers.Flatten()(x)
    for layer in (dense(128), dense(64), layers.Dense(2, kernel_initializer=glorot())):
        x = layer(drop()(x, training=True))
    return keras.Model(images, x, name=f"bayesian_cnn_{input_dim}d")


def gaussian_loss(scaled_mass, prediction):
    """Mean of [(y - mu)^2 exp(-s) + s] / 2, s the log variance: minus the log likelihood."""
    keras = load_keras()
    mu, s = prediction[:, 0], prediction[:, 1]
    return keras.ops.mean((scaled_mass[:, 0] - mu) ** 2 * keras.ops.exp(-s) + s) / 2


@one_thread
def train(
    images, log_m200c, validation_images, validation_log_m200c, *, log_m200c_range, fold=0, epochs=20,
    batch_size=50, dropout_rate=0.1, seed=0, progress=None,
) -> Network:  # fmt: skip
    """Train one network on images and their mirror images in v_los.

    Parameters
    ----------
    images : float32 array (n, 48) or (n, 48, 48)
    log_m200c : array (n,), log10 of M200c in Msun/h
    validation_images, validation_log_m200c : clusters that only the history's ``val_loss`` sees
    log_m200c_range : (low, high), the masses that are scaled to [-1, 1]
    fold : that the training clusters leave out; kept with the network
    seed : of weights, shuffling and dropout
    progress : called with (epoch, loss) after each epoch

    Adam 1e-3, as the authors' code; steps are those of `passes`. Returns a `Network`. It depends on its own
    arguments only, not on what else is trained, nor on how many cores there are.
    """
    images = np.asarray(images, np.float32)
    images = np.concatenate([images, images[:, ::-1]])
    target = np.tile(scaled(log_m200c, log_m200c_range), (2, 1))
    validation_target = scaled(validation_log_m200c, log_m200c_range)
    untrained = BayesianCNN.untrained(images.ndim - 1, seed=seed)
    training = dropout.Training(untrained.weights, dropout_rate=dropout_rate, seed=[seed, 0])
    rng = np.random.default_rng(seed)
    steps = max(len(images) // batch_size, 1)
    history = {"loss": [], "val_loss": []}
    for epoch in range(1, epochs + 1):
        losses = []
        for shown in np.array_split(rng.permutation(len(images))[: steps * batch_size], steps):
            losses.append(training.step(images[shown], target[shown]))
        history["loss"].append(float(np.mean(losses)))
        outputs = dropout.draws(
            training.weights, validation_images, 1, dropout_rate=dropout_rate, seed=[seed, epoch]
        )[:, 0]  # fmt: skip
        history["val_loss"].append(dropout.loss_of(training.weights, outputs, validation_target))
        if progress:
            progress(epoch, history["loss"][-1])
    return Network(BayesianCNN(training.weights, dropout_rate), fold, seed, history)


@dataclass(frozen=True)
class Ensemble:
    """Networks of one kind: one or more for each fold left out.

    Attributes
    ----------
    networks : list of `Network`
    log_m200c_range : the masses [log10 Msun/h] that the networks were trained on
    provenance : the stamp of `store.stamp`
    """

    networks: Sequence[Network]
    log_m200c_range: tuple[float, float]
    provenance: dict

    @property
    def input_dim(self) -> int:
        return self.networks[0].model.input_dim

    def posterior(
        self, images, draws: int = 100, seed: int = 0, *, fold: int | None = None, variance: str = "total"
    ) -> Posterior:
        """Marginalise over dropout and over networks.

        Parameters
        ----------
        images : float32 array (n, 48) or (n, 48, 48), from `kde.phase_space_images`
        draws : forward passes of each network (the paper: 100)
        seed : of the dropout and of the samples
        fold : use only the networks that have not seen this fold; all by default
        variance : "total", the law of total variance over draws and networks; or "mean_of_folds", the
            mean of the folds' variances, as the authors' code of 2019 has it: each fold's posterior is
            moved to the common mean, and how much the folds disagree is left out

        Raises
        ------
        ClusterToolsError
            For images of another shape, draws below 1, a seed below 0, a fold that no network left out,
            or another `variance`.
        """
        if variance not in ("total", "mean_of_folds"):
            raise ClusterToolsError(f"variance is {variance!r}, but 'total' or 'mean_of_folds' is expected.")
        try:
            images = np.asarray(images, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ClusterToolsError(f"images must hold numbers ({error}).") from None
        expected = (PIXELS,) * self.input_dim
        if images.shape[1:] != expected:
            shape = ", ".join(map(str, expected))
            raise ClusterToolsError(f"images has shape {images.shape}, but (n, {shape}) is expected.")
        if not np.isfinite(images).all():
            raise ClusterToolsError("images holds NaN or infinite pixels; make them with kde.phase_space_images.")
        check_draws(draws, seed)
        networks = without_fold(self.networks, fold)
        outputs = [
            dropout.draws(each.model.weights, images, draws, dropout_rate=each.model.dropout_rate, seed=seed + i)
            for i, each in enumerate(networks)
        ]
        mu, log_variance = np.moveaxis(np.concatenate(outputs, axis=1).astype(float), -1, 0)
        low, high = self.log_m200c_range
        to_dex = (high - low) / 2
        mu = low + (mu + 1) * to_dex
        sigma = np.exp(log_variance / 2) * to_dex
        if variance == "mean_of_folds":
            of_fold = np.repeat([network.fold for network in networks], draws)
            common = mu.mean(axis=1, keepdims=True)
            for each in np.unique(of_fold):
                mu[:, of_fold == each] += common - mu[:, of_fold == each].mean(axis=1, keepdims=True)
        # One mass from each draw's Gaussian, at evenly spread quantiles in random order: a hundred
        # independent ones would leave the spread of the samples 7% off.
        quantiles = norm.ppf((np.arange(mu.shape[1]) + 0.5) / mu.shape[1])
        noise = np.random.default_rng(seed).permuted(np.broadcast_to(quantiles, mu.shape), axis=1)
        return Posterior(
            mean=mu.mean(axis=1),
            sigma=np.sqrt(mu.var(axis=1) + (sigma**2).mean(axis=1)),
            samples=(mu + sigma * noise).astype(np.float32),
        )

    def save(self, path: Path | str) -> None:
        """Write a directory: a ``.keras`` file for each network, and last ``ensemble.json``."""
        write(path, self, FORMAT)

    @classmethod
    def shipped(cls) -> Ensemble:
        """The Uchuu 2D networks of all ten folds that come with the package; raises as `load` does."""
        return cls.load(paths.PACKAGE_DATA / SHIPPED)

    @classmethod
    def load(cls, path: Path | str) -> Ensemble:
        """Load a directory that `save` wrote, or its ``ensemble.json``.

        Without Keras, and without running code from a file. Raises `ClusterToolsError`, naming
        the file, for a description or weights that are missing, damaged, or not what was saved.
        """
        return cls(*read(path, FORMAT, BayesianCNN.load))


def check_draws(draws, seed) -> None:
    """Refuse numbers of draws below 1 and seeds below 0, and what is no whole number."""
    for name, value, least in (("draws", draws, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise ClusterToolsError(f"{name} is {value!r}, but a whole number from {least} on is expected.")


def without_fold(networks: Sequence[Network], fold: int | None) -> list[Network]:
    """Those that have not seen this fold; all for None. Refuses a fold that none has left out."""
    found = [network for network in networks if fold is None or network.fold == fold]
    if not found:
        raise ClusterToolsError(
            f"fold is {fold!r}, but the networks left out {sorted({network.fold for network in networks})}."
        )
    return found


REMEDY = "train the network again with `make book` or its chapter, or, if it came with the package, install that again"


def write(path: Path | str, ensemble, form: str) -> None:
    """Write a directory: a ``.keras`` file for each network, and last ``ensemble.json``.

    `ensemble` has networks, log_m200c_range and provenance; `form` names the kind and its version.
    """
    path = Path(path)
    members = []
    for i, network in enumerate(ensemble.networks):
        name = f"fold{network.fold}_network{i}.keras"
        with store.atomic(path / name) as temporary:
            network.model.save(temporary)
        digest = store.file_digest(path / name)
        members.append(
            {"file": name, "digest": digest, "fold": network.fold, "seed": network.seed, "history": network.history}
        )
    description = {"format": form, "log_m200c_range": list(ensemble.log_m200c_range), "networks": members}
    description["provenance"] = ensemble.provenance
    store.write_json(path / DESCRIPTION, {**description, "digest": store.digest(description)})


def read(path: Path | str, form: str, load: Callable) -> tuple[list[Network], tuple[float, float], dict]:
    """Networks, log_m200c_range and provenance from a directory that `write` wrote, or its ``ensemble.json``.

    `load` reads a ``.keras`` file, and refuses networks of another kind. Other refusals are those of `Ensemble.load`.
    """
    path = Path(path)
    path = path.parent if path.name == DESCRIPTION else path
    description = describe(path, form)
    try:
        members = [(m["file"], m["digest"], m["fold"], m["seed"], m["history"]) for m in description["networks"]]
        low, high = description["log_m200c_range"]
        provenance = description["provenance"]
    except (KeyError, TypeError, ValueError):
        raise ClusterToolsError(f"{paths.shown(path / DESCRIPTION)} lacks entries; {REMEDY}.") from None
    networks = []
    for name, digest, fold, seed, history in members:
        file = path / Path(name).name
        if not file.is_file() or store.file_digest(file) != digest:
            state = "is missing" if not file.is_file() else "is not the file that was saved"
            raise ClusterToolsError(f"{paths.shown(file)} {state}; {REMEDY}.")
        try:
            model = load(file)
        except ClusterToolsError:
            raise
        except Exception as error:  # a damaged archive fails in many ways
            reason = type(error).__name__
            raise ClusterToolsError(f"{paths.shown(file)} could not be loaded ({reason}); {REMEDY}.") from None
        networks.append(Network(model, fold, seed, history))
    return networks, (low, high), provenance


def foreign(file: Path | str) -> ClusterToolsError:
    """The refusal of a file with a network of another kind."""
    return ClusterToolsError(f"{paths.shown(file)} holds another network than those of this package; {REMEDY}.")


def describe(path: Path | str, form: str = FORMAT) -> dict:
    """The content of an ensemble's ``ensemble.json``, without loading any network."""
    file = Path(path) / DESCRIPTION
    if not file.is_file():
        raise ClusterToolsError(f"{paths.shown(file)} is missing; {REMEDY}.")
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        description = None
    if not isinstance(description, dict) or description.get("format") != form:
        raise ClusterToolsError(f"{paths.shown(file)} is not a '{form}' description; {REMEDY}.")
    # An edited mass range would move every prediction and leave the weights as they were.
    if description.pop("digest", None) != store.digest(description):
        raise ClusterToolsError(f"{paths.shown(file)} is not as it was saved; {REMEDY}.")
    return description


def device() -> str:
    """Where networks of images are trained and predict: "processor", also beside a GPU; see `passes`."""
    return "processor"


def load_keras():
    """Keras on TensorFlow, without TensorFlow's messages about start-up and tracing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # chapters side by side share a GPU's memory
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    import keras

    return keras


def scaled(log_m200c, log_m200c_range) -> np.ndarray:
    """log10 M200c brought from its range (low, high) to [-1, 1]: float32 array (n, 1)."""
    low, high = log_m200c_range
    return (2 * (np.asarray(log_m200c) - low) / (high - low) - 1).astype(np.float32)[:, None]
