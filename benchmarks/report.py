"""From what pytest-benchmark measured to `results.json`, the tables of README.md, and its plots.

python benchmarks/report.py measured.json; without a file, tables and plots are made again from `results.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cluster_tools import machine, store
from cluster_tools.figures import style

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end: written by make bench -->"
VERSIONS = ("numpy", "scipy", "numba", "tensorflow", "keras")

# Stages with a plain way: title, the size that is shown, and the speed-up that is wanted.
COMPARED = {
    "images_2d": ("2D images", {"clusters": 10_000}, 30),
    "images_1d": ("1D images", {"clusters": 10_000}, 30),
    "observe": ("Observing", {"lines": 12}, 20),
    "draws": ("100 draws, beside `model.predict`", {"clusters": 250}, 3),
    "draws_compiled": ("100 draws, beside a compiled pass with dropout", {}, None),
    "ten_folds": ("Ten folds of one model", {}, 3),
    "ten_folds_of_the_book": ("Ten folds, as long as in the book", {}, 3),
    "eight_models": ("Eight models, two cores", {}, 2),
}
# Stages without a plain way: title, and the most seconds that are wanted.
ALONE = {
    "import_package": ("`import cluster_tools`", 0.5),
    "import_kde": ("`import cluster_tools.mocks.kde`", None),
    "help": ("`cluster-tools --help`", None),
    "weighing": ("Weighing Coma with the networks that ship, loaded anew", 60),
    "whole_catalogue": ("A box of 1000 Mpc/h and its whole catalogue", None),
}
FULL_ONLY = {"ten_folds_of_the_book", "whole_catalogue"}  # with `make bench BENCH=--full`
GROWTH = {
    ("images_2d", "clusters"): "2D images", ("images_2d", "galaxies"): "2D images, 300 clusters",
    ("images_1d", "clusters"): "1D images", ("images_1d", "galaxies"): "1D images, 300 clusters",
    ("observe", "clusters"): "Observing along 3 lines of sight", ("observe", "lines"): "Observing a box of 300 Mpc/$h$",
    ("draws", "clusters"): "100 draws of each image", ("training", "clusters"): "Training for 3 epochs",
}  # fmt: skip
AXES = {"clusters": "clusters", "galaxies": "galaxies per cluster", "lines": "lines of sight"}


def main(arguments: list[str]) -> None:
    if arguments:
        store.write_json(RESULTS, results(json.loads(Path(arguments[0]).read_text())))
    measured = json.loads(RESULTS.read_text())
    readme = HERE / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    store.write_text(readme, f"{before}{BEGIN}\n\n{tables(measured)}\n{END}{rest.partition(END)[2]}")
    plot(measured)


def results(measured: dict) -> dict:
    """Rows of plain and own seconds, and the kind of machine, without its name."""
    pairs: dict[str, dict] = {}
    loads = []
    for benchmark in measured["benchmarks"]:
        info = benchmark["extra_info"]
        way, speed = info.pop("way"), info.pop("speed")
        loads.append(info.pop("load"))
        row = pairs.setdefault(benchmark["group"], {})
        row |= info | {"plain_seconds" if way == "plain" else "seconds": benchmark["stats"]["min"]}
    rows = [row for row in pairs.values() if "seconds" in row]
    for row in rows:
        if "plain_seconds" in row:
            row["ratio"] = row["plain_seconds"] / row["seconds"]
        if "limit" in row:
            row["limit_seconds"] = row.pop("limit")
            row["times_the_limit"] = row["seconds"] / row["limit_seconds"]
    about = machine.description() | {"load": [min(loads), max(loads)]}
    versions = {name: version for name, version in store.versions().items() if name in VERSIONS}
    found = {"date": measured["datetime"][:10], "commit": store.commit(), "machine": about, "versions": versions}
    return rounded(found | {"speed": speed, "rows": rows})


def rounded(value):
    """Numbers to four digits, also inside lists and dicts."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def shown(measured: dict, stage: str) -> dict | None:
    """The row of a stage that the summary shows; None if it was not measured."""
    wanted = COMPARED[stage][1] if stage in COMPARED else {}
    rows = (row for row in measured["rows"] if row["stage"] == stage and wanted.items() <= row["sizes"].items())
    return next(rows, None)


def tables(measured: dict) -> str:
    """The text of README.md between its two marks."""
    about, speed = measured["machine"], measured["speed"]
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    lines = [
        f"Measured on {measured['date']} at commit `{measured['commit']}`: {about['cpu']}, {about['cores']} cores, "
        f"{about['memory_gb']:g} GB; load {about['load'][0]:.1f} to {about['load'][1]:.1f}, "
        f"which includes this run. "
        f"{versions}. Large products of matrices reach {speed['float32'] / 1e9:.0f} GFLOP/s in float32 and "
        f"{speed['float64'] / 1e9:.0f} in float64 on a thread, a copy {speed['bytes'] / 1e9:.1f} GB/s.",
        "",
        "*Times the least* is our time divided by the least time. The text below the plots says what sets the least time.",
        "",
        "| stage | size | plain [s] | ours [s] | times as fast | wanted | times the least |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for stage, (what, _, target) in COMPARED.items():
        if row := shown(measured, stage):
            lines.append(
                f"| {what} | {sizes(row)} | {row['plain_seconds']:.3g} | {row['seconds']:.3g} | {row['ratio']:.3g} "
                f"| {target or ''} | {times(row)} |"
            )
    lines += ["", "| what | ours [s] | at most [s] | times the least |", "|---|---:|---:|---:|"]
    for stage, (what, target) in ALONE.items():
        if row := shown(measured, stage):
            lines.append(f"| {what} | {row['seconds']:.2g} | {target or ''} | {times(row)} |")
    lines.append("")
    for row in measured["rows"]:
        for key in sorted(name for name in row if name.startswith("losses")):
            (theirs, scatter), (ours, our_scatter) = row[key]["plain"], row[key]["ours"]
            kind = "1D" if key.endswith("1d") else "2D"
            lines.append(
                f"- Held-out loss, {COMPARED[row['stage']][0].lower()}, {kind}: {theirs:.3f} "
                f"(scatter between seeds {scatter:.3f}) by Keras, {ours:.3f} ({our_scatter:.3f}) by our code."
            )
        if "megabytes_beyond_images" in row:
            lines.append(f"- Memory for {COMPARED[row['stage']][0]} beyond the images themselves, 10,000 clusters: "
                         f"{row['megabytes_beyond_images']:g} MB.")  # fmt: skip
    return "\n".join(lines) + "\n"


def times(row: dict) -> str:
    many = row.get("times_the_limit")
    return "" if many is None else f"{many:.1f}" if many < 10 else f"{many:.0f}"


def sizes(row: dict) -> str:
    names = {"lines": "lines of sight", "galaxies_in_box": "galaxies in the box"}
    return ", ".join(f"{value:,} {names.get(name, name)}" for name, value in row["sizes"].items())


def plot(measured: dict) -> None:
    """`ratios.svg` and `growth.svg`, beside this file."""
    import matplotlib

    matplotlib.use("Agg")
    style.set_theme()
    for name, draw in (("ratios", ratios), ("growth", growth)):
        # The same numbers give the same file.
        with matplotlib.rc_context({"svg.hashsalt": name}), store.atomic(HERE / f"{name}.svg") as temporary:
            draw(measured).savefig(temporary, facecolor="white", metadata={"Date": None})


def ratios(measured: dict):
    """Speed of each stage relative to the plain way, with the speed-up that is wanted."""
    import matplotlib.pyplot as plt

    rows = [(stage, row) for stage in reversed(COMPARED) if (row := shown(measured, stage))]
    fig, ax = plt.subplots(figsize=(style.WIDTH, 4.2), layout="constrained")
    for i, (stage, row) in enumerate(rows):
        ax.barh(i, row["ratio"], color=style.BLUE, height=0.6, label="measured" if i == 0 else None)
        ax.annotate(f"{row['ratio']:.3g}", (1, i), (5, 0), textcoords="offset points", va="center", color="white")
        if target := COMPARED[stage][2]:
            ax.plot([target] * 2, [i - 0.4, i + 0.4], color=style.ORANGE, lw=3, label="wanted" if i == 0 else None)
    ax.set(xscale="log", xlim=(1, 1.5 * max(row["ratio"] for _, row in rows)), xlabel="times as fast as the plain way")
    names = [COMPARED[stage][0].replace("`", "").replace(", beside ", ",\nbeside ") for stage, _ in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(loc="lower right")
    return fig


def growth(measured: dict):
    """Time of both ways against the number of clusters, galaxies or lines of sight."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    fig, axes = plt.subplots(len(GROWTH) // 2, 2, figsize=(style.WIDTH, 10), layout="constrained")
    for ax, ((stage, of), title) in zip(axes.flat, GROWTH.items()):
        rows = [row for row in measured["rows"] if row["stage"] == stage and row["growth"] == of]
        rows = sorted(rows, key=lambda row: row["sizes"][of])
        many = [row["sizes"][of] for row in rows]
        ax.loglog(many, [row["plain_seconds"] for row in rows], "s-", color=style.ORANGE, label="plain")
        ax.loglog(many, [row["seconds"] for row in rows], "o-", color=style.BLUE, label="ours")
        ax.set(title=title, xlabel=AXES[of], ylabel="seconds")
        ax.set_xticks(many, [f"{each:,}" for each in many])
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes.flat[0].legend()
    return fig


if __name__ == "__main__":
    main(sys.argv[1:])
