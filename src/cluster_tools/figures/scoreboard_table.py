"""The table of the scoreboard chapter: every number of the paper beside ours."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cluster_tools.coma.scoreboard import STATUSES

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler


def scoreboard_table(board: pd.DataFrame) -> Styler:
    """The scoreboard as a table for a page: remarks below the numbers, sections as headings.

    Parameters
    ----------
    board : DataFrame
        From `scoreboard.rows`.

    Returns
    -------
    Styler
        Four columns of escaped HTML; the status links to the chapter.
    """
    board = board.sort_values("section", key=lambda column: pd.factorize(column)[0], kind="stable")
    cells = []
    for row, first in zip(board.itertuples(), board["section"] != board["section"].shift(), strict=True):
        remark = " ".join(filter(None, (row.slip and f"Slip: {row.slip}", row.remark)))
        difference = "" if np.isnan(row.difference) else f" ({row.difference:+.1f} σ)".replace("-", "−")
        mark = f"{STATUSES[row.status][1]} {row.status}"
        if row.page:
            mark += f'<br><a href="{row.page.replace("#", ".html#")}">chapter {int(row.page[:2])}</a>'
        cells.append({
            "number": f'<div class="section">{escape(row.section)}</div>' * first + escape(row.quantity)
            + f'<div class="remark">{escape(remark)}</div>' * bool(remark),
            "published": escape(row.published),
            "here": escape(row.ours) + difference,
            "status": mark,
        })  # fmt: skip
    frame = pd.DataFrame(cells)
    colours = [f"background-color: {STATUSES[status][2]}; color: #111" for status in board["status"]]
    return (
        frame.style.set_uuid("scoreboard")
        .hide()
        .apply(lambda column: colours, subset=["status"])
        .set_table_attributes('class="scoreboard"')
    )
