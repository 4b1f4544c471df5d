"""Any published cluster mass as M200c, from Python and from the command line.

`nfw` has the conversions; this module handles units and Hubble constants.
"""

import argparse
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike

from cluster_tools import arrays, cosmology
from cluster_tools.coma import nfw
from cluster_tools.errors import ClusterToolsError, WrongUsage

POSITIVE = (1e-300, 1e300, "a positive number")
CONCENTRATION = (*nfw.X_RANGE, "a concentration, such as 7")
BOUNDS = {
    "mass": (1e5, 1e300, "a mass in Msun, not its logarithm, such as 1e15"),
    "radius": POSITIVE,
    "delta": POSITIVE,
    "scale_radius": POSITIVE,
    "c": CONCENTRATION,
    "c200c": CONCENTRATION,
    "z": (0.0, 20.0, "a redshift from 0 to 20, such as 0.0231"),
}


def convert_mass(
    mass: ArrayLike,
    *,
    radius: ArrayLike | None = None,
    delta: ArrayLike | None = None,
    scale_radius: ArrayLike | None = None,
    c: ArrayLike | None = None,
    c200c: ArrayLike | None = None,
    h: float | None = None,
    z: ArrayLike = 0.0,
) -> np.ndarray:
    """M200c [Msun/h] of a cluster from a mass as it was published, as an array where a parameter is one.

    Masses and lengths are plain numbers or astropy Quantities. Plain numbers are in Msun/h and Mpc/h or, with `h`,
    in Msun/h_X and Mpc/h_X with X = 100 h: h=0.5 for h50, h=0.7 for h70. A Quantity may have the unit ``littleh``
    of `astropy.cosmology.units`, as in Msun / littleh; without it, as in Msun, it is scaled with `h`. Raises
    `ClusterToolsError` for parameters that do not go together, a wrong or missing unit, values that are not positive
    and finite, a mass below 1e5 Msun/h (a logarithm?), and a redshift above 20.

    The mass lies inside a sphere of physical `radius`, or of the overdensity `delta` over the critical density at
    redshift `z`. One concentration goes with it: the measured NFW `scale_radius`, physical, with `radius`; `c`,
    measured at `delta`; or `c200c`, assumed at 200c, 7 in the paper. Without them, or with a delta of 200 alone, only
    the unit of M200c is converted. All parameters but `h` broadcast.

    Examples
    --------
    The & White (1986), 1.9e15 Msun/h50 within 5.4 Mpc/h50 (Ho et al. 2022, Methods):

    >>> f"{convert_mass(1.9e15, radius=5.4, h=0.5, c200c=7):.3g}"
    '6.6e+14'
    """
    given = {"radius": radius, "delta": delta, "scale_radius": scale_radius, "c": c, "c200c": c200c}
    given = {name: value for name, value in given.items() if value is not None}
    if h is not None and not (np.isscalar(h) and np.isreal(h) and 0.1 <= h <= 2):
        found = " ".join(repr(h).split())[:80]
        raise ClusterToolsError(f"Parameter h is {found}, expected H0 / (100 km/s/Mpc), such as 0.7; pass that.")
    values = {name: _checked(name, value) for name, value in ({"mass": mass, "z": z} | given).items()}
    _check_combination(given, values)
    for name, value in {"mass": mass, "radius": radius, "scale_radius": scale_radius}.items():
        if value is not None:
            values[name] = _in_h_units(name, value, values[name], h)
    return nfw.m200c(**values) if len(given) > 1 else values["mass"]  # M200c already


def _checked(name: str, value) -> np.ndarray:
    """A parameter's numbers in its own unit, masked ones as NaN, inside `BOUNDS`."""
    low, high, expected = BOUNDS[name]
    numbers = arrays.numbers(f"Parameter {name}", getattr(value, "value", value))
    bad = numbers[~((numbers >= low) & (numbers <= high))]
    if bad.size or not numbers.size:
        value_text = f"{bad[0]:g} ({bad.size} of {numbers.size} values bad)" if bad.size else "empty"
        raise ClusterToolsError(f"Parameter {name} is {value_text}, expected {expected}; correct or drop such values.")
    return numbers[()]  # scalars stay scalars


def _check_combination(given, values) -> None:
    """Refuse parameters that name no conversion, or more than one, or whose shapes do not broadcast."""
    allowed = [set(), {"radius", "scale_radius"}, {"radius", "c200c"}, {"delta", "c"}, {"delta", "c200c"}]
    at_200c = set(given) == {"delta"} and np.all(values["delta"] == 200)
    if set(given) not in allowed and not at_200c:
        raise WrongUsage(
            f"Parameters {' and '.join(given)} do not name one conversion, expected radius with scale_radius or c200c, "
            "delta with c or c200c, or none of them for a mass that is M200c already; pass c200c=7 where no "
            "concentration is known."
        )
    try:
        np.broadcast_shapes(*map(np.shape, values.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {np.shape(numbers)}" for name, numbers in values.items())
        raise ClusterToolsError(f"Parameters {shapes}: these shapes do not fit; pass arrays that broadcast.") from None


def _in_h_units(name: str, value, numbers: np.ndarray, h: float | None) -> np.ndarray:
    """A mass in Msun/h or a length in Mpc/h as plain numbers."""
    if (given_unit := getattr(value, "unit", None)) is None:
        return numbers * (1.0 if h is None else h)
    from astropy import units as u
    from astropy.cosmology.units import littleh, with_H0

    unit = u.Msun if name == "mass" else u.Mpc
    hubble = [] if h is None else with_H0(100 * h * u.km / u.s / u.Mpc)
    try:
        return given_unit.to(unit / littleh, numbers, equivalencies=hubble)
    except u.UnitConversionError:
        raise ClusterToolsError(
            f"Parameter {name} has the unit {given_unit}, expected {unit} / littleh, or {unit} with the Hubble "
            "constant of the publication; correct the unit, or pass for instance h=0.7."
        ) from None


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


def convert_mass_command(arguments: argparse.Namespace) -> None:
    """Print M200c and R200c, a line for each mass."""
    options = {name: getattr(arguments, name) for name in ("radius", "delta", "scale_radius", "c", "c200c", "h", "z")}
    log_m200c = np.log10([convert_mass(mass, **options) for mass in arguments.mass])
    for log_m, radius in zip(log_m200c, cosmology.r200c(log_m200c, arguments.z), strict=True):
        print(f"M200c = {10**log_m:.3e} Msun/h   log10 = {log_m:.3f}   R200c = {radius:.2f} comoving Mpc/h")


def _quantity(text: str):
    """A plain number, or a number with a unit that astropy knows."""
    with suppress(ValueError):
        return float(text)
    from astropy import units as u
    from astropy.cosmology import units as cosmology_units

    with suppress(TypeError, ValueError), u.add_enabled_units(cosmology_units):
        quantity = u.Quantity(text)
        if quantity.isscalar and quantity.unit.scale == 1:  # unlike "[1, 2] Msun", "1e15 1e14 Msun"
            return quantity
    raise argparse.ArgumentTypeError(f'{text!r} is no quantity; expected a number, with a unit or without: "1e15 Msun"')
