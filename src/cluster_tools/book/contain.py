"""Run a command; none of its processes is left once it has ended, or once the process that started it has gone.

A process that is killed cannot end its children. Here a small process of its own runs the command: it holds the read
end of a pipe that only the starter can write to, which closes with the starter, whatever ends that.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36  # of prctl(2), which Linux has


@contextmanager
def contained(command: list, **options) -> Iterator[subprocess.Popen]:
    """Start a command; at the end of the block, it and all that it started are ended if they still run.

    `options` are those of `subprocess.Popen`, but for its input, which is empty. Yields the process that runs the
    command, and has its exit code.
    """
    reader, writer = os.pipe()
    words = [sys.executable, "-P", __file__, *map(str, command)]  # -P: our folder must not hide modules of Python
    try:
        process = subprocess.Popen(words, stdin=reader, **options)
    finally:
        os.close(reader)
    try:
        yield process
    finally:
        os.close(writer)
        process.wait()


def main(command: list[str]) -> int:
    """Run a command until it ends or standard input closes; return its exit code."""
    import psutil

    def prctl(option: int, value: int) -> None:
        with suppress(AttributeError):  # not on Linux: processes whose parent ends are not found below
            ctypes.CDLL(None).prctl(option, value)

    def end_all() -> None:
        while left := psutil.Process().children(recursive=True):
            for each in left:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            psutil.wait_procs(left, timeout=1)

    def end_with_starter() -> None:
        os.read(0, 1)
        end_all()
        os._exit(1)

    prctl(SET_CHILD_SUBREAPER, 1)  # processes whose parent ends become ours
    signal.signal(signal.SIGTERM, lambda *_: None)  # for the command, which may share our process group
    with open(os.devnull) as nothing:
        process = subprocess.Popen(
            command, stdin=nothing, close_fds=False, preexec_fn=lambda: prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        )
    threading.Thread(target=end_with_starter, daemon=True).start()
    code = process.wait()
    end_all()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
