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
from ..plots.base import percent
from ..robustness.controls import CONTROLS
from ..robustness.perturbations import PERTURBATIONS
from ..robustness.perturbations import perturbed as change
from .showing import in_groups, largest, likeness, perturbation

TITLES = {name: title.lower().replace("sampled", "resampled") for name, title in CONTROLS.items()}  # as published
LUNG = (-600, 1500)  # HU, centre and width: that of the montage of curation


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
    found: Mapping[str, stress.Stressed], samples: pd.DataFrame, titles: Mapping[str, str], draws: int, seed: int
) -> pd.DataFrame:
    """Cosine, agreement of decisions and change in AUC by encoder, kind and size of the perturbation.

    The clean patches stand in the table as size 0 of every kind.
    """
    parts = []
    for name, each in found.items():
        if not len(each.sample_id):
            continue
        table = _judged(each.clean, each.vectors, _known(each.sample_id, samples), draws, seed)
        clean, rest = table.iloc[[0]], table.iloc[1:].reset_index(drop=True)
        keys = pd.DataFrame(list(each.vectors), columns=["kind", "size"])
        zero = [clean.assign(kind=kind, size=0.0) for kind in dict.fromkeys(keys["kind"])]
        parts.append(pd.concat([*zero, pd.concat([rest, keys], axis=1)]).assign(embedding=name, title=titles[name]))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True).drop(columns="name")
    kinds = [PERTURBATIONS.get(kind) for kind in table["kind"]]
    return table.assign(kind_title=[kind.title for kind in kinds], unit=[kind.unit for kind in kinds])


def _known(sample_id: np.ndarray, samples: pd.DataFrame) -> pd.DataFrame:
    """The rows of the annotation table of these samples, in this order; NaN where there is none."""
    return samples.set_index("sample_id").reindex(sample_id).reset_index()


def _judged(
    clean: np.ndarray, others: Mapping[object, np.ndarray], rows: pd.DataFrame, draws: int, seed: int
) -> pd.DataFrame:
    """Held-out judgement of clean vectors (n, d) against others by name: row 0 is the clean one.

    Of the samples with an outcome, or, where no held-out prediction can be had, the likeness of all of them alone.
    """
    names, kept = [str(key) for key in others], rows["label"].notna().to_numpy()
    try:
        some = rows[kept]
        vectors = np.stack([each[kept] for each in others.values()])
        patients = some["patient_id"].to_numpy()
        held = robustness.jitter.held_out(clean[kept], vectors, some["label"].to_numpy(int), patients, seed=seed)
        return held.table(names, draws=draws, seed=seed)
    except robustness.RobustnessError:
        patients = rows["patient_id"].fillna(rows["sample_id"]).to_numpy()
        return robustness.jitter.likeness(clean, list(others.values()), names, patients, draws=draws, seed=seed)


def responses_shown(table: pd.DataFrame, marked: str) -> Shown | Several:
    """The response of every embedding to every perturbation."""
    return in_groups(table, lambda some: _responses_shown(some, marked))


def _responses_shown(table: pd.DataFrame, marked: str) -> Shown:
    changed = table[table["size"] != 0].reset_index(drop=True)
    worst = [largest(rows) for _, rows in changed.groupby("title", sort=False)]
    told = "; ".join(
        f"{row['title']}: {perturbation(row)}, cosine {likeness(row['cosine'])}, "
        + ("no decision known" if np.isnan(row["agreement"]) else f"{percent(row['agreement'])} of decisions unchanged")
        for row in worst
    )
    caption = (
        "Perturbed patches against clean ones: cosine similarity, decisions that stay the same, and change in AUC "
        "(held-out patients, 95 % patient bootstrap). Largest change, by decisions (of equal numbers by cosine): "
        f"{told}."
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
    hu, tiles = torch.from_numpy(np.ascontiguousarray(patch))[None], [("Clean", patch)]
    for kind, sizes in kinds.items():
        size, about = max(sizes, key=abs), PERTURBATIONS.get(kind)
        changed = change(hu, kind, size, found.spacing, "RAS", seed, [str(row.sample_id)])
        tiles.append((f"{about.title} {size:g} {about.unit}", changed[0].numpy()))
    planes = [(title, plots.axial(array, centre)[0]) for title, array in tiles]
    names = ", ".join(title for title, _ in tiles[1:])
    window = " / ".join(f"{each:,}".replace("-", "−") for each in LUNG)
    caption = f"{row.sample_id}, axial plane through the seed point: clean, and under {names}. Window {window} HU."
    marked = "phantom" if is_phantom(cohort) else ""
    figure = plots.stressed(planes, (found.spacing[1], found.spacing[0]), window=LUNG, mark=marked)
    return Shown(figure, caption, f"Tiles of one tumour: clean, {names}.", marked)


def scramble_table(
    found: Mapping[str, stress.Stressed], samples: pd.DataFrame, titles: Mapping[str, str], draws: int, seed: int
) -> pd.DataFrame:
    """Cosine, retrieval and change in AUC of the negative controls made from patches, by encoder."""
    parts = []
    for name, each in found.items():
        if len(each.sample_id):
            rows = _known(each.sample_id, samples)
            table = _compared(each.clean, each.vectors, rows, draws, seed)
            parts.append(table.assign(embedding=name, title=titles[name]))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    return table.assign(control_title=table["control"].map(TITLES))


def _compared(
    original: np.ndarray, controls: Mapping[str, np.ndarray], rows: pd.DataFrame, draws: int, seed: int
) -> pd.DataFrame:
    """:func:`robustness.negatives.compare` with the change in held-out AUC, and the AUC of the originals."""
    patients = rows["patient_id"].fillna(rows["sample_id"]).to_numpy()
    table = robustness.negatives.compare(original, controls, patients, draws, seed)
    judged = _judged(original, controls, rows, draws, seed)
    clean, rest = judged.iloc[0], judged.iloc[1:].reset_index(drop=True)
    known = {f"clean_{name}": clean[name] for name in ("auc", "auc_low", "auc_high")}
    change = rest[["auc_change", "auc_change_low", "auc_change_high"]]
    return pd.concat([table, change], axis=1).assign(**known, samples_with_outcome=int(rows["label"].notna().sum()))


def tumour_share(run: str | Path, cohort: str, encoder: Encoder) -> float:
    """Mean share of the voxels of a patch that are tumour; NaN if no sample has a mask."""
    found, recipe = bank.Bank(bank.path_of(run, cohort, encoder.geometry.id)), encoder.recipe
    masks = [found.mask(row, recipe.size, recipe.axes) for row in found.rows[found.rows["trial"] == 0].itertuples()]
    shares = [mask.mean() for mask in masks if mask is not None]
    return float(np.mean(shares)) if shares else float("nan")


def published_controls(
    run: str | Path,
    cohort: str,
    model: str,
    controls: Sequence[str],
    samples: pd.DataFrame,
    titles: Mapping[str, str],
    draws: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Published embeddings of negative controls against those of the original images.

    The table of :func:`scramble_table`; the patients whose control is the original in every number (control,
    sample_id); and the samples that a table lacks (embedding, sample_id, reason).
    """
    if not controls:
        return pd.DataFrame(), pd.DataFrame(), pd.DataFrame()
    joined, _ = embeddings.load(run, cohort, [model, *controls], samples)
    rows, original = joined.annotations, joined.vectors[model]
    others = {name: joined.vectors[name] for name in controls}
    table = _compared(original, others, rows, draws, seed)
    odd = robustness.negatives.identical(original, others, rows["sample_id"].to_numpy())
    lost = joined.unmatched.assign(reason="no " + joined.unmatched["missing_from"].astype(str).str.rstrip("s"))
    lost = lost.assign(embedding=lost["model"].map(titles))[["embedding", "sample_id", "reason"]]
    table = table.assign(embedding=model, title=titles[model], control_title=table["control"].map(titles))
    return table, odd.assign(control=odd["control"].map(titles)), lost


def controls_shown(table: pd.DataFrame, marked: str) -> Shown | Several:
    """Whether an embedding notices that the voxels were scrambled."""
    return in_groups(table, lambda some: _controls_shown(some, marked))


def _controls_shown(table: pd.DataFrame, marked: str) -> Shown:
    told = "; ".join(
        f"{row.title}, {row.control_title}: cosine {likeness(row.cosine)}, {percent(row.retrieval)} found, AUC "
        f"{row.auc_change:+z.3f} ({row.auc_change_low:+z.3f} to {row.auc_change_high:+z.3f})"
        for row in table.itertuples()
    )
    caption = (
        "Negative controls against their originals: cosine similarity, and share of samples whose "
        "original has its own control nearest of all (95 % patient bootstrap). The change in AUC is that of a held-out "
        f"classifier trained on originals. {told}."
    )
    figure = plots.controls(table.assign(control=table["control_title"]))
    return Shown(figure, caption, f"Dot plots by control. {told}.", marked)


def stress_left_out(
    found: Mapping[str, Mapping[str, stress.Stressed]], samples: pd.DataFrame, titles: Mapping[str, str]
) -> pd.DataFrame:
    """Samples that are in no figure of perturbations or controls (``found`` by either), or for want of an outcome in
    none of decisions and AUC: embedding, what, sample_id, reason."""
    columns, parts = ["embedding", "what", "sample_id", "reason"], []
    for part, some in found.items():
        for name, each in some.items():
            unknown = each.sample_id[_known(each.sample_id, samples)["label"].isna().to_numpy()]
            without = pd.DataFrame({"what": part, "sample_id": unknown, "reason": "no outcome"})
            parts.append(pd.concat([each.excluded, without]).assign(embedding=titles[name]))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
