"""Build the Hub's response to each request from its folder, without sockets."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote

from .access import Access
from .commits import LfsStore
from .messages import HubRequest, HubResponse, json_response, refuse
from .storage import MAIN, Entry, Repo, Revision
from .uploads import Uploads

_KINDS = ("models", "datasets")


@dataclass
class Router:
    """Responses from a folder.

    Attributes:
        root: holds `models/org/name` and `datasets/org/name`.
        access: what each token may read and write.
        uploads: the responses to writing requests.
        cdn: `http://host:port` of the second host, to which large files are redirected.
    """

    root: Path
    access: Access = field(default_factory=Access)
    cdn: str = ""
    uploads: Uploads = field(init=False)
    _large: dict[str, tuple[Repo, Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.root, self.access)

    def set_addresses(self, endpoint: str, cdn: str) -> None:
        """Set the addresses that responses refer to."""
        self.cdn = self.uploads.cdn = cdn
        self.uploads.endpoint = endpoint

    def answer(self, request: HubRequest) -> HubResponse:
        """Return the response to a request."""
        parts = request.parts
        if parts[0] == "cdn":
            return self._serve_cdn(request)
        if parts[0] == "cdn-upload" and request.method == "PUT":
            return self.uploads.receive_upload(request)
        wrong = self.access.check_token(request)
        if wrong is not None:
            return wrong
        if parts[0] == "api":
            return self._api(request, parts[1:])
        kind = "datasets" if parts[0] == "datasets" else "models"
        parts = parts[1:] if kind == "datasets" else parts
        repo = Repo(self.root, kind, "/".join(parts[:2]).removesuffix(".git"))
        if parts[1:4] == [f"{repo.id.rpartition('/')[2]}.git", "info", "lfs"] and request.method == "POST":
            return self.uploads.handle_lfs(request, repo, parts[4:])
        if len(parts) >= 5 and parts[2] == "resolve" and request.method in ("GET", "HEAD"):
            return self._resolve(request, repo, parts[3], "/".join(parts[4:]))
        return refuse(404, "", f"no such address: {request.path}")

    def _api(self, request: HubRequest, parts: list[str]) -> HubResponse:
        if parts == ["whoami-v2"]:
            return self.access.whoami(request)
        if parts == ["validate-yaml"]:
            return self.uploads.validate_card(request)
        if parts in (["repos", "create"], ["repos", "delete"]):
            return self.uploads.create_or_delete_repo(request)
        if len(parts) < 3 or parts[0] not in _KINDS:
            return refuse(404, "", f"no such address: {request.path}")
        repo, rest = Repo(self.root, parts[0], "/".join(parts[1:3])), parts[3:]
        written = self.uploads.handle_api(request, repo, rest)
        return self._read_repo(request, repo, rest) if written is None else written

    def _read_repo(self, request: HubRequest, repo: Repo, rest: list[str]) -> HubResponse:
        content = rest[:1] in (["tree"], ["paths-info"], ["auth-check"])
        refused = self.access.check_read(request, repo, content=content)
        if refused is not None:
            return refused
        if rest == ["auth-check"]:
            return json_response({})
        if rest == ["refs"]:
            return json_response(_refs(repo, with_requests=request.has_flag("include_prs")))
        what, name = (rest[0], rest[1]) if len(rest) > 1 else ("revision", MAIN)
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        if what == "revision":
            return json_response(self._info(repo, revision))
        if what == "commits":
            return json_response(_commits(repo, name, revision))
        if what == "tree":
            return _tree(revision, "/".join(rest[2:]), recursive=request.has_flag("recursive"))
        if what == "paths-info" and request.method == "POST":
            paths = parse_qs(request.body.decode()).get("paths", [])
            entries = (revision.describe(path) for path in paths)
            return json_response([entry for entry in entries if entry is not None])
        return refuse(404, "", f"no such address: {request.path}")

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

    def _resolve(self, request: HubRequest, repo: Repo, name: str, path: str) -> HubResponse:
        refused = self.access.check_read(request, repo, content=True)
        if refused is not None:
            return refused
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        commit = {"X-Repo-Commit": revision.sha}
        entry = revision.entry(path)
        if entry is None:
            return refuse(404, "EntryNotFound", "Entry not found", **commit)
        return self._redirect_to_cdn(repo, entry, commit) if entry.is_large else _content(entry, **commit)

    def _redirect_to_cdn(self, repo: Repo, entry: Entry, commit: dict[str, str]) -> HubResponse:
        self._large[entry.sha256] = repo, entry.file
        headers = {
            **commit,
            "Location": f"{self.cdn}/cdn/{entry.sha256}/{quote(entry.file.name)}",
            "X-Linked-Etag": f'"{entry.sha256}"',
            "X-Linked-Size": str(entry.size),
            "ETag": f'"{entry.oid}"',
            "Accept-Ranges": "bytes",
        }
        return HubResponse(302, headers)

    def _serve_cdn(self, request: HubRequest) -> HubResponse:
        if request.token is not None:
            return refuse(400, "", "a token of the Hub was sent to another host")
        sha256 = request.parts[1]
        if sha256 not in self._large or request.host not in self.cdn:
            return refuse(403, "", "this address was not given out")
        repo, file = self._large[sha256]
        # A commit may have removed the file since.
        existing = file if file.is_file() else LfsStore(repo).find(sha256)
        return refuse(404, "", "gone") if existing is None else _content(Entry(request.parts[2], existing))


def _content(entry: Entry, **headers: str) -> HubResponse:
    return HubResponse(200, {**headers, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}, file=entry.file)


def _tree(revision: Revision, folder: str, *, recursive: bool) -> HubResponse:
    if not (revision.folder / folder).is_dir():
        return refuse(404, "EntryNotFound", f"{folder} does not exist")
    return json_response(revision.tree(folder, recursive=recursive))


def _refs(repo: Repo, *, with_requests: bool) -> dict[str, list[dict[str, str]]]:
    heads = {name: revision.sha for name, revision in repo.branches()}
    requests = {name: sha for name, sha in heads.items() if name.startswith("refs/pr/")}
    named = {name: sha for name, sha in heads.items() if name not in requests}
    refs = {"branches": _named(named, "refs/heads/"), "tags": _named(repo.tags(), "refs/tags/"), "converts": []}
    return {**refs, "pullRequests": _named(requests, "")} if with_requests else refs


def _named(shas: dict[str, str], prefix: str) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"{prefix}{name}", "targetCommit": sha} for name, sha in shas.items()]


def _commits(repo: Repo, branch: str, revision: Revision) -> list[dict[str, object]]:
    """Return the commits, newest first; the oldest is what the folder held before any upload."""
    log = repo.commits(branch)
    shas = [revision.sha, *(commit["parent"] for commit in reversed(log) if commit["parent"])]
    titles = [*(commit["title"] for commit in reversed(log)), "initial commit"]
    fixed = {"authors": [], "date": "2024-01-01T00:00:00.000Z", "message": ""}
    return [{"id": sha, "title": title, **fixed} for sha, title in zip(shas, titles, strict=False)]
