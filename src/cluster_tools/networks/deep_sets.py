"""Mass from the galaxies themselves: permutation-invariant networks with a mixture density, past the paper.

Zaheer et al. 2017 (arXiv:1703.06114) show that a function of a set can be written as rho(sum of phi(x)):
here each galaxy's (v_los, r_proj) goes through the same small network, the mean over the galaxies
through another. In between, each galaxy is told that mean once and goes through a further layer
(their equivariant layer), so that what counts as an interloper can depend on the cluster. The
output is a mixture of Gaussians in log mass (Bishop 1994), with the negative log likelihood as loss.

A mean does not tell how many galaxies there are. A network of kind "sets" knows no more than that; one of
kind "counted" is also told their number, the cluster's richness. As sets have any length, all galaxies
of a batch lie one after the other, each with the number of its cluster: no padding, no mask, and
nothing but stock Keras in the saved files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT
from cluster_tools.networks import ensembles
from cluster_tools.networks.ensembles import Posterior

FORMAT = "cluster_tools deep sets 1"
COMPONENTS = 4  # Gaussians in each posterior
WIDTH = 32  # of what the network knows of each galaxy
KINDS = ("sets", "counted")
LEARNING_RATE = 6e-3
LEAST_KEPT = 0.5  # share of its galaxies that a training cluster shows at least
COUNT_NOISE = 0.05  # dex, on the number of galaxies in training
V_SCALE = 1000.0  # km/s: brings velocities to order one, as radii in Mpc/h are
PREDICTION_BATCH = 200  # clusters in one forward pass
CELLS = 100  # of the mass grid on which samples are drawn, for each component


@dataclass(frozen=True)
class Galaxies:
    """The galaxies of n clusters, one cluster after the other.

    Attributes
    ----------
    features : float32 array (n_galaxies, 2), v_los [1000 km/s] and r_proj [comoving Mpc/h]
    weight : float32 array (n_galaxies,), how much each counts in its cluster's mean
    offsets : int64 array (n + 1,); galaxies of cluster i are ``offsets[i]:offsets[i + 1]``
    counted : whether networks are told how many galaxies each cluster has
    """

    features: np.ndarray
    weight: np.ndarray
    offsets: np.ndarray
    counted: bool

    @property
    def kind(self) -> str:
        return KINDS[self.counted]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows) -> Galaxies:
        """Only these clusters: a bool array (n,) or their numbers, in that order."""
        rows = np.arange(len(self))[rows]
        chosen, count = _members(self.offsets, rows)
        offsets = np.concatenate([[0], np.cumsum(count)])
        return Galaxies(self.features[chosen], self.weight[chosen], offsets, self.counted)


def galaxies(v_los, r_proj, offsets, reference_r_proj=None, *, counted: bool = False) -> Galaxies:
    """What the networks read.

    Parameters
    ----------
    v_los [km/s], r_proj [comoving Mpc/h] : arrays (n_galaxies,), with `offsets` (n + 1,)
    reference_r_proj : Coma's radii [Mpc/h] for a re-weighted model (`kde.radial_weights`), else None
    counted : whether the number of galaxies, as it is before any re-weighting, is shown, too

    Raises `ClusterToolsError` for lengths that do not match, for NaN and infinite values, and for a
    cluster without galaxies.
    """
    features = np.stack(_columns(v_los, r_proj), axis=1)
    offsets = np.asarray(offsets, np.int64)
    if offsets.ndim != 1 or len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(features):
        raise ClusterToolsError(f"offsets must rise from 0 to the number of galaxies, {len(features)}.")
    if (np.diff(offsets) < 1).any():
        empty = int(np.argmax(np.diff(offsets) < 1))
        raise ClusterToolsError(f"cluster {empty} has no galaxies; leave it out.")
    weight = np.ones(len(features), np.float32)
    if reference_r_proj is not None:
        weight = kde.radial_weights(r_proj, offsets, reference_r_proj).astype(np.float32)
    return Galaxies(features / np.array([V_SCALE, 1], np.float32), weight, offsets, bool(counted))


def _columns(v_los, r_proj) -> list[np.ndarray]:
    columns = []
    for name, values in (("v_los", v_los), ("r_proj", r_proj)):
        try:
            columns.append(np.asarray(values, np.float32))
        except (TypeError, ValueError) as error:
            raise ClusterToolsError(f"{name} must hold numbers ({error}).") from None
        if columns[-1].ndim != 1 or len(columns[-1]) != len(columns[0]):
            raise ClusterToolsError(
                f"{name} has shape {columns[-1].shape}, but one number a galaxy, as in v_los, is expected."
            )
        if not np.isfinite(columns[-1]).all():
            raise ClusterToolsError(f"{name} holds NaN or infinite values; leave those galaxies out.")
    return columns


def build(*, counted: bool = False, seed: int = 0):
    """The untrained Keras model of 16,524 parameters, 128 more if `counted`.

    Inputs are the galaxies of a batch: features (n_galaxies, 2), weights (n_galaxies, 1) that sum to 1
    in each cluster, the number of the cluster, rising from 0, (n_galaxies,), and, if `counted`, the
    log10 of the number of galaxies over 100, (n, 1). The output (n, 3 COMPONENTS) holds log weights up to
    a constant, means and log variances of the mixture.
    """
    keras = ensembles.load_keras()
    layers = keras.layers
    seeds = iter(range(100 * seed, 100 * seed + 100))
    features = keras.Input((2,), name="v_los_r_proj")
    weight = keras.Input((1,), name="weight")
    cluster = keras.Input((), dtype="int32", name="cluster")

    def dense(name, units, activation=None):
        glorot = keras.initializers.GlorotUniform(seed=next(seeds))
        return layers.Dense(units, activation, kernel_initializer=glorot, name=name)

    def mean(x):
        return keras.ops.segment_sum(x * weight, cluster, sorted=True)

    first = layers.Dense(WIDTH, "relu", name="phi_1")
    x = dense("phi_2", WIDTH, "relu")(first(features))
    told = keras.ops.take(dense("mean", WIDTH)(mean(x)), cluster, axis=0)
    x = layers.Activation("relu")(dense("galaxy", WIDTH)(x) + told)
    x = mean(x)
    inputs = [features, weight, cluster]
    if counted:
        inputs.append(keras.Input((1,), name="log_count"))
        x = layers.Concatenate()([x, inputs[-1]])
    x = dense("rho_2", 64, "relu")(dense("rho_1", 128, "relu")(x))
    model = keras.Model(inputs, dense("mixture", 3 * COMPONENTS)(x), name=f"deep_{KINDS[counted]}")
    first.set_weights(_folds_across_phase_space(np.random.default_rng(seed)))
    return model


def _folds_across_phase_space(rng) -> list[np.ndarray]:
    """Kernel and bias of the first layer: its units bend at random places of the cylinder.

    By Keras' default all would bend at v_los = 0, r_proj = 0; with only two inputs, training takes
    long to move them.
    """
    angle = rng.uniform(0, 2 * np.pi, WIDTH)
    kernel = np.stack([np.cos(angle), np.sin(angle)])
    place = np.stack([rng.normal(0, VELOCITY_CUT / V_SCALE / 3, WIDTH), rng.uniform(0, APERTURE, WIDTH)])
    return [kernel.astype(np.float32), -(kernel * place).sum(axis=0).astype(np.float32)]


def device() -> str:
    """Where networks of sets are trained and predict: "processor", or the first GPU that TensorFlow finds, by name."""
    ensembles.load_keras()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "processor"


def mixture_loss(scaled_mass, prediction):
    """Minus the mean log likelihood of the masses (n,) under the mixtures (n, 3 COMPONENTS)."""
    ops = ensembles.load_keras().ops
    log_weight, mu, s = (prediction[:, i * COMPONENTS : (i + 1) * COMPONENTS] for i in range(3))
    log_gauss = -((scaled_mass[:, None] - mu) ** 2 * ops.exp(-s) + s + np.float32(np.log(2 * np.pi))) / 2
    return -ops.mean(ops.logsumexp(ops.log_softmax(log_weight) + log_gauss, axis=1))


def train(
    inputs: Galaxies, log_m200c, validation_inputs: Galaxies, validation_log_m200c, *, log_m200c_range,
    fold=0, epochs=30, batch_size=50, seed=0, progress=None,
) -> ensembles.Network:  # fmt: skip
    """Train one network; the parameters are those of `ensembles.train`, with galaxies for images.

    Each time a cluster is shown, it is mirrored in v_los or not, and thinned to a random share of its
    galaxies, half of them at least, so that it never looks the same again. The number that a counted network
    is told stays that of all, but for a noise of 0.05 dex: all lines of sight of a rich cluster have about
    the same number, and if it were exact, the network would learn clusters by heart. How large the noise
    is was chosen by `val_loss`. Adam, with a rate that falls from 6e-3 to 0 as a cosine.

    Raises `ClusterToolsError` for fewer clusters than `batch_size`.
    """
    keras = ensembles.load_keras()
    import tensorflow as tf

    steps = len(inputs) // batch_size
    if steps < 1:
        raise ClusterToolsError(
            f"there are {len(inputs)} clusters to train on, but at least batch_size, {batch_size}, are expected; "
            "use a larger box or smaller batches."
        )
    rng = np.random.default_rng(seed)
    target = ensembles.scaled(log_m200c, log_m200c_range)[:, 0]
    validation_target = ensembles.scaled(validation_log_m200c, log_m200c_range)[:, 0]
    model = build(counted=inputs.counted, seed=seed)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * steps))
    optimizer.build(model.trainable_variables)
    batch_of = [tf.TensorSpec(each.shape, each.dtype) for each in model.inputs]

    @tf.function(input_signature=[batch_of, tf.TensorSpec((None,), tf.float32)], autograph=False)
    def step(batch, scaled_mass):
        with tf.GradientTape() as tape:
            loss = mixture_loss(scaled_mass, model(batch, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    history = {"loss": [], "val_loss": []}
    for epoch in range(epochs):
        order = rng.permutation(len(inputs))[: steps * batch_size].reshape(steps, batch_size)
        losses = [step(_batch(inputs, rows, rng), target[rows]) for rows in order]
        history["loss"].append(float(np.mean(losses)))
        history["val_loss"].append(float(mixture_loss(validation_target, _predict(model, validation_inputs))))
        if progress:
            progress(epoch + 1, history["loss"][-1])
    return ensembles.Network(model, fold, seed, history)


def _batch(inputs: Galaxies, rows, rng=None):
    """The model's inputs for these clusters; with `rng`, thinned, mirrored and miscounted at random."""
    chosen, count = _members(inputs.offsets, rows)
    cluster = np.repeat(np.arange(len(rows), dtype=np.int32), count)
    log_count, mirror = np.log10(count / 100), np.ones(len(rows), np.float32)
    if rng is not None:
        kept = np.ceil(count * rng.uniform(LEAST_KEPT, 1, len(rows))).astype(int)
        chosen = chosen[np.argsort(cluster + rng.random(len(chosen)))]  # shuffled in each cluster
        first = np.arange(len(chosen)) - np.repeat(np.cumsum(count) - count, count) < np.repeat(kept, count)
        chosen, cluster = chosen[first], cluster[first]
        log_count = log_count + rng.normal(0, COUNT_NOISE, len(rows))
        mirror = rng.choice(np.array([-1, 1], np.float32), len(rows))
    features, weight = inputs.features[chosen], inputs.weight[chosen]
    features[:, 0] *= mirror[cluster]
    total = np.bincount(cluster, weight, minlength=len(rows)).astype(np.float32)
    total = np.maximum(total, np.finfo(np.float32).tiny)  # a thinned cluster may keep weights of 0 only
    batch = [features, (weight / total[cluster])[:, None], cluster]
    return [*batch, log_count[:, None].astype(np.float32)] if inputs.counted else batch


def _members(offsets, rows) -> tuple[np.ndarray, np.ndarray]:
    """The galaxies of these clusters, one cluster after the other, and how many each has."""
    count = np.diff(offsets)[rows]
    return np.arange(count.sum()) + np.repeat(offsets[rows] - np.cumsum(count) + count, count), count


def _predict(model, inputs: Galaxies) -> np.ndarray:
    """The model's output (n, 3 COMPONENTS), all galaxies shown as they are."""
    batches = [np.arange(i, min(i + PREDICTION_BATCH, len(inputs))) for i in range(0, len(inputs), PREDICTION_BATCH)]
    outputs = [np.asarray(model(_batch(inputs, rows), training=False)) for rows in batches]
    return np.concatenate([np.empty((0, 3 * COMPONENTS), np.float32), *outputs])


@dataclass(frozen=True)
class Ensemble:
    """Networks of one kind, one or more for each fold left out; used as `ensembles.Ensemble` is.

    networks, log_m200c_range and provenance : as there. The networks have no dropout; what they disagree
    about is in the spread between those of different seeds and folds (Lakshminarayanan et al. 2017).
    """

    networks: Sequence[ensembles.Network]
    log_m200c_range: tuple[float, float]
    provenance: dict

    @property
    def input_dim(self) -> str:
        """ "sets" or "counted": what to show them, see `validation.observables`."""
        return KINDS[len(self.networks[0].model.inputs) == 4]

    def posterior(self, inputs: Galaxies, draws: int = 100, seed: int = 0, *, fold: int | None = None) -> Posterior:
        """The mean of the networks' mixtures.

        Parameters
        ----------
        inputs : n clusters, from `galaxies`
        draws : samples of each network's mixture, at evenly spread quantiles
        seed : of their order
        fold : use only the networks that have not seen this fold; all by default

        Returns
        -------
        networks.Posterior; mean and sigma are the moments of the mixture of all mixtures.

        Raises
        ------
        ClusterToolsError
            For inputs of another kind, draws below 1, a seed below 0, a fold that no network left out.
        """
        if getattr(inputs, "kind", None) != self.input_dim:
            found = getattr(inputs, "kind", type(inputs).__name__)
            raise ClusterToolsError(
                f"inputs is of kind {found!r}, but {self.input_dim!r} is expected; make it with validation.observables."
            )
        ensembles.check_draws(draws, seed)
        chosen = ensembles.without_fold(self.networks, fold)
        outputs = np.array([_predict(network.model, inputs) for network in chosen], float)
        low, high = self.log_m200c_range
        to_dex = (high - low) / 2
        log_weight, mu, s = np.split(outputs, 3, axis=-1)  # each (networks, n, COMPONENTS)
        weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True) * len(chosen)
        mu, sigma = low + (mu + 1) * to_dex, np.exp(s / 2) * to_dex
        mean = (weight * mu).sum(axis=(0, 2))
        variance = (weight * (sigma**2 + (mu - mean[:, None]) ** 2)).sum(axis=(0, 2))
        levels = (np.arange(draws) + 0.5) / draws
        drawn = [_quantiles(*each, levels) for each in zip(weight * len(chosen), mu, sigma, strict=True)]
        samples = np.concatenate(drawn, axis=1).astype(np.float32)
        return Posterior(mean, np.sqrt(variance), np.random.default_rng(seed).permuted(samples, axis=1))

    def save(self, path: Path | str) -> None:
        """Write a directory: a ``.keras`` file for each network, and last ``ensemble.json``."""
        ensembles.write(path, self, FORMAT)

    @classmethod
    def load(cls, path: Path | str) -> Ensemble:
        """Load what `save` wrote, without running code from it; refusals are those of `ensembles.Ensemble.load`."""
        return cls(*ensembles.read(path, FORMAT, _load))


def _load(file: Path):
    """The Keras model in a file, in safe mode: no code of the file is run."""
    model = ensembles.load_keras().models.load_model(file, compile=False, safe_mode=True)
    if _layers(model) != _layers(build(counted=len(model.inputs) == 4)):
        raise ensembles.foreign(file)
    return model


def _layers(model) -> list:
    """What makes a network one of ours, whatever it has learnt: its layers and the shapes of their weights."""
    return [
        (type(layer).__name__, getattr(layer, "activation", None), [weight.shape for weight in layer.get_weights()])
        for layer in model.layers
    ]


def _quantiles(weight, mu, sigma, levels) -> np.ndarray:
    """Quantiles (n, levels) of mixtures of Gaussians, whose parameters are (n, COMPONENTS)."""
    found = np.empty((len(mu), len(levels)))
    z = np.linspace(-5, 5, CELLS)[:, None]
    for i, (w, m, s) in enumerate(zip(weight, mu, sigma, strict=True)):
        mass = np.sort((m + s * z).ravel())  # fine wherever a component is narrow
        found[i] = np.interp(levels, (w * ndtr((mass[:, None] - m) / s)).sum(axis=1), mass)
    return found
