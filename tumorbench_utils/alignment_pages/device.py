"""Where neighbours are searched."""

from __future__ import annotations

from importlib.util import find_spec


def device_of(name: str) -> str:
    """``name``, or of "auto" cuda if torch is installed and finds one, else cpu.

    mps is for those who ask for it: it has no float64.
    """
    if name != "auto":
        return name
    if find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
