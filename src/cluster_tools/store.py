"""Files that one chapter makes and another reads: written whole, stamped, and checked.

The stamp of an artefact holds its parameters, a digest of the code, the artefacts that it was made from, versions and
commit. Its ``key`` is a digest of the first three: two artefacts with one key are the same.
"""

import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster_tools import paths
from cluster_tools.errors import ClusterToolsError

STAMPED_PACKAGES = (
    "astropy", "colossus", "h5py", "keras", "matplotlib", "numba", "numpy", "scipy", "tensorflow",
)  # fmt: skip

# Data walks down this list: a folder imports only from those before it, and from the modules beside it.
FOLDERS = ("universe", "mocks", "networks", "inference", "coma", "weighing", "figures", "book")

TEMPORARY = re.compile(r"\..*-[a-z0-9_]{8}(\..*)?")  # hidden names of `atomic` and `tempfile`


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn a failure to write the file, such as a full disk, into a `ClusterToolsError`."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())[:120]  # HDF5's has many lines
        remedy = "free space or permissions there and run the same command again"
        raise ClusterToolsError(f"{paths.shown(path)} could not be written ({reason}); {remedy}.") from error


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path`, moved into place only if the block succeeds.

    The file keeps `path`'s suffix, since some writers choose their format by it. Nothing is
    left behind, and an older file at `path` stays as it was, if the block raises. A disk that
    is full or a directory that cannot be written raises `ClusterToolsError`.
    """
    path, folder = Path(path), None
    stem, dot, suffix = path.name.partition(".")
    temporary = path.parent / f".{stem}-{secrets.token_hex(4)}{dot}{suffix}"
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # some network disks lock no folders
                folder = os.open(path.parent, os.O_RDONLY)
                fcntl.flock(folder, fcntl.LOCK_SH)  # for `remove_leftovers`; goes with this process
            temporary.touch(exist_ok=False)
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if folder is not None:
            os.close(folder)


def remove_leftovers(top: Path) -> None:
    """Remove files of `atomic` and scratch folders that killed runs left below `top`; a folder in use stays."""
    for parent in {path.parent for path in top.rglob(".*-????????*") if TEMPORARY.fullmatch(path.name)}:
        with suppress(OSError):
            folder = os.open(parent, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in filter(lambda path: TEMPORARY.fullmatch(path.name), list(parent.iterdir())):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(folder)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content) -> None:
    """Write a JSON file atomically, indented, with a final newline."""
    write_text(path, json.dumps(content, indent=1, sort_keys=False) + "\n")


def write_digested(path: Path | str, content: Mapping) -> None:
    """Write a JSON file with a digest of its content, for `read_digested`."""
    write_json(path, {**content, "digest": digest(content)})


def read_digested(path: Path | str) -> dict | None:
    """Content of a file of `write_digested`; None if it is missing, damaged or edited."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return content if content.pop("digest") == digest(content) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_yaml(path: Path | str, *, as_text: bool = False):
    """Content of a YAML file, `as_text` with all values as text; `ClusterToolsError` if it is missing or damaged."""
    import yaml  # which a light installation lacks

    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), yaml.CBaseLoader if as_text else yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = f" (line {error.problem_mark.line + 1})" if hasattr(error, "problem_mark") else ""
        name = paths.shown(path)
        raise ClusterToolsError(
            f"{name} is missing or not valid YAML{line}; correct it, or fetch it with: git checkout -- {name}"
        ) from error


def digest(content) -> str:
    """16 hexadecimal characters that stand for any JSON-like content, bytes or text."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def file_digest(path: Path | str) -> str:
    """The digest of a file's bytes, which may be more than memory holds."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def cached_table(path: Path, query: str, ask: Callable):
    """The answer to a query as an astropy Table: from the ECSV file `path` if it is whole there, else from `ask`."""
    from astropy.table import Table

    def content(table) -> str:
        return digest([table.colnames, *(table[name].tolist() for name in table.colnames)])

    with suppress(Exception):  # no answer yet, or a damaged one, on which the parser may fail anywhere
        table = Table.read(path, format="ascii.ecsv")
        if (table.meta["query"], table.meta["digest"]) == (query, content(table)):
            return table
    table = ask()
    table.meta = {"query": query, "digest": content(table)}
    with atomic(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)
    return table


def package_files(folders: Iterable[str]) -> list[Path]:
    """Python files of these folders of the package and of its root, but for ``cli.py``."""
    files = [file for folder in ("", *folders) for file in sorted((paths.PACKAGE / folder).glob("*.py"))]
    return [file for file in files if file.name != "cli.py"]


def code_digest(folder: str) -> str:
    """Digest of a folder of the package, of the folders above it, and of the root modules."""
    files = sorted(package_files(FOLDERS[: FOLDERS.index(folder) + 1]))
    return digest([[str(file.relative_to(paths.PACKAGE)), file_digest(file)] for file in files])


@functools.cache  # the packages of a process stay as they are, and reading them takes 20 ms
def versions() -> dict[str, str]:
    """Versions of Python and of those packages that results depend on, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for package in STAMPED_PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def commit() -> str:
    """The checkout's commit, with ``+changes`` where the tree differs; ``unknown`` without git."""
    command = ["git", "-C", str(paths.project_root()), "status", "--porcelain=2", "--branch"]
    try:
        status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    changes = any(not line.startswith("#") for line in status)
    return status[0].removeprefix("# branch.oid ")[:12] + "+changes" * changes


def stamp(parameters: Mapping, *, folder: str, inputs: Mapping[str, str] | None = None) -> dict:
    """The stamp of an artefact: parameters, inputs, digest of the code, versions, commit, and a ``key``.

    JSON-like `parameters` are all that the artefact depends on, seeds included. `folder` of this package makes it, such
    as "mocks", and `inputs` has the ``key`` of each artefact that it is made from.
    """
    identity = {"parameters": dict(parameters), "inputs": dict(inputs or {})}
    identity = json.loads(json.dumps(identity))  # as it will be read back
    code = code_digest(folder)
    return {"key": digest([identity, code]), **identity, "code": code, "versions": dict(versions()), "commit": commit()}


def check_parameters(path: Path | str, stamped: Mapping, expected: Mapping, remedy: str) -> None:
    """Refuse the artefact at `path` if the parameters in its stamp, `stamped`, are not those `expected`.

    `remedy` is the command that makes it again. Parameters that `expected` does not name may have any value.
    Raises `ClusterToolsError`.
    """
    for name, value in json.loads(json.dumps(dict(expected))).items():
        if name not in stamped or stamped[name] != value:
            made = f"{paths.shown(path)} was made with {name}={stamped.get(name, 'nothing')!r}"
            raise ClusterToolsError(f"{made}, but {name}={value!r} is asked for; make it again with: {remedy}")
