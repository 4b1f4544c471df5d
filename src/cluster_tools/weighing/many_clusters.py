"""The masses of all clusters of one table, on all cores; results survive an interruption.

Each cluster is weighed by itself, with the same seed, in a process with one thread. Its result depends neither on the
other clusters, nor on the number of processes, nor on an interruption.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import itertools
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType

from cluster_tools import arrays, machine, paths, store
from cluster_tools.cosmology import MIN_LOG_MSTAR
from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import cylinders, one_cluster, output, selection

AHEAD = 4  # clusters that wait in memory for each process
DICTIONARY = json.dumps(list(output.COLUMNS)).encode()  # all records have these names, which compress to little
MAX_KILLED = 3  # clusters in sequence whose process is killed; more are no fault of the clusters


def weigh_many(
    galaxies,
    *,
    centres=None,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
    draws: int = 100,
    seed: int = 1,
    samples: bool = False,
    members: bool = False,
    velocity_error: float | None = None,
    complete: bool = False,
    classical: bool = False,
    model: str = "survey",
    directory: Path | str | None = None,
    cores: int = 1,
    scheduler: str | None = None,
    partial: Path | str | None = None,
    progress: Callable[[int, int, str, float], None] | None = None,
) -> tuple[list[dict], dict[str, str]]:
    """Weigh every cluster of a table: records (`output.record`) in the order of names, and reasons of failures by name.

    `galaxies` are from `galaxy_table.read`: those of all clusters, with `cluster_column`, or those around the `centres`
    of `cylinders.read_centres`. `min_log_mstar`, `draws`, `seed`, `velocity_error`, `complete`, `classical` and
    `model` are those of `one_cluster.weigh`; `samples` keeps samples of the posterior and likelihoods, `members` the
    galaxies with their probabilities. `directory` is that of `one_cluster.load_model`.
    `cores` processes share the work, or the workers of the Dask scheduler at the address `scheduler`, which find the
    networks at the same place.

    The file `partial` keeps each result as soon as there is one; an interrupted run continues from it. `progress` is
    called with the number of clusters done, their total, the name of the last one, and the expected seconds left. If
    one cluster fails, even by a killed process, its reason is returned and the others go on. Raises `ClusterToolsError`
    if networks or parameters are unusable, the partial results are of another run, or every process is killed.
    """
    clusters = cylinders.by_name(galaxies) if centres is None else cylinders.about(galaxies, centres)
    settings = {"draws": draws, "seed": seed, "velocity_error": velocity_error}
    settings |= {"complete": complete, "classical": classical}
    kept = {"samples": samples, "galaxies": members}
    weigh = functools.partial(_weigh, (model, directory), min_log_mstar, settings, kept)
    one_cluster.check_settings(draws, seed, velocity_error)
    arrays.check_number("cores", cores, 1, whole=True)
    networks = one_cluster.load_model(model, directory).provenance  # refuses wrong networks before work begins
    tables = [table for table in (galaxies, centres) if table is not None]
    contents = [[name, store.digest(table[name].data.tobytes())] for table in tables for name in table.colnames]
    identity = store.digest([contents, min_log_mstar, settings, kept, networks, store.code_digest("weighing")])
    with _partial_results(partial, identity) as (results, keep):
        waiting = [name for name in clusters if name not in results]
        started = time.monotonic()
        tasks = ((name, clusters[name]()) for name in waiting)
        with machine.dask_client(scheduler) if scheduler and waiting else nullcontext() as client:
            for count, (name, result) in enumerate(_results(weigh, tasks, min(cores, len(waiting)), client), 1):
                keep(name, result)
                if progress:
                    left = (time.monotonic() - started) * (len(waiting) / count - 1)
                    progress(len(results), len(clusters), name, left)
    records = [results[name] for name in clusters if isinstance(results[name], dict)]
    return records, {name: results[name] for name in clusters if isinstance(results[name], str)}


def _results(weigh: Callable, clusters: Iterator[tuple], cores: int, client=None) -> Iterator[tuple[str, dict | str]]:
    """Name and record of each cluster, or the reason why there is none, in the order in which they are done.

    If a process is killed, each cluster that was being weighed then is weighed alone, which tells whose fault it was.
    """
    if cores == 0:
        return
    if client is not None:
        cores = sum(client.nthreads().values())
    pool, running, killed = _pool(cores, client), {}, 0
    try:
        while True:
            for cluster in itertools.islice(clusters, AHEAD * cores - len(running)):
                running[_submit(pool, weigh, *cluster)] = cluster
            if not running:
                return
            done = wait(running, return_when=FIRST_COMPLETED).done
            whole = {future for future in done if not isinstance(future.exception(), BrokenProcessPool)}
            for future in whole:
                yield running.pop(future)[0], _result(future)
            if whole == done:
                continue
            pool.shutdown(wait=False)
            for cluster in running.values():
                with _pool(1) as alone:
                    future = _submit(alone, weigh, *cluster)
                    killed = killed + 1 if isinstance(future.exception(), BrokenProcessPool) else 0
                if killed > MAX_KILLED:
                    raise ClusterToolsError(
                        "Processes that weigh clusters are killed, most often for want of memory; try --cores 1. "
                        "With --output, the same command goes on from here."
                    )
                yield cluster[0], _result(future)
            pool, running = _pool(cores), {}
    finally:
        for future in running:
            future.cancel()
        pool.shutdown(wait=False)


def _pool(cores: int, client=None) -> Executor:
    """Processes that end with this one, or the workers of a Dask client."""
    if client is not None:
        return client.get_executor(pure=False)
    context = machine.start_fork_server(__name__)
    return ProcessPoolExecutor(cores, mp_context=context, initializer=machine.end_with_starter)


def _submit(pool: Executor, *task) -> Future:
    """Submit a task; a process that starts for it does not import the caller's script, which would weigh once more."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        return pool.submit(*task)
    except BrokenProcessPool as error:
        future: Future = Future()
        future.set_exception(error)
        return future
    finally:
        sys.modules["__main__"] = script


def _result(future: Future) -> dict | str:
    """The record of a cluster, or the reason why there is none."""
    return _reason(error) if (error := future.exception()) else future.result()


def _reason(error: BaseException) -> str:
    if isinstance(error, ClusterToolsError):
        return str(error)
    if isinstance(error, BrokenProcessPool):
        return "the process that weighed it was killed, most often for want of memory"
    return f"it could not be weighed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


load_model = functools.cache(one_cluster.load_model)  # once in each process of the pool


def _weigh(model: tuple, min_log_mstar: float | None, settings: dict, kept: dict, name: str, cluster) -> dict | str:
    try:
        estimator = load_model(*model)
        options = {"min_log_mstar": min_log_mstar, "fewest": estimator.fewest, **cluster.place()}
        observation = selection.select_galaxies(cluster.table(), name=name, **options)
        return output.record(one_cluster.estimate_mass(observation, estimator, **settings), **kept)
    except Exception as error:  # one cluster stops no other
        return _reason(error)


@contextmanager
def _partial_results(partial: Path | str | None, identity: str) -> Iterator[tuple[dict, Callable]]:
    """Results of an earlier run by name, and a function that adds one to them and to the file.

    The first line of the file is the identity of the run, each other line one result, packed with a checksum. A line
    that was being written when the run was killed, or is damaged, is dropped. The lock goes with the process.
    """
    results: dict[str, dict | str] = {}
    if partial is None:
        yield results, results.__setitem__
        return
    shown = paths.shown(Path(partial))
    with store.writing(partial), open(partial, "ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterToolsError(f"{shown} is in use by another run; wait for it, or write elsewhere.") from None
        file.seek(0)
        header = json.dumps(["weigh", identity]).encode() + b"\n"
        lines = [line for line in file if line.endswith(b"\n")]
        if lines and lines[0] != header:
            other = "of another table, parameters or version, or is damaged"
            raise ClusterToolsError(f"{shown} holds partial results {other}; delete it, or write elsewhere.")
        for line in lines[1:]:
            with suppress(ValueError, zlib.error):  # a damaged result is weighed again
                expand = zlib.decompressobj(zdict=DICTIONARY)
                text = expand.decompress(base64.b64decode(line.rstrip(b"\n")))
                if expand.eof:  # else it is cut short
                    name, results[name] = json.loads(text)
        file.truncate(sum(map(len, lines)))
        if not lines:
            file.write(header)

        def keep(name: str, result: dict | str) -> None:
            squeeze = zlib.compressobj(zdict=DICTIONARY)
            text = json.dumps([name, result], separators=(",", ":")).encode()
            file.write(base64.b64encode(squeeze.compress(text) + squeeze.flush()) + b"\n")
            file.flush()
            results[name] = result

        yield results, keep
