"""Figures draw all that they are given: every layer, every estimate, every galaxy."""

import io
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from cluster_tools.coma import literature, survey
from cluster_tools.figures import boxes, clusters, comparisons, diagnostics, figure_data, paper_figures
from cluster_tools.inference import table1
from cluster_tools.mocks import kde
from cluster_tools.networks.cnn import Architecture

SAMPLES = np.random.default_rng(8).normal(15.0, 0.12, 400)


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def cluster():
    sample = survey.load_sample()
    v_los, r_proj = sample["v_los"].value, sample["r_proj"].value
    images = [kde.phase_space_images(v_los, r_proj, [0, len(sample)], input_dim=dim)[0] for dim in (1, 2)]
    return SimpleNamespace(sample=sample, v_los=v_los, r_proj=r_proj, image_1d=images[0], image_2d=images[1])


ESTIMATES = literature.estimates()
WORKS = {e.key: e.later for e in ESTIMATES}  # strict and relaxed versions of one share a row
PUBLISHED = literature.published_table1()
POSTERIORS = [
    SimpleNamespace(simulation=simulation, input_dim=dim, reweighted=reweighted, samples=SAMPLES, mean=15.0, sigma=0.12)
    for simulation in ("uchuu", "mdpl2")
    for dim in (1, 2)
    for reweighted in (False, True)
]


def texts(fig):
    fig.canvas.draw()
    return [text.get_text() for text in fig.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("input_dim", [1, 2])
def test_figure1_draws_every_layer_of_the_model(cluster, input_dim):
    architecture = Architecture(input_dim, filters=(6,), kernel_widths=(7,), units=(9,), dropout_rate=0.25)
    images = cluster.image_1d, cluster.image_2d
    fig = paper_figures.figure1(cluster.v_los, cluster.r_proj, *images, architecture, SAMPLES, truth=14.9)
    names = [artist.get_gid() or "" for artist in fig.findobj()]
    assert len({name for name in names if name.startswith("layer:")}) == 5  # input, convolution, flatten, two dense
    assert sum(name.startswith("dropout:") for name in names) == 3  # before each layer with weights
    text = " ".join(texts(fig))
    for words in ("6 filters of 7", "48 × 6", "Flatten 288", "Dense 9", "Dense 2", "rate 0.25", "true 14.90"):
        assert words in text


def test_figure2_marks_the_aperture_of_the_paper(cluster):
    """2.3 Mpc/h at z = 0.0231 is 1.913 deg; the window is 0.0102 < z < 0.0360."""
    sky, redshifts, *_ = paper_figures.figure2(cluster.sample, cluster.image_1d, cluster.image_2d).axes
    assert np.ptp(sky.lines[0].get_ydata()) / 2 == pytest.approx(1.913, abs=1e-3)
    assert sky.xaxis_inverted()  # East is left
    assert sky.get_aspect() == pytest.approx(1 / np.cos(np.radians(27.98)))
    window = [line.get_xdata()[0] for line in redshifts.lines[:2]]
    assert window == pytest.approx([0.0102, 0.0360], abs=5e-5)
    assert sum(bar.get_height() for bar in redshifts.patches) == len(cluster.sample)


def test_figure3_has_every_estimate_the_papers_masses_beside_ours_and_tensions():
    fig = paper_figures.figure3(ESTIMATES, POSTERIORS, PUBLISHED)
    drawn = texts(fig)
    labels = {label.split("\n")[0] for label in drawn}
    assert {"The & White 1986*", "Geller et al. 1999*", "Gavazzi et al. 2009", "Benisty et al. 2025"} <= labels
    assert {"Uchuu 15.00 ± 0.12", "MDPL2 15.00 ± 0.12", "1D", "2D", "1D, re-weighted", "2D, re-weighted"} <= labels
    table = pd.read_csv(io.StringIO(figure_data.csv(fig)))
    assert sorted(table.query("source == 'the paper'")["log10 M200c [Msun/h]"]) == sorted(PUBLISHED["coma_mean"])
    assert (table["source"] == "this book").sum() == 8 and "Gavazzi et al. 2009, weak lensing" in set(table["estimate"])
    # Gavazzi et al.: 14.553 + 0.266; 15.00 - 0.12: 0.447 / hypot(0.266, 0.12) = 1.5 sigma.
    tensions = [text for text in drawn if text.endswith("σ")]
    assert len(tensions) == len(WORKS) and "1.5σ" in tensions


def test_historical_masses_hold_every_bar_and_set_the_later_apart():
    _, ax = plt.subplots()
    paper_figures.historical_masses(ax, ESTIMATES, monte_carlo=ESTIMATES[:3], mass=(15.0, 0.1, 0.1))
    low, high = ax.get_xlim()
    assert low < np.log10(min(e.m200c_lo for e in ESTIMATES)) and np.log10(max(e.m200c_hi for e in ESTIMATES)) < high
    labels, rows = [tick.get_text() for tick in ax.get_yticklabels()], ax.get_yticks()
    assert len(labels) == len(WORKS) and labels[5] == "Gavazzi et al. 2009, weak lensing"
    first_later = [*WORKS.values()].index(True)
    assert rows[first_later - 1] - rows[first_later] > rows[0] - rows[1]
    relaxed, strict, third = (line.get_ydata()[0] for line in ax.lines if line.get_marker() == "|")
    assert rows[0] > strict > relaxed > rows[1] > third > rows[2]  # Monte Carlo bars lie below their own row


def test_image_2d_puts_velocity_up_and_radius_to_the_right():
    image = np.zeros((48, 48))
    image[40, 5] = 1.0  # v_los above 0, small r_proj
    _, ax = plt.subplots()
    mesh = clusters.image_2d(ax, image)
    v, r = np.unravel_index(np.argmax(mesh.get_array().reshape(48, 48)), (48, 48))
    (r_low, v_low), (r_high, v_high) = mesh.get_coordinates()[[v, v + 1], [r, r + 1]]
    assert r_low < kde.r_proj_grid()[5] < r_high and v_low < kde.v_los_grid()[40] < v_high
    assert ax.get_ylim() == pytest.approx((-3785, 3785)) and ax.get_xlim() == pytest.approx((0, 2.3))


def test_mass_function_is_a_density_per_dex():
    """100 haloes in the bin of 0.1 dex around 14.05 in a box of (100 Mpc/h)^3: 100 / 1e6 / 0.1."""
    _, ax = plt.subplots()
    mass = np.linspace(14, 14.2, 201)
    boxes.mass_function(ax, np.r_[np.full(100, 14.05), 14.15], 100.0, expected=(mass, np.exp(-20 * (mass - 14))))
    points = ax.containers[0].lines[0]
    assert points.get_xdata() == pytest.approx([14.05, 14.15])
    assert points.get_ydata() == pytest.approx([1e-3, 1e-5])
    # The mean of exp(-20 x) over a bin of 0.1, not its value at an edge or the middle
    steps, edges, _ = ax.patches[0].get_data()
    assert edges == pytest.approx([14.0, 14.1, 14.2])
    assert steps == pytest.approx([(1 - np.exp(-2)) / 2, (np.exp(-2) - np.exp(-4)) / 2], rel=1e-3)


def test_residuals_coverage_and_history_draw_their_data():
    _, (band, points, right) = plt.subplots(1, 3)
    residual = np.concatenate([np.linspace(-0.1, 0.3, 201), np.linspace(-0.3, 0.1, 201)])
    diagnostics.residuals(band, np.repeat([14.05, 14.55], 201), residual)  # whose running medians are known
    assert band.lines[-1].get_xydata() == pytest.approx(np.array([[14.05, 0.1], [14.55, -0.1]]))
    diagnostics.predicted_vs_true(points, [14.0, 15.0], [14.2, 14.9], [0.1, 0.3])
    assert any("0.20 dex" in text.get_text() for text in points.texts)
    diagnostics.coverage(right, [0.5, 0.68], [0.55, 0.7])
    assert right.lines[-1].get_xydata() == pytest.approx(np.array([[50, 55], [68, 70]]))
    for losses in ([3.0, 2.0, 1.0], [[3.0, 2.0, 1.0], [5.0, 4.0, 3.0]]):
        fig = diagnostics.training_history({"loss": losses, "val_loss": losses})
        assert fig.axes[0].lines[-1].get_ydata() == pytest.approx(np.atleast_2d(losses).mean(axis=0))


def test_density_has_the_mean_of_its_samples_and_loses_nothing_at_the_end_of_the_prior():
    _, ax = plt.subplots()
    mass, values = diagnostics.density(ax, SAMPLES, "k", "all")
    assert np.trapezoid(values, mass) == pytest.approx(1, abs=5e-3)
    assert np.trapezoid(mass * values, mass) == pytest.approx(SAMPLES.mean(), abs=5e-3)
    upper = SAMPLES[SAMPLES > 15.0]  # half of a Gaussian, which is highest at its lower end
    mass, values = diagnostics.density(ax, upper, "k", "above 15", above=15.0)
    assert mass[0] == 15.0 and np.trapezoid(values, mass) == pytest.approx(1, abs=5e-3)
    assert values[0] > 0.95 * values.max()


def test_dropout_passes_join_to_a_posterior_of_their_mean_and_variance():
    rng = np.random.default_rng(0)
    mu, sigma = rng.normal(14.9, 0.08, 100), rng.uniform(0.05, 0.1, 100)
    _, panels = plt.subplots(1, 2)
    diagnostics.dropout_posterior(*panels, mu, sigma, truth=15.0)
    one, *_, every, truth = panels[1].lines
    for line, n in ((one, 1), (every, 100)):
        mass, density = line.get_data()
        mean = np.trapezoid(mass * density, mass)
        variance = np.trapezoid((mass - mean) ** 2 * density, mass)
        assert [np.trapezoid(density, mass), mean] == pytest.approx([1, mu[:n].mean()], abs=1e-3)
        assert variance == pytest.approx(mu[:n].var() + (sigma[:n] ** 2).mean(), rel=0.01)
    assert truth.get_xdata()[0] == 15.0


def test_estimators_that_failed_have_no_number_in_their_table():
    columns = {"tested_on": "uchuu", "half_width_error": 0.02, "median_error": 0.03}
    rows = [("caustic", "", 0.2, -0.1), ("caustic", "uchuu", np.nan, np.nan), ("network", "uchuu", 0.09, 0.04)]
    rows = pd.DataFrame(rows, columns=["estimator", "simulation", "half_width", "median"]).assign(**columns)
    table = comparisons.estimator_table(rows, "uchuu").set_index("method").T
    assert table["caustic"].tolist() == ["0.20 ± 0.02", "–", "-0.10 ± 0.03", "–"]
    assert table["network"].tolist() == ["–", "0.09 ± 0.02", "–", "+0.04 ± 0.03"]


def test_universes_show_every_network_of_every_generation():
    generations = table1.with_earlier_universes(PUBLISHED.assign(inside_val=0.7))
    assert (generations.groupby("universe").size() == 8).all() and generations["coma_mean"].between(14.5, 15.5).all()
    fig, axes = plt.subplots(1, 4)
    comparisons.universes(axes, generations)
    for ax in axes:
        marks = np.concatenate([line.get_xydata() for line in ax.lines])
        assert len(marks) == len(generations) == len(np.unique(marks[:, 1])) * 2  # pairs share a height
    assert "Coma" in figure_data.csv(fig).splitlines()[0]
