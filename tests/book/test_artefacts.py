"""Artefacts found by their parameters: loaded, made anew, kept apart or refused, and never mixed up."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from small_catalog import ten_folds
from small_networks import network, untraced

from cluster_tools import store
from cluster_tools.book import artefacts, chapters, model_artefacts
from cluster_tools.coma import survey
from cluster_tools.cosmology import simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import table1, validation
from cluster_tools.mocks import catalogs, kde
from cluster_tools.networks import ensembles, training
from cluster_tools.networks.models import PAPER_MODELS, model_name
from cluster_tools.universe import snapshots, synthetic  # fmt: skip

PARAMS = Path(__file__).resolve().parents[2] / "params"
SMOKE = yaml.safe_load((PARAMS / "smoke.yml").read_text())
CATALOG = SMOKE["mock_catalogues"]
TRAINING = {name: value for name, value in SMOKE["training"].items() if name not in ("draws", "max_test")}
MODEL = {"simulation": "uchuu", "input_dim": 1, "reweighted": False}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """An empty project with this one's profiles."""
    shutil.copytree(PARAMS, tmp_path / "params")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(PARAMS.parent / "notebooks" / "chapters.yml", tmp_path / "notebooks")
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    return tmp_path


def set_profile(root, chapter, **values):
    file = root / "params" / "smoke.yml"
    content = yaml.safe_load(file.read_text())
    content[chapter] |= values
    file.write_text(yaml.safe_dump(content))


@pytest.fixture
def builds(monkeypatch):
    """Boxes drawn so far; catalogues are small ones of the same seed."""
    calls = []

    def small_box(name, *, box_size, seed, path, extra_hosts=0, **how):
        if not extra_hosts:
            calls.append((name, box_size, seed))
        sim = simulation(name)
        hosts = (np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), np.array([14.5]))
        return snapshots.collect(sim, box_size or sim.box_size, *hosts, [np.zeros(5, snapshots.GALAXY)], path=path)

    monkeypatch.setattr(synthetic, "synthetic", small_box)
    monkeypatch.setattr(catalogs, "build", lambda snapshot, *, seed, **how: ten_folds(100, seed))
    return calls


@pytest.fixture
def trainings(monkeypatch):
    """Arguments of the trainings so far; a network is an untrained one of the same seed and fold."""
    calls = []

    def train(images, log_m200c, validation_images, validation_log_m200c, **settings):
        calls.append(SimpleNamespace(images=images, mass=log_m200c, val_mass=validation_log_m200c, **settings))
        if settings["progress"]:
            settings["progress"](1, 0.5)
        rate, seed = settings["architecture"].dropout_rate, settings["seed"]
        return network(input_dim=images.ndim - 1, dropout_rate=rate, fold=settings["fold"], seed=seed)

    monkeypatch.setattr(training, "train", train)
    return calls


@pytest.fixture
def mocks(builds):
    """Both catalogues of the profile."""
    return {name: artefacts.mock_catalog("smoke", name, **CATALOG) for name in ("uchuu", "mdpl2")}


@pytest.fixture
def drawn(monkeypatch):
    """Calls of `validation.predict` so far; predictions are made up."""
    calls = []

    def predict(ensemble, catalogs, **settings):
        calls.append((set(catalogs), settings["reference_r_proj"]))
        return validation.Predictions(np.array(["uchuu", "mdpl2"]), np.arange(2), *np.ones((5, 2)), {})

    monkeypatch.setattr(validation, "predict", predict)
    return calls


def everything(root):
    return {p: p.read_bytes() for p in (root / "results").rglob("*") if p.is_file()}


def predictions(**changes):
    networks = model_artefacts.ensemble("smoke", **MODEL, **TRAINING)
    drawn = {name: SMOKE["training"][name] for name in ("draws", "max_test")}
    return model_artefacts.predictions("smoke", networks, **drawn | changes)


# Artefacts: chapter and parameter to change, how it is made and loaded, its file, the run that makes it.
KINDS = {
    "catalogue": (
        ("mock_catalogues", "seed"), lambda **changes: artefacts.mock_catalog("smoke", "uchuu", **CATALOG | changes),
        lambda: artefacts.load_catalog("smoke", "uchuu"), "catalogs/uchuu.h5", "01_mock_catalogues_uchuu",
    ),
    "networks": (
        ("training", "epochs"), lambda **changes: model_artefacts.ensemble("smoke", **MODEL, **TRAINING | changes),
        lambda: model_artefacts.load_ensemble("smoke", **MODEL), "networks/uchuu_1d/*.h5", "04_training_uchuu_1d",
    ),
    "predictions": (
        ("training", "draws"), predictions, lambda: model_artefacts.load_predictions("smoke", **MODEL),
        "predictions/uchuu_1d.h5", "04_training_uchuu_1d",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_artefact_is_made_once_loaded_after_and_never_replaced_by_an_experiment(
    kind, root, mocks, builds, trainings, drawn
):
    (chapter, parameter), make, load, file, run = KINDS[kind]
    calls, value = {"catalogue": builds, "networks": trainings, "predictions": drawn}[kind], SMOKE[chapter][parameter]
    made = make()
    n, before = len(calls), everything(root)
    for found in (make(), load()):
        assert found.provenance == made.provenance and len(calls) == n and everything(root) == before
    for _ in range(2):
        experiment = make(**{parameter: value + 6})
    assert len(calls) <= 2 * n and before.items() < everything(root).items()
    assert experiment.provenance["parameters"][parameter] == value + 6
    assert load().provenance["parameters"][parameter] == value
    assert not drawn or drawn[0] == ({"uchuu", "mdpl2"}, None)
    # Damaged: refused by who reads it, and made anew by its own chapter.
    n, path = len(calls), next((root / "results/smoke").glob(file))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ClusterToolsError, match=f"{path.name} is (damaged.*make book|not the file that was saved)"):
        load()
    assert make().provenance["key"] == load().provenance["key"] == made.provenance["key"]
    assert len(calls) > n or kind == "catalogue"  # whose box is there
    # Of other parameters: refused by name, with the command that makes it.
    set_profile(root, chapter, **{parameter: value + 5})
    with pytest.raises(ClusterToolsError, match=f"{parameter}={value}, but {parameter}={value + 5} .*{run}"):
        load()


# --- names ----------------------------------------------------------------------------------------


def test_location_depends_on_what_differs_from_the_profile(root):
    file = "catalogs/uchuu.h5"
    standard = artefacts.location("smoke", "mock_catalogues", file, CATALOG)
    assert standard == root / "results" / "smoke" / file
    # Papermill's -p box_size 250 is an integer; what a profile does not have makes no difference.
    as_integer = CATALOG | {"box_size": int(CATALOG["box_size"]), "simulation": "uchuu"}
    assert artefacts.location("smoke", "mock_catalogues", file, as_integer) == standard
    others = [CATALOG | change for change in ({"seed": 7}, {"seed": 8}, {"galaxies": "all"}, {"box_size": None})]
    found = [artefacts.location("smoke", "mock_catalogues", file, other) for other in others]
    assert len({standard, *found}) == 5
    for path in found:
        assert path.parent == standard.parent and path.name.startswith("uchuu@") and path.suffix == ".h5"
    assert artefacts.location("smoke", "mock_catalogues", file, dict(reversed(others[0].items()))) == found[0]


def test_chosen_sample_is_the_parameter_then_the_environment_then_desi_and_one_in_every_directory(root, monkeypatch):
    for environment, given, chosen in (("", None, "desi"), ("sdss", None, "sdss"), ("sdss", "desi", "desi")):
        monkeypatch.setenv("CLUSTER_TOOLS_COMA_SAMPLE", environment)
        assert artefacts.chosen_sample(given) == chosen
    (root / "my.ecsv").touch()
    full = str((root / "my.ecsv").resolve())
    monkeypatch.setenv("CLUSTER_TOOLS_COMA_SAMPLE", "my.ecsv")
    for directory in (root, root / "notebooks"):
        monkeypatch.chdir(directory)
        for given in (None, "my.ecsv", full, Path("my.ecsv")):
            assert artefacts.chosen_sample(given) == full
            # So the networks of the profile are found where the book has put them.
            parameters = TRAINING | {"coma_sample": artefacts.chosen_sample(given)}
            assert "@" not in artefacts.location("smoke", "training", "networks/uchuu_2d", parameters).name
    assert artefacts.chosen_sample("missing.csv") == "missing.csv"  # `survey.load_sample` says that it is not there


@pytest.mark.parametrize("which", PAPER_MODELS, ids=lambda which: model_name(**which))
def test_a_missing_artefact_is_named_with_the_command_that_makes_it(which):
    name = model_name(**which)
    simulation = which["simulation"]
    mock = f"01_mock_catalogues_{simulation}"
    training = f"04_training_{name}"
    for load, path, run in (
        (lambda: artefacts.load_catalog("smoke", simulation), f"catalogs/{simulation}.h5", mock),
        (lambda: model_artefacts.load_ensemble("smoke", **which), f"networks/{name}/ensemble.json", training),
        (lambda: model_artefacts.load_predictions("smoke", **which), f"predictions/{name}.h5", training),
        (lambda: artefacts.load_table("smoke", "validation.csv", "05_validation"), "validation.csv", "05_validation"),
    ):
        with pytest.raises(ClusterToolsError) as refusal:
            load()
        words = str(refusal.value)
        assert f"results/smoke/{path} is missing" in words and "make book PROFILE=smoke" in words
        assert words.endswith(f"cluster-tools run-chapter --profile smoke {run}")
        assert chapters.find_run("smoke", run)
    with pytest.raises(ClusterToolsError, match=mock):
        model_artefacts.ensemble("smoke", **which, **TRAINING)


@pytest.mark.parametrize(
    "bad",
    [
        {"simulation": "millennium"}, {"input_dim": 3}, {"input_dim": "images"}, {"reweighted": "False"},
        {"folds": 0}, {"folds": 11}, {"folds": "10"}, {"networks_per_fold": 0}, {"epochs": 0}, {"epochs": 2.5},
        {"batch_size": 0}, {"seed": -1}, {"seed": None}, {"dropout_rate": 1.0}, {"dropout_rate": -0.1},
        {"dropout_rate": "0.1"}, {"peak_learning_rate": 1}, {"filters": [24, 0]}, {"units": 128},
        {"kernel_widths": [4, 3]}, {"kernel_widths": [5]},
    ],
)  # fmt: skip
def test_models_and_trainings_that_make_no_sense_are_refused(root, bad):
    ((name, value),) = bad.items()
    refusal = f"{name} is {re.escape(repr(value))}, but .* expected"
    with pytest.raises(ClusterToolsError, match=refusal):
        model_artefacts.ensemble("smoke", **MODEL | TRAINING | bad)
    if name in MODEL:
        with pytest.raises(ClusterToolsError, match=refusal):
            model_artefacts.load_ensemble("smoke", **MODEL | bad)
    assert not (root / "results").exists()


# --- catalogues -----------------------------------------------------------------------------------


def test_other_code_and_another_catalogue_have_artefacts_made_anew(mocks, builds, trainings, root, monkeypatch):
    model_artefacts.ensemble("smoke", **MODEL, **TRAINING)
    n = len(trainings)
    set_profile(root, "mock_catalogues", seed=9)
    artefacts.mock_catalog("smoke", "uchuu", **CATALOG | {"seed": 9})
    model_artefacts.ensemble("smoke", **MODEL, **TRAINING)
    assert (len(builds), len(trainings)) == (3, 2 * n)
    monkeypatch.setattr(store, "code_digest", lambda folder: "other code")
    artefacts.mock_catalog("smoke", "uchuu", **CATALOG | {"seed": 9})
    assert len(builds) == 4


def test_extra_hosts_have_a_box_of_their_own(root, builds, monkeypatch):
    seen = []
    monkeypatch.setattr(catalogs, "build", lambda box, extra, seed, **how: seen.append(extra) or ten_folds(100, seed))
    for more in ({}, {"seed": 7}, {"extra_hosts": 5}, {"extra_hosts": 0}):
        artefacts.mock_catalog("smoke", "uchuu", **CATALOG | more)
    *drawn, none = seen
    assert none is None and len({box.path for box in drawn}) == 3 and drawn[0].path.name == "uchuu_extra.h5"
    assert len(builds) == 2 and len(list((root / "results/smoke/snapshots").glob("uchuu*.h5"))) == 5


def test_a_damaged_box_is_made_anew_and_the_catalogue_of_another_simulation_refused(root, mocks, builds):
    path, catalogs = root / "results/smoke/snapshots/uchuu.h5", root / "results/smoke/catalogs"
    path.write_bytes(path.read_bytes()[:1000])
    for _ in range(2):
        assert len(artefacts.snapshot("smoke", "uchuu", artefacts.box_parameters(CATALOG)).position) == 5
    assert len(builds) == 3
    shutil.copy(catalogs / "mdpl2.h5", catalogs / "uchuu.h5")
    with pytest.raises(ClusterToolsError, match="made with simulation='mdpl2'"):
        artefacts.load_catalog("smoke", "uchuu")


# --- networks -------------------------------------------------------------------------------------


def test_networks_train_on_the_flat_set_without_the_fold_left_out(root, mocks, trainings):
    mock, lines = mocks["uchuu"], []
    parameters = TRAINING | {"folds": 3, "networks_per_fold": 2, "epochs": 4, "batch_size": 9, "dropout_rate": 0.2}
    made = model_artefacts.ensemble("smoke", **MODEL, **parameters, progress=lines.append)
    assert [n.fold for n in made.networks] == [0, 0, 1, 1, 2, 2] and len(lines) == 6
    assert len({n.seed for n in made.networks}) == 6
    assert made.log_m200c_range == (14.0, 15.56)
    for call in trainings:
        np.testing.assert_array_equal(call.mass, mock.log_m200c[mock.in_train & (mock.fold != call.fold)])
        np.testing.assert_array_equal(call.val_mass, mock.log_m200c[mock.in_train & (mock.fold == call.fold)])
        assert call.images.shape == (45, 48)
        assert (call.epochs, call.batch_size, call.architecture.dropout_rate) == (4, 9, 0.2)


def test_only_networks_that_the_book_lacks_are_trained(mocks, trainings):
    book = model_artefacts.ensemble("smoke", **MODEL, **TRAINING)
    more = TRAINING | {"folds": 2, "networks_per_fold": 2}
    made = model_artefacts.ensemble("smoke", **MODEL, **more)
    assert [call.seed for call in trainings] == [1000, 1001, 1002, 1003]
    np.testing.assert_equal(made.networks[0].weights, book.networks[0].weights)
    model_artefacts.ensemble("smoke", **MODEL, **more | {"epochs": 3, "networks_per_fold": 1})
    assert [call.seed for call in trainings[4:]] == [1000, 1001]


def test_training_table_has_the_eight_models(mocks, trainings):
    for model in PAPER_MODELS:
        model_artefacts.ensemble("smoke", **model, **TRAINING)
    table = model_artefacts.training_table("smoke")
    assert table["model"].is_unique and table["model"].iloc[[0, -1]].tolist() == ["Uchuu 2D", "MDPL2 1D, re-weighted"]
    assert set(table["networks"]) == {TRAINING["folds"] * TRAINING["networks_per_fold"]}
    last = model_artefacts.load_ensemble("smoke", **PAPER_MODELS[-1]).networks
    assert table["loss"].iloc[-1] == np.mean([network.history["loss"][-1] for network in last])


def test_reweighted_networks_see_comas_profile_and_belong_to_its_sample(root, mocks, trainings, monkeypatch):
    reweighted = MODEL | {"reweighted": True}
    model_artefacts.ensemble("smoke", **MODEL, **TRAINING)
    made = model_artefacts.ensemble("smoke", **reweighted, **TRAINING)
    mock = mocks["uchuu"].select(mocks["uchuu"].in_train & (mocks["uchuu"].fold != trainings[-1].fold))
    radii = survey.load_sample("desi")["r_proj"].value
    np.testing.assert_allclose(trainings[-1].images, validation.observables(mock, 1, radii), rtol=1e-6)
    assert not np.allclose(trainings[0].images, trainings[-1].images, rtol=1e-3)
    assert "coma_r_proj" in made.provenance["inputs"]
    monkeypatch.setenv("CLUSTER_TOOLS_COMA_SAMPLE", "sdss")
    with pytest.raises(ClusterToolsError, match="coma_sample='desi', but coma_sample='sdss'"):
        model_artefacts.load_ensemble("smoke", **reweighted)


@pytest.mark.parametrize("kind", ["sets", "counted"])
def test_networks_that_read_galaxies_are_made_kept_and_refused_as_those_of_images(root, mocks, kind):
    small = {"networks_per_fold": 1, "epochs": 1, "batch_size": 20}
    section = SMOKE["past_the_paper"] | small
    set_profile(root, "past_the_paper", **small)
    which = {"simulation": "uchuu", "input_dim": kind, "reweighted": False}
    settings = {name: value for name, value in section.items() if name not in ("draws", "max_test")}
    with untraced():
        made = model_artefacts.ensemble("smoke", **which, **settings)
    assert made.input_dim == kind and made.provenance["training_rows"] == 45
    assert model_artefacts.ensemble("smoke", **which, **settings).provenance == made.provenance
    assert model_artefacts.load_ensemble("smoke", **which).provenance == made.provenance
    drawn = model_artefacts.predictions("smoke", made, draws=section["draws"], max_test=section["max_test"])
    assert np.array_equal(model_artefacts.load_predictions("smoke", **which).samples, drawn.samples)
    assert (root / f"results/smoke/predictions/uchuu_{kind}.h5").is_file()
    of_coma = model_artefacts.coma_posterior(made, survey.load_sample("desi"), draws=5, seed=1)
    assert (of_coma.input_dim, of_coma.samples.shape) == (kind, (5,))
    set_profile(root, "past_the_paper", epochs=7)
    for call in (model_artefacts.load_ensemble, model_artefacts.load_predictions):
        with pytest.raises(ClusterToolsError, match="epochs=1, but epochs=7 is asked for.*12_past_the_paper"):
            call("smoke", **which)


# --- Coma and tables ------------------------------------------------------------------------------


class Watcher:
    """Networks that keep the images that they are shown."""

    def __init__(self, **model):
        self.provenance, self.input_dim = {"parameters": model}, model["input_dim"]

    def posterior(self, images, **settings):
        self.images, self.settings = images, settings
        return ensembles.Posterior(np.array([15.1]), np.array([0.15]), np.full((1, 4), 15.1, np.float32))


@pytest.mark.parametrize("input_dim", [1, 2])
def test_coma_is_reweighted_only_where_it_differs_from_the_sample_of_the_training(input_dim):
    sample = survey.load_sample("desi")
    v, r = sample["v_los"].value, sample["r_proj"].value
    expected = kde.phase_space_images(v, r, [0, len(v)], input_dim=input_dim)
    inner = []
    for model in ({"reweighted": False}, {"reweighted": True, "coma_sample": "desi"}):
        watcher = Watcher(simulation="uchuu", input_dim=input_dim, **model)
        found = model_artefacts.coma_posterior(watcher, sample, draws=7, seed=3)
        assert (found.mean, found.sigma, found.reweighted) == (15.1, 0.15, model["reweighted"])
        assert found.samples.shape == (4,) and watcher.settings == {"draws": 7, "seed": 3}
        np.testing.assert_allclose(watcher.images, expected, rtol=1e-4, atol=1e-6)  # the very sample: weights are 1
        model_artefacts.coma_posterior(watcher, sample[r < np.median(r)], draws=7, seed=3)
        inner.append(watcher.images)
    assert not np.allclose(*inner, rtol=1e-3)


def coma_results():
    posteriors = [
        table1.ComaPosterior(**model, mean=15 + 0.01 * i, sigma=0.1, samples=np.full(5, 15, np.float32))
        for i, model in enumerate(PAPER_MODELS)
    ]
    return posteriors, pd.DataFrame([model | {"val_median": 0.1 * i} for i, model in enumerate(PAPER_MODELS)])


def test_table_1_joins_each_model_with_its_own_coma_mass(root):
    posteriors, validated = coma_results()
    table = model_artefacts.write_coma("smoke", posteriors[::-1], validated, SMOKE["coma_mass"])
    written = pd.read_csv(root / "results/smoke/table1.csv")
    for found in (table, written):
        assert len(found) == 8
        np.testing.assert_allclose(found["coma_mean"], 15 + 0.1 * found["val_median"], atol=1e-6)
    assert list(written.columns) == ["simulation", "input_dim", "reweighted", "val_median", "coma_mean", "coma_sigma"]
    with h5py.File(root / "results/smoke/coma_posteriors.h5") as file:
        assert set(file) == {model_name(**model) for model in PAPER_MODELS}
        assert file["uchuu_2d"].attrs["mean"] == posteriors[0].mean and file["uchuu_2d"].shape == (5,)


def test_figures_and_tables_of_an_experiment_do_not_replace_the_books(root):
    kept = {}
    changes = ({}, {"seed": 2}, {"coma_sample": "sdss"}, {"coma_sample": "sdss", "draws": 9})
    for number, change in enumerate((*changes, *changes)):
        fig, ax = plt.subplots()
        ax.plot([0, number % 4], "o")
        notebook = {**SMOKE["coma_mass"], **change, "figure": fig, "rows": [1, 2]}  # its globals
        artefacts.write_figure("smoke", "coma_mass", "figure3", fig, notebook)
        artefacts.write_table("smoke", "coma_mass", "coma_masses.csv", pd.DataFrame({"number": [number % 4]}), notebook)
        written = everything(root)  # SVG, PNG, CSV and its stamp; the same figure gives the same files
        assert kept.items() <= written.items() and len(written) == 4 * min(number + 1, 4)
        kept = written
    vectors = kept[root / "results/smoke/figures/figure3.svg"]
    assert b"<svg" in vectors and b"fill: #ffffff" in vectors
    posteriors, validated = coma_results()
    for sample in ("desi", "sdss"):
        model_artefacts.write_coma("smoke", posteriors, validated, SMOKE["coma_mass"] | {"coma_sample": sample})
        assert kept.items() <= (written := everything(root)).items() and len(written) == len(kept) + 3
        kept = written
    loaded = artefacts.load_table("smoke", "table1.csv", "08_coma_mass")
    assert list(loaded["simulation"]) == list(validated["simulation"])


def test_a_table_that_changed_is_refused_with_the_command_that_makes_it(root):
    path = root / "results/smoke/validation.csv"
    rows = pd.DataFrame({"simulation": ["uchuu"], "median": [0.123456]})
    artefacts.write_table("smoke", "validation", path.name, rows, {"seed": 1})
    stamp = path.with_suffix(".json")
    for file in (path, stamp):
        whole = file.read_bytes()
        for content in (b"", b"\xff\xfe\x00simulation", whole[:-9], whole.replace(b"1", b"2")):
            file.write_bytes(content)
            with pytest.raises(ClusterToolsError, match="validation.csv.*run-chapter --profile smoke 05_validation"):
                artefacts.load_table("smoke", path.name, "05_validation")
        file.write_bytes(whole)
    assert artefacts.load_table("smoke", path.name, "05_validation")["median"][0] == 0.123456
