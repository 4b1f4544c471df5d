"""Centre and redshift of a cluster from its galaxies, where they are not given."""

from __future__ import annotations

import numpy as np
from astropy.stats import biweight_location
from scipy.spatial import cKDTree

from cluster_tools import cosmology, sky
from cluster_tools.cosmology import SPEED_OF_LIGHT
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.observe import FEWEST_GALAXIES

CORE = 1.0  # comoving Mpc/h; the redshift is that of the galaxies within
KERNEL_WIDTH = 0.3  # comoving Mpc/h, of the density whose maximum is the densest place
BRIGHTEST_WITHIN = 0.25  # comoving Mpc/h of the densest place
WINDOW = 2000.0  # km/s about the redshift, where most galaxies belong to the cluster
NEARLY_AS_RICH = 0.5  # share of galaxies that makes a second cluster in the line of sight worth a word
MAX_STEPS = 100  # of each iteration
MAX_PAIRED = 4000  # galaxies for which all mutual distances are computed
MIN_REDSHIFT = 0.003  # below it, redshifts tell no distance, and stars are among the objects


def redshift(z) -> float:
    """Redshift of a cluster: the biweight location of galaxies within 2000 km/s, from redshifts (n,) near its centre.

    The window starts where it holds most galaxies, and follows the biweight location (Beers et al. 1990, AJ 100, 32)
    until that stays. Raises `ClusterToolsError` if no redshift is above `MIN_REDSHIFT`.
    """
    z = np.sort(z)
    z = z[z > MIN_REDSHIFT]
    if len(z) == 0:
        raise ClusterToolsError(
            f"No galaxy near the centre has a redshift above {MIN_REDSHIFT:g}; check centre and redshifts, "
            "or give the redshift."
        )
    half_width = WINDOW / SPEED_OF_LIGHT * (1 + z)
    count = np.searchsorted(z, z + half_width, side="right") - np.searchsorted(z, z - half_width)
    location = np.median(z[count == count.max()])
    location = z[np.abs(z - location).argmin()]  # a galaxy's, if two windows are equally full
    before = None
    for _ in range(MAX_STEPS):
        inside = np.abs(z - location) <= WINDOW / SPEED_OF_LIGHT * (1 + location)
        if np.array_equal(inside, before):
            break
        location, before = biweight_location(z[inside]), inside
    return float(location)


def rival(z, location: float) -> tuple[float, int, int] | None:
    """A second cluster in the line of sight: its redshift, and the numbers of galaxies about it and about `location`.

    It is where most galaxies are more than 4000 km/s from `location`, if they are 5 or more, and half as many as about
    `location`; None without one. Galaxies are counted within 2000 km/s; `z` (n,) are redshifts near the centre.
    """
    z = np.sort(z[z > MIN_REDSHIFT])
    window = WINDOW / SPEED_OF_LIGHT * (1 + location)
    taken, others = int((np.abs(z - location) <= window).sum()), z[np.abs(z - location) > 2 * window]
    if len(others) < NEARLY_AS_RICH * taken:
        return None
    other = redshift(others)
    count = int((np.abs(others - other) <= WINDOW / SPEED_OF_LIGHT * (1 + other)).sum())
    return (other, count, taken) if count >= max(NEARLY_AS_RICH * taken, FEWEST_GALAXIES // 2) else None


def _densest_place(ra, dec, cluster_z: float) -> tuple[float, float]:
    """Place (ra, dec) [deg] of the highest density under a Gaussian kernel of 0.3 comoving Mpc/h, by mean shift."""
    points = sky.directions(ra, dec)
    width = KERNEL_WIDTH / cosmology.comoving_distance(cluster_z)  # radians
    sparse = points[np.lexsort(points.T)][:: -(-len(points) // MAX_PAIRED)]
    counts = cKDTree(sparse).query_ball_point(sparse, 2 * np.sin(min(width, np.pi) / 2), return_length=True)
    place = sparse[counts.argmax()]
    for _ in range(MAX_STEPS):
        previous, weight = place, np.exp(-((points - place) ** 2).sum(axis=1) / (2 * width**2))
        place = weight @ points
        place /= np.linalg.norm(place)
        if np.linalg.norm(place - previous) < 1e-5 * width:
            place = previous
            break
    return float(np.degrees(np.arctan2(place[1], place[0])) % 360), float(np.degrees(np.arcsin(place[2])))


def centre(galaxies, cluster_z: float) -> tuple[float, float, str]:
    """Right ascension and declination [deg] of a cluster's centre, and a description of it.

    It is the galaxy of the brightest r magnitude, or of the largest stellar mass, within 0.25 comoving Mpc/h of the
    densest place and 2000 km/s; the densest place itself if neither is known. `galaxies` is from `galaxy_table.read`.
    Raises `ClusterToolsError` if none is within 2000 km/s.
    """
    sky_ra, sky_dec, z = (galaxies[name].data for name in ("ra", "dec", "z"))
    near = np.abs(z - cluster_z) <= WINDOW / SPEED_OF_LIGHT * (1 + cluster_z)
    if not near.any():
        raise ClusterToolsError(
            f"No galaxy lies within {WINDOW:g} km/s of the redshift {cluster_z:g}, so that no centre can be found; "
            "check the redshift, or give the centre."
        )
    ra, dec = _densest_place(sky_ra[near], sky_dec[near], cluster_z)
    rank, description = np.full(len(z), np.nan), ""
    if "mag_r" in galaxies.colnames:
        rank, description = galaxies["mag_r"].data, "the brightest galaxy near the densest place"
    elif "log_mstar" in galaxies.colnames:
        rank, description = -galaxies["log_mstar"].data, "the most massive galaxy near the densest place"
    v_los, r_proj = sky.phase_space(sky_ra, sky_dec, z, centre_ra=ra, centre_dec=dec, redshift=cluster_z)
    candidates = np.flatnonzero((r_proj <= BRIGHTEST_WITHIN) & (np.abs(v_los) <= WINDOW) & np.isfinite(rank))
    if len(candidates) == 0:
        return ra, dec, "the densest place on the sky"
    best = candidates[rank[candidates].argmin()]
    return float(sky_ra[best]), float(sky_dec[best]), description
