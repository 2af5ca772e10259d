"""Where a checkpoint lies: on a Hugging Face hub, at an address, or in an installed package."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from .. import artefacts
from .base import Checkpoint

SHARD = "part.bin"  # the file of a distribution that carries a part of a checkpoint
FULL = (errno.ENOSPC, errno.EDQUOT)
BY_HAND = "A file that you have can be given instead: weights='<path>'."


class CheckpointError(RuntimeError):
    """Weights that cannot be had or do not fit; the message says why and what to do."""


def locate(checkpoint: Checkpoint, model_id: str) -> Path:
    """The file of a checkpoint on this machine, fetched if it is not there yet.

    From a Hugging Face repository by ``huggingface_hub``, with its cache, token and offline mode; from a ``url`` into
    the cache of :mod:`artefacts`; or put together from the shards of an installed package.
    """
    fetch, folder, variable = _origin(checkpoint)
    try:
        return fetch(checkpoint, model_id)
    except artefacts.ArtefactError as error:
        raise CheckpointError(f"{model_id}: {error} {BY_HAND}") from error
    except (OSError, RuntimeError) as error:  # Xet reports a full disk as a RuntimeError
        if getattr(error, "errno", None) in FULL or "No space left" in str(error):
            need = f"{checkpoint.size / 1e9:.2f} GB are needed" if checkpoint.size else "more is needed"
            raise CheckpointError(
                f"{model_id}: the disk is full: {need} in {folder()}. Make room, or move that folder with {variable}."
            ) from error
        raise


def _origin(checkpoint: Checkpoint) -> tuple[Callable[[Checkpoint, str], Path], Callable[[], Path], str]:
    """How a checkpoint is fetched, the folder it goes to, and the environment variable that moves that folder."""
    if checkpoint.repo:
        return _from_hub, hub_cache, "HF_HOME"
    return _from_url if checkpoint.url else _from_package, artefacts.cache_dir, "TUMORBENCH_CACHE"


def hub_cache() -> Path:
    """Folder in which ``huggingface_hub`` keeps files."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _from_hub(checkpoint: Checkpoint, model_id: str) -> Path:
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise CheckpointError(f"{model_id}: huggingface_hub is not installed: pip install huggingface_hub") from error
    where = f"{checkpoint.repo} (revision {checkpoint.revision})"
    try:
        path = hf_hub_download(
            checkpoint.repo, checkpoint.file, repo_type=checkpoint.repo_type, revision=checkpoint.revision
        )
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{model_id}: {checkpoint.file} of {where} is not in {hub_cache()}, and the hub cannot be reached "
            f"({_reason(error)}). Go online (without HF_HUB_OFFLINE) and try again. {BY_HAND}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"{model_id}: {where} has no file {checkpoint.file}: {page(checkpoint)}") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{model_id}: {where} has no such revision: {page(checkpoint)}") from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{model_id}: {checkpoint.repo} is gated. Accept its terms at {page(checkpoint)}, make a token at "
            f"{endpoint()}/settings/tokens and set HF_TOKEN to it (or call `hf auth login`). {BY_HAND}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{model_id}: {checkpoint.repo} is not there, or private: {page(checkpoint)}. If it is private or the "
            f"token in use has expired, set HF_TOKEN to one that may read it. {BY_HAND}"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = f"set HF_TOKEN to a token that may read {page(checkpoint)}" if status in (401, 403) else "try again"
        raise CheckpointError(f"{model_id}: the hub answered {status} for {where}: {advice}. {BY_HAND}") from error
    except Exception as error:
        if not type(error).__module__.startswith("http"):  # of the library below huggingface_hub, whichever it is
            raise
        raise CheckpointError(
            f"{model_id}: the transfer of {checkpoint.file} from {where} broke off again and again ({_reason(error)}). "
            f"Run it once more. {BY_HAND}"
        ) from error
    return Path(path)


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}"


def endpoint() -> str:
    """Address of the hub, as ``huggingface_hub`` takes it."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def page(checkpoint: Checkpoint) -> str:
    """Address at which a human reads of a checkpoint's repository, and accepts its terms."""
    kind = {"model": "", "dataset": "datasets/", "space": "spaces/"}[checkpoint.repo_type]
    return f"{endpoint()}/{kind}{checkpoint.repo}"


def _place(checkpoint: Checkpoint, model_id: str) -> str:
    return f"weights/{model_id}/{Path(checkpoint.file).name}"


def cached(checkpoint: Checkpoint, model_id: str) -> Path | None:
    """The file of a checkpoint if it is on this machine already; nothing is fetched."""
    if not checkpoint.repo:
        path = artefacts.cache_dir() / _place(checkpoint, model_id)
        return path if path.is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(
        checkpoint.repo, checkpoint.file, revision=checkpoint.revision, repo_type=checkpoint.repo_type
    )
    return Path(found) if isinstance(found, str) else None


def _from_url(checkpoint: Checkpoint, model_id: str) -> Path:
    name = _place(checkpoint, model_id)
    if checkpoint.sha256:
        return artefacts.fetch_url(checkpoint.url, checkpoint.sha256, name)
    return artefacts.fetch_recorded(checkpoint.url, name)


def _from_package(checkpoint: Checkpoint, model_id: str) -> Path:
    """The shards of the distributions that ``name[extra]`` asks for, in their order, as one file in the cache."""
    target = artefacts.cache_dir() / _place(checkpoint, model_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists() and artefacts.sha256_of(target) == checkpoint.sha256:
            return target
        found = hashlib.sha256()
        with artefacts.atomic_path(target) as temporary:
            with open(temporary, "wb") as joined:
                for shard in shards(checkpoint):
                    found.update(content := shard.read_bytes())
                    joined.write(content)
            if found.hexdigest() != checkpoint.sha256:
                raise CheckpointError(
                    f"{model_id}: SHA-256 of the weights in {checkpoint.package} is {found.hexdigest()}, expected "
                    f"{checkpoint.sha256}. Install them anew: {_pip(checkpoint)}"
                )
    return target


def shards(checkpoint: Checkpoint) -> list[Path]:
    """Paths of the shards of an installed ``name[extra]``, from the installer's records; nothing is imported."""
    name, _, extra = checkpoint.package.removesuffix("]").partition("[")
    try:
        needs = metadata.requires(name) or []
        wanted = [re.match(r"[\w.-]+", need)[0] for need in needs if re.search(rf"extra == ['\"]{extra}['\"]", need)]
        files = [file for each in wanted for file in metadata.files(each) or [] if file.name == SHARD]
    except metadata.PackageNotFoundError as error:
        raise CheckpointError(f"{error.name} is not installed: {_pip(checkpoint)}") from error
    paths = [path for path in (Path(file.locate()) for file in files) if path.is_file()]
    if not paths or len(paths) != len(wanted):
        raise CheckpointError(f"{checkpoint.package}: {len(paths)} of {len(wanted)} shards: {_pip(checkpoint)}")
    return paths


def is_installed(checkpoint: Checkpoint, model_id: str) -> bool:
    """Whether a checkpoint that comes in a package is on this machine."""
    try:
        return cached(checkpoint, model_id) is not None or bool(shards(checkpoint))
    except CheckpointError:
        return False


def _pip(checkpoint: Checkpoint) -> str:
    return f'pip install --force-reinstall "{_requirement(checkpoint)}"'


def _requirement(checkpoint: Checkpoint) -> str:
    return checkpoint.package + ("" if checkpoint.revision == "main" else f"=={checkpoint.revision}")


def source_of(checkpoint: Checkpoint, path: Path) -> str:
    """What a located file is: ``repo@commit/file``, the address, or the package with its version."""
    if not checkpoint.repo:
        return checkpoint.url or (_requirement(checkpoint) if checkpoint.package else path.name)
    parts = path.parts  # .../snapshots/<commit>/<file> in the cache of the hub
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else checkpoint.revision
    return f"{checkpoint.repo}@{commit}/{checkpoint.file}"
