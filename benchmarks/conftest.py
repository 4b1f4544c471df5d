"""How a stage is measured: the plain way and ours, one after the other, on the same input, results compared."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytest

WAYS = ("plain", "ours")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also what takes many minutes, at the scale of the book")


def pytest_generate_tests(metafunc):
    """Every benchmark that asks for a `way` runs once with each, side by side."""
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", WAYS)


@pytest.fixture
def full(request):
    if not request.config.getoption("--full"):
        pytest.skip("takes many minutes; asked for with --full")


@pytest.fixture(scope="session")
def speed() -> dict[str, float]:
    """What the processor can do on one thread, the best of some tries.

    Multiplications and additions a second in products of large matrices, of float32 and float64, and bytes a second
    that a copy of a large array reads and writes.
    """
    fastest = {}
    for kind in (np.float32, np.float64):
        matrix = np.ones((1500, 1500), kind)
        fastest[kind.__name__] = 2 * 1500**3 / _least(lambda matrix=matrix: matrix @ matrix)
    here, there = np.ones((2, 10**7))
    fastest["bytes"] = 2 * here.nbytes / _least(lambda: np.copyto(there, here))
    return fastest


def _least(function: Callable) -> float:
    seconds = []
    for _ in range(5):
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)
    return min(seconds)


@pytest.fixture(scope="session")
def _results() -> dict:
    return {}


@pytest.fixture
def measure(benchmark, speed, _results):
    """Time one way of doing a stage, and compare what it gives with what the other way gave."""

    def run(stage: str, way: str, function: Callable, *, same: Callable | None = None, rounds: int = 1, growth=None,
            limit: float | None = None, **sizes):  # fmt: skip
        """`same(plain, ours)` raises if they differ; `growth` names the size that this is one of several of."""
        benchmark.group = f"{stage} {sizes}"
        found = benchmark.pedantic(function, rounds=rounds)
        benchmark.extra_info.update(stage=stage, way=way, sizes=sizes, growth=growth, speed=speed,
                                    load=os.getloadavg()[0])  # fmt: skip
        if way == "plain":
            _results[benchmark.group] = found
        elif same is not None:
            benchmark.extra_info.update(same(_results.pop(benchmark.group), found) or {})
        if limit is not None:
            benchmark.extra_info["limit"] = limit
        return benchmark.extra_info

    return run
