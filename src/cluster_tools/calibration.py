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

from cluster_tools import validation
from cluster_tools.errors import ClusterToolsError

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 200


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
    the data give the test its full power. Computed by ``tarp``.
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
    rows_of = np.split(np.argsort(number, kind="stable"), np.cumsum(count)[:-1])
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(rows_of), size=len(rows_of)) for _ in range(resamples))
    return np.array([statistic(np.concatenate([rows_of[i] for i in drawn])) for drawn in draws])


def in_bins(predictions, values, edges, *, seed: int, level: float = 0.68) -> pd.DataFrame:
    """Bias, scatter and coverage of clusters by anything: their mass, predicted mass, or richness.

    Parameters
    ----------
    predictions : of one simulation
    values : array (n,) to sort the clusters by
    edges : rising array; a bin holds low <= value < high, and those with fewer than 10 clusters are left out
    seed : of the bootstrap
    level : of the central interval

    Returns
    -------
    pandas.DataFrame with ``low``, ``high``, ``middle`` (median value), ``clusters``, ``median`` and
    ``half_width`` of the residual [dex], and ``inside``, the share in the interval, each with ``_error``.
    """
    import pandas as pd

    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        rows = (values >= low) & (values < high)
        clusters = predictions.cluster[rows]
        if len(np.unique(clusters)) < 10:
            continue
        inside, residual = np.abs(2 * pit(predictions.select(rows)) - 1) <= level, predictions.residual[rows]

        def statistic(rows, residual=residual, inside=inside):
            p = validation.percentiles(residual[rows])
            return np.array([p["median"], (p["hi"] - p["lo"]) / 2, inside[rows].mean()])

        names = ("median", "half_width", "inside")
        line = dict(zip(names, statistic(slice(None)), strict=True))
        errors = bootstrap(statistic, clusters, seed=seed).std(axis=0)
        line |= {f"{name}_error": error for name, error in zip(names, errors, strict=True)}
        middle = np.median(values[rows])
        found.append({"low": low, "high": high, "middle": middle, "clusters": len(np.unique(clusters)), **line})
    if not found:
        raise ClusterToolsError("no bin holds 10 clusters or more; choose wider edges, or a larger test set.")
    return pd.DataFrame(found)


@dataclass(frozen=True)
class Recalibration:
    """What posteriors are off by: `shift` [dex] is added to the mass, sigma multiplied by `factor`.

    Numbers, or arrays (n,) with one for each cluster.
    """

    shift: float | np.ndarray
    factor: float | np.ndarray

    def __call__(self, predictions):
        """These predictions with `shift` and `factor` applied to mean, sigma and samples."""
        mean = predictions.mean + self.shift
        from_mean = np.asarray(self.factor)[..., None] * (predictions.samples - predictions.mean[:, None])
        samples = (mean[:, None] + from_mean).astype(np.float32)
        return dataclasses.replace(predictions, mean=mean, sigma=self.factor * predictions.sigma, samples=samples)


def fit(held_out) -> Recalibration:
    """Shift and factor of greatest likelihood on predictions of clusters that the networks have not seen.

    The truth is taken as Gaussian with mean + shift and factor * sigma. `held_out` is of the flat
    set, ``validation.predict(..., held_out=True)``: shift and factor belong to the flat prior.
    Raises `ClusterToolsError` for fewer than 10 rows.
    """
    if len(held_out.mean) < 10:
        raise ClusterToolsError(
            f"there are {len(held_out.mean)} held-out clusters to learn from, but at least 10 are expected; "
            "use a larger box, or raise max_held_out."
        )
    off, weight = -held_out.residual, held_out.sigma**-2.0
    shift = np.average(off, weights=weight)
    return Recalibration(float(shift), float(np.sqrt(np.mean((off - shift) ** 2 * weight))))


def cross_fitted(held_out, predictions):
    """`predictions` recalibrated by what is learnt from other clusters only.

    A cluster of the test set may be in the held-out flat set, too. So clusters of even number are
    recalibrated by the held-out ones of odd number, and the other way round. Both are
    `validation.Predictions`; where they are of different simulations, parity decides all the same.
    """
    is_odd = predictions.cluster % 2 == 1
    by_odd, by_even = (fit(held_out.select(held_out.cluster % 2 == half)) for half in (1, 0))
    shift = np.where(is_odd, by_even.shift, by_odd.shift)
    return Recalibration(shift, np.where(is_odd, by_even.factor, by_odd.factor))(predictions)
