"""Where haloes are and how they move: a Gaussian field, displaced by the Zel'dovich approximation.

Haloes are drawn from the linear field with their Lagrangian bias and moved with the matter, so
that clustering and velocities hang together. Those heavier than `LOG_M_PATCH` are drawn one after
the other, the heaviest first, and take the matter around them out of the reach of later ones.
The many lighter ones are drawn layer by layer of the field's grid, in any number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from numba import config, njit
from scipy import fft

from cluster_tools.cosmology import RHO_CRITICAL, Simulation, colossus_cosmology, efunc, v200c
from cluster_tools.universe.snapshots import quick_tree, shortest, wrapped

GRID = 4.0  # Mpc/h, between the points of the field
LOG_M_PATCH = 13.0  # log10 Msun/h
BOOST = 1.2  # of the Lagrangian bias, against what the smoothing of the field takes from it at 10 to 40 Mpc/h
INFALL = 1.8  # V200c
INFALL_REACH = 6.0  # R200c
PATCH = 0.6  # of the Lagrangian radius, within which no other heavy halo forms


@dataclass(frozen=True)
class Field:
    """The linear field of a box at its snapshot's redshift, on a grid of n points along each axis.

    Attributes
    ----------
    delta : float32 array (n, n, n), density contrast
    displacement : float32 array (3, n, n, n) [comoving Mpc/h]
    free : bool array (n, n, n), False where the matter went into heavy haloes
    to_velocity : peculiar velocity per displacement [km/s per Mpc/h]
    """

    box_size: float
    delta: np.ndarray
    displacement: np.ndarray
    free: np.ndarray
    to_velocity: float

    def move(self, lagrangian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position [Mpc/h] and velocity [km/s], float32 (n, 3), of what began at these places [grid steps]."""
        displaced = _interpolate(self.displacement, lagrangian)
        step = self.box_size / len(self.delta)
        return (lagrangian * step + displaced).astype(np.float32), displaced * np.float32(self.to_velocity)


def lagrangian_bias(sim: Simulation, log_m200c) -> np.ndarray:
    """Tinker et al. (2010) bias, less one (colossus)."""
    from colossus.lss import bias

    colossus_cosmology(sim)
    return bias.haloBias(10.0 ** np.asarray(log_m200c), model="tinker10", z=sim.redshift, mdef="200c") - 1


def draw(sim: Simulation, box_size: float, log_m_heavy: np.ndarray, rng) -> tuple[Field, np.ndarray, np.ndarray]:
    """A field, and in it the positions [Mpc/h] and velocities [km/s] of heavy haloes.

    Parameters
    ----------
    sim, box_size : simulation and side of the box [comoving Mpc/h]
    log_m_heavy : array (n,), rising: log10 M200c [Msun/h] of all haloes above `LOG_M_PATCH`
    rng : numpy Generator

    Returns
    -------
    Field, position (n, 3), velocity (n, 3)
    """
    n = int(round(box_size / GRID))
    modes = _linear_modes(sim, box_size, n, rng)
    free = np.ones((n, n, n), np.bool_)
    lagrangian = _heavy_haloes(sim, box_size, modes, free, log_m_heavy, rng)
    # The order, and the last gradient in place, keep the peak of memory at six fields.
    delta, displacement = np.empty((n, n, n), np.float32), np.empty((3, n, n, n), np.float32)
    _to_space(modes.copy(), delta)
    for axis in (0, 1):
        _to_space(_gradient(modes, axis, box_size, np.empty_like(modes)), displacement[axis])
    _to_space(_gradient(modes, 2, box_size, modes), displacement[2])
    growth_rate = (sim.omega_m * (1 + sim.redshift) ** 3 / efunc(sim.redshift, omega_m=sim.omega_m) ** 2) ** 0.55
    to_velocity = 100 * efunc(sim.redshift, omega_m=sim.omega_m) / (1 + sim.redshift) * growth_rate
    field = Field(box_size, delta, displacement, free, float(to_velocity))
    return field, *field.move(lagrangian)


def light_haloes_in_layers(sim: Simulation, field: Field, log_m_edges: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """How many haloes below `LOG_M_PATCH` are expected in each layer of the grid: (layers, k).

    `log_m_edges` (k + 1,) bounds ranges of log10 M200c that share a bias; `numbers` (k,) are expected in the whole box.
    """
    ranges = range(len(numbers))
    shares = np.array(
        [
            [_weights(sim, field, log_m_edges, layer, i).sum(dtype=np.float64) for i in ranges]
            for layer in range(len(field.delta))
        ]
    )
    return numbers * shares / shares.sum(axis=0)


def light_haloes(
    sim: Simulation, field: Field, log_m_edges: np.ndarray, expected: np.ndarray, layer: int, rng
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Haloes of one layer: the mass range that each is in (n,), position [Mpc/h] and velocity [km/s] (n, 3).

    `expected` (k,) is the layer's row of `light_haloes_in_layers`.
    """
    n = len(field.delta)
    counts = rng.poisson(expected)
    cell = [_pick(_weights(sim, field, log_m_edges, layer, i), count, rng) for i, count in enumerate(counts)]
    cell = np.concatenate(cell)
    place = np.stack([np.full(len(cell), layer), cell // n, cell % n], axis=1)
    lagrangian = place + rng.random(place.shape, dtype=np.float32) - np.float32(0.5)
    return np.repeat(np.arange(len(counts)), counts), *field.move(lagrangian.astype(np.float32))


def _weights(sim, field, log_m_edges, layer, number) -> np.ndarray:
    """How likely a halo of a mass range is to form in each cell of a layer."""
    bias = np.float32(_range_bias(sim, tuple(log_m_edges))[number])
    return (np.exp(bias * field.delta[layer]) * field.free[layer]).ravel()


@lru_cache
def _range_bias(sim, log_m_edges) -> np.ndarray:
    edges = np.array(log_m_edges)
    return lagrangian_bias(sim, (edges[1:] + edges[:-1]) / 2)


@dataclass(frozen=True)
class Spheres:
    """Spheres of some radii (n,) around places (n, 3) of a periodic box, to be asked what lies in them [Mpc/h]."""

    position: np.ndarray
    radius: np.ndarray
    box_size: float

    @classmethod
    def around(cls, position: np.ndarray, radius: np.ndarray, box_size: float) -> Spheres:
        """Spheres around positions that may lie outside the box."""
        return cls(wrapped(position, box_size), radius, box_size)

    def pairs(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sphere i, position j and their distance [Mpc/h] for all positions (m, 3) inside spheres."""
        tree = quick_tree(position, self.box_size)
        # Most questions are about one layer of the box, which few of the spheres reach.
        low, high = (position[:, 0].min(), position[:, 0].max()) if len(position) else (0.0, 0.0)
        along_x = shortest(self.position[:, 0] - (low + high) / 2, self.box_size)
        reach = np.flatnonzero(np.abs(along_x) <= (high - low) / 2 + self.radius)
        inside = tree.query_ball_point(self.position[reach], self.radius[reach])
        count = np.fromiter(map(len, inside), int, len(inside))
        i, j = np.repeat(reach, count), np.fromiter(chain.from_iterable(inside), int, count.sum())
        return i, j, np.linalg.norm(shortest(tree.data[j] - self.position[i], self.box_size), axis=1)


def outside_of_larger(position: np.ndarray, log_m200c: np.ndarray, haloes: Spheres, log_m_haloes) -> np.ndarray:
    """Which positions (n,) lie in no sphere of a halo that is heavier than their own `log_m200c`."""
    i, j, _ = haloes.pairs(position)
    outside = np.ones(len(position), bool)
    outside[j[log_m_haloes[i] > log_m200c[j]]] = False
    return outside


def add_infall(sim: Simulation, position: np.ndarray, velocity: np.ndarray, hosts: Spheres) -> None:
    """Let haloes fall towards the hosts near them, as the field does not: it is too coarse to feel one cluster.

    Parameters
    ----------
    position, velocity : arrays (n, 3) [Mpc/h, km/s]; the velocity is changed in place
    hosts : spheres of `INFALL_REACH` R200c around them

    The speed, `INFALL` V200c R200c / r (1 - r / `INFALL_REACH` R200c), lets the mean radial
    velocity vanish, expansion included, at three to four R200c.
    """
    i, j, distance = hosts.pairs(position)
    radius = hosts.radius[i] / INFALL_REACH
    far = distance > radius  # what lies closer is left out elsewhere
    i, j, distance, radius = i[far], j[far], distance[far], radius[far]
    away = shortest(position[j] - hosts.position[i], hosts.box_size)
    speed = INFALL * v200c(radius, sim.redshift, omega_m=sim.omega_m) * (radius / distance - 1 / INFALL_REACH)
    np.add.at(velocity, j, (-(speed / distance)[:, None] * away).astype(velocity.dtype))


def _linear_modes(sim, box_size, n, rng) -> np.ndarray:
    """Fourier modes (n, n, n // 2 + 1) of the linear density at the snapshot's redshift."""
    cosmology = colossus_cosmology(sim)
    modes = fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32), workers=config.NUMBA_NUM_THREADS)
    table_k = np.geomspace(0.9 * 2 * np.pi / box_size, 2 * np.pi * n / box_size, 512)
    amplitude = np.sqrt(cosmology.matterPowerSpectrum(table_k, z=sim.redshift) / (box_size / n) ** 3)
    for i, k2 in enumerate(_k_squared(box_size, n)):
        modes[i] *= np.exp(np.interp(np.log(k2) / 2, np.log(table_k), np.log(amplitude))).astype(np.float32)
    modes[0, 0, 0] = 0.0
    return modes


def _wave_numbers(box_size, n) -> tuple[np.ndarray, np.ndarray]:
    step = box_size / n
    full, half = fft.fftfreq(n, step), fft.rfftfreq(n, step)
    return 2 * np.pi * full.astype(np.float32), 2 * np.pi * half.astype(np.float32)


def _k_squared(box_size, n) -> Iterator[np.ndarray]:
    """Squared wave numbers (n, n // 2 + 1), plane by plane; 1 where they would be 0."""
    full, half = _wave_numbers(box_size, n)
    for i in range(n):
        k2 = full[i] ** 2 + full[:, None] ** 2 + half**2
        if i == 0:
            k2[0, 0] = 1.0
        yield k2


def _gradient(modes, axis, box_size, out) -> np.ndarray:
    """Modes of the Zel'dovich displacement along one axis, i k / k^2 times the density's, written into `out`."""
    n = len(modes)
    full, half = _wave_numbers(box_size, n)
    for i, k2 in enumerate(_k_squared(box_size, n)):
        k = (full[i], full[:, None], half)[axis]
        np.multiply(modes[i], np.complex64(1j) * k / k2, out=out[i])
    return out


def _smoothed(modes, radius, box_size) -> np.ndarray:
    """The density smoothed with a Gaussian of as much volume as a top hat of this radius: sigma = radius / sqrt(5)."""
    out = np.empty_like(modes)
    for i, k2 in enumerate(_k_squared(box_size, len(modes))):
        out[i] = modes[i] * np.exp(-k2 * np.float32(radius**2 / 10))
    return _to_space(out, np.empty((len(modes),) * 3, np.float32))


def _to_space(modes, out) -> np.ndarray:
    """Write the field (n, n, n) of these Fourier modes, which are used up, into `out`.

    As `scipy.fft.irfftn`, but in the place of the modes: that one needs as much memory again.
    """
    modes = fft.ifftn(modes, axes=(0, 1), overwrite_x=True, workers=config.NUMBA_NUM_THREADS)
    for plane in range(len(out)):
        out[plane] = fft.irfft(modes[plane], len(out))
    return out


def _heavy_haloes(sim, box_size, modes, free, log_m, rng) -> np.ndarray:
    """Lagrangian places [grid steps] of heavy haloes; their patches are no longer `free`."""
    n = len(modes)
    place = np.empty((len(log_m), 3), np.float32)
    edges = np.unique(np.searchsorted(log_m, np.r_[-np.inf, np.arange(13.25, 15.5, 0.25), np.inf]))
    for begin, end in list(zip(edges[:-1], edges[1:]))[::-1]:
        radius = (3 * 10 ** log_m[begin:end] / (4 * np.pi * RHO_CRITICAL * sim.omega_m)) ** (1 / 3)
        weight = _smoothed(modes, np.median(radius), box_size)
        weight *= np.float32(BOOST * lagrangian_bias(sim, np.median(log_m[begin:end])))
        np.exp(weight, out=weight)
        weight *= free
        in_layer = weight.sum(axis=(1, 2), dtype=np.float64)
        # Some of the draws will be taken already, so there are more of them than haloes.
        counts = rng.multinomial(4 * (end - begin), in_layer / in_layer.sum())
        cell = [layer * n**2 + _pick(weight[layer].ravel(), count, rng) for layer, count in enumerate(counts)]
        cell = rng.permutation(np.concatenate(cell))
        cell = np.stack(np.unravel_index(cell, (n, n, n)), axis=1)
        place[begin:end] = _take_patches(cell, PATCH * radius[::-1] * (n / box_size), free)[::-1]
    return place + rng.random(place.shape, dtype=np.float32) - np.float32(0.5)


def _pick(weight, count, rng) -> np.ndarray:
    """Indices of `count` cells, drawn with these weights."""
    cumulative = np.cumsum(weight, dtype=np.float64)
    return np.minimum(np.searchsorted(cumulative, rng.random(count) * cumulative[-1]), len(weight) - 1)


@njit(cache=True)
def _take_patches(cell, radius, free):
    """Give each radius [grid steps] the first drawn cell that is still free, and occupy a sphere there."""
    n = len(free)
    taken = np.empty((len(radius), 3), cell.dtype)
    k = 0
    for i in range(len(radius)):
        while k < len(cell) - (len(radius) - i) and not free[cell[k, 0], cell[k, 1], cell[k, 2]]:
            k += 1
        for axis in range(3):
            taken[i, axis] = cell[k, axis]
        reach = int(radius[i])
        for dx in range(-reach, reach + 1):
            for dy in range(-reach, reach + 1):
                for dz in range(-reach, reach + 1):
                    if dx**2 + dy**2 + dz**2 <= radius[i] ** 2:
                        free[(taken[i, 0] + dx) % n, (taken[i, 1] + dy) % n, (taken[i, 2] + dz) % n] = False
        k += 1
    return taken


@njit(cache=True, nogil=True)
def _interpolate(field, place):
    """Trilinear interpolation of a periodic field (3, n, n, n) at places (m, 3) in grid steps."""
    n = field.shape[1]
    out = np.zeros(place.shape, np.float32)
    # Of the points below and above, along x, y and z.
    weight, index = np.empty((3, 2), np.float32), np.empty((3, 2), np.int64)
    for i in range(len(place)):
        for axis in range(3):
            low = np.floor(place[i, axis])
            weight[axis, 1] = place[i, axis] - low
            weight[axis, 0] = 1 - weight[axis, 1]
            index[axis, 0] = int(low) % n
            index[axis, 1] = (int(low) + 1) % n
        for corner in range(8):
            x, y, z = corner & 1, corner >> 1 & 1, corner >> 2
            share = weight[0, x] * weight[1, y] * weight[2, z]
            for axis in range(3):
                out[i, axis] += share * field[axis, index[0, x], index[1, y], index[2, z]]
    return out
