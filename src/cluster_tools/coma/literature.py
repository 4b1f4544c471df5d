"""Published masses of Coma as M200c, and every number of the paper.

``data/literature.yml`` has the masses as published, ``results/published.yml`` the numbers of the paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cluster_tools import paths, store
from cluster_tools.coma import nfw
from cluster_tools.coma.mass_definitions import convert_mass
from cluster_tools.cosmology import COMA_REDSHIFT
from cluster_tools.errors import ClusterToolsError

FIDUCIAL_C200C = 7.0  # the paper's, where no concentration was measured
C200C_SCATTER = 0.16  # dex, of simulated haloes at given mass (Diemer & Joyce 2019, ApJ 871, 168)


@dataclass(frozen=True)
class Estimate:
    """A mass of the Coma cluster from the literature, as M200c [Msun/h]."""

    key: str  #: citation key
    label: str  #: authors
    year: int
    method: str  #: kind of analysis
    variant: str  #: "strict" or "relaxed" assumptions about the mass profile; "" where there is one estimate
    m200c: float
    m200c_lo: float  #: 16th percentile
    m200c_hi: float  #: 84th percentile
    reconstructed: bool  #: from an assumed NFW profile: the paper's asterisk
    later: bool  #: published after the paper

    @property
    def in_dex(self) -> tuple[float, float, float]:
        """log10(M200c / (Msun/h)) with its lower and upper error, both positive."""
        low, middle, high = np.log10([self.m200c_lo, self.m200c, self.m200c_hi])
        return float(middle), float(middle - low), float(high - middle)

    @property
    def linear(self) -> tuple[float, float, float]:
        """M200c [Msun/h] with its lower and upper error, both positive."""
        return self.m200c, self.m200c - self.m200c_lo, self.m200c_hi - self.m200c


def estimates(c200c: float = FIDUCIAL_C200C, z: float = COMA_REDSHIFT) -> list[Estimate]:
    """Every mass of ``literature.yml`` in order of year: those of the paper's Figure 3, and later ones.

    `c200c` is the concentration where none was measured (The & White, Hughes, Falco et al.); 7 in the paper.
    `z` is the redshift of the critical density: the paper defines M200c with H(z). The errors are the published
    ones, converted like the estimate itself (Ho et al. 2022, Methods: Historical Mass Estimates of the Coma
    Cluster). Raises `ClusterToolsError` for a concentration that is not positive.
    """
    return [estimate for _, estimate in _published(c200c, z)]


def concentrations() -> dict[str, tuple[float, ...]]:
    """c200c of Coma where it was measured, by citation key: value, lower and upper error (NaN: none published).

    Geller et al. give a scale radius, Łokas & Mamon a concentration at another overdensity, Gavazzi et al. c200c.
    """
    measured = {}
    for published, e in _published():
        radius = float(nfw.overdensity_radius(e.m200c, 200, z=COMA_REDSHIFT))
        if "c200c" in published:
            measured[e.key] = tuple(map(float, published["c200c"]))
        elif "c" in published:
            mass = published["value"] * published["hubble"] / 100
            outer = float(nfw.overdensity_radius(mass, published["delta"], z=COMA_REDSHIFT))
            measured[e.key] = (radius / outer * published["c"], np.nan, np.nan)
        elif error := published.get("scale_radius_error"):
            scale = published["scale_radius"]
            c, low, high = (radius / scale_radius for scale_radius in (scale, scale + error, scale - error))
            measured[e.key] = (c, c - low, high - c)
    return measured


def monte_carlo(draws: int = 10_000, *, seed: int, c200c: float = FIDUCIAL_C200C) -> list[Estimate]:
    """The masses that rest on two uncertain quantities: median, 16th and 84th percentile of random draws.

    The second quantity is a measured scale radius (Geller et al.) or an assumed concentration (The & White,
    Hughes, Falco et al.) with median `c200c` and log-normal scatter `C200C_SCATTER` [dex]. A quantity published
    as v -a +b is drawn with median v and 1 sigma percentiles v - a and v + b, Gaussian in its logarithm on either
    side, hence never negative. A published range is read as 16 to 84 %, as in the paper's Figure 3. Mass and
    second quantity are independent, since nobody published how they correlate. The order is that of `estimates`.
    Raises `ClusterToolsError` for a concentration that is not positive.
    """
    rng = np.random.default_rng(seed)
    sampled = []
    for published, estimate in _published(c200c):
        error = published.get("scale_radius_error")
        if error is None and not _assumes_concentration(published):
            continue
        masses, normal = _drawn(*_value_and_range(published), rng.standard_normal(draws)), rng.standard_normal(draws)
        concentrations = c200c * 10 ** (C200C_SCATTER * normal)
        if error is not None:
            r_s = published["scale_radius"]
            published = published | {"scale_radius": _drawn(r_s, r_s - error, r_s + error, normal)}
        m200c = _m200c(published, masses, concentrations, COMA_REDSHIFT)
        low, median, high = np.percentile(m200c, [16, 50, 84]).tolist()
        sampled.append(replace(estimate, m200c=median, m200c_lo=low, m200c_hi=high))
    return sampled


def _assumes_concentration(published: Mapping) -> bool:
    return published["kind"] in ("aperture", "overdensity") and "c" not in published


def _drawn(value: float, low: float, high: float, normal: np.ndarray) -> np.ndarray:
    """A quantity with median `value` and `low`, `high` at 1 sigma, from standard normal numbers."""
    return value * np.where(normal > 0, high / value, value / low) ** normal


def _published(c200c: float = FIDUCIAL_C200C, z: float = COMA_REDSHIFT) -> Iterator[tuple[dict, Estimate]]:
    """Every estimate of ``literature.yml`` as published, and as M200c."""
    for paper in store.read_yaml(paths.PACKAGE_DATA / "literature.yml"):
        names, later = (paper["key"], paper["label"], paper["year"], paper["method"]), paper.get("later", False)
        for published in paper["estimates"]:
            masses = (float(_m200c(published, value, c200c, z)) for value in _value_and_range(published))
            reconstructed = published["kind"] not in ("m200c", "log_m200c")
            yield published, Estimate(*names, published.get("variant", ""), *masses, reconstructed, later)


def _value_and_range(published: Mapping) -> tuple[float, float, float]:
    """Estimate, lower and upper end in published units; a bare range stands for its middle in log M."""
    if "range" in published:
        low, high = published["range"]
        return published.get("value", float(np.sqrt(low * high))), low, high
    systematic = published.get("systematic", 0.0)
    value = published["value"]
    return value, value - np.hypot(published["minus"], systematic), value + np.hypot(published["plus"], systematic)


def _m200c(published: Mapping, value, c200c, z: float):
    """M200c [Msun/h] of a published value."""
    mass = 10**value if published["kind"] == "log_m200c" else value
    shape = {name: published[name] for name in ("radius", "delta", "scale_radius", "c") if name in published}
    if _assumes_concentration(published):
        shape["c200c"] = c200c
    return convert_mass(mass, **shape, h=published["hubble"] / 100, z=z)


def beside_paper(historical: Sequence[Estimate]) -> pd.DataFrame:
    """Estimates as converted here beside the M200c that the paper prints, a row for each printed mass.

    Columns: ``label``, ``year``, ``variant``; in 1e15 Msun/h ``m200c``, ``minus``, ``plus`` as converted and
    ``paper_m200c``, ``paper_minus``, ``paper_plus`` as printed; and ``remark`` from ``published.yml``.
    The paper prints no M200c for Kodi Ramanah et al. and the later ones.
    """
    printed = {(row["key"], row["variant"]): row for row in published()["historical"]}
    rows = []
    for e in historical:
        if row := printed.get((e.key, e.variant)):
            masses = np.array([*e.linear, row["m200c"], row["minus"], row["plus"]]) / 1e15
            rows.append((e.label, e.year, e.variant, *masses, row.get("slip") or row.get("note", "")))
    masses = ["m200c", "minus", "plus", "paper_m200c", "paper_minus", "paper_plus"]
    return pd.DataFrame(rows, columns=["label", "year", "variant", *masses, "remark"])


def tension(first: tuple[float, float, float], second: tuple[float, float, float]) -> float:
    """Distance of two measurements, each (value, lower error, upper error), in sigma.

    The two errors that face each other are added in quadrature.
    """
    (low, _, up), (high, down, _) = sorted([first, second])
    return (high - low) / float(np.hypot(up, down))


def published(*, as_printed: bool = False) -> dict:
    """Every number of the paper: the content of ``results/published.yml``, explained at its head.

    The sections are ``paper``, ``values`` (id -> value, errors, unit, section), ``historical`` and ``table1``.
    With `as_printed`, values are text with the digits of the paper ("15.10"), not numbers. Raises
    `ClusterToolsError` if the file is missing or damaged.
    """
    path = paths.project_root() / "results" / "published.yml"
    content = store.read_yaml(path, as_text=as_printed)
    if not isinstance(content, dict) or not {"paper", "values", "historical", "table1"} <= set(content):
        name = paths.shown(path)
        raise ClusterToolsError(f"{name} lacks some of its sections; fetch it with: git checkout -- {name}")
    return content


def published_table1() -> pd.DataFrame:
    """Table 1 of the paper: eight rows, one a model, in its order; all numbers in dex.

    Columns: ``simulation``, ``input_dim``, ``reweighted``; ``val_median``, ``val_lo``, ``val_hi`` and
    ``xval_median``, ``xval_lo``, ``xval_hi`` (residuals and the sizes of their 16-84 % offsets),
    ``sqrt_var_val``, ``sqrt_var_xval``, ``coma_mean``, ``coma_sigma``.
    """
    return pd.DataFrame(published()["table1"])
