"""The mass of one cluster as a result: posterior, other mass definitions, and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools import cosmology
from cluster_tools.coma import nfw
from cluster_tools.weighing.selection import Observation

if TYPE_CHECKING:
    from astropy.table import Table

LEVELS = (0.16, 0.5, 0.84)
WIDE_LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class ClassicalEstimate:
    """A mass [log10 Msun/h] as published and as calibrated on the training set, its scatter [dex], or why it fails."""

    name: str
    published: float = np.nan
    calibrated: float = np.nan
    scatter: float = np.nan
    failure: str | None = None


@dataclass(frozen=True)
class ClusterMass:
    """The mass of one cluster; log masses are log10 M200c [Msun/h], NaN where the cluster has none.

    The posterior is that under a flat prior in log10 M200c over the masses of the training set.
    """

    observation: Observation  #: the galaxies weighed
    model: str  #: "survey", or "paper" for the networks of Ho et al. 2022
    mean: float = np.nan  #: of the posterior
    sigma: float = np.nan  #: standard deviation of the posterior [dex]
    samples: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))  #: of the posterior, float32 (k,)
    quantiles: tuple[float, ...] = (np.nan,) * 3  #: of the posterior, at 16%, 50% and 84%
    quantiles_95: tuple[float, ...] = (np.nan,) * 2  #: of the posterior, at 2.5% and 97.5%
    #: the same three under the halo mass function as prior, for a cluster selected regardless of its mass
    abundance: tuple[float, ...] = (np.nan,) * 3
    warnings: tuple[str, ...] = ()  #: one sentence each, the gravest first
    estimates: tuple[ClassicalEstimate, ...] = ()  #: masses by classical methods, if asked for
    refusal: str | None = None  #: why no mass should be used
    farther_hidden: float = np.nan  #: share of held-out clusters farther from the training set, last hidden layer
    farther_image: float = np.nan  #: share of held-out images farther from the training images
    grid: np.ndarray = field(default_factory=lambda: np.empty(0))  #: masses (g,) of the likelihood
    log_likelihood: np.ndarray = field(default_factory=lambda: np.empty(0))  #: ln of it (g,), 0 at its maximum
    log_odds: float = np.nan  #: natural log of the odds that a cluster is there
    #: probability of each galaxy to be an interloper, to fall in, to be a member, (n, 3); NaN if not weighed
    labels: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    #: dynamical state by `dynamics.state`, with ``p_gaussian``, ``p_substructure``, and ``dynamics``, a sentence
    state: dict = field(default_factory=dict)
    assumed: dict = field(default_factory=dict)  #: the ``velocity_error`` used, and its origin

    @property
    def members(self) -> Table:
        """The galaxies weighed, with their ``row`` in the table, and the probabilities to be a member or not."""
        from cluster_tools.weighing import output

        return output.members([output.record(self, samples=False, galaxies=True)], {})

    @property
    def r200c(self) -> tuple[float, float, float]:
        """R200c [comoving Mpc/h] of `quantiles`."""
        return tuple(cosmology.r200c(self.quantiles, self.observation.redshift).tolist())

    def within(self, delta: str) -> tuple[float, float, float]:
        """log10 of M500c or M200m [Msun/h], for `delta` "500c" or "200m", at `quantiles`, with an NFW profile."""
        if not np.isfinite(self.quantiles).all():
            return (np.nan,) * 3
        log_m200c, z = np.array(self.quantiles), self.observation.redshift
        mean_density = cosmology.OMEGA_M * (1 + z) ** 3 / float(cosmology.efunc(z)) ** 2  # over the critical one
        density = {"500c": 500.0, "200m": 200 * mean_density}[delta]
        ratio = nfw.m200c(1.0, delta=density, c200c=concentration(log_m200c))
        return tuple((log_m200c - np.log10(ratio)).tolist())


def concentration(log_m200c) -> np.ndarray:
    """Median c200c near z = 0 (Diemer & Joyce 2019, ApJ 871, 168), with a scatter of 0.16 dex from halo to halo.

    A concentration higher by 30% raises M500c by 5% and lowers M200m by 4%.
    """
    return np.interp(log_m200c, (13.0, 13.5, 14.0, 14.5, 15.0), (5.9, 5.1, 4.4, 3.9, 3.7))
