"""Figures of data curation: labels, follow-up, ratings, tumour volumes and downloads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .base import INK, MUTED, OURS, SECOND, STYLE, canvas, counted, nothing, percent, wrap

SMALL = 8.5  # points, of text beside marks
LABELS = {1.0: "positive", 0.0: "negative"}
COLOURS = {1.0: OURS, 0.0: MUTED}
HOLLOW = {"facecolor": "none", "edgecolor": INK, "linewidth": 1}  # what was left out
DOTS = 500  # a group of more samples is drawn as so many quantiles
RATINGS = {1: "highly\nunlikely", 2: "moderately\nunlikely", 3: "indeter-\nminate", 4: "moderately\nsuspicious",
           5: "highly\nsuspicious"}  # fmt: skip


def has_follow_up(annotations: pd.DataFrame) -> bool:
    """Whether any sample has a follow-up time and an event."""
    return {"time_days", "event"} <= set(annotations) and not _followed(annotations).empty


def _followed(annotations: pd.DataFrame) -> pd.DataFrame:
    return annotations.dropna(subset=["time_days", "event"])


def survival_curve(axis: Axes, annotations: pd.DataFrame) -> None:
    """Draw the Kaplan-Meier estimate with its 95 % band; ticks are censored samples.

    Columns time_days and event (1 death, 0 censored); samples that lack one are not in the estimate.
    """
    from scipy import stats

    known = _followed(annotations)
    years, dead = known["time_days"].to_numpy() / 365.25, known["event"].to_numpy() == 1
    survival = stats.ecdf(stats.CensoredData(uncensored=years[dead], right=years[~dead])).sf
    x = np.concatenate([[0], survival.quantiles])
    axis.step(x, np.concatenate([[1], survival.probabilities]), where="post", color=OURS, linewidth=1.8)
    with warnings.catch_warnings():  # there is no band where all are dead
        warnings.simplefilter("ignore", RuntimeWarning)
        limits = survival.confidence_interval()
    low, high = (np.concatenate([[1], side.probabilities]) for side in (limits.low, limits.high))
    axis.fill_between(x, low, high, step="post", color=OURS, alpha=0.2, linewidth=0)
    axis.plot(years[~dead], survival.evaluate(years[~dead]), "|", color=OURS, markersize=5)
    axis.axvline(2, color=INK, linestyle="--", linewidth=1)
    clear = "top" if survival.evaluate(2.0) < 0.6 else "bottom"  # away from the curve
    axis.text(2.1, 1.0 if clear == "top" else 0.02, "two years", fontsize=SMALL, va=clear)
    axis.set(xlabel="years of follow-up", ylabel="share alive", ylim=(0, 1.03), title="Follow-up")
    axis.set_xlim(0, max(years.max() * 1.05, 3.5))  # room for the words beside the line


def kaplan_meier(annotations: pd.DataFrame) -> Figure:
    """Kaplan-Meier curve, and below it the numbers at risk: how many are still followed up at a time.

    Columns time_days and event (1 death, 0 censored). Samples that lack one are counted in the title.
    """
    if not has_follow_up(annotations):
        return nothing("No follow-up: no sample has a time and an event.")
    known = _followed(annotations)
    years, dead = known["time_days"].to_numpy() / 365.25, int((known["event"] == 1).sum())
    figure, (axis, below) = canvas(3.3, rows=2, height_ratios=(8, 1))
    with matplotlib.rc_context(STYLE):
        survival_curve(axis, known)
        lacking = f", {len(annotations) - len(known):,} without follow-up" if len(known) < len(annotations) else ""
        axis.set(title=f"{counted(len(known), 'sample')}, {counted(dead, 'death')}{lacking}")
        axis.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
        for year in axis.get_xticks():
            if year <= axis.get_xlim()[1]:
                below.text(year, 0.5, f"{(years >= year).sum():,}", ha="center", va="center", fontsize=SMALL)
        below.set(xlim=axis.get_xlim(), ylim=(0, 1), xticks=[], yticks=[0.5])
        below.set_yticklabels(["at\nrisk"], fontsize=SMALL)
        below.tick_params(length=0, pad=14)
        below.grid(False)
        below.spines[:].set_visible(False)
    return figure


def _labels(annotations: pd.DataFrame) -> pd.Series:
    return annotations["label"] if "label" in annotations else pd.Series(np.nan, annotations.index)


def label_counts(
    annotations: pd.DataFrame, excluded: pd.DataFrame | None = None, names: Mapping[float, str] = LABELS
) -> Figure:
    """Samples by label, and below them, hollow, those left out by reason.

    ``annotations`` may have label (1, 0 or missing), ``excluded`` has reason. ``names`` are the words for the
    labels. Shares are those of the labelled samples.
    """
    labels = _labels(annotations)
    labelled = int(labels.notna().sum())
    rows = [(names[value], int((labels == value).sum()), COLOURS[value]) for value in (1.0, 0.0) if labelled]
    rows += [("no label", len(labels) - labelled, None)] if labelled < len(labels) else []
    if excluded is not None:
        reasons = excluded["reason"].fillna("no reason given").value_counts(sort=False)
        rows += [(f"left out: {reason}", n, None) for reason, n in reasons.items()]
    if not rows:
        return nothing("No samples.")
    words = ["\n".join(wrap(name, 120, 9.5)) for name, _, _ in rows]
    room = np.array([1 + 0.5 * text.count("\n") for text in words])  # of 0.3 inches
    places = np.cumsum(room) - room / 2
    figure, (axis,) = canvas(0.55 + 0.3 * room.sum())
    with matplotlib.rc_context(STYLE):
        for place, (_, n, colour) in zip(places, rows, strict=True):
            axis.barh(place, n, height=0.6, **(HOLLOW if colour is None else {"color": colour}))
            share = f" ({percent(n / labelled)})" if colour and labelled else ""
            axis.annotate(f"{n:,}{share}", (n, place), (4, 0), textcoords="offset points", va="center")
        axis.set_yticks(places, words, parse_math=False)
        most = max(n for _, n, _ in rows)
        axis.set(xlabel="samples", xlim=(0, max(most, 1) * 1.4), ylim=(room.sum(), 0))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.grid(axis="y", visible=False)
    return figure


def raters(readings: pd.Series, means: pd.Series, benign: float = 2.5, malignant: float = 3.5) -> Figure:
    """Malignancy as readers rated it, and the mean of each nodule with the zone that leaves it without a label.

    ``readings`` are ratings 1 to 5, one a reader and nodule; ``means`` one a nodule. Means up to ``benign`` and from
    ``malignant`` on give a label; hollow bars are those between.
    """
    if readings.empty or means.empty:
        return nothing("No ratings.")
    if not (readings.isin(list(RATINGS)).all() and means.between(1, 5).all()):
        raise ValueError("raters: a rating is not 1 to 5; leave out what readers did not rate")
    figure, (top, bottom) = canvas(4.6, rows=2)
    with matplotlib.rc_context(STYLE):
        counts = readings.value_counts().reindex(list(RATINGS), fill_value=0)
        bars = top.bar(list(RATINGS), counts, color=SECOND, width=0.7)
        top.bar_label(bars, [f"{n:,}" for n in counts], padding=2, fontsize=SMALL)
        top.set_xticks(list(RATINGS), [f"{rating}\n{word}" for rating, word in RATINGS.items()], fontsize=SMALL)
        top.set(ylabel="ratings", title=counted(len(readings), "rating"), ylim=(0, max(counts.max(), 1) * 1.15))
        edges = np.linspace(1, 5, 17)
        groups = [means[means <= benign], means[(means > benign) & (means < malignant)], means[means >= malignant]]
        # bins of the benign hold their upper edge, so that no bar reaches into the zone
        heights = [np.histogram(-groups[0], -edges[::-1])[0][::-1]]
        heights += [np.histogram(group, edges)[0] for group in groups[1:]]
        styles = [{"color": MUTED}, HOLLOW, {"color": OURS}]
        base, highest = np.zeros(len(edges) - 1), max(sum(heights).max(), 1)
        for height, style in zip(heights, styles, strict=True):
            some = height > 0
            bottom.bar(edges[:-1][some], height[some], 0.25, bottom=base[some], align="edge", **style)
            base = base + height
        bottom.axvspan(benign, malignant, color=INK, alpha=0.08, linewidth=0)
        places = [(1 + benign) / 2, (benign + malignant) / 2, (malignant + 5) / 2]
        for place, group, word in zip(places, groups, ("benign", "left out", "malignant"), strict=True):
            bottom.text(place, highest * 1.06, f"{len(group):,} {word}", ha="center", fontsize=SMALL)
        bottom.set(
            xlabel="mean rating of a nodule", ylabel="nodules", ylim=(0, highest * 1.22), xlim=(0.9, 5.1),
            title=counted(len(means), "nodule"), xticks=range(1, 6),
        )  # fmt: skip
        for axis in (top, bottom):
            axis.grid(axis="x", visible=False)
    return figure


def volumes(annotations: pd.DataFrame, names: Mapping[float, str] = LABELS) -> Figure:
    """Tumour volume (ml, logarithmic) by label: a dot a sample, below the dots the quartiles.

    Columns volume_ml and, where there is one, label (1 or 0). Volumes that are missing or zero are counted, not
    drawn; of groups of more than 500 samples 500 quantiles are drawn.
    """
    known = annotations["volume_ml"] if "volume_ml" in annotations else pd.Series(dtype=float)
    known = known[known > 0]
    if known.empty:
        return nothing("No tumour volumes.")
    labels = _labels(annotations)
    groups = [(names[value], annotations[labels == value], COLOURS[value]) for value in (1.0, 0.0)]
    groups += [("no label" if labels.notna().any() else "samples", annotations[labels.isna()], SECOND)]
    groups = [(name, rows["volume_ml"], colour) for name, rows, colour in groups if len(rows)]
    low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
    limits = 10.0 ** np.array([low, max(high, low + 1)])
    figure, (axis,) = canvas(0.7 + 0.85 * len(groups))
    with matplotlib.rc_context(STYLE):
        for row, (_, group, colour) in enumerate(groups):
            values = np.sort(group[group > 0])
            if not len(values):
                continue
            dots = values if len(values) <= DOTS else np.quantile(values, np.linspace(0, 1, DOTS))
            jitter = np.random.default_rng(0).uniform(-0.3, 0.1, len(dots))
            axis.plot(dots, row + jitter, "o", color=colour, markersize=3.5, alpha=0.5, markeredgewidth=0)
            quarter, median, three = np.quantile(values, (0.25, 0.5, 0.75))
            axis.plot([quarter, three], [row + 0.28] * 2, color=INK, linewidth=2)
            axis.plot(median, row + 0.28, "o", color=INK, markersize=6)
            left = np.sqrt(quarter * three) > np.sqrt(limits.prod())  # the text goes where there is more room
            place = {"xytext": (-7 if left else 7, 0), "ha": "right" if left else "left"}
            text = f"median {median:.3g} ml"
            axis.annotate(text, (quarter if left else three, row + 0.28), va="center", fontsize=SMALL,
                          textcoords="offset points", **place)  # fmt: skip
        axis.set_yticks(range(len(groups)), [_group_name(name, group) for name, group, _ in groups])
        many = f"; large groups as {DOTS} quantiles" if max(len(group) for _, group, _ in groups) > DOTS else ""
        axis.set(xscale="log", xlim=limits, xlabel=f"tumour volume (ml){many}", ylim=(len(groups) - 0.5, -0.5))
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.grid(axis="y", visible=False)
    return figure


def _group_name(name: str, group: pd.Series) -> str:
    lacking = int((~(group > 0)).sum())
    return f"{name}\nn = {len(group) - lacking:,}" + (f"\n{lacking:,} without" if lacking else "")


def manifest_bars(manifest: pd.DataFrame) -> Figure:
    """What a download costs: size by role with series and patients, and how many slices the CTs have.

    Columns patient_id, role ("ct", "mask"), series_uid, instances, bytes. Series of unknown size are counted.
    """
    if manifest.empty:
        return nothing("No series in the manifest.")
    total = manifest["bytes"].sum()
    scale, unit = (1e9, "GB") if total >= 1e9 else (1e6, "MB")
    roles = sorted(manifest["role"].unique())
    slices = manifest.loc[manifest["role"] == "ct", "instances"].dropna()
    rows = 1 if slices.empty else 2
    heights = (0.5 + 0.62 * len(roles), 2.2)[:rows]
    figure, axes = canvas(0.2 + sum(heights), rows=rows, height_ratios=heights)
    with matplotlib.rc_context(STYLE):
        words, sizes = [], []
        for role in roles:
            part = manifest[manifest["role"] == role]
            unknown = int(part["bytes"].isna().sum())
            sizes.append(part["bytes"].sum() / scale)
            lines = [role.upper() if role == "ct" else role, counted(part["series_uid"].nunique(), "series")]
            lines += [counted(part["patient_id"].nunique(), "patient")]
            words.append("\n".join(lines + ([f"{unknown:,} of unknown size"] if unknown else [])))
        bars = axes[0].barh(range(len(roles)), sizes, color=OURS, height=0.5)
        axes[0].bar_label(bars, [f"{size:,.3g} {unit}" for size in sizes], padding=4)
        axes[0].set_yticks(range(len(roles)), words, fontsize=SMALL)
        axes[0].set(
            xlabel=unit, xlim=(0, (max(sizes) or 1) * 1.3), ylim=(len(roles) - 0.5, -0.5),
            title=f"To download: {total / scale:,.3g} {unit} in {counted(manifest['series_uid'].nunique(), 'series')}",
        )  # fmt: skip
        axes[0].grid(axis="y", visible=False)
        if rows == 2:
            step = max(1, int(np.ceil(np.ptp(slices) / 30)))  # whole slices, so that every bar holds as many counts
            edges = np.arange(slices.min(), slices.max() + step + 1, step) - 0.5
            axes[1].hist(slices, bins=edges, color=OURS)
            axes[1].axvline(slices.median(), color=INK, linestyle="--", linewidth=1)
            axes[1].set_xlim(edges[0] - 2 * step, edges[-1] + 2 * step)
            axes[1].set(xlabel="slices of a CT series", ylabel="series", title=f"Median {slices.median():,.0f} slices")
            axes[1].xaxis.set_major_locator(MaxNLocator(7, integer=True))
            axes[1].yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes[1].grid(axis="x", visible=False)
    return figure
