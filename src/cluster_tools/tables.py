"""Tables of galaxies from files: columns with usual names are checked and brought to standard names and units."""

from __future__ import annotations

import gzip
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from cluster_tools import paths
from cluster_tools.cosmology import SPEED_OF_LIGHT
from cluster_tools.errors import ClusterToolsError

FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits",
           ".vot": "votable", ".votable": "votable", ".xml": "votable"}  # fmt: skip

# Usual names in lower case, most explicit first: a table of photometry may hold the z magnitude as "z".
NAMES = {
    "ra": ("ra", "ra_deg", "radeg", "raj2000", "ra_j2000", "_raj2000", "ra_icrs", "target_ra", "right_ascension"),
    "dec": ("dec", "dec_deg", "decdeg", "decj2000", "dec_j2000", "dej2000", "_dej2000", "de_icrs", "dec_icrs",
            "target_dec", "declination"),
    "z": ("redshift", "z_spec", "zspec", "specz", "z_helio", "zhelio", "zhel", "z"),
    "log_mstar": ("log_mstar", "logmstar", "log_mass", "logmass", "log_stellar_mass", "lgm_tot_p50", "mstar"),
    "mag_g": ("mag_g", "g_mag", "gmag", "dered_g", "modelmag_g", "cmodelmag_g", "petromag_g", "g"),
    "mag_r": ("mag_r", "r_mag", "rmag", "dered_r", "modelmag_r", "cmodelmag_r", "petromag_r", "r"),
    "flux_g": ("flux_g",),
    "flux_r": ("flux_r",),
}  # fmt: skip
# Unified content descriptors (IVOA), which VOTables carry.
UCDS = {"ra": "pos.eq.ra", "dec": "pos.eq.dec", "z": "src.redshift"}
VELOCITIES = ("cz", "v", "vel", "velocity", "v_los", "vhelio", "v_helio", "hrv", "rv")
# Spellings of log10 Msun in lower case, without blanks and underscores, "solMass" as "Msun". Other units of mass are
# refused, not converted: in a column such as "mstar", unit and values may disagree.
LOG_MSUN = ("dex", *(f"{log}({mass})" for log in ("dex", "log", "log10", "lg") for mass in ("msun", "m/msun")),
            "[msun]", "log[msun]", "log10[msun]", "logmsun", "log10msun")  # fmt: skip
AB = ("mag", "mags", "mag(ab)", "abmag", "abmags")
NANOMAGGIES = (u.nmgy, ("nanomaggy", "nanomaggies"), 1e-6, 1e9, "fluxes above zero in nanomaggies")
MAGNITUDES = (None, AB, 0.0, 40.0, "AB magnitudes")
# Unit of a standard column (None: only the spellings), spellings beyond astropy's own, range of values, and words.
EXPECTED = {
    "ra": (u.deg, ("degrees",), 0.0, 360.0, "degrees from 0 to 360"),
    "dec": (u.deg, ("degrees",), -90.0, 90.0, "degrees from -90 to 90"),
    "z": (u.dimensionless_unscaled, ("redshift",), -0.01, 10.0, "redshifts, not velocities in km/s"),
    "log_mstar": (None, LOG_MSUN, 0.0, 15.0, "log10 of the stellar mass in Msun, no h"),
    "mag_g": MAGNITUDES,
    "mag_r": MAGNITUDES,
    "flux_g": NANOMAGGIES,
    "flux_r": NANOMAGGIES,
}


def read_galaxies(path: str | os.PathLike, *, with_mass: bool = True) -> Table:
    """Read a table of galaxies from a file of `FORMATS`, also with .gz, and bring it to `standard_columns`.

    Without `with_mass`, a table without stellar masses and photometry passes. Raises `ClusterToolsError` if the file
    is missing, unreadable or of another format, or `standard_columns` refuses the table.
    """
    return standard_columns(read(path), paths.shown(path), with_mass=with_mass)


def read(path: str | os.PathLike) -> Table:
    """Read a CSV, ECSV, FITS or VOTable file as it is, and fetch nothing that it names; errors as `read_galaxies`."""
    given, path = os.fspath(path), Path(path)
    name = paths.shown(path) if given else ""  # Path("") is "."
    if not os.path.isfile(given):
        state = "is a directory" if os.path.isdir(given) else "does not exist"
        raise ClusterToolsError(f"{name!r} {state}; give the path of a CSV, ECSV, FITS or VOTable table of galaxies.")
    kind = FORMATS.get(Path(given.lower().removesuffix(".gz")).suffix)
    if kind is None:
        raise ClusterToolsError(
            f"{name!r} is no .csv, .ecsv, .fits or .vot file; save the table in one of these formats."
        )
    # SkyServer begins a CSV file with the comment "#Table1".
    options = {"ascii.csv": {"comment": "#"}, "fits": {"memmap": False}}.get(kind, {})
    remedy = "open it with astropy.table.Table.read, mend it and write it again"
    if kind == "ascii.csv":
        remedy = "write column names, without '#', in the first line and values separated by commas in the others"
    with parsing(f"{name!r} cannot be read as {kind.split('.')[-1].upper()}", remedy):
        if kind == "votable":
            _refuse_references(path, name)
        table = Table.read(path, format=kind, **options)
    names = table.colnames
    if kind == "ascii.csv" and (len(names) < 2 or sum(map(_is_number, names)) > len(names) / 2):
        raise ClusterToolsError(
            f"{name!r} has {','.join(names)[:60]!r} where the names of its columns should be; expected a first line "
            "such as 'ra,dec,z,log_mstar', without '#', and commas between values: write it so, or as ECSV."
        )
    return table


@contextmanager
def parsing(failure: str, remedy: str) -> Iterator[None]:
    """Turn any exception of a parser into a `ClusterToolsError`: `failure`, the reason, `remedy`; hide its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values are checked later
            yield
    except ClusterToolsError:
        raise
    except Exception as error:
        raise ClusterToolsError(f"{failure} ({' '.join(str(error).split())[:120]}); {remedy}.") from error


def _refuse_references(path: Path, name: str) -> None:
    """Refuse a VOTable whose data lie elsewhere: astropy would open any file or address that it names."""
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        for _, element in ElementTree.iterparse(file, events=("start",)):
            if "href" in element.attrib and element.tag.rpartition("}")[2] != "LINK":
                raise ClusterToolsError(
                    f"{name!r} keeps its data in another place ({element.attrib['href'][:60]!r}), which is not opened; "
                    "save the table whole, in one file."
                )


def listed(table: Table) -> str:
    """The names of a table's columns, for messages."""
    return ", ".join(map(repr, table.colnames[:12]))[:200] or "none"


def standard_columns(
    table: Table, name: str, *, with_mass: bool = True, every_row: bool = True, columns: Mapping[str, str] | None = None
) -> Table:
    """Bring the columns that weighing needs to standard names and units; rows and meta are those of `table`.

    The result has ``ra`` and ``dec`` (J2000, deg), ``z``, and either ``log_mstar`` (log10 Msun, no h) or ``mag_g``
    and ``mag_r`` (AB), or neither. A column is taken as given in `columns`, such as {"z": "ZBEST"}, or by UCD
    (`UCDS`) with meta.main, by name (`NAMES`, whatever the case), or by UCD, in this order; one of numbers before one
    of text. Angles and fluxes are converted. Stellar masses must be log10 Msun and magnitudes AB. A column without a
    unit is taken to have the right one.

    Raises `ClusterToolsError` if the table, `name` in messages, has no rows, or a column is missing, not numeric, in
    another unit, out of range or incomplete. Without `with_mass`, masses and photometry may be missing, from the
    table or in a row (NaN). Without `every_row`, positions and redshifts that are missing or out of range are NaN,
    and velocities cz [km/s] pass for redshifts if their unit or the name "cz" says so.
    """
    if len(table) == 0:
        raise ClusterToolsError(f"{name!r} has no rows; expected a header and one galaxy a row.")
    # Reversed, so that the first of two columns that differ in case only is taken.
    named = {str(column).strip().lstrip("\ufeff").lower(): column for column in reversed(table.colnames)}
    sources = _find_columns(table, name, named, columns or {})
    velocities = [named[velocity] for velocity in VELOCITIES if velocity in named]
    if "z" not in sources and not every_row and (cz := [column for column in velocities if _is_cz(table[column])]):
        sources["z"] = cz[0]
    if "z" not in sources and velocities and {"ra", "dec"} <= set(sources):
        raise ClusterToolsError(
            f"{name!r} has velocities in column {velocities[0]!r} but no redshifts; "
            "add a column 'z', for velocities cz in km/s as z = cz / 299792.458."
        )
    if missing := [wanted for wanted in ("ra", "dec", "z") if wanted not in sources]:
        raise ClusterToolsError(
            f"{name!r} has no column of {missing[0]} (found {listed(table)}); rename the right one to {missing[0]!r}."
        )
    choices = [("log_mstar",), ("mag_g", "mag_r"), ("flux_g", "flux_r")]
    masses = next((choice for choice in choices if set(choice) <= set(sources)), ())
    if with_mass and not masses:
        raise ClusterToolsError(
            f"{name!r} has neither stellar masses nor g and r photometry (found {listed(table)}); add log_mstar (log10 "
            "Msun), or mag_g and mag_r (AB), or flux_g and flux_r (nanomaggies), or do without the cut: "
            "min_log_mstar=None."
        )
    result = Table(meta=dict(table.meta))
    for wanted in ("ra", "dec", "z", *masses):
        column, source = table[sources[wanted]], f"column {sources[wanted]}"
        cz = wanted == "z" and not every_row and _is_cz(column)
        values = _values(column, wanted, name, every_row=with_mass if wanted in masses else every_row, cz=cz)
        if wanted.startswith("flux"):
            wanted, values = wanted.replace("flux", "mag"), 22.5 - 2.5 * np.log10(values)  # definition of nanomaggies
        unit = u.deg if wanted in ("ra", "dec") else None
        result[wanted] = Column(values, unit=unit, description=f"cz of {source}" if cz else source)
    return result


def _find_columns(table: Table, name: str, named: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Name of the column in `table` by standard name, for those that are there."""
    for wanted, column in given.items():
        if wanted not in NAMES:
            raise ClusterToolsError(f"columns names {wanted!r}, but only {', '.join(NAMES)} can be given.")
        if column not in table.colnames:
            raise ClusterToolsError(
                f"{name!r} has no column {column!r}, which is given for {wanted} (found {listed(table)})."
            )
    ucds = {column: _ucd(table, number, column) for number, column in enumerate(table.colnames, 1)}
    sources = dict(given)
    for wanted in NAMES.keys() - given.keys():
        main, other = ([c for c, ucd in ucds.items() if wanted in UCDS and ucd == UCDS[wanted] + end]
                       for end in (";meta.main", ""))  # fmt: skip
        candidates = [*main, *(named[alias] for alias in NAMES[wanted] if alias in named), *other]
        numeric = [c for c in candidates if getattr(getattr(table[c], "dtype", None), "kind", "O") in "iuf"]
        if candidates:
            sources[wanted] = (numeric or candidates)[0]
    return sources


def _ucd(table: Table, number: int, column: str) -> str:
    """The UCD of a column; TOPCAT writes it into the header of a FITS file."""
    meta = getattr(table[column].info, "meta", None)
    ucd = (meta.get("ucd") if isinstance(meta, Mapping) else None) or table.meta.get(f"TUCD{number}") or ""
    return str(ucd).lower()


def _is_cz(column) -> bool:
    """Whether a column holds velocities cz: by its unit, or by its name if it has none."""
    unit, name = getattr(column, "unit", None), str(column.info.name).strip().lower()
    if unit is None or not str(unit):
        return name == "cz"
    # Velocities v_los relative to the cluster are no redshifts, whatever their unit.
    return name != "v_los" and getattr(unit, "is_equivalent", lambda other: False)(u.km / u.s)


def _values(column, wanted: str, name: str, *, every_row: bool, cz: bool) -> np.ndarray:
    """A column as float64 (n,) in the unit of `EXPECTED`; unusable values are NaN unless every row counts."""
    unit, spellings, low, high, expected = EXPECTED[wanted]
    label = f"{name!r}, column {column.info.name!r}"
    values = np.ma.asanyarray(getattr(column, "value", column))
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        texts = [value for value in values.tolist() if value is not None]
        first = next((value for value in texts if not _is_number(value)), texts[0] if texts else None)
        raise ClusterToolsError(
            f"{label}, is not numeric (found {str(first)[:40]!r}); expected {expected}: write it as a column of "
            "numbers, one number a row."
        )
    values = values.astype(float).filled(np.nan)

    given = str(getattr(column, "unit", None) or "").strip()
    spelling = given.lower().replace(" ", "").replace("_", "").replace("solmass", "msun")
    if cz:
        values = values * (u.Unit(given or "km/s").to(u.km / u.s) / SPEED_OF_LIGHT)
    elif spelling not in ("", "dimensionless", *spellings):
        try:
            values = column.unit.to(u.Unit(unit), values)  # Unit(None) raises TypeError
        except (AttributeError, TypeError, ValueError):
            raise ClusterToolsError(
                f"{label}, is in {given!r}; expected {expected}: convert the column, or mend its unit if that is wrong."
            ) from None

    if wanted == "ra" and not every_row:  # it may run from -180 to 180
        values = np.where((values >= -180) & (values < 0), values + 360, values)
    missing = ~np.isfinite(values)
    wrong = ~missing & ((values < low) | (values > high))
    remedy = "drop these rows" if wanted in ("ra", "dec", "z") else "drop these rows or set min_log_mstar=None"
    if every_row and missing.any():
        raise ClusterToolsError(
            f"{label}, has {missing.sum()} of {len(values)} values missing, NaN or infinite "
            f"(first in row {missing.argmax() + 1}); {remedy}."
        )
    # Single values out of range may mean "missing"; if all are too large, the column holds another quantity.
    if wrong.any() and (every_row or np.all(values[~missing] > high)):
        raise ClusterToolsError(
            f"{label}, has {wrong.sum()} of {len(values)} values out of range (first {values[wrong][0]:g} in row "
            f"{wrong.argmax() + 1}); expected {expected}: convert the column, or {remedy}."
        )
    return np.where(missing | wrong, np.nan, values)


def _is_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
