"""Galaxies on the sky: positions and redshifts to phase space and back, and stellar masses from colours.

Distances are in the paper's cosmology for Coma, flat LCDM with Omega_m = 0.3 and h = 0.7 (Methods).
"""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import angular_separation, offset_by

from cluster_tools.cosmology import COMA_REDSHIFT, HUBBLE, SPEED_OF_LIGHT, comoving_distance


def phase_space(ra, dec, z, *, centre_ra: float, centre_dec: float, redshift) -> tuple[np.ndarray, np.ndarray]:
    """Line-of-sight velocities [km/s] and projected radii [comoving Mpc/h] (n,) of galaxies about a cluster.

    v_los = c (z - z_c) / (1 + z_c), with z_c the cluster's `redshift`; r_proj is the comoving distance to it times the
    angle to its centre (paper, Methods). Positions `ra`, `dec` (n,) and the centre are J2000 [deg]. NaN gives NaN.
    """
    v_los = SPEED_OF_LIGHT * (np.asarray(z, float) - redshift) / (1 + redshift)
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    angle = angular_separation(np.radians(centre_ra), np.radians(centre_dec), ra, dec)
    return v_los, angle * comoving_distance(redshift)


def directions(ra, dec) -> np.ndarray:
    """Unit vectors (n, 3) to positions `ra`, `dec` (n,) [deg]."""
    ra, dec = np.radians(np.asarray(ra)), np.radians(np.asarray(dec))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def positions(
    v_los, r_proj, *, centre_ra: float, centre_dec: float, redshift: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """J2000 positions ra, dec [deg] and redshifts (n,) of a mock cluster's galaxies: the inverse of `phase_space`.

    `v_los` [km/s] and `r_proj` [comoving Mpc/h] are (n,), the centre is in deg. Position angles, which the phase
    space lacks, are drawn at random with `seed`.
    """
    angle = np.asarray(r_proj, float) / comoving_distance(redshift)
    position_angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(angle))
    ra, dec = offset_by(np.radians(centre_ra), np.radians(centre_dec), position_angle, angle)
    z = redshift + np.asarray(v_los, float) / SPEED_OF_LIGHT * (1 + redshift)
    return ra.to_value(u.deg) % 360, dec.to_value(u.deg), z


def stellar_mass(mag_g, mag_r, *, redshift: float = COMA_REDSHIFT) -> np.ndarray:
    """Stellar masses log10 M* [Msun for h = 0.7, no h] (n,) of galaxies in a cluster, from AB magnitudes (n,).

    log10(M/L_r) = -0.306 + 1.097 (g - r) - 0.15: Bell et al. (2003, ApJS 149, 289), table 7, less 0.15 dex for a
    Kroupa IMF; M_sun,r = 4.65. All galaxies are put at the cluster's `redshift`, since the redshift of a member says
    more about its velocity than about its distance. Magnitudes get the K-correction 2.5 log10(1 + z), right for a
    spectrum flat in f_lambda; it leaves g - r as it is. At Coma it is 0.025 mag, and brings the DESI sample above
    10^9.5 Msun from 539 to 541 galaxies.
    """
    distance_modulus = 5 * np.log10(comoving_distance(redshift) / HUBBLE * (1 + redshift)) + 25
    absolute_r = np.asarray(mag_r, float) - distance_modulus - 2.5 * np.log10(1 + redshift)
    log_luminosity = -0.4 * (absolute_r - 4.65)
    return -0.306 + 1.097 * (np.asarray(mag_g, float) - mag_r) - 0.15 + log_luminosity
