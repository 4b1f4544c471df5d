"""Galaxies of one cluster or many from any table, in a file or in memory; rows left out are counted by reason."""

from __future__ import annotations

import os
import re
from ast import literal_eval
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import numpy as np
from astropy import units as u
from astropy.table import Table
from scipy.spatial import cKDTree

from cluster_tools import cells, paths, sky, table_files, tables
from cluster_tools.cosmology import SPEED_OF_LIGHT
from cluster_tools.errors import ClusterToolsError

POSITION = "without a usable position or redshift"
REPEATED = "at the place of another one"
NO_CLUSTER = "without a cluster's name"
ANGLES = {"cluster_ra": cells.HOURS, "cluster_dec": cells.DEGREES}  # unit of sexagesimal angles
LARGEST_Z_ERROR = 0.5  # of a redshift; larger errors are km/s
MAX_NAME = 100  # characters of a cluster's name
NARROW = (1 / 30, 1 / 7)  # width to height of a field whose right ascensions are hours, about 1/15


def read(
    table: str | os.PathLike | Table | Mapping,
    *,
    columns: Mapping[str, str] | str | None = None,
    with_mass: bool = True,
    cluster_column: str | None = None,
    centre_columns: tuple[str, str] | None = None,
    redshift_column: str | None = None,
) -> Table:
    """Read the galaxies of a table, sorted by cluster and position, so that the order of its rows does not matter.

    The result has ``ra`` and ``dec`` (J2000, deg) and ``z``; either ``log_mstar`` (log10 Msun, no h) or ``mag_g`` and
    ``mag_r`` (AB), or neither; ``row``, the number of its row in the table from 1, and ``v_error``, the error of its
    velocity [km/s], if the table has one; NaN where they are missing. If asked for, it has ``cluster``, ``cluster_ra``,
    ``cluster_dec`` and ``cluster_z``. Its meta has the table's ``name`` and ``rejected``, the number of rows left out
    by reason. A row is left out if its position or redshift is missing, not finite or out of range; a redshift or
    velocity of exactly 0 is missing. Of several rows at the same position, to 1 arcsec, in the same cluster, the one
    of best redshift is kept: no warning (ZWARN), no star, highest quality, least error, lowest redshift.

    `table` is the path of a file (`table_files.read`), or columns of one length in memory. `columns` has names by
    standard name, where the usual ones are not meant (`tables.standard_columns`). Without `with_mass`, unusable
    stellar masses and photometry are left out. The other parameters are columns with the name, the (right ascension,
    declination) [deg] and redshift of each galaxy's cluster. Raises `ClusterToolsError` if this is no table, a column
    is missing or not numeric, or no row is usable.
    """
    columns = mapping(columns)
    places: dict = {"cluster": cluster_column, "cluster_z": redshift_column}
    places |= zip(ANGLES, centre_columns or ())
    places = {standard: column for standard, column in places.items() if column is not None}
    original, name = read_table(table, partial(tables.find, columns=columns, others=[*places.values()]))
    with table_files.parsing(f"{name!r} cannot be used", "make it an astropy Table of plain columns"):
        galaxies = tables.standard_columns(
            original, name, with_mass=False if with_mass else None, every_row=False, columns=columns
        )
        galaxies.meta = {"name": name}
        for standard, column in places.items():
            if standard == "cluster":
                galaxies.meta["clusters"], galaxies[standard] = names_of_clusters(original, column, name)
            else:
                galaxies[standard] = _numbers(original, column, name, ANGLES.get(standard))
        found = tables.find(original.colnames, columns)
        galaxies["badness"] = _badness(original, found, galaxies["z"].data)
        galaxies["row"] = np.arange(1, len(galaxies) + 1)
        if "error" in found:
            galaxies["v_error"] = _velocity_errors(original, found["error"][0], galaxies["z"].data)
        _refuse_hours(galaxies, name)
        return _cleaned(galaxies)


def read_table(table, find: Callable) -> tuple[Table, str]:
    """A table as it is, from a file (`table_files.read`, with `find`) or from memory, and its name for messages."""
    if isinstance(table, str | os.PathLike):
        return table_files.read(table, find), paths.shown(os.fspath(table))
    return _in_memory(table), "the table"


def names_of_clusters(table: Table, column: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Names in order, and the number of each row's name (n,); a name is printable text, empty where it is missing or
    a negative number, as for galaxies in no cluster.

    Raises `ClusterToolsError` if the table, `name` in messages, has no such column, or names of over 100 characters.
    """
    values, numbers = _column(table, column, name), {}
    try:
        rows = np.array([numbers.setdefault(cell, len(numbers)) for cell in values.tolist()])
    except TypeError:  # rows of several values
        numbers = {"x" * (MAX_NAME + 1): 0}
    names = ["" if cells.is_missing(cell) else " ".join(cells.text(cell).split()) for cell in numbers]
    names = ["" if re.fullmatch(r"-\d+(\.0*)?", each) else each for each in names]
    if max(map(len, names)) > MAX_NAME:
        expected = f"one name of at most {MAX_NAME} characters a row"
        raise ClusterToolsError(f"{name!r}, column {column!r}, is of another kind; expected {expected}.")
    # Names must not steer a terminal.
    names = ["".join(c if c.isprintable() else "?" for c in name) for name in names]
    unique, numbered = np.unique(np.array(names, dtype=str), return_inverse=True)
    return unique, numbered[rows]


def _numbers(table: Table, column: str, name: str, angles: str | None) -> np.ndarray:
    try:
        return cells.numbers(_column(table, column, name), angles)
    except cells.NotANumber as error:
        raise ClusterToolsError(
            f"{name!r}, column {column!r}, is of another kind (found {error}); expected one number a row."
        ) from None


def _column(table: Table, column: str, name: str) -> np.ma.MaskedArray:
    if column not in table.colnames:
        raise ClusterToolsError(f"{name!r} has no column {column!r} (found {tables.listed(table)}); give its name.")
    return np.ma.asanyarray(table[column])


def mapping(columns) -> dict[str, str]:
    """Columns by standard name, also from text such as ``{"z": "ZBEST"}``, as papermill hands it over."""
    given = columns
    if isinstance(columns, str):
        with suppress(ValueError, SyntaxError):
            columns = literal_eval(columns.strip() or "{}")
    if columns is None:
        return {}
    if not isinstance(columns, Mapping) or not all(isinstance(each, str) for pair in columns.items() for each in pair):
        raise ClusterToolsError(
            f"columns is {given!r}, but standard names and names of columns are expected, such as {{'z': 'ZBEST'}}."
        )
    return dict(columns)


def _badness(table: Table, found: Mapping[str, list[str]], z) -> np.ndarray:
    """How bad redshifts `z` are by the columns of `tables.QUALITY`, larger for worse, the gravest sign last (n, k)."""
    badness = [z]
    for kind in ("error", "quality", "class", "warning"):
        if kind not in found:
            continue
        column = np.ma.asanyarray(table[found[kind][0]])
        texts = [cells.text(cell).lower() for cell in column.tolist()] if kind in ("class", "quality") else []
        if kind == "class":
            badness.append(np.array([text == "star" for text in texts]))
        elif kind == "quality" and all(re.fullmatch("[a-f]?", text) for text in texts):
            badness.append(np.array([ord(text or "z") for text in texts]))  # A is the best
        else:
            with suppress(cells.NotANumber):
                values = cells.numbers(column)
                signs = {"error": np.where(values > 0, values, np.inf), "quality": -values, "warning": np.abs(values)}
                badness.append(np.where(np.isfinite(signs[kind]), signs[kind], np.inf))
    return np.column_stack(badness)


def _velocity_errors(table: Table, column: str, z) -> np.ndarray:
    """Errors of velocities [km/s] in a cluster's frame (n,) from those of redshifts or velocities; NaN where unknown.

    Without a unit, they are those of velocities if their name says so, or if their median is larger than any error of a
    redshift.
    """
    try:
        errors = cells.numbers(np.ma.asanyarray(table[column]))
    except cells.NotANumber:
        return np.full(len(table), np.nan)
    errors = np.where((errors > 0) & np.isfinite(errors), errors, np.nan)
    unit, known = tables.unit_of(table[column]), errors[np.isfinite(errors)]
    if unit and unit.is_equivalent(u.km / u.s):
        errors = errors * unit.to(u.km / u.s)
    elif unit and unit.is_equivalent(u.dimensionless_unscaled):
        errors = errors * unit.to(u.dimensionless_unscaled) * SPEED_OF_LIGHT
    elif tables.plain(column) not in map(tables.plain, tables.VELOCITY_ERRORS) and not (
        len(known) and np.median(known) > LARGEST_Z_ERROR
    ):
        errors = errors * SPEED_OF_LIGHT
    return errors / (1 + z)


def _refuse_hours(galaxies: Table, name: str) -> None:
    """Refuse right ascensions without a unit that are hours: all below 24, and the sky 15 times too narrow."""
    ra, dec = (galaxies[column].data for column in ("ra", "dec"))
    if galaxies["ra"].meta["unit"] or not np.nanmax(ra, initial=0) < 24:
        return
    clusters = galaxies["cluster"].data if "cluster" in galaxies.colnames else np.zeros(len(ra))
    ratios = []
    for cluster in np.unique(clusters)[:100]:
        rows = (clusters == cluster) & np.isfinite(ra) & np.isfinite(dec)
        if rows.sum() > 2 and dec[rows].std() > 0:
            ratios.append(ra[rows].std() * np.cos(np.radians(dec[rows].mean())) / dec[rows].std())
    if ratios and NARROW[0] < np.median(ratios) < NARROW[1]:
        raise ClusterToolsError(
            f"{name!r}, {galaxies['ra'].description}, has values up to {np.nanmax(ra):.4f} and a sky about 15 times "
            "too narrow, as right ascensions in hours have; multiply them by 15. If they are degrees, give the column "
            "the unit deg, in ECSV, FITS or VOTable."
        )


def _once(galaxies: Table, cluster) -> np.ndarray:
    """Rows (k,) of the best of all galaxies within 1 arcsec of one another, in the same cluster."""
    ra, dec, best = galaxies["ra"].data, galaxies["dec"].data, np.lexsort(galaxies["badness"].data.T)
    # First in cells of 1 arcsec, so that very many at one place make no pairs.
    cells_dec = np.rint(3600 * dec)
    places = np.stack([cluster, np.rint(3600 * ra * np.cos(np.radians(cells_dec / 3600))), cells_dec], axis=1)
    places = places[best]
    order = np.lexsort(places.T)  # of those at one place, the best comes first
    first = np.r_[True, (places[order[1:]] != places[order[:-1]]).any(axis=1)]
    kept = best[np.sort(order[first])]
    tree = cKDTree(np.column_stack([sky.directions(ra[kept], dec[kept]), cluster[kept]]))
    pairs, is_kept = tree.query_pairs(np.radians(1 / 3600), output_type="ndarray"), np.ones(len(kept), bool)
    for better, worse in pairs[np.lexsort(pairs.T[::-1])].tolist():
        is_kept[worse] &= not is_kept[better]
    return kept[is_kept]


def _in_memory(table) -> Table:
    is_pandas = type(table).__module__.partition(".")[0] == "pandas"
    if not isinstance(table, Table | Mapping | np.ndarray) and not is_pandas:
        raise ClusterToolsError(
            f"table is of type {type(table).__name__}, but the path of a file, an astropy Table, a DataFrame or a "
            "mapping of column names to arrays is expected."
        )
    if isinstance(table, np.ndarray) and table.dtype.names is None:
        raise ClusterToolsError("The array has no names of columns; give a mapping such as {'ra': ra, 'dec': dec}.")
    with table_files.parsing("The table cannot be used", "give columns of equal length, one galaxy a row"):
        if is_pandas:
            table = table.loc[:, ~table.columns.duplicated()].rename(columns=str)
            return Table.from_pandas(table, index=table.index.name not in (None, *table.columns))
        return Table(dict(table) if isinstance(table, Mapping) else table, copy=False)


def _cleaned(galaxies: Table) -> Table:
    """Usable galaxies, each once in each cluster, in order."""
    has_cluster = "cluster" in galaxies.colnames
    usable = np.all([np.isfinite(galaxies[name]) for name in ("ra", "dec", "z")], axis=0)
    rejected = {POSITION: int((~usable).sum())}
    if has_cluster:
        names = galaxies.meta.pop("clusters")
        named = (names != "")[galaxies["cluster"]]
        rejected[NO_CLUSTER] = int((usable & ~named).sum())
        usable &= named
    if not usable.any():
        raise ClusterToolsError(
            f"{galaxies.meta['name']!r} has no galaxy with position (deg), redshift{' and cluster' * has_cluster} "
            f"among its {len(usable)} rows; check these columns and their units."
        )
    galaxies = galaxies[usable]
    keys = [name for name in ("mag_r", "log_mstar", "z", "dec", "ra", "cluster") if name in galaxies.colnames]
    galaxies = galaxies[np.lexsort([galaxies[name].data for name in keys])]

    kept = _once(galaxies, galaxies["cluster"].data if has_cluster else np.zeros(len(galaxies)))
    rejected[REPEATED] = len(galaxies) - len(kept)
    galaxies = galaxies[np.sort(kept)]
    galaxies.remove_column("badness")
    if has_cluster:
        galaxies["cluster"] = names[galaxies["cluster"]]
    galaxies.meta["rejected"] = rejected
    return galaxies
