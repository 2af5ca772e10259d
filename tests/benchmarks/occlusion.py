"""Occlusion maps against the bare forward passes and MONAI's class, on the same patch and weights: `make benchmarks`.

random_encoder (untrained) on a patch of 48^3 voxels, windows of 12 with an overlap of 0.25, as in the study. The bare
passes embed as many images in batches of the same sizes. MONAI's averaged embedding becomes a map of cosine distances
as in the released code. The three run in turn, since other work on the machine comes and goes; the ratios are medians
of the ratios of each turn. Peak memory is that of a process of its own, above what it held before. Then what it takes
to combine the windows alone, for an embedding of 4,096 dimensions on 64^3 voxels, where MONAI would hold 4.3 GB.
"""

import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from tumorbench_utils import saliency
from tumorbench_utils.models import MODELS, ready
from tumorbench_utils.saliency import occlusion

SIZE, OVERLAP, BATCH = 12, 0.25, 12
REPEATS = 3


def patch():
    """A smooth ball in lung, as the encoder's recipe scales it."""
    import torch

    axis = np.arange(48) - 23.5
    radius = np.sqrt(sum(part**2 for part in np.meshgrid(axis, axis, axis)))
    noise = np.random.default_rng(0).normal(0, 20, radius.shape)
    return torch.from_numpy(-800 + 850 / (1 + np.exp(radius - 9)) + noise).float()


def monai_map(encoder, image) -> np.ndarray:
    """The map as the released code makes it."""
    import torch
    from monai.visualize import OcclusionSensitivity

    class Network(torch.nn.Module):
        """What the encoder's recipe makes of its network."""

        def __init__(self):
            super().__init__()
            self.module = encoder.module

        def forward(self, values):
            return encoder.of_values(values)

    network = Network().eval()
    rule = OcclusionSensitivity(
        network, mask_size=SIZE, n_batch=BATCH, overlap=OVERLAP, activate=False, verbose=False
    )  # fmt: skip
    vectors = rule(image)[0][0]  # (dim, *size)
    whole = encoder.of_values(image)[0]
    return (1 - torch.nn.functional.cosine_similarity(vectors, whole[:, None, None, None], dim=0)).cpu().numpy()


def our_map(encoder, image) -> np.ndarray:
    return saliency.occlude(encoder.of_values, image, SIZE, OVERLAP, batch=BATCH).map


def bare(encoder, image) -> None:
    """As many images through the network, in as many batches."""
    import torch

    count = len(occlusion._positions(image.shape[2:], (SIZE,) * 3, OVERLAP)) + 1
    batches = np.array_split(np.arange(count), -(-count // BATCH))
    torch.cat([encoder.of_values(image.expand(len(part), -1, -1, -1, -1).contiguous()) for part in batches]).cpu()


def prepared():
    encoder = ready(MODELS.get("random_encoder"), weights="random", device="cpu")
    image = encoder.recipe.scaled(patch())[None, None]
    encoder.of_values(image.repeat(2, 1, 1, 1, 1))  # warm up
    return encoder, image


def peak() -> float:
    """Peak memory of this process so far, MiB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def memory(way: str) -> float:
    """Growth of the peak, MiB, in a process that goes one way only."""
    command = [sys.executable, __file__, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def timed(work, *arguments) -> tuple[tuple[float, float], object]:
    """Seconds on the wall and of the processor, and what came out."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work(*arguments)
    return (time.perf_counter() - wall, time.process_time() - processor), found


def combining() -> None:
    rng = np.random.default_rng(0)
    windows = occlusion._positions((64,) * 3, (SIZE,) * 3, OVERLAP)
    vectors = rng.normal(size=(len(windows), 4096)) + 1
    weights = occlusion._weights("gaussian", (SIZE,) * 3)
    seconds = [timed(occlusion._combined, vectors, vectors[0], windows, weights, (64,) * 3)[0] for _ in range(5)]
    wall, processor = np.median(seconds, axis=0)
    print(
        f"combining {len(windows)} windows of 4,096 dimensions on 64^3 voxels: {wall:.2f} s ({processor:.2f} s of cpu)"
    )


def main() -> None:
    encoder, image = prepared()
    bare(encoder, image)
    times, maps = [], None
    for _ in range(REPEATS):
        passes, _ = timed(bare, encoder, image)
        ours, own = timed(our_map, encoder, image)
        theirs, other = timed(monai_map, encoder, image)
        times.append((passes, ours, theirs))
        maps = own, other
    times = np.array(times)  # (turns, ways, wall and processor)
    print(f"{encoder.name}, patch {tuple(image.shape[2:])}, batches of {BATCH}, on {encoder.device}")
    for kind, name in enumerate(("wall", "processor")):  # the latter is the steadier one on a shared machine
        passes, ours, theirs = np.median(times[..., kind], axis=0)
        over, rival = np.median(times[:, 1:, kind] / times[:, :2, kind], axis=0)
        print(f"{name}, medians of {REPEATS}")
        print(f"  bare forward passes {passes:6.2f} s")
        print(f"  occlude             {ours:6.2f} s: {over:.3f} times the bare passes")
        print(f"  MONAI's class       {theirs:6.2f} s: {rival:.3f} times occlude")
    print(f"maps differ by       {np.abs(maps[0] - maps[1]).max():.1e} of at most {maps[1].max():.1e}")
    print(f"peak memory          occlude {memory('ours'):.0f} MiB, MONAI {memory('monai'):.0f} MiB, each above a batch")
    combining()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence")  # within MONAI
    if len(sys.argv) > 1:
        import monai.visualize  # noqa: F401  not to be counted

        given = prepared()
        given[0].of_values(given[1].repeat(BATCH, 1, 1, 1, 1))
        before = peak()
        {"ours": our_map, "monai": monai_map}[sys.argv[1]](*given)
        print(peak() - before)
    else:
        main()
