"""What others found: earlier and later masses of Coma as M200c, and every number of the paper.

Both are kept once, as published: the masses in ``data/literature.yml``, the paper's own numbers
in ``results/published.yml``. The conversions to M200c are made here, by code, with `nfw`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from cluster_tools import paths
from cluster_tools.coma import nfw
from cluster_tools.errors import ClusterToolsError

if TYPE_CHECKING:
    import pandas as pd

FIDUCIAL_C200C = 7.0  # the paper's, where no concentration was measured
C200C_SCATTER = 0.16  # dex, of simulated haloes at given mass (Diemer & Joyce 2019, ApJ 871, 168)


@dataclass(frozen=True)
class Estimate:
    """A mass of the Coma cluster from the literature, as M200c.

    Attributes
    ----------
    key : citation key of the paper
    label, year, method : authors, year and kind of analysis, for a figure
    variant : "strict" or "relaxed" assumptions about the mass profile, "" where there is one estimate
    m200c, m200c_lo, m200c_hi : estimate, 16th and 84th percentile [Msun/h]
    reconstructed : M200c was not published but follows from an assumed NFW profile (the paper's asterisk)
    later : published after the paper
    citation : reference, with its DOI where known
    """

    key: str
    label: str
    year: int
    method: str
    variant: str
    m200c: float
    m200c_lo: float
    m200c_hi: float
    reconstructed: bool
    later: bool
    citation: str

    @property
    def in_dex(self) -> tuple[float, float, float]:
        """log10(M200c / (Msun/h)) with its lower and upper error, both positive."""
        low, middle, high = np.log10([self.m200c_lo, self.m200c, self.m200c_hi])
        return float(middle), float(middle - low), float(high - middle)


def estimates(c200c: float = FIDUCIAL_C200C, z: float = 0.0) -> list[Estimate]:
    """Every mass that the paper's Figure 3 compares with, and later ones, in order of year.

    Parameters
    ----------
    c200c : concentration where none was measured (The & White, Hughes, Falco et al.); the paper takes 7
    z : redshift at which the critical density is taken, 0 or Coma's; the paper does not say which

    The errors are the published ones, converted like the estimate itself; `monte_carlo` has
    those of a second uncertain quantity, too. Raises `ClusterToolsError` for a concentration
    that is not positive. Source: the paper, Methods: Historical Mass Estimates of the Coma Cluster.
    """
    return [_estimate(paper, published, _value_and_range(published), c200c, z) for paper, published in _published()]


def monte_carlo(
    draws: int = 10_000, *, seed: int, c200c: float = FIDUCIAL_C200C, c200c_scatter: float = C200C_SCATTER
) -> list[Estimate]:
    """The masses that rest on two uncertain quantities, with the errors of both, by random draws.

    Parameters
    ----------
    draws : random draws of each estimate
    seed : of the draws
    c200c, c200c_scatter : median and scatter [dex, log-normal] of a concentration that was assumed

    Returns
    -------
    Those of `estimates`, in its order, whose mass goes with a measured scale radius (Geller et al.)
    or an assumed concentration (The & White, Hughes, Falco et al.): m200c is the median of the
    draws, m200c_lo and m200c_hi their 16th and 84th percentile.

    A quantity published as v -a +b is drawn so that v is its median and v - a and v + b are its
    percentiles at 1 sigma, Gaussian in its logarithm on either side, hence never negative; a
    published range is read as 16 to 84 %, as in the paper's Figure 3. The errors of mass and
    second quantity are taken as independent, since nobody published how they correlate.
    Raises `ClusterToolsError` for draws below 1 and a scatter below 0.
    """
    if draws < 1 or c200c_scatter < 0:
        raise ClusterToolsError(
            f"draws is {draws!r} and c200c_scatter {c200c_scatter!r}, expected at least one draw and a scatter of at "
            "least 0 dex; pass for instance draws=10000, c200c_scatter=0.16."
        )
    rng = np.random.default_rng(seed)
    found = []
    for paper, published in _published():
        second = "scale_radius_error" in published
        if not second and (published["kind"] not in ("aperture", "overdensity") or "c" in published):
            continue
        masses = _drawn(*_value_and_range(published), rng.standard_normal(draws))
        normal = rng.standard_normal(draws)
        concentrations, quantities = c200c, published
        if second:
            r_s, error = published["scale_radius"], published["scale_radius_error"]
            quantities = dict(published) | {"scale_radius": _drawn(r_s, r_s - error, r_s + error, normal)}
        else:
            concentrations = c200c * 10 ** (c200c_scatter * normal)
        m200c = _m200c(quantities, masses, concentrations, 0.0)
        low, middle, high = (float(m) for m in np.percentile(m200c, [16, 50, 84]))
        estimate = _estimate(paper, published, _value_and_range(published), c200c, 0.0)
        found.append(replace(estimate, m200c=middle, m200c_lo=low, m200c_hi=high))
    return found


def _drawn(value: float, low: float, high: float, normal: np.ndarray) -> np.ndarray:
    """Standard normal numbers turned into a quantity with median `value` and `low`, `high` at 1 sigma."""
    return value * np.where(normal > 0, high / value, value / low) ** normal


def as_published(key: str, variant: str = "") -> dict:
    """One estimate of ``literature.yml`` as its authors published it; the head of that file explains the names.

    Raises `ClusterToolsError` if there is none with this citation key and variant.
    """
    found = {(paper["key"], e.get("variant", "")): e for paper, e in _published()}
    if (key, variant) not in found:
        known = ", ".join(f"{key} {variant}".strip() for key, variant in found)
        raise ClusterToolsError(
            f"literature.yml has no estimate with key {key!r} and variant {variant!r}; choose one of {known}."
        )
    return found[key, variant]


def _published() -> list[tuple[dict, dict]]:
    """Pairs (paper, one of its estimates) of ``literature.yml``."""
    papers = _read_yaml(paths.PACKAGE_DATA / "literature.yml")
    return [(paper, published) for paper in papers for published in paper["estimates"]]


def _estimate(paper: Mapping, published: Mapping, value_and_range, c200c: float, z: float) -> Estimate:
    m200c, m200c_lo, m200c_hi = (float(_m200c(published, value, c200c, z)) for value in value_and_range)
    return Estimate(
        key=paper["key"],
        label=paper["label"],
        year=paper["year"],
        method=paper["method"],
        variant=published.get("variant", ""),
        m200c=m200c,
        m200c_lo=m200c_lo,
        m200c_hi=m200c_hi,
        reconstructed=published["kind"] not in ("m200c", "log_m200c"),
        later=paper.get("later", False),
        citation=paper["citation"] + (f", doi:{paper['doi']}" if "doi" in paper else ""),
    )


def _value_and_range(published: Mapping) -> tuple[float, float, float]:
    """Estimate, lower and upper end in published units; a bare range stands for its middle in log M."""
    if "range" in published:
        low, high = published["range"]
        return published.get("value", float(np.sqrt(low * high))), low, high
    systematic = published.get("systematic", 0.0)
    value = published["value"]
    return value, value - np.hypot(published["minus"], systematic), value + np.hypot(published["plus"], systematic)


def _m200c(published: Mapping, value, c200c, z: float):
    """M200c [Msun/h] of published values, by the kind of mass that they are."""
    to_h = published["hubble"] / 100  # a mass in Msun/h_X is this many Msun/h, a length alike
    mass = value * to_h
    match published["kind"]:
        case "m200c":
            return mass
        case "log_m200c":
            return 10**value * to_h
        case "aperture":
            return nfw.m200c_from_aperture_mass(mass, published["radius"] * to_h, c200c=c200c, z=z)
        case "scale_radius":
            radius, scale_radius = published["radius"] * to_h, published["scale_radius"] * to_h
            return nfw.m200c_from_scale_radius(mass, radius, scale_radius=scale_radius, z=z)
        case "overdensity" if "c" in published:
            return nfw.m200c_from_overdensity(mass, delta=published["delta"], c=published["c"])
        case "overdensity":
            return nfw.m200c_from_overdensity(mass, delta=published["delta"], c200c=c200c)
        case kind:
            raise ClusterToolsError(
                f"literature.yml has an estimate of kind {kind!r}, expected m200c, log_m200c, aperture, scale_radius "
                "or overdensity; correct its kind."
            )


def beside_paper(historical: Sequence[Estimate]) -> pd.DataFrame:
    """Estimates as converted here beside the M200c that the paper prints.

    A row per estimate whose mass the paper prints (of Kodi Ramanah et al. it quotes the
    logarithm, and the later ones it cannot know), with ``label``, ``year``, ``variant`` and, in
    1e15 Msun/h, ``m200c``, ``minus``, ``plus`` as converted here, ``paper_m200c``,
    ``paper_minus``, ``paper_plus`` as printed, and ``remark`` from ``published.yml``.
    """
    import pandas as pd

    printed = {(row["key"], row["variant"]): row for row in published()["historical"]}
    rows = []
    for e in historical:
        row = printed.get((e.key, e.variant))
        if row is None:
            continue
        ours = (e.m200c, e.m200c - e.m200c_lo, e.m200c_hi - e.m200c)
        theirs = (row["m200c"], row["minus"], row["plus"])
        remark = row.get("slip") or row.get("note", "")
        rows.append((e.label, e.year, e.variant, *(m / 1e15 for m in ours + theirs), remark))
    masses = ["m200c", "minus", "plus", "paper_m200c", "paper_minus", "paper_plus"]
    return pd.DataFrame(rows, columns=["label", "year", "variant", *masses, "remark"])


def tension(first: tuple[float, float, float], second: tuple[float, float, float]) -> float:
    """Distance of two measurements, each (value, lower error, upper error), in sigma.

    The two errors that face each other are added in quadrature.
    """
    (low, _, up), (high, down, _) = sorted([first, second])
    return (high - low) / float(np.hypot(up, down))


def tensions(historical: Sequence[Estimate], mass: tuple[float, float, float]) -> pd.DataFrame:
    """How far each estimate is from a mass (log10 M200c [Msun/h], lower and upper error in dex).

    A row per estimate, in order: ``label``, ``year``, ``variant``, ``later``, ``log_m200c`` with
    ``minus`` and ``plus`` [dex], ``difference`` [dex] (estimate - mass), and ``tension`` [sigma].
    """
    import pandas as pd

    rows = [
        (e.label, e.year, e.variant, e.later, *e.in_dex, e.in_dex[0] - mass[0], tension(e.in_dex, mass))
        for e in historical
    ]
    names = ["label", "year", "variant", "later", "log_m200c", "minus", "plus", "difference", "tension"]
    return pd.DataFrame(rows, columns=names)


def published(*, as_printed: bool = False) -> dict:
    """Every number of the paper: the content of ``results/published.yml``, explained at its head.

    Keys: ``paper``, ``values`` (id -> value, errors, unit, section), ``historical``, ``table1``.
    With `as_printed` all values are text with the digits of the paper ("15.10"), not numbers.
    Raises `ClusterToolsError` if the file is missing or is not the ledger.
    """
    path = paths.project_root() / "results" / "published.yml"
    ledger = _read_yaml(path, yaml.CBaseLoader if as_printed else yaml.CSafeLoader)
    missing = {"paper", "values", "historical", "table1"} - set(ledger if isinstance(ledger, dict) else ())
    if missing:
        raise ClusterToolsError(f"{paths.shown(path)} has no {min(missing)!r}; {_REMEDY.format(paths.shown(path))}")
    return ledger


def published_table1() -> pd.DataFrame:
    """Table 1 of the paper: eight rows, one a model, in its order.

    Columns ``simulation``, ``input_dim``, ``reweighted``; ``val_median``, ``val_lo``, ``val_hi``
    and ``xval_median``, ``xval_lo``, ``xval_hi`` (residuals and the sizes of their 16-84 %
    offsets), ``sqrt_var_val``, ``sqrt_var_xval``, ``coma_mean``, ``coma_sigma``, all in dex.
    """
    import pandas as pd

    return pd.DataFrame(published()["table1"])


_REMEDY = "fetch the file again with: git checkout -- {}"


def _read_yaml(path: Path, loader=yaml.CSafeLoader):
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid YAML"
        raise ClusterToolsError(
            f"{paths.shown(path)} could not be read ({reason}); {_REMEDY.format(paths.shown(path))}"
        ) from error
