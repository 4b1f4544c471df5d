"""What a mass is held against where there is no catalogue: a small file beside the networks.

For each network, where the activations of its training images lie and how far out those of held-out clusters are, as
in `novelty`; the same for the images themselves; and the classical estimators calibrated on the training set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster_tools import hdf5, store
from cluster_tools.inference import estimators, novelty, validation
from cluster_tools.mocks import observe
from cluster_tools.networks import dropout

FILE = "yardsticks.h5"
FORMAT = "cluster_tools yardsticks 1"
COMPONENTS = 32  # of the training images
MAX_HELD_OUT = 300  # clusters for each network
MAX_CALIBRATION = 150  # clusters for the estimators; caustics take half a second each
FEWEST = 10  # clusters that an estimator must have a mass of, to be calibrated
# Not M-sigma of the whole cylinder: interlopers fill it, and its dispersion says nothing of the mass.
ESTIMATORS = ("M-σ, small cylinder", "M-σ, shifting gapper", "caustic")
EDGE = 0.8  # of the cylinder: beyond lies its rim
DATASETS = ("mean", "whitening", "hidden", "components", "image", "calibration", "rim")


@dataclass(frozen=True)
class Yardsticks:
    """What the networks' training set looks like, for k networks.

    Attributes
    ----------
    mean, whitening : float32 arrays (k, 64), (k, 64, 64), of `novelty.standardisation` in the last hidden layer
    hidden : float32 array (k, m), distances of held-out clusters by them, NaN beyond those there are
    components : float32 array (c, 2304), principal components of the training images at unit length, about zero
    image : float32 array (m,), `off_components` of held-out clusters
    calibration : float64 array (estimators, 4): intercept, slope and its error of `estimators.Calibration`, and
        the scatter [dex]: half the 16 to 84% range of the calibrated masses about the true ones; for `ESTIMATORS`
    rim : float64 array (2,), share of the training galaxies beyond `EDGE` of the largest r_proj, and of abs(v_los)
    """

    mean: np.ndarray
    whitening: np.ndarray
    hidden: np.ndarray
    components: np.ndarray
    image: np.ndarray
    calibration: np.ndarray
    rim: np.ndarray

    def write(self, path: Path | str, networks_key: str) -> None:
        """Write the file, for the ensemble with this key."""
        provenance = store.stamp({"networks": networks_key}, folder="inference")
        with hdf5.create(path, FORMAT, provenance) as file:
            for name in DATASETS:
                file.create_dataset(name, data=getattr(self, name), **hdf5.CHECKED)

    @classmethod
    def read(cls, path: Path | str, networks_key: str) -> Yardsticks:
        """Read what `write` wrote; `ClusterToolsError` if it is missing, damaged or of other networks."""
        remedy = "ship the networks again (cluster-tools ship-weights), or install the package again"
        with hdf5.opened(path, FORMAT, remedy) as file:
            store.check_parameters(path, hdf5.provenance(file)["parameters"], {"networks": networks_key}, remedy)
            return cls(*(file[name][()] for name in DATASETS))

    def farther_hidden(self, activations) -> float:
        """Share of the held-out clusters that lie farther out than an image with these activations (k, 64)."""
        distance = np.linalg.norm(np.einsum("ki,kij->kj", activations - self.mean, self.whitening), axis=1)
        return float(np.nansum(self.hidden > distance[:, None]) / np.isfinite(self.hidden).sum())

    def farther_image(self, image) -> float:
        """Share of the held-out clusters that lie farther out than an image (48, 48)."""
        return float(np.mean(self.image > off_components(np.array([image]), self.components)[0]))

    def calibrated(self, estimator: str, log_m200c: float) -> tuple[float, float]:
        """Calibrated mass [log10 Msun/h] from the published one of an estimator, and its scatter [dex]; or NaN."""
        *line, scatter = self.calibration[ESTIMATORS.index(estimator)]
        return float(estimators.Calibration(*line).log_m200c(log_m200c)), float(scatter)


def off_components(images, components) -> np.ndarray:
    """How far images lie from the plane of these components: 0 (in it) to 1 (at right angles), float array (n,)."""
    unit = novelty.unit(images)
    return np.sqrt(np.maximum(1 - ((unit @ components.T) ** 2).sum(axis=1), 0))


def make(ensemble, catalog, *, seed: int = 0, progress=None) -> Yardsticks:
    """Measure the training set of an ensemble.

    Parameters
    ----------
    ensemble : `ensembles.CNNEnsemble` of 2D images, not re-weighted
    catalog : `catalogs.MockCatalog` that it was trained on
    seed : of the choice of clusters
    progress : called with a line of text now and then
    """
    flat = catalog.select(catalog.in_train)
    rng = np.random.default_rng(seed)
    images = validation.images(flat, 2)
    found = [_hidden(network.weights, images, flat.fold == network.fold, rng) for network in ensemble.networks]
    hidden = np.full((len(found), max(len(held) for *_, held in found)), np.nan, np.float32)
    for row, (*_, held) in zip(hidden, found, strict=True):
        row[: len(held)] = held
    held_out = flat.fold == ensemble.networks[0].fold
    components = _components(images[~held_out])
    if progress:
        progress("training images measured; estimators are calibrated")
    return Yardsticks(
        mean=np.array([mean for mean, *_ in found], np.float32),
        whitening=np.array([whitening for _, whitening, _ in found], np.float32),
        hidden=hidden,
        components=components,
        image=off_components(images[held_out], components).astype(np.float32),
        calibration=_calibration(flat, rng, seed),
        rim=np.array([np.mean(flat.r_proj > EDGE * observe.APERTURE),
                      np.mean(np.abs(flat.v_los) > EDGE * observe.VELOCITY_CUT)]),
    )  # fmt: skip


def _hidden(weights, images, held_out, rng):
    """Mean and whitening matrix of the training images' activations, and the distances of held-out images."""

    def activations(some):
        return dropout.without_dropout(weights, some)[0].astype(float)

    seen = images[~held_out]
    mean, whitening = novelty.standardisation(activations(np.concatenate([seen, seen[:, ::-1]])))
    rows = np.flatnonzero(held_out)
    rows = rng.choice(rows, min(len(rows), MAX_HELD_OUT), replace=False)
    return mean, whitening, np.linalg.norm((activations(images[rows]) - mean) @ whitening, axis=1)


def _components(images) -> np.ndarray:
    """Principal components (c, pixels), about zero, of images and their mirror images in v_los."""
    unit = novelty.unit(np.concatenate([images, images[:, ::-1]])).astype(np.float32)
    _, vectors = np.linalg.eigh((unit.T @ unit).astype(float))
    return np.ascontiguousarray(vectors[:, : -COMPONENTS - 1 : -1].T, np.float32)


def _calibration(flat, rng, seed) -> np.ndarray:
    rows = np.sort(rng.choice(len(flat), min(len(flat), MAX_CALIBRATION), replace=False))
    some, lines = flat.select(rows), []
    for name in ESTIMATORS:
        published = estimators.log_m200c(name, some.v_los, some.r_proj, some.offsets, seed=seed)
        if np.isfinite(published).sum() < FEWEST:
            lines.append((np.nan, np.nan, np.nan, np.nan))
            continue
        line = estimators.fit(published, some.log_m200c)
        residual = line.log_m200c(published) - some.log_m200c
        residual = residual[np.isfinite(residual)]  # NaN all of them, if the line is too flat
        lo, hi = np.percentile(residual, (16, 84)) if len(residual) else (np.nan, np.nan)
        lines.append((line.intercept, line.slope, line.slope_error, (hi - lo) / 2))
    return np.array(lines)
