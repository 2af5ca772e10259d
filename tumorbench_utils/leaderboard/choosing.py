"""Which model for a task: rules that leave out what the evidence does not bear, and say so. No composite score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from .assembling import KNOWN, pretraining
from .base import ALPHA, CONTROLS, LeaderboardError
from .comparing import aucs_of, best_of, names_of, versus

VOLUME, RANDOM = "volume", "random_encoder"
EVIDENCE = ["model", "check", "cohort", "against", "value", "low", "high", "p", "passed"]
CHANCE = 0.5


@dataclass(frozen=True)
class Task:
    """What is asked: ``cohorts`` (labels as of :func:`label`) that stand for the task, and what is known.

    ``pairs`` maps a cohort to :func:`statistics.pairwise_of` all tables that were tested on the same samples.
    ``external`` (table, train, test, auc, low, high) is of models trained on one cohort and tested on another, as
    :func:`external` gives it.
    """

    cohorts: Sequence[str]
    pairs: Mapping[str, pd.DataFrame]
    external: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["table", "train", "test"]))


@dataclass(frozen=True)
class Choice:
    """``candidates``: tables that no rule left out, by mean AUC. ``excluded``: model, reason; every other table of
    ``rows`` is there once, and its reason holds all rules that it broke. ``evidence``: model, check (best, volume,
    untrained, external), cohort, against, value, low, high, p, passed; a value is a difference in AUC, or the AUC of an
    external test."""

    candidates: list[str]
    excluded: pd.DataFrame
    evidence: pd.DataFrame


def choose(rows: pd.DataFrame, task: Task, alpha: float = ALPHA) -> Choice:
    """The models that the evidence of a task supports; none if it is too little, and why.

    ``rows`` is of :func:`rows`. Controls and untrained weights are no models to choose. A cohort on whose images a
    model is known to have been pretrained is no evidence for it. A candidate

    - is on no cohort of the task significantly worse than the best trained model there (Holm);
    - is significantly better than ``volume`` and than the untrained encoder on at least one cohort, on none worse;
    - has an AUC above chance (lower limit above 0.5) whenever it was trained on another cohort of the task, and was so
      at least once.

    What was not tested is not passed.
    """
    lacking = {"table", "model", "weights", "control"} - set(rows)
    if lacking:
        raise LeaderboardError(f"the rows of the leaderboard lack the column(s) {', '.join(sorted(lacking))}")
    fit, excluded = [], []
    for row in rows.itertuples():
        why = _no_model(row)
        if why:
            excluded.append((row.table, why))
        else:
            fit.append(row)
    trained = [row.table for row in fit]
    kinds = dict(zip(rows["table"], rows["model"], strict=True))
    found, passed = [], []
    for row in fit:
        checks, reasons = _checked(row, trained, kinds, task, alpha)
        found += checks
        if reasons:
            excluded.append((row.table, "; ".join(reasons)))
        else:
            passed.append(row.table)
    evidence = pd.DataFrame(found, columns=EVIDENCE)
    tested = sorted({name for table in _pairs(task).values() for name in names_of(table)} & set(trained))
    if len(tested) < 2:
        excluded += [(name, "no other trained model was tested: a choice takes two") for name in passed]
        passed = []
    candidates = sorted(passed, key=lambda name: -_mean_auc(name, task))
    table = pd.DataFrame(excluded, columns=["model", "reason"])
    return Choice(candidates, table, evidence)


def _no_model(row) -> str:
    if pd.notna(row.control) and row.control:
        return f"a negative control ({row.control})" if row.model not in CONTROLS else "a control"
    if row.model in CONTROLS:
        return "a control"
    return "untrained weights" if row.weights == "untrained" else ""


def _pairs(task: Task) -> dict[str, pd.DataFrame]:
    return {cohort: task.pairs[cohort] for cohort in task.cohorts if cohort in task.pairs}


def _checked(row, trained: list[str], kinds: Mapping, task: Task, alpha: float) -> tuple[list[tuple], list[str]]:
    """Evidence on one table, and the reasons for which it is no candidate."""
    known = [cohort for cohort in task.cohorts if _seen(row.model, cohort)]
    pairs = {cohort: table for cohort, table in _pairs(task).items() if row.table in names_of(table)}
    open_to = {cohort: table for cohort, table in pairs.items() if cohort not in known}
    if not open_to:
        why = f"pretrained on the images of {', '.join(pairs)}" if pairs else "not tested on a cohort of this task"
        return [], [why]
    # a model that has seen the images of a cohort is no measure for the others there
    rivals = {
        cohort: [name for name in trained if name in names_of(table) and not _seen(kinds[name], cohort)]
        for cohort, table in open_to.items()
    }
    checks, reasons = _against_best(row.table, rivals, open_to, alpha)
    for check, references in (
        ("volume", [name for name, model in kinds.items() if model == VOLUME]),
        ("untrained", _untrained(row, kinds)),
    ):
        rows, why = _against_control(row.table, check, references, open_to, alpha)
        checks, reasons = checks + rows, reasons + why
    rows, why = _outside(row.table, task, known)
    return checks + rows, reasons + why


def _untrained(row, kinds: Mapping) -> list[str]:
    """The random encoder, and the model's own architecture with weights as drawn."""
    return [name for name, model in kinds.items() if model == RANDOM or name == f"{row.table}.untrained"]


def _evidence(model: str, check: str, cohort: str, row: pd.Series, passed: bool) -> tuple:
    return (model, check, cohort, row["second"], row["difference"], row["low"], row["high"], row["p_holm"], passed)


def _seen(model: str, cohort: str) -> bool:
    return pretraining(model, cohort)[0] == KNOWN


def _against_best(name: str, rivals: Mapping, pairs: Mapping, alpha: float) -> tuple[list[tuple], list[str]]:
    checks, reasons = [], []
    for cohort, table in pairs.items():
        best = best_of(table, rivals[cohort], alpha)
        if name != best[0]:
            passed = name in best
            checks.append(_evidence(name, "best", cohort, versus(table, name, best[0]), passed))
            reasons += [] if passed else [f"significantly worse than {best[0]} on {cohort}"]
    return checks, reasons


def _against_control(
    name: str, check: str, references: list[str], pairs: Mapping, alpha: float
) -> tuple[list[tuple], list[str]]:
    found = []
    for cohort, table in pairs.items():
        for reference in references:
            row = versus(table, name, reference)
            if row is not None:
                found.append((cohort, row))
    if not found:
        return [], [f"not held against {'tumour volume' if check == 'volume' else 'an untrained encoder'}"]
    better = [row["p_holm"] < alpha and row["difference"] > 0 for _, row in found]
    worse = [row["p_holm"] < alpha and row["difference"] < 0 for _, row in found]
    checks = [_evidence(name, check, cohort, row, ok) for (cohort, row), ok in zip(found, better, strict=True)]
    reasons = [
        f"significantly worse than {row['second']} on {cohort}"
        for (cohort, row), bad in zip(found, worse, strict=True)
        if bad
    ]
    for reference in dict.fromkeys(row["second"] for _, row in found):
        if not any(ok for (_, row), ok in zip(found, better, strict=True) if row["second"] == reference):
            reasons.append(f"on no cohort significantly better than {reference}")
    return checks, reasons


def _outside(name: str, task: Task, known: list[str]) -> tuple[list[tuple], list[str]]:
    table = task.external
    own = table[
        (table["table"] == name)
        & table["test"].isin(task.cohorts)
        & table["train"].isin(task.cohorts)
        & ~table["test"].isin(known)
    ]
    if own.empty:
        return [], ["no external test"]
    checks, reasons = [], []
    for row in own.itertuples():
        passed = bool(row.low > CHANCE)  # not of a missing limit
        checks.append((name, "external", row.test, row.train, row.auc, row.low, row.high, float("nan"), passed))
        if not passed:
            reasons.append(f"trained on {row.train}, no better than chance on {row.test}")
    return checks, reasons


def _mean_auc(name: str, task: Task) -> float:
    values = [aucs_of(table)[name] for table in _pairs(task).values() if name in names_of(table)]
    return sum(values) / len(values)
