"""Variations of analysis and observation: galaxies kept and lost, networks, and the summary."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from small_catalog import ten_folds
from small_networks import network

from cluster_tools.book import profiles
from cluster_tools.coma import robustness, survey
from cluster_tools.coma.robustness import Analysis, Clusters, Masses
from cluster_tools.cosmology import simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.figures import comparisons
from cluster_tools.mocks import catalogs, observe
from cluster_tools.networks import ensembles
from cluster_tools.universe import snapshots

CLOSE = 55 / 3600 * np.pi / 180 * 68.9  # Mpc/h: 55 arcsec at 68.9 Mpc/h
RANGE = (14.0, 15.56)


def clusters(counts, r_max=2.3):
    rng = np.random.default_rng(0)
    n = sum(counts)
    r_proj, azimuth = r_max * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    mass, view = rng.uniform(14, 15, len(counts)), 1000 * np.arange(len(counts))
    return Clusters(rng.normal(0, 900, n), r_proj, np.r_[0, np.cumsum(counts)], azimuth, mass, view)


def test_clusters_with_fewer_than_11_galaxies_left_drop_out():
    full = clusters([20, 15, 30])
    kept = np.ones(65, bool)
    kept[20:25] = False  # 10 are left of the second
    thinned = full.thinned(kept)
    np.testing.assert_array_equal(thinned.offsets, [0, 20, 50])
    np.testing.assert_array_equal(thinned.view, [0, 2000])
    np.testing.assert_array_equal(thinned.log_m200c, full.log_m200c[[0, 2]])
    np.testing.assert_array_equal(thinned.v_los, np.r_[full.v_los[:20], full.v_los[35:]])


def test_cylinder_of_an_analysis_cuts_and_the_mesh_stays():
    full = clusters([60, 80])
    thinned = robustness.in_cylinder(full, Analysis(aperture=1.6, velocity_cut=1000))
    np.testing.assert_array_equal(thinned.v_los, full.v_los[(full.r_proj <= 1.6) & (np.abs(full.v_los) < 1000)])
    assert robustness.images(thinned).shape == (2, 48, 48)
    np.testing.assert_array_equal(robustness.in_cylinder(full, Analysis()).v_los, full.v_los)


def test_analysis_varies_in_one_choice():
    assert Analysis().varied("epochs", 20) == Analysis(epochs=20)
    for what, value, words in (
        ("bandwidth", 0.3, "no 'bandwidth' to vary; its choices are dropout_rate"),
        ("aperture", 3.0, "aperture is 3.0.*2.3"),
        ("velocity_cut", "fast", "velocity_cut is 'fast'"),
        ("kernel", "round", "kernel is 'round', but 'own' or 'fixed'"),
        ("universe", "mine", "universe is 'mine'"),
    ):
        with pytest.raises(ClusterToolsError, match=words):
            Analysis().varied(what, value)
    for change in (robustness.down_sampled, robustness.fibre_collisions):
        for share in (0, 1.5, "many"):
            with pytest.raises(ClusterToolsError, match=f" is {share!r}, but a number above 0 and at most 1"):
                change(clusters([20]), share, seed=1)


def test_fixed_kernel_is_that_of_the_median_cluster():
    rng = np.random.default_rng(1)
    v_los = np.outer([400, 800, 1600], rng.standard_normal(4000)).ravel()
    r_proj = np.tile(2.3 * rng.random(4000), 3)
    full = Clusters(v_los, r_proj, 4000 * np.arange(4), r_proj, np.zeros(3), np.arange(3))
    expected = np.diag([(0.25 * 800) ** 2, (0.25 * 2.3) ** 2 / 12])
    np.testing.assert_allclose(robustness.fixed_kernel(full), expected, rtol=0.05)


@pytest.mark.parametrize("share", [0.6, 0.8, 1.0])
def test_down_sampling_keeps_its_share_whatever_the_galaxy(share):
    full = clusters([20000, 20000])
    thinned = robustness.down_sampled(full, share, seed=3)
    assert len(thinned.v_los) / 40000 == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 40000) + 1e-9)
    assert np.median(thinned.r_proj) == pytest.approx(np.median(full.r_proj), abs=0.02)
    np.testing.assert_array_equal(thinned.v_los, robustness.down_sampled(full, share, seed=3).v_los)


def test_no_close_pair_is_left_when_all_collide():
    thinned = robustness.fibre_collisions(clusters([400, 200], r_max=0.5), 1.0, seed=1)
    assert thinned.richness.sum() < 550
    for begin, end in zip(thinned.offsets, thinned.offsets[1:]):
        place = (thinned.r_proj * np.exp(1j * thinned.azimuth))[begin:end]
        distance = np.abs(place[:, None] - place) + np.eye(len(place))
        assert distance.min() > 0.998 * CLOSE


def test_half_of_lonely_pairs_lose_one_galaxy():
    n = 400  # pairs, each far from all others
    azimuth = 2 * np.pi * np.repeat(np.arange(n), 2) / n
    r_proj = 2.0 + np.tile([0, 0.9 * CLOSE], n)
    full = Clusters(np.arange(2.0 * n), r_proj, np.array([0, 2 * n]), azimuth, np.zeros(1), np.zeros(1, int))
    left = [robustness.fibre_collisions(full, p, seed=2).v_los for p in (0.5, 1.0)]
    assert len(left[1]) == n and len(left[0]) == pytest.approx(1.5 * n, abs=4 * np.sqrt(n) / 2)
    assert (left[1] % 2 == 0).sum() == pytest.approx(n / 2, abs=4 * np.sqrt(n) / 2)  # either is lost as often
    apart = replace(full, r_proj=2.0 + np.tile([0, 1.1 * CLOSE], n))
    order = np.r_[0 : 2 * n : 2, 1 : 2 * n : 2]  # one of each pair in either cluster
    halves = Clusters(full.v_los, r_proj[order], np.array([0, n, 2 * n]), azimuth[order], np.zeros(2), np.arange(2))
    for lonely in (apart, halves):
        assert len(robustness.fibre_collisions(lonely, 1.0, seed=2).v_los) == 2 * n


@pytest.fixture(scope="module")
def box():
    """A box of clusters, each with 60 galaxies around it, and of galaxies spread evenly; and its catalogue."""
    rng, box_size, n_hosts = np.random.default_rng(4), 100.0, 40
    position, velocity = rng.uniform(0, box_size, (n_hosts, 3)), rng.normal(0, 300, (n_hosts, 3))
    hosts = position.astype(np.float32), velocity.astype(np.float32), np.sort(rng.uniform(14.0, 14.6, n_hosts))
    galaxies = np.zeros(60 * n_hosts + 3000, snapshots.GALAXY)
    galaxies["position"] = rng.uniform(0, box_size, (len(galaxies), 3))
    galaxies["velocity"] = rng.normal(0, 300, (len(galaxies), 3))
    galaxies["host"] = -1
    host = galaxies["host"][: 60 * n_hosts] = np.repeat(np.arange(n_hosts), 60)
    galaxies["position"][: len(host)] = hosts[0][host] + rng.normal(0, 0.5, (len(host), 3))
    galaxies["velocity"][: len(host)] = hosts[1][host] + rng.normal(0, 600, (len(host), 3))
    galaxies["log_mstar"] = 10.0
    snapshot = snapshots.collect(simulation("uchuu"), box_size, *hosts, [galaxies])
    return snapshot, catalogs.build(snapshot, rows_per_dex=200, seed=1)


def test_rows_to_test_are_held_out_and_the_same_in_thinner_catalogues(box):
    _, catalog = box
    rows = robustness.test_rows(catalog, 5, seed=1)
    assert len(rows) == 5 and catalog.in_test[rows].all() and (catalog.fold[rows] == robustness.TEST_FOLD).all()
    thinner = catalog.select(np.setdiff1d(np.arange(len(catalog)), rows[:1]))
    views = robustness.test_clusters(catalog, 5, 1).view, robustness.test_clusters(thinner, 5, 1).view
    assert len(np.intersect1d(*views)) == 4
    trained_on = robustness.training_clusters(catalog, 50, seed=1)
    assert not np.isin(trained_on.view // 1000, catalog.cluster[catalog.fold == robustness.TEST_FOLD]).any()
    with pytest.raises(ClusterToolsError, match="no test cluster in fold 0; use a larger box_size"):
        robustness.test_rows(catalog.select(catalog.fold != 0), 5, seed=1)


def test_cylinder_beside_the_centre(box):
    snapshot, catalog = box
    rows = robustness.test_rows(catalog, 100, seed=1)
    cut = {"galaxies": "all", "min_log_mstar": 9.5}
    centred, beside = (robustness.off_centre(snapshot, catalog, rows, offset, 1, **cut) for offset in (0.0, 0.6))
    stored = robustness.test_clusters(catalog, 100, 1)
    for name in ("v_los", "r_proj", "view"):
        np.testing.assert_array_equal(getattr(centred, name), getattr(stored, name))
    # Members are at a Gaussian of 0.5 Mpc/h: off by d, their mean square radius grows by d^2.
    spread = [np.mean(part[part < 2.3] ** 2) for part in (centred.r_proj, beside.r_proj)]
    assert spread[1] - spread[0] == pytest.approx(0.36, abs=0.2)


def test_azimuths_of_coma_put_its_galaxies_where_they_are():
    sample = survey.load_sample("desi")
    thinned = robustness.coma_clusters([sample, sample[:20]])
    np.testing.assert_array_equal(thinned.offsets, [0, len(sample), len(sample) + 20])
    north, east = thinned.r_proj * np.cos(thinned.azimuth), thinned.r_proj * np.sin(thinned.azimuth)
    degree = np.pi / 180 * 68.9
    dec = (np.asarray(sample["dec"]) - survey.CENTRE_DEC) * degree
    ra = (np.asarray(sample["ra"]) - survey.CENTRE_RA) * np.cos(np.radians(np.asarray(sample["dec"]))) * degree
    np.testing.assert_allclose(north[: len(sample)], dec, atol=0.02)  # the sky is curved
    np.testing.assert_allclose(east[: len(sample)], ra, atol=0.02)


def test_coma_off_centre():
    sample = survey.load_sample("desi")
    same = robustness.coma_off_centre("desi", 0.0, 1, min_log_mstar=9.5)
    np.testing.assert_allclose(same.r_proj, sample["r_proj"].value, atol=1e-9)
    thinned = robustness.coma_off_centre("desi", 0.5, 4, min_log_mstar=9.5)
    # To north, east, south and west: a galaxy that lay d north of the centre lies d - 0.5 north of the first.
    north = (thinned.r_proj * np.cos(thinned.azimuth))[: thinned.offsets[1]]
    original = same.r_proj * np.cos(same.azimuth) - 0.5
    assert len(thinned) == 4 and np.median(north) == pytest.approx(np.median(original[original > -2.3]), abs=0.12)
    inner = [np.sum(thinned.r_proj[a:b] < 0.3) for a, b in zip(thinned.offsets, thinned.offsets[1:])]
    assert max(inner) < np.sum(sample["r_proj"].value < 0.3)  # the core is no longer in the middle


def test_analysis_is_trained_and_answers():
    of_coma = clusters([40] * 2)
    trained, answers = robustness.train_and_weigh(
        Analysis(epochs=1, dropout_rate=0.0, kernel="fixed", aperture=2.0), ten_folds(100), of_coma, [7],
        log_m200c_range=RANGE, max_train=50, max_test=5, draws=3, seed=1,
    )  # fmt: skip
    assert [each.seed for each in trained] == [7] == list(answers.seed)
    assert answers.residual.shape == (1, 5) and (answers.coma_sigma > 0).all()
    assert answers.galaxies == (of_coma.r_proj <= 2.0).sum() / 2
    # Without dropout, networks answer one cluster as they answer many.
    networks = [*trained, network(input_dim=2, seed=8)]
    pairs = {"a": (of_coma, of_coma), "b": (clusters([50]), clusters([45, 50, 55]))}
    weighed = robustness.weigh(networks, pairs, log_m200c_range=RANGE, draws=2, seed=1)
    ensemble = ensembles.CNNEnsemble(networks[1:], RANGE, {})
    for name, (coma, tests) in pairs.items():
        means = [ensemble.posterior(robustness.images(each), draws=2, seed=1).mean for each in (coma, tests)]
        assert weighed[name].coma_mean[1] == pytest.approx(means[0].mean(), abs=1e-4)
        np.testing.assert_allclose(weighed[name].residual[1], means[1] - tests.log_m200c, rtol=0, atol=1e-4)


def answers(mean, seeds, *, width=0.1, n=3000, rng=0, offset=0.0):
    residual = offset + width * np.random.default_rng(rng).standard_normal((len(seeds), n))
    of_coma = np.array(mean, float), np.full(len(seeds), 0.2), np.zeros(len(seeds))
    return Masses(500.0, np.array(seeds), *of_coma, 1000 * np.arange(n), residual, np.full_like(residual, 2 * width))


def test_summary_compares_with_the_baseline():
    base = answers([14.9, 15.0, 15.1], [1, 2, 3])
    with pytest.raises(ClusterToolsError, match="the baseline has 1 network"):
        robustness.summary(base.of_network(0), {}, {}, {}, seed=1)
    analyses = {("epochs", 20): answers([15.2], [4], width=0.15, rng=1)}
    observations = {("down_sampling", 0.6): answers([14.95, 15.06, 15.16], [1, 2, 3], rng=0, offset=0.05)}
    universes = {("velocity_bias", 1.05): answers([14.9, 15.0, 15.1], [1, 2, 3], offset=0.06)}
    table = robustness.summary(base, analyses, observations, universes, seed=1)
    assert list(table["kind"]) == ["baseline", "seed", "seed", "seed", "analysis", "observation", "universe"]
    assert list(table["value"]) == ["", "1", "2", "3", "20", "0.6", "1.05"]
    own, other, seen, elsewhere = (table.iloc[i] for i in (0, 4, 5, 6))
    assert other["shift"] == pytest.approx(0.2) and other["shift_error"] == pytest.approx(0.1 * np.sqrt(4 / 3))
    assert other["half_width"] == pytest.approx(0.15 * 0.9945, rel=0.05)
    assert other["change"] == pytest.approx(0.05 * 0.9945, abs=0.006) and 0.0005 < other["change_error"] < 0.01
    assert seen["shift"] == pytest.approx(0.17 / 3) and seen["shift_error"] == pytest.approx(0.0033, rel=0.1)
    # Masses there come out 0.06 dex too high, so Coma's would be lower.
    assert elsewhere["shift"] == pytest.approx(-0.06) and elsewhere["coma_mean"] == pytest.approx(14.94)
    # The same residuals but for an offset: no change of width, and none in the bootstrap.
    assert abs(seen["change"]) < 1e-12 and seen["change_error"] < 1e-12
    assert seen["bias"] - own["bias"] == pytest.approx(0.05)
    # Sigma twice as wide as the scatter: 95% inside, to the sampling error of 9000 residuals.
    assert own["sqrt_var"] == pytest.approx(0.2) and own["inside"] == pytest.approx(0.953, abs=0.01)
    # As text: no single seeds, and no shift of the baseline from itself.
    printed = comparisons.variation_table(table)
    assert printed["shift"].tolist()[:3] == ["–", "+0.200 ± 0.115", "+0.057 ± 0.003"]
    assert printed["shift"].iloc[3].startswith("-0.060") and printed["change"].iloc[0] == "–"


def test_half_widths_are_compared_on_clusters_that_both_have():
    base = answers([15.0, 15.1], [1, 2], n=400)
    fewer = replace(base, view=base.view[100:], residual=base.residual[:, 100:], sigma=base.sigma[:, 100:])
    first, *_, last = robustness.summary(base, {}, {("aperture", 1.6): fewer}, {}, seed=1).itertuples()
    assert last.test_rows == 300 and last.change == 0 and last.half_width != first.half_width


@pytest.fixture(scope="module")
def some_interlopers():
    full = ten_folds(400)
    return replace(full, is_member=np.random.default_rng(6).random(len(full.v_los)) < 0.7)


def test_clusters_of_another_universe_are_scaled_and_thinned(some_interlopers):
    catalog, member = some_interlopers, some_interlopers.is_member
    same = robustness.in_universe(catalog, 1)
    for name in ("v_los", "r_proj", "offsets"):
        np.testing.assert_array_equal(getattr(same, name), getattr(catalog, name))
    hotter = robustness.in_universe(catalog, 1, velocity_bias=1.1, infall=0.5)
    expected = catalog.v_los * np.where(member, 1.1, 0.5)
    np.testing.assert_allclose(hotter.v_los, expected[np.abs(expected) < observe.VELOCITY_CUT], rtol=1e-5)
    wider = robustness.in_universe(catalog, 1, radius=np.linspace(1, 2, len(catalog)))
    assert wider.r_proj.max() <= observe.APERTURE and wider.is_member.sum() < member.sum()
    np.testing.assert_array_equal(wider.r_proj[~wider.is_member], catalog.r_proj[~member])
    for factor in (0.5, 2.0):  # half of the others go, or half of the members
        left = robustness.in_universe(catalog, 1, interlopers=factor).is_member
        members, others = left.sum() / member.sum(), (~left).sum() / (~member).sum()
        assert others / members == pytest.approx(factor, rel=0.15) and max(members, others) == 1


def test_unknown_universes_are_drawn_for_training_only(some_interlopers):
    drawn, again, plain = (
        robustness.training_clusters(some_interlopers, 10, 3, universe)
        for universe in ("unknown", "unknown", "as drawn")
    )
    np.testing.assert_array_equal(drawn.v_los, again.v_los)
    np.testing.assert_array_equal(drawn.log_m200c, plain.log_m200c)
    assert not np.isin(drawn.v_los, plain.v_los).any()


def test_figure_shows_every_row_and_the_paper():
    base = answers([14.9, 15.0, 15.1], [1, 2, 3], n=100)
    analyses, observations = {("galaxies", "all"): answers([15.2], [4], n=100)}, {("fibre_collisions", 0.5): base}
    masses, widths = Figure().subplots(1, 2, sharey=True)
    comparisons.variations(masses, widths, robustness.summary(base, analyses, observations, {}, seed=1), (15.10, 0.15))
    names = [text.get_text() for text in masses.get_yticklabels()]
    assert names == ["baseline", "seed 1", "seed 2", "seed 3", "galaxies: all", "fibre collisions, 50%"]
    band = masses.patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((14.95, 0.30))


@pytest.mark.parametrize("profile", ["smoke", "book", "paper"])
def test_every_variation_of_a_profile_has_a_label(profile):
    section = profiles.profile_parameters(profile)["robustness"]
    for choice, values in section["analyses"].items():
        assert all(str(value) in comparisons.variation_label(choice, value) for value in values)
        assert all(Analysis().varied(choice, value) for value in values)
    for flaw, values in (section["observations"] | section["universes"]).items():
        assert all(comparisons.variation_label(flaw, value) for value in values)
