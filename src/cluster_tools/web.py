"""Weighing a cluster in a page of the book: what the page needs, and what it must find.

``book/weigh.md``, with the scripts in ``book/weigh``, reads a table, makes the image and draws the
posterior in the reader's browser, so that no galaxy leaves it. `export` writes what the scripts lack:
the weights of the shipped networks, the package's constants and column names, and Coma's galaxies as
an example. All are JavaScript files, which a page opened from a disk may load, where it may not fetch data.

The network has four kinds of layers, and a forward pass is some thirty lines of JavaScript on typed
arrays; onnxruntime-web would bring 10 MB of WebAssembly, TensorFlow.js 1 MB, to multiply the same 3 MB
of weights for a second. TensorFlow's random numbers cannot be had there, so the dropout of the page is
its own: bits of the Mersenne Twister of Matsumoto & Nishimura (1998), which NumPy has too. `posterior`
draws with these bits through the Keras layers themselves. It is what the page must find, to 1e-4; a test
runs both. It differs from `networks.Ensemble.posterior` as that does from itself with another seed.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster_tools import artefacts, coma, kde, networks, nfw, observe, paths, simulations, tables
from cluster_tools.errors import ClusterToolsError

DRAWS, SEED = 100, 1  # of the page: as the paper and chapter 00
GRID = 481  # masses at which the posterior is drawn, over its mean and 6 sigma to both sides
LEVELS = (0.16, 0.5, 0.84)
MOST_ROWS, MOST_BYTES = 200_000, 30_000_000  # of a reader's table
# Names of columns, beyond those of `tables`, for galaxies whose phase space is known already.
PHASE_SPACE = {
    "v_los": ("v_los", "vlos", "v_rest", "vrest", "dv", "v", "vel", "velocity"),
    "r_proj": ("r_proj", "rproj", "r_mpc_h", "r", "radius"),
}


@dataclass(frozen=True)
class PagePosterior:
    """What the page shows of one cluster, in log10 M200c [Msun/h].

    Attributes
    ----------
    mu, sigma : float64 arrays (networks * draws,), the Gaussian of each draw, in dex
    log_m200c, density : float64 arrays (481,), the mean of these Gaussians, per dex
    quantiles : float64 array (3,), at 16, 50 and 84%
    """

    mu: np.ndarray
    sigma: np.ndarray
    log_m200c: np.ndarray
    density: np.ndarray
    quantiles: np.ndarray


def posterior(ensemble: networks.Ensemble, image, draws: int = DRAWS, seed: int = SEED) -> PagePosterior:
    """The posterior of one image as the page draws it: Keras layers, dropout from `masks`.

    Parameters
    ----------
    ensemble : of 2D networks
    image : float32 array (48, 48), from `kde.phase_space_images`
    draws : forward passes of each network; network i has the dropout of ``seed + i``

    Raises `ClusterToolsError` for draws below 1 or a seed below 0.
    """
    networks.check_draws(draws, seed)
    passes = [_passes(each.model, image, draws, seed + i) for i, each in enumerate(ensemble.networks)]
    mu, log_variance = np.concatenate(passes).T
    low, high = ensemble.log_m200c_range
    to_dex = (high - low) / 2
    mu, sigma = low + (mu + 1) * to_dex, np.exp(log_variance / 2) * to_dex
    return PagePosterior(mu, sigma, *mixture(mu, sigma))


def masks(units, rate, draws: int, seed: int) -> list[np.ndarray]:
    """Dropout of `draws` passes through layers of so many `units`: bool arrays (draws, units), True is kept.

    A unit is kept if the next 32 bits of the Mersenne Twister, begun by the whole number `seed` as its
    authors do (``init_genrand``), are at least ``rate * 2**32``; draws are outermost, then layers.
    """
    words = np.frombuffer(np.random.RandomState(seed).bytes(4 * draws * sum(units)), "<u4").reshape(draws, -1)
    return np.split(words >= rate * 2**32, np.cumsum(units)[:-1], axis=1)


def mixture(mu, sigma) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of Gaussians (n,) [dex]: a mass grid (481,), the density there, and quantiles (3,) at `LEVELS`."""
    spread = np.sqrt(mu.var() + (sigma**2).mean())
    grid = mu.mean() + spread * np.linspace(-6, 6, GRID)
    terms = np.exp(-(((grid[:, None] - mu) / sigma) ** 2) / 2) / (np.sqrt(2 * np.pi) * sigma)
    density = terms.mean(axis=1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return grid, density, np.interp(LEVELS, below / below[-1], grid)


def _passes(model, image, draws: int, seed: int) -> np.ndarray:
    """Outputs (draws, 2) of passes through the layers of a Keras model, with the page's dropout."""
    dropouts = [layer for layer in model.layers if type(layer).__name__ == "Dropout"]
    units = [int(np.prod(layer.output.shape[1:])) for layer in dropouts]
    kept = iter(masks(units, dropouts[0].rate, draws, seed))
    x = np.repeat(np.asarray(image, np.float32)[None], draws, axis=0)
    for layer in model.layers[1:]:
        if layer in dropouts:
            x = x * (next(kept).reshape(x.shape) / (1 - layer.rate)).astype(np.float32)
        else:
            x = layer(x)
    return np.asarray(x, float)


def export(target: Path, ensemble: networks.Ensemble | None = None) -> None:
    """Write what the scripts of the page lack into the directory `target`; the shipped networks by default.

    ``setup.js`` holds constants, names of columns, a description of the networks, and the example;
    ``weights.js`` the weights, float32 and little-endian, in base64.

    Raises
    ------
    ClusterToolsError
        If the networks are missing, damaged, or have layers that the page does not know.
    """
    ensemble = networks.Ensemble.shipped() if ensemble is None else ensemble
    setup = constants() | {"networks": describe(ensemble), "example": example()}
    weights = np.concatenate([w.ravel() for each in ensemble.networks for w in each.model.get_weights()])
    encoded = base64.b64encode(weights.astype("<f4").tobytes()).decode()
    artefacts.write_text(target / "setup.js", f"self.weighSetup = {json.dumps(setup, indent=1)};\n")
    artefacts.write_text(target / "weights.js", f'self.weighWeights = "{encoded}";\n')


def key() -> str:
    """Stands for all that `export` writes by default, without loading a network."""
    networks_key = networks.describe(paths.PACKAGE_DATA / networks.SHIPPED)["networks"]
    galaxies = artefacts.file_digest(paths.PACKAGE_DATA / "desi_coma.csv")
    return artefacts.digest([networks_key, galaxies, artefacts.code_digest(["web"])])


def constants() -> dict:
    """Numbers and names that the page shares with the package."""
    names = {name: tables.NAMES[name] for name in ("ra", "dec", "z", "log_mstar")} | PHASE_SPACE
    return {
        "pixels": kde.PIXELS, "bandwidth": kde.BANDWIDTH, "aperture": observe.APERTURE,
        "velocityCut": observe.VELOCITY_CUT, "fewest": observe.FEWEST_GALAXIES, "minLogMstar": simulations.MIN_LOG_MSTAR,
        "speedOfLight": simulations.SPEED_OF_LIGHT, "omegaM": coma.COSMOLOGY.Om0,
        "criticalDensity": float(nfw.critical_density(0.0)), "trainedAt": observe.REDSHIFT,
        "draws": DRAWS, "seed": SEED, "grid": GRID, "levels": LEVELS, "mostRows": MOST_ROWS, "mostBytes": MOST_BYTES,
        "names": names, "velocities": tables.VELOCITIES,
    }  # fmt: skip


def describe(ensemble: networks.Ensemble) -> dict:
    """The networks, as the page walks through them; `ClusterToolsError` for layers that it does not know."""
    described = [[_layer(layer) for layer in each.model.layers[1:]] for each in ensemble.networks]
    if ensemble.input_dim != 2 or any(layers != described[0] for layers in described):
        raise ClusterToolsError("the page weighs with 2D networks that are all alike; ship those of chapter 03.")
    return {
        "count": len(described),
        "layers": [layer for layer in described[0] if layer],
        "range": list(ensemble.log_m200c_range),
    }


def _layer(layer) -> dict | None:
    """One Keras layer; None for those that change the shape only."""
    kind = type(layer).__name__
    if kind in ("Reshape", "Flatten"):
        return None
    if kind == "Rescaling":
        return {"kind": "scale", "factor": float(layer.scale)}
    if kind == "Dropout":
        return {"kind": "dropout", "rate": layer.rate}
    relu = kind in ("Conv1D", "Dense") and layer.activation.__name__
    if relu in ("relu", "linear") and getattr(layer, "padding", "same") == "same":
        *width, inputs, outputs = layer.kernel.shape  # Dense: a convolution of width 1 over one row
        width = width[0] if width else 1
        return {"kind": "affine", "width": width, "inputs": inputs, "outputs": outputs, "relu": relu == "relu"}
    raise ClusterToolsError(f"the page has no layer {kind} ({layer.name}); teach it to book/weigh/core.js first.")


def example() -> dict:
    """Coma's galaxies as a table that a reader could have pasted, above the stellar-mass cut, and their source."""
    sample = coma.load_sample("desi")
    lines = [f"{row['ra']:.6f},{row['dec']:.6f},{row['z']:.6f},{row['log_mstar']:.3f}" for row in sample]
    return {
        "table": "\n".join(["ra,dec,z,log_mstar", *lines]),
        "ra": coma.CENTRE_RA, "dec": coma.CENTRE_DEC, "z": coma.REDSHIFT,
        "source": coma.DESI_SOURCE,
    }  # fmt: skip
