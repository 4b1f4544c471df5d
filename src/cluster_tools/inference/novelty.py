"""Novelty of an image: its distance from the training images, beside that of held-out images.

Two distances are used: the Mahalanobis distance of the activations in the last hidden layer (after Lee et al. 2018,
arXiv:1807.03888), and the Euclidean distance of the image from the nearest training image. The first misses
what the network averages over, such as fine noise; the second weighs all pixels alike. The share of held-out images
that lie farther out is near 0 for an unusual image, and uniform from 0 to 1 for a usual one.

Held-out images are those of the flat set in the fold that a network left out, drawn as its training images were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation
from cluster_tools.networks import dropout

SHRINKAGE = 0.01  # of the covariance of activations, towards a multiple of the identity


@dataclass(frozen=True)
class Distances:
    """Distances of n images from the training images of one network."""

    log_m200c: np.ndarray  #: mass by the network without dropout [log10 Msun/h], array (n,)
    hidden: np.ndarray  #: Mahalanobis distance in the last hidden layer, array (n,)
    image: np.ndarray  #: Euclidean distance to the nearest training image at unit length, array (n,)


def distances(ensemble, catalog, images, *, max_held_out: int | None = None, seed: int = 0):
    """Distances of images, and of held-out images, from the training images of each network.

    The networks are those of an `ensembles.CNNEnsemble` trained on `catalog`; `images` are float32 arrays (n, 48) or
    (n, 48, 48). At most `max_held_out` images of a network's held-out ones are used, drawn at random by `seed`.
    Returns a pair of `Distances` for each network. Raises `ClusterToolsError` if a fold has none or all of the rows.
    """
    flat = catalog.select(catalog.in_train)
    known = validation.observables(flat, ensemble.input_dim)
    rng, n, pairs = np.random.default_rng(seed), len(images), []
    for network in ensemble.networks:
        left_out = np.flatnonzero(flat.fold == network.fold)
        if not 0 < len(left_out) < len(flat):
            raise ClusterToolsError(
                f"fold {network.fold} has {len(left_out)} of the {len(flat)} rows of the flat set, but some, not all, "
                "are expected; make a catalogue with more rows_per_dex."
            )
        if max_held_out is not None and len(left_out) > max_held_out:
            left_out = rng.choice(left_out, max_held_out, replace=False)
        training = known[flat.fold != network.fold]
        training = np.concatenate([training, training[:, ::-1]])  # mirror images in v_los, as in training
        judged = np.concatenate([images, known[left_out]])
        activations, outputs = dropout.without_dropout(network.weights, judged)
        low, high = ensemble.log_m200c_range
        log_m200c = low + (outputs[:, 0].astype(float) + 1) * (high - low) / 2
        known_activations, _ = dropout.without_dropout(network.weights, training)
        hidden = mahalanobis(activations.astype(float), known_activations.astype(float))
        columns = (log_m200c, hidden, nearest(judged, training))
        pairs.append(tuple(Distances(*(column[rows] for column in columns)) for rows in (slice(n), slice(n, None))))
    return pairs


def farther(pairs, measure: str, *, alike: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Share of the held-out images of all networks that are more unusual than each image, and their number.

    `pairs` are those of `distances`, `measure` is "hidden" or "image". Only held-out images count whose
    predicted mass differs by less than `alike` [dex]; the share is NaN where there are none.
    """
    beyond, number = np.zeros((2, len(pairs[0][0].log_m200c)), int)
    for judged, held_out in pairs:
        counts = np.abs(held_out.log_m200c - judged.log_m200c[:, None]) < alike
        beyond += (counts & (getattr(held_out, measure) > getattr(judged, measure)[:, None])).sum(axis=1)
        number += counts.sum(axis=1)
    return np.where(number > 0, beyond / np.maximum(number, 1), np.nan), number


def mahalanobis(activations, training) -> np.ndarray:
    """Distances (n,) of `activations` (n, k) from the mean of `training` (m, k), by the covariance of `training`."""
    mean, whitening = standardisation(training)
    return np.linalg.norm((activations - mean) @ whitening, axis=1)


def standardisation(training) -> tuple[np.ndarray, np.ndarray]:
    """Mean (k,) of `training` (m, k), and its whitening matrix (k, k), which makes the covariance the identity.

    The covariance is shrunk a little, because units that are silent on all training images have no variance.
    """
    covariance = np.cov(training, rowvar=False)
    size = np.trace(covariance) / len(covariance)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * size * np.eye(len(covariance))
    return training.mean(axis=0), np.linalg.inv(np.linalg.cholesky(shrunk)).T


def nearest(images, training) -> np.ndarray:
    """Euclidean distances (n,) of images from the nearest of `training`, all scaled to unit length: 0 to sqrt(2).

    Without that scaling, an image without features would be near to every other one.
    """
    cosine = unit(images) @ unit(training).T
    return np.sqrt(np.maximum(2 - 2 * cosine.max(axis=1), 0))


def unit(images) -> np.ndarray:
    """Images as rows (n, pixels) of unit length."""
    flat = np.reshape(images, (len(images), -1))
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)
