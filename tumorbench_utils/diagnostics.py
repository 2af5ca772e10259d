"""What can be said of an embedding without any label: its size, spread, rank and twins, and how two of them agree.

Vectors are (n, d), one a sample; all arithmetic is in float64. Products of (n, n) or (d, d), whichever is smaller,
stand for singular value decompositions: 2,000 samples of 4,096 dimensions take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

FAINT = 1e-3  # of the median standard deviation, below which a dimension says next to nothing
TWIN = 1e-6  # how far below 1 the cosine similarity of two duplicates may be
LISTED = 100  # duplicates listed by name; the rest are counted
MOST = 5_000  # samples of which all pairs are looked at
COMPONENTS = 5  # principal components held against the volume
FEWEST = 5  # samples for a correlation
NEIGHBOURS = 10
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Dead:
    """Dimensions (their numbers) that are ``constant`` over the samples, and others of next to no spread, ``faint``:
    a standard deviation below a thousandth of the median of those that are not constant."""

    constant: np.ndarray
    faint: np.ndarray


@dataclass(frozen=True)
class Spectrum:
    """Singular values of the centred vectors, falling, (min(n, d),), and what follows from them.

    ``shares`` (same shape) of the variance; ``effective_rank`` is exp of the entropy of the normalised singular values
    (Roy and Vetterli 2007), ``participation_ratio`` the squared sum of the variances by the sum of their squares;
    both NaN if all vectors are equal. ``points`` (n, 2) are the first two principal components, in the units of the
    embedding; of each, the value farthest from zero is positive. ``limit`` is the highest rank that n and d allow.
    """

    singular: np.ndarray
    shares: np.ndarray
    effective_rank: float
    participation_ratio: float
    components: np.ndarray
    limit: int

    @property
    def points(self) -> np.ndarray:
        """The first two principal components (n, 2), zero where there is but one."""
        lacking = max(0, 2 - self.components.shape[1])
        return np.pad(self.components[:, :2], ((0, 0), (0, lacking)))


@dataclass(frozen=True)
class Diagnosis:
    """An embedding in figures. ``samples`` of the ``of`` given were looked at, ``used`` are their rows.

    ``norms`` (samples,); ``cosines`` of all pairs (samples * (samples - 1) / 2,); ``duplicates`` has sample_a,
    sample_b, cosine, identical for the first of ``twins`` such pairs; ``size`` has component, spearman, samples: the
    rank correlation of principal components with the volume. ``lacking`` says what could not be computed, and why.
    """

    samples: int
    of: int
    dimensions: int
    used: np.ndarray
    norms: np.ndarray
    dead: Dead
    spectrum: Spectrum
    cosines: np.ndarray
    duplicates: pd.DataFrame
    twins: int
    size: pd.DataFrame
    lacking: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Everything that is one number, as rows (quantity, value)."""
        spectrum = self.spectrum
        rows = [("samples", self.samples), ("samples given", self.of), ("dimensions", self.dimensions)]
        rows += zip(("norm, least", "norm, median", "norm, most"), np.quantile(self.norms, (0, 0.5, 1)), strict=True)
        rows += [("constant dimensions", len(self.dead.constant)), ("faint dimensions", len(self.dead.faint))]
        rows += [("effective rank", spectrum.effective_rank), ("participation ratio", spectrum.participation_ratio)]
        rows += [("highest possible rank", spectrum.limit)]
        rows += [(f"variance in component {n}", share) for n, share in enumerate(spectrum.shares[:COMPONENTS], 1)]
        if len(self.cosines):
            values = np.quantile(self.cosines, QUANTILES)
            rows += [(f"cosine similarity, quantile {q:g}", value) for q, value in zip(QUANTILES, values, strict=True)]
        rows += [("duplicate pairs", self.twins)]
        rows += [(f"Spearman of component {row.component} and volume", row.spearman) for row in self.size.itertuples()]
        return pd.DataFrame(rows, columns=["quantity", "value"]).astype({"value": float})


@dataclass(frozen=True)
class Comparison:
    """Two embeddings of the same samples.

    ``k`` neighbours by cosine; ``shared`` (n,) is the share of them that both embeddings have, ``overlap`` its mean,
    and ``chance`` what unrelated embeddings share. ``cka`` is linear CKA (Kornblith et al. 2019), which is near 1 for
    any two embeddings of many more dimensions than samples; ``cka_debiased`` (Song et al. 2012) is 0 for unrelated
    ones. ``distances`` has first, second: the cosine distances of all pairs; ``spearman`` and ``pearson`` correlate
    them. What cannot be computed is NaN, and ``lacking`` says why.
    """

    samples: int
    of: int
    k: int
    shared: np.ndarray
    overlap: float
    chance: float
    cka: float
    cka_debiased: float
    spearman: float
    pearson: float
    distances: pd.DataFrame
    lacking: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Everything that is one number, as rows (quantity, value)."""
        names = ("samples", "k", "overlap", "chance", "cka", "cka_debiased", "spearman", "pearson")
        return pd.DataFrame([(name, float(getattr(self, name))) for name in names], columns=["quantity", "value"])


def diagnose(
    vectors: np.ndarray, sample_id: Sequence[str], volume_ml: Sequence[float] | None = None, most: int = MOST
) -> Diagnosis:
    """Look at an embedding, (n, d) with n names and, where there are any, n volumes in ml (NaN: not known).

    Of more than ``most`` samples as many are taken, evenly spaced. :class:`ValueError` for what is no embedding.
    """
    vectors, names = _checked(vectors), np.asarray(sample_id, dtype=object)
    for name, given in (("sample_id", names), ("volumes", volume_ml)):
        if given is not None and len(given) != len(vectors):
            raise ValueError(f"{len(vectors)} vectors but {len(given)} {name}")
    used = _thinned(len(vectors), most)
    given, vectors, names = len(vectors), vectors[used], names[used]
    found, lacking = spectrum(vectors), []
    if len(vectors) == 1:
        lacking.append("spread, rank and similarities: there is one sample")
    elif not found.singular.any():
        lacking.append("rank and principal components: all vectors are equal")
    elif len(vectors) == 2:
        lacking.append("a spectrum: two samples differ in one direction, so that every rank is 1")
    size = pd.DataFrame({"component": pd.Series(dtype=int), "spearman": pd.Series(dtype=float), "samples": 0})
    if volume_ml is not None and found.singular.any():
        size = correlations(found.components, np.asarray(volume_ml, float)[used])
        if size.empty:
            lacking.append(f"correlation with the volume: fewer than {FEWEST} samples have one, or all the same")
    similar = similarity(vectors)
    pairs, twins = duplicates(vectors, names, similar)
    cosines = similar[np.triu_indices(len(vectors), 1)]
    norms = np.linalg.norm(vectors, axis=1)
    shape = (len(vectors), given, vectors.shape[1])
    return Diagnosis(*shape, used, norms, dead(vectors), found, cosines, pairs, twins, size, tuple(lacking))


def dead(vectors: np.ndarray) -> Dead:
    """The dead dimensions of vectors (n, d); of one sample nothing can be said, and none is."""
    vectors = np.asarray(vectors, np.float64)
    if len(vectors) < 2:
        return Dead(np.empty(0, int), np.empty(0, int))
    constant = np.ptp(vectors, axis=0) == 0
    spread = vectors.std(axis=0)
    usual = np.median(spread[~constant]) if not constant.all() else 0.0
    return Dead(np.flatnonzero(constant), np.flatnonzero(~constant & (spread < FAINT * usual)))


def spectrum(vectors: np.ndarray, keep: int = COMPONENTS) -> Spectrum:
    """Singular values of the centred vectors (n, d), and their first ``keep`` principal components."""
    centred = _centred(vectors)
    wide = len(centred) <= centred.shape[1]
    values, basis = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    singular = np.sqrt(np.clip(values[::-1], 0, None))
    limit = min(len(centred) - 1, centred.shape[1])
    # the product of a matrix with itself knows its singular values to half the digits, and their mean costs some too
    eps = np.finfo(np.float64).eps
    zero = singular <= max(singular[0] * np.sqrt(len(singular) * eps), 10 * eps * np.linalg.norm(vectors))
    singular = np.where(zero | (np.arange(len(singular)) >= limit), 0.0, singular)
    keep = min(keep, int((singular > 0).sum()))
    basis = basis[:, ::-1][:, :keep]
    components = basis * singular[:keep] if wide else centred @ basis
    if keep:
        farthest = components[np.abs(components).argmax(axis=0), np.arange(keep)]
        components = components * np.sign(farthest)
    variances = singular**2
    shares = variances / variances.sum() if keep else np.zeros_like(singular)
    return Spectrum(singular, shares, effective_rank(singular), participation_ratio(singular), components, limit)


def effective_rank(singular: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli, EUSIPCO 2007); NaN if all are zero."""
    weights = singular[singular > 0] / singular.sum() if singular.any() else None
    return float("nan") if weights is None else float(np.exp(-(weights * np.log(weights)).sum()))


def participation_ratio(singular: np.ndarray) -> float:
    """How many directions share the variance, (sum of variances)^2 / sum of variances^2; NaN if all are zero."""
    variances = np.square(singular)
    return float(variances.sum() ** 2 / np.square(variances).sum()) if singular.any() else float("nan")


def similarity(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarity (n, n) of all pairs of vectors (n, d), none of which is zero."""
    vectors = np.asarray(vectors, np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.clip(unit @ unit.T, -1, 1)


def duplicates(
    vectors: np.ndarray, sample_id: Sequence[str], similar: np.ndarray | None = None
) -> tuple[pd.DataFrame, int]:
    """Pairs of samples that an embedding cannot tell apart, the first hundred by name, and how many there are.

    Columns sample_a, sample_b, cosine, identical (the same in every number; else a cosine within 1e-6 of 1); those
    that are identical come first. ``similar`` is the matrix of :func:`similarity`, if it is there already.
    """
    similar = similarity(vectors) if similar is None else similar
    names = np.asarray(sample_id, dtype=object)
    first, second = np.nonzero(np.triu(similar > 1 - TWIN, 1))
    twins = len(first)
    _, group = np.unique(np.asarray(vectors), axis=0, return_inverse=True) if len(first) else (None, np.empty(0, int))
    identical = group.ravel()[first] == group.ravel()[second]
    order = np.argsort(~identical, kind="stable")[:LISTED]
    first, second, identical = first[order], second[order], identical[order]
    columns = {"sample_a": names[first], "sample_b": names[second], "cosine": similar[first, second]}
    return pd.DataFrame({**columns, "identical": identical}), twins


def correlations(components: np.ndarray, volume_ml: np.ndarray) -> pd.DataFrame:
    """Rank correlation of principal components (n, c) with the logarithm of the volume (n,).

    Columns component (from 1), spearman, samples; no row if fewer than five samples have a volume above zero or all
    have the same. The sign is that of the component, which is arbitrary.
    """
    from scipy import stats

    known = np.isfinite(volume_ml) & (volume_ml > 0)
    volumes = volume_ml[known]
    enough = len(volumes) >= FEWEST and np.ptp(volumes) > 0
    rows = [
        (number, stats.spearmanr(column[known], np.log(volumes)).statistic, len(volumes))
        for number, column in enumerate(components.T if enough else [], 1)
    ]
    return pd.DataFrame(rows, columns=["component", "spearman", "samples"])


def compare(first: np.ndarray, second: np.ndarray, k: int = NEIGHBOURS, most: int = MOST) -> Comparison:
    """Hold two embeddings (n, d1) and (n, d2) of the same samples, row by row, against each other.

    Of fewer than 2 k + 1 samples (n - 1) // 2 neighbours are taken. Of more than ``most`` samples as many are taken,
    evenly spaced.
    """
    from scipy import stats

    first, second = _checked(first), _checked(second)
    if len(first) != len(second):
        raise ValueError(f"two embeddings of {len(first)} and {len(second)} samples cannot be held against each other")
    used = _thinned(len(first), most)
    of, first, second = len(first), first[used], second[used]
    n, nan, lacking = len(first), float("nan"), []
    pairs = np.triu_indices(n, 1)
    one, two = similarity(first), similarity(second)
    distances = pd.DataFrame({"first": 1 - one[pairs], "second": 1 - two[pairs]})
    k = min(k, (n - 1) // 2)
    shared = neighbours_shared(one, two, k) if k else np.full(n, nan)
    if not k:
        lacking.append("neighbours: it takes three samples")
    spearman = pearson = nan
    if n >= 3 and (distances.std() > 0).all():
        spearman = float(stats.spearmanr(distances["first"], distances["second"]).statistic)
        pearson = float(stats.pearsonr(distances["first"], distances["second"]).statistic)
    else:
        lacking.append("correlation of distances: it takes three samples, of which not all are equally far apart")
    plain, debiased = cka(first, second), cka(first, second, debiased=True)
    if np.isnan(debiased):
        lacking.append("CKA without bias: it takes four samples that differ in both embeddings")
    chance = k / (n - 1) if k else nan
    values = (k, shared, float(shared.mean()), chance, plain, debiased, spearman, pearson, distances)
    return Comparison(n, of, *values, tuple(lacking))


def neighbours_shared(one: np.ndarray, two: np.ndarray, k: int) -> np.ndarray:
    """Share (n,) of each sample's ``k`` nearest others that two similarity matrices (n, n) agree on."""
    near = []
    for similar in (one, two):
        others = similar.copy()
        np.fill_diagonal(others, -np.inf)
        chosen = np.zeros(similar.shape, bool)
        np.put_along_axis(chosen, np.argsort(-others, axis=1, kind="stable")[:, :k], True, axis=1)
        near.append(chosen)
    return (near[0] & near[1]).sum(axis=1) / k


def cka(first: np.ndarray, second: np.ndarray, debiased: bool = False) -> float:
    """Linear centred kernel alignment of two embeddings of the same samples; NaN where it is not defined.

    ``debiased`` takes the estimator of Song et al. (2012) of the HSIC, which is 0 on average for unrelated
    embeddings and needs four samples.
    """
    gram = [each @ each.T for each in (_centred(first), _centred(second))]
    if debiased and len(first) < 4:
        return float("nan")
    product = _hsic if debiased else lambda a, b: float((a * b).sum())
    across, own = product(*gram), [product(each, each) for each in gram]
    return across / float(np.sqrt(own[0] * own[1])) if min(own) > 0 else float("nan")


def _centred(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors - vectors.mean(axis=0)


def _hsic(one: np.ndarray, two: np.ndarray) -> float:
    """The unbiased estimator of Song et al. (JMLR 2012, equation 5), of two Gram matrices (n, n), n at least 4."""
    n = len(one)
    one, two = one - np.diag(np.diag(one)), two - np.diag(np.diag(two))
    a, b = one.sum(axis=0), two.sum(axis=0)
    apart = a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a @ b) / (n - 2)
    return float(((one * two).sum() + apart) / (n * (n - 3)))


def _thinned(n: int, most: int) -> np.ndarray:
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int)


def _checked(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(f"an embedding is (samples, dimensions), this is {vectors.shape}")
    wrong = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    if wrong.any():
        raise ValueError(f"{wrong.sum()} vectors are zero throughout or not finite, the first in row {wrong.argmax()}")
    return vectors
