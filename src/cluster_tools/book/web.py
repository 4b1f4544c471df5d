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

from cluster_tools import cells, cosmology, store, table_files, tables
from cluster_tools.coma import survey
from cluster_tools.mocks import observe
from cluster_tools.networks import survey_network
from cluster_tools.weighing import (
    centres,
    dynamics,
    galaxy_table,
    selection,
    survey_effects,
    survey_estimate,
    survey_model,
)
from cluster_tools.weighing.survey_calibration import GRID
from cluster_tools.weighing.training_views import LOG_M200C

MAX_ROWS, MAX_BYTES = 200_000, 30_000_000  # limits of a reader's table
# Names of columns, beyond those of `tables`, for galaxies whose phase space is known already.
PHASE_SPACE = {
    "v_los": ("v_los", "vlos", "v_rest", "vrest", "dv", "v", "vel", "velocity"),
    "r_proj": ("r_proj", "rproj", "r_mpc_h", "r", "radius"),
}

COLUMNS = "<!-- columns of a table -->"  # in ``book/weigh.md``, where `columns_table` goes
VELOCITIES = "velocities $cz$ in km/s, or in the unit of the column"
# What a column is for, and what it holds, where `tables.EXPECTED` does not say it.
USES = {
    "ra": ("needed", ""), "dec": ("needed", ""), "z": ("needed, or `cz`", ""), "cz": ("needed, or `z`", VELOCITIES),
    "log_mstar": ("cut in stellar mass", ""),
    **dict.fromkeys(("mag_g", "mag_r", "flux_g", "flux_r"), ("stellar mass, if there is no `log_mstar`", "")),
    "velocity": ("only with a unit of velocity, if there is no `z` or `cz`", VELOCITIES),
    "warning": ("best of several rows", "0 for a good redshift"),
    "class": ("best of several rows", "text; `star` is the worst"),
    "quality": ("best of several rows", "numbers, the highest is the best; or letters, A is the best"),
    "error": ("best of several rows; error of velocities", "error of a redshift, or of a velocity in km/s"),
}  # fmt: skip


def export(target: Path) -> None:
    """Write ``setup.js`` and ``weights.js`` for the scripts of the page, which lie in the directory `target`.

    The first holds constants, words, names of columns, thresholds for the networks' answers, and the example; the
    second holds the weights in base64, float32 and little-endian. Raises `ClusterToolsError` if the model of the
    package is damaged.
    """
    model = survey_model.SurveyModel.load()
    setup = constants() | {"survey": describe(model), "example": example()}
    weights = np.concatenate([w.ravel() for each in model.weights for w in each])
    encoded = base64.b64encode(weights.astype("<f4").tobytes()).decode()
    store.write_text(target / "setup.js", f"self.weighSetup = {json.dumps(setup, indent=1)};\n")
    store.write_text(target / "weights.js", f'self.weighWeights = "{encoded}";\n')


def constants() -> dict:
    """Return numbers and names that the page shares with the package."""
    expected = {
        name: {"low": low, "high": high, "words": words, "spellings": spellings}
        for name, (_, spellings, low, high, words) in tables.EXPECTED.items()
    }
    reasons = {
        "unreadable": galaxy_table.POSITION, "repeated": galaxy_table.REPEATED, "outside": selection.BEYOND_APERTURE,
        "fast": selection.BEYOND_WINDOW, "massless": selection.NO_MASS,
        "light": f"below 10^{cosmology.MIN_LOG_MSTAR} Msun in stars",
    }  # fmt: skip
    return {
        "aperture": observe.APERTURE, "velocityCut": observe.VELOCITY_CUT, "fewest": survey_effects.FEWEST_GALAXIES,
        "minLogMstar": cosmology.MIN_LOG_MSTAR, "trainedAt": cosmology.COMA_REDSHIFT,
        "speedOfLight": cosmology.SPEED_OF_LIGHT, "omegaM": cosmology.OMEGA_M, "h": cosmology.HUBBLE,
        "criticalDensity": float(cosmology.critical_density()),
        "maxRows": MAX_ROWS, "maxBytes": MAX_BYTES,
        "fewestCore": observe.FEWEST_GALAXIES, "fewestRival": observe.FEWEST_GALAXIES // 2,
        "nearlyAsRich": centres.NEARLY_AS_RICH, "reasons": reasons,
        "patterns": {
            "missing": cells.MISSING.pattern, "quoted": cells.QUOTED.pattern, "followed": cells.FOLLOWED.pattern,
            "thousands": cells.THOUSANDS.pattern, "comma": cells.COMMA.pattern,
            "unit": cells.UNIT.pattern, "rule": table_files.RULE.pattern,
        },
        "names": tables.NAMES, "phaseSpace": PHASE_SPACE, "quality": tables.QUALITY, "parts": tables.PARTS,
        "velocities": tables.VELOCITIES, "velocityErrors": tables.VELOCITY_ERRORS, "expected": expected,
        "hours": tables.HOURS, "sexagesimal": tables.SEXAGESIMAL, "linear": tables.LINEAR, "velocity": tables.VELOCITY,
        "mostWords": tables.MOST_WORDS, "narrow": galaxy_table.NARROW, "head": table_files.HEAD,
        "largestZError": galaxy_table.LARGEST_Z_ERROR,
        "dynamics": {
            "words": dynamics.WORDS, "grades": dynamics.GRADES, "fewestMembers": dynamics.FEWEST_MEMBERS,
            "neighbours": dynamics.NEIGHBOURS, "shuffles": dynamics.SHUFFLES, "mostShuffled": dynamics.MOST_SHUFFLED,
            "multiplier": dynamics.MULTIPLIER, "modulus": dynamics.MODULUS,
        },
    }  # fmt: skip


def columns_table() -> str:
    """Return the columns that tables are searched for in Markdown: standard name, use, values, and all other names."""
    velocities = [name for name in tables.VELOCITIES if name not in (*tables.NAMES["cz"], "v_los")]
    errors = "a name of a redshift or velocity with `_err`, `_error`, `e_` or `err_`, such as `e_cz`; `z_sigma`"
    lines = ["| column | use | values | found as |", "|---|---|---|---|"]
    for name, others in (tables.NAMES | {"velocity": velocities} | tables.QUALITY).items():
        use, values = USES[name]
        ways = [errors] if name == "error" else [", ".join(f"`{each}`" for each in others)]
        if name in tables.UCDS:
            ways.append(f"UCD `{tables.UCDS[name]}`")
        if name in tables.PARTS:
            ways.append("in parts: " + ", ".join(f"`{part}`" for part in tables.PARTS[name]))
        first = f"`{name}`" if name != "velocity" else "(velocity)"  # not a name for `--column`
        lines.append(f"| {first} | {use} | {values or tables.EXPECTED[name][-1]} | {'; '.join(ways)} |")
    return "\n".join(lines)


def describe(model: survey_model.SurveyModel) -> dict:
    """Return the layers of the networks, and the limits and words of `survey_estimate` and `survey_model`."""
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
        "expectedOnRim": words.EXPECTED_ON_RIM, "words": words.WORDS | {"two clusters": selection.TWO_CLUSTERS},
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
