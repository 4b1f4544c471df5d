"""The galaxies of a cluster from any table, in a file or in memory; what cannot be used is set aside and counted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.errors import ClusterToolsError

if TYPE_CHECKING:
    from astropy.table import Table

POSITION = "without a usable position or redshift"
REPEATED = "at the place of another one"
NO_CLUSTER = "without a cluster's name"
ARCSEC = 1 / 3600  # deg
COLUMNS = ("ra", "dec", "z", "log_mstar", "mag_g", "mag_r", "cluster")  # of `Galaxies`


@dataclass(frozen=True)
class Galaxies:
    """Galaxies with positions and redshifts, sorted by them, so that nothing depends on a table's order.

    Attributes
    ----------
    name : what the table is called in messages
    ra, dec : float64 arrays (n,), J2000, deg
    z : float64 array (n,), finite as the positions are
    log_mstar : float64 array (n,), log10 stellar mass [Msun, no h], NaN where there is none; or None
    mag_g, mag_r : float64 arrays (n,), AB magnitudes, NaN where there is none; or None
    cluster : array (n,) of text, the name of the cluster that each belongs to; or None
    places : float64 arrays (n,) of further columns, that say where its cluster is; by name
    rejected : rows left out, by reason; with n they add up to the rows of the table
    sources : which column of the table each of these is from
    """

    name: str
    ra: np.ndarray
    dec: np.ndarray
    z: np.ndarray
    log_mstar: np.ndarray | None
    mag_g: np.ndarray | None
    mag_r: np.ndarray | None
    cluster: np.ndarray | None
    places: dict[str, np.ndarray]
    rejected: dict[str, int]
    sources: dict[str, str]

    def __len__(self) -> int:
        return len(self.ra)

    def select(self, rows) -> Galaxies:
        """Only these galaxies: a bool array (n,) or row numbers. What was rejected before is not counted again."""
        parts = {name: getattr(self, name) for name in COLUMNS}
        parts = {name: column if column is None else column[rows] for name, column in parts.items()}
        places = {name: column[rows] for name, column in self.places.items()}
        return replace(self, **parts, places=places, rejected={})


def read(
    table: str | os.PathLike | Table | Mapping,
    *,
    columns: Mapping[str, str] | None = None,
    cluster_column: str | None = None,
    places: Sequence[str] = (),
) -> Galaxies:
    """The galaxies of a table.

    Parameters
    ----------
    table : path of a CSV, ECSV, FITS or VOTable file; or an astropy Table, a pandas DataFrame, a structured array,
        or a mapping of names to arrays of one length
    columns : names of columns by standard name where the usual ones are not meant, see `tables.standard_columns`;
        only positions and redshifts are needed
    cluster_column : the column that names the cluster of each galaxy, in a table of several clusters
    places : columns of numbers to keep, such as those of the clusters' centres

    Rows are left out where position or redshift is missing, not finite or out of range, and where another row has
    the same position, rounded to 1 arcsec (of those, the one of lowest redshift is kept).

    Raises
    ------
    ClusterToolsError
        For whatever is no table, and for each reason of `tables.standard_columns` but bad rows.
    """
    from cluster_tools import paths, tables

    is_path = isinstance(table, str | os.PathLike)
    name = paths.shown(os.fspath(table)) if is_path else "the table"
    found = tables.read(table) if is_path else _in_memory(table)
    with tables.parsing(f"{name!r} cannot be used", "make it an astropy Table of plain columns"):
        standard = tables.standard_columns(found, name, with_mass=False, every_row=False, columns=columns)
        cluster = None if cluster_column is None else _text(found, cluster_column, name)
        return _cleaned(standard, cluster, {place: _numbers(found, place, name) for place in places}, name)


def _in_memory(table) -> Table:
    from astropy.table import Table

    from cluster_tools import tables

    kind = type(table).__module__.partition(".")[0]
    if not isinstance(table, Table | Mapping | np.ndarray) and kind != "pandas":
        raise ClusterToolsError(
            f"table is of type {type(table).__name__}, but the path of a file, an astropy Table, a DataFrame or a "
            "mapping of column names to arrays is expected."
        )
    with tables.parsing("The table cannot be used", "give columns of equal length, one galaxy a row"):
        if kind == "pandas":
            return Table.from_pandas(table)
        if isinstance(table, np.ndarray) and table.dtype.names is None:
            raise ClusterToolsError("The array has no names of columns; give a mapping such as {'ra': ra, 'dec': dec}.")
        return table if isinstance(table, Table) else Table(table if isinstance(table, np.ndarray) else dict(table))


def _text(table: Table, column: str, name: str) -> np.ndarray:
    """A column as text, empty where it is masked."""
    if column not in table.colnames:
        listed = ", ".join(map(repr, table.colnames[:12]))[:200]
        raise ClusterToolsError(f"{name!r} has no column {column!r} to tell clusters apart by (found {listed}).")
    values = np.ma.asanyarray(table[column])
    if values.ndim != 1:
        raise ClusterToolsError(f"{name!r}, column {column!r}, holds an array in each row; expected one name a row.")
    words = [" ".join(_word(value).split()) for value in values.tolist()]
    # Names are printed: what would steer a terminal is not.
    return np.array(["".join(c if c.isprintable() else "?" for c in word) for word in words], dtype=str)


def _numbers(table: Table, column: str, name: str) -> np.ndarray:
    """A column as float64, NaN where it is masked."""
    try:
        return np.ma.asanyarray(table[column]).astype(float).filled(np.nan)
    except (KeyError, TypeError, ValueError):
        listed = ", ".join(map(repr, table.colnames[:12]))[:200]
        raise ClusterToolsError(f"{name!r} has no column {column!r} of numbers (found {listed}).") from None


def _word(value) -> str:
    if value is None or value != value:  # masked, or NaN
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _cleaned(table: Table, cluster: np.ndarray | None, places: dict[str, np.ndarray], name: str) -> Galaxies:
    optional = ("log_mstar", "mag_g", "mag_r")
    values = {c: np.array(table[c], float) if c in table.colnames else None for c in ("ra", "dec", "z", *optional)}
    values["cluster"] = cluster
    usable = np.isfinite(values["ra"]) & np.isfinite(values["dec"]) & np.isfinite(values["z"])
    rejected = {POSITION: int((~usable).sum())}
    if cluster is not None:
        rejected[NO_CLUSTER] = int((usable & (cluster == "")).sum())
        usable &= cluster != ""
    if not usable.any():
        raise ClusterToolsError(
            f"{name!r} has no galaxy with position (deg), redshift{'' if cluster is None else ' and cluster'} "
            f"among its {len(usable)} rows; check these columns and their units."
        )
    values = {c: column if column is None else column[usable] for c, column in values.items()}
    places = {c: column[usable] for c, column in places.items()}
    keys = [values[c] for c in ("mag_r", "log_mstar", "z", "dec", "ra", "cluster") if values[c] is not None]
    order = np.lexsort(keys)
    values = {c: column if column is None else column[order] for c, column in values.items()}
    where = [np.rint(values[c] / ARCSEC).astype(np.int64) % (360 * 3600) for c in ("ra", "dec")]
    if cluster is not None:  # a galaxy may be listed in two clusters that overlap
        where.append(np.unique(values["cluster"], return_inverse=True)[1])
    by_place = np.lexsort([np.arange(len(order)), values["z"], *where])
    same = np.all([np.diff(column[by_place], prepend=-(10**9)) == 0 for column in where], axis=0)
    rejected[REPEATED] = int(same.sum())
    kept = np.sort(by_place[~same])
    return Galaxies(
        name,
        **{c: column if column is None else column[kept] for c, column in values.items()},
        places={c: column[order][kept] for c, column in places.items()},
        rejected=rejected,
        sources={c: str(table[c].info.description) for c in table.colnames},
    )
