"""Profiles: the scale of a run, as parameters of each chapter in ``params/<profile>.yml``."""

from __future__ import annotations

import yaml

from cluster_tools import paths
from cluster_tools.errors import ClusterToolsError

CHAPTERS = (
    "coma_in_ten_minutes",
    "mock_catalogues",
    "realism",
    "preprocessing",
    "training",
    "validation",
    "calibration",
    "classical_estimators",
    "historical_masses",
    "coma_mass",
    "robustness",
    "your_cluster",
    "past_the_paper",
    "scoreboard",
)
# Parameters that say how a chapter works, not what it makes: no result depends on them.
HOW = ("memory", "scheduler")


def profile_parameters(profile: str) -> dict[str, dict]:
    """The sections of ``params/<profile>.yml``: parameters by chapter.

    Raises `ClusterToolsError` if there is no such profile or the file is not a mapping of
    known chapters to parameters.
    """
    directory = paths.project_root() / "params"
    path = directory / f"{profile}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in directory.glob("*.yml"))) or "none"
        raise ClusterToolsError(
            f"there is no profile {profile!r}: {paths.shown(path)} does not exist; choose one of {known}, "
            "or write that file after the pattern of params/smoke.yml."
        )
    try:
        sections = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        raise ClusterToolsError(
            f"{paths.shown(path)} is not valid YAML{f' (line {where.line + 1})' if where else ''}; "
            "compare it with params/smoke.yml."
        ) from error
    if not isinstance(sections, dict) or set(sections) != set(CHAPTERS):
        found = ", ".join(map(str, sections)) if isinstance(sections, dict) else type(sections).__name__
        raise ClusterToolsError(
            f"{paths.shown(path)} must have the sections {', '.join(CHAPTERS)} and no others, but has {found}."
        )
    for chapter, section in sections.items():
        if not isinstance(section or {}, dict):
            raise ClusterToolsError(
                f"{paths.shown(path)}: section {chapter} must be a mapping of parameters to values."
            )
    return {chapter: dict(section or {}) for chapter, section in sections.items()}
