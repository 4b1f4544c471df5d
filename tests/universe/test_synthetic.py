"""The synthetic universes against published abundances, richnesses and dispersions (sources beside the numbers).

Numbers of members and their dispersions are those of `cluster_dynamics.PUBLISHED`.
"""

import functools

import numba
import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.spatial import cKDTree

from cluster_tools.cosmology import SIMULATIONS, colossus_cosmology, other, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import cluster_dynamics, realism
from cluster_tools.universe import halo_field, snapshots, synthetic

BOX = 250.0


@pytest.fixture(scope="module", params=["mdpl2", "uchuu"])
def box(request):
    return synthetic.synthetic(request.param, box_size=BOX, seed=7)


def test_halo_counts_are_those_of_the_mass_function(box):
    """Within Poisson noise; the next test is about the function."""
    counts = realism.halo_counts(box)
    assert (abs(counts["found"] - counts["expected"]) < 3.5 * counts["error"]).all(), counts


@pytest.mark.parametrize(
    ("name", "edge", "number"),
    [("mdpl2", 14, 18.5e3), ("mdpl2", 14.5, 2.0e3), ("mdpl2", 15, 69),
     ("uchuu", 14, 151e3), ("uchuu", 14.5, 16.5e3), ("uchuu", 15, 559)],
)  # fmt: skip
def test_whole_boxes_would_hold_the_published_numbers_of_clusters(name, edge, number):
    log_m = np.linspace(edge, 15.9, 400)
    density = simpson(synthetic.halo_mass_function(SIMULATIONS[name], log_m), x=log_m)
    assert density * SIMULATIONS[name].box_size ** 3 == pytest.approx(number, rel=0.03)


def test_galaxies_are_as_many_as_in_universe_machine(box):
    """0.023 (h/Mpc)^3 above 10^9.5 Msun, 25 to 31% of them satellites; centrals gather around clusters."""
    assert len(box.position) / BOX**3 == pytest.approx(0.023, rel=0.12)
    assert 0.25 < box.is_satellite.mean() < 0.31
    centrals = box.position[~box.is_satellite]
    radii, clusters = np.array([3, 6, 10, 20]), box.host_position[box.host_log_m200c >= 14]
    measured = [cKDTree(centrals, boxsize=BOX).query_ball_point(clusters, r, return_length=True).mean() for r in radii]
    excess = measured / (len(centrals) / BOX**3 * 4 / 3 * np.pi * radii**3)
    assert np.all(np.diff(excess) < 0) and excess[0] > 5 and excess[-1] > 1.2


def test_members_are_as_many_and_as_fast_as_in_mdpl2_um(box):
    cylinders = cluster_dynamics.cylinders(cluster_dynamics.observe_clusters(box))
    for name, tolerance in (("N members", 0.15), ("sigma members", 0.1)):
        rows = cylinders[(cylinders["quantity"] == name) & (cylinders["log_m200c"] < 15)]
        assert len(rows) == 4
        np.testing.assert_allclose(rows["found"], rows["expected"], rtol=tolerance)


def test_haloes_stream_as_linear_theory_has_it(box):
    """One-dimensional rms of f H a / k times the linear density, between the box's and the grid's wave numbers."""
    sim = box.simulation
    colossus = colossus_cosmology(sim)
    k = np.geomspace(2 * np.pi / BOX, np.pi / halo_field.GRID, 2000)
    displacement = np.sqrt(simpson(colossus.matterPowerSpectrum(k, z=sim.redshift), x=k) / (6 * np.pi**2))
    expected = 100 * colossus.Ez(sim.redshift) / (1 + sim.redshift) * colossus.Om(sim.redshift) ** 0.55 * displacement
    heavy = box.host_velocity[box.host_log_m200c < 13.7].astype(float)
    assert np.sqrt(np.mean(heavy**2)) == pytest.approx(expected, rel=0.3)  # a small box has few of the longest waves
    assert np.abs(box.velocity.mean(axis=0, dtype=float)).max() < 40


def test_galaxies_fall_towards_clusters(box):
    """Mean peculiar velocity towards clusters above 10^14 at 2 to 4 R200c: 0.3 to 0.7 V200c in N-body runs."""
    profile = cluster_dynamics.infall_profile(box)
    outside = profile[(profile["r"] > 2) & (profile["r"] < 4)]
    assert 0.45 < -np.average(outside["v_radial"], weights=outside["galaxies"]) < 0.7


def test_each_host_has_one_central_at_its_place(box):
    for position in (box.position, box.host_position):
        assert position.min() >= 0 and position.max() < BOX
    assert box.host.min() == -1 and box.host_log_m200c.min() >= 13.5
    central = np.flatnonzero(~box.is_satellite & (box.host >= 0))
    np.testing.assert_array_equal(np.sort(box.host[central]), np.arange(len(box.host_log_m200c)))
    np.testing.assert_array_equal(box.position[central], box.host_position[box.host[central]])
    np.testing.assert_array_equal(box.velocity[central], box.host_velocity[box.host[central]])
    assert (realism.overlaps(box)["found"] == 0).all()  # no centre lies inside a larger host


def test_extra_hosts_join_an_ordinary_universe():
    """Heavy hosts as many as asked, apart from one another, around which nothing else changes."""
    box = synthetic.heavy_box("mdpl2", 30, seed=3)
    low, high = synthetic.LOG_M_EXTRA
    assert 30 <= len(box.host_log_m200c) < 40 and box.host_log_m200c.min() >= low  # with those of the mass function
    assert np.histogram(box.host_log_m200c, np.linspace(low, high, 4))[0].min() >= 5  # flat
    size = box.box_size
    assert size**3 == pytest.approx(30 * synthetic.VOLUME_OF_EXTRA)
    tree = cKDTree(box.host_position, boxsize=size)
    assert np.median(tree.query(box.host_position, 2)[0][:, 1]) > halo_field.APART - 8  # displacements are a few Mpc/h
    field = tree.query(box.position)[0] > 25  # Mpc/h from any of them
    points = np.random.default_rng(0).random((20_000, 3)) * size
    beyond = (tree.query(points)[0] > 25).mean() * size**3
    assert field.sum() / beyond == pytest.approx(0.023, rel=0.15)
    assert len(box.position) > 0.025 * size**3  # and their own galaxies come on top


@functools.cache
def small(name, seed, cut=9.5):
    """The smallest box, with galaxies above a cut in stellar mass."""
    return synthetic.synthetic(name, box_size=160, seed=seed, min_log_mstar=cut)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_box_in_a_file_holds_the_same_galaxies(tmp_path, monkeypatch, threads):
    """In memory and through a file, in any number of threads: the same, cell by cell."""
    box = small("uchuu", 5)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", threads)
    path, steps = tmp_path / "box.h5", []
    file = synthetic.synthetic("uchuu", box_size=160, seed=5, path=path, progress=lambda *step: steps.append(step))
    for name in (*snapshots.GALAXY.names, *snapshots.HOST_COLUMNS):
        np.testing.assert_array_equal(getattr(file, name)[()], getattr(box, name))
    assert steps == sorted(steps) and steps[-1] == (40, 40)
    assert list(tmp_path.iterdir()) == [path]


def test_seed_simulation_and_stellar_mass_cut_decide_the_universe():
    """Densities above each cut are integrals of the double Schechter function of Baldry et al. 2012 (GAMA)."""
    low, high = small("mdpl2", 5, cut=9.0), small("mdpl2", 6, cut=10.0)
    for different in (high, small("uchuu", 5)):
        assert not np.isin(different.host_log_m200c, low.host_log_m200c).any()
    assert low.log_mstar.min() >= 9.0 and high.log_mstar.min() >= 10.0
    above = np.count_nonzero(low.log_mstar >= 10.0)
    assert len(high.position) == pytest.approx(above, rel=0.1)  # boxes of other random numbers, and small ones
    for cut, density in ((9.0, 0.0365), (9.5, 0.0230), (10.0, 0.0136)):  # (h/Mpc)^3
        assert np.count_nonzero(low.log_mstar >= cut) / 160**3 == pytest.approx(density, rel=0.25)


@pytest.mark.parametrize(
    "wrong",
    [{"box_size": size} for size in (0, 159.9, 1000.1, np.nan, "large")]
    + [{"min_log_mstar": cut} for cut in (8.99, 11.51, np.nan, None)]
    + [{"log_m_host": 12.9}, {"seed": -1}, {"seed": 0.5}, {"extra_hosts": -1}],
)
def test_parameters_out_of_range_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ClusterToolsError, match=f"{name} is {value!r}, but .* expected"):
        synthetic.synthetic("mdpl2", **{"box_size": 160, **wrong})


def test_unknown_simulations_are_refused():
    for function in (synthetic.synthetic, simulation, other):
        with pytest.raises(ClusterToolsError, match=".millennium., but one of .*uchuu, mdpl2.* is expected"):
            function("millennium")
    assert (other("mdpl2"), other("uchuu")) == ("uchuu", "mdpl2")
