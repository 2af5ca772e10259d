"""What becomes of kNN predictions when the patch is another: a jittered seed point, a perturbation, a control.

``study_kappa`` is the study's measure as released: the samples that train are the ones predicted. Every sample is then
its own nearest neighbour, so k = 1 always wins with an AUC of 1, and the kappa says little more than how often a
jittered patch finds itself. ``held_out`` predicts patients that it has not learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from .. import knn, statistics
from . import agreement
from .agreement import RobustnessError

AXES = ["x", "y", "z"]


@dataclass(frozen=True)
class StudyKappa:
    """``k`` chosen; of each later trial ``kappas`` (t - 1,), and ``itself`` (t - 1,): the share of samples whose
    nearest training vector is their own of trial 0."""

    k: int
    kappas: np.ndarray
    itself: np.ndarray


@dataclass(frozen=True)
class HeldOut:
    """Predictions of held-out patients from the reference (row 0) and from each of t other embeddings.

    ``k`` (folds,); ``probability`` and ``decision`` (t + 1, n): the decision is positive where the probability reaches
    the share of positives in the training part. ``auc`` (t + 1,) over all samples, with the folds pooled, which lowers
    it a little, in every row alike. ``agreement`` (t + 1,) is the share of samples decided as in row 0, ``kappa``
    (t + 1,) Cohen's, NaN where both decide all alike. ``cosine`` (t + 1, n) between a sample's reference vector and
    its other one; ``itself`` (t + 1,) the share of samples whose nearest reference vector is their own.
    """

    k: np.ndarray
    probability: np.ndarray
    decision: np.ndarray
    auc: np.ndarray
    agreement: np.ndarray
    kappa: np.ndarray
    cosine: np.ndarray
    itself: np.ndarray
    labels: np.ndarray
    patients: np.ndarray

    def table(self, names: Sequence, reference: str = "reference", draws: int = 1000, seed: int = 0) -> pd.DataFrame:
        """One row for the ``reference`` and one for each of the t others, which ``names`` names.

        Columns: name; cosine (the mean), agreement, kappa, auc, auc_change (against the reference, paired), itself,
        samples. ``_low`` and ``_high`` are 95 % limits: patients drawn with replacement, predictions as they are.
        """
        names = [reference, *names]
        if len(names) != len(self.auc):
            raise RobustnessError(f"{len(names) - 1} names for {len(self.auc) - 1} embeddings beside the reference")
        weights = agreement.weights(self.patients, draws, seed)
        counts, rows, base = weights.sum(axis=1), [], None
        for row, name in enumerate(names):
            aucs = _aucs(self.labels, self.probability[row], weights)
            base = aucs if row == 0 else base
            drawn = {
                "cosine": weights @ self.cosine[row] / counts,
                "agreement": weights @ (self.decision[row] == self.decision[0]) / counts,
                "auc": aucs,
                "auc_change": aucs - base,
            }
            rows.append(
                {"name": name, "kappa": self.kappa[row], "itself": self.itself[row], "samples": len(self.labels)}
            )
            for figure, values in drawn.items():
                low, high = agreement.limits(values[1:])
                rows[-1] |= {figure: float(values[0]), f"{figure}_low": low, f"{figure}_high": high}
        return pd.DataFrame(rows)[COLUMNS]


def _with_limits(figure: str) -> list[str]:
    return [figure, f"{figure}_low", f"{figure}_high"]


COLUMNS = [
    *("name", *_with_limits("cosine"), *_with_limits("agreement"), "kappa"),
    *(*_with_limits("auc"), *_with_limits("auc_change"), "itself", "samples"),
]


def study_kappa(trials: Sequence[np.ndarray], labels: Sequence, k_max: int = knn.K_MAX) -> StudyKappa:
    """The study's agreement under seed jitter, of trials (t, n, d), the first of which is the annotated seed point.

    As released: trial 0 trains; k is chosen on the very same samples by AUC (of equal ones, the first that Optuna's
    grid search visits; k up to n at most); probabilities of every trial are cut into 100 bins and held against those
    of trial 0 by linearly weighted kappa. Distances are cosine, in float64; equal ones keep the order of the rows.
    :class:`RobustnessError` for labels other than 0 and 1, unequal shapes, and vectors that are zero or not finite.
    """
    if len(trials) < 2:
        raise RobustnessError(f"{len(trials)} trials: it takes the annotated one and at least one jittered")
    labels, k_max = agreement.classes(labels, len(trials[0])), min(k_max, len(trials[0]))
    training = agreement.unit(trials[0], "trial 0")
    similar = _products(trials[0], training, "trial 0")
    # positives among the k nearest, at every k
    votes = np.cumsum(labels[np.argsort(-similar, axis=1, kind="stable")[:, :k_max]], axis=1)
    curve, preference = knn.auc_curve(votes, labels), knn.grid_order(k_max)
    k = int(preference[np.argmax(curve[preference - 1])])
    found, itself = [agreement.binned(votes[:, k - 1] / k)], []
    for number, trial in enumerate(trials[1:], 1):
        near = _nearest(_products(trial, training, f"trial {number}"), k)
        found.append(agreement.binned(labels[near].sum(axis=1) / k))
        itself.append((near[:, 0] == np.arange(len(near))).mean())
    return StudyKappa(k, agreement.weighted_kappa(found[0], np.array(found[1:])), np.array(itself))


def _products(vectors: np.ndarray, training: np.ndarray, name: str) -> np.ndarray:
    """Cosines (n, n) with training vectors of length 1, but for the length of each row's vector: ranks are the same."""
    vectors = np.asarray(vectors, np.float64)
    if vectors.shape != training.shape:
        raise RobustnessError(f"{name}: shape {vectors.shape}, but the first is {training.shape}")
    agreement.lengths(vectors, name)
    return vectors @ training.T


def _nearest(similar: np.ndarray, k: int) -> np.ndarray:
    """(n, k) columns of the highest values of each row, falling; the search for one neighbour need not sort."""
    if k == 1:
        return similar.argmax(axis=1)[:, None]
    return np.argsort(-similar, axis=1, kind="stable")[:, :k]


def held_out(
    reference: np.ndarray,
    others: Sequence[np.ndarray],
    labels: Sequence,
    patients: Sequence,
    k_max: int = knn.K_MAX,
    folds: int = 10,
    seed: int = 0,
) -> HeldOut:
    """Predict held-out patients from a reference embedding (n, d) and from t others (t, n, d) of the same samples.

    Folds are stratified by label and keep patients (n,) together; there are fewer of them where a class has fewer
    patients. In each fold the reference vectors of the other folds train: k is the one of the highest AUC when every
    training sample is predicted from the training samples of other patients (the smallest on ties, half the training
    part at most). :class:`RobustnessError` for labels other than 0 and 1, a class with one patient, unequal shapes, and
    vectors that are zero or not finite.
    """
    patients = np.asarray(patients, str)
    training = agreement.unit(reference, "reference", patients)
    labels = agreement.classes(labels, len(training))
    parts = _folds(labels, patients, folds, seed)
    order, cosine = _ordered(training, training)
    chosen = [_chosen(order, labels, patients, train, k_max) for train, _ in parts]
    found = [_predicted(order, labels, parts, chosen)]
    cosines, itself = [cosine], [(order[:, 0] == np.arange(len(order))).mean()]
    for number, vectors in enumerate(others, 1):
        if np.shape(vectors) != training.shape:
            raise RobustnessError(f"other {number}: shape {np.shape(vectors)}, but the reference is {training.shape}")
        order, cosine = _ordered(agreement.unit(vectors, f"other {number}", patients), training)
        found.append(_predicted(order, labels, parts, chosen))
        cosines.append(cosine)
        itself.append((order[:, 0] == np.arange(len(order))).mean())
    probability, decision = (np.array(values) for values in zip(*found, strict=True))
    return HeldOut(
        np.array(chosen),
        probability,
        decision,
        np.array([statistics.auc(labels, scores) for scores in probability]),
        (decision == decision[0]).mean(axis=1),
        agreement.weighted_kappa(decision[0], decision),  # of two labels, linear weights are none
        np.array(cosines),
        np.array(itself),
        labels,
        patients,
    )


def _folds(labels: np.ndarray, patients: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training part and held-out part (row numbers) of each fold."""
    people = [len(np.unique(patients[labels == label])) for label in (0, 1)]
    folds = min(folds, *people)
    if folds < 2:
        raise RobustnessError(
            "held-out patients need two folds and two patients of each class; "
            f"there are {people[1]} positive, {people[0]} negative"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(labels, labels, patients))
    for train, _ in parts:
        if len(np.unique(labels[train])) < 2 or len(np.unique(patients[train])) < 2:
            raise RobustnessError("a fold trains on one class or one patient only: a few patients have most samples")
    return parts


def _ordered(vectors: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (n, n) of each row, nearest first, equal distances in order of rows, and its cosine to its own."""
    similar = vectors @ training.T
    return np.argsort(1 - similar, axis=1, kind="stable"), np.clip(np.diag(similar), -1, 1)


def _chosen(order: np.ndarray, labels: np.ndarray, patients: np.ndarray, train: np.ndarray, k_max: int) -> int:
    """k of the best AUC within the training part, each sample predicted from other patients' samples."""
    _, person, times = np.unique(patients, return_inverse=True, return_counts=True)
    k_max = min(k_max, len(train) // 2, len(train) - times[person[train]].max())
    order, inside = order[train], np.isin(np.arange(len(labels)), train)
    eligible = inside[order] & (person[order] != person[train][:, None])
    first = np.argsort(~eligible, axis=1, kind="stable")[:, :k_max]  # those eligible, still by distance
    votes = np.cumsum(labels[np.take_along_axis(order, first, axis=1)], axis=1)
    return int(np.argmax(knn.auc_curve(votes, labels[train]))) + 1


def _predicted(
    order: np.ndarray, labels: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]], chosen: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Probability and decision (n,) of every sample when it is held out, from its nearest training samples."""
    probability, decision = np.empty(len(labels)), np.empty(len(labels), bool)
    for (train, held), k in zip(parts, chosen, strict=True):
        inside, near = np.isin(np.arange(len(labels)), train), order[held]
        votes = labels[near[inside[near]].reshape(len(held), len(train))[:, :k]].sum(axis=1)
        probability[held] = votes / k
        decision[held] = votes * len(train) >= labels[train].sum() * k  # in whole numbers, exactly
    return probability, decision


def _aucs(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC (draws,) in which every sample counts ``weights`` (draws, n) times; NaN where a class was not drawn."""
    positive, negative = weights[:, labels == 1], weights[:, labels == 0]
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    above = positive @ statistics.concordance(scores[labels == 1], scores[labels == 0])
    return np.where(pairs > 0, np.einsum("bn,bn->b", above, negative) / np.where(pairs > 0, pairs, 1), np.nan)


def sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """How far the seed points of each trial lie from the annotated ones: trial, rms_mm, samples.

    ``rows`` has sample_id, trial and x, y, z in mm, as a patch bank keeps them. ``rms_mm`` is the root mean square of
    the displacement along one axis, over the samples and the three axes: the sigma of a normal jitter.
    """
    lacking = {"sample_id", "trial", *AXES} - set(rows)
    if lacking:
        raise RobustnessError(f"seed points lack the column(s) {', '.join(sorted(lacking))}")
    points = rows.set_index(["sample_id", "trial"])[AXES].astype(float)
    for fault, wrong in (
        ("are there twice", points.index.duplicated()),
        ("are not finite", ~np.isfinite(points.to_numpy()).all(axis=1)),
    ):
        if wrong.any():
            some = "; ".join(f"{sample}, trial {trial}" for sample, trial in points.index[wrong][:5])
            raise RobustnessError(f"{wrong.sum()} seed points {fault}: {some}")
    samples = points.index.get_level_values("sample_id")
    annotated = points[points.index.get_level_values("trial") == 0].droplevel("trial")
    without = samples[~samples.isin(annotated.index)].unique()
    if len(without):
        raise RobustnessError(f"{len(without)} samples have no trial 0: {', '.join(map(str, without[:5]))}")
    moved = np.square(points.to_numpy() - annotated.loc[samples].to_numpy()).mean(axis=1)
    by_trial = pd.Series(moved, points.index.get_level_values("trial")).groupby(level=0)
    table = pd.DataFrame({"rms_mm": np.sqrt(by_trial.mean()), "samples": by_trial.size()})
    return table.rename_axis("trial").reset_index()


def dose_response(held: HeldOut, trials: Sequence[int], rms: pd.DataFrame, per_size: int) -> pd.DataFrame:
    """Cosine, agreement of the decision and AUC against the size of the jitter.

    ``trials`` are the numbers of the rows 1.. of ``held``, ``per_size`` consecutive ones of the same nominal size;
    ``rms`` is the table of :func:`sizes`. One row a size, after the row of the reference at 0 mm: size_mm (mean over
    its trials), trials (how many), cosine, agreement and auc: the mean over the trials, with the lowest and highest of
    them as ``_low`` and ``_high``.
    """
    trials, sizes_mm = list(trials), rms.set_index("trial")["rms_mm"]
    if len(trials) != len(held.auc) - 1 or per_size < 1 or len(trials) % per_size:
        raise RobustnessError(
            f"{len(trials)} trials for {len(held.auc) - 1} embeddings beside the reference, {per_size} of a size"
        )
    unknown = [trial for trial in trials if trial not in sizes_mm.index]
    if unknown:
        raise RobustnessError(f"{len(unknown)} trials have no size: {', '.join(map(str, unknown[:5]))}")
    figures = {"cosine": held.cosine.mean(axis=1), "agreement": held.agreement, "auc": held.auc}
    blocks = [(0.0, [0])]
    for start in range(0, len(trials), per_size):
        block = range(start, start + per_size)
        blocks.append((float(sizes_mm[[trials[at] for at in block]].mean()), [at + 1 for at in block]))
    rows = []
    for size, block in blocks:
        rows.append({"size_mm": size, "trials": len(block)})
        for figure, values in figures.items():
            some = values[block]
            rows[-1] |= {figure: some.mean(), f"{figure}_low": some.min(), f"{figure}_high": some.max()}
    return pd.DataFrame(rows)
