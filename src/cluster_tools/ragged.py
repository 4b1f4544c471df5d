"""Galaxies of many clusters in flat arrays, one cluster after the other.

The package keeps `ClusterGalaxies` wherever clusters have different numbers of galaxies. A subclass adds columns
with `per_galaxy` and `per_cluster`; selections carry them along.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np

from cluster_tools import arrays


def _column(axis: str, unit: str = ""):
    return field(metadata={"axis": axis, "unit": unit})


def per_galaxy(unit: str = ""):
    """A field of `ClusterGalaxies` with one value for each galaxy."""
    return _column("galaxies", unit)


def per_cluster(unit: str = ""):
    """A field of `ClusterGalaxies` with one value for each cluster."""
    return _column("clusters", unit)


@dataclass(frozen=True)
class ClusterGalaxies:
    """Line-of-sight velocities and projected radii of the galaxies of n clusters."""

    v_los: np.ndarray = per_galaxy("km/s")  #: relative to the cluster [km/s], (n_galaxies,)
    r_proj: np.ndarray = per_galaxy("comoving Mpc/h")  #: distance from the centre [comoving Mpc/h], (n_galaxies,)
    #: int64 array (n + 1,); galaxies of cluster i are ``offsets[i]:offsets[i + 1]``
    offsets: np.ndarray = _column("clusters + 1")

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

    def galaxies_of(self, clusters) -> np.ndarray:
        """Indices of the galaxies of these clusters (bool array (n,), indices or slice), in their order."""
        clusters = np.arange(len(self))[clusters]
        richness = self.richness[clusters]
        return np.arange(richness.sum()) + np.repeat(self.offsets[clusters] - np.cumsum(richness) + richness, richness)

    def select(self, clusters) -> Self:
        """Only these clusters (bool array (n,), indices or slice), in their order."""
        return self._subset(self.galaxies_of(clusters), clusters, self.richness[clusters])

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
