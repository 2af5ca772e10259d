"""External validation: learn in one cohort, judge in another, and hold it against what is had within a cohort.

Two judges of frozen embeddings. **knn**: share of positives among the k nearest (cosine) samples of the training
cohort. **linear**: L2 logistic regression on features standardised by the training samples. Everything that is chosen
or scaled (k, C, mean and standard deviation of features) comes from training samples alone: k and C by
cross-validation inside them, patient-grouped and stratified. Labels and vectors of the test cohort are never seen, but
where :func:`moved` asks what a look at the vectors would change.

An AUC here is the share of concordant pairs of a positive and a negative among the pairs of one fold (all samples are
one fold where the judge comes from another cohort). So out-of-fold scores of different judges are never compared, each
fold weighs as many pairs as it has, and a bootstrap draw that takes a class from a fold takes its pairs only.

Intervals are of other patients of the test cohort: the judge stays as it was trained. A difference is paired, on the
same draws. The reference *within* the test cohort learns from that cohort's size, less a fold, and the external judge
from the training cohort's; a difference in size is part of the drop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import pandas as pd
from scipy.special import expit
from threadpoolctl import threadpool_limits

from .. import embeddings, knn, statistics
from . import linear

HEADS = ("knn", "linear")
STRENGTHS = 10.0 ** np.arange(-5, 2)  # C of the logistic regression: 1e-5 to 10
COARSE = STRENGTHS[1::2]  # of the one that asks for the cohort, which learns from both at once
FOLDS, INNER = 5, 3  # outer, and those inside a training part by which k and C are chosen
SHOWN = 5  # names in a message; the rest are counted
KEYS = ["model", "head", "train", "test"]
PREDICTIONS = [*KEYS, "fold", "sample_id", "patient_id", "label", "probability"]


class ExternalError(ValueError):
    """Cohorts that cannot be held against each other; the message names the cohort or the patients."""


@dataclass(frozen=True)
class Fold:
    """Row numbers of a training and a test part, and (train, test) of the cross-validation inside the training part,
    counted along ``train``."""

    train: np.ndarray
    test: np.ndarray
    inner: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True)
class Site:
    """One cohort, ready to learn from or to be judged in.

    ``samples`` has sample_id, patient_id and label, n rows; ``vectors`` (n, d) by model; ``raw`` the models whose
    vectors are raw features, to be standardised for kNN too. ``folds`` is the outer cross-validation, ``inner`` the
    one by which k and C are chosen when all samples are learnt from.
    """

    id: str
    samples: pd.DataFrame
    vectors: Mapping[str, np.ndarray]
    raw: frozenset[str]
    folds: tuple[Fold, ...]
    inner: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def labels(self) -> np.ndarray:
        """(n,) of 0 and 1."""
        return self.samples["label"].to_numpy(np.int64)


@dataclass(frozen=True)
class Judge:
    """A trained head: ``chosen`` is k or C, ``score`` its AUC by inner cross-validation, ``curve`` that of every k or C
    tried; ``predict`` gives (m,) probabilities for vectors (m, d)."""

    head: str
    chosen: float
    score: float
    curve: np.ndarray
    predict: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Evaluated:
    """``predictions``: a row a sample, model, head, train and test cohort (``PREDICTIONS``; within a cohort train and
    test are the same). ``rescaled``: the external ones if the test cohort is first :func:`moved` onto the training
    cohort. ``choices``: model, head, train, fold ("all" where all samples are learnt from), chosen (k or C), score.
    """

    predictions: pd.DataFrame
    rescaled: pd.DataFrame
    choices: pd.DataFrame


def site(
    cohort: str,
    samples: pd.DataFrame,
    vectors: Mapping[str, np.ndarray],
    raw: Iterable[str] = (),
    folds: int = FOLDS,
    seed: int = 0,
) -> Site:
    """Check a cohort and lay its folds: patient-grouped, stratified by label, the same for every model.

    :class:`ExternalError` for one class, fewer than two patients a fold of either class, vectors of another length,
    and vectors that are zero or not finite.
    """
    try:
        labels = statistics.binary_labels(samples["label"])
    except statistics.LabelError as error:
        raise ExternalError(f"{cohort}: {error}") from error
    patients = samples["patient_id"].to_numpy(str)
    people = [len(np.unique(patients[labels == label])) for label in (0, 1)]
    if min(people) < 2 * folds:
        raise ExternalError(
            f"{cohort}: {folds} folds need {2 * folds} patients of each class; there are {people[1]} positive, "
            f"{people[0]} negative"
        )
    for model, each in vectors.items():
        _check_vectors(f"{cohort}, {model}", each, len(labels))
    table = samples.reset_index(drop=True).assign(label=labels)
    every, outer, inner = _split(cohort, labels, patients, folds, seed), [], min(folds, INNER)
    for number, (train, test) in enumerate(every):
        inside = _split(cohort, labels[train], patients[train], inner, seed + 1 + number)
        outer.append(Fold(train, test, inside))
    whole = _split(cohort, labels, patients, inner, seed)
    return Site(cohort, table, dict(vectors), frozenset(raw), tuple(outer), whole)


def _check_vectors(origin: str, vectors: np.ndarray, n: int) -> None:
    if vectors.ndim != 2 or len(vectors) != n:
        raise ExternalError(f"{origin}: embeddings of shape {vectors.shape} for {n} samples")
    broken = ~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    if broken.any():
        raise ExternalError(
            f"{origin}: {broken.sum()} embeddings hold NaN or are zero, the first is row {broken.argmax()}"
        )


def _split(cohort: str, labels: np.ndarray, patients: np.ndarray, folds: int, seed: int) -> tuple:
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    parts = tuple(splitter.split(labels, labels, patients))
    if any(len(np.unique(labels[train])) < 2 for train, _ in parts):
        raise ExternalError(f"{cohort}: a training part has one class only: too few patients for {folds} folds")
    return parts


def check_sites(sites: Sequence[Site]) -> None:
    """Two cohorts or more, no patient in two of them, the same models with the same dimensions in all."""
    if len(sites) < 2:
        raise ExternalError(f"external validation takes two cohorts or more, there is {len(sites)}")
    for first, second in combinations(sites, 2):
        both = sorted(set(first.samples["patient_id"]) & set(second.samples["patient_id"]))
        if both:
            more = f" and {len(both) - SHOWN} more" if len(both) > SHOWN else ""
            raise ExternalError(
                f"{first.id} and {second.id} have {len(both)} patients in common: {', '.join(both[:SHOWN])}{more}. A "
                "patient who was learnt from is no test"
            )
        odd = sorted(set(first.vectors) ^ set(second.vectors))
        if odd:
            raise ExternalError(f"{first.id} and {second.id}: only one of them has {', '.join(odd)}")
        for model, vectors in first.vectors.items():
            if vectors.shape[1] != second.vectors[model].shape[1]:
                raise ExternalError(
                    f"{model}: {vectors.shape[1]} dimensions in {first.id}, {second.vectors[model].shape[1]} in "
                    f"{second.id}"
                )


def train(
    vectors: np.ndarray,
    labels: np.ndarray,
    inner: Sequence[tuple[np.ndarray, np.ndarray]],
    head: str,
    raw: bool = False,
    k_max: int = knn.K_MAX,
    strengths: np.ndarray | None = None,
) -> Judge:
    """Choose k or C by the ``inner`` cross-validation of the training samples, then learn from all of them.

    ``vectors`` (n, d), ``labels`` (n,) of 0 and 1. k goes from 1 to ``k_max``, or to the size of the smallest inner
    training part; the smallest k of the highest AUC is taken. C is that of ``strengths`` (ascending, by default
    ``STRENGTHS``) with the lowest log loss: where features are few all C order patients alike, and only the loss knows
    which probabilities are right.
    """
    if head == "knn":
        reach = min([k_max, *(len(part) for part, _ in inner)])
        curve = _mean_curve(_knn_curves(vectors, labels, inner, reach, raw))
        k = int(curve.argmax()) + 1
        predict = lambda new: _votes(_cosines(vectors, new, raw), labels, k)[:, -1] / k  # noqa: E731
        return Judge(head, k, float(curve[k - 1]), curve, predict)
    if head == "linear":
        strengths = STRENGTHS if strengths is None else strengths
        parts = [_linear_curve(vectors, labels, part, strengths) for part in inner]
        curve = _mean_curve((auc, pairs) for auc, pairs, _ in parts)
        best = int(np.sum([loss for *_, loss in parts], axis=0).argmin())
        basis, coordinates = linear.span(vectors)
        solution = linear.solve(coordinates, labels, float(strengths[best]))
        predict = lambda new: expit(solution.logits(basis.coordinates(new)))  # noqa: E731
        return Judge(head, float(strengths[best]), float(curve[best]), curve, predict)
    raise LookupError(f"unknown head '{head}'. Known: {', '.join(HEADS)}")


def _mean_curve(parts: Iterable[tuple[np.ndarray, int]]) -> np.ndarray:
    """Mean of AUC curves, weighted by pairs; a fold with one class has none."""
    parts = [(curve, pairs) for curve, pairs in parts if pairs]
    return np.average([curve for curve, _ in parts], axis=0, weights=[pairs for _, pairs in parts])


def _pairs(labels: np.ndarray) -> int:
    return int(labels.sum() * (len(labels) - labels.sum()))


def _knn_curves(
    vectors: np.ndarray, labels: np.ndarray, inner: Sequence, k_max: int, raw: bool
) -> Iterator[tuple[np.ndarray, int]]:
    """AUC at k = 1..k_max and the number of pairs, of each inner fold."""
    every = None if raw else _cosines(vectors, vectors, raw)
    for learnt, held in inner:
        alike = every[np.ix_(held, learnt)] if every is not None else _cosines(vectors[learnt], vectors[held], raw)
        pairs = _pairs(labels[held])
        yield knn.auc_curve(_votes(alike, labels[learnt], k_max), labels[held]) if pairs else np.empty(0), pairs


def _cosines(known: np.ndarray, asked: np.ndarray, raw: bool) -> np.ndarray:
    """(m, n) cosine similarities of ``asked`` (m, d) to ``known`` (n, d), by which raw features are standardised."""
    if raw:
        known, asked = embeddings.standardised(known), embeddings.standardised(asked, known)
    return _unit(asked) @ _unit(known).T


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)  # the mean of all itself, once standardised, stays 0


def _votes(alike: np.ndarray, labels: np.ndarray, k_max: int) -> np.ndarray:
    """(m, k_max) positives among the k most alike of n training samples, k = 1..k_max, from (m, n) cosines."""
    order = np.argsort(1 - alike, axis=1, kind="stable")[:, :k_max]
    return np.cumsum(labels[order], axis=1)


def _linear_curve(
    vectors: np.ndarray, labels: np.ndarray, part: tuple, strengths: np.ndarray
) -> tuple[np.ndarray, int, np.ndarray]:
    """AUC at each C on the held part, the number of its pairs, and the sum of log losses at each C.

    C ascends, and each starts from the one before.
    """
    learnt, held = part
    pairs, start = _pairs(labels[held]), None
    basis, coordinates = linear.span(vectors[learnt])
    asked, aucs, losses = basis.coordinates(vectors[held]), [], []
    for strength in strengths:
        solution = linear.solve(coordinates, labels[learnt], float(strength), start)
        start, logits = solution.weights, solution.logits(asked)
        aucs.append(statistics.auc(labels[held], logits) if pairs else np.nan)
        losses.append(np.logaddexp(0, (1 - 2 * labels[held]) * logits).sum())
    return np.array(aucs), pairs, np.array(losses)


def evaluate(
    sites: Sequence[Site], heads: Sequence[str] = HEADS, k_max: int = knn.K_MAX, progress: Callable = iter
) -> Evaluated:
    """Every model and head, trained in each cohort and tested in every other, and within each (out of fold).

    ``progress`` wraps the list of what is done (a progress bar).
    """
    check_sites(sites)
    work = [(model, head, here) for model in sites[0].vectors for head in heads for here in sites]
    parts, others, choices = [], [], []
    with threadpool_limits(1, "blas"):  # matrices so small that threads would wait for each other
        for model, head, here in progress(work):
            found, judges = within(here, model, head, k_max)
            judge, elsewhere = learnt(here, model, head, k_max), [there for there in sites if there is not here]
            parts += [found, *(judged(judge, here.id, there, model) for there in elsewhere)]
            others += [judged(judge, here.id, there, model, moved(there, here, model)) for there in elsewhere]
            for name, each in [("all", judge), *judges.items()]:
                choices.append((model, head, here.id, str(name), each.chosen, each.score))
    columns = ["model", "head", "train", "fold", "chosen", "score"]
    tables = (pd.concat(each, ignore_index=True) for each in (parts, others))
    return Evaluated(*tables, pd.DataFrame(choices, columns=columns))


def learnt(here: Site, model: str, head: str, k_max: int = knn.K_MAX) -> Judge:
    """A judge from all samples of a cohort."""
    return train(here.vectors[model], here.labels, here.inner, head, model in here.raw, k_max)


def judged(judge: Judge, cohort: str, there: Site, model: str, vectors: np.ndarray | None = None) -> pd.DataFrame:
    """Predictions (``PREDICTIONS``) for all samples ``there`` by a judge of ``cohort``; ``vectors`` replace its own."""
    vectors = there.vectors[model] if vectors is None else vectors
    return _predicted(there, model, judge.head, cohort, np.zeros(len(vectors), int), judge.predict(vectors))


def within(
    here: Site, model: str, head: str, k_max: int = knn.K_MAX, strengths: np.ndarray | None = None
) -> tuple[pd.DataFrame, dict[int, Judge]]:
    """Out-of-fold predictions in one cohort, and the judge of each fold; k or C is chosen inside its training part."""
    probability, fold, judges = np.empty(len(here.samples)), np.empty(len(here.samples), int), {}
    vectors, raw = here.vectors[model], model in here.raw
    for number, part in enumerate(here.folds):
        judge = train(vectors[part.train], here.labels[part.train], part.inner, head, raw, k_max, strengths)
        probability[part.test], fold[part.test], judges[number] = judge.predict(vectors[part.test]), number, judge
    return _predicted(here, model, head, here.id, fold, probability), judges


def _predicted(
    there: Site, model: str, head: str, cohort: str, fold: np.ndarray, probability: np.ndarray
) -> pd.DataFrame:
    about = {"model": model, "head": head, "train": cohort, "test": there.id, "fold": fold}
    return there.samples[["sample_id", "patient_id", "label"]].assign(**about, probability=probability)[PREDICTIONS]


def moved(there: Site, here: Site, model: str) -> np.ndarray:
    """Vectors of ``there``, each feature with the mean and standard deviation that it has ``here``; no label is used.

    It needs many samples of the test cohort at once, and takes a true difference of the patients away with that of the
    scanners.
    """
    vectors = here.vectors[model]
    spread, mean = vectors.std(axis=0, dtype=np.float64), vectors.mean(axis=0, dtype=np.float64)
    return embeddings.standardised(there.vectors[model]) * spread + mean


def which_site(first: Site, second: Site, model: str, folds: int = FOLDS, seed: int = 0) -> pd.DataFrame:
    """Out-of-fold predictions (``PREDICTIONS``) of which cohort a sample is of, ``second`` being 1, by the linear head.

    Folds are patient-grouped and stratified by cohort. ``train`` and ``test`` are both "<first>|<second>".
    """
    samples = pd.concat([first.samples.assign(label=0), second.samples.assign(label=1)], ignore_index=True)
    vectors = np.concatenate([first.vectors[model], second.vectors[model]])
    both = site(f"{first.id}|{second.id}", samples, {model: vectors}, folds=folds, seed=seed)
    with threadpool_limits(1, "blas"):
        return within(both, model, "linear", strengths=COARSE)[0]


def drift(sites: Sequence[Site]) -> pd.DataFrame:
    """How far the features of a test cohort lie from those of the training cohort, standardised by the latter.

    One row a model and ordered pair: model, train, test, ``shift`` (median over features of the absolute difference of
    means), ``spread`` (median standard deviation), ``beyond`` and ``beyond_train`` (share of numbers more than three
    standard deviations from the training mean, of the test cohort and of the training cohort itself).
    """
    rows = []
    for here, there in permutations(sites, 2):
        for model, vectors in here.vectors.items():
            moving = (vectors != vectors[0]).any(axis=0)
            own, theirs = (
                embeddings.standardised(each, vectors)[:, moving] for each in (vectors, there.vectors[model])
            )
            shift, spread = np.abs(theirs.mean(axis=0)), theirs.std(axis=0)
            beyond = [float((np.abs(each) > 3).mean()) for each in (theirs, own)]
            rows.append((model, here.id, there.id, float(np.median(shift)), float(np.median(spread)), *beyond))
    return pd.DataFrame(rows, columns=["model", "train", "test", "shift", "spread", "beyond", "beyond_train"])
