"""Tables of galaxies: columns with usual names are checked and brought to standard names and units."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from cluster_tools import cells, paths, table_files
from cluster_tools.cosmology import SPEED_OF_LIGHT
from cluster_tools.errors import ClusterToolsError

# Usual names in lower case, most explicit first: a table of photometry may hold the z magnitude as "z".
NAMES = {
    "ra": ("ra", "ra_deg", "radeg", "raj2000", "ra_j2000", "_raj2000", "ra_icrs", "target_ra", "right_ascension",
           "alpha_j2000", "ra_fk5", "ra_d", "ra_mean", "mean_fiber_ra", "raopt", "_ra", "ra2000", "al2000",
           "alpha", "ra_1"),
    "dec": ("dec", "dec_deg", "decdeg", "dedeg", "decj2000", "dec_j2000", "dej2000", "_dej2000", "de_icrs", "dec_icrs",
            "target_dec", "declination", "decl", "delta_j2000", "dec_fk5", "dec_d", "dec_mean", "mean_fiber_dec",
            "decopt", "_de", "_dec", "dec2000", "de2000", "de", "delta", "dec_1"),
    "z": ("redshift", "z_spec", "zspec", "specz", "spec_z", "zsp", "z_sp", "redshift_spec", "z_best", "zbest",
          "z_helio", "zhelio", "zhel", "z_hel", "z_obs", "zobs", "z_gal", "zgal", "z_final", "zfinal",
          "redshift_helio", "helio_redshift", "heliocentric_redshift", "spectroscopic_redshift", "z_value",
          "rvz_redshift", "z", "z_1"),
    "cz": ("cz", "cz_helio", "czhelio", "cz_hel", "czhel", "hv", "vhelio", "v_helio", "vhel", "v_hel", "helio_velocity",
           "heliocentric_velocity", "hrv", "vh"),
    "log_mstar": ("log_mstar", "logmstar", "log_mass", "logmass", "log_stellar_mass", "lgm_tot_p50", "mstar"),
    "mag_g": ("mag_g", "g_mag", "gmag", "dered_g", "modelmag_g", "cmodelmag_g", "petromag_g", "g"),
    "mag_r": ("mag_r", "r_mag", "rmag", "dered_r", "modelmag_r", "cmodelmag_r", "petromag_r", "r"),
    "flux_g": ("flux_g",),
    "flux_r": ("flux_r",),
}  # fmt: skip
# Names of velocities. Those that are not cz may be relative to the cluster, and need a unit to pass for cz.
VELOCITIES = (*NAMES["cz"], "v", "vel", "velo", "velocity", "v_los", "rv", "vrad", "radial_velocity")
# Names of errors of redshifts, and of velocities [km/s].
Z_ERRORS, VELOCITY_ERRORS = (
    tuple(error.format(name) for name in names for error in ("{}_err", "e_{}", "{}_error", "err_{}"))
    for names in (NAMES["z"][::-1], VELOCITIES)
)
# Signs of a good or bad redshift, by which one of several of the same galaxy is chosen.
QUALITY = {
    "warning": ("zwarn", "zwarning", "z_warn", "z_warning"),
    "class": ("spectype", "class", "spec_class"),
    "quality": ("q", "qz", "q_z", "zq", "z_q", "nq", "qop", "zqual", "z_qual", "zquality", "z_quality", "quality"),
    "error": (*Z_ERRORS, "z_sigma", *VELOCITY_ERRORS),
}  # fmt: skip
# Parts of sexagesimal positions in the standard of the AAS and CDS.
PARTS = {"ra": ("RAh", "RAm", "RAs"), "dec": ("DE-", "DEd", "DEm", "DEs")}
# Unified content descriptors (IVOA), which VOTables carry.
UCDS = {"ra": "pos.eq.ra", "dec": "pos.eq.dec", "z": "src.redshift"}
HOURS = ("h", "hr", "hrs", "hour", "hours", "hourangle")
LONGEST_NAME = 200  # characters; a longer name of a column is no usual one
MOST_WORDS = 5  # different numbers of a column, such as 999, that mean "missing"
MASSES = (("log_mstar",), ("mag_g", "mag_r"), ("flux_g", "flux_r"))  # columns that tell a stellar mass, the best first
LINEAR = 1e5  # above any log10 of a stellar mass
VELOCITY = 100.0  # the least median of redshifts out of range that are taken for velocities [km/s]
SEXAGESIMAL = ("h:m:s", "hms", "hh:mm:ss", "d:m:s", "dms", "dd:mm:ss")
# Spellings of log10 Msun in lower case, without blanks and underscores, "solMass" as "Msun". Other units of mass are
# refused, not converted: in a column such as "mstar", unit and values may disagree.
LOG_MSUN = ("dex", *(f"{log}({mass})" for log in ("dex", "log", "log10", "lg") for mass in ("msun", "m/msun")),
            "[msun]", "log[msun]", "log10[msun]", "logmsun", "log10msun")  # fmt: skip
MAGNITUDES = (None, ("mag", "mags", "mag(ab)", "abmag", "abmags"), 0.0, 40.0, "AB magnitudes")
NANOMAGGIES = (u.nmgy, ("nanomaggy", "nanomaggies"), 1e-6, 1e9, "fluxes above zero in nanomaggies")
# Unit of a standard column (None: only the spellings), spellings beyond astropy's own, range of values, and words.
EXPECTED = {
    "ra": (u.deg, ("degrees",), 0.0, 360.0, "degrees from 0 to 360"),
    "dec": (u.deg, ("degrees",), -90.0, 90.0, "degrees from -90 to 90"),
    "z": (u.dimensionless_unscaled, ("redshift",), -0.01, 10.0, "redshifts, not velocities in km/s"),
    "log_mstar": (None, LOG_MSUN, 0.0, 15.0, "log10 of the stellar mass in Msun, no h"),
    **dict.fromkeys(("mag_g", "mag_r"), MAGNITUDES),
    **dict.fromkeys(("flux_g", "flux_r"), NANOMAGGIES),
}


def read_galaxies(path: str | os.PathLike, *, with_mass: bool = True) -> Table:
    """Read a table of galaxies from a file (`table_files.read`) and bring it to `standard_columns`.

    Without `with_mass`, a table without stellar masses and photometry passes. Raises `ClusterToolsError` if the file
    is missing, unreadable or no table, or `standard_columns` refuses it.
    """
    return standard_columns(table_files.read(path, find), paths.shown(path), with_mass=with_mass)


def find(names: Sequence[str], columns: Mapping[str, str] | None = None, others: Sequence[str] = ()) -> dict:
    """Which of `names` may hold each standard column of `NAMES` and `QUALITY`, best first, by standard name.

    `columns` are given by standard name; `others` are wanted under their own names.
    """
    # Reversed, so that the first of two columns that differ in case only is taken.
    exact = {str(name).strip().lower(): name for name in reversed(names)}
    simple = {plain(name): name for name in reversed(names)}
    simple = {plain(re.sub(r"^\w+\.(?=\w+$)", "", str(name))): name for name in reversed(names)} | simple  # coord.ra
    found = {other: [other] for other in others if other in names}
    for wanted, aliases in (NAMES | QUALITY).items():
        matches = [*map(exact.get, aliases), *map(simple.get, map(plain, aliases))]
        if columns and wanted in columns:
            matches = [columns[wanted]]
        if matches := [name for name in dict.fromkeys(matches) if name is not None]:
            found[wanted] = matches
    for wanted, parts in PARTS.items():
        if wanted not in found and parts[-2] in names:
            found[wanted] = [part for part in parts if part in names]
    velocities = [*map(exact.get, VELOCITIES), *map(simple.get, map(plain, VELOCITIES))]
    if not {"z", "cz"} & found.keys() and any(velocities):
        found["velocity"] = [name for name in dict.fromkeys(velocities) if name is not None]
    return found


@lru_cache(4096)  # the usual names, and those of tables at hand
def plain(name) -> str:
    """A name of a column without case, blanks, underscores, dots, a unit, and what is in brackets."""
    if len(str(name)) > LONGEST_NAME:
        return str(name)
    return re.sub(r"_(km_?s|deg)$|[\s_.]|\(.*\)|\[.*\]", "", str(name).lower())


def unit_of(column) -> u.UnitBase | None:
    """The unit of a column, or of its name, such as ``cz [m/s]``, ``cz_kms`` or HyperLeda's ``al2000`` (hours)."""
    unit, name = getattr(column, "unit", None), str(column.info.name).lower()
    named = re.search(r"[\[(]([^\[\]()]*)[\])]\s*$|_(km_?s|deg)$", name)
    text = "h" if name == "al2000" else cells.unit_text(named[1] or named[2]) if named else ""
    if not unit and cells.UNIT.fullmatch(text):
        unit = cells.parsed_unit(text)
    return unit


def listed(table: Table) -> str:
    """The names of a table's columns, for messages."""
    return ", ".join(map(repr, table.meta.get("columns", table.colnames)[:12]))[:200] or "none"


def standard_columns(
    table: Table,
    name: str,
    *,
    with_mass: bool | None = True,
    every_row: bool = True,
    columns: Mapping[str, str] | None = None,
) -> Table:
    """Bring the columns that weighing needs to standard names and units; rows and meta are those of `table`.

    The result has ``ra`` and ``dec`` (J2000, deg), ``z``, and either ``log_mstar`` (log10 Msun, no h) or ``mag_g``
    and ``mag_r`` (AB), or neither. A column is looked for in this order: as given in `columns`, such as {"z": "ZBEST"}
    or {"cz": "VEL"}, by UCD (`UCDS`) with meta.main, by name (`NAMES`, whatever the case), by any UCD. One of numbers
    goes before one of text. Angles (sexagesimal, too), fluxes and velocities cz are converted; so are stellar masses
    if all are too large for a log10. Others must be log10 Msun, and magnitudes AB. A column without a unit is taken to
    have the right one.

    Raises `ClusterToolsError` if the table, `name` in messages, has no rows, or a column is missing, not numeric, in
    another unit, out of range or incomplete. With `with_mass` False, masses and photometry may be missing, from the
    table or in a row (NaN); with None, those that are not usable are left out. Without `every_row`, positions and
    redshifts that are missing, out of range, or redshifts of exactly 0, are NaN.
    """
    if len(table) == 0:
        raise ClusterToolsError(f"{name!r} has no rows; expected a header and one galaxy a row.")
    sources = _sources(table, name, columns or {})
    if missing := [wanted for wanted in ("ra", "dec", "z") if wanted not in sources]:
        if missing == ["z"] and "velocity" in sources:
            raise ClusterToolsError(
                f"{name!r} has velocities in column {sources['velocity']!r} but no redshifts; if they are cz in km/s, "
                f"say so (--column cz={sources['velocity']}, columns={{'cz': {sources['velocity']!r}}}), or add a "
                "column 'z' with z = cz / 299792.458."
            )
        hint = f", or say which it is (--column {missing[0]}=..., columns={{{missing[0]!r}: ...}})"
        hint = "" if columns is None else hint  # they cannot be named
        raise ClusterToolsError(
            f"{name!r} has no column of {missing[0]} (found {listed(table)}); rename the right one to "
            f"{missing[0]!r}{hint}."
        )
    masses = next((choice for choice in MASSES if set(choice) <= set(sources)), ())
    if with_mass and not masses:
        raise ClusterToolsError(
            f"{name!r} has neither stellar masses nor g and r photometry (found {listed(table)}); add "
            "log_mstar (log10 Msun), mag_g and mag_r (AB), or flux_g and flux_r (nanomaggies), or min_log_mstar=None."
        )
    result = Table(meta=dict(table.meta))
    for wanted in ("ra", "dec", "z"):
        result[wanted] = _values(table, sources, name, wanted, every_row=every_row)
    try:
        result.update({each: _values(table, sources, name, each, every_row=bool(with_mass)) for each in masses})
    except ClusterToolsError:
        if with_mass is not None:
            raise
    for flux, magnitude in (("flux_g", "mag_g"), ("flux_r", "mag_r")):
        if flux in result.colnames:  # definition of nanomaggies
            result[flux] = 22.5 - 2.5 * np.log10(result[flux])
            result.rename_column(flux, magnitude)
    return result


def _sources(table: Table, name: str, given: Mapping[str, str]) -> dict[str, str]:
    """The column of `table` by standard name, for those that are there; ``velocity`` if it has no redshift."""
    for wanted, column in given.items():
        if wanted not in NAMES | QUALITY:
            raise ClusterToolsError(f"columns names {wanted!r}, but only {', '.join(NAMES | QUALITY)} can be given.")
        if column not in table.colnames:
            raise ClusterToolsError(
                f"{name!r} has no column {column!r}, which is given for {wanted} (found {listed(table)})."
            )
    found = find(table.colnames, given)
    ucds = {column: _ucd(table, number, column) for number, column in enumerate(table.colnames, 1)}
    for wanted in UCDS.keys() - given.keys():
        main, other = ([c for c, ucd in ucds.items() if ucd == UCDS[wanted] + end] for end in (";meta.main", ""))
        if candidates := [*main, *found.get(wanted, ()), *other]:
            found[wanted] = candidates
    sources = {wanted: next((c for c in cs if _is_numeric(table[c])), cs[0]) for wanted, cs in found.items()}
    if "z" not in sources or ("cz" in given and "z" not in given):
        velocities = found.get("cz", []) + [c for c in found.get("velocity", ()) if _is_velocity(table[c])]
        if velocities:
            sources["z"] = sources["cz"] = velocities[0]
    return sources


def _is_numeric(column) -> bool:
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    return kind in "iuf" or (kind == "O" and any(map(cells.is_number, column[:100])))


def _ucd(table: Table, number: int, column: str) -> str:
    """The UCD of a column; TOPCAT writes it into the header of a FITS file."""
    meta = getattr(table[column].info, "meta", None)
    ucd = (meta.get("ucd") if isinstance(meta, Mapping) else None) or table.meta.get(f"TUCD{number}") or ""
    return str(ucd).lower()


def _is_velocity(column) -> bool:
    """Whether the unit of a column is that of velocities; v_los, relative to the cluster, is no redshift."""
    unit = unit_of(column)
    relative = plain(column.info.name) == "vlos"
    return not relative and isinstance(unit, u.UnitBase) and unit.is_equivalent(u.km / u.s)


def _values(table: Table, sources: Mapping[str, str], name: str, wanted: str, *, every_row: bool) -> Column:
    """A column as float64 (n,) in the unit of `EXPECTED`; unusable values are NaN unless every row counts."""
    unit, spellings, low, high, expected = EXPECTED[wanted]
    column = table[sources[wanted]]
    label = f"{name!r}, column {column.info.name!r}"
    given = str(unit_of(column) or "").strip()
    spelling = given.lower().replace(" ", "").replace("_", "").replace("solmass", "msun")
    try:
        if sources[wanted] in PARTS.get(wanted, ()):
            values, spelling = _from_parts(table, wanted), ""
        else:
            angles = {"ra": cells.HOURS, "dec": cells.DEGREES}.get(wanted)
            angles = cells.DEGREES if angles and spelling.startswith("d") and ":" in spelling else angles
            values = cells.numbers(getattr(column, "value", column), angles, thousands=wanted == "z")
    except cells.NotANumber as error:
        raise ClusterToolsError(
            f"{label}, is not numeric (found {error}); expected {expected}: write one number a row, and leave the cell "
            "empty where there is none."
        ) from None

    is_cz = wanted == "z" and (sources["z"] == sources.get("cz") or _is_velocity(column))
    is_cz = is_cz and not (given and np.all(np.abs(values[np.isfinite(values)]) < EXPECTED["z"][3]))  # redshifts
    speed = unit_of(column) if given else u.km / u.s
    if is_cz and isinstance(speed, u.UnitBase) and speed.is_equivalent(u.km / u.s):
        values = values * (speed.to(u.km / u.s) / SPEED_OF_LIGHT)
    elif wanted == "ra" and spelling in HOURS:
        values = values if cells.are_angles(column) else 15 * values  # angles are converted already
    elif wanted == "log_mstar" and spelling in ("", "msun") and 0 < np.sum(values > 0) <= 2 * np.sum(values > LINEAR):
        values = np.log10(values, where=values > 0, out=np.full(len(values), np.nan))
    elif spelling not in ("", "dimensionless", *spellings, *SEXAGESIMAL):
        try:
            values = unit_of(column).to(u.Unit(unit), values)  # Unit(None) raises TypeError
        except (AttributeError, TypeError, ValueError):
            raise ClusterToolsError(
                f"{label}, is in {given!r}; expected {expected}: convert the column, or mend its unit if that is wrong."
            ) from None
    if wanted == "ra":  # it may run from -180 to 180
        values = np.where((values >= -180) & (values < 0), values + 360, values)
    if wanted == "z" and not every_row:
        values = np.where(values == 0, np.nan, values)  # not measured
    values = _in_range(values, label, wanted, every_row)
    unit = u.deg if wanted in ("ra", "dec") else None
    description = f"{'cz of ' * is_cz}column {sources[wanted]}"
    return Column(values, unit=unit, description=description, meta={"unit": given})


def _from_parts(table: Table, wanted: str) -> np.ndarray:
    """Degrees from the columns `PARTS` of a sexagesimal position."""
    whole, *smaller = (cells.numbers(table[part]) if part in table.colnames else 0.0 for part in PARTS[wanted][-3:])
    values = whole + sum(part / 60**power for power, part in enumerate(smaller, 1))
    negative = "DE-" in table.colnames and [cells.text(cell) == "-" for cell in table["DE-"].tolist()]
    return 15 * values if wanted == "ra" else np.where(negative, -values, values)


def _in_range(values, label: str, wanted: str, every_row: bool) -> np.ndarray:
    """Values, those out of range as NaN; refused if most are too large, or if every row counts and one is unusable."""
    _, _, low, high, expected = EXPECTED[wanted]
    missing = ~np.isfinite(values)
    wrong = ~missing & ((values < low) | (values > high))
    remedy = "drop these rows" if wanted in ("ra", "dec", "z") else "drop these rows or set min_log_mstar=None"
    if every_row and missing.any():
        raise ClusterToolsError(
            f"{label}, has {missing.sum()} of {len(values)} values missing, NaN or infinite "
            f"(first in row {missing.argmax() + 1}); {remedy}."
        )
    # Some values out of range may mean "missing". If most are too large, or several redshifts are velocities, the
    # column holds another quantity.
    mixed = wanted == "z" and len(np.unique(values[values > VELOCITY])) > MOST_WORDS
    if wrong.any() and (every_row or mixed or 2 * np.sum(values[~missing] > high) > np.sum(~missing)):
        holds = ""
        if wanted == "z" and np.median(values[wrong]) > VELOCITY:
            holds, remedy = " and holds velocities", "if they are cz, say so (--column cz=..., columns={'cz': ...})"
        raise ClusterToolsError(
            f"{label}, has {wrong.sum()} of {len(values)} values out of range{holds} (first {values[wrong][0]:g} in "
            f"row {wrong.argmax() + 1}); expected {expected}: convert the column, or {remedy}."
        )
    return np.where(missing | wrong, np.nan, values)
