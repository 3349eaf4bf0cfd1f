"""Open a dataset by name: the built-in motion set, a folder, a glob pattern, a file, or a dataset of the Hub."""

import difflib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from ..cards import is_hub_id
from ..errors import DataError
from .column_values import is_sharded
from .folder import check_labels, is_glob_pattern, open_glob, open_video_file, open_video_folder
from .hub_dataset import HubDataset
from .labels import SINGLE_LABEL, LabelKind
from .list_detection import is_list_file
from .motion import MotionSource
from .path_policy import parse_allowed_paths
from .source import AnyData, AnySource, Mixture, num_videos
from .video_files import INDEX_FILES, FolderScan, is_video_file, scan_folder
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
    """Open a dataset by the name that the user gave.

    `motion` is the built-in dataset (a folder of that name is `./motion`). Otherwise an existing file or folder comes
    first, then a pattern, then `org/name` on the Hub.

    Args:
        dataset: `motion`, a folder (searched at any depth), a glob pattern, a video file, a list of videos (CSV, JSON
            or text; see `hf_videomae.data.video_lists`), or `org/name` of the Hub. A folder that holds Parquet or
            WebDataset files and no videos is read like the Hub's datasets.
        split: `train` is everything if the dataset has no splits.
        require_labels: raise `DataError` for a dataset without labels.
        config: of a Hub dataset.
        revision: of a Hub dataset: branch, tag or commit.
        video_column: of Parquet or WebDataset files; found by its type.
        label_column: of Parquet or WebDataset files; found by its type or name.
        label_kind: one class per video, several, or a number.
        cache_dir: keep the shards of a Hub dataset in this folder, or in huggingface_hub's own cache (`hub`).
        allow_paths: hosts, folders and URL prefixes that the rows of Parquet, JSON or CSV files may name, and folders
            for an index file inside a data folder; by default they may name only files of the dataset.

    Returns:
        A `Source` (any order) or a `StreamedSource` (shard by shard).

    Raises:
        DataError: in one line, for anything that prevents using the dataset.
    """
    return _open(
        _locate(dataset),
        split=split,
        require_labels=require_labels,
        kind=label_kind,
        allow_paths=allow_paths,
        columns={"video_column": video_column, "label_column": label_column},
        hub={"config": config, "revision": revision, "cache_dir": cache_dir},
    )


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
    """Open one dataset, or several to draw from by weights.

    Args:
        names: of the datasets, as `open_source` takes them.
        weights: the shares of the draws; they need not add up to 1. None: by the number of videos.
        split: of every dataset.
        require_labels: raise `DataError` for a dataset without labels, and for datasets with different classes.
        label_kind: one class per video, several, or a number.
        cache_dir: for the shards of Hub datasets, as `open_source` takes it.
        video_column: for those with columns, as `open_source` takes it.
        label_column: for those with columns, as `open_source` takes it.
        allow_paths: for the rows of all of them, as `open_source` takes it.

    Returns:
        The dataset itself if there is only one, else a `Mixture`.

    Raises:
        DataError: in one line, for anything that prevents using one of them, for an unknown size if no weights are
            given, and for different classes if labels are required.
    """
    named = [names] if isinstance(names, str) else list(names)
    if weights is not None and len(weights) != len(named):
        raise DataError(
            f"there are {len(weights)} weights for {len(named)} datasets; give one for each, in their order"
        )
    locations = [_locate(name) for name in named]
    # If none of them has columns, the first one raises the error.
    has_any_columns = any(location.has_columns for location in locations)
    columns = {"video_column": video_column, "label_column": label_column}
    parts = tuple(
        _open(
            location,
            split=split,
            require_labels=require_labels,
            kind=label_kind,
            allow_paths=allow_paths,
            columns=columns if location.has_columns or not has_any_columns else {},
            hub={"cache_dir": cache_dir},
        )
        for location in locations
    )
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
                raise DataError(f"the weight {weight:g} of a dataset is not above 0; leave such a dataset out")
        # As written: 0.1 is a tenth.
        return [Fraction(repr(float(weight))) for weight in requested]
    sizes = [num_videos(part) for part in parts]
    for part, size in zip(parts, sizes, strict=True):
        if size is None:
            raise DataError(
                f"{part.name} does not say how many videos it has, so its share is not known; give a weight for each "
                f"dataset with --dataset_weights"
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
        f"{first.name} and {other.name} have different classes ({what}); datasets to train on together need the same "
        f"classes, in the same order"
    )


def has_columns(dataset: str) -> bool:
    """Return whether a dataset, named as for `open_source`, has columns and is not plain video files."""
    return _locate(dataset).has_columns


@dataclass(frozen=True)
class _Location:
    """What the name of a dataset stands for.

    Attributes:
        name: as the user gave it.
        kind: `shards` is a folder of Parquet, WebDataset or Arrow files; `hub` is any name that nothing local has.
        scan: the files of a folder.
    """

    name: str
    kind: Literal["motion", "folder", "shards", "list", "file", "pattern", "hub"]
    scan: FolderScan | None = None

    @property
    def has_columns(self) -> bool:
        return self.kind in ("shards", "hub")


def _locate(dataset: str) -> _Location:
    """Find what a name stands for; a folder is listed here, once."""
    if not dataset.strip():
        raise DataError("the name of the dataset is empty; give `motion`, a folder, a pattern, or org/name of the Hub")
    path = os.path.expanduser(dataset)
    if dataset == BUILT_IN:
        return _Location(dataset, "motion")
    if os.path.isdir(path):
        scan = scan_folder(Path(path))
        return _Location(dataset, "shards" if is_sharded(scan) else "folder", scan)
    if os.path.isfile(path):
        return _Location(dataset, "list" if is_list_file(path) else "file")
    return _Location(dataset, "pattern" if is_glob_pattern(dataset) else "hub")


def _open(
    location: _Location,
    *,
    split: str,
    require_labels: bool,
    kind: LabelKind,
    allow_paths: Sequence[str],
    columns: dict[str, str | None],
    hub: dict[str, str | None],
) -> AnySource:
    """Open what a name stands for; `columns` and `hub` are the arguments of `HubDataset` for these."""
    path = os.path.expanduser(location.name)
    named = next((f"--{name} {value}" for name, value in columns.items() if value is not None), None)
    if named is not None and not location.has_columns:
        raise DataError(
            f"{named} names a column of Parquet or WebDataset files, and {location.name} has none; leave it out "
            f"(labels of a folder come from its class folders or the column `label` of its {INDEX_FILES[0]})"
        )
    if location.kind == "motion":
        if kind != SINGLE_LABEL:
            raise DataError(f"the motion dataset has one class per video, not labels for {kind}")
        return MotionSource(split=split)
    allowed = parse_allowed_paths(allow_paths)
    if location.kind == "hub" and (not is_hub_id(location.name) or _looks_like_path(location.name)):
        raise DataError(_not_found(location.name))
    if location.has_columns:
        options: dict[str, Any] = {**columns, **hub}
        return HubDataset(
            path, split=split, require_labels=require_labels, label_kind=kind, allow_paths=allowed, **options
        )
    if location.scan is not None:
        source = open_video_folder(path, location.scan, split=split, kind=kind, allowed=allowed)
    elif location.kind == "list":
        source = open_video_list(path, split=split, kind=kind)
    elif location.kind == "file":
        source = open_video_file(path)
    else:
        source = open_glob(path, split=split, kind=kind)
    if require_labels:
        check_labels(source)
    return source


def _looks_like_path(dataset: str) -> bool:
    """Return whether a name with a slash must be a path: `./x`, `/x`, `~/x`, `a/b.mp4`, or its folder exists."""
    is_file = is_video_file(os.path.basename(dataset)) or is_list_file(dataset)
    return dataset.startswith((".", "/", "~")) or is_file or os.path.isdir(os.path.dirname(dataset))


def _not_found(dataset: str) -> str:
    if difflib.get_close_matches(dataset, [BUILT_IN], cutoff=0.7):
        return f"there is no dataset {dataset!r}; did you mean `{BUILT_IN}`?"
    return (
        f"there is no file or folder {dataset}; give a folder of videos, a glob pattern in quotes, org/name of the "
        f"Hub, or `{BUILT_IN}`"
    )
