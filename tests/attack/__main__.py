"""``make attack``: run the attacks, at full count or a share of it, and write what came out.

python -m attack [--share 0.1] [--only kill_book ...]
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from attack import batches, flips, kills, tables
from cluster_tools import machine, store

ATTACKS = {  # function, full count, and what the page calls it
    "kill_book": (kills.kill_book, 100, "kills of a book at random moments"),
    "kill_batch": (kills.kill_batch, 100, "kills of a batch at random moments"),
    "damage_tables": (tables.damage_tables, 100_000, "damaged tables of galaxies"),
    "flip_bytes": (flips.flip_bytes, 5000, "flipped bytes in every kind of file"),
    "many_clusters": (batches.many_clusters, 100_000, "clusters in one batch"),
    "two_at_once": (batches.two_at_once, 10, "rounds of two books and two batches at once"),
}
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "attacks.json"
BEGIN, END = "<!-- begin: written by make attack -->", "<!-- end: written by make attack -->"


def tenth(name: str, directory: Path) -> dict:
    """Outcomes of a tenth of an attack's full count, for the tests."""
    function, full, _ = ATTACKS[name]
    return function(full // 10, directory)


def markdown(results: dict) -> str:
    """The table of the benchmarks page."""
    lines = ["| attack | count | wrong | outcomes | date | commit | took |", "|---|---:|---:|---|---|---|---:|"]
    for name, (_, _, words) in ATTACKS.items():
        if name in results:
            row = results[name]
            outcomes = ", ".join(f"{key}: {value:,}" for key, value in row["outcomes"].items() if key != "wrong")
            cells = (words, f"{row['count']:,}", row["outcomes"]["wrong"], outcomes, row["date"], f"`{row['commit']}`",
                     machine.duration(row["seconds"]))  # fmt: skip
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the full count of each attack")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    results, commit = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}, store.commit()
    for name in options.only:
        function, full, words = ATTACKS[name]
        count, began = max(1, round(options.share * full)), time.monotonic()
        with TemporaryDirectory(prefix="attack-") as directory:
            outcomes = function(count, Path(directory), options.seed)
        results[name] = {
            "count": count, "seed": options.seed, "outcomes": outcomes, "date": time.strftime("%Y-%m-%d"),
            "commit": commit, "seconds": round(time.monotonic() - began), "machine": machine.description(),
        }  # fmt: skip
        print(f"{count:,} {words}: {outcomes}", flush=True)
        store.write_json(RESULTS, results)
        readme = BENCHMARKS / "README.md"
        before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
        store.write_text(readme, f"{before}{BEGIN}\n\n{markdown(results)}\n\n{END}{rest.partition(END)[2]}")
    return int(any(result["outcomes"]["wrong"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
