"""What a model is: where its weights lie, how it is fed, and how its embedding is made. Nothing here needs torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..patches import AIR, Geometry

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

RECIPES = ("benchmark", "authors")
UNUSED = ("transformers", "matplotlib.pyplot")  # monai imports them where they are; no network here uses them


@dataclass(frozen=True)
class Layout:
    """How a checkpoint file names the tensors of the encoder.

    ``container`` is the top-level key that holds them ("" if the file is flat), ``prefix`` what stands before every
    key of the encoder; what does not begin with it belongs to other parts and is counted. ``drop`` are shell patterns
    of keys after the prefix that are no part of the encoder (decoder, heads, running statistics that are not used).
    ``rename`` are pairs (regular expression, replacement), applied in turn to what is left.
    """

    container: str = ""
    prefix: str = ""
    drop: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """Where published weights lie: a Hugging Face ``repo`` with its ``file``, a ``url``, or an installed ``package``.

    ``keys`` is how many tensors the encoder takes from it. ``sha256`` is empty where the file's hash is not known here,
    ``size`` in bytes is approximate, ``gated`` None where it is not known. ``layouts`` are tried in order: the first
    that fits the file is used.
    """

    file: str
    keys: int
    layouts: tuple[Layout, ...] = (Layout(),)
    repo: str = ""
    repo_type: str = "model"
    revision: str = "main"
    url: str = ""
    package: str = ""
    sha256: str = ""
    size: int = 0
    gated: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Recipe:
    """How an encoder is fed, and how its output becomes one vector.

    ``size`` is in voxels along ``axes``; ``window`` are points (HU, value), between which values are interpolated;
    beyond them they are clamped, or with ``clip=False`` carried on in a straight line (two points only). ``pad`` is
    the HU beyond the border of the image. ``embed(encoder, batch)`` takes float32 (n, 1, *size) and gives (n, dim);
    no sample of a batch may change another's vector.
    """

    geometry: Geometry
    axes: str
    size: tuple[int, int, int]
    window: tuple[tuple[float, float], ...]
    dim: int
    embed: Callable[[Module, Tensor], Tensor]
    pooling: str = "average over space"
    pad: int = AIR
    clip: bool = True

    def scaled(self, hu: Tensor) -> Tensor:
        """HU of any number type as float32 values that the encoder takes, on the device where they are."""
        hu, values = hu.float(), [value for _, value in self.window]
        out = None
        for (low, start), (high, stop) in zip(self.window, self.window[1:], strict=False):
            part = (hu - low) / (high - low)
            part = (part.clamp(0, 1) if self.clip else part) * (stop - start)
            out = part if out is None else out + part
        return out + values[0]


def last_level(encoder: Module, batch: Tensor) -> Tensor:
    """The average over space of the last of the levels that an encoder gives as a list, (n, channels)."""
    return encoder(batch)[-1].float().mean((2, 3, 4))


@dataclass(frozen=True, kw_only=True)
class Model:
    """An encoder of CT patches.

    ``build()`` makes the network of the encoder alone, with weights as torch draws them. ``benchmark`` is what the
    released code of the study did, ``authors`` what the model's authors prescribe; ``differences`` gives the reason
    for each difference between the two. ``released_name`` is the class name under which the study's released features
    file the model. ``parameters_paper`` and ``parameters_encoder`` are millions of parameters as the paper counts
    them and in the encoder that gives the benchmark embedding. ``overlap`` says which cohorts of the study are, or may
    be, in the pretraining data. Without a ``checkpoint`` a model can only run untrained.
    """

    id: str
    title: str
    build: Callable[[], Module]
    benchmark: Recipe
    authors: Recipe | None = None
    differences: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None
    year: int | None = None
    released_name: str = ""
    objective: str = "not stated"
    architecture: str = "not stated"
    pretraining: str = "not stated"
    parameters_paper: float | None = None
    parameters_encoder: float | None = None
    code_licence: str = "not stated"
    weights_licence: str = "not stated"
    citation: str = ""
    overlap: str = "none known"
    note: str = ""

    @property
    def dim(self) -> int:
        """Length of the embedding under the benchmark recipe."""
        return self.benchmark.dim

    def recipe(self, name: str) -> Recipe:
        """The recipe called ``name``, "benchmark" or "authors"."""
        if name not in RECIPES:
            raise ValueError(f"{self.id}: recipe is '{name}', must be one of {', '.join(RECIPES)}")
        found = getattr(self, name)
        if found is None:
            raise ValueError(f"{self.id}: no recipe '{name}'")
        return found


@dataclass(frozen=True)
class Sample:
    """What a control may look at: the row of the annotation table, the patch (HU, axes R, A, S) and its mask (or
    None), and ``spacing`` (3,) mm along these axes."""

    annotation: Mapping
    patch: np.ndarray
    mask: np.ndarray | None
    spacing: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Control:
    """A description of a tumour without a network, to hold models against.

    ``features(sample)`` gives a vector (dim,) of float64, or raises :class:`ValueError` with the reason why a sample
    cannot be described. ``needs_mask`` says that it reads the mask. ``names`` are the features, in their order.
    """

    id: str
    title: str
    features: Callable[[Sample], np.ndarray]
    names: Callable[[], tuple[str, ...]]
    needs_mask: bool = False
    geometry: Geometry | None = None
    standardise: bool = field(default=False)
    objective: str = "no learning"
    architecture: str = "none"
    pretraining: str = "none"
    code_licence: str = "MIT"
    weights_licence: str = "no weights"
    citation: str = ""
    overlap: str = "none"
    note: str = ""


@contextmanager
def monai_alone() -> Iterator[None]:
    """Within, the first import of monai finds none of ``UNUSED``, which it holds optional: half the time it takes.

    What is loaded already stays, and afterwards all can be imported. monai's Transchex alone needs transformers; in
    this process it then says so.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # an import of what is None here fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
