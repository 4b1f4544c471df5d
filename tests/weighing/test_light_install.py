"""The wheel weighs Coma with its six dependencies alone: no checkout, no TensorFlow, no package of the book."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster_tools import cli, paths, weigh

ROOT = Path(__file__).parents[2]
COMA = paths.PACKAGE_DATA / "desi_coma.csv"
OPTIONS = ["weigh", str(COMA), "--model=paper", "--classical", "--draws=10", "--json"]
OPTIONS += ["--centre", "194.95", "27.98", "--redshift=0.0231"]


def required(requirements: list[str]) -> set[str]:
    """Names of the distributions that these need, and those need in turn, on this machine."""
    names, waiting = set(), list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name not in names and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
            names.add(requirement.name)
            waiting += importlib.metadata.requires(requirement.name) or []
    return names


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Directory of an environment with the wheel and its dependencies, which are linked from this one: no network."""
    directory = tmp_path_factory.mktemp("light")
    source = directory / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", directory, source]
    subprocess.run([*pip, *wheel], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "env"], check=True)
    [site] = (directory / "env" / "lib").glob("python*/site-packages")
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for name in required(dependencies):
        for file in importlib.metadata.files(name):
            if ".." not in file.parts and file.locate().exists():
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                os.symlink(file.locate(), site / file)
    pip += ["--python", directory / "env" / "bin" / "python"]
    subprocess.run([*pip, "install", "--no-compile", "--no-deps", "--no-index", *directory.glob("*.whl")], check=True)
    subprocess.run([*pip, "check"], check=True)
    shutil.rmtree(source)
    # What is compiled already comes along, as long as its source has the same date. Numba takes ten seconds for its
    # functions; one of them is left out, which shows that it runs there.
    for file in sorted((ROOT / "src").rglob("*.*")):
        there = site / file.relative_to(ROOT / "src")
        if file.suffix == ".py":
            shutil.copystat(file, there)
        elif file.suffix in (".pyc", ".nbi", ".nbc") and "_moments" not in file.name:
            there.parent.mkdir(exist_ok=True)
            shutil.copy2(file, there)
    return directory


def run(light, *words):
    """Run a program of the environment in an empty directory."""
    empty = light / "empty"
    empty.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(empty)}
    command = [light / "env" / "bin" / words[0], *map(str, words[1:])]
    return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)


WEIGH = f"""
import sys, cluster_tools.cli
print(cluster_tools.weigh({str(COMA)!r}).mean)
sys.exit(cluster_tools.cli.main([*{OPTIONS}, "--output", "masses.ecsv", "--figure", "coma.png"]))
"""


@pytest.mark.slow
def test_six_dependencies_weigh_coma_as_all_do(light, capsys):
    done = run(light, "python", "-c", WEIGH)
    assert done.returncode == 0, done.stderr
    mean, printed = done.stdout.split("\n", 1)
    [mass] = json.loads(printed)["clusters"]
    assert {path.name for path in (light / "empty").iterdir()} >= {"masses.ecsv", "coma.png"}
    assert float(mean) == pytest.approx(weigh(COMA).mean, abs=1e-3)
    assert cli.main(OPTIONS) == 0
    [expected] = json.loads(capsys.readouterr().out)["clusters"]
    assert "causticsnupy is not installed" in mass["estimates"].pop("caustic")["failure"]
    assert expected["estimates"].pop("caustic")["failure"] is None
    assert mass["estimates"] == {name: pytest.approx(values) for name, values in expected["estimates"].items()}
    for name in ("log_m200c", "log_m200c_16", "log_m200c_84", "log_m200c_abundance", "farther_hidden", "samples"):
        assert mass[name] == pytest.approx(expected[name], abs=1e-3), name
    assert mass["warnings"] == expected["warnings"] and mass["n_used"] == expected["n_used"] == 541
    size = sum(path.stat().st_size for path in (light / "env").rglob("*") if path.is_file())
    assert size < 1e9, f"{size / 1e6:.0f} MB"


def test_commands_of_the_book_name_the_package_that_they_lack(light):
    done = run(light, "cluster-tools", "book")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cluster-tools[book]" in done.stderr, done.stderr
