"""The mass of one cluster as a result, as a record of plain values, and records as text and as a table with units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from cluster_tools import cosmology
from cluster_tools.coma import nfw
from cluster_tools.weighing.selection import Observation

LEVELS = (0.16, 0.5, 0.84)
WIDE_LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class ClassicalEstimate:
    """A mass [log10 Msun/h] as published and as calibrated on the training set, its scatter [dex], or why it fails."""

    name: str
    published: float = np.nan
    calibrated: float = np.nan
    scatter: float = np.nan
    failure: str | None = None


@dataclass(frozen=True)
class ClusterMass:
    """The mass of one cluster; log masses are log10 M200c [Msun/h], NaN where the cluster has none.

    The posterior is that under a flat prior in log10 M200c over the masses of the training set.
    """

    observation: Observation  #: the galaxies weighed
    model: str  #: "survey", or "paper" for the networks of Ho et al. 2022
    mean: float = np.nan  #: of the posterior
    sigma: float = np.nan  #: standard deviation of the posterior [dex]
    samples: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))  #: of the posterior, float32 (k,)
    quantiles: tuple[float, ...] = (np.nan,) * 3  #: of the posterior, at 16%, 50% and 84%
    quantiles_95: tuple[float, ...] = (np.nan,) * 2  #: of the posterior, at 2.5% and 97.5%
    #: `quantiles` under the halo mass function as prior, for a cluster selected regardless of its mass
    abundance: tuple[float, ...] = (np.nan,) * 3
    warnings: tuple[str, ...] = ()  #: one sentence each, the gravest first
    estimates: tuple[ClassicalEstimate, ...] = ()  #: masses by classical methods, if asked for
    refusal: str | None = None  #: why no mass should be used
    farther_hidden: float = np.nan  #: share of held-out clusters farther from the training set, last hidden layer
    farther_image: float = np.nan  #: share of held-out images farther from the training images
    grid: np.ndarray = field(default_factory=lambda: np.empty(0))  #: masses (g,) of the likelihood
    log_likelihood: np.ndarray = field(default_factory=lambda: np.empty(0))  #: ln of it (g,), 0 at its maximum
    log_odds: float = np.nan  #: natural log of the odds that a cluster is there
    #: probability of each galaxy to be an interloper, to fall in, to be a member, (n, 3); NaN if not weighed
    labels: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    #: dynamical state by `dynamics.state`, with ``p_gaussian``, ``p_substructure``, and ``dynamics``, a sentence
    state: dict = field(default_factory=dict)
    assumed: dict = field(default_factory=dict)  #: the ``velocity_error`` used, and its origin

    @property
    def members(self) -> Table:
        """The galaxies weighed, with ``row`` in the table and the probabilities of `labels`; columns are `MEMBERS`."""
        return members([record(self, samples=False, galaxies=True)], {})

    @property
    def r200c(self) -> tuple[float, float, float]:
        """R200c [comoving Mpc/h] at `quantiles`."""
        return tuple(cosmology.r200c(self.quantiles, self.observation.redshift).tolist())

    def within(self, delta: str) -> tuple[float, float, float]:
        """log10 of M500c or M200m [Msun/h], for `delta` "500c" or "200m", at `quantiles`, with an NFW profile."""
        if not np.isfinite(self.quantiles).all():
            return (np.nan,) * 3
        log_m200c, z = np.array(self.quantiles), self.observation.redshift
        mean_density = cosmology.OMEGA_M * (1 + z) ** 3 / float(cosmology.efunc(z)) ** 2  # over the critical one
        density = {"500c": 500.0, "200m": 200 * mean_density}[delta]
        ratio = nfw.m200c(1.0, delta=density, c200c=concentration(log_m200c))
        return tuple((log_m200c - np.log10(ratio)).tolist())


def concentration(log_m200c) -> np.ndarray:
    """Median c200c near z = 0 by log10 M200c [Msun/h] (Diemer & Joyce 2019, ApJ 871, 168); haloes scatter by 0.16 dex.

    A concentration higher by 30% raises M500c by 5% and lowers M200m by 4%.
    """
    return np.interp(log_m200c, (13.0, 13.5, 14.0, 14.5, 15.0), (5.9, 5.1, 4.4, 3.9, 3.7))


LOG_MASS = "dex(solMass / littleh)"
LENGTH = "Mpc / littleh"  # comoving


def _interval(name: str, unit: str, description: str) -> dict[str, tuple[str, str]]:
    quantiles = {f"{name}_{level}": (unit, f"its {level}% quantile") for level in (16, 84)}
    return {name: (unit, description)} | quantiles


# Unit and description of each entry of a record that is a column of the table.
COLUMNS = {
    "cluster": ("", "name of the cluster"),
    "model": ("", "networks: survey, or paper for those of Ho et al. 2022"),
    "refusal": ("", "why no mass should be used; empty for a mass"),
    "warnings": ("", "the gravest first"),
    **_interval("log_m200c", LOG_MASS, "median of the posterior of log10 M200c, flat prior"),
    "log_m200c_025": (LOG_MASS, "its 2.5% quantile"),
    "log_m200c_975": (LOG_MASS, "its 97.5% quantile"),
    "log_m200c_mean": (LOG_MASS, "its mean"),
    "log_m200c_sigma": ("dex", "its standard deviation"),
    **_interval("log_m200c_abundance", LOG_MASS, "median with the halo mass function as prior"),
    **_interval("log_m500c", LOG_MASS, "M500c of the median, NFW profile of a mean concentration"),
    **_interval("log_m200m", LOG_MASS, "M200m of the median, NFW profile of a mean concentration"),
    "log_m200c_h70": ("dex(solMass)", "M200c of the median without h, for h = 0.7"),
    **_interval("r200c", LENGTH, "comoving R200c of the median"),
    "centre_ra": ("deg", "centre, J2000"),
    "centre_dec": ("deg", "centre, J2000"),
    "centre_is": ("", "where the centre is from"),
    "redshift": ("", "redshift of the cluster"),
    "redshift_is": ("", "where the redshift is from"),
    "n_table": ("", "rows of the table"),
    "n_used": ("", "galaxies weighed"),
    "dispersion": ("km / s", "standard deviation of v_los of the galaxies weighed"),
    "field": (LENGTH, "comoving radius within which the table has galaxies"),
    "velocity_error": ("km / s", "typical error of a velocity"),
    "velocity_error_is": ("", "where it is from"),
    "n_members": ("", "expected number of members among the galaxies weighed"),
    "log_odds": ("", "natural log of the odds that a cluster is there"),
    "p_gaussian": ("", "probability of velocities as far from a Gaussian, Anderson-Darling test of the members"),
    "p_substructure": ("", "probability of as much substructure by chance, Dressler-Shectman test of the members"),
    "dynamics": ("", "dynamical state in words"),
    "min_log_mstar": ("dex(solMass)", "lowest log10 stellar mass of the galaxies weighed"),
    "farther_hidden": ("", "share of held-out clusters farther from the training set, last hidden layer"),
    "farther_image": ("", "share of held-out clusters farther from the training set, image"),
}
# The same of the table of galaxies.
MEMBERS = {
    "cluster": ("", "name of the cluster"),
    "row": ("", "row of the table, from 1"),
    "ra": ("deg", "right ascension, J2000"),
    "dec": ("deg", "declination, J2000"),
    "z": ("", "redshift"),
    "v_los": ("km / s", "velocity in the line of sight, in the cluster's frame"),
    "r_proj": (LENGTH, "projected distance from the centre, comoving"),
    "p_member": ("", "probability to be a member"),
    "p_infalling": ("", "probability to fall in: outside the halo, within 4 R200c"),
    "p_interloper": ("", "probability to be an interloper"),
}


def record(mass: ClusterMass, *, samples: bool = True, galaxies: bool = False) -> dict:
    """A mass as JSON-like values, NaN as None: `COLUMNS`, ``rejected``, ``estimates``.

    If wanted, ``samples`` of the posterior and the ``likelihood`` follow, and ``galaxies``, lists of the columns of
    `MEMBERS` but the first. Numbers have eight significant digits.
    """
    observation = mass.observation
    values: dict = dict.fromkeys(COLUMNS) | {"velocity_error_is": "", "dynamics": ""} | mass.assumed | mass.state
    values |= {
        "cluster": observation.name, "model": mass.model, "refusal": mass.refusal or "",
        "warnings": list(mass.warnings), "n_used": len(observation.v_los),
        "log_m200c_mean": mass.mean, "log_m200c_sigma": mass.sigma, "log_odds": mass.log_odds,
        "log_m200c_h70": mass.quantiles[1] - math.log10(cosmology.HUBBLE),
        "farther_hidden": mass.farther_hidden, "farther_image": mass.farther_image,
    }  # fmt: skip
    values |= zip(("log_m200c_025", "log_m200c_975"), mass.quantiles_95, strict=True)
    for name, quantiles in {
        "log_m200c": mass.quantiles, "log_m200c_abundance": mass.abundance, "log_m500c": mass.within("500c"),
        "log_m200m": mass.within("200m"), "r200c": mass.r200c,
    }.items():  # fmt: skip
        values |= zip((f"{name}_16", name, f"{name}_84"), quantiles, strict=True)
    for name in "centre_ra centre_dec centre_is redshift redshift_is n_table dispersion min_log_mstar field".split():
        values[name] = getattr(observation, name)
    if len(mass.labels) and not mass.refusal:
        values["n_members"] = float(np.nansum(mass.labels[:, 2]))
    values["rejected"] = {reason: count for reason, count in observation.rejected.items() if count}
    values["estimates"] = {
        each.name: {name: value for name, value in vars(each).items() if name != "name"} for each in mass.estimates
    }
    if samples:
        curves = {"log_m200c": mass.grid.round(4), "ln_likelihood": mass.log_likelihood.round(3)}
        values["samples"] = mass.samples.astype(float).round(4).tolist()
        values["likelihood"] = {name: curve.tolist() for name, curve in curves.items()}
    if galaxies:
        values["galaxies"] = _galaxies(mass)
    return _rounded(values)


def _galaxies(mass: ClusterMass) -> dict[str, list]:
    """Columns of `MEMBERS` but the cluster's name; probabilities are None where there are none."""
    observation = mass.observation
    labels = (mass.labels if len(mass.labels) else np.full((len(observation.v_los), 3), np.nan)).round(4)
    columns = observation.galaxies | {"v_los": observation.v_los.round(2), "r_proj": observation.r_proj.round(5)}
    columns |= zip(("p_interloper", "p_infalling", "p_member"), labels.T, strict=True)
    return {name: [None if x != x else x for x in columns[name].tolist()] for name in MEMBERS if name in columns}


def members(records: list[dict], meta: dict) -> Table:
    """The galaxies of records with ``galaxies`` as a table with the units of `MEMBERS`, and `meta`."""
    rows = [each["galaxies"] | {"cluster": [each["cluster"]] * len(each["galaxies"]["v_los"])} for each in records]
    names = [name for name in MEMBERS if name in rows[0]]
    return _table({name: ([x for row in rows for x in row[name]], *MEMBERS[name]) for name in names}, meta)


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if not isinstance(value, float):
        return value
    return float(f"{value:.8g}") if math.isfinite(value) else None


def text(record: dict) -> str:
    """A record as lines to read; a refusal, or warnings that may change the mass, come first."""
    rejected = "; ".join(f"{count} {reason}" for reason, count in record["rejected"].items())
    cut = record["min_log_mstar"]
    far = record["model"] == "survey" and record["redshift"] > 0.1 and not record["refusal"]
    lines = {
        "centre": f"{record['centre_ra']:.4f} {record['centre_dec']:+.4f} deg, {record['centre_is']}",
        "redshift": f"{record['redshift']:.5f}, {record['redshift_is']}"
                    + "; calibrated on mock observations up to z = 0.6" * far,
        "galaxies": f"{record['n_used']} of {record['n_table']} used{f' ({rejected})' if rejected else ''}; "
                    + ("no cut in stellar mass" if cut is None else f"stellar masses from 10^{cut:g} Msun"),
        "field": f"{record['field']:.2f} comoving Mpc/h",
        "dispersion": f"{record['dispersion']:.0f} km/s, interlopers included",
    }  # fmt: skip
    if record["velocity_error"] is not None:
        lines["velocity errors"] = f"{record['velocity_error']:.0f} km/s, {record['velocity_error_is']}"
    if not record["refusal"]:
        lines |= {
            "log10 M200c": f"{_range(record, 'log_m200c')} [Msun/h] (median, 16 to 84%; 2.5 to 97.5%: "
                           f"{record['log_m200c_025']:.2f} to {record['log_m200c_975']:.2f}); "
                           f"mean {record['log_m200c_mean']:.2f}, sigma {record['log_m200c_sigma']:.2f}",
            "": f"{_range(record, 'log_m200c_abundance')} with the halo mass function as prior",
            "M200c without h": f"{10 ** (record['log_m200c_h70'] - 14):.2f} 10^14 Msun (h = 0.7)",
            "log10 M500c, M200m": f"{_range(record, 'log_m500c')}, {_range(record, 'log_m200m')} [Msun/h]",
            "R200c": f"{_range(record, 'r200c')} comoving Mpc/h",
        }  # fmt: skip
    if record["n_members"] is not None:
        lines["members"] = f"{record['n_members']:.0f} expected of the {record['n_used']} galaxies"
    if record["dynamics"]:
        lines["dynamical state"] = record["dynamics"]
    lines |= {name: _estimate(values) for name, values in record["estimates"].items()}
    hidden, image = record["farther_hidden"], record["farther_image"]
    if None not in (hidden, image):
        shares = f"{hidden:.0%} (networks) and {image:.0%} (image)"
        lines["how usual"] = f"of the clusters kept from training, {shares} are more unusual"
    first = [f"  no mass: {record['refusal']}"] if record["refusal"] else []
    first += [f"  warning: {words}" for words in record["warnings"]]
    return "\n".join([record["cluster"], *first, *(f"  {name:<21} {words}" for name, words in lines.items())])


def _range(record: dict, name: str) -> str:
    low, middle, high = record[f"{name}_16"], record[name], record[f"{name}_84"]
    return f"{middle:.2f} +{high - middle:.2f} -{middle - low:.2f}"


def _estimate(values: dict) -> str:
    published = values["failure"] or f"{values['published']:.2f} as published"
    if values["calibrated"] is None:  # so it is after a failure
        return published
    return f"{values['calibrated']:.2f} ± {values['scatter']:.2f} ({published})"


def table(records: list[dict], meta: dict) -> Table:
    """Records as a table with units, one cluster a row, and `meta`; samples, if there are any, are the last column."""
    columns = {
        name: ([record[name] for record in records], unit, description) for name, (unit, description) in COLUMNS.items()
    }
    columns["warnings"] = (["; ".join(record["warnings"]) for record in records], *COLUMNS["warnings"])
    for name in records[0]["estimates"]:
        for kind in ("published", "calibrated", "scatter"):
            column = f"{name.replace('M-σ, ', 'm_sigma_').replace(' ', '_')}_{kind}"
            values = [record["estimates"][name][kind] for record in records]
            columns[column] = (values, "dex" if kind == "scatter" else LOG_MASS, f"{name}, {kind}")
    if "samples" in records[0]:
        n_samples = max(len(record["samples"]) for record in records)
        samples = [record["samples"] or [np.nan] * n_samples for record in records]
        columns["samples"] = (samples, LOG_MASS, "draws from the posterior, flat prior")
    return _table(columns, meta)


def _table(columns: dict, meta: dict) -> Table:
    """Columns as (values, unit, description) by name; None is NaN."""
    from astropy.cosmology import units as cosmology_units  # starts slowly, and few need a table

    result = Table(meta=meta)
    with u.add_enabled_units(cosmology_units):
        for name, (values, unit, description) in columns.items():
            values = [np.nan if value is None else value for value in values]
            result[name] = Column(values, unit=unit or None, description=description)
    return result
