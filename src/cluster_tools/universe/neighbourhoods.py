"""Neighbourhoods of clusters, from N-body runs: matter outside haloes, in units of R200c and V200c.

A library holds the surroundings of one or two hundred clusters of a particle-mesh run with the simulation's cosmology
(`nbody`), between `INNER` and `OUTER` R200c. A synthetic host draws one of like mass and turns it at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from cluster_tools import hdf5, paths, store
from cluster_tools.cosmology import Simulation, v200c
from cluster_tools.errors import ClusterToolsError
from cluster_tools.ragged import cluster_offsets
from cluster_tools.universe.halo_field import Spheres
from cluster_tools.universe.neighbourhood_digests import DIGESTS
from cluster_tools.universe.snapshots import shortest

INNER, OUTER = 1.3, 10.0  # R200c
REACH = 8.0  # R200c: out to here, hosts have neighbourhoods
# Particles have the motions inside their groups, whose cores the mesh smears out; light haloes and their galaxies move
# with the group. So random velocities, about the mean radial flow, are lower at these radii [R200c] by these factors,
# along and across the radius. Chosen for the infalling galaxies of ROGER and the shape of interlopers' velocities.
RANDOM = ((1.5, 0.9, 0.8), (2.8, 0.65, 0.35))
# Around a host of the box are also other hosts with their own neighbourhoods, and its satellites, which dilute its
# flow. So the flow is raised by these factors at these radii [R200c]. Chosen for the mean radial velocity of the
# N-body run.
FLOW = ((1.9, 1.65), (2.5, 1.1), (4.0, 1.08), (6.5, 1.0))
ALIKE = 24  # clusters of the library that a host draws from, the nearest in mass
POSITION_STEP = OUTER / 32767  # R200c
VELOCITY_STEP = 0.03  # V200c
FORMAT = "cluster_tools neighbourhoods 1"
REMEDY = "make it again with: make neighbourhoods"
COLUMNS: dict = {
    "log_m200c": np.float32, "matter": np.float32, "particles": np.int32, "position": np.int16, "velocity": np.int8,
}  # fmt: skip


@dataclass(frozen=True)
class Library:
    """Neighbourhoods of n clusters, the heaviest first."""

    log_m200c: np.ndarray  #: (n,) log10 Msun/h
    matter: np.ndarray  #: (n,) mass of the neighbourhood over M200c
    particles: np.ndarray  #: (n + 1,) first particle of each cluster
    position: np.ndarray  #: (m, 3) R200c, in random order
    velocity: np.ndarray  #: (m, 3) V200c, relative to the cluster


def path_of(name: str) -> Path:
    """The file of a simulation's library."""
    return paths.PACKAGE / "data" / "neighbourhoods" / f"{name}.h5"


def write(sim: Simulation, columns: dict[str, np.ndarray], parameters: dict) -> str:
    """Write `COLUMNS` as the library of a simulation, stamped with `parameters`; return its digest."""
    digest = _digest(columns)
    provenance = {**parameters, "digest": digest}
    hdf5.write(path_of(sim.name), FORMAT, provenance, columns, compression="gzip", shuffle=True)
    return digest


@lru_cache
def load(name: str) -> Library:
    """The library of a simulation; raises `ClusterToolsError` if it is missing, damaged or of another version."""
    path = path_of(name)
    with hdf5.opened(path, FORMAT, REMEDY) as file:
        columns = {column: file[column][()] for column in COLUMNS}
    if (digest := _digest(columns)) != DIGESTS.get(name, digest):
        raise ClusterToolsError(
            f"{paths.shown(path)} has digest {digest}, but {DIGESTS[name]} belongs to this version; {REMEDY}."
        )
    columns["particles"] = cluster_offsets(columns["particles"])
    columns["position"] = columns["position"] * np.float32(POSITION_STEP)
    columns["velocity"] = _as_of_haloes(columns["position"], columns["velocity"] * np.float32(VELOCITY_STEP))
    return Library(**columns)


def _as_of_haloes(position, velocity):
    """Velocities [V200c] of light haloes from those of particles: factors on the mean radial flow and on the rest."""
    r = np.linalg.norm(position, axis=1, keepdims=True)
    edges = np.arange(INNER, OUTER + 0.51, 0.5)
    shell = np.clip(np.digitize(r[:, 0], edges) - 1, 0, len(edges) - 1)
    outward = position / r
    radial = (outward * velocity).sum(axis=1, keepdims=True)
    mean = np.bincount(shell, radial[:, 0], len(edges)) / np.maximum(np.bincount(shell, minlength=len(edges)), 1)
    flow = np.interp(r, edges + 0.25, mean)
    radii, along, across = zip(*RANDOM)
    new_radial = np.interp(r, *zip(*FLOW)) * flow + np.interp(r, radii, along) * (radial - flow)
    tangential = np.interp(r, radii, across) * (velocity - radial * outward)
    return (new_radial * outward + tangential).astype(np.float32)


def _digest(columns: dict[str, np.ndarray]) -> str:
    return store.digest(b"".join(np.ascontiguousarray(columns[name]).tobytes() for name in COLUMNS))


class Surroundings:
    """The neighbourhood that each host draws from the library of `load`, turned at random.

    `position` (n, 3) and R200c, `radius` (n,) [comoving Mpc/h], `velocity` (n, 3) [km/s] and `log_m200c` (n,) [log10
    Msun/h] are the hosts'; positions lie in the box.
    """

    def __init__(self, sim: Simulation, box_size, log_m200c, position, velocity, radius, rng):
        self.library, self.sim, self.box_size = load(sim.name), sim, box_size
        self.log_m200c, self.position, self.velocity, self.radius = log_m200c, position, velocity, radius
        self.speed = v200c(radius, sim.redshift, omega_m=sim.omega_m)
        n = len(self.library.log_m200c)
        by_mass = np.argsort(self.library.log_m200c)
        nearest = np.searchsorted(self.library.log_m200c[by_mass], log_m200c)
        first = np.clip(nearest - ALIKE // 2, 0, max(n - ALIKE, 0))
        self.drawn = by_mass[first + rng.integers(0, min(ALIKE, n), len(first))]
        self.turned = np.linalg.qr(rng.standard_normal((len(first), 3, 3)))[0].astype(np.float32)
        self.reach = Spheres(position, REACH * radius, log_m200c, box_size)

    def mass(self) -> np.ndarray:
        """Mass of the matter in each host's neighbourhood [Msun/h]."""
        return self.library.matter[self.drawn] * 10**self.log_m200c

    def matter(self, host: np.ndarray, places: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, ...]:
        """Host, position [Mpc/h], velocity [km/s] of `places` (n,) particles around `host` (n,), from `start` on."""
        row = np.repeat(np.arange(len(host)), places)
        entry = self.drawn[host][row]
        step = np.arange(len(row)) - np.repeat(np.cumsum(places) - places, places)
        first, stored = self.library.particles[entry], np.diff(self.library.particles)[entry]
        index = first + (start[row] + step) % stored
        host, turned = host[row], self.turned[host[row]]
        x, v = (np.einsum("nij,nj->ni", turned, u[index]) for u in (self.library.position, self.library.velocity))
        position = self.position[host] + self.radius[host, None] * x
        velocity = self.velocity[host] + self.speed[host, None] * v
        return host, position.astype(np.float32), velocity.astype(np.float32)

    def velocity_at(self, host: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Velocity [V200c], relative to `host` (n,), of the particle nearest to `position` (n, 3) [comoving Mpc/h]."""
        library = self.library
        away = shortest(position - self.position[host], self.box_size) / self.radius[host, None]
        away = np.einsum("nji,nj->ni", self.turned[host], away)
        velocity = np.empty_like(away)
        entry = self.drawn[host]
        for e in np.unique(entry):
            mine = entry == e
            rows = slice(*library.particles[e : e + 2])
            _, index = cKDTree(library.position[rows]).query(away[mine])
            velocity[mine] = library.velocity[rows][index]
        return np.einsum("nij,nj->ni", self.turned[host], velocity)
