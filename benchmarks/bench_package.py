"""What a user waits for: imports and the command's help, each in a new process, and the mass of one cluster."""

import subprocess
import sys
import time

import pytest

from cluster_tools.coma import survey
from cluster_tools.mocks import kde
from cluster_tools.networks import ensembles

pytestmark = pytest.mark.benchmark(timer=time.perf_counter)

STARTS = {
    "import_package": ("-c", "import cluster_tools"),
    "import_kde": ("-c", "import cluster_tools.mocks.kde"),
    "help": ("-m", "cluster_tools.cli", "--help"),
}


@pytest.mark.parametrize("stage", STARTS)
def bench_start(measure, stage):
    """Beside a Python that does nothing, started as often."""
    start(*STARTS[stage])  # files are in memory from now on
    limits = []
    for _ in range(5):
        started = time.perf_counter()
        start("-c", "pass")
        limits.append(time.perf_counter() - started)
    measure(stage, "ours", lambda: start(*STARTS[stage]), rounds=5, limit=min(limits))


@pytest.mark.benchmark(timer=time.process_time)
def bench_weighing(measure, speed):
    """Coma's image and its posterior by the networks that come with the package, loading them included."""
    from bench_networks import OPERATIONS

    sample = survey.load_sample(None)
    v_los, r_proj = sample["v_los"].value, sample["r_proj"].value

    def weigh():
        image = kde.phase_space_images(v_los, r_proj, [0, len(v_los)])
        return ensembles.CNNEnsemble.shipped().posterior(image, draws=100)

    weigh()  # compiles
    networks = len(ensembles.CNNEnsemble.shipped().networks)
    measure("weighing", "ours", weigh, rounds=2, limit=networks * 100 * OPERATIONS[2] / speed["float32"],
            galaxies=len(v_los), networks=networks, draws=100)  # fmt: skip


def start(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
