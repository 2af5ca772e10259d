"""Debiased linear CKA of every pair, the Gram matrix of each embedding made once, in blocks of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .base import checked, same_samples

MOST = 5_000  # samples of which all pairs are looked at
FEWEST = 4  # samples of which the estimator can be had
BLOCK = 2**27  # bytes of Gram matrices, of all embeddings together, held at a time


def cka(vectors: Mapping[str, np.ndarray], most: int = MOST, block: int = BLOCK) -> tuple[pd.DataFrame, int]:
    """Debiased linear CKA of embeddings (n, d) of the same samples as a symmetric table by name, and the samples used.

    Centred kernel alignment (Kornblith et al., ICML 2019) with the unbiased HSIC of Song et al. (JMLR 2012, equation
    5): the mean product of two U-centred Gram matrices (Szekely and Rizzo, Ann Stat 42, 2382-2412, 2014), the same
    number as ``diagnostics.cka(..., debiased=True)``. Unrelated embeddings have 0 on average, so it may be negative.
    Of more than ``most`` samples as many are taken, evenly spaced. NaN where an embedding has all samples alike, or
    there are fewer than four. ``block`` is in bytes; beside it two float64 copies of one embedding are held at most.
    """
    n = same_samples(vectors)
    used = np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int)
    if len(used) < FEWEST:
        return pd.DataFrame(np.nan, list(vectors), list(vectors)), len(used)
    given = [checked(each, 1, name) for name, each in vectors.items()]
    products = _products(given if n <= most else [each[used] for each in given], block)
    own = np.diag(products)
    known = (own > 0)[:, None] & (own > 0)
    values = np.where(known, products / np.sqrt(np.where(known, np.outer(own, own), 1)), np.nan)
    return pd.DataFrame(values, list(vectors), list(vectors)), len(used)


def _products(vectors: Sequence[np.ndarray], block: int) -> np.ndarray:
    """Sums (m, m) over all pairs of samples of the products of U-centred Gram matrices of m embeddings (n, d)."""
    n, many = len(vectors[0]), len(vectors)
    means = [each.mean(axis=0, dtype=np.float64) for each in vectors]
    # rows of a Gram matrix of centred vectors sum to 0, so to minus their diagonal without it
    rows = [-(((each - mean) ** 2).sum(axis=1)) / (n - 2) for each, mean in zip(vectors, means, strict=True)]
    products, step = np.zeros((many, many)), max(1, block // (8 * n * many))
    for start in range(0, n, step):
        height = min(step, n - start)
        above = np.arange(height)[:, None] < np.arange(n - start)  # each pair once
        part = np.empty((many, int(above.sum())))
        for row, each, mean, total in zip(part, vectors, means, rows, strict=True):
            centred = each[start:] - mean
            gram = centred[:height] @ centred.T
            gram -= total[start : start + height, None]
            gram -= total[start:]
            gram += total.sum() / (n - 1)
            row[:] = gram[above]
        products += part @ part.T
    return products
