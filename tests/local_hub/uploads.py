"""What the Hub answers to whoever writes: repositories, commits, large files, branches and tags.

A client that has `hf_xet` does not ask whether the Hub speaks Xet: it takes LFS only where HF_HUB_DISABLE_XET is set,
as `LocalHub.variables` does, because its faults are those of HTTP; `LocalHub.environment(xet=True)` is a user's own.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from .access import OWNER, Access
from .commits import Objects, Refused, Writer
from .messages import Answer, Question, as_json, refuse
from .storage import MAIN, Repo, is_large
from .xet import XetUploads, is_spoken

_KINDS = {"model": "models", "dataset": "datasets", None: "models"}


@dataclass
class Uploads:
    """Answers to what changes the Hub.

    Attributes:
        root: as of `Answers`.
        access: who may.
        endpoint, cdn: `http://host:port` of the two hosts.
        part_bytes: larger files are asked for in parts of so many bytes; None: never.
    """

    root: Path
    access: Access
    endpoint: str = ""
    cdn: str = ""
    part_bytes: int | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def of_repos(self, question: Question) -> Answer:
        """`/api/repos/create` and `/api/repos/delete`."""
        asked = question.json()
        kind = _KINDS.get(asked.get("type"))
        if kind is None:
            return refuse(400, "", f"no such type: {asked.get('type')}")
        repo = Repo(self.root, kind, f"{asked.get('organization') or OWNER}/{asked['name']}")
        creates = question.parts[-1] == "create"
        refused = self.access.no_writing(question, repo, must_exist=not creates)
        if refused is not None:
            return refused
        if not creates:
            Writer(repo, self.lock).remove()
            return as_json({})
        return self._create(repo, private=asked.get("visibility") == "private" or asked.get("private") is True)

    def _create(self, repo: Repo, *, private: bool) -> Answer:
        url = self._url(repo)
        with self.lock:
            if repo.exists:
                message = f"You already created this {repo.kind.removesuffix('s')} repo"
                return as_json({"error": message, "url": url}, status=409)
            repo.folder(MAIN).mkdir(parents=True)
            (repo.folder(MAIN) / ".gitattributes").write_text("*.parquet filter=lfs diff=lfs merge=lfs -text\n")
            if private:
                self.access.private.add(repo.key)
        return as_json({"url": url, "name": repo.id, "id": "0" * 24})

    def _url(self, repo: Repo) -> str:
        return f"{self.endpoint}/{'' if repo.kind == 'models' else 'datasets/'}{repo.id}"

    def of_card(self, question: Question) -> Answer:
        """`/api/validate-yaml`, as far as that it is YAML."""
        import yaml

        header = question.json()["content"].partition("---\n")[2].partition("\n---")[0]
        try:
            yaml.safe_load(header)
        except yaml.YAMLError as error:
            return as_json({"errors": [{"message": str(error)}], "warnings": []}, status=400)
        return as_json({"errors": [], "warnings": []})

    def of_api(self, question: Question, repo: Repo, rest: list[str]) -> Answer | None:
        """`/api/datasets/org/name/...`, where it writes; None for what does not."""
        ways = {**self._ways_to_post(), ("PUT", "settings"): self._settings}
        ways |= {("DELETE", "branch"): self._remove_branch, ("DELETE", "tag"): self._remove_tag}
        ways |= {("GET", "xet-write-token"): self._to_xet}
        way = ways.get((question.method, rest[0])) if rest else None
        if way is None:
            return None
        refused = self.access.no_writing(question, repo)
        return refused if refused is not None else way(question, repo, "/".join(rest[1:]))

    def _ways_to_post(self) -> dict[tuple[str, str], Callable[[Question, Repo, str], Answer]]:
        ways = {"preupload": self._preupload, "commit": self._commit, "branch": self._add_branch}
        ways |= {"tag": self._add_tag, "super-squash": self._squash}
        return {("POST", name): way for name, way in ways.items()}

    def _to_xet(self, question: Question, repo: Repo, revision: str) -> Answer:
        if not is_spoken():
            return refuse(404, "", "Xet is not enabled here; set HF_HUB_DISABLE_XET=1")
        return XetUploads(repo).open()

    def _settings(self, question: Question, repo: Repo, rest: str) -> Answer:
        visibility = question.json().get("visibility")
        if visibility == "private":
            self.access.private.add(repo.key)
        elif visibility == "public":
            self.access.private.discard(repo.key)
        return as_json({})

    # Commits.

    def _preupload(self, question: Question, repo: Repo, name: str) -> Answer:
        revision = repo.revision(name)
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        files = []
        for file in question.json()["files"]:
            there = revision.entry(file["path"])
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            known = {} if there is None else {"oid": there.etag}
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **known})
        return as_json({"files": files})

    def _commit(self, question: Question, repo: Repo, branch: str) -> Answer:
        lines = [json.loads(line) for line in question.body.splitlines() if line.strip()]
        writer, opened = Writer(repo, self.lock), {}
        if question.asks("create_pr"):
            revision = repo.revision(branch)
            number = 1 + sum(name.startswith("refs/pr/") for name, _ in repo.branches())
            if revision is None:
                return refuse(404, "RevisionNotFound", f"Invalid rev id: {branch}")
            branch = f"refs/pr/{number}"
            writer.add_branch(branch, revision)
            opened = {"pullRequestUrl": f"{self._url(repo)}/discussions/{number}"}
        XetUploads(repo).take_in(line["value"]["oid"] for line in lines if line["key"] == "lfsFile")
        try:
            sha = writer.commit(branch, lines)
        except Refused as error:
            return refuse(error.status, error.code, str(error))
        return as_json({"success": True, "commitOid": sha, "commitUrl": f"{self._url(repo)}/commit/{sha}", **opened})

    def _add_branch(self, question: Question, repo: Repo, name: str) -> Answer:
        start = repo.revision(question.json().get("startingPoint") or MAIN)
        if start is None:
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        added = Writer(repo, self.lock).add_branch(name, start)
        return as_json({}) if added else refuse(409, "", f"Reference already exists: {name}")

    def _remove_branch(self, question: Question, repo: Repo, name: str) -> Answer:
        gone = Writer(repo, self.lock).remove_branch(name)
        return as_json({}) if gone else refuse(404, "RevisionNotFound", f"no branch {name} to remove")

    def _add_tag(self, question: Question, repo: Repo, name: str) -> Answer:
        revision, tag = repo.revision(name), question.json()["tag"]
        if revision is None:
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        added = Writer(repo, self.lock).tag(tag, revision)
        return as_json({}) if added else refuse(409, "", f"Tag already exists: {tag}")

    def _remove_tag(self, question: Question, repo: Repo, tag: str) -> Answer:
        gone = Writer(repo, self.lock).tag(tag, None)
        return as_json({}) if gone else refuse(404, "RevisionNotFound", f"no tag {tag}")

    def _squash(self, question: Question, repo: Repo, branch: str) -> Answer:
        if branch not in dict(repo.branches()):
            return refuse(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        Writer(repo, self.lock).squash(branch, question.json().get("message", "squashed"))
        return as_json({})

    # Large files.

    def of_lfs(self, question: Question, repo: Repo, rest: list[str]) -> Answer:
        """`/datasets/org/name.git/info/lfs/...`."""
        if rest[:1] == ["complete"]:
            # The address alone lets in, as that of a part does.
            whole = Objects(repo).join(rest[1], question.json()["parts"])
            return as_json({}) if whole else refuse(400, "", "the parts do not make up the file")
        refused = self.access.no_writing(question, repo)
        if refused is not None:
            return refused
        asked = question.json()
        if rest == ["objects", "batch"]:
            return as_json({"transfer": "basic", "objects": [self._object(repo, file) for file in asked["objects"]]})
        if rest == ["verify"]:
            there = Objects(repo).find(asked["oid"])
            return as_json({}) if there else refuse(404, "", f"{asked['oid']} was not uploaded")
        return refuse(404, "", f"no such address: {question.path}")

    def _object(self, repo: Repo, file: dict[str, Any]) -> dict[str, Any]:
        oid, size = file["oid"], file["size"]
        known = {"oid": oid, "size": size}
        if Objects(repo).find(oid) is not None:
            return known
        address = f"{self.cdn}/cdn-upload/{repo.key}/{oid}"
        lfs = f"{self._url(repo)}.git/info/lfs"
        upload: dict[str, Any] = {"href": address}
        if self.part_bytes is not None and size > self.part_bytes:
            count = -(-size // self.part_bytes)
            parts = {f"{number:05d}": f"{address}?part={number}" for number in range(1, count + 1)}
            upload = {"href": f"{lfs}/complete/{oid}", "header": {"chunk_size": str(self.part_bytes), **parts}}
        return {**known, "authenticated": True, "actions": {"upload": upload, "verify": {"href": f"{lfs}/verify"}}}

    def to_cdn(self, question: Question) -> Answer:
        """A file, or a part of one, at the address that was given out for it."""
        if question.token is not None:
            return refuse(400, "", "a token of the Hub was sent to another host")
        _, kind, owner, name, oid = question.parts
        objects = Objects(Repo(self.root, kind, f"{owner}/{name}"))
        part = parse_qs(question.query).get("part")
        if part is not None:
            return Answer(200, {"ETag": f'"{objects.add_part(oid, int(part[0]), question.body)}"'})
        return (
            Answer(200) if objects.add(oid, question.body) else refuse(400, "", "the content is not that of its name")
        )
