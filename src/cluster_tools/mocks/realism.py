"""How real a box is: what can be measured in it, beside what has been published.

Each measure takes a `snapshots.Snapshot` or the `Views` of its clusters and returns a table
with the columns of `COLUMNS`; `table` is all of them, one below the other. Masses are Msun/h,
lengths comoving Mpc/h, velocities km/s, stellar masses Msun without h. Only what is published
elsewhere is compared with, nothing from Table 1 of Ho et al. (2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools import cosmology
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import dispersions, observe
from cluster_tools.universe import synthetic
from cluster_tools.universe.snapshots import Snapshot, quick_tree, shortest

if TYPE_CHECKING:
    from pandas import DataFrame

# Of a table: `found` with its statistical `error`, and how far it may be from what is `expected`, in its units.
COLUMNS = ("measure", "quantity", "log_m200c", "found", "error", "expected", "tolerance", "within", "source")
MASSES = (14.0, 14.25, 14.5, 14.75, 15.0)  # log10 M200c at which clusters are compared
HALF_BIN = 0.1  # dex on either side of them
FEWEST_CLUSTERS = 5  # of which a median is taken
PIECE = 2**22  # galaxies held in memory at once

# Satellites with observed stellar masses above 10^9.5 Msun in the large cylinder: medians of MDPL2-UM,
# read off published figures, good to 3%. The band holds 70% of the clusters.
PUBLISHED = {
    "log_m200c": (14.0, 14.25, 14.5, 14.75, 15.0, 15.1),
    "N members": (27, 47, 80, 136, 240, 319),
    "N cylinder": (53, 78, 118, 183, 304, 373),
    "member fraction": (0.56, 0.65, 0.72, 0.77, 0.79, 0.82),
    "sigma members": (482, 601, 740, 898, 1076, 1215),
    "sigma cylinder": (1172, 1088, 1018, 1064, 1109, 1328),
}
PUBLISHED_BAND = {14.0: (0.36, 0.74), 14.25: (0.47, 0.80), 14.5: (0.56, 0.84), 14.75: (0.63, 0.86), 15.0: (0.73, 0.90)}
MDPL2_UM = "MDPL2-UM"

EVRARD, MUNARI, SARO = "Evrard et al. 2008", "Munari et al. 2013", "Saro et al. 2013"
# sigma [km/s] at E(z) M200c = 10^15 Msun/h, and the slope: dark matter, then galaxies of two kinds of simulation.
# Saro et al. write M = (sigma / (939 km/s E(z)^0.33))^2.91 10^15 Msun, for h = 0.7.
M_SIGMA = {
    EVRARD: (cosmology.EVRARD_SIGMA, cosmology.EVRARD_SLOPE),
    MUNARI: (1177.0, 0.364),
    SARO: (939 * 0.7 ** (-1 / 2.91), 1 / 2.91),
}
HO19 = "Ho et al. 2019"
MAMON = "Mamon, Biviano & Murante 2010"
CUPANI = "Cupani, Mezzetti & Mardirossian 2008"  # turnaround at 3.5 virial radii
BALDRY = "Baldry et al. 2012"


@dataclass(frozen=True)
class Views:
    """Clusters seen along the three axes of their box, satellites only.

    Attributes
    ----------
    snapshot : the box
    log_m200c : float64 (n,); at most as many clusters to a tenth of a dex as were asked for
    n_cylinder, n_members : int64 (n, 3), satellites in the cylinder and true members among them
    sigma_cylinder, sigma_members : float64 (n, 3), standard deviations of v_los [km/s]
    sigma_clipped, sigma_small : float64 (n, 3), as `dispersions.velocity_dispersions` takes them
    cluster : int64 (n_interlopers,), the row of the cluster before or behind which they lie
    v_los, r_proj : float64 (n_interlopers,) of interlopers [km/s], [comoving Mpc/h]
    """

    snapshot: Snapshot
    log_m200c: np.ndarray
    n_cylinder: np.ndarray
    n_members: np.ndarray
    sigma_cylinder: np.ndarray
    sigma_members: np.ndarray
    sigma_clipped: np.ndarray
    sigma_small: np.ndarray
    cluster: np.ndarray
    v_los: np.ndarray
    r_proj: np.ndarray


def table(
    snapshot: Snapshot, seen: Views | None = None, profile: DataFrame | None = None, *, seed: int = 0
) -> DataFrame:
    """Every measure of a box; `seen` and `profile` are its `views` and `infall_profile`, made here if not given.

    `tolerance` is how far `found` may be from `expected`, in its units, and `error` the
    statistical error of `found`. `within` is "yes" where the difference and its error are within
    the tolerance, "no" where the difference exceeds it by more than twice its error,
    "undecided" between the two, and "-" where nothing is expected or too few clusters are there.
    """
    import pandas as pd

    seen = views(snapshot, seed=seed) if seen is None else seen
    profile = infall_profile(snapshot, seed=seed) if profile is None else profile
    measures = [
        halo_counts(snapshot), halo_bias(snapshot), overlaps(snapshot), galaxy_population(snapshot),
        cylinders(seen, seed=seed), m_sigma(seen), interlopers(seen), infall(profile),
    ]  # fmt: skip
    return pd.concat(measures, ignore_index=True)


def of(table: DataFrame, *measures: str) -> DataFrame:
    """The rows of `table` that belong to these measures."""
    return table[table["measure"].isin(measures)]


def shown(rows: DataFrame) -> DataFrame:
    """Rows of `table` as text to read: numbers to two digits of their error, or of the tolerance."""
    import pandas as pd

    def text(value, error):
        if np.isnan(value):
            return "-"
        if not error > 0:  # NaN, too
            return f"{value:.4g}"
        decimals = max(1 - int(np.floor(np.log10(error))), 0)
        return f"{value:.{decimals}f} ± {error:.{decimals}f}"

    columns = {
        "quantity": rows["quantity"],
        "log M200c": ["-" if np.isnan(m) else f"{m:g}" for m in rows["log_m200c"]],
        "found": [text(*pair) for pair in rows[["found", "error"]].to_numpy()],
        "expected": [text(*pair) for pair in rows[["expected", "tolerance"]].to_numpy()],
        "within": rows["within"],
        "source": rows["source"],
    }
    return pd.DataFrame(columns)


def count(rows: DataFrame) -> dict[str, int]:
    """How many rows are "yes", "no" and "undecided"."""
    return {word: int((rows["within"] == word).sum()) for word in ("yes", "no", "undecided")}


def verdict(rows: DataFrame) -> str:
    """What `count` finds, in a sentence."""
    found = count(rows)
    return (
        f"within their tolerance: {found['yes']} of {sum(found.values())} comparisons; beyond it: {found['no']}; "
        f"undecided in a box of this size: {found['undecided']}"
    )


def halo_counts(snapshot: Snapshot) -> DataFrame:
    """Listed haloes in bins of mass against Tinker et al. (2008), 200c, with Poisson errors."""
    log_m, volume = snapshot.host_log_m200c, snapshot.box_size**3
    rows = []
    for low, high in zip((13.5, 13.75, 14.0, 14.25, 14.5, 14.75, 15.0), (13.75, 14.0, 14.25, 14.5, 14.75, 15.0, 16.0)):
        if log_m.min() > low + 0.02:
            continue  # such haloes are not listed
        grid = np.linspace(low, high, 201)
        expected = np.trapezoid(synthetic.halo_mass_function(snapshot.simulation, grid), grid) * volume
        found = int(((log_m >= low) & (log_m < high)).sum())
        name = f"haloes {low:.2f} to {high:.2f}" if high < 16 else f"haloes above {low:.2f}"
        rows.append(_row("halo counts", name, low, found, np.sqrt(expected), expected, 0.05, "Tinker et al. 2008"))
    return _table(rows)


def halo_bias(snapshot: Snapshot, thresholds=(13.5, 14.0, 14.3), r=(10.0, 40.0)) -> DataFrame:
    """Bias of listed haloes above each mass against Tinker et al. (2010), for their mass function.

    b^2 is the number of pairs between `r` [Mpc/h] in excess of a random box, over the volume mean
    of the linear correlation function there (colossus): bins are weighted by their pairs. Errors
    are from a jackknife over 64 sub-boxes. The linear theory that it is divided by leaves out a
    few per cent of non-linear clustering near 10 Mpc/h, and knows waves longer than the box.
    """
    from colossus.lss import bias
    from scipy.spatial import cKDTree

    sim, box = snapshot.simulation, snapshot.box_size
    colossus_cosmology = cosmology.colossus_cosmology(sim)
    grid = np.geomspace(*r, 100)
    shell = 4 / 3 * np.pi * (r[1] ** 3 - r[0] ** 3)
    linear = (
        np.trapezoid(4 * np.pi * grid**2 * colossus_cosmology.correlationFunction(grid, sim.redshift), grid) / shell
    )
    rows = []
    for threshold in thresholds:
        chosen = snapshot.host_log_m200c >= threshold
        if chosen.sum() < 64 or snapshot.host_log_m200c.min() > threshold + 0.02:
            rows.append(_row("halo bias", f"bias above {threshold}", threshold, *[np.nan] * 4, "Tinker et al. 2010"))
            continue
        position = snapshot.host_position[chosen].astype(float)
        tree = cKDTree(position, boxsize=box)
        pairs = tree.query_ball_point(position, r[1], return_length=True)
        pairs -= tree.query_ball_point(position, r[0], return_length=True)
        part = np.minimum((position * (4 / box)).astype(int), 3) @ (16, 4, 1)
        pairs = np.bincount(part, pairs, minlength=64)
        haloes = np.bincount(part, minlength=64)
        # The last of these is the whole box, the others leave out one sub-box each.
        pairs = np.r_[pairs.sum() - pairs, pairs.sum()] / (len(position) / box**3 * shell)
        haloes = np.r_[haloes.sum() - haloes, haloes.sum()]
        *without, found = np.sqrt(np.maximum(pairs / haloes - 1, 0) / linear)
        error = np.sqrt(63) * np.std(without)
        masses, counts = np.unique(snapshot.host_log_m200c[chosen].round(2), return_counts=True)
        expected = np.average(bias.haloBias(10**masses, model="tinker10", z=sim.redshift, mdef="200c"), weights=counts)
        rows.append(
            _row("halo bias", f"bias above {threshold}", threshold, found, error, expected, 0.15, "Tinker et al. 2010")
        )
    return _table(rows)


def overlaps(snapshot: Snapshot) -> DataFrame:
    """Centres of haloes inside the R200c of a larger one, for each listed halo: there should be none.

    A central galaxy stands for the centre of a halo that is not listed.
    """
    from scipy.spatial import cKDTree

    centre = snapshot.host_position.astype(float)
    sim = snapshot.simulation
    r200c = cosmology.r200c(snapshot.host_log_m200c, sim.redshift, omega_m=sim.omega_m)
    tree = cKDTree(centre, boxsize=snapshot.box_size)
    first, second = tree.query_pairs(r200c.max(), output_type="ndarray").T
    apart = np.linalg.norm(shortest(centre[first] - centre[second], snapshot.box_size), axis=1)
    listed = int((apart < np.maximum(r200c[first], r200c[second])).sum())
    unlisted = 0
    for galaxies in _pieces(snapshot, "position", "host", "is_satellite"):
        central = galaxies["position"][~galaxies["is_satellite"] & (galaxies["host"] < 0)]
        if len(central):
            inside = quick_tree(central, snapshot.box_size)
            unlisted += int(inside.query_ball_point(centre, r200c, return_length=True).sum())
    rows = []
    for name, found in (("listed", listed), ("smaller", unlisted)):
        found /= len(centre)
        rows.append(_row("exclusion", f"{name} haloes inside R200c, per halo", np.nan, found, 0.0, 0.0, 1e-3, "none"))
    return _table(rows)


def galaxy_population(snapshot: Snapshot) -> DataFrame:
    """Number density of galaxies, their share of satellites and their stellar mass function."""
    edges = np.arange(9.5, 11.76, 0.25)
    total = satellites = 0
    in_bin = np.zeros(len(edges) - 1)
    lightest, heaviest = np.inf, -np.inf
    for galaxies in _pieces(snapshot, "is_satellite", "log_mstar"):
        log_mstar = galaxies["log_mstar"].astype(float)
        total += len(log_mstar)
        satellites += int(galaxies["is_satellite"].sum())
        in_bin += np.histogram(log_mstar, edges)[0]
        lightest, heaviest = min(lightest, log_mstar.min()), max(heaviest, log_mstar.max())
    volume = snapshot.box_size**3
    rows = [
        _row("galaxies", "galaxies per (Mpc/h)^3", np.nan, total / volume, total**0.5 / volume, 0.023, 0.1, MDPL2_UM),
        _row(
            "galaxies", "satellite fraction", np.nan, satellites / total, satellites**0.5 / total, 0.28, 0.1, MDPL2_UM
        ),
    ]
    constant = heaviest - lightest < 0.01  # the box has no stellar masses of its own
    for low, high, found in zip(edges[:-1], edges[1:], in_bin):
        grid = np.linspace(low, high, 51)
        expected = np.trapezoid(stellar_mass_function(grid, snapshot.simulation.hubble), grid) / (high - low)
        found, error = (np.nan, np.nan) if constant else np.array([found, found**0.5]) / (volume * (high - low))
        name = f"galaxies per dex, log M* {low:.2f} to {high:.2f}"
        rows.append(_row("stellar masses", name, np.nan, found, error, expected, 0.25, BALDRY))
    return _table(rows)


def stellar_mass_function(log_mstar, hubble: float = 0.7) -> np.ndarray:
    """Galaxies per dex and (Mpc/h)^3 of log10 stellar mass [Msun]: Baldry et al. (2012).

    Their double Schechter function is for h = 0.7; masses, from luminosities, go as h^-2.
    """
    x = 10 ** (np.asarray(log_mstar, float) + 2 * np.log10(hubble / 0.7) - 10.66)
    return np.log(10) * np.exp(-x) * (3.96e-3 * x**0.65 + 0.79e-3 * x**-0.47) / 0.7**3


def views(snapshot: Snapshot, *, log_m_min: float = 13.9, at_most: int = 1500, seed: int = 0) -> Views:
    """Look at clusters along the three axes: all of them, or `at_most` to a tenth of a dex.

    Raises `ClusterToolsError` if there is no cluster above `log_m_min`.
    """
    rng = np.random.default_rng(seed)
    host = _choose(snapshot, np.arange(log_m_min, 16, 0.1), at_most, rng)
    if len(host) == 0:
        raise ClusterToolsError(
            f"the {snapshot.simulation.name} box of {snapshot.box_size:g} Mpc/h has no cluster above "
            f"10^{log_m_min:g} Msun/h to look at; expected at least one: choose a larger box_size."
        )
    n = 3 * len(host)
    count, v_los, r_proj, is_member = observe.observe(
        snapshot, np.repeat(host, 3), np.tile(np.eye(3), (len(host), 1)), galaxies="satellites"
    )
    of_view = np.repeat(np.arange(n), count)
    offsets = np.r_[0, np.cumsum(count)]
    members = np.bincount(of_view[is_member], minlength=n)

    def sigma(selection):
        return dispersions.velocity_dispersions(v_los, r_proj, offsets, selection).reshape(-1, 3)

    own = dispersions.velocity_dispersions(v_los[is_member], r_proj[is_member], np.r_[0, np.cumsum(members)], "raw")
    return Views(
        snapshot, snapshot.host_log_m200c[host], count.reshape(-1, 3), members.reshape(-1, 3),
        sigma("raw"), own.reshape(-1, 3), sigma("clipped"), sigma("small"),
        of_view[~is_member] // 3, v_los[~is_member], r_proj[~is_member],
    )  # fmt: skip


def cylinders(seen: Views, *, seed: int = 0) -> DataFrame:
    """Numbers, member fractions and dispersions in the large cylinder at the masses of `MASSES`.

    A cluster is compared with what is published for its own mass, and the median of these ratios
    is taken, so that the steep mass function within a bin moves nothing. Errors: bootstrap over
    clusters.
    """
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = {
            "N members": seen.n_members, "N cylinder": seen.n_cylinder,
            "member fraction": seen.n_members / seen.n_cylinder,
            "sigma members": seen.sigma_members, "sigma cylinder": seen.sigma_cylinder,
        }  # fmt: skip
    rows = []
    for name, values in measured.items():
        ratio = values / published(name, seen.log_m200c)[:, None]
        for mass in MASSES:
            mine = ratio[np.abs(seen.log_m200c - mass) < HALF_BIN]
            expected = float(published(name, mass))
            found, error = (expected * x for x in _quantile(mine, 0.5, rng))
            rows.append(_row("cylinder", name, mass, found, error, expected, 0.1, MDPL2_UM))
    for mass in MASSES:
        mine = measured["member fraction"][np.abs(seen.log_m200c - mass) < HALF_BIN]
        for quantile, expected in zip((0.15, 0.85), PUBLISHED_BAND[mass]):
            name = f"member fraction, {quantile:.0%} quantile"
            rows.append(_row("cylinder", name, mass, *_quantile(mine, quantile, rng), expected, 0.1, MDPL2_UM))
    return _table(rows)


def published(name: str, log_m200c) -> np.ndarray:
    """The median of `PUBLISHED` at any mass: interpolated, in the logarithm for numbers and sigma of members."""
    scale, back = (lambda x: x, lambda x: x) if name in ("member fraction", "sigma cylinder") else (np.log, np.exp)
    knots, values = np.array(PUBLISHED["log_m200c"]), scale(np.array(PUBLISHED[name], float))
    log_m200c = np.asarray(log_m200c, float)
    below = values[0] + (log_m200c - knots[0]) * (values[1] - values[0]) / (knots[1] - knots[0])
    return back(np.where(log_m200c < knots[0], below, np.interp(log_m200c, knots, values)))


def m_sigma(seen: Views, *, log_m_min: float = 14.3) -> DataFrame:
    """The relation of dispersion and mass, ln sigma = ln A + alpha ln(E(z) M / 10^15 Msun/h).

    Of true members, with the mean variance of three axes as Evrard et al. (2008) take it, and its
    scatter without what the number of members adds; and of all satellites in the cylinder, with
    the scatter of the mass that they give, half of what lies between the 16% and 84% quantiles.
    """
    sim = seen.snapshot.simulation
    heavy = (seen.log_m200c >= log_m_min) & (seen.n_members.min(axis=1) >= dispersions.FEWEST_FOR_SIGMA)
    x = np.log(cosmology.efunc(sim.redshift, omega_m=sim.omega_m)) + np.log(10) * (seen.log_m200c[heavy] - 15)
    if heavy.sum() < 4 * FEWEST_CLUSTERS:
        return _table([_row("M-sigma", "members", 15.0, *[np.nan] * 4, EVRARD)])
    dof = seen.n_members[heavy] - 1
    one, all_three = np.log(seen.sigma_members[heavy]), 0.5 * np.log((seen.sigma_members[heavy] ** 2).mean(axis=1))
    slope, level, scatter = _line(x, all_three, 1 / (2 * dof.sum(axis=1)))
    _, _, along_one = _line(np.repeat(x, 3), one.ravel(), 1 / (2 * dof.ravel()))
    at_1e15 = np.exp(level[0]) * np.array([1, level[1]])
    rows = []
    for source, (expected, steepness) in M_SIGMA.items():
        tolerance = 0.05 if source == EVRARD else 0.1
        rows.append(_row("M-sigma", "members: sigma at 10^15", 15.0, *at_1e15, expected, tolerance, source))
        rows.append(_row("M-sigma", "members: slope", np.nan, *slope, steepness, 0.1, source))
    name = "members: scatter of ln sigma, {} of 3 axes"
    rows.append(_row("M-sigma", name.format(3), np.nan, *scatter, 0.043, 0.35, EVRARD))
    # 30 to 40% in mass along one line of sight, since haloes are triaxial
    rows.append(_row("M-sigma", name.format(1), np.nan, *along_one, 0.35 / 2.91, 0.2, SARO))
    for name, sigma in (("raw", seen.sigma_cylinder), ("clipped", seen.sigma_clipped), ("small", seen.sigma_small)):
        y = np.log(sigma[heavy]).ravel()
        ok = np.isfinite(y)
        slope, level, _ = _line(np.repeat(x, 3)[ok], y[ok], 0.0)
        dex = ((y[ok] - level[0]) / slope[0] - np.repeat(x, 3)[ok]) / np.log(10)
        scatter = np.diff(np.quantile(dex, (0.16, 0.84)))[0] / 2
        level = np.exp(level[0]) * np.array([1, level[1]])
        rows += [
            _row("M-sigma", f"cylinder, {name}: sigma at 10^15", 15.0, *level, np.nan, np.nan, ""),
            _row("M-sigma", f"cylinder, {name}: slope", np.nan, *slope, np.nan, np.nan, ""),
            _row("M-sigma", f"cylinder, {name}: scatter of mass [dex]", np.nan, scatter, scatter / np.sqrt(heavy.sum()),
                 0.372 if name == "small" else np.nan, np.nan, HO19 if name == "small" else ""),
        ]  # fmt: skip
    return _table(rows)


def interlopers(seen: Views) -> DataFrame:
    """Satellites of other haloes in the cylinder: their velocities and where they lie.

    Velocities are a Gaussian (the outskirts of the cluster) on a flat floor (the field), and the
    surface density out to the virial radius is nearly flat (Mamon, Biviano & Murante 2010): the
    largest gap between the distribution of abs(v_los) and the best such model, and the slope of
    the surface density. The dispersion is 1200 to 1800 km/s; a uniform slab has 2185 km/s.
    """
    rows = []
    for mass in MASSES:
        near = np.abs(seen.log_m200c - mass) < HALF_BIN
        mine = near[seen.cluster]
        v, clusters = seen.v_los[mine], near.sum()
        if clusters < FEWEST_CLUSTERS or len(v) < 100:
            rows.append(_row("interlopers", "dispersion [km/s]", mass, np.nan, np.nan, 1500.0, 0.2, MDPL2_UM))
            continue
        sim = seen.snapshot.simulation
        r200c = cosmology.r200c(seen.log_m200c, sim.redshift, omega_m=sim.omega_m)
        r = seen.r_proj[mine] / r200c[seen.cluster[mine]]
        inside = r[(r < cosmology.R_VIR) & (r > 0.0)] / cosmology.R_VIR
        flat, sigma = gaussian_and_flat(v)
        order = np.sort(np.abs(v))
        gap = np.abs(gaussian_and_flat_cdf(order, flat, sigma) - (np.arange(len(v)) + 0.5) / len(v)).max()
        # They come in groups: a cluster's interlopers count as one draw of each statistic.
        independent = np.sqrt(3 * clusters)
        slope = -1 / np.log(inside).mean() - 2  # the likeliest one of a power law
        rows += [
            _row("interlopers", "dispersion [km/s]", mass, v.std(), v.std() / independent, 1500.0, 0.2, MDPL2_UM),
            _row("interlopers", "gap to Gaussian + flat", mass, gap, 0.5 / np.sqrt(len(v)), 0.0, 0.03, MAMON),
            _row("interlopers", "flat share", mass, flat, np.nan, np.nan, np.nan, ""),
            _row("interlopers", "Gaussian sigma [km/s]", mass, sigma, np.nan, np.nan, np.nan, ""),
            _row("interlopers", "slope of surface density", mass, slope, 2 / np.sqrt(len(inside)), 0.0, 0.3, MAMON),
        ]  # fmt: skip
    return _table(rows)


def gaussian_and_flat(v_los) -> tuple[float, float]:
    """The likeliest share of the flat floor, and sigma [km/s] of the Gaussian, of velocities in the window."""
    from scipy.optimize import minimize

    edges = np.linspace(0, observe.VELOCITY_CUT, 61)
    count = np.histogram(np.abs(v_los), edges)[0]

    def minus_log_likelihood(parameters):
        flat, sigma = 1 / (1 + np.exp(-parameters[0])), np.exp(parameters[1])
        return -(count * np.log(np.diff(gaussian_and_flat_cdf(edges, flat, sigma)) + 1e-12)).sum()

    best = minimize(minus_log_likelihood, (0.0, np.log(900.0)), method="Nelder-Mead").x
    return float(1 / (1 + np.exp(-best[0]))), float(np.exp(best[1]))


def gaussian_and_flat_cdf(speed, flat: float, sigma: float) -> np.ndarray:
    """The share of galaxies with abs(v_los) below `speed` [km/s], up to the edge of the window."""
    from scipy.special import erf

    gaussian = erf(speed / (np.sqrt(2) * sigma)) / erf(observe.VELOCITY_CUT / (np.sqrt(2) * sigma))
    return flat * np.asarray(speed) / observe.VELOCITY_CUT + (1 - flat) * gaussian


def infall_profile(snapshot: Snapshot, *, at_most: int = 300, seed: int = 0) -> DataFrame:
    """Mean peculiar velocities of all galaxies around clusters, in shells of r / R200c from 0 to 10.

    Velocities are in units of V200c = sqrt(G M200c / R200c), so that clusters within 0.1 dex of
    each of `MASSES` can be stacked, if they are enough; the Hubble flow is r / R200c / 10 in these units.

    Returns
    -------
    Columns ``log_m200c``, ``clusters``, ``r`` (R200c), ``galaxies``, ``v_radial``, its ``error``
    (between clusters), ``sigma_radial`` and ``sigma_tangential`` (one-dimensional).
    """
    import pandas as pd

    edges = np.r_[0, 0.25, 0.5, 0.75, np.arange(1, 4, 0.25), np.arange(4, 10.1, 0.5)]
    rng = np.random.default_rng(seed)
    host = [_choose(snapshot, (mass - HALF_BIN, mass + HALF_BIN), at_most, rng) for mass in MASSES]
    bin_of = np.repeat(np.arange(len(MASSES)), [len(h) for h in host])
    host = np.concatenate(host)
    centre = snapshot.host_position[host].astype(float)
    sim = snapshot.simulation
    r200c = cosmology.r200c(snapshot.host_log_m200c[host], sim.redshift, omega_m=sim.omega_m)
    v200c = cosmology.v200c(r200c, sim.redshift, omega_m=sim.omega_m)
    n_shells = len(edges) - 1
    sums = np.zeros((4, len(host), n_shells))  # galaxies, v_radial, its square, square of all velocity
    for galaxies in _pieces(snapshot, "position", "velocity"):
        tree = quick_tree(galaxies["position"], snapshot.box_size)
        for i, near in enumerate(tree.query_ball_point(centre, edges[-1] * r200c)):
            away = shortest(galaxies["position"][near] - centre[i], snapshot.box_size)
            r = np.linalg.norm(away, axis=1)
            velocity = (galaxies["velocity"][near] - snapshot.host_velocity[host[i]]) / v200c[i]
            other = r > 1e-3  # its own central galaxy has no direction
            radial = (velocity * away)[other].sum(axis=1) / r[other]
            shell = np.minimum(np.searchsorted(edges, r[other] / r200c[i], side="right") - 1, n_shells - 1)
            for k, weight in enumerate((None, radial, radial**2, (velocity[other] ** 2).sum(axis=1))):
                sums[k, i] += np.bincount(shell, weight, minlength=n_shells)
    tables = []
    for k, mass in enumerate(MASSES):
        mine = sums[:, bin_of == k]
        if mine.shape[1] < FEWEST_CLUSTERS:
            continue
        n, v, v2, all2 = mine.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = v / n
            between = np.sqrt((mine[1] - mean * mine[0]).var(axis=0) * mine.shape[1]) / n
            columns = {
                "log_m200c": mass, "clusters": mine.shape[1], "r": (edges[1:] + edges[:-1]) / 2, "galaxies": n,
                "v_radial": mean, "error": between, "sigma_radial": np.sqrt(v2 / n - mean**2),
                "sigma_tangential": np.sqrt((all2 - v2) / (2 * n)),
            }  # fmt: skip
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["log_m200c"])


def infall(profile: DataFrame) -> DataFrame:
    """Where galaxies stop falling in, and how radial orbits are, from `infall_profile`.

    Turnaround, where infall balances the Hubble flow, is near 3.5 virial radii (Cupani et al.
    2008). Anisotropy 1 - sigma_t^2 / sigma_r^2 near R200c is that of Mamon & Lokas with the radius
    where the density goes as r^-2 (Mamon, Biviano & Murante 2010), for a concentration of 4.
    """
    rows = []
    for mass in MASSES:
        one = profile[profile["log_m200c"] == mass]
        if one.empty:
            rows.append(_row("infall", "turnaround radius / R200c", mass, *[np.nan] * 4, CUPANI))
            continue
        r, total = one["r"].to_numpy(), (one["v_radial"] + one["r"] / 10).to_numpy()
        step = np.diff(total)
        inward = np.flatnonzero((total[:-1] < 0) & (total[1:] >= 0) & (r[:-1] > 1))
        turn = error = np.nan
        if len(inward):
            i = inward[-1]
            turn = r[i] - total[i] * (r[i + 1] - r[i]) / step[i]
            error = one["error"].iloc[i] * (r[i + 1] - r[i]) / step[i]
        fastest = one[one["r"] > 1].sort_values("v_radial").iloc[0]
        edge = one[(one["r"] > 0.75) & (one["r"] < 1.25)]
        radial, tangential = (np.average(edge[c] ** 2, weights=edge["galaxies"]) for c in one.columns[-2:])
        beta_error = 2 * tangential / radial / np.sqrt(edge["galaxies"].sum())
        unknown = (np.nan, np.nan, "")
        rows += [
            _row("infall", "turnaround radius / R200c", mass, turn, error, 3.5 * cosmology.R_VIR, 0.2, CUPANI),
            _row("infall", "fastest mean infall / V200c", mass, -fastest["v_radial"], fastest["error"], *unknown),
            _row("infall", "radius of fastest infall / R200c", mass, fastest["r"], np.nan, *unknown),
            _row("infall", "anisotropy near R200c", mass, 1 - tangential / radial, beta_error, 0.4, 0.375, MAMON),
        ]  # fmt: skip
    return _table(rows)


def _pieces(snapshot: Snapshot, *columns: str) -> Iterator[dict[str, np.ndarray]]:
    """These columns of the galaxies, `PIECE` rows at a time, from memory or a file."""
    for begin in range(0, snapshot.position.shape[0], PIECE):
        yield {name: np.asarray(getattr(snapshot, name)[begin : begin + PIECE]) for name in columns}


def _choose(snapshot: Snapshot, edges, at_most: int, rng) -> np.ndarray:
    """Indices of hosts, at most so many in each bin of mass."""
    bin_of = np.digitize(snapshot.host_log_m200c, edges)
    chosen = [rng.permutation(np.flatnonzero(bin_of == k))[:at_most] for k in range(1, len(edges))]
    return np.sort(np.concatenate(chosen))


def _quantile(values: np.ndarray, quantile: float, rng) -> tuple[float, float]:
    """A quantile over clusters and axes (n, 3), and its bootstrap error over clusters."""
    if len(values) < FEWEST_CLUSTERS:
        return np.nan, np.nan
    resampled = [np.nanquantile(values[rng.integers(0, len(values), len(values))], quantile) for _ in range(100)]
    return float(np.nanquantile(values, quantile)), float(np.std(resampled))


def _line(x, y, noise):
    """Slope, level and intrinsic scatter of y on x, each with its error; `noise` is the variance of each y.

    The scatter is half of what lies between the 16% and 84% quantiles, which a tail hardly moves.
    """
    (slope, level), covariance = np.polyfit(x, y, 1, cov=True)
    spread = np.diff(np.quantile(y - slope * x - level, (0.16, 0.84)))[0] / 2
    scatter = np.sqrt(max(spread**2 - np.mean(noise), 0.0))
    error = spread**2 / max(scatter, 0.3 * spread) / np.sqrt(len(x))
    return (slope, covariance[0, 0] ** 0.5), (level, covariance[1, 1] ** 0.5), (scatter, error)


def _row(measure, quantity, log_m200c, found, error, expected, tolerance, source) -> tuple:
    """One row of a table. `tolerance` is relative to what is expected, absolute where that is zero."""
    allowed = tolerance * (abs(expected) or 1.0)
    off = abs(found - expected)
    if not np.isfinite(off + allowed):
        within = "-"
    elif off > allowed + 2 * error:
        within = "no"
    else:
        within = "yes" if off <= allowed and error <= allowed else "undecided"
    return (measure, quantity, log_m200c, float(found), float(error), float(expected), allowed, within, source)


def _table(rows: list[tuple]) -> DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(COLUMNS))
