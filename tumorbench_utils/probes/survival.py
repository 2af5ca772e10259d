"""Survival from frozen embeddings: Cox regression of principal components, and survival among nearest neighbours.

Both heads learn from the training part, choose what is to be chosen by Harrell's C on the validation part, and are
scored on the test part. Cox models are fitted by Newton's method here, since a search of twelve models a split takes
minutes with lifelines; tests hold them against lifelines, which draws the risk groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from .. import statistics
from ..knn import Split, grouped_splits
from . import concordance, cox
from .concordance import Pairs, SurvivalError
from .cox import NotConverged

HORIZON = 730.0  # days: two years
COMPONENTS = (2, 4, 8, 16)
PER_EVENT = 10  # deaths of the training part a component
PENALTIES = (1.0, 0.1, 0.01)  # of lifelines' scale: the ridge is n * penalty / 2 * |coefficients|^2
NEIGHBOURS = (100, 75, 50, 30, 20, 15, 10, 5)
FEWEST = 20  # deaths: half of them train, one component at ten deaths each
EACH = 10  # patients of each class that splits need
MEASURES = ("c_harrell", "c_td", "auc_two_year")


@dataclass(frozen=True)
class Fitted:
    """A head fitted and chosen in one split.

    ``risk`` (n,) of all rows, ``survival`` (n, t) on ``times`` (t,), ``chosen`` names what the validation part chose,
    ``failed`` counts the candidates that did not converge.
    """

    risk: np.ndarray
    times: np.ndarray
    survival: np.ndarray
    chosen: dict
    validation_c: float
    failed: int = 0


@dataclass(frozen=True)
class SurvivalEvaluation:
    """What an evaluation gives.

    ``scores``: one row a split (split, seed, what was chosen, validation_c, failed, c_harrell, c_td, auc_two_year,
    brier, brier_reference, n_train, n_validation, n_test, events). ``brier_reference`` is of the survival of the
    training part, the same for everybody. ``predictions``: split, row, risk. ``pairs``: by measure, one a split.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    pairs: dict[str, list[Pairs]]

    @property
    def rows(self) -> list[np.ndarray]:
        """Test rows of each split."""
        return [rows["row"].to_numpy() for _, rows in self.predictions.groupby("split", sort=True)]


def splits(time: Sequence[float], event: Sequence[float], patients: Sequence) -> list[Split]:
    """Ten patient-grouped splits, balanced in deaths; where fewer than ten are censored, in early and late times.

    :class:`SurvivalError` with fewer than 20 deaths.
    """
    time, event = concordance.checked(time, event)
    if event.sum() < FEWEST:
        raise SurvivalError(f"{event.sum()} deaths among {len(event)} patients: survival needs at least {FEWEST}")
    balanced = event if (~event).sum() >= EACH else time > np.median(time)
    return grouped_splits(balanced.astype(int), patients)


def evaluate(
    vectors: np.ndarray,
    time: Sequence[float],
    event: Sequence[float],
    splits: Sequence[Split],
    head: str = "cox",
    horizon: float = HORIZON,
) -> SurvivalEvaluation:
    """Fit, choose and test a head ("cox" or "knn_survival") in each split.

    ``vectors`` (n, d); for Cox, NaN is the mean of the training part. ``time`` (n,) in days, ``event`` (n,) 1 death, 0
    censored. The risk of Cox is its linear predictor, that of neighbours their cumulative hazard at ``horizon``.
    """
    if head not in HEADS:
        raise SurvivalError(f"there is no head '{head}'; there are: {', '.join(HEADS)}")
    time, event = concordance.checked(time, event)
    vectors = np.asarray(vectors, np.float64)
    if len(vectors) != len(time) or vectors.ndim != 2:
        raise SurvivalError(f"vectors {vectors.shape} of {len(time)} patients: they must be (n, d)")
    with threadpool_limits(1, "blas"):  # products this small are slower on several threads
        return _evaluated(vectors, time, event, splits, head, horizon)


def _evaluated(
    vectors: np.ndarray, time: np.ndarray, event: np.ndarray, splits: Sequence[Split], head: str, horizon: float
) -> SurvivalEvaluation:
    prepare, fit = HEADS[head]
    prepared = prepare(vectors)
    scores, predictions, pairs = [], [], {measure: [] for measure in MEASURES}
    for number, split in enumerate(splits):
        fitted = fit(prepared, time, event, split, horizon)
        found, errors = _tested(fitted, time, event, split, horizon)
        sizes = {f"n_{part}": len(getattr(split, part)) for part in ("train", "validation", "test")}
        values = {measure: each.value for measure, each in found.items()}
        told = fitted.chosen | {"validation_c": fitted.validation_c, "failed": fitted.failed}
        deaths = {"events": int(event[split.test].sum())}
        scores.append({"split": number, "seed": split.seed} | told | values | errors | sizes | deaths)
        predictions.append(pd.DataFrame({"split": number, "row": split.test, "risk": fitted.risk[split.test]}))
        for measure, each in found.items():
            pairs[measure].append(each)
    return SurvivalEvaluation(pd.DataFrame(scores), pd.concat(predictions, ignore_index=True), pairs)


def _tested(
    fitted: Fitted, time: np.ndarray, event: np.ndarray, split: Split, horizon: float
) -> tuple[dict[str, Pairs], dict[str, float]]:
    learnt, test = (time[split.train], event[split.train]), (time[split.test], event[split.test])
    weights = concordance.censoring(*learnt)
    curves, risk = fitted.survival[split.test], fitted.risk[split.test]
    found = {
        "c_harrell": concordance.harrell(*test, risk),
        "c_td": concordance.antolini(*test, concordance.at(fitted.times, curves, test[0]).T),
        "auc_two_year": concordance.dynamic_auc(*test, risk, horizon, weights),
    }
    everybody = _kaplan_meier(*learnt, horizon)
    errors = {
        "brier": concordance.brier(*test, concordance.at(fitted.times, curves, [horizon])[:, 0], horizon, weights),
        "brier_reference": concordance.brier(*test, np.full(len(risk), everybody), horizon, weights),
    }
    return found, errors


def _kaplan_meier(time: np.ndarray, event: np.ndarray, horizon: float) -> float:
    times, hazard = _hazards(np.ones((1, len(time))), time, event)
    return float(concordance.at(times, np.cumprod(1 - hazard, axis=1), [horizon])[0, 0])


def _hazards(member: np.ndarray, time: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times of death (t,) and the share (n, t) that dies then of those at risk, among the ``member`` (n, m) patients.

    Where none is left at risk, nobody dies: curves stay as they were.
    """
    times = np.unique(time[event])
    at_risk = member @ (time[:, None] >= times).astype(float)
    deaths = member @ ((time[:, None] == times) & event[:, None]).astype(float)
    return times, deaths / np.maximum(at_risk, 1)


def _cox_head(vectors: np.ndarray, time: np.ndarray, event: np.ndarray, split: Split, horizon: float) -> Fitted:
    """Components and penalty by validation; of equal candidates the one of fewest components and strongest ridge."""
    x = cox.components(vectors, split.train, COMPONENTS[-1])
    learnt, judged = (time[split.train], event[split.train]), (time[split.validation], event[split.validation])
    limit = max(1, min(x.shape[1], int(learnt[1].sum()) // PER_EVENT))
    best, failed = None, 0
    for number in sorted({min(number, limit) for number in COMPONENTS}):
        for penalty in PENALTIES:
            try:
                eta = x[:, :number] @ cox.fit(x[split.train, :number], *learnt, penalty)
            except NotConverged:
                failed += 1
                continue
            c = concordance.harrell(*judged, eta[split.validation]).value
            if best is None or c > best[0]:
                best = c, number, penalty, eta
    if best is None:
        raise NotConverged(f"none of {failed} Cox models converged in the split of seed {split.seed}")
    c, number, penalty, eta = best
    times, hazard = cox.baseline(eta[split.train], *learnt)
    survival = np.exp(-np.exp(eta)[:, None] * hazard)
    return Fitted(eta, times, survival, {"components": number, "penalty": penalty}, c, failed)


def _cosines(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise SurvivalError("vectors that are zero or not finite have no nearest neighbours by cosine distance")
    unit = vectors / length
    return unit @ unit.T


def _knn_head(similar: np.ndarray, time: np.ndarray, event: np.ndarray, split: Split, horizon: float) -> Fitted:
    """k by validation, the largest of equals. Risk: Nelson and Aalen's hazard; survival: Kaplan and Meier's."""
    order = np.argsort(-similar[:, split.train], axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    learnt, judged = (time[split.train], event[split.train]), (time[split.validation], event[split.validation])
    smallest = min(NEIGHBOURS)
    best = None
    for k in [k for k in NEIGHBOURS if k <= len(split.train)] or [min(smallest, len(split.train))]:
        times, hazard = _hazards((rank[split.validation] < k).astype(float), *learnt)
        c = concordance.harrell(*judged, _until(times, hazard, horizon)).value
        if best is None or c > best[0]:
            best = c, k
    c, k = best
    times, hazard = _hazards((rank < k).astype(float), *learnt)
    return Fitted(_until(times, hazard, horizon), times, np.cumprod(1 - hazard, axis=1), {"k": k}, c)


def _until(times: np.ndarray, hazard: np.ndarray, horizon: float) -> np.ndarray:
    return concordance.at(times, np.cumsum(hazard, axis=1), [horizon], start=0.0)[:, 0]


# what is done to vectors once, and the fit in one split
HEADS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[..., Fitted]]] = {
    "cox": (np.asarray, _cox_head),
    "knn_survival": (_cosines, _knn_head),
}


# What comes out of it


def summary(evaluation: SurvivalEvaluation) -> pd.DataFrame:
    """measure, value, low, high, splits: mean over splits with the corrected interval of Nadeau and Bengio (2003).

    A split in which a measure is not defined is left out of it; ``splits`` counts those used.
    """
    scores, rows = evaluation.scores, []
    for measure in (*MEASURES, "brier", "brier_reference"):
        known = scores[np.isfinite(scores[measure])]
        seen = (known["n_train"] + known["n_validation"]).mean()
        limits = (known[measure].mean() if len(known) else np.nan, np.nan, np.nan)
        if len(known) > 1:
            limits = statistics.corrected_interval(known[measure], seen, known["n_test"].mean())
        rows.append((measure, *limits, len(known)))
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "splits"])


def differences(
    evaluations: Mapping[str, SurvivalEvaluation],
    reference: str,
    patients: Sequence,
    measure: str = "c_harrell",
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences of a measure to ``reference``, patients (n,) drawn with replacement and the splits as they are.

    All on the same rows and splits. p is two-sided, twice the smaller tail of the draws with one added to both counts.
    Returns name, value, reference_value, difference, low, high, p, p_holm.
    """
    if reference not in evaluations:
        raise SurvivalError(f"no evaluation of the reference '{reference}'; there are: {', '.join(evaluations)}")
    rows = evaluations[reference].rows
    for name, each in evaluations.items():
        if not (len(each.rows) == len(rows) and all(map(np.array_equal, each.rows, rows))):
            raise SurvivalError(f"'{name}' and '{reference}' were not tested on the same patients: nothing is paired")
    people, person = np.unique(np.asarray(patients, str), return_inverse=True)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
    weights = np.vstack([np.ones(len(people), int), weights])[:, person]  # the first draw is the data themselves
    values = {name: concordance.drawn(each.pairs[measure], rows, weights) for name, each in evaluations.items()}
    found = [_difference(name, values[name], values[reference]) for name in evaluations if name != reference]
    table = pd.DataFrame(found, columns=["name", "value", "reference_value", "difference", "low", "high", "p"])
    return table.assign(p_holm=statistics.holm(table["p"]))


def _difference(name: str, values: np.ndarray, reference: np.ndarray) -> tuple:
    draws = (values - reference)[1:]
    draws = draws[np.isfinite(draws)]
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    low, high = np.quantile(draws, (0.025, 0.975)) if len(draws) else (np.nan, np.nan)
    p = min(1.0, 2 * (tail + 1) / (len(draws) + 1))
    return name, values[0], reference[0], values[0] - reference[0], low, high, p


def out_of_sample(evaluation: SurvivalEvaluation, n: int) -> np.ndarray:
    """(n,) mean rank (0 lowest, 1 highest risk) over the splits that tested a patient; NaN of one never tested."""
    table = evaluation.predictions
    ranks = table.groupby("split")["risk"].transform(lambda risk: (rankdata(risk) - 0.5) / len(risk))
    return ranks.groupby(table["row"]).mean().reindex(range(n)).to_numpy()
