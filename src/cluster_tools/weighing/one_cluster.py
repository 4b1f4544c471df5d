"""The mass of one cluster, from a table of its galaxies: positions on the sky and redshifts.

The survey estimator (`survey_model`) weighs by default. The paper's networks learnt from clusters observed as Coma is,
whole and at z = 0.0231; their mass comes with a warning for each way in which a cluster differs from those.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from cluster_tools import arrays, paths
from cluster_tools.cosmology import COMA_REDSHIFT, MIN_LOG_MSTAR
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import estimators, priors
from cluster_tools.mocks.observe import APERTURE, FEWEST_GALAXIES, VELOCITY_CUT
from cluster_tools.networks import dropout, ensembles
from cluster_tools.weighing import galaxy_table, reference_statistics, survey_estimate
from cluster_tools.weighing.output import LEVELS, WIDE_LEVELS, ClassicalEstimate, ClusterMass
from cluster_tools.weighing.reference_statistics import RIM, ReferenceStatistics
from cluster_tools.weighing.selection import Observation, select_galaxies
from cluster_tools.weighing.survey_model import SurveyModel

# Redshifts where the paper's networks hold. Nearer than 0.013, the velocity window reaches down to our own velocity
# and the cylinder to ourselves. Farther than 0.1, the halo of a given mass is faster and, in comoving units, wider than
# at 0.0231 by so much that the mass comes out too high by 0.02 dex (if all came from velocities, M ~ sigma^3 / E(z))
# to 0.06 dex (if all came from radii, M ~ R^3 E(z)^2 / (1+z)^3), nearly half of what the posterior is wide.
REDSHIFTS = (0.013, 0.1)
UNUSUAL = 0.01  # a cluster is unusual if a smaller share of the held-out clusters is farther from the training set
EXPECTED_ON_RIM = 5.0  # galaxies; if so many are expected and there are none, the table ends before the cylinder does
MODELS = ("survey", "paper")


@dataclass(frozen=True)
class WeighingModel:
    """Networks that weigh clusters, and the statistics of their training set."""

    ensemble: ensembles.CNNEnsemble  #: networks of 2D images, not re-weighted to Coma
    #: of the training set; without them, no novelty is known, and classical estimates are not calibrated
    statistics: ReferenceStatistics | None
    fewest: ClassVar[int] = FEWEST_GALAXIES  #: fewest galaxies that they weigh

    @classmethod
    def load(cls, directory: Path | str | None = None) -> WeighingModel:
        """Load the networks in a directory, by default those of the package, and the statistics beside them.

        Raises `ClusterToolsError` if they are missing, damaged or of another kind.
        """
        directory = Path(directory or paths.PACKAGE_DATA / ensembles.SHIPPED)
        directory = directory.parent if directory.name == ensembles.DESCRIPTION else directory
        ensemble = ensembles.CNNEnsemble.load(directory)
        trained = ensemble.provenance.get("parameters", {})
        if trained.get("input_dim") != 2 or trained.get("reweighted"):
            kind = f"{trained.get('input_dim')}D images" + ", re-weighted to Coma" * bool(trained.get("reweighted"))
            raise ClusterToolsError(
                f"{paths.shown(directory)} holds networks of {kind}, but plain ones of 2D images are needed to weigh "
                "any cluster; give another directory, such as that of uchuu_2d."
            )
        file = directory / reference_statistics.FILE
        return cls(ensemble, ReferenceStatistics.read(file, ensemble.provenance.get("key")) if file.exists() else None)

    @property
    def provenance(self) -> dict:
        """The networks' stamp."""
        return self.ensemble.provenance

    @cached_property
    def abundance(self) -> priors.Prior:
        """The halo mass function over the range of training masses."""
        if self.statistics is not None:
            return priors.Prior(*self.statistics.prior)
        return reference_statistics.abundance(self.ensemble)


def load_model(name: str = "survey", directory: Path | str | None = None) -> SurveyModel | WeighingModel:
    """The model "survey" or "paper" of the package, or the paper's of a `directory`; errors as of their `load`."""
    if name not in MODELS:
        raise ClusterToolsError(f"model is {name!r}, but one of {', '.join(MODELS)} is expected.")
    return SurveyModel.load() if name == "survey" and directory is None else WeighingModel.load(directory)


def weigh(
    table,
    *,
    centre: tuple[float, float] | None = None,
    redshift: float | None = None,
    columns: Mapping[str, str] | None = None,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
    velocity_error: float | None = None,
    complete: bool = False,
    name: str | None = None,
    draws: int = 100,
    seed: int = 1,
    classical: bool = False,
    model: str | SurveyModel | WeighingModel = "survey",
) -> ClusterMass:
    """Weigh one cluster.

    Parameters
    ----------
    table : path, Table, DataFrame or mapping
        All galaxies within 2.3 comoving Mpc/h and 3785 km/s of the cluster, interlopers included: right ascension
        and declination (J2000, deg), redshift and, if possible, stellar mass or g and r magnitudes. Read from a file
        (`table_files.read`), or from memory.
    centre : tuple of float or str, or str, optional
        Right ascension and declination, J2000 [deg], or sexagesimal; by default, see `centres.centre`.
    redshift : float, optional
        Redshift of the cluster, in the frame of the galaxies' redshifts; by default, see `centres.redshift`.
    columns : mapping or str, optional
        Names of columns by standard name, where they are not recognised: {"z": "ZBEST"}, also as text.
    min_log_mstar : float, optional
        Lowest log10 stellar mass [Msun, no h]; None: no cut. A table without stellar masses is not cut.
    velocity_error : float, optional
        Typical error of a galaxy's velocity [km/s]; by default, the median of the table's errors, or 30 without any.
    complete : bool
        Whether the table has all galaxies of the field above `min_log_mstar`, about the true centre. The survey
        estimator then takes their number, too, as evidence of the mass.
    name : str, optional
        Name of the cluster; by default, that of the file.
    draws : int
        Passes through each of the paper's networks; the paper has 100.
    seed : int
        Seed of dropout, and of `estimators.log_m200c`.
    classical : bool
        Whether classical estimates are set beside the mass, in half a second.
    model : str, SurveyModel or WeighingModel
        "survey", "paper", or a model of `load_model`.

    Returns
    -------
    ClusterMass
        Posterior, warnings, and a ``refusal`` in place of the mass where none should be used.

    Raises
    ------
    ClusterToolsError
        If the table cannot be used, fewer than 8 galaxies are left (11 for the paper's networks, which also need some
        extent in velocity and radius), or the networks are missing or damaged.
    """
    check_settings(draws, seed, velocity_error)
    model = load_model(model) if isinstance(model, str) else model
    min_log_mstar = None if min_log_mstar in ("none", "None") else min_log_mstar
    galaxies = galaxy_table.read(table, columns=columns, with_mass=min_log_mstar is not None)
    if name is None:
        name = Path(table).name.partition(".")[0] if isinstance(table, str | os.PathLike) else "the cluster"
    observation = select_galaxies(
        galaxies, name=name, centre=centre, redshift=redshift, min_log_mstar=min_log_mstar, fewest=model.fewest
    )
    known = {"velocity_error": velocity_error, "complete": complete}
    return estimate_mass(observation, model, draws=draws, seed=seed, classical=classical, **known)


def check_settings(draws: int, seed: int, velocity_error: float | None) -> None:
    """Raise `ClusterToolsError` as `check_draws`, and for an error that is neither None nor a number of km/s."""
    ensembles.check_draws(draws, seed)
    if velocity_error is not None and not (arrays.is_number(velocity_error) and 0 <= velocity_error < 10_000):
        raise ClusterToolsError(f"velocity_error is {velocity_error!r}, but a number in km/s is expected, such as 30.")


def estimate_mass(
    observation: Observation,
    model: SurveyModel | WeighingModel,
    *,
    draws: int = 100,
    seed: int = 1,
    velocity_error: float | None = None,
    complete: bool = False,
    classical: bool = False,
) -> ClusterMass:
    """Estimate the mass of a cluster from its selected galaxies; parameters, result and errors are those of `weigh`."""
    estimates = ()
    if classical:
        statistics = WeighingModel.load().statistics if isinstance(model, SurveyModel) else model.statistics
        estimates = tuple(_classical_estimates(observation, statistics, seed))
    if isinstance(model, SurveyModel):
        mass = survey_estimate.estimate(observation, model, velocity_error, complete)
        return dataclasses.replace(mass, estimates=estimates)
    image = observation.image()
    posterior = model.ensemble.posterior(image[None], draws=draws, seed=seed)
    quantiles = priors.quantiles(posterior.samples, (*LEVELS, *WIDE_LEVELS))[0].tolist()
    reweighted = priors.reweighted(posterior.mean, posterior.sigma, posterior.samples, model.abundance)
    farther_hidden = farther_image = np.nan
    if model.statistics is not None:
        activations = [dropout.activations(each.weights, image[None])[0] for each in model.ensemble.networks]
        farther_hidden = model.statistics.farther_hidden(np.array(activations, float))
        farther_image = model.statistics.farther_image(image)
    return ClusterMass(
        observation, "paper", mean=float(posterior.mean[0]), sigma=float(posterior.sigma[0]),
        samples=posterior.samples[0], quantiles=tuple(quantiles[:3]), quantiles_95=tuple(quantiles[3:]),
        abundance=tuple(priors.quantiles(reweighted.samples, LEVELS)[0].tolist()), estimates=estimates,
        warnings=tuple(_warnings(observation, model, quantiles[:3], farther_hidden, farther_image)),
        farther_hidden=farther_hidden, farther_image=farther_image,
    )  # fmt: skip


def _classical_estimates(observation, statistics, seed) -> Iterator[ClassicalEstimate]:
    """Masses by each of `reference_statistics.ESTIMATORS`; one without its package is left out, and says so."""
    v_los, r_proj = observation.v_los, observation.r_proj
    for name in reference_statistics.ESTIMATORS:
        try:
            published = float(estimators.log_m200c(name, v_los, r_proj, [0, len(v_los)], seed=seed)[0])
        except ModuleNotFoundError as error:
            yield ClassicalEstimate(name, failure=f"left out, since the package {error.name} is not installed")
            continue
        calibrated = (np.nan, np.nan) if statistics is None else statistics.calibrated(name, published)
        failure = None if np.isfinite(published) else "fails on these galaxies"
        yield ClassicalEstimate(name, published, *calibrated, failure)


def _warnings(observation, model, quantiles, farther_hidden: float, farther_image: float) -> Iterator[str]:
    """A sentence for each way in which the cluster differs from the training clusters."""
    yield from observation.notes
    low, high = REDSHIFTS
    if not low <= observation.redshift <= high:
        hold = f"where networks trained at z = {COMA_REDSHIFT} hold"
        yield f"its redshift, {observation.redshift:.4f}, is outside {low:g} to {high:g}, {hold}"
    cut = observation.min_log_mstar
    if cut is None:
        yield f"no cut in stellar mass was made, but the networks learnt from galaxies above 10^{MIN_LOG_MSTAR} Msun"
    elif cut != MIN_LOG_MSTAR:
        yield f"the cut in stellar mass is 10^{cut:g} Msun, but that of training was 10^{MIN_LOG_MSTAR}"
    low, high = model.ensemble.log_m200c_range
    if quantiles[0] <= low or quantiles[-1] >= high:
        yield f"its mass is at the end of the range of training, {low:g} to {high:g}"
    for share, to_whom in ((farther_hidden, "to the networks"), (farther_image, "as an image")):
        if share < UNUSUAL:  # False for NaN
            yield f"it is unusual {to_whom}: {share:.1%} of the clusters kept from training are more so"
    if model.statistics is None:
        yield "these networks come without reference statistics, so that nothing says how usual the cluster is"
        return
    n, (on_radial_rim, on_velocity_rim) = len(observation.v_los), model.statistics.rim
    radius, velocity = RIM * APERTURE, RIM * VELOCITY_CUT
    if n * on_radial_rim >= EXPECTED_ON_RIM and observation.r_proj.max() < radius:
        yield f"no galaxy is beyond {radius:.2f} Mpc/h: the table may not reach to {APERTURE} Mpc/h"
    if n * on_velocity_rim >= EXPECTED_ON_RIM and np.abs(observation.v_los).max() < velocity:
        removed = "interlopers, which the networks expect, may have been removed"
        yield f"no galaxy is faster than {velocity:.0f} km/s: {removed}"
