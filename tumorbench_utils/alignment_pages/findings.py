"""What the alignment page shows, in sentences made from its tables; and its tables, written."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from .. import alignment, artefacts, statistics
from ..alignment import Alignment
from ..plots.base import counted, percent
from ..plots.several import listed
from .combining import combined_found
from .showing import extremes, pair_title

PAIRS = ["first", "second", "k", "shared", "low", "high", "chance", "chance_low", "chance_high", "p", "p_holm", "cka"]
PAIRS += ["shared_given_volume"]
LEVEL = alignment.chance.LEVEL


def findings(aligned: Alignment, titles: Mapping[str, str], mark: str, combined: pd.DataFrame | None = None) -> str:
    """A Markdown list, that of ensembles last (a table of ``combining``); every point bears the mark of the page."""
    pairs, opening = aligned.pairs, f"{mark.upper()}: " if mark else ""
    above = int((pairs["p_holm"] < LEVEL).sum())
    points = [
        f"{above} of {len(pairs)} pairs share more neighbours than unrelated embeddings do "
        f"({alignment.chance.expected(aligned.n, aligned.k):.2f} of {aligned.k} by chance). Shared "
        f"{extremes(pairs, 'shared', titles)}."
    ]
    models = aligned.models.sort_values("average", ascending=False)
    if len(models) > 2:
        first, last = models.iloc[0], models.iloc[-1]
        points.append(
            f"Most like the others on average is {titles[first['model']]} ({_of(first)}), least "
            f"{titles[last['model']]} ({_of(last)})."
        )
    points += [words for words in (_beyond(aligned, titles), _size(aligned, titles), _label(aligned, titles)) if words]
    points += [] if combined is None else combined_found(combined)
    return "\n".join(f"- {opening}{point}" for point in points)


def _of(row: pd.Series) -> str:
    return f"{row['average']:.2f}, {row['low']:.2f} to {row['high']:.2f}"


def _beyond(aligned: Alignment, titles: Mapping[str, str]) -> str:
    """How much of what pairs share samples of like volume share anyway."""
    pairs = aligned.pairs
    if pairs["shared_given_volume"].isna().all():
        return ""
    part = _part(pairs, "volume")
    left = pairs[(pairs["p_holm"] < LEVEL) & ~(pairs["p_given_volume_holm"] < LEVEL)]
    names = listed((pair_title(row.first, row.second, titles) for row in left.itertuples()), ", ")
    told = f"Of what pairs share beyond chance, at least {percent(part)} goes with volume alone." if part > 0 else ""
    return f"{told} Pairs above chance, but not above what samples of like volume share: {names or 'none'}.".strip()


def _part(pairs: pd.DataFrame, name: str) -> float:
    """Share of the overlap beyond chance, of all pairs together, that is left if samples keep this; from 0 on."""
    excess = (pairs["shared"] - pairs["chance"]).sum()
    part = (pairs[f"shared_given_{name}"] - pairs["chance"]).sum() / excess if excess > 0 else 0.0
    return max(0.0, float(part))


def _size(aligned: Alignment, titles: Mapping[str, str]) -> str:
    """How many find neighbours of like volume; the volume itself, which must, is not counted."""
    models = aligned.models[aligned.models["volume"].notna() & (aligned.models["model"] != "volume")]
    if models.empty:
        return ""
    most = models.loc[models["volume"].idxmax()]
    seen = int((statistics.holm(models["volume_p"]) < LEVEL).sum())
    return (
        f"Neighbours of like volume are found beyond chance ({most['volume_chance']:.2f}) by {seen} of "
        f"{counted(len(models), 'embedding')} (Holm), most by {titles[most['model']]} ({most['volume']:.2f} of "
        f"{aligned.k})."
    )


def _label(aligned: Alignment, titles: Mapping[str, str]) -> str:
    models = aligned.models[aligned.models["label"].notna()]
    if models.empty:
        return ""
    most = models.loc[models["label"].idxmax()]
    seen = int((statistics.holm(models["label_p"]) < LEVEL).sum())
    return (
        f"Neighbours of the same label are found beyond chance ({percent(most['label_chance'], 1)}) by {seen} of "
        f"{counted(len(models), 'embedding')} (Holm), most by {titles[most['model']]} ({percent(most['label'], 1)}). "
        f"Of what pairs share beyond chance, {percent(_part(aligned.pairs, 'label'))} goes with the label alone."
    )


def tidy(aligned: Alignment, cohort: str, titles: Mapping[str, str]) -> pd.DataFrame:
    """One number of one model a row: cohort, model, title, quantity, value; what is not known has no row."""
    models = aligned.models.rename(columns={"low": "average_low", "high": "average_high"})
    numbers = list(models.select_dtypes("number"))
    long = models.melt("model", numbers, "quantity", "value").dropna(subset=["value"])
    long = long.assign(cohort=cohort, title=long["model"].map(titles))
    return long[["cohort", "model", "title", "quantity", "value"]].reset_index(drop=True)


def save(stem: str, aligned: Alignment, cohort: str, titles: Mapping[str, str], record: Mapping) -> None:
    """Write ``<stem>.pairs.csv``, one row a pair, and last ``<stem>.csv``, one row a model and quantity."""
    rest = [name for name in aligned.pairs if name not in PAIRS]
    artefacts.write_csv(f"{stem}.pairs.csv", aligned.pairs[PAIRS + rest], record)
    artefacts.write_csv(f"{stem}.csv", tidy(aligned, cohort, titles), record)
