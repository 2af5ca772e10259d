"""The paper protocol on 421 x 4,096 real embeddings: this package against the loop of the released code.

``make benchmarks``. Both run in this process on the same matrix; the loop is ten splits of fifty Optuna trials with
scikit-learn's ``KNeighborsClassifier``. Prints the ratio of times, whether AUCs and k agree, and peak memory.
"""

import resource
import time

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from tumorbench_utils import knn, published, statistics

REPEATS = 7


def released_loop(vectors: np.ndarray, labels: np.ndarray) -> list[tuple[int, float]]:
    """Chosen k and test AUC of each split, one fit a trial."""
    found = []
    for split in knn.paper_splits(labels):
        k = knn.optuna_study(vectors, labels, split).best_params["k"]
        best = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(vectors[split.train], labels[split.train])
        found.append((k, roc_auc_score(labels[split.test], best.predict_proba(vectors[split.test])[:, 1])))
    return found


def one_pass(vectors: np.ndarray, labels: np.ndarray) -> list[tuple[int, float]]:
    """The same from one ordering of the neighbours, splits included."""
    scores = knn.evaluate(vectors, labels, knn.paper_splits(labels), preference=knn.grid_order()).scores
    return list(zip(scores["k"], scores["test_auc"], strict=True))


def timed(function, *arguments) -> tuple[float, list]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    given = published.from_registry()
    vectors = given.tables["fmcib_authors"][1].astype(np.float64)
    labels = statistics.binary_labels(given.annotations.table["label"])
    one_pass(vectors, labels)
    fast = sorted(timed(one_pass, vectors, labels)[0] for _ in range(REPEATS))[REPEATS // 2]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slow, expected = timed(released_loop, vectors, labels)
    found = one_pass(vectors, labels)
    aucs = max(abs(a - b) for (_, a), (_, b) in zip(found, expected, strict=True))
    print(f"table              {vectors.shape[0]} x {vectors.shape[1]}")
    print(f"released loop      {slow:.2f} s")
    print(f"one pass           {fast * 1000:.0f} ms (median of {REPEATS})")
    print(f"ratio              {slow / fast:.0f}")
    print(f"same k             {[k for k, _ in found] == [k for k, _ in expected]}")
    print(f"largest difference {aucs:.1e} AUC")
    print(f"peak memory        {memory / 1024:.0f} MiB, reading the tables included")


if __name__ == "__main__":
    main()
