"""The energy surface of one crystal: on the sphere, and along great circles, fit beside points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmace.plots.style import COLOURS, INK, STYLE, to_png
from mmace_flows.properties.anisotropy import Surface, perpendicular
from mmace_flows.properties.anisotropy_values import surface_of
from mmace_flows.schemas.anisotropy_entry import AnisotropyValues

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MESH = (61, 121)  # polar and azimuthal lines of the sphere
VIEW = (22.0, 35.0)  # degrees above the plane of x and y, and from x
CIRCLE = 181  # points of a half circle


def anisotropy_figure(
    found: AnisotropyValues,
    atoms: int,
    path: Path,
    title: str,
    points: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Writes the figure as PNG, whole or not at all.

    Parameters: ``atoms`` N of the cell; ``points`` directions [D,3] and their energies [D], eV per cell up to a
    constant: those that lie on a circle are drawn beside the curve.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    surface = surface_of(found)
    lowest = float(surface.anisotropy(np.array([found.easy]))[0])
    unit = 1000.0 / atoms

    def energies(vectors: np.ndarray) -> np.ndarray:
        """meV per atom above the easy direction."""
        return unit * (surface.anisotropy(vectors) - lowest)

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.4))
        FigureCanvasAgg(figure)
        sphere = figure.add_axes((0.0, 0.16, 0.46, 0.76), projection="3d")
        curves = figure.add_axes((0.57, 0.14, 0.41, 0.74))
        figure.suptitle(title, fontsize=11)
        _draw_sphere(figure, sphere, found, energies)
        axis = np.array(found.axis)
        hard = np.array(found.hard)
        across = hard - (hard @ axis) * axis
        # the plane that holds axis and hard direction, the one at right angles to it, and the one around
        first = across / np.linalg.norm(across) if np.linalg.norm(across) > 1e-3 else perpendicular(axis)[0]
        second = np.cross(axis, first)
        angle = np.linspace(0.0, np.pi, CIRCLE)[:, None]
        circles = (
            ("from the axis, by the hard direction", axis, first),
            ("from the axis, at right angles to it", axis, second),
            ("around the axis", first, second),
        )
        for (label, start, end), colour, dash in zip(circles, COLOURS, ("-", "--", ":"), strict=False):
            along = np.cos(angle) * start + np.sin(angle) * end
            curves.plot(np.degrees(angle[:, 0]), energies(along), dash, color=colour, label=label)
            if points is not None:
                _draw_points(curves, points, start, end, colour, unit, surface, lowest)
        curves.set_xlabel("angle (°)")
        curves.set_xticks(range(0, 181, 30))
        curves.set_ylabel("energy above easy (meV/atom)")
        top = max(curves.get_ylim()[1], 1e-9)
        curves.set_ylim(-0.06 * top, 1.35 * top)  # room for the legend
        curves.legend(loc="upper center")
    to_png(figure, path)


def _draw_sphere(
    figure: Figure, axes: Any, found: AnisotropyValues, energies: Callable[[np.ndarray], np.ndarray]
) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    polar, azimuth = np.meshgrid(np.linspace(0, np.pi, MESH[0]), np.linspace(0, 2 * np.pi, MESH[1]), indexing="ij")
    vectors = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
    values = energies(vectors.reshape(-1, 3)).reshape(polar.shape)
    scale = Normalize(0.0, max(float(values.max()), 1e-12))
    colours = colormaps["cividis"](scale(values))
    axes.plot_surface(
        *np.moveaxis(vectors, -1, 0),
        facecolors=colours,
        rstride=1,
        cstride=1,
        linewidth=0,
        antialiased=False,
        shade=False,
    )
    height, side = np.radians(VIEW)
    viewer = np.array([np.cos(height) * np.cos(side), np.cos(height) * np.sin(side), np.sin(height)])
    for direction, name in ((found.easy, "easy"), (found.hard, "hard")):
        vector = np.array(direction) * (1.0 if np.dot(direction, viewer) >= 0 else -1.0)
        for sign in (1.0, -1.0):  # outside the sphere, and not behind it
            if sign * vector @ viewer > -0.5:
                axes.plot(*np.outer(sign * vector, [1.0, 1.4]), color=INK, linewidth=1.4, zorder=10)
        axes.text(*(1.5 * vector), name, fontsize=9, ha="center", va="center", zorder=11)
    for end, name in zip(np.eye(3), "xyz", strict=True):
        if max(abs(end @ np.array(found.easy)), abs(end @ np.array(found.hard))) < 0.95:
            axes.plot(*np.outer(end, [1.0, 1.25]), color=COLOURS[7], linewidth=0.9, zorder=10)
            axes.text(*(1.35 * end), name, fontsize=9, color=COLOURS[7], ha="center", va="center", zorder=11)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
    axes.view_init(*VIEW)
    axes.set_axis_off()
    bar = figure.colorbar(
        ScalarMappable(scale, "cividis"), cax=figure.add_axes((0.1, 0.13, 0.27, 0.03)), orientation="horizontal"
    )
    bar.ax.locator_params(nbins=4)
    bar.set_label("energy above easy (meV/atom)")


def _draw_points(
    axes: Any,
    points: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    end: np.ndarray,
    colour: str,
    unit: float,
    surface: Surface,
    lowest: float,
) -> None:
    """Points within a degree of the circle."""
    vectors, energies = np.asarray(points[0], dtype=float), np.asarray(points[1], dtype=float)
    middle = float(np.mean(energies - surface.anisotropy(vectors)))
    near = np.abs(vectors @ np.cross(start, end)) < np.sin(np.radians(1.0))
    angle = np.degrees(np.arctan2(vectors[near] @ end, vectors[near] @ start)) % 180.0
    axes.plot(angle, unit * (energies[near] - middle - lowest), "o", color=colour, markersize=4)
