"""Figures of the workshop's exercises on leakage, size and the choice of k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .base import CHANCE, CONTROL, INK, MUTED, OURS, SECOND, STYLE, canvas, nothing
from .robustness import require


def histograms(
    samples: Mapping[str, Sequence[float]], label: str, line: float | None = None, bins: int = 30, unit: str = "samples"
) -> Figure:
    """Two distributions of one quantity over each other, and a dashed ``line`` where something is decided."""
    values = {name: np.asarray(each, float) for name, each in samples.items() if len(each)}
    if not values:
        return nothing(f"Nothing to show: there is no {label}.")
    joined = np.concatenate(list(values.values()))
    edges = np.linspace(joined.min(), joined.max(), bins + 1) if np.ptp(joined) else bins
    figure, (axis,) = canvas(2.9)
    with matplotlib.rc_context(STYLE):
        for (name, each), colour, hatch in zip(
            values.items(), (OURS, SECOND, CONTROL), ("", "///", "..."), strict=False
        ):
            style = {"histtype": "stepfilled", "facecolor": (colour, 0.3), "edgecolor": colour, "hatch": hatch}
            axis.hist(each, edges, label=f"{name} ({len(each):,})", linewidth=1.4, **style)
        if line is not None:
            axis.axvline(line, color=INK, linestyle="--", linewidth=1.4)
        axis.set(xlabel=label, ylabel=unit)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def leak_over_twins(table: pd.DataFrame) -> Figure:
    """The size of a leak over the share of test rows whose nearest training row is of the same patient.

    ``table`` has view, twins (0 to 1) and leak, low, high (in AUC).
    """
    require(table, "leak_over_twins", ["view", "twins", "leak", "low", "high"])
    figure, (axis,) = canvas(3.2 + 0.16 * -(-len(table) // 2))
    with matplotlib.rc_context(STYLE):
        for row, colour, shape in zip(
            table.itertuples(), (OURS, SECOND, CONTROL, MUTED), ("o", "s", "D", "^"), strict=False
        ):
            axis.vlines(row.twins, row.low, row.high, color=colour, linewidth=1.6)
            axis.plot(row.twins, row.leak, shape, color=colour, markersize=7, label=row.view)
        axis.axhline(0, color=INK, linestyle=":", linewidth=1.2)
        axis.set(xlabel="share of test rows with a twin nearest", ylabel="gain in AUC", xlim=(0, 1))
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def k_curves(curves: np.ndarray, chosen: Sequence[int]) -> Figure:
    """Validation AUC over k of each split (splits, k_max), their mean, and the chosen k as triangles."""
    figure, (axis,) = canvas(3.1)
    k, chosen = np.arange(1, curves.shape[1] + 1), np.asarray(chosen)
    with matplotlib.rc_context(STYLE):
        axis.plot(k, curves.T, color=MUTED, linewidth=0.8, alpha=0.7)
        axis.plot([], [], color=MUTED, linewidth=0.8, label=f"{len(curves)} splits")
        axis.plot(k, curves.mean(axis=0), color=OURS, linewidth=2.4, label="their mean")
        axis.plot(chosen, curves[np.arange(len(curves)), chosen - 1], "v", color=SECOND, markersize=6, label="chosen k")
        axis.axhline(CHANCE, color=INK, linestyle=":", linewidth=1)
        axis.set(xlabel="neighbours k", ylabel="validation AUC", xlim=(0, k[-1] + 1))
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def chosen_k(samples: Mapping[str, Sequence[int]], k_max: int) -> Figure:
    """How often each k from 1 to ``k_max`` is chosen: a panel a name."""
    figure, axes = canvas(0.6 + 1.5 * len(samples), rows=len(samples), sharex=True)
    edges = np.arange(0.5, k_max + 1)
    with matplotlib.rc_context(STYLE):
        for axis, (name, each) in zip(axes, samples.items(), strict=True):
            axis.hist(each, edges, color=OURS)
            axis.set(ylabel="times", xlim=(0, k_max + 1))
            axis.set_title(name, fontsize=8.5)
            axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes[-1].set_xlabel("chosen k")
    return figure


def repeats(tables: Mapping[str, pd.DataFrame], line: float) -> Figure:
    """Standard deviation of a reported mean over the number of splits, a line a rule; dashed: a difference to find.

    Each table has splits and sd.
    """
    figure, (axis,) = canvas(3.0)
    with matplotlib.rc_context(STYLE):
        for (name, table), colour, shape in zip(tables.items(), (OURS, SECOND, CONTROL), ("o", "s", "D"), strict=False):
            axis.plot(table["splits"], table["sd"], marker=shape, color=colour, markersize=5, linewidth=1.4, label=name)
        axis.axhline(line, color=INK, linestyle="--", linewidth=1.2)
        counts = sorted({count for table in tables.values() for count in table["splits"]})
        axis.set(xlabel="splits in a mean", ylabel="SD of the mean AUC", xscale="log", ylim=(0, None))
        axis.set_xticks(counts, [f"{count:g}" for count in counts])
        axis.minorticks_off()
        figure.legend(loc="outside upper left", ncols=2)
    return figure
