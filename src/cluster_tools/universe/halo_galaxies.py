"""Satellites in their haloes: NFW profiles, velocities from the Jeans equation, triaxial shapes, subclumps.

Radii follow an NFW profile less concentrated than the matter's (Diemer & Joyce 2019, scatter
0.16 dex). Velocities solve the Jeans equation with an anisotropy that rises outward, and are
scaled to the dispersion that Evrard et al. (2008) found. Haloes above `LOG_M_TRIAXIAL` are
ellipsoids, with the velocity ellipsoid along the same axes; some have a subclump.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cluster_tools.cosmology import R_VIR, Simulation, colossus_cosmology, r200c, velocity_dispersion

LOG_M_TRIAXIAL = 13.0  # log10 Msun/h
CONCENTRATION_SCATTER = 0.16  # dex
# Minor and intermediate axis over the major one, mean and scatter: Kasun & Evrard 2005.
AXIS_RATIOS = ((0.64, 0.08), (0.76, 0.08))
VELOCITY_POWER = 0.75  # of the axes, for the rounder velocity ellipsoid: 0.72 and 0.82, the same authors
ANISOTROPY_RADIUS = 0.18  # of R_vir: beta(r) = r / 2 (r + that), Mamon & Lokas 2005; 0.42 at R_vir
CONCENTRATIONS = np.geomspace(0.8, 40.0, 40)
RADII = np.geomspace(1e-3, 1.0, 200)  # in R_vir


@dataclass(frozen=True)
class Kinematics:
    """How satellites move in their haloes.

    Attributes
    ----------
    concentration_ratio : of galaxies to matter
    velocity_bias : dispersion of galaxies over that of Evrard et al. (2008)
    velocity_scatter : of it, from halo to halo, natural log
    merger_fraction : of clusters with a subclump of 1:10 to 1:3
    """

    concentration_ratio: float
    velocity_bias: float
    velocity_scatter: float = 0.043  # Evrard et al. 2008
    merger_fraction: float = 0.1


def mean_concentration(sim: Simulation, log_m200c) -> np.ndarray:
    """Median c200c of haloes: Diemer & Joyce 2019 (colossus)."""
    knots, c200c = _concentration_table(sim)
    return np.interp(log_m200c, knots, c200c)


def draw(
    sim: Simulation, kinematics: Kinematics, log_m200c: np.ndarray, counts: np.ndarray, rng
) -> tuple[np.ndarray, np.ndarray]:
    """Satellites of haloes: positions [comoving Mpc/h] and velocities [km/s] relative to them.

    Parameters
    ----------
    log_m200c : array (n,) of log10 M200c [Msun/h]
    counts : int array (n,), satellites of each

    Returns
    -------
    position, velocity : float32 arrays (counts.sum(), 3), one halo's satellites after another's
    """
    has = np.flatnonzero(counts)
    log_m = log_m200c[has]
    of = np.repeat(np.arange(len(has)), counts[has])
    c = R_VIR * mean_concentration(sim, log_m) * 10 ** (CONCENTRATION_SCATTER * rng.standard_normal(len(has)))
    c_galaxies = np.clip(c * kinematics.concentration_ratio, CONCENTRATIONS[0], CONCENTRATIONS[-1])
    r = _nfw_radius(rng.random(len(of)), c_galaxies[of])  # in R_vir
    sigma_r, beta = _dispersion(r, c_galaxies[of])
    boost = kinematics.velocity_bias * np.exp(kinematics.velocity_scatter * rng.standard_normal(len(has)))
    sigma_r *= (boost * velocity_dispersion(log_m, sim.redshift, omega_m=sim.omega_m))[of]

    outward = isotropic(len(of), rng)
    tangential = rng.standard_normal((len(of), 3))
    tangential -= (tangential * outward).sum(axis=1, keepdims=True) * outward
    radial = rng.standard_normal(len(of))[:, None] * outward
    velocity = sigma_r[:, None] * (radial + np.sqrt(1 - beta)[:, None] * tangential)
    r_vir = R_VIR * r200c(log_m, sim.redshift, omega_m=sim.omega_m)
    position = (r * r_vir[of])[:, None] * outward
    _make_triaxial(log_m, of, position, velocity, rng)
    _add_subclumps(sim, kinematics, log_m, of, position, velocity, rng)
    return position.astype(np.float32), velocity.astype(np.float32)


def isotropic(n: int, rng) -> np.ndarray:
    """Unit vectors (n, 3) in all directions alike."""
    vector = rng.standard_normal((n, 3))
    return vector / np.linalg.norm(vector, axis=1, keepdims=True)


@lru_cache
def _concentration_table(sim):
    from colossus.halo import concentration

    colossus_cosmology(sim)
    knots = np.arange(10.5, 15.95, 0.1)
    return knots, concentration.concentration(10**knots, "200c", sim.redshift, model="diemer19")


def _enclosed(x):
    """Mass of an NFW profile within x scale radii."""
    return np.log1p(x) - x / (1 + x)


@lru_cache
def _radius_table() -> np.ndarray:
    """Radius in R_vir within which a share of the satellites lies, for each concentration: (40, 1001)."""
    share = np.linspace(0, 1, 1001)
    r = np.r_[0, np.geomspace(1e-5, 1, 4000)]
    return np.array([np.interp(share, _enclosed(c * r) / _enclosed(c), r) for c in CONCENTRATIONS])


def _nfw_radius(share, c):
    return _bilinear(_radius_table(), _along_concentrations(c), share * 1000)


@lru_cache
def _dispersion_table() -> np.ndarray:
    """Radial dispersion at `RADII` for each concentration (40, 200).

    Its square, averaged over directions and over the satellites within R_vir, is 1. Jeans equation
    of a tracer that follows the mass, with beta = r / 2 (r + a):
    nu sigma_r^2 = 1 / (r + a) integral_r^inf (s + a) nu G M / s^2 ds (Mamon & Lokas 2005, eq. A16).
    """
    a = ANISOTROPY_RADIUS
    r = np.geomspace(RADII[0], 30.0, 3000)
    table = []
    for c in CONCENTRATIONS:
        density = 1 / (r * (1 + c * r) ** 2)
        force = (r + a) * density * _enclosed(c * r) / r**2
        steps = 0.5 * (force[1:] + force[:-1]) * np.diff(r)
        variance = np.r_[np.cumsum(steps[::-1])[::-1], 0.0] / (r + a) / density
        inside = r <= 1
        one_dimensional = variance[inside] * (1 - 2 / 3 * _beta(r[inside]))
        weight = np.gradient(_enclosed(c * r[inside]))
        mean = (weight * one_dimensional).sum() / weight.sum()
        table.append(np.interp(RADII, r, np.sqrt(variance / mean)))
    return np.array(table)


def _beta(r):
    return 0.5 * r / (r + ANISOTROPY_RADIUS)


def _dispersion(r, c):
    """Radial dispersion, in units of the halo's one-dimensional one, and anisotropy at radii in R_vir."""
    along_radii = np.log(np.maximum(r, RADII[0]) / RADII[0]) * ((len(RADII) - 1) / np.log(RADII[-1] / RADII[0]))
    return _bilinear(_dispersion_table(), _along_concentrations(c), along_radii), _beta(r)


def _along_concentrations(c):
    step = np.log(CONCENTRATIONS[1] / CONCENTRATIONS[0])
    return np.log(c / CONCENTRATIONS[0]) / step


def _bilinear(table, row, column):
    from scipy.ndimage import map_coordinates

    return map_coordinates(table, [row, column], order=1, mode="nearest")


def _make_triaxial(log_m, of, position, velocity, rng):
    """Stretch heavy haloes to ellipsoids of equal volume, and their velocities of equal energy (in place)."""
    heavy = np.flatnonzero(log_m >= LOG_M_TRIAXIAL)
    if len(heavy) == 0:
        return
    minor, middle = (np.clip(rng.normal(mean, width, len(heavy)), 0.3, 1.0) for mean, width in AXIS_RATIOS)
    axes = np.stack([np.ones(len(heavy)), np.maximum(middle, minor), minor], axis=1)
    rotation = np.linalg.qr(rng.standard_normal((len(heavy), 3, 3)))[0]
    which = np.full(len(log_m), -1)
    which[heavy] = np.arange(len(heavy))
    rows = np.flatnonzero(which[of] >= 0)
    turn = rotation[which[of[rows]]]
    shape = axes / np.cbrt(axes.prod(axis=1, keepdims=True))
    speed = axes**VELOCITY_POWER
    speed /= np.sqrt((speed**2).mean(axis=1, keepdims=True))
    for vector, stretch in ((position, shape), (velocity, speed)):
        along = np.einsum("nij,ni->nj", turn, vector[rows]) * stretch[which[of[rows]]]
        vector[rows] = np.einsum("nij,nj->ni", turn, along)


def _add_subclumps(sim, kinematics, log_m, of, position, velocity, rng):
    """Shift a tenth to a third of the satellites of some clusters by one offset in place and velocity (in place)."""
    n = len(log_m)
    disturbed = (rng.random(n) < kinematics.merger_fraction) & (log_m > 13.5)
    share = np.where(disturbed, rng.uniform(0.1, 0.33, n), 0.0)
    r_vir, sigma = (
        R_VIR * r200c(log_m, sim.redshift, omega_m=sim.omega_m),
        velocity_dispersion(log_m, sim.redshift, omega_m=sim.omega_m),
    )
    shift = (rng.uniform(0.4, 1.0, n) * r_vir)[:, None] * isotropic(n, rng)
    kick = (rng.uniform(0.5, 1.5, n) * sigma)[:, None] * isotropic(n, rng)
    moved = np.flatnonzero(rng.random(len(of)) < share[of])
    position[moved] = 0.4 * position[moved] + shift[of[moved]]
    velocity[moved] = 0.5 * velocity[moved] + kick[of[moved]]
