"""At its border, the package ends in a result or in its own error of one sentence, whatever it is given."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import cluster_tools
from cluster_tools.coma import survey
from cluster_tools.coma.mass_definitions import convert_mass
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import estimators
from cluster_tools.mocks import dispersions, kde

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e308, -1e308, 5e-324, 2.3, np.nextafter(2.3, 3), 3785.0, -3785.0]
NUMBER = st.one_of(st.sampled_from(ODD), st.floats(-5000, 5000), st.floats())
NO_COLUMN = st.sampled_from(
    [None, "text", b"bytes", 3.5, np.nan, [], {}, object(), [[1.0], [1.0, 2.0]], ["a", "b"], [None] * 12,
     1j * np.ones(12), np.ones((12, 1)), np.ones(3), np.ma.masked_all(12), np.array([object()] * 12), [10**400] * 12]
)  # fmt: skip


@st.composite
def galaxies(draw):
    """v_los [km/s] and r_proj [Mpc/h] of 0 to 40 galaxies: ordinary, odd, on edges, or all the same."""
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    v_los, r_proj = rng.normal(0, 900, n), rng.uniform(0, 2.3, n)
    kind = draw(st.sampled_from(["ordinary", "odd", "edge", "same v", "same r", "line", "twice"]))
    if kind == "odd" and n:
        for _ in range(draw(st.integers(1, 3))):
            draw(st.sampled_from([v_los, r_proj]))[draw(st.integers(0, n - 1))] = draw(NUMBER)
    if kind == "edge":
        v_los, r_proj = rng.choice([-3785.0, 3785.0, 0.0], n), rng.choice([0.0, 2.3], n)
    if kind == "same v":
        v_los[:] = draw(st.sampled_from([0.0, 500.0, 3784.99]))
    if kind == "same r":
        r_proj[:] = draw(st.sampled_from([0.0, 1.0, 2.3]))
    if kind == "line":
        v_los = 1000 * r_proj
    if kind == "twice":
        v_los, r_proj = (np.resize(each[: (n + 1) // 2], n) for each in (v_los, r_proj))
    return v_los, r_proj


@st.composite
def clusters(draw):
    """v_los, r_proj, offsets of some clusters; sometimes one of the three is no column, or of another length."""
    v_los, r_proj = draw(galaxies())
    cuts = sorted(draw(st.lists(st.integers(0, len(v_los)), max_size=2)))
    columns = [v_los, r_proj, np.array([0, *cuts, len(v_los)])]
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, 2))
        columns[place] = draw(st.one_of(NO_COLUMN, st.just(columns[place][:-1]), st.just(columns[place] * 1.5)))
    return tuple(columns)


def column():
    """A column of numbers, a single number, or neither."""
    return st.one_of(st.lists(NUMBER, max_size=8).map(np.array), NUMBER, NO_COLUMN)


def mass():
    """Masses, radii, concentrations or redshifts: plausible, odd, or no numbers."""
    return st.one_of(st.floats(1e13, 1e16), st.floats(0.01, 20), st.lists(NUMBER, max_size=4), column())


def arguments(*positional, **optional):
    """Positional arguments, and keywords of which some are left out."""
    return st.tuples(st.tuples(*positional), st.fixed_dictionaries({}, optional=optional))


CONCENTRATION = st.one_of(st.just(7.0), mass())
SAMPLE = st.sampled_from(["desi", "", "nothing.csv", "\0", 3, ["desi"], "/tmp", "~"])
BORDER = {
    kde.phase_space_images: clusters().flatmap(
        lambda c: arguments(
            *map(st.just, c), input_dim=st.sampled_from([1, 2, 3, "2", None]), weights=st.one_of(st.none(), column()),
            covariance=st.one_of(st.none(), st.just([[1e4, 0], [0, 0.01]]), st.just(1e4), column()),
        )
    ),
    kde.radial_weights: clusters().flatmap(
        lambda c: arguments(st.just(c[1]), st.just(c[2]), st.one_of(st.just(np.linspace(0, 2.3, 50)), column()))
    ),
    dispersions.velocity_dispersions: clusters().flatmap(
        lambda c: arguments(*map(st.just, c), selection=st.sampled_from(["raw", "clipped", "medium", "other", None]))
    ),
    estimators.log_m200c: clusters().flatmap(
        lambda c: arguments(st.sampled_from([*estimators.ESTIMATORS, "x-ray", None, 3]), *map(st.just, c))
    ),
    survey.load_sample: arguments(
        SAMPLE, min_log_mstar=st.one_of(st.none(), NUMBER, st.just("9.5")), centre_ra=NUMBER, centre_dec=NUMBER
    ),
    cluster_tools.weigh: arguments(
        st.sampled_from(["nothing.csv", "", None, 3, {}, {"ra": [1.0]}, [[1, 2]], "/tmp"]),
        centre=st.sampled_from([None, (195.0, 28.0), (np.nan, 1), "a", (1,)]), redshift=st.one_of(st.none(), NUMBER),
    ),
    convert_mass: arguments(
        mass(), radius=mass(), delta=mass(), scale_radius=mass(), c=mass(), c200c=CONCENTRATION, h=mass(), z=mass()
    ),
}  # fmt: skip


def call(function, positional, keywords):
    """The result of a function, or None where it refuses its input in one sentence."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function(*positional, **keywords)
        except ClusterToolsError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
            return None


@pytest.mark.parametrize("function", BORDER, ids=lambda function: function.__name__)
def test_any_input_ends_in_a_result_or_in_one_sentence(function):
    @settings(QUICK, max_examples=20 if function in (estimators.log_m200c, survey.load_sample) else 60)
    @given(BORDER[function])
    def holds(drawn):
        call(function, *drawn)

    holds()


@settings(QUICK, max_examples=40)
@given(galaxies(), st.randoms(use_true_random=False))
def test_order_and_sign_of_the_velocities_change_nothing(drawn, random):
    v_los, r_proj = drawn
    order = random.sample(range(len(v_los)), len(v_los))
    offsets = np.array([0, len(v_los)])
    views = ((v_los, r_proj), (-v_los[order], r_proj[order]))
    for name in estimators.ESTIMATORS:
        if name != "caustic":  # which takes half a second
            one, other = (call(estimators.log_m200c, (name, *view, offsets), {}) for view in views)
            assert (one is None) == (other is None)
            np.testing.assert_allclose(one if one is not None else [], other if one is not None else [], atol=1e-6)
    for input_dim in (1, 2):
        one, other = (call(kde.phase_space_images, (*view, offsets), {"input_dim": input_dim}) for view in views)
        assert (one is None) == (other is None)
        if one is not None:
            assert np.isfinite(one).all() and (one >= 0).all() and one.sum() == pytest.approx(1, abs=1e-4)
            np.testing.assert_allclose(one, other[:, ::-1], rtol=1e-3, atol=1e-7)


def test_a_million_galaxies():
    rng = np.random.default_rng(1)
    v_los, r_proj = rng.normal(0, 1000, 1_000_000), 2.3 * np.sqrt(rng.random(1_000_000))
    one = kde.phase_space_images(v_los, r_proj, np.array([0, 1_000_000]))[0]
    # A Gaussian smoothed with a kernel of a quarter of its own width.
    expected = np.exp(-0.5 * (kde.v_los_grid() / 1000) ** 2 / (1 + 0.25**2))
    np.testing.assert_allclose(one.sum(axis=1), expected / expected.sum(), atol=6e-4)
    weights = kde.radial_weights(r_proj, np.arange(0, 1_000_001, 100), r_proj[:500])
    assert np.isfinite(weights).all() and weights.mean() == pytest.approx(1, abs=0.2)


def test_a_refusal_of_a_huge_value_is_short():
    with pytest.raises(ClusterToolsError, match="^model is .* expected[.]$") as refusal:
        cluster_tools.weigh({}, model="a" * 10**6)
    assert len(str(refusal.value)) < 2100
