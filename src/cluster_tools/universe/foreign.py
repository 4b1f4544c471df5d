"""A foreign universe, drawn by other recipes than the synthetic ones: no network is trained on it.

Haloes lie in a log-normal field, with abundances of Despali et al. (2016), bias of Sheth, Mo & Tormen (2001) and
linear velocities. They hold the galaxies of Zheng, Coil & Zehavi (2007), brighter than M_r = -18.5, about as many as
above 10^9.5 Msun. Satellites follow the matter: NFW profiles with concentrations of Duffy et al. (2008), and the
isotropic solution of the Jeans equation. Nothing was fitted to the synthetic universes, nor to UniverseMachine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import fft
from scipy.special import erf, lambertw, spence

from cluster_tools import arrays, cosmology
from cluster_tools.cosmology import LOG_M_HOST, Simulation, colossus_cosmology, efunc, r200c, simulation, v200c
from cluster_tools.universe import halo_galaxies
from cluster_tools.universe.halo_field import Spheres, velocity_of_displacement
from cluster_tools.universe.snapshots import Snapshot, collect, galaxy_table, wrapped

BOX = 400.0  # comoving Mpc/h: large enough for a thousand clusters
GRID = 4.0  # Mpc/h
SMOOTHING = 4.0  # Mpc/h, of the field that haloes follow: a log-normal field with smaller waves clusters too much
LOG_M_EDGES = np.arange(10.9, 15.81, 0.1)  # log10 M200c [Msun/h]
LOG_M_SINGLE = 13.0  # from here on, a cell holds no more than one halo of a range
LOG_MSTAR = 9.5  # log10 Msun, of all galaxies: a sample above a luminosity has no stellar masses
# Zheng et al. 2007, Table 1, M_r < -18.5; masses are M200m [Msun/h]
LOG_MIN, LOG_WIDTH, LOG_M0, LOG_M1, ALPHA = 11.46, 0.24, 10.59, 12.68, 0.97


def foreign(
    name: str, *, box_size: float | None = None, seed: int = 0, path: Path | str | None = None, progress=None
) -> Snapshot:
    """Draw the foreign universe in the cosmology and at the redshift of the simulation `name`, "mdpl2" or "uchuu".

    `box_size` is its side [comoving Mpc/h], 160 to 1000; None: `BOX`. `seed`, `path` and `progress` are as in
    `synthetic.synthetic`. Raises `ClusterToolsError` for an unknown simulation and a `box_size` out of range.
    """
    sim, box_size = simulation(name), BOX if box_size is None else box_size
    arrays.check_number("box_size", box_size, 160, 1000)
    rng = np.random.default_rng([int(seed), 7])
    log_m, position, velocity = _haloes(sim, float(box_size), rng)
    heavy = log_m >= LOG_M_SINGLE
    radius = r200c(log_m[heavy], sim.redshift, omega_m=sim.omega_m)
    outside = Spheres(position[heavy], radius, log_m[heavy], float(box_size)).owner(position, log_m) < 0
    log_m, position, velocity = (column[outside] for column in (log_m, position, velocity))
    hosts = log_m >= LOG_M_HOST
    galaxies = _galaxies(sim, log_m, position, velocity, np.where(hosts, np.cumsum(hosts) - 1, -1), rng)
    if progress:
        progress(1, 1)
    return collect(sim, float(box_size), position[hosts], velocity[hosts], log_m[hosts], [galaxies], path=path)


def mean_galaxies(log_m200m) -> tuple[np.ndarray, np.ndarray]:
    """Mean numbers of centrals and satellites of haloes, by log10 M200m [Msun/h]: Zheng et al. 2007, eqs. 2 and 5."""
    log_m200m = np.asarray(log_m200m, float)
    centrals = 0.5 * (1 + erf((log_m200m - LOG_MIN) / LOG_WIDTH))
    return centrals, centrals * (np.maximum(10**log_m200m - 10**LOG_M0, 0) / 10**LOG_M1) ** ALPHA


def isotropic_dispersion(x, concentration) -> np.ndarray:
    """One-dimensional dispersion at radii `x` = r / R of an NFW halo that ends at R, over the circular velocity at R.

    Jeans equation of an isotropic tracer that follows the mass: Lokas & Mamon 2001, eq. 14. `concentration` is R / r_s.
    """
    y = concentration * np.asarray(x, float)
    bracket = np.pi**2 - np.log(y) - 1 / y - 1 / (1 + y) ** 2 - 6 / (1 + y) + 6 * spence(1 + y)
    bracket += (1 + 1 / y**2 - 4 / y - 2 / (1 + y)) * np.log1p(y) + 3 * np.log1p(y) ** 2
    return np.sqrt(0.5 * concentration * y * (1 + y) ** 2 * bracket / cosmology.enclosed(concentration))


def nfw_radius(share, concentration) -> np.ndarray:
    """Radius r / R that holds a `share` of the mass inside R of an NFW halo; `concentration` is R / r_s."""
    return (-1 / lambertw(-np.exp(-share * cosmology.enclosed(concentration) - 1)).real - 1) / concentration


def _haloes(sim: Simulation, box_size: float, rng):
    """Masses, positions and velocities of haloes in a log-normal field, from the heaviest range down."""
    from colossus.lss import bias, mass_function

    cosmology, n = colossus_cosmology(sim), int(round(box_size / GRID))
    wave = [2 * np.pi * f(n, box_size / n) for f in (fft.fftfreq, fft.fftfreq, fft.rfftfreq)]
    k = np.stack(np.meshgrid(*wave, indexing="ij"))
    k2 = np.maximum((k**2).sum(axis=0), np.min(wave[2][1:]) ** 2)
    modes = fft.rfftn(rng.standard_normal((n, n, n)))
    modes *= np.sqrt(cosmology.matterPowerSpectrum(np.sqrt(k2), z=sim.redshift) / GRID**3)
    modes[0, 0, 0] = 0
    modes *= np.exp(-k2 * SMOOTHING**2 / 2)
    delta = fft.irfftn(modes, (n, n, n)).ravel()
    speed = velocity_of_displacement(sim)
    flow = np.stack([speed * fft.irfftn(1j * along * modes / k2, (n, n, n)).ravel() for along in k], axis=1)
    cell, mass = [], []
    for low, high in list(zip(LOG_M_EDGES, LOG_M_EDGES[1:]))[::-1]:
        middle = 10 ** ((low + high) / 2)
        density = mass_function.massFunction(middle, sim.redshift, mdef="200c", model="despali16", q_out="dndlnM")
        number = rng.poisson(density * np.log(10) * (high - low) * box_size**3)
        log_weight = bias.haloBias(middle, sim.redshift, mdef="200c", model="sheth01") * delta
        if low >= LOG_M_SINGLE:  # without replacement: the largest of weights with Gumbel noise
            chosen = np.argpartition(-log_weight - rng.gumbel(size=n**3), number)[:number]
        else:
            chosen = rng.choice(n**3, number, p=np.exp(log_weight) / np.exp(log_weight).sum())
        cell.append(chosen)
        mass.append(rng.uniform(low, high, number))
    cell, log_m = np.concatenate(cell), np.concatenate(mass)
    place = np.stack(np.unravel_index(cell, (n, n, n)), axis=1) + rng.random((len(cell), 3)) - 0.5
    return log_m, wrapped((place * (box_size / n)).astype(np.float32), box_size), flow[cell].astype(np.float32)


def _galaxies(sim: Simulation, log_m, position, velocity, host, rng) -> np.ndarray:
    """Centrals and satellites of all haloes, as an array of `GALAXY`."""
    log_m200m, concentration = _matter_halo(sim, log_m)
    centrals, satellites = mean_galaxies(log_m200m)
    with_central = np.flatnonzero(rng.random(len(log_m)) < centrals)
    halo = np.repeat(np.arange(len(log_m)), rng.poisson(satellites))
    # R200m holds 200 times the mean density: its mass and that of R200c give the ratio of the two radii.
    density_ratio = efunc(sim.redshift, omega_m=sim.omega_m) ** 2 / (sim.omega_m * (1 + sim.redshift) ** 3)
    radius_c = r200c(log_m, sim.redshift, omega_m=sim.omega_m)
    mass_ratio = 10 ** (log_m200m - log_m)
    radius = (radius_c * np.cbrt(mass_ratio * density_ratio))[halo]
    speed = (v200c(radius_c, sim.redshift, omega_m=sim.omega_m) * (mass_ratio**2 / density_ratio) ** (1 / 6))[halo]
    x = np.maximum(nfw_radius(rng.random(len(halo)), concentration[halo]), 1e-4)
    sigma = speed * isotropic_dispersion(x, concentration[halo])
    row, n = np.r_[with_central, halo], len(with_central)
    position, velocity = position[row], velocity[row]
    position[n:] += (radius * x)[:, None] * halo_galaxies.isotropic(len(halo), rng)
    velocity[n:] += sigma[:, None] * rng.standard_normal((len(halo), 3))
    kind = {"host": host[row], "is_satellite": np.arange(len(row)) >= n, "log_mstar": LOG_MSTAR}
    return galaxy_table(position=position, velocity=velocity, **kind)


def _matter_halo(sim: Simulation, log_m200c) -> tuple[np.ndarray, np.ndarray]:
    """log10 M200m [Msun/h] and concentration c200m: Duffy et al. 2008 (colossus)."""
    from colossus.halo import mass_adv

    colossus_cosmology(sim)
    table = np.linspace(11.0, 14.8, 39)  # where the relation holds; its ends stand for what lies beyond
    m200m, _, c200m = mass_adv.changeMassDefinitionCModel(10**table, sim.redshift, "200c", "200m", c_model="duffy08")
    return log_m200c + np.interp(log_m200c, table, np.log10(m200m) - table), np.interp(log_m200c, table, c200m)
