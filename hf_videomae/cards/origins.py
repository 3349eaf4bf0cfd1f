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

from .document import CARD_FILE
from .header import header_of, licence_in
from .licences import known_licence

RUN_FILE = "run.json"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 10.0  # for an answer of the Hub
_GENERATIONS = 8
"""So far back at most: base models may name each other."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a repository, `org/name`, and is not rather the path of a video."""
    return _HUB_ID.fullmatch(name) is not None and not name.endswith((".git", ".mp4"))


def model_origin(name: str, *, commit: str | None = None) -> dict[str, Any]:
    """What is known of a checkpoint and of those before it.

    Args:
        name: a folder here, or `org/name`.
        commit: that was loaded; None: the newest.

    Returns:
        `model` (as given), `hub_id`, `revision`, `license`, and `ancestors`, the nearest first, each with `model`,
        `hub_id`, `revision`, `license`; and `unknown`, a line, where not everything could be read.
    """
    place = _place_of(name, kind="model", commit=commit)
    found = {"model": name, **place.facts()}
    found["license"] = found["license"] or known_licence(name)
    found["ancestors"] = list(_ancestors(place, seen={name}))
    return {**found, "unknown": place.unknown} if place.unknown else found


def loaded_commit(id: str, *, file: str = "config.json") -> str | None:
    """The commit of a repository that the clients of this machine read last, by their cache; None: not known."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(id, file) if is_hub_id(id) and not Path(id).exists() else None
    return Path(path).parent.name if isinstance(path, str) and _COMMIT.fullmatch(Path(path).parent.name) else None


def data_origin(name: str, *, commit: str | None = None) -> dict[str, Any]:
    """What is known of a data set: `hub_id`, `revision`, `license`, and `unknown` as of a model.

    Args:
        name: a folder here, `org/name`, or anything else, of which nothing is known.
        commit: that is read; None: the newest.
    """
    place = _place_of(name, kind="dataset", commit=commit)
    return {**place.facts(), "unknown": place.unknown} if place.unknown else place.facts()


@dataclass(kw_only=True)
class _Place:
    """A folder or a repository, and the texts in it that say where it comes from."""

    hub_id: str | None = None
    revision: str | None = None
    card: str = ""
    run: str = ""
    unknown: str = ""

    def facts(self) -> dict[str, Any]:
        return {"hub_id": self.hub_id, "revision": self.revision, "license": licence_in(header_of(self.card))}


def _place_of(name: str, *, kind: str, commit: str | None) -> _Place:
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        # The card and the record of a run lie above its checkpoints.
        home = folder.resolve().parent if _CHECKPOINT.fullmatch(folder.resolve().name) else folder
        return _Place(card=_text_of(home / CARD_FILE), run=_text_of(home / RUN_FILE))
    return _on_hub(name, kind=kind, commit=commit) if is_hub_id(name) and not folder.exists() else _Place()


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


# On the Hub.


def _on_hub(id: str, *, kind: str, commit: str | None) -> _Place:
    """What a repository says, or the cache of the client where the Hub is out of reach; the first failure is the last.

    A broken connection is the HTTP client's own error, and which client that is depends on huggingface_hub's version.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    place = _Place(hub_id=id, revision=commit)
    try:
        place.card = _fetch(id, CARD_FILE, kind=kind, place=place)
        place.run = _fetch(id, RUN_FILE, kind=kind, place=place) if kind == "model" else ""
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        place.unknown = f"the Hub did not say everything of {id} ({reason})"
    return place


def _fetch(id: str, file: str, *, kind: str, place: _Place) -> str:
    """A text of a repository, of the commit that is read; empty where it has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        path = Path(hf_hub_download(id, file, repo_type=kind, revision=place.revision, etag_timeout=_SECONDS))
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise
        response = getattr(error, "response", None)
        place.revision = place.revision or (None if response is None else response.headers.get("X-Repo-Commit"))
        return ""
    # The cache keeps a file under its commit: .../snapshots/COMMIT/README.md
    if _COMMIT.fullmatch(path.parent.name):
        place.revision = place.revision or path.parent.name
    return _text_of(path)


# What came before.


def _ancestors(place: _Place, *, seen: set[str]) -> Iterator[dict[str, Any]]:
    """The checkpoints before one: from the record of its run where there is one, else from its card."""
    recorded = _parents(place.run)
    if recorded is None:
        named = header_of(place.card).get("base_model") or []
        recorded = [{"model": name} for name in ([named] if isinstance(named, str) else named)]
    for parent in recorded:
        name = str(parent["model"])
        if name in seen or len(seen) > _GENERATIONS:
            continue
        seen.add(name)
        if "ancestors" in parent:
            yield _plain(parent)
            yield from (_plain(earlier) for earlier in parent["ancestors"])
        else:
            before = _place_of(name, kind="model", commit=None)
            facts = before.facts()
            licence = parent.get("license") or facts["license"] or known_licence(name)
            yield {"model": name, **facts, "license": licence}
            yield from _ancestors(before, seen=seen)


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: record.get(key) for key in ("model", "hub_id", "revision", "license")}
    return {**facts, "license": facts["license"] or known_licence(str(facts["model"]))}


def _parents(run: str) -> list[dict[str, Any]] | None:
    """The parents in the text of a `run.json`; None where it is none, or names none."""
    try:
        found = json.loads(run)
    except ValueError:
        return None
    parents = found.get("parents") if isinstance(found, dict) else None
    return [parent for parent in parents if isinstance(parent, dict) and parent.get("model")] if parents else None
