"""The numbers behind a figure, as a table that readers can download.

A figure takes its table along: once `take_along` has been called in a notebook, each figure that
the notebook shows is stored as a picture and as a CSV text, side by side in one output. Jupyter
shows the picture; the book offers the text below it (`pages`). Nothing is read off the pixels, and
no chapter has to write a file for each of its figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIME = "application/vnd.cluster-tools.figure-data"  # no viewer knows it, so all show the picture
FORMAT = "%.6g"  # of numbers; a figure shows fewer digits


def take_along() -> None:
    """Let the figures that this notebook shows carry their numbers, and be sharp on dense screens.

    Does nothing outside Jupyter.
    """
    from IPython import get_ipython
    from IPython.core.formatters import BaseFormatter
    from matplotlib.figure import Figure
    from traitlets import Unicode

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    class FigureData(BaseFormatter):
        format_type = Unicode(MIME)

        def __call__(self, shown):
            return csv(shown) if isinstance(shown, Figure) else None

    shell.display_formatter.formatters[MIME] = FigureData(parent=shell.display_formatter)
    set_matplotlib_formats("retina")  # twice the pixels of the size that is shown


def csv(fig: Figure) -> str:
    """All that a figure shows as CSV text: ``panel, series, mark, x, y, value``.

    Lines that begin with ``#`` say what the axes of each panel are. Coordinates that are not data
    (the ends of a line across the whole panel) are empty. `value` is what a colour stands for: the
    level of a contour, the density of a pixel (``x, y`` are its centre), the height of a bar's base.
    """
    head, rows = [], []
    for number, ax in enumerate(fig.axes, start=1):
        found = list(_series(ax))
        if found:
            title = ax.get_title() or ax.get_title("left") or ax.get_title("right")
            head.append(
                f"# panel {number}: {title + ': ' if title else ''}x = {ax.get_xlabel()}, y = {ax.get_ylabel()}"
            )
        for series, mark, x, y, value in found:
            series = '"' + series.replace('"', "'").replace("\n", " ") + '"'
            for point in np.broadcast(x, y, value):
                rows.append(",".join([str(number), series, mark, *map(_number, point)]))
    return "\n".join([*(line.replace("\n", " ") for line in head), "panel,series,mark,x,y,value", *rows]) + "\n"


def _number(value: float) -> str:
    return FORMAT % value if np.isfinite(value) else ""


def _series(ax: Axes) -> Iterator[tuple]:
    """Name, kind, x, y and value of all that is drawn with data in a panel."""
    from matplotlib.collections import PathCollection, QuadMesh
    from matplotlib.contour import ContourSet
    from matplotlib.patches import Rectangle, StepPatch

    for number, artist in enumerate([*ax.lines, *ax.collections, *ax.patches, *ax.images], start=1):
        name = str(artist.get_label())
        name = f"{number}" if not name or name.startswith("_") else name
        none = np.nan
        if artist in ax.lines:
            x, y = artist.get_xdata(orig=False), artist.get_ydata(orig=False)
            yield from _in_data(ax, artist.get_transform(), name, "line", x, y, none)
        elif isinstance(artist, QuadMesh):
            corners = np.asarray(artist.get_coordinates())
            x, y = np.moveaxis((corners[:-1, :-1] + corners[1:, 1:]) / 2, -1, 0)
            yield name, "pixel", x.ravel(), y.ravel(), _numbers(artist.get_array()).ravel()
        elif isinstance(artist, PathCollection):
            x, y = np.asarray(artist.get_offsets(), float).reshape(-1, 2).T
            value = artist.get_array()
            value = none if value is None or len(value) != len(x) else _numbers(value)
            yield from _in_data(ax, artist.get_offset_transform(), name, "point", x, y, value)
        elif isinstance(artist, ContourSet):
            for path, level in zip(artist.get_paths(), artist.levels):
                yield name, "contour", *path.vertices.T, level
        elif artist in ax.collections:
            for path in artist.get_paths():
                yield from _in_data(ax, artist.get_transform(), name, "outline", *path.vertices.T, none)
        elif isinstance(artist, StepPatch):
            values, edges, _ = artist.get_data()
            yield name, "step", edges, np.append(values, none), none
        elif isinstance(artist, Rectangle):
            x, y, width, height = artist.get_x(), artist.get_y(), artist.get_width(), artist.get_height()
            transform = artist.get_data_transform()
            yield from _in_data(ax, transform, name, "bar", [x + width / 2], [y + height], y)
        elif artist in ax.patches:
            vertices = artist.get_patch_transform().transform(artist.get_path().vertices)
            yield from _in_data(ax, artist.get_data_transform(), name, "outline", *vertices.T, none)
        else:
            left, right, bottom, top = artist.get_extent()
            values = _numbers(artist.get_array())
            if values.ndim == 2:  # else a picture, not data
                rows, columns = values.shape
                x = left + (np.arange(columns) + 0.5) * (right - left) / columns
                y = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
                y = y if artist.origin == "lower" else y[::-1]
                x, y = np.meshgrid(x, y)
                yield name, "pixel", x.ravel(), y.ravel(), values.ravel()


def _in_data(ax: Axes, transform, name: str, mark: str, x, y, value) -> Iterator[tuple]:
    """One series, without the coordinates that are not data, if any are."""
    x_is_data, y_is_data = transform.contains_branch_seperately(ax.transData)
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) and (x_is_data or y_is_data):
        yield name, mark, x if x_is_data else np.nan, y if y_is_data else np.nan, value


def _numbers(values) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(values, float), np.nan)
