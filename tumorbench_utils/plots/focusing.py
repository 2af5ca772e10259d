"""Whether saliency maps lie on the tumour: means over cases, and what volume and maps that saw no model give."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .base import CHANCE, CONTROL, INK, OURS, STYLE, canvas, counted, nothing, wrap
from .extraction import SMALL

MEASURES = {  # of saliency.focus: title, and what chance or volume gives, a number or another measure
    "mass_inside": ("mass inside the tumour", "mass_expected"),
    "mass_near": ("mass within {margin:g} mm", "near_expected"),
    "enrichment": ("mass inside, times expected", 1.0),
    "pointing": ("pointing game", "mass_expected"),
    "pointing_near": ("pointing game within {margin:g} mm", "near_expected"),
    "auc": ("AUC for voxels of the tumour", CHANCE),
    "hu_spearman": ("rank correlation with HU", 0.0),
    "bright_mass": ("mass on 200 HU or more", "bright_expected"),
}
BLIND = {  # maps of saliency.blind: what they are called, and how they are drawn
    "centre": (
        "map of the middle",
        {"marker": "x", "ls": "", "color": CONTROL, "ms": 5.5, "mew": 1.6},
    ),
    "brightness": (
        "brightness",
        {"marker": "s", "ls": "", "color": CONTROL, "ms": 4.5, "mfc": "none", "mew": 1.4},
    ),
}
CASE = {"marker": "o", "ls": "", "color": OURS, "ms": 3, "alpha": 0.5, "mew": 0}
FOCUS = ("mass_inside", "mass_near", "pointing", "auc")  # shown unless others are asked for


def focus(
    summary: pd.DataFrame,
    measures: Sequence[str] = FOCUS,
    cases: pd.DataFrame | None = None,
    margin_mm: float = 5.0,
) -> Figure:
    """How far maps lie on the tumour: means over cases with intervals, a row a model, a panel a measure.

    ``summary`` is that of :func:`saliency.summarise` by model: model, measure, value, low, high (NaN: no interval) and
    cases. The upright bar is chance: what volume gives on the same cases (``mass_expected`` and ``near_expected``, if
    the summary has them), or the number in ``MEASURES``. Below it are the maps that saw no model (``auc_centre``,
    ``auc_brightness`` ..., if the summary has them). ``cases`` has model and the measures, a row a case: small dots
    where there is no interval. ``margin_mm`` is what near means.
    """
    measures = [each for each in measures if len(summary) and (summary["measure"] == each).any()]
    if not measures:
        return nothing("No map could be held against a tumour mask.")
    models = list(dict.fromkeys(summary["model"]))
    table = summary.pivot(index="model", columns="measure", values=["value", "low", "high"]).reindex(models)
    counts = summary.groupby("model")["cases"].max()
    words = [[*wrap(model, 88, SMALL), counted(int(counts[model]), "case")] for model in models]
    room = np.array([max(0.34, 0.14 + 0.15 * len(lines)) for lines in words])  # inches
    places, lines = np.cumsum(room) - room / 2, -(-len(measures) // 2)
    figure, axes = canvas(0.75 + lines * (0.65 + room.sum()), 2, lines, sharey=True)
    with matplotlib.rc_context(STYLE):
        for axis, measure in zip(axes, measures, strict=False):
            drawn = _focus_panel(axis, table, measure, places, cases)
            title = MEASURES.get(measure, (measure, np.nan))[0].format(margin=margin_mm)
            axis.set_title("\n".join(wrap(title, 120, 9.5, "bold")))
            axis.set(ylim=(room.sum(), 0))
            if measure == "auc":
                axis.set_xlim(0, 1.02)
            elif measure != "hu_spearman":
                top = max(1.08 * np.nanmax([*drawn, 1e-3]), 0.01)
                axis.set_xlim(-0.03 * top, top)  # a mark at 0 is seen whole
            axis.set_yticks(places, ["\n".join(each) for each in words], fontsize=SMALL, parse_math=False)
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.grid(axis="y", visible=False)
        for axis in axes[len(measures) :]:
            axis.set_visible(False)
        _focus_key(figure, axes[0], table, cases is not None)
    return figure


def _focus_panel(
    axis: Axes, table: pd.DataFrame, measure: str, places: np.ndarray, cases: pd.DataFrame | None
) -> np.ndarray:
    """Draw one measure of every model, and what it is held against; returns all values that were drawn."""
    value, low, high = (table[each, measure].to_numpy(float) for each in ("value", "low", "high"))
    drawn = [value, low, high]
    if cases is not None:
        for place, model in zip(places[np.isnan(low)], table.index[np.isnan(low)], strict=True):
            own = cases.loc[cases["model"] == model, measure].to_numpy(float)
            axis.plot(own, np.full(len(own), place), **CASE)
            drawn.append(own)
    bars = np.clip([value - low, high - value], 0, None)
    axis.errorbar(value, places, xerr=bars, fmt="o", color=OURS, markersize=5, capsize=3)
    chance = MEASURES.get(measure, (measure, np.nan))[1]
    if isinstance(chance, str):
        chance = table["value"].get(chance, np.nan)
    drawn.append(np.broadcast_to(np.asarray(chance, float), len(table)))
    axis.plot(drawn[-1], places, "|", color=INK, markersize=13, markeredgewidth=1.8)
    for name, (_, style) in BLIND.items():
        if f"{measure}_{name}" in table["value"]:
            drawn.append(table["value", f"{measure}_{name}"].to_numpy(float))
            axis.plot(drawn[-1], places + 0.09, **style)
    return np.concatenate(drawn)


def _focus_key(figure: Figure, axis: Axes, table: pd.DataFrame, singly: bool) -> None:
    """The legend of what was drawn."""
    axis.plot([], [], "o", color=OURS, label="mean, 95 % interval")
    if singly and table["low"].isna().any(axis=None):
        axis.plot([], [], **CASE, label="one case")
    axis.plot([], [], "|", color=INK, markersize=11, markeredgewidth=1.8, label="by volume, or chance")
    for name, (words, style) in BLIND.items():
        if table["value"].columns.str.endswith(f"_{name}").any():
            axis.plot([], [], **style, label=words)
    figure.legend(loc="outside upper left", ncols=2)
