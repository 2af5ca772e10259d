"""Figures of saliency maps: where they lie on the CT, and whether they can be believed.

Volumes are upright: their axes run to R, A and S (:func:`tumorbench_utils.maps.upright`). Maps are drawn from 0 to
their 99th percentile; of a signed map give the absolute values, since what is below 0 is drawn as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .base import INK, OURS, POINTS, SECOND, STYLE, WIDTH, canvas, counted, nothing, sheet, wrap
from .extraction import DISPLAY, SMALL, turned
from .robustness import STEPS, power_of_ten
from .slices import OUTLINE, TEXT, _scale_bar

WINDOW = (40, 400)  # HU, centre and width: soft tissue
DISTANCE = "cosine distance of the embedding"
PERCENTILE = 99  # of a map, where its colours end
GAP, HEAD, LINE, BAR = 6, 14, 12, 8  # points: between tiles, above them, a line of text, height of a colour bar
TISSUE = "#7F7F7F"  # behind a colour bar, as soft tissue is behind a map
HU_BINS = (-1024, -900, -500, -150, -30, 120, 300, 3072)
HU_NAMES = ("air", "lung", "lung and fat, mixed", "fat", "soft tissue", "contrast, calcified", "bone")
FEWEST = 20  # voxels of a bin in a case, for a mean to be of use


def heat(levels: int = 256) -> ListedColormap:
    """Colours of a map over a CT: matplotlib's inferno without its darkest quarter, from transparent to 65 %."""
    share = np.linspace(0, 1, levels)
    colours = matplotlib.colormaps["inferno"](0.25 + 0.75 * share)
    colours[:, 3] = 0.65 * share**0.7
    return ListedColormap(colours, "heat")


def top_of(saliency: np.ndarray) -> float:
    """The value at which the colours of a map end: its 99th percentile, or its maximum if that is not above 0."""
    values = np.asarray(saliency, float)
    return float(max(np.percentile(values, PERCENTILE), 0) or max(values.max(), 0) or 1)


def centre_of(mask: np.ndarray | None, shape: Sequence[int]) -> np.ndarray:
    """The voxel (3,) of the mask that is nearest to its centre of mass; without a mask size // 2, the seed point's."""
    if mask is None or not np.any(mask):
        return np.array(shape) // 2
    voxels = np.argwhere(mask)
    return voxels[np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()]


def check_volumes(name: str, hu: np.ndarray, **others: np.ndarray | None) -> None:
    """HU and what is drawn over them must be 3-D, of one shape and, if maps, finite."""
    shapes = {"hu": np.shape(hu)} | {key: np.shape(each) for key, each in others.items() if each is not None}
    if np.ndim(hu) != 3 or len(set(shapes.values())) > 1:
        words = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise ValueError(f"{name}: volumes must be 3-D and of one shape, axes R, A, S; they are {words}")
    saliency = others.get("saliency")
    if saliency is not None and not np.isfinite(saliency).all():
        raise ValueError(f"{name}: the map holds NaN or infinity; such samples are in maps.Drawn.excluded")


def planes(
    hu: np.ndarray,
    saliency: np.ndarray,
    mask: np.ndarray | None,
    spacing: Sequence[float],
    window: tuple[float, float] = WINDOW,
    mark: str = "",
    label: str = DISTANCE,
) -> Figure:
    """A patch in three planes through the centre of its mask (else of the patch), below it with the map over it.

    ``hu``, ``saliency`` and ``mask`` are upright (R, A, S), ``spacing`` (3,) mm along these axes; drawn as
    radiologists see it, the patient's right on the left. ``window`` is centre and width in HU, ``label`` what the
    colours stand for. ``mark`` ("phantom", "untrained") is written into every tile.
    """
    check_volumes("planes", hu, saliency=saliency, mask=mask)
    centre, top = centre_of(mask, np.shape(hu)), top_of(saliency)
    array, over, outline = (None if each is None else turned(each, "RAS", DISPLAY) for each in (hu, saliency, mask))
    centre = np.where([way in "RAS" for way in DISPLAY], centre[::-1], np.array(array.shape) - 1 - centre[::-1])
    step = np.asarray(spacing, float)[::-1]
    field, wide = step * array.shape, WIDTH * POINTS
    scale = (wide - 2 * GAP) / (2 * field[2] + field[1])
    rows = [("CT, with the outline of the tumour" if mask is not None else "CT", None), ("The map over it", over)]
    height = LINE + HEAD + scale * max(field[0], field[1]) + GAP
    whole = 2 * height + GAP + BAR + 2.6 * LINE
    figure, page = sheet(whole)
    with matplotlib.rc_context(STYLE):
        for number, (title, drawn) in enumerate(rows):
            start, left = number * height, 0.0
            page.text(1, start + 10, title, fontsize=SMALL + 0.5, weight="bold", parse_math=False)
            for cut, name in enumerate(("axial", "coronal", "sagittal")):
                down, across = (axis for axis in range(3) if axis != cut)
                across_mm, down_mm = scale * field[across], scale * field[down]
                page.text(left + 1, start + LINE + 10, name, fontsize=SMALL)
                bottom = start + LINE + HEAD + down_mm
                tile = figure.add_axes((left / wide, 1 - bottom / whole, across_mm / wide, down_mm / whole))
                parts = [None if each is None else np.take(each, centre[cut], cut) for each in (array, outline, drawn)]
                extent = _tile(tile, parts, centre[[down, across]], step[[down, across]], window, top)
                if number:
                    _ways(tile, DISPLAY[down], DISPLAY[across])
                else:
                    _scale_bar(tile, extent)
                _mark(tile, mark)
                left += across_mm + GAP
        place = figure.add_axes((0.06, 1 - (2 * height + GAP + BAR) / whole, 0.88, BAR / whole))
        power = _power(top)
        unit = f" ({power_of_ten(power)})" if power else ""
        bar = _colour_bar(figure, place, top, f"{label}{unit}, to the {PERCENTILE}th percentile")
        bar.locator = MaxNLocator(5, steps=STEPS)
        bar.formatter = FuncFormatter(lambda value, _: f"{value / 10**power:.3g}")
        bar.update_ticks()
    return figure


def _power(top: float) -> int:
    """The power of ten in which values to ``top`` are written: 0 down to a thousandth, else that of ``top``."""
    return 0 if top >= 1e-3 else math.floor(math.log10(top))


def _tile(
    tile: Axes,
    parts: Sequence[np.ndarray | None],
    centre: np.ndarray,
    step: np.ndarray,
    window: tuple[float, float],
    top: float,
) -> tuple[float, float, float, float]:
    """Draw CT, outline and map of one plane in mm from its centre (row, column); returns the extent."""
    plane, outline, drawn = parts
    x, y = (np.arange(plane.shape[1]) - centre[1]) * step[1], (np.arange(plane.shape[0]) - centre[0]) * step[0]
    extent = (x[0] - step[1] / 2, x[-1] + step[1] / 2, y[-1] + step[0] / 2, y[0] - step[0] / 2)
    options = {"extent": extent, "interpolation": "none", "aspect": "auto"}
    low = window[0] - window[1] / 2
    tile.imshow(plane, cmap="gray", vmin=low, vmax=low + window[1], **options)
    if drawn is not None:
        tile.imshow(drawn, cmap=heat(), vmin=0, vmax=top, **options)
    tile.set_autoscale_on(False)
    if outline is not None and outline.any() and not outline.all():
        tile.contour(x, y, np.asarray(outline, float), levels=[0.5], colors=OUTLINE, linewidths=1.2)
    tile.set(xticks=[], yticks=[], facecolor="black")
    tile.grid(False)
    tile.spines[:].set_visible(False)
    return extent


def _ways(tile: Axes, down: str, across: str) -> None:
    tile.annotate(f"{across}→", (1, 0), (-3, 4), xycoords="axes fraction", ha="right", va="bottom", **TEXT)
    tile.annotate(f"{down}↓", (0, 0), (3, 4), xycoords="axes fraction", ha="left", va="bottom", **TEXT)


def _mark(tile: Axes, mark: str) -> None:
    if mark:
        tile.annotate(mark, (0, 1), (3, -3), xycoords="axes fraction", ha="left", va="top", **TEXT)


def _colour_bar(figure: Figure, place: Axes, top: float, label: str):
    colours = ScalarMappable(Normalize(0, top), heat())
    bar = figure.colorbar(colours, cax=place, orientation="horizontal")
    bar.ax.set_facecolor(TISSUE)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, length=2.5, pad=1.5)
    bar.set_label(label, fontsize=SMALL, labelpad=2)
    return bar


def grid(
    rows: Sequence[Mapping], window: tuple[float, float] = WINDOW, columns: int = 3, label: str = DISTANCE
) -> Figure:
    """The maps of up to twelve models of one case: axial slices through the tumour, all of one field of view in mm.

    Each of ``rows`` has title, hu, saliency (None: there is no map), mask (or None) and spacing, upright as in
    :func:`planes`, and may have ``mark``, which is written into its tile. The first tile is the CT of the first row
    alone. Colours run from 0 to the 99th percentile of each model's own map, which is written below it.
    """
    if not rows:
        return nothing("No maps.")
    for row in rows:
        check_volumes(f"grid, {row['title']}", row["hu"], saliency=row["saliency"], mask=row["mask"])
    tiles = [{**rows[0], "title": "CT alone", "saliency": None, "foot": f"{window[0]:g} ± {window[1] / 2:g} HU"}, *rows]
    field = min(n * mm for row in rows for n, mm in zip(np.shape(row["hu"])[:2], row["spacing"][:2], strict=True))
    wide = WIDTH * POINTS
    side = (wide - GAP * (columns - 1)) / columns
    words = [wrap(tile["title"], side - 2, SMALL) for tile in tiles]
    heads = [LINE * max(map(len, words[at : at + columns])) + 2 for at in range(0, len(tiles), columns)]
    starts = np.cumsum([0, *(head + side + LINE + GAP for head in heads)])
    whole = starts[-1] + GAP + BAR + 2.6 * LINE
    figure, page = sheet(whole)
    with matplotlib.rc_context(STYLE):
        for number, row in enumerate(tiles):
            left, start = number % columns * (side + GAP), starts[number // columns] + heads[number // columns]
            for line, text in enumerate(reversed(words[number])):
                page.text(left + 1, start - 4 - LINE * line, text, fontsize=SMALL, parse_math=False)
            tile = figure.add_axes((left / wide, 1 - (start + side) / whole, side / wide, side / whole))
            foot = row.get("foot") or _grid_tile(row)
            page.text(left + 1, start + side + 9, foot, fontsize=SMALL, parse_math=False)
            _axial(tile, row, field, window)
            _mark(tile, row.get("mark", ""))
            if not number:
                _scale_bar(tile, (-field / 2, field / 2, field / 2, -field / 2))
        place = figure.add_axes((0.06, 1 - (starts[-1] + GAP + BAR) / whole, 0.88, BAR / whole))
        bar = _colour_bar(figure, place, 1, f"{label}, each model on its own scale")
        bar.set_ticks([0, 1], labels=["0", f"{PERCENTILE}th percentile"])
        for text, side in zip(bar.ax.get_xticklabels(), ("left", "right"), strict=True):
            text.set_horizontalalignment(side)
    return figure


def _grid_tile(row: Mapping) -> str:
    if row["saliency"] is None:
        return "no map"
    top = top_of(row["saliency"])
    power = _power(top)
    return f"0 to {top / 10**power:.2g}" + (f" × {power_of_ten(power)}" if power else "")


def _axial(tile: Axes, row: Mapping, field: float, window: tuple[float, float]) -> None:
    """The axial slice through the tumour of a row, ``field`` mm wide and high around its centre."""
    centre = centre_of(row["mask"], np.shape(row["hu"]))
    parts = [None if row[name] is None else turned(np.asarray(row[name]), "RAS", "SPL")[centre[2]]
             for name in ("hu", "mask", "saliency")]  # fmt: skip
    middle = np.array(parts[0].shape) - 1 - centre[[1, 0]]
    top = 1.0 if row["saliency"] is None else top_of(row["saliency"])
    _tile(tile, parts, middle, np.asarray(row["spacing"], float)[[1, 0]], window, top)
    tile.set(xlim=(-field / 2, field / 2), ylim=(field / 2, -field / 2))


def deletion(curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], columns: int = 2) -> Figure:
    """How far the embedding moves as voxels are replaced, most salient first (solid) or as displaced maps say (dotted).

    ``curves`` are share (n,) of the voxels replaced, distance (n,) and distances of displaced maps (maps, n) by title,
    as :func:`saliency.deletion` gives them. Each panel has its own scale of distances.
    """
    if not curves:
        return nothing("No deletion curves.")
    words = [wrap(title, 140 if columns > 1 else 320, 9.5, "bold") for title in curves]
    lines = -(-len(curves) // columns)
    figure, axes = canvas(0.75 + lines * (1.3 + 0.16 * max(map(len, words))), columns, lines, sharex=True)
    with matplotlib.rc_context(STYLE):
        for axis, title, (share, distance, displaced) in zip(axes, words, curves.values(), strict=False):
            axis.plot(100 * np.asarray(share), distance, color=OURS, linewidth=1.8)
            for each in displaced:
                axis.plot(100 * np.asarray(share), each, ":", color=INK, linewidth=1.4)
            axis.set_title("\n".join(title))
            axis.set(xlim=(0, 100), ylim=(0, None))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.yaxis.set_major_locator(MaxNLocator(4))
        for axis in axes[max(len(curves) - columns, 0) : len(curves)]:
            axis.tick_params(labelbottom=True)  # where no panel is below
            axis.set_xlabel("voxels replaced (%)")
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        axes[0].plot([], [], color=OURS, linewidth=1.8, label="most salient voxels first")
        axes[0].plot([], [], ":", color=INK, linewidth=1.4, label="the same map displaced")
        figure.supylabel("\n".join(wrap(DISTANCE, 110, 9.5)), fontsize=9.5)  # one row is lower than the words are long
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def sanity(table: pd.DataFrame) -> Figure:
    """How alike the maps of trained and of random weights are: a dot a sample, a line at the median, a row a method.

    ``table`` has sample_id, method, spearman and top_overlap (:func:`saliency.alike`). At the dashed line the weights
    change nothing, and the map shows the image; at the dotted one the two maps have nothing in common.
    """
    table = table.dropna(subset=["spearman", "top_overlap"]) if len(table) else table
    if table.empty:
        return nothing("No sample has maps of both trained and random weights.")
    methods = list(dict.fromkeys(table["method"]))
    figure, axes = canvas(1.15 + 0.5 * len(methods), 2, sharey=True)
    panels = (
        ("spearman", "rank correlation", 0.0, (-1.08, 1.08)),
        ("top_overlap", "common top tenth", 0.1, (-0.04, 1.04)),
    )
    with matplotlib.rc_context(STYLE):
        for axis, (column, label, unrelated, limits) in zip(axes, panels, strict=True):
            for place, method in enumerate(methods):
                values = table.loc[table["method"] == method, column].to_numpy(float)
                spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [0.0]
                axis.plot(
                    values, place + np.asarray(spread), "o", color=OURS, markersize=4, alpha=0.6, markeredgewidth=0
                )
                axis.plot([np.median(values)] * 2, [place - 0.33, place + 0.33], color=SECOND, linewidth=2.2)
            axis.axvline(1, color=INK, linestyle="--", linewidth=1.2)
            axis.axvline(unrelated, color=INK, linestyle=":", linewidth=1.4)
            axis.set_xlabel(label)
            axis.set(xlim=limits, ylim=(len(methods) - 0.5, -0.5))
            axis.set_yticks(range(len(methods)), methods)
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.grid(axis="y", visible=False)
        axes[0].plot([], [], color=SECOND, linewidth=2.2, label="median")
        axes[0].plot([], [], "--", color=INK, linewidth=1.2, label="no change")
        axes[0].plot([], [], ":", color=INK, linewidth=1.4, label="unrelated")
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def hu(
    saliency: Sequence[np.ndarray],
    hu: Sequence[np.ndarray],
    bins: Sequence[float] = HU_BINS,
    names: Sequence[str] = HU_NAMES,
) -> Figure:
    """Mean saliency of the voxels of each range of HU, as a multiple of the mean of their patch.

    ``saliency`` and ``hu`` hold an array a case, of one shape each. A dot is a median over cases, a bar the quartiles;
    a case counts where it has twenty voxels or more in the range. Above 1 the model looks there more than elsewhere.
    """
    if len(saliency) != len(hu) or len(names) != len(bins) - 1:
        raise ValueError(f"hu: {len(saliency)} maps for {len(hu)} CTs, {len(names)} names for {len(bins) - 1} ranges")
    found = np.array([_means(*pair, bins) for pair in zip(saliency, hu, strict=True)]).reshape(-1, len(names))
    cases = np.isfinite(found).sum(axis=0)
    some = np.flatnonzero(cases)
    if not len(some):
        return nothing("No map, or none above zero.")
    low, middle, high = np.nanquantile(found[:, some], (0.25, 0.5, 0.75), axis=0)
    figure, (axis,) = canvas(0.7 + 0.42 * len(some))
    with matplotlib.rc_context(STYLE):
        rows = range(len(some))
        axis.errorbar(middle, rows, xerr=[middle - low, high - middle], fmt="o", color=OURS, markersize=6, capsize=3)
        axis.axvline(1, color=INK, linestyle=":", linewidth=1.2)
        words = [f"{names[at]}\n{bins[at]:g} to {bins[at + 1]:g} HU, {counted(cases[at], 'case')}" for at in some]
        axis.set_yticks(rows, [each.replace("-", "−") for each in words], fontsize=SMALL)
        axis.set(xlabel="mean saliency, times that of the patch", xlim=(0, None), ylim=(len(some) - 0.5, -0.5))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.grid(axis="y", visible=False)
    return figure


def _means(saliency: np.ndarray, hu: np.ndarray, bins: Sequence[float]) -> np.ndarray:
    """Mean saliency of a case in each range of HU over its mean; NaN where there are too few voxels."""
    check_volumes("hu", hu, saliency=saliency)
    values = np.maximum(np.asarray(saliency, float), 0).ravel()
    place = np.clip(np.digitize(np.ravel(hu), bins) - 1, 0, len(bins) - 2)
    counts, sums = (np.bincount(place, weights, len(bins) - 1) for weights in (None, values))
    if not values.any():
        return np.full(len(bins) - 1, np.nan)
    return np.where(counts >= FEWEST, sums / np.maximum(counts, 1) / values.mean(), np.nan)
