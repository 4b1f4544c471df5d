"""Reference statistics of the networks' training set, in a small file beside the networks.

They replace the catalogue where there is none: how far held-out clusters lie from the training set (`novelty`), the
calibration of the classical estimators, the share of galaxies on the rim of the cylinder, and the abundance of haloes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from cluster_tools import cosmology, hdf5, store
from cluster_tools.inference import estimators, novelty, priors, validation
from cluster_tools.mocks import observe
from cluster_tools.networks import dropout

FILE = "reference_statistics.h5"
FORMAT = "cluster_tools reference statistics 1"
COMPONENTS = 32  # principal components of the training images
MAX_HELD_OUT = 300  # clusters for each network
MAX_CALIBRATION = 150  # clusters for the estimators; caustics take a tenth of a second each
MIN_CALIBRATION = 10  # clusters with an estimate, to calibrate an estimator
# Without M-sigma of the whole cylinder, where interlopers dominate the dispersion.
ESTIMATORS = ("M-σ, medium cylinder", "M-σ, shifting gapper", "caustic")
SHRINKAGE = 0.01  # of the covariance of activations, towards a multiple of the identity
RIM = 0.8  # of aperture and velocity cut; galaxies beyond are on the rim of the cylinder


@dataclass(frozen=True)
class ReferenceStatistics:
    """Statistics of the training set of k networks.

    The calibration is intercept, slope and its error (`estimators.MassRegression`) and scatter [dex] of each of
    `ESTIMATORS`. The scatter is half the 16 to 84% range of calibrated minus true masses.
    """

    mean: np.ndarray  #: of the last hidden layer, float32 (k, 64)
    whitening: np.ndarray  #: matrices of this layer, float32 (k, 64, 64); covariances become the identity
    hidden: np.ndarray  #: distances of held-out clusters in this layer, padded with NaN, float32 (k, m)
    components: np.ndarray  #: principal components of training images at unit length, about zero, float32 (c, 2304)
    image: np.ndarray  #: distances of held-out images, from `off_components`, float32 (m,)
    calibration: np.ndarray  #: float64 (estimators, 4)
    rim: np.ndarray  #: share of the training galaxies on the rim in r_proj, and in abs(v_los), float64 (2,)
    prior: np.ndarray  #: log10 M200c [Msun/h] and the log of the halo abundance there, float64 (2, g)

    def write(self, path: Path | str, networks_key: str) -> None:
        """Write the statistics of the ensemble with this key."""
        hdf5.write(path, FORMAT, store.stamp({"networks": networks_key}, folder="weighing"), vars(self))

    @classmethod
    def read(cls, path: Path | str, networks_key: str) -> ReferenceStatistics:
        """Read a file of `write`; `ClusterToolsError` if it is missing, damaged or not of these networks."""
        remedy = "ship the networks again (cluster-tools ship-weights), or install the package again"
        with hdf5.opened(path, FORMAT, remedy) as file:
            store.check_parameters(path, hdf5.provenance(file)["parameters"], {"networks": networks_key}, remedy)
            return cls(*(file[field.name][()] for field in dataclasses.fields(cls)))

    def farther_hidden(self, activations) -> float:
        """Share of the held-out clusters farther from the training set than these activations (k, 64)."""
        distance = np.linalg.norm(np.einsum("ki,kij->kj", activations - self.mean, self.whitening), axis=1)
        return float(np.nansum(self.hidden > distance[:, None]) / np.isfinite(self.hidden).sum())

    def farther_image(self, image) -> float:
        """Share of the held-out images farther from the training images than this one (48, 48)."""
        return float(np.mean(self.image > off_components(image[None], self.components)[0]))

    def calibrated(self, estimator: str, log_m200c: float) -> tuple[float, float]:
        """Calibrated mass [log10 Msun/h] and scatter [dex] for an estimator's published mass; NaN if it has none."""
        *line, scatter = self.calibration[ESTIMATORS.index(estimator)]
        return float(estimators.MassRegression(*line).log_m200c(log_m200c)), float(scatter)


def off_components(images, components) -> np.ndarray:
    """Distances (n,) of images from the subspace of these components: 0 inside, 1 at right angles."""
    unit = novelty.unit(images)
    return np.sqrt(np.maximum(1 - ((unit @ components.T) ** 2).sum(axis=1), 0))


def abundance(ensemble) -> priors.Prior:
    """The halo mass function over an ensemble's range of training masses; it needs colossus."""
    simulation = cosmology.simulation(ensemble.provenance["parameters"].get("simulation"))
    return priors.halo_abundance(simulation, above=ensemble.log_m200c_range[0])


def measure(ensemble, catalog, *, seed: int = 0, progress=None) -> ReferenceStatistics:
    """Measure the training set `catalog` of an ensemble of networks of 2D images, not re-weighted.

    `seed` chooses clusters. `progress` is called with a line of text at each step.
    """
    flat = catalog.select(catalog.in_train)
    rng = np.random.default_rng(seed)
    images = validation.observables(flat, 2)
    means, whitenings, distances = zip(
        *(_hidden(network.weights, images, flat.fold == network.fold, rng) for network in ensemble.networks)
    )
    hidden = np.array(list(zip_longest(*distances, fillvalue=np.nan)), np.float32).T
    held_out = flat.fold == ensemble.networks[0].fold
    # Principal components (c, pixels), about zero, of images and their mirror images in v_los.
    training = images[~held_out]
    unit = novelty.unit(np.concatenate([training, training[:, ::-1]])).astype(np.float32)
    _, vectors = np.linalg.eigh((unit.T @ unit).astype(float))
    components = np.ascontiguousarray(vectors[:, : -COMPONENTS - 1 : -1].T, np.float32)
    if progress:
        progress("training images measured; estimators are calibrated")
    prior = abundance(ensemble)
    return ReferenceStatistics(
        mean=np.array(means, np.float32),
        whitening=np.array(whitenings, np.float32),
        hidden=hidden,
        components=components,
        image=off_components(images[held_out], components).astype(np.float32),
        calibration=_calibration(flat, rng, seed),
        rim=np.array([(flat.r_proj > RIM * observe.APERTURE).mean(),
                      (np.abs(flat.v_los) > RIM * observe.VELOCITY_CUT).mean()]),
        prior=np.array([prior.log_m200c, prior.log_density]),
    )  # fmt: skip


def _hidden(weights, images, held_out, rng):
    """Mean and whitening matrix of the training images' activations, and the distances of held-out images.

    The covariance is shrunk a little, because units that are silent on all training images have no variance.
    """
    training = images[~held_out]
    training = dropout.activations(weights, np.concatenate([training, training[:, ::-1]])).astype(float)
    mean, covariance = training.mean(axis=0), np.cov(training, rowvar=False)
    size = np.trace(covariance) / len(covariance)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * size * np.eye(len(covariance))
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk)).T
    rows = np.flatnonzero(held_out)
    rows = rng.choice(rows, min(len(rows), MAX_HELD_OUT), replace=False)
    activations = dropout.activations(weights, images[rows]).astype(float)
    return mean, whitening, np.linalg.norm((activations - mean) @ whitening, axis=1)


def _calibration(flat, rng, seed) -> np.ndarray:
    """`ReferenceStatistics.calibration`, from some clusters of a flat training set."""
    sample = flat.select(np.sort(rng.choice(len(flat), min(len(flat), MAX_CALIBRATION), replace=False)))
    lines = np.full((len(ESTIMATORS), 4), np.nan)
    for number, name in enumerate(ESTIMATORS):
        published = estimators.log_m200c(name, sample.v_los, sample.r_proj, sample.offsets, seed=seed)
        if np.isfinite(published).sum() >= MIN_CALIBRATION:
            line = estimators.MassRegression.fit(published, sample.log_m200c)
            # All NaN, and so is the scatter, if the line does not rise.
            residual = line.log_m200c(published) - sample.log_m200c
            residual = residual[np.isfinite(residual)]
            low, high = np.percentile(residual, (16, 84)) if len(residual) else (np.nan, np.nan)
            lines[number] = line.intercept, line.slope, line.slope_error, (high - low) / 2
    return lines
