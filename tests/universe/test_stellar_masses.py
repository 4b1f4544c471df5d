"""Stellar masses against the mass function of GAMA, the mocks' abundances and brightest cluster galaxies."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import least_squares
from scipy.special import ndtr
from scipy.stats import kstest

from cluster_tools.cosmology import PAPER_SIMULATIONS, SIMULATIONS
from cluster_tools.universe import stellar_masses, synthetic

LOG_M = np.arange(10.3, 15.7, 0.01)  # log10 Msun/h: no halo below holds a galaxy above 10^9 Msun
EDGES = np.linspace(9.5, 11.3, 19)  # of the mass function that was fitted
# Read off published MDPL2-UM figures: all galaxies above 10^9.5 Msun in a (Mpc/h)^3, and the satellites' share.
DENSITY, SATELLITE_FRACTION = 0.023, 0.28
CENTRAL_DENSITY, HALF_OCCUPIED = 0.0166, 11.33


@pytest.fixture(scope="module")
def haloes():
    """Number of haloes in a (Mpc/h)^3 in each step of LOG_M, for each simulation."""
    return {name: synthetic.halo_mass_function(sim, LOG_M) * 0.01 for name, sim in SIMULATIONS.items()}


def centrals(haloes, cuts):
    """Centrals above each cut in a (Mpc/h)^3."""
    return np.array([haloes @ stellar_masses.central_occupation(LOG_M, cut) for cut in cuts])


def satellites(haloes, cuts):
    """Satellites likewise. Their mean number above 10^9.5 Msun, 27 at 10^14 Msun/h: published MDPL2-UM figures."""
    number = 27 * 10 ** (0.95 * (LOG_M - 14)) * np.exp(-5e11 / 10**LOG_M + 5e11 / 1e14)
    return np.array([(haloes * number) @ stellar_masses.satellite_ratio(LOG_M, cut) for cut in cuts])


def baldry2012(edges):
    """Galaxies in a (Mpc/h)^3 between edges, log10 [Msun]: the double Schechter fit of Baldry et al. 2012 (h = 0.7)."""

    def per_dex(log_mstar):
        x = 10 ** (log_mstar - 10.66)
        return np.log(10) * np.exp(-x) * (3.96e-3 * x ** (1 - 0.35) + 0.79e-3 * x ** (1 - 1.47)) / 0.7**3

    return np.array([quad(per_dex, *pair)[0] for pair in zip(edges[:-1], edges[1:], strict=True)])


@pytest.mark.parametrize("name", PAPER_SIMULATIONS)
def test_densities_are_those_of_the_mocks(haloes, name):
    central, satellite = centrals(haloes[name], [9.5])[0], satellites(haloes[name], [9.5])[0]
    np.testing.assert_allclose(central, CENTRAL_DENSITY, rtol=0.015)
    np.testing.assert_allclose(central + satellite, DENSITY, rtol=0.02)
    assert abs(satellite / (central + satellite) - SATELLITE_FRACTION) < 0.005
    np.testing.assert_allclose(baldry2012([9.5, 12.5]), DENSITY, rtol=0.01)
    half = np.interp(0.5, stellar_masses.central_occupation(LOG_M, 9.5), LOG_M)
    assert abs(half - HALF_OCCUPIED) < 0.025


@pytest.mark.parametrize("name", PAPER_SIMULATIONS)
def test_mass_function_is_that_of_gama(haloes, name):
    edges = np.linspace(9.0, 11.5, 26)
    ratio = -np.diff(centrals(haloes[name], edges) + satellites(haloes[name], edges)) / baldry2012(edges)
    np.testing.assert_allclose(ratio[:-2], 1, rtol=0.07)  # from 10^9 Msun, half a dex below the fit
    # Beyond the fit the module states 18% and 59% more galaxies than the Schechter function.
    np.testing.assert_allclose(ratio[-2:], [1.18, 1.59], rtol=0.03)


def test_the_relation_is_the_one_that_fits(haloes):
    """RELATION is a fit of the centrals, with the satellites that it implies held fixed."""
    number, expected = haloes["mdpl2"], baldry2012(EDGES)
    n_satellites = -np.diff(satellites(number, EDGES))

    def residuals(parameters):
        relation = stellar_masses.Relation(*parameters)
        median = stellar_masses.median_log_mstar(LOG_M, relation)
        above = np.array([number @ ndtr((median - edge) / stellar_masses.SCATTER) for edge in EDGES])
        at_half = stellar_masses.median_log_mstar(HALF_OCCUPIED, relation)
        return np.r_[
            np.log((n_satellites - np.diff(above)) / expected) / 0.1,
            np.log(above[0] / CENTRAL_DENSITY) / 0.005,
            (at_half - 9.5) / 0.02,
        ]

    # Started from Moster et al. 2013 (z = 0): log M1 = 11.59 Msun, N = 0.0351 and the two slopes.
    h = SIMULATIONS["mdpl2"].hubble
    fit = least_squares(residuals, [11.59 + np.log10(h), 0.0351 / h, 1.376, 0.608])
    np.testing.assert_allclose(fit.x, stellar_masses.RELATION, rtol=2e-3)


def test_brightest_cluster_galaxies():
    # Abdullah et al. 2026 (arXiv 2603.14330), 996 SDSS clusters: mean log Mstar = 11.04 +- 0.01 [Msun/h^2] at
    # log M200 = 14.2 [Msun/h], scatter 0.19.
    h = SIMULATIONS["mdpl2"].hubble
    assert abs(stellar_masses.median_log_mstar(14.2) - (11.04 - 2 * np.log10(h))) < 0.05
    assert abs(stellar_masses.SCATTER - 0.19) < 0.02
    # Kravtsov et al. 2018: BCG mass rises as M500 to the power 0.4 +- 0.1. Theirs (0.17 +- 0.03) is flatter.
    slope = stellar_masses.median_log_mstar(15.0) - stellar_masses.median_log_mstar(14.0)
    assert abs(slope - 0.4) < 0.11


@pytest.mark.parametrize("log_m, cut", [(11.0, 9.0), (12.0, 10.0), (13.0, 10.5), (15.0, 11.5), (14.0, 9.0)])
def test_satellite_ratio_is_the_integral_of_the_mass_function(log_m, cut):
    # Yang et al. 2009, per dex: x^(alpha + 1) exp(-x^2).
    characteristic = max(float(stellar_masses.median_log_mstar(log_m)) - 0.25, 9.5)

    def per_dex(log_mstar):
        x = 10 ** (log_mstar - characteristic)
        return x**-0.1 * np.exp(-(x**2))

    expected = quad(per_dex, cut, 12.5)[0] / quad(per_dex, 9.5, 12.5)[0]
    np.testing.assert_allclose(stellar_masses.satellite_ratio(log_m, cut), expected, rtol=1e-3)


@pytest.mark.parametrize("log_m", [11.2, 12.0, 14.5])
def test_centrals_are_log_normal_above_the_cut(log_m):
    log_mstar = stellar_masses.draw_centrals(np.full(20_000, log_m), 9.5, np.random.default_rng(1))
    above = stellar_masses.central_occupation(log_m, 9.5)
    z = (stellar_masses.median_log_mstar(log_m) - log_mstar.astype(float)) / stellar_masses.SCATTER
    assert kstest(ndtr(z) / above, "uniform").pvalue > 0.01


@pytest.mark.parametrize("log_m", [11.2, 12.0, 14.5])
def test_satellites_are_as_many_above_any_cut_as_the_ratio_says(log_m):
    n = 40_000
    log_mstar = stellar_masses.draw_satellites(np.full(n, log_m), 9.0, np.random.default_rng(2))
    for cut in (9.25, 9.5, 9.75, 10.0, 10.5, 11.0, 11.5):
        expected = stellar_masses.satellite_ratio(log_m, cut) / stellar_masses.satellite_ratio(log_m, 9.0)
        assert abs(np.sum(log_mstar >= cut) - n * expected) < 4 * np.sqrt(n * expected) + 1


@pytest.mark.parametrize("draw", [stellar_masses.draw_centrals, stellar_masses.draw_satellites])
def test_draws_are_above_the_cut(draw):
    log_m = np.random.default_rng(3).uniform(9.0, 15.5, 10_000).astype(np.float32)
    for cut in (9.0, 9.3, 10.1, 11.5):
        drawn = draw(log_m, cut, np.random.default_rng(4))
        assert drawn.dtype == np.float32 and drawn.shape == log_m.shape and np.all(drawn >= cut) and np.all(drawn < 13)
