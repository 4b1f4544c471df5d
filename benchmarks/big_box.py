"""Peak memory of drawing and observing a box that is larger than the memory. `python benchmarks/big_box.py --help`."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from cluster_tools import machine
from cluster_tools.mocks import catalogs
from cluster_tools.universe import snapshots, synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a box to a file, observe its clusters, print the peak memory.")
    parser.add_argument("--box-size", type=float, default=2000.0, help="Mpc/h (default: 2000)")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB of memory allowed (default: 4)")
    parser.add_argument("--simulation", default="uchuu", help="mdpl2 or uchuu (default: uchuu)")
    parser.add_argument("--directory", type=Path, help="for the box, 66 bytes a galaxy (default: a temporary one)")
    parser.add_argument("--scheduler", help="address of a Dask cluster (default: threads of this machine)")
    parser.add_argument("--reuse", action="store_true", help="observe the box that lies in the directory")
    options = parser.parse_args()

    about = machine.description()
    print(f"{about['cpu']}, {machine.cores()} cores, {about['memory_gb']} GB, load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as temporary:
        path = (options.directory or Path(temporary)) / f"{options.simulation}_{options.box_size:g}.h5"
        started = time.perf_counter()
        if not (options.reuse and path.exists()):
            synthetic.synthetic(options.simulation, box_size=options.box_size, seed=1, path=path)
        box = snapshots.open_snapshot(path)
        report(f"{box.layers[-1]:,} galaxies drawn", started, options.memory)

        started = time.perf_counter()
        catalog = catalogs.build(box, seed=1, memory=options.memory, scheduler=options.scheduler, progress=progress)
        print(file=sys.stderr)
        report(f"{len(catalog):,} rows with {catalog.offsets[-1]:,} galaxies observed", started, options.memory)


def report(what: str, started: float, memory: float) -> None:
    """Print seconds and the peak memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    verdict = "within" if peak <= memory else "MORE THAN"
    print(f"{what} in {time.perf_counter() - started:.0f} s; peak {peak:.2f} GiB, {verdict} the {memory:g} GiB given",
          flush=True)  # fmt: skip


def progress(done: int, slabs: int) -> None:
    print(f"\r{done} of {slabs} slabs", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
