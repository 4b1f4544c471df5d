"""Faults that are made to happen: writers that are killed, full and read-only disks, dead networks, other machines."""

import concurrent.futures
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from skyserver import csv_answer, skyserver
from small_catalog import read_box, write_box

from cluster_tools import cli, machine, store
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.coma import survey
from cluster_tools.errors import ClusterToolsError

ROOT = Path(__file__).parents[1]
CHILDREN = multiprocessing.get_context("fork")

# --- one file of each kind: write(path, version), and read(path), which returns all versions in it ---


def write_text(path, version):
    store.write_json(path, [version] * 20_000)


KINDS = {
    "a.json": (write_text, lambda path: set(json.loads(path.read_text()))),
    "box.h5": (write_box, lambda path: set(read_box(path)["velocity"].ravel())),
}


def in_child(function, *arguments):
    """Result of a function, or its exception, in a process of its own; a crash of that process fails the test."""
    with concurrent.futures.ProcessPoolExecutor(1, CHILDREN) as pool:
        future = pool.submit(function, *arguments)
        return future.exception() or future.result()


# --- killed ---------------------------------------------------------------------------------------


def write_forever(write, path):
    for version in itertools.count(1):
        write(path, version)


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_writer_leaves_a_whole_file(name, tmp_path):
    write, read = KINDS[name]
    path = tmp_path / name
    rng = np.random.default_rng(1)
    for _ in range(12):
        path.unlink(missing_ok=True)
        child = CHILDREN.Process(target=write_forever, args=(write, path))
        child.start()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        child.join()
        assert len(read(path)) == 1
    write(path, 99)
    assert read(path) == {99}
    store.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_build_of_pages_leaves_nobody_who_writes(tmp_path):
    """A stand-in for Jupyter Book writes for ever; the process that renders the pages is killed."""
    stand_in = tmp_path / "jupyter_book" / "cli" / "main.py"
    store.write_text(stand_in, "import time\ndef main():\n    while True: print('page', flush=True); time.sleep(0.02)")
    render = f"from cluster_tools.book import publish; from pathlib import Path; here = Path({str(tmp_path)!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-c", f"{render}; publish.render(here, here, here)"]
    log = tmp_path / "pages.log"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as killed:
        while not (log.exists() and log.stat().st_size):
            assert killed.poll() is None, killed.communicate()[1]
            time.sleep(0.01)
        killed.kill()
    written, deadline = -1, time.monotonic() + 60
    while (size := log.stat().st_size) != written:
        assert time.monotonic() < deadline, "the stand-in still writes"
        written = size
        time.sleep(0.5)


def test_what_killed_runs_left_is_cleared_and_what_others_write_is_not(tmp_path):
    (tmp_path / "snapshots" / ".uchuu-abcd_123" / "inside").mkdir(parents=True)
    (tmp_path / ".first-abcd_123.h5").write_bytes(b"x")
    (tmp_path / "in-use").mkdir()
    (tmp_path / "table1.csv").write_text("m")
    with store.atomic(tmp_path / "in-use" / "second.csv") as temporary:
        in_child(store.remove_leftovers, tmp_path)  # as another run does
        assert temporary.exists()
        (tmp_path / "in-use" / ".third-abcd_123.csv").touch()
    store.remove_leftovers(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"table1.csv", "snapshots", "in-use", "in-use/second.csv"}


# --- disks ----------------------------------------------------------------------------------------


def write_on_small_disk(write, path, room):
    """Write where no file can be larger than `room` bytes, which fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    write(path, 2)


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(name, tmp_path):
    write, read = KINDS[name]
    path = tmp_path / name
    write(path, 1)
    before = path.read_bytes()
    for room in (0, 700, len(before) // 10, len(before) // 2, len(before) - 1):
        error = in_child(write_on_small_disk, write, path, room)
        assert isinstance(error, ClusterToolsError), (room, error)
        assert name in str(error) and "free space" in str(error) and "\n" not in str(error)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert read(path) == {1}


def as_nobody(function, *arguments):
    if os.geteuid() == 0:  # whom no permission stops
        os.seteuid(65534)
    return function(*arguments)


@pytest.fixture
def read_only():
    """A directory that cannot be written, with a file in it, where any user may look."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder)
        (path / "old").write_text("old")
        path.chmod(0o555)
        yield path
        path.chmod(0o755)


@pytest.mark.parametrize("name", KINDS)
def test_a_read_only_directory_is_one_sentence(name, read_only):
    error = in_child(as_nobody, KINDS[name][0], read_only / name, 1)
    assert isinstance(error, ClusterToolsError | PermissionError), error
    assert name.split(".")[0] in str(error) and "ermission" in str(error) and "\n" not in str(error)
    assert [path.name for path in read_only.iterdir()] == ["old"]


def make_book(root):
    os.environ["CLUSTER_TOOLS_ROOT"] = str(root)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return cli.main(["book", "--profile", "smoke"]), said.getvalue()


def test_make_book_in_a_read_only_checkout_is_one_sentence(read_only):
    read_only.chmod(0o755)
    for folder in ("params", "notebooks"):
        shutil.copytree(ROOT / folder, read_only / folder)
    (read_only / "results").mkdir()
    (read_only / "results").chmod(0o555)
    cli.parser()  # imports its modules while they can be read
    code, said = in_child(as_nobody, make_book, read_only)
    assert code == 1 and said.startswith("error: results/smoke") and said.endswith("Permission denied\n")


# --- networks -------------------------------------------------------------------------------------


def test_no_network_is_needed_for_the_sample_that_ships(monkeypatch):
    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(survey.load_sample("desi")) > 500
    monkeypatch.setenv("CLUSTER_TOOLS_CACHE", "/nonexistent")
    with pytest.raises(ClusterToolsError, match='no whole answer .*or use the sample that ships.*coma_sample="desi"'):
        survey.load_sample("sdss")


def test_a_slow_network_is_waited_for(tmp_path, monkeypatch):
    """Ten pieces with pauses between them; a dead one is not: tests/coma/test_survey.py."""
    monkeypatch.setenv("CLUSTER_TOOLS_CACHE", str(tmp_path))
    body = csv_answer([(g["ra"], g["dec"], g["z"], 10.0, 30) for g in survey.load_sample("desi")[:30]])
    with skyserver(body, pause=0.2):
        assert len(survey.load_sample("sdss")) == 30


# --- other machines -------------------------------------------------------------------------------

TINY = {
    "mock_catalogues": {"box_size": 160.0, "extra_hosts": 0, "rows_per_dex": 200},
    "training": {"epochs": 2, "draws": 5, "max_test": 40},
    "coma_mass": {"draws": 10},
}
TABLE_1 = """
import os
from cluster_tools import machine, paths
os.environ |= machine.private_home(paths.caches())  # as chapters do
os.environ |= dict.fromkeys(libraries, threads)
machine.collect_garbage_rarely()

import pandas as pd
from cluster_tools import cosmology
from cluster_tools.book import artefacts, model_artefacts, profiles
from cluster_tools.coma import survey
from cluster_tools.inference import table1
from cluster_tools.networks.models import PAPER_MODELS

settings = profiles.profile_parameters("smoke")
for name in cosmology.PAPER_SIMULATIONS:
    artefacts.mock_catalog("smoke", name, **settings["mock_catalogues"])
mocks = {name: artefacts.load_catalog("smoke", name) for name in cosmology.PAPER_SIMULATIONS}
sample, rows, weighed = survey.load_sample("desi"), [], []
for model in PAPER_MODELS[3:5]:
    training = dict(settings["training"])
    drawn = {name: training.pop(name) for name in ("draws", "max_test")}
    networks = model_artefacts.ensemble("smoke", **model, **training)
    made = model_artefacts.predictions("smoke", networks, **drawn)
    rows.append(model | table1.summary(made, model["simulation"], seed=1))
    weighed.append(model_artefacts.coma_posterior(networks, sample, draws=10, seed=1))
rows += [table1.m_sigma(mocks, name, [0], seed=1) for name in mocks]
weighed += [table1.m_sigma_of_coma(mocks[name], name, sample) for name in mocks]
model_artefacts.write_coma("smoke", weighed, pd.DataFrame(rows), settings["coma_mass"])
"""


@pytest.mark.slow
def test_table_1_is_the_same_with_any_number_of_threads(tiny_book, tmp_path):
    """From the box to the last digit; two of the eight models, tiny, are trained for two epochs."""
    (tmp_path / "params" / "smoke.yml").write_text(
        yaml.safe_dump({name: section | TINY.get(name, {}) for name, section in profile_parameters("smoke").items()})
    )
    tables = []
    for threads in ("1", "3"):
        libraries = [f"{name}_THREADS" for name in machine.THREADS]
        process = tiny_book(code=f"libraries, threads = {libraries}, {threads!r}" + TABLE_1)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        tables.append((tmp_path / "results" / "smoke" / "table1.csv").read_text())
        shutil.rmtree(tmp_path / "results" / "smoke")
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 5
