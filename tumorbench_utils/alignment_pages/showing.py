"""Figures and tables of the alignment page, with captions from the numbers of this run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .. import alignment
from ..alignment import Alignment
from ..plots import Several, Shown
from ..plots.alignment import confound_forest, overlap_curves, overlap_maps, pairs_forest
from ..plots.base import percent
from ..plots.several import listed
from .study import K, comparison, extracted_here, published_pairs, published_titles

MOST = 15  # pairs in one forest
LINES = 20  # pairs in the table of the page; the file has all
PUBLISHED, OURS = "As published", "This run"


def pair_title(first: str, second: str, titles: Mapping[str, str]) -> str:
    """How a pair of embedding tables is called."""
    return f"{titles.get(first, first)} – {titles.get(second, second)}"


def entitled(table: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """A symmetric table by model under the models' titles."""
    return table.rename(index=titles, columns=titles)


def extremes(
    pairs: pd.DataFrame, column: str, titles: Mapping[str, str], words: tuple[str, str] = ("most by", "least by")
) -> str:
    """The pair of the highest and that of the lowest value of a column, in words."""
    known = pairs[pairs[column].notna()]
    if known.empty:
        return "no value is known"
    told = [
        f"{name} {pair_title(row['first'], row['second'], titles)} ({row[column]:.2f})"
        for name, row in ((words[0], known.loc[known[column].idxmax()]), (words[1], known.loc[known[column].idxmin()]))
    ]
    return ", ".join(told[: min(2, len(known))])


def map_shown(aligned: Alignment, titles: Mapping[str, str], mark: str) -> Shown:
    """The overlap of all pairs of this run as a map, like models side by side."""
    told = extremes(aligned.pairs, "shared", titles)
    caption = (
        f"Mean number of the {aligned.k} nearest neighbours (cosine) that two embeddings share, {aligned.n:,} samples; "
        f"unrelated embeddings share {alignment.chance.expected(aligned.n, aligned.k):.2f}. Models are ordered, and "
        f"the tree drawn, by average linkage of 1 − share. Shared {told}."
    )
    words = f"mean number of common neighbours of {aligned.k}"
    figure = overlap_maps({OURS: entitled(aligned.matrix, titles)}, aligned.k, words=words)
    return Shown(figure, caption, f"Map of {len(aligned.near)} by {len(aligned.near)} models. Shared {told}.", mark)


def published_shown(
    aligned: Alignment, cohort: str, records: Mapping[str, Mapping], titles: Mapping[str, str], mark: str
) -> Shown | None:
    """The study's map of the cohort and below it this run's by the same recipe; None if the study has none.

    If no pair of this run is of the study's recipe, the published map stands alone, which its caption says.
    """
    study, names = published_pairs(cohort), published_titles()
    if study.empty:
        return None
    both = comparison(aligned, cohort, records)
    words = f"mean number of common neighbours of {K}"
    told = extremes(study, "published", names)
    if both.empty:
        theirs = alignment.matrix(_pairs(study), study["published"])
        caption = (
            f"As published, not of this run: mean number of shared neighbours of {K} for {len(study)} pairs of the "
            f"study's models on this cohort. No two tables of this run are of the study's recipe (k = {aligned.k}), so "
            f"nothing is held against it here. Shared {told}."
        )
        figure = overlap_maps({PUBLISHED: entitled(theirs, names)}, K, published=[PUBLISHED], words=words)
        return Shown(figure, caption, f"As published: map of {len(theirs)} models. Shared {told}.")
    maps = {
        name: entitled(alignment.matrix(_pairs(both), both[column], np.nan), titles)
        for name, column in ((PUBLISHED, "published"), (OURS, "shared"))
    }
    farthest = both.loc[both["difference"].abs().idxmax()]
    differs = (
        f"{len(both)} pairs of both; they differ by {both['difference'].abs().mean():.3f} on average, and by "
        f"{farthest['difference']:+.3f} at most ({pair_title(farthest['first'], farthest['second'], titles)})"
    )
    own = extracted_here(records)
    whose = f"extracted here by the study's recipe: {listed((titles.get(name, name) for name in own), ', ')}"
    whose = f"this run ({whose})" if own else "this run, of the features that the study released"
    caption = f"Mean number of shared neighbours of {K}. Above, as published; below, {whose}. {differs}."
    figure = overlap_maps(maps, K, published=[PUBLISHED], words=words)
    return Shown(figure, caption, f"Two maps of {len(maps[OURS])} models, as published and this run. {differs}.", mark)


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(table[["first", "second"]].itertuples(index=False, name=None))


def pairs_shown(
    aligned: Alignment, cohort: str, records: Mapping[str, Mapping], titles: Mapping[str, str], mark: str
) -> Shown:
    """Each pair beside what unrelated embeddings share and, where known, those that see the volume alone."""
    rows = aligned.pairs.merge(comparison(aligned, cohort, records)[["first", "second", "published"]], "left")
    rows = rows.sort_values("shared", ascending=False, kind="stable", ignore_index=True)
    rows["title"] = [pair_title(row.first, row.second, titles) for row in rows.itertuples()]
    above = int((rows["p_holm"] < alignment.chance.LEVEL).sum())
    told = f"Above chance: {above} of {len(rows)} pairs (p < 0.05 after Holm's correction)"
    if rows["shared_given_volume"].notna().any():
        beyond = int((rows["p_given_volume_holm"] < alignment.chance.LEVEL).sum())
        told += f"; above what samples of like volume share: {beyond}"
    some = f"The {MOST} pairs of most overlap; all {len(rows)} are in the results. " if len(rows) > MOST else ""
    caption = (
        f"{some}Shared neighbours of {aligned.k} with 95 % interval (patients drawn with replacement), and the central "
        f"95 % of {aligned.permutations:,} permutations of the samples: all (chance), or among samples of like "
        f"volume, where it is known. {told}."
    )
    return Shown(pairs_forest(rows[:MOST]), caption, f"Dot plot of pairs. {told}.", mark)


def pairs_words(aligned: Alignment, titles: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """Pairs with their intervals in words, and which they are: of many those that share most and least.

    What is not known of any pair has no column; CKA has a map of its own on the page.
    """
    rows, which = aligned.pairs.sort_values("shared", ascending=False, kind="stable"), "All pairs"
    if len(rows) > LINES:
        rows = pd.concat([rows[: LINES // 2], rows[-LINES // 2 :]])
        which = f"Of {len(aligned.pairs)} pairs the {LINES // 2} that share most and the {LINES // 2} that share least"
    table = pd.DataFrame({"pair": [pair_title(row.first, row.second, titles) for row in rows.itertuples()]})
    levels = {
        f"shared of {aligned.k}": ("shared", "low", "high"),
        "chance": ("chance", "chance_low", "chance_high"),
        "given volume": tuple(f"shared_given_volume{end}" for end in ("", "_low", "_high")),
        "given label": tuple(f"shared_given_label{end}" for end in ("", "_low", "_high")),
    }
    for name, columns in levels.items():
        if rows[columns[0]].notna().any():
            table[name] = [_interval(*values) for values in rows[list(columns)].to_numpy(float)]
    numbers = {"p": "p_holm", "p, volume": "p_given_volume_holm"}
    for place, (name, column) in enumerate(numbers.items(), 2):  # beside what they are of
        if rows[column].notna().any():
            table.insert(place, name, rows[column].to_numpy())
    return table, which


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f}" + (f" ({low:.2f} to {high:.2f})" if np.isfinite([low, high]).all() else "")


def curves_shown(aligned: Alignment, titles: Mapping[str, str], mark: str) -> Shown:
    """The share in common over k."""
    curves = aligned.curves.assign(
        first=aligned.curves["first"].map(titles), second=aligned.curves["second"].map(titles)
    )
    last = int(curves["k"].max())
    ends = curves[curves["k"].isin([1, aligned.k, last])].groupby("k")[["share", "chance"]].mean()
    told = "; ".join(
        f"k = {k}: {percent(row['share'])} (chance {percent(row['chance'], 1)})" for k, row in ends.iterrows()
    )
    caption = (
        f"Mean share of common neighbours at k = 1 to {last}, grey: one line a pair; in colour, the pairs of most and "
        f"least overlap at k = {aligned.k} (line). Any two share more as k grows, unrelated ones too. Mean of all "
        f"pairs at {told}."
    )
    return Shown(overlap_curves(curves, aligned.k), caption, f"Curves over k. Mean of all pairs at {told}.", mark)


def cka_shown(aligned: Alignment, titles: Mapping[str, str], mark: str) -> Shown:
    """Debiased CKA of all pairs, and whether it says the same as neighbours do."""
    told = extremes(aligned.pairs, "cka", titles, ("highest for", "lowest for"))
    known = aligned.pairs[["shared", "cka"]].dropna()
    both = (
        f" Over {len(known)} pairs its rank correlation with shared neighbours is "
        f"{known.corr('spearman').iloc[0, 1]:.2f} (Spearman)."
        if len(known) > 3 and (known.nunique() > 1).all()
        else ""
    )
    caption = (
        f"Debiased linear CKA: do the embeddings have the same large directions? 0 for unrelated ones, 1 for those "
        f"that differ by a rotation and a scale. It is {told}.{both}"
    )
    figure = overlap_maps({OURS: entitled(aligned.of("cka", 1.0), titles)}, 1, words="debiased linear CKA", digits=2)
    return Shown(figure, caption, f"Map of debiased CKA. It is {told}.{both}", mark)


def confounds_shown(aligned: Alignment, titles: Mapping[str, str], mark: str) -> Shown | Several | None:
    """What each model finds alike, size and label, each beside chance; None if neither is known."""
    models = aligned.models.assign(title=aligned.models["model"].map(titles))
    about = {
        "volume": (
            "Neighbours of like size?",
            f"neighbours of {aligned.k} that are among the {aligned.k} nearest in volume",
        ),
        "label": ("Neighbours of the same label?", f"share of the {aligned.k} neighbours with the sample's own label"),
    }
    shown = []
    for name, (title, words) in about.items():
        if models[name].isna().all():
            continue
        told = listed(
            f"{row['title']} {row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
            for _, row in models.iterrows()
        )
        level = models[f"{name}_chance"].iloc[0]
        caption = (
            f"Mean over samples: {words}, with 95 % interval, and the central 95 % of {aligned.permutations:,} "
            f"permutations around {level:.2f}, which chance gives. {told}."
        )
        figure = confound_forest(models, name, title, words)
        shown.append(Shown(figure, caption, f"Dot plot by model, chance {level:.2f}. {told}.", mark))
    return None if not shown else shown[0] if len(shown) == 1 else Several(shown)


def confounds_lacking(aligned: Alignment, mark: str = "") -> str:
    """What could not be looked at, and why, as a Markdown list; empty if nothing is lacking."""
    opening = f"{mark.upper()}: " if mark else ""
    return "\n".join(f"- {opening}Not shown: {each}." for each in aligned.lacking)


def ties(vectors: Mapping[str, np.ndarray], k: int) -> tuple[dict[str, int], list[str]]:
    """How many samples of each model have a twin or tied neighbours, where there are any, and the models without."""
    found = {name: int(alignment.tied(each, k).sum()) for name, each in vectors.items()}
    tied = {name: count for name, count in found.items() if count}
    return tied, [name for name in vectors if name not in tied]


def ties_words(tied: Mapping[str, int], clear: Sequence[str], titles: Mapping[str, str]) -> str:
    """What was compared with scikit-learn, and what not and why, in words."""
    pairs = len(clear) * (len(clear) - 1) // 2
    words = f"In all {pairs} pairs of {len(clear)} models scikit-learn gives the same number."
    if tied:
        names = listed((f"{titles.get(name, name)} ({count:,})" for name, count in tied.items()), ", ")
        words += (
            f" Left out are models with samples (in brackets how many) that have a twin or equally near neighbours, "
            "since there scikit-learn may drop the twin in place of the sample itself, or take either neighbour: "
            f"{names}."
        )
    return words
