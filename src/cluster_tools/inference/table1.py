"""Table 1 of the paper with errors, with its baseline, and in three forms: CSV, HTML, LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from cluster_tools import store
from cluster_tools.book import artefacts
from cluster_tools.inference import calibration, validation
from cluster_tools.mocks import dispersions

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler


def errors(predictions, own: str, other: str, *, seed: int, resamples: int = calibration.RESAMPLES) -> dict[str, float]:
    """The bootstrap error of each number of `validation.summary`, as ``<name>_error`` [dex].

    Clusters are drawn with repetition, each with all its lines of sight.
    """
    found = {}
    for prefix, name in (("val", own), ("xval", other)):
        some = predictions.of(name)

        def statistic(rows, residual=some.residual, variance=some.sigma**2):  # as `validation.summary`
            lo, median, hi = np.percentile(residual[rows], validation.PERCENTILES)
            return np.array([median, lo, hi, np.sqrt(np.mean(variance[rows]))])

        drawn = calibration.bootstrap(statistic, some.cluster, seed=seed, resamples=resamples)
        keys = (f"{prefix}_median", f"{prefix}_lo", f"{prefix}_hi", f"sqrt_var_{prefix}")
        found |= {f"{key}_error": float(error) for key, error in zip(keys, drawn.std(axis=0), strict=True)}
    return found


def m_sigma(catalogs: dict, own: str, other: str, left_out, *, selection: str = "small", seed: int) -> dict:
    """The baseline's row of Table 1: M-sigma fitted to the flat set of `own` and inverted.

    Parameters
    ----------
    catalogs : name of the simulation -> `catalogs.MockCatalog`
    left_out : folds; the clusters of each are predicted by the relation fitted without it
    selection : of galaxies, see `dispersions.velocity_dispersions`
    seed : of the bootstrap

    Returns
    -------
    dict with the columns of the models' rows: ``input_dim`` is 0, for a single number instead of an image, and
    ``sqrt_var_`` the scatter of the inverted relation about the flat set. Test clusters whose
    dispersion can't be measured are left out.
    """
    parts = []
    for fold in left_out:
        train = catalogs[own].select(catalogs[own].in_train & (catalogs[own].fold != fold))
        relation = dispersions.fit_m_sigma(train, selection)
        for name in (own, other):
            rows = np.flatnonzero(catalogs[name].in_test & (catalogs[name].fold == fold))
            test = catalogs[name].select(rows)
            dispersion = dispersions.velocity_dispersions(test.v_los, test.r_proj, test.offsets, selection)
            seen = dispersion > 0  # False for NaN
            mean = relation.log_m200c(dispersion[seen])
            columns = (np.full(seen.sum(), name), rows[seen], test.cluster[seen], test.log_m200c[seen], mean)
            parts.append((*columns, np.full(len(mean), relation.scatter), mean[:, None]))
    predictions = validation.Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)), {})
    found = validation.summary(predictions, own, other) | errors(predictions, own, other, seed=seed)
    return {"simulation": own, "input_dim": 0, "reweighted": False, **found}


def m_sigma_of_coma(catalog, simulation: str, sample, *, selection: str = "small", n: int = 1000):
    """What M-sigma, fitted to the flat set of a simulation's catalogue, says of Coma.

    Parameters
    ----------
    catalog : `catalogs.MockCatalog` of `simulation`
    sample : table of Coma's galaxies, from `survey.load_sample`
    selection : of galaxies, see `dispersions.velocity_dispersions`
    n : samples of the Gaussian, at evenly spread quantiles

    Returns
    -------
    pipeline.ComaPosterior with `input_dim` 0; sigma is the scatter of the inverted relation [dex].
    """
    relation = dispersions.fit_m_sigma(catalog.select(catalog.in_train), selection)
    v_los, r_proj = sample["v_los"].value, sample["r_proj"].value
    dispersion = dispersions.velocity_dispersions(v_los, r_proj, [0, len(sample)], selection)
    mean = float(relation.log_m200c(dispersion)[0])
    samples = mean + relation.scatter * norm.ppf((np.arange(n) + 0.5) / n)
    return artefacts.ComaPosterior(simulation, 0, False, mean, relation.scatter, samples.astype(np.float32))


def styled(table: pd.DataFrame, published: pd.DataFrame) -> Styler:
    """The table for the book: ours beside the paper's, which is set in grey."""
    beside = validation.beside_published(table, published)
    grey = beside["from"].eq("the paper").map({True: "color: var(--pst-color-text-muted, #767676)", False: ""})
    shown = beside.style.set_uuid("table-1").hide().format(escape="html")
    return shown.set_table_attributes('class="dataframe table-1"').apply(lambda column: grey, axis=0)


def latex(table: pd.DataFrame, published: pd.DataFrame) -> str:
    """The table as a LaTeX ``tabular``, for ``booktabs``."""
    beside = validation.beside_published(table, published)
    signs = {"−": "$-$", "+": "$+$", "±": r"$\pm$", "√var": r"$\sqrt{\mathrm{var}}$", "–": "--", "σ": r"$\sigma$"}

    def plain(text):
        for sign, command in signs.items():
            text = text.replace(sign, command)
        return text

    return (
        beside.map(plain).rename(columns=plain).to_latex(index=False, column_format="ll" + "c" * (beside.shape[1] - 2))
    )


def write(directory: Path | str, table: pd.DataFrame, published: pd.DataFrame) -> None:
    """Write ``table1.html`` and ``table1.tex`` into a directory; `artefacts.write_table` writes the CSV."""
    store.write_text(Path(directory) / "table1.html", styled(table, published).to_html())
    store.write_text(Path(directory) / "table1.tex", latex(table, published))
