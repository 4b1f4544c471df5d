"""Masses as records of plain values, and records as text, as JSON and as a table with units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table

    from cluster_tools.weighing.one_cluster import ClusterMass

LOG_MASS = "dex(solMass / littleh)"
LENGTH = "Mpc / littleh"  # comoving
# Unit and description of each entry of a record that is a column of the table.
COLUMNS = {
    "cluster": ("", "name of the cluster"),
    "log_m200c": (LOG_MASS, "median of the posterior of log10 M200c, flat prior"),
    "log_m200c_16": (LOG_MASS, "its 16% quantile"),
    "log_m200c_84": (LOG_MASS, "its 84% quantile"),
    "log_m200c_mean": (LOG_MASS, "its mean"),
    "log_m200c_sigma": ("dex", "its standard deviation"),
    "log_m200c_abundance": (LOG_MASS, "median with the halo mass function as prior"),
    "log_m200c_abundance_16": (LOG_MASS, "its 16% quantile"),
    "log_m200c_abundance_84": (LOG_MASS, "its 84% quantile"),
    "r200c": (LENGTH, "comoving R200c of the median"),
    "r200c_16": (LENGTH, "comoving R200c of the 16% quantile"),
    "r200c_84": (LENGTH, "comoving R200c of the 84% quantile"),
    "centre_ra": ("deg", "centre, J2000"),
    "centre_dec": ("deg", "centre, J2000"),
    "centre_is": ("", "where the centre is from"),
    "redshift": ("", "redshift of the cluster"),
    "redshift_is": ("", "where the redshift is from"),
    "n_table": ("", "rows of the table"),
    "n_used": ("", "galaxies weighed"),
    "dispersion": ("km / s", "standard deviation of v_los of the galaxies weighed"),
    "min_log_mstar": ("dex(solMass)", "lowest log10 stellar mass of the galaxies weighed"),
    "farther_hidden": ("", "share of held-out clusters farther from the training set, last hidden layer"),
    "farther_image": ("", "share of held-out clusters farther from the training set, image"),
    "warnings": ("", "differences from the clusters of the training set"),
}


def record(mass: ClusterMass, *, samples: bool = True) -> dict:
    """A mass as JSON-like values, NaN as None: `COLUMNS`, ``rejected``, ``estimates`` and, if wanted, ``samples``.

    Numbers have eight significant digits.
    """
    observation = mass.observation

    def quantiles(name: str, values) -> dict:
        return dict(zip((f"{name}_16", name, f"{name}_84"), values, strict=True))

    places = ("centre_ra", "centre_dec", "centre_is", "redshift", "redshift_is", "dispersion", "min_log_mstar")
    return _rounded({
        "cluster": observation.name,
        **quantiles("log_m200c", mass.quantiles),
        "log_m200c_mean": mass.mean,
        "log_m200c_sigma": mass.sigma,
        **quantiles("log_m200c_abundance", mass.abundance),
        **quantiles("r200c", mass.r200c),
        **{name: getattr(observation, name) for name in places},
        "n_table": observation.n_table,
        "n_used": len(observation.v_los),
        "rejected": {reason: count for reason, count in observation.rejected.items() if count},
        "estimates": {
            each.name: {name: value for name, value in vars(each).items() if name != "name"} for each in mass.estimates
        },
        "farther_hidden": mass.farther_hidden,
        "farther_image": mass.farther_image,
        "warnings": list(mass.warnings),
        **({"samples": [round(float(sample), 4) for sample in mass.samples]} if samples else {}),
    })  # fmt: skip


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if not isinstance(value, float):
        return value
    return float(f"{value:.8g}") if math.isfinite(value) else None


def text(record: dict) -> str:
    """A record as lines to read."""
    rejected = "; ".join(f"{count} {reason}" for reason, count in record["rejected"].items())
    cut = record["min_log_mstar"]
    lines = {
        "centre": f"{record['centre_ra']:.4f} {record['centre_dec']:+.4f} deg, {record['centre_is']}",
        "redshift": f"{record['redshift']:.5f}, {record['redshift_is']}",
        "galaxies": f"{record['n_used']} of {record['n_table']} used{f' ({rejected})' if rejected else ''}; "
                    + ("no cut in stellar mass" if cut is None else f"stellar masses from 10^{cut:g} Msun"),
        "dispersion": f"{record['dispersion']:.0f} km/s, interlopers included",
        "log10 M200c": f"{_range(record, 'log_m200c')} [Msun/h] (median, 16 to 84%); "
                       f"mean {record['log_m200c_mean']:.2f}, sigma {record['log_m200c_sigma']:.2f}",
        "": f"{_range(record, 'log_m200c_abundance')} with the halo mass function as prior",
        "R200c": f"{_range(record, 'r200c')} comoving Mpc/h",
        **{name: _estimate(values) for name, values in record["estimates"].items()},
    }  # fmt: skip
    hidden, image = record["farther_hidden"], record["farther_image"]
    if None not in (hidden, image):
        shares = f"{hidden:.0%} (networks) and {image:.0%} (image)"
        lines["how usual"] = f"of the clusters kept from training, {shares} are more unusual"
    rows = [f"  {name:<21} {words}" for name, words in lines.items()]
    return "\n".join([record["cluster"], *rows, *(f"  warning: {words}" for words in record["warnings"])])


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
    from astropy import units as u
    from astropy.cosmology import units as cosmology_units
    from astropy.table import Column, Table

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
        samples = [record["samples"] for record in records]
        columns["samples"] = (samples, LOG_MASS, "draws from the posterior, flat prior")
    result = Table(meta=meta)
    with u.add_enabled_units(cosmology_units):
        for name, (values, unit, description) in columns.items():
            values = [np.nan if value is None else value for value in values]
            result[name] = Column(values, unit=unit or None, description=description)
    return result
