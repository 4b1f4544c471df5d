"""Residuals and coverage against Gaussian numbers; which networks predict which cluster; files."""

import dataclasses
import re
from collections import namedtuple

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from cluster_tools.coma import literature
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation
from cluster_tools.mocks import kde
from cluster_tools.mocks.catalogs import MockCatalog
from cluster_tools.networks.ensembles import Posterior

Left = namedtuple("Left", "fold")


def catalog(n=60, seed=0, in_test=None):
    """Clusters of 20 galaxies each, folds 0 to 9 in turn, the odd rows in the test set."""
    rng = np.random.default_rng(seed)
    return MockCatalog(
        offsets=20 * np.arange(n + 1),
        v_los=rng.normal(0, 900, 20 * n).astype(np.float32),
        r_proj=rng.uniform(0, 2.3, 20 * n).astype(np.float32),
        is_member=np.ones(20 * n, bool),
        cluster=np.arange(n),
        log_m200c=rng.uniform(14, 15, n),
        fold=np.repeat(np.arange(10), -(-n // 10))[:n],
        line_of_sight=np.zeros(n, int),
        in_train=np.arange(n) % 2 == 0,
        in_test=np.arange(n) % 2 == 1 if in_test is None else in_test,
    )


class Stub:
    """Networks that left out `folds`; what they predict as mean is the fold they were asked for."""

    def __init__(self, folds, input_dim=1):
        self.networks, self.input_dim, self.seen = [Left(fold) for fold in folds], input_dim, []

    def posterior(self, images, draws, seed, *, fold):
        self.seen.append((images, draws, seed, fold))
        n = len(images)
        samples = np.tile(np.array([13, 16, 17, 18], np.float32), (n, 1))
        return Posterior(mean=np.full(n, float(fold)), sigma=np.full(n, 0.1), samples=samples)


def predictions(log_m200c, mean, sigma, simulation="uchuu", provenance=None):
    n = len(log_m200c)
    simulation = np.broadcast_to(simulation, n).astype(str)
    samples = (mean[:, None] + sigma[:, None] * norm.ppf((np.arange(9) + 0.5) / 9)).astype(np.float32)
    columns = (np.arange(n), np.arange(n) // 3, log_m200c, mean, sigma, samples)
    return validation.Predictions(simulation, *columns, provenance or {})


# --- numbers --------------------------------------------------------------------------------------


def test_percentiles_of_a_gaussian_are_its_own():
    residual = 0.07 + 0.12 * norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    found = validation.percentiles(residual)
    assert found["median"] == pytest.approx(0.07, abs=1e-4)
    assert found["lo"] == pytest.approx(0.07 - 0.12 * 0.99446, abs=1e-4)  # norm.ppf(0.84) = 0.99446
    assert found["hi"] == pytest.approx(0.07 + 0.12 * 0.99446, abs=1e-4)


def test_residual_is_prediction_minus_truth():
    assert predictions(np.array([14.0]), np.array([14.3]), np.array([0.1])).residual == pytest.approx(0.3)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_coverage_of_gaussian_residuals_is_exact(scale):
    n, levels = 20_000, np.array([0.0, 0.1, 0.5, 0.68, 0.95, 0.999, 1.0])
    rng = np.random.default_rng(1)
    sigma = rng.uniform(0.05, 0.3, n)
    truth = rng.uniform(14, 15, n)
    mean = truth + sigma * norm.ppf((rng.permutation(n) + 0.5) / n)
    found = validation.coverage(predictions(truth, mean, scale * sigma), levels)
    expected = 2 * norm.cdf(scale * norm.ppf(0.5 + levels / 2)) - 1
    np.testing.assert_allclose(found, expected, atol=2 / n)


def test_summary_has_the_columns_of_table_1_and_keeps_the_simulations_apart():
    truth = np.full(6, 14.5)
    mean = truth + np.array([0.1, 0.1, 0.1, -0.2, -0.2, -0.2])
    sigma = np.array([0.1, 0.1, 0.1, 0.1, 0.2, 0.3])
    both = predictions(truth, mean, sigma, ["mdpl2"] * 3 + ["uchuu"] * 3)
    found = validation.summary(both, "uchuu", "mdpl2")
    assert found["val_median"] == pytest.approx(-0.2) and found["xval_median"] == pytest.approx(0.1)
    assert found["sqrt_var_val"] == pytest.approx(np.sqrt(0.14 / 3)) and found["sqrt_var_xval"] == pytest.approx(0.1)
    swapped = validation.summary(both, "mdpl2", "uchuu")
    assert swapped["val_median"] == found["xval_median"] and swapped["sqrt_var_xval"] == found["sqrt_var_val"]
    which = {"simulation", "input_dim", "reweighted", "coma_mean", "coma_sigma"}
    assert set(found) == set(literature.published_table1().columns) - which


def test_table_stands_beside_the_published_one():
    published = literature.published_table1()
    ours = published.copy()
    for prefix in ("val", "xval"):  # ours holds percentiles, the paper's offsets from the median
        ours[f"{prefix}_lo"] = published[f"{prefix}_median"] - published[f"{prefix}_lo"]
        ours[f"{prefix}_hi"] = published[f"{prefix}_median"] + published[f"{prefix}_hi"]
    ours["coma_mean"] += 0.5
    shown = validation.beside_published(ours.sample(frac=1, random_state=1), published)
    assert len(shown) == 16 and (shown["from"] == ["this book", "the paper"] * 8).all()
    book, paper = shown[::2].reset_index(), shown[1::2].reset_index()
    for title in ("residual, own", "residual, other", "√var, own", "√var, other"):
        assert (book[title] == paper[title]).all()
    at = list(book["model"]).index("uchuu 2D")  # the paper's standard model; its Table 1 has 15.10 +- 0.15
    assert (book["Coma"][at], paper["Coma"][at]) == ("15.60 ± 0.15", "15.10 ± 0.15")
    assert paper["residual, own"][at] == "+0.04 (−0.09, +0.08)"
    assert "Coma" not in validation.beside_published(ours.drop(columns=["coma_mean", "coma_sigma"]), published)


def test_errors_are_printed_where_they_are_known_and_a_baseline_has_no_coma():
    errors = {"val_median": 0.013, "val_lo": 0.006, "val_hi": 0.007, "sqrt_var_val": 0.004}
    ours = literature.published_table1().iloc[:1].assign(val_lo=-0.05, val_hi=0.18)  # percentiles, not offsets
    ours = ours.assign(**{f"{name}_error": error for name, error in errors.items()})
    baseline = ours.assign(input_dim=0, coma_mean=np.nan, coma_sigma=np.nan)
    shown = validation.beside_published(pd.concat([ours, baseline]), literature.published_table1())
    assert shown["residual, own"][0] == "+0.060(13) [−0.110(6), +0.120(7)]" and "[" not in shown["residual, own"][1]
    assert shown["√var, own"][0].endswith("(4)")
    assert list(shown["model"]) == ["uchuu 1D", "", "uchuu M-σ"] and shown["Coma"][2] == "–"


def test_a_model_that_the_paper_does_not_have_stands_alone():
    ours = literature.published_table1().iloc[:1].assign(input_dim=3)
    shown = validation.beside_published(ours, literature.published_table1())
    assert list(shown["model"]) == ["uchuu 3D"]


# --- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [[0], [0, 1, 1, 4], list(range(10))])
def test_each_cluster_is_predicted_by_networks_that_left_its_fold_out(folds):
    catalogs = {"uchuu": catalog(seed=1), "mdpl2": catalog(80, seed=2)}
    stub = Stub(folds)
    found = validation.predict(stub, catalogs, draws=7, seed=3)
    assert {(draws, seed) for _, draws, seed, _ in stub.seen} == {(7, 3)}
    for name, mock in catalogs.items():
        some = found.of(name)
        # The stub answers with the fold of the networks that were asked: it is the cluster's own.
        np.testing.assert_array_equal(some.mean, mock.fold[some.row])
        np.testing.assert_array_equal(some.log_m200c, mock.log_m200c[some.row])
        expected = np.flatnonzero(mock.in_test & np.isin(mock.fold, folds))
        np.testing.assert_array_equal(np.sort(some.row), expected)
        np.testing.assert_array_equal(some.cluster, mock.cluster[some.row])
    np.testing.assert_array_equal(found.samples, np.tile(np.array([13, 16, 17, 18], np.float32), (len(found.row), 1)))
    assert found.provenance == {}


def test_held_out_rows_are_those_of_the_flat_set_that_the_networks_left_out():
    mock = catalog(seed=1)
    found = validation.predict(Stub([2, 5]), {"uchuu": mock}, held_out=True)
    np.testing.assert_array_equal(np.sort(found.row), np.flatnonzero(mock.in_train & np.isin(mock.fold, [2, 5])))
    np.testing.assert_array_equal(found.mean, mock.fold[found.row])
    with pytest.raises(ClusterToolsError, match=r"no cluster of the training sets is in folds \[2\]"):
        validation.predict(Stub([2]), {"uchuu": dataclasses.replace(mock, in_train=np.zeros(60, bool))}, held_out=True)


@pytest.mark.parametrize("input_dim", [1, 2])
@pytest.mark.parametrize("reweighted", [False, True])
def test_networks_see_the_images_of_the_clusters_that_they_predict(input_dim, reweighted):
    mock, stub = catalog(seed=1), Stub([3], input_dim)
    radii = np.random.default_rng(5).beta(1, 2, 300) * 2.3 if reweighted else None
    found = validation.predict(stub, {"uchuu": mock}, reference_r_proj=radii)
    ((seen, *_),) = stub.seen
    for image, row in zip(seen, found.row, strict=True):
        galaxies = slice(mock.offsets[row], mock.offsets[row + 1])
        v, r = mock.v_los[galaxies], mock.r_proj[galaxies]
        weights = kde.radial_weights(r, [0, len(r)], radii) if reweighted else None
        alone = kde.phase_space_images(v, r, [0, len(v)], input_dim=input_dim, weights=weights)[0]
        np.testing.assert_allclose(image, alone, rtol=1e-6, atol=1e-9)


def test_max_test_draws_at_random_reproducibly_and_without_repeats():
    mock, calls = catalog(200, seed=1), []
    settings = {"max_test": 30, "progress": lambda *call: calls.append(call)}
    first, again, other = (
        validation.predict(Stub(range(10)), {"uchuu": mock}, seed=seed, **settings).row for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(np.unique(first)) == len(first) == 30 and mock.in_test[first].all()
    assert calls[-1] == (30, 30)
    everything = validation.predict(Stub(range(10)), {"uchuu": mock}, max_test=1000).row
    assert len(everything) == 100


@pytest.mark.parametrize("bad", [0, -3, 2.5, "all"])
def test_max_test_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ClusterToolsError, match="max_test is .* whole number from 1 on, or None"):
        validation.predict(Stub([0]), {"uchuu": catalog()}, max_test=bad)


def test_no_test_cluster_at_all_is_said_plainly():
    empty = catalog(in_test=np.zeros(60, bool))
    with pytest.raises(ClusterToolsError, match=r"no cluster of the test sets is in folds \[2\]"):
        validation.predict(Stub([2]), {"uchuu": empty}, draws=1)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(3)
    original = predictions(
        *rng.uniform(14, 15, (3, 50)), ["mdpl2"] * 20 + ["uchuu"] * 30, {"key": "abc", "parameters": {"seed": 1}}
    )
    path = tmp_path / "predictions" / "model.h5"
    original.write(path)
    return original, path


def test_predictions_are_read_as_they_were_written(written):
    original, path = written
    found = validation.Predictions.read(path)
    for name in ("simulation", *validation.COLUMNS):
        np.testing.assert_array_equal(getattr(found, name), getattr(original, name))
    assert found.provenance == original.provenance
    assert list(path.parent.iterdir()) == [path]
    assert len(found.of("mdpl2").mean) == 20 and len(found.of("other").mean) == 0


@pytest.mark.parametrize("column", ["simulation", *validation.COLUMNS])
def test_one_wrong_byte_in_any_column_is_noticed(written, column):
    with h5py.File(written[1]) as file:
        offset = file[column].id.get_chunk_info(0).byte_offset
    content = bytearray(written[1].read_bytes())
    content[offset] ^= 0x01
    written[1].write_bytes(content)
    with pytest.raises(ClusterToolsError, match="model.h5 is damaged"):
        validation.Predictions.read(written[1])


def without_a_column(path):
    with h5py.File(path, "a") as file:
        del file["sigma"]


def foreign(path):
    with h5py.File(path, "w") as file:
        file["sigma"] = [1.0]


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "is damaged"),
        (lambda path: path.write_text("simulation,row"), "is damaged"),
        (without_a_column, "is damaged"),
        (foreign, "is not a 'cluster_tools predictions"),
    ],
)
def test_damaged_predictions_are_refused_by_name_with_a_remedy(written, damage, said):
    damage(written[1])
    with pytest.raises(ClusterToolsError, match=re.escape(f"model.h5 {said}")) as refusal:
        validation.Predictions.read(written[1])
    assert "make book" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_write_that_fails_leaves_the_older_file(written):
    original, path = written
    broken = dataclasses.replace(original, samples=np.array([object()]))
    with pytest.raises(TypeError):
        broken.write(path)
    assert list(path.parent.iterdir()) == [path]
    np.testing.assert_array_equal(validation.Predictions.read(path).samples, original.samples)


def test_table_has_plain_columns_for_a_csv():
    row = validation.summary(predictions(np.full(3, 14.0), np.full(3, 14.1), np.full(3, 0.2)), "uchuu", "uchuu")
    assert all(type(value) is float for value in row.values())
    assert pd.DataFrame([row]).notna().all(axis=None)
