"""Where things lie: the only module that builds paths of the project.

A chapter runs in many working directories (nbval: the notebook's, papermill: the caller's),
so nothing else may lean on the current one.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).parent
PACKAGE_DATA = PACKAGE / "data"
CHECKOUT = Path(__file__).resolve().parents[2]


def project_root() -> Path:
    """The checkout that holds ``params/`` and ``notebooks/``.

    ``CLUSTER_TOOLS_ROOT`` if it is set, else the checkout this package was installed from
    (``make book`` installs it in place), else the current directory.
    """
    if root := os.environ.get("CLUSTER_TOOLS_ROOT"):
        return Path(root).resolve()
    return CHECKOUT if (CHECKOUT / "params").is_dir() else Path.cwd()


def results(profile: str) -> Path:
    """The directory of everything that a run with this profile makes."""
    return project_root() / "results" / profile


def caches() -> Path:
    """The directory of libraries' own caches while the book is made, in place of the user's home."""
    return project_root() / "_build" / "caches"


def cache() -> Path:
    """The directory of downloads: ``CLUSTER_TOOLS_CACHE``, or ``cache`` under ``results``."""
    return Path(os.environ.get("CLUSTER_TOOLS_CACHE") or project_root() / "results" / "cache")


def existing(path: Path | str) -> Path | None:
    """The file or directory at a user's path, from the current directory or else the project; None without."""
    given = Path(path).expanduser()
    places = (given, project_root() / given) if str(path).strip() else ()
    return next((place for place in places if os.path.exists(place)), None)


def shown(path: Path | str) -> str:
    """A path as readers should see it: relative to the project where it lies inside."""
    path = Path(path)
    root = project_root()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
