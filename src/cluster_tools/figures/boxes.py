"""Figures of boxes and mock catalogues: mass functions, and how close a box comes to published relations.

Masses `log_m200c` are log10(M200c / (Msun/h)); `ax` is the matplotlib Axes to draw on.
"""

import numpy as np
from matplotlib.axes import Axes
from pandas import DataFrame
from scipy.integrate import cumulative_trapezoid

from cluster_tools.figures import style
from cluster_tools.mocks import cluster_dynamics, observe, realism

COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.RED, style.INK)


def mass_function(ax: Axes, log_m200c, box_size: float, expected) -> None:
    """Draw the number density of haloes (n_haloes,) per dex of mass in bins of 0.1 dex, with Poisson errors.

    `box_size` is the side of the periodic box [comoving Mpc/h]; `expected` are rising masses and dn/dlogm
    [(h/Mpc)^3 per dex], which is averaged over each bin.
    """
    log_m200c = np.asarray(log_m200c, float)
    step = 0.1
    edges = step * np.arange(np.floor(log_m200c.min() / step), np.floor(log_m200c.max() / step) + 2)
    count, _ = np.histogram(log_m200c, edges)
    centres = ((edges[1:] + edges[:-1]) / 2)[count > 0]
    per_halo = 1 / (box_size**3 * step)
    density, error = count[count > 0] * per_halo, np.sqrt(count[count > 0]) * per_halo
    # The bar of a bin with a single halo would reach zero, which a logarithmic axis cannot show.
    lower = np.minimum(error, 0.95 * density)
    mass, function = expected
    mean = np.diff(np.interp(edges, mass, cumulative_trapezoid(function, mass, initial=0))) / step
    ax.stairs(mean, edges, baseline=None, color=style.ORANGE, linewidth=1.8, label="expected")
    ax.errorbar(centres, density, yerr=[lower, error], fmt="o", color=style.BLUE, markersize=4, label="box")
    ax.set(yscale="log", xlabel=style.LOG_M200C, ylabel=r"$dn/d\log_{10}M$ [$h^3$ Mpc$^{-3}$ dex$^{-1}$]")
    # The curve may go on to where no halo is expected; the box sets the range.
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0.3 * per_halo, 3 * count.max() * per_halo))
    ax.legend()


def realism_ratios(ax: Axes, rows: DataFrame) -> None:
    """Draw measured over expected values against mass, a colour for each quantity; grey is within tolerance.

    `rows` of `realism.table` have one tolerance, as a share of the expected value.
    """
    tolerance = (rows["tolerance"] / rows["expected"]).max()
    ax.axhspan(1 - tolerance, 1 + tolerance, color=style.GREY, alpha=0.25, linewidth=0)
    style.reference_line(ax, y=1, linewidth=1.0)
    names = list(dict.fromkeys(rows["quantity"]))
    for i, name in enumerate(names):
        quantity = rows[rows["quantity"] == name]
        x = quantity["log_m200c"] + 0.02 * (i - (len(names) - 1) / 2)  # so that error bars stay apart
        y, error = quantity["found"] / quantity["expected"], quantity["error"] / quantity["expected"]
        label, colour = name.replace("sigma", "σ of"), COLOURS[i % len(COLOURS)]
        ax.errorbar(x, y, yerr=error, fmt="o", markersize=5, color=colour, label=label)
    ax.set(xlabel=style.LOG_M200C, ylabel="found / expected")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def m_sigma(ax: Axes, views: cluster_dynamics.Views, e_of_z: float) -> None:
    """Draw dispersions of true members, as means of three axes, and published relations at E(z) = `e_of_z`."""
    sigma = np.sqrt((views.sigma["members"] ** 2).mean(axis=1))
    ax.scatter(views.log_m200c, np.log10(sigma), s=6, color=style.GREY, alpha=0.5, linewidths=0, label="clusters")
    mass = np.array([views.log_m200c.min(), views.log_m200c.max()])
    for (source, (level, slope)), colour in zip(cluster_dynamics.M_SIGMA.items(), COLOURS):
        ax.plot(mass, np.log10(level) + slope * (mass - 15 + np.log10(e_of_z)), color=colour, label=source)
    ax.set(xlabel=style.LOG_M200C, ylabel=r"$\log_{10}\,\sigma_\mathrm{members}$ [km s$^{-1}$]")
    ax.legend(loc="lower right")


def infall(mean: Axes, spread: Axes, profile: DataFrame) -> None:
    """Draw on `mean` the mean radial velocity [V200c] of galaxies against r / R200c, on `spread` both dispersions.

    `profile` is that of `cluster_dynamics.infall_profile`.
    """
    for (mass, rows), colour in zip(profile.groupby("log_m200c"), COLOURS):
        points = {"color": colour, "marker": "o", "markersize": 3, "label": f"{mass:g}"}
        mean.errorbar(rows["r"], rows["v_radial"], yerr=rows["error"], **points)
        spread.plot(rows["r"], rows["sigma_radial"], color=colour)
        spread.plot(rows["r"], rows["sigma_tangential"], color=colour, linestyle="--")
    r = np.linspace(0, 10, 2)
    mean.plot(r, -r / 10, color=style.INK, linestyle=":", label="minus Hubble flow")
    mean.set(ylabel=r"$\langle v_r \rangle / V_\mathrm{200c}$", ylim=(-1.02, 0.2))
    for line, name in (("-", "radial"), ("--", "tangential")):
        spread.plot([], [], color=style.INK, linestyle=line, label=name)
    spread.legend()
    spread.set(xlabel=r"$r / R_\mathrm{200c}$", ylabel=r"$\sigma / V_\mathrm{200c}$", ylim=(0, None))
    mean.legend(title=style.LOG_M200C, ncols=2)


def interlopers(ax: Axes, views: cluster_dynamics.Views, log_m200c: float) -> None:
    """Draw velocities of interlopers of clusters near `log_m200c`, and the best Gaussian on a flat floor."""
    v_los = views.interlopers.select(np.abs(views.log_m200c - log_m200c) < cluster_dynamics.HALF_BIN).v_los
    edges = np.linspace(-observe.VELOCITY_CUT, observe.VELOCITY_CUT, 61)
    ax.hist(v_los, edges, density=True, color=style.BLUE, alpha=0.5, linewidth=0, label="interlopers")
    flat, sigma = cluster_dynamics.gaussian_and_flat(v_los)
    cumulative = np.sign(edges) * cluster_dynamics.gaussian_and_flat_cdf(np.abs(edges), flat, sigma) / 2
    density = np.diff(cumulative) / np.diff(edges)
    ax.plot((edges[1:] + edges[:-1]) / 2, density, color=style.RED, label="Gaussian + flat")
    style.reference_line(ax, y=flat / (2 * observe.VELOCITY_CUT), label="flat")
    ax.set(xlabel=style.V_LOS, ylabel="density", yticks=[])
    ax.legend()


def stellar_masses(ax: Axes, rows: DataFrame) -> None:
    """Draw the stellar mass function in `rows` of `realism.table`, with Poisson errors, and the published one."""
    low = rows["quantity"].str.extract(r"(\d+\.\d+) to")[0].astype(float)
    ax.plot(low + 0.125, rows["expected"], color=style.ORANGE, label=realism.BALDRY)
    ax.errorbar(low + 0.125, rows["found"], yerr=rows["error"], fmt="o", color=style.BLUE, label="box")
    ax.set(yscale="log", xlabel=r"$\log_{10}\,(M_* / \mathrm{M}_\odot)$", ylabel=r"$h^3$ Mpc$^{-3}$ dex$^{-1}$")
    ax.legend()
