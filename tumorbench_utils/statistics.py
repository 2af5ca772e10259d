"""Areas under the ROC curve with their uncertainty: intervals over splits, paired bootstrap, Holm correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

SAMPLE = ["split", "sample_id", "label"]  # what makes two predictions comparable
CHUNK = 2000  # draws at a time
PAIR = ["first", "second", "auc_first", "auc_second", "difference", "low", "high", "p"]


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
    margin = special.stdtrit(len(values) - 1, 0.975) * np.sqrt(scale * values.var(ddof=1))
    return _limits(values.mean(), margin)


def _limits(mean: float, margin: float) -> tuple[float, float, float]:
    return float(mean), float(mean - margin), float(mean + margin)


def bounded(aucs: pd.DataFrame) -> pd.DataFrame:
    """AUCs with intervals (low, high) that end at 0 and 1.

    The t intervals over splits know no bound; no AUC lies beyond, so an interval that is cut there covers as often.
    """
    return aucs.assign(low=aucs["low"].clip(0, 1), high=aucs["high"].clip(0, 1))


def auc_draws(predictions: Mapping[str, pd.DataFrame], draws: int = 5000, seed: int = 0) -> dict[str, np.ndarray]:
    """(draws + 1,) mean test AUC of each name when patients are drawn with replacement; the first is of the data.

    ``predictions`` maps a name to per-sample test predictions (split, sample_id, patient_id, label, probability), the
    same samples in every one, or it is a ValueError. A patient brings all samples along, and a draw is the same for
    every name; the splits stay as they are, and an AUC is the mean over them. NaN where a draw has one class only.
    """
    if not predictions:
        return {}
    frames = {name: _sorted(frame) for name, frame in predictions.items()}
    names = list(frames)
    base = frames[names[0]]
    for name in names[1:]:
        if not frames[name][SAMPLE].equals(base[SAMPLE]):
            raise ValueError(f"'{name}' and '{names[0]}' were not tested on the same samples: no paired difference")
    people, person = np.unique(base["patient_id"].to_numpy(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    share = np.full(len(people), 1 / len(people))
    once = np.ones((1, len(people)), np.float32)  # the first draw is the data themselves
    aucs = {name: [_weighted_aucs(frame, person, once)] for name, frame in frames.items()}
    for start in range(0, draws, CHUNK):  # so that the weights of many draws never lie in memory together
        weights = rng.multinomial(len(people), share, size=min(CHUNK, draws - start)).astype(np.float32)
        for name, frame in frames.items():
            aucs[name].append(_weighted_aucs(frame, person, weights))
    return {name: np.concatenate(parts) for name, parts in aucs.items()}


def paired_bootstrap(
    predictions: Mapping[str, pd.DataFrame],
    reference: str,
    draws: int = 5000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences in mean test AUC to ``reference``, with patient bootstrap intervals and Holm-corrected p-values.

    ``predictions`` and draws are those of :func:`auc_draws`; both sides of a difference have the same draw. p is
    two-sided: twice the smaller tail of the draws beyond zero, with one added to both counts. The interval speaks
    of other patients, not of other splits.

    Returns one row a compared name: name, auc, reference_auc, difference, low, high, p, p_holm.
    """
    others = [name for name in predictions if name != reference]
    aucs = auc_draws({name: predictions[name] for name in (reference, *others)}, draws, seed)
    rows = [_difference(name, reference, aucs) for name in others]
    table = pd.DataFrame(rows, columns=PAIR).drop(columns="second")
    table = table.rename(columns={"first": "name", "auc_first": "auc", "auc_second": "reference_auc"})
    return table.assign(p_holm=holm(table["p"]))


def pairwise_of(aucs: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Differences of all pairs of :func:`auc_draws`, with the interval and p of :func:`paired_bootstrap`.

    Returns one row a pair, in the order of the names: first, second, auc_first, auc_second, difference (first minus
    second), low, high, p, and p_holm over all pairs of the table. The draws must be :func:`least_draws` or more, or no
    difference, however large, can be significant.
    """
    rows = [_difference(first, second, aucs) for first, second in combinations(aucs, 2)]
    table = pd.DataFrame(rows, columns=PAIR)
    return table.assign(p_holm=holm(table["p"]))


def least_draws(models: int, alpha: float = 0.05) -> int:
    """Draws from which a difference can be significant after Holm's correction over all pairs of ``models``.

    p of a bootstrap is never below 2 / (draws + 1), and the smallest of m is multiplied by m: 20 models take 7,600.
    """
    pairs = models * (models - 1) // 2
    return int(np.floor(2 * pairs / alpha + 1e-9))  # 2 m / (draws + 1) < alpha


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


def _difference(first: str, second: str, aucs: Mapping[str, np.ndarray]) -> tuple:
    """The columns of ``PAIR`` for two names."""
    value, other = aucs[first], aucs[second]
    draws = (value - other)[1:]
    draws = draws[np.isfinite(draws)]
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    low, high = np.quantile(draws, (0.025, 0.975))
    p = min(1.0, 2 * (tail + 1) / (len(draws) + 1))
    limits = (float(value[0] - other[0]), float(low), float(high), float(p))
    return (first, second, float(value[0]), float(other[0]), *limits)


def wilson(found: int, n: int) -> tuple[float, float]:
    """95 % score interval of the share ``found`` of ``n``; it has a width where none or all are found.

    Wilson, J Am Stat Assoc 22, 209-212 (1927), doi 10.1080/01621459.1927.10502953. NaN where ``n`` is 0.
    """
    if not n:
        return float("nan"), float("nan")
    z = special.ndtri(0.975)
    middle = (found + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(found * (n - found) / n + z**2 / 4)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given (Holm, Scand J Stat 6, 65-70, 1979)."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
