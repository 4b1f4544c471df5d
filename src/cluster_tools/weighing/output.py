"""What `weighing` found as a record of plain values, and records as text to read, as JSON and as a table with units."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools import store

if TYPE_CHECKING:
    from astropy.table import Table

    from cluster_tools.weighing.one_cluster import Weighed

LOG_MASS = "dex(solMass / littleh)"
LENGTH = "Mpc / littleh"  # comoving
# Entry of a record that is a column of the table: its unit and what it is.
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
    "r200c_16": (LENGTH, "of the 16% quantile"),
    "r200c_84": (LENGTH, "of the 84% quantile"),
    "centre_ra": ("deg", "centre, J2000"),
    "centre_dec": ("deg", "centre, J2000"),
    "centre_is": ("", "where the centre is from"),
    "redshift": ("", "redshift of the cluster"),
    "redshift_is": ("", "where the redshift is from"),
    "n_table": ("", "rows of the table"),
    "n_used": ("", "galaxies weighed"),
    "dispersion": ("km / s", "standard deviation of v_los of the galaxies weighed"),
    "min_log_mstar": ("dex(solMass)", "least log10 stellar mass of the galaxies weighed"),
    "farther_hidden": ("", "share of held-out clusters farther from the training set, last hidden layer"),
    "farther_image": ("", "share of held-out clusters farther from the training set, image"),
    "warnings": ("", "what makes the cluster unlike those of the training set"),
}


def record(weighed: Weighed) -> dict:
    """What was found as JSON-like values, NaN as None: `COLUMNS`, and ``rejected``, ``estimates``, ``samples``."""
    seen = weighed.observation

    def three(name: str, values) -> dict:
        return dict(zip((f"{name}_16", name, f"{name}_84"), values, strict=True))

    found = {
        "cluster": seen.name,
        **three("log_m200c", weighed.quantiles),
        "log_m200c_mean": weighed.mean,
        "log_m200c_sigma": weighed.sigma,
        **three("log_m200c_abundance", weighed.abundance),
        **three("r200c", weighed.r200c),
        **{name: getattr(seen, name) for name in ("centre_ra", "centre_dec", "centre_is", "redshift", "redshift_is")},
        "n_table": seen.n_table,
        "n_used": len(seen.v_los),
        "rejected": {reason: count for reason, count in seen.rejected.items() if count},
        "dispersion": seen.dispersion,
        "min_log_mstar": seen.min_log_mstar,
        "estimates": {e.name: {"published": e.published, "calibrated": e.calibrated, "scatter": e.scatter}
                      for e in weighed.estimates},
        "farther_hidden": weighed.farther_hidden,
        "farther_image": weighed.farther_image,
        "warnings": list(weighed.warnings),
        "samples": [round(float(m), 4) for m in weighed.samples],
    }  # fmt: skip
    return _without_nan(found)


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text(found: dict) -> str:
    """A record to read."""
    out = "; ".join(f"{count} {reason}" for reason, count in found["rejected"].items())
    cut = found["min_log_mstar"]
    lines = {
        "centre": f"{found['centre_ra']:.4f} {found['centre_dec']:+.4f} deg, {found['centre_is']}",
        "redshift": f"{found['redshift']:.5f}, {found['redshift_is']}",
        "galaxies": f"{found['n_used']} of {found['n_table']} used{f' ({out})' if out else ''}; "
                    + ("no cut in stellar mass" if cut is None else f"stellar masses from 10^{cut:g} Msun"),
        "dispersion": f"{found['dispersion']:.0f} km/s, interlopers included",
        "log10 M200c": f"{_range(found, 'log_m200c')} [Msun/h] (median, 16 to 84%); "
                       f"mean {found['log_m200c_mean']:.2f}, sigma {found['log_m200c_sigma']:.2f}",
        "": f"{_range(found, 'log_m200c_abundance')} with the halo mass function as prior",
        "R200c": f"{_range(found, 'r200c')} comoving Mpc/h",
    }  # fmt: skip
    for name, values in found["estimates"].items():
        lines[name] = _estimate(values)
    shares = [found["farther_hidden"], found["farther_image"]]
    if None not in shares:
        lines["how usual"] = "of the clusters kept from training, {:.0%} (networks) and {:.0%} (image) are more unusual"
        lines["how usual"] = lines["how usual"].format(*shares)
    told = [f"  {name:<21} {words}" for name, words in lines.items()]
    return "\n".join([found["cluster"], *told, *(f"  warning: {words}" for words in found["warnings"])])


def _range(found: dict, name: str) -> str:
    lo, middle, hi = found[f"{name}_16"], found[name], found[f"{name}_84"]
    return f"{middle:.2f} +{hi - middle:.2f} -{middle - lo:.2f}"


def _estimate(values: dict) -> str:
    if values["published"] is None:
        return "fails on these galaxies"
    if values["calibrated"] is None:
        return f"{values['published']:.2f} as published"
    return f"{values['calibrated']:.2f} ± {values['scatter']:.2f} ({values['published']:.2f} as published)"


def table(records: list[dict], meta: dict) -> Table:
    """Records as a table with units, one cluster a row, `meta` in its header; the posteriors are its last column."""
    from astropy import units as u
    from astropy.cosmology import units as cosmology_units
    from astropy.table import Column, Table

    rows = [found | {"warnings": "; ".join(found["warnings"])} for found in records]
    made = Table(meta=meta)
    with u.add_enabled_units(cosmology_units):
        for name, (unit, description) in COLUMNS.items():
            values = [row[name] for row in rows]
            is_text = any(isinstance(value, str) for value in values)
            values = values if is_text else [np.nan if value is None else value for value in values]
            made[name] = Column(values, unit=unit or None, description=description, dtype=str if is_text else None)
        for name in records[0]["estimates"] if records else ():
            for kind in ("published", "calibrated", "scatter"):
                values = [row["estimates"][name][kind] for row in rows]
                values = np.array([np.nan if value is None else value for value in values])
                unit = "dex" if kind == "scatter" else LOG_MASS
                made[f"{_plain(name)}_{kind}"] = Column(values, unit=unit, description=f"{name}, {kind}")
        samples = np.array([row["samples"] for row in rows])
        made["samples"] = Column(samples, unit=LOG_MASS, description="draws from the posterior, flat prior")
    return made


def _plain(name: str) -> str:
    return name.replace("M-σ, ", "m_sigma_").replace(" ", "_")


def write(path: Path | str, records: list[dict], meta: dict) -> None:
    """Write the `table` as ECSV, atomically."""
    with store.atomic(path) as temporary:
        table(records, meta).write(temporary, format="ascii.ecsv", overwrite=True)
