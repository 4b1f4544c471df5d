"""How far Coma's mass, and the scatter on test clusters, move with the analysis and with what is observed.

Two kinds of variation. One of the *analysis* (`Analysis`) needs networks of its own, trained on images
that are made in the same way; what it moves is compared with what the seed of a training alone does.
One of the *observation* is shown to the networks of the baseline, which expect nothing of it: galaxies
are dropped at random, or lost to fibre collisions, or the cylinder stands beside the cluster's centre.

Masses are log10 M200c [Msun/h], lengths comoving Mpc/h, velocities km/s, stellar masses Msun without h.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_tools.coma import survey
from cluster_tools.cosmology import COMA_REDSHIFT, comoving_distance
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import calibration
from cluster_tools.mocks import kde, observe
from cluster_tools.networks import cnn, ensembles, training
from cluster_tools.universe import snapshots

if TYPE_CHECKING:
    from pandas import DataFrame

TEST_FOLD = 0  # that no network here has seen
# No two fibres of one SDSS plate can be put closer than this (Blanton et al. 2003, AJ 125, 2276).
FIBRE_SEPARATION = 55.0  # arcsec


@dataclass(frozen=True)
class Analysis:
    """What an analysis decides; the defaults are those of the paper and of this book.

    Attributes
    ----------
    dropout_rate, epochs : of the training
    min_log_mstar : log10 of the least stellar mass [Msun, no h], of mock galaxies and Coma's
    galaxies : of the mocks, "all" or "satellites" (the authors' public code); of Coma all are seen
    aperture, velocity_cut : of the cylinder [Mpc/h, km/s], within that of the catalogues; the mesh of
        the images stays as it is
    kernel : "own", 0.25^2 times each cluster's covariance, or "fixed", one for all (`fixed_kernel`)
    """

    dropout_rate: float = 0.1
    epochs: int = 10
    min_log_mstar: float = 9.5
    galaxies: str = "all"
    aperture: float = observe.APERTURE
    velocity_cut: float = observe.VELOCITY_CUT
    kernel: str = "own"

    def __post_init__(self):
        for name, most in (("aperture", observe.APERTURE), ("velocity_cut", observe.VELOCITY_CUT)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= most:
                raise ClusterToolsError(
                    f"{name} is {value!r}, but a number above 0 and at most {most:g}, the catalogues', is expected."
                )
        if self.kernel not in ("own", "fixed"):
            raise ClusterToolsError(f"kernel is {self.kernel!r}, but 'own' or 'fixed' is expected.")

    def varied(self, what: str, value) -> Analysis:
        """This analysis with one of its choices changed; `ClusterToolsError` if there is no such choice."""
        choices = [field.name for field in dataclasses.fields(self)]
        if what not in choices:
            raise ClusterToolsError(f"an analysis has no {what!r} to vary; its choices are {', '.join(choices)}.")
        return dataclasses.replace(self, **{what: value})


@dataclass(frozen=True)
class Clusters:
    """Galaxies of n clusters, one cluster after the other.

    Attributes
    ----------
    v_los, r_proj, azimuth : arrays (n_galaxies,), in km/s, comoving Mpc/h and radians around the centre
    offsets : int64 array (n + 1,); galaxies of cluster i are ``offsets[i]:offsets[i + 1]``
    log_m200c : float64 array (n,), NaN where it is not known
    view : int64 array (n,), 1000 times the cluster's number in its box plus that of the line of sight
    """

    v_los: np.ndarray
    r_proj: np.ndarray
    azimuth: np.ndarray
    offsets: np.ndarray
    log_m200c: np.ndarray
    view: np.ndarray

    def __len__(self) -> int:
        return len(self.log_m200c)

    def keep(self, galaxies: np.ndarray) -> Clusters:
        """Only these galaxies (bool array), and of the clusters those with at least 11 of them left."""
        cluster = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        count = np.bincount(cluster[galaxies], minlength=len(self))
        enough = count >= observe.FEWEST_GALAXIES
        galaxies = galaxies & enough[cluster]
        offsets = np.r_[0, np.cumsum(count[enough])].astype(np.int64)
        columns = (column[galaxies] for column in (self.v_los, self.r_proj, self.azimuth))
        return Clusters(*columns, offsets, self.log_m200c[enough], self.view[enough])


def training_clusters(catalog, at_most: int, seed: int) -> Clusters:
    """`at_most` rows of a catalogue's flat training set, drawn at random, the test fold left out."""
    rows = np.flatnonzero(catalog.in_train & (catalog.fold != TEST_FOLD))
    rng = np.random.default_rng([seed, 1])
    return _observed(catalog.select(rng.choice(rows, min(at_most, len(rows)), replace=False)), rng)


def test_rows(catalog, at_most: int, seed: int) -> np.ndarray:
    """`at_most` rows of the natural test set in the test fold: the same clusters in all catalogues of one box."""
    rows = np.flatnonzero(catalog.in_test & (catalog.fold == TEST_FOLD))
    if len(rows) == 0:
        raise ClusterToolsError(f"the catalogue has no test cluster in fold {TEST_FOLD}; use a larger box_size.")
    # The n-th number of a generator is the same however many are drawn.
    number = 3 * catalog.cluster[rows].astype(int) + catalog.line_of_sight[rows]
    priority = np.random.default_rng([seed, 2]).random(number.max() + 1)[number]
    return np.sort(rows[np.argsort(priority)[:at_most]])


def test_clusters(catalog, at_most: int, seed: int) -> Clusters:
    """The clusters of `test_rows`. A catalogue does not store azimuths, so they are drawn: subclumps are smeared."""
    return _observed(catalog.select(test_rows(catalog, at_most, seed)), np.random.default_rng([seed, 3]))


def _observed(catalog, rng) -> Clusters:
    azimuth = rng.uniform(0, 2 * np.pi, len(catalog.v_los))
    return Clusters(catalog.v_los, catalog.r_proj, azimuth, catalog.offsets, catalog.log_m200c, _view(catalog))


def _view(catalog) -> np.ndarray:
    return 1000 * catalog.cluster.astype(np.int64) + catalog.line_of_sight


def coma_clusters(samples: Sequence) -> Clusters:
    """One cluster for each table of `survey.load_sample`; the azimuth is about its centre, from north to east."""
    from astropy.coordinates import position_angle

    columns = []
    for sample in samples:
        centre = np.radians(sample.meta["centre"])
        ra, dec = (np.radians(np.asarray(sample[name], float)) for name in ("ra", "dec"))
        azimuth = np.asarray(position_angle(*centre, ra, dec), float)
        columns.append((np.asarray(sample["v_los"]), np.asarray(sample["r_proj"]), azimuth))
    offsets = np.r_[0, np.cumsum([len(sample) for sample in samples])].astype(np.int64)
    nameless = np.zeros(len(samples), np.int64)
    return Clusters(*map(np.concatenate, zip(*columns)), offsets, np.full(len(samples), np.nan), nameless)


# What an analysis sees, and its networks


def in_cylinder(clusters: Clusters, analysis: Analysis) -> Clusters:
    """The galaxies inside the analysis' cylinder."""
    return clusters.keep((clusters.r_proj <= analysis.aperture) & (np.abs(clusters.v_los) < analysis.velocity_cut))


def fixed_kernel(clusters: Clusters) -> np.ndarray:
    """A kernel for all clusters: 0.25^2 times the median variances of v_los and r_proj, no tilt; (2, 2)."""
    parts = [slice(*ends) for ends in zip(clusters.offsets, clusters.offsets[1:])]
    variances = [[column[part].var(ddof=1) for column in (clusters.v_los, clusters.r_proj)] for part in parts]
    return kde.BANDWIDTH**2 * np.diag(np.median(variances, axis=0))


def images(clusters: Clusters, covariance: np.ndarray | None = None) -> np.ndarray:
    """Two-dimensional images (n, 48, 48) of clusters; with one kernel for all if a covariance is given."""
    return kde.phase_space_images(clusters.v_los, clusters.r_proj, clusters.offsets, covariance=covariance)


def retrained(
    analysis: Analysis, catalog, of_coma: Clusters, seeds: Sequence[int], *, log_m200c_range, max_train: int,
    max_test: int, draws: int, seed: int, progress: Callable | None = None,
) -> tuple[list[ensembles.Network], Answers]:  # fmt: skip
    """Networks for an analysis, one for each of `seeds`, and what they make of Coma and of the test clusters.

    Parameters
    ----------
    analysis : how to train, and which galaxies to use
    catalog : `catalogs.MockCatalog`, made with the analysis' stellar-mass cut and galaxies
    of_coma : realisations of Coma, of the same stellar-mass cut
    seeds : each that of a network's first weights, of the order of its images, and of dropout
    log_m200c_range : of the simulation's training masses
    max_train, max_test : rows of the catalogue to train on, and to test
    draws : dropout draws of each network
    seed : of the choice of rows, and of dropout in prediction
    progress : called with a line of text after each training

    Returns
    -------
    the networks, and their answers
    """
    clusters = in_cylinder(training_clusters(catalog, max_train, seed), analysis)
    covariance = fixed_kernel(clusters) if analysis.kernel == "fixed" else None
    pixels = images(clusters, covariance)
    architecture = cnn.Architecture(2, dropout_rate=analysis.dropout_rate)
    trained = []
    for own_seed in seeds:
        trained.append(
            training.train(
                pixels, clusters.log_m200c, pixels[:1], clusters.log_m200c[:1], log_m200c_range=log_m200c_range,
                architecture=architecture, fold=TEST_FOLD, epochs=analysis.epochs, seed=own_seed,
            )
        )  # fmt: skip
        if progress:
            progress(f"{len(trained)} of {len(seeds)} networks trained on {len(clusters)} observations")
    seen = (in_cylinder(of_coma, analysis), in_cylinder(test_clusters(catalog, max_test, seed), analysis))
    made = measure(trained, {"": seen}, log_m200c_range=log_m200c_range, covariance=covariance, draws=draws, seed=seed)
    return trained, made[""]


# Other observations of the same clusters


def down_sampled(clusters: Clusters, share: float, seed: int) -> Clusters:
    """Each galaxy kept with this probability."""
    _check_share("down_sampling", share)
    return clusters.keep(np.random.default_rng([seed, 4]).random(len(clusters.v_los)) < share)


def fibre_collisions(clusters: Clusters, probability: float, seed: int) -> Clusters:
    """Of two galaxies closer than 55 arcsec on the sky, one is lost, with this probability.

    Pairs are met in random order; one that has lost a galaxy already loses no second. 55 arcsec are
    0.0184 comoving Mpc/h at Coma's distance. Only pairs within the sample collide: in SDSS, galaxies far
    behind a cluster take fibres as well; and where plates overlap, both of a pair can be had.
    """
    from scipy.spatial import cKDTree

    _check_share("fibre_collisions", probability)
    rng = np.random.default_rng([seed, 5])
    reach = np.radians(FIBRE_SEPARATION / 3600) * comoving_distance(COMA_REDSHIFT)
    place = clusters.r_proj[:, None] * np.stack([np.sin(clusters.azimuth), np.cos(clusters.azimuth)], axis=1)
    kept = np.ones(len(place), bool)
    for begin, end in zip(clusters.offsets, clusters.offsets[1:]):
        pairs = begin + cKDTree(place[begin:end]).query_pairs(reach, output_type="ndarray")
        for pair in rng.permutation(pairs):
            if kept[pair].all() and rng.random() < probability:
                kept[rng.choice(pair)] = False
    return clusters.keep(kept)


def off_centre(snapshot, catalog, rows, offset: float, seed: int, *, galaxies: str, min_log_mstar: float) -> Clusters:
    """Rows of a test set looked at again, with the cylinder `offset` [Mpc/h] beside the halo's centre.

    Parameters
    ----------
    snapshot : `snapshots.Snapshot`, the box of the catalogue
    catalog, rows : `catalogs.MockCatalog`, and rows of it, each along an axis of the box
    offset : on the sky, to a random side
    galaxies, min_log_mstar : as the catalogue was made with
    """
    rng = np.random.default_rng([seed, 6])
    host, direction = catalog.cluster[rows], np.eye(3)[catalog.line_of_sight[rows]]
    angle = rng.uniform(0, 2 * np.pi, len(rows))
    across, up = np.roll(direction, 1, axis=1), np.roll(direction, 2, axis=1)
    side = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
    moved = dataclasses.replace(  # a host of its own for each row
        snapshot,
        host_position=snapshots.wrapped(
            (snapshot.host_position[host] + offset * side).astype(np.float32), snapshot.box_size
        ),
        host_velocity=snapshot.host_velocity[host],
        host_log_m200c=snapshot.host_log_m200c[host],
    )
    count, v_los, r_proj, _ = observe.observe(
        moved, np.arange(len(rows)), direction, galaxies=galaxies, min_log_mstar=min_log_mstar
    )
    offsets = np.r_[0, np.cumsum(count)].astype(np.int64)
    azimuth = rng.uniform(0, 2 * np.pi, len(v_los))
    found = Clusters(v_los, r_proj, azimuth, offsets, catalog.log_m200c[rows], _view(catalog)[rows])
    return found.keep(np.ones(len(v_los), bool))


def coma_off_centre(coma_sample: str, offset: float, directions: int, *, min_log_mstar: float) -> Clusters:
    """Coma with its centre put `offset` [Mpc/h] beside Abell's, once to each of so many sides."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    angles = np.arange(directions) * 360 / directions * u.deg
    centre = SkyCoord(survey.CENTRE_RA, survey.CENTRE_DEC, unit="deg")
    moved = centre.directional_offset_by(angles, offset / comoving_distance(COMA_REDSHIFT) * u.rad)
    return coma_clusters(
        [
            survey.load_sample(coma_sample, min_log_mstar=min_log_mstar, centre_ra=ra, centre_dec=dec)
            for ra, dec in zip(moved.ra.deg, moved.dec.deg)
        ]
    )


def _check_share(name: str, share) -> None:
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ClusterToolsError(f"{name} is {share!r}, but a number above 0 and up to 1 is expected.")


# What comes out


@dataclass(frozen=True)
class Answers:
    """What k networks make of Coma and of n test clusters.

    Attributes
    ----------
    galaxies : of Coma, the mean over its realisations
    seed : int array (k,), of each network
    coma_mean, coma_sigma, coma_spread : float64 arrays (k,)
        Of the posterior of Coma's log10 M200c, means over realisations; and the scatter of their means.
    view : int64 array (n,), of the test clusters, as in `Clusters`
    residual : float64 array (k, n), predicted less true log10 M200c
    """

    galaxies: float
    seed: np.ndarray
    coma_mean: np.ndarray
    coma_sigma: np.ndarray
    coma_spread: np.ndarray
    view: np.ndarray
    residual: np.ndarray

    def half_width(self, rows=slice(None)) -> np.ndarray:
        """Half of the 16 to 84% range of the residuals of these test clusters, array (k,)."""
        low, high = np.percentile(self.residual[:, rows], (16, 84), axis=1)
        return (high - low) / 2

    def of_network(self, i: int) -> Answers:
        """The answers of network i alone."""
        alone = ("seed", "coma_mean", "coma_sigma", "coma_spread", "residual")
        return dataclasses.replace(self, **{name: getattr(self, name)[i : i + 1] for name in alone})


def measure(
    trained: Sequence[ensembles.Network], seen: Mapping[Any, tuple[Clusters, Clusters]], *, log_m200c_range,
    covariance: np.ndarray | None = None, draws: int, seed: int,
) -> dict[Any, Answers]:  # fmt: skip
    """What each network makes of each pair of (realisations of Coma, test clusters) in `seen`.

    `covariance` is that of the kernel, if it is one for all; `draws` and `seed` are of the dropout.
    """
    pixels = [images(each, covariance) for pair in seen.values() for each in pair]
    ends = np.cumsum([len(part) for part in pixels])[:-1]
    everything = np.concatenate(pixels)
    found = []
    for network in trained:  # all pairs in one go
        posterior = ensembles.CNNEnsemble([network], log_m200c_range, {}).posterior(everything, draws=draws, seed=seed)
        found.append((posterior.mean, posterior.sigma))
    means, sigmas = (np.split(np.array(column), ends, axis=1) for column in zip(*found))
    return {
        name: Answers(
            galaxies=float(np.diff(of_coma.offsets).mean()),
            seed=np.array([network.seed for network in trained]),
            coma_mean=means[2 * i].mean(axis=1),
            coma_sigma=sigmas[2 * i].mean(axis=1),
            coma_spread=means[2 * i].std(axis=1),
            view=tests.view,
            residual=means[2 * i + 1] - tests.log_m200c,
        )
        for i, (name, (of_coma, tests)) in enumerate(seen.items())
    }


def summary(
    baseline: Answers, analyses: Mapping[tuple, Answers], observations: Mapping[tuple, Answers], *, seed: int
) -> DataFrame:
    """A row for each variation, beside the baseline: means over its networks.

    Parameters
    ----------
    baseline : of two or more networks
    analyses : (what, value) -> answers of networks that were trained for it, from seeds of their own
    observations : (what, value) -> answers of the baseline's networks
    seed : of the bootstrap

    Returns
    -------
    pandas.DataFrame with ``kind`` ("baseline", "seed", "analysis" or "observation"), ``what``, ``value`` (text),
    ``networks``, ``galaxies`` of Coma, ``coma_mean``, ``coma_sigma``, ``coma_spread``, ``shift`` of Coma's mean
    from the baseline's, ``test_rows``, ``half_width`` and ``bias`` (median) of the residuals, and ``change`` of the
    half-width on the test clusters that the baseline has as well; in dex. ``shift_error`` is, of an
    analysis, what seeds alone do to the difference of so many networks, and of an observation the error of
    the mean of the networks' own differences. ``change_error`` has the bootstrap of the clusters in it, and for an
    analysis the seeds.

    Raises
    ------
    ClusterToolsError
        If the baseline has one network only.
    """
    import pandas as pd

    n = len(baseline.seed)
    if n < 2:
        raise ClusterToolsError(f"the baseline has {n} network, but 2 or more are expected; give it more seeds.")

    def row(kind, what, value, some: Answers) -> dict:
        shift_error = np.nan
        change, change_error = _change(some, baseline, seed)
        if kind == "analysis":
            share = np.sqrt(1 / len(some.seed) + 1 / n)
            shift_error = baseline.coma_mean.std(ddof=1) * share
            change_error = np.hypot(change_error, baseline.half_width().std(ddof=1) * share)
        elif kind == "observation":
            shift_error = (some.coma_mean - baseline.coma_mean).std(ddof=1) / np.sqrt(n)
        return {
            "kind": kind, "what": what, "value": f"{value}", "networks": len(some.seed), "galaxies": some.galaxies,
            "coma_mean": some.coma_mean.mean(), "coma_sigma": some.coma_sigma.mean(),
            "coma_spread": some.coma_spread.mean(),
            "shift": some.coma_mean.mean() - baseline.coma_mean.mean(), "shift_error": shift_error,
            "test_rows": len(some.view), "half_width": some.half_width().mean(),
            "change": change, "change_error": change_error,
            "bias": np.median(some.residual, axis=1).mean(),
        }  # fmt: skip

    rows = [row("baseline", "baseline", "", baseline)]
    rows += [row("seed", "seed", each, baseline.of_network(i)) for i, each in enumerate(baseline.seed)]
    rows += [row("analysis", *key, some) for key, some in analyses.items()]
    rows += [row("observation", *key, some) for key, some in observations.items()]
    return pd.DataFrame(rows)


def _change(some: Answers, baseline: Answers, seed: int) -> tuple[float, float]:
    """Difference of the half-widths on the test clusters that both have, with its bootstrap error."""
    views, mine, theirs = np.intersect1d(some.view, baseline.view, return_indices=True)

    def difference(rows):
        return some.half_width(mine[rows]).mean() - baseline.half_width(theirs[rows]).mean()

    drawn = calibration.bootstrap(difference, views // 1000, seed=seed)
    return difference(np.arange(len(views))), drawn.std()
