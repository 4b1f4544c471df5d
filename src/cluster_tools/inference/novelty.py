"""How unusual an image is among those that the networks learnt from.

A network gives a mass and an uncertainty for any image, also for one like nothing it has seen. Two
distances tell: that of the activations of its last hidden layer from those of its training images
(Mahalanobis distance, after Lee et al. 2018, arXiv:1807.03888), and that of the image itself from the
nearest training image. The first sees what the network looks at, and misses what it averages over:
fine noise, for one. The second sees all pixels alike. Neither means anything by itself, so each is set
beside the same distance of held-out images: the share of them that lies farther out is near 0 for an
image that is unusual, and anything from 0 to 1 for one that is not.

The held-out images are those of the flat set in the fold that a network left out: drawn as its
training images were, and so as frequent at Coma's mass as at any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation
from cluster_tools.mocks import kde
from cluster_tools.networks import dropout

SHRINKAGE = 0.01  # of the covariance of activations, towards a multiple of the identity


@dataclass(frozen=True)
class Distances:
    """How far images are from what one network has learnt from.

    Attributes
    ----------
    log_m200c : array (n,), what the network says without dropout [log10 Msun/h]
    hidden : array (n,), Mahalanobis distance in the last hidden layer, in standard deviations
    image : array (n,), Euclidean distance to the nearest training image, both scaled to unit length
    """

    log_m200c: np.ndarray
    hidden: np.ndarray
    image: np.ndarray


def distances(ensemble, catalog, images, *, reference_r_proj=None, max_held_out=None, seed=0, progress=None):
    """Distances of images, and of held-out ones beside them, from the training images of each network.

    Parameters
    ----------
    ensemble : `ensembles.CNNEnsemble`
    catalog : `catalogs.MockCatalog` that it was trained on
    images : float32 array (n, 48) or (n, 48, 48), of the clusters to be judged
    reference_r_proj : Coma's radii [Mpc/h] for a re-weighted model, else None
    max_held_out : at most so many held-out images of each network, drawn at random; None: all
    seed : of the choice
    progress : called with (networks done, networks in all)

    Returns
    -------
    list of pairs of `Distances`, one for each network: of `images`, and of its held-out images

    Raises
    ------
    ClusterToolsError
        For images of another shape than the networks', or a fold without rows in the flat set.
    """
    if np.shape(images)[1:] != (expected := (kde.PIXELS,) * ensemble.input_dim):
        raise ClusterToolsError(f"images has shape {np.shape(images)}, but (n, {str(expected)[1:]} is expected.")
    flat = catalog.select(catalog.in_train)
    known = validation.images(flat, ensemble.input_dim, reference_r_proj)
    rng, found = np.random.default_rng(seed), []
    for network in ensemble.networks:
        left_out = np.flatnonzero(flat.fold == network.fold)
        if not 0 < len(left_out) < len(flat):
            raise ClusterToolsError(
                f"fold {network.fold} has {len(left_out)} of the {len(flat)} rows of the flat set, but some, not all, "
                "are expected; make a catalogue with more rows_per_dex."
            )
        if max_held_out is not None and len(left_out) > max_held_out:
            left_out = rng.choice(left_out, max_held_out, replace=False)
        judged = np.concatenate([images, known[left_out]])
        all_of_them = _distances(network, judged, known[flat.fold != network.fold], ensemble.log_m200c_range)
        found.append((_rows(all_of_them, slice(len(images))), _rows(all_of_them, slice(len(images), None))))
        if progress:
            progress(len(found), len(ensemble.networks))
    return found


def farther(found, measure: str, *, alike: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Share of held-out images that are more unusual than each image, and of how many, all networks together.

    Parameters
    ----------
    found : what `distances` returns
    measure : "hidden" or "image"
    alike : count only held-out images whose mass, as the network has it, differs from the image's by less
        than this [dex]

    Returns
    -------
    share : float64 array (n,), NaN where none was counted
    counted : int array (n,)
    """
    beyond, counted = np.zeros((2, len(found[0][0].log_m200c)), int)
    for own, held_out in found:
        apart = np.abs(held_out.log_m200c - own.log_m200c[:, None])
        among = apart < (np.inf if alike is None else alike)
        farther_out = getattr(held_out, measure) > getattr(own, measure)[:, None]
        beyond, counted = beyond + (among & farther_out).sum(axis=1), counted + among.sum(axis=1)
    return np.where(counted > 0, beyond / np.maximum(counted, 1), np.nan), counted


def mahalanobis(activations, training) -> np.ndarray:
    """Distances (n,) of `activations` (n, k) from the mean of `training` (m, k), by the covariance of `training`."""
    mean, whitening = standardisation(training)
    return np.linalg.norm((activations - mean) @ whitening, axis=1)


def standardisation(training) -> tuple[np.ndarray, np.ndarray]:
    """Mean (k,) of `training` (m, k), and the matrix (k, k) that makes its covariance the identity.

    The covariance is shrunk a little, since units that are silent on all training images would have none.
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


def _distances(network, images, training, log_m200c_range) -> Distances:
    # The network was shown each image and its mirror image in v_los.
    training = np.concatenate([training, training[:, ::-1]])
    activations, outputs = dropout.without_dropout(network.weights, images)
    low, high = log_m200c_range
    known, _ = dropout.without_dropout(network.weights, training)
    hidden = mahalanobis(activations.astype(float), known.astype(float))
    return Distances(low + (outputs[:, 0].astype(float) + 1) * (high - low) / 2, hidden, nearest(images, training))


def unit(images) -> np.ndarray:
    """Images as rows (n, pixels) of unit length."""
    flat = np.reshape(images, (len(images), -1))
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _rows(some: Distances, rows) -> Distances:
    return Distances(some.log_m200c[rows], some.hidden[rows], some.image[rows])
