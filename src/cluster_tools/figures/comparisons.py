"""Figures of one mass by many ways: classical estimators, and variations of the analysis.

Masses are log10(M200c / (Msun/h)), and `paper` is the paper's mean and sigma of Coma, drawn as a band.
"""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from pandas import DataFrame

from cluster_tools.cosmology import SIMULATIONS
from cluster_tools.figures import style
from cluster_tools.figures.figure_data import record
from cluster_tools.figures.style import BLUE, GREEN, GREY, INK, ORANGE, RED
from cluster_tools.inference import table1

LIMIT = 0.9  # dex: points farther out are drawn at the edge, as triangles that point outwards
KIND_COLOURS = {"baseline": INK, "seed": GREY, "analysis": BLUE, "observation": ORANGE, "universe": RED}
VARIATION_LABELS = {
    "baseline": "baseline",
    "seed": "seed {}",
    "dropout_rate": "dropout rate {}",
    "epochs": "{} epochs",
    "min_log_m200c": "log M200c from {}",
    "three_choices": "all three {}",
    "min_log_mstar": "log M★ from {}",
    "galaxies": "galaxies: {}",
    "aperture": "within {} Mpc/h",
    "velocity_cut": "below {} km/s",
    "kernel": "{} kernel",
    "universe": "{} universe",
    "down_sampling": "{:.0%} of the galaxies",
    "fibre_collisions": "fibre collisions, {:.0%}",
    "centre_offset": "centre off by {} Mpc/h",
    "velocity_bias": "members' velocities × {}",
    "radius": "members' radii × {}",
    "infall": "others' velocities × {}",
    "interlopers": "others per member × {}",
}

DEX = ("half_width", "median", "error", "coma_sigma", "coma_spread", "shift", "bias", "sqrt_var", "change")


def _with_unit(name: str) -> str:
    """The name of a column of the tables drawn here, with its unit."""
    unit = "dex" if name.removesuffix("_error") in DEX else "log10 Msun/h" if name in ("mass", "coma_mean") else ""
    return f"{name} [{unit}]" if unit else name


def estimator_residuals(scatter: Axes, bias: Axes, table: DataFrame) -> None:
    """Draw half-width, on `scatter`, and median, on `bias`, of each classical estimator's residuals, with errors.

    The colour is that of the simulation tested on. Open markers: as published; full: calibrated on the same
    simulation; cross: on the other. `table` is that of `estimators.comparison`.
    """
    record(scatter, table.rename(columns=_with_unit))
    record(bias, [])  # the same table has both
    methods = list(dict.fromkeys(table["estimator"]))[::-1]
    for row in table.to_dict("records"):
        simulation, tested_on = row["simulation"], row["tested_on"]
        colour = face = style.SIMULATION_COLOURS[tested_on]
        y = methods.index(row["estimator"]) + 0.1 * (list(SIMULATIONS).index(tested_on) - 0.5)
        marker = "o"
        if not simulation:
            face, y = "white", y + 0.22
        elif simulation != tested_on:
            marker, y = "X", y - 0.22
        for ax, column, low in ((scatter, "half_width", 0.0), (bias, "median", -LIMIT)):
            point = {"fmt": marker, "xerr": row[f"{column}_error"]}
            if outside := abs(row[column]) > LIMIT:
                point = {"fmt": "<" if row[column] < 0 else ">", "xerr": 0.0}
            point |= {"color": colour, "markerfacecolor": face, "markersize": 5.5, "elinewidth": 1.2}
            ax.errorbar(np.clip(row[column], low, LIMIT), y, clip_on=not outside, **point)
    scatter.set_yticks(range(len(methods)), methods)
    for ax in (scatter, bias):
        ax.set_ylim(-0.6, len(methods) - 0.4)
        for y in range(len(methods) - 1):
            ax.axhline(y + 0.5, color=GREY, alpha=0.4, linewidth=0.8)
    style.reference_line(bias, x=0)
    scatter.set(xlabel="half-width of the residuals [dex]", xlim=(0, LIMIT))
    bias.set(xlabel="median residual [dex]", xlim=(-LIMIT, LIMIT))
    bias.tick_params(labelleft=False)


def estimator_legend(ax: Axes) -> None:
    """Add the entries of a legend for `estimator_residuals` to `ax`: colours and markers."""
    for name, colour in style.SIMULATION_COLOURS.items():
        ax.plot([], [], "s", color=colour, label=f"tested on {SIMULATIONS[name].title}")
    same, other = "calibrated, same simulation", "calibrated, other simulation"
    for marker, face, label in (("o", "white", "as published"), ("o", INK, same), ("X", INK, other)):
        ax.plot([], [], marker, color=INK, markerfacecolor=face, label=label)


def estimator_table(table: DataFrame, tested_on: str) -> DataFrame:
    """`estimators.comparison`, and rows of networks, for one test set as text: a row for each method, in dex."""
    kinds = {"": "as published"} | {name: f"from {SIMULATIONS[name].title}" for name in table["simulation"] if name}
    lines = []
    for method in dict.fromkeys(table["estimator"]):
        rows = table[(table["estimator"] == method) & (table["tested_on"] == tested_on)].set_index("simulation")
        line = {"method": method}
        for column, title, form in (("half_width", "half-width", ".2f"), ("median", "median", "+.2f")):
            cells = dict(zip(rows.index, _pairs(rows, column, f"{column}_error", form)))
            known = {name: cells[name] for name in cells if np.isfinite(rows.loc[name, column])}
            line |= {f"{title}, {words}": known.get(name, "–") for name, words in kinds.items()}
        lines.append(line)
    return DataFrame(lines)


def estimator_masses(ax: Axes, masses: DataFrame, paper: tuple[float, float]) -> None:
    """Draw one cluster's mass by every classical estimator; columns estimator, kind, mass and error [dex].

    `kind` is "as published", or the simulation that the estimator was calibrated on.
    """
    record(ax, masses.rename(columns=_with_unit))
    mean, sigma = paper
    ax.axvspan(mean - sigma, mean + sigma, color=GREY, alpha=0.25, linewidth=0)
    ax.axvline(mean, color=GREY, linewidth=1.2)
    methods = list(dict.fromkeys(masses["estimator"]))[::-1]
    kinds = {"as published": ("as published", INK, "white", 0.22)}
    for i, (name, colour) in enumerate(style.SIMULATION_COLOURS.items()):
        kinds[name] = (f"calibrated on {SIMULATIONS[name].title}", colour, colour, -0.22 * i)
    for kind, (label, colour, face, offset) in kinds.items():
        rows = masses[masses["kind"] == kind]
        y = [methods.index(name) + offset for name in rows["estimator"]]
        ax.errorbar(rows["mass"], y, xerr=rows["error"], fmt="o", color=colour, markerfacecolor=face, label=label)
    ax.set_yticks(range(len(methods)), methods)
    ax.set(xlabel=style.LOG_M200C, xlim=(14, 16), xticks=np.arange(14, 16.1, 0.5), ylim=(-0.6, len(methods) - 0.4))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def variation_label(what: str, value) -> str:
    """Describe a variation of the analysis in words, such as "dropout rate 0.2"."""
    label = VARIATION_LABELS[what]
    return label.format(float(value) if "%" in label else value)


def variation_table(table: DataFrame) -> DataFrame:
    """`robustness.summary` as text: a row for each variation, none for single seeds; masses and widths in dex."""
    rows = table[table["kind"] != "seed"]
    columns = {"variation": [variation_label(*key) for key in zip(rows["what"], rows["value"])]}
    columns["Coma"] = _pairs(rows, "coma_mean", "coma_sigma", ".2f")
    columns["shift"] = _pairs(rows, "shift", "shift_error", "+.3f")
    for name, form in (("coma_spread", ".3f"), ("galaxies", ".0f"), ("half_width", ".3f")):
        columns[name.removeprefix("coma_").replace("_", "-")] = [f"{value:{form}}" for value in rows[name]]
    return DataFrame(columns | {"change": _pairs(rows, "change", "change_error", "+.3f")})


def choices_table(table: DataFrame, labels: list[str]) -> DataFrame:
    """Rows of `robustness.summary` as text under these `labels`, with their numbers of Table 1."""
    columns = {"choice": labels, "half-width [dex]": _pairs(table, "half_width", "half_width_error", ".3f")}
    columns["√var [dex]"] = [f"{value:.3f}" for value in table["sqrt_var"]]
    columns["inside 68%"] = [f"{value:.0%}" for value in table["inside"]]
    columns["median [dex]"] = [f"{value:+.3f}" for value in table["bias"]]
    return DataFrame(columns | {"Coma": _pairs(table, "coma_mean", "coma_sigma", ".2f")})


def _pairs(table: DataFrame, value: str, error: str, form: str) -> list[str]:
    """Values with their errors; without an error, the value alone; a dash for the baseline beside itself."""
    pairs = zip(table[value], np.nan_to_num(table[error]))
    texts = [f"{x:{form}}" + f" ± {e:{form.lstrip('+')}}" * bool(e) for x, e in pairs]
    return ["–" if x == 0 else text for x, text in zip(table[value], texts)]


def variations(masses: Axes, widths: Axes, table: DataFrame, paper: tuple[float, float]) -> None:
    """Draw each row of `robustness.summary` as a line: Coma's mass on `masses`, the test half-width on `widths`.

    The axes lie side by side and share their y axis.
    """
    record(masses, table.rename(columns=_with_unit))
    record(widths, [])  # the same table has both
    y = np.arange(len(table))[::-1]
    seeds, baseline = table[table["kind"] == "seed"], table[table["kind"] == "baseline"].iloc[0]
    mean, sigma = paper
    band = {"alpha": 0.25, "linewidth": 0}
    masses.axvspan(mean - sigma, mean + sigma, color=GREEN, **(band | {"alpha": 0.2}), label="the paper's interval")
    for ax, column, error in ((masses, "coma_mean", "shift_error"), (widths, "half_width", "change_error")):
        centre, scatter = baseline[column], seeds[column].std(ddof=1)
        style.reference_line(ax, x=centre, linewidth=1.0)
        ax.axvspan(centre - scatter, centre + scatter, color=GREY, **band, label="baseline, from seed to seed")
        for height, row in zip(y, table.to_dict("records")):
            point = {"color": KIND_COLOURS[row["kind"]], "fmt": "o", "markersize": 4}
            if column == "coma_mean":
                ax.errorbar(row[column], height, xerr=row["coma_sigma"], elinewidth=0.8, alpha=0.6, **point)
            ax.errorbar(row[column], height, xerr=np.nan_to_num(row[error]), elinewidth=3.0, **point)
    what = table["what"].to_numpy()
    for edge in y[:-1][what[:-1] != what[1:]] - 0.5:
        for ax in (masses, widths):
            ax.axhline(edge, color=GREY, linewidth=0.4)
    labels = [variation_label(*row) for row in zip(what, table["value"])]
    masses.set(xlabel="Coma, " + style.LOG_M200C, yticks=y, yticklabels=labels, ylim=(-0.6, len(table) - 0.4))
    widths.set(xlabel="half-width of\ntest residuals [dex]")


def universes(axes, table: DataFrame) -> None:
    """Draw Table 1 and Coma for each universe of `table1.with_earlier_universes`, on four axes side by side.

    They are half-width, median and coverage on the own simulation, and the mass of Coma; each model has a mark.
    """
    columns = {
        "half-width [dex]": (table["val_hi"] - table["val_lo"]) / 2,
        "median [dex]": table["val_median"],
        "in the 68% interval": table["inside_val"],
        f"Coma, {style.SHORT_LOG_M200C}": table["coma_mean"],
    }
    values = table[["universe", "simulation", "input_dim", "reweighted"]].assign(**columns)
    names = list(dict.fromkeys(table["universe"]))
    height = len(names) - 1 - table["universe"].map(names.index)
    for ax, (label, x) in zip(axes, columns.items(), strict=True):
        record(ax, values if ax is axes[0] else [])  # one table has all
        for (simulation, dim), rows in table.groupby(["simulation", "input_dim"], sort=False):
            offset = 0.12 * (2 * (simulation == "mdpl2") + (dim == 2) - 1.5)
            colour, marker = style.SIMULATION_COLOURS[simulation], "s" if dim == 2 else "o"
            for reweighted, part in rows.groupby("reweighted"):
                face = "white" if reweighted else colour
                name = table1.title({"simulation": simulation, "input_dim": dim, "reweighted": reweighted})
                ax.plot(x[part.index], height[part.index] - offset, marker, color=colour, mfc=face, ms=5, label=name)
        ax.set(xlabel=label, ylim=(-0.5, len(names) - 0.5), yticks=range(len(names)))
    axes[0].set_yticklabels([textwrap.fill(name, 22) for name in names[::-1]])
