"""Open a dataset of the Hub, or a folder with the same files, as a streaming builder of `datasets`.

`HubDataset` (`hub_dataset.py`) goes through these steps: ask the Hub for the dataset, load the builder, choose the
split, redirect it to the shard cache, and open the stream without decoders.
"""

import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line
from ..hub.retry import RetryPolicy, retry_first_request, shard_retry_seconds
from ..hub.source_errors import not_the_hub_error, read_with_retries, source_refused_error
from .path_policy import check_card_data_files, parse_allowed_paths
from .shard_cache import ShardCache, find_cached_snapshot
from .shard_folders import saved_splits, shard_splits
from .split_names import normalize_split
from .video_files import SHARD_KINDS, is_video_file

_PROBE_SECONDS = 10.0
NUM_PROBED_ROWS = 20


def probe_hub(path: str, *, revision: str | None, cache_dir: str | None = None) -> Any:
    """Return the Hub's information on a dataset. `datasets` would retry for half a minute and not report why.

    Raises:
        DataError: when there is no such dataset or revision, it may not be read, or the Hub cannot be reached.
    """
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
        return retry_first_request(
            lambda: _fetch_dataset_info(path, revision=revision), RetryPolicy(path, seconds=shard_retry_seconds())
        )
    except GatedRepoError as error:
        raise DataError(
            f"{path} is gated: accept its terms on its page on the Hub, then log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(f"{path} has no revision {revision!r}; give one of its branches, tags or commits") from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"{path} is neither a local folder nor a dataset on the Hub that you may read; check the name, and "
            f"log in with `hf auth login` for a private one"
        ) from error
    except OfflineModeIsEnabled as error:
        raise DataError(
            f"{path} is not a local folder, and the Hub is switched off (HF_HUB_OFFLINE); unset it, or give a local "
            f"folder{_cached_copy_hint(path, cache_dir)}"
        ) from error
    except HfHubHTTPError as error:
        raise source_refused_error(error, path, "the dataset") from error
    except (ValueError, LookupError, TypeError) as error:
        raise not_the_hub_error(error, path) from error
    except (HTTPError, OSError) as error:
        raise DataError(
            f"{path} is not a local folder, and the Hub cannot be reached ({first_line(error)}); check the "
            f"network, give a local folder{_cached_copy_hint(path, cache_dir)}, or use the built-in `motion`"
        ) from error


def _cached_copy_hint(path: str, cache_dir: str | None) -> str:
    cached = None if cache_dir is None else find_cached_snapshot(path, cache_dir)
    return "" if cached is None else f" (--dataset {cached} is its cached copy)"


def _fetch_dataset_info(path: str, *, revision: str | None) -> Any:
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(path, revision=revision, timeout=_PROBE_SECONDS)
    if info.gated:
        # Anyone may see a gated dataset, but few may read it.
        HfApi().auth_check(path, repo_type="dataset")
    return info


def load_builder(path: str, *, config: str | None, revision: str | None) -> tuple[Any, list[str]]:
    """Return the builder of a dataset, and notes on how its splits were found.

    The splits of a local folder are found by their names in any case; `datasets` alone may take all for `train`.

    Raises:
        DataError: when it cannot be opened as a dataset.
    """
    import datasets

    is_local = os.path.isdir(path)
    saved = saved_splits(Path(path)) if is_local else None
    if saved is not None:
        return _load_file_builder(path, saved), []
    builder = read_with_retries(
        lambda: datasets.load_dataset_builder(path, name=config, revision=revision),
        dataset_name=path,
        file="the list of its files",
        otherwise="it cannot be opened as a dataset",
    )
    if not is_local or known_splits(builder) != ["train"]:
        return builder, []
    splits, notes = shard_splits(Path(path), name=path)
    return (_load_file_builder(path, splits), notes) if set(splits) - {"train"} else (builder, [])


def _load_file_builder(path: str, splits: dict[str, list[str]]) -> Any:
    """Return a builder for local shards of one format; their paths are relative to the folder."""
    import datasets

    root = os.path.abspath(path)
    files = {split: [os.path.join(root, file) for file in shards] for split, shards in splits.items()}
    endings = {os.path.splitext(file)[1] for shards in files.values() for file in shards}
    if len(endings) > 1:
        raise DataError(
            f"{path} holds shards in several formats ({', '.join(sorted(endings))}); give a folder with one format"
        )
    return datasets.load_dataset_builder(SHARD_KINDS[endings.pop()], data_files=files)


def known_splits(builder: Any) -> list[str]:
    """Return the splits of a dataset; empty if they are not known before its files are looked at."""
    return [str(name) for name in builder.info.splits or builder.config.data_files or {}]


def resolve_split(builder: Any, split: str) -> str:
    """Return a dataset's own name for a split, such as `validation` for `val`."""
    known = known_splits(builder)
    same = [name for name in known if normalize_split(name) == normalize_split(split)]
    return same[0] if split not in known and len(same) == 1 else split


def split_names(
    path: str, *, config: str | None = None, revision: str | None = None, allow_paths: Sequence[str] = ()
) -> list[str]:
    """Return the splits of a dataset that `HubDataset` opens.

    Raises:
        DataError: when it cannot be reached or opened.
    """
    info = None if os.path.isdir(path) else probe_hub(path, revision=revision)
    check_card_data_files(path, info, allowed=parse_allowed_paths(allow_paths))
    builder, _ = load_builder(path, config=config, revision=revision)
    return known_splits(builder)


def list_split_files(builder: Any, *, path: str, split: str) -> list[str]:
    """Return the files of a split, in order; empty if they are not known before they are read.

    Raises:
        DataError: for an unknown split.
    """
    known = known_splits(builder)
    if known and split not in known:
        raise DataError(f"{path} has no split {split!r}; choose one of {', '.join(known)}")
    return [str(file) for file in (builder.config.data_files or {}).get(split, [])]


def open_split(builder: Any, *, path: str, split: str) -> tuple[Any, Any]:
    """Return the stream of a split, whose videos stay encoded, and its columns (the `features` of `datasets`).

    The columns of JSON and CSV files are found in the first rows.
    """
    import datasets
    import pyarrow

    from .webdataset import disable_decoders

    disable_decoders(builder)
    files = list_split_files(builder, path=path, split=split)
    stream = read_with_retries(
        lambda: builder.as_streaming_dataset(split),
        dataset_name=path,
        file=_path_in_dataset(files[0]) if files else f"the split {split!r}",
        otherwise=f"the split {split!r} cannot be opened",
    )
    if stream.features is not None:
        return stream.decode(False), stream.features
    first = read_with_retries(lambda: list(islice(stream, NUM_PROBED_ROWS)), dataset_name=path, file="its first rows")
    try:
        return stream, datasets.Features.from_arrow_schema(pyarrow.Table.from_pylist(first).schema)
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"{path}: its first rows have columns of different types ({error}); give all rows the same types"
        ) from error


def redirect_to_cache(builder: Any, cache_dir: str, *, path: str, split: str, files: list[str]) -> ShardCache:
    """Redirect the builder to the files of a shard cache. They need not be there before they are read."""
    from datasets.data_files import DataFilesDict, DataFilesList

    if any(is_video_file(os.path.basename(file)) for file in files):
        raise DataError(
            f"{path} has no shards that --cache_dir could keep, because its videos are single files: download it with "
            f"`hf download {path} --repo-type dataset --local-dir DIR`, and give --dataset DIR"
        )
    shard_cache = ShardCache(cache_dir, files=files)
    if builder.info.features is None and files:
        # The columns are found in the first shard.
        read_with_retries(lambda: shard_cache.fetch(0), dataset_name=path, file=_path_in_dataset(files[0]))
    builder.config.data_files = DataFilesDict({split: DataFilesList(shard_cache.paths, origin_metadata=[])})
    return shard_cache


def commit_from_files(files: list[str]) -> str | None:
    """Return the commit that files on the Hub belong to; None for local files."""
    match = re.match(r"hf://datasets/[^@]+@([0-9a-f]{40})/", files[0]) if files else None
    return match[1] if match else None


def dataset_root(builder: Any, path: str) -> str:
    """Return the folder of a local dataset, or `hf://datasets/org/name@commit`."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    match = re.match(r"hf://datasets/[^/@]+/[^/@]+@[^/]+", str(builder.base_path or ""))
    return match[0] if match else f"hf://datasets/{path}@main"


def name_shards(files: list[str], *, split: str, count: int, root: str | None) -> list[str]:
    """Return a stable name for each shard: its file's path in the dataset, if each shard is a file."""
    if len(files) != count:
        return [f"{split}-{shard:05d}" for shard in range(count)]
    if root is not None:
        return [Path(file).relative_to(Path(root).resolve()).as_posix() for file in files]
    return [_path_in_dataset(file) for file in files]


def _path_in_dataset(file: str) -> str:
    """Turn hf://datasets/org/name@revision/data/train-00000.parquet into data/train-00000.parquet."""
    return file.split("@", 1)[-1].split("/", 1)[-1]
