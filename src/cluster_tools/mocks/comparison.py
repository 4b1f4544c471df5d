"""Tables that compare measured with published numbers: one row a comparison, and its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("measure", "quantity", "log_m200c", "found", "error", "expected", "tolerance", "within", "source")
NAN = float("nan")


def comparison_table(*parts) -> DataFrame:
    """Table of measures, each followed by rows of up to seven values, from quantity to source.

    The tolerance of a row is relative to the expected value, absolute where that is zero.
    """
    import pandas as pd

    rows = [
        (measure, *row, *(NAN, NAN, NAN, "")[len(row) - 3 :])
        for measure, rows in zip(parts[::2], parts[1::2])
        for row in rows
    ]
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "within"])
    table = table.astype(dict.fromkeys(COLUMNS[2:7], float))
    table["tolerance"] *= table["expected"].abs().replace(0, 1)
    off, error, allowed = (table["found"] - table["expected"]).abs(), table["error"], table["tolerance"]
    yes = (off <= allowed) & (error <= allowed)
    within = np.select([~np.isfinite(off + allowed), off > allowed + 2 * error, yes], ["-", "no", "yes"], "undecided")
    table.insert(7, "within", within)
    return table


def select(table: DataFrame, *measures: str) -> DataFrame:
    """The rows of `table` that belong to these measures."""
    return table[table["measure"].isin(measures)]


def formatted(rows: DataFrame) -> DataFrame:
    """Rows of `table` as text: numbers to two digits of their error, or of the tolerance."""

    def text(value, error):
        if np.isnan(value) or not error > 0:  # NaN, too
            return "-" if np.isnan(value) else f"{value:.4g}"
        decimals = max(1 - int(np.floor(np.log10(error))), 0)
        return f"{value:.{decimals}f} ± {error:.{decimals}f}"

    columns = {
        "log M200c": ["-" if np.isnan(m) else f"{m:g}" for m in rows["log_m200c"]],
        "found": [text(*pair) for pair in rows[["found", "error"]].to_numpy()],
        "expected": [text(*pair) for pair in rows[["expected", "tolerance"]].to_numpy()],
    }
    return rows.assign(**columns)[["quantity", *columns, "within", "source"]].reset_index(drop=True)


def count(rows: DataFrame) -> dict[str, int]:
    """Numbers of rows that are "yes", "no" and "undecided"."""
    return {word: int((rows["within"] == word).sum()) for word in ("yes", "no", "undecided")}


def verdict(rows: DataFrame) -> str:
    """The result of `count` in a sentence."""
    number = count(rows)
    return (
        f"within their tolerance: {number['yes']} of {sum(number.values())} comparisons; beyond it: {number['no']}; "
        f"undecided in a box of this size: {number['undecided']}"
    )
