"""Figures of the book: tables in, figures out, in one style.

A figure is shown as inline SVG with its caption and alternative text, so that it is sharp on a phone and its text
takes the colour of the page, light or dark.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from scipy import stats
from sklearn.metrics import roc_curve

# Okabe and Ito's colours, told apart by colour-blind readers and on light and dark pages
OURS, PUBLISHED, CONTROL, SECOND, MUTED = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"
THEMED = {"--tb-ours": OURS, "--tb-published": PUBLISHED, "--tb-control-2": CONTROL, "--tb-control": MUTED}
INK = "#010203"  # stands for the page's own text colour
WIDTH = 4.8  # inches: about the width of a phone, so that text of 9.5 points is nowhere too small
CHANCE = 0.5

STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "font.size": 9.5,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "tumorbench",
}


class Shown:
    """A figure as a page shows it: inline SVG, caption below, ``alt`` for those who do not see it."""

    def __init__(self, figure: Figure, caption: str, alt: str):
        self.svg, self.caption, self.alt = inline_svg(figure, alt), caption, alt

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>"
        return f'<figure class="tb-figure">{self.svg}{caption}</figure>'

    def __repr__(self) -> str:
        return f"Figure: {self.caption}"


def inline_svg(figure: Figure, alt: str) -> str:
    """The figure as an ``<svg>`` element that fills its column and takes the page's text colour."""
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).replace(INK, "currentColor")
    for name, colour in THEMED.items():  # a page may define lighter shades for its dark theme
        svg = svg.replace(colour.lower(), f"var({name}, {colour})")
    # identifiers must differ between the figures of one page
    prefix = "f" + hashlib.sha256((alt + svg).encode()).hexdigest()[:8] + "-"
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    size = f'style="width:100%;height:auto;max-width:{WIDTH * 130:.0f}px"'
    opening = f' role="img" aria-label="{html.escape(alt, quote=True)}" {size}'
    return re.sub(r' width="[^"]*pt" height="[^"]*pt"', opening, svg, count=1)


def canvas(height: float, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """A figure of the book's width and ``height`` inches with its axes, (columns,)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, columns, **options))
        for axis in axes:
            axis.grid(True)
            axis.set_axisbelow(True)
    return figure, axes


def cohort_glance(annotations: pd.DataFrame, endpoint: str) -> Figure:
    """Class balance, and where there is follow-up the Kaplan-Meier curve (x in years)."""
    followed = {"time_days", "event"} <= set(annotations) and annotations["time_days"].notna().any()
    figure, axes = canvas(2.6, 2 if followed else 1, **({"width_ratios": (2, 3)} if followed else {}))
    with matplotlib.rc_context(STYLE):
        counts = annotations["label"].value_counts().reindex([1.0, 0.0], fill_value=0)
        bars = axes[0].bar(["positive", "negative"], counts, color=[OURS, MUTED], width=0.6)
        axes[0].bar_label(bars, [f"{n:,}\n{n / counts.sum():.0%}" for n in counts], padding=2)
        axes[0].set(ylabel="samples", title=endpoint, ylim=(0, counts.max() * 1.25))
        axes[0].grid(axis="x", visible=False)
        if followed:
            _kaplan_meier(axes[1], annotations)
    return figure


def _kaplan_meier(axis: Axes, annotations: pd.DataFrame) -> None:
    years, dead = annotations["time_days"].to_numpy() / 365.25, annotations["event"].to_numpy() == 1
    survival = stats.ecdf(stats.CensoredData(uncensored=years[dead], right=years[~dead])).sf
    limits = survival.confidence_interval()
    x = np.concatenate([[0], survival.quantiles])
    axis.step(x, np.concatenate([[1], survival.probabilities]), where="post", color=OURS, linewidth=1.8)
    low, high = (np.concatenate([[1], side.probabilities]) for side in (limits.low, limits.high))
    axis.fill_between(x, low, high, step="post", color=OURS, alpha=0.2, linewidth=0)
    axis.plot(years[~dead], survival.evaluate(years[~dead]), "|", color=OURS, markersize=5)
    axis.axvline(2, color=INK, linestyle="--", linewidth=1)
    axis.text(2.1, 1.0, "two years", fontsize=8.5, va="top")
    axis.set(xlabel="years of follow-up", ylabel="share alive", ylim=(0, 1.03), xlim=(0, None), title="Follow-up")


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
    figure, (axis,) = canvas(4.6)
    grid = np.linspace(0, 1, 101)
    colours = sns.color_palette([OURS, SECOND, CONTROL, MUTED], len(predictions))
    with matplotlib.rc_context(STYLE):
        for (title, frame), colour in zip(predictions.items(), colours, strict=True):
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


def table(frame: pd.DataFrame, caption: str = "", digits: int = 3, published: Sequence[str] = ()) -> Styler:
    """A table for a page: numbers with ``digits`` decimals, no index, a caption; ``published`` columns are marked."""
    marks = pd.DataFrame("tb-published", index=frame.index, columns=list(published))
    styler = frame.style.format(precision=digits, thousands=",", na_rep="–").hide(axis="index").set_td_classes(marks)
    styler.set_uuid(hashlib.sha256((caption + frame.to_csv()).encode()).hexdigest()[:8])  # else a random one
    return styler.set_caption(caption) if caption else styler


def provenance(record: Mapping) -> Styler:
    """What a page was made of: versions, parameters and the start of each input's SHA-256."""
    rows = [("version", version, name) for name, version in record["versions"].items()]
    rows += [("parameter", value, name) for name, value in record["parameters"].items()]
    rows += [("input, SHA-256", f"{digest[:16]}…", name) for name, digest in record["inputs"].items()]
    return table(pd.DataFrame(rows, columns=["what", "value", "name"]), "What this page was made of")
