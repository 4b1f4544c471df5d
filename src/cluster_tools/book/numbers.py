"""Numbers of the README that a run of the book gives: collected, written into it, and compared with those of a new run.

``results/measured.json`` is in git and holds each number with its error, and the run that it comes from.
"""

from __future__ import annotations

import math
import re
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cluster_tools import machine, paths, store
from cluster_tools.cosmology import simulation
from cluster_tools.errors import ClusterToolsError
from cluster_tools.networks.models import model_name

if TYPE_CHECKING:
    import pandas as pd

BLOCK = re.compile(r"(<!-- cluster-tools numbers -->\n).*(<!-- end of the numbers -->)", re.DOTALL)
PROFILE = "book"  # whose numbers the README shows
FIGURE = "figure3.svg"  # and whose figure
SEED_ERROR = 0.02  # dex by which Coma's mean moves with the seed of the networks; chapter 09 measures it


def measured_path() -> Path:
    """The committed file of numbers."""
    return paths.project_root() / "results" / "measured.json"


def collect(profile: str) -> dict:
    """Numbers of a finished run as ``name -> [value, error]``, and commit, date, machine, time and memory of the run.

    Raises `ClusterToolsError` if the run is not finished.
    """
    import pandas as pd

    results = paths.results(profile)
    run = store.read_digested(results / "run.json")
    try:
        table, calibration = (pd.read_csv(results / f"{name}.csv") for name in ("table1", "calibration"))
    except FileNotFoundError:
        run = None
    if run is None:
        raise ClusterToolsError(
            f"{paths.shown(results)} holds no finished run; make it with: make book PROFILE={profile}"
        )
    numbers = {}
    for row in table[table["input_dim"] > 0].itertuples():
        name = model_name(row.simulation, int(row.input_dim), bool(row.reweighted))
        numbers[f"Coma {name}"] = [row.coma_mean, SEED_ERROR]
        numbers[f"sigma {name}"] = [row.coma_sigma, SEED_ERROR]
    for row in table[table["input_dim"] == 0].itertuples():
        error = math.hypot(row.val_lo_error, row.val_hi_error) / 2
        numbers[f"half-width M-sigma {row.simulation}"] = [(row.val_hi - row.val_lo) / 2, error]
    for stage in ("flat", "recalibrated"):
        for dimensions in (1, 2):
            of_kind = calibration["model"].str.contains(f"_{dimensions}d") & (calibration["stage"] == stage)
            for column, error, scale in (
                ("median", "median", 1), ("half_width", "median", 1), ("inside", "inside", 100),
            ):  # fmt: skip
                values, errors = scale * calibration.loc[of_kind, [column, f"{error}_error"]].to_numpy().T
                for word, at in (("least", abs(values).argmin()), ("most", abs(values).argmax())):
                    numbers[f"{column} {stage} {dimensions}D {word}"] = [abs(values[at]), errors[at]]
    numbers = {name: [round(float(each), 4) for each in pair] for name, pair in numbers.items()}
    memory = max(chapter["peak_memory_mb"] for chapter in run["chapters"].values())
    kept = {name: run[name] for name in ("profile", "commit", "date", "wall_seconds", "machine")}
    return {**kept, "peak_memory_mb": memory, "numbers": numbers}


def markdown(measured: dict, published: pd.DataFrame) -> str:
    """The block of the README: Coma's masses beside the paper's, the tests on mock clusters, time and memory."""
    numbers = {name: value for name, (value, _) in measured["numbers"].items()}
    lines = ["| trained on | input | re-weighted | this book | the paper |", "|---|---|---|---|---|"]
    for row in published[published["input_dim"] > 0].itertuples():
        name = model_name(row.simulation, row.input_dim, row.reweighted)
        ours = f"{numbers[f'Coma {name}']:.2f} ± {numbers[f'sigma {name}']:.2f}"
        paper = f"{row.coma_mean:.2f} ± {row.coma_sigma:.2f}"
        model = f"{simulation(row.simulation).title} | {row.input_dim}D | {'yes' * row.reweighted}"
        lines.append(f"| {model} | {ours} | {paper} |")

    def span(column: str, stage: str, *dimensions: int, digits: int = 2) -> str:
        least, most = ([numbers[f"{column} {stage} {d}D {w}"] for d in dimensions] for w in ("least", "most"))
        return f"{min(least):.{digits}f} to {max(most):.{digits}f}"

    def worst(stage: str) -> str:
        return f"{max(numbers[f'median {stage} {d}D most'] for d in (1, 2)):.2f}"

    m_sigma = " and ".join(f"{value:.2f}" for name, value in numbers.items() if "M-sigma" in name)
    date, computer = time.strptime(measured["date"], "%Y-%m-%d"), measured["machine"]
    tests = (
        f"On mock test clusters the half-width of the residuals is {span('half_width', 'flat', 2)} dex in 2D and "
        f"{span('half_width', 'flat', 1)} dex in 1D; that of the M-sigma relation is {m_sigma} dex. As trained, the "
        f"68% intervals hold {span('inside', 'flat', 1, 2, digits=0)}% of the clusters, and medians are off by up to "
        f"{worst('flat')} dex. With the mass function as prior, and recalibrated on other clusters, they hold "
        f"{span('inside', 'recalibrated', 1, 2, digits=0)}%, medians are off by up to {worst('recalibrated')} dex, and "
        f"the half-width is {span('half_width', 'recalibrated', 2)} dex in 2D and "
        f"{span('half_width', 'recalibrated', 1)} dex in 1D."
    )
    cost = (
        f"`make book PROFILE={measured['profile']}` took {machine.duration(measured['wall_seconds'])} on "
        f"{computer['cores']} cores ({computer['cpu']}) in {time.strftime('%B %Y', date)}, commit "
        f"`{measured['commit']}`; its largest chapter needed {measured['peak_memory_mb'] / 1000:.1f} GB."
    )
    lines += ["", textwrap.fill(tests, 120), "", textwrap.fill(cost, 120)]
    return "\n".join(lines) + "\n"


def differences(profile: str) -> list[str]:
    """Numbers of a finished run that differ from the committed ones by more than the error of the difference."""
    measured, new = store.read_digested(measured_path()), collect(profile)["numbers"]
    if measured is None:
        return [f"{paths.shown(measured_path())} is missing or was edited; write it with: cluster-tools numbers"]
    found = []
    for name, (was, error) in measured["numbers"].items():
        value, new_error = new.get(name, (math.nan, 0.0))
        if not abs(value - was) <= math.hypot(error, new_error):  # NaN, too
            found.append(f"{name} is {value:.3f}, but in results/measured.json {was:.3f} ± {error:.3f}")
    return found


def write(profile: str) -> None:
    """Write the numbers of a finished run into ``results/measured.json`` and the README, and keep its Figure 3."""
    from cluster_tools.coma import literature

    measured = collect(profile)
    store.write_digested(measured_path(), measured)
    figure = paths.results(profile) / "figures" / FIGURE
    store.write_text(measured_path().with_name(FIGURE), figure.read_text(encoding="utf-8"))
    readme = paths.project_root() / "README.md"
    block = markdown(measured, literature.published_table1())
    store.write_text(readme, BLOCK.sub(lambda found: found[1] + block + found[2], readme.read_text(encoding="utf-8")))
