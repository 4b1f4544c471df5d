"""Distances against scipy's, and planted outliers among clusters like those of the training."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from small_catalog import catalog

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import novelty, validation
from cluster_tools.mocks import kde

GALAXIES = 60


def clusters(n, seed):
    """A flat set of n clusters of 60 galaxies, dispersion as the cube root of mass, radii uniform."""
    rng = np.random.default_rng(seed)
    log_m200c = rng.uniform(14, 15, n)
    v_los = rng.normal(size=(n, GALAXIES)) * 1000 * 10 ** ((log_m200c[:, None] - 15) / 3)
    return catalog([*zip(v_los, rng.uniform(0, kde.APERTURE, (n, GALAXIES)))], log_m200c)


@pytest.fixture(scope="module")
def known():
    return clusters(500, seed=1)


@pytest.fixture(scope="module")
def images():
    """Four new clusters, the same with shuffled pixels, four of uniform noise, and fifty more new clusters."""
    rng = np.random.default_rng(2)
    fresh = validation.observables(clusters(54, seed=3), 2)
    shuffled = rng.permuted(fresh[:4].reshape(4, -1), axis=1).reshape(4, 48, 48)
    noise = rng.random((4, 48, 48), dtype=np.float32)
    return np.concatenate([fresh[:4], shuffled, noise / noise.sum(axis=(1, 2), keepdims=True), fresh[4:]])


def test_planted_outliers_are_unusual_and_other_clusters_are_not(known, images):
    judged, held_out = novelty.distances(known, images, max_held_out=100, seed=0)
    assert len(judged) == 62 and len(held_out) == 50
    few = novelty.distances(known, images[:1], max_held_out=20, seed=0)
    assert len(few[1]) == 20 and few[0][0] == pytest.approx(judged[0], rel=1e-4)
    share = novelty.farther(judged, held_out)
    shuffled, noise, fresh = slice(4, 8), slice(8, 12), np.r_[0:4, 12:62]
    assert (share[shuffled] == 0).all() and (share[noise] == 0).all()
    # Drawn as the held-out ones were: shares between 0 and 1 alike, whose mean is off by 0.29 / sqrt(54) = 0.04,
    # and by as much again for the fifty held-out ones.
    assert share[fresh].mean() == pytest.approx(0.5, abs=0.17)
    assert (share[fresh] > 0.01).mean() > 0.9


def test_only_training_images_and_their_mirror_images_are_at_no_distance_and_some_are_held_out(known):
    images = validation.observables(known.select([np.argmax(known.fold != 0), np.argmax(known.fold == 0)]), 2)
    for shown in (images, images[:, ::-1]):
        judged, held_out = novelty.distances(known, shown, max_held_out=100, seed=0)
        assert judged[0] < 1e-3 and judged[1] > 0.1 and (held_out > 0.1).all()
    with pytest.raises(ClusterToolsError, match="fold 0 has 0 of the 450 rows.*rows_per_dex"):
        novelty.distances(known.select(known.fold != 0), images, max_held_out=100, seed=0)


def test_nearest_distance_is_that_of_images_of_unit_length():
    rng = np.random.default_rng(7)
    training, images = rng.random((30, 48, 48)), rng.random((5, 48, 48))
    unit = [(a / np.linalg.norm(a, axis=(1, 2), keepdims=True)).reshape(len(a), -1) for a in (images, training)]
    np.testing.assert_allclose(novelty.nearest(1e-3 * images, 7 * training), cdist(*unit).min(axis=1))
