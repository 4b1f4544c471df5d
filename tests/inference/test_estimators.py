"""Classical estimators on clusters whose masses are known, and on planted relations."""

import matplotlib
import numpy as np
import pytest
from scipy.integrate import quad
from small_catalog import catalog

from cluster_tools.cosmology import COMA_REDSHIFT, critical_density
from cluster_tools.errors import ClusterToolsError
from cluster_tools.figures import comparisons
from cluster_tools.inference import estimators
from cluster_tools.mocks import dispersions

matplotlib.use("Agg")
G, C200 = 4.30091e-9, 4.0  # Mpc (km/s)^2 / Msun
CHEAP = [name for name in estimators.ESTIMATORS if name != "caustic"]


def mu(x):
    return np.log1p(x) - x / (1 + x)


def dispersion_squared(x):
    """Radial dispersion of an isotropic NFW halo at x = r / r_s, in units of 4 pi G rho_s r_s^2 (Jeans)."""
    inside = quad(lambda y: mu(y) / (y**3 * (1 + y) ** 2), x, np.inf)[0]
    return inside * x * (1 + x) ** 2


def nfw_cluster(n, m200c, reach, seed):
    """v_los [km/s] and comoving r_proj [Mpc/h] of n galaxies of an isotropic NFW halo out to `reach` r200c."""
    rng = np.random.default_rng(seed)
    r200c = (3 * m200c / (800 * np.pi * critical_density(COMA_REDSHIFT))) ** (1 / 3)
    grid = np.geomspace(1e-3, C200 * reach, 300)
    x = np.interp(rng.uniform(mu(grid[0]), mu(grid[-1]), n), mu(grid), grid)
    sigma = np.sqrt(G * m200c * C200 / (r200c * mu(C200)) * np.interp(x, grid, [dispersion_squared(g) for g in grid]))
    across = np.sqrt(1 - rng.uniform(-1, 1, n) ** 2)
    return rng.normal(0, sigma), x / C200 * r200c * across * (1 + COMA_REDSHIFT)


# Members


def test_shifting_gapper_takes_away_what_gaps_part():
    rng = np.random.default_rng(1)
    v_los = np.r_[rng.uniform(-600, 600, 120), [1900, 1950, -1700, 2600, 3500]]
    r_proj = np.r_[rng.uniform(0, 2.3, 120), rng.uniform(0, 2.3, 5)]
    order = rng.permutation(125)
    member = estimators.shifting_gapper(v_los[order], r_proj[order])
    np.testing.assert_array_equal(member, order < 120)
    np.testing.assert_array_equal(estimators.shifting_gapper(-v_los, r_proj), np.arange(125) < 120)
    assert estimators.shifting_gapper(v_los, r_proj, gap=4000).all()


def test_shifting_gapper_looks_at_each_radius_by_itself():
    # A chain of velocities at all radii together; in the outer bins, far ones stand alone.
    inner, outer = np.linspace(-2000, 2000, 41), np.r_[np.linspace(-200, 200, 30), 1500.0]
    v_los, r_proj = np.r_[inner, outer], np.r_[np.full(41, 0.2), np.full(31, 1.0)]
    assert np.flatnonzero(~estimators.shifting_gapper(v_los, r_proj)).tolist() == [71]


def test_bins_of_the_gapper_are_wide_and_full_enough():
    r_proj = np.random.default_rng(2).uniform(0, 2.3, 200)
    bins = estimators._radial_bins(r_proj, np.arange(200))
    assert sorted(np.concatenate(bins)) == list(range(200))
    for one, two in zip(bins, bins[1:]):
        assert r_proj[one].max() <= r_proj[two].min() and len(one) >= 15
        assert r_proj[two].min() - r_proj[one].min() >= 0.4
    assert [len(b) for b in estimators._radial_bins(r_proj[:12], np.arange(12))] == [12]
    assert estimators._radial_bins(r_proj, np.empty(0, int)) == []


# Masses


def test_m_sigma_is_the_relation_of_evrard():
    # 1082.9 km/s at E(z) M200c = 10^15 Msun/h (Evrard et al. 2008); a tenth of the mass has 10^-0.3361 of it.
    assert estimators.m_sigma(1082.9) * estimators.E_OF_Z == pytest.approx(1e15)
    assert estimators.m_sigma(1082.9 * 10**-0.3361) * estimators.E_OF_Z == pytest.approx(1e14)


@pytest.mark.parametrize(("r1", "r2"), [(0.3, 1.1), (1.0, 1.05), (0.0, 0.7), (2.0, 0.01)])
def test_mean_inverse_distance_is_the_mean_over_angles(r1, r2):
    expected = quad(lambda t: 1 / np.sqrt(r1**2 + r2**2 - 2 * r1 * r2 * np.cos(t)), 0, np.pi)[0] / np.pi
    assert estimators._mean_inverse_distance(np.array(r1), np.array(r2)) == pytest.approx(expected, rel=1e-6)


def test_mean_inverse_distance_of_equal_radii_is_finite():
    assert np.isfinite(estimators._mean_inverse_distance(np.array([0.0, 1.0]), np.array([0.0, 1.0]))).all()


def test_surface_term_is_that_of_an_nfw_halo():
    # Girardi et al. 1998: 4 pi b^3 rho(b) / M(<b) times (sigma_r(b) / sigma(<b))^2, sigma in three dimensions.
    def rho(x):
        return 1 / (x * (1 + x) ** 2)

    mean = quad(lambda x: 3 * dispersion_squared(x) * x**2 * rho(x), 1e-6, C200)[0] / mu(C200)
    expected = C200**3 * rho(C200) / mu(C200) * dispersion_squared(C200) / mean
    assert pytest.approx(expected, abs=0.001) == estimators.SURFACE_TERM


@pytest.mark.parametrize("m200c", [2e14, 1e15])
def test_virial_mass_of_an_nfw_halo_is_its_mass(m200c):
    # Out to R200c, and velocities that know of the mass outside: what the surface term is for.
    found = estimators.virial_mass(*nfw_cluster(1500, m200c, 1.0, seed=3))
    assert found == pytest.approx(m200c, rel=0.1)


def test_virial_mass_scales_as_velocity_squared_and_radius():
    rng = np.random.default_rng(4)
    v_los, r_proj = rng.uniform(-900, 900, 400), rng.uniform(0, 2, 400)  # no gaps
    one = estimators.virial_mass(v_los, r_proj)
    # R200c scales with sigma, so that the same galaxies are inside.
    assert estimators.virial_mass(v_los / 2, r_proj / 2) == pytest.approx(one / 8, rel=1e-3)


def test_mass_within_200c_of_an_isothermal_amplitude():
    # A = const: M(<r) = F A^2 r / G, and 200 rho_c 4/3 pi r^2 = F A^2 / G.
    radius, amplitude = np.linspace(0, 2.3, 400), 1500.0
    r200c = np.sqrt(3 * 0.7 * amplitude**2 / (800 * np.pi * G * critical_density(COMA_REDSHIFT)))
    found = estimators.mass_within_200c(radius, np.full(400, amplitude))
    assert found == pytest.approx(0.7 * amplitude**2 * r200c / G, rel=1e-3)
    assert np.isnan(estimators.mass_within_200c(radius, np.full(400, 10000.0)))  # R200c beyond the last radius
    assert np.isnan(estimators.mass_within_200c(radius, np.zeros(400)))


def test_caustic_mass_of_an_nfw_halo(capsys):
    # Serra et al. 2011: individual mass profiles are off by 40 to 80%.
    cluster = nfw_cluster(300, 6e14, 2.0, seed=5)
    inside = cluster[1] < 2.3
    v_los, r_proj = cluster[0][inside], cluster[1][inside]
    found = estimators.caustic_mass(v_los, r_proj, 0)
    assert abs(np.log10(found / 6e14)) < 0.3
    assert estimators.caustic_mass(v_los, r_proj, 0) == found
    assert abs(np.log10(estimators.caustic_mass(v_los, r_proj, 1) / found)) < 0.3
    assert capsys.readouterr().out == ""
    assert not hasattr(np, "trapz") or np.__version__ < "2.4"  # NumPy itself is left as it is


@pytest.mark.parametrize("name", estimators.ESTIMATORS)
def test_hopeless_clusters_are_nan(name):
    few = (np.array([1.0, -100.0, 50.0]), np.array([0.1, 0.5, 1.0]))
    v_los, r_proj = (np.concatenate([each, each[:1]]) for each in few)
    assert np.isnan(estimators.log_m200c(name, v_los, r_proj, [0, 0, 3, 4])).all()
    assert estimators.log_m200c(name, [], [], [0]).shape == (0,)
    still = np.zeros(20), np.linspace(0.1, 2, 20)  # no dispersion, no mass
    assert np.isnan(estimators.log_m200c(name, *still, [0, 20])).all()


@pytest.mark.parametrize("name", CHEAP)
def test_masses_know_nothing_of_order_direction_and_other_clusters(name):
    clusters = [nfw_cluster(n, m, 1.5, seed=n) for n, m in ((60, 1e14), (90, 3e14), (150, 8e14))]
    v_los, r_proj = (np.concatenate(column) for column in zip(*clusters))
    offsets = [0, 60, 150, 300]
    together = estimators.log_m200c(name, v_los, r_proj, offsets)
    assert np.isfinite(together).all()
    for mass, one in zip(together, clusters):
        backwards = estimators.log_m200c(name, -one[0][::-1], one[1][::-1], [0, len(one[0])])
        assert backwards[0] == pytest.approx(mass, abs=1e-9)


def test_unknown_estimator_is_refused():
    with pytest.raises(ClusterToolsError, match="estimator is 'x-ray', but one of .*virial, caustic is expected"):
        estimators.log_m200c("x-ray", [], [], [0])


# Calibration and judgement


def planted(n, seed, slope=0.8, scatter=0.0, fold=None):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(13.8, 15.2, n)
    masses = 14.9 + slope * (truth - 15) + rng.normal(0, scatter, n)
    published = dict.fromkeys(estimators.ESTIMATORS, masses)
    return estimators.Estimates(truth, np.arange(n), np.arange(n) % 10 if fold is None else fold, published)


def test_calibration_recovers_a_planted_relation_and_passes_nan_over():
    some = planted(50, seed=6)
    with_gaps = np.where(np.arange(50) % 7 == 0, np.nan, some.published["virial"])
    relation = estimators.fit(with_gaps, some.log_m200c)
    assert (relation.intercept, relation.slope) == pytest.approx((14.9, 0.8))
    np.testing.assert_allclose(relation.log_m200c(some.published["virial"]), some.log_m200c)
    assert np.isnan(relation.log_m200c(np.nan))


@pytest.mark.parametrize(("slope", "scatter"), [(-0.1, 0.0), (0.05, 0.5)])
def test_relation_that_does_not_rise_says_nothing(slope, scatter):
    some = planted(20, seed=7, slope=slope, scatter=scatter)
    assert np.isnan(estimators.fit(some.published["virial"], some.log_m200c).log_m200c(np.array([14.0, 15.0]))).all()


def test_too_few_estimates_are_refused():
    with pytest.raises(ClusterToolsError, match="2 of 4 training clusters have an estimate"):
        estimators.fit(np.array([14.0, np.nan, 15.0, np.nan]), np.array([14.0, 14.2, 14.8, 15.0]))


def test_calibrated_m_sigma_is_the_m_sigma_relation_of_the_baseline():
    rng = np.random.default_rng(8)
    log_m200c = rng.uniform(13.9, 14.9, 40)
    mocks = catalog([nfw_cluster(80, 10**m, 1.0, seed=i) for i, m in enumerate(log_m200c)], log_m200c)
    galaxies = (mocks.v_los, mocks.r_proj, mocks.offsets)
    published = estimators.log_m200c("M-σ, small cylinder", *galaxies)
    found = estimators.fit(published, mocks.log_m200c).log_m200c(published)
    relation = dispersions.fit_m_sigma(mocks, "small")
    expected = relation.log_m200c(dispersions.velocity_dispersions(*galaxies, "small"))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_no_cluster_is_calibrated_by_its_own_fold():
    train, test = planted(100, seed=9), planted(30, seed=10)
    spoilt = {"virial": train.published["virial"] + 0.5 * (train.fold == 4)}
    train = estimators.Estimates(train.log_m200c, train.cluster, train.fold, spoilt)
    off = np.abs(estimators.calibrated(train, test, "virial") - test.log_m200c)
    assert off[test.fold == 4].max() < 1e-9 < 0.03 < off[test.fold != 4].max()


def test_judgement_of_known_residuals():
    residual = np.random.default_rng(11).normal(0.05, 0.2, 4000)
    residual[:100] = np.nan
    found = estimators.judgement(residual, np.arange(4000), seed=1, resamples=50)
    assert (found["clusters"], found["failed"]) == (4000, 100)
    assert found["median"] == pytest.approx(0.05, abs=0.015)
    assert found["half_width"] == pytest.approx(0.2 * 0.9945, rel=0.05)  # 84% of a Gaussian lie below 0.9945 sigma
    assert found["median_error"] == pytest.approx(0.2 * np.sqrt(np.pi / 2 / 3900), rel=0.4)
    nothing = estimators.judgement(np.full(10, np.nan), np.arange(10), seed=1)
    assert nothing["failed"] == 10 and np.isnan(nothing["half_width"])


def test_comparison_weighing_and_figures_have_every_estimator():
    train = {name: planted(60, seed, scatter=0.1) for seed, name in enumerate(("uchuu", "mdpl2"))}
    test = {name: planted(40, 20 + seed, scatter=0.1) for seed, name in enumerate(("uchuu", "mdpl2"))}
    table = estimators.comparison(train, test, seed=1)
    assert len(table) == 5 * 3 * 2 and list(dict.fromkeys(table["estimator"])) == list(estimators.ESTIMATORS)
    calibrated = table[table["simulation"] != ""]
    np.testing.assert_allclose(calibrated["half_width"], 0.1 / 0.8, rtol=0.5)
    assert calibrated["median"].abs().max() < 0.1
    weighed = estimators.weigh(train, *nfw_cluster(120, 6e14, 1.5, seed=12))
    assert weighed["estimator"].tolist() == list(estimators.ESTIMATORS)
    assert weighed[["published", "uchuu", "mdpl2"]].notna().all(axis=None)

    import matplotlib.pyplot as plt

    table.loc[0, ["half_width", "median"]] = 5.0, -3.0  # beyond the edge
    fig, (scatter, bias, ax) = plt.subplots(1, 3)
    comparisons.estimator_residuals(scatter, bias, table)
    comparisons.estimator_legend(scatter)
    assert [t.get_text() for t in scatter.get_yticklabels()] == list(estimators.ESTIMATORS)[::-1]
    rows = weighed.assign(kind="as published", mass=weighed["published"], error=0.2)
    comparisons.estimator_masses(ax, rows, (15.1, 0.15))
    fig.canvas.draw()
    plt.close(fig)


def test_estimates_follow_the_rows_of_a_catalogue():
    mocks = catalog([nfw_cluster(60, m, 1.0, seed=i) for i, m in enumerate((2e14, 4e14, 8e14))], [14.3, 14.6, 14.9])
    found = estimators.estimate(mocks, [2, 0], seed=1)
    assert found.log_m200c.tolist() == [14.9, 14.3] and found.fold.tolist() == [2, 0]
    assert set(found.published) == set(estimators.ESTIMATORS)
    alone = estimators.log_m200c("caustic", *nfw_cluster(60, 2e14, 1.0, seed=0), [0, 60], seed=1)
    assert found.published["caustic"][1] == pytest.approx(alone[0], abs=0.01)  # float32 against float64
