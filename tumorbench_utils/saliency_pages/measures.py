"""The tables of a saliency page: focus, deletion and likeness of maps, case by case and over cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .. import maps, saliency
from ..cohorts import COHORTS
from ..patches import AIR, oriented
from .cases import LOST, TITLES, Case

STEPS = 8  # of a deletion curve
TIDY = ["cohort", "encoder", "method", "measure", "value", "low", "high", "cases"]

Curves = Mapping[tuple[str, str, str], saliency.Deletion]  # by cohort, sample_id, method


def focus_table(found: Sequence[Case], margin_mm: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`saliency.focus` of every map and :func:`saliency.blind` of its case, and those it cannot be had of
    (cohort, sample_id, encoder, method, reason).

    Columns: cohort, sample_id, patient_id, encoder, untrained, method, and the measures.
    """
    rows, lost = [], []
    for case in found:
        for method, values in case.maps.items():
            about = {"cohort": case.cohort, "sample_id": case.sample_id, "encoder": case.encoder.name, "method": method}
            if case.mask is None:
                lost.append(about | {"reason": case.reason})
                continue
            try:
                measures = saliency.focus(values, case.mask, case.hu, case.spacing, margin_mm)
                measures |= saliency.blind(case.mask, case.hu, case.spacing, margin_mm)
            except saliency.SaliencyError as error:
                lost.append(about | {"reason": str(error)})
                continue
            rows.append(about | {"patient_id": case.patient_id, "untrained": case.untrained} | measures)
    return pd.DataFrame(rows), pd.DataFrame(lost, columns=LOST)


def row_of(untrained: bool, method: str, cohort: str) -> str:
    """What a row of a figure is called."""
    return f"{'untrained' if untrained else 'trained'}, {TITLES[method]}: {COHORTS.get(cohort).title}"


def summary(table: pd.DataFrame, draws: int, seed: int) -> pd.DataFrame:
    """Means by cohort, encoder and method with patient bootstrap intervals; ``model`` names the row of a figure."""
    if table.empty:
        return pd.DataFrame()
    found = saliency.summarise(table, ["cohort", "encoder", "untrained", "method"], draws=draws, seed=seed)
    names = [row_of(*key) for key in zip(found["untrained"], found["method"], found["cohort"], strict=True)]
    return found.assign(model=names)


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """Trained against untrained weights on the cases mapped with both: cohort, method, cases, and means of enrichment
    and auc of each (``enrichment_trained``, ``enrichment_untrained`` ...). Empty without such cases."""
    keys = ["cohort", "sample_id", "method"]
    if table.empty:
        return pd.DataFrame()
    trained, untrained = (table.loc[table["untrained"] == each, [*keys, "enrichment", "auc"]] for each in (False, True))
    both = trained.merge(untrained, on=keys, suffixes=("_trained", "_untrained"))
    groups = both.drop(columns="sample_id").groupby(["cohort", "method"], sort=False)
    return groups.mean().assign(cases=groups.size()).reset_index()


def deletions(
    found: Sequence[Case], batch: int | None, methods: Sequence[str] = maps.METHODS
) -> tuple[Curves, pd.DataFrame]:
    """Deletion curves of maps of ``methods`` by cohort, sample and method, voxels replaced by air; and what has none,
    with the reason."""
    import torch

    curves, lost = {}, []
    for case in found:
        recipe, encoder = case.encoder.recipe, case.encoder
        air = float(recipe.scaled(torch.tensor(float(AIR))))
        patch = torch.from_numpy(np.ascontiguousarray(oriented(case.hu, recipe.axes)))
        image = recipe.scaled(patch.to(encoder.device))[None, None]
        for method in (each for each in case.maps if each in methods):
            values = case.maps[method]
            turned = np.ascontiguousarray(oriented(values, recipe.axes))
            try:
                made = saliency.deletion(encoder.of_values, image, turned, STEPS, air, batch or encoder.batch)
                curves[case.cohort, case.sample_id, method] = made
            except saliency.SaliencyError as error:
                about = {"cohort": case.cohort, "sample_id": case.sample_id, "encoder": encoder.name}
                lost.append(about | {"method": method, "reason": f"deletion: {error}"})
    return curves, pd.DataFrame(lost, columns=LOST)


def sanity_table(trained: Sequence[Case], random: Sequence[Case]) -> pd.DataFrame:
    """How alike the maps of trained and of random weights are: cohort, sample_id, method, spearman, top_overlap."""
    others, rows = {(case.cohort, case.sample_id): case for case in random}, []
    for case in trained:
        other = others.get((case.cohort, case.sample_id))
        for method in case.maps if other else ():
            if method in other.maps:
                found = saliency.alike(case.maps[method], other.maps[method])
                rows.append({"cohort": case.cohort, "sample_id": case.sample_id, "method": method} | found)
    return pd.DataFrame(rows)


def tidy(table: pd.DataFrame, sanity: pd.DataFrame, curves: Curves, model: str) -> pd.DataFrame:
    """Everything that is one number: model, cohort, encoder, method, measure, value, low, high, cases.

    ``deletion counts`` is the share of cases whose area beats all three of the displaced maps, whose mean is
    ``deletion area, displaced``.
    """
    parts = [table[TIDY]] if len(table) else []
    if len(sanity):
        long = sanity.melt(["cohort", "method"], ["spearman", "top_overlap"], "measure")
        parts.append(_middle(long, "median").assign(encoder="trained against random"))
    rows = [
        (cohort, method, measure, value)
        for (cohort, _, method), each in curves.items()
        for measure, value in (
            ("deletion area", each.area),
            ("deletion area, displaced", each.displaced_area.mean()),
            ("deletion counts", float(each.counts)),
        )
    ]
    if rows:
        parts.append(_middle(pd.DataFrame(rows, columns=["cohort", "method", "measure", "value"]), "mean"))
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return found.reindex(columns=TIDY).assign(model=model)[["model", *TIDY]]


def _middle(long: pd.DataFrame, how: str) -> pd.DataFrame:
    """Value by cohort, method and measure over cases, and how many these are."""
    groups = long.groupby(["cohort", "method", "measure"], sort=False)["value"]
    return groups.agg(value=how, cases="size").reset_index()
