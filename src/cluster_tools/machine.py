"""The machine that a run is made on, and how to say how long things take on it."""

from __future__ import annotations

import multiprocessing
import os
import platform
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Environment of a process that shares the machine with others: two single-threaded trainings side by side use two cores
# better than one training with two threads, and results do not depend on the number of cores.
THREADS = ("TF_NUM_INTRAOP", "TF_NUM_INTEROP", "OMP_NUM", "OPENBLAS_NUM", "NUMBA_NUM")
SINGLE_THREADED = {f"{name}_THREADS": "1" for name in THREADS} | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def one_thread(function: Callable) -> Callable:
    """Decorator that limits BLAS to one thread: small products are faster so, and sums round the same everywhere."""
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # in a light installation
        return function
    return threadpool_limits.wrap(limits=1, user_api="blas")(function)


def end_with_parent() -> None:
    """End this process, a worker, as soon as the one that started it is gone, even if that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb() -> float:
    """Memory of this machine, or of the container that we are in."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory / 1e6


def description() -> dict:
    """Cores, memory and processor of this machine; nothing that names it."""
    cpu = platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {"cores": os.cpu_count(), "memory_gb": round(memory_mb() / 1000, 1), "cpu": cpu}


def duration(seconds: float) -> str:
    """``41 s``, ``3 min`` or ``1 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
