"""The figure of the robustness chapter: Coma's mass and the test scatter, a line for each variation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.figures import paper_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

COLOURS = {
    "baseline": paper_figures.INK,
    "seed": paper_figures.GREY,
    "analysis": paper_figures.BLUE,
    "observation": paper_figures.ORANGE,
}
LABELS = {
    "baseline": "baseline",
    "seed": "seed {}",
    "dropout_rate": "dropout rate {}",
    "epochs": "{} epochs",
    "min_log_mstar": "stellar masses above 10^{}",
    "galaxies": "galaxies: {}",
    "aperture": "within {} Mpc/h",
    "velocity_cut": "below {} km/s",
    "kernel": "{} kernel",
    "down_sampling": "{} of the galaxies",
    "fibre_collisions": "fibre collisions, {}",
    "centre_offset": "centre off by {} Mpc/h",
}


SHARES = ("down_sampling", "fibre_collisions")


def label(what: str, value) -> str:
    """A variation in words."""
    return LABELS[what].format(f"{float(value):.0%}" if what in SHARES else value)


def variations(masses: Axes, widths: Axes, table: DataFrame, paper: tuple[float, float]) -> None:
    """Each row of `robustness.summary` as a line: Coma's mass on the left, the test half-width on the right.

    Parameters
    ----------
    masses, widths : axes side by side that share their y axis
    table : of `robustness.summary`
    paper : the paper's mean and sigma of Coma, log10 M200c [Msun/h], drawn as a band
    """
    y = np.arange(len(table))[::-1]
    of_seeds = table[table["kind"] == "seed"]
    baseline = table[table["kind"] == "baseline"].iloc[0]
    mean, sigma = paper
    masses.axvspan(
        mean - sigma, mean + sigma, color=paper_figures.GREEN, alpha=0.2, linewidth=0, label="the paper's interval"
    )
    for ax, column, error in ((masses, "coma_mean", "shift_error"), (widths, "half_width", "change_error")):
        ax.axvline(baseline[column], color=paper_figures.INK, linewidth=1.0, linestyle="--")
        scatter = of_seeds[column].std(ddof=1)
        ax.axvspan(
            baseline[column] - scatter, baseline[column] + scatter,
            color=paper_figures.GREY, alpha=0.25, linewidth=0, label="baseline, from seed to seed",
        )  # fmt: skip
        for height, row in zip(y, table.to_dict("records")):
            style = {"color": COLOURS[row["kind"]], "fmt": "o", "markersize": 4}
            if column == "coma_mean":
                ax.errorbar(row[column], height, xerr=row["coma_sigma"], elinewidth=0.8, alpha=0.6, **style)
            ax.errorbar(row[column], height, xerr=np.nan_to_num(row[error]), elinewidth=3.0, **style)
    for edge in y[:-1][table["what"].to_numpy()[:-1] != table["what"].to_numpy()[1:]] - 0.5:
        for ax in (masses, widths):
            ax.axhline(edge, color=paper_figures.GREY, linewidth=0.4)
    names = [label(what, value) for what, value in zip(table["what"], table["value"])]
    masses.set(xlabel="Coma, " + paper_figures.LOG_M200C, yticks=y, yticklabels=names, ylim=(-0.6, len(table) - 0.4))
    widths.set(xlabel="half-width of\ntest residuals [dex]")
