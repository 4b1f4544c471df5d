"""The CSV text of a figure is a tidy table of the numbers behind it."""

import base64
import io

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cluster_tools.book import chapters
from cluster_tools.figures import clusters, diagnostics, figure_data, style


@pytest.fixture
def ax():
    return Figure().subplots()


def read(ax):
    return pd.read_csv(io.StringIO(figure_data.csv(ax.figure)))


def test_lines_and_points_take_the_names_of_the_axes(ax):
    ax.set(xlabel=style.R_PROJ, ylabel=style.LOG_M200C)
    ax.axvline(1.5)  # decoration
    assert figure_data.csv(ax.figure) == ""
    ax.plot([1, 2], [3, 4], label="a line")
    ax.scatter([5, 6], [7, 8])
    table = read(ax)
    assert list(table.columns) == ["series", "R_proj [Mpc/h]", "log10 M200c [Msun/h]"]
    assert table["series"].tolist()[:2] == ["a line"] * 2
    assert table.iloc[:, 1:].to_numpy().tolist() == [[1, 3], [2, 4], [5, 7], [6, 8]]
    label = r"$\langle \log_{10}\,\sigma_\mathrm{members} \rangle$ [km s$^{-1}$]"
    assert figure_data.plain(label) == "< log10 sigma_members > [km s^-1]"


def test_a_panel_without_a_label_takes_that_of_the_panel_that_shares_its_axis():
    left, right = Figure().subplots(1, 2, sharex=True, sharey=True)
    left.set(xlabel="mass", ylabel="density")
    right.plot([1, 2], [3, 4])
    assert list(read(right).columns) == ["mass", "density"]


def test_error_bars_have_ends_and_stairs_have_edges(ax):
    ax.set(xlabel="mass", ylabel="width [dex]")
    ax.errorbar([1, 2], [2, 3], yerr=[[0.5, 0.5], [1, 1]], label="mocks")
    ax.stairs([1, 2], [0, 1, 3], label="steps")
    table = read(ax)
    bars, steps = (table[table["series"] == name] for name in ("mocks", "steps"))
    assert bars["width [dex], lower end"].tolist() == [1.5, 2.5] and bars["width [dex], upper end"].tolist() == [3, 4]
    assert steps["mass, from"].tolist() == [0, 1] and steps["mass, to"].tolist() == [1, 3]


def test_recorded_numbers_stand_for_the_artists():
    """Every cluster of a predicted-true figure, and every pixel of an image, in panels named by their titles."""
    left, right = Figure().subplots(1, 2)
    true = np.linspace(14, 15, 30)
    diagnostics.predicted_vs_true(left, true, true + 0.05, np.full(30, 0.1))
    left.set_title("clusters")
    right.figure.colorbar(clusters.image_2d(right, np.arange(48 * 48.0).reshape(48, 48)))
    table = read(left)
    ours, pixels = table[table["panel"] == "clusters"], table[table["panel"] == "2"]
    residual = ours["predicted log10 M200c [Msun/h]"] - ours["true log10 M200c [Msun/h]"]
    np.testing.assert_allclose(residual, 0.05, atol=1e-3)
    assert len(ours) == 30 and len(pixels) == 48 * 48
    brightest = pixels.loc[pixels["fraction per pixel"].idxmax()]
    assert brightest["v_los [km/s]"] > 3600 and brightest["R_proj [Mpc/h]"] > 2.2


def test_a_notebook_keeps_picture_and_numbers_in_one_output():
    lines = ("import matplotlib.pyplot as plt", "from cluster_tools.figures import style", "style.set_theme()")
    settings = "import gc\nprint(gc.get_threshold()[0], 'machine' in globals())"  # `chapters.FIRST_LINE`
    sources = (settings, "\n".join([*lines, "plt.plot([1], [2])", "plt.show()"]))
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    with chapters.kernel_options() as options:
        nbclient.NotebookClient(notebook, **options).execute()
    assert notebook.cells[0].outputs[0].text == "100000 False\n"
    (output,) = [output for output in notebook.cells[1].outputs if output.output_type == "display_data"]
    assert output.data[figure_data.MIME_TYPE] == "x,y\n1,2\n" and "image/png" in output.data
    assert output.metadata["image/png"]["width"] > 300  # half of the picture's pixels
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert picture.width // 2 == output.metadata["image/png"]["width"] and picture.mode == "P"
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
