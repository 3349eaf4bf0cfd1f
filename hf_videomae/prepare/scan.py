"""List the videos to prepare, with their splits and labels, and those that are rejected without being opened."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cards import is_hub_id, resolve_dataset_lineage
from ..data.column_values import is_sharded
from ..data.folder_layout import read_all_splits, read_without_splits
from ..data.frame_folder_hint import describe_frame_folder
from ..data.hub_builder import split_names
from ..data.hub_dataset import HubDataset
from ..data.index_files import IndexEntry, VideoIndex, VideoList, build_index, read_index_file
from ..data.index_paths import IndexPathResolver
from ..data.label_columns import share_classes
from ..data.labels import SINGLE_LABEL, LabelKind, note_similar_class_names, parse_labels
from ..data.list_detection import is_list_file, note_unread_lists
from ..data.metadata_files import add_folder_splits, find_metadata, read_metadata
from ..data.path_policy import ALLOW_PATHS_FLAG, parse_allowed_paths, redact_allowed_path
from ..data.shard_folders import find_shards, has_shards
from ..data.source import Label, Sample
from ..data.video_files import FolderScan, scan_folder
from ..data.video_lists import read_video_list
from ..errors import DataError
from ..hub.retry import RetryPolicy, disable_datasets_retries, retry_transient, shard_retry_seconds
from ..redaction import redact_path
from ..text import escape_non_utf8
from ..video.encoding import Trim
from .entries import SkippedVideo, entries_from_folder, entries_from_index, skipped_in_folder


@dataclass(frozen=True, kw_only=True)
class InputVideo:
    """One video to prepare.

    Attributes:
        id: relative path, with `@start-end` for a segment named by an index file; or the id of a streamed sample.
        video: path, URL or bytes.
        split: split of the dataset.
        label: as in `Sample`.
        stamp: changes whenever the content changes.
        trim: the segment to keep; None: as the settings say.
    """

    id: str
    video: str | bytes
    split: str
    label: Label | None = None
    stamp: str = ""
    trim: Trim | None = None


@dataclass(kw_only=True)
class InputDataset:
    """Everything to prepare.

    Attributes:
        name: the folder's name, or `org/name`.
        videos: can be iterated once.
        count: number of videos, if known beforehand.
        fingerprint: changes whenever the content changes.
        revision: the commit of a Hub dataset.
        class_names: None for a dataset without labels, or with numbers as labels.
        refused: videos rejected without being opened; for a stream, complete only after the stream was read.
        no_labels_reason: why there are no labels; "" if there are.
        origin: where the dataset comes from, as returned by `hf_videomae.cards.resolve_dataset_lineage`.
        read_options: the user's options for reading it, as far as the result depends on them.
        notes: how it was read, for the user.
        links_outside: why the dataset must not be published: links lead out of the folder; "" if none do.
    """

    name: str
    videos: Iterable[InputVideo]
    count: int | None
    fingerprint: str
    revision: str | None = None
    class_names: list[str] | None = None
    refused: list[SkippedVideo] = field(default_factory=list)
    no_labels_reason: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    read_options: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    links_outside: str = ""


def open_input_dataset(
    source: str,
    *,
    index: str | None = None,
    label_kind: LabelKind = SINGLE_LABEL,
    config: str | None = None,
    revision: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
    allow_paths: Sequence[str] = (),
) -> InputDataset:
    """Return the videos to prepare and where they come from.

    Args:
        source: a folder of videos, a list of videos (`hf_videomae.data.video_lists`), a folder of Parquet or
            WebDataset files, or `org/name` on the Hub.
        index: a CSV or JSONL file with the column `path` (relative to the folder) and optionally `label`, `split`,
            `start` and `end` (seconds); default: the one at the top of the folder, if any.
        label_kind: one class per video, several, or a number.
        config: configuration of a dataset that has several.
        revision: branch, tag or commit of a Hub dataset.
        video_column: default: found by its type.
        label_column: default: found by its type or name.
        allow_paths: hosts, folders and URL prefixes that rows may name; see `hf_videomae.data.path_policy`.

    Raises:
        DataError: when there is nothing to prepare.
    """
    named = {"config": config, "video_column": video_column, "label_column": label_column}
    columns: dict[str, Any] = {"video_column": video_column, "label_column": label_column, "label_kind": label_kind}
    if allow_paths:
        columns["allow_paths"] = parse_allowed_paths(allow_paths)
    dataset = _open_source(source, index=index, config=config, revision=revision, columns=columns)
    options = {**named, "index": None if index is None else redact_path(os.path.abspath(index))}
    options["allow_paths"] = " ".join(map(redact_allowed_path, allow_paths)) or None
    dataset.read_options = {name: value for name, value in options.items() if value is not None}
    dataset.origin = resolve_dataset_lineage(source, commit=dataset.revision)
    return dataset


def _open_source(
    source: str, *, index: str | None, config: str | None, revision: str | None, columns: dict[str, Any]
) -> InputDataset:
    """Return the videos to prepare; `columns` are the arguments of `HubDataset` for its rows."""
    path, kind = os.path.expanduser(source), columns["label_kind"]
    if os.path.isdir(path):
        scan = scan_folder(Path(path))
        index_file = Path(index) if index else scan.top_index
        if index_file is not None or (scan.videos and not is_sharded(scan)):
            return _open_folder(scan, index_file=index_file, kind=kind, allowed=columns.get("allow_paths", ()))
        if scan.is_frame_folder:
            raise DataError(describe_frame_folder(scan.root, scan.images))
        if not has_shards(scan):
            others = scan.describe_skipped() + (f"; unpack the archives ({scan.archives})" if scan.archives else "")
            raise DataError(
                f"{source} holds no videos (.mp4, .avi, .mkv, ...) and no Parquet or WebDataset files{others}"
            )
    elif os.path.isfile(path) and is_list_file(path):
        if index:
            raise DataError(f"{source} is a list of videos itself; leave --index {index} out")
        return _read_index(read_video_list(Path(path)), kind=kind, name=source)
    elif not is_hub_id(source):
        raise DataError(
            f"there is no folder {source}; give a folder of videos, a list of them (CSV), or org/name of the Hub"
        )
    if index:
        raise DataError(f"{source} has its labels in its columns; an index file belongs to a folder of videos")
    # A server that fails is retried, as later during reading; one that does not respond at all, not for long.
    with disable_datasets_retries():
        return retry_transient(
            lambda: _open_streamed(path, config=config, revision=revision, columns=columns),
            RetryPolicy(path, seconds=shard_retry_seconds()),
        )


def dataset_display_name(source: str) -> str:
    """Return the name of a dataset: the folder's name, or `org/name`."""
    path = os.path.expanduser(source)
    # Redacted, because the name of a home folder is a person's.
    return escape_non_utf8(redact_path(str(Path(path).resolve())).split("/")[-1] if os.path.isdir(path) else source)


# A folder.


def _open_folder(
    scan: FolderScan, *, index_file: Path | None, kind: LabelKind, allowed: Sequence[str]
) -> InputDataset:
    """Return the videos under a folder, or those that its index file lists."""
    root = scan.root
    if index_file is not None:
        listed = read_index_file(index_file, root=root, scan=scan, allowed=allowed)
        return _read_index(listed, kind=kind, name=str(root))
    metadata, notes = find_metadata(root, scan.index_files, scan.videos)
    has_splits = any(file.columns.split for file in metadata)
    folder_videos = read_without_splits(scan.videos) if has_splits else read_all_splits(scan.videos, name=str(root))
    if metadata:
        index = read_metadata(root, metadata, folder_videos, kind=kind, allowed=allowed, strict=False)
        dataset = _input_from_index(index, root=root, kind=kind)
        dataset.refused += skipped_in_folder(scan)
        dataset.notes += [*folder_videos.notes, *notes, *scan.notes()]
        return dataset
    reason = folder_videos.no_labels_reason or (
        "there are no two class folders" if folder_videos.labels is None else ""
    )
    dataset = _build_input_dataset(
        entries_from_folder(folder_videos), skipped_in_folder(scan), root=root, kind=kind, no_labels_reason=reason
    )
    dataset.links_outside = _describe_links_outside(root, folder_videos.paths, allowed=allowed)
    more = [f"no labels: {folder_videos.no_labels_reason}"] if folder_videos.no_labels_reason else []
    more += [
        *dataset.notes,
        *scan.notes(),
        *filter(None, [note_unread_lists(root, scan.lists), dataset.links_outside]),
    ]
    dataset.notes = [*folder_videos.notes, *notes, *more]
    return dataset


def _read_index(listed: VideoList, *, kind: LabelKind, name: str) -> InputDataset:
    index = build_index(listed, split=None, kind=kind)
    if not listed.split:
        index = add_folder_splits(index, name=name)
    return _input_from_index(index, root=listed.paths.root, kind=kind, split=listed.split or "train")


def _describe_links_outside(root: Path, videos: Sequence[str], *, allowed: Sequence[str]) -> str:
    """Return which videos lie outside of the folder and the allowed folders; "" if none do."""
    paths = IndexPathResolver(root, allowed=allowed)
    outside = [video for video in videos if not paths.is_within_allowed(video)]
    if not outside:
        return ""
    folder = os.path.dirname(os.path.realpath(root / outside[0]))
    return (
        f"{len(outside)} of the videos lie outside of {escape_non_utf8(str(root))} (links lead there), the first is "
        f"{escape_non_utf8(outside[0])}; they are published only with {ALLOW_PATHS_FLAG} {escape_non_utf8(folder)}"
    )


def _input_from_index(index: VideoIndex, *, root: Path, kind: LabelKind, split: str = "train") -> InputDataset:
    entries, skipped = entries_from_index(index, kind=kind, split=split)
    dataset = _build_input_dataset(entries, skipped, root=root, kind=kind, no_labels_reason=index.no_labels_reason)
    dataset.notes = [*index.notes, *dataset.notes]
    return dataset


def _build_input_dataset(
    entries: list[IndexEntry], refused: list[SkippedVideo], *, root: Path, kind: LabelKind, no_labels_reason: str
) -> InputDataset:
    if not entries:
        reason = f": {refused[0].path}: {refused[0].reason}" if refused else ""
        raise DataError(f"{root} holds no video that can be used{reason}")
    entries = sorted(entries, key=lambda entry: (entry.split, escape_non_utf8(entry.id)))
    ids = [escape_non_utf8(entry.id) for entry in entries]
    names, labels, notes = None, None, list[str]()
    if not no_labels_reason:
        texts = [entry.label for entry in entries]
        names, labels = parse_labels(texts, kind=kind, ids=ids, name=str(root))
        notes = note_similar_class_names(names, name=str(root))
    input_videos = [
        InputVideo(
            id=id,
            video=str(root / entry.path),
            split=entry.split,
            label=None if labels is None else labels[number],
            stamp=_file_stamp(root / entry.path),
            trim=_trim(entry),
        )
        for number, (id, entry) in enumerate(zip(ids, entries, strict=True))
    ]
    return InputDataset(
        name=dataset_display_name(str(root)),
        videos=input_videos,
        count=len(input_videos),
        fingerprint=_fingerprint(
            [
                names,
                [[video.id, video.split, video.label, video.stamp] for video in input_videos],
                [[skipped.path, skipped.reason] for skipped in refused],
            ]
        ),
        class_names=names,
        refused=refused,
        no_labels_reason=no_labels_reason,
        notes=notes,
    )


def _trim(video: IndexEntry | Sample) -> Trim | None:
    """Return the segment to keep; None for a whole video."""
    is_whole = video.start is None and video.end is None
    return None if is_whole else Trim(start=video.start or 0.0, end=video.end)


def _file_stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:  # a broken link, which is reported when it is opened
        return "unreadable"
    return f"{status.st_size}-{status.st_mtime_ns}"


# Datasets in Parquet or WebDataset, local or on the Hub.


def _open_streamed(path: str, *, config: str | None, revision: str | None, columns: dict[str, Any]) -> InputDataset:
    sources = [
        HubDataset(
            path,
            split=split,
            config=config,
            revision=revision,
            infer_label_classes=True,
            allow_second_read=True,
            **columns,
        )
        for split in split_names(path, config=config, revision=revision, allow_paths=columns.get("allow_paths", ()))
        or ["train"]
    ]
    plain = [source.plain for source in sources if source.plain is not None]
    if len(plain) == len(sources):
        # A split may lack a class, so all splits share the classes of the dataset.
        share_classes(plain)
        for source, labels in zip(sources, plain, strict=True):
            source.set_classes(labels)
    names = sources[0].class_names
    if any(source.class_names != names for source in sources):
        raise DataError(f"{path}: its splits have different classes; prepare them one by one")
    counts = [source.num_samples for source in sources]
    content = _content_of_shards(path, revision=revision)
    fingerprint = _fingerprint([content, config, columns, [source.split for source in sources]])
    dataset = InputDataset(
        name=dataset_display_name(path),
        videos=(),
        count=None if None in counts else sum(filter(None, counts)),
        fingerprint=fingerprint,
        revision=sources[0].revision,
        class_names=names,
        no_labels_reason="" if sources[0].label_column else "it has no column of labels",
        notes=sources[0].notes,
    )
    dataset.videos = _iter_videos(sources, dataset)
    return dataset


def _iter_videos(sources: list[HubDataset], input_dataset: InputDataset) -> Iterator[InputVideo]:
    for source in sources:
        for shard in range(source.num_shards):
            for sample in source.read_shard(shard):
                if source.label_column is not None and sample.label is None:
                    input_dataset.refused.append(SkippedVideo(sample.id, "it has no label, though others have"))
                    continue
                yield InputVideo(
                    id=sample.id,
                    video=sample.video,
                    split=source.split,
                    label=sample.label,
                    stamp=input_dataset.fingerprint,
                    trim=_trim(sample),
                )


def _content_of_shards(path: str, *, revision: str | None) -> Any:
    if os.path.isdir(path):
        return [(shard, _file_stamp(Path(path) / shard)) for shard in find_shards(Path(path))]
    from huggingface_hub import HfApi

    return [path, HfApi().dataset_info(path, revision=revision).sha]


def _fingerprint(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def deduplicate_ids(videos: Iterable[InputVideo]) -> Iterator[InputVideo]:
    """Yield every video with a unique id: a WebDataset may hold a key twice."""
    seen: Counter[str] = Counter()
    for video in videos:
        seen[video.id] += 1
        yield video if seen[video.id] == 1 else replace(video, id=f"{video.id}~{seen[video.id]}")
