"""Jittered seed points: what another reader's click would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import bank, embeddings, knn, plots, published, robustness
from ..models import TEN
from ..plots import Several, Shown
from .showing import in_groups, likeness


@dataclass(frozen=True)
class Jittered:
    """Embeddings of the annotated seed points (n, d) and of ``trial`` (t,) jittered ones (t, n, d) of the samples
    ``rows`` (of the annotation table); ``left_out`` has embedding, sample_id, reason."""

    rows: pd.DataFrame
    reference: np.ndarray
    trial: np.ndarray
    others: np.ndarray
    left_out: pd.DataFrame


def jittered(run: str | Path, cohort: str, name: str, samples: pd.DataFrame) -> Jittered | None:
    """The trials of an embedding table, of the labelled samples that have all of them; None if trial 0 is all."""
    trials = embeddings.by_trial(embeddings.read(embeddings.path_of(run, cohort, name)))
    if len(trials.trial) < 2:
        return None
    labelled = samples[samples["label"].notna()].reset_index(drop=True)
    place = pd.Series(np.arange(len(trials.sample_id)), trials.sample_id)
    rows = labelled[labelled["sample_id"].isin(place.index)].reset_index(drop=True)
    vectors = trials.vectors[:, place[rows["sample_id"]].to_numpy()]
    incomplete = trials.incomplete.drop_duplicates("sample_id").assign(reason="not every jittered seed point has one")
    without = labelled.loc[~labelled["sample_id"].isin([*place.index, *incomplete["sample_id"]]), ["sample_id"]]
    left = pd.concat([incomplete[["sample_id", "reason"]], without.assign(reason="no embedding")])
    left_out = left.assign(embedding=name)[["embedding", "sample_id", "reason"]]
    return Jittered(rows, vectors[0], trials.trial[1:], vectors[1:], left_out)


def jitter_sizes(run: str | Path, cohort: str) -> pd.DataFrame:
    """How far the trials of a cohort lie off, as its banks have them: :func:`robustness.jitter.sizes`."""
    banks = sorted(bank.path_of(run, cohort, "any").parent.glob("*.zarr"))
    return robustness.jitter.sizes(bank.Bank(banks[0]).rows)


def study_kappas(found: Mapping[str, Jittered], trials: int) -> dict[str, robustness.StudyKappa]:
    """The study's kappa of the first ``trials`` jittered seed points, of which the first trains."""
    return {
        name: robustness.jitter.study_kappa(each.others[:trials], each.rows["label"].to_numpy(int), knn.K_MAX)
        for name, each in found.items()
    }


def kappas_shown(kappas: Mapping[str, robustness.StudyKappa], titles: Mapping[str, str], marked: str) -> Shown:
    """Trial-level kappas as published, and those of this page."""
    study = published.figures("seed_kappa")
    study["title"] = [TEN.get(model).title for model in study["model"]]
    ours = {titles[name]: each.kappas for name, each in kappas.items()}
    told = "; ".join(f"{title}: {np.mean(each):.2f}" for title, each in ours.items()) or "none"
    caption = (
        "The study's kappa, one point a jittered seed point. Above, as published for NSCLC-Radiomics (ten models, 49 "
        f"trials); below, this run, by the same rule. Means of this run: {told}."
    )
    return Shown(plots.kappas(ours, study), caption, f"Points by embedding. This run: {told}.", marked)


def held_out(found: Mapping[str, Jittered], draws: int, seed: int = 0) -> dict[str, robustness.HeldOut]:
    """The honest variant of each embedding: patients held out, trained on annotated seed points."""
    return {
        name: robustness.jitter.held_out(
            each.reference, each.others, each.rows["label"].to_numpy(int), each.rows["patient_id"].to_numpy(), seed=seed
        )
        for name, each in found.items()
    }


def kappa_table(kappas: Mapping[str, robustness.StudyKappa], titles: Mapping[str, str]) -> pd.DataFrame:
    """Mean kappa as published and of this run, k, and how often a moved patch is nearest to itself."""
    study = published.figures("robustness")[["model", "kappa_mean"]]
    study = study.assign(title=[TEN.get(model).title for model in study["model"]])
    study = study.rename(columns={"kappa_mean": "as published"})[["title", "as published"]]
    rows = [
        (titles[name], float(np.mean(each.kappas)), len(each.kappas), each.k, float(np.mean(each.itself)))
        for name, each in kappas.items()
    ]
    ours = pd.DataFrame(rows, columns=["title", "this run", "trials", "k", "finds itself"])
    ours = ours.astype({"trials": "Int64", "k": "Int64"})
    return study.merge(ours, "outer", on="title", sort=False)


def dose(
    run: str | Path,
    cohort: str,
    honest: Mapping[str, robustness.HeldOut],
    found: Mapping[str, Jittered],
    titles: Mapping[str, str],
    trials: int,
) -> pd.DataFrame:
    """Similarity, agreement of decisions and AUC over the size of the jitter, by embedding; see
    :func:`robustness.jitter.dose_response`."""
    if not honest:
        return pd.DataFrame()
    sizes = jitter_sizes(run, cohort)
    parts = [
        robustness.jitter.dose_response(held, found[name].trial, sizes, trials).assign(
            title=titles[name], embedding=name
        )
        for name, held in honest.items()
    ]
    return pd.concat(parts, ignore_index=True)


def dose_shown(table: pd.DataFrame, marked: str) -> Shown | Several:
    """What a seed point that lies off costs."""
    return in_groups(table, lambda some: _dose_shown(some, marked))


def _dose_shown(table: pd.DataFrame, marked: str) -> Shown:
    last = table.loc[table.groupby("title", sort=False)["size_mm"].idxmax()]
    told = "; ".join(
        f"{row.title} at {row.size_mm:.1f} mm: cosine {likeness(row.cosine)}, {row.agreement:.0%} of decisions "
        f"unchanged, AUC {row.auc:.2f}"
        for row in last.itertuples()
    )
    caption = (
        "Held-out patients, seed points moved by a normal jitter of the size shown (standard deviation on each axis, "
        f"as measured): mean over trials with their range. {told}."
    )
    return Shown(plots.dose(table), caption, f"Three curves over the size of the jitter. {told}.", marked)


def jitter_left_out(found: Mapping[str, Jittered]) -> pd.DataFrame:
    """Samples that are in no figure of jitter, with the reason: embedding, sample_id, reason."""
    return pd.concat([each.left_out for each in found.values()], ignore_index=True) if found else pd.DataFrame()
