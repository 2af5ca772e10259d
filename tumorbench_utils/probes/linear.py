"""The linear probe: L2-penalised logistic regression of frozen embeddings, C chosen on validation patients.

The penalty is 1/2 |w|^2 + C * sum of log losses, the intercept free, as scikit-learn writes it. Features are
standardised by the training part. With fewer training samples than dimensions the solution lies in the span of the
training rows, so that a rotation onto that span loses nothing: n_train coordinates in place of thousands, found once
and used for every C. There, Newton's method takes a few steps, each C starting from its neighbour.

Like kNN the probe learns from training samples only and is not fitted again with the validation samples, so that the
two judges have seen the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit
from threadpoolctl import threadpool_limits
from tqdm import TqdmWarning

from .. import knn, statistics
from ..knn import Split

TRIALS = 20
LOWEST, HIGHEST = 1e-6, 1e2  # of C; features are standardised, so that one range serves all embeddings
STEPS = 100  # of Newton's method; it takes about ten
ITERATIONS = 1000  # of lbfgs, as released
CLOSE = 1e-10  # of the gradient, where an optimum is reached
MANY = 300  # coordinates, above which a Hessian costs more than conjugate gradients
LOST = 1e-12  # share of the largest eigenvalue that is rounding
SCORES = ["split", "seed", "c", "validation_auc", "test_auc", "n_train", "n_validation", "n_test"]


class ProbeError(ValueError):
    """A probe that cannot be made; the message says what is short or wrong."""


@dataclass(frozen=True)
class Evaluation:
    """What a probe gives on splits.

    ``scores``: one row a split (split, seed, c, validation_auc, test_auc, n_train, n_validation, n_test, converged).
    ``predictions``: one row a test sample and split (split, row, label, probability, c).
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Basis:
    """Standardisation by training rows and the axes (d, r) of their span; a feature constant in them has scale inf."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray

    def coordinates(self, vectors: np.ndarray) -> np.ndarray:
        """(n, r) coordinates of (n, d) vectors in the span of the training rows."""
        return (np.asarray(vectors, np.float64) - self.mean) / self.scale @ self.axes


@dataclass(frozen=True)
class Solution:
    """The optimum at one C: weights (r + 1,), the intercept last, and the Newton steps it took."""

    c: float
    weights: np.ndarray
    steps: int

    def logits(self, coordinates: np.ndarray) -> np.ndarray:
        """Log odds (n,) of rows of :meth:`Basis.coordinates`."""
        return coordinates @ self.weights[:-1] + self.weights[-1]


@dataclass(frozen=True)
class Fitted:
    """A fitted probe: :meth:`logits` and :meth:`probabilities` of any vectors (n, d). ``trials``: c, auc, log_loss."""

    basis: Basis
    solution: Solution
    validation_auc: float
    trials: pd.DataFrame

    @property
    def c(self) -> float:
        """The C that was chosen."""
        return self.solution.c

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Log odds (n,) of being positive."""
        return self.solution.logits(self.basis.coordinates(vectors))

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Probability (n,) of being positive."""
        return expit(self.logits(vectors))


def span(training: np.ndarray) -> tuple[Basis, np.ndarray]:
    """Basis of training vectors (n, d) and their coordinates (n, r), r at most min(n, d)."""
    training = np.asarray(training, np.float64)
    spread = training.std(axis=0)
    scale = np.where(np.ptp(training, axis=0) == 0, np.inf, np.where(spread > 0, spread, np.inf))
    mean = training.mean(axis=0)
    rows = (training - mean) / scale
    wide = rows.shape[1] > rows.shape[0]
    values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    kept = values > LOST * values[-1] if values[-1] > 0 else np.zeros(len(values), bool)
    axes = vectors[:, kept]
    basis = Basis(mean, scale, rows.T @ axes / np.sqrt(values[kept]) if wide else axes)
    return basis, rows @ basis.axes


def solve(coordinates: np.ndarray, labels: np.ndarray, c: float, start: np.ndarray | None = None) -> Solution:
    """The L2-penalised logistic regression of (n, r) coordinates at ``c``, by Newton's method from ``start``.

    With many coordinates steps are found by conjugate gradients, in place of a Hessian that grows with the square of r.
    An optimum that is not reached in 100 steps is a :class:`ProbeError`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    solver = "newton-cholesky" if coordinates.shape[1] <= MANY else "newton-cg"
    model = LogisticRegression(C=c, solver=solver, tol=CLOSE, max_iter=STEPS, warm_start=True)
    if start is not None:
        model.coef_, model.intercept_ = start[None, :-1], start[-1:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a line search that ends at the rounding of the loss
            warnings.simplefilter("error", ConvergenceWarning)
            model.fit(coordinates, labels)
    except ConvergenceWarning as error:
        raise ProbeError(
            f"logistic regression with C = {c:g} has not converged in {STEPS} steps of Newton's method"
        ) from error
    return Solution(c, np.append(model.coef_[0], model.intercept_), int(model.n_iter_.max()))


def fit(
    training: np.ndarray,
    labels: Sequence,
    validation: np.ndarray,
    validation_labels: Sequence,
    trials: int = TRIALS,
    seed: int = 0,
) -> Fitted:
    """Learn from (n, d) training vectors; C by AUC on (m, d) validation vectors among ``trials`` of Optuna.

    C is drawn on a logarithmic scale from 1e-6 to 1e2 by a seeded TPE sampler. Of several C with the same AUC the one
    with the lowest log loss on the validation vectors is taken. :class:`ProbeError` for unusable input.
    """
    labels, validation_labels = (statistics.binary_labels(each) for each in (labels, validation_labels))
    for name, vectors, given in (("training", training, labels), ("validation", validation, validation_labels)):
        _check(vectors, given, name)
    if trials < 1:
        raise ProbeError(f"C cannot be chosen among {trials} trials")
    basis, coordinates = span(training)
    held = basis.coordinates(validation)
    solved: dict[float, Solution] = {}

    def judged(c: float) -> tuple[float, float]:
        start = solved[min(solved, key=lambda other: abs(np.log(other / c)))].weights if solved else None
        solved[c] = solve(coordinates, labels, c, start)
        logits = solved[c].logits(held)
        loss = np.logaddexp(0, (1 - 2 * validation_labels) * logits).mean()
        return statistics.auc(validation_labels, logits), float(loss)

    found = _search(judged, trials, seed)
    best = found.sort_values(["auc", "log_loss"], ascending=[False, True], kind="stable").iloc[0]
    return Fitted(basis, solved[best["c"]], float(best["auc"]), found)


def _search(judged: Callable[[float], tuple[float, float]], trials: int, seed: int) -> pd.DataFrame:
    """Trials (c, auc, log_loss) of an Optuna study that maximises the AUC."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # Optuna looks for a notebook widget that a page cannot keep
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []

    def objective(trial: optuna.Trial) -> float:
        c = trial.suggest_float("c", LOWEST, HIGHEST, log=True)
        rows.append((c, *judged(c)))
        return rows[-1][1]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=trials)
    return pd.DataFrame(rows, columns=["c", "auc", "log_loss"])


def evaluate(
    vectors: np.ndarray, labels: Sequence, splits: Sequence[Split], trials: int = TRIALS, seed: int = 0
) -> Evaluation:
    """In each split learn from train, choose C on validation, score test. ``vectors`` is (n, d), ``labels`` (n,)."""
    labels = checked(vectors, labels, splits)

    def one(split: Split) -> tuple[float, float, np.ndarray, bool]:
        parts = (vectors[split.train], labels[split.train], vectors[split.validation], labels[split.validation])
        fitted = fit(*parts, trials, seed + split.seed)
        return fitted.c, fitted.validation_auc, fitted.probabilities(vectors[split.test]), True

    with threadpool_limits(1, "blas"):  # matrices so small that threads would wait for each other
        return tabulate(labels, splits, one)


def released(vectors: np.ndarray, labels: Sequence, splits: Sequence[Split]) -> Evaluation:
    """The linear probe of the study's later code: raw features, C = 1, lbfgs, at most 1,000 iterations.

    Where lbfgs stops before its optimum, ``converged`` is False in the scores: those splits are counted, not hidden.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    labels = checked(vectors, labels, splits)

    def one(split: Split) -> tuple[float, float, np.ndarray, bool]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted by n_iter_
            model = LogisticRegression(C=1.0, solver="lbfgs", max_iter=ITERATIONS)
            model.fit(vectors[split.train], labels[split.train])
        validation = model.decision_function(vectors[split.validation])
        validation_auc = statistics.auc(labels[split.validation], validation)
        probability = model.predict_proba(vectors[split.test])[:, 1].astype(float)
        return 1.0, validation_auc, probability, bool(model.n_iter_.max() < ITERATIONS)

    return tabulate(labels, splits, one)


def checked(vectors: np.ndarray, labels: Sequence, splits: Sequence[Split]) -> np.ndarray:
    """Labels (n,) as 0/1, after vectors, labels and parts have been found usable; :class:`ProbeError`."""
    labels = statistics.binary_labels(labels)
    _check(vectors, labels, "given")
    if not splits:
        raise ProbeError("no splits to evaluate on")
    for split in splits:
        for part in ("train", "validation", "test"):
            if len(np.unique(labels[getattr(split, part)])) < 2:
                raise ProbeError(f"the {part} part of the split of seed {split.seed} has one class only")
    return labels


def _check(vectors: np.ndarray, labels: np.ndarray, name: str) -> None:
    if np.ndim(vectors) != 2 or len(vectors) != len(labels):
        raise ProbeError(f"{name}: vectors are {np.shape(vectors)}, but there are {len(labels)} labels")
    broken = ~np.isfinite(vectors).all(axis=1)
    if broken.any():
        raise ProbeError(f"{name}: {broken.sum()} vectors hold NaN or infinity, the first is row {broken.argmax()}")


def tabulate(
    labels: np.ndarray, splits: Sequence[Split], one: Callable[[Split], tuple[float, float, np.ndarray, bool]]
) -> Evaluation:
    """Scores and predictions of ``one``, which gives c, validation AUC, test probabilities, whether it converged."""
    scores, predictions = [], []
    for number, split in enumerate(splits):
        c, validation_auc, probability, converged = one(split)
        sizes = (len(split.train), len(split.validation), len(split.test))
        test_auc = statistics.auc(labels[split.test], probability)
        scores.append((number, split.seed, c, validation_auc, test_auc, *sizes, converged))
        rows = {"split": number, "row": split.test, "label": labels[split.test], "probability": probability, "c": c}
        predictions.append(pd.DataFrame(rows))
    return Evaluation(pd.DataFrame(scores, columns=[*SCORES, "converged"]), pd.concat(predictions, ignore_index=True))


def interval(evaluation: Evaluation | knn.Evaluation) -> tuple[float, float, float]:
    """Mean test AUC with the corrected 95 % interval of grouped splits, as of kNN."""
    return knn.PROTOCOLS.get("grouped").interval(evaluation.scores)


def predictions_table(predictions: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Test predictions on grouped splits, of this probe or kNN, with the identifiers of the samples.

    Columns: protocol, split, sample_id, patient_id, label, probability, and c or k.
    """
    table = predictions.assign(protocol="grouped")
    for identifier in ("sample_id", "patient_id"):
        table[identifier] = annotations[identifier].to_numpy()[table["row"]]
    last = [name for name in ("c", "k") if name in table]
    return table[["protocol", "split", "sample_id", "patient_id", "label", "probability", *last]]
