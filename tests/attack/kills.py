"""Books and batches that are killed at random moments, started again, and in the end equal to those left alone."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import small_cluster
import tiny_book
from astropy.table import Table

CLUSTERS = 40  # of a batch that is killed
PATIENCE = 5.0  # seconds within which all processes of a killed command must have ended


def family(directory: Path) -> list[int]:
    """Processes that were started for the project in `directory`."""
    mark, found = f"CLUSTER_TOOLS_ROOT={directory}\0".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def kill_one(process: subprocess.Popen, directory: Path, rng) -> int:
    """Kill the command itself, or by chance one of its other processes; return how many are left after a while."""
    victims = [process.pid] if rng.random() < 0.5 else family(directory) or [process.pid]
    with suppress(ProcessLookupError):
        os.kill(victims[rng.integers(len(victims))], signal.SIGKILL)
    try:  # a command that lost a helper ends by itself
        process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        return 1
    deadline = time.monotonic() + PATIENCE
    while (left := family(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def chain(count: int, directory: Path, seed: int, start, whole, again) -> dict:
    """Start, kill at a random moment and start again, `count` times; then run to the end.

    `start` gives a process, `whole` says whether the files in place are as they should be (True for the end), and
    `again` makes work anew after a run that ended before it was killed.
    """
    rng, outcomes = np.random.default_rng(seed), {"killed": 0, "ended before": 0, "processes left": 0, "wrong": 0}
    usual, began = 6.0, time.monotonic()
    if count >= 5:  # else it is not worth a run to know how long one takes
        start().communicate()
        usual = time.monotonic() - began
        again()
    while outcomes["killed"] < count:
        process = start()
        try:
            process.communicate(timeout=rng.uniform(0, 1.05 * usual))
            outcomes["ended before"] += 1
            outcomes["wrong"] += not whole(True)
            again()
        except subprocess.TimeoutExpired:
            outcomes["killed"] += 1
            outcomes["processes left"] += (left := kill_one(process, directory, rng))
            outcomes["wrong"] += left > 0 or not whole(False)
    start().communicate()
    outcomes["wrong"] += not whole(True)
    return outcomes


def kill_book(count: int, directory: Path, seed: int = 0) -> dict:
    """Kill a book of two chapters, its Snakemake, its jobs and its kernels."""
    tiny_book.project(directory)
    table, text = directory / "results" / "smoke" / "second.csv", directory / "notebooks" / "01_first.md"

    def whole(ended: bool) -> bool:
        if not table.exists():
            return not ended
        leftovers = ended and any(directory.glob("results/**/.*-????????.*"))
        return table.read_text() == tiny_book.SECOND_CSV and not leftovers

    def again():
        text.write_text(text.read_text() + "\nOne more sentence.\n")

    return chain(count, directory, seed, lambda: tiny_book.start(directory, *tiny_book.BOOK), whole, again)


def groups(path: Path, clusters: int, galaxies: int = 20) -> Path:
    """Write a table of clusters with names of their own."""
    drawn = [small_cluster.table(n=galaxies, seed=seed) for seed in range(min(clusters, 50))]
    tables = [drawn[number % len(drawn)] for number in range(clusters)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in drawn[0]}
    columns["group"] = np.repeat([f"A{number}" for number in range(clusters)], galaxies)
    Table(columns).write(path)
    return path


def batch(directory: Path, table: Path, *options: str) -> subprocess.Popen:
    """Start weighing the clusters of a table into ``masses.ecsv``."""
    command = [sys.executable, "-m", "cluster_tools.cli", "weigh", str(table), "--cluster-column", "group", "--output",
               str(directory / "masses.ecsv"), "--min-log-mstar", "none", *options]  # fmt: skip
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=tiny_book.environment(directory), start_new_session=True, **streams)


def kill_batch(count: int, directory: Path, seed: int = 0) -> dict:
    """Kill a batch of clusters, and the processes that weigh."""
    table, output = groups(directory / "groups.fits", CLUSTERS), directory / "masses.ecsv"
    expected: list[str] = []

    def whole(ended: bool) -> bool:
        if not output.exists():
            return not ended
        rows = [line for line in output.read_text().splitlines() if not line.startswith("#")]
        expected[:] = expected or rows
        return rows == expected and len(rows) == CLUSTERS + 1

    def again():
        whole(True)
        output.unlink()

    return chain(count, directory, seed, lambda: batch(directory, table, "--draws", "3", "--cores", "2"), whole, again)
