"""Ensembles of convolutional networks: posteriors of masses, and directories on disk.

A directory holds ``ensemble.json`` and, for each network, weights that Keras' ``save_weights`` wrote. They
are read as plain numbers with h5py: nothing in a file is run, and TensorFlow need not start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import h5py
import numpy as np
from scipy.special import ndtri

from cluster_tools import arrays, hdf5, paths, store
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.kde import PIXELS
from cluster_tools.networks import cnn, dropout

DESCRIPTION = "ensemble.json"
SHIPPED = "uchuu_2d"  # directory of the networks in the package's data
MAX_DRAWS = 10_000  # of each network
REMEDY = "train the network again with `make book` or its chapter, or, if it came with the package, install that again"


@dataclass(frozen=True)
class Posterior:
    """Predicted log10 M200c [Msun/h] of n clusters."""

    mean: np.ndarray  #: float64 array (n,)
    #: standard deviation [dex], float64 array (n,); with dropout, `total_sigma` over all networks and draws
    sigma: np.ndarray
    samples: np.ndarray  #: [log10 Msun/h], float32 array (n, networks * draws)


@dataclass(frozen=True)
class Network:
    """One trained network."""

    weights: Sequence[np.ndarray]  #: kernels and biases in turn, float32, as `keras.Model.get_weights` has them
    architecture: cnn.Architecture  #: its layers; a `deep_sets.SetArchitecture` for galaxies
    fold: int  #: fold that training left out
    seed: int  #: seed of its training
    history: dict[str, list[float]]  #: ``loss`` and ``val_loss`` after each epoch

    def __post_init__(self):
        # Weight decay lets the weights of dead units sink to denormal floats, which take a hundred cycles each.
        tiny = np.finfo(np.float32).tiny
        weights = [np.where(np.abs(weight) < tiny, np.float32(0), weight) for weight in self.weights]
        object.__setattr__(self, "weights", weights)

    def count_params(self) -> int:
        """Number of parameters, as `keras.Model.count_params` gives it."""
        return sum(weight.size for weight in self.weights)


@dataclass(frozen=True)
class NetworkEnsemble:
    """Networks of one architecture, one or more for each fold left out; each kind has a method `posterior`."""

    networks: Sequence[Network]
    log_m200c_range: tuple[float, float]  #: range of the masses [log10 Msun/h] of the training set
    provenance: dict  #: stamp of `store.stamp`

    # A kind of networks says how it is named on disk, its type of architecture, and how Keras builds it.
    FORMAT: ClassVar[str]
    ARCHITECTURE: ClassVar[type]
    BUILD: ClassVar[Callable]

    @property
    def architecture(self):
        """Layers of each network."""
        return self.networks[0].architecture

    @property
    def input_dim(self) -> int | str:
        """1 or 2 for images, "sets" or "counted" for galaxies; see `validation.observables`."""
        return self.architecture.input_dim

    def without_fold(self, fold: int | None) -> list[Network]:
        """Networks that left out this fold; all for None."""
        chosen = [network for network in self.networks if fold is None or network.fold == fold]
        if not chosen:
            folds = sorted({network.fold for network in self.networks})
            raise ClusterToolsError(f"fold is {fold!r}, but the networks left out {folds}.")
        return chosen

    def log_masses(self, mu, log_variance) -> tuple[np.ndarray, np.ndarray]:
        """Means [log10 Msun/h] and standard deviations [dex] from `mu` and `log_variance` in the scaled mass."""
        low, high = self.log_m200c_range
        return low + (mu + 1) * (high - low) / 2, np.exp(log_variance / 2) * (high - low) / 2

    def save(self, path: Path | str) -> None:
        """Write a directory: a ``.weights.h5`` file for each network, and last ``ensemble.json``."""
        path, model, members = Path(path), self.BUILD(self.architecture), []
        for i, network in enumerate(self.networks):
            file = path / f"fold{network.fold}_network{i}.weights.h5"
            model.set_weights(network.weights)
            with store.atomic(file) as temporary:
                # HDF5 can crash on a full disk. A file of that size raises OSError there instead.
                temporary.write_bytes(bytes(4 * network.count_params() + 100_000))
                model.save_weights(temporary)
            member = {"file": file.name, "digest": store.file_digest(file)}
            members.append(member | {name: getattr(network, name) for name in ("fold", "seed", "history")})
        description = {
            "format": self.FORMAT, "log_m200c_range": list(self.log_m200c_range),
            "architecture": dataclasses.asdict(self.architecture), "networks": members, "provenance": self.provenance,
        }  # fmt: skip
        store.write_digested(path / DESCRIPTION, description)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a directory that `save` wrote, named by itself or by its ``ensemble.json``.

        Raises `ClusterToolsError` for a description or weights that are missing, damaged, or not those that were saved.
        """
        path = Path(path)
        path = path.parent if path.name == DESCRIPTION else path
        description = cls.describe(path)
        networks = []
        try:
            architecture = cls.ARCHITECTURE(**description["architecture"])
            for member in description["networks"]:
                weights = _read_weights(path / Path(member["file"]).name, member["digest"], architecture.shapes())
                networks.append(Network(weights, architecture, member["fold"], member["seed"], member["history"]))
            low, high = map(float, description["log_m200c_range"])
            if not -np.inf < low < high < np.inf:
                raise ValueError
            return cls(networks, (low, high), description["provenance"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ClusterToolsError(f"{paths.shown(path / DESCRIPTION)} lacks entries; {REMEDY}.") from None

    @classmethod
    def describe(cls, path: Path | str) -> dict:
        """Content of ``ensemble.json`` in a directory; refused if missing, damaged, edited or of another kind."""
        file = Path(path) / DESCRIPTION
        # An edited mass range would move every prediction and leave the weights as they were.
        if (description := store.read_digested(file)) is None:
            state = "is not as it was saved" if file.is_file() else "is missing"
            raise ClusterToolsError(f"{paths.shown(file)} {state}; {REMEDY}.")
        stamp = description.get("provenance")
        parameters = stamp.get("parameters", {}) if isinstance(stamp, dict) else None
        if description.get("format") != cls.FORMAT or not isinstance(parameters, dict):
            raise ClusterToolsError(f"{paths.shown(file)} is not a '{cls.FORMAT}' description; {REMEDY}.")
        return description


class CNNEnsemble(NetworkEnsemble):
    """Convolutional networks; attributes are those of `NetworkEnsemble`."""

    FORMAT, ARCHITECTURE, BUILD = "cluster_tools CNN ensemble 2", cnn.Architecture, staticmethod(cnn.build)

    @classmethod
    def shipped(cls) -> CNNEnsemble:
        """The Uchuu 2D networks in the package, those of the book; raises as `load` does."""
        return cls.load(paths.PACKAGE_DATA / SHIPPED)

    def passes(self, images, draws: int = 100, seed: int = 0, *, fold: int | None = None):
        """Mean [log10 Msun/h] and standard deviation [dex] of each pass with dropout: two arrays (n, passes).

        `images` are (n, 48) or (n, 48, 48), of `kde.phase_space_images`. There are `draws` passes of each network (the
        paper: 100); `seed` is that of dropout. With `fold`, only the networks that left it out are used. Raises
        `ClusterToolsError` for images of another shape, NaN or infinite pixels, draws not in 1 to 10,000, a `seed`
        below 0, or a `fold` that no network left out.
        """
        check_draws(draws, seed)
        networks = self.without_fold(fold)
        images, expected = np.asarray(images, np.float32), [PIXELS] * self.input_dim
        if list(images.shape[1:]) != expected:
            expected = ", ".join(map(str, ["n", *expected]))
            raise ClusterToolsError(f"images has shape {images.shape}, but ({expected}) is expected.")
        if not np.isfinite(images).all():
            raise ClusterToolsError("images holds NaN or infinite pixels; make them with kde.phase_space_images.")
        rate = self.architecture.dropout_rate
        outputs = [
            dropout.draws(network.weights, images, draws, dropout_rate=rate, seed=seed + i)
            for i, network in enumerate(networks)
        ]
        mu, log_variance = np.moveaxis(np.concatenate(outputs, axis=1).astype(float), -1, 0)
        return self.log_masses(mu, log_variance)

    def posterior(self, images, draws: int = 100, seed: int = 0, *, fold: int | None = None) -> Posterior:
        """Moments of all `passes`, whose parameters and errors these are, and a sample of each, drawn by `seed`."""
        mu, sigma = self.passes(images, draws, seed, fold=fold)
        # Samples at evenly spread quantiles: a hundred independent ones would leave their spread 7% off.
        quantiles = ndtri((np.arange(mu.shape[1]) + 0.5) / mu.shape[1])
        noise = np.random.default_rng(seed).permuted(np.broadcast_to(quantiles, mu.shape), axis=1)
        return Posterior(mu.mean(axis=1), total_sigma(mu, sigma), (mu + sigma * noise).astype(np.float32))


def total_sigma(mu, sigma) -> np.ndarray:
    """Root of the total variance [dex] of passes with means `mu` and standard deviations `sigma`, arrays (..., passes).

    The total variance is the variance of the means plus the mean of the variances (Ho et al. 2021, eq. 9).
    """
    return np.sqrt(mu.var(axis=-1) + (sigma**2).mean(axis=-1))


def check_draws(draws, seed) -> None:
    """`ClusterToolsError` unless `draws` is a whole number from 1 to `MAX_DRAWS`, and `seed` one of 0 or more."""
    arrays.check_number("draws", draws, 1, MAX_DRAWS, whole=True)
    arrays.check_number("seed", seed, 0, whole=True)


def scaled(log_m200c, log_m200c_range) -> np.ndarray:
    """log10 M200c (n,) [Msun/h] brought from its range (low, high) to [-1, 1]: float32 array (n, 1)."""
    low, high = log_m200c_range
    return (2 * (np.asarray(log_m200c) - low) / (high - low) - 1).astype(np.float32)[:, None]


def _read_weights(file: Path, digest: str, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Kernels and biases of these shapes, from a file of Keras' ``save_weights``.

    Refused if the file has another digest, other layers, or data outside the file.
    """
    if not file.is_file() or store.file_digest(file) != digest:
        state = "is not the file that was saved" if file.is_file() else "is missing"
        raise ClusterToolsError(f"{paths.shown(file)} {state}; {REMEDY}.")
    ranks = [len(shape) for shape in shapes[::2]]
    layers = [
        f"{kind}_{n}" if n else kind for kind, rank in (("conv1d", 3), ("dense", 2)) for n in range(ranks.count(rank))
    ]
    names = [f"layers/{layer}/vars/{i}" for layer in layers for i in (0, 1)]
    try:
        with h5py.File(file) as stored:
            hdf5.refuse_references(stored)
            weights = [stored[name] for name in names]
            found = [(each.shape, each.dtype.str) for each in weights]
            if found != [(shape, "<f4") for shape in shapes]:
                raise ValueError(f"shapes and types are {found}")
            return [each[()] for each in weights]
    except hdf5.DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        raise ClusterToolsError(f"{paths.shown(file)} holds no weights of this kind ({reason}); {REMEDY}.") from None
