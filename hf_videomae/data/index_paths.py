"""Where the paths of an index file may lead, and which file a path means.

An index file inside a data folder may come from anyone, so it lists files of that folder alone: no `../`, no other
absolute paths, no links that lead out. `--allow_paths` opens further folders. A list that the user names is his own.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from .row_paths import FLAG
from .tables import looks_like_file
from .video_files import PLAYLIST_EXTENSIONS

# Lists of other files, and texts that lie beside videos.
NO_VIDEOS = PLAYLIST_EXTENSIONS | frozenset(".csv .json .jsonl .md .smi .tsv .txt .xml .yaml .yml".split())
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class IndexPaths:
    """The files that the rows of an index file may name.

    Args:
        root: the folder that paths are relative to.
        allowed: further folders that the user opened.
        is_own: the user named the list, so it may name any file.
    """

    def __init__(self, root: Path, *, allowed: Sequence[str] = (), is_own: bool = False) -> None:
        self.root, self.is_own, self._base = root, is_own, os.fspath(root)
        self._real: dict[str, str] = {}
        self._names: dict[str, dict[str, tuple[str, ...]]] = {}
        self._open = [os.path.realpath(folder) for folder in (str(root), *_cache_of(root), *allowed)]

    def find(self, text: str) -> str:
        """Return the path of a row's file relative to the root, in posix style.

        A path with backslashes, in another Unicode form, without its ending, or that begins with a slash and lies
        under the root, is found where there is one such file.

        Raises:
            ValueError: for a path that is empty, leads to no file, to a playlist, or where it may not lead; the
                message is to follow the path.
        """
        if not text:
            raise ValueError("it has no path")
        if _CONTROL.search(text):
            raise ValueError("its path holds control characters")
        if "://" in text:
            raise ValueError("it is a URL; an index file lists files: download it and give its path")
        found = next(filter(None, map(self._file, self._readings(text))), None)
        if found is None:
            outside = os.path.isabs(text) or self._relative(text).startswith("../")
            if outside and not self.is_own:
                raise ValueError(self._refusal(text, "its path leads"))
            raise ValueError("it is listed, but is not there")
        ending = os.path.splitext(found)[1]
        if ending.lower() in NO_VIDEOS:
            raise ValueError(f"it is no video but a list or playlist ({ending})")
        if not self.is_own and not self.is_open(found):
            is_link = not (os.path.isabs(text) or found.startswith("../"))
            raise ValueError(self._refusal(found, "a link in its path leads" if is_link else "its path leads"))
        return found

    def _readings(self, text: str) -> list[str]:
        """Return the paths that a text may mean, the likeliest first."""
        plain = os.path.expanduser(text) if self.is_own else text
        texts = [plain]
        if "\\" in plain and not _DRIVE.match(plain):
            texts.append(plain.replace("\\", "/"))
        texts += [form for name in list(texts) for form in _other_forms(name)]
        if plain.startswith("/"):
            texts.append(plain.lstrip("/"))
        return texts

    def _relative(self, text: str) -> str:
        inner = posixpath.normpath(text)
        if not inner.startswith(("/", "..")) and os.sep == "/":
            return inner
        return Path(os.path.relpath(self.root / text, self.root)).as_posix()

    def _file(self, text: str) -> str | None:
        relative = self._relative(text)
        if os.path.isfile(os.path.join(self._base, relative)):
            return relative
        if looks_like_file(relative):
            return None
        # Lists of ids leave the ending out.
        folder, name = posixpath.split(relative)
        if folder not in self._names:
            self._names[folder] = _names_in(os.path.join(self._base, folder))
        same = self._names[folder].get(name, ())
        return posixpath.join(folder, same[0]) if len(same) == 1 else None

    def is_open(self, relative: str) -> bool:
        """Return whether a file lies in the root, or in a folder that was opened, once links are followed."""
        path = os.path.join(self._base, relative)
        folder, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(self._real_folder(folder), name)
        return any(real.startswith(folder.rstrip(os.sep) + os.sep) for folder in self._open)

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]

    def _refusal(self, relative: str, how: str) -> str:
        folder = os.path.dirname(os.path.realpath(self.root / relative))
        return (
            f"it lies outside of {self.root.name or self.root}: {how} out of the data folder; {FLAG} {folder} "
            f"opens that folder"
        )


def _other_forms(name: str) -> list[str]:
    """Return a name in the other Unicode forms: macOS writes accents as letters of their own."""
    forms = [unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]
    return [form for form in forms if form != name]


def _names_in(folder: str) -> dict[str, tuple[str, ...]]:
    """Return the files of a folder by their names without ending."""
    found: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no such folder: nothing in it is listed
        return {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if looks_like_file(name) and ending.lower() not in NO_VIDEOS:
            found.setdefault(stem, []).append(name)
    return {stem: tuple(files) for stem, files in found.items()}


def _cache_of(root: Path) -> list[str]:
    """Return where the files of a snapshot in huggingface_hub's cache lie: they are links to its blobs."""
    real = Path(os.path.realpath(root))
    folders = (real, *real.parents)
    return [str(parent.parent.parent / "blobs") for parent in folders if parent.parent.name == "snapshots"]
