"""Measures of agreement between repeated measurements: ICC(2,1), weighted kappa; the room's error and bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import statistics


class RobustnessError(ValueError):
    """Embeddings or labels of which nothing can be said; the message names the rows or patients and the fault."""


def icc(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """ICC(2,1) of every dimension (d,) of two measurements (n, d) of the same n subjects; see :func:`icc_of`."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise RobustnessError(f"two measurements are (n, d) alike, these are {first.shape} and {second.shape}")
    return icc_of(np.stack([first, second], axis=1))


def icc_of(ratings: np.ndarray) -> np.ndarray:
    """ICC(2,1) (d,) of ratings (n, k, d): n subjects, each rated by the same k raters, in d dimensions.

    Two-way random effects, absolute agreement, single measurement: Shrout & Fleiss, Psychol Bull 86, 420-428 (1979),
    doi 10.1037/0033-2909.86.2.420. NaN where a dimension is constant over everything, or where the mean squares leave
    nothing to divide by (possible with two subjects only). :class:`RobustnessError` for fewer than two of either.
    """
    ratings = np.asarray(ratings, np.float64)
    if ratings.ndim != 3 or min(ratings.shape[:2]) < 2:
        raise RobustnessError(f"ratings are (subjects, raters, dimensions), at least (2, 2, 1), not {ratings.shape}")
    n, k, _ = ratings.shape
    constant = np.ptp(ratings, axis=(0, 1)) == 0
    centred = ratings - ratings.mean(axis=(0, 1))
    subjects, raters = centred.mean(axis=1), centred.mean(axis=0)
    rest = centred - subjects[:, None] - raters[None]
    between = k * np.square(subjects).sum(axis=0) / (n - 1)
    judges = n * np.square(raters).sum(axis=0) / (k - 1)
    error = np.square(rest).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    return icc_of_squares(between, judges, error, n, k, constant)


def icc_of_squares(
    between: np.ndarray, judges: np.ndarray, error: np.ndarray, n: int, k: int, constant: np.ndarray
) -> np.ndarray:
    """ICC(2,1) from the mean squares between subjects, between raters and of the residual; NaN where ``constant``."""
    below = between + (k - 1) * error + k * (judges - error) / n
    defined = ~constant & (below > 0)
    return np.where(defined, (between - error) / np.where(defined, below, 1), np.nan)


def weighted_kappa(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Linearly weighted kappa (t,) of labels (n,) against each of (t, n) others, as scikit-learn computes it.

    The weight of a disagreement is the difference of *ranks* among the labels that occur in either of the two, not
    the difference of the labels: equal to ``cohen_kappa_score(one, other, weights="linear")``. With two labels it is
    plain kappa. NaN where one label alone occurs in both, since chance then agrees always.
    """
    one, others = np.asarray(one), np.asarray(others)
    if one.ndim != 1 or others.ndim != 2 or others.shape[1] != len(one) or not len(one):
        raise RobustnessError(f"kappa takes labels (n,) and others (t, n), not {one.shape} and {others.shape}")
    words, codes = np.unique(np.vstack([one[None], others]), return_inverse=True)
    codes = codes.reshape(len(others) + 1, -1)
    counts = np.zeros((len(codes), len(words)), np.int64)
    np.add.at(counts, (np.arange(len(codes))[:, None], codes), 1)
    occurs = (counts[0] > 0) | (counts[1:] > 0)
    rank = np.cumsum(occurs, axis=1) - 1
    found = np.abs(rank[:, codes[0]] - np.take_along_axis(rank, codes[1:], axis=1)).sum(axis=1)
    # the mean difference of two independent ranks: at every step, one of them at or below it and the other above
    n, below = len(one), np.cumsum(counts, axis=1)
    steps = below[0] * (n - below[1:]) + below[1:] * (n - below[0])
    chance = (steps * occurs).sum(axis=1) / n
    return np.where(chance > 0, 1 - found / np.where(chance > 0, chance, 1), np.nan)


def binned(probabilities: np.ndarray, bins: int = 100) -> np.ndarray:
    """Number of the bin of each probability, as the released code cuts [0, 1]: 0..bins - 1, and ``bins`` for 1."""
    return np.digitize(probabilities, np.linspace(0, 1, bins + 1)) - 1


def unit(vectors: np.ndarray, name: str, rows: Sequence | None = None) -> np.ndarray:
    """Vectors (n, d) at length 1, in float64; errors as of :func:`lengths`."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / lengths(vectors, name, rows)[:, None]


def lengths(vectors: np.ndarray, name: str, rows: Sequence | None = None) -> np.ndarray:
    """Lengths (n,) of vectors (n, d), none zero or not finite; else a :class:`RobustnessError` that names ``rows``."""
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise RobustnessError(f"{name}: an embedding is (samples, dimensions), this is {vectors.shape}")
    if rows is not None and len(rows) != len(vectors):
        raise RobustnessError(f"{name}: {len(vectors)} embeddings but {len(rows)} patients")
    found = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    wrong = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(wrong):
        some = ", ".join(f"row {row}" if rows is None else str(rows[row]) for row in wrong[:5])
        more = ", ..." if len(wrong) > 5 else ""
        raise RobustnessError(f"{name}: {len(wrong)} vectors are zero or not finite, those of {some}{more}")
    return found


def classes(labels: Sequence, n: int) -> np.ndarray:
    """(n,) labels of 0 and 1, both there; else a :class:`RobustnessError`."""
    try:
        values = statistics.binary_labels(labels)
    except statistics.LabelError as error:
        raise RobustnessError(f"{error}; leave out samples without an outcome") from error
    if len(values) != n:
        raise RobustnessError(f"{n} embeddings but {len(values)} labels")
    return values


def weights(patients: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws + 1, n) how often each sample counts when patients (n,) are drawn with replacement; row 0 is all ones."""
    people, person = np.unique(np.asarray(patients, str), return_inverse=True)
    counts = np.random.default_rng(seed).multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
    return np.vstack([np.ones(len(people)), counts])[:, person]


def limits(drawn: np.ndarray) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles of draws (draws,); those that are NaN say nothing, and NaN if all are."""
    drawn = drawn[np.isfinite(drawn)]
    return tuple(map(float, np.quantile(drawn, (0.025, 0.975)))) if len(drawn) else (float("nan"), float("nan"))
