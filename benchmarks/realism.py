"""Print how real a synthetic box is: every measure of `cluster_tools.mocks.realism`, and the time it took.

python benchmarks/realism.py --simulation mdpl2 --box-size 500
"""

import argparse
import sys
import time

from cluster_tools import ClusterToolsError
from cluster_tools.mocks import comparison, realism
from cluster_tools.universe import snapshots, synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a synthetic box against published numbers.")
    parser.add_argument("--simulation", default="mdpl2", help="mdpl2 or uchuu")
    parser.add_argument("--box-size", type=float, default=500.0, help="comoving Mpc/h")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", help="a snapshot in a file, instead of making one")
    options = parser.parse_args()
    started = time.perf_counter()
    if options.file:
        box = snapshots.open_snapshot(options.file)
    else:
        box = synthetic.synthetic(options.simulation, box_size=options.box_size, seed=options.seed)
    generated = time.perf_counter()
    table = realism.table(box, seed=options.seed)
    print(f"{box.simulation.name}, {box.box_size:g} Mpc/h: {len(box.host_log_m200c)} hosts, {box.layers[-1]} galaxies")
    print(f"generated in {generated - started:.0f} s, measured in {time.perf_counter() - generated:.0f} s\n")
    print(comparison.formatted(table).to_string(index=False))
    print("\nwithin tolerance:", ", ".join(f"{n} {word}" for word, n in comparison.count(table).items()))


if __name__ == "__main__":
    try:
        main()
    except ClusterToolsError as error:
        sys.exit(f"error: {error}")
