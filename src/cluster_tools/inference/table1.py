"""Table 1 of Ho et al. (2022) with bootstrap errors and the M-sigma baseline, as CSV, HTML and LaTeX."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy.stats import norm

from cluster_tools import cosmology, paths, store
from cluster_tools.inference import calibration, estimators, validation
from cluster_tools.mocks import dispersions
from cluster_tools.networks import ensembles

MODEL = ["simulation", "input_dim", "reweighted"]  # columns that name a model
TOLERANCES = {"half-width": 0.02, "√var": 0.02, "median": 0.05}  # dex, from the paper's Table 1, own simulation
TODAY = "slower random motions"  # today's universes, beside the earlier ones
INSIDE = (0.63, 0.74)  # share of true masses that 68% intervals may hold
LATEX = {"−": "$-$", "+": "$+$", "±": r"$\pm$", "√var": r"$\sqrt{\mathrm{var}}$", "–": "--", "σ": r"$\sigma$"}


@dataclass(frozen=True)
class ComaPosterior:
    """Coma's mass by one model; `input_dim` as in `models.model_name`."""

    simulation: str
    input_dim: int | str
    reweighted: bool
    mean: float  #: [log10 Msun/h]
    sigma: float  #: [dex]
    samples: np.ndarray  #: of the posterior [log10 Msun/h], array (n,)


def summary(predictions: validation.Predictions, simulation: str, *, seed: int) -> dict[str, float]:
    """Validation columns of Table 1 for a model trained on `simulation`, with bootstrap errors [dex].

    The prefix ``val_`` means that simulation and ``xval_`` the other: ``median``, ``lo`` and ``hi`` of the
    residuals. ``sqrt_var_val`` and ``sqrt_var_xval`` are the roots of the mean predicted variance, ``inside_val`` and
    ``inside_xval`` the shares of true masses in the 68% interval. The error of each has the suffix ``_error``; see
    `calibration.bootstrap`.
    """
    columns = {}
    for prefix, name in (("val", simulation), ("xval", cosmology.other(simulation))):
        tested = predictions.tested_on(name)
        inside = np.abs(2 * calibration.gaussian_pit(tested) - 1) <= 0.68

        def statistic(rows, prefix=prefix, residual=tested.residual, variance=tested.sigma**2, inside=inside):
            percentiles = validation.percentiles(residual[rows])
            values = {f"{prefix}_{key}": percentiles[key] for key in ("median", "lo", "hi")}
            values[f"sqrt_var_{prefix}"] = float(np.sqrt(np.mean(variance[rows])))
            return values | {f"inside_{prefix}": float(np.mean(inside[rows]))}

        columns |= calibration.with_errors(statistic, tested.cluster, seed=seed)
    return columns


def m_sigma(
    catalogs: dict, simulation: str, left_out, *, selection: str = "medium", of_mass: bool = False, seed: int
) -> dict:
    """Row of Table 1 for the M-sigma relation of `simulation`, fitted to the flat set and inverted.

    `catalogs` holds `MockCatalog` by name of the simulation. Clusters of each fold in `left_out` are predicted by
    the relation fitted without it, from the galaxies of `selection` (see `dispersions.velocity_dispersions`);
    those without a dispersion are left out. The scatter of the inverted relation stands for ``sqrt_var_``. `of_mass` is
    that of `estimators.MassRegression.fit`.
    """
    parts, flat = [], catalogs[simulation]
    for fold in left_out:
        relation = estimators.fit_m_sigma(flat.select(flat.in_train & (flat.fold != fold)), selection, of_mass=of_mass)
        for name in (simulation, cosmology.other(simulation)):
            rows = np.flatnonzero(catalogs[name].in_test & (catalogs[name].fold == fold))
            test = catalogs[name].select(rows)
            dispersion = dispersions.velocity_dispersions(test.v_los, test.r_proj, test.offsets, selection)
            has = dispersion > 0  # False for NaN
            mean = relation.log_m200c(np.log10(dispersion[has]), flat_too=True)
            truth = (np.full(len(mean), name), rows[has], test.cluster[has], test.log_m200c[has])
            parts.append((*truth, mean, np.full(len(mean), relation.scatter), mean[:, None]))
    predictions = validation.Predictions(*map(np.concatenate, zip(*parts, strict=True)), {})
    return dict(zip(MODEL, (simulation, 0, False))) | summary(predictions, simulation, seed=seed)


def m_sigma_of_coma(catalog, simulation: str, sample) -> ComaPosterior:
    """Coma's mass by the M-sigma relation of a catalogue's flat set.

    `sample` is the table of `survey.load_sample`. Sigma is the scatter of the inverted relation [dex];
    the 1000 samples are evenly spread quantiles of that Gaussian.
    """
    relation = estimators.fit_m_sigma(catalog.select(catalog.in_train), "medium")
    v_los, r_proj = sample["v_los"].value, sample["r_proj"].value
    (dispersion,) = dispersions.velocity_dispersions(v_los, r_proj, [0, len(sample)], "medium")
    mean = float(relation.log_m200c(np.log10(dispersion), flat_too=True))
    samples = mean + relation.scatter * norm.ppf((np.arange(1000) + 0.5) / 1000)
    return ComaPosterior(simulation, 0, False, mean, relation.scatter, samples.astype(np.float32))


def beside_published(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as text: a line of this book for each model, and the paper's line below it, if there is one.

    `table` has columns of the model and of `summary`, with or without errors, `coma_mean` and `coma_sigma`.
    `published` is `literature.published_table1`, whose ranges are offsets from the median.
    """
    paper, lines = _percentiles(published), []
    for row in table.to_dict("records"):
        lines.append({"model": title(row), "from": "this book", **_printed(row)})
        same = (paper[MODEL] == [row[name] for name in MODEL]).all(axis=1)
        for line in paper.loc[same, [name for name in row if name in paper]].to_dict("records"):
            lines.append({"model": "", "from": "the paper", **_printed(line)})
    return pd.DataFrame(lines)


def judged(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The paper's models on their own simulation beside its Table 1, as text, with a verdict for each.

    Parameters are those of `beside_published`; columns of the verdict's numbers are "this book (the paper)" in dex. A
    model *agrees* if half-width, root of the mean variance and median are within `TOLERANCES` of the paper's, the
    median is positive, and the share inside 68% intervals is within `INSIDE`. Else the verdict names each miss, with
    the distance from the paper's value, or from the limit of the share, in bootstrap errors. The paper's share is the
    one of `implied_inside`.
    """
    paper = _percentiles(published).assign(inside_val=implied_inside(published))
    both = table.merge(paper, on=MODEL, suffixes=("", "_paper"), validate="one_to_one")
    lines = []
    for row in both.to_dict("records"):
        names = ("val_median", "val_lo", "val_hi", "sqrt_var_val", "inside_val")
        error = {name: row.get(f"{name}_error", np.nan) for name in names}
        half_widths = ((row[f"val_hi{whose}"] - row[f"val_lo{whose}"]) / 2 for whose in ("", "_paper"))
        median, inside = row["val_median"], row["inside_val"]
        cells, misses = {}, []
        for name, ours, papers, uncertainty, form in (
            ("half-width", *half_widths, np.hypot(error["val_lo"], error["val_hi"]) / 2, "{:.3f} ({:.3f})"),
            ("√var", row["sqrt_var_val"], row["sqrt_var_val_paper"], error["sqrt_var_val"], "{:.3f} ({:.2f})"),
            ("median", median, row["val_median_paper"], error["val_median"], "{:+.3f} ({:+.2f})"),
        ):
            cells[f"{name} [dex]"] = form.format(ours, papers).replace("-", "−")
            if abs(ours - papers) > TOLERANCES[name]:
                misses.append(f"{name} {ours - papers:+.3f} dex off, {abs(ours - papers) / uncertainty:.1f} errors")
        cells["inside 68%"] = f"{inside:.1%} ({row['inside_val_paper']:.0%})"
        if not INSIDE[0] <= inside <= INSIDE[1]:
            limit, e = np.clip(inside, *INSIDE), error["inside_val"]
            misses.append(f"intervals hold {inside:.1%}, {abs(inside - limit) / e:.1f} errors beyond {limit:.0%}")
        if median <= 0:
            misses.append(f"median not positive, {abs(median) / error['val_median']:.1f} errors")
        lines.append({"model": title(row), **cells, "verdict": "; ".join(misses) or "agrees"})
    return pd.DataFrame(lines)


def implied_inside(published: pd.DataFrame) -> np.ndarray:
    """Share of true masses that the paper's 68% intervals hold on the model's own simulation, by its Table 1: (n,).

    The paper does not print this share. Its residuals are taken for two halves of Gaussians that meet at the median
    and have the printed percentiles; an interval is one root mean variance to each side of the predicted mean.
    """
    columns = ["val_median", "val_lo", "val_hi", "sqrt_var_val"]
    median, below, above, sigma = published[columns].to_numpy(float).T
    ends = np.stack([-sigma, sigma]) - median
    low, high = norm.cdf(ends / np.where(ends < 0, below, above))
    return high - low


def single_passes(ensemble, catalog, rows, *, draws: int = 100, seed: int = 0) -> pd.DataFrame:
    """Errors and stated widths of single dropout passes, and of the posterior that all passes make.

    Each of the `rows` of a `MockCatalog` is predicted by the networks of a `CNNEnsemble` that left its fold out. Lines
    are "one pass" and "all passes"; columns are the rms residual and the rms sigma [dex], and ``inside``, the share of
    true masses within one sigma.

    Training judges single passes, so the sigma of a pass contains the scatter between passes. The posterior's mean has
    less of that scatter, but its variance adds the scatter once more.
    """
    passes = [
        (catalog.log_m200c[of_fold], *ensemble.passes(images, draws, seed, fold=fold))
        for fold, of_fold, images in validation.by_fold(ensemble, catalog, np.asarray(rows))
    ]
    truth, mu, sigma = map(np.concatenate, zip(*passes, strict=True))
    total = ensembles.total_sigma(mu, sigma)
    judged, lines = {"one pass": (mu - truth[:, None], sigma), "all passes": (mu.mean(axis=1) - truth, total)}, {}
    for name, (residual, width) in judged.items():
        rms = {"rms_residual": np.sqrt((residual**2).mean()), "rms_sigma": np.sqrt((width**2).mean())}
        lines[name] = rms | {"inside": (np.abs(residual) <= width).mean()}
    return pd.DataFrame(lines).T


def _percentiles(published: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 1 with percentiles in place of offsets from the median."""
    paper = published.copy()
    for prefix in ("val", "xval"):
        paper[f"{prefix}_lo"] = published[f"{prefix}_median"] - published[f"{prefix}_lo"]
        paper[f"{prefix}_hi"] = published[f"{prefix}_median"] + published[f"{prefix}_hi"]
    return paper


def with_earlier_universes(table: pd.DataFrame) -> pd.DataFrame:
    """The networks' rows of Table 1 from each generation of the synthetic universes, the latest being `table`.

    The columns are those of `table`, and ``universe``, a description. Earlier rows are of the ``book`` profile.
    """
    earlier = pd.read_csv(paths.PACKAGE_DATA / "earlier_universes.csv", comment="#")
    networks = table[table["input_dim"].isin([1, 2])]
    return pd.concat([earlier, networks.assign(universe=TODAY)], ignore_index=True)


def title(row: dict) -> str:
    """A model's name for readers, such as "Uchuu 2D, re-weighted"."""
    kind = row["input_dim"] if isinstance(row["input_dim"], str) else f"{row['input_dim']}D"
    simulation = cosmology.simulation(row["simulation"]).title
    return f"{simulation} {'M-σ' if kind == '0D' else kind}" + ", re-weighted" * bool(row["reweighted"])


def _printed(row: dict) -> dict[str, str]:
    """Columns of Table 1 as the paper prints them; a value with an error, at least 1, has one digit more: 0.104(6)."""

    def number(value, name, sign="+"):
        error = row.get(f"{name}_error", np.nan)
        return f"{value:{sign}.3f}({max(1000 * error, 1):.0f})" if np.isfinite(error) else f"{value:{sign}.2f}"

    cells, widths = {}, {}
    if "coma_mean" in row:
        known = np.isfinite(row["coma_mean"])
        cells["Coma"] = f"{row['coma_mean']:.2f} ± {row['coma_sigma']:.2f}" if known else "–"
    for prefix, whose in (("val", "own"), ("xval", "other")):
        lo, median, hi = (row[f"{prefix}_{key}"] for key in ("lo", "median", "hi"))
        ends = f"{number(lo - median, f'{prefix}_lo')}, {number(hi - median, f'{prefix}_hi')}"
        ends = f"[{ends}]" if "(" in ends else f"({ends})"
        cells[f"residual, {whose}"] = f"{number(median, f'{prefix}_median')} {ends}".replace("-", "−")
        widths[f"√var, {whose}"] = number(row[f"sqrt_var_{prefix}"], f"sqrt_var_{prefix}", "")
    return cells | widths


def styled(table: pd.DataFrame, published: pd.DataFrame) -> Styler:
    """Table 1 for a page, the paper's lines in grey below ours; parameters of `beside_published`."""
    lines = beside_published(table, published)
    paper = lines.pop("from") == "the paper"
    lines["model"] = lines["model"].mask(paper, "the paper")
    # A cell breaks after its median only.
    lines = lines.replace({r", (?=[+−])": ",\u00a0", " ± ": "\u00a0±\u00a0"}, regex=True)
    grey = np.where(paper, "color: var(--pst-color-text-muted, #767676)", "")
    style = lines.style.set_uuid("table-1").hide().format(escape="html")
    return style.set_table_attributes('class="dataframe table-1"').apply(lambda column: grey, axis=0)


def write(path: Path, table: pd.DataFrame, published: pd.DataFrame) -> None:
    """Write Table 1 as HTML, and beside it as ``.tex``, a ``tabular`` for ``booktabs``; see `beside_published`."""
    lines = beside_published(table, published)
    tex = lines.to_latex(index=False, column_format="ll" + "c" * (lines.shape[1] - 2))
    for sign, latex in LATEX.items():
        tex = tex.replace(sign, latex)
    store.write_text(path.with_suffix(".tex"), tex)
    store.write_text(path, styled(table, published).to_html())
