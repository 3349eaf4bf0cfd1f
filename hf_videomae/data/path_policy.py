"""Decide which paths and URLs in the rows of a dataset may be opened: its own files, and what a flag allows.

Anyone can publish a dataset whose rows name `/home/you/private.mp4`, `http://127.0.0.1/` or a private repository that
your token can read. So a row may name only files of its own repository or folder. `--allow_paths` allows other hosts,
folders and repositories.
"""

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..cards.header import parse_header_or_empty
from ..credentials import redact_credentials
from ..errors import DataError
from ..redaction import redact_path
from ..video.url_allowlist import (
    ALLOWED_SCHEMES,
    AllowedURL,
    BlockedVideo,
    is_allowed_url,
    is_inside_folder,
    is_plain_url,
    url_host,
)

ALLOW_PATHS_FLAG = "--allow_paths"
_LOCAL_SCHEMES = ("file", "local")
_MAX_PATH_LENGTH = 4096
CONTROL_CHARACTERS = re.compile(r"[\0-\x1f\x7f]")
_HUB_ROOT = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)@(?P<revision>[^/]+)")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?)(:\d{1,5})?")


def parse_allowed_paths(values: Sequence[str]) -> tuple[str, ...]:
    """Return the values of `--allow_paths`: hosts and URL prefixes unchanged, folders as absolute paths.

    Raises:
        DataError: for a folder that does not exist, or a value that is none of these.
    """
    return tuple(_parse_allowed(value.strip()) for value in values)


def _parse_allowed(value: str) -> str:
    if "::" in value and "://" in value:
        raise DataError(
            f"{ALLOW_PATHS_FLAG} {value}: chains of file systems are not opened; name the host or the folder"
        )
    if "://" in value:
        scheme, _, place = value.partition("://")
        if scheme.lower() in _LOCAL_SCHEMES:
            return _require_folder(url2pathname(urlsplit(value).path))
        if not place.strip("/") or not is_plain_url(value) or scheme.lower() not in ALLOWED_SCHEMES:
            raise DataError(f"{ALLOW_PATHS_FLAG} {value}: give a host, or a URL prefix such as s3://bucket/clips")
        return value
    folder = os.path.expanduser(value)
    if os.path.isdir(folder):
        return _require_folder(folder)
    if value.startswith((".", "/", "~")) or not _HOST.fullmatch(value):
        return _require_folder(folder)
    return value


def _require_folder(path: str) -> str:
    if not os.path.isdir(path):
        raise DataError(
            f"{ALLOW_PATHS_FLAG} {path}: there is no such folder; give hosts (videos.example.org), folders, or URL "
            f"prefixes (hf://datasets/org/name, s3://bucket)"
        )
    return os.path.abspath(path)


def redact_allowed_path(value: str) -> str:
    """Return a value of `--allow_paths` for publication, without folders of this machine and network addresses."""
    if "://" in value or not _HOST.fullmatch(value) or os.path.isdir(os.path.expanduser(value)):
        return redact_path(value if "://" in value else os.path.abspath(os.path.expanduser(value)))
    is_address = value.startswith("[") or re.fullmatch(r"[\d.]+(:\d+)?", value) is not None
    return value if "." in value and not is_address else "HOST"


class RowPathResolver:
    """Resolve the paths in the rows of a dataset, if they may be opened.

    Args:
        name: of the dataset, for errors.
        root: the folder of the dataset, or `hf://datasets/org/name@revision`.
        allowed: by `parse_allowed_paths`.
    """

    def __init__(self, name: str, *, root: str, allowed: Sequence[str] = ()) -> None:
        self.name, self.root = name, root.rstrip("/") or root
        self.allowed = tuple(allowed)
        self._urls = tuple(entry for entry in self.allowed if not os.path.isabs(entry))
        self._folders = tuple(entry for entry in self.allowed if os.path.isabs(entry))
        self._is_local = "://" not in self.root

    def resolve(self, path: str) -> str | BlockedVideo:
        """Return what to open for a path or URL in a row, or a `BlockedVideo` with the reason not to."""
        if len(path) > _MAX_PATH_LENGTH:
            return BlockedVideo(_truncate(path), f"its path is longer than {_MAX_PATH_LENGTH} characters")
        if not path or CONTROL_CHARACTERS.search(path):
            return BlockedVideo(path, "its path is empty or holds control characters")
        if "://" in path or "::" in path:
            return self._resolve_url(path)
        if path.startswith("~"):
            return BlockedVideo(path, "its path names a home folder (~); write it relative to the dataset")
        if os.path.isabs(path):
            return self._resolve_absolute(path)
        if path.startswith("\\") or re.match(r"[A-Za-z]:[\\/]", path):
            return BlockedVideo(path, "its path is a Windows path; write it relative to the dataset, with /")
        inner = posixpath.normpath(path)
        if self._is_local:
            return self._resolve_local(
                os.path.join(self.root, path) if inner.startswith("..") else f"{self.root}/{inner}", path
            )
        if inner in ("..", ".") or inner.startswith("../"):
            return BlockedVideo(path, "its path leads out of the dataset (its repository); use a path inside it")
        return f"{self.root}/{inner}"

    def check_files(self, files: Sequence[str]) -> None:
        """Raise for data files outside of the dataset, which its card may name.

        Raises:
            DataError: for the first of them.
        """
        for file in files:
            resolved = self.resolve(file)
            if isinstance(resolved, BlockedVideo):
                raise DataError(f"{self.name} takes its data from {_truncate(file)}: {resolved.reason}")

    def check_rows(self, paths: Sequence[str], *, column: str) -> None:
        """Raise if none of the first videos of a dataset may be opened.

        Args:
            paths: the paths in its first rows.
            column: their column.

        Raises:
            DataError: with the flag that allows them.
        """
        refused = [video for video in map(self.resolve, paths) if isinstance(video, BlockedVideo)]
        if refused and len(refused) == len(paths):
            others = {video.reason for video in refused} - {refused[0].reason}
            more = f" (and {len(others)} other places)" if others else ""
            raise DataError(
                f"{self.name}: the videos of column {column!r} lie outside of the dataset, the first is "
                f"{_truncate(paths[0])}: {refused[0].reason}{more}"
            )

    def _resolve_absolute(self, path: str) -> str | BlockedVideo:
        if self._is_local:
            return self._resolve_local(path, path)
        return path if self._is_in_allowed_folder(path) else self._refuse_outside(path, folder=os.path.dirname(path))

    def _resolve_local(self, file: str, path: str) -> str | BlockedVideo:
        """Return a file if it is in the dataset's folder after links are followed, or in an allowed one."""
        if os.path.normpath(file) == self.root:
            return BlockedVideo(path, "its path is the dataset's folder, not a file in it")
        if is_inside_folder(file, self.root) or self._is_in_cache(file) or self._is_in_allowed_folder(file):
            return file
        how = "a link in its path leads" if os.path.normpath(file).startswith(self.root + os.sep) else ""
        return self._refuse_outside(path, folder=os.path.dirname(os.path.realpath(file)), how=how)

    def _is_in_cache(self, file: str) -> bool:
        """Return whether the cache of huggingface_hub holds a file: its snapshots link to blobs of the repository."""
        snapshot = Path(os.path.realpath(self.root))
        if snapshot.parent.name != "snapshots" or not os.path.normpath(file).startswith(self.root + os.sep):
            return False
        return is_inside_folder(file, str(snapshot.parent.parent / "blobs"))

    def _is_in_allowed_folder(self, file: str) -> bool:
        return any(is_inside_folder(file, folder) for folder in self._folders)

    def _refuse_outside(self, path: str, *, folder: str, how: str = "") -> BlockedVideo:
        where = "its repository" if not self._is_local else "its folder"
        named = os.path.normpath(folder) if os.path.isabs(folder) else "FOLDER"
        return BlockedVideo(
            path, f"{how or 'its path leads'} out of the dataset ({where}); {ALLOW_PATHS_FLAG} {named} opens it"
        )

    def _resolve_url(self, path: str) -> str | BlockedVideo:
        scheme, _, rest = path.partition("://")
        if "::" in path and scheme.lower() not in ("http", "https"):
            return self._resolve_archive_member(path)
        if scheme.lower() in _LOCAL_SCHEMES:
            local = url2pathname(urlsplit(path).path) if scheme.lower() == "file" else rest
            if urlsplit(path).netloc not in ("", "localhost") or not os.path.isabs(local):
                return BlockedVideo(path, f"its path is a {scheme}:// URL; write it relative to the dataset")
            resolved = self._resolve_absolute(local)
            return BlockedVideo(path, resolved.reason) if isinstance(resolved, BlockedVideo) else resolved
        own = self._own_repo_file(path)
        if own is not None:
            return own
        if is_allowed_url(path, self._urls):
            return AllowedURL(path, self._urls)
        return BlockedVideo(path, self._explain_refused_url(path))

    def _own_repo_file(self, url: str) -> str | None:
        """Return the file of the dataset's own repository that a URL names, at the revision in use; else None."""
        root = _HUB_ROOT.fullmatch(self.root)
        if root is None:
            return None
        for start in (self.root, f"hf://datasets/{root['repo']}"):
            inner = url.removeprefix(start + "/")
            if inner != url and ".." not in inner.split("/"):
                return f"{self.root}/{inner}"
        return None

    def _resolve_archive_member(self, path: str) -> str | BlockedVideo:
        """Return a file in a zip archive of the dataset, as `datasets` names it; no other chain of file systems."""
        first, _, archive = path.partition("::")
        member = first.removeprefix("zip://")
        if member != first and "::" not in archive and "://" not in member and ".." not in member.split("/"):
            resolved = self.resolve(archive)
            if not isinstance(resolved, (BlockedVideo, AllowedURL)):
                return f"{first}::{resolved}"
        return BlockedVideo(path, "its path is a chain of file systems (::) that leads out of the dataset")

    def _explain_refused_url(self, url: str) -> str:
        if not is_plain_url(url):
            return "its path is not a plain URL (name, password, `..`, spaces or ambiguous characters)"
        scheme, _, place = url.partition("://")
        if scheme.lower() not in ALLOWED_SCHEMES:
            return f"its path is a {scheme}:// URL, which is never opened"
        if scheme.lower() in ("http", "https"):
            return f"it lies on another host; {ALLOW_PATHS_FLAG} {url_host(url)} opens it"
        parts = place.split("/")
        num_parts = 3 if scheme.lower() == "hf" and parts[0] in ("datasets", "spaces", "buckets") else 1
        what = "in another repository or at another revision" if scheme.lower() == "hf" else "in another store"
        return f"it lies {what}; {ALLOW_PATHS_FLAG} {scheme}://{'/'.join(parts[:num_parts])} opens it"


def _truncate(text: str) -> str:
    text = redact_credentials(text)
    return text if len(text) <= 200 else f"{text[:200]}..."


def check_card_data_files(path: str, info: Any, *, allowed: Sequence[str]) -> None:
    """Raise if the card of a dataset lists data files outside of it, before `datasets` looks for them.

    Args:
        path: a folder, or `org/name`.
        info: the Hub's information on `org/name`; None for a folder.
        allowed: by `parse_allowed_paths`.

    Raises:
        DataError: for the first of these files.
    """
    root = os.path.realpath(path) if info is None else f"hf://datasets/{path}@{info.sha}"
    paths = RowPathResolver(path, root=root, allowed=allowed)
    for fields in [_read_hub_card(info)] if info is not None else _read_folder_cards(Path(path)):
        # Patterns within the dataset are skipped: what they match is checked when it is known.
        paths.check_files(
            [file for file in _list_card_data_files(fields) if "://" in file or "::" in file or _leaves_dataset(file)]
        )


def _leaves_dataset(file: str) -> bool:
    return os.path.isabs(file) or file.startswith("~") or ".." in re.split(r"[/\\]", file)


def _read_hub_card(info: Any) -> dict[str, Any]:
    card = getattr(info, "card_data", None)
    return {} if card is None else dict(card.to_dict())


def _read_folder_cards(folder: Path) -> list[dict[str, Any]]:
    import yaml

    card, settings = folder / "README.md", folder / ".huggingface.yaml"
    cards = [parse_header_or_empty(card.read_text(encoding="utf-8", errors="replace"))] if card.is_file() else []
    if settings.is_file():
        try:
            fields = yaml.safe_load(settings.read_text(encoding="utf-8", errors="replace"))
        except yaml.YAMLError as error:
            raise DataError(f"{settings} is not YAML ({' '.join(str(error).split())}); fix or remove it") from error
        cards += [fields] if isinstance(fields, dict) else []
    return cards


def _list_card_data_files(fields: dict[str, Any]) -> list[str]:
    """Return all texts under `configs`, `data_files` and `data_dir` of a card: any of them may be a path."""
    configs = fields.get("configs")
    files: list[str] = []
    for config in configs if isinstance(configs, list) else []:
        values = [config.get(name) for name in ("data_files", "data_dir")] if isinstance(config, dict) else []
        while values:
            value = values.pop()
            if isinstance(value, dict):
                values += [part for name, part in value.items() if name != "split"]
            elif isinstance(value, list):
                values += value
            elif isinstance(value, str):
                files.append(value)
    return files
