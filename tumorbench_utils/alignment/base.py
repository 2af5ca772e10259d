"""The room's error, and what every embedding must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


class AlignmentError(ValueError):
    """Embeddings that cannot be held against each other; the message names the embedding, rows and the fault."""


def checked(vectors: np.ndarray, k: int, name: str = "embedding") -> np.ndarray:
    """Vectors (n, d) as they are, n at least k + 2, none zero or not finite; else an :class:`AlignmentError`.

    With k + 1 samples every embedding has the same k neighbours, so nothing can be said.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise AlignmentError(f"{name}: vectors are (samples, dimensions), these are {vectors.shape}")
    if k < 1:
        raise AlignmentError(f"{name}: k must be at least 1, not {k}")
    if len(vectors) < k + 2:
        raise AlignmentError(f"{name}: {len(vectors)} samples, but {k} neighbours of each take at least {k + 2}")
    # a sum is finite only if all terms are, and takes no mask of the size of the embedding
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    wrong = ~(np.isfinite(squares) & (squares > 0))
    if wrong.any():
        raise AlignmentError(f"{name}: {wrong.sum()} vectors are zero or not finite, the first in row {wrong.argmax()}")
    return vectors


def same_samples(tables: Mapping[str, np.ndarray], rows: Sequence | None = None) -> int:
    """Number of samples, the same in every table (and of ``rows``); else an :class:`AlignmentError`."""
    if not tables:
        raise AlignmentError("no embeddings to hold against each other")
    sizes = {name: len(each) for name, each in tables.items()}
    if rows is not None:
        sizes["patients, labels or volumes"] = len(rows)
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise AlignmentError(f"not the same samples: {told}")
    return next(iter(sizes.values()))
