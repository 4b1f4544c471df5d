"""A Sphinx extension: the docstrings of this package as the reference of the book shows them.

Where a docstring says in running text what a function takes or returns, over several lines, Sphinx would take the
first line for a type and the next for its description, or each for a value of its own. Here they are joined; named
values (``name : type``) stay as they are, and so does a description, which begins with a capital letter.
"""

from __future__ import annotations

import re


def setup(app) -> dict:
    """Called by Sphinx; see ``extensions`` in ``_config.yml``."""
    for step in (join_parameters, join_running_text):
        app.connect("autodoc-process-docstring", step, priority=400)  # before napoleon, at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def join_parameters(app, what, name, obj, options, lines: list[str]) -> None:
    """Join a ``name : text`` with the indented lines that go on in the middle of its sentence, in place."""
    joined: list[str] = []
    goes_on = False
    for line in lines:
        indented = line[:1].isspace() and bool(line.strip())
        if not indented:
            goes_on = False
        elif joined and re.match(r"[\w*, ]+ : ", joined[-1]):
            goes_on = goes_on or not line.lstrip()[0].isupper()
        if goes_on:
            joined[-1] += " " + line.lstrip()
        else:
            joined.append(line)
    lines[:] = joined


def join_running_text(app, what, name, obj, options, lines: list[str]) -> None:
    """Join the lines of running text in a section "Returns", in place. Called by Sphinx."""
    if "Returns" not in lines:
        return
    start = lines.index("Returns") + 2
    end = next((i for i in range(start, len(lines)) if not lines[i].strip()), len(lines))
    joined: list[str] = []
    for line in lines[start:end]:
        named = re.match(r"[\w, ]+ : ", line)
        if joined and not (named or line[0].isspace() or joined[-1][0].isspace()):
            joined[-1] += " " + line
        else:
            joined.append(line)
    lines[start:end] = joined
