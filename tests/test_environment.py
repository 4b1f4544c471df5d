"""The lock, environment.yml, CI and Binder follow the direct dependencies in pyproject.toml."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def required() -> dict[str, str]:
    """Name and bounds of all direct dependencies, tests and build included."""
    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, optional = file["project"], file["project"]["optional-dependencies"]
    lines = [*project["dependencies"], *optional["book"], *optional["test"], *file["build-system"]["requires"]]
    lines.append(f"python{project['requires-python']},<3.14")  # newer ones have no TensorFlow
    return by_name(lines)


def by_name(lines) -> dict[str, str]:
    return {(one := Requirement(line)).name.lower(): str(one.specifier) for line in lines}


def test_environment_yml_says_the_same():
    *conda, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lines = [*conda, *by_pip["pip"]]
    assert "--editable ." in lines and "pip" in lines
    assert by_name(line for line in lines if line not in ("--editable .", "pip")) == required()


def test_lock_pins_all_direct_dependencies_with_hashes():
    text = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE))
    for name, bounds in required().items():
        if name != "python":
            assert name in pinned, f"{name} is not in requirements.lock; pin it with: make lock"
            assert Requirement(name + bounds).specifier.contains(pinned[name]), name
    names = re.findall(r"^[\w.-]+(?===)", text, flags=re.MULTILINE)
    assert set(names) == set(pinned), "a line of requirements.lock has no hash"
    assert not re.search(r"https?://|file:|--(extra-)?index-url|^/|/(home|root|work|Users)/", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_workflow_calls_only_what_there_is(path):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
                continue
            script = re.sub(r"\$\{\{.*?\}\}", "x", step["run"])
            assert_shell(script)
            assert set(re.findall(r"^make (\w+)", script, flags=re.MULTILINE)) <= targets
            for file in re.findall(r"^bash (\S+)", script, flags=re.MULTILINE):
                assert (ROOT / file).is_file()


def test_binder_installs_the_lock_on_the_python_that_it_is_made_for():
    # Exactly "python=...": without a version repo2docker begins with an older one.
    python = re.search(r"^ *- python=(\S+)$", (ROOT / "binder/environment.yml").read_text(), flags=re.MULTILINE)[1]
    assert f"--python-version {python} " in (ROOT / "Makefile").read_text()
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK) and "--require-hashes -r requirements.lock" in script.read_text()
    assert_shell(script.read_text())


def assert_shell(script: str) -> None:
    """That bash can parse it."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
