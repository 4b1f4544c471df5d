"""The novelty of an image: its Euclidean distance from the nearest training image.

It is compared with the distances of images of the flat set that are held out. The share of them that lie farther out is
near 0 for an unusual image, and uniform from 0 to 1 for a usual one. The distance weighs all pixels alike; it does not
say what a network sees.
"""

import numpy as np

from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation

FOLD = 0  # held out


def distances(catalog, images, *, max_held_out: int, seed: int):
    """Distances of images, and of held-out images, from the training images of a catalogue.

    `images` are float32 arrays (n, 48) or (n, 48, 48). Images of the flat set in `FOLD` are held out, and at most
    `max_held_out` of them drawn by `seed`; those of other folds, and their mirror images in v_los, are the training
    images. Returns arrays (n,) and (m,). Raises `ClusterToolsError` if the fold has none or all of the rows.
    """
    flat = catalog.select(catalog.in_train)
    known = validation.observables(flat, images.ndim - 1)
    left_out = np.flatnonzero(flat.fold == FOLD)
    if not 0 < len(left_out) < len(flat):
        found = f"{len(left_out)} of the {len(flat)} rows of the flat set"
        raise ClusterToolsError(f"fold {FOLD} has {found}, but some are expected; raise the catalogue's rows_per_dex.")
    if len(left_out) > max_held_out:
        left_out = np.random.default_rng(seed).choice(left_out, max_held_out, replace=False)
    training = known[flat.fold != FOLD]
    training = np.concatenate([training, training[:, ::-1]])
    return nearest(images, training), nearest(known[left_out], training)


def farther(judged, held_out) -> np.ndarray:
    """Share of the held-out distances (m,) that are larger than each of `judged` (n,)."""
    return np.mean(np.asarray(held_out) > np.asarray(judged)[:, None], axis=1)


def nearest(images, training) -> np.ndarray:
    """Euclidean distances (n,) of images from the nearest of `training` (m, ...), all of unit length: 0 to sqrt(2).

    Without that scaling, an image without features would be near to every other one.
    """
    cosine = unit(images) @ unit(training).T
    return np.sqrt(np.maximum(2 - 2 * cosine.max(axis=1), 0))


def unit(images) -> np.ndarray:
    """Images as rows (n, pixels) of unit length."""
    flat = np.reshape(images, (len(images), -1))
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)
