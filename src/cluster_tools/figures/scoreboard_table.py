"""The tables of the scoreboard chapter: numbers of the paper beside ours."""

from html import escape

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from cluster_tools.coma.scoreboard import STATUSES


def scoreboard_table(board: pd.DataFrame) -> Styler:
    """Rows of `scoreboard.rows` as a table for a page: those that differ first, remarks below the numbers.

    Its four columns of escaped HTML begin with the status, so that a phone shows it; it links to the chapter.
    """
    order = {status: rank for rank, status in enumerate(STATUSES)}
    board = board.sort_values("status", key=lambda column: column.map(order), kind="stable")
    cells = []
    for row in board.itertuples():
        remark = " ".join(filter(None, (row.slip and f"Slip: {row.slip}", row.remark)))
        difference = "" if np.isnan(row.difference) else f" ({row.difference:+.1f} σ)".replace("-", "−")
        status = f"{STATUSES[row.status][1]} {row.status}"
        cells.append({
            "status": f'<a href="{row.page.replace("#", ".html#")}">{status}</a>' if row.page else status,
            "number": escape(row.quantity) + f'<div class="remark">{escape(remark)}</div>' * bool(remark),
            "published": escape(row.published),
            "here": escape(row.ours) + difference,
        })  # fmt: skip
    colours = [f"background-color: {STATUSES[status][2]}; color: #111" for status in board["status"]]
    style = pd.DataFrame(cells).style.hide().set_table_attributes('class="scoreboard"')
    return style.apply(lambda column: colours, subset=["status"])


def table1_statuses(board: pd.DataFrame) -> pd.DataFrame:
    """Count the statuses of the eight numbers in each column of Table 1, from rows of `scoreboard.rows`."""
    rows = board[board["id"].str.startswith("table1_")]
    column = rows["quantity"].str.split(": ").str[1].rename("column of Table 1")
    counts = pd.crosstab(column, rows["status"]).reindex(columns=list(STATUSES)[:3], fill_value=0)
    return counts.loc[column.unique()].reset_index()
