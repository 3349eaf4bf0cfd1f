"""Resolve the paths of an index file, and raise an error for paths that lead out of its folder.

An index file inside a data folder may come from anyone, so it may list only files of that folder: no `../`, no other
absolute paths, no links that lead out. `--allow_paths` allows further folders. A list that the user names may name any
file.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from .path_policy import ALLOW_PATHS_FLAG, CONTROL_CHARACTERS
from .tables import has_file_extension
from .video_files import PLAYLIST_EXTENSIONS

# Lists of other files, and texts that are often stored with videos.
NON_VIDEO_EXTENSIONS = PLAYLIST_EXTENSIONS | frozenset(".csv .json .jsonl .md .smi .tsv .txt .xml .yaml .yml".split())
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class IndexPathResolver:
    """Find the files that the rows of an index file name, if they may name them.

    Args:
        root: the folder that paths are relative to.
        allowed: by `parse_allowed_paths`; the folders among them are allowed too.
        is_trusted: the user named the list, so it may name any file.
    """

    def __init__(self, root: Path, *, allowed: Sequence[str] = (), is_trusted: bool = False) -> None:
        self.root, self.is_trusted, self._base = root, is_trusted, os.fspath(root)
        self._real_paths: dict[str, str] = {}
        self._files_by_stem: dict[str, dict[str, tuple[str, ...]]] = {}
        self._allowed_folders = [
            os.path.realpath(folder)
            for folder in (str(root), *_hub_cache_folders(root), *filter(os.path.isabs, allowed))
        ]

    def resolve_path(self, text: str) -> str:
        """Return the path of a row's file relative to the root, in posix style.

        A path with backslashes, in another Unicode form, without its extension, or with a leading slash but under the
        root, is resolved if there is exactly one such file.

        Raises:
            ValueError: for a path that is empty, leads to no file, to a playlist or to a forbidden place; the message
                follows the path in a sentence.
        """
        if not text:
            raise ValueError("it has no path")
        if CONTROL_CHARACTERS.search(text):
            raise ValueError("its path holds control characters")
        if "://" in text:
            raise ValueError("it is a URL; an index file lists files: download it and give its path")
        path = next(filter(None, map(self._existing_file, self._candidate_paths(text))), None)
        if path is None:
            outside = os.path.isabs(text) or self._relative_path(text).startswith("../")
            if outside and not self.is_trusted:
                raise ValueError(self._outside_message(text, "its path leads"))
            raise ValueError("it is listed, but is not there")
        ending = os.path.splitext(path)[1]
        if ending.lower() in NON_VIDEO_EXTENSIONS:
            raise ValueError(f"it is no video but a list or playlist ({ending})")
        if not self.is_trusted and not self.is_within_allowed(path):
            is_link = not (os.path.isabs(text) or path.startswith("../"))
            raise ValueError(self._outside_message(path, "a link in its path leads" if is_link else "its path leads"))
        return path

    def has_file(self, text: str) -> bool:
        """Return whether `resolve_path` finds a file."""
        try:
            return bool(self.resolve_path(text))
        except ValueError:
            return False

    def _candidate_paths(self, text: str) -> list[str]:
        """Return the paths that a text may mean, the most likely first."""
        plain = os.path.expanduser(text) if self.is_trusted else text
        texts = [plain]
        if "\\" in plain and not _DRIVE.match(plain):
            texts.append(plain.replace("\\", "/"))
        texts += [form for name in list(texts) for form in _unicode_variants(name)]
        if plain.startswith("/"):
            texts.append(plain.lstrip("/"))
        return texts

    def _relative_path(self, text: str) -> str:
        inner = posixpath.normpath(text)
        if not inner.startswith(("/", "..")) and os.sep == "/":
            return inner
        return Path(os.path.relpath(self.root / text, self.root)).as_posix()

    def _existing_file(self, text: str) -> str | None:
        relative = self._relative_path(text)
        if os.path.isfile(os.path.join(self._base, relative)):
            return relative
        if has_file_extension(relative):
            return None
        # Lists of ids leave out the extension.
        folder, name = posixpath.split(relative)
        if folder not in self._files_by_stem:
            self._files_by_stem[folder] = _list_files_by_stem(os.path.join(self._base, folder))
        same = self._files_by_stem[folder].get(name, ())
        return posixpath.join(folder, same[0]) if len(same) == 1 else None

    def is_within_allowed(self, relative: str) -> bool:
        """Return whether a file is in the root or an allowed folder, after links are followed."""
        path = os.path.join(self._base, relative)
        folder, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(self._real_folder(folder), name)
        return any(real.startswith(folder.rstrip(os.sep) + os.sep) for folder in self._allowed_folders)

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real_paths:
            self._real_paths[folder] = os.path.realpath(folder)
        return self._real_paths[folder]

    def _outside_message(self, relative: str, cause: str) -> str:
        folder = os.path.dirname(os.path.realpath(self.root / relative))
        return (
            f"it lies outside of {self.root.name or self.root}: {cause} out of the data folder; "
            f"{ALLOW_PATHS_FLAG} {folder} opens that folder"
        )


def _unicode_variants(name: str) -> list[str]:
    """Return a name in the other Unicode forms, because macOS stores accents as separate characters."""
    forms = [unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]
    return [form for form in forms if form != name]


def _list_files_by_stem(folder: str) -> dict[str, tuple[str, ...]]:
    """Return the files of a folder by their names without extension."""
    by_stem: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no such folder: nothing in it is listed
        return {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if has_file_extension(name) and ending.lower() not in NON_VIDEO_EXTENSIONS:
            by_stem.setdefault(stem, []).append(name)
    return {stem: tuple(files) for stem, files in by_stem.items()}


def _hub_cache_folders(root: Path) -> list[str]:
    """Return the folders that a snapshot in huggingface_hub's cache links to: its blobs."""
    real = Path(os.path.realpath(root))
    folders = (real, *real.parents)
    return [str(parent.parent.parent / "blobs") for parent in folders if parent.parent.name == "snapshots"]
