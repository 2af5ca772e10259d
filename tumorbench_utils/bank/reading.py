"""Read patches and their masks from a finished bank."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import storage
from ..patches import AIR, AXES, crop, oriented, padded
from .plans import EXCLUDED, MASKS, REGIONS, ROWS, SHAPE, START, VOXEL
from .seeds import NO_MASK, BankError


class Bank:
    """A finished bank, to read patches and masks from: a folder, or an URL to which :func:`storage.push` put one.

    ``rows`` is its table, whose ``mask_reason`` says why a sample has no mask and is empty if it has one; ``spacing``
    (3,) mm along R, A, S. Of a bank at an URL each region is fetched when it is read, and only the last one is kept.
    """

    def __init__(self, path: str | Path):
        import zarr

        self.path = storage.place(path)
        storage.check(self.path)
        if not (self.path / ROWS).exists():
            raise BankError(f"{path}: no patch bank; the data curation notebook builds it")
        self.rows = pd.read_parquet(storage.opened(self.path / ROWS))
        if "mask_reason" not in self.rows:  # of a bank from before there were masks
            self.rows["mask_reason"] = NO_MASK
        self.excluded = pd.read_csv(storage.opened(self.path / EXCLUDED), dtype={"sample_id": str})
        self.spacing = tuple(zarr.open_group(storage.store(self.path), mode="r").attrs["spacing_mm"])
        self._regions = zarr.open_array(storage.store(self.path / REGIONS), mode="r")
        self._region = _entries(self._regions, path)
        if (self.path / MASKS).exists():
            self._drawn = _entries(zarr.open_array(storage.store(self.path / MASKS), mode="r"), path)

    def patch(self, row, size: tuple[int, int, int], axes: str = "RAS", pad: int = AIR) -> np.ndarray:
        """The patch (``size``, int16 HU) of one row of ``rows``, its axes turned to ``axes``.

        What the border of the image cut off is padded with ``pad`` HU on both sides, after the turn, as released.
        """
        return _cut(self._region, row, size, axes, pad)

    def mask(self, row, size: tuple[int, int, int], axes: str = "RAS") -> np.ndarray | None:
        """Booleans (``size``): where the tumour is in :meth:`patch`; False beyond the border of the image.

        None if the sample has no mask. All may be False if the seed point lies off the tumour.
        """
        return None if row.mask_reason else _cut(self._drawn, row, size, axes, False)

    def patches(
        self, size: tuple[int, int, int], axes: str = "RAS", pad: int = AIR, trials: Sequence[int] | None = None
    ) -> Iterator[tuple]:
        """(row, patch) of every row in the bank's order, or of the given trials; see :meth:`patch`."""
        rows = self.rows if trials is None else self.rows[self.rows["trial"].isin(trials)]
        for row in rows.itertuples():
            yield row, self.patch(row, size, axes, pad)


def _entries(array, origin: str | Path) -> Callable[[int], np.ndarray]:
    """An entry of an array by its number; the last one is kept, since seeds of a sample come together."""

    @functools.lru_cache(maxsize=1)
    def entry(number: int) -> np.ndarray:
        with storage.explained(storage.place(origin)):
            return array[number]

    return entry


def _cut(region: Callable[[int], np.ndarray], row, size: tuple[int, int, int], axes: str, pad: float) -> np.ndarray:
    """The box around a row's seed point from the region of its entry, turned and padded."""
    voxel, start, shape = (np.array([getattr(row, name) for name in names]) for names in (VOXEL, START, SHAPE))
    turned_back = np.empty(3, int)
    turned_back[[AXES[letter][0] for letter in axes]] = size
    low, high = np.stack(crop(voxel, turned_back, shape)) - start
    return padded(oriented(region(int(row.entry))[tuple(map(slice, low, high))], axes), size, pad)
