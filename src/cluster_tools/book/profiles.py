"""Profiles: the scale of a run, as parameters of each chapter in ``params/<profile>.yml``."""

import os
from pathlib import Path

from cluster_tools import paths, store
from cluster_tools.errors import ClusterToolsError

NOT_IN_RESULTS = ("memory", "scheduler")  # parameters that no result depends on
DEFAULT = "smoke"  # the profile whose values are the notebooks' defaults, and stand where another one says nothing


def profile_parameters(profile: str) -> dict[str, dict]:
    """Parameters by chapter: those of ``params/smoke.yml``, replaced by those of ``params/<profile>.yml``.

    Raises `ClusterToolsError` for no such profile, and a file that maps no known chapters to known parameters.
    """
    defaults, sections = _read(DEFAULT), _read(profile)
    for chapter, section in sections.items():
        unknown = sorted(set(section) - set(defaults.get(chapter, {})))
        if chapter not in defaults or unknown:
            raise ClusterToolsError(
                f"params/{profile}.yml sets {', '.join(unknown) or 'parameters'} for {chapter}, but those in "
                f"params/{DEFAULT}.yml are {', '.join(defaults.get(chapter, defaults))}."
            )
    return {chapter: section | sections.get(chapter, {}) for chapter, section in defaults.items()}


def chosen_sample(coma_sample: str | None) -> str:
    """The sample of galaxies that a chapter's `coma_sample` stands for.

    None stands for ``CLUSTER_TOOLS_COMA_SAMPLE``, or "desi". A table is named by its full path, so that it has one name
    in every working directory.
    """
    sample = str(coma_sample or os.environ.get("CLUSTER_TOOLS_COMA_SAMPLE") or "desi")
    table = None if sample in ("desi", "sdss") else paths.existing(sample)
    return str(table.resolve()) if table else sample


def results_depend_on(parameters: dict) -> dict:
    """Those of a chapter's parameters that results depend on; `chosen_sample` names the Coma sample."""
    sample = {"coma_sample": chosen_sample(parameters["coma_sample"])} if "coma_sample" in parameters else {}
    return {name: value for name, value in parameters.items() if name not in NOT_IN_RESULTS} | sample


def _read(profile: str) -> dict[str, dict]:
    path = paths.project_root() / "params" / f"{profile}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml"))) or "none"
        raise ClusterToolsError(
            f"there is no profile {profile!r}; choose one of {known}, or write {paths.shown(path)} as {DEFAULT}.yml."
        )
    return read_sections(path)


def read_sections(path: Path) -> dict[str, dict]:
    """Sections by chapter of a YAML file; raises `ClusterToolsError` for a file without."""
    sections = store.read_yaml(path)
    if not isinstance(sections, dict) or not all(isinstance(section or {}, dict) for section in sections.values()):
        raise ClusterToolsError(f"{paths.shown(path)} must map each chapter to a mapping of names to values.")
    return {chapter: dict(section or {}) for chapter, section in sections.items()}
