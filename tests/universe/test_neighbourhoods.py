"""The library of neighbourhoods against the N-body runs that it was cut from, and what is refused."""

import sys
from unittest import mock

import numpy as np
import pytest

from cluster_tools import hdf5
from cluster_tools.cosmology import PAPER_SIMULATIONS, RHO_CRITICAL, SIMULATIONS, efunc, other, r200c
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import halo_galaxies, nbody, neighbourhoods
from cluster_tools.universe.halo_field import Spheres
from cluster_tools.universe.neighbourhoods import INNER, OUTER, Surroundings

MDPL2 = SIMULATIONS["mdpl2"]


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of the shipped library to damage, in the place of the package's."""
    path = tmp_path / "mdpl2.h5"
    path.write_bytes(neighbourhoods.path_of("mdpl2").read_bytes())
    monkeypatch.setattr(neighbourhoods, "path_of", lambda name: path)
    neighbourhoods.load.cache_clear()
    yield path
    neighbourhoods.load.cache_clear()


@pytest.mark.parametrize("name", PAPER_SIMULATIONS)
def test_matter_falls_in_and_turns_around(name):
    """Expansion included, matter falls in slowly inside, fastest at 2.5 to 4 R200c, and turns around at 4.5 to 6.5."""
    library = neighbourhoods.load(name)
    r = np.linalg.norm(library.position, axis=1)
    assert r.min() > INNER - 0.01 and r.max() < OUTER + 0.01
    assert len(library.log_m200c) > 100 and library.log_m200c.max() > 15
    radial = (library.position * library.velocity).sum(axis=1) / r + r / 10
    edges = np.array([1.3, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.5, 6.5, 8.0])
    shell = np.digitize(r, edges)
    flow = np.array([radial[shell == k].mean() for k in range(1, len(edges))])
    assert -0.2 < flow[0] < 0 and flow[3] < -0.25 and flow[-1] > 0.1
    assert 2 <= np.argmin(flow) <= 4
    middle = (edges[1:] + edges[:-1]) / 2
    assert 4.5 < np.interp(0, flow[4:], middle[4:]) < 6.5
    other_run = neighbourhoods.load(other(name))
    assert len(library.matter) != len(other_run.matter) or abs(library.matter - other_run.matter).max() > 0.1


def test_velocities_of_haloes_turn_with_them_and_keep_the_flow():
    rng = np.random.default_rng(2)
    outward = halo_galaxies.isotropic(200_000, rng)
    position = rng.uniform(INNER, OUTER, len(outward))[:, None] * outward
    velocity = -0.4 * outward + 0.3 * rng.standard_normal(position.shape)
    halo = neighbourhoods._as_of_haloes(position, velocity)
    turned = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    of_turned = neighbourhoods._as_of_haloes(position @ turned, velocity @ turned)
    np.testing.assert_allclose(of_turned, halo @ turned, atol=1e-6)
    far = np.linalg.norm(position, axis=1) > 7  # where no factor changes the flow, and random velocities are the lowest
    radial = (halo * outward).sum(axis=1)[far]
    tangential = (halo[far] - radial[:, None] * outward[far]).std() * np.sqrt(1.5)  # two of three directions
    (_, along, across) = neighbourhoods.RANDOM[-1]
    np.testing.assert_allclose([radial.mean(), radial.std(), tangential], [-0.4, 0.3 * along, 0.3 * across], rtol=0.01)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "damaged"),
        (lambda path: hdf5.write(path, "neighbourhoods 0", {}, {}), "not a 'cluster_tools neighbourhoods 1' file"),
        (lambda path: None, "0{16} belongs to this version"),
    ],
)
def test_missing_damaged_and_other_libraries_are_refused(shipped, damage, message, monkeypatch):
    monkeypatch.setitem(neighbourhoods.DIGESTS, "mdpl2", "0" * 16)
    damage(shipped)
    with pytest.raises(ClusterToolsError, match=f"{message}.*make it again with: make neighbourhoods"):
        neighbourhoods.load("mdpl2")


def test_a_run_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysco", mock.Mock(run=mock.Mock(side_effect=KeyboardInterrupt)))
    with pytest.raises(KeyboardInterrupt):
        nbody.simulate(MDPL2, tmp_path / "mdpl2.h5", seed=1)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "pysco", None)
    with pytest.raises(ClusterToolsError, match="pysco-nbody is not installed; run it with: make neighbourhoods"):
        nbody.simulate(MDPL2, tmp_path / "mdpl2.h5", seed=1)


def test_particles_of_another_run_are_refused(tmp_path, capsys):
    parameters = nbody._parameters(SIMULATIONS["uchuu"], 4)
    particles = dict.fromkeys(("position", "velocity"), np.zeros((4, 3), np.float32))
    hdf5.write(tmp_path / "uchuu.h5", nbody.FORMAT, {**parameters, "seed": 0}, particles)
    assert nbody.main(tmp_path) == 1
    assert "uchuu.h5 was made with seed=0, but seed=4 is asked for" in capsys.readouterr().err


def test_cut_finds_a_halo_of_known_mass_and_its_surroundings(monkeypatch):
    """An isothermal sphere at rest, 200 times the critical density inside 1.6 Mpc/h, and shells that fall in."""
    monkeypatch.setattr(nbody, "BOX", 64.0)
    monkeypatch.setattr(nbody, "PARTICLES", 64)
    rng = np.random.default_rng(2)
    middle = np.array([63.8, 32.0, 0.3])  # across the edge
    mass = RHO_CRITICAL * MDPL2.omega_m  # of a particle, one in each (Mpc/h)^3
    critical = RHO_CRITICAL * efunc(MDPL2.redshift, omega_m=MDPL2.omega_m) ** 2 / (1 + MDPL2.redshift) ** 3
    number = int(800 / 3 * np.pi * 1.6**3 * critical / mass)
    outward = halo_galaxies.isotropic(3 * number, rng)
    r = rng.uniform(0, 3 * 1.6, 3 * number)  # mass grows with the radius
    grid = rng.uniform(0, 64, (64**3 - 3 * number, 3))
    position = np.mod(np.concatenate([middle + r[:, None] * outward, grid]), 64).astype(np.float32)
    velocity = np.concatenate([-500 * outward * (r > 1.6)[:, None], np.zeros_like(grid)]).astype(np.float32)
    columns = nbody.cut(MDPL2, position, velocity, rng)
    assert len(columns["log_m200c"]) == 1
    expected = 1.6 * nbody.WIDER
    assert r200c(columns["log_m200c"][0], MDPL2.redshift, omega_m=MDPL2.omega_m) == pytest.approx(expected, rel=0.03)
    x = columns["position"] * neighbourhoods.POSITION_STEP
    radius = np.linalg.norm(x, axis=1)
    falling = ((radius > 1.4) & (radius < 2.5)).nonzero()[0]
    radial = (x * columns["velocity"] * neighbourhoods.VELOCITY_STEP).sum(axis=1) / radius
    assert np.median(radial[falling]) == pytest.approx(-500 / (1000 * expected), abs=0.05)


@pytest.mark.parametrize("box_size", [25.0, 100.0])  # in the smaller one, spheres reach into cells from both sides
def test_owners_are_the_nearest_heavier_spheres_of_all(box_size):
    rng = np.random.default_rng(4)
    centre, asked = ((rng.random((n, 3)) * box_size).astype(np.float32) for n in (60, 2000))
    log_m, radius = rng.uniform(13, 15, 60), rng.uniform(0.01, 0.3, 60) * box_size
    asked[:60], lightest = centre, rng.uniform(12, 15, 2000)
    away = np.abs(asked[:, None].astype(float) - centre)
    scaled = np.linalg.norm(np.minimum(away, box_size - away), axis=2) / radius
    scaled[(scaled > 1) | (log_m <= lightest[:, None])] = np.inf
    expected = np.where(np.isfinite(scaled.min(axis=1)), scaled.argmin(axis=1), -1)
    owner = Spheres(centre, radius, log_m, box_size).owner(asked, lightest)
    np.testing.assert_array_equal(owner, expected)
    assert 100 < (owner >= 0).sum() < 1900


def test_positions_belong_to_the_nearest_host_in_units_of_r200c():
    """Two hosts 10 Mpc/h apart, one twice as wide: the border lies at two thirds of the way."""
    position = np.array([[1.0, 50, 50], [11.0, 50, 50]])
    log_m, radius = np.array([14.9, 14.0]), np.array([1.5, 0.75])
    hosts = Surroundings(MDPL2, 100.0, log_m, position, np.zeros((2, 3)), radius, np.random.default_rng(3))
    asked = np.array([[7.0, 50, 50], [8.5, 50, 50], [97.0, 50, 50], [50.0, 50, 50]])
    np.testing.assert_array_equal(hosts.reach.owner(asked), [0, 1, 0, -1])
    host, place, velocity = hosts.matter(np.array([0, 1]), np.array([300, 200]), np.array([0, 10**9]))
    np.testing.assert_array_equal(np.bincount(host), [300, 200])
    away = np.linalg.norm(place - position[host], axis=1) / np.array([1.5, 0.75])[host]
    assert away.min() > INNER - 0.01 and away.max() < OUTER + 0.01
    # The particle nearest to a particle's own place is itself.
    nearest = hosts.velocity_at(host, np.mod(place, 100)) * hosts.speed[host, None]
    assert np.median(np.abs(nearest - velocity)) < 1
