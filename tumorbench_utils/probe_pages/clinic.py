"""What the clinic knows already, and whether the tests are honest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import knn, phantom, statistics
from ..cohorts import is_phantom
from ..plots import Several, Shown
from ..plots.base import percent
from ..plots.probes import ends, forest, promises
from ..plots.several import in_groups
from ..probes import clinical, linear, null
from ..statistics import bounded
from .judging import Judged, difference_words, signed

VOLUME = "volume_ml"
PAIRED = "paired difference of two embeddings"  # its test, as in null.shares
AUC = "interval of an AUC, "  # how the names of the other tests begin
CLINIC, SIZE = "clinical covariates", "tumour volume"
COLUMNS = {"volume_ml": SIZE, "t_stage": "T stage", "n_stage": "N stage", "m_stage": "M stage", "gender": "sex"}


@dataclass(frozen=True)
class Clinic:
    """Covariates to which embeddings are added (``used``; ``left_out``: column, reason), alone and with each embedding.

    ``table``: model, title, features (clinical, volume, embedding, both), series, value, low, high. ``added``: what
    each embedding adds (title, alone, together, difference, low, high, p, p_holm).
    """

    used: list[str]
    left_out: pd.DataFrame
    table: pd.DataFrame
    added: pd.DataFrame


def clinic(found: Judged, draws: int, trials: int = linear.TRIALS, seed: int = 0) -> Clinic | None:
    """Clinical alone, volume alone, embedding alone, both; None for a cohort without any covariate.

    Where there are no clinical columns, the volume is what an embedding has to add to.
    """
    table, labels, splits = found.annotations, found.labels, found.splits
    known = clinical.covariates(table)
    size = clinical.covariates(table, [VOLUME] if VOLUME in table else [])
    if not known.names and not size.names:
        return None
    rows, alone = [], {}
    for name, title, which in (("clinical", CLINIC, known), ("volume", SIZE, size)):
        if which.names:
            alone[name] = clinical.alone(table, which, labels, splits, trials, seed)
            words = title[0].upper() + title[1:]
            words += ", as a covariate" if words in found.titles.values() else ""
            rows.append((name, words, name, "alone", *linear.interval(alone[name])))
    base = "clinical" if "clinical" in alone else "volume"
    together = {base: linear.predictions_table(alone[base].predictions, table)}
    for name in found.models:
        probe, title = found.evaluations[name, "linear"], found.titles[name]
        rows.append((name, title, "embedding", "alone", *linear.interval(probe)))
        if name == base:
            continue  # the covariate itself has nothing to add
        fused = clinical.both(
            table, known if base == "clinical" else size, found.vectors[name], probe, labels, splits, trials, seed
        )
        together[name] = linear.predictions_table(fused.predictions, table)
        rows.append((name, title, "both", f"with {CLINIC if base == 'clinical' else SIZE}", *linear.interval(fused)))
    added = statistics.paired_bootstrap(together, base, draws, seed)
    added.insert(0, "title", added["name"].map(found.titles))
    added = added.rename(columns={"auc": "together", "reference_auc": "alone"})
    columns = ["model", "title", "features", "series", "value", "low", "high"]
    left_out = pd.concat([known.left_out, size.left_out], ignore_index=True)
    used = known if base == "clinical" else size
    return Clinic(list(used.names), left_out, pd.DataFrame(rows, columns=columns), added)


def covariate(column: str) -> str:
    """The column of a covariate in words: "T stage" of clinical_t_stage."""
    name = column.removeprefix(clinical.PREFIX)
    return COLUMNS.get(name, name.replace("_", " "))


def clinic_shown(found: Clinic, mark: str) -> Shown | Several:
    """AUC of the clinic, of embeddings and of both."""
    return in_groups(found.table, lambda rows: _clinic_shown(found, rows, mark))


def _clinic_shown(found: Clinic, table: pd.DataFrame, mark: str) -> Shown:
    added = found.added[found.added["title"].isin(table["title"])]
    words = [f"{row.title} {signed(row)}" for row in added.itertuples()]
    apart = "; the volume is judged alone" if {"clinical", "volume"} <= set(found.table["features"]) else ""
    names = ", ".join(map(covariate, found.used))
    left_out = "; ".join(f"{covariate(row.column)}: {row.reason}" for row in found.left_out.itertuples())
    caption = (
        "Mean test AUC with the corrected 95 % interval: logistic regressions on what the clinic knows "
        f"({names}{apart}), on embeddings, and on both (the logit of the embedding, out of fold, as one more "
        "covariate). "
        + (f"Left out: {left_out}. " if left_out else "")
        + f"Gain over the covariates alone with 95 % patient-bootstrap intervals. {ends(added['difference'], words)}."
    )
    alt = f"Dot plot of AUC. {'; '.join(words)}."
    return Shown(forest(bounded(table), "AUC (dotted: chance)"), caption, alt, mark)


def clinic_table(found: Clinic) -> pd.DataFrame:
    """What each embedding adds, in words."""
    return difference_words(found.added.rename(columns={"together": "both"}), ["alone", "both"])


def honest(found: Judged, nulls: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The tests on outcomes of chance for the first two embeddings: :func:`null.study`, its shares, and "".

    Where one sample of each patient leaves too few of a class, both are empty and the sentence says why.

    Labels are dealt out again between patients, one sample of each; of phantoms, the labels of the null cohort, whose
    images are the same and whose outcomes have nothing to do with them.
    """
    rows = null.one_each(found.patients, seed)
    vectors = {name: found.vectors[name][rows] for name in found.models[:2]}
    labels = _null_labels(found, rows)
    k_max = min(found.k_max, len(rows) * 2 // 5)
    try:
        study = null.study(vectors, found.patients[rows], null.permuted(labels, nulls, seed), k_max, seed=seed)
    except knn.KNNError as error:
        return pd.DataFrame(), pd.DataFrame(), f"The tests were not tried on outcomes of chance: {error}."
    return study, null.shares(study), ""


def _null_labels(found: Judged, rows: np.ndarray) -> np.ndarray:
    """Labels to deal out: the cohort's own, of phantoms those of their null twins if both classes are large enough."""
    own = found.labels[rows]
    if not is_phantom(found.cohort):
        return own
    numbers = [name.rsplit("-", 2) for name in found.patients[rows]]
    if not all(len(each) == 3 and each[1].isdigit() and each[2].isdigit() for each in numbers):
        return own
    labels = [phantom.case(int(number), seed=int(seed), null=True).malignant for _, seed, number in numbers]
    return np.array(labels) if 10 <= sum(labels) <= len(labels) - 10 else own


def told_shares(shares: pd.DataFrame) -> str:
    """How often each test found something in outcomes of chance, in words after "found in"."""
    return "; ".join(
        f"{percent(row.share, 1)} ({percent(row.low, 1)} to {percent(row.high, 1)}) by the {row.test}"
        for row in shares.itertuples()
    )


def untrue(shares: pd.DataFrame) -> str:
    """A warning of the tests that find more than they promise, beyond chance, with a blank after it; "" if none does.

    Whether it holds for the paired difference is asked of ``untrue(shares[shares["test"] == PAIRED])``.
    """
    broken = shares[shares["low"] > shares["promised"]] if len(shares) else shares
    if broken.empty:
        return ""
    return (
        f"Warning: more than the promised {percent(broken['promised'].iloc[0])}, with an interval above it, was found "
        f"by the {'; the '.join(broken['test'])}: what is found so on this page is weaker evidence than its p or "
        "interval says. "
    )


def honest_shown(found: Judged, study: pd.DataFrame, shares: pd.DataFrame, mark: str) -> Shown:
    """How often tests find something where nothing is."""
    told = f"Something was found in {told_shares(shares)}"
    known = shares[np.isfinite(shares["widen"])]
    times = ", ".join(f"{row.widen:.1f} times as wide ({row.test.removeprefix(AUC)})" for row in known.itertuples())
    wider = f" Intervals of an AUC would leave out 0.5 in 5 % only if they were {times}." if times else ""
    names = " and ".join(found.titles[name] for name in found.models[:2])
    pair = "" if len(found.models) > 1 else " With one embedding there is no difference to test."
    caption = (
        f"{len(study)} outcomes that have nothing to do with the images (labels dealt out at random), and how often a "
        f"test of {names} finds something in them, with Wilson's interval; 5 % is promised. "
        f"{told}. {untrue(shares).rstrip()}{wider}{pair}"
    )
    return Shown(promises(shares, study["p"]), caption, f"Shares of false findings. {told}.", mark)
