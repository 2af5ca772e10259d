"""Exercise 4, stability is not usefulness: how each measure of stability is raised without any information.

A pair of images of a patient is the original and the same with voxels scrambled. ``Pair`` embeds both; ``games`` are
embeddings made of a real one, or of nothing, that are as stable as one likes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import knn, statistics
from ..plots.base import percent
from ..robustness import agreement, jitter, retest
from .base import WorkshopError

ENDPOINTS = {
    "stage": "local stage, T3 or T4 against T1 or T2",
    "survival": "alive at two years",
}
ADVANCED = 3  # lowest T stage that counts as advanced
QUANTITIES = {
    "cosine": "within-patient cosine",
    "cosine of others": "between-patient cosine",
    "separation": "separation",
    "identification": "identification rate",
    "median ICC": "median ICC",
}
COLUMNS = ["embedding", "measure", "value", "low", "high"]
FINGERPRINT = 64  # dimensions of the embedding that is drawn from a name


@dataclass(frozen=True)
class Pair:
    """An embedding of two images of each patient: ``first`` and ``second`` (n, d), row by row."""

    first: np.ndarray
    second: np.ndarray

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Pair:
        """The pair with both images' vectors changed in the same way."""
        return Pair(change(self.first), change(self.second))


def endpoint(table: pd.DataFrame, name: str) -> np.ndarray:
    """Labels (n,) of 0 and 1 of an endpoint of ``ENDPOINTS``, NaN where not known, from annotations with T stage."""
    if name not in ENDPOINTS:
        raise WorkshopError(f"unknown endpoint '{name}'. Known: {', '.join(ENDPOINTS)}")
    if name == "survival":
        return table["label"].to_numpy(float)
    stage = table["clinical_t_stage"].to_numpy(float)
    return np.where(np.isfinite(stage), stage >= ADVANCED, np.nan)


def with_constant(vectors: np.ndarray, size: float) -> np.ndarray:
    """Vectors (n, d + 1): those of (n, d) at length 1, and one more number, ``size``, the same for everybody."""
    unit = agreement.unit(vectors, "embedding")
    return np.column_stack([unit, np.full(len(unit), float(size))])


def lifted(cosine: float | np.ndarray, size: float) -> float | np.ndarray:
    """What becomes of a cosine :func:`with_constant`: it rises towards 1, and no two cosines change their order."""
    return (cosine + size**2) / (1 + size**2)


def size_for(cosine: float, wanted: float) -> float:
    """The least constant with which a mean cosine becomes the ``wanted`` one, which is between it and 1."""
    if not cosine <= wanted < 1:
        raise WorkshopError(f"a constant lifts a cosine of {cosine:.4f} to values below 1, not to {wanted}")
    return float(np.sqrt((wanted - cosine) / (1 - wanted)))


def shrunk(vectors: np.ndarray, centre: np.ndarray, share: float) -> np.ndarray:
    """Vectors (n, d) at length 1 of which ``share`` is replaced by one vector (d,), such as the cohort's mean."""
    if not 0 <= share <= 1:
        raise WorkshopError(f"share must be from 0 to 1, not {share}")
    return (1 - share) * agreement.unit(vectors, "embedding") + share * centre


def most_stable(pair: Pair, keep: int) -> np.ndarray:
    """Numbers (keep,) of the dimensions of highest ICC(2,1) between the two images, the highest first."""
    dimensions = pair.first.shape[1]
    if not 1 <= keep <= dimensions:
        raise WorkshopError(f"keep must be from 1 to {dimensions} dimensions, not {keep}")
    icc = agreement.icc(pair.first, pair.second)
    return np.argsort(-np.where(np.isfinite(icc), icc, -np.inf), kind="stable")[:keep]


def fingerprint(patients: Sequence[str], dimensions: int = FINGERPRINT) -> np.ndarray:
    """Vectors (n, dimensions) drawn at random from the patient's name, without a look at any image."""
    seeds = [int.from_bytes(hashlib.sha256(str(each).encode()).digest()[:8], "big") for each in patients]
    return np.array([np.random.default_rng(seed).normal(size=dimensions) for seed in seeds])


def games(pair: Pair, patients: Sequence[str], constant: float, share: float, keep: int) -> dict[str, Pair]:
    """The pair as given, and six made of it or of nothing; every one but the first is a way to look stable."""
    centre = agreement.unit(pair.first, "embedding").mean(axis=0)
    dimensions = most_stable(pair, keep)
    names = fingerprint(patients)
    same = np.ones((len(pair.first), 1))
    return {
        "as given": pair,
        f"a constant of {constant:g} added": pair.each(lambda vectors: with_constant(vectors, constant)),
        f"{percent(share)} the cohort's mean": pair.each(lambda vectors: shrunk(vectors, centre, share)),
        f"the {keep} most stable dimensions": pair.each(lambda vectors: _not_zero(vectors[:, dimensions])),
        "the most stable dimension": pair.each(lambda vectors: _not_zero(vectors[:, dimensions[:1]])),
        "fingerprint of the name": Pair(names, names),
        "the same for everybody": Pair(same, same),
    }


def _not_zero(vectors: np.ndarray) -> np.ndarray:
    """Vectors of which none is zero: an angle needs a length. What is added is a millionth of the mean length."""
    vectors = np.asarray(vectors, np.float64)
    return vectors + 1e-6 * np.abs(vectors).mean()


def measured(pair: Pair, patients: Sequence[str], draws: int = 200) -> pd.DataFrame:
    """Measures of stability of one pair, ``QUANTITIES`` of :func:`robustness.retest.compare`: measure, value, low,
    high. No limits (NaN) without draws."""
    summary = retest.compare(pair.first, pair.second, patients, draws).summary.set_index("quantity")
    found = summary.loc[list(QUANTITIES.values())].reset_index(drop=True)
    found.insert(0, "measure", list(QUANTITIES))
    return found


def useful(vectors: np.ndarray, labels: np.ndarray, splits: Sequence[knn.Split]) -> tuple[float, float, float]:
    """AUC of kNN on held-out patients with its 95 % interval (auc, low, high), corrected for overlapping splits.

    Of vectors (n, d) and labels (n,), NaN where not known; ``splits`` are those of :func:`splits_of`.
    """
    known, protocol = np.isfinite(labels), knn.PROTOCOLS.get("grouped")
    return protocol.interval(protocol.evaluate(vectors[known], labels[known], splits).scores)


def splits_of(labels: np.ndarray, patients: Sequence[str]) -> list[knn.Split]:
    """Ten splits of the samples with a label, no patient on two sides, made once for all embeddings.

    Where each patient has one sample, those of the study, which are made in a fraction of the time, are such splits.
    """
    known, patients = np.isfinite(labels), np.asarray(patients)
    if len(np.unique(patients[known])) == known.sum():
        return knn.paper_splits(labels[known])
    return knn.grouped_splits(labels[known], patients[known])


def compared(
    pairs: Mapping[str, Pair],
    labels: np.ndarray,
    patients: Sequence[str],
    splits: Sequence[knn.Split],
) -> pd.DataFrame:
    """Stability and usefulness of every embedding, tidy: embedding, measure, value, low, high.

    Measures are those of ``QUANTITIES``, without limits, and "AUC", that of the first image.
    """
    parts = []
    for name, pair in pairs.items():
        rows = measured(pair, patients, 0)
        auc = dict(zip(["value", "low", "high"], useful(pair.first, labels, splits), strict=True))
        rows = pd.concat([rows.astype({"low": float, "high": float}), pd.DataFrame([{"measure": "AUC", **auc}])])
        parts.append(rows.assign(embedding=name)[COLUMNS])
    return pd.concat(parts, ignore_index=True)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A tidy table as one row an embedding, in its order, one column a measure."""
    order = list(dict.fromkeys(table["embedding"]))
    return table.pivot(index="embedding", columns="measure", values="value").loc[order].rename_axis(None, axis=1)


@dataclass(frozen=True)
class Kappa:
    """The study's kappa of a pair: ``k`` chosen, ``kappa``, ``itself`` (share of second images whose nearest first
    image is the patient's own), ``shuffled`` (draws,) kappas after the labels were dealt out anew; ``honest`` the
    kappa of decisions on held-out patients."""

    k: int
    kappa: float
    itself: float
    shuffled: np.ndarray
    honest: float


def kappa(pair: Pair, labels: np.ndarray, patients: Sequence[str], draws: int = 20, seed: int = 0) -> Kappa:
    """The study's kappa (:func:`robustness.jitter.study_kappa`), with the labels as they are and with labels that
    mean nothing, beside that of held-out patients. Samples without a label are left out."""
    known = np.isfinite(labels)
    pair, labels, patients = pair.each(lambda vectors: vectors[known]), labels[known], np.asarray(patients)[known]
    small = turned(pair)
    trials = [small.first, small.second]
    rng, found = np.random.default_rng(seed), jitter.study_kappa(trials, labels)
    dealt = [jitter.study_kappa(trials, rng.permutation(labels)).kappas[0] for _ in range(draws)]
    held = jitter.held_out(trials[0], trials[1:], labels, patients)
    return Kappa(found.k, float(found.kappas[0]), float(found.itself[0]), np.array(dealt), float(held.kappa[1]))


def turned(pair: Pair) -> Pair:
    """The pair in as many dimensions as it has vectors, where it had more: turned, so that all angles are the same."""
    n, d = pair.first.shape
    if d <= 2 * n:
        return pair
    both = np.vstack([pair.first, pair.second]).astype(np.float64)
    values, axes = np.linalg.eigh(both @ both.T)
    small = axes * np.sqrt(np.clip(values, 0, None))
    return Pair(small[:n], small[n:])


def auc_by_k(vectors: np.ndarray, labels: np.ndarray, splits: Sequence[knn.Split], k_max: int = 50) -> pd.DataFrame:
    """AUC at k = 1..k_max where the samples predicted are those that train, and for others: k, same, others.

    ``same``: every sample is its own nearest neighbour, as in the study's kappa. ``others``: the mean validation AUC
    of the splits (of patients).
    """
    known = np.isfinite(labels)
    unit, given = agreement.unit(vectors[known], "embedding"), statistics.binary_labels(labels[known])
    order = np.argsort(-(unit @ unit.T), axis=1, kind="stable")[:, :k_max]
    same = knn.auc_curve(np.cumsum(given[order], axis=1), given)
    others = knn.evaluate(unit, given, splits, k_max).curves.mean(axis=0)
    return pd.DataFrame({"k": np.arange(1, k_max + 1), "same": same, "others": others})


def cosines(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of the first image of each patient with the own second (n,) and with those of others (n * (n - 1),)."""
    similar = agreement.unit(pair.first, "first") @ agreement.unit(pair.second, "second").T
    return np.diag(similar).copy(), similar[~np.eye(len(similar), dtype=bool)]


def constants(
    pair: Pair, sizes: Sequence[float], labels: np.ndarray, patients: Sequence[str], splits: Sequence[knn.Split]
) -> pd.DataFrame:
    """What a constant of each of ``sizes`` does: constant, own and others (mean cosines), separation, auc."""
    rows = []
    for size in sizes:
        made = pair.each(lambda vectors, size=size: with_constant(vectors, size))
        found = measured(made, patients, 0).set_index("measure")["value"]
        auc = useful(made.first, labels, splits)[0]
        rows.append((size, found["cosine"], found["cosine of others"], found["separation"], auc))
    return pd.DataFrame(rows, columns=["constant", "own", "others", "separation", "auc"])
