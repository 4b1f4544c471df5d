"""``make book``: Snakemake runs the chapters, their pages are built, and the results are printed."""

import fcntl
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cluster_tools import machine, paths, store
from cluster_tools.book import chapters, numbers, pages, publish
from cluster_tools.book.contain import contained
from cluster_tools.book.profiles import chosen_sample, profile_parameters
from cluster_tools.errors import ClusterToolsError

EVENT = "@chapter "  # begins the lines by which a job reports to the main process
MAIN_PROCESS = "CLUSTER_TOOLS_BOOK_PID"  # environment variable of jobs: the process that started Snakemake
MEMORY_MB = 8 * 1024  # of a machine on which the book can be made
PAGES = "pages"  # the last job
STANDARD_MODEL = "Uchuu 2D"  # the one whose mass of Coma the paper presents
PLANNED = re.compile(r"(\S+) +1\s*")  # a line of Snakemake's table of jobs


def make_book(profile: str, cores: int, *, publish_html: bool) -> None:
    """Run the chapters that are not up to date, build the pages, print the results."""
    os.environ["CLUSTER_TOOLS_COMA_SAMPLE"] = chosen_sample(None)  # chapters run in another directory
    with sole_run(profile) as lock:
        runs = chapters.plan(profile)
        chapters.remove_damaged(runs)
        publish.remove_damaged(profile)
        started = time.monotonic()
        executed = run_snakemake(profile, runs, cores, lock)
        write_summary(profile, runs, time.monotonic() - started, executed)
        index = publish.install(profile) if publish_html else publish.site_path(profile) / "index.html"
    print(f"\nBook: {index}")
    print(results_text(profile))
    if profile == numbers.PROFILE and (differences := numbers.differences(profile)):
        print("\n".join(["", "Numbers of the README that this run does not repeat within their error:", *differences]))


@contextmanager
def sole_run(profile: str, *, alone: bool = True) -> Iterator[IO]:
    """Hold the profile's lock, so that two commands at once do not do the same work twice.

    Chapters that are run one by one share it (`alone` is False). A command alone clears leftovers of killed runs.
    The lock goes with the processes that hold it, Snakemake among them: a killed run leaves nothing to unlock.
    """
    results, wanted = paths.results(profile), fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    profile_parameters(profile)  # an unknown profile must not leave a directory
    results.mkdir(parents=True, exist_ok=True)
    with open(results / ".lock", "a") as lock:

        def free(kind: int) -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
                return True
            return False

        nobody_else = free(fcntl.LOCK_EX)
        if not nobody_else and not free(wanted):
            print(f"another run of the profile {profile} is going on; waiting for it to end", flush=True)
            fcntl.flock(lock, wanted)
        if nobody_else or alone:
            for top in (results, publish.site_path(profile).parent):
                store.remove_leftovers(top)
            for sockets in Path("/tmp").glob(chapters.socket_folder(profile) + "*"):
                shutil.rmtree(sockets, ignore_errors=True)
        fcntl.flock(lock, wanted)
        yield lock


def run_snakemake(profile: str, runs: list[chapters.ChapterRun], cores: int, lock: IO) -> list[str]:
    """Have Snakemake run the chapters, and print progress with an estimate of the time left.

    Returns the names of the jobs that were executed; raises `ClusterToolsError` if one failed.
    """
    root, log_path = paths.project_root(), paths.results(profile) / "snakemake.log"
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", root / "Snakefile", "--directory", root,
        "--config", f"profile={profile}", "--cores", str(cores),
        "--resources", f"mem_mb={max(MEMORY_MB, int(0.8 * machine.memory_mb()))}", "--scheduler", "greedy",
        # The lock above dies with its processes, Snakemake's does not.
        "--keep-going", "--nolock", "--rerun-incomplete", "--nocolor",
    ]  # fmt: skip
    environment = os.environ | machine.private_home(paths.caches()) | {MAIN_PROCESS: str(os.getpid())}
    with (
        open(log_path, "w", encoding="utf-8") as log,
        contained(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
            start_new_session=True, pass_fds=[lock.fileno()],
        ) as snakemake,
    ):  # fmt: skip
        try:
            executed, waiting, failures = follow(snakemake.stdout, log, runs, cores)
            snakemake.wait()
        finally:
            if snakemake.poll() is None:  # Ctrl-C: Snakemake gets time to clean up
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(snakemake.pid, signal.SIGTERM)
                    snakemake.wait(timeout=5)
    if snakemake.returncode:
        words = f"Snakemake stopped before the chapters were done; its words are in {paths.shown(log_path)}."
        message = "\nerror: ".join(failures.values()) or words
        if failures and (blocked := [name for name in waiting if name not in failures]):
            message += f"\nnot run, since they need what failed: {', '.join(blocked)}"
        raise ClusterToolsError(message)
    if not executed:
        print(f"all {len(runs)} chapters are up to date", flush=True)
    return executed


def follow(said: Iterable[str], log: IO, runs: list[chapters.ChapterRun], cores: int) -> tuple[list, list, dict]:
    """Copy Snakemake's words to a log and print progress; return jobs done, jobs not done, and messages of failed ones.

    Snakemake begins with a table of the jobs that are due; then each reports when it starts, and when it ends (`job`).
    """
    expected = {run.name: record["seconds"] for run in runs if (record := chapters.read_record(run))}
    names, executed, waiting, failures = [*(run.name for run in runs), PAGES], [], [], {}
    for line in said:
        log.write(line)
        log.flush()
        started = executed or failures
        if not started and (planned := PLANNED.fullmatch(line)) and planned[1] in names:
            waiting.append(planned[1])
        if not line.startswith(EVENT):
            continue
        name, seconds, error = json.loads(line[len(EVENT) :])
        if seconds is None:
            if not started:
                due = sum(each != PAGES for each in waiting)
                print(f"{len(runs)} chapters, {len(runs) - due} up to date, {due} to run", flush=True)
            failures[name] = f"chapter {name} was killed, most often for want of memory; try --cores 1."
            print(f"{'':8}{name}  runs", flush=True)
            continue
        if error:
            failures[name] = error
        else:
            del failures[name]
            waiting.remove(name)
            executed.append(name)
            expected[name] = seconds
        position = f"[{len(names) - len(waiting):2}/{len(names)}]"
        outcome = "failed after " * bool(error) + machine.duration(seconds)
        print(f"{position} {name}  {outcome}   {time_left(waiting, expected, cores)}", flush=True)
    return executed, waiting, failures


def time_left(waiting: list[str], expected: dict[str, float], cores: int) -> str:
    """Number of runs that wait, and the time left, estimated from their last times or those of others."""
    if not waiting:
        return "done"

    def guess(name: str) -> float:
        same_notebook = [seconds for other, seconds in expected.items() if other[:2] == name[:2]]
        return expected.get(name) or statistics.fmean(same_notebook or expected.values() or [0])

    total = sum(map(guess, waiting)) / min(cores, len(waiting))
    return f"{len(waiting)} left" + (f", about {machine.duration(total)}" if total else "")


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
    from astropy.table import Table

    from cluster_tools.coma import literature
    from cluster_tools.inference import table1

    table = pd.read_csv(paths.results(profile) / "table1.csv")
    lines = table1.beside_published(table, literature.published_table1())
    at = lines.index[lines["model"] == STANDARD_MODEL][0]
    ours, paper = lines["Coma"][at : at + 2]
    text = Table.from_pandas(lines).pformat(max_lines=-1, max_width=-1, align="<")
    return "\n".join([
        f"Mass of Coma: log10 M200c [Msun/h] = {ours} ({STANDARD_MODEL}; the paper: {paper})\n",
        f"Table 1, profile {profile}; all in dex", *map(str.rstrip, text),
    ])  # fmt: skip


def run_chapter(profile: str, name: str) -> None:
    """Run one chapter, as a job of Snakemake or by itself."""
    run = chapters.find_run(profile, name)
    with job(profile, name, alone=False):
        chapters.execute(run)
    if MAIN_PROCESS not in os.environ:
        print(paths.shown(chapters.executed_path(run)))


def build_pages(profile: str) -> None:
    """Build the pages of a finished run, as a job of Snakemake or by itself."""
    with job(profile, PAGES, alone=True):
        publish.build(profile, chapters.plan(profile))


@contextmanager
def job(profile: str, name: str, *, alone: bool) -> Iterator[None]:
    """Hold the profile's lock, or, as a job of Snakemake, report start, end and failure to the main process."""
    if MAIN_PROCESS not in os.environ:
        with sole_run(profile, alone=alone):
            yield
        return
    began = time.monotonic()

    def report(seconds: float | None = None, error: str = "") -> None:
        # One short write on a line of its own: several jobs and Snakemake share the pipe.
        event = json.dumps([name, seconds, error], ensure_ascii=False)
        os.write(1, f"\n{EVENT}{event}\n".encode())

    report()
    try:
        yield
    except Exception as error:
        report(time.monotonic() - began, str(error)[:2000] or type(error).__name__)
        raise
    report(time.monotonic() - began)


def execute_notebooks(names: list[str]) -> None:
    """Execute notebooks with their default parameters and write the ``.ipynb`` beside each text."""
    import jupytext
    import nbclient

    from cluster_tools.figures import figure_data

    directory = paths.project_root() / "notebooks"
    for name in names or sorted(path.stem for path in directory.glob("*.md")):
        notebook, started = chapters.read_notebook(name), time.monotonic()
        try:
            options = {"resources": {"metadata": {"path": str(directory)}}, "startup_timeout": chapters.KERNEL_SECONDS}
            with chapters.kernel_options() as kernel:
                nbclient.NotebookClient(notebook, **options, **kernel).execute()
        except nbclient.exceptions.CellExecutionError as error:
            raise ClusterToolsError(f"notebooks/{name}.md stopped: {error.ename}: {error.evalue}") from error
        # Always the same, so that a diff shows only changes.
        notebook.metadata["language_info"] = {"name": "python"}
        pages.number_cells(notebook)
        for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
            output.get("data", {}).pop(figure_data.MIME_TYPE, None)  # for the book's pages; git need not keep it
        with store.atomic(directory / f"{name}.ipynb") as temporary:
            jupytext.write(notebook, temporary, fmt="ipynb")
        print(f"notebooks/{name}.ipynb  {machine.duration(time.monotonic() - started)}", flush=True)
