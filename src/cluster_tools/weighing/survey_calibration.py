"""Calibration of the survey estimator on held-out clusters, in bins of the survey's properties and of mass."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from cluster_tools.weighing.training_views import LOG_M200C, MEMBER

GRID = np.linspace(*LOG_M200C, 261)  # log10 M200c [Msun/h]
COUNTS = (8, 15, 30, 60, 120, 300, np.inf)  # of galaxies
BINS = {
    "galaxies": COUNTS,
    "field [Mpc/h]": (0.4, 0.7, 1.0, 1.5, 2.25, 2.31),
    "velocity error [km/s]": (0, 50, 100, 200, 301),
    "true log10 M200c": (13.0, 13.5, 14.0, 14.5, 15.0, 15.6),
    "median log10 M200c": (13.0, 13.5, 14.0, 14.5, 15.0, 15.6),
}


def cumulative(log_density) -> np.ndarray:
    """Distribution function (n, g) on `GRID` from log densities (n, g) up to a constant each; it ends at 1."""
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    steps = (density[:, 1:] + density[:, :-1]) / 2
    share = np.cumsum(steps, axis=1)
    return np.hstack([np.zeros((len(share), 1)), share / share[:, -1:]])


def quantiles(log_density, levels) -> np.ndarray:
    """Quantiles (n, levels) [log10 Msun/h] of log densities (n, g) on `GRID`."""
    return np.array([np.interp(levels, share, GRID) for share in cumulative(log_density)])


def table(log_density, weight, known: dict, cluster) -> list[dict]:
    """Calibration of log posteriors (n, g) on `GRID` in the bins of `BINS`, and in all.

    Observations have weights (n,) (`survey_effects.observe`), values `known` (n,) by the names of `BINS` and
    "is_complete", and the index of their `cluster` (n,), which may be observed more than once. Medians are those of the
    posteriors, whatever is `known`. In bins of the true mass, posteriors are pulled to the middle of the prior, as they
    must be; in bins of the median, they should be right.

    Each row has ``bin``, ``n``, weighted shares of truths in the central 68 and 95% (``covers_68``, ``covers_95``),
    the standard error of the first with clusters as units (``error_68``), mean probability integral transform
    (``pit``), half-width of the 16 to 84%, bias and root mean square error [dex], and the mean log score.
    """
    log_m200c = known["true log10 M200c"]
    below = np.array([np.interp(m, GRID, share) for m, share in zip(log_m200c, cumulative(log_density), strict=True)])
    low, median, high = quantiles(log_density, (0.16, 0.5, 0.84)).T
    top = log_density.max(axis=1)
    norm = np.log(np.trapezoid(np.exp(log_density - top[:, None]), GRID, axis=1)) + top
    at_truth = np.array([np.interp(m, GRID, each) for m, each in zip(log_m200c, log_density, strict=True)])
    columns = {
        "covers_68": np.abs(below - 0.5) < 0.34, "covers_95": np.abs(below - 0.5) < 0.475, "pit": below,
        "half_width": (high - low) / 2, "bias": median - log_m200c, "log_score": at_truth - norm,
    }  # fmt: skip
    chosen = {"all": np.ones(len(below), bool)}
    for name, edges in BINS.items():
        values = median if name == "median log10 M200c" else known[name]
        chosen |= {f"{name} {a:g} to {b:g}": (values >= a) & (values < b) for a, b in zip(edges, edges[1:])}
    chosen |= {"told to be complete": known["is_complete"] == 1, "not told so": known["is_complete"] == 0}
    result = []
    for label, rows in chosen.items():
        if rows.any():
            mean = {name: float(np.average(values[rows], weights=weight[rows])) for name, values in columns.items()}
            rms = np.sqrt(np.average(columns["bias"][rows] ** 2, weights=weight[rows]))
            error = _error(columns["covers_68"][rows], weight[rows], cluster[rows])
            result.append({"bin": label, "n": int(rows.sum()), **mean, "error_68": error, "rms": float(rms)})
    return result


def _error(inside, weight, cluster) -> float:
    """Standard error of the weighted share that is `inside`, (n,), with clusters as units."""
    share = np.average(inside, weights=weight)
    _, unit = np.unique(cluster, return_inverse=True)
    off = np.bincount(unit, weight * (inside - share))
    return float(np.sqrt((off**2).sum()) / weight.sum())


def recalibrated(labels, log_m200c, coefficients) -> np.ndarray:
    """Probabilities of `labels` (n, 3), as in `training_views`, whose logits change with the posterior's median.

    `log_m200c` (n,) is the median [log10 Msun/h] of each galaxy's cluster. Rows of `coefficients` (3, 3), for 1, m
    and m^2 with m = log_m200c - 14.3, are the shifts of interlopers and of infalling galaxies, and the stretch of all.
    """
    m = np.asarray(log_m200c)[:, None] - 14.3
    shifts = np.hstack([np.ones_like(m), m, m**2]) @ np.transpose(coefficients)
    logits = shifts[:, 2:] * np.log(np.maximum(labels, 1e-6))
    logits[:, :2] += shifts[:, :2]
    return softmax(logits, axis=1)


def fit_labels(labels, log_m200c, label, weight, *, most: int = 200_000, seed: int = 0) -> np.ndarray:
    """Maximum-likelihood coefficients of `recalibrated` for a true `label` (n,), `most` of them drawn by `weight`."""
    from scipy.optimize import minimize

    chosen = np.random.default_rng(seed).choice(len(label), min(most, len(label)), p=weight / weight.sum())
    p, m, true = labels[chosen], log_m200c[chosen], label[chosen].astype(int)

    def loss(flat):
        return -np.log(recalibrated(p, m, flat.reshape(3, 3))[np.arange(len(true)), true]).mean()

    start = np.zeros((3, 3))
    start[2, 0] = 1
    return minimize(loss, start.ravel(), method="L-BFGS-B").x.reshape(3, 3)


def memberships(labels, label, weight, cluster) -> list[dict]:
    """Calibration of the probability of membership: in ten bins of it, its mean and the share of members.

    Galaxies have probabilities `labels` (n, 3), a true `label`, a `weight` and the index of their `cluster`, each (n,).
    A row has ``n``, ``predicted``, ``members``, and ``error``, the standard error of ``members`` with clusters as
    units, since galaxies of one are not independent.
    """
    p, member, rows = labels[:, MEMBER], label == MEMBER, []
    for low in np.arange(10) / 10:
        inside = (p >= low) & (p < low + 0.1)
        if not inside.any():
            continue
        predicted, share = (float(np.average(each[inside], weights=weight[inside])) for each in (p, member))
        error = _error(member[inside], weight[inside], cluster[inside])
        rows.append({"n": int(inside.sum()), "predicted": predicted, "members": share, "error": error})
    return rows
