"""What the Hub answers, as a function of its folder: no sockets here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

from .storage import MAIN, Entry, Repo, Revision

TOKEN = "hf_local"
_KINDS = ("models", "datasets")


@dataclass(frozen=True)
class Answer:
    """A response; `file` is sent in place of `body`, whole or the range that was asked for."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None


@dataclass(frozen=True)
class Question:
    """A request; `path` is raw, because `refs%2Fpr%2F1` is one part of it."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    token: str | None = None
    host: str = ""

    @property
    def parts(self) -> list[str]:
        return [unquote(part) for part in self.path.strip("/").split("/")]

    def asks(self, name: str) -> bool:
        """Whether a switch of the query is on."""
        return parse_qs(self.query).get(name, ["false"])[0].lower() in ("true", "1")


def as_json(value: object, *, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode())


def refuse(status: int, code: str, message: str, **headers: str) -> Answer:
    """An error as the Hub words it: the clients choose their exception by X-Error-Code."""
    named = {"X-Error-Code": code} if code else {}
    return as_json({"error": message}, status=status, **named, **{"X-Error-Message": message}, **headers)


@dataclass
class Answers:
    """Answers out of a folder.

    Attributes:
        root: holds `models/org/name` and `datasets/org/name`.
        private, gated: ids with their kind, `datasets/org/name`; readable with the token only.
        cdn: `http://host:port` of the second host, to which large files are redirected.
    """

    root: Path
    cdn: str
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    _large: dict[str, Path] = field(default_factory=dict)

    def answer(self, question: Question) -> Answer:
        """The response to a request."""
        parts = question.parts
        if parts[0] == "cdn":
            return self._from_cdn(question)
        if question.token not in (None, TOKEN):
            return refuse(401, "", "Invalid credentials in Authorization header")
        if parts == ["api", "whoami-v2"]:
            return self._whoami(question)
        if parts[0] == "api" and len(parts) >= 4 and parts[1] in _KINDS:
            return self._api(question, Repo(self.root, parts[1], "/".join(parts[2:4])), parts[4:])
        kind = "datasets" if parts[0] == "datasets" else "models"
        parts = parts[1:] if kind == "datasets" else parts
        if len(parts) >= 5 and parts[2] == "resolve" and question.method in ("GET", "HEAD"):
            return self._resolve(question, Repo(self.root, kind, "/".join(parts[:2])), parts[3], "/".join(parts[4:]))
        return refuse(404, "", f"no such address: {question.path}")

    def _whoami(self, question: Question) -> Answer:
        if question.token is None:
            return refuse(401, "", "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": "write"}}
        return as_json({"type": "user", "name": "org", "orgs": [], "auth": auth})

    def _refused(self, question: Question, repo: Repo, *, content: bool) -> Answer | None:
        """The Hub tells strangers nothing of what they may not read, and shows the facts of gated sets."""
        key = f"{repo.kind}/{repo.id}"
        if not repo.exists or (key in self.private and question.token is None):
            return refuse(401 if question.token is None else 404, "RepoNotFound", "Repository not found")
        if content and key in self.gated and question.token is None:
            return refuse(401, "GatedRepo", f"Access to {repo.id} is restricted. You must have access to it.")
        return None

    def _api(self, question: Question, repo: Repo, rest: list[str]) -> Answer:
        refused = self._refused(question, repo, content=rest[:1] in (["tree"], ["paths-info"], ["auth-check"]))
        if refused is not None:
            return refused
        if rest == ["auth-check"]:
            return as_json({})
        if rest == ["refs"]:
            return as_json(_refs(repo))
        what, name = (rest[0], rest[1]) if len(rest) > 1 else ("revision", MAIN)
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        if what == "revision":
            return as_json(_info(repo, revision, gated=f"{repo.kind}/{repo.id}" in self.gated))
        if what == "tree":
            return _tree(revision, "/".join(rest[2:]), recursive=question.asks("recursive"))
        if what == "paths-info" and question.method == "POST":
            paths = parse_qs(question.body.decode()).get("paths", [])
            found = (revision.describe(path) for path in paths)
            return as_json([entry for entry in found if entry is not None])
        return refuse(404, "", f"no such address: {question.path}")

    def _resolve(self, question: Question, repo: Repo, name: str, path: str) -> Answer:
        refused = self._refused(question, repo, content=True)
        if refused is not None:
            return refused
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        commit = {"X-Repo-Commit": revision.sha}
        entry = revision.entry(path)
        if entry is None:
            return refuse(404, "EntryNotFound", "Entry not found", **commit)
        return self._elsewhere(entry, commit) if entry.is_large else _content(entry, **commit)

    def _elsewhere(self, entry: Entry, commit: dict[str, str]) -> Answer:
        self._large[entry.sha256] = entry.file
        headers = {
            **commit,
            "Location": f"{self.cdn}/cdn/{entry.sha256}/{quote(entry.file.name)}",
            "X-Linked-Etag": f'"{entry.sha256}"',
            "X-Linked-Size": str(entry.size),
            "ETag": f'"{entry.oid}"',
            "Accept-Ranges": "bytes",
        }
        return Answer(302, headers)

    def _from_cdn(self, question: Question) -> Answer:
        if question.token is not None:
            return refuse(400, "", "a token of the Hub was sent to another host")
        sha256 = question.parts[1]
        if sha256 not in self._large or question.host not in self.cdn:
            return refuse(403, "", "this address was not given out")
        return _content(Entry(question.parts[2], self._large[sha256]))


def _content(entry: Entry, **headers: str) -> Answer:
    return Answer(200, {**headers, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}, file=entry.file)


def _tree(revision: Revision, folder: str, *, recursive: bool) -> Answer:
    if not (revision.folder / folder).is_dir():
        return refuse(404, "EntryNotFound", f"{folder} does not exist")
    return as_json(revision.tree(folder, recursive=recursive))


def _refs(repo: Repo) -> dict[str, list[dict[str, str]]]:
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": found.sha} for name, found in repo.revisions()
    ]
    return {"branches": branches, "tags": [], "converts": []}


def _info(repo: Repo, revision: Revision, *, gated: bool) -> dict[str, object]:
    return {
        "_id": "0" * 24,
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": revision.sha,
        "lastModified": "2024-01-01T00:00:00.000Z",
        "createdAt": "2024-01-01T00:00:00.000Z",
        "private": False,
        "gated": "auto" if gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": entry.path, "size": entry.size, "blobId": entry.oid} for entry in revision.entries],
    }
