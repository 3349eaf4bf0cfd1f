"""Data sets of the Hub, read shard by shard with `datasets`: Parquet and WebDataset. Videos stay encoded."""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..hub.read_checks import install_read_checks
from ..hub.retry import RetryPolicy, disable_datasets_retries, is_transient, retry_first_request, shard_retry_seconds
from ..hub.source_errors import (
    RereadCounter,
    not_the_hub_error,
    read_with_retries,
    reader_error_types,
    source_refused_error,
)
from .column_values import is_parquet, is_tar, peek_video_paths, read_parquet_column, read_tar_member
from .label_columns import ColumnLabels, find_label_column
from .labels import SINGLE_LABEL, LabelKind
from .path_policy import RowPathResolver, check_card_data_files, parse_allowed_paths
from .row_splits import check_row_splits
from .segment_columns import SegmentColumns
from .shard_cache import ShardCache, find_cached_snapshot
from .shard_folders import SHARD_KINDS, saved_splits, shard_splits
from .source import Label, Sample
from .split_names import normalize_split
from .video_files import is_video_file

_PROBE_SECONDS = 10.0
_NUM_PROBED_ROWS = 20


class HubDataset:
    """A data set that `datasets` opens, as a `StreamedSource`.

    Nothing is decoded by `datasets`: it would do so ahead of time, in threads, and end the shard at the first bad
    file.

    Args:
        path: `org/name`, or a local folder with the same files.
        split: of the data set.
        config: of the data set, where it has several.
        revision: branch, tag or commit.
        video_column: found by its type where there is one of type `Video`.
        label_column: found where it is called `label` or of type `ClassLabel`. A plain column (texts, whole numbers,
            bools) is read whole for its classes (see `label_columns`); it is looked for where labels are required.
        require_labels: refuse a data set without labels.
        label_kind: `ClassLabel`, a list of it, or numbers.
        cache_dir: where the shards of a Hub data set are kept (see `shard_cache`); None: they are read over the network in
            every epoch. Samples, their ids and their order are the same.
        infer_label_classes: look for a plain column of labels although none are required.
        allow_second_read: tar files of the Hub may be read for their labels, and then once more for their videos.
        allow_paths: hosts, folders and URL prefixes that rows may name outside of the data set (see `row_paths`).

    Attributes:
        revision: the commit of the Hub that is read; None: files here.
        notes: how its columns were read, for the user.
        files: paths or URLs of the data files.
        shard_names: of the shards, in the ids of samples.

    Raises:
        DataError: when the data set cannot be reached or opened, or has no such split or columns.
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
        self.name, self.split = path, split
        allowed = parse_allowed_paths(allow_paths)
        self.is_local = is_local = os.path.isdir(path)
        install_read_checks()
        info = None if is_local else _probe_hub(path, revision=revision, cache_dir=cache_dir)
        check_card_data_files(path, info, allowed=allowed)
        builder, self.notes = _with_local_splits(_load_builder(path, config=config, revision=revision), path)
        self.split = split = _resolve_split(builder, split)
        files = _list_split_files(builder, path=path, split=split)
        self.revision = _commit_from_files(files)
        self._paths = RowPathResolver(path, root=_dataset_root(builder, path), allowed=allowed)
        self._paths.check_files(files)
        self.shard_cache: ShardCache | None = None
        if cache_dir is not None and not is_local:
            self.shard_cache = _redirect_to_cache(builder, cache_dir, path=path, split=split, files=files)
        _disable_webdataset_decoders(builder)
        stream = _open_split(builder, path=path, split=split)
        stream, features = _disable_decoding(stream, path=path)
        self.num_shards = int(stream.num_shards)
        self.shard_names = _name_shards(files, split=split, count=self.num_shards, root=path if is_local else None)
        self.files, self._features = files, features
        self.video_column = _find_video_column(features, asked=video_column, path=path)
        self._check_paths(stream, features)
        self.label_column, self.class_names = _find_label_column(
            features, asked=label_column, path=path, kind=label_kind
        )
        self.plain: ColumnLabels | None = None
        if self.label_column is None and (require_labels or infer_label_classes or label_column is not None):
            self.plain = find_label_column(features, asked=label_column, path=path, kind=label_kind)
        if self.plain is not None:
            asked = label_column is not None
            self._read_labels(stream, self.plain, require=require_labels, asked=asked, twice=allow_second_read)
        if require_labels and self.label_column is None:
            raise DataError(
                f"{path} has no labels for {label_kind}: {_describe_columns(features)}; it needs "
                f"{_REQUIRED_LABEL_COLUMNS[label_kind]}, or name the column with --label_column"
            )
        self.notes += check_row_splits(features, files, names=self.shard_names, path=path)
        self._segments = SegmentColumns(features, name=path)
        self.notes += self._segments.notes
        wanted = [self.video_column, self.label_column, "__key__", *self._segments.columns]
        self._stream = stream.select_columns([name for name in wanted if name in features])
        known = (builder.info.splits or {}).get(split)
        self.num_samples: int | None = (known.num_examples or None) if known is not None else None

    def read_shard(self, shard: int, *, retry_seconds: float | None = None) -> Iterator[Sample]:
        """The samples of one shard, in file order; what the network breaks off is read on from the same sample.

        Args:
            shard: its number.
            retry_seconds: seconds without a sample until it gives up; None: `network.outage_retry_seconds()`, 15 minutes.

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
                with retry_policy.retrying(_select_transient):
                    for sample in self._iter_samples(shard, start=read):
                        read += 1
                        retry_policy.reset()
                        rereads.reset()
                        yield sample
                    return
            except DataError:
                raise
            except reader_errors as error:
                rereads.after(error)

    def set_classes(self, labels: ColumnLabels) -> None:
        """Take the classes of a plain column, which may be those of all splits together."""
        self.plain, self.class_names = labels, labels.class_names
        self.notes += [note for note in labels.notes if note not in self.notes]

    def _read_labels(self, stream: Any, plain: ColumnLabels, *, require: bool, asked: bool, twice: bool) -> None:
        """Find the classes of a plain column in all its values, or see that all of them are numbers."""
        column = plain.column.partition(".")[0] if plain.column not in self._features else plain.column
        values = self._column_values(stream, column, twice=twice or plain.kind == "regression")
        plain.read(values, require=require, asked=asked)
        if not plain.ids:
            self.plain = None
            return
        self.label_column = column
        self.set_classes(plain)

    def _column_values(self, stream: Any, column: str, *, twice: bool) -> Iterator[tuple[str, Any]]:
        """Read (sample id, value) of a column, in the way that costs least."""
        files = self.files if self.shard_cache is None else self.shard_cache.paths
        if len(files) == self.num_shards and is_tar(files) and (self.shard_cache is not None or self.revision is None):
            for shard in range(self.num_shards if self.shard_cache is not None else 0):
                self._fetch_with_retries(shard)
            return read_tar_member(files, column, video=self.video_column, names=self.shard_names)
        if is_tar(files) and not twice:
            raise DataError(
                f"{self.name} has its labels in tar files ({column}), so its classes are known only when all of them "
                f"were read: keep them on a disk with --cache_dir DIR, or make a set with `hf-videomae prepare`"
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

    def _check_paths(self, stream: Any, features: Any) -> None:
        """Refuse a data set of which every video of the first rows lies elsewhere.

        Raises:
            DataError: naming the flag that opens it.
        """
        import datasets

        column, first = self.video_column, self.files[:1]
        is_text = isinstance(features[column], datasets.Value) and "string" in str(features[column].dtype)
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
                lambda: list(islice(stream.select_columns([column]), _NUM_PROBED_ROWS)),
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
            label=_parse_label(label) if self.plain is None else self.plain.label(label, id=id),
        )

    def _resolve_video(self, value: Any, *, row: str) -> bytes | str:
        """Return embedded bytes, or the path or URL of a file that may be opened; a row without a video is bad."""
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


def _parse_label(value: Any) -> Label | None:
    """A row's label; -1 is how `datasets` writes a missing class."""
    if isinstance(value, list):
        return tuple(value)
    return None if isinstance(value, int) and value < 0 else value


def _probe_hub(path: str, *, revision: str | None, cache_dir: str | None = None) -> Any:
    """Ask the Hub for a data set first: `datasets` would retry for half a minute and then not say why."""
    # The HTTP client's own error: which client it is depends on the version of huggingface_hub.
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return _fetch_dataset_info(path, revision=revision)
    except GatedRepoError as error:
        raise DataError(
            f"{path} is gated: accept its terms on its page on the Hub, then log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(f"{path} has no revision {revision!r}; give a branch, tag or commit that it has") from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"{path} is neither a folder here nor a data set on the Hub that you may read; check the name, and "
            f"for a private one log in with `hf auth login`"
        ) from error
    except OfflineModeIsEnabled as error:
        raise DataError(
            f"{path} is no folder here, and the Hub is switched off (HF_HUB_OFFLINE); unset it, or give a local "
            f"folder{_cached_copy_hint(path, cache_dir)}"
        ) from error
    except HfHubHTTPError as error:
        raise source_refused_error(error, path, "the data set") from error
    except (ValueError, LookupError, TypeError) as error:
        raise not_the_hub_error(error, path) from error
    except (HTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is no folder here, and the Hub cannot be reached ({reason}); check the network, give a local "
            f"folder{_cached_copy_hint(path, cache_dir)}, or use the built-in `motion`"
        ) from error


def _cached_copy_hint(path: str, cache_dir: str | None) -> str:
    shard_cache = None if cache_dir is None else find_cached_snapshot(path, cache_dir)
    return "" if shard_cache is None else f" (--dataset {shard_cache} is what was kept of it)"


def _fetch_dataset_info(path: str, *, revision: str | None) -> Any:
    from huggingface_hub import HfApi

    def ask() -> Any:
        info = HfApi().dataset_info(path, revision=revision, timeout=_PROBE_SECONDS)
        if info.gated:
            # Anyone may see a gated data set, few may read it.
            HfApi().auth_check(path, repo_type="dataset")
        return info

    return retry_first_request(ask, RetryPolicy(path, seconds=shard_retry_seconds()))


def _select_transient(error: BaseException) -> BaseException | None:
    return error if is_transient(error) else None


def _load_builder(path: str, *, config: str | None, revision: str | None) -> Any:
    import datasets

    saved = saved_splits(Path(path)) if os.path.isdir(path) else None
    if saved is not None:
        return _load_file_builder(path, saved)

    def ask() -> Any:
        return datasets.load_dataset_builder(path, name=config, revision=revision)

    return read_with_retries(
        ask, dataset_name=path, file="the list of its files", otherwise="it cannot be opened as a data set"
    )


def _load_file_builder(path: str, splits: dict[str, list[str]]) -> Any:
    """Return what opens local shards of one kind; paths are relative to the folder."""
    import datasets

    files = {split: [os.path.join(os.path.abspath(path), file) for file in found] for split, found in splits.items()}
    endings = {os.path.splitext(file)[1] for found in files.values() for file in found}
    if len(endings) > 1:
        raise DataError(
            f"{path} holds shards of several kinds ({', '.join(sorted(endings))}); give a folder of one kind"
        )
    return datasets.load_dataset_builder(SHARD_KINDS[endings.pop()], data_files=files)


def _with_local_splits(builder: Any, path: str) -> tuple[Any, list[str]]:
    """Return a builder that knows the splits by their names in any case, where `datasets` took all for `train`."""
    known = [str(name) for name in builder.info.splits or builder.config.data_files or {}]
    if not os.path.isdir(path) or known != ["train"] or saved_splits(Path(path)) is not None:
        return builder, []
    splits, notes = shard_splits(Path(path), name=path)
    return (_load_file_builder(path, splits), notes) if set(splits) - {"train"} else (builder, [])


def _resolve_split(builder: Any, split: str) -> str:
    """Return the name that a data set has for a split: `validation` where `val` is asked for, or the other way."""
    known = [str(name) for name in builder.info.splits or builder.config.data_files or {}]
    same = [name for name in known if normalize_split(name) == normalize_split(split)]
    return same[0] if split not in known and len(same) == 1 else split


def split_names(
    path: str, *, config: str | None = None, revision: str | None = None, allow_paths: Sequence[str] = ()
) -> list[str]:
    """Return the splits of a data set that `HubDataset` opens.

    Raises:
        DataError: when it cannot be reached or opened.
    """
    info = None if os.path.isdir(path) else _probe_hub(path, revision=revision)
    check_card_data_files(path, info, allowed=parse_allowed_paths(allow_paths))
    builder, _ = _with_local_splits(_load_builder(path, config=config, revision=revision), path)
    return [str(name) for name in builder.info.splits or builder.config.data_files or {}]


def _list_split_files(builder: Any, *, path: str, split: str) -> list[str]:
    """Of a split, in order; empty where they are not known before they are read."""
    # Data sets without their own card do not know their splits before the files are looked at.
    known = [str(name) for name in builder.info.splits or builder.config.data_files or {}]
    if known and split not in known:
        raise DataError(f"{path} has no split {split!r}; choose one of {', '.join(known)}")
    return [str(file) for file in (builder.config.data_files or {}).get(split, [])]


def _open_split(builder: Any, *, path: str, split: str) -> Any:
    files = _list_split_files(builder, path=path, split=split)
    return read_with_retries(
        lambda: builder.as_streaming_dataset(split),
        dataset_name=path,
        file=_path_in_dataset(files[0]) if files else f"the split {split!r}",
        otherwise=f"the split {split!r} cannot be opened",
    )


def _disable_decoding(stream: Any, *, path: str) -> tuple[Any, Any]:
    """A stream whose videos stay encoded, and its columns; those of JSON and CSV are found in the first rows."""
    import datasets
    import pyarrow

    if stream.features is not None:
        return stream.decode(False), stream.features
    first = read_with_retries(lambda: list(islice(stream, _NUM_PROBED_ROWS)), dataset_name=path, file="its first rows")
    try:
        return stream, datasets.Features.from_arrow_schema(pyarrow.Table.from_pylist(first).schema)
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"{path}: its first rows have columns of different kinds ({error}); make them alike"
        ) from error


def _describe_columns(features: Any) -> str:
    return "its columns are " + (
        ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items()) or "unknown"
    )


def _find_video_column(features: Any, *, asked: str | None, path: str) -> str:
    import datasets

    found = [name for name, kind in features.items() if isinstance(kind, datasets.Video)]
    if asked is not None:
        if asked in features:
            return asked
        raise DataError(f"{path} has no column {asked!r}: {_describe_columns(features)}")
    if len(found) == 1 or "video" in found:
        return "video" if "video" in found else found[0]
    if not found:
        # Files written without `datasets` hold the bytes in a plain column.
        plain = [name for name in ("video", "mp4", "bytes") if name in features]
        if plain:
            return plain[0]
    what = "several video columns" if found else "no video column"
    if found and "__key__" in features:
        raise DataError(
            f"{path} has several videos of one name ({', '.join(found[:3])}): in a tar file the name of a sample ends "
            f"at its first dot; rename the members (v.0.mp4 to v_0.mp4), or name one column with --video_column"
        )
    raise DataError(f"{path} has {what}: {_describe_columns(features)}; name one with --video_column")


_REQUIRED_LABEL_COLUMNS = {
    "single_label_classification": "a ClassLabel",
    "multi_label_classification": "a list of ClassLabel",
    "regression": "a column of numbers called label",
}


def _find_label_column(
    features: Any, *, asked: str | None, path: str, kind: LabelKind
) -> tuple[str | None, list[str] | None]:
    import datasets

    if asked is not None and asked not in features:
        return None, None  # a key in the JSON of a WebDataset
    if kind == "regression":
        return _find_number_column(features, asked=asked or "label", path=path), None
    # What a list holds is its `feature`.
    inner = {
        name: getattr(feature, "feature", None) if kind == "multi_label_classification" else feature
        for name, feature in features.items()
    }
    classes = {name: feature for name, feature in inner.items() if isinstance(feature, datasets.ClassLabel)}
    chosen = asked or ("label" if "label" in classes else next(iter(classes)) if len(classes) == 1 else None)
    if chosen is None:
        return None, None
    if chosen not in classes:
        return None, None  # its classes may be found in its values
    return chosen, list(classes[chosen].names)


def _find_number_column(features: Any, *, asked: str, path: str) -> str | None:
    if asked not in features:
        return None
    kind = str(getattr(features[asked], "dtype", ""))
    if kind.startswith(("string", "large_string")):
        return None  # numbers written as texts
    if not kind.startswith(("int", "uint", "float")):
        raise DataError(f"{path}: column {asked!r} holds {kind or 'no numbers'}, but regression wants numbers")
    return asked


def _disable_webdataset_decoders(builder: Any) -> None:
    # It needs `datasets`, which is loaded when a data set is opened.
    from .webdataset import disable_decoders

    disable_decoders(builder)


def _redirect_to_cache(builder: Any, cache_dir: str, *, path: str, split: str, files: list[str]) -> ShardCache:
    """Turn the builder to the files as they will lie on the disk; it does not look for them before they are read."""
    from datasets.data_files import DataFilesDict, DataFilesList

    if any(is_video_file(os.path.basename(file)) for file in files):
        raise DataError(
            f"{path} has no shards that --cache_dir could keep, its videos are single files: download it with "
            f"`hf download {path} --repo-type dataset --local-dir DIR`, and give --dataset DIR"
        )
    shard_cache = ShardCache(cache_dir, files=files)
    if builder.info.features is None and files:
        # The columns are found in the first shard.
        read_with_retries(lambda: shard_cache.fetch(0), dataset_name=path, file=_path_in_dataset(files[0]))
    builder.config.data_files = DataFilesDict({split: DataFilesList(shard_cache.paths, origin_metadata=[])})
    return shard_cache


def _commit_from_files(files: list[str]) -> str | None:
    """The commit of the Hub that the files are of; None for files here."""
    found = re.match(r"hf://datasets/[^@]+@([0-9a-f]{40})/", files[0]) if files else None
    return found[1] if found else None


def _dataset_root(builder: Any, path: str) -> str:
    """The folder of a data set here, or `hf://datasets/org/name@commit`."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    found = re.match(r"hf://datasets/[^/@]+/[^/@]+@[^/]+", str(builder.base_path or ""))
    return found[0] if found else f"hf://datasets/{path}@main"


def _name_shards(files: list[str], *, split: str, count: int, root: str | None) -> list[str]:
    """A stable name for each shard: its file's path within the data set where shards are files."""
    if len(files) != count:
        return [f"{split}-{shard:05d}" for shard in range(count)]
    if root is not None:
        return [Path(file).relative_to(Path(root).resolve()).as_posix() for file in files]
    return [_path_in_dataset(file) for file in files]


def _path_in_dataset(file: str) -> str:
    """hf://datasets/org/name@revision/data/train-00000.parquet -> data/train-00000.parquet"""
    return file.split("@", 1)[-1].split("/", 1)[-1]
