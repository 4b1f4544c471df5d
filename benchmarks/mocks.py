"""Synthetic clusters for the benchmarks, the same each time."""

from __future__ import annotations

import numpy as np

from cluster_tools.mocks import kde

MASS_RANGE = (14.0, 15.25)  # log10 M200c [Msun/h]


def galaxies(n: int, richness: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """v_los [km/s], r_proj [comoving Mpc/h] and offsets of n clusters.

    Each has `richness` galaxies; None: as many as in the test set of a catalogue, 53 at 10^14 Msun/h, growing with the
    0.77th power of the mass, with a scatter of 0.3 (ln), for masses whose numbers fall e-fold every 0.3 dex.
    """
    rng = np.random.default_rng(1)
    log_m200c = MASS_RANGE[0] + np.minimum(rng.exponential(0.3, n), 1.2)
    expected = 53 * 10 ** (0.77 * (log_m200c - 14)) * rng.lognormal(0, 0.3, n)
    count = np.full(n, richness) if richness else np.maximum(rng.poisson(expected), 11)
    offsets = np.r_[0, np.cumsum(count)]
    v_los = 1100 * rng.standard_normal(offsets[-1])
    return v_los, 2.3 * np.sqrt(rng.uniform(size=offsets[-1])), offsets


def images(n: int, input_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of n clusters of 60 galaxies, whose dispersions tell the mass, and log10 M200c [Msun/h]."""
    rng, richness = np.random.default_rng(1), 60
    log_m200c = rng.uniform(*MASS_RANGE, n)
    v_los = (rng.standard_normal((n, richness)) * 1000 * 10 ** ((log_m200c[:, None] - 15) / 3)).ravel()
    r_proj = rng.uniform(0, kde.APERTURE, n * richness)
    return kde.phase_space_images(v_los, r_proj, richness * np.arange(n + 1), input_dim=input_dim), log_m200c
