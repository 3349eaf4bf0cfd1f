"""Write to a repository: commits, branches, tags, and the large objects that commits refer to."""

import base64
import hashlib
import json
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from .storage import MAIN, Repo, Revision


class CommitRefused(Exception):
    """Raised for an invalid commit, with the status, code and message of the response."""

    def __init__(self, status: int, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class LfsStore:
    """Large files by their SHA-256, uploaded before the commit that names them, and parts of them."""

    repo: Repo

    def find(self, sha256: str) -> Path | None:
        """Return the path of a file that was uploaded, or is in some revision."""
        uploaded = self._folder / sha256
        if uploaded.is_file():
            return uploaded
        known = (entry for _, revision in self.repo.branches() for entry in revision.entries if entry.is_large)
        return next((entry.file for entry in known if entry.sha256 == sha256), None)

    def add(self, sha256: str, content: bytes) -> bool:
        """Store a file; return False if its content does not match its SHA-256."""
        if hashlib.sha256(content).hexdigest() != sha256:
            return False
        self._write(sha256, content)
        return True

    def add_part(self, sha256: str, number: int, content: bytes) -> str:
        """Store a part of a file and return its ETag."""
        self._write(f"{sha256}.{number}", content)
        return hashlib.md5(content).hexdigest()

    def join(self, sha256: str, parts: list[dict[str, Any]]) -> bool:
        """Join the parts of a file; return False if they are not those that were uploaded."""
        files = [self._folder / f"{sha256}.{part['partNumber']}" for part in parts]
        if not all(file.is_file() for file in files):
            return False
        content = [file.read_bytes() for file in files]
        tags = [hashlib.md5(part).hexdigest() for part in content]
        return tags == [part["etag"].strip('"') for part in parts] and self.add(sha256, b"".join(content))

    @property
    def _folder(self) -> Path:
        return self.repo.history / "objects"

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        _write_atomic(self._folder / name, content)


@dataclass(frozen=True)
class Writer:
    """Changes a repository, one change at a time."""

    repo: Repo
    lock: threading.RLock

    def commit(self, branch: str, lines: list[dict[str, Any]]) -> str:
        """Apply all operations of a commit, or none; return the new commit.

        Raises:
            CommitRefused: for a parent that is not the head, an object that was not uploaded, or a path that does not
                exist.
        """
        with self.lock:
            head = dict(self.repo.branches()).get(branch)
            if head is None:
                raise CommitRefused(404, f"Invalid rev id: {branch}", code="RevisionNotFound")
            header = next(line["value"] for line in lines if line["key"] == "header")
            if header.get("parentCommit") not in (None, head.sha):
                raise CommitRefused(412, "A commit has happened since. Please refresh and try again.")
            changes = self._changes(head, [line for line in lines if line["key"] != "header"])
            self._keep(head)
            self._log(branch, head.sha, header["summary"])
            _apply(self.repo.folder(branch), changes)
            return dict(self.repo.branches())[branch].sha

    def add_branch(self, name: str, start: Revision) -> bool:
        """Create a branch at a revision; return False if it exists."""
        with self.lock:
            if self.repo.folder(name).exists():
                return False
            sha = start.sha
            self._keep(start)
            self._log(name, sha, "branch")
            shutil.copytree(start.folder, self.repo.folder(name))
            return True

    def remove_branch(self, name: str) -> bool:
        with self.lock:
            if name == MAIN or not self.repo.folder(name).exists():
                return False
            shutil.rmtree(self.repo.folder(name))
            self._log_file(name).unlink(missing_ok=True)
            return True

    def tag(self, name: str, revision: Revision | None) -> bool:
        """Tag a revision, or with None remove the tag; return False if it exists, or does not."""
        with self.lock:
            tags = self.repo.tags()
            if (name in tags) == (revision is not None):
                return False
            if revision is None:
                del tags[name]
            else:
                tags[name] = revision.sha
                self._keep(revision)
            self.repo.history.mkdir(parents=True, exist_ok=True)
            _write_atomic(self.repo.history / "tags.json", json.dumps(tags).encode())
            return True

    def squash(self, branch: str, title: str) -> None:
        """Forget the commits of a branch except for one."""
        with self.lock:
            for commit in self.repo.commits(branch):
                shutil.rmtree(self._kept(commit["parent"]), ignore_errors=True)
            self._log_file(branch).unlink(missing_ok=True)
            self._log(branch, "", title)

    def remove(self) -> None:
        """Remove the repository with everything in it."""
        with self.lock:
            for branch, _ in list(self.repo.branches()):
                shutil.rmtree(self.repo.folder(branch))
            shutil.rmtree(self.repo.history, ignore_errors=True)

    def _changes(self, head: Revision, lines: list[dict[str, Any]]) -> dict[str, bytes | None]:
        """Return the new content by path; None for deleted files."""
        objects, changes = LfsStore(self.repo), dict[str, bytes | None]()
        for line in lines:
            key, value = line["key"], line["value"]
            path = _checked_path(value["path"])
            if key == "file":
                changes[path] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                file = objects.find(value["oid"])
                if file is None:
                    raise CommitRefused(400, f"LFS pointer pointed to a file that does not exist: {path}")
                changes[path] = file.read_bytes()
            else:
                changes |= dict.fromkeys(_deleted_paths(head, path, folder=key == "deletedFolder"))
        return changes

    def _keep(self, revision: Revision) -> None:
        """Keep a branch's revision readable before the branch moves on."""
        kept = self._kept(revision.sha)
        if not kept.exists():
            shutil.copytree(revision.folder, kept)

    def _kept(self, sha: str) -> Path:
        return self.repo.history / "revisions" / sha

    def _log_file(self, branch: str) -> Path:
        return self.repo.history / "commits" / f"{quote(branch, safe='')}.json"

    def _log(self, branch: str, parent: str, title: str) -> None:
        commits = [*self.repo.commits(branch), {"parent": parent, "title": title}]
        self._log_file(branch).parent.mkdir(parents=True, exist_ok=True)
        _write_atomic(self._log_file(branch), json.dumps(commits).encode())


def _checked_path(path: str) -> str:
    if path.startswith("/") or ".." in PurePosixPath(path).parts or path in ("", "."):
        raise CommitRefused(400, f"invalid path: {path}")
    return path.rstrip("/")


def _deleted_paths(head: Revision, path: str, *, folder: bool) -> list[str]:
    if folder:
        below = [entry.path for entry in head.entries if entry.path.startswith(f"{path}/")]
    else:
        below = [path] if head.entry(path) else []
    if not below:
        raise CommitRefused(404, f"A file with this name doesn't exist: {path}", code="EntryNotFound")
    return below


def _apply(folder: Path, changes: dict[str, bytes | None]) -> None:
    for path, content in changes.items():
        if content is None:
            (folder / path).unlink()
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        _write_atomic(folder / path, content)
    for below in sorted(folder.rglob("*"), reverse=True):
        # Git has no empty folders.
        if below.is_dir() and not any(below.iterdir()):
            below.rmdir()


def _write_atomic(path: Path, content: bytes) -> None:
    """Replace a file by one with another inode, so that open readers still see the old one."""
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
