"""Artefacts by their parameters: what a chapter makes, and what it reads of other chapters.

Each function here finds the file that belongs to a profile and a set of parameters. A chapter
that makes an artefact loads it instead if it is there already, made by the same code from the
same things. A chapter that reads one is told plainly when it is missing, or was made with other
parameters than its profile has, and by which command it is made.

Parameters that differ from the profile's get a file of their own, ``<name>@<digest>``, so that
an experiment with one chapter never replaces what the book is made of.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools import hdf5, paths, store
from cluster_tools.book.profiles import NOT_IN_RESULTS, profile_parameters
from cluster_tools.cosmology import MIN_LOG_MSTAR, SIMULATIONS, other, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.networks.models import model_name

if TYPE_CHECKING:
    import pandas as pd

    from cluster_tools.inference.table1 import ComaPosterior

COMA_FORMAT = "cluster_tools posteriors of Coma 1"


def _kind(input_dim: int | str) -> SimpleNamespace:
    """Training function and ensemble of networks of images (1, 2) or galaxies ("sets", "counted"); their chapter."""
    from cluster_tools.networks import deep_sets, ensembles, training

    if isinstance(input_dim, str):
        return SimpleNamespace(train=deep_sets.train, ensemble=deep_sets.SetEnsemble, chapter="past_the_paper")
    return SimpleNamespace(train=training.train, ensemble=ensembles.CNNEnsemble, chapter="training")


def _training_run(which: dict) -> str:
    """The run that trains a model."""
    return "12_past_the_paper" if isinstance(which["input_dim"], str) else f"04_training_{model_name(**which)}"


def chosen_sample(coma_sample: str | None) -> str:
    """The sample that a chapter's `coma_sample` means: None is ``CLUSTER_TOOLS_COMA_SAMPLE``, or "desi".

    A table is named by its full path, so that one table has one name in every working directory.
    """
    from cluster_tools.coma import survey

    sample = survey.default_sample() if coma_sample is None else str(coma_sample)
    if sample not in ("desi", "sdss"):
        for path in (Path(sample).expanduser(), paths.project_root() / sample):
            if path.is_file():
                return str(path.resolve())
    return sample


def location(profile: str, chapter: str, file: str, parameters: dict) -> Path:
    """Where the artefact of a chapter with these parameters lies.

    ``results/<profile>/<file>``, with ``@<digest>`` before the suffix if a parameter differs from
    the one that the profile has for that chapter.
    """
    changed = differences(profile, chapter, parameters)
    path = paths.results(profile) / file
    return path.with_name(f"{path.stem}@{store.digest(changed)[:8]}{path.suffix}") if changed else path


def differences(profile: str, chapter: str, parameters: dict) -> dict:
    """Those of a chapter's parameters that differ from the profile's, with their values."""
    section = _section(profile, chapter)
    return {name: value for name, value in parameters.items() if name in section and section[name] != value}


def snapshot(
    profile: str, name: str, *, source: str = "synthetic", path: str | None = None, box_size: float | None = None,
    seed: int = 0, min_log_mstar: float = MIN_LOG_MSTAR, progress=None,
):  # fmt: skip
    """A simulation's box, its galaxies in a file: opened if it was made before, else made.

    Parameters
    ----------
    profile : of the run, such as "smoke"
    name : of the simulation
    source : "synthetic", or one of `simulation_files.SOURCES`
    path : the directory of a real simulation's files
    box_size, seed : of a synthetic box, in Mpc/h (None: the simulation's own)
    min_log_mstar : lowest log10 stellar mass of galaxies [Msun, no h]
    progress : called with a line of text now and then

    Returns
    -------
    `snapshots.Snapshot`
    """
    from cluster_tools.universe import snapshots

    box = {"source": source, "path": path, "box_size": box_size, "seed": seed, "min_log_mstar": min_log_mstar}
    provenance = _snapshot_stamp(name, box)
    file = _snapshot_path(profile, name, box)
    found = _made_before(snapshots.open_snapshot, file, provenance)
    if found is not None:
        return found
    started = time.monotonic()
    with store.atomic(file) as temporary:
        made = _make_snapshot(name, box, temporary, progress)
        made.position.file.close()
        seconds = round(time.monotonic() - started, 1)
        snapshots.stamp(temporary, {**provenance, "seconds": seconds})
    made = snapshots.open_snapshot(file)
    if progress:
        progress(f"{len(made.position):,} galaxies in the box after {seconds:.0f} s")
    return made


def _snapshot_path(profile: str, name: str, box: dict) -> Path:
    """``snapshots/<name>.h5`` for the profile's box; with a digest in its name for any other."""
    own = box_parameters(_section(profile, "mock_catalogues"))
    path = paths.results(profile) / f"snapshots/{simulation(name).name}.h5"
    identity = _snapshot_identity(name, box) | ({} if box["source"] == "synthetic" else {"path": box["path"]})
    own_identity = _snapshot_identity(name, own) | ({} if own["source"] == "synthetic" else {"path": own["path"]})
    return path if identity == own_identity else path.with_name(f"{name}@{store.digest(identity)[:8]}.h5")


def _snapshot_stamp(name: str, box: dict) -> dict:
    """The stamp of a box of these parameters, those left out that make no difference to it."""
    from cluster_tools.universe import simulation_files

    inputs = simulation_files.content(name, box["source"], box["path"])
    return store.stamp(_snapshot_identity(name, box), folder="universe", inputs=inputs)


def _snapshot_identity(name: str, box: dict) -> dict:
    names = ("source", "min_log_mstar", *(("box_size", "seed") if box["source"] == "synthetic" else ()))
    return {"simulation": simulation(name).name, **{each: box[each] for each in names}}


def _make_snapshot(name: str, box: dict, file: Path, progress):
    cut = box["min_log_mstar"]
    if box["source"] == "synthetic":
        from cluster_tools.universe import synthetic

        report = _now_and_then(progress, "layers of the box filled with galaxies")
        return synthetic.synthetic(
            name, box_size=box["box_size"], seed=box["seed"], min_log_mstar=cut, path=file, progress=report
        )
    from cluster_tools.universe import universe_machine

    return universe_machine.read(name, box["source"], box["path"], min_log_mstar=cut, file=file, progress=progress)


def mock_catalog(
    profile: str, name: str, *, memory: float = 4.0, scheduler: str | None = None, progress=None, **parameters
):
    """Chapter 01's catalogue of one simulation: loaded if it was made before, else made.

    Parameters
    ----------
    profile : of the run, such as "smoke"
    name : of the simulation
    memory, scheduler : GiB, and address of a Dask scheduler, for `observe.observe`; the catalogue is the same
    progress : called with a line of text now and then
    parameters : rows_per_dex, galaxies, min_log_mstar, seed; and source, path, box_size of the `snapshot`

    Returns
    -------
    `catalogs.MockCatalog`
    """
    from cluster_tools.mocks import catalogs

    parameters = {"source": "synthetic", "path": None, "min_log_mstar": MIN_LOG_MSTAR, **parameters}
    path = location(profile, "mock_catalogues", f"catalogs/{name}.h5", parameters)
    box = box_parameters(parameters)
    identity = {"simulation": simulation(name).name, **parameters}
    inputs = {"snapshot": _snapshot_stamp(name, box)["key"]}
    provenance = store.stamp(identity, folder="mocks", inputs=inputs)
    found = _made_before(catalogs.MockCatalog.read, path, provenance)
    if found is not None:
        return found
    started = time.monotonic()
    seen = snapshot(profile, name, **box, progress=progress)
    catalog = catalogs.build(
        seen, **{each: parameters[each] for each in ("rows_per_dex", "galaxies", "min_log_mstar", "seed")},
        memory=memory, scheduler=scheduler, progress=_now_and_then(progress, "slabs of the box observed"),
    )  # fmt: skip
    catalog.provenance.update(provenance, seconds=round(time.monotonic() - started, 1), box_size=seen.box_size)
    catalog.provenance["counts"] = seen.provenance.get("counts", {})
    catalog.write(path)
    return catalog


def box_parameters(parameters: dict) -> dict:
    """Those of chapter 01's parameters that `snapshot` takes. One box serves all cuts above its own."""
    box = {name: parameters[name] for name in ("source", "path", "box_size", "seed")}
    return {**box, "min_log_mstar": min(parameters["min_log_mstar"], MIN_LOG_MSTAR)}


def _now_and_then(progress, what: str, seconds: float = 15.0):
    """A callback for (done, in all) that tells `progress` so, with an estimate, every so many seconds."""
    if progress is None:
        return None
    started = last = time.monotonic()

    def report(done: float, total: float) -> None:
        nonlocal last
        now = time.monotonic()
        if done and (now - last > seconds):
            last, left = now, (now - started) * (total / done - 1)
            progress(f"{done / total:.0%} of the {what} after {now - started:.0f} s, about {left:.0f} s left")

    return report


def load_snapshot(profile: str, name: str):
    """The profile's box of one simulation, which chapter 01 made."""
    from cluster_tools.universe import snapshots

    box = box_parameters(_section(profile, "mock_catalogues"))
    path = paths.results(profile) / f"snapshots/{simulation(name).name}.h5"
    remedy = _remedy(profile, f"01_mock_catalogues_{name}")
    _require(path, remedy)
    found = snapshots.open_snapshot(path)
    expected = _snapshot_identity(name, box)
    store.check_parameters(path, found.provenance.get("parameters", {}), expected, remedy)
    return found


def load_catalog(profile: str, name: str):
    """The profile's catalogue of one simulation, which chapter 01 made."""
    from cluster_tools.mocks import catalogs

    path = paths.results(profile) / f"catalogs/{simulation(name).name}.h5"
    remedy = _remedy(profile, f"01_mock_catalogues_{name}")
    _require(path, remedy)
    catalog = catalogs.MockCatalog.read(path)
    expected = {"simulation": name, **_section(profile, "mock_catalogues")}
    store.check_parameters(path, catalog.provenance.get("parameters", {}), expected, remedy)
    return catalog


def reference_r_proj(coma_sample: str | None):
    """Coma's radii [Mpc/h] that a re-weighted model is matched to; None, as of a plain model, for None."""
    from cluster_tools.coma import survey

    return None if coma_sample is None else survey.load_sample(coma_sample)["r_proj"].value


def ensemble(profile: str, *, simulation: str, input_dim: int | str, reweighted: bool, progress=None, **parameters):
    """The networks of one model, of chapter 04 or 12: loaded if they were trained before, else trained.

    Parameters
    ----------
    profile : str
        Profile of the run, such as "smoke".
    simulation, input_dim, reweighted
        One of the eight models of the paper; or `input_dim` "sets" or "counted".
    progress : callable, optional
        Called with a line of text after each epoch.
    **parameters
        folds (1 to 10 left out in turn), networks_per_fold, epochs, batch_size, seed, and coma_sample, whose radii a
        re-weighted model is matched to; for images also peak_learning_rate, filters, kernel_widths, units and
        dropout_rate.

    Returns
    -------
    ensembles.CNNEnsemble or deep_sets.SetEnsemble

    Raises
    ------
    ClusterToolsError
        For parameters that no network can be trained with, and a catalogue that is missing or of other parameters.
    """
    from cluster_tools.inference import validation
    from cluster_tools.networks import cnn

    which = _which(simulation, input_dim, reweighted)
    kind = _kind(input_dim)
    _check_training(parameters)
    catalog = load_catalog(profile, simulation)
    coma_sample = parameters.pop("coma_sample")
    if reweighted:  # a plain model does not depend on it
        parameters["coma_sample"] = chosen_sample(coma_sample)
    radii = reference_r_proj(parameters.get("coma_sample"))
    path = location(profile, kind.chapter, f"networks/{model_name(**which)}", parameters)
    inputs = {"catalog": catalog.provenance["key"]}
    if reweighted:
        inputs["coma_r_proj"] = store.digest(np.asarray(radii).tobytes())
    provenance = store.stamp({**which, **parameters}, folder="networks", inputs=inputs)
    earlier = _made_before(kind.ensemble.load, path, provenance)
    if earlier is not None:
        return earlier
    settings = {name: parameters[name] for name in ("epochs", "batch_size", "peak_learning_rate") if name in parameters}
    if kind.chapter == "training":
        layers = {name: parameters[name] for name in ("filters", "kernel_widths", "units", "dropout_rate")}
        settings["architecture"] = cnn.Architecture(input_dim, **layers)
    mass_range = SIMULATIONS[simulation].log_m200c_range
    flat = catalog.select(catalog.in_train)
    observed = validation.observables(flat, input_dim, radii)
    folds = np.repeat(np.arange(parameters["folds"]), parameters["networks_per_fold"])
    report = _training_report(progress, len(folds), parameters["epochs"])
    started = time.monotonic()
    networks = []
    for i, fold in enumerate(folds.tolist()):
        held_out = flat.fold == fold
        network = kind.train(
            observed[~held_out], flat.log_m200c[~held_out], observed[held_out], flat.log_m200c[held_out],
            log_m200c_range=mass_range, fold=fold, seed=1000 * parameters["seed"] + i,
            progress=partial(report, i), **settings,
        )  # fmt: skip
        networks.append(network)
    provenance |= {"seconds": round(time.monotonic() - started, 1), "training_rows": int((~held_out).sum())}
    provenance["device"] = cnn.device()
    trained = kind.ensemble(networks, mass_range, provenance)
    trained.save(path)
    return trained


def _training_report(progress, networks: int, epochs: int):
    """A callback for (index of the network, epoch, loss) that tells `progress` so, with an estimate."""
    started = time.monotonic()

    def report(i: int, epoch: int, loss: float) -> None:
        if progress:
            elapsed, share = time.monotonic() - started, (i + epoch / epochs) / networks
            progress(
                f"network {i + 1} of {networks}, epoch {epoch} of {epochs}: "
                f"loss {loss:.3f}, {elapsed:.0f} s, about {elapsed / share - elapsed:.0f} s left"
            )

    return report


def load_ensemble(profile: str, *, simulation: str, input_dim: int | str, reweighted: bool):
    """The profile's networks of one model, which chapter 04 or 12 trained; refused if of other parameters."""
    which = _which(simulation, input_dim, reweighted)
    path = paths.results(profile) / f"networks/{model_name(**which)}"
    remedy = _remedy(profile, _training_run(which))
    _require(path / "ensemble.json", remedy)
    networks = _kind(input_dim).ensemble.load(path)
    expected = {k: v for k, v in _expected(profile, which).items() if k not in ("draws", "max_test")}
    store.check_parameters(path, networks.provenance.get("parameters", {}), expected, remedy)
    return networks


def predictions(profile: str, networks, *, draws: int, max_test: int | None, progress=None):
    """What the networks of one model predict for both test sets: loaded if known, else drawn.

    `networks` is the model's `ensembles.CNNEnsemble` or `deep_sets.SetEnsemble`; `draws` and `max_test` as in
    `validation.predict`. Returns `validation.Predictions`.
    """
    from cluster_tools.inference import validation

    model = networks.provenance["parameters"]
    which = {name: model[name] for name in ("simulation", "input_dim", "reweighted")}
    parameters = {**model, "draws": draws, "max_test": max_test}
    path = location(profile, _kind(model["input_dim"]).chapter, f"predictions/{model_name(**which)}.h5", parameters)
    catalogs = {name: load_catalog(profile, name) for name in (model["simulation"], other(model["simulation"]))}
    inputs = {"networks": networks.provenance["key"], **{k: c.provenance["key"] for k, c in catalogs.items()}}
    provenance = store.stamp(parameters, folder="coma", inputs=inputs)
    found = _made_before(validation.Predictions.read, path, provenance)
    if found is not None:
        return found
    made = validation.predict(
        networks, catalogs, reference_r_proj=reference_r_proj(model.get("coma_sample")),
        draws=draws, max_test=max_test, seed=model["seed"], progress=progress,
    )  # fmt: skip
    made.provenance.update(provenance)
    made.write(path)
    return made


def load_predictions(profile: str, *, simulation: str, input_dim: int | str, reweighted: bool):
    """The profile's predictions of one model for both test sets, which chapter 04 drew, or 12."""
    from cluster_tools.inference import validation

    which = _which(simulation, input_dim, reweighted)
    path = paths.results(profile) / f"predictions/{model_name(**which)}.h5"
    remedy = _remedy(profile, _training_run(which))
    _require(path, remedy)
    made = validation.Predictions.read(path)
    expected = _expected(profile, which)
    store.check_parameters(path, made.provenance.get("parameters", {}), expected, remedy)
    return made


def coma_posterior(networks, sample, *, draws: int, seed: int) -> ComaPosterior:
    """Weigh the galaxies of `sample`, a table from `survey.load_sample`, with one model's networks.

    A re-weighted model sees the sample with the radial profile that it was trained for; for the
    very sample that it was matched to, all weights are 1.
    """
    from cluster_tools.inference import table1, validation

    model = networks.provenance["parameters"]
    galaxies = SimpleNamespace(
        v_los=sample["v_los"].value, r_proj=sample["r_proj"].value, offsets=np.array([0, len(sample)])
    )
    radii = reference_r_proj(model.get("coma_sample"))
    shown = validation.observables(galaxies, networks.input_dim, radii)
    posterior = networks.posterior(shown, draws=draws, seed=seed)
    which = (model["simulation"], model["input_dim"], model["reweighted"])
    return table1.ComaPosterior(*which, float(posterior.mean[0]), float(posterior.sigma[0]), posterior.samples[0])


def write_coma(profile: str, posteriors: list[ComaPosterior], validation, **parameters) -> pd.DataFrame:
    """Write ``table1.csv`` and ``coma_posteriors.h5`` of chapter 08, and return the table.

    Parameters
    ----------
    profile : of the run
    posteriors : one for each row of `validation`
    validation : pandas.DataFrame, chapter 05's ``validation.csv``
    parameters : chapter 08's own; files of other parameters than the profile's are kept apart
    """
    import pandas as pd

    if "coma_sample" in parameters:
        parameters["coma_sample"] = chosen_sample(parameters["coma_sample"])
    columns = ["simulation", "input_dim", "reweighted"]
    masses = pd.DataFrame(
        [(*(getattr(p, c) for c in columns), p.mean, p.sigma) for p in posteriors],
        columns=[*columns, "coma_mean", "coma_sigma"],
    )
    table = validation.merge(masses, on=columns, how="left", validate="one_to_one")
    path = location(profile, "coma_mass", "coma_posteriors.h5", parameters)
    named = {model_name(p.simulation, p.input_dim, p.reweighted): p for p in posteriors}
    samples = {name: store.digest(np.ascontiguousarray(p.samples).tobytes()) for name, p in named.items()}
    provenance = store.stamp(parameters, folder="coma", inputs=samples)
    if _made_before(_coma_posteriors, path, provenance) is None:
        with hdf5.create(path, COMA_FORMAT, provenance) as file:
            for name, p in named.items():
                dataset = file.create_dataset(name, data=p.samples, **hdf5.CHECKED)
                dataset.attrs.update(mean=p.mean, sigma=p.sigma, unit=np.bytes_("log10 Msun/h"))
    # The rows in the order of the paper's table, and last the M-sigma relation.
    order = {"simulation": ["uchuu", "mdpl2"], "input_dim": [1, 2, 0], "reweighted": [False, True]}
    rank = table[["reweighted", "simulation", "input_dim"]].apply(lambda column: column.map(order[column.name].index))
    rank.insert(0, "baseline", table["input_dim"] == 0)
    table = table.loc[rank.sort_values(list(rank)).index].reset_index(drop=True)
    write_table(profile, location(profile, "coma_mass", "table1.csv", parameters), table, coma_mass=parameters)
    return table


def _coma_posteriors(path: Path) -> SimpleNamespace:
    """The file of `write_coma`, all of which is read once."""
    with hdf5.opened(path, COMA_FORMAT, "make it again with `make book`, or with chapter 08") as file:
        samples = {name: file[name][()] for name in file}
        return SimpleNamespace(samples=samples, provenance=hdf5.provenance(file))


def write_table(profile: str, path: Path, table: pd.DataFrame, **sections) -> None:
    """Write a table that sums up a run, as CSV, and beside it a JSON file with its stamp and digest.

    `sections` holds the parameters of further chapters that the table depends on; those of the
    mock catalogues and of the training are always stamped. Where the same table is there already,
    made by the same code from the same things, it stays as it is, and so does its stamp.
    """
    text = table.to_csv(index=False, float_format="%.6f")
    parameters = _dotted({name: _section(profile, name) for name in ("mock_catalogues", "training")} | sections)
    stamp = {"digest": store.digest(text.encode()), **store.stamp(parameters, folder="coma")}
    before = _intact_stamp(path)
    if before is None or (before["digest"], before.get("key")) != (stamp["digest"], stamp["key"]):
        store.write_text(path, text)
        store.write_json(path.with_suffix(".json"), stamp)


def load_table(profile: str, file: str, made_by: str) -> pd.DataFrame:
    """A CSV table under ``results/<profile>`` that the run called `made_by` wrote with `write_table`.

    Raises `ClusterToolsError` if it is missing, changed since, or of other parameters than the profile's.
    """
    import pandas as pd

    path = paths.results(profile) / file
    remedy = _remedy(profile, made_by)
    _require(path, remedy)
    stamp = _intact_stamp(path)
    if stamp is None:
        raise ClusterToolsError(f"{paths.shown(path)} is damaged, or was changed; make it again with: {remedy}")
    found = stamp["parameters"]
    expected = _dotted({name: _section(profile, name) for name in {key.split(".")[0] for key in found}})
    store.check_parameters(path, found, expected, remedy)
    return pd.read_csv(path)


def _intact_stamp(path: Path) -> dict | None:
    """The stamp beside a table that is as `write_table` left it, else None."""
    try:
        stamp = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return stamp if store.is_whole(stamp) and stamp["digest"] == store.file_digest(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _dotted(sections: dict[str, dict]) -> dict:
    """Parameters of several chapters in one mapping, as ``training.epochs``."""
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


def _which(simulation_name, input_dim, reweighted) -> dict:
    simulation(simulation_name)
    if input_dim not in (1, 2, "sets", "counted"):
        raise ClusterToolsError(
            f"input_dim is {input_dim!r}, but 1 (v_los), 2 (v_los, r_proj), or 'sets' or 'counted' (the galaxies "
            "themselves) is expected."
        )
    if reweighted not in (True, False):
        raise ClusterToolsError(f"reweighted is {reweighted!r}, but True or False is expected.")
    input_dim = input_dim if isinstance(input_dim, str) else int(input_dim)
    return {"simulation": simulation_name, "input_dim": input_dim, "reweighted": bool(reweighted)}


def _check_training(parameters) -> None:
    """Refuse numbers that no network can be trained with. Networks of sets have fewer parameters."""
    for name, low in {"folds": 1, "networks_per_fold": 1, "epochs": 1, "batch_size": 1, "seed": 0}.items():
        high = 10 if name == "folds" else 10**6
        if not isinstance(parameters[name], int) or not low <= parameters[name] <= high:
            raise ClusterToolsError(
                f"{name} is {parameters[name]!r}, but a whole number from {low} to {high} is expected."
            )
    for name, below in {"dropout_rate": 1, "peak_learning_rate": 0.1}.items():
        value = parameters.get(name, 1e-3)
        if not isinstance(value, int | float) or not 0 <= value < below:
            raise ClusterToolsError(f"{name} is {value!r}, but a number from 0 to below {below} is expected.")
    for name in ("filters", "kernel_widths", "units"):
        value = parameters.get(name, [1])
        if not isinstance(value, list | tuple) or any(not isinstance(n, int) or not 1 <= n <= 4096 for n in value):
            raise ClusterToolsError(f"{name} is {value!r}, but a list of whole numbers from 1 to 4096 is expected.")
    filters, widths = (parameters.get(name, []) for name in ("filters", "kernel_widths"))
    if len(filters) != len(widths) or any(width % 2 == 0 or width > 47 for width in widths):
        raise ClusterToolsError(
            f"kernel_widths is {list(widths)!r}, but an odd width up to 47 for each of the {len(filters)} convolutions "
            "of filters is expected."
        )


def _section(profile: str, chapter: str) -> dict:
    """The profile's parameters of a chapter that its results depend on, with the Coma sample that None stands for."""
    section = {
        name: value for name, value in profile_parameters(profile)[chapter].items() if name not in NOT_IN_RESULTS
    }
    if "coma_sample" in section:
        section["coma_sample"] = chosen_sample(section["coma_sample"])
    return section


def _expected(profile: str, which: dict) -> dict:
    """The parameters that the profile's artefacts of one model carry."""
    section = _section(profile, _kind(which["input_dim"]).chapter)
    if not which["reweighted"]:
        del section["coma_sample"]
    return {**which, **section}


def _made_before(read, path, provenance):
    """The artefact at `path` if the same code made it from the same things, else None."""
    try:
        found = read(path)
    except ClusterToolsError:  # missing or damaged: it will be made anew
        return None
    return found if found.provenance.get("key") == provenance["key"] else None


def _remedy(profile: str, run: str) -> str:
    """The command that makes what a run makes; refuses a profile that there is not, which nothing can make."""
    profile_parameters(profile)
    return f"make book PROFILE={profile}, or only this one: cluster-tools run-chapter --profile {profile} {run}"


def _require(path: Path, remedy: str) -> None:
    if not path.exists():
        raise ClusterToolsError(f"{paths.shown(path)} is missing; make it with: {remedy}")
