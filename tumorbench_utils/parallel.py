"""Many like jobs, here or in processes of their own, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

Job, Result = TypeVar("Job"), TypeVar("Result")


class WorkerError(RuntimeError):
    """A worker process ended before its job did."""


def run(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None, title: str, unit: str, done: int = 0
) -> list[Result]:
    """``function`` of every job, in their order; ``done`` jobs were done before and only count in the bar.

    ``workers`` processes, by default one for each of :func:`processors`; with one, or one job, all happens in this
    process. The first error of a job ends the run, once the jobs that others are at are done; a worker that is killed
    is a :class:`WorkerError`.
    """
    workers = min(workers or processors(), len(jobs))
    with tqdm(total=done + len(jobs), initial=done, desc=title, unit=unit) as bar:
        if workers < 2:
            return list(_counted(map(function, jobs), bar))
        # spawned, since a fork of a process with threads (torch, Zarr, a notebook) may hang
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
            try:
                return list(_counted(pool.map(function, jobs), bar))
            except BrokenProcessPool as error:
                why = "its last words are on stderr; if it was killed for lack of memory, take fewer workers"
                raise WorkerError(f"{title}: a worker ended without an answer; {why}") from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def processors() -> int:
    """How many cores this process may use: a job of a cluster and a container have some of the machine's."""
    from joblib import cpu_count

    return cpu_count()


def _counted(results: Iterable[Result], bar: tqdm) -> Iterable[Result]:
    for result in results:
        bar.update()
        yield result


def _end_with_parent() -> None:
    """Let a worker end when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
