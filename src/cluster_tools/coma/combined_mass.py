"""One mass of Coma from several models, with its errors, and priors for it.

Models err alike on a cluster, because they read the same galaxies. So their masses are combined with the covariance of
their residuals on synthetic clusters of Coma's mass. Masses are log10 M200c [Msun/h], errors in dex.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import nnls
from scipy.stats import norm

from cluster_tools import cosmology
from cluster_tools.inference import priors, validation
from cluster_tools.inference.validation import Predictions
from cluster_tools.mocks import kde

HALF_BIN = 0.15  # dex about the masses: the paper's uncertainty of Coma's mass
FEWEST_ROWS = 20  # test clusters, to measure the covariance of eight models; small boxes have none so heavy


@dataclass(frozen=True)
class CombinedMass:
    """A weighted mean of the masses of n models, less their bias at that mass."""

    mean: float  #: [log10 Msun/h]
    statistical: float  #: from the scatter of the test clusters [dex]
    systematic: float  #: from variations of the analysis [dex]
    weights: np.ndarray  #: of the models, which add up to 1, array (n,)
    bias: np.ndarray  #: mean residuals of the models, which were subtracted [dex], array (n,)
    covariance: np.ndarray  #: of the models' residuals [dex^2], array (n, n)
    clusters: int  #: different test clusters behind bias and covariance

    @property
    def sigma(self) -> float:
        """Statistical and systematic error in quadrature [dex]."""
        return float(np.hypot(self.statistical, self.systematic))

    def under(self, prior: priors.Prior) -> tuple[float, float]:
        """Mean [log10 Msun/h] and standard deviation [dex] of the mass under a prior, for a Gaussian likelihood."""
        samples = self.mean + self.sigma * norm.ppf((np.arange(1000) + 0.5) / 1000)
        posterior = priors.reweighted([self.mean], [self.sigma], samples[None], prior)
        return float(posterior.mean[0]), float(posterior.sigma[0])


def combine(means, predictions: Sequence[Predictions], systematic: float = 0.0) -> CombinedMass:
    """The combination of least variance of the masses `means` (n,) of n models, with this `systematic` error [dex].

    `predictions` are those of the n models for the same test clusters, in any order. Bias and covariance are measured
    on the clusters `near` the mean of the masses; weights are not negative. Raises `ClusterToolsError` if the models
    predicted different clusters.
    """
    predictions = validation.aligned(predictions)
    first = predictions[0]
    rows = near(first.log_m200c, np.mean(means))
    residuals = np.array([p.residual[rows] for p in predictions])
    covariance = np.atleast_2d(np.cov(residuals))
    # w'Cw is least with w >= 0; the last row holds the sum at 1.
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance))).T
    weights, _ = nnls(np.vstack([root, np.full(len(root), 1e3)]), np.append(np.zeros(len(root)), 1e3))
    weights /= weights.sum()
    bias = residuals.mean(axis=1)
    clusters = {*zip(first.simulation[rows].tolist(), first.cluster[rows].tolist())}
    statistical = float(np.sqrt(weights @ covariance @ weights))
    mean = float(weights @ (np.asarray(means) - bias))
    return CombinedMass(mean, statistical, systematic, weights, bias, covariance, len(clusters))


def near(log_m200c, mass: float) -> np.ndarray:
    """Row numbers of clusters within `HALF_BIN` of `mass` [log10 Msun/h], but at least of the `FEWEST_ROWS` nearest."""
    distance = np.abs(np.asarray(log_m200c) - mass)
    return np.argsort(distance, kind="stable")[: max((distance < HALF_BIN).sum(), FEWEST_ROWS)]


def systematic_error(variations: DataFrame) -> float:
    """Root mean square shift of Coma's mass [dex] by variations, less their errors in quadrature; 0 if negative.

    `variations` has columns `shift` and `shift_error` [dex], as the rows of `robustness.summary`.
    """
    square = (variations["shift"] ** 2 - variations["shift_error"].fillna(0.0) ** 2).mean()
    return float(np.sqrt(max(square, 0.0)))


def heaviest_halo(sim: cosmology.Simulation, volume: float) -> priors.Prior:
    """Prior of the heaviest halo in a `volume` [(Mpc/h)^3], over the training masses of a simulation.

    Its density is n(m) exp(-V N(>m)), with the halo mass function n and its integral N: one halo of that mass, and none
    above it. Clustering is left out.
    """
    abundance = priors.halo_abundance(sim)
    density = np.exp(abundance.log_density)
    below = cumulative_trapezoid(density, abundance.log_m200c, initial=0)
    above = below[-1] - below  # haloes beyond the training masses are too rare to count
    return priors.Prior(abundance.log_m200c, abundance.log_density - volume * above)


def coma_volume() -> float:
    """Volume of the sphere around us out to Coma [(comoving Mpc/h)^3]."""
    return float(4 / 3 * np.pi * cosmology.comoving_distance(cosmology.COMA_REDSHIFT) ** 3)


def image_with_profile_of(sample, r_proj) -> np.ndarray:
    """Coma's image (48, 48) with its galaxies weighted to the radial profile of other galaxies.

    `sample` is a table of `survey.load_sample`, `r_proj` are radii [comoving Mpc/h], as of mock clusters.
    """
    offsets = np.array([0, len(sample)])
    weights = kde.radial_weights(sample["r_proj"].value, offsets, r_proj)
    return kde.phase_space_images(sample["v_los"].value, sample["r_proj"].value, offsets, weights=weights)[0]
