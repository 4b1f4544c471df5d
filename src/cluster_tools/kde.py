"""Galaxies to images: kernel density estimates of dynamical phase space on a fixed mesh.

The kernel is a Gaussian whose covariance is 0.25^2 times the cluster's own (weighted) sample
covariance, as ``scipy.stats.gaussian_kde(data, 0.25)`` does it (Ho et al. 2022, Methods,
"Preprocessing of Observables"; Ho et al. 2019, eq. 2). Images are [cluster, v_los, r_proj],
both axes ascending, and each sums to 1, so that richness drops out, but for what the height of a
lone kernel tells (chapter 11 measures how much).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.interpolate import CubicSpline

from cluster_tools import checks
from cluster_tools.errors import ClusterToolsError
from cluster_tools.observe import APERTURE, VELOCITY_CUT

BANDWIDTH = 0.25  # h_0 of the paper: kernel width in units of the sample's own
PIXELS = 48
# Beyond this many kernel widths a galaxy adds less than exp(-8.5^2 / 2) = 2e-16 of its peak.
REACH = 8.5


def v_los_grid() -> np.ndarray:
    """The 48 bin centres in v_los [km/s], ascending, over (-3785, 3785)."""
    return ((np.arange(PIXELS) + 0.5) / PIXELS * 2 - 1) * VELOCITY_CUT


def r_proj_grid() -> np.ndarray:
    """The 48 bin centres in r_proj [comoving Mpc/h], ascending, over (0, 2.3)."""
    return (np.arange(PIXELS) + 0.5) / PIXELS * APERTURE


def phase_space_images(v_los, r_proj, offsets, *, input_dim=2, weights=None, covariance=None) -> np.ndarray:
    """Kernel density images of many clusters at once.

    Parameters
    ----------
    v_los, r_proj : arrays (n_galaxies,)
        Line-of-sight velocities [km/s] and projected radii [comoving Mpc/h] of the galaxies of
        all clusters, one cluster after the other. `r_proj` is not used if `input_dim` is 1.
    offsets : integer array (n + 1,)
        Galaxies of cluster i are ``offsets[i]:offsets[i + 1]``.
    input_dim : 1 or 2
        Density in v_los alone, or in (v_los, r_proj).
    weights : array (n_galaxies,), optional
        Weight of each galaxy, for instance from `radial_weights`. They enter the
        density and its covariance.
    covariance : array (2, 2), or a number if `input_dim` is 1, optional
        Covariance of the kernel in (v_los [km/s], r_proj [comoving Mpc/h]), the same for all
        clusters; None: 0.25^2 times each cluster's own.

    Returns
    -------
    float32 array (n, 48) or (n, 48, 48); each image sums to 1. Equal to
    ``scipy.stats.gaussian_kde(data, 0.25, weights)`` on the mesh, over its sum.

    Raises
    ------
    ClusterToolsError
        For NaN or infinite values, lengths that do not match, a negative weight, a `covariance`
        that is none, or a cluster whose kernel has no width (too few galaxies, or all with one velocity).
    """
    if input_dim not in (1, 2):
        raise ClusterToolsError(f"input_dim is {input_dim!r}, but 1 (v_los) or 2 (v_los, r_proj) is expected.")
    v_los = checks.column("v_los", v_los)
    r_proj = checks.column("r_proj", r_proj, len(v_los)) if input_dim == 2 else np.zeros_like(v_los)
    offsets = checks.offsets(offsets, len(v_los))
    weights = np.ones_like(v_los) if weights is None else checks.column("weights", weights, len(v_los))
    if (weights < 0).any():
        raise ClusterToolsError(f"weights holds {int((weights < 0).sum())} values below 0; none may be.")

    kernel = _checked_kernel(covariance, input_dim)

    n = len(offsets) - 1
    if input_dim == 1:
        images = np.zeros((n, PIXELS), np.float32)
        flat = _images_1d(v_los, offsets, weights, kernel, v_los_grid(), images)
    else:
        images = np.zeros((n, PIXELS, PIXELS), np.float32)
        flat = _images_2d(v_los, r_proj, offsets, weights, kernel, v_los_grid(), r_proj_grid(), images)
    if flat >= 0:
        raise ClusterToolsError(
            f"Cluster {flat} ({offsets[flat + 1] - offsets[flat]} galaxies) has no phase-space density: it needs at "
            f"least {input_dim + 1} galaxies near the mesh whose v_los"
            f"{' and r_proj are' if input_dim == 2 else ' is'} not all the same or on one line; leave it out."
        )
    return images


def radial_weights(r_proj, offsets, reference_r_proj) -> np.ndarray:
    """Weights that give each cluster the radial distribution of a reference sample.

    w_i = p_reference(R_i) / p_cluster(R_i), both one-dimensional kernel density estimates with
    factor 0.25 (Ho et al. 2022, Methods, "Preprocessing of Observables": "re-weighted to fit
    Coma's radial profile").

    Parameters
    ----------
    r_proj : array (n_galaxies,) [comoving Mpc/h], with `offsets` (n + 1,) as in
        `phase_space_images`
    reference_r_proj : array (n_reference,) [comoving Mpc/h]
        Projected radii of the reference's galaxies (Coma's).

    Returns
    -------
    float64 array (n_galaxies,), not negative. Raises `ClusterToolsError` as `phase_space_images`.
    """
    r_proj = checks.column("r_proj", r_proj)
    offsets = checks.offsets(offsets, len(r_proj))
    reference = checks.column("reference_r_proj", reference_r_proj)
    width = BANDWIDTH * reference.std(ddof=1) if len(reference) > 1 else 0.0
    if not 1e-8 < width < np.inf:
        raise ClusterToolsError("reference_r_proj needs at least 2 galaxies with different radii.")
    if len(r_proj) == 0:
        return np.empty(0)
    # The reference's density is asked for at every galaxy: a spline with 20 knots a kernel width
    # is exact to 1e-7 and spares a sum over the reference each time. Far from it, the density is 0.
    begin = max(r_proj.min() - width, reference.min() - REACH * width)
    end = min(r_proj.max() + width, reference.max() + REACH * width)
    if not begin < end:
        return np.zeros_like(r_proj)
    knots = np.linspace(begin, end, int(20 * (end - begin) / width) + 2)
    density = _densities(knots, reference, width**2) / (len(reference) * width)
    near = (r_proj >= begin) & (r_proj <= end)
    wanted = np.where(near, np.clip(CubicSpline(knots, density)(np.clip(r_proj, begin, end)), 0.0, None), 0.0)
    weights = np.empty_like(r_proj)
    flat = _weights_from_density(r_proj, offsets, wanted, weights)
    if flat >= 0:
        raise ClusterToolsError(f"Cluster {flat} needs at least 2 galaxies with different r_proj; leave it out.")
    return weights


def _checked_kernel(covariance, input_dim: int) -> np.ndarray:
    """The kernel's (vv, vr, rr); NaN for that of each cluster."""
    if covariance is None:
        return np.full(3, np.nan)
    try:
        matrix = np.atleast_2d(np.asarray(covariance, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ClusterToolsError(f"covariance must hold numbers ({error}).") from None
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
    if len(x) < 2 or not total > 0.0:
        return 0.0, 0.0, 0.0
    mean_x = (w * x).sum() / total
    mean_y = (w * y).sum() / total
    norm = total - (w * w).sum() / total
    if not norm > 0.0:
        return 0.0, 0.0, 0.0
    dx = x - mean_x
    dy = y - mean_y
    return (w * dx * dx).sum() / norm, (w * dx * dy).sum() / norm, (w * dy * dy).sum() / norm


@njit(cache=True)
def _images_1d(v_los, offsets, weights, kernel, grid, images):
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        v = v_los[begin:end]
        w = weights[begin:end]
        variance = _moments(v, v, w)[0] * BANDWIDTH**2 if np.isnan(kernel[0]) else kernel[0]
        if not variance > 1e-12:
            return i
        image = np.zeros(PIXELS)
        for g in range(len(v)):
            for k in range(PIXELS):
                image[k] += w[g] * np.exp(-0.5 * (grid[k] - v[g]) ** 2 / variance)
        total = image.sum()
        if not total > 0.0:
            return i
        images[i] = (image / total).astype(np.float32)
    return -1


@njit(cache=True)
def _images_2d(v_los, r_proj, offsets, weights, kernel, v_grid, r_grid, images):
    """Sum of tilted Gaussians, evaluated by recurrence instead of by exponentials.

    In row v_i and column r_j a galaxy's kernel is exp(q), q quadratic in i and j. On equal steps
    such a function is a running product of ratios that are running products themselves, along
    the columns of a first row and then from row to row: two multiplications a pixel, no
    exponential. All columns take the step to the next row together, which vectorises.
    """
    step_v = v_grid[1] - v_grid[0]
    step_r = r_grid[1] - r_grid[0]
    value = np.empty(PIXELS)
    ratio = np.empty(PIXELS)
    image = np.empty((PIXELS, PIXELS))
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        v = v_los[begin:end]
        r = r_proj[begin:end]
        w = weights[begin:end]
        cov_vv, cov_vr, cov_rr = _moments(v, r, w)
        cov_vv *= BANDWIDTH**2
        cov_vr *= BANDWIDTH**2
        cov_rr *= BANDWIDTH**2
        if not np.isnan(kernel[0]):
            cov_vv, cov_vr, cov_rr = kernel[0], kernel[1], kernel[2]
        determinant = cov_vv * cov_rr - cov_vr**2
        if len(v) < 3 or not determinant > 1e-10 * cov_vv * cov_rr or not cov_rr > 1e-16:
            return i
        shear = cov_vr / cov_rr  # the kernel's centre in v moves by this much per Mpc/h
        variance = determinant / cov_rr  # of v at fixed r
        tilt = shear * step_r
        reach_v = REACH * np.sqrt(variance)
        reach_r = REACH * np.sqrt(cov_rr)
        row_change = np.exp(-(step_v**2) / variance)
        column_change = np.exp(-(tilt**2) / variance - step_r**2 / cov_rr)
        # Kernels much narrower than a pixel would overflow the ratios.
        narrow = step_v**2 > 25 * variance or step_r**2 > 25 * cov_rr
        image[:] = 0.0
        for g in range(len(v)):
            low = max(int(np.ceil((r[g] - reach_r - r_grid[0]) / step_r)), 0)
            high = min(int(np.floor((r[g] + reach_r - r_grid[0]) / step_r)), PIXELS - 1)
            if low > high:
                continue
            distance = r_grid[low] - r[g]
            centre = v[g] + shear * distance  # of the kernel in the first column
            last_centre = centre + tilt * (high - low)
            first = max(int(np.floor((min(centre, last_centre) - reach_v - v_grid[0]) / step_v)), 0)
            last = min(int(np.ceil((max(centre, last_centre) + reach_v - v_grid[0]) / step_v)), PIXELS - 1)
            if first > last:
                continue
            # If it is so tilted that no row is near every column's centre, products would underflow.
            if narrow or abs(last_centre - centre) > 2 * reach_v:
                for j in range(low, high + 1):
                    d = r_grid[j] - r[g]
                    peak = w[g] * np.exp(-0.5 * d**2 / cov_rr)
                    for k in range(first, last + 1):
                        image[k, j] += peak * np.exp(-0.5 * (v_grid[k] - v[g] - shear * d) ** 2 / variance)
                continue
            middle = int(np.round((0.5 * (centre + last_centre) - v_grid[0]) / step_v))
            middle = min(max(middle, first), last)
            for direction in (1, -1):
                row = middle if direction == 1 else middle - 1
                away = v_grid[row] - centre if row >= 0 else 0.0
                term = w[g] * np.exp(-0.5 * away**2 / variance - 0.5 * distance**2 / cov_rr)
                growth = np.exp((away * tilt - 0.5 * tilt**2) / variance - (distance + 0.5 * step_r) * step_r / cov_rr)
                decay = np.exp(-(direction * step_v * away + 0.5 * step_v**2) / variance)
                decay_change = np.exp(direction * step_v * tilt / variance)
                for j in range(high - low + 1):
                    value[j] = term
                    ratio[j] = decay
                    term *= growth
                    growth *= column_change
                    decay *= decay_change
                columns = slice(0, high - low + 1)
                while first <= row <= last:
                    _take_step(image[row, low : high + 1], value[columns], ratio[columns], row_change)
                    row += direction
        total = image.sum()
        if not total > 0.0:
            return i
        scale = 1.0 / total
        for k in range(PIXELS):
            for j in range(PIXELS):
                images[i, k, j] = image[k, j] * scale
    return -1


@njit(cache=True)
def _take_step(row, value, ratio, change):
    """Add one row of the kernel, and go on to the next: a loop that the compiler can vectorise."""
    for j in range(len(row)):
        row[j] += value[j]
        value[j] *= ratio[j]
        ratio[j] *= change


@njit(cache=True)
def _densities(x, sample, variance):
    """Sum over the sample of Gaussians of this variance, at each x (not normalised)."""
    sums = np.zeros(len(x))
    for k in range(len(x)):
        total = 0.0
        for s in sample:
            total += np.exp(-0.5 * (x[k] - s) ** 2 / variance)
        sums[k] = total
    return sums


@njit(cache=True)
def _weights_from_density(r_proj, offsets, wanted, weights):
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        r = r_proj[begin:end]
        variance = _moments(r, r, np.ones(len(r)))[0] * BANDWIDTH**2
        if not variance > 1e-16:
            return i
        weights[begin:end] = wanted[begin:end] * len(r) * np.sqrt(variance) / _densities(r, r, variance)
    return -1
