"""Faults that are made to happen: runs killed at any moment, full and read-only disks, damaged files, two books.

Faults of single formats and services stand with what they test: damaged catalogues, predictions and
networks in the test files of these modules, artefacts of other parameters in test_pipeline.py,
SkyServer and CosmoSim in test_coma.py and test_simulation_files.py, workers that die in
test_out_of_core.py, other numbers of threads there and in test_snapshots.py, and for Table 1 as a whole here.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from skyserver import csv_answer, skyserver
from small_catalog import catalog

from cluster_tools import cli, hdf5, paths, store
from cluster_tools.book import artefacts, chapters
from cluster_tools.coma import survey
from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks.catalogs import MockCatalog
from cluster_tools.universe import snapshots
from conftest import same_printed

ROOT = Path(__file__).parents[1]
CHILDREN = multiprocessing.get_context("fork")

# --- what is written, one of each kind: write(path, version), and read(path), which gives the version ---


def write_text(path, version):
    store.write_json(path, [version] * 20_000)


def read_text(path):
    return set(json.loads(path.read_text()))


def write_catalog(path, version):
    rng = np.random.default_rng(1)
    clusters = [(rng.normal(0, 900, 40), rng.uniform(0, 2.3, 40)) for _ in range(100)]
    catalog(clusters, np.full(100, float(version))).write(path)


def read_catalog(path):
    found = MockCatalog.read(path)
    assert len(found.v_los) == 4000
    return set(found.log_m200c)


def write_snapshot(path, version):
    galaxies = np.zeros(3000, snapshots.GALAXY)
    galaxies["position"] = np.random.default_rng(1).uniform(0, 60, (3000, 3))
    galaxies["velocity"] = version
    hosts = np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), np.array([14.5])
    made = snapshots.collect(SIMULATIONS["mdpl2"], 60.0, *hosts, [galaxies[:1000], galaxies[1000:]], path=path)
    made.position.file.close()


def read_snapshot(path):
    found = snapshots.open_snapshot(path)
    with hdf5.opened(path, snapshots.FORMAT, snapshots.REMEDY):  # h5py's errors as they reach a reader
        columns = [getattr(found, name)[:] for name in snapshots.GALAXY.names]
    found.position.file.close()
    assert [len(column) for column in columns] == [3000] * 5
    return set(columns[1].ravel())


KINDS = {
    "a.json": (write_text, read_text),
    "catalogue.h5": (write_catalog, read_catalog),
    "box.h5": (write_snapshot, read_snapshot),
}


def in_child(function, *arguments):
    """What a function gives or raises in a process of its own; a crash of that process fails the test."""
    ours, theirs = CHILDREN.Pipe()
    child = CHILDREN.Process(target=_answer, args=(theirs, function, arguments))
    child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        child.join()
        raise AssertionError(f"{function.__name__} ended its process with code {child.exitcode}") from None
    child.join()
    return answer


def _answer(pipe, function, arguments):
    try:
        pipe.send(function(*arguments))
    except Exception as error:
        pipe.send(error)


# --- killed ---------------------------------------------------------------------------------------


def write_forever(write, path):
    version = 0
    while True:
        version += 1
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
    # What is left over has names that the next `make book` clears away.
    left = [each for each in tmp_path.iterdir() if each != path]
    for each in left:
        for file in (each, *each.glob("*")):
            os.utime(file, (0, 0))
    cli.clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


SITE = """
import os, socket

def refuse(self, address, *_):
    if self.family != socket.AF_UNIX:
        raise OSError(f"no network in this test, but {address} was asked")

socket.socket.connect = socket.socket.connect_ex = refuse
if os.environ.get("TINY_BOOK"):
    from cluster_tools import chapters, publish

    def plan(profile):
        def run(name, reads=(), writes=()):
            return chapters.ChapterRun(name, "training", name, "", {"profile": profile}, reads, writes)

        return [run("01_first", (), ("first.h5",)), run("02_second", ("first.h5",), ("second.csv", "second.json"))]

    chapters.plan = plan
    publish.build = lambda profile, runs, run_keys, publish_html: "pages"
"""
HEADER = "---\nkernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n\n# A chapter\n"
PARAMETERS = '\n```{code-cell} ipython3\n:tags: [parameters]\n\nprofile = "smoke"\n```\n'
FIRST = """
```{code-cell} ipython3
import time
import numpy as np
from cluster_tools import hdf5, paths
with hdf5.create(paths.results(profile) / "first.h5", "first 1", {"key": "none"}) as file:
    for column in range(5):
        file.create_dataset(str(column), data=np.arange(1000) * column, **hdf5.CHECKED)
        time.sleep(0.1)
```
"""
SECOND = """
```{code-cell} ipython3
import pandas as pd
from cluster_tools import hdf5, paths, pipeline
with hdf5.opened(paths.results(profile) / "first.h5", "first 1", "run 01_first again") as file:
    table = pd.DataFrame({"column": list(file), "sum": [int(file[column][()].sum()) for column in file]})
pipeline.write_table(profile, paths.results(profile) / "second.csv", table)
```
"""
# 0 + 1 + ... + 999 = 499500
SECOND_CSV = "column,sum\n0,0\n1,499500\n2,999000\n3,1498500\n4,1998000\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, without a network; call it to start a command in it, as a process group."""
    for name in ("params", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "results" / "published.yml", tmp_path / "results")
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    monkeypatch.delenv("CLUSTER_TOOLS_COMA_SAMPLE", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)]))
    started = []

    def start(code, *arguments):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        started.append(subprocess.Popen([sys.executable, "-c", code, *arguments], **options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


CLI = "import sys; from cluster_tools import cli; cli.results_text = str; sys.exit(cli.main(sys.argv[1:]))"


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)


def texts(notebook):
    """What each cell printed or gave; a busy machine hands on in pieces what is printed at once."""
    return [
        "".join(
            output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])
        )
        for cell in notebook.cells
        if cell.get("outputs")
    ]


def test_a_chapter_killed_at_any_moment_is_completed_by_the_next_run(project, tmp_path):
    """Killed after some of its cells, and then run once more, it says what is committed of an undisturbed run.

    A process takes its time to start, so one moment is tried; `test_a_killed_writer_leaves_a_whole_file`
    has many, of what a chapter writes with.
    """
    folder, name, rng = paths.results("smoke") / "chapters", "07_historical_masses", np.random.default_rng(2)
    notebook, reached = chapters.read_notebook(name), tmp_path / "reached"
    after_parameters = [cell for cell in notebook.cells if cell.cell_type == "code"][1:]
    cell = after_parameters[int(rng.integers(1, 9))]
    cell.source = f"open({str(reached)!r}, 'w').close()\n" + cell.source
    jupytext.write(notebook, chapters.notebook_path(name))
    command = ("run-chapter", "--profile", "smoke", name)
    process = project(CLI, *command)
    wait_for(reached.exists, process)
    time.sleep(rng.uniform(0, 0.2))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / f"{name}.ipynb").exists()
    assert not list((paths.results("smoke") / "runs").glob("*"))
    process = project(CLI, *command)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    found, undisturbed = (
        nbformat.read(where / f"{name}.ipynb", as_version=4) for where in (folder, ROOT / "notebooks")
    )
    assert same_printed("\n".join(texts(found)), "\n".join(texts(undisturbed)))


def test_a_killed_book_and_two_at_once(project, monkeypatch):
    monkeypatch.setenv("TINY_BOOK", "1")
    results, notebooks = paths.results("smoke"), paths.project_root() / "notebooks"
    for name, cell in (("01_first", FIRST), ("02_second", SECOND)):
        (notebooks / f"{name}.md").write_text(HEADER + PARAMETERS + cell)
    book = (CLI, "book", "--profile", "smoke", "--cores", "2")

    killed = project(*book)
    wait_for(lambda: list(results.glob(".first-*")), killed)
    time.sleep(np.random.default_rng(3).uniform(0, 0.4))
    killed.kill()  # this process alone: Snakemake and the chapters end with it
    killed.communicate()
    assert not list(results.glob("runs/*"))

    both = [project(*book), project(*book)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert (results / "second.csv").read_text() == SECOND_CSV
    # One of them did the work, when nothing of the killed one was left; the other waited and found all done.
    assert sorted("2 to run" in text for text in said) == sorted("all 2 chapters are up" in text for text in said)
    assert sum("02_second" in text for text in said) == 1

    # A damaged artefact is refused by the chapter that reads it, and the command that it names mends it.
    whole = (results / "first.h5").read_bytes()
    content = bytearray(whole)
    content[len(whole) // 2] ^= 1
    (results / "first.h5").write_bytes(content)
    with pytest.raises(ClusterToolsError, match="first.h5 is damaged .*run 01_first again"):
        with hdf5.opened(results / "first.h5", "first 1", "run 01_first again") as file:
            [file[column][()] for column in file]
    once_more = project(CLI, "run-chapter", "--profile", "smoke", "01_first")
    assert once_more.communicate() and once_more.returncode == 0
    assert (results / "first.h5").read_bytes() == whole


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


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from cluster_tools import ClusterToolsError
from cluster_tools.networks.cnn import Architecture
from cluster_tools.networks.ensembles import CNNEnsemble, Network

path, architecture = Path(sys.argv[1]), Architecture(1)

def ensemble(value):
    weights = [np.full(shape, value, np.float32) for shape in architecture.shapes()]
    return CNNEnsemble([Network(weights, architecture, 0, 1, {})], (14.0, 15.0), {})

ensemble(1).save(path)
before = {file: file.read_bytes() for file in path.iterdir()}
weights = max(map(len, before.values()))
for room in (0, 700, weights // 10, weights // 2, weights - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        ensemble(2).save(path)
    except ClusterToolsError as error:
        said = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "fold0_network0.weights.h5 could not be written" in said and "free space" in said, said
    assert "\\n" not in said and {file: file.read_bytes() for file in path.iterdir()} == before
    said = ""
assert (CNNEnsemble.load(path).networks[0].weights[0] == 1).all()
"""


def test_weights_on_a_full_disk_leave_the_old_ones(project, tmp_path):
    process = project(FULL_DISK, str(tmp_path / "networks"))
    said, _ = process.communicate()
    assert process.returncode == 0, said


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
    import contextlib
    import io

    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(["book", "--profile", "smoke"])
    return code, said.getvalue()


def test_make_book_in_a_read_only_checkout_is_one_sentence(read_only):
    read_only.chmod(0o755)
    shutil.copytree(ROOT / "params", read_only / "params")
    (read_only / "results").mkdir()
    (read_only / "results").chmod(0o555)
    code, said = in_child(as_nobody, make_book, read_only)
    assert code == 1 and said == "error: results/smoke: Permission denied\n"


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["catalogue.h5", "box.h5"])
def test_a_flipped_byte_is_refused_or_harmless(name, tmp_path):
    write, read = KINDS[name]
    path = tmp_path / name
    write(path, 7)
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    refused = 0
    for place in rng.integers(len(whole), size=100):
        content = bytearray(whole)
        content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            assert read(path) == {7}
        except ClusterToolsError as error:
            refused += 1
            assert name in str(error) and "make" in str(error) and "\n" not in str(error)
    assert refused > 20


def test_a_flipped_byte_of_a_table_is_refused_or_harmless(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    path = paths.results("smoke") / "validation.csv"
    table = pd.DataFrame({"simulation": ["uchuu"], "median": [0.123456]})
    artefacts.write_table("smoke", path, table)
    rng = np.random.default_rng(5)
    for file in (path, path.with_suffix(".json")):
        whole = file.read_bytes()
        for place in [*rng.integers(len(whole), size=40), *range(0, len(whole), max(len(whole) // 20, 1))]:
            content = bytearray(whole)
            content[place] ^= int(rng.integers(1, 256))
            file.write_bytes(content)
            try:
                found = artefacts.load_table("smoke", "validation.csv", "05_validation")
                pd.testing.assert_frame_equal(found, table)
            except ClusterToolsError as error:
                assert "validation.csv" in str(error) and "run-chapter --profile smoke 05_validation" in str(error)
        file.write_bytes(whole)


def test_a_table_that_is_made_again_stays_as_it_is(tmp_path, monkeypatch):
    """Who runs a chapter by hand, at another commit, gives `make book` nothing to do again."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    path = paths.results("smoke") / "validation.csv"
    table = pd.DataFrame({"median": [0.1]})
    artefacts.write_table("smoke", path, table)
    before = path.with_suffix(".json").read_bytes()
    monkeypatch.setattr(store, "commit", lambda: "another")
    artefacts.write_table("smoke", path, table)
    assert path.with_suffix(".json").read_bytes() == before
    path.write_text("damaged")
    artefacts.write_table("smoke", path, table)
    assert path.read_text() == "median\n0.100000\n"
    artefacts.write_table("smoke", path, table + 1)
    assert path.read_text() == "median\n1.100000\n" and b"another" in path.with_suffix(".json").read_bytes()


# --- networks -------------------------------------------------------------------------------------


def test_no_network_is_needed_for_the_sample_that_ships(monkeypatch):
    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(survey.load_sample("desi")) > 500
    monkeypatch.setenv("CLUSTER_TOOLS_CACHE", "/nonexistent")
    with pytest.raises(ClusterToolsError, match='no whole answer .*or use the sample that ships.*coma_sample="desi"'):
        survey.load_sample("sdss")


@pytest.mark.parametrize("pause", [0.2, 3.0])
def test_a_slow_network_is_waited_for_and_a_dead_one_is_not(pause, tmp_path, monkeypatch):
    """Ten pieces with pauses between them, where a pause of one second is the longest that is borne."""
    monkeypatch.setenv("CLUSTER_TOOLS_CACHE", str(tmp_path))
    some = survey.load_sample("desi")[:30]
    body = csv_answer([(g["ra"], g["dec"], g["z"], 10.0, 30) for g in some])
    with skyserver(body, pause=pause):
        if pause < 1:
            assert len(survey.load_sample("sdss")) == 30
            return
        with pytest.raises(ClusterToolsError, match="gave no whole answer"):
            survey.load_sample("sdss")
    assert list(tmp_path.iterdir()) == []


# --- other machines -------------------------------------------------------------------------------

TINY = {
    "mock_catalogues": {"box_size": 160.0, "rows_per_dex": 200},
    "training": {"epochs": 2, "draws": 5, "max_test": 40},
    "coma_mass": {"draws": 10},
}
TABLE_1 = """
import pandas as pd
from cluster_tools import chapters, coma, pipeline, profiles, simulations, table1, validation

settings = profiles.profile_parameters("smoke")
for name in simulations.SIMULATIONS:
    pipeline.mock_catalog("smoke", name, **settings["mock_catalogues"])
mocks = {name: pipeline.load_catalog("smoke", name) for name in simulations.SIMULATIONS}
sample, rows, weighed = coma.load_sample("desi"), [], []
for _, model, _ in chapters.models()[::3]:
    training = dict(settings["training"])
    drawn = {name: training.pop(name) for name in ("draws", "max_test")}
    networks = pipeline.ensemble("smoke", **model, **training)
    made = pipeline.predictions("smoke", networks, **drawn)
    rows.append(model | validation.summary(made, model["simulation"], simulations.other(model["simulation"])))
    weighed.append(pipeline.coma_posterior(networks, sample, draws=10, seed=1))
rows += [table1.m_sigma(mocks, name, simulations.other(name), [0], seed=1) for name in mocks]
weighed += [table1.m_sigma_of_coma(mocks[name], name, sample) for name in mocks]
pipeline.write_coma("smoke", weighed, pd.DataFrame(rows), **settings["coma_mass"])
"""


def test_table_1_is_the_same_with_any_number_of_threads(project):
    """From the box to the last digit; the models are three of the eight, tiny, and trained for two epochs."""
    file = paths.project_root() / "params" / "smoke.yml"
    sections = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({name: section | TINY.get(name, {}) for name, section in sections.items()}))
    tables = []
    for threads in ("1", "3"):
        libraries = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "NUMBA", "TF_INTRAOP", "TF_INTEROP")]
        process = project(f"import os; os.environ |= dict.fromkeys({libraries}, {threads!r})" + TABLE_1)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        tables.append((paths.results("smoke") / "table1.csv").read_text())
        shutil.rmtree(paths.results("smoke"))
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 6
