"""Neighbours of one embedding in every part that an ensemble learns from, from one ordering of all samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..alignment import K
from ..knn import BLOCK, Split

CANDIDATES = (5, 10, 15, 25)  # k of the bases of stacking, as released
FOLDS = 5  # inner folds of a training part

Task = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Limits:
    """How many neighbours the smallest training part allows.

    Single models choose k from 1..``k_max``; ``nearest`` is k and the number of neighbours of the alignment;
    ``released`` and ``nested`` are the k of either way of stacking. ``note`` says what had to be lowered, or is empty.
    """

    k_max: int
    nearest: int
    released: tuple[int, ...]
    nested: tuple[int, ...]
    note: str

    @classmethod
    def of(cls, splits: Sequence[Split], folds: Sequence[np.ndarray], k_max: int) -> Limits:
        """The limits of splits whose training parts have the inner ``folds`` (n_train,)."""
        whole = min(len(split.train) for split in splits)
        inner = min(len(fold) - np.bincount(fold).max() for fold in folds)
        single, shared = min(k_max, whole), min(K, whole - 1)
        released = tuple(k for k in CANDIDATES if k <= whole) or (whole,)
        nested = tuple(k for k in CANDIDATES if k <= inner) or (inner,)
        lowered = [f"single models choose k up to {single} instead of {k_max}"] if single < k_max else []
        lowered += [f"alignment uses {shared} neighbours instead of {K}"] if shared < K else []
        for name, kept in (("stacking as released", released), ("nested stacking", nested)):
            lowered += [f"{name} uses k of {', '.join(map(str, kept))}"] if kept != CANDIDATES else []
        note = f"The smallest training part has {whole} samples: {'; '.join(lowered)}." if lowered else ""
        return cls(single, shared, released, nested, note)


def nearest(vectors: np.ndarray, tasks: Sequence[Task], count: int) -> list[np.ndarray]:
    """Row numbers of the ``count`` nearest samples, nearest first: one array (asked, count) a task.

    ``vectors`` is (n, d). A task is a pair of row numbers: those among which neighbours are sought, and those whose
    neighbours are asked for, which must be either all among the former (no sample is then its own neighbour) or none.
    Distances and ties as in :func:`knn.evaluate`: cosine in float64, equal distances in the order of the rows. Where
    fewer than ``count`` are to be had, all of them are given.
    """
    unit = np.asarray(vectors, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    within = np.zeros((len(tasks), len(unit)), bool)
    found, own = [], []
    for number, (among, asked) in enumerate(tasks):
        within[number, among] = True
        inside = within[number, asked]
        if inside.any() and not inside.all():
            raise ValueError(f"task {number}: some of the samples asked for are among those sought, and some are not")
        own.append(bool(inside.any()))
        found.append(np.empty((len(asked), min(count, len(among) - own[-1])), np.int32))
    for start in range(0, len(unit), BLOCK):
        order = np.argsort(1 - unit[start : start + BLOCK] @ unit.T, axis=1, kind="stable").astype(np.int32)
        for number, (_, asked) in enumerate(tasks):
            here = np.flatnonzero((asked >= start) & (asked < start + BLOCK))
            ordered = order[asked[here] - start]
            kept = within[number][ordered]
            if own[number]:
                kept &= ordered != asked[here][:, None]
            width = found[number].shape[1]
            found[number][here] = ordered[kept].reshape(len(here), -1)[:, :width] if len(here) else 0
    return found


def inner_folds(labels: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    """(n,) number of the inner fold of each training sample; all samples of a patient are in one.

    Patients with a positive sample and those without are dealt to five folds in turn, in random order; to fewer folds
    if there are fewer of the rarer kind. ValueError if what is outside a fold would lack a class.
    """
    people, person = np.unique(patients, return_inverse=True)
    positive = np.zeros(len(people), bool)
    positive[person[labels == 1]] = True
    shuffled = np.random.default_rng(seed).permutation(len(people))
    dealt = shuffled[np.argsort(positive[shuffled], kind="stable")]
    fold_of = np.empty(len(people), np.int64)
    rarer = min(positive.sum(), (~positive).sum())
    fold_of[dealt] = np.arange(len(people)) % np.clip(rarer, 2, FOLDS)
    folds = fold_of[person]
    if any(len(np.unique(labels[folds != number])) < 2 for number in range(folds.max() + 1)):
        raise ValueError("a training part has too few patients of a class: it cannot be cross-validated")
    return folds
