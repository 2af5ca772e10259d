"""Choosing k: how flat the curve is that it is chosen on, what the choice gains, and what steadies it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import knn, statistics
from ..ensembles import nearest
from ..knn import K_MAX, Split
from .base import WorkshopError

CHOSEN, AVERAGED, ORACLE = "k chosen on validation", "all k averaged", "k chosen on test"


@dataclass(frozen=True)
class Curves:
    """AUC of every split at k = 1..k_max: ``validation`` and ``test`` (splits, k_max).

    ``averaged`` (splits,) is the test AUC of a score that needs no choice, the mean of the scores at all k.
    """

    validation: np.ndarray
    test: np.ndarray
    averaged: np.ndarray

    @property
    def k(self) -> np.ndarray:
        """(splits,) k of the highest validation AUC, the smallest of equals."""
        return self.validation.argmax(axis=1) + 1


def curves(vectors: np.ndarray, labels: Sequence, splits: Sequence[Split], k_max: int = K_MAX) -> Curves:
    """AUC on validation and test part at every k, of vectors (n, d), from one ordering of the neighbours."""
    labels = statistics.binary_labels(labels)
    tasks = [(split.train, np.concatenate([split.validation, split.test])) for split in splits]
    valid, test, averaged = [], [], []
    for split, near in zip(splits, nearest(vectors, tasks, k_max), strict=True):
        if near.shape[1] < k_max:
            raise WorkshopError(f"k goes up to {k_max}, but a split has only {near.shape[1]} training samples")
        votes = np.cumsum(labels[near], axis=1)
        held, tested = votes[: len(split.validation)], votes[len(split.validation) :]
        valid.append(knn.auc_curve(held, labels[split.validation]))
        test.append(knn.auc_curve(tested, labels[split.test]))
        score = (tested / np.arange(1, k_max + 1)).mean(axis=1)
        averaged.append(statistics.auc(labels[split.test], score))
    return Curves(np.array(valid), np.array(test), np.array(averaged))


def flatness(found: Curves) -> dict[str, float]:
    """How much a validation curve rises and falls against its own noise, in AUC.

    "over k" is the standard deviation of the mean curve over k, what k itself does; "over splits" that of the AUC at
    one k over the splits, averaged over k, what the split does; "gain" by how much the top of a curve is above the
    mean of the curve, averaged over the splits.
    """
    return {
        "over k": float(found.validation.mean(axis=0).std(ddof=1)),
        "over splits": float(found.validation.std(axis=0, ddof=1).mean()),
        "gain": float((found.validation.max(axis=1) - found.validation.mean(axis=1)).mean()),
    }


def rules(found: Curves, fixed: Sequence[int] = (15,)) -> pd.DataFrame:
    """What each rule gives on every split: rule, split, k, validation, test.

    The rules: k chosen on validation; each of ``fixed``; the mean of the scores at all k (no k, no validation AUC); and
    k chosen on the test part, which nobody may do.
    """
    split, k_max = np.arange(len(found.test)), found.test.shape[1]
    beyond = [k for k in fixed if not 1 <= k <= k_max]
    if beyond:
        raise WorkshopError(f"fixed k must lie between 1 and {k_max}, not {beyond[0]}")
    choices = {CHOSEN: found.k, **{f"k = {k}": np.full(len(split), k) for k in fixed}}
    choices[ORACLE] = found.test.argmax(axis=1) + 1
    tables = [
        pd.DataFrame(
            {
                "rule": rule,
                "split": split,
                "k": k,
                "validation": found.validation[split, k - 1],
                "test": found.test[split, k - 1],
            }
        )
        for rule, k in choices.items()
    ]
    nothing = pd.array([pd.NA] * len(split), "Int64")
    averaged = {"rule": AVERAGED, "split": split, "k": nothing, "validation": np.nan, "test": found.averaged}
    tables.insert(-1, pd.DataFrame(averaged))
    return pd.concat([table.astype({"k": "Int64"}) for table in tables], ignore_index=True)


def optimism(table: pd.DataFrame) -> pd.DataFrame:
    """Means of :func:`rules` by rule, those with a validation AUC: rule, validation, test, optimism (their difference),
    sd (of the difference over the splits)."""
    table = table.dropna(subset="validation").assign(optimism=lambda rows: rows["validation"] - rows["test"])
    groups = table.groupby("rule", sort=False)
    return groups[["validation", "test", "optimism"]].mean().assign(sd=groups["optimism"].std()).reset_index()


def choices(
    vectors: np.ndarray, labels: Sequence, split: Split, k_max: int = K_MAX, draws: int = 500, seed: int = 0
) -> np.ndarray:
    """(draws,) k that would be chosen if the validation samples of a split were drawn anew, with replacement.

    Both classes keep their number of samples.
    """
    labels = statistics.binary_labels(labels)
    (near,) = nearest(vectors, [(split.train, split.validation)], k_max)
    votes, own = np.cumsum(labels[near], axis=1), labels[split.validation]
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(own == label) for label in (0, 1)]
    found = []
    for _ in range(draws):
        rows = np.concatenate([rng.choice(rows, len(rows)) for rows in classes])
        found.append(knn.auc_curve(votes[rows], own[rows]).argmax() + 1)
    return np.array(found)


def repeats(values: Sequence[float], counts: Sequence[int], draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How much the mean of J splits differs from set to set: splits (J), sd, low, high (its central 95 %).

    J of the ``values`` (splits,) of many splits are drawn without replacement, as often as ``draws``. For J near the
    number of values this is too small, since the sets then share most of their splits; so at most half of
    them are allowed.
    """
    values, rng = np.asarray(values, float), np.random.default_rng(seed)
    if max(counts) > len(values) // 2:
        raise WorkshopError(f"{max(counts)} splits of {len(values)}: at most half of them, or the sets are the same")
    rows = []
    for count in counts:
        means = np.array([values[rng.permutation(len(values))[:count]].mean() for _ in range(draws)])
        rows.append((count, means.std(ddof=1), *np.quantile(means, (0.025, 0.975))))
    return pd.DataFrame(rows, columns=["splits", "sd", "low", "high"])


def reported(
    vectors: np.ndarray,
    labels: Sequence,
    sets: Iterable[Sequence[Split]],
    fixed: Sequence[int] = (15,),
    k_max: int = K_MAX,
) -> pd.DataFrame:
    """The mean test AUC of each rule on each of many sets of splits: rule, set, auc."""
    sets = list(sets)
    together = rules(curves(vectors, labels, [split for splits in sets for split in splits], k_max), fixed)
    together["set"] = np.repeat(np.arange(len(sets)), [len(splits) for splits in sets])[together["split"]]
    means = together.groupby(["rule", "set"], sort=False)["test"].mean()
    return means.rename("auc").reset_index()
