"""How good the predictions are: residuals, coverage, and the validation columns of Table 1.

Residuals are epsilon = m_pred - m_true with m = log10 M200c (Ho et al. 2022, Table 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from cluster_tools import hdf5
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde

PERCENTILES = (16, 50, 84)
FORMAT = "cluster_tools predictions 2"
COLUMNS = ("row", "cluster", "log_m200c", "mean", "sigma", "samples")


@dataclass(frozen=True)
class Predictions:
    """What one model predicts for test clusters that it has not seen.

    Attributes
    ----------
    simulation : of each cluster, array (n,) of names: the model's own, or the other
    row : int array (n,), the cluster's row in that simulation's catalogue
    cluster : int array (n,), its number in that simulation: the same for all its lines of sight
    log_m200c, mean, sigma : float64 arrays (n,): truth, predicted mean and its uncertainty [dex]
    samples : float32 array (n, k), of the posterior of log10 M200c [Msun/h]
    provenance : the stamp of `store.stamp`
    """

    simulation: np.ndarray
    row: np.ndarray
    cluster: np.ndarray
    log_m200c: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    samples: np.ndarray
    provenance: dict

    def of(self, simulation: str) -> Predictions:
        """Only the clusters of this simulation."""
        return self.select(self.simulation == simulation)

    def select(self, rows) -> Predictions:
        """Only these rows: a bool array (n,) or row numbers, in that order."""
        return Predictions(*(getattr(self, name)[rows] for name in ("simulation", *COLUMNS)), self.provenance)

    @property
    def residual(self) -> np.ndarray:
        """m_pred - m_true [dex]."""
        return self.mean - self.log_m200c

    def write(self, path: Path | str) -> None:
        """Write as HDF5, atomically."""
        columns = {"simulation": self.simulation.astype("S")}
        columns |= {name: getattr(self, name) for name in COLUMNS}
        with hdf5.create(path, FORMAT, self.provenance) as file:
            for name, column in columns.items():
                file.create_dataset(name, data=column, **hdf5.CHECKED)

    @classmethod
    def read(cls, path: Path | str) -> Predictions:
        """Read what `write` wrote; `ClusterToolsError` for a missing, damaged or foreign file."""
        with hdf5.opened(path, FORMAT, "make it again with `make book`, or with chapter 04") as file:
            columns = [file[name][()] for name in COLUMNS]
            return cls(file["simulation"][()].astype(str), *columns, hdf5.provenance(file))


def predict(
    ensemble, catalogs: dict, *, reference_r_proj=None, draws=100, max_test=None, seed=0, held_out=False, progress=None
):
    """Predict each catalogue's natural test set, every cluster by networks that left its fold out.

    Parameters
    ----------
    ensemble : `ensembles.CNNEnsemble` or `deep_sets.SetEnsemble`
    catalogs : name of the simulation -> `catalogs.MockCatalog`
    reference_r_proj : Coma's radii [Mpc/h] for a re-weighted model, else None
    draws : dropout draws of each network
    max_test : at most so many clusters of each catalogue, drawn at random; None: all
    seed : of the choice and the draws
    held_out : instead of the test set, the flat set that the networks would have been trained on, had
        it not been for their fold: to learn from what must not be learnt from the test set
    progress : called with (clusters done, clusters in all)

    Returns
    -------
    Predictions, with an empty provenance. Clusters of folds that no network left out are not
    predicted: with one fold, a tenth of the test set is.
    """
    if max_test is not None and (not isinstance(max_test, int | np.integer) or max_test < 1):
        raise ClusterToolsError(f"max_test is {max_test!r}, but a whole number from 1 on, or None, is expected.")
    left_out = sorted({network.fold for network in ensemble.networks})
    chosen = {}
    for name, catalog in catalogs.items():
        rows = np.flatnonzero((catalog.in_train if held_out else catalog.in_test) & np.isin(catalog.fold, left_out))
        if max_test is not None and len(rows) > max_test:  # the same ones for every model
            rows = np.sort(np.random.default_rng(seed).choice(rows, max_test, replace=False))
        chosen[name] = rows
    done, total = 0, sum(map(len, chosen.values()))
    parts = []
    for name, catalog in catalogs.items():
        for fold in left_out:
            rows = chosen[name][catalog.fold[chosen[name]] == fold]
            if len(rows) == 0:
                continue
            some = catalog.select(rows)
            posterior = ensemble.posterior(
                observables(some, ensemble.input_dim, reference_r_proj), draws=draws, seed=seed, fold=fold
            )
            found = (posterior.mean, posterior.sigma, posterior.samples)
            parts.append(([name] * len(rows), rows, some.cluster, some.log_m200c, *found))
            done += len(rows)
            if progress:
                progress(done, total)
    if not parts:
        kind = "training" if held_out else "test"
        raise ClusterToolsError(
            f"no cluster of the {kind} sets is in folds {left_out}, the ones left out; use a larger box."
        )
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)), {})


def observables(catalog, input_dim: int | str, reference_r_proj=None):
    """What networks read of a catalogue's rows: images of dimension 1 or 2, or the galaxies themselves.

    Parameters
    ----------
    catalog : `catalogs.MockCatalog`, or anything else with v_los, r_proj and offsets
    input_dim : 1 or 2, for `networks`; "sets" or, with their number, "counted", for `deep_sets`
    reference_r_proj : radii [Mpc/h] whose profile all are re-weighted to, or None
    """
    if isinstance(input_dim, str):
        from cluster_tools.networks import deep_sets

        return deep_sets.inputs(catalog, reference_r_proj, counted=input_dim == "counted")
    return images(catalog, input_dim, reference_r_proj)


def images(catalog, input_dim: int, reference_r_proj=None) -> np.ndarray:
    """Images of a catalogue's rows; with `reference_r_proj`, re-weighted to that radial profile."""
    weights = None
    if reference_r_proj is not None:
        weights = kde.radial_weights(catalog.r_proj, catalog.offsets, reference_r_proj)
    return kde.phase_space_images(catalog.v_los, catalog.r_proj, catalog.offsets, input_dim=input_dim, weights=weights)


def percentiles(residual) -> dict[str, float]:
    """Median and 16th and 84th percentile of residuals [dex], as ``median``, ``lo``, ``hi``."""
    lo, median, hi = np.percentile(residual, PERCENTILES)
    return {"median": float(median), "lo": float(lo), "hi": float(hi)}


def summary(predictions: Predictions, own: str, other: str) -> dict[str, float]:
    """The validation columns of Table 1 for one model.

    ``val_`` on the simulation that it was trained on, ``xval_`` on the other: residual median and
    16-84 percentiles, and ``sqrt_var_``, the root of the mean predicted variance, all in dex.
    """
    columns = {}
    for prefix, name in (("val", own), ("xval", other)):
        some = predictions.of(name)
        columns |= {f"{prefix}_{key}": value for key, value in percentiles(some.residual).items()}
        columns[f"sqrt_var_{prefix}"] = float(np.sqrt(np.mean(some.sigma**2)))
    return columns


def coverage(predictions: Predictions, levels) -> np.ndarray:
    """Share of clusters whose true mass lies in the central posterior interval of each level.

    The posterior is taken as the Gaussian that the paper reports, of mean and sigma.
    """
    distance = np.abs(predictions.residual) / predictions.sigma
    return np.array([(distance <= norm.ppf(0.5 + level / 2)).mean() for level in levels])


def beside_published(table, published):
    """Table 1 for readers: two lines a model, ours and the paper's, as text with errors.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns of `summary`, the errors of `table1.errors` if there are any, and
        `coma_mean` and `coma_sigma` where they are known.
    published : pandas.DataFrame from `literature.published_table1`, whose ranges are offsets

    Returns
    -------
    pandas.DataFrame with columns ``model`` and ``from`` and one for each column of Table 1; a
    model that the paper does not have stands alone. A row with `input_dim` 0 is the M-sigma relation, with "sets" or
    "counted" a network that reads galaxies.
    """
    import pandas as pd

    which = ["simulation", "input_dim", "reweighted"]
    paper = published.copy()
    for prefix in ("val", "xval"):
        paper[f"{prefix}_lo"] = published[f"{prefix}_median"] - published[f"{prefix}_lo"]
        paper[f"{prefix}_hi"] = published[f"{prefix}_median"] + published[f"{prefix}_hi"]
    lines = []
    for row in table.to_dict("records"):
        same = (paper[which] == [row[name] for name in which]).all(axis=1)
        kind = row["input_dim"] if isinstance(row["input_dim"], str) else f"{row['input_dim']}D"
        kind = "M-σ" if kind == "0D" else kind
        model = f"{row['simulation']} {kind}" + ", re-weighted" * bool(row["reweighted"])
        lines.append({"model": model, "from": "this book", **_printed(row)})
        for other in paper[same].to_dict("records"):
            lines.append(
                {"model": "", "from": "the paper", **_printed({name: other[name] for name in row if name in other})}
            )
    return pd.DataFrame(lines)


def _printed(row) -> dict[str, str]:
    """The columns of Table 1 as the paper prints them; where the row has errors, one digit more, as 0.104(6)."""

    def number(value, name, sign="+"):
        error = row.get(f"{name}_error", np.nan)
        return f"{value:{sign}.3f}({1000 * error:.0f})" if np.isfinite(error) else f"{value:{sign}.2f}"

    cells = {}
    for prefix, title in (("val", "residual, own"), ("xval", "residual, other")):
        lo, median, hi = (row[f"{prefix}_{key}"] for key in ("lo", "median", "hi"))
        ends = f"{number(lo - median, f'{prefix}_lo')}, {number(hi - median, f'{prefix}_hi')}"
        ends = f"[{ends}]" if "(" in ends else f"({ends})"
        cells[title] = f"{number(median, f'{prefix}_median')} {ends}".replace("-", "−")
    for prefix, title in (("val", "√var, own"), ("xval", "√var, other")):
        cells[title] = number(row[f"sqrt_var_{prefix}"], f"sqrt_var_{prefix}", "")
    if "coma_mean" in row:
        known = np.isfinite(row["coma_mean"])
        cells["Coma"] = f"{row['coma_mean']:.2f} ± {row['coma_sigma']:.2f}" if known else "–"
    return cells
