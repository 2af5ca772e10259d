"""Patches of the ten models' benchmark geometries: the bank against the released pipeline once a model.

Both real lung tumour CTs, resampled to 512x512x130 and saved as gzip NRRD; CPU seconds of this process, in one run.
The released pipeline reads by ITK: with the package `itk` installed it is run as released, otherwise its images are
read by SimpleITK, which is faster. Run it by `make benchmarks`.
"""

import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parents[1]))

import released_pipeline as released

from tumorbench_utils import bank, imaging
from tumorbench_utils.cohorts import COHORTS, lung_ct
from tumorbench_utils.curation import select_lidc

SEEDS = {"lung1": (-21.86, -120.54, -611.5), "lung2": (52.61, -95.87, -256.5)}
SLICES, COPIES, TRIALS = 130, 8, 50


def resliced(name: str, target: Path) -> Path:
    """One of the CTs with 130 slices over its extent."""
    image = sitk.ReadImage(str(lung_ct.fetch()[f"{name}_image.nrrd"]))
    size, spacing = image.GetSize(), image.GetSpacing()
    resample = sitk.ResampleImageFilter()
    resample.SetReferenceImage(image)
    resample.SetSize((size[0], size[1], SLICES))
    resample.SetOutputSpacing((spacing[0], spacing[1], spacing[2] * (size[2] - 1) / (SLICES - 1)))
    resample.SetOutputOrigin(image.GetOrigin())
    resample.SetOutputDirection(image.GetDirection())
    sitk.WriteImage(resample.Execute(image), str(target), True)
    return target


def seconds(work) -> float:
    """CPU seconds of a call, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def read_as_released(path: Path):
    """The CT as the released pipeline loads it."""
    if find_spec("itk") is None:
        return released.tensor(imaging.read_ct(path))
    from monai.transforms import LoadImage

    return LoadImage(reader="ITKReader", image_only=True, ensure_channel_first=True)(str(path))


def ten_pipelines(path: Path, seed: tuple[float, float, float]) -> None:
    """Read, resample, crop, turn and scale once a model, as released."""
    for axes, window, spacing, size in released.RECIPES.values():
        released.patch(released.resample(read_as_released(path), spacing), seed, size, axes, window)


def build(folder: Path, names: list[str], seed: tuple[float, float, float], trials: int) -> None:
    """A bank of copies of the CT, in this process."""
    place = dict(zip("xyz", seed, strict=True))
    samples = pd.DataFrame({"sample_id": names, "image": [f"{name}.nrrd" for name in names], **place})
    with tempfile.TemporaryDirectory() as run:
        bank.build(run, "own", bank.seed_points(samples, trials), root=folder, workers=1)


def compare(name: str, folder: Path) -> None:
    """Print the seconds of both ways, a case, and their ratio."""
    source = resliced(name, folder / f"{name}.nrrd")
    copies = [f"{name}_{n}" for n in range(COPIES)]
    for copy in copies:
        (folder / f"{copy}.nrrd").hardlink_to(source)
    ten_pipelines(source, SEEDS[name])  # warm up: imports
    build(folder, copies[:1], SEEDS[name], 0)
    theirs = seconds(lambda: ten_pipelines(source, SEEDS[name]))
    for trials in (0, TRIALS):
        ours = seconds(lambda trials=trials: build(folder, copies, SEEDS[name], trials)) / COPIES
        patches = 1 + trials
        print(
            f"{name}, {patches} seed{'s' if trials else ''}: ten pipelines {theirs * patches:8.1f} s"
            f"{' (one seed measured)' if trials else ''}, bank {ours:.3f} s, ratio {theirs * patches / ours:,.0f}"
        )


def main() -> None:
    """Print the comparison, and the time of the LIDC labels."""
    warnings.simplefilter("ignore")
    print("the released pipeline reads by", "ITK, as released" if find_spec("itk") else "SimpleITK (itk not installed)")
    with tempfile.TemporaryDirectory() as folder:
        for name in SEEDS:
            compare(name, Path(folder))
    select_lidc(COHORTS.get("luna16"))  # into the cache
    print(f"LUNA16 labels from the readers' annotations: {seconds(lambda: select_lidc(COHORTS.get('luna16'))):.1f} s")


if __name__ == "__main__":
    main()
