"""Phase-space images and radial weights against scipy's gaussian_kde, their symmetries, and what is refused."""

import numpy as np
import pytest
from scipy.stats import gaussian_kde, multivariate_normal

from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde

FACTOR = 0.25
MESH_2D = np.stack(np.meshgrid(kde.v_los_grid(), kde.r_proj_grid(), indexing="ij")).reshape(2, -1)
MESHES = {1: kde.v_los_grid()[None], 2: MESH_2D}  # for v_los, and for (v_los, r_proj)


def scipy_image(columns, weights):
    """The image of one cluster as scipy makes it."""
    density = gaussian_kde(columns, FACTOR, weights)(MESHES[len(columns)])
    return density.reshape([48] * len(columns)) / density.sum()


def cluster(n, seed=0, correlation=0.0, sigma=900.0, v_centre=0.0):
    """n galaxies over the whole aperture, with this correlation of v_los and r_proj."""
    rng = np.random.default_rng([seed, n])
    r = rng.uniform(0, 2.3, n)
    tilted = correlation * (r - 1.15) * np.sqrt(12) / 2.3
    return v_centre + sigma * (tilted + np.sqrt(1 - correlation**2) * rng.standard_normal(n)), r


def at_the_edge(v_centre):
    """Half of the kernels' weight is off the mesh."""
    v, r = cluster(60, 2, 0.8, 500.0, v_centre)
    v[:4], r[:4] = [3784.999, -3784.999, 3700.0, -3785.0], [0.0, 2.3, 2.2999, 0.0]
    return v, r


def assert_one_image(found, expected):
    """Images of one cluster that are float32 and equal to a part of the highest pixel."""
    assert found.shape == (1, *expected.shape) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6 * np.max(expected))


def test_grids_are_the_centres_of_48_bins():
    edges_v, edges_r = np.linspace(-3785, 3785, 49), np.linspace(0, 2.3, 49)
    np.testing.assert_allclose(kde.v_los_grid(), (edges_v[1:] + edges_v[:-1]) / 2)
    np.testing.assert_allclose(kde.r_proj_grid(), (edges_r[1:] + edges_r[:-1]) / 2)


@pytest.mark.parametrize(
    "galaxies",
    [cluster(n) for n in (11, 100, 2000)]
    # the mesh in many blocks, in a few, in one
    + [cluster(n, 1, c, s) for n in (11, 300) for c in (0.3, -0.9, 0.99, 0.9999) for s in (150.0, 900.0, 4000.0)]
    + [(v, 2.2 + 0.01 * r) for v, r in (cluster(11, 1, 0.3), cluster(300, 1, 0.3, 150.0))]  # narrower than a pixel
    + [at_the_edge(v_centre) for v_centre in (3785.0, -3785.0, 3000.0)],
)
def test_images_equal_scipy(galaxies):
    v, r = galaxies
    some_absent = np.random.default_rng(len(v)).lognormal(0, 1, len(v)) * (np.arange(len(v)) % 7 > 0)
    for columns in ([v], [v, r]):
        for weights in (None, some_absent):
            found = kde.phase_space_images(v, r, [0, len(v)], input_dim=len(columns), weights=weights)
            assert_one_image(found, scipy_image(columns, weights))


@pytest.mark.parametrize("input_dim", [1, 2])
def test_each_image_sums_to_one_and_depends_on_its_own_cluster_only(input_dim):
    parts = [cluster(n) for n in (11, 40, 150)]
    v, r = (np.concatenate(column) for column in zip(*parts, strict=True))
    images = kde.phase_space_images(v, r, [0, 11, 51, 201], input_dim=input_dim)
    np.testing.assert_allclose(images.reshape(3, -1).sum(axis=1), 1, rtol=1e-5)
    for image, part in zip(images, parts, strict=True):
        np.testing.assert_array_equal(image, kde.phase_space_images(*part, [0, len(part[0])], input_dim=input_dim)[0])


def test_radial_weights_equal_the_ratio_of_scipy_densities():
    reference = np.random.default_rng(6).beta(1.5, 3, 900) * 2.3
    parts = [cluster(n, 6)[1] for n in (11, 90, 2000)] + [0.5 * cluster(40, 7)[1] ** 1.5]
    offsets = np.r_[0, np.cumsum([len(part) for part in parts])]
    found = kde.radial_weights(np.concatenate(parts), offsets, reference)
    for i, r in enumerate(parts):
        expected = gaussian_kde(reference, FACTOR)(r) / gaussian_kde(r, FACTOR)(r)
        np.testing.assert_allclose(found[offsets[i] : offsets[i + 1]], expected, rtol=0, atol=1e-6 * expected.max())


V, R = cluster(12)
ONE = [0, 12]
NO_KERNELS = 1.0, np.eye(3), [[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.1], [0.0, 1.0]], np.full((2, 2), np.nan), "wide"


@pytest.mark.parametrize(
    ("v", "r", "offsets", "options", "words"),
    [
        (V, R, ONE, {"weights": np.r_[-1.0, R[1:]]}, "weights.* 1 "),
        (V, R, ONE, {"weights": np.eye(12)[3]}, "Cluster 0"),
        (V, R, ONE, {"weights": np.ones(11)}, "weights has shape"),
        (V, R, [0, 12, 12], {}, r"Cluster 1 \(0 galaxies\)"),
        (V, np.ones(12), ONE, {}, "Cluster 0"),
        (np.full(12, 500.0), R, ONE, {}, "Cluster 0"),
        (1000 * R, R, ONE, {}, "Cluster 0"),  # on one line: the covariance has no inverse
        (np.full(12, 500.0), R, ONE, {"input_dim": 1}, "Cluster 0"),
        (V + 1e7, R, ONE, {}, "Cluster 0"),  # nothing of it on the mesh
        (V, R, ONE, {"input_dim": 3}, "input_dim is 3"),
        *((V, R, ONE, {"covariance": kernel}, "covariance") for kernel in NO_KERNELS),
    ],
)
def test_bad_input_is_refused_by_name(v, r, offsets, options, words):
    with pytest.raises(ClusterToolsError, match=words):
        kde.phase_space_images(v, r, offsets, **options)


@pytest.mark.parametrize(
    ("r", "offsets", "reference", "words"),
    [(R, ONE, [1.0], "reference_r_proj needs at least 2"), (R, [0, 11, 12], R, "Cluster 1"),
     (np.ones(12), ONE, R, "Cluster 0")],
)  # fmt: skip
def test_radial_weights_refuse_bad_input_by_name(r, offsets, reference, words):
    with pytest.raises(ClusterToolsError, match=words):
        kde.radial_weights(r, offsets, reference)


def fixed_image(covariance, columns, weights):
    """Galaxies spread by a kernel of this covariance, with scipy's Gaussian density."""
    # In units of the widths: km/s and Mpc/h side by side make a matrix that scipy takes for singular
    width = np.sqrt(np.diag(covariance))
    distance = (MESHES[len(columns)].T[:, None] - np.stack(columns, axis=1)) / width
    gaussian = multivariate_normal(np.zeros(len(columns)), covariance / np.outer(width, width))
    density = gaussian.pdf(distance) @ weights
    return density.reshape([48] * len(columns)) / density.sum()


@pytest.mark.parametrize("covariance", [[[250.0**2, 0], [0, 0.15**2]], [[400.0**2, 30.0], [30.0, 0.1**2]], 250.0**2])
def test_fixed_kernel_equals_scipys_gaussian(covariance):
    matrix = np.atleast_2d(covariance)
    for n in (11, 200):
        v, r = cluster(n, 9, 0.4)
        for weights in (np.ones(n), np.random.default_rng(n).uniform(0.1, 3, n)):
            options = {"input_dim": len(matrix), "weights": weights, "covariance": covariance}
            expected = fixed_image(matrix, [v, r][: len(matrix)], weights)
            assert_one_image(kde.phase_space_images(v, r, [0, n], **options), expected)
