"""What is to be prepared: every video of every split, with its label, and what is refused before it is opened."""

import glob
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...cards import data_origin, is_hub_id, public_path
from ...video.encoding import Trim
from ..column_values import rows_name_videos
from ..folder import INDEX_FILES, SPLIT_FOLDERS, find_videos, folder_labels, read_rows, split_folders
from ..label_columns import share_classes
from ..labels import MISSING, SINGLE, LabelKind, parse_labels
from ..network import SHARD_SECONDS, Patience, one_try, until_it_passes
from ..row_paths import check_allowed, public_place
from ..samples import DataError, Label
from ..streamed import DatasetsSource, split_names

_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True, kw_only=True)
class RawVideo:
    """One video to prepare.

    Attributes:
        id: relative path, with `@start-end` where an index file cuts a part out; or the id of a streamed sample.
        video: path, URL or bytes.
        split: of the data set.
        label: as in `Sample`.
        stamp: another stamp is another content.
        trim: what an index file cuts out.
    """

    id: str
    video: str | bytes
    split: str
    label: Label | None = None
    stamp: str = ""
    trim: Trim | None = None


@dataclass(frozen=True)
class Dropped:
    """A video that is left out."""

    path: str
    reason: str


@dataclass(kw_only=True)
class RawSet:
    """Everything that is to be prepared.

    Attributes:
        name: of the data set: the folder's, or `org/name`.
        videos: to go through once.
        count: of the videos, where it is known beforehand.
        fingerprint: another fingerprint is another content.
        revision: the commit of a data set of the Hub.
        class_names: of a labelled set.
        refused: known to be unusable without opening it; of a stream only complete once the stream was read.
        unlabelled: why there are no labels.
        origin: what is known of where it comes from, as of `hf_videomae.cards.data_origin`.
        asked: what was said of how to read it, as far as the result depends on that.
    """

    name: str
    videos: Iterable[RawVideo]
    count: int | None
    fingerprint: str
    revision: str | None = None
    class_names: list[str] | None = None
    refused: list[Dropped] = field(default_factory=list)
    unlabelled: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)


def open_raw(
    source: str,
    *,
    index: str | None = None,
    label_kind: LabelKind = SINGLE,
    config: str | None = None,
    revision: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
    allow_paths: Sequence[str] = (),
) -> RawSet:
    """Find the videos that are to be prepared, and where they come from.

    Args:
        source: a folder of videos, a folder of Parquet or WebDataset files, or `org/name` of the Hub.
        index: a CSV or JSONL file with `path` (relative to the folder), and `label`, `split`, `start`, `end` (in
            seconds) as wanted; default is the one at the folder's top, if there is any.
        label_kind: what the labels say.
        config: of a data set with several.
        revision: of a Hub data set.
        video_column: found by its type.
        label_column: found by its type or name.
        allow_paths: hosts, folders and beginnings of URLs that rows may name; see `hf_videomae.data.row_paths`.

    Raises:
        DataError: when there is nothing to prepare.
    """
    named = {"config": config, "video_column": video_column, "label_column": label_column}
    raw = _find(source, index=index, label_kind=label_kind, revision=revision, allow_paths=allow_paths, **named)
    said = {**named, "index": None if index is None else public_path(os.path.abspath(index))}
    said["allow_paths"] = " ".join(map(public_place, allow_paths)) or None
    raw.asked = {name: value for name, value in said.items() if value is not None}
    raw.origin = data_origin(source, commit=raw.revision)
    return raw


def _find(
    source: str,
    *,
    index: str | None,
    label_kind: LabelKind,
    config: str | None,
    revision: str | None,
    video_column: str | None,
    label_column: str | None,
    allow_paths: Sequence[str] = (),
) -> RawSet:
    path = os.path.expanduser(source)
    if os.path.isdir(path):
        root = Path(path)
        videos = find_videos(root)
        found = (root / name for name in INDEX_FILES if (root / name).is_file())
        listing = Path(index) if index else next(found, None)
        if listing is not None or (videos and not rows_name_videos(root)):
            return _open_folder(root, videos, listing=listing, kind=label_kind)
        if not _shards_of(root):
            raise DataError(f"{source} holds no videos (.mp4, .avi, .mkv, ...) and no Parquet or WebDataset files")
    elif not is_hub_id(source):
        raise DataError(f"there is no folder {source}; give a folder of videos, or org/name of the Hub")
    if index:
        raise DataError(f"{source} has its labels in its columns; an index file belongs to a folder of videos")
    columns: dict[str, Any] = {"video_column": video_column, "label_column": label_column, "label_kind": label_kind}
    if allow_paths:
        columns["allow_paths"] = check_allowed(allow_paths)
    # A server that fails just now is waited for, as it is later on; one that is not there at all, not for long.
    with one_try():
        return until_it_passes(
            lambda: _open_streamed(path, config=config, revision=revision, columns=columns),
            Patience(path, seconds=SHARD_SECONDS),
        )


def name_of(source: str) -> str:
    """What the set is called: the folder's name, or `org/name`."""
    path = os.path.expanduser(source)
    # Not the name of a home: that is a person's.
    return public_path(str(Path(path).resolve())).split("/")[-1] if os.path.isdir(path) else source


# A folder.


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A video as its folders or its row name it."""

    path: str
    label: str = ""
    split: str = "train"
    trim: Trim | None = None

    @property
    def id(self) -> str:
        if self.trim is None:
            return readable(self.path)
        end = "" if self.trim.end is None else f"{self.trim.end:g}"
        return f"{readable(self.path)}@{self.trim.start:g}-{end}"


def readable(path: str) -> str:
    """A path as text: names on a disk may hold bytes that are no UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _open_folder(root: Path, videos: list[str], *, listing: Path | None, kind: LabelKind) -> RawSet:
    refused: list[Dropped] = []
    if listing is None:
        entries, unlabelled = _by_folders(videos)
    else:
        entries, refused = _by_rows(root, listing, kind=kind)
        unlabelled = "" if any(entry.label for entry in entries) else f"{listing.name} has no column `label`"
    if not entries:
        reason = f": {refused[0].path}: {refused[0].reason}" if refused else ""
        raise DataError(f"{root} holds no video that can be used{reason}")
    entries = sorted(entries, key=lambda entry: (entry.split, entry.id))
    names, labels = None, None
    if not unlabelled:
        texts, ids = [entry.label for entry in entries], [entry.id for entry in entries]
        names, labels = parse_labels(texts, kind=kind, ids=ids, name=str(root))
    raws = [
        RawVideo(
            id=entry.id,
            video=str(root / entry.path),
            split=entry.split,
            label=None if labels is None else labels[number],
            stamp=_stamp(root / entry.path),
            trim=entry.trim,
        )
        for number, entry in enumerate(entries)
    ]
    return RawSet(
        name=name_of(str(root)),
        videos=raws,
        count=len(raws),
        fingerprint=_fingerprint([names, [[*_identity(raw)] for raw in raws], [[*_pair(drop)] for drop in refused]]),
        class_names=names,
        refused=refused,
        unlabelled=unlabelled,
    )


def _by_folders(videos: list[str]) -> tuple[list[_Entry], str]:
    splits = split_folders(videos)
    inner = [path.split("/", 1)[1] if splits else path for path in videos]
    labels = folder_labels(inner)
    outside = [path for path in inner if "/" not in path]
    why = ""
    if labels is None:
        why = "there are no two class folders"
        if 0 < len(outside) < len(inner):
            why = f"{len(outside)} videos lie in no class folder, the first is {readable(outside[0])}"
    entries = [
        _Entry(
            path=path,
            label="" if labels is None else readable(labels[number]),
            split=splits[path.split("/", 1)[0]] if splits else "train",
        )
        for number, path in enumerate(videos)
    ]
    return entries, why


def _by_rows(root: Path, listing: Path, *, kind: LabelKind) -> tuple[list[_Entry], list[Dropped]]:
    """The videos of an index file; a row that cannot be used is refused by itself."""
    rows = list(read_rows(listing))
    if rows and not {"path", "file_name"} & rows[0].keys():
        columns = ", ".join(map(str, rows[0]))
        raise DataError(f"{listing} has no column `path` or `file_name` (its columns: {columns}); add one")
    labelled = any((row.get("label") or "").strip().lower() not in MISSING for row in rows)
    kept: dict[str, _Entry] = {}
    refused: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        path = (row.get("path") or row.get("file_name") or "").strip()
        try:
            entry = _entry_of(root, path, row, kind=kind if labelled else None)
        except ValueError as error:
            refused[readable(path) or f"row {number}"] = f"{error} ({listing.name})"
            continue
        before = kept.setdefault(entry.id, entry)
        if before != entry:
            refused[entry.id] = f"it is listed twice, as {_told(before)} and {_told(entry)} ({listing.name})"
    entries = [entry for id, entry in kept.items() if id not in refused]
    return entries, [Dropped(path, reason) for path, reason in sorted(refused.items())]


def _told(entry: _Entry) -> str:
    return f"{entry.label or 'unlabelled'} in {entry.split}"


def _entry_of(root: Path, path: str, row: dict[str, str], *, kind: LabelKind | None) -> _Entry:
    if not path:
        raise ValueError("it has no path")
    relative = PurePosixPath(os.path.relpath(root / path, root)).as_posix()
    if relative.startswith("../"):
        raise ValueError(f"it lies outside of {root.name}")
    if not (root / relative).is_file():
        raise ValueError("it is listed, but is not there")
    label = (row.get("label") or "").strip()
    if kind is not None and label.lower() in MISSING:
        raise ValueError("it has no label, though others have")
    if kind == "regression" and not _is_number(label):
        raise ValueError(f"its label {label!r} is no finite number")
    split = (row.get("split") or "").strip() or "train"
    return _Entry(path=relative, label=label if kind is not None else "", split=_split_name(split), trim=_trim_of(row))


def _trim_of(row: dict[str, str]) -> Trim | None:
    texts = [(row.get(name) or "").strip() for name in ("start", "end")]
    if not any(texts):
        return None
    if not all(_is_number(text) for text in texts if text):
        raise ValueError(f"its start and end ({', '.join(texts)}) are no seconds")
    start, end = (float(text) if text else None for text in texts)
    return Trim(start=start or 0.0, end=end)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _split_name(text: str) -> str:
    named = next((name for name, folders in SPLIT_FOLDERS.items() if text.lower() in folders), text)
    if not _SPLIT_NAME.fullmatch(named):
        raise ValueError(f"its split {text!r} is no name: letters, digits, _ and . are allowed")
    return named


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:  # a link to nothing; opening it will say so
        return "unreadable"
    return f"{status.st_size}-{status.st_mtime_ns}"


# Data sets in Parquet or WebDataset, here or on the Hub.


def _open_streamed(path: str, *, config: str | None, revision: str | None, columns: dict[str, Any]) -> RawSet:
    sources = [
        DatasetsSource(
            path, split=split, config=config, revision=revision, plain_labels=True, read_twice=True, **columns
        )
        for split in split_names(path, config=config, revision=revision, allow_paths=columns.get("allow_paths", ()))
        or ["train"]
    ]
    plain = [source.plain for source in sources if source.plain is not None]
    if len(plain) == len(sources):
        # A split may lack a class: all have those of the set.
        share_classes(plain)
        for source, labels in zip(sources, plain, strict=True):
            source.use_classes(labels)
    names = sources[0].class_names
    if any(source.class_names != names for source in sources):
        raise DataError(f"{path}: its splits have different classes; prepare them one by one")
    counts = [source.num_samples for source in sources]
    content = _content_of_shards(path, revision=revision)
    fingerprint = _fingerprint([content, config, columns, [source.split for source in sources]])
    prepared = RawSet(
        name=name_of(path),
        videos=(),
        count=None if None in counts else sum(filter(None, counts)),
        fingerprint=fingerprint,
        revision=sources[0].revision,
        class_names=names,
        unlabelled="" if sources[0].label_column else "it has no column of labels",
    )
    prepared.videos = _stream(sources, prepared)
    return prepared


def _stream(sources: list[DatasetsSource], into: RawSet) -> Iterator[RawVideo]:
    for source in sources:
        for shard in range(source.num_shards):
            for sample in source.read_shard(shard):
                if source.label_column is not None and sample.label is None:
                    into.refused.append(Dropped(sample.id, "it has no label, though others have"))
                    continue
                yield RawVideo(
                    id=sample.id, video=sample.video, split=source.split, label=sample.label, stamp=into.fingerprint
                )


def _content_of_shards(path: str, *, revision: str | None) -> Any:
    if os.path.isdir(path):
        return [(shard, _stamp(Path(path) / shard)) for shard in _shards_of(Path(path))]
    from huggingface_hub import HfApi

    return [path, HfApi().dataset_info(path, revision=revision).sha]


def _shards_of(root: Path) -> list[str]:
    found = [name for kind in ("parquet", "tar") for name in glob.glob(f"**/*.{kind}", root_dir=root, recursive=True)]
    return sorted(found)


def _identity(raw: RawVideo) -> tuple[Any, ...]:
    return raw.id, raw.split, raw.label, raw.stamp


def _pair(drop: Dropped) -> tuple[str, str]:
    return drop.path, drop.reason


def _fingerprint(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def without_repeats(videos: Iterable[RawVideo]) -> Iterator[RawVideo]:
    """Every video under an id of its own: a WebDataset may hold a key twice."""
    seen: Counter[str] = Counter()
    for raw in videos:
        seen[raw.id] += 1
        yield raw if seen[raw.id] == 1 else replace(raw, id=f"{raw.id}~{seen[raw.id]}")
