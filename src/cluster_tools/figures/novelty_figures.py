"""The figure of `novelty`: how far images are from the training images, among held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.figures import paper_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {"hidden": "distance in the last hidden layer", "image": "distance to the nearest image"}
COLOURS, MARKERS = (paper_figures.RED, paper_figures.INK), "*X"


def distances(ax: Axes, found, measure: str, names: Sequence[str]) -> None:
    """Distance over mass: held-out images of all networks, and the judged ones as means over networks.

    found : what `novelty.distances` returns; measure : "hidden" or "image"; names : of the judged images, at most two
    """
    from matplotlib.ticker import LogFormatter

    held_out = [held for _, held in found]
    mass, far = (np.concatenate([getattr(held, name) for held in held_out]) for name in ("log_m200c", measure))
    ax.plot(
        mass, far, ".", color=paper_figures.BLUE, markersize=4, alpha=0.5, label="held-out clusters", rasterized=True
    )
    own_mass, own_far = (np.mean([getattr(own, name) for own, _ in found], axis=0) for name in ("log_m200c", measure))
    for name, x, y, colour, marker in zip(names, own_mass, own_far, COLOURS, MARKERS):
        ax.plot(x, y, marker, color=colour, markersize=13, markeredgecolor="white", label=name)
    ax.set(xlabel="predicted " + paper_figures.LOG_M200C, ylabel=LABELS[measure])
    if measure == "hidden":  # without an upper end; that between images has one, sqrt(2)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
