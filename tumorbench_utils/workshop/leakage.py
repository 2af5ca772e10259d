"""Leakage: test samples that are known already, or that helped to choose; how large each leak is, how it is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from .. import embeddings, knn, statistics
from ..ensembles import nearest
from ..knn import Split
from .base import Views, WorkshopError

LEAKS = {  # what the test part is used for, that it must not be used for
    "scale": "scale: mean and spread",
    "k": "k: the best one",
    "model": "model: the best of five views",
    "dimensions": "dimensions: chosen by their labels",
    "patient": "patient: another view",
}


def stacked(found: Views, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (m n, d), labels and patients (m n,) of a table in which each patient has a row in each of m views."""
    vectors = np.concatenate([found.vectors[name] for name in names])
    return vectors, np.tile(found.labels, len(names)), np.tile(found.patients, len(names))


def by_patient(labels: Sequence, patients: Sequence, seeds: Iterable[int] | None = None) -> list[Split]:
    """The study's splits made of patients instead of rows: all rows of a patient follow him.

    All rows of a patient must have one label, or it is a :class:`WorkshopError` (:func:`knn.grouped_splits` can deal
    with several).
    """
    labels, patients = statistics.binary_labels(labels), np.asarray(patients)
    people, first, person = np.unique(patients, return_index=True, return_inverse=True)
    mixed = people[np.unique(person[labels != labels[first][person]])]
    if len(mixed):
        raise WorkshopError(f"{len(mixed)} patients have rows of both labels, the first is {mixed[0]}")
    return [
        Split(
            split.seed, *(np.flatnonzero(np.isin(person, part)) for part in (split.train, split.validation, split.test))
        )
        for split in knn.paper_splits(labels[first], seeds)
    ]


def audit(vectors: np.ndarray, patients: Sequence, splits: Sequence[Split], above: float = 0.95) -> pd.DataFrame:
    """The nearest training row of every test row: split, row, nearest, cosine, same_patient, suspicious.

    ``vectors`` is (n, d), ``patients`` (n,). Suspicious are pairs whose cosine is above ``above``: for this no
    identifier is needed, so that it finds a patient under two names too.
    """
    patients, tasks = np.asarray(patients), [(split.train, split.test) for split in splits]
    unit = np.asarray(vectors, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    tables = []
    for number, (split, near) in enumerate(zip(splits, nearest(vectors, tasks, 1), strict=True)):
        near = near[:, 0]
        cosine = np.einsum("nd,nd->n", unit[split.test], unit[near])
        same = patients[split.test] == patients[near]
        tables.append(
            pd.DataFrame({"split": number, "row": split.test, "nearest": near, "cosine": cosine, "same_patient": same})
        )
    table = pd.concat(tables, ignore_index=True)
    return table.assign(suspicious=table["cosine"] > above)


def shared_patients(patients: Sequence, splits: Sequence[Split]) -> pd.Series:
    """Share of the test rows of each split whose patient has a row in the training part too."""
    patients = np.asarray(patients)
    return pd.Series([np.isin(patients[split.test], patients[split.train]).mean() for split in splits], name="shared")


def ways(
    vectors: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    splits: Mapping[str, Sequence[Split]],
    k_max: int = 50,
) -> pd.DataFrame:
    """AUC of every split of several ways to split a table: way, split, k, auc, twins.

    ``twins`` is the share of test rows whose nearest training row is of the same patient.
    """
    together = [split for each in splits.values() for split in each]  # they share one ordering of the neighbours
    scores = knn.evaluate(vectors, labels, together, k_max).scores
    twins = audit(vectors, patients, together).groupby("split")["same_patient"].mean()
    return pd.DataFrame(
        {
            "way": np.repeat(list(splits), [len(each) for each in splits.values()]),
            "split": np.concatenate([np.arange(len(each)) for each in splits.values()]),
            "k": scores["k"],
            "auc": scores["test_auc"],
            "twins": twins,
        }
    )


def by_view(found: Views, original: str, views: Sequence[str], seeds: Iterable[int], k_max: int = 50) -> pd.DataFrame:
    """:func:`ways`, by row and by patient, for the table of the original and each of ``views``: a column view first."""
    tables, seeds = [], list(seeds)
    for view in views:
        vectors, labels, patients = stacked(found, [original, view])
        splits = {"by row": knn.paper_splits(labels, seeds), "by patient": by_patient(labels, patients, seeds)}
        tables.append(ways(vectors, labels, patients, splits, k_max).assign(view=view))
    table = pd.concat(tables, ignore_index=True)
    return table[["view", *(name for name in table if name != "view")]]


def strongest(vectors: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the ``count`` dimensions of (n, d) vectors that are correlated most with (n,) labels, either way."""
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    spread = np.linalg.norm(centred, axis=0)
    correlation = np.abs((labels - np.mean(labels)) @ centred) / np.where(spread > 0, spread, np.inf)
    return np.argsort(-correlation, kind="stable")[:count]


def sizes(
    vectors: Mapping[str, np.ndarray], labels: np.ndarray, splits: Sequence[Split], count: int = 50, k_max: int = 50
) -> pd.DataFrame:
    """What the test part gives away where it is used to prepare or to choose: leak, split, honest, leaky, difference.

    ``vectors`` are (n, d) by name, the first one is used but for the choice among all of them; ``count`` dimensions
    are chosen. Honest and leaky differ in the rows alone that are looked at: those of training and validation (of the
    training part for the scale), or all.
    """
    name, first = next(iter(vectors.items()))
    labels = statistics.binary_labels(labels)
    curves = {each: _curves(array, labels, splits, k_max) for each, array in vectors.items()}
    pairs = {"scale": [], "k": [], "model": []}
    scaled = _curves(embeddings.standardised(first), labels, splits, k_max)
    for number, split in enumerate(splits):
        valid, test = ({each: curve[part][number] for each, curve in curves.items()} for part in (0, 1))
        pairs["k"].append((_at(valid[name], test[name]), test[name].max()))
        best = max(valid, key=lambda each: valid[each].max())
        tested = {each: _at(valid[each], test[each]) for each in vectors}
        pairs["model"].append((tested[best], max(tested.values())))
        own = _tested(embeddings.standardised(first, first[split.train]), labels, split, k_max)
        pairs["scale"].append((own, _at(scaled[0][number], scaled[1][number])))
    tables = [_differences(leak, values) for leak, values in pairs.items()]
    return pd.concat([*tables, dimensions(first, labels, splits, count, k_max)], ignore_index=True)


def dimensions(
    vectors: np.ndarray, labels: np.ndarray, splits: Sequence[Split], count: int = 50, k_max: int = 50
) -> pd.DataFrame:
    """The leak "dimensions" of :func:`sizes` by itself, of vectors (n, d)."""
    vectors, labels, pairs = np.asarray(vectors), statistics.binary_labels(labels), []
    of_all = vectors[:, strongest(vectors, labels, count)]
    for split in splits:
        learnt = np.concatenate([split.train, split.validation])
        own = vectors[:, strongest(vectors[learnt], labels[learnt], count)]
        pairs.append([_tested(each, labels, split, k_max) for each in (own, of_all)])
    return _differences("dimensions", pairs)


def _differences(leak: str, values: Sequence[tuple[float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(values, columns=["honest", "leaky"]).assign(leak=leak, split=range(len(values)))
    return table.assign(difference=table["leaky"] - table["honest"])[["leak", "split", "honest", "leaky", "difference"]]


def ranking(
    found: Views,
    original: str,
    view: str,
    labels: np.ndarray,
    seeds: Iterable[int],
    count: int = 50,
    k_max: int = 50,
) -> pd.DataFrame:
    """:func:`sizes`, and the leak "patient" of :func:`ways` by row and by patient, of the ``labels`` (n,) given.

    ``original`` and ``view`` are the two rows of each patient.
    """
    seeds, twice = list(seeds), replace(found, labels=statistics.binary_labels(labels))
    ordered = {name: found.vectors[name] for name in (original, *(each for each in found.vectors if each != original))}
    chosen = sizes(ordered, twice.labels, knn.paper_splits(twice.labels, seeds), count, k_max)
    rows = by_view(twice, original, [view], seeds, k_max).pivot(index="split", columns="way", values="auc")
    patient = pd.DataFrame({"leak": "patient", "honest": rows["by patient"], "leaky": rows["by row"]}).reset_index()
    patient["difference"] = patient["leaky"] - patient["honest"]
    return pd.concat([chosen, patient[list(chosen)]], ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means of :func:`sizes` by leak, and the central 95 % of the splits of its difference: low, high."""
    groups = table.groupby("leak", sort=False)
    means = groups[["honest", "leaky", "difference"]].mean()
    limits = groups["difference"].quantile([0.025, 0.975]).unstack().set_axis(["low", "high"], axis=1)
    return means.join(limits).reset_index()


def _curves(vectors: np.ndarray, labels: np.ndarray, splits: Sequence[Split], k_max: int) -> tuple[np.ndarray, ...]:
    """Validation and test AUC (splits, k_max) at every k."""
    tested = [Split(split.seed, split.train, split.test, split.test) for split in splits]
    found = knn.evaluate(vectors, labels, [*splits, *tested], k_max).curves
    return found[: len(splits)], found[len(splits) :]


def _at(valid: np.ndarray, test: np.ndarray) -> float:
    """Test AUC at the k that validation chooses."""
    return float(test[np.argmax(valid)])


def _tested(vectors: np.ndarray, labels: np.ndarray, split: Split, k_max: int) -> float:
    return float(knn.evaluate(vectors, labels, [split], k_max).scores["test_auc"].iloc[0])


def siblings(labels: Sequence, patients: Sequence, splits: Sequence[Split]) -> pd.DataFrame:
    """A classifier that has never seen an image: split, known, auc.

    A test row's score is the mean label of its patient's training rows, or of all training rows if he has none;
    ``known`` is the share of test rows whose patient has one. Where patients are kept together its AUC is 0.5.
    """
    labels, patients = statistics.binary_labels(labels), np.asarray(patients)
    rows = []
    for number, split in enumerate(splits):
        seen = pd.Series(labels[split.train]).groupby(patients[split.train]).mean()
        score = pd.Series(patients[split.test]).map(seen)
        auc = statistics.auc(labels[split.test], score.fillna(labels[split.train].mean()).to_numpy())
        rows.append((number, float(score.notna().mean()), auc))
    return pd.DataFrame(rows, columns=["split", "known", "auc"])
