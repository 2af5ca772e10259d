"""Scores of external validation: AUC here and elsewhere, the drop, the worst case, calibration in the large.

Reads the predictions of :func:`external.evaluate`; arrays and tables in, tidy tables out. Draws of patients are made a
test cohort at a time and shared by everything that is judged there; cohorts are drawn independently of each other.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import statistics
from .external import KEYS

SCORES = [*KEYS, "measure", "value", "low", "high", "p", "p_holm", "n_train", "n_test"]
CALIBRATION = [*KEYS, "predicted", "observed", "difference", "low", "high", "observed_train"]
SAMPLES = ["sample_id", "patient_id"]


@dataclass(frozen=True)
class Draws:
    """``weights`` (1 + draws, people): how often each patient counts, once each in the first row; ``person`` gives the
    column of a patient."""

    person: pd.Series
    weights: np.ndarray

    def of(self, patients: pd.Series) -> np.ndarray:
        """(1 + draws, n) weights of samples."""
        return self.weights[:, self.person[patients.to_numpy(str)].to_numpy()]


def least_draws(comparisons: int, alpha: float = 0.05) -> int:
    """Draws from which the surest of so many differences can be below ``alpha`` after Holm's correction.

    p of a bootstrap is never below 2 / (draws + 1), and the smallest of m is multiplied by m: 56 take 2,240.
    """
    return int(np.floor(2 * comparisons / alpha + 1e-9))  # 2 m / (draws + 1) < alpha


def drawn(cohort: str, patients: pd.Series, draws: int, seed: int) -> Draws:
    """Patients of a cohort drawn with replacement; the same for the same cohort, patients and seed."""
    people = np.unique(patients.to_numpy(str))
    rng = np.random.default_rng([seed, zlib.crc32(cohort.encode())])
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws).astype(np.float32)
    ones = np.ones((1, len(people)), np.float32)
    return Draws(pd.Series(np.arange(len(people)), people), np.concatenate([ones, weights]))


def drawn_aucs(frame: pd.DataFrame, draws: Draws) -> np.ndarray:
    """(1 + draws,) AUC of predictions (fold, patient_id, label, probability), the first of the data themselves.

    The share of concordant pairs among all pairs of a positive and a negative of the same fold; NaN in a draw without
    such a pair.
    """
    concordant, pairs = 0.0, 0.0
    for _, rows in frame.groupby("fold", sort=True):
        positive = rows["label"].to_numpy() == 1
        score = rows["probability"].to_numpy()
        agree = statistics.concordance(score[positive], score[~positive]).astype(np.float32)
        weights = draws.of(rows["patient_id"])
        above, below = weights[:, positive], weights[:, ~positive]
        concordant = concordant + np.einsum("bp,bp->b", above, below @ agree.T, dtype=np.float64)
        pairs = pairs + above.sum(axis=1, dtype=np.float64) * below.sum(axis=1, dtype=np.float64)
    return np.where(pairs > 0, concordant / np.where(pairs > 0, pairs, 1), np.nan)


def scores(predictions: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """AUCs, drops and worst cases of each model and head, with 95 % bootstrap intervals: columns ``SCORES``.

    ``auc_external`` for each ordered pair of cohorts; ``auc_within`` out of fold in the test cohort (also ``train``);
    ``drop`` the first minus the second in the same test cohort, negative where another cohort teaches less, with a
    two-sided p (twice the smaller tail, one added to both counts) and its Holm correction over all drops. ``auc_worst``
    is the lowest external AUC, in the row of the pair where it is; its draws are the minimum over pairs in each draw,
    which lies lower than the minimum of the true AUCs where several are close.

    ``n_train`` is the number of samples learnt from (within: the mean over folds), ``n_test`` of those judged.
    """
    found, rows = {}, []
    for (test, model, head, train), frame in predictions.groupby(["test", "model", "head", "train"], sort=False):
        people = drawn(test, frame["patient_id"], draws, seed)
        found[model, head, train, test] = drawn_aucs(frame, people)
    sizes = predictions.groupby("test")["sample_id"].nunique()
    folds = predictions[predictions["train"] == predictions["test"]].groupby("test")["fold"].nunique()
    for model, head in dict.fromkeys(key[:2] for key in found):
        pairs = {key[2:]: aucs for key, aucs in found.items() if key[:2] == (model, head)}
        for (train, test), aucs in pairs.items():
            n = sizes[test]
            if train == test:
                learnt = round(n * (1 - 1 / folds[test]))
                rows.append((model, head, train, test, "auc_within", *_interval(aucs), np.nan, learnt, n))
                continue
            rows.append((model, head, train, test, "auc_external", *_interval(aucs), np.nan, sizes[train], n))
            drop = aucs - pairs[test, test]
            rows.append((model, head, train, test, "drop", *_interval(drop), _p(drop), sizes[train], n))
        rows.append(_worst(model, head, {key: aucs for key, aucs in pairs.items() if key[0] != key[1]}, sizes))
    table = pd.DataFrame(rows, columns=[name for name in SCORES if name != "p_holm"])
    table["p_holm"] = np.nan
    drops = table["measure"] == "drop"
    table.loc[drops, "p_holm"] = statistics.holm(table.loc[drops, "p"])
    return table[SCORES]


def _worst(model: str, head: str, external: dict[tuple[str, str], np.ndarray], sizes: pd.Series) -> tuple:
    """The row of the lowest external AUC; joint draws, of which one without an AUC anywhere says nothing."""
    names, aucs = list(external), np.array(list(external.values()))
    train, test = names[int(np.argmin(aucs[:, 0]))]
    return model, head, train, test, "auc_worst", *_interval(aucs.min(axis=0)), np.nan, sizes[train], sizes[test]


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """The value, first of the draws, and the central 95 % of the others."""
    rest = values[1:][np.isfinite(values[1:])]
    return float(values[0]), *(float(end) for end in np.quantile(rest, (0.025, 0.975)))


def _p(values: np.ndarray) -> float:
    rest = values[1:][np.isfinite(values[1:])]
    tail = min((rest <= 0).sum(), (rest >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(rest) + 1)))


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The ``auc_worst`` rows of :func:`scores`, best first."""
    worst = table[table["measure"] == "auc_worst"]
    return worst.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def aucs(predictions: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """AUC with interval of each model, head, train and test: ``KEYS``, value, low, high, n."""
    rows = []
    for key, frame in predictions.groupby(KEYS, sort=False):
        found = drawn_aucs(frame, drawn(key[3], frame["patient_id"], draws, seed))
        rows.append((*key, *_interval(found), len(frame)))
    return pd.DataFrame(rows, columns=[*KEYS, "value", "low", "high", "n"])


def calibration(predictions: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Calibration in the large of external predictions: columns ``CALIBRATION``.

    ``predicted`` is the mean probability, ``observed`` the share of positives in the test cohort, ``observed_train`` in
    the training cohort; ``difference`` is predicted minus observed, with a patient bootstrap interval.
    """
    everyone = predictions.drop_duplicates(["test", *SAMPLES])
    prevalence, rows = everyone.groupby("test")["label"].mean(), []
    for key, frame in predictions[predictions["train"] != predictions["test"]].groupby(KEYS, sort=False):
        weights = drawn(key[3], frame["patient_id"], draws, seed).of(frame["patient_id"])
        gap = (frame["probability"] - frame["label"]).to_numpy()
        observed, predicted = frame["label"].mean(), frame["probability"].mean()
        ends = _interval(weights @ gap / weights.sum(axis=1))[1:]
        rows.append((*key, predicted, observed, predicted - observed, *ends, prevalence[key[2]]))
    return pd.DataFrame(rows, columns=CALIBRATION)
