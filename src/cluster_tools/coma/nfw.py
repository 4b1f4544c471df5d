"""M200c from published masses: inside a radius, or at another overdensity.

Every conversion assumes the profile of Navarro, Frenk & White (1997, ApJ 490, 493), as the
paper does (Methods: Historical Mass Estimates of the Coma Cluster). With x = r / r_s and
mu(x) = ln(1 + x) - x / (1 + x), the mass inside x is M(x) = 4 pi rho_s r_s^3 mu(x), and the
mean density inside x is rho_s g(x) with g(x) = 3 mu(x) / x^3. As g falls from infinity to
zero, each conversion needs one value of its inverse.

Masses, returned ones included, are in Msun/h. Radii are *physical* Mpc/h at the cluster, as the historical papers
give them; `z` is the redshift of the critical density. The cosmology is the paper's for these conversions: flat LCDM,
Omega_m = 0.3 (h drops out). All parameters are positive and broadcast; `mass_definitions.convert_mass` checks them.
A `ClusterToolsError` says that no halo has these values.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import newton

from cluster_tools.cosmology import critical_density
from cluster_tools.errors import ClusterToolsError

X_RANGE = (1e-4, 1e4)  # allowed r / r_s, and thus concentrations


def m200c_from_aperture_mass(mass: ArrayLike, radius: ArrayLike, *, c200c: ArrayLike, z: ArrayLike = 0.0) -> np.ndarray:
    """M200c of the NFW halo with `mass` inside `radius`, for an assumed concentration R200c / r_s."""
    rho_s = 200 * critical_density(z) / _g(c200c)
    x = _inverse_g(_mean_density(mass, radius) / rho_s, "mass and radius")  # radius / r_s
    return mass * _mu(c200c) / _mu(x)


def m200c_from_scale_radius(
    mass: ArrayLike, radius: ArrayLike, *, scale_radius: ArrayLike, z: ArrayLike = 0.0
) -> np.ndarray:
    """M200c of the NFW halo with `mass` inside `radius`, for a measured scale radius r_s [physical Mpc/h]."""
    x = np.asarray(radius) / scale_radius
    _check_range(x, X_RANGE, "radius and scale_radius")
    rho_s = _mean_density(mass, radius) / _g(x)
    x_200c = _inverse_g(200 * critical_density(z) / rho_s, "mass and scale_radius")
    return mass * _mu(x_200c) / _mu(x)


def m200c_from_overdensity(
    mass: ArrayLike, *, delta: ArrayLike, c: ArrayLike | None = None, c200c: ArrayLike | None = None
) -> np.ndarray:
    """M200c of the NFW halo with `mass` inside the sphere of mean density `delta` times the critical one.

    Give one concentration: `c`, r_delta / r_s measured at `delta`, or `c200c`, R200c / r_s assumed. The redshift
    does not matter, since both densities scale with the critical one.
    """
    if c200c is None:
        x_delta, x_200c = c, _inverse_g(_g(c) * 200 / np.asarray(delta), "delta and c")
    else:
        x_delta, x_200c = _inverse_g(_g(c200c) * np.asarray(delta) / 200, "delta and c200c"), c200c
    return mass * _mu(x_200c) / _mu(x_delta)


def overdensity_radius(mass: ArrayLike, delta: ArrayLike, *, z: ArrayLike = 0.0) -> np.ndarray:
    """Radius of the sphere that holds `mass` at a mean density of `delta` times the critical one."""
    return np.cbrt(3 * np.asarray(mass) / (4 * np.pi * np.asarray(delta) * critical_density(z)))


def _mu(x):
    x = np.asarray(x)
    return np.log1p(x) - x / (1 + x)


def _g(x):
    """Mean density inside x = r / r_s in units of rho_s."""
    return 3 * _mu(x) / np.asarray(x) ** 3


def _mean_density(mass, radius):
    return np.asarray(mass) / (4 / 3 * np.pi * np.asarray(radius) ** 3)


def _inverse_g(density, names):
    """Radius x = r / r_s inside which the mean density, in units of rho_s, is `density`."""
    _check_range(density, _g(X_RANGE[::-1]), names)

    def slope(log_x):  # d ln g / d ln x
        x = np.exp(log_x)
        return x**2 / ((1 + x) ** 2 * _mu(x)) - 3

    # ln g is concave in ln x, so that Newton's method converges from any start.
    return np.exp(newton(lambda log_x: np.log(_g(np.exp(log_x)) / density), np.zeros_like(density), slope))


def _check_range(values, limits, names) -> None:
    if not np.all((values >= limits[0]) & (values <= limits[1])):
        raise ClusterToolsError(
            f"Parameters {names}: no NFW halo has these values with r / r_s between {X_RANGE[0]:g} and {X_RANGE[1]:g}; "
            "check the units, which are Msun/h for masses and Mpc/h for lengths."
        )
