"""The Coma cluster: from galaxies on the sky to (v_los, r_proj)."""

from __future__ import annotations

import os
from numbers import Real
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import angular_separation, offset_by
from astropy.cosmology import FlatLambdaCDM
from astropy.cosmology.units import littleh
from astropy.table import Table

from cluster_tools import arrays, cosmology, paths, store
from cluster_tools.cosmology import COMA_REDSHIFT, MIN_LOG_MSTAR, SPEED_OF_LIGHT
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.observe import APERTURE, FEWEST_GALAXIES, VELOCITY_CUT
from cluster_tools.tables import read_galaxies, standard_columns

CENTRE_RA, CENTRE_DEC = 194.95, 27.98  # deg, J2000; Abell, Corwin & Olowin (1989)
SDSS_RELEASE = 12  # the paper's

DESI_SOURCE = (
    "DESI spectroscopy (EDR and DR1, CC BY 4.0), the table that ships with the project; "
    "stellar masses from its g and r fluxes (Bell et al. 2003)"
)


def observables(
    ra: np.ndarray,
    dec: np.ndarray,
    z: np.ndarray,
    *,
    centre_ra: float = CENTRE_RA,
    centre_dec: float = CENTRE_DEC,
    redshift: float = COMA_REDSHIFT,
) -> tuple[np.ndarray, np.ndarray]:
    """Line-of-sight velocity and projected radius of galaxies about a cluster.

    v_los = c (z - z_c) / (1 + z_c); r_proj is the comoving distance to the cluster times the
    great-circle angle to its centre, in flat LCDM with Omega_m = 0.3 (paper, Methods).

    Parameters
    ----------
    ra, dec : (n,) J2000 positions, deg
    z : (n,) redshifts
    centre_ra, centre_dec, redshift : the cluster's, deg and dimensionless

    Returns
    -------
    v_los : (n,) km/s
    r_proj : (n,) comoving Mpc/h

    Raises `ClusterToolsError` for what is no number, other shapes, and a redshift of the cluster
    that is not above 0. NaN gives NaN.
    """
    ra, dec, z = arrays.numbers("ra", ra), arrays.numbers("dec", dec), arrays.numbers("z", z)
    arrays.same_shape(ra=ra, dec=dec, z=z)
    redshift = arrays.redshift(redshift)
    v_los = SPEED_OF_LIGHT * (z - redshift) / (1 + redshift)
    ra, dec = np.radians(ra), np.radians(dec)
    angle = angular_separation(np.radians(centre_ra), np.radians(centre_dec), ra, dec)
    return v_los, angle * comoving_distance(redshift)


def comoving_distance(redshift: float) -> float:
    """Comoving distance [Mpc/h] in the paper's cosmology; raises `ClusterToolsError` for no redshift above 0."""
    return float(cosmology.comoving_distance(arrays.redshift(redshift)))


def on_the_sky(
    v_los: np.ndarray, r_proj: np.ndarray, *, centre_ra: float, centre_dec: float, redshift: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and redshifts that a mock cluster's galaxies would have: `observables` inverted.

    Position angles, of which nothing is known, are drawn at random with `seed`. Arrays (n,) [km/s, comoving Mpc/h];
    centre in deg. Returns ra, dec [deg] and z, arrays (n,). Raises `ClusterToolsError` for what are no such numbers.
    """
    v_los = arrays.column("v_los", v_los)
    r_proj = arrays.column("r_proj", r_proj, len(v_los))
    redshift = arrays.redshift(redshift)
    centre_ra, centre_dec = arrays.column("centre", [centre_ra, centre_dec])
    angle = r_proj / comoving_distance(redshift)
    position_angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(angle))
    ra, dec = offset_by(np.radians(centre_ra), np.radians(centre_dec), position_angle, angle)
    z = redshift + v_los / SPEED_OF_LIGHT * (1 + redshift)
    return ra.to_value(u.deg) % 360, dec.to_value(u.deg), z


def stellar_mass(mag_g: np.ndarray, mag_r: np.ndarray, *, redshift: float = COMA_REDSHIFT) -> np.ndarray:
    """Stellar masses from g - r colours: log10(M/L_r) = -0.306 + 1.097 (g - r) - 0.15.

    Bell et al. (2003, ApJS 149, 289), table 7, less 0.15 dex for a Kroupa IMF; M_sun,r = 4.65.
    All galaxies are put at the cluster's distance, since a redshift of Coma's members says
    more about their velocity than about their distance. That distance is in Mpc with h = 0.7,
    so the mass is in Msun with no h. Magnitudes get the K-correction 2.5 log10(1 + z), right
    for a spectrum flat in f_lambda, which leaves g - r as it is: 0.025 mag at Coma, and 541
    instead of 539 galaxies of the DESI sample above 10^9.5 Msun.

    Parameters
    ----------
    mag_g, mag_r : (n,) AB magnitudes
    redshift : the cluster's

    Returns
    -------
    (n,) log10 of the stellar mass in Msun

    Raises `ClusterToolsError` as `observables`.
    """
    mag_g, mag_r = arrays.numbers("mag_g", mag_g), arrays.numbers("mag_r", mag_r)
    arrays.same_shape(mag_g=mag_g, mag_r=mag_r)
    redshift = arrays.redshift(redshift)
    k_correction = 2.5 * np.log10(1 + redshift)
    absolute_r = (
        mag_r - FlatLambdaCDM(H0=100 * cosmology.HUBBLE, Om0=cosmology.OMEGA_M).distmod(redshift).value - k_correction
    )
    log_luminosity = -0.4 * (absolute_r - 4.65)
    return -0.306 + 1.097 * (mag_g - mag_r) - 0.15 + log_luminosity


def default_sample() -> str:
    """The sample that ``CLUSTER_TOOLS_COMA_SAMPLE`` names, else ``"desi"``."""
    return os.environ.get("CLUSTER_TOOLS_COMA_SAMPLE") or "desi"


def load_sample(
    sample: str | os.PathLike | None = "desi",
    *,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
    release: int = SDSS_RELEASE,
    centre_ra: float = CENTRE_RA,
    centre_dec: float = CENTRE_DEC,
) -> Table:
    """The galaxies in Coma's cylinder and above the stellar-mass cut.

    The cylinder is that of the mock clusters: r_proj <= 2.3 Mpc/h, abs(v_los) < 3785 km/s.

    Parameters
    ----------
    sample : ``"desi"`` (ships with the project), ``"sdss"`` (the paper's: asked from SkyServer
        and cached), or a CSV, ECSV or FITS table with positions (deg), redshifts and stellar
        masses (log10 Msun) or g and r photometry; None: `default_sample`
    min_log_mstar : lowest log10 stellar mass (Msun, no h); None: no cut, and masses that the
        table does not give are NaN
    release : data release of SDSS, for ``"sdss"``
    centre_ra, centre_dec : of the cylinder, deg; away from Abell's centre, a field that ends near the
        cylinder, such as SDSS's answer, lacks galaxies on one side

    Returns
    -------
    Table with ``ra``, ``dec`` [deg], ``z``, ``log_mstar`` [log10 Msun], ``v_los`` [km/s] and
    ``r_proj`` [comoving Mpc/h]. Its meta has ``sample``, ``source`` (in words), ``n_field`` (rows
    read), ``n_cylinder`` (in the cylinder, before the mass cut), ``centre`` (deg), ``min_log_mstar``
    and, for SDSS, ``release`` and ``query``.

    Raises
    ------
    ClusterToolsError
        For an unknown sample, a table that cannot be used (see `tables.read_galaxies`), an SDSS
        service that fails, and fewer than 11 galaxies left.
    """
    sample = default_sample() if sample is None else sample
    if min_log_mstar is not None and not isinstance(min_log_mstar, Real):
        raise ClusterToolsError(f"min_log_mstar={min_log_mstar!r} is no number; expected log10 Msun, as 9.5, or None.")
    with_mass = min_log_mstar is not None
    meta: dict = {"sample": str(sample)}
    if sample == "desi":
        field = read_galaxies(paths.PACKAGE_DATA / "desi_coma.csv")
        meta["source"] = DESI_SOURCE
    elif sample == "sdss":
        field = _sdss_field(release)
        meta["source"] = f"SDSS DR{release} redshifts and Portsmouth passive stellar masses (Kroupa), from SkyServer"
        meta |= {"release": release, "query": sdss_query()}
    else:
        path = _user_table(sample)
        field = read_galaxies(path, with_mass=with_mass)
        masses = "its stellar masses" if "log_mstar" in field.colnames else "no stellar masses"
        if "mag_g" in field.colnames:
            masses = "stellar masses from its g and r photometry (Bell et al. 2003)"
        meta["source"] = f"the table {paths.shown(path)}, with {masses}"

    galaxies = _in_cylinder(field, centre_ra, centre_dec)
    meta["centre"] = (float(centre_ra), float(centre_dec))
    galaxies.meta = meta | {"n_field": len(field), "n_cylinder": len(galaxies), "min_log_mstar": min_log_mstar}
    if with_mass:
        galaxies = galaxies[galaxies["log_mstar"] >= min_log_mstar]
    if len(galaxies) < FEWEST_GALAXIES:
        cut = f" and {len(galaxies)} of them with log_mstar >= {min_log_mstar:g}" if with_mass else ""
        raise ClusterToolsError(
            f"Coma sample {meta['sample']!r} has {len(field)} galaxies, {galaxies.meta['n_cylinder']} in the cylinder "
            f"({APERTURE} Mpc/h and {VELOCITY_CUT:g} km/s around {centre_ra:g} {centre_dec:g} deg, "
            f"z = {COMA_REDSHIFT}){cut}; "
            f"expected at least {FEWEST_GALAXIES}: check the units of its columns and min_log_mstar, "
            'or use coma_sample="desi".'
        )
    return galaxies


def _in_cylinder(field: Table, centre_ra: float = CENTRE_RA, centre_dec: float = CENTRE_DEC) -> Table:
    """The galaxies of a field that are in Coma's cylinder, in the columns of `load_sample`."""
    v_los, r_proj = observables(field["ra"], field["dec"], field["z"], centre_ra=centre_ra, centre_dec=centre_dec)
    if "log_mstar" in field.colnames:
        log_mstar = np.asarray(field["log_mstar"])
    elif "mag_g" in field.colnames:
        log_mstar = stellar_mass(field["mag_g"], field["mag_r"])
    else:
        log_mstar = np.full(len(field), np.nan)
    columns = {"ra": field["ra"], "dec": field["dec"], "z": field["z"]}
    columns |= {"log_mstar": log_mstar, "v_los": v_los, "r_proj": r_proj}
    units = {"ra": u.deg, "dec": u.deg, "log_mstar": u.dex(u.Msun), "v_los": u.km / u.s, "r_proj": u.Mpc / littleh}
    return Table(columns, units=units)[(r_proj <= APERTURE) & (np.abs(v_los) < VELOCITY_CUT)]


def _user_table(sample: str | os.PathLike) -> Path:
    """The file that a sample names, seen from here or else from the project's root."""
    if not isinstance(sample, str | os.PathLike):
        raise ClusterToolsError(f'coma_sample={sample!r} is no name; expected "desi", "sdss" or the path of a table.')
    path = Path(os.path.expanduser(sample))
    if not os.path.exists(path):
        path = paths.project_root() / path
    if not str(sample).strip() or not os.path.exists(path):
        raise ClusterToolsError(
            f'coma_sample={str(sample)!r} is neither "desi" nor "sdss" nor a file that exists; '
            "give one of these names, or the path of a CSV, ECSV or FITS table."
        )
    return path


def sdss_query() -> str:
    """The SQL that asks SkyServer for the galaxies of a box around Coma's cylinder.

    ``SpecObj`` holds one spectrum an object; ``stellarMassPassivePort`` the masses of the paper
    (Maraston et al. 2009; passive template, Kroupa IMF; logMass in dex Msun, a fit only where
    positive). n_rows lets the answer be checked for completeness.
    """
    angle = APERTURE / comoving_distance(COMA_REDSHIFT)
    d_dec = np.degrees(angle) + 0.01
    d_ra = np.degrees(np.arcsin(np.sin(angle) / np.cos(np.radians(CENTRE_DEC)))) + 0.01
    d_z = VELOCITY_CUT / SPEED_OF_LIGHT * (1 + COMA_REDSHIFT) + 0.0001
    return f"""\
SELECT s.ra, s.dec, s.z, m.logMass, COUNT(*) OVER () AS n_rows
FROM SpecObj AS s
JOIN stellarMassPassivePort AS m ON m.specObjID = s.specObjID
WHERE s.class = 'GALAXY' AND s.zWarning = 0 AND m.logMass > 0
  AND s.ra BETWEEN {CENTRE_RA - d_ra:.4f} AND {CENTRE_RA + d_ra:.4f}
  AND s.dec BETWEEN {CENTRE_DEC - d_dec:.4f} AND {CENTRE_DEC + d_dec:.4f}
  AND s.z BETWEEN {COMA_REDSHIFT - d_z:.5f} AND {COMA_REDSHIFT + d_z:.5f}"""


def _sdss_field(release: int) -> Table:
    """SDSS's answer to `sdss_query`: the cached one if it is whole, else asked for and cached."""
    if not isinstance(release, int) or not 9 <= release <= 99:
        raise ClusterToolsError(f"release={release!r} is no SDSS release with stellar masses; expected e.g. 12.")
    path = paths.cache() / f"sdss_coma_dr{release}.ecsv"
    try:
        cached = read_galaxies(path)
        same = cached.meta.get("query") == sdss_query() and cached.meta.get("digest") == _digest(cached)
        if same and len(_in_cylinder(cached)) >= FEWEST_GALAXIES:
            return cached
    except ClusterToolsError:
        pass  # no answer yet, or a damaged one: ask again
    field = _ask_skyserver(release)
    field.meta = {"query": sdss_query(), "release": release, "digest": _digest(field)}
    with store.atomic(path) as temporary:
        field.write(temporary, format="ascii.ecsv", overwrite=True)
    return field


def _digest(field: Table) -> str:
    return store.digest(np.array([field[name] for name in field.colnames]).tobytes())


def _ask_skyserver(release: int) -> Table:
    """Send `sdss_query` to SkyServer and check what comes back."""
    from astroquery.sdss import SDSS, conf

    def failure(what: str) -> ClusterToolsError:
        return ClusterToolsError(
            f"SDSS DR{release} at {conf.skyserver_baseurl} {what}; expected a table of galaxies: try again later, ask "
            f"another release (release={12 if release == 17 else 17}), or use the sample that ships with the project "
            '(coma_sample="desi").'
        )

    try:
        # Not `query_sql`: it takes an answer of one line for the name of a file. And astroquery's
        # own cache would keep an error page for a week.
        response = SDSS.query_sql_async(sdss_query(), data_release=release, timeout=conf.timeout, cache=False)
        response.raise_for_status()
    except OSError as error:  # what requests raises, time-outs and broken transfers included
        status = getattr(getattr(error, "response", None), "status_code", None)
        what = f"answered with HTTP status {status}" if status else f"gave no whole answer ({type(error).__name__})"
        raise failure(what) from error
    text = response.text
    try:
        answer = Table.read(text.splitlines(), format="ascii.csv", comment="#")
    except Exception:  # the parser meets whatever the server sends, often a page of HTML
        answer = Table()
    if not {"ra", "dec", "z", "logMass", "n_rows"} <= set(answer.colnames):
        raise failure(f"sent {' '.join(text.split())[:80]!r}")
    if len(answer) == 0:
        raise failure("sent no rows")
    # A cut in the last row is seen as well: n_rows is the last column.
    if not np.all(np.ma.filled(answer["n_rows"] == len(answer), False)):
        raise failure(f"sent {len(answer)} rows, not as many as it counted")
    try:
        field = standard_columns(answer, "the answer")
    except ClusterToolsError as error:
        raise failure(f"sent values that cannot be used ({error})") from error
    if (n_cylinder := len(_in_cylinder(field))) < FEWEST_GALAXIES:  # not to be cached
        raise failure(f"sent {len(field)} galaxies with {n_cylinder} in the cylinder, fewer than {FEWEST_GALAXIES}")
    return field
