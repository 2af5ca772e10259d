"""Turn a checkpoint that runs code when read into safetensors, once and by hand.

``python -m tumorbench_utils.models.convert FILE OUT.safetensors --i-trust-this-file``

A pickle is a program. Without the flag only files of tensors and plain values are read, as everywhere else here; with
it whatever the file contains is run, so the file must come from someone you would let log in to this machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from .. import artefacts
from .locating import CheckpointError

SHOWN = 10  # names that are listed; the rest are counted


def convert(source: str | Path, target: str | Path, trusted: bool = False) -> tuple[int, list[str]]:
    """Write the tensors of a checkpoint to ``target`` (safetensors); their number, and the names of what was left out.

    A tensor within dictionaries gets their keys before its own, parted by points ("net.conv.weight"), so that the
    model's layout fits the new file as it fitted the old one. ``trusted`` allows the file to run code.
    """
    from safetensors.torch import save_file

    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: the new file's name must end in .safetensors")
    tensors, left_out = {}, []
    for name, value in _leaves(_content(source, trusted)):
        if not hasattr(value, "is_floating_point"):
            left_out.append(name)
        elif name in tensors:
            raise CheckpointError(f"{source}: two tensors are called {name}")
        else:
            tensors[name] = value.detach().clone().contiguous()  # safetensors takes no shared memory
    if not tensors:
        raise CheckpointError(f"{source}: holds no tensor")
    with artefacts.atomic_path(target) as temporary:
        save_file(tensors, temporary)
    return len(tensors), left_out


def _content(source: Path, trusted: bool) -> object:
    import torch

    from .loading import is_safetensors, read

    if not trusted or is_safetensors(source):
        return read(source)
    try:
        return torch.load(source, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"{source}: names a class that is not installed here ({error}). Convert it where that package is."
        ) from error


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """All that is in nested dictionaries (and modules), with the keys on the way to it, parted by points."""
    value = value.state_dict() if hasattr(value, "state_dict") else value
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 if the file was written."""
    parser = argparse.ArgumentParser(prog="python -m tumorbench_utils.models.convert", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--i-trust-this-file", action="store_true", help="let the file run whatever code it contains")
    given = parser.parse_args(arguments)
    try:
        count, left_out = convert(given.file, given.out, given.i_trust_this_file)
    except (CheckpointError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{given.out}: {count} tensors, SHA-256 {artefacts.sha256_of(given.out)}")
    if left_out:
        more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
        print(f"left out, since no tensors: {', '.join(left_out[:SHOWN])}{more}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
