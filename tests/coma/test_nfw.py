"""NFW conversions against direct integration, colossus' own, analytic limits, and published numbers."""

import numpy as np
import pytest
from astropy import units as u
from scipy.integrate import quad
from scipy.optimize import brentq

from cluster_tools.coma import nfw
from cluster_tools.cosmology import critical_density, r200c
from cluster_tools.errors import ClusterToolsError

# 3 (100 km/s/Mpc)^2 / (8 pi G) [Msun h^2 / Mpc^3] from the IAU's Mpc [m] and nominal GM_sun [m^3/s^2].
RHO_CRIT_0 = 3 * 1e5**2 * 3.0856775814913673e22 / (8 * np.pi * 1.3271244e20)


def sphere(mass, radius):
    return mass / (4 / 3 * np.pi * radius**3)


def integrated_mass(m200c, c200c, radius, z=0.0):
    """Mass inside `radius` [physical Mpc/h]: the NFW density (NFW 1997, eq. 1) integrated over shells."""
    rho_crit = RHO_CRIT_0 * (0.3 * (1 + z) ** 3 + 0.7)
    r200 = (3 * m200c / (800 * np.pi * rho_crit)) ** (1 / 3)
    r_s = r200 / c200c

    def shells(r):
        return quad(lambda t: 4 * np.pi * t**2 / ((t / r_s) * (1 + t / r_s) ** 2), 0, r, epsabs=0, epsrel=1e-10)[0]

    return m200c * shells(radius) / shells(r200)


@pytest.mark.parametrize("c200c", [0.5, 4.0, 7.0, 20.0])
@pytest.mark.parametrize("radius", [0.1, 1.5, 5.4])
@pytest.mark.parametrize("z", [0.0, 0.0231])
def test_aperture_and_scale_radius_invert_the_integrated_density(c200c, radius, z):
    m200c = 7e14
    mass = integrated_mass(m200c, c200c, radius, z)
    scale_radius = r200c(np.log10(m200c), z) / (1 + z) / c200c
    assert nfw.m200c_from_aperture_mass(mass, radius, c200c=c200c, z=z) == pytest.approx(m200c, rel=5e-5)
    found = nfw.m200c_from_scale_radius(mass, radius, scale_radius=scale_radius, z=z)
    assert found == pytest.approx(m200c, rel=5e-5)


@pytest.mark.parametrize("delta", [93.8, 102, 200, 500, 2500])
def test_overdensity_inverts_the_integrated_density(delta):
    m200c, c200c = 5e14, 6.0
    r_delta = brentq(lambda r: sphere(integrated_mass(m200c, c200c, r), r) - delta * RHO_CRIT_0, 1e-2, 10)
    mass = integrated_mass(m200c, c200c, r_delta)
    c = c200c * r_delta / float(r200c(np.log10(m200c)))
    assert nfw.m200c_from_overdensity(mass, delta=delta, c=c) == pytest.approx(m200c, rel=5e-5)
    assert nfw.m200c_from_overdensity(mass, delta=delta, c200c=c200c) == pytest.approx(m200c, rel=5e-5)


def test_overdensity_agrees_with_colossus():
    from colossus.cosmology import cosmology
    from colossus.halo import mass_defs

    before = cosmology.current_cosmo
    cosmology.setCosmology("test", flat=True, H0=70, Om0=0.3, Ob0=0.045, sigma8=0.8, ns=0.96, persistence="")
    try:
        mass, c = np.array([1e14, 6e14, 2e15]), np.array([3.0, 7.0, 12.0])
        expected, radius, _ = mass_defs.changeMassDefinition(mass, c, 0.0231, "500c", "200c")
    finally:
        cosmology.current_cosmo = before
    found = nfw.m200c_from_overdensity(mass, delta=500, c=c, z=0.0231)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # colossus adds radiation to the expansion, about 1e-4 in density, and its radii are physical kpc/h.
    np.testing.assert_allclose(r200c(np.log10(expected), 0.0231), radius / 1e3 * 1.0231, rtol=1e-4)


def test_a_sphere_that_is_r200c_holds_m200c():
    m200c = np.array([1e13, 1e14, 1e15])
    for c200c in (2.0, 7.0):
        found = nfw.m200c_from_aperture_mass(m200c, r200c(np.log10(m200c)), c200c=c200c)
        np.testing.assert_allclose(found, m200c, rtol=1e-6)
    np.testing.assert_allclose(nfw.m200c_from_overdensity(m200c, delta=200, c=5), m200c, rtol=1e-6)


def test_inside_the_cusp_mass_grows_as_radius_squared():
    # rho = rho_s r_s / r for r << r_s, so M(r) = M200c (r / r_s)^2 / (2 mu(c)).
    m200c, c200c = 1e15, 5.0
    r = 1e-3 * r200c(np.log10(m200c)) / c200c
    mass = m200c * 1e-6 / 2 / (np.log(6) - 5 / 6)
    assert nfw.m200c_from_aperture_mass(mass, r, c200c=c200c) == pytest.approx(m200c, rel=5e-3)


def test_a_halo_scaled_at_fixed_density_keeps_its_ratio():
    once = nfw.m200c_from_aperture_mass(1e15, 2.7, c200c=7)
    assert nfw.m200c_from_aperture_mass(8e15, 5.4, c200c=7) == pytest.approx(8 * once, rel=2e-5)
    once = nfw.m200c_from_scale_radius(1e15, 2.7, scale_radius=0.2)
    assert nfw.m200c_from_scale_radius(8e15, 5.4, scale_radius=0.4) == pytest.approx(8 * once, rel=2e-5)


def test_m200c_grows_with_the_concentration_assumed_for_a_large_aperture():
    # The same mass inside 2.7 Mpc/h, well beyond r200c: the more concentrated, the more lies inside r200c.
    found = nfw.m200c_from_aperture_mass(9.5e14, 2.7, c200c=np.linspace(4, 10, 7))
    assert np.all(np.diff(found) > 0) and np.all(found < 9.5e14)


def test_redshift_raises_the_critical_density_only():
    assert critical_density(0.0) == pytest.approx(RHO_CRIT_0, rel=2e-5)
    assert critical_density(1.0) / critical_density(0.0) == pytest.approx(0.3 * 8 + 0.7)
    at_zero = nfw.m200c_from_aperture_mass(9.5e14, 2.7, c200c=7)
    assert nfw.m200c_from_aperture_mass(9.5e14, 2.7, c200c=7, z=0.5) < at_zero
    both = nfw.m200c_from_overdensity(1e15, delta=102, c=9.4, z=[0.0, 2.0])
    assert both[0] == both[1]


def test_r200c_of_the_paper():
    # Ho et al. (2022): R200c = 1.78 Mpc/h for 10^15.10 Msun/h; 0.15 dex are +0.22 and -0.19 Mpc/h.
    low, mid, high = r200c([14.95, 15.10, 15.25], 0.0231)
    assert mid == pytest.approx(1.78, abs=0.005)
    assert (high - mid, mid - low) == (pytest.approx(0.22, abs=0.005), pytest.approx(0.19, abs=0.005))
    # Comoving, so the physical radius is smaller by 1 + z.
    assert sphere(10**15.10, mid / 1.0231) == pytest.approx(200 * critical_density(0.0231))


def test_lokas_and_mamon_agree_with_themselves():
    # Lokas & Mamon (2003): 1.4e15 Msun/h70 at 102 rho_c is the mass inside 2.9 Mpc/h70, with c102 = 9.4,
    # which is a concentration at 200c of 7, the value that Ho et al. (2022) assume elsewhere.
    mass, radius = 1.4e15 * 0.7, 2.9 * 0.7
    m200c = nfw.m200c_from_overdensity(mass, delta=102, c=9.4)
    assert sphere(mass, radius) / critical_density() == pytest.approx(102, rel=0.03)
    assert nfw.m200c_from_scale_radius(mass, radius, scale_radius=radius / 9.4) == pytest.approx(m200c, rel=0.01)
    assert 9.4 * r200c(np.log10(m200c)) / radius == pytest.approx(7.1, abs=0.05)


def test_broadcasting_and_scalars():
    mass = np.array([[6e14], [9e14]])
    assert nfw.m200c_from_aperture_mass(mass, 2.5, c200c=[4.0, 7.0, 10.0]).shape == (2, 3)
    assert nfw.m200c_from_overdensity(mass, delta=[93.8, 102.0], c200c=7).shape == (2, 2)
    assert np.ndim(nfw.m200c_from_scale_radius(1.44e15, 5.5, scale_radius=0.192)) == 0
    assert np.ndim(r200c(15.0)) == 0


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, [7.0, np.nan], [], "seven", None, 1e15 * u.Msun])
@pytest.mark.parametrize("name", ["mass", "radius", "c200c"])
def test_bad_values_are_refused_by_name(name, bad):
    good = {"mass": 9.5e14, "radius": 2.7, "c200c": 7.0}
    with pytest.raises(ClusterToolsError, match=rf"Parameter {name} "):
        nfw.m200c_from_aperture_mass(**(good | {name: bad}))


def test_masked_values_are_refused():
    mass = np.ma.array([1e15, 1e15], mask=[False, True])
    with pytest.raises(ClusterToolsError, match=r"mass is nan \(1 of 2"):
        nfw.m200c_from_aperture_mass(mass, 2.7, c200c=7)


@pytest.mark.parametrize("z", [-0.1, np.nan])
def test_bad_redshifts_are_refused(z):
    with pytest.raises(ClusterToolsError, match="Parameter z is"):
        nfw.m200c_from_aperture_mass(9.5e14, 2.7, c200c=7, z=z)


@pytest.mark.parametrize("given", [{}, {"c": 9.4, "c200c": 7.0}])
def test_exactly_one_concentration(given):
    with pytest.raises(ClusterToolsError, match="c and c200c: (neither|both) given"):
        nfw.m200c_from_overdensity(1e15, delta=102, **given)


def test_mixed_units_and_shapes_are_refused():
    with pytest.raises(ClusterToolsError, match="check the units"):
        nfw.m200c_from_aperture_mass(0.95, 2.7, c200c=7)  # a mass in 1e15 Msun/h
    with pytest.raises(ClusterToolsError, match="check the units"):
        nfw.m200c_from_scale_radius(1.44e15, 5.5, scale_radius=5.5e5)
    with pytest.raises(ClusterToolsError, match="shapes do not fit"):
        nfw.m200c_from_aperture_mass(np.full(3, 9.5e14), np.full(2, 2.7), c200c=7)
