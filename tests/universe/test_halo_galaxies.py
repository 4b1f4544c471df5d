"""Satellites in their haloes: profiles and velocities against analytic solutions and published shapes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid, quad

from cluster_tools.cosmology import SIMULATIONS, velocity_dispersion
from cluster_tools.universe import halo_galaxies

MDPL2 = SIMULATIONS["mdpl2"]


@pytest.fixture(scope="module", autouse=True)
def plain():
    """Satellites as concentrated as the matter, no scatter of velocities and no subclumps."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CONCENTRATION_RATIO", 1.0), ("VELOCITY_SCATTER", 0.0), ("MERGERS", 0.0)):
            patch.setattr(halo_galaxies, name, value)
        yield


def draw(log_m, haloes, each, seed):
    """Positions and velocities of `each` satellites of `haloes` alike: (haloes, each, 3)."""
    counts, rng = np.full(haloes, each), np.random.default_rng(seed)
    vectors = halo_galaxies.draw(MDPL2, np.full(haloes, log_m), counts, rng)
    return (vector.reshape(haloes, each, 3).astype(float) for vector in vectors)


def mu(x):
    return np.log1p(x) - x / (1 + x)


def test_radii_follow_the_profile(monkeypatch):
    """Without scatter of concentration, the density at r is (1 + c r)^-3, flat in the core."""
    monkeypatch.setattr(halo_galaxies, "CONCENTRATION_SCATTER", 0.0)
    position, _ = draw(12.5, 10, 20_000, 2)
    r = np.sort(np.linalg.norm(position.reshape(-1, 3), axis=1))
    c = 1.3 * halo_galaxies.mean_concentration(MDPL2, 12.5)
    steps = np.linspace(0, 1, 10_001)
    within = cumulative_trapezoid(steps**2 * (1 + c * steps) ** -3, steps, initial=0)
    expected = np.interp(r / r[-1], steps, within / within[-1])
    assert np.abs(expected - np.arange(1, len(r) + 1) / len(r)).max() < 0.01


def test_concentrations_are_those_of_diemer_and_joyce():
    """4.4, 3.9 and 3.7 at 10^14, 10^14.5 and 10^15 Msun/h (Diemer & Joyce 2019, z = 0)."""
    measured = halo_galaxies.mean_concentration(MDPL2, [14.0, 14.5, 15.0])
    np.testing.assert_allclose(measured, [4.4, 3.9, 3.7], atol=0.15)


def test_colossus_leaves_no_file_that_another_process_could_read_half_written(tmp_path):
    script = (
        "from cluster_tools.cosmology import SIMULATIONS; from cluster_tools.universe import halo_galaxies; "
        "print(halo_galaxies.mean_concentration(SIMULATIONS['uchuu'], 14.0))"
    )
    home = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=home)
    assert done.returncode == 0 and not done.stderr and list(tmp_path.iterdir()) == []


def test_light_haloes_rest_and_have_the_dispersions_of_theory():
    position, velocity = (vector.reshape(-1, 3) for vector in draw(12.9, 2000, 100, 1))
    r = np.linalg.norm(position, axis=1)
    radial = (position * velocity).sum(axis=1) / r
    tangential = np.linalg.norm(velocity - radial[:, None] * position / r[:, None], axis=1)
    # No expansion: peculiar velocities undo the Hubble flow, 101 km/s per physical Mpc/h at z = 0.022.
    rate, error = (radial * r).mean() / (r**2).mean(), (radial * r).std() / np.sqrt(len(r)) / (r**2).mean()
    assert error < 10 and rate == pytest.approx(-100 * 1.0104 / 1.022, abs=4 * error)
    # Orbits grow radial: beta = r / 2 (r + 0.18 R_vir) (Mamon & Lokas 2005), isotropic in the core, 0.4 at R_vir.
    for low, high in ((0.0, 0.05), (0.2, 0.3), (0.5, 0.6), (0.9, 1.0)):
        ring = (r >= low * r.max()) & (r < high * r.max())
        middle = np.mean(r[ring]) / r.max()
        measured = 1 - np.mean(tangential[ring] ** 2) / 2 / np.mean(radial[ring] ** 2)
        assert measured == pytest.approx(0.5 * middle / (middle + 0.18), abs=0.05), (low, measured)
    # Evrard et al. 2008: 1082.9 (E(z) M200c / 10^15 Msun/h)^0.3361 km/s in one dimension.
    e_of_z = np.sqrt(MDPL2.omega_m * (1 + MDPL2.redshift) ** 3 + 1 - MDPL2.omega_m)
    expected = 1082.9 * (e_of_z * 10 ** (12.9 - 15)) ** 0.3361
    assert np.sqrt(np.mean(velocity**2)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("ratio", [1.0, 0.45])
def test_dispersion_solves_the_jeans_equation(ratio):
    """Against direct integration with quad, as nu sigma_r^2 g = integral of nu G M g / s^2 with g = s + a.

    The mass has the concentration of the satellites over `ratio`.
    """
    a = 0.18
    row = 20
    c = halo_galaxies.CONCENTRATIONS[row]

    def variance(r):
        integral, _ = quad(lambda s: (s + a) * mu(c / ratio * s) * (1 + c * s) ** -3 / s**2, r, np.inf, limit=400)
        return integral / (r + a) * (1 + c * r) ** 3

    radii = np.array([0.01, 0.05, 0.2, 0.5, 1.0])
    expected = np.sqrt([variance(r) for r in radii])
    measured = np.interp(radii, halo_galaxies.RADII, halo_galaxies._dispersion_table(ratio)[row])
    np.testing.assert_allclose(measured / measured[2], expected / expected[2], rtol=0.01)


def test_heavy_haloes_are_ellipsoids_with_aligned_velocities():
    """Kasun & Evrard 2005: minor over major axis 0.64 in position, 0.72 in velocity, and aligned."""
    position, velocity = draw(14.5, 60, 3000, 3)
    ratios, cosines = [], []
    for halo in zip(position, velocity):
        axes = [np.linalg.eigh(np.cov(vector.T)) for vector in halo]
        ratios.append([np.sqrt(values[0] / values[2]) for values, _ in axes])
        cosines.append(abs(axes[0][1][:, 2] @ axes[1][1][:, 2]))
    np.testing.assert_allclose(np.mean(ratios, axis=0), [0.64, 0.72], atol=0.05)
    assert np.median(cosines) > 0.9
    # The stretching keeps the energy: all 60 together move as spherical haloes do.
    expected = velocity_dispersion(14.5, MDPL2.redshift, omega_m=MDPL2.omega_m)
    assert np.sqrt(np.mean(velocity**2)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("log_m", "low", "high"), [(13.2, 0.0, 0.01), (14.5, 0.05, 0.14)])
def test_a_tenth_of_the_clusters_carries_a_subclump(monkeypatch, log_m, low, high):
    """None below 10^13.5."""
    monkeypatch.setattr(halo_galaxies, "MERGERS", 0.1)
    position, _ = draw(log_m, 400, 300, 4)
    centres, spread = position.mean(axis=1), position.std(axis=(1, 2)) / np.sqrt(300)
    assert low <= np.mean(np.linalg.norm(centres, axis=1) > 4 * spread) < high
