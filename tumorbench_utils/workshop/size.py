"""Size as a confounder: what a diameter tells by itself, and what is left of a score among tumours of one size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from .. import alignment, artefacts, statistics
from ..cohorts import lidc
from ..robustness import agreement
from .base import INPUTS, WorkshopError

RATINGS = {  # column: what a high score says, and the sign that makes it speak for malignancy
    "spiculation": ("spiculation", 1),
    "lobulation": ("lobulation", 1),
    "margin": ("unsharp margin", -1),
    "subtlety": ("obviousness", 1),
    "calcification": ("no calcification", 1),
}
DIRECTIONS = 36  # in half a turn: the longest of them is at most 0.1 % shorter than the longest of all
LIDC_FILES = [name for name in INPUTS if not name.startswith("tumorimagingbench")]


def nodules(run: str | Path) -> pd.DataFrame:
    """The nodules of LUNA16 that have a label, as the readers of LIDC-IDRI drew them; kept in ``run`` once made.

    Columns: nodule_id, patient_id, label; readers, diameter_mm, the mean of the readers' longest diameters in a slice,
    and diameter_low, diameter_high, their extremes; the mean ratings ``RATINGS``.
    """
    path = Path(run) / "workshop" / "luna16_nodules.csv"
    if not path.exists():
        readers = lidc.annotations()
        scans = lidc.selected_scans(readers, lidc.idc_instances())
        found, nodule_of = lidc.nodules(readers, scans.table.index)
        chosen = lidc.consensus(found).table
        table = chosen.join(drawn(readers, nodule_of[nodule_of.isin(chosen.index)]))
        columns = ["patient_id", "label", "readers", "diameter_mm", "diameter_low", "diameter_high", *RATINGS]
        inputs = {name: artefacts.sha256_of(artefacts.cache_dir() / name) for name in LIDC_FILES}
        record = artefacts.provenance({"cohort": "luna16"}, inputs)
        artefacts.write_csv(path, table[columns].reset_index(), record)
    return pd.read_csv(path, dtype={"nodule_id": str, "patient_id": str})


def inputs(run: str | Path) -> dict[str, str]:
    """SHA-256 of the files that :func:`nodules` were made of, by file name."""
    path = artefacts.provenance_path(Path(run) / "workshop" / "luna16_nodules.csv")
    return json.loads(path.read_text(encoding="utf-8"))["inputs"]


def drawn(readers: lidc.Annotations, nodule_of: pd.Series) -> pd.DataFrame:
    """Diameters by nodule, in mm: readers, diameter_mm (mean), diameter_low, diameter_high.

    ``nodule_of`` names the nodule of each annotation, by annotation_id.
    """
    points = readers.points[readers.points["annotation_id"].isin(nodule_of.index)]
    pixels = readers.readings["scan_id"].map(readers.scans["pixel_spacing"])
    diameters = longest(points) * pixels.loc[nodule_of.index]
    table = diameters.groupby(nodule_of).agg(["size", "mean", "min", "max"])
    return table.set_axis(["readers", "diameter_mm", "diameter_low", "diameter_high"], axis=1)


def longest(points: pd.DataFrame) -> pd.Series:
    """Longest diameter in a slice, by annotation_id, in the unit of x and y; ``points`` has annotation_id, z, x, y."""
    points = points.sort_values(["annotation_id", "z"], kind="stable")
    contour = points.groupby(["annotation_id", "z"], sort=False).ngroup().to_numpy()
    starts = np.flatnonzero(np.diff(contour, prepend=-1))
    found = np.zeros(len(starts))
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        along = points["x"].to_numpy() * np.cos(angle) + points["y"].to_numpy() * np.sin(angle)
        found = np.maximum(found, np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts))
    return pd.Series(found).groupby(points["annotation_id"].to_numpy()[starts]).max().rename_axis("annotation_id")


def scores(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The readers' ratings of :func:`nodules` as scores for malignancy, by what a high score says."""
    return {title: sign * table[name].to_numpy(float) for name, (title, sign) in RATINGS.items()}


def near(size: Sequence, within: float = 1.1) -> np.ndarray:
    """(n, n) which pairs are comparable: the larger of two sizes is at most ``within`` times the smaller."""
    size = np.asarray(size, float)
    if within < 1 or not (size > 0).all():
        raise WorkshopError("sizes must be positive, and pairs differ by a factor of 1 or more")
    return np.abs(np.log(size)[:, None] - np.log(size)) <= np.log(within) + 1e-12


def same(strata: Sequence) -> np.ndarray:
    """(n, n) which pairs are comparable: those of one stratum; a sample without one (NaN) is in no pair."""
    strata = np.asarray(strata)
    return strata[:, None] == strata


def compared(
    labels: Sequence,
    values: Mapping[str, np.ndarray],
    comparable: np.ndarray,
    patients: Sequence,
    draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC over all pairs of a positive and a negative sample, and over the ``comparable`` (n, n) ones alone.

    Two rows for each of ``values`` (n,): score, pairs ("all" or "comparable"), n_pairs, auc, low, high. The limits are
    of a bootstrap of patients (n,), the same draws for all.
    """
    labels = statistics.binary_labels(labels)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    counted = {
        "all": np.ones((len(positive), len(negative))),
        "comparable": comparable[np.ix_(positive, negative)] * 1.0,
    }
    if not counted["comparable"].any():
        raise WorkshopError("no positive sample is comparable to a negative one: allow a wider band")
    weights = agreement.weights(np.asarray(patients, str), draws, seed).astype(np.float64)
    rows = []
    for score, value in values.items():
        value = np.asarray(value, float)
        right = statistics.concordance(value[positive], value[negative])
        for pairs, mask in counted.items():
            won, all_pairs = (
                np.einsum("bp,bp->b", weights[:, positive] @ matrix, weights[:, negative])
                for matrix in (right * mask, mask)
            )
            auc = won / np.where(all_pairs > 0, all_pairs, np.nan)
            rows.append((score, pairs, int(mask.sum()), float(auc[0]), *np.nanquantile(auc[1:], (0.025, 0.975))))
    return pd.DataFrame(rows, columns=["score", "pairs", "n_pairs", "auc", "low", "high"])


def bands(labels: Sequence, values: Mapping[str, np.ndarray], size: Sequence, edges: Sequence[float]) -> pd.DataFrame:
    """AUC of each score within each band of size: band, samples, positives, and a column a score.

    A band is from one of ``edges`` (included) to the next; with one class only it has no AUC.
    """
    labels, size = statistics.binary_labels(labels), np.asarray(size, float)
    rows = []
    for low, high in pairwise(edges):
        inside = (size >= low) & (size < high)
        both = len(np.unique(labels[inside])) == 2
        aucs = {
            score: statistics.auc(labels[inside], value[inside]) if both else np.nan for score, value in values.items()
        }
        band = f"{low:g} to {high:g}" if np.isfinite(high) else f"from {low:g}"
        rows.append({"band": band, "samples": int(inside.sum()), "positives": int(labels[inside].sum()), **aucs})
    return pd.DataFrame(rows)


def by_band(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`bands` as a page shows it: a row a score, a column a band, the first row says how many are malignant."""
    aucs = table.drop(columns=["samples", "positives"]).set_index("band").T
    shown = aucs.map(lambda auc: "–" if np.isnan(auc) else f"{auc:.2f}")
    counts = [f"{row.positives} of {row.samples}" for row in table.itertuples()]
    first = pd.DataFrame([counts], ["malignant"], shown.columns)
    return pd.concat([first, shown]).rename_axis("diameter, mm").rename_axis(None, axis=1).reset_index()


def knows(
    vectors: np.ndarray, values: Mapping[str, Sequence], k: int = 10, draws: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Does an embedding know a quantity? Spearman correlation of each value with its mean over the k nearest others.

    ``values`` (n,) by name; samples without one (NaN) are left out, and counted. Columns: quantity, n, missing,
    rho, low, high (95 % of a bootstrap of the samples), dealt with dealt_low and dealt_high (mean and central 95 % of
    the correlation when the values are dealt anew).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for quantity, given in values.items():
        given = np.asarray(given, float)
        there = np.isfinite(given)
        value, closest = given[there], alignment.nearest(np.asarray(vectors)[there], k)
        guess = value[closest].mean(axis=1)
        samples = rng.integers(0, len(value), (draws, len(value)))
        drawn_rho = [stats.spearmanr(value[row], guess[row])[0] for row in samples]
        dealt = [rng.permutation(value) for _ in range(draws)]
        by_chance = [stats.spearmanr(each, each[closest].mean(axis=1))[0] for each in dealt]
        rho = float(stats.spearmanr(value, guess)[0])
        limits = np.quantile(drawn_rho, (0.025, 0.975))
        dealt_limits = np.quantile(by_chance, (0.025, 0.975))
        known = (quantity, len(value), int((~there).sum()), rho, *limits)
        rows.append((*known, float(np.mean(by_chance)), *dealt_limits))
    columns = ["quantity", "n", "missing", "rho", "low", "high", "dealt", "dealt_low", "dealt_high"]
    return pd.DataFrame(rows, columns=columns)


def as_angle(size: Sequence) -> np.ndarray:
    """Sizes (n,) as directions (n, 2): the logarithm becomes an angle between 0 and 90 degrees.

    Nearest neighbours are sought by cosine distance, for which all positive numbers are one and the same direction.
    """
    logs = np.log(np.asarray(size, float))
    span = np.ptp(logs)
    angle = (logs - logs.min()) / (span if span else 1) * np.pi / 2
    return np.column_stack([np.cos(angle), np.sin(angle)])
