"""Records of a run: what its stages wrote, by embedding table, cohort and endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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


def collect(run: str | Path, contributor: str = "") -> list[dict]:
    """Records of all that the stages 3, 3b, 3c, 4, 5 and 6 of a run wrote, and the timings of stage 2.

    A value that is NaN is no measure. An interval that does not hold its value (a bootstrap of few patients can give
    one) is left out with a note. ``auc_worst``, and of saliency what is of no table (deletion, trained against random),
    are not collected. :class:`ExchangeError` for results without provenance, results made of other embeddings than
    the run holds, and a value that two files tell differently.
    """
    run, drafts, titles, variants = Path(run), {}, {}, {}
    for stage, read in stages.READERS.items():
        for path in _tables(run, stage):
            record, made_of = stages.provenance(path), {}
            for found in read(path, pd.read_csv(path), titles):
                if found.cohort not in variants:
                    variants[found.cohort] = _variant(run, found.cohort)
                place = (found.cohort, found.table, found.variant or variants[found.cohort])
                draft = drafts.setdefault(place, _Draft())
                _add(draft, found, path)
                made_of.setdefault(place, set()).update(_sources(found))
            for place, names in made_of.items():
                drafts[place].inputs |= _inputs(run, record["inputs"], names, path)
                _add_versions(drafts[place].versions, record["versions"])
    made = [_record(run, name, draft, titles, contributor) for name, draft in sorted(drafts.items())]
    return [check(record, f"{run}: {record['table']} on {record['cohort']}") for record in made]


def _tables(run: Path, stage: str) -> list[Path]:
    """Result tables of a stage; beside them lie others, of more than one word: <cohort>.pairs.csv."""
    return sorted(path for path in (run / "results" / STAGES[stage]).glob("*.csv") if "." not in path.stem)


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
        own.add((found.measure["train"], found.table))
    beside = found.measure.get("with", "")
    return own | {(found.cohort, name) for name in beside.split(", ") if name}


def _inputs(run: Path, given: Mapping[str, str], names: set[tuple[str, str]], path: Path) -> dict[str, str]:
    """SHA-256 of what results were made of: embedding tables, or else the patches and weights of a cohort."""
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
        if held.exists() and artefacts.sha256_of(held) != digest:
            raise ExchangeError(f"{path}: made of other embeddings than {held} holds now; run its page again")
        made_of[own] = digest
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


def _record(run: Path, name: tuple, draft: _Draft, titles: Mapping, contributor: str) -> dict:
    cohort, table, variant = name
    about = _about(run, cohort, table)
    samples, positives = _counts(run, name, draft)
    made = {
        "format": FORMAT,
        "version": VERSION,
        "table": table,
        "title": titles.get((cohort, table)) or _titled(about),
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
    timings = _timings(run, cohort, table, about.pop("device", None))
    return canonical(made | {key: each for key, each in about.items() if key != "title"} | timings)


def _titled(about: Mapping) -> str:
    """The title of a table, as figures name it, where no result told it."""
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
    held = (pq.read_schema(path).metadata or {}).get(artefacts.PROVENANCE, b"{}")
    given = json.loads(held).get("parameters", {})
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
    """Samples and positives: as the results tell, else of the embedding table and the annotations of this endpoint."""
    cohort, table, variant = name
    path, labels = embeddings.path_of(run, cohort, table), annotations.path_of(run, cohort)
    samples, positives = draft.samples, draft.positives
    if path.exists():
        held = pq.read_table(path, columns=["sample_id", "trial"]).to_pandas()
        ids = held.loc[held["trial"] == 0, "sample_id"]
        samples = samples or len(ids)
        if positives is None and labels.exists() and variant == _variant(run, cohort):
            label = annotations.read(labels).set_index("sample_id")["label"]
            own = label[label.index.isin(ids)]
            positives = int((own == 1).sum()) if own.notna().sum() == samples else None
    if samples is None:
        samples = len(annotations.read(labels)) if labels.exists() else 1
    return samples, positives


def _timings(run: Path, cohort: str, table: str, where: tuple[str, str] | None) -> dict:
    """Seconds a patch of what stage 2 extracted of a table on a cohort; a control is computed on the processor."""
    paths: Iterable[Path] = sorted((run / "results" / STAGES["2"]).glob("*.timings.csv"))
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
