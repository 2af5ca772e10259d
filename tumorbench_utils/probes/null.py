"""Do the tests keep their promise? Outcomes that have nothing to do with the images, and how often a test says they do.

A test at the 5 % level should find something in 5 of 100 such outcomes, and an interval of 95 % should leave out 0.5
in as many. Whatever is above that is a finding that the method makes up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import knn, statistics
from ..knn import Split
from .calibration import wilson
from .linear import ProbeError

NULLS = 200
DRAWS = 200  # of the paired bootstrap of one outcome
LEVEL = 0.05


@dataclass(frozen=True)
class Outcome:
    """Labels (n,) that have nothing to do with the images, and the splits by protocol id that go with them."""

    labels: np.ndarray
    splits: dict[str, list[Split]]


def one_each(patients: Sequence, seed: int = 0) -> np.ndarray:
    """A random row of every patient, ascending: labels can be permuted between patients with one sample each only."""
    patients = np.asarray(patients)
    order = np.random.default_rng(seed).permutation(len(patients))
    return np.sort(order[np.unique(patients[order], return_index=True)[1]])


def permuted(labels: Sequence, nulls: int = NULLS, seed: int = 0) -> Iterator[Outcome]:
    """Labels of patients with one sample each, dealt out again at random, ``nulls`` times.

    The splits are dealt out with the labels, which is as random as splitting anew and takes no time.
    """
    labels = statistics.binary_labels(labels)
    n = len(labels)
    splits = {each.id: each.split(labels, np.arange(n), None) for each in knn.PROTOCOLS}
    rng = np.random.default_rng(seed)
    for _ in range(nulls):
        place = rng.permutation(n)  # of each row's label and part
        dealt = np.empty_like(labels)
        dealt[place] = labels
        moved = {
            name: [Split(s.seed, place[s.train], place[s.validation], place[s.test]) for s in some]
            for name, some in splits.items()
        }
        yield Outcome(dealt, moved)


def given(outcomes: np.ndarray, patients: Sequence) -> Iterator[Outcome]:
    """Outcomes (nulls, n) made elsewhere, as of null phantoms, each with splits of its own."""
    for labels in np.asarray(outcomes):
        labels = statistics.binary_labels(labels)
        yield Outcome(labels, {each.id: each.split(labels, patients, None) for each in knn.PROTOCOLS})


def study(
    vectors: Mapping[str, np.ndarray],
    patients: Sequence,
    outcomes: Iterator[Outcome] | Sequence[Outcome],
    k_max: int = knn.K_MAX,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """What kNN and its statistics say of each outcome. ``vectors``: one or two embeddings (n, d) by name.

    One row an outcome: of the first embedding, mean AUC and interval by protocol (paper, paper_low, paper_high,
    grouped, grouped_low, grouped_high); ``p`` of the paired bootstrap between the two on grouped splits, with
    ``difference``; NaN where there is one embedding only. Equal to :func:`knn.evaluate`, neighbours ordered once.
    """
    if not 1 <= len(vectors) <= 2:
        raise ProbeError(f"the tests are tried on one or two embeddings, not on {len(vectors)}")
    orders = [_order(each) for each in vectors.values()]
    person = np.unique(np.asarray(patients), return_inverse=True)[1]
    rows = []
    for number, outcome in enumerate(outcomes):
        row = {"outcome": number}
        tested = [_tested(order, outcome, "grouped", k_max, person) for order in orders]
        scores = {"grouped": tested[0][0], "paper": _tested(orders[0], outcome, "paper", k_max, person)[0]}
        for protocol in knn.PROTOCOLS:
            limits = protocol.interval(scores[protocol.id])
            row |= dict(zip((protocol.id, f"{protocol.id}_low", f"{protocol.id}_high"), limits, strict=True))
        row |= {"p": np.nan, "difference": np.nan}
        if len(orders) == 2:
            pair = {"first": tested[0][1], "second": tested[1][1]}
            found = statistics.paired_bootstrap(pair, "first", draws, seed + number).iloc[0]
            row |= {"p": found["p"], "difference": found["difference"]}
        rows.append(row)
    if not rows:
        raise ProbeError("no outcomes to try the tests on")
    return pd.DataFrame(rows)


def _order(vectors: np.ndarray) -> np.ndarray:
    """(n, n) rows from nearest to farthest by cosine, equal distances in the order of the rows."""
    unit = np.asarray(vectors, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return np.argsort(1 - unit @ unit.T, axis=1, kind="stable")


def _tested(order: np.ndarray, outcome: Outcome, protocol: str, k_max: int, patients: np.ndarray) -> tuple:
    """Scores of the splits and test predictions: as of :func:`knn.evaluate`."""
    labels, preference = outcome.labels, knn.PROTOCOLS.get(protocol).preference(k_max)
    scores, parts = [], []
    for number, split in enumerate(outcome.splits[protocol]):
        if len(split.train) < k_max:
            raise ProbeError(f"k goes up to {k_max}, but a split has only {len(split.train)} training samples")
        learnt = np.zeros(len(labels), bool)
        learnt[split.train] = True
        curve = knn.auc_curve(_votes(order[split.validation], learnt, labels, k_max), labels[split.validation])
        k = int(preference[np.argmax(curve[preference - 1])])
        chosen = _votes(order[split.test], learnt, labels, k)[:, -1]
        sizes = (len(split.train), len(split.validation), len(split.test))
        scores.append((statistics.auc(labels[split.test], chosen), *sizes))
        parts.append((np.full(len(split.test), number), split.test, chosen / k))
    table = pd.DataFrame(scores, columns=["test_auc", "n_train", "n_validation", "n_test"])
    number, row, probability = (np.concatenate(each) for each in zip(*parts, strict=True))
    named = {"split": number, "sample_id": row, "patient_id": patients[row], "label": labels[row]}
    return table, pd.DataFrame(named | {"probability": probability})


def _votes(order: np.ndarray, learnt: np.ndarray, labels: np.ndarray, k_max: int) -> np.ndarray:
    """(rows, k_max) positives among the k nearest training samples, k = 1..k_max."""
    nearest = order[learnt[order]].reshape(len(order), -1)[:, :k_max]
    return np.cumsum(labels[nearest], axis=1)


def shares(found: pd.DataFrame) -> pd.DataFrame:
    """How often each test finds something in :func:`study`: test, share, low, high, outcomes, promised, widen.

    The interval of the share is Wilson's. ``widen`` is the factor by which an interval would have to be wider to
    leave out 0.5 in 5 % of the outcomes only; NaN for p-values.
    """
    rows = []
    for protocol in knn.PROTOCOLS:
        low, high = found[f"{protocol.id}_low"], found[f"{protocol.id}_high"]
        reach = (high - low) / 2
        off = (found[protocol.id] - 0.5).abs()
        widen = (off / reach.where(reach > 0)).quantile(1 - LEVEL)
        rows.append((f"interval of an AUC, {protocol.title}", ((low > 0.5) | (high < 0.5)), widen))
    if found["p"].notna().any():
        rows.append(("paired difference of two embeddings", found["p"] < LEVEL, np.nan))
    return pd.DataFrame(
        [(test, hit.mean(), *wilson(hit.mean(), len(hit)), len(hit), LEVEL, widen) for test, hit, widen in rows],
        columns=["test", "share", "low", "high", "outcomes", "promised", "widen"],
    )
