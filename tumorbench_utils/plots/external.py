"""Figures of external validation: two cohorts side by side, what a judge is worth elsewhere, and at worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from .base import CHANCE, INK, MUTED, OURS, STYLE, canvas, nothing, percent
from .probes import COLOURS, SHAPES
from .robustness import SMALL, STEPS, ladder, require, rungs

STEP = 0.2  # inches between the marks of a row
JITTER = 0.1  # inches
HEADS = ("kNN", "linear probe")  # in the order of their colours, which are the same in every figure


def _looks(heads: Sequence[str]) -> list[tuple[str, str, str]]:
    """(head, colour, shape) of the heads of a figure, whatever their order in its table."""
    order = [*HEADS, *(head for head in dict.fromkeys(heads) if head not in HEADS)]
    looks = zip(order, COLOURS, SHAPES, strict=False)
    return [look for look in looks if look[0] in set(heads)]


def sites(cohorts: Mapping[str, pd.DataFrame]) -> Figure:
    """Who is in each cohort: samples by class, and where there are volumes their distribution by class.

    ``cohorts`` has, by title, tables of label (0 or 1) and perhaps volume_ml, one row a sample. The upright line is the
    median of a class.
    """
    labels, places, room = ladder(list(cohorts), 0.55)
    measured = any("volume_ml" in each and each["volume_ml"].gt(0).any() for each in cohorts.values())
    figure, axes = canvas((1 + measured) * (0.75 + room.sum()) + 0.3, rows=1 + measured)
    with matplotlib.rc_context(STYLE):
        for each, place in zip(cohorts.values(), places, strict=True):
            for label, colour, shift in ((1, OURS, -0.12), (0, MUTED, 0.12)):
                rows = each[each["label"] == label]
                axes[0].barh(place + shift, len(rows), 0.2, color=colour)
                words = f"{len(rows):,} ({percent(len(rows) / len(each))})"
                axes[0].annotate(words, (len(rows), place + shift), (3, 0), textcoords="offset points", va="center",
                                 fontsize=SMALL)  # fmt: skip
                if measured:
                    _volumes(axes[1], rows.get("volume_ml", pd.Series(dtype=float)), place + shift, colour)
        axes[0].set(xlabel="samples")
        axes[0].margins(x=0.2)
        axes[0].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for colour, words in ((OURS, "positive"), (MUTED, "negative")):
            axes[0].plot([], [], "s", color=colour, label=words)
        for axis in axes:
            rungs(axis, labels, places, room)
        if measured:
            axes[1].set(xlabel="tumour volume (ml)", xscale="log")
            axes[1].xaxis.set_major_locator(LogLocator(numticks=6))
            axes[1].xaxis.set_minor_locator(NullLocator())
            axes[1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _volumes(axis: Axes, volumes: pd.Series, place: float, colour: str) -> None:
    values = volumes[volumes > 0].to_numpy(float)
    if len(values):
        moved = place + np.random.default_rng(0).uniform(-JITTER, JITTER, len(values))
        axis.plot(values, moved, "o", color=colour, markersize=3, alpha=0.5, markeredgewidth=0)
        axis.plot(np.median(values), place, "|", color=INK, markersize=14, markeredgewidth=1.6)


def slopes(table: pd.DataFrame, train: str, test: str) -> Figure:
    """What becomes of a judge from ``train`` in ``test``: AUC within and external, joined by a line; a pair a head.

    ``table`` has title, head, and value, low, high of either with the suffixes _within and _external. Bars are 95 %
    intervals.
    """
    if table.empty:
        return nothing("No model was judged in another cohort.")
    ends = [f"{name}_{which}" for which in ("within", "external") for name in ("value", "low", "high")]
    require(table, "slopes", ["title", "head", *ends])
    titles, heads = list(dict.fromkeys(table["title"])), _looks(table["head"])
    labels, places, room = ladder(titles, 0.1 + 2 * STEP * len(heads))
    figure, (axis,) = canvas(1.35 + room.sum())
    with matplotlib.rc_context(STYLE):
        for number, (head, colour, shape) in enumerate(heads):
            rows = table[table["head"] == head]
            middle = np.array([places[titles.index(title)] for title in rows["title"]])
            middle = middle + 2 * STEP * (number - (len(heads) - 1) / 2)
            above, below = middle - STEP / 2.6, middle + STEP / 2.6
            joined = np.array([rows["value_within"], rows["value_external"]], float), np.array([above, below])
            axis.plot(*joined, color=colour, linewidth=1.2)
            for which, place, shade in (("within", above, MUTED), ("external", below, colour)):
                axis.hlines(place, rows[f"low_{which}"], rows[f"high_{which}"], color=shade, linewidth=1.6)
                mark = {"markersize": 6, "linestyle": "none", "color": shade, "markeredgewidth": 2}
                axis.plot(rows[f"value_{which}"], place, "|" if which == "within" else shape,
                          **mark | ({"markersize": 9} if which == "within" else {"markeredgewidth": 0}))  # fmt: skip
            axis.plot([], [], shape, color=colour, markersize=6, linestyle="none", label=f"{head}, external")
        axis.plot(
            [], [], "|", color=MUTED, markersize=9, markeredgewidth=2, linestyle="none", label="within, out of fold"
        )
        axis.axvline(CHANCE, color=INK, linestyle=":", linewidth=1)
        rungs(axis, labels, places, room)
        axis.set(xlabel="AUC with 95 % interval (dotted: chance)")
        axis.set_title(f"Learnt in {train},\ntested in {test}")
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def worst(table: pd.DataFrame) -> Figure:
    """The lowest AUC in another cohort, best first: a row a model and head, with the cohort where it is lowest.

    ``table`` has rank, title, head, where, value, low, high; rows keep their order.
    """
    if table.empty:
        return nothing("No model was judged in another cohort.")
    require(table, "worst", ["rank", "title", "head", "where", "value", "low", "high"])
    named = [f"{row.rank}. {row.title}, in {row.where}" for row in table.itertuples()]
    labels, places, room = ladder(named, 0.36)
    figure, (axis,) = canvas(1.1 + room.sum())
    with matplotlib.rc_context(STYLE):
        for head, colour, shape in _looks(table["head"]):
            some = (table["head"] == head).to_numpy()
            rows = table[some]
            axis.hlines(places[some], rows["low"], rows["high"], color=colour, linewidth=1.8)
            axis.plot(rows["value"], places[some], shape, color=colour, markersize=6, linestyle="none", label=head)
        axis.axvline(CHANCE, color=INK, linestyle=":", linewidth=1)
        rungs(axis, labels, places, room)
        axis.set(xlabel="lowest external AUC (dotted: chance)")
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        figure.legend(loc="outside upper left", ncols=2)
    return figure
