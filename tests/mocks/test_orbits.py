"""Galaxies around clusters against boxes whose answers are known."""

import numpy as np
import pandas as pd
import pytest
from test_realism import MDPL2, box_of

from cluster_tools import cosmology
from cluster_tools.mocks import cluster_dynamics, comparison, orbits
from cluster_tools.universe import halo_galaxies, snapshots


def test_measures_of_galaxies_counted_by_hand():
    r, v = np.array([0.1, 0.1, 0.6, 2.6, 2.6, 2.9, 0.2]), np.array([1.0, -2.0, 0.5, 2.0, 1.0, 0.5, 3.5])
    share, rms, interlopers, hot, cold = orbits.measures(r, v, [0, 0, 0, 1, 1, 0, 0])  # the last is too fast to count
    np.testing.assert_allclose(share[[0, 2, 7]], [2 / 6, 1 / 6, 3 / 6])
    np.testing.assert_allclose(rms[[0, 2, 7]], np.sqrt([2.5, 0.25, 1.75]))
    assert interlopers[7] == pytest.approx(2 / 3) and interlopers[0] == 0
    assert hot[7] == pytest.approx(np.sqrt(2.5)) and cold[7] == pytest.approx(0.5)
    assert np.isnan([rms[4], hot[0]]).all()


def test_clusters_alone_have_no_interlopers():
    """Members at rest within R200c, and galaxies at 2.5 R200c that fall in: none moves outward."""
    rng = np.random.default_rng(1)
    centre = rng.uniform(0, 200, (30, 3))
    r200c = cosmology.r200c(14.1, MDPL2.redshift, omega_m=MDPL2.omega_m)
    cluster, member = np.repeat(np.arange(30), 40), np.tile(np.arange(40) < 30, 30)
    outward = halo_galaxies.isotropic(1200, rng)
    galaxies = snapshots.galaxy_table(
        position=centre[cluster] + np.where(member, 0.5, 2.5)[:, None] * r200c * outward,
        velocity=np.where(member[:, None], rng.normal(0, 400, (1200, 3)), -900 * outward),
        host=np.where(member, cluster, -1), is_satellite=member, log_mstar=10.0,
    )  # fmt: skip
    box = box_of(centre, np.full(30, 14.1), galaxies)
    table = orbits.table(box, cluster_dynamics.infall_profile(box))
    assert tuple(table.columns) == comparison.COLUMNS
    mine = table[(table["log_m200c"] == 14.0) & (table["measure"] == "orbits")].set_index("quantity")["found"]
    near = mine[mine.index.str.startswith("interlopers, R / R200c 0")]
    assert (near.dropna() < 0.2).all()  # clusters overlap by chance
    assert mine["rms of others, R / R200c 0.25 to 0.5"] == pytest.approx(1, abs=0.25)
    others = table[(table["measure"] == "orbits") & (table["log_m200c"] > 14)]
    assert set(others["within"]) == {"-"}  # no such clusters


def test_flow_of_the_n_body_run_agrees_with_itself():
    r = np.array([1.45, 3.25, 5.5])
    v = np.interp(r, orbits.N_BODY_RADII, orbits.N_BODY_FLOW[14.49]) - r / 10
    profile = pd.DataFrame({"log_m200c": 14.5, "r": r, "v_radial": v, "error": 0.01})
    rows = comparison.comparison_table("flow", orbits._flow(profile))
    np.testing.assert_allclose(rows["found"], 0, atol=1e-12)
    assert set(rows["within"]) == {"yes"}
