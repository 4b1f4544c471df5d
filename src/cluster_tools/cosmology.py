"""Constants, the two simulations of the paper, and the flat LCDM relations between mass, radius and velocity.

Masses are log10 M200c [Msun/h], the mass inside the sphere of mean density 200 rho_c(z). Lengths are
comoving Mpc/h, velocities physical km/s.

Box sizes, snapshot redshifts and cosmologies: Ho et al. 2022, Methods, "Mock catalog generation";
Klypin et al. 2016 (MDPL2); Ishiyama et al. 2021 (Uchuu).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from cluster_tools.errors import ClusterToolsError

SPEED_OF_LIGHT = 299792.458  # km/s
G = 4.30091e-9  # Mpc (km/s)^2 / Msun
RHO_CRITICAL = 2.7754e11  # h^2 Msun / Mpc^3, at z = 0
R_VIR = 1.3  # virial radius over R200c, within 3% for haloes of clusters: the edge of a halo's members
EVRARD_SIGMA, EVRARD_SLOPE = 1082.9, 0.3361  # km/s at E(z) M200c = 10^15 Msun/h: Evrard et al. 2008, eq. 6

HUBBLE, OMEGA_M = 0.7, 0.3  # the paper's cosmology for Coma (Methods)
COMA_REDSHIFT = 0.0231  # every mock cluster is placed there, too
MIN_LOG_MSTAR = 9.5  # log10 Msun, no h: stellar-mass cut of the observed galaxies
LOG_M_HOST = 13.5  # log10 Msun/h, of the lightest hosts in a snapshot: the training sets begin above it


@dataclass(frozen=True)
class Simulation:
    """A simulation's flat LCDM cosmology, box and snapshot, and the mass range of its training set."""

    name: str
    title: str  #: in figures and headings
    hubble: float  #: h
    omega_m: float  #: matter density over the critical one at z = 0
    omega_b: float  #: baryon density over the critical one at z = 0
    sigma8: float  #: rms density contrast in spheres of 8 Mpc/h at z = 0
    n_s: float  #: spectral index
    box_size: float  #: side of the box [comoving Mpc/h]
    redshift: float  #: of the snapshot
    log_m200c_range: tuple[float, float]  #: masses of the flat training set [log10 Msun/h]


SIMULATIONS = {
    "uchuu": Simulation("uchuu", "Uchuu", 0.6774, 0.3089, 0.0486, 0.8159, 0.9667, 2000.0, 0.0, (14.0, 15.56)),
    "mdpl2": Simulation("mdpl2", "MDPL2", 0.6777, 0.307115, 0.048206, 0.8228, 0.96, 1000.0, 0.022, (14.0, 15.25)),
}
PAPER_SIMULATIONS = ("uchuu", "mdpl2")  # what compares with the paper, whatever else is in `SIMULATIONS`


def simulation(name: str) -> Simulation:
    """The simulation called `name`; raises `ClusterToolsError` for a name that is not in `SIMULATIONS`."""
    if not isinstance(name, str) or name not in SIMULATIONS:
        raise ClusterToolsError(f"simulation is {name!r}, but one of {', '.join(SIMULATIONS)} is expected.")
    return SIMULATIONS[name]


def other(name: str) -> str:
    """The paper's other simulation, on which models trained on `name` are cross-validated; raises as `simulation`."""
    return next(key for key in PAPER_SIMULATIONS if key != simulation(name).name)


def efunc(z: ArrayLike, *, omega_m: float = OMEGA_M) -> np.ndarray:
    """E(z) = H(z) / H0 in a flat LCDM cosmology."""
    return np.sqrt(omega_m * (1 + np.asarray(z)) ** 3 + 1 - omega_m)


def critical_density(z: ArrayLike = 0.0, *, omega_m: float = OMEGA_M) -> np.ndarray:
    """Physical critical density rho_c(z) = 3 H(z)^2 / (8 pi G) [h^2 Msun / Mpc^3]."""
    return RHO_CRITICAL * efunc(z, omega_m=omega_m) ** 2


def r200c(log_m200c: ArrayLike, z: ArrayLike = 0.0, *, omega_m: float = OMEGA_M) -> np.ndarray:
    """Comoving radius R200c [Mpc/h] inside which the mean density is 200 rho_c(z).

    `log_m200c` [log10 Msun/h] and `z` broadcast. The definition is the paper's (Methods, "Historical Mass Estimates").
    Any Planck-like `omega_m` gives the same radius at Coma's redshift to 1 in 5000.
    """
    volume = 3 * 10.0 ** np.asarray(log_m200c) / (800 * np.pi * critical_density(z, omega_m=omega_m))
    return (1 + np.asarray(z)) * volume ** (1 / 3)


def v200c(r200c: ArrayLike, z: ArrayLike = 0.0, *, omega_m: float = OMEGA_M) -> np.ndarray:
    """V200c = sqrt(G M200c / R200c) = 10 H(z) R200c / (1 + z) [km/s] from the comoving R200c [Mpc/h]."""
    return 1000 * efunc(z, omega_m=omega_m) * np.asarray(r200c) / (1 + np.asarray(z))


def velocity_dispersion(log_m200c: ArrayLike, z: ArrayLike = 0.0, *, omega_m: float = OMEGA_M) -> np.ndarray:
    """1D dark-matter velocity dispersion [km/s] at `log_m200c` [log10 Msun/h]: Evrard et al. 2008, eq. 6."""
    return EVRARD_SIGMA * (efunc(z, omega_m=omega_m) * 10.0 ** (np.asarray(log_m200c) - 15)) ** EVRARD_SLOPE


def enclosed(x: ArrayLike) -> np.ndarray:
    """Mass of an NFW profile within x scale radii [4 pi rho_s r_s^3]: ln(1 + x) - x / (1 + x)."""
    return np.log1p(x) - x / (1 + np.asarray(x))


def comoving_distance(z: ArrayLike, *, omega_m: float = OMEGA_M) -> np.ndarray:
    """Comoving distance [Mpc/h] in a flat LCDM cosmology, as a hypergeometric function (Baes et al. 2017)."""
    from scipy.special import hyp2f1  # starts slowly, and each command imports this module

    ratio = ((1 - omega_m) / omega_m) ** (1 / 3)

    def integral(x):
        return 2 * np.sqrt(x) * hyp2f1(1 / 6, 1 / 2, 7 / 6, -(x**3))

    scale = SPEED_OF_LIGHT / 100 / np.sqrt(ratio * omega_m)
    return scale * (integral(ratio) - integral(ratio / (1 + np.asarray(z))))


def colossus_cosmology(sim: Simulation):
    """Make this simulation's cosmology the current one in colossus, and return it."""
    from colossus.cosmology import cosmology

    current = _colossus_cosmology(sim)
    cosmology.setCurrent(current)
    return current


@lru_cache  # colossus keeps tables of the power spectrum with it
def _colossus_cosmology(sim: Simulation):
    from colossus.cosmology import cosmology

    matter = {"Om0": sim.omega_m, "Ob0": sim.omega_b, "sigma8": sim.sigma8, "ns": sim.n_s}
    return cosmology.setCosmology(sim.name, flat=True, H0=100 * sim.hubble, **matter, persistence="")
