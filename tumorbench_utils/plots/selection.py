"""The selection flow of a cohort, in the manner of CONSORT."""

from __future__ import annotations

from itertools import pairwise

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from .base import INK, OURS, STYLE, counted, nothing, sheet, wrap

MAIN, SIDE, GAP = 190, (206, 138), 22  # points: width of the boxes; left and width of those beside; between two boxes
SIZE, LINE, PAD = 9, 11.5, 6  # points: text, distance of lines, distance of text from the edge of its box


def consort_text(flow: pd.DataFrame) -> str:
    """The selection flow of :func:`consort` in one sentence, for those who do not see it."""
    steps = []
    for row in flow.fillna({"why": ""}).itertuples():
        out = f"; {row.left_out:,} left out: {row.why}" if row.why or row.left_out else ""
        steps.append(f"{counted(row.kept, row.unit)} ({row.step}{out})")
    return "; then ".join(steps)


def consort(flow: pd.DataFrame) -> Figure:
    """CONSORT-style selection flow: boxes of what is kept, beside them what was left out and why.

    ``flow`` has columns unit ("scan"), step, kept, left_out, why; the first row is what there was. Where the unit
    changes, counting starts anew and the arrow is dashed. A row without ``why`` that leaves out none has no side box.
    """
    if flow.empty:
        return nothing("No selection: the flow has no steps.")
    rows = list(flow.fillna({"why": ""}).itertuples())
    _check(rows)
    kept = [_lines(counted(row.kept, row.unit), row.step, MAIN) for row in rows]
    out = [_lines(f"{row.left_out:,} left out", row.why, SIDE[1]) if row.why or row.left_out else [] for row in rows]
    tops, middles, free = _places([_height(lines) for lines in kept], [_height(lines) for lines in out])
    figure, axis = sheet(max(tops[-1] + _height(kept[-1]), free) + 2)
    with matplotlib.rc_context(STYLE):
        for number, (row, top) in enumerate(zip(rows, tops, strict=True)):
            _box(axis, 2, top, MAIN, kept[number], OURS if number == len(rows) - 1 else "none")
            if not number:
                continue
            same = row.unit == rows[number - 1].unit
            start = tops[number - 1] + _height(kept[number - 1])
            arrow = {"arrowstyle": "-|>", "color": INK, "linestyle": "-" if same else "--", "shrinkA": 0, "shrinkB": 0}
            axis.annotate("", (2 + MAIN / 2, top), (2 + MAIN / 2, start), arrowprops=arrow)
            if out[number]:
                ends = ((SIDE[0], middles[number]), (2 + MAIN / 2, middles[number]))
                axis.annotate("", *ends, arrowprops=arrow | {"linestyle": "-"})
                _box(axis, SIDE[0], middles[number] - _height(out[number]) / 2, SIDE[1], out[number], "none")
    return figure


def _check(rows: list) -> None:
    """:class:`ValueError` for the first step whose counts do not add up."""
    if rows[0].left_out:
        raise ValueError(f"flow: the first step ({rows[0].step}) leaves out {rows[0].left_out}; it is what there was")
    for before, row in pairwise(rows):
        if row.unit == before.unit and row.kept + row.left_out != before.kept:
            raise ValueError(f"flow, step {row.step}: {row.kept} kept + {row.left_out} left out are not {before.kept}")


def _places(kept: list[float], out: list[float]) -> tuple[list[float], list[float], float]:
    """Tops of the boxes, middles of those beside and the end of the last of these, from their heights, all in points.

    A box beside branches off the arrow above its step; where such boxes are high, the arrows grow.
    """
    tops, middles, free = [2.0], [0.0], 2.0
    for height, side in zip(kept, out[1:], strict=False):
        middle = tops[-1] + height + GAP / 2
        if side:
            middle = max(middle, free + side / 2 + 4)
            free = middle + side / 2
        middles.append(middle)
        tops.append(middle + GAP / 2)
    return tops, middles, free


def _lines(count: str, text: str, width: float) -> list[tuple[str, str]]:
    """(weight, line) of a box: the count in bold, below it the wrapped text."""
    inside = width - 2 * PAD
    text = text.replace("<=", "≤").replace(">=", "≥")
    bold = [("bold", line) for line in wrap(count, inside, SIZE, "bold")]
    return bold + [("normal", line) for line in wrap(text, inside, SIZE) if line]


def _height(lines: list) -> float:
    return len(lines) * LINE + 2 * PAD if lines else 0.0


def _box(axis: Axes, left: float, top: float, width: float, lines: list[tuple[str, str]], fill: str) -> None:
    shade = {"facecolor": "none"} if fill == "none" else {"facecolor": (fill, 0.15)}
    style = {"boxstyle": "round,pad=0,rounding_size=3", "edgecolor": INK, "linewidth": 1}
    axis.add_patch(FancyBboxPatch((left, top), width, _height(lines), **style, **shade))
    for number, (weight, line) in enumerate(lines):
        place = (left + PAD, top + PAD + LINE * (number + 0.8))
        axis.text(*place, line, weight=weight, fontsize=SIZE, parse_math=False)
