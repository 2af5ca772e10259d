"""Figures of the later exercises of the workshop: stability beside usefulness, overlap beside its chance level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from .base import CHANCE, CONTROL, INK, MUTED, OURS, PUBLISHED, SECOND, STYLE, canvas, nothing, wrap
from .robustness import SMALL, ladder, require, rungs

BINS = 40  # of a histogram of cosines
NEAR, BESIDE = 0.035, 0.1  # shares of the axes, up and across, within which points share a label
TICKS = (1, 3, 10, 30, 100)  # of times chance
RANDOM = {"color": INK, "linestyle": ":", "linewidth": 1.6}


def alike(by_change: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Is a patient's changed image more like its original than another patient's is?

    ``by_change`` has, by what was changed, the cosines of the two images of each patient (n,) and those of different
    patients (m,). A panel each, in shares of the pairs, on one axis.
    """
    if not by_change:
        return nothing("No changed images to compare.")
    values = np.concatenate([np.ravel(each) for pair in by_change.values() for each in pair])
    edges = np.linspace(values.min(), 1, BINS + 1)
    figure, axes = canvas(0.7 + 1.35 * len(by_change), rows=len(by_change), sharex=True)
    with matplotlib.rc_context(STYLE):
        for axis, (title, (own, others)) in zip(axes, by_change.items(), strict=True):
            first = axis is axes[0]
            for given, colour, words in ((others, MUTED, "different patients"), (own, OURS, "the same patient")):
                given = np.ravel(given)
                axis.hist(given, edges, weights=np.full(len(given), 1 / len(given)), color=colour, alpha=0.55,
                          label=words if first else None)  # fmt: skip
                axis.axvline(given.mean(), color=colour, linewidth=2)
            axis.set(title=title, ylabel="share of pairs")
            axis.yaxis.set_major_locator(MaxNLocator(4))
        axes[-1].set_xlabel("cosine similarity (1: alike; lines: means)")
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def lifting(table: pd.DataFrame) -> Figure:
    """What does a constant do to the cosines, and what to the AUC?

    ``table`` has constant, own, others (mean cosines of the same and of different patients), separation and auc.
    """
    if table.empty:
        return nothing("No constants were tried.")
    require(table, "lifting", ["constant", "own", "others", "separation", "auc"])
    panels = (
        ("Cosine similarity", {"own": ("the same patient", OURS, "o"), "others": ("different patients", MUTED, "s")}),
        (
            "What can be told apart",
            {"separation": ("separation of patients", CONTROL, "^"), "auc": ("AUC", SECOND, "D")},
        ),
    )
    figure, axes = canvas(4.4, rows=2, sharex=True)
    with matplotlib.rc_context(STYLE):
        for axis, (title, lines) in zip(axes, panels, strict=True):
            for name, (words, colour, mark) in lines.items():
                axis.plot(table["constant"], table[name], marker=mark, color=colour, linewidth=1.8, label=words)
            axis.set_title(title)
            axis.yaxis.set_major_locator(MaxNLocator(5))
        axes[1].axhline(CHANCE, label="chance", **RANDOM)
        axes[1].set(xlabel="constant added, in lengths of the embedding", ylim=(0.45, 1.02))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def same_samples(curve: pd.DataFrame, k: int) -> Figure:
    """Which k wins, if those predicted are those that train? ``curve`` has k, same, others (AUC)."""
    if curve.empty:
        return nothing("No k was tried.")
    require(curve, "same_samples", ["k", "same", "others"])
    figure, (axis,) = canvas(2.9)
    with matplotlib.rc_context(STYLE):
        axis.plot(curve["k"], curve["same"], color=PUBLISHED, linewidth=2, label="predicted: the samples that train")
        axis.plot(
            curve["k"], curve["others"], color=OURS, linewidth=2, linestyle="--", label="predicted: other patients"
        )
        axis.plot(k, curve.set_index("k")["same"][k], "v", color=PUBLISHED, markersize=9, label=f"chosen, k = {k}")
        axis.axhline(CHANCE, label="chance", **RANDOM)
        axis.set(xlabel="k, number of neighbours", ylabel="AUC", ylim=(0.45, 1.03))
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def kappas(rows: pd.DataFrame, shuffled: Sequence[Sequence[float]]) -> Figure:
    """Does the kappa know what the labels mean?

    ``rows`` has title, kappa (labels as they are) and honest (held-out patients); ``shuffled`` for each row the kappas
    of labels dealt out at random. NaN has no mark.
    """
    if rows.empty:
        return nothing("No kappas to show.")
    require(rows, "kappas", ["title", "kappa", "honest"])
    labels, places, room = ladder(list(rows["title"]), 0.5)
    figure, (axis,) = canvas(1.35 + room.sum())
    with matplotlib.rc_context(STYLE):
        for place, values, first in zip(places, shuffled, places == places[0], strict=True):
            axis.plot(values, np.full(len(values), place), "|", color=MUTED, markersize=11,
                      label="study's rule, labels dealt at random" if first else None)  # fmt: skip
        axis.plot(rows["kappa"], places - 0.13, "o", color=OURS, label="study's rule, true labels")
        axis.plot(rows["honest"], places + 0.13, "s", color=CONTROL, label="held-out patients, true labels")
        rungs(axis, labels, places, room)
        axis.set(xlabel="Cohen's kappa (1: all decisions alike, 0: chance)", xlim=(-0.05, 1.05))
        figure.legend(loc="outside upper left")
    return figure


def two_axes(rows: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Is what is stable useful? A panel for each measure of stability, over the AUC.

    ``rows`` has title, AUC with AUC_low and AUC_high, and the columns of ``measures`` (name: words on the axis). Points
    are numbered in the order of the rows, the list of numbers stands above; points in one place share a label.
    """
    if rows.empty:
        return nothing("No embeddings to compare.")
    require(rows, "two_axes", ["title", "AUC", "AUC_low", "AUC_high", *measures])
    listed = [f"{at} {title}" for at, title in enumerate(rows["title"], 1)]
    figure, axes = canvas(3.0 + 0.17 * len(listed), len(measures), sharex=True)
    with matplotlib.rc_context(STYLE):
        for axis, (name, words) in zip(axes, measures.items(), strict=True):
            values = rows[name].to_numpy(float)
            axis.hlines(values, rows["AUC_low"], rows["AUC_high"], color=OURS, alpha=0.35, linewidth=1.4)
            axis.plot(rows["AUC"], values, "o", color=OURS, markersize=5)
            axis.axvline(CHANCE, **RANDOM)
            axis.set(title=words, ylim=_roomy(values))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.yaxis.set_major_locator(MaxNLocator(5))
            _numbers(axis, rows["AUC"].to_numpy(float), values)
            axis.set_xlabel("usefulness (AUC)")
        axes[0].set_ylabel("stability")
        handles = [matplotlib.lines.Line2D([], [], linestyle="none") for _ in listed]
        figure.legend(handles, listed, loc="outside upper left", handlelength=0, handletextpad=0)
    return figure


def _roomy(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis with room for a number above the highest point."""
    low, high = np.nanmin(values), np.nanmax(values)
    span = max(high - low, 0.01)
    return low - 0.1 * span, high + 0.18 * span


def _numbers(axis: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Number each point above and right of it; points that lie in one place share the text "1, 2, 3"."""
    across, up = np.diff(axis.get_xlim())[0], np.diff(axis.get_ylim())[0]
    left = [at for at in range(len(x)) if np.isfinite(x[at]) and np.isfinite(y[at])]
    while left:
        here = [at for at in left if abs(x[at] - x[left[0]]) < BESIDE * across and abs(y[at] - y[left[0]]) < NEAR * up]
        text = ", ".join(str(at + 1) for at in here)
        top = max(y[at] for at in here)
        axis.annotate(text, (max(x[at] for at in here), top), (4, 3), textcoords="offset points", fontsize=SMALL)
        left = [at for at in left if at not in here]


def shared_counts(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """How many of their neighbours do patients have in common? A panel by pair of embeddings.

    Each table has shared (0..k) and shares of the patients: expected (the formula), permuted, observed.
    """
    if not tables:
        return nothing("No pairs of embeddings: nothing is shared.")
    figure, axes = canvas(0.8 + 1.7 * len(tables), rows=len(tables), sharex=True)
    with matplotlib.rc_context(STYLE):
        for axis, (title, table) in zip(axes, tables.items(), strict=True):
            require(table, "shared_counts", ["shared", "expected", "permuted", "observed"])
            first = axis is axes[0]
            axis.bar(table["shared"], table["expected"], 0.8, color=MUTED, alpha=0.5,
                     label="chance, by the formula" if first else None)  # fmt: skip
            axis.plot(table["shared"], table["permuted"], "x", color=INK, label="patients permuted" if first else None)
            axis.plot(table["shared"], table["observed"], "o-", color=OURS, markersize=4.5,
                      label="observed" if first else None)  # fmt: skip
            axis.set(title=title, ylabel="share of patients")
        axes[-1].set_xlabel(f"neighbours in common, of {len(next(iter(tables.values()))) - 1}")
        axes[-1].xaxis.set_major_locator(MaxNLocator(11, integer=True))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def cheaper_reasons(rows: pd.DataFrame, k: int) -> Figure:
    """How far do cheaper reasons go?

    ``rows`` has level, shared, low, high (NaN without limits); the last is what was observed.
    """
    if rows.empty:
        return nothing("No levels to compare.")
    require(rows, "cheaper_reasons", ["level", "shared", "low", "high"])
    labels, places, room = ladder(list(rows["level"]), 0.36)
    figure, (axis,) = canvas(0.75 + room.sum())
    with matplotlib.rc_context(STYLE):
        colours = [MUTED] * (len(rows) - 1) + [OURS]
        axis.barh(places, rows["shared"], room * 0.6, color=colours, alpha=0.75)
        axis.hlines(places, rows["low"], rows["high"], color=INK, linewidth=2)
        for place, value, high in zip(places, rows["shared"], rows["high"].fillna(0), strict=True):
            axis.annotate(f"{value:.2f}", (max(value, high), place), (4, 0), textcoords="offset points", va="center",
                          fontsize=SMALL)  # fmt: skip
        rungs(axis, labels, places, room)
        axis.margins(x=0.12)
        axis.set_xlim(left=0)
        axis.set_xlabel(f"mean number of common neighbours of {k}")
    return figure


def cohorts_published(rows: pd.DataFrame, k: int) -> Figure:
    """Which cohort's models agree most, as published, and how often chance is that?

    ``rows``, one a pair of models and cohort: title (of the cohort), n, shared, chance, times. Cohorts by rising n.
    """
    if rows.empty:
        return nothing("No published overlaps.")
    require(rows, "cohorts_published", ["title", "n", "shared", "chance", "times"])
    groups = list(rows.sort_values("n", kind="stable").groupby("title", sort=False))
    named = [f"{title.replace('-', '- ')}, {some['n'].iloc[0]:,}" for title, some in groups]  # may break at hyphens
    labels, places, room = ladder(named, 0.42)
    labels = [label.replace("- ", "-") for label in labels]
    figure, axes = canvas(1.3 + room.sum(), 2, sharey=True)
    with matplotlib.rc_context(STYLE):
        for place, (_, some) in zip(places, groups, strict=True):
            for axis, name, level in ((axes[0], "shared", some["chance"].iloc[0]), (axes[1], "times", 1.0)):
                told = ("pair of models, as published", "their mean", "chance")
                words = told if place == places[0] and name == "shared" else (None,) * 3
                spread, ends = place + np.linspace(-0.11, 0.11, len(some)), (place - 0.17, place + 0.17)
                axis.plot(some[name], spread, "o", color=PUBLISHED, markerfacecolor="none", markersize=3.5, alpha=0.7,
                          label=words[0])  # fmt: skip
                axis.vlines(some[name].mean(), *ends, color=PUBLISHED, linewidth=2.5, label=words[1])
                axis.vlines(level, *ends, color=INK, linestyle=":", linewidth=2, label=words[2])
        rungs(axes[0], labels, places, room)
        for axis, title, words in ((axes[0], "Shared", "\n".join(wrap(f"common neighbours of {k}", 110, 9.5))),
                                   (axes[1], "Beside chance", "times chance")):  # fmt: skip
            axis.set_title(title)
            axis.set_xlabel(words)
        axes[0].set_xlim(left=0)
        axes[1].set_xscale("log")
        axes[1].xaxis.set_major_locator(FixedLocator(TICKS))
        axes[1].xaxis.set_minor_locator(NullLocator())
        axes[1].xaxis.set_major_formatter("{x:g}")
        axes[1].grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=2)
    return figure
