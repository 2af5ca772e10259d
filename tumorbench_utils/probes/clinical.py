"""What the clinic knows already: clinical covariates alone, an embedding alone, and both.

An embedding that adds nothing to age and stage is of no use, however good alone. "Both" is a late fusion: a logistic
regression on the clinical features and one more, the logit of the linear probe. Training samples get that logit out
of fold, from a probe that has not seen their patient; else the fusion would trust an embedding that has learnt its
training samples by heart. Wolpert, Neural Networks 5, 241-259 (1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from .. import statistics
from ..knn import Split
from . import linear
from .linear import Evaluation, ProbeError

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer

PREFIX = "clinical_"
RARE = 5  # training samples below which a level is joined with the other rare ones
FOLDS = 5  # inner folds of training patients
TOO_MANY = 0.5  # levels for each patient from which a text identifies patients
MISSING = "not known"


@dataclass(frozen=True)
class Covariates:
    """Names of columns with ``numbers`` and with ``categories``; ``left_out``: column, reason."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    left_out: pd.DataFrame

    @property
    def names(self) -> list[str]:
        """All columns used."""
        return [*self.numbers, *self.categories]


def covariates(annotations: pd.DataFrame, columns: Sequence[str] | None = None) -> Covariates:
    """Which ``columns`` of an annotation table, by default all ``clinical_*``, can serve as covariates, and which not.

    A column of numbers is taken as numbers, stages included. Left out are columns that are constant or empty, and
    those that identify patients: text with more than one level for two patients, whole numbers that differ in all.
    """
    columns = [name for name in annotations if name.startswith(PREFIX)] if columns is None else list(columns)
    absent = [name for name in columns if name not in annotations]
    if absent:
        raise ProbeError(f"the annotations have no column {', '.join(absent)}; they have {', '.join(annotations)}")
    numbers, categories, left_out = [], [], []
    patients = annotations.groupby("patient_id")[columns].first() if columns else annotations
    for name in columns:
        reason = _unfit(patients[name])
        if reason:
            left_out.append((name, reason))
        elif pd.api.types.is_numeric_dtype(annotations[name]):
            numbers.append(name)
        else:
            categories.append(name)
    return Covariates(tuple(numbers), tuple(categories), pd.DataFrame(left_out, columns=["column", "reason"]))


def _unfit(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "empty"
    levels, numeric = known.nunique(), pd.api.types.is_numeric_dtype(known)
    if levels == 1 and len(known) == len(values):
        return "constant"
    if numeric:
        identifies = levels == len(known) > RARE and bool((known % 1 == 0).all())
    else:
        identifies = levels > max(2, TOO_MANY * len(known))
    return "identifies patients" if identifies else ""


def features(of: Covariates) -> ColumnTransformer:
    """Covariates as numbers, to be fitted on training samples: missing ones get the median and a flag of their own,
    categories one column a level, levels rare or new joined."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    number = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    category = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=MISSING),
        OneHotEncoder(min_frequency=RARE, handle_unknown="infrequent_if_exist", sparse_output=False),
    )
    return ColumnTransformer([("numbers", number, list(of.numbers)), ("categories", category, list(of.categories))])


def _matrices(annotations: pd.DataFrame, of: Covariates, split: Split) -> np.ndarray:
    """(n, p) features of all samples, everything about them learnt from the training samples of a split."""
    table = annotations[of.names].copy()
    for name in of.categories:
        table[name] = table[name].astype(object).where(table[name].notna(), np.nan)
    return features(of).fit(table.iloc[split.train]).transform(table).astype(np.float64)


def alone(
    annotations: pd.DataFrame,
    of: Covariates,
    labels: Sequence,
    splits: Sequence[Split],
    trials: int = linear.TRIALS,
    seed: int = 0,
) -> Evaluation:
    """Logistic regression on covariates only, C by validation AUC as in the linear probe."""
    return _fused(annotations, of, labels, splits, None, trials, seed)


def both(
    annotations: pd.DataFrame,
    of: Covariates,
    vectors: np.ndarray,
    probe: Evaluation,
    labels: Sequence,
    splits: Sequence[Split],
    trials: int = linear.TRIALS,
    seed: int = 0,
) -> Evaluation:
    """Covariates and the logit of the linear probe of (n, d) ``vectors``.

    ``probe`` is :func:`linear.evaluate` on the same splits: its C is that of all inner folds of a split.
    """
    if list(probe.scores["seed"]) != [split.seed for split in splits]:
        raise ProbeError("the linear probe was evaluated on other splits than these")
    linear.checked(vectors, labels, splits)
    extra = [
        out_of_fold(vectors, labels, annotations["patient_id"], split, c)
        for split, c in zip(splits, probe.scores["c"], strict=True)
    ]
    return _fused(annotations, of, labels, splits, extra, trials, seed)


def _fused(
    annotations: pd.DataFrame,
    of: Covariates,
    labels: Sequence,
    splits: Sequence[Split],
    extra: Sequence[np.ndarray] | None,
    trials: int,
    seed: int,
) -> Evaluation:
    if not of.names:
        raise ProbeError("no clinical covariates: there is nothing to compare an embedding with")
    if len(annotations) != len(labels):
        raise ProbeError(f"{len(annotations)} annotations but {len(labels)} labels")
    numbers = statistics.binary_labels(labels)
    place = {id(split): number for number, split in enumerate(splits)}

    def one(split: Split) -> tuple[float, float, np.ndarray, bool]:
        matrix = _matrices(annotations, of, split)
        if extra is not None:
            matrix = np.column_stack([matrix, extra[place[id(split)]]])
        train, held, test = (matrix[part] for part in (split.train, split.validation, split.test))
        fitted = linear.fit(train, numbers[split.train], held, numbers[split.validation], trials, seed + split.seed)
        return fitted.c, fitted.validation_auc, fitted.probabilities(test), True

    with threadpool_limits(1, "blas"):
        return linear.tabulate(numbers, splits, one)


def out_of_fold(vectors: np.ndarray, labels: Sequence, patients: Sequence, split: Split, c: float) -> np.ndarray:
    """Logits (n,) of the linear probe at ``c`` that a split allows: of a training sample from the other folds of
    training patients, of all other samples from all training samples."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels, patients = statistics.binary_labels(labels), np.asarray(patients)
    train = split.train
    found = np.full(len(labels), np.nan)
    with threadpool_limits(1, "blas"):
        basis, coordinates = linear.span(vectors[train])
        whole = linear.solve(coordinates, labels[train], c)
        others = np.setdiff1d(np.arange(len(labels)), train)
        found[others] = whole.logits(basis.coordinates(vectors[others]))
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=split.seed)
        for learn, held in folds.split(train, labels[train], patients[train]):
            if len(np.unique(labels[train[learn]])) < 2:
                raise ProbeError(f"an inner fold of the split of seed {split.seed} has one class only: too few samples")
            inner, rows = linear.span(vectors[train[learn]])
            solved = linear.solve(rows, labels[train[learn]], c)
            found[train[held]] = solved.logits(inner.coordinates(vectors[train[held]]))
    return found
