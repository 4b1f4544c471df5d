"""Satellites in their haloes: profiles and velocities against analytic solutions and published shapes."""

import numpy as np
import pytest
from scipy.integrate import quad

from cluster_tools.cosmology import SIMULATIONS, velocity_dispersion
from cluster_tools.universe import halo_galaxies
from cluster_tools.universe.halo_galaxies import Kinematics

MDPL2 = SIMULATIONS["mdpl2"]
PLAIN = Kinematics(concentration_ratio=1.0, velocity_bias=1.0, velocity_scatter=0.0, merger_fraction=0.0)


def mu(x):
    return np.log1p(x) - x / (1 + x)


@pytest.fixture(scope="module")
def stacked():
    """Satellites of many light haloes, which are spherical: radius in R_vir, radial and tangential velocity."""
    log_m, counts = np.full(2000, 12.9), np.full(2000, 100)
    position, velocity = halo_galaxies.draw(MDPL2, PLAIN, log_m, counts, np.random.default_rng(1))
    r = np.linalg.norm(position, axis=1)
    radial = (position * velocity).sum(axis=1) / r
    tangential = np.linalg.norm(velocity - radial[:, None] * position / r[:, None], axis=1)
    return velocity, r, radial, tangential


def test_radii_follow_nfw_profiles(monkeypatch):
    """Without scatter of concentration, the share within r is mu(c r) / mu(c)."""
    monkeypatch.setattr(halo_galaxies, "CONCENTRATION_SCATTER", 0.0)
    position, _ = halo_galaxies.draw(MDPL2, PLAIN, np.full(10, 12.5), np.full(10, 20_000), np.random.default_rng(2))
    r = np.sort(np.linalg.norm(position, axis=1))
    c = 1.3 * halo_galaxies.mean_concentration(MDPL2, 12.5)
    expected = mu(c * r / r[-1]) / mu(c)
    assert np.abs(expected - np.arange(1, len(r) + 1) / len(r)).max() < 0.01


def test_concentrations_are_those_of_diemer_and_joyce():
    """4.4, 3.9 and 3.7 at 10^14, 10^14.5 and 10^15 Msun/h (Diemer & Joyce 2019, z = 0)."""
    measured = halo_galaxies.mean_concentration(MDPL2, [14.0, 14.5, 15.0])
    np.testing.assert_allclose(measured, [4.4, 3.9, 3.7], atol=0.15)


def test_haloes_do_not_expand(stacked):
    """The mean radial peculiar velocity undoes the Hubble flow: 101 km/s per physical Mpc/h at z = 0.022."""
    _, r, radial, _ = stacked
    rate, error = (radial * r).mean() / (r**2).mean(), (radial * r).std() / np.sqrt(len(r)) / (r**2).mean()
    assert error < 10 and rate == pytest.approx(-100 * 1.0104 / 1.022, abs=4 * error)


def test_orbits_grow_radial_outward(stacked):
    """beta = r / 2 (r + 0.18 R_vir) (Mamon & Lokas 2005): isotropic in the core, 0.4 to 0.5 at R_vir."""
    _, r, radial, tangential = stacked
    r_vir = r.max()
    for low, high in ((0.0, 0.05), (0.2, 0.3), (0.5, 0.6), (0.9, 1.0)):
        ring = (r >= low * r_vir) & (r < high * r_vir)
        middle = np.mean(r[ring]) / r_vir
        measured = 1 - np.mean(tangential[ring] ** 2) / 2 / np.mean(radial[ring] ** 2)
        assert measured == pytest.approx(0.5 * middle / (middle + 0.18), abs=0.05), (low, measured)


def test_level_is_that_of_evrard_et_al(stacked):
    """1082.9 (E(z) M200c / 10^15 Msun/h)^0.3361 km/s in one dimension."""
    e_of_z = np.sqrt(MDPL2.omega_m * (1 + MDPL2.redshift) ** 3 + 1 - MDPL2.omega_m)
    expected = 1082.9 * (e_of_z * 10 ** (12.9 - 15)) ** 0.3361
    assert np.sqrt(np.mean(stacked[0].astype(float) ** 2)) == pytest.approx(expected, rel=0.02)


def test_dispersion_solves_the_jeans_equation():
    """Against direct integration with quad, as nu sigma_r^2 g = integral of nu G M g / s^2 with g = s + a."""
    a = 0.18
    row = 20
    c = halo_galaxies.CONCENTRATIONS[row]

    def variance(r):
        integral, _ = quad(lambda s: (s + a) * mu(c * s) / (s * (1 + c * s) ** 2) / s**2, r, np.inf, limit=400)
        return integral / (r + a) * r * (1 + c * r) ** 2

    radii = np.array([0.01, 0.05, 0.2, 0.5, 1.0])
    expected = np.sqrt([variance(r) for r in radii])
    measured = np.interp(radii, halo_galaxies.RADII, halo_galaxies._dispersion_table()[row])
    np.testing.assert_allclose(measured / measured[2], expected / expected[2], rtol=0.01)


def test_heavy_haloes_are_ellipsoids_with_aligned_velocities():
    """Kasun & Evrard 2005: minor over major axis 0.64 in position, 0.72 in velocity, and aligned."""
    n = 3000
    position, velocity = halo_galaxies.draw(MDPL2, PLAIN, np.full(60, 14.5), np.full(60, n), np.random.default_rng(3))
    ratios, cosines = [], []
    for i in range(60):
        mine = slice(i * n, (i + 1) * n)
        axes = [np.linalg.eigh(np.cov(vector[mine].astype(float).T)) for vector in (position, velocity)]
        ratios.append([np.sqrt(values[0] / values[2]) for values, _ in axes])
        cosines.append(abs(axes[0][1][:, 2] @ axes[1][1][:, 2]))
    np.testing.assert_allclose(np.mean(ratios, axis=0), [0.64, 0.72], atol=0.05)
    assert np.median(cosines) > 0.9
    # The stretching keeps the energy: all 60 together move as spherical haloes do.
    expected = velocity_dispersion(14.5, MDPL2.redshift, omega_m=MDPL2.omega_m)
    assert np.sqrt(np.mean(velocity.astype(float) ** 2)) == pytest.approx(expected, rel=0.02)


def test_some_clusters_carry_a_subclump():
    """About a tenth of the clusters (facts of the real simulations); none below 10^13.5."""
    mergers = Kinematics(concentration_ratio=1.0, velocity_bias=1.0, velocity_scatter=0.0, merger_fraction=0.1)
    shifted = {}
    for log_m in (13.2, 14.5):
        haloes = np.full(400, log_m), np.full(400, 300)
        position, _ = halo_galaxies.draw(MDPL2, mergers, *haloes, np.random.default_rng(4))
        position = position.reshape(400, 300, 3)
        centres, spread = position.mean(axis=1), position.std(axis=(1, 2)) / np.sqrt(300)
        shifted[log_m] = np.mean(np.linalg.norm(centres, axis=1) > 4 * spread)
    assert shifted[13.2] < 0.01
    assert 0.05 < shifted[14.5] < 0.14
