"""Synthetic universes: periodic boxes of haloes and galaxies that stand in for MDPL2-UM and Uchuu-UM.

Nothing here is an N-body simulation. Haloes with Tinker et al. (2008) abundances are drawn from a
Gaussian field and moved with it (`halo_field`); each holds a central galaxy and satellites
(`halo_galaxies`, `stellar_masses`); smaller haloes fall in around clusters, where the field is too
coarse. The numbers that set it are published ones (see `Population`); none of them comes from the
paper's Table 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from cluster_tools.cosmology import R_VIR, Simulation, colossus_cosmology, r200c, simulation, velocity_dispersion
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import halo_field, halo_galaxies, stellar_masses
from cluster_tools.universe.halo_field import INFALL_REACH, LOG_M_PATCH, Spheres
from cluster_tools.universe.halo_galaxies import Kinematics
from cluster_tools.universe.snapshots import GALAXY, Snapshot, collect, wrapped

SMALLEST_BOX = 160.0  # Mpc/h: the observed cylinder spans almost as much along the line of sight
LOG_M_HOST = 13.5  # log10 Msun/h: the training sets begin above it
LOG_M_STEP = 0.01
LIGHT = np.array([10.8, 11.5, 12.0, 12.5, LOG_M_PATCH])  # ranges of log10 M200c that share a bias
CHUNK = 10_000  # haloes whose galaxies are drawn at a time: even the heaviest ones of a large box fit in memory

# log10 M200c [Msun/h] and mean number of satellites above 10^9.5 Msun: clusters as read off published
# MDPL2-UM figures; below them as many, and in as light haloes, as the interlopers of those clusters need.
SATELLITES = ((11.0, 0.002), (11.5, 0.11), (12.0, 0.66), (13.0, 1.65), (14.0, 28.0), (15.0, 245.0))


@dataclass(frozen=True)
class Population:
    """How galaxies fill haloes, and what falls in around hosts.

    Infall is set by what the cylinder around clusters holds in published MDPL2-UM figures (satellites
    with observed stellar masses >= 10^9.5 Msun), and by a turnaround at a few R200c.

    Attributes
    ----------
    kinematics : of satellites in their haloes
    richness : satellites of a halo, in those of `SATELLITES`
    satellite_scatter : natural-log scatter of their mean number, beyond Poisson
    infall_at_1e14, infall_slope : haloes that fall in around a host of 10^14 Msun/h, and how their
        number rises with its mass
    infall_mass_power : their mass function is the universal one times M to this power
    infall_reach : how far out they are [R_vir]
    infall_speed : their mean radial speed at R_vir, in the host's velocity dispersion
    """

    kinematics: Kinematics
    richness: float = 1.0
    satellite_scatter: float = 0.15
    infall_at_1e14: float = 16.0
    infall_slope: float = 0.75
    infall_mass_power: float = 0.7
    infall_reach: float = 6.0
    infall_speed: float = 1.8


POPULATIONS = {
    "mdpl2": Population(Kinematics(concentration_ratio=0.7, velocity_bias=1.0)),
    # Uchuu's higher resolution keeps subhaloes alive longer, deep in the potential: satellites are more
    # concentrated, a little more numerous, and less of the slow ones are lost.
    "uchuu": Population(Kinematics(concentration_ratio=0.8, velocity_bias=0.97), richness=1.02),
}


def synthetic(
    name: str,
    *,
    box_size: float | None = None,
    seed: int = 0,
    log_m_host: float = LOG_M_HOST,
    min_log_mstar: float = 9.5,
    path: Path | str | None = None,
    progress=None,
) -> Snapshot:
    """Draw the synthetic universe that stands in for the simulation called `name`.

    Parameters
    ----------
    name : "mdpl2" or "uchuu"
    box_size : comoving Mpc/h; the simulation's own (1000 or 2000) by default
    seed : of every random number drawn
    log_m_host : haloes from this log10 M200c [Msun/h] on are listed as hosts; 13 or more
    min_log_mstar : galaxies have at least this log10 stellar mass [Msun, no h]
    path : file that the galaxies are written to, in a memory that does not grow with their
        number; None keeps them in memory
    progress : called with (layers of the box that are done, layers in all)

    Raises
    ------
    ClusterToolsError
        For an unknown simulation or a parameter out of range; `box_size` must hold the cylinder.

    Sources: Tinker et al. 2008 (abundance) and 2010 (bias), Diemer & Joyce 2019 (concentrations),
    Evrard et al. 2008 (velocities), through colossus.
    """
    sim = simulation(name)
    box_size = sim.box_size if box_size is None else box_size
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ClusterToolsError(f"seed is {seed!r}, but a whole number from 0 on is expected.")
    for what, value, low, high, unit in (
        ("box_size", box_size, SMALLEST_BOX, sim.box_size, f" is expected for {name}"),
        ("log_m_host", log_m_host, LOG_M_PATCH, 15.0, " is expected"),
    ):
        if not isinstance(value, int | float | np.number) or not low <= value <= high:
            raise ClusterToolsError(f"{what} is {value!r}, but {low:g} to {high:g}{unit}.")
    population = POPULATIONS[name]
    seeds = [int(seed), sorted(POPULATIONS).index(name)]
    rng = np.random.default_rng([*seeds, 0])
    log_m = _heavy_masses(sim, box_size, rng)
    field, position, velocity = halo_field.draw(sim, box_size, log_m, rng)
    haloes = Spheres.around(position, r200c(log_m, sim.redshift, omega_m=sim.omega_m), box_size)
    kept = halo_field.outside_of_larger(position, log_m, haloes, log_m)
    log_m, position, velocity = log_m[kept], position[kept], velocity[kept]
    hosts = np.flatnonzero(log_m >= log_m_host)  # log_m rises, so these are its last
    pieces = _pieces(sim, population, field, (log_m, position, velocity), hosts[0], min_log_mstar, seeds, progress)
    return collect(sim, box_size, wrapped(position[hosts], box_size), velocity[hosts], log_m[hosts], pieces, path=path)


def halo_mass_function(sim: Simulation, log_m200c) -> np.ndarray:
    """Tinker et al. (2008) haloes per dex and (Mpc/h)^3 at the snapshot's redshift (colossus)."""
    from colossus.lss import mass_function

    colossus_cosmology(sim)
    per_e_fold = mass_function.massFunction(
        10.0 ** np.asarray(log_m200c), sim.redshift, mdef="200c", model="tinker08", q_out="dndlnM"
    )
    return per_e_fold * np.log(10)


def _heavy_masses(sim, box_size, rng) -> np.ndarray:
    """log10 M200c of all haloes above `LOG_M_PATCH`, rising."""
    middle = np.arange(LOG_M_PATCH, 15.8, LOG_M_STEP) + LOG_M_STEP / 2
    counts = rng.poisson(halo_mass_function(sim, middle) * LOG_M_STEP * box_size**3)
    return np.sort(np.repeat(middle, counts) + LOG_M_STEP * (rng.random(counts.sum()) - 0.5))


def _pieces(sim, population, field, heavy, first_host, min_log_mstar, seeds, progress) -> Iterator[np.ndarray]:
    """Galaxies of heavy haloes, of those that fall in around hosts, and of the other light ones."""
    log_m, position, _ = heavy
    radius = r200c(log_m, sim.redshift, omega_m=sim.omega_m)
    haloes = Spheres.around(position, radius, field.box_size)
    hosts = Spheres.around(position[first_host:], INFALL_REACH * radius[first_host:], field.box_size)
    masses = _light_masses(sim, min_log_mstar, population.infall_mass_power)

    def galaxies_of(light, rng):
        """Of haloes (masses, positions, velocities) that are no hosts; what lies in larger ones is left out."""
        outside = halo_field.outside_of_larger(light[1], light[0], haloes, log_m)
        light = [each[outside] for each in light]
        return _galaxies(sim, population, *light, np.full(len(light[0]), -1), min_log_mstar, rng)

    for begin in range(0, len(log_m), CHUNK):
        some = [each[begin : begin + CHUNK] for each in heavy]
        host = np.maximum(np.arange(begin, begin + len(some[0])) - first_host, -1)
        yield _galaxies(sim, population, *some, host, min_log_mstar, np.random.default_rng([*seeds, 1, begin]))

    falling = np.zeros(len(LIGHT) - 1)
    for begin in range(first_host, len(log_m), CHUNK):
        rng = np.random.default_rng([*seeds, 2, begin])
        falling_in = _infall(sim, population, masses, *(each[begin : begin + CHUNK] for each in heavy), rng)
        falling += np.histogram(falling_in[0], LIGHT)[0]
        yield galaxies_of(falling_in, rng)

    numbers = np.maximum(masses.density * field.box_size**3 - falling, 0)
    expected = halo_field.light_haloes_in_layers(sim, field, LIGHT, numbers)

    def of_layer(layer):
        rng = np.random.default_rng([*seeds, 3, layer])
        which, *place = halo_field.light_haloes(sim, field, LIGHT, expected[layer], layer, rng)
        halo_field.add_infall(sim, *place, hosts)
        return galaxies_of((masses.draw(which, rng), *place), rng)

    threads = numba.config.NUMBA_NUM_THREADS
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(expected), threads):  # so many layers at a time are in memory
            end = min(begin + threads, len(expected))
            yield from pool.map(of_layer, range(begin, end))
            if progress:
                progress(end, len(expected))


@dataclass(frozen=True)
class LightMasses:
    """Masses of haloes below `LOG_M_PATCH` that hold a central galaxy above the cut.

    Attributes
    ----------
    log_m, below, falling_below : arrays (m,)
        log10 M200c, and the density [(h/Mpc)^3] of such haloes below it, in the mean and among those that fall in.
    """

    log_m: np.ndarray
    below: np.ndarray
    falling_below: np.ndarray

    @property
    def density(self) -> np.ndarray:
        """Of each range of `LIGHT` [(h/Mpc)^3]."""
        return np.diff(np.interp(LIGHT, self.log_m, self.below))

    def draw(self, which: np.ndarray, rng) -> np.ndarray:
        """Masses within these ranges of `LIGHT`."""
        low, high = np.interp(LIGHT, self.log_m, self.below)[np.stack([which, which + 1])]
        return np.interp(low + rng.random(len(which)) * (high - low), self.below, self.log_m)

    def draw_falling(self, n: int, rng) -> np.ndarray:
        """Masses of haloes that fall in."""
        return np.interp(rng.random(n) * self.falling_below[-1], self.falling_below, self.log_m)


def _light_masses(sim, min_log_mstar, infall_mass_power) -> LightMasses:
    log_m = np.linspace(LIGHT[0], LIGHT[-1], 1101)
    function = halo_mass_function(sim, log_m) * stellar_masses.central_occupation(log_m, min_log_mstar)
    steps = 0.5 * (function[1:] + function[:-1]) * np.diff(log_m)
    # The mass function of dense places is top-heavy.
    falling = steps * 10 ** (infall_mass_power * ((log_m[1:] + log_m[:-1]) / 2 - 12))
    return LightMasses(log_m, np.r_[0, np.cumsum(steps)], np.r_[0, np.cumsum(falling)])


def _infall(sim, population, masses, log_m, position, velocity, rng):
    """Light haloes around hosts: masses, positions, velocities.

    Their density falls as r^-2 from R_vir outward. They fall towards the host, the slower the
    farther; within twice R_vir, half have been through it and fly in any direction.
    """
    counts = rng.poisson(population.infall_at_1e14 * 10 ** (population.infall_slope * (log_m - 14)))
    of = np.repeat(np.arange(len(log_m)), counts)
    r = rng.uniform(1.0, population.infall_reach, len(of))
    outward = halo_galaxies.isotropic(len(of), rng)
    speed = (velocity_dispersion(log_m, sim.redshift, omega_m=sim.omega_m)[of] / np.sqrt(r))[:, None]
    radial = -population.infall_speed * speed * outward
    radial[(r < 2) & (rng.random(len(of)) < 0.5)] = 0.0
    own = radial + 0.6 * speed * rng.standard_normal((len(of), 3))
    place = position[of] + (r * R_VIR * r200c(log_m, sim.redshift, omega_m=sim.omega_m)[of])[:, None] * outward
    return masses.draw_falling(len(of), rng), place.astype(np.float32), (velocity[of] + own).astype(np.float32)


def mean_satellites(population: Population, log_m200c) -> np.ndarray:
    """Mean number of satellites above 10^9.5 Msun of haloes with log10 M200c [Msun/h]: power laws between the knots."""
    log_m, number = np.array(SATELLITES).T
    slope = np.diff(np.log10(number)) / np.diff(log_m)
    piece = np.clip(np.searchsorted(log_m, log_m200c) - 1, 0, len(slope) - 1)
    return population.richness * number[piece] * 10 ** (slope[piece] * (log_m200c - log_m[piece]))


def _galaxies(sim, population, log_m, position, velocity, host, min_log_mstar, rng) -> np.ndarray:
    """The central galaxies of these haloes, then their satellites, as an array of `GALAXY`."""
    mean = mean_satellites(population, log_m)
    mean *= stellar_masses.satellite_ratio(log_m, min_log_mstar)
    scatter = population.satellite_scatter
    counts = rng.poisson(mean * np.exp(scatter * rng.standard_normal(len(log_m)) - scatter**2 / 2))
    of = np.repeat(np.arange(len(log_m)), counts)
    offset, motion = halo_galaxies.draw(sim, population.kinematics, log_m, counts, rng)
    centrals, satellites = np.empty(len(log_m), GALAXY), np.empty(len(of), GALAXY)
    centrals["position"], centrals["velocity"], centrals["host"] = position, velocity, host
    centrals["is_satellite"] = False
    centrals["log_mstar"] = stellar_masses.draw_centrals(log_m, min_log_mstar, rng)
    satellites["position"], satellites["velocity"] = position[of] + offset, velocity[of] + motion
    satellites["host"], satellites["is_satellite"] = host[of], True
    satellites["log_mstar"] = stellar_masses.draw_satellites(log_m[of], min_log_mstar, rng)
    return np.concatenate([centrals, satellites])
