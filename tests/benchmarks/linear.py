"""The linear probe on 421 x 4,096 real embeddings: rotated Newton steps against scikit-learn on all features.

``make benchmarks``. One grouped split, the same twenty C for both, all on one thread: scikit-learn's lbfgs on
standardised features with its default tolerance, far from the optimum at large C, and newton-cg run to the end.
Prints times, their ratio, and by how much the probabilities differ.
"""

import time
import warnings
from collections.abc import Callable

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tumorbench_utils import knn, published, statistics
from tumorbench_utils.probes import linear

REPEATS = 5
STRENGTHS = np.geomspace(linear.LOWEST, linear.HIGHEST, 20)


def rotated(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(C, test) probabilities: one basis, each C from the one before."""
    basis, coordinates = linear.span(train)
    held, start, found = basis.coordinates(test), None, []
    for c in STRENGTHS:
        solution = linear.solve(coordinates, labels, c, start)
        start = solution.weights
        found.append(expit(solution.logits(held)))
    return np.array(found)


def plain(train: np.ndarray, labels: np.ndarray, test: np.ndarray, **how) -> np.ndarray:
    """(C, test) probabilities of scikit-learn, one fit a C."""
    scaler = StandardScaler().fit(train)
    given, held = scaler.transform(train), scaler.transform(test)
    models = (LogisticRegression(C=c, max_iter=20000, **how) for c in STRENGTHS)
    return np.array([model.fit(given, labels).predict_proba(held)[:, 1] for model in models])


def timed(function: Callable, *arguments, **how) -> tuple[float, object]:
    start = time.perf_counter()
    result = function(*arguments, **how)
    return time.perf_counter() - start, result


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    given = published.from_registry()
    vectors = given.tables["fmcib_authors"][1].astype(np.float64)
    labels = statistics.binary_labels(given.annotations.table["label"])
    split = knn.grouped_splits(labels, given.annotations.table["patient_id"], [10])[0]
    parts = (vectors[split.train], labels[split.train], vectors[split.test])
    with threadpool_limits(1, "blas"):
        rotated(*parts)
        fast = float(np.median([timed(rotated, *parts)[0] for _ in range(REPEATS)]))
        slow, usual = timed(plain, *parts)
        exact, expected = timed(plain, *parts, solver="newton-cg", tol=1e-9)
        found = rotated(*parts)
    apart, loosely = (np.abs(found - each).max() for each in (expected, usual))
    print(f"training part          {parts[0].shape[0]} x {parts[0].shape[1]}, {len(STRENGTHS)} values of C")
    print(f"rotated Newton         {fast:.2f} s (median of {REPEATS})")
    print(f"scikit-learn           {slow:.2f} s, {slow / fast:.0f} times; differs by {loosely:.1e}")
    print(f"same, newton-cg, 1e-9  {exact:.2f} s, {exact / fast:.0f} times; differs by {apart:.1e}")


if __name__ == "__main__":
    main()
