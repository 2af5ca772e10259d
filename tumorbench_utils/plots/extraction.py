"""Figures of a model's page: what it sees, how fast it is, and what its embeddings look like without any label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from ..diagnostics import Comparison, Diagnosis
from ..patches import AXES, Geometry
from .base import (
    CONTROL,
    INK,
    MUTED,
    OURS,
    POINTS,
    SECOND,
    STYLE,
    WIDTH,
    canvas,
    counted,
    nothing,
    percent,
    sheet,
    wrap,
)
from .slices import OUTLINE, SEED, TEXT

SMALL = 8.5  # points, of text beside marks
DISPLAY = "IPL"  # rows and columns of slices as radiologists see them: the front or the head up, the right left
PLANES = {2: "axial", 1: "coronal", 0: "sagittal"}  # by the axis of R, A, S that is cut
GAP, HEAD, FOOT, LINE = 8, 14, 16, 12  # points: between tiles, above them for titles, below for ticks; a line of text
HIGHEST, TICK = 240, 24  # points: of a tile, and between two ticks at least
SERIES = (OURS, SECOND, CONTROL, MUTED)
DOTS = 600  # dots of a scatter; of more pairs as many evenly spaced ones
HOLLOW = {"facecolor": "none", "edgecolor": INK, "linewidth": 0.8}


def turned(array: np.ndarray, axes: str, wanted: str) -> np.ndarray:
    """An array whose axes lead to ``axes`` ("SPL") as a view whose axes lead to ``wanted``."""
    order = [next(i for i, way in enumerate(axes) if AXES[way][0] == AXES[each][0]) for each in wanted]
    flips = [at for at, (each, i) in enumerate(zip(wanted, order, strict=True)) if axes[i] != each]
    return np.flip(np.transpose(array, order), flips)


def seed_voxel(axes: str, size: Sequence[int], sampling: str = "released") -> np.ndarray:
    """Where in a whole patch (``size`` along ``axes``) the bank puts the seed point, in voxels (3,).

    The released crop puts it into voxel size // 2 along R, A and S, an exact patch between its two middle voxels.
    """
    size = np.asarray(size)
    if sampling == "exact":
        return (size - 1) / 2
    return np.array([n // 2 if AXES[way][1] > 0 else n - 1 - n // 2 for n, way in zip(size, axes, strict=True)])


def seen(
    hu: np.ndarray,
    axes: str,
    geometry: Geometry,
    values: np.ndarray | None = None,
    *,
    limits: tuple[float, float] | None = None,
    mask: np.ndarray | None = None,
    seed: Sequence[float] | None = None,
    window: tuple[float, float] = (-600, 1500),
    mark: str = "",
) -> Figure:
    """A patch as the model sees it, and below it the same as radiologists do, each in three planes through the seed.

    ``hu`` is the patch as the bank gives it for a recipe: 3-D, its indices lead to ``axes`` ("SPL"). ``values``, of
    the same shape, are what the recipe makes of it, drawn from ``limits[0]`` black to ``limits[1]`` white (default:
    their range) as the array lies: the first index that is left runs down, the second to the right. Without
    ``values`` (controls) the upper row is left out. ``mask`` is outlined. ``seed`` is in voxels (default:
    :func:`seed_voxel`, right unless the border of the image cut the patch off); ticks are mm from it. ``window`` is
    centre and width in HU. ``mark`` ("phantom") is written into every tile.
    """
    if np.ndim(hu) != 3 or any(each is not None and np.shape(each) != np.shape(hu) for each in (values, mask)):
        shapes = [np.shape(each) for each in (hu, values, mask) if each is not None]
        raise ValueError(f"seen: patch, values and mask must be 3-D and of one shape; they are {shapes}")
    seed = seed_voxel(axes, hu.shape, geometry.sampling) if seed is None else np.asarray(seed, float)
    low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    rows = []
    if values is not None:
        limits = (float(values.min()), float(values.max())) if limits is None else limits
        title = f"As the model sees it: axes {axes}, black {limits[0]:.3g}, white {limits[1]:.3g}"
        rows.append((title.replace("-", "−"), np.asarray(values), axes, seed, mask, limits))
    title = f"As radiologists see it: black {low:,.0f} HU, white {high:,.0f} HU".replace("-", "−")
    flipped = np.array([way not in DISPLAY for way in axes])
    order = [next(i for i, way in enumerate(axes) if AXES[way][0] == AXES[each][0]) for each in DISPLAY]
    shown = np.where(flipped, np.array(hu.shape) - 1 - seed, seed)[order]
    outline = None if mask is None else turned(mask, axes, DISPLAY)
    rows.append((title, turned(hu, axes, DISPLAY), DISPLAY, shown, outline, (low, high)))
    return _rows(rows, geometry, mark)


def _rows(rows: list[tuple], geometry: Geometry, mark: str) -> Figure:
    """Rows of three tiles, (title, array, axes, seed, mask, limits) each, all of one scale."""
    wide, edge = WIDTH * POINTS, 2.0
    steps = [np.array([geometry.spacing[AXES[way][0]] for way in row[2]]) for row in rows]
    fields = [step * row[1].shape for step, row in zip(steps, rows, strict=True)]
    # the last axis runs to the right in two tiles, the one before in the third
    scale = min((wide - 2 * GAP - 2 * edge) / (2 * field[2] + field[1]) for field in fields)
    scale = min(scale, HIGHEST / max(field[:2].max() for field in fields))
    tops = np.cumsum([0, *(LINE + HEAD + scale * field[:2].max() + FOOT for field in fields)])
    whole = tops[-1] + LINE
    figure, page = sheet(whole)
    with matplotlib.rc_context(STYLE):
        for (title, array, axes, seed, mask, limits), step, field, top in zip(rows, steps, fields, tops, strict=False):
            page.text(edge, top + 10, title, fontsize=SMALL + 0.5, weight="bold", parse_math=False)
            left = edge
            for cut in sorted(range(3), key=lambda axis: list(PLANES).index(AXES[axes[axis]][0])):
                down, across = (axis for axis in range(3) if axis != cut)
                width, height = scale * field[across], scale * field[down]
                page.text(left, top + LINE + 10, PLANES[AXES[axes[cut]][0]], fontsize=SMALL)
                bottom = top + LINE + HEAD + height
                tile = figure.add_axes((left / wide, 1 - bottom / whole, width / wide, height / whole))
                at = int(np.clip(round(float(seed[cut])), 0, array.shape[cut] - 1))
                outline = None if mask is None else np.take(mask, at, cut)
                place = (seed[down], seed[across], step[down], step[across])
                _tile(tile, np.take(array, at, cut), outline, place, limits, (axes[down], axes[across]), mark)
                tick = next(mm for mm in (1, 2, 5, 10, 20, 50, 100, 200, 500) if mm * scale >= TICK)
                tile.xaxis.set_major_locator(MultipleLocator(tick))
                tile.yaxis.set_major_locator(MultipleLocator(tick))
                left += width + GAP
        page.text(
            wide / 2, whole - LINE + 6, "mm from the seed point (cross)", fontsize=SMALL, ha="center", va="center"
        )
    return figure


def _tile(
    tile: Axes,
    plane: np.ndarray,
    outline: np.ndarray | None,
    place: tuple[float, float, float, float],
    limits: tuple[float, float],
    ways: tuple[str, str],
    mark: str,
) -> None:
    """One plane (rows, columns) in mm from the seed; ``place`` is its row, column and the mm of a step down, across."""
    row, column, high, wide = place
    x, y = (np.arange(plane.shape[1]) - column) * wide, (np.arange(plane.shape[0]) - row) * high
    extent = (x[0] - wide / 2, x[-1] + wide / 2, y[-1] + high / 2, y[0] - high / 2)
    tile.imshow(plane, cmap="gray", vmin=limits[0], vmax=limits[1], extent=extent, interpolation="none", aspect="auto")
    tile.set_autoscale_on(False)
    if outline is not None and outline.any() and not outline.all():
        tile.contour(x, y, np.asarray(outline, float), levels=[0.5], colors=OUTLINE, linewidths=1.2)
    for width, colour in ((3, "black"), (1.4, SEED)):
        tile.plot(0, 0, "+", color=colour, markersize=6 + width, markeredgewidth=width)
    tile.tick_params(labelsize=8, length=2.5, pad=1.5, labelleft=False)
    tile.spines[:].set_visible(False)
    tile.annotate(f"{ways[1]}→", (1, 0), (-3, 4), xycoords="axes fraction", ha="right", va="bottom", **TEXT)
    tile.annotate(f"{ways[0]}↓", (0, 0), (3, 4), xycoords="axes fraction", ha="left", va="bottom", **TEXT)
    if mark:
        tile.annotate(mark, (0, 1), (3, -3), xycoords="axes fraction", ha="left", va="top", **TEXT)


def throughput(timings: pd.DataFrame) -> Figure:
    """Patches a second and the time of one, and where it is known the peak of memory; a row an embedding and cohort.

    ``timings`` has name, images, seconds, and may have cohort and peak_bytes, as extraction gives them; rows of which
    nothing was computed are left out.
    """
    timings = timings[(timings["images"] > 0) & (timings["seconds"] > 0)]
    if timings.empty:
        return nothing("Nothing was timed: all embeddings were there already.")
    sizes = (timings["peak_bytes"] if "peak_bytes" in timings else timings["seconds"] * np.nan).to_numpy(float) / 1e9
    memory = (sizes > 0).any()
    words = [wrap(name.replace(".", ", "), 112, SMALL) for name in timings["name"]]
    if "cohort" in timings:
        words = [[*lines, cohort] for lines, cohort in zip(words, timings["cohort"], strict=True)]
    room = np.array([0.2 + 0.16 * len(lines) for lines in words])  # inches
    places = np.cumsum(room) - room / 2
    figure, axes = canvas(0.75 + room.sum(), 2 if memory else 1, sharey=True, width_ratios=(3, 2) if memory else (1,))
    with matplotlib.rc_context(STYLE):
        rates = (timings["images"] / timings["seconds"]).to_numpy(float)
        _bars(axes[0], places, rates, [f"{_round(rate)}/s, {_seconds(1 / rate)}" for rate in rates], OURS)
        axes[0].set(xlabel="patches a second", xlim=(0, rates.max() * (2.6 if memory else 1.6)))
        axes[0].set_yticks(places, ["\n".join(lines) for lines in words], fontsize=SMALL, parse_math=False)
        if memory:
            texts = [f"{size:.2g} GB" if size > 0 else "–" for size in sizes]
            _bars(axes[1], places, np.nan_to_num(sizes), texts, MUTED)
            axes[1].set(xlabel="peak memory (GB)", xlim=(0, np.nanmax(sizes) * 2))
            axes[1].tick_params(labelleft=False)
        for axis in axes:
            axis.set_ylim(room.sum(), 0)
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.grid(axis="y", visible=False)
    return figure


def _bars(axis: Axes, places: np.ndarray, sizes: np.ndarray, texts: list[str], colour: str) -> None:
    axis.barh(places, sizes, height=0.22, color=colour)
    for place, size, text in zip(places, sizes, texts, strict=True):
        axis.annotate(text, (size, place), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"  # else 99.7 would be 1e+02


def _seconds(seconds: float) -> str:
    return f"{_round(seconds)} s" if seconds >= 1 else f"{_round(1000 * seconds)} ms"


def spectrum(found: Mapping[str, Diagnosis]) -> Figure:
    """How the variance of embeddings is spread over directions, how long their vectors are, and how alike.

    Up to four embeddings by name. Dashed lines are effective ranks; a collapsed embedding has all its pairs at a
    cosine similarity of 1.
    """
    found = {name: each for name, each in found.items() if each.samples > 1}
    if not found:
        return nothing("Fewer than two samples: there is no spread to show.")
    if len(found) > len(SERIES):
        raise ValueError(f"spectrum: {len(found)} embeddings in one figure, at most {len(SERIES)} can be told apart")
    figure, (top, middle, bottom) = canvas(6.0 + 0.2 * ((len(found) + 1) // 2), rows=3)
    most = max(max(len(each.spectrum.shares), 2) for each in found.values())
    lengths = np.concatenate([each.norms for each in found.values()])
    similar = np.concatenate([each.cosines for each in found.values()])
    with matplotlib.rc_context(STYLE):
        for (name, each), colour in zip(found.items(), SERIES, strict=False):
            number = np.arange(1, min(len(each.spectrum.shares), each.spectrum.limit) + 1)
            shares = np.cumsum(each.spectrum.shares)[: len(number)]
            few = "o" if len(number) <= 12 else None
            top.plot(number, 100 * shares, color=colour, linewidth=1.8, marker=few, markersize=4)
            rank = each.spectrum.effective_rank
            if np.isfinite(rank):
                top.axvline(rank, color=colour, linestyle="--", linewidth=1)
            words = f"{name}: effective rank {rank:.1f} of {each.spectrum.limit:,}"
            words = words if np.isfinite(rank) else f"{name}: no spread"
            top.plot([], [], color=colour, linewidth=1.8, label="\n".join(wrap(words, 300, SMALL)))
            _histogram(middle, each.norms, _edges(lengths), colour)
            _histogram(bottom, each.cosines, _edges(similar, 1.0), colour)
        top.set(xlabel="principal components", ylabel="% of variance", ylim=(0, 104), title="Spread over directions")
        top.set(xscale="log" if most > 20 else "linear", xlim=(0.9, most * 1.05 + 0.1))
        top.xaxis.set_major_formatter("{x:,g}")
        if most <= 20:
            top.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        middle.set(xlabel="length of a vector", ylabel="% of samples", title="Norms")
        bottom.set(xlabel="cosine similarity of two samples", ylabel="% of pairs", title="How alike samples are")
        for axis in (middle, bottom):
            axis.grid(axis="x", visible=False)
            axis.xaxis.set_major_locator(MaxNLocator(6))
            axis.yaxis.set_major_locator(MaxNLocator(4))
        figure.legend(loc="outside upper left", ncols=1)
    return figure


def _edges(values: np.ndarray, top: float | None = None) -> np.ndarray:
    """Thirty bins from the least to the most, or to ``top``; of equal values one bin around them."""
    low, high = values.min(), values.max() if top is None else top
    if high - low <= 1e-6 * max(abs(high), 1e-300):
        margin = 0.01 * max(abs(high), 1e-6)
        low, high = low - margin, high + (margin if top is None else margin / 30)
    return np.linspace(low, high, 31)


def _histogram(axis: Axes, values: np.ndarray, edges: np.ndarray, colour: str) -> None:
    counts, _ = np.histogram(values, edges)
    axis.stairs(100 * counts / max(len(values), 1), edges, color=colour, linewidth=1.4)
    axis.stairs(100 * counts / max(len(values), 1), edges, color=colour, fill=True, alpha=0.2)


def projection(found: Diagnosis, annotations: pd.DataFrame) -> Figure:
    """The first two principal components, coloured by label and by tumour volume (ml, logarithmic).

    ``annotations`` has the rows of the vectors that were diagnosed and may have label (1, 0 or missing) and
    volume_ml. Samples without either are hollow; a panel of which nothing is known is left out.
    """
    if len(annotations) != found.of:
        raise ValueError(f"projection: {len(annotations)} annotations for {found.of} vectors; give a row a vector")
    if found.samples < 3 or not found.spectrum.singular.any():
        return nothing("No plane to project on: it takes three samples that differ.")
    table = annotations.iloc[found.used]
    labels = table["label"].to_numpy(float) if "label" in table else np.full(len(table), np.nan)
    volumes = table["volume_ml"].to_numpy(float) if "volume_ml" in table else np.full(len(table), np.nan)
    volumes = np.where(volumes > 0, volumes, np.nan)
    panels = [np.isfinite(labels).any() or not np.isfinite(volumes).any(), np.isfinite(volumes).any()]
    count = sum(panels)
    figure, axes = canvas(3.15 if count == 2 else 3.6, count, sharex=True, sharey=True)
    points, size = found.spectrum.points, float(np.clip(900 / found.samples, 5, 26))
    share = 100 * np.append(found.spectrum.shares, 0)[:2]
    with matplotlib.rc_context(STYLE):
        if panels[0]:
            groups = [(1.0, "positive", "o", OURS), (0.0, "negative", "s", MUTED)]
            for value, name, shape, colour in groups:
                some = labels == value
                if some.any():
                    axes[0].scatter(*points[some].T, size, colour, marker=shape, alpha=0.75, linewidth=0, label=name)
            some = ~np.isfinite(labels)
            if some.any():
                axes[0].scatter(*points[some].T, size, label="no label", **HOLLOW)
            axes[0].legend(loc="lower left", bbox_to_anchor=(-0.02, 1), borderaxespad=0.2, handletextpad=0.2, ncols=2,
                           columnspacing=0.8, markerscale=1 if size > 12 else 1.6)  # fmt: skip
        if panels[1]:
            known = np.isfinite(volumes)
            if (~known).any():
                axes[-1].scatter(*points[~known].T, size, **HOLLOW)
            low, high = np.nanmin(volumes), np.nanmax(volumes)
            norm = matplotlib.colors.LogNorm(low, high if high > low else low * 1.1)
            rim = {"edgecolor": MUTED, "linewidth": 0.6 if size > 12 else 0.25}  # both ends are seen on any page
            drawn = axes[-1].scatter(*points[known].T, size, volumes[known], cmap="viridis", norm=norm, **rim)
            bar = figure.colorbar(drawn, ax=axes[-1], location="top", aspect=18, pad=0.02)
            bar.set_ticks(_decades(low, high))
            bar.ax.minorticks_off()
            bar.ax.xaxis.set_major_formatter("{x:,g}")
            bar.set_label("tumour volume (ml)")
            bar.outline.set_visible(False)
        axes[0].set(ylabel=f"component 2 ({share[1]:.0f} % of variance)")
        for axis in axes:
            axis.set(xlabel=f"component 1 ({share[0]:.0f} %)")
            axis.margins(0.08)
            axis.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def _decades(low: float, high: float) -> list[float]:
    """Two to five round numbers from ``low`` to ``high``, for a logarithmic axis."""
    for steps in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        ticks = [step * 10.0**power for power in range(-6, 8) for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 2:
            return ticks[:: -(-len(ticks) // 5)]
    return [low]


def recipes(compared: Comparison, names: tuple[str, str] = ("benchmark", "authors")) -> Figure:
    """Whether two embeddings of the same samples have the same neighbours and distances.

    Bars are samples by how many of their k nearest neighbours both embeddings have, the line what unrelated
    embeddings would give. Dots are pairs of samples, at most six hundred.
    """
    from scipy import stats

    if not compared.k:
        return nothing("Fewer than three samples: no neighbours to compare.")
    k, n = compared.k, compared.samples
    figure, (top, bottom) = canvas(5.4, rows=2, height_ratios=(2, 3))
    counts = np.bincount(np.rint(compared.shared * k).astype(int), minlength=k + 1)
    chance = n * stats.hypergeom(n - 1, k, k).pmf(np.arange(k + 1))
    step = max(1, len(compared.distances) // DOTS)
    dots = compared.distances.iloc[::step]
    with matplotlib.rc_context(STYLE):
        top.bar(np.arange(k + 1), counts, color=OURS, width=0.8, label="this model's two recipes")
        top.plot(np.arange(k + 1), chance, "_", color=INK, markersize=12, markeredgewidth=1.8, label="by chance")
        top.set(
            xlabel=f"neighbours in common, of {k}", ylabel="samples",
            title=f"Neighbours: {percent(compared.overlap)} in common, by chance {percent(compared.chance)}",
        )  # fmt: skip
        top.xaxis.set_major_locator(MaxNLocator(min(k + 1, 11), integer=True))
        top.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        top.set_ylim(0, max(counts.max(), chance.max()) * 1.12)
        top.grid(axis="x", visible=False)
        bottom.plot(dots["first"], dots["second"], "o", color=OURS, markersize=3, alpha=0.5, markeredgewidth=0)
        words = f"Distances: Spearman {compared.spearman:.2f}" if np.isfinite(compared.spearman) else "Distances"
        if np.isfinite(compared.cka_debiased):
            words += f"\nCKA {compared.cka:.2f}, without bias {compared.cka_debiased:.2f}"
        some = f" ({counted(len(dots), 'pair')} of {len(compared.distances):,})" if step > 1 else ""
        bottom.set(xlabel=f"cosine distance, {names[0]}{some}", ylabel=f"cosine distance, {names[1]}", title=words)
        for axis in (bottom.xaxis, bottom.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        figure.legend(loc="outside upper left", ncols=2)
    return figure
