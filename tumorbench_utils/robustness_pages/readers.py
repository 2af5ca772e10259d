"""Jittered seed points: what another reader's click would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import bank, embeddings, knn, plots, provision, published, robustness
from ..models import TEN
from ..plots import Several, Shown
from ..plots.base import percent
from .showing import in_groups, likeness

STUDY_MM = 4.0  # the size of the study's jitter
LEFT_OUT = ["embedding", "sample_id", "reason"]
ALL = "all"  # in place of a sample_id


@dataclass(frozen=True)
class Jittered:
    """Embeddings of the annotated seed points (n, d) and of ``trial`` (t,) jittered ones (t, n, d) of the samples
    ``rows`` (of the annotation table), all of which have a label."""

    rows: pd.DataFrame
    reference: np.ndarray
    trial: np.ndarray
    others: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """(n,) 0 or 1."""
        return self.rows["label"].to_numpy(int)

    def of_size(self, nominal: pd.Series, size_mm: float) -> np.ndarray:
        """The trials of one nominal size (:func:`robustness.jitter.nominal`)."""
        return self.others[nominal.loc[self.trial].to_numpy() == size_mm]


@dataclass(frozen=True)
class Readers:
    """:class:`Jittered` by embedding, the ``nominal`` size of every trial in mm, and what is in no figure of them:
    embedding, sample_id ("all" for every sample), reason."""

    found: dict[str, Jittered]
    nominal: pd.Series
    left_out: pd.DataFrame

    @property
    def study_mm(self) -> float:
        """The size of which the study's kappa is made: the study's, or the first there is."""
        sizes = list(dict.fromkeys(self.nominal))
        return STUDY_MM if STUDY_MM in sizes else sizes[0]


def jittered(
    run: str | Path, cohort: str, names: Sequence[str], samples: pd.DataFrame, jitter_mm: Sequence[float]
) -> Readers:
    """The trials of embedding tables. A table that has trial 0 alone, and samples without all trials or without a
    label, are left out and listed; an embedding of which no sample is left is, too."""
    found, lost = {}, []
    for name in names:
        each, left = _trials(run, cohort, name, samples)
        lost.append(left.assign(embedding=name)[LEFT_OUT])
        found |= {name: each} if each else {}
    nominal = robustness.jitter.nominal(sizes(run, cohort), jitter_mm) if found else pd.Series(dtype=float)
    for name, each in found.items():
        unknown = sorted(set(each.trial) - set(nominal.index))
        if unknown:
            raise robustness.RobustnessError(
                f"{name}: trials {unknown[:5]} of its embedding table are in no patch bank of {cohort}: banks and "
                "embeddings are of different runs; make the embeddings anew"
            )
    return Readers(found, nominal, pd.concat(lost, ignore_index=True) if lost else pd.DataFrame(columns=LEFT_OUT))


def _trials(run: str | Path, cohort: str, name: str, samples: pd.DataFrame) -> tuple[Jittered | None, pd.DataFrame]:
    trials = embeddings.by_trial(embeddings.read(embeddings.path_of(run, cohort, name)))
    if len(trials.trial) < 2:
        return None, pd.DataFrame([(ALL, "annotated seed points only")], columns=LEFT_OUT[1:])
    place = pd.Series(np.arange(len(trials.sample_id)), trials.sample_id)
    known, labelled = samples["sample_id"].isin(place.index), samples["label"].notna()
    incomplete = samples["sample_id"].isin(trials.incomplete["sample_id"])
    reasons = np.select(
        [incomplete, ~known, ~labelled],
        ["not every jittered seed point has an embedding", "no embedding", "no outcome"],
        "",
    )
    rows = samples[reasons == ""].reset_index(drop=True)
    left = samples.assign(reason=reasons).loc[reasons != "", ["sample_id", "reason"]]
    if rows.empty:
        return None, left
    vectors = trials.vectors[:, place[rows["sample_id"]].to_numpy()]
    return Jittered(rows, vectors[0], trials.trial[1:], vectors[1:]), left


def sizes(run: str | Path, cohort: str) -> pd.DataFrame:
    """How far the trials of a cohort lie off, as its banks have them: :func:`robustness.jitter.sizes`."""
    rows = provision.seeded(run, cohort)
    if rows is None:
        raise bank.BankError(f"{cohort}: no patch bank in {run}; the data curation notebook builds it")
    return robustness.jitter.sizes(rows)


def study_kappas(readers: Readers) -> tuple[dict[str, robustness.StudyKappa], pd.DataFrame]:
    """The study's kappa: of the trials of the study's size the first trains, as released; and the embeddings it cannot
    be had of, as ``left_out`` of :class:`Readers`."""
    found, lost = {}, []
    for name, each in readers.found.items():
        try:
            trials = each.of_size(readers.nominal, readers.study_mm)
            found[name] = robustness.jitter.study_kappa(trials, each.labels, knn.K_MAX)
        except robustness.RobustnessError as error:
            lost.append((name, ALL, f"no kappa: {error}"))
    return found, pd.DataFrame(lost, columns=LEFT_OUT)


def kappas_shown(kappas: Mapping[str, robustness.StudyKappa], titles: Mapping[str, str], marked: str) -> Shown:
    """Trial-level kappas as published, and those of this page."""
    study = published.figures("seed_kappa")
    study["title"] = [TEN.get(model).title for model in study["model"]]
    ours = {titles[name]: each.kappas for name, each in kappas.items()}
    told = "; ".join(f"{titles[name]}: {mean_kappa(each)}" for name, each in kappas.items())
    caption = (
        "The study's kappa, one point a jittered seed point. Above, as published for NSCLC-Radiomics (ten models, 49 "
        f"trials); below, this run, by the same rule. Means of this run: {told}."
    )
    return Shown(plots.kappas(ours, study), caption, f"Points by embedding. This run: {told}.", marked)


def mean_kappa(found: robustness.StudyKappa) -> str:
    """The mean kappa in words; undefined where all patches get one and the same label."""
    known = found.kappas[np.isfinite(found.kappas)]
    return f"{known.mean():.2f}" if len(known) else "undefined"


def kappa_table(kappas: Mapping[str, robustness.StudyKappa], titles: Mapping[str, str]) -> pd.DataFrame:
    """Mean kappa as published and of this run, k, and how often a moved patch is nearest to itself."""
    study = published.figures("robustness")[["model", "kappa_mean"]]
    study = study.assign(title=[TEN.get(model).title for model in study["model"]])
    study = study.rename(columns={"kappa_mean": "as published", "title": "embedding"})[["embedding", "as published"]]
    rows = [
        (titles[name], float(np.mean(each.kappas)), len(each.kappas), each.k, float(np.mean(each.itself)))
        for name, each in kappas.items()
    ]
    ours = pd.DataFrame(rows, columns=["embedding", "this run", "trials", "k", "finds itself"])
    ours = ours.astype({"trials": "Int64", "k": "Int64"})
    return study.merge(ours, "outer", on="embedding", sort=False)


def held_out(readers: Readers, seed: int) -> tuple[dict[str, robustness.HeldOut], pd.DataFrame]:
    """The honest variant of each embedding: patients held out, trained on annotated seed points; and those it cannot
    be had of, as ``left_out`` of :class:`Readers`."""
    found, lost = {}, []
    for name, each in readers.found.items():
        try:
            found[name] = robustness.jitter.held_out(
                each.reference, each.others, each.labels, each.rows["patient_id"].to_numpy(), seed=seed
            )
        except robustness.RobustnessError as error:
            lost.append((name, ALL, f"no held-out prediction: {error}"))
    return found, pd.DataFrame(lost, columns=LEFT_OUT)


def dose(
    honest: Mapping[str, robustness.HeldOut], readers: Readers, titles: Mapping[str, str], draws: int, seed: int
) -> pd.DataFrame:
    """Similarity, agreement of decisions and AUC over the size of the jitter, by embedding; see
    :func:`robustness.jitter.dose_response`."""
    parts = [
        robustness.jitter.dose_response(held, readers.found[name].trial, readers.nominal, draws, seed).assign(
            title=titles[name], embedding=name
        )
        for name, held in honest.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def dose_shown(table: pd.DataFrame, marked: str) -> Shown | Several:
    """What a seed point that lies off costs."""
    return in_groups(table, lambda some: _dose_shown(some, marked))


def _dose_shown(table: pd.DataFrame, marked: str) -> Shown:
    last = table.loc[table.groupby("title", sort=False)["size_mm"].idxmax()]
    told = "; ".join(
        f"{row.title} at {row.size_mm:g} mm: cosine {likeness(row.cosine)}, {percent(row.agreement)} of decisions "
        f"unchanged, AUC {row.auc:.2f} ({row.auc_low:.2f} to {row.auc_high:.2f})"
        for row in last.itertuples()
    )
    caption = (
        "Held-out patients, seed points moved by a normal jitter of the size shown (standard deviation on each axis): "
        f"mean over its trials with 95 % patient bootstrap interval. {told}."
    )
    return Shown(plots.dose(table), caption, f"Three curves over the size of the jitter. {told}.", marked)
