"""Numbers of the README that a run of the book gives: collected, written into it, and compared with those of a new run.

``results/measured.json`` is in git and holds each number with its error, and the run that it comes from.
"""

from __future__ import annotations

import itertools
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
STAGES = {"flat": "as trained", "recalibrated": "recalibrated"}
MEASURES = {  # columns of ``calibration.csv``: what they are, and digits
    "half_width": ("half-width of the residuals [dex]", 2), "inside": ("true masses in the 68% interval [%]", 0),
    "median": ("largest median residual, either sign [dex]", 2),
}  # fmt: skip
SEED_ERROR = 0.02  # dex by which Coma's mean moves with the seed of the networks; chapter 09 measures it


def measured_path() -> Path:
    """The committed file of numbers."""
    return paths.project_root() / "results" / "measured.json"


def collect(profile: str) -> dict:
    """Numbers of a finished run as ``name -> [value, error]``, and commit, date, machine, time and memory of the run.

    Raises `ClusterToolsError` if the run is not finished; `chapters.check` says whether its files were changed.
    """
    import pandas as pd

    results = paths.results(profile)
    run = store.read_digested(results / "run.json")
    if run is None:
        raise ClusterToolsError(f"{paths.shown(results)} holds no finished run; make book PROFILE={profile} makes it.")
    table, calibration = (pd.read_csv(results / name) for name in ("table1.csv", "calibration.csv"))
    numbers: dict = {}
    for row in table.itertuples():
        if row.input_dim:
            name = model_name(row.simulation, int(row.input_dim), bool(row.reweighted))
            numbers |= {f"Coma {name}": (row.coma_mean, SEED_ERROR), f"sigma {name}": (row.coma_sigma, SEED_ERROR)}
        else:
            error = math.hypot(row.val_lo_error, row.val_hi_error) / 2
            numbers[f"half-width M-sigma {row.simulation}"] = (row.val_hi - row.val_lo) / 2, error
    for stage, dimensions, column in itertools.product(STAGES, (1, 2), MEASURES):
        of_kind = calibration["model"].str.contains(f"_{dimensions}d") & (calibration["stage"] == stage)
        scale, error = (100, "inside_error") if column == "inside" else (1, "median_error")
        values, errors = scale * calibration.loc[of_kind, [column, error]].to_numpy().T
        for word, at in (("least", abs(values).argmin()), ("most", abs(values).argmax())):
            numbers[f"{column} {stage} {dimensions}D {word}"] = abs(values[at]), errors[at]
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

    lines += ["", "| on mock test clusters of natural abundance, networks on images | 1D | 2D |", "|---|---|---|"]
    for stage, words in STAGES.items():
        for column, (what, digits) in MEASURES.items():
            cells = []
            for kind in ("1D", "2D"):
                least, most = (f"{numbers[f'{column} {stage} {kind} {word}']:.{digits}f}" for word in ("least", "most"))
                cells.append(most if column == "median" or least == most else f"{least} to {most}")
            lines.append(f"| {what}, {words} | {' | '.join(cells)} |")
    m_sigma = (
        f"{value:.2f} dex ({simulation(name.split()[-1]).title})"
        for name, value in numbers.items()
        if "M-sigma" in name
    )
    date, computer = time.strptime(measured["date"], "%Y-%m-%d"), measured["machine"]
    cost = (
        f"The residuals of M-sigma masses have a half-width of {' and '.join(m_sigma)}. "
        f"`make book PROFILE={measured['profile']}` took {machine.duration(measured['wall_seconds'])} "
        f"on {computer['cores']} cores ({computer['cpu']}) in {time.strftime('%B %Y', date)}, "
        f"commit `{measured['commit']}`; its largest chapter needed {measured['peak_memory_mb'] / 1000:.1f} GB."
    )
    return "\n".join([*lines, "", textwrap.fill(cost, 120)]) + "\n"


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
