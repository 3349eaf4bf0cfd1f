"""Open a data set by name: the built-in motion set, a folder, a glob pattern, a file, or a data set of the Hub."""

import difflib
import math
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from ..cards import is_hub_id
from ..errors import DataError
from .column_values import has_video_paths
from .folder import is_glob_pattern, open_glob, open_video_file, open_video_folder
from .hub_dataset import HubDataset
from .index_files import INDEX_FILES
from .labels import SINGLE_LABEL, LabelKind
from .list_detection import is_list_file
from .motion import MotionSource
from .path_policy import parse_allowed_paths
from .shard_folders import find_shards
from .source import AnyData, AnySource, Mixture, num_videos
from .video_files import find_videos, is_video_file
from .video_lists import open_video_list

BUILT_IN = "motion"


def open_source(
    dataset: str = BUILT_IN,
    *,
    split: str = "train",
    require_labels: bool = False,
    config: str | None = None,
    revision: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
    label_kind: LabelKind = SINGLE_LABEL,
    cache_dir: str | None = None,
    allow_paths: Sequence[str] = (),
) -> AnySource:
    """Open a data set by the name that the user gave.

    `motion` is the built-in data set (a folder of that name is `./motion`). Otherwise an existing file or folder comes
    first, then a pattern, then `org/name` on the Hub.

    Args:
        dataset: `motion`, a folder (searched at any depth), a glob pattern, a video file, a list of videos (CSV, JSON
            or text; see `hf_videomae.data.video_lists`), or `org/name` of the Hub. A folder that holds Parquet or
            WebDataset files and no videos is read like the Hub's data sets.
        split: `train` is everything if the data set has no splits.
        require_labels: raise `DataError` for a data set without labels.
        config: of a Hub data set.
        revision: of a Hub data set: branch, tag or commit.
        video_column: of Parquet or WebDataset files; found by its type.
        label_column: of Parquet or WebDataset files; found by its type or name.
        label_kind: one class per video, several, or a number.
        cache_dir: keep the shards of a Hub data set in this folder, or in huggingface_hub's own cache (`hub`).
        allow_paths: hosts, folders and URL prefixes that the rows of Parquet, JSON or CSV files may name, and folders
            for an index file inside a data folder; by default they may name only files of the data set.

    Returns:
        A `Source` (any order) or a `StreamedSource` (shard by shard).

    Raises:
        DataError: in one line, for anything that prevents using the data set.
    """
    if not dataset.strip():
        raise DataError(
            "the name of the data set is empty; give `motion`, a folder, a pattern, or org/name of the Hub"
        )
    path = os.path.expanduser(dataset)
    columns: dict[str, Any] = {"video_column": video_column, "label_column": label_column}
    named = next((f"--{name} {value}" for name, value in columns.items() if value is not None), None)
    if named is not None and not has_columns(dataset):
        raise DataError(
            f"{named} names a column of Parquet or WebDataset files, and {dataset} has none; leave it out (labels "
            f"of a folder come from its class folders or the column `label` of its {INDEX_FILES[0]})"
        )
    if dataset == BUILT_IN:
        if label_kind != SINGLE_LABEL:
            raise DataError(f"the motion data set has one class per video, not labels for {label_kind}")
        return MotionSource(split=split)
    streamed: Callable[[str], HubDataset] = partial(
        HubDataset,
        split=split,
        config=config,
        revision=revision,
        **columns,
        require_labels=require_labels,
        label_kind=label_kind,
        cache_dir=cache_dir,
        allow_paths=parse_allowed_paths(allow_paths),
    )
    if os.path.isdir(path):
        if _is_sharded(path):
            return streamed(path)
        return open_video_folder(
            path, split=split, require_labels=require_labels, kind=label_kind, allow_paths=allow_paths
        )
    if os.path.isfile(path) and is_list_file(path):
        return open_video_list(path, split=split, require_labels=require_labels, kind=label_kind)
    if os.path.isfile(path):
        return open_video_file(path, require_labels=require_labels, kind=label_kind)
    if is_glob_pattern(dataset):
        return open_glob(path, split=split, require_labels=require_labels, kind=label_kind)
    if is_hub_id(dataset) and not _looks_like_path(dataset):
        return streamed(dataset)
    raise DataError(_not_found(dataset))


def open_mixture(
    names: str | Sequence[str] = BUILT_IN,
    *,
    weights: Sequence[float] | None = None,
    split: str = "train",
    require_labels: bool = False,
    label_kind: LabelKind = SINGLE_LABEL,
    cache_dir: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
    allow_paths: Sequence[str] = (),
) -> AnyData:
    """Open one data set, or several to draw from by weights.

    Args:
        names: of the data sets, as `open_source` takes them.
        weights: the shares of the draws; they need not add up to 1. None: by the number of videos.
        split: of every data set.
        require_labels: raise `DataError` for a data set without labels, and for data sets with different classes.
        label_kind: one class per video, several, or a number.
        cache_dir: for the shards of Hub data sets, as `open_source` takes it.
        video_column: for those with columns, as `open_source` takes it.
        label_column: for those with columns, as `open_source` takes it.
        allow_paths: for the rows of all of them, as `open_source` takes it.

    Returns:
        The data set itself if there is only one, else a `Mixture`.

    Raises:
        DataError: in one line, for anything that prevents using one of them, for an unknown size if no weights are
            given, and for different classes if labels are required.
    """
    named = [names] if isinstance(names, str) else list(names)
    if weights is not None and len(weights) != len(named):
        raise DataError(
            f"there are {len(weights)} weights for {len(named)} data sets; give one for each, in their order"
        )
    options: dict[str, Any] = {"split": split, "require_labels": require_labels, "label_kind": label_kind}
    options |= {"cache_dir": cache_dir, "allow_paths": allow_paths}
    columns: dict[str, Any] = {"video_column": video_column, "label_column": label_column}
    # If none of them has columns, the first one raises the error.
    have = {name for name in named if has_columns(name)} or set(named)
    parts = tuple(open_source(name, **options, **(columns if name in have else {})) for name in named)
    if len(parts) == 1:
        return parts[0]
    duplicate = next((part.name for part in parts if sum(part.name == other.name for other in parts) > 1), None)
    if duplicate is not None:
        raise DataError(f"{duplicate} is named twice; name it once, with a larger weight")
    classes = _common_classes(parts, require=require_labels)
    return Mixture(parts=parts, weights=_to_integers(_resolve_weights(parts, weights)), class_names=classes)


def _resolve_weights(parts: Sequence[AnySource], requested: Sequence[float] | None) -> list[Fraction]:
    if requested is not None:
        for weight in requested:
            if not (weight > 0 and math.isfinite(weight)):
                raise DataError(f"the weight {weight:g} of a data set is not above 0; leave such a data set out")
        # As written: 0.1 is a tenth.
        return [Fraction(repr(float(weight))) for weight in requested]
    sizes = [num_videos(part) for part in parts]
    for part, size in zip(parts, sizes, strict=True):
        if size is None:
            raise DataError(
                f"{part.name} does not say how many videos it has, so its share is not known; give a weight for each "
                f"data set with --dataset_weights"
            )
    return [Fraction(size or 0) for size in sizes]


def _to_integers(weights: Sequence[Fraction]) -> tuple[int, ...]:
    scale = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * scale) for weight in weights]
    return tuple(number // math.gcd(*whole) for number in whole)


def _common_classes(parts: Sequence[AnySource], *, require: bool) -> list[str] | None:
    """Return the classes of all parts. If they differ: None, or `DataError` if `require`."""
    first = parts[0]
    other = next((part for part in parts if part.class_names != first.class_names), None)
    if other is None:
        return first.class_names
    if not require:
        return None
    differing = sorted(set(first.class_names or ()) ^ set(other.class_names or ()))
    what = f"{differing[0]!r} is a class of one of them alone" if differing else "their classes are in another order"
    raise DataError(
        f"{first.name} and {other.name} have different classes ({what}); data sets to train on together need the same "
        f"classes, in the same order"
    )


def has_columns(dataset: str) -> bool:
    """Return whether a data set, named as for `open_source`, has columns and is not plain video files."""
    path = os.path.expanduser(dataset)
    if dataset == BUILT_IN or os.path.isfile(path):
        return False
    return _is_sharded(path) if os.path.isdir(path) else not is_glob_pattern(dataset)


def _is_sharded(folder: str) -> bool:
    """Return whether a folder holds Parquet, WebDataset or Arrow files, and no videos except those that rows name."""
    root = Path(folder)
    return bool(find_shards(root)) and (not find_videos(root) or has_video_paths(root))


def _looks_like_path(dataset: str) -> bool:
    """Return whether a name with a slash must be a path: `./x`, `/x`, `~/x`, `a/b.mp4`, or its folder exists."""
    is_file = is_video_file(os.path.basename(dataset)) or is_list_file(dataset)
    return dataset.startswith((".", "/", "~")) or is_file or os.path.isdir(os.path.dirname(dataset))


def _not_found(dataset: str) -> str:
    if difflib.get_close_matches(dataset, [BUILT_IN], cutoff=0.7):
        return f"there is no data set {dataset!r}; did you mean `{BUILT_IN}`?"
    return (
        f"there is no file or folder {dataset}; give a folder of videos, a glob pattern in quotes, org/name of the "
        f"Hub, or `{BUILT_IN}`"
    )
