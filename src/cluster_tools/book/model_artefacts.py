"""Artefacts of the models: networks, their predictions, and the masses of Coma; see `book.artefacts`."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from cluster_tools import arrays, cosmology, hdf5, paths, store
from cluster_tools.book import artefacts
from cluster_tools.coma import survey
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import table1, validation
from cluster_tools.networks import cnn, deep_sets, ensembles, training
from cluster_tools.networks.models import PAPER_MODELS, model_name
from cluster_tools.ragged import ClusterGalaxies

RANGES = {
    "folds": (1, 10), "networks_per_fold": (1, 10**6), "epochs": (1, 10**6), "seed": (0, 10**6),
    "batch_size": (1, 10**6), "dropout_rate": (0, 0.99), "peak_learning_rate": (0, 0.1),
}  # fmt: skip
LAYERS = ("filters", "kernel_widths", "units", "dropout_rate")  # those of networks of images
COMA_FORMAT = "cluster_tools posteriors of Coma 1"
PREDICTION_PARAMETERS = ("draws", "max_test")  # those of the training chapter that networks do not depend on


def reference_r_proj(coma_sample: str | None) -> np.ndarray | None:
    """Coma's radii [comoving Mpc/h] to which mock clusters are re-weighted; None, for a plain model, gives None."""
    return None if coma_sample is None else survey.load_sample(coma_sample)["r_proj"].value


def _model(profile: str, simulation: str, input_dim: int | str, reweighted: bool) -> SimpleNamespace:
    """A model's parameters, name, chapter, run, training and ensemble, and the parameters that its artefacts carry."""
    cosmology.simulation(simulation)
    if input_dim not in (1, 2, "sets", "counted"):
        raise ClusterToolsError(f"input_dim is {input_dim!r}, but 1, 2, 'sets' or 'counted' is expected.")
    if reweighted not in (True, False):
        raise ClusterToolsError(f"reweighted is {reweighted!r}, but True or False is expected.")
    of_sets = isinstance(input_dim, str)
    which = dict(zip(table1.MODEL, (simulation, input_dim if of_sets else int(input_dim), bool(reweighted))))
    name, chapter = model_name(**which), "past_the_paper" if of_sets else "training"
    expected = which | artefacts.section(profile, chapter)
    if not reweighted:
        del expected["coma_sample"]
    return SimpleNamespace(
        which=which, name=name, chapter=chapter, expected=expected,
        run="12_past_the_paper" if of_sets else f"04_training_{name}",
        train=deep_sets.train if of_sets else training.train,
        ensemble=deep_sets.SetEnsemble if of_sets else ensembles.CNNEnsemble,
    )  # fmt: skip


def ensemble(
    profile: str, *, simulation: str, input_dim: int | str, reweighted: bool, progress: Callable | None = None,
    **parameters,
):  # fmt: skip
    """The networks of one model, of chapter 04 or 12: loaded if they were trained before, else trained.

    `simulation`, `input_dim` and `reweighted` name one of the paper's models; `input_dim` "sets" and "counted" name
    networks of galaxies. `parameters` are folds (1 to 10 left out in turn), networks_per_fold, epochs, batch_size,
    seed, and coma_sample, whose radii a re-weighted model is matched to; for images also peak_learning_rate, filters,
    kernel_widths, units and dropout_rate. `progress` is called with a line of text after each epoch. An ensemble with
    other numbers of folds or networks takes over the networks that it shares with the profile's.

    Returns an `ensembles.CNNEnsemble` or a `deep_sets.SetEnsemble`. Raises `ClusterToolsError` for parameters that no
    network can be trained with, and for a catalogue that is missing or has other parameters.
    """
    model = _model(profile, simulation, input_dim, reweighted)
    _check_training(parameters)
    catalog = artefacts.load_catalog(profile, simulation)
    sample, inputs, radii = parameters.pop("coma_sample"), {"catalog": catalog.provenance["key"]}, None
    if reweighted:  # a plain model does not depend on the sample
        parameters["coma_sample"] = artefacts.chosen_sample(sample)
        radii = reference_r_proj(parameters["coma_sample"])
        inputs["coma_r_proj"] = store.digest(np.asarray(radii).tobytes())
    path = artefacts.location(profile, model.chapter, f"networks/{model.name}", parameters)
    book = paths.results(profile) / f"networks/{model.name}"
    stamp = store.stamp({**model.which, **parameters}, folder="networks", inputs=inputs)

    def make():
        optional = ("epochs", "batch_size", "peak_learning_rate")
        settings = {name: parameters[name] for name in optional if name in parameters}
        if model.chapter == "training":
            settings["architecture"] = cnn.Architecture(input_dim, **{name: parameters[name] for name in LAYERS})
        flat = catalog.select(catalog.in_train)
        observed = validation.observables(flat, input_dim, radii)
        folds = np.repeat(np.arange(parameters["folds"]), parameters["networks_per_fold"]).tolist()
        epochs, started, networks = parameters["epochs"], time.monotonic(), []
        known = {} if path == book else _known_networks(model, book, stamp)

        def report(epoch: int, loss: float) -> None:
            elapsed, share = time.monotonic() - started, (len(networks) + epoch / epochs) / len(folds)
            line = f"network {len(networks) + 1} of {len(folds)}, epoch {epoch} of {epochs}: loss {loss:.3f}"
            if progress:
                progress(f"{line}, {elapsed:.0f} s, about {elapsed / share - elapsed:.0f} s left")

        for i, fold in enumerate(folds):
            held_out, seed = flat.fold == fold, 1000 * parameters["seed"] + i
            networks.append(known.get((fold, seed)) or model.train(
                observed[~held_out], flat.log_m200c[~held_out], observed[held_out], flat.log_m200c[held_out],
                log_m200c_range=catalog.log_m200c_range, fold=fold, seed=seed, progress=report, **settings,
            ))  # fmt: skip
        seconds = round(time.monotonic() - started, 1)
        measured = {"seconds": seconds, "training_rows": int((~held_out).sum()), "device": cnn.device()}
        trained = model.ensemble(networks, catalog.log_m200c_range, stamp | measured)
        trained.save(path)
        return trained

    return artefacts.load_or_make(path, stamp, model.ensemble.load, make)


def _known_networks(model: SimpleNamespace, book: Path, stamp: dict) -> dict:
    """Networks of the ensemble `book` by (fold, seed), if their training differs in no more than their number."""
    try:
        trained = model.ensemble.load(book)
    except ClusterToolsError:
        return {}
    made, sizes = trained.provenance, {name: stamp["parameters"][name] for name in ("folds", "networks_per_fold")}
    made = {**made, "parameters": made["parameters"] | sizes}
    alike = all(made.get(name) == stamp[name] for name in ("parameters", "inputs", "code"))
    return {(network.fold, network.seed): network for network in trained.networks} if alike else {}


def load_ensemble(profile: str, **which):
    """The profile's networks of the model `which` (simulation, input_dim, reweighted); errors: `artefacts.load`."""
    model = _model(profile, **which)
    expected = {name: value for name, value in model.expected.items() if name not in PREDICTION_PARAMETERS}
    return artefacts.load(profile, f"networks/{model.name}/ensemble.json", model.run, model.ensemble.load, expected)


def training_table(profile: str) -> pd.DataFrame:
    """Training of the paper's eight models, a row for each; losses are means of its networks after the last epoch.

    Seconds are those of all its networks; errors are those of `load_ensemble`.
    """
    lines = []
    for model in PAPER_MODELS:
        trained = load_ensemble(profile, **model)
        made, networks = trained.provenance, trained.networks
        last = {key: np.mean([network.history[key][-1] for network in networks]) for key in ("loss", "val_loss")}
        lines.append({
            "model": table1.title(model), "networks": len(networks), "parameters": networks[0].count_params(),
            "observations": made["training_rows"], "epochs": made["parameters"]["epochs"], "seconds": made["seconds"],
            "loss": last["loss"], "held-out loss": last["val_loss"],
        })  # fmt: skip
    return pd.DataFrame(lines)


def predictions(profile: str, networks, *, draws: int, max_test: int | None, heavy: bool = False):
    """Predictions of a model for both test sets: loaded if they were drawn before, else drawn.

    `networks` come from `ensemble`; `draws` are made with each, for at most `max_test` clusters of each simulation
    (None: all). With `heavy`, they are for held-out heavy clusters of its own simulation, in a file of their own; see
    `validation.predict`. Returns `validation.Predictions`.
    """
    trained = networks.provenance["parameters"]
    model, own = _model(profile, *(trained[name] for name in table1.MODEL)), trained["simulation"]
    parameters = {**trained, "draws": draws, "max_test": max_test}
    path = artefacts.location(profile, model.chapter, _prediction_file(model.name, heavy), parameters)
    names = (own,) if heavy else (own, cosmology.other(own))
    catalogs = {name: artefacts.load_catalog(profile, name) for name in names}
    inputs = {"networks": networks.provenance["key"]} | {name: c.provenance["key"] for name, c in catalogs.items()}
    stamp = store.stamp(parameters, folder="inference", inputs=inputs)

    def make():
        drawn = validation.predict(
            networks, catalogs, heavy=heavy, reference_r_proj=reference_r_proj(trained.get("coma_sample")),
            draws=draws, max_test=max_test, seed=trained["seed"],
        )  # fmt: skip
        drawn.provenance.update(stamp)
        drawn.write(path)
        return drawn

    return artefacts.load_or_make(path, stamp, validation.Predictions.read, make)


def _prediction_file(name: str, heavy: bool) -> str:
    return f"predictions/{name}{'_heavy' * heavy}.h5"


def load_predictions(profile: str, *, heavy: bool = False, **which):
    """The profile's `predictions` of the model `which` (see `load_ensemble`); errors as of `artefacts.load`."""
    model = _model(profile, **which)
    file = _prediction_file(model.name, heavy)
    return artefacts.load(profile, file, model.run, validation.Predictions.read, model.expected)


def coma_posterior(networks, sample, *, draws: int, seed: int) -> table1.ComaPosterior:
    """Coma's mass by the networks of one model, as `table1.ComaPosterior`.

    `sample` is a table of `survey.load_sample`; `draws` are made with each network. A re-weighted model sees the sample
    with the radial profile that it was trained for; in the very sample that it was matched to, all weights are 1.
    """
    model = networks.provenance["parameters"]
    galaxies = ClusterGalaxies(
        v_los=sample["v_los"].value, r_proj=sample["r_proj"].value, offsets=np.array([0, len(sample)])
    )
    observed = validation.observables(galaxies, networks.input_dim, reference_r_proj(model.get("coma_sample")))
    posterior = networks.posterior(observed, draws=draws, seed=seed)
    which = (model[name] for name in table1.MODEL)
    return table1.ComaPosterior(*which, float(posterior.mean[0]), float(posterior.sigma[0]), posterior.samples[0])


def write_coma(
    profile: str, posteriors: list[table1.ComaPosterior], validated: pd.DataFrame, parameters: dict
) -> pd.DataFrame:
    """Write ``table1.csv`` and ``coma_posteriors.h5`` of chapter 08, and return the table.

    There is one of `posteriors` for each row of `validated`, chapter 05's ``validation.csv``. `parameters` are chapter
    08's, or its ``globals()``; files of other parameters than the profile's are kept apart.
    """
    masses = pd.DataFrame(map(vars, posteriors)).drop(columns="samples")
    masses = masses.rename(columns={"mean": "coma_mean", "sigma": "coma_sigma"})
    table = validated.merge(masses, on=table1.MODEL, how="left", validate="one_to_one")
    path = artefacts.location(profile, "coma_mass", "coma_posteriors.h5", parameters)
    named = {model_name(p.simulation, p.input_dim, p.reweighted): p for p in posteriors}
    samples = {name: store.digest(np.ascontiguousarray(p.samples).tobytes()) for name, p in named.items()}
    stamp = store.stamp(artefacts.given(profile, "coma_mass", parameters), folder="coma", inputs=samples)
    with hdf5.create(path, COMA_FORMAT, stamp) as file:
        for name, p in named.items():
            dataset = file.create_dataset(name, data=p.samples, **hdf5.CHECKED)
            dataset.attrs.update(mean=p.mean, sigma=p.sigma, unit=np.bytes_("log10 Msun/h"))
    # The rows in the order of the paper's table, and last the M-sigma relation.
    keys = table["input_dim"], table["simulation"] == "mdpl2", table["reweighted"], table["input_dim"] == 0
    table = table.iloc[np.lexsort(keys)].reset_index(drop=True)
    artefacts.write_table(profile, "coma_mass", "table1.csv", table, parameters)
    return table


def _check_training(parameters: dict) -> None:
    """Refuse parameters that no network can be trained with. Networks of sets have fewer of them."""
    for name, (low, high) in RANGES.items():
        arrays.check_number(name, parameters.get(name, low), low, high, whole=isinstance(high, int))
    for name in ("filters", "kernel_widths", "units"):
        value = parameters.get(name, [1])
        if not isinstance(value, list | tuple) or any(not isinstance(n, int) or not 1 <= n <= 4096 for n in value):
            raise ClusterToolsError(f"{name} is {value!r}, but a list of whole numbers from 1 to 4096 is expected.")
    filters, widths = (parameters.get(name, []) for name in ("filters", "kernel_widths"))
    if len(filters) != len(widths) or any(width % 2 == 0 or width > 47 for width in widths):
        expected = f"{len(filters)} odd numbers up to 47, one for each of filters"
        raise ClusterToolsError(f"kernel_widths is {list(widths)!r}, but {expected}, are expected.")
