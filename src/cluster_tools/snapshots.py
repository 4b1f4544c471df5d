"""A periodic box of haloes and galaxies: synthetic stand-ins for MDPL2-UM and Uchuu-UM.

Nothing here is an N-body simulation. A Gaussian field with the simulation's power spectrum is
displaced by the Zel'dovich approximation; haloes with Tinker et al. (2008) abundances are drawn
from it with their Lagrangian bias, so that clustering and velocities hang together; satellites
follow NFW profiles with Jeans velocities, and groups fall in around clusters. The numbers that
set it are published ones (see `Population`); none of them comes from the paper's Table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from scipy import fft
from scipy.ndimage import map_coordinates

from cluster_tools.errors import ClusterToolsError
from cluster_tools.simulations import Simulation, colossus_cosmology, efunc, simulation
from cluster_tools.snapshot_files import GALAXY, Snapshot, collect

SMALLEST_BOX = 160.0  # Mpc/h: the observed cylinder spans almost as much along the line of sight
CELL = 4.0  # Mpc/h, of the displacement field
LOG_M_STEP = 0.01


@dataclass(frozen=True)
class Population:
    """How galaxies fill haloes, and what sets it.

    Read off published MDPL2-UM figures (observed stellar mass >= 10^9.5 Msun): satellites per
    halo, galaxy densities and the satellite fraction of 28%. Velocities: Evrard et al. 2008.
    """

    satellites_at_1e14: float = 27.0
    satellite_slope: float = 0.95
    satellite_cutoff: float = 5e11  # Msun/h: below it a halo is too small for satellites
    satellite_scatter: float = 0.15  # natural-log scatter of the mean, beyond Poisson
    log_m_central: float = 11.33  # half of these haloes hold a central above the cut
    central_width: float = 0.2
    concentration_ratio: float = 0.7  # of galaxies to dark matter
    velocity_scatter: float = 0.043  # Evrard et al. 2008
    merger_fraction: float = 0.1  # clusters with a subclump of 1:10 to 1:3
    infall_groups_at_1e14: float = 16.0  # groups drawn into the infall region of a halo
    infall_slope: float = 0.75


POPULATIONS = {
    "mdpl2": Population(),
    # Uchuu's higher resolution keeps subhaloes alive longer: more concentrated, a little richer.
    "uchuu": Population(satellites_at_1e14=28.0, concentration_ratio=0.8),
}


def synthetic(
    name: str, *, box_size: float | None = None, seed: int = 0, log_m_host: float = 13.5, path=None
) -> Snapshot:
    """Draw the synthetic universe that stands in for the simulation called `name`.

    Parameters
    ----------
    name : "mdpl2" or "uchuu"
    box_size : comoving Mpc/h; the simulation's own (1000 or 2000) by default
    seed : of every random number drawn
    log_m_host : haloes from this log10 M200c [Msun/h] on are listed as hosts

    Raises
    ------
    ClusterToolsError
        For an unknown simulation or a box that the observed cylinder does not fit in.

    Sources: Tinker et al. 2008 (abundance) and 2010 (bias), Diemer & Joyce 2019
    (concentrations), Evrard et al. 2008 (velocities), through colossus.
    """
    sim = simulation(name)
    box_size = sim.box_size if box_size is None else box_size
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ClusterToolsError(f"seed is {seed!r}, but a whole number from 0 on is expected.")
    if not isinstance(box_size, int | float | np.number) or not SMALLEST_BOX <= box_size <= sim.box_size:
        raise ClusterToolsError(
            f"box_size is {box_size!r} Mpc/h, but {SMALLEST_BOX:g} to {sim.box_size:g} is expected for {name}."
        )
    population = POPULATIONS[name]
    rng = np.random.default_rng([seed, sorted(POPULATIONS).index(name)])
    log_m = _halo_masses(sim, population, box_size, rng)
    position, velocity = _halo_field(sim, log_m, box_size, rng)
    _draw_into_infall(sim, population, log_m, position, velocity, box_size, rng)
    parent, sat_position, sat_velocity = _satellites(sim, population, log_m, rng)

    hosts = np.flatnonzero(log_m >= log_m_host)  # log_m is sorted, so these are its last
    first_host = len(log_m) - len(hosts)
    sat_position += position[parent]
    sat_velocity += velocity[parent]
    galaxies = np.empty(len(log_m) + len(parent), GALAXY)
    galaxies["position"] = np.concatenate([position, sat_position])
    galaxies["velocity"] = np.concatenate([velocity, sat_velocity])
    galaxies["host"] = np.maximum(np.concatenate([np.arange(len(log_m)), parent]) - first_host, -1)
    galaxies["is_satellite"] = np.arange(len(galaxies)) >= len(log_m)
    galaxies["log_mstar"] = 9.5
    position = position % np.float32(box_size)
    position[position >= box_size] = 0.0
    return collect(
        sim, box_size, position[hosts], velocity[hosts], log_m[hosts], [galaxies], path=path,
    )  # fmt: skip


def halo_mass_function(sim: Simulation, log_m200c) -> np.ndarray:
    """Tinker et al. (2008) haloes per dex and (Mpc/h)^3 at the snapshot's redshift (colossus)."""
    from colossus.lss import mass_function

    colossus_cosmology(sim)
    per_e_fold = mass_function.massFunction(
        10.0 ** np.asarray(log_m200c), sim.redshift, mdef="200c", model="tinker08", q_out="dndlnM"
    )
    return per_e_fold * np.log(10)


def velocity_dispersion(sim: Simulation, log_m200c) -> np.ndarray:
    """One-dimensional dark-matter dispersion [km/s] of a halo: Evrard et al. 2008, eq. 6."""
    return 1082.9 * (efunc(sim.omega_m, sim.redshift) * 10 ** (np.asarray(log_m200c) - 15)) ** 0.3361


def _halo_masses(sim, population, box_size, rng):
    """Sorted log10 M200c of every halo that holds a central galaxy above the stellar-mass cut."""
    from scipy.special import erf

    log_m = np.arange(population.log_m_central - 3 * population.central_width, 15.8, LOG_M_STEP)
    occupied = 0.5 * (1 + erf((log_m - population.log_m_central) / population.central_width))
    mean = halo_mass_function(sim, log_m) * occupied * LOG_M_STEP * box_size**3
    counts = rng.poisson(mean)
    return np.sort(np.repeat(log_m, counts) + LOG_M_STEP * (rng.random(counts.sum()) - 0.5))


def _halo_field(sim, log_m, box_size, rng):
    """Positions [Mpc/h] and velocities [km/s] of haloes in a Zel'dovich-displaced field."""
    from colossus.lss import bias

    cosmology = colossus_cosmology(sim)
    n = int(round(box_size / CELL))
    k_axis = 2 * np.pi * fft.fftfreq(n, box_size / n).astype(np.float32)
    k_last = 2 * np.pi * fft.rfftfreq(n, box_size / n).astype(np.float32)
    k2 = k_axis[:, None, None] ** 2 + k_axis[None, :, None] ** 2 + k_last**2
    k2[0, 0, 0] = 1.0
    table_k = np.geomspace(np.sqrt(k2.min()) * 0.99, np.sqrt(k2.max()) * 1.01, 512)
    table_p = cosmology.matterPowerSpectrum(table_k, z=sim.redshift)
    power = np.exp(np.interp(np.log(k2) / 2, np.log(table_k), np.log(table_p))).astype(np.float32)
    modes = fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32))
    modes *= np.sqrt(power / (box_size / n) ** 3)
    modes[0, 0, 0] = 0.0
    del power

    position = np.empty((len(log_m), 3), np.float32)
    # Haloes of one mass range are drawn from the field smoothed on their Lagrangian radius, the
    # heaviest first. Each takes most of its own matter out of the reach of later ones.
    free = np.ones((n, n, n), np.bool_)
    edges = np.unique(np.searchsorted(log_m, np.r_[-np.inf, 11.5, 12.0, 12.5, np.arange(13.0, 15.5, 0.25), np.inf]))
    mean_density = 2.7754e11 * sim.omega_m
    for begin, end in list(zip(edges[:-1], edges[1:], strict=True))[::-1]:
        radius = (3 * 10 ** log_m[begin:end] / (4 * np.pi * mean_density)) ** (1 / 3)
        mass = 10 ** np.median(log_m[begin:end])
        lagrangian_bias = bias.haloBias(mass, model="tinker10", z=sim.redshift, mdef="200c") - 1
        delta = fft.irfftn(modes * np.exp(-k2 * np.float32(np.median(radius) ** 2 / 10)), s=(n, n, n))
        cumulative = np.cumsum((np.exp(lagrangian_bias * delta) * free).ravel(), dtype=np.float64)
        spare = 4 if radius[-1] > CELL else 1  # some of the heavy ones' draws will be taken already
        cell = np.searchsorted(cumulative, rng.random((end - begin) * spare) * cumulative[-1])
        cell = np.stack(np.unravel_index(np.minimum(cell, n**3 - 1), (n, n, n)), axis=1)
        if spare > 1:
            cell = _take_patches(cell, 0.6 * radius[::-1] * (n / box_size), free)[::-1]
        position[begin:end] = (cell + rng.random(cell.shape, dtype=np.float32) - 0.5) * (box_size / n)

    velocity = np.empty_like(position)
    growth_rate = (sim.omega_m * (1 + sim.redshift) ** 3 / efunc(sim.omega_m, sim.redshift) ** 2) ** 0.55
    to_velocity = 100 * efunc(sim.omega_m, sim.redshift) / (1 + sim.redshift) * growth_rate
    start = (position * np.float32(n / box_size)).T
    for axis, k in enumerate((k_axis[:, None, None], k_axis[None, :, None], k_last)):
        field = fft.irfftn(1j * k / k2 * modes, s=(n, n, n))
        displacement = map_coordinates(field, start, order=1, mode="grid-wrap", output=np.float32)
        velocity[:, axis] = displacement * to_velocity
        position[:, axis] += displacement
    return position, velocity


@njit(cache=True)
def _take_patches(cell, radius, free):
    """Give each radius [cells] the first drawn cell that is still free, and occupy a sphere there."""
    n = len(free)
    taken = np.empty((len(radius), 3), cell.dtype)
    k = 0
    for i in range(len(radius)):
        while k < len(cell) - (len(radius) - i) and not free[cell[k, 0], cell[k, 1], cell[k, 2]]:
            k += 1
        taken[i] = cell[k]
        reach = int(radius[i])
        for dx in range(-reach, reach + 1):
            for dy in range(-reach, reach + 1):
                for dz in range(-reach, reach + 1):
                    if dx**2 + dy**2 + dz**2 <= radius[i] ** 2:
                        free[(taken[i, 0] + dx) % n, (taken[i, 1] + dy) % n, (taken[i, 2] + dz) % n] = False
        k += 1
    return taken


def _draw_into_infall(sim, population, log_m, position, velocity, box_size, rng):
    """Move some groups of the field into the infall regions of haloes above 10^13 (in place).

    The displacement field is too coarse for the first few Mpc/h around a cluster. Groups arrive
    there with density falling as r^-2 from R_vir to 6 R_vir, and a mean infall that fades outward.
    """
    centres = np.flatnonzero(log_m >= 13.5)
    groups = np.flatnonzero((log_m >= 12.0) & (log_m < 13.7))
    mean = population.infall_groups_at_1e14 * 10 ** (population.infall_slope * (log_m[centres] - 14))
    counts = rng.poisson(mean)
    # Heaviest clusters choose first; a group falls into one halo only, and not into a lighter one.
    target = np.repeat(centres, counts)[::-1]
    chosen = rng.choice(groups, size=min(len(target), len(groups)), replace=False)
    target = target[: len(chosen)]
    lighter = log_m[chosen] < log_m[target] - 0.3
    chosen, target = chosen[lighter], target[lighter]
    r_vir = _virial_radius(sim, log_m[target])
    r = r_vir * rng.uniform(1.0, 6.0, len(target))
    direction = _isotropic(len(target), rng)
    position[chosen] = position[target] + (r[:, None] * direction).astype(np.float32)
    sigma = velocity_dispersion(sim, log_m[target])
    infall = -1.2 * sigma * np.sqrt(r_vir / r)
    noise = rng.standard_normal((len(target), 3)) * (0.6 * sigma * np.sqrt(r_vir / r))[:, None]
    velocity[chosen] = velocity[target] + infall[:, None] * direction + noise


def _virial_radius(sim, log_m):
    """Comoving virial radius [Mpc/h]: 1.3 R200c, which holds within 3% for cluster haloes."""
    rho_critical = 2.7754e11 * efunc(sim.omega_m, sim.redshift) ** 2
    r200c = (3 * 10 ** np.asarray(log_m) / (800 * np.pi * rho_critical)) ** (1 / 3)
    return 1.3 * r200c * (1 + sim.redshift)


def _isotropic(n, rng):
    vector = rng.standard_normal((n, 3))
    return vector / np.linalg.norm(vector, axis=1, keepdims=True)


def _nfw_tables():
    """x = r/r_s, the enclosed mass and the isotropic Jeans variance there (any units).

    Lokas & Mamon 2001, eq. 14 with beta = 0, for a tracer that follows the mass.
    """
    x = np.geomspace(1e-4, 200.0, 4000)
    mass = np.log1p(x) - x / (1 + x)
    density = 1 / (x * (1 + x) ** 2)
    force = density * mass / x**2
    steps = 0.5 * (force[1:] + force[:-1]) * np.diff(x)
    outside = np.r_[np.cumsum(steps[::-1])[::-1], 0.0]
    return x, mass, outside / density


def _satellites(sim, population, log_m, rng):
    """Each satellite's halo (index), and its position and velocity relative to it."""
    from colossus.halo import concentration

    colossus_cosmology(sim)
    mass = 10**log_m
    mean = population.satellites_at_1e14 * 10 ** (population.satellite_slope * (log_m - 14))
    mean *= np.exp(-population.satellite_cutoff / mass + population.satellite_cutoff / 1e14)
    mean *= np.exp(population.satellite_scatter * rng.standard_normal(len(log_m)) - population.satellite_scatter**2 / 2)
    parent = np.repeat(np.arange(len(log_m)), rng.poisson(mean))
    owners, of_owner = np.unique(parent, return_inverse=True)

    knots = np.arange(log_m[owners].min() - 0.01, 15.9, 0.1)
    c200c = concentration.concentration(10**knots, "200c", sim.redshift, model="diemer19")
    c = np.interp(log_m[owners], knots, c200c) * population.concentration_ratio
    c *= 10 ** (0.16 * rng.standard_normal(len(owners)))
    c_vir = 1.3 * np.clip(c, 1.0, 20.0)

    x, enclosed, variance = _nfw_tables()
    enclosed_vir = np.interp(c_vir, x, enclosed)
    s = np.interp(rng.random(len(parent)) * enclosed_vir[of_owner], enclosed, x)
    r = s * (_virial_radius(sim, log_m[owners]) / c_vir)[of_owner]
    direction = _isotropic(len(parent), rng)

    # The Jeans solution gives the shape of sigma(r), Evrard et al. (2008) its level.
    shape = np.sqrt(np.interp(s, x, variance))
    level = np.interp(c_vir, *_mean_dispersion(x, enclosed, variance))
    boost = np.exp(population.velocity_scatter * rng.standard_normal(len(owners)))
    sigma = shape * (velocity_dispersion(sim, log_m[owners]) * boost / level)[of_owner]
    position = (r[:, None] * direction).astype(np.float32)
    velocity = (sigma[:, None] * rng.standard_normal((len(parent), 3))).astype(np.float32)
    _add_subclumps(sim, population, log_m[owners], of_owner, position, velocity, rng)
    return parent, position, velocity


def _mean_dispersion(x, enclosed, variance):
    """Root mean square of the Jeans dispersion within c, on a grid of c."""
    c = np.geomspace(0.5, 60.0, 200)
    weight = np.diff(enclosed)
    total = np.r_[0.0, np.cumsum(weight * 0.5 * (variance[1:] + variance[:-1]))]
    return c, np.sqrt(np.interp(c, x, total) / np.interp(c, x, enclosed))


def _add_subclumps(sim, population, log_m, of_owner, position, velocity, rng):
    """Shift a tenth to a third of the satellites of some clusters by one offset (in place)."""
    disturbed = (rng.random(len(log_m)) < population.merger_fraction) & (log_m > 13.5)
    share = np.where(disturbed, rng.uniform(0.1, 0.33, len(log_m)), 0.0)
    shift = (
        rng.uniform(0.4, 1.0, len(log_m))[:, None] * _virial_radius(sim, log_m)[:, None] * _isotropic(len(log_m), rng)
    )
    kick = rng.uniform(0.5, 1.5, len(log_m))[:, None] * velocity_dispersion(sim, log_m)[:, None]
    kick = kick * _isotropic(len(log_m), rng)
    moved = np.flatnonzero(rng.random(len(of_owner)) < share[of_owner])
    owner = of_owner[moved]
    position[moved] = 0.4 * position[moved] + shift[owner]
    velocity[moved] = 0.5 * velocity[moved] + kick[owner]
