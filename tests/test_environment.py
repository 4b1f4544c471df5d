"""pyproject.toml is the one place of direct dependencies; the lock and environment.yml say the same."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def required() -> dict[str, str]:
    """Name and bounds of all direct dependencies, tests and build included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["test"],
        *project["build-system"]["requires"],
        "python" + project["project"]["requires-python"],
    ]
    return {(found := Requirement(line)).name.lower(): str(found.specifier) for line in lines}


def test_environment_yml_says_the_same():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lines = [line for line in lines if isinstance(line, str)] + [
        line for part in lines if isinstance(part, dict) for line in part["pip"]
    ]
    assert "--editable ." in lines and "pip" in lines
    found = {
        (one := Requirement(line)).name.lower(): str(one.specifier)
        for line in lines
        if line not in ("--editable .", "pip")
    }
    assert found == required()


def test_lock_pins_all_direct_dependencies_with_hashes():
    text = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE))
    for name, bounds in required().items():
        if name != "python":
            assert name in pinned, f"{name} is not in requirements.lock; pin it with: make lock"
            assert Requirement(name + bounds).specifier.contains(pinned[name]), name
    names = re.findall(r"^[\w.-]+(?===)", text, flags=re.MULTILINE)
    assert set(names) == set(pinned), "a line of requirements.lock has no hash"


def test_lock_names_no_index_and_no_path():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|--(extra-)?index-url|^/|/(home|root|work|Users)/", text, flags=re.MULTILINE)
