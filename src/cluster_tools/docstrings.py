"""A Sphinx extension: the docstrings of this package as the reference of the book shows them.

Where a docstring says in running text what a function returns, over several lines, Sphinx would take each line
for a value of its own. Here they are joined; named values (``name : type``) stay as they are.
"""

from __future__ import annotations

import re


def setup(app) -> dict:
    """Called by Sphinx; see ``extensions`` in ``_config.yml``."""
    app.connect("autodoc-process-docstring", join_running_text, priority=400)  # before napoleon, at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}


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
