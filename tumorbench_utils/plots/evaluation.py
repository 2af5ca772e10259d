"""Figures of the kNN stage: the samples, AUCs, curves and differences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .base import CHANCE, CONTROL, INK, MUTED, OURS, PUBLISHED, SECOND, STYLE, canvas, percent, wrap
from .curation import has_follow_up, survival_curve


def cohort_glance(annotations: pd.DataFrame, endpoint: str) -> Figure:
    """Class balance, and where there is follow-up the Kaplan-Meier curve (x in years)."""
    followed = has_follow_up(annotations)
    figure, axes = canvas(2.6, 2 if followed else 1, **({"width_ratios": (2, 3)} if followed else {}))
    with matplotlib.rc_context(STYLE):
        counts = annotations["label"].value_counts().reindex([1.0, 0.0], fill_value=0)
        bars = axes[0].bar(["positive", "negative"], counts, color=[OURS, MUTED], width=0.6)
        axes[0].bar_label(bars, [f"{n:,}\n{percent(n / counts.sum())}" for n in counts], padding=2)
        title = "\n".join(wrap(endpoint, 110 if followed else 260, STYLE["axes.titlesize"], "bold"))
        axes[0].set(ylabel="samples", title=title, ylim=(0, counts.max() * 1.25))
        axes[0].grid(axis="x", visible=False)
        if followed:
            survival_curve(axes[1], annotations)
    return figure


def auc_forest(table: pd.DataFrame) -> Figure:
    """AUC with interval, one row a name, one mark a series.

    ``table`` has the columns title, series, auc, low, high; rows keep their order, series "published" is hollow.
    """
    names, series = list(dict.fromkeys(table["title"])), list(dict.fromkeys(table["series"]))
    colours = dict(zip([name for name in series if name != "published"], (OURS, SECOND, CONTROL), strict=False))
    figure, (axis,) = canvas(0.9 + 0.42 * len(names) + 0.16 * len(series))
    offsets = np.linspace(-0.2, 0.2, len(series)) if len(series) > 1 else [0.0]
    with matplotlib.rc_context(STYLE):
        for name, offset in zip(series, offsets, strict=True):
            rows = table[table["series"] == name]
            place = [names.index(title) + offset for title in rows["title"]]
            published = name == "published"
            axis.errorbar(
                rows["auc"],
                place,
                xerr=[rows["auc"] - rows["low"], rows["high"] - rows["auc"]],
                fmt="D" if published else "o",
                color=PUBLISHED if published else colours[name],
                markerfacecolor="none" if published else colours[name],
                markersize=6,
                capsize=3,
                label="as published" if published else name,
            )
        axis.axvline(CHANCE, color=INK, linestyle=":", linewidth=1)
        axis.set_yticks(range(len(names)), names)
        axis.set(xlabel="AUC (dotted: chance)", ylim=(len(names) - 0.5, -0.5))
        axis.locator_params(axis="x", nbins=6)
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def validation_curves(curves: np.ndarray, chosen: Sequence[int], study: pd.DataFrame, split: int) -> Figure:
    """Validation AUC over k: every split, the mean, and the Optuna trials (k, auc) of one ``split`` over ours."""
    figure, (axis,) = canvas(3.1)
    k = np.arange(1, curves.shape[1] + 1)
    with matplotlib.rc_context(STYLE):
        axis.plot(k, curves.T, color=MUTED, linewidth=0.7, alpha=0.6)
        axis.plot([], [], color=MUTED, linewidth=0.7, label=f"{len(curves)} splits")
        axis.plot(k, curves.mean(axis=0), color=OURS, linewidth=2.2, label="their mean")
        axis.plot(k, curves[split], color=CONTROL, linewidth=1.4, label=f"split {split}")
        axis.plot(study["k"], study["auc"], "o", color=SECOND, markersize=3.5, markerfacecolor="none")
        axis.plot([], [], "o", color=SECOND, markersize=4, markerfacecolor="none", label=f"Optuna, split {split}")
        axis.plot(chosen, curves[np.arange(len(curves)), np.asarray(chosen) - 1], "v", color=INK, markersize=5)
        axis.plot([], [], "v", color=INK, markersize=5, label="chosen k")
        axis.axhline(CHANCE, color=INK, linestyle=":", linewidth=1)
        axis.set(xlabel="neighbours k", ylabel="validation AUC", xlim=(0, k[-1] + 1))
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def roc_bands(predictions: Mapping[str, pd.DataFrame]) -> Figure:
    """Mean ROC curve over splits with the central 95 % of the splits; (split, label, probability) by title."""
    from sklearn.metrics import roc_curve

    figure, (axis,) = canvas(4.6)
    grid = np.linspace(0, 1, 101)
    colours = itertools.cycle([OURS, SECOND, CONTROL, MUTED])
    with matplotlib.rc_context(STYLE):
        for (title, frame), colour in zip(predictions.items(), colours, strict=False):
            curves = []
            for _, rows in frame.groupby("split"):
                false_positive, true_positive, _ = roc_curve(rows["label"], rows["probability"])
                curves.append(np.interp(grid, false_positive, true_positive))
            low, high = np.quantile(curves, (0.025, 0.975), axis=0)
            axis.plot(grid, np.mean(curves, axis=0), color=colour, linewidth=1.8, label=title)
            axis.fill_between(grid, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
        axis.set(
            xlabel="false positive rate",
            ylabel="true positive rate",
            aspect="equal",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        figure.legend(loc="outside upper left", ncols=2 if len(predictions) > 3 else 1)
    return figure


def differences(table: pd.DataFrame) -> Figure:
    """Paired AUC differences with intervals; ``table`` has control, difference, low, high, p_holm."""
    figure, (axis,) = canvas(0.8 + 0.42 * len(table))
    with matplotlib.rc_context(STYLE):
        place = np.arange(len(table))
        error = [table["difference"] - table["low"], table["high"] - table["difference"]]
        axis.errorbar(table["difference"], place, xerr=error, fmt="o", color=CONTROL, markersize=6, capsize=3)
        for row, (high, p) in enumerate(zip(table["high"], table["p_holm"], strict=True)):
            axis.annotate(
                f"p = {p:.3f}",
                (high, row),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        axis.axvline(0, color=INK, linestyle=":", linewidth=1)
        axis.set_yticks(place, table["control"])
        axis.set(xlabel="difference in AUC", ylim=(len(table) - 0.5, -0.5))
        axis.margins(x=0.22)
        axis.locator_params(axis="x", nbins=6)
        axis.grid(axis="y", visible=False)
    return figure


def spread(samples: Mapping[str, Sequence[float]], marks: Mapping[str, float], label: str) -> Figure:
    """Distributions of one quantity, a row each, and vertical marks: what a choice that should not matter does."""
    figure, (axis,) = canvas(1.2 + 0.7 * len(samples))
    with matplotlib.rc_context(STYLE):
        for row, values in enumerate(samples.values()):
            jitter = np.random.default_rng(0).uniform(-0.22, 0.22, len(values))
            axis.plot(values, row + jitter, "o", color=OURS, markersize=3, alpha=0.35, markeredgewidth=0)
            axis.plot(np.quantile(values, (0.025, 0.975)), [row, row], color=OURS, linewidth=2.2)
            axis.plot(np.mean(values), row, "o", color=OURS, markersize=8)
        for (name, value), colour in zip(marks.items(), (SECOND, CONTROL, MUTED), strict=False):
            axis.axvline(value, color=colour, linestyle="--", linewidth=1.4, label=f"{name}: {value:.3f}")
        axis.set_yticks(range(len(samples)), list(samples))
        axis.set(xlabel=label, ylim=(len(samples) - 0.5, -0.5))
        axis.locator_params(axis="x", nbins=6)
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def auc_heatmap(table: pd.DataFrame) -> Figure:
    """Models by cohorts, coloured by AUC; ``table`` is indexed by model title, a column a cohort title."""
    import seaborn as sns

    figure, (axis,) = canvas(1.2 + 0.34 * len(table))
    with matplotlib.rc_context(STYLE):
        sns.heatmap(
            table, ax=axis, annot=True, fmt=".2f", cmap="vlag", center=CHANCE, vmin=0.2, vmax=0.8,
            linewidths=1, cbar_kws={"label": "AUC"}, annot_kws={"fontsize": 9, "color": "#1a1a1a"},
        )  # fmt: skip
        axis.set(xlabel="", ylabel="")
        axis.set_xticks(axis.get_xticks(), list(table), rotation=30, ha="right", rotation_mode="anchor")
        axis.grid(False)
    return figure
