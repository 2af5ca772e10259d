"""Jobs in processes: in order, counted, with their errors, and gone when the process that started them is killed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tumorbench_utils import parallel


def square(number):
    time.sleep(0.2 if number == 0 else 0)  # the first ends last
    return number**2, os.getpid()


def fail_at(bad, folder, number):
    (folder / str(number)).touch()
    if number == bad:
        raise ValueError(f"no {number}")
    time.sleep(0.05)
    return number


def write_pid_and_wait(folder, job):
    name, seconds = job
    (folder / name).write_text(str(os.getpid()))
    time.sleep(seconds)


@pytest.mark.parametrize("workers", [1, 2, 50, None])
def test_results_are_in_the_order_of_their_jobs(workers):
    results = parallel.run(square, range(8), workers, "squares", "number")
    assert [result for result, _ in results] == [number**2 for number in range(8)]


def test_a_process_that_may_use_one_core_has_one_worker():
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    one += "from tumorbench_utils import parallel; print(parallel.processors())"
    done = subprocess.run([sys.executable, "-c", one], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1


def test_one_worker_or_one_job_stays_in_this_process_and_two_do_not():
    assert {pid for _, pid in parallel.run(square, range(3), 1, "squares", "number")} == {os.getpid()}
    assert {pid for _, pid in parallel.run(square, range(1), 8, "squares", "number")} == {os.getpid()}
    elsewhere = {pid for _, pid in parallel.run(square, range(8), 2, "squares", "number")}
    assert os.getpid() not in elsewhere and 1 <= len(elsewhere) <= 2


def test_one_worker_needs_no_job_that_travels():
    assert parallel.run(lambda number: -number, [1, 2], 1, "negatives", "number") == [-1, -2]


def test_nothing_to_do_is_done():
    assert parallel.run(square, [], 2, "squares", "number", done=3) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bar_counts_what_was_done_before(workers, capsys):
    parallel.run(square, range(3), workers, "squares", "number", done=2)
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("squares: 100%") and " 5/5 " in last


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_job_arrives_and_later_jobs_are_not_begun(workers, tmp_path):
    with pytest.raises(ValueError, match="no 1"):
        parallel.run(partial(fail_at, 1, tmp_path), range(200), workers, "jobs", "job")
    begun = {int(path.name) for path in tmp_path.iterdir()}
    assert {0, 1} <= begun and len(begun) < 50


def end_this_process(job):
    os._exit(3)


def test_a_worker_that_is_killed_is_an_error_and_not_a_wait():
    start = time.monotonic()
    with pytest.raises(parallel.WorkerError, match=r"jobs: a worker ended without an answer.*fewer workers"):
        parallel.run(end_this_process, range(4), 2, "jobs", "job")
    assert time.monotonic() - start < 30


RUN = """
import sys
from functools import partial
from pathlib import Path
from tests import test_parallel
from tumorbench_utils import parallel

if __name__ == "__main__":
    jobs = [("busy", 600), ("idle", 0)]  # the worker of the second waits for more
    parallel.run(partial(test_parallel.write_pid_and_wait, Path(sys.argv[1])), jobs, 2, "jobs", "job")
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    """All that a process started: workers and the tracker of Python's own."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_no_process(tmp_path, how):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    root = Path(__file__).parents[1]
    (tmp_path / "pids").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "pids")], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    started = []
    try:
        pids = [tmp_path / "pids" / name for name in ("busy", "idle")]
        until(lambda: process.poll() is not None or all(path.exists() and path.read_text() for path in pids))
        started = children(process.pid)
        workers = {int(path.read_text()) for path in pids}
        assert len(workers) >= 1 and workers <= set(started) and all(map(is_running, started))
        process.send_signal(how)
        process.wait(10)
        until(lambda: not any(map(is_running, started)))
    finally:
        process.kill()
        for pid in filter(is_running, started):
            os.kill(pid, signal.SIGKILL)
