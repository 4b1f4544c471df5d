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

from cluster_tools.cosmology import critical_density, enclosed
from cluster_tools.errors import ClusterToolsError

X_RANGE = (1e-4, 1e4)  # allowed r / r_s, and thus concentrations
NEWTON_STEPS = 6  # to 1e-11 within this range


def m200c(
    mass: ArrayLike, *, radius: ArrayLike | None = None, delta: ArrayLike | None = None,
    scale_radius: ArrayLike | None = None, c: ArrayLike | None = None, c200c: ArrayLike | None = None,
    z: ArrayLike = 0.0,
) -> np.ndarray:  # fmt: skip
    """M200c [Msun/h] of the NFW halo with `mass` [Msun/h] inside a `radius` [physical Mpc/h] or overdensity `delta`.

    The concentration of the halo is one of three: the measured `scale_radius` r_s [physical Mpc/h] for a `radius`, the
    measured `c`, r_delta / r_s, for a `delta`, or the assumed `c200c`, R200c / r_s, for either. With `delta`, the
    redshift does not matter, since both densities scale with the critical one.
    """
    given = {"radius": radius, "delta": delta, "scale_radius": scale_radius, "c": c, "c200c": c200c}
    names = ", ".join(["mass", *(name for name, value in given.items() if value is not None)])
    if delta is None:
        delta = np.asarray(mass) / (4 / 3 * np.pi * np.asarray(radius) ** 3) / critical_density(z)
    if c200c is None:
        x = np.asarray(radius) / np.asarray(scale_radius) if c is None else np.asarray(c)
        _check_range(x, X_RANGE, names)
        c200c = _inverse_g(_g(x) * 200 / np.asarray(delta), names)
    else:
        x = _inverse_g(_g(c200c) * np.asarray(delta) / 200, names)
    return mass * enclosed(c200c) / enclosed(x)


def overdensity_radius(mass: ArrayLike, delta: ArrayLike, *, z: ArrayLike = 0.0) -> np.ndarray:
    """Radius [physical Mpc/h] of the sphere with `mass` [Msun/h] and `delta` times the critical density at `z`."""
    return np.cbrt(3 * np.asarray(mass) / (4 * np.pi * np.asarray(delta) * critical_density(z)))


def _g(x):
    """Mean density inside x = r / r_s in units of rho_s."""
    return 3 * enclosed(x) / np.asarray(x) ** 3


def _inverse_g(density, names):
    """Radius x = r / r_s inside which the mean density, in units of rho_s, is `density`."""
    _check_range(density, _g(X_RANGE[::-1]), names)
    x = np.ones_like(density)
    for _ in range(NEWTON_STEPS):  # ln g is concave in ln x, so that Newton's method converges from any start
        slope = x**2 / ((1 + x) ** 2 * enclosed(x)) - 3  # d ln g / d ln x
        x = x * np.exp(-np.log(_g(x) / density) / slope)
    return x


def _check_range(values, limits, names) -> None:
    if not np.all((values >= limits[0]) & (values <= limits[1])):
        raise ClusterToolsError(
            f"Parameters {names}: no NFW halo has these values with r / r_s between {X_RANGE[0]:g} and {X_RANGE[1]:g}; "
            "check the units, which are Msun/h for masses and Mpc/h for lengths."
        )
