"""How pytest compares notebooks (nbval), the small book that some tests read, and which markers the tests use."""

import fcntl
import functools
import json
import math
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from unittest import mock

import nbformat
import pytest

from cluster_tools import machine, paths, store
from cluster_tools.book import chapters
from cluster_tools.figures import figure_data

ROOT = Path(__file__).parent
pytest_plugins = ["tiny_book", "browser"]  # fixtures of tests/
# A number that stands alone; a name such as h5py or 2D has none.
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w])")
RELATIVE_TOLERANCE = 1e-4
# What may differ from run to run although nothing did: addresses of objects, runs of blanks
# in tables (whose columns are as wide as their numbers are long).
VOLATILE = ((re.compile(r"0x[0-9a-f]{6,}"), "0x"), (re.compile(r"[ \t]+|-{3,}"), " "))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One process more than there are cores: many tests wait for a browser, a kernel or a command."""
    return machine.cores() + 1


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
    machine.collect_garbage_rarely()
    os.environ.update(machine.SINGLE_THREADED | machine.private_home(paths.caches()))
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # numbers are compared with those of a processor
    for name in ("CLUSTER_TOOLS_COMA_SAMPLE", "MPLBACKEND"):  # what is compared depends on neither
        os.environ.pop(name, None)


@functools.cache
def make_small_book() -> None:
    """Run the smoke build of the book, which ends at once if it is up to date, or fail with what was wrong with it.

    Of several processes that ask for it (xdist), the first makes it, and the others wait for what it says.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"process {os.getpid()}")
    said = ROOT / "_build" / "small_book.json"
    said.parent.mkdir(exist_ok=True)
    with said.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = json.loads(file.read() or "{}")
        if last.get("run") != run:
            command = [sys.executable, "-m", "cluster_tools.cli", "book", "--profile", "smoke", "--keep-html"]
            environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
            environment["HOME"] = "/proc/no/home"  # is never needed
            made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
            fault = f"the small book could not be made:\n{made.stdout}{made.stderr}" if made.returncode else ""
            last = {"run": run, "fault": fault}
            file.truncate(0)
            json.dump(last, file)
    if last["fault"]:
        pytest.fail(last["fault"], pytrace=False)


@pytest.fixture(scope="session")
def small_book() -> Path:
    """The pages of the smoke build, made with warnings as errors."""
    make_small_book()
    return ROOT / "_build" / "smoke" / "site"


@pytest.hookimpl(tryfirst=True)  # before nbval starts a kernel
def pytest_runtest_setup(item):
    """Notebooks read what the chapters of the small book have written, and are not executed twice."""
    if not is_cell(item):
        return
    make_small_book()
    notebook = item.parent
    if notebook.kernel is None and (cells := executed_by_small_book(notebook)):
        notebook.kernel = RecordedKernel(cells)
        notebook.setup = notebook.setup_sanitize_files


def executed_by_small_book(notebook) -> list:
    """The code cells of a notebook as the small book has executed them, or none if it is another text.

    Its defaults are the small book's parameters. A notebook with other code than the chapter, or that was executed with
    other versions of the packages, has to be executed by nbval itself.
    """
    with mock.patch.dict(os.environ, CLUSTER_TOOLS_ROOT=str(ROOT)):
        defaults = chapters.default_parameters(notebook.path.stem)
        runs = [run for run in chapters.plan("smoke") if run.notebook == notebook.path.stem]
        run = next((run for run in runs if run.parameters.items() <= defaults.items()), None)
        record = run and chapters.read_record(run)
    if not record or record["versions"] != store.versions():
        return []
    code = [cell for cell in nbformat.read(chapters.executed_path(run), as_version=4).cells if cell.cell_type == "code"]
    code = [cell for cell in code if "injected-parameters" not in cell.metadata.get("tags", [])]
    texts = [cell.source for cell in notebook.nb.cells if cell.cell_type == "code"]
    return code if texts == [cell.source for cell in code] else []


class RecordedKernel:
    """Stands in for a kernel of nbval: gives the outputs of cells that were executed, in their order."""

    def __init__(self, cells):
        self.cells, self.messages = iter(cells), iter(())

    def is_alive(self):
        return True

    def execute_cell_input(self, source, allow_stdin=False):
        """Give the outputs of the next cell as messages, which `get_message` returns one by one."""
        cell = next(self.cells)
        assert cell.source == source
        contents = [(output.output_type, output) for output in cell.outputs]
        header = {"msg_id": source}
        contents.append(("status", {"execution_state": "idle"}))
        self.messages = iter([{"msg_type": kind, "content": each, "parent_header": header} for kind, each in contents])
        return source

    def get_message(self, stream, timeout=None):
        return next(self.messages)

    def await_reply(self, msg_id, timeout=None):
        pass

    def stop(self):
        pass


def is_cell(item) -> bool:
    """Whether this is a cell of a notebook, and not a test."""
    return type(item).__name__ == "IPyNbCell"


def same_printed(one: str, other: str) -> bool:
    """Whether two outputs say the same: equal text, equal integers, decimals equal as printed.

    Decimals may differ by 1e-4 of their size or by one in their last printed digit, since
    libraries add up in another order on another processor.
    """
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    return all(same_number(a, b) for a, b in zip(NUMBER.findall(one), NUMBER.findall(other)))


def same_number(one: str, other: str) -> bool:
    """Compare two printed numbers; see `same_printed`."""
    if re.fullmatch(r"[-+]?\d+", one) and re.fullmatch(r"[-+]?\d+", other):
        return int(one) == int(other)
    last_digit = max(Decimal(number).as_tuple().exponent for number in (one, other))
    return math.isclose(float(one), float(other), rel_tol=RELATIVE_TOLERANCE, abs_tol=1.01 * 10.0**last_digit)


class Printed(str):
    """An output that equals another one if `same_printed` says so."""

    def __eq__(self, other):
        return same_printed(self, other)

    def __ne__(self, other):
        return not same_printed(self, other)

    __hash__ = str.__hash__


# With more than one process (xdist), what takes minutes must not begin last. The first makes the small book,
# beside tests that do not need it; the notebooks, which do, come last.
LONGEST = (
    "test_site.py",
    "test_kills.py",
    "test_files.py",
    "test_survey_estimator.py",
    "test_reliability.py",
    "test_light_install.py",
    "test_shipped.py",
    "test_training.py",
    "test_chapters.py",
    "test_weigh.py",
)


def pytest_collection_modifyitems(items):
    """Put the longest files first; have nbval compare as above, and ignore figures and stderr, whose paths differ."""
    places = dict(zip(LONGEST, range(len(LONGEST))))
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))
    for item in items:
        if is_cell(item):
            item.parent.skip_compare = tuple({*item.parent.skip_compare, "stderr", figure_data.MIME_TYPE})
            item.sanitize = sanitize


def sanitize(output):
    """An output made comparable; anything but text stays as it is."""
    if not isinstance(output, str):
        return output
    for pattern, replacement in VOLATILE:
        output = pattern.sub(replacement, output)
    return Printed(output)
