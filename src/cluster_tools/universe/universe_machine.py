"""Real simulations as snapshots: UniverseMachine's galaxies in Rockstar's haloes, checked and joined on ids.

M200c comes from Rockstar (Behroozi et al. 2013), since UniverseMachine has virial masses only. `simulation_files` reads
the files in pieces. Haloes above the mass limit are kept in memory; galaxies pass through, and the join is judged at
the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from cluster_tools import paths
from cluster_tools.cosmology import LOG_M_HOST, MIN_LOG_MSTAR, Simulation, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import simulation_files, snapshots
from cluster_tools.universe.simulation_files import PHASE_SPACE, Columns

NO_GALAXY = 16  # bit of `flags`: not a galaxy of this snapshot
ORPHAN = 10**15  # a galaxy that lost its halo n snapshots ago has its last id + n 1e15
EDGE = 1.0  # Mpc/h: a galaxy this little outside the periodic box is put back
FASTEST = 2e4  # km/s
MAX_UNJOINED = 0.05  # share of hosts and of their centrals
MAX_LEVELS = 10  # of the hierarchy of haloes, which may go in circles in a damaged file
ROWS_PER_LINE = 2**27  # of progress


def read(
    name: str,
    source: str,
    path: Path | str | None,
    *,
    min_log_mstar: float = MIN_LOG_MSTAR,
    file: Path | str | None = None,
    progress: Callable[[str], None] | None = None,
) -> snapshots.Snapshot:
    """Read the galaxies and hosts of a real simulation from the files in and below the directory `path`.

    `name` is "mdpl2" or "uchuu"; `source` is "universe_machine", or for Uchuu also "uchuu". Galaxies have an observed
    stellar mass ``obs_sm`` of at least `min_log_mstar` [log10 Msun, no h]; rows with ``flags & 16`` are left out. Hosts
    are the Rockstar haloes of at least 10^13.5 Msun/h (M200c) that lie in no larger one, in order of their ids. A
    galaxy is a member of the host at the top of its hierarchy of haloes of this mass.

    With a snapshot `file` to write, memory stays below 1 GiB; without, each galaxy takes 66 bytes. `progress` is called
    with lines of text. ``provenance["counts"]`` of the snapshot counts the rows that were read, left out, kept, and did
    not join.

    Raises `ClusterToolsError` for files that are missing, ambiguous, cut short or of another layout or snapshot,
    impossible values, or more than 5% of hosts or their centrals that do not join; no `file` is written then.
    """
    sim = simulation(name)
    tell = progress or (lambda line: None)
    galaxy_files, halo_files = simulation_files.find(name, source, path)
    haloes = _haloes(sim, halo_files)
    tell(f"{len(haloes['id']):,} haloes of at least 10^{LOG_M_HOST:g} Msun/h")
    hosts = np.flatnonzero((haloes["upid"] == -1) & (haloes["m200c"] >= 10.0**LOG_M_HOST))
    if len(hosts) == 0:
        raise ClusterToolsError(
            f"None of {len(haloes['id'])} haloes lies in no other (upid -1) and has M200c of at least "
            f"10^{LOG_M_HOST:g} Msun/h; check the haloes that go with {paths.shown(galaxy_files[0])}."
        )
    counts = Counter(hosts=len(hosts))
    pieces = _galaxies(sim, galaxy_files, haloes, hosts, min_log_mstar, counts, tell)
    log_m200c = np.log10(haloes["m200c"][hosts].astype(np.float64))
    place = haloes["position"][hosts], haloes["velocity"][hosts]
    return snapshots.collect(sim, sim.box_size, *place, log_m200c, pieces, path=file, provenance={"counts": counts})


def _haloes(sim: Simulation, files: list[Path]) -> Columns:
    """Haloes and subhaloes of at least this mass, virial or M200c, in order of their ids."""
    shown = paths.shown(files[0]) if files else "CosmoSim's answer"

    def massive(piece: Columns) -> np.ndarray:
        return np.maximum(piece["mvir"], piece["m200c"]) >= 10.0**LOG_M_HOST

    pieces = simulation_files.haloes(sim, files)
    haloes = _concatenated([kept for kept, _, _ in _checked(sim, pieces, ("mvir", "m200c"), massive, shown)])
    _refuse_repeated(haloes["id"], shown)
    haloes["position"] = snapshots.wrapped(haloes["position"], sim.box_size)
    order = np.argsort(haloes["id"])
    return {name: values[order] for name, values in haloes.items()}


def _galaxies(sim, files, haloes, hosts, min_log_mstar, counts, tell) -> Iterator[np.ndarray]:
    """Pieces of `snapshots.GALAXY`. After the last one, `counts` is complete and the join judged."""
    shown = paths.shown(files[0])
    cut, lightest_host = 10.0**min_log_mstar, 10.0**LOG_M_HOST

    def wanted(piece: Columns) -> np.ndarray:  # galaxies, and the centrals that must join, whatever the cut
        return (piece["obs_sm"] >= cut) | ((piece["upid"] == -1) & (piece["mvir"] >= lightest_host))

    host_of_halo, halo_of_id = _host_of_each_halo(haloes, hosts), pd.Index(haloes["id"])
    centrals = []
    pieces = simulation_files.galaxies(sim, files)
    for kept, rows, ignored in _checked(sim, pieces, ("mvir", "obs_sm"), wanted, shown):
        central = kept["upid"] == -1
        halo = halo_of_id.get_indexer(np.where(central, kept["id"], kept["upid"]))
        host = np.where(halo >= 0, host_of_halo[halo], -1)
        # M200c is about 0.8 of the virial mass, so that all these should be in the list of haloes.
        massive = central & (kept["mvir"] >= 1.25 * lightest_host)
        is_host = central & (host >= 0) & (hosts[host] == halo)  # a central of UniverseMachine may be a subhalo
        centrals.append({name: kept[name][is_host] for name in ("position", "mvir")} | {"host": host[is_host]})
        above = kept["obs_sm"] >= cut
        kinds = {"galaxies": above, "orphans": above & (kept["id"] >= ORPHAN), "massive_centrals": massive}
        kinds["centrals_without_halo"] = massive & (halo < 0)
        counts.update({"rows": rows, "ignored": ignored} | {name: int(these.sum()) for name, these in kinds.items()})
        if counts["rows"] % ROWS_PER_LINE < rows:
            tell(f"{counts['rows']:,} rows read, {counts['galaxies']:,} galaxies kept")
        yield snapshots.galaxy_table(
            position=kept["position"][above], velocity=kept["velocity"][above], host=host[above],
            is_satellite=~central[above], log_mstar=np.log10(kept["obs_sm"][above]),
        )  # fmt: skip
    counts["below_cut"] = counts["rows"] - counts["ignored"] - counts["galaxies"]
    if not counts["galaxies"]:
        raise ClusterToolsError(
            f"{shown}: none of {counts['rows']:,} rows has obs_sm of at least 10^{min_log_mstar:g} Msun; it is of "
            "another layout (download it again), or min_log_mstar is too large."
        )
    _check_join(sim, _concatenated(centrals), haloes, hosts, counts, shown)
    tell(", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items()))


def _concatenated(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked(sim, pieces: Generator, masses: tuple[str, str], wanted, shown) -> Iterator[tuple[Columns, int, int]]:
    """Check pieces; yield the wanted rows of each (id, upid, masses, position, velocity), all rows and ignored ones."""
    place = (-EDGE, sim.box_size + EDGE, f"a position from 0 to {sim.box_size:g} Mpc/h")
    speed = (-FASTEST, FASTEST, f"a velocity below {FASTEST:g} km/s")
    bounds = {"id": (0, np.inf, "0 or more"), "upid": (-1, np.inf, "-1 or more")}
    bounds |= dict.fromkeys(masses, (0, 1e17, "a mass from 0 to 1e17"))
    bounds |= dict.fromkeys(PHASE_SPACE[:3], place) | dict.fromkeys(PHASE_SPACE[3:], speed)
    total = 0
    with closing(pieces):  # an error must not leave a file open
        for files, first, piece in pieces:
            n = len(piece["id"])
            used = np.ones(n, bool) if "flags" not in piece else (piece["flags"] & NO_GALAXY) == 0
            kept = used & wanted(piece)
            for name, (low, high, expected) in bounds.items():
                bad = (kept if name in PHASE_SPACE else used) & ~((piece[name] >= low) & (piece[name] <= high))
                if bad.any():
                    row = int(bad.argmax())
                    raise ClusterToolsError(
                        f"{files[name]}, column {name}, row {first + row + 1}: found {piece[name][row]:g}, but "
                        f"{expected} is expected; the file is damaged or of another layout: download it again."
                    )
            columns = {name: piece[name][kept] for name in masses}
            columns |= {name: piece[name][kept].astype(np.int64) for name in ("id", "upid")}
            for name, axes in (("position", PHASE_SPACE[:3]), ("velocity", PHASE_SPACE[3:])):
                columns[name] = np.stack([piece[axis][kept] for axis in axes], axis=1).astype(np.float32)
            total += n
            yield columns, n, n - int(np.count_nonzero(used))
    if not total:
        raise ClusterToolsError(f"{shown} holds no rows at all; download it again.")


def _refuse_repeated(identifiers: np.ndarray, shown: str) -> None:
    values, times = np.unique(identifiers, return_counts=True)
    if (times > 1).any():
        raise ClusterToolsError(
            f"{shown} has the id {values[times > 1][0]} {times.max()} times ({(times > 1).sum()} such ids); each is "
            "expected once: one snapshot, and no file twice."
        )


def _host_of_each_halo(haloes: Columns, hosts: np.ndarray) -> np.ndarray:
    """Number of the host at the top of each halo's hierarchy; -1 if there is none."""
    top = np.arange(len(haloes["id"]))
    above = np.where(haloes["upid"] == -1, top, pd.Index(haloes["id"]).get_indexer(haloes["upid"]))
    for _ in range(MAX_LEVELS):
        top = np.where(top >= 0, above[top], -1)
    number = np.full(len(top), -1, np.int32)
    number[hosts] = np.arange(len(hosts))
    return np.where(top >= 0, number[top], -1).astype(np.int32)


def _check_join(sim: Simulation, centrals: Columns, haloes: Columns, hosts, counts: Counter, shown: str) -> None:
    """Count the hosts without a galaxy; refuse too many that do not join, and haloes that are not the same."""
    host = hosts[centrals["host"]]
    _refuse_repeated(haloes["id"][host], shown)
    counts["hosts_without_central"] = len(hosts) - len(host)
    for fault, total, missing in (
        ("hosts have no central galaxy of their id", "hosts", "hosts_without_central"),
        ("massive central galaxies have no halo of their id", "massive_centrals", "centrals_without_halo"),
    ):
        if counts[missing] > MAX_UNJOINED * counts[total]:
            raise ClusterToolsError(
                f"{shown}: {counts[missing]} of {counts[total]} {fault}, but at most {MAX_UNJOINED:.0%} are expected; "
                "check that galaxies and haloes are of the same simulation and snapshot, and that all parts are there."
            )
    away = snapshots.shortest(centrals["position"] - haloes["position"][host], sim.box_size)
    for quantity, value, low, high in (
        ("distance [Mpc/h] of central galaxies from the haloes of their ids", np.linalg.norm(away, axis=1), 0, 0.1),
        ("ratio of Mvir of galaxies to Mvir of haloes", centrals["mvir"] / haloes["mvir"][host], 0.9, 1.1),
        ("ratio of M200c to Mvir of haloes", haloes["m200c"][host] / haloes["mvir"][host], 0.5, 1.1),
    ):
        if not low <= np.median(value) <= high:
            raise ClusterToolsError(
                f"{shown}: the median {quantity} is {np.median(value):.3g}, but {low} to {high} is expected; both must "
                f"be of one snapshot, in comoving Mpc/h and Msun/h (a ratio near {sim.hubble:.2f} or "
                f"{1 / sim.hubble:.2f} means that one is in Msun)."
            )
