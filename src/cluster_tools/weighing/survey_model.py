"""The survey estimator: networks that weigh a cluster as surveys see it, from 8 galaxies on (`survey_training`).

The networks learnt from boxes at Coma's redshift. In velocities and radii R E(z) / (1 + z), with R comoving, a cluster
of mass M at redshift z looks as one of mass E(z) M does at z = 0: both have the same G M / R, and the same density in
units of the critical one. The velocity window's depth and the field's radius scale likewise; the density of the field
and concentrations do not. On mock observations at redshifts up to 0.6, intervals hold as many true masses as at Coma's
(`survey_training.measure_redshifts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from cluster_tools import hdf5, paths
from cluster_tools.errors import ClusterToolsError
from cluster_tools.machine import one_thread
from cluster_tools.networks import survey_network
from cluster_tools.weighing import survey_calibration, survey_effects
from cluster_tools.weighing.survey_calibration import GRID
from cluster_tools.weighing.training_views import LOG_M200C

FILE = Path("survey") / "survey.h5"  # in the package's data
FORMAT = "cluster_tools survey estimator 1"
REMEDY = "train it again with `cluster-tools train-survey`, or install the package again"
MOST_UNIFORM = 0.05  # share of uniform fields that get a mass where a centre is found; as many are warned of
UNKNOWN_ERROR = 30.0  # km/s, where no errors of velocities are given
REDSHIFTS = np.linspace(0, 0.6, 7)  # of the halo mass functions


@dataclass(frozen=True)
class Answer:
    """The answer of the networks to n observations."""

    log_likelihood: np.ndarray  #: of masses on `GRID`, up to a constant each, (n, g)
    log_odds: np.ndarray  #: that a cluster is there, (n,)
    labels: np.ndarray  #: probability of each galaxy's label, (n_galaxies, 3), as in `training_views`


@dataclass(frozen=True)
class SurveyModel:
    """Networks that differ in the seed of their training, and their calibration."""

    weights: list[list[np.ndarray]]  #: of each network, as `survey_network.forward` reads them
    log_abundance: np.ndarray  #: ln of the halo mass function on `GRID` at `REDSHIFTS`, (7, g)
    provenance: dict  #: stamp of `store.stamp`, with the results of `survey_training.measure`
    fewest: ClassVar[int] = survey_effects.FEWEST_GALAXIES  #: fewest galaxies that it weighs

    @classmethod
    def load(cls, file: Path | str | None = None) -> SurveyModel:
        """Read the networks of a file, by default those of the package; `ClusterToolsError` if it is damaged."""
        file = paths.PACKAGE_DATA / FILE if file is None else Path(file)
        with hdf5.opened(file, FORMAT, REMEDY) as stored:
            shapes = survey_network.shapes(len(survey_effects.CONDITIONS))
            splits = np.cumsum([np.prod(shape) for shape in shapes])
            flat = stored["weights"][()]
            if flat.ndim != 2 or flat.shape[1] != splits[-1] or not np.isfinite(flat).all():
                raise ClusterToolsError(f"{paths.shown(file)} holds no weights of this kind; {REMEDY}.")
            weights = [
                [part.reshape(shape) for part, shape in zip(np.split(each, splits[:-1]), shapes, strict=True)]
                for each in flat.astype(np.float32)
            ]
            return cls(weights, stored["log_abundance"][()], hdf5.provenance(stored))

    def write(self) -> Path:
        """Make these networks those of the package, atomically; returns their file."""
        file = paths.PACKAGE_DATA / FILE
        flat = np.array([np.concatenate([weight.ravel() for weight in each]) for each in self.weights], np.float32)
        columns = {"weights": flat, "log_abundance": self.log_abundance.astype(np.float32)}
        hdf5.write(file, FORMAT, self.provenance, columns)
        return file

    def usual(self, count, *, found: bool = False) -> tuple[np.ndarray, ...]:
        """Presence of clusters with `count` galaxies, interpolated in its log; centres are given, or `found`.

        Returns the thresholds ``least`` and ``faint`` of `survey_training.presence`, the share of uniform fields above
        ``least``, and ``least`` at the number of galaxies where this share falls to `MOST_UNIFORM`.
        """
        bins = self.provenance["presence"]
        log_n = np.log([each["n"] for each in bins])
        names = [name + "_found" * found for name in ("least", "faint", "uniform")]
        least, _, uniform = columns = [[each[name] for each in bins] for name in names]
        k = next((k for k, share in enumerate(uniform) if share <= MOST_UNIFORM), len(bins) - 1)
        ends = [k, max(k - 1, 0)]
        clear = np.interp(MOST_UNIFORM, np.take(uniform, ends), np.take(least, ends))
        return *(np.interp(np.log(count), log_n, values) for values in columns), clear

    @one_thread
    def answer(self, v_los, r_proj, offsets, conditions) -> Answer:
        """Weigh n observations, brought to Coma's redshift: mean density, log odds and probabilities of the networks.

        `v_los` [km/s] and `r_proj` [comoving Mpc/h] (n_galaxies,) come one cluster after the other; galaxies of
        cluster i are ``offsets[i]:offsets[i + 1]``, and none is empty. `conditions` (n, 6) are from
        `survey_effects.conditions`. Probabilities are recalibrated if the model has been measured
        (`survey_training.measure`).
        """
        low, high = LOG_M200C
        scaled = 2 * (GRID - low) / (high - low) - 1
        galaxies, offsets = survey_network.features(v_los, r_proj), np.asarray(offsets)
        outputs = [survey_network.forward(weights, galaxies, offsets, conditions) for weights in self.weights]
        answers, labels = map(np.array, zip(*outputs))  # one axis more, that of the networks
        log_densities = survey_network.log_likelihood(np.concatenate(answers), scaled)
        log_densities = log_densities.reshape(*answers.shape[:2], -1)
        log_likelihood = np.logaddexp.reduce(log_densities, axis=0) - np.log(len(answers))
        probabilities = np.mean(softmax(labels, axis=2), axis=0)
        if "labels" in self.provenance:
            median = survey_calibration.quantiles(log_likelihood, (0.5,))[:, 0]
            median = np.repeat(median, np.diff(offsets))
            probabilities = survey_calibration.recalibrated(probabilities, median, self.provenance["labels"])
        return Answer(log_likelihood, answers[..., -1].mean(axis=0), probabilities)


def abundance(log_m200c, redshift: float, table) -> np.ndarray:
    """ln of the halo mass function at masses [log10 Msun/h] (g,) and `redshift`, from a `log_abundance` as `table`."""
    k = min(int(np.searchsorted(REDSHIFTS, redshift, side="right")), len(REDSHIFTS) - 1)
    share = (redshift - REDSHIFTS[k - 1]) / (REDSHIFTS[k] - REDSHIFTS[k - 1])
    return np.interp(log_m200c, GRID, (1 - share) * table[k - 1] + share * table[k])
