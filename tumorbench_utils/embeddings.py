"""The embedding table: one vector a sample and trial, as Parquet with its provenance inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from . import artefacts, storage

SHOWN = 5  # identifiers listed in a message; the rest are counted


class EmbeddingError(ValueError):
    """An embedding table that cannot be trusted; the message names the file and the samples."""


@dataclass(frozen=True)
class EmbeddingTable:
    """``vectors`` is (n, d) float32; ``sample_id`` (n,) text; ``trial`` (n,) int32, 0 for the seed point itself."""

    sample_id: np.ndarray
    trial: np.ndarray
    vectors: np.ndarray
    provenance: dict


@dataclass(frozen=True)
class Trials:
    """Vectors (t, n, d) float32 of ``trial`` (t,), ascending, by ``sample_id`` (n,); ``incomplete`` lists the trials
    (sample_id, trial) that are lacking of the samples left out for it."""

    sample_id: np.ndarray
    trial: np.ndarray
    vectors: np.ndarray
    incomplete: pd.DataFrame


@dataclass(frozen=True)
class Joined:
    """Annotations and vectors row by row, and every sample that only one side has (sample_id, missing_from).

    ``vectors`` is (n, d), or a dictionary of such arrays by model.
    """

    annotations: pd.DataFrame
    vectors: np.ndarray | dict[str, np.ndarray]
    unmatched: pd.DataFrame


def path_of(run: str | Path, cohort: str, model: str) -> Path:
    """Where a run, a folder or an URL, keeps the embeddings of a cohort by a model."""
    return storage.place(run) / "embeddings" / cohort / f"{model}.parquet"


def write(
    path: str | Path,
    sample_id: Sequence[str],
    vectors: np.ndarray | Sequence[np.ndarray],
    provenance: Mapping,
    trial: Sequence[int] | None = None,
) -> Path:
    """Check and write an embedding table atomically.

    ``vectors`` is (n, d), or n vectors of one length d; stored as float32.
    """
    ids = np.asarray(sample_id, dtype=object)
    trials = np.zeros(len(ids), np.int32) if trial is None else np.asarray(trial, np.int32)
    if len(trials) != len(ids):
        raise EmbeddingError(f"{path}: {len(ids)} sample_id but {len(trials)} trials")
    matrix = np.ascontiguousarray(_matrix(ids, vectors, str(path)), dtype=np.float32)
    _check(ids, trials, matrix, str(path))
    column = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    table = pa.table(
        {"sample_id": pa.array(ids, pa.string()), "trial": pa.array(trials), "embedding": column},
        metadata={artefacts.PROVENANCE: json.dumps(provenance, sort_keys=True)},
    )
    with artefacts.atomic_path(path) as temporary:
        # one row group, so that reading back gives one contiguous block
        pq.write_table(table, temporary, row_group_size=max(len(ids), 1), use_dictionary=False, compression="zstd")
    return Path(path)


def read(path: str | Path) -> EmbeddingTable:
    """Read and check an embedding table, a file or an URL.

    ``vectors`` is a view of Arrow's own memory (no copy) and read-only.
    """
    try:
        table = pq.read_table(storage.opened(path))
        ids, trials, stored = (table.column(name) for name in ("sample_id", "trial", "embedding"))
        if not (pa.types.is_fixed_size_list(stored.type) and pa.types.is_float32(stored.type.value_type)):
            raise EmbeddingError(f"{path}: embedding is {stored.type}, not a fixed-size list of float32")
        chunk = stored.chunk(0) if stored.num_chunks == 1 else pa.concat_arrays(stored.chunks)
        if trials.null_count or chunk.null_count or chunk.flatten().null_count:
            # flatten() drops a null row, which would give the later vectors to the wrong samples
            raise EmbeddingError(f"{path}: nulls in trial or embedding")
        vectors = chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, stored.type.list_size)
    except FileNotFoundError as error:
        raise EmbeddingError(f"{path}: no such embedding table") from error
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise EmbeddingError(f"{path}: truncated, or not an embedding table ({error})") from error
    ids, trials = ids.to_numpy(), trials.to_numpy()
    _check(ids, trials, vectors, str(path))
    provenance = json.loads((table.schema.metadata or {}).get(artefacts.PROVENANCE, b"{}"))
    return EmbeddingTable(ids, trials, vectors, provenance)


def provenance(path: str | Path) -> dict:
    """What a table was made of, without reading its vectors."""
    try:
        return json.loads((pq.read_schema(storage.opened(path)).metadata or {}).get(artefacts.PROVENANCE, b"{}"))
    except FileNotFoundError as error:
        raise EmbeddingError(f"{path}: no such embedding table") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise EmbeddingError(f"{path}: truncated, or not an embedding table ({error})") from error


def _matrix(ids: np.ndarray, vectors: np.ndarray | Sequence[np.ndarray], origin: str) -> np.ndarray:
    if len(vectors) != len(ids):
        raise EmbeddingError(f"{origin}: {len(ids)} sample_id but {len(vectors)} embeddings")
    if isinstance(vectors, np.ndarray) and vectors.ndim == 2:
        return vectors
    lengths = np.array([np.size(vector) for vector in vectors])
    usual = np.bincount(lengths).argmax() if len(lengths) else 0
    odd = lengths != usual
    if odd.any():
        raise EmbeddingError(f"{origin}: {odd.sum()} embeddings are not of length {usual}: {_some(ids[odd])}")
    return np.stack([np.ravel(vector) for vector in vectors]) if len(lengths) else np.empty((0, 0))


def _check(ids: np.ndarray, trials: np.ndarray, vectors: np.ndarray, origin: str) -> None:
    if not len(ids):
        raise EmbeddingError(f"{origin}: no embeddings")
    missing = np.array([not (isinstance(one, str) and one) for one in ids])
    if missing.any():
        first = missing.argmax()
        raise EmbeddingError(
            f"{origin}: {missing.sum()} sample_id are no text, the first in row {first}: {ids[first]!r}"
        )
    repeated = pd.MultiIndex.from_arrays([ids, trials]).duplicated()
    if repeated.any():
        raise EmbeddingError(f"{origin}: {repeated.sum()} duplicate sample_id and trial: {_some(ids[repeated])}")
    broken = ~np.isfinite(vectors).all(axis=1)
    if broken.any():
        raise EmbeddingError(f"{origin}: {broken.sum()} embeddings hold NaN or infinity: {_some(ids[broken])}")
    null = ~vectors.any(axis=1)
    if null.any():  # the cosine distance to it is not defined
        raise EmbeddingError(f"{origin}: {null.sum()} embeddings are zero throughout: {_some(ids[null])}")


def _some(ids: np.ndarray) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(str, ids[:SHOWN])) + more


def by_trial(table: EmbeddingTable) -> Trials:
    """All trials of a table side by side, of the samples that have every one of them, in the table's order."""
    names = list(dict.fromkeys(table.sample_id))
    rows = pd.Series(np.arange(len(table.trial)), [table.sample_id, table.trial]).unstack().reindex(names)
    lacking = rows.isna().stack()
    lacking = lacking[lacking].index.to_frame(index=False).set_axis(["sample_id", "trial"], axis=1)
    rows = rows.dropna().astype(int)
    vectors = table.vectors[rows.to_numpy().T]
    return Trials(rows.index.to_numpy(), rows.columns.to_numpy(), vectors, lacking)


def join(table: EmbeddingTable, annotations: pd.DataFrame, trial: int = 0, origin: str = "embeddings") -> Joined:
    """Vectors of ``trial`` in the order of the annotation rows; unmatched samples of either side are listed.

    No sample in common is an error, opened by ``origin``: the two tables are then of different cohorts.
    """
    wanted = pd.Index(annotations["sample_id"])
    rows = np.flatnonzero(table.trial == trial)
    place = pd.Index(table.sample_id[rows]).get_indexer(wanted)
    found = place >= 0
    if not found.any():
        raise EmbeddingError(
            f"{origin}: no sample_id in common: annotations have {_some(wanted.to_numpy())}; "
            f"embeddings of trial {trial} have {_some(table.sample_id[rows]) or 'none'}"
        )
    extra = ~np.isin(np.arange(len(rows)), place)
    unmatched = pd.DataFrame(
        {
            "sample_id": [*wanted[~found], *table.sample_id[rows[extra]]],
            "missing_from": ["embeddings"] * int((~found).sum()) + ["annotations"] * int(extra.sum()),
        }
    )
    vectors = table.vectors[rows[place[found]]]
    return Joined(annotations[found].reset_index(drop=True), vectors, unmatched)


def load(
    run: str | Path, cohort: str, models: Sequence[str], annotations: pd.DataFrame, scaled: bool = True
) -> tuple[Joined, dict]:
    """Embeddings of several models on the samples that all of them and the annotations have.

    Returns the joined tables, ``vectors`` by model and ``unmatched`` with a column model, and the provenance of
    each model's table.

    Tables of raw features (:func:`is_raw`) are :func:`standardised` over the samples returned, without a look at
    labels, unless ``scaled`` is False: who holds two cohorts against each other scales both by the first.
    """
    missing = [model for model in models if not path_of(run, cohort, model).exists()]
    if missing:
        there = sorted(path.stem for path in path_of(run, cohort, "").parent.glob("*.parquet"))
        raise EmbeddingError(f"{cohort}: no embeddings of {', '.join(missing)} in {run}. There are: {', '.join(there)}")
    tables = {model: read(path_of(run, cohort, model)) for model in models}
    origins = {model: str(path_of(run, cohort, model)) for model in models}
    joined = {model: join(table, annotations, origin=origins[model]) for model, table in tables.items()}
    common = annotations["sample_id"]
    for each in joined.values():
        common = common[common.isin(each.annotations["sample_id"])]
    if common.empty:
        raise EmbeddingError(f"{cohort}: no sample has embeddings of all of {', '.join(models)}")
    shared = annotations[annotations["sample_id"].isin(common)].reset_index(drop=True)
    vectors = {model: join(table, shared).vectors for model, table in tables.items()}
    if scaled:
        raw = [model for model, table in tables.items() if is_raw(table.provenance)]
        vectors |= {model: standardised(vectors[model]) for model in raw}
    unmatched = pd.concat([each.unmatched.assign(model=model) for model, each in joined.items()], ignore_index=True)
    return Joined(shared, vectors, unmatched), {model: table.provenance for model, table in tables.items()}


def is_raw(provenance: Mapping) -> bool:
    """Whether a table holds raw features of many units, of which the largest numbers alone would make a distance."""
    return provenance.get("parameters", {}).get("standardise") is True


def standardised(vectors: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Vectors (n, d), float32, with mean 0 and standard deviation 1 over the rows of ``reference`` (m, d), by default
    their own; columns that are constant there are 0."""
    reference = vectors if reference is None else reference
    spread = reference.std(axis=0, dtype=np.float64)
    constant = (reference == reference[0]).all(axis=0)
    return ((vectors - reference.mean(axis=0, dtype=np.float64)) / np.where(constant, np.inf, spread)).astype(
        np.float32
    )


def coverage(joined: Joined) -> pd.DataFrame:
    """One row a model of a :func:`load`: its name, dimensions, samples used, and samples that either side lacks."""
    missing = joined.unmatched.groupby(["model", "missing_from"]).size()
    return pd.DataFrame(
        {
            "embeddings": model,
            "dimensions": vectors.shape[1],
            "samples used": len(vectors),
            "without annotation": int(missing.get((model, "annotations"), 0)),
            "without embedding": int(missing.get((model, "embeddings"), 0)),
        }
        for model, vectors in joined.vectors.items()
    )
