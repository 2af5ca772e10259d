"""Peak memory of the bank builder in one process, on a CT of 512x512x700 (a thin chest scan): `make benchmarks`."""

import resource
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from tumorbench_utils import bank

SHAPE = (700, 512, 512)


def main() -> None:
    """Print the peak before and after a bank with 50 jittered seeds is built."""
    with tempfile.TemporaryDirectory() as folder:
        row = np.arange(512, dtype=np.int16) - 1000
        image = sitk.GetImageFromArray(np.broadcast_to(row, SHAPE).copy())
        image.SetSpacing((0.7, 0.7, 0.5))
        sitk.WriteImage(image, f"{folder}/thin.mha")
        del image
        samples = pd.DataFrame({"sample_id": ["a"], "image": ["thin.mha"], "x": 150.0, "y": 150.0, "z": 170.0})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bank.build(Path(folder) / "run", "own", bank.seed_points(samples, 50), root=folder, workers=1)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory of the bank builder, CT of {SHAPE}: {after / 1e6:.2f} GB (before: {before / 1e6:.2f} GB)")


if __name__ == "__main__":
    main()
