"""Realism of a box: measures of its haloes and galaxies beside published numbers.

Each measure returns a table of `comparison`; `table` joins them with those of `cluster_dynamics`. Masses are Msun/h,
lengths comoving Mpc/h, velocities km/s, stellar masses Msun without h. No number of Ho et al. (2022) is used.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cluster_tools import cosmology
from cluster_tools.mocks import cluster_dynamics
from cluster_tools.mocks.cluster_dynamics import MDPL2_UM, Views, host_r200c, pieces
from cluster_tools.mocks.comparison import NAN, comparison_table
from cluster_tools.universe import synthetic
from cluster_tools.universe.halo_field import Spheres
from cluster_tools.universe.snapshots import Snapshot, shortest

TINKER08, TINKER10, BALDRY = "Tinker et al. 2008", "Tinker et al. 2010", "Baldry et al. 2012"


def table(
    snapshot: Snapshot, views: Views | None = None, profile: pd.DataFrame | None = None, *, seed: int = 0
) -> pd.DataFrame:
    """Every measure of a box, one row a comparison.

    `views` and `profile` are its `observe_clusters` and `infall_profile`; None computes them, with this `seed`. `error`
    is the statistical error of `found`; `tolerance` is the allowed difference from `expected`, in its units. `within`
    is "yes" where difference and error are within the tolerance, "no" where the difference exceeds it by more than
    twice its error, "undecided" between the two, and "-" where nothing is expected or too few clusters are there.
    """
    views = cluster_dynamics.observe_clusters(snapshot, seed=seed) if views is None else views
    profile = cluster_dynamics.infall_profile(snapshot, seed=seed) if profile is None else profile
    measures = [halo_counts(snapshot), halo_bias(snapshot), overlaps(snapshot), galaxy_population(snapshot)]
    measures += [cluster_dynamics.cylinders(views, seed=seed), cluster_dynamics.m_sigma(views)]
    measures += [cluster_dynamics.interlopers(views), cluster_dynamics.infall(profile)]
    return pd.concat(measures, ignore_index=True)


def halo_counts(snapshot: Snapshot) -> pd.DataFrame:
    """Listed haloes in bins of mass against Tinker et al. (2008), 200c, with Poisson errors."""
    log_m, volume = snapshot.host_log_m200c, snapshot.box_size**3
    # All but the last hold so many haloes of a box of 1000 Mpc/h that chance is below the tolerance.
    edges = (13.5, 13.75, 14.0, 14.25, 14.5, 14.7, 15.0, 16.0)
    rows = []
    for low, high in zip(edges, edges[1:]):
        if log_m.min() > low + 0.02:
            continue  # such haloes are not listed
        grid = np.linspace(low, high, 201)
        expected = np.trapezoid(synthetic.halo_mass_function(snapshot.simulation, grid), grid) * volume
        name = f"haloes {low:.2f} to {high:.2f}" if high < 16 else f"haloes above {low:.2f}"
        number = int(((log_m >= low) & (log_m < high)).sum())
        rows.append((name, low, number, np.sqrt(expected), expected, 0.05, TINKER08))
    return comparison_table("halo counts", rows)


def halo_bias(snapshot: Snapshot, thresholds=(13.5, 14.0, 14.3)) -> pd.DataFrame:
    """Bias of listed haloes above each of `thresholds` [log10 Msun/h] against its mean by Tinker et al. (2010).

    b^2 is the number of pairs between 10 and 40 Mpc/h in excess of a random box, over the volume mean of the linear
    correlation function there (colossus). Errors are from a jackknife over 64 sub-boxes. Linear theory leaves out a
    few per cent of non-linear clustering near 10 Mpc/h, and includes waves longer than the box.
    """
    from colossus.lss import bias

    sim, box, (low, high) = snapshot.simulation, snapshot.box_size, (10.0, 40.0)
    grid, shell = np.geomspace(low, high, 100), 4 / 3 * np.pi * (high**3 - low**3)
    correlation = cosmology.colossus_cosmology(sim).correlationFunction(grid, sim.redshift)
    linear = np.trapezoid(4 * np.pi * grid**2 * correlation, grid) / shell
    rows = []
    for threshold in thresholds:
        chosen = snapshot.host_log_m200c >= threshold
        if chosen.sum() < 64 or snapshot.host_log_m200c.min() > threshold + 0.02:
            rows.append((f"bias above {threshold}", threshold, NAN, NAN, NAN, NAN, TINKER10))
            continue
        position = snapshot.host_position[chosen].astype(float)
        tree = cKDTree(position, boxsize=box)
        pairs = tree.query_ball_point(position, high, return_length=True)
        pairs -= tree.query_ball_point(position, low, return_length=True)
        part = np.minimum((position * (4 / box)).astype(int), 3) @ (16, 4, 1)
        pairs, haloes = np.bincount(part, pairs, minlength=64), np.bincount(part, minlength=64)
        # The last of these is the whole box, the others leave out one sub-box each.
        pairs = np.r_[pairs.sum() - pairs, pairs.sum()] / (len(position) / box**3 * shell)
        haloes = np.r_[haloes.sum() - haloes, haloes.sum()]
        *without, whole = np.sqrt(np.maximum(pairs / haloes - 1, 0) / linear)
        masses, counts = np.unique(snapshot.host_log_m200c[chosen].round(2), return_counts=True)
        expected = np.average(bias.haloBias(10**masses, model="tinker10", z=sim.redshift, mdef="200c"), weights=counts)
        error = np.sqrt(63) * np.std(without)
        rows.append((f"bias above {threshold}", threshold, whole, error, expected, 0.15, TINKER10))
    return comparison_table("halo bias", rows)


def overlaps(snapshot: Snapshot) -> pd.DataFrame:
    """Centres of haloes inside the R200c of a larger one, for each listed halo: there should be none.

    A central galaxy stands for the centre of a halo that is not listed.
    """
    centre = snapshot.host_position.astype(float)
    r200c = host_r200c(snapshot, snapshot.host_log_m200c)
    tree = cKDTree(centre, boxsize=snapshot.box_size)
    first, second = tree.query_pairs(r200c.max(), output_type="ndarray").T
    distance = np.linalg.norm(shortest(centre[first] - centre[second], snapshot.box_size), axis=1)
    listed = int((distance < np.maximum(r200c[first], r200c[second])).sum())
    haloes, smaller = Spheres(snapshot.host_position, r200c, snapshot.host_log_m200c, snapshot.box_size), 0
    for galaxies in pieces(snapshot, "position", "host", "is_satellite"):
        central = galaxies["position"][~galaxies["is_satellite"] & (galaxies["host"] < 0)]
        smaller += int((haloes.owner(central) >= 0).sum())
    rows = [
        (f"{name} haloes inside R200c, per halo", NAN, number / len(centre), 0.0, 0.0, 1e-3, "none")
        for name, number in (("listed", listed), ("smaller", smaller))
    ]
    return comparison_table("exclusion", rows)


def galaxy_population(snapshot: Snapshot) -> pd.DataFrame:
    """Number density of galaxies, their satellite fraction and their stellar mass function."""
    edges, volume, total, satellites = np.arange(9.5, 11.76, 0.25), snapshot.box_size**3, len(snapshot.host), 0
    in_bin, lightest, heaviest = np.zeros(len(edges) - 1), np.inf, -np.inf
    for galaxies in pieces(snapshot, "is_satellite", "log_mstar"):
        log_mstar = galaxies["log_mstar"].astype(float)
        satellites += int(galaxies["is_satellite"].sum())
        in_bin += np.histogram(log_mstar, edges)[0]
        lightest, heaviest = min(lightest, log_mstar.min()), max(heaviest, log_mstar.max())
    density = [
        ("galaxies per (Mpc/h)^3", NAN, total / volume, total**0.5 / volume, 0.023, 0.1, MDPL2_UM),
        ("satellite fraction", NAN, satellites / total, satellites**0.5 / total, 0.28, 0.1, MDPL2_UM),
    ]
    if heaviest - lightest < 0.01:  # the box has no stellar masses
        in_bin[:] = NAN
    mass_function = []
    for low, high, number in zip(edges[:-1], edges[1:], in_bin):
        grid = np.linspace(low, high, 51)
        expected = np.trapezoid(stellar_mass_function(grid, snapshot.simulation.hubble), grid) / (high - low)
        value, error = np.array([number, number**0.5]) / (volume * (high - low))
        name = f"galaxies per dex, log M* {low:.2f} to {high:.2f}"
        mass_function.append((name, NAN, value, error, expected, 0.25, BALDRY))
    return comparison_table("galaxies", density, "stellar masses", mass_function)


def stellar_mass_function(log_mstar, hubble: float = 0.7) -> np.ndarray:
    """Galaxies per dex and (Mpc/h)^3 of log10 stellar mass [Msun]: Baldry et al. (2012).

    Their double Schechter function is for h = 0.7; for `hubble`, masses go as h^-2, since they rest on luminosities.
    """
    x = 10 ** (np.asarray(log_mstar, float) + 2 * np.log10(hubble / 0.7) - 10.66)
    return np.log(10) * np.exp(-x) * (3.96e-3 * x**0.65 + 0.79e-3 * x**-0.47) / 0.7**3
