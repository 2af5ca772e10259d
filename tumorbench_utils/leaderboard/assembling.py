"""One row a model: what records of several stages say of it, side by side.

Nothing is made up: what no record tells stays missing. A mean never mixes patients and phantoms: it is of patients
where there are any, else of phantoms, and then its column is named in ``phantom_columns``. Published figures have
columns of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from ..cohorts import COHORTS, is_phantom
from ..models import MODELS
from ..sources import Idc
from .base import CONTROLS, LeaderboardError

MEASURES = ["stage", "head", "features", "measure", "value", "low", "high", "train", "with"]
WITHIN = (  # where the AUC within a cohort is found, in this order
    {"stage": "3", "head": "knn", "measure": "auc_grouped"},
    {"stage": "3b", "head": "knn", "features": "embedding", "measure": "auc"},
)
EXTERNAL = {"stage": "3c", "measure": "auc_external"}
BLIND = ("auc_centre", "auc_brightness")  # saliency maps that look at no encoder
NEIGHBOURS = "shared, k=10"
PATIENTS, PHANTOMS = False, True
NUMBERS = (
    "auc_within", "auc_within_worst", "auc_external_worst", "external_low", "external_high", "retest_identification",
    "retest_icc", "kappa", "tumour_focus", "overlap", "parameters_m", "seconds_per_patch", "published_auc",
    "published_retest_cosine", "published_kappa",
)  # fmt: skip
COLUMNS = [
    "table", "title", "model", "recipe", "weights", "control", "samples",
    "auc_within", "auc_within_worst", "auc_within_worst_on", "cohorts",
    "auc_external_worst", "external_low", "external_high", "external_on",
    "retest_identification", "retest_icc", "kappa", "tumour_focus", "overlap",
    "licence_weights", "licence_code", "gated", "parameters_m", "seconds_per_patch",
    "pretraining_known", "pretraining_possible", "phantom", "phantom_columns",
    "published_auc", "published_cohorts", "published_retest_cosine", "published_kappa", "published_same_recipe",
]  # fmt: skip
KNOWN, POSSIBLE, OPEN, NONE = "known", "possible", "not excluded", "none known"


def measures(records: Sequence[Mapping]) -> pd.DataFrame:
    """All measures of records, one a row: table, model, weights, control, cohort (:func:`label`), phantom, and the
    fields of a measure."""
    about = ["table", "model", "weights", "control", "phantom"]
    rows = [
        {name: record.get(name) for name in about} | {"cohort": label(record)} | dict(measure)
        for record in records
        for measure in record["measures"]
    ]
    found = pd.DataFrame(rows).reindex(columns=[*about, "cohort", *MEASURES])
    return found.astype({"value": float, "low": float, "high": float})


def label(record: Mapping) -> str:
    """The cohort of a record, with its endpoint unless that is the study's: luna16, phantom_a.survival."""
    return record["cohort"] if record["variant"] == "paper" else f"{record['cohort']}.{record['variant']}"


def within(found: pd.DataFrame) -> pd.DataFrame:
    """AUC of kNN within each cohort, splits grouped by patient: table, model, weights, control, cohort, phantom, auc,
    low, high. ``found`` are :func:`measures`."""
    parts = [_where(found, wanted) for wanted in WITHIN]
    both = pd.concat(parts).drop_duplicates(["table", "cohort"])
    columns = ["table", "model", "weights", "control", "cohort", "phantom", "value", "low", "high"]
    return both[columns].rename(columns={"value": "auc"}).reset_index(drop=True)


def external(found: pd.DataFrame, head: str = "knn") -> pd.DataFrame:
    """AUC on cohorts that took no part in training: table, train, test (both :func:`label`), phantom, auc, low, high.

    ``found`` are :func:`measures`.
    """
    rows = _where(found, EXTERNAL | {"head": head}).rename(columns={"cohort": "test", "value": "auc"})
    return rows[["table", "train", "test", "phantom", "auc", "low", "high"]].reset_index(drop=True)


def _where(found: pd.DataFrame, wanted: Mapping) -> pd.DataFrame:
    keep = np.ones(len(found), bool)
    for name, value in wanted.items():
        keep &= (found[name] == value).to_numpy()
    return found[keep]


def pretraining(model: str, cohort: str) -> tuple[str, str]:
    """Whether the images of a cohort (or its :func:`label`) were used to pretrain a model, and the reason given.

    "known", "possible", "not excluded" or "none known". A model that the registry does not have is "not excluded".
    Phantoms, which are computed here, are in nobody's data.
    """
    cohort = cohort.split(".")[0]
    if is_phantom(cohort):
        return NONE, "computed images"
    if model not in MODELS:
        return OPEN, "the registry does not have this model"
    says, _, why = MODELS.get(model).overlap.partition(": ")
    if says in (NONE, "none"):
        return NONE, why
    if says == POSSIBLE and "IDC" in why:
        hosted = cohort in COHORTS and isinstance(COHORTS.get(cohort).images, Idc)
        return (POSSIBLE, why) if hosted else (NONE, why)
    if says in (POSSIBLE, OPEN):
        return says, why
    named = [each.strip().casefold() for each in says.split(",")]
    titles = {cohort.casefold()} | ({COHORTS.get(cohort).title.casefold()} if cohort in COHORTS else set())
    return (KNOWN, why) if titles & set(named) else (NONE, "")


def rows(records: Sequence[Mapping], published: Mapping[str, pd.DataFrame] | None = None) -> pd.DataFrame:
    """One row an embedding table, from records (``tumorbench_utils.exchange``).

    - ``table, title, model, recipe, weights, control, samples`` (of the largest cohort);
    - ``auc_within`` (mean over the cohorts), ``auc_within_worst`` and on which, ``cohorts`` that they are of;
    - ``auc_external_worst`` with ``external_low, external_high`` and ``external_on`` (training -> test cohort): kNN;
    - ``retest_identification, retest_icc, kappa``: means over cohorts;
    - ``tumour_focus``: saliency AUC of occlusion maps minus that of the better blind map, mean over cohorts;
    - ``overlap``: mean number of the 10 nearest neighbours shared with tables of other trained models;
    - ``licence_weights, licence_code, gated, parameters_m`` (millions, of the encoder), ``seconds_per_patch`` (the
      fastest machine), ``pretraining_known`` and ``pretraining_possible`` (cohorts);
    - ``phantom`` (a figure is of computed images) and ``phantom_columns`` (which);
    - ``published_auc`` (mean over ``published_cohorts``), ``published_retest_cosine``, ``published_kappa``, of
      ``published`` {"auc", "robustness"}, for tables with trained weights; ``published_same_recipe``.
    """
    found, first = measures(records), {}
    for record in records:
        first.setdefault(record["table"], record)
        if record["model"] != first[record["table"]]["model"]:
            raise LeaderboardError(f"table '{record['table']}' is of two models: {record['model']} and another")
    trained = {name: record["model"] for name, record in first.items() if _is_trained(record)}
    made = [_row(record, records, found, trained) | _published(record, published or {}) for record in first.values()]
    table = pd.DataFrame(made, columns=COLUMNS)
    return table.astype({name: float for name in COLUMNS if name in NUMBERS})


def _is_trained(record: Mapping) -> bool:
    return not record["control"] and record["model"] not in CONTROLS and record["weights"] != "untrained"


def _row(record: Mapping, records: Sequence[Mapping], found: pd.DataFrame, trained: Mapping[str, str]) -> dict:
    others = {name for name, model in trained.items() if model != record["model"]}  # not its own in another recipe
    own, name = [each for each in records if each["table"] == record["table"]], record["table"]
    mine = found[found["table"] == name]
    row = {each: record.get(each) for each in ("table", "title", "model", "recipe", "weights", "control")}
    row["samples"] = max(each["samples"] for each in own)
    parts = [mine[mine["phantom"] == phantom] for phantom in (PATIENTS, PHANTOMS)]
    computed = []
    for make in (_accuracy, _across, _robustness, _focus, lambda rows: _overlap(rows, others)):
        made, phantom = _apart(parts, make)
        row |= made
        computed += [column for column in made if phantom and pd.notna(made[column])]
    row |= _about(record) | {"seconds_per_patch": _seconds(own)}
    cohorts = dict.fromkeys(each["cohort"] for each in own)
    flags = {cohort: pretraining(record["model"], cohort)[0] for cohort in cohorts}
    idle = record["weights"] in ("untrained", "none")
    for column, wanted in (("pretraining_known", (KNOWN,)), ("pretraining_possible", (POSSIBLE, OPEN))):
        row[column] = "" if idle else ", ".join(cohort for cohort, flag in flags.items() if flag in wanted)
    return row | {"phantom": bool(computed), "phantom_columns": ", ".join(computed)}


def _apart(parts: Sequence[pd.DataFrame], make: Callable) -> tuple[dict, bool]:
    """What ``make`` finds among patients, or if that is nothing among phantoms; and whether it is of phantoms."""
    of_patients = make(parts[PATIENTS])
    if any(pd.notna(value) for value in of_patients.values()):
        return of_patients, PATIENTS
    return make(parts[PHANTOMS]), PHANTOMS


def _accuracy(mine: pd.DataFrame) -> dict:
    found = within(mine)
    if found.empty:
        return dict.fromkeys(["auc_within", "auc_within_worst", "auc_within_worst_on", "cohorts"])
    worst = found.loc[found["auc"].idxmin()]
    return {
        "auc_within": found["auc"].mean(),
        "auc_within_worst": worst["auc"],
        "auc_within_worst_on": worst["cohort"],
        "cohorts": ", ".join(found["cohort"]),
    }


def _across(mine: pd.DataFrame) -> dict:
    found = external(mine)
    if found.empty:
        return dict.fromkeys(["auc_external_worst", "external_low", "external_high", "external_on"])
    worst = found.loc[found["auc"].idxmin()]
    return {
        "auc_external_worst": worst["auc"],
        "external_low": worst["low"],
        "external_high": worst["high"],
        "external_on": f"{worst['train']} -> {worst['test']}",
    }


def _robustness(mine: pd.DataFrame) -> dict:
    wanted = {
        "retest_identification": ("retest", "identification rate"),
        "retest_icc": ("retest", "median ICC"),
        "kappa": ("jitter", "kappa"),
    }
    return {
        column: _where(mine, {"stage": "4", "head": head, "measure": measure})["value"].mean()
        for column, (head, measure) in wanted.items()
    }


def _focus(mine: pd.DataFrame) -> dict:
    maps = _where(mine, {"stage": "5", "head": "occlusion"})
    if maps.empty:
        return {"tumour_focus": np.nan}
    wide = maps.pivot_table(index="cohort", columns="measure", values="value").reindex(columns=["auc", *BLIND])
    return {"tumour_focus": (wide["auc"] - wide[list(BLIND)].max(axis=1, skipna=False)).mean()}


def _overlap(mine: pd.DataFrame, others: set[str]) -> dict:
    pairs = _where(mine, {"stage": "6", "measure": NEIGHBOURS})
    pairs = pairs[pairs["with"].isin(others)]
    return {"overlap": pairs.groupby("cohort")["value"].mean().mean()}


def _about(record: Mapping) -> dict:
    """What the registry, or the card of a contributed model, says of licence, access and size."""
    if record["model"] not in MODELS:
        card = record.get("model_card") or {}
        return {
            "licence_weights": card.get("licence"),
            "licence_code": None,
            "gated": None,
            "parameters_m": card.get("parameters"),
        }
    model = MODELS.get(record["model"])
    checkpoint = getattr(model, "checkpoint", None)
    return {
        "licence_weights": model.weights_licence,
        "licence_code": model.code_licence,
        "gated": checkpoint.gated if checkpoint else None,
        "parameters_m": getattr(model, "parameters_encoder", None),
    }


def _seconds(own: Sequence[Mapping]) -> float:
    return min((each["seconds_per_patch"] for record in own for each in record.get("timings", ())), default=np.nan)


def _published(record: Mapping, published: Mapping[str, pd.DataFrame]) -> dict:
    row = dict.fromkeys(
        ["published_auc", "published_cohorts", "published_retest_cosine", "published_kappa", "published_same_recipe"]
    )
    trained = not record["control"] and record["weights"] != "untrained"
    for name, frame in published.items():
        of = frame[frame["model"] == record["model"]] if "model" in frame else frame.iloc[:0]
        if not trained or of.empty:
            continue
        row["published_same_recipe"] = record["recipe"] == "benchmark"
        if name == "auc":
            row |= {"published_auc": of["auc"].mean(), "published_cohorts": ", ".join(of["cohort"])}
        if name == "robustness":
            row |= {
                "published_retest_cosine": of["rider_mean_cosine"].iloc[0],
                "published_kappa": of["kappa_mean"].iloc[0],
            }
    return row
