"""A handful of labels: what an embedding knows if 1, 5 or 10 patients of each class are all there is to learn from.

In each draw m patients of each class are drawn, with one sample each, and all samples of all other patients are the
test. Two judges: the class mean (prototype) by cosine similarity, Snell, Swersky and Zemel, NeurIPS 2017,
arXiv 1703.05175, eq. 1-2; and kNN as the study's later code has it, whose k is chosen on validation patients and which
therefore needs far more labels than it says. All draws come from one matrix of cosines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .. import knn, statistics
from .linear import ProbeError

DRAWS = 200
TRIES = 1000  # to find a draw that leaves both classes
VALIDATION = 0.2  # share of the patients not drawn on which kNN chooses k


@dataclass(frozen=True)
class Draws:
    """``support`` (draws, 2m) rows, the m positives first; ``held`` (draws, n) whether a row's patient was not drawn;
    ``validation`` (draws, n) the part of ``held`` on which kNN chooses k."""

    support: np.ndarray
    held: np.ndarray
    validation: np.ndarray


def draw(labels: Sequence, patients: Sequence, m: int, draws: int = DRAWS, seed: int = 0) -> Draws:
    """Draw ``m`` patients of each class, one sample of each, ``draws`` times.

    A patient with samples of both classes counts in a draw as of the class of the sample drawn, so nobody stands for
    both. Draws that would leave no sample of a class to validate or to test on are drawn again.
    :class:`ProbeError` where a class has fewer than m + 2 patients, and where no such draw is found.
    """
    labels = statistics.binary_labels(labels)
    person = np.unique(np.asarray(patients), return_inverse=True)[1]
    least = _least(labels, person)
    if m < 1 or draws < 1 or least < m + 2:
        raise ProbeError(
            f"{draws} draws of {m} patients of each class: the smaller class has {least}, and two must be left"
        )
    rng, n = np.random.default_rng(seed), len(labels)
    support, held = np.empty((draws, 2 * m), int), np.ones((draws, n), bool)
    validation = np.zeros((draws, n), bool)
    for number in range(draws):
        support[number], held[number], validation[number] = _drawn(labels, person, m, rng)
    return Draws(support, held, validation)


def _least(labels: np.ndarray, patients: np.ndarray) -> int:
    """Patients of the smaller class; of those with samples of both, half count for either, as they are drawn."""
    some = [set(patients[labels == label]) for label in (0, 1)]
    mixed = some[0] & some[1]
    return min(len(each - mixed) for each in some) + len(mixed) // 2


def _drawn(
    labels: np.ndarray, person: np.ndarray, m: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support (2m,), held (n,) and validation (n,) of one draw, both classes in every part."""
    for _ in range(TRIES):
        chosen = _support(labels, person, m, rng)
        if chosen is None:
            continue
        held = ~np.isin(person, person[chosen])
        rest = rng.permutation(np.unique(person[held]))
        part = _both_classes(rest, labels, person, max(2, round(VALIDATION * len(rest))))
        validation = np.isin(person, part)
        if all(len(np.unique(labels[some])) == 2 for some in (validation, held & ~validation)):
            return chosen, held, validation
    raise ProbeError(
        f"{m} patients of each class: none of {TRIES:,} draws left both classes to validate and to test on; "
        "too many patients have samples of both"
    )


def _support(labels: np.ndarray, person: np.ndarray, m: int, rng: np.random.Generator) -> np.ndarray | None:
    """2m rows of different patients, the first m positive; None if too few samples of a class came up."""
    order = rng.permutation(len(labels))
    first = order[np.unique(person[order], return_index=True)[1]]  # a random sample of every patient
    first = rng.permutation(first)
    parts = [first[labels[first] == label][:m] for label in (1, 0)]
    # always enough, unless patients have samples of both classes
    return np.concatenate(parts) if min(map(len, parts)) == m else None


def _both_classes(rest: np.ndarray, labels: np.ndarray, person: np.ndarray, size: int) -> np.ndarray:
    """``size`` patients off the front of ``rest`` with both classes in them, and if it can be in those left, too."""
    positive = np.unique(person[labels == 1])
    is_positive = np.isin(rest, positive)
    share = np.clip(round(size * is_positive.mean()), 1, max(1, is_positive.sum() - 1))
    other = np.clip(size - share, 1, max(1, (~is_positive).sum() - 1))
    return np.concatenate([rest[is_positive][:share], rest[~is_positive][:other]])


def cosines(vectors: np.ndarray) -> np.ndarray:
    """(n, n) cosine similarities of (n, d) vectors; :class:`ProbeError` for NaN and zero vectors."""
    vectors = np.asarray(vectors, np.float64)
    unusable = ~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    if unusable.any():
        raise ProbeError(f"{unusable.sum()} vectors hold NaN or are zero, the first is row {unusable.argmax()}")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def prototypes(similar: np.ndarray, drawn: Draws) -> np.ndarray:
    """(draws, n) cosine to the mean of the positives drawn less that to the mean of the negatives.

    ``similar`` is (n, n) of :func:`cosines`; the mean is of vectors at length 1.
    """
    m = drawn.support.shape[1] // 2
    near = []
    for part in (drawn.support[:, :m], drawn.support[:, m:]):
        length = np.sqrt(np.clip(similar[part[:, :, None], part[:, None, :]].mean(axis=(1, 2)), 0, None))
        toward = similar[part].mean(axis=1)
        near.append(toward / np.where(length > 0, length, np.inf)[:, None])  # opposite vectors have no mean
    return near[0] - near[1]


def aucs(scores: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """AUC (draws,) of scores (draws, n) over the rows that are ``held`` (draws, n), ties counted one half."""
    ranks = rankdata(np.where(held, scores, -np.inf), axis=1) - (~held).sum(axis=1, keepdims=True)
    positive = held & (labels == 1)
    positives, total = positive.sum(axis=1), held.sum(axis=1)
    above = (ranks * positive).sum(axis=1) - positives * (positives + 1) / 2
    return above / (positives * (total - positives))


def neighbours(similar: np.ndarray, labels: np.ndarray, drawn: Draws) -> tuple[np.ndarray, np.ndarray]:
    """AUC and k (draws,) of kNN among the samples drawn: k from 1 to min(50, 2m) by AUC on the validation patients.

    Of several k with the same AUC the smallest is taken. Tested on the patients neither drawn nor in validation.
    """
    found, chosen = [], []
    k_max = min(knn.K_MAX, drawn.support.shape[1])
    for support, held, validation in zip(drawn.support, drawn.held, drawn.validation, strict=True):
        order = np.argsort(-similar[:, support], axis=1, kind="stable")[:, :k_max]
        votes = np.cumsum(labels[support][order], axis=1)
        k = int(np.argmax(knn.auc_curve(votes[validation], labels[validation]))) + 1
        test = held & ~validation
        found.append(statistics.auc(labels[test], votes[test, k - 1]))
        chosen.append(k)
    return np.array(found), np.array(chosen)


def evaluate(
    vectors: np.ndarray,
    labels: Sequence,
    patients: Sequence,
    shots: Sequence[int] = (1, 5, 10),
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC of every draw: m, judge (class mean, kNN), draw, auc, k (of kNN). ``vectors`` is (n, d).

    The draws of an m are the same for every embedding with the same labels, patients and seed.
    """
    labels = statistics.binary_labels(labels)
    if len(vectors) != len(labels) or len(patients) != len(labels):
        raise ProbeError(f"{len(vectors)} vectors, {len(labels)} labels and {len(patients)} patients")
    similar, rows = cosines(vectors), []
    for m in shots:
        drawn = draw(labels, patients, m, draws, seed)
        means = aucs(prototypes(similar, drawn), labels, drawn.held)
        near, k = neighbours(similar, labels, drawn)
        number = np.arange(draws)
        rows.append(pd.DataFrame({"m": m, "judge": "class mean", "draw": number, "auc": means, "k": np.nan}))
        rows.append(pd.DataFrame({"m": m, "judge": "kNN", "draw": number, "auc": near, "k": k}))
    return pd.concat(rows, ignore_index=True)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Mean AUC by m and judge with the central 95 % of the draws: m, judge, auc, low, high, draws.

    Draws share patients, so this is what another handful of labels does, not a confidence interval.
    """
    grouped = found.groupby(["m", "judge"], sort=False)["auc"]
    table = grouped.agg(auc="mean", low=lambda a: a.quantile(0.025), high=lambda a: a.quantile(0.975), draws="size")
    return table.reset_index()


def possible(labels: Sequence, patients: Sequence, shots: Sequence[int]) -> tuple[list[int], list[int]]:
    """Which of ``shots`` the smaller class can give and still leave two patients to test on, and which it cannot.

    A patient with samples of both classes counts once, half for either.
    """
    least = _least(statistics.binary_labels(labels), np.asarray(patients))
    return [m for m in shots if m + 2 <= least], [m for m in shots if m + 2 > least]
