"""One cluster weighed by the survey estimator: the networks' conditions, the posterior, refusals and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cluster_tools.cosmology import MIN_LOG_MSTAR, SPEED_OF_LIGHT
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT
from cluster_tools.weighing import dynamics, survey_calibration, survey_effects, survey_model
from cluster_tools.weighing.output import LEVELS, WIDE_LEVELS, ClusterMass
from cluster_tools.weighing.selection import Observation
from cluster_tools.weighing.survey_calibration import GRID
from cluster_tools.weighing.survey_effects import FEWEST_GALAXIES, LARGEST_ERROR, LOG_MSTAR_CUTS, SMALLEST_FIELD
from cluster_tools.weighing.survey_model import MOST_UNIFORM, SurveyModel
from cluster_tools.weighing.training_views import MEMBER, mass_shift, scale

REDSHIFTS = (0.005, 0.6)  # nearer, redshifts tell no distance; farther, nothing was measured
NEAR = 0.013  # nearer, the window in velocity reaches down to the observer
SAMPLES = 400
BATCH = 200  # clusters that the networks weigh at a time
EDGE = 0.1  # dex from an end of the training masses
CUT_OFF = 0.16  # share of the posterior there that is warned of
RIM, EXPECTED_ON_RIM = 0.7, 6.0  # of the window, and galaxies expected beyond it; if there are none, they were removed
ON_RIM = 0.05  # share of the training galaxies there
# Refusals and warnings, in the package and on the page that weighs.
WORDS = {
    "redshift": "its redshift, {z:.4f}, is outside {low} to {high}",
    "few": "{n} galaxies are in the field, but {least} are the fewest that the networks learnt from",
    "field": "the galaxies end {field:.2f} Mpc/h from the centre; {least} Mpc/h is the smallest field in training",
    "error": "its velocities have errors of {error:.0f} km/s; {most:.0f} km/s are the largest in training",
    "no cluster": "no cluster stands out from the field: nearly all mock clusters with as many galaxies do so more "
    "clearly (log odds {odds:.1f}, {least:.1f} are the least)",
    "no centre": "{n} galaxies do not tell a cluster from a chance grouping where its place is not given: places in "
    "uniform fields stand out as much (log odds {odds:.1f}, {least:.1f} are needed); give centre and redshift if a "
    "cluster is known there",
    "light": "it is lighter than 10^{mass:.1f} Msun/h, where the training masses begin",
    "heavy": "it is heavier than 10^{mass:.1f} Msun/h, where the training masses end",
    "sparse": "{n} galaxies do not tell a cluster from a chance grouping: {percent:.0f}% of uniform fields with as "
    "many would get a mass, too; make sure that there is a cluster",
    "faint": "it hardly stands out from the field: 95% of mock clusters with as many galaxies do so more clearly; "
    "make sure that there is a cluster",
    "slow": "no galaxy is faster than {v:.0f} km/s: interlopers, which the networks expect, seem to have been removed, "
    "and the mass may be off by more than its range",
    "upper limit": "its posterior is cut off at 10^{mass:.1f}, where the training masses begin: it is an upper limit",
    "lower limit": "its posterior is cut off at 10^{mass:.1f}, where the training masses end: it is a lower limit",
    "near": "at redshift {z:.4f} the window in velocity reaches down to the observer, and distances are uncertain by "
    "{percent:.0f}% for a peculiar velocity of 300 km/s",
    "cut": "the cut in stellar mass, 10^{cut} Msun, is outside 10^{low} to 10^{high}, and is taken as unknown",
}


def estimate(
    observation: Observation, model: SurveyModel, velocity_error: float | None = None, complete: bool = False
) -> ClusterMass:
    """Weigh the selected galaxies of a cluster; `velocity_error` and `complete` are those of `one_cluster.weigh`."""
    z, shift = observation.redshift, mass_shift(observation.redshift)
    r_proj, field = observation.r_proj * scale(z), min(observation.field * scale(z), APERTURE)
    used = r_proj <= APERTURE
    count = int(used.sum())
    errors = {"given": velocity_error, "the median of the table's": observation.velocity_error}
    errors["assumed"] = survey_model.UNKNOWN_ERROR
    error_is, error = next((name, each) for name, each in errors.items() if each is not None)
    labels = np.full((len(used), 3), np.nan)
    mass = ClusterMass(
        observation, "survey", labels=labels, assumed={"velocity_error": float(error), "velocity_error_is": error_is}
    )
    if refusal := _unusable(z, count, field, error):
        return replace(mass, refusal=refusal)
    told = survey_effects.told(count, field, error, observation.min_log_mstar, complete, shift)
    answer = model.answer(observation.v_los[used], r_proj[used], [0, count], told)
    labels[used] = answer.labels
    log_likelihood, log_odds, grid = answer.log_likelihood, float(answer.log_odds[0]), GRID - shift
    share = survey_calibration.cumulative(log_likelihood)[0]
    least, faint, uniform, clear = map(float, model.usual(count, found=observation.is_found))
    if refusal := _no_mass(share, log_odds, least, grid):
        return replace(mass, refusal=refusal, log_odds=log_odds)
    if observation.is_found and clear > least:
        if log_odds < clear:
            refusal = WORDS["no centre"].format(n=count, odds=log_odds, least=clear)
            return replace(mass, refusal=refusal, log_odds=log_odds)
        uniform = MOST_UNIFORM  # as many reach these odds
    low, median, high, *quantiles_95 = survey_calibration.quantiles(log_likelihood, (*LEVELS, *WIDE_LEVELS))[0] - shift
    prior = survey_model.abundance(grid, z, model.log_abundance)
    samples = np.interp((np.arange(SAMPLES) + 0.5) / SAMPLES, share, grid)
    return replace(
        mass, mean=float(samples.mean()), sigma=float(samples.std()), samples=samples.astype(np.float32),
        quantiles=(float(low), float(median), float(high)), quantiles_95=tuple(map(float, quantiles_95)),
        abundance=tuple((survey_calibration.quantiles(log_likelihood + prior, LEVELS)[0] - shift).tolist()),
        warnings=tuple(_warnings(observation, used, share, grid, log_odds < faint, uniform)),
        grid=grid, log_likelihood=log_likelihood[0] - log_likelihood.max(), log_odds=log_odds,
        state=dynamics.state(observation.v_los, observation.directions, labels[:, MEMBER]),
    )  # fmt: skip


def medians(catalog, model: SurveyModel, within: tuple[float, float], *, complete: bool) -> np.ndarray:
    """Medians (n,) [log10 Msun/h] of the posteriors of mock clusters, under a prior that is flat `within` two masses.

    `catalog`, a `MockCatalog`, has whole cylinders above `MIN_LOG_MSTAR`; `complete` is as in `one_cluster.weigh`.
    """
    told = [survey_effects.told(n, APERTURE, 0.0, MIN_LOG_MSTAR, complete) for n in catalog.richness]
    log_likelihood = []
    for first in range(0, len(told), BATCH):
        batch = catalog.select(slice(first, first + BATCH))
        known = np.concatenate(told[first : first + BATCH])
        log_likelihood.append(model.answer(batch.v_los, batch.r_proj, batch.offsets, known).log_likelihood)
    outside = (within[0] > GRID) | (within[1] < GRID)
    return survey_calibration.quantiles(np.where(outside, -np.inf, np.concatenate(log_likelihood)), (0.5,))[:, 0]


def _unusable(z: float, count: int, field: float, error: float) -> str | None:
    """Why the networks, which learnt nothing of the kind, should not be asked."""
    low, high = REDSHIFTS
    if not low <= z <= high:
        return WORDS["redshift"].format(z=z, low=low, high=high)
    if count < FEWEST_GALAXIES:
        return WORDS["few"].format(n=count, least=FEWEST_GALAXIES)
    if field < 0.9 * SMALLEST_FIELD:
        return WORDS["field"].format(field=field, least=SMALLEST_FIELD)
    if error > LARGEST_ERROR:
        return WORDS["error"].format(error=error, most=LARGEST_ERROR)
    return None


def _no_mass(share, log_odds: float, least: float, mass) -> str | None:
    """Why the answer of the networks is no mass."""
    middle = float(np.interp(0.5, share, mass))
    if log_odds < least:
        return WORDS["no cluster"].format(odds=log_odds, least=least)
    if middle < mass[0] + EDGE:
        return WORDS["light"].format(mass=mass[0] + EDGE)
    if middle > mass[-1] - EDGE:
        return WORDS["heavy"].format(mass=mass[-1] - EDGE)
    return None


def _warnings(observation, used, share, mass, faint: bool, uniform: float) -> Iterator[str]:
    """Warnings, the one that changes the mass most first; the networks saw the galaxies `used` (bool array)."""
    n, z = int(used.sum()), observation.redshift
    if uniform >= MOST_UNIFORM:
        yield WORDS["sparse"].format(n=n, percent=100 * uniform)
    yield from observation.notes
    if faint:
        yield WORDS["faint"]
    if n * ON_RIM >= EXPECTED_ON_RIM and np.abs(observation.v_los[used]).max() < RIM * VELOCITY_CUT:
        yield WORDS["slow"].format(v=RIM * VELOCITY_CUT)
    below, not_above = np.interp([mass[0] + EDGE, mass[-1] - EDGE], mass, share)
    if below > CUT_OFF:
        yield WORDS["upper limit"].format(mass=mass[0])
    if 1 - not_above > CUT_OFF:
        yield WORDS["lower limit"].format(mass=mass[-1])
    if z < NEAR:
        yield WORDS["near"].format(z=z, percent=100 * 300 / (z * SPEED_OF_LIGHT))
    cut, (low, high) = observation.min_log_mstar, LOG_MSTAR_CUTS
    if cut is not None and not low <= cut <= high:
        yield WORDS["cut"].format(cut=cut, low=low, high=high)
