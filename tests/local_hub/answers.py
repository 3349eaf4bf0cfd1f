"""What the Hub answers, as a function of its folder: no sockets here."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote

from .access import Access
from .commits import Objects
from .messages import Answer, Question, as_json, refuse
from .storage import MAIN, Entry, Repo, Revision
from .uploads import Uploads

_KINDS = ("models", "datasets")


@dataclass
class Answers:
    """Answers out of a folder.

    Attributes:
        root: holds `models/org/name` and `datasets/org/name`.
        access: who may read and write what.
        uploads: the answers to those who write.
        cdn: `http://host:port` of the second host, to which large files are redirected.
    """

    root: Path
    access: Access = field(default_factory=Access)
    cdn: str = ""
    uploads: Uploads = field(init=False)
    _large: dict[str, tuple[Repo, Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.root, self.access)

    def listen_at(self, endpoint: str, cdn: str) -> None:
        """Give these addresses out."""
        self.cdn = self.uploads.cdn = cdn
        self.uploads.endpoint = endpoint

    def answer(self, question: Question) -> Answer:
        """The response to a request."""
        parts = question.parts
        if parts[0] == "cdn":
            return self._from_cdn(question)
        if parts[0] == "cdn-upload" and question.method == "PUT":
            return self.uploads.to_cdn(question)
        wrong = self.access.wrong_token(question)
        if wrong is not None:
            return wrong
        if parts[0] == "api":
            return self._api(question, parts[1:])
        kind = "datasets" if parts[0] == "datasets" else "models"
        parts = parts[1:] if kind == "datasets" else parts
        repo = Repo(self.root, kind, "/".join(parts[:2]).removesuffix(".git"))
        if parts[1:4] == [f"{repo.id.rpartition('/')[2]}.git", "info", "lfs"] and question.method == "POST":
            return self.uploads.of_lfs(question, repo, parts[4:])
        if len(parts) >= 5 and parts[2] == "resolve" and question.method in ("GET", "HEAD"):
            return self._resolve(question, repo, parts[3], "/".join(parts[4:]))
        return refuse(404, "", f"no such address: {question.path}")

    def _api(self, question: Question, parts: list[str]) -> Answer:
        if parts == ["whoami-v2"]:
            return self.access.whoami(question)
        if parts == ["validate-yaml"]:
            return self.uploads.of_card(question)
        if parts in (["repos", "create"], ["repos", "delete"]):
            return self.uploads.of_repos(question)
        if len(parts) < 3 or parts[0] not in _KINDS:
            return refuse(404, "", f"no such address: {question.path}")
        repo, rest = Repo(self.root, parts[0], "/".join(parts[1:3])), parts[3:]
        written = self.uploads.of_api(question, repo, rest)
        return self._of_repo(question, repo, rest) if written is None else written

    def _of_repo(self, question: Question, repo: Repo, rest: list[str]) -> Answer:
        content = rest[:1] in (["tree"], ["paths-info"], ["auth-check"])
        refused = self.access.no_reading(question, repo, content=content)
        if refused is not None:
            return refused
        if rest == ["auth-check"]:
            return as_json({})
        if rest == ["refs"]:
            return as_json(_refs(repo, with_requests=question.asks("include_prs")))
        what, name = (rest[0], rest[1]) if len(rest) > 1 else ("revision", MAIN)
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        if what == "revision":
            return as_json(self._info(repo, revision))
        if what == "commits":
            return as_json(_commits(repo, name, revision))
        if what == "tree":
            return _tree(revision, "/".join(rest[2:]), recursive=question.asks("recursive"))
        if what == "paths-info" and question.method == "POST":
            paths = parse_qs(question.body.decode()).get("paths", [])
            found = (revision.describe(path) for path in paths)
            return as_json([entry for entry in found if entry is not None])
        return refuse(404, "", f"no such address: {question.path}")

    def _info(self, repo: Repo, revision: Revision) -> dict[str, object]:
        entries = revision.entries
        return {
            "_id": "0" * 24,
            "id": repo.id,
            "modelId": repo.id,
            "author": repo.id.partition("/")[0],
            "sha": revision.sha,
            "lastModified": "2024-01-01T00:00:00.000Z",
            "createdAt": "2024-01-01T00:00:00.000Z",
            "private": repo.key in self.access.private,
            "gated": "auto" if repo.key in self.access.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": entry.path, "size": entry.size, "blobId": entry.oid} for entry in entries],
        }

    def _resolve(self, question: Question, repo: Repo, name: str, path: str) -> Answer:
        refused = self.access.no_reading(question, repo, content=True)
        if refused is not None:
            return refused
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        commit = {"X-Repo-Commit": revision.sha}
        entry = revision.entry(path)
        if entry is None:
            return refuse(404, "EntryNotFound", "Entry not found", **commit)
        return self._elsewhere(repo, entry, commit) if entry.is_large else _content(entry, **commit)

    def _elsewhere(self, repo: Repo, entry: Entry, commit: dict[str, str]) -> Answer:
        self._large[entry.sha256] = repo, entry.file
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
        repo, file = self._large[sha256]
        # A commit may have taken the file away since.
        found = file if file.is_file() else Objects(repo).find(sha256)
        return refuse(404, "", "gone") if found is None else _content(Entry(question.parts[2], found))


def _content(entry: Entry, **headers: str) -> Answer:
    return Answer(200, {**headers, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}, file=entry.file)


def _tree(revision: Revision, folder: str, *, recursive: bool) -> Answer:
    if not (revision.folder / folder).is_dir():
        return refuse(404, "EntryNotFound", f"{folder} does not exist")
    return as_json(revision.tree(folder, recursive=recursive))


def _refs(repo: Repo, *, with_requests: bool) -> dict[str, list[dict[str, str]]]:
    heads = {name: found.sha for name, found in repo.branches()}
    requests = {name: sha for name, sha in heads.items() if name.startswith("refs/pr/")}
    named = {name: sha for name, sha in heads.items() if name not in requests}
    refs = {"branches": _named(named, "refs/heads/"), "tags": _named(repo.tags(), "refs/tags/"), "converts": []}
    return {**refs, "pullRequests": _named(requests, "")} if with_requests else refs


def _named(shas: dict[str, str], prefix: str) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"{prefix}{name}", "targetCommit": sha} for name, sha in shas.items()]


def _commits(repo: Repo, branch: str, revision: Revision) -> list[dict[str, object]]:
    """The last first; what lay in the folder before is the initial commit."""
    log = repo.commits(branch)
    shas = [revision.sha, *(commit["parent"] for commit in reversed(log) if commit["parent"])]
    titles = [*(commit["title"] for commit in reversed(log)), "initial commit"]
    fixed = {"authors": [], "date": "2024-01-01T00:00:00.000Z", "message": ""}
    return [{"id": sha, "title": title, **fixed} for sha, title in zip(shas, titles, strict=False)]
