"""CT slices of patches, with seed points and outlines."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .base import POINTS, STYLE, WIDTH, nothing, sheet, wrap

OUTLINE, SEED = "#56B4E9", "#F0E442"  # the slices look the same on light and dark pages
SIZE, LINE, GAP = 8.5, 11, 6  # points: titles, distance of their lines, distance of tiles
PLATE = {"facecolor": (0, 0, 0, 0.6), "edgecolor": "none", "pad": 1.5}  # text on it is read over air and bone
TEXT = {"color": "white", "fontsize": 8, "textcoords": "offset points", "bbox": PLATE, "parse_math": False}


def axial(array: np.ndarray, voxel: Sequence[float], axes: str = "RAS") -> tuple[np.ndarray, np.ndarray]:
    """The axial slice (rows, columns) through a voxel as radiologists see it, and the voxel's (row, column) in it.

    ``axes`` says where each index of ``array`` leads: R, L, A, P, S or I. Front is up, the patient's right is left.
    """
    order = [next(i for i, way in enumerate(axes) if way in pair) for pair in ("SI", "AP", "RL")]
    turned, place = np.transpose(array, order), np.asarray(voxel, float)[order]
    plane, place = turned[int(np.clip(round(place[0]), 0, len(turned) - 1))], place[1:]
    for axis, way in enumerate("AR"):
        if way in axes:
            plane = np.flip(plane, axis)
            place[axis] = plane.shape[axis] - 1 - place[axis]
    return plane, place


def montage(
    patches: Sequence[np.ndarray],
    spacings: Sequence[Sequence[float]],
    outlines: Sequence[np.ndarray | None] | None = None,
    seeds: Sequence[Sequence[float]] | None = None,
    titles: Sequence[str] | None = None,
    *,
    axes: str = "RAS",
    window: tuple[float, float] = (-600, 1500),
    columns: int = 3,
    mark: str = "",
) -> Figure:
    """Axial slices of patches through their seed points, with the outline of the mask and a scale bar.

    ``patches`` are 3-D arrays of HU, ``spacings`` mm along their axes, ``outlines`` masks of the same shapes (None:
    no outline), ``seeds`` voxel indices (default: size // 2, where the bank puts them), all in the order that
    ``axes`` gives (:func:`axial`). ``window`` is centre and width in HU. ``mark`` ("phantom") is written into
    every tile.
    """
    if not len(patches):
        return nothing("No patches.")
    if any(np.ndim(patch) != 3 for patch in patches):
        raise ValueError("montage: a patch is not 3-D; give volumes, the slice through the seed is cut here")
    for name, given in (("spacings", spacings), ("outlines", outlines), ("seeds", seeds), ("titles", titles)):
        if given is not None and len(given) != len(patches):
            raise ValueError(f"montage: {len(given)} {name} for {len(patches)} patches; give one for each")
    page_width = WIDTH * POINTS
    side = (page_width - GAP * (columns - 1)) / columns
    words = [wrap(title, side - 2, SIZE) for title in titles] if titles is not None else [[] for _ in patches]
    starts = range(0, len(patches), columns)
    heads = [LINE * max(map(len, words[start : start + columns])) + 2 for start in starts]
    tops = np.cumsum([0, *(head + side + GAP for head in heads)])
    figure, page = sheet(tops[-1])
    with matplotlib.rc_context(STYLE):
        for number, patch in enumerate(patches):
            row, column = divmod(number, columns)
            left, top = column * (side + GAP), tops[row] + heads[row]
            for line, text in enumerate(reversed(words[number])):
                page.text(left + 1, top - 4 - LINE * line, text, fontsize=SIZE, parse_math=False)
            place = (left / page_width, 1 - (top + side) / tops[-1], side / page_width, side / tops[-1])
            tile = figure.add_axes(place)
            seed = np.array(patch.shape) // 2 if seeds is None else seeds[number]
            outline = None if outlines is None else outlines[number]
            _tile(tile, patch, spacings[number], outline, seed, axes, window, mark)
    return figure


def _tile(
    tile: Axes,
    patch: np.ndarray,
    spacing: Sequence[float],
    outline: np.ndarray | None,
    seed: Sequence[float],
    axes: str,
    window: tuple[float, float],
    mark: str,
) -> None:
    """One slice of a montage, in mm from the middle of its first voxel."""
    plane, place = axial(patch, seed, axes)
    high, wide = (next(step for step, way in zip(spacing, axes, strict=True) if way in pair) for pair in ("AP", "RL"))
    extent = (-wide / 2, (plane.shape[1] - 0.5) * wide, (plane.shape[0] - 0.5) * high, -high / 2)
    low, top = window[0] - window[1] / 2, window[0] + window[1] / 2
    tile.imshow(plane, cmap="gray", vmin=low, vmax=top, extent=extent, interpolation="none")
    tile.set_autoscale_on(False)  # a seed outside the patch does not move it
    if outline is not None:
        drawn = axial(np.asarray(outline, float), seed, axes)[0]
        if drawn.any() and not drawn.all():
            x, y = np.arange(drawn.shape[1]) * wide, np.arange(drawn.shape[0]) * high
            tile.contour(x, y, drawn, levels=[0.5], colors=OUTLINE, linewidths=1.2)
    for width, colour in ((3, "black"), (1.4, SEED)):
        tile.plot(place[1] * wide, place[0] * high, "+", color=colour, markersize=6 + width, markeredgewidth=width)
    tile.set_axis_off()
    _scale_bar(tile, extent)
    if mark:
        tile.annotate(mark, (extent[0], extent[3]), (4, -4), ha="left", va="top", **TEXT)


def _scale_bar(tile: Axes, extent: tuple[float, float, float, float]) -> None:
    """A bar of a round length in mm, and the length, on a dark plate in the lower right corner."""
    across, down = extent[1] - extent[0], extent[2] - extent[3]
    bar = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= 0.4 * across), default=0.25 * across)
    end, level, rim = extent[1] - 0.06 * across, extent[2] - 0.06 * down, 0.02 * across
    plate = [end - bar - rim, end + rim]
    tile.plot(plate, [level, level], color="black", linewidth=6, alpha=0.6, solid_capstyle="butt")
    tile.plot([end - bar, end], [level, level], color="white", linewidth=2, solid_capstyle="butt")
    tile.annotate(f"{bar:.3g} mm", (end, level), (0, 4.5), ha="right", va="bottom", **TEXT)
