"""Mutual k-nearest-neighbour overlap: how many of a sample's neighbours two embeddings have in common.

Huh et al., "The Platonic Representation Hypothesis", ICML 2024, section 2 and appendix A: mutual k-nearest neighbours.
The study (Pai et al. 2025) reports the mean number of common neighbours of 10; a share is that by k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from .base import AlignmentError, same_samples

ROUND = 2**24  # comparisons held at a time
NUMBERS = 2**22  # of a bootstrap, held at a time
QUANTILES = (0.025, 0.975)


def columns(near: np.ndarray) -> np.ndarray:
    """Neighbours (n, k) as (k, n) in memory, so that comparisons run along the samples."""
    return np.ascontiguousarray(np.asarray(near).T)


def shared(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Number (n,) of neighbours that two lists (n, k) of each sample have in common."""
    first, second = _two(one, two)
    found, step = np.empty(first.shape[1], np.int64), max(1, ROUND // len(first) ** 2)
    for start in range(0, len(found), step):
        part = slice(start, start + step)
        found[part] = (first[:, None, part] == second[None, :, part]).sum(axis=(0, 1))
    return found


def total(first: np.ndarray, second: np.ndarray) -> int:
    """Sum of :func:`shared` over the samples, of neighbours in :func:`columns`."""
    step = max(1, ROUND // len(first) ** 2)
    starts = range(0, first.shape[1], step)
    return sum(
        int(np.count_nonzero(first[:, None, at : at + step] == second[None, :, at : at + step])) for at in starts
    )


def _two(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = columns(one), columns(two)
    if first.shape != second.shape or first.ndim != 2 or 0 in first.shape:
        raise AlignmentError(f"neighbours are (n, k) alike, these are {np.shape(one)} and {np.shape(two)}")
    return first, second


def curve(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Mean share (K,) of common neighbours at k = 1..K, of lists (n, K) with the nearest first.

    A common neighbour at places i and j counts for every k from the larger of the two on.
    """
    first, second = _two(one, two)
    # what the neighbour number m adds: it in the first m of the other list, and the other's in the first m - 1
    added = [
        np.count_nonzero(first[m] == second[: m + 1]) + np.count_nonzero(first[:m] == second[m])
        for m in range(len(first))
    ]
    return np.cumsum(added) / (np.arange(1, len(first) + 1) * first.shape[1])


def counts(near: Mapping[str, np.ndarray]) -> tuple[list[tuple[str, str]], np.ndarray]:
    """All pairs of names, in their order, and :func:`shared` of each (pairs, n)."""
    same_samples(near)
    pairs = list(combinations(near, 2))
    found = [shared(near[one], near[two]) for one, two in pairs]
    return pairs, np.array(found).reshape(len(pairs), -1)


def matrix(pairs: Sequence[tuple[str, str]], values: Sequence[float], diagonal: float = 0.0) -> pd.DataFrame:
    """One value a pair as a symmetric table by name; the study's matrix has 0 on its ``diagonal``."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    table = pd.DataFrame(diagonal, names, names)
    for (one, two), value in zip(pairs, values, strict=True):
        table.loc[one, two] = table.loc[two, one] = value
    return table


def average(table: pd.DataFrame) -> pd.Series:
    """Mean of each model's overlap with the others, of a :func:`matrix`."""
    others = ~np.eye(len(table), dtype=bool)
    return table.where(others).mean(axis=1)


def intervals(values: np.ndarray, patients: Sequence, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """95 % limits (m, 2) of the means of values (m, n) over the samples (n,), patients drawn with replacement.

    All samples of a patient are drawn with it. The lists of neighbours stay as they are, so the interval speaks of
    other samples asked, not of another set to find neighbours in. NaN for one patient.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or values.shape[1] != len(patients):
        raise AlignmentError(f"values are (rows, samples), these are {values.shape} of {len(patients)} samples")
    people, person = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    if len(people) < 2 or not draws:
        return np.full((len(values), 2), np.nan)
    sums = np.array([np.bincount(person, row, len(people)) for row in values])
    sizes = np.bincount(person).astype(float)
    rng, share, drawn = np.random.default_rng(seed), np.full(len(people), 1 / len(people)), []
    step = max(1, NUMBERS // len(people))
    for start in range(0, draws, step):
        often = rng.multinomial(len(people), share, size=min(step, draws - start)).astype(float)
        drawn.append((often @ sums.T) / (often @ sizes)[:, None])
    return np.quantile(np.concatenate(drawn), QUANTILES, axis=0).T
