"""The numbers of a figure as a table that readers can download.

After `store_with_figures` in a notebook, an output with a figure holds a picture and a CSV text. Jupyter shows the
picture, and the book offers the text below it (`cluster_tools.book.pages`). Nothing is read off the pixels, and no
chapter has to write a file for each of its figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIME_TYPE = "application/vnd.cluster-tools.figure-data"  # no viewer knows it, so all show the picture


def store_with_figures() -> None:
    """Store figures of this notebook with their numbers, and with pixels for dense screens; only in Jupyter."""
    from IPython import get_ipython
    from IPython.core.formatters import BaseFormatter
    from matplotlib.figure import Figure
    from traitlets import Unicode

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    class FigureData(BaseFormatter):
        format_type = Unicode(MIME_TYPE)

        def __call__(self, displayed):
            return csv(displayed) if isinstance(displayed, Figure) else None

    shell.display_formatter.formatters[MIME_TYPE] = FigureData(parent=shell.display_formatter)
    set_matplotlib_formats("retina")  # twice the pixels of the size on the page


def csv(fig: Figure) -> str:
    """Return the data of a figure as CSV text with the columns ``panel, series, mark, x, y, value``.

    Lines that begin with ``#`` name the axes of each panel. Coordinates that are not data (the ends of a line across
    the whole panel) are empty. `value` is the number behind a colour, such as the density of a pixel with its centre
    at ``x, y``, or the height of a bar's base.
    """
    head, rows = [], []
    for number, ax in enumerate(fig.axes, start=1):
        panel = [
            ",".join([str(number), '"' + name.replace('"', "'").replace("\n", " ") + '"', mark, *map(_number, point)])
            for name, mark, x, y, value in _series(ax)
            for point in np.broadcast(x, y, value)
        ]
        if panel:
            title = ax.get_title() or ax.get_title("left") or ax.get_title("right")
            text = f"{title + ': ' if title else ''}x = {ax.get_xlabel()}, y = {ax.get_ylabel()}"
            head.append(f"# panel {number}: {text}".replace("\n", " "))
            rows += panel
    return "\n".join([*head, "panel,series,mark,x,y,value", *rows]) + "\n"


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def _series(ax: Axes) -> Iterator[tuple]:
    """Yield name, mark, x, y and value of all artists of a panel that are drawn in its data coordinates."""
    from matplotlib.collections import PathCollection, QuadMesh
    from matplotlib.patches import Rectangle, StepPatch

    for number, artist in enumerate([*ax.lines, *ax.collections, *ax.patches], start=1):
        transform, value = artist.get_transform(), np.nan
        if artist in ax.lines:
            parts = [("line", artist.get_xdata(orig=False), artist.get_ydata(orig=False))]
        elif isinstance(artist, QuadMesh):
            corners = np.asarray(artist.get_coordinates())
            parts = [("pixel", *((corners[:-1, :-1] + corners[1:, 1:]) / 2).reshape(-1, 2).T)]
            value, transform = np.ma.filled(np.ma.asarray(artist.get_array(), float), np.nan).ravel(), ax.transData
        elif isinstance(artist, PathCollection):
            parts, transform = [("point", *np.asarray(artist.get_offsets()).T)], artist.get_offset_transform()
            colours = artist.get_array()
            if colours is not None and len(colours) == len(artist.get_offsets()):
                value = np.ma.filled(np.ma.asarray(colours, float), np.nan)
        elif artist in ax.collections:
            parts = [("outline", *path.vertices.T) for path in artist.get_paths()]
        elif isinstance(artist, StepPatch):
            values, edges, _ = artist.get_data()
            parts, transform = [("step", edges, np.append(values, np.nan))], ax.transData
        elif isinstance(artist, Rectangle):
            x, value, transform = artist.get_x() + artist.get_width() / 2, artist.get_y(), artist.get_data_transform()
            parts = [("bar", [x], [value + artist.get_height()])]
        else:
            vertices = artist.get_patch_transform().transform(artist.get_path().vertices)
            parts, transform = [("outline", *vertices.T)], artist.get_data_transform()
        label = str(artist.get_label())
        x_is_data, y_is_data = transform.contains_branch_seperately(ax.transData)
        for mark, x, y in parts:
            if len(x) and (x_is_data or y_is_data):
                x, y = (np.asarray(c, float) if is_data else np.nan for c, is_data in ((x, x_is_data), (y, y_is_data)))
                yield str(number) if not label or label.startswith("_") else label, mark, x, y, value
