"""Galaxies in and around the clusters of a box beside those of N-body runs: where they are, and how fast.

ROGER's galaxies (de los Rios et al. 2021) are of a semi-analytic model in MDPL2, projected, in units of R200 and of
the cluster's dispersion. `data/roger.csv` has the measures of half of them; the other half helped to choose parameters
of `universe.synthetic`. Mean radial velocities are compared with an N-body run like those of `universe.nbody`.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from cluster_tools import cosmology, paths
from cluster_tools.mocks.cluster_dynamics import N_BODY, choose_hosts, host_r200c, neighbours
from cluster_tools.mocks.comparison import comparison_table
from cluster_tools.ragged import cluster_offsets
from cluster_tools.universe.snapshots import Snapshot

ROGER = "de los Rios et al. 2021"
MASSES = (14.0, 14.25, 14.5, 15.1)  # edges of ranges of log10 M200c
RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)  # edges, projected, R200c
FASTEST = 3.0  # dispersions of the cluster
BACKSPLASH = 1.8  # R200c: within, a galaxy on its way out has passed the cluster
TURNAROUND = 6.0  # R200c: beyond, a galaxy that comes closer falls towards something else
GROUPS = 10  # of clusters, whose scatter gives errors
MEASURES = ("share", "rms", "interlopers", "rms of interlopers", "rms of others")
TOLERANCE = {name: 0.2 if name == "rms of others" else 0.15 for name in MEASURES}

# r / R200c, and the mean radial velocity with the Hubble flow [V200c] around haloes of 10^14 to 10^14.3 and above, by
# the mean log10 M200c of each.
N_BODY_RADII = (1.45, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.5, 6.5)
N_BODY_FLOW = {
    14.12: (-0.01, -0.10, -0.25, -0.32, -0.30, -0.24, -0.16, -0.06, 0.05),
    14.49: (-0.13, -0.24, -0.35, -0.35, -0.28, -0.20, -0.11, 0.03, 0.18),
}


def table(snapshot: Snapshot, profile: pd.DataFrame, *, at_most: int = 600, seed: int = 0) -> pd.DataFrame:
    """Measures of projected galaxies against ROGER's, and of the mean radial velocity against an N-body run.

    `profile` is the box's `infall_profile`; `at_most` clusters are drawn in each range of mass with `seed`. Of galaxies
    with v_los below 3 dispersions of the members: their share by R / R200c out to 3, the rms of v_los over the
    dispersion, the share of interlopers, and the rms of these and of the others. An interloper is more than 1.8 R200c
    from the cluster and moves away from it, expansion included, or is beyond 6 R200c.
    """
    published_measures = reference()
    rng = np.random.default_rng(seed)
    rows = []
    hosts = [choose_hosts(snapshot, ends, at_most, rng) for ends in zip(MASSES, MASSES[1:])]
    every, first = _project(snapshot, np.concatenate(hosts)), cluster_offsets(list(map(len, hosts)))
    for low, begin, end in zip(MASSES, first, first[1:]):
        galaxies = every[(every[:, 3] >= begin) & (every[:, 3] < end)]
        groups = [galaxies[galaxies[:, 3] % GROUPS == k] for k in range(GROUPS)]
        found, *scattered = (measures(*part.T[:3]) for part in (galaxies, *groups))
        expected = published_measures[published_measures["log_m200c"] == low]
        with warnings.catch_warnings(action="ignore"):  # where no group has such galaxies, the error is NaN
            error = np.nanstd(scattered, axis=0) / np.sqrt(GROUPS)
        for k, name in enumerate(MEASURES):
            for i, (inner, outer) in enumerate(zip(RADII, RADII[1:])):
                published = float(expected[name].iloc[i])
                label = f"{name}, R / R200c {inner:g} to {outer:g}"
                rows.append((label, low, found[k, i], error[k, i], published, TOLERANCE[name], ROGER))
    return comparison_table("orbits", rows, "mean radial velocity", _flow(profile))


def reference() -> pd.DataFrame:
    """ROGER's `MEASURES` in rings of ``r_min`` to ``r_max`` [R200c], from ``log_m200c`` on, and numbers of galaxies."""
    return pd.read_csv(paths.PACKAGE / "data" / "roger.csv", comment="#")


def measures(r, v, interloper) -> np.ndarray:
    """The `MEASURES` of galaxies in each ring of `RADII`: (5, 8).

    `r` is the projected radius over R200c, `v` the velocity over the dispersion, and `interloper` 0 or 1, each (n,).
    """
    ring = np.digitize(r, RADII) - 1
    inside = (ring < len(RADII) - 1) & (np.abs(v) < FASTEST)
    ring, v2, interloper = ring[inside], np.asarray(v)[inside] ** 2, np.asarray(interloper, float)[inside]

    def total(weight=None):
        return np.bincount(ring, weight, minlength=len(RADII) - 1)

    number, others = total(), total(1 - interloper)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([
            number / number.sum(), np.sqrt(total(v2) / number), total(interloper) / number,
            np.sqrt(total(v2 * interloper) / total(interloper)), np.sqrt(total(v2 * (1 - interloper)) / others),
        ])  # fmt: skip


def _project(snapshot: Snapshot, host: np.ndarray) -> np.ndarray:
    """Galaxies around hosts along z: (n, 4) of R / R200c, abs(v_los) over the dispersion, interloper, cluster."""
    sim, r200c = snapshot.simulation, host_r200c(snapshot, snapshot.host_log_m200c[host])
    expansion = 100 * float(cosmology.efunc(sim.redshift, omega_m=sim.omega_m)) / (1 + sim.redshift)
    parts = [np.empty((0, 5))]
    for i, r, away, velocity, member in neighbours(snapshot, host, RADII[-1] * r200c, axes=2):
        moving = velocity + expansion * away
        outward = ((moving * away).sum(axis=1) > 0) & (r > BACKSPLASH * r200c[i])
        outside = outward | (r > TURNAROUND * r200c[i])
        columns = np.hypot(*away[:, :2].T) / r200c[i], np.abs(moving[:, 2]), outside, np.full(len(r), i), member
        parts.append(np.stack(columns, axis=1))
    galaxies = np.concatenate(parts)
    cluster, member = galaxies[:, 3].astype(int), galaxies[:, 4] > 0
    number = np.bincount(cluster[member], minlength=len(host))
    squares = np.bincount(cluster[member], galaxies[member, 1] ** 2, minlength=len(host))
    galaxies[:, 1] /= np.sqrt(squares / np.maximum(number, 1))[cluster]
    return galaxies[:, :4]


def _flow(profile: pd.DataFrame) -> list[tuple]:
    """Rows of the mean radial velocity less that of the N-body run [V200c], from 1.3 to 6 R200c."""
    rows = []
    for mass in profile["log_m200c"].unique():
        stack = profile[(profile["log_m200c"] == mass) & (profile["r"] > 1.3) & (profile["r"] < 6)]
        lighter, heavier = (np.interp(stack["r"], N_BODY_RADII, flow) for flow in N_BODY_FLOW.values())
        expected = lighter + np.interp(mass, list(N_BODY_FLOW), (0, 1)) * (heavier - lighter)
        off = stack["v_radial"] + stack["r"] / 10 - expected
        for r, difference, error in zip(stack["r"], off, stack["error"]):
            rows.append((f"r / R200c = {r:.3g}: less that of N-body", mass, difference, error, 0.0, 0.1, N_BODY))
    return rows
