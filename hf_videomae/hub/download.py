"""Download files of the Hub and verify them: fetch again after a broken connection or a wrong checksum.

huggingface_hub names a file in its cache by its checksum: the SHA-256 of a large file, git's SHA-1 of a small one. It
only compares sizes itself, so it would use a file that was damaged in transit, or on disk since.
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
"""Downloads of a file before it counts as damaged."""

_PROBE_SECONDS = 10.0
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_WEIGHT_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_CONFIG_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
)
# (path, inode, time, size) of the files that were verified in this process.
_verified_files: set[tuple[str, int, int, int]] = set()


class DamagedDownload(DataError):
    """Raised for a file whose content does not match the Hub's checksum after every attempt."""


def git_sha1_of(path: Path) -> str:
    """Return git's checksum of a file: the SHA-1 of its size and its bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def matches_checksum(path: Path) -> bool:
    """Return whether a file in the client's cache matches the checksum in its name; True for files elsewhere."""
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
    """Return the path of a Hub file in the client's cache; download a damaged file again.

    Args:
        repo: `org/name`.
        path: the file in the repository.
        repo_type: `model` or `dataset`.
        revision: branch, tag or commit.
        cache_dir: another cache folder than the client's.
        **options: passed to `hf_hub_download`.

    Raises:
        DamagedDownload: when every attempt was damaged.
    """
    from huggingface_hub import hf_hub_download

    named: dict[str, Any] = {"repo_type": repo_type, "revision": revision, "cache_dir": cache_dir}
    reason = ""
    for _ in range(MAX_DOWNLOAD_ATTEMPTS):
        try:
            file = Path(hf_hub_download(repo, path, **named, **options))
        except OSError as error:
            # How the client rejects a file whose size is not the announced one.
            if error.errno is not None or "Consistency check failed" not in str(error):
                raise
            reason = root_cause_message(error)
        else:
            if matches_checksum(file):
                return file
            reason = "its content does not match the Hub's checksum"
            # Processes that have the file open can still read it.
            file.resolve().unlink(missing_ok=True)
            file.unlink(missing_ok=True)
        logger.warning("%s of %s is damaged and is downloaded again: %s", path, repo, reason)
    raise DamagedDownload(
        f"{path} of {repo} came damaged {MAX_DOWNLOAD_ATTEMPTS} times ({reason}); check the network (a proxy may "
        f"change files) and the disk, then try again"
    )


def download_model(name: str) -> None:
    """Download a Hub model to the client's cache and verify it, for `from_pretrained` to find it there.

    A Hub that responds with errors is retried. If it does not respond at all, the cached files are used.

    Args:
        name: `org/name`.

    Raises:
        DamagedDownload: for a file that stays damaged, or is damaged in the cache while the Hub is unreachable.
        SourceRefused: when the Hub refuses a file.
        SourceUnavailable: when the network kept failing.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    def ask() -> list[str]:
        siblings = HfApi().model_info(name, timeout=_PROBE_SECONDS).siblings or []
        return [sibling.rfilename for sibling in siblings]

    try:
        paths = retry_first_request(ask, RetryPolicy(name, seconds=shard_retry_seconds()))
    except HfHubHTTPError as error:
        raise source_refused_error(error, name, "the model") from error
    except OfflineModeIsEnabled:
        return _verify_cached_model(name)
    except (HTTPError, OSError) as error:
        # The client itself would retry for half a minute and more, whatever the retry policy says.
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
        retry_policy.reset()


def _select_model_files(paths: list[str]) -> list[str]:
    """Return the files that transformers loads: safetensors rather than pickles, one file rather than shards."""
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
        cached = try_to_load_from_cache(name, path)
        if isinstance(cached, str) and not matches_checksum(Path(cached)):
            raise DamagedDownload(
                f"{path} of {name} is damaged in {Path(cached).parent}, and the Hub cannot be reached to fetch it "
                f"again; try again with a network"
            )
