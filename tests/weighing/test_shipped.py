"""The networks in the package predict as when they were shipped, and damaged files are refused."""

import copy
import dataclasses
import shutil
import tomllib
from pathlib import Path

import damage
import numpy as np
import pytest
import small_cluster
import small_networks

from cluster_tools import cli, paths, store
from cluster_tools.book import profiles, shipped
from cluster_tools.coma import survey
from cluster_tools.errors import ClusterToolsError
from cluster_tools.networks import ensembles
from cluster_tools.weighing import one_cluster, reference_statistics

ROOT = Path(__file__).parents[2]
DIRECTORY = paths.PACKAGE_DATA / ensembles.SHIPPED


@pytest.fixture(scope="module")
def ensemble():
    return ensembles.CNNEnsemble.shipped()


def test_shipped_networks_are_the_uchuu_2d_ones_of_the_book(ensemble):
    parameters = ensemble.provenance["parameters"]
    book = profiles.profile_parameters("book")["training"]
    assert parameters.items() >= shipped.MODEL.items() and {"epochs", "seed", "dropout_rate"} <= set(parameters)
    assert all(value == book[name] for name, value in parameters.items() if name in book)
    assert sorted({network.fold for network in ensemble.networks}) == list(range(book["folds"]))
    assert {"keras", "tensorflow", "numpy"} <= set(ensemble.provenance["versions"])


def test_every_shipped_file_is_described_matches_its_checksum_and_is_packaged():
    members = ensembles.CNNEnsemble.describe(DIRECTORY)["networks"]
    assert {file.name for file in DIRECTORY.iterdir()} == {
        ensembles.DESCRIPTION, shipped.PREDICTIONS, reference_statistics.FILE, *(member["file"] for member in members)
    }  # fmt: skip
    for member in members:
        assert store.file_digest(DIRECTORY / member["file"]) == member["digest"]
    assert sum(file.stat().st_size for file in DIRECTORY.iterdir()) < 5_000_000
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = {file for pattern in patterns["cluster_tools"] for file in (paths.PACKAGE_DATA.parent).glob(pattern)}
    assert set(DIRECTORY.iterdir()) <= packaged


def test_shipped_networks_predict_what_they_predicted(ensemble):
    stored, sample = shipped.reference(), survey.load_sample("desi")
    assert len(stored.mean) == 1 + shipped.CLUSTERS and (np.diff(stored.quantiles, axis=1) > 0).all()
    # Another order of adding up moves float32 sums by some 1e-5 dex; another network, by 1e-2.
    assert shipped.deviation(ensemble, stored) < 1e-3
    other = copy.deepcopy(ensemble)
    other.networks[0].weights[-1][0] += 0.5
    assert shipped.deviation(other, stored) > 1e-2
    # The first of the stored clusters is Coma.
    np.testing.assert_allclose(stored.v_los[: stored.offsets[1]], sample["v_los"].value, atol=1e-6)
    np.testing.assert_allclose(stored.r_proj[: stored.offsets[1]], sample["r_proj"].value, atol=1e-9)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """The shipped directory, for a test to spoil."""
    monkeypatch.setattr(paths, "PACKAGE_DATA", tmp_path)
    shutil.copytree(DIRECTORY, tmp_path / ensembles.SHIPPED)
    return tmp_path / ensembles.SHIPPED


@pytest.mark.parametrize("spoil", [damage.flip_byte, lambda file: file.write_bytes(file.read_bytes()[:1000])])
@pytest.mark.parametrize(
    "name", ["fold0_network0.weights.h5", "ensemble.json", "predictions.h5", "reference_statistics.h5"]
)
def test_a_damaged_file_is_refused_by_name(directory, name, spoil):
    spoil(directory / name)
    with pytest.raises(ClusterToolsError, match=name) as refusal:
        shipped.reference() if name == shipped.PREDICTIONS else one_cluster.WeighingModel.load()
    assert "\n" not in str(refusal.value) and "install" in str(refusal.value)


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile "own" with a catalogue of 20 clusters and one epoch, and package data to ship to."""
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    monkeypatch.setattr(paths, "PACKAGE_DATA", shutil.copytree(paths.PACKAGE_DATA, tmp_path / "data"))
    (tmp_path / "params").mkdir()
    shutil.copy(ROOT / "params" / "smoke.yml", tmp_path / "params")
    (tmp_path / "params" / "own.yml").write_text("training: {epochs: 1, folds: 2}")
    mocks = profiles.profile_parameters("own")["mock_catalogues"]
    parameters = {name: value for name, value in mocks.items() if name not in profiles.NOT_IN_RESULTS}
    provenance = store.stamp({"simulation": "uchuu", **parameters}, folder="mocks")
    catalog = dataclasses.replace(small_cluster.small_catalog(20), provenance=provenance)
    catalog.write(tmp_path / "results/own/catalogs/uchuu.h5")
    return tmp_path


def content(directory):
    return {file.name: store.file_digest(file) for file in directory.iterdir()}


def test_networks_of_a_profile_take_the_place_of_the_old_ones_whole_or_not_at_all(profile, capsys, monkeypatch):
    with small_networks.untraced():
        assert cli.main(["ship-weights", "--profile", "own"]) == 0
    said = capsys.readouterr().out
    assert said.strip().endswith("uchuu_2d") and "network 2 of 2" in said
    networks = {"ensemble.json", "fold0_network0.weights.h5", "fold1_network1.weights.h5"}
    assert set(content(profile / "data/uchuu_2d")) == networks | {shipped.PREDICTIONS, reference_statistics.FILE}
    stored = shipped.reference()
    assert len(stored.mean) == 1 + shipped.CLUSTERS and stored.offsets[-1] == stored.offsets[1] + 120 * shipped.CLUSTERS
    made = ensembles.CNNEnsemble.shipped()
    assert shipped.deviation(made, stored) < 1e-3
    # Always the same, and measured in seconds.
    statistics = profile / "data/uchuu_2d" / reference_statistics.FILE
    measured = reference_statistics.ReferenceStatistics.read(statistics, made.provenance["key"])
    monkeypatch.setattr(reference_statistics, "measure", lambda *_, **settings: measured)
    assert cli.main(["ship-weights", "--profile", "own"]) == 0
    assert "network 2 of 2" not in capsys.readouterr().out  # trained once
    assert (shipped.reference().mean == stored.mean).all()

    before = content(profile / "data/uchuu_2d")
    monkeypatch.setattr(shipped, "MAX_BYTES", 500_000)
    for name, words in (("own", "MB, but 0.5 MB are the most"), ("nosuch", "no profile 'nosuch'")):
        assert cli.main(["ship-weights", "--profile", name]) == 1
        assert words in capsys.readouterr().err
    (profile / "results/own/catalogs/uchuu.h5").unlink()
    assert cli.main(["ship-weights", "--profile", "own"]) == 1
    assert "uchuu.h5 is missing" in capsys.readouterr().err
    assert content(profile / "data/uchuu_2d") == before
    assert not [path for path in (profile / "data").iterdir() if path.name.startswith(".")]
