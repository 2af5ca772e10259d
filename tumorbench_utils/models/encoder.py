"""An encoder that is ready to embed: its weights loaded, on its device, fed by its recipe."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..patches import AXES, BENCHMARK, Geometry
from . import loading
from .base import RECIPES, Control, Model, Recipe

if TYPE_CHECKING:
    import torch

PRECISIONS = {"fp32": None, "bf16": "bfloat16", "fp16": "float16"}
BATCH = {"cpu": 4, "mps": 8, "cuda": 32}  # patches of up to 64^3 voxels in one forward pass; of larger ones fewer
# in the messages of torch's allocators, and of cuBLAS and cuDNN
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")


class EncoderError(RuntimeError):
    """An encoder that cannot run as asked, or gave what its model does not promise; the message says what to do."""


@dataclass
class Usage:
    """What an encoder has used: ``seconds`` in forward passes, ``samples`` embedded, ``peak_bytes`` of memory.

    The peak is the device's on cuda (weights included), elsewhere how much the peak of the process has grown since
    before the weights were loaded: 0 for an encoder that is smaller than what ran before it.
    """

    seconds: float = 0.0
    samples: int = 0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Described:
    """A control, ready for :func:`tumorbench_utils.extraction.extract` beside encoders."""

    control: Control

    @property
    def name(self) -> str:
        """Name of its embedding table."""
        return self.control.id

    @property
    def geometry(self) -> Geometry:
        """The sampling grid of the patches that it describes."""
        return self.control.geometry or BENCHMARK[0]


def ready(
    model: Model | Control,
    recipe: str = "benchmark",
    weights: str = "pretrained",
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
) -> Encoder | Described:
    """``model`` with its weights on its device, in evaluation mode; a control needs none of this.

    ``weights``: "pretrained", "random" (drawn with ``seed``) or the path of a checkpoint. ``device``: "auto" (cuda,
    else mps, else cpu), or one of these, with a number if need be ("cuda:1"). ``precision``: "fp32", or "bf16" or
    "fp16" for what torch's autocast runs in these; vectors are float32 all the same.
    """
    if isinstance(model, Control):
        return Described(model)
    return _ready(model, [recipe], weights, device, precision, seed)[0]


def ready_for(
    model: Model | Control,
    recipes: Sequence[str],
    weights: str = "pretrained",
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
) -> list[Encoder | Described]:
    """:func:`ready` under each of ``recipes`` that the model has, on one and the same weights in memory.

    A model without published weights is made ready with random ones, whose name says so; a control is one entry.
    """
    if isinstance(model, Control):
        return [Described(model)]
    unknown = [name for name in recipes if name not in RECIPES]
    known = [name for name in recipes if name in RECIPES and getattr(model, name)]
    if unknown or not known:
        has = ", ".join(name for name in RECIPES if getattr(model, name))
        raise EncoderError(f"{model.id}: recipes are {list(recipes)}; it has {has}")
    if weights == "pretrained" and model.checkpoint is None:
        weights = "random"
    return _ready(model, list(dict.fromkeys(known)), weights, device, precision, seed)


def _ready(model: Model, recipes: Sequence[str], weights: str, device: str, precision: str, seed: int) -> list[Encoder]:
    for recipe in recipes:
        model.recipe(recipe)  # an unknown one is an error before anything is loaded
    place = _device(device)
    if precision not in PRECISIONS:
        raise EncoderError(f"precision is '{precision}', must be one of {', '.join(PRECISIONS)}")
    if precision == "fp16" and place.type == "cpu":
        raise EncoderError("precision fp16 is for GPUs; on cpu take fp32, or bf16 where the processor has it")
    before = _peak_of_process()
    module, loaded = loading.prepared(model, weights, seed)
    module = module.to(place)
    return [Encoder(model, recipe, module, loaded, place, precision, before) for recipe in recipes]


def _device(name: str) -> torch.device:
    import torch

    there = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if name == "auto":
        name = next(each for each, count in there.items() if count)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in there:
        raise EncoderError(f"device is '{name}', must be auto, cuda (cuda:1, ...), mps or cpu")
    if (device.index or 0) >= there[device.type]:
        found = ", ".join(f"{count} {each}" for each, count in there.items() if count)
        raise EncoderError(f"no device '{name}' here (there are: {found}); device='auto' takes the best there is")
    return device


@dataclass(eq=False)
class Encoder:
    """Patches in, vectors out. Made by :func:`ready`; ``usage`` adds up over all calls."""

    model: Model
    recipe_name: str
    module: torch.nn.Module
    weights: loading.Weights
    device: torch.device
    precision: str
    peak_before: int = 0
    usage: Usage = field(default_factory=Usage)
    fits: float = math.inf  # the largest batch that memory allows, as far as is known

    @property
    def recipe(self) -> Recipe:
        """How it is fed."""
        return self.model.recipe(self.recipe_name)

    @property
    def geometry(self) -> Geometry:
        """The sampling grid of the patches that it is fed."""
        return self.recipe.geometry

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance (3,) mm of the voxels of a patch along the recipe's own axes."""
        return tuple(self.geometry.spacing[AXES[letter][0]] for letter in self.recipe.axes)

    @property
    def name(self) -> str:
        """Name of its embedding table: model and recipe, then ".untrained" for random weights, or ".file-" and the
        start of the hash for a file not known to be the published one. Published tables bear the model's name alone.
        """
        kind = {"random": ".untrained", "file": f".file-{self.weights.sha256[:8]}"}.get(self.weights.kind, "")
        published = self.model.checkpoint.sha256 if self.model.checkpoint else ""
        known = self.weights.kind == "file" and self.weights.sha256 == published
        return f"{self.model.id}.{self.recipe_name}{'' if known else kind}"

    @property
    def batch(self) -> int:
        """How many patches go through the network together unless said otherwise."""
        most = BATCH[self.device.type]
        return max(1, min(most, most * 64**3 // math.prod(self.recipe.size)))

    def __call__(self, patches: np.ndarray, batch: int | None = None) -> np.ndarray:
        """Vectors (n, dim) float32 of patches (n, *size) int16 HU, at most ``batch`` at a time; all must be finite."""
        found = self.vectors(patches, batch)
        broken = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(broken):
            raise EncoderError(
                f"{self.name}: NaN or infinity in {len(broken)} of {len(found)} vectors, first {broken[0]}"
            )
        return found

    def vectors(self, patches: np.ndarray, batch: int | None = None) -> np.ndarray:
        """As a call, but a vector may hold NaN or infinity.

        Where memory runs out the batch is halved, and stays so. The batch may change the last bits of a vector, since
        torch has other kernels for other batches; see :mod:`tumorbench_utils.extraction`.
        """
        import torch

        if patches.dtype != np.int16:
            raise EncoderError(f"{self.name}: patches are {patches.dtype}, must be int16")
        return self.of_hu(torch.from_numpy(np.ascontiguousarray(patches)), batch).cpu().numpy()

    def of_hu(self, hu: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        """Vectors (n, dim) float32 of patches (n, *size) in HU of any number type; both on any device.

        For patches that are no longer a scanner's whole numbers; see :meth:`vectors`.
        """
        return self._embedded(hu, batch, scale=True)

    def of_values(self, values: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        """Vectors (n, dim) float32 of values (n, 1, *size) as the recipe scales them, for occlusion."""
        return self._embedded(values[:, 0], batch, scale=False)

    def differentiable(self, values: torch.Tensor) -> torch.Tensor:
        """Vectors (n, dim) of scaled values (n, 1, *size) that gradients flow through, in one batch.

        Where the gradients are asked for, :func:`reproducible` keeps them exact on a GPU.
        """
        with reproducible(), self._autocast():
            return self.recipe.embed(self.module, values.to(self.device)).float()

    def _embedded(self, source: torch.Tensor, batch: int | None, scale: bool) -> torch.Tensor:
        """Vectors (n, dim) of patches (n, *size), on the encoder's device."""
        import torch

        size = tuple(self.recipe.size)
        if tuple(source.shape[1:]) != size:
            raise EncoderError(f"{self.name}: patches are {tuple(source.shape)}, must be (n, *{size})")
        if batch is not None and batch < 1:
            raise EncoderError(f"batch is {batch}, must be 1 or more")
        cuda = self.device.type == "cuda"
        if cuda:
            source = source.pin_memory() if source.device.type == "cpu" else source
            torch.cuda.reset_peak_memory_stats(self.device)
        spans: list = []
        with reproducible(), torch.inference_mode(), self._autocast():
            nothing = torch.empty(0, self.recipe.dim, device=self.device)
            found = torch.cat([nothing, *self._batches(source, batch, spans, scale)])
        if cuda:
            torch.cuda.synchronize(self.device)
        self.usage.seconds += sum(a.elapsed_time(b) / 1000 if cuda else b - a for a, b in spans)
        self.usage.samples += len(found)
        peak = torch.cuda.max_memory_allocated(self.device) if cuda else _peak_of_process() - self.peak_before
        self.usage.peak_bytes = max(self.usage.peak_bytes, peak)
        return found

    def _autocast(self):
        import torch

        name = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, getattr(torch, name) if name else None, enabled=name is not None)

    def _batches(self, source: torch.Tensor, batch: int | None, spans: list, scale: bool) -> Iterator[torch.Tensor]:
        """Vectors of the patches (n, *size) batch by batch, on the device."""
        batch, start = batch or self.batch, 0
        while start < len(source):
            most = int(min(batch, self.fits))
            stop = min(start + most, len(source))
            # torch convolves a lone sample by another kernel on cpu: the last one takes the one before it along
            first = start - 1 if stop - start == 1 and most > 1 and start else start
            try:
                found = self._forward(source[first:stop], spans, scale)
            except (RuntimeError, MemoryError) as error:
                if not _lacks_memory(error):
                    raise
                if stop - first == 1:
                    elsewhere = "" if self.device.type == "cpu" else " or device='cpu'"
                    raise EncoderError(
                        f"{self.name}: one patch of {self.recipe.size} is too much for the memory of {self.device}. "
                        f"Free memory (other encoders, other programs), or take precision='bf16'{elsewhere}"
                    ) from error
                self.fits = (stop - first) // 2
                continue
            yield found[start - first :]
            start = stop

    def _forward(self, patches: torch.Tensor, spans: list, scale: bool) -> torch.Tensor:
        values = patches.to(self.device, non_blocking=True)
        values = (self.recipe.scaled(values) if scale else values)[:, None]
        begun = self._now()
        found = self.recipe.embed(self.module, values)
        spans.append((begun, self._now()))
        if tuple(found.shape) != (len(patches), self.recipe.dim):
            expected = (len(patches), self.recipe.dim)
            raise EncoderError(f"{self.name}: its embed gave {tuple(found.shape)}, must be (n, dim) = {expected}")
        return found.float()

    def _now(self):
        """A point in time: of the device's own queue on cuda, which is not held up by it."""
        import torch

        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            return event
        if self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


@contextmanager
def reproducible() -> Iterator[None]:
    """No TF32 and deterministic convolutions within the block; what torch was set to comes back after it.

    Gradients obey what is set where they are asked for, not where the values that they are of were computed. Those of
    overlapping max pooling (ResNets) have no deterministic kernel on cuda and may differ in the last bits.
    """
    settings = _exact()
    before = [(place, name, getattr(place, name)) for place, name, _ in settings]
    try:
        for place, name, value in settings:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _exact() -> list[tuple[object, str, object]]:
    """Where torch is told to be fast rather than exact: object, attribute, and the value under which it is exact.

    Torch 2.9 renamed the settings of precision. Once a new one was changed the older ones cannot be read any more.
    """
    from torch import backends

    cudnn, cuda, mkldnn = backends.cudnn, backends.cuda, backends.mkldnn
    found = [(cudnn, "enabled", True), (cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    if not hasattr(backends, "fp32_precision"):
        return [*found, (cudnn, "allow_tf32", False), (cuda.matmul, "allow_tf32", False)]
    parts = [cuda.matmul, *(getattr(each, part) for each in (cudnn, mkldnn) for part in ("conv", "rnn")), mkldnn.matmul]
    return [*found, *((part, "fp32_precision", "ieee") for part in (backends, cudnn, mkldnn, *parts))]


def _lacks_memory(error: BaseException) -> bool:
    """Whether an error is an allocator's, of whichever device: only cuda has a class of its own."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)


def _peak_of_process() -> int:
    """Peak resident memory of this process so far, bytes; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells may be the peak of the process that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
