"""All of a cohort's alignment: one row a pair, one row a model, and the curve over k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import statistics
from . import chance, confounds, overlap, similarity
from .base import AlignmentError, checked, same_samples
from .neighbours import K, nearest

GIVEN = ("volume", "label")
CONFOUND = ["value", "low", "high", "chance", "chance_low", "chance_high", "p"]


@dataclass(frozen=True)
class Alignment:
    """Embeddings of ``n`` samples held against each other at ``k`` neighbours.

    ``near``: neighbours (n, K) by model, K the highest k of the curves. ``pairs``, one row a pair: first, second, k,
    shared (mean number of common neighbours) with its patient bootstrap interval low and high; chance, with the
    central 95 % of permutations chance_low and chance_high; one-sided p, and p_holm over all pairs; cka (debiased);
    and, for volume and label, what is left in common when samples change places only with those of like volume, or
    of the same label: shared_given_volume with _low and _high, p_given_volume and its p_given_volume_holm (NaN where
    that is not known). These are of the samples with a volume (label) alone; the others keep their places, and are
    neighbours as before. ``models``, one row a model: average (mean over the others) with low and high, closest and its
    closest_shared, and for volume and label value, low, high, chance, chance_low, chance_high, p as of ``confounds``,
    each after its name. ``curves``: first, second, k, share, chance. ``lacking`` says what could not be had, and why;
    ``permutations`` how many were drawn.
    """

    n: int
    k: int
    near: dict[str, np.ndarray]
    pairs: pd.DataFrame
    models: pd.DataFrame
    curves: pd.DataFrame
    permutations: int
    lacking: tuple[str, ...]

    @property
    def matrix(self) -> pd.DataFrame:
        """Mean number of common neighbours as a symmetric table by model, 0 on its diagonal as in the study."""
        return self.of("shared")

    def of(self, column: str, diagonal: float = 0.0) -> pd.DataFrame:
        """A column of the pairs as a symmetric table by model."""
        names = self.pairs[["first", "second"]].itertuples(index=False, name=None)
        return overlap.matrix(list(names), self.pairs[column], diagonal)


def align(
    vectors: Mapping[str, np.ndarray],
    patients: Sequence,
    labels: Sequence[float] | None = None,
    volumes: Sequence[float] | None = None,
    k: int = K,
    k_max: int = 50,
    draws: int = 2000,
    permutations: int = 500,
    seed: int = 0,
    device: str = "cpu",
) -> Alignment:
    """Hold embeddings (n, d) by model, row by row of the same samples, against each other.

    ``labels`` and ``volumes`` (n,), NaN where not known. At least ``permutations`` are drawn, and as many as it takes
    for a p to be below 0.05 after Holm's correction for all pairs. Curves go to ``k_max``, or to n - 2.
    :class:`AlignmentError` for fewer than two embeddings or k + 2 samples, and for what is no embedding.
    """
    if len(vectors) < 2:
        raise AlignmentError(f"{len(vectors)} embeddings: alignment takes at least two")
    n = same_samples(vectors, patients)
    for each in (labels, volumes):
        if each is not None:
            same_samples(vectors, each)
    for name, each in vectors.items():
        checked(each, k, name)
    k_max = max(k, min(k_max, n - 2))
    near = {name: nearest(each, k_max, device) for name, each in vectors.items()}
    drawn = chance.enough(permutations, len(near) * (len(near) - 1) // 2)
    how = {"patients": patients, "k": k, "draws": draws, "permutations": drawn, "seed": seed}
    how |= {"device": device, "near": near}
    about, lacking = {}, []
    for name, measure, values in (
        ("volume", confounds.by_volume, volumes),
        ("label", confounds.homophily, labels),
    ):
        try:
            about[name] = None if values is None else measure(vectors, values, **how)
        except AlignmentError as error:
            about[name] = None
            lacking.append(f"{name}: {error}")
        if values is None:
            lacking.append(f"{name}, since these samples have none")
    groups = {
        "volume": None if about["volume"] is None else chance.size_groups(volumes),
        "label": None if about["label"] is None else chance.label_groups(labels),
    }
    first = {name: each[:, :k] for name, each in near.items()}
    cka, used = similarity.cka(vectors)
    if used < n:
        lacking.append(f"CKA of all samples: of {n:,} as many as {used:,} were taken, evenly spaced")
    pairs = pairs_table(first, patients, groups, cka, draws, drawn, seed)
    models = models_table(first, patients, about, draws, seed)
    return Alignment(n, k, near, pairs, models, curves_table(near), drawn, tuple(lacking))


def pairs_table(
    near: Mapping[str, np.ndarray],
    patients: Sequence,
    groups: Mapping[str, np.ndarray | None],
    cka: pd.DataFrame,
    draws: int,
    permutations: int,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a pair of neighbours (n, k) by model, as :class:`Alignment` has it; ``groups`` (n,) by their name."""
    n = same_samples(near, patients)
    names, counted = overlap.counts(near)
    k, values = next(iter(near.values())).shape[1], counted.mean(axis=1)
    drawn = chance.permuted(near, chance.places(n, permutations, seed))
    table = pd.DataFrame(names, columns=["first", "second"]).assign(k=k, shared=values)
    table[["low", "high"]] = overlap.intervals(counted, patients, draws, seed)
    table["chance"] = chance.expected(n, k)
    table["chance_low"], table["chance_high"] = np.quantile(drawn, overlap.QUANTILES, axis=0)
    table["p"] = chance.p_values(values, drawn)
    table["p_holm"] = statistics.holm(table["p"])
    table["cka"] = [cka.loc[pair] for pair in names]
    for name in GIVEN:
        level, p = f"shared_given_{name}", f"p_given_{name}"
        if groups[name] is None:
            table[[level, f"{level}_low", f"{level}_high", p, f"{p}_holm"]] = np.nan
            continue
        known = groups[name] >= 0
        drawn = chance.permuted(near, chance.places(n, permutations, seed, groups[name]), known)
        table[level] = drawn.mean(axis=0)
        table[f"{level}_low"], table[f"{level}_high"] = np.quantile(drawn, overlap.QUANTILES, axis=0)
        table[p] = chance.p_values(counted[:, known].mean(axis=1), drawn)
        table[f"{p}_holm"] = statistics.holm(table[p])
    return table


def models_table(
    near: Mapping[str, np.ndarray],
    patients: Sequence,
    about: Mapping[str, pd.DataFrame | None],
    draws: int,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a model, as :class:`Alignment` has it; ``about`` are tables of ``confounds`` by their name."""
    names, counted = overlap.counts(near)
    others = np.array([counted[[name in pair for pair in names]].mean(axis=0) for name in near])
    shared = overlap.matrix(names, counted.mean(axis=1), np.nan)
    table = pd.DataFrame({"model": list(near), "average": overlap.average(shared).to_numpy()})
    table[["low", "high"]] = overlap.intervals(others, patients, draws, seed)
    table["closest"], table["closest_shared"] = shared.idxmax().to_numpy(), shared.max().to_numpy()
    for name in GIVEN:
        rows = about[name]
        for column in CONFOUND:
            after = name if column == "value" else f"{name}_{column}"
            table[after] = np.nan if rows is None else rows.set_index("model").loc[list(near), column].to_numpy()
    return table


def curves_table(near: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean share of common neighbours of every pair at k = 1..K: first, second, k, share, chance."""
    n, parts = same_samples(near), []
    for at, one in enumerate(near):
        for two in list(near)[at + 1 :]:
            share = overlap.curve(near[one], near[two])
            k = np.arange(1, len(share) + 1)
            parts.append(pd.DataFrame({"first": one, "second": two, "k": k, "share": share, "chance": k / (n - 1)}))
    return pd.concat(parts, ignore_index=True)
