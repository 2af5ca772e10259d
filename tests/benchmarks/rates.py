"""Patches a second and peak memory of every model of the study, in fp32 and bf16, on the best device there is.

``python tests/benchmarks/rates.py [model ...]``. Untrained weights, random patches, benchmark recipe: rates do not
hang on either. On a GPU all ten take minutes; on a processor name the small ones.
"""

import sys
import time

import numpy as np

from tumorbench_utils import models
from tumorbench_utils.models import TEN

WARM, SECONDS = 2, 10  # batches before the clock runs, and how long it runs


def rate(encoder):
    """Patches a second, the share of it in the network, and peak memory in GB."""
    hu = np.random.default_rng(0).integers(-1024, 1024, (encoder.batch, *encoder.recipe.size), dtype=np.int16)
    for _ in range(WARM):
        encoder.vectors(hu)
    before, start, done = encoder.usage.seconds, time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        done += len(encoder.vectors(hu))
    wall = time.perf_counter() - start
    return done / wall, (encoder.usage.seconds - before) / wall, encoder.usage.peak_bytes / 1e9


def main(chosen):
    print(f"{'model':<18}{'precision':<11}{'batch':>5}{'patches/s':>11}{'in network':>12}{'peak GB':>9}")
    for model in [TEN.get(name) for name in chosen] or TEN:
        for precision in ("fp32", "bf16"):
            encoder = models.ready(model, weights="random", precision=precision)
            speed, share, peak = rate(encoder)
            print(
                f"{model.id:<18}{precision:<11}{encoder.batch:>5}{speed:>11.2f}{share:>12.0%}{peak:>9.2f}", flush=True
            )
            del encoder


if __name__ == "__main__":
    main(sys.argv[1:])
