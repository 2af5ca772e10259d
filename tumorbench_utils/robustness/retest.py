"""Test and retest: is a patient's second scan nearer to the first than another patient's is, and by how much?

A cosine similarity near 1 between two scans of a patient says nothing by itself: an embedding that gives the same
vector for everybody has it too. So it is held against the cosine between different patients.

Whether one similarity is higher than another is decided by the distance between the vectors at length 1. Encoders are
exact to about 7e-7 of the length of a vector (other batches, other kernels), which moves that distance by twice as
much: distances that differ by less than ``TIE`` are ties, and ties count against the model. Embeddings of which all
cosines are near 1 can still be told apart: a cosine of 0.999997 is a distance of 0.0024, a thousand times ``TIE``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import statistics
from . import agreement
from .agreement import RobustnessError

TIE = 2e-6  # distance between vectors of length 1
FEWEST = 3  # pairs: with two, a bootstrap draws one patient alone every other time
NOT_JUDGED = "not judged"  # the verdict on fewer
IDENTIFIED = 0.9  # identification rate from which an embedding may be called usable
GOOD = 0.75  # median ICC: "good" of Koo & Li, J Chiropr Med 15, 155-163 (2016), doi 10.1016/j.jcm.2016.02.012
SCANS = ("test", "retest")
QUANTITIES = (
    "within-patient cosine",
    "between-patient cosine",
    "gap",
    "separation",
    "identification rate",
    "median ICC",
)
CHUNK = 2**20  # numbers of a bootstrap held at a time, in each of a few arrays
LOST = 1e-12  # share of a dimension's variance below which it is constant in a draw
NEXT_TO_ONE = np.nextafter(1.0, 0.0)  # the highest ICC that has a Fisher z


@dataclass(frozen=True)
class Pairs:
    """``table``: patient_id, test, retest (sample ids). ``left_out``: sample_id, patient_id, reason."""

    table: pd.DataFrame
    left_out: pd.DataFrame


@dataclass(frozen=True)
class Retest:
    """What two scans of n patients say of an embedding.

    ``similar`` (n, n) cosine of test i (row) and retest j (column), ``within`` (n,) its diagonal; ``rank`` (n,) of a
    patient's own retest among all n by similarity to the test, 1 is best and ties count against it; ``icc`` (d,), NaN
    in the ``constant`` dimensions. ``summary``: quantity, value, low, high. The limits are of 95 %, patients drawn with
    replacement; draws of the median ICC are centred on the value, and the identification rate has the interval of
    Wilson (1927) for a share of n patients, :func:`statistics.wilson`. ``verdict`` is useless, weak or usable, or "not
    judged" where n is below three, for ``reason``; then all limits are NaN, and so is each value that takes more pairs.
    """

    patients: np.ndarray
    similar: np.ndarray
    within: np.ndarray
    rank: np.ndarray
    icc: np.ndarray
    constant: int
    summary: pd.DataFrame
    verdict: str
    reason: str


def pairs(annotations: pd.DataFrame) -> Pairs:
    """Pairs of scans among samples (sample_id, patient_id); a sample id ends in "-test" or "-retest".

    A patient is left out, all samples with the reason, if a scan is missing, if there are two of a kind, or if a name
    says neither. Patients keep the order of the table.
    """
    lacking = {"sample_id", "patient_id"} - set(annotations)
    if lacking:
        raise RobustnessError(f"annotations lack the column(s) {', '.join(sorted(lacking))}")
    table = annotations[["sample_id", "patient_id"]].astype(str).reset_index(drop=True)
    twice = table["sample_id"][table["sample_id"].duplicated()]
    if len(twice):
        raise RobustnessError(f"{len(twice)} samples are in the annotations more than once: {', '.join(twice[:5])}")
    kind = table["sample_id"].str.extract(r"-(test|retest)$", expand=False)
    rows, left_out = [], []
    for patient, samples in table.groupby("patient_id", sort=False):
        reason = _fault(samples["sample_id"], kind[samples.index])
        if reason:
            left_out.append(samples.assign(reason=reason))
        else:
            names = dict(zip(kind[samples.index], samples["sample_id"], strict=True))
            rows.append((patient, names["test"], names["retest"]))
    nobody = pd.DataFrame(columns=["sample_id", "patient_id", "reason"], dtype=str)
    return Pairs(
        pd.DataFrame(rows, columns=["patient_id", *SCANS], dtype=str),
        pd.concat(left_out, ignore_index=True) if left_out else nobody,
    )


def _fault(names: pd.Series, kind: pd.Series) -> str:
    """Why the samples of a patient are no pair, empty if they are one."""
    unnamed = list(names[kind.isna()])
    if unnamed:
        return f"names end in neither -test nor -retest: {', '.join(unnamed)}"
    counts = {scan: int((kind == scan).sum()) for scan in SCANS}
    faults = [f"no {scan} scan" for scan in SCANS if not counts[scan]]
    faults += [f"{counts[scan]} {scan} scans" for scan in SCANS if counts[scan] > 1]
    return ", ".join(faults)


def compare(test: np.ndarray, retest: np.ndarray, patients: Sequence, draws: int = 2000, seed: int = 0) -> Retest:
    """Hold embeddings (n, d) of two scans of the same patients (n,) against each other, row by row.

    Fewer than three pairs, none among them, are not judged. :class:`RobustnessError` for unequal shapes, a patient
    twice, and vectors that are zero or not finite.
    """
    test, retest, patients = np.asarray(test), np.asarray(retest), np.asarray(patients, str)
    if test.shape != retest.shape or test.ndim != 2 or len(test) != len(patients):
        raise RobustnessError(
            f"test {test.shape} and retest {retest.shape} of {len(patients)} patients: they must be (n, d) alike"
        )
    people, times = np.unique(patients, return_counts=True)
    if (times > 1).any():
        raise RobustnessError(f"patients with more than one pair: {', '.join(people[times > 1][:5])}")
    if not len(test):
        return _of_nobody(patients, test.shape[1])
    similar = agreement.unit(test, "test", patients) @ agreement.unit(retest, "retest", patients).T
    similar = np.clip(similar, -1, 1)
    # positive: the other patient's retest is farther than the own
    farther = _apart(similar) - _apart(np.diag(similar))[:, None]
    np.fill_diagonal(farther, 0)
    rank = (farther <= TIE).sum(axis=1)  # the own is among them
    values = agreement.icc(test, retest) if len(test) > 1 else np.full(test.shape[1], np.nan)
    constant = (np.ptp(np.vstack([test, retest]), axis=0) == 0).sum()
    few = len(test) < FEWEST
    weights = agreement.weights(patients, 0 if few else draws, seed)
    summary = _summary(similar, farther, rank, weights, _median_iccs(test, retest, weights))
    verdict, reason = _few(len(test)) if few else _verdict(similar, summary.set_index("quantity"))
    return Retest(patients, similar, np.diag(similar).copy(), rank, values, int(constant), summary, verdict, reason)


def _of_nobody(patients: np.ndarray, dimensions: int) -> Retest:
    nothing, icc = np.empty((0, 0)), np.full(dimensions, np.nan)
    summary = pd.DataFrame({"quantity": QUANTITIES, "value": np.nan, "low": np.nan, "high": np.nan})
    return Retest(patients, nothing, np.empty(0), np.empty(0, int), icc, 0, summary, *_few(0))


def _few(n: int) -> tuple[str, str]:
    return NOT_JUDGED, f"{n} {'pair' if n == 1 else 'pairs'}: it takes at least {FEWEST}"


def _apart(cosines: np.ndarray) -> np.ndarray:
    """Distance between two vectors of length 1 from their cosine."""
    return np.sqrt(2 * (1 - cosines))


def _summary(
    similar: np.ndarray, farther: np.ndarray, rank: np.ndarray, weights: np.ndarray, medians: np.ndarray
) -> pd.DataFrame:
    n, found = len(rank), rank == 1
    nearer = np.where(np.abs(farther) <= TIE, 0.5, farther > 0)  # the own retest than another patient's
    within = weights @ np.diag(similar) / weights.sum(axis=1)
    between = _of_others(weights, similar)
    drawn = {
        "within-patient cosine": within,
        "between-patient cosine": between,
        "gap": within - between,
        "separation": _of_others(weights, nearer),
        "median ICC": _centred(medians),
    }
    intervals = {name: (float(draw[0]), *agreement.limits(draw[1:])) for name, draw in drawn.items()}
    rate = float(found.mean()) if n > 1 else np.nan  # the only one is always found
    intervals["identification rate"] = (rate, *(statistics.wilson(found.sum(), n) if n >= FEWEST else [np.nan] * 2))
    return pd.DataFrame([(name, *intervals[name]) for name in QUANTITIES], columns=["quantity", "value", "low", "high"])


def _centred(drawn: np.ndarray) -> np.ndarray:
    """Draws (draws,) of a median ICC, moved so that their median is the first, the value itself.

    A patient drawn twice lowers ICCs, and over many dimensions that can outweigh their spread from draw to draw: the
    value would lie above its own interval. They are moved on Fisher's z scale, so that none exceeds 1, and by the
    median, so that the value always lies within, also where z has no end because some draws are 1.
    """
    if not np.isfinite(drawn[1:]).any():
        return drawn
    z = np.arctanh(np.clip(drawn, -NEXT_TO_ONE, NEXT_TO_ONE))
    return np.append(drawn[0], np.tanh(z[1:] - np.nanmedian(z[1:]) + z[0]))


def _of_others(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Mean (draws,) of a matrix (n, n) over pairs of different patients; NaN where one patient alone was drawn."""
    matrix = matrix - np.diag(np.diag(matrix))
    counted = np.square(weights.sum(axis=1)) - np.square(weights).sum(axis=1)
    total = np.einsum("bn,bn->b", weights @ matrix, weights)
    return np.where(counted > 0, total / np.where(counted > 0, counted, 1), np.nan)


def _median_iccs(test: np.ndarray, retest: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median ICC(2,1) over the dimensions in each draw (draws,); those constant in a draw do not count in it.
    NaN of one patient.

    With two raters the mean squares follow from weighted sums of mean and difference and of their squares, so a draw
    is four products.
    """
    if len(test) < 2:
        return np.full(len(weights), np.nan)
    both = np.stack([test, retest]).astype(np.float64)
    both -= both.mean(axis=(0, 1))
    both = both[:, :, np.square(both).sum(axis=(0, 1)) > 0]
    if not both.shape[2]:
        return np.full(len(weights), np.nan)
    means, differences = both.mean(axis=0), both[0] - both[1]
    sums = np.hstack([means, means**2, differences, differences**2])
    least = LOST * np.square(both).sum(axis=(0, 1))
    step = max(1, CHUNK // len(least))
    parts = [_medians(weights[at : at + step] @ sums, least, len(test)) for at in range(0, len(weights), step)]
    return np.concatenate(parts)


def _medians(sums: np.ndarray, least: np.ndarray, n: int) -> np.ndarray:
    mean, mean2, difference, difference2 = np.split(sums, 4, axis=1)
    subjects = 2 * np.clip(mean2 - mean**2 / n, 0, None)
    judges = difference**2 / n / 2
    error = np.clip(difference2 / 2 - judges, 0, None)
    constant = subjects + judges + error <= least
    values = agreement.icc_of_squares(subjects / (n - 1), judges, error / (n - 1), n, 2, constant)
    medians = np.full(len(values), np.nan)
    some = np.isfinite(values).any(axis=1)
    # NaN sorts last, so the median of the others is found without a slow search for them
    ordered, counted = np.sort(values[some], axis=1), np.isfinite(values[some]).sum(axis=1)
    row = np.arange(len(ordered))
    medians[some] = (ordered[row, (counted - 1) // 2] + ordered[row, counted // 2]) / 2
    return medians


def _verdict(similar: np.ndarray, found: pd.DataFrame) -> tuple[str, str]:
    within, between = found["value"]["within-patient cosine"], found["value"]["between-patient cosine"]
    separation, low, high = found.loc["separation"]
    identified, median = found["value"]["identification rate"], found["value"]["median ICC"]
    farthest, n = _apart(similar.min()), len(similar)
    if farthest <= TIE:
        return "useless", (
            f"All vectors of {n} patients are the same but for rounding (at length 1 they lie within {farthest:.1e} of "
            f"one another), so the within-patient cosine of {within:.6f} means nothing: it is {between:.6f} between "
            "patients, too."
        )
    if not low > 0.5:
        return "useless", (
            f"The own retest is nearer than another patient's with probability {separation:.2f} ({low:.2f} to "
            f"{high:.2f}; {n} patients), which is no better than chance, so the within-patient cosine of {within:.6f} "
            f"means nothing: it is {between:.6f} between patients."
        )
    share = f"{100 * identified:.0f} %"
    figures = f"{share} of the retests of {n} patients are identified and the median ICC is {median:.2f}"
    if identified >= IDENTIFIED and median >= GOOD:
        return "usable", f"{figures}; usable asks for {100 * IDENTIFIED:.0f} % and {GOOD}."
    return "weak", f"{figures}, of which usable asks for {100 * IDENTIFIED:.0f} % and {GOOD}."
