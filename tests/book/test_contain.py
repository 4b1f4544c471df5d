"""Commands of which nothing is left, whoever is killed."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cluster_tools.book.contain import contained

MARK = "CLUSTER_TOOLS_TEST_MARK"
# A helper in a session of its own, as kernels are, whose parent ends, and one that stays.
FAMILY = ["sh", "-c", "(setsid sleep 1000 &); (setsid sleep 1000 &); echo started; exec sleep 1000"]
STARTER = f"from cluster_tools.book.contain import contained\nwith contained({FAMILY!r}) as process: process.wait()"


def family(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def wait_until_empty(mark: str) -> None:
    deadline = time.monotonic() + 60
    while left := family(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_a_killed_starter_takes_all_with_it(tmp_path):
    environment = os.environ | {MARK: str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", STARTER], env=environment, stdout=subprocess.PIPE) as starter:
        assert starter.stdout.readline() == b"started\n"
        assert len(family(str(tmp_path))) >= 4  # starter, the process that contains, the command, its helpers
        starter.kill()
    wait_until_empty(str(tmp_path))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_a_command_that_ends_leaves_no_helper_and_its_exit_code(tmp_path):
    environment = os.environ | {MARK: str(tmp_path)}
    with contained(["sh", "-c", "(setsid sleep 1000 &); exit 7"], env=environment) as process:
        assert process.wait() == 7
        assert not family(str(tmp_path))
