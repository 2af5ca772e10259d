"""Mutual kNN overlap: all pairs of ten models, and what becomes of time and memory with many samples.

``python tests/benchmarks/overlap.py [--most 100000] [--plot growth.svg]``. First 10 models x 1,714 samples, of the
models' own dimensions: the bare matrix products of float64 vectors that are already of length 1, this package from
float32 vectors to the matrix of 45 pairs, and scikit-learn with the neighbours compared as sets of numbers in NumPy.
They take turns, so that other work on the machine falls on all alike; medians of seconds and of the ratios in a turn,
and whether the matrices are equal to the last digit. Then, a process each, one embedding of 1,000 to 100,000 samples of
512 dimensions: seconds, what the products alone take, and peak memory of the process with everything in it.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

REPEATS = 5
SAMPLES, K = 1714, 10
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
DIMENSIONS = 512
LIMIT = 2e9  # bytes


def embedding(n: int, d: int, seed: int) -> np.ndarray:
    """(n, d) float32 vectors that share ten directions with those of other seeds, as models of one cohort do."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d), dtype=np.float32)
    vectors += np.random.default_rng(99).standard_normal((n, 10), dtype=np.float32) @ rng.standard_normal(
        (10, d), dtype=np.float32
    )
    return vectors


def timed(function: Callable, *arguments) -> tuple[float, object]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def products(units: list[np.ndarray]) -> None:
    """What cannot be saved: every embedding times itself."""
    for unit in units:
        unit @ unit.T


def ours(tables: dict[str, np.ndarray]) -> np.ndarray:
    from tumorbench_utils import alignment

    near = {name: alignment.nearest(each, K) for name, each in tables.items()}
    pairs, counts = alignment.overlap.counts(near)
    return alignment.matrix(pairs, counts.mean(axis=1)).to_numpy()


def theirs(tables: dict[str, np.ndarray]) -> np.ndarray:
    """As the study computes it: scikit-learn's neighbours, the first dropped as the sample itself."""
    from sklearn.neighbors import NearestNeighbors

    near = []
    for vectors in tables.values():
        search = NearestNeighbors(n_neighbors=K + 1, metric="cosine").fit(vectors.astype(np.float64))
        near.append(search.kneighbors(vectors.astype(np.float64), return_distance=False)[:, 1:])
    matrix = np.zeros((len(near), len(near)))
    for one in range(len(near)):
        for two in range(one):
            common = (near[one][:, :, None] == near[two][:, None]).sum(axis=(1, 2))
            matrix[one, two] = matrix[two, one] = common.mean()
    return matrix


def ten_models() -> None:
    from tumorbench_utils.models import TEN

    tables = {model.id: embedding(SAMPLES, model.dim, at) for at, model in enumerate(TEN)}
    units = [each.astype(np.float64) for each in tables.values()]
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in units]
    seconds = {"products alone": [], "this package": [], "scikit-learn": []}
    ours(tables)
    for _ in range(REPEATS):
        seconds["products alone"].append(timed(products, units)[0])
        taken, found = timed(ours, tables)
        seconds["this package"].append(taken)
        taken, expected = timed(theirs, tables)
        seconds["scikit-learn"].append(taken)
    assert (found == expected).all(), f"the matrices differ by up to {np.abs(found - expected).max()}"
    off = found[np.triu_indices(len(found), 1)]
    print(
        f"{len(tables)} models x {SAMPLES:,} samples, {len(off)} pairs, shared of {K}: {off.min():.2f}-{off.max():.2f}"
    )
    for name, taken in seconds.items():
        ratios = np.array(taken) / seconds["products alone"]
        print(f"{name:<16} {np.median(taken):6.2f} s  {np.median(ratios):5.2f} of the products "
              f"(turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")  # fmt: skip
    print("equal to scikit-learn to the last digit: True")


def one_size(n: int) -> None:
    """In a process of its own: seconds of the neighbours and of the products in blocks, and peak memory in bytes."""
    from tumorbench_utils import alignment
    from tumorbench_utils.alignment.neighbours import BLOCK

    vectors = embedding(n, DIMENSIONS, 0)
    taken, near = timed(alignment.nearest, vectors, K)
    assert near.shape == (n, K)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    unit, rows = vectors.astype(np.float64), max(1, BLOCK // (8 * n))
    some = range(0, n, rows)[:8]  # of equal blocks a few say what all take
    bare = sum(timed(np.matmul, unit[at : at + rows], unit.T)[0] for at in some)
    done = sum(len(unit[at : at + rows]) for at in some)
    print(taken, bare * n / done, peak)


def alone(*arguments: str) -> str:
    """What this script prints in a process of its own; a process counts the peak of the one that it came from, so
    this one must stay small."""
    return subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def growth(most: int, plot: str | None) -> None:
    rows = []
    print(f"\n{'samples':>9} {'seconds':>9} {'products':>9} {'memory':>9}   (d = {DIMENSIONS}, k = {K})")
    for n in (size for size in SIZES if size <= most):
        taken, bare, peak = map(float, alone("--one", str(n)).split())
        rows.append((n, taken, peak))
        print(f"{n:>9,} {taken:>9.2f} {bare:>9.2f} {peak / 1e6:>6,.0f} MB", flush=True)
        assert peak < LIMIT, f"{n:,} samples take {peak / 1e9:.2f} GB"
    if plot:
        draw(rows, plot)


def draw(rows: list[tuple[int, float, float]], path: str) -> None:
    from tumorbench_utils.plots import canvas

    n, taken, peak = map(np.array, zip(*rows, strict=True))
    figure, (above, below) = canvas(4.5, 1, 2, sharex=True)
    above.loglog(n, taken, "o-")
    above.set(ylabel="seconds", title="All neighbours of one embedding")
    below.semilogx(n, peak / 1e9, "o-")
    below.axhline(LIMIT / 1e9, linestyle=":")
    below.set(ylabel="peak memory, GB", xlabel=f"samples of {DIMENSIONS} dimensions", ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=20_000, help="samples up to which growth is measured, 0: not")
    parser.add_argument("--plot", help="file to draw the growth into")
    parser.add_argument("--ten", action="store_true", help="only the ten models")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.ten:
        ten_models()
        return
    if chosen.one:
        one_size(chosen.one)
        return
    print(alone("--ten"), end="", flush=True)
    growth(chosen.most, chosen.plot)


if __name__ == "__main__":
    main()
