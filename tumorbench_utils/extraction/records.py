"""What an embedding table is made of, in its provenance, and whether two are made of the same."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .. import artefacts
from ..bank import Bank
from ..bank.plans import CODE, RECORD
from ..models.base import Control
from ..models.encoder import Described, Encoder
from ..patches import AXES

COMPUTING = ("monai", "numpyradiomics", "torch", "transformers")  # packages whose code makes the vectors
SOURCE = "extraction"  # in the provenance of every table that is made here


class ExtractionError(RuntimeError):
    """Embeddings that cannot be made as asked; the message says why and what to do."""


def record_of(bank: Bank) -> dict:
    """The provenance of a bank."""
    return json.loads((bank.path / RECORD).read_text(encoding="utf-8"))


def size_of(maker: Encoder | Described) -> tuple[int, ...]:
    """Voxels of the patches that an encoder or control is fed, along R, A, S."""
    if not isinstance(maker, Encoder):
        return maker.geometry.size
    along = {AXES[letter][0]: n for letter, n in zip(maker.recipe.axes, maker.recipe.size, strict=True)}
    return tuple(along[axis] for axis in range(3))


def fits(bank: Bank, maker: Encoder | Described) -> bool:
    """Whether a bank is of the grid of an encoder or control, and its patches are large enough."""
    held, needed = record_of(bank)["parameters"]["geometry"], maker.geometry
    same_grid = held["spacing"] == list(needed.spacing) and held["sampling"] == needed.sampling
    return same_grid and all(n <= most for n, most in zip(size_of(maker), held["size"], strict=True))


def of_encoder(maker: Encoder) -> tuple[dict, dict]:
    """Parameters and inputs of an encoder's table."""
    recipe = maker.recipe
    fields = ("axes", "size", "window", "clip", "pad", "pooling", "dim")
    weights = {name: getattr(maker.weights, name) for name in ("kind", "source", "sha256", "state_sha256")}
    parameters = {
        "recipe": maker.recipe_name,
        "feed": {name: getattr(recipe, name) for name in fields},
        "weights": weights,
        "untrained": maker.weights.kind == "random",
        "precision": maker.precision,
        "device": maker.device.type,
    }
    layers = {type(each) for each in maker.module.modules()}
    code = code_sha256([recipe.embed, maker.model.build, type(recipe), type(maker), *layers])
    return parameters, {"weights": maker.weights.sha256, "code": code}


def of_control(control: Control, annotations: Path) -> tuple[dict, dict]:
    """Parameters and inputs of a control's table."""
    if not annotations.exists():
        raise ExtractionError(
            f"{annotations}: no annotation table, from which {control.id} reads; the data curation notebook writes it"
        )
    parameters = {"recipe": None, "features": control.names(), "untrained": False, "standardise": control.standardise}
    return parameters, {"annotations": artefacts.sha256_of(annotations), "code": code_sha256([control.features])}


def bank_sha256(bank: Bank, rows: pd.DataFrame, masks: bool) -> str:
    """What the patches of these rows are made of: code, geometry, seed points and voxels of the CTs.

    Not the times of files, so that a bank built anew of the same makes no embedding stale; unless ``masks`` count,
    which the rows hold no checksum of.
    """
    inputs = record_of(bank)["inputs"]
    if not masks:
        inputs, rows = (
            {name: inputs[name] for name in (*CODE, "geometry")},
            rows.drop(columns="mask_reason", errors="ignore"),
        )
    return hashlib.sha256((json.dumps(inputs, sort_keys=True) + rows.to_csv(index=False)).encode()).hexdigest()


def code_sha256(parts: Sequence) -> str:
    """Hash of the files that functions and classes are written in; of those of a notebook, their own lines.

    What is torch's own is left out: its version is compared.
    """
    written = set()
    for part in parts:
        part = getattr(part, "func", part)  # of a partial
        part = part if hasattr(part, "__qualname__") else type(part)
        file = getattr(sys.modules.get(part.__module__), "__file__", None)
        if part.__module__.startswith("torch."):
            continue
        try:
            written.add(f"{part.__module__} {artefacts.sha256_of(file) if file else inspect.getsource(part)}")
        except (OSError, TypeError):  # typed into a console
            written.add(part.__qualname__)
    return hashlib.sha256("\n".join(sorted(written)).encode()).hexdigest()


def record_of_table(path: Path) -> dict:
    """The provenance of an embedding table; empty if it has none."""
    try:
        stored = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise ExtractionError(f"{path}: truncated, or not an embedding table ({error}). Move it away") from error
    return json.loads(stored.get(artefacts.PROVENANCE, b"{}"))


def same(found: Mapping, record: Mapping) -> bool:
    """Whether two records are of the same embeddings; of the versions those of ``COMPUTING`` count."""
    versions = [[each.get("versions", {}).get(name) for name in COMPUTING] for each in (found, record)]
    return versions[0] == versions[1] and all(found.get(part) == record[part] for part in ("parameters", "inputs"))
