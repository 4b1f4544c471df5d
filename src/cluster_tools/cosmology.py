"""The two simulations of the paper, and cosmology as the rest of the package needs it.

Box sizes, snapshot redshifts and cosmologies: Ho et al. 2022, Methods, "Mock catalog
generation"; Klypin et al. 2016 (MDPL2); Ishiyama et al. 2021 (Uchuu).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cluster_tools.errors import ClusterToolsError

SPEED_OF_LIGHT = 299792.458  # km/s
RHO_CRITICAL = 2.7754e11  # h^2 Msun / Mpc^3, today
MIN_LOG_MSTAR = 9.5  # log10 Msun, no h: of the galaxies that the paper observes


@dataclass(frozen=True)
class Simulation:
    """A simulation's cosmology, box and snapshot, and where its training masses begin."""

    name: str
    hubble: float  # h
    omega_m: float
    omega_b: float
    sigma8: float
    n_s: float
    box_size: float  # comoving Mpc/h
    redshift: float  # of the snapshot
    log_m200c_range: tuple[float, float]  # of the flat training set


SIMULATIONS = {
    "mdpl2": Simulation("mdpl2", 0.6777, 0.307115, 0.048206, 0.8228, 0.96, 1000.0, 0.022, (14.0, 15.25)),
    "uchuu": Simulation("uchuu", 0.6774, 0.3089, 0.0486, 0.8159, 0.9667, 2000.0, 0.0, (13.6, 15.56)),
}


def simulation(name: str) -> Simulation:
    """The simulation called `name`; raises `ClusterToolsError` for one that is not known."""
    if name not in SIMULATIONS:
        raise ClusterToolsError(f"simulation is {name!r}, but one of {', '.join(SIMULATIONS)} is expected.")
    return SIMULATIONS[name]


def other(name: str) -> str:
    """The simulation to cross-validate `name` on."""
    return next(key for key in SIMULATIONS if key != simulation(name).name)


def colossus_cosmology(sim: Simulation):
    """This simulation's flat LCDM cosmology in colossus, made the current one there."""
    from colossus.cosmology import cosmology

    found = _colossus_cosmology(sim)
    cosmology.setCurrent(found)
    return found


@lru_cache
def _colossus_cosmology(sim):
    """Made once: colossus keeps tables of the power spectrum with it."""
    from colossus.cosmology import cosmology

    return cosmology.setCosmology(
        sim.name,
        params={
            "flat": True, "H0": 100 * sim.hubble, "Om0": sim.omega_m, "Ob0": sim.omega_b,
            "sigma8": sim.sigma8, "ns": sim.n_s, "persistence": "",
        },
    )  # fmt: skip


def efunc(omega_m: float, z) -> np.ndarray:
    """E(z) = H(z) / H0 of a flat LCDM cosmology."""
    return np.sqrt(omega_m * (1 + np.asarray(z)) ** 3 + 1 - omega_m)


def r200c(sim: Simulation, log_m200c) -> np.ndarray:
    """Comoving R200c [Mpc/h] of haloes with log10 M200c [Msun/h] at the snapshot's redshift."""
    rho_critical = RHO_CRITICAL * efunc(sim.omega_m, sim.redshift) ** 2
    return (1 + sim.redshift) * (3 * 10 ** np.asarray(log_m200c) / (800 * np.pi * rho_critical)) ** (1 / 3)


def v200c(sim: Simulation, r200c) -> np.ndarray:
    """V200c [km/s] from the comoving R200c [Mpc/h]: sqrt(G M / R) is 10 H(z) R for an overdensity of 200."""
    return 1000 * efunc(sim.omega_m, sim.redshift) * np.asarray(r200c) / (1 + sim.redshift)


def comoving_distance(omega_m: float, z) -> np.ndarray:
    """Comoving distance [Mpc/h] at redshift `z` in a flat LCDM cosmology (astropy)."""
    return _astropy_cosmology(omega_m).comoving_distance(z).value


@lru_cache
def _astropy_cosmology(omega_m: float):
    """Made once: that takes longer than most distances."""
    from astropy.cosmology import FlatLambdaCDM

    return FlatLambdaCDM(H0=100, Om0=omega_m)
