"""Training of the survey estimator: its boxes, views, networks, and how well held-out clusters are weighed.

``cluster-tools train-survey`` does it all and replaces the weights of the package (`survey_model`).
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from cluster_tools import machine, paths, store
from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.mocks import catalogs
from cluster_tools.networks import survey_network
from cluster_tools.weighing import survey_calibration, survey_effects, survey_model, training_views
from cluster_tools.weighing.survey_model import SurveyModel
from cluster_tools.weighing.training_views import LOG_M200C, Views

FOLDS_EACH = 2  # of the ten folds, which a network does not see: the first 0 and 1, the second 2 and 3, and so on
LOG_M_HOST, MIN_LOG_MSTAR = 13.0, 9.0  # of the boxes: lighter than those of the book
VIEWS = 14_000  # clusters in each box
STEPS = 4000  # batches for each network
NETWORKS = 4  # seeds


def views_of_boxes(directory: Path, *, box_size=1000.0, n: int = VIEWS, seed: int = 1, progress=print) -> Views:
    """Views of both synthetic universes, and of uniform fields; boxes in `directory` are drawn where
    they are missing.
    """
    from cluster_tools.universe import snapshots, synthetic

    views = []
    for name in SIMULATIONS:
        path, started = directory / f"{name}.h5", time.monotonic()
        if not path.exists():
            progress(f"{name}: the box is drawn, in some minutes")
            synthetic.synthetic(
                name, box_size=box_size, seed=seed, log_m_host=LOG_M_HOST, min_log_mstar=MIN_LOG_MSTAR, path=path
            )
        views.append(training_views.observe(snapshots.open_snapshot(path), n, seed=seed))
        progress(f"{name}: {len(views[-1])} views after {machine.duration(time.monotonic() - started)}")
    views.append(training_views.uniform(n // 5, views[0], seed=seed))
    return training_views.together(views)


def scaled(log_m200c) -> np.ndarray:
    """Masses [log10 Msun/h] from `LOG_M200C` to [-1, 1], float32; NaN, where no cluster is, to 0."""
    low, high = LOG_M200C
    return np.nan_to_num(2 * (np.asarray(log_m200c) - low) / (high - low) - 1).astype(np.float32)


def held_out(views: Views, network: int) -> np.ndarray:
    """Indices of the views that a network does not see."""
    return np.flatnonzero(views.fold // FOLDS_EACH == network % (catalogs.FOLDS // FOLDS_EACH))


def batches(views: Views, network: int, seed: int):
    """The function `draw` of `survey_network.train`, for the views that are not held out."""
    rng = np.random.default_rng([seed, network])
    rows = np.setdiff1d(np.arange(len(views)), held_out(views, network))

    def draw():
        chosen = rng.choice(rows, survey_network.BATCH, replace=False)
        seen = survey_effects.observe(views, chosen, int(rng.integers(2**31)))
        mirrored = rng.choice([-1.0, 1.0], len(seen))[seen.cluster_index]
        mass = views.log_m200c[seen.row]
        exists = np.isfinite(mass).astype(np.float32)
        weight = (seen.weight * exists).astype(np.float32)
        per_galaxy = (exists / seen.richness)[seen.cluster_index].astype(np.float32)
        return (
            survey_network.features(seen.v_los * mirrored, seen.r_proj), seen.cluster_index.astype(np.int32),
            seen.conditions, scaled(mass), weight, exists, seen.label.astype(np.int32), per_galaxy,
        )  # fmt: skip

    return draw


def train(views: Views, network: int, *, steps: int = STEPS, seed: int = 1, progress=None):
    """Train one network, which differs from others in its seed and in what it sees; its weights and loss history."""
    return survey_network.train(
        batches(views, network, seed), steps=steps, n_conditions=len(survey_effects.CONDITIONS),
        seed=1000 * seed + network, progress=progress,
    )  # fmt: skip


def abundances() -> np.ndarray:
    """ln of the halo mass function on `survey_calibration.GRID` at `survey_model.REDSHIFTS`; it needs colossus."""
    from cluster_tools.universe import synthetic

    sim = SIMULATIONS["mdpl2"]
    return np.log([
        synthetic.halo_mass_function(dataclasses.replace(sim, redshift=float(z)), survey_calibration.GRID)
        for z in survey_model.REDSHIFTS
    ])  # fmt: skip


def measure(model: SurveyModel, views: Views, *, repeats: int = 1, seed: int = 0) -> dict:
    """Calibration of each network on the clusters that it has not seen, all networks together.

    The result has ``calibration``, the rows of `survey_calibration.table`; ``abundance``, those under the halo mass
    function, with observations weighted by it; and ``presence``: in bins of the number of galaxies, its mean, the log
    odds that 1 and 5% of the clusters above 10^13.5 Msun/h stay below, the width [dex] of the 16 to 84% that 99% stay
    below, and the shares of uniform fields and of random places that `survey_estimate` gives a mass.
    """
    parts = []
    for network, weights in enumerate(model.weights):
        rows = np.tile(held_out(views, network), repeats)
        seen = survey_effects.observe(views, rows, [seed, network])
        seen.conditions[:, 0] = np.minimum(seen.conditions[:, 0], np.log10(survey_effects.MOST_TOLD / 50))
        answer = dataclasses.replace(model, weights=[weights]).answer(
            seen.v_los, seen.r_proj, seen.offsets, seen.conditions
        )
        columns = views.log_m200c[seen.row], views.is_uniform[seen.row], seen.richness, seen.field, seen.velocity_error
        parts.append((*columns, seen.weight, answer.log_odds, answer.log_likelihood))
    mass, uniform, count, field, error, weight, log_odds, log_likelihood = map(np.concatenate, zip(*parts))
    real = np.isfinite(mass)
    known = {"galaxies": count, "field [Mpc/h]": field, "velocity error [km/s]": error, "true log10 M200c": mass}
    known = {name: each[real] for name, each in known.items()}
    calibration = survey_calibration.table(log_likelihood[real], mass[real], weight[real], known)
    prior = model.log_abundance[0]
    frequent = weight[real] * np.exp(np.interp(mass[real], survey_calibration.GRID, prior - prior.max()))
    abundance = survey_calibration.table(log_likelihood[real] + prior, mass[real], frequent, known)
    presence, edges = [], survey_calibration.COUNTS
    width = np.diff(survey_calibration.quantiles(log_likelihood, (0.16, 0.84)))[:, 0]
    for first, last in zip(edges, edges[1:]):
        inside = (count >= first) & (count < last)
        if not (inside & (mass > 13.5)).any():
            continue
        usual = inside & (mass > 13.5)
        one, five = np.quantile(log_odds[usual], [0.01, 0.05])
        widest = np.quantile(width[usual], 0.99)
        kept = inside & (log_odds > np.where(width > widest, five, one))
        above = [float((kept & each).sum() / max((inside & each).sum(), 1)) for each in (uniform, ~real & ~uniform)]
        mean = float(np.exp(np.log(count[inside & real]).mean()))
        presence.append(
            {"n": mean, "one": one, "five": five, "widest": widest, "uniform": above[0], "random": above[1]}
        )
    return {"calibration": calibration, "abundance": abundance, "presence": presence}


def finish(weights, histories, views: Views, *, parameters: dict, inputs: dict, seed: int = 1) -> Path:
    """Measure trained networks, and make them those of the package; the file replaces the old one as a whole."""
    model = SurveyModel(list(weights), abundances(), store.stamp(parameters, folder="weighing", inputs=inputs))
    model.provenance.update(measure(model, views, seed=seed), history=list(histories))
    file = paths.PACKAGE_DATA / survey_model.FILE
    model.write(file)
    return file


def ship(
    directory: Path, *, networks: int = NETWORKS, steps: int = STEPS, seed: int = 1, progress=print, **boxes
) -> Path:
    """Train the survey estimator from boxes in `directory`, measure it, and make it that of the package.

    `boxes` are parameters of `views_of_boxes`. Returns the file.
    """
    views, started, trained = views_of_boxes(directory, seed=seed, progress=progress, **boxes), time.monotonic(), []

    def report(done: int, loss: float) -> None:
        share = (len(trained) + done / steps) / networks
        elapsed = time.monotonic() - started
        left = machine.duration(elapsed / share - elapsed)
        progress(f"network {len(trained) + 1} of {networks}, step {done} of {steps}: loss {loss:.3f}, {left} left")

    for network in range(networks):
        trained.append(train(views, network, steps=steps, seed=seed, progress=report))
    parameters = {"networks": networks, "steps": steps, "seed": seed, "views": len(views)}
    inputs = {name: store.file_digest(directory / f"{name}.h5") for name in SIMULATIONS}
    return finish(*zip(*trained), views, parameters=parameters, inputs=inputs, seed=seed)
