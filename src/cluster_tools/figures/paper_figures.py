"""The figures of the book: one style, plain arrays in, matplotlib out.

`style` sets the look of a notebook; no other function changes a setting. The figures of the
paper (`figure1`, `figure2`, `figure3`) and `training_history` return a Figure, which pyplot
shows at the end of the cell, so assign it: ``fig = figures.figure2(...)``. The other plots draw
on the axes that they are given. Velocities in km/s, radii in comoving Mpc/h, and log_m200c is
log10(M200c / (Msun/h)).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.errors import ClusterToolsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches: 11 point letters then stay legible where the page is 360 pixels wide
LOG_M200C = r"$\log_{10}\,[M_\mathrm{200c}\,/\,(h^{-1}\,\mathrm{M}_\odot)]$"
V_LOS = r"$v_\mathrm{los}$ [km s$^{-1}$]"
R_PROJ = r"$R_\mathrm{proj}$ [$h^{-1}$ Mpc]"

# seaborn's "colorblind" palette, by what a colour stands for here.
BLUE, ORANGE, GREEN, RED, GREY, INK = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#949494", "#333333"
SIMULATION_COLOURS = {"uchuu": BLUE, "mdpl2": ORANGE}
DENSITY = "mako_r"  # seaborn's map: the darker, the denser, in colour and in grey


def style() -> None:
    """Set matplotlib's defaults for a chapter: seaborn's ticks style, safe colours, opaque white.

    The figures that the chapter shows take their numbers along; see `figure_data`.
    """
    import seaborn as sns

    from cluster_tools.figures import figure_data

    rc = {
        "figure.figsize": (WIDTH, 4.2),
        "figure.dpi": 100,  # inline figures have twice as many pixels: sharp on dense screens
        "figure.facecolor": "white",  # opaque, so that a dark page does not swallow the labels
        "savefig.facecolor": "white",
        "savefig.dpi": 150,
        "font.size": 11,
        "axes.labelsize": 12,
        "axes.titlesize": 12,
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
        "legend.fontsize": 11,
        "legend.frameon": False,
        "axes.linewidth": 1.0,
        "lines.linewidth": 1.8,
    }
    sns.set_theme(context="paper", style="ticks", palette="colorblind", rc=rc)
    figure_data.take_along()


def save(fig: Figure, profile: str, name: str) -> None:
    """Write a figure as SVG and PNG to ``results/<profile>/figures/<name>.svg`` and ``.png``, atomically.

    The background is opaque white, and the same figure gives the same files.
    """
    import matplotlib

    from cluster_tools import paths, store

    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with (
            store.atomic(paths.results(profile) / "figures" / f"{name}.{suffix}") as temporary,
            matplotlib.rc_context({"svg.hashsalt": name}),
        ):
            fig.savefig(temporary, dpi=150, facecolor="white", metadata=metadata)


# The three figures of the paper


def figure1(v_los, r_proj, image_1d, image_2d, layers, posterior_samples, truth: float | None = None) -> Figure:
    """Figure 1 of the paper: from the galaxies of one cluster to its mass.

    Parameters
    ----------
    v_los, r_proj : arrays (n_galaxies,) [km/s], [comoving Mpc/h]
    image_1d, image_2d : arrays (48,) and (48, 48), axes [v_los, r_proj]
        The cluster's images from `cluster_tools.mocks.kde.phase_space_images`.
    layers : list of dict
        Those of the network, as Keras describes them (`cluster_tools.networks.ensembles.BayesianCNN.layers`). Each is
        a box, Dropout a dashed line. One filter of the first convolution is marked in red on the images.
    posterior_samples : array (n_samples,)
        Draws of log_m200c for this cluster.
    truth : float, optional
        The cluster's true log_m200c.

    Raises
    ------
    ClusterToolsError
        For an image of another shape.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    from cluster_tools.mocks.kde import v_los_grid

    image_1d = _checked_image(image_1d, 1)
    v = v_los_grid()
    step = v[1] - v[0]
    fig = plt.figure(figsize=(WIDTH, 7.6), layout="constrained")
    grid = fig.add_gridspec(2, 1, height_ratios=[1, 1.7])
    upper = grid[0].subgridspec(1, 3, width_ratios=[1.1, 0.8, 1.1])
    lower = grid[1].subgridspec(1, 2, width_ratios=[1.05, 1])

    galaxies = fig.add_subplot(upper[0])
    phase_space(galaxies, v_los, r_proj)
    _title(galaxies, "a", "galaxies")

    one = fig.add_subplot(upper[1], sharey=galaxies)
    edges = np.linspace(v[0] - step / 2, v[-1] + step / 2, len(v) // 2 + 1)
    sns.histplot(y=np.asarray(v_los, float), bins=edges, stat="density", color=GREY, alpha=0.5, linewidth=0, ax=one)
    one.plot(image_1d / step, v, color=BLUE)
    one.set(xlabel="density", ylabel="", xticks=[])
    one.tick_params(labelleft=False)
    _title(one, "", "1D image")

    two = fig.add_subplot(upper[2], sharey=galaxies)
    _draw_image_2d(two, image_2d)
    two.set_ylabel("")
    two.tick_params(labelleft=False)
    _title(two, "", "2D image")

    convolution = _first_convolution(layers)
    if convolution is not None:
        half = convolution["config"]["kernel_size"][0] * step / 2
        centre = v[np.argmax(image_1d)]
        for ax in (one, two):
            ax.axhspan(centre - half, centre + half, facecolor="none", edgecolor=RED, linewidth=2, zorder=5)

    network = fig.add_subplot(lower[0])
    _architecture(network, layers)
    _title(network, "b", "network")

    posterior = fig.add_subplot(lower[1])
    samples = np.asarray(posterior_samples, float)
    _posterior(posterior, samples, samples.mean(), samples.std(), BLUE)
    lines = [f"predicted {samples.mean():.2f} ± {samples.std():.2f}"]
    peak = posterior.get_ylim()[1]
    if truth is not None:
        posterior.plot([truth, truth], [0, peak], color=INK, linestyle="--")
        lines.append(f"true {truth:.2f} (dashed)")
    posterior.set_ylim(0, peak * 1.2)
    posterior.text(0.5, 0.98, "\n".join(lines), transform=posterior.transAxes, ha="center", va="top")
    posterior.set_xlabel(LOG_M200C)
    _title(posterior, "c", "mass posterior")
    return fig


def figure2(sample, image_1d, image_2d) -> Figure:
    """Figure 2 of the paper: the galaxies of Coma and the images that the networks see.

    Parameters
    ----------
    sample : astropy.table.Table
        From `cluster_tools.coma.load_sample`: columns ra, dec [deg] and z. Centre, redshift
        and distance of the aperture are those of `cluster_tools.coma.survey`.
    image_1d, image_2d : arrays (48,) and (48, 48), axes [v_los, r_proj]
        The sample's images from `cluster_tools.mocks.kde.phase_space_images`.

    Raises
    ------
    ClusterToolsError
        For an image of another shape.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    from cluster_tools.coma.survey import CENTRE_DEC, CENTRE_RA
    from cluster_tools.cosmology import COMA_REDSHIFT, SPEED_OF_LIGHT, comoving_distance
    from cluster_tools.mocks.kde import v_los_grid
    from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT

    image_1d = _checked_image(image_1d, 1)
    fig, ((sky, redshifts), (one, two)) = plt.subplots(2, 2, figsize=(WIDTH, 6.1), layout="constrained")

    ra, dec = (np.asarray(sample[name], float) for name in ("ra", "dec"))
    sky.scatter(ra, dec, s=9, color=BLUE, alpha=0.6, linewidths=0)
    circle = _aperture_on_the_sky(
        APERTURE, centre_ra=CENTRE_RA, centre_dec=CENTRE_DEC, distance=comoving_distance(COMA_REDSHIFT)
    )
    sky.plot(*circle, color=INK)
    sky.plot(CENTRE_RA, CENTRE_DEC, "+", color=RED, markersize=11, markeredgewidth=2)
    sky.set(xlabel="right ascension [deg]", ylabel="declination [deg]")
    sky.set_aspect(1 / np.cos(np.radians(CENTRE_DEC)))  # a degree is a degree in both directions
    sky.invert_xaxis()  # East is left
    _title(sky, "a", f"{len(sample)} galaxies")

    window = COMA_REDSHIFT + np.array([-1, 1]) * VELOCITY_CUT / SPEED_OF_LIGHT * (1 + COMA_REDSHIFT)
    sns.histplot(x=np.asarray(sample["z"], float), bins=np.linspace(*window, 33), color=BLUE, alpha=0.6, ax=redshifts)
    for edge in window:
        redshifts.axvline(edge, color=INK, linestyle="--", linewidth=1.2)
    redshifts.axvline(COMA_REDSHIFT, color=RED, linewidth=1.6)
    redshifts.set(xlabel="redshift", ylabel="galaxies")
    _title(redshifts, "b", "redshifts")

    v = v_los_grid()
    one.plot(v, image_1d, color=BLUE)
    one.fill_between(v, image_1d, color=BLUE, alpha=0.2, linewidth=0)
    one.set(xlabel=V_LOS, ylabel="fraction per pixel", xlim=(-VELOCITY_CUT, VELOCITY_CUT), ylim=(0, None))
    _title(one, "c", "1D image")

    mesh = _draw_image_2d(two, image_2d)
    bar = fig.colorbar(mesh, cax=two.inset_axes([1.05, 0, 0.07, 1]), label="fraction per pixel")
    bar.formatter.set_powerlimits((-2, 2))
    bar.formatter.set_useMathText(True)
    _title(two, "d", "2D image")
    for ax in (redshifts, one):
        sns.despine(ax=ax)
    for ax in (redshifts, one, two):
        ax.set_box_aspect(1)
    return fig


def figure3(estimates, posteriors) -> Figure:
    """Figure 3 of the paper: Coma's mass, from virial methods to deep learning.

    Left: published estimates, ours below them, those published since the paper last, each with
    its 16th to 84th percentile; the shaded band is the paper's best model, Uchuu 2D, and the
    number at the end of a row the tension with it (`cluster_tools.coma.literature.tension`; of the strict
    variant where there are two). Right: the posteriors of all models, mean and 1 sigma shaded.

    Parameters
    ----------
    estimates : list of `cluster_tools.coma.literature.Estimate`
    posteriors : list or dict of objects
        Each with `simulation` ("uchuu" or "mdpl2"), `input_dim` (1 or 2), `reweighted` (bool),
        `samples` (array of log_m200c draws), `mean` and `sigma` [dex].
    """
    import matplotlib.pyplot as plt

    posteriors = list(posteriors.values() if isinstance(posteriors, Mapping) else posteriors)
    kinds = sorted({(p.reweighted, p.input_dim) for p in posteriors})
    ours = [
        (_kind_name(*kind), "", [_ours(p, offset=0.17) for p in posteriors if (p.reweighted, p.input_dim) == kind])
        for kind in kinds
    ]
    best = next((p for p in posteriors if (p.simulation, p.input_dim, p.reweighted) == ("uchuu", 2, False)), None)
    blocks = _literature_blocks(estimates)
    blocks.insert(1, ("Deep learning, this book", ours))

    n_rows = sum(len(rows) for _, rows in blocks)
    fig = plt.figure(figsize=(WIDTH, 1.2 + 0.38 * (n_rows + len(blocks))), layout="constrained")
    grid = fig.add_gridspec(max(len(kinds), 1), 2, width_ratios=[1.25, 1])

    left = fig.add_subplot(grid[:, 0])
    _estimate_rows(left, blocks, between="\n", mass=best and (best.mean, best.sigma, best.sigma))
    left.tick_params(axis="y", labelsize=10)

    ax = None
    for row, kind in enumerate(kinds):
        ax = fig.add_subplot(grid[row, 1], sharex=ax)
        for p in posteriors:
            if (p.reweighted, p.input_dim) == kind:
                name, colour = SIMULATIONS[p.simulation].title, SIMULATION_COLOURS[p.simulation]
                _posterior(ax, p.samples, p.mean, p.sigma, colour, label=f"{name} {p.mean:.2f} ± {p.sigma:.2f}")
        ax.set_ylim(0, ax.get_ylim()[1] * 1.7)  # room for the legend
        title = {"title": _kind_name(*kind), "title_fontproperties": {"weight": "bold"}}
        ax.legend(**title, loc="upper left", borderaxespad=0, borderpad=0, alignment="left", handlelength=1)
        ax.tick_params(labelbottom=row == len(kinds) - 1)
    if ax is not None:
        ax.set_xlabel(LOG_M200C)
    return fig


def historical_masses(ax: Axes, estimates, monte_carlo=(), mass=None) -> None:
    """The published part of Figure 3: a row per estimate, oldest first, later ones apart.

    Where a work has a strict and a relaxed version, both bars share a row, the relaxed one
    lighter. An asterisk marks masses reconstructed with an NFW profile.

    Parameters
    ----------
    estimates : list of `cluster_tools.coma.literature.Estimate`
    monte_carlo : list of the same, drawn as thin capped bars beneath those of `estimates`
    mass : (log10 M200c [Msun/h], lower, upper error [dex]), optional
        Drawn as a band; the end of each row then has its tension with it.
    """
    _estimate_rows(ax, _literature_blocks(estimates, monte_carlo), between=", ", mass=mass)


# The plots of the chapters


def phase_space(ax: Axes, v_los, r_proj, is_member=None) -> None:
    """Galaxies in dynamical phase space: v_los [km/s] over r_proj [comoving Mpc/h], arrays (n,).

    `is_member`: boolean array (n,), True for galaxies that belong to the cluster, to tell them
    from interlopers.
    """
    v_los, r_proj = np.asarray(v_los, float), np.asarray(r_proj, float)
    if is_member is None:
        ax.scatter(r_proj, v_los, s=9, color=INK, alpha=0.6, linewidths=0)
    else:
        member = np.asarray(is_member, bool)
        ax.scatter(r_proj[~member], v_los[~member], s=22, color=ORANGE, marker="x", linewidths=1.3, label="interlopers")
        ax.scatter(r_proj[member], v_los[member], s=14, color=BLUE, alpha=0.8, linewidths=0, label="members")
        ax.legend(loc="lower right", frameon=True, framealpha=0.85, handletextpad=0.2, borderpad=0.3)
    _phase_space_axes(ax)


def image_2d(ax: Axes, image):
    """A (48, 48) image [v_los, r_proj] of `cluster_tools.mocks.kde`; returns the mesh for a colour bar."""
    from cluster_tools.mocks.kde import r_proj_grid, v_los_grid

    image = _checked_image(image, 2)
    mesh = ax.pcolormesh(r_proj_grid(), v_los_grid(), image, cmap=_density_map(), vmin=0, shading="nearest")
    mesh.set_rasterized(True)
    _phase_space_axes(ax)
    return mesh


_draw_image_2d = image_2d  # figure1 and figure2 have a parameter of that name


def mass_function(ax: Axes, log_m200c, box_size: float, expected=None) -> None:
    """Number density of haloes per dex of mass, with Poisson errors.

    Parameters
    ----------
    log_m200c : array (n_haloes,)
    box_size : float
        Side of the periodic box [comoving Mpc/h].
    expected : pair of arrays (log_m200c, dn/dlogm [(h/Mpc)^3 per dex]), optional
    """
    log_m200c = np.asarray(log_m200c, float)
    step = 0.1
    edges = step * np.arange(np.floor(log_m200c.min() / step), np.floor(log_m200c.max() / step) + 2)
    count, _ = np.histogram(log_m200c, edges)
    centres = (edges[1:] + edges[:-1]) / 2
    filled = count > 0
    per_halo = 1 / (box_size**3 * step)
    error = np.sqrt(count[filled]) * per_halo
    # The bar of a bin with a single halo would reach zero, which a logarithmic axis cannot show.
    lower = np.minimum(error, 0.95 * count[filled] * per_halo)
    if expected is not None:
        ax.plot(*expected, color=ORANGE, label="expected")
    ax.errorbar(
        centres[filled], count[filled] * per_halo, yerr=[lower, error], fmt="o", color=BLUE, markersize=4, label="box"
    )
    ax.set(yscale="log", xlabel=LOG_M200C, ylabel=r"$dn/d\log_{10}M$ [$h^3$ Mpc$^{-3}$ dex$^{-1}$]")
    # The curve may go on to where no halo is expected; the box sets the range.
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0.3 * per_halo, 3 * count.max() * per_halo)
    ax.legend()


def training_history(history: Mapping) -> Figure:
    """Loss over epochs, a thin line per network and their mean; training and validation.

    `history`: "loss" and "val_loss", each a list (n_epochs,) or (n_networks, n_epochs).
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    fig, ax = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
    for key, label, colour in (("loss", "training", BLUE), ("val_loss", "validation", ORANGE)):
        losses = np.atleast_2d(np.asarray(history[key], float))
        epochs = np.arange(1, losses.shape[1] + 1)
        if len(losses) > 1:
            ax.plot(epochs, losses.T, color=colour, alpha=0.3, linewidth=0.8)
        ax.plot(epochs, losses.mean(axis=0), color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    sns.despine(ax=ax)
    return fig


def predicted_vs_true(ax: Axes, log_m200c, mean, sigma) -> None:
    """Predicted over true log_m200c, arrays (n,), with the running median and 16-84 range.

    `sigma` [dex], array (n,): its median is drawn as the typical error bar.
    """
    log_m200c, mean, sigma = (np.asarray(x, float) for x in (log_m200c, mean, sigma))
    low, high = log_m200c.min(), log_m200c.max()
    _clusters(ax, log_m200c, mean)
    ax.plot([low, high], [low, high], color=INK, linestyle="--", linewidth=1.2, label="one to one")
    _running_range(ax, log_m200c, mean)
    x, y = high - 0.12 * (high - low), low + 0.15 * (high - low)
    ax.errorbar(x, y, yerr=np.median(sigma), fmt="none", color=INK, capsize=4, linewidth=1.6)
    ax.annotate(
        f"typical 1σ\n{np.median(sigma):.2f} dex", (x, y), (-8, 0), textcoords="offset points", ha="right", va="center"
    )
    ax.set(xlabel="true " + LOG_M200C, ylabel="predicted " + LOG_M200C)
    ax.legend(loc="upper left")


def residuals(ax: Axes, log_m200c, residual) -> None:
    """Residual (predicted - true) [dex] over true log_m200c, arrays (n,): running median, 16-84 range."""
    log_m200c, residual = np.asarray(log_m200c, float), np.asarray(residual, float)
    _clusters(ax, log_m200c, residual)
    ax.axhline(0, color=INK, linestyle="--", linewidth=1.2)
    _running_range(ax, log_m200c, residual)
    reach = 1.05 * np.abs(residual).max()
    ax.set(xlabel="true " + LOG_M200C, ylabel="predicted − true [dex]", ylim=(-reach, reach))
    ax.legend(loc="upper right")


def coverage(ax: Axes, levels, covered) -> None:
    """Share of clusters whose truth lies in the central interval of each level; both in 0 to 1, arrays (n,)."""
    ax.plot([0, 100], [0, 100], color=INK, linestyle="--", linewidth=1.2, label="calibrated")
    ax.plot(100 * np.asarray(levels, float), 100 * np.asarray(covered, float), "o-", color=BLUE, label="found")
    ax.set(xlabel="credible level [%]", ylabel="clusters inside [%]", xlim=(0, 100), ylim=(0, 100), aspect="equal")
    ax.legend(loc="upper left")


# Parts


def _checked_image(image, ndim: int) -> np.ndarray:
    from cluster_tools.mocks.kde import PIXELS

    image, shape = np.asarray(image, float), (PIXELS,) * ndim
    if image.shape != shape:
        raise ClusterToolsError(
            f"image_{ndim}d has shape {image.shape}, but {shape} is expected: give one cluster's image, such as "
            f"phase_space_images(..., input_dim={ndim})[0]."
        )
    return image


def _title(ax: Axes, letter: str, text: str = "") -> None:
    bold = rf"$\bf{{{letter}}}$" if letter else ""
    ax.set_title("  ".join(filter(None, (bold, text))), loc="left")


def _density_map():
    import seaborn as sns

    return sns.color_palette(DENSITY, as_cmap=True)


def _phase_space_axes(ax: Axes) -> None:
    from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT

    ax.set(xlabel=R_PROJ, ylabel=V_LOS, xlim=(0, APERTURE), ylim=(-VELOCITY_CUT, VELOCITY_CUT))
    ax.set(xticks=[0, 1, 2], yticks=[-3000, -1500, 0, 1500, 3000])


def _aperture_on_the_sky(radius: float, *, centre_ra: float, centre_dec: float, distance: float):
    """Right ascension and declination [deg] of a circle of `radius` at comoving `distance` [Mpc/h]."""
    from astropy.coordinates import offset_by

    angles = np.linspace(0, 2 * np.pi, 181)
    ra, dec = offset_by(np.radians(centre_ra), np.radians(centre_dec), angles, radius / distance)
    return ra.to_value("deg"), dec.to_value("deg")


def _first_convolution(layers):
    return next((layer for layer in layers if "kernel_size" in layer["config"]), None)


def _architecture(ax: Axes, layers) -> None:
    """Layers from top to bottom; a box is the wider, the more numbers it passes on."""
    from matplotlib.patches import FancyBboxPatch

    first = _first_convolution(layers)
    # What a layer passes on is what the next one takes.
    taken = [layer["inbound_nodes"][0]["args"][0]["config"]["shape"] for layer in layers[1:]]
    shapes = [shape[1:] for shape in taken] + [[layers[-1]["config"]["units"]]]
    log_sizes = [np.log(np.prod(shape)) for shape in shapes]
    y, dropout_rate = 0.0, None
    for layer, shape, log_size in zip(layers, shapes, log_sizes, strict=True):
        gid = f"layer:{layer['name']}"
        if layer["class_name"] == "Dropout":
            dropout_rate = layer["config"]["rate"]
            ax.plot([-0.5, 0.5], [y - 0.19] * 2, color=GREEN, linestyle=(0, (2, 1.5)), linewidth=1.6, gid=gid)
            y -= 0.38
            continue
        name = _layer_name(layer, shape)
        width = 0.36 + 0.58 * log_size / max(log_sizes)
        height = 1 + 0.55 * name.count("\n")
        edge = {"edgecolor": RED, "linewidth": 2} if layer is first else {"edgecolor": BLUE, "linewidth": 1.2}
        corner, round_box = (-width / 2, y - height + 0.08), "round,pad=0,rounding_size=0.03"
        ax.add_patch(
            FancyBboxPatch(corner, width, height - 0.16, boxstyle=round_box, facecolor="#eef4f8", gid=gid, **edge)
        )
        ax.text(0, y - height / 2 - 0.02, name, ha="center", va="center", linespacing=1.15)
        y -= height
    if dropout_rate is not None:
        ax.text(0, y - 0.1, f"dashed: Dropout, rate {dropout_rate:g}", ha="center", va="top", color=GREEN)
        y -= 0.6
    ax.set(xlim=(-0.52, 0.52), ylim=(y, 0.05))
    ax.set_axis_off()


def _layer_name(layer, shape) -> str:
    name, config = layer["class_name"].removesuffix("Layer"), layer["config"]
    if "units" in config:
        return f"{name} {config['units']}"
    numbers = " × ".join(map(str, shape))
    if "kernel_size" in config:
        return f"{name}, {config['filters']} filters of {' × '.join(map(str, config['kernel_size']))}\n{numbers}"
    return f"{name} {numbers}"


def _posterior(ax: Axes, samples, mean: float, sigma: float, colour: str, label: str | None = None) -> None:
    """Density of the draws; under it mean and 1 sigma."""
    import seaborn as sns

    sns.kdeplot(x=np.ravel(samples).astype(float), ax=ax, color=colour, label=label, bw_adjust=1.3, linewidth=2)
    x, y = ax.lines[-1].get_data()
    inside = np.linspace(mean - sigma, mean + sigma, 101)
    ax.fill_between(inside, np.interp(inside, x, y), color=colour, alpha=0.25, linewidth=0)
    ax.plot([mean, mean], [0, np.interp(mean, x, y)], color=colour, linewidth=1.4)
    ax.set(yticks=[], ylabel="")
    sns.despine(ax=ax, left=True)


def _clusters(ax: Axes, x, y) -> None:
    """Many clusters as a density; the colour is logarithmic in their number."""
    ax.hexbin(x, y, gridsize=60, bins="log", mincnt=1, cmap=_density_map(), alpha=0.6, linewidths=0)


def _running_range(ax: Axes, x, y) -> None:
    """Median and 16-84 range of y in bins of 0.1 dex in x that hold at least 10 clusters."""
    edges = np.arange(np.floor(x.min() * 10), np.ceil(x.max() * 10) + 1) / 10
    which = np.digitize(x, edges)
    bins = [i for i in range(1, len(edges)) if (which == i).sum() >= 10]
    if not bins:
        return
    centres = (edges[:-1] + edges[1:])[np.array(bins) - 1] / 2
    low, middle, high = np.array([np.percentile(y[which == i], [16, 50, 84]) for i in bins]).T
    ax.fill_between(centres, low, high, color=ORANGE, alpha=0.35, linewidth=0, label="16 to 84%")
    ax.plot(centres, middle, color=ORANGE, linewidth=2.4, label="median")


def _kind_name(reweighted: bool, input_dim: int) -> str:
    return f"{input_dim}D{', re-weighted' if reweighted else ''}"


def _ours(posterior, offset: float) -> dict:
    """One of our estimates as a bar of `_estimate_rows`; Uchuu above MDPL2 in its row."""
    colour = SIMULATION_COLOURS[posterior.simulation]
    mean, sigma = float(posterior.mean), float(posterior.sigma)
    up = offset if posterior.simulation == "uchuu" else -offset
    return {"low": mean - sigma, "middle": mean, "high": mean + sigma, "colour": colour, "up": up}


def _literature_blocks(estimates: Iterable, monte_carlo: Iterable = ()) -> list[tuple[str, list]]:
    """Estimates as blocks (title, rows) of `_estimate_rows`: those of the paper, then later ones."""
    estimates = [*((e, False) for e in estimates), *((e, True) for e in monte_carlo)]
    blocks = []
    for title, later, colour in (("Before this work", False, INK), ("Since 2022", True, GREEN)):
        rows: dict[tuple, tuple] = {}
        chosen = ((e, sampled) for e, sampled in estimates if bool(e.later) is later)
        for e, sampled in sorted(chosen, key=lambda pair: pair[0].year):
            name = e.label if str(e.year) in e.label else f"{e.label} {e.year}"
            low, middle, high = np.log10([e.m200c_lo, e.m200c, e.m200c_hi])
            bar = {"low": low, "middle": middle, "high": high, "colour": colour}
            bar |= {"light": e.variant == "relaxed", "open": later, "published": not sampled}
            if sampled:  # thin bars under the row's own: those of both variants one below the other
                bar |= {"capped": True, "colour": RED, "up": -0.36 if e.variant == "relaxed" else -0.2}
            key = (name, e.method)
            rows.setdefault(key, (name + "*" * bool(e.reconstructed), _short(e.method), []))[2].append(bar)
        if rows:
            blocks.append((title, list(rows.values())))
    return blocks


def _short(method: str) -> str:
    """A method without the data that it was applied to, the first of several: for labels."""
    first, *others = method.split(" (")[0].split(", ")
    return f"{first}, ..." if others else first


def _estimate_rows(ax: Axes, blocks, between: str, mass=None) -> None:
    """Rows of masses with their 16-84 ranges, top to bottom, in titled blocks (title, rows).

    A row is (label, method, bars), with the text `between` label and method; a bar is a dict: low,
    middle, high [log10 Msun/h], colour and, if wanted, light (the relaxed variant), open (its
    marker), up (shift within the row), capped (a thin bar without marker) and published (its
    tension with `mass` is written at the end of the row).
    """
    from cluster_tools.coma.literature import tension

    ends = [bar[end] for _, rows in blocks for *_, bars in rows for bar in bars for end in ("low", "high")]
    left, right = min(ends, default=14.0), max(ends, default=15.5)
    margin = 0.05 * (right - left)
    end = right + margin * (1 if mass is None else 5)
    y, ticks = 0.0, {}
    if mass is not None:
        ax.axvspan(mass[0] - mass[1], mass[0] + mass[2], color=BLUE, alpha=0.12, linewidth=0, zorder=0)
    for title, rows in blocks:
        ax.text(0.02, y, title, transform=ax.get_yaxis_transform(), ha="left", va="center", fontweight="bold")
        for label, method, bars in rows:
            y -= 1
            ticks[y] = between.join(filter(None, (label, method)))
            for bar in sorted(bars, key=lambda bar: not bar.get("light")):
                at, light, colour = y + bar.get("up", 0), bar.get("light"), bar["colour"]
                if bar.get("capped"):
                    ends = [bar["low"], bar["middle"], bar["high"]]
                    ax.plot(ends, [at] * 3, "|-", color=colour, linewidth=1, markersize=5)
                    continue
                ax.plot(
                    [bar["low"], bar["high"]],
                    [at, at],
                    color=colour,
                    alpha=0.3 if light else 1,
                    linewidth=6 if light else 2,
                    solid_capstyle="butt",
                )
                if not light or len(bars) == 1:
                    face = "white" if bar.get("open") else colour
                    ax.plot(bar["middle"], at, "o", color=colour, markerfacecolor=face, markersize=6)
                    if mass is not None and bar.get("published"):
                        low, middle, high = bar["low"], bar["middle"], bar["high"]
                        apart = tension((middle, middle - low, high - middle), mass)
                        ax.text(end - 0.2 * margin, y, f"{apart:.1f}σ", ha="right", va="center", fontsize=10)
        y -= 1.2
    ax.set_yticks(list(ticks), list(ticks.values()), linespacing=1.05)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(left - margin, end), ylim=(y + 0.6, 0.7), xlabel=LOG_M200C)
    top = ax.secondary_xaxis("top", functions=(_mass, _log_mass))
    top.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    top.set_xlabel(r"$M_\mathrm{200c}$ [$10^{15}\,h^{-1}\,\mathrm{M}_\odot$]")


def _mass(log_m200c):
    return 10.0 ** (np.asarray(log_m200c, float) - 15)


def _log_mass(mass):
    return 15 + np.log10(np.maximum(mass, 1e-6))
