"""Is it the size, or the label, that an embedding finds alike?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from . import chance, overlap
from .base import AlignmentError, same_samples
from .neighbours import K, nearest, nearest_values

COLUMNS = ["model", "samples", "value", "low", "high", "chance", "chance_low", "chance_high", "p"]
CELLS = 2**22  # labels of neighbours held at a time


def by_volume(
    vectors: Mapping[str, np.ndarray],
    volumes: Sequence[float],
    patients: Sequence,
    k: int = K,
    draws: int = 2000,
    permutations: int = 500,
    seed: int = 0,
    device: str = "cpu",
    near: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """How many of a sample's ``k`` neighbours are among the ``k`` of the nearest volume (ratio of volumes).

    One row a model: model, samples (with a volume above zero; the others are asked for nothing), value, its patient
    bootstrap interval low and high, chance, the central 95 % of permutations (of samples) chance_low and chance_high,
    one-sided p.
    ``near`` are neighbours (n, k or more) that are known already, of use where all samples have a volume.
    :class:`AlignmentError` if fewer than k + 2 samples have a volume.
    """
    same_samples(vectors, volumes)
    volumes = np.asarray(volumes, float)
    known = np.isfinite(volumes) & (volumes > 0)
    if known.sum() < k + 2:
        raise AlignmentError(f"{known.sum()} of {len(known)} samples have a volume; {k} neighbours take {k + 2}")
    size = nearest_values(np.log(volumes[known]), k)
    near = _among(known, vectors, near, k, device)
    found = np.array([overlap.shared(each, size) for each in near.values()])
    drawn = chance.totals(near, {"size": size}, chance.places(len(size), permutations, seed))[:, 0]
    return _table(near, found, drawn / len(size), chance.expected(len(size), k), _some(patients, known), draws, seed)


def homophily(
    vectors: Mapping[str, np.ndarray],
    labels: Sequence[float],
    patients: Sequence,
    k: int = K,
    draws: int = 2000,
    permutations: int = 500,
    seed: int = 0,
    device: str = "cpu",
    near: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Share of a sample's ``k`` neighbours among other patients that have its label, columns as of :func:`by_volume`.

    The samples of one patient mostly have one label and look alike: of each other they say nothing about the label.
    Labels are permuted between whole patients (:func:`chance.patient_places`). ``chance`` is the mean share of the
    other samples that have the label; where patients have several samples, the mean of the permutations, of all
    embeddings together. Samples without a label (NaN) are left out on either side. :class:`AlignmentError` if fewer
    than k + 2 have one (with several samples a patient, k + 1 and as many as one patient has), or all the same.
    """
    same_samples(vectors, labels)
    groups = chance.label_groups(labels)
    known = groups >= 0
    groups, n, people = groups[known].astype(np.int32), int(known.sum()), _some(patients, known)
    most = int(np.unique(people.astype(str), return_counts=True)[1].max(initial=1))
    if n < k + 1 + most or len(np.unique(groups)) < 2:
        raise AlignmentError(
            f"{n} of {len(known)} samples have a label, of {len(np.unique(groups))} kinds; {k} neighbours take "
            f"{k + 1 + most} samples and two kinds"
        )
    near = _among(known, vectors, near, k + most - 1, device)
    near = {name: _of_others(each, people, k) for name, each in near.items()}
    places = chance.patient_places(people, permutations, seed)
    found = np.array([(groups[each] == groups[:, None]).mean(axis=1) for each in near.values()])
    drawn = np.column_stack([_same(groups[places], each) for each in near.values()])
    level = label_chance(groups) if most == 1 else drawn.mean()
    return _table(near, found, drawn, level, people, draws, seed)


def label_chance(groups: np.ndarray) -> float:
    """Mean over the samples (n,) of the share of the other samples that have the same label."""
    sizes = np.unique(groups, return_counts=True)[1]
    return float((sizes * (sizes - 1)).sum() / (len(groups) * (len(groups) - 1)))


def _among(
    known: np.ndarray, vectors: Mapping[str, np.ndarray], near: Mapping[str, np.ndarray] | None, k: int, device: str
) -> dict[str, np.ndarray]:
    """The ``k`` nearest of each of the samples that are ``known`` (n,), among these."""
    if near is not None and known.all() and all(near[name].shape[1] >= k for name in vectors):
        return {name: near[name][:, :k] for name in vectors}
    return {name: nearest(each[known], k, device) for name, each in vectors.items()}


def _of_others(near: np.ndarray, patients: np.ndarray, k: int) -> np.ndarray:
    """The first ``k`` of neighbours (n, k or more) that are samples of other patients."""
    own = patients[near] == patients[:, None]
    return np.take_along_axis(near, np.argsort(own, axis=1, kind="stable")[:, :k], axis=1)


def _same(groups: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Mean share (draws,) of neighbours (n, k) of the same label, of permuted labels (draws, n)."""
    step = max(1, CELLS // near.size)
    parts = (groups[at : at + step] for at in range(0, len(groups), step))
    return np.concatenate([(part[:, near] == part[:, :, None]).mean(axis=(1, 2)) for part in parts])


def _some(patients: Sequence, known: np.ndarray) -> np.ndarray:
    patients = np.asarray(patients)
    if len(patients) != len(known):
        raise AlignmentError(f"{len(known)} samples but {len(patients)} patients")
    return patients[known]


def _table(
    near: Mapping[str, np.ndarray],
    found: np.ndarray,
    drawn: np.ndarray,
    level: float,
    patients: np.ndarray,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    values, limits = found.mean(axis=1), overlap.intervals(found, patients, draws, seed)
    low, high = np.quantile(drawn, overlap.QUANTILES, axis=0)
    given = [list(near), len(patients), values, *limits.T, level, low, high, chance.p_values(values, drawn)]
    return pd.DataFrame(dict(zip(COLUMNS, given, strict=True)))
