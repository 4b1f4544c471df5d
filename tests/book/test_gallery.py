"""The gallery shows each captioned figure once, under its page."""

import base64
import io

import nbformat
from PIL import Image

from cluster_tools.book import gallery


def figure_cell(label: str, size=(1400, 700)):
    image = io.BytesIO()
    Image.new("RGB", size, "white").save(image, format="PNG")
    data = {"image/png": base64.b64encode(image.getvalue()).decode()}
    described = {
        "figure": {"name": label, "caption": "Mass by Ho et al. (2022). Error bars: 1 sigma."},
        "image": {"alt": "Bars."},
    }
    cell = nbformat.v4.new_code_cell(metadata={"mystnb": described})
    cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
    return cell


def test_gallery_leads_to_captioned_figures(tmp_path):
    plain = nbformat.v4.new_code_cell(outputs=figure_cell("x").outputs)
    notebook = nbformat.v4.new_notebook(cells=[plain, figure_cell("fig-a"), figure_cell("fig-b", (300, 900))])
    empty = nbformat.v4.new_notebook(cells=[plain])
    gallery.write(
        tmp_path, [("The mass of Coma", gallery.thumbnails(notebook)), ("History", gallery.thumbnails(empty))]
    )
    text = (tmp_path / "gallery.md").read_text()
    assert text.count("grid-item-card") == 2 and "## The mass of Coma\n" in text and "History" not in text
    assert ":link: fig-a\n" in text and "\nMass by Ho et al. (2022).\n" in text and "1 sigma" not in text
    sizes = [Image.open(tmp_path / "gallery" / f"{label}.png").size for label in ("fig-a", "fig-b")]
    assert sizes == [(640, 320), (213, 640)]
