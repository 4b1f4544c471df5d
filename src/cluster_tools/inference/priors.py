"""Posteriors under another prior: from the flat one of the training set to the halo mass function.

A network trained on masses flat in log10 M200c gives, up to a constant, the likelihood over that range. Times
dn/dlog M, normalised, it is the posterior of a cluster that was picked without regard to its mass.

A posterior is known by its mean, sigma and samples. Importance weights of a hundred samples would rest on the few
in the lower tail. So the density is the Gaussian of mean and sigma, times a smooth correction from the samples
(Hjort & Glad 1995, Ann. Statist. 23, 882). For a Gaussian this is exact, however far the prior pulls.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from cluster_tools.cosmology import Simulation
from cluster_tools.inference.validation import Predictions
from cluster_tools.networks.ensembles import Posterior

CELLS = 300  # of the mass grid of each posterior
GRID_SIGMAS = 8.0  # half-width of that grid, in sigma
BINS = 50  # of the correction to the Gaussian, in its quantiles
SMOOTHING = 0.5  # times k^(-1/5), of k samples: kernel widths shrink so (Silverman 1986)


@dataclass(frozen=True)
class Prior:
    """Density per dex of mass up to a constant, log-linear between rising masses and zero beyond the ends.

    `halo_abundance` computes one with colossus; ``Prior(log_m200c, log_density)`` takes a stored grid.
    """

    log_m200c: np.ndarray  #: [log10 Msun/h], float64 array (g,)
    log_density: np.ndarray  #: natural log of the density, float64 array (g,)


def halo_abundance(sim: Simulation, above: float | None = None) -> Prior:
    """Halo mass function of a simulation over its training masses (Tinker et al. 2008), by colossus.

    `above` is another lower end [log10 Msun/h]: that of a wider training set, or of a sample with a limit.
    """
    from cluster_tools.universe import synthetic

    low, high = sim.log_m200c_range
    log_m200c = np.linspace(low if above is None else above, high, 201)
    return Prior(log_m200c, np.log(synthetic.halo_mass_function(sim, log_m200c)))


def reweighted(mean, sigma, samples, prior: Prior) -> Posterior:
    """Posteriors under `prior` instead of a flat one; new samples are rising, evenly spread quantiles.

    Under the flat prior, n posteriors have `mean` [log10 Msun/h] (n,), `sigma` [dex] (n,) and `samples` (n, k).
    The range of `prior` must lie within the flat one. With 100 draws of a network whose sigma is 0.3 dex, the means
    agree with those of the mixture of all draws' Gaussians to 0.006 dex r.m.s.; with importance weights, to 0.016.
    """
    mean, sigma, samples = (np.asarray(array, float) for array in (mean, sigma, samples))
    low, high = prior.log_m200c[[0, -1]]
    # The grid covers posterior and prior, and is never empty.
    first = np.maximum(low, np.minimum(mean - GRID_SIGMAS * sigma, high - sigma))[:, None]
    last = np.minimum(high, np.maximum(mean + GRID_SIGMAS * sigma, low + sigma))[:, None]
    edge = first + (last - first) * np.linspace(0, 1, CELLS + 1)
    mass = (edge[:, 1:] + edge[:, :-1]) / 2
    z = (mass - mean[:, None]) / sigma[:, None]
    log_density = -(z**2) / 2 + _log_correction((samples - mean[:, None]) / sigma[:, None], z)
    log_density += np.interp(mass, prior.log_m200c, prior.log_density)
    weight = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    new_mean = (weight * mass).sum(axis=1)
    new_sigma = np.sqrt((weight * (mass - new_mean[:, None]) ** 2).sum(axis=1))
    below = np.pad(np.cumsum(weight, axis=1), ((0, 0), (1, 0)))
    levels = (np.arange(samples.shape[1]) + 0.5) / samples.shape[1]
    new_samples = [np.interp(levels, *row) for row in zip(below, edge, strict=True)]
    return Posterior(new_mean, new_sigma, np.array(new_samples, np.float32))


def corrected(predictions: Predictions, prior: Prior) -> Predictions:
    """Predictions of networks under another prior than the flat one."""
    under_prior = reweighted(predictions.mean, predictions.sigma, predictions.samples, prior)
    return dataclasses.replace(predictions, **vars(under_prior))


def quantiles(samples, levels=(0.16, 0.5, 0.84)) -> np.ndarray:
    """Quantiles (n, levels) of posteriors with samples (n, k): the i-th lowest has the level (i - 1/2) / k."""
    return np.quantile(np.asarray(samples, float), levels, axis=1, method="hazen").T


def _log_correction(z_samples, z) -> np.ndarray:
    """Log of the density of the samples over the Gaussian's, at `z`; both (n, ...) in units of sigma.

    In the quantiles of the Gaussian, u = Phi(z), this ratio is the density of the samples.
    """
    from scipy.ndimage import gaussian_filter1d  # starts slowly

    n, k = z_samples.shape
    bin_of = np.minimum((ndtr(z_samples) * BINS).astype(int), BINS - 1)
    counts = np.bincount((bin_of + BINS * np.arange(n)[:, None]).ravel(), minlength=n * BINS).reshape(n, BINS)
    ratio = gaussian_filter1d(counts * (BINS / k), SMOOTHING * k**-0.2 * BINS, axis=1, mode="reflect", truncate=6)
    return np.take_along_axis(np.log(ratio), np.minimum((ndtr(z) * BINS).astype(int), BINS - 1), axis=1)
