"""Debiased linear CKA of every pair, the Gram matrix of each embedding made once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .base import checked, same_samples

MOST = 5_000  # samples of which all pairs are looked at
FEWEST = 4  # samples of which the estimator can be had


def cka(vectors: Mapping[str, np.ndarray], most: int = MOST) -> tuple[pd.DataFrame, int]:
    """Debiased linear CKA of embeddings (n, d) of the same samples as a symmetric table by name, and the samples used.

    Centred kernel alignment (Kornblith et al., ICML 2019) with the unbiased HSIC of Song et al. (JMLR 2012, equation
    5): the mean product of two U-centred Gram matrices (Szekely and Rizzo, Ann Stat 42, 2382-2412, 2014), the same
    number as ``diagnostics.cka(..., debiased=True)``. Unrelated embeddings have 0 on average, so it may be negative.
    Of more than ``most`` samples as many are taken, evenly spaced. NaN where an embedding has all samples alike, or
    there are fewer than four.
    """
    n = same_samples(vectors)
    used = np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int)
    if len(used) < FEWEST:
        return pd.DataFrame(np.nan, list(vectors), list(vectors)), len(used)
    centred = np.array([u_centred(checked(each, 1, name)[used]) for name, each in vectors.items()])
    products = centred @ centred.T
    own = np.diag(products)
    known = (own > 0)[:, None] & (own > 0)
    values = np.where(known, products / np.sqrt(np.where(known, np.outer(own, own), 1)), np.nan)
    return pd.DataFrame(values, list(vectors), list(vectors)), len(used)


def u_centred(vectors: np.ndarray) -> np.ndarray:
    """The U-centred Gram matrix of vectors (n, d) above its diagonal, (n (n - 1) / 2,)."""
    vectors = np.asarray(vectors, np.float64)
    vectors = vectors - vectors.mean(axis=0)
    if not vectors.any():
        return np.zeros(len(vectors) * (len(vectors) - 1) // 2)
    gram = vectors @ vectors.T
    n = len(gram)
    np.fill_diagonal(gram, 0)
    rows = gram.sum(axis=1) / (n - 2)
    gram -= rows[:, None] + rows - rows.sum() / (n - 1)
    return gram[np.triu_indices(n, 1)]
