"""The galaxies of one cluster, selected and brought into phase space as those of the mock clusters are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from cluster_tools import arrays, cells, sky
from cluster_tools.cosmology import MIN_LOG_MSTAR
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde
from cluster_tools.mocks.observe import APERTURE, FEWEST_GALAXIES, VELOCITY_CUT
from cluster_tools.weighing import centres, survey_effects

BEYOND_APERTURE = f"beyond {APERTURE} Mpc/h of the centre"
BEYOND_WINDOW = f"at {VELOCITY_CUT:g} km/s or more from the redshift"
TWO_CLUSTERS = (
    "two clusters in the line of sight: z = {other:.4f}, with {count} galaxies near the centre, is nearly as rich as "
    "z = {z:.4f}, with {rich}, which was taken; give the redshift of the one that is meant"
)
NO_MASS = "without a stellar mass"


@dataclass(frozen=True)
class Observation:
    """The galaxies of one cluster in phase space, and how they were selected."""

    name: str
    centre_ra: float  #: J2000 [deg]
    centre_dec: float  #: J2000 [deg]
    centre_is: str  #: where the centre is from
    redshift: float  #: of the cluster
    redshift_is: str  #: where the redshift is from
    v_los: np.ndarray  #: velocities (n,) of the galaxies used [km/s]
    r_proj: np.ndarray  #: their projected radii (n,) [comoving Mpc/h]
    rejected: dict[str, int]  #: number of galaxies left out, by reason
    min_log_mstar: float | None  #: cut in stellar mass [log10 Msun, no h] that was made
    field: float = APERTURE  #: radius [comoving Mpc/h] within which the table has galaxies, at any redshift
    #: ``row`` of the table from 1, ``ra``, ``dec`` [deg] and ``z`` of the galaxies used, each (n,)
    galaxies: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    velocity_error: float | None = None  #: median error of the galaxies' velocities [km/s], where the table has them
    notes: tuple[str, ...] = ()  #: doubts about the selection, one sentence each

    @property
    def n_table(self) -> int:
        """Number of rows of the table, used or left out."""
        return len(self.v_los) + sum(self.rejected.values())

    @property
    def is_found(self) -> bool:
        """Whether centre or redshift was found in the table, not given."""
        return (self.centre_is, self.redshift_is) != ("given", "given")

    @property
    def directions(self) -> np.ndarray | None:
        """Unit vectors (n, 3) to the galaxies used; None where their positions are not known."""
        return sky.directions(self.galaxies["ra"], self.galaxies["dec"]) if "ra" in self.galaxies else None

    @property
    def dispersion(self) -> float:
        """Standard deviation of v_los [km/s] of all galaxies used, interlopers included."""
        return float(np.std(self.v_los, ddof=1))

    def image(self) -> np.ndarray:
        """The phase-space image (48, 48); `ClusterToolsError` if the galaxies have no extent."""
        return kde.phase_space_images(self.v_los, self.r_proj, [0, len(self.v_los)])[0]


def select_galaxies(
    galaxies: Table,
    *,
    name: str,
    centre: tuple[float, float] | None = None,
    redshift: float | None = None,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
    fewest: int = FEWEST_GALAXIES,
) -> Observation:
    """Bring the galaxies of one cluster into phase space, and cut them as the mock clusters are cut.

    `galaxies` are members and interlopers from `galaxy_table.read`; other parameters are those of
    `one_cluster.weigh`. Raises `ClusterToolsError` if centre, redshift or cut is not valid, or fewer than
    `fewest` galaxies are left.
    """
    if redshift is not None and not (arrays.is_number(redshift) and centres.MIN_REDSHIFT < redshift < 5):
        raise ClusterToolsError(
            f"redshift is {redshift!r}, but a number from {centres.MIN_REDSHIFT:g} to 5 is expected, such as 0.0231; "
            "nearer than that, it tells no distance."
        )
    if min_log_mstar is not None and not (arrays.is_number(min_log_mstar) and np.isfinite(min_log_mstar)):
        raise ClusterToolsError(f"min_log_mstar={min_log_mstar!r} is no number; expected log10 Msun, as 9.5, or None.")
    data = {name: galaxies[name].data for name in galaxies.colnames}
    ra, dec, z = (data[name] for name in ("ra", "dec", "z"))
    centre_is = redshift_is = "given"
    notes: list[str] = []
    if centre is None:
        *centre, centre_is = centres.centre(galaxies, centres.redshift(z) if redshift is None else redshift)
    else:
        centre = checked_centre(centre)
    if redshift is None:
        _, radii = sky.phase_space(ra, dec, z, centre_ra=centre[0], centre_dec=centre[1], redshift=np.maximum(z, 0))
        near = radii <= (centres.CORE if (radii <= centres.CORE).sum() >= FEWEST_GALAXIES else APERTURE)
        redshift, redshift_is = centres.redshift(z[near]), "biweight location of the galaxies near the centre"
        if (other := centres.rival(z[near], redshift)) is not None:
            notes.append(TWO_CLUSTERS.format(other=other[0], count=other[1], z=redshift, rich=other[2]))

    redshift = float(redshift)
    v_los, r_proj = sky.phase_space(ra, dec, z, centre_ra=centre[0], centre_dec=centre[1], redshift=redshift)
    reasons = {BEYOND_APERTURE: ~(r_proj <= APERTURE), BEYOND_WINDOW: ~(np.abs(v_los) < VELOCITY_CUT)}
    cut = None
    if min_log_mstar is not None and {"log_mstar", "mag_g"} & set(data):
        cut, log_mstar = float(min_log_mstar), data.get("log_mstar")
        if log_mstar is None:
            log_mstar = sky.stellar_mass(data["mag_g"], data["mag_r"], redshift=redshift)
        reasons |= {NO_MASS: np.isnan(log_mstar), f"below 10^{cut:g} Msun in stars": log_mstar < cut}
    kept, rejected = np.ones(len(galaxies), bool), dict(galaxies.meta["rejected"])
    for reason, applies in reasons.items():
        rejected[reason] = int((kept & applies).sum())
        kept &= ~applies
    if kept.sum() < fewest:
        counts = "; ".join(f"{count} {reason}" for reason, count in rejected.items() if count)
        raise ClusterToolsError(
            f"{name!r} has {kept.sum()} galaxies to weigh about {centre[0]:.4f} {centre[1]:+.4f} deg, "
            f"z = {redshift:.5f}, but at least {fewest} are needed ({counts or 'no more are in the table'}); "
            "check centre, redshift and the units of the columns, or lower min_log_mstar."
        )
    inside = r_proj[r_proj <= APERTURE]
    field = float(survey_effects.estimated_field(inside.max(), len(inside)))
    columns = {name: data[name][kept] for name in ("row", "ra", "dec", "z") if name in data}
    errors = data["v_error"][kept] if "v_error" in data else np.empty(0)
    error = float(np.nanmedian(errors)) if np.isfinite(errors).any() else None
    return Observation(
        name, centre[0], centre[1], centre_is, redshift, redshift_is, v_los[kept], r_proj[kept], rejected, cut, field,
        columns, error, tuple(notes),
    )  # fmt: skip


def checked_centre(centre) -> tuple[float, float]:
    """Right ascension and declination [deg] from two numbers or sexagesimal angles, or from text that has them."""
    given = " ".join(repr(centre).split())[:100]
    try:
        if hasattr(centre, "icrs"):  # a SkyCoord
            centre_ra, centre_dec = centre.icrs.ra, centre.icrs.dec
        elif isinstance(centre, str):  # as papermill hands it over, or as copied from a page
            words = centre.strip("[]() ").replace(",", " ").split()
            half = len(words) // 2
            centre_ra, centre_dec = " ".join(words[:half]), " ".join(words[half:])
        else:
            centre_ra, centre_dec = centre
        degrees = (each.to_value("deg") if hasattr(each, "to_value") else each for each in (centre_ra, centre_dec))
        texts = (np.array([str(each).strip("'\" ")], dtype=object) for each in degrees)
        ra, dec = (cells.numbers(*each)[0] for each in zip(texts, (cells.HOURS, cells.DEGREES)))
    except (TypeError, ValueError):
        ra = dec = np.nan
    if not (-180 <= ra <= 360 and -90 <= dec <= 90):
        raise ClusterToolsError(
            f"centre is {given}, but right ascension and declination are expected, in degrees as (194.95, 27.98), "
            "or in hours and degrees as ('12:59:48', '+27:58:48')."
        )
    return float(ra % 360), float(dec)
