"""The figure of one cluster that was weighed: its galaxies in phase space, and its posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.figures import paper_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cluster_tools.weighing.one_cluster import ClusterMass


def weighed(mass: ClusterMass, truth: float | None = None) -> Figure:
    """Galaxies over their image, and the posterior beside the classical estimates; `truth` in log10 Msun/h.

    Not made with pyplot: it needs no display, and can be saved or shown.
    """
    from matplotlib.figure import Figure

    observation = mass.observation
    fig = Figure(figsize=(paper_figures.WIDTH + 2, 4.2), layout="constrained")
    left, right = fig.subplots(1, 2)
    paper_figures.image_2d(left, observation.image())
    left.scatter(
        observation.r_proj, observation.v_los, s=10, color="white", edgecolors=paper_figures.INK, linewidths=0.5
    )
    left.set_title(f"{len(observation.v_los)} galaxies, z = {observation.redshift:.4f}")

    right.hist(mass.samples, bins=25, density=True, color=paper_figures.BLUE, alpha=0.5)
    lo, median, hi = mass.quantiles
    right.axvline(median, color=paper_figures.BLUE, label="networks: median, 16 to 84%")
    right.axvspan(lo, hi, color=paper_figures.BLUE, alpha=0.15, linewidth=0)
    top = right.get_ylim()[1]
    calibrated = [each for each in mass.estimates if np.isfinite(each.calibrated)]
    for number, each in enumerate(calibrated):
        y = top * (1.05 + 0.14 * number)
        right.errorbar(
            each.calibrated, y, xerr=each.scatter, fmt="o", color=paper_figures.INK, markersize=4, elinewidth=1.2
        )
        place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        right.annotate(each.name, (each.calibrated, y), **place)
    if truth is not None:
        right.axvline(truth, color=paper_figures.RED, linestyle="--", label="true mass")
    right.set(xlabel=paper_figures.LOG_M200C, yticks=[], ylim=(0, top * (1.25 + 0.14 * len(calibrated))))
    right.legend(loc="upper left", fontsize=8)
    fig.suptitle(observation.name.replace("$", r"\$"))
    return fig
