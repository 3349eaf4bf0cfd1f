"""Data sets of the Hub, read shard by shard with `datasets`: Parquet and WebDataset. Videos stay encoded."""

import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from .folder import is_video_name
from .kept import KeptShards, kept_of
from .labels import SINGLE, LabelKind
from .network import Patience, is_passing, one_try, shard_seconds, until_it_answers, until_it_passes
from .refusals import Rereads, is_damage, no_hub, read_errors, refusal, refused_in
from .samples import DataError, Label, Sample
from .whole_reads import check_reads

_PROBE_SECONDS = 10.0


class DatasetsSource:
    """A data set that `datasets` opens, as a `StreamedSource`.

    Nothing is decoded by `datasets`: it would do so ahead of time, in threads, and end the shard at the first bad
    file.

    Args:
        path: `org/name`, or a local folder with the same files.
        split: of the data set.
        config: of the data set, where it has several.
        revision: branch, tag or commit.
        video_column: found by its type where there is one of type `Video`.
        label_column: found where it is called `label` or of type `ClassLabel`.
        require_labels: refuse a data set without labels.
        label_kind: `ClassLabel`, a list of it, or numbers.
        cache_dir: where the shards of a Hub data set are kept (see `kept`); None: they are read over the network in
            every epoch. Samples, their ids and their order are the same.

    Attributes:
        revision: the commit of the Hub that is read; None: files here.

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
        label_kind: LabelKind = SINGLE,
        cache_dir: str | None = None,
    ) -> None:
        self.name, self.split = path, split
        self.is_local = is_local = os.path.isdir(path)
        check_reads()
        if not is_local:
            _probe_hub(path, revision=revision, cache_dir=cache_dir)
        builder = _builder(path, config=config, revision=revision)
        files = _files(builder, path=path, split=split)
        self.revision = _commit_of(files)
        self.kept: KeptShards | None = None
        if cache_dir is not None and not is_local:
            self.kept = _keep(builder, cache_dir, path=path, split=split, files=files)
        stream = _open_split(builder, path=path, split=split).decode(False)
        features = stream.features or {}
        self.video_column = _find_video(features, asked=video_column, path=path)
        self.label_column, self.class_names = _find_labels(features, asked=label_column, path=path, kind=label_kind)
        if require_labels and self.label_column is None:
            raise DataError(
                f"{path} has no labels for {label_kind}: {_of_columns(features)}; it needs "
                f"{_WANTED_LABELS[label_kind]}"
            )
        wanted = [self.video_column, self.label_column, "__key__"]
        self._stream = stream.select_columns([name for name in wanted if name in features])
        self.num_shards = int(stream.num_shards)
        self._shard_names = _shard_names(files, split=split, count=self.num_shards, root=path if is_local else None)
        known = (builder.info.splits or {}).get(split)
        self.num_samples: int | None = (known.num_examples or None) if known is not None else None

    def read_shard(self, shard: int, *, patience: float | None = None) -> Iterator[Sample]:
        """The samples of one shard, in file order; what the network breaks off is read on from the same sample.

        Args:
            shard: its number.
            patience: seconds without a sample until it gives up; None: `network.outage_seconds()`, 15 minutes.

        Raises:
            SourceUnavailable: when the network kept failing.
            SourceRefused: when the shard is refused, or is damaged.
        """
        name = self._shard_names[shard]
        waiting = Patience(f"{self.name}, {name}", seconds=patience)
        rereads = Rereads(self.name, name, is_local=self.is_local)
        read, damage = 0, read_errors()
        while True:
            try:
                with waiting.over(_itself):
                    for sample in self._rows(shard, start=read):
                        read += 1
                        waiting.progress()
                        rereads.progress()
                        yield sample
                    return
            except DataError:
                raise
            except damage as error:
                rereads.after(error)

    def _rows(self, shard: int, *, start: int) -> Iterator[Sample]:
        if self.kept is not None:
            self.kept.fetch(shard)
        rows = iter(self._stream.shard(num_shards=self.num_shards, index=shard))
        name = self._shard_names[shard]
        for number in count():
            with one_try():
                row = next(rows, None)
            if row is None:
                return
            if number >= start:
                yield self._sample(row, place=f"{name}#{number}", name=name)

    def _sample(self, row: dict[str, Any], *, place: str, name: str) -> Sample:
        label = row[self.label_column] if self.label_column is not None else None
        return Sample(
            id=f"{name}/{row['__key__']}" if "__key__" in row else place,
            video=self._encoded(row[self.video_column], row=place),
            label=_label(label),
        )

    def _encoded(self, value: Any, *, row: str) -> bytes | str:
        """`datasets` gives embedded bytes, or the path or URL of a file; a row without a video is a bad video."""
        if isinstance(value, dict):
            value = value["bytes"] if value.get("bytes") is not None else value.get("path")
        if value is None:
            return b""
        if not isinstance(value, (bytes, str)):
            raise DataError(
                f"{self.name}: column {self.video_column!r} holds {type(value).__name__} in {row}, not an encoded "
                f"video; name another column with video_column"
            )
        return value


def _label(value: Any) -> Label | None:
    """A row's label; -1 is how `datasets` writes a missing class."""
    if isinstance(value, list):
        return tuple(value)
    return None if isinstance(value, int) and value < 0 else value


def _probe_hub(path: str, *, revision: str | None, cache_dir: str | None = None) -> None:
    """Ask the Hub first: `datasets` would retry for half a minute and then not say why."""
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
        _ask_hub(path, revision=revision)
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
            f"folder{_hint(path, cache_dir)}"
        ) from error
    except HfHubHTTPError as error:
        raise refusal(error, path, "the data set") from error
    except (ValueError, LookupError, TypeError) as error:
        raise no_hub(error, path) from error
    except (HTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is no folder here, and the Hub cannot be reached ({reason}); check the network, give a local "
            f"folder{_hint(path, cache_dir)}, or use the built-in `motion`"
        ) from error


def _hint(path: str, cache_dir: str | None) -> str:
    kept = None if cache_dir is None else kept_of(path, cache_dir)
    return "" if kept is None else f" (--dataset {kept} is what was kept of it)"


def _ask_hub(path: str, *, revision: str | None) -> None:
    from huggingface_hub import HfApi

    def ask() -> None:
        info = HfApi().dataset_info(path, revision=revision, timeout=_PROBE_SECONDS)
        if info.gated:
            # Anyone may see a gated data set, few may read it.
            HfApi().auth_check(path, repo_type="dataset")

    until_it_answers(ask, Patience(path, seconds=shard_seconds()))


def _patiently(path: str, ask: Callable[[], Any]) -> Any:
    """What a Hub that was just there answers; failures that pass are waited for, as those of the shards are later."""
    return until_it_passes(ask, Patience(path, seconds=shard_seconds()), passing=_within)


def _itself(error: BaseException) -> BaseException | None:
    return error if is_passing(error) else None


def _within(error: BaseException) -> BaseException | None:
    """`datasets` makes "couldn't find it" of some failures, raised from nothing; the context still tells."""
    seen: BaseException | None = error
    while seen is not None and not is_passing(seen):
        seen = seen.__context__
    return seen


def _builder(path: str, *, config: str | None, revision: str | None) -> Any:
    import datasets

    def ask() -> Any:
        return datasets.load_dataset_builder(path, name=config, revision=revision)

    return _opened(path, ask, file="the list of its files", otherwise="it cannot be opened as a data set")


def _opened(path: str, ask: Callable[[], Any], *, file: str, otherwise: str) -> Any:
    """What opening gives; an answer that is refused or damaged is asked for again, as for a shard."""
    rereads = Rereads(path, file, is_local=os.path.isdir(path))
    while True:
        try:
            return _patiently(path, ask)
        except DataError:
            raise
        except read_errors() as error:
            answer = refused_in(error) or (error if is_damage(error) else None)
            if answer is None:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise DataError(f"{path}: {otherwise}: {reason}") from error
            rereads.after(answer)


def split_names(path: str, *, config: str | None = None, revision: str | None = None) -> list[str]:
    """The splits of a data set that `DatasetsSource` opens.

    Raises:
        DataError: when it cannot be reached or opened.
    """
    if not os.path.isdir(path):
        _probe_hub(path, revision=revision)
    builder = _builder(path, config=config, revision=revision)
    return [str(name) for name in builder.info.splits or builder.config.data_files or {}]


def _files(builder: Any, *, path: str, split: str) -> list[str]:
    """Of a split, in order; empty where they are not known before they are read."""
    # Data sets without their own card do not know their splits before the files are looked at.
    known = [str(name) for name in builder.info.splits or builder.config.data_files or {}]
    if known and split not in known:
        raise DataError(f"{path} has no split {split!r}; choose one of {', '.join(known)}")
    return [str(file) for file in (builder.config.data_files or {}).get(split, [])]


def _open_split(builder: Any, *, path: str, split: str) -> Any:
    files = _files(builder, path=path, split=split)
    return _opened(
        path,
        lambda: builder.as_streaming_dataset(split),
        file=_name_in_set(files[0]) if files else f"the split {split!r}",
        otherwise=f"the split {split!r} cannot be opened",
    )


def _of_columns(features: Any) -> str:
    return "its columns are " + (
        ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items()) or "unknown"
    )


def _find_video(features: Any, *, asked: str | None, path: str) -> str:
    import datasets

    found = [name for name, kind in features.items() if isinstance(kind, datasets.Video)]
    if asked is not None:
        if asked in features:
            return asked
        raise DataError(f"{path} has no column {asked!r}: {_of_columns(features)}")
    if len(found) == 1 or "video" in found:
        return "video" if "video" in found else found[0]
    if not found:
        # Files written without `datasets` hold the bytes in a plain column.
        plain = [name for name in ("video", "mp4", "bytes") if name in features]
        if plain:
            return plain[0]
    what = "several video columns" if found else "no video column"
    raise DataError(f"{path} has {what}: {_of_columns(features)}; name one with video_column")


_WANTED_LABELS = {
    "single_label_classification": "a ClassLabel",
    "multi_label_classification": "a list of ClassLabel",
    "regression": "a column of numbers called label",
}


def _find_labels(
    features: Any, *, asked: str | None, path: str, kind: LabelKind
) -> tuple[str | None, list[str] | None]:
    import datasets

    if asked is not None and asked not in features:
        raise DataError(f"{path} has no column {asked!r}: {_of_columns(features)}")
    if kind == "regression":
        return _find_numbers(features, asked=asked or "label", path=path), None
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
        raise DataError(
            f"{path}: column {chosen!r} is not {_WANTED_LABELS[kind]}, so its classes are unknown: "
            f"{_of_columns(features)}"
        )
    return chosen, list(classes[chosen].names)


def _find_numbers(features: Any, *, asked: str, path: str) -> str | None:
    if asked not in features:
        return None
    kind = str(getattr(features[asked], "dtype", ""))
    if not kind.startswith(("int", "uint", "float")):
        raise DataError(f"{path}: column {asked!r} holds {kind or 'no numbers'}, but regression wants numbers")
    return asked


def _keep(builder: Any, cache_dir: str, *, path: str, split: str, files: list[str]) -> KeptShards:
    """Turn the builder to the files as they will lie on the disk; it does not look for them before they are read."""
    from datasets.data_files import DataFilesDict, DataFilesList

    if any(is_video_name(os.path.basename(file)) for file in files):
        raise DataError(
            f"{path} has no shards that --cache_dir could keep, its videos are single files: download it with "
            f"`hf download {path} --repo-type dataset --local-dir DIR`, and give --dataset DIR"
        )
    kept = KeptShards(cache_dir, files=files)
    if builder.info.features is None and files:
        # The columns are found in the first shard.
        until_it_passes(lambda: kept.fetch(0), Patience(path, seconds=shard_seconds()))
    builder.config.data_files = DataFilesDict({split: DataFilesList(kept.paths, origin_metadata=[])})
    return kept


def _commit_of(files: list[str]) -> str | None:
    """The commit of the Hub that the files are of; None for files here."""
    found = re.match(r"hf://datasets/[^@]+@([0-9a-f]{40})/", files[0]) if files else None
    return found[1] if found else None


def _shard_names(files: list[str], *, split: str, count: int, root: str | None) -> list[str]:
    """A stable name for each shard: its file's path within the data set where shards are files."""
    if len(files) != count:
        return [f"{split}-{shard:05d}" for shard in range(count)]
    if root is not None:
        return [Path(file).relative_to(Path(root).resolve()).as_posix() for file in files]
    return [_name_in_set(file) for file in files]


def _name_in_set(file: str) -> str:
    """hf://datasets/org/name@revision/data/train-00000.parquet -> data/train-00000.parquet"""
    return file.split("@", 1)[-1].split("/", 1)[-1]
