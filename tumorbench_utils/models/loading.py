"""Weights into an encoder, strictly: every tensor of it is filled from the checkpoint, or nothing is loaded.

No file is trusted: what is read is tensors only (``weights_only``, safetensors), never a program.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from .. import artefacts
from .base import Checkpoint, Layout, Model
from .locating import CheckpointError, locate, source_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["CheckpointError", "Weights", "load", "locate", "prepared", "read", "state_sha256"]

SHOWN = 10  # names in a message; the rest are counted


@dataclass(frozen=True)
class Weights:
    """What an encoder was filled with.

    ``kind`` is pretrained, random or file. ``source`` names it (``repo@commit/file`` of a hub, an address, a package, a
    file's name, a seed). ``sha256`` is that of the file (empty for random weights), ``state_sha256`` that of all
    tensors of the encoder (:func:`state_sha256`). ``loaded`` tensors went in, ``dropped`` were left out by name, and
    ``other`` are no part of the encoder.
    """

    kind: str
    source: str
    sha256: str
    state_sha256: str
    loaded: int
    dropped: int = 0
    other: int = 0


def prepared(model: Model, weights: str | Path = "pretrained", seed: int = 0) -> tuple[Module, Weights]:
    """The encoder of ``model`` on the CPU, float32, in eval mode and without gradients, and what it was filled with.

    ``weights`` are "pretrained" (fetched at need), "random" (drawn from ``seed``) or the path of a checkpoint in one of
    the model's layouts. The global state of random numbers stays as it was.
    """
    import torch

    file = _file(model, weights)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would change those of the GPU too
        module = model.build()
    module = module.float().eval().requires_grad_(False)
    if file is None:
        source = f"untrained, seed {seed}"
        return module, Weights("random", source, "", state_sha256(module), len(module.state_dict()))
    checkpoint = model.checkpoint or Checkpoint(file=file.name, keys=len(module.state_dict()))
    if weights == "pretrained":
        return module, load(module, checkpoint, file)
    given = load(module, replace(checkpoint, sha256=""), file)
    return module, replace(given, kind="file", source=file.name)


def _file(model: Model, weights: str | Path) -> Path | None:
    """Where the weights lie; None for random ones."""
    if weights == "random":
        return None
    if weights != "pretrained":
        if not Path(weights).is_file():
            raise CheckpointError(f"{model.id}: weights is '{weights}', neither 'pretrained', 'random' nor a file")
        return Path(weights)
    if model.checkpoint is None:
        raise CheckpointError(f"{model.id}: no published weights are known; take weights='random', or a path")
    return locate(model.checkpoint, model.id)


# What is in a file


def read(path: str | Path) -> dict:
    """The content of a checkpoint: tensors on the CPU, and what stands beside them; nothing in it is run.

    Either safetensors, whatever the name says, or a file of ``torch.save`` that holds tensors and plain values alone.
    """
    path = Path(path)
    content = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: a {type(content).__name__}, not a dictionary of tensors")
    return dict(content)


def is_safetensors(path: Path) -> bool:
    """Whether a file is of that format, by its suffix or by its first bytes."""
    with open(path, "rb") as stream:
        start = stream.read(9)
    length = int.from_bytes(start[:8], "little")
    return path.suffix == ".safetensors" or (start[8:] == b"{" and length < path.stat().st_size)


def _read_safetensors(path: Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error}). Remove it and fetch it again.") from error


def _read_torch(path: Path) -> object:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged file fails in many ways
        refused = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)", str(error))
        if not (isinstance(error, pickle.UnpicklingError) and refused):
            raise CheckpointError(
                f"{path}: truncated, damaged or no checkpoint ({type(error).__name__}). Remove it and fetch it again."
            ) from error
        raise CheckpointError(
            f"{path}: holds {refused[1] or refused[2]}, which is not a tensor; it was refused and nothing was run. If "
            "you trust whoever made the file, convert it once: python -m tumorbench_utils.models.convert "
            f"{path} {path.with_suffix('.safetensors').name} --i-trust-this-file"
        ) from error


# Into the encoder


def load(module: Module, checkpoint: Checkpoint, path: str | Path) -> Weights:
    """Fill every tensor of ``module`` from a file, or raise :class:`CheckpointError` and leave it as it was.

    The first of the checkpoint's layouts that fits the file is used. Numbers take the encoder's type (float32, from
    bf16 too); integers stay integers.
    """
    path = Path(path)
    sha256 = artefacts.sha256_of(path)
    if checkpoint.sha256 and sha256 != checkpoint.sha256:
        raise CheckpointError(f"{path}: SHA-256 is {sha256}, expected {checkpoint.sha256}. Remove it and try again.")
    content = read(path)
    layout = _fitting(content, checkpoint.layouts, path)
    entries = _entries(content, layout.container)
    state, dropped = _selected(entries, layout, path)
    _check(state, module.state_dict(), checkpoint.keys, path)
    module.load_state_dict(state)
    other = len(entries) - len(state) - dropped
    return Weights("pretrained", source_of(checkpoint, path), sha256, state_sha256(module), len(state), dropped, other)


def _entries(content: Mapping, container: str) -> dict[str, object]:
    """What is in a container: a dictionary of the file, or, once converted, all that is named ``container.*``."""
    if not container:
        return dict(content)
    if isinstance(content.get(container), Mapping):
        return dict(content[container])
    start = f"{container}."
    return {key.removeprefix(start): value for key, value in content.items() if str(key).startswith(start)}


def _fitting(content: Mapping, layouts: Iterable[Layout], path: Path) -> Layout:
    for layout in layouts:
        if any(_is_of(layout, key, value) for key, value in _entries(content, layout.container).items()):
            return layout
    tried = "; ".join(f"container '{each.container}', prefix '{each.prefix}'" for each in layouts)
    raise CheckpointError(f"{path}: no known layout (tried {tried}). The file's keys: {_some(content)}")


def _is_of(layout: Layout, key: object, value: object) -> bool:
    """Whether an entry is a tensor of the encoder, or was left out of it by name."""
    import torch

    return isinstance(key, str) and key.startswith(layout.prefix) and isinstance(value, torch.Tensor)


def _selected(entries: Mapping, layout: Layout, path: Path) -> tuple[dict[str, Tensor], int]:
    """The encoder's tensors under their names in the encoder, and how many were dropped by name."""
    mine = {key.removeprefix(layout.prefix): entries[key] for key in entries if _is_of(layout, key, entries[key])}
    kept = [key for key in mine if not any(fnmatchcase(key, pattern) for pattern in layout.drop)]
    state: dict[str, Tensor] = {}
    for key in kept:
        name = key
        for pattern, replacement in layout.rename:
            name = re.sub(pattern, replacement, name)
        if name in state:
            raise CheckpointError(f"{path}: two tensors for {name}, of which one is {key}")
        state[name] = mine[key]
    return state, len(mine) - len(kept)


def _check(state: Mapping[str, Tensor], own: Mapping[str, Tensor], keys: int, path: Path) -> None:
    """Raise unless the tensors of the file are, one by one, those of the encoder, and ``keys`` of them."""
    both = [name for name in own if name in state]
    problems = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in both
            if state[name].shape != own[name].shape
        ],
        "of another type": [
            f"{name} {state[name].dtype} instead of {own[name].dtype}"
            for name in both
            if state[name].is_floating_point() != own[name].is_floating_point()
        ],
        "not finite": [name for name in both if not state[name].isfinite().all()],
    }
    found = "".join(f"\n  {len(names)} {what}: {_some(names)}" for what, names in problems.items() if names)
    if found:
        raise CheckpointError(f"{path} does not fill the encoder; nothing was loaded:{found}")
    if len(state) != keys:
        raise CheckpointError(f"{path}: {len(state)} tensors, but this checkpoint is known to hold {keys}")


def _some(names: Iterable[object]) -> str:
    names = list(map(str, names))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def state_sha256(module: Module) -> str:
    """SHA-256 over the name, type, shape and bytes of all tensors of a module, by name in sorted order."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
