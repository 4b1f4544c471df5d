"""The Bayesian network against a forward pass by hand, scipy's likelihood, and a problem with a known answer."""

import io
import json
import re
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from damage import flip_byte
from scipy.signal import correlate
from scipy.stats import norm

from cluster_tools import paths, store
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde
from cluster_tools.networks import dropout, ensembles

MASS_RANGE = (14.0, 15.0)


def random_images(n, input_dim, seed=0):
    images = np.random.default_rng(seed).random((n,) + (48,) * input_dim, dtype=np.float32)
    return images / images.reshape(n, -1).sum(axis=1).reshape((n,) + (1,) * input_dim)


def one_network(mu=None, log_variance=None, *, input_dim=1, fold=0, seed=0, dropout_rate=0.0):
    """An untrained network; with `mu` and `log_variance`, one that answers these to every image."""
    model = ensembles.BayesianCNN.untrained(input_dim, dropout_rate=dropout_rate, seed=seed)
    if mu is not None:
        model.weights[-2:] = 0 * model.weights[-2], np.array([mu, log_variance], np.float32)
    return ensembles.Network(model, fold, seed, {"loss": [0.5], "val_loss": [0.25]})


def ensemble(*members, mass_range=MASS_RANGE):
    return ensembles.Ensemble(list(members), mass_range, {"key": "0123", "parameters": {"seed": 1}})


def clusters(n, seed, *, one_sided=False):
    """1D images of 100 galaxies whose velocities tell the mass: by their dispersion, or by how far
    they lie to one side."""
    rng = np.random.default_rng(seed)
    log_m200c = rng.uniform(*MASS_RANGE, n)
    velocity = rng.normal(size=(n, 100)) * (300 if one_sided else 1000 * 10 ** ((log_m200c[:, None] - 15) / 3))
    if one_sided:
        velocity += 3000 * (log_m200c[:, None] - 14)
    images = kde.phase_space_images(velocity.ravel(), velocity.ravel(), 100 * np.arange(n + 1), input_dim=1)
    return images, log_m200c


def trained(images, log_m200c, **settings):
    return ensembles.train(images, log_m200c, images[:50], log_m200c[:50], log_m200c_range=MASS_RANGE, **settings)


# --- architecture and loss ------------------------------------------------------------------------


# Counts: the authors' public code (McWilliamsCenter/halo_cnn).
@pytest.mark.parametrize("input_dim, parameters", [(1, 70_828), (2, 76_468)])
def test_layers_and_parameter_counts_are_the_papers(input_dim, parameters):
    model = ensembles.build(input_dim, dropout_rate=0.2)
    assert model.count_params() == parameters
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[:3] == ["InputLayer", "Rescaling", "Reshape"]
    assert [kind for kind in kinds[3:] if kind != "Flatten"] == ["Dropout", "Conv1D"] * 2 + ["Dropout", "Dense"] * 3
    assert all(layer.rate == 0.2 for layer in model.layers if type(layer).__name__ == "Dropout")
    kernels = [layer.kernel.shape for layer in model.layers if hasattr(layer, "kernel")]
    channels = 48 if input_dim == 2 else 1
    assert kernels == [(5, channels, 24), (3, 24, 10), (480, 128), (128, 64), (64, 2)]
    activations = [layer.activation.__name__ for layer in model.layers if hasattr(layer, "kernel")]
    assert activations == ["relu"] * 4 + ["linear"]


@pytest.mark.parametrize("input_dim", [1, 2])
def test_forward_pass_equals_one_by_hand_that_convolves_along_velocity(input_dim):
    model = ensembles.build(input_dim, dropout_rate=0.0, seed=4)
    rng = np.random.default_rng(5)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    (w1, b1), (w2, b2), *dense, last = [layer.get_weights() for layer in model.layers if hasattr(layer, "kernel")]
    images = random_images(3, input_dim)

    def convolved(x, kernel, bias):  # zero-padded cross-correlation along the first axis
        return [
            sum(correlate(x[:, c], kernel[:, c, f], mode="same") for c in range(x.shape[1])) + bias[f]
            for f in range(kernel.shape[2])
        ]

    by_hand = []
    for image in images:
        x = 48**input_dim * image.astype(float).reshape(48, -1)
        for kernel, bias in ((w1, b1), (w2, b2)):
            x = np.maximum(np.transpose(convolved(x, kernel, bias)), 0)
        x = x.ravel()
        for kernel, bias in dense:
            x = np.maximum(x @ kernel + bias, 0)
        by_hand.append(x @ last[0] + last[1])
    np.testing.assert_allclose(np.asarray(model(images)), by_hand, rtol=1e-4, atol=1e-5)


def test_l2_acts_on_all_kernels_but_the_last():
    model = ensembles.build(2, seed=1)
    model(random_images(1, 2))
    kernels = [layer.get_weights()[0] for layer in model.layers if hasattr(layer, "kernel")]
    expected = 1e-4 * sum((kernel.astype(float) ** 2).sum() for kernel in kernels[:-1])
    assert len(model.losses) == 4
    assert sum(map(float, model.losses)) == pytest.approx(expected, rel=1e-5)


def test_loss_is_minus_the_gaussian_log_likelihood():
    rng = np.random.default_rng(0)
    y, mu, log_variance = rng.uniform(-1, 1, (3, 200)).astype(np.float32)
    expected = -norm.logpdf(y, mu, np.exp(log_variance / 2)).mean() - np.log(2 * np.pi) / 2
    found = ensembles.gaussian_loss(y[:, None], np.stack([mu, log_variance], axis=1))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_dropout_is_always_on_and_drops_the_rate_that_was_asked_for():
    model = ensembles.build(1, dropout_rate=0.1, seed=2)
    images = random_images(4, 1)
    assert not np.array_equal(model(images), model(images))
    import keras

    first = next(i for i, layer in enumerate(model.layers) if type(layer).__name__ == "Dropout")
    dropped = np.asarray(keras.Model(model.input, model.layers[first].output)(np.ones((2000, 48), np.float32)))
    assert (dropped == 0).mean() == pytest.approx(0.1, abs=0.005)  # 5 standard deviations of 96,000 draws
    assert dropped.mean() == pytest.approx(48, rel=0.006)  # what is kept is scaled up


# --- posterior ------------------------------------------------------------------------------------


def test_posterior_depends_on_its_seed_and_on_nothing_else():
    both = ensemble(one_network(dropout_rate=0.1, seed=1), one_network(dropout_rate=0.1, seed=2))
    images = random_images(5, 1)
    first, other, again = (both.posterior(images, draws=12, seed=seed) for seed in (3, 4, 3))
    assert first.mean.shape == first.sigma.shape == (5,) and first.samples.shape == (5, 24)
    for name in ("mean", "sigma", "samples"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    assert len(np.unique(first.samples)) > 100  # no draw is another one's copy


def test_posterior_of_many_images_does_not_repeat_its_dropout():
    one = ensemble(one_network(dropout_rate=0.1))
    images = np.repeat(random_images(1, 1), 2 * dropout.TOGETHER + 3, axis=0)
    mean = one.posterior(images, draws=1).mean
    assert len(np.unique(mean)) == len(mean)


@pytest.mark.parametrize("mass_range", [(14.0, 15.25), (13.8, 15.56)])
def test_mean_and_sigma_of_networks_that_disagree_are_analytic(mass_range):
    half = (mass_range[1] - mass_range[0]) / 2
    networks_ = one_network(-0.5, np.log(0.04)), one_network(0.5, np.log(0.16))
    found = ensemble(*networks_, mass_range=mass_range).posterior(random_images(3, 1), draws=4)
    np.testing.assert_allclose(found.mean, np.mean(mass_range), atol=1e-6)
    # Spread of the two means, 0.5^2, plus the mean of the two variances, both in units of half the range.
    np.testing.assert_allclose(found.sigma, half * np.sqrt(0.25 + 0.10), rtol=1e-6)


def test_mean_and_sigma_are_those_of_the_samples():
    members = [one_network(dropout_rate=0.3, seed=seed) for seed in (1, 2)]
    for member in members:  # so that dropout and disagreement weigh as much as the predicted variance
        member.model.weights[-2:] = [member.model.weights[-2] * np.float32([6, 1]), np.float32([0.3, -2.0])]
    found = ensemble(*members).posterior(random_images(3, 1), draws=2000, seed=1)
    # 4000 samples: their mean is off by sigma / 63, their standard deviation by about 1%.
    np.testing.assert_allclose(found.samples.mean(axis=1), found.mean, atol=5 * found.sigma.max() / 63)
    np.testing.assert_allclose(found.samples.std(axis=1), found.sigma, rtol=0.05)


def test_mean_of_folds_leaves_out_how_much_the_folds_disagree():
    # Two folds; in fold 1, two networks. Scaled means -0.4; 0.2 and 0.4; all variances e^-4.
    members = [one_network(mu, -4.0, fold=fold) for mu, fold in ((-0.4, 0), (-0.4, 0), (0.2, 1), (0.4, 1))]
    half, images = 0.5, random_images(2, 1)
    total, of_folds = (
        ensemble(*members).posterior(images, draws=500, seed=2, variance=rule) for rule in ("total", "mean_of_folds")
    )
    np.testing.assert_allclose(of_folds.mean, total.mean, atol=1e-6)
    np.testing.assert_allclose(of_folds.mean, 14.5 + half * (-0.05), atol=1e-6)
    # Within folds the means scatter by 0 and 0.1; between them by 0.35.
    np.testing.assert_allclose(of_folds.sigma, half * np.sqrt(np.exp(-4) + 0.1**2 / 2), rtol=1e-5)
    np.testing.assert_allclose(total.sigma, half * np.sqrt(np.exp(-4) + 0.1**2 / 2 + 0.35**2), rtol=1e-5)
    np.testing.assert_allclose(of_folds.samples.mean(axis=1), of_folds.mean, atol=1e-3)
    np.testing.assert_allclose(of_folds.samples.std(axis=1), of_folds.sigma, rtol=0.05)
    alone = [ensemble(*members).posterior(images, draws=5, fold=0, variance=r) for r in ("total", "mean_of_folds")]
    np.testing.assert_allclose(alone[0].sigma, alone[1].sigma)  # one fold has nobody to disagree with
    with pytest.raises(ClusterToolsError, match="variance is 'sum', but 'total' or 'mean_of_folds'"):
        ensemble(*members).posterior(images, variance="sum")


def test_fold_uses_only_the_networks_that_left_it_out():
    three = ensemble(one_network(-0.4, -9, fold=0), one_network(0.2, -9, fold=1), one_network(0.4, -9, fold=1))
    images = random_images(2, 1)
    for fold, scaled in ((0, -0.4), (1, 0.3), (None, 0.2 / 3)):
        np.testing.assert_allclose(three.posterior(images, draws=1, fold=fold).mean, 14.5 + scaled / 2, atol=1e-6)
    with pytest.raises(ClusterToolsError, match=r"fold is 7.*\[0, 1\]"):
        three.posterior(images, fold=7)


@pytest.mark.parametrize("shape", [(48,), (3, 47), (3, 48, 48), ()])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ClusterToolsError, match=r"images has shape .*\(n, 48\) is expected"):
        ensemble(one_network()).posterior(np.zeros(shape))


@pytest.mark.parametrize("bad", [{"draws": 0}, {"draws": 2.5}, {"draws": "10"}, {"seed": -1}, {"seed": None}])
def test_draws_and_seeds_that_make_no_sense_are_refused(bad):
    with pytest.raises(ClusterToolsError, match=f"{next(iter(bad))} is .* whole number"):
        ensemble(one_network()).posterior(random_images(1, 1), **bad)


# --- training -------------------------------------------------------------------------------------


def test_training_is_the_same_again_with_the_same_seed_only():
    images, log_m200c = clusters(60, seed=1)
    first, again, other = (trained(images, log_m200c, epochs=2, batch_size=30, seed=seed, fold=3) for seed in (5, 5, 6))
    for one, two, three in zip(*(n.model.weights for n in (first, again, other)), strict=True):
        assert np.array_equal(one, two) and not np.array_equal(one, three)
    assert first.history == again.history
    assert (first.fold, first.seed) == (3, 5)


def test_training_sees_every_image_and_its_mirror_image(monkeypatch):
    seen = []
    step = dropout.Training.step
    monkeypatch.setattr(dropout.Training, "step", lambda self, x, y: seen.append((x, y)) or step(self, x, y))
    images, log_m200c = clusters(60, seed=1)
    trained(images, log_m200c, epochs=1, batch_size=30, seed=5, fold=3)
    shown, targets = (np.concatenate(column) for column in zip(*seen, strict=True))
    expected = np.concatenate([images, images[:, ::-1]])
    np.testing.assert_array_equal(np.sort(shown, axis=0), np.sort(expected, axis=0))
    of_image = {image.tobytes(): mass for image, mass in zip(expected, np.tile(2 * (log_m200c - 14) - 1, 2))}
    np.testing.assert_allclose([of_image[image.tobytes()] for image in shown], targets[:, 0], atol=1e-6)


def test_a_trained_network_reads_masses_off_velocity_dispersions():
    images, log_m200c = clusters(400, seed=1)
    calls = []
    network = trained(images, log_m200c, epochs=8, seed=1, progress=lambda *call: calls.append(call))
    assert [epoch for epoch, _ in calls] == list(range(1, 9))
    assert [loss for _, loss in calls] == network.history["loss"]
    assert len(network.history["val_loss"]) == 8
    assert network.history["loss"][-1] < network.history["loss"][0] - 0.3
    unseen, truth = clusters(300, seed=2)
    found = ensemble(network).posterior(unseen, draws=5)
    residual = found.mean - truth
    # The prior's scatter is 1 / sqrt(12) = 0.29 dex; 100 galaxies allow 3 * 0.434 / sqrt(200) = 0.09 dex.
    assert residual.std() < 0.16
    assert abs(residual.mean()) < 0.1
    assert 0.5 < (np.abs(residual) < found.sigma).mean() < 0.98


def test_a_network_trained_on_one_side_knows_the_mirror_image():
    images, log_m200c = clusters(300, seed=3, one_sided=True)
    network = trained(images, log_m200c, epochs=6, seed=2)
    unseen, truth = clusters(200, seed=4, one_sided=True)
    one = ensemble(network)
    # Dropout acts on the validation loss as well: without it, this is another number.
    target = (2 * (log_m200c[:50, None] - 14) - 1).astype(np.float32)
    model = ensembles.build(1, dropout_rate=0.0)
    model.set_weights(network.model.weights)
    without = ensembles.gaussian_loss(target, model(images[:50])) + sum(model.losses)
    assert abs(float(without) - network.history["val_loss"][-1]) > 1e-3
    for shown in (unseen, unseen[:, ::-1]):
        assert (one.posterior(shown, draws=5).mean - truth).std() < 0.15


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model"
    members = [one_network(dropout_rate=0.1, seed=seed, fold=seed) for seed in (0, 1)]
    original = ensemble(*members)
    original.save(path)
    return original, path


def resave(path, **changes):
    """Write an ensemble.json that looks as if `save` had written these entries."""
    content = json.loads((path / ensembles.DESCRIPTION).read_text())
    content.pop("digest", None)
    content |= changes
    store.write_json(path / ensembles.DESCRIPTION, content | {"digest": store.digest(content)})


def test_saved_networks_give_the_same_posterior_when_loaded(saved):
    original, path = saved
    assert sorted(p.name for p in path.iterdir()) == [
        "ensemble.json", "fold0_network0.keras", "fold1_network1.keras",
    ]  # fmt: skip
    images = random_images(4, 1)
    for place in (path, str(path), path / "ensemble.json"):
        loaded = ensembles.Ensemble.load(place)
    assert loaded.input_dim == 1 and loaded.log_m200c_range == MASS_RANGE and loaded.provenance == original.provenance
    assert [(n.fold, n.seed, n.history) for n in loaded.networks] == [
        (n.fold, n.seed, n.history) for n in original.networks
    ]
    for fold in (None, 1):
        before, after = (e.posterior(images, draws=3, seed=9, fold=fold) for e in (original, loaded))
        for name in ("mean", "sigma", "samples"):
            assert np.array_equal(getattr(before, name), getattr(after, name))


def test_a_trained_network_survives_its_file(tmp_path):
    images, log_m200c = clusters(60, seed=1)
    original = ensemble(trained(images, log_m200c, epochs=1, batch_size=30))
    original.save(tmp_path)
    loaded = ensembles.Ensemble.load(tmp_path)
    assert loaded.networks[0].history == original.networks[0].history
    assert np.array_equal(loaded.posterior(images, draws=2).samples, original.posterior(images, draws=2).samples)


@pytest.mark.parametrize("input_dim", [1, 2])
def test_a_file_holds_what_keras_reads_from_it(tmp_path, input_dim):
    keras = ensembles.load_keras()
    model = ensembles.build(input_dim, dropout_rate=0.3, seed=3)
    model.save(tmp_path / "by_keras.keras")
    ours = ensembles.BayesianCNN.load(tmp_path / "by_keras.keras")
    assert (ours.input_dim, ours.dropout_rate) == (input_dim, 0.3) and ours.count_params() == model.count_params()
    ours.save(tmp_path / "by_us.keras")
    for loaded in (keras.models.load_model(tmp_path / "by_us.keras"), ours.keras()):
        assert loaded.to_json().count('"rate": 0.3') == 5
        for one, two, three in zip(model.get_weights(), ours.weights, loaded.get_weights(), strict=True):
            assert np.array_equal(one, two) and np.array_equal(one, three)


@pytest.mark.parametrize("input_dim", [1, 2])
def test_the_file_that_networks_are_written_into_is_what_keras_saves_today(tmp_path, input_dim):
    """If not, Keras has changed: write it anew, as src/cluster_tools/data/README.md says."""
    ensembles.load_keras().utils.clear_session()  # numbers the layers from the beginning
    ensembles.build(input_dim).save(tmp_path / "now.keras")
    configs, stored = [], []
    for file in (tmp_path / "now.keras", paths.PACKAGE_DATA / ensembles.UNTRAINED.format(input_dim)):
        with zipfile.ZipFile(file) as archive:
            configs.append(re.sub(r'"shared_object_id": \d+', "", archive.read("config.json").decode()))
            with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as content:
                stored.append([])
                content.visititems(lambda name, item: stored[-1].append((name, getattr(item, "shape", None))))
    assert configs[0] == configs[1] and stored[0] == stored[1]


@pytest.mark.parametrize("input_dim", [1, 2])
def test_untrained_weights_are_spread_as_keras_spreads_them(input_dim):
    ours, others = (ensembles.BayesianCNN.untrained(input_dim, seed=seed) for seed in (5, 6))
    theirs = ensembles.build(input_dim, seed=5).get_weights()
    for one, two, other in zip(ours.weights, theirs, others.weights, strict=True):
        assert one.shape == two.shape and one.dtype == two.dtype == np.float32
        if one.ndim == 1:
            assert not one.any() and not two.any()
        else:
            assert not np.array_equal(one, other)
            # As many draws of both: five standard deviations of the difference of two uniform spreads.
            assert one.std() == pytest.approx(two.std(), rel=5 * np.sqrt(2 * 0.2 / one.size))
            assert np.abs(one).max() == pytest.approx(np.abs(two).max(), rel=20 / one.size)


def test_networks_are_trained_written_read_and_asked_without_keras(tmp_path):
    """It takes seconds to start, which whoever trains or weighs should not wait for."""
    code = (
        "import sys; import numpy as np; from cluster_tools import networks; x, y = np.ones((9, 48)) / 48, np.ones(9); "
        "one = networks.train(x, y, x, y, log_m200c_range=(0, 2), epochs=1, batch_size=3); "
        f"networks.Ensemble([one], (0, 2), {{}}).save({str(tmp_path)!r}); "
        f"networks.Ensemble.load({str(tmp_path)!r}).posterior(x, draws=2); "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("changed", ["tanh", "wider", "deeper"])
def test_a_network_of_other_layers_is_refused(saved, tmp_path, changed):
    keras = ensembles.load_keras()
    model = ensembles.build(1)
    if changed == "tanh":
        model.layers[4].activation = keras.activations.tanh
    elif changed == "wider":
        model = keras.models.clone_model(
            model, clone_function=lambda layer: keras.layers.Conv1D(24, 7, padding="same", activation="relu")
            if layer is model.layers[4] else layer.__class__.from_config(layer.get_config()),
        )  # fmt: skip
    else:
        model = keras.Sequential([model, keras.layers.Dense(2)])
    model.save(tmp_path / "other.keras")
    replace_weights(saved[1], tmp_path / "other.keras")
    with pytest.raises(ClusterToolsError, match="fold0_network0.keras (holds another network|could not be loaded)"):
        ensembles.Ensemble.load(saved[1])


@pytest.mark.parametrize(
    "damage, said",
    [
        (flip_byte, "fold0_network0.keras is not the file"),
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), "fold0_network0.keras is not the file"),
        (lambda file: file.write_bytes(b""), "fold0_network0.keras is not the file"),
        (lambda file: file.unlink(), "fold0_network0.keras is missing"),
        (lambda file: (file.parent / "fold1_network1.keras").replace(file), "fold0_network0.keras is not the file"),
        (lambda file: (file.parent / "ensemble.json").unlink(), "ensemble.json is missing"),
        (lambda file: (file.parent / "ensemble.json").write_text("{"), "ensemble.json is not a 'cluster_tools"),
        (lambda file: (file.parent / "ensemble.json").write_text("[1]"), "ensemble.json is not a 'cluster_tools"),
        (lambda file: (file.parent / "ensemble.json").write_bytes(b"\xff"), "ensemble.json is not a 'cluster_tools"),
        (lambda file: resave(file.parent, format="other"), "ensemble.json is not a 'cluster_tools"),
        (lambda file: resave(file.parent, networks=[{}]), "ensemble.json lacks entries"),
        (lambda file: resave(file.parent, log_m200c_range=14), "ensemble.json lacks entries"),
    ],
)
def test_a_damaged_ensemble_is_refused_by_the_name_of_the_file(saved, damage, said):
    damage(saved[1] / "fold0_network0.keras")
    with pytest.raises(ClusterToolsError, match=said) as refusal:
        ensembles.Ensemble.load(saved[1])
    assert "make book" in str(refusal.value)


@pytest.mark.parametrize("old, new", [("14.0", "13.0"), ('"fold": 1', '"fold": 0'), ('"seed": 1', '"seed": 2')])
def test_an_edited_description_is_refused(saved, old, new):
    file = saved[1] / "ensemble.json"
    edited = file.read_text().replace(old, new, 1)
    assert edited != file.read_text()
    file.write_text(edited)
    with pytest.raises(ClusterToolsError, match="ensemble.json is not as it was saved.*make book"):
        ensembles.Ensemble.load(saved[1])


def replace_weights(path, file):
    """Put a file in the place of the first network, with its digest in the description."""
    members = json.loads((path / ensembles.DESCRIPTION).read_text())["networks"]
    name = path / members[0]["file"]
    name.write_bytes(file.read_bytes())
    members[0]["digest"] = store.file_digest(name)
    resave(path, networks=members)


def test_code_in_a_weights_file_is_never_run(saved, tmp_path):
    import keras

    marker, file = tmp_path / "was_run", tmp_path / "lambda.keras"
    inputs = keras.Input((48,))
    touch = eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")
    keras.Model(inputs, keras.layers.Lambda(touch, output_shape=(2,))(inputs)).save(file)
    marker.unlink(missing_ok=True)
    keras.models.load_model(file, safe_mode=False)(np.zeros((1, 48)))
    assert marker.exists()  # this file does harm where it is trusted
    marker.unlink()
    replace_weights(saved[1], file)
    with pytest.raises(ClusterToolsError, match="fold0_network0.keras holds another network"):
        ensembles.Ensemble.load(saved[1])
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a zip archive", b"\x89HDF\r\n\x1a\n" + bytes(2000)])
def test_a_foreign_file_in_place_of_the_weights_is_refused(saved, tmp_path, content):
    file = tmp_path / "foreign"
    file.write_bytes(content)
    replace_weights(saved[1], file)
    with pytest.raises(ClusterToolsError, match="fold0_network0.keras could not be loaded"):
        ensembles.Ensemble.load(saved[1])
