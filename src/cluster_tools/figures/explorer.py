"""An interactive figure: the galaxies of a cluster in phase space, each with its position and velocity.

It is one piece of HTML that fetches nothing: a drawing by matplotlib, in which each galaxy has a title that browsers
show beside the pointer, and a slider for readers without one. Without JavaScript, and in print, the drawing remains.
"""

import io
import json
import string
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cluster_tools import paths
from cluster_tools.figures import clusters, style

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def phase_space(ra, dec, v_los, r_proj, image, *, name: str = "the cluster") -> str:
    """Draw galaxies over the image that the networks read, as HTML for ``IPython.display.HTML``.

    Galaxies (n_galaxies,) have positions [deg, J2000], velocities [km/s] and projected radii [comoving Mpc/h]; `image`
    is that of `mocks.kde.phase_space_images`, (48, 48) with axes [v_los, r_proj]. `name` is that of the cluster, for
    readers who do not see the drawing.
    """
    columns = np.array([ra, dec, v_los, r_proj], float)
    ra, dec, v_los, r_proj = columns[:, np.argsort(columns[3], kind="stable")]
    descriptions = [
        f"Galaxy {i} of {len(ra)}: RA {a:.4f}°, Dec {d:+.4f}°, {v:+.0f} km/s, {r:.2f} comoving Mpc/h out"
        for i, (a, d, v, r) in enumerate(zip(ra, dec, v_los, r_proj), start=1)
    ]
    with matplotlib.rc_context({"svg.hashsalt": "phase space"}):  # the same figure gives the same text
        fig = Figure(figsize=(style.WIDTH, 4.8), layout="constrained")
        ax = fig.add_subplot()
        clusters.image_2d(ax, image)
        ax.scatter(r_proj, v_los, s=22, color=style.ORANGE, edgecolors="white", linewidths=0.5, gid="galaxies")
        text = io.StringIO()
        fig.savefig(text, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    for prefix, space in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, space)
    svg = ElementTree.fromstring(text.getvalue())
    svg.attrib |= {"role": "img", "aria-label": f"Phase space of {name}: {len(ra)} galaxies over their image."}
    markers = svg.findall(f".//{{{SVG}}}g[@id='galaxies']//{{{SVG}}}use")
    for marker, description in zip(markers, descriptions, strict=True):
        ElementTree.SubElement(marker, f"{{{SVG}}}title").text = description
    ElementTree.SubElement(svg, f"{{{SVG}}}circle", {"class": "ring", "r": "0"})
    return string.Template((paths.PACKAGE_DATA / "explorer.html").read_text(encoding="utf-8")).substitute(
        drawing=ElementTree.tostring(svg, encoding="unicode"),
        last=len(ra) - 1,
        first=descriptions[0],
        descriptions=json.dumps(descriptions),
    )
