"""Does a higher risk go with an earlier death? Concordance and error of risks when some patients are censored.

Harrell's C, Antolini's C of survival curves and the cumulative/dynamic AUC are each a mean over pairs of patients:
of a weight (may the pair be compared, and how much does it count) and a credit (1 right, 1/2 tie, 0 wrong). So one
:class:`Pairs` serves all three, and a bootstrap over patients is two matrix products.

Conventions. A pair can be compared if the first dies before the second dies or leaves; one who dies on the day on
which another is censored died first; two deaths on one day cannot be compared. Equal predictions count one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TIE = 1e-12  # predictions that differ by less are equal: products of a Kaplan-Meier curve round differently


class SurvivalError(ValueError):
    """Follow-up with which nothing can be learnt or scored; the message says why."""


@dataclass(frozen=True)
class Pairs:
    """``weight`` and ``credit`` (n, n) of patient i (row), who dies, and patient j (column), who lives on."""

    weight: np.ndarray
    credit: np.ndarray

    @property
    def value(self) -> float:
        """Mean credit; NaN where no pair can be compared."""
        total = self.weight.sum()
        return float((self.weight * self.credit).sum() / total) if total > 0 else float("nan")


def checked(time: Sequence[float], event: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Follow-up (n,) in days as float and (n,) events as bool; :class:`SurvivalError` for anything else."""
    time, event = np.asarray(time, float), np.asarray(event, float)
    if time.shape != event.shape or time.ndim != 1 or not len(time):
        raise SurvivalError(f"follow-up must be one time and one event a patient; got {time.shape} and {event.shape}")
    strange = ~(np.isfinite(time) & (time >= 0) & np.isin(event, (0.0, 1.0)))
    if strange.any():
        row = strange.argmax()
        raise SurvivalError(
            f"{strange.sum()} of {len(time)} patients have a time that is missing or negative, or an event that is not "
            f"0 or 1; the first is row {row}: time {time[row]:g}, event {event[row]:g}"
        )
    return time, event == 1


def comparable(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """(n, n): True where patient i is known to die before patient j."""
    sooner = time[:, None] < time[None, :]
    same_day = (time[:, None] == time[None, :]) & ~event[None, :]
    return event[:, None] & (sooner | same_day)


def harrell(time: Sequence[float], event: Sequence[float], risk: Sequence[float]) -> Pairs:
    """Harrell's C of (n,) risks. Harrell et al., JAMA 247, 2543-2546 (1982)."""
    time, event = checked(time, event)
    risk = np.asarray(risk, float)
    return Pairs(comparable(time, event).astype(np.float32), _credit(risk[:, None] - risk[None, :]))


def antolini(time: Sequence[float], event: Sequence[float], survival: np.ndarray) -> Pairs:
    """Time-dependent C: who dies had at that time the lower survival. Antolini et al., Stat Med 24, 3927 (2005).

    ``survival`` (n, n) is S(time of i | patient j). Where curves never cross it is Harrell's C, but that patients whose
    curves are equal at a time (all 1 before the first death of the training part) are tied there.
    """
    time, event = checked(time, event)
    own = np.diag(survival)[:, None]
    return Pairs(comparable(time, event).astype(np.float32), _credit(survival - own))


def _credit(difference: np.ndarray) -> np.ndarray:
    return (0.5 * (np.sign(np.where(np.abs(difference) < TIE, 0, difference)) + 1)).astype(np.float32)


def at(times: np.ndarray, curves: np.ndarray, when: Sequence[float], start: float = 1.0) -> np.ndarray:
    """Step functions ``curves`` (n, t), which change on ``times`` (t,) ascending, at ``when`` (m,): (n, m).

    Continuous from the right; ``start`` before the first time.
    """
    whole = np.concatenate([np.full((len(curves), 1), start), curves], axis=1)
    return whole[:, np.searchsorted(times, when, side="right")]


@dataclass(frozen=True)
class Censoring:
    """``still`` (t,): probability of not being censored up to and on each of ``times`` (t,), by Kaplan and Meier."""

    times: np.ndarray
    still: np.ndarray

    def before(self, when: np.ndarray) -> np.ndarray:
        """G(t-): probability of not being censored before each time (m,)."""
        return np.concatenate([[1.0], self.still])[np.searchsorted(self.times, when, side="left")]

    def until(self, when: float) -> float:
        """G(t)."""
        return float(np.concatenate([[1.0], self.still])[np.searchsorted(self.times, when, side="right")])


def censoring(time: Sequence[float], event: Sequence[float]) -> Censoring:
    """Kaplan-Meier estimate of censoring. Who dies on a day is no longer at risk of being censored on it."""
    time, event = checked(time, event)
    times = np.unique(time)
    place = np.searchsorted(times, time)
    deaths = np.bincount(place, event, len(times))
    left = np.bincount(place, ~event, len(times))
    at_risk = len(time) - np.cumsum(deaths + left) + left
    return Censoring(times, np.cumprod(1 - left / np.maximum(at_risk, 1)))


def dynamic_auc(
    time: Sequence[float], event: Sequence[float], risk: Sequence[float], horizon: float, weights: Censoring
) -> Pairs:
    """Cumulative/dynamic AUC: dead by ``horizon`` (days) against alive after it.

    A death at t stands for 1 / G(t-) patients, so that those who were censored before the horizon are made up for;
    G is of the training part. Uno et al., J Am Stat Assoc 102, 527-537 (2007). Its value is NaN where the training
    part has nobody left at the horizon, or the test part no case or no control.
    """
    time, event = checked(time, event)
    case, control = event & (time <= horizon), time > horizon
    risk = np.asarray(risk, float)
    weight = _inverse(weights.before(time), case) if weights.until(horizon) > 0 else np.zeros(len(time))
    return Pairs((weight[:, None] * control[None, :]).astype(np.float32), _credit(risk[:, None] - risk[None, :]))


def brier(
    time: Sequence[float], event: Sequence[float], survival: np.ndarray, horizon: float, weights: Censoring
) -> float:
    """Squared error of (n,) survival at ``horizon``, weighted as in Graf et al., Stat Med 18, 2529-2545 (1999).

    Weights are 1 / G(t-) of those who died by then, 1 / G(horizon) of those alive, 0 of those censored before.
    """
    time, event = checked(time, event)
    case, control = event & (time <= horizon), time > horizon
    known = weights.until(horizon)
    if not known > 0:
        return float("nan")
    error = _inverse(weights.before(time), case) * survival**2 + control / known * (1 - survival) ** 2
    return float(error.mean())


def _inverse(probability: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where & (probability > 0), 1 / np.where(probability > 0, probability, 1), 0)


def drawn(pairs: Sequence[Pairs], rows: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """(draws,) mean value over splits, in which patient p counts ``weights[draw, p]`` times.

    ``pairs`` and ``rows`` (the patients of each test part) are by split. A split without pairs to compare in a draw
    says nothing in it.
    """
    total, valid = np.zeros(len(weights)), np.zeros(len(weights))
    for each, patients in zip(pairs, rows, strict=True):
        count = np.asarray(weights[:, patients], np.float32)
        below = np.einsum("bi,bi->b", count @ each.weight, count)
        above = np.einsum("bi,bi->b", count @ (each.weight * each.credit), count)
        total += np.where(below > 0, above / np.where(below > 0, below, 1), 0)
        valid += below > 0
    return total / np.where(valid > 0, valid, np.nan)
