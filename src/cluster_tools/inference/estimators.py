"""Classical estimates of a cluster's mass from (v_los, r_proj): what one would pick instead of a network.

Each estimator gives a mass by itself, as published, and may then be calibrated: a power law of that
mass in the true one, fitted to a training catalogue and inverted. For the M-sigma estimators that
is the M-sigma relation of the catalogue itself, since the published mass is a power of sigma.
"""

from __future__ import annotations

import contextlib
import io
import types
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numba import vectorize

from cluster_tools import arrays, cosmology
from cluster_tools.cosmology import COMA_REDSHIFT, EVRARD_SIGMA, EVRARD_SLOPE, OMEGA_M, G
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import calibration, validation
from cluster_tools.mocks import dispersions, observe

if TYPE_CHECKING:
    import pandas as pd

E_OF_Z = float(cosmology.efunc(COMA_REDSHIFT))

# km/s. Fadda et al. (1996) part clusters at 1000, with some dozens of redshifts each. In the hundreds that fill
# this cylinder there is no such gap; 400 gave the least scatter on training sets of mock clusters.
GAP = 400.0
GAP_BIN = (0.4, 15)  # least width [Mpc/h] and number of galaxies of a bin in radius; Fadda et al. 1996

CLOSEST = 1e-4  # Mpc/h: least difference of two r_proj, where the mean 1/R of two rings has its pole
# Share of the virial mass inside R200c that the pressure of what lies outside accounts for (Girardi et
# al. 1998), here for an NFW halo of concentration 4 with isotropic orbits.
SURFACE_TERM = 0.215

FILLING = 0.7  # F_beta of the caustic mass; Serra et al. 2011
SMOOTHING = 0.3  # h_c of the caustics' density
MESH = 64  # points in r_proj and in v_los where it is taken


def log_m200c(estimator: str, v_los, r_proj, offsets, *, seed: int = 0) -> np.ndarray:
    """Masses [log10 Msun/h] of clusters by one of `ESTIMATORS`, as published: not calibrated.

    Parameters
    ----------
    estimator : a name in `ESTIMATORS`
    v_los, r_proj : arrays (n_galaxies,) [km/s, comoving Mpc/h]
    offsets : int array (n + 1,), galaxies of cluster i are ``offsets[i]:offsets[i + 1]``
    seed : of the position angles that caustics need; a cluster's do not depend on the other clusters

    Returns
    -------
    float64 array (n,); NaN where the estimator fails, for want of galaxies or of a solution.

    Raises
    ------
    ClusterToolsError
        For an unknown estimator, NaN or infinite values, and lengths that do not match.
    """
    if estimator not in ESTIMATORS:
        raise ClusterToolsError(f"estimator is {estimator!r}, but one of {', '.join(ESTIMATORS)} is expected.")
    v_los = arrays.column("v_los", v_los)
    r_proj, offsets = arrays.column("r_proj", r_proj, len(v_los)), arrays.offsets(offsets, len(v_los))
    found = np.full(len(offsets) - 1, np.nan)
    for i, galaxies in enumerate(map(slice, offsets[:-1], offsets[1:])):
        mass = ESTIMATORS[estimator](v_los[galaxies], r_proj[galaxies], seed)
        if mass > 0:  # False for NaN
            found[i] = np.log10(mass)
    return found


# Masses [Msun/h] of one cluster from its v_los, r_proj (n,); NaN where there is none.


def m_sigma(sigma):
    """Mass [Msun/h] of dark matter with the one-dimensional dispersion `sigma` [km/s] (Evrard et al. 2008)."""
    return 1e15 / E_OF_Z * (sigma / EVRARD_SIGMA) ** (1 / EVRARD_SLOPE)


def _m_sigma_of(selection: str):
    def estimate(v_los, r_proj, seed):
        return m_sigma(dispersions.velocity_dispersions(v_los, r_proj, [0, len(v_los)], selection)[0])

    return estimate


def gapper_mass(v_los, r_proj, seed=0) -> float:
    """M-sigma of the members that the shifting gapper leaves."""
    return m_sigma(_dispersion(v_los[shifting_gapper(v_los, r_proj)]))


def _dispersion(v_los) -> float:
    return np.std(v_los, ddof=1) if len(v_los) >= dispersions.FEWEST_LEFT else np.nan


def shifting_gapper(v_los, r_proj, gap: float = GAP) -> np.ndarray:
    """Members of one cluster: bool array (n,), False beyond gaps in velocity (Fadda et al. 1996).

    In bins of radius of at least 0.4 Mpc/h and 15 galaxies, velocities are parted where neighbours
    differ by more than `gap` [km/s], and the largest group is kept; again until none is removed.
    """
    member = np.ones(len(v_los), bool)
    while True:
        kept = [_main_body(v_los, rows, gap) for rows in _radial_bins(r_proj, np.flatnonzero(member))]
        after = np.zeros(len(v_los), bool)
        after[np.concatenate([np.empty(0, int), *kept])] = True
        if (after == member).all():
            return member
        member = after


def _radial_bins(r_proj, rows) -> list[np.ndarray]:
    """These galaxies in bins from the centre outward; a last bin that is too small joins the one before."""
    width, fewest = GAP_BIN
    rows = rows[np.argsort(r_proj[rows], kind="stable")]
    bins, begin = [], 0
    while begin < len(rows):
        end = np.searchsorted(r_proj[rows], r_proj[rows[begin]] + width)
        end = max(int(end), begin + fewest)
        if len(rows) - end < fewest:
            end = len(rows)
        bins.append(rows[begin:end])
        begin = end
    return bins


def _main_body(v_los, rows, gap) -> np.ndarray:
    rows = rows[np.argsort(v_los[rows], kind="stable")]
    return max(np.split(rows, np.flatnonzero(np.diff(v_los[rows]) > gap) + 1), key=len)


def virial_mass(v_los, r_proj, seed=0) -> float:
    """Virial mass with the surface term, of the shifting gapper's members inside R200c.

    M = (3 pi / 2 G) sigma^2 R_PV with R_PV = N (N - 1) / sum_(i>j) 1/R_ij (Heisler et al. 1985; Girardi
    et al. 1998), less the surface term. The distance R_ij of two galaxies is not known from their radii;
    1/R_ij is averaged over position angles, as by Carlberg et al. (1996). R200c = sqrt(3) sigma / 10 H(z)
    (Carlberg et al. 1997), with the dispersion inside it, found by iteration.
    """
    member = shifting_gapper(v_los, r_proj)
    v_los, radius = v_los[member], r_proj[member] / (1 + COMA_REDSHIFT)  # physical
    inside = np.ones(len(v_los), bool)
    for _ in range(50):
        sigma = _dispersion(v_los[inside])
        again = radius <= np.sqrt(3) * sigma / (1000 * E_OF_Z)
        if (again == inside).all():
            break
        inside = again
    radius = radius[inside]
    if len(radius) < dispersions.FEWEST_LEFT:
        return np.nan
    harmonic = 2 / np.mean(_mean_inverse_distance(*radius[np.array(np.triu_indices(len(radius), 1))]))
    return (1 - SURFACE_TERM) * 1.5 * np.pi / G * sigma**2 * harmonic


def _mean_inverse_distance(r1, r2):
    """Mean of 1/R over the angle between two points at `r1` and `r2` from a centre: (2 / pi) K(k) / (r1 + r2)."""
    from scipy.special import ellipkm1

    total = np.maximum(r1 + r2, CLOSEST)
    return 2 / np.pi * ellipkm1((np.maximum(np.abs(r1 - r2), CLOSEST) / total) ** 2) / total


def caustic_mass(v_los, r_proj, seed=0) -> float:
    """M200c from the caustics in the (r_proj, v_los) plane (Diaferio & Geller 1997; Diaferio 1999).

    Their amplitude A, from the package causticsnupy (Kang et al. 2024; the method of Serra et al. 2011),
    is the escape velocity; M(<r) = F_beta / G * integral of A^2 dr from 0 to r, F_beta = 0.7 (Serra et
    al. 2011). M200c is M(<r) at the largest r within which the mean density is 200 critical ones.

    Two liberties. The package needs positions on the sky for its binary tree of galaxies; they get random
    position angles from `seed`. And h_c, the scale of its adaptive kernel, is not searched for by
    cross-validation but set: with a hundred galaxies the search finds kernels so narrow that the caustics
    break up, and it takes ten times as long. Masses are nearly the same for h_c from 0.2 to 0.4.
    """
    from astropy.coordinates import offset_by

    caustics = _causticsnupy()
    radius = r_proj / (1 + COMA_REDSHIFT)  # physical
    distance = cosmology.comoving_distance(COMA_REDSHIFT) / (1 + COMA_REDSHIFT)
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(radius))
    ra, dec = (each.to_value("deg") for each in offset_by(np.pi, 0.0, angle, np.arcsin(radius / distance)))
    cz = cosmology.SPEED_OF_LIGHT * COMA_REDSHIFT
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints and warns a lot
            warnings.simplefilter("ignore")
            found = caustics.run_from_array(
                ra, dec, cz + v_los * (1 + COMA_REDSHIFT), v_lower=-np.inf, v_upper=np.inf,
                r_max=observe.APERTURE / (1 + COMA_REDSHIFT), v_max=observe.VELOCITY_CUT,
                center_given=True, ra_cl=180.0, dec_cl=0.0, v_cl=cz,
                H0=100, Om0=OMEGA_M, Ode0=1 - OMEGA_M, Tcmb0=0,
                r_res=MESH, v_res=MESH, h_c=SMOOTHING, display_log=False,
            )  # fmt: skip
    except (ArithmeticError, IndexError, TypeError, ValueError):  # what it stumbles over without a solution
        return np.nan
    return mass_within_200c(found.r_grid, found.A)


def mass_within_200c(radius, amplitude) -> float:
    """M200c [Msun/h] of caustics of this amplitude [km/s] at these physical radii [Mpc/h], from 0 on; or NaN."""
    from scipy.integrate import cumulative_trapezoid

    mass = FILLING / G * cumulative_trapezoid(amplitude**2, radius)
    radius = radius[1:]
    overdensity = mass / (4 / 3 * np.pi * radius**3 * cosmology.critical_density(COMA_REDSHIFT))
    dense = np.flatnonzero(overdensity >= 200)
    if len(dense) == 0 or dense[-1] == len(radius) - 1:
        return np.nan
    edge = slice(dense[-1], dense[-1] + 2)
    return np.exp(np.interp(-np.log(200), -np.log(overdensity[edge]), np.log(mass[edge])))


@cache
def _causticsnupy():
    """The package, lent numpy.trapz, which NumPy 2.4 has removed, and what costs it most of its time.

    That is a cosmology, made anew twice a cluster, and its kernel in five passes over arrays of some MB.
    """
    from causticsnupy import caustics, kde

    if not hasattr(np, "trapz"):
        caustics.np = kde.np = types.SimpleNamespace(**vars(np), trapz=np.trapezoid)
    caustics.LambdaCDM = cache(caustics.LambdaCDM)
    caustics.triweight = kde.triweight = _triweight
    return caustics


@vectorize(cache=True)
def _triweight(x, y):
    """The kernel of the caustics' density, which Serra et al. (2011) take from Silverman (1986)."""
    inside = 1 - (x * x + y * y)
    return 4 / np.pi * inside**3 if inside > 0 else 0.0


ESTIMATORS = {
    "M-σ, 3σ clipped": _m_sigma_of("clipped"),
    "M-σ, small cylinder": _m_sigma_of("small"),
    "M-σ, shifting gapper": gapper_mass,
    "virial": virial_mass,
    "caustic": caustic_mass,
}


# Calibration and judgement.


@dataclass(frozen=True)
class Calibration:
    """estimate = intercept + slope (log10 M200c - 15), both masses in log10 Msun/h."""

    intercept: float
    slope: float
    slope_error: float

    def log_m200c(self, estimate) -> np.ndarray:
        """Calibrated masses: the relation inverted. NaN if it does not rise by three errors: it says nothing then."""
        if not self.slope > 3 * self.slope_error:
            return np.full(np.shape(estimate), np.nan)
        return 15 + (np.asarray(estimate) - self.intercept) / self.slope


def fit(estimate, log_m200c) -> Calibration:
    """Least-squares line of the estimates on the true masses [log10 Msun/h], arrays (n,); NaN is left out.

    Raises `ClusterToolsError` if fewer than 3 clusters have an estimate, or all have the same mass.
    """
    from scipy.stats import linregress

    estimate, log_m200c = arrays.numbers("estimate", estimate), arrays.column("log_m200c", log_m200c)
    arrays.same_shape(estimate=estimate, log_m200c=log_m200c)
    measured = np.isfinite(estimate)
    if measured.sum() < 3:
        raise ClusterToolsError(
            f"{measured.sum()} of {len(measured)} training clusters have an estimate, but at least 3 are needed to "
            "calibrate it; use more training clusters, or a larger box."
        )
    line = linregress(log_m200c[measured] - 15, estimate[measured])
    return Calibration(float(line.intercept), float(line.slope), float(line.stderr))


@dataclass(frozen=True)
class Estimates:
    """All estimates of some rows of a catalogue, as published.

    Attributes
    ----------
    log_m200c : float64 array (n,), the truth [log10 Msun/h]
    cluster, fold : int arrays (n,), as in the catalogue
    published : name of the estimator -> float64 array (n,) [log10 Msun/h]
    """

    log_m200c: np.ndarray
    cluster: np.ndarray
    fold: np.ndarray
    published: dict[str, np.ndarray]


def estimate(catalog, rows, *, seed: int = 0) -> Estimates:
    """Every estimator on these rows of a `catalogs.MockCatalog`; a sixth of a second a row, for the caustics."""
    some = catalog.select(rows)
    galaxies = (some.v_los, some.r_proj, some.offsets)
    published = {name: log_m200c(name, *galaxies, seed=seed) for name in ESTIMATORS}
    return Estimates(some.log_m200c, some.cluster, some.fold, published)


def calibrated(train: Estimates, test: Estimates, name: str) -> np.ndarray:
    """Calibrated masses [log10 Msun/h] (n,) of the test clusters, those of each fold without it in the fit."""
    masses = np.full(len(test.log_m200c), np.nan)
    for fold in np.unique(test.fold):
        others, own = train.fold != fold, test.fold == fold
        masses[own] = fit(train.published[name][others], train.log_m200c[others]).log_m200c(test.published[name][own])
    return masses


def judgement(residual, cluster, *, seed: int, resamples: int = calibration.RESAMPLES) -> dict[str, float]:
    """Bias and scatter of residuals m_est - m_true [dex], arrays (n,), NaN where the estimator failed.

    Returns ``clusters``, ``failed``, ``median``, ``lo`` and ``hi`` (16% and 84%), ``half_width`` and the errors
    of median and half-width, from clusters drawn with repetition, each with all its lines of sight.
    """
    fine = np.isfinite(residual)
    counts = {"clusters": len(residual), "failed": int((~fine).sum())}
    residual, cluster = residual[fine], cluster[fine]
    if len(residual) < 3:
        names = ("median", "lo", "hi", "half_width", "median_error", "half_width_error")
        return counts | dict.fromkeys(names, np.nan)

    def statistic(rows):
        lo, median, hi = np.percentile(residual[rows], validation.PERCENTILES)
        return np.array([median, (hi - lo) / 2])

    errors = calibration.bootstrap(statistic, cluster, seed=seed, resamples=resamples).std(axis=0)
    found = validation.percentiles(residual)
    found["half_width"] = (found["hi"] - found["lo"]) / 2
    return counts | found | dict(zip(("median_error", "half_width_error"), map(float, errors), strict=True))


def comparison(train: dict[str, Estimates], test: dict[str, Estimates], *, seed: int) -> pd.DataFrame:
    """Judgement of every estimator, as published and calibrated, on both simulations.

    Parameters
    ----------
    train, test : name of the simulation -> `Estimates` of rows of its flat and of its natural set
    seed : of the bootstrap

    Returns
    -------
    pandas.DataFrame with ``estimator``, ``simulation`` (calibrated on; empty as published), ``tested_on``, and
    the columns of `judgement`
    """
    import pandas as pd

    lines = []
    for tested_on, some in test.items():
        for name in ESTIMATORS:
            masses = {"": some.published[name]} | {own: calibrated(train[own], some, name) for own in train}
            for own, mass in masses.items():
                found = judgement(mass - some.log_m200c, some.cluster, seed=seed)
                lines.append({"estimator": name, "simulation": own, "tested_on": tested_on, **found})
    return pd.DataFrame(lines)


def weigh(train: dict[str, Estimates], v_los, r_proj, *, seed: int = 0) -> pd.DataFrame:
    """One cluster's masses [log10 Msun/h] by every estimator: ``published``, and calibrated on each simulation.

    `v_los`, `r_proj` : arrays (n_galaxies,) [km/s, comoving Mpc/h]. A row is an estimator. Raises
    `ClusterToolsError` as `log_m200c` and `fit`.
    """
    import pandas as pd

    v_los = arrays.column("v_los", v_los)
    lines = []
    for name in ESTIMATORS:
        published = log_m200c(name, v_los, r_proj, [0, len(v_los)], seed=seed)[0]
        fits = {own: fit(some.published[name], some.log_m200c) for own, some in train.items()}
        by_simulation = {own: float(found.log_m200c(published)) for own, found in fits.items()}
        lines.append({"estimator": name, "published": published, **by_simulation})
    return pd.DataFrame(lines)


def printed(judged: pd.DataFrame) -> pd.DataFrame:
    """Rows of `judgement` as text to read, each number beside its error."""
    import pandas as pd

    def with_error(column: str, form: str) -> list[str]:
        pairs = judged[[column, f"{column}_error"]].to_numpy(float)
        return [f"{value:{form}} ± {error:.2f}" if np.isfinite(value) else "–" for value, error in pairs]

    return pd.DataFrame(
        {
            "tested on": judged["tested_on"],
            "estimator": judged["estimator"],
            "calibrated on": judged["simulation"].replace("", "as published"),
            "half-width [dex]": with_error("half_width", ".2f"),
            "median [dex]": with_error("median", "+.2f"),
            "failed": judged["failed"],
        }
    )
