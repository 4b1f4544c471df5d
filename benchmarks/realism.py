"""Print how real a synthetic box is: every measure of `cluster_tools.mocks.realism`, and the time it took.

python benchmarks/realism.py --simulation mdpl2 --box-size 500
"""

import argparse
import sys
import time

from cluster_tools import ClusterToolsError
from cluster_tools.mocks import comparison, realism
from cluster_tools.universe import snapshots, synthetic


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a synthetic box against published numbers.")
    parser.add_argument("--simulation", default="mdpl2", help="mdpl2 or uchuu")
    parser.add_argument("--box-size", type=float, default=500.0, help="comoving Mpc/h")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", help="a snapshot in a file, instead of making one")
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        if arguments.file:
            snapshot = snapshots.open_snapshot(arguments.file)
        else:
            snapshot = synthetic.synthetic(arguments.simulation, box_size=arguments.box_size, seed=arguments.seed)
        generated = time.perf_counter()
        table = realism.table(snapshot, seed=arguments.seed)
    except ClusterToolsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    galaxies, hosts = snapshot.position.shape[0], len(snapshot.host_log_m200c)
    print(f"{snapshot.simulation.name}, {snapshot.box_size:g} Mpc/h: {hosts} hosts, {galaxies} galaxies")
    print(f"generated in {generated - started:.0f} s, measured in {time.perf_counter() - generated:.0f} s\n")
    print(comparison.formatted(table).to_string(index=False))
    print("\nwithin tolerance:", ", ".join(f"{n} {word}" for word, n in comparison.count(table).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
