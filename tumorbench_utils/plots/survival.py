"""Figures of survival: how well risks order deaths, and how patients of low and high risk fare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .base import CHANCE, INK, MUTED, OURS, SECOND, STYLE, canvas, counted, nothing
from .robustness import SMALL, interval, ladder, require, rungs

PANELS = {"c_harrell": "Harrell's C", "c_td": "C over time", "auc_two_year": "AUC, 2 years"}
HEADS = {"cox": ("Cox", "o", OURS), "knn_survival": ("nearest neighbours", "s", SECOND)}
GROUPS = {2: (OURS, SECOND), 3: (OURS, MUTED, SECOND)}
NAMES = {2: ("low", "high"), 3: ("low", "middle", "high")}
YEAR = 365.25  # days
MARGIN = 0.03  # of concordance, beside the farthest interval
SHOWN = 0.95  # share of the times of follow-up that the axis holds; the last few patients would stretch it
LINE = 0.17  # inches: a row of numbers at risk


def survival_forest(table: pd.DataFrame) -> Figure:
    """How often does the patient of higher risk die first, by embedding and head?

    ``table``: title, head (cox, knn_survival), measure (c_harrell, c_td, auc_two_year), value, low, high. Values
    without limits (NaN) have a mark only, and those that are not defined neither.
    """
    if table.empty:
        return nothing("No survival to show: nobody was followed.")
    require(table, "survival forest", ["title", "head", "measure", "value", "low", "high"])
    titles = list(dict.fromkeys(table["title"]))
    labels, places, room = ladder(titles, 0.4)
    figure, axes = canvas(1.05 + room.sum(), columns=len(PANELS), sharey=True)
    ends = table[["value", "low", "high"]].to_numpy(float)
    known = np.append(ends[np.isfinite(ends)], CHANCE)
    limits = (known.min() - MARGIN, known.max() + MARGIN)
    with matplotlib.rc_context(STYLE):
        for axis, (measure, title) in zip(axes, PANELS.items(), strict=True):
            _panel(axis, table[table["measure"] == measure], dict(zip(titles, places, strict=True)))
            rungs(axis, labels, places, room)
            axis.axvline(CHANCE, color=MUTED, linestyle=":", linewidth=1.2)
            axis.set(xlim=limits)
            axis.set_title(title, fontsize=SMALL)
            axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], prune="both"))
            axis.tick_params(axis="x", labelsize=SMALL)
        for name in dict.fromkeys(table["head"]):
            words, shape, colour = HEADS[name]
            axes[0].plot([], [], shape, color=colour, label=words)
        figure.legend(loc="outside upper left", ncols=2)
        figure.supxlabel("1: always right, 0.5: chance", fontsize=SMALL, color=INK)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, places: Mapping[str, float]) -> None:
    for name, (_, shape, colour) in HEADS.items():
        some = rows[rows["head"] == name].rename(columns={"low": "value_low", "high": "value_high"})
        moved = np.array([places[title] for title in some["title"]]) + (-0.07 if name == "cox" else 0.07)
        if len(some):
            interval(axis, some, "value", moved, marker=shape, color=colour)


def risk_curves(panels: Mapping[str, tuple[pd.DataFrame, Sequence[float], Sequence[int]]], horizon: float) -> Figure:
    """Do patients of high risk die sooner?

    ``panels`` has, by title, the Kaplan-Meier curves (group 0 the lowest risk, time in days, survival, low, high) and,
    patient by patient, time (n,) in days and group (n,), -1 for none. Numbers at risk stand below each panel.
    ``horizon`` (days) is dotted. The axis ends where 5 % of the patients are followed for longer.
    """
    if not panels:
        return nothing("No risk groups: nobody was followed.")
    for curves, _, _ in panels.values():
        require(curves, "risk curves", ["group", "time", "survival", "low", "high"])
    parts = [int(curves["group"].max()) + 1 for curves, _, _ in panels.values()]
    heights = [part for number in parts for part in (2.1, 0.3 + LINE * number)]
    options = {"gridspec_kw": {"height_ratios": heights}}
    figure, axes = canvas(sum(heights) + 0.4 * len(panels), rows=len(heights), **options)
    with matplotlib.rc_context(STYLE):
        for number, (title, (curves, time, group)) in enumerate(panels.items()):
            time, group = np.asarray(time, float) / YEAR, np.asarray(group)
            axis, below = axes[2 * number : 2 * number + 2]
            ticks = _years(np.quantile(time[group >= 0], SHOWN))
            _curves(axis, curves, group, title)
            axis.axvline(horizon / YEAR, color=MUTED, linestyle=":", linewidth=1.2)
            axis.set(xlim=(0, ticks[-1]), xticks=ticks, ylim=(0, 1.02), ylabel="share alive")
            axis.set_xlabel("years since the scan or treatment", fontsize=SMALL)
            axis.legend(loc="upper right")
            _numbers(below, time, group, parts[number], ticks)
    return figure


def _years(last: float) -> np.ndarray:
    """At most seven ticks from 0 to ``last`` years or a little beyond."""
    step = next((step for step in (0.25, 0.5, 1, 2, 5, 10) if last / step <= 6), 20)
    return np.arange(0, np.ceil(last / step) + 1) * step


def _curves(axis: Axes, curves: pd.DataFrame, group: np.ndarray, title: str) -> None:
    parts = int(curves["group"].max()) + 1
    for name, rows in curves.groupby("group"):
        colour, years = GROUPS[parts][name], rows["time"] / YEAR
        axis.fill_between(years, rows["low"], rows["high"], step="post", color=colour, alpha=0.18, linewidth=0)
        words = f"{NAMES[parts][name]} risk, {counted(int((group == name).sum()), 'patient')}"
        axis.step(years, rows["survival"], where="post", color=colour, linewidth=1.8, label=words)
    axis.set_title(title, parse_math=False)


def _numbers(axis: Axes, time: np.ndarray, group: np.ndarray, parts: int, ticks: np.ndarray) -> None:
    """Patients at risk below the ticks, a row a group, on the axis above's own scale."""
    axis.grid(False)
    axis.set(xlim=(0, ticks[-1]), ylim=(parts + 0.9, -0.1), xticks=[])
    axis.set_yticks(np.arange(parts) + 1.45, NAMES[parts], fontsize=SMALL)
    axis.tick_params(length=0, pad=14)  # the first number is centred on the left edge
    for side in axis.spines.values():
        side.set_visible(False)
    axis.text(0, 0.45, "still followed", fontsize=SMALL, va="center", color=INK)
    for name in range(parts):
        for number, tick in enumerate(ticks):
            align = "right" if number == len(ticks) - 1 else "center"
            count = int(((group == name) & (time >= tick)).sum())
            axis.text(tick, name + 1.45, f"{count:,}", ha=align, va="center", fontsize=SMALL, color=INK)
