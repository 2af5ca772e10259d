"""Perturbed patches and negative controls: what another scanner does, and whether the tumour is read at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import bank, embeddings, plots, robustness, stress
from ..cohorts import is_phantom
from ..models import Encoder
from ..plots import Several, Shown
from ..robustness.controls import CONTROLS
from ..robustness.perturbations import PERTURBATIONS
from ..robustness.perturbations import perturbed as change
from .showing import in_groups, likeness

SOFT_TISSUE = (40, 400)  # HU, centre and width


def perturbed(
    run: str | Path, cohort: str, encoders: Sequence[Encoder], kinds: Mapping[str, Sequence[float]], options: Mapping
) -> dict[str, stress.Stressed]:
    """Vectors of perturbed patches by encoder; nothing if no kind is asked for."""
    if not kinds:
        return {}
    return {each.name: stress.perturb(run, cohort, each, kinds, **options) for each in encoders}


def scrambled(
    run: str | Path, cohort: str, encoders: Sequence[Encoder], controls: Sequence[str], options: Mapping
) -> dict[str, stress.Stressed]:
    """Vectors of negative controls by encoder; nothing if none is asked for."""
    if not controls:
        return {}
    return {each.name: stress.negative_controls(run, cohort, each, controls, **options) for each in encoders}


def responses(
    found: Mapping[str, stress.Stressed], samples: pd.DataFrame, titles: Mapping[str, str], seed: int
) -> pd.DataFrame:
    """Cosine, agreement of decisions and change in AUC by encoder, kind and size of the perturbation.

    The clean patches stand in the table as size 0 of every kind.
    """
    parts = []
    for name, each in found.items():
        table = _judged(each, samples, seed)
        clean, rest = table.iloc[[0]], table.iloc[1:].reset_index(drop=True)
        keys = pd.DataFrame(list(each.vectors), columns=["kind", "size"])
        zero = [clean.assign(kind=kind, size=0.0) for kind in dict.fromkeys(keys["kind"])]
        parts.append(pd.concat([*zero, pd.concat([rest, keys], axis=1)]).assign(embedding=name, title=titles[name]))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True).drop(columns="name")
    kinds = {kind: PERTURBATIONS.get(kind) for kind in table["kind"].unique()}
    titled_kinds = table["kind"].map({kind: each.title for kind, each in kinds.items()})
    return table.assign(
        kind_title=titled_kinds, unit=table["kind"].map({kind: each.unit for kind, each in kinds.items()})
    )


def _judged(found: stress.Stressed, samples: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Held-out judgement of clean vectors against the others: row 0 is the clean one."""
    known = samples[samples["label"].notna()].set_index("sample_id")
    kept = np.isin(found.sample_id, known.index)
    rows = known.loc[found.sample_id[kept]]
    others = np.stack([vectors[kept] for vectors in found.vectors.values()])
    held = robustness.jitter.held_out(
        found.clean[kept], others, rows["label"].to_numpy(int), rows["patient_id"].to_numpy(), seed=seed
    )
    return held.table([str(key) for key in found.vectors])


def responses_shown(table: pd.DataFrame, marked: str) -> Shown | Several:
    """The response of every embedding to every perturbation."""
    return in_groups(table, lambda some: _responses_shown(some, marked))


def _responses_shown(table: pd.DataFrame, marked: str) -> Shown:
    worst = table.loc[table.groupby("title", sort=False)["cosine"].idxmin()]
    told = "; ".join(
        f"{row.title}: {row.kind_title.lower()} {row.size:g} {row.unit}, cosine {likeness(row.cosine)}, "
        f"{row.agreement:.0%} of decisions unchanged"
        for row in worst.itertuples()
    )
    caption = (
        "Perturbed patches against clean ones: cosine similarity, decisions that stay the same, and change in AUC "
        f"(held-out patients, 95 % patient bootstrap). Largest change: {told}."
    )
    return Shown(plots.responses(table), caption, f"Curves over the size of each perturbation. {told}.", marked)


def tiles_shown(
    run: str | Path, cohort: str, encoder: Encoder, kinds: Mapping[str, Sequence[float]], seed: int
) -> Shown:
    """One tumour, clean and under the strongest of each kind of perturbation, in its axial plane."""
    import torch

    found = bank.Bank(bank.path_of(run, cohort, encoder.geometry.id))
    row = next(found.rows[found.rows["trial"] == 0].sort_values("clamped", kind="stable").itertuples())
    patch, centre = found.patch(row, encoder.geometry.size), np.array(encoder.geometry.size) // 2
    hu, tiles = torch.from_numpy(np.ascontiguousarray(patch))[None], [("clean", patch)]
    for kind, sizes in kinds.items():
        size, about = max(sizes, key=abs), PERTURBATIONS.get(kind)
        changed = change(hu, kind, size, found.spacing, "RAS", seed, [str(row.sample_id)])
        tiles.append((f"{about.title} {size:g} {about.unit}", changed[0].numpy()))
    planes = [(title, plots.axial(array, centre)[0]) for title, array in tiles]
    names = ", ".join(title for title, _ in tiles[1:])
    caption = f"{row.sample_id}, axial plane through the seed point: clean, and under {names}. Window 40 / 400 HU."
    marked = "phantom" if is_phantom(cohort) else ""
    figure = plots.stressed(planes, (found.spacing[1], found.spacing[0]), window=SOFT_TISSUE, mark=marked)
    return Shown(figure, caption, f"Tiles of one tumour: clean, {names}.", marked)


def scramble_table(
    found: Mapping[str, stress.Stressed], samples: pd.DataFrame, titles: Mapping[str, str], draws: int, seed: int
) -> pd.DataFrame:
    """Cosine, retrieval and change in AUC of the negative controls made from patches, by encoder."""
    parts = []
    for name, each in found.items():
        patients = samples.set_index("sample_id")["patient_id"].reindex(each.sample_id).to_numpy()
        table = robustness.negatives.compare(each.clean, each.vectors, patients, draws, seed)
        judged = _judged(each, samples, seed).iloc[1:].reset_index(drop=True)
        table = pd.concat([table, judged[["auc_change", "auc_change_low", "auc_change_high"]]], axis=1)
        parts.append(table.assign(embedding=name, title=titles[name]))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    return table.assign(control_title=table["control"].map(CONTROLS))


def published_controls(
    run: str | Path,
    cohort: str,
    models: Sequence[str],
    controls: Sequence[str],
    samples: pd.DataFrame,
    titles: Mapping[str, str],
    draws: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Published embeddings of negative controls against those of the original images.

    The table of :func:`scramble_table`, and the patients whose control is the original in every number.
    """
    if not controls:
        return pd.DataFrame(), pd.DataFrame()
    joined, _ = embeddings.load(run, cohort, [*models, *controls], samples)
    rows, original = joined.annotations, joined.vectors[models[0]]
    others = {name: joined.vectors[name] for name in controls}
    patients = rows["patient_id"].to_numpy()
    table = robustness.negatives.compare(original, others, patients, draws, seed)
    held = robustness.jitter.held_out(
        original, np.stack(list(others.values())), rows["label"].to_numpy(int), patients, seed=seed
    )
    judged = held.table(list(others)).iloc[1:].reset_index(drop=True)
    table = pd.concat([table, judged[["auc_change", "auc_change_low", "auc_change_high"]]], axis=1)
    odd = robustness.negatives.identical(original, others, rows["sample_id"].to_numpy())
    odd["control"] = odd["control"].map(titles)
    table = table.assign(embedding=models[0], title=titles[models[0]], control_title=table["control"].map(titles))
    return table, odd


def controls_shown(table: pd.DataFrame, marked: str) -> Shown | Several:
    """Whether an embedding notices that the voxels were scrambled."""
    return in_groups(table, lambda some: _controls_shown(some, marked))


def _controls_shown(table: pd.DataFrame, marked: str) -> Shown:
    told = "; ".join(
        f"{row.control_title}: cosine {likeness(row.cosine)}, {row.retrieval:.0%} found, AUC {row.auc_change:+.3f} "
        f"({row.auc_change_low:+.3f} to {row.auc_change_high:+.3f})"
        for row in table.itertuples()
    )
    caption = (
        "Negative controls against the original of the same patient: cosine similarity, and share of patients whose "
        "original has their own control nearest of all (95 % patient bootstrap). The change in AUC is that of a "
        f"held-out classifier trained on originals. {told}."
    )
    figure = plots.controls(table.assign(control=table["control_title"]))
    return Shown(figure, caption, f"Dot plots by control. {told}.", marked)


def stress_left_out(found: Mapping[str, Mapping[str, stress.Stressed]], titles: Mapping[str, str]) -> pd.DataFrame:
    """Samples that are in no figure of perturbations or controls (``found`` by either): embedding, what, sample_id,
    reason."""
    parts = [each.excluded.assign(embedding=titles[name]) for some in found.values() for name, each in some.items()]
    lost = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return lost[["embedding", "what", "sample_id", "reason"]] if len(lost) else lost
