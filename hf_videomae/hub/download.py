"""Files of the Hub, whole: fetched again where a connection breaks, and compared with what the Hub says they are.

huggingface_hub names a file in its cache by what the Hub states of its content: the SHA-256 of a large file, git's
SHA-1 of a small one. It compares sizes alone, so a file that was damaged on its way, or on the disk since, is used.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..filesystem import sha256_of
from .retry import (
    RetryPolicy,
    SourceUnavailable,
    outage_retry_seconds,
    retry_first_request,
    retry_transient,
    root_cause_message,
    shard_retry_seconds,
)
from .source_errors import not_the_hub_error, source_refused_error

logger = logging.getLogger(__name__)

MAX_DOWNLOAD_ATTEMPTS = 3
"""So often a file is fetched before it is called damaged."""

_PROBE_SECONDS = 10.0
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_WEIGHT_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_CONFIG_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
)
# (path, inode, time, size) of files that were compared in this process.
_verified_files: set[tuple[str, int, int, int]] = set()


class DamagedDownload(DataError):
    """A file whose content is not what the Hub says, however often it is fetched."""


def git_sha1_of(path: Path) -> str:
    """Return git's name of a file's content: the SHA-1 of its size and its bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def matches_checksum(path: Path) -> bool:
    """Return whether a file of the client's cache holds what its name there says; True for a file elsewhere."""
    blob_path = path.resolve()
    named = blob_path.name if blob_path.parent.name == "blobs" else ""
    if not (_SHA256.fullmatch(named) or _SHA1.fullmatch(named)):
        return True
    status = blob_path.stat()
    known = (str(blob_path), status.st_ino, status.st_mtime_ns, status.st_size)
    if known in _verified_files:
        return True
    if named != (sha256_of(blob_path) if len(named) == 64 else git_sha1_of(blob_path)):
        return False
    _verified_files.add(known)
    return True


def download(
    repo: str,
    path: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> Path:
    """Return a file of the Hub by way of the client's cache, which is asked once; a damaged one is fetched again.

    Args:
        repo: `org/name`.
        path: in the repository.
        repo_type: `model` or `dataset`.
        revision: branch, tag or commit.
        cache_dir: another cache than the client's own.
        **options: of `hf_hub_download`.

    Raises:
        DamagedDownload: when it stays damaged.
    """
    from huggingface_hub import hf_hub_download

    named: dict[str, Any] = {"repo_type": repo_type, "revision": revision, "cache_dir": cache_dir}
    reason = ""
    for _ in range(MAX_DOWNLOAD_ATTEMPTS):
        try:
            found = Path(hf_hub_download(repo, path, **named, **options))
        except OSError as error:
            if not is_size_mismatch(error):
                raise
            reason = root_cause_message(error)
        else:
            if matches_checksum(found):
                return found
            reason = "its content is not what the Hub states"
            _remove_cached_file(found)
        logger.warning("%s of %s is damaged and is fetched again: %s", path, repo, reason)
    raise DamagedDownload(
        f"{path} of {repo} came damaged {MAX_DOWNLOAD_ATTEMPTS} times ({reason}); check the network (a proxy may change files) and "
        f"the disk, then try again"
    )


def is_size_mismatch(error: OSError) -> bool:
    """Return whether the client threw away what came, because it is not as large as was announced."""
    return error.errno is None and "Consistency check failed" in str(error)


def _remove_cached_file(path: Path) -> None:
    """Take a damaged file out of the cache; who has it open reads on."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def download_model(name: str) -> None:
    """Bring the files of a model of the Hub to the client's cache, whole, for `from_pretrained` to find them there.

    A Hub that is there and fails is waited for; one that does not answer at all leaves the cache to be used as it is.

    Args:
        name: `org/name`.

    Raises:
        DamagedDownload: for a file that stays damaged, or is in the cache alone.
        SourceRefused: when the Hub does not give it.
        SourceUnavailable: when the network kept failing.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    def ask() -> list[str]:
        found = HfApi().model_info(name, timeout=_PROBE_SECONDS).siblings or []
        return [sibling.rfilename for sibling in found]

    try:
        paths = retry_first_request(ask, RetryPolicy(name, seconds=shard_retry_seconds()))
    except HfHubHTTPError as error:
        raise source_refused_error(error, name, "the model") from error
    except OfflineModeIsEnabled:
        return _verify_cached_model(name)
    except (HTTPError, OSError) as error:
        # The client itself would try again for half a minute and more, whatever the patience.
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            raise SourceUnavailable(
                f"the Hub does not give it: the model {name} is not in the cache, and the Hub cannot be reached "
                f"({error}); check the name and the network, or give a folder"
            ) from error
        return _verify_cached_model(name)
    except SourceUnavailable:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            raise
        return _verify_cached_model(name)
    except (ValueError, LookupError, TypeError) as error:
        raise not_the_hub_error(error, name) from error
    retry_policy = RetryPolicy(f"the model {name}", seconds=outage_retry_seconds())
    for path in _select_model_files(paths):
        try:
            retry_transient(lambda path=path: download(name, path), retry_policy)  # type: ignore[misc]
        except HfHubHTTPError as error:
            raise source_refused_error(error, name, path) from error
        retry_policy.progress()


def _select_model_files(paths: list[str]) -> list[str]:
    """The files that transformers loads: safetensors rather than pickles, whole files rather than parts."""
    weights: list[str] = []
    for whole, index in zip(_WEIGHT_FILES, _WEIGHT_INDEX_FILES, strict=True):
        stem, _, suffix = whole.rpartition(".")
        part = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{suffix}")
        if whole in paths:
            weights = [whole]
        elif index in paths:
            weights = [index, *filter(part.fullmatch, paths)]
        if weights:
            break
    return [path for path in _CONFIG_FILES if path in paths] + weights


def _verify_cached_model(name: str) -> None:
    from huggingface_hub import try_to_load_from_cache

    for path in (*_CONFIG_FILES, *_WEIGHT_FILES, *_WEIGHT_INDEX_FILES):
        found = try_to_load_from_cache(name, path)
        if isinstance(found, str) and not matches_checksum(Path(found)):
            raise DamagedDownload(
                f"{path} of {name} is damaged in {Path(found).parent}, and the Hub cannot be reached to fetch it "
                f"again; try again with a network"
            )
