"""Data of the page that weighs a cluster in the reader's browser.

``book/weigh.md``, with the scripts in ``book/weigh``, reads a table and weighs as `cluster_tools.weigh` does by default
(`weighing.survey_estimate`), so that no galaxy leaves the browser. `export` writes the weights of the networks, the
package's constants, words and names of columns, and Coma's galaxies as an example. All are scripts, which a page opened
from a disk may load; it may not fetch data. A test feeds page and package the same tables.
"""

import base64
import json
from pathlib import Path

import numpy as np

from cluster_tools import cosmology, store, tables
from cluster_tools.coma import survey
from cluster_tools.mocks import observe
from cluster_tools.networks import survey_network
from cluster_tools.weighing import galaxy_table, survey_effects, survey_estimate, survey_model
from cluster_tools.weighing.survey_calibration import GRID
from cluster_tools.weighing.survey_model import SurveyModel
from cluster_tools.weighing.training_views import LOG_M200C

MAX_ROWS, MAX_BYTES = 200_000, 30_000_000  # limits of a reader's table
# Names of columns, beyond those of `tables`, for galaxies whose phase space is known already.
PHASE_SPACE = {
    "v_los": ("v_los", "vlos", "v_rest", "vrest", "dv", "v", "vel", "velocity"),
    "r_proj": ("r_proj", "rproj", "r_mpc_h", "r", "radius"),
}


def export(target: Path) -> None:
    """Write ``setup.js`` and ``weights.js`` for the scripts of the page, which lie in the directory `target`.

    The first holds constants, words, names of columns, thresholds for the networks' answers, and the example; the
    second holds the weights in base64, float32 and little-endian. Raises `ClusterToolsError` if the model of the
    package is damaged.
    """
    model = SurveyModel.load()
    setup = constants() | {"survey": describe(model), "example": example()}
    weights = np.concatenate([w.ravel() for each in model.weights for w in each])
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
        "aperture": observe.APERTURE, "velocityCut": observe.VELOCITY_CUT, "fewest": survey_effects.FEWEST_GALAXIES,
        "minLogMstar": cosmology.MIN_LOG_MSTAR, "trainedAt": cosmology.COMA_REDSHIFT,
        "speedOfLight": cosmology.SPEED_OF_LIGHT, "omegaM": cosmology.OMEGA_M, "h": cosmology.HUBBLE,
        "criticalDensity": float(cosmology.critical_density()),
        "maxRows": MAX_ROWS, "maxBytes": MAX_BYTES,
        "names": {name: tables.NAMES[name] for name in columns} | PHASE_SPACE, "velocities": tables.VELOCITIES,
        "errors": tables.QUALITY["error"], "largestZError": galaxy_table.LARGEST_Z_ERROR, "reasons": reasons,
    }  # fmt: skip


def describe(model: SurveyModel) -> dict:
    """Return the layers of the networks, and what `survey_estimate` and `survey_model` judge their answers by."""
    words, limits = survey_estimate, survey_effects
    return {
        "networks": len(model.weights),
        "layers": [list(shape) for shape in survey_network.shapes(len(limits.CONDITIONS))[::2]],
        "components": survey_network.COMPONENTS, "minSigma": survey_network.MIN_SIGMA,
        "grid": GRID.tolist(), "range": LOG_M200C,
        "abundance": np.round(model.log_abundance.astype(float), 4).tolist(),
        "redshifts": survey_model.REDSHIFTS.tolist(),
        "presence": model.provenance["presence"], "labels": model.provenance["labels"],
        "mostUniform": survey_model.MOST_UNIFORM,
        "mostTold": limits.MOST_TOLD, "unknownError": survey_model.UNKNOWN_ERROR, "largestError": limits.LARGEST_ERROR,
        "smallestField": limits.SMALLEST_FIELD, "holds": words.REDSHIFTS, "near": words.NEAR,
        "samples": words.SAMPLES, "edge": words.EDGE, "cutOff": words.CUT_OFF, "rim": words.RIM, "onRim": words.ON_RIM,
        "expectedOnRim": words.EXPECTED_ON_RIM, "words": words.WORDS,
    }  # fmt: skip


def example() -> dict:
    """Return Coma's galaxies above the stellar-mass cut as a table to paste, with centre, redshift and source."""
    sample = survey.load_sample("desi")
    lines = [f"{row['ra']:.6f},{row['dec']:.6f},{row['z']:.6f},{row['log_mstar']:.3f}" for row in sample]
    return {
        "table": "\n".join(["ra,dec,z,log_mstar", *lines]),
        "ra": survey.CENTRE_RA, "dec": survey.CENTRE_DEC, "z": cosmology.COMA_REDSHIFT,
        "source": survey.DESI_SOURCE,
    }  # fmt: skip
