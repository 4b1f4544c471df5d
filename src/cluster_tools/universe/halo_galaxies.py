"""Satellites in their haloes: radial profiles, velocities from the Jeans equation, triaxial shapes, subclumps.

The matter has NFW profiles with the concentrations c of Diemer & Joyce (2019, scatter 0.16 dex). The density of
satellites falls as steeply outside, but is flat in the core: 1 / (1 + c' r / R_vir)^3, with c' below c. Velocities
solve the Jeans equation of satellites in the matter's potential, with an anisotropy that rises outward, and are scaled
to the dispersion of Evrard et al. (2008). Haloes above `LOG_M_TRIAXIAL` are ellipsoids, with the velocity ellipsoid
along the same axes; a tenth of the clusters has a subclump.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import map_coordinates

from cluster_tools.cosmology import R_VIR, Simulation, colossus_cosmology, efunc, enclosed, r200c, velocity_dispersion

LOG_M_TRIAXIAL = 13.0  # log10 Msun/h
LOG_M_SUBCLUMP = 13.5  # log10 Msun/h
CONCENTRATION_RATIO = 0.45  # of satellites over matter, for ROGER's galaxies: NFW profiles put too many in the core
CONCENTRATION_SCATTER = 0.16  # dex
VELOCITY_SCATTER = 0.043  # of the dispersion from halo to halo, natural log: Evrard et al. 2008
MERGERS = 0.1  # share of clusters with a subclump of 1:10 to 1:3
# Minor and intermediate axis over the major one, mean and scatter: Kasun & Evrard 2005.
AXIS_RATIOS = ((0.64, 0.08), (0.76, 0.08))
VELOCITY_POWER = 0.75  # of the axes, for the rounder velocity ellipsoid: 0.72 and 0.82, the same authors
ANISOTROPY_RADIUS = 0.18  # a in R_vir: beta(r) = r / 2 (r + a), Mamon & Lokas 2005; 0.42 at R_vir
CONCENTRATIONS = np.geomspace(0.8, 40.0, 40)
RADII = np.geomspace(1e-3, 1.0, 200)  # R_vir


def mean_concentration(sim: Simulation, log_m200c) -> np.ndarray:
    """Median c200c of haloes with `log_m200c` [log10 Msun/h]: Diemer & Joyce 2019 (colossus)."""
    return np.interp(log_m200c, *_concentration_table(sim))


@lru_cache
def _concentration_table(sim):
    from colossus.halo import concentration
    from colossus.utils.storage import StorageUser

    # No file of its tables at home: it takes no longer, and another process could read the file half written.
    concentration.storageUser = StorageUser("concentration", "", lambda: "", lambda: "", None)
    colossus_cosmology(sim)
    log_m200c = np.arange(10.5, 15.95, 0.1)
    return log_m200c, concentration.concentration(10**log_m200c, "200c", sim.redshift, model="diemer19")


def draw(sim: Simulation, log_m200c: np.ndarray, counts: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """Draw satellites, `counts` (n,) in haloes of `log_m200c` (n,) [log10 Msun/h], halo by halo.

    Returns float32 positions and velocities (counts.sum(), 3) relative to the halo [comoving Mpc/h, km/s].
    """
    occupied = np.flatnonzero(counts)
    log_m = log_m200c[occupied]
    halo = np.repeat(np.arange(len(occupied)), counts[occupied])
    r_vir = R_VIR * r200c(log_m, sim.redshift, omega_m=sim.omega_m)
    sigma = velocity_dispersion(log_m, sim.redshift, omega_m=sim.omega_m)
    c_vir = R_VIR * mean_concentration(sim, log_m) * 10 ** (CONCENTRATION_SCATTER * rng.standard_normal(len(log_m)))
    c_vir = np.clip(c_vir * CONCENTRATION_RATIO, CONCENTRATIONS[0], CONCENTRATIONS[-1])
    r = _along_table(_radius_table(), c_vir[halo], rng.random(len(halo)) * 1000)  # R_vir
    along_radii = np.log(np.maximum(r, RADII[0]) / RADII[0]) * ((len(RADII) - 1) / np.log(RADII[-1] / RADII[0]))
    sigma_r = _along_table(_dispersion_table(CONCENTRATION_RATIO), c_vir[halo], along_radii)
    sigma_r *= (np.exp(VELOCITY_SCATTER * rng.standard_normal(len(log_m))) * sigma)[halo]

    outward = isotropic(len(halo), rng)
    tangential = rng.standard_normal((len(halo), 3))
    tangential -= (tangential * outward).sum(axis=1, keepdims=True) * outward
    radial = rng.standard_normal(len(halo))[:, None] * outward
    velocity = sigma_r[:, None] * (radial + np.sqrt(1 - _beta(r))[:, None] * tangential)
    position = (r * r_vir[halo])[:, None] * outward
    _make_triaxial(log_m, halo, position, velocity, rng)
    _add_subclumps(log_m, r_vir, sigma, halo, position, velocity, rng)
    # A halo in equilibrium does not expand: peculiar velocities undo the Hubble flow inside it.
    velocity -= 100 * efunc(sim.redshift, omega_m=sim.omega_m) / (1 + sim.redshift) * position
    return position.astype(np.float32), velocity.astype(np.float32)


def isotropic(n: int, rng) -> np.ndarray:
    """Unit vectors (n, 3) in random directions."""
    vector = rng.standard_normal((n, 3))
    return vector / np.linalg.norm(vector, axis=1, keepdims=True)


def _satellites(x):
    """Satellites within x scale radii: the integral of x^2 / (1 + x)^3."""
    return np.log1p(x) - x * (2 + 3 * x) / (2 * (1 + x) ** 2)


def _beta(r):
    return 0.5 * r / (r + ANISOTROPY_RADIUS)


@lru_cache
def _radius_table() -> np.ndarray:
    """Radius [R_vir] within which a share of the satellites lies, for each concentration: (40, 1001)."""
    share = np.linspace(0, 1, 1001)
    r = np.r_[0, np.geomspace(RADII[0], 1, 4000)]
    return np.array([np.interp(share, _satellites(c * r) / _satellites(c), r) for c in CONCENTRATIONS])


@lru_cache
def _dispersion_table(ratio: float) -> np.ndarray:
    """Radial dispersion at `RADII` for each concentration (40, 200), `ratio` times that of the mass.

    Its square, averaged over directions and over the satellites within R_vir, is 1. Jeans equation of satellites in
    the matter's potential, with beta = r / 2 (r + a): nu sigma_r^2 = 1 / (r + a) integral_r^inf (s + a) nu G M / s^2
    ds (Mamon & Lokas 2005, eq. A16).
    """
    r = np.geomspace(RADII[0], 30.0, 3000)
    inside = r <= 1
    table = []
    for c in CONCENTRATIONS:
        density = (1 + c * r) ** -3
        force = (r + ANISOTROPY_RADIUS) * density * enclosed(c / ratio * r) / r**2
        steps = 0.5 * (force[1:] + force[:-1]) * np.diff(r)
        variance = np.r_[np.cumsum(steps[::-1])[::-1], 0.0] / (r + ANISOTROPY_RADIUS) / density
        one_dimensional = variance[inside] * (1 - 2 / 3 * _beta(r[inside]))
        mean = np.average(one_dimensional, weights=np.gradient(_satellites(c * r[inside])))
        table.append(np.interp(RADII, r, np.sqrt(variance / mean)))
    return np.array(table)


def _along_table(table, c, column):
    """Bilinear interpolation of a table whose rows are `CONCENTRATIONS`, at fractional columns."""
    row = np.log(c / CONCENTRATIONS[0]) / np.log(CONCENTRATIONS[1] / CONCENTRATIONS[0])
    return map_coordinates(table, [row, column], order=1, mode="nearest")


def _make_triaxial(log_m, halo, position, velocity, rng):
    """Stretch heavy haloes to ellipsoids of equal volume, and their velocities to equal energy (in place)."""
    heavy = log_m >= LOG_M_TRIAXIAL
    n, rows = heavy.sum(), np.flatnonzero(heavy[halo])
    minor, middle = (np.clip(rng.normal(mean, width, n), 0.3, 1.0) for mean, width in AXIS_RATIOS)
    axes = np.stack([np.ones(n), np.maximum(middle, minor), minor], axis=1)
    rotations = np.linalg.qr(rng.standard_normal((n, 3, 3)))[0]
    number = (np.cumsum(heavy) - 1)[halo[rows]]
    speed = axes**VELOCITY_POWER
    speed /= np.sqrt((speed**2).mean(axis=1, keepdims=True))
    for vector, stretch in ((position, axes / np.cbrt(axes.prod(axis=1, keepdims=True))), (velocity, speed)):
        stretched = np.einsum("nij,ni->nj", rotations[number], vector[rows]) * stretch[number]
        vector[rows] = np.einsum("nij,nj->ni", rotations[number], stretched)


def _add_subclumps(log_m, r_vir, sigma, halo, position, velocity, rng):
    """Shift a tenth to a third of the satellites of a few clusters by one offset and velocity (in place)."""
    n = len(log_m)
    disturbed = (rng.random(n) < MERGERS) & (log_m > LOG_M_SUBCLUMP)
    share = np.where(disturbed, rng.uniform(0.1, 0.33, n), 0.0)
    shift = (rng.uniform(0.4, 1.0, n) * r_vir)[:, None] * isotropic(n, rng)
    kick = (rng.uniform(0.5, 1.5, n) * sigma)[:, None] * isotropic(n, rng)
    moved = np.flatnonzero(rng.random(len(halo)) < share[halo])
    position[moved] = 0.4 * position[moved] + shift[halo[moved]]
    velocity[moved] = 0.5 * velocity[moved] + kick[halo[moved]]
