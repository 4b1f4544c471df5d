"""The plan of the book: which chapter runs, with what, after which, and when it must run again.

A *run* is one notebook with one set of parameters. Whether it must run again is decided by
content alone, never by file times, through two digests of each run, chained along the plan
like the nodes of a Merkle tree:

- its *page key* covers all that shows on its page: the notebook's text, the bytes of the
  modules that it uses, its parameters, and the artefact keys of the runs that it reads;
- its *artefact key* covers what can change the files it writes: its code cells, the same
  modules without comments and docstrings, its parameters, and again what it reads.

A run is done when the record of a run with the same page key is there, and its executed notebook
and all its artefacts are as that run left them, byte by byte. The record is the last thing that a
run writes, and the first that the next one removes, so that a run that was killed is not done,
whatever it left; nor is one whose files were damaged later. Rewording one chapter thus makes that
page again and no other. Snakemake is handed the runs that are not done and sees to order and
parallelism. When the turn of one comes, the files that it reads have been made, and it is skipped
after all if they are the same, byte by byte, as those of its last run, and nothing else has
changed for it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from cluster_tools import machine, paths, store
from cluster_tools.book.profiles import HOW, profile_parameters
from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.errors import ClusterToolsError

# Peak memory that the scheduler reckons with, so that chapters side by side stay within 8 GiB.
MEMORY_MB = {"mock_catalogues": 4000, "realism": 3500, "robustness": 4000, "training": 3500, "past_the_paper": 3500}
MEMORY_MB_ELSE = 2500

# Modules whose results depend on files of the package, and which these are.
MODULES_WITH_DATA = {"coma": "*", "literature": "*", "shipped": "*/*", "weighing": "*/*"}


@dataclass(frozen=True)
class ChapterRun:
    """One notebook, to be run with one set of parameters.

    `chapter` names its section in ``params/<profile>.yml``; `notebook` its file without suffix;
    `title` what tells this run from others of the same notebook (may be empty); `reads` and
    `writes` are artefacts, relative to ``results/<profile>``.
    """

    name: str
    chapter: str
    notebook: str
    title: str
    parameters: dict
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def memory_mb(self) -> int:
        """Memory in MB that the scheduler sets aside for this run."""
        return MEMORY_MB.get(self.chapter, MEMORY_MB_ELSE)


class Keys(NamedTuple):
    """The two digests of a run: see the module's docstring."""

    page: str
    artefact: str


def _models() -> list[tuple[str, dict, str]]:
    """The eight networks: name, parameters and title of each, the standard one first."""
    found = []
    for reweighted in (False, True):
        for simulation, each in SIMULATIONS.items():
            for input_dim in (2, 1):
                name = f"{simulation}_{input_dim}d" + "_reweighted" * reweighted
                title = f"{each.title}, {input_dim}D" + ", re-weighted" * reweighted
                found.append(
                    (name, {"simulation": simulation, "input_dim": input_dim, "reweighted": reweighted}, title)
                )
    return found


def plan(profile: str) -> list[ChapterRun]:
    """All runs of the book with this profile, each after those that it reads from.

    Raises `ClusterToolsError` if the profile is unknown.
    """
    sections = profile_parameters(profile)

    def run(
        number: int, chapter: str, name: str = "", title: str = "", reads=(), writes=(), **parameters
    ) -> ChapterRun:
        notebook = f"{number:02d}_{chapter}"
        parameters = {"profile": profile, **parameters, **sections[chapter]}
        return ChapterRun(
            f"{notebook}_{name}" if name else notebook, chapter, notebook, title, parameters, reads, writes
        )

    catalogs = {simulation: f"catalogs/{simulation}.h5" for simulation in SIMULATIONS}
    networks = tuple(f"networks/{name}/ensemble.json" for name, _, _ in _models())
    predictions = tuple(f"predictions/{name}.h5" for name, _, _ in _models())
    boxes = {s: f"snapshots/{s}.h5" for s in SIMULATIONS}
    both = tuple(catalogs.values())
    past = [f"{simulation}_{kind}" for simulation in SIMULATIONS for kind in ("sets", "counted")]
    return [
        run(0, "coma_in_ten_minutes"),
        *(
            run(1, "mock_catalogues", s, each.title, writes=(boxes[s], catalogs[s]), simulation=s)
            for s, each in SIMULATIONS.items()
        ),
        *(run(2, "realism", s, each.title, reads=(boxes[s],), simulation=s) for s, each in SIMULATIONS.items()),
        run(3, "preprocessing", reads=(catalogs["uchuu"],), simulation="uchuu"),
        *(
            run(4, "training", name, title, reads=both, writes=(network, prediction), **parameters)
            for (name, parameters, title), network, prediction in zip(_models(), networks, predictions)
        ),
        run(5, "validation", reads=both + predictions, writes=("validation.csv", "validation.json")),
        run(
            6,
            "classical_estimators",
            reads=both + predictions,
            writes=("classical_estimators.csv", "classical_estimators.json"),
        ),
        run(7, "historical_masses"),
        run(
            8,
            "coma_mass",
            reads=(*both, *networks, "validation.csv"),
            writes=("table1.csv", "table1.json", "table1.html", "table1.tex", "coma_posteriors.h5"),
        ),
        run(
            9,
            "robustness",
            reads=(boxes["uchuu"], catalogs["uchuu"]),
            writes=("robustness.csv", "robustness.json"),
        ),
        run(10, "your_cluster", reads=(catalogs["mdpl2"],)),
        run(
            11,
            "calibration",
            reads=(*both, *networks, *predictions),
            writes=("calibration.csv", "calibration.json"),
        ),
        run(
            12,
            "past_the_paper",
            reads=(*both, *networks),
            writes=(
                *(f"networks/{name}/ensemble.json" for name in past),
                *(f"predictions/{name}.h5" for name in past),
                "past_the_paper.csv",
                "past_the_paper.json",
            ),
        ),
        run(13, "scoreboard", reads=(*both, "table1.csv")),
    ]


def upstream(run: ChapterRun, runs: list[ChapterRun]) -> list[ChapterRun]:
    """The runs that write what `run` reads."""
    return [other for other in runs if set(other.writes) & set(run.reads)]


def notebook_path(notebook: str) -> Path:
    """The text (MyST Markdown) of a notebook: the only source of its chapter."""
    return paths.project_root() / "notebooks" / f"{notebook}.md"


def read_notebook(notebook: str):
    """The notebook's text as an nbformat notebook. Raises `ClusterToolsError` if it cannot be read."""
    import jupytext

    path = notebook_path(notebook)
    if not path.is_file():
        raise ClusterToolsError(f"{paths.shown(path)} does not exist; restore it with: git checkout notebooks")
    try:
        return jupytext.read(path)
    except Exception as error:  # jupytext lets through whatever its parsers raise
        reason = " ".join(str(error).split())
        raise ClusterToolsError(f"{paths.shown(path)} is not a notebook in MyST Markdown: {reason}.") from error


def code(*cells) -> str:
    """The Python source of code cells, their IPython commands (``%`` and ``!`` lines) left out."""
    lines = "\n".join(cell.source for cell in cells).splitlines()
    return "\n".join("" if re.match(r"\s*(%%?\w|!)", line) else line for line in lines)


def parameters_cell(notebook):
    """The one cell tagged ``parameters`` of an nbformat notebook."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ClusterToolsError(f"a chapter has exactly one cell tagged parameters, but this one has {len(cells)}.")
    return cells[0]


def default_parameters(notebook) -> dict:
    """Names and default values in the notebook's ``parameters`` cell, which are all literals."""
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(code(parameters_cell(notebook))).body
        if isinstance(statement, ast.Assign)
    }


@dataclass(frozen=True)
class Source:
    """What the runs of one notebook have in common, as digests.

    `text` is all of it: the notebook's text and the bytes of the modules it depends on. `code`
    leaves out prose, comments and docstrings.
    """

    text: str
    code: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]


def source(notebook: str) -> Source:
    """Read one notebook. Raises `ClusterToolsError` if it is missing or does not parse."""
    path = notebook_path(notebook)
    content = read_notebook(notebook)
    try:
        own = code(*(cell for cell in content.cells if cell.cell_type == "code"))
        modules = [folder for folder in store.FOLDERS if folder != "book"]
        meanings = [store.digest(own.encode()), store.code_digest("figures")]
        parameters = tuple(default_parameters(content))
    except (SyntaxError, ValueError) as error:
        raise ClusterToolsError(f"{paths.shown(path)} or a module it imports is not valid Python: {error}.") from error
    except ClusterToolsError as error:
        raise ClusterToolsError(f"{paths.shown(path)}: {error}") from error
    return Source(
        text=store.digest([store.file_digest(path), store.code_digest("figures")]),
        code=store.digest([modules, meanings]),
        modules=tuple(modules),
        parameters=parameters,
    )


def keys(runs: list[ChapterRun]) -> dict[str, Keys]:
    """Page key and artefact key of every run, from the content of all that it depends on.

    Raises `ClusterToolsError` if a notebook is missing, does not parse, or lacks a parameter
    that the profile sets.
    """
    sources = {notebook: source(notebook) for notebook in {run.notebook for run in runs}}
    found: dict[str, Keys] = {}
    for run in runs:
        own = sources[run.notebook]
        if unknown := sorted(set(run.parameters) - set(own.parameters)):
            raise ClusterToolsError(
                f"params/{run.parameters['profile']}.yml sets {', '.join(unknown)} for {run.chapter}, which "
                f"notebooks/{run.notebook}.md does not have; its parameters are {', '.join(own.parameters)}."
            )
        inputs = {
            "parameters": {name: value for name, value in run.parameters.items() if name not in HOW},
            "reads": {other.name: found[other.name].artefact for other in upstream(run, runs)},
            "data": data_digests(run, own.modules),
        }
        found[run.name] = Keys(store.digest([own.text, inputs]), store.digest([own.code, inputs]))
    return found


def data_digests(run: ChapterRun, modules: tuple[str, ...]) -> dict[str, str]:
    """Digests of the data files that a run with these modules may read, its sample of Coma, its simulation."""
    patterns = set(MODULES_WITH_DATA.values())
    files = {file for pattern in patterns for file in paths.PACKAGE_DATA.glob(pattern)}
    if patterns:
        files.add(paths.project_root() / "results" / "published.yml")
    digests = {file.name: store.file_digest(file) for file in sorted(files) if file.is_file()}
    if "coma_sample" in run.parameters:  # null leaves the choice to the environment
        sample = Path(run.parameters["coma_sample"] or os.environ.get("CLUSTER_TOOLS_COMA_SAMPLE") or "desi")
        digests["coma_sample"] = store.file_digest(sample) if sample.is_file() else str(sample)
    if table := run.parameters.get("table"):
        digests["table"] = store.file_digest(table) if Path(table).is_file() else str(table)
    if "source" in run.parameters:  # files of a real simulation
        from cluster_tools.universe import simulation_files

        p = run.parameters
        digests |= simulation_files.content(p["simulation"], p["source"], p["path"])
    return digests


def executed_path(run: ChapterRun) -> Path:
    """The executed notebook of a run."""
    return paths.results(run.parameters["profile"]) / "chapters" / f"{run.name}.ipynb"


def record_path(run: ChapterRun, page_key: str) -> Path:
    """The record of a run: its seconds, memory, versions. Its name carries the page key."""
    return paths.results(run.parameters["profile"]) / "runs" / f"{run.name}.{page_key}.json"


def read_record(path: Path) -> dict | None:
    """What `execute` recorded of a run; None if nothing that can be read is there."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record["made"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def made(run: ChapterRun) -> dict[str, str]:
    """Digests of all files that a run leaves, its executed notebook among them; empty if one is missing."""
    results = paths.results(run.parameters["profile"])
    listed = [executed_path(run), *(results / name for name in run.writes)]
    if not all(path.is_file() for path in listed):
        return {}
    for path in run.writes:
        if path.startswith("networks/"):  # the description of the weights beside it
            listed += (results / path).parent.glob("[!.]*.*")
    return {str(path.relative_to(results)): store.file_digest(path) for path in sorted(set(listed))}


def pending(runs: list[ChapterRun], run_keys: dict[str, Keys]) -> list[ChapterRun]:
    """The runs that are not done: never run, run with other content, or with a file missing or changed since."""

    def done(run: ChapterRun) -> bool:
        record = read_record(record_path(run, run_keys[run.name].page))
        return record is not None and record["made"] == made(run)

    return [run for run in runs if not done(run)]


def content(run: ChapterRun) -> str:
    """Digest of all that a run is about to be made from, the files that it reads included."""
    results = paths.results(run.parameters["profile"])
    files = {name: store.file_digest(results / name) for name in run.reads if (results / name).exists()}
    own = source(run.notebook)
    return store.digest([own.text, run.parameters, data_digests(run, own.modules), files])


@contextmanager
def kernel_options() -> Iterator[dict]:
    """Options with which nbclient runs a notebook; the environment of its kernel is set, too."""
    from traitlets.config import Config

    os.environ.update(machine.SINGLE_THREADED)
    os.environ.pop("MPLBACKEND", None)  # the kernel chooses its inline backend
    # Sockets in files, since two kernels that start at once can race for one TCP port; in /tmp,
    # since their names must be short.
    with TemporaryDirectory(dir="/tmp") as sockets:
        kernel = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        yield {"kernel_name": "python3", "record_timing": False, "config": Config({"KernelManager": kernel})}


def execute(run: ChapterRun, run_keys: dict[str, Keys], runs: list[ChapterRun]) -> bool:
    """Run one chapter with papermill; leave its executed notebook and its record.

    Returns False if it was not run, since nothing has changed for it. A chapter that fails leaves
    its notebook, as far as it came, under ``failed/`` and raises `ClusterToolsError`.
    """
    made_from = content(run)
    path = record_path(run, run_keys[run.name].page)
    records = {old: read_record(old) for old in path.parent.glob(f"{run.name}.*.json")}
    last = next((record for record in records.values() if record and record.get("content") == made_from), None)
    unchanged = last is not None and last["made"] == made(run)
    if not unchanged:  # else a run that is killed from here on would pass for the one on record
        for old in records:
            old.unlink()
    record = last if unchanged else _execute(run)
    record |= {
        "content": made_from,
        "made": made(run),
        "artefact_key": run_keys[run.name].artefact,
        "reads": {other.name: run_keys[other.name].artefact for other in upstream(run, runs)},
    }
    store.write_json(path, record)
    for old in set(records) - {path}:
        old.unlink(missing_ok=True)
    return not unchanged


def _execute(run: ChapterRun) -> dict:
    """Run one chapter and return its record."""
    import jupytext
    import papermill
    from nbclient.exceptions import DeadKernelError

    results = paths.results(run.parameters["profile"])
    failed = results / "failed" / f"{run.name}.ipynb"
    started = time.monotonic()
    with kernel_options() as options, store.atomic(executed_path(run)) as temporary:
        jupytext.write(read_notebook(run.notebook), temporary)
        try:
            papermill.execute_notebook(
                temporary,
                temporary,
                run.parameters,
                progress_bar=False,
                # Else all outputs so far are written before and after each cell, which takes seconds.
                request_save_on_cell_execute=False,
                cwd=paths.project_root() / "notebooks",
                **options,
            )
        except papermill.PapermillExecutionError as error:
            failed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(temporary, failed)
            cause = error.evalue if error.ename == "ClusterToolsError" else f"{error.ename}: {error.evalue}"
            raise ClusterToolsError(
                f"chapter {run.name} stopped at In [{error.exec_count}]: {cause} (see {paths.shown(failed)})"
            ) from error
        except DeadKernelError as error:
            raise ClusterToolsError(
                f"chapter {run.name} lost its kernel, most often for want of memory; try --cores 1."
            ) from error
    for name in run.writes:
        if not (results / name).exists():
            raise ClusterToolsError(f"chapter {run.name} ended without writing {paths.shown(results / name)}.")
    failed.unlink(missing_ok=True)
    # getrusage counts KiB on Linux, bytes on macOS; the largest child is the notebook's kernel.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "run": run.name,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6),
        "parameters": run.parameters,
        "versions": store.versions(),
        "commit": store.commit(),
        "machine": machine.description(),
    }
