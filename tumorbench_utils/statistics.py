"""Areas under the ROC curve with their uncertainty: intervals over splits, paired bootstrap, Holm correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats


class LabelError(ValueError):
    """Labels with which nothing can be learnt or scored; the message says why."""


def binary_labels(labels: Sequence) -> np.ndarray:
    """(n,) labels as int64 0/1; anything else, or one class only, is a :class:`LabelError`."""
    values = pd.to_numeric(pd.Series(np.asarray(labels)), errors="coerce").to_numpy(float)
    strange = ~np.isin(values, (0.0, 1.0))
    if strange.any():
        shown = sorted({str(value) for value in np.asarray(labels)[strange]})[:5]
        raise LabelError(f"labels must be 0 or 1; {strange.sum()} of {len(values)} are not: {', '.join(shown)}")
    if len(np.unique(values)) < 2:
        only = f"all {len(values)} labels are {int(values[0])}" if len(values) else "there are no labels"
        raise LabelError(f"{only}: an AUC needs both classes")
    return values.astype(np.int64)


def concordance(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """(P, N) matrix: 1 where a positive scores above a negative, 1/2 for a tie, else 0. Its mean is the AUC."""
    difference = positive[:, None] - negative[None, :]
    return 0.5 * (np.sign(difference) + 1)


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve of (n,) scores (Mann-Whitney form, ties count one half)."""
    labels = binary_labels(labels)
    scores = np.asarray(scores, float)
    return float(concordance(scores[labels == 1], scores[labels == 0]).mean())


def normal_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and mean -+ 1.96 s / sqrt(J) of J splits, as the study reports it.

    The splits overlap, so this interval is too narrow; :func:`corrected_interval` is the honest one.
    """
    values = np.asarray(values, float)
    margin = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return _limits(values.mean(), margin)


def corrected_interval(values: Sequence[float], n_train: float, n_test: float) -> tuple[float, float, float]:
    """Mean and 95 % interval of J overlapping random splits: mean -+ t_{J-1} sqrt((1/J + n_test/n_train) s^2).

    ``n_train`` counts everything a split learns from (training and validation samples). Nadeau & Bengio,
    Mach Learn 52, 239-281 (2003), eq. for the corrected resampled t-test.
    """
    values = np.asarray(values, float)
    scale = 1 / len(values) + n_test / n_train
    margin = stats.t.ppf(0.975, len(values) - 1) * np.sqrt(scale * values.var(ddof=1))
    return _limits(values.mean(), margin)


def _limits(mean: float, margin: float) -> tuple[float, float, float]:
    return float(mean), float(mean - margin), float(mean + margin)


def paired_bootstrap(
    predictions: Mapping[str, pd.DataFrame],
    reference: str,
    draws: int = 5000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences in mean test AUC to ``reference``, with patient bootstrap intervals and Holm-corrected p-values.

    ``predictions`` maps a name to per-sample test predictions (split, sample_id, patient_id, label, probability),
    the same samples in every one. Patients are drawn with replacement, all their samples with them, the same draw
    for both sides of a difference; the splits stay as they are, and a difference is the mean over splits. p is
    two-sided: twice the smaller tail of the draws beyond zero, with one added to both counts. The interval speaks
    of other patients, not of other splits.

    Returns one row a compared name: name, auc, reference_auc, difference, low, high, p, p_holm.
    """
    base = _sorted(predictions[reference])
    people, person = np.unique(base["patient_id"].to_numpy(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws).astype(np.float32)
    weights = np.vstack([np.ones(len(people), np.float32), weights])  # the first draw is the data themselves
    others = [name for name in predictions if name != reference]
    aucs = {reference: _weighted_aucs(base, person, weights)}
    for name in others:
        frame = _sorted(predictions[name])
        if not frame[["split", "sample_id", "label"]].equals(base[["split", "sample_id", "label"]]):
            raise ValueError(f"'{name}' and '{reference}' were not tested on the same samples: no paired difference")
        aucs[name] = _weighted_aucs(frame, person, weights)
    columns = ["name", "auc", "reference_auc", "difference", "low", "high", "p"]
    table = pd.DataFrame([_difference(name, aucs[name], aucs[reference]) for name in others], columns=columns)
    return table.assign(p_holm=holm(table["p"]))


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["split", "sample_id"], kind="stable", ignore_index=True)


def _weighted_aucs(frame: pd.DataFrame, person: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(draws,) mean over splits of the AUC in which every sample counts as often as its patient was drawn."""
    total, valid = 0.0, 0
    for _, rows in frame.groupby("split", sort=True).indices.items():
        label = frame["label"].to_numpy()[rows]
        score = frame["probability"].to_numpy()[rows]
        pair = concordance(score[label == 1], score[label == 0]).astype(np.float32)
        positive = weights[:, person[rows[label == 1]]]
        negative = weights[:, person[rows[label == 0]]]
        pairs = positive.sum(1) * negative.sum(1)
        # a draw without one of the classes says nothing about this split
        value = np.einsum("bp,bp->b", positive, negative @ pair.T) / np.where(pairs > 0, pairs, 1)
        total = total + np.where(pairs > 0, value, 0)
        valid = valid + (pairs > 0)
    return total / np.where(valid > 0, valid, np.nan)


def _difference(name: str, aucs: np.ndarray, reference: np.ndarray) -> dict:
    draws = (aucs - reference)[1:]
    draws = draws[np.isfinite(draws)]
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    low, high = np.quantile(draws, (0.025, 0.975))
    return {
        "name": name,
        "auc": float(aucs[0]),
        "reference_auc": float(reference[0]),
        "difference": float(aucs[0] - reference[0]),
        "low": float(low),
        "high": float(high),
        "p": float(min(1.0, 2 * (tail + 1) / (len(draws) + 1))),
    }


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given (Holm, Scand J Stat 6, 65-70, 1979)."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
