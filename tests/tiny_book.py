"""A book of two small chapters, with the real Snakefile, for tests of what runs again and of runs that are killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEADER = "---\nkernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n\n# A chapter\n"
STANZAS = """
first: {notebook: 01_first, uses: [book], writes: [first.h5, figures/first.svg]}
second: {notebook: 02_second, uses: [book], reads: [first], writes: [second.csv, second.json]}
"""
FIRST = """
import time
import numpy as np
from cluster_tools import hdf5, paths, store
store.write_text(paths.results(profile) / "figures" / "first.svg", "<svg/>")
with hdf5.create(paths.results(profile) / "first.h5", "first 1", {"key": "none"}) as file:
    for column in range(5):
        file.create_dataset(str(column), data=np.arange(1000) * column, **hdf5.CHECKED)
        time.sleep(0.1)
"""
# What `artefacts.write_table` does, without the two seconds that it takes to import: a table, then its digest.
SECOND = """
from cluster_tools import hdf5, paths, store
with hdf5.opened(paths.results(profile) / "first.h5", "first 1", "run 01_first again") as file:
    sums = [f"{column},{factor * int(file[column][()].sum())}\\n" for column in file]
text = "column,sum\\n" + "".join(sums)
store.write_text(paths.results(profile) / "second.csv", text)
store.write_digested(paths.results(profile) / "second.json", {"table": store.digest(text.encode())})
"""
SECOND_CSV = "column,sum\n0,0\n1,499500\n2,999000\n3,1498500\n4,1998000\n"  # 0 + 1 + ... + 999 = 499500
# Pages and Table 1 need the whole book: the tiny one has a page of its own.
COMMAND_LINE = """
import sys
from cluster_tools import cli
from cluster_tools.book import build, publish

publish.install, build.results_text = publish.site_path, str
sys.exit(cli.main(sys.argv[1:]))
"""
TINY_PAGES = """rule pages:
    input:
        RECORDS,
    output:
        SITE,
    shell:
        "touch {output:q}"


rule real_pages:"""
BOOK = ("book", "--profile", "smoke", "--cores", "2")


def chapter(parameters: str, code: str) -> str:
    """The text of a notebook with these two cells."""
    return (
        HEADER
        + f"\n```{{code-cell}} ipython3\n:tags: [parameters]\n\n{parameters}\n```\n"
        + f"\n```{{code-cell}} ipython3\n{code.strip()}\n```\n"
    )


def project(directory: Path) -> None:
    """Fill an empty directory with a book of the two chapters."""
    shutil.copytree(ROOT / "params", directory / "params")
    shutil.copy(ROOT / "environment.yml", directory)
    rules = (ROOT / "Snakefile").read_text().replace("update(SITE)", '"nowhere"').replace("rule pages:", TINY_PAGES)
    (directory / "Snakefile").write_text(rules)
    (directory / "results").mkdir()
    (directory / "notebooks").mkdir()
    (directory / "notebooks" / "chapters.yml").write_text(STANZAS)
    (directory / "notebooks" / "01_first.md").write_text(chapter('profile = "smoke"', FIRST))
    (directory / "notebooks" / "02_second.md").write_text(chapter('profile = "smoke"\nfactor = 1', SECOND))


def environment(directory: Path) -> dict[str, str]:
    """Environment of processes in the project: no home, since none is needed, and this process's modules."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CLUSTER_TOOLS_"))}
    own = {"CLUSTER_TOOLS_ROOT": str(directory), "HOME": "/proc/no/home"}
    return kept | own | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def start(directory: Path, *arguments, code=COMMAND_LINE) -> subprocess.Popen:
    """Start ``cluster-tools`` in the project, in a session of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=directory, env=environment(directory), **options)


@pytest.fixture
def tiny_book(tmp_path, monkeypatch):
    """The project in an empty directory; call it with arguments to start ``cluster-tools`` in it."""
    project(tmp_path)
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    monkeypatch.delenv("CLUSTER_TOOLS_COMA_SAMPLE", raising=False)
    started = []

    def begin(*arguments, **options):
        started.append(start(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
