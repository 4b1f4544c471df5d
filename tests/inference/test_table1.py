"""Table 1: residuals of both simulations with errors, the M-sigma row, and the table beside the paper's."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from gaussian_predictions import both_simulations
from scipy.stats import norm
from small_catalog import ten_folds

from cluster_tools.coma import literature
from cluster_tools.inference import table1, validation


def test_summary_keeps_the_simulations_apart():
    truth, mean = np.full(6, 14.5), 14.5 + np.array([0.1, 0.1, 0.1, -0.2, -0.2, -0.2])
    sigma = np.array([0.1, 0.1, 0.1, 0.1, 0.2, 0.3])
    simulation = np.repeat(["mdpl2", "uchuu"], 3)
    both = validation.Predictions(simulation, np.arange(6), np.arange(6), truth, mean, sigma, mean[:, None], {})
    row = table1.summary(both, "uchuu", seed=1)
    assert row["val_median"] == pytest.approx(-0.2) and row["xval_median"] == pytest.approx(0.1)
    assert row["sqrt_var_val"] == pytest.approx(np.sqrt(0.14 / 3)) and row["sqrt_var_xval"] == pytest.approx(0.1)
    swapped = table1.summary(both, "mdpl2", seed=1)
    assert swapped["val_median"] == row["xval_median"] and swapped["sqrt_var_xval"] == row["sqrt_var_val"]
    published = set(literature.published_table1().columns) - {*table1.MODEL, "coma_mean", "coma_sigma"}
    published |= {"inside_val", "inside_xval"}
    assert set(row) == published | {f"{name}_error" for name in published}


def test_errors_are_those_of_gaussian_residuals():
    both = both_simulations()
    row = table1.summary(both, "uchuu", seed=1)
    # The median of n Gaussian numbers: 1.253 sigma / sqrt(n); here the sights of a cluster are independent.
    residual = both.tested_on("uchuu").residual
    assert row["val_median_error"] == pytest.approx(1.253 * residual.std() / np.sqrt(1500), rel=0.3)
    assert row["xval_median_error"] > row["val_median_error"]


def test_table_stands_beside_the_published_one():
    published = literature.published_table1()
    ours = table1._percentiles(published)
    assert ours.loc[0, ["val_lo", "val_hi"]].tolist() == pytest.approx([0.06 - 0.12, 0.06 + 0.12])  # Uchuu 1D
    ours["coma_mean"] += 0.5
    lines = table1.beside_published(ours.sample(frac=1, random_state=1), published)
    assert len(lines) == 16 and (lines["from"] == ["this book", "the paper"] * 8).all()
    book, paper = lines[::2].reset_index(), lines[1::2].reset_index()
    for title in ("residual, own", "residual, other", "√var, own", "√var, other"):
        assert (book[title] == paper[title]).all()
    row = list(book["model"]).index("Uchuu 2D")  # the paper's standard model: 15.10 +- 0.15
    assert (book["Coma"][row], paper["Coma"][row]) == ("15.60 ± 0.15", "15.10 ± 0.15")
    assert paper["residual, own"][row] == "+0.04 (−0.09, +0.08)"
    assert "Coma" not in table1.beside_published(ours.drop(columns=["coma_mean", "coma_sigma"]), published)


def test_verdicts_name_what_is_off_and_by_how_much():
    published = literature.published_table1()
    ours = table1._percentiles(published).assign(inside_val=0.7, inside_val_error=0.01, val_median_error=0.004)
    ours[["val_lo_error", "val_hi_error", "sqrt_var_val_error"]] = 0.003
    assert (table1.judged(ours, published)["verdict"] == "agrees").all()
    off = ours.copy()
    off.loc[0, ["val_lo", "val_hi"]] += [-0.025, 0.025]
    off.loc[1, ["inside_val", "val_median"]] = [0.80, -0.001]
    verdicts = table1.judged(off, published)["verdict"]
    assert verdicts[0] == "half-width +0.025 dex off, 11.8 errors" and (verdicts[2:] == "agrees").all()
    assert verdicts[1] == "intervals hold 80.0%, 6.0 errors beyond 74%; median not positive, 0.2 errors"


def test_the_papers_own_table_implies_how_much_its_intervals_hold():
    published = literature.published_table1().assign(val_median=0.0, val_lo=0.1, val_hi=0.2, sqrt_var_val=0.2)
    # Two half Gaussians without a bias: 2 of their 0.1 below the median, 1 of their 0.2 above it.
    expected = norm.cdf(1) - norm.cdf(-2)
    np.testing.assert_allclose(table1.implied_inside(published), expected, rtol=1e-12)
    # A bias of one interval leaves half of the residuals outside, but for those beyond its far end.
    biased = table1.implied_inside(published.assign(val_median=0.2))
    np.testing.assert_allclose(biased, 0.5 - norm.cdf(-4), rtol=1e-12)


def test_all_passes_count_the_scatter_between_passes_twice():
    rng, truth = np.random.default_rng(1), np.linspace(14, 15, 4000)
    error, dropout = 0.08, 0.06  # dex: of the cluster, common to all passes, and of a single pass

    class Stub:
        input_dim = 2

        def passes(self, images, draws, seed, *, fold):
            assert len(images) == (catalog.fold == fold).sum()
            known = truth[catalog.fold == fold]
            mu = (known + error * rng.normal(size=len(known)))[:, None] + dropout * rng.normal(size=(len(known), draws))
            return mu, np.full(mu.shape, np.hypot(error, dropout))  # what the loss of single passes teaches

    catalog = SimpleNamespace(fold=np.arange(4000) % 2, log_m200c=truth, select=lambda rows: rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table1.validation, "observables", lambda rows, *_: rows)
        table = table1.single_passes(Stub(), catalog, np.arange(4000), draws=50, seed=1)
    one, both = table.loc["one pass"], table.loc["all passes"]
    assert one["rms_residual"] == pytest.approx(one["rms_sigma"], rel=0.03)
    assert one["inside"] == pytest.approx(0.683, abs=0.02)
    assert both["rms_residual"] == pytest.approx(error, rel=0.03)
    assert both["rms_sigma"] == pytest.approx(np.sqrt(error**2 + 2 * dropout**2), rel=0.03)
    assert both["inside"] == pytest.approx(2 * norm.cdf(both["rms_sigma"] / error) - 1, abs=0.02)


def test_errors_are_printed_where_they_are_known_and_models_that_the_paper_lacks_stand_alone():
    published = literature.published_table1()
    errors = {"val_median": 0.013, "val_lo": 0.006, "val_hi": 0.007, "sqrt_var_val": 0.004}
    ours = table1._percentiles(published).iloc[:1].assign(**{f"{name}_error": error for name, error in errors.items()})
    lines = table1.beside_published(pd.concat([ours, ours.assign(input_dim=0, coma_mean=np.nan)]), published)
    assert lines["residual, own"][0] == "+0.060(13) [−0.120(6), +0.120(7)]" and "[" not in lines["residual, own"][1]
    assert list(lines["model"]) == ["Uchuu 1D", "", "Uchuu M-σ"] and lines["Coma"][2] == "–"


def test_table_as_html_and_latex(tmp_path):
    row = dict(zip(table1.MODEL, ("uchuu", 2, False))) | table1.summary(both_simulations(), "uchuu", seed=1)
    table1.write(tmp_path / "table1.html", pd.DataFrame([row]), literature.published_table1())
    html, tex = ((tmp_path / f"table1.{kind}").read_text(encoding="utf-8") for kind in ("html", "tex"))
    assert html.count("<tr>") == 3 and "Uchuu 2D" in html and "--pst-color-text-muted" in html
    rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and all(row.count("&") == 5 for row in rows)
    assert tex.isascii() and r"[$-$" in rows[1]  # a plain pdflatex reads it


def test_m_sigma_row_is_complete():
    catalogs = {"uchuu": ten_folds(300, seed=1), "mdpl2": ten_folds(300, seed=2)}
    row = table1.m_sigma(catalogs, "uchuu", range(10), selection="raw", seed=1)
    assert np.isfinite([value for name, value in row.items() if name.startswith(("val", "xval", "sqrt"))]).all()
    assert list(table1.beside_published(pd.DataFrame([row]), literature.published_table1())["model"]) == ["Uchuu M-σ"]
