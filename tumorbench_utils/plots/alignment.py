"""Figures of representation alignment: who finds the same neighbours as whom, over k, beside chance, size and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .base import CONTROL, INK, MUTED, OURS, PUBLISHED, SECOND, STYLE, canvas, nothing, wrap
from .robustness import LABEL, SMALL, interval, ladder, require, rungs

NUMBERED = 14  # models of which each cell of a map has room for its number
FEW = 6  # models whose numbers have two decimals
DEEPEST = 0.65  # opacity of the highest value: text stays legible on it
TREE = 0.55  # inches: height of the dendrogram
LEVELS = {"chance": ("chance, central 95 %", MUTED), "shared_given_volume": ("explained by volume", CONTROL)}


def clustered(matrix: pd.DataFrame, most: float) -> tuple[list[str], np.ndarray | None]:
    """Order of the models in which like ones are side by side, and the tree: average linkage of 1 - value / ``most``.

    ``matrix`` is symmetric, by model; its diagonal is not looked at. The order is that of optimal leaves; of fewer
    than three models it stays as it is, without a tree.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(matrix) < 3:
        return list(matrix), None
    distance = 1 - matrix.to_numpy(float) / most
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return [matrix.columns[leaf] for leaf in hierarchy.leaves_list(tree)], tree


def overlap_maps(
    tables: Mapping[str, pd.DataFrame], most: float, *, published: Sequence[str] = (), words: str = "", digits: int = 0
) -> Figure:
    """Which models find the same neighbours? One map a table, below one another, models in one order.

    ``tables`` are symmetric, by the models' titles, the same in each; the order and the tree are those of the last.
    ``most`` is the highest possible value, ``words`` say what a number is; those that are ``published`` are in that
    colour. ``digits`` after the point, by default one, two for few models.
    """
    if not tables or not len(next(iter(tables.values()))):
        return nothing("No models: there is no overlap to show.")
    order, tree = clustered(list(tables.values())[-1], most)
    labels = [wrap(f"{at} {title}", LABEL, SMALL) for at, title in enumerate(order, 1)]
    height = max(0.3, *(0.08 + 0.15 * len(lines) for lines in labels))
    deepest = max(np.nanmax(np.abs(_off_diagonal(each)), initial=0) for each in tables.values()) or 1
    digits = digits or (2 if len(order) <= FEW else 1)
    tall = 0.35 + height * len(order)
    figure, axes = canvas(
        0.4 + (TREE if tree is not None else 0) + tall * len(tables), 1, len(tables) + (tree is not None),
        gridspec_kw={"height_ratios": [TREE] * (tree is not None) + [tall] * len(tables)},
    )  # fmt: skip
    with matplotlib.rc_context(STYLE):
        if tree is not None:
            _tree(axes[0], tree)
            axes = axes[1:]
        for axis, (name, table) in zip(axes, tables.items(), strict=True):
            colour = PUBLISHED if name in published else OURS
            _cells(axis, table.loc[order, order].to_numpy(float), colour, deepest, digits)
            axis.set_yticks(range(len(order)), ["\n".join(lines) for lines in labels], fontsize=SMALL, parse_math=False)
            axis.set_title(name, color=INK)
        axes[-1].set_xlabel(words)
    return figure


def _off_diagonal(table: pd.DataFrame) -> np.ndarray:
    return table.to_numpy(float)[~np.eye(len(table), dtype=bool)]


def _cells(axis: Axes, values: np.ndarray, colour: str, deepest: float, digits: int) -> None:
    n = len(values)
    for row, column in np.ndindex(n, n):
        value, corner = values[row, column], (column - 0.5, row - 0.5)
        if row == column or not np.isfinite(value):
            axis.add_patch(Rectangle(corner, 1, 1, facecolor=MUTED, alpha=0.25, linewidth=0))
            continue
        alpha = DEEPEST * abs(value) / deepest
        axis.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=alpha, linewidth=0))
        if n <= NUMBERED:
            axis.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=8)
    axis.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    axis.set_xticks(range(n), range(1, n + 1), fontsize=SMALL)
    axis.tick_params(length=0)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _tree(axis: Axes, tree: np.ndarray) -> None:
    from scipy.cluster import hierarchy

    drawn = hierarchy.dendrogram(tree, no_plot=True)
    for across, up in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        axis.plot((np.array(across) - 5) / 10, up, color=MUTED, linewidth=1.2)  # scipy has leaves at 5, 15, 25, ...
    axis.set(xlim=(-0.5, len(drawn["leaves"]) - 0.5), ylim=(0, 1.03 * tree[:, 2].max() or 1))
    axis.set_axis_off()


def overlap_curves(curves: pd.DataFrame, k: int) -> Figure:
    """Does it depend on k who resembles whom?

    ``curves`` has first, second (titles), k, share, chance. All pairs, their mean, and by colour the pairs of most and
    least overlap at ``k``.
    """
    if curves.empty:
        return nothing("No pairs of models: there is no curve to show.")
    require(curves, "overlap_curves", ["first", "second", "k", "share", "chance"])
    pairs = {f"{one} – {two}": rows for (one, two), rows in curves.groupby(["first", "second"], sort=False)}
    at_k = {name: float(rows.loc[rows["k"] == k, "share"].iloc[0]) for name, rows in pairs.items()}
    marked = {max(at_k, key=at_k.get): OURS}
    marked |= {min(at_k, key=at_k.get): CONTROL} if len(pairs) > 1 else {}
    figure, (axis,) = canvas(3.9)
    with matplotlib.rc_context(STYLE):
        for name, rows in pairs.items():
            if name not in marked:
                axis.plot(rows["k"], rows["share"], color=MUTED, alpha=0.5, linewidth=0.8)
        for name, colour in marked.items():
            words = "\n".join(wrap(name, 280, SMALL))
            axis.plot(pairs[name]["k"], pairs[name]["share"], color=colour, linewidth=2, label=words)
        if len(pairs) > 2:
            mean = curves.groupby("k")["share"].mean()
            axis.plot(mean.index, mean, color=SECOND, linewidth=2, linestyle="--", label="mean of all pairs")
        line = next(iter(pairs.values()))
        axis.plot(line["k"], line["chance"], color=INK, linestyle=":", linewidth=1.6, label="chance")
        axis.axvline(k, color=INK, alpha=0.25, linewidth=1, label=f"k = {k}")
        axis.set_title("Common neighbours over k")
        axis.set(xlabel="k, number of neighbours", ylabel="share in common", ylim=(0, None))
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.legend(loc="outside upper left")
    return figure


def pairs_forest(pairs: pd.DataFrame) -> Figure:
    """How much more do two models have in common than chance, or size, would have it? One row a pair, as given.

    ``pairs`` has title (of the pair), k, shared with low and high, chance with chance_low and chance_high, and may have
    shared_given_volume with _low and _high, and published (NaN where there is none).
    """
    if pairs.empty:
        return nothing("No pairs of models to show.")
    require(pairs, "pairs_forest", ["title", "k", "shared", "low", "high", "chance", "chance_low", "chance_high"])
    rows = pairs.rename(columns={"low": "shared_low", "high": "shared_high"})
    labels, places, room = ladder(list(rows["title"]), 0.36)
    figure, (axis,) = canvas(1.45 + room.sum())
    with matplotlib.rc_context(STYLE):
        for (name, (words, colour)), step in zip(LEVELS.items(), (0.06, 0.12), strict=True):
            if name in rows and rows[name].notna().any():
                _level(axis, rows, name, places + step, colour, words)
        interval(axis, rows, "shared", places - 0.06, marker="o", color=OURS, label="shared, 95 % interval")
        if "published" in rows and rows["published"].notna().any():
            axis.plot(rows["published"], places - 0.06, "o", markersize=9, markerfacecolor="none", color=PUBLISHED,
                      label="as published")  # fmt: skip
        rungs(axis, labels, places, room)
        axis.set_title("More in common than chance?")
        axis.set_xlabel(f"mean number of common neighbours of {rows['k'].iloc[0]}")
        axis.set_xlim(0, None)
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _level(axis: Axes, rows: pd.DataFrame, name: str, places: np.ndarray, colour: str, words: str) -> None:
    low, high = (rows[f"{name}_{end}"].to_numpy(float) for end in ("low", "high"))
    known = np.isfinite(low) & np.isfinite(high)
    axis.hlines(places[known], low[known], high[known], color=colour, linewidth=4, alpha=0.7, label=words)
    axis.plot(rows[name], places, "|", color=colour, markersize=7)


def confound_forest(models: pd.DataFrame, name: str, title: str, words: str) -> Figure:
    """What a model finds alike, beside chance: the column ``name`` of ``models`` with its limits, a row a model.

    ``models`` has title, and ``name`` with _low, _high, _chance, _chance_low, _chance_high; ``words`` name the axis.
    """
    if models.empty or models[name].isna().all():
        return nothing("No values of the samples are known to hold the models against.")
    needed = [name + end for end in ("", "_low", "_high", "_chance", "_chance_low", "_chance_high")]
    require(models, "confound_forest", ["title", *needed])
    labels, places, room = ladder(list(models["title"]), 0.36)
    figure, (axis,) = canvas(1.25 + room.sum())
    with matplotlib.rc_context(STYLE):
        _level(axis, models, f"{name}_chance", places + 0.06, MUTED, LEVELS["chance"][0])
        interval(axis, models, name, places - 0.06, marker="o", color=OURS, label="this run, 95 % interval")
        rungs(axis, labels, places, room)
        axis.set_title(title)
        axis.set_xlabel("\n".join(wrap(words, 225, 9.5)))
        figure.legend(loc="outside upper left", ncols=2)
    return figure
