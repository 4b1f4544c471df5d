"""Figures of the chapter on how real the boxes are: each draws on the axes that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.figures import paper_figures
from cluster_tools.mocks import observe, realism

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

COLOURS = (paper_figures.BLUE, paper_figures.ORANGE, paper_figures.GREEN, paper_figures.RED, paper_figures.INK)


def ratios(ax: Axes, rows: DataFrame) -> None:
    """Found over expected against mass, a colour for each quantity; grey is within tolerance.

    `rows` of `realism.table` whose tolerance is the same share of what is expected.
    """
    band = (rows["tolerance"] / rows["expected"]).max()
    ax.axhspan(1 - band, 1 + band, color=paper_figures.GREY, alpha=0.25, linewidth=0)
    ax.axhline(1, color=paper_figures.INK, linewidth=1.0, linestyle="--")
    names = list(dict.fromkeys(rows["quantity"]))
    for i, name in enumerate(names):
        one = rows[rows["quantity"] == name]
        shift = 0.02 * (i - (len(names) - 1) / 2)  # so that error bars stay apart
        ax.errorbar(
            one["log_m200c"] + shift, one["found"] / one["expected"], yerr=one["error"] / one["expected"],
            fmt="o", markersize=5, color=COLOURS[i % len(COLOURS)], label=name,
        )  # fmt: skip
    ax.set(xlabel=paper_figures.LOG_M200C, ylabel="found / expected")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def m_sigma(ax: Axes, seen: realism.Views, e_of_z: float) -> None:
    """Dispersions of true members, the mean of three axes, and published relations."""
    sigma = np.sqrt((seen.sigma_members**2).mean(axis=1))
    ax.scatter(
        seen.log_m200c, np.log10(sigma), s=6, color=paper_figures.GREY, alpha=0.5, linewidths=0, label="clusters"
    )
    mass = np.array([seen.log_m200c.min(), seen.log_m200c.max()])
    for (source, (level, slope)), colour in zip(realism.M_SIGMA.items(), COLOURS):
        ax.plot(mass, np.log10(level) + slope * (mass - 15 + np.log10(e_of_z)), color=colour, label=source)
    ax.set(xlabel=paper_figures.LOG_M200C, ylabel=r"$\log_{10}\,\sigma_\mathrm{members}$ [km s$^{-1}$]")
    ax.legend(loc="lower right")


def infall(mean: Axes, spread: Axes, profile: DataFrame) -> None:
    """Mean radial velocity, and both dispersions, of galaxies against distance from the cluster, in V200c and R200c."""
    for (mass, one), colour in zip(profile.groupby("log_m200c"), COLOURS):
        mean.errorbar(
            one["r"], one["v_radial"], yerr=one["error"], color=colour, marker="o", markersize=3, label=f"{mass:g}"
        )
        spread.plot(one["r"], one["sigma_radial"], color=colour)
        spread.plot(one["r"], one["sigma_tangential"], color=colour, linestyle="--")
    r = np.linspace(0, 10, 2)
    mean.plot(r, -r / 10, color=paper_figures.INK, linestyle=":", label="minus Hubble flow")
    mean.set(ylabel=r"$\langle v_r \rangle / V_\mathrm{200c}$", ylim=(-1.02, 0.2))
    for line, name in (("-", "radial"), ("--", "tangential")):
        spread.plot([], [], color=paper_figures.INK, linestyle=line, label=name)
    spread.legend()
    spread.set(xlabel=r"$r / R_\mathrm{200c}$", ylabel=r"$\sigma / V_\mathrm{200c}$", ylim=(0, None))
    mean.legend(title=paper_figures.LOG_M200C, ncols=2)


def interlopers(ax: Axes, seen: realism.Views, log_m200c: float) -> None:
    """Line-of-sight velocities of interlopers of clusters of one mass, and the best Gaussian on a flat floor."""
    v_los = seen.v_los[(np.abs(seen.log_m200c - log_m200c) < realism.HALF_BIN)[seen.cluster]]
    edges = np.linspace(-observe.VELOCITY_CUT, observe.VELOCITY_CUT, 61)
    ax.hist(v_los, edges, density=True, color=paper_figures.BLUE, alpha=0.5, linewidth=0, label="interlopers")
    flat, sigma = realism.gaussian_and_flat(v_los)
    middle = (edges[1:] + edges[:-1]) / 2
    both = np.sign(edges) * realism.gaussian_and_flat_cdf(np.abs(edges), flat, sigma) / 2
    ax.plot(middle, np.diff(both) / np.diff(edges), color=paper_figures.RED, label="Gaussian + flat")
    ax.axhline(flat / (2 * observe.VELOCITY_CUT), color=paper_figures.INK, linestyle="--", linewidth=1.2, label="flat")
    ax.set(xlabel=paper_figures.V_LOS, ylabel="density", yticks=[])
    ax.legend()


def stellar_masses(ax: Axes, rows: DataFrame) -> None:
    """The stellar mass function found in the box, with Poisson errors, and the published one."""
    low = rows["quantity"].str.extract(r"(\d+\.\d+) to")[0].astype(float)
    ax.plot(low + 0.125, rows["expected"], color=paper_figures.ORANGE, label=realism.BALDRY)
    ax.errorbar(low + 0.125, rows["found"], yerr=rows["error"], fmt="o", color=paper_figures.BLUE, label="box")
    ax.set(yscale="log", xlabel=r"$\log_{10}\,(M_* / \mathrm{M}_\odot)$", ylabel=r"$h^3$ Mpc$^{-3}$ dex$^{-1}$")
    ax.legend()
