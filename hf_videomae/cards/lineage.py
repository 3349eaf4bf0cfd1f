"""Where a model or a data set comes from: its place and commit on the Hub, its licence, what it was made of itself.

It is asked once, while it is at hand, and written into `run.json` or a set's report: later the folders may be gone and
the Hub may have moved on. What cannot be found out is `None`, and `unknown` says why; nothing here ends a run.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..run_files import RUN_FILE
from .header import license_from_header, parse_header_or_empty
from .license import known_checkpoint_license
from .markdown import CARD_FILE

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_CHECKPOINT_FOLDER = re.compile(r"checkpoint-\d+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_TIMEOUT_SECONDS = 10.0  # for an answer of the Hub
_MAX_ANCESTORS = 8
"""So far back at most: base models may name each other."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a repository, `org/name`, and is not rather the path of a video."""
    return _HUB_ID.fullmatch(name) is not None and not name.endswith((".git", ".mp4"))


def resolve_model_lineage(name: str, *, commit: str | None = None) -> dict[str, Any]:
    """What is known of a checkpoint and of those before it.

    Args:
        name: a folder here, or `org/name`.
        commit: that was loaded; None: the newest.

    Returns:
        `model` (as given), `hub_id`, `revision`, `license`, and `ancestors`, the nearest first, each with `model`,
        `hub_id`, `revision`, `license`; and `unknown`, a line, where not everything could be read.
    """
    source = _read_source(name, kind="model", commit=commit)
    found = {"model": name, **source.provenance()}
    found["license"] = found["license"] or known_checkpoint_license(name)
    found["ancestors"] = list(_iter_ancestors(source, seen={name}))
    return {**found, "unknown": source.unknown} if source.unknown else found


def find_cached_commit(id: str, *, file: str = "config.json") -> str | None:
    """The commit of a repository that the clients of this machine read last, by their cache; None: not known."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(id, file) if is_hub_id(id) and not Path(id).exists() else None
    return Path(path).parent.name if isinstance(path, str) and _COMMIT.fullmatch(Path(path).parent.name) else None


def resolve_dataset_lineage(name: str, *, commit: str | None = None) -> dict[str, Any]:
    """What is known of a data set: `hub_id`, `revision`, `license`, and `unknown` as of a model.

    Args:
        name: a folder here, `org/name`, or anything else, of which nothing is known.
        commit: that is read; None: the newest.
    """
    source = _read_source(name, kind="dataset", commit=commit)
    return {**source.provenance(), "unknown": source.unknown} if source.unknown else source.provenance()


@dataclass(kw_only=True)
class _SourceTexts:
    """A folder or a repository, and the texts in it that say where it comes from."""

    hub_id: str | None = None
    revision: str | None = None
    card: str = ""
    run: str = ""
    unknown: str = ""

    def provenance(self) -> dict[str, Any]:
        return {
            "hub_id": self.hub_id,
            "revision": self.revision,
            "license": license_from_header(parse_header_or_empty(self.card)),
        }


def _read_source(name: str, *, kind: str, commit: str | None) -> _SourceTexts:
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        # The card and the record of a run lie above its checkpoints.
        run_folder = folder.resolve().parent if _CHECKPOINT_FOLDER.fullmatch(folder.resolve().name) else folder
        return _SourceTexts(card=_read_text(run_folder / CARD_FILE), run=_read_text(run_folder / RUN_FILE))
    return (
        _read_hub_source(name, kind=kind, commit=commit) if is_hub_id(name) and not folder.exists() else _SourceTexts()
    )


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


# On the Hub.


def _read_hub_source(id: str, *, kind: str, commit: str | None) -> _SourceTexts:
    """What a repository says, or the cache of the client where the Hub is out of reach; the first failure is the last.

    A broken connection is the HTTP client's own error, and which client that is depends on huggingface_hub's version.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    source = _SourceTexts(hub_id=id, revision=commit)
    try:
        source.card = _fetch_text(id, CARD_FILE, kind=kind, source=source)
        source.run = _fetch_text(id, RUN_FILE, kind=kind, source=source) if kind == "model" else ""
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        source.unknown = f"the Hub did not say everything of {id} ({reason})"
    return source


def _fetch_text(id: str, file: str, *, kind: str, source: _SourceTexts) -> str:
    """A text of a repository, of the commit that is read; empty where it has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        path = Path(
            hf_hub_download(id, file, repo_type=kind, revision=source.revision, etag_timeout=_HUB_TIMEOUT_SECONDS)
        )
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise
        response = getattr(error, "response", None)
        source.revision = source.revision or (None if response is None else response.headers.get("X-Repo-Commit"))
        return ""
    # The cache keeps a file under its commit: .../snapshots/COMMIT/README.md
    if _COMMIT.fullmatch(path.parent.name):
        source.revision = source.revision or path.parent.name
    return _read_text(path)


# What came before.


def _iter_ancestors(source: _SourceTexts, *, seen: set[str]) -> Iterator[dict[str, Any]]:
    """The checkpoints before one: from the record of its run where there is one, else from its card."""
    parent_records = _parse_parents(source.run)
    if parent_records is None:
        named = parse_header_or_empty(source.card).get("base_model") or []
        parent_records = [{"model": name} for name in ([named] if isinstance(named, str) else named)]
    for parent in parent_records:
        name = str(parent["model"])
        if name in seen or len(seen) > _MAX_ANCESTORS:
            continue
        seen.add(name)
        if "ancestors" in parent:
            yield _to_ancestor_record(parent)
            yield from (_to_ancestor_record(earlier) for earlier in parent["ancestors"])
        else:
            before = _read_source(name, kind="model", commit=None)
            provenance = before.provenance()
            license = parent.get("license") or provenance["license"] or known_checkpoint_license(name)
            yield {"model": name, **provenance, "license": license}
            yield from _iter_ancestors(before, seen=seen)


def _to_ancestor_record(record: Mapping[str, Any]) -> dict[str, Any]:
    provenance = {key: record.get(key) for key in ("model", "hub_id", "revision", "license")}
    return {**provenance, "license": provenance["license"] or known_checkpoint_license(str(provenance["model"]))}


def _parse_parents(run: str) -> list[dict[str, Any]] | None:
    """The parents in the text of a `run.json`; None where it is none, or names none."""
    try:
        found = json.loads(run)
    except ValueError:
        return None
    parents = found.get("parents") if isinstance(found, dict) else None
    return [parent for parent in parents if isinstance(parent, dict) and parent.get("model")] if parents else None
