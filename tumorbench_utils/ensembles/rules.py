"""Ways to make one prediction of several: each sees the training and validation parts of a split, never test labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .. import statistics
from .neighbours import Limits

STRENGTHS = (0.25, 1.0, 4.0)  # C of the meta-learner, as released
DIGITS = 12  # decimals of a mean of probabilities, so that equal means tie, in whatever order they were added
MOST = 100  # steps of the greedy choice
NEWTON, TOLERANCE = 100, 1e-10  # steps of the meta-learner, and how near its optimum is


@dataclass(frozen=True)
class Part:
    """What a rule may see of a split: votes of every model, positives among the k nearest for k = 1..K.

    ``validation`` (models, n_validation, K) and ``test`` (models, n_test, K) are votes of training samples; ``inner``
    (models, n_train, K') those of the training samples outside a sample's own inner ``fold`` (n_train,). ``shared``
    (models, models) is the overlap of neighbours among training samples. ``k`` (models,) is the k of highest
    validation AUC of each model, and ``auc`` that AUC.
    """

    limits: Limits
    train_labels: np.ndarray
    validation_labels: np.ndarray
    fold: np.ndarray
    shared: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    inner: np.ndarray
    k: np.ndarray
    auc: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What a rule did in a split: ``probability`` (n_test,), ``weight`` and ``k`` of each model, and the C chosen.

    The weight of a model is its share in a mean, or its coefficient in stacking.
    """

    probability: np.ndarray
    weight: np.ndarray
    k: np.ndarray
    c: float = np.nan


def at(votes: np.ndarray, k: int) -> np.ndarray:
    """(n, models) probabilities at k from votes (models, n, K)."""
    return votes[:, :, k - 1].T / k


def mean(votes: np.ndarray, weight: np.ndarray, k: np.ndarray) -> np.ndarray:
    """(n,) weighted mean of the probabilities of models, each at its own k; weights sum to 1."""
    parts = [w * each[:, own - 1] / own for each, w, own in zip(votes, weight, k, strict=True) if w]
    return np.round(np.sum(parts, axis=0), DIGITS)


def best_single(part: Part) -> Outcome:
    """The model of highest validation AUC, at its k; of equal ones the first."""
    return averaged(part, np.eye(len(part.auc))[np.argmax(part.auc)], part.k)


def averaged(part: Part, weight: np.ndarray, k: np.ndarray) -> Outcome:
    """The weighted mean of all models."""
    return Outcome(mean(part.test, weight, k), weight, k)


def alignment_weights(shared: np.ndarray) -> np.ndarray:
    """(models,) weights as released: row means of the overlap in neighbours with 1 on the diagonal, sum 1.

    The overlap counts neighbours (0 to 10), so that the 1 of a model with itself is a tenth of a whole overlap: kept
    as released. There the overlap is taken over all samples, those of the test part among them.
    """
    rows = np.where(np.eye(len(shared), dtype=bool), 1.0, shared).mean(axis=1)
    return rows / rows.sum()


def alignment_weighted(part: Part) -> Outcome:
    """kNN with k = 10, each model weighted by its alignment with the others among training samples."""
    return averaged(part, alignment_weights(part.shared), np.full(len(part.k), part.limits.nearest))


def equal_weights(part: Part) -> Outcome:
    """kNN with k = 10, all models alike: what the weights are worth."""
    models = len(part.k)
    return averaged(part, np.full(models, 1 / models), np.full(models, part.limits.nearest))


@dataclass(frozen=True)
class Logistic:
    """A fitted meta-learner: ``coefficients`` (models,) and ``intercept``."""

    coefficients: np.ndarray
    intercept: float

    def predict(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) probability of a positive from the (n, models) probabilities of the bases."""
        return expit(probabilities @ self.coefficients + self.intercept)


def stacking(probabilities: np.ndarray, labels: np.ndarray, c: float) -> Logistic:
    """The meta-learner, fitted to (n, models) probabilities of the bases and their labels (n,).

    ``LogisticRegression(C=c, class_weight="balanced")`` as in the released code, but by Newton's method to the end:
    there lbfgs stops at a tolerance, after ten times as long.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = LogisticRegression(
            C=c, class_weight="balanced", solver="newton-cholesky", tol=TOLERANCE, max_iter=NEWTON
        )
        model.fit(probabilities, labels)
    return Logistic(model.coef_[0], float(model.intercept_[0]))


def stacking_as_released(part: Part) -> Outcome:
    """Stacking as released: k and C that score best on the validation samples to which the meta-learner was fitted."""

    def score(k: int, c: float) -> float:
        given = at(part.validation, k)
        fitted = stacking(given, part.validation_labels, c)
        return statistics.auc(part.validation_labels, fitted.predict(given))

    k, c = _first_best(part.limits.released, score)
    return _stacked(part, stacking(at(part.validation, k), part.validation_labels, c), k, c)


def stacking_nested(part: Part) -> Outcome:
    """Stacking whose meta-learner never scores a sample that it was fitted to.

    The probabilities that it learns from outside a fold were voted for by labels of that fold too; that touches the
    choice of k and C alone, never a test sample.

    k and C by cross-validation of bases and meta-learner in the training part; then the meta-learner is fitted to
    probabilities of training samples, from other folds, and of validation samples, from the training part. Bases
    have the training part only, as in all other rules, so that a difference is one of combining (stacked
    generalisation: Wolpert, Neural Networks 5, 241-259, 1992).
    """

    def score(k: int, c: float) -> float:
        given = at(part.inner, k)
        scores = np.empty(len(given))
        for number in np.unique(part.fold):
            out = part.fold == number
            fitted = stacking(given[~out], part.train_labels[~out], c)
            scores[out] = fitted.predict(given[out])
        return statistics.auc(part.train_labels, scores)

    k, c = _first_best(part.limits.nested, score)
    given = np.vstack([at(part.inner, k), at(part.validation, k)])
    labels = np.concatenate([part.train_labels, part.validation_labels])
    return _stacked(part, stacking(given, labels, c), k, c)


def _first_best(candidates: tuple[int, ...], score: Callable[[int, float], float]) -> tuple[int, float]:
    """k and C of the highest score; of equal ones the first, k in the outer loop, as released."""
    return max(((k, c) for k in candidates for c in STRENGTHS), key=lambda pair: score(*pair))


def _stacked(part: Part, fitted: Logistic, k: int, c: float) -> Outcome:
    return Outcome(fitted.predict(at(part.test, k)), fitted.coefficients, np.full(len(part.k), k), c)


def greedy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(models,) how often each model is taken: forward selection with replacement by the AUC of the mean.

    ``probabilities`` is (models, n). It starts with the best model and ends where no further one raises the AUC; of
    equal ones the first is taken. Caruana, Niculescu-Mizil, Crew & Ksikes, ICML 2004, section 2.1 and 2.2.
    """
    taken = np.zeros(len(probabilities), np.int64)
    total, reached = np.zeros(probabilities.shape[1]), 0.0
    for step in range(1, MOST + 1):
        means = np.round((total + probabilities) / step, DIGITS)
        aucs = [statistics.auc(labels, each) for each in means]
        best = int(np.argmax(aucs))
        if step > 1 and aucs[best] <= reached:
            break
        taken[best] += 1
        total, reached = total + probabilities[best], aucs[best]
    return taken


def complementary(part: Part) -> Outcome:
    """The greedy choice by validation AUC among all models, each at its own k."""
    each = np.array([votes[:, k - 1] / k for votes, k in zip(part.validation, part.k, strict=True)])
    taken = greedy(each, part.validation_labels)
    return averaged(part, taken / taken.sum(), part.k)


RULES: Mapping[str, Callable[[Part], Outcome]] = {
    "best_single": best_single,
    "alignment_weighted": alignment_weighted,
    "equal_weights": equal_weights,
    "stacking_released": stacking_as_released,
    "stacking_nested": stacking_nested,
    "greedy": complementary,
}
