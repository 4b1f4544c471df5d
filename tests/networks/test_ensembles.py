"""Posteriors against analytic ones; directories on disk: read back, or refused by the name of the file."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from damage import flip_byte
from small_networks import ensemble, network, random_images

from cluster_tools import store
from cluster_tools.errors import ClusterToolsError
from cluster_tools.networks import dropout, ensembles
from cluster_tools.networks.ensembles import DESCRIPTION


def test_posterior_depends_on_its_seed_and_on_nothing_else():
    both = ensemble(network(dropout_rate=0.1, seed=1), network(dropout_rate=0.1, seed=2))
    images = random_images(5, 1)
    first, other, again = (both.posterior(images, draws=12, seed=seed) for seed in (3, 4, 3))
    assert first.mean.shape == first.sigma.shape == (5,) and first.samples.shape == (5, 24)
    for name in ("mean", "sigma", "samples"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    assert len(np.unique(first.samples)) > 100  # no draw is another one's copy, nor in another batch
    many = both.posterior(np.repeat(images[:1], 2 * dropout.BATCH + 3, axis=0), draws=1).mean
    assert len(np.unique(many)) == len(many)


@pytest.mark.parametrize("mass_range", [(14.0, 15.25), (13.8, 15.56)])
def test_mean_and_sigma_of_networks_that_disagree_are_analytic(mass_range):
    half = (mass_range[1] - mass_range[0]) / 2
    members = network(-0.5, np.log(0.04)), network(0.5, np.log(0.16))
    posterior = ensemble(*members, mass_range=mass_range).posterior(random_images(3, 1), draws=4)
    np.testing.assert_allclose(posterior.mean, np.mean(mass_range), atol=1e-6)
    # Spread of the two means, 0.5^2, plus the mean of the two variances, both in units of half the range.
    np.testing.assert_allclose(posterior.sigma, half * np.sqrt(0.25 + 0.10), rtol=1e-6)


def test_mean_and_sigma_are_those_of_the_samples():
    members = [network(dropout_rate=0.3, seed=seed) for seed in (1, 2)]
    for member in members:  # so that dropout and disagreement weigh as much as the predicted variance
        member.weights[-2:] = [member.weights[-2] * np.float32([6, 1]), np.float32([0.3, -2.0])]
    posterior = ensemble(*members).posterior(random_images(3, 1), draws=2000, seed=1)
    # 4000 samples: their mean is off by sigma / 63, their standard deviation by about 1%.
    np.testing.assert_allclose(posterior.samples.mean(axis=1), posterior.mean, atol=5 * posterior.sigma.max() / 63)
    np.testing.assert_allclose(posterior.samples.std(axis=1), posterior.sigma, rtol=0.05)


def test_fold_uses_only_the_networks_that_left_it_out():
    three = ensemble(network(-0.4, -9, fold=0), network(0.2, -9, fold=1), network(0.4, -9, fold=1))
    images = random_images(2, 1)
    for fold, scaled in ((0, -0.4), (1, 0.3), (None, 0.2 / 3)):
        np.testing.assert_allclose(three.posterior(images, draws=1, fold=fold).mean, 14.5 + scaled / 2, atol=1e-6)
    with pytest.raises(ClusterToolsError, match=r"fold is 7.*\[0, 1\]"):
        three.posterior(images, fold=7)


@pytest.mark.parametrize(
    "images, settings, words",
    [
        *((np.zeros(shape), {}, r"images has shape .*\(n, 48\)") for shape in ((48,), (3, 47), (3, 48, 48), ())),
        (np.full((1, 48), np.nan), {}, "images holds NaN"),
        *(
            (random_images(1, 1), {"draws": draws}, f"draws is {draws!r}")
            for draws in (0, 2.5, "10", True, 10_001, 10**9)
        ),
        (random_images(1, 1), {"seed": -1}, "seed is -1"),
    ],
)
def test_images_and_settings_that_make_no_sense_are_refused(images, settings, words):
    with pytest.raises(ClusterToolsError, match=words):
        ensemble(network()).posterior(images, **settings)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Networks, and the directory in which they are saved."""
    networks = ensemble(*(network(dropout_rate=0.1, seed=seed, fold=seed) for seed in (0, 1)))
    networks.save(directory := tmp_path_factory.mktemp("original"))
    return networks, directory


@pytest.fixture
def saved(original, tmp_path):
    """The networks, and a copy of their directory for a test to spoil."""
    return original[0], shutil.copytree(original[1], tmp_path / "model")


def test_saved_networks_give_the_same_posterior_when_loaded(saved):
    original, path = saved
    assert {file.name for file in path.iterdir()} == {"ensemble.json", WEIGHTS, "fold1_network1.weights.h5"}
    for place in (path, str(path), path / "ensemble.json"):
        loaded = ensembles.CNNEnsemble.load(place)
    for name in ("architecture", "log_m200c_range", "provenance"):
        assert getattr(loaded, name) == getattr(original, name)
    for one, two in zip(original.networks, loaded.networks, strict=True):
        assert (one.fold, one.seed, one.history) == (two.fold, two.seed, two.history)
    images = random_images(4, 1)
    before, after = (each.posterior(images, draws=3, seed=9) for each in (original, loaded))
    for name in ("mean", "sigma", "samples"):
        assert np.array_equal(getattr(before, name), getattr(after, name))


WEIGHTS = "fold0_network0.weights.h5"
FULL_DISK = """
import resource, sys
from pathlib import Path
from small_networks import ensemble, network
from cluster_tools.errors import ClusterToolsError

path = Path(sys.argv[1])
ensemble(network(), network(fold=1)).save(path)  # Keras starts before there is no room
before = {file: file.read_bytes() for file in path.iterdir()}
for room in (0, 700, 30_000, 300_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        ensemble(network(seed=7)).save(path)
    except ClusterToolsError as error:
        message = str(error)
    assert "fold0_network0.weights.h5 could not be written" in message and "free space" in message, message
    assert {file: file.read_bytes() for file in path.iterdir()} == before
"""


def test_a_full_disk_leaves_the_old_weights(saved):
    """HDF5 itself can crash there."""
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, *sys.path])
    subprocess.run([sys.executable, "-c", FULL_DISK, str(saved[1])], check=True, env=os.environ | {"PYTHONPATH": path})


def replace(path, **changes):
    """An ensemble.json with these entries and a digest that fits."""
    store.write_digested(path / DESCRIPTION, store.read_digested(path / DESCRIPTION) | changes)


def spoil(path):
    """Weights that begin as HDF5 does, and a description with their digest."""
    (path / WEIGHTS).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    first, second = store.read_digested(path / DESCRIPTION)["networks"]
    replace(path, networks=[first | {"digest": store.file_digest(path / WEIGHTS)}, second])


def widen(file):
    """An ensemble.json with another range of masses."""
    file.write_text(file.read_text().replace("14.0", "13.0", 1))


@pytest.mark.parametrize(
    "damage, named",
    [
        (lambda path: flip_byte(path / WEIGHTS), WEIGHTS),
        (lambda path: (path / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
        (lambda path: (path / "fold1_network1.weights.h5").replace(path / WEIGHTS), WEIGHTS),
        (lambda path: (path / "ensemble.json").unlink(), "ensemble.json is missing"),
        (lambda path: (path / "ensemble.json").write_text("{"), "ensemble.json"),
        (lambda path: (path / "ensemble.json").write_text("[" * 100_000), "ensemble.json"),
        (lambda path: replace(path, format="cluster_tools ensemble 1"), "ensemble.json"),
        (lambda path: replace(path, architecture={"layers": 3}), "ensemble.json"),
        *((partial(replace, log_m200c_range=pair), "ensemble.json") for pair in (14, [15, 14], [14, 10**400])),
        (partial(replace, networks=[{"file": 1, "digest": "", "fold": 0, "seed": 0, "history": {}}]), "ensemble.json"),
        (lambda path: replace(path, architecture={"input_dim": 2}), f"{WEIGHTS} holds no weights"),
        (lambda path: widen(path / "ensemble.json"), "ensemble.json is not as it was saved"),
        (lambda path: replace(path, provenance="none"), "ensemble.json is not a"),
        (spoil, f"{WEIGHTS} holds no weights"),
    ],
)
def test_damaged_edited_and_foreign_files_are_refused_by_their_name(saved, damage, named):
    damage(saved[1])
    with pytest.raises(ClusterToolsError, match=named) as refusal:
        ensembles.CNNEnsemble.load(saved[1])
    assert "make book" in str(refusal.value) and "\n" not in str(refusal.value)
