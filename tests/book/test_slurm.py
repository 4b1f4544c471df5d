"""The profile with which Snakemake sends chapters to SLURM, as far as a dry run goes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster_tools.book import chapters

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_chapter_would_be_sent_with_its_memory(tmp_path):
    for name in ("notebooks", "params", "profiles", "Snakefile"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "published.yml", tmp_path / "results")
    command = "-m snakemake --profile profiles/slurm --config profile=smoke --dry-run --nocolor".split()
    environment = os.environ | {"CLUSTER_TOOLS_ROOT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    jobs = dict(re.findall(r"^rule (\w+):.*?mem_mb=(\d+)", said, flags=re.MULTILINE | re.DOTALL))
    assert {run.name: str(run.memory_mb) for run in chapters.plan("smoke")}.items() <= jobs.items()
    assert len(re.findall("runtime=240, cpus_per_task=1", said)) >= len(chapters.plan("smoke"))


def test_profile_asks_for_the_executor_that_is_installed():
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    registry = ExecutorPluginRegistry()
    registry.collect_plugins()
    assert profile["executor"] in registry.plugins
    assert "profiles/slurm" in (ROOT / "book" / "running.md").read_text()
