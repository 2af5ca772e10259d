"""Figures of the leaderboard: who ranks where, how surely, and what ranks leave out.

Every figure is of one source: this run (blue, filled) or the study as published (vermilion, hollow), never of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .base import CONTROL, INK, MUTED, OURS, POINTS, PUBLISHED, SECOND, STYLE, WIDTH, canvas, nothing, sheet, wrap
from .robustness import LABEL, SMALL, interval, ladder, require, rungs

SEEN = "†"  # beside a rank: the cohort is or may be in the pretraining data of the model
TIED = "="  # beside a rank that several models share
ROW = 21.0  # points, the least height of a row of tiles
HEAD = 92  # points that the title of a cohort may be long, upright
SHADE = (0.06, 0.5)  # opacity of the last and of the first rank: text stays legible on both, light and dark
STYLES = ("-", "--", ":")  # of the lines of the best three models
PHANTOM = "phantom"
FACETS = 3  # panels beside each other
EDGE = 0.2  # of the width of a panel: a label nearer to its end is turned inwards


def colour_of(published: bool) -> str:
    """The colour of what is as published, or of this run."""
    return PUBLISHED if published else OURS


def rank_heatmap(ranks: pd.DataFrame, seen: pd.DataFrame | None = None, *, published: bool = False) -> Figure:
    """Who leads where: rank of each model (rows, by title) in each cohort (columns, by title), 1 for the best.

    Equal models share the mean of their ranks and bear "="; NaN is a dash. ``seen``, of the same shape, says where the
    cohort is or may be in the pretraining data of the model: such a rank bears a dagger. Rows keep their order.
    """
    if ranks.empty:
        return nothing("No cohort that two models share: there is no rank.")
    if seen is not None and (list(seen.index) != list(ranks.index) or list(seen) != list(ranks)):
        raise ValueError("rank_heatmap: seen must have the rows and columns of ranks")
    figure, axis, boxes, wide = _tiles(ranks.index, list(ranks))
    worst = max(float(np.nanmax(ranks.to_numpy(float), initial=1.0)), 2.0)
    with matplotlib.rc_context(STYLE):
        for row, (title, (top, high)) in enumerate(zip(ranks.index, boxes, strict=True)):
            for column, cohort in enumerate(ranks):
                rank = float(ranks.iloc[row, column])
                share = (worst - rank) / (worst - 1) if np.isfinite(rank) else np.nan
                alpha = SHADE[0] + (SHADE[1] - SHADE[0]) * share if np.isfinite(share) else 0.0
                words = _rank(rank, int((ranks[cohort] == rank).sum()))
                words += SEEN if seen is not None and bool(seen.loc[title, cohort]) else ""
                _tile(axis, column, wide, top, high, words, colour_of(published), alpha)
    return figure


def _rank(rank: float, of_this_rank: int) -> str:
    return f"{rank:g}{TIED if of_this_rank > 1 else ''}" if np.isfinite(rank) else "–"


def _tiles(titles: Sequence[str], heads: Sequence[str], upright: bool = True):
    """A sheet with titles of rows on the left and of columns on top; (figure, axis, (top, height) of rows, width)."""
    lines = [wrap(str(title), LABEL, SMALL) for title in titles]
    highs = np.array([max(ROW, 12.0 * len(each) + 6) for each in lines])
    names = ["\n".join(_hyphened(str(head))) for head in heads]
    top = 6.0 + (max((_length(name) for name in names), default=0) if upright else 14.0)
    figure, axis = sheet(top + 4 + highs.sum() + 4)
    wide = min((WIDTH * POINTS - LABEL - 12) / max(len(heads), 1), 60.0)
    tops = top + 4 + np.concatenate([[0], np.cumsum(highs)[:-1]])
    with matplotlib.rc_context(STYLE):
        for each, start, high in zip(lines, tops, highs, strict=True):
            _text(axis, LABEL + 2, start + high / 2, "\n".join(each), ha="right", va="center")
        for column, name in enumerate(names):
            middle = LABEL + 8 + (column + 0.5) * wide
            _text(axis, middle, top, name, ha="center", va="bottom", rotation=90 if upright else 0)
    return figure, axis, list(zip(tops, highs, strict=True)), wide


def _hyphened(title: str) -> list[str]:
    """Lines of the title of a cohort, which may also break after a hyphen."""
    return [line.replace("- ", "-") for line in wrap(title.replace("-", "- "), HEAD, SMALL)]


def _length(text: str) -> float:
    """Points that the longest line of a text takes, about."""
    return max(len(line) for line in text.split("\n")) * SMALL * 0.62 + 2


def _text(axis: Axes, x: float, y: float, words: str, **style) -> None:
    axis.text(x, y, words, **{"fontsize": SMALL, "parse_math": False, "linespacing": 1.1} | style)


def _tile(axis: Axes, column: int, wide: float, top: float, high: float, words: str, colour: str, alpha: float) -> None:
    left = LABEL + 8 + column * wide
    axis.add_patch(Rectangle((left + 1, top + 1), wide - 2, high - 2, facecolor=colour, alpha=alpha, linewidth=0))
    axis.text(left + wide / 2, top + high / 2, words, ha="center", va="center", fontsize=SMALL, parse_math=False)


def trajectories(ranks: pd.DataFrame, *, published: bool = False) -> Figure:
    """How far does a lead carry? The ranks of each model (rows, by title) from cohort to cohort (columns, by title).

    Those of the best mean rank are drawn in colour (:func:`leading`), the others in grey. Equal models meet in one
    point, and every line ends at its title. A model without a rank in a cohort has a gap there.
    """
    if ranks.shape[1] < 2 or len(ranks) < 2:
        return nothing("Fewer than two cohorts that two models share: no trajectory.")
    order = ranks.mean(axis=1).sort_values(kind="stable").index
    colour, places, coloured = colour_of(published), np.arange(ranks.shape[1]), leading(ranks)
    # titles stand one below the other, in the order of the last ranks
    ends = ranks.loc[order].iloc[:, -1].fillna(np.inf).sort_values(kind="stable").index
    slots = {title: number + 1.0 for number, title in enumerate(ends)}
    figure, (axis,) = canvas(1.5 + 0.32 * len(ranks))
    with matplotlib.rc_context(STYLE):
        for number, title in enumerate(reversed(order)):
            best = len(order) - 1 - number
            leads = best < coloured
            look = {"color": colour if leads else MUTED, "linewidth": 2.0 if leads else 1.2}
            look["linestyle"] = STYLES[best] if leads else "-"
            values = ranks.loc[title].to_numpy(float)
            face = "none" if published else look["color"]
            axis.plot(places, values, marker="o", markersize=5, markerfacecolor=face, **look)
            if np.isfinite(values[-1]):
                axis.plot([places[-1], places[-1] + 0.35], [values[-1], slots[title]], **look | {"linewidth": 0.8})
            words = wrap(str(title), LABEL, SMALL)
            axis.annotate("\n".join(words[:2]), (places[-1] + 0.4, slots[title]), va="center", fontsize=SMALL,
                          annotation_clip=False, parse_math=False, linespacing=0.95,
                          weight="bold" if leads else "normal")  # fmt: skip
        names = ["\n".join(_hyphened(str(name))) for name in ranks]
        axis.set_xticks(places, names, rotation=90, fontsize=SMALL, parse_math=False)
        axis.set(ylabel="rank (1: best)", ylim=(len(ranks) + 0.5, 0.5), xlim=(-0.2, places[-1] + 0.35))
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axis.spines["right"].set_visible(False)
    return figure


def leading(ranks: pd.DataFrame) -> int:
    """How many of the best mean rank stand out: three, or fewer where the next is as good as the last of them."""
    means = np.sort(ranks.mean(axis=1).to_numpy())
    most = min(len(STYLES), len(means))
    return next((n for n in range(most, 0, -1) if n == len(means) or means[n] - means[n - 1] > 1e-9), 0)


def mean_ranks(table: pd.DataFrame, *, published: bool = False) -> Figure:
    """Is the lead sure? Mean rank over cohorts with its interval, a row a model: title, mean_rank, low, high."""
    if table.empty:
        return nothing("No cohort that two models share: there is no mean rank.")
    require(table, "mean_ranks", ["title", "mean_rank", "low", "high"])
    rows = table.rename(columns={"low": "mean_rank_low", "high": "mean_rank_high"})
    labels, places, room = ladder(list(rows["title"]), 0.3)
    figure, (axis,) = canvas(0.75 + room.sum())
    with matplotlib.rc_context(STYLE):
        face = {"markerfacecolor": "none"} if published else {}
        interval(axis, rows, "mean_rank", places, marker="D" if published else "o", color=colour_of(published), **face)
        rungs(axis, labels, places, room)
        axis.set(xlabel="mean rank (left: better)", xlim=(0.7, max(len(rows), 2) + 0.3))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    return figure


def critical_difference(
    table: pd.DataFrame, difference: float, cliques: Sequence[Sequence[str]], *, published: bool = False
) -> Figure:
    """Which models are told apart? Mean ranks, a row a model from the best down, and bars that join those that are not.

    ``table`` has title and mean_rank. The ranks of two models must be ``difference`` apart, the length drawn on top, to
    be told apart (Nemenyi's test); ``cliques`` are groups of titles within that length, those of one model left out.
    The diagram of Demšar (J Mach Learn Res 7, 1-30, 2006, figure 1), turned so that titles fit on a phone.
    """
    if table.empty:
        return nothing("No cohort that two models share: no critical difference.")
    require(table, "critical_difference", ["title", "mean_rank"])
    rows = table.sort_values("mean_rank", kind="stable").reset_index(drop=True)
    unknown = {title for clique in cliques for title in clique} - set(rows["title"])
    if unknown:
        raise ValueError(f"critical_difference: a clique holds {', '.join(sorted(unknown))}, which the table has not")
    labels, places, room = ladder(list(rows["title"]), 0.28)
    bars = [each for each in cliques if len(each) > 1]
    figure, (axis,) = canvas(1.15 + room.sum())
    with matplotlib.rc_context(STYLE):
        colour = colour_of(published)
        face = "none" if published else colour
        shape = "D" if published else "o"
        axis.plot(rows["mean_rank"], places, shape, color=colour, markerfacecolor=face, markersize=6)
        axis.hlines(places, 0, rows["mean_rank"], color=MUTED, linewidth=0.8, alpha=0.7)
        rungs(axis, labels, places, room)
        most = max(len(rows), 2) + 0.3
        axis.set(xlabel="mean rank (left: better)", xlim=(0.7, most))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        for number, clique in enumerate(bars):
            inside = places[rows["title"].isin(clique).to_numpy()]
            at = 1.04 + 0.045 * number
            ends = [inside.min() - 0.08, inside.max() + 0.08]
            axis.plot([at, at], ends, color=INK, linewidth=3.5, clip_on=False, solid_capstyle="butt",
                      transform=axis.get_yaxis_transform())  # fmt: skip
        if bars:  # room for the bars beyond the axis
            axis.annotate(" ", (1.06 + 0.045 * len(bars), 0.5), xycoords="axes fraction", annotation_clip=False)
        _scale(axis, difference, most)
    return figure


def _scale(axis: Axes, difference: float, most: float) -> None:
    """The critical difference as a length above the rows, cut where it is longer than the axis."""
    if not np.isfinite(difference):
        return
    end = min(1 + difference, most)
    place = axis.get_xaxis_transform()
    axis.plot([1, end], [1.05, 1.05], color=INK, linewidth=1.6, clip_on=False, transform=place)
    axis.plot([1, end] if end < most else [1], [1.05] * (2 if end < most else 1), "|", color=INK, markersize=8,
              clip_on=False, transform=place)  # fmt: skip
    longer = "" if end < most else ", longer than the axis"
    axis.annotate(f"critical difference {difference:.2f}{longer}", (1, 1.05), (0, 6), xycoords=place,
                  textcoords="offset points", fontsize=SMALL, annotation_clip=False)  # fmt: skip


def pairwise_wins(table: pd.DataFrame) -> Figure:
    """Who beats whom? For every ordered pair of models in how many cohorts the first wins and loses significantly.

    ``table`` has, a row an ordered pair, first, second (titles), wins, ties, losses (numbers of cohorts). Of one cohort
    a tile says + (win), = (no difference shown) or − (loss); of several "wins : losses". Blue tiles: more wins.
    """
    if table.empty:
        return nothing("No pair of models that could be compared.")
    require(table, "pairwise_wins", ["first", "second", "wins", "ties", "losses"])
    titles = list(dict.fromkeys([*table["first"], *table["second"]]))
    numbered = [f"{title}  {number}" for number, title in enumerate(titles, 1)]
    figure, axis, boxes, wide = _tiles(numbered, [str(number) for number in range(1, len(titles) + 1)], upright=False)
    with matplotlib.rc_context(STYLE):
        for pair in table.itertuples():
            row, column = titles.index(pair.first), titles.index(pair.second)
            compared = pair.wins + pair.ties + pair.losses
            net = (pair.wins - pair.losses) / compared if compared else 0.0
            alpha = SHADE[0] + (SHADE[1] - SHADE[0]) * abs(net)
            colour = MUTED if net == 0 else OURS if net > 0 else SECOND
            _tile(axis, column, wide, *boxes[row], _score(pair.wins, pair.losses, compared), colour, alpha)
        for each in range(len(titles)):
            _tile(axis, each, wide, *boxes[each], "", MUTED, 0.25)
    return figure


def _score(wins: int, losses: int, compared: int) -> str:
    if not compared:
        return "–"
    if compared == 1:
        return "+" if wins else "−" if losses else "="
    return f"{wins}:{losses}"


def _two_ticks(axis: Axes, wide: float) -> None:
    """At most two labels below a panel about ``wide`` points wide, turned inwards near its ends: none meets another."""
    low, high = axis.get_xlim()
    ticks = [tick for tick in MaxNLocator(2, steps=(1, 2, 5, 10)).tick_values(low, high) if low <= tick <= high]
    ticks = np.array([ticks[0], ticks[-1]] if len(ticks) > 1 else ticks)
    half = np.array([_length(words) for words in axis.xaxis.get_major_formatter().format_ticks(ticks)]) / 2
    share = (ticks - low) / (high - low)
    turned = (share < EDGE).astype(int) - (share > 1 - EDGE)
    if len(ticks) > 1 and np.diff(wide * share + turned * half) < half.sum():  # one label then, the innermost
        inner = [int(np.abs(share - 0.5).argmin())]
        ticks, turned = ticks[inner], turned[inner]
    axis.set_xticks(ticks)
    for label, turn in zip(axis.get_xticklabels(), turned, strict=True):
        label.set(fontsize=SMALL, ha=("center", "left", "right")[turn])


def facets(table: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """What do ranks leave out? One panel a measure, one row a model.

    ``table`` has title and for each key of ``measures`` a column, with its interval in ``<key>_low`` and
    ``<key>_high`` if there is one, and "phantom" in ``<key>_mark`` if it is of computed images: such a mark is hollow.
    ``measures`` gives the panels' titles. A value that is not known has no mark.
    """
    known = {key: title for key, title in measures.items() if key in table and table[key].notna().any()}
    if table.empty or not known:
        return nothing("No measure beside the AUC is known for these models.")
    labels, places, room = ladder(list(table["title"]), 0.3)
    rows = -(-len(known) // FACETS)
    columns = min(len(known), FACETS)
    figure, axes = canvas((0.75 + room.sum()) * rows, columns, rows)
    with matplotlib.rc_context(STYLE):
        for number, (axis, (key, title)) in enumerate(zip(axes, known.items(), strict=False)):
            given = table.reindex(columns=[key, f"{key}_low", f"{key}_high"]).astype(float)
            hollow = (
                (table[f"{key}_mark"] == PHANTOM).to_numpy() if f"{key}_mark" in table else np.zeros(len(table), bool)
            )
            interval(axis, given[~hollow], key, places[~hollow], marker="o", color=CONTROL)
            interval(axis, given[hollow], key, places[hollow], marker="o", color=CONTROL, markerfacecolor="none")
            rungs(axis, labels if number % columns == 0 else [""] * len(labels), places, room)
            axis.set_title("\n".join(wrap(title, 200 / columns, SMALL)), fontsize=SMALL, weight="normal")
            axis.margins(x=0.12)
            _two_ticks(axis, (WIDTH * POINTS - LABEL) / columns - 8)
        for axis in axes[len(known) :]:
            axis.set_visible(False)
    return figure
