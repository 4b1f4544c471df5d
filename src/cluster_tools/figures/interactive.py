"""A figure that answers: phase space of a cluster over its image, with what is known of each galaxy.

It is one piece of HTML that needs nothing else: a drawing by matplotlib, in which each galaxy has a title
that browsers show beside the pointer, and a slider for those without one. Without JavaScript, and in
print, the drawing is what is left.
"""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import numpy as np

from cluster_tools.errors import ClusterToolsError
from cluster_tools.figures import paper_figures

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
GALAXIES = "galaxies"  # the group of their markers in the drawing

PAGE = """\
<div class="phase-space-explorer">
<style>
.phase-space-explorer { background: #fff; border-radius: 0.25rem; color: #222; max-width: 46rem; padding: 0.5rem; }
.phase-space-explorer svg { display: block; height: auto; width: 100%%; }
.phase-space-explorer .ring { fill: none; filter: drop-shadow(0 0 1px #fff); pointer-events: none;
  stroke: #d55e00; stroke-width: 3; }
.phase-space-explorer input { width: 100%%; }
.phase-space-explorer output { display: block; font-variant-numeric: tabular-nums; min-height: 3em; }
@media print { .phase-space-explorer :is(label, output, .ring) { display: none; } }
</style>
%(drawing)s
<label hidden>Galaxy, by distance from the centre
<input type="range" min="0" max="%(last)d" value="0" aria-valuetext="%(first)s"></label>
<output aria-live="off">Point at a galaxy, or move the slider.</output>
<script>
(() => {
  const box = document.currentScript.parentElement;
  const [slider, output, ring] = ["input", "output", ".ring"].map((part) => box.querySelector(part));
  const words = %(words)s;
  const markers = [...box.querySelectorAll("#%(group)s use")];
  const choose = (i) => {
    for (const [at, place] of [["cx", "x"], ["cy", "y"]]) ring.setAttribute(at, markers[i].getAttribute(place));
    ring.setAttribute("r", 7);
    slider.value = i;
    slider.setAttribute("aria-valuetext", words[i]);
    output.textContent = words[i];
  };
  slider.addEventListener("input", () => choose(Number(slider.value)));
  box.querySelector("svg").addEventListener("pointerover", ({ target }) => {
    const i = markers.indexOf(target.closest("use"));
    if (i >= 0) choose(i);
  });
  slider.parentElement.hidden = false;
})();
</script>
</div>
"""


def phase_space(ra, dec, v_los, r_proj, image, *, name: str = "the cluster") -> str:
    """Galaxies over the image that the networks read, as HTML to show with ``IPython.display.HTML``.

    Parameters
    ----------
    ra, dec : arrays (n,), J2000, deg
    v_los, r_proj : arrays (n,), in km/s and comoving Mpc/h
    image : array (48, 48), axes [v_los, r_proj], of `cluster_tools.mocks.kde.phase_space_images`
    name : of the cluster, for readers who do not see the drawing

    Raises
    ------
    ClusterToolsError
        For an image of another shape, columns of different lengths, or no galaxy.
    """
    columns = [np.asarray(column, float) for column in (ra, dec, v_los, r_proj)]
    if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1 or columns[0].size == 0:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise ClusterToolsError(f"ra, dec, v_los and r_proj have shapes {shapes}; expected one value of each a galaxy.")
    order = np.argsort(columns[3], kind="stable")
    ra, dec, v_los, r_proj = (column[order] for column in columns)
    words = [
        f"Galaxy {i + 1} of {len(ra)}: RA {a:.4f}°, Dec {d:+.4f}°, {v:+.0f} km/s, {r:.2f} comoving Mpc/h out"
        for i, (a, d, v, r) in enumerate(zip(ra, dec, v_los, r_proj))
    ]
    drawing = _drawing(v_los, r_proj, image, words, f"Phase space of {name}: {len(ra)} galaxies over their image.")
    return PAGE % {
        "drawing": drawing, "last": len(words) - 1, "first": words[0], "words": json.dumps(words), "group": GALAXIES,
    }  # fmt: skip


def _drawing(v_los, r_proj, image, words, label: str) -> str:
    """The figure as SVG, a title for each galaxy."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "phase space"}):
        fig = Figure(figsize=(paper_figures.WIDTH, 4.8), layout="constrained")
        ax = fig.add_subplot()
        paper_figures.image_2d(ax, image)
        ax.scatter(r_proj, v_los, s=22, color=paper_figures.ORANGE, edgecolors="white", linewidths=0.5, gid=GALAXIES)
        text = io.StringIO()
        fig.savefig(text, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    for prefix, space in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, space)
    svg = ElementTree.fromstring(text.getvalue())
    svg.attrib |= {"role": "img", "aria-label": label}
    markers = svg.findall(f".//{{{SVG}}}g[@id='{GALAXIES}']//{{{SVG}}}use")
    for marker, word in zip(markers, words, strict=True):
        ElementTree.SubElement(marker, f"{{{SVG}}}title").text = word
    ElementTree.SubElement(svg, f"{{{SVG}}}circle", {"class": "ring", "r": "0"})
    return ElementTree.tostring(svg, encoding="unicode")
