"""Calibration of posteriors: diagnostics, and a recalibration fitted to other clusters.

A posterior is calibrated if the truth lies below its p-quantile with probability p, for every p.
Errors are bootstrapped by cluster, because the lines of sight of one cluster share its mass and galaxies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference.validation import Predictions, aligned, percentiles

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 200
BINS = 10  # of the histogram of the probability integral transform
LEVELS = np.arange(1, 20) / 20  # credible levels, 5% to 95%
PIVOT = 14.3  # log10 Msun/h, where the straight lines of a `Recalibration` are anchored


def pit(predictions: Predictions) -> np.ndarray:
    """Probability integral transform: the share of each posterior below the true mass, float64 array (n,).

    It is uniform from 0 to 1 if the posteriors are calibrated (Talts et al. 2018, arXiv:1804.06788). The i-th lowest of
    k samples has the level (i - 1/2) / k; a truth beyond all samples gets the middle of the remaining probability.
    """
    k = predictions.samples.shape[1]
    levels, left = (np.arange(k) + 0.5) / k, 0.25 / k
    truth_and_samples = zip(predictions.log_m200c, np.sort(predictions.samples, axis=1), strict=True)
    return np.array([np.interp(m, samples, levels, left, 1 - left) for m, samples in truth_and_samples])


def gaussian_pit(predictions: Predictions) -> np.ndarray:
    """Probability integral transform of Gaussians with the predicted mean and sigma, float64 array (n,)."""
    return ndtr((predictions.log_m200c - predictions.mean) / predictions.sigma)


def coverage(pit, levels) -> np.ndarray:
    """Share (m,) of clusters whose true mass lies in the central interval of each level (m,), from their `pit` (n,)."""
    return (np.abs(2 * np.asarray(pit)[:, None] - 1) <= np.asarray(levels)).mean(axis=0)


def expected_coverage(predictions: Predictions, levels, *, seed: int) -> np.ndarray:
    """Expected coverage of TARP's regions at each level (Lemos et al. 2023, arXiv:2302.03026).

    A region is the interval about a reference mass that holds a share `level` of the posterior.
    References are uniform within 3 sigma of the predicted mean: the test has its full power only if
    they depend on the data. The bootstrap of ``tarp`` is not used: it ignores which rows share a cluster.
    """
    import tarp

    offset = np.random.default_rng(seed).uniform(-3, 3, len(predictions.mean))  # [sigma]
    references = predictions.mean + offset * predictions.sigma
    shares, credibility = tarp.get_tarp_coverage(
        predictions.samples.T[..., None].astype(float), predictions.log_m200c[:, None], references[:, None],
        num_alpha_bins=predictions.samples.shape[1], seed=seed,
    )  # fmt: skip
    return np.interp(levels, credibility, shares)


def bootstrap(statistic: Callable, clusters, *, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Values of a statistic for bootstrap samples of clusters, float64 array (resamples, ...).

    Clusters are drawn with repetition, each with all its rows; `clusters` (n,) are those of the rows.
    `statistic` takes row numbers. The standard deviation of its values is its error.
    """
    _, number, count = np.unique(clusters, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(count)[:-1])
    draws = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    return np.array([statistic(np.concatenate([rows[i] for i in drawn])) for drawn in draws])


def with_errors(statistic: Callable, clusters, *, seed: int, resamples: int = RESAMPLES) -> dict:
    """Values that `statistic` names in a dict, and their bootstrap errors as ``<name>_error``; see `bootstrap`."""
    samples = bootstrap(statistic, clusters, seed=seed, resamples=resamples)
    values = statistic(np.arange(len(clusters)))
    return values | {f"{name}_error": np.std([sample[name] for sample in samples], axis=0) for name in values}


def diagnose(predictions: Predictions, *, seed: int, resamples: int = RESAMPLES) -> SimpleNamespace:
    """Calibration of one simulation's posteriors; `seed` is that of the bootstrap and of TARP's references.

    Arrays are ``levels`` (m,), ``histogram``, the density of `pit` (BINS,), ideally 1, ``covered`` and ``expected``,
    `coverage` and `expected_coverage` (m,), ideally the levels. Each but the first has an error, as ``covered_error``.
    """
    transform = pit(predictions)

    def statistic(rows):
        return {
            "histogram": np.histogram(transform[rows], bins=BINS, range=(0, 1), density=True)[0],
            "covered": coverage(transform[rows], LEVELS),
            "expected": expected_coverage(predictions.select(rows), LEVELS, seed=seed),
        }

    errors = with_errors(statistic, predictions.cluster, seed=seed, resamples=resamples)
    return SimpleNamespace(levels=LEVELS, **errors)


def in_bins(predictions: Predictions, values, bins: int | Sequence[float] = 1, *, seed: int) -> pd.DataFrame:
    """Bias, scatter and coverage in bins of `values` (n,), such as mass, predicted mass or richness.

    Rows are those of one simulation. `bins` are edges, or a number of bins that hold equally many rows. Bins with less
    than 10 clusters are left out, or fewer are made; if none is left, one bin holds all rows. `seed`: see `bootstrap`.
    Columns are ``middle``, the median of the values, ``clusters``, ``median`` and ``half_width`` of the
    residual [dex] and ``inside``, the share of true masses in the central 68% interval, with ``_error``.
    """
    import pandas as pd

    inside, residual = np.abs(2 * pit(predictions) - 1) <= 0.68, predictions.residual
    lines, order = [], np.argsort(values, kind="stable")
    if isinstance(bins, int):
        parts = np.array_split(order, max(1, min(bins, len(np.unique(predictions.cluster)) // 10)))
    else:
        parts = np.split(order, np.searchsorted(values[order], bins))[1:-1]
        parts = [rows for rows in parts if len(np.unique(predictions.cluster[rows])) >= 10] or [order]
    for rows in parts:

        def statistic(drawn, residual=residual[rows], inside=inside[rows]):
            width = percentiles(residual[drawn])
            return {"median": width["median"], "half_width": width["half_width"], "inside": inside[drawn].mean()}

        clusters = predictions.cluster[rows]
        line = {"middle": np.median(values[rows]), "clusters": len(np.unique(clusters))}
        lines.append(line | with_errors(statistic, clusters, seed=seed))
    return pd.DataFrame(lines)


def half_width_difference(
    first: Sequence[Predictions], second: Sequence[Predictions], *, seed: int
) -> tuple[float, float]:
    """Mean half-width of the residuals of some networks less that of others [dex], and its error.

    `first` and `second` each have the predictions of two or more networks that differ in their seeds, for the same
    clusters. The error has two parts: the scatter from seed to seed, and a bootstrap of clusters, the same for all
    networks. Raises `ClusterToolsError` for single networks, and if rows differ.
    """
    sizes = (len(first), len(second))
    if min(sizes) < 2:
        raise ClusterToolsError(f"there are {sizes} networks, but two or more of each kind are expected.")
    networks = aligned([*first, *second])

    def half_widths(rows):
        return np.array([percentiles(each.residual[rows])["half_width"] for each in networks])

    share = np.repeat([1 / sizes[0], -1 / sizes[1]], sizes)
    clusters = np.unique([networks[0].simulation, networks[0].cluster.astype(str)], axis=1, return_inverse=True)[1]
    values = half_widths(slice(None))
    from_clusters = bootstrap(half_widths, clusters, seed=seed) @ share
    from_seeds = sum(part.var(ddof=1) / len(part) for part in np.split(values, [sizes[0]]))
    return float(values @ share), float(np.sqrt(from_clusters.var() + from_seeds))


@dataclass(frozen=True)
class Recalibration:
    """Correction of posteriors by straight lines in the predicted mass.

    With x = mean - `PIVOT`, ``shift + slope * x`` [dex] is added to the mass, and sigma is multiplied by
    ``factor * exp(growth * x)``. Each is a number, or an array (n,) with one for each cluster.
    """

    shift: float | np.ndarray
    slope: float | np.ndarray
    factor: float | np.ndarray
    growth: float | np.ndarray

    @classmethod
    def fit(cls, held_out: Predictions) -> Recalibration:
        """Recalibration of greatest likelihood on predictions of other clusters; `ClusterToolsError` below 5 rows.

        The truth is taken as Gaussian about the corrected mean with the corrected sigma (Platt scaling for
        regression, Kuleshov et al. 2018, arXiv:1807.00263).
        """
        from scipy.optimize import minimize  # starts slowly

        if len(held_out.mean) < 5:
            raise ClusterToolsError(
                f"there are {len(held_out.mean)} other clusters, but 5 are needed; use a larger box, or raise max_test."
            )
        offset, x = -held_out.residual, held_out.mean - PIVOT

        def minus_log_likelihood(parameters):
            shift, slope, log_factor, growth = parameters
            log_sigma = np.log(held_out.sigma) + log_factor + growth * x
            return np.mean(((offset - shift - slope * x) * np.exp(-log_sigma)) ** 2 / 2 + log_sigma)

        best = minimize(minus_log_likelihood, [np.mean(offset), 0.0, 0.0, 0.0]).x
        shift, slope, log_factor, growth = map(float, best)
        return cls(shift, slope, float(np.exp(log_factor)), growth)

    def __call__(self, predictions: Predictions) -> Predictions:
        """Predictions with corrected mean, sigma and samples."""
        x = predictions.mean - PIVOT
        mean = predictions.mean + self.shift + self.slope * x
        factor = self.factor * np.exp(self.growth * x)
        samples = (mean + factor * (predictions.samples.T - predictions.mean)).T.astype(np.float32)
        return dataclasses.replace(predictions, mean=mean, sigma=factor * predictions.sigma, samples=samples)


def cross_fitted(predictions: Predictions, simulation: str, *, seed: int) -> Predictions:
    """Predictions recalibrated, none of them by its own cluster.

    Test clusters of `simulation`, that of the training, are split at random into halves. The fit to one recalibrates
    the other, and the clusters of the other simulation with the numbers of that other half. Held-out rows of the flat
    set would constrain the fits less: weighted to the abundance of the test set, most of them count little.
    """
    own = predictions.tested_on(simulation)
    # Not by odd and even numbers: clusters are numbered by mass, and so are folds.
    half = np.random.default_rng(seed).permutation(predictions.cluster.max() + 1) % 2
    fits = [dataclasses.astuple(Recalibration.fit(own.select(half[own.cluster] == other))) for other in (1, 0)]
    return Recalibration(*np.array(fits)[half[predictions.cluster]].T)(predictions)
