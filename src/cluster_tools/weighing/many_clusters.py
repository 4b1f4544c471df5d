"""The masses of all clusters of one table, on all cores; results survive an interruption.

Each cluster is weighed by itself, with the same seed, in a process with one thread. Its result depends neither on the
other clusters, nor on the number of processes, nor on an interruption.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np

from cluster_tools import machine, paths, store
from cluster_tools.cosmology import MIN_LOG_MSTAR
from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import one_cluster, output, selection


def weigh_many(
    galaxies,
    *,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
    draws: int = 100,
    seed: int = 1,
    velocity_error: float | None = None,
    classical: bool = False,
    model: str = "survey",
    directory: Path | str | None = None,
    cores: int = 1,
    partial: Path | str | None = None,
    progress: Callable[[int, int, str, float], None] | None = None,
) -> tuple[list[dict], dict[str, str]]:
    """Weigh every cluster of a table: records (`output.record`) in the order of names, and reasons of failures by name.

    `galaxies` are those of all clusters, from `galaxy_table.read` with `cluster_column`; `min_log_mstar`, `draws`,
    `seed`, `velocity_error`, `classical` and `model` are those of `one_cluster.weigh`. `directory` has networks as the
    paper's, by default those of the package. `cores`
    processes share the work. The file `partial` keeps each result as soon as there is one; an interrupted run
    continues from it. `progress` is called with the number of clusters done, their total, the name of the last one,
    and the expected seconds left. Raises `ClusterToolsError` if networks or parameters are unusable, the partial
    results are of another run, or a process died.
    """
    tasks = {str(cluster["cluster"][0]): cluster for cluster in galaxies.group_by("cluster").groups}
    for cluster in tasks.values():
        cluster.meta["rejected"] = {}  # those of the whole table
    settings = {
        "min_log_mstar": min_log_mstar, "draws": draws, "seed": seed, "velocity_error": velocity_error,
        "classical": classical,
    }  # fmt: skip
    networks = one_cluster.describe_model(model, directory)  # refuses wrong networks before work begins
    content = b"".join(galaxies[name].data.tobytes() for name in galaxies.colnames)
    identity = store.digest(
        [galaxies.colnames, store.digest(content), settings, networks, store.code_digest("weighing")]
    )
    with _partial_results(partial, identity) as (results, keep):
        waiting = [name for name in tasks if name not in results]
        started = time.monotonic()
        for count, (name, result) in enumerate(_results(waiting, tasks, settings, (model, directory), cores), 1):
            keep(name, result)
            if progress:
                left = (time.monotonic() - started) * (len(waiting) / count - 1)
                progress(len(results), len(tasks), name, left)
    records = [results[name] for name in tasks if isinstance(results[name], dict)]
    return records, {name: results[name] for name in tasks if isinstance(results[name], str)}


def _results(waiting, tasks, settings, model, cores) -> Iterator[tuple[str, dict | str]]:
    """Name and record of each cluster, or the reason why there is none, in the order in which they are done."""
    if not waiting:
        return
    # The fork server imports this module once, with one thread. Threads of this process would not survive a fork.
    os.environ |= machine.SINGLE_THREADED
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(min(cores, len(waiting)), mp_context=context) as pool:
        futures = {pool.submit(_weigh, name, tasks[name], *model, **settings): name for name in waiting}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise ClusterToolsError(
                "A process that weighs clusters was killed, most often for want of memory; try --cores 1. With "
                "--output, the same command goes on from here."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@cache  # once in each process of the pool
def _model(model, directory):
    return one_cluster.load_model(model, directory)


def _weigh(name: str, galaxies, model, directory, *, min_log_mstar: float | None, **settings) -> dict | str:
    model = _model(model, directory)
    try:
        ra, dec, redshift = (_one_value(galaxies, f"cluster_{column}") for column in ("ra", "dec", "z"))
        centre = None if ra is None else (ra, dec)
        observation = selection.select_galaxies(
            galaxies,
            name=name,
            centre=centre,
            redshift=redshift,
            min_log_mstar=min_log_mstar,
            fewest=one_cluster.fewest(model),
        )
        return output.record(one_cluster.estimate_mass(observation, model, **settings))
    except ClusterToolsError as error:
        return str(error)


def _one_value(galaxies, column: str) -> float | None:
    """The value of a column in all rows of a cluster; None without this column."""
    if column not in galaxies.colnames:
        return None
    values = np.unique(galaxies[column])
    if len(values) != 1:
        raise ClusterToolsError(
            f"{galaxies[column].description} has {len(values)} values in the rows of this cluster; expected one."
        )
    return float(values[0])


@contextmanager
def _partial_results(partial: Path | str | None, identity: str) -> Iterator[tuple[dict, Callable]]:
    """Results of an earlier run by name, and a function that adds one to them and to the file.

    The first line of the file is the identity of the run, each other line one result with its digest. A line that was
    being written when the run was killed, or is damaged, is dropped. The lock goes with the process.
    """
    results: dict[str, dict | str] = {}
    if partial is None:
        yield results, results.__setitem__
        return
    shown = paths.shown(Path(partial))
    try:
        with open(partial, "ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterToolsError(f"{shown} is in use by another run; wait for it, or write elsewhere.") from None
            file.seek(0)
            lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
            header = ["weigh", identity]
            try:
                if lines and json.loads(lines[0]) != header:
                    raise ValueError
            except (TypeError, ValueError):
                raise ClusterToolsError(
                    f"{shown} holds partial results of another table, other parameters or another version, or is "
                    "damaged; delete it, or write elsewhere."
                ) from None
            for line in lines[1:]:
                with suppress(TypeError, ValueError):  # a damaged result is weighed again
                    name, result, digest = json.loads(line)
                    if digest == store.digest([name, result]):
                        results[name] = result
            file.truncate(sum(map(len, lines)))

            def write(*line) -> None:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())

            def keep(name: str, result: dict | str) -> None:
                results[name] = result
                write(name, result, store.digest([name, result]))

            if not lines:
                write(*header)
            yield results, keep
    except OSError as error:
        raise ClusterToolsError(
            f"{shown} could not be written ({error.strerror or error}); free space or permissions there and run the "
            "same command again."
        ) from error
