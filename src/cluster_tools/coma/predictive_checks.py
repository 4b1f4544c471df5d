"""Posterior predictive checks: would mock clusters of Coma's mass look like Coma?

Galaxy numbers and shares are summaries that the networks do not predict. Mocks whose masses follow Coma's
posterior give each summary's predicted distribution, in which Coma's own value should not be extreme (Gelman, Meng &
Stern 1996, Statistica Sinica 6, 733).
"""

import numpy as np
import pandas as pd
from pandas import DataFrame

from cluster_tools.mocks.observe import APERTURE
from cluster_tools.ragged import ClusterGalaxies

FAST, OUTER = 2000.0, 1.9  # km/s and comoving Mpc/h; DESI's table thins out beyond 1.9
RINGS = (0.0, 0.5, 1.0, 1.5, APERTURE)  # comoving Mpc/h, of the dispersion profile
NUMBER, FAST_SHARE, OUTER_SHARE = "galaxies", "beyond 2000 km/s [%]", "beyond 1.9 Mpc/h [%]"


def summaries(clusters: ClusterGalaxies) -> DataFrame:
    """Summaries of n clusters, a column each: galaxies, shares [%] and the dispersion in rings of radius [km/s].

    A dispersion is NaN where a ring has fewer than three galaxies.
    """
    galaxies = pd.DataFrame({"v": clusters.v_los.astype(float), "r": clusters.r_proj, "row": clusters.cluster_index})
    shares = {FAST_SHARE: galaxies["v"].abs() > FAST, OUTER_SHARE: galaxies["r"] > OUTER}
    columns = {name: 100 * found.groupby(galaxies["row"]).mean() for name, found in shares.items()}
    rings = galaxies.groupby(["row", pd.cut(galaxies["r"], RINGS)], observed=False)["v"]
    dispersions = rings.std().where(rings.size() > 2).unstack()
    dispersions.columns = [f"dispersion, {ring.left:g} to {ring.right:g} Mpc/h [km/s]" for ring in dispersions]
    return pd.DataFrame({NUMBER: clusters.richness} | columns).join(dispersions)


def check(coma: ClusterGalaxies, mocks: ClusterGalaxies, log_m200c, mean: float, sigma: float) -> DataFrame:
    """Summaries of `coma`, one cluster, within those predicted by n mock clusters of a set that is flat in log mass.

    Mocks with true masses `log_m200c` (n,) are weighted by the density of Coma's posterior, a Gaussian of `mean` [log10
    Msun/h] and `sigma` [dex]. A row has ``summary``, ``Coma``, percentiles of the mocks ``low`` (16), ``median``,
    ``high`` (84), and ``below``, the share of mocks below Coma, where half of equal ones count.
    """
    ours, predicted = summaries(coma).iloc[0], summaries(mocks)
    weight = np.exp(-(((np.asarray(log_m200c) - mean) / sigma) ** 2) / 2)
    rows = []
    for name, value in ours.items():
        values = predicted[name].to_numpy()
        known = np.isfinite(values)
        order = np.argsort(values[known], kind="stable")
        rising, share = values[known][order], weight[known][order] / weight[known].sum()
        low, median, high = np.interp([0.16, 0.5, 0.84], np.cumsum(share) - share / 2, rising)
        below = share[rising < value].sum() + share[rising == value].sum() / 2
        rows.append({"summary": name, "Coma": value, "low": low, "median": median, "high": high, "below": below})
    return pd.DataFrame(rows)
