"""What unrelated embeddings have in common, and what two have in common because both see a third thing.

The null hypothesis is that the second embedding does not know which sample is which: its graph of neighbours stays,
and its samples change places (Hubert and Schultz, Br J Math Stat Psychol 29, 190-241, 1976: quadratic assignment).
Among samples of like size alone, places are changed within groups of like size: what is left in common then needs no
more than size. Neighbours by size inside a group are still lost, so this level is a lower bound of what size explains.

Samples change places, not patients: that two embeddings find the samples of a patient alike is agreement, too, and a
small p of a pair may be of that alone where patients have several samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .base import AlignmentError, same_samples

GROUP = 10  # samples of like size that change places: fewer than two in each other's stead would be no test
LEVEL = 0.05
BITS = 32  # of the numbers in which pairs of neighbours are looked up


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
    """Random permutations (draws, n) of the samples; with ``groups`` (n,), each sample stays within its own.

    A sample of no group, -1, keeps its place: nothing is known of what it is like.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permuted(np.tile(np.arange(n, dtype=np.int32), (draws, 1)), axis=1)
    groups, drawn = np.asarray(groups), np.tile(np.arange(n, dtype=np.int32), (draws, 1))
    known = np.flatnonzero(groups >= 0)
    some = groups[known]
    ordered = known[np.argsort(some, kind="stable")]
    for row in drawn:
        row[ordered] = known[np.lexsort((rng.random(len(some)), some))]
    return drawn


def patient_places(patients: Sequence, draws: int, seed: int = 0) -> np.ndarray:
    """Random permutations (draws, n) of whole patients (n,) among those with as many samples.

    The samples of a patient stay together, in an order drawn anew. A patient with a number of samples that nobody
    else has keeps its place, which makes a test less likely to find something, never more.
    """
    rng, person = np.random.default_rng(seed), np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
    sizes, ordered = np.bincount(person), np.argsort(person, kind="stable")
    starts, drawn = np.cumsum(sizes) - sizes, np.empty((draws, len(person)), np.int32)
    for size in np.unique(sizes):
        rows = ordered[starts[sizes == size][:, None] + np.arange(size)]  # (patients, size)
        for row in drawn:
            moved = rng.permutation(rows)
            row[rows] = rng.permuted(moved, axis=1) if size > 1 else moved
    return drawn


def relabelled(near: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Neighbours (n, k) if sample i becomes sample ``place[i]``: those of place[i] are the places of i's."""
    moved = np.empty_like(near)
    moved[place] = place[near]
    return moved


def permuted(near: Mapping[str, np.ndarray], permutations: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Mean number of common neighbours (draws, pairs) of every pair, the second of each with its samples permuted.

    Pairs are those of :func:`overlap.counts`, permutations (draws, n) those of :func:`places`. The mean is over all
    samples, or over ``rows`` (n,) that are True: those that stay among themselves.
    """
    first, second = np.triu_indices(len(near), 1)
    found = totals(near, near, permutations, rows)[:, second, first]
    return found / (same_samples(near) if rows is None else max(int(np.sum(rows)), 1))


def totals(
    still: Mapping[str, np.ndarray],
    moving: Mapping[str, np.ndarray],
    permutations: np.ndarray,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Common neighbours (draws, moving, still) in all, of lists (n, k) of which the one is permuted, the other not.

    Which of the still lists hold a pair (sample, neighbour) are the bits of one number, so that a pair of a permuted
    list is looked up once for all of them. It takes 5 n^2 bytes.
    """
    n = same_samples(still)
    if permutations.ndim != 2 or permutations.shape[1] != n:
        raise AlignmentError(f"permutations are (draws, {n}), these are {permutations.shape}")
    rows = np.ones(n, bool) if rows is None else np.asarray(rows)
    lists = np.stack([np.asarray(each, np.intp) for each in moving.values()], axis=1)  # (n, moving, k)
    parts, names = [], list(still)
    for at in range(0, len(names), BITS):
        held = np.zeros(n * n, np.uint32)
        for bit, name in enumerate(names[at : at + BITS]):
            held[(np.arange(n)[:, None] * n + still[name]).ravel()] |= np.uint32(1 << bit)
        any_of, many = held > 0, len(names[at : at + BITS])
        parts.append(np.array([_counted(held, any_of, lists, place, rows)[:, :many] for place in permutations]))
    return np.concatenate(parts, axis=2)


def _counted(
    held: np.ndarray, any_of: np.ndarray, lists: np.ndarray, place: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """How often (moving, bits) each bit of ``held`` (n * n,) is set at the pairs of lists (n, moving, k) permuted."""
    many, k = lists.shape[1:]
    origin = np.argsort(place)  # in the order of the places: memory is read from front to back
    origin = origin[rows[origin]]
    pairs = np.take(place.astype(np.intp), lists[origin], mode="clip")
    pairs += (place[origin].astype(np.intp) * len(place))[:, None, None]
    hits = np.flatnonzero(np.take(any_of, pairs, mode="clip"))
    owner = (hits // k % many).astype(np.uint16)
    bits = held[pairs.ravel()[hits[np.argsort(owner, kind="stable")]]].astype("<u4")
    single = np.unpackbits(bits.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    ends = np.cumsum(np.bincount(owner, minlength=many))
    # sums as products, four times as fast and exact up to 2^24
    sums = [np.ones(len(part), np.float32) @ part.astype(np.float32) for part in np.split(single, ends[:-1])]
    return np.array(sums, np.int64)


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
