"""Where a run's files lie: places by URL, what readers of tables and of Zarr are given for them, and manifests."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import artefacts

MANIFEST = ".manifest.json"
NO_MANIFEST = "no manifest; there is no such bucket, or nothing was pushed there"
AGAIN = "What arrived is kept, and the same call goes on from there"

Entry = tuple[int, str]  # size in bytes, SHA-256


class StorageError(artefacts.ArtefactError):
    """Object storage that cannot be reached, or a file in it that is not whole; the message says which."""


def place(path: Any, endpoint: str | None = None) -> Any:
    """A local path as :class:`pathlib.Path`; an URL as :class:`upath.UPath`, which is used like one."""
    if "://" not in str(path):
        return Path(path)
    if not isinstance(path, str):
        return path
    wanted = ["upath", *(["s3fs"] if path.startswith("s3://") else [])]
    lacking = [name for name in wanted if importlib.util.find_spec(name) is None]
    if lacking:
        raise StorageError(f'{path}: {" and ".join(lacking)} not installed: pip install "tumorbench[cloud]"')
    from upath import UPath

    options = {"use_listings_cache": False}  # another process may be pushing
    if path.startswith("s3://"):
        options["max_concurrency"] = 1  # of one object: with more, s3fs asks for the size of each one first
    return UPath(path, **options, **({"endpoint_url": endpoint} if endpoint else {}))


def opened(path: Any) -> Any:
    """What a reader of tables is given for ``path``: a local path itself, of an URL its bytes."""
    path = place(path)
    if isinstance(path, Path):
        return path
    with explained(path):
        return io.BytesIO(path.fs.cat_file(path.path))


def store(path: Any) -> Any:
    """What Zarr is given for ``path``: a local path itself, or a read-only store."""
    if isinstance(path, Path):
        return path
    from zarr.storage import FsspecStore

    return FsspecStore.from_url(str(path), storage_options=dict(path.storage_options), read_only=True)


def check(bank: Any) -> None:
    """:class:`StorageError` if a bank at an URL lacks an object of its manifest, or one has another length.

    Zarr would take a missing chunk for one that holds nothing but air.
    """
    if isinstance(bank, Path):
        return
    root = bank.parents[2]
    with explained(bank):
        entries = read_manifest(root, f"{bank.parents[1].name}/{bank.parent.name}")
        found = {str(name): info["size"] for name, info in bank.fs.find(bank.path, detail=True).items()}
    for name, (size, _) in entries.items():
        there = found.get((root / name).path)
        if name.split("/")[2] == bank.name and there != size:
            raise StorageError(f"{root / name}: {bytes_of(there)}, its manifest says {size}; push it again")


def read_manifest(root: Any, unit: str, missing: dict | None = None) -> dict[str, Entry]:
    """Size and SHA-256 by name of the files of a unit (``patches/phantom``) at ``root``; ``missing`` if it has none."""
    path = root / f"{unit}{MANIFEST}"
    try:
        content = json.loads(root.fs.cat_file(path.path))
        entries = {name: (int(each["size"]), str(each["sha256"])) for name, each in content["files"].items()}
    except FileNotFoundError as error:
        if missing is not None and root.fs.exists(root.path.split("/")[0]):
            return missing
        raise StorageError(f"{path}: {NO_MANIFEST}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{path}: not a manifest ({error}); push again") from error
    strange = [name for name in entries if ".." in name.split("/") or not name.startswith((f"{unit}/", f"{unit}."))]
    if strange:
        raise StorageError(f"{path}: lists {strange[0]!r}, which is no file of {unit}; nothing was read")
    return entries


def units_at(root: Any, kind: str) -> list[str]:
    """Units of a kind that have a manifest at ``root``."""
    try:
        names = root.fs.ls((root / kind).path, detail=False)
    except FileNotFoundError:
        return []
    manifests = [str(name).rsplit("/", 1)[-1] for name in names if str(name).endswith(MANIFEST)]
    return [f"{kind}/{name.removesuffix(MANIFEST)}" for name in sorted(manifests)]


def write_manifest(root: Any, unit: str, entries: dict[str, Entry]) -> None:
    """Write the manifest of a unit, in one request."""
    files = {name: {"size": size, "sha256": digest} for name, (size, digest) in sorted(entries.items())}
    root.fs.pipe_file((root / f"{unit}{MANIFEST}").path, json.dumps({"files": files}, indent=1).encode())


def bytes_of(size: int | None) -> str:
    """How long a file is, in words; None if it is missing."""
    return "is missing" if size is None else f"has {size} bytes"


@contextmanager
def explained(path: Any) -> Iterator[None]:
    """Errors of the storage behind an URL in words; nothing changes for a local path."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        if isinstance(path, Path):
            raise
        raise StorageError(f"{path}: {_words(error)}") from error


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket or object"
    if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
        return f"access denied ({error}): see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
    return f"the storage gave no answer, or a broken one ({type(error).__name__}: {error}). {AGAIN}"
