"""Many clusters of one table, on all cores; what is done stays done if the run is interrupted.

Each cluster is weighed by itself, with the same seed, by a process with one thread: its result does not depend on the
others, on the number of processes, or on what was done before an interruption.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster_tools import machine, paths, store
from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import galaxy_table, one_cluster, output


@dataclass(frozen=True)
class Settings:
    """How each cluster is weighed: parameters of `one_cluster.weigh`.

    `centre` and `redshift` are names of columns, (of ra, of dec) and of z, that hold one value for each cluster.
    """

    centre: tuple[str, str] | None = None
    redshift: str | None = None
    min_log_mstar: float | None = one_cluster.MIN_LOG_MSTAR
    draws: int = 100
    seed: int = 1


@dataclass(frozen=True)
class Many:
    """Records (`output.record`) of the clusters that were weighed, and why the others were not, by name."""

    records: list[dict]
    failed: dict[str, str]


def weigh_many(
    table,
    cluster_column: str,
    *,
    settings: Settings = Settings(),  # noqa: B008 frozen
    columns: Mapping[str, str] | None = None,
    directory: Path | str | None = None,
    cores: int = 1,
    partial: Path | str | None = None,
    progress: Callable[[int, int, str, float], None] | None = None,
) -> Many:
    """Weigh every cluster of a table, in the order of their names.

    Parameters
    ----------
    table, columns : as of `one_cluster.weigh`; a galaxy may be listed for several clusters
    cluster_column : the column that names the cluster of each galaxy
    settings : how each is weighed
    directory : of the networks; None: those that come with the package
    cores : processes at once
    partial : file where each result is kept as soon as it is there, and from where a run that was interrupted goes on
    progress : called with (clusters done, in all, name of the last one, seconds left as far as can be told)

    Raises
    ------
    ClusterToolsError
        For a table, networks or settings that cannot be used at all, partial results of another run, or a process
        that died. A cluster that cannot be weighed is listed in the result.
    """
    places = [column for column in (*(settings.centre or ()), settings.redshift) if column is not None]
    galaxies = galaxy_table.read(table, columns=columns, cluster_column=cluster_column, places=places)
    tasks = dict(_tasks(galaxies))
    described = one_cluster.Scale.describe(directory)  # refuses what is missing before work begins
    identity = store.digest([
        store.digest(b"".join(np.ascontiguousarray(c).tobytes() for c in _columns(galaxies))),
        vars(settings), described, store.code_digest("weighing"),
    ])  # fmt: skip
    with _kept(partial, identity) as (done, keep):
        waiting = [name for name in tasks if name not in done]
        started = time.monotonic()
        for name, found in _weighed(waiting, tasks, settings, directory, cores):
            keep(name, found)
            done[name] = found
            if progress:
                count = len(waiting) - sum(each not in done for each in waiting)
                left = (time.monotonic() - started) * (len(waiting) / count - 1)
                progress(len(done), len(tasks), name, left)
    records = [done[name] for name in tasks if isinstance(done[name], dict)]
    return Many(records, {name: done[name] for name in tasks if isinstance(done[name], str)})


def _columns(galaxies) -> list[np.ndarray]:
    every = (getattr(galaxies, name) for name in galaxy_table.COLUMNS)
    return [column for column in (*every, *galaxies.places.values()) if column is not None]


def _tasks(galaxies) -> Iterator[tuple[str, galaxy_table.Galaxies]]:
    """Name and galaxies of each cluster."""
    names, number = np.unique(galaxies.cluster, return_inverse=True)
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    yield from ((name, galaxies.select(own)) for name, own in zip(names.tolist(), rows, strict=True))


def _weighed(waiting, tasks, settings, directory, cores) -> Iterator[tuple[str, dict | str]]:
    """Each cluster's name and record, or the sentence why there is none, as they come."""
    if not waiting:
        return
    # Processes fork from one that has imported what they need, but has no threads and no TensorFlow, as this one may.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with _environment(machine.SINGLE_THREADED), ProcessPoolExecutor(
        min(cores, len(waiting)), mp_context=context, initializer=_load, initargs=(directory,)
    ) as pool:  # fmt: skip
        futures = {pool.submit(_weigh, name, tasks[name], settings): name for name in waiting}
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


_scale: list[one_cluster.Scale] = []  # of a process of the pool, loaded once


def _load(directory) -> None:
    _scale.append(one_cluster.Scale.load(directory))


def _weigh(name: str, galaxies, settings: Settings) -> dict | str:
    try:
        seen = one_cluster.observe(
            galaxies, name=name, min_log_mstar=settings.min_log_mstar,
            centre=settings.centre and tuple(_one(galaxies, column) for column in settings.centre),
            redshift=settings.redshift and _one(galaxies, settings.redshift),
        )  # fmt: skip
        return output.record(one_cluster.put_on(_scale[0], seen, draws=settings.draws, seed=settings.seed))
    except ClusterToolsError as error:
        return str(error)


def _one(galaxies, column: str) -> float:
    """The value that this column has in all rows of a cluster."""
    values = np.unique(galaxies.places[column])
    if len(values) != 1:
        raise ClusterToolsError(
            f"column {column!r} has {len(values)} values in the rows of this cluster; expected one."
        )
    return float(values[0])


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _kept(partial: Path | str | None, identity: str) -> Iterator[tuple[dict, Callable]]:
    """What an earlier run left, by name, and a function that keeps one more result.

    The file has one line for each result, with its digest; a line that was being written when the run was killed is
    dropped. The lock goes with the process.
    """
    if partial is None:
        yield {}, lambda name, found: None
        return
    partial = Path(partial)
    shown = paths.shown(partial)
    try:
        with open(partial, "ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterToolsError(f"{shown} is in use by another run; wait for it, or write elsewhere.") from None
            file.seek(0)
            done, intact = _read_lines(file.read(), identity, shown)
            file.truncate(intact)

            def keep(name: str, found: dict | str) -> None:
                file.write(_line([name, found, store.digest([name, found])]))
                file.flush()
                os.fsync(file.fileno())

            if not intact:
                file.write(_line(["weigh", identity]))
            yield done, keep
    except OSError as error:
        raise ClusterToolsError(
            f"{shown} could not be written ({error.strerror or error}); free space or permissions there and run the "
            "same command again."
        ) from error


def _line(content) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def _read_lines(content: bytes, identity: str, shown: str) -> tuple[dict, int]:
    """Results in the lines of a partial file, and how many of its bytes are intact."""
    done, intact = {}, 0
    for number, line in enumerate(content.splitlines(keepends=True)):
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if number == 0:
            if fields != ["weigh", identity] and line.endswith(b"\n"):
                raise ClusterToolsError(
                    f"{shown} holds partial results of another table, other parameters or another version; "
                    "delete it, or write elsewhere."
                )
            if fields != ["weigh", identity]:
                return {}, 0
        else:
            if not (isinstance(fields, list) and len(fields) == 3 and fields[2] == store.digest(fields[:2])):
                break
            done[fields[0]] = fields[1]
        intact += len(line)
    return done, intact
