"""Extraction against the straightforward loop, for a small and a large encoder: `make benchmarks`.

Both real lung tumour CTs with jittered seeds; the same random weights and the same patches, fp32, the device that
`auto` finds. The released way reads and resamples the CT for every patch and embeds one at a time; its images are read
by SimpleITK, which is faster than the ITK of the released code. The other loop takes its patches from the bank, one at
a time, with the vector fetched after each. Then the peak memory of the loop itself by rows of the bank; it grows until
what is read ahead is full, some five grains, and no further.
"""

import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

import released_pipeline as released

from tumorbench_utils import bank, embeddings, extraction, imaging
from tumorbench_utils.cohorts import lung_ct
from tumorbench_utils.models import MODELS, Model, Recipe, ready
from tumorbench_utils.patches import BENCHMARK

SEEDS = {"lung1": (-21.86, -120.54, -611.5), "lung2": (52.61, -95.87, -256.5)}
TRIALS, RELEASED = 23, 2  # jittered seeds a tumour; patches a tumour that the released way embeds
REPEATS = 3
ROWS = (50, 200, 500)


def make_bank(run: Path, samples: int, trials: int) -> bank.Bank:
    """A bank of ``samples`` seed points in both CTs, each with jittered ones."""
    files = lung_ct.fetch()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(samples):
        name = list(SEEDS)[number % 2]
        place = np.array(SEEDS[name]) + (rng.normal(0, 4, 3) if number > 1 else 0)
        rows.append((f"{name}_{number}", str(files[f"{name}_image.nrrd"]), *place))
    table = pd.DataFrame(rows, columns=["sample_id", "image", "x", "y", "z"])
    built = bank.build(run, "lung", bank.seed_points(table, trials), BENCHMARK[:1], workers=1)
    return bank.Bank(built.paths[BENCHMARK[0].id])


def released_way(encoder, rows: pd.DataFrame) -> np.ndarray:
    """Read, resample, cut, scale and embed, once a patch."""
    import torch

    axes, window, spacing, size = released.RECIPES[encoder.model.id]
    files, vectors = lung_ct.fetch(), []
    for row in rows.itertuples():
        volume = imaging.read_ct(files[f"{row.sample_id.split('_')[0]}_image.nrrd"])
        image = released.resample(released.tensor(volume), spacing)
        patch = released.patch(image, (row.x, row.y, row.z), size, axes, window)
        with torch.no_grad():
            batch = torch.as_tensor(np.ascontiguousarray(patch))[None, None].to(encoder.device)
            vectors.append(encoder.recipe.embed(encoder.module, batch)[0].cpu().numpy())
    return np.stack(vectors)


def plain_loop(encoder, source: bank.Bank) -> np.ndarray:
    """One patch of the bank after the other."""
    import torch

    recipe, vectors = encoder.recipe, []
    with torch.no_grad():
        for _, patch in source.patches(recipe.size, recipe.axes, recipe.pad):
            batch = recipe.scaled(torch.from_numpy(np.ascontiguousarray(patch))[None, None].to(encoder.device))
            vectors.append(recipe.embed(encoder.module, batch)[0].cpu().numpy())
    return np.stack(vectors)


def timed(work) -> tuple[float, object]:
    """Wall seconds of a call, and what it gave."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def compare(name: str, run: Path, source: bank.Bank) -> None:
    """Print images per second of the three ways, and where the time of the extraction went."""
    encoder = ready(MODELS.get(name), weights="random")
    some = source.rows.groupby("sample_id").head(RELEASED)
    encoder(np.stack([patch for _, patch in source.patches(encoder.recipe.size, encoder.recipe.axes)][:8]))  # warm up
    slow, theirs = timed(lambda: released_way(encoder, some))
    loop, ours = [], []
    for _ in range(REPEATS):  # in turn, since other work on the machine comes and goes
        seconds, plain = timed(lambda: plain_loop(encoder, source))
        loop.append(seconds)
        embeddings.path_of(run, "lung", encoder.name).unlink(missing_ok=True)
        seconds, done = timed(lambda: extraction.extract(run, "lung", [encoder], progress=False))
        ours.append((seconds, done.timings.loc[0, "forward_seconds"]))
    vectors = embeddings.read(done.paths[encoder.name]).vectors
    count, (whole, forward) = len(vectors), sorted(ours)[REPEATS // 2]
    rates = len(some) / slow, count / sorted(loop)[REPEATS // 2], count / whole
    apart = [np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1) for a, b in
             ((vectors, plain), (vectors[some.index], theirs))]  # fmt: skip
    print(f"{encoder.name}, {count} patches on {encoder.device}, batches of {encoder.batch}, median of {REPEATS}")
    print(f"  released way    {rates[0]:8.2f} images/s ({len(some)} patches)")
    print(f"  loop on bank    {rates[1]:8.2f} images/s")
    print(f"  extraction      {rates[2]:8.2f} images/s: {rates[2] / rates[0]:.1f} and {rates[2] / rates[1]:.2f} times")
    print(f"  in the network  {forward / whole:8.1%} of the wall time")
    print(
        f"  vectors differ by up to {apart[0].max():.1e} from the loop's, {apart[1].max():.1e} from the released way's"
    )


def embed_coarsely(network, batch):
    """One layer, average over space."""
    return network(batch).mean((2, 3, 4))


def coarse() -> Model:
    """A network so small that the memory of the loop around it shows."""
    from torch.nn import Conv3d

    recipe = Recipe(BENCHMARK[0], "RAS", (64, 64, 64), ((-1024, 0), (2048, 1)), 512, embed_coarsely)
    return Model(id="coarse", title="Coarse", build=lambda: Conv3d(1, 512, 8, 8), benchmark=recipe)


def print_peak(run: str) -> None:
    """Extract a bank in this process, and print how much its peak has grown over a first small one."""
    encoder = ready(coarse(), weights="random", device="cpu")
    encoder(np.zeros((4, 64, 64, 64), np.int16))
    before = encoder.usage.peak_bytes
    seconds, _ = timed(lambda: extraction.extract(run, "lung", [encoder], progress=False))
    rows = len(bank.Bank(bank.path_of(run, "lung", BENCHMARK[0].id)).rows)
    print(f"  {rows:4} rows  {(encoder.usage.peak_bytes - before) / 1e6:6.0f} MB, {rows / seconds:.0f} images/s")


def main() -> None:
    """Print the comparisons."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        source = make_bank(Path(folder), 2, TRIALS)
        for name in ("models_genesis", "fmcib"):
            compare(name, Path(folder), source)
    print("peak memory of the loop over that of one forward pass, with a network of one layer:")
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            make_bank(Path(folder), rows, 0)
            subprocess.run([sys.executable, __file__, folder], check=True)  # a process of its own has a peak of its own


if __name__ == "__main__":
    print_peak(sys.argv[1]) if len(sys.argv) > 1 else main()
