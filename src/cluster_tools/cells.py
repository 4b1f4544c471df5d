"""Numbers from the cells of a table as people write them: words for missing values, sexagesimal angles, commas."""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np

# A cell of dots, dashes, stars or question marks alone, or one of these words, says that there is no value.
MISSING = re.compile(
    r"[-–—.*?\s]*|nan|nul+|none|nil|n/?a|<na>|nat|miss(ing)?|masked|no ?data|no ?value|undef(ined)?|unknown|indef|\\n",
    re.IGNORECASE,
)
HOURS, DEGREES = "hours", "degrees"  # the unit of the first number of an angle
ANGLE = re.compile(
    r"""(?P<sign>[-+]?)\s*(?P<whole>\d{1,3})\s*(?P<unit>[hd°:\s])\s*(?P<minutes>\d{1,2}(?:\.\d*)?)
        (?:\s*[m'′:\s]\s*(?P<seconds>\d{1,2}(?:\.\d*)?))?\s*(?:[ms"″'′]|'')?""",
    re.VERBOSE,
)
COMMA = re.compile(r"[-+]?\d*,(\d+)")  # a decimal comma


def is_missing(cell) -> bool:
    """Whether a cell says that there is no value: None, NaN, a masked or empty cell, or a word such as ``null``."""
    return cell is None or cell is np.ma.masked or bool(MISSING.fullmatch(text(cell)))


def text(cell) -> str:
    """A cell as text without outer blanks, quotation marks and other signs that mean the same."""
    cell = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
    return cell.replace("\ufeff", "").replace("\u2212", "-").replace("\xa0", " ").strip().strip('"').strip()


def angle(cell: str, hours: bool) -> float:
    """Degrees of a sexagesimal angle such as ``-22:06:00``, ``10h01m12s`` or ``10 01 12.5``.

    With `hours`, one without ``h``, ``d`` or a degree sign is in hours. Raises `ValueError` for any other text.
    """
    parts = ANGLE.fullmatch(cell)
    if not parts:
        raise ValueError(f"{cell!r} is no angle")
    minutes, seconds = float(parts["minutes"]), float(parts["seconds"] or 0)
    if minutes >= 60 or seconds >= 60:
        raise ValueError(f"{cell!r} has 60 minutes or seconds")
    value = int(parts["whole"]) + minutes / 60 + seconds / 3600
    hours = parts["unit"] == "h" or (hours and parts["unit"] not in "d°")
    return (-1 if parts["sign"] == "-" else 1) * value * (15 if hours else 1)


def are_angles(values) -> bool:
    """Whether a column is text of sexagesimal angles, by its first hundred cells."""
    return np.asanyarray(values).dtype.kind in "OSU" and any(ANGLE.fullmatch(text(cell)) for cell in values[:100])


def numbers(values, sexagesimal: str | None = None) -> np.ndarray:
    """Cells (n,) of any type as float64 array (n,), NaN where a value is missing.

    Parameters
    ----------
    values : array or masked array (n,)
        Numbers, or text as in a file.
    sexagesimal : str, optional
        `HOURS` or `DEGREES`: the unit of angles such as ``10:01:12`` where they do not say it; the result is in
        degrees. By default, such angles are no numbers.

    Raises
    ------
    NotANumber
        For the first cell that is none of these, and for arrays of another shape or of truth values.
    """
    values = np.ma.asanyarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iufOSU":
        raise NotANumber(0, values.ravel()[0] if values.size else "nothing")
    if values.dtype.kind in "iuf":
        return values.astype(float).filled(np.nan)
    cells = values.tolist()
    if set(map(type, cells)) <= {str, float}:
        with suppress(ValueError):
            return np.array(list(map(float, cells)))
    commas = _has_decimal_commas(cells)
    return np.array([_number(row, cell, sexagesimal, commas) for row, cell in enumerate(cells)], float)


def _has_decimal_commas(cells) -> bool:
    """Whether commas are decimal: in each cell that has one it is, and not all could group thousands."""
    found = [COMMA.fullmatch(text(cell)) for cell in cells if isinstance(cell, str | bytes) and "," in text(cell)]
    return bool(found) and all(found) and any(len(comma[1]) != 3 for comma in found)


def _number(row: int, cell, sexagesimal: str | None, commas: bool) -> float:
    try:
        if isinstance(cell, bool | complex | np.bool_):
            raise TypeError
        if not isinstance(cell, str | bytes) and not is_missing(cell):
            return float(cell)
        if is_missing(cell):
            return np.nan
        cell = text(cell)
        if commas:
            cell = cell.replace(",", ".")
        if re.fullmatch(r"[-+.\d]+[dD][-+]?\d+", cell):  # Fortran's exponent
            cell = re.sub("[dD]", "e", cell)
        if sexagesimal and ANGLE.fullmatch(cell):
            return angle(cell, sexagesimal == HOURS)
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        raise NotANumber(row, cell) from None


class NotANumber(ValueError):
    """A cell that is no number, in this row (from 0)."""

    def __init__(self, row: int, cell):
        super().__init__(f"{text(cell)[:40]!r} in row {row + 1}")
