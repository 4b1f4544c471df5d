"""The plain ways: how one would write each stage with scipy and Keras, before thinking of speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import gaussian_kde

from cluster_tools.cosmology import COMA_REDSHIFT, SPEED_OF_LIGHT, comoving_distance
from cluster_tools.mocks import kde, observe
from cluster_tools.networks import cnn, ensembles

HERE = Path(__file__).parent


def images(v_los, r_proj, offsets, input_dim: int) -> np.ndarray:
    """Images of each cluster by scipy, in a loop: float64 array (n, 48) or (n, 48, 48)."""
    v_grid, r_grid = kde.v_los_grid(), kde.r_proj_grid()
    mesh = np.stack(np.meshgrid(v_grid, r_grid, indexing="ij")).reshape(2, -1)
    found = np.empty((len(offsets) - 1,) + (kde.PIXELS,) * input_dim)
    for image, begin, end in zip(found, offsets, offsets[1:]):
        if input_dim == 1:
            density = gaussian_kde(v_los[begin:end], 0.25)(v_grid)
        else:
            density = gaussian_kde(np.stack([v_los[begin:end], r_proj[begin:end]]), 0.25)(mesh)
        image[:] = (density / density.sum()).reshape(image.shape)
    return found


def fit(images, log_m200c, log_m200c_range, *, epochs: int, seed: int):
    """A network that `model.fit` trains on images and mirror images, with the settings of `training.train`."""
    keras = cnn.load_keras()
    keras.utils.set_random_seed(seed)
    model = cnn.build(cnn.Architecture(images.ndim - 1), seed)
    schedule = keras.optimizers.schedules.CosineDecay(1.5e-3, epochs * (2 * len(images) // 100))
    model.compile(keras.optimizers.Adam(schedule), cnn.gaussian_loss, jit_compile=False)
    target = ensembles.scaled(np.tile(log_m200c, 2), log_m200c_range)
    model.fit(np.concatenate([images, images[:, ::-1]]), target, batch_size=100, epochs=epochs, verbose=0)
    return model


def predict(model, images, draws: int) -> np.ndarray:
    """`draws` rows of outputs for each image, all the same: `predict` of the book's models switches dropout off."""
    return model.predict(np.repeat(images, draws, axis=0), verbose=0).reshape(len(images), draws, 2)


def compiled_passes(compiled, images, draws: int) -> np.ndarray:
    """`draws` passes of each image, dropout on, by a compiled Keras model, as many at once as `predict` takes."""
    repeated = np.repeat(images, draws, axis=0)
    passes = [compiled(repeated[i : i + 32]).numpy() for i in range(0, len(repeated), 32)]
    return np.concatenate(passes).reshape(len(images), draws, 2)


def observed(box, clusters: np.ndarray, lines: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """v_los, r_proj and is_member of each cluster along each line of sight.

    For each line of sight: pad the box with its periodic images, rotate all galaxies so that the line of sight is
    the third axis, put their projected positions into a tree, ask it for the galaxies within the aperture of every
    cluster, and cut in velocity cluster by cluster.
    """
    return [view for line in lines for view in observe_along(box, clusters, line)]


def observe_along(box, clusters: np.ndarray, line: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """v_los, r_proj and is_member of each cluster along one line of sight."""
    omega_m, d_cluster = box.simulation.omega_m, comoving_distance(COMA_REDSHIFT, omega_m=box.simulation.omega_m)
    distance, recession = observe.hubble_velocity_table(omega_m)
    reach = min(distance[-1] - d_cluster, box.box_size / 2)
    position, source = padded(box, line, reach)
    across_1 = np.cross(line, np.eye(3)[np.argmin(np.abs(line))])
    across_1 /= np.linalg.norm(across_1)
    turn = np.stack([across_1, np.cross(line, across_1), line])
    position = position @ turn.T
    peculiar = box.velocity.astype(np.float64) @ line
    centre = box.host_position[clusters].astype(np.float64) @ turn.T
    v_cluster = add(np.interp(d_cluster, distance, recession), box.host_velocity[clusters].astype(np.float64) @ line)
    views = []
    for near, middle, v, number in zip(
        KDTree(position[:, :2]).query_ball_point(centre[:, :2], observe.APERTURE), centre, v_cluster, clusters
    ):
        near = np.array(near, np.int64)
        along = position[near, 2] - middle[2]
        near = near[(along >= -min(reach, d_cluster)) & (along <= reach)]
        separation = position[near] - middle
        v_galaxy = add(np.interp(d_cluster + separation[:, 2], distance, recession), peculiar[source[near]])
        v_los = add(v_galaxy, -v)
        inside = np.abs(v_los) < observe.VELOCITY_CUT
        r_proj = np.hypot(separation[inside, 0], separation[inside, 1])
        views.append((v_los[inside], r_proj, box.host[source[near[inside]]] == number))
    return views


def padded(box, line: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the galaxies and of those periodic images that a cylinder can reach, and whose they are."""
    margin = reach * np.abs(line) + observe.APERTURE * np.sqrt(1 - line**2) + 0.01
    position, source = box.position.astype(np.float64), np.arange(len(box.position))
    for axis in range(3):
        low, high = position[:, axis] < margin[axis], position[:, axis] > box.box_size - margin[axis]
        shift = box.box_size * np.eye(3)[axis]
        position = np.concatenate([position, position[low] + shift, position[high] - shift])
        source = np.concatenate([source, source[low], source[high]])
    return position, source


def add(v1, v2):
    """The relativistic sum of velocities."""
    return (v1 + v2) / (1 + v1 * v2 / SPEED_OF_LIGHT**2)
