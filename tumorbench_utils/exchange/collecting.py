"""Records of a run: what its stages wrote, by embedding table, cohort and endpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from .. import annotations, artefacts, embeddings
from ..cohorts import is_phantom
from ..models import MODELS, RECIPES, Control
from . import stages
from .base import CLINICAL, FORMAT, VERSION, ExchangeError, canonical, check, measure_key, named
from .merging import SAME
from .stages import Found

STAGES = {
    "2": "2_embedding_extraction",
    "3": "3_knn_evaluation",
    "3b": "3b_beyond_knn",
    "3c": "3c_external_validation",
    "4": "4_robustness",
    "5": "5_saliency",
    "6": "6_representation_alignment",
}
UNTRAINED = "untrained"
WEIGHTS = {"random": UNTRAINED, "pretrained": "pretrained"}


@dataclass
class _Draft:
    """A record in the making: ``measures`` by key, ``inputs`` and ``versions`` of the results it is made of."""

    measures: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    samples: int | None = None
    positives: int | None = None


def collect(run: str | Path, contributor: str = "", pages: Mapping[str, Sequence[str]] | None = None) -> list[dict]:
    """Records of all that the stages 3, 3b, 3c, 4, 5 and 6 of a run wrote, and the timings of stage 2.

    ``pages`` lists the pages by stage ("3_knn_evaluation") whose results count, all of them if empty: a run may hold
    results of pages that its profile no longer has.

    A value that is NaN is no measure. An interval that does not hold its value (a bootstrap of few patients can give
    one) is left out with a note. ``auc_worst``, and of saliency what is of no table (deletion, trained against random),
    are not collected. :class:`ExchangeError` for results without provenance, results made of other embeddings than
    the run holds, and a value that two files tell differently.
    """
    run, drafts, variants = Path(run), {}, {}
    hashed = cache(_hashes)  # a table is read once, however many results are made of it
    for stage, read in stages.READERS.items():
        for path in _tables(run, stage, pages):
            record, made_of = stages.provenance(path), {}
            for found in read(path, pd.read_csv(path)):
                if found.cohort not in variants:
                    variants[found.cohort] = _variant(run, found.cohort)
                place = (found.cohort, found.table, found.variant or variants[found.cohort])
                draft = drafts.setdefault(place, _Draft())
                _add(draft, found, path)
                made_of.setdefault(place, set()).update(_sources(found))
            for place, names in made_of.items():
                drafts[place].inputs |= _inputs(run, record["inputs"], names, path, hashed)
                _add_versions(drafts[place].versions, record["versions"])
    made = [_record(run, name, draft, contributor, pages) for name, draft in sorted(drafts.items())]
    return [check(record, f"{run}: {record['table']} on {record['cohort']}") for record in made]


def content(path: str | Path) -> str:
    """SHA-256 of what an embedding table holds: sample_id, trial and vectors, in order of the first two.

    That of the file is another wherever versions of packages, which its metadata name, are.
    """
    table = embeddings.read(path)
    order = np.lexsort((table.trial, table.sample_id.astype(str)))
    found = hashlib.sha256(json.dumps([table.vectors.shape[1], *table.sample_id[order]]).encode())
    found.update(np.ascontiguousarray(table.trial[order], "<i4"))
    found.update(np.ascontiguousarray(table.vectors[order], "<f4"))
    return found.hexdigest()


def _hashes(path: Path) -> tuple[str, str]:
    """SHA-256 of the file of an embedding table, and of its content."""
    return artefacts.sha256_of(path), content(path)


def _tables(run: Path, stage: str, pages: Mapping[str, Sequence[str]] | None, ending: str = "") -> list[Path]:
    """Result tables of the pages of a stage; beside them lie others, of more than one word: <cohort>.pairs.csv."""
    found = sorted((run / "results" / STAGES[stage]).glob(f"*{ending}.csv"))
    found = [path for path in found if "." not in path.name.removesuffix(f"{ending}.csv")]
    return [path for path in found if not pages or path.name.partition(".")[0] in pages.get(STAGES[stage], ())]


def _add(draft: _Draft, found: Found, path: Path) -> None:
    name, measure = measure_key(found.measure), found.measure
    before = draft.measures.setdefault(name, measure)
    if abs(before["value"] - measure["value"]) > SAME:
        raise ExchangeError(
            f"{path}: {named(measure)} of {found.table} on {found.cohort} is {measure['value']}, elsewhere in the "
            f"run {before['value']}"
        )
    draft.samples = draft.samples or found.samples
    draft.positives = draft.positives if draft.positives is not None else found.positives


def _sources(found: Found) -> set[tuple[str, str]]:
    """Cohort and name of the embedding tables that a measure is made of: its own, that learnt from, those beside it."""
    own = {(found.cohort, found.table)}
    if "train" in found.measure:
        own.add((found.measure["train"].partition(".")[0], found.table))
    beside = found.measure.get("with", "")
    return own | {(found.cohort, name) for name in beside.split(", ") if name}


def _inputs(
    run: Path, given: Mapping[str, str], names: set[tuple[str, str]], path: Path, hashed: Callable
) -> dict[str, str]:
    """SHA-256 of what results were made of: content of embedding tables, or else patches and weights of a cohort.

    Of a table that the run no longer holds it is that of the file, and says so.
    """
    made_of, whole = {}, {name: digest for name, digest in given.items() if len(str(digest)) == 64}
    for cohort, table in sorted(names):
        own = f"{cohort}/{table}.parquet"
        digest = whole.get(own) or whole.get(f"{table}.parquet")
        if digest is None:
            parts = {
                name: each
                for name, each in whole.items()
                if name.startswith(f"{cohort}/") or name == f"weights of {table}"
            }
            made_of |= {name: each for name, each in parts.items() if not name.endswith(".parquet")}
            continue
        held = embeddings.path_of(run, cohort, table)
        if not held.exists():
            made_of[f"file {own}"] = digest
            continue
        file, inside = hashed(held)
        if file != digest:
            raise ExchangeError(f"{path}: made of other embeddings than {held} holds now; run its page again")
        made_of[own] = inside
    return made_of


def _add_versions(versions: dict, more: Mapping[str, str]) -> None:
    for name, version in more.items():
        told = {*versions.get(name, "").split(", "), version} - {""}
        versions[name] = ", ".join(sorted(told))


def _variant(run: Path, cohort: str) -> str:
    """The endpoint rule of the run's annotations of a cohort."""
    beside = artefacts.provenance_path(annotations.path_of(run, cohort))
    if not beside.exists():
        return "paper"
    return json.loads(beside.read_text(encoding="utf-8"))["parameters"].get("variant") or "paper"


def _record(run: Path, name: tuple, draft: _Draft, contributor: str, pages: Mapping | None) -> dict:
    cohort, table, variant = name
    about = _about(run, cohort, table)
    samples, positives = _counts(run, name, draft)
    made = {
        "format": FORMAT,
        "version": VERSION,
        "table": table,
        "title": _titled(about),
        "cohort": cohort,
        "variant": variant,
        "status": "recomputed",
        "phantom": is_phantom(cohort),
        "samples": samples,
        "positives": positives,
        "contributor": contributor,
        "measures": list(draft.measures.values()),
        "versions": draft.versions,
        "inputs": draft.inputs or _annotated(run, cohort),
    }
    timings = _timings(_tables(run, "2", pages, ".timings"), cohort, table, about.pop("device", None))
    return canonical(made | {key: each for key, each in about.items() if key != "title"} | timings)


def _titled(about: Mapping) -> str:
    """The title of a table by itself: pages add what tells their tables apart, which others need not."""
    untrained = about["weights"] == UNTRAINED and UNTRAINED not in about["title"]
    return f"{about['title']}, {UNTRAINED}" if untrained else about["title"]


def _annotated(run: Path, cohort: str) -> dict[str, str]:
    """The annotations, of which results without an embedding table are made."""
    path = annotations.path_of(run, cohort)
    return {f"{cohort}/{path.name}": artefacts.sha256_of(path)} if path.exists() else {}


def _about(run: Path, cohort: str, table: str) -> dict:
    """Model, recipe, weights, control, title (and device, model_card) of an embedding table, or by its name."""
    if table == CLINICAL:
        return {
            "model": CLINICAL,
            "recipe": None,
            "weights": "none",
            "control": CLINICAL,
            "title": "Clinical covariates",
        }
    path = embeddings.path_of(run, cohort, table)
    if not path.exists():
        return _by_name(table)
    given = embeddings.provenance(path).get("parameters", {})
    if "model" not in given:
        raise ExchangeError(f"{path}: its provenance names no model")
    about = {name: given.get(name) for name in ("model", "recipe", "control")}
    about["weights"] = _weights(given)
    about["title"] = given.get("title") or table
    if given.get("device"):
        about["device"] = (given["device"], given.get("precision") or "fp32")
    if given["model"] not in MODELS:
        about["model_card"] = {"title": about["title"], "licence": "not stated", "parameters": None}
    return about


def _weights(given: Mapping) -> str:
    if given.get("source") in ("registry", "released"):
        return "published"
    weights = given.get("weights") or {}
    kind = weights.get("kind")
    return f"file:{weights['sha256']}" if kind == "file" else WEIGHTS.get(kind, "none")


def _by_name(table: str) -> dict:
    """What the name of a table that the run does not hold says: <model>.<recipe>[.untrained | .file-<hash>]."""
    model, *rest = table.split(".")
    recipe, kind = (*rest, "", "")[:2]
    if model not in MODELS or (recipe not in RECIPES and not isinstance(MODELS.get(model), Control)):
        raise ExchangeError(
            f"the run has results of '{table}', but no such embedding table, and its name says no model"
        )
    weights = {"": "pretrained", UNTRAINED: UNTRAINED}.get(kind, kind.replace("file-", "file:"))
    if not recipe:
        weights = "none"
    return {
        "model": model,
        "recipe": recipe or None,
        "weights": weights,
        "control": None,
        "title": MODELS.get(model).title,
    }


def _counts(run: Path, name: tuple[str, str, str], draft: _Draft) -> tuple[int, int | None]:
    """Samples and positives of the embedding table and the annotations of this endpoint, else as the results tell.

    Those do not depend on the stages that a machine ran, nor on the other tables of a page.
    """
    cohort, table, variant = name
    path, labels = embeddings.path_of(run, cohort, table), annotations.path_of(run, cohort)
    if path.exists() and labels.exists() and variant == _variant(run, cohort):
        held = pq.read_table(path, columns=["sample_id", "trial"]).to_pandas()
        label = annotations.read(labels).set_index("sample_id")["label"]
        own = label[label.index.isin(held.loc[held["trial"] == 0, "sample_id"])]
        if len(own):
            return len(own), int((own == 1).sum()) if own.notna().all() else None
    return draft.samples or _held(path, labels), draft.positives


def _held(path: Path, labels: Path) -> int:
    """Samples of an embedding table, or else of the annotations."""
    if path.exists():
        return int((pq.read_table(path, columns=["trial"])["trial"].to_numpy() == 0).sum())
    return len(annotations.read(labels)) if labels.exists() else 1


def _timings(paths: Sequence[Path], cohort: str, table: str, where: tuple[str, str] | None) -> dict:
    """Seconds a patch of what stage 2 extracted of a table on a cohort; a control is computed on the processor."""
    rows = [row for path in paths for row in pd.read_csv(path).to_dict("records") if row["name"] == table]
    rows = [row for row in rows if row["cohort"] == cohort and row["images"] > 0 and stages.number(row["seconds"])]
    device, precision = where or ("cpu", "none")
    return {
        "timings": [
            {
                "device": device,
                "precision": precision,
                "images": int(row["images"]),
                "seconds_per_patch": row["seconds"] / row["images"],
            }
            for row in rows
        ]
    }
