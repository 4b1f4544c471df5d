"""The galaxies of each of many clusters: by the cluster's name in their table, or in a cylinder about its centre."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from cluster_tools import sky, table_files, tables
from cluster_tools.cosmology import comoving_distance
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.observe import APERTURE
from cluster_tools.weighing import galaxy_table
from cluster_tools.weighing.centres import MIN_REDSHIFT

PLACE = {"cluster_ra": "right ascension", "cluster_dec": "declination", "cluster_z": "redshift"}
# Usual names, in lower case, of the column with the names of clusters.
NAMES = ("name", "cluster", "cluster_name", "cluster_id", "clusterid", "group", "group_name", "group_id", "id")


@dataclass(frozen=True)
class Cluster:
    """The galaxies of one cluster, and its centre and redshift where they are given."""

    galaxies: Mapping[str, np.ndarray]  #: columns of `galaxy_table.read`
    given: Mapping[str, np.ndarray]  #: values of the columns `PLACE` in the rows of its galaxies

    def table(self) -> Table:
        """Its galaxies, as `selection.select_galaxies` takes them."""
        return Table(self.galaxies, meta={"rejected": {}}, copy=False)  # those of the whole table are not counted

    def place(self) -> dict:
        """``centre`` [deg] and ``redshift``; `ClusterToolsError` if the rows of the cluster have several values."""
        values = {}
        for column, rows in self.given.items():
            unique = np.unique(rows)
            if len(unique) != 1:
                raise ClusterToolsError(
                    f"its {PLACE[column]} has {len(unique)} values in the rows of this cluster; expected one."
                )
            values[column] = float(unique[0])
        centre = (values["cluster_ra"], values["cluster_dec"]) if "cluster_ra" in values else None
        return {"centre": centre, "redshift": values.get("cluster_z")}


Clusters = Mapping[str, Callable[[], Cluster]]  # by name; each is cut out of the table when it is called


def _cut(galaxies: Table, rows, places: Table, at: slice) -> Cluster:
    """The cluster of the galaxies in these rows, whose place is at these rows of `places`."""
    return Cluster({name: galaxies[name].data[rows] for name in galaxies.colnames if name not in ("cluster", *PLACE)},
                   {name: places[name].data[at] for name in PLACE if name in places.colnames})  # fmt: skip


def by_name(galaxies: Table) -> Clusters:
    """Clusters by the names in the column ``cluster`` of `galaxy_table.read`, which sorts by it."""
    names = galaxies["cluster"].data
    first = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    rows = [slice(*ends) for ends in zip(first, [*first[1:], len(names)])]
    return {str(names[each.start]): partial(_cut, galaxies, each, galaxies, each) for each in rows}


def about(galaxies: Table, centres: Table) -> Clusters:
    """Clusters about `centres`: galaxies of any redshift within 2.3 comoving Mpc/h of each; some may be in several."""
    tree = cKDTree(sky.directions(galaxies["ra"], galaxies["dec"]))
    places, z = sky.directions(centres["cluster_ra"], centres["cluster_dec"]), centres["cluster_z"].data
    # The chord of the angle of 2.3 Mpc/h, and a little more: `select_galaxies` draws the line.
    angle = np.minimum(APERTURE / comoving_distance(np.fmax(z, MIN_REDSHIFT)), np.pi)
    chord = 2.0001 * np.sin(angle / 2)

    def cut(number: int) -> Cluster:
        finite = np.isfinite(places[number]).all()  # others are refused by `select_galaxies`
        near = tree.query_ball_point(places[number], chord[number]) if finite else []
        return _cut(galaxies, np.sort(np.array(near, dtype=int)), centres, slice(number, number + 1))

    return {str(name): partial(cut, number) for number, name in enumerate(centres["cluster"])}


def read_centres(table) -> Table:
    """Read a table of clusters: columns ``cluster`` (its name), ``cluster_ra``, ``cluster_dec`` [deg], ``cluster_z``.

    `table` is as for `galaxy_table.read`. Clusters without a column of names (`NAMES`) are numbered from 1. Raises
    `ClusterToolsError` if a column is missing, or two clusters have one name.
    """

    def name_column(names) -> list[str]:
        lower = {str(each).strip().lower(): each for each in reversed(names)}
        return [lower[each] for each in NAMES if each in lower][:1]

    original, name = galaxy_table.read_table(table, lambda names: tables.find(names, others=name_column(names)))
    with table_files.parsing(f"{name!r} cannot be used", "make it an astropy Table of plain columns"):
        clusters = tables.standard_columns(original, name, with_mass=None, every_row=False)
        names = np.arange(1, len(clusters) + 1).astype(str)
        for column in name_column(original.colnames):
            unique, numbers = galaxy_table.names_of_clusters(original, column, name)
            names = unique[numbers]
    unique, counts = np.unique(names, return_counts=True)
    for repeated in unique[(counts > 1) | (unique == "")]:
        rows = ", ".join(map(str, np.flatnonzero(names == repeated)[:3] + 1))
        raise ClusterToolsError(
            f"{name!r}, column {column!r}, has the name {str(repeated)!r} in row {rows}; give each cluster a name of "
            "its own."
        )
    result = Table({"cluster": names})
    for standard in ("ra", "dec", "z"):
        result[f"cluster_{standard}"] = clusters[standard].data
    result.sort("cluster")
    return result
