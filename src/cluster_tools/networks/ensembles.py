"""Ensembles of convolutional networks: posteriors of masses, and directories on disk.

A directory holds ``ensemble.json`` and, for each network, weights that Keras' ``save_weights`` wrote. They
are read as plain numbers with h5py: nothing in a file is run, and TensorFlow need not start.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.stats import norm

from cluster_tools import hdf5, paths, store
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.kde import PIXELS
from cluster_tools.networks import cnn, dropout

FORMAT = "cluster_tools CNN ensemble 2"
DESCRIPTION = "ensemble.json"
SHIPPED = "uchuu_2d"  # directory of the networks in the package's data
REMEDY = "train the network again with `make book` or its chapter, or, if it came with the package, install that again"


@dataclass(frozen=True)
class Posterior:
    """Predicted log10 M200c [Msun/h] of n clusters.

    Attributes
    ----------
    mean, sigma : float64 arrays (n,)
        Mean, and square root of the total variance [dex]: spread of the draws' means plus mean of their
        predicted variances (Ho et al. 2021, eq. 9), over all networks and draws.
    samples : float32 array (n, networks * draws)
        Samples of the full posterior, one from each draw's Gaussian, in random order.
    """

    mean: np.ndarray
    sigma: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class Network:
    """One trained network.

    Attributes
    ----------
    weights : list of float32 array
        Kernels and biases in turn, in the order of `keras.Model.get_weights`.
    architecture : cnn.Architecture or deep_sets.SetArchitecture
        Its layers.
    fold : int
        The fold that training left out.
    seed : int
        Seed of its training.
    history : dict of list of float
        ``loss`` and ``val_loss`` after each epoch.
    """

    weights: Sequence[np.ndarray]
    architecture: cnn.Architecture
    fold: int
    seed: int
    history: dict[str, list[float]]

    def __post_init__(self):
        object.__setattr__(self, "weights", dropout.without_denormals(self.weights))

    def count_params(self) -> int:
        """Number of parameters, as `keras.Model.count_params` gives it."""
        return sum(weight.size for weight in self.weights)


@dataclass(frozen=True)
class CNNEnsemble:
    """Convolutional networks of one architecture, one or more for each fold left out.

    Attributes
    ----------
    networks : list of Network
    log_m200c_range : (float, float)
        Masses [log10 Msun/h] that the networks were trained on.
    provenance : dict
        Stamp of `store.stamp`.
    """

    networks: Sequence[Network]
    log_m200c_range: tuple[float, float]
    provenance: dict

    @property
    def architecture(self) -> cnn.Architecture:
        """Layers of each network."""
        return self.networks[0].architecture

    @property
    def input_dim(self) -> int:
        """1 for images of v_los, 2 for images of v_los and r_proj."""
        return self.architecture.input_dim

    def posterior(
        self, images, draws: int = 100, seed: int = 0, *, fold: int | None = None, variance: str = "total"
    ) -> Posterior:
        """Marginalise over dropout and over networks.

        Parameters
        ----------
        images : float32 array (n, 48) or (n, 48, 48)
            From `kde.phase_space_images`.
        draws : int
            Forward passes of each network (the paper: 100).
        seed : int
            Seed of dropout and samples.
        fold : int, optional
            Use only the networks that left out this fold; all by default.
        variance : str
            "total": law of total variance over draws and networks. "mean_of_folds": mean of the folds'
            variances, as in the authors' code of 2019: each fold's draws move to the common mean, and the
            spread between folds is left out.

        Returns
        -------
        Posterior

        Raises
        ------
        ClusterToolsError
            For images of another shape, NaN or infinite pixels, draws below 1, a seed below 0, a fold that no
            network left out, or another `variance`.
        """
        if variance not in ("total", "mean_of_folds"):
            raise ClusterToolsError(f"variance is {variance!r}, but 'total' or 'mean_of_folds' is expected.")
        images = _checked_images(images, self.input_dim)
        check_draws(draws, seed)
        networks = without_fold(self.networks, fold)
        rate = self.architecture.dropout_rate
        outputs = [
            dropout.draws(network.weights, images, draws, dropout_rate=rate, seed=seed + i)
            for i, network in enumerate(networks)
        ]
        mu, log_variance = np.moveaxis(np.concatenate(outputs, axis=1).astype(float), -1, 0)
        low, high = self.log_m200c_range
        dex = (high - low) / 2
        mu, sigma = low + (mu + 1) * dex, np.exp(log_variance / 2) * dex
        if variance == "mean_of_folds":
            fold_of_draw = np.repeat([network.fold for network in networks], draws)
            common = mu.mean(axis=1, keepdims=True)
            for each in np.unique(fold_of_draw):
                mu[:, fold_of_draw == each] += common - mu[:, fold_of_draw == each].mean(axis=1, keepdims=True)
        # Samples at evenly spread quantiles: a hundred independent ones would leave their spread 7% off.
        quantiles = norm.ppf((np.arange(mu.shape[1]) + 0.5) / mu.shape[1])
        noise = np.random.default_rng(seed).permuted(np.broadcast_to(quantiles, mu.shape), axis=1)
        return Posterior(
            mean=mu.mean(axis=1),
            sigma=np.sqrt(mu.var(axis=1) + (sigma**2).mean(axis=1)),
            samples=(mu + sigma * noise).astype(np.float32),
        )

    def save(self, path: Path | str) -> None:
        """Write a directory: a ``.weights.h5`` file for each network, and last ``ensemble.json``."""
        write(path, self, FORMAT, cnn.build)

    @classmethod
    def load(cls, path: Path | str) -> CNNEnsemble:
        """Read a directory that `save` wrote.

        Parameters
        ----------
        path : Path or str
            The directory, or its ``ensemble.json``.

        Returns
        -------
        CNNEnsemble

        Raises
        ------
        ClusterToolsError
            For a description or weights that are missing, damaged, or not those that were saved.
        """
        return cls(*read(path, FORMAT, cnn.Architecture))

    @classmethod
    def shipped(cls) -> CNNEnsemble:
        """The Uchuu 2D networks of all ten folds in the package; raises as `load` does."""
        return cls.load(paths.PACKAGE_DATA / SHIPPED)


def _checked_images(images, input_dim: int) -> np.ndarray:
    try:
        images = np.asarray(images, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ClusterToolsError(f"images must hold numbers ({error}).") from None
    if images.shape[1:] != (PIXELS,) * input_dim:
        expected = ", ".join(["n", *[str(PIXELS)] * input_dim])
        raise ClusterToolsError(f"images has shape {images.shape}, but ({expected}) is expected.")
    if not np.isfinite(images).all():
        raise ClusterToolsError("images holds NaN or infinite pixels; make them with kde.phase_space_images.")
    return images


def check_draws(draws, seed) -> None:
    """Refuse draws below 1, seeds below 0, and numbers that are not whole."""
    for name, value, minimum in (("draws", draws, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or value < minimum:
            raise ClusterToolsError(f"{name} is {value!r}, but a whole number of {minimum} or more is expected.")


def without_fold(networks: Sequence[Network], fold: int | None) -> list[Network]:
    """Networks that left out this fold; all for None."""
    chosen = [network for network in networks if fold is None or network.fold == fold]
    if not chosen:
        folds = sorted({network.fold for network in networks})
        raise ClusterToolsError(f"fold is {fold!r}, but the networks left out {folds}.")
    return chosen


def scaled(log_m200c, log_m200c_range) -> np.ndarray:
    """log10 M200c brought from its range (low, high) to [-1, 1]: float32 array (n, 1)."""
    low, high = log_m200c_range
    return (2 * (np.asarray(log_m200c) - low) / (high - low) - 1).astype(np.float32)[:, None]


def write(path: Path | str, ensemble, form: str, build: Callable) -> None:
    """Write a directory with the weights of each network, as Keras saves them, and last ``ensemble.json``.

    `form` names the kind of ensemble and its version; `build(architecture)` makes a Keras model.
    """
    path = Path(path)
    model = build(ensemble.architecture)
    members = []
    for i, network in enumerate(ensemble.networks):
        file = path / f"fold{network.fold}_network{i}.weights.h5"
        model.set_weights(network.weights)
        with store.atomic(file) as temporary:
            # HDF5 can crash on a full disk. A file of that size raises OSError there instead.
            temporary.write_bytes(bytes(4 * network.count_params() + 100_000))
            model.save_weights(temporary)
        members.append(
            {"file": file.name, "digest": store.file_digest(file)}
            | {name: getattr(network, name) for name in ("fold", "seed", "history")}
        )
    description = {
        "format": form,
        "log_m200c_range": list(ensemble.log_m200c_range),
        "architecture": dataclasses.asdict(ensemble.architecture),
        "networks": members,
        "provenance": ensemble.provenance,
    }
    store.write_json(path / DESCRIPTION, {**description, "digest": store.digest(description)})


def describe(path: Path | str, form: str = FORMAT) -> dict:
    """Content of an ensemble's ``ensemble.json``; refused if it is missing, damaged, edited or of another kind."""
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


def read(path: Path | str, form: str, architecture_type: type) -> tuple[list[Network], tuple[float, float], dict]:
    """Networks, log_m200c_range and provenance of a directory that `write` wrote; raises as `CNNEnsemble.load`."""
    path = Path(path)
    path = path.parent if path.name == DESCRIPTION else path
    description = describe(path, form)
    try:
        architecture = architecture_type(**description["architecture"])
        members = [(m["file"], m["digest"], m["fold"], m["seed"], m["history"]) for m in description["networks"]]
        low, high = description["log_m200c_range"]
        provenance = description["provenance"]
    except (KeyError, TypeError, ValueError):
        raise ClusterToolsError(f"{paths.shown(path / DESCRIPTION)} lacks entries; {REMEDY}.") from None
    networks = []
    for name, digest, fold, seed, history in members:
        file = path / Path(name).name
        if not file.is_file() or store.file_digest(file) != digest:
            state = "is not the file that was saved" if file.is_file() else "is missing"
            raise ClusterToolsError(f"{paths.shown(file)} {state}; {REMEDY}.")
        networks.append(Network(read_weights(file, architecture.shapes()), architecture, fold, seed, history))
    return networks, (low, high), provenance


def read_weights(file: Path, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Kernels and biases of these shapes, from a file of Keras' ``save_weights``.

    Raises
    ------
    ClusterToolsError
        For a file that is damaged, has other layers, or refers to data outside it.
    """
    ranks = [len(shape) for shape in shapes[::2]]
    names = [
        f"{kind}_{n}" if n else kind for kind, rank in (("conv1d", 3), ("dense", 2)) for n in range(ranks.count(rank))
    ]
    try:
        with h5py.File(file) as stored:
            link = stored.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name)
            if link:
                raise ValueError(f"{link} is a link to other data")
            paths_inside = [f"layers/{name}/vars/{i}" for name in names for i in (0, 1)]
            return [_array(stored, path, shape) for path, shape in zip(paths_inside, shapes, strict=True)]
    except hdf5.DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        raise ClusterToolsError(
            f"{paths.shown(file)} holds no weights of this architecture ({reason}); {REMEDY}."
        ) from None


def _array(stored, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 dataset of this shape in the file itself; ValueError otherwise."""
    dataset = stored[name]
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} refers to other files")
    if dataset.shape != shape or dataset.dtype != np.float32:
        raise ValueError(f"{name} has shape {dataset.shape} and type {dataset.dtype}, not {shape} and float32")
    return dataset[()]
