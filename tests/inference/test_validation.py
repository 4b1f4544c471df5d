"""Which networks predict which cluster, what they read, percentiles of residuals, and files of predictions."""

import dataclasses
from collections import namedtuple

import numpy as np
import pytest
from gaussian_predictions import both_simulations
from scipy.stats import norm
from small_catalog import ten_folds

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation
from cluster_tools.mocks import kde
from cluster_tools.networks.ensembles import Posterior

Network = namedtuple("Network", "fold")
SAMPLES = np.array([13, 16, 17, 18], np.float32)


class Stub:
    """Networks that left out `folds` and predict the fold that they are asked for as the mean."""

    def __init__(self, folds, input_dim=1):
        self.networks, self.input_dim, self.calls = [Network(fold) for fold in folds], input_dim, []

    def posterior(self, images, draws, seed, *, fold):
        self.calls.append((images, draws, seed))
        n = len(images)
        return Posterior(mean=np.full(n, float(fold)), sigma=np.full(n, 0.1), samples=np.tile(SAMPLES, (n, 1)))


def test_percentiles_of_a_gaussian():
    residual = 0.07 + 0.12 * norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    expected = {"median": 0.07, "lo": 0.07 - 0.12 * 0.99446, "hi": 0.07 + 0.12 * 0.99446, "half_width": 0.12 * 0.99446}
    assert validation.percentiles(residual) == pytest.approx(expected, abs=1e-4)  # norm.ppf(0.84) = 0.99446


@pytest.mark.parametrize("folds", [[0], [0, 1, 1, 4], list(range(10))])
def test_each_cluster_is_predicted_by_networks_that_left_its_fold_out(folds):
    catalogs = {"uchuu": ten_folds(seed=1), "mdpl2": ten_folds(80, seed=2)}
    stub = Stub(folds)
    predictions = validation.predict(stub, catalogs, draws=7, seed=3)
    assert {call[1:] for call in stub.calls} == {(7, 3)}
    for name, mock in catalogs.items():
        tested = predictions.tested_on(name)
        np.testing.assert_array_equal(tested.mean, mock.fold[tested.row])
        np.testing.assert_array_equal(tested.log_m200c, mock.log_m200c[tested.row])
        np.testing.assert_array_equal(tested.residual, tested.mean - mock.log_m200c[tested.row])
        np.testing.assert_array_equal(tested.cluster, mock.cluster[tested.row])
        rows = np.flatnonzero(mock.in_test & np.isin(mock.fold, folds))
        np.testing.assert_array_equal(np.sort(tested.row), rows)
    np.testing.assert_array_equal(predictions.samples, np.tile(SAMPLES, (len(predictions.row), 1)))


@pytest.mark.parametrize("input_dim", [1, 2])
@pytest.mark.parametrize("reweighted", [False, True])
def test_networks_read_the_images_of_the_clusters_that_they_predict(input_dim, reweighted):
    mock, stub = ten_folds(seed=1), Stub([3], input_dim)
    radii = np.random.default_rng(5).beta(1, 2, 300) * 2.3 if reweighted else None
    predictions = validation.predict(stub, {"uchuu": mock}, reference_r_proj=radii)
    ((images, *_),) = stub.calls
    for image, row in zip(images, predictions.row, strict=True):
        galaxies = slice(mock.offsets[row], mock.offsets[row + 1])
        v, r = mock.v_los[galaxies], mock.r_proj[galaxies]
        weights = kde.radial_weights(r, [0, len(r)], radii) if reweighted else None
        alone = kde.phase_space_images(v, r, [0, len(v)], input_dim=input_dim, weights=weights)[0]
        np.testing.assert_allclose(image, alone, rtol=1e-6, atol=1e-9)


def test_max_test_draws_at_random_reproducibly_and_without_repeats():
    mock = ten_folds(200, seed=1)

    def rows(seed, max_test=30):
        return validation.predict(Stub(range(10)), {"uchuu": mock}, seed=seed, max_test=max_test).row

    first = rows(1)
    assert np.array_equal(first, rows(1)) and not np.array_equal(first, rows(2))
    assert len(np.unique(first)) == len(first) == 30 and mock.in_test[first].all()
    assert len(rows(1, max_test=1000)) == 100


def test_heavy_clusters_are_held_out_rows_of_the_flat_set():
    mock = ten_folds(200, seed=1)
    mock = dataclasses.replace(mock, extra_host=np.arange(200) % 3 == 0)
    heavy = validation.predict(Stub([2, 5]), {"uchuu": mock}, heavy=True)
    chosen = mock.in_train & np.isin(mock.fold, [2, 5]) & (mock.log_m200c >= 14.6)
    np.testing.assert_array_equal(np.sort(heavy.row), np.flatnonzero(chosen))
    assert mock.extra_host[heavy.row].any() and not mock.extra_host[heavy.row].all()


def test_max_test_that_is_no_number_and_sets_without_clusters_are_refused():
    for bad in (0, 2.5, "all"):
        with pytest.raises(ClusterToolsError, match=f"max_test is {bad!r}"):
            validation.predict(Stub([0]), {"uchuu": ten_folds()}, max_test=bad)
    empty = dataclasses.replace(ten_folds(), in_test=np.zeros(60, bool))
    with pytest.raises(ClusterToolsError, match=r"test cluster is in folds \[2\].*larger box"):
        validation.predict(Stub([2]), {"uchuu": empty})


def test_predictions_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "predictions" / "model.h5"
    original = dataclasses.replace(both_simulations(), provenance={"key": "abc", "parameters": {"seed": 1}})
    original.write(path)
    copy = validation.Predictions.read(path)
    for name in ("simulation", *validation.COLUMNS):
        np.testing.assert_array_equal(getattr(copy, name), getattr(original, name))
    assert copy.provenance == original.provenance and list(path.parent.iterdir()) == [path]
    assert len(copy.tested_on("mdpl2").mean) == 900 and len(copy.tested_on("other").mean) == 0
