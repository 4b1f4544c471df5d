# ruff: noqa: E501 (the table of inputs is easier to read in long lines)
"""Whatever a public function is given, it ends in a result or in the project's own error, never in another.

`INPUTS` says for each public function what it is fed with. A function that is not there fails
`test_every_public_function_has_inputs`.
"""

import inspect
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_catalog import catalog

from cluster_tools import tables
from cluster_tools.coma import mass_definitions, nfw, survey
from cluster_tools.cosmology import SIMULATIONS, simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import estimators, priors
from cluster_tools.mocks import catalogs, dispersions, kde, observe
from cluster_tools.universe import snapshots  # fmt: skip

MODULES = (dispersions, catalogs, survey, mass_definitions, estimators, kde, nfw, observe, priors, snapshots, tables)
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip

# --- what they are fed with -----------------------------------------------------------------------

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e308, -1e308, 5e-324, 2.3, np.nextafter(2.3, 3), 3785.0, -3785.0]
NUMBER = st.one_of(st.sampled_from(ODD), st.floats(-5000, 5000), st.floats())
NO_COLUMN = st.sampled_from(
    [None, "text", b"bytes", 3.5, np.nan, [], {}, object(), [[1.0], [1.0, 2.0]], ["a", "b"], [None] * 12, 1j * np.ones(12),
     np.ones((12, 1)), np.ones(3), np.ma.masked_all(12), np.array([object()] * 12), [10**400] * 12]
)  # fmt: skip


@st.composite
def galaxies(draw, most=40):
    """v_los [km/s] and r_proj [Mpc/h], of 0 to 40 galaxies: ordinary, on edges, the same, or no numbers at all."""
    n = draw(st.integers(0, most))
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
    """v_los, r_proj, offsets of some clusters; sometimes one of the three is none."""
    v_los, r_proj = draw(galaxies())
    cuts = sorted(draw(st.lists(st.integers(0, len(v_los)), max_size=2)))
    columns = [v_los, r_proj, np.array([0, *cuts, len(v_los)])]
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, 2))
        columns[place] = draw(st.one_of(NO_COLUMN, st.just(columns[place][:-1]), st.just(columns[place] * 1.5)))
    return tuple(columns)


def column(values=NUMBER):
    return st.one_of(st.lists(values, max_size=8).map(np.array), values, NO_COLUMN)


def mass():
    """Masses, radii, concentrations, redshifts: as they should be, odd, or none."""
    return st.one_of(st.floats(1e13, 1e16), st.floats(0.01, 20), st.lists(NUMBER, max_size=4), column())


def of(*arguments, **options):
    """Positional arguments and keywords, drawn one by one."""
    return st.tuples(st.tuples(*arguments), st.fixed_dictionaries({}, optional=options))


@st.composite
def required(draw, *arguments, **options):
    return draw(st.tuples(*arguments)), draw(st.fixed_dictionaries(options))


@st.composite
def boxes(draw):
    """A snapshot in memory, with galaxies on the edge of the box and odd values; and what to look at."""
    box_size, n = 60.0, draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    found = np.zeros(n, snapshots.GALAXY)
    found["position"] = rng.choice([0.0, 30.0, 59.999996, 60.0, -1e-9], (n, 3)) if draw(st.booleans()) else (
        rng.uniform(0, box_size, (n, 3))
    )  # fmt: skip
    found["velocity"] = rng.normal(0, 500, (n, 3))
    if n and draw(st.booleans()):
        name = draw(st.sampled_from(["velocity", "log_mstar"]))
        found[name][draw(st.integers(0, n - 1))] = draw(st.sampled_from([1e30, 3e5, -3e5]))
    hosts = np.array([[0, 0, 0], [30, 30, 30]], np.float32), np.zeros((2, 3), np.float32), np.array([14.2, 15.0])
    return snapshots.collect(SIMULATIONS["mdpl2"], box_size, *hosts, [found])


@st.composite
def looks(draw):
    snapshot = draw(boxes())
    host = draw(st.sampled_from([[0], [0, 1], [], [1, 1], [2], [-1], [0.5], None, "a", [[0]]]))
    direction = draw(
        st.sampled_from([[[1, 0, 0]] * 2, [[0, 0, 1]], [[0.6, 0.8, 0]], np.zeros((0, 3)), [[0, 0, 0]], [1, 0, 0], [[np.nan, 0, 1]],
                         None, [["a"] * 3]])
    )  # fmt: skip
    options = draw(st.fixed_dictionaries({}, optional={
        "galaxies": st.sampled_from(["all", "satellites", "none", None]), "min_log_mstar": st.sampled_from([None, 9.5, np.nan]),
        "memory": st.sampled_from([4.0, 0.0, -1.0, np.nan]),
    }))  # fmt: skip
    return (snapshot, host, direction), options


def small_catalogs():
    return st.sampled_from([catalog([(np.linspace(-900, 900, 20), np.linspace(0.1, 2, 20))] * 4, [14, 14.5, 14.5, 15])])


PRIOR = priors.Prior(np.array([13.8, 15.5]), np.array([0.0, -8.0]))
BY_NAME = st.sampled_from([*estimators.ESTIMATORS, "x-ray", None, 3])


@st.composite
def plausible(draw, *parts):
    """Arrays (n,) or (n, k) of log masses and sigmas that belong together, now and then with something odd."""
    n = draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    made = []
    for part in parts:
        array = {
            "mean": rng.normal(14.5, 0.5, n),
            "sigma": rng.uniform(0.01, 1, n),
            "samples": rng.normal(14.5, 0.3, (n, 20)),
        }[part]
        if draw(st.integers(0, 2)) == 0:
            array = draw(st.one_of(NO_COLUMN, st.just(array[:-1]), st.just(array * draw(NUMBER))))
        made.append(array)
    return tuple(made)


CONCENTRATION = st.one_of(st.just(7.0), mass())
SAMPLE = st.sampled_from(["desi", "", "nothing.csv", "\0", 3, ["desi"], "/tmp", "~"])
INPUTS = {
    "kde.v_los_grid": of(),
    "kde.r_proj_grid": of(),
    "kde.phase_space_images": clusters().flatmap(
        lambda c: of(*map(st.just, c), input_dim=st.sampled_from([1, 2, 3, "2", None]), weights=st.one_of(st.none(), column()),
                     covariance=st.one_of(st.none(), st.just([[1e4, 0], [0, 0.01]]), st.just(1e4), column()))
    ),
    "kde.radial_weights": clusters().flatmap(
        lambda c: of(st.just(c[1]), st.just(c[2]), st.one_of(st.just(np.linspace(0, 2.3, 50)), column()))
    ),
    "observe.lines_of_sight": of(st.sampled_from([0, 1, 3, 4, 50])),
    "observe.hubble_velocity_table": of(st.sampled_from([0.3, 0.3089, 1.0]), st.sampled_from([0.0, 100.0, 1e9, np.inf])),
    "observe.observe": looks(),
    "coma.observables": of(column(), column(), column(), redshift=NUMBER, centre_ra=NUMBER),
    "coma.on_the_sky": required(column(), column(), centre_ra=NUMBER, centre_dec=NUMBER, redshift=st.one_of(st.just(0.0231), NUMBER)),
    "coma.comoving_distance": of(NUMBER),
    "coma.stellar_mass": of(column(), column(), redshift=NUMBER),
    "coma.default_sample": of(),
    "coma.load_sample": of(SAMPLE, min_log_mstar=st.one_of(st.none(), NUMBER, st.just("9.5")), centre_ra=NUMBER, centre_dec=NUMBER),
    "coma.sdss_query": of(),
    "nfw.m200c_from_aperture_mass": required(mass(), mass(), c200c=CONCENTRATION, z=mass()),
    "nfw.m200c_from_scale_radius": required(mass(), mass(), scale_radius=mass(), z=mass()),
    "nfw.m200c_from_overdensity": required(mass(), delta=mass(), c=st.one_of(st.none(), mass()), c200c=st.one_of(st.none(), mass())),
    "posteriors.halo_abundance": of(st.just(simulation("uchuu")), st.one_of(st.none(), NUMBER)),
    "posteriors.reweighted": plausible("mean", "sigma", "samples").map(lambda arrays: ((*arrays, PRIOR), {})),
    "posteriors.quantiles": plausible("samples").map(lambda arrays: (arrays, {})),
    "estimators.log_m200c": clusters().flatmap(lambda c: of(BY_NAME, *map(st.just, c))),
    "estimators.m_sigma": of(NUMBER.map(np.float64)),
    "estimators.gapper_mass": galaxies().map(lambda g: (g, {})),
    "estimators.shifting_gapper": galaxies().map(lambda g: (g, {})),
    "estimators.virial_mass": galaxies().map(lambda g: (g, {})),
    "estimators.caustic_mass": galaxies().map(lambda g: (g, {})),
    "estimators.mass_within_200c": st.lists(st.tuples(NUMBER, NUMBER), min_size=2, max_size=9).map(lambda p: (tuple(np.array(p).T), {})),
    "estimators.fit": plausible("mean", "mean").map(lambda arrays: (arrays, {})),
    "estimators.weigh": of(st.just({}), column(), column()),
    "baselines.velocity_dispersions": clusters().flatmap(
        lambda c: of(*map(st.just, c), selection=st.sampled_from(["raw", "clipped", "small", "other", None]))
    ),
    "dispersions.fit_m_sigma": of(small_catalogs(), st.sampled_from(["raw", "small", "other"])),
    "convert.convert_mass": of(mass(), radius=mass(), delta=mass(), scale_radius=mass(), c=mass(), c200c=CONCENTRATION, h=mass(), z=mass()),
    "catalogs.thinned": small_catalogs().flatmap(lambda c: required(st.just(c), st.one_of(NUMBER, st.just(0.5)), seed=st.just(1))),
    "catalogs.folds": of(st.lists(st.one_of(st.floats(13, 16), NUMBER), max_size=20)),
    "snapshot_files.cells_on_a_side": of(st.sampled_from([0.1, 5.0, 60.0, 2000.0])),
    "snapshot_files.fastest": boxes().map(lambda box: ((box.velocity,), {})),
    "snapshot_files.wrapped": boxes().map(lambda box: ((box.position - 70, 60.0), {})),
    "snapshot_files.shortest": boxes().map(lambda box: ((box.position - 30, 60.0), {})),
    "snapshot_files.quick_tree": boxes().map(lambda box: ((box.position - 70, 60.0), {})),
    "snapshot_files.layer_of": boxes().map(lambda box: ((box.position, 60.0), {})),
    "snapshot_files.cell_of": boxes().map(lambda box: ((box.position, 60.0), {})),
}  # fmt: skip
SLOW = ("estimators.log_m200c", "estimators.caustic_mass", "coma.load_sample", "observe.observe")
# Where else they meet bad input.
ELSEWHERE = {
    "tables.read_galaxies": "below, from files",
    "tables.read": "below, through read_galaxies, and test_galaxy_table.py",
    "tables.parsing": "of what astropy raises, through read",
    "tables.standard_columns": "below, through read_galaxies",
    "snapshot_files.open_snapshot": "flipped bytes in test_reliability.py",
    "snapshot_files.collect": "below",
    "snapshot_files.stamp": "of a file that this process has just made",
    "catalogs.build": "test_catalogs.py, through observe",
    "posteriors.corrected": "passes on to reweighted",
    "estimators.estimate": "of a catalogue, which MockCatalog.read has checked",
    "estimators.calibrated": "of Estimates",
    "estimators.judgement": "of Estimates",
    "estimators.comparison": "of Estimates",
    "estimators.printed": "of what comparison made",
    "convert.add_convert_mass": "test_convert.py, the command line",
    "convert.convert_mass_command": "test_convert.py, the command line",
}


def public_functions():
    return {
        f"{module.__name__.split('.')[-1]}.{name}"
        for module in MODULES
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_public_function_has_inputs():
    assert public_functions() == set(INPUTS) | set(ELSEWHERE) and not set(INPUTS) & set(ELSEWHERE)


def call(name, arguments, options):
    """What a function gives, or None where it refuses its input in one sentence."""
    module, function = name.split(".")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return getattr(globals()[module], function)(*arguments, **options)
        except ClusterToolsError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
            return None


@pytest.mark.parametrize("name", INPUTS)
def test_any_input_ends_in_a_result_or_in_one_sentence(name):
    @settings(QUICK, max_examples=20 if name in SLOW else 60)
    @given(INPUTS[name])
    def holds(drawn):
        call(name, *drawn)

    holds()


@pytest.mark.parametrize("name", ["position", "velocity"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_galaxies_that_are_nowhere_are_refused(name, value):
    galaxies = np.zeros(10, snapshots.GALAXY)
    galaxies[name][3, 1] = value
    hosts = np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), np.array([14.5])
    with pytest.raises(ClusterToolsError, match=f"{name} is NaN or infinite for 1 of 10 galaxies"):
        snapshots.collect(SIMULATIONS["mdpl2"], 60.0, *hosts, [galaxies])


# --- what any cluster must give -------------------------------------------------------------------

CHEAP = [name for name in estimators.ESTIMATORS if name != "caustic"]


@settings(QUICK, max_examples=40)
@given(galaxies(), st.randoms(use_true_random=False))
def test_order_and_sign_of_the_velocities_change_nothing(drawn, random):
    v_los, r_proj = drawn
    order = random.sample(range(len(v_los)), len(v_los))
    offsets = np.array([0, len(v_los)])
    views = ((v_los, r_proj), (-v_los[order], r_proj[order]))
    for name in CHEAP:
        one, other = (call("estimators.log_m200c", (name, *view, offsets), {}) for view in views)
        assert (one is None) == (other is None)
        np.testing.assert_allclose(one if one is not None else [], other if one is not None else [], atol=1e-6)
    for input_dim in (1, 2):
        one, other = (call("kde.phase_space_images", (*view, offsets), {"input_dim": input_dim}) for view in views)
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
    galaxies = np.zeros(1_000_000, snapshots.GALAXY)
    galaxies["position"] = rng.uniform(0, 200, (1_000_000, 3))
    hosts = np.array([[0, 0, 0], [199, 1, 100]], np.float32), np.zeros((2, 3), np.float32), np.array([14.5, 15.0])
    box = snapshots.collect(SIMULATIONS["mdpl2"], 200.0, *hosts, [galaxies])
    count, *_ = observe.observe(box, [0, 1], np.eye(3)[:2])
    # 3785 km/s at about 100 km/s per Mpc/h: a cylinder through most of the box.
    assert ((count > 0.6 * 1e6 * np.pi * 2.3**2 / 200**2 * 0.35) & (count < 1e6 * np.pi * 2.3**2 / 200**2)).all()


# --- tables ---------------------------------------------------------------------------------------

CELLS = st.sampled_from(
    ["", "nan", "inf", "-inf", "1e999", "--", "null", "x", "194.9", "28", "0.023", "10", "-1", "1,5", '"', "'", "#",
     "\x00", "½", "0x1p3", "1e5", "999999999999999999999", "True", "2020-01-01", "=1+1", "<b>1</b>", "\ufeff", " ", "1;2"]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "ra",
        "dec",
        "z",
        "log_mstar",
        "mag_g",
        "mag_r",
        "flux_g",
        "flux_r",
        "RA",
        "cz",
        "",
        "redshift",
        "id",
        "ra ",
        "x y",
    ]
)


@settings(QUICK, max_examples=300)
@given(st.lists(NAMES, min_size=1, max_size=6), st.lists(st.lists(CELLS, max_size=7), max_size=4), st.booleans())
def test_any_csv_is_a_table_or_one_sentence(tmp_path_factory, names, rows, with_mass):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("\n".join(",".join(cells) for cells in [names, *rows]), encoding="utf-8")
    table = call("tables.read_galaxies", (path,), {"with_mass": with_mass})
    if table is not None:
        assert len(table) and {"ra", "dec", "z"} <= set(table.colnames) and np.isfinite(table["z"]).all()


def test_ten_thousand_bad_columns_are_columns_or_one_sentence():
    """Columns as a reader hands them over: of any type, unit and value."""
    from astropy.table import Column, MaskedColumn

    rng = np.random.default_rng(6)
    values = [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e9, 91.0, 361.0, 15.1, 1e308]
    units = ["", "deg", "rad", "km/s", "Msun", "dex(Msun)", "arcsec", "h", "mag", "nmgy"]
    accepted = 0
    for _ in range(10_000):
        n = int(rng.integers(1, 4))
        wanted, value = [("ra", 194.9), ("dec", 28.0), ("z", 0.023), ("log_mstar", 10.0)][rng.integers(4)]
        column = MaskedColumn(np.full(n, value), name=wanted)
        kind = rng.integers(5)
        if kind == 0:
            column[rng.integers(n)] = rng.choice(values)
        elif kind == 1:
            column.mask[rng.integers(n)] = True
        elif kind == 2:
            column.unit = rng.choice(units)
        elif kind == 3:
            texts = np.resize(rng.permutation(["x", "", "1.5", "nan"]), n)
            column = Column(texts.astype(rng.choice(["U4", "O", "S4"])), name=wanted)
        else:
            column = Column(np.ones((n, int(rng.integers(0, 3)))), name=wanted)
        found = call("tables._values", (column, wanted, "a table"), {"every_row": bool(rng.integers(2))})
        accepted += found is not None
        assert found is None or (found.shape == (n,) and found.dtype == float)
    assert 1000 < accepted < 6000
