"""Whether posteriors mean what they say, and what to do if they do not.

A posterior is calibrated if the truth lies below its p-quantile with probability p, for every p.
All errors are bootstrapped by cluster, because the three lines of sight of one cluster share its
mass and its galaxies. The functions take `validation.Predictions`, of networks or corrected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 200
BINS = 10  # of the histogram of the probability integral transform
LEVELS = np.arange(1, 20) / 20  # 5% to 95%
MIDDLE = 14.3  # log10 Msun/h, where the straight lines of a `Recalibration` are anchored


def pit(predictions) -> np.ndarray:
    """Probability integral transform (n,): how much of each posterior lies below the truth, 0 to 1.

    Evenly distributed if the posteriors are calibrated (Talts et al. 2018, arXiv:1804.06788). The
    i-th lowest of k samples stands for (i + 1/2) / k, with straight lines in between.
    """
    k = predictions.samples.shape[1]
    levels = (np.arange(k) + 0.5) / k
    ordered = np.sort(predictions.samples, axis=1)
    # Beyond all samples, the truth is put into the middle of what is left.
    ends = {"left": 0.25 / k, "right": 1 - 0.25 / k}
    return np.array([np.interp(m, row, levels, **ends) for m, row in zip(predictions.log_m200c, ordered, strict=True)])


def coverage(pit, levels) -> np.ndarray:
    """Share of clusters whose true mass lies in the central interval of each level, from their `pit`."""
    return (np.abs(2 * np.asarray(pit)[:, None] - 1) <= np.asarray(levels)).mean(axis=0)


def expected_coverage(predictions, levels, *, seed: int) -> np.ndarray:
    """Expected coverage of TARP's regions at each level (Lemos et al. 2023, arXiv:2302.03026).

    A region holds all masses closer to a reference mass than a share `level` of the posterior.
    References are drawn evenly within 3 sigma of the predicted mean: only those that depend on
    the data give the test its full power. Computed by ``tarp``, without its own bootstrap, which
    draws lines of sight one by one, changes the arrays it is given, and with a seed draws the same
    one each time.
    """
    import tarp

    reach = np.random.default_rng(seed).uniform(-3, 3, len(predictions.mean))
    references = predictions.mean + reach * predictions.sigma
    found, level = tarp.get_tarp_coverage(
        predictions.samples.T[..., None].astype(float), predictions.log_m200c[:, None], references[:, None],
        num_alpha_bins=predictions.samples.shape[1], seed=seed,
    )  # fmt: skip
    return np.interp(levels, level, found)


def bootstrap(statistic: Callable, clusters, *, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """A statistic of resampled clusters, array (resamples, ...); its standard deviation is the error.

    Parameters
    ----------
    statistic : called with row numbers, with repetitions; returns a number or an array
    clusters : array (n,), the cluster that each row shows: its rows are drawn together
    seed : of the draws
    """
    _, number, count = np.unique(clusters, return_inverse=True, return_counts=True)
    by_cluster, first = np.argsort(number, kind="stable"), np.cumsum(count) - count
    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = rng.integers(len(count), size=len(count))
        many = count[drawn]  # rows of each cluster that is drawn; they are neighbours in `by_cluster`
        place = np.arange(many.sum()) + np.repeat(first[drawn] - (np.cumsum(many) - many), many)
        found.append(statistic(by_cluster[place]))
    return np.array(found)


@dataclass(frozen=True)
class Diagnosis:
    """How calibrated posteriors are, with bootstrap errors; if perfectly, `histogram` is 1 and the others `levels`.

    levels (m,), credible levels; histogram (BINS,), density of `pit`; covered (m,), see `coverage`;
    expected (m,), see `expected_coverage`; each with its ``_error``.
    """

    levels: np.ndarray
    histogram: np.ndarray
    histogram_error: np.ndarray
    covered: np.ndarray
    covered_error: np.ndarray
    expected: np.ndarray
    expected_error: np.ndarray


def diagnose(predictions, levels=LEVELS, *, seed: int, resamples: int = RESAMPLES) -> Diagnosis:
    """All that this module measures on predictions of one simulation.

    Parameters
    ----------
    predictions : `validation.Predictions`
    levels : credible levels between 0 and 1, array (m,)
    seed : of the bootstrap and of TARP's references
    resamples : of the bootstrap
    """
    transformed, levels = pit(predictions), np.asarray(levels, float)

    def statistic(rows):
        histogram = np.histogram(transformed[rows], bins=BINS, range=(0, 1), density=True)[0]
        expected = expected_coverage(predictions.select(rows), levels, seed=seed)
        return np.concatenate([histogram, coverage(transformed[rows], levels), expected])

    parts = np.cumsum([BINS, len(levels)])
    values = np.split(statistic(np.arange(len(transformed))), parts)
    drawn = bootstrap(statistic, predictions.cluster, seed=seed, resamples=resamples)
    found = zip(values, np.split(drawn.std(axis=0), parts), strict=True)
    return Diagnosis(levels, *(part for pair in found for part in pair))


def in_bins(predictions, values, bins: int = 1, *, seed: int, level: float = 0.68) -> pd.DataFrame:
    """Bias, scatter and coverage of clusters by anything: their mass, predicted mass, or richness.

    Parameters
    ----------
    predictions : of one simulation
    values : array (n,) to sort the rows by
    bins : of equally many rows; fewer, if the test set is small, so that each has at least 10 clusters' worth
    seed : of the bootstrap
    level : of the central interval

    Returns
    -------
    pandas.DataFrame with ``middle`` (median of the values), ``clusters``, and ``median`` and
    ``half_width`` of the residual [dex] and ``inside``, the share in the interval, with their ``_error``.
    """
    import pandas as pd

    inside, residual = np.abs(2 * pit(predictions) - 1) <= level, predictions.residual
    names = ("median", "half_width", "inside")

    def statistic(rows):
        p = validation.percentiles(residual[rows])
        return np.array([p["median"], (p["hi"] - p["lo"]) / 2, inside[rows].mean()])

    found = []
    bins = max(1, min(bins, len(np.unique(predictions.cluster)) // 10))
    for chosen in np.array_split(np.argsort(values, kind="stable"), bins):
        clusters = predictions.cluster[chosen]
        drawn = bootstrap(lambda rows, chosen=chosen: statistic(chosen[rows]), clusters, seed=seed)
        errors = zip(names, drawn.std(axis=0), strict=True)
        line = {"middle": np.median(values[chosen]), "clusters": len(np.unique(clusters))}
        line |= dict(zip(names, statistic(chosen), strict=True))
        found.append(line | {f"{name}_error": error for name, error in errors})
    return pd.DataFrame(found)


def half_width_difference(one, other, *, seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """By how much the residuals of `one` scatter more than those of `other` [dex], and the bootstrap error.

    Half-widths of the 16 to 84% range. Both are `validation.Predictions` of the same rows, and are
    resampled together: what is hard for both cancels. Raises `ClusterToolsError` for different rows.
    """
    if not (np.array_equal(one.row, other.row) and np.array_equal(one.simulation, other.simulation)):
        raise ClusterToolsError(
            f"the two predictions, of {len(one.row)} and {len(other.row)} clusters, are not of the same ones; draw "
            "both with the same folds, max_test and seed."
        )

    def statistic(rows):
        (lo, other_lo), (hi, other_hi) = np.percentile([one.residual[rows], other.residual[rows]], (16, 84), axis=1)
        return ((hi - lo) - (other_hi - other_lo)) / 2

    clusters = np.unique([one.simulation, one.cluster.astype(str)], axis=1, return_inverse=True)[1]
    drawn = bootstrap(statistic, clusters, seed=seed, resamples=resamples)
    return float(statistic(slice(None))), float(drawn.std())


@dataclass(frozen=True)
class Recalibration:
    """What posteriors are off by, as straight lines in the predicted mass: see `fit`.

    With x = mean - `MIDDLE`, ``shift + slope * x`` [dex] is added to the mass, and sigma is multiplied by
    ``factor * exp(growth * x)``. Numbers, or arrays (n,) with one for each cluster.
    """

    shift: float | np.ndarray
    slope: float | np.ndarray
    factor: float | np.ndarray
    growth: float | np.ndarray

    def __call__(self, predictions):
        """These predictions with mean, sigma and samples corrected."""
        x = predictions.mean - MIDDLE
        mean = predictions.mean + self.shift + self.slope * x
        factor = self.factor * np.exp(self.growth * x)
        samples = mean[:, None] + factor[:, None] * (predictions.samples - predictions.mean[:, None])
        return dataclasses.replace(
            predictions, mean=mean, sigma=factor * predictions.sigma, samples=samples.astype(np.float32)
        )


def fit(held_out, weights=None) -> Recalibration:
    """The recalibration of greatest likelihood on predictions of clusters that the networks have not seen.

    Parameters
    ----------
    held_out : `validation.Predictions` of the flat set, ``validation.predict(..., held_out=True)``, under the
        prior that the recalibrated posteriors are to have
    weights : array (n,), how much each row counts, see `abundance_weights`; all alike by default

    The truth is taken as Gaussian about the corrected mean, with the corrected sigma (Platt's idea for
    regression, Kuleshov et al. 2018, arXiv:1807.00263). Raises `ClusterToolsError` for fewer than 5 rows.
    """
    if len(held_out.mean) < 5:
        raise ClusterToolsError(
            f"there are {len(held_out.mean)} held-out clusters to learn from, but at least 5 are expected; "
            "use a larger box, or raise max_held_out."
        )
    off, x = -held_out.residual, held_out.mean - MIDDLE

    def minus_log_likelihood(parameters):
        shift, slope, log_factor, growth = parameters
        log_sigma = np.log(held_out.sigma) + log_factor + growth * x
        z = (off - shift - slope * x) * np.exp(-log_sigma)
        return np.average(z**2 / 2 + log_sigma, weights=weights)

    start = [np.average(off, weights=weights), 0.0, 0.0, 0.0]
    shift, slope, log_factor, growth = minimize(minus_log_likelihood, start).x
    return Recalibration(float(shift), float(slope), float(np.exp(log_factor)), float(growth))


def abundance_weights(log_m200c, prior) -> np.ndarray:
    """Weights (n,) that make a sample of any distribution in mass stand for one with the abundances of `prior`.

    `log_m200c` is the sample's, `prior` a `priors.Prior`. Each mass counts with its abundance over how
    many of the sample have about the same mass (0.05 dex); beyond the ends of the prior, not at all.
    """
    log_m200c = np.asarray(log_m200c, float)
    bins = np.floor(log_m200c / 0.05).astype(int)
    _, bin_of, count = np.unique(bins, return_inverse=True, return_counts=True)
    density = np.exp(np.interp(log_m200c, prior.log_m200c, prior.log_density, left=-np.inf, right=-np.inf))
    return density / count[bin_of]


def cross_fitted(held_out, predictions, prior, *, seed: int):
    """`predictions` recalibrated by what is learnt from other clusters only.

    Parameters
    ----------
    held_out : `validation.Predictions` of the held-out flat set under `prior`
    predictions : of the test set, of one simulation or both, under `prior`
    prior : `priors.Prior` of the test set: what the flat set is weighted to
    seed : of the halves

    A cluster of the test set may be in the held-out flat set, too. So all clusters are parted at
    random into halves, and each half is recalibrated by the held-out clusters of the other; those of another
    simulation are parted by number alike.
    """
    last = max(held_out.cluster.max(), predictions.cluster.max())
    # Not by odd and even numbers: clusters are numbered by mass, and so are folds.
    first_half = np.random.default_rng(seed).permutation(last + 1) % 2 == 0
    weights = abundance_weights(held_out.log_m200c, prior)
    learnt = []
    for half in (True, False):
        rows = (first_half[held_out.cluster] == half) & (weights > 0)
        learnt.append(vars(fit(held_out.select(rows), weights[rows])))
    of_first, of_second = learnt
    is_first = first_half[predictions.cluster]
    return Recalibration(**{name: np.where(is_first, of_second[name], of_first[name]) for name in of_first})(
        predictions
    )
