"""Galaxies around clusters of synthetic boxes, as deep and as wide as any survey that is simulated from them.

`observe` of the mock catalogues has the paper's cylinder. The survey estimator needs more: positions on the sky for
offset centres, masks and fibres, stellar masses for cuts, and each galaxy's place in three dimensions for its label.
A view is one cluster seen along one line of sight, or random places of the box seen likewise.

Real clusters may have more galaxies than clusters of a box with the same mass, as Coma does. Therefore each cluster is
seen a second time, from a direction 30 degrees off, and both views together make one of a cluster twice as rich. The
first direction alone has as many galaxies as the box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cluster_tools.cosmology import COMA_REDSHIFT, comoving_distance, efunc, r200c
from cluster_tools.mocks import catalogs
from cluster_tools.mocks.observe import add_velocities, hubble_velocity_table, interpolated
from cluster_tools.ragged import ClusterGalaxies, cluster_offsets, per_cluster, per_galaxy
from cluster_tools.universe import snapshots

RADIUS = 2.65  # comoving Mpc/h: the widest field, and the farthest offset of its centre
VELOCITY = 4300.0  # km/s: the window, and the largest error of a cluster's redshift
DEPTH = 75.0  # comoving Mpc/h along the line of sight, before and behind: the window and the fastest galaxies
LOG_M200C = (13.0, 15.6)  # log10 Msun/h: masses of the training set, flat
STRETCH = 0.03  # dex: hosts that may stand in for a mass
FEWEST_HOSTS = 40  # for the rarest masses, hosts farther than that
TILT = np.radians(30)  # between the two directions of a view
MOST_PLACES = 25  # random places together in one view without a cluster
INFALL = 4.0  # R200c: galaxies nearer than this, and not members, fall in
INTERLOPER, INFALLING, MEMBER = 0, 1, 2


@dataclass(frozen=True)
class Views(ClusterGalaxies):
    """Views of n clusters; `x` and `y` are positions on the sky from the centre, `r_proj` their distance."""

    x: np.ndarray = per_galaxy("comoving Mpc/h")
    y: np.ndarray = per_galaxy("comoving Mpc/h")
    log_mstar: np.ndarray = per_galaxy("log10 Msun")
    is_satellite: np.ndarray = per_galaxy()
    label: np.ndarray = per_galaxy()  #: int8: INTERLOPER, INFALLING or MEMBER
    log_m200c: np.ndarray = per_cluster("log10 Msun/h")  #: [log10 Msun/h]; NaN where no cluster is
    fold: np.ndarray = per_cluster()  #: int8
    n_first: np.ndarray = per_cluster()  #: galaxies of the first direction, which stand first
    is_uniform: np.ndarray = per_cluster()  #: bool: a uniform field, no place of a box


def scale(redshift: float) -> float:
    """Factor of comoving radii that brings a cluster at this redshift to Coma's."""
    near, far = (float(efunc(z) / (1 + z)) for z in (COMA_REDSHIFT, redshift))
    return far / near


def mass_shift(redshift: float) -> float:
    """log10 of E(z) at this redshift over that at Coma's [dex]; a mass brought to Coma's redshift rises by it."""
    return float(np.log10(efunc(redshift) / efunc(COMA_REDSHIFT)))


def observe(
    snapshot: snapshots.Snapshot, n: int, *, empty: float = 0.15, redshift: float = COMA_REDSHIFT, seed: int = 0
) -> Views:
    """Views of `n` clusters whose masses are flat in log10 M200c over `LOG_M200C`, then of random places.

    A host near the drawn mass is stretched to it: by a factor s in position and velocity, and s^3 in mass. So are its
    surroundings. `empty` is the number of views without a cluster over `n`; in each, up to 25 random places lie over
    one another, as in a deeper survey. Hosts keep the fold of `catalogs.folds`. Clusters are seen at `redshift`, and
    their masses and radii brought to Coma's (`mass_shift`, `scale`).
    """
    rng, closer = np.random.default_rng(seed), scale(redshift)
    mass = snapshot.host_log_m200c + mass_shift(redshift)
    order = np.argsort(mass)
    by_mass = mass[order]
    target = rng.uniform(*LOG_M200C, n)
    low, high = np.searchsorted(by_mass, target - STRETCH), np.searchsorted(by_mass, target + STRETCH)
    middle = np.clip(np.searchsorted(by_mass, target), FEWEST_HOSTS // 2, len(order) - FEWEST_HOSTS // 2)
    few = high - low < FEWEST_HOSTS
    low, high = np.where(few, middle - FEWEST_HOSTS // 2, low), np.where(few, middle + FEWEST_HOSTS // 2, high)
    host = order[low + (rng.random(n) * (high - low)).astype(int)]
    # Rows of `_look`: two for each cluster, then 1 to 25 for each view of random places.
    n_empty = int(empty * n)
    places = np.exp(rng.uniform(0, np.log(MOST_PLACES), n_empty)).astype(int)
    view = np.r_[np.repeat(np.arange(n), 2), n + np.repeat(np.arange(n_empty), places)]
    host = np.r_[np.repeat(host, 2), np.full(places.sum(), -2)]
    target = np.r_[target, np.full(n_empty, np.nan)]
    is_cluster, place = host >= 0, rng.uniform(0, snapshot.box_size, (len(host), 3))
    position = np.where(is_cluster[:, None], snapshot.host_position[host], place)
    velocity = np.where(is_cluster[:, None], snapshot.host_velocity[host], 0.0)
    own_mass = np.where(is_cluster, mass[host], np.nan)
    stretch = np.nan_to_num(10 ** ((target[view] - own_mass) / 3), nan=1.0)
    radius = r200c(np.nan_to_num(own_mass, nan=11.0) - mass_shift(redshift), redshift)
    frames = np.linalg.qr(rng.standard_normal((len(host), 3, 3)))[0]
    first, second = frames[0 : 2 * n : 2], frames[1 : 2 * n : 2]
    second[:, 0] = np.cos(TILT) * first[:, 0] + np.sin(TILT) * first[:, 2]
    second[:, 1], second[:, 2] = first[:, 1], np.cos(TILT) * first[:, 2] - np.sin(TILT) * first[:, 0]

    omega_m, cells = snapshot.simulation.omega_m, snapshots.cells_on_a_side(snapshot.box_size)
    columns = {name: getattr(snapshot, name)[:] for name in snapshots.GALAXY.names}
    starts = np.searchsorted(snapshots.cell_of(columns["position"], snapshot.box_size), np.arange(cells**3 + 1))
    d_cluster = float(comoving_distance(redshift, omega_m=omega_m))
    recession = hubble_velocity_table(omega_m, z_max=redshift + 0.1)
    count, galaxy, x, y, v_los, distance = _look(
        position.astype(float), velocity.astype(float), frames, RADIUS / stretch / closer, VELOCITY / stretch,
        columns["position"], columns["velocity"], starts, cells, snapshot.box_size, d_cluster, *recession,
    )  # fmt: skip
    label = np.where(distance < INFALL * np.repeat(radius, count), INFALLING, INTERLOPER)
    label[columns["host"][galaxy] == np.repeat(host, count)] = MEMBER
    # The central galaxy counts once.
    again = np.repeat(is_cluster & (np.arange(len(host)) % 2 == 1), count)
    kept = ~again | (label != MEMBER) | columns["is_satellite"][galaxy]
    richness = np.bincount(np.repeat(view, count)[kept], minlength=len(target))
    n_first = np.bincount(np.repeat(view, count)[~again], minlength=len(target))
    factor = np.repeat(stretch, count).astype(np.float32)[kept]
    x, y = x[kept] * factor * np.float32(closer), y[kept] * factor * np.float32(closer)
    v_los, galaxy = v_los[kept] * factor, galaxy[kept]
    folds = catalogs.folds(snapshot.host_log_m200c)[host[: 2 * n : 2]]
    return Views(
        v_los, np.hypot(x, y), cluster_offsets(richness), x, y, columns["log_mstar"][galaxy],
        columns["is_satellite"][galaxy], label[kept].astype(np.int8), target,
        np.r_[folds, rng.integers(0, catalogs.FOLDS, n_empty)].astype(np.int8), n_first, np.zeros(len(target), bool),
    )  # fmt: skip


def uniform(n: int, like: Views, *, seed: int = 0) -> Views:
    """Views of `n` uniform fields; stellar masses and kinds of galaxies are drawn from those of `like`.

    They are centred as users do: on the fullest window in velocity, and on the galaxy with most others about it.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for count in np.exp(rng.uniform(np.log(50), np.log(8000), n)).astype(int):
        disc = 1.5 * RADIUS * np.sqrt(rng.random(count)) * np.exp(2j * np.pi * rng.random(count))
        speed = rng.uniform(-1, 1, count) * VELOCITY * rng.uniform(0.6, 1.6) + rng.normal(0, 500)
        ordered = np.sort(speed)
        speed -= ordered[(np.searchsorted(ordered, ordered + 4000) - np.arange(count)).argmax()] + 2000
        core = np.flatnonzero((np.abs(disc) < RADIUS / 2) & (np.abs(speed) < 2000))[:100]
        core = core if len(core) else np.arange(1)
        near = (np.abs(disc[core, None] - disc) < 0.3) & (np.abs(speed) < 2000)
        disc = disc - disc[core[near.sum(axis=1).argmax()]]
        inside = (np.abs(disc) < RADIUS) & (np.abs(speed) < VELOCITY)
        parts.append((speed[inside], disc.real[inside], disc.imag[inside]))
    v_los, x, y = (np.concatenate(each).astype(np.float32) for each in zip(*parts))
    richness = [len(speed) for speed, *_ in parts]
    drawn = rng.integers(0, len(like.v_los), len(x))
    return Views(
        v_los, np.hypot(x, y), cluster_offsets(richness), x, y, like.log_mstar[drawn], like.is_satellite[drawn],
        np.zeros(len(x), np.int8), np.full(n, np.nan), rng.integers(0, catalogs.FOLDS, n).astype(np.int8),
        np.array(richness), np.ones(n, bool),
    )  # fmt: skip


def together(views) -> Views:
    """Several sets of views as one."""
    columns = {name: np.concatenate([getattr(each, name) for each in views]) for name in Views.__dataclass_fields__}
    return Views(**columns | {"offsets": cluster_offsets(np.concatenate([each.richness for each in views]))})


@njit(cache=True)
def _look(
    centres, velocities, frames, radii, windows, position, velocity, starts, cells, box, d_cluster, distance, recession
):
    """Galaxies in a cylinder about each centre: counts, indices, sky positions, v_los, distances from the centre."""
    size = box / cells
    seen = np.full(cells**3, -1, np.int32)
    count = np.zeros(len(centres), np.int64)
    galaxy = np.empty(1_000_000, np.int64)
    found = np.empty((1_000_000, 4), np.float32)
    total = 0
    away = np.empty(3)
    for i in range(len(centres)):
        frame, radius = frames[i], radii[i]  # axes along x and y on the sky and along the line of sight
        along = frame[2]
        own = velocities[i, 0] * along[0] + velocities[i, 1] * along[1] + velocities[i, 2] * along[2]
        v_cluster = add_velocities(interpolated(d_cluster, distance, recession), own)
        reach = radius + size / 2
        low, high = np.empty(3, np.int64), np.empty(3, np.int64)
        for step in range(int(-DEPTH / size) - 1, int(DEPTH / size) + 2):
            for axis in range(3):  # element by element: arithmetic of arrays compiles seconds longer
                middle = centres[i, axis] + step * size * along[axis]
                low[axis], high[axis] = np.floor((middle - reach) / size), np.floor((middle + reach) / size)
            for a in range(low[0], high[0] + 1):
                for b in range(low[1], high[1] + 1):
                    for c in range(low[2], high[2] + 1):
                        cell = ((a % cells) * cells + b % cells) * cells + c % cells
                        if seen[cell] == i:
                            continue
                        seen[cell] = i
                        for g in range(starts[cell], starts[cell + 1]):
                            for axis in range(3):
                                away[axis] = position[g, axis] - centres[i, axis]
                                away[axis] -= box * np.round(away[axis] / box)
                            x = away[0] * frame[0, 0] + away[1] * frame[0, 1] + away[2] * frame[0, 2]
                            y = away[0] * frame[1, 0] + away[1] * frame[1, 1] + away[2] * frame[1, 2]
                            depth = away[0] * along[0] + away[1] * along[1] + away[2] * along[2]
                            if x**2 + y**2 > radius**2 or abs(depth) > DEPTH:
                                continue
                            own = velocity[g, 0] * along[0] + velocity[g, 1] * along[1] + velocity[g, 2] * along[2]
                            v = add_velocities(interpolated(d_cluster + depth, distance, recession), own)
                            v = add_velocities(v, -v_cluster)
                            if abs(v) > windows[i]:
                                continue
                            if total == len(galaxy):
                                galaxy = np.concatenate((galaxy, np.empty_like(galaxy)))
                                found = np.concatenate((found, np.empty_like(found)))
                            galaxy[total] = g
                            found[total, 0], found[total, 1], found[total, 2] = x, y, v
                            found[total, 3] = np.sqrt(x**2 + y**2 + depth**2)
                            total += 1
                            count[i] += 1
    found = found[:total]
    return count, galaxy[:total], found[:, 0], found[:, 1], found[:, 2], found[:, 3]
