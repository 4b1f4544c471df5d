"""Galaxies of one cluster or many from any table, in a file or in memory; rows left out are counted by reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.errors import ClusterToolsError

if TYPE_CHECKING:
    from astropy.table import Table

POSITION = "without a usable position or redshift"
REPEATED = "at the place of another one"
NO_CLUSTER = "without a cluster's name"
ARCSEC_PER_TURN = 360 * 3600


def read(
    table: str | os.PathLike | Table | Mapping,
    *,
    columns: Mapping[str, str] | None = None,
    cluster_column: str | None = None,
    centre_columns: tuple[str, str] | None = None,
    redshift_column: str | None = None,
) -> Table:
    """Read the galaxies of a table, sorted by cluster and position, so that the order of its rows does not matter.

    The result has ``ra`` and ``dec`` (J2000, deg) and ``z``; either ``log_mstar`` (log10 Msun, no h) or ``mag_g`` and
    ``mag_r`` (AB), or neither; NaN where they are missing. If asked for, it has ``cluster``, ``cluster_ra``,
    ``cluster_dec`` and ``cluster_z``. Its meta has the table's ``name`` and ``rejected``, the number of rows left out
    by reason. A row is left out if its position or redshift is missing, not finite or out of range. Of several rows
    at the same position, to 1 arcsec, in the same cluster, the one of lowest redshift is kept.

    `table` is the path of a CSV, ECSV, FITS or VOTable file, or columns of one length in memory. `columns` has names
    by standard name, where the usual ones are not meant (`tables.standard_columns`). The other parameters name the
    columns with the name, (right ascension, declination) [deg] and redshift of each galaxy's cluster. Raises
    `ClusterToolsError` if this is no table, a column is missing or not numeric, or no row is usable.
    """
    from cluster_tools import paths, tables

    is_path = isinstance(table, str | os.PathLike)
    name = paths.shown(os.fspath(table)) if is_path else "the table"
    original = tables.read(table) if is_path else _in_memory(table)
    with tables.parsing(f"{name!r} cannot be used", "make it an astropy Table of plain columns"):
        galaxies = tables.standard_columns(original, name, with_mass=False, every_row=False, columns=columns)
        galaxies.meta = {"name": name}
        places = {"cluster": cluster_column, "cluster_z": redshift_column}
        places["cluster_ra"], places["cluster_dec"] = centre_columns or (None, None)
        for standard, column in places.items():
            if column is None:
                continue
            if column not in original.colnames:
                raise ClusterToolsError(
                    f"{name!r} has no column {column!r} (found {tables.listed(original)}); give its name."
                )
            values = np.ma.asanyarray(original[column])
            if values.ndim != 1 or (standard != "cluster" and values.dtype.kind not in "iuf"):
                expected = "one name a row" if standard == "cluster" else "one number a row"
                raise ClusterToolsError(f"{name!r}, column {column!r}, is of another kind; expected {expected}.")
            galaxies[standard] = _names(values) if standard == "cluster" else values.astype(float).filled(np.nan)
            galaxies[standard].description = f"column {column!r}"
        return _cleaned(galaxies)


def _in_memory(table) -> Table:
    from astropy.table import Table

    from cluster_tools import tables

    is_pandas = type(table).__module__.partition(".")[0] == "pandas"
    if not isinstance(table, Table | Mapping | np.ndarray) and not is_pandas:
        raise ClusterToolsError(
            f"table is of type {type(table).__name__}, but the path of a file, an astropy Table, a DataFrame or a "
            "mapping of column names to arrays is expected."
        )
    if isinstance(table, np.ndarray) and table.dtype.names is None:
        raise ClusterToolsError("The array has no names of columns; give a mapping such as {'ra': ra, 'dec': dec}.")
    with tables.parsing("The table cannot be used", "give columns of equal length, one galaxy a row"):
        if is_pandas:
            return Table.from_pandas(table)
        return Table(dict(table) if isinstance(table, Mapping) else table, copy=False)


def _names(values: np.ma.MaskedArray) -> np.ndarray:
    """Printable text, empty where it is masked or NaN."""
    names = []
    for value in values.tolist():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        text = "" if value is None or value != value else " ".join(text.split())
        names.append("".join(c if c.isprintable() else "?" for c in text))  # names must not steer a terminal
    return np.array(names, dtype=str)


def _cleaned(galaxies: Table) -> Table:
    """Usable galaxies, each once in each cluster, in order."""
    has_cluster = "cluster" in galaxies.colnames
    usable = np.all([np.isfinite(galaxies[name]) for name in ("ra", "dec", "z")], axis=0)
    rejected = {POSITION: int((~usable).sum())}
    if has_cluster:
        named = np.asarray(galaxies["cluster"] != "")
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

    ra, dec = (np.rint(3600 * galaxies[name].data).astype(np.int64) % ARCSEC_PER_TURN for name in ("ra", "dec"))
    cluster = np.unique(galaxies["cluster"].data, return_inverse=True)[1] if has_cluster else 0
    place = (cluster * ARCSEC_PER_TURN + ra) * ARCSEC_PER_TURN + dec
    by_z = np.argsort(galaxies["z"].data, kind="stable")
    kept = by_z[np.unique(place[by_z], return_index=True)[1]]
    rejected[REPEATED] = len(galaxies) - len(kept)
    galaxies = galaxies[np.sort(kept)]
    galaxies.meta["rejected"] = rejected
    return galaxies
