"""The numbers of a figure as a tidy table that readers can download.

After `store_with_figures` in a notebook, an output with a figure holds a picture and a CSV text. Jupyter shows the
picture, and the book offers the text below it (`cluster_tools.book.pages`). Functions that draw more than points and
lines give their numbers to `record`; a figure without any has no text, and no link.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cluster_tools.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIME_TYPE = "application/vnd.cluster-tools.figure-data"  # no viewer knows it, so all show the picture


def store_with_figures() -> None:
    """Store figures of this notebook with their numbers, and with pixels for dense screens; only in Jupyter.

    Pictures have 256 colours, so that a notebook with many stays small.
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
        format_type = Unicode(MIME_TYPE)

        def __call__(self, displayed):
            return (csv(displayed) or None) if isinstance(displayed, Figure) else None

    shell.display_formatter.formatters[MIME_TYPE] = FigureData(parent=shell.display_formatter)
    set_matplotlib_formats("retina")  # twice the pixels of the size on the page
    png = shell.display_formatter.formatters["image/png"]
    draw = png.lookup_by_type(Figure)

    def drawn(fig: Figure):
        if (picture := draw(fig)) is not None:  # it is None for a figure without axes
            encoded, metadata = picture
            return base64.b64encode(in_256_colours(base64.b64decode(encoded))).decode("ascii"), metadata

    png.for_type(Figure, drawn)


def in_256_colours(png: bytes) -> bytes:
    """A picture in PNG with the 256 colours that suit it best, which takes a third of the room."""
    from PIL import Image

    smaller = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        colours = image.convert("RGB").quantize(method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    colours.save(smaller, "png", optimize=True)
    return smaller.getvalue()


def record(ax: Axes, table: Mapping) -> None:
    """Give the numbers of the panel `ax`, in place of those read off its artists; more tables follow the first.

    `table` maps names of columns, with units in brackets as in ``v_los [km/s]``, to columns of one length or single
    values; a DataFrame is one.
    """
    ax.numbers = [*getattr(ax, "numbers", []), table]  # pandas, which a light installation lacks, waits for `csv`


def csv(fig: Figure) -> str:
    """The numbers of a figure as CSV text with named columns; empty if there are none.

    The column ``panel`` has the title of a panel or its number, if there are several.
    """
    import pandas as pd

    tables = []
    for number, ax in enumerate(fig.axes, start=1):
        title = plain(ax.get_title() or ax.get_title("left") or ax.get_title("right")) or str(number)
        recorded = [pd.DataFrame(table) for table in getattr(ax, "numbers", None) or _series(ax)]
        tables += [table.assign(panel=title)[["panel", *table]] for table in recorded if len(table)]
    if not tables:
        return ""
    together = pd.concat(tables, ignore_index=True).dropna(axis="columns", how="all")
    if together["panel"].nunique() == 1:
        together = together.drop(columns="panel")
    return together.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def plain(label: str) -> str:
    """A label of an axis without LaTeX, as ``log10 M200c [Msun/h]``."""
    words = {style.LOG_M200C: "log10 M200c [Msun/h]", style.R_PROJ: "R_proj [Mpc/h]", style.V_LOS: "v_los [km/s]"}
    words |= {r"\mathrm{M}_\odot": "Msun", r"\log_{10}": "log10", r"\sigma": "sigma", r"\langle": "<", r"\rangle": ">"}
    for latex, word in words.items():
        label = label.replace(latex, word)
    return " ".join(re.sub(r"\\[a-z]+|[${}]", "", re.sub(r"\\[,; ]", " ", label)).split())


def _axis_label(ax: Axes, which: str) -> str:
    """The label of an axis, or else that of a panel that shares it."""
    sharing = [ax, *getattr(ax, f"get_shared_{which}_axes")().get_siblings(ax)]
    return next(filter(None, (plain(getattr(each, f"get_{which}label")()) for each in sharing)), which)


def _series(ax: Axes) -> Iterator[pd.DataFrame]:
    """A table of each line, set of points, series with error bars, and stairs in data coordinates."""
    import pandas as pd
    from matplotlib.collections import PathCollection
    from matplotlib.container import ErrorbarContainer
    from matplotlib.patches import StepPatch

    if ax.get_label() == "<colorbar>":
        return
    names = [_axis_label(ax, "x"), _axis_label(ax, "y")]
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    parts = {part for bar in bars for part in (bar[0], *bar[1]) if part is not None}
    for artist in [*bars, *ax.lines, *ax.collections, *ax.patches]:
        if artist in parts:
            continue
        columns: dict = {}
        if isinstance(artist, ErrorbarContainer):
            if artist[0] is None:
                continue
            columns = dict(zip(names, artist[0].get_data(orig=False)))
            for axis, line in zip(np.flatnonzero([artist.has_xerr, artist.has_yerr]), artist[2]):
                # A bar whose end is NaN has no points.
                ends = [bar[:, axis] if np.ndim(bar) == 2 else (np.nan, np.nan) for bar in line.get_segments()]
                ends = np.array(ends).reshape(-1, 2)
                columns |= {f"{names[axis]}, {end}": ends[:, i] for i, end in enumerate(("lower end", "upper end"))}
        elif artist in ax.lines and all(artist.get_transform().contains_branch_seperately(ax.transData)):
            columns = dict(zip(names, artist.get_data(orig=False)))
        elif isinstance(artist, PathCollection):
            columns = dict(zip(names, np.asarray(artist.get_offsets()).T))
        elif isinstance(artist, StepPatch):
            values, edges, _ = artist.get_data()
            columns = {f"{names[0]}, from": edges[:-1], f"{names[0]}, to": edges[1:], names[1]: values}
        if columns:
            label = str(artist.get_label())
            series = {} if not label or label.startswith("_") else {"series": plain(label)}
            yield pd.DataFrame(series | {name: np.ravel(values) for name, values in columns.items()})
