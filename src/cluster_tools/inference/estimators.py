"""Classical estimates of a cluster's mass from v_los and r_proj: M-sigma, the virial theorem, the caustics.

Each estimator gives a mass as published. A line fitted to the masses of a training catalogue then calibrates
it; for the M-sigma estimators this is the M-sigma relation of the catalogue, since their mass is a power of sigma.
"""

from __future__ import annotations

import contextlib
import io
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from scipy.special import ellipkm1

from cluster_tools import cosmology, ragged
from cluster_tools.cosmology import COMA_REDSHIFT, EVRARD_SIGMA, EVRARD_SLOPE, OMEGA_M, G
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import calibration, validation
from cluster_tools.mocks import dispersions, observe

if TYPE_CHECKING:
    import pandas as pd

E_OF_Z = float(cosmology.efunc(COMA_REDSHIFT))

# km/s. Fadda et al. (1996) use 1000 for clusters of some dozens of redshifts. The hundreds of galaxies in this
# cylinder leave no such gap; 400 gave the least scatter on training sets of mock clusters.
GAP = 400.0
GAP_BIN = (0.4, 15)  # least width [Mpc/h] and number of galaxies of a bin in radius; Fadda et al. 1996

CLOSEST = 1e-4  # Mpc/h: least difference of two r_proj, where the mean 1/R of two rings has its pole
# Share of the virial mass inside R200c due to the pressure of the matter outside (Girardi et al. 1998),
# for an NFW halo of concentration 4 with isotropic orbits.
SURFACE_TERM = 0.215

FILLING = 0.7  # F_beta of the caustic mass; Serra et al. 2011
SMOOTHING = 0.3  # h_c of the caustics' density
MESH = 64  # points in r_proj and in v_los of the caustics' density
# Galaxies whose pairs are looked at; of more, this many are drawn at random. Caustics of 1500 take 6 s and 0.5 GB, and
# time and memory grow with the square.
MOST_PAIRED = 1500


def log_m200c(estimator: str, v_los, r_proj, offsets, *, seed: int = 0) -> np.ndarray:
    """Masses of n clusters by one estimator as published [log10 Msun/h], NaN where it fails.

    `estimator` is a name in `ESTIMATORS`. Galaxies of cluster i, with `v_los` [km/s] and `r_proj` [comoving Mpc/h],
    are ``offsets[i]:offsets[i + 1]``. `seed`, the same for every cluster, is that of the caustics' position angles, and
    of `MOST_PAIRED` galaxies where there are more. Raises `ClusterToolsError` for an unknown estimator or columns that
    are no finite numbers, and `ModuleNotFoundError` for the caustic mass where causticsnupy is not installed.
    """
    if estimator not in ESTIMATORS:
        raise ClusterToolsError(f"estimator is {estimator!r}, but one of {', '.join(ESTIMATORS)} is expected.")
    galaxies = ragged.from_arrays(v_los, r_proj, offsets)
    clusters = map(galaxies.slice, range(len(galaxies)))
    masses = [ESTIMATORS[estimator](galaxies.v_los[rows], galaxies.r_proj[rows], seed) for rows in clusters]
    return np.log10([mass if mass > 0 else np.nan for mass in masses])


# The functions below give the mass [Msun/h] of one cluster from its v_los and r_proj, arrays (n,), or NaN.
def m_sigma(sigma):
    """M200c [Msun/h] at Coma's redshift, from the dispersion `sigma` [km/s] of dark matter: Evrard et al. 2008."""
    return 1e15 / E_OF_Z * (sigma / EVRARD_SIGMA) ** (1 / EVRARD_SLOPE)


def _selected_m_sigma(v_los, r_proj, seed, *, selection: str) -> float:
    return m_sigma(dispersions.velocity_dispersions(v_los, r_proj, [0, len(v_los)], selection)[0])


def _dispersion(v_los) -> float:
    return np.std(v_los, ddof=1) if len(v_los) >= dispersions.FEWEST_FOR_SIGMA else np.nan


def gapper_mass(v_los, r_proj, seed=0) -> float:
    """M-sigma mass [Msun/h] of one cluster's members by the shifting gapper; parameters as in `log_m200c`."""
    return m_sigma(_dispersion(v_los[shifting_gapper(v_los, r_proj)]))


def shifting_gapper(v_los, r_proj) -> np.ndarray:
    """Members of one cluster by the shifting gapper (Fadda et al. 1996), bool array (n,).

    Velocities in a bin of radius, at least 0.4 Mpc/h and 15 galaxies wide, are split where neighbours
    differ by more than `GAP` [km/s]. The largest group of each bin stays; passes are repeated until all stay.
    """
    member = np.ones(len(v_los), bool)
    while True:
        before, member = member, np.zeros(len(v_los), bool)
        for rows in _radial_bins(r_proj, np.flatnonzero(before)):
            rows = rows[np.argsort(v_los[rows], kind="stable")]
            member[max(np.split(rows, np.flatnonzero(np.diff(v_los[rows]) > GAP) + 1), key=len)] = True
        if (member == before).all():
            return member


def _radial_bins(r_proj, rows) -> Iterator[np.ndarray]:
    """Rows in bins from the centre outward; a last bin that is too small joins the one before."""
    width, fewest = GAP_BIN
    rows = rows[np.argsort(r_proj[rows], kind="stable")]
    while len(rows):
        n = max(np.searchsorted(r_proj[rows], r_proj[rows[0]] + width), fewest)
        n = len(rows) if len(rows) - n < fewest else n
        yield rows[:n]
        rows = rows[n:]


def virial_mass(v_los, r_proj, seed=0) -> float:
    """Virial mass [Msun/h] of one cluster less the surface term, from the gapper's members inside R200c; NaN below 5.

    M = (3 pi / 2 G) sigma^2 R_PV with R_PV = N (N - 1) / sum_(i>j) 1/R_ij (Heisler et al. 1985; Girardi
    et al. 1998), less the surface term. Radii alone do not give the distance R_ij of two galaxies, so 1/R_ij
    is averaged over position angles (Carlberg et al. 1996). R200c = sqrt(3) sigma / 10 H(z) with the
    dispersion inside it, by iteration (Carlberg et al. 1997).
    """
    member = shifting_gapper(v_los, r_proj)
    v_los, radius = v_los[member], r_proj[member] / (1 + COMA_REDSHIFT)  # physical
    inside = np.ones(len(v_los), bool)
    for _ in range(50):
        sigma = _dispersion(v_los[inside])
        before, inside = inside, radius <= np.sqrt(3) * sigma / (1000 * E_OF_Z)
        if (inside == before).all():
            break
    radius = radius[inside]
    if len(radius) < dispersions.FEWEST_FOR_SIGMA:
        return np.nan
    radius = radius[_thinned(len(radius), seed)]
    harmonic = 2 / np.mean(_mean_inverse_distance(*radius[np.array(np.triu_indices(len(radius), 1))]))
    return (1 - SURFACE_TERM) * 1.5 * np.pi / G * sigma**2 * harmonic


def _thinned(n: int, seed: int) -> np.ndarray:
    """Indices of all n galaxies, or of `MOST_PAIRED` of them drawn at random, in order."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST_PAIRED])


def _mean_inverse_distance(r1, r2):
    """Mean of 1/R over the angle between two points at `r1` and `r2` from a centre: (2 / pi) K(k) / (r1 + r2)."""
    total = np.maximum(r1 + r2, CLOSEST)
    return 2 / np.pi * ellipkm1((np.maximum(np.abs(r1 - r2), CLOSEST) / total) ** 2) / total


def caustic_mass(v_los, r_proj, seed=0) -> float:
    """M200c [Msun/h] from one cluster's caustics in (r_proj, v_los) (Diaferio & Geller 1997; Diaferio 1999), or NaN.

    The amplitude A of the caustics is the escape velocity, and M(<r) = F_beta / G * integral of A^2 dr with
    F_beta = 0.7. The package causticsnupy measures A (Kang et al. 2024; method of Serra et al. 2011). Galaxies
    get random position angles, because its binary tree needs positions on the sky. The kernel's scale h_c is
    fixed: its cross-validation takes ten times as long, and for a hundred galaxies ends at kernels so narrow
    that the caustics break up. In a trial on 40 mock clusters, masses changed by 0.05 dex in the median for
    h_c = 0.4, and by 0.28 dex for 0.2.
    """
    from astropy.coordinates import offset_by

    caustics = _causticsnupy()
    rows = _thinned(len(v_los), seed)
    v_los, r_proj = v_los[rows], r_proj[rows]
    radius = r_proj / (1 + COMA_REDSHIFT)  # physical
    distance = cosmology.comoving_distance(COMA_REDSHIFT) / (1 + COMA_REDSHIFT)
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(radius))
    ra, dec = (each.to_value("deg") for each in offset_by(np.pi, 0.0, angle, np.arcsin(radius / distance)))
    cz = cosmology.SPEED_OF_LIGHT * COMA_REDSHIFT
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints and warns a lot
            warnings.simplefilter("ignore")
            profile = caustics.run_from_array(
                ra, dec, cz + v_los * (1 + COMA_REDSHIFT), v_lower=-np.inf, v_upper=np.inf,
                r_max=observe.APERTURE / (1 + COMA_REDSHIFT), v_max=observe.VELOCITY_CUT,
                center_given=True, ra_cl=180.0, dec_cl=0.0, v_cl=cz,
                H0=100, Om0=OMEGA_M, Ode0=1 - OMEGA_M, Tcmb0=0,
                r_res=MESH, v_res=MESH, h_c=SMOOTHING, display_log=False,
            )  # fmt: skip
    except (ArithmeticError, IndexError, TypeError, ValueError):  # its errors where there is no solution
        return np.nan
    return mass_within_200c(profile.r_grid, profile.A)


def mass_within_200c(radius, amplitude) -> float:
    """M200c [Msun/h] from the amplitude [km/s] of caustics at physical radii [Mpc/h] from 0 on.

    It is M(<r) at the largest r with a mean density of 200 critical ones; NaN if that is the last radius.
    """
    from scipy.integrate import cumulative_trapezoid  # starts slowly

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
    """Import causticsnupy with a patch for NumPy 2.4, and with faster functions.

    Version 1.0.4 calls numpy.trapz, which NumPy 2.4 removed. Its density makes arrays of some MB, its cost function
    integrates each radius by itself, and it builds the same cosmology twice for each cluster.
    """
    from causticsnupy import caustics, kde

    if not hasattr(np, "trapz"):
        caustics.np = kde.np = types.SimpleNamespace(**vars(np), trapz=np.trapezoid)
    caustics.LambdaCDM = cache(caustics.LambdaCDM)
    caustics.fq = kde.fq = _density
    caustics.S = partial(_imbalance, caustics.calculate_A)
    return caustics


def _density(x, y, x_data, y_data, kernel, h):
    """The caustics' density at points of any shape, with the triweight kernel and scales `h`."""
    return _triweights(np.ravel(x), np.ravel(y), x_data, y_data, h + np.zeros(len(x_data))).reshape(np.shape(x))


@njit(cache=True)
def _triweights(x, y, x_data, y_data, h):
    """Density of galaxies and their mirror images in x (Silverman 1986, as used by Serra et al. 2011)."""
    density = np.zeros(len(x))
    for i in range(len(x)):
        for j in range(len(x_data)):
            for mirrored in (x_data[j], -x_data[j]):
                inside = 1 - ((x[i] - mirrored) / h[j]) ** 2 - ((y[i] - y_data[j]) / h[j]) ** 2
                if inside > 0:
                    density[i] += inside**3 / h[j] ** 2
    return 2 / np.pi / len(x_data) * density


def _imbalance(calculate_A, kappa, r_grid, v_grid, r_res, den, R_avg, v_var, grad_limit) -> float:
    """By how much the mean squared escape velocity differs from four velocity variances (Serra et al. 2011, eq. 22)."""
    amplitude, _ = calculate_A(kappa, den, r_grid, v_grid, grad_limit)
    inside = np.abs(v_grid)[:, None] < amplitude
    steps = (den[1:] + den[:-1]) / 2 * np.diff(v_grid)[:, None]
    near = r_grid < R_avg
    phi = np.sum(steps, axis=0, where=inside[1:] & inside[:-1])[near]
    total = np.trapezoid(phi, r_grid[near])
    return abs(np.trapezoid(amplitude[near] ** 2 * phi, r_grid[near]) / total - 4 * v_var) if total else np.inf


ESTIMATORS = {
    "M-σ, 3σ clipped": partial(_selected_m_sigma, selection="clipped"),
    "M-σ, medium cylinder": partial(_selected_m_sigma, selection="medium"),
    "M-σ, shifting gapper": gapper_mass,
    "virial": virial_mass,
    "caustic": caustic_mass,
}


@dataclass(frozen=True)
class MassRegression:
    """Relation of an estimator: estimate = intercept + slope (log10 M200c - 15), with masses in Msun/h.

    The estimate is a mass [log10 Msun/h], or log10 of a dispersion [km/s] for the M-sigma relation.
    """

    intercept: float
    slope: float
    slope_error: float
    scatter: float = np.nan  #: standard deviation about the inverted relation [dex]

    @classmethod
    def fit(cls, estimate, log_m200c, *, of_mass: bool = False) -> MassRegression:
        """Least-squares line of estimates on true masses [log10 Msun/h], arrays (n,); NaN is left out.

        With `of_mass`, the line is that of masses on estimates: it scatters less, and draws masses to the mean of the
        training set. Raises `ClusterToolsError` if fewer than 3 clusters have an estimate.
        """
        from scipy.stats import linregress  # starts slowly

        measured = np.isfinite(estimate)
        if measured.sum() < 3:
            n = f"{measured.sum()} of {len(measured)}"
            raise ClusterToolsError(f"{n} training clusters have an estimate, not 3; use more training clusters.")
        mass, estimate = log_m200c[measured] - 15, estimate[measured]
        line = linregress(*((estimate, mass) if of_mass else (mass, estimate)))
        intercept, slope, error = line.intercept, line.slope, line.stderr
        if of_mass:
            intercept, slope, error = -intercept / slope, 1 / slope, error / slope**2
        scatter = np.std((estimate - intercept) / slope - mass)
        return cls(*map(float, (intercept, slope, error, scatter)))

    def log_m200c(self, estimate, *, flat_too: bool = False) -> np.ndarray:
        """Masses [log10 Msun/h] by the inverted line.

        They are NaN if the slope is below three standard errors, unless `flat_too` is set.
        """
        estimate = np.asarray(estimate)
        if not (flat_too or self.slope > 3 * self.slope_error):
            return np.full(estimate.shape, np.nan)
        return 15 + (estimate - self.intercept) / self.slope


def fit_m_sigma(catalog, selection: str, *, of_mass: bool = False) -> MassRegression:
    """M-sigma relation of a catalogue that is flat in log mass: log10 of the dispersion [km/s] on log10 mass.

    `selection` is that of `dispersions.velocity_dispersions`, `of_mass` that of `MassRegression.fit`. Raises
    `ClusterToolsError` for fewer than 3 dispersions.
    """
    sigma = dispersions.velocity_dispersions(catalog.v_los, catalog.r_proj, catalog.offsets, selection)
    return MassRegression.fit(np.log10(np.where(sigma > 0, sigma, np.nan)), catalog.log_m200c, of_mass=of_mass)


def estimate(catalog, rows, *, seed: int = 0) -> pd.DataFrame:
    """Table of masses [log10 Msun/h] of rows of a `MockCatalog`, a column for each name in `ESTIMATORS`.

    It has ``log_m200c``, ``cluster`` and ``fold`` of the catalogue, too. Caustics take a tenth of a second a row.
    """
    import pandas as pd

    chosen = catalog.select(rows)
    truth = {name: getattr(chosen, name) for name in ("log_m200c", "cluster", "fold")}
    galaxies = (chosen.v_los, chosen.r_proj, chosen.offsets)
    return pd.DataFrame(truth | {name: log_m200c(name, *galaxies, seed=seed) for name in ESTIMATORS})


def calibrated(train: pd.DataFrame, test: pd.DataFrame, name: str) -> np.ndarray:
    """Calibrated masses (n,) of test clusters [log10 Msun/h]; the line for each fold is fitted without it.

    Both tables are those of `estimate`; `name` is an estimator.
    """
    masses = np.full(len(test), np.nan)
    for fold in np.unique(test["fold"]):
        rows, others = test["fold"] == fold, train[train["fold"] != fold]
        masses[rows] = MassRegression.fit(others[name], others["log_m200c"]).log_m200c(test.loc[rows, name])
    return masses


def residual_statistics(residual, cluster, *, seed: int) -> dict[str, float]:
    """Bias and scatter of residuals m_est - m_true [dex], arrays (n,), NaN where the estimator failed.

    Returns ``clusters``, ``failed`` and, for 3 residuals or more, `validation.percentiles` with errors (`bootstrap`).
    """
    measured = np.isfinite(residual)
    residual, cluster = np.asarray(residual)[measured], np.asarray(cluster)[measured]
    counts: dict[str, float] = {"clusters": len(measured), "failed": int((~measured).sum())}
    if len(residual) < 3:
        return counts
    return counts | calibration.with_errors(lambda rows: validation.percentiles(residual[rows]), cluster, seed=seed)


def comparison(train: dict, test: dict, *, seed: int) -> pd.DataFrame:
    """Residual statistics of every estimator, as published and calibrated, on both simulations.

    `train` and `test` hold tables of `estimate` for rows of the flat and of the natural test set, by name of
    the simulation. Columns are ``estimator``, ``simulation`` (of the calibration; empty as published),
    ``tested_on``, and those of `residual_statistics`.
    """
    import pandas as pd

    lines = []
    for tested_on, clusters in test.items():
        for name in ESTIMATORS:
            masses = {"": clusters[name]} | {key: calibrated(train[key], clusters, name) for key in train}
            for simulation, mass in masses.items():
                statistics = residual_statistics(mass - clusters["log_m200c"], clusters["cluster"], seed=seed)
                lines.append({"estimator": name, "simulation": simulation, "tested_on": tested_on, **statistics})
    return pd.DataFrame(lines)


def masses(train: dict, v_los, r_proj, *, seed: int = 0) -> pd.DataFrame:
    """Masses of one cluster [log10 Msun/h], a row an estimator: ``published``, and calibrated by each of `train`."""
    import pandas as pd

    lines = []
    for name in ESTIMATORS:
        (published,) = log_m200c(name, v_los, r_proj, [0, len(v_los)], seed=seed)
        relations = {key: MassRegression.fit(table[name], table["log_m200c"]) for key, table in train.items()}
        calibrated = {key: float(relation.log_m200c(published)) for key, relation in relations.items()}
        lines.append({"estimator": name, "published": published} | calibrated)
    return pd.DataFrame(lines)
