"""Mass from the galaxies themselves: permutation-invariant networks with a mixture density.

A function of a set can be written as rho(sum of phi(x)) (Zaheer et al. 2017, arXiv:1703.06114). Here each
galaxy's (v_los, r_proj) passes through one small network, and the mean over the galaxies through
another. In between, an equivariant layer combines each galaxy with that mean, so that interlopers can be
told apart cluster by cluster. The output is a mixture of Gaussians in log mass (Bishop 1994).

The mean does not depend on the number of galaxies. A network of kind "counted" is also given that
number, the cluster's richness; one of kind "sets" is not. The galaxies of a batch lie one cluster
after the other, without padding or masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT
from cluster_tools.networks import cnn, ensembles, training
from cluster_tools.networks.ensembles import Network, NetworkEnsemble, Posterior
from cluster_tools.ragged import ClusterGalaxies, per_galaxy

COMPONENTS = 4  # Gaussians in each posterior
WIDTH = 32  # numbers that describe each galaxy inside the network
KINDS = ("sets", "counted")
MIN_SHARE = 0.5  # smallest share of a training cluster's galaxies in a batch
COUNT_NOISE = 0.05  # dex, on the number of galaxies in training
V_SCALE = 1000.0  # km/s: brings velocities to order one, as radii in Mpc/h are
PREDICTION_BATCH = 200  # clusters in one forward pass
GRID = 100  # masses per component at which the mixture's distribution is tabulated


@dataclass(frozen=True)
class SetInputs(ClusterGalaxies):
    """Galaxies of n clusters, as the networks read them."""

    weight: np.ndarray = per_galaxy()  #: of each galaxy in its cluster's mean, float32 (n_galaxies,)
    counted: bool = False  #: whether networks read the number of galaxies

    @property
    def kind(self) -> str:
        """ "sets" or "counted"."""
        return KINDS[self.counted]

    def __getitem__(self, clusters) -> SetInputs:
        """Only these clusters, as for arrays of images."""
        return self.select(clusters)


def inputs(clusters, reference_r_proj=None, *, counted: bool = False) -> SetInputs:
    """Inputs of the networks from `ragged.ClusterGalaxies`; `ClusterToolsError` for a cluster without galaxies.

    `reference_r_proj` are Coma's radii [comoving Mpc/h] for a re-weighted model (`kde.radial_weights`). `counted`
    networks read the number of galaxies, before any re-weighting.
    """
    empty = np.flatnonzero(np.diff(clusters.offsets) < 1)
    if len(empty):
        raise ClusterToolsError(f"cluster {empty[0]} has no galaxies; leave it out.")
    weight = np.ones(len(clusters.v_los), np.float32)
    if reference_r_proj is not None:
        weight = kde.radial_weights(clusters.r_proj, clusters.offsets, reference_r_proj).astype(np.float32)
    return SetInputs(clusters.v_los, clusters.r_proj, np.asarray(clusters.offsets), weight, bool(counted))


@dataclass(frozen=True)
class SetArchitecture:
    """Layers of the network: 16,524 parameters, 128 more if `counted`."""

    counted: bool

    @property
    def input_dim(self) -> str:
        """ "sets" or "counted"."""
        return KINDS[self.counted]

    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of kernels and biases in turn."""
        kernels = [(2, WIDTH), *[(WIDTH, WIDTH)] * 3, (WIDTH + self.counted, 128), (128, 64), (64, 3 * COMPONENTS)]
        return [shape for kernel in kernels for shape in (kernel, kernel[-1:])]


def build(architecture: SetArchitecture, seed: int = 0):
    """The untrained Keras model.

    Inputs are the galaxies of a batch: features (n_galaxies, 2), weights (n_galaxies, 1) that sum to 1 in each
    cluster, the index of the cluster (n_galaxies,), and, if `counted`, log10 of the number of galaxies
    over 100, (n, 1). The output (n, 3 COMPONENTS) holds log weights up to a constant, means and log variances.
    """
    keras = cnn.load_keras()
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
    cluster_mean = keras.ops.take(dense("mean", WIDTH)(mean(x)), cluster, axis=0)
    x = layers.Activation("relu")(dense("galaxy", WIDTH)(x) + cluster_mean)
    x = mean(x)
    model_inputs = [features, weight, cluster]
    if architecture.counted:
        model_inputs.append(keras.Input((1,), name="log_count"))
        x = layers.Concatenate()([x, model_inputs[-1]])
    x = dense("rho_2", 64, "relu")(dense("rho_1", 128, "relu")(x))
    model = keras.Model(model_inputs, dense("mixture", 3 * COMPONENTS)(x), name=f"deep_{architecture.input_dim}")
    # By Keras' default all units of the first layer would bend at v_los = 0, r_proj = 0, and training takes long to
    # move them: they bend at random places of the cylinder.
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, WIDTH)
    kernel = np.stack([np.cos(angle), np.sin(angle)])
    place = np.stack([rng.normal(0, VELOCITY_CUT / V_SCALE / 3, WIDTH), rng.uniform(0, APERTURE, WIDTH)])
    first.set_weights([kernel, -(kernel * place).sum(axis=0)])
    return model


def mixture_loss(scaled_mass, prediction):
    """Minus the mean log likelihood of masses (n,), scaled to [-1, 1], under mixtures (n, 3 COMPONENTS) of `build`."""
    from keras import ops

    log_weight, mu, s = (prediction[:, i * COMPONENTS : (i + 1) * COMPONENTS] for i in range(3))
    log_gauss = -((scaled_mass[:, None] - mu) ** 2 * ops.exp(-s) + s + np.float32(np.log(2 * np.pi))) / 2
    return -ops.mean(ops.logsumexp(ops.log_softmax(log_weight) + log_gauss, axis=1))


def train(
    clusters: SetInputs, log_m200c, validation_clusters: SetInputs, validation_log_m200c, *, log_m200c_range,
    fold=0, epochs=30, batch_size=50, peak_learning_rate=6e-3, seed=0, progress=None,
) -> Network:  # fmt: skip
    """Train one network; parameters are those of `training.train`, with galaxies in place of images.

    Each batch mirrors a cluster in v_los or not, and thins it to a random share of its galaxies, at least
    half. A counted network reads the number of all galaxies, with a noise of 0.05 dex: the lines of sight of a
    rich cluster share that number, and exact numbers would identify training clusters. Raises `ClusterToolsError` for
    fewer clusters than `batch_size`.
    """
    steps = len(clusters) // batch_size
    if steps < 1:
        raise ClusterToolsError(
            f"there are {len(clusters)} clusters to train on, but at least batch_size, {batch_size}, are expected; use "
            "a larger box or smaller batches."
        )
    target = ensembles.scaled(log_m200c, log_m200c_range)[:, 0]
    validation_target = ensembles.scaled(validation_log_m200c, log_m200c_range)[:, 0]
    architecture = SetArchitecture(clusters.counted)
    model, restart, step = _traced(architecture, peak_learning_rate)
    restart(seed, epochs * steps)

    def one_pass(order, rng):
        losses = [step(_batch(clusters, rows, rng), target[rows]) for rows in order]
        return np.mean(losses), mixture_loss(validation_target, _predict(model, validation_clusters))

    history = training.passes(one_pass, (len(clusters), batch_size), epochs, seed, progress)
    return Network(model.get_weights(), architecture, fold, seed, history)


@lru_cache(maxsize=4)
def _traced(architecture: SetArchitecture, peak_learning_rate: float):
    """A model, its `restart`, and a step of its training on one batch."""
    model, optimizer, restart = training.restartable(build, architecture, peak_learning_rate)
    import tensorflow as tf

    batch_spec = [tf.TensorSpec(each.shape, each.dtype) for each in model.inputs]

    @tf.function(input_signature=[batch_spec, tf.TensorSpec((None,), tf.float32)], autograph=False)
    def step(batch, scaled_mass):
        with tf.GradientTape() as tape:
            loss = mixture_loss(scaled_mass, model(batch, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return model, restart, step


def _batch(clusters: SetInputs, rows, rng=None) -> list[np.ndarray]:
    """The model's inputs for these clusters; with `rng`, thinned and mirrored, their number with noise."""
    batch = clusters.select(rows)
    log_count = np.log10(batch.richness / 100)
    v_los = batch.v_los / V_SCALE
    if rng is not None:
        thinned = np.ceil(batch.richness * rng.uniform(MIN_SHARE, 1, len(batch))).astype(int)
        order, kept = np.argsort(batch.cluster_index + rng.random(len(v_los))), np.zeros(len(v_los), bool)
        # The first galaxies of a random order in each cluster.
        kept[order[np.arange(len(order)) < np.repeat(batch.offsets[:-1] + thinned, batch.richness)]] = True
        v_los = v_los * rng.choice([-1.0, 1.0], len(batch))[batch.cluster_index]
        batch, v_los = batch.keep(kept), v_los[kept]
        log_count = log_count + rng.normal(0, COUNT_NOISE, len(batch))
    cluster = batch.cluster_index
    total = np.bincount(cluster, batch.weight, minlength=len(batch))
    total = np.maximum(total, np.finfo(np.float32).tiny)  # a thinned cluster may keep weights of 0 only
    features = np.stack([v_los, batch.r_proj], axis=1).astype(np.float32)
    arrays = [features, (batch.weight / total[cluster])[:, None].astype(np.float32), cluster.astype(np.int32)]
    return [*arrays, log_count[:, None].astype(np.float32)] if clusters.counted else arrays


def _predict(model, clusters: SetInputs) -> np.ndarray:
    """The model's output (n, 3 COMPONENTS) for all galaxies."""
    batches = [slice(begin, begin + PREDICTION_BATCH) for begin in range(0, len(clusters), PREDICTION_BATCH)]
    outputs = [np.asarray(model(_batch(clusters, rows), training=False)) for rows in batches]
    return np.concatenate([np.empty((0, 3 * COMPONENTS), np.float32), *outputs])


class SetEnsemble(NetworkEnsemble):
    """Networks that read galaxies; attributes are those of `ensembles.NetworkEnsemble`.

    The networks have no dropout. Their disagreement is the spread between seeds and folds
    (Lakshminarayanan et al. 2017).
    """

    FORMAT, ARCHITECTURE, BUILD = "cluster_tools set ensemble 2", SetArchitecture, staticmethod(build)

    def posterior(self, clusters: SetInputs, draws: int = 100, seed: int = 0, *, fold: int | None = None) -> Posterior:
        """Moments of the mean of the networks' mixtures, and `draws` samples of each at evenly spread quantiles.

        `clusters` are those of `inputs`; `seed` orders the samples. With `fold`, only the networks that left it out are
        used. Raises `ClusterToolsError` for clusters of another kind, draws not in 1 to 10,000, a `seed` below 0, or a
        `fold` that no network left out.
        """
        ensembles.check_draws(draws, seed)
        networks = self.without_fold(fold)
        kind = getattr(clusters, "kind", type(clusters).__name__)
        if kind != self.input_dim:
            raise ClusterToolsError(
                f"clusters is of kind {kind!r}, but {self.input_dim!r} is expected; use validation.observables."
            )
        model, outputs = build(self.architecture), []
        for network in networks:
            model.set_weights(network.weights)
            outputs.append(_predict(model, clusters).astype(float))
        log_weight, mu, s = np.split(np.array(outputs), 3, axis=-1)  # each (networks, n, COMPONENTS)
        weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True) * len(networks)
        mu, sigma = self.log_masses(mu, s)
        mean = (weight * mu).sum(axis=(0, 2))
        variance = (weight * (sigma**2 + (mu - mean[:, None]) ** 2)).sum(axis=(0, 2))
        levels = (np.arange(draws) + 0.5) / draws
        drawn = [_quantiles(*each, levels) for each in zip(weight * len(networks), mu, sigma, strict=True)]
        samples = np.concatenate(drawn, axis=1).astype(np.float32)
        return Posterior(mean, np.sqrt(variance), np.random.default_rng(seed).permuted(samples, axis=1))


def _quantiles(weight, mu, sigma, levels) -> np.ndarray:
    """Quantiles (n, levels) of mixtures of Gaussians, whose parameters are (n, COMPONENTS)."""
    quantiles = np.empty((len(mu), len(levels)))
    z = np.linspace(-5, 5, GRID)[:, None]
    for i, (w, m, s) in enumerate(zip(weight, mu, sigma, strict=True)):
        mass = np.sort((m + s * z).ravel())  # fine wherever a component is narrow
        quantiles[i] = np.interp(levels, (w * ndtr((mass[:, None] - m) / s)).sum(axis=1), mass)
    return quantiles
