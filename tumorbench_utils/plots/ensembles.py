"""The figure of ensembles: is any of them better than the single model that one would have chosen anyway?"""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..statistics import bounded
from .base import CHANCE, CONTROL, INK, MUTED, OURS, SECOND, STYLE, canvas, nothing
from .robustness import SMALL, STEPS, ladder, require, rungs

KINDS = {  # colour, mark, whether it is filled, words
    "single": (MUTED, "o", True, "single model"),
    "reference": (OURS, "s", True, "best single, chosen by validation"),
    "oracle": (SECOND, "D", False, "best single, chosen by test"),
    "ensemble": (CONTROL, "o", True, "ensemble"),
}
COLUMNS = ("title", "kind", "auc", "low", "high", "difference", "difference_low", "difference_high", "p_holm")


def combined(table: pd.DataFrame) -> Figure:
    """AUC of single models and ensembles, and their difference to the single model that validation chooses.

    ``table`` has, a row a model or ensemble, title, kind (single, reference, oracle or ensemble), auc with low and
    high, difference with difference_low and difference_high, and p_holm. Rows keep their order; what chose by the test
    samples is hollow. A value that is no number has no mark. p after Holm's correction stands at the right.
    """
    if table.empty:
        return nothing("No ensembles to compare.")
    require(table, "combined", COLUMNS)
    unknown = sorted(set(table["kind"]) - set(KINDS))
    if unknown:
        raise ValueError(f"combined: unknown kind {', '.join(unknown)}. Known: {', '.join(KINDS)}")
    table = bounded(table)
    labels, places, room = ladder(list(table["title"]), 0.3)
    figure, axes = canvas(1.3 + room.sum(), 2, sharey=True)
    with matplotlib.rc_context(STYLE):
        for axis, names in zip(axes, (COLUMNS[2:5], COLUMNS[5:8]), strict=True):
            for kind in KINDS:
                some = (table["kind"] == kind).to_numpy()
                if some.any():
                    _marks(axis, table[some], names, places[some], kind)
            axis.xaxis.set_major_locator(MaxNLocator(3, steps=STEPS))
            axis.margins(x=0.08)
        for place, p in zip(places, table["p_holm"], strict=True):
            if np.isfinite(p):
                axes[1].annotate(_chance(p), (1.03, place), xycoords=("axes fraction", "data"), va="center",
                                 fontsize=SMALL, annotation_clip=False)  # fmt: skip
        for axis, line in zip(axes, (CHANCE, 0.0), strict=True):
            axis.axvline(line, color=INK, linestyle=":", linewidth=1)
            rungs(axis, labels, places, room)
        axes[1].annotate("p", (1.03, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=SMALL,
                         annotation_clip=False)  # fmt: skip
        axes[0].set(title="How good?", xlabel="AUC (dotted: chance)")
        axes[1].set(title="Better?", xlabel="difference in AUC")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _marks(axis: Axes, rows: pd.DataFrame, names: tuple[str, ...], places: np.ndarray, kind: str) -> None:
    colour, mark, filled, words = KINDS[kind]
    value, low, high = (rows[name].to_numpy(float) for name in names)
    known = np.isfinite(low) & np.isfinite(high)
    axis.hlines(places[known], low[known], high[known], color=colour, linewidth=1.6)
    face = {} if filled else {"markerfacecolor": "none"}
    axis.plot(value, places, mark, color=colour, markersize=6, label=words, **face)


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
