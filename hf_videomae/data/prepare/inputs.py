"""What is to be prepared: every video of every split, with its label, and what is refused before it is opened."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...cards import data_origin, is_hub_id, public_path
from ...records import readable
from ...video.encoding import Trim
from ..column_values import rows_name_videos
from ..folder_layout import read_all_splits, read_whole
from ..frame_folders import describe_frames
from ..index_files import INDEX_FILES, Index, index_of, read_index_columns
from ..index_paths import IndexPaths
from ..label_columns import share_classes
from ..labels import SINGLE, LabelKind, note_on_similar, parse_labels
from ..list_names import is_list_name, note_on_lists
from ..lists import read_list
from ..metadata_files import METADATA_FILES, find_metadata, read_metadata, with_splits_of_folders
from ..network import Patience, one_try, shard_seconds, until_it_passes
from ..row_paths import FLAG, allowed_folders, check_allowed, public_place
from ..samples import DataError, Label
from ..shard_folders import find_shards
from ..streamed import DatasetsSource, split_names
from ..video_files import FolderScan, scan_folder
from .entries import Dropped, Entry, dropped_of_folder, entries_of_folder, entries_of_index


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
        linked_out: why the set is not to be published: links lead out of the folder; "" where none do.
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
    linked_out: str = ""


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
        source: a folder of videos, a list of videos (`hf_videomae.data.lists`), a folder of Parquet or WebDataset
            files, or `org/name` of the Hub.
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
        scan = scan_folder(root, index_names=METADATA_FILES)
        found = (root / name for name in INDEX_FILES if (root / name).is_file())
        listing = Path(index) if index else next(found, None)
        if listing is not None or (scan.videos and not rows_name_videos(root)):
            return _open_folder(root, scan, listing=listing, kind=label_kind, allow_paths=allow_paths)
        if scan.is_frame_folder:
            raise DataError(describe_frames(root))
        if not find_shards(root):
            others = scan.other_endings() + (f"; unpack the archives ({scan.archives})" if scan.archives else "")
            raise DataError(
                f"{source} holds no videos (.mp4, .avi, .mkv, ...) and no Parquet or WebDataset files{others}"
            )
    elif os.path.isfile(path) and is_list_name(path):
        if index:
            raise DataError(f"{source} is a list of videos itself; leave --index {index} out")
        return _open_list(Path(path), kind=label_kind)
    elif not is_hub_id(source):
        raise DataError(
            f"there is no folder {source}; give a folder of videos, a list of them (CSV), or org/name of the Hub"
        )
    if index:
        raise DataError(f"{source} has its labels in its columns; an index file belongs to a folder of videos")
    columns: dict[str, Any] = {"video_column": video_column, "label_column": label_column, "label_kind": label_kind}
    if allow_paths:
        columns["allow_paths"] = check_allowed(allow_paths)
    # A server that fails just now is waited for, as it is later on; one that is not there at all, not for long.
    with one_try():
        return until_it_passes(
            lambda: _open_streamed(path, config=config, revision=revision, columns=columns),
            Patience(path, seconds=shard_seconds()),
        )


def name_of(source: str) -> str:
    """What the set is called: the folder's name, or `org/name`."""
    path = os.path.expanduser(source)
    # Not the name of a home: that is a person's.
    return readable(public_path(str(Path(path).resolve())).split("/")[-1] if os.path.isdir(path) else source)


# A folder.


def _open_folder(
    root: Path, scan: FolderScan, *, listing: Path | None, kind: LabelKind, allow_paths: Sequence[str]
) -> RawSet:
    """Return the videos under a folder, or those that its index file lists."""
    if listing is not None:
        paths = IndexPaths(root, allowed=allowed_folders(allow_paths))
        columns, notes = read_index_columns(listing, root=root)
        index = index_of(columns, paths=paths, split=None, kind=kind, notes=notes)
        return _of_index(with_splits_of_folders(index, name=str(root)), root=root, kind=kind)
    metadata, notes = find_metadata(root, scan.index_files, scan.videos)
    has_splits = any(file.columns.split for file in metadata)
    found = read_whole(scan.videos) if has_splits else read_all_splits(scan.videos, name=str(root))
    if metadata:
        allowed = allowed_folders(allow_paths)
        index = read_metadata(root, metadata, found, kind=kind, allowed=allowed, strict=False)
        prepared = _of_index(index, root=root, kind=kind)
        prepared.refused += dropped_of_folder(scan)
        prepared.notes += [*found.notes, *notes, *scan.notes()]
        return prepared
    unlabelled = found.unlabelled or ("there are no two class folders" if found.labels is None else "")
    prepared = _raw_set(entries_of_folder(found), dropped_of_folder(scan), root=root, kind=kind, unlabelled=unlabelled)
    prepared.linked_out = _linked_out(root, found.paths, allowed=allowed_folders(allow_paths))
    more = [f"no labels: {found.unlabelled}"] if found.unlabelled else []
    more += [*prepared.notes, *scan.notes(), *filter(None, [note_on_lists(root), prepared.linked_out])]
    prepared.notes = [*found.notes, *notes, *more]
    return prepared


def _linked_out(root: Path, videos: Sequence[str], *, allowed: Sequence[str]) -> str:
    """Say which videos lie outside of the folder and of those that are allowed; "" where none do."""
    paths = IndexPaths(root, allowed=allowed)
    outside = [video for video in videos if not paths.is_open(video)]
    if not outside:
        return ""
    folder = os.path.dirname(os.path.realpath(root / outside[0]))
    return (
        f"{len(outside)} of the videos lie outside of {readable(str(root))} (links lead there), the first is "
        f"{readable(outside[0])}; they are published only with {FLAG} {readable(folder)}"
    )


def _open_list(file: Path, *, kind: LabelKind) -> RawSet:
    """Return the videos of a list that the user names."""
    listed = read_list(file)
    return _of_index(listed.index(split=None, kind=kind), root=listed.root, kind=kind, split=listed.split)


def _of_index(index: Index, *, root: Path, kind: LabelKind, split: str = "train") -> RawSet:
    entries, dropped = entries_of_index(index, kind=kind, split=split)
    prepared = _raw_set(entries, dropped, root=root, kind=kind, unlabelled=index.unlabelled)
    prepared.notes = [*index.notes, *prepared.notes]
    return prepared


def _raw_set(entries: list[Entry], refused: list[Dropped], *, root: Path, kind: LabelKind, unlabelled: str) -> RawSet:
    if not entries:
        reason = f": {refused[0].path}: {refused[0].reason}" if refused else ""
        raise DataError(f"{root} holds no video that can be used{reason}")
    entries = sorted(entries, key=lambda entry: (entry.split, entry.id))
    names, labels, notes = None, None, list[str]()
    if not unlabelled:
        texts, ids = [entry.label for entry in entries], [entry.id for entry in entries]
        names, labels = parse_labels(texts, kind=kind, ids=ids, name=str(root))
        notes = note_on_similar(names, name=str(root))
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
        notes=sources[0].notes,
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
                is_whole = sample.start is None and sample.end is None
                yield RawVideo(
                    id=sample.id,
                    video=sample.video,
                    split=source.split,
                    label=sample.label,
                    stamp=into.fingerprint,
                    trim=None if is_whole else Trim(start=sample.start or 0.0, end=sample.end),
                )


def _content_of_shards(path: str, *, revision: str | None) -> Any:
    if os.path.isdir(path):
        return [(shard, _stamp(Path(path) / shard)) for shard in find_shards(Path(path))]
    from huggingface_hub import HfApi

    return [path, HfApi().dataset_info(path, revision=revision).sha]


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
