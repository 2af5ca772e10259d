"""Figures of the robustness stage: what jitter of the seed point, perturbations and negative controls do."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .base import CHANCE, CONTROL, INK, MUTED, OURS, SECOND, STYLE, canvas, nothing, wrap
from .robustness import SMALL, STEPS, interval, ladder, require, rungs
from .slices import montage

SKY = "#56B4E9"
COLOURS = (OURS, SECOND, CONTROL, MUTED, SKY, INK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
SHAPES = ("o", "s", "^", "D", "v", "P")
ROOM = 8  # characters of all labels of a narrow panel: of more, the first and the last tick stay
SIDE = 0.15  # of the width of a narrow panel: a label centred there would reach beyond it
CLEAN = {"color": INK, "linestyle": ":", "linewidth": 1}


def _ends(*names: str) -> list[str]:
    return [each for name in names for each in (name, f"{name}_low", f"{name}_high")]


def _titles(table: pd.DataFrame, figure: str) -> list[str]:
    titles = list(dict.fromkeys(table["title"]))
    if len(titles) > len(COLOURS):
        raise ValueError(f"{figure}: {len(titles)} models in one figure, at most {len(COLOURS)} can be told apart")
    return titles


def _curve(axis: Axes, rows: pd.DataFrame, x: str, name: str, number: int, title: str | None) -> None:
    """A model's line and, from its low to its high, the band; told apart by colour, dashes and marks."""
    rows = rows.sort_values(x)
    style = {"color": COLOURS[number], "linestyle": DASHES[number], "marker": SHAPES[number]}
    axis.plot(rows[x], rows[name], linewidth=1.8, markersize=4, label=title, **style)
    low, high = rows[f"{name}_low"].to_numpy(float), rows[f"{name}_high"].to_numpy(float)
    axis.fill_between(rows[x], low, high, color=COLOURS[number], alpha=0.1, linewidth=0)


def dose(table: pd.DataFrame, label: str = "size of the jitter (mm)") -> Figure:
    """How far may a seed point be off before embedding, decision and AUC change?

    ``table`` has, a row a model and size, title, size_mm, and cosine (to the annotated seed point), agreement (share
    of equal decisions) and auc, means over the trials of the size, each with _low and _high: the bands, which are 95 %
    limits of that mean with patients drawn with replacement, and not the range over the trials
    (:func:`robustness.jitter.dose_response`). At most six models.
    """
    if table.empty:
        return nothing("No jittered trials: there is no dose to respond to.")
    require(table, "dose", ["title", "size_mm", *_ends("cosine", "agreement", "auc")])
    titles = _titles(table, "dose")
    figure, axes = canvas(5.2 + 0.18 * ((len(titles) + 1) // 2), rows=3, sharex=True)
    names = {"cosine": ("Does the embedding move?", "cosine similarity"),
             "agreement": ("Does the decision hold?", "share the same"),
             "auc": ("Does the AUC hold?", "AUC")}  # fmt: skip
    with matplotlib.rc_context(STYLE):
        for axis, (name, (heading, unit)) in zip(axes, names.items(), strict=True):
            for number, title in enumerate(titles):
                legend = title if name == "cosine" else None
                _curve(axis, table[table["title"] == title], "size_mm", name, number, legend)
            axis.set(title=heading, ylabel=unit)
            axis.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axes[2].axhline(CHANCE, label="chance", **CLEAN)
        axes[2].set_xlabel(label)
        axes[2].xaxis.set_major_locator(MaxNLocator(7, steps=STEPS))
        _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """Above the axes, in two columns where the titles let them."""
    handles = [each for axis in figure.axes for each in axis.get_legend_handles_labels()[0]]
    if not handles:
        return
    words = [each.get_label() for each in handles]
    narrow = all(len(wrap(text, 120, SMALL)) == 1 for text in words)
    words = ["\n".join(wrap(text, 120 if narrow else 290, SMALL)) for text in words]
    figure.legend(handles, words, loc="outside upper left", ncols=2 if narrow else 1, handlelength=3)


def responses(table: pd.DataFrame) -> Figure:
    """Which change of the image moves the embedding, the decision and the AUC?

    ``table`` has, a row a model, kind and size, title, kind, kind_title, unit, size (in the unit; 0 is the clean
    patch), and cosine (to the clean patch), agreement (share of equal decisions) and auc_change, each with _low and
    _high. A row of panels is a kind; the scales of a column are the same. At most six models.
    """
    if table.empty:
        return nothing("No perturbed patches: there is no response to show.")
    require(table, "responses", ["title", "kind", "kind_title", "unit", "size"])
    require(table, "responses", _ends("cosine", "agreement", "auc_change"))
    titles, kinds = _titles(table, "responses"), list(dict.fromkeys(table["kind"]))
    names = {"cosine": "Cosine\nsimilarity", "agreement": "Decisions\nthe same", "auc_change": "Change\nin AUC"}
    height = 0.6 + 1.25 * len(kinds) + 0.18 * len(titles)
    figure, axes = canvas(height, 3, len(kinds), sharex="row", sharey="col", squeeze=False)
    grid = axes.reshape(len(kinds), 3)
    with matplotlib.rc_context(STYLE):
        for row, kind in zip(grid, kinds, strict=True):
            some = table[table["kind"] == kind]
            for axis, name in zip(row, names, strict=True):
                for number, title in enumerate(titles):
                    legend = title if axis is grid[0, 0] and len(titles) > 1 else None
                    _curve(axis, some[some["title"] == title], "size", name, number, legend)
                axis.tick_params(labelsize=8, labelleft=True)
                axis.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
                axis.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
            row[2].axhline(0, **CLEAN)
            unit = some["unit"].iloc[0]
            row[1].set_xlabel(f"{some['kind_title'].iloc[0]} ({unit})" if unit else some["kind_title"].iloc[0])
        for axis, words in zip(grid[0], names.values(), strict=True):
            axis.set_title(words)
        _legend(figure)
    return figure


def controls(table: pd.DataFrame) -> Figure:
    """Does an embedding notice that the tumour, or what is around it, was destroyed?

    ``table`` has, a row a model and control, title, control, and cosine (to the patient's original), retrieval (share
    of samples whose original has its own control nearest among all controls) and, where it is known, auc_change, each
    with _low and _high. Rows and models keep their order; at most six models. Without limits (NaN) there is no bar.
    """
    if table.empty:
        return nothing("No negative controls.")
    panels = {"cosine": "Like its\noriginal", "retrieval": "Nearest to\nits own"}
    if "auc_change" in table and table["auc_change"].notna().any():
        panels["auc_change"] = "Change\nin AUC"
    require(table, "controls", ["title", "control", *_ends(*panels)])
    titles, names = _titles(table, "controls"), list(dict.fromkeys(table["control"]))
    figure, axes = _rows_of(table, "control", titles, names, tuple(panels))
    with matplotlib.rc_context(STYLE):
        for axis, words in zip(axes, panels.values(), strict=True):
            axis.set_title(words)
            axis.xaxis.set_major_locator(MaxNLocator(5 if len(panels) == 2 else 2, steps=STEPS))
            axis.margins(x=0.1)
        axes[0].set_xlabel("cosine")
        axes[1].set(xlabel="share", xlim=(-0.06, 1.06), xticks=(0, 0.5, 1))
        axes[1].xaxis.set_major_formatter("{x:g}")
        for axis in axes[2:]:
            axis.axvline(0, **CLEAN)
            axis.set_xlabel("difference")
        if len(panels) > 2:
            for axis in axes:
                _keep_inside(axis)
        _legend(figure)
    return figure


def _keep_inside(axis: Axes) -> None:
    """Labels of ticks near the sides of a narrow panel reach inwards, so that they do not meet those of the next."""
    low, high = axis.get_xlim()
    ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
    words = [f"{tick:g}".replace("-", "−") for tick in ticks]
    if sum(map(len, words)) > ROOM:
        ticks, words = ([some[0], some[-1]] for some in (ticks, words))
    axis.set_xticks(ticks, words)
    for label, tick in zip(axis.get_xticklabels(), ticks, strict=True):
        place = (tick - low) / (high - low)
        label.set_horizontalalignment("left" if place < SIDE else "right" if place > 1 - SIDE else "center")


def changes(table: pd.DataFrame) -> Figure:
    """Which condition changes the AUC, and by more than chance in the patients?

    ``table`` has, a row a model and condition, title, condition, and auc_change (against the same samples as they are)
    with auc_change_low and auc_change_high. Rows and models keep their order; at most six models. Without limits (NaN)
    there is no bar; changes that are not known are counted beside the condition.
    """
    if table.empty:
        return nothing("No condition that changes an AUC.")
    require(table, "changes", ["title", "condition", *_ends("auc_change")])
    titles, unknown = _titles(table, "changes"), table["auc_change"].isna().groupby(table["condition"], sort=False)
    notes = {
        name: f"{name} ({lost.sum()} of {len(lost)} undefined)" if lost.any() else str(name) for name, lost in unknown
    }
    table = table.assign(condition=table["condition"].map(notes))
    figure, (axis,) = _rows_of(table, "condition", titles, list(notes.values()), ("auc_change",))
    with matplotlib.rc_context(STYLE):
        axis.axvline(0, **CLEAN)
        axis.set(xlabel="change in AUC (95 % limits)", title="Does the AUC change?")
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        axis.margins(x=0.08)
        _legend(figure)
    return figure


def _rows_of(
    table: pd.DataFrame, by: str, titles: Sequence[str], names: Sequence[str], panels: Sequence[str]
) -> tuple[Figure, np.ndarray]:
    """Figures of a table in ``panels`` side by side, a row a value of ``by``, in it the models one below another."""
    labels, places, room = ladder(names, 0.2 + 0.13 * len(titles))
    offsets = (np.arange(len(titles)) - (len(titles) - 1) / 2) * 0.13
    several = len(titles) > 1
    figure, axes = canvas(1.1 + room.sum() + 0.19 * len(titles) * several, len(panels), sharey=True)
    with matplotlib.rc_context(STYLE):
        for axis, name in zip(axes, panels, strict=True):
            for number, (title, offset) in enumerate(zip(titles, offsets, strict=True)):
                rows = table[table["title"] == title]
                at = places[[names.index(each) for each in rows[by]]] + offset
                style = {"color": COLOURS[number], "marker": SHAPES[number]}
                interval(axis, rows, name, at, label=title if axis is axes[0] and several else None, **style)
            rungs(axis, labels, places, room)
            axis.tick_params(labelleft=axis is axes[0])
    return figure, axes


def stressed(
    tiles: Sequence[tuple[str, np.ndarray]],
    spacing: Sequence[float],
    *,
    window: tuple[float, float] = (40, 400),
    outline: np.ndarray | None = None,
    columns: int = 3,
    mark: str = "",
) -> Figure:
    """What perturbations look like: one axial slice of a tumour, a tile a perturbation.

    ``tiles`` are (title, HU) with 2-D slices as radiologists see them (:func:`axial`): front up, the patient's right
    left. ``spacing`` is mm down and across. ``window`` is centre and width in HU. ``outline`` is the mask of the
    slice, drawn into every tile. ``mark`` ("phantom") is written into every tile.
    """
    if not len(tiles):
        return nothing("No perturbed patches.")
    if any(np.ndim(hu) != 2 for _, hu in tiles):
        raise ValueError("stressed: a tile is not 2-D; cut the slice first (plots.axial)")
    count = len(tiles)
    return montage(
        [np.asarray(hu)[:, :, None] for _, hu in tiles],
        [(*spacing, 1.0)] * count,
        None if outline is None else [np.asarray(outline)[:, :, None]] * count,
        [(np.nan, np.nan, 0)] * count,  # no cross on what is to be looked at
        [title for title, _ in tiles],
        axes="PLS",
        window=window,
        columns=columns,
        mark=mark,
    )
