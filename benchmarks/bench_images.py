"""Galaxies to images, beside a loop over `scipy.stats.gaussian_kde`."""

import subprocess
import sys
import time

import mocks
import numpy as np
import plain
import pytest

from cluster_tools.mocks import kde

pytestmark = pytest.mark.benchmark(timer=time.process_time)

# Not `resource`, whose peak begins with that of the process that started this one.
MEMORY = """
import mocks
from pathlib import Path
from cluster_tools.mocks import kde

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

kde.phase_space_images(*mocks.galaxies(10), input_dim={input_dim})
galaxies = mocks.galaxies({n})
before = status("VmRSS")
images = kde.phase_space_images(*galaxies, input_dim={input_dim})
print(status("VmHWM") - before - images.nbytes)
"""


@pytest.mark.parametrize("clusters", (100, 1000, 10_000))
@pytest.mark.parametrize("input_dim", (2, 1))
def bench_clusters(measure, speed, way, input_dim, clusters):
    """Clusters with the richness of a mock catalogue."""
    info = images(measure, speed, way, input_dim, mocks.galaxies(clusters), growth="clusters", clusters=clusters)
    if way == "ours" and clusters == 10_000:
        info["megabytes_beyond_images"] = memory(clusters, input_dim)


@pytest.mark.parametrize("galaxies", (30, 100, 300, 1000))
@pytest.mark.parametrize("input_dim", (2, 1))
def bench_galaxies(measure, speed, way, input_dim, galaxies):
    """300 clusters of so many galaxies each."""
    clusters = mocks.galaxies(300, galaxies)
    images(measure, speed, way, input_dim, clusters, growth="galaxies", clusters=300, galaxies=galaxies)


def images(measure, speed, way, input_dim, columns, **sizes) -> dict:
    kde.phase_space_images(*mocks.galaxies(10), input_dim=input_dim)  # compiles
    ways = {"plain": lambda: plain.images(*columns, input_dim),
            "ours": lambda: kde.phase_space_images(*columns, input_dim=input_dim)}  # fmt: skip
    # One multiplication and addition for each pixel and galaxy.
    limit = 2 * len(columns[0]) * kde.PIXELS**input_dim / speed["float64"]
    few = len(columns[0]) < 10_000_000 / kde.PIXELS**input_dim
    return measure(f"images_{input_dim}d", way, ways[way], same=assert_same, limit=limit,
                   rounds=5 if way == "ours" else 3 if few else 1, **sizes)  # fmt: skip


def assert_same(expected, found) -> dict:
    """To 10^-6 of each image's peak."""
    off, peak = (values.reshape(len(found), -1).max(axis=1) for values in (np.abs(found - expected), expected))
    apart = off / peak
    if apart.max() > 1e-6:
        raise AssertionError(f"images are {apart.max():.1e} of their peak apart")
    return {"apart": float(apart.max())}


def memory(n: int, input_dim: int) -> float:
    """Peak memory [MB] of phase_space_images in a new process, without the images themselves."""
    code = MEMORY.format(n=n, input_dim=input_dim)
    out = subprocess.run([sys.executable, "-c", code], cwd=plain.HERE, check=True, capture_output=True, text=True)
    return round(max(int(out.stdout), 0) / 1e6, 1)
