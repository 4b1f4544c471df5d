"""NFW conversions against direct integration, colossus and published numbers."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from cluster_tools.coma import nfw
from cluster_tools.cosmology import critical_density, r200c
from cluster_tools.errors import ClusterToolsError


def mean_density(mass, radius):
    return mass / (4 / 3 * np.pi * radius**3)


def integrated_mass(m200c, c200c, radius, z=0.0):
    """Mass inside `radius` [physical Mpc/h]: the NFW density (NFW 1997, eq. 1) integrated over shells."""
    r200 = (3 * m200c / (800 * np.pi * critical_density(z))) ** (1 / 3)
    r_s = r200 / c200c

    def shells(r):
        return quad(lambda t: 4 * np.pi * t**2 / ((t / r_s) * (1 + t / r_s) ** 2), 0, r, epsabs=0, epsrel=1e-10)[0]

    return m200c * shells(radius) / shells(r200)


@pytest.mark.parametrize("c200c", [0.5, 7.0, 20.0])
@pytest.mark.parametrize("radius", [0.1, 1.5, 5.4])
@pytest.mark.parametrize("z", [0.0, 0.0231])
def test_aperture_and_scale_radius_invert_the_integrated_density(c200c, radius, z):
    m200c = 7e14
    mass = integrated_mass(m200c, c200c, radius, z)
    scale_radius = r200c(np.log10(m200c), z) / (1 + z) / c200c
    assert nfw.m200c(mass, radius=radius, c200c=c200c, z=z) == pytest.approx(m200c, rel=1e-8)
    converted = nfw.m200c(mass, radius=radius, scale_radius=scale_radius, z=z)
    assert converted == pytest.approx(m200c, rel=1e-8)


@pytest.mark.parametrize("delta", [93.8, 200, 2500])
def test_overdensity_inverts_the_integrated_density(delta):
    m200c, c200c = 5e14, 6.0
    r_delta = brentq(
        lambda r: mean_density(integrated_mass(m200c, c200c, r), r) - delta * critical_density(), 1e-2, 10, xtol=1e-12
    )
    mass = integrated_mass(m200c, c200c, r_delta)
    c = c200c * r_delta / r200c(np.log10(m200c))
    assert nfw.m200c(mass, delta=delta, c=c) == pytest.approx(m200c, rel=1e-8)
    assert nfw.m200c(mass, delta=delta, c200c=c200c) == pytest.approx(m200c, rel=1e-8)


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
    np.testing.assert_allclose(nfw.m200c(mass, delta=500, c=c), expected, rtol=1e-6)
    # colossus adds radiation to the expansion, about 1e-4 in density, and its radii are physical kpc/h.
    np.testing.assert_allclose(r200c(np.log10(expected), 0.0231), radius / 1e3 * 1.0231, rtol=1e-4)


def test_critical_density_and_r200c():
    # 3 (100 km/s/Mpc)^2 / (8 pi G) [Msun h^2 / Mpc^3] from the IAU's Mpc [m] and nominal GM_sun [m^3/s^2].
    expected = 3 * 1e5**2 * 3.0856775814913673e22 / (8 * np.pi * 1.3271244e20)
    assert critical_density(0.0) == pytest.approx(expected, rel=2e-5)
    assert critical_density(1.0) / critical_density(0.0) == pytest.approx(0.3 * 8 + 0.7)
    # Ho et al. (2022): R200c = 1.78 Mpc/h for 10^15.10 Msun/h; 0.15 dex are +0.22 and -0.19 Mpc/h.
    np.testing.assert_allclose(r200c([14.95, 15.10, 15.25], 0.0231), [1.59, 1.784, 2.00], atol=0.005)
    # Comoving, so that the physical radius is smaller by 1 + z.
    radius = r200c(15.10, 0.0231) / 1.0231
    assert mean_density(10**15.10, radius) == pytest.approx(200 * critical_density(0.0231))


def test_values_that_describe_no_halo_are_refused():
    with pytest.raises(ClusterToolsError, match="check the units"):
        nfw.m200c(0.95, radius=2.7, c200c=7)  # a mass in 1e15 Msun/h
    with pytest.raises(ClusterToolsError, match="check the units"):
        nfw.m200c(1.44e15, radius=5.5, scale_radius=5.5e5)
    with pytest.raises(ClusterToolsError, match="check the units"):
        nfw.m200c(1e15, delta=1e20, c200c=7)
