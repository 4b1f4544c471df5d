"""Published masses of a user: units, Hubble constants, bad values, and the command line."""

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology.units import littleh

from cluster_tools import cli
from cluster_tools.coma import mass_definitions
from cluster_tools.coma.mass_definitions import convert_mass
from cluster_tools.errors import ClusterToolsError, WrongUsage

THE_WHITE = 6.60e14  # Msun/h, as the other masses worked out apart from this package by root finding: test_literature


@pytest.mark.parametrize(
    "mass, options, m200c",
    [
        (1.9e15, {"radius": 5.4, "c200c": 7, "h": 0.5}, THE_WHITE),
        (1.44e15, {"radius": 5.5, "scale_radius": 0.192}, 7.62e14),
        (1.4e15, {"delta": 102, "c": 9.4, "h": 0.7}, 8.28e14),
        (5.1e14, {"h": 0.7}, 3.57e14),
        (9.2e14, {"delta": 93.8, "c200c": 7, "h": 0.7}, 5.33e14),
        *((8.8e14, {"delta": 200} | shape, 8.8e14) for shape in ({}, {"c": 5}, {"c200c": 7})),
        (0.95e15 * u.Msun / littleh, {"radius": 2.7 * u.Mpc / littleh, "c200c": 7}, THE_WHITE),
        (0.95e15 * u.Msun / littleh, {"radius": 2.7 / 0.7 * u.Mpc, "c200c": 7, "h": 0.7}, THE_WHITE),
        (0.95e15 * u.Msun / littleh, {"radius": 2.7, "c200c": 7}, THE_WHITE),
        ((0.95e15 / 0.7 * u.Msun).to(u.kg), {"radius": (2.7 / 0.7 * u.Mpc).to(u.lyr), "c200c": 7, "h": 0.7}, THE_WHITE),
    ],
)
def test_conversions_of_numbers_and_quantities(mass, options, m200c):
    assert convert_mass(mass, **options) == pytest.approx(m200c, rel=2e-3)


def test_arrays_broadcast():
    masses = convert_mass([0.6e15, 1.9e15, 5e15] * u.Msun, radius=5.4 * u.Mpc, c200c=[[4.0], [7.0]], h=0.5)
    assert masses.shape == (2, 3) and masses[1, 1] == pytest.approx(THE_WHITE, rel=2e-3)
    with pytest.raises(ClusterToolsError, match=r"mass \(3,\).*radius \(2,\).*broadcast"):
        convert_mass(np.full(3, 1e15), radius=np.full(2, 2.7), c200c=7)


@pytest.mark.parametrize(
    "mass, options, words",
    [
        (1e15 * u.Msun, {}, "mass .*h=0.7"),
        (1e15 * u.kpc, {"h": 0.7}, "mass has the unit kpc"),
        (1e15, {"radius": 5 * u.Msun, "c200c": 7, "h": 0.7}, "radius has the unit solMass"),
        (1e15, {"h": 70}, "h is 70"),
        (1e15, {"h": float("nan")}, "h is nan"),
        ("a lot", {"h": 0.7}, "mass must hold numbers .*a lot"),
        (-1e15, {}, "mass is -1e"),
        ([], {}, "mass is empty"),
        (np.ma.array([1e15, 1e15], mask=[False, True]), {}, r"mass is nan \(1 of 2"),
        (1e15, {"radius": 0.0, "c200c": 7}, "radius is 0"),
        (1e15, {"radius": 2.7, "c200c": -7}, "c200c is -7.*such as 7"),
        (1e15, {"delta": np.inf, "c": 7}, "delta is inf"),
        (1e15, {"z": -1}, "z is -1"),
        (1e15, {"z": 2310}, "z is 2310.* 20"),
        (14.8, {}, "mass is 14.8.*logarithm"),
        ([1e15, 14.8] * u.Msun, {"h": 0.7}, "mass is 14.8"),
        (0.95e15, {"radius": 2.7e6, "c200c": 7}, "check the units"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(mass, options, words):
    with pytest.raises(ClusterToolsError, match=words) as raised:
        convert_mass(mass, **options)
    assert not isinstance(raised.value, WrongUsage)


def test_parameters_that_do_not_go_together_are_wrong_usage():
    overdensity = {"delta": 102, "c": 9.4, "c200c": 7}
    for options in ({"radius": 2.0}, {"delta": 102}, {"c": 9.4}, {"radius": 2.0, "c": 7}, overdensity):
        with pytest.raises(WrongUsage, match=" and ".join(options)):
            convert_mass(1e15, **options)


def run(*words):
    return cli.main(["convert-mass", *words])


EXAMPLE = next(line.split()[2:] for line in mass_definitions.EXAMPLE.splitlines() if "1.615e15" in line)


@pytest.mark.parametrize(
    "words, masses",
    [
        (EXAMPLE, [6.60e14, 5.43e14, 7.81e14]),  # of --help: (0.7 +- 0.1)e15 Msun/h in Ho et al. (2022), Methods
        (["9.2e14 Msun", "--h", "0.7", "--delta", "93.8", "--c200c", "7"], [5.33e14]),
        (["0.95e15 Msun / littleh", "--radius", "2.7 Mpc / littleh", "--c200c", "7"], [6.60e14]),
    ],
)
def test_the_command_takes_several_masses_and_units(words, masses, capsys):
    assert run(*words) == 0
    printed = [float(line.split()[2]) for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(printed, masses, rtol=2e-3)


@pytest.mark.parametrize(
    "words, code",
    [
        *((words, 1) for words in (["nan"], ["5e14 Msun"])),
        *((words, 2) for words in (["1e15", "--radius", "2.7"], [], ["much"], ["1 parrot"])),
        *((words, 2) for words in (["[1, 2] Msun"], ["1e15 1e14 Msun"], ["1e15", "--radius", "2", "--delta", "200"])),
    ],
)
def test_exit_codes_and_no_traceback(words, code, capsys):
    try:
        found = run(*words)
    except SystemExit as refused_by_argparse:
        found = refused_by_argparse.code
    out, err = capsys.readouterr()
    assert found == code and out == "" and "error: " in err and "Traceback" not in err
