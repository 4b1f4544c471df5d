"""Distances against scipy's, and planted outliers among clusters like those of the training."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from small_catalog import catalog

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import novelty, validation
from cluster_tools.mocks import kde
from cluster_tools.networks import ensembles, training

RANGE = (14.0, 15.0)
GALAXIES = 60


def clusters(n, seed):
    """A flat set of n clusters of 60 galaxies, dispersion as the cube root of mass, radii uniform."""
    rng = np.random.default_rng(seed)
    log_m200c = rng.uniform(*RANGE, n)
    v_los = rng.normal(size=(n, GALAXIES)) * 1000 * 10 ** ((log_m200c[:, None] - 15) / 3)
    return catalog([*zip(v_los, rng.uniform(0, kde.APERTURE, (n, GALAXIES)))], log_m200c)


@pytest.fixture(scope="module")
def known():
    return clusters(500, seed=1)


@pytest.fixture(scope="module")
def ensemble(known):
    """Two networks, trained for a moment without folds 0 and 1."""
    trained = []
    for fold in (0, 1):
        rest = known.select(known.fold != fold)
        images = validation.observables(rest, 2)
        settings = {"log_m200c_range": RANGE, "fold": fold, "epochs": 3, "seed": fold}
        trained.append(training.train(images, rest.log_m200c, images[:20], rest.log_m200c[:20], **settings))
    return ensembles.CNNEnsemble(trained, RANGE, {})


@pytest.fixture(scope="module")
def images():
    """Four new clusters, the same with shuffled pixels, four of uniform noise, and fifty more new clusters."""
    rng = np.random.default_rng(2)
    fresh = validation.observables(clusters(54, seed=3), 2)
    shuffled = rng.permuted(fresh[:4].reshape(4, -1), axis=1).reshape(4, 48, 48)
    noise = rng.random((4, 48, 48), dtype=np.float32)
    return np.concatenate([fresh[:4], shuffled, noise / noise.sum(axis=(1, 2), keepdims=True), fresh[4:]])


def test_planted_outliers_are_unusual_and_other_clusters_are_not(ensemble, known, images):
    pairs = novelty.distances(ensemble, known, images)
    assert [len(held_out.hidden) for _, held_out in pairs] == [50, 50]
    few = novelty.distances(ensemble, known, images[:1], max_held_out=20)
    assert [len(held_out.hidden) for _, held_out in few] == [20, 20]
    np.testing.assert_allclose(few[0][0].hidden, pairs[0][0].hidden[:1], rtol=1e-4)
    hidden, image = (novelty.farther(pairs, measure)[0] for measure in ("hidden", "image"))
    shuffled, noise, fresh = slice(4, 8), slice(8, 12), np.r_[0:4, 12:62]
    assert (hidden[shuffled] <= 0.02).all() and (image[shuffled] == 0).all()
    assert (image[noise] == 0).all()  # what the network averages over, it may not see
    for share in (hidden, image):
        # Drawn as the held-out ones were: shares between 0 and 1 alike, whose mean is off by 0.29 / sqrt(54) = 0.04,
        # and by as much again for the hundred held-out ones.
        assert share[fresh].mean() == pytest.approx(0.5, abs=0.17)
        assert (share[fresh] > 0.01).mean() > 0.9


def test_only_training_images_and_their_mirror_images_are_at_no_distance(ensemble, known):
    images = validation.observables(known.select([2, 0]), 2)  # both networks know the first, one the second
    for shown in (images, images[:, ::-1]):
        (first, held_out), (second, _) = novelty.distances(ensemble, known, shown)
        assert first.image[0] < 1e-3 and second.image[0] < 1e-3
        assert first.image[1] > 0.1 and second.image[1] < 1e-3
        assert (held_out.image > 0.1).all()


def test_share_among_held_out_images_of_similar_mass():
    judged = novelty.Distances(np.array([14.5, 16.0]), np.array([2.0, 2.0]), np.array([1.0, 1.0]))
    masses, far = np.array([14.0, 14.45, 14.55, 14.9]), np.array([9.0, 1.0, 3.0, 2.0])
    pairs = [(judged, novelty.Distances(masses, factor * far, far)) for factor in (1, 2)]
    for alike, expected in ((np.inf, ([5 / 8, 5 / 8], [8, 8])), (0.1, ([2 / 4, np.nan], [4, 0]))):
        np.testing.assert_array_equal(novelty.farther(pairs, "hidden", alike=alike), expected)


def test_mahalanobis_distance_is_scipys_and_finite_for_a_silent_unit(monkeypatch):
    training = np.random.default_rng(6).normal(size=(300, 4)) * [1, 1, 1, 0]
    silent, active = novelty.mahalanobis(np.array([[0, 0, 0, 0], [0, 0, 0, 1.0]]), training)
    assert silent < 0.2 and 5 < active < 20
    monkeypatch.setattr(novelty, "SHRINKAGE", 0.0)
    rng = np.random.default_rng(5)
    training, rows = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) + 3, rng.normal(size=(6, 4))
    expected = cdist(rows, [training.mean(axis=0)], "mahalanobis", VI=np.linalg.inv(np.cov(training.T)))[:, 0]
    np.testing.assert_allclose(novelty.mahalanobis(rows, training), expected)
    change = rng.normal(size=(4, 4))
    np.testing.assert_allclose(novelty.mahalanobis(rows @ change + 7, training @ change + 7), expected)


def test_nearest_distance_is_that_of_images_of_unit_length():
    rng = np.random.default_rng(7)
    training, images = rng.random((30, 48, 48)), rng.random((5, 48, 48))
    unit = [(a / np.linalg.norm(a, axis=(1, 2), keepdims=True)).reshape(len(a), -1) for a in (images, training)]
    np.testing.assert_allclose(novelty.nearest(1e-3 * images, 7 * training), cdist(*unit).min(axis=1))


def test_a_fold_without_held_out_clusters_is_refused(ensemble, known):
    with pytest.raises(ClusterToolsError, match="fold 0 has 0 of the 450 rows.*rows_per_dex"):
        novelty.distances(ensemble, known.select(known.fold != 0), np.ones((1, 48, 48)))
