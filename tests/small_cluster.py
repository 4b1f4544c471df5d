"""Synthetic clusters for tests, in phase space and as tables."""

import numpy as np
from small_catalog import catalog

from cluster_tools import cosmology, sky
from cluster_tools.mocks import kde

CENTRE, REDSHIFT = (194.95, 27.98), 0.0231


def phase_space(log_m200c, n, seed):
    """Galaxies of a cluster with the dispersion and size of its mass, a fifth of them interlopers."""
    rng = np.random.default_rng(seed)
    sigma = cosmology.velocity_dispersion(log_m200c)
    member = rng.random(n) < 0.8
    r200c = float(cosmology.r200c(log_m200c))
    r_proj = np.where(member, np.minimum(rng.exponential(0.5 * r200c, n), 2.29), 2.29 * np.sqrt(rng.random(n)))
    v_los = np.where(member, rng.normal(0, sigma, n), rng.uniform(-kde.VELOCITY_CUT, kde.VELOCITY_CUT, n))
    return np.clip(v_los, -3780, 3780), r_proj


def table(log_m200c=14.8, n=150, seed=1, *, centre=CENTRE, redshift=REDSHIFT):
    """Columns ra, dec, z and log_mstar of a cluster from `phase_space`."""
    v_los, r_proj = phase_space(log_m200c, n, seed)
    ra, dec, z = sky.positions(v_los, r_proj, centre_ra=centre[0], centre_dec=centre[1], redshift=redshift, seed=seed)
    return {"ra": ra, "dec": dec, "z": z, "log_mstar": np.random.default_rng(seed).uniform(9.0, 11.5, n)}


def small_catalog(n=150):
    """A catalogue of n such clusters with rising masses."""
    log_m200c = np.linspace(13.8, 15.2, n)
    return catalog([phase_space(m, 120, 100 + i) for i, m in enumerate(log_m200c)], log_m200c)
