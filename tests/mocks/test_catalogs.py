"""Mock catalogues: the sampling rules of the paper, the file format, and damaged files."""

import dataclasses

import h5py
import numpy as np
import pytest
import small_catalog

from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import catalogs, observe
from cluster_tools.mocks.catalogs import COLUMNS, MockCatalog
from cluster_tools.universe import synthetic

BOX = 160.0


@pytest.fixture(scope="module")
def snapshot():
    return synthetic.synthetic("mdpl2", box_size=BOX, seed=3)


@pytest.fixture(scope="module")
def catalog(snapshot):
    return catalogs.build(snapshot, seed=5)


@pytest.fixture(scope="module")
def poor():
    """Light clusters with 6 in 10 of their satellites: some have too few galaxies to be kept."""
    box = synthetic.synthetic("uchuu", box_size=BOX, seed=3)
    found = np.random.default_rng(3).random(len(box.position)) < 0.6
    return dataclasses.replace(box, is_satellite=box.is_satellite & found)


def few_clusters(n):
    rng = np.random.default_rng(0)
    clusters = [(rng.normal(0, 900, k), rng.uniform(0, 2.3, k)) for k in rng.integers(11, 20, n)]
    made = small_catalog.catalog(clusters, 14 + rng.random(n))
    return dataclasses.replace(made, in_train=rng.random(n) < 0.5, provenance={"key": "abc", "parameters": {"seed": 1}})


def assert_equal(one, other):
    for name in COLUMNS:
        assert getattr(one, name).dtype == getattr(other, name).dtype
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.provenance == other.provenance


def test_training_set_is_flat_in_mass(snapshot, catalog):
    """facts.md, section 2: 126 rows per 0.02 dex wherever there is a cluster to see."""
    train = catalog.select(catalog.in_train)
    assert train.log_m200c.min() >= 14.0 and train.log_m200c.max() < 15.25
    edges = np.append(np.arange(14.0, 15.245, 0.02), 15.25)  # the last bin is half as wide
    there = np.histogram(snapshot.host_log_m200c, edges)[0] > 0
    np.testing.assert_array_equal(np.histogram(train.log_m200c, edges)[0], there * np.r_[np.full(62, 126), 63])


def test_crowded_bins_are_downsampled_without_replacement(poor):
    train = catalogs.build(poor, rows_per_dex=500, min_log_m200c=13.6, seed=4)
    train = train.select(train.in_train)
    bins = np.arange(13.8, 14.001, 0.02)
    np.testing.assert_array_equal(np.histogram(train.log_m200c, bins)[0], 10)
    crowded = np.histogram(poor.host_log_m200c, bins)[0] >= 4  # three lines of sight give 12 views or more
    assert crowded.sum() > 5
    for low, high in zip(bins[:-1][crowded], bins[1:][crowded]):
        assert set(train.line_of_sight[(train.log_m200c >= low) & (train.log_m200c < high)]) <= {0, 1, 2}


def test_test_set_is_every_cluster_along_three_axes_as_observe_sees_it(snapshot, catalog):
    test = catalog.select(catalog.in_test)
    heavy = np.flatnonzero(snapshot.host_log_m200c >= 14.0)
    views = set(zip(test.cluster, test.line_of_sight, strict=True))
    assert views == {(cluster, axis) for cluster in heavy for axis in range(3)} and len(views) == len(test)
    np.testing.assert_array_equal(test.log_m200c, snapshot.host_log_m200c[test.cluster])
    rows = [0, len(test) // 2, len(test) - 1]
    some = test.select(rows)
    seen = observe.observe(snapshot, test.cluster[rows], np.eye(3)[test.line_of_sight[rows]])
    for found, expected in zip((some.richness, some.v_los, some.r_proj, some.is_member), seen, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert np.abs(catalog.v_los).max() < 3785 and catalog.r_proj.max() <= np.float32(2.3)


def test_rows_have_more_than_ten_galaxies_and_each_view_is_drawn_once(catalog, poor):
    satellites = catalogs.build(poor, rows_per_dex=1500, galaxies="satellites", min_log_m200c=13.6, seed=5)
    for one in (catalog, satellites):
        assert one.richness.min() > 10
        assert not (one.in_train & one.in_test).any() and (one.in_train | one.in_test).all()
        for flag in (one.in_train, one.in_test):
            views = np.stack([one.cluster, one.line_of_sight])[:, flag]
            assert len(np.unique(views, axis=1).T) == flag.sum()
    light = np.flatnonzero((poor.host_log_m200c >= 13.6) & (poor.host_log_m200c < 13.9))
    count = observe.observe(poor, light, np.eye(3)[np.zeros(len(light), int)], galaxies="satellites")[0]
    assert min(count) <= 10  # there was something to leave out
    rows = np.histogram(satellites.log_m200c[satellites.in_train], np.arange(13.8, 14.001, 0.02))[0]
    assert rows.max() == 30 and rows.mean() > 25  # others were drawn in their place


def test_folds_are_ranks_modulo_ten(snapshot, catalog):
    log_m = np.random.default_rng(1).permutation(np.linspace(13.7, 15.2, 137))
    np.testing.assert_array_equal(catalogs.folds(log_m)[np.argsort(log_m)], np.arange(137) % 10)
    np.testing.assert_array_equal(catalog.fold, catalogs.folds(snapshot.host_log_m200c)[catalog.cluster])


def test_extra_hosts_are_trained_on_but_not_tested(snapshot, catalog):
    extra = synthetic.heavy_box("mdpl2", 15, seed=3)
    both = catalogs.build(snapshot, extra=extra, seed=5)
    assert_equal(both.select(both.in_test), catalog.select(catalog.in_test))
    own = len(snapshot.host_log_m200c)
    np.testing.assert_array_equal(both.extra_host, both.cluster >= own)
    extras, heavy = both.select(both.extra_host), both.in_train & (both.log_m200c >= synthetic.LOG_M_EXTRA[0])
    assert len(np.unique(extras.cluster)) > 10 and extras.in_train.all()
    np.testing.assert_array_equal(extras.log_m200c, extra.host_log_m200c[extras.cluster - own])
    np.testing.assert_array_equal(extras.fold, catalogs.folds(extra.host_log_m200c)[extras.cluster - own])
    there = np.unique(np.concatenate([snapshot.host_log_m200c, extra.host_log_m200c]) // 0.02)
    rows = np.unique(both.log_m200c[heavy] // 0.02, return_counts=True)[1]
    assert np.isin(both.log_m200c[heavy] // 0.02, there).all() and np.median(rows) == 126  # as flat as without them
    assert extras.select([0]).is_member.sum() > 50


def test_the_seed_decides_the_draw(snapshot, catalog):
    assert_equal(catalogs.build(snapshot, seed=5), catalog)
    other = catalogs.build(snapshot, seed=6)
    assert not np.array_equal(other.select(other.in_train).cluster, catalog.select(catalog.in_train).cluster)
    np.testing.assert_array_equal(other.select(other.in_test).v_los, catalog.select(catalog.in_test).v_los)


@pytest.mark.parametrize("n", [0, 40])
def test_round_trip(tmp_path, n):
    catalog = few_clusters(50).select(np.arange(n))
    catalog.write(tmp_path / "mock.h5")
    assert_equal(MockCatalog.read(tmp_path / "mock.h5"), catalog)


def test_a_file_without_a_column_is_refused_by_name(tmp_path):
    """`hdf5` refuses others that are damaged or foreign."""
    few_clusters(5).write(path := tmp_path / "mock.h5")
    with h5py.File(path, "a") as file:
        del file["r_proj"]
    with pytest.raises(ClusterToolsError, match=r"mock\.h5 is damaged.*make it again"):
        MockCatalog.read(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows_per_dex": 10}, "rows_per_dex is 10, but 50"),
        ({"galaxies": "some"}, "galaxies is 'some'"),
        ({"min_log_mstar": 15.0}, "No cluster of the box shows 11 galaxies .*lower min_log_mstar"),
        *(({"min_log_m200c": m}, f"min_log_m200c is {m!r}, but .* to 15.25") for m in (12.0, 15.25, "14")),
    ],
)
def test_what_cannot_be_drawn_is_refused(snapshot, options, words):
    with pytest.raises(ClusterToolsError, match=words):
        catalogs.build(snapshot, **options)


def test_boxes_of_light_hosts_and_wrong_shares_are_refused(snapshot):
    light = dataclasses.replace(snapshot, host_log_m200c=snapshot.host_log_m200c - 3)
    with pytest.raises(ClusterToolsError, match="choose a larger box_size"):
        catalogs.build(light)
    for share in (0, 1.1, float("nan")):
        with pytest.raises(ClusterToolsError, match=f"share is {share!r}, but a number above 0"):
            catalogs.thinned(None, share, seed=1)


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_a_thinned_catalogue_keeps_a_share_of_each_row(share):
    full = few_clusters(8)
    full = dataclasses.replace(full, v_los=np.arange(full.offsets[-1], dtype=np.float32))
    thin, again, other = (catalogs.thinned(full, share, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(thin.richness, np.ceil(share * full.richness))
    kept = thin.v_los.astype(int)
    assert len(np.unique(kept)) == len(kept)  # none twice
    np.testing.assert_array_equal(full.cluster_index[kept], thin.cluster_index)
    np.testing.assert_array_equal(thin.r_proj, full.r_proj[kept])
    assert np.array_equal(thin.v_los, again.v_los) and (share != 0.5 or not np.array_equal(thin.v_los, other.v_los))
