"""Dispersions and interlopers on planted velocities."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import truncnorm

from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import dispersions


def dispersion(v_los, r_proj=0.5, selection="raw"):
    return dispersions.velocity_dispersions(v_los, np.broadcast_to(r_proj, len(v_los)), [0, len(v_los)], selection)[0]


def test_raw_and_small_dispersions_are_unbiased_standard_deviations():
    v = np.array([-200.0, -100.0, 0.0, 100.0, 200.0, 2199.0, 2200.0, -2600.0, 50.0, -50.0])
    r_proj = np.array([0.1, 0.2, 0.3, 0.4, 1.6, 0.5, 0.5, 0.5, 1.61, 2.2])
    assert dispersion(v) == pytest.approx(np.std(v, ddof=1), rel=1e-12)
    assert dispersion(v, r_proj, "medium") == pytest.approx(np.std(v[:6], ddof=1), rel=1e-12)
    # Uniform over the window: 2 * 3785 / sqrt(12), the 2185 km/s of an empty cylinder.
    assert dispersion(np.linspace(-3784, 3784, 20001)) == pytest.approx(2185, rel=1e-3)


def test_clipping_takes_planted_interlopers_away():
    rng = np.random.default_rng(1)
    members = rng.normal(0, 500, 300)
    interlopers = np.r_[np.full(15, 3000.0), np.full(15, -3000.0)]
    together = rng.permutation(np.r_[members, interlopers])
    kept = members
    while (inside := np.abs(kept - kept.mean()) <= 3 * kept.std(ddof=1)).sum() < len(kept):
        kept = kept[inside]
    assert dispersion(together) > 1.8 * dispersion(members)
    assert dispersion(together, selection="clipped") == pytest.approx(np.std(kept, ddof=1), rel=1e-12)
    assert dispersion(together, selection="clipped") == pytest.approx(dispersion(members), rel=0.05)


def test_clipped_gaussian_has_the_analytic_dispersion():
    # Clipped until nothing changes, s is the standard deviation of a unit Gaussian cut at 3 s.
    expected = brentq(lambda s: truncnorm.std(-3 * s, 3 * s) - s, 0.8, 1.0)
    v = np.random.default_rng(2).normal(0, 700, 400_000)
    assert dispersion(v, selection="clipped") == pytest.approx(700 * expected, rel=0.005)


def test_too_few_galaxies_have_no_dispersion():
    v = np.r_[np.arange(4.0), np.arange(5.0), np.arange(6.0)]
    found = dispersions.velocity_dispersions(v, np.full(15, 0.5), [0, 4, 9, 15], "raw")
    assert np.isnan(found[0]) and np.isfinite(found[1:]).all()
    # Eleven galaxies, but four of them in the medium cylinder.
    far = np.r_[np.full(4, 1.0), np.full(7, 2.0)]
    assert np.isnan(dispersion(np.arange(11.0), far, "medium"))
    assert len(dispersions.velocity_dispersions([], [], [0])) == 0


def test_unknown_selection_is_refused():
    with pytest.raises(ClusterToolsError, match="selection.*gapper.*raw, clipped, medium"):
        dispersion(np.arange(9.0), selection="gapper")
