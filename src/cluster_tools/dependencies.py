"""Which modules of this package a piece of code depends on, found without running it.

A module counts as soon as anything of it is used. An import inside a function, though, counts
only if that function can be reached: a chapter that calls one function of `pipeline` depends on
what that function imports, not on all that `pipeline` can do.

What is understood is what this package writes: ``from cluster_tools import module``,
``from cluster_tools.module import name``, ``module.name``. A module that is used in any other way
counts with all its functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
EVERYTHING = "*"


def modules_used(tree: ast.AST) -> list[str]:
    """Names of the modules that a parsed source depends on, directly or not, sorted.

    Raises `SyntaxError` if one of them does not parse.
    """
    return _reached(set(_uses([tree])))


def modules_reached(modules: Iterable[str]) -> list[str]:
    """These modules with all their functions, and the modules that they depend on, sorted."""
    return _reached({(module, EVERYTHING) for module in modules})


def _reached(waiting: set[tuple[str, str]]) -> list[str]:
    seen: set[tuple[str, str]] = set()
    while waiting:
        module, name = use = waiting.pop()
        seen.add(use)
        waiting |= _leads_to((PACKAGE / f"{module}.py").read_bytes(), name) - seen
    return sorted({module for module, _ in seen})


@cache
def _leads_to(source: bytes, name: str) -> set[tuple[str, str]]:
    """What runs when `name` of a module is used: its top level and the definitions that are reached from there."""
    body = ast.parse(source).body
    definitions = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    reached = [node for node in body if node not in definitions.values()]
    waiting = set(definitions) if name == EVERYTHING else {name} | _names(reached)
    while found := waiting & set(definitions):
        nodes = [definitions.pop(each) for each in found]
        reached += nodes
        waiting |= _names(nodes)
    return set(_uses(reached))


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    """All names that occur in these nodes."""
    return {node.id for top in nodes for node in ast.walk(top) if isinstance(node, ast.Name)}


def _uses(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """Pairs (module of this package, name in it) that these nodes use."""
    inside = [node for top in nodes for node in ast.walk(top)]
    attributes = [node for node in inside if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    plain = {id(node) for node in inside if isinstance(node, ast.Name)} - {id(node.value) for node in attributes}
    bare = {node.id for node in inside if id(node) in plain}
    for node in inside:
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("cluster_tools"):
            continue
        package, _, module = node.module.partition(".")
        for alias in node.names:
            if module and _exists(module):
                yield module, EVERYTHING if alias.name == "*" else alias.name
            elif package == "cluster_tools" and _exists(alias.name):
                here = alias.asname or alias.name
                yield alias.name, EVERYTHING if here in bare else ""
                yield from ((alias.name, use.attr) for use in attributes if use.value.id == here)


def _exists(module: str) -> bool:
    return (PACKAGE / f"{module}.py").is_file()


@cache
def meaning(source: bytes) -> str:
    """A source's syntax tree as text, without comments and docstrings: equal for code that does the same."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
