"""M200c from what papers publish: a mass inside some radius, or at another overdensity.

Every conversion assumes the profile of Navarro, Frenk & White (1997, ApJ 490, 493), as the
paper does (Methods: Historical Mass Estimates of the Coma Cluster). With x = r / r_s and
mu(x) = ln(1 + x) - x / (1 + x), the mass inside x is M(x) = 4 pi rho_s r_s^3 mu(x), and the
mean density inside x is rho_s g(x) with g(x) = 3 mu(x) / x^3. As g falls from infinity to
zero, each conversion is one value of its inverse, which colossus tabulates to 1e-7.

Masses are in Msun/h. Apertures and scale radii are *physical* Mpc/h at the cluster, as the
historical papers give them; at the default z = 0 they equal comoving ones.
The cosmology is the paper's for these conversions: flat LCDM, Omega_m = 0.3 (h drops out).
"""

from __future__ import annotations

import numpy as np
from colossus.halo.profile_nfw import NFWProfile
from numpy.typing import ArrayLike

from cluster_tools.cosmology import critical_density
from cluster_tools.errors import ClusterToolsError

X_RANGE = (1e-4, 1e4)  # r / r_s where colossus tabulates the inverse of g


def m200c_from_aperture_mass(mass: ArrayLike, radius: ArrayLike, *, c200c: ArrayLike, z: ArrayLike = 0.0) -> np.ndarray:
    """M200c [Msun/h] of the NFW halo with `mass` inside `radius` and an assumed concentration.

    Parameters
    ----------
    mass : mass inside the sphere [Msun/h]
    radius : radius of the sphere [physical Mpc/h]
    c200c : concentration r200c / r_s
    z : redshift at which the critical density is taken

    All broadcast against each other. Raises `ClusterToolsError` if a value is not positive, is
    not finite, or describes no halo (units mixed up).
    """
    mass, radius, c200c, z = _checked(mass=mass, radius=radius, c200c=c200c, z=z)
    mean_density = mass / (4 / 3 * np.pi * radius**3)
    rho_s = 200 * critical_density(z) / _g(c200c)
    x = _inverse_g(mean_density / rho_s, "mass and radius")  # = radius / r_s
    return mass * NFWProfile.mu(c200c) / NFWProfile.mu(x)


def m200c_from_scale_radius(
    mass: ArrayLike, radius: ArrayLike, *, scale_radius: ArrayLike, z: ArrayLike = 0.0
) -> np.ndarray:
    """M200c [Msun/h] of the NFW halo with `mass` inside `radius` and a measured scale radius.

    Parameters
    ----------
    mass : mass inside the sphere [Msun/h]
    radius : radius of the sphere [physical Mpc/h]
    scale_radius : NFW scale radius r_s [physical Mpc/h]
    z : redshift at which the critical density is taken

    All broadcast against each other. Raises `ClusterToolsError` if a value is not positive, is
    not finite, or describes no halo (units mixed up).
    """
    mass, radius, scale_radius, z = _checked(mass=mass, radius=radius, scale_radius=scale_radius, z=z)
    x = _within_range(radius / scale_radius, "radius / scale_radius")
    rho_s = mass / (4 / 3 * np.pi * radius**3) / _g(x)
    x_200c = _inverse_g(200 * critical_density(z) / rho_s, "mass and scale_radius")
    return mass * NFWProfile.mu(x_200c) / NFWProfile.mu(x)


def m200c_from_overdensity(
    mass: ArrayLike,
    *,
    delta: ArrayLike,
    c: ArrayLike | None = None,
    c200c: ArrayLike | None = None,
    z: ArrayLike = 0.0,
) -> np.ndarray:
    """M200c [Msun/h] of the NFW halo whose mass at another spherical overdensity is `mass`.

    Parameters
    ----------
    mass : mass inside the sphere of mean density `delta` rho_c [Msun/h]
    delta : overdensity with respect to the critical density (not the mean matter density)
    c : concentration r_delta / r_s, where it was measured at `delta`
    c200c : concentration r200c / r_s, where it is assumed; give exactly one of the two
    z : redshift of the halo; since both densities scale with rho_c(z) it changes nothing

    All broadcast against each other. Raises `ClusterToolsError` if both or neither of `c` and
    `c200c` are given, or a value is not positive, not finite or describes no halo.
    """
    if (c is None) == (c200c is None):
        found = "neither" if c is None else "both"
        raise ClusterToolsError(
            f"Parameters c and c200c: {found} given, expected exactly one; pass c where the concentration was "
            "measured at delta, or c200c where it is assumed at 200c."
        )
    if c200c is None:
        mass, delta, c, z = _checked(mass=mass, delta=delta, c=c, z=z)
        x_delta, x_200c = c, _inverse_g(_g(c) * 200 / delta, "delta and c")
    else:
        mass, delta, c200c, z = _checked(mass=mass, delta=delta, c200c=c200c, z=z)
        x_delta, x_200c = _inverse_g(_g(c200c) * delta / 200, "delta and c200c"), c200c
    return mass * NFWProfile.mu(x_200c) / NFWProfile.mu(x_delta)


def _g(x):
    """Mean density inside x = r / r_s in units of rho_s."""
    return 3 * NFWProfile.mu(x) / x**3


def _inverse_g(density, what):
    """x = r / r_s inside which the mean density, in units of rho_s, is `density`."""
    low, high = _g(np.array(X_RANGE[::-1]))
    if not np.all((density >= low) & (density <= high)):
        _no_halo(what)
    return NFWProfile.xDelta(1.0, density)


def _within_range(x, what):
    if not np.all((x >= X_RANGE[0]) & (x <= X_RANGE[1])):
        _no_halo(what)
    return x


def _no_halo(what):
    raise ClusterToolsError(
        f"Parameters {what}: no NFW halo has these values with r / r_s between {X_RANGE[0]:g} and {X_RANGE[1]:g}; "
        "check the units, which are Msun/h for masses and Mpc/h for lengths."
    )


def _checked(**parameters):
    """The named parameters as float arrays of one shape, or a sentence about the first bad one."""
    arrays = []
    for name, value in parameters.items():
        if getattr(value, "unit", None) is not None:
            raise ClusterToolsError(
                f"Parameter {name} has the unit {value.unit}, expected plain numbers; "
                "pass its value in Msun/h or Mpc/h."
            )
        try:
            array = np.ma.filled(np.asanyarray(value, dtype=float), np.nan)
        except (TypeError, ValueError, OverflowError) as error:
            shown = " ".join(repr(value).split())[:80]
            raise ClusterToolsError(f"Parameter {name} is {shown}, expected a number or an array of them.") from error
        if name == "z":
            good, expected = array >= 0, "zero or more"
        elif name.startswith("c"):
            good, expected = (array >= X_RANGE[0]) & (array <= X_RANGE[1]), "a concentration, such as 7"
        else:
            good, expected = array > 0, "a positive number"
        good &= np.isfinite(array)
        if array.size == 0 or not np.all(good):
            found = f"{array[~good].flat[0]:g}" if array.size else "empty"
            raise ClusterToolsError(
                f"Parameter {name} is {found} ({np.count_nonzero(~good)} of {array.size} values bad), "
                f"expected {expected}; correct these values or leave them out."
            )
        arrays.append(array)
    try:
        arrays = [array[()] for array in np.broadcast_arrays(*arrays)]  # scalars stay scalars
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(parameters, arrays, strict=True))
        raise ClusterToolsError(
            f"Parameters {shapes}: these shapes do not fit together; pass arrays that broadcast."
        ) from error
    return arrays if len(arrays) > 1 else arrays[0]
