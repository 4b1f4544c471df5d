"""What disks do to files, for tests."""

import os
import signal
from pathlib import Path

import numpy as np


def flip_byte(file: Path) -> None:
    """Turn over all bits of the byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


class Galaxies:
    """A cluster that does something else when it is weighed, in place of `cylinders.Cluster`."""

    def __init__(self, deed, *arguments):
        self.deed, self.arguments = deed, arguments

    def table(self):
        return self.deed(*self.arguments)

    def place(self):
        return {}


def die():
    """As a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def ask_for(memory: int):
    return np.ones(memory)
