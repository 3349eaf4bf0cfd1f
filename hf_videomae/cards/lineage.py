"""Find out where a model or a dataset comes from: its repository, commit and license, and its ancestors.

A run records this once, in `run.json` or in the report of a dataset: later the folders may be gone and the Hub may
have changed. What cannot be found out is None, and `unknown` says why; no failure here ends a run. A card reads the
record.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import first_line
from ..hub.repo import is_hub_id
from ..redaction import is_local_path, redact_values
from ..run_files import RUN_FILE, read_json
from .header import license_from_header, parse_header_or_empty
from .license import Ancestor, known_checkpoint_license
from .markdown import CARD_FILE, CardError

MOTION = "motion"
"""The built-in data, which this package generates, so nobody else has rights to it."""

_CHECKPOINT_FOLDER = re.compile(r"checkpoint-\d+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_TIMEOUT_SECONDS = 10.0
_MAX_ANCESTORS = 8  # base models may name each other in a circle


def resolve_model_lineage(name: str, *, commit: str | None = None) -> dict[str, Any]:
    """Return what is known about a checkpoint and its ancestors.

    Args:
        name: a local folder, or `org/name`.
        commit: the commit that was loaded; None: the newest.

    Returns:
        `model` (as given), `hub_id`, `revision`, `license`, and `ancestors`, the nearest first, each with `model`,
        `hub_id`, `revision`, `license`; and `unknown`, a line, if not everything could be read.
    """
    source = _read_source(name, repo_type="model", commit=commit)
    record = {"model": name, **source.provenance()}
    record["license"] = record["license"] or known_checkpoint_license(name)
    record["ancestors"] = list(_iter_ancestors(source, seen={name}))
    return {**record, "unknown": source.unknown} if source.unknown else record


def find_cached_commit(id: str, *, file: str = "config.json") -> str | None:
    """Return the commit of a repository that this machine's cache holds; None: not known."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(id, file) if is_hub_id(id) and not Path(id).exists() else None
    return Path(path).parent.name if isinstance(path, str) and _COMMIT.fullmatch(Path(path).parent.name) else None


def resolve_dataset_lineage(name: str, *, commit: str | None = None) -> dict[str, Any]:
    """Return what is known about a dataset: `hub_id`, `revision`, `license`, and `unknown` as for a model.

    Args:
        name: a local folder, `org/name`, or anything else, about which nothing is known.
        commit: the commit that is read; None: the newest.
    """
    source = _read_source(name, repo_type="dataset", commit=commit)
    return {**source.provenance(), "unknown": source.unknown} if source.unknown else source.provenance()


@dataclass(kw_only=True)
class _SourceTexts:
    """The texts of a folder or a repository that say where it comes from: its card and `run.json`."""

    hub_id: str | None = None
    revision: str | None = None
    card: str = ""
    run: str = ""
    unknown: str = ""

    def provenance(self) -> dict[str, Any]:
        return {
            "hub_id": self.hub_id,
            "revision": self.revision,
            "license": _card_license(self.card),
        }


def _read_source(name: str, *, repo_type: str, commit: str | None) -> _SourceTexts:
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        # The card and the record of a run lie above its checkpoints.
        run_folder = folder.resolve().parent if _CHECKPOINT_FOLDER.fullmatch(folder.resolve().name) else folder
        return _SourceTexts(card=_read_text(run_folder / CARD_FILE), run=_read_text(run_folder / RUN_FILE))
    if is_hub_id(name) and not folder.exists():
        return _read_hub_source(name, repo_type=repo_type, commit=commit)
    return _SourceTexts()


def _card_license(card: str) -> str | None:
    return license_from_header(parse_header_or_empty(card))


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


# On the Hub.


def _read_hub_source(id: str, *, repo_type: str, commit: str | None) -> _SourceTexts:
    """Read the texts of a repository, or those in the client's cache if the Hub is out of reach, without retries.

    A broken connection raises the HTTP client's own error; which client that is depends on huggingface_hub's version.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    source = _SourceTexts(hub_id=id, revision=commit)
    try:
        source.card = _fetch_text(id, CARD_FILE, repo_type=repo_type, source=source)
        if repo_type == "model":
            source.run = _fetch_text(id, RUN_FILE, repo_type=repo_type, source=source)
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        source.unknown = f"the Hub did not say everything about {id} ({first_line(error)})"
    return source


def _fetch_text(id: str, file: str, *, repo_type: str, source: _SourceTexts) -> str:
    """Return a file of a repository at the source's commit, which is filled in; empty if there is no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        downloaded = hf_hub_download(
            id, file, repo_type=repo_type, revision=source.revision, etag_timeout=_HUB_TIMEOUT_SECONDS
        )
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise
        response = getattr(error, "response", None)
        source.revision = source.revision or (None if response is None else response.headers.get("X-Repo-Commit"))
        return ""
    path = Path(downloaded)  # the cache keeps a file under its commit: .../snapshots/COMMIT/README.md
    if _COMMIT.fullmatch(path.parent.name):
        source.revision = source.revision or path.parent.name
    return _read_text(path)


# Ancestors.


def _iter_ancestors(source: _SourceTexts, *, seen: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the ancestors of a checkpoint, from the record of its run if there is one, else from its card."""
    parent_records = _parse_parents(source.run)
    if parent_records is None:
        names = parse_header_or_empty(source.card).get("base_model") or []
        parent_records = [{"model": name} for name in ([names] if isinstance(names, str) else names)]
    for parent in parent_records:
        name = str(parent["model"])
        if name in seen or len(seen) > _MAX_ANCESTORS:
            continue
        seen.add(name)
        if "ancestors" in parent:
            yield _to_ancestor_record(parent)
            yield from (_to_ancestor_record(earlier) for earlier in parent["ancestors"])
        else:
            before = _read_source(name, repo_type="model", commit=None)
            provenance = before.provenance()
            license = parent.get("license") or provenance["license"] or known_checkpoint_license(name)
            yield {"model": name, **provenance, "license": license}
            yield from _iter_ancestors(before, seen=seen)


def _to_ancestor_record(record: Mapping[str, Any]) -> dict[str, Any]:
    provenance = {key: record.get(key) for key in ("model", "hub_id", "revision", "license")}
    return {**provenance, "license": provenance["license"] or known_checkpoint_license(str(provenance["model"]))}


def _parse_parents(run: str) -> list[dict[str, Any]] | None:
    """Return the parents in the text of a `run.json`; None if it is not one, or names none."""
    try:
        record = json.loads(run)
    except ValueError:
        return None
    parents = record.get("parents") if isinstance(record, dict) else None
    return [parent for parent in parents if isinstance(parent, dict) and parent.get("model")] if parents else None


# For a card, without the network: from the record of the run; for an older record, from the folders that still exist.


def iter_lineage(folder: Path, run: dict[str, Any]) -> Iterator[Ancestor]:
    """Yield the checkpoints that the model of a run came from, the nearest first, and its data, except the built-in.

    Args:
        folder: the run's output folder.
        run: its `run.json`.
    """
    yield from _iter_parents(folder, run, seen={folder.resolve()})
    for record in _dataset_records(run):
        data = _dataset_ancestor(folder, run, record)
        if data is not None and data.name != MOTION:
            yield data


def _dataset_records(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of a run's dataset, or of each dataset of a mix."""
    data = run.get("data", {})
    return data.get("mix") or [data]


def _dataset_ancestor(folder: Path, run: dict[str, Any], record: dict[str, Any]) -> Ancestor | None:
    name = record.get("dataset") or record.get("name")
    if name is None:
        return None
    if name == MOTION:
        return Ancestor(name=MOTION, is_data=True)
    if "hub_id" in record:
        return _ancestor_from_record(folder, record, name=name, is_data=True)
    local_folder = _find_local_folder(name, folder)
    license = record.get("license") or _folder_license(local_folder)
    return _infer_ancestor(name, run, local_folder=local_folder, license=license, is_data=True)


def find_evaluation_dataset(folder: Path, run: dict[str, Any], evaluation: dict[str, Any] | None) -> Ancestor | None:
    """Return the data of an evaluation of a run; None: not known, or there is no evaluation."""
    record = (evaluation or {}).get("data", {})
    known = (one for one in _dataset_records(run) if one.get("dataset") == record.get("dataset"))
    return _dataset_ancestor(folder, run, {**next(known, {}), **record}) if record else None


def _ancestor_from_record(folder: Path, record: dict[str, Any], *, name: str, is_data: bool) -> Ancestor:
    """Return an ancestor as the run recorded it; a local folder may have got a license since."""
    hub_id, license = record.get("hub_id"), record.get("license")
    if license is None and hub_id is None:
        license = _folder_license(_find_local_folder(name, folder))
    return Ancestor(
        name=hub_id or _redacted_base_name(name),
        hub_id=hub_id,
        revision=record.get("revision"),
        license=license or known_checkpoint_license(name),
        is_data=is_data,
    )


def _iter_parents(folder: Path, run: dict[str, Any], *, seen: set[Path]) -> Iterator[Ancestor]:
    """Yield the checkpoint that a run started from, and its ancestors if the folder of its own run is still there."""
    for parent in run.get("parents", ()):
        if "ancestors" in parent:
            for one in (parent, *parent["ancestors"]):
                yield _ancestor_from_record(folder, one, name=one["model"], is_data=False)
            continue
        name, local_folder = parent["model"], _find_local_folder(parent["model"], folder)
        license = parent.get("license") or _folder_license(local_folder) or known_checkpoint_license(name)
        before: list[Ancestor] = []
        if local_folder is not None and local_folder.resolve() not in seen and (local_folder / RUN_FILE).is_file():
            seen.add(local_folder.resolve())
            remedy = "the run that wrote it may have been cut off: run it again"
            earlier = read_json(local_folder / RUN_FILE, remedy=remedy, kind=CardError)
            before = list(_iter_parents(local_folder, earlier, seen=seen))
        yield _infer_ancestor(name, run, local_folder=local_folder, license=license, is_data=False)
        yield from before


def _folder_license(folder: Path | None) -> str | None:
    return None if folder is None else _card_license(_read_text(folder / CARD_FILE))


def _infer_ancestor(
    name: str, run: dict[str, Any], *, local_folder: Path | None, license: str | None, is_data: bool
) -> Ancestor:
    on_hub = local_folder is None and is_hub_id(name) and not _is_under_local_outputs(name, run)
    return Ancestor(
        name=name if on_hub else _redacted_base_name(name),
        hub_id=name if on_hub else None,
        license=license,
        is_data=is_data,
    )


def _redacted_base_name(path: str) -> str:
    name = re.split(r"[\\/]", str(redact_values(path)).rstrip("\\/"))[-1]
    return "videos" if "*" in name else name


def _is_under_local_outputs(name: str, run: dict[str, Any]) -> bool:
    """Return whether `outputs/x` lies beside the run's own output folder: a deleted folder, not a Hub id."""
    output = str(run.get("recipe", {}).get("output_dir", ""))
    return not is_local_path(output) and "/" in output and name.split("/")[0] == output.split("/")[0]


def _find_local_folder(name: str, folder: Path) -> Path | None:
    """Return the folder that a run called `name`, relative to the current folder or to one above the run's own."""
    for base in (Path("."), *folder.resolve().parents):
        local_folder = base / os.path.expanduser(name)
        if local_folder.is_dir():
            return local_folder
    return None
