"""Figures of the chapter on classical estimators: each draws on the axes that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.figures import paper_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

WIDEST = 0.9  # dex: points farther out are drawn at the edge, as triangles that point on


def comparison(scatter: Axes, bias: Axes, table: DataFrame) -> None:
    """Half-width and median of the residuals of every method, with errors; `table` of `estimators.comparison`.

    The colour is that of the simulation tested on. Open: as published; full: calibrated or trained on
    the same simulation; cross: on the other one.
    """
    methods = list(dict.fromkeys(table["estimator"]))[::-1]
    for row in table.to_dict("records"):
        colour = paper_figures.SIMULATION_COLOURS[row["tested_on"]]
        marker, face, offset = _kind(row["simulation"], row["tested_on"], colour)
        y = methods.index(row["estimator"]) + offset + 0.1 * (list(SIMULATIONS).index(row["tested_on"]) - 0.5)
        for ax, column, low in ((scatter, "half_width", 0.0), (bias, "median", -WIDEST)):
            value, outside = row[column], abs(row[column]) > WIDEST
            if outside:
                value, marker_here, error = np.clip(value, low, WIDEST), "<" if value < 0 else ">", 0.0
            else:
                marker_here, error = marker, row[f"{column}_error"]
            ax.errorbar(
                value, y, xerr=error, fmt=marker_here, color=colour, markerfacecolor=face, markersize=5.5,
                elinewidth=1.2, clip_on=not outside,
            )  # fmt: skip
    scatter.set_yticks(range(len(methods)), methods)
    for ax in (scatter, bias):
        ax.set_ylim(-0.6, len(methods) - 0.4)
        for y in range(len(methods) - 1):
            ax.axhline(y + 0.5, color=paper_figures.GREY, alpha=0.4, linewidth=0.8)
    bias.axvline(0, color=paper_figures.INK, linestyle="--", linewidth=1.2)
    scatter.set(xlabel="half-width of the residuals [dex]", xlim=(0, WIDEST))
    bias.set(xlabel="median residual [dex]", xlim=(-WIDEST, WIDEST))
    bias.tick_params(labelleft=False)


def _kind(simulation: str, tested_on: str, colour: str) -> tuple[str, str, float]:
    """Marker, its face, and where it stands within the line of its method."""
    if not simulation:
        return "o", "white", 0.22
    return ("o", colour, 0.0) if simulation == tested_on else ("X", colour, -0.22)


def comparison_legend(ax: Axes) -> None:
    """What colours and markers of `comparison` mean, above the axes."""
    for name, colour in paper_figures.SIMULATION_COLOURS.items():
        ax.plot([], [], "s", color=colour, label=f"tested on {name}")
    for marker, face, text in (
        ("o", "white", "as published"),
        ("o", paper_figures.INK, "calibrated, same simulation"),
        ("X", paper_figures.INK, "calibrated, other simulation"),
    ):
        ax.plot([], [], marker, color=paper_figures.INK, markerfacecolor=face, label=text)


def masses(ax: Axes, weighed: DataFrame, paper: tuple[float, float]) -> None:
    """One cluster's mass by every method: `weighed` with columns estimator, kind, mass, error; `paper` as a band."""
    ax.axvspan(paper[0] - paper[1], paper[0] + paper[1], color=paper_figures.GREY, alpha=0.25, linewidth=0)
    ax.axvline(paper[0], color=paper_figures.GREY, linewidth=1.2)
    methods = list(dict.fromkeys(weighed["estimator"]))[::-1]
    kinds = {"as published": (paper_figures.INK, 0.22)}
    kinds |= {name: (colour, -0.22 * i) for i, (name, colour) in enumerate(paper_figures.SIMULATION_COLOURS.items())}
    for kind, (colour, offset) in kinds.items():
        some = weighed[weighed["kind"] == kind]
        y = [methods.index(name) + offset for name in some["estimator"]]
        face = "white" if kind == "as published" else colour
        label = f"calibrated on {SIMULATIONS[kind].title}" if kind in SIMULATIONS else kind
        ax.errorbar(some["mass"], y, xerr=some["error"], fmt="o", color=colour, markerfacecolor=face, label=label)
    ax.set_yticks(range(len(methods)), methods)
    ax.set(
        xlabel=paper_figures.LOG_M200C,
        xlim=(14.0, 16.0),
        xticks=np.arange(14, 16.1, 0.5),
        ylim=(-0.6, len(methods) - 0.4),
    )
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
