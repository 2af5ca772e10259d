"""The k nearest others of every sample: exact, in blocks of rows, in little more time than the products take.

The released code asks scikit-learn for k + 1 neighbours and drops the first as the sample itself. If another sample
has the same vector (a twin), the first may be the twin, and the sample stays its own neighbour. Here the sample is
left out by its number; without twins both ways give the same neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from .base import AlignmentError, checked

if TYPE_CHECKING:
    import torch

K = 10
BLOCK = 2**27  # bytes of similarities held at a time; as many again at most go into their comparison
GROUPS = 16  # groups of columns a neighbour: enough that the k best mostly lie in k of them
TIE = 1e-12  # similarities closer than this are ordered by their exact values: products round to about 1e-15
SINGLE = 1e-5  # the same where the products were made in float32
ROUND = 2**22  # numbers of candidates' vectors held at a time

# similarities of a block of rows to all samples, of which (row, column, value) of the possible neighbours are found
Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def nearest(vectors: np.ndarray, k: int = K, device: str = "cpu", block: int = BLOCK) -> np.ndarray:
    """Numbers (n, k) of the ``k`` nearest other samples by cosine similarity, nearest first, of vectors (n, d).

    Float64 throughout; equally near ones are ordered by their number. Where products are too close to be told apart,
    the similarity is computed anew, the same way for every pair: neither blocks nor the device change the result.
    ``device`` other than "cpu" (cuda, mps) multiplies there, in float32 if it has no float64. ``block`` is in bytes;
    beside it one float64 copy of the vectors is held. :class:`AlignmentError` for fewer than k + 2 samples, and for
    vectors that are zero or not finite.
    """
    vectors = checked(vectors, k)
    unit = vectors.astype(np.float64)
    unit /= np.sqrt(np.einsum("nd,nd->n", unit, unit))[:, None]
    rows = max(1, block // (8 * len(unit)))
    found = _products(unit, k, rows) if device == "cpu" else _on_device(unit, k, rows, device)
    tie = SINGLE if device.startswith("mps") else TIE
    near = np.empty((len(unit), k), np.int32)
    for start, part in found:
        _settle(near[start : start + rows], part, start, tie, lambda row, others: _exact(unit, row, others))
    return near


def tied(vectors: np.ndarray, k: int = K) -> np.ndarray:
    """Whether (n,) a sample has a twin, or the last of its ``k`` neighbours is as near as the next, vectors (n, d).

    Of these the released way may find other neighbours than :func:`nearest`. It takes k + 3 samples.
    """
    near = nearest(vectors, k + 1)
    unit = np.asarray(vectors, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    first, last, after = (np.einsum("nd,nd->n", unit, unit[near[:, at]]) for at in (0, k - 1, k))
    return (first > 1 - TIE) | (last - after <= TIE)


def nearest_values(values: np.ndarray, k: int = K, block: int = BLOCK) -> np.ndarray:
    """Numbers (n, k) of the other samples whose value (n,) is nearest, nearest first; ties by number."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise AlignmentError(f"values are (samples,) and finite, these are {values.shape}")
    if k < 1 or len(values) < k + 2:
        raise AlignmentError(f"{len(values)} samples, but {k} neighbours of each take at least {k + 2}")
    near, rows = np.empty((len(values), k), np.int32), max(1, block // (8 * len(values)))
    for start in range(0, len(values), rows):
        similar = -np.abs(values[start : start + rows, None] - values)
        # a distance of two numbers is the same from both sides, so equal ones are equal
        _settle(near[start : start + rows], _candidates(similar, k, start, 0.0), start, 0.0, None)
    return near


def _products(unit: np.ndarray, k: int, rows: int) -> Iterator[tuple[int, Found]]:
    for start in range(0, len(unit), rows):
        yield start, _candidates(unit[start : start + rows] @ unit.T, k, start, TIE)


def _candidates(similar: np.ndarray, k: int, start: int, tie: float) -> Found:
    """The k nearest of each row of similarities (rows, n), and all that are as near as the last, ascending by number.

    The k-th best of the best of each of many groups is at most the k-th best of all: a bound below which no neighbour
    can lie, found without ordering a row.
    """
    height, n = similar.shape
    similar[np.arange(height), np.arange(start, start + height)] = -np.inf  # itself
    groups = GROUPS * k
    size = n // groups
    best = similar[:, : size * groups].reshape(height, size, groups).max(axis=1) if size > 1 else similar
    bound = np.partition(best, -k, axis=1)[:, -k]
    place = np.flatnonzero(similar >= bound[:, None] - tie)
    return place // n, place % n, similar.ravel()[place]


def _on_device(unit: np.ndarray, k: int, rows: int, device: str) -> Iterator[tuple[int, Found]]:
    import torch

    single = device.startswith("mps")  # which has no float64
    there = torch.from_numpy(unit).to(torch.float32 if single else torch.float64).to(device)
    for start in range(0, len(unit), rows):
        similar = there[start : start + rows] @ there.T
        yield start, _candidates_there(similar, k, start, SINGLE if single else TIE)


def _candidates_there(similar: torch.Tensor, k: int, start: int, tie: float) -> Found:
    import torch

    itself = torch.arange(len(similar), device=similar.device)
    similar[itself, itself + start] = -torch.inf
    bound = similar.topk(k, dim=1).values[:, -1:]
    row, column = torch.nonzero(similar >= bound - tie, as_tuple=True)
    return tuple(each.cpu().numpy() for each in (row, column, similar[row, column].double()))


def _settle(near: np.ndarray, found: Found, start: int, tie: float, exact: Callable | None) -> None:
    """Write the nearest (rows, k) of the candidates of each row into ``near``, the nearest first."""
    row, column, value = found
    order = np.lexsort((-value, row))  # stable: equal ones stay ascending by number
    column, value = column[order], value[order]
    counts = np.bincount(row, minlength=len(near))
    first = np.cumsum(counts) - counts
    place = first[:, None] + np.arange(near.shape[1])
    near[:] = column[place]
    if exact is None:
        return
    # one more than the neighbours: the last of them may be as near as the first that is none
    after = np.minimum(place + 1, (first + counts - 1)[:, None])
    close = (value[place] - value[after] <= tie) & (after > place)
    for doubtful in np.flatnonzero(close.any(axis=1)):
        others = np.sort(column[first[doubtful] : first[doubtful] + counts[doubtful]])
        ordered = np.argsort(-exact(start + doubtful, others), kind="stable")
        near[doubtful] = others[ordered[: near.shape[1]]]


def _exact(unit: np.ndarray, row: int, others: np.ndarray) -> np.ndarray:
    """Cosine similarities (m,) of a row and others, each summed in the same order whatever else is asked for."""
    step = max(1, ROUND // unit.shape[1])
    parts = [(unit[others[at : at + step]] * unit[row]).sum(axis=1) for at in range(0, len(others), step)]
    return np.concatenate(parts)
