"""The command line: ``cluster-tools weigh`` weighs clusters, ``cluster-tools book`` makes the book."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import shtab

from cluster_tools import machine, paths, store
from cluster_tools.book import chapters
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.coma import mass_definitions
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.catalogs import FOLDS
from cluster_tools.weighing import command_line

EVENT = "@chapter "  # begins the lines by which a job tells the main process how it fares
LEAST_MEMORY_MB = 8 * 1024  # what the book is made to fit into
STANDARD_MODEL = "uchuu 2D"  # the one whose mass of Coma the paper presents


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage, 3 (weigh) done but for some clusters."""
    parser = argparse.ArgumentParser(
        prog="cluster-tools", description="Weigh clusters, and make the book: run its chapters and build its pages."
    )
    shtab.add_argument_to(parser, "--print-completion")  # cluster-tools --print-completion bash
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    book = commands.add_parser("book", help="run what is not up to date and build the pages",
                               epilog="example: cluster-tools book --profile smoke --cores 2")  # fmt: skip
    book.add_argument("--profile", default="book", help="scale of the run, a file in params/ (default: book)")
    book.add_argument("--cores", type=positive, default=cores(), help="chapters side by side (default: all cores)")
    book.add_argument("--keep-html", action="store_true",
                      help="leave _build/html as it is; the site stays in _build/PROFILE/site")  # fmt: skip

    pdf = commands.add_parser("pdf", help="print the pages of a built book into one PDF (needs Chromium)",
                              epilog="example: cluster-tools pdf --profile book")  # fmt: skip
    pdf.add_argument("--profile", default="book")

    notebooks = commands.add_parser("notebooks", help="execute the notebooks with their defaults, in place",
                                    epilog="example: cluster-tools notebooks 04_training")  # fmt: skip
    notebooks.add_argument("names", nargs="*", metavar="NAME", help="notebooks without suffix (default: all)")

    example = "example: cluster-tools run-chapter --profile smoke 07_historical_masses"
    one = commands.add_parser("run-chapter", help="one run of the plan (Snakemake calls this)", epilog=example)
    one.add_argument("--profile", default="book")
    one.add_argument("--keys", type=json.loads, help="the keys that it and what it reads were planned with, as JSON")
    one.add_argument("run", metavar="RUN", help="for instance 03_training_uchuu_2d")

    ship = commands.add_parser("ship-weights", help="make a profile's Uchuu 2D networks those of the package",
                               epilog="example: cluster-tools ship-weights --profile book")  # fmt: skip
    ship.add_argument("--profile", default="book")
    ship.add_argument("--folds", type=positive, default=FOLDS, help=f"that it must have (default: {FOLDS})")

    mass_definitions.add_convert_mass(commands)
    command_line.add_weigh(commands)
    options = parser.parse_args(arguments)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup
            signal.signal(signum, interrupt)
    try:
        if options.command == "book":
            return make_book(options.profile, options.cores, publish_html=not options.keep_html)
        if options.command == "convert-mass":
            return mass_definitions.convert_mass_command(options)
        if options.command == "weigh":
            return command_line.weigh_command(options, cores())
        if options.command == "pdf":
            return print_book(options.profile)
        if options.command == "ship-weights":
            return ship_weights(options.profile, options.folds)
        if options.command == "notebooks":
            return execute_notebooks(options.names)
        return run_chapter(options.profile, options.run, options.keys)
    except ClusterToolsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as in `make book | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {paths.shown(error.filename or 'a file')}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here.", file=sys.stderr)
        return 1


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def positive(text: str) -> int:
    """An argument that is a whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above zero, not {text!r}")
    return int(text)


def interrupt(signum, frame) -> None:
    """Treat a termination like Ctrl-C, so that everything is cleared up on the way out."""
    raise KeyboardInterrupt


def make_book(profile: str, cores: int, *, publish_html: bool) -> int:
    """Run the chapters that are not done, build the pages, print the results."""
    from cluster_tools.book import publish

    sample = os.environ.get("CLUSTER_TOOLS_COMA_SAMPLE", "")
    if Path(sample).is_file():  # chapters run in another directory
        os.environ["CLUSTER_TOOLS_COMA_SAMPLE"] = str(Path(sample).resolve())
    with sole_run(profile) as lock:
        runs = chapters.plan(profile)
        run_keys = chapters.keys(runs)
        waiting = chapters.pending(runs, run_keys)
        clear_leftovers(paths.results(profile))
        started = time.monotonic()
        if waiting:
            print(f"{len(runs)} chapters, {len(runs) - len(waiting)} up to date, {len(waiting)} to run", flush=True)
            ran = run_pending(profile, runs, waiting, cores, lock)
            if ran is None:
                return 1
        else:
            print(f"all {len(runs)} chapters are up to date", flush=True)
            ran = []
        summary = paths.results(profile) / "run.json"
        if waiting or not summary.exists():
            write_summary(summary, profile, runs, run_keys, time.monotonic() - started, ran)
        index = publish.build(profile, runs, run_keys, publish_html=publish_html)
    print(f"\nBook: {index}")
    print(results_text(profile))
    return 0


@contextmanager
def sole_run(profile: str) -> Iterator[IO]:
    """Hold the profile's lock, so that two commands at once do not do the same work twice.

    The lock goes with the processes that hold it, Snakemake among them: a killed run leaves
    nothing to be unlocked by hand.
    """
    path = paths.results(profile) / ".lock"
    profile_parameters(profile)  # an unknown profile must not leave a directory
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run of the profile {profile} is going on; waiting for it to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def clear_leftovers(results: Path) -> None:
    """Remove temporary files and folders of killed runs; an hour without change tells them from those in use."""
    for path in [*results.rglob(".*-????????.*"), *results.rglob(".*-????????")]:
        with suppress(FileNotFoundError):
            last_change = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
            if time.time() - last_change < 3600:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def run_pending(profile: str, runs: list, waiting: list, cores: int, lock: IO) -> list[str] | None:
    """Have Snakemake run the chapters that wait, and say how they fare.

    Returns the names of those that ran (others may have turned out unchanged), or None if one failed.
    """
    results = paths.results(profile)
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", paths.project_root() / "Snakefile",
        "--directory", paths.project_root(), "--config", f"profile={profile}", "--cores", str(cores),
        "--resources", f"mem_mb={max(LEAST_MEMORY_MB, int(0.8 * machine.memory_mb()))}", "--scheduler", "greedy",
        # Our own lock dies with us, Snakemake's does not; no output of ours is ever incomplete.
        "--forceall", "--keep-going", "--nolock", "--ignore-incomplete", "--nocolor",
    ]  # fmt: skip
    environment = os.environ | {"CLUSTER_TOOLS_BOOK_PID": str(os.getpid())}
    expected = expected_seconds(runs)
    left = {run.name: run for run in waiting}
    failures: dict[str, str] = {}
    ran: list[str] = []
    with open(results / "snakemake.log", "w", encoding="utf-8") as log:
        snakemake = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env=environment, start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip
        try:
            for line in snakemake.stdout:
                log.write(line)
                log.flush()
                if not line.startswith(EVENT):
                    continue
                event = json.loads(line[len(EVENT) :])
                name, seconds = event["run"], event.get("seconds")
                if event["state"] == "started":
                    failures[name] = f"chapter {name} was killed, most often for want of memory; try --cores 1."
                    print(f"{'':8}{name}  runs", flush=True)
                    continue
                if event["state"] == "failed":
                    failures[name] = event["error"]
                else:
                    del left[name], failures[name]
                if event["state"] == "finished":
                    ran.append(name)
                    expected[name] = seconds
                position = f"[{len(runs) - len(left):2}/{len(runs)}]"
                took = {
                    "finished": machine.duration(seconds),
                    "failed": f"failed after {machine.duration(seconds)}",
                    "unchanged": "unchanged",
                }[event["state"]]
                print(f"{position} {name}  {took}   {outlook(left, expected, cores)}", flush=True)
            snakemake.wait()
        finally:
            stop(snakemake)
    for message in failures.values():
        print(f"error: {message}", file=sys.stderr)
    blocked = [name for name in left if name not in failures]
    if blocked and failures:
        print(f"not run, since they need what failed: {', '.join(blocked)}", file=sys.stderr)
    elif not failures and (blocked or snakemake.returncode):
        shown = paths.shown(results / "snakemake.log")
        print(f"error: Snakemake stopped before the chapters were done; its words are in {shown}.", file=sys.stderr)
    return None if left or snakemake.returncode else ran


def stop(snakemake: subprocess.Popen) -> None:
    """End Snakemake and its jobs (one session, so one process group) if they still run."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        if snakemake.poll() is not None:
            return
        os.killpg(snakemake.pid, signum)
        try:
            snakemake.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass


def expected_seconds(runs: list) -> dict[str, float]:
    """What each run took when it last ran, where that is known."""
    found = {}
    for run in runs:
        for path in paths.results(run.parameters["profile"]).glob(f"runs/{run.name}.*.json"):
            if record := chapters.read_record(path):
                found[run.name] = record["seconds"]
    return found


def outlook(left: dict, expected: dict[str, float], cores: int) -> str:
    """How many runs are left and about how long they will take, as far as their like is known."""
    if not left:
        return "done"
    total = 0.0
    for run in left.values():
        like = [seconds for name, seconds in expected.items() if name.startswith(run.notebook)]
        total += expected.get(run.name) or (
            sum(like) / len(like) if like else sum(expected.values()) / len(expected) if expected else 0
        )
    return f"{len(left)} left" + (f", about {machine.duration(total / min(cores, len(left)))}" if total else "")


def write_summary(path: Path, profile: str, runs: list, run_keys: dict, wall: float, ran: list[str]) -> None:
    """``run.json``: what this run took, with what, on which kind of machine."""
    records = [json.loads(chapters.record_path(run, run_keys[run.name].page).read_text()) for run in runs]
    store.write_json(
        path,
        {
            "profile": profile,
            "commit": store.commit(),
            "wall_seconds": round(wall, 1),
            "ran": ran,
            "chapters": {r["run"]: {"seconds": r["seconds"], "peak_memory_mb": r["peak_memory_mb"]} for r in records},
            "versions": store.versions(),
            "machine": machine.description(),
        },
    )


def results_text(profile: str) -> str:
    """The mass of Coma and Table 1, the published values beside ours, as text of fixed width."""
    import pandas as pd

    from cluster_tools.coma import literature
    from cluster_tools.inference import validation

    table = pd.read_csv(paths.results(profile) / "table1.csv")
    lines = validation.beside_published(table, literature.published_table1())
    widths = [max(map(len, [name, *lines[name]])) + 2 for name in lines]
    text = [lines.columns, *lines.to_numpy()]
    text = ["".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip() for line in text]
    at = lines.index[lines["model"] == STANDARD_MODEL][0]
    ours, paper = lines["Coma"][at], lines["Coma"][at + 1]
    return (
        f"Mass of Coma: log10 M200c [Msun/h] = {ours} ({STANDARD_MODEL}; the paper: {paper})\n\n"
        f"Table 1, profile {profile}; all in dex\n" + "\n".join(text)
    )


def run_chapter(profile: str, name: str, planned: dict | None) -> int:
    """Run one chapter; as a job of Snakemake, tell the main process how it fares."""
    book = os.environ.get("CLUSTER_TOOLS_BOOK_PID")
    if book:
        threading.Thread(target=end_with, args=(int(book),), daemon=True).start()
    runs = chapters.plan(profile)
    run = next((run for run in runs if run.name == name), None)
    if run is None:
        raise ClusterToolsError(f"there is no run {name!r}; the plan has {', '.join(run.name for run in runs)}.")
    started = time.monotonic()

    def tell(state: str, **more) -> None:
        if book:  # one short write on a line of its own: several jobs and Snakemake share the pipe
            os.write(1, f"\n{EVENT}{json.dumps({'run': name, 'state': state, **more}, ensure_ascii=False)}\n".encode())

    tell("started")
    try:
        # Edited since it was planned? Then the record names the old content, and it will run again.
        run_keys = {each: chapters.Keys(*pair) for each, pair in planned.items()} if planned else chapters.keys(runs)
        ran = chapters.execute(run, run_keys, runs)
    except Exception as error:
        tell("failed", seconds=time.monotonic() - started, error=str(error)[:900])
        raise
    tell("finished" if ran else "unchanged", seconds=time.monotonic() - started)
    if not book:
        print(paths.shown(chapters.executed_path(run)))
    return 0


def end_with(book: int) -> None:
    """End this job, its siblings and Snakemake soon after the process that started them has gone."""
    while True:
        try:
            os.kill(book, 0)
        except ProcessLookupError:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        time.sleep(0.5)


def ship_weights(profile: str, folds: int) -> int:
    """Make the profile's Uchuu 2D networks those that come with the package."""
    from cluster_tools.book import shipped

    print(paths.shown(shipped.ship(profile, folds=folds, progress=print)))
    return 0


def print_book(profile: str) -> int:
    """Print the site of a profile, less the reference of the package, into ``_build/<profile>/book.pdf``."""
    from cluster_tools.book import pdf, publish

    profile_parameters(profile)  # an unknown profile is named as such
    home = paths.project_root() / "_build" / profile
    if not (home / "site" / "index.html").is_file():
        raise ClusterToolsError(
            f"{paths.shown(home / 'site')} has no pages; make them with: cluster-tools book --profile {profile}"
        )
    names = publish.expected_pages(paths.project_root() / "_toc.yml")
    pdf.write(home / "site", [name for name in names if not name.startswith("api/")], home / "book.pdf")
    print(paths.shown(home / "book.pdf"))
    return 0


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
        # Always the same, so that a diff shows only what changed.
        notebook.metadata["language_info"] = {"name": "python"}
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"
            for output in cell.get("outputs", []):
                output.get("data", {}).pop(figure_data.MIME_TYPE, None)  # for the book's pages; git need not keep it
        with store.atomic(directory / f"{name}.ipynb") as temporary:
            jupytext.write(notebook, temporary, fmt="ipynb")
        print(f"notebooks/{name}.ipynb  {machine.duration(time.monotonic() - started)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
