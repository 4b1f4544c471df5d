"""A network of sets for any survey: mass, membership and presence of a cluster from a few galaxies or many.

As in `deep_sets`, each galaxy passes through one small network, a mean over the galaxies through another, and in
between each galaxy is seen beside that mean (Zaheer et al. 2017, arXiv:1703.06114). Every layer that reads galaxies is
told of the survey, too. The network says of each galaxy whether it is an interloper, falls in, or is a member; a second
mean is that of the members. The two means give the odds that a cluster is there, and a mixture of Gaussians in log10
M200c, cut off at the ends of the training masses (Bishop 1994).

Keras trains; `forward` runs the same definition in NumPy, so that weighing starts without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import log_ndtr, softmax

from cluster_tools.networks import cnn

COMPONENTS = 6  # Gaussians
WIDTH = 64  # numbers that describe each galaxy inside the network
LABELS = 3  # interloper, infalling, member
LABEL_SHARE = 0.3  # of the galaxies' labels in the loss
MIN_SIGMA = 0.02  # of a Gaussian, in half the mass range
BATCH = 256  # observations


def features(v_los, r_proj) -> np.ndarray:
    """Inputs of the network for each galaxy, float32 (n_galaxies, 4), from v_los [km/s], r_proj [comoving Mpc/h]."""
    v, r = np.asarray(v_los) / 1000, np.asarray(r_proj)
    return np.stack([v, r, np.log(0.05 + np.abs(v)), np.log(0.05 + r)], axis=1).astype(np.float32)


def shapes(n_conditions: int) -> list[tuple[int, ...]]:
    """Shapes of kernels and biases in turn, in the order of `build`."""
    kernels = [
        (4 + n_conditions, WIDTH), (WIDTH, WIDTH), (WIDTH + n_conditions, WIDTH), *[(WIDTH, WIDTH)] * 2,
        (WIDTH, LABELS), (2 * WIDTH + n_conditions, 128), (128, 64), (64, 3 * COMPONENTS + 1),
    ]  # fmt: skip
    return [shape for kernel in kernels for shape in (kernel, kernel[-1:])]


def _outputs(ops, relu, softmax, dense, galaxies, known, total, beside):
    """The network in Keras or NumPy, with its `ops` and dense layers by number.

    `total` sums over the galaxies of each cluster, `beside` gives each galaxy the row of its cluster.
    """

    def mean(x, weight):
        return total(x * weight) / (total(weight) + 1e-3)

    one = ops.ones_like(galaxies[:, :1])
    x = ops.concatenate([galaxies, beside(known)], axis=1)
    x = relu(dense(1, relu(dense(0, x))))
    cluster = dense(2, ops.concatenate([mean(x, one), known], axis=1))
    x = relu(dense(4, relu(dense(3, x) + beside(cluster))))
    labels = dense(5, x)
    member = softmax(labels)[:, -1:]
    x = ops.concatenate([mean(x, one), mean(x, member), known], axis=1)
    return dense(8, relu(dense(7, relu(dense(6, x))))), labels


def build(n_conditions: int, seed: int = 0):
    """The untrained Keras model.

    Inputs are the galaxies' `features` (n_galaxies, 4), the index of each one's cluster (n_galaxies,), and what is
    known of the survey (n, n_conditions). Outputs are log weights, means and logs of the widths of the Gaussians in the
    scaled mass, then the log odds of a cluster, (n, 3 COMPONENTS + 1), and logits of labels (n_galaxies, 3).
    """
    keras = cnn.load_keras()
    ops, glorot = keras.ops, keras.initializers.GlorotUniform
    galaxies, cluster, known = keras.Input((4,)), keras.Input((), dtype="int32"), keras.Input((n_conditions,))
    layers = [
        keras.layers.Dense(units, kernel_initializer=glorot(100 * seed + i), name=f"dense_{i}")
        for i, (units,) in enumerate(shapes(n_conditions)[1::2])
    ]
    outputs = _outputs(
        ops, ops.relu, ops.softmax, lambda number, x: layers[number](x), galaxies, known,
        total=lambda x: ops.segment_sum(x, cluster, sorted=True), beside=lambda x: ops.take(x, cluster, axis=0),
    )  # fmt: skip
    return keras.Model([galaxies, cluster, known], list(outputs))


def get_weights(model) -> list[np.ndarray]:
    """Kernels and biases of a model of `build`, in its order; Keras' own order is by depth."""
    return [weight for i in range(len(shapes(0)) // 2) for weight in model.get_layer(f"dense_{i}").get_weights()]


def forward(weights: Sequence[np.ndarray], galaxies, offsets, known) -> tuple[np.ndarray, np.ndarray]:
    """The outputs of `build` in NumPy, from `get_weights`; the clusters' `offsets` (n + 1,) replace the index."""
    return _outputs(
        np, lambda x: np.maximum(x, 0), partial(softmax, axis=1),
        lambda number, x: x @ weights[2 * number] + weights[2 * number + 1], galaxies, known,
        total=lambda x: np.add.reduceat(x, offsets[:-1]), beside=lambda x: np.repeat(x, np.diff(offsets), axis=0),
    )  # fmt: skip


def log_likelihood(answer, scaled_mass) -> np.ndarray:
    """Log density (n, g) of scaled masses (g,), from -1 to 1, in the mixtures of an `answer` (n, 3 COMPONENTS + 1)."""
    log_weight, mu, log_sigma = np.split(np.asarray(answer[:, :-1], float), 3, axis=1)
    log_weight -= np.logaddexp.reduce(log_weight, axis=1, keepdims=True)
    sigma = MIN_SIGMA + np.exp(log_sigma)
    z = (np.asarray(scaled_mass)[:, None] - mu[:, None]) / sigma[:, None]
    log_gauss = -(z**2) / 2 - np.log(sigma[:, None] * np.sqrt(2 * np.pi))
    # The share inside the range: from the nearer tail, where a difference of two shares close to 1 would round.
    low, high = (-1 - mu) / sigma, (1 - mu) / sigma
    low, high = np.where(mu > 0, low, -high), np.where(mu > 0, high, -low)
    log_inside = log_ndtr(high) + np.log1p(-np.exp(np.minimum(log_ndtr(low) - log_ndtr(high), -1e-12)))
    inside = np.logaddexp.reduce(log_weight + log_inside, axis=1)
    return np.logaddexp.reduce(log_weight[:, None] + log_gauss, axis=2) - inside[:, None]


def loss(answer, labels, scaled_mass, weight, exists, label, label_weight):
    """Minus the mean log scores of mass, presence of a cluster and galaxies' labels; see `build` and `train`."""
    from keras import ops

    root_2 = float(np.sqrt(2))
    log_weight, mu, log_sigma = (answer[:, i * COMPONENTS : (i + 1) * COMPONENTS] for i in range(3))
    log_weight, sigma = ops.log_softmax(log_weight), MIN_SIGMA + ops.exp(log_sigma)
    log_gauss = -(((scaled_mass[:, None] - mu) / sigma) ** 2) / 2 - ops.log(sigma) - float(np.log(2 * np.pi)) / 2
    inside = (ops.erf((1 - mu) / sigma / root_2) + ops.erf((1 + mu) / sigma / root_2)) / 2
    log_inside = ops.log(ops.sum(ops.exp(log_weight) * inside, axis=1) + 1e-6)
    mass = -ops.sum(weight * (ops.logsumexp(log_weight + log_gauss, axis=1) - log_inside)) / ops.sum(weight)
    odds = answer[:, -1]
    presence = ops.mean(ops.softplus(odds) - exists * odds)
    galaxies = -ops.take_along_axis(ops.log_softmax(labels), label[:, None], axis=1)[:, 0]
    return mass + presence + LABEL_SHARE * ops.sum(label_weight * galaxies) / ops.sum(label_weight)


def train(
    draw: Callable, *, steps: int, n_conditions: int, peak_learning_rate: float = 4e-3, seed: int = 0, progress=None
) -> tuple[list[np.ndarray], list[float]]:
    """Train one network with Adam; the learning rate falls as a cosine from its peak. Keras runs on any backend.

    Each of `steps` batches comes from `draw`, called with its number: the inputs of `build`, then scaled_mass (n,) with
    its weight (n,), exists (n,), 1 for a cluster, and label (n_galaxies,), 0 to 2, with label_weight (n_galaxies,).
    `n_conditions` numbers are known of each survey; `seed` is that of the first weights. `progress` is called every
    hundred steps with the steps done and the mean loss since its last call. Returns the weights for `forward`, and
    these losses.
    """
    keras = cnn.load_keras()

    class Trained(keras.Model):  # type: ignore[name-defined]
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return loss(*y_pred, *map(keras.ops.convert_to_tensor, y))

    untrained = build(n_conditions, seed)
    model = Trained(untrained.inputs, untrained.outputs)
    schedule = keras.optimizers.schedules.CosineDecay(peak_learning_rate, steps)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), jit_compile=False)
    history, recent = [], []
    for number in range(1, steps + 1):
        batch = draw(number)
        recent.append(float(model.train_on_batch(list(batch[:3]), list(batch[3:]))))
        if number % 100 == 0 or number == steps:
            history.append(float(np.mean(recent)))
            recent.clear()
            if progress:
                progress(number, history[-1])
    return get_weights(model), history
