"""One pass over a bank for all encoders that it feeds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..bank import Bank
from ..models.encoder import Encoder, Usage
from .records import ExtractionError
from .tasks import Task, fault, keep

AHEAD = 2  # grains that are read ahead
EARLY = 16  # vectors, after which an encoder that gave none of use is stopped
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


@dataclass
class _Tally:
    """What one encoder has done: its usage before the pass, the seconds in it, and how much of use came out of it."""

    before: Usage
    useful: int
    seconds: float = 0.0


def encode(bank: Bank, tasks: Sequence[Task], batch: int | None, progress: bool) -> dict[str, dict]:
    """One pass over a bank for all encoders that it feeds; a row of timings for each."""
    rows, grains = tasks[0], range(tasks[0].grains)  # all tasks of a bank share both
    due = {number: [task for task in tasks if not task.file(number).exists()] for number in grains}
    tallies = {task.name: _Tally(replace(task.maker.usage), sum(task not in due[n] for n in grains)) for task in tasks}
    jobs = [(number, rows.rows_of(number), {_feed(task) for task in due[number]}) for number in grains if due[number]]
    total, todo = len(rows.rows) * len(tasks), sum(len(part) * len(due[number]) for number, part, _ in jobs)
    title = ", ".join(tallies) if len(tasks) < 4 else f"{len(tasks)} encoders"
    bar = tqdm(total=total, initial=total - todo, desc=title, unit="image", disable=not progress, bar_format=BAR)
    begun, written = time.perf_counter(), None
    with bar, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        for number, patches in _ahead(reader, partial(_read, bank), jobs):
            for task in due[number]:
                vectors, reasons = _embed(task, patches[_feed(task)], batch, tallies[task.name])
                if written:
                    written.result()
                written = writer.submit(keep, task.file(number), vectors, reasons)
                bar.update(len(vectors))
        if written:
            written.result()
    whole = time.perf_counter() - begun
    return {task.name: _timing(task.maker, tallies[task.name], whole) for task in tasks}


def _embed(task: Task, patches: np.ndarray, batch: int | None, tally: _Tally) -> tuple[np.ndarray, list[str]]:
    """Vectors of one grain, and what is wrong with each. An encoder of which none is of use is not run for hours."""
    start = time.perf_counter()
    vectors = task.maker.vectors(patches, batch)
    tally.seconds += time.perf_counter() - start
    reasons = [fault(vector) for vector in vectors]
    tally.useful += reasons.count("")
    if not tally.useful and task.maker.usage.samples - tally.before.samples >= EARLY:
        raise ExtractionError(f"{task.name}: stopped, since none of its first vectors is of use: {reasons[0]}")
    return vectors, reasons


def _timing(maker: Encoder, tally: _Tally, whole: float) -> dict:
    images = maker.usage.samples - tally.before.samples
    return {
        "images": images,
        "seconds": tally.seconds,
        "forward_seconds": maker.usage.seconds - tally.before.seconds,
        "images_per_second": images / tally.seconds if images else float("nan"),
        "pass_seconds": whole,
        "peak_bytes": maker.usage.peak_bytes,
    }


def _feed(task: Task) -> tuple:
    """What two encoders must have in common to be given the same patches."""
    recipe = task.maker.recipe
    return tuple(recipe.size), recipe.axes, recipe.pad


def _read(bank: Bank, job: tuple[int, pd.DataFrame, set]) -> tuple[int, dict[tuple, np.ndarray]]:
    """The patches (n, *size) of one grain by feed; row by row, so that a region is read once for all."""
    number, rows, feeds = job
    patches = {feed: np.empty((len(rows), *feed[0]), np.int16) for feed in feeds}
    for place, row in enumerate(rows.itertuples()):
        for feed, into in patches.items():
            into[place] = bank.patch(row, *feed)
    return number, patches


def _ahead(pool: ThreadPoolExecutor, function: Callable, jobs: Sequence) -> Iterator:
    """``function`` of every job in their order, a few of them done ahead."""
    waiting: deque[Future] = deque()
    for job in jobs:
        waiting.append(pool.submit(function, job))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
