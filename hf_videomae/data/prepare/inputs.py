"""What is to be prepared: every video of every split, with its label, and what is refused before it is opened."""

import glob
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...cards import data_origin, is_hub_id, public_path
from ...records import readable
from ...video.encoding import Trim
from ..folder_layout import FolderVideos, read_all_splits
from ..index_columns import find_columns, read_index_table
from ..index_files import INDEX_FILES, Index, index_of
from ..index_paths import IndexPaths
from ..labels import SINGLE, LabelKind, parse_labels
from ..network import SHARD_SECONDS, Patience, one_try, until_it_passes
from ..samples import DataError, Label, segment_id
from ..streamed import DatasetsSource, split_names
from ..video_files import FolderScan, extension_of, scan_folder

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
        notes: how it was read, for the user.
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
    notes: list[str] = field(default_factory=list)


def open_raw(
    source: str,
    *,
    index: str | None = None,
    label_kind: LabelKind = SINGLE,
    config: str | None = None,
    revision: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
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
        label_column: found by its type.

    Raises:
        DataError: when there is nothing to prepare.
    """
    named = {"config": config, "video_column": video_column, "label_column": label_column}
    raw = _find(source, index=index, label_kind=label_kind, revision=revision, **named)
    said = {**named, "index": None if index is None else public_path(os.path.abspath(index))}
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
) -> RawSet:
    path = os.path.expanduser(source)
    if os.path.isdir(path):
        root = Path(path)
        scan = scan_folder(root, index_names=INDEX_FILES)
        found = (root / name for name in INDEX_FILES if (root / name).is_file())
        listing = Path(index) if index else next(found, None)
        if scan.videos or listing is not None:
            return _open_folder(root, scan, listing=listing, kind=label_kind)
        if not _shards_of(root):
            raise DataError(f"{source} holds no videos (.mp4, .avi, .mkv, ...) and no Parquet or WebDataset files")
    elif not is_hub_id(source):
        raise DataError(f"there is no folder {source}; give a folder of videos, or org/name of the Hub")
    if index:
        raise DataError(f"{source} has its labels in its columns; an index file belongs to a folder of videos")
    columns = {"video_column": video_column, "label_column": label_column, "label_kind": label_kind}
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
    return readable(public_path(str(Path(path).resolve())).split("/")[-1] if os.path.isdir(path) else source)


# A folder.


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A video as its folders or its row name it."""

    path: str
    label: str = ""
    split: str = "train"
    start: float | None = None
    end: float | None = None

    @property
    def id(self) -> str:
        return segment_id(readable(self.path), start=self.start, end=self.end)

    @property
    def trim(self) -> Trim | None:
        if self.start is None and self.end is None:
            return None
        return Trim(start=self.start or 0.0, end=self.end)


def _open_folder(root: Path, scan: FolderScan, *, listing: Path | None, kind: LabelKind) -> RawSet:
    refused: list[Dropped] = []
    notes: list[str] = []
    if listing is None:
        found = read_all_splits(scan.videos, name=str(root))
        entries, unlabelled = _by_folders(found), found.unlabelled
        more = [f"no labels: {unlabelled}"] if unlabelled else []
        unlabelled = unlabelled or ("there are no two class folders" if found.labels is None else "")
        refused, notes = _left_out(scan), [*found.notes, *more, *scan.notes()]
    else:
        entries, refused, index = _by_rows(root, listing, kind=kind, paths=IndexPaths(root))
        unlabelled, notes = index.unlabelled, index.notes
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
        notes=notes,
    )


def _by_folders(found: FolderVideos) -> list[_Entry]:
    labels = [""] * len(found.paths) if found.labels is None else list(map(readable, found.labels))
    return [
        _Entry(path=path, label=label, split=split)
        for path, label, split in zip(found.paths, labels, found.splits, strict=True)
    ]


def _left_out(scan: FolderScan) -> list[Dropped]:
    """Return the files whose endings are not taken for those of videos."""
    return [
        Dropped(readable(path), f"its ending {extension_of(path) or '(none)'} is not taken for a video's")
        for path in scan.other_media
    ]


def _by_rows(
    root: Path, listing: Path, *, kind: LabelKind, paths: IndexPaths
) -> tuple[list[_Entry], list[Dropped], Index]:
    """Return the videos of an index file; a row that cannot be used is refused by itself."""
    table = read_index_table(listing)
    index = index_of(table, find_columns(table), paths=paths, split=None, kind=kind)
    refused = {readable(row.row): f"{row.reason} ({listing.name})" for row in index.refused}
    kept: dict[str, _Entry] = {}
    for place, listed in enumerate(index.entries):
        label = "" if index.labels is None else index.labels[place]
        try:
            if kind == "regression" and index.labels is not None and not _is_number(label):
                raise ValueError(f"its label {label!r} is no finite number")
            if not listed.split and any(other.split for other in index.entries):
                raise ValueError("it has no split, though others have")
            split = _split_name(listed.split or "train")
        except ValueError as error:
            refused[readable(listed.path)] = f"{error} ({listing.name})"
            continue
        entry = _Entry(path=listed.path, label=label, split=split, start=listed.start, end=listed.end)
        before = kept.setdefault(entry.id, entry)
        if before != entry:
            refused[entry.id] = f"it is listed twice, as {_told(before)} and {_told(entry)} ({listing.name})"
    entries = [entry for id, entry in kept.items() if id not in refused]
    return entries, [Dropped(path, reason) for path, reason in sorted(refused.items())], index


def _told(entry: _Entry) -> str:
    return f"{entry.label or 'unlabelled'} in {entry.split}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _split_name(text: str) -> str:
    if not _SPLIT_NAME.fullmatch(text):
        raise ValueError(f"its split {text!r} is no name: letters, digits, _ and . are allowed")
    return text


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:  # a link to nothing; opening it will say so
        return "unreadable"
    return f"{status.st_size}-{status.st_mtime_ns}"


# Data sets in Parquet or WebDataset, here or on the Hub.


def _open_streamed(path: str, *, config: str | None, revision: str | None, columns: dict[str, Any]) -> RawSet:
    sources = [
        DatasetsSource(path, split=split, config=config, revision=revision, **columns)
        for split in split_names(path, config=config, revision=revision) or ["train"]
    ]
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
