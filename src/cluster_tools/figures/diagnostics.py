"""Figures of trained networks: their losses, residuals, calibration, and how unusual an image is for them.

Masses `log_m200c` are log10(M200c / (Msun/h)), widths are in dex; `ax` is the matplotlib Axes to draw on.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series
from scipy.stats import gaussian_kde

from cluster_tools.figures import style
from cluster_tools.figures.figure_data import record

# Stages of a correction, one after the other.
STAGE_COLOURS, STAGE_MARKERS = (style.GREY, style.ORANGE, style.BLUE, style.GREEN), "osD^"


def training_history(history: Mapping) -> Figure:
    """Draw training and validation loss over epochs: a thin line per network, and their mean.

    `history` has "loss" and "val_loss", each of shape (n_epochs,) or (n_networks, n_epochs).
    """
    fig, ax = plt.subplots(figsize=(style.WIDTH, 3.8), layout="constrained")
    for key, label, colour in (("loss", "training", style.BLUE), ("val_loss", "validation", style.ORANGE)):
        losses = np.atleast_2d(np.asarray(history[key], float))
        epochs = np.arange(1, losses.shape[1] + 1)
        network = np.repeat(np.arange(1, len(losses) + 1), len(epochs))
        columns = {"network": network, "epoch": np.tile(epochs, len(losses)), "loss": losses.ravel()}
        record(ax, {"loss of": label} | columns)
        if len(losses) > 1:
            ax.plot(epochs, losses.T, color=colour, alpha=0.3, linewidth=0.8)
        ax.plot(epochs, losses.mean(axis=0), color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    sns.despine(ax=ax)
    return fig


def dropout_posterior(single: Axes, joined: Axes, mu, sigma, truth: float) -> None:
    """Draw on `single` the Gaussians of single dropout passes, on `joined` the mean of more and more of them.

    `mu` and `sigma` (n_draws,) are one network's means [log10 Msun/h] and widths [dex] for a cluster of mass `truth`.
    """
    mu, sigma = np.asarray(mu, float), np.asarray(sigma, float)
    record(single, {"pass": np.arange(1, len(mu) + 1), "mean log10 M200c [Msun/h]": mu, "sigma [dex]": sigma})
    mass = np.linspace((mu - 4 * sigma).min(), (mu + 4 * sigma).max(), 300)
    density = np.exp(-0.5 * ((mass - mu[:, None]) / sigma[:, None]) ** 2) / (np.sqrt(2 * np.pi) * sigma[:, None])
    for each, mean in zip(density[:10], mu):
        single.plot(mass, each, color=style.BLUE, linewidth=1.0, alpha=0.7)
        single.plot([mean, mean], [0, 0.06 * density.max()], color=style.BLUE, linewidth=1.6)
    for n, colour in zip((1, 3, 10, len(mu)), (style.GREY, style.ORANGE, style.BLUE, style.INK)):
        label = f"{n} passes" if n > 1 else "1 pass"
        joined.plot(mass, density[:n].mean(axis=0), color=colour, linewidth=2.6 if n == len(mu) else 1.4, label=label)
    for ax, title in ((single, "single passes"), (joined, "mean of the first")):
        style.reference_line(ax, x=truth)
        ax.set(xlabel=style.LOG_M200C, title=title, ylim=(0, None))
    single.set_ylabel("probability density [1/dex]")
    joined.legend(loc="upper left")


def density(ax: Axes, samples, colour: str, label: str, *, above: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw the density [1/dex] of posterior samples [log10 Msun/h] with a Gaussian kernel; return masses and density.

    The kernel is 1.3 times as wide as Scott's rule says. Samples are reflected at `above`, the prior's lower end.
    """
    samples = np.ravel(samples).astype(float)
    record(ax, {"posterior": label, "log10 M200c [Msun/h]": samples})
    kernel = gaussian_kde(samples, 1.3 * len(samples) ** -0.2)
    margin = 3 * np.sqrt(kernel.covariance[0, 0])
    mass = np.linspace(samples.min() - margin, samples.max() + margin, 200)
    values = kernel(mass)
    if above is not None:
        mass = np.linspace(max(above, mass[0]), mass[-1], 200)
        values = kernel(mass) + kernel(2 * above - mass)
    ax.plot(mass, values, color=colour, label=label)
    return mass, values


def seed_scatter(ax: Axes, half_widths: Mapping[str, Sequence[float]]) -> None:
    """Draw the half-width [dex] of each network by kind, with the mean of a kind and its error from seeds."""
    for place, (kind, widths) in enumerate(half_widths.items()):
        colour, error = STAGE_COLOURS[place], np.std(widths, ddof=1) / np.sqrt(len(widths))
        record(ax, {"networks": kind, "half-width [dex]": widths})
        ax.plot(np.full(len(widths), place - 0.12), widths, "o", color=colour, alpha=0.6, label=kind)
        ax.errorbar(place + 0.12, np.mean(widths), error, fmt="_", color=colour, markersize=22, capsize=4)
    ax.set_xticks(range(len(half_widths)), list(half_widths))
    ax.set(ylabel="half-width of the residuals [dex]", xlim=(-0.6, len(half_widths) - 0.4))


def predicted_vs_true(ax: Axes, log_m200c, mean, sigma) -> None:
    """Draw predicted against true masses (n_clusters,), with the running median and 16-84 range.

    The median of the predicted widths `sigma` [dex] is drawn as the typical error bar.
    """
    log_m200c, mean, sigma = (np.asarray(x, float) for x in (log_m200c, mean, sigma))
    low, high = log_m200c.min(), log_m200c.max()
    columns = {"true": log_m200c, "predicted": mean}
    record(ax, {f"{name} log10 M200c [Msun/h]": m for name, m in columns.items()} | {"predicted sigma [dex]": sigma})
    ax.plot([low, high], [low, high], color=style.INK, linestyle="--", linewidth=1.2, label="one to one")
    _density_and_range(ax, log_m200c, mean)
    x, y, typical = high - 0.12 * (high - low), low + 0.15 * (high - low), np.median(sigma)
    ax.errorbar(x, y, yerr=typical, fmt="none", color=style.INK, capsize=4, linewidth=1.6)
    place = {"xytext": (-8, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
    ax.annotate(f"typical 1σ\n{typical:.2f} dex", (x, y), **place)
    ax.set(xlabel="true " + style.LOG_M200C, ylabel="predicted " + style.LOG_M200C)
    ax.legend(loc="upper left")


def residuals(ax: Axes, log_m200c, residual) -> None:
    """Draw residuals (predicted - true) [dex] against true mass, with the running median and 16-84 range."""
    log_m200c, residual = np.asarray(log_m200c, float), np.asarray(residual, float)
    record(ax, {"true log10 M200c [Msun/h]": log_m200c, "predicted - true [dex]": residual})
    style.reference_line(ax, y=0)
    _density_and_range(ax, log_m200c, residual)
    limit = 1.05 * np.abs(residual).max()
    ax.set(xlabel="true " + style.LOG_M200C, ylabel="predicted − true [dex]", ylim=(-limit, limit))
    ax.legend(loc="upper right")


def _density_and_range(ax: Axes, x, y) -> None:
    """Draw the log density of clusters, and median and 16-84 range of y in bins of 0.1 dex in x of 10 or more."""
    ax.hexbin(x, y, gridsize=60, bins="log", mincnt=1, cmap=style.density_map(), alpha=0.6, linewidths=0)
    bins = Series(y).groupby((np.floor(10 * x) + 0.5) / 10)
    ranges = bins.quantile([0.16, 0.5, 0.84]).unstack()[bins.size() >= 10]
    if len(ranges):
        ends = (ranges[0.16], ranges[0.84])
        ax.fill_between(ranges.index, *ends, color=style.ORANGE, alpha=0.35, linewidth=0, label="16 to 84%")
        ax.plot(ranges.index, ranges[0.5], color=style.ORANGE, linewidth=2.4, label="median")


def coverage(ax: Axes, levels, covered) -> None:
    """Draw the share of clusters whose truth lies in the central interval of each level; both are 0 to 1."""
    ax.plot([0, 100], [0, 100], color=style.INK, linestyle="--", linewidth=1.2, label="calibrated")
    ax.plot(100 * np.asarray(levels, float), 100 * np.asarray(covered, float), "o-", color=style.BLUE, label="found")
    ax.set(xlabel="credible level [%]", ylabel="clusters inside [%]", xlim=(0, 100), ylim=(0, 100), aspect="equal")
    ax.legend(loc="upper left")


def pit_histogram(ax: Axes, diagnosis: SimpleNamespace, stage: int, label: str) -> None:
    """Draw the density of the probability integral transform, with errors; flat at 1 if calibrated.

    `diagnosis` is that of `calibration.diagnose`; `stage`, 0 to 3, chooses the colour of this posterior.
    """
    colour, density = STAGE_COLOURS[stage], diagnosis.histogram
    edges = np.linspace(0, 1, len(density) + 1)
    interval = {"share of the posterior from": edges[:-1], "to": edges[1:]}
    record(ax, {"posterior": label} | interval | {"density": density, "error": diagnosis.histogram_error})
    style.reference_line(ax, y=1)
    ax.stairs(density, edges, color=colour, linewidth=1.8, label=label)
    middle = (edges[1:] + edges[:-1]) / 2 + 0.012 * (stage - 1)  # so that errors of stages do not hide each other
    ax.errorbar(middle, density, diagnosis.histogram_error, fmt="none", color=colour, linewidth=1.2)
    ax.set(xlabel="share of the posterior below the truth", xlim=(0, 1), ylabel="density")


def coverage_error(ax: Axes, diagnosis: SimpleNamespace, stage: int, label: str, *, expected: bool = False) -> None:
    """Draw coverage minus level against level, in per cent, with errors; of TARP's regions if `expected`."""
    name, covered, error = "coverage", diagnosis.covered, diagnosis.covered_error
    if expected:
        name, covered, error = "expected coverage", diagnosis.expected, diagnosis.expected_error
    levels, difference, error = 100 * diagnosis.levels, 100 * (covered - diagnosis.levels), 100 * error
    colour, marker = STAGE_COLOURS[stage], STAGE_MARKERS[stage]
    columns = {"posterior": label, "credible level [%]": levels, f"{name} - level [%]": difference, "error [%]": error}
    record(ax, columns)
    style.reference_line(ax, y=0)
    ax.plot(levels, difference, color=colour, marker=marker, markersize=4, label=label)
    ax.fill_between(levels, difference - error, difference + error, color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel="credible level [%]", ylabel="coverage − level [%]", xlim=(0, 100))


def binned(ax: Axes, table: DataFrame, column: str, stage: int, label: str, *, shift: float | None = None) -> None:
    """Draw a column of `calibration.in_bins` with errors: "median", "half_width" [dex] or "inside" [%].

    `shift` moves the points sideways, in units of the x axis, and leaves out the line between them: for many series.
    """
    scale = 100 if column == "inside" else 1
    style.reference_line(ax, y={"inside": 68, "median": 0}.get(column))
    values, errors = scale * table[column], scale * table[f"{column}_error"]
    points = {"color": STAGE_COLOURS[stage], "marker": STAGE_MARKERS[stage], "markersize": 5, "label": label}
    points |= {"linewidth": 1.4, "linestyle": "-" if shift is None else "none"}
    ax.errorbar(table["middle"] + (shift or 0), values, errors, capsize=2, **points)


def novelty(ax: Axes, judged: Mapping[str, float], held_out) -> None:
    """Draw the distances of held-out images from the training images as a histogram, and lines for the judged ones.

    Parameters are those of `novelty.distances`: `judged` maps labels to distances, at most two.
    """
    bins = np.linspace(0, 1.05 * max(*judged.values(), np.max(held_out)), 50)
    ax.hist(held_out, bins, color=style.BLUE, alpha=0.6, label="held-out clusters")
    for (name, distance), colour, line in zip(judged.items(), (style.RED, style.INK), ("-", "--")):
        ax.axvline(distance, color=colour, linestyle=line, label=name)
    for name, distance in {"held-out clusters": held_out, **judged}.items():
        record(ax, {"image": name, "distance from the nearest training image": np.atleast_1d(distance)})
    ax.set(xlabel="distance from the nearest training image", ylabel="clusters", xlim=(0, None))
