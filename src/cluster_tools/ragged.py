"""Galaxies of many clusters in flat arrays, one cluster after the other.

The package keeps `ClusterGalaxies` wherever clusters have different numbers of galaxies. A subclass adds columns
with `per_galaxy` and `per_cluster`; selections carry them along.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np

from cluster_tools import arrays


def per_galaxy(unit: str = ""):
    """A field of `ClusterGalaxies` with one value for each galaxy."""
    return field(metadata={"axis": "galaxies", "unit": unit})


def per_cluster(unit: str = ""):
    """A field of `ClusterGalaxies` with one value for each cluster."""
    return field(metadata={"axis": "clusters", "unit": unit})


@dataclass(frozen=True)
class ClusterGalaxies:
    """Line-of-sight velocities and projected radii of the galaxies of n clusters."""

    v_los: np.ndarray = per_galaxy("km/s")  #: relative to the cluster [km/s], (n_galaxies,)
    r_proj: np.ndarray = per_galaxy("comoving Mpc/h")  #: distance from the centre [comoving Mpc/h], (n_galaxies,)
    #: int64 array (n + 1,); galaxies of cluster i are ``offsets[i]:offsets[i + 1]``
    offsets: np.ndarray = field(metadata={"axis": "clusters + 1", "unit": ""})

    def __len__(self) -> int:
        """Number of clusters."""
        return len(self.offsets) - 1

    @property
    def richness(self) -> np.ndarray:
        """Number of galaxies of each cluster, int64 (n,)."""
        return np.diff(self.offsets)

    @property
    def cluster_index(self) -> np.ndarray:
        """Index of the cluster of each galaxy, int64 (n_galaxies,)."""
        return np.repeat(np.arange(len(self)), self.richness)

    def slice(self, cluster: int) -> slice:
        """The galaxies of one cluster, to index any column by galaxy."""
        return slice(self.offsets[cluster], self.offsets[cluster + 1])

    def select(self, clusters) -> Self:
        """Only these clusters (bool array (n,), indices or slice), in their order."""
        first, richness = self.offsets[:-1][clusters], self.richness[clusters]
        before = np.cumsum(richness) - richness  # galaxies of the clusters chosen before each
        galaxies = np.arange(richness.sum()) + np.repeat(first - before, richness)
        return self._subset(galaxies, clusters, richness)

    def keep(self, galaxies: np.ndarray) -> Self:
        """Only these galaxies (bool array (n_galaxies,)); all clusters stay, even those without galaxies."""
        richness = np.bincount(self.cluster_index[galaxies], minlength=len(self))
        return self._subset(galaxies, slice(None), richness)

    def _subset(self, galaxies, clusters, richness) -> Self:
        rows = {"galaxies": galaxies, "clusters": clusters}
        axes = {column.name: column.metadata.get("axis") for column in fields(self)}
        columns = {name: getattr(self, name)[rows[axis]] for name, axis in axes.items() if axis in rows}
        return replace(self, **columns, offsets=cluster_offsets(richness))


def cluster_offsets(richness) -> np.ndarray:
    """Offsets (n + 1,) of clusters with these numbers of galaxies (n,)."""
    return np.concatenate([[0], np.cumsum(richness)]).astype(np.int64)


def from_arrays(v_los, r_proj, offsets) -> ClusterGalaxies:
    """Galaxies as float64 from a user's arrays; `ClusterToolsError` if `arrays` refuses one."""
    v_los = arrays.column("v_los", v_los)
    r_proj = arrays.column("r_proj", r_proj, len(v_los))
    return ClusterGalaxies(v_los, r_proj, arrays.offsets(offsets, len(v_los)))
