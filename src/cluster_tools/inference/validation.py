"""Predictions of one model for clusters of known mass, their residuals, and the images that networks read.

The residual is m_pred - m_true [dex] with m = log10 M200c (Ho et al. 2022, Table 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster_tools import arrays, hdf5
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde

PERCENTILES = (16, 50, 84)
HEAVY_EDGES = np.arange(146, 153) / 10  # log10 Msun/h: bins of mass of the heavy clusters, Coma's among them
FORMAT = "cluster_tools predictions 2"
COLUMNS = ("row", "cluster", "log_m200c", "mean", "sigma", "samples")


@dataclass(frozen=True)
class Predictions:
    """Posteriors of one model for n clusters that its networks were not trained on."""

    simulation: np.ndarray  #: name of the simulation of each cluster, array (n,)
    row: np.ndarray  #: row in the catalogue of that simulation
    cluster: np.ndarray  #: its number in that simulation, the same for all lines of sight
    log_m200c: np.ndarray  #: true mass [log10 Msun/h], float64
    mean: np.ndarray  #: predicted mean [log10 Msun/h], float64
    sigma: np.ndarray  #: predicted standard deviation [dex], float64
    samples: np.ndarray  #: of the posterior [log10 Msun/h], float32 array (n, k)
    provenance: dict  #: stamp of `store.stamp`; empty for predictions that were not stored

    def tested_on(self, simulation: str) -> Predictions:
        """Predictions for the clusters of one simulation."""
        return self.select(self.simulation == simulation)

    def select(self, rows) -> Predictions:
        """Predictions for these rows, a bool array (n,) or row numbers."""
        return Predictions(*(getattr(self, name)[rows] for name in ("simulation", *COLUMNS)), self.provenance)

    @property
    def residual(self) -> np.ndarray:
        """m_pred - m_true [dex], float64 array (n,)."""
        return self.mean - self.log_m200c

    def write(self, path: Path | str) -> None:
        """Write an HDF5 file, atomically."""
        columns = {"simulation": self.simulation.astype("S"), **{name: getattr(self, name) for name in COLUMNS}}
        hdf5.write(path, FORMAT, self.provenance, columns)

    @classmethod
    def read(cls, path: Path | str) -> Predictions:
        """Read a file of `write`; raises `ClusterToolsError` if it is missing, damaged or foreign."""
        with hdf5.opened(path, FORMAT, "make it again with `make book`, or with chapter 04") as file:
            columns = [file[name][()] for name in COLUMNS]
            return cls(file["simulation"][()].astype(str), *columns, hdf5.provenance(file))


def predict(
    ensemble, catalogs: dict, *, heavy=False, reference_r_proj=None, draws=100, max_test=None, seed=0
) -> Predictions:
    """Predict test clusters of each catalogue, every cluster by the networks that left its fold out.

    The networks are those of an `ensembles.CNNEnsemble` or `deep_sets.SetEnsemble`; `catalogs` holds `MockCatalog` by
    name of the simulation. `reference_r_proj` are Coma's radii [comoving Mpc/h] for a re-weighted model. Each network
    makes `draws` passes with dropout, seeded by `seed`. With `heavy`, the clusters are those of the flat set with
    masses in `HEAVY_EDGES`, extra hosts among them; networks did not learn from those of the folds left out. At most
    `max_test` clusters of each catalogue are drawn at random. Raises `ClusterToolsError` if `max_test` is no whole
    number above 0, or no cluster is in the left-out folds.
    """
    if max_test is not None:
        arrays.check_number("max_test", max_test, 1, whole=True)
    left_out, parts = sorted({network.fold for network in ensemble.networks}), []
    for name, catalog in catalogs.items():
        in_range = (catalog.log_m200c >= HEAVY_EDGES[0]) & (catalog.log_m200c < HEAVY_EDGES[-1])
        chosen = catalog.in_train & in_range if heavy else catalog.in_test
        rows = np.flatnonzero(chosen & np.isin(catalog.fold, left_out))
        if max_test is not None and len(rows) > max_test:  # the same clusters for every model
            rows = np.sort(np.random.default_rng(seed).choice(rows, max_test, replace=False))
        for fold, of_fold, observed in by_fold(ensemble, catalog, rows, reference_r_proj):
            posterior = ensemble.posterior(observed, draws=draws, seed=seed, fold=fold)
            truth = (np.full(len(of_fold), name), of_fold, catalog.cluster[of_fold], catalog.log_m200c[of_fold])
            parts.append((*truth, *vars(posterior).values()))
    if not parts:
        raise ClusterToolsError(f"no test cluster is in folds {left_out}, which were left out; use a larger box.")
    return Predictions(*map(np.concatenate, zip(*parts, strict=True)), {})


def by_fold(ensemble, catalog, rows, reference_r_proj=None) -> Iterator[tuple]:
    """For each fold among `rows` (n,) of a catalogue: fold, its rows, and their `observables` for an ensemble."""
    for fold in np.unique(catalog.fold[rows]):
        of_fold = rows[catalog.fold[rows] == fold]
        yield int(fold), of_fold, observables(catalog.select(of_fold), ensemble.input_dim, reference_r_proj)


def aligned(predictions: Sequence[Predictions]) -> list[Predictions]:
    """Predictions of several models in one order of clusters; `ClusterToolsError` if these are not the same ones."""
    ordered = [each.select(np.lexsort((each.row, each.simulation))) for each in predictions]
    for each in ordered:
        if not all(np.array_equal(getattr(each, name), getattr(ordered[0], name)) for name in ("row", "simulation")):
            n, m = len(ordered[0].row), len(each.row)
            raise ClusterToolsError(f"predictions of {n} and {m} clusters differ; make all with one max_test and seed.")
    return ordered


def observables(catalog, input_dim: int | str, reference_r_proj=None):
    """Inputs of a network for each row of a catalogue: images (float32), or `deep_sets.SetInputs`.

    `input_dim` is 1 or 2 for images, "sets" or "counted" for galaxies without or with their number.
    Rows are re-weighted to the profile of the radii `reference_r_proj` [comoving Mpc/h], if given.
    """
    if isinstance(input_dim, str):
        from cluster_tools.networks import deep_sets

        return deep_sets.inputs(catalog, reference_r_proj, counted=input_dim == "counted")
    galaxies = (catalog.v_los, catalog.r_proj, catalog.offsets)
    weights = None if reference_r_proj is None else kde.radial_weights(*galaxies[1:], reference_r_proj)
    return kde.phase_space_images(*galaxies, input_dim=input_dim, weights=weights)


def percentiles(residual) -> dict[str, float]:
    """Median, 16th and 84th percentile and half their distance [dex]: ``median``, ``lo``, ``hi``, ``half_width``."""
    lo, median, hi = map(float, np.percentile(residual, PERCENTILES))
    return {"median": median, "lo": lo, "hi": hi, "half_width": (hi - lo) / 2}
