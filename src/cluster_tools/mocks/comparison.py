"""Tables that compare measured with published numbers: one row a comparison, and its verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = ("measure", "quantity", "log_m200c", "found", "error", "expected", "tolerance", "within", "source")
NAN = float("nan")
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def comparison_table(*parts) -> pd.DataFrame:
    """Table from names of measures, each followed by its rows: 3 to 7 values, from quantity to source of `COLUMNS`.

    The tolerance of a row is relative to the expected value, absolute where that is zero.
    """
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


def select(table: pd.DataFrame, *measures: str) -> pd.DataFrame:
    """The rows of `table` that belong to these measures."""
    return table[table["measure"].isin(measures)]


def formatted(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as text: numbers to two digits of their error, or of the tolerance, and at most four decimals."""

    def text(value, error):
        if np.isnan(value) or not error > 0:  # NaN, too
            return "–" if np.isnan(value) else f"{value:.3g}"
        small = 0 < abs(value) < 0.01
        power = int(np.floor(np.log10(abs(value)))) if small else 0
        value, error = value / 10.0**power, error / 10.0**power
        decimals = int(np.clip(1 - np.floor(np.log10(error)), 0, 4))
        shown = f"{value:.{decimals}f} ± {max(error, 10.0**-decimals):.{decimals}f}"
        return f"({shown}) × 10{str(power).translate(SUPERSCRIPT)}" if small else shown

    columns = {
        "log M200c": ["–" if np.isnan(m) else f"{m:.2f}" for m in rows["log_m200c"]],
        "found": [text(*pair) for pair in rows[["found", "error"]].to_numpy()],
        "expected": [text(*pair) for pair in rows[["expected", "tolerance"]].to_numpy()],
    }
    quantity = rows["quantity"].str.replace(r"^sigma (members|cylinder)$", r"σ of \1 [km/s]", regex=True)
    rows = rows.assign(**columns, quantity=quantity, within=rows["within"].replace("-", "–"))
    return rows[["quantity", *columns, "within", "source"]].reset_index(drop=True)


def count(rows: pd.DataFrame) -> dict[str, int]:
    """Numbers of rows that are "yes", "no" and "undecided"."""
    return {word: int((rows["within"] == word).sum()) for word in ("yes", "no", "undecided")}


def verdict(rows: pd.DataFrame) -> str:
    """The result of `count` in a sentence."""
    number = count(rows)
    return (
        f"within their tolerance: {number['yes']} of {sum(number.values())} comparisons; beyond it: {number['no']}; "
        f"undecided in a box of this size: {number['undecided']}"
    )
