"""Tables from files as they are: CSV in its many dialects, ECSV, VizieR's TSV, MRT, IPAC, FITS and VOTable.

The content of a file decides, not its name. Whatever a file claims to hold, it is read or refused within seconds and
little memory beyond its data, and nothing that it refers to is opened.
"""

from __future__ import annotations

import codecs
import csv
import functools
import gzip
import io
import itertools
import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.parsers import expat

import numpy as np
from astropy.io import fits, votable
from astropy.io.votable.exceptions import VOWarning
from astropy.table import Column, MaskedColumn, Table
from astropy.table.meta import YamlParseError, get_header_from_yaml

from cluster_tools import cells, paths
from cluster_tools.errors import ClusterToolsError, raised_by, signal_handlers

EXPANSION, ROOM = 20, 10_000_000  # a gzipped file may hold 20 times its own bytes, and 10 MB more
MAX_COLUMNS, MAX_TABLES, MAX_DEPTH, MAX_HEADER = 2000, 1000, 100, 200_000
MAX_ELEMENTS, MAX_SHAPE = 50_000, 50  # of a VOTable beside its rows; characters of the shape of its cells
# A line between others in tables as databases, TOPCAT, Markdown and LaTeX draw them.
RULE = re.compile(
    r"[+|](?=[+|:= ]*-)[-+|:= ]*|-+(\+-+)+|=[= ]*|\(\d+ rows?\)|\[EOD\]|\\(?!nodata|l?dots)[a-z]{2}[^&]*", re.IGNORECASE
)
BYTES = re.compile(r"\s*(\d+\s*-\s*)?\d+\s+[AIFE]\d")  # the bytes of a column in a description byte by byte
HEAD = 100  # lines in which the names of the columns are looked for
# All that readers raise for bytes that are not what they should be; anything else is not the file's fault.
DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    SyntaxError, SystemError, TypeError, ValueError, csv.Error, expat.ExpatError, fits.VerifyError, struct.error,
    VOWarning, YamlParseError, zlib.error,
)  # fmt: skip
# From the names of all columns to those that may hold each standard column, by its name.
Finder = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]


@contextmanager
def parsing(failure: str, remedy: str) -> Iterator[None]:
    """Turn a reader's error into a `ClusterToolsError` that says `failure`, reason and `remedy`; hide its warnings.

    Errors that a signal handler raises meanwhile pass unchanged.
    """
    handlers = signal_handlers()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values are checked later
            yield
    except DAMAGE as error:
        if foreign := raised_by(handlers, error):
            raise foreign from None
        raise ClusterToolsError(f"{failure} ({' '.join(str(error).split())[:120]}); {remedy}.") from error


def located(path: str | os.PathLike) -> tuple[Path, str | None]:
    """The file of a path such as ``field.fits[OBJECTS]``, and which of its tables is meant, if the path says so."""
    given = os.fspath(path)
    parts = re.fullmatch(r"(.+)\[([^\[\]]+)\]", given, flags=re.DOTALL)
    if parts and not os.path.exists(given):
        return Path(parts[1]), parts[2].strip()
    return Path(path), None


def read(path: str | os.PathLike, find: Finder) -> Table:
    """Read the table of a file that has the columns which `find` (`tables.find`) wants; nothing else is opened.

    Text files give the wanted columns alone, their cells as text (`cells.numbers`), and the names of all as
    ``meta["columns"]``. Raises `ClusterToolsError` if the file is missing, unreadable or no table, or if several
    tables in it suit and the path names none (`located`).
    """
    file, asked = located(path)
    name = paths.shown(file) if os.fspath(path) else ""  # Path("") is "."
    if not os.path.isfile(file):
        state = "is a directory" if name and os.path.isdir(file) else "does not exist"
        raise ClusterToolsError(f"{name!r} {state}; give the path of a CSV, ECSV, FITS or VOTable table of galaxies.")
    with parsing(f"{name!r} cannot be read", "it may be cut short or damaged: get it again, or mend it in astropy"):
        data = _content(file, name)
        if data.startswith(b"SIMPLE"):
            return _fits(data, name, asked, find)
        encoding = _encoding(data)
        head = data[:20_000].decode(encoding, "replace").lstrip("\ufeff \t\r\n")
        if head.startswith("<"):
            return _votable(data, name, asked, find)
        if not head or "\0" in head:
            raise ClusterToolsError(
                f"{name!r} is no .csv, .ecsv, .fits or .vot file (it begins with {data[:8]!r}); save the table in one "
                "of these formats."
            )
        if asked:
            raise ClusterToolsError(f"{name!r} is a text file with one table; leave '[{asked}]' away.")
        kind = "mrt" if "Byte-by-byte Description" in head else None
        begin = {line.strip()[:1] for line in head.splitlines()} - {""}
        if head[0] in "|\\" and "|" in begin and begin - {"|", "\\"}:  # not all bars
            kind = "ipac"
        if kind is None:
            return _delimited(data, encoding, name, find)
        lines = data.decode(encoding, "replace").splitlines()
        widest = max(max(map(len, lines)), 4 * sum(map(bool, map(BYTES.match, lines))))
        if len(lines) * widest > 4 * len(data) + ROOM:
            raise ValueError("one line is much longer than all others, or columns overlap")
        if any(line.startswith("|") and cells.POWER.search(line) for line in lines[:HEAD]):
            raise ValueError("a unit that takes long to compute")
        return Table.read(lines, format=f"ascii.{kind}")


def _content(file: Path, name: str) -> bytes:
    """The bytes of a file; if it is gzipped, those that it holds, if they are not many times as many."""
    data = file.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    limit = EXPANSION * len(data) + ROOM
    with gzip.open(io.BytesIO(data)) as unzipped:
        plain = unzipped.read(limit + 1)
    if len(plain) > limit:
        raise ClusterToolsError(
            f"{name!r} holds more than {EXPANSION} times its own {len(data)} bytes, as no table does; if it is one, "
            "unzip it with gunzip."
        )
    return plain


def _encoding(data: bytes) -> str:
    """UTF-8 or UTF-16 as marked; UTF-8 if it can be, otherwise Latin-1."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pieces = iter(functools.partial(io.BytesIO(data).read, 2**20), b"")  # to spare memory
    try:
        for _ in codecs.iterdecode(pieces, "utf-8"):
            pass
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _choose(tables: Mapping[str, Sequence[str]], name: str, asked: str | None, find: Finder) -> str:
    """The table that is asked for, or else the one of these, by their columns, with positions and redshifts."""
    listed = ", ".join(map(repr, tables))[:200] or "none"
    if asked is not None:
        for key in tables:
            if key.lower() == asked.lower():
                return key
        raise ClusterToolsError(f"{name!r} has no table {asked!r}; expected one of {listed}.")
    if not tables:
        raise ClusterToolsError(f"{name!r} holds no table; save the galaxies as a binary table.")
    found = {key: find(columns).keys() for key, columns in tables.items()}
    suitable = [key for key, has in found.items() if {"ra", "dec"} <= has and {"z", "cz", "velocity"} & has]
    if len(suitable) == 1 or len(tables) == 1:
        return (suitable or list(tables))[0]
    have = f"{', '.join(map(repr, suitable))[:200] or 'none'} have positions and redshifts under usual names"
    remedy = f"say which one is meant, such as '{name}[{[*tables, *suitable][-1]}]', or join them to one"
    raise ClusterToolsError(f"{name!r} has the tables {listed}, of which {have}; {remedy}.")


def _fits(data: bytes, name: str, asked: str | None, find: Finder) -> Table:
    with fits.open(io.BytesIO(data), memmap=False) as hdus:
        tables = {}
        for number, hdu in enumerate(itertools.islice(hdus, MAX_TABLES)):
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
                rows, width, fields = (hdu.header[name] for name in ("NAXIS2", "NAXIS1", "TFIELDS"))
                if fields > MAX_COLUMNS or rows * max(width, fields, 1) > len(data):
                    claim = f"{rows} rows of {width} bytes in {fields} columns"
                    raise ValueError(f"a table of {claim} in a file of {len(data)} bytes")
                tables[str(number) if not hdu.name or hdu.name in tables else hdu.name] = hdu
        key = _choose({key: hdu.columns.names for key, hdu in tables.items()}, name, asked, find)
        return _columns(tables[key])


def _columns(hdu: fits.BinTableHDU) -> Table:
    """The columns of a table, less those of arrays of any length, which are no numbers and may claim any memory."""
    table = Table()
    for number, column in enumerate(hdu.columns, 1):
        if not re.match(r"\d*[PQ]", column.format):
            values = hdu.data[column.name]
            missing = False if column.null is None else values == column.null
            unit = cells.parsed_unit(column.unit, "fits") if column.unit else None
            meta = {"ucd": hdu.header.get(f"TUCD{number}", "")}  # as TOPCAT writes it
            table[column.name] = MaskedColumn(values, mask=missing, unit=unit, meta=meta, copy=False)
    return table


def _votable(data: bytes, name: str, asked: str | None, find: Finder) -> Table:
    _check_votable(data, name)
    tables = {}
    for number, table in enumerate(votable.parse(io.BytesIO(data), verify="ignore").iter_tables()):
        key = str(table.name or table.ID or number)
        tables[str(number) if key in tables else key] = table
    columns = {key: [str(field.name) for field in table.fields] for key, table in tables.items()}
    return tables[_choose(columns, name, asked, find)].to_table(use_names_over_ids=True)


def _check_votable(data: bytes, name: str) -> None:
    """Refuse a VOTable whose data lie elsewhere, or that claims to hold more than it can.

    Astropy would open any file or address that it names, and reserve as much memory as it claims.
    """
    rows, width, fields, others, ancestors = [0], [0], 0, 0, []

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        nonlocal fields, others
        ancestors.append(tag)
        tag = tag.rpartition(":")[2]
        others += tag not in ("TR", "TD")
        if len(attributes.get("arraysize", "")) > MAX_SHAPE or cells.is_endless(attributes.get("unit", "")):
            raise ValueError("a shape or a unit that takes long to compute")
        if "href" in attributes and tag != "LINK":
            raise ClusterToolsError(
                f"{name!r} keeps its data in another place ({attributes['href'][:60]!r}), which is not opened; "
                "save the table whole, in one file."
            )
        if tag == "TABLE":
            rows.append(int(attributes.get("nrows", 0)))
            width.append(0)
        elif tag == "TR":
            rows[-1] += 1
        elif tag == "FIELD":
            fields += 1
            width[-1] += 8 * math.prod(map(int, re.findall(r"\d+", attributes.get("arraysize", ""))))
        if len(ancestors) > MAX_DEPTH or fields > MAX_COLUMNS or others > MAX_ELEMENTS:
            most = f"{MAX_DEPTH} elements in one another, {MAX_COLUMNS} columns or {MAX_ELEMENTS} elements beside rows"
            raise ValueError(f"more than {most}")

    def entity(*_) -> None:
        raise ValueError("it defines entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EntityDeclHandler = start, entity
    parser.EndElementHandler = lambda _: ancestors.pop()
    parser.Parse(data, True)
    if (most := max(n * size for n, size in zip(rows, width))) > EXPANSION * len(data) + ROOM:
        raise ValueError(f"a table that claims {most} bytes in a file of {len(data)} bytes")


def _delimited(data: bytes, encoding: str, name: str, find: Finder) -> Table:
    """Values between commas, semicolons, tabs, bars or blanks, below a line with the names of the columns; ECSV.

    Comments begin with '#'; the names may be in the last one. VizieR's rows of units and dashes may follow them.
    """
    comments: list[str] = []
    lines = io.TextIOWrapper(io.BytesIO(data), encoding=encoding, errors="replace")
    lines = (line for line in map(str.strip, lines, itertools.repeat(" \r\n")) if line and not RULE.fullmatch(line))
    while (first := next(lines, "")).startswith("#"):
        comments.append(first[1:].rstrip())
    header, head = _ecsv_header(comments), first
    below = list(itertools.islice(lines, HEAD))
    delimiter, names = _names(first, header.get("delimiter"))
    if comments and all(map(cells.is_number, names)):
        for given in (None, delimiter):
            if len(above := _names(comments[-1].strip(), given)[1]) == len(names):
                names, below, head = above, [first, *below], ""
                break
    elif not _has_positions(names, find):  # prose may stand before the names
        for number, line in enumerate(below, 1):
            if _has_positions(_names(line)[1], find):
                first, head, (delimiter, names), below = line, line, _names(line), below[number:]
                break
    if not 2 <= len(names) <= MAX_COLUMNS or sum(map(cells.is_number, names)) > len(names) / 2:
        raise ClusterToolsError(
            f"{name!r} has {','.join(names)[:60]!r} where the names of its columns should be; expected a first line "
            "such as 'ra,dec,z,log_mstar', and commas, semicolons, tabs or blanks between values: write it so."
        )
    delimiter, names = _layout(delimiter, names, below)
    lines = (line for line in itertools.chain(below, lines) if line != head and not line.startswith("#"))
    lines = (_tidy(_without_comment(line, delimiter, len(names)), first, delimiter) + "\n" for line in lines)
    units, rows = _units(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    units = units or [column.get("unit") or "" for column in header.get("datatype", ())]
    found = {column for columns in find(names).values() for column in columns} or {names[0]}
    columns = {column: [] for column in names if column in found}
    places = [(values, names.index(column)) for column, values in columns.items()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names) and (delimiter == " " or any(cell.strip() for cell in row[len(names) :])):
            raise ValueError(f"row {number} has {len(row)} values, but there are {len(names)} names of columns")
        for values, place in places:
            values.append(row[place] if place < len(row) else "")
    table = Table(meta=dict(header.get("meta") or {}) | {"columns": names})
    for column, values in columns.items():
        unit = cells.unit_text(dict(zip(names, units)).get(column, ""))
        unit = cells.parsed_unit(unit) if unit else None
        table[column] = Column(np.array(values, dtype=object), unit=unit)
    return table


def _names(line: str, delimiter: str | None = None) -> tuple[str, list[str]]:
    """The delimiter of a line, by default the one that it has most often, and its cells."""
    delimiter = delimiter or max("\t;,|&", key=line.count)
    if delimiter not in line:
        delimiter = " "
        # A comment, and the blank before a unit.
        line = re.sub(r"(?<!\s)\s+(?=[\[(][^\s\])]{1,20}[\])])", "", line.partition(" # ")[0])
    if delimiter == "&":
        line = re.sub(r"\\[a-z]+\{|[${}]", "", line)
    return delimiter, [re.sub("^'(.*)'$", r"\1", cell.strip()) for cell in _cells(line, line, delimiter)]


def _cells(line: str, first: str, delimiter: str) -> list[str]:
    line = _tidy(line, first, delimiter)
    if line and delimiter != " " and '"' not in line:  # as below, in less time
        return [cell.lstrip(" ") for cell in line.split(delimiter)]
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _tidy(line: str, first: str, delimiter: str) -> str:
    """A line without the bars at its ends, if the first line has them, or the end of a row in LaTeX."""
    if delimiter == "&":
        return line.partition(r"\\")[0].strip()
    if delimiter == " ":
        return line.replace("\t", " ").strip()
    return line.removeprefix("|").removesuffix("|") if delimiter == "|" == first[:1] else line


def _without_comment(line: str, delimiter: str, columns: int) -> str:
    """A line without a comment behind its values, which are as many as the columns; a name may have a '#'."""
    values, sign, _ = line.partition(" #") if " #" in line else line.partition("\t#")
    if not sign or values.count('"') % 2 or len(before := _cells(values, line, delimiter)) != columns:
        return line
    return values if cells.is_value(before[-1]) or len(_cells(line, line, delimiter)) != columns else line


def _layout(delimiter: str, names: list[str], lines: Sequence[str]) -> tuple[str, list[str]]:
    """The delimiter of the rows, which may be another one than that of the names, and all names of columns.

    R and pandas write rows with their numbers, from 0 or 1, which have no name.
    """
    lines = [_without_comment(line, delimiter, len(names)) for line in lines if not line.startswith("#")]
    rows = [line for line in lines if any(map(cells.is_number, _names(line)[1]))][:2]
    own = [_names(row)[0] for row in rows if delimiter == " " or delimiter not in row][:1]
    for each in (delimiter, *own):
        parts = [_cells(row, row, each) for row in rows]
        if any(len(row) == len(names) for row in parts):
            return each, names
        if list(map(len, parts)) == [len(names) + 1] * 2 and [row[0] for row in parts] in (["0", "1"], ["1", "2"]):
            return each, ["", *names]
    return delimiter, names


def _has_positions(names: Sequence[str], find: Finder) -> bool:
    found = find(names)
    return all(set(found.get(wanted, ())) & set(names) for wanted in ("ra", "dec"))


def _ecsv_header(comments: Sequence[str]) -> dict:
    """What the comments say if they are the header of an ECSV file; empty otherwise."""
    if not comments or "%ECSV" not in comments[0]:
        return {}
    header = "\n".join(comments[1:])
    # Merged mappings can grow without end, and YAML is read slowly.
    if "<<" in header or len(header) > MAX_HEADER:
        raise ValueError(f"its header has merged mappings or more than {MAX_HEADER} characters")
    return {"delimiter": " "} | dict(get_header_from_yaml(comments[1:]))


def _units(rows: Iterator[list[str]]) -> tuple[list[str], Iterator[list[str]]]:
    """The row of units, if there is one, and the rows of values: below units, below a row of dashes."""
    head = list(itertools.islice(rows, 2))
    dashes = [all(re.fullmatch("-+", cell.strip()) for cell in row) for row in head]
    units: list[str] = []
    if dashes == [False, True]:
        units, head = head[0], []
    elif dashes[:1] == [True]:
        head = head[1:]
    elif (
        head
        and any(cells.UNIT.fullmatch(cells.unit_text(cell)) for cell in head[0])
        and not any(map(cells.is_number, head[0]))
    ):
        units, head = head[0], head[1:]
    return units, itertools.chain(head, rows)
