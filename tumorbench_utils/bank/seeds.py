"""The seed points of a bank: the annotated ones, jittered ones, and the masks that go with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

SEEDS = ["sample_id", "trial", "image", "x", "y", "z"]
NO_SEED, NO_PATCH, NO_MASK = "no image or no seed point", "the patch lies outside the image", "no mask"
FAR_MM = 100  # a trial further from the annotated seed point is a mistake, and would make every region as large


class BankError(ValueError):
    """A patch bank, or a table of seed points, that cannot be used; the message says which and why."""


def seed_points(
    annotations: pd.DataFrame, trials: int = 0, sigma_mm: float | Sequence[float] = 4.0, seed: int = 0
) -> pd.DataFrame:
    """The seed points of a bank: trial 0 is the annotated one, trials 1 to ``trials`` are jittered.

    The jitter is normal with ``sigma_mm`` on every axis (the study: 50 trials of variance 16 mm2). It depends on the
    sample's name alone, so that more samples or another order change nothing. With several sizes the next ``trials``
    are of the second size, and so on: the same shifts, made larger or smaller, so that sizes are compared in pairs.
    Columns: those of ``SEEDS``. Raises :class:`BankError` if columns lack or sizes are not above zero, each once.
    """
    sizes = np.atleast_1d(np.asarray(sigma_mm, float))
    if not len(sizes) or not (np.isfinite(sizes) & (sizes > 0)).all() or len(set(sizes)) < len(sizes):
        raise BankError(f"sizes of the jitter must be numbers of mm above zero, each once, not {sigma_mm}")
    missing = {"sample_id", "image", "x", "y", "z"} - set(annotations)
    if missing:
        raise BankError(
            f"no column {', '.join(sorted(missing))} in the annotations: a bank needs images and seed points"
        )
    tables = [annotations.assign(trial=0)[SEEDS]]
    if trials:
        shifts = np.stack([_shifts(name, trials, sizes, seed) for name in annotations["sample_id"]])
        for trial in range(1, trials * len(sizes) + 1):
            moved = annotations[["x", "y", "z"]] + shifts[:, trial - 1]
            tables.append(annotations.assign(trial=trial, **moved)[SEEDS])
    return pd.concat(tables).sort_values("trial", kind="stable").reset_index(drop=True)


def _shifts(name: str, trials: int, sizes: np.ndarray, seed: int) -> np.ndarray:
    """Shifts (trials x sizes, 3) mm of one sample, size by size."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    drawn = np.random.default_rng(list(digest)).normal(0, 1, (trials, 3))
    return np.concatenate([size * drawn for size in sizes])


def checked(seeds: pd.DataFrame, masks: Mapping[str, str] | pd.Series | None = None) -> pd.DataFrame:
    """A table of seed points that can be used, numbers that are not finite as NaN, with a column ``mask``.

    ``mask`` is the path of the sample's mask, or None. Raises :class:`BankError`.
    """
    missing = set(SEEDS) - set(seeds)
    if missing:
        raise BankError(f"no column {', '.join(sorted(missing))} in the table of seed points")
    nameless = seeds[["sample_id", "trial"]].isna().any(axis=1)
    if nameless.any():
        raise BankError(f"{nameless.sum()} seed points without sample_id or trial, first in row {nameless.argmax()}")
    seeds = seeds.assign(sample_id=seeds["sample_id"].astype(str))
    twice = seeds[seeds.duplicated(["sample_id", "trial"])]
    if len(twice):
        raise BankError(f"seed points given twice: {_names(twice)}")
    strange = seeds[~seeds["sample_id"].isin(seeds.loc[seeds["trial"] == 0, "sample_id"])]
    if len(strange):
        raise BankError(f"samples without trial 0, the annotated seed point: {_names(strange)}")
    moving = seeds.drop_duplicates(["sample_id", "image"])
    if moving["sample_id"].duplicated().any():
        raise BankError(f"samples in more than one image: {_names(moving[moving['sample_id'].duplicated()])}")
    finite = seeds[["x", "y", "z"]].astype(float).replace([np.inf, -np.inf], np.nan)
    seeds = seeds[SEEDS].assign(**finite).reset_index(drop=True)
    far = np.linalg.norm(moved(seeds), axis=1) > FAR_MM  # NaN is not
    if far.any():
        raise BankError(f"trials more than {FAR_MM} mm from trial 0, to mend or leave out: {_names(seeds[far])}")
    paths = _mask_paths(masks)
    return seeds.assign(mask=pd.Series([paths.get(name) for name in seeds["sample_id"]], dtype=object))


def _mask_paths(masks: Mapping[str, str] | pd.Series | None) -> dict[str, str]:
    given = pd.Series(masks, dtype=object).dropna()
    table = pd.DataFrame({"sample_id": given.index.astype(str), "mask": given.astype(str).to_numpy()})
    twice = table.drop_duplicates()["sample_id"].duplicated(keep=False)
    if twice.any():
        raise BankError(f"samples with more than one mask: {_names(table.drop_duplicates()[twice])}")
    return dict(zip(table["sample_id"], table["mask"], strict=True))


def moved(seeds: pd.DataFrame) -> np.ndarray:
    """How far (n, 3) mm each seed point lies from trial 0 of its sample."""
    origin = seeds[seeds["trial"] == 0].set_index("sample_id")[["x", "y", "z"]]
    return seeds[["x", "y", "z"]].to_numpy() - origin.loc[seeds["sample_id"]].to_numpy()


def _names(rows: pd.DataFrame) -> str:
    names = list(dict.fromkeys(rows["sample_id"]))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
