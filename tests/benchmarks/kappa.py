"""The study's kappa of 50 trials on 421 x 4,096 real embeddings: this package, the bare products, scikit-learn.

``make benchmarks``. In place of a jittered seed point, a trial adds to every real vector what another patient's differs
from the mean. All run in this process in float64. The bare products get inputs that are already prepared, as the loop
of the released code does. Runs take turns, so that other work on the machine falls on all alike. Prints medians and
ratios, and whether the kappas agree.
"""

import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from tumorbench_utils import knn, published, statistics
from tumorbench_utils.robustness import jitter

REPEATS = 5
TRIALS = 50
NOISE = 0.9  # share of another patient's difference from the mean in a trial: so that not all find themselves


def trials_of(vectors: np.ndarray) -> np.ndarray:
    """(50, n, d) float32 trials, the first as it is."""
    rng, differences = np.random.default_rng(0), NOISE * (vectors - vectors.mean(axis=0))
    noisy = [vectors + rng.permutation(differences) for _ in range(TRIALS - 1)]
    return np.stack([vectors, *noisy])


def released_loop(trials: np.ndarray, labels: np.ndarray) -> list[float]:
    """Kappas with scikit-learn: 50 classifiers to choose k, then one prediction a trial."""

    def fitted(k: int) -> KNeighborsClassifier:
        return KNeighborsClassifier(n_neighbors=int(k), metric="cosine").fit(trials[0], labels)

    order = knn.grid_order()
    aucs = [roc_auc_score(labels, fitted(k).predict_proba(trials[0])[:, 1]) for k in order]
    classifier, edges = fitted(order[np.argmax(aucs)]), np.linspace(0, 1, 101)
    bins = [np.digitize(classifier.predict_proba(trial)[:, 1], edges) - 1 for trial in trials]
    return [cohen_kappa_score(bins[0], other, weights="linear") for other in bins[1:]]


def products(trials: np.ndarray, training: np.ndarray) -> None:
    """What cannot be saved: every trial times the training vectors."""
    for trial in trials:
        trial @ training


def timed(function: Callable, *arguments) -> tuple[float, object]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    given = published.from_registry()
    labels = statistics.binary_labels(given.annotations.table["label"])
    trials = trials_of(given.tables["fmcib_authors"][1])
    prepared = trials.astype(np.float64)
    training = (prepared[0] / np.linalg.norm(prepared[0], axis=1, keepdims=True)).T
    jitter.study_kappa(trials, labels)
    bare, ours = [], []
    for _ in range(REPEATS):
        bare.append(timed(products, prepared, training)[0])
        seconds, found = timed(jitter.study_kappa, trials, labels)
        ours.append(seconds)
    bare, ours = float(np.median(bare)), float(np.median(ours))
    loop, expected = timed(released_loop, prepared, labels)
    difference = np.abs(found.kappas - expected).max()
    print(f"trials             {trials.shape[0]} x {trials.shape[1]} x {trials.shape[2]}")
    print(f"bare products      {bare:.2f} s (median of {REPEATS})")
    print(f"study_kappa        {ours:.2f} s, {ours / bare:.2f} of the products")
    print(f"released loop      {loop:.2f} s, {loop / bare:.2f} of the products (once)")
    print(f"same kappas        {difference < 1e-12}, largest difference {difference:.1e}")
    print(f"k, itself, kappa   {found.k}, {found.itself.mean():.2f}, {found.kappas.mean():.3f} (means over trials)")


if __name__ == "__main__":
    main()
