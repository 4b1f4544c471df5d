"""Mock observations against a slow search over all periodic images of the box."""

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from scipy.interpolate import CubicSpline

from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import observe
from cluster_tools.universe import snapshots

C = 299792.458  # km/s
BOX = 160.0
HOST_POSITION = np.array([[80, 80, 80], [0.5, 159.5, 70], [159.9375, 0, 0], [2.25, 1.5, 158.25]], np.float32)


def random_box(seed=0, n=30_000, sim="mdpl2"):
    """Galaxies around the hosts, along the axes through them and everywhere; positions are multiples of 1/64 Mpc/h."""
    rng = np.random.default_rng(seed)
    host = np.where(rng.random(n) < 0.3, rng.integers(len(HOST_POSITION), size=n), -1)
    position = rng.uniform(0, BOX, (n, 3))
    near = HOST_POSITION[host] + 2 * rng.standard_normal((n, 3))
    position = np.round(np.where(host[:, None] >= 0, near, position) * 64) / 64
    hosts = HOST_POSITION, rng.normal(0, 300, (4, 3)).astype(np.float32), np.array([14.0, 14.2, 14.4, 14.6])
    galaxies = snapshots.galaxy_table(
        position=position, velocity=rng.normal(0, 700, (n, 3)), host=host,
        is_satellite=rng.random(n) < 0.3, log_mstar=rng.uniform(9.5, 11.5, n),
    )  # fmt: skip
    return snapshots.collect(SIMULATIONS[sim], BOX, *hosts, [galaxies])


def rebuilt(snapshot, path=None, **columns):
    """The snapshot with other columns, its galaxies handed over in two pieces."""
    changed = vars(snapshot) | columns
    galaxies = snapshots.galaxy_table(**changed)
    hosts = [changed[name] for name in snapshots.HOST_COLUMNS]
    return snapshots.collect(snapshot.simulation, BOX, *hosts, [galaxies[:7000], galaxies[7000:]], path=path)


def in_order(v_los, r_proj, is_member):
    """Galaxies sorted by velocity."""
    order = np.lexsort((r_proj, v_los))
    return v_los[order], r_proj[order], is_member[order]


def look(snapshot, host, direction, **options):
    """The galaxies of one observation, in order: v_los, r_proj, is_member."""
    count, *galaxies = observe.observe(snapshot, [host], [direction], **options)
    assert count.tolist() == [len(galaxies[0])]
    return in_order(*galaxies)


def slow_look(snapshot, host, direction, seen=slice(None)):
    """The same from all 27 images of the box, with astropy's distances and rapidities in place of velocities."""
    sim = snapshot.simulation
    z = np.linspace(0, 0.1, 2001)
    cosmology = FlatLambdaCDM(H0=100 * sim.hubble, Om0=sim.omega_m)
    distances = cosmology.comoving_distance(z).value * sim.hubble
    rapidity_of = CubicSpline(distances, np.log1p(z))  # artanh(v_H / c) = ln(1 + z)
    d_cluster = cosmology.comoving_distance(0.0231).value * sim.hubble
    shifts = np.stack(np.meshgrid(*[[-BOX, 0, BOX]] * 3), axis=-1).reshape(-1, 1, 3)
    delta = snapshot.position[seen].astype(float) - snapshot.host_position[host].astype(float) + shifts
    along = delta @ direction
    across = np.linalg.norm(np.cross(delta, direction), axis=-1)
    image, galaxy = np.nonzero((across <= 2.3) & (along > -d_cluster) & (np.abs(along) < BOX / 2))
    along, across = along[image, galaxy], across[image, galaxy]
    own = snapshot.velocity[seen].astype(float)[galaxy] @ direction
    of_cluster = np.log(1.0231) + np.arctanh(snapshot.host_velocity[host].astype(float) @ direction / C)
    v_los = C * np.tanh(rapidity_of(d_cluster + along) + np.arctanh(own / C) - of_cluster)
    inside = np.abs(v_los) < 3785
    return in_order(v_los[inside], across[inside], (snapshot.host[seen][galaxy] == host)[inside])


def assert_same_view(found, expected):
    """Equal members, and v_los to 0.01 km/s and r_proj to 1e-5 Mpc/h."""
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=0.01)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found[2], expected[2])


OBLIQUE = [
    (1, 1, 1), (1, -1, 0.01), (0.3, -0.2, 0.9), (-0.9, 0.1, 0.4), (0.02, 1, -0.03), (-1, -2, -3), (1, 0, 0), (0, 0, -1),
]  # fmt: skip


@pytest.mark.parametrize(("sim", "direction"), [*(("mdpl2", line) for line in OBLIQUE), ("uchuu", (3, 1, -1))])
def test_finds_what_a_slow_search_over_periodic_images_finds(sim, direction):
    snapshot = random_box(sim=sim)
    direction = np.array(direction) / np.linalg.norm(direction)
    for host in range(len(HOST_POSITION)):
        expected = slow_look(snapshot, host, direction)
        assert len(expected[0]) > 100 and expected[2].any() and not expected[2].all()
        assert_same_view(look(snapshot, host, direction), expected)


def test_company_of_other_rows_changes_nothing():
    snapshot, hosts, directions = random_box(4), np.array([0, 1, 2, 3, 0]), np.eye(3)[[0, 1, 2, 0, 1]]
    together = observe.observe(snapshot, hosts, directions)
    alone = [observe.observe(snapshot, hosts[[i]], directions[[i]]) for i in range(5)]
    for one, other in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(one, np.concatenate(other))


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        ({"galaxies": "satellites"}, lambda box: box.is_satellite),
        ({"min_log_mstar": 10.3}, lambda box: box.log_mstar >= np.float32(10.3)),
    ],
)
def test_selections_are_a_snapshot_without_the_other_galaxies(options, selected):
    snapshot, direction = random_box(6), np.array([0.6, 0, 0.8])
    expected = slow_look(snapshot, 3, direction, seen=selected(snapshot))
    assert_same_view(look(snapshot, 3, direction, **options), expected)
    assert len(look(snapshot, 3, direction)[0]) > len(expected[0]) > 0


def test_another_unit_and_an_unknown_selection_are_refused():
    snapshot = random_box(n=100)
    with pytest.raises(ClusterToolsError, match="velocities are in km/s"):
        look(rebuilt(snapshot, velocity=snapshot.velocity * 1000), 0, (0, 0, 1))
    with pytest.raises(ClusterToolsError, match="galaxies.*centrals.*all.*satellites"):
        look(snapshot, 0, (0, 0, 1), galaxies="centrals")


def lone_galaxies(position, velocity):
    """A box with one host at its centre and these galaxies."""
    kind = {"host": 0, "is_satellite": True, "log_mstar": 0}
    galaxies = snapshots.galaxy_table(position=position, velocity=velocity, **kind)
    hosts = np.full((1, 3), 80, np.float32), np.zeros((1, 3), np.float32), np.array([14.5])
    return snapshots.collect(SIMULATIONS["uchuu"], BOX, *hosts, [galaxies])


def test_cuts_hold_for_the_stored_float32_values():
    rng = np.random.default_rng(5)
    direction = np.array([0.48, 0.6, 0.64])
    speed = rng.choice([-1, 1], 4000) * rng.uniform(3784.99, 3785.01, 4000)
    v_los = look(lone_galaxies(np.full((4000, 3), 80.0), np.outer(speed, direction)), 0, direction)[0]
    assert 1000 < len(v_los) < 3000
    assert np.abs(v_los.astype(np.float32)).max() < 3785
    angle, r = rng.uniform(0, 2 * np.pi, 4000), rng.uniform(2.2999, 2.3001, 4000)
    ring = 80 + np.stack([r * np.cos(angle), r * np.sin(angle), np.zeros(4000)], axis=1)
    r_proj = look(lone_galaxies(ring, np.zeros((4000, 3))), 0, (0, 0, 1))[1]
    assert 1000 < len(r_proj) < 3000
    assert r_proj.astype(np.float32).max() <= np.float32(2.3)


@pytest.mark.parametrize("n", [3, 4, 12, 500])
def test_lines_of_sight_are_unit_even_and_no_two_are_alike(n):
    directions = observe.lines_of_sight(n)
    assert directions.shape == (n, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(directions[:3], np.eye(3))
    moments = np.linalg.eigvalsh(directions.T @ directions / n)  # 1/3 each on an even sphere
    assert np.abs(moments - 1 / 3).max() < 0.35 / np.sqrt(n)
    cosines = np.abs(directions @ directions.T)[~np.eye(n, dtype=bool)]
    even = np.sqrt(2 * np.pi / n)  # the side of the patch of half the sphere that each has to itself
    assert np.arccos(min(cosines.max(), 1.0)) > 0.2 * even
