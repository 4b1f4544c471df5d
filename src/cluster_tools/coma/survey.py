"""Samples of Coma's galaxies: DESI's ships with the project, SDSS's is downloaded, a user's is a table."""

import os
from contextlib import suppress

import numpy as np
from astropy import units as u
from astropy.table import Table

from cluster_tools import arrays, cosmology, paths, sky, store
from cluster_tools.cosmology import COMA_REDSHIFT, MIN_LOG_MSTAR
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.observe import APERTURE, FEWEST_GALAXIES, VELOCITY_CUT
from cluster_tools.tables import read_galaxies, standard_columns

CENTRE_RA, CENTRE_DEC = 194.95, 27.98  # deg, J2000; Abell, Corwin & Olowin (1989)
SDSS_RELEASE = 12  # the paper's
DESI_SOURCE = (
    "DESI spectroscopy (EDR and DR1, CC BY 4.0), the table that ships with the project; "
    "stellar masses from its g and r fluxes (Bell et al. 2003)"
)


def load_sample(
    sample: str | os.PathLike | None = "desi",
    *,
    min_log_mstar: float | None = MIN_LOG_MSTAR,
    release: int = SDSS_RELEASE,
    centre_ra: float = CENTRE_RA,
    centre_dec: float = CENTRE_DEC,
) -> Table:
    """The galaxies in Coma's cylinder and above the stellar-mass cut.

    The cylinder is that of the mock clusters: r_proj <= 2.3 Mpc/h, abs(v_los) < 3785 km/s. Columns: ``ra``, ``dec``
    [deg], ``z``, ``log_mstar`` [log10 Msun], ``v_los`` [km/s], ``r_proj`` [comoving Mpc/h]. The table's meta has
    ``sample``, ``source`` (in words), ``n_field`` (rows read), ``n_cylinder`` (before the mass cut), ``centre`` [deg],
    ``min_log_mstar`` and, for SDSS, ``release``, ``query``. Raises `ClusterToolsError` for an unknown sample, a table
    that cannot be used, an SDSS service that fails, and fewer than 11 galaxies left.

    Parameters
    ----------
    sample : str or path, optional
        ``"desi"``, ``"sdss"`` (the paper's, asked from SkyServer and cached), or a table of a user: CSV, ECSV, FITS or
        VOTable with positions, redshifts, and stellar masses or g and r photometry (see `tables.standard_columns`).
        None takes that of ``CLUSTER_TOOLS_COMA_SAMPLE``, or "desi".
    min_log_mstar : float, optional
        Lowest log10 stellar mass [Msun, no h]. None makes no cut, and missing masses are NaN.
    release : int
        Data release of SDSS.
    centre_ra, centre_dec : float
        Axis of the cylinder [deg]. SDSS's answer ends near the cylinder about Abell's centre.
    """
    sample = os.environ.get("CLUSTER_TOOLS_COMA_SAMPLE") or "desi" if sample is None else sample
    with_mass = min_log_mstar is not None
    if with_mass and not arrays.is_number(min_log_mstar):
        raise ClusterToolsError(f"min_log_mstar={min_log_mstar!r} is no number; expected log10 Msun, as 9.5, or None.")
    meta: dict = {"sample": str(sample), "centre": (float(centre_ra), float(centre_dec))}
    if sample == "desi":
        field = read_galaxies(paths.PACKAGE_DATA / "desi_coma.csv")
        meta["source"] = DESI_SOURCE
    elif sample == "sdss":
        path = paths.cache() / f"sdss_coma_dr{release}.ecsv"
        field = store.cached_table(path, sdss_query(), lambda: _ask_skyserver(release))
        meta["source"] = f"SDSS DR{release} redshifts and Portsmouth passive stellar masses (Kroupa), from SkyServer"
        meta |= {"release": release, "query": sdss_query()}
    else:
        path = paths.existing(sample) if isinstance(sample, str | os.PathLike) else None
        if path is None:
            raise ClusterToolsError(
                f'coma_sample={sample!r} is neither "desi" nor "sdss" nor a file that exists; '
                "give one of these names, or the path of a CSV, ECSV, FITS or VOTable table."
            )
        field = read_galaxies(path, with_mass=with_mass)
        masses = "its stellar masses" if "log_mstar" in field.colnames else "no stellar masses"
        if "mag_g" in field.colnames:
            masses = "stellar masses from its g and r photometry (Bell et al. 2003)"
        meta["source"] = f"the table {paths.shown(path)}, with {masses}"

    galaxies = _in_cylinder(field, centre_ra, centre_dec)
    galaxies.meta = meta | {"n_field": len(field), "n_cylinder": len(galaxies), "min_log_mstar": min_log_mstar}
    if with_mass:
        galaxies = galaxies[galaxies["log_mstar"] >= min_log_mstar]
    if len(galaxies) < FEWEST_GALAXIES:
        cut = f" and {len(galaxies)} of them with log_mstar >= {min_log_mstar:g}" if with_mass else ""
        raise ClusterToolsError(
            f"Coma sample {meta['sample']!r} has {len(field)} galaxies, {galaxies.meta['n_cylinder']} in the cylinder "
            f"({APERTURE} Mpc/h and {VELOCITY_CUT:g} km/s around {centre_ra:g} {centre_dec:g} deg, z = {COMA_REDSHIFT})"
            f"{cut}; expected at least {FEWEST_GALAXIES}: check the units of its columns and min_log_mstar, or use "
            'coma_sample="desi".'
        )
    return galaxies


def sdss_image() -> tuple[np.ndarray, dict]:
    """The image (48, 48) of SDSS's galaxies in Coma's cylinder, with axes [v_los, r_proj], and facts about them.

    The galaxies themselves do not ship; ``data/README.md`` says where they come from. Facts are ``galaxies``,
    ``dispersion`` [km/s], ``median_r_proj`` [Mpc/h] and ``beyond_1.9`` (share of galaxies).
    """
    head, *rows = (paths.PACKAGE_DATA / "sdss_coma_image.csv").read_text(encoding="utf-8").splitlines()
    facts = dict(word.split("=") for word in head.strip("# ").split(", "))
    return np.loadtxt(rows, delimiter=",", dtype=np.float32), {name: float(value) for name, value in facts.items()}


def _in_cylinder(field: Table, centre_ra: float = CENTRE_RA, centre_dec: float = CENTRE_DEC) -> Table:
    """The galaxies of a field in Coma's cylinder, with the columns of `load_sample`."""
    from astropy.cosmology.units import littleh  # starts slowly

    columns = {name: field[name] for name in ("ra", "dec", "z")}
    v_los, r_proj = sky.phase_space(**columns, centre_ra=centre_ra, centre_dec=centre_dec, redshift=COMA_REDSHIFT)
    if "log_mstar" in field.colnames:
        log_mstar = np.asarray(field["log_mstar"])
    elif "mag_g" in field.colnames:
        log_mstar = sky.stellar_mass(field["mag_g"], field["mag_r"])
    else:
        log_mstar = np.full(len(field), np.nan)
    columns |= {"log_mstar": log_mstar, "v_los": v_los, "r_proj": r_proj}
    units = {"ra": u.deg, "dec": u.deg, "log_mstar": u.dex(u.Msun), "v_los": u.km / u.s, "r_proj": u.Mpc / littleh}
    return Table(columns, units=units)[(r_proj <= APERTURE) & (np.abs(v_los) < VELOCITY_CUT)]


def sdss_query() -> str:
    """The SQL that asks SkyServer for the galaxies of a box around Coma's cylinder.

    ``SpecObj`` holds one spectrum an object; ``stellarMassPassivePort`` the masses of the paper (Maraston et al. 2009;
    passive template, Kroupa IMF; logMass in dex Msun, a fit only where positive). n_rows shows a cut answer.
    """
    angle = APERTURE / cosmology.comoving_distance(COMA_REDSHIFT)
    d_dec = np.degrees(angle) + 0.01
    d_ra = np.degrees(np.arcsin(np.sin(angle) / np.cos(np.radians(CENTRE_DEC)))) + 0.01
    d_z = VELOCITY_CUT / cosmology.SPEED_OF_LIGHT * (1 + COMA_REDSHIFT) + 0.0001
    return f"""\
SELECT s.ra, s.dec, s.z, m.logMass, COUNT(*) OVER () AS n_rows
FROM SpecObj AS s
JOIN stellarMassPassivePort AS m ON m.specObjID = s.specObjID
WHERE s.class = 'GALAXY' AND s.zWarning = 0 AND m.logMass > 0
  AND s.ra BETWEEN {CENTRE_RA - d_ra:.4f} AND {CENTRE_RA + d_ra:.4f}
  AND s.dec BETWEEN {CENTRE_DEC - d_dec:.4f} AND {CENTRE_DEC + d_dec:.4f}
  AND s.z BETWEEN {COMA_REDSHIFT - d_z:.5f} AND {COMA_REDSHIFT + d_z:.5f}"""


def _ask_skyserver(release: int) -> Table:
    """Send `sdss_query` to SkyServer and check the answer."""
    from astroquery.sdss import SDSS, conf

    def failure(problem: str) -> ClusterToolsError:
        return ClusterToolsError(
            f"SDSS DR{release} at {conf.skyserver_baseurl} {problem}; expected a table of galaxies: try again later, "
            f"ask another release (release={12 if release == 17 else 17}), or use the sample that ships with the "
            'project (coma_sample="desi").'
        )

    try:
        # Not `query_sql`, which takes an answer of one line for the name of a file. astroquery's own
        # cache would keep an error page for a week.
        response = SDSS.query_sql_async(sdss_query(), data_release=release, timeout=conf.timeout, cache=False)
        response.raise_for_status()
    except OSError as error:  # requests' base class, time-outs and broken transfers included
        status = getattr(getattr(error, "response", None), "status_code", None)
        problem = f"answered with HTTP status {status}" if status else f"gave no whole answer ({type(error).__name__})"
        raise failure(problem) from error
    text, answer = response.text, Table()
    with suppress(Exception):  # any text may come, often a page of HTML
        answer = Table.read(text.splitlines(), format="ascii.csv", comment="#")
    if not {"ra", "dec", "z", "logMass", "n_rows"} <= set(answer.colnames):
        raise failure(f"sent {' '.join(text.split())[:80]!r}")
    # n_rows is the last column, so that a cut in the last row shows as well.
    if not np.all(np.ma.filled(answer["n_rows"] == len(answer), False)):
        raise failure(f"sent {len(answer)} rows, not as many as it counted")
    try:
        field = standard_columns(answer, "the answer")
    except ClusterToolsError as error:
        raise failure(f"sent values that cannot be used ({error})") from error
    if (n_cylinder := len(_in_cylinder(field))) < FEWEST_GALAXIES:
        raise failure(f"sent {len(field)} galaxies with {n_cylinder} in the cylinder, fewer than {FEWEST_GALAXIES}")
    return field
