"""The CSV text of a figure holds the numbers that it draws."""

import io

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest

from cluster_tools.book import chapters
from cluster_tools.figures import figure_data


@pytest.fixture
def ax():
    plt.switch_backend("agg")
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def read(ax):
    return pd.read_csv(io.StringIO(figure_data.csv(ax.figure)), comment="#", dtype={"series": str})


def test_lines_and_points(ax):
    ax.plot([1, 2], [3, 4], label='a, "b"')
    ax.scatter([5, 6], [7, 8], c=[0.1, 0.2], label="dots")
    ax.axvline(1.5, label="edge")
    table = read(ax)
    line, dots, edge = (table[table["series"] == name] for name in ("a, 'b'", "dots", "edge"))
    assert line["x"].tolist() == [1, 2] and line["y"].tolist() == [3, 4]
    assert dots[["x", "y", "value"]].to_numpy().tolist() == [[5, 7, 0.1], [6, 8, 0.2]]
    assert edge["x"].tolist() == [1.5, 1.5] and edge["y"].isna().all()  # from the lower to the upper end of the panel


def test_meshes_bars_and_steps(ax):
    ax.pcolormesh([0, 1, 2], [0, 10], [[3.0, np.nan]])
    ax.bar([5], [2], bottom=[1], label="bar")
    ax.stairs([1, 2], [0, 1, 3], label="steps")
    table = read(ax)
    pixels, bar, steps = (table[table["mark"] == mark] for mark in ("pixel", "bar", "step"))
    assert pixels["x"].tolist() == [0.5, 1.5] and pixels["value"].isna().tolist() == [False, True]
    assert bar[["x", "y", "value"]].to_numpy().tolist() == [[5, 3, 1]]
    assert steps["x"].tolist() == [0, 1, 3] and steps["y"].tolist()[:2] == [1, 2]


def test_error_bars_and_bands_are_outlines(ax):
    ax.errorbar([1], [2], yerr=[0.5])
    ax.fill_between([0, 1], [0, 0], [1, 2])
    outlines = read(ax).query("mark == 'outline'")
    assert {1.5, 2.5} <= set(outlines["y"]) and {0, 1, 2} <= set(outlines["y"])


def test_panels_are_named_by_their_axes(ax):
    ax.plot([1], [1])
    ax.set(xlabel="$x$ [Mpc/h]", ylabel="two\nlines", title="T")
    first = figure_data.csv(ax.figure).splitlines()[0]
    assert first == "# panel 1: T: x = $x$ [Mpc/h], y = two lines"


def test_a_notebook_keeps_picture_and_numbers_in_one_output():
    lines = ("import matplotlib.pyplot as plt", "from cluster_tools.figures import style", "style.set_theme()")
    cell = nbformat.v4.new_code_cell("\n".join([*lines, "plt.plot([1], [2])", "plt.show()"]))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    with chapters.kernel_options() as options:
        nbclient.NotebookClient(notebook, **options).execute()
    (output,) = [output for output in notebook.cells[0].outputs if output.output_type == "display_data"]
    assert output.data[figure_data.MIME_TYPE].endswith('1,"1",line,1,2,\n') and "image/png" in output.data
    assert output.metadata["image/png"]["width"] > 300  # half of the picture's pixels
