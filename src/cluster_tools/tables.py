"""Tables of galaxies from any file: found by common names, checked, in standard columns."""

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
from astropy.table import Table

from cluster_tools import paths
from cluster_tools.errors import ClusterToolsError

FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits",
           ".vot": "votable", ".votable": "votable", ".xml": "votable"}  # fmt: skip

# Lower case, most explicit first: a table of photometry may hold the z magnitude as "z".
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
# How the units of logarithms are spelt, less case, blanks, underscores and "solMass" for "Msun". Units of
# other logarithms, and of the mass itself, are refused rather than converted: a column of a name such as
# "mstar" whose unit and values disagree would come out wrong without a word.
LOG_MSUN = ("dex", *(f"{log}({mass})" for log in ("dex", "log", "log10", "lg") for mass in ("msun", "m/msun")),
            "[msun]", "log[msun]", "log10[msun]", "logmsun", "log10msun")  # fmt: skip
AB = ("mag", "mags", "mag(ab)", "abmag", "abmags")
# Column: the unit it is meant in (None: only the spellings), spellings beyond astropy's own, and the values
# it can have.
EXPECTED = {
    "ra": (u.deg, ("degrees",), 0.0, 360.0, "degrees from 0 to 360"),
    "dec": (u.deg, ("degrees",), -90.0, 90.0, "degrees from -90 to 90"),
    "z": (u.dimensionless_unscaled, ("redshift",), -0.01, 10.0, "redshifts, not velocities in km/s"),
    "log_mstar": (None, LOG_MSUN, 0.0, 15.0, "log10 of the stellar mass in Msun, no h"),
    "mag_g": (None, AB, 0.0, 40.0, "AB magnitudes"),
    "mag_r": (None, AB, 0.0, 40.0, "AB magnitudes"),
    "flux_g": (u.nmgy, ("nanomaggy", "nanomaggies"), 1e-6, 1e9, "fluxes above zero in nanomaggies"),
    "flux_r": (u.nmgy, ("nanomaggy", "nanomaggies"), 1e-6, 1e9, "fluxes above zero in nanomaggies"),
}


def read_galaxies(path: str | os.PathLike, *, with_mass: bool = True) -> Table:
    """Read a table of galaxies from a CSV, ECSV, FITS or VOTable file.

    Parameters
    ----------
    path : a file whose name ends in .csv, .ecsv, .fits, .fit, .vot, .votable or .xml (or these with .gz)
    with_mass : the table must give stellar masses, or g and r photometry to take them from

    Returns
    -------
    Table as `standard_columns` makes it.

    Raises
    ------
    ClusterToolsError
        For a file that is missing, of another format or unreadable, and for each reason of
        `standard_columns`.
    """
    return standard_columns(read(path), paths.shown(path), with_mass=with_mass)


def read(path: str | os.PathLike) -> Table:
    """The table in a CSV, ECSV, FITS or VOTable file as it is; the first of a FITS file that holds several.

    Nothing in the file is run and nothing that it names is fetched. Raises `ClusterToolsError` as `read_galaxies`.
    """
    given, path = os.fspath(path), Path(path)
    name = paths.shown(path) if given else ""  # Path("") is "."
    if not os.path.isfile(given):
        found = "is a directory" if os.path.isdir(given) else "does not exist"
        raise ClusterToolsError(f"{name!r} {found}; give the path of a CSV, ECSV, FITS or VOTable table of galaxies.")
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = FORMATS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise ClusterToolsError(
            f"{name!r} is no .csv, .ecsv, .fits or .vot file; save the table in one of these formats."
        )
    # "#Table1" is the first line of what SkyServer sends as CSV.
    options = {"ascii.csv": {"comment": "#"}, "fits": {"memmap": False}}.get(kind, {})
    remedy = "open it with astropy.table.Table.read, mend it and write it again"
    if kind == "ascii.csv":
        remedy = "write column names, without '#', in the first line and values separated by commas in the others"
    with parsing(f"{name!r} cannot be read as {kind.split('.')[-1].upper()}", remedy):
        if kind == "votable":
            _refuse_references(path, name)
        table = Table.read(path, format=kind, **options)
    if kind == "ascii.csv" and not _is_header(table.colnames):
        header = ",".join(table.colnames)[:60]
        raise ClusterToolsError(
            f"{name!r} has {header!r} where the names of its columns should be; expected a first line such as "
            "'ra,dec,z,log_mstar', without '#', and commas between values: write it so, or as ECSV."
        )
    return table


@contextmanager
def parsing(failure: str, remedy: str) -> Iterator[None]:
    """Whatever a parser raises becomes one sentence: `failure`, the reason, `remedy`. Its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is checked later
            yield
    except ClusterToolsError:
        raise
    except Exception as error:  # parsers raise whatever they meet
        raise ClusterToolsError(f"{failure} ({' '.join(str(error).split())[:120]}); {remedy}.") from error


def _refuse_references(path: Path, name: str) -> None:
    """Refuse a VOTable whose data lie elsewhere: astropy would open whatever file or address it names."""
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        for _, element in ElementTree.iterparse(file, events=("start",)):
            if "href" in element.attrib and element.tag.rpartition("}")[2] not in ("LINK",):
                raise ClusterToolsError(
                    f"{name!r} keeps its data in another place ({element.attrib['href'][:60]!r}), which is not opened; "
                    "save the table whole, in one file."
                )


def standard_columns(
    table: Table, name: str, *, with_mass: bool = True, every_row: bool = True, columns: Mapping[str, str] | None = None
) -> Table:
    """The columns that weighing a cluster needs, under standard names and in standard units.

    Parameters
    ----------
    table : any table; columns are found by common names whatever their case (`NAMES`), and
        their units are honoured: angles and fluxes are converted, anything but log10 Msun for
        stellar masses and AB for magnitudes is refused, no unit is taken for the right one
    name : what the table is called in error messages
    with_mass : refuse a table without stellar masses, or with rows that lack one; otherwise
        a mass that is not there is NaN
    every_row : refuse a table with positions or redshifts that are missing or out of range; otherwise they are
        NaN, and velocities cz [km/s] pass for redshifts if their unit or the name "cz" says what they are
    columns : names of columns by standard name, such as {"z": "ZBEST"}, where the usual ones are not meant

    Columns are looked for in this order: as given, by UCD (`UCDS`) with meta.main, by name, by UCD; and one of
    numbers comes before one of text, such as sexagesimal positions.

    Returns
    -------
    Table with ``ra`` and ``dec`` (J2000, deg), ``z``, and either ``log_mstar`` (log10 Msun) or
    ``mag_g`` and ``mag_r`` (AB); neither only if `with_mass` is False. Rows as in `table`, whose
    meta it keeps.

    Raises
    ------
    ClusterToolsError
        For no rows, columns that are missing, not numeric, in another unit, out of range, or
        with NaN, infinite or masked values.
    """
    if len(table) == 0:
        raise ClusterToolsError(f"{name!r} has no rows; expected a header and one galaxy a row.")
    found = _find_columns(table, name, columns or {})
    listed = ", ".join(map(repr, table.colnames[:12]))[:200] or "none"
    lower = {str(c).strip().lower(): c for c in reversed(table.colnames)}
    velocities = [lower[v] for v in VELOCITIES if v in lower]
    cz = [column for column in velocities if _is_cz(table[column])]
    if "z" not in found and cz and not every_row:
        found["z"] = cz[0]
    for wanted in ("ra", "dec", "z"):
        if wanted not in found and wanted == "z" and velocities:
            raise ClusterToolsError(
                f"{name!r} has velocities in column {velocities[0]!r} but no redshifts; "
                "add a column 'z', for velocities cz in km/s as z = cz / 299792.458."
            )
        if wanted not in found:
            raise ClusterToolsError(
                f"{name!r} has no column of {wanted} (found {listed}); rename the right one to {wanted!r}."
            )

    out = Table()
    for wanted in ("ra", "dec", "z"):
        column = table[found[wanted]]
        if converted := wanted == "z" and not every_row and _is_cz(column):
            column = _redshifts(column)
        out[wanted] = _values(column, wanted, name, every_row=every_row)
        out[wanted].info.description = f"{'cz of ' if converted else ''}column {found[wanted]}"
    out["ra"].unit = out["dec"].unit = u.deg
    out.meta = dict(table.meta)
    choices = [("log_mstar",), ("mag_g", "mag_r"), ("flux_g", "flux_r")]
    masses = next((c for c in choices if all(w in found for w in c)), None)
    if masses is None and with_mass:
        raise ClusterToolsError(
            f"{name!r} has neither stellar masses nor g and r photometry (found {listed}); add log_mstar (log10 Msun), "
            "or mag_g and mag_r (AB), or flux_g and flux_r (nanomaggies), or do without the cut: min_log_mstar=None."
        )
    for wanted in masses or ():
        values = _values(table[found[wanted]], wanted, name, every_row=with_mass)
        if wanted.startswith("flux"):
            out[wanted.replace("flux", "mag")] = 22.5 - 2.5 * np.log10(values)  # the definition of nanomaggies
        else:
            out[wanted] = values
        out.columns[-1].info.description = f"column {found[wanted]}"
    return out


def _find_columns(table: Table, name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Name of the column in `table` by standard name, of those that are there."""
    if unknown := sorted(set(given) - set(NAMES)):
        raise ClusterToolsError(f"columns names {unknown[0]!r}, but only {', '.join(NAMES)} can be given.")
    for wanted, column in given.items():
        if column not in table.colnames:
            listed = ", ".join(map(repr, table.colnames[:12]))[:200] or "none"
            raise ClusterToolsError(f"{name!r} has no column {column!r}, which is given for {wanted} (found {listed}).")
    # Reversed, so that the first of two columns that differ in case only is taken.
    named = {str(c).strip().lstrip("\ufeff").lower(): c for c in reversed(table.colnames)}
    ucds = {column: _ucd(table, number, column) for number, column in enumerate(table.colnames, 1)}
    found = {}
    for wanted, aliases in NAMES.items():
        by_ucd = [c for c, words in ucds.items() if wanted in UCDS and words[:1] == [UCDS[wanted]]]
        main = [c for c in by_ucd if ucds[c] == [UCDS[wanted], "meta.main"]]
        plain = [c for c in by_ucd if ucds[c] == [UCDS[wanted]]]
        candidates = [*main, *(named[alias] for alias in aliases if alias in named), *plain]
        numeric = [c for c in candidates if getattr(getattr(table[c], "dtype", None), "kind", "O") in "iuf"]
        if wanted in given:
            found[wanted] = given[wanted]
        elif candidates:
            found[wanted] = (numeric or candidates)[0]
    return found


def _ucd(table: Table, number: int, column: str) -> list[str]:
    """The words of a column's UCD; FITS files of TOPCAT have it in their header."""
    meta = getattr(table[column].info, "meta", None)
    ucd = (meta.get("ucd") if isinstance(meta, Mapping) else None) or table.meta.get(f"TUCD{number}") or ""
    return str(ucd).lower().split(";")


def _is_cz(column) -> bool:
    """Whether a column holds velocities cz: by its unit, or by its name if it has none."""
    unit = getattr(column, "unit", None)
    if unit is None or not str(unit):
        return str(column.info.name).strip().lower() == "cz"
    try:
        # Not v_los: velocities about the cluster's are no redshifts, whatever their unit.
        return unit.is_equivalent(u.km / u.s) and str(column.info.name).strip().lower() != "v_los"
    except AttributeError:
        return False


def _redshifts(column) -> np.ma.MaskedArray:
    """Redshifts of a column of velocities cz, in its own unit or km/s."""
    from cluster_tools.cosmology import SPEED_OF_LIGHT

    unit = u.Unit(getattr(column, "unit", None) or u.km / u.s)
    values = np.ma.asanyarray(getattr(column, "value", column))
    return values * (unit.to(u.km / u.s) / SPEED_OF_LIGHT) if values.dtype.kind in "iuf" else values


def _values(column, wanted: str, name: str, *, every_row: bool = True) -> np.ndarray:
    """A column as float64 (n,) in the unit of `EXPECTED`; rows not measured are NaN if allowed."""
    unit, spellings, low, high, expected = EXPECTED[wanted]
    label = f"{name!r}, column {getattr(getattr(column, 'info', None), 'name', wanted)!r}"
    values = np.ma.asanyarray(getattr(column, "value", column))
    if values.ndim != 1:
        raise ClusterToolsError(
            f"{label}, is not numeric (found an array of shape {values.shape[1:]} in each row); expected {expected}: "
            "write one number a row."
        )
    if values.dtype.kind not in "iuf":
        listed = [v for v in values.tolist() if v is not None]
        seen = next((v for v in listed if not _is_number(v)), listed[0] if listed else None)
        raise ClusterToolsError(
            f"{label}, is not numeric (found {str(seen)[:40]!r}); expected {expected}: write it as a column of numbers."
        )
    values = values.astype(float).filled(np.nan)

    found = str(getattr(column, "unit", None) or "").strip()
    spelt = found.lower().replace(" ", "").replace("_", "").replace("solmass", "msun")
    if spelt not in ("", "dimensionless", *spellings):
        try:
            values = column.unit.to(u.Unit(unit), values)  # Unit(None) raises TypeError
        except (AttributeError, TypeError, ValueError):
            raise ClusterToolsError(
                f"{label}, is in {found!r}; expected {expected}: convert the column, or mend its unit if that is wrong."
            ) from None

    if wanted == "ra" and not every_row:  # from -180 to 180, as some count
        values = np.where((values >= -180) & (values < 0), values + 360, values)
    missing = ~np.isfinite(values)
    wrong = ~missing & ((values < low) | (values > high))
    remedy = "drop these rows"
    if every_row and wanted not in ("ra", "dec", "z"):
        remedy += " or set min_log_mstar=None"
    if every_row and missing.any():
        raise ClusterToolsError(
            f"{label}, has {missing.sum()} of {len(values)} values missing, NaN or infinite "
            f"(first in row {missing.argmax() + 1}); {remedy}."
        )
    # Some values out of range may stand for none; where all are too large, the column is not what it should be.
    if wrong.any() and (every_row or np.all(values[~missing] > high)):
        raise ClusterToolsError(
            f"{label}, has {wrong.sum()} of {len(values)} values out of range (first {values[wrong][0]:g} in row "
            f"{wrong.argmax() + 1}); expected {expected}: convert the column, or {remedy}."
        )
    return np.where(missing | wrong, np.nan, values)


def _is_header(names: list[str]) -> bool:
    """Whether these are names of columns: not a line in one piece, nor a row of values."""
    return len(names) > 1 and sum(map(_is_number, names)) <= len(names) / 2


def _is_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
