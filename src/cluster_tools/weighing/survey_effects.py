"""Survey effects on a cluster, drawn at random for each training observation of the survey estimator.

Each view (`training_views`) is observed anew in each epoch: with a cut in stellar mass, a wrong centre and redshift, a
field that ends early, a mask, incompleteness that grows outward, colliding fibres, errors of velocities, and so few
galaxies as a survey may have. The network is told `CONDITIONS`, which a user knows. One observation in `COMPLETE` has
all galaxies of the field above the cut, about the true centre; then their number tells a mass, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT
from cluster_tools.ragged import ClusterGalaxies, per_cluster, per_galaxy

FEWEST_GALAXIES = 8
SMALLEST_FIELD = 0.4  # comoving Mpc/h
LARGEST_ERROR = 300.0  # km/s
LARGEST_OFFSET = 0.3  # comoving Mpc/h, of the centre
LOG_MSTAR_CUTS = (9.0, 10.7)  # log10 Msun
# A user's network is told of no more galaxies. Only the boxes' heaviest clusters show more, while real ones are richer:
# the number itself would tell a mass.
MOST_TOLD = 400
COMPLETE = 4
COMPLETE_WEIGHT = 2.0  # of a complete observation; the mean of the others is about as large
# Numbers that a network is told of each observation.
CONDITIONS = ("log_count", "field", "velocity_error", "log_mstar_cut", "cut_known", "is_complete")


@dataclass(frozen=True)
class Observations(ClusterGalaxies):
    """Observations of n clusters, as the survey estimator reads them."""

    label: np.ndarray = per_galaxy()  #: as in `training_views`
    conditions: np.ndarray = per_cluster()  #: float32 (n, 6)
    field: np.ndarray = per_cluster("comoving Mpc/h")  #: true radius of the field [comoving Mpc/h]
    velocity_error: np.ndarray = per_cluster("km/s")  #: true error [km/s]
    weight: np.ndarray = per_cluster()
    row: np.ndarray = per_cluster()  #: index of the view


def conditions(count, field, velocity_error, cut, is_complete) -> np.ndarray:
    """`CONDITIONS` of n observations, float32 (n, 6), of order one.

    Each has `count` galaxies, a `field` of this radius [comoving Mpc/h], a typical `velocity_error` [km/s], and stellar
    masses from `cut` on [log10 Msun, no h]; NaN if there is no cut, or it is unknown. `is_complete` says that they
    are all galaxies of the field above the cut, about the true centre.
    """
    known = np.isfinite(cut)
    return np.stack(
        [np.log10(np.asarray(count) / 50.0), np.log(np.asarray(field) / APERTURE) + 0.7,
         np.asarray(velocity_error) / 150.0 - 1, np.where(known, np.asarray(cut) - 9.85, 0.0), known,
         np.asarray(is_complete)],
        axis=-1,
    ).astype(np.float32)  # fmt: skip


def told_count(count, is_complete, shift: float = 0.0) -> np.ndarray:
    """Numbers of galaxies that a network is told of, from each `count` (n,): `MOST_TOLD` at most, unless `is_complete`.

    A cluster that is brought to Coma's redshift is heavier by `shift` [dex] (`training_views.mass_shift`), and so has
    fewer galaxies than those of its mass there. If all are in the table, their number is raised by `shift`, too.
    """
    return np.where(is_complete, np.multiply(count, 10.0**shift), np.minimum(count, MOST_TOLD))


def told(
    count: int, field: float, velocity_error: float, cut: float | None, is_complete: bool = False, shift: float = 0.0
) -> np.ndarray:
    """`CONDITIONS` (1, 6) of a user's cluster; a cut outside `LOG_MSTAR_CUTS` is taken as unknown.

    `shift` is that of `told_count`.
    """
    known = cut is not None and LOG_MSTAR_CUTS[0] <= cut <= LOG_MSTAR_CUTS[1]
    cuts = np.array([cut if known else np.nan])
    counts = [told_count(count, is_complete, shift)]
    return conditions(counts, [field], [velocity_error], cuts, [is_complete])


def estimated_field(largest_r_proj, count):
    """Radius [comoving Mpc/h] of a field of `count` galaxies: `largest_r_proj` falls short by a share 1 / (2 count)."""
    return np.minimum(largest_r_proj * (1 + 0.5 / np.maximum(count, 1)), APERTURE)


def observe(views, rows, seed: int) -> Observations:
    """Observe views (`training_views.Views`), each with survey effects of its own; unusable ones are left out.

    `rows` (n,) are indices of views. An observation is usable with 8 galaxies or more. Users rarely know how complete
    their galaxies are, so the number of galaxies must not tell the mass. It is drawn flat in its log, from 8 to all
    galaxies of the view, and the weight of an observation is the width of that range. So weighted, observations with a
    given number of galaxies have all masses that can show it equally often. Complete observations have all galaxies of
    the first direction above the cut, and equal weights.
    """
    views, rng = views.select(rows), np.random.default_rng(seed)
    kept, offsets, v_los, r_proj, parameters = _observe(
        views.x, views.y, views.v_los, views.log_mstar, views.is_satellite, views.offsets, views.n_first, rng
    )
    count = np.diff(offsets)
    usable = np.flatnonzero(count >= FEWEST_GALAXIES)
    largest = np.zeros(len(count), np.float32)
    np.maximum.at(largest, np.repeat(np.arange(len(count)), count), r_proj)
    field, told_true, error, cut, weight, is_complete = parameters.T
    told = np.maximum(np.where(told_true == 1, field, estimated_field(largest, count)), 0.2)
    told_error = np.clip(error * rng.normal(1, 0.15, len(error)), 0, LARGEST_ERROR)
    known = conditions(np.maximum(count, 1), told, told_error, cut, is_complete)
    everything = Observations(v_los, r_proj, offsets, views.label[kept], known, field, error, weight, rows)
    return everything.select(usable)


@njit(cache=True)
def _observe(x_all, y_all, v_all, log_mstar, is_satellite, offsets, n_first, rng):
    """Galaxies kept of each view, with their new v_los and r_proj, and parameters of each observation."""
    n = len(offsets) - 1
    kept = np.empty(len(x_all), np.int64)
    v_los, r_proj = np.empty(len(x_all), np.float32), np.empty(len(x_all), np.float32)
    ends = np.zeros(n + 1, np.int64)
    parameters = np.empty((n, 6))
    total = 0
    for i in range(n):
        complete = rng.random() < 1 / COMPLETE
        first, last = offsets[i], offsets[i + 1]
        if complete:
            last = first + n_first[i]
        size = last - first
        # Selection: galaxies of all kinds or satellites, from a stellar mass that is known, exceeded or unknown.
        cut = rng.uniform(LOG_MSTAR_CUTS[0], LOG_MSTAR_CUTS[1])
        limit = cut
        if not complete and rng.random() < 0.3:
            limit = max(cut, rng.uniform(LOG_MSTAR_CUTS[0], LOG_MSTAR_CUTS[1]))
        scatter = 0.0
        if rng.random() < 0.3:
            cut, scatter = np.nan, 0.2
        satellites = rng.random() < 0.2
        offset = LARGEST_OFFSET * rng.random() * (not complete and rng.random() < 0.6)
        angle = rng.uniform(0, 2 * np.pi)
        x_centre, y_centre = offset * np.cos(angle), offset * np.sin(angle)
        field = APERTURE
        if rng.random() < 0.65:
            field = SMALLEST_FIELD * (APERTURE / SMALLEST_FIELD) ** rng.random()
        error = LARGEST_ERROR * rng.random()
        if rng.random() < 0.4:
            error = 50.0 * rng.random()
        # A mask: a wedge, or a hole.
        masked = 1.0 if complete else rng.random()
        wedge, turn = rng.uniform(0.5, 3.2), rng.uniform(-np.pi, np.pi)
        hole, hole_at = field * rng.uniform(0.1, 0.4), field * np.sqrt(rng.random())
        falls = rng.uniform(0.0, 2.5) * (not complete and rng.random() < 0.5)
        m = 0
        candidate = np.empty(size, np.int64)
        rank = np.empty(size)
        r, v, near = np.empty(size), np.empty(size), np.empty(size)
        px, py = np.empty(size), np.empty(size)
        for g in range(first, last):
            if (satellites and not is_satellite[g]) or log_mstar[g] + scatter * rng.normal(0.0, 1.0) < limit:
                continue
            x, y = x_all[g] - x_centre, y_all[g] - y_centre
            radius = np.hypot(x, y)
            if radius > field:
                continue
            if masked < 0.2 and abs((np.arctan2(y, x) - turn + np.pi) % (2 * np.pi) - np.pi) < wedge / 2:
                continue
            if 0.2 <= masked < 0.4 and np.hypot(x - hole_at * np.cos(turn), y - hole_at * np.sin(turn)) < hole:
                continue
            candidate[m], r[m], px[m], py[m] = g, radius, x, y
            v[m] = v_all[g] + error * rng.normal(0.0, 1.0)
            # The largest of log w + Gumbel noise are a sample without replacement with weights w.
            rank[m] = falls * radius / field + np.log(-np.log(rng.random()))
            m += 1
        # The cluster's redshift: given with an error, or the median of the galaxies near it.
        inside = 0
        for k in range(m):
            if abs(v[k]) < 2000:
                near[inside] = v[k]
                inside += 1
        shift = rng.normal(0.0, 1.0) * 60.0
        if inside > 3 and rng.random() < 0.6:
            some = inside if complete else max(min(inside, 4 + int(60 * rng.random())), 1)
            for k in range(some):  # chosen at random; numba's permutation compiles four seconds longer
                j = k + int((inside - k) * rng.random())
                near[k], near[j] = near[j], near[k]
            order = np.argsort(near[:some])  # numba's median compiles a second longer
            shift = (near[order[(some - 1) // 2]] + near[order[some // 2]]) / 2
        # How many: any number from the fewest to all.
        range_of_counts = np.log((m + 1) / FEWEST_GALAXIES)
        wanted = m if complete else int(FEWEST_GALAXIES * np.exp(max(range_of_counts, 0.0) * rng.random()))
        fibre = rng.uniform(0.02, 0.1) * (not complete and rng.random() < 0.3)
        begin = total
        for k in np.argsort(rank[:m]):
            if total - begin >= wanted:
                break
            speed = v[k] - shift
            if abs(speed) >= VELOCITY_CUT:
                continue
            collides = False
            if fibre > 0 and rng.random() < 0.6:
                for other in range(begin, total):
                    j = kept[other]
                    if np.hypot(x_all[j] - x_centre - px[k], y_all[j] - y_centre - py[k]) < fibre:
                        collides = True
                        break
            if collides:
                continue
            kept[total], v_los[total], r_proj[total] = candidate[k], speed, r[k]
            total += 1
        ends[i + 1] = total
        parameters[i, 0], parameters[i, 1] = field, 1.0 * (rng.random() < 0.5)
        parameters[i, 2], parameters[i, 3], parameters[i, 5] = error, cut, complete
        parameters[i, 4] = COMPLETE_WEIGHT if complete else max(range_of_counts, 0.0)
    return kept[:total], ends, v_los[:total], r_proj[:total], parameters
