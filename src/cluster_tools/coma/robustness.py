"""Sensitivity of Coma's mass, and of the scatter on test clusters, to the analysis and to the observation.

A variation of the *analysis* (`Analysis`) needs networks of its own, trained on images that are made in
the same way; its shift is compared with the scatter from training seeds alone. A variation of the
*observation* is shown to the networks of the baseline, which were not trained for it: galaxies are dropped
at random, or lost to fibre collisions, or the cylinder stands beside the cluster's centre.

Masses are log10 M200c [Msun/h], lengths comoving Mpc/h, velocities km/s, stellar masses Msun without h.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import SkyCoord, position_angle
from pandas import DataFrame
from scipy.spatial import cKDTree

from cluster_tools.coma import survey
from cluster_tools.cosmology import COMA_REDSHIFT, comoving_distance
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import calibration
from cluster_tools.mocks import kde, observe
from cluster_tools.networks import cnn, ensembles, training
from cluster_tools.ragged import ClusterGalaxies, cluster_offsets, per_cluster, per_galaxy
from cluster_tools.universe import snapshots

TEST_FOLD = 0  # left out of every training here
INTERVAL = 0.99446  # sigma, half of the central 68% of a Gaussian
# What no simulation knows for sure, as factors on this universe: velocities of members (published relations of
# dispersion and mass span 10%, `mocks.cluster_dynamics.M_SIGMA`) and their radii; velocities of all others, which
# the realism chapter holds to 15 or 20%; and the number of others for each member.
UNIVERSE = {"velocity_bias": (0.95, 1.05), "radius": (0.9, 1.1), "infall": (0.85, 1.15), "interlopers": (0.8, 1.25)}
# Two fibres of one SDSS plate cannot be put closer than this (Blanton et al. 2003, AJ 125, 2276).
FIBRE_SEPARATION = 55.0  # arcsec


@dataclass(frozen=True)
class Analysis:
    """Choices of an analysis; the defaults are those of the paper, its code, and this book."""

    dropout_rate: float = 0.1
    epochs: int = 30
    min_log_m200c: float = 14.0  #: lowest training mass [log10 Msun/h]
    min_log_mstar: float = 9.5  #: lowest log10 stellar mass of mock galaxies and Coma's [Msun, no h]
    galaxies: str = "satellites"  #: those of the mocks, as in the authors' code, or "all"; Coma keeps all
    aperture: float = observe.APERTURE  #: Mpc/h, within the catalogues'; the mesh of the images stays as it is
    velocity_cut: float = observe.VELOCITY_CUT  #: km/s, within the catalogues'
    kernel: str = "own"  #: 0.25^2 times each cluster's covariance, or "fixed", one for all (`fixed_kernel`)
    universe: str = "as drawn"  #: or "unknown": each training cluster is of another one, within `UNIVERSE`

    def __post_init__(self):
        for name, largest in (("aperture", observe.APERTURE), ("velocity_cut", observe.VELOCITY_CUT)):
            _check_number(name, getattr(self, name), largest)
        for name, first, second in (("kernel", "own", "fixed"), ("universe", "as drawn", "unknown")):
            if (value := getattr(self, name)) not in (first, second):
                raise ClusterToolsError(f"{name} is {value!r}, but {first!r} or {second!r} is expected.")

    def varied(self, choice: str, value) -> Analysis:
        """This analysis with one choice changed; `ClusterToolsError` if there is no such choice."""
        if choice not in (choices := [field.name for field in dataclasses.fields(self)]):
            raise ClusterToolsError(f"an analysis has no {choice!r} to vary; its choices are {', '.join(choices)}.")
        return dataclasses.replace(self, **{choice: value})


def _check_number(name: str, value, largest: float) -> None:
    if not isinstance(value, int | float) or not 0 < value <= largest:
        raise ClusterToolsError(f"{name} is {value!r}, but a number above 0 and at most {largest:g} is expected.")


@dataclass(frozen=True)
class Clusters(ClusterGalaxies):
    """Galaxies of n clusters with their position angles."""

    azimuth: np.ndarray = per_galaxy("rad")  #: angle around the centre [rad]
    log_m200c: np.ndarray = per_cluster("log10 Msun/h")  #: [log10 Msun/h]; NaN where it is unknown
    view: np.ndarray = per_cluster()  #: 1000 times the cluster's number in its box, plus that of the line of sight

    def thinned(self, kept: np.ndarray) -> Clusters:
        """Only these galaxies (bool array), and the clusters with at least 11 of them."""
        clusters = self.keep(kept)
        return clusters.select(clusters.richness >= observe.FEWEST_GALAXIES)


def training_clusters(catalog, n_max: int, seed: int, universe: str = "as drawn") -> Clusters:
    """At most `n_max` random rows of a catalogue's flat set, without the test fold, in a `universe` of `Analysis`."""
    rows = np.flatnonzero(catalog.in_train & (catalog.fold != TEST_FOLD))
    rng = np.random.default_rng([seed, 1])
    clusters = catalog.select(rng.choice(rows, min(n_max, len(rows)), replace=False))
    if universe == "unknown":
        drawn = np.random.default_rng([seed, 7])
        factors = {name: drawn.uniform(*ends, len(clusters)) for name, ends in UNIVERSE.items()}
        clusters = in_universe(clusters, seed, **factors)
    return _with_azimuths(clusters, rng)


def in_universe(catalog, seed: int, *, velocity_bias=1.0, radius=1.0, infall=1.0, interlopers=1.0):
    """Clusters of a catalogue as another universe would show them; a factor is a number, or one for each cluster (n,).

    Members' v_los are multiplied by `velocity_bias`, their r_proj by `radius`, all others' v_los by `infall`. Others
    or members are left out at random, so that there are `interlopers` times as many others for each member. Galaxies
    that leave the cylinder are lost, and none come from outside.
    """
    member, rng = catalog.is_member, np.random.default_rng([seed, 8])
    velocity_bias, radius, infall, interlopers = (
        np.broadcast_to(factor, len(catalog)).astype(np.float32)[catalog.cluster_index]
        for factor in (velocity_bias, radius, infall, interlopers)
    )
    v_los = catalog.v_los * np.where(member, velocity_bias, infall)
    r_proj = catalog.r_proj * np.where(member, radius, np.float32(1))
    kept = rng.random(len(member)) < np.where(member, 1 / interlopers, interlopers)
    kept &= (r_proj <= observe.APERTURE) & (np.abs(v_los) < observe.VELOCITY_CUT)
    return dataclasses.replace(catalog, v_los=v_los, r_proj=r_proj).keep(kept)


def test_rows(catalog, n_max: int, seed: int) -> np.ndarray:
    """Indices of at most `n_max` rows of the natural test set in the test fold.

    All catalogues of one box give the same clusters. Raises `ClusterToolsError` if there are none.
    """
    rows = np.flatnonzero(catalog.in_test & (catalog.fold == TEST_FOLD))
    if len(rows) == 0:
        raise ClusterToolsError(f"the catalogue has no test cluster in fold {TEST_FOLD}; use a larger box_size.")
    # The n-th number of a generator is the same however many are drawn.
    number = 3 * catalog.cluster[rows].astype(int) + catalog.line_of_sight[rows]
    priority = np.random.default_rng([seed, 2]).random(number.max() + 1)[number]
    return np.sort(rows[np.argsort(priority)[:n_max]])


def test_clusters(catalog, n_max: int, seed: int, **universe: float) -> Clusters:
    """The clusters of `test_rows`, with random azimuths, since a catalogue has none: subclumps are smeared.

    `universe` has factors of `in_universe`.
    """
    clusters = catalog.select(test_rows(catalog, n_max, seed))
    if universe:
        clusters = in_universe(clusters, seed, **universe)
    clusters = _with_azimuths(clusters, np.random.default_rng([seed, 3]))
    return clusters.thinned(np.ones(len(clusters.v_los), bool))


def _with_azimuths(catalog, rng) -> Clusters:
    azimuth = rng.uniform(0, 2 * np.pi, len(catalog.v_los))
    return Clusters(catalog.v_los, catalog.r_proj, catalog.offsets, azimuth, catalog.log_m200c, _view(catalog))


def _view(catalog) -> np.ndarray:
    return 1000 * catalog.cluster.astype(np.int64) + catalog.line_of_sight


def coma_clusters(samples: Sequence) -> Clusters:
    """One cluster for each table of `survey.load_sample`; azimuths run from north to east."""
    columns = []
    for sample in samples:
        ra, dec = (np.radians(np.asarray(sample[name], float)) for name in ("ra", "dec"))
        azimuth = np.asarray(position_angle(*np.radians(sample.meta["centre"]), ra, dec), float)
        columns.append((np.asarray(sample["v_los"]), np.asarray(sample["r_proj"]), azimuth))
    v_los, r_proj, azimuth = map(np.concatenate, zip(*columns))
    offsets, n = cluster_offsets(list(map(len, samples))), len(samples)
    return Clusters(v_los, r_proj, offsets, azimuth, np.full(n, np.nan), np.zeros(n, int))


def in_cylinder(clusters: Clusters, analysis: Analysis) -> Clusters:
    """The galaxies inside the analysis' cylinder."""
    return clusters.thinned((clusters.r_proj <= analysis.aperture) & (np.abs(clusters.v_los) < analysis.velocity_cut))


def fixed_kernel(clusters: Clusters) -> np.ndarray:
    """A kernel (2, 2) for all clusters: 0.25^2 times the median variances of v_los and r_proj, no tilt."""
    parts = map(clusters.slice, range(len(clusters)))
    variances = [[column[part].var(ddof=1) for column in (clusters.v_los, clusters.r_proj)] for part in parts]
    return kde.BANDWIDTH**2 * np.diag(np.median(variances, axis=0))


def images(clusters: Clusters, covariance: np.ndarray | None = None) -> np.ndarray:
    """Two-dimensional images (n, 48, 48) of clusters, with one kernel for all if a covariance is given."""
    return kde.phase_space_images(clusters.v_los, clusters.r_proj, clusters.offsets, covariance=covariance)


def train_and_weigh(
    analysis: Analysis, catalog, coma: Clusters, seeds: Sequence[int], *, log_m200c_range, max_train: int,
    max_test: int, draws: int, seed: int, progress: Callable | None = None,
) -> tuple[list[ensembles.Network], Masses]:  # fmt: skip
    """Train networks for an analysis, and weigh Coma and the test clusters; returns the networks and their `Masses`.

    `catalog` and `coma`, realisations of Coma, have the analysis' stellar-mass cut; the catalogue has its galaxies.
    Each of `seeds` is one network's: first weights, order of the images, dropout. `log_m200c_range` holds the training
    masses [log10 Msun/h]. At most `max_train` rows of the catalogue are trained on, and `max_test` tested; `seed`
    draws these rows and the `draws` dropout masks of each network. `progress` is called with a line each.
    """
    clusters = in_cylinder(training_clusters(catalog, max_train, seed, analysis.universe), analysis)
    covariance = fixed_kernel(clusters) if analysis.kernel == "fixed" else None
    pixels = images(clusters, covariance)
    architecture = cnn.Architecture(2, dropout_rate=analysis.dropout_rate)
    networks = []
    for network_seed in seeds:
        networks.append(training.train(
            pixels, clusters.log_m200c, pixels[:1], clusters.log_m200c[:1], log_m200c_range=log_m200c_range,
            architecture=architecture, epochs=analysis.epochs, fold=TEST_FOLD, seed=network_seed,
        ))  # fmt: skip
        if progress:
            progress(f"{len(networks)} of {len(seeds)} networks trained on {len(clusters)} observations")
    pair = (in_cylinder(coma, analysis), in_cylinder(test_clusters(catalog, max_test, seed), analysis))
    settings = {"log_m200c_range": log_m200c_range, "covariance": covariance, "draws": draws, "seed": seed}
    return networks, weigh(networks, {"": pair}, **settings)[""]


def down_sampled(clusters: Clusters, share: float, seed: int) -> Clusters:
    """Keep each galaxy with the probability `share`; `ClusterToolsError` unless it is above 0 and at most 1."""
    _check_number("down_sampling", share, 1)
    return clusters.thinned(np.random.default_rng([seed, 4]).random(len(clusters.v_los)) < share)


def fibre_collisions(clusters: Clusters, probability: float, seed: int) -> Clusters:
    """Lose one of two galaxies closer than 55 arcsec on the sky, with this probability.

    Pairs are met in random order; one that has lost a galaxy loses no second. 55 arcsec are 0.0184 comoving Mpc/h at
    Coma's distance. Only pairs within the sample collide; in SDSS, galaxies far behind a cluster take fibres as well,
    and where plates overlap, both of a pair get one. `ClusterToolsError` unless 0 < `probability` <= 1.
    """
    _check_number("fibre_collisions", probability, 1)
    rng = np.random.default_rng([seed, 5])
    separation = np.radians(FIBRE_SEPARATION / 3600) * comoving_distance(COMA_REDSHIFT)
    position = clusters.r_proj[:, None] * np.stack([np.sin(clusters.azimuth), np.cos(clusters.azimuth)], axis=1)
    kept = np.ones(len(position), bool)
    for begin, end in zip(clusters.offsets, clusters.offsets[1:]):
        pairs = begin + cKDTree(position[begin:end]).query_pairs(separation, output_type="ndarray")
        for pair in rng.permutation(pairs):
            if kept[pair].all() and rng.random() < probability:
                kept[rng.choice(pair)] = False
    return clusters.thinned(kept)


def off_centre(snapshot, catalog, rows, offset: float, seed: int, *, galaxies: str, min_log_mstar: float) -> Clusters:
    """Rows of a test set observed again, with the cylinder beside the halo's centre.

    `offset` is the distance on the sky [Mpc/h], in a direction drawn with `seed`. `catalog` was made of the box
    `snapshot` with these `galaxies` and `min_log_mstar`; `rows` (n,) lie along the axes of the box.
    """
    rng = np.random.default_rng([seed, 6])
    host, direction = catalog.cluster[rows], np.eye(3)[catalog.line_of_sight[rows]]
    angle = rng.uniform(0, 2 * np.pi, len(rows))
    across, up = np.roll(direction, 1, axis=1), np.roll(direction, 2, axis=1)
    side = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
    position = (snapshot.host_position[host] + offset * side).astype(np.float32)
    hosts = {"host_velocity": snapshot.host_velocity[host], "host_log_m200c": snapshot.host_log_m200c[host]}
    position = snapshots.wrapped(position, snapshot.box_size)
    moved = dataclasses.replace(snapshot, host_position=position, **hosts)  # one host for each row
    cut = {"galaxies": galaxies, "min_log_mstar": min_log_mstar}
    richness, v_los, r_proj, _ = observe.observe(moved, np.arange(len(rows)), direction, **cut)
    azimuth, offsets = rng.uniform(0, 2 * np.pi, len(v_los)), cluster_offsets(richness)
    clusters = Clusters(v_los, r_proj, offsets, azimuth, catalog.log_m200c[rows], _view(catalog)[rows])
    return clusters.thinned(np.ones(len(v_los), bool))


def coma_off_centre(coma_sample: str, offset: float, directions: int, *, min_log_mstar: float) -> Clusters:
    """Coma with its centre `offset` [Mpc/h] beside Abell's, once to each of `directions` sides."""
    angles = np.arange(directions) * 360 / directions * u.deg
    centre = SkyCoord(survey.CENTRE_RA, survey.CENTRE_DEC, unit="deg")
    moved = centre.directional_offset_by(angles, offset / comoving_distance(COMA_REDSHIFT) * u.rad)
    centres = [{"centre_ra": ra, "centre_dec": dec} for ra, dec in zip(moved.ra.deg, moved.dec.deg)]
    return coma_clusters([survey.load_sample(coma_sample, min_log_mstar=min_log_mstar, **each) for each in centres])


@dataclass(frozen=True)
class Masses:
    """Masses of Coma and residuals of n test clusters from k networks [log10 M200c, Msun/h; dex]."""

    galaxies: float  #: number of Coma's galaxies, mean over its realisations
    seed: np.ndarray  #: seed of each network, (k,)
    coma_mean: np.ndarray  #: mean of Coma's posterior, averaged over realisations, (k,)
    coma_sigma: np.ndarray  #: sigma of the posterior, likewise
    coma_spread: np.ndarray  #: standard deviation of the means over realisations, (k,)
    view: np.ndarray  #: `Clusters.view` of the test clusters, (n,)
    residual: np.ndarray  #: predicted less true mass, (k, n)
    sigma: np.ndarray  #: sigma of the test clusters' posteriors, (k, n)

    def half_width(self, rows=slice(None)) -> np.ndarray:
        """Half of the 16 to 84% range of the residuals [dex] of these test clusters, array (k,)."""
        low, high = np.percentile(self.residual[:, rows], (16, 84), axis=1)
        return (high - low) / 2

    def of_network(self, i: int) -> Masses:
        """The masses from network i alone."""
        columns = (column[i : i + 1] for column in (self.seed, self.coma_mean, self.coma_sigma, self.coma_spread))
        return Masses(self.galaxies, *columns, self.view, self.residual[i : i + 1], self.sigma[i : i + 1])


def weigh(
    networks: Sequence[ensembles.Network], pairs: Mapping[Any, tuple[Clusters, Clusters]], *, log_m200c_range,
    covariance: np.ndarray | None = None, draws: int, seed: int,
) -> dict[Any, Masses]:  # fmt: skip
    """Weigh pairs of (realisations of Coma, test clusters) with each network; returns `Masses` by name of the pair.

    `log_m200c_range` holds the training masses [log10 Msun/h], `covariance` a kernel (2, 2) for all clusters.
    `draws` and `seed` belong to the dropout.
    """
    pixels = [images(clusters, covariance) for pair in pairs.values() for clusters in pair]
    ends = np.cumsum([len(part) for part in pixels])[:-1]
    pixels, alone = np.concatenate(pixels), [ensembles.CNNEnsemble([each], log_m200c_range, {}) for each in networks]
    posteriors = [ensemble.posterior(pixels, draws=draws, seed=seed) for ensemble in alone]
    seeds = np.array([network.seed for network in networks])
    means, sigmas = (np.split(np.array([getattr(p, of) for p in posteriors]), ends, axis=1) for of in ("mean", "sigma"))
    masses = {}
    of_pairs = zip(pairs.items(), means[::2], sigmas[::2], means[1::2], sigmas[1::2])
    for (name, (coma, tests)), mean, sigma, test_mean, test_sigma in of_pairs:
        of_coma = (mean.mean(axis=1), sigma.mean(axis=1), mean.std(axis=1))
        residual = test_mean - tests.log_m200c
        masses[name] = Masses(coma.richness.mean(), seeds, *of_coma, tests.view, residual, test_sigma)
    return masses


def summary(
    baseline: Masses, analyses: Mapping[tuple, Masses], observations: Mapping[tuple, Masses],
    universes: Mapping[tuple, Masses], *, seed: int,
) -> DataFrame:  # fmt: skip
    """The baseline and its variations, one a row: means over networks.

    The three mappings are from (what, value) to masses: `analyses` by networks with other seeds, `observations` and
    `universes` by the baseline's networks, the last of test clusters of another universe. If ours were that universe,
    Coma's mass would be wrong by as much as theirs: its ``shift`` is minus the change of their median residual. `seed`
    is the bootstrap's. Columns: ``kind`` ("baseline", "seed", "analysis", "observation" or "universe"), ``what``,
    ``value``, ``networks``, ``galaxies`` of Coma, ``coma_mean``, ``coma_sigma``, ``coma_spread``, ``shift`` of Coma's
    mean from the baseline's, ``test_rows``, ``half_width`` (its error: the scatter of the networks, over the root of
    their number) and ``bias`` (median) of the residuals, ``sqrt_var``, the root of the mean predicted variance,
    ``inside``, the share of true masses in the 68% interval, and ``change`` of the half-width on common test clusters;
    in dex.
    ``shift_error`` of an analysis is the scatter from seeds, for so many networks; of an observation or a
    universe, the error of the networks' mean difference. ``change_error`` is from a bootstrap of the clusters and, for
    an analysis, the seeds. Raises `ClusterToolsError` if the baseline has one network only.
    """
    n = len(baseline.seed)
    if n < 2:
        raise ClusterToolsError(f"the baseline has {n} network, but 2 or more are expected; give it more seeds.")

    def row(kind, what, value, masses: Masses) -> dict:
        shifts, shift_error = masses.coma_mean.mean() - baseline.coma_mean, np.nan
        change, change_error = _change(masses, baseline, seed)
        if kind == "analysis":
            factor = np.sqrt(1 / len(masses.seed) + 1 / n)
            shift_error = baseline.coma_mean.std(ddof=1) * factor
            change_error = np.hypot(change_error, baseline.half_width().std(ddof=1) * factor)
        elif kind in ("observation", "universe"):
            shifts = masses.coma_mean - baseline.coma_mean if kind == "observation" else -_bias_change(masses, baseline)
            shift_error = shifts.std(ddof=1) / np.sqrt(n)
        return {
            "kind": kind, "what": what, "value": f"{value}", "networks": len(masses.seed), "galaxies": masses.galaxies,
            "coma_mean": baseline.coma_mean.mean() + shifts.mean(), "coma_sigma": masses.coma_sigma.mean(),
            "coma_spread": masses.coma_spread.mean(), "shift": shifts.mean(), "shift_error": shift_error,
            "test_rows": len(masses.view), "half_width": masses.half_width().mean(),
            "half_width_error": masses.half_width().std(ddof=1) / np.sqrt(k) if (k := len(masses.seed)) > 1 else np.nan,
            "sqrt_var": np.sqrt((masses.sigma**2).mean(axis=1)).mean(),
            "inside": (np.abs(masses.residual) <= masses.sigma * INTERVAL).mean(),
            "change": change, "change_error": change_error, "bias": np.median(masses.residual, axis=1).mean(),
        }  # fmt: skip

    rows = [row("baseline", "baseline", "", baseline)]
    rows += [row("seed", "seed", each, baseline.of_network(i)) for i, each in enumerate(baseline.seed)]
    for kind, variations in (("analysis", analyses), ("observation", observations), ("universe", universes)):
        rows += [row(kind, *key, masses) for key, masses in variations.items()]
    return pd.DataFrame(rows)


def _bias_change(masses: Masses, baseline: Masses) -> np.ndarray:
    """How much the median residual of each network changes on the test clusters that both have, (k,)."""
    _, mine, theirs = np.intersect1d(masses.view, baseline.view, return_indices=True)
    return np.median(masses.residual[:, mine], axis=1) - np.median(baseline.residual[:, theirs], axis=1)


def _change(masses: Masses, baseline: Masses, seed: int) -> tuple[float, float]:
    """Difference of the half-widths on the test clusters that both have, with its bootstrap error."""
    views, mine, theirs = np.intersect1d(masses.view, baseline.view, return_indices=True)

    def difference(rows):
        return masses.half_width(mine[rows]).mean() - baseline.half_width(theirs[rows]).mean()

    return difference(np.arange(len(views))), calibration.bootstrap(difference, views // 1000, seed=seed).std()
