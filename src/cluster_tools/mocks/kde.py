"""Phase-space images: kernel density estimates of (v_los, r_proj) on a fixed mesh.

The kernel is a Gaussian whose covariance is 0.25^2 times the (weighted) sample covariance of the cluster, as in
``scipy.stats.gaussian_kde(data, 0.25)`` (Ho et al. 2022, Methods, "Preprocessing of Observables"; Ho et al. 2019,
eq. 2). Images have axes [cluster, v_los, r_proj], both ascending, and each sums to 1. Richness then drops out, except
through the height of single kernels (chapter 12 measures this).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cluster_tools import arrays, ragged
from cluster_tools.errors import ClusterToolsError
from cluster_tools.machine import one_thread
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT

BANDWIDTH = 0.25  # h_0 of the paper: kernel width over the standard deviation of the sample
PIXELS = 48
CUTOFF = 8.5  # kernel widths beyond which a galaxy adds less than exp(-8.5^2 / 2) = 2e-16 of its peak
# Largest half size of a block of pixels, in kernel widths: its rows, its columns, and the tilt along these.
# The exponents of `_sum_of_kernels` then stay below 680; float64 ends at 708.
BLOCK_V, BLOCK_R, BLOCK_TILT = 16.0, 10.0, 4.0


def v_los_grid() -> np.ndarray:
    """The 48 bin centres in v_los [km/s], ascending, over (-3785, 3785)."""
    return ((np.arange(PIXELS) + 0.5) / PIXELS * 2 - 1) * VELOCITY_CUT


def r_proj_grid() -> np.ndarray:
    """The 48 bin centres in r_proj [comoving Mpc/h], ascending, over (0, 2.3)."""
    return (np.arange(PIXELS) + 0.5) / PIXELS * APERTURE


@one_thread
def phase_space_images(v_los, r_proj, offsets, *, input_dim=2, weights=None, covariance=None) -> np.ndarray:
    """Kernel density images of many clusters at once.

    Galaxies have v_los [km/s] and r_proj [comoving Mpc/h] (n_galaxies,), one cluster after the other; those of cluster
    i are ``offsets[i]:offsets[i + 1]``. `input_dim` is 1 for the density in v_los alone, 2 for (v_los, r_proj).
    `weights` (n_galaxies,) count in the density and its covariance, for instance those of `radial_weights`.
    `covariance` is that of the kernel for all clusters, (2, 2) in (km/s, comoving Mpc/h) or a number if `input_dim` is
    1; None takes 0.25^2 times the covariance of each cluster.

    Returns float32 images (n, 48) or (n, 48, 48): ``scipy.stats.gaussian_kde(data, 0.25, weights)`` on the mesh, over
    its sum. Raises `ClusterToolsError` for NaN or infinite values, lengths that do not match, another `input_dim`, a
    negative weight, a `covariance` that is not positive definite, or a cluster whose kernel has no width (too few
    galaxies, or all with one velocity).
    """
    if input_dim not in (1, 2):
        raise ClusterToolsError(f"input_dim is {input_dim!r}, but 1 (v_los) or 2 (v_los, r_proj) is expected.")
    galaxies = ragged.from_arrays(v_los, r_proj if input_dim == 2 else v_los, offsets)
    n_galaxies = len(galaxies.v_los)
    weights = np.ones(n_galaxies) if weights is None else arrays.column("weights", weights, n_galaxies)
    if (weights < 0).any():
        raise ClusterToolsError(f"weights holds {int((weights < 0).sum())} values below 0; none may be.")
    kernel = _kernel(covariance, input_dim)
    columns = r_proj_grid() if input_dim == 2 else np.zeros(1)
    images = np.empty((len(galaxies), PIXELS, len(columns)), np.float32)
    failed = _images(galaxies.v_los, galaxies.r_proj, galaxies.offsets, weights, kernel, v_los_grid(), columns, images)
    if failed >= 0:
        raise ClusterToolsError(
            f"Cluster {failed} ({galaxies.richness[failed]} galaxies) has no phase-space density: it needs at "
            f"least {input_dim + 1} galaxies near the mesh whose v_los"
            f"{' and r_proj are' if input_dim == 2 else ' is'} not all the same or on one line; leave it out."
        )
    return images if input_dim == 2 else images[:, :, 0]


def radial_weights(r_proj, offsets, reference_r_proj) -> np.ndarray:
    """Weights that give each cluster the radial distribution of a reference sample.

    w_i = p_reference(R_i) / p_cluster(R_i), both one-dimensional kernel density estimates with factor 0.25 (Ho et al.
    2022, Methods, "Preprocessing of Observables": "re-weighted to fit Coma's radial profile"). `r_proj` [comoving
    Mpc/h] and `offsets` are those of `phase_space_images`, `reference_r_proj` (n_reference,) are the radii of Coma's
    galaxies. Returns weights of at least 0, float64 (n_galaxies,). Raises `ClusterToolsError` for NaN, infinite radii,
    bad offsets, or fewer than 2 different radii in the reference or a cluster.
    """
    from scipy.interpolate import CubicSpline  # starts slowly

    r_proj = arrays.column("r_proj", r_proj)
    offsets = arrays.offsets(offsets, len(r_proj))
    reference = arrays.column("reference_r_proj", reference_r_proj)
    width = BANDWIDTH * reference.std(ddof=1) if len(reference) > 1 else 0.0
    if not 1e-8 < width < np.inf:
        raise ClusterToolsError("reference_r_proj needs at least 2 galaxies with different radii.")
    if len(r_proj) == 0:
        return np.empty(0)
    # The reference density is needed at every galaxy. A spline with 20 knots a kernel width is exact to 1e-7 and
    # saves a sum over the reference each time. Far from the reference the density is 0.
    begin = max(r_proj.min() - width, reference.min() - CUTOFF * width)
    end = min(r_proj.max() + width, reference.max() + CUTOFF * width)
    if not begin < end:
        return np.zeros_like(r_proj)
    knots = np.linspace(begin, end, int(20 * (end - begin) / width) + 2)
    density = _densities(knots, reference, width**2) / (len(reference) * width)
    target = np.nan_to_num(CubicSpline(knots, density, extrapolate=False)(r_proj)).clip(0.0)
    weights = np.empty_like(r_proj)
    failed = _weights_from_density(r_proj, offsets, target, weights)
    if failed >= 0:
        raise ClusterToolsError(f"Cluster {failed} needs at least 2 galaxies with different r_proj; leave it out.")
    return weights


def _kernel(covariance, input_dim: int) -> np.ndarray:
    """Elements (vv, vr, rr) of the covariance; NaN if it differs from cluster to cluster."""
    if covariance is None:
        return np.full(3, np.nan)
    matrix = np.atleast_2d(arrays.numbers("covariance", covariance))
    good = matrix.shape == (input_dim, input_dim) and np.isfinite(matrix).all() and (matrix == matrix.T).all()
    if not good or not (np.linalg.eigvalsh(matrix) > 0).all():
        raise ClusterToolsError(
            f"covariance is {np.asarray(covariance).tolist()}, but a symmetric, positive definite "
            f"{input_dim} x {input_dim} matrix in (km/s, Mpc/h) is expected."
        )
    return np.array([matrix[0, 0], matrix[0, -1], matrix[-1, -1]])


@njit(cache=True)
def _moments(x, y, w):
    """Weighted means and unbiased covariance, as numpy.cov(aweights=w) defines it."""
    total = w.sum()
    norm = total - (w * w).sum() / total if total > 0.0 else 0.0
    if len(x) < 2 or not norm > 0.0:
        return 0.0, 0.0, 0.0
    dx, dy = x - (w * x).sum() / total, y - (w * y).sum() / total
    return np.dot(w * dx, dx) / norm, np.dot(w * dx, dy) / norm, np.dot(w * dy, dy) / norm


@njit(cache=True, error_model="numpy")  # whose 1 / 0 is infinite: a kernel without tilt, an image of one column
def _images(v_los, r_proj, offsets, weights, kernel, v_grid, r_grid, images):
    """Fill the images, of one column for v_los alone; returns the first cluster that fails, or -1."""
    v_alone = len(r_grid) == 1
    step_v = v_grid[1] - v_grid[0]
    step_r = 0.0 if v_alone else r_grid[1] - r_grid[0]
    image = np.empty((len(v_grid), len(r_grid)))
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        v, r, w = v_los[begin:end], r_proj[begin:end], weights[begin:end]
        cov_vv, cov_vr, cov_rr = kernel
        if np.isnan(cov_vv):
            cov_vv, cov_vr, cov_rr = _moments(v, r, w)
            cov_vv, cov_vr, cov_rr = cov_vv * BANDWIDTH**2, cov_vr * BANDWIDTH**2, cov_rr * BANDWIDTH**2
        if v_alone:
            variance, shear, width_r = cov_vv, 0.0, np.inf
            fits = variance > 1e-12
        else:
            determinant = cov_vv * cov_rr - cov_vr**2
            variance = determinant / cov_rr  # variance of v_los at fixed r_proj
            shear = cov_vr / cov_rr  # the kernel's centre in v_los moves by this much per Mpc/h
            width_r = np.sqrt(cov_rr)
            fits = len(v) >= 3 and determinant > 1e-10 * cov_vv * cov_rr and cov_rr > 1e-16
        if not fits:
            return i
        width_v = np.sqrt(variance)
        rows = _block(len(v_grid), 2 * BLOCK_V * width_v / step_v)
        columns = _block(len(r_grid), 2 * min(BLOCK_R * width_r, BLOCK_TILT * width_v / abs(shear)) / step_r)
        share = w / w.sum()
        for top in range(0, len(v_grid), rows):
            for left in range(0, len(r_grid), columns):
                block_v, block_r = v_grid[top : top + rows], r_grid[left : left + columns]
                block = image[top : top + rows, left : left + columns]
                _sum_of_kernels(block_v, block_r, v, r, share, width_v, width_r, shear, block)
        total = image.sum()
        if not total > np.exp(-0.5 * CUTOFF**2):
            return i
        scale = 1 / total  # element by element: assignments of slices compile seconds longer
        for k in range(len(v_grid)):
            for j in range(len(r_grid)):
                images[i, k, j] = image[k, j] * scale
    return -1


@njit(cache=True)
def _block(n, largest):
    """Size of equal blocks of n pixels: at most `largest`, at least one pixel."""
    largest = max(int(min(largest, n)), 1)
    return int(np.ceil(n / np.ceil(n / largest)))


@njit(cache=True, error_model="numpy")
def _sum_of_kernels(v_grid, r_grid, v, r, w, width_v, width_r, shear, out):
    """Weighted sum of tilted Gaussians of height 1 on a block of pixels, as a product of two matrices.

    In units of the widths, from the middle of the block, the kernel of galaxy g at row i and column j is

        exp(-(a_i + b_j - x_g)^2 / 2 - (c_j - y_g)^2 / 2),

    where b is the tilt. Multiplied out, no term has i, j and g: the kernel is a factor of row and galaxy
    times one of column and galaxy, which the product adds up, times one of the pixel. On equal steps these
    factors are running products. All terms are positive, so that nothing cancels, and in a small block none
    leaves the range of float64.
    """
    middle_v, middle_r = (v_grid[0] + v_grid[-1]) / 2, (r_grid[0] + r_grid[-1]) / 2
    a = (v_grid - middle_v) / width_v
    b = -shear * (r_grid - middle_r) / width_v
    c = (r_grid - middle_r) / width_r
    x = (v - middle_v - shear * (r - middle_r)) / width_v
    y = (r - middle_r) / width_r
    near = (np.abs(x) < a[-1] + np.abs(b[-1]) + CUTOFF) & (np.abs(y) < c[-1] + CUTOFF)
    x, y, w = x[near], y[near], w[near]
    step_a = a[1] - a[0] if len(a) > 1 else 0.0
    step_b, step_c = (b[1] - b[0], c[1] - c[0]) if len(c) > 1 else (0.0, 0.0)
    row_factor = _powers(a[0] * x - x**2 / 4, step_a * x, len(a))
    column_factor = _powers(b[0] * x + c[0] * y - x**2 / 4 - y**2 / 2, step_b * x + step_c * y, len(b)) * w
    sums = np.dot(row_factor, column_factor.T)
    pixel_factor, ratio, last = np.exp(-(a**2) / 2 - a * b[0]), np.exp(-a * step_b), np.exp(-(b**2) / 2 - c**2 / 2)
    for j in range(len(b)):
        for i in range(len(a)):
            out[i, j] = sums[i, j] * pixel_factor[i] * last[j]
            pixel_factor[i] *= ratio[i]


@njit(cache=True)
def _powers(first, step, n):
    """Array (n, len(first)) of ``exp(first + k * step)`` at row k, with two exponentials for each column."""
    powers, ratio = np.empty((n, len(first))), np.exp(step)
    for g in range(len(first)):
        powers[0, g] = np.exp(first[g])
    for k in range(1, n):
        for g in range(len(first)):
            powers[k, g] = powers[k - 1, g] * ratio[g]
    return powers


@njit(cache=True)
def _densities(x, sample, variance):
    """Sum over the sample of Gaussians of this variance, at each x (not normalised)."""
    sums = np.zeros(len(x))
    for k in range(len(x)):
        for s in sample:
            sums[k] += np.exp(-0.5 * (x[k] - s) ** 2 / variance)
    return sums


@njit(cache=True)
def _weights_from_density(r_proj, offsets, target, weights):
    """Fill the weights, target density over that of the cluster; returns the first cluster that fails, or -1."""
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        r = r_proj[begin:end]
        variance = _moments(r, r, np.ones(len(r)))[0] * BANDWIDTH**2
        if not variance > 1e-16:
            return i
        sums = _densities(r, r, variance)
        for k in range(len(r)):
            weights[begin + k] = target[begin + k] * len(r) * np.sqrt(variance) / sums[k]
    return -1
