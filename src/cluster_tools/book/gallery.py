"""The gallery: every figure of the chapters as a thumbnail that leads to it."""

import base64
import io
import re
from pathlib import Path

WIDTH = 640  # pixels of a thumbnail, for sharp screens
SENTENCE = re.compile(r".*?(?<! al)(?:\. (?=[A-Z(])|$)")  # the first one


def thumbnails(notebook) -> list[tuple[str, str, str, str]]:
    """Label, caption, alternative text and PNG (base64) of each captioned figure of a page."""
    found = []
    for cell in notebook.cells:
        described = cell.metadata.get("mystnb", {})
        images = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
        if "figure" in described and any(images):
            figure, alt = described["figure"], described.get("image", {}).get("alt", "")
            found.append((figure["name"], figure["caption"], alt, next(filter(None, images))))
    return found


def write(source: Path, sections: list[tuple[str, list]]) -> None:
    """Write ``gallery.md`` and its images to the directory of the pages' sources.

    `sections` are the heading of a page and its `thumbnails`, in the order of the book.
    """
    from PIL import Image

    (source / "gallery").mkdir()
    lines = ["# Gallery", "", "These are figures of all chapters. Click one to see it in its chapter.", ""]
    for heading, figures in sections:
        if not figures:
            continue
        lines += [f"## {heading}", "", "::::{grid} 1 2 3 3", ":gutter: 3", ""]
        for label, caption, alt, encoded in figures:
            with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
                smaller = image.convert("RGB")  # a palette would give it ragged edges
                smaller.thumbnail((WIDTH, WIDTH))
                smaller.save(source / "gallery" / f"{label}.png")
            sentence = SENTENCE.match(" ".join(caption.split()))[0].rstrip(". ")
            lines += [
                ":::{grid-item-card}", f":img-top: gallery/{label}.png", f":img-alt: {' '.join(alt.split())}",
                f":link: {label}", ":link-type: ref", ":class-img-top: gallery-image", "", f"{sentence}.", ":::", "",
            ]  # fmt: skip
        lines += ["::::", ""]
    (source / "gallery.md").write_text("\n".join(lines), encoding="utf-8")
