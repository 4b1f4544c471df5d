"""The foreign universe against independent numbers: quadrature, published counts, dispersions of matter."""

import numpy as np
import pytest
from colossus.lss import mass_function
from scipy.integrate import quad, simpson

from cluster_tools import cosmology
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import catalogs, realism
from cluster_tools.universe import foreign


def enclosed(x):
    return np.log1p(x) - x / (1 + x)


@pytest.fixture(scope="module")
def box():
    return foreign.foreign("mdpl2", box_size=250.0, seed=2)


@pytest.mark.parametrize("concentration", [3.0, 8.0])
@pytest.mark.parametrize("x", [0.01, 0.3, 1.0])
def test_dispersion_solves_the_jeans_equation(x, concentration):
    """rho sigma^2 = integral of rho G M / r^2 outward, with rho of NFW and V^2 = G M(R) / R."""

    def density(r):
        return 1 / (r * (1 + concentration * r) ** 2)

    def force(r):
        return density(r) * enclosed(concentration * r) / enclosed(concentration) / r**2

    squared = quad(force, x, np.inf)[0] / density(x)
    assert foreign.isotropic_dispersion(x, concentration) == pytest.approx(np.sqrt(squared), rel=1e-4)


def test_radii_invert_the_mass_profile():
    x = np.linspace(0.01, 1, 20)
    share = enclosed(6 * x) / enclosed(6.0)
    np.testing.assert_allclose(foreign.nfw_radius(share, 6.0), x, rtol=1e-8)


def test_haloes_and_galaxies_are_as_many_as_published(box):
    """Despali et al. 2016 (colossus); Zheng et al. 2007: 0.0228 galaxies brighter than -18.5 in a (Mpc/h)^3."""
    sim, volume = box.simulation, box.box_size**3
    cosmology.colossus_cosmology(sim)
    for low, high in ((13.6, 14.0), (14.0, 15.8)):
        log_m = np.linspace(low, high, 200)
        per_e_fold = mass_function.massFunction(10**log_m, sim.redshift, mdef="200c", model="despali16", q_out="dndlnM")
        expected = simpson(per_e_fold * np.log(10), x=log_m) * volume
        number = np.count_nonzero((box.host_log_m200c >= low) & (box.host_log_m200c < high))
        assert number == pytest.approx(expected, abs=0.04 * expected + 3 * np.sqrt(expected))
    assert len(box.position) / volume == pytest.approx(0.0228, rel=0.1)
    assert 0.2 < box.is_satellite.mean() < 0.34
    centrals, satellites = foreign.mean_galaxies([11.46, 14.0])
    assert centrals == pytest.approx([0.5, 1.0])
    assert satellites[1] == pytest.approx((1e14 / 10**12.68) ** 0.97, rel=1e-3)


def test_satellites_move_as_the_matter_does(box):
    """Evrard et al. 2008; an NFW halo in equilibrium inside R200m moves a few per cent more slowly."""
    sim = box.simulation
    for host in np.argsort(box.host_log_m200c)[-5:]:
        satellites = (box.host == host) & box.is_satellite
        measured = (box.velocity[satellites] - box.host_velocity[host]).std()
        matter = cosmology.velocity_dispersion(box.host_log_m200c[host], sim.redshift, omega_m=sim.omega_m)
        assert measured == pytest.approx(matter, rel=0.15)


def test_it_is_observed_and_measured_as_any_box(box):
    catalog = catalogs.build(box, rows_per_dex=200, galaxies="satellites", seed=1)
    assert catalog.in_test.sum() > 200 and not catalog.extra_host.any()
    assert (realism.overlaps(box)["found"] < 1e-3).all()


def test_the_seed_decides_it_and_sizes_out_of_range_are_refused(box):
    other = foreign.foreign("mdpl2", box_size=160, seed=3)
    assert not np.isin(other.host_log_m200c, box.host_log_m200c).any() and set(other.log_mstar) == {9.5}
    for size in (100.0, 1001, "large"):
        with pytest.raises(ClusterToolsError, match=f"box_size is {size!r}, but a number from 160 to 1000"):
            foreign.foreign("mdpl2", box_size=size)
