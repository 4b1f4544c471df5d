"""The machine that a run is made on, and durations in words."""

import atexit
import gc
import multiprocessing
import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path

from cluster_tools.errors import ClusterToolsError

CONNECT_SECONDS = 5  # to reach a Dask scheduler
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


def private_home(directory: Path) -> dict[str, str]:
    """Environment in which libraries keep caches and look for settings below `directory`, not in the user's home.

    So a home that is missing or cannot be written makes no difference, nor do a user's own settings of matplotlib,
    IPython or Dask. Git alone keeps the user's settings, which may declare the checkout safe.
    """
    folders = {"CACHE": ".cache", "CONFIG": ".config", "DATA": ".local/share"}
    home = {"HOME": str(directory)} | {f"XDG_{name}_HOME": str(directory / path) for name, path in folders.items()}
    for path in home.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    settings = Path(os.environ.get("GIT_CONFIG_GLOBAL") or Path(os.environ.get("HOME") or "/") / ".gitconfig")
    return home | ({"GIT_CONFIG_GLOBAL": str(settings)} if os.access(settings, os.R_OK) else {})


def collect_garbage_rarely() -> None:
    """Let Python look for circular garbage after 100,000 new objects, not 700, and not at the end of the process.

    Large packages start a fifth faster, and a process that has imported TensorFlow ends a second earlier.
    """
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)


def start_fork_server(module: str):
    """Let a server import a module, once and with one thread; returns the context of processes that it forks.

    Threads of this process would not survive a fork. Called early, the import takes place beside our own imports.
    """
    os.environ |= SINGLE_THREADED
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    forkserver.ensure_running()
    return context


def end_with_starter() -> None:
    """Let this process of a pool end with the pool's owner, which is not its parent: a server forked it."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def dask_client(scheduler: str) -> Iterator:
    """A client of the Dask scheduler at an address; `ClusterToolsError` if none answers, or if it has no workers."""
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        remedy = "start `dask scheduler` and give its address, or leave scheduler out"
        message = f"No Dask scheduler answers at {scheduler!r} within {CONNECT_SECONDS} s; {remedy}."
        raise ClusterToolsError(message) from error
    with client, client.as_current():
        if not client.nthreads():
            raise ClusterToolsError(f"The Dask scheduler at {scheduler} has no workers; run: dask worker {scheduler}")
        yield client


def cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb() -> float:
    """Memory of this machine [MB], or of the container that we are in if that has less."""
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
        cpu = re.sub(r"[^\w .,:()@/+-]", "", cpu)  # pages show it
    return {"cores": os.cpu_count(), "memory_gb": round(memory_mb() / 1000, 1), "cpu": cpu}


def duration(seconds: float) -> str:
    """Seconds in words, such as ``41 s``, ``3 min`` or ``1 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
