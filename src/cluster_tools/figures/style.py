"""The look of all figures: colours, labels of the axes, and matplotlib's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

WIDTH = 7.2  # inches: 11 point letters then stay legible where the page is 360 pixels wide
NARROW = 5.2  # of a tall figure: half as large again on a phone
LOG_M200C = r"$\log_{10}\,[M_\mathrm{200c}\,/\,(h^{-1}\,\mathrm{M}_\odot)]$"
SHORT_LOG_M200C = r"$\log_{10} M_\mathrm{200c}$"  # where the unit stands on another axis of the figure
V_LOS = r"$v_\mathrm{los}$ [km s$^{-1}$]"
R_PROJ = r"$R_\mathrm{proj}$ [$h^{-1}$ Mpc]"

# seaborn's "colorblind" palette, by name.
BLUE, ORANGE, GREEN, RED, GREY, INK = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#949494", "#333333"
SIMULATION_COLOURS = {"uchuu": BLUE, "mdpl2": ORANGE}


def set_theme() -> None:
    """Set matplotlib's defaults for a chapter: seaborn's ticks style, safe colours, opaque white.

    In Jupyter the figures that the chapter shows are stored with their numbers as well; see
    `cluster_tools.figures.figure_data`.
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
        "legend.frameon": False,
        "lines.linewidth": 1.8,
    }
    # Labels and titles have 12 points, ticks and legends 11.
    sns.set_theme(context="paper", style="ticks", palette="colorblind", font_scale=1.25, rc=rc)
    figure_data.store_with_figures()


def density_map() -> Colormap:
    """Return seaborn's map for densities: the darker, the denser, in colour and in grey.

    A light installation has no seaborn, and takes a similar map of matplotlib.
    """
    try:
        import seaborn as sns
    except ModuleNotFoundError:
        import matplotlib

        return matplotlib.colormaps["YlGnBu"]
    return sns.color_palette("mako_r", as_cmap=True)


def reference_line(ax: Axes, *, x: float | None = None, y: float | None = None, **options) -> None:
    """Draw a dashed line across the panel at `x` or at `y`, such as the value of a perfect model."""
    options = {"color": INK, "linestyle": "--", "linewidth": 1.2} | options
    if x is not None:
        ax.axvline(x, **options)
    if y is not None:
        ax.axhline(y, **options)
