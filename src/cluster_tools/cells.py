"""Numbers and units from the cells of a table as people write them.

There are words for missing values, sexagesimal angles, commas, and units in many spellings.
"""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np
from astropy import units as u

# A cell of dots, dashes, colons, stars or question marks alone, or one of these words, says that there is no value.
MISSING = re.compile(
    r"[-–—.:*?\s]*|nan|nul+|none|nil|n/?a|<na>|nat|miss(ing)?|masked|no ?data|no ?value|undef(ined)?|unknown|indef|nd|"
    r"#(n/a|value!|div/0!|ref!|num!|name\?|null!)|\\(n|nodata|l?dots)",
    re.IGNORECASE,
)
# Signs that mean the same as others, or nothing.
SAME = str.maketrans({"\ufeff": "", "$": "", "\u2212": "-", "\xa0": " ", "\u02b0": "h", "\u1d50": "m", "\u02e2": "s"})
QUOTED = re.compile(r"b?'(.*)'")  # single quotation marks, and bytes as Python prints them
# What may follow a number: its error, a sign that it is uncertain or has a note, degrees.
FOLLOWED = re.compile(r"(.*?)(?:(?:±|\+/?-|\\pm).*|\(\d+\)|[:?*]{1,2}|\^\{?[a-z]\}?|°|deg)", re.IGNORECASE)
LONGEST = 200  # characters; a longer cell is no number, and its pattern would be looked for in vain for minutes
HOURS, DEGREES = "hours", "degrees"  # the unit of the first number of an angle
ANGLE = re.compile(
    r"""(?P<sign>[-+]?)\s*(?P<whole>\d{1,3})\s*(?P<unit>[hd°:\s])\s*(?P<minutes>[0-5]?\d(?:\.\d*)?)
        (?:\s*[m'′:\s]\s*(?P<seconds>[0-5]?\d(?:\.\d*)?))?\s*(?:[ms"″'′]|'')?""",
    re.VERBOSE,
)  # such as ``-22:06:00``, ``10h01m12s`` or ``10 01 12.5``
COMMA = re.compile(r"[-+]?\d*,\d+")  # a decimal comma
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}([,'\s]\d{3})+(\.\d*)?")
# A cell of a row of units.
UNIT = re.compile(
    r"""[\["(]?(deg|degrees?|arcsec|arcmin|rad|h|hrs?|hours?|[hd]:?m:?s|k?m *(/ *s|s-1)|km/sec|km_?s|%|mag)[\])"]?""",
    re.IGNORECASE,
)
MAX_UNIT = 100  # characters
POWER = re.compile(r"(\*\*|\^|10[-+])\W*\d{5}|\d{5}\W*(\*\*|\^)")  # which astropy computes exactly
FORTRAN = re.compile(r"^([-+.\d]+)[dD]([-+]?\d+)$")  # a number with its exponent of double precision


def is_missing(cell) -> bool:
    """Whether a cell says that there is no value: None, NaN, a masked or empty cell, or a word such as ``null``."""
    return _text_or_nan(cell) == "nan"


def _text_or_nan(cell) -> str:
    words = "" if cell is None or cell is np.ma.masked else text(cell)
    return "nan" if MISSING.fullmatch(words) else words


def text(cell) -> str:
    """A cell as text, without outer blanks and quotation marks; signs that mean the same become one."""
    cell = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
    cell = cell.translate(SAME).strip().strip('"').strip()
    cell = cell if len(cell) <= LONGEST else f"{cell[:LONGEST]}…"
    return quoted[1] if (quoted := QUOTED.fullmatch(cell)) else cell


def are_angles(values) -> bool:
    """Whether a column is text, with a sexagesimal angle among its first hundred cells."""
    return np.asanyarray(values).dtype.kind in "OSU" and any(ANGLE.fullmatch(text(cell)) for cell in values[:100])


def is_number(cell) -> bool:
    """Whether Python reads a cell as a number."""
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def is_value(cell) -> bool:
    """Whether a cell is a number or an angle, or says that there is no value."""
    if is_number(cell):  # as most are, and seen at once
        return True
    with suppress(NotANumber):
        return len(numbers([cell], DEGREES)) == 1
    return False


def numbers(values, sexagesimal: str | None = None, *, thousands: bool = False) -> np.ndarray:
    """Cells (n,) of any type as float64 array (n,), NaN where a value is missing.

    Parameters
    ----------
    values : array or masked array (n,)
        Numbers, or text as in a file.
    sexagesimal : str, optional
        `HOURS` or `DEGREES`: the unit of angles that state none, such as ``10:01:12``; results are in degrees. By
        default, angles are refused.
    thousands : bool
        Whether commas separate thousands if all can, as in ``1,234``. By default, such a column is refused, or its
        commas are decimal ones if `sexagesimal` is given.

    Raises
    ------
    NotANumber
        For the first cell that is neither a number nor missing, and for arrays of other shapes or of truth values.
    """
    values = np.ma.asanyarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iufOSU":
        raise NotANumber(0, values.ravel()[0] if values.size else "nothing")
    if values.dtype.kind in "iuf":
        return values.astype(float).filled(np.nan)
    cells = values.tolist()
    kinds = set(map(type, cells))
    if kinds <= {str, float}:
        with suppress(ValueError):
            return np.array(list(map(float, cells)))
    if kinds == {str} and len(once := dict.fromkeys(cells)) < len(cells):  # each text is read once
        try:
            once = dict(zip(once, numbers(np.array(list(once), object), sexagesimal, thousands=thousands)))
        except NotANumber as error:
            raise NotANumber(cells.index(error.cell), error.cell) from None
        return np.array([once[cell] for cell in cells])
    texts = list(map(_text_or_nan, cells))
    texts = [(FOLLOWED.fullmatch(cell) or [cell, cell])[1].rstrip().replace("–", "-") for cell in texts]
    commas = [cell for cell in texts if "," in cell]
    may_part = all(map(THOUSANDS.fullmatch, commas))
    if may_part and thousands:
        texts = [re.sub(r"[,'\s]", "", cell) if THOUSANDS.fullmatch(cell) else cell for cell in texts]
    elif (sexagesimal or not may_part) and all(map(COMMA.fullmatch, commas)):
        texts = [cell.replace(",", ".") for cell in texts]
    result = np.empty(len(cells))
    for row, cell in enumerate(texts):
        try:
            result[row] = _number(cell, sexagesimal)
        except ValueError:
            raise NotANumber(row, cells[row]) from None
    return result


def _number(cell: str, sexagesimal: str | None) -> float:
    if sexagesimal and (angle := ANGLE.fullmatch(cell)):
        size = float(angle["whole"]) + float(angle["minutes"]) / 60 + float(angle["seconds"] or 0) / 3600
        hours = angle["unit"] == "h" or (sexagesimal == HOURS and angle["unit"] not in "d°")
        return float(angle["sign"] + "1") * size * (15 if hours else 1)
    return float(FORTRAN.sub(r"\1e\2", cell))


def unit_text(cell: str) -> str:
    """The unit of a cell or a name as astropy spells it, without brackets and signs of LaTeX."""
    unit = cell.strip().strip('"')
    bare = re.sub(r"[$^{}]", "", unit)
    return re.sub("km_?s(-1)?$", "km/s", bare.strip("[]()").lower()) if UNIT.fullmatch(bare) else unit


def parsed_unit(text: str, form: str | None = None) -> u.UnitBase:
    """The unit of a text; one that is none, or whose powers take long to compute, such as 10**99999999, is unknown."""
    if is_endless(text):
        return u.UnrecognizedUnit(text[:MAX_UNIT])
    return u.Unit(text, format=form, parse_strict="silent")


def is_endless(unit: str) -> bool:
    """Whether astropy could take minutes for a unit, such as 10**99999999."""
    return len(unit) > MAX_UNIT or bool(POWER.search(unit))


class NotANumber(ValueError):
    """A cell that is no number, in this row (from 0)."""

    def __init__(self, row: int, cell):
        super().__init__(f"{text(cell)[:40]!r} in row {row + 1}")
        self.cell = cell
