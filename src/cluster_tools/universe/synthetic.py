"""Synthetic universes: periodic boxes of haloes and galaxies that stand in for MDPL2-UM and Uchuu-UM.

Nothing here is an N-body simulation. Haloes with Tinker et al. (2008) abundances are drawn from a Gaussian field and
moved with it (`halo_field`); each holds a central galaxy and satellites (`halo_galaxies`, `stellar_masses`); smaller
haloes fall in around clusters, where the field is too coarse. The parameters are published ones (see `Population`);
none of them comes from the paper's Table 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from cluster_tools.cosmology import R_VIR, Simulation, colossus_cosmology, r200c, simulation, velocity_dispersion
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import halo_field, halo_galaxies, stellar_masses
from cluster_tools.universe.halo_field import FLOW_RADIUS, LOG_M_HEAVY, Spheres
from cluster_tools.universe.halo_galaxies import Kinematics
from cluster_tools.universe.snapshots import GALAXY, Snapshot, collect, wrapped

SMALLEST_BOX = 160.0  # Mpc/h: the observed cylinder spans almost as much along the line of sight
LOG_M_HOST = 13.5  # log10 Msun/h, of hosts: the training sets begin above it
LOG_M_STEP = 0.01
LIGHT_EDGES = np.array([10.8, 11.5, 12.0, 12.5, LOG_M_HEAVY])  # ranges of log10 M200c that share a bias
CHUNK = 10_000  # haloes whose galaxies are drawn at a time: even the heaviest ones of a large box fit in memory

# log10 M200c [Msun/h] and mean number of satellites above 10^9.5 Msun. Clusters: read off published MDPL2-UM
# figures. Lighter haloes: chosen to give as many interlopers as the cylinders of those figures hold.
SATELLITES = ((11.0, 0.002), (11.5, 0.11), (12.0, 0.66), (13.0, 1.65), (14.0, 28.0), (15.0, 245.0))


@dataclass(frozen=True)
class Population:
    """How galaxies fill haloes, and which haloes fall in around hosts.

    The infalling haloes are set by the galaxies in the cylinder around clusters in published MDPL2-UM
    figures (satellites with observed stellar masses >= 10^9.5 Msun), and by a turnaround at a few R200c.
    """

    kinematics: Kinematics
    richness: float = 1.0  # number of satellites over that of `SATELLITES`
    satellite_scatter: float = 0.15  # of their mean number beyond Poisson, natural log
    infall_at_1e14: float = 16.0  # number of haloes falling in around a host of 10^14 Msun/h
    infall_slope: float = 0.75  # of that number in the host's mass
    infall_mass_power: float = 0.7  # their mass function is the universal one times M to this power
    infall_radius: float = 7.8  # R200c, largest distance from the host
    infall_speed: float = 1.8  # mean radial speed at R_vir in the host's velocity dispersion: 1.2 V200c


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
    """Draw the synthetic universe that stands in for the simulation called `name`, "mdpl2" or "uchuu".

    `box_size` is the side of the box [comoving Mpc/h], 160 or more; by default the simulation's, 1000 or 2000.
    `log_m_host` is the lowest mass of hosts [log10 M200c, Msun/h], 13 to 15; `min_log_mstar` the lowest stellar mass of
    galaxies [log10 Msun, no h], 9.0 to 11.5. `path` is a file to write the galaxies to, in bounded memory; None keeps
    them in memory. `progress` is called with (layers of the box that are done, layers in all). Raises
    `ClusterToolsError` for an unknown simulation or a parameter out of range.

    Tinker et al. 2008 (abundance) and 2010 (bias), Diemer & Joyce 2019 (concentrations), Evrard et al. 2008.
    """
    sim = simulation(name)
    box_size = sim.box_size if box_size is None else box_size
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ClusterToolsError(f"seed is {seed!r}, but a whole number from 0 on is expected.")
    for parameter, value, low, high in (
        ("box_size", box_size, SMALLEST_BOX, sim.box_size),
        ("log_m_host", log_m_host, LOG_M_HEAVY, 15.0),
        ("min_log_mstar", min_log_mstar, *stellar_masses.CUT_RANGE),
    ):
        if not isinstance(value, int | float | np.number) or not low <= value <= high:
            raise ClusterToolsError(f"{parameter} is {value!r}, but {low:g} to {high:g} is expected for {name}.")
    # A number for each name, so that another simulation leaves these two as they are.
    seeds = [int(seed), {"mdpl2": 0, "uchuu": 1}.get(name, zlib.crc32(name.encode()))]
    rng = np.random.default_rng([*seeds, 0])
    middle = np.arange(LOG_M_HEAVY, 15.8, LOG_M_STEP) + LOG_M_STEP / 2
    counts = rng.poisson(halo_mass_function(sim, middle) * LOG_M_STEP * box_size**3)
    log_m = np.sort(np.repeat(middle, counts) + LOG_M_STEP * (rng.random(counts.sum()) - 0.5))
    field, position, velocity = halo_field.draw(sim, box_size, log_m, rng)
    haloes = Spheres(wrapped(position, box_size), r200c(log_m, sim.redshift, omega_m=sim.omega_m), box_size)
    outside = halo_field.outside_larger_haloes(position, log_m, haloes, log_m)
    heavy = log_m[outside], position[outside], velocity[outside]
    pieces = _pieces(sim, field, heavy, log_m_host, float(min_log_mstar), seeds, progress)
    log_m, position, velocity = (column[heavy[0] >= log_m_host] for column in heavy)
    return collect(sim, box_size, wrapped(position, box_size), velocity, log_m, pieces, path=path)


def halo_mass_function(sim: Simulation, log_m200c) -> np.ndarray:
    """Haloes per dex of M200c [Msun/h] and (Mpc/h)^3 at the snapshot's redshift: Tinker et al. 2008 (colossus)."""
    from colossus.lss import mass_function

    colossus_cosmology(sim)
    per_e_fold = mass_function.massFunction(
        10.0 ** np.asarray(log_m200c), sim.redshift, mdef="200c", model="tinker08", q_out="dndlnM"
    )
    return per_e_fold * np.log(10)


def mean_satellites(population: Population, log_m200c) -> np.ndarray:
    """Mean number of satellites above 10^9.5 Msun of haloes with log10 M200c [Msun/h]: power laws between the knots."""
    log_m, number = np.array(SATELLITES).T
    slope = np.diff(np.log10(number)) / np.diff(log_m)
    piece = np.clip(np.searchsorted(log_m, log_m200c) - 1, 0, len(slope) - 1)
    return population.richness * number[piece] * 10 ** (slope[piece] * (log_m200c - log_m[piece]))


def _pieces(sim, field, heavy, log_m_host, min_log_mstar, seeds, progress) -> Iterator[np.ndarray]:
    """Galaxies of heavy haloes, then of those that fall in around hosts, then of the other light ones."""
    population = POPULATIONS[sim.name]
    log_m, position, _ = heavy
    first_host = np.searchsorted(log_m, log_m_host)  # masses rise, so hosts are the last
    centre, radius = wrapped(position, field.box_size), r200c(log_m, sim.redshift, omega_m=sim.omega_m)
    haloes = Spheres(centre, radius, field.box_size)
    hosts = Spheres(centre[first_host:], FLOW_RADIUS * radius[first_host:], field.box_size)
    light_log_m, below, infalling_below = _light_masses(sim, min_log_mstar, population.infall_mass_power)

    def light_galaxies(light, rng):
        """Galaxies of light haloes (masses, positions, velocities), without those inside larger haloes."""
        outside = halo_field.outside_larger_haloes(light[1], light[0], haloes, log_m)
        light = [column[outside] for column in light]
        return _galaxies(sim, population, *light, np.full(len(light[0]), -1), min_log_mstar, rng)

    for begin in range(0, len(log_m), CHUNK):
        chunk = [column[begin : begin + CHUNK] for column in heavy]
        host = np.maximum(np.arange(begin, begin + len(chunk[0])) - first_host, -1)
        yield _galaxies(sim, population, *chunk, host, min_log_mstar, np.random.default_rng([*seeds, 1, begin]))

    n_infalling = np.zeros(len(LIGHT_EDGES) - 1)
    for begin in range(first_host, len(log_m), CHUNK):
        rng = np.random.default_rng([*seeds, 2, begin])
        host, *phase_space = _infall(sim, population, *(column[begin : begin + CHUNK] for column in heavy), rng)
        drawn = np.interp(rng.random(len(host)) * infalling_below[-1], infalling_below, light_log_m)
        n_infalling += np.histogram(drawn, LIGHT_EDGES)[0]
        yield light_galaxies((drawn, *phase_space), rng)

    below_edges = np.interp(LIGHT_EDGES, light_log_m, below)
    numbers = np.maximum(np.diff(below_edges) * field.box_size**3 - n_infalling, 0)
    bias = halo_field.lagrangian_bias(sim, (LIGHT_EDGES[1:] + LIGHT_EDGES[:-1]) / 2)
    expected = halo_field.light_haloes_in_layers(field, bias, numbers)

    def layer_galaxies(layer):
        rng = np.random.default_rng([*seeds, 3, layer])
        mass_range, *phase_space = halo_field.light_haloes(field, bias, expected[layer], layer, rng)
        halo_field.add_infall(sim, *phase_space, hosts)
        low, high = below_edges[mass_range], below_edges[mass_range + 1]
        drawn = np.interp(low + rng.random(len(low)) * (high - low), below, light_log_m)
        return light_galaxies((drawn, *phase_space), rng)

    threads = numba.config.NUMBA_NUM_THREADS
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(expected), threads):  # so many layers at a time are in memory
            end = min(begin + threads, len(expected))
            yield from pool.map(layer_galaxies, range(begin, end))
            if progress:
                progress(end, len(expected))


def _light_masses(sim, min_log_mstar, infall_mass_power) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log10 M200c, and density [(h/Mpc)^3] of haloes below it with a central above the cut: all, and infalling."""
    log_m = np.linspace(LIGHT_EDGES[0], LIGHT_EDGES[-1], 1101)
    function = halo_mass_function(sim, log_m) * stellar_masses.central_occupation(log_m, min_log_mstar)
    steps = 0.5 * (function[1:] + function[:-1]) * np.diff(log_m)
    # The mass function of dense places is top-heavy.
    infalling = steps * 10 ** (infall_mass_power * ((log_m[1:] + log_m[:-1]) / 2 - 12))
    return log_m, np.r_[0, np.cumsum(steps)], np.r_[0, np.cumsum(infalling)]


def _infall(sim, population, log_m, position, velocity, rng):
    """Host, position and velocity of light haloes that fall in around hosts.

    Their density falls as r^-2 from R_vir outward. They fall towards the host, the slower the
    farther; within twice R_vir, half have been through it and fly in any direction.
    """
    counts = rng.poisson(population.infall_at_1e14 * 10 ** (population.infall_slope * (log_m - 14)))
    host = np.repeat(np.arange(len(log_m)), counts)
    n = len(host)
    r = rng.uniform(1.0, population.infall_radius / R_VIR, n)  # R_vir
    outward = halo_galaxies.isotropic(n, rng)
    sigma = velocity_dispersion(log_m, sim.redshift, omega_m=sim.omega_m)
    speed = (sigma[host] / np.sqrt(r))[:, None]
    radial = -population.infall_speed * speed * outward
    radial[(r < 2) & (rng.random(n) < 0.5)] = 0.0
    relative = radial + 0.6 * speed * rng.standard_normal((n, 3))
    r_vir = R_VIR * r200c(log_m, sim.redshift, omega_m=sim.omega_m)
    place = position[host] + (r * r_vir[host])[:, None] * outward
    return host, place.astype(np.float32), (velocity[host] + relative).astype(np.float32)


def _galaxies(sim, population, log_m, position, velocity, host, min_log_mstar, rng) -> np.ndarray:
    """The central galaxies of these haloes, then their satellites, as an array of `GALAXY`."""
    mean = mean_satellites(population, log_m)
    mean *= stellar_masses.satellite_ratio(log_m, min_log_mstar)
    scatter = population.satellite_scatter
    counts = rng.poisson(mean * np.exp(scatter * rng.standard_normal(len(log_m)) - scatter**2 / 2))
    halo = np.repeat(np.arange(len(log_m)), counts)
    offset, relative = halo_galaxies.draw(sim, population.kinematics, log_m, counts, rng)
    centrals, satellites = np.empty(len(log_m), GALAXY), np.empty(len(halo), GALAXY)
    centrals["position"], centrals["velocity"], centrals["host"] = position, velocity, host
    centrals["is_satellite"] = False
    centrals["log_mstar"] = stellar_masses.draw_centrals(log_m, min_log_mstar, rng)
    satellites["position"], satellites["velocity"] = position[halo] + offset, velocity[halo] + relative
    satellites["host"], satellites["is_satellite"] = host[halo], True
    satellites["log_mstar"] = stellar_masses.draw_satellites(log_m[halo], min_log_mstar, rng)
    return np.concatenate([centrals, satellites])
