"""Repositories as folders: `models/org/name` and `datasets/org/name` are `main`, `.../name@v1` is the revision v1."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

MAIN = "main"
# What the Hub keeps beside git, and serves from another host.
LARGE = {".safetensors", ".bin", ".pth", ".parquet", ".tar", ".mp4", ".avi", ".mkv", ".mov", ".webm", ".gif", ".png"}


@dataclass(frozen=True)
class Entry:
    """One file of one revision."""

    path: str
    file: Path

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    @property
    def is_large(self) -> bool:
        return self.file.suffix in LARGE

    @property
    def oid(self) -> str:
        """Git's name of the content."""
        return _hashes(self.file, *_version(self.file))[0]

    @property
    def sha256(self) -> str:
        return _hashes(self.file, *_version(self.file))[1]

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.oid

    def describe(self) -> dict[str, Any]:
        """As in the answers of `tree` and `paths-info`."""
        entry = {"type": "file", "path": self.path, "size": self.size, "oid": self.oid}
        return (
            {**entry, "lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 130}} if self.is_large else entry
        )


def _version(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4096)
def _hashes(file: Path, changed: int, size: int) -> tuple[str, str]:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Revision:
    """The files of a repository at one point."""

    folder: Path

    @property
    def entries(self) -> list[Entry]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [Entry(file.relative_to(self.folder).as_posix(), file) for file in files]

    @property
    def sha(self) -> str:
        """Of the commit: changes with whatever the folder holds."""
        text = "\n".join(f"{entry.oid} {entry.path}" for entry in self.entries)
        return hashlib.sha1(text.encode()).hexdigest()

    def entry(self, path: str) -> Entry | None:
        file = self.folder / path
        inside = file.resolve().is_relative_to(self.folder.resolve())
        return Entry(path, file) if inside and file.is_file() else None

    def tree(self, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        """What lies below a folder of the repository, folders included."""
        start = self.folder / folder
        found = sorted(start.rglob("*") if recursive else start.iterdir())
        return [self._describe(path) for path in found]

    def describe(self, path: str) -> dict[str, Any] | None:
        """A file or folder, or None."""
        return self._describe(self.folder / path) if (self.folder / path).exists() else None

    def _describe(self, file: Path) -> dict[str, Any]:
        path = file.relative_to(self.folder).as_posix()
        if file.is_file():
            return Entry(path, file).describe()
        return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


@dataclass(frozen=True)
class Repo:
    """A repository of one kind, `models` or `datasets`."""

    root: Path
    kind: str
    id: str

    @property
    def exists(self) -> bool:
        return self._folder(MAIN).is_dir()

    def revision(self, name: str) -> Revision | None:
        """By branch, tag or commit."""
        for branch, revision in self.revisions():
            if name in (branch, revision.sha):
                return revision
        return None

    def revisions(self) -> Iterator[tuple[str, Revision]]:
        """Names and revisions, `main` first."""
        yield MAIN, Revision(self._folder(MAIN))
        owner, _, name = self.id.partition("/")
        for folder in sorted((self.root / self.kind / owner).glob(f"{name}@*")):
            yield folder.name.partition("@")[2], Revision(folder)

    def _folder(self, revision: str) -> Path:
        return self.root / self.kind / (self.id if revision == MAIN else f"{self.id}@{revision}")
