"""Synthetic universes: periodic boxes of haloes and galaxies that stand in for MDPL2-UM and Uchuu-UM.

Haloes with Tinker et al. (2008) abundances are drawn from a Gaussian field and moved with it (`halo_field`); each holds
a central galaxy and satellites (`halo_galaxies`, `stellar_masses`). Around hosts, where the field is too coarse, places
and velocities come from N-body runs (`neighbourhoods`). No parameter comes from the paper's Table 1.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from cluster_tools.cosmology import RHO_CRITICAL, Simulation, colossus_cosmology, r200c, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import halo_field, halo_galaxies, neighbourhoods, stellar_masses
from cluster_tools.universe.halo_field import LOG_M_HEAVY, Spheres
from cluster_tools.universe.halo_galaxies import Kinematics
from cluster_tools.universe.neighbourhoods import Surroundings
from cluster_tools.universe.snapshots import GALAXY, Snapshot, collect, wrapped

SMALLEST_BOX = 160.0  # Mpc/h: the observed cylinder spans almost as much along the line of sight
LOG_M_HOST = 13.5  # log10 Msun/h, of hosts: the training sets begin above it
LOG_M_STEP = 0.01
LIGHT_EDGES = np.array([10.8, 11.5, 12.0, 12.5, LOG_M_HEAVY])  # ranges of log10 M200c that share a bias
SAMPLED_LAYERS = 10  # one in so many tells how many light haloes of the field lie outside neighbourhoods
CHUNK = 10_000  # haloes whose galaxies are drawn at a time: even the heaviest ones of a large box fit in memory

# Extra hosts, for training and calibration at the heavy end: log10 M200c [Msun/h], in which they are flat, and the
# volume for each [(Mpc/h)^3], at which one in a hundred of their cylinders holds another.
LOG_M_EXTRA = (14.8, 15.25)
VOLUME_OF_EXTRA = 2e5

LOG_M_NEIGHBOURHOOD = 13.5  # log10 Msun/h, of hosts that draw a neighbourhood from the library

# log10 M200c [Msun/h] and mean number of satellites above 10^9.5 Msun. Clusters: read off published MDPL2-UM
# figures. Lighter haloes: chosen to give as many interlopers as the cylinders of those figures hold.
SATELLITES = ((11.0, 0.0015), (11.5, 0.075), (12.0, 0.52), (13.0, 1.7), (14.0, 27.5), (15.0, 242.0))


@dataclass(frozen=True)
class Population:
    """How galaxies fill haloes, and how many light haloes the matter around hosts holds.

    Chosen with half of ROGER's galaxies (`mocks.orbits`) and the cylinders of published MDPL2-UM figures; the same for
    both simulations, which differ in cosmology, redshift and N-body run.
    """

    # Of galaxies over matter, below the 0.6 to 1 of published profiles: NFW profiles that end at R_vir hold too many in
    # the core for ROGER's.
    kinematics: Kinematics = Kinematics(concentration_ratio=0.25, velocity_bias=1.0)
    richness: float = 1.0  # number of satellites over that of `SATELLITES`
    satellite_scatter: float = 0.15  # of their mean number beyond Poisson, natural log
    light_haloes: float = 1.05  # over those of the mass function, for the published density of galaxies
    surroundings: float = 0.9  # light haloes for each mass of matter around hosts, over that in the whole box
    surroundings_power: float = 0.2  # their mass function is the universal one times M to this power


POPULATIONS = {"mdpl2": Population(), "uchuu": Population()}


def synthetic(
    name: str,
    *,
    box_size: float | None = None,
    seed: int = 0,
    log_m_host: float = LOG_M_HOST,
    min_log_mstar: float = 9.5,
    extra_hosts: int = 0,
    redshift: float | None = None,
    path: Path | str | None = None,
    progress=None,
) -> Snapshot:
    """Draw the synthetic universe that stands in for the simulation called `name`, "mdpl2" or "uchuu".

    `box_size` is the side of the box [comoving Mpc/h], 160 or more; by default the simulation's, 1000 or 2000.
    `log_m_host` is the lowest mass of hosts [log10 M200c, Msun/h], 13 to 15; `min_log_mstar` the lowest stellar mass of
    galaxies [log10 Msun, no h], 9.0 to 11.5. `extra_hosts` haloes, flat in log10 M200c over `LOG_M_EXTRA`, join those
    of the mass function; see `heavy_box`. `redshift` is that of the haloes, by default the snapshot's; galaxies fill
    haloes of a mass as they do there, and so does matter surround them in units of R200c. `path` is a file to write the
    galaxies to, in bounded memory; None keeps them in memory. `progress` is called with (layers of the box that are
    done, layers in all). Raises `ClusterToolsError` for an unknown simulation, a parameter out of range, and a library
    of neighbourhoods that is missing, damaged or of another version.

    Tinker et al. 2008 (abundance) and 2010 (bias), Diemer & Joyce 2019 (concentrations), Evrard et al. 2008.
    """
    sim = simulation(name)
    if redshift is not None:
        sim = dataclasses.replace(sim, redshift=redshift)
    box_size = sim.box_size if box_size is None else box_size
    for parameter, value in (("seed", seed), ("extra_hosts", extra_hosts)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise ClusterToolsError(f"{parameter} is {value!r}, but a whole number from 0 on is expected.")
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
    log_m = np.repeat(middle, counts) + LOG_M_STEP * (rng.random(counts.sum()) - 0.5)
    log_m = np.append(log_m, np.random.default_rng([*seeds, 6]).uniform(*LOG_M_EXTRA, extra_hosts))
    order = np.argsort(log_m)
    log_m, extra = log_m[order], order >= counts.sum()
    field, position, velocity = halo_field.draw(sim, box_size, log_m, extra, rng)
    haloes = Spheres(wrapped(position, box_size), r200c(log_m, sim.redshift, omega_m=sim.omega_m), box_size)
    outside = halo_field.outside_larger_haloes(position, log_m, haloes, log_m)
    heavy = log_m, position, velocity = log_m[outside], position[outside], velocity[outside]
    hosts = np.searchsorted(log_m, LOG_M_NEIGHBOURHOOD)
    centre, radius = wrapped(position, box_size), haloes.radius[outside]
    of_hosts = (column[hosts:] for column in (log_m, centre, velocity, radius))
    surroundings = Surroundings(sim, box_size, *of_hosts, np.random.default_rng([*seeds, 5]))
    extra = extra[outside][hosts:]
    _flow(surroundings, log_m, centre, velocity)
    pieces = _pieces(sim, field, heavy, log_m_host, surroundings, extra, float(min_log_mstar), seeds, progress)
    log_m, position, velocity = (column[heavy[0] >= log_m_host] for column in heavy)
    return collect(sim, box_size, wrapped(position, box_size), velocity, log_m, pieces, path=path)


def heavy_box(name: str, extra_hosts: int, **parameters) -> Snapshot:
    """A box of its own for `extra_hosts` heavy hosts, whose side [Mpc/h] gives each `VOLUME_OF_EXTRA`.

    Only haloes heavier than `LOG_M_EXTRA` begins are its hosts; all others are there, too. `parameters` and errors are
    those of `synthetic`.
    """
    side = np.clip(np.cbrt(VOLUME_OF_EXTRA * extra_hosts), SMALLEST_BOX, simulation(name).box_size)
    parameters |= {"box_size": float(side), "log_m_host": LOG_M_EXTRA[0], "extra_hosts": extra_hosts}
    return synthetic(name, **parameters)


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


def _flow(surroundings: Surroundings, log_m, position, velocity) -> None:
    """Give haloes (masses rising) inside the neighbourhoods of heavier hosts the velocity of the matter there."""
    first_host = len(log_m) - len(surroundings.log_m200c)
    i, j, distance = surroundings.reach.pairs(position)
    heavier = first_host + i > j
    owner = neighbourhoods.nearest(len(log_m), *(c[heavier] for c in (i, j, distance / surroundings.radius[i])))
    inside = np.flatnonzero(owner >= 0)
    relative = surroundings.velocity_at(owner[inside], position[inside]) * surroundings.speed[owner[inside], None]
    for halo, step in zip(inside[::-1], relative[::-1]):  # an owner is heavier, so its velocity is final
        velocity[halo] = velocity[first_host + owner[halo]] + step


def _pieces(sim, field, heavy, log_m_host, surroundings, extra, min_log_mstar, seeds, progress) -> Iterator[np.ndarray]:
    """Galaxies of heavy haloes, then of the light ones around hosts, then of the other light ones."""
    population = POPULATIONS[sim.name]
    log_m, position, _ = heavy
    first_host = np.searchsorted(log_m, log_m_host)  # masses rise, so hosts are the last
    centre, radius = wrapped(position, field.box_size), r200c(log_m, sim.redshift, omega_m=sim.omega_m)
    haloes = Spheres(centre, radius, field.box_size)
    light_log_m, below, around_below = _light_masses(sim, min_log_mstar, population.surroundings_power)

    def light_galaxies(light, rng):
        """Galaxies of light haloes (masses, positions, velocities), without those inside larger haloes."""
        outside = halo_field.outside_larger_haloes(light[1], light[0], haloes, log_m)
        light = [column[outside] for column in light]
        return _galaxies(sim, population, *light, np.full(len(light[0]), -1), min_log_mstar, rng)

    for begin in range(0, len(log_m), CHUNK):
        chunk = [column[begin : begin + CHUNK] for column in heavy]
        host = np.maximum(np.arange(begin, begin + len(chunk[0])) - first_host, -1)
        yield _galaxies(sim, population, *chunk, host, min_log_mstar, np.random.default_rng([*seeds, 1, begin]))

    n_around = np.zeros(len(LIGHT_EDGES) - 1)
    density = below[-1] / (RHO_CRITICAL * sim.omega_m)  # light haloes for each Msun/h of matter
    expected = population.surroundings * density * surroundings.mass()
    along_x = np.argsort(surroundings.position[:, 0])
    for begin in range(0, len(along_x), CHUNK):
        rng = np.random.default_rng([*seeds, 2, begin])
        host = along_x[begin : begin + CHUNK]
        places = rng.poisson(expected[host])
        row, *phase_space = surroundings.matter(host, places, rng.integers(0, 2**31, len(host)))
        own = surroundings.owner(phase_space[0]) == row
        drawn = np.interp(rng.random(own.sum()) * around_below[-1], around_below, light_log_m)
        n_around += np.histogram(drawn[~extra[row[own]]], LIGHT_EDGES)[0]
        yield light_galaxies((drawn, *(column[own] for column in phase_space)), rng)

    below_edges = np.interp(LIGHT_EDGES, light_log_m, below)
    bias = halo_field.lagrangian_bias(sim, (LIGHT_EDGES[1:] + LIGHT_EDGES[:-1]) / 2)
    numbers = population.light_haloes * np.diff(below_edges) * field.box_size**3
    expected = halo_field.light_haloes_in_layers(field, bias, numbers)

    def light_of_layer(layer, rng):
        """Range of mass, position and velocity of light haloes of a layer; which are beyond hosts, or ordinary ones."""
        mass_range, position, velocity = halo_field.light_haloes(field, bias, expected[layer], layer, rng)
        owner = surroundings.owner(position)
        return mass_range, position, velocity, owner < 0, (owner < 0) | extra[owner]

    # So many that the box holds the universe's number, those around hosts included, but for those around extra hosts.
    n_sample, sample = np.zeros(len(numbers)), range(0, len(expected), SAMPLED_LAYERS)
    for k in sample:
        mass_range, *_, beyond = light_of_layer(k, np.random.default_rng([*seeds, 4, k]))
        n_sample += np.bincount(mass_range[beyond], minlength=len(numbers))
    expected *= np.maximum(numbers - n_around, 0) / numbers * expected[sample].sum(axis=0) / np.maximum(n_sample, 1)

    def layer_galaxies(layer):
        rng = np.random.default_rng([*seeds, 3, layer])
        mass_range, *phase_space, beyond, _ = light_of_layer(layer, rng)
        mass_range, *phase_space = (column[beyond] for column in (mass_range, *phase_space))
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


def _light_masses(sim, min_log_mstar, mass_power) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log10 M200c, and density [(h/Mpc)^3] of haloes below it with a central above the cut: all, and around hosts."""
    log_m = np.linspace(LIGHT_EDGES[0], LIGHT_EDGES[-1], 1101)
    function = halo_mass_function(sim, log_m) * stellar_masses.central_occupation(log_m, min_log_mstar)
    steps = 0.5 * (function[1:] + function[:-1]) * np.diff(log_m)
    around = steps * 10 ** (mass_power * ((log_m[1:] + log_m[:-1]) / 2 - 12))
    return log_m, np.r_[0, np.cumsum(steps)], np.r_[0, np.cumsum(around)]


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
