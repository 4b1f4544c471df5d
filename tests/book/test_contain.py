"""Commands of which nothing is left, whoever is killed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_book
from attack.kills import family

from cluster_tools.book.contain import contained

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
# A helper in a session of its own, as kernels are, whose parent ends, and one that stays.
FAMILY = ["sh", "-c", "(setsid sleep 1000 &); (setsid sleep 1000 &); echo started; exec sleep 1000"]
STARTER = f"from cluster_tools.book.contain import contained\nwith contained({FAMILY!r}) as process: process.wait()"


def test_a_killed_starter_takes_all_with_it(tmp_path):
    command, environment = [sys.executable, "-c", STARTER], tiny_book.environment(tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as starter:
        assert starter.stdout.readline() == b"started\n"
        assert len(family(tmp_path)) >= 4  # starter, the process that contains, the command, its helpers
        starter.kill()
    deadline = time.monotonic() + 60
    while left := family(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_a_command_that_ends_leaves_no_helper_and_its_exit_code(tmp_path):
    command = ["sh", "-c", "(setsid sleep 1000 &); exit 7"]
    with contained(command, env=tiny_book.environment(tmp_path)) as process:
        assert process.wait() == 7
        assert not family(tmp_path)
