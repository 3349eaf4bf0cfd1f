"""Respond to writing requests: repositories, commits, large files, branches and tags.

A client with `hf_xet` does not ask whether the Hub supports Xet. It uses LFS only if HF_HUB_DISABLE_XET is set, as
`LocalHub.variables` does, because the faults here are those of HTTP. `LocalHub.environment(xet=True)` is a user's.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from .access import OWNER, Access
from .commits import CommitRefused, LfsStore, Writer
from .messages import HubRequest, HubResponse, json_response, refuse
from .storage import MAIN, Repo, is_large
from .xet import XetUploads, can_read_xet

_KINDS = {"model": "models", "dataset": "datasets", None: "models"}


@dataclass
class Uploads:
    """Responses to requests that change the Hub.

    Attributes:
        root: as in `Router`.
        access: what each token may write.
        endpoint, cdn: `http://host:port` of the two hosts.
        part_bytes: request larger files in parts of so many bytes; None: never.
    """

    root: Path
    access: Access
    endpoint: str = ""
    cdn: str = ""
    part_bytes: int | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def create_or_delete_repo(self, request: HubRequest) -> HubResponse:
        """Respond to `/api/repos/create` and `/api/repos/delete`."""
        payload = request.json()
        kind = _KINDS.get(payload.get("type"))
        if kind is None:
            return refuse(400, "", f"no such type: {payload.get('type')}")
        repo = Repo(self.root, kind, f"{payload.get('organization') or OWNER}/{payload['name']}")
        creates = request.parts[-1] == "create"
        refused = self.access.check_write(request, repo, must_exist=not creates)
        if refused is not None:
            return refused
        if not creates:
            Writer(repo, self.lock).remove()
            return json_response({})
        return self._create(repo, private=payload.get("visibility") == "private" or payload.get("private") is True)

    def _create(self, repo: Repo, *, private: bool) -> HubResponse:
        url = self._url(repo)
        with self.lock:
            if repo.exists:
                message = f"You already created this {repo.kind.removesuffix('s')} repo"
                return json_response({"error": message, "url": url}, status=409)
            repo.folder(MAIN).mkdir(parents=True)
            (repo.folder(MAIN) / ".gitattributes").write_text("*.parquet filter=lfs diff=lfs merge=lfs -text\n")
            if private:
                self.access.private.add(repo.key)
        return json_response({"url": url, "name": repo.id, "id": "0" * 24})

    def _url(self, repo: Repo) -> str:
        return f"{self.endpoint}/{'' if repo.kind == 'models' else 'datasets/'}{repo.id}"

    def validate_card(self, request: HubRequest) -> HubResponse:
        """Respond to `/api/validate-yaml`; only check that it is YAML."""
        import yaml

        header = request.json()["content"].partition("---\n")[2].partition("\n---")[0]
        try:
            yaml.safe_load(header)
        except yaml.YAMLError as error:
            return json_response({"errors": [{"message": str(error)}], "warnings": []}, status=400)
        return json_response({"errors": [], "warnings": []})

    def handle_api(self, request: HubRequest, repo: Repo, rest: list[str]) -> HubResponse | None:
        """Respond to a writing request to `/api/datasets/org/name/...`; return None for a reading one."""
        handlers = {**self._post_handlers(), ("PUT", "settings"): self._settings}
        handlers |= {("DELETE", "branch"): self._remove_branch, ("DELETE", "tag"): self._remove_tag}
        handlers |= {("GET", "xet-write-token"): self._xet_token}
        handler = handlers.get((request.method, rest[0])) if rest else None
        if handler is None:
            return None
        refused = self.access.check_write(request, repo)
        return refused if refused is not None else handler(request, repo, "/".join(rest[1:]))

    def _post_handlers(self) -> dict[tuple[str, str], Callable[[HubRequest, Repo, str], HubResponse]]:
        handlers = {"preupload": self._preupload, "commit": self._commit, "branch": self._add_branch}
        handlers |= {"tag": self._add_tag, "super-squash": self._squash}
        return {("POST", name): handler for name, handler in handlers.items()}

    def _xet_token(self, request: HubRequest, repo: Repo, revision: str) -> HubResponse:
        if not can_read_xet():
            return refuse(404, "", "Xet is not enabled here; set HF_HUB_DISABLE_XET=1")
        return XetUploads(repo).open()

    def _settings(self, request: HubRequest, repo: Repo, rest: str) -> HubResponse:
        visibility = request.json().get("visibility")
        if visibility == "private":
            self.access.private.add(repo.key)
        elif visibility == "public":
            self.access.private.discard(repo.key)
        return json_response({})

    # Commits.

    def _preupload(self, request: HubRequest, repo: Repo, name: str) -> HubResponse:
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        files = []
        for file in request.json()["files"]:
            existing = revision.entry(file["path"])
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            known = {} if existing is None else {"oid": existing.etag}
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **known})
        return json_response({"files": files})

    def _commit(self, request: HubRequest, repo: Repo, branch: str) -> HubResponse:
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        writer, opened = Writer(repo, self.lock), {}
        if request.has_flag("create_pr"):
            revision = repo.revision(branch)
            number = 1 + sum(name.startswith("refs/pr/") for name, _ in repo.branches())
            if revision is None:
                return refuse(404, "RevisionNotFound", f"Invalid rev id: {branch}")
            branch = f"refs/pr/{number}"
            writer.add_branch(branch, revision)
            opened = {"pullRequestUrl": f"{self._url(repo)}/discussions/{number}"}
        XetUploads(repo).collect(line["value"]["oid"] for line in lines if line["key"] == "lfsFile")
        try:
            sha = writer.commit(branch, lines)
        except CommitRefused as error:
            return refuse(error.status, error.code, str(error))
        return json_response(
            {"success": True, "commitOid": sha, "commitUrl": f"{self._url(repo)}/commit/{sha}", **opened}
        )

    def _add_branch(self, request: HubRequest, repo: Repo, name: str) -> HubResponse:
        start = repo.revision(request.json().get("startingPoint") or MAIN)
        if start is None:
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        added = Writer(repo, self.lock).add_branch(name, start)
        return json_response({}) if added else refuse(409, "", f"Reference already exists: {name}")

    def _remove_branch(self, request: HubRequest, repo: Repo, name: str) -> HubResponse:
        gone = Writer(repo, self.lock).remove_branch(name)
        return json_response({}) if gone else refuse(404, "RevisionNotFound", f"no branch {name} to remove")

    def _add_tag(self, request: HubRequest, repo: Repo, name: str) -> HubResponse:
        revision, tag = repo.revision(name), request.json()["tag"]
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        added = Writer(repo, self.lock).tag(tag, revision)
        return json_response({}) if added else refuse(409, "", f"Tag already exists: {tag}")

    def _remove_tag(self, request: HubRequest, repo: Repo, tag: str) -> HubResponse:
        gone = Writer(repo, self.lock).tag(tag, None)
        return json_response({}) if gone else refuse(404, "RevisionNotFound", f"no tag {tag}")

    def _squash(self, request: HubRequest, repo: Repo, branch: str) -> HubResponse:
        if branch not in dict(repo.branches()):
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        Writer(repo, self.lock).squash(branch, request.json().get("message", "squashed"))
        return json_response({})

    # Large files.

    def handle_lfs(self, request: HubRequest, repo: Repo, rest: list[str]) -> HubResponse:
        """Respond to `/datasets/org/name.git/info/lfs/...`."""
        if rest[:1] == ["complete"]:
            # The address itself gives access, as for a part.
            whole = LfsStore(repo).join(rest[1], request.json()["parts"])
            return json_response({}) if whole else refuse(400, "", "the parts do not make up the file")
        refused = self.access.check_write(request, repo)
        if refused is not None:
            return refused
        payload = request.json()
        if rest == ["objects", "batch"]:
            return json_response(
                {"transfer": "basic", "objects": [self._lfs_object(repo, file) for file in payload["objects"]]}
            )
        if rest == ["verify"]:
            existing = LfsStore(repo).find(payload["oid"])
            return json_response({}) if existing else refuse(404, "", f"{payload['oid']} was not uploaded")
        return refuse(404, "", f"no such address: {request.path}")

    def _lfs_object(self, repo: Repo, file: dict[str, Any]) -> dict[str, Any]:
        oid, size = file["oid"], file["size"]
        known = {"oid": oid, "size": size}
        if LfsStore(repo).find(oid) is not None:
            return known
        address = f"{self.cdn}/cdn-upload/{repo.key}/{oid}"
        lfs = f"{self._url(repo)}.git/info/lfs"
        upload: dict[str, Any] = {"href": address}
        if self.part_bytes is not None and size > self.part_bytes:
            count = -(-size // self.part_bytes)
            parts = {f"{number:05d}": f"{address}?part={number}" for number in range(1, count + 1)}
            upload = {"href": f"{lfs}/complete/{oid}", "header": {"chunk_size": str(self.part_bytes), **parts}}
        return {**known, "authenticated": True, "actions": {"upload": upload, "verify": {"href": f"{lfs}/verify"}}}

    def receive_upload(self, request: HubRequest) -> HubResponse:
        """Store a file, or a part of one, at the address that was given out for it."""
        if request.token is not None:
            return refuse(400, "", "a token of the Hub was sent to another host")
        _, kind, owner, name, oid = request.parts
        objects = LfsStore(Repo(self.root, kind, f"{owner}/{name}"))
        part = parse_qs(request.query).get("part")
        if part is not None:
            return HubResponse(200, {"ETag": f'"{objects.add_part(oid, int(part[0]), request.body)}"'})
        return (
            HubResponse(200)
            if objects.add(oid, request.body)
            else refuse(400, "", "the content is not that of its name")
        )
