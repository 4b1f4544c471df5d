"""Dynamics of the clusters of a box beside published numbers: cylinders, M-sigma, interlopers and infall.

Masses are Msun/h, lengths comoving Mpc/h, velocities km/s. Each measure returns a table of `comparison`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import interp1d
from scipy.optimize import minimize
from scipy.special import erf, expit

from cluster_tools import cosmology
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import dispersions, observe
from cluster_tools.mocks.comparison import NAN, comparison_table
from cluster_tools.ragged import ClusterGalaxies, cluster_offsets
from cluster_tools.universe.halo_field import Spheres
from cluster_tools.universe.snapshots import Snapshot, quick_tree, shortest

PIECE = 2**22  # galaxies held in memory at once
MASSES = (14.0, 14.25, 14.5, 14.75, 15.0)  # log10 M200c at which clusters are compared
HALF_BIN = 0.1  # dex on either side of them
FEWEST_CLUSTERS = 5  # for a median
LEAST_FOR_M_SIGMA = 14.3  # log10 M200c [Msun/h] of the clusters to which M-sigma is fitted

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
N_BODY = "N-body, 256^3 particles"  # turnaround near 5.5 R200c; theory 4.6 (Cupani et al. 2008)


@dataclass(frozen=True)
class Views:
    """Clusters seen along the three axes of their box, satellites only."""

    snapshot: Snapshot
    log_m200c: np.ndarray  #: float64 (n,): masses of the clusters [log10 Msun/h]
    n_cylinder: np.ndarray  #: int64 (n, 3): satellites in the cylinder
    n_members: np.ndarray  #: int64 (n, 3): true members among them
    sigma: dict[str, np.ndarray]  #: (n, 3) [km/s] of v_los of "members", and of each selection of `dispersions`
    interlopers: ClusterGalaxies  #: satellites of other haloes, those of three axes together for each cluster

    def near(self, log_m200c: float) -> np.ndarray:
        """Whether each cluster, bool (n,), is within `HALF_BIN` of a mass [log10 Msun/h]."""
        return np.abs(self.log_m200c - log_m200c) < HALF_BIN


def observe_clusters(snapshot: Snapshot, *, log_m_min: float = 13.9, at_most: int = 1500, seed: int = 0) -> Views:
    """Observe clusters above `log_m_min` [log10 Msun/h] along the three axes: `at_most` in a tenth of a dex, by `seed`.

    Raises `ClusterToolsError` if there is no cluster above `log_m_min`.
    """
    host = choose_hosts(snapshot, np.arange(log_m_min, 16, 0.1), at_most, np.random.default_rng(seed))
    if len(host) == 0:
        raise ClusterToolsError(
            f"the {snapshot.simulation.name} box of {snapshot.box_size:g} Mpc/h has no cluster above "
            f"10^{log_m_min:g} Msun/h to look at; expected at least one: choose a larger box_size."
        )
    direction = np.tile(np.eye(3), (len(host), 1))
    count, *columns, is_member = observe.observe(snapshot, np.repeat(host, 3), direction, galaxies="satellites")
    cylinder = ClusterGalaxies(*columns, cluster_offsets(count))
    members, others = cylinder.keep(is_member), cylinder.keep(~is_member)
    sigma = {}
    for name in ("members", *dispersions.SELECTIONS):
        galaxies, selection = (members, "raw") if name == "members" else (cylinder, name)
        columns = galaxies.v_los, galaxies.r_proj, galaxies.offsets
        sigma[name] = dispersions.velocity_dispersions(*columns, selection).reshape(-1, 3)
    numbers = count.reshape(-1, 3), members.richness.reshape(-1, 3)
    interlopers = ClusterGalaxies(others.v_los, others.r_proj, others.offsets[::3])
    return Views(snapshot, snapshot.host_log_m200c[host], *numbers, sigma, interlopers)


def cylinders(views: Views, *, seed: int = 0) -> pd.DataFrame:
    """Numbers, member fractions and dispersions in the large cylinder at the masses of `MASSES`.

    Each cluster is compared with the published value for its own mass, and the median of these ratios is taken, so
    that the steep mass function within a bin changes nothing. Errors: bootstrap over clusters.
    """
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = views.n_members / views.n_cylinder
    measured = views.n_members, views.n_cylinder, fraction, views.sigma["members"], views.sigma["raw"]
    rows: list[tuple] = []
    for name, values in zip(list(PUBLISHED)[1:], measured):
        ratio = values / published(name, views.log_m200c)[:, None]
        for mass in MASSES:
            expected = float(published(name, mass))
            median = (expected * x for x in _quantile(ratio[views.near(mass)], 0.5, rng))
            rows.append((name, mass, *median, expected, 0.1, MDPL2_UM))
    for mass in MASSES:
        for quantile, expected in zip((0.15, 0.85), PUBLISHED_BAND[mass]):
            found = _quantile(fraction[views.near(mass)], quantile, rng)
            rows.append((f"member fraction, {quantile:.0%} quantile", mass, *found, expected, 0.1, MDPL2_UM))
    return comparison_table("cylinder", rows)


def published(name: str, log_m200c) -> np.ndarray:
    """The medians `name` of `PUBLISHED` at any masses, interpolated; numbers and sigma of members in the logarithm."""
    scale, back = (np.asarray, np.asarray) if name in ("member fraction", "sigma cylinder") else (np.log, np.exp)
    return back(interp1d(PUBLISHED["log_m200c"], scale(PUBLISHED[name]), fill_value="extrapolate")(log_m200c))


def m_sigma(views: Views) -> pd.DataFrame:
    """The relation of dispersion and mass above `LEAST_FOR_M_SIGMA`, ln sigma = ln A + alpha ln(E(z) M / 10^15 Msun/h).

    True members: the mean variance of three axes as in Evrard et al. (2008), and the scatter without the noise of
    the number of members. All satellites in the cylinder: the scatter of the inferred mass, half of the distance
    between the 16% and 84% quantiles.
    """
    sim = views.snapshot.simulation
    heavy = (views.log_m200c >= LEAST_FOR_M_SIGMA) & (views.n_members.min(axis=1) >= dispersions.FEWEST_FOR_SIGMA)
    if heavy.sum() < 4 * FEWEST_CLUSTERS:
        return comparison_table("M-sigma", [("members", 15.0, NAN, NAN, NAN, NAN, EVRARD)])
    x = np.log(cosmology.efunc(sim.redshift, omega_m=sim.omega_m)) + np.log(10) * (views.log_m200c[heavy] - 15)
    x3 = np.repeat(x, 3)
    dof, members = views.n_members[heavy] - 1, views.sigma["members"][heavy]
    slope, level, scatter = _line(x, 0.5 * np.log((members**2).mean(axis=1)), 1 / (2 * dof.sum(axis=1)))
    scatter_of_one = _line(x3, np.log(members).ravel(), 1 / (2 * dof.ravel()))[2]
    rows: list[tuple] = []
    for source, (expected, steepness) in M_SIGMA.items():
        at_1e15 = np.exp(level[0]) * np.array([1, level[1]])
        rows.append(("members: sigma at 10^15", 15.0, *at_1e15, expected, 0.05 if source == EVRARD else 0.1, source))
        rows.append(("members: slope", NAN, *slope, steepness, 0.1, source))
    name = "members: scatter of ln sigma, {} of 3 axes"
    rows.append((name.format(3), NAN, *scatter, 0.043, 0.35, EVRARD))
    # 30 to 40% in mass along one line of sight, since haloes are triaxial
    rows.append((name.format(1), NAN, *scatter_of_one, 0.35 / 2.91, 0.2, SARO))
    for name in dispersions.SELECTIONS:
        y = np.log(views.sigma[name][heavy]).ravel()
        ok = np.isfinite(y)
        slope, level, _ = _line(x3[ok], y[ok], 0.0)
        dex = ((y[ok] - level[0]) / slope[0] - x3[ok]) / np.log(10)
        scatter = np.diff(np.quantile(dex, (0.16, 0.84)))[0] / 2
        rows += [
            (f"cylinder, {name}: sigma at 10^15", 15.0, *np.exp(level[0]) * np.array([1, level[1]])),
            (f"cylinder, {name}: slope", NAN, *slope),
            (f"cylinder, {name}: scatter of mass [dex]", NAN, scatter, scatter / np.sqrt(heavy.sum()),
             *((0.372, NAN, HO19) if name == "medium" else ())),
        ]  # fmt: skip
    return comparison_table("M-sigma", rows)


def interlopers(views: Views) -> pd.DataFrame:
    """Satellites of other haloes in the cylinder: their velocities and surface density.

    Velocities are a Gaussian (the outskirts of the cluster) on a flat floor (the field), and the surface density out
    to the virial radius is nearly flat (Mamon, Biviano & Murante 2010). Measured are the largest gap between the
    distribution of abs(v_los) and the best such model, and the slope of the surface density. A dispersion from 1200
    to 1800 km/s is expected; a uniform slab has 2185 km/s.
    """
    rows: list[tuple] = []
    for mass in MASSES:
        near = views.near(mass)
        galaxies, clusters = views.interlopers.select(near), near.sum()
        v = galaxies.v_los
        if clusters < FEWEST_CLUSTERS or len(v) < 100:
            rows.append(("dispersion [km/s]", mass, NAN, NAN, 1500.0, 0.2, MDPL2_UM))
            continue
        r = galaxies.r_proj / host_r200c(views.snapshot, views.log_m200c[near])[galaxies.cluster_index]
        inside = r[(r < cosmology.R_VIR) & (r > 0.0)] / cosmology.R_VIR
        flat, sigma = gaussian_and_flat(v)
        gap = np.abs(gaussian_and_flat_cdf(np.sort(np.abs(v)), flat, sigma) - (np.arange(len(v)) + 0.5) / len(v)).max()
        # They come in groups: the interlopers of a cluster along one axis count as one draw.
        independent = np.sqrt(3 * clusters)
        slope = -1 / np.log(inside).mean() - 2  # maximum likelihood of a power law
        rows += [
            ("dispersion [km/s]", mass, v.std(), v.std() / independent, 1500.0, 0.2, MDPL2_UM),
            ("gap to Gaussian + flat", mass, gap, 0.5 / np.sqrt(len(v)), 0.0, 0.03, MAMON),
            ("flat share", mass, flat),
            ("Gaussian sigma [km/s]", mass, sigma),
            ("slope of surface density", mass, slope, 2 / np.sqrt(len(inside)), 0.0, 0.3, MAMON),
        ]
    return comparison_table("interlopers", rows)


def gaussian_and_flat(v_los) -> tuple[float, float]:
    """Maximum-likelihood share of the flat floor and sigma [km/s] of the Gaussian, of `v_los` [km/s] in the window."""
    edges = np.linspace(0, observe.VELOCITY_CUT, 61)
    count = np.histogram(np.abs(v_los), edges)[0]

    def minus_log_likelihood(parameters):
        flat, sigma = 1 / (1 + np.exp(-parameters[0])), np.exp(parameters[1])
        return -(count * np.log(np.diff(gaussian_and_flat_cdf(edges, flat, sigma)) + 1e-12)).sum()

    best = minimize(minus_log_likelihood, (0.0, np.log(900.0)), method="Nelder-Mead").x
    return float(expit(best[0])), float(np.exp(best[1]))


def gaussian_and_flat_cdf(speed, flat: float, sigma: float) -> np.ndarray:
    """Share of galaxies with abs(v_los) below `speed` [km/s], with the results of `gaussian_and_flat`."""
    gaussian = erf(speed / (np.sqrt(2) * sigma)) / erf(observe.VELOCITY_CUT / (np.sqrt(2) * sigma))
    return flat * np.asarray(speed) / observe.VELOCITY_CUT + (1 - flat) * gaussian


def infall_profile(snapshot: Snapshot, *, at_most: int = 300, seed: int = 0) -> pd.DataFrame:
    """Mean peculiar velocities of all galaxies around clusters, in shells of r / R200c from 0 to 10.

    Clusters within 0.1 dex of each of `MASSES`, `at_most` by `seed` and at least 5, are stacked in units of R200c and
    V200c = sqrt(G M200c / R200c), in which the Hubble flow is r / 10. Columns are ``log_m200c``, ``clusters``, ``r``
    [R200c], ``galaxies``, ``v_radial``, its ``error`` (between clusters), ``sigma_radial`` and ``sigma_tangential``
    (one-dimensional) [V200c].
    """
    edges = np.r_[0, 0.25, 0.5, 0.75, np.arange(1, 4, 0.25), np.arange(4, 10.1, 0.5)]
    rng = np.random.default_rng(seed)
    hosts = [choose_hosts(snapshot, (mass - HALF_BIN, mass + HALF_BIN), at_most, rng) for mass in MASSES]
    host, bin_of = np.concatenate(hosts), np.repeat(np.arange(len(MASSES)), list(map(len, hosts)))
    r200c = host_r200c(snapshot, snapshot.host_log_m200c[host])
    v200c = cosmology.v200c(r200c, snapshot.simulation.redshift, omega_m=snapshot.simulation.omega_m)
    n_shells = len(edges) - 1
    sums = np.zeros((4, len(host), n_shells))  # galaxies, v_radial, its square, square of the velocity
    for i, r, away, velocity, _ in neighbours(snapshot, host, edges[-1] * r200c):
        velocity = velocity / v200c[i]
        radial = (velocity * away).sum(axis=1) / r
        shell = np.minimum(np.searchsorted(edges, r / r200c[i], side="right") - 1, n_shells - 1)
        for k, weight in enumerate((None, radial, radial**2, (velocity**2).sum(axis=1))):
            sums[k, i] += np.bincount(shell, weight, minlength=n_shells)
    tables = [pd.DataFrame(columns=["log_m200c"])]
    for k, mass in enumerate(MASSES):
        clusters = sums[:, bin_of == k]
        if clusters.shape[1] < FEWEST_CLUSTERS:
            continue
        n, v, v2, all2 = clusters.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = v / n
            between = np.sqrt((clusters[1] - mean * clusters[0]).var(axis=0) * clusters.shape[1]) / n
            columns = {
                "log_m200c": mass, "clusters": clusters.shape[1], "r": (edges[1:] + edges[:-1]) / 2, "galaxies": n,
                "v_radial": mean, "error": between, "sigma_radial": np.sqrt(v2 / n - mean**2),
                "sigma_tangential": np.sqrt((all2 - v2) / (2 * n)),
            }  # fmt: skip
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def infall(profile: pd.DataFrame) -> pd.DataFrame:
    """Turnaround radius, fastest infall and anisotropy of the orbits, from `infall_profile`.

    Turnaround is where infall balances the Hubble flow. The anisotropy 1 - sigma_t^2 / sigma_r^2 near R200c is that of
    Mamon, Biviano & Murante (2010) for a concentration of 4.
    """
    rows: list[tuple] = []
    for mass in MASSES:
        stack = profile[profile["log_m200c"] == mass]
        if stack.empty:
            rows.append(("turnaround radius / R200c", mass, NAN, NAN, NAN, NAN, N_BODY))
            continue
        r, total = stack["r"].to_numpy(), (stack["v_radial"] + stack["r"] / 10).to_numpy()
        outward = np.flatnonzero((total[:-1] < 0) & (total[1:] >= 0) & (r[:-1] > 1))
        turn = error = NAN
        if len(outward):
            i = outward[-1]
            slope = (r[i + 1] - r[i]) / (total[i + 1] - total[i])
            turn, error = r[i] - total[i] * slope, stack["error"].iloc[i] * slope
        fastest = stack[stack["r"] > 1].sort_values("v_radial").iloc[0]
        edge = stack[(stack["r"] > 0.75) & (stack["r"] < 1.25)]
        radial, tangential = (np.average(edge[c] ** 2, weights=edge["galaxies"]) for c in stack.columns[-2:])
        beta_error = 2 * tangential / radial / np.sqrt(edge["galaxies"].sum())
        rows += [
            ("turnaround radius / R200c", mass, turn, error, 5.5, 1 / 5.5, N_BODY),
            ("fastest mean infall / V200c", mass, -fastest["v_radial"], fastest["error"]),
            ("radius of fastest infall / R200c", mass, fastest["r"]),
            ("anisotropy near R200c", mass, 1 - tangential / radial, beta_error, 0.4, 0.375, MAMON),
        ]
    return comparison_table("infall", rows)


def host_r200c(snapshot: Snapshot, log_m200c) -> np.ndarray:
    """R200c [comoving Mpc/h] of haloes of the box, of masses [log10 Msun/h]."""
    return cosmology.r200c(log_m200c, snapshot.simulation.redshift, omega_m=snapshot.simulation.omega_m)


def pieces(snapshot: Snapshot, *columns: str) -> Iterator[dict[str, np.ndarray]]:
    """These columns of the galaxies, `PIECE` rows at a time, from memory or a file."""
    for begin in range(0, snapshot.position.shape[0], PIECE):
        yield {name: np.asarray(getattr(snapshot, name)[begin : begin + PIECE]) for name in columns}


def neighbours(snapshot: Snapshot, host: np.ndarray, radius: np.ndarray, *, axes: int = 3) -> Iterator[tuple]:
    """All galaxies but the central one within `radius` (n,) [Mpc/h] of each `host` (n,), measured along `axes` axes.

    A tuple has the host's place in `host`; and of some galaxies around it, their distances [Mpc/h] (k,), positions
    [Mpc/h] and velocities [km/s] (k, 3) from the host's, and whether they are its satellites (k,).
    """
    centre, used = snapshot.host_position[host], np.float32(np.arange(3) < axes)
    around = Spheres(centre * used, radius, snapshot.host_log_m200c[host], snapshot.box_size)
    for galaxies in pieces(snapshot, "position", "velocity", "host", "is_satellite"):
        inside = around.owner(galaxies["position"] * used) >= 0  # few are, and a tree of all takes longer
        galaxies = {name: column[inside] for name, column in galaxies.items()}
        tree = quick_tree(galaxies["position"][:, :axes], snapshot.box_size)
        for i, near in enumerate(tree.query_ball_point(centre[:, :axes], radius)):
            away = shortest(galaxies["position"][near] - centre[i].astype(float), snapshot.box_size)
            velocity = galaxies["velocity"][near] - snapshot.host_velocity[host[i]]
            member = (galaxies["host"][near] == host[i]) & galaxies["is_satellite"][near]
            r = np.linalg.norm(away, axis=1)
            other = r > 1e-3
            yield i, r[other], away[other], velocity[other], member[other]


def choose_hosts(snapshot: Snapshot, edges, at_most: int, rng) -> np.ndarray:
    """Indices of hosts, `at_most` at random in each bin of mass between `edges` [log10 Msun/h]."""
    bin_of = np.digitize(snapshot.host_log_m200c, edges)
    chosen = [rng.permutation(np.flatnonzero(bin_of == k))[:at_most] for k in range(1, len(edges))]
    return np.sort(np.concatenate(chosen))


def _quantile(values: np.ndarray, quantile: float, rng) -> tuple[float, float]:
    """A quantile over clusters and axes (n, 3), and its bootstrap error over clusters."""
    if len(values) < FEWEST_CLUSTERS:
        return NAN, NAN
    resampled = [np.nanquantile(values[rng.integers(0, len(values), len(values))], quantile) for _ in range(100)]
    return float(np.nanquantile(values, quantile)), float(np.std(resampled))


def _line(x, y, noise):
    """Slope, level and intrinsic scatter of y on x, each with its error; `noise` is the variance of each y.

    The scatter is half of the distance between the 16% and 84% quantiles, which a tail hardly changes.
    """
    (slope, level), covariance = np.polyfit(x, y, 1, cov=True)
    spread = np.diff(np.quantile(y - slope * x - level, (0.16, 0.84)))[0] / 2
    scatter = np.sqrt(max(spread**2 - np.mean(noise), 0.0))
    error = spread**2 / max(scatter, 0.3 * spread) / np.sqrt(len(x))
    return (slope, covariance[0, 0] ** 0.5), (level, covariance[1, 1] ** 0.5), (scatter, error)
