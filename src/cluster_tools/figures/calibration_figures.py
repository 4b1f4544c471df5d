"""The figures of the calibration chapter: one curve each, drawn on the axes that they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.figures import paper_figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from cluster_tools.inference.calibration import Diagnosis

COLOURS = (
    paper_figures.GREY,
    paper_figures.ORANGE,
    paper_figures.BLUE,
    paper_figures.GREEN,
)  # of the stages of a correction
MARKERS = "osD^"


def pit_histogram(ax: Axes, found: Diagnosis, stage: int, label: str) -> None:
    """Density of the probability integral transform, with errors; flat at 1 if calibrated."""
    edges = np.linspace(0, 1, len(found.histogram) + 1)
    ax.axhline(1, color=paper_figures.INK, linestyle="--", linewidth=1.2)
    ax.stairs(found.histogram, edges, color=COLOURS[stage], linewidth=1.8, label=label)
    middle = (edges[1:] + edges[:-1]) / 2 + 0.012 * (stage - 1)  # so that errors of stages do not hide each other
    ax.errorbar(middle, found.histogram, found.histogram_error, fmt="none", color=COLOURS[stage], linewidth=1.2)
    ax.set(xlabel="share of the posterior below the truth", xlim=(0, 1), ylabel="density")


def coverage_error(ax: Axes, found: Diagnosis, stage: int, label: str, *, expected: bool = False) -> None:
    """Coverage less level over level, both in per cent, with errors; `expected` draws that of TARP's regions."""
    covered, error = (found.expected, found.expected_error) if expected else (found.covered, found.covered_error)
    difference = 100 * (covered - found.levels)
    ax.axhline(0, color=paper_figures.INK, linestyle="--", linewidth=1.2)
    ax.plot(100 * found.levels, difference, color=COLOURS[stage], marker=MARKERS[stage], markersize=4, label=label)
    ax.fill_between(
        100 * found.levels, difference - 100 * error, difference + 100 * error,
        color=COLOURS[stage], alpha=0.2, linewidth=0,
    )  # fmt: skip
    ax.set(xlabel="credible level [%]", ylabel="coverage − level [%]", xlim=(0, 100))


def bins(ax: Axes, table: pd.DataFrame, column: str, stage: int, label: str) -> None:
    """A column of `calibration.in_bins` with errors: "median", "half_width" [dex] or "inside" [%]."""
    scale = 100 if column == "inside" else 1
    ax.axhline({"inside": 68, "median": 0}.get(column, np.nan), color=paper_figures.INK, linestyle="--", linewidth=1.2)
    ax.errorbar(
        table["middle"], scale * table[column], scale * table[f"{column}_error"],
        color=COLOURS[stage], marker=MARKERS[stage], markersize=5, capsize=2, linewidth=1.4, label=label,
    )  # fmt: skip
