"""Positions and velocities of haloes: a Gaussian field, displaced by the Zel'dovich approximation.

Haloes are drawn from the linear field with their Lagrangian bias and moved with the matter, so that clustering and
velocities agree. Those heavier than `LOG_M_HEAVY` are drawn one after the other, the heaviest first, and exclude later
ones from the matter around them. The many lighter ones are drawn layer by layer of the field's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import config, njit
from scipy import fft

from cluster_tools.cosmology import RHO_CRITICAL, Simulation, colossus_cosmology, efunc
from cluster_tools.universe.snapshots import wrapped

GRID = 4.0  # Mpc/h, between the points of the field
LOG_M_HEAVY = 13.0  # log10 Msun/h: haloes from here on are drawn one after the other
# The smoothing of the field lowers the clustering at 10 to 40 Mpc/h; this factor on the Lagrangian bias restores it.
BIAS_CORRECTION = 1.4
APART = 22.0  # Mpc/h, between extra hosts: more of them than in nature must not gather on its highest peaks
CELL = 10.0  # Mpc/h, about the side of the cells in which spheres are looked up
EXCLUSION = 0.9  # of the Lagrangian radius, within which no other heavy halo forms


@dataclass(frozen=True)
class Field:
    """The linear field of a box at its snapshot's redshift, on a grid of n points along each axis."""

    box_size: float  #: comoving Mpc/h
    delta: np.ndarray  #: float32 (n, n, n): density contrast
    displacement: np.ndarray  #: float32 (3, n, n, n): Zel'dovich displacement [comoving Mpc/h]
    free: np.ndarray  #: bool (n, n, n): False where the matter went into heavy haloes
    to_velocity: float  #: peculiar velocity per displacement [km/s per Mpc/h]

    def move(self, lagrangian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions [Mpc/h] and velocities [km/s], float32 (n, 3), from Lagrangian positions [grid steps]."""
        displaced = _interpolate(self.displacement, lagrangian)
        step = self.box_size / len(self.delta)
        return (lagrangian * step + displaced).astype(np.float32), displaced * np.float32(self.to_velocity)


def lagrangian_bias(sim: Simulation, log_m200c) -> np.ndarray:
    """Lagrangian bias at `log_m200c` [log10 Msun/h]: that of Tinker et al. (2010), less one (colossus)."""
    from colossus.lss import bias

    colossus_cosmology(sim)
    return bias.haloBias(10.0 ** np.asarray(log_m200c), model="tinker10", z=sim.redshift, mdef="200c") - 1


def draw(
    sim: Simulation, box_size: float, log_m_heavy: np.ndarray, extra: np.ndarray, rng
) -> tuple[Field, np.ndarray, np.ndarray]:
    """Draw a field, and in it the positions [Mpc/h] and velocities [km/s], each (n, 3), of heavy haloes.

    `log_m_heavy` (n,) are the masses [log10 Msun/h] of all haloes above `LOG_M_HEAVY`, rising. Those that are `extra`,
    bool (n,), form at least `APART` from one another.
    """
    n = int(round(box_size / GRID))
    cosmology = colossus_cosmology(sim)
    modes = fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32), workers=config.NUMBA_NUM_THREADS)
    table_k = np.geomspace(0.9 * 2 * np.pi / box_size, 2 * np.pi * n / box_size, 512)
    amplitude = np.sqrt(cosmology.matterPowerSpectrum(table_k, z=sim.redshift) / (box_size / n) ** 3)
    log_table = np.log(table_k), np.log(amplitude)
    _multiply(modes, lambda k, k2: np.exp(np.interp(np.log(k2) / 2, *log_table)).astype(np.float32), box_size, modes)
    modes[0, 0, 0] = 0.0
    free = np.ones((n, n, n), np.bool_)
    lagrangian = _heavy_haloes(sim, box_size, modes, free, log_m_heavy, extra, rng)
    # The peak of memory is here: six fields. Displacements are gradients over k^2.
    delta, displacement = np.empty((n, n, n), np.float32), np.empty((3, n, n, n), np.float32)
    scratch = modes.copy()
    _to_space(scratch, delta)
    for axis in range(3):
        _multiply(modes, lambda k, k2, axis=axis: np.complex64(1j) * k[axis] / k2, box_size, scratch)
        _to_space(scratch, displacement[axis])
    field = Field(box_size, delta, displacement, free, velocity_of_displacement(sim))
    return field, *field.move(lagrangian)


def velocity_of_displacement(sim: Simulation) -> float:
    """Peculiar velocity of linear theory per displacement [km/s per comoving Mpc/h]: a H f with f = Omega_m^0.55."""
    e_of_z = efunc(sim.redshift, omega_m=sim.omega_m)
    growth_rate = (sim.omega_m * (1 + sim.redshift) ** 3 / e_of_z**2) ** 0.55
    return float(100 * e_of_z / (1 + sim.redshift) * growth_rate)


def light_haloes_in_layers(field: Field, bias: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Expected number of haloes below `LOG_M_HEAVY` in each layer of the grid: (layers, k).

    `bias` (k,) is the Lagrangian bias of ranges of mass; `numbers` (k,) are expected in the whole box.
    """
    shares = [[_weights(field, b, layer).sum(dtype=np.float64) for b in bias] for layer in range(len(field.delta))]
    return numbers * np.array(shares) / np.sum(shares, axis=0)


def light_haloes(field: Field, bias: np.ndarray, expected: np.ndarray, layer: int, rng) -> tuple[np.ndarray, ...]:
    """Draw the haloes of one layer: index of the mass range (n,), position [Mpc/h] and velocity [km/s] (n, 3).

    `expected` (k,) is the layer's row of `light_haloes_in_layers`.
    """
    n = len(field.delta)
    counts = rng.poisson(expected)
    cell = np.concatenate([_pick(_weights(field, b, layer), count, rng) for b, count in zip(bias, counts)])
    grid_point = np.stack([np.full(len(cell), layer), cell // n, cell % n], axis=1)
    lagrangian = grid_point + rng.random(grid_point.shape, dtype=np.float32) - np.float32(0.5)
    return np.repeat(np.arange(len(counts)), counts), *field.move(lagrangian.astype(np.float32))


def _weights(field, bias, layer) -> np.ndarray:
    """Relative probability that a halo of this bias forms, for each cell of a layer."""
    return (np.exp(np.float32(bias) * field.delta[layer]) * field.free[layer]).ravel()


@dataclass(frozen=True)
class Spheres:
    """Spheres of radii (n,) around positions (n, 3) inside a periodic box [Mpc/h], each with a log10 M200c (n,)."""

    position: np.ndarray
    radius: np.ndarray
    log_m200c: np.ndarray
    box_size: float

    def owner(self, position: np.ndarray, log_m200c=-np.inf) -> np.ndarray:
        """Index of the sphere heavier than `log_m200c` (m,) in which each position (m, 3) lies; -1 without one.

        Of several, it is the nearest in units of its radius.
        """
        position, lightest = wrapped(position, self.box_size), np.full(len(position), log_m200c, float)
        spheres = self.position, self.radius, self.log_m200c
        return _owner(position, lightest, *spheres, *self._in_cells, self.box_size)

    @cached_property
    def _in_cells(self) -> tuple[np.ndarray, np.ndarray, int]:
        """First sphere of each cell, the spheres that reach into the cells, cell by cell, and cells on a side."""
        n = max(int(self.box_size / CELL), 1)
        reach = np.stack([-self.radius, self.radius])[..., None] * 1.0001  # cells are found with rounding errors
        low, high = np.floor((self.position + reach) * (n / self.box_size)).astype(int)
        wide = np.minimum(high - low + 1, n)
        sphere = np.repeat(np.arange(len(wide)), wide.prod(axis=1))
        place, (_, y, z) = np.arange(len(sphere)) - np.searchsorted(sphere, sphere), wide[sphere].T
        cell = (low[sphere] + np.stack([place // (y * z), place // z % y, place % z], axis=1)) % n @ (n**2, n, 1)
        order = np.argsort(cell, kind="stable")
        return np.searchsorted(cell[order], np.arange(n**3 + 1)), sphere[order], n


@njit(cache=True, nogil=True)
def _owner(position, lightest, centre, radius, log_m200c, first, spheres, n, box_size):
    owner = np.full(len(position), -1)
    for j in range(len(position)):
        cell, nearest = 0, np.inf
        for axis in range(3):
            cell = cell * n + int(position[j, axis] * (n / box_size)) % n
        for i in spheres[first[cell] : first[cell + 1]]:
            squared = 0.0
            for axis in range(3):
                away = np.float64(position[j, axis]) - centre[i, axis]
                squared += (away - box_size * np.round(away / box_size)) ** 2
            if squared <= radius[i] ** 2 and log_m200c[i] > lightest[j] and np.sqrt(squared) / radius[i] <= nearest:
                owner[j], nearest = i, np.sqrt(squared) / radius[i]
    return owner


def _multiply(modes, factor, box_size, out) -> None:
    """Multiply modes by `factor` of the wave numbers along x, y, z and of their squared sum (1 where it is 0)."""
    n = len(modes)
    full, half = (2 * np.pi * spacing(n, box_size / n).astype(np.float32) for spacing in (fft.fftfreq, fft.rfftfreq))
    for i, kx in enumerate(full):
        k2 = kx**2 + full[:, None] ** 2 + half**2
        k2[k2 == 0] = 1.0
        np.multiply(modes[i], factor((kx, full[:, None], half), k2), out=out[i])


def _to_space(modes, out) -> None:
    """Inverse transform into `out` (n, n, n), overwriting the modes: `scipy.fft.irfftn` needs as much memory again."""
    modes = fft.ifftn(modes, axes=(0, 1), overwrite_x=True, workers=config.NUMBA_NUM_THREADS)
    for plane in range(len(out)):
        out[plane] = fft.irfft(modes[plane], len(out))


def _heavy_haloes(sim, box_size, modes, free, log_m, extra, rng) -> np.ndarray:
    """Lagrangian positions [grid steps] of heavy haloes; their neighbourhoods are no longer `free`."""
    n = len(modes)
    lagrangian, apart = np.empty((len(log_m), 3), np.float32), np.ones_like(free)
    smoothed, weight = np.empty_like(modes), np.empty((n, n, n), np.float32)
    edges = np.unique(np.searchsorted(log_m, np.r_[-np.inf, np.arange(13.25, 15.5, 0.25), np.inf]))
    for begin, end in list(zip(edges[:-1], edges[1:]))[::-1]:
        radius = (3 * 10 ** log_m[begin:end] / (4 * np.pi * RHO_CRITICAL * sim.omega_m)) ** (1 / 3)
        # A Gaussian of sigma = radius / sqrt(5) smooths over as much volume as a top hat of this radius.
        half_variance = np.float32(np.median(radius) ** 2 / 10)
        _multiply(modes, lambda _, k2, half=half_variance: np.exp(-k2 * half), box_size, smoothed)
        _to_space(smoothed, weight)
        weight *= np.float32(BIAS_CORRECTION * lagrangian_bias(sim, np.median(log_m[begin:end])))
        np.exp(weight, out=weight)
        weight *= free
        in_layer = weight.sum(axis=(1, 2), dtype=np.float64)
        # A part of the drawn cells is no longer free, so more are drawn than there are haloes.
        n_drawn = 4 * (end - begin) + 50 * extra[begin:end].sum()
        counts = rng.multinomial(n_drawn, in_layer / in_layer.sum())
        cell = [layer * n**2 + _pick(weight[layer].ravel(), count, rng) for layer, count in enumerate(counts)]
        cell = rng.permutation(np.concatenate(cell))
        cell = np.stack(np.unravel_index(cell, (n, n, n)), axis=1)
        spheres = EXCLUSION * radius[::-1] * (n / box_size), extra[begin:end][::-1], APART * (n / box_size)
        lagrangian[begin:end] = _occupy(cell, *spheres, free, apart)[::-1]
    return lagrangian + rng.random(lagrangian.shape, dtype=np.float32) - np.float32(0.5)


def _pick(weight, count, rng) -> np.ndarray:
    """Indices of `count` cells, drawn with these weights."""
    cumulative = np.cumsum(weight, dtype=np.float64)
    return np.minimum(np.searchsorted(cumulative, rng.random(count) * cumulative[-1]), len(weight) - 1)


@njit(cache=True)
def _occupy(cell, radius, extra, spacing, free, apart):
    """Give each radius [grid steps] the first drawn cell that is still free, and occupy a sphere there.

    An extra host needs a cell that lies `apart` from others, and occupies a sphere of radius `spacing` in that, too.
    """
    taken = np.empty((len(radius), 3), cell.dtype)
    k = 0
    for i in range(len(radius)):
        while k < len(cell) - (len(radius) - i):
            x, y, z = cell[k, 0], cell[k, 1], cell[k, 2]
            if free[x, y, z] and (apart[x, y, z] or not extra[i]):
                break
            k += 1
        for axis in range(3):  # element by element, which compiles in a third of the time
            taken[i, axis] = cell[k, axis]
        _clear(free, cell[k], radius[i])
        if extra[i]:
            _clear(apart, cell[k], spacing)
        k += 1
    return taken


@njit(cache=True)
def _clear(mask, centre, radius):
    """Set a mask of the grid to False within a radius [grid steps] of a cell."""
    n, steps = len(mask), int(radius)
    for x in range(-steps, steps + 1):
        for y in range(-steps, steps + 1):
            for z in range(-steps, steps + 1):
                if x**2 + y**2 + z**2 <= radius**2:
                    mask[(centre[0] + x) % n, (centre[1] + y) % n, (centre[2] + z) % n] = False


@njit(cache=True, nogil=True)
def _interpolate(field, position):
    """Trilinear interpolation of a periodic field (3, n, n, n) at positions (m, 3) in grid steps."""
    n = field.shape[1]
    out = np.zeros(position.shape, np.float32)
    weight, index = np.empty((3, 2), np.float32), np.empty((3, 2), np.int64)  # of grid points below and above
    for i in range(len(position)):
        for axis in range(3):
            low = np.floor(position[i, axis])
            weight[axis, 1] = position[i, axis] - low
            weight[axis, 0] = 1 - weight[axis, 1]
            index[axis, 0] = int(low) % n
            index[axis, 1] = (int(low) + 1) % n
        for corner in range(8):
            x, y, z = corner & 1, corner >> 1 & 1, corner >> 2
            share = weight[0, x] * weight[1, y] * weight[2, z]
            for axis in range(3):
                out[i, axis] += share * field[axis, index[0, x], index[1, y], index[2, z]]
    return out
