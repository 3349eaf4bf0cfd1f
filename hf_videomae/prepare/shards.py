"""Distribute prepared videos over shards of equal size and write the files.

A shard has a temporary name until it is whole. The same videos give the same files, byte for byte.
"""

import heapq
import io
import json
import math
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..data.clips import stable_seed
from ..data.labels import LabelKind
from ..data.source import Label
from ..video.encoding import EncodedVideo

ShardFormat = Literal["parquet", "webdataset"]
SHARD_EXTENSIONS: dict[str, str] = {"parquet": "parquet", "webdataset": "tar"}
MEGABYTE = 10**6
# A reader holds a row group in memory and fetches it in one request.
_ROW_GROUP_BYTES = 16 * MEGABYTE
# Pages end by content, not by position, so that the Hub stores only what changed; the sizes are those of `datasets`.
_PAGE_CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
# Small datasets are split too, so that several readers have work: up to 16 shards of at least 4 videos.
_MIN_SHARDS, _MIN_VIDEOS_PER_SHARD = 16, 4
_SHARD_MULTIPLE = 8
# The columns that describe an encoded video: fields of `EncodedVideo`.
_CLIP_COLUMNS = {"num_frames": "int32", "fps": "float32", "height": "int32", "width": "int32"}


@dataclass(frozen=True, kw_only=True)
class PreparedVideo:
    """An encoded video and where it comes from.

    Attributes:
        id: the id of the source video.
        split: split of the dataset.
        label: as in `Sample`.
        stamp: of the source video's content.
        trim: (start, end) in seconds that an index file named.
        made: the encoded video.
    """

    id: str
    split: str
    label: Label | None
    stamp: str
    trim: tuple[float, float | None] | None
    made: EncodedVideo

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PreparedVideo":
        """Return the video of a `to_dict` that was read from JSON."""
        label, trim = values["label"], values["trim"]
        return cls(
            id=values["id"],
            split=values["split"],
            label=tuple(label) if isinstance(label, list) else label,
            stamp=values["stamp"],
            trim=None if trim is None else (trim[0], trim[1]),
            made=EncodedVideo(**values["made"]),
        )


@dataclass(frozen=True)
class Shard:
    """A file of the dataset and its videos, in order."""

    file: str
    rows: Sequence[PreparedVideo]

    @property
    def num_bytes(self) -> int:
        """Return the size of its videos in bytes."""
        return sum(row.made.num_bytes for row in self.rows)


def choose_num_shards(num_videos: int, num_bytes: int, *, shard_bytes: int) -> int:
    """Return the number of shards of a split.

    One for each `shard_bytes`; for a small split as many as have 4 videos each, up to 16. From 8 on it is rounded up
    to a multiple of 8, which divides evenly among training processes. Example: 1,000 videos of 10 MB in all give 16
    shards; 10 GB at 100 MB a shard give 100, rounded up to 104.
    """
    count = max(math.ceil(num_bytes / shard_bytes), min(_MIN_SHARDS, num_videos // _MIN_VIDEOS_PER_SHARD), 1)
    if count >= _SHARD_MULTIPLE:
        count = math.ceil(count / _SHARD_MULTIPLE) * _SHARD_MULTIPLE
    return min(count, num_videos)


def plan_shards(
    rows: Sequence[PreparedVideo], *, format: ShardFormat, shard_bytes: int, num_shards: int | None
) -> list[Shard]:
    """Distribute the videos over shards of nearly equal size, in an order independent of their classes.

    Args:
        rows: the videos of all splits.
        format: of the files.
        shard_bytes: target size, if `num_shards` is None.
        num_shards: for every split; None: chosen by size.
    """
    shards = []
    for split in sorted({row.split for row in rows}):
        split_rows = [row for row in rows if row.split == split]
        total = sum(row.made.num_bytes for row in split_rows)
        chosen = num_shards or choose_num_shards(len(split_rows), total, shard_bytes=shard_bytes)
        count = min(chosen, len(split_rows))
        for number, part in enumerate(_balance_bytes(split_rows, count)):
            name = f"data/{split}-{number:05d}-of-{count:05d}.{SHARD_EXTENSIONS[format]}"
            shards.append(Shard(name, sorted(part, key=lambda row: stable_seed("order", row.id))))
    return shards


def _balance_bytes(rows: Sequence[PreparedVideo], count: int) -> list[list[PreparedVideo]]:
    """Assign the largest video first, each to the shard that is smallest so far.

    Example: sizes 5, 4, 3, 2 in two shards: 5 -> A, 4 -> B, 3 -> B (4 < 5), 2 -> A, which gives 7 and 7.
    """
    parts: list[list[PreparedVideo]] = [[] for _ in range(count)]
    heap = [(0, 0, number) for number in range(count)]
    for row in sorted(rows, key=lambda row: (-row.made.num_bytes, row.id)):
        size, videos, number = heapq.heappop(heap)
        parts[number].append(row)
        heapq.heappush(heap, (size + row.made.num_bytes, videos + 1, number))
    return parts


# Columns.


def build_features(format: ShardFormat, *, class_names: list[str] | None, kind: LabelKind | None) -> Any:
    """Return the columns as `datasets` features.

    Args:
        format: of the files.
        class_names: None if labels are numbers, or there are none.
        kind: of the labels; None without labels.
    """
    from datasets import ClassLabel, Features, List, Value, Video

    metadata = {"path": Value("string"), **{name: Value(dtype) for name, dtype in _CLIP_COLUMNS.items()}}
    label: dict[str, Any] = {}
    if kind == "regression":
        label = {"label": Value("float64")}
    elif kind == "multi_label_classification":
        label = {"label": List(ClassLabel(names=class_names))}
    elif kind is not None:
        label = {"label": ClassLabel(names=class_names)}
    if format == "parquet":
        return Features({"video": Video(), **label, **metadata})
    named = {"cls": label["label"]} if label else {}
    return Features(
        {"mp4": Video(), **named, "json": metadata, "__key__": Value("string"), "__url__": Value("string")}
    )


def _video_metadata(row: PreparedVideo) -> dict[str, Any]:
    return {"path": row.id, **{name: getattr(row.made, name) for name in _CLIP_COLUMNS}}


# Files.


def write_shard(path: Path, shard: Shard, *, features: Any, read_clip: Callable[[PreparedVideo], bytes]) -> None:
    """Write one shard, completely or not at all.

    Args:
        path: its extension gives the format.
        shard: its videos.
        features: from `build_features`.
        read_clip: returns the bytes of a prepared video.
    """
    temporary = path.with_name(path.name + ".unfinished")
    try:
        if path.suffix == ".parquet":
            _write_parquet(temporary, shard, schema=features.arrow_schema, read_clip=read_clip)
        else:
            _write_tar(temporary, shard, read_clip=read_clip)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # the disk may be full
        raise


def _write_parquet(path: Path, shard: Shard, *, schema: Any, read_clip: Callable[[PreparedVideo], bytes]) -> None:
    import pyarrow
    from pyarrow import parquet

    metadata = [name for name in schema.names if name not in ("video", "label")]
    options = {"use_dictionary": False, "write_statistics": metadata, "write_page_index": True}
    with parquet.ParquetWriter(
        path, schema, compression="none", use_content_defined_chunking=_PAGE_CHUNKING, **options
    ) as writer:
        for group in _row_groups(shard.rows):
            columns: dict[str, list[Any]] = {
                "video": [{"bytes": read_clip(row), "path": _clip_name(row)} for row in group],
                "label": [list(row.label) if isinstance(row.label, tuple) else row.label for row in group],
                **{name: [_video_metadata(row)[name] for row in group] for name in metadata},
            }
            arrays = [pyarrow.array(columns[part.name], type=part.type) for part in schema]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _clip_name(row: PreparedVideo) -> str:
    """Return the name that `datasets` shows with the video."""
    return f"{os.path.splitext(os.path.basename(row.id))[0]}.mp4"


def _row_groups(rows: Sequence[PreparedVideo]) -> Iterator[list[PreparedVideo]]:
    group: list[PreparedVideo] = []
    size = 0
    for row in rows:
        if group and size + row.made.num_bytes > _ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += row.made.num_bytes
    if group:
        yield group


def _write_tar(path: Path, shard: Shard, *, read_clip: Callable[[PreparedVideo], bytes]) -> None:
    shard_number = path.name.split("-")[1]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, row in enumerate(shard.rows):
            members = {"mp4": read_clip(row), "json": json.dumps(_video_metadata(row)).encode()}
            if row.label is not None:
                members["cls"] = str(row.label).encode()
            for extension, content in members.items():
                # Times and owners stay zero, so that the same videos give the same file.
                entry = tarfile.TarInfo(f"{shard_number}_{number:06d}.{extension}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def iter_shard_clips(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the bytes of each video of a shard."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["video", "path"])
            for video, id in zip(table["video"].to_pylist(), table["path"].to_pylist(), strict=True):
                yield id, video["bytes"]
        return
    with tarfile.open(path) as tar:
        clip = b""
        for entry in tar:
            content = tar.extractfile(entry)
            assert content is not None
            if entry.name.endswith(".mp4"):
                clip = content.read()
            elif entry.name.endswith(".json"):
                yield json.loads(content.read())["path"], clip
