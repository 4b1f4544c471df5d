"""Figures of one cluster: its galaxies in phase space, as a drawing and interactive, its image, its weighed mass.

Velocities are in km/s and radii in comoving Mpc/h; `ax` is the matplotlib Axes to draw on.
"""

import io
import json
import string
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from cluster_tools import paths
from cluster_tools.figures import style
from cluster_tools.figures.figure_data import record
from cluster_tools.mocks.kde import r_proj_grid, v_los_grid
from cluster_tools.mocks.observe import APERTURE, VELOCITY_CUT
from cluster_tools.weighing.output import ClusterMass

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def phase_space(ax: Axes, v_los, r_proj, is_member=None) -> None:
    """Draw galaxies (n_galaxies,) in phase space, members and interlopers apart where `is_member` (bool) is given."""
    v_los, r_proj = np.asarray(v_los, float), np.asarray(r_proj, float)
    members = {} if is_member is None else {"member": is_member}
    record(ax, {"v_los [km/s]": v_los, "R_proj [Mpc/h]": r_proj} | members)
    if is_member is None:
        ax.scatter(r_proj, v_los, s=9, color=style.INK, alpha=0.6, linewidths=0)
    else:
        member = np.asarray(is_member, bool)
        crosses = {"s": 22, "color": style.ORANGE, "marker": "x", "linewidths": 1.3, "label": "interlopers"}
        ax.scatter(r_proj[~member], v_los[~member], **crosses)
        ax.scatter(r_proj[member], v_los[member], s=14, color=style.BLUE, alpha=0.8, linewidths=0, label="members")
        ax.legend(loc="lower right", frameon=True, framealpha=0.85, handletextpad=0.2, borderpad=0.3)
    _phase_space_axes(ax)


def image_2d(ax: Axes, image) -> QuadMesh:
    """Draw a (48, 48) image [v_los, r_proj] of `cluster_tools.mocks.kde`; return the mesh for a colour bar."""
    v_los, r_proj = map(np.ravel, np.meshgrid(v_los_grid(), r_proj_grid(), indexing="ij"))
    record(ax, {"v_los [km/s]": v_los, "R_proj [Mpc/h]": r_proj, "fraction per pixel": np.ravel(image)})
    mesh = ax.pcolormesh(r_proj_grid(), v_los_grid(), image, cmap=style.density_map(), vmin=0, shading="nearest")
    mesh.set_rasterized(True)
    _phase_space_axes(ax)
    return mesh


def _phase_space_axes(ax: Axes) -> None:
    ax.set(xlabel=style.R_PROJ, ylabel=style.V_LOS, xlim=(0, APERTURE), ylim=(-VELOCITY_CUT, VELOCITY_CUT))
    ax.set(xticks=[0, 1, 2], yticks=[-3000, -1500, 0, 1500, 3000])


def weighed(result: ClusterMass) -> Figure:
    """Draw a weighed cluster: galaxies over their image, and the posterior below the classical estimates.

    The Figure is not pyplot's: it needs no display, and can be saved or shown.
    """
    observation = result.observation
    fig = Figure(figsize=(style.WIDTH + 2, 4.2), layout="constrained")
    left, right = fig.subplots(1, 2)
    image_2d(left, observation.image())
    record(left, {"series": "galaxies", "v_los [km/s]": observation.v_los, "R_proj [Mpc/h]": observation.r_proj})
    left.scatter(observation.r_proj, observation.v_los, s=10, color="white", edgecolors=style.INK, linewidths=0.5)
    left.set_title(f"{len(observation.v_los)} galaxies, z = {observation.redshift:.4f}")

    rows = [(e.name, e.calibrated, e.scatter, style.INK) for e in result.estimates if np.isfinite(e.calibrated)]
    if len(result.samples):  # none where no mass should be used
        record(right, {"series": "posterior samples", "log10 M200c [Msun/h]": result.samples})
        right.hist(result.samples, bins=25, density=True, color=style.BLUE, alpha=0.5)
        low, median, high = result.quantiles
        rows.insert(0, ("networks", median, [[median - low], [high - median]], style.BLUE))
    top, ticks = right.get_ylim()[1], {}
    for number, (name, mass, error, colour) in enumerate(rows, start=1):
        y = top * (1 + 0.12 * number)
        ticks[y] = name
        right.errorbar(mass, y, xerr=error, fmt="o", color=colour, markersize=4, elinewidth=1.4)
        if name != "networks":
            record(right, {"series": name, "log10 M200c [Msun/h]": [mass], "scatter [dex]": [error]})
    right.yaxis.tick_right()
    right.set_yticks(list(ticks), list(ticks.values()))
    right.tick_params(axis="y", length=0)
    right.set(xlabel=style.LOG_M200C, ylim=(0, top * (1.12 + 0.12 * len(rows))))
    fig.suptitle(observation.name.replace("$", r"\$"))
    return fig


def explorer(ra, dec, v_los, r_proj, image, *, name: str = "the cluster") -> str:
    """Draw galaxies over the image that the networks read, as HTML for ``IPython.display.HTML`` that fetches nothing.

    Each galaxy of the drawing has a title that browsers show beside the pointer; without a pointer there is a slider.
    Without JavaScript, and in print, the drawing remains. Galaxies (n_galaxies,) have positions [deg, J2000],
    velocities [km/s] and projected radii [comoving Mpc/h]; `image` is that of `mocks.kde.phase_space_images`, (48, 48)
    with axes [v_los, r_proj]. `name` is that of the cluster, for readers who do not see the drawing.
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
        image_2d(ax, image)
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
