"""Figures of the judges beside kNN: marks with intervals, few labels, reliability, tests on outcomes of chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .base import CHANCE, CONTROL, INK, MUTED, OURS, SECOND, STYLE, canvas, nothing
from .robustness import STEPS, ladder, require, rungs

COLOURS = (OURS, SECOND, CONTROL, MUTED)
SHAPES = ("o", "s", "D", "^")
STEP = 0.17  # inches between the series of a row
FEW = 3  # values that a caption has in full


def p_words(p: float) -> str:
    """A p-value as a page has it: three decimals, ``<0.001`` below them, a dash for none."""
    if not np.isfinite(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def ends(values: Sequence[float], words: Sequence[str]) -> str:
    """What a caption on a phone says of values: the words of all of a few, else of the highest and the lowest.

    The alternative text of the figure has them all.
    """
    values = np.asarray(values, float)
    order = [place for place in np.argsort(values, kind="stable") if np.isfinite(values[place])]
    if len(words) <= FEW or len(order) < 2:
        return "; ".join(words)
    return f"Highest is {words[order[-1]]}; lowest is {words[order[0]]}"


def forest(table: pd.DataFrame, label: str, chance: float | None = CHANCE, title: str = "") -> Figure:
    """Values with intervals: a row a title, a mark a series (at most four), a line at ``chance``.

    ``table`` has title, series, value, low, high, and may have chance, a short line in each row. A value that is no
    number has no mark. ``label`` is that of the axis, ``title`` may have two lines.
    """
    if table.empty:
        return nothing(f"Nothing to compare: there is no {label}.")
    require(table, "forest", ["title", "series", "value", "low", "high"])
    titles, series = (list(dict.fromkeys(table[name])) for name in ("title", "series"))
    if len(series) > len(COLOURS):
        raise ValueError(f"forest: {len(series)} series cannot be told apart, at most {len(COLOURS)} can")
    labels, places, room = ladder(titles, 0.22 + STEP * len(series))
    offsets = STEP * (np.arange(len(series)) - (len(series) - 1) / 2)
    figure, (axis,) = canvas(1.0 + room.sum() + 0.17 * -(-len(series) // 2) + 0.35 * bool(title))
    with matplotlib.rc_context(STYLE):
        for name, offset, colour, shape in zip(series, offsets, COLOURS, SHAPES, strict=False):
            rows = table[table["series"] == name]
            place = np.array([places[titles.index(each)] for each in rows["title"]]) + offset
            axis.hlines(place, rows["low"], rows["high"], color=colour, linewidth=1.8)
            axis.plot(rows["value"], place, shape, color=colour, markersize=6, linestyle="none", label=name)
        if "chance" in table:
            for each, place, high in zip(titles, places, room, strict=True):
                values = table.loc[table["title"] == each, "chance"].dropna()
                axis.vlines(values[:1], place - high / 2, place + high / 2, color=INK, linestyle=":", linewidth=1.2)
            axis.plot([], [], color=INK, linestyle=":", linewidth=1.2, label="chance")
        elif chance is not None:
            axis.axvline(chance, color=INK, linestyle=":", linewidth=1.2)
        rungs(axis, labels, places, room)
        axis.set(xlabel=label)
        axis.set_title(title)
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        if len(series) > 1 or "chance" in table:
            figure.legend(loc="outside upper left", ncols=2)
    return figure


def shots(table: pd.DataFrame, full: Mapping[str, float]) -> Figure:
    """AUC over the number of patients a class: a panel a title, a line a judge with the central 95 % of draws.

    ``table`` has title, judge, m, auc, low, high; ``full`` the AUC of all labels by title, a dashed line.
    """
    if table.empty:
        return nothing("Too few patients to draw a handful of them.")
    require(table, "shots", ["title", "judge", "m", "auc", "low", "high"])
    titles, judges = (list(dict.fromkeys(table[name])) for name in ("title", "judge"))
    numbers = sorted(table["m"].unique())
    figure, axes = canvas(0.8 + 1.75 * len(titles), rows=len(titles), sharex=True, sharey=True)
    with matplotlib.rc_context(STYLE):
        for axis, title in zip(axes, titles, strict=True):
            for judge, shift, colour, shape in zip(judges, (-0.06, 0.06, 0.18), COLOURS, SHAPES, strict=False):
                rows = table[(table["title"] == title) & (table["judge"] == judge)].sort_values("m")
                place = np.array([numbers.index(m) for m in rows["m"]]) + shift
                axis.vlines(place, rows["low"], rows["high"], color=colour, linewidth=1.6)
                axis.plot(
                    place, rows["auc"], shape, color=colour, markersize=6, linestyle="-", linewidth=1, label=judge
                )
            if np.isfinite(full.get(title, np.nan)):
                axis.axhline(full[title], color=INK, linestyle="--", linewidth=1.2, label="kNN, all labels")
            axis.axhline(CHANCE, color=INK, linestyle=":", linewidth=1.2, label="chance")
            axis.set_title(title, fontsize=8.5)
            axis.set(ylabel="AUC", xticks=range(len(numbers)), xticklabels=[f"{m:g}" for m in numbers])
            axis.set_xlim(-0.4, len(numbers) - 0.6)
        axes[-1].set_xlabel("patients of each class to learn from")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=2)
    return figure


def reliability(curves: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Observed share against predicted probability: a panel a title, points a head with intervals, the diagonal.

    ``curves`` has, by title and head, tables of predicted, observed, low, high.
    """
    if not curves:
        return nothing("No predictions to hold against what was observed.")
    titles = list(curves)
    figure, axes = canvas(0.8 + 2.7 * len(titles), rows=len(titles), sharex=True)
    with matplotlib.rc_context(STYLE):
        for axis, title in zip(axes, titles, strict=True):
            for (head, points), colour, shape in zip(curves[title].items(), COLOURS, SHAPES, strict=False):
                require(points, "reliability", ["predicted", "observed", "low", "high"])
                axis.vlines(points["predicted"], points["low"], points["high"], color=colour, linewidth=1.2, alpha=0.6)
                style = {"color": colour, "markersize": 5, "linewidth": 1, "linestyle": "-"}
                axis.plot(points["predicted"], points["observed"], shape, label=head, **style)
            axis.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1.2, label="as predicted")
            axis.set(ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axis.set_title(title, fontsize=8.5)
        axes[-1].set_xlabel("predicted probability")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=3)
    return figure


def promises(shares: pd.DataFrame, p: Sequence[float]) -> Figure:
    """How often tests find something in outcomes of chance, against what they promise; and their p-values.

    ``shares`` has test, share, low, high, promised; ``p`` the p-values, whose distribution should be the diagonal.
    """
    if shares.empty:
        return nothing("No outcomes of chance: the tests were not tried.")
    require(shares, "promises", ["test", "share", "low", "high", "promised"])
    labels, places, room = ladder(list(shares["test"]), 0.4)
    p = np.sort(np.asarray(p, float)[np.isfinite(np.asarray(p, float))])
    heights = [room.sum(), 2.2] if len(p) else [room.sum()]
    figure, axes = canvas(1.1 + sum(heights), rows=len(heights), height_ratios=heights)
    with matplotlib.rc_context(STYLE):
        axes[0].hlines(places, shares["low"], shares["high"], color=OURS, linewidth=1.8)
        axes[0].plot(shares["share"], places, "o", color=OURS, markersize=6)
        axes[0].axvline(shares["promised"].iloc[0], color=INK, linestyle=":", linewidth=1.4)
        rungs(axes[0], labels, places, room)
        axes[0].set(xlabel="share of outcomes of chance (dotted: promised)", xlim=(0, None))
        axes[0].set_title("Something found where nothing is")
        if len(p):
            axes[1].step(np.append(0, p), np.arange(len(p) + 1) / len(p), where="post", color=OURS, linewidth=1.8)
            axes[1].plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1.4)
            axes[1].set(xlabel="p of the paired difference", ylabel="share at or below", xlim=(0, 1), ylim=(0, 1.01))
    return figure
