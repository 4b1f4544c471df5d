"""Data of the page that weighs a cluster in the reader's browser.

``book/weigh.md``, with the scripts in ``book/weigh``, reads a table, makes the image and draws the posterior, so that
no galaxy leaves the browser. `export` writes the weights of the shipped networks, the package's constants and column
names, and Coma's galaxies as an example. All are scripts, which a page opened from a disk may load; it may not fetch
data.

The page repeats `kde` and `dropout` with the same random bits: image, draws and posterior agree to 1e-4, and a test
runs both. onnxruntime-web would bring 14 MB and TensorFlow.js 1.5 MB of code, for a second's work with 3 MB of
weights, and neither would draw as NumPy does.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from cluster_tools import cosmology, store, tables
from cluster_tools.coma import survey
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde, observe
from cluster_tools.networks import dropout, ensembles
from cluster_tools.weighing import one_cluster

DRAWS, SEED = 100, 1  # draws of the paper, seed of `weigh`
GRID = 481  # masses at which the posterior is drawn, up to 6 sigma from its mean
MAX_ROWS, MAX_BYTES = 200_000, 30_000_000  # limits of a reader's table
# Names of columns, beyond those of `tables`, for galaxies whose phase space is known already.
PHASE_SPACE = {
    "v_los": ("v_los", "vlos", "v_rest", "vrest", "dv", "v", "vel", "velocity"),
    "r_proj": ("r_proj", "rproj", "r_mpc_h", "r", "radius"),
}


def export(target: Path, ensemble: ensembles.CNNEnsemble | None = None) -> None:
    """Write ``setup.js`` and ``weights.js`` for the scripts of the page.

    The first holds constants, names of columns, layers of the networks, and the example; the second the weights in
    base64, float32 and little-endian.

    Parameters
    ----------
    target : Path
        Directory of the scripts.
    ensemble : CNNEnsemble, optional
        Networks of 2D images; by default, those of the package.

    Raises
    ------
    ClusterToolsError
        If the networks are missing or damaged, or read 1D images.
    """
    ensemble = ensembles.CNNEnsemble.shipped() if ensemble is None else ensemble
    setup = constants() | {"networks": describe(ensemble), "example": example()}
    weights = np.concatenate([w.ravel() for each in ensemble.networks for w in each.weights])
    encoded = base64.b64encode(weights.astype("<f4").tobytes()).decode()
    store.write_text(target / "setup.js", f"self.weighSetup = {json.dumps(setup, indent=1)};\n")
    store.write_text(target / "weights.js", f'self.weighWeights = "{encoded}";\n')


def constants() -> dict:
    """Return numbers and names that the page shares with the package."""
    columns = ("ra", "dec", "z", "log_mstar", "mag_g", "mag_r", "flux_g", "flux_r")
    reasons = {
        "unreadable": "without usable numbers", "repeated": "at the place of another one",
        "outside": f"beyond {observe.APERTURE} Mpc/h", "fast": f"beyond {observe.VELOCITY_CUT:g} km/s",
        "massless": "without a stellar mass", "light": f"below 10^{cosmology.MIN_LOG_MSTAR} Msun in stars",
    }  # fmt: skip
    return {
        "pixels": kde.PIXELS, "bandwidth": kde.BANDWIDTH,
        "aperture": observe.APERTURE, "velocityCut": observe.VELOCITY_CUT, "fewest": observe.FEWEST_GALAXIES,
        "minLogMstar": cosmology.MIN_LOG_MSTAR, "trainedAt": cosmology.COMA_REDSHIFT,
        "redshifts": one_cluster.REDSHIFTS,
        "speedOfLight": cosmology.SPEED_OF_LIGHT, "omegaM": cosmology.OMEGA_M, "h": cosmology.HUBBLE,
        "criticalDensity": float(cosmology.critical_density()),
        "draws": DRAWS, "grid": GRID, "levels": one_cluster.LEVELS, "maxRows": MAX_ROWS, "maxBytes": MAX_BYTES,
        "names": {name: tables.NAMES[name] for name in columns} | PHASE_SPACE, "velocities": tables.VELOCITIES,
        "reasons": reasons,
    }  # fmt: skip


def describe(ensemble: ensembles.CNNEnsemble) -> dict:
    """Return layers and mass range of the networks, and the first state of the random generator of each."""
    if ensemble.input_dim != 2:
        raise ClusterToolsError("the page weighs with networks of 2D images; ship those of chapter 04.")
    noise = [dropout.generator_state(SEED + i) for i in range(len(ensemble.networks))]
    return {
        "range": list(ensemble.log_m200c_range),
        "factor": kde.PIXELS**2,
        "layers": _layers(ensemble.networks[0].weights),
        "rate": ensemble.architecture.dropout_rate,
        "decisions": dropout.DECISIONS,
        "together": dropout.BATCH,
        "noise": [state.astype("<u8").view("<u4").tolist() for state in noise],
    }


def _layers(weights) -> list[dict]:
    """Return the layers as convolutions along v_los; dense ones have width 1, and all but the last a ReLU."""
    layers = []
    for kernel in weights[::2]:
        *width, inputs, outputs = kernel.shape
        layers.append({"width": width[0] if width else 1, "inputs": inputs, "outputs": outputs, "relu": True})
    layers[-1]["relu"] = False
    return layers


def example() -> dict:
    """Return Coma's galaxies above the stellar-mass cut as a table to paste, with centre, redshift and source."""
    sample = survey.load_sample("desi")
    lines = [f"{row['ra']:.6f},{row['dec']:.6f},{row['z']:.6f},{row['log_mstar']:.3f}" for row in sample]
    return {
        "table": "\n".join(["ra,dec,z,log_mstar", *lines]),
        "ra": survey.CENTRE_RA, "dec": survey.CENTRE_DEC, "z": cosmology.COMA_REDSHIFT,
        "source": survey.DESI_SOURCE,
    }  # fmt: skip
