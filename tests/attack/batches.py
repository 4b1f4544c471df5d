"""Batches of very many clusters, and books and batches side by side."""

import threading
import time
from pathlib import Path

import tiny_book
from astropy.table import Table

from attack.kills import batch, family, groups

MEMORY, KEPT = 2**31, 1000  # bytes: most that a batch takes on two cores, and keeps of each cluster


def many_clusters(count: int, directory: Path, seed: int = 0) -> dict:
    """Weigh `count` clusters in one batch on two cores; seconds, memory, and bytes that are kept for each."""
    table, partial = groups(directory / "groups.fits", count, 12), directory / "masses.ecsv.partial"
    began = time.monotonic()
    process = batch(directory, table, "--draws", "3", "--cores", "2")
    told: list[float] = []
    listener = threading.Thread(
        target=lambda: told.extend(time.monotonic() - began for _ in process.stderr), daemon=True
    )
    listener.start()
    memory = kept = 0
    while process.poll() is None:
        memory = max(memory, sum(map(_resident, family(directory))))
        kept = max(kept, partial.stat().st_size if partial.exists() else 0)
        time.sleep(0.5)
    listener.join(10)
    seconds = time.monotonic() - began
    output = directory / "masses.ecsv"
    rows = Table.read(output) if output.exists() else []
    weighed = len(rows) + len(rows.meta.get("failed", {}) if len(rows) else {})
    wrong = count - weighed + (memory > MEMORY) + (kept > KEPT * count)
    return {
        "clusters": count, "seconds": round(seconds, 1), "first result [s]": round(told[0], 1) if told else None,
        "memory [MB]": round(memory / 1e6), "bytes kept for each": round(kept / count), "wrong": wrong,
    }  # fmt: skip


def _resident(pid: int) -> int:
    """Memory of a process [bytes], its share of what it has in common with others; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def two_at_once(count: int, directory: Path, seed: int = 0) -> dict:
    """Two books and two batches start together: each ends well, or says that another one is at work."""
    outcomes = {"rounds": count, "ended well": 0, "of these after a wait": 0, "refused": 0, "wrong": 0}
    tiny_book.project(directory)
    table = groups(directory / "groups.fits", 10, 60)  # so many galaxies that each has a mass
    text = directory / "notebooks" / "01_first.md"
    for _ in range(count):
        text.write_text(text.read_text() + "\nOne more sentence.\n")
        books = [tiny_book.start(directory, *tiny_book.BOOK) for _ in range(2)]
        batches = [batch(directory, table, "--draws", "3") for _ in range(2)]
        for process in (*books, *batches):
            said = "".join(filter(None, process.communicate(timeout=600)))
            code = process.returncode
            refused = process in batches and code == 1 and "in use by another run" in said
            outcomes["refused"] += refused
            outcomes["of these after a wait"] += "waiting for it to end" in said
            outcomes["ended well"] += code == 0
            outcomes["wrong"] += not (code == 0 or refused)
        outcomes["wrong"] += (directory / "results" / "smoke" / "second.csv").read_text() != tiny_book.SECOND_CSV
        outcomes["wrong"] += len(Table.read(directory / "masses.ecsv")) != 10
        (directory / "masses.ecsv").unlink()
    return outcomes
