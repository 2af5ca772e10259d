"""What unrelated embeddings have in common, and what two have in common because both see a third thing.

The null hypothesis is that the second embedding does not know which sample is which: its graph of neighbours stays,
and its samples change places (Hubert and Schultz, Br J Math Stat Psychol 29, 190-241, 1976: quadratic assignment).
Among samples of like size alone, places are changed within groups of like size: what is left in common then needs no
more than size. Neighbours by size inside a group are still lost, so this level is a lower bound of what size explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from . import overlap
from .base import AlignmentError, same_samples

GROUP = 10  # samples of like size that change places: fewer than two in each other's stead would be no test
LEVEL = 0.05


def expected(n: int, k: int) -> float:
    """Mean number of common neighbours of ``k`` for unrelated embeddings of ``n`` samples."""
    if n < 2 or not 1 <= k <= n - 1:
        raise AlignmentError(f"{k} neighbours of {n} samples: k must be from 1 to n - 1")
    return k * k / (n - 1)


def enough(draws: int, tests: int) -> int:
    """``draws``, or as many as it takes for the smallest possible p, times the number of tests (Holm), to be below
    0.05."""
    return max(draws, int(tests / LEVEL))


def places(n: int, draws: int, seed: int = 0, groups: Sequence[int] | None = None) -> np.ndarray:
    """Random permutations (draws, n) of the samples; with ``groups`` (n,), each sample stays within its own."""
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permuted(np.tile(np.arange(n, dtype=np.int32), (draws, 1)), axis=1)
    groups = np.asarray(groups)
    ordered, drawn = np.argsort(groups, kind="stable"), np.empty((draws, n), np.int32)
    for row in drawn:
        row[ordered] = np.lexsort((rng.random(n), groups))
    return drawn


def relabelled(near: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Neighbours (n, k) if sample i becomes sample ``place[i]``: those of place[i] are the places of i's."""
    moved = np.empty_like(near)
    moved[place] = place[near]
    return moved


def permuted(near: Mapping[str, np.ndarray], permutations: np.ndarray) -> np.ndarray:
    """Mean number of common neighbours (draws, pairs) of every pair, the second of each with its samples permuted.

    Pairs are those of :func:`overlap.counts`, permutations (draws, n) those of :func:`places`.
    """
    n, names = same_samples(near), list(near)
    if permutations.ndim != 2 or permutations.shape[1] != n:
        raise AlignmentError(f"permutations are (draws, {n}), these are {permutations.shape}")
    plain = {name: overlap.columns(each) for name, each in near.items()}
    found = np.empty((len(permutations), len(names) * (len(names) - 1) // 2))
    for row, place in zip(found, permutations, strict=True):
        moved = {name: overlap.columns(relabelled(near[name], place)) for name in names[1:]}
        row[:] = [overlap.total(plain[one], moved[two]) for one, two in combinations(names, 2)]
    return found / n


def p_values(observed: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """One-sided p (m,) that draws (draws, m) reach what was observed (m,), which counts as a draw itself.

    Phipson and Smyth, Stat Appl Genet Mol Biol 9, 39 (2010): p is never zero.
    """
    reached = (drawn >= np.asarray(observed) - 1e-12).sum(axis=0)  # means of counts, equal but for rounding
    return (reached + 1) / (len(drawn) + 1)


def size_groups(volumes: Sequence[float], group: int = GROUP) -> np.ndarray:
    """Groups (n,) of about ``group`` samples of like volume, numbered from 0; those without a volume are -1."""
    volumes = np.asarray(volumes, float)
    known = np.flatnonzero(np.isfinite(volumes) & (volumes > 0))
    groups = np.full(len(volumes), -1)
    many = max(1, len(known) // group)
    ordered = known[np.argsort(volumes[known], kind="stable")]
    groups[ordered] = np.arange(len(known)) * many // max(len(known), 1)
    return groups


def label_groups(labels: Sequence[float]) -> np.ndarray:
    """Groups (n,) of the same label, numbered from 0; those without one are -1."""
    labels = np.asarray(labels, float)
    known = np.isfinite(labels)
    groups = np.full(len(labels), -1)
    groups[known] = np.unique(labels[known], return_inverse=True)[1]
    return groups
