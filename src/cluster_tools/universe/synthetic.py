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
from pathlib import Path

import numba
import numpy as np

from cluster_tools import arrays
from cluster_tools.cosmology import LOG_M_HOST, RHO_CRITICAL, Simulation, colossus_cosmology, r200c, simulation
from cluster_tools.universe import halo_field, halo_galaxies, stellar_masses
from cluster_tools.universe.halo_field import LOG_M_HEAVY, Spheres
from cluster_tools.universe.neighbourhoods import Surroundings
from cluster_tools.universe.snapshots import Snapshot, collect, galaxy_table, wrapped

SMALLEST_BOX = 160.0  # Mpc/h: the observed cylinder spans almost as much along the line of sight
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
SATELLITE_SCATTER = 0.15  # of this mean number beyond Poisson, natural log

# Chosen with half of ROGER's galaxies (`mocks.orbits`) and the cylinders of published MDPL2-UM figures.
LIGHT_HALOES = 1.05  # over those of the mass function, for the published density of galaxies
AROUND_HOSTS = 0.9  # light haloes for each mass of matter around hosts, over that in the whole box
AROUND_HOSTS_POWER = 0.2  # their mass function is the universal one times M to this power


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

    `box_size` is the side of the box [comoving Mpc/h], from 160 to the simulation's (default), 1000 or 2000. `seed` is
    0 or more. `log_m_host` is the lowest mass of hosts [log10 M200c, Msun/h], 13 to 15; `min_log_mstar` the lowest
    stellar mass of galaxies [log10 Msun, no h], 9.0 to 11.5. `extra_hosts` haloes, flat in log10 M200c over
    `LOG_M_EXTRA`, join those of the mass function; see `heavy_box`. `redshift` is that of the haloes, by default the
    snapshot's; galaxies of a halo of given mass, and surroundings in R200c, do not depend on it. `path` is a file to
    write the galaxies to, in bounded memory; None keeps them in memory. `progress` is called with (layers of the box
    that are done, layers in all). Raises `ClusterToolsError` for an unknown simulation, a parameter out of
    range, and a library of neighbourhoods that is missing, damaged or of another version.

    Sources: Tinker et al. 2008 (abundance), 2010 (bias); Diemer & Joyce 2019 (concentrations); Evrard et al. 2008.
    """
    sim = simulation(name)
    if redshift is not None:
        sim = dataclasses.replace(sim, redshift=redshift)
    box_size = sim.box_size if box_size is None else box_size
    arrays.check_number("seed", seed, 0, whole=True)
    arrays.check_number("extra_hosts", extra_hosts, 0, whole=True)
    arrays.check_number("box_size", box_size, SMALLEST_BOX, sim.box_size)
    arrays.check_number("log_m_host", log_m_host, LOG_M_HEAVY, 15.0)
    arrays.check_number("min_log_mstar", min_log_mstar, *stellar_masses.CUT_RANGE)
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
    haloes = Spheres(wrapped(position, box_size), r200c(log_m, sim.redshift, omega_m=sim.omega_m), log_m, box_size)
    outside = haloes.owner(position, log_m) < 0
    log_m, position, velocity, extra = (column[outside] for column in (log_m, position, velocity, extra))
    haloes = Spheres(haloes.position[outside], haloes.radius[outside], log_m, box_size)
    hosts = slice(np.searchsorted(log_m, LOG_M_NEIGHBOURHOOD), None)
    of_hosts = (column[hosts] for column in (log_m, haloes.position, velocity, haloes.radius))
    surroundings = Surroundings(sim, box_size, *of_hosts, np.random.default_rng([*seeds, 5]))
    _flow(surroundings, log_m, haloes.position, velocity)
    heavy, first_host = (log_m, position, velocity), np.searchsorted(log_m, log_m_host)  # masses rise: hosts are last
    pieces = _pieces(field, heavy, haloes, first_host, surroundings, extra[hosts], min_log_mstar, seeds, progress)
    listed = (column[first_host:] for column in (haloes.position, velocity, log_m))
    return collect(sim, box_size, *listed, pieces, path=path)


def heavy_box(name: str, extra_hosts: int, **parameters) -> Snapshot:
    """A box of its own for `extra_hosts` heavy hosts, with `VOLUME_OF_EXTRA` for each, within the limits of sides.

    Its hosts are haloes above the lower end of `LOG_M_EXTRA`; it has lighter haloes, too. Other `parameters` and errors
    are those of `synthetic`.
    """
    side = np.clip(np.cbrt(VOLUME_OF_EXTRA * extra_hosts), SMALLEST_BOX, simulation(name).box_size)
    return synthetic(name, box_size=float(side), log_m_host=LOG_M_EXTRA[0], extra_hosts=extra_hosts, **parameters)


def halo_mass_function(sim: Simulation, log_m200c) -> np.ndarray:
    """Haloes per dex of M200c [Msun/h] and (Mpc/h)^3 at the snapshot's redshift: Tinker et al. 2008 (colossus)."""
    from colossus.lss import mass_function

    colossus_cosmology(sim)
    mass = 10.0 ** np.asarray(log_m200c)
    return np.log(10) * mass_function.massFunction(mass, sim.redshift, mdef="200c", model="tinker08", q_out="dndlnM")


def mean_satellites(log_m200c) -> np.ndarray:
    """Mean number of satellites above 10^9.5 Msun of haloes with log10 M200c [Msun/h]: power laws between the knots."""
    log_m, number = np.array(SATELLITES).T
    slope = np.diff(np.log10(number)) / np.diff(log_m)
    piece = np.clip(np.searchsorted(log_m, log_m200c) - 1, 0, len(slope) - 1)
    return number[piece] * 10 ** (slope[piece] * (log_m200c - log_m[piece]))


def _flow(surroundings: Surroundings, log_m, position, velocity) -> None:
    """Give haloes (masses rising) inside the neighbourhoods of heavier hosts the velocity of the matter there."""
    first_host = len(log_m) - len(surroundings.log_m200c)
    owner = surroundings.reach.owner(position, log_m)
    inside = np.flatnonzero(owner >= 0)
    relative = surroundings.velocity_at(owner[inside], position[inside]) * surroundings.speed[owner[inside], None]
    for halo, step in zip(inside[::-1], relative[::-1]):  # an owner is heavier, so its velocity is final
        velocity[halo] = velocity[first_host + owner[halo]] + step


def _pieces(field, heavy, haloes, first_host, surroundings, extra, cut, seeds, progress) -> Iterator[np.ndarray]:
    """Galaxies of heavy haloes, then of the light ones around hosts, then of the other light ones.

    `heavy` haloes (masses, positions, velocities) are the spheres `haloes`; `extra` are hosts of `surroundings`.
    """
    sim, (log_m, *_) = surroundings.sim, heavy
    for begin in range(0, len(log_m), CHUNK):
        chunk = [column[begin : begin + CHUNK] for column in heavy]
        host = np.maximum(np.arange(begin, begin + len(chunk[0])) - first_host, -1)
        yield _galaxies(sim, *chunk, host, cut, np.random.default_rng([*seeds, 1, begin]))

    def light_galaxies(light, rng):
        """Galaxies of light haloes (masses, positions, velocities), without those inside larger haloes."""
        outside = haloes.owner(light[1], light[0]) < 0
        light = [column[outside] for column in light]
        return _galaxies(sim, *light, np.full(len(light[0]), -1), cut, rng)

    light_log_m, below, around_below = _light_masses(sim, cut)
    n_around = np.zeros(len(LIGHT_EDGES) - 1)
    density = below[-1] / (RHO_CRITICAL * sim.omega_m)  # light haloes for each Msun/h of matter
    expected = AROUND_HOSTS * density * surroundings.mass()
    along_x = np.argsort(surroundings.position[:, 0])
    for begin in range(0, len(along_x), CHUNK):
        rng = np.random.default_rng([*seeds, 2, begin])
        host = along_x[begin : begin + CHUNK]
        places = rng.poisson(expected[host])
        row, *phase_space = surroundings.matter(host, places, rng.integers(0, 2**31, len(host)))
        own = surroundings.reach.owner(phase_space[0]) == row
        drawn = np.interp(rng.random(own.sum()) * around_below[-1], around_below, light_log_m)
        n_around += np.histogram(drawn[~extra[row[own]]], LIGHT_EDGES)[0]
        yield light_galaxies((drawn, *(column[own] for column in phase_space)), rng)

    below_edges = np.interp(LIGHT_EDGES, light_log_m, below)
    bias = halo_field.lagrangian_bias(sim, (LIGHT_EDGES[1:] + LIGHT_EDGES[:-1]) / 2)
    numbers = LIGHT_HALOES * np.diff(below_edges) * field.box_size**3
    expected = halo_field.light_haloes_in_layers(field, bias, numbers)

    # So many that the box holds the universe's number, those around hosts included, but for those around extra hosts.
    n_sample, sample = np.zeros(len(numbers)), range(0, len(expected), SAMPLED_LAYERS)
    for k in sample:
        rng = np.random.default_rng([*seeds, 4, k])
        mass_range, position, _ = halo_field.light_haloes(field, bias, expected[k], k, rng)
        owner = surroundings.reach.owner(position)
        n_sample += np.bincount(mass_range[(owner < 0) | extra[owner]], minlength=len(numbers))
    expected *= np.maximum(numbers - n_around, 0) / numbers * expected[sample].sum(axis=0) / np.maximum(n_sample, 1)

    def layer_galaxies(layer):
        rng = np.random.default_rng([*seeds, 3, layer])
        light = halo_field.light_haloes(field, bias, expected[layer], layer, rng)
        beyond = surroundings.reach.owner(light[1]) < 0
        mass_range, *phase_space = (column[beyond] for column in light)
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


def _light_masses(sim, min_log_mstar) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log10 M200c, and density [(h/Mpc)^3] of haloes below it with a central above the cut: all, and around hosts."""
    log_m = np.linspace(LIGHT_EDGES[0], LIGHT_EDGES[-1], 1101)
    function = halo_mass_function(sim, log_m) * stellar_masses.central_occupation(log_m, min_log_mstar)
    steps = 0.5 * (function[1:] + function[:-1]) * np.diff(log_m)
    around = steps * 10 ** (AROUND_HOSTS_POWER * ((log_m[1:] + log_m[:-1]) / 2 - 12))
    return log_m, np.r_[0, np.cumsum(steps)], np.r_[0, np.cumsum(around)]


def _galaxies(sim, log_m, position, velocity, host, min_log_mstar, rng) -> np.ndarray:
    """The central galaxies of these haloes, then their satellites, as an array of `snapshots.GALAXY`."""
    mean, n = mean_satellites(log_m) * stellar_masses.satellite_ratio(log_m, min_log_mstar), len(log_m)
    counts = rng.poisson(mean * np.exp(SATELLITE_SCATTER * rng.standard_normal(n) - SATELLITE_SCATTER**2 / 2))
    halo = np.repeat(np.arange(n), counts)
    offset, relative = halo_galaxies.draw(sim, log_m, counts, rng)
    centrals = stellar_masses.draw_centrals(log_m, min_log_mstar, rng)
    satellites = stellar_masses.draw_satellites(log_m[halo], min_log_mstar, rng)
    return galaxy_table(
        position=np.concatenate([position, position[halo] + offset]),
        velocity=np.concatenate([velocity, velocity[halo] + relative]),
        host=np.concatenate([host, host[halo]]),
        is_satellite=np.arange(n + len(halo)) >= n,
        log_mstar=np.concatenate([centrals, satellites]),
    )
