"""Training of the survey estimator: its boxes, views, networks, and calibration on held-out clusters.

``cluster-tools train-survey`` does it all and replaces the weights of the package (`survey_model`).
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from cluster_tools import machine, sky, store
from cluster_tools.cosmology import COMA_REDSHIFT, SIMULATIONS
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import catalogs
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT
from cluster_tools.networks import ensembles, survey_network
from cluster_tools.weighing import (
    galaxy_table,
    selection,
    survey_calibration,
    survey_effects,
    survey_model,
    training_views,
)
from cluster_tools.weighing.survey_model import SurveyModel
from cluster_tools.weighing.training_views import LOG_M200C, Views

FOLDS_EACH = 2  # of the ten folds, which a network does not see: the first 0 and 1, the second 2 and 3, and so on
LOG_M_HOST, MIN_LOG_MSTAR = 13.0, 9.0  # of the boxes: lighter than those of the book
EXTRA_HOSTS = 720  # heavy ones in each box, as in the book: those of the mass function are too few to learn from
VIEWS = 14_000  # clusters in each box
STEPS = 10_000  # batches for each network
NETWORKS = 4  # seeds
OBSERVED = 3  # times that each held-out view is observed to measure the calibration
TESTED = (0.022, 0.2, 0.4, 0.6)  # redshifts of boxes that test the scaling with E(z)
USUAL = (13.5, 15.2)  # log10 Msun/h of clusters whose presence is judged; heavier ones hardly exist


def box(path: Path, simulation: str, progress, **options):
    """The snapshot in the file `path`; if that is missing, it is drawn with `options` of `synthetic.synthetic`."""
    from cluster_tools.universe import snapshots, synthetic

    if not path.exists():
        progress(f"{path.name} is drawn, in some minutes")
        limits = {"log_m_host": LOG_M_HOST, "min_log_mstar": MIN_LOG_MSTAR, "extra_hosts": EXTRA_HOSTS}
        synthetic.synthetic(simulation, **limits, path=path, **options)
    return snapshots.open_snapshot(path)


def views_of_boxes(directory: Path, *, n: int = VIEWS, seed: int = 1, progress=print) -> Views:
    """Views of `n` clusters in each box of 1000 comoving Mpc/h in `directory`, and of n / 5 uniform fields."""
    views = []
    for name in SIMULATIONS:
        snapshot = box(directory / f"{name}.h5", name, progress, box_size=1000.0, seed=seed)
        views.append(training_views.observe(snapshot, n, seed=seed))
        progress(f"{name}: {len(views[-1])} views")
    views.append(training_views.uniform(n // 5, views[0], seed=seed))
    return training_views.together(views)


def held_out(views: Views, network: int) -> np.ndarray:
    """Indices of the views that a network does not see."""
    return np.flatnonzero(views.fold // FOLDS_EACH == network % (catalogs.FOLDS // FOLDS_EACH))


def batches(views: Views, network: int, seed: int):
    """The function `draw` of `survey_network.train`, for the views that are not held out."""
    rows = np.setdiff1d(np.arange(len(views)), held_out(views, network))

    def draw(number: int):
        rng = np.random.default_rng([seed, network, number])
        chosen = rng.choice(rows, survey_network.BATCH, replace=False)
        seen = survey_effects.observe(views, chosen, int(rng.integers(2**31)))
        mirrored = rng.choice([-1.0, 1.0], len(seen))[seen.cluster_index]
        mass = views.log_m200c[seen.row]
        exists = np.isfinite(mass).astype(np.float32)
        scaled = np.nan_to_num(ensembles.scaled(mass, LOG_M200C)[:, 0])
        weight = (seen.weight * exists).astype(np.float32)
        per_galaxy = (exists / seen.richness)[seen.cluster_index].astype(np.float32)
        return (
            survey_network.features(seen.v_los * mirrored, seen.r_proj), seen.cluster_index.astype(np.int32),
            seen.conditions, scaled, weight, exists, seen.label.astype(np.int32), per_galaxy,
        )  # fmt: skip

    return draw


def abundances() -> np.ndarray:
    """ln of the halo mass function on `survey_calibration.GRID` at `survey_model.REDSHIFTS`; it needs colossus."""
    from cluster_tools.universe import synthetic

    sim = SIMULATIONS["mdpl2"]
    return np.log([
        synthetic.halo_mass_function(dataclasses.replace(sim, redshift=float(z)), survey_calibration.GRID)
        for z in survey_model.REDSHIFTS
    ])  # fmt: skip


def measure(model: SurveyModel, views: Views, *, seed: int = 0) -> dict:
    """Calibration of each network on the clusters that it has not seen, all networks together.

    The result has ``calibration``, the rows of `survey_calibration.table`; ``abundance``, those under the halo mass
    function, with observations weighted by it; ``presence`` (`presence`), with names that end in ``_found`` for
    clusters whose centre and redshift are found in their table (`where_found`); ``labels``, the coefficients of
    `survey_calibration.recalibrated`; and ``memberships``, recalibrated by the other half of the networks.
    """
    clusters, galaxies, found = [], [], []
    raw = {name: each for name, each in model.provenance.items() if name != "labels"}
    for network, weights in enumerate(model.weights):
        alone = dataclasses.replace(model, weights=[weights], provenance=raw)
        seen, answer = _answers(alone, views, np.tile(held_out(views, network), OBSERVED), [seed, network])
        known = _known(views, seen)
        mass = known["true log10 M200c"]
        found.append(where_found(alone, seen, mass, [seed, network]))
        of_view = {"uniform": views.is_uniform[seen.row], "cluster": seen.row + len(views) * network}
        clusters.append({**known, **vars(answer), **of_view, "weight": seen.weight})
        median = survey_calibration.quantiles(answer.log_likelihood, (0.5,))[:, 0]
        of_cluster = (median, seen.weight / seen.richness, of_view["cluster"], np.isfinite(mass))
        median, weight, cluster, real = (each[seen.cluster_index] for each in of_cluster)
        galaxies.append([each[real] for each in (answer.labels, median, seen.label, weight, cluster)])
    every = {name: np.concatenate([each[name] for each in clusters]) for name in clusters[0]}
    mass, weight, log_likelihood = every["true log10 M200c"], every["weight"], every["log_likelihood"]
    real = np.isfinite(mass)
    known, cluster = {name: every[name][real] for name in known}, every["cluster"][real]
    prior = model.log_abundance[0]
    frequent = weight[real] * np.exp(np.interp(mass[real], survey_calibration.GRID, prior - prior.max()))
    halves = [[np.concatenate(each) for each in zip(*galaxies[half::2])] for half in (0, 1)]
    fits = [survey_calibration.fit_labels(*half[:4]) for half in halves]
    tested = [survey_calibration.recalibrated(*half[:2], fit) for half, fit in zip(halves, fits[::-1], strict=True)]
    given = presence(mass, every["uniform"], every["galaxies"], every["log_odds"])
    centred = presence(*map(np.concatenate, zip(*found)), found=True)
    rows = [
        row | {f"{name}_found": each[name] for name in each if name not in ("n", "random")}
        for row, each in zip(given, centred, strict=True)
    ]
    return {
        "calibration": survey_calibration.table(log_likelihood[real], weight[real], known, cluster),
        "abundance": survey_calibration.table(log_likelihood[real] + prior, frequent, known, cluster),
        "presence": rows,
        "labels": np.mean(fits, axis=0).tolist(),
        "memberships": survey_calibration.memberships(*map(np.concatenate, (tested, *list(zip(*halves))[2:]))),
    }


def _known(views: Views, seen: survey_effects.Observations) -> dict[str, np.ndarray]:
    """Values by the names of `survey_calibration.BINS`, and "is_complete"."""
    mass = views.log_m200c[seen.row]
    values = (seen.richness, seen.field, seen.velocity_error, mass, mass)
    return dict(zip(survey_calibration.BINS, values)) | {"is_complete": seen.conditions[:, -1]}


def where_found(model: SurveyModel, seen: survey_effects.Observations, log_m200c, seed, *, n: int = 2000) -> tuple:
    """Log odds of a cluster where centre and redshift must be found: the densest place of any field resembles one.

    `n` of the observed clusters, with position angles at random, and as many uniform fields, wider and deeper than the
    cylinder, are put on the sky and their centres found. Returns the parameters of `presence`: masses, whether the
    field is uniform, numbers of galaxies, log odds.
    """
    rng, rows = np.random.default_rng(seed), []
    place = {"centre_ra": 150.0, "centre_dec": 20.0, "redshift": COMA_REDSHIFT}
    chosen = rng.choice(np.flatnonzero(log_m200c > USUAL[0]), n)
    for number in range(2 * n):
        if number < n:
            i, error = chosen[number], seen.velocity_error[chosen[number]]
            mass, v_los, r_proj = log_m200c[i], seen.v_los[seen.slice(i)], seen.r_proj[seen.slice(i)]
        else:
            wide, fastest, error = rng.uniform(1, 1.5), rng.uniform(VELOCITY_CUT, 2 * VELOCITY_CUT), rng.uniform(0, 100)
            count = int(np.exp(rng.uniform(np.log(10), np.log(600))) * wide**2 * fastest / VELOCITY_CUT)
            v_los, r_proj = rng.uniform(-fastest, fastest, count), APERTURE * wide * np.sqrt(rng.random(count))
            mass = np.nan
        ra, dec, z = sky.positions(v_los, r_proj, **place, seed=number)
        galaxies = galaxy_table.read({"ra": ra, "dec": dec, "z": z})
        with suppress(ClusterToolsError):  # too few galaxies
            found = selection.select_galaxies(galaxies, name="", fewest=survey_effects.FEWEST_GALAXIES)
            count, field = len(found.v_los), max(found.field, survey_effects.SMALLEST_FIELD)
            told = survey_effects.told(count, field, error, None)
            answer = model.answer(found.v_los, found.r_proj, [0, count], told)
            rows.append((mass, number >= n, count, answer.log_odds[0]))
    mass, uniform, count, log_odds = np.array(rows).T
    return mass, uniform.astype(bool), count, log_odds


def presence(log_m200c, is_uniform, count, log_odds, *, found: bool = False) -> list[dict]:
    """Odds with which clusters stand out from the field, in bins of the number of galaxies.

    Observations (n,) have true masses [log10 Msun/h], NaN where no cluster is, in a field that is uniform or a random
    place of a box, numbers of galaxies, and log odds of a cluster. `found` says that centres were not given.

    A row has ``n``, the mean number; ``faint``, the 5% quantile of the log odds of `USUAL` clusters; ``least``, below
    which no mass is given: their 2% quantile, or halfway from it to the 99% quantile of uniform fields, if that is
    lower; and the shares of uniform fields, random places, usual and ``heavier`` clusters above ``least``. Where
    centres are found, ``least`` is so high that at most 4% of uniform fields pass, if 95% of the usual clusters do.
    """
    rows, edges, low, high = [], survey_calibration.COUNTS, *USUAL
    places = {"uniform": is_uniform, "random": np.isnan(log_m200c) & ~is_uniform}
    places |= {"usual": (log_m200c > low) & (log_m200c < high), "heavier": log_m200c >= high}
    for first, last in zip(edges, edges[1:]):
        inside = (count >= first) & (count < last)
        usual = inside & places["usual"]
        if not usual.any():
            continue
        least, faint = np.quantile(log_odds[usual], [0.02, 0.05])
        if (inside & is_uniform).sum() > 20:
            clear, clearest = np.quantile(log_odds[inside & is_uniform], [0.96, 0.99])
            least = min(least, (least + clearest) / 2)
            if found and (log_odds[usual] >= clear).mean() >= 0.95:
                least = max(least, clear)
        above = {
            name: float((log_odds[inside & each] >= least).mean()) if (inside & each).any() else np.nan
            for name, each in places.items()
        }
        mean = float(np.exp(np.log(count[usual]).mean()))
        rows.append({"n": mean, "least": float(least), "faint": float(faint)} | above)
    return rows


def measure_redshifts(directory: Path, *, n: int = 3000, seed: int = 1, progress=print) -> Path:
    """Calibration of the package's networks at the redshifts `TESTED`, put into their file, which is returned.

    Mock observations are brought to Coma's redshift as by `weigh`. Boxes of 700 Mpc/h, whose haloes no network has
    seen, are drawn in `directory` where they are missing; `n` clusters of each are observed twice. Each row of
    ``redshifts`` is the first of `survey_calibration.table` with its ``redshift``, and the share of the `USUAL`
    clusters that get a mass, ``usual``.
    """
    model, rows, (low, high) = SurveyModel.load(), [], USUAL
    for redshift in TESTED:
        path = directory / f"mdpl2_z{redshift:g}.h5"
        snapshot = box(path, "mdpl2", progress, box_size=700.0, seed=seed, redshift=redshift)
        views = training_views.observe(snapshot, n, empty=0, redshift=redshift, seed=seed)
        shift = training_views.mass_shift(redshift)
        seen, answer = _answers(model, views, np.tile(np.arange(n), 2), seed, shift)
        known = _known(views, seen)
        mass = known["true log10 M200c"]
        table = survey_calibration.table(answer.log_likelihood, seen.weight, known, seen.row)
        stands_out = (answer.log_odds >= model.usual(seen.richness)[0])[(mass > low) & (mass < high)]
        rows.append({"redshift": redshift, **table[0], "usual": float(stands_out.mean())})
        progress(f"z = {redshift:g}: {rows[-1]['covers_68']:.3f} of the masses in the 68% intervals")
    model.provenance["redshifts"] = rows
    return model.write()


def _answers(model: SurveyModel, views: Views, rows, seed, shift: float = 0.0):
    """Views observed at random, and what the model answers when it is told as much as by `survey_effects.told`."""
    seen = survey_effects.observe(views, rows, seed)
    seen.conditions[:, 0] = np.log10(survey_effects.told_count(seen.richness, seen.conditions[:, -1] == 1, shift) / 50)
    return seen, model.answer(seen.v_los, seen.r_proj, seen.offsets, seen.conditions)


def ship(
    directory: Path, *, networks: int = NETWORKS, steps: int = STEPS, seed: int = 1, progress=print, **boxes
) -> Path:
    """Train the survey estimator from boxes in `directory`, measure it, and make it that of the package.

    Networks differ in their seeds and in the views that they see. `boxes` are parameters of `views_of_boxes`. Returns
    the file, which replaces the old one as a whole.
    """
    views, started, trained = views_of_boxes(directory, seed=seed, progress=progress, **boxes), time.monotonic(), []

    def report(done: int, loss: float) -> None:
        share = (len(trained) + done / steps) / networks
        elapsed = time.monotonic() - started
        left = machine.duration(elapsed / share - elapsed)
        progress(f"network {len(trained) + 1} of {networks}, step {done} of {steps}: loss {loss:.3f}, {left} left")

    for network in range(networks):
        trained.append(survey_network.train(
            batches(views, network, seed), steps=steps, n_conditions=len(survey_effects.CONDITIONS),
            seed=1000 * seed + network, progress=report,
        ))  # fmt: skip
    parameters = {"networks": networks, "steps": steps, "seed": seed, "views": len(views)}
    inputs = {name: store.file_digest(directory / f"{name}.h5") for name in SIMULATIONS}
    weights, histories = map(list, zip(*trained))
    model = SurveyModel(weights, abundances(), store.stamp(parameters, folder="weighing", inputs=inputs))
    model.provenance.update(measure(model, views, seed=seed), history=histories)
    return model.write()
