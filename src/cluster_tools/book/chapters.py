"""The plan of the book, and how one chapter runs.

``notebooks/chapters.yml`` has a stanza for each chapter. A *run* is one notebook with one set of parameters. The
Snakefile makes a rule of each run from `inputs` and `outputs`, and Snakemake decides which rules must run again.
`execute` runs one of them with papermill.
"""

import ast
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster_tools import machine, paths, store
from cluster_tools.book.profiles import DEFAULT, profile_parameters, read_sections, results_depend_on
from cluster_tools.errors import ClusterToolsError

MEMORY_MB = 2500  # of a chapter whose stanza says nothing
KERNEL_SECONDS = 600  # that a kernel may take to start, on a machine with very much other work
# What a kernel runs first; it leaves no name behind.
FIRST_LINE = "__import__('cluster_tools.machine').machine.collect_garbage_rarely()"
STANZA = {"notebook", "uses", "reads", "writes", "runs", "memory_mb"}
# Files in the package's `data` that the modules of a folder read.
DATA = {
    "universe": ("neighbourhoods/*",), "mocks": ("roger.csv",), "coma": ("*coma*.csv", "*.yml"),
    "inference": ("earlier_universes.csv",), "weighing": ("uchuu_2d/*", "survey/*", "hecs/*"),
    "figures": ("explorer.html",),
}  # fmt: skip


@dataclass(frozen=True)
class ChapterRun:
    """One notebook with one set of parameters."""

    name: str  #: the notebook's name and that of the run, such as ``04_training_uchuu_2d``
    chapter: str  #: its section of ``params/<profile>.yml``
    notebook: str  #: file name without suffix
    title: str  #: tells this run from others of the same notebook; may be empty
    parameters: dict  #: all that papermill passes
    uses: tuple[str, ...] = ()  #: folders of the package
    reads: tuple[str, ...] = ()  #: artefacts, relative to ``results/<profile>``
    writes: tuple[str, ...] = ()  #: artefacts, likewise
    memory_mb: int = MEMORY_MB  #: memory that the scheduler sets aside [MB]

    @property
    def results(self) -> Path:
        """The directory of the profile's artefacts."""
        return paths.results(self.parameters["profile"])


def plan(profile: str) -> list[ChapterRun]:
    """All runs of the book with a profile, in reading order.

    Raises `ClusterToolsError` for an unknown or damaged profile, and a stanza that is misspelt or reads from no earlier
    chapter.
    """
    sections, planned = profile_parameters(profile), {}
    for chapter, stanza in read_sections(paths.project_root() / "notebooks" / "chapters.yml").items():
        if "notebook" not in stanza or set(stanza) - STANZA:
            raise ClusterToolsError(
                f"notebooks/chapters.yml: the stanza {chapter} has {', '.join(stanza)}, but notebook is expected, "
                f"and of the others only {', '.join(sorted(STANZA - {'notebook'}))}."
            )
        for name, specific in stanza.get("runs", {"": {}}).items():
            parameters = {"profile": profile, **specific, **sections.get(chapter, {})}
            reads = []
            for source in (source.format(run=name) for source in stanza.get("reads", ())):
                runs = [run for key, run in planned.items() if source in (key, run.chapter)]
                if not runs:
                    raise ClusterToolsError(
                        f"notebooks/chapters.yml: {chapter} reads {source}, but nothing before it has that name."
                    )
                # No other chapter reads figures.
                reads += [file for run in runs for file in run.writes if not file.startswith("figures/")]
            planned[f"{chapter}.{name}"] = ChapterRun(
                name=stanza["notebook"] + f"_{name}" * bool(name), chapter=chapter, notebook=stanza["notebook"],
                title=parameters.pop("title", ""), parameters=parameters, uses=tuple(stanza.get("uses", ())),
                reads=tuple(reads), writes=tuple(file.format(run=name) for file in stanza.get("writes", ())),
                memory_mb=stanza.get("memory_mb", MEMORY_MB),
            )  # fmt: skip
    return list(planned.values())


def find_run(profile: str, name: str) -> ChapterRun:
    """The run called `name`; raises `ClusterToolsError` if the plan has none."""
    runs = {run.name: run for run in plan(profile)}
    if name not in runs:
        raise ClusterToolsError(f"there is no run {name!r}; the plan has {', '.join(runs)}.")
    return runs[name]


def inputs(run: ChapterRun) -> dict[str, list[Path]]:
    """Files that a run is made from: its notebook, the package, data, and the artefacts of other runs."""
    patterns = [pattern for folder in run.uses for pattern in DATA.get(folder, ())]
    data = [file for pattern in patterns for file in sorted(paths.PACKAGE_DATA.glob(pattern))]
    if "coma" in run.uses:
        data.append(paths.project_root() / "results" / "published.yml")
    tables = (results_depend_on(run.parameters).get("coma_sample"), run.parameters.get("table"))
    tables = [Path(table) for table in tables if table and Path(table).is_file()]
    return {
        "notebook": [notebook_path(run.notebook)], "package": store.package_files(run.uses), "data": data + tables,
        "artefacts": [run.results / name for name in run.reads],
    }  # fmt: skip


def result_parameters(run: ChapterRun) -> dict:
    """The parameters that its results depend on, with the files of a real simulation."""
    found = results_depend_on(run.parameters)
    if "source" not in found:
        return found
    from cluster_tools.universe import simulation_files

    return found | {"files": simulation_files.content(found["simulation"], found["source"], found["path"])}


def executed_path(run: ChapterRun) -> Path:
    """The executed notebook of a run."""
    return run.results / "chapters" / f"{run.name}.ipynb"


def record_path(run: ChapterRun) -> Path:
    """The record of a run: seconds, memory, parameters, versions, and digests of its files."""
    return run.results / "runs" / f"{run.name}.json"


def read_record(run: ChapterRun) -> dict | None:
    """The record of a run; None if there is none as it was written."""
    return store.read_digested(record_path(run))


def digests(run: ChapterRun) -> dict[str, str]:
    """Digests of the files that a run left, weights beside their description included; missing files are left out."""
    files = {executed_path(run), *(run.results / name for name in run.writes)}
    for name in run.writes:
        if name.startswith("networks/"):
            files |= set((run.results / name).parent.glob("[!.]*.h5"))
    return {str(file.relative_to(run.results)): store.file_digest(file) for file in sorted(files) if file.is_file()}


def damaged(runs: list[ChapterRun]) -> list[ChapterRun]:
    """Those of the runs that have not ended, or whose files changed since."""
    return [run for run in runs if (record := read_record(run)) is None or record["digests"] != digests(run)]


def remove_damaged(runs: list[ChapterRun]) -> list[str]:
    """Remove the record of each run whose files changed since it ended, so that it runs again; return their names."""
    for run in (found := damaged(runs)):
        record_path(run).unlink(missing_ok=True)
    return [run.name for run in found]


def check(runs: list[ChapterRun]) -> None:
    """Raise `ClusterToolsError` unless the files of all runs are as the runs left them."""
    if names := ", ".join(run.name for run in damaged(runs)):
        profile = runs[0].parameters["profile"]
        raise ClusterToolsError(
            f"results/{profile} has files that are missing or were changed since they were made, of {names[:300]}; "
            f"make them again with: make book PROFILE={profile}"
        )


def notebook_path(notebook: str) -> Path:
    """The text of a notebook in MyST Markdown, the only source of its chapter."""
    return paths.project_root() / "notebooks" / f"{notebook}.md"


def read_notebook(notebook: str):
    """The text of a notebook as nbformat's object; raises `ClusterToolsError` if it is missing or no notebook."""
    import jupytext

    path = notebook_path(notebook)
    try:
        return jupytext.read(path)
    except FileNotFoundError as error:
        raise ClusterToolsError(f"{paths.shown(path)} is missing; restore it with: git checkout notebooks") from error
    except Exception as error:  # jupytext lets through whatever its parsers raise
        reason = " ".join(str(error).split())
        raise ClusterToolsError(f"{paths.shown(path)} is not a notebook in MyST Markdown: {reason}.") from error


def default_parameters(name: str) -> dict:
    """Names and default values in the one cell of a notebook that is tagged ``parameters``; all are literals."""
    cells = [cell for cell in read_notebook(name).cells if "parameters" in cell.metadata.get("tags", [])]
    where = paths.shown(notebook_path(name))
    if len(cells) != 1:
        raise ClusterToolsError(f"{where} has {len(cells)} cells tagged parameters, but one is expected.")
    try:
        return {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(cells[0].source).body
            if isinstance(statement, ast.Assign)
        }
    except (SyntaxError, ValueError) as error:
        raise ClusterToolsError(f"{where}: the parameters are not valid Python literals ({error}).") from error


def socket_folder(profile: str) -> str:
    """Start of the names of folders in ``/tmp`` where kernels of a profile have their sockets."""
    return f".book-{store.digest(str(paths.results(profile)))}-"


@contextmanager
def kernel_options(profile: str = DEFAULT) -> Iterator[dict]:
    """Options with which nbclient runs a notebook; meanwhile the environment is that of its kernel."""
    from traitlets.config import Config

    before = dict(os.environ)
    os.environ.update(machine.SINGLE_THREADED | machine.private_home(paths.caches()))
    os.environ.pop("MPLBACKEND", None)  # the kernel chooses its inline backend
    # Two kernels that start at once can race for one TCP port; sockets in files cannot. Their names must be short.
    try:
        with TemporaryDirectory(dir="/tmp", prefix=socket_folder(profile)) as sockets:
            kernel = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
            options = {"kernel_name": "python3", "record_timing": False, "config": Config({"KernelManager": kernel})}
            yield options | {"extra_arguments": [f"--IPKernelApp.exec_lines={FIRST_LINE}"]}
    finally:
        os.environ.clear()
        os.environ.update(before)


def execute(run: ChapterRun) -> dict:
    """Run one chapter with papermill; leave its executed notebook and, last, its record, which is returned.

    A chapter that fails leaves its notebook, as far as it came, below ``failed/``. Raises `ClusterToolsError` if the
    notebook lacks a parameter of the profile, stops with an error, or leaves an artefact unwritten.
    """
    import jupytext
    import papermill
    from nbclient.exceptions import DeadKernelError

    defaults = default_parameters(run.notebook)
    if unknown := sorted(set(run.parameters) - set(defaults)):
        raise ClusterToolsError(
            f"params/{run.parameters['profile']}.yml sets {', '.join(unknown)} for {run.chapter}, which "
            f"notebooks/{run.notebook}.md does not have; its parameters are {', '.join(defaults)}."
        )
    record_path(run).unlink(missing_ok=True)
    failed = run.results / "failed" / f"{run.name}.ipynb"
    started = time.monotonic()
    with kernel_options(run.parameters["profile"]) as options, store.atomic(executed_path(run)) as temporary:
        jupytext.write(read_notebook(run.notebook), temporary)
        try:
            # Without request_save, which writes the whole notebook before and after each cell and takes seconds.
            papermill.execute_notebook(
                temporary, temporary, run.parameters, progress_bar=False, request_save_on_cell_execute=False,
                cwd=paths.project_root() / "notebooks", start_timeout=KERNEL_SECONDS, **options,
            )  # fmt: skip
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
        if not (run.results / name).exists():
            raise ClusterToolsError(f"chapter {run.name} ended without writing {paths.shown(run.results / name)}.")
    failed.unlink(missing_ok=True)
    # getrusage counts KiB on Linux, bytes on macOS; the largest child is the notebook's kernel.
    unit = 1 if sys.platform == "darwin" else 1024
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    record = {
        "run": run.name, "seconds": round(time.monotonic() - started, 1), "peak_memory_mb": round(memory / 1e6),
        "parameters": run.parameters, "versions": store.versions(), "commit": store.commit(),
        "machine": machine.description(), "digests": digests(run),
    }  # fmt: skip
    store.write_digested(record_path(run), record)
    return record
