"""Damaged tables of galaxies: each gives a mass or a sentence, soon and in a bounded memory."""

import contextlib
import gzip
import io
import signal
import time
from pathlib import Path

import numpy as np
import small_cluster
from astropy.table import Table
from damage import FORMATS, damaged

from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import one_cluster

SECONDS, MEGABYTES = 5, 500  # limits for a file of less than 10 MB


def too_long(signum, frame):
    raise TimeoutError


def memory(name: str) -> int:
    """Memory of this process [bytes]: VmRSS now, VmHWM at its peak."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


def is_whole(mass) -> bool:
    """Whether a mass is a number, from an image of sum 1."""
    return np.isfinite(mass.quantiles).all() and abs(mass.observation.image().sum() - 1) < 1e-3


def damage_tables(count: int, directory: Path, seed: int = 0) -> dict:
    """Weigh damaged tables of every format, half of them compressed as well."""
    rng, model = np.random.default_rng(seed), one_cluster.WeighingModel.load(None)
    outcomes = {"mass": 0, "refused": 0, "slowest [s]": 0.0, "memory [MB]": 0, "wrong": 0}
    good = {}
    for ending, form in FORMATS.items():
        Table(small_cluster.table(n=24)).write(directory / f"good.{ending}", format=form)
        good[ending] = (directory / f"good.{ending}").read_bytes()
        one_cluster.weigh(directory / f"good.{ending}", model=model, draws=1, min_log_mstar=None)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here, whatever this process did before
    signal.signal(signal.SIGALRM, too_long)
    for number in range(count):
        ending = list(FORMATS)[number % len(FORMATS)]
        path, content = directory / f"bad.{ending}", damaged(good[ending], rng)
        if rng.random() < 0.5:  # damaged before or after it is compressed
            path, content = directory / f"bad.{ending}.gz", gzip.compress(content, 1, mtime=0)
            content = damaged(content, rng) if rng.random() < 0.5 else content
        path.unlink(missing_ok=True)  # much faster on ext4 than to cut a file short and write it again
        path.write_bytes(content)
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 3 * SECONDS)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                mass = one_cluster.weigh(path, model=model, draws=1, min_log_mstar=None)
            outcome = "mass" if is_whole(mass) else "wrong"
        except ClusterToolsError as error:
            outcome = "refused" if "\n" not in str(error) and len(str(error)) < 1000 else "wrong"
        except Exception as error:  # anything else is a traceback for the user
            outcome = "wrong"
            print(f"table {number} ({path.name}): {type(error).__name__}: {error}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.monotonic() - began
        if outcome == "wrong" or seconds > SECONDS:
            (directory / f"wrong-{number}-{path.name}").write_bytes(content)
        outcomes[outcome] += 1
        outcomes["wrong"] += outcome != "wrong" and seconds > SECONDS
        outcomes["slowest [s]"] = round(max(outcomes["slowest [s]"], seconds), 2)
    outcomes["memory [MB]"] = round((memory("VmHWM") - before) / 1e6)
    outcomes["wrong"] += outcomes["memory [MB]"] > MEGABYTES
    return outcomes
