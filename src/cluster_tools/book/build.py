"""``make book``: Snakemake runs the chapters, their pages are built, and the results are printed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

from cluster_tools import machine, paths, store
from cluster_tools.book import chapters, numbers, publish
from cluster_tools.book.contain import contained
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.errors import ClusterToolsError

EVENT = "@chapter "  # begins the lines by which a job reports to the main process
MAIN_PROCESS = "CLUSTER_TOOLS_BOOK_PID"  # environment variable of jobs: the process that started Snakemake
MEMORY_MB = 8 * 1024  # of a machine on which the book can be made
PAGES = "pages"  # the last job
STANDARD_MODEL = "Uchuu 2D"  # the one whose mass of Coma the paper presents
PLANNED = re.compile(r"(\S+) +1\s*")  # a line of Snakemake's table of jobs


def make_book(profile: str, cores: int, *, publish_html: bool) -> int:
    """Run the chapters that are not up to date, build the pages, print the results; return the exit code."""
    sample = os.environ.get("CLUSTER_TOOLS_COMA_SAMPLE", "")
    if Path(sample).is_file():  # chapters run in another directory
        os.environ["CLUSTER_TOOLS_COMA_SAMPLE"] = str(Path(sample).resolve())
    with sole_run(profile) as lock:
        runs = chapters.plan(profile)
        chapters.remove_damaged(runs)
        publish.remove_damaged(profile)
        started = time.monotonic()
        executed = run_snakemake(profile, runs, cores, lock)
        if executed is None:
            return 1
        write_summary(profile, runs, time.monotonic() - started, executed)
        index = publish.install(profile) if publish_html else publish.site_path(profile) / "index.html"
    print(f"\nBook: {index}")
    print(results_text(profile))
    if profile == numbers.PROFILE and (differences := numbers.differences(profile)):
        print("\n".join(["", "Numbers of the README that this run does not repeat within their error:", *differences]))
    return 0


@contextmanager
def sole_run(profile: str, *, alone: bool = True) -> Iterator[IO]:
    """Hold the profile's lock, so that two commands at once do not do the same work twice.

    Chapters that are run one by one share it (`alone` is False). Who finds nobody else clears what killed runs left.
    The lock goes with the processes that hold it, Snakemake among them: a killed run leaves nothing to unlock.
    """
    results = paths.results(profile)
    profile_parameters(profile)  # an unknown profile must not leave a directory
    results.mkdir(parents=True, exist_ok=True)
    wanted = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with open(results / ".lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_leftovers(profile)
            fcntl.flock(lock, wanted)
        except BlockingIOError:
            try:
                fcntl.flock(lock, wanted | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"another run of the profile {profile} is going on; waiting for it to end", flush=True)
                fcntl.flock(lock, wanted)
            if alone:
                remove_leftovers(profile)
        yield lock


def remove_leftovers(profile: str) -> None:
    """Remove temporary files and folders of killed runs; call it with the profile's lock held."""
    for top in (paths.results(profile), publish.site_path(profile).parent):
        store.remove_leftovers(top)
    for sockets in Path("/tmp").glob(chapters.socket_folder(profile) + "*"):
        shutil.rmtree(sockets, ignore_errors=True)


def run_snakemake(profile: str, runs: list[chapters.ChapterRun], cores: int, lock: IO) -> list[str] | None:
    """Have Snakemake run the chapters, and print progress with an estimate of the time left.

    Returns the names of the jobs that were executed, or None if one failed.
    """
    results = paths.results(profile)
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", paths.project_root() / "Snakefile",
        "--directory", paths.project_root(), "--config", f"profile={profile}", "--cores", str(cores),
        "--resources", f"mem_mb={max(MEMORY_MB, int(0.8 * machine.memory_mb()))}", "--scheduler", "greedy",
        # The lock above dies with its processes, Snakemake's does not.
        "--keep-going", "--nolock", "--rerun-incomplete", "--nocolor",
    ]  # fmt: skip
    expected = {run.name: record["seconds"] for run in runs if (record := chapters.read_record(run))}
    names = [*(run.name for run in runs), PAGES]
    waiting: list[str] = []
    executed: list[str] = []
    failures: dict[str, str] = {}
    log_path = results / "snakemake.log"
    with open(log_path, "w", encoding="utf-8") as log:
        environment = os.environ | machine.private_home(paths.caches()) | {MAIN_PROCESS: str(os.getpid())}
        with contained(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
            start_new_session=True, pass_fds=[lock.fileno()],
        ) as snakemake, stopping(snakemake):  # fmt: skip
            for line in snakemake.stdout:
                log.write(line)
                log.flush()
                if not executed and not failures and (job := PLANNED.fullmatch(line)) and job[1] in names:
                    waiting.append(job[1])
                if line.startswith(EVENT):
                    event = json.loads(line[len(EVENT) :])
                    name, seconds = event["run"], event.get("seconds")
                    if event["state"] == "started":
                        if not executed and not failures:
                            due = sum(each != PAGES for each in waiting)
                            print(f"{len(runs)} chapters, {len(runs) - due} up to date, {due} to run", flush=True)
                        failures[name] = f"chapter {name} was killed, most often for want of memory; try --cores 1."
                        print(f"{'':8}{name}  runs", flush=True)
                        continue
                    if event["state"] == "failed":
                        failures[name] = event["error"]
                        outcome = f"failed after {machine.duration(seconds)}"
                    else:
                        del failures[name]
                        waiting.remove(name)
                        executed.append(name)
                        expected[name] = seconds
                        outcome = machine.duration(seconds)
                    position = f"[{len(names) - len(waiting):2}/{len(names)}]"
                    print(f"{position} {name}  {outcome}   {time_left(waiting, expected, cores)}", flush=True)
            snakemake.wait()
    for message in failures.values():
        print(f"error: {message}", file=sys.stderr)
    if failures and (blocked := [name for name in waiting if name not in failures]):
        print(f"not run, since they need what failed: {', '.join(blocked)}", file=sys.stderr)
    elif snakemake.returncode and not failures:
        shown = paths.shown(log_path)
        print(f"error: Snakemake stopped before the chapters were done; its words are in {shown}.", file=sys.stderr)
    if snakemake.returncode:
        return None
    if not executed:
        print(f"all {len(runs)} chapters are up to date", flush=True)
    return executed


@contextmanager
def stopping(snakemake: subprocess.Popen) -> Iterator[None]:
    """Ask Snakemake to stop if the block ends before it (Ctrl-C), and give it time to clean up."""
    try:
        yield
    finally:
        if snakemake.poll() is None:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(snakemake.pid, signal.SIGTERM)
                snakemake.wait(timeout=5)


def time_left(waiting: list[str], expected: dict[str, float], cores: int) -> str:
    """How many runs wait and about how long they take, as far as their last time or that of others is known."""
    if not waiting:
        return "done"
    mean = sum(expected.values()) / len(expected) if expected else 0
    total = 0.0
    for name in waiting:
        same_notebook = [seconds for other, seconds in expected.items() if other[:2] == name[:2]] or [mean]
        total += expected.get(name) or sum(same_notebook) / len(same_notebook)
    estimate = f", about {machine.duration(total / min(cores, len(waiting)))}" if total else ""
    return f"{len(waiting)} left{estimate}"


def write_summary(profile: str, runs: list[chapters.ChapterRun], wall: float, executed: list[str]) -> None:
    """``run.json``: seconds and memory of each chapter, versions, and the machine; written when anything ran."""
    path, date = paths.results(profile) / "run.json", time.strftime("%Y-%m-%d")
    if not executed and (last := store.read_digested(path)):
        wall, executed, date = last["wall_seconds"], last["ran"], last["date"]
    records = [record for run in runs if (record := chapters.read_record(run))]
    costs = {each["run"]: {name: each[name] for name in ("seconds", "peak_memory_mb")} for each in records}
    store.write_digested(path, {
        "profile": profile, "commit": store.commit(), "date": date, "wall_seconds": round(wall, 1), "ran": executed,
        "chapters": costs, "versions": store.versions(), "machine": machine.description(),
    })  # fmt: skip


def results_text(profile: str) -> str:
    """The mass of Coma and Table 1, the published values beside ours, as text of fixed width."""
    import pandas as pd

    from cluster_tools.coma import literature
    from cluster_tools.inference import table1

    table = pd.read_csv(paths.results(profile) / "table1.csv")
    lines = table1.beside_published(table, literature.published_table1())
    at = lines.index[lines["model"] == STANDARD_MODEL][0]
    ours, paper = lines["Coma"][at], lines["Coma"][at + 1]
    widths = [max(map(len, [name, *lines[name]])) + 2 for name in lines]
    rows = ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in lines.to_numpy()]
    header = "".join(f"{name:<{width}}" for name, width in zip(lines, widths)).rstrip()
    return (
        f"Mass of Coma: log10 M200c [Msun/h] = {ours} ({STANDARD_MODEL}; the paper: {paper})\n\n"
        f"Table 1, profile {profile}; all in dex\n" + "\n".join([header, *rows])
    )


def run_chapter(profile: str, name: str) -> int:
    """Run one chapter, as a job of Snakemake or by itself; return the exit code."""
    run = chapters.find_run(profile, name)
    by_itself = MAIN_PROCESS not in os.environ
    with sole_run(profile, alone=False) if by_itself else nullcontext(), reported(name):
        chapters.execute(run)
    if by_itself:
        print(paths.shown(chapters.executed_path(run)))
    return 0


def build_pages(profile: str) -> int:
    """Build the pages of a finished run, as a job of Snakemake or by itself; return the exit code."""
    with sole_run(profile) if MAIN_PROCESS not in os.environ else nullcontext(), reported(PAGES):
        publish.build(profile, chapters.plan(profile))
    return 0


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Report to the main process when a job starts, ends or fails."""
    main_process = MAIN_PROCESS in os.environ
    started = time.monotonic()

    def report(state: str, **more) -> None:
        if main_process:  # one short write on a line of its own: several jobs and Snakemake share the pipe
            event = json.dumps({"run": name, "state": state, **more}, ensure_ascii=False)
            os.write(1, f"\n{EVENT}{event}\n".encode())

    report("started")
    try:
        yield
    except Exception as error:
        report("failed", seconds=time.monotonic() - started, error=str(error)[:2000])
        raise
    report("finished", seconds=time.monotonic() - started)


def execute_notebooks(names: list[str]) -> int:
    """Execute notebooks with their default parameters and write the ``.ipynb`` beside each text."""
    import jupytext
    import nbclient

    from cluster_tools.figures import figure_data

    directory = paths.project_root() / "notebooks"
    for name in names or sorted(path.stem for path in directory.glob("*.md")):
        notebook = chapters.read_notebook(name)
        started = time.monotonic()
        try:
            with chapters.kernel_options() as options:
                nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(directory)}}, **options).execute()
        except nbclient.exceptions.CellExecutionError as error:
            raise ClusterToolsError(f"notebooks/{name}.md stopped: {error.ename}: {error.evalue}") from error
        # Always the same, so that a diff shows only changes.
        notebook.metadata["language_info"] = {"name": "python"}
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"
            for output in cell.get("outputs", []):
                output.get("data", {}).pop(figure_data.MIME_TYPE, None)  # for the book's pages; git need not keep it
        with store.atomic(directory / f"{name}.ipynb") as temporary:
            jupytext.write(notebook, temporary, fmt="ipynb")
        print(f"notebooks/{name}.ipynb  {machine.duration(time.monotonic() - started)}", flush=True)
    return 0
