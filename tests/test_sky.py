"""Positions and redshifts to phase space and back, and stellar masses, against numbers by hand."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from cluster_tools import sky

COMA = {"centre_ra": 194.95, "centre_dec": 27.98, "redshift": 0.0231}


def test_phase_space_against_numbers_by_hand():
    # Comoving distance in flat LCDM to third order in z, with q0 = 1.5 Om - 1 = -0.55 and jerk 1:
    # (c/100) [z - (1 + q0) z^2 / 2 + (2 + 4 q0 + 3 q0^2 - 1) z^3 / 6], here 68.890 Mpc/h.
    z, q0 = 0.0231, -0.55
    distance = 2997.92458 * (z - (1 + q0) / 2 * z**2 + (1 + 4 * q0 + 3 * q0**2) / 6 * z**3)
    # Due north by 1 deg, due south by 1.913 deg, and 1 deg of right ascension at the centre's declination,
    # from the haversine formula.
    haversine = 2 * np.arcsin(np.cos(np.radians(27.98)) * np.sin(np.radians(0.5)))
    ra, dec = [194.95, 194.95, 195.95], [28.98, 27.98 - 1.913, 27.98]
    v_los, r_proj = sky.phase_space(ra, dec, [0.0231, 0.0102, 0.0360], **COMA)
    expected = distance * np.array([np.pi / 180, 1.913 * np.pi / 180, haversine])
    np.testing.assert_allclose(r_proj, expected, rtol=2e-6)
    np.testing.assert_allclose(r_proj[1], 2.3, atol=2e-4)
    np.testing.assert_allclose(v_los, [0, -3780.0, 3780.0], atol=0.5)


def test_a_rotation_about_the_line_of_sight_changes_nothing():
    rng = np.random.default_rng(5)
    centre = SkyCoord(COMA["centre_ra"], COMA["centre_dec"], unit="deg")
    galaxies = centre.directional_offset_by(rng.uniform(0, 360, 60) * u.deg, rng.uniform(0, 2, 60) * u.deg)
    turned = centre.directional_offset_by(centre.position_angle(galaxies) + 73 * u.deg, centre.separation(galaxies))
    _, r_proj = sky.phase_space(galaxies.ra.deg, galaxies.dec.deg, np.full(60, 0.0231), **COMA)
    _, r_turned = sky.phase_space(turned.ra.deg, turned.dec.deg, np.full(60, 0.0231), **COMA)
    np.testing.assert_allclose(r_turned, r_proj, atol=1e-9)


@pytest.mark.parametrize("centre_dec", [27.98, -89.5])  # across the meridian, about a pole
def test_positions_invert_phase_space(centre_dec):
    rng = np.random.default_rng(6)
    v_los, r_proj = rng.uniform(-3000, 3000, 50), rng.uniform(0, 2.3, 50)
    place = {"centre_ra": 359.9, "centre_dec": centre_dec, "redshift": 0.05}
    ra, dec, z = sky.positions(v_los, r_proj, **place, seed=2)
    assert np.all((ra >= 0) & (ra < 360))
    np.testing.assert_allclose(sky.phase_space(ra, dec, z, **place), [v_los, r_proj], atol=1e-8)


def test_stellar_mass_by_hand():
    # g - r = 0.75, r = 16: distance modulus 35.0149 (100.69 Mpc), K-correction 0.0248, so M_r = -19.0397;
    # log L = 0.4 (4.65 + 19.0397) = 9.4759; log M/L = -0.306 + 0.8228 - 0.15 = 0.3668.
    assert sky.stellar_mass(16.75, 16.0) == pytest.approx(9.8426, abs=2e-4)
    # 2.5 mag fainter at the same colour is 1 dex, 0.1 mag redder at the same r is 0.1097 dex.
    assert sky.stellar_mass(16.75, 16.0) - sky.stellar_mass(19.25, 18.5) == pytest.approx(1)
    assert sky.stellar_mass(16.85, 16.0) - sky.stellar_mass(16.75, 16.0) == pytest.approx(0.1097)
