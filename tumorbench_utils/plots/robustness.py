"""Figures of the robustness stage: would an embedding know a patient again, and a decision survive another seed point?

What perturbations do is drawn by ``stress``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .base import CHANCE, CONTROL, INK, MUTED, OURS, PUBLISHED, SECOND, STYLE, canvas, nothing, wrap

SMALL = 8.5  # points, of text beside marks
LABEL = 104  # points that the title of a row may be wide: a third of a phone
DOTS = 100  # of more values as many evenly spaced quantiles are drawn
FLOOR = 1e-7  # about the last digit of a cosine of float32 vectors; a logarithm of 0 cannot be drawn
BANDS = {"poor": 0.5, "moderate": 0.75, "good": 0.9, "excellent": np.inf}  # Koo and Li 2016: below that ICC
SHADES = (MUTED, SECOND, CONTROL, OURS)  # of the bands: opacities of one colour are lost on a dark page
BIN = 0.025  # width of a bin of ICC: every limit of a band is an edge
NEAR_ONE = 0.99  # above this cosine, a linear axis tells nothing apart
STEPS = (1, 2, 5, 10)  # of ticks: 1 is one of them
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def require(table: pd.DataFrame, figure: str, columns: Sequence[str]) -> None:
    """Say which columns a figure misses; ValueError."""
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"{figure}: the table has no column {', '.join(missing)}; it has {', '.join(table)}")


def ladder(titles: Sequence[str], least: float) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Titles of rows in lines, the middle of each row and its height in inches (at least ``least``)."""
    words = [wrap(title, LABEL, SMALL) for title in titles]
    room = np.array([max(least, 0.1 + 0.15 * len(lines)) for lines in words])
    return ["\n".join(lines) for lines in words], np.cumsum(room) - room / 2, room


def rungs(axis: Axes, labels: Sequence[str], places: np.ndarray, room: np.ndarray) -> None:
    """Rows from the top down: y is in inches from the upper edge."""
    axis.set_yticks(places, labels, fontsize=SMALL, parse_math=False)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(room.sum(), 0)
    axis.grid(axis="y", visible=False)
    for line in np.cumsum(room)[:-1]:
        axis.axhline(line, color=INK, alpha=0.12, linewidth=0.6)


def interval(axis: Axes, rows: pd.DataFrame, name: str, places: np.ndarray, **style) -> None:
    """Values of a column as marks in rows, with lines from its low to its high; both are drawn as they are given.

    A value without limits (NaN) has no line, and what is no number has no mark.
    """
    low, high = (rows[f"{name}_{end}"].to_numpy(float) for end in ("low", "high"))
    known = np.isfinite(low) & np.isfinite(high)
    axis.hlines(places[known], low[known], high[known], color=style["color"], linewidth=1.6)
    axis.plot(rows[name].to_numpy(float), places, linestyle="none", markersize=6, **style)


def _finite(title: str, values: Sequence[float]) -> tuple[str, np.ndarray]:
    """The values that are numbers, and a title that counts the others."""
    values = np.asarray(values, float).ravel()
    known = values[np.isfinite(values)]
    lost = len(values) - len(known)
    return (f"{title} ({lost:,} of {len(values):,} undefined)" if lost else title), known


def _strip(axis: Axes, values: np.ndarray, place: float, half: float, **style) -> None:
    """Dots of one row, moved up or down at random to be told apart."""
    if len(values) > DOTS:
        values = np.quantile(values, np.linspace(0, 1, DOTS))
    moved = place + np.random.default_rng(0).uniform(-half, half, len(values))
    axis.plot(values, moved, "o", **style)


def retest(by_model: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, log: bool | None = None) -> Figure:
    """Is a patient more like itself in the second scan than like another patient?

    ``by_model`` has, by title, the cosine similarities of the two scans of each patient (n,) and those of different
    patients (m,). The grey line holds the central 95 % of the latter; of more than 100 values as many quantiles are
    drawn. ``log`` spreads similarities near 1: 1 - cosine on a logarithmic axis, less than 1e-7 drawn there; by itself
    where the least of all values is above 0.99. Values that are not numbers are counted beside the title.
    """
    if not by_model:
        return nothing("No pairs of scans: there is no retest to show.")
    known = {title: _finite(title, np.append(*each)) for title, each in by_model.items()}
    labels, places, room = ladder([note for note, _ in known.values()], 0.46)
    figure, (axis,) = canvas(1.2 + room.sum())
    values = np.concatenate([each for _, each in known.values()])
    log = bool(len(values) and values.min() > NEAR_ONE) if log is None else log
    with matplotlib.rc_context(STYLE):
        for pair, place in zip(by_model.values(), places, strict=True):
            above, below = place - 0.1, place + 0.1
            within, between = (_finite("", each)[1] for each in pair)
            if len(between):
                between = _along(between, log)
                _strip(axis, between, above, 0.06, color=MUTED, markersize=3, alpha=0.4, markeredgewidth=0)
                axis.plot(np.quantile(between, (0.025, 0.975)), [above, above], color=MUTED, linewidth=2)
            if len(within):
                _strip(axis, _along(within, log), below, 0.06, color=OURS, markersize=4, alpha=0.6, markeredgewidth=0)
                axis.plot(_along(within.mean(), log), below, "|", color=OURS, markersize=13, markeredgewidth=2)
        _key(axis, "o", "different patients", color=MUTED, markersize=4)
        _key(axis, "o", "two scans of a patient", color=OURS, markersize=4)
        _key(axis, "|", "their mean", color=OURS, markersize=10, markeredgewidth=2)
        rungs(axis, labels, places, room)
        axis.set_title("More like itself than like others?")
        if log:
            _logarithmic(axis, _along(values, log))
        else:
            low = min(values.min(initial=1.0), 0.9)
            rim = 0.04 * (1 - low)
            axis.set(xlabel="cosine similarity (1: alike)", xlim=(low - rim, 1 + rim))
            axis.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _along(cosine: float | np.ndarray, log: bool) -> float | np.ndarray:
    return np.maximum(1 - np.asarray(cosine, float), FLOOR) if log else cosine


def _key(axis: Axes, shape: str, words: str, **style) -> None:
    axis.plot([], [], shape, label=words, **style)


def _logarithmic(axis: Axes, values: np.ndarray) -> None:
    """1 - cosine from unlike on the left to alike on the right, at most six powers of ten written."""
    low, high = (values.min(), values.max()) if len(values) else (FLOOR, 1.0)
    low, high = low / 1.5, max(high, 100 * low) * 1.5
    powers = np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    powers = powers[:: -(-len(powers) // 6)]
    axis.set(xscale="log", xlim=(high, low), xlabel="1 − cosine similarity (right: alike)")
    axis.xaxis.set_major_locator(FixedLocator(10.0**powers))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(_power))


def _power(value: float, _: int | None = None) -> str:
    """0.01, but 10⁻⁵."""
    return f"{value:g}" if value > 5e-4 else power_of_ten(round(np.log10(value)))


def power_of_ten(exponent: int) -> str:
    """10⁻⁵: without mathematical text, which a page's own font does not have."""
    return "10" + str(exponent).translate(RAISED)


def identification(table: pd.DataFrame, chance: float) -> Figure:
    """Is the second scan found among those of all patients, and is a patient's pair more alike than two patients?

    ``table`` has, a row a model, title, identification (rate) with low and high, separation (probability that a pair
    of one patient is more alike than one of two) with sep_low and sep_high, and may have verdict, a few words that
    are written at the right. ``chance`` is the rate of a guess, 1 in the number of patients; of a
    separation it is 0.5.
    """
    if table.empty:
        return nothing("No model with pairs of scans: nothing to identify.")
    require(table, "identification", ["title", "identification", "low", "high", "separation", "sep_low", "sep_high"])
    names = {"low": "identification_low", "high": "identification_high"}
    names |= {"sep_low": "separation_low", "sep_high": "separation_high"}
    rows = table.rename(columns=names)
    labels, places, room = ladder(list(rows["title"]), 0.44)
    verdicts = [wrap(str(text), 82, SMALL) for text in rows["verdict"].fillna("")] if "verdict" in rows else []
    if verdicts:
        room = np.maximum(room, [0.1 + 0.15 * len(lines) for lines in verdicts])
        places = np.cumsum(room) - room / 2
    figure, (axis,) = canvas(1.45 + room.sum())
    with matplotlib.rc_context(STYLE):
        words = "the second scan is found among all patients'"
        interval(axis, rows, "identification", places - 0.08, marker="o", color=OURS, label=words)
        words = "one patient's scans are more alike than two patients'"
        interval(axis, rows, "separation", places + 0.08, marker="s", color=CONTROL, label=words)
        for guess, colour in ((chance, OURS), (CHANCE, CONTROL)):
            words = f"chance, 1 in {1 / guess:,.0f}"
            axis.axvline(guess, color=colour, linestyle=":", linewidth=1.6, label=words)
        for place, lines in zip(places, verdicts, strict=False):
            axis.annotate("\n".join(lines), (1.04, place), xycoords=("axes fraction", "data"), va="center",
                          fontsize=SMALL, annotation_clip=False, parse_math=False)  # fmt: skip
        rungs(axis, labels, places, room)
        axis.set_title("Is the patient known again?")
        axis.set(xlabel="share or probability", xlim=(-0.03, 1.03), xticks=np.linspace(0, 1, 5))
        axis.xaxis.set_major_formatter("{x:g}")
        figure.legend(loc="outside upper left")
    return figure


def icc(by_model: Mapping[str, Sequence[float]]) -> Figure:
    """How many dimensions of an embedding are the same in the second scan?

    ``by_model`` has ICC(2,1) of every dimension (d,) by title. Each row is a histogram, as high as its fullest bin,
    coloured by the bands of Koo and Li (J Chiropr Med 15, 155, 2016); the share that is excellent stands at the
    right. Dimensions without an ICC (constant ones) are counted beside the title.
    """
    if not by_model:
        return nothing("No ICC: no model has pairs of scans.")
    known = {title: _finite(title, values) for title, values in by_model.items()}
    labels, places, room = ladder([note for note, _ in known.values()], 0.44)
    lowest = min([0.0, *(values.min() for _, values in known.values() if len(values))])
    edges = np.arange(np.floor(lowest / BIN), round(1 / BIN) + 1) * BIN
    bands = np.searchsorted(list(BANDS.values()), edges[:-1] + BIN / 2, side="right")
    figure, (axis,) = canvas(1.3 + room.sum())
    with matplotlib.rc_context(STYLE):
        for (_, values), place, high in zip(known.values(), places, room, strict=True):
            if not len(values):
                continue
            counts, _ = np.histogram(np.clip(values, edges[0], 1), edges)  # 1 + 1e-16 is 1
            foot = place + high / 2 - 0.04
            tops = counts / counts.max() * (high - 0.1)
            for band, shade in enumerate(SHADES):
                some = np.flatnonzero(bands == band)
                sides = edges[some[0] : some[-1] + 2]
                axis.stairs(foot - tops[some], sides, baseline=foot, fill=True, color=shade, linewidth=0)
            axis.plot(np.median(values), foot - (high - 0.1) / 2, "|", color=INK, markersize=14, markeredgewidth=1.6)
            share = f"{100 * (values >= BANDS['good']).mean():.0f} %"
            axis.annotate(share, (1.04, place), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL,
                          annotation_clip=False)  # fmt: skip
        axis.annotate("excellent", (1.04, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
                      fontsize=SMALL, annotation_clip=False)  # fmt: skip
        for limit in list(BANDS.values())[:-1]:
            axis.axvline(limit, color=INK, linestyle=":", linewidth=1)
        rungs(axis, labels, places, room)
        axis.set(xlabel="ICC(2,1) of a dimension (bands of Koo and Li 2016)", xlim=(edges[0] - 0.02, 1.02))
        axis.set_title("How many dimensions stay?")
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        words = ("poor: below 0.5", "moderate: from 0.5", "good: from 0.75", "excellent: from 0.9")
        shaded = zip(SHADES, words, strict=True)
        keys = [Patch(color=shade, linewidth=0, label=text) for shade, text in shaded]
        keys += axis.plot([], [], "|", color=INK, markersize=10, markeredgewidth=1.6, label="median")
        figure.legend(handles=keys, loc="outside upper left", ncols=2)
    return figure


def kappas(ours: Mapping[str, Sequence[float]], published: pd.DataFrame) -> Figure:
    """Do the decisions of a model survive another seed point? Kappa of later trials with the first, itself jittered.

    ``ours`` has the kappas of the trials (t,) by title; ``published`` a row a trial with title (or model) and kappa.
    What is published is a block of its own, hollow; the axis is shared. Rows keep their order.
    """
    by = "title" if "title" in published else "model"
    require(published, "kappas", [by, "kappa"])
    theirs = {title: rows["kappa"].to_numpy(float) for title, rows in published.groupby(by, sort=False)}
    blocks = [("As published", theirs, PUBLISHED), ("This run", dict(ours), OURS)]
    blocks = [block for block in blocks if block[1]]
    if not blocks:
        return nothing("No jittered trials: there is no kappa to show.")
    known = [[_finite(title, values) for title, values in rows.items()] for _, rows, _ in blocks]
    shapes = [ladder([note for note, _ in rows], 0.3) for rows in known]
    heights = [room.sum() for _, _, room in shapes]
    figure, axes = canvas(0.85 + sum(heights) + 0.35 * len(blocks), rows=len(blocks), sharex=True,
                          height_ratios=heights)  # fmt: skip
    low = min([0.0, *(values.min() for rows in known for _, values in rows if len(values))])
    with matplotlib.rc_context(STYLE):
        for axis, (name, _, colour), rows, shape in zip(axes, blocks, known, shapes, strict=True):
            face = {"markerfacecolor": "none"} if colour == PUBLISHED else {"markeredgewidth": 0, "alpha": 0.5}
            for (_, values), place in zip(rows, shape[1], strict=True):
                if len(values):
                    _strip(axis, values, place, 0.08, color=colour, markersize=3.5, **face)
                    axis.plot(values.mean(), place, "|", color=INK, markersize=14, markeredgewidth=2)
            rungs(axis, *shape)
            axis.set_title(name)
            words = "a trial, as published" if colour == PUBLISHED else "a trial of this run"
            _key(axis, "o", words, color=colour, markersize=4, **face)
        _key(axes[-1], "|", "their mean", color=INK, markersize=10, markeredgewidth=2)
        axes[-1].set(xlabel="weighted kappa with the first trial, itself jittered", xlim=(low - 0.03, 1.02))
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        figure.legend(loc="outside upper left", ncols=3)
    return figure
