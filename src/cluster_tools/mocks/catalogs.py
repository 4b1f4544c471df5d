"""Mock catalogues: clusters drawn from a snapshot, observed along lines of sight, in ten folds.

A row is one cluster seen along one line of sight. The flat training set and the natural test set of Ho et al. 2022
(Methods, "Mock catalog generation") are flags on the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from cluster_tools import hdf5
from cluster_tools.cosmology import simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import observe
from cluster_tools.ragged import ClusterGalaxies, cluster_offsets, per_cluster, per_galaxy

BIN = 0.02  # dex, width of a mass bin of the flat training set
ROWS_PER_DEX = 6310.0  # 10^-5.2 (h/Mpc)^3 per dex over 1 (Gpc/h)^3
MAX_LINES_OF_SIGHT = 500
FOLDS = 10
TEST_LOG_M200C = 14.0
FORMAT = "cluster_tools mock catalogue 2"


@dataclass(frozen=True)
class MockCatalog(ClusterGalaxies):
    """Clusters seen along lines of sight, with the galaxies in each one's cylinder; v_los and r_proj are float32."""

    is_member: np.ndarray = per_galaxy()  #: bool: in the cluster's halo; otherwise the galaxy is an interloper
    cluster: np.ndarray = per_cluster()  #: int32: number of the cluster in its snapshot
    log_m200c: np.ndarray = per_cluster("log10 Msun/h")  #: [log10 Msun/h], float64
    fold: np.ndarray = per_cluster()  #: int8: 0 to 9, by rank of mass; the same for all lines of sight of a cluster
    #: int16: 0, 1, 2 are the axes of the box; larger numbers count directions that depend on the rows of the mass bin
    line_of_sight: np.ndarray = per_cluster()
    in_train: np.ndarray = per_cluster()  #: bool: in the flat training set
    in_test: np.ndarray = per_cluster()  #: bool: in the natural test set
    extra_host: np.ndarray = per_cluster()  #: bool: of a box of its own, numbered after the snapshot's hosts
    provenance: dict = field(default_factory=dict)  #: the stamp of `store.stamp`

    @property
    def log_m200c_range(self) -> tuple[float, float]:
        """Masses between which the flat training set was drawn [log10 Msun/h]."""
        parameters = self.provenance["parameters"]
        high = simulation(parameters["simulation"]).log_m200c_range[1]
        return parameters["min_log_m200c"], high

    def write(self, path: Path | str) -> None:
        """Write the catalogue as HDF5, atomically: one dataset a column, units as attributes."""
        with hdf5.create(path, FORMAT, self.provenance) as file:
            for name, (unit, axis) in COLUMNS.items():
                column = file.create_dataset(name, data=getattr(self, name), **hdf5.CHECKED)
                column.attrs["unit"] = np.bytes_(unit)
                column.attrs["axis"] = np.bytes_(axis)

    @classmethod
    def read(cls, path: Path | str) -> MockCatalog:
        """Read a catalogue; raises `ClusterToolsError` for one that is missing, damaged or foreign."""
        with hdf5.opened(path, FORMAT, "make it again with `make book`, or with chapter 01") as file:
            columns = {name: file[name][()] for name in COLUMNS}
            return cls(**columns, provenance=hdf5.provenance(file))


# Name of each column: its unit and axis.
COLUMNS = {f.name: (f.metadata["unit"], f.metadata["axis"]) for f in fields(MockCatalog) if f.metadata}


def build(
    snapshot, *, extra=None, rows_per_dex: float = ROWS_PER_DEX, seed=0, min_log_m200c=TEST_LOG_M200C, **options
) -> MockCatalog:
    """Observe a snapshot's clusters: the flat training set and the natural test set.

    Test: every cluster above 10^14 Msun/h along the three axes. Training: `rows_per_dex` rows per dex of mass (6310 in
    the paper: 10^-5.2 (h/Mpc)^3 per dex over 1 (Gpc/h)^3) from `min_log_m200c` [log10 Msun/h] to the end of the
    simulation's range. In bins of 0.02 dex they are drawn with `seed`, without replacement, from the lines of sight
    of the bin's clusters: 3 to 500 each, as many as fill the bin. Hosts of the box `extra` (`synthetic.heavy_box`) join
    the training set, but not the test set, which is one box's. Rows with fewer than 11 galaxies are left out. `options`
    are those of `observe.observe`: galaxies, min_log_mstar, and memory, scheduler and progress, which change no value.
    The catalogue has no provenance.

    Raises `ClusterToolsError` for a `rows_per_dex` too low for the bins, a box without clusters, clusters with too few
    galaxies, and the reasons of `observe.observe`.
    """
    boxes = [snapshot] if extra is None else [snapshot, extra]
    log_m = np.concatenate([box.host_log_m200c for box in boxes])
    fold = np.concatenate([folds(box.host_log_m200c) for box in boxes])
    n_own = len(snapshot.host_log_m200c)
    rng = np.random.default_rng(seed)
    test = np.flatnonzero(log_m[:n_own] >= TEST_LOG_M200C)
    n_test = 3 * len(test)
    drawn_host, drawn_sight, drawn_direction, drawn_bin, rows_in_bin = _draw_flat(
        log_m, snapshot.simulation.log_m200c_range[1], rows_per_dex, min_log_m200c, rng
    )
    host, sight = np.r_[np.repeat(test, 3), drawn_host], np.r_[np.tile(np.arange(3), len(test)), drawn_sight]
    direction = np.concatenate([np.tile(np.eye(3), (len(test), 1)), drawn_direction])
    parts, order = [], np.argsort(host >= n_own, kind="stable")  # rows of the snapshot, then those of `extra`
    for box, first, rows in zip(boxes, (0, n_own), np.split(order, [int((host < n_own).sum())])):
        parts.append(observe.observe(box, host[rows] - first, direction[rows], **options))
    count, *by_galaxy = parts.pop() if extra is None else map(np.concatenate, zip(*parts))
    enough = np.empty(len(host), bool)
    enough[order] = count >= observe.FEWEST_GALAXIES
    if not enough.any():
        raise ClusterToolsError(
            f"No cluster of the box shows {observe.FEWEST_GALAXIES} galaxies "
            f"(min_log_mstar={options.get('min_log_mstar')}), the most are {count.max()}; lower min_log_mstar."
        )
    in_test = enough & (np.arange(len(host)) < n_test)
    in_train = np.zeros(len(host), bool)
    candidates = np.flatnonzero(enough[n_test:])
    number = drawn_bin[candidates]  # ascending
    rank = np.arange(len(candidates)) - np.searchsorted(number, number)
    in_train[n_test + candidates[rank < rows_in_bin[number]]] = True
    host, sight, in_train, in_test = (column[order] for column in (host, sight, in_train, in_test))
    kept = in_test | in_train
    kept_galaxies = np.repeat(kept, count)
    for i, column in enumerate(by_galaxy):  # one at a time, so that memory holds at most one column twice
        by_galaxy[i] = column[kept_galaxies]
    v_los, r_proj, is_member = by_galaxy
    host, sight = host[kept], sight[kept].astype(np.int16)
    return MockCatalog(
        v_los, r_proj, cluster_offsets(count[kept]), is_member, host.astype(np.int32), log_m[host],
        fold[host], sight, in_train[kept], in_test[kept], host >= n_own,
    )  # fmt: skip


def thinned(catalog: MockCatalog, share: float, *, seed: int) -> MockCatalog:
    """The catalogue of an incomplete survey: a random `share` of each row's galaxies, rounded up; 0 < share <= 1."""
    if not 0 < share <= 1:
        raise ClusterToolsError(f"share is {share!r}, but a number above 0, and 1 at most, is expected.")
    row = catalog.cluster_index
    order = np.lexsort((np.random.default_rng(seed).random(len(row)), row))  # shuffled in each row
    rank = np.arange(len(row)) - catalog.offsets[row]
    chosen = np.zeros(len(row), bool)
    chosen[order[rank < np.ceil(share * catalog.richness)[row]]] = True
    return catalog.keep(chosen)


def folds(log_m200c) -> np.ndarray:
    """Fold 0 to 9 of each cluster (int8): its rank in mass among all hosts of the snapshot, modulo 10."""
    return (np.argsort(np.argsort(log_m200c, kind="stable")) % FOLDS).astype(np.int8)


def _draw_flat(log_m, high, rows_per_dex, low, rng):
    """Candidates of the flat set (host, line of sight, its direction, mass bin) and the number of rows of each bin.

    Candidates are sorted by bin and shuffled within it. A fifth more than rows are drawn, since a few have too few
    galaxies.
    """
    lightest = log_m.min(initial=np.inf)
    if not isinstance(low, int | float) or not min(lightest - 2 * BIN, TEST_LOG_M200C) <= low < high:
        raise ClusterToolsError(
            f"min_log_m200c is {low!r}, but a mass from {lightest:.2f} (the lightest host) to {high} is expected."
        )
    edges = np.append(np.arange(low, high - 1e-9, BIN), high)
    rows = np.rint(rows_per_dex * np.diff(edges)).astype(int)  # fewer in the last bin, which is narrower
    if rows[0] < 1:
        raise ClusterToolsError(f"rows_per_dex is {rows_per_dex:g}, but {1 / BIN:g} (one in each bin) is the least.")
    candidates = []
    bin_of = np.searchsorted(edges, log_m, side="right") - 1
    for number, n_candidates in enumerate(1.2 * rows):
        clusters = np.flatnonzero(bin_of == number)
        if len(clusters) == 0:
            continue
        per_cluster = int(np.clip(np.ceil(n_candidates / len(clusters)), 3, MAX_LINES_OF_SIGHT))
        views = per_cluster * len(clusters)
        drawn = rng.choice(views, size=min(views, int(np.ceil(n_candidates))), replace=False)
        cluster, sight = divmod(drawn, per_cluster)
        direction = observe.lines_of_sight(per_cluster)[sight]
        candidates.append((clusters[cluster], sight, direction, np.full(len(drawn), number)))
    if not candidates:
        raise ClusterToolsError(
            f"The box holds no cluster between 10^{low} and 10^{high} Msun/h; choose a larger box_size."
        )
    return *map(np.concatenate, zip(*candidates)), rows
