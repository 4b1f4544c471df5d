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
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["book"],
        *project["project"]["optional-dependencies"]["test"],
        *project["build-system"]["requires"],
        f"python{project['project']['requires-python']},<3.14",  # newer ones have no TensorFlow
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


# Where the book is run by others


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
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
    python = next(
        line.removeprefix("python=")
        for line in yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())["dependencies"]
        if line.startswith("python=")  # exactly so: without a version repo2docker begins with an older one
    )
    assert f"--python-version {python} " in (ROOT / "Makefile").read_text()
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK) and "--require-hashes -r requirements.lock" in script.read_text()
    assert_shell(script.read_text())


def assert_shell(script: str) -> None:
    """That bash can parse it."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
