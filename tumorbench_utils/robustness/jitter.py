"""What becomes of kNN predictions when the patch is another: a jittered seed point, a perturbation, a control.

``study_kappa`` is the study's measure as released: the samples that train are the ones predicted. Every sample is then
its own nearest neighbour, so k = 1 wins with an AUC of 1, unless vectors are equal, and the kappa says little more than
how often a jittered patch finds itself. ``held_out`` predicts patients that it has not learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import knn, statistics
from . import agreement
from .agreement import RobustnessError

AXES = ["x", "y", "z"]
OFF = 1.5  # factor by which the measured size of a jitter may differ from the nominal one
SCATTER = 4  # standard errors of the measured size that are allowed besides


@dataclass(frozen=True)
class StudyKappa:
    """``k`` chosen; of each later trial ``kappas`` (t - 1,), and ``itself`` (t - 1,): the share of samples whose
    nearest training vector is their own of the first trial."""

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
        rows = [
            {"name": name, "kappa": kappa, "itself": itself, "samples": len(self.labels)} | _limited(drawn)
            for name, kappa, itself, drawn in zip(names, self.kappa, self.itself, self.drawn(draws, seed), strict=True)
        ]
        return pd.DataFrame(rows)[COLUMNS]

    def drawn(self, draws: int, seed: int) -> list[dict[str, np.ndarray]]:
        """By row, of cosine, agreement, auc and auc_change, the value and its bootstrap draws (draws + 1,)."""
        weights = agreement.weights(self.patients, draws, seed)
        counts = weights.sum(axis=1)
        found = [
            {
                "cosine": weights @ cosine / counts,
                "agreement": weights @ (decision == self.decision[0]) / counts,
                "auc": _aucs(self.labels, probability, weights),
            }
            for cosine, decision, probability in zip(self.cosine, self.decision, self.probability, strict=True)
        ]
        return [each | {"auc_change": each["auc"] - found[0]["auc"]} for each in found]


def _limited(drawn: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Value, low and high of each figure from its draws, the first of which is the value."""
    row = {}
    for figure, values in drawn.items():
        row |= dict(zip(_with_limits(figure), (float(values[0]), *agreement.limits(values[1:])), strict=True))
    return row


def _with_limits(figure: str) -> list[str]:
    return [figure, f"{figure}_low", f"{figure}_high"]


COLUMNS = [
    *("name", *_with_limits("cosine"), *_with_limits("agreement"), "kappa"),
    *(*_with_limits("auc"), *_with_limits("auc_change"), "itself", "samples"),
]


def study_kappa(trials: Sequence[np.ndarray], labels: Sequence, k_max: int = knn.K_MAX) -> StudyKappa:
    """The study's agreement under seed jitter, of jittered trials (t, n, d); the first, itself jittered, trains.

    As released: k is chosen on the very samples that train by AUC (of equal ones, the first that Optuna's grid search
    visits; k up to n at most); probabilities of every trial are cut into 100 bins and held against those of the first
    by linearly weighted kappa. Distances are cosine, in float64; equal ones keep the order of the rows. The kappas of
    an embedding that is the same for all are NaN: one bin alone occurs, so chance agrees always.
    :class:`RobustnessError` for labels other than 0 and 1, unequal shapes, and vectors that are zero or not finite.
    """
    if len(trials) < 2:
        raise RobustnessError(f"{len(trials)} trials: it takes one that trains and at least one more")
    labels, k_max = agreement.classes(labels, len(trials[0])), min(k_max, len(trials[0]))
    training = agreement.unit(trials[0], "the first trial")
    similar = _products(trials[0], training, "the first trial")
    # positives among the k nearest, at every k
    votes = np.cumsum(labels[np.argsort(-similar, axis=1, kind="stable")[:, :k_max]], axis=1)
    curve, preference = knn.auc_curve(votes, labels), knn.grid_order(k_max)
    k = int(preference[np.argmax(curve[preference - 1])])
    found, itself = [agreement.binned(votes[:, k - 1] / k)], []
    for number, trial in enumerate(trials[1:], 1):
        near = _nearest(_products(trial, training, f"later trial {number}"), k)
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
        order, cosine = _ordered(_unit_of(vectors, training, number, patients), training)
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
    from sklearn.model_selection import StratifiedGroupKFold

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


def nominal(rms: pd.DataFrame, sizes_mm: Sequence[float]) -> pd.Series:
    """The size that each trial was drawn with, ``sizes_mm``, by what is measured, ``rms`` of :func:`sizes`.

    By trial, without 0, the size that is nearest on a logarithmic scale. :class:`RobustnessError` for trials that are
    off by more than a factor of 1.5 of every size, and that much more by which a measured one may scatter: 4 standard
    errors, one of which is 1 / sqrt(2 * 3 n) of the sigma of n displacements in 3 axes.
    """
    lacking = {"trial", "rms_mm", "samples"} - set(rms)
    if lacking:
        raise RobustnessError(f"sizes of trials lack the column(s) {', '.join(sorted(lacking))}")
    known = np.unique(np.asarray(sizes_mm, float))
    if not len(known) or not (np.isfinite(known) & (known > 0)).all():
        raise RobustnessError(f"nominal sizes are above 0 mm, not {', '.join(map(str, sizes_mm)) or 'none at all'}")
    moved = rms[rms["trial"] != 0].set_index("trial")
    with np.errstate(divide="ignore"):  # a trial that did not move is no size at all
        off = np.abs(np.log(moved["rms_mm"].to_numpy(float))[:, None] - np.log(known))
    allowed = np.log(OFF * (1 + SCATTER / np.sqrt(2 * 3 * moved["samples"].to_numpy(float))))
    wrong = moved[~(off.min(axis=1) <= allowed)]
    if len(wrong):
        some = ", ".join(f"trial {trial} of {size:.2f} mm" for trial, size in wrong["rms_mm"].head(5).items())
        asked = ", ".join(f"{size:g}" for size in known)
        raise RobustnessError(
            f"{len(wrong)} trials are of none of the sizes {asked} mm: {some}. Name the sizes of the patch bank"
        )
    return pd.Series(known[off.argmin(axis=1)], moved.index, name="size_mm")


def dose_response(
    held: HeldOut, trials: Sequence[int], nominal: pd.Series, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Cosine, agreement of the decision and AUC against the size of the jitter.

    ``trials`` are the numbers of the rows 1.. of ``held``, and ``nominal`` has the size of each, of :func:`nominal`.
    One row a size, rising, after the row of the reference at 0 mm: size_mm, trials (how many), samples, and cosine,
    agreement, auc and auc_change (against the reference, paired): the mean over the trials of the size, with ``_low``
    and ``_high``, 95 % limits of that mean, patients drawn with replacement as in :meth:`HeldOut.table`. auc_least and
    auc_most are the range over the trials.
    """
    trials, sizes_mm = np.asarray(trials), dict(nominal)
    if len(trials) != len(held.auc) - 1:
        raise RobustnessError(f"{len(trials)} trials for {len(held.auc) - 1} embeddings beside the reference")
    unknown = [trial for trial in trials if not sizes_mm.get(trial, 0) > 0]
    if unknown:
        raise RobustnessError(f"{len(unknown)} trials have no size: {', '.join(map(str, unknown[:5]))}")
    of_row = np.array([0.0, *(sizes_mm[trial] for trial in trials)])
    drawn, rows = held.drawn(draws, seed), []
    for size in np.unique(of_row):
        block = np.flatnonzero(of_row == size)
        means = {figure: np.mean([drawn[row][figure] for row in block], axis=0) for figure in drawn[0]}
        row = {"size_mm": size, "trials": len(block), "samples": len(held.labels)} | _limited(means)
        rows.append(row | {"auc_least": held.auc[block].min(), "auc_most": held.auc[block].max()})
    return pd.DataFrame(rows)


def likeness(
    reference: np.ndarray,
    others: Sequence[np.ndarray],
    names: Sequence,
    patients: Sequence,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The table of :meth:`HeldOut.table` where nothing can be predicted: no labels, or too few of a class.

    ``reference`` (n, d) and t others (t, n, d) of the same samples, ``names`` (t,), ``patients`` (n,). Cosine with its
    limits, itself and samples are those of :func:`held_out`; agreement, kappa, auc and auc_change are NaN.
    :class:`RobustnessError` for unequal shapes and vectors that are zero or not finite.
    """
    names, patients = ["reference", *names], np.asarray(patients, str)
    if len(names) != len(others) + 1:
        raise RobustnessError(f"{len(names) - 1} names for {len(others)} embeddings beside the reference")
    training = agreement.unit(reference, "reference", patients)
    weights = agreement.weights(patients, draws, seed)
    rows = []
    for number, (name, vectors) in enumerate(zip(names, [reference, *others], strict=True)):
        similar = _unit_of(vectors, training, number, patients) @ training.T
        own = weights @ np.clip(np.diag(similar), -1, 1) / weights.sum(axis=1)
        itself = ((1 - similar).argmin(axis=1) == np.arange(len(similar))).mean()
        rows.append({"name": name, "itself": itself, "samples": len(similar)} | _limited({"cosine": own}))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _unit_of(vectors: np.ndarray, training: np.ndarray, number: int, patients: np.ndarray) -> np.ndarray:
    """Vectors of length 1 of the other embedding of this number, shaped as those that train."""
    if np.shape(vectors) != training.shape:
        raise RobustnessError(f"other {number}: shape {np.shape(vectors)}, but the reference is {training.shape}")
    return agreement.unit(vectors, f"other {number}", patients)
