"""Artefacts by their parameters: boxes, catalogues and tables; `model_artefacts` has networks and predictions.

A chapter that makes an artefact loads it instead if it is there already, with the same stamp. A chapter that reads one
refuses it if it is missing or has other parameters than its profile, and names the command that makes it. Parameters
that differ from the profile's give a file of their own, ``<name>@<digest>``: an experiment never replaces the book's.
"""

import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from cluster_tools import paths, store
from cluster_tools.book.profiles import chosen_sample as chosen_sample
from cluster_tools.book.profiles import profile_parameters, results_depend_on
from cluster_tools.cosmology import MIN_LOG_MSTAR, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import catalogs
from cluster_tools.universe import foreign, simulation_files, snapshots, synthetic, universe_machine

CATALOGUE_PARAMETERS = ("rows_per_dex", "galaxies", "min_log_m200c", "min_log_mstar", "seed")


def section(profile: str, chapter: str) -> dict:
    """The profile's parameters of a chapter, without those that change no result (`results_depend_on`)."""
    return results_depend_on(profile_parameters(profile).get(chapter, {}))


def given(profile: str, chapter: str, parameters: dict) -> dict:
    """The profile's parameters of a chapter, replaced by those of `parameters`, which may be a notebook's globals."""
    standard = section(profile, chapter)
    return standard | results_depend_on({name: parameters[name] for name in standard if name in parameters})


def location(profile: str, chapter: str, file: str, parameters: dict) -> Path:
    """Path of a chapter's artefact with these parameters; a notebook gives its ``globals()``.

    It is ``results/<profile>/<file>``, with ``@<digest>`` before the suffix if a parameter differs from the profile's.
    """
    standard = section(profile, chapter)
    changed = {name: value for name, value in given(profile, chapter, parameters).items() if standard[name] != value}
    path = paths.results(profile) / file
    return path.with_name(f"{path.stem}@{store.digest(changed)[:8]}{path.suffix}") if changed else path


def load_or_make(path: Path, stamp: dict, read: Callable, make: Callable):
    """The artefact at `path` if it has this stamp, else the result of `make`; a damaged one is made again."""
    try:
        artefact = read(path)
    except ClusterToolsError:
        return make()
    return artefact if artefact.provenance.get("key") == stamp["key"] else make()


def load(profile: str, file: str, made_by: str, read: Callable, expected: dict):
    """Read an artefact of the profile that the run `made_by` wrote.

    Raises `ClusterToolsError` if it is missing, damaged, or made with other parameters than `expected`.
    """
    path, command = _existing(profile, file, made_by)
    artefact = read(path)
    store.check_parameters(path, artefact.provenance.get("parameters", {}), expected, command)
    return artefact


def _existing(profile: str, file: str, made_by: str) -> tuple[Path, str]:
    """Path of an artefact, which is there, and the command that makes it."""
    profile_parameters(profile)  # an unknown profile has no command
    path = paths.results(profile) / file
    command = f"make book PROFILE={profile}, or only this one: cluster-tools run-chapter --profile {profile} {made_by}"
    if not path.exists():
        raise ClusterToolsError(f"{paths.shown(path)} is missing; make it with: {command}")
    return path, command


def box_parameters(parameters: dict) -> dict:
    """The parameters of chapter 01 that describe the box. One box serves all cuts above 10^9.5 Msun."""
    box = {name: parameters[name] for name in ("source", "path", "box_size", "seed", "min_log_mstar")}
    return box | {"min_log_mstar": min(box["min_log_mstar"], MIN_LOG_MSTAR)}


def _box_identity(name: str, box: dict) -> dict:
    """Parameters that a box depends on: a seed or a size make no difference to a real simulation."""
    irrelevant = ("path",) if box["source"] in simulation_files.DRAWN else ("box_size", "seed", "path")
    return {"simulation": simulation(name).name} | {key: box[key] for key in box if key not in irrelevant}


def _box_stamp(name: str, box: dict) -> dict:
    files = simulation_files.content(name, box["source"], box["path"])
    return store.stamp(_box_identity(name, box), folder="universe", inputs=files)


def snapshot(profile: str, name: str, box: dict, progress: Callable | None = None):
    """A simulation's box, its galaxies in a file, as `snapshots.Snapshot`: opened if it was made before, else made.

    `box` has the `box_parameters` of the simulation called `name`. With ``extra_hosts``, it is the box of so many heavy
    hosts (`synthetic.heavy_box`), which has a size of its own. `progress` is called with lines of text.
    """
    standard = box_parameters(chapter := section(profile, "mock_catalogues"))
    file = paths.results(profile) / f"snapshots/{simulation(name).name}.h5"
    if "extra_hosts" in box:
        standard |= {"box_size": None, "extra_hosts": chapter["extra_hosts"]}
        file = file.with_stem(f"{file.stem}_extra")
    ours, books = ({**_box_identity(name, each), "path": each["path"]} for each in (box, standard))
    stamp = _box_stamp(name, box)
    if ours != books:
        file = file.with_name(f"{file.stem}@{store.digest(ours)[:8]}.h5")

    def make():
        started = time.monotonic()
        with store.atomic(file) as temporary:
            layers = now_and_then(progress, "layers of the box filled with galaxies")
            drawn = {"seed": box["seed"], "path": temporary, "progress": layers}
            cut = {"min_log_mstar": box["min_log_mstar"]}
            if box["source"] == "foreign":
                made = foreign.foreign(name, box_size=box["box_size"], **drawn)
            elif box["source"] != "synthetic":
                made = universe_machine.read(name, box["source"], box["path"], **cut, file=temporary, progress=progress)
            elif "extra_hosts" in box:
                made = synthetic.heavy_box(name, box["extra_hosts"], **cut, **drawn)
            else:
                made = synthetic.synthetic(name, box_size=box["box_size"], **cut, **drawn)
            made.position.file.close()
            seconds = round(time.monotonic() - started, 1)
            snapshots.stamp(temporary, {**stamp, "seconds": seconds})
        box_file = snapshots.open_snapshot(file)
        if progress:
            progress(f"{len(box_file.position):,} galaxies in the box after {seconds:.0f} s")
        return box_file

    return load_or_make(file, stamp, snapshots.open_snapshot, make)


def mock_catalog(
    profile: str, name: str, *, memory: float = 4.0, scheduler: str | None = None, progress=None, **parameters
):
    """Chapter 01's catalogue of one simulation: loaded if it was made before, else made.

    `parameters` are those of the chapter, by default the profile's. Its ``source`` is "synthetic", "foreign"
    (`universe.foreign`) or one of `simulation_files.SOURCES`, whose files lie in the directory ``path``; only synthetic
    boxes have extra_hosts. The `catalogs.MockCatalog` is the same for any `memory` [GiB] and any `scheduler` (address
    of Dask's); see `observe.observe`. `progress` is called with lines of text.
    """
    parameters = given(profile, "mock_catalogues", parameters)
    path = location(profile, "mock_catalogues", f"catalogs/{name}.h5", parameters)
    box, n_extra = box_parameters(parameters), parameters["extra_hosts"]
    inputs = {"snapshot": _box_stamp(name, box)["key"]}
    stamp = store.stamp({"simulation": simulation(name).name, **parameters}, folder="mocks", inputs=inputs)

    def make():
        started, extra = time.monotonic(), None
        box_file = snapshot(profile, name, box, progress)
        if n_extra and box["source"] == "synthetic":
            extra = snapshot(profile, name, box | {"box_size": None, "extra_hosts": n_extra}, progress)
        catalog = catalogs.build(
            box_file, extra=extra, **{each: parameters[each] for each in CATALOGUE_PARAMETERS},
            memory=memory, scheduler=scheduler, progress=now_and_then(progress, "slabs of the box observed"),
        )  # fmt: skip
        seconds, counts = round(time.monotonic() - started, 1), box_file.provenance.get("counts", {})
        catalog.provenance.update(stamp, seconds=seconds, box_size=box_file.box_size, counts=counts)
        catalog.write(path)
        return catalog

    return load_or_make(path, stamp, catalogs.MockCatalog.read, make)


def now_and_then(progress: Callable | None, done_things: str) -> Callable | None:
    """A callback for (done, total) that gives `progress` a line with an estimate, every 15 seconds."""
    if progress is None:
        return None
    started = last = time.monotonic()

    def report(done: float, total: float) -> None:
        nonlocal last
        now = time.monotonic()
        if done and now - last > 15:
            last, left = now, (now - started) * (total / done - 1)
            progress(f"{done / total:.0%} of the {done_things} after {now - started:.0f} s, about {left:.0f} s left")

    return report


def load_snapshot(profile: str, name: str):
    """The profile's box of one simulation, made by chapter 01; errors as of `load`."""
    expected = _box_identity(name, box_parameters(section(profile, "mock_catalogues")))
    return load(profile, f"snapshots/{name}.h5", f"01_mock_catalogues_{name}", snapshots.open_snapshot, expected)


def load_catalog(profile: str, name: str):
    """The profile's catalogue of one simulation, made by chapter 01; errors as of `load`."""
    expected = {"simulation": simulation(name).name, **section(profile, "mock_catalogues")}
    return load(profile, f"catalogs/{name}.h5", f"01_mock_catalogues_{name}", catalogs.MockCatalog.read, expected)


def write_figure(profile: str, chapter: str, name: str, fig: Figure, parameters: dict) -> None:
    """Write a chapter's figure to ``figures/<name>.svg`` and ``.png``, or beside it if parameters differ (`location`).

    The same figure gives the same files.
    """
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        path = location(profile, chapter, f"figures/{name}.{suffix}", parameters)
        with store.atomic(path) as temporary, matplotlib.rc_context({"svg.hashsalt": name}):
            fig.savefig(temporary, dpi=150, facecolor="white", metadata=metadata)
        fig.set_layout_engine("none")  # laid out once, alike in both files and on the page; it takes as long as drawing


def write_table(profile: str, chapter: str, file: str, table: pd.DataFrame, parameters: dict) -> None:
    """Write a chapter's table as CSV at its `location`, and beside it a JSON file with its stamp and digest.

    The parameters of the mock catalogues and of the training are stamped as well. A table with the same text and stamp
    stays as it is.
    """
    path = location(profile, chapter, file, parameters)
    text = table.to_csv(index=False, float_format="%.6f")
    before = {name: section(profile, name) for name in ("mock_catalogues", "training")}
    parameters = _dotted(before | {chapter: given(profile, chapter, parameters)})
    stamp = {"table": store.digest(text.encode()), **store.stamp(parameters, folder="coma")}
    old = _intact_stamp(path)
    if old is None or (old["table"], old["key"]) != (stamp["table"], stamp["key"]):
        store.write_text(path, text)
        store.write_digested(path.with_suffix(".json"), stamp)


def load_table(profile: str, file: str, made_by: str) -> pd.DataFrame:
    """A CSV table below ``results/<profile>`` that the run `made_by` wrote with `write_table`.

    Raises `ClusterToolsError` if it is missing, changed since, or made with other parameters than the profile's.
    """
    path, command = _existing(profile, file, made_by)
    stamp = _intact_stamp(path)
    if stamp is None:
        raise ClusterToolsError(f"{paths.shown(path)} is damaged, or was changed; make it again with: {command}")
    chapters = {name.split(".")[0] for name in stamp["parameters"]}
    expected = _dotted({chapter: section(profile, chapter) for chapter in chapters})
    store.check_parameters(path, stamp["parameters"], expected, command)
    return pd.read_csv(path)


def _intact_stamp(path: Path) -> dict | None:
    """The stamp beside a table that is as `write_table` left it, else None."""
    stamp = store.read_digested(path.with_suffix(".json"))
    return stamp if stamp and path.is_file() and stamp["table"] == store.file_digest(path) else None


def _dotted(sections: dict[str, dict]) -> dict:
    """Parameters of several chapters in one mapping, as ``training.epochs``."""
    return {f"{chapter}.{name}": value for chapter, values in sections.items() for name, value in values.items()}
