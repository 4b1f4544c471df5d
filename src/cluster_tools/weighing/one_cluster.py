"""The mass of any cluster, from a table of its galaxies: positions on the sky and redshifts.

The networks that come with the package have learnt from clusters seen as Coma is, at z = 0.0231. What
is weighed is brought into their phase space as Coma is (`survey.observables`), and whatever makes a cluster
unlike those that they have learnt from is said in words beside its mass.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools import cosmology, paths
from cluster_tools.coma import survey
from cluster_tools.cosmology import MIN_LOG_MSTAR
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import estimators, priors
from cluster_tools.mocks import kde
from cluster_tools.mocks.observe import APERTURE, FEWEST_GALAXIES, VELOCITY_CUT
from cluster_tools.networks import dropout, ensembles
from cluster_tools.weighing import centres, galaxy_table, reference_statistics

if TYPE_CHECKING:
    from cluster_tools.weighing.galaxy_table import Galaxies

# Redshifts where weighing holds. Nearer than 0.013, the velocity window reaches down to our own velocity and the
# cylinder to ourselves. Farther than 0.1, the halo of a given mass is faster and, in comoving units, wider than
# at 0.0231 by so much that the mass comes out too high by 0.02 dex (if all came from velocities, M ~ sigma^3 / E(z))
# to 0.06 dex (if all came from radii, M ~ R^3 E(z)^2 / (1+z)^3), nearly half of what the posterior is wide.
REDSHIFTS = (0.013, 0.1)
UNUSUAL = 0.01  # share of held-out clusters farther out, below which a cluster is said to be unusual
EXPECTED_ON_RIM = 5.0  # galaxies; if so many are expected and there are none, the table ends before the cylinder does
LEVELS = (0.16, 0.5, 0.84)
BEYOND_APERTURE = f"beyond {APERTURE} Mpc/h of the centre"
BEYOND_WINDOW = f"at {VELOCITY_CUT:g} km/s or more from the redshift"
NO_MASS = "without a stellar mass"


@dataclass(frozen=True)
class Observation:
    """One cluster's galaxies as the networks see them, and how it came about.

    Attributes
    ----------
    name : of the cluster
    centre_ra, centre_dec : deg, J2000; `centre_is` says in words where from
    redshift : dimensionless; `redshift_is` says where from
    v_los, r_proj : float64 arrays (n,) of the galaxies used, km/s and comoving Mpc/h
    rejected : galaxies left out, by reason
    min_log_mstar : the cut in stellar mass [log10 Msun, no h] that was applied, or None
    """

    name: str
    centre_ra: float
    centre_dec: float
    centre_is: str
    redshift: float
    redshift_is: str
    v_los: np.ndarray
    r_proj: np.ndarray
    rejected: dict[str, int]
    min_log_mstar: float | None

    @property
    def n_table(self) -> int:
        """Rows of the table: galaxies used and left out."""
        return len(self.v_los) + sum(self.rejected.values())

    @property
    def dispersion(self) -> float:
        """Standard deviation of v_los [km/s] of all galaxies used, interlopers included."""
        return float(np.std(self.v_los, ddof=1))

    def image(self) -> np.ndarray:
        """The phase-space image (48, 48); `ClusterToolsError` where the galaxies have none."""
        return kde.phase_space_images(self.v_los, self.r_proj, [0, len(self.v_los)])[0]


def observe(
    galaxies: Galaxies,
    *,
    name: str,
    centre: tuple[float, float] | None = None,
    redshift: float | None = None,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
) -> Observation:
    """Bring the galaxies of one cluster into phase space, and cut them as the mock clusters are cut.

    Parameters
    ----------
    galaxies : of the cluster and around it, members and interlopers alike; see `galaxy_table.read`
    name : of the cluster
    centre : (ra, dec) in deg, J2000; None: `centres.centre`
    redshift : of the cluster, in the frame of the galaxies' redshifts; None: `centres.redshift` near the centre
    min_log_mstar : lowest log10 stellar mass [Msun, no h]; None: no cut. A table without stellar masses and without
        g and r photometry is not cut.

    Raises
    ------
    ClusterToolsError
        For a centre, redshift or cut that is none, and fewer than 11 galaxies left.
    """
    centre, redshift = _checked_place(centre, redshift)
    centre_is = redshift_is = "given"
    found_redshift = redshift
    if redshift is None and centre is None:
        found_redshift = centres.redshift(galaxies.z)
    if centre is None:
        ra, dec, centre_is = centres.centre(galaxies, found_redshift)
    else:
        ra, dec = centre
    if redshift is None:
        radii = centres.radius(galaxies.ra, galaxies.dec, ra, dec, galaxies.z)
        core = radii <= centres.CORE
        core = core if core.sum() >= FEWEST_GALAXIES else radii <= APERTURE
        redshift, redshift_is = centres.redshift(galaxies.z, core), "biweight location of the galaxies near the centre"
    kept, rejected, cut = _cuts(galaxies, ra, dec, redshift, min_log_mstar)
    if kept.sum() < FEWEST_GALAXIES:
        out = "; ".join(f"{count} {reason}" for reason, count in rejected.items() if count)
        raise ClusterToolsError(
            f"{name!r} has {kept.sum()} galaxies to weigh about {ra:.4f} {dec:+.4f} deg, "
            f"z = {redshift:.5f}, but at least {FEWEST_GALAXIES} are needed ({out or 'no more are in the table'}); "
            "check centre, redshift and the units of the columns, or lower min_log_mstar."
        )
    v_los, r_proj = survey.observables(
        galaxies.ra[kept], galaxies.dec[kept], galaxies.z[kept], centre_ra=ra, centre_dec=dec, redshift=redshift
    )
    return Observation(name, ra, dec, centre_is, redshift, redshift_is, v_los, r_proj, rejected, cut)


def _checked_place(centre, redshift):
    """Centre and redshift as floats, or None where they are to be found."""
    if redshift is not None:
        if not isinstance(redshift, Real) or not centres.LEAST < redshift < 5:
            raise ClusterToolsError(
                f"redshift is {redshift!r}, but a number from {centres.LEAST:g} to 5 is expected, such as 0.0231; "
                "nearer than that, it tells no distance."
            )
        redshift = float(redshift)
    if centre is not None:
        try:
            ra, dec = map(float, centre)
        except (TypeError, ValueError):
            ra = dec = np.nan
        if not (-180 <= ra <= 360 and -90 <= dec <= 90):
            raise ClusterToolsError(
                f"centre is {centre!r}, but right ascension and declination in degrees are expected, "
                "as (194.95, 27.98)."
            )
        centre = ra % 360, dec
    return centre, redshift


def _cuts(galaxies, ra, dec, redshift, min_log_mstar):
    """Which galaxies are kept, bool (n,); how many are not, by reason, each counted once; and the cut applied."""
    if min_log_mstar is not None and not (isinstance(min_log_mstar, Real) and np.isfinite(min_log_mstar)):
        raise ClusterToolsError(f"min_log_mstar={min_log_mstar!r} is no number; expected log10 Msun, as 9.5, or None.")
    log_mstar = galaxies.log_mstar
    if log_mstar is None and galaxies.mag_g is not None:
        log_mstar = survey.stellar_mass(galaxies.mag_g, galaxies.mag_r, redshift=redshift)
    v_los, r_proj = survey.observables(
        galaxies.ra, galaxies.dec, galaxies.z, centre_ra=ra, centre_dec=dec, redshift=redshift
    )
    reasons = {BEYOND_APERTURE: ~(r_proj <= APERTURE), BEYOND_WINDOW: ~(np.abs(v_los) < VELOCITY_CUT)}
    cut = None if log_mstar is None or min_log_mstar is None else float(min_log_mstar)
    if cut is not None:
        reasons |= {NO_MASS: np.isnan(log_mstar), f"below 10^{cut:g} Msun in stars": log_mstar < cut}
    kept, rejected = np.ones(len(galaxies), bool), dict(galaxies.rejected)
    for reason, out in reasons.items():
        rejected[reason] = int((kept & out).sum())
        kept &= ~out
    return kept, rejected, cut


@dataclass(frozen=True)
class Scale:
    """What clusters are weighed with.

    Attributes
    ----------
    ensemble : `ensembles.CNNEnsemble` of 2D images, not re-weighted
    yardsticks : `reference_statistics.Yardsticks` of its training set; None: nothing says then how usual a cluster is, and
        the classical estimators are not calibrated
    """

    ensemble: ensembles.CNNEnsemble
    yardsticks: reference_statistics.Yardsticks | None

    @classmethod
    def load(cls, directory: Path | str | None = None) -> Scale:
        """The networks that come with the package, or those of a directory; their yardsticks, if they lie beside.

        Raises `ClusterToolsError` for networks that are missing, damaged or of another kind.
        """
        directory = _directory(directory)
        cls.describe(directory)
        ensemble = ensembles.CNNEnsemble.load(directory)
        file = directory / reference_statistics.FILE
        beside = reference_statistics.Yardsticks.read(file, ensemble.provenance["key"]) if file.exists() else None
        return cls(ensemble, beside)

    @staticmethod
    def describe(directory: Path | str | None = None) -> dict:
        """The stamp of these networks, without loading them; refused as by `load`."""
        directory = _directory(directory)
        stamp = ensembles.describe(directory).get("provenance", {})
        learnt = stamp.get("parameters", {})
        if learnt.get("input_dim") != 2 or learnt.get("reweighted"):
            raise ClusterToolsError(
                f"{paths.shown(directory)} holds networks of {learnt.get('input_dim')}D images"
                f"{', re-weighted to Coma' if learnt.get('reweighted') else ''}, but plain ones of 2D images are "
                "needed to weigh any cluster; give another directory, such as that of uchuu_2d."
            )
        return stamp

    @cached_property
    def abundance(self) -> priors.Prior:
        """The halo mass function over the masses that the networks were trained on."""
        sim = cosmology.simulation(self.ensemble.provenance["parameters"]["simulation"])
        return priors.halo_abundance(sim, above=self.ensemble.log_m200c_range[0])


def _directory(directory: Path | str | None) -> Path:
    directory = Path(directory or paths.PACKAGE_DATA / ensembles.SHIPPED)
    return directory.parent if directory.name == ensembles.DESCRIPTION else directory


@dataclass(frozen=True)
class Estimate:
    """A classical estimate [log10 Msun/h]: as published, calibrated on the training set, and its scatter [dex]."""

    name: str
    published: float
    calibrated: float
    scatter: float


@dataclass(frozen=True)
class Weighed:
    """The mass of one cluster; log masses are log10 M200c [Msun/h].

    Attributes
    ----------
    observation : what was weighed
    mean, sigma : of the posterior, over the flat prior of the training set
    samples : float32 array (draws of all networks,) of the posterior
    quantiles : (16%, median, 84%) of the posterior
    abundance : the same quantiles with the halo mass function as prior, for a cluster picked whatever its mass
    r200c : (16%, median, 84%) [comoving Mpc/h]
    estimates : classical ones, to compare with
    farther_hidden, farther_image : share of held-out training clusters that are more unusual, by the last hidden layer
        and by the image; NaN where the networks come without yardsticks
    warnings : sentences; empty if the cluster is like those that the networks have learnt from
    """

    observation: Observation
    mean: float
    sigma: float
    samples: np.ndarray
    quantiles: tuple[float, float, float]
    abundance: tuple[float, float, float]
    r200c: tuple[float, float, float]
    estimates: tuple[Estimate, ...]
    farther_hidden: float
    farther_image: float
    warnings: tuple[str, ...]


def weigh(
    table,
    *,
    centre: tuple[float, float] | None = None,
    redshift: float | None = None,
    columns: Mapping[str, str] | None = None,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
    name: str | None = None,
    draws: int = 100,
    seed: int = 1,
    scale: Scale | None = None,
) -> Weighed:
    """Weigh one cluster.

    Parameters
    ----------
    table : path of a CSV, ECSV, FITS or VOTable file, an astropy Table, a pandas DataFrame, or a mapping of names to
        arrays: the galaxies within 2.3 comoving Mpc/h and 3785 km/s of a cluster or more, interlopers included,
        with right ascension and declination (J2000, deg), redshift and, at best, stellar mass or g and r magnitudes
    centre : (ra, dec) in deg; None: the brightest galaxy near the densest place, or that place
    redshift : of the cluster, in the same frame as the galaxies'; None: biweight location
    columns : names of columns by standard name, such as {"z": "ZBEST"}, where they are not found
    min_log_mstar : lowest log10 stellar mass [Msun, no h], where the table tells it; None: no cut
    name : of the cluster; that of the file by default
    draws : passes through each network (the paper: 100)
    seed : of dropout, and of the caustic method's position angles
    scale : the networks; None: those that come with the package

    Returns
    -------
    `Weighed`

    Raises
    ------
    ClusterToolsError
        For a table that cannot be used, a cluster of fewer than 11 galaxies or without extent in velocity or radius,
        and networks that are missing or damaged.
    """
    galaxies = galaxy_table.read(table, columns=columns)
    if name is None:
        name = Path(table).name.partition(".")[0] if isinstance(table, str | os.PathLike) else "the cluster"
    seen = observe(galaxies, name=name, centre=centre, redshift=redshift, min_log_mstar=min_log_mstar)
    return put_on(scale or Scale.load(), seen, draws=draws, seed=seed)


def put_on(scale: Scale, seen: Observation, *, draws: int = 100, seed: int = 1) -> Weighed:
    """Weigh what was observed; parameters as of `weigh`."""
    image = seen.image()
    posterior = scale.ensemble.posterior(image[None], draws=draws, seed=seed)
    quantiles = priors.quantiles(posterior.samples, LEVELS)
    under_abundance = priors.reweighted(posterior.mean, posterior.sigma, posterior.samples, scale.abundance)
    farther = (np.nan, np.nan)
    if scale.yardsticks is not None:
        weights = [network.weights for network in scale.ensemble.networks]
        activations = np.array([dropout.without_dropout(each, image[None])[0][0] for each in weights], float)
        farther = scale.yardsticks.farther_hidden(activations), scale.yardsticks.farther_image(image)
    lo, median, hi = map(float, quantiles[0])
    return Weighed(
        observation=seen,
        mean=float(posterior.mean[0]),
        sigma=float(posterior.sigma[0]),
        samples=posterior.samples[0],
        quantiles=(lo, median, hi),
        abundance=tuple(map(float, priors.quantiles(under_abundance.samples, LEVELS)[0])),
        r200c=tuple(map(float, cosmology.r200c(np.array([lo, median, hi]), seen.redshift))),
        estimates=_estimates(seen, scale.yardsticks, seed),
        farther_hidden=farther[0],
        farther_image=farther[1],
        warnings=tuple(_warnings(seen, scale, (lo, hi), *farther)),
    )


def _estimates(seen: Observation, beside: reference_statistics.Yardsticks | None, seed: int) -> tuple[Estimate, ...]:
    found = []
    for name in reference_statistics.ESTIMATORS:
        published = float(estimators.log_m200c(name, seen.v_los, seen.r_proj, [0, len(seen.v_los)], seed=seed)[0])
        found.append(Estimate(name, published, *(beside.calibrated(name, published) if beside else (np.nan, np.nan))))
    return tuple(found)


def _warnings(seen: Observation, scale: Scale, interval, farther_hidden: float, farther_image: float):
    """Sentences on all that makes the cluster unlike those that the networks have learnt from."""
    low, high = REDSHIFTS
    if not low <= seen.redshift <= high:
        yield (
            f"its redshift, {seen.redshift:.4f}, is outside {low:g} to {high:g}, where networks trained at z = "
            f"{cosmology.COMA_REDSHIFT} hold"
        )
    if seen.min_log_mstar is None:
        yield f"no cut in stellar mass was made, but the networks learnt from galaxies above 10^{MIN_LOG_MSTAR} Msun"
    elif seen.min_log_mstar != MIN_LOG_MSTAR:
        yield f"the cut in stellar mass is 10^{seen.min_log_mstar:g} Msun, but that of training was 10^{MIN_LOG_MSTAR}"
    low, high = scale.ensemble.log_m200c_range
    if interval[0] <= low or interval[1] >= high:
        yield f"its mass is at the end of the range of training, {low:g} to {high:g}"
    for share, what in ((farther_hidden, "to the networks"), (farther_image, "as an image")):
        if share < UNUSUAL:  # False for NaN
            yield f"it is unusual {what}: {share:.1%} of the clusters kept from training are more so"
    if scale.yardsticks is None:
        yield "these networks come without yardsticks, so that nothing says how usual the cluster is"
    else:
        yield from _ends_early(seen, scale.yardsticks.rim)


def _ends_early(seen: Observation, rim) -> list[str]:
    """Whether the galaxies end before the cylinder does, so that some must have been left out."""
    radius, velocity = reference_statistics.EDGE * APERTURE, reference_statistics.EDGE * VELOCITY_CUT
    n, found = len(seen.v_los), []
    if n * rim[0] >= EXPECTED_ON_RIM and seen.r_proj.max() < radius:
        found.append(f"no galaxy is beyond {radius:.2f} Mpc/h: the table may not reach to {APERTURE} Mpc/h")
    if n * rim[1] >= EXPECTED_ON_RIM and np.abs(seen.v_los).max() < velocity:
        found.append(
            f"no galaxy is faster than {velocity:.0f} km/s: interlopers, which the networks expect, "
            "may have been removed"
        )
    return found
