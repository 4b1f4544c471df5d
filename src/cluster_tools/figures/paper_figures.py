"""Figures 1 to 3 of the paper: from galaxies to a mass, the sample of Coma, and Coma's mass by all methods.

Velocities are in km/s, radii in comoving Mpc/h, masses `log_m200c` are log10(M200c / (Msun/h)). Images are those of
`mocks.kde.phase_space_images`, of shapes (48,) and (48, 48), with axes [v_los, r_proj]. Figures are made with pyplot,
which shows them at the end of the cell.
"""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from astropy.coordinates import offset_by
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MultipleLocator

from cluster_tools.coma.literature import tension
from cluster_tools.coma.survey import CENTRE_DEC, CENTRE_RA
from cluster_tools.cosmology import COMA_REDSHIFT, SIMULATIONS, SPEED_OF_LIGHT, comoving_distance
from cluster_tools.figures import clusters, diagnostics, style
from cluster_tools.figures.figure_data import record
from cluster_tools.figures.style import BLUE, GREEN, GREY, INK, RED
from cluster_tools.mocks.kde import PIXELS, v_los_grid
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT

BEFORE, SINCE = "Before this work", "Since 2022"  # blocks of published masses


def figure1(v_los, r_proj, image_1d, image_2d, architecture, samples, truth: float) -> Figure:
    """Draw Figure 1 of the paper: from the galaxies (n_galaxies,) of one cluster to its mass.

    Each layer of the `cnn.Architecture` is a box, Dropout a dashed line; one filter of the first convolution is marked
    in red on the images. `samples` (n_samples,) are draws of the cluster's log_m200c, `truth` is its true one.
    """
    v, samples = v_los_grid(), np.asarray(samples, float)
    step = v[1] - v[0]
    fig = plt.figure(figsize=(style.WIDTH, 7.6), layout="constrained")
    grid = fig.add_gridspec(2, 1, height_ratios=[1, 1.7])
    upper = grid[0].subgridspec(1, 3, width_ratios=[1.1, 0.8, 1.1])
    lower = grid[1].subgridspec(1, 2, width_ratios=[1.05, 1])

    galaxies = fig.add_subplot(upper[0])
    clusters.phase_space(galaxies, v_los, r_proj)
    _title(galaxies, "a", "galaxies")

    one = fig.add_subplot(upper[1], sharey=galaxies)
    edges = np.linspace(v[0] - step / 2, v[-1] + step / 2, len(v) // 2 + 1)
    sns.histplot(y=np.asarray(v_los, float), bins=edges, stat="density", color=GREY, alpha=0.5, linewidth=0, ax=one)
    one.plot(image_1d / step, v, color=BLUE)
    record(one, {"v_los [km/s]": v, "density [s/km]": image_1d / step})
    one.set(xlabel="density", xticks=[])
    _title(one, "", "1D image")

    two = fig.add_subplot(upper[2], sharey=galaxies)
    clusters.image_2d(two, image_2d)
    _title(two, "", "2D image")

    for ax in (one, two):
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)
        if architecture.kernel_widths:
            half, centre = architecture.kernel_widths[0] * step / 2, v[np.argmax(image_1d)]
            ax.axhspan(centre - half, centre + half, facecolor="none", edgecolor=RED, linewidth=2, zorder=5)

    network = fig.add_subplot(lower[0])
    _architecture(network, architecture)
    _title(network, "b", "network")

    posterior = fig.add_subplot(lower[1])
    _posterior(posterior, samples, samples.mean(), samples.std(), BLUE)
    text = f"predicted {samples.mean():.2f} ± {samples.std():.2f}\ntrue {truth:.2f} (dashed)"
    peak = posterior.get_ylim()[1]
    posterior.plot([truth, truth], [0, peak], color=INK, linestyle="--")
    posterior.set(xlabel=style.LOG_M200C, ylim=(0, peak * 1.2))
    posterior.text(0.5, 0.98, text, transform=posterior.transAxes, ha="center", va="top")
    _title(posterior, "c", "mass posterior")
    return fig


def figure2(sample, image_1d, image_2d) -> Figure:
    """Draw Figure 2 of the paper: the galaxies of Coma, a table of `survey.load_sample`, and their images."""
    fig, ((sky, redshifts), (one, two)) = plt.subplots(2, 2, figsize=(style.WIDTH, 6.1), layout="constrained")

    names = {name: f"{name} [{sample[name].unit}]" if sample[name].unit else name for name in sample.colnames}
    record(sky, {title: np.asarray(sample[name]) for name, title in names.items()})
    sky.scatter(np.asarray(sample["ra"]), np.asarray(sample["dec"]), s=9, color=BLUE, alpha=0.6, linewidths=0)
    angles, radius = np.linspace(0, 2 * np.pi, 181), APERTURE / comoving_distance(COMA_REDSHIFT)
    ra, dec = offset_by(np.radians(CENTRE_RA), np.radians(CENTRE_DEC), angles, radius)
    sky.plot(ra.to_value("deg"), dec.to_value("deg"), color=INK)
    sky.plot(CENTRE_RA, CENTRE_DEC, "+", color=RED, markersize=11, markeredgewidth=2)
    sky.set(xlabel="right ascension [deg]", ylabel="declination [deg]")
    sky.set_aspect(1 / np.cos(np.radians(CENTRE_DEC)))  # a degree is a degree in both directions
    sky.invert_xaxis()  # East is left
    _title(sky, "a", f"{len(sample)} galaxies")

    window = COMA_REDSHIFT + np.array([-1, 1]) * VELOCITY_CUT / SPEED_OF_LIGHT * (1 + COMA_REDSHIFT)
    sns.histplot(x=np.asarray(sample["z"], float), bins=np.linspace(*window, 33), color=BLUE, alpha=0.6, ax=redshifts)
    for edge in window:
        style.reference_line(redshifts, x=edge)
    redshifts.axvline(COMA_REDSHIFT, color=RED, linewidth=1.6)
    redshifts.set(xlabel="redshift", ylabel="galaxies")
    _title(redshifts, "b", "redshifts")

    v = v_los_grid()
    one.plot(v, image_1d, color=BLUE)
    one.fill_between(v, image_1d, color=BLUE, alpha=0.2, linewidth=0)
    one.set(xlabel=style.V_LOS, ylabel="fraction per pixel", xlim=(-VELOCITY_CUT, VELOCITY_CUT), ylim=(0, None))
    _title(one, "c", "1D image")

    mesh = clusters.image_2d(two, image_2d)
    bar = fig.colorbar(mesh, cax=two.inset_axes([1.05, 0, 0.07, 1]), label="fraction per pixel")
    bar.formatter.set_powerlimits((-2, 2))
    bar.formatter.set_useMathText(True)
    _title(two, "d", "2D image")
    for ax in (redshifts, one):
        sns.despine(ax=ax)
    for ax in (redshifts, one, two):
        ax.set_box_aspect(1)
    return fig


def figure3(estimates, posteriors, published) -> Figure:
    """Draw Figure 3 of the paper: Coma's mass, from virial methods to deep learning.

    Above: published masses, those of this book and of the paper (open markers), and later ones, with 16th to 84th
    percentiles. The band is this book's Uchuu 2D. Rows end in their tension with it (`literature.tension`; of the
    strict variant where there are two). Below: the posteriors of all models, mean and 1 sigma shaded. `estimates` are
    those of `literature.estimates`, `posteriors` of `table1.ComaPosterior`, `published` of
    `literature.published_table1`.
    """
    kinds: dict[str, list] = {}
    for p in sorted(posteriors, key=lambda p: (p.reweighted, p.input_dim)):
        kinds.setdefault(f"{p.input_dim}D{', re-weighted' * bool(p.reweighted)}", []).append(p)
    printed = published.set_index(["simulation", "input_dim", "reweighted"])[["coma_mean", "coma_sigma"]]
    ours = [  # Uchuu above MDPL2 in their row, the paper below this book
        {"block": "Networks (open: the paper)", "row": kind, "source": source, "assumptions": "", "error": "",
         "low": mean - sigma, "middle": mean, "high": mean + sigma, "colour": style.SIMULATION_COLOURS[p.simulation],
         "shift": (0.45 if p.simulation == "uchuu" else -0.15) - 0.3 * (source == "the paper")}
        for kind, group in kinds.items() for p in group
        for source, mean, sigma in (("this book", p.mean, p.sigma),
                                    ("the paper", *printed.loc[(p.simulation, p.input_dim, p.reweighted)]))
    ]  # fmt: skip
    best = next(p for p in kinds["2D"] if p.simulation == "uchuu")
    bars = _literature_bars(estimates, separator="\n")
    before = bars["block"] == BEFORE
    bars = pd.concat([bars[before], pd.DataFrame(ours), bars[~before]])

    n_rows, n_kinds = len(bars.groupby(["block", "row"])), len(kinds)
    upper, lower = 1.1 + 0.4 * (n_rows + bars["block"].nunique() + 0.6 * n_kinds), 2.3 * ((n_kinds + 1) // 2)
    fig = plt.figure(figsize=(style.NARROW, upper + lower), layout="constrained")
    grid = fig.add_gridspec(2, 1, height_ratios=[upper, lower])
    masses = fig.add_subplot(grid[0])
    _estimate_rows(masses, bars, (best.mean, best.sigma, best.sigma))

    panels, ax = grid[1].subgridspec((n_kinds + 1) // 2, 2), None
    for number, (kind, group) in enumerate(kinds.items()):
        ax = fig.add_subplot(panels[number // 2, number % 2], sharex=ax)
        for p in group:
            name, colour = SIMULATIONS[p.simulation].title, style.SIMULATION_COLOURS[p.simulation]
            _posterior(ax, p.samples, p.mean, p.sigma, colour, label=f"{name} {p.mean:.2f} ± {p.sigma:.2f}")
        ax.set(ylim=(0, ax.get_ylim()[1] * 1.7), title=kind, xlabel="")  # room for the legend
        ax.xaxis.set_major_locator(MultipleLocator(0.5))
        ax.legend(loc="upper left", borderaxespad=0, borderpad=0, handlelength=0.8, handletextpad=0.4)
        if last := number >= n_kinds - 2:
            ax.set_xlabel(style.SHORT_LOG_M200C)
        ax.tick_params(labelbottom=last)
    return fig


def historical_masses(ax: Axes, estimates, monte_carlo, mass) -> None:
    """Draw the published part of Figure 3: a row per estimate, oldest first, later ones apart.

    Where a work has a strict and a relaxed version, both bars share a row, the relaxed one lighter. An asterisk marks
    masses reconstructed with an NFW profile. `estimates` and `monte_carlo`, drawn as thin capped bars, are lists of
    `literature.Estimate`. `mass`, log_m200c with its lower and upper error [dex], is a band, and rows end in their
    tension with it.
    """
    _estimate_rows(ax, _literature_bars(estimates, monte_carlo, separator=", "), mass)


def _title(ax: Axes, letter: str, text: str) -> None:
    ax.set_title(rf"$\bf{{{letter}}}$  {text}" if letter else text, loc="left")


def _architecture(ax: Axes, architecture) -> None:
    """Draw layers from top to bottom, the first convolution in red; a wider box passes on more numbers."""
    convolutions = [
        (f"Conv1D, {filters} filters of {width}\n{PIXELS} × {filters}", PIXELS * filters)
        for filters, width in zip(architecture.filters, architecture.kernel_widths)
    ]
    dense = [(f"Dense {units}", units) for units in (*architecture.units, 2)]
    image = ("Input " + " × ".join([str(PIXELS)] * architecture.input_dim), PIXELS**architecture.input_dim)
    flat = (convolutions or [image])[-1][1]
    layers = [image, *convolutions, (f"Flatten {flat}", flat), *dense]
    record(ax, {"layer": [name.split("\n")[0] for name, _ in layers], "outputs": [size for _, size in layers]})
    y, largest = 0.0, max(np.log(size) for _, size in layers)
    for i, (name, size) in enumerate(layers):
        if name.startswith(("Conv1D", "Dense")):
            ax.plot(
                [-0.5, 0.5], [y - 0.19] * 2, color=GREEN, linestyle=(0, (2, 1.5)), linewidth=1.6, gid=f"dropout:{i}"
            )
            y -= 0.38
        width, height = 0.36 + 0.58 * np.log(size) / largest, 1 + 0.55 * name.count("\n")
        box: dict = {"boxstyle": "round,pad=0,rounding_size=0.03", "facecolor": "#eef4f8", "gid": f"layer:{i}"}
        marked = i == 1 and convolutions
        box |= {"edgecolor": RED, "linewidth": 2} if marked else {"edgecolor": BLUE, "linewidth": 1.2}
        ax.add_patch(FancyBboxPatch((-width / 2, y - height + 0.08), width, height - 0.16, **box))
        ax.text(0, y - height / 2 - 0.02, name, ha="center", va="center", linespacing=1.15)
        y -= height
    ax.text(0, y - 0.1, f"dashed: Dropout, rate {architecture.dropout_rate:g}", ha="center", va="top", color=GREEN)
    ax.set(xlim=(-0.52, 0.52), ylim=(y - 0.6, 0.05))
    ax.set_axis_off()


def _posterior(ax: Axes, samples, mean: float, sigma: float, colour: str, label: str = "samples") -> None:
    """Draw the density of samples, with mean and 1 sigma under it."""
    x, y = diagnostics.density(ax, samples, colour, label)
    inside = np.linspace(mean - sigma, mean + sigma, 101)
    ax.fill_between(inside, np.interp(inside, x, y), color=colour, alpha=0.25, linewidth=0)
    ax.plot([mean, mean], [0, np.interp(mean, x, y)], color=colour, linewidth=1.4)
    ax.set(yticks=[], ylim=(0, None))
    sns.despine(ax=ax, left=True)


def _literature_bars(estimates: Iterable, monte_carlo: Iterable = (), *, separator: str) -> pd.DataFrame:
    """Bars of `_estimate_rows` for estimates, oldest first; Monte Carlo bars lie below those of their row."""
    bars = []
    for e, sampled in [*((e, False) for e in estimates), *((e, True) for e in monte_carlo)]:
        first, *others = e.method.split(" (")[0].split(", ")
        label = (e.label if str(e.year) in e.label else f"{e.label} {e.year}") + "*" * bool(e.reconstructed)
        low, middle, high = np.log10([e.m200c_lo, e.m200c, e.m200c_hi])
        relaxed = e.variant == "relaxed"
        bars.append({
            "block": SINCE if e.later else BEFORE, "row": f"{label}{separator}{first}{', ...' * bool(others)}",
            "source": "", "assumptions": "relaxed" * relaxed, "error": "Monte Carlo" * sampled,
            "low": low, "middle": middle, "high": high, "colour": RED if sampled else GREEN if e.later else INK,
            "shift": (-0.36 if relaxed else -0.2) * sampled, "year": e.year,
        })  # fmt: skip
    return pd.DataFrame(bars).sort_values(["block", "year"], kind="stable")


def _estimate_rows(ax: Axes, bars: pd.DataFrame, mass) -> None:
    """Draw masses with their 16-84 ranges, in rows from top to bottom, in titled blocks.

    A bar has a ``block``, a ``row``, ``low``, ``middle`` and ``high`` [log_m200c], a ``colour``, a ``shift`` within its
    row, and texts for the table of the numbers: ``source`` (of networks), ``assumptions`` and ``error``. Published
    bars end in their tension with `mass`.
    """
    bars = pd.concat([row for _, row in bars.groupby(["block", "row"], sort=False)])
    texts = ["block", "row", "source", "assumptions", "error"]
    numbers = {"middle": "log10 M200c [Msun/h]", "low": "16th percentile", "high": "84th percentile"}
    recorded = bars[[*texts, *numbers]].replace({"row": {"\n": ", "}}, regex=True)
    record(ax, recorded.rename(columns={"row": "estimate", **numbers}))

    left, right = bars["low"].min(), bars["high"].max()
    margin = 0.05 * (right - left)
    end, y, ticks = right + 5 * margin, 0.0, {}
    ax.axvspan(mass[0] - mass[1], mass[0] + mass[2], color=BLUE, alpha=0.12, linewidth=0, zorder=0)
    for title, block in bars.groupby("block", sort=False):
        ax.text(0.02, y, title, transform=ax.get_yaxis_transform(), ha="left", va="center", fontweight="bold")
        for label, row in block.groupby("row", sort=False):
            room = 0.3 * bool(row["source"].iat[0])  # networks: four bars, each at a height of its own
            y -= 1 + room
            ticks[y] = label
            for bar in row.sort_values("assumptions", ascending=False, kind="stable").itertuples():
                low, middle, high, colour, height = bar.low, bar.middle, bar.high, bar.colour, y + bar.shift
                if bar.error:
                    ax.plot([low, middle, high], [height] * 3, "|-", color=colour, linewidth=1, markersize=5)
                    continue
                is_open = bar.block == SINCE or bar.source == "the paper"
                line = {"alpha": 0.3, "linewidth": 6} if bar.assumptions else {"linewidth": 1.2 if is_open else 2}
                ax.plot([low, high], [height] * 2, color=colour, solid_capstyle="butt", **line)
                if bar.assumptions and len(row) > 1:
                    continue
                face, size = "white" if is_open else colour, 5 if bar.source else 6
                ax.plot(middle, height, "o", color=colour, markerfacecolor=face, markersize=size)
                if not bar.source:
                    sigmas = f"{tension((middle, middle - low, high - middle), mass):.1f}σ"
                    ax.text(end - 0.2 * margin, y, sigmas, ha="right", va="center", fontsize=10)
            y -= room
        y -= 1.2
    ax.set_yticks(list(ticks), list(ticks.values()), linespacing=1.05)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(left - margin, end), ylim=(y + 0.6, 0.7), xlabel=style.LOG_M200C)
    functions = (lambda log_mass: 10.0 ** (log_mass - 15), lambda mass: 15 + np.log10(np.maximum(mass, 1e-6)))
    top = ax.secondary_xaxis("top", functions=functions)
    top.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    top.set_xlabel(r"$M_\mathrm{200c}$ [$10^{15}\,h^{-1}\,\mathrm{M}_\odot$]")
