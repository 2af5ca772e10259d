"""What a saliency page shows, in sentences made from its tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .. import maps, saliency
from ..cohorts import COHORTS, is_phantom
from ..plots.base import counted, percent
from .cases import TITLES, Case
from .measures import Curves, paired

ALIKE, APART = 0.8, 0.2  # rank correlation of maps of trained and random weights: alike from the one on, else in part
INCOMPLETE = 0.05  # of what integrated gradients should sum to
SINGLY = 4  # cases whose values a sentence lists
BLIND = {"centre": "a map of the middle", "brightness": "brightness"}
STUDY = (12, 0.25, "gaussian")  # size, overlap and fill of the study's released code


def settings(size: int, overlap: float, fill: str | float) -> str:
    """How the window of occlusion is set, and whether that is the study."""
    what = f"Window of {size} voxels, overlap {overlap:g}, filling {fill}"
    if (size, overlap, fill) == STUDY:
        return f"{what}: those of the study's released code, which multiplies by one minus a Gaussian."
    was = "12 voxels, 0.25 and gaussian"
    return f"{what}. The study's released code has {was}: these maps are not the study's."


def findings(
    table: pd.DataFrame,
    judged: pd.DataFrame,
    sanity: pd.DataFrame,
    curves: Curves,
    lost: pd.DataFrame,
    cases: Sequence[Case] = (),
) -> str:
    """What the page shows, as a Markdown list; points on phantoms or untrained weights say so.

    ``table`` is the summary of ``judged``, ``cases`` are those of the page's own encoder, whose ``curves`` are told.
    """
    lines = _focused(table, judged) + _against_untrained(judged) + _learnt(sanity)
    lines += _deleted(curves, any(case.untrained for case in cases)) + _complete(cases)
    if len(lost):
        reasons = "the reason is" if lost["reason"].nunique() == 1 else "the reasons are"
        lines.append(f"- {counted(len(lost), 'map')} could not be made or measured; {reasons} above.")
    if not len(table):
        lines = ["- No map could be held against a tumour.", *lines]
    return "\n".join(lines)


def _opening(cohort: str, method: str, untrained: bool = False, both: bool = False) -> str:
    """The mark of a point and what it is of; ``both``: trained weights held against random ones."""
    weights = "PARTLY UNTRAINED" if both else "UNTRAINED" if untrained else ""
    words = [*(["PHANTOM"] if is_phantom(cohort) else []), *([weights] if weights else [])]
    mark = f"{', '.join(words)}: " if words else ""
    return f"- {mark}{COHORTS.get(cohort).title}, {TITLES[method]}"


def _focused(table: pd.DataFrame, judged: pd.DataFrame) -> list[str]:
    lines, keys = [], ["cohort", "untrained", "method"]
    for (cohort, untrained, method), rows in table.groupby(keys, sort=False) if len(table) else ():
        value = rows.set_index("measure")
        mine = (judged["cohort"] == cohort) & (judged["untrained"] == untrained) & (judged["method"] == method)
        own, mean = judged[mine], value["value"]
        lines.append(
            f"{_opening(cohort, method, untrained)}: the tumour has {mean['enrichment']:.1f} times the saliency that "
            f"its volume would give (mean of the cases' ratios, "
            f"{_spread(value.loc['enrichment'], own['enrichment'], '.1f')}; a map of the middle "
            f"of the patch {mean['enrichment_centre']:.1f}, brightness {mean['enrichment_brightness']:.1f}). "
            f"AUC {mean['auc']:.2f}; a map of the middle has {mean['auc_centre']:.2f}, brightness "
            f"{mean['auc_brightness']:.2f}: {_verdict(own)}. Rank correlation with HU {mean['hu_spearman']:+.2f} "
            f"({_spread(value.loc['hu_spearman'], own['hu_spearman'], '+.2f')}); {percent(mean['bright_mass'], 1)} on "
            f"bright voxels outside ({percent(mean['bright_expected'], 1)} by volume)."
        )
    return lines


def _spread(row: pd.Series, values: pd.Series, form: str) -> str:
    """The interval of a mean, or its few cases: all of them, or from the least to the greatest."""
    values = np.sort(values.dropna().to_numpy(float))
    if np.isfinite(row["low"]):
        people = f"{row['patients']} patients"
        return f"{row['low']:{form}} to {row['high']:{form}}, {counted(len(values), 'case')} of {people}"
    written = [f"{value:{form}}" for value in values]
    if len(values) > SINGLY:
        return f"{len(values)} cases of {counted(int(row['patients']), 'patient')}: {written[0]} to {written[-1]}"
    listed = " and ".join([", ".join(written[:-1]), written[-1]] if len(written) > 1 else written)
    return f"{counted(len(values), 'case')}: {listed}" if written else "no case"


def _verdict(own: pd.DataFrame) -> str:
    """Which of the maps that saw no model have a lower mean AUC, as it is printed, and in how many of the cases."""
    auc, blind = own["auc"], own[[f"auc_{name}" for name in saliency.BLIND]].set_axis(list(saliency.BLIND), axis=1)
    means = blind.mean().dropna().round(2)
    lower = means.index[means < round(auc.mean(), 2)]
    others = " or ".join(BLIND[name] for name in means.index.difference(lower, sort=False))
    if lower.empty:
        return f"by AUC not better than {others}" if others else "by AUC not held against these"
    names = "both" if len(lower) == len(saliency.BLIND) else BLIND[lower[0]]
    better = int((auc > blind[lower].max(axis=1)).sum())
    words = f"by AUC better than {names} in {better} of {counted(len(own), 'case')}"
    return f"{words}, not better than {others}" if others else words


def _against_untrained(judged: pd.DataFrame) -> list[str]:
    return [
        f"{_opening(row.cohort, row.method, both=True)}, {counted(row.cases, 'case')} mapped with trained and with "
        f"random weights: enrichment {row.enrichment_trained:.1f} trained, {row.enrichment_untrained:.1f} untrained; "
        f"AUC {row.auc_trained:.2f} and {row.auc_untrained:.2f}."
        for row in paired(judged).itertuples()
    ]


def _learnt(sanity: pd.DataFrame) -> list[str]:
    lines = []
    for (cohort, method), rows in sanity.groupby(["cohort", "method"], sort=False) if len(sanity) else ():
        like, least, most = (getattr(rows["spearman"], name)() for name in ("median", "min", "max"))
        part = " in part" if APART < like < ALIKE else ""
        verdict = "says little of what was learnt" if like >= ALIKE else f"depends{part} on what was learnt"
        several = f"median {like:.2f}, {least:.2f} to {most:.2f} in {len(rows)} cases"
        found = several if len(rows) > 1 else f"{like:.2f}, 1 case"
        lines.append(
            f"{_opening(cohort, method, both=True)}: with random weights of one seed the map has a rank correlation of "
            f"{found}, so it {verdict}."
        )
    return lines


def _deleted(curves: Curves, untrained: bool) -> list[str]:
    groups = {}
    for (cohort, _, method), each in curves.items():
        groups.setdefault((cohort, method), []).append(each.counts)
    return [
        f"{_opening(cohort, method, untrained)}: in {sum(counts)} of {counted(len(counts), 'map')} the most salient "
        "voxels move the embedding earlier than the same map displaced does, along each of the three axes."
        for (cohort, method), counts in groups.items()
    ]


def _complete(cases: Sequence[Case]) -> list[str]:
    """How far integrated gradients miss what they should sum to."""
    errors = [case.figures[maps.GRADIENTS]["completeness"] for case in cases if maps.GRADIENTS in case.figures]
    if not errors:
        return []
    wrong = sum(error > INCOMPLETE for error in errors)
    if not wrong:
        return [
            f"- Integrated gradients miss the sum they should have by {percent(max(errors), 1)} at most, in "
            f"{counted(len(errors), 'map')}."
        ]
    return [
        f"- **Warning**: integrated gradients of {wrong} of {counted(len(errors), 'map')} miss the sum they should "
        f"have by more than {percent(INCOMPLETE)}, at most by {percent(max(errors), 1)}; more `steps` make it less."
    ]
