"""Classical estimators on clusters whose masses are known, and calibration on planted relations."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from small_catalog import catalog

from cluster_tools.cosmology import COMA_REDSHIFT, critical_density
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import estimators
from cluster_tools.mocks import dispersions

G, C200 = 4.30091e-9, 4.0  # Mpc (km/s)^2 / Msun


def mu(x):
    return np.log1p(x) - x / (1 + x)


def dispersion_squared(x):
    """Radial dispersion of an isotropic NFW halo at x = r / r_s, in units of 4 pi G rho_s r_s^2 (Jeans)."""
    inside = quad(lambda y: mu(y) / (y**3 * (1 + y) ** 2), x, np.inf)[0]
    return inside * x * (1 + x) ** 2


def nfw_cluster(n, m200c, radius, seed):
    """v_los [km/s] and comoving r_proj [Mpc/h] of n galaxies of an isotropic NFW halo inside `radius` r200c."""
    rng = np.random.default_rng(seed)
    r200c = (3 * m200c / (800 * np.pi * critical_density(COMA_REDSHIFT))) ** (1 / 3)
    grid = np.geomspace(1e-3, C200 * radius, 300)
    x = np.interp(rng.uniform(mu(grid[0]), mu(grid[-1]), n), mu(grid), grid)
    sigma = np.sqrt(G * m200c * C200 / (r200c * mu(C200)) * np.interp(x, grid, [dispersion_squared(g) for g in grid]))
    across = np.sqrt(1 - rng.uniform(-1, 1, n) ** 2)
    return rng.normal(0, sigma), x / C200 * r200c * across * (1 + COMA_REDSHIFT)


def test_shifting_gapper_removes_galaxies_beyond_gaps():
    rng = np.random.default_rng(1)
    v_los = np.r_[rng.uniform(-600, 600, 120), [1900, 1950, -1700, 2600, 3500]]
    r_proj = rng.uniform(0, 2.3, 125)
    order = rng.permutation(125)
    np.testing.assert_array_equal(estimators.shifting_gapper(v_los[order], r_proj[order]), order < 120)
    np.testing.assert_array_equal(estimators.shifting_gapper(-v_los, r_proj), np.arange(125) < 120)
    # All radii together form a chain of velocities; in the outer bin, the last galaxy stands alone.
    inner, outer = np.linspace(-2000, 2000, 41), np.r_[np.linspace(-200, 200, 30), 1500.0]
    v_los, r_proj = np.r_[inner, outer], np.r_[np.full(41, 0.2), np.full(31, 1.0)]
    assert np.flatnonzero(~estimators.shifting_gapper(v_los, r_proj)).tolist() == [71]


def test_m_sigma_is_the_relation_of_evrard():
    # 1082.9 km/s at E(z) M200c = 10^15 Msun/h (Evrard et al. 2008); a tenth of the mass has 10^-0.3361 of it.
    sigma = 1082.9 * 10 ** np.array([0, -0.3361])
    assert estimators.m_sigma(sigma) * estimators.E_OF_Z == pytest.approx([1e15, 1e14])


def test_surface_term_is_that_of_an_nfw_halo():
    # Girardi et al. 1998: 4 pi b^3 rho(b) / M(<b) times (sigma_r(b) / sigma(<b))^2, sigma in three dimensions.
    def rho(x):
        return 1 / (x * (1 + x) ** 2)

    mean = quad(lambda x: 3 * dispersion_squared(x) * x**2 * rho(x), 1e-6, C200)[0] / mu(C200)
    expected = C200**3 * rho(C200) / mu(C200) * dispersion_squared(C200) / mean
    assert pytest.approx(expected, abs=0.001) == estimators.SURFACE_TERM


def test_virial_mass_of_an_nfw_halo_is_its_mass():
    # Out to R200c, with velocities that feel the mass outside: the surface term corrects for it.
    for m200c in (2e14, 1e15):
        assert estimators.virial_mass(*nfw_cluster(1500, m200c, 1.0, seed=3)) == pytest.approx(m200c, rel=0.1)


def test_mass_within_200c_of_an_isothermal_amplitude():
    # A = const: M(<r) = F A^2 r / G, and 200 rho_c 4/3 pi r^2 = F A^2 / G.
    radius, amplitude = np.linspace(0, 2.3, 400), 1500.0
    r200c = np.sqrt(3 * 0.7 * amplitude**2 / (800 * np.pi * G * critical_density(COMA_REDSHIFT)))
    mass = estimators.mass_within_200c(radius, np.full(400, amplitude))
    assert mass == pytest.approx(0.7 * amplitude**2 * r200c / G, rel=1e-3)
    assert np.isnan(estimators.mass_within_200c(radius, np.full(400, 10000.0)))  # R200c beyond the last radius
    assert np.isnan(estimators.mass_within_200c(radius, np.zeros(400)))


def test_caustic_mass_of_an_nfw_halo(capsys):
    # Serra et al. 2011: individual mass profiles are off by 40 to 80%.
    v_los, r_proj = (column[:300] for column in nfw_cluster(300, 6e14, 2.0, seed=5))
    v_los, r_proj = v_los[r_proj < 2.3], r_proj[r_proj < 2.3]
    mass = estimators.caustic_mass(v_los, r_proj, 0)
    assert abs(np.log10(mass / 6e14)) < 0.3 and estimators.caustic_mass(v_los, r_proj, 0) == mass
    assert abs(np.log10(estimators.caustic_mass(v_los, r_proj, 1) / mass)) < 0.3
    assert capsys.readouterr().out == ""
    assert not hasattr(np, "trapz") or np.__version__ < "2.4"  # the patch leaves NumPy itself alone


@pytest.mark.parametrize("name", estimators.ESTIMATORS)
def test_hopeless_clusters_are_nan(name):
    v_los, r_proj = np.array([1.0, -100.0, 50.0, 1.0]), np.array([0.1, 0.5, 1.0, 0.1])
    assert np.isnan(estimators.log_m200c(name, v_los, r_proj, [0, 0, 3, 4])).all()
    assert np.isnan(estimators.log_m200c(name, np.zeros(20), np.linspace(0.1, 2, 20), [0, 20])).all()  # no dispersion


def planted(n, seed, slope=0.8, scatter=0.0):
    """Estimates that follow a line in the true mass."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(13.8, 15.2, n)
    estimates = 14.9 + slope * (truth - 15) + rng.normal(0, scatter, n)
    columns = {"log_m200c": truth, "cluster": np.arange(n), "fold": np.arange(n) % 10}
    return pd.DataFrame(columns | dict.fromkeys(estimators.ESTIMATORS, estimates))


def test_regression_recovers_a_planted_relation_without_failed_clusters():
    table = planted(50, seed=6)
    with_gaps = table["virial"].where(np.arange(50) % 7 > 0)
    relation = estimators.MassRegression.fit(with_gaps, table["log_m200c"])
    assert (relation.intercept, relation.slope) == pytest.approx((14.9, 0.8))
    np.testing.assert_allclose(relation.log_m200c(table["virial"]), table["log_m200c"])
    with pytest.raises(ClusterToolsError, match="2 of 4 training clusters.*more training clusters"):
        estimators.MassRegression.fit(np.array([14.0, np.nan, 15.0, np.nan]), np.array([14.0, 14.2, 14.8, 15.0]))
    for slope, scatter in ((-0.1, 0.0), (0.05, 0.5)):  # a relation that does not rise gives no mass
        table = planted(20, seed=7, slope=slope, scatter=scatter)
        relation = estimators.MassRegression.fit(table["virial"], table["log_m200c"])
        assert np.isnan(relation.log_m200c(np.array([14.0, 15.0]))).all()
        assert np.isfinite(relation.log_m200c(14.0, flat_too=True))


@pytest.mark.parametrize("selection", ["raw", "clipped", "medium"])
def test_m_sigma_relation_recovers_a_planted_one(selection):
    # Evrard et al. 2008 at z = 0: 1082.9 (M200 / 1e15 Msun/h)^0.3361 km/s, here without scatter.
    rng = np.random.default_rng(4)
    log_m200c, n = rng.uniform(13.9, 14.8, 400), 400
    sigma = 1082.9 * 10 ** (0.3361 * (log_m200c - 15))
    # Uniform velocities of this dispersion: no selection clips or cuts any of them.
    velocities = rng.uniform(-1, 1, (400, n)) * np.sqrt(3) * sigma[:, None]
    mocks = catalog([(v, np.full(n, 0.5)) for v in velocities], log_m200c)
    relation = estimators.fit_m_sigma(mocks, selection)
    # The error of log10 sigma from n uniform velocities: kurtosis 1.8, so 0.434 sqrt(0.8 / 4 n).
    error = 0.434 * np.sqrt(0.8 / (4 * n))
    assert relation.slope == pytest.approx(0.3361, abs=5 * error / np.std(log_m200c) / 20)
    assert relation.intercept == pytest.approx(np.log10(1082.9), abs=0.003)
    assert relation.scatter == pytest.approx(error / 0.3361, rel=0.15)
    np.testing.assert_allclose(relation.log_m200c(np.log10(sigma)), log_m200c, atol=0.02)
    # The calibrated M-sigma estimators have this relation, too.
    if name := dict(zip(("clipped", "medium"), estimators.ESTIMATORS)).get(selection):
        galaxies = (mocks.v_los, mocks.r_proj, mocks.offsets)
        published = estimators.log_m200c(name, *galaxies)
        calibrated = estimators.MassRegression.fit(published, log_m200c).log_m200c(published)
        measured = np.log10(dispersions.velocity_dispersions(*galaxies, selection))
        np.testing.assert_allclose(calibrated, relation.log_m200c(measured), rtol=1e-9)


def test_no_cluster_is_calibrated_by_its_own_fold():
    train, test = planted(100, seed=9), planted(30, seed=10)
    train["virial"] += 0.5 * (train["fold"] == 4)
    off = (estimators.calibrated(train, test, "virial") - test["log_m200c"]).abs()
    assert off[test["fold"] == 4].max() < 1e-9 < 0.03 < off[test["fold"] != 4].max()


def test_statistics_of_known_residuals():
    residual = np.random.default_rng(11).normal(0.05, 0.2, 4000)
    residual[:100] = np.nan
    statistics = estimators.residual_statistics(residual, np.arange(4000), seed=1)
    assert (statistics["clusters"], statistics["failed"]) == (4000, 100)
    assert statistics["median"] == pytest.approx(0.05, abs=0.015)
    assert statistics["half_width"] == pytest.approx(0.2 * 0.9945, rel=0.05)  # 84% of a Gaussian: 0.9945 sigma
    assert statistics["median_error"] == pytest.approx(0.2 * np.sqrt(np.pi / 2 / 3900), rel=0.4)
    assert estimators.residual_statistics(np.full(10, np.nan), np.arange(10), seed=1) == {"clusters": 10, "failed": 10}


def test_comparison_and_masses_have_every_estimator():
    train, test = (
        {name: planted(60, seed + i, scatter=0.1) for i, name in enumerate(("uchuu", "mdpl2"))} for seed in (0, 20)
    )
    table = estimators.comparison(train, test, seed=1)
    assert len(table) == 5 * 3 * 2 and list(table["estimator"].unique()) == list(estimators.ESTIMATORS)
    calibrated = table[table["simulation"] != ""]
    np.testing.assert_allclose(calibrated["half_width"], 0.1 / 0.8, rtol=0.5)
    assert calibrated["median"].abs().max() < 0.1
    masses = estimators.masses(train, *nfw_cluster(120, 6e14, 1.5, seed=12))
    assert masses["estimator"].tolist() == list(estimators.ESTIMATORS)
    assert masses[["published", "uchuu", "mdpl2"]].notna().all(axis=None)


def test_estimates_follow_the_rows_of_a_catalogue():
    mocks = catalog([nfw_cluster(60, m, 1.0, seed=i) for i, m in enumerate((2e14, 4e14, 8e14))], [14.3, 14.6, 14.9])
    table = estimators.estimate(mocks, [2, 0], seed=1)
    assert table["log_m200c"].tolist() == [14.9, 14.3] and table["fold"].tolist() == [2, 0]
    alone = estimators.log_m200c("caustic", *nfw_cluster(60, 2e14, 1.0, seed=0), [0, 60], seed=1)
    assert table["caustic"][1] == pytest.approx(alone[0], abs=0.01)  # float32 against float64


@pytest.mark.parametrize("name", ["virial", "caustic"])
def test_pairs_of_very_many_galaxies_are_drawn_at_random(name):
    """All pairs of 30,000 galaxies would fill 7 GB; the mass is that of the same halo with 1500."""
    rng = np.random.default_rng(1)
    v_los, r_proj = np.clip(rng.normal(0, 900, 30_000), -3780, 3780), np.minimum(rng.exponential(0.7, 30_000), 2.29)
    many, few = (estimators.log_m200c(name, v_los[:n], r_proj[:n], [0, n])[0] for n in (30_000, 1500))
    assert many == pytest.approx(few, abs=0.1)
