"""Whether a predicted probability can be believed, and what an AUC does not say.

Predictions are test predictions on splits (split, patient_id, label, probability). AUC, average precision and Brier
scores are means over splits, as AUCs are everywhere in the book; calibration slope, intercept and error take many
samples and are of the predictions of all splits together. Intervals are of a bootstrap over patients, all predictions
of a patient with it, the splits as they are; they speak of other patients, not of other splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from .. import statistics
from .linear import ProbeError

BINS = 10  # equal-count bins of the reliability curve
EDGE = 1e-3  # probabilities nearer to 0 or 1 are moved here before a logit is taken: kNN gives 0 and 1
STEPS = 50  # of Newton's method for slope and intercept
CLASSES = ("negatives (label 0)", "positives (label 1)")
CHUNK = 2**21  # numbers of a bootstrap held at a time, in each of a few arrays
MEASURES = (
    "auc",
    "pr_auc",
    "brier",
    "brier_skill",
    "calibration_slope",
    "calibration_intercept",
    "calibration_error",
)


def measures(predictions: pd.DataFrame, draws: int = 2000, seed: int = 0, bins: int = BINS) -> pd.DataFrame:
    """Seven measures with 95 % patient-bootstrap intervals: measure, value, low, high, chance, of.

    Average precision (pr_auc) is that of the class with fewer test predictions, which ``of`` names ("" for the
    others): that of a common class is near 1 whatever a model knows. ``chance`` is what a guess without the image has:
    0.5 for AUC, :func:`chance_precision` for average precision, prevalence * (1 - prevalence) for Brier, 0 for Brier
    skill; NaN for the others. Brier skill is 1 - Brier / that.
    The calibration slope is that of a logistic regression of the labels on the logits (Cox, Biometrika 45, 562, 1958):
    1 is right, below 1 the probabilities are too extreme. The intercept is that with the slope held at 1: above 0 the
    probabilities are too low. Calibration error is the mean over equal-count bins of |observed - predicted|; drawing
    patients again makes it larger, so its draws are moved to have the value as their median.
    """
    table, person, weights = _prepared(predictions, draws, seed)
    rare = rarer(table["label"])
    ranked = _over_splits(table, person, weights, rare)
    guessed = ranked.pop("guessed")[0]
    chance = {"auc": 0.5, "pr_auc": guessed, "brier": ranked.pop("reference")[0], "brier_skill": 0.0}
    drawn = ranked | _calibration(table, person, weights) | {"calibration_error": _error(table, person, weights, bins)}
    of = {"pr_auc": CLASSES[rare]}
    rows = [
        (name, drawn[name][0], *_limits(drawn[name], name), chance.get(name, np.nan), of.get(name, ""))
        for name in MEASURES
    ]
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "chance", "of"])


def rarer(labels: Sequence) -> int:
    """The label that fewer have, 1 or 0; 1 if as many have either."""
    return int(statistics.binary_labels(labels).mean() <= 0.5)


def chance_precision(label: np.ndarray, score: np.ndarray) -> float:
    """Mean average precision of scores (n,) over all permutations of the labels (n,) among the samples.

    More than the prevalence, the more so the fewer positives: the first of them counts itself. With P positives, the
    items of a tied group of s that ends at place N have s / N (1 / n + (N - 1) (P - 1) / (n (n - 1))) between them.
    Samples are permuted, not patients: with several alike of a patient it is a little more.
    """
    n, positives = len(label), label.sum()
    sizes = np.unique(-score, return_counts=True)[1]
    ends = np.cumsum(sizes)
    return float((sizes / ends * (1 / n + (ends - 1) * (positives - 1) / (n * (n - 1)))).sum())


def _prepared(predictions: pd.DataFrame, draws: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Predictions, number of each row's patient, and weights (1 + draws, patients), the first all ones."""
    missing = [name for name in ("split", "patient_id", "label", "probability") if name not in predictions]
    if missing:
        raise ProbeError(f"predictions have no column {', '.join(missing)}")
    statistics.binary_labels(predictions["label"])
    outside = ~predictions["probability"].between(0, 1)
    if outside.any():
        first = predictions["probability"][outside].iloc[0]
        raise ProbeError(f"{outside.sum()} probabilities do not lie between 0 and 1, the first is {first}")
    for split, rows in predictions.groupby("split"):
        if rows["label"].nunique() < 2:
            raise ProbeError(f"the test samples of split {split} are of one class only")
    people, person = np.unique(predictions["patient_id"].to_numpy(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws).astype(np.float64)
    return predictions, person, np.vstack([np.ones(len(people)), weights])


def _over_splits(table: pd.DataFrame, person: np.ndarray, weights: np.ndarray, rare: int) -> dict[str, np.ndarray]:
    """Means over splits (draws,) of AUC, average precision of the ``rare`` class, Brier, what a guess has for the
    last two; a split of one class in a draw does not count in it."""
    found: dict[str, list] = {"auc": [], "pr_auc": [], "brier": [], "reference": [], "guessed": []}
    for rows in table.groupby("split", sort=True).indices.values():
        label, score = (table[name].to_numpy(float)[rows] for name in ("label", "probability"))
        drawn = weights[:, person[rows]]
        total = drawn.sum(axis=1)
        prevalence = _ratio(drawn @ label, total)
        both = (prevalence > 0) & (prevalence < 1)
        ranked = (label, score) if rare else (1 - label, -score)
        auc, precision = _ranking(*ranked, drawn)
        values = (
            auc,
            precision,
            _ratio(drawn @ (score - label) ** 2, total),
            prevalence * (1 - prevalence),
            np.full(len(total), chance_precision(*ranked)),
        )
        for name, value in zip(found, values, strict=True):
            found[name].append(np.where(both, value, np.nan))
    counted = np.isfinite(found["auc"]).sum(axis=0)
    means = {name: _ratio(np.nansum(values, axis=0), counted) for name, values in found.items()}
    return means | {"brier_skill": 1 - _ratio(means["brier"], means["reference"])}


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def _ranking(label: np.ndarray, score: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC and average precision (draws,) with samples counted as often as drawn (draws, n).

    Average precision is the sum over thresholds of the gain in recall times the precision, as scikit-learn has it.
    """
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(score[order]) != 0))
    weight = drawn[:, order]
    positive = np.add.reduceat(weight * label[order], starts, axis=1)
    negative = np.add.reduceat(weight * (1 - label[order]), starts, axis=1)
    above, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    positives, negatives = above[:, -1], false[:, -1]
    lower = negatives[:, None] - false + 0.5 * negative
    auc = _ratio((positive * lower).sum(axis=1), positives * negatives)
    precision = above / np.maximum(above + false, 1e-300)
    return auc, _ratio((positive * precision).sum(axis=1), positives)


def _calibration(table: pd.DataFrame, person: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    label = table["label"].to_numpy(float)
    odds = logit(np.clip(table["probability"].to_numpy(float), EDGE, 1 - EDGE))
    step = max(1, CHUNK // len(label))
    parts = [_recalibrated(label, odds, weights[at : at + step, person]) for at in range(0, len(weights), step)]
    slopes, intercepts = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {"calibration_slope": slopes, "calibration_intercept": intercepts}


def _recalibrated(label: np.ndarray, odds: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope (with its own intercept) and intercept at slope 1, (draws,) each; NaN where there is none."""
    spread = odds.std() or np.nan  # a slope on equal logits is none
    scaled = (odds - odds.mean()) / spread
    slope = _settled(lambda some, at: _newton(label, scaled, weight[some], *at.T), 2, ~_separated(label, odds, weight))
    offset = _settled(lambda some, at: _level(label, odds, weight[some], at[:, 0]), 1, np.ones(len(weight), bool))
    return slope[:, 1] / spread, offset[:, 0]


def _settled(step: Callable[[np.ndarray, np.ndarray], tuple], size: int, tried: np.ndarray) -> np.ndarray:
    """Where Newton's method ends (draws, size) for each of the draws ``tried`` (draws,), from 0; NaN if it does not.

    ``step`` gives what to add, for numbers of draws and where they are. A draw that has settled is not looked at again.
    """
    found, settled = np.zeros((len(tried), size)), np.zeros(len(tried), bool)
    moving = np.flatnonzero(tried)
    for _ in range(STEPS):
        if not len(moving):
            break
        move = np.column_stack(step(moving, found[moving]))
        found[moving] += move
        far = np.abs(move).max(axis=1)
        settled[moving] = far < 1e-6
        moving = moving[far >= 1e-9]  # NaN is not
    return np.where(settled[:, None], found, np.nan)


def _separated(label: np.ndarray, odds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Whether (draws,) one threshold parts the classes among the samples drawn: then the slope has no end."""
    order = np.argsort(odds, kind="stable")
    level, drawn = odds[order], weight[:, order] > 0
    ends = []
    for each in (1, 0):
        there = drawn & (label[order] == each)
        ends.append((level[there.argmax(axis=1)], level[len(level) - 1 - there[:, ::-1].argmax(axis=1)]))
    (low, high), (other_low, other_high) = ends
    return (low >= other_high) | (other_low >= high)


def _level(label: np.ndarray, odds: np.ndarray, weight: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray]:
    """One step of the intercept at slope 1, for every draw; at most 2 either way."""
    probability = expit(odds + offset[:, None])
    move = _ratio(((label - probability) * weight).sum(axis=1), (weight * probability * (1 - probability)).sum(axis=1))
    return (np.clip(move, -2, 2),)


def _newton(
    label: np.ndarray, odds: np.ndarray, weight: np.ndarray, level: np.ndarray, slope: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One step of a weighted logistic regression on one variable, for every draw; at most 2 either way."""
    probability = expit(level[:, None] + slope[:, None] * odds)
    residual = weight * (label - probability)
    curvature = weight * probability * (1 - probability)
    a, b, c = curvature.sum(axis=1), curvature @ odds, curvature @ odds**2
    g, h = residual.sum(axis=1), residual @ odds
    determinant = a * c - b * b
    safe = np.where(determinant > 1e-12 * np.maximum(a * c, 1e-300), determinant, np.nan)
    return np.clip((c * g - b * h) / safe, -2, 2), np.clip((a * h - b * g) / safe, -2, 2)


def bin_of(probability: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Number of the equal-count bin of each probability (n,); equal probabilities share one, as in scikit-learn."""
    edges = np.percentile(probability, np.linspace(0, 100, bins + 1))
    return np.unique(np.searchsorted(edges[1:-1], probability), return_inverse=True)[1]


def _error(table: pd.DataFrame, person: np.ndarray, weights: np.ndarray, bins: int) -> np.ndarray:
    """Expected calibration error (draws,): the bins stay those of all predictions."""
    label, probability = (table[name].to_numpy(float) for name in ("label", "probability"))
    number = bin_of(probability, bins)
    gap = np.zeros((len(weights[0]), number.max() + 1))
    count = np.zeros_like(gap)
    np.add.at(gap, (person, number), label - probability)
    np.add.at(count, (person, number), 1)
    return _ratio(np.abs(weights @ gap).sum(axis=1), (weights @ count).sum(axis=1))


def _limits(drawn: np.ndarray, name: str) -> tuple[float, float]:
    draws = drawn[1:][np.isfinite(drawn[1:])]
    if not len(draws) or not np.isfinite(drawn[0]):
        return np.nan, np.nan
    if name == "calibration_error":
        draws = np.clip(draws - np.median(draws) + drawn[0], 0, None)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def reliability(predictions: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Points of the reliability curve: predicted (mean), observed (share), low, high, samples, patients, by bin.

    A sample is in several test sets and counts as often. The interval of the observed share is Wilson's for as many
    as there are different patients in the bin, not predictions.
    """
    table, _, _ = _prepared(predictions, 0, 0)
    number = bin_of(table["probability"].to_numpy(float), bins)
    rows = []
    for _, each in table.groupby(number):
        share, patients = each["label"].mean(), each["patient_id"].nunique()
        rows.append((each["probability"].mean(), share, *wilson(share, patients), len(each), patients))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "samples", "patients"])


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n (Wilson, J Am Stat Assoc 22, 209-212, 1927)."""
    return statistics.wilson(share * n, n)


def at_edge(predictions: pd.DataFrame | Sequence[float]) -> int:
    """How many probabilities lie so near 0 or 1 that slope and intercept take 0.001 or 0.999 in their place."""
    given = predictions["probability"] if isinstance(predictions, pd.DataFrame) else predictions
    values = np.asarray(given, float)
    return int(((values < EDGE) | (values > 1 - EDGE)).sum())
