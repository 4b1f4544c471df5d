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
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent
EVERYTHING = "*"


class _Part(NamedTuple):
    """What a statement uses.

    `defines` is the name of a function or class; `names` are all names in it, `bare` those that occur without an
    attribute, `attributes` the pairs (name, attribute); `imports` are triples (package, name in it, name here).
    """

    defines: str | None
    names: set[str]
    bare: set[str]
    attributes: set[tuple[str, str]]
    imports: set[tuple[str, str, str]]


def modules_used(tree: ast.AST) -> list[str]:
    """Names of the modules that a parsed source depends on, directly or not, sorted.

    Raises `SyntaxError` if one of them does not parse.
    """
    return _reached(_uses([_part(tree)]))


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
    definitions = {part.defines: part for part in _parts(source) if part.defines}
    reached = [part for part in _parts(source) if not part.defines]
    waiting = set(definitions) if name == EVERYTHING else {name}.union(*(part.names for part in reached))
    while found := waiting & set(definitions):
        parts = [definitions.pop(each) for each in found]
        reached += parts
        waiting = waiting.union(*(part.names for part in parts))
    return _uses(reached)


@cache
def _parts(source: bytes) -> list[_Part]:
    """The statements at the top level of a source."""
    return [_part(statement) for statement in _tree(source).body]


@cache
def _tree(source: bytes) -> ast.Module:
    """The syntax tree of a source without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return tree


def _part(tree: ast.AST) -> _Part:
    nodes = list(ast.walk(tree))
    dotted = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    return _Part(
        defines=tree.name if isinstance(tree, ast.FunctionDef | ast.ClassDef) else None,
        names={node.id for node in names},
        bare={node.id for node in names if id(node) not in dotted},
        attributes={
            (node.value.id, node.attr)
            for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        },
        imports={
            (node.module or "", alias.name, alias.asname or alias.name)
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        },
    )


def _uses(parts: list[_Part]) -> set[tuple[str, str]]:
    """Pairs (module of this package, name in it) that these statements use."""
    bare = set().union(*(part.bare for part in parts))
    attributes = set().union(*(part.attributes for part in parts))
    found = set()
    for origin, name, here in set().union(*(part.imports for part in parts)):
        package, _, module = origin.partition(".")
        if package != "cluster_tools":
            continue
        if module and _exists(module):
            found.add((module, name))  # a star is EVERYTHING
        elif not module and _exists(name):
            found.add((name, EVERYTHING if here in bare else ""))
            found |= {(name, attribute) for before, attribute in attributes if before == here}
    return found


def _exists(module: str) -> bool:
    return (PACKAGE / f"{module}.py").is_file()


@cache
def meaning(source: bytes) -> str:
    """A source's syntax tree as text, without comments and docstrings: equal for code that does the same."""
    return ast.dump(_tree(source))
