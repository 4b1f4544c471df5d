"""Centre and redshift of a cluster from its galaxies, where nobody gives them.

The redshift is the biweight location (Beers et al. 1990, AJ 100, 32) of the galaxies about the fullest
place in redshift; the centre is the brightest galaxy near the densest place on the sky, or that place.
"""

from __future__ import annotations

import numpy as np

from cluster_tools import cosmology
from cluster_tools.errors import ClusterToolsError

CORE = 1.0  # comoving Mpc/h: galaxies within are taken for the redshift
WIDTH = 0.3  # comoving Mpc/h, of the kernel whose highest density is the densest place
BRIGHTEST_WITHIN = 0.25  # comoving Mpc/h of the densest place
WINDOW = 2000.0  # km/s about the redshift: galaxies of the cluster, mostly
STEPS = 100  # at most, of each iteration
MOST = 4000  # galaxies between which all distances are taken
LEAST = 0.003  # of redshifts: nearer, they tell no distance, and stars are among them


def redshift(z, near=None) -> float:
    """Redshift of a cluster: biweight location of the galaxies within 2000 km/s, about the fullest such window.

    Parameters
    ----------
    z : array (n,) of redshifts
    near : bool array (n,), galaxies to take; all by default

    Raises `ClusterToolsError` if none has a redshift above 0.003.
    """
    from astropy.stats import biweight_location

    z = np.sort(np.asarray(z, float)[slice(None) if near is None else near])
    z = z[z > LEAST]
    if len(z) == 0:
        raise ClusterToolsError(
            f"No galaxy near the centre has a redshift above {LEAST:g}; check centre and redshifts, "
            "or give the redshift."
        )
    reach = WINDOW / cosmology.SPEED_OF_LIGHT * (1 + z)
    count = np.searchsorted(z, z + reach, side="right") - np.searchsorted(z, z - reach)
    found = float(np.median(z[count == count.max()]))
    found = float(z[np.abs(z - found).argmin()])  # of two windows equally full, one
    for _ in range(STEPS):
        inside = z[np.abs(z - found) <= WINDOW / cosmology.SPEED_OF_LIGHT * (1 + found)]
        again = float(biweight_location(inside))
        if abs(again - found) < 1e-8:
            break
        found = again
    return found


def densest(ra, dec, z, cluster_z: float) -> tuple[float, float]:
    """Where on the sky the galaxies within 2000 km/s of a redshift are densest: ra, dec [deg].

    The highest density of a Gaussian kernel of 0.3 comoving Mpc/h. Arrays (n,) in deg, and redshifts. Raises
    `ClusterToolsError` if no galaxy is near the redshift.
    """
    from scipy.spatial import cKDTree

    close = np.abs(np.asarray(z) - cluster_z) <= WINDOW / cosmology.SPEED_OF_LIGHT * (1 + cluster_z)
    if not close.any():
        raise ClusterToolsError(
            f"No galaxy lies within {WINDOW:g} km/s of the redshift {cluster_z:g}, so that no centre can be found; "
            "check the redshift, or give the centre."
        )
    points = _unit_vectors(ra, dec)[close]
    width = WIDTH / cosmology.comoving_distance(cluster_z)  # radians
    # So many at most that all distances can be taken: every k-th in the order of the sky.
    some = points[np.lexsort(points.T)][:: -(-len(points) // MOST)]
    counts = cKDTree(some).query_ball_point(some, 2 * np.sin(min(width, np.pi) / 2), return_length=True)
    place = some[counts.argmax()]
    for _ in range(STEPS):  # mean shift uphill
        weight = np.exp(-((points - place) ** 2).sum(axis=1) / (2 * width**2))
        again = weight @ points
        again /= np.linalg.norm(again)
        if np.linalg.norm(again - place) < 1e-5 * width:
            break
        place = again
    return float(np.degrees(np.arctan2(place[1], place[0])) % 360), float(np.degrees(np.arcsin(place[2])))


def centre(galaxies, cluster_z: float) -> tuple[float, float, str]:
    """Centre of a cluster [deg], and in words what it is.

    The galaxy of the brightest r magnitude, or of the greatest stellar mass, within 0.25 comoving Mpc/h of the
    densest place and 2000 km/s; that place itself where there are neither. `galaxies` : `galaxy_table.Galaxies`.
    """
    ra, dec = densest(galaxies.ra, galaxies.dec, galaxies.z, cluster_z)
    rank, words = galaxies.mag_r, "the brightest galaxy near the densest place"
    if rank is None and galaxies.log_mstar is not None:
        rank, words = -galaxies.log_mstar, "the most massive galaxy near the densest place"
    if rank is not None:
        v_los = cosmology.SPEED_OF_LIGHT * (galaxies.z - cluster_z) / (1 + cluster_z)
        within = radius(galaxies.ra, galaxies.dec, ra, dec, cluster_z) <= BRIGHTEST_WITHIN
        candidates = np.flatnonzero(within & (np.abs(v_los) <= WINDOW) & np.isfinite(rank))
        if len(candidates):
            best = candidates[rank[candidates].argmin()]
            return float(galaxies.ra[best]), float(galaxies.dec[best]), words
    return ra, dec, "the densest place on the sky"


def radius(ra, dec, centre_ra: float, centre_dec: float, z) -> np.ndarray:
    """Projected distances (n,) [comoving Mpc/h] of galaxies from a centre [deg], at one redshift or each at its own."""
    from astropy.coordinates import angular_separation

    angle = angular_separation(*np.radians([centre_ra, centre_dec]), np.radians(ra), np.radians(dec))
    return angle * cosmology.comoving_distance(np.maximum(z, 0))


def _unit_vectors(ra, dec) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
