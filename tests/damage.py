"""What disks do to files, for tests."""

import os
import signal
from pathlib import Path

import numpy as np

FORMATS = {  # of tables, by their ending
    "csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable", "tbl": "ascii.ipac", "mrt": "ascii.mrt",
}  # fmt: skip


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


def damaged(content: bytes, rng) -> bytes:
    """One to four faults anywhere: a byte flipped, bytes lost, inserted or repeated, the end lost."""
    for fault in rng.choice(5, rng.integers(1, 5), p=[0.3, 0.2, 0.2, 0.2, 0.1]):
        at, extra = int(rng.integers(max(len(content), 1))), rng.bytes(rng.integers(9))
        before, after = content[:at], content[at:]
        flipped = bytes(byte ^ (extra[0] if extra else 1) for byte in after[:1]) + after[1:]
        content = before + (flipped, after[len(extra) + 1 :], extra + after, after[:50] + after, b"")[fault]
    return content
