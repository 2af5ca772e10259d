"""Single models and ensembles on the same splits, and each against the single model that validation chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import knn, statistics
from ..alignment import overlap
from ..knn import Split
from .neighbours import Limits, inner_folds, nearest
from .rules import RULES, Outcome, Part

REFERENCE, ORACLE = "best_single", "oracle"
ENSEMBLES = {  # all that is not a model by itself: name, title
    REFERENCE: "Best single, by validation",
    ORACLE: "Best single, by test (optimistic)",
    "alignment_weighted": "Alignment-weighted kNN",
    "equal_weights": "Equally weighted kNN",
    "stacking_released": "Stacking, as released",
    "stacking_nested": "Stacking, nested choice",
    "greedy": "Greedy complementary choice",
}


class EnsembleError(ValueError):
    """Models that cannot be combined; the message names the model, the split or the patient."""


@dataclass(frozen=True)
class Tested:
    """What the test parts say of a model or an ensemble.

    ``kind``: single, reference, oracle or ensemble.
    ``scores``: one row a split (split, seed, test_auc, n_train, n_validation, n_test).
    ``predictions``: one row a test sample and split (split, row, label, probability).
    ``choices``: one row a split and model (split, model, weight, k, C), of which the prediction was made.
    ``note``: where k had to be lowered, in words; else empty.
    """

    name: str
    kind: str
    scores: pd.DataFrame
    predictions: pd.DataFrame
    choices: pd.DataFrame
    note: str

    def interval(self) -> tuple[float, float, float]:
        """Mean test AUC with the corrected interval of the patient-grouped protocol."""
        return knn.PROTOCOLS.get("grouped").interval(self.scores)


def evaluate(
    vectors: Mapping[str, np.ndarray],
    labels: Sequence,
    patients: Sequence,
    splits: Sequence[Split] | None = None,
    k_max: int = knn.K_MAX,
    seed: int = 0,
) -> dict[str, Tested]:
    """Every single model by its name, and the best of them and every ensemble by the names of :data:`ENSEMBLES`.

    ``vectors`` has (n, d) by model, ``labels`` (n,) 0/1, ``patients`` (n,). ``splits`` are those of
    :func:`knn.grouped_splits` unless given; a patient in two parts is an error. ``seed`` is of the inner folds. k goes
    no further than the smallest training part allows, and ``note`` says so.

    Single models are those of :func:`knn.evaluate` with ascending preference. The reference takes in each split the
    model and k of highest validation AUC; the oracle is the model of highest mean test AUC, which nobody can choose.
    """
    labels, patients = statistics.binary_labels(labels), np.asarray(patients)
    splits = knn.grouped_splits(labels, patients) if splits is None else splits
    _check(vectors, labels, patients, splits, k_max)
    try:
        folds = [inner_folds(labels[split.train], patients[split.train], seed) for split in splits]
    except ValueError as error:
        raise EnsembleError(str(error)) from error
    limits = Limits.of(splits, folds, k_max)
    parts = _parts(vectors, labels, splits, folds, limits)
    names = list(vectors)
    found = {
        name: _tested(name, "single", [_single(part, number) for part in parts], names, labels, splits, limits)
        for number, name in enumerate(names)
    }
    best = max(names, key=lambda name: found[name].scores["test_auc"].mean())
    for name, rule in RULES.items():
        kind = "reference" if name == REFERENCE else "ensemble"
        found[name] = _tested(name, kind, [rule(part) for part in parts], names, labels, splits, limits)
    oracle = found[best]
    found[ORACLE] = Tested(ORACLE, ORACLE, oracle.scores, oracle.predictions, oracle.choices, oracle.note)
    return {name: found[name] for name in (*names, *ENSEMBLES)}


def _check(vectors: Mapping, labels: np.ndarray, patients: np.ndarray, splits: Sequence[Split], k_max: int) -> None:
    if len(vectors) < 2:
        raise EnsembleError(f"an ensemble needs two models at least; there are {len(vectors)}: {', '.join(vectors)}")
    taken = sorted(set(vectors) & set(ENSEMBLES))
    if taken:
        raise EnsembleError(f"models must not be called {', '.join(taken)}: these are names of ensembles")
    if len(patients) != len(labels):
        raise EnsembleError(f"{len(patients)} patients but {len(labels)} labels")
    for name, each in vectors.items():
        if len(each) != len(labels):
            raise EnsembleError(f"{name}: {len(each)} embeddings but {len(labels)} labels")
        unusable = ~(np.isfinite(each).all(axis=1) & np.any(each, axis=1))
        if unusable.any():
            raise EnsembleError(
                f"{name}: {unusable.sum()} embeddings hold NaN or are zero, first row {unusable.argmax()}"
            )
    if not len(splits) or k_max < 1:
        raise EnsembleError(f"nothing to evaluate: {len(splits)} splits, k up to {k_max}")
    for split in splits:
        _check_split(split, labels, patients)


def _check_split(split: Split, labels: np.ndarray, patients: np.ndarray) -> None:
    people = {}
    for part in ("train", "validation", "test"):
        rows = getattr(split, part)
        if len(np.unique(labels[rows])) < 2:
            raise EnsembleError(
                f"the {part} part of the split of seed {split.seed} has one class only: too few samples"
            )
        people[part] = set(patients[rows].tolist())
    twice = people["train"] & people["validation"] | people["train"] & people["test"]
    twice |= people["validation"] & people["test"]
    if twice:
        raise EnsembleError(f"the split of seed {split.seed} has patient {min(map(str, twice))} in two parts")


def _shared(names: Iterable[str], near: np.ndarray) -> np.ndarray:
    """(models, models) mean overlap of neighbours (models, n, k), 0 on the diagonal."""
    pairs, counts = overlap.counts(dict(zip(names, near, strict=True)))
    return overlap.matrix(pairs, counts.mean(axis=1)).to_numpy()


def _parts(
    vectors: Mapping[str, np.ndarray],
    labels: np.ndarray,
    splits: Sequence[Split],
    folds: Sequence[np.ndarray],
    limits: Limits,
) -> list[Part]:
    """What rules may see of every split: one ordering of the neighbours a model, votes for all k at once."""
    tasks, width = [], max(limits.k_max, limits.nearest, *limits.released, *limits.nested)
    for split, fold in zip(splits, folds, strict=True):
        tasks += [(split.train, split.validation), (split.train, split.test), (split.train, split.train)]
        tasks += [(split.train[fold != number], split.train[fold == number]) for number in range(fold.max() + 1)]
    by_model = [nearest(each, tasks, width) for each in vectors.values()]
    parts, first = [], 0
    for split, fold in zip(splits, folds, strict=True):
        validation, test, train = (np.array([each[first + place] for each in by_model]) for place in range(3))
        validation, test = (np.cumsum(labels[each], axis=2) for each in (validation, test))
        inner = np.zeros((len(by_model), len(fold), max(limits.nested)), np.int64)
        for number in range(fold.max() + 1):
            neighbours = np.array([each[first + 3 + number][:, : inner.shape[2]] for each in by_model])
            inner[:, fold == number] = np.cumsum(labels[neighbours], axis=2)
        curves = [knn.auc_curve(each[:, : limits.k_max], labels[split.validation]) for each in validation]
        parts.append(
            Part(
                limits=limits,
                train_labels=labels[split.train],
                validation_labels=labels[split.validation],
                fold=fold,
                shared=_shared(vectors, train[:, :, : limits.nearest]),
                validation=validation,
                test=test,
                inner=inner,
                k=np.argmax(curves, axis=1) + 1,
                auc=np.max(curves, axis=1),
            )
        )
        first += 3 + fold.max() + 1
    return parts


def _single(part: Part, number: int) -> Outcome:
    k = part.k[number]
    return Outcome(part.test[number, :, k - 1] / k, np.eye(len(part.k))[number], part.k)


def _tested(
    name: str,
    kind: str,
    outcomes: Sequence[Outcome],
    models: Sequence[str],
    labels: np.ndarray,
    splits: Sequence[Split],
    limits: Limits,
) -> Tested:
    """The outcomes of all splits as tables; only here are test labels looked at."""
    scores, predictions, choices = [], [], []
    for number, (split, outcome) in enumerate(zip(splits, outcomes, strict=True)):
        truth = labels[split.test]
        sizes = (len(split.train), len(split.validation), len(split.test))
        scores.append((number, split.seed, statistics.auc(truth, outcome.probability), *sizes))
        columns = {"split": number, "row": split.test, "label": truth, "probability": outcome.probability}
        predictions.append(pd.DataFrame(columns))
        columns = {"split": number, "model": models, "weight": outcome.weight, "k": outcome.k, "C": outcome.c}
        choices.append(pd.DataFrame(columns)[outcome.weight != 0])
    columns = ["split", "seed", "test_auc", "n_train", "n_validation", "n_test"]
    return Tested(
        name,
        kind,
        pd.DataFrame(scores, columns=columns),
        pd.concat(predictions, ignore_index=True),
        pd.concat(choices, ignore_index=True),
        limits.note,
    )


def compared(found: Mapping[str, Tested], patients: Sequence, draws: int = 5000, seed: int = 0) -> pd.DataFrame:
    """AUC of every model and ensemble, and its difference to the single model that validation chooses.

    ``found`` is of :func:`evaluate` and ``patients`` (n,) as there. Differences are of
    :func:`statistics.paired_bootstrap` over patients, with Holm's correction for all of them. The oracle is one of the
    single models and takes its difference from there; it is no competitor and has no p. Columns: name, kind, auc, low,
    high, difference, difference_low, difference_high, p, p_holm, and for single models ``chosen``, the share of the
    splits in which it is the reference, and ``taken``, its mean share in the greedy choice.
    """
    patients = np.asarray(patients)
    competing = {name: each for name, each in found.items() if each.kind != ORACLE}
    predictions = {
        name: each.predictions.assign(
            sample_id=each.predictions["row"], patient_id=patients[each.predictions["row"].to_numpy()]
        )
        for name, each in competing.items()
    }
    columns = {"low": "difference_low", "high": "difference_high"}
    paired = statistics.paired_bootstrap(predictions, REFERENCE, draws, seed).rename(columns=columns).set_index("name")
    rows = [(name, each.kind, *each.interval()) for name, each in found.items()]
    table = pd.DataFrame(rows, columns=["name", "kind", "auc", "low", "high"])
    best = found[ORACLE].choices["model"].iloc[0]
    source = table["name"].where(table["kind"] != ORACLE, best)
    for column in ("difference", "difference_low", "difference_high", "p", "p_holm"):
        table[column] = source.map(paired[column])
    table.loc[table["kind"] == ORACLE, ["p", "p_holm"]] = np.nan
    splits = len(found[REFERENCE].scores)
    for column, name in (("chosen", REFERENCE), ("taken", "greedy")):
        share = found[name].choices.groupby("model")["weight"].sum() / splits
        single = table["kind"] == "single"
        table[column] = table["name"].map(share).fillna(0.0).where(single)
    return table
