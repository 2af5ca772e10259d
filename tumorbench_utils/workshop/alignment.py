"""Exercise 5, chance alignment: what two embeddings have in common before they know anything of each other.

Four levels to hold an overlap against, from cheap to dear: chance, shared hubs, a group that both know (such as the T
stage), and the same for as many equal groups as one likes. Neighbours are lists (n, k) of :func:`alignment.nearest`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from .. import published
from ..alignment import chance, nearest, overlap
from .base import WorkshopError

DRAWS = 500  # permutations
SAMPLES = {  # behind the published overlaps: rows of the features that the study's authors released
    "luna16": 677,
    "dlcs": 1714,
    "nsclc_radiomics": 421,
    "nsclc_radiogenomics": 144,
    "c4kc_kits": 210,
    "colorectal_liver_metastases": 197,
}
PUBLISHED_K = 10
WIDE, NOISE, DIMENSIONS = 5.0, 1.0, 16  # an embedding that knows a group: how far apart groups are, and the rest


def distribution(n: int, k: int) -> np.ndarray:
    """Probability (k + 1,) that one patient shares 0..k of ``k`` neighbours by chance, of ``n`` patients.

    Hypergeometric: k of the n - 1 others are drawn, k of them are the neighbours in the other embedding.
    """
    chance.expected(n, k)  # n and k must go together
    return stats.hypergeom.pmf(np.arange(k + 1), n - 1, k, k)


def levels(sizes: Sequence[int], ks: Sequence[int]) -> pd.DataFrame:
    """Chance for every number of patients and of neighbours: n, k, shared (k * k / (n - 1)), share (k / (n - 1))."""
    rows = [(n, k, chance.expected(n, k), k / (n - 1)) for n in sizes for k in ks]
    return pd.DataFrame(rows, columns=["n", "k", "shared", "share"])


def per_patient(one: np.ndarray, two: np.ndarray, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """How many of k neighbours are shared, as shares of the patients: shared, observed, permuted, expected.

    ``permuted`` is the mean over ``draws`` in which the patients of the second embedding change places, ``expected``
    the :func:`distribution`.
    """
    n, k = np.shape(one)
    places = chance.places(n, draws, seed)
    drawn = sum(np.bincount(overlap.shared(one, chance.relabelled(two, place)), minlength=k + 1) for place in places)
    found = np.bincount(overlap.shared(one, two), minlength=k + 1)
    return pd.DataFrame(
        {
            "shared": np.arange(k + 1),
            "observed": found / n,
            "permuted": drawn / (n * draws),
            "expected": distribution(n, k),
        }
    )


def pairs(near: Mapping[str, np.ndarray], patients: Sequence, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Every pair of embeddings beside chance: first, second, title, k, n, shared with low and high, chance with
    chance_low and chance_high (central 95 % of permutations), one-sided p."""
    names, counted = overlap.counts(near)
    n, k = next(iter(near.values())).shape
    drawn = chance.permuted(near, chance.places(n, draws, seed))
    low, high = np.quantile(drawn, overlap.QUANTILES, axis=0)
    values, limits = counted.mean(axis=1), overlap.intervals(counted, patients, draws, seed)
    table = pd.DataFrame(names, columns=["first", "second"])
    table["title"] = table["first"] + " – " + table["second"]
    given = {"k": k, "n": n, "shared": values, "low": limits[:, 0], "high": limits[:, 1]}
    given |= {"chance": chance.expected(n, k), "chance_low": low, "chance_high": high}
    return table.assign(**given, p=chance.p_values(values, drawn))


def curves(near: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Share in common at k = 1..K of every pair of lists (n, K): first, second, k, share, chance, beyond.

    ``beyond`` is 0 by chance and 1 where all is shared: (share - chance) / (1 - chance).
    """
    n, parts = len(next(iter(near.values()))), []
    for first, second in overlap.counts({name: each[:, :1] for name, each in near.items()})[0]:
        share = overlap.curve(near[first], near[second])
        k = np.arange(1, len(share) + 1)
        parts.append(pd.DataFrame({"first": first, "second": second, "k": k, "share": share, "chance": k / (n - 1)}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(beyond=(table["share"] - table["chance"]) / (1 - table["chance"]))


def hubs(near: np.ndarray) -> np.ndarray:
    """How many lists (n, k) of neighbours each patient is in, (n,); the mean is k."""
    return np.bincount(np.asarray(near).ravel(), minlength=len(near))


def hub_level(one: np.ndarray, two: np.ndarray) -> float:
    """Common neighbours of two embeddings that agree on nothing but who is a hub.

    Each patient is in a list with the probability of being in any of them: sum of the products over n (n - 1).
    """
    n = len(one)
    return float((hubs(one) * hubs(two)).sum() / (n * (n - 1)))


def stages(table: pd.DataFrame) -> np.ndarray:
    """Groups (n,) of the same T stage, T4 and above as one, -1 where it is not known."""
    stage = table["clinical_t_stage"].to_numpy(float)
    return chance.label_groups(np.minimum(stage, 4))


def equal_groups(n: int, many: int, seed: int = 0) -> np.ndarray:
    """Groups (n,) 0..many - 1 of ``n`` patients, drawn at random and of equal size but for one."""
    if not 1 <= many <= n:
        raise WorkshopError(f"{n} patients make 1 to {n} groups, not {many}")
    return np.random.default_rng(seed).permutation(np.arange(n) % many)


def group_level(groups: np.ndarray, k: int) -> float:
    """Common neighbours of two embeddings that know the group of each patient and nothing else.

    Within a group of g, k of g - 1 are drawn twice: k * k / (g - 1). :class:`WorkshopError` for a group of k or fewer.
    """
    groups = np.asarray(groups)
    sizes = np.bincount(groups[groups >= 0])
    sizes = sizes[sizes > 0]
    smallest = sizes.min() if len(sizes) else 0
    if smallest <= k:
        raise WorkshopError(f"the smallest group has {smallest} patients; {k} neighbours take {k + 1}")
    return float((sizes * k * k / (sizes - 1)).sum() / sizes.sum())


def groups_like(shared: float | np.ndarray, n: int | np.ndarray, k: int = PUBLISHED_K) -> float | np.ndarray:
    """The number of equal groups that would give the same overlap to two embeddings that know only the group.

    :func:`group_level` of n / groups patients each, solved for the number of groups.
    """
    return n / (1 + k * k / np.maximum(shared, 1e-12))


def knowing(groups: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Neighbours (n, k) in an embedding made of the group of each patient (n,) and of noise, which is its own."""
    rng, groups = np.random.default_rng(seed), np.asarray(groups)
    known = np.eye(groups.max() + 2)[groups]  # the last column for those of no group
    noise = rng.normal(scale=NOISE, size=(len(groups), DIMENSIONS))
    return nearest(np.column_stack([WIDE * DIMENSIONS * known, noise]), k)


def given_groups(one: np.ndarray, two: np.ndarray, groups: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Mean common neighbours (draws,) if patients of the second embedding change places within their group only."""
    places = chance.places(len(one), draws, seed, groups)
    return chance.permuted({"one": one, "two": two}, places, np.asarray(groups) >= 0)[:, 0]


def ladder(one: np.ndarray, two: np.ndarray, groups: np.ndarray, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """What cheaper reasons reach for a pair, and what is observed: level, shared, low, high (NaN where exact)."""
    n, k = one.shape
    strangers = chance.permuted({"one": one, "two": two}, chance.places(n, draws, seed))[:, 0]
    inside = given_groups(one, two, groups, draws, seed)
    both = [knowing(groups, k, seed + 1), knowing(groups, k, seed + 2)]
    rows = [
        ("chance", chance.expected(n, k), *np.quantile(strangers, overlap.QUANTILES)),
        ("the same hubs", hub_level(one, two), np.nan, np.nan),
        ("the stage, as far as these two know it", inside.mean(), *np.quantile(inside, overlap.QUANTILES)),
        ("the stage, if both knew it fully", overlap.shared(*both).mean(), np.nan, np.nan),
        ("observed", overlap.shared(one, two).mean(), np.nan, np.nan),
    ]
    return pd.DataFrame(rows, columns=["level", "shared", "low", "high"])


def as_published() -> pd.DataFrame:
    """The study's overlaps as published, one row a pair and cohort, beside chance at that number of samples.

    cohort, model_a, model_b, shared, n, chance, times (shared by chance), groups (:func:`groups_like`), status, source.
    """
    table = published.figures("overlap").rename(columns={"mean_shared_neighbours_of_10": "shared"})
    unknown = set(table["cohort"]) - set(SAMPLES)
    if unknown:
        raise WorkshopError(
            f"number of samples behind the published overlaps of {', '.join(sorted(unknown))} not known"
        )
    n = table["cohort"].map(SAMPLES)
    table = table.assign(n=n, chance=PUBLISHED_K**2 / (n - 1))
    return table.assign(times=table["shared"] / table["chance"], groups=groups_like(table["shared"], n))
