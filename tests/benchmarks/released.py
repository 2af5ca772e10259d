"""The whole released evaluation on synthetic tables of the true sizes: ten models, six cohorts, both kNN protocols.

``python tests/benchmarks/released.py``. Prints wall time by cohort and in all, and peak memory: splits, ten models by
two protocols, and the paired bootstrap of all against the first. The limit is ten minutes on two cores.
"""

import resource
import time

import numpy as np

from tumorbench_utils import knn, statistics
from tumorbench_utils.models import TEN

COHORTS = {  # samples, patients, share of positives
    "luna16": (677, 433, 0.46), "dlcs": (1714, 1120, 0.10), "nsclc_radiomics": (421, 421, 0.40),
    "nsclc_radiogenomics": (144, 144, 0.30), "c4kc_kits": (134, 134, 0.30),
    "colorectal_liver_metastases": (194, 194, 0.35),
}  # fmt: skip
DRAWS = 5000
LIMIT = 600  # seconds


def tables(n: int, people: int, share: float, seed: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """Vectors by model, labels and patients: every patient at least once."""
    rng = np.random.default_rng(seed)
    patients = np.append(np.arange(people), rng.integers(0, people, n - people))
    labels = (rng.random(n) < share).astype(int)
    vectors = {}
    for number, model in enumerate(TEN):
        vectors[model.id] = rng.normal(size=(n, model.dim)).astype(np.float32)
        vectors[model.id][:, :64] += 0.06 * number * labels[:, None]
    return vectors, labels, patients


def evaluated(vectors: dict, labels: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    """Seconds of each part."""
    spent = {}
    for name in ("paper", "grouped"):
        protocol = knn.PROTOCOLS.get(name)
        start = time.perf_counter()
        splits = protocol.split(labels, patients, None)
        spent[f"{name} splits"], start = time.perf_counter() - start, time.perf_counter()
        found = {model: protocol.evaluate(each, labels, splits) for model, each in vectors.items()}
        spent[f"{name} kNN"], start = time.perf_counter() - start, time.perf_counter()
        predictions = {
            model: each.predictions.assign(
                sample_id=each.predictions["row"], patient_id=patients[each.predictions["row"].to_numpy()]
            )
            for model, each in found.items()
        }
        statistics.paired_bootstrap(predictions, next(iter(vectors)), DRAWS)
        spent[f"{name} bootstrap"] = time.perf_counter() - start
    return spent


def main() -> None:
    total = 0.0
    for seed, (cohort, sizes) in enumerate(COHORTS.items()):
        spent = evaluated(*tables(*sizes, seed))
        total += sum(spent.values())
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
        print(f"{cohort:28} {sizes[0]:5} samples {sum(spent.values()):7.1f} s ({parts})", flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"in all {total:.1f} s of at most {LIMIT} s; peak memory {memory:.2f} GB")
    assert total < LIMIT


if __name__ == "__main__":
    main()
