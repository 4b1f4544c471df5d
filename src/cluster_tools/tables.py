"""Tables of galaxies from any file: found by common names, checked, in standard columns."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Table

from cluster_tools import paths
from cluster_tools.errors import ClusterToolsError

FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits"}

# Lower case, most explicit first: a table of photometry may hold the z magnitude as "z".
NAMES = {
    "ra": ("ra", "ra_deg", "radeg", "raj2000", "ra_j2000", "_raj2000", "ra_icrs", "target_ra", "right_ascension"),
    "dec": ("dec", "dec_deg", "decdeg", "decj2000", "dec_j2000", "dej2000", "_dej2000", "de_icrs", "dec_icrs",
            "target_dec", "declination"),
    "z": ("redshift", "z_spec", "zspec", "specz", "z_helio", "zhelio", "zhel", "z"),
    "log_mstar": ("log_mstar", "logmstar", "log_mass", "logmass", "log_stellar_mass", "lgm_tot_p50", "mstar"),
    "mag_g": ("mag_g", "g_mag", "gmag"),
    "mag_r": ("mag_r", "r_mag", "rmag"),
    "flux_g": ("flux_g",),
    "flux_r": ("flux_r",),
}  # fmt: skip
VELOCITIES = ("cz", "v", "vel", "velocity", "v_los", "vhelio", "v_helio", "hrv", "rv")
# Column: the unit it is meant in, spellings of it beyond astropy's own, and the values it can have.
EXPECTED = {
    "ra": (u.deg, ("degrees",), 0.0, 360.0, "degrees from 0 to 360"),
    "dec": (u.deg, ("degrees",), -90.0, 90.0, "degrees from -90 to 90"),
    "z": (u.dimensionless_unscaled, (), -0.01, 10.0, "redshifts, not velocities in km/s"),
    "log_mstar": (None, (), 0.0, 15.0, "log10 of the stellar mass in Msun"),
    "mag_g": (None, (), 0.0, 40.0, "AB magnitudes"),
    "mag_r": (None, (), 0.0, 40.0, "AB magnitudes"),
    "flux_g": (u.nmgy, ("nanomaggy", "nanomaggies"), 1e-6, 1e9, "fluxes above zero in nanomaggies"),
    "flux_r": (u.nmgy, ("nanomaggy", "nanomaggies"), 1e-6, 1e9, "fluxes above zero in nanomaggies"),
}


def read_galaxies(path: str | os.PathLike, *, with_mass: bool = True) -> Table:
    """Read a table of galaxies from a CSV, ECSV or FITS file.

    Parameters
    ----------
    path : a file whose name ends in .csv, .ecsv, .fits or .fit (or these with .gz)
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
    path = Path(path)
    name = paths.shown(path)
    if not os.path.isfile(path):
        found = "is a directory" if os.path.isdir(path) else "does not exist"
        raise ClusterToolsError(f"{name!r} {found}; expected a CSV, ECSV or FITS table of galaxies.")
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = FORMATS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise ClusterToolsError(f"{name!r} is no .csv, .ecsv or .fits file; save the table in one of these formats.")
    # "#Table1" is the first line of what SkyServer sends as CSV.
    options = {"ascii.csv": {"comment": "#"}, "fits": {"memmap": False}}.get(kind, {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn of what is checked below
            return standard_columns(Table.read(path, format=kind, **options), name, with_mass=with_mass)
    except ClusterToolsError:
        raise
    except Exception as error:  # readers raise whatever their parsers do
        raise ClusterToolsError(
            f"{name!r} cannot be read as {kind.split('.')[-1].upper()} ({' '.join(str(error).split())[:120]}); "
            "open it with astropy.table.Table.read, mend it and write it again."
        ) from error


def standard_columns(table: Table, name: str, *, with_mass: bool = True) -> Table:
    """The columns that weighing a cluster needs, under standard names and in standard units.

    Parameters
    ----------
    table : any table; columns are found by common names whatever their case (`NAMES`), and
        their units are honoured
    name : what the table is called in error messages
    with_mass : refuse a table without stellar masses, or with rows that lack one; otherwise
        a mass that is not there is NaN

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
    # Reversed, so that the first of two columns that differ in case only is taken.
    columns = {str(c).strip().lstrip("\ufeff").lower(): c for c in reversed(table.colnames)}

    def find(wanted: str) -> str | None:
        return next((columns[alias] for alias in NAMES[wanted] if alias in columns), None)

    listed = ", ".join(map(repr, table.colnames[:12]))[:200] or "none"
    for wanted in ("ra", "dec", "z"):
        if find(wanted) is None:
            if wanted == "z" and (velocity := next((columns[v] for v in VELOCITIES if v in columns), None)):
                raise ClusterToolsError(
                    f"{name!r} has velocities in column {velocity!r} but no redshifts; "
                    "add a column 'z', for velocities cz in km/s as z = cz / 299792.458."
                )
            raise ClusterToolsError(
                f"{name!r} has no column of {wanted} (found {listed}); rename the right one to {wanted!r}."
            )

    out = Table({wanted: _values(table[find(wanted)], wanted, name) for wanted in ("ra", "dec", "z")})
    out["ra"].unit = out["dec"].unit = u.deg
    out.meta = dict(table.meta)
    choices = [("log_mstar",), ("mag_g", "mag_r"), ("flux_g", "flux_r")]
    masses = next((c for c in choices if all(find(w) for w in c)), None)
    if masses is None and with_mass:
        raise ClusterToolsError(
            f"{name!r} has neither stellar masses nor g and r photometry (found {listed}); add log_mstar (log10 Msun), "
            "or mag_g and mag_r (AB), or flux_g and flux_r (nanomaggies), or do without the cut: min_log_mstar=None."
        )
    for wanted in masses or ():
        values = _values(table[find(wanted)], wanted, name, every_row=with_mass)
        if wanted.startswith("flux"):
            out[wanted.replace("flux", "mag")] = 22.5 - 2.5 * np.log10(values)  # the definition of nanomaggies
        else:
            out[wanted] = values
    return out


def _values(column, wanted: str, name: str, *, every_row: bool = True) -> np.ndarray:
    """A column as float64 (n,) in the unit of `EXPECTED`; rows not measured are NaN if allowed."""
    unit, spellings, low, high, expected = EXPECTED[wanted]
    label = f"{name!r}, column {getattr(getattr(column, 'info', None), 'name', wanted)!r}"
    values = np.ma.asanyarray(getattr(column, "value", column))
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        seen = next((v for v in values.ravel().tolist() if v is not None and not _is_number(v)), values.dtype.name)
        raise ClusterToolsError(f"{label}, is not numeric (found {str(seen)[:40]!r}); expected {expected}.")
    values = values.astype(float).filled(np.nan)

    found = getattr(column, "unit", None)
    if unit is not None and found is not None and str(found).strip() not in ("", *spellings):
        try:
            values = values * found.to(unit)
        except (AttributeError, TypeError, ValueError):
            raise ClusterToolsError(f"{label}, is in {str(found)!r}; expected {expected}.") from None

    missing = ~np.isfinite(values)
    wrong = ~missing & ((values < low) | (values > high))
    if every_row:
        remedy = "drop these rows" if wanted in ("ra", "dec", "z") else "drop these rows or set min_log_mstar=None"
        if missing.any():
            raise ClusterToolsError(
                f"{label}, has {missing.sum()} of {len(values)} values missing, NaN or infinite "
                f"(first in row {missing.argmax() + 1}); {remedy}."
            )
        if wrong.any():
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
