"""Read Parquet and WebDataset shards, on the Hub or local, one by one with `datasets`. Videos stay encoded."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Any

from ..errors import DataError
from ..hub.read_checks import install_read_checks
from ..hub.retry import RetryPolicy, disable_datasets_retries, is_transient
from ..hub.source_errors import RereadCounter, read_with_retries, reader_error_types
from .column_values import is_parquet, is_tar, peek_video_paths, read_parquet_column, read_tar_member
from .hub_builder import (
    NUM_PROBED_ROWS,
    commit_from_files,
    dataset_root,
    list_split_files,
    load_builder,
    name_shards,
    open_split,
    probe_hub,
    redirect_to_cache,
    resolve_split,
)
from .hub_columns import REQUIRED_LABEL_COLUMNS, describe_columns, find_class_column, find_video_column, parse_label
from .label_columns import ColumnLabels, find_label_column
from .labels import SINGLE_LABEL, LabelKind
from .path_policy import RowPathResolver, check_card_data_files, parse_allowed_paths
from .row_splits import check_row_splits
from .segment_columns import SegmentColumns
from .shard_cache import ShardCache
from .source import Sample


class HubDataset:
    """Parquet or WebDataset shards, on the Hub or in a local folder, as a `StreamedSource`.

    `datasets` decodes nothing: it would decode ahead of time, in threads, and end the shard at the first bad file.

    Args:
        path: `org/name`, or a local folder with the same files.
        split: of the dataset.
        config: of the dataset, if it has several.
        revision: branch, tag or commit.
        video_column: by default the one column of type `Video`.
        label_column: by default the column called `label` or of type `ClassLabel`. A plain column (text, whole
            numbers, bools) is read completely for its classes (see `label_columns.py`), if labels are required or the
            column is named.
        require_labels: raise `DataError` for a dataset without labels.
        label_kind: `ClassLabel`, a list of it, or numbers.
        cache_dir: where to keep the shards of a Hub dataset (see `shard_cache.py`); None reads them over the network
            in every epoch. Samples, ids and order do not change.
        infer_label_classes: look for a plain column of labels even if none are required.
        allow_second_read: allow reading tar files of the Hub once for their labels, and again for their videos.
        allow_paths: hosts, folders and URL prefixes outside of the dataset that rows may name (see `path_policy.py`).

    Attributes:
        revision: the commit of the Hub; None for local files.
        notes: how the columns were read, for the user.
        files: paths or URLs of the data files.
        shard_names: names of the shards in the ids of samples.

    Raises:
        DataError: when the dataset cannot be reached or opened, or has no such split or columns.
    """

    def __init__(
        self,
        path: str,
        *,
        split: str = "train",
        config: str | None = None,
        revision: str | None = None,
        video_column: str | None = None,
        label_column: str | None = None,
        require_labels: bool = False,
        label_kind: LabelKind = SINGLE_LABEL,
        cache_dir: str | None = None,
        allow_paths: Sequence[str] = (),
        infer_label_classes: bool = False,
        allow_second_read: bool = False,
    ) -> None:
        self.name = path
        allowed = parse_allowed_paths(allow_paths)
        self.is_local = is_local = os.path.isdir(path)
        install_read_checks()
        info = None if is_local else probe_hub(path, revision=revision, cache_dir=cache_dir)
        check_card_data_files(path, info, allowed=allowed)
        builder, self.notes = load_builder(path, config=config, revision=revision)
        self.split = split = resolve_split(builder, split)
        self.files = files = list_split_files(builder, path=path, split=split)
        self.revision = commit_from_files(files)
        self._paths = RowPathResolver(path, root=dataset_root(builder, path), allowed=allowed)
        self._paths.check_files(files)
        self.shard_cache: ShardCache | None = None
        if cache_dir is not None and not is_local:
            self.shard_cache = redirect_to_cache(builder, cache_dir, path=path, split=split, files=files)
        stream, self._features = open_split(builder, path=path, split=split)
        self.num_shards = int(stream.num_shards)
        self.shard_names = name_shards(files, split=split, count=self.num_shards, root=path if is_local else None)
        self.video_column = find_video_column(self._features, requested=video_column, path=path)
        self._check_paths(stream)
        self.plain: ColumnLabels | None = None
        self._find_labels(
            stream,
            label_column,
            kind=label_kind,
            require=require_labels,
            infer=infer_label_classes,
            twice=allow_second_read,
        )
        self.notes += check_row_splits(self._features, files, names=self.shard_names, path=path)
        self._segments = SegmentColumns(self._features, name=path)
        self.notes += self._segments.notes
        wanted = [self.video_column, self.label_column, "__key__", *self._segments.columns]
        self._stream = stream.select_columns([name for name in wanted if name in self._features])
        known = (builder.info.splits or {}).get(split)
        self.num_samples: int | None = (known.num_examples or None) if known is not None else None

    def read_shard(self, shard: int, *, retry_seconds: float | None = None) -> Iterator[Sample]:
        """Yield the samples of one shard, in file order. A read that the network broke resumes at the same sample.

        Args:
            shard: its number.
            retry_seconds: seconds without a sample after which it gives up; None: `retry.outage_retry_seconds()`,
                15 minutes.

        Raises:
            SourceUnavailable: when the network kept failing.
            SourceRefused: when the shard is refused, or is damaged.
        """
        name = self.shard_names[shard]
        retry_policy = RetryPolicy(f"{self.name}, {name}", seconds=retry_seconds)
        rereads = RereadCounter(self.name, name, is_local=self.is_local)
        read, reader_errors = 0, reader_error_types()
        while True:
            try:
                with retry_policy.retrying(lambda error: error if is_transient(error) else None):
                    for sample in self._iter_samples(shard, start=read):
                        read += 1
                        retry_policy.reset()
                        rereads.reset()
                        yield sample
                    return
            except DataError:
                raise
            except reader_errors as error:
                rereads.wait_before_reread(error)

    def set_classes(self, labels: ColumnLabels) -> None:
        """Take the classes of a plain column, which may be those of all splits together."""
        self.plain, self.class_names = labels, labels.class_names
        self.notes += [note for note in labels.notes if note not in self.notes]

    def _find_labels(
        self, stream: Any, requested: str | None, *, kind: LabelKind, require: bool, infer: bool, twice: bool
    ) -> None:
        """Find the label column by its type, or else a plain column and its classes in all its values.

        Raises:
            DataError: when labels are required and there are none.
        """
        path, features = self.name, self._features
        self.label_column, self.class_names = find_class_column(features, requested=requested, path=path, kind=kind)
        plain = None
        if self.label_column is None and (require or infer or requested is not None):
            plain = find_label_column(features, requested=requested, path=path, kind=kind)
        if plain is not None:
            column = plain.column.partition(".")[0] if plain.column not in features else plain.column
            values = self._column_values(stream, column, twice=twice or plain.kind == "regression")
            plain.read(values, require=require, is_named=requested is not None)
            if plain.ids:
                self.label_column = column
                self.set_classes(plain)
        if require and self.label_column is None:
            raise DataError(
                f"{path} has no labels for {kind}: {describe_columns(features)}; it needs "
                f"{REQUIRED_LABEL_COLUMNS[kind]}, or name the column with --label_column"
            )

    def _column_values(self, stream: Any, column: str, *, twice: bool) -> Iterator[tuple[str, Any]]:
        """Yield (sample id, value) of a column, read in the cheapest way."""
        files = self.files if self.shard_cache is None else self.shard_cache.paths
        if len(files) == self.num_shards and is_tar(files) and (self.shard_cache is not None or self.revision is None):
            for shard in range(self.num_shards if self.shard_cache is not None else 0):
                self._fetch_with_retries(shard)
            return read_tar_member(files, column, video=self.video_column, names=self.shard_names)
        if is_tar(files) and not twice:
            raise DataError(
                f"{self.name} has its labels in tar files ({column}), so its classes are known only after all of them "
                f"were read: keep them on disk with --cache_dir DIR, or make a dataset with `hf-videomae prepare`"
            )
        if len(self.files) == self.num_shards and is_parquet(self.files):
            return read_parquet_column(self.files, column, names=self.shard_names, path=self.name)
        return self._streamed_values(stream, column)

    def _streamed_values(self, stream: Any, column: str) -> Iterator[tuple[str, Any]]:
        narrow = stream.select_columns([name for name in (column, "__key__") if name in self._features])

        def read(shard: int) -> list[tuple[str, Any]]:
            name, rows = self.shard_names[shard], narrow.shard(num_shards=self.num_shards, index=shard)
            with disable_datasets_retries():
                return [(_sample_id(row, f"{name}#{number}", name), row[column]) for number, row in enumerate(rows)]

        for shard in range(self.num_shards):
            yield from read_with_retries(partial(read, shard), dataset_name=self.name, file=self.shard_names[shard])

    def _fetch_with_retries(self, shard: int) -> None:
        assert self.shard_cache is not None
        read_with_retries(partial(self.shard_cache.fetch, shard), dataset_name=self.name, file=self.shard_names[shard])

    def _check_paths(self, stream: Any) -> None:
        """Raise `DataError` if every video of the first rows is outside of the dataset, with the flag to allow it."""
        import datasets

        column, first = self.video_column, self.files[:1]
        feature = self._features[column]
        is_text = isinstance(feature, datasets.Value) and "string" in str(feature.dtype)
        paths: list[str] = []
        if is_parquet(first):
            if self.shard_cache is not None:
                self._fetch_with_retries(0)
                first = self.shard_cache.paths[:1]
            file = self.shard_names[0]
            paths = read_with_retries(
                lambda: peek_video_paths(first[0], column),
                dataset_name=self.name,
                file=file,
                otherwise=f"{file} cannot be read; get the file again",
            )
        elif is_text:
            rows = read_with_retries(
                lambda: list(islice(stream.select_columns([column]), NUM_PROBED_ROWS)),
                dataset_name=self.name,
                file=self.shard_names[0],
            )
            paths = [row[column] for row in rows if isinstance(row[column], str)]
        self._paths.check_rows(paths, column=column)

    def _iter_samples(self, shard: int, *, start: int) -> Iterator[Sample]:
        if self.shard_cache is not None:
            self.shard_cache.fetch(shard)
        rows = iter(self._stream.shard(num_shards=self.num_shards, index=shard))
        name = self.shard_names[shard]
        for number in count():
            with disable_datasets_retries():
                row = next(rows, None)
            if row is None:
                return
            if number >= start:
                yield self._make_sample(row, place=f"{name}#{number}", name=name)

    def _make_sample(self, row: dict[str, Any], *, place: str, name: str) -> Sample:
        label = row[self.label_column] if self.label_column is not None else None
        id = _sample_id(row, place, name)
        encoded = self._resolve_video(row[self.video_column], row=place)
        video, (start, end) = self._segments.with_segment(row, encoded, place=place)
        return Sample(
            id=id,
            video=video,
            start=start,
            end=end,
            label=parse_label(label) if self.plain is None else self.plain.label(label, id=id),
        )

    def _resolve_video(self, value: Any, *, row: str) -> bytes | str:
        """Return embedded bytes, or an allowed path or URL; no bytes for a row without a video."""
        if isinstance(value, dict):
            value = value["bytes"] if value.get("bytes") is not None else value.get("path")
        if value is None:
            return b""
        if isinstance(value, str):
            return self._paths.resolve(value)
        if not isinstance(value, bytes):
            raise DataError(
                f"{self.name}: column {self.video_column!r} holds {type(value).__name__} in {row}, not an encoded "
                f"video; name another column with --video_column"
            )
        return value


def _sample_id(row: dict[str, Any], place: str, name: str) -> str:
    return f"{name}/{row['__key__']}" if "__key__" in row else place
