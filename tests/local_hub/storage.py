"""Store repositories as folders: `models/org/name` and `datasets/org/name` are `main`, `.../name@v1` is the branch v1.

What a commit replaces is kept in `history/models/org/name`, so that every revision stays readable.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

MAIN = "main"
# Files that the Hub stores outside of git and serves from another host.
LARGE = {".safetensors", ".bin", ".pth", ".parquet", ".tar", ".mp4", ".avi", ".mkv", ".mov", ".webm", ".gif", ".png"}
LARGE_BYTES = 10 * 1024**2


def is_large(path: str, size: int) -> bool:
    """Return whether the Hub stores a file outside of git; never an empty file."""
    return size > 0 and (Path(path).suffix in LARGE or size > LARGE_BYTES)


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
        return is_large(self.path, self.size)

    @property
    def oid(self) -> str:
        """Return git's SHA-1 of the content."""
        return _hashes(self.file, *_version(self.file))[0]

    @property
    def sha256(self) -> str:
        return _hashes(self.file, *_version(self.file))[1]

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.oid

    def describe(self) -> dict[str, Any]:
        """Return the entry as in responses of `tree` and `paths-info`."""
        entry = {"type": "file", "path": self.path, "size": self.size, "oid": self.oid}
        lfs = {"oid": self.sha256, "size": self.size, "pointerSize": 130}
        return {**entry, "lfs": lfs} if self.is_large else entry


def _version(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4096)
def _hashes(file: Path, changed: int, size: int) -> tuple[str, str]:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Revision:
    """The files of a repository at one commit; `parent` is the commit before."""

    folder: Path
    parent: str = ""
    known_sha: str = ""

    @property
    def entries(self) -> list[Entry]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [Entry(file.relative_to(self.folder).as_posix(), file) for file in files]

    @property
    def sha(self) -> str:
        """Return the commit, which depends on the files and the parent."""
        if self.known_sha:
            return self.known_sha
        text = "\n".join([self.parent, *(f"{entry.oid} {entry.path}" for entry in self.entries)])
        return hashlib.sha1(text.encode()).hexdigest()

    def entry(self, path: str) -> Entry | None:
        file = self.folder / path
        inside = file.resolve().is_relative_to(self.folder.resolve())
        return Entry(path, file) if inside and file.is_file() else None

    def tree(self, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        """Return what is below a folder of the repository, including folders."""
        start = self.folder / folder
        return [self._describe(path) for path in sorted(start.rglob("*") if recursive else start.iterdir())]

    def describe(self, path: str) -> dict[str, Any] | None:
        """Return a file or folder; None if it does not exist."""
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
    def key(self) -> str:
        """Return the id with its kind."""
        return f"{self.kind}/{self.id}"

    @property
    def exists(self) -> bool:
        return self.folder(MAIN).is_dir()

    @property
    def history(self) -> Path:
        """Return the folder of commits, tags and uploaded objects."""
        return self.root / "history" / self.key

    def revision(self, name: str) -> Revision | None:
        """Return a revision by branch, tag or commit."""
        for branch, revision in self.branches():
            if name in (branch, revision.sha):
                return revision
        sha = self.tags().get(name, name)
        kept = self.history / "revisions" / quote(sha, safe="")
        return Revision(kept, known_sha=sha) if kept.is_dir() else None

    def branches(self) -> Iterator[tuple[str, Revision]]:
        """Yield names and revisions of the branches, `main` first."""
        owner, _, name = self.id.partition("/")
        folders = sorted((self.root / self.kind / owner).glob(f"{name}@*"))
        for branch in (MAIN, *(unquote(folder.name.partition("@")[2]) for folder in folders)):
            commits = self.commits(branch)
            yield branch, Revision(self.folder(branch), commits[-1]["parent"] if commits else "")

    def tags(self) -> dict[str, str]:
        """Return the commits by tag."""
        file = self.history / "tags.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def commits(self, branch: str) -> list[dict[str, str]]:
        """Return the commits that uploads made, oldest first: `parent`, `title`."""
        file = self.history / "commits" / f"{quote(branch, safe='')}.json"
        return json.loads(file.read_text()) if file.exists() else []

    def folder(self, branch: str) -> Path:
        """Return the folder of a branch."""
        return self.root / self.kind / (self.id if branch == MAIN else f"{self.id}@{quote(branch, safe='')}")
