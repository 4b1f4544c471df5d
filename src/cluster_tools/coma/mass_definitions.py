"""Any published cluster mass as M200c, from Python and from the command line.

The conversions are those of `nfw`; here units and Hubble constants are seen to.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools import cosmology
from cluster_tools.errors import ClusterToolsError

if TYPE_CHECKING:
    from astropy.units import Quantity
    from numpy.typing import ArrayLike


MIN_MASS = 1e5  # Msun/h; what is smaller is no mass of a cluster, but may be its logarithm
MAX_REDSHIFT = 20.0


class WrongUsage(ClusterToolsError):
    """Parameters that do not go together, whatever their values are."""


def convert_mass(
    mass: ArrayLike | Quantity,
    *,
    radius: ArrayLike | Quantity | None = None,
    delta: ArrayLike | None = None,
    scale_radius: ArrayLike | Quantity | None = None,
    c: ArrayLike | None = None,
    c200c: ArrayLike | None = None,
    h: float | None = None,
    z: ArrayLike = 0.0,
) -> np.ndarray:
    """M200c [Msun/h] of a cluster from a mass as it was published.

    Parameters
    ----------
    mass : the published mass
    radius : radius of the sphere that holds it (physical); needs `scale_radius` or `c200c`
    delta : overdensity of that sphere with respect to the critical density; needs `c` or `c200c`.
        With neither radius nor delta, `mass` is M200c already and only its unit is converted.
    scale_radius : measured NFW scale radius (physical)
    c : concentration measured at `delta`
    c200c : concentration assumed at 200c; Ho et al. (2022) assume 7 for Coma
    h : Hubble constant of the publication, H0 / (100 km/s/Mpc)
    z : redshift at which the critical density is taken

    Masses and lengths are astropy Quantities or plain numbers. A Quantity may have the unit
    ``littleh`` of `astropy.cosmology.units`, as in Msun / littleh; without it, as in Msun, it is
    scaled with `h`. Plain numbers are in Msun/h and Mpc/h or, where `h` is given, in Msun/h_X and
    Mpc/h_X with X = 100 h: h=0.5 for h50, h=0.7 for h70 and for Msun of a paper that takes 0.7.
    Arrays broadcast.

    Raises `ClusterToolsError` for a wrong or missing unit, values that are not positive or not
    finite, a mass below 1e5 Msun/h (a logarithm?), a redshift above 20, and parameters that do not
    go together.

    The & White (1986), 1.9e15 Msun/h50 within 5.4 Mpc/h50 (Ho et al. 2022, Methods):

    >>> f"{convert_mass(1.9e15, radius=5.4, h=0.5, c200c=7):.3g}"
    '6.6e+14'
    """
    from astropy import units as u

    from cluster_tools.coma import nfw

    _check_together(radius=radius, delta=delta, scale_radius=scale_radius, c=c, c200c=c200c)
    if h is not None and not (np.isscalar(h) and np.isreal(h) and 0.1 <= h <= 2):
        raise ClusterToolsError(f"Parameter h is {h!r}, expected H0 / (100 km/s/Mpc), such as 0.7; pass that.")
    given, mass = mass, _in_h_units("mass", mass, u.Msun, h)
    _check_size(given, mass, z)
    if radius is not None:
        radius = _in_h_units("radius", radius, u.Mpc, h)
        if scale_radius is not None:
            scale_radius = _in_h_units("scale_radius", scale_radius, u.Mpc, h)
            return nfw.m200c_from_scale_radius(mass, radius, scale_radius=scale_radius, z=z)
        return nfw.m200c_from_aperture_mass(mass, radius, c200c=c200c, z=z)
    if delta is not None:
        return nfw.m200c_from_overdensity(mass, delta=delta, c=c, c200c=c200c, z=z)
    return nfw.m200c_from_overdensity(mass, delta=200.0, c200c=1.0, z=z)  # M200c already: only checked


def _check_together(**given) -> None:
    """Refuse parameters that name no conversion, or more than one."""
    names = {name for name, value in given.items() if value is not None}
    allowed = [set(), {"radius", "scale_radius"}, {"radius", "c200c"}, {"delta", "c"}, {"delta", "c200c"}]
    if names not in allowed:
        listed = " and ".join(name for name in given if name in names)
        raise WrongUsage(
            f"Parameters {listed} do not name one conversion, expected radius with scale_radius or c200c, delta with c "
            "or c200c, or none of them for a mass that is M200c already; pass c200c=7 where no concentration is known."
        )


def _check_size(given, mass, z) -> None:
    """Refuse what can be no cluster: masses that look like logarithms, and absurd redshifts."""
    small = np.ravel((mass > 0) & (mass < MIN_MASS))
    if np.any(small):
        given = float(np.ravel(getattr(given, "value", given))[small][0])
        meant = f"{10**given:.3g}" if 5 < given < 20 else "1e15"
        raise ClusterToolsError(
            f"Parameter mass is {given:g}, expected a mass of at least {MIN_MASS:.0e} Msun/h and not its logarithm; "
            f"pass the mass itself, such as {meant}."
        )
    large = np.ravel(_scaled("z", z, 1.0))
    if np.any(large > MAX_REDSHIFT):
        raise ClusterToolsError(
            f"Parameter z is {large.max():g}, expected a redshift of at most {MAX_REDSHIFT:g}; pass that of the "
            "cluster, such as 0.0231 for Coma."
        )


def _in_h_units(name: str, value, unit, h: float | None):
    """A mass in Msun/h or a length in Mpc/h as plain numbers; `unit` is Msun or Mpc."""
    from astropy import units as u
    from astropy.cosmology.units import littleh

    if not isinstance(value, u.Quantity):
        return _scaled(name, value, 1.0 if h is None else h)
    if value.unit.is_equivalent(unit / littleh):
        return value.to_value(unit / littleh)
    if not value.unit.is_equivalent(unit):
        raise ClusterToolsError(
            f"Parameter {name} has the unit {value.unit}, expected one like {unit} or {unit} / littleh; "
            "correct its unit."
        )
    if h is None:
        raise ClusterToolsError(
            f"Parameter {name} has the unit {value.unit}, without h, and no h is given; "
            "pass the Hubble constant of the publication, such as h=0.7."
        )
    return value.to_value(unit) * h


def _scaled(name: str, value, h: float):
    try:
        return np.asarray(value, dtype=float) * h
    except (TypeError, ValueError, OverflowError):
        shown = " ".join(repr(value).split())[:80]
        raise ClusterToolsError(f"Parameter {name} is {shown}, expected a number or an array of them.") from None


# The command line

EXAMPLE = """\
example: The & White (1986) found 1.9e15 Msun/h50 within 5.4 Mpc/h50, where h50 is H0 / (50 km/s/Mpc), with an
error of 15 %. Ho et al. (2022) assume c200c = 7 and get 0.7 +- 0.1 in units of 1e15 Msun/h. The same, with the
lower and the upper end of the mass:

  cluster-tools convert-mass 1.9e15 1.615e15 2.185e15 --h 0.5 --radius 5.4 --c200c 7

more: cluster-tools convert-mass "9.2e14 Msun" --h 0.7 --delta 93.8 --c200c 7
      cluster-tools convert-mass 1.44e15 --radius 5.5 --scale-radius 0.192
      cluster-tools convert-mass "5.1e14 Msun" --h 0.7
"""


def add_convert_mass(subparsers) -> argparse.ArgumentParser:
    """Add ``convert-mass`` to the sub-parsers of a command line, and return its parser."""
    parser = subparsers.add_parser(
        "convert-mass",
        help="a published cluster mass as M200c",
        description="Convert a published cluster mass to M200c [Msun/h] with an NFW profile. MASS and lengths are "
        "numbers in Msun/h and Mpc/h (with --h: in Msun/h_X and Mpc/h_X, X = 100 h), or quoted texts with "
        'a unit such as "1e15 Msun" or "1e15 Msun / littleh". Lengths are physical.',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mass", nargs="+", type=_quantity, metavar="MASS", help="mass; several are converted alike")
    sphere = parser.add_mutually_exclusive_group()
    sphere.add_argument("--radius", type=_quantity, help="radius of the sphere that holds the mass")
    sphere.add_argument("--delta", type=float, help="overdensity of that sphere, times the critical density")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--scale-radius", type=_quantity, help="measured NFW scale radius")
    shape.add_argument("--c", type=float, help="concentration measured at --delta")
    shape.add_argument("--c200c", type=float, help="concentration assumed at 200c, such as 7")
    parser.add_argument("--h", type=float, help="Hubble constant of the publication / (100 km/s/Mpc), such as 0.7")
    parser.add_argument("--z", type=float, default=0.0, help="redshift of the critical density (default: 0)")
    return parser


def convert_mass_command(arguments: argparse.Namespace) -> int:
    """Print M200c and R200c, a line for each mass; exit codes: 0 done, 1 bad value, 2 wrong usage."""
    options = {name: getattr(arguments, name) for name in ("radius", "delta", "scale_radius", "c", "c200c", "h", "z")}
    try:
        converted = [float(convert_mass(mass, **options)) for mass in arguments.mass]
    except ClusterToolsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, WrongUsage) else 1
    for m200c in converted:
        r200c = cosmology.r200c(np.log10(m200c), arguments.z)
        print(f"M200c = {m200c:.3e} Msun/h   log10 = {np.log10(m200c):.3f}   R200c = {r200c:.2f} comoving Mpc/h")
    return 0


def _quantity(text: str):
    """An argument: a plain number, or a number with a unit that astropy knows."""
    try:
        return float(text)
    except ValueError:
        pass
    from astropy import units as u
    from astropy.cosmology import units as cosmology_units

    expected = 'expected a number, or one with a unit, such as "1e15 Msun"'
    try:
        with u.add_enabled_units(cosmology_units):
            quantity = u.Quantity(text)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no quantity; {expected}") from None
    if not quantity.isscalar or quantity.unit.scale != 1:  # "[1, 2] Msun", "1e15 1e14 Msun"
        raise argparse.ArgumentTypeError(f"{text!r} is not one quantity; {expected}")
    return quantity
