"""Saliency maps of the tumours of a run: drawn once, kept as they are finished, and turned to be looked at.

One Zarr group a sample and method, ``saliency/<encoder>/<cohort>/<sample>.<method>.zarr``: the array ``map`` (float32,
the encoder's own axes) and, of an occlusion, ``windows`` and ``distances``. A map is written under another name and
renamed when it is whole, so a killed run loses the map it was at and no other; two that draw the same map at once each
write their own, and the first to be whole stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pandas as pd
from tqdm import tqdm

from . import artefacts
from .bank import Bank, path_of
from .cohorts import is_phantom
from .extraction.records import bank_sha256, code_sha256, fits, of_encoder, record_of, same, size_of
from .extraction.tasks import on_full_disk
from .models.encoder import Encoder
from .patches import AIR, AXES
from .saliency import FILLS, SaliencyError, integrated, occlude
from .saliency.base import check_map

if TYPE_CHECKING:
    from torch import Tensor

OCCLUSION, GRADIENTS = "occlusion", "gradients"
METHODS = (OCCLUSION, GRADIENTS)
DRAWN, THERE = "drawn", "was there"
AIR_FILL = "air"
GRADIENT_BATCH = 4  # images whose gradients are in memory together, at most
SOURCE = "maps"  # in the provenance of every map
LONGEST = 120  # characters of a sample_id in a file's name
BUILDING = ".building-"  # before a map that is being written
LEFT = 600  # seconds after which such a one is of a killed run: to write a map takes one or two
TIMINGS, EXCLUDED = ["sample_id", "method", "status", "seconds", "forwards"], ["sample_id", "method", "reason"]


class MapsError(ValueError):
    """Maps that cannot be drawn or read as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Drawn:
    """What drawing gave.

    ``paths`` are the maps by (sample_id, method). ``timings`` has one row a map: sample_id, method, ``status`` (drawn,
    was there), ``seconds`` and ``forwards``, the patches that went through the network for it (0 if it was there).
    ``excluded`` lists what was asked for and has no map: sample_id, method, reason.
    """

    paths: dict[tuple[str, str], Path]
    timings: pd.DataFrame
    excluded: pd.DataFrame


@dataclass(frozen=True)
class Map:
    """A map as it was kept: ``values`` (*size, float32) along ``axes`` ("SPL"), ``spacing`` (3,) mm along these.

    An occlusion map holds cosine distances of the embedding, one of gradients is signed. ``figures`` are what else was
    found: of gradients ``gain`` and ``completeness`` (:class:`saliency.Gradients`). ``record`` is its provenance.
    """

    values: np.ndarray
    method: str
    axes: str
    spacing: tuple[float, float, float]
    sample_id: str
    figures: dict
    record: dict


def file_of(run: str | Path, encoder: str, cohort: str, sample_id: str, method: str) -> Path:
    """Where a run keeps the map of a sample; signs that a file's name may not hold are written as in addresses (%2F).

    A name that is too long for a file is cut, and ends in a hash of the whole.
    """
    name = quote(sample_id, safe="")
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{hashlib.sha256(sample_id.encode()).hexdigest()[:12]}"
    return Path(run) / "saliency" / encoder / cohort / f"{name}.{method}.zarr"


def draw(
    run: str | Path,
    cohort: str,
    encoder: Encoder,
    samples: Sequence[str] | None = None,
    most: int = 0,
    methods: Sequence[str] = METHODS,
    size: int = 12,
    overlap: float = 0.25,
    fill: float | str = "gaussian",
    steps: int = 16,
    batch: int | None = None,
    progress: bool = True,
) -> Drawn:
    """Draw the saliency maps of the annotated seed points (trial 0) of a cohort's bank, as far as they are not there.

    ``samples`` are drawn, or the first ``most`` of the bank (0: all); of those asked for by name, else of all, the ones
    that the bank could not hold are listed. ``size`` voxels, ``overlap`` and ``fill`` are those of
    :func:`saliency.occlude`, with "air" for -1024 HU as the encoder is fed it; ``steps`` those of
    :func:`saliency.integrated`, whose path starts in a patch of air. ``batch`` patches go through the
    network together (default: by device).

    A map that is there, made of the same patch, weights, code and parameters, is left alone; another is drawn anew. A
    sample whose embedding or map is of no use is listed with the reason, and an older map of it is removed.
    :class:`MapsError`, before anything is drawn, for what cannot be had of this encoder or bank.
    """
    _check(encoder, methods, samples)
    _check_parameters(encoder, size, overlap, fill, steps, batch)
    bank = Bank(path_of(run, cohort, encoder.geometry.id))
    _check_grid(bank, encoder)
    rows, lost = _chosen(bank, samples, most)
    chosen = _methods(encoder, methods, {"size": size, "overlap": overlap, "fill": fill}, {"steps": steps}, batch)
    paths, timings, made_of = {}, [], of_encoder(encoder)
    excluded = [{"sample_id": each.sample_id, "method": method, "reason": each.reason}
                for each in lost.itertuples() for method in methods]  # fmt: skip
    with tqdm(
        total=len(rows) * len(methods), desc=f"{encoder.name}, {cohort}", unit="map", disable=not progress
    ) as bar:
        for number, row in enumerate(rows.itertuples()):
            for method in chosen:
                path = file_of(run, encoder.name, cohort, row.sample_id, method.name)
                record = _record(bank, rows.iloc[[number]], cohort, encoder, method, made_of)
                done = {"sample_id": row.sample_id, "method": method.name, "status": THERE, "seconds": 0.0}
                reason, forwards = "", 0
                if not same(_record_of(path), record):
                    start = time.perf_counter()
                    with on_full_disk(path.parent):
                        reason, forwards = _make(path, record, encoder, bank, row, method)
                    done |= {"status": DRAWN, "seconds": time.perf_counter() - start}
                if reason:
                    excluded.append({"sample_id": row.sample_id, "method": method.name, "reason": reason})
                else:
                    paths[row.sample_id, method.name] = path
                    timings.append(done | {"forwards": forwards})
                bar.update()
    return Drawn(paths, pd.DataFrame(timings, columns=TIMINGS), pd.DataFrame(excluded, columns=EXCLUDED))


def read(path: str | Path) -> Map:
    """A map that :func:`draw` kept."""
    import zarr

    record = _record_of(Path(path))
    if not record:
        raise MapsError(f"{path}: no saliency map, or not one that was drawn here; maps.draw draws it")
    group = zarr.open_group(path, mode="r")
    about = dict(group.attrs)
    spacing = tuple(about["spacing_mm"])
    return Map(group["map"][:], about["method"], about["axes"], spacing, about["sample_id"], about["figures"], record)


def upright(array: np.ndarray, axes: str) -> np.ndarray:
    """A 3-D array whose axes run to ``axes`` ("SPL") as a view whose axes run to R, A, S: ``patches.oriented`` undone.

    Turn patch, mask and map of one encoder alike: what the bank pads at the border of an image lies differently in a
    patch that was read with other axes.
    """
    if np.ndim(array) != 3 or sorted(AXES.get(letter, (-1,))[0] for letter in axes) != [0, 1, 2]:
        raise MapsError(
            f"an array of {np.ndim(array)} axes to '{axes}'; must be 3, to one each of R or L, A or P, S or I"
        )
    along = {AXES[letter][0]: at for at, letter in enumerate(axes)}
    flips = [at for at, letter in enumerate(axes) if AXES[letter][1] < 0]
    return np.flip(array, flips).transpose([along[axis] for axis in range(3)])


@dataclass(frozen=True)
class _Method:
    """A way to draw a map: its ``parameters``, the ``maker`` whose code counts, how it has images embedded, and what
    is ``found`` of an image (1, 1, *size) by an embedding function: arrays and figures, by name."""

    name: str
    parameters: dict
    maker: Callable
    embed: Callable[[Tensor], Tensor]
    found: Callable[[Tensor, Callable], tuple[dict[str, np.ndarray], dict[str, float]]]


def _methods(
    encoder: Encoder, names: Sequence[str], occluding: dict, integrating: dict, batch: int | None
) -> list[_Method]:
    """The methods of these names, for an encoder."""
    import torch

    air = float(encoder.recipe.scaled(torch.tensor(float(AIR))))
    value = air if occluding["fill"] == AIR_FILL else occluding["fill"]
    batch = batch or encoder.batch

    def occlusion(image: Tensor, embed: Callable) -> tuple[dict, dict]:
        made = occlude(embed, image, **occluding | {"fill": value, "batch": batch})
        return {"map": made.map, "windows": made.windows, "distances": made.distances}, {}

    def gradients(image: Tensor, embed: Callable) -> tuple[dict, dict]:
        made = integrated(embed, image, air, **integrating, internal_batch_size=min(batch, GRADIENT_BATCH))
        return {"map": made.map}, {"gain": made.gain, "completeness": made.completeness}

    embed, through = partial(encoder.of_values, batch=batch), encoder.differentiable
    known = {
        OCCLUSION: _Method(OCCLUSION, occluding | {"fill_value": value}, occlude, embed, occlusion),
        GRADIENTS: _Method(GRADIENTS, integrating | {"start_value": air}, integrated, through, gradients),
    }
    return [known[name] for name in names]


def _make(path: Path, record: dict, encoder: Encoder, bank: Bank, row, method: _Method) -> tuple[str, int]:
    """Draw one map and keep it: why it cannot be used (empty if it can), and how many patches were embedded for it."""
    import torch

    recipe = encoder.recipe
    patch = torch.from_numpy(np.ascontiguousarray(bank.patch(row, recipe.size, recipe.axes, recipe.pad)))
    image = recipe.scaled(patch.to(encoder.device))[None, None]
    counts = []

    def embed(values: Tensor) -> Tensor:
        counts.append(len(values))
        return method.embed(values)

    try:
        arrays, figures = method.found(image, embed)
        check_map(arrays["map"])
    except SaliencyError as error:
        shutil.rmtree(path, ignore_errors=True)
        return str(error), sum(counts)
    _keep(path, arrays, figures, record, encoder)
    return "", sum(counts)


def _keep(path: Path, arrays: dict[str, np.ndarray], figures: dict, record: dict, encoder: Encoder) -> None:
    """Write a map beside where it belongs, and give it its name when it is whole."""
    import zarr

    for left in path.parent.glob(f"{BUILDING}*"):
        _clear(left)
    building = path.with_name(f"{BUILDING}{uuid.uuid4().hex[:12]}-{path.name}")  # another may be drawing the same
    group = zarr.create_group(building, zarr_format=3)
    for name, values in arrays.items():
        group.create_array(name, data=values, chunks=values.shape)
    parameters = record["parameters"]
    about = {name: parameters[name] for name in ("sample_id", "cohort", "method", "method_parameters", "untrained")}
    about |= {"encoder": encoder.name, "axes": encoder.recipe.axes, "spacing_mm": list(encoder.spacing)}
    group.attrs.update(about | {"figures": figures, "provenance": record})
    if not same(_record_of(path), record):
        shutil.rmtree(path, ignore_errors=True)
        try:
            os.replace(building, path)
        except OSError:
            if not same(_record_of(path), record):  # else another was faster
                raise
    shutil.rmtree(building, ignore_errors=True)


def _clear(left: Path) -> None:
    """Remove what a killed run was writing, not what another is writing now."""
    try:
        old = time.time() - left.stat().st_mtime > LEFT
    except FileNotFoundError:  # renamed meanwhile
        return
    if old:
        shutil.rmtree(left, ignore_errors=True)


def _record(
    bank: Bank, row: pd.DataFrame, cohort: str, encoder: Encoder, method: _Method, made_of: tuple[dict, dict]
) -> dict:
    """All that makes a map what it is; ``row`` is its row of the bank, whose place in there does not matter.

    ``made_of`` are the parameters and inputs of the encoder.
    """
    parameters = {"source": SOURCE, "cohort": cohort, "phantom": is_phantom(cohort)}
    parameters |= {"sample_id": row["sample_id"].iloc[0], "model": encoder.model.id, "encoder": encoder.name}
    parameters |= {"method": method.name, "method_parameters": method.parameters}
    inputs = {"bank": bank_sha256(bank, row.drop(columns="entry"), masks=False)}
    inputs |= made_of[1] | {"saliency": code_sha256([method.maker, check_map])}
    return json.loads(json.dumps(artefacts.provenance(parameters | made_of[0], inputs)))  # as it is read back


def _record_of(path: Path) -> dict:
    """The provenance of a map; empty if there is none, or none that can be read."""
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        record = attributes["provenance"]
        return record if record["parameters"]["source"] == SOURCE else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _check(encoder: Encoder, methods: Sequence[str], samples: Sequence[str] | None) -> None:
    """What is asked for must be there to be had, and once only."""
    if not isinstance(encoder, Encoder):
        raise MapsError(f"{encoder.name}: a control has no network to look into; maps are drawn of encoders")
    unknown = [each for each in methods if each not in METHODS]
    if isinstance(methods, str) or unknown or not methods:
        raise MapsError(f"methods are {methods!r}, must be one or more of {', '.join(METHODS)}, in a list")
    if isinstance(samples, str):
        raise MapsError(f"samples are '{samples}', must be a list of sample_ids")
    for name, given in (("methods", methods), ("samples", samples or [])):
        twice = sorted({each for each in given if list(given).count(each) > 1})
        if twice:
            raise MapsError(f"{name} given twice: {', '.join(twice)}")


def _check_parameters(encoder: Encoder, size, overlap: float, fill: float | str, steps: int, batch: int | None) -> None:
    """What would fail for the first map must not look like a fault of every sample."""
    problems = []
    if np.shape(size) not in ((), (3,)) or (np.asarray(size) < 1).any():
        problems.append(f"size is {size}, must be 1 voxel or more, one number or three")
    elif (np.asarray(size) > encoder.recipe.size).any():
        problems.append(f"size is {size} voxels, larger than the patch of {encoder.recipe.size}")
    if not 0 <= overlap < 1:
        problems.append(f"overlap is {overlap}, must be 0 or more and less than 1")
    if fill not in (*FILLS, AIR_FILL) if isinstance(fill, str) else not np.isfinite(fill):
        problems.append(f"fill is {fill!r}, must be a number or one of {', '.join((*FILLS, AIR_FILL))}")
    if steps < 1:
        problems.append(f"steps is {steps}, must be 1 or more")
    if batch is not None and batch < 1:
        problems.append(f"batch is {batch}, must be 1 or more")
    if problems:
        raise MapsError("; ".join(problems))


def _check_grid(bank: Bank, encoder: Encoder) -> None:
    """The bank must be of the encoder's grid and reach as far as its patches."""
    if not fits(bank, encoder):
        held, needed = record_of(bank)["parameters"]["geometry"], encoder.geometry
        raise MapsError(
            f"{bank.path}: is {held['sampling']}, {held['spacing']} mm, {held['size']} voxels, but {encoder.name} "
            f"needs {needed.sampling}, {list(needed.spacing)} mm, {list(size_of(encoder))} voxels. "
            "Build it anew in the data curation notebook"
        )


def _chosen(bank: Bank, samples: Sequence[str] | None, most: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the samples to draw, in their order, and those of them that the bank could not hold."""
    if most < 0:
        raise MapsError(f"most is {most}, must be 0 (all) or more")
    rows = bank.rows[bank.rows["trial"] == 0].drop_duplicates("sample_id").set_index("sample_id", drop=False)
    lost = bank.excluded[bank.excluded["trial"] == 0].drop_duplicates("sample_id")
    if samples is None:
        return (rows.iloc[:most] if most else rows), lost
    unknown = [each for each in samples if each not in rows.index and each not in set(lost["sample_id"])]
    if unknown:
        raise MapsError(f"{bank.path}: holds no sample {', '.join(map(repr, unknown[:5]))}; see its rows.parquet")
    return rows.loc[[each for each in samples if each in rows.index]], lost[lost["sample_id"].isin(samples)]
