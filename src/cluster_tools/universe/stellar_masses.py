"""Stellar masses of a halo's galaxies, so that the stellar-mass cut is a parameter.

Centrals follow the stellar-to-halo mass relation of Moster, Naab & White (2013, eq. 2) with log-normal scatter;
satellites the conditional mass function of Yang, Mo & van den Bosch (2009). Masses of haloes are log10 M200c [Msun/h];
`log_mstar` is the log10 of the observed stellar mass [Msun, no h], as in UniverseMachine's `obs_sm`.

`RELATION` was fitted, by least squares, with the haloes of MDPL2 (Tinker et al. 2008) and 27 (M / 10^14)^0.95
satellites that fade below 5e11 Msun/h, to

- 0.0166 centrals above 10^9.5 Msun per (Mpc/h)^3, 72% of 0.023 galaxies, and such a central in half of the haloes
  of 10^11.33 Msun/h (both read off published MDPL2-UM figures);
- the stellar mass function of Baldry et al. (2012, GAMA, z < 0.06), from 10^9.5 to 10^11.3 Msun.

The fit gives 0.01655, 10^11.31, and the mass function within 5% (6% with Uchuu's haloes), also from 10^9 to 10^9.5
Msun; `SMALLEST_CHARACTERISTIC` was chosen with that range in view. Beyond 10^11.3 Msun there are more galaxies than in
Baldry et al., by 18% and 59% in the next two tenths of a dex: photometry that follows the outskirts of the largest
galaxies finds more, too (Bernardi et al. 2013). No cluster entered the fit, so brightest cluster galaxies are a check:
10^11.31 and 10^11.60 Msun in haloes of 10^14 and 10^15 Msun/h. tests/universe/test_stellar_masses.py repeats the fit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri_exp

REFERENCE_CUT = 9.5  # the paper's, to which the numbers of satellites belong
CUT_RANGE = (9.0, 11.5)  # log10 Msun

# Moster et al. (2013) take 0.15 dex for the true masses; observed ones of brightest cluster galaxies scatter
# by 0.2 (Kravtsov, Vikhlinin & Meshcheryakov 2018).
SCATTER = 0.2  # dex of observed stellar mass, at fixed halo mass

SATELLITE_SLOPE = -1.1  # alpha; -1.0 or -1.2 would move the mass function above 10^9.5 by 4% at most
SATELLITE_OFFSET = -0.25  # dex, from the central's mass to the satellites' characteristic one: Yang et al. 2009
# In haloes below 10^11.4 Msun/h the Gaussian end of the mass function reaches the cut of 9.5: each satellite above
# it would stand for a hundred and more below it. So the characteristic mass stays here.
SMALLEST_CHARACTERISTIC = REFERENCE_CUT


class Relation(NamedTuple):
    """Moster et al. 2013, eq. 2: Mstar / M = 2 N / ((M / M1)^-beta + (M / M1)^gamma)."""

    log_m1: float  #: log10 M1 [Msun/h]
    ratio: float  #: N [Msun over Msun/h]
    beta: float  #: slope of Mstar / M below M1
    gamma: float  #: minus that above M1


RELATION = Relation(log_m1=11.741, ratio=0.03991, beta=1.555, gamma=0.705)


def median_log_mstar(log_m200c, relation: Relation = RELATION) -> np.ndarray:
    """Median log10 stellar mass [Msun] of the centrals of haloes with `log_m200c` [log10 Msun/h], any shape."""
    log_m200c = np.asarray(log_m200c, float)
    x = np.log(10) * (log_m200c - relation.log_m1)
    return log_m200c + np.log10(2 * relation.ratio / (np.exp(-relation.beta * x) + np.exp(relation.gamma * x)))


def central_occupation(log_m200c, min_log_mstar: float) -> np.ndarray:
    """Share of haloes with `log_m200c` [log10 Msun/h] whose central is above `min_log_mstar` [log10 Msun]."""
    return ndtr((median_log_mstar(log_m200c) - min_log_mstar) / SCATTER)


def draw_centrals(log_m200c: np.ndarray, min_log_mstar: float, rng: np.random.Generator) -> np.ndarray:
    """Draw stellar masses of centrals above the cut from the log-normal distribution: float32 (n,) [log10 Msun].

    `log_m200c` (n,) are the masses of their haloes [log10 Msun/h].
    """
    median = median_log_mstar(log_m200c)
    log_above = log_ndtr((median - min_log_mstar) / SCATTER) + np.log(1.0 - rng.random(len(median)))
    return _rounded(median - SCATTER * ndtri_exp(log_above), min_log_mstar)


def satellite_ratio(log_m200c, min_log_mstar: float) -> np.ndarray:
    """Mean number of a halo's satellites above the cut, over that above 10^9.5 Msun.

    Conditional stellar mass function of satellites, Yang, Mo & van den Bosch 2009: per dex proportional to
    x^(alpha + 1) exp(-x^2), where x is the stellar mass over a characteristic one, 0.25 dex below the mass of the
    halo's central but never below 10^9.5 Msun.
    """
    log_characteristic = _log_characteristic(log_m200c)
    return np.exp(_log_above(min_log_mstar - log_characteristic) - _log_above(REFERENCE_CUT - log_characteristic))


def draw_satellites(log_m200c: np.ndarray, min_log_mstar: float, rng: np.random.Generator) -> np.ndarray:
    """Draw stellar masses of satellites from the mass function of `satellite_ratio`: float32 (n,) [log10 Msun].

    `log_m200c` (n,) are the masses of their hosts [log10 Msun/h].
    """
    log_characteristic = _log_characteristic(log_m200c)
    log_above = _log_above(min_log_mstar - log_characteristic) + np.log(1.0 - rng.random(len(log_characteristic)))
    return _rounded(log_characteristic + np.interp(-log_above, -LOG_ABOVE, LOG_X), min_log_mstar)


def _rounded(log_mstar, min_log_mstar) -> np.ndarray:
    """As float32, where rounding must not take a galaxy below the cut."""
    return np.maximum(log_mstar.astype(np.float32), np.float32(min_log_mstar))


def _log_characteristic(log_m200c) -> np.ndarray:
    return np.maximum(median_log_mstar(log_m200c) + SATELLITE_OFFSET, SMALLEST_CHARACTERISTIC)


def _log_above(log_x) -> np.ndarray:
    """Natural log of the number of satellites above x, the same function in haloes of any mass."""
    return np.interp(log_x, LOG_X, LOG_ABOVE)


def _table_above() -> tuple[np.ndarray, np.ndarray]:
    """log10 x, and the natural log of the integral of x^(alpha + 1) exp(-x^2) over ln x from there on."""
    log_x = np.arange(-4.0, 1.3, 0.004)
    x = 10**log_x
    density = x ** (SATELLITE_SLOPE + 1) * np.exp(-(x**2))
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(np.log(x))
    return log_x[:-1], np.log(np.cumsum(steps[::-1])[::-1])


LOG_X, LOG_ABOVE = _table_above()
