"""k-nearest-neighbour evaluation of frozen embeddings: splits, one exhaustive pass over k, test predictions.

The score of a sample at k is the share of positives among its k nearest training samples (cosine distance). One
ordering of the neighbours therefore answers every k: the scores at 1..K are running means along it, and the AUC
at each k follows from counting how often each score occurs in either class.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import TqdmWarning

from . import statistics
from .registry import Registry

if TYPE_CHECKING:
    import optuna

K_MAX = 50
N_SPLITS = 10
FIRST_SEED = 10
TRAIN, VALIDATION, TEST = 0.5, 0.2, 0.3
BLOCK = 2048  # query rows whose distances to all samples are held at a time


class KNNError(ValueError):
    """An evaluation that cannot be made; the message says what is short."""


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts of one random split."""

    seed: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    ``scores``: one row a split (split, seed, k, validation_auc, test_auc, n_train, n_validation, n_test).
    ``curves``: (splits, k_max) validation AUC at k = 1..k_max.
    ``predictions``: one row a test sample and split (split, row, label, probability, k).
    """

    scores: pd.DataFrame
    curves: np.ndarray
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Protocol:
    """A way to evaluate: how rows are split, which k wins a tie, how splits become one AUC with its interval.

    ``split`` takes labels, patients and seeds; ``interval`` takes the scores of an :class:`Evaluation`.
    """

    id: str
    title: str
    split: Callable[[Sequence, Sequence, Iterable[int] | None], list[Split]]
    preference: Callable[[int], np.ndarray]
    interval: Callable[[pd.DataFrame], tuple[float, float, float]]

    def evaluate(
        self, embeddings: np.ndarray, labels: Sequence, splits: Sequence[Split], k_max: int = K_MAX
    ) -> Evaluation:
        """:func:`evaluate` with this protocol's preference among k; ``splits`` are those of :attr:`split`."""
        return evaluate(embeddings, labels, splits, k_max, self.preference(k_max))


def paper_splits(labels: Sequence, seeds: Iterable[int] | None = None) -> list[Split]:
    """The study's splits: label-stratified 50/20/30 by two calls of ``train_test_split`` a seed (10-19).

    They depend on the order of the rows, and know nothing of patients.
    """
    from sklearn.model_selection import train_test_split

    labels = statistics.binary_labels(labels)
    rows = np.arange(len(labels))
    splits = []
    for seed in _seeds(seeds):
        try:
            # written as the released code computes them: the fractions are rounded up to whole samples
            rest, test = train_test_split(rows, test_size=1 - TRAIN - VALIDATION, random_state=seed, stratify=labels)
            train, validation = train_test_split(
                rest, test_size=VALIDATION / (TRAIN + VALIDATION), random_state=seed, stratify=labels[rest]
            )
        except ValueError as error:
            raise KNNError(f"{len(rows)} samples cannot be split 50/20/30 by label: {error}") from error
        splits.append(Split(seed, train, validation, test))
    return splits


def grouped_splits(labels: Sequence, patients: Sequence, seeds: Iterable[int] | None = None) -> list[Split]:
    """Stratified 50/20/30 splits in which all samples of a patient fall into the same part.

    Ten stratified patient-grouped folds a seed: three test, two validation, five train.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, patients = statistics.binary_labels(labels), np.asarray(patients)
    people = [len(np.unique(patients[labels == label])) for label in (0, 1)]
    if min(people) < 10:
        raise KNNError(
            f"grouped splits need 10 patients of each class; there are {people[1]} positive, {people[0]} negative"
        )
    splits = []
    for seed in _seeds(seeds):
        folds = StratifiedGroupKFold(n_splits=10, shuffle=True, random_state=seed).split(labels, labels, patients)
        parts = [fold for _, fold in folds]
        test, validation, train = (np.sort(np.concatenate(part)) for part in (parts[:3], parts[3:5], parts[5:]))
        splits.append(Split(seed, train, validation, test))
    return splits


def _seeds(seeds: Iterable[int] | None) -> Iterable[int]:
    return range(FIRST_SEED, FIRST_SEED + N_SPLITS) if seeds is None else seeds


def grid_order(k_max: int = K_MAX) -> np.ndarray:
    """k = 1..k_max in the order in which Optuna's ``GridSampler`` visits them: 29, 12, 11, 42 for k_max = 50.

    Several k often reach the same validation AUC. The released code takes the best trial of a grid search, which
    is the first visited; the sampler shuffles the grid with a fixed seed of 0, so the choice can be repeated.
    """
    grid = [(k,) for k in range(1, k_max + 1)]
    np.random.RandomState(0).shuffle(grid)
    return np.array(grid)[:, 0]


def evaluate(
    embeddings: np.ndarray,
    labels: Sequence,
    splits: Sequence[Split],
    k_max: int = K_MAX,
    preference: np.ndarray | None = None,
) -> Evaluation:
    """Choose k by validation AUC in each split and score the test samples with it.

    ``embeddings`` is (n, d), ``labels`` (n,) of 0/1. Distances are cosine, in float64; equal distances keep the
    order of the rows. ``preference`` orders k = 1..k_max for ties in validation AUC: ascending unless given
    (``grid_order()`` for the paper protocol).
    """
    labels = statistics.binary_labels(labels)
    if len(embeddings) != len(labels):
        raise KNNError(f"{len(embeddings)} embeddings but {len(labels)} labels")
    vectors = np.asarray(embeddings, np.float64)
    unusable = ~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    if unusable.any():
        raise KNNError(f"{unusable.sum()} embeddings hold NaN or are zero, the first is row {unusable.argmax()}")
    if not splits or k_max < 1:
        raise KNNError(f"nothing to evaluate: {len(splits)} splits, k up to {k_max}")
    for split in splits:
        for part in ("validation", "test"):
            if len(np.unique(labels[getattr(split, part)])) < 2:
                raise KNNError(f"the {part} part of the split of seed {split.seed} has one class only: too few samples")
    smallest = min(len(split.train) for split in splits)
    if smallest < k_max:
        raise KNNError(f"k goes up to {k_max}, but a split has only {smallest} training samples; lower k_max")
    preference = np.arange(1, k_max + 1) if preference is None else preference
    votes = _votes(embeddings, labels, splits, k_max)
    scores, curves, predictions = [], [], []
    for number, split in enumerate(splits):
        curve = auc_curve(votes[number][split.validation], labels[split.validation])
        k = int(preference[np.argmax(curve[preference - 1])])
        chosen = votes[number][split.test, k - 1]
        test_auc = statistics.auc(labels[split.test], chosen)
        sizes = (len(split.train), len(split.validation), len(split.test))
        scores.append((number, split.seed, k, curve[k - 1], test_auc, *sizes))
        curves.append(curve)
        predictions.append(
            pd.DataFrame(
                {
                    "split": number,
                    "row": split.test,
                    "label": labels[split.test],
                    "probability": chosen / k,
                    "k": k,
                }
            )
        )
    columns = ["split", "seed", "k", "validation_auc", "test_auc", "n_train", "n_validation", "n_test"]
    return Evaluation(
        pd.DataFrame(scores, columns=columns), np.array(curves), pd.concat(predictions, ignore_index=True)
    )


def _votes(embeddings: np.ndarray, labels: np.ndarray, splits: Sequence[Split], k_max: int) -> np.ndarray:
    """(splits, n, k_max) positives among the k nearest training samples of every row, k = 1..k_max.

    Neighbours are ordered once over all samples; a split only picks its training samples out of that order.
    """
    unit = np.asarray(embeddings, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    in_training = np.zeros((len(splits), len(unit)), bool)
    for number, split in enumerate(splits):
        in_training[number, split.train] = True
    votes = np.empty((len(splits), len(unit), k_max), np.int16)
    for start in range(0, len(unit), BLOCK):
        rows = slice(start, start + BLOCK)
        order = np.argsort(1 - unit[rows] @ unit.T, axis=1, kind="stable")
        for number in range(len(splits)):
            # every row keeps as many neighbours as there are training samples, so the result is rectangular
            neighbours = order[in_training[number][order]].reshape(len(order), -1)[:, :k_max]
            np.cumsum(labels[neighbours], axis=1, out=votes[number, rows])
    return votes


def auc_curve(votes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(k_max,) AUC at every k from the (n, k_max) positives among k neighbours.

    At k the score takes the values 0/k..k/k only, so the Mann-Whitney count needs two histograms, not n^2 pairs.
    """
    k_max = votes.shape[1]
    level = votes + np.arange(k_max) * (k_max + 1)
    counts = np.zeros((2, k_max, k_max + 1))
    for label in (0, 1):
        counts[label] = np.bincount(level[labels == label].ravel(), minlength=counts[label].size).reshape(
            counts[label].shape
        )
    negatives, positives = counts
    below = np.cumsum(negatives, axis=1) - negatives
    return (positives * (below + 0.5 * negatives)).sum(1) / (positives.sum(1) * negatives.sum(1))


def mean_aucs(
    embeddings: np.ndarray, labels: Sequence, repeats: Iterable[Sequence[Split]], preference: np.ndarray
) -> np.ndarray:
    """Mean test AUC of each of many sets of splits: what chance in the splits does to the reported figure.

    ``preference`` orders k = 1..k_max as in :func:`evaluate`.
    """
    means, repeats = [], list(repeats)
    for start in range(0, len(repeats), 10):  # ten sets at a time share one ordering of the neighbours
        some = repeats[start : start + 10]
        together = [split for splits in some for split in splits]
        scores = evaluate(embeddings, labels, together, len(preference), preference)
        owner = np.repeat(np.arange(len(some)), [len(splits) for splits in some])
        means.append(scores.scores["test_auc"].groupby(owner).mean().to_numpy())
    return np.concatenate(means)


def reordered(labels: Sequence, order: np.ndarray) -> list[Split]:
    """Paper splits (seeds 10-19) of the rows in another ``order``, expressed in the rows as given."""
    labels, order = np.asarray(labels), np.asarray(order)
    return [
        Split(split.seed, order[split.train], order[split.validation], order[split.test])
        for split in paper_splits(labels[order])
    ]


def reordered_splits(labels: Sequence, draws: int, seed: int = 0) -> list[list[Split]]:
    """:func:`reordered` for ``draws`` random orders."""
    rng = np.random.default_rng(seed)
    return [reordered(labels, rng.permutation(len(labels))) for _ in range(draws)]


def reseeded_splits(labels: Sequence, draws: int) -> list[list[Split]]:
    """Paper splits of the rows as given, with ten other seeds each time (20-29, 30-39, ...)."""
    starts = range(FIRST_SEED + N_SPLITS, FIRST_SEED + N_SPLITS * (draws + 1), N_SPLITS)
    return [paper_splits(labels, range(start, start + N_SPLITS)) for start in starts]


def path_of(run: str | Path, cohort: str, model: str) -> Path:
    """Where a run keeps the test predictions of a model on a cohort."""
    return Path(run) / "predictions" / cohort / f"{model}.parquet"


def predictions_table(evaluations: Mapping[str, Evaluation], annotations: pd.DataFrame) -> pd.DataFrame:
    """Test predictions of one model by protocol, as a run keeps them, with the identifiers of the samples.

    Columns: protocol, split, sample_id, patient_id, label, probability, k.
    """
    frames = [evaluation.predictions.assign(protocol=name) for name, evaluation in evaluations.items()]
    table = pd.concat(frames, ignore_index=True)
    for identifier in ("sample_id", "patient_id"):
        table[identifier] = annotations[identifier].to_numpy()[table["row"]]
    return table[["protocol", "split", "sample_id", "patient_id", "label", "probability", "k"]]


def scores_table(results: Mapping[str, Mapping[str, Evaluation]]) -> pd.DataFrame:
    """Scores of every split, by model and protocol."""
    return pd.concat(
        [
            evaluation.scores.assign(model=model, protocol=protocol)
            for model, evaluations in results.items()
            for protocol, evaluation in evaluations.items()
        ],
        ignore_index=True,
    )


def auc_table(results: Mapping[str, Mapping[str, Evaluation]]) -> pd.DataFrame:
    """Mean test AUC with the protocol's interval: model, protocol, series (its title), auc, low, high.

    ``results`` holds evaluations by model and protocol. Intervals end at 0 and 1: those of the protocols know no bound,
    but no AUC lies beyond, so that an interval that is cut there covers as often.
    """
    rows = [
        (model, protocol, PROTOCOLS.get(protocol).title, *PROTOCOLS.get(protocol).interval(evaluation.scores))
        for model, evaluations in results.items()
        for protocol, evaluation in evaluations.items()
    ]
    table = pd.DataFrame(rows, columns=["model", "protocol", "series", "auc", "low", "high"])
    return statistics.bounded(table)


def optuna_study(embeddings: np.ndarray, labels: Sequence, split: Split, k_max: int = K_MAX) -> optuna.Study:
    """The same search as the released code makes it: scikit-learn's kNN, one Optuna trial a k.

    The reference against which :func:`evaluate` is tested and timed; some hundred times slower.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import KNeighborsClassifier

    vectors, labels = np.asarray(embeddings, np.float64), np.asarray(labels)

    def objective(trial: optuna.Trial) -> float:
        classifier = KNeighborsClassifier(n_neighbors=trial.suggest_int("k", 1, k_max), metric="cosine")
        classifier.fit(vectors[split.train], labels[split.train])
        return roc_auc_score(labels[split.validation], classifier.predict_proba(vectors[split.validation])[:, 1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # Optuna looks for a notebook widget that a page cannot keep
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.GridSampler({"k": list(range(1, k_max + 1))})
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=k_max)
    return study


def _paper_interval(scores: pd.DataFrame) -> tuple[float, float, float]:
    return statistics.normal_interval(scores["test_auc"])


def _grouped_interval(scores: pd.DataFrame) -> tuple[float, float, float]:
    learnt_from = (scores["n_train"] + scores["n_validation"]).mean()
    return statistics.corrected_interval(scores["test_auc"], learnt_from, scores["n_test"].mean())


PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    (
        Protocol(
            "paper",
            "as in the study",
            lambda labels, patients, seeds: paper_splits(labels, seeds),
            grid_order,
            _paper_interval,
        ),
        Protocol(
            "grouped",
            "patient-grouped, corrected interval",
            grouped_splits,
            lambda k: np.arange(1, k + 1),
            _grouped_interval,
        ),
    ),
)
