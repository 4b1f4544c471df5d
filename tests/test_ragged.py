"""Galaxies of clusters in flat arrays: slices, selections, and columns that a subclass adds."""

from dataclasses import dataclass

import numpy as np
import pytest

from cluster_tools import ragged
from cluster_tools.errors import ClusterToolsError


@dataclass(frozen=True)
class Weighed(ragged.ClusterGalaxies):
    weight: np.ndarray = ragged.per_galaxy()
    mass: np.ndarray = ragged.per_cluster("Msun/h")
    name: str = ""


OFFSETS = ragged.cluster_offsets([3, 0, 2, 4])
CLUSTERS = Weighed(np.arange(9.0), np.arange(9.0) + 10, OFFSETS, np.arange(9) + 20, np.arange(4), "mocks")


def test_offsets_richness_and_index_agree():
    assert len(CLUSTERS) == 4 and CLUSTERS.offsets.tolist() == [0, 3, 3, 5, 9]
    np.testing.assert_array_equal(CLUSTERS.cluster_index, [0, 0, 0, 2, 2, 3, 3, 3, 3])
    assert len(ragged.ClusterGalaxies(np.empty(0), np.empty(0), ragged.cluster_offsets([]))) == 0


@pytest.mark.parametrize("clusters", [[3, 1, 0, 0], [False, True, False, True], slice(1, 3), [], [-1]])
def test_selected_clusters_keep_their_galaxies_and_columns(clusters):
    part = CLUSTERS.select(clusters)
    numbers = np.arange(4)[clusters]
    np.testing.assert_array_equal(part.mass, numbers)
    assert part.name == "mocks" and part.offsets.dtype == np.int64
    for i, number in enumerate(numbers):
        expected = CLUSTERS.v_los[CLUSTERS.slice(number)]
        np.testing.assert_array_equal(part.v_los[part.slice(i)], expected)
        np.testing.assert_array_equal(part.r_proj[part.slice(i)], expected + 10)
        np.testing.assert_array_equal(part.weight[part.slice(i)], expected + 20)
    assert part.offsets[-1] == len(part.v_los)


def test_kept_galaxies_stay_with_their_clusters():
    part = CLUSTERS.keep(CLUSTERS.v_los % 2 == 0)
    np.testing.assert_array_equal(part.richness, [2, 0, 1, 2])
    np.testing.assert_array_equal(part.v_los, [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(part.weight, part.v_los + 20)
    np.testing.assert_array_equal(part.mass, CLUSTERS.mass)


@pytest.mark.parametrize(
    ("v_los", "r_proj", "offsets", "words"),
    [
        ([1, np.nan], [1, 2], [0, 2], "v_los"),
        ([1, 2], [1], [0, 2], "r_proj"),
        ([1, 2], [1, 2], [0, 3], "offsets.*0 to .*2"),
        ([1, 2], [1, 2], [0, 2, 1, 2], "offsets"),
        ([1, 2], [1, 2], [0.0, 2.0], "offsets"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(v_los, r_proj, offsets, words):
    with pytest.raises(ClusterToolsError, match=words):
        ragged.from_arrays(v_los, r_proj, offsets)
