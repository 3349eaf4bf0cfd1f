"""Cache the shards of a Hub dataset on disk: huggingface_hub downloads each once, into its own cache.

That cache works with `hf cache`, is shared by runs, processes and other programs, and takes only complete files. Its
size is not limited: in the end it holds every shard of the split.
"""

import contextlib
import os
import re
from pathlib import Path
from urllib.parse import unquote

from ..errors import DataError
from ..hub.download import download
from ..hub.retry import is_transient

HUB_CACHE = "hub"
"""As a folder name: the cache of huggingface_hub (HF_HOME, HF_HUB_CACHE)."""

_FILE = re.compile(r"hf://datasets/(?P<repo>[^/]+/[^/@]+)@(?P<revision>[^/]+)/(?P<path>.+)")


class ShardCache:
    """The cached shards of one split.

    Args:
        folder: in the layout of huggingface_hub's cache; `HUB_CACHE` is that cache.
        files: the URL of each shard, `hf://datasets/org/name@commit/path`.

    Raises:
        DataError: when a shard is not on the Hub.
    """

    def __init__(self, folder: str, *, files: list[str]) -> None:
        self.folder = _resolve_cache_folder(folder)
        matches = map(_FILE.fullmatch, files)
        self._hub_files = [(match["repo"], unquote(match["revision"]), match["path"]) for match in matches if match]
        if len(self._hub_files) < len(files):
            raise DataError(
                f"{files[0]} lies outside of the Hub, so --cache_dir cannot keep it; leave --cache_dir out"
            )
        self.paths = [
            str(_repo_folder(self.folder, repo) / "snapshots" / revision / path)
            for repo, revision, path in self._hub_files
        ]

    def fetch(self, shard: int) -> None:
        """Download a shard, unless it is complete. One of several processes downloads, and the others wait.

        Raises:
            DataError: when it cannot be written, or stays damaged.
        """
        self._download(*self._hub_files[shard])
        self._cache_card()

    def __str__(self) -> str:
        sizes = [os.path.getsize(path) for path in self.paths if os.path.exists(path)]
        return f"{len(sizes)} of {len(self.paths)} shards ({sum(sizes) / 1e9:.1f} GB) are kept in {self.folder}"

    def _cache_card(self) -> None:
        """Cache the card too, which makes the folder a complete dataset for `--dataset` without a network."""
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError

        repo, revision, _ = self._hub_files[0]
        known = try_to_load_from_cache(repo, "README.md", self.folder, revision, "dataset")
        # Neither in the cache, nor known to be missing on the Hub.
        if known is None:
            with contextlib.suppress(EntryNotFoundError):
                self._download(repo, revision, "README.md")

    def _download(self, repo: str, revision: str, path: str) -> None:
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            download(repo, path, repo_type="dataset", revision=revision, cache_dir=self.folder)
        except LocalEntryNotFoundError as error:
            # Neither in the cache nor available: report why.
            raise error.__cause__ or error from None
        except HfHubHTTPError:
            raise
        except OSError as error:
            if is_transient(error):
                raise
            if error.errno is None:
                # The content was not what was announced, and the client discarded it.
                raise ConnectionError(str(error)) from error
            raise DataError(
                f"{path} of {repo} cannot be kept in {self.folder} ({error.strerror}); free space there, give another "
                f"--cache_dir, or leave it out"
            ) from error


def find_cached_snapshot(repo: str, folder: str) -> Path | None:
    """Return the newest cached snapshot of a Hub dataset, as `--dataset` takes it; None if there is none."""
    snapshots = _repo_folder(_resolve_cache_folder(folder), repo) / "snapshots"
    return max(snapshots.glob("*"), key=lambda path: path.stat().st_mtime, default=None)


def _resolve_cache_folder(folder: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE if folder == HUB_CACHE else folder).expanduser().absolute()


def _repo_folder(folder: Path, repo: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return folder / repo_folder_name(repo_id=repo, repo_type="dataset")
