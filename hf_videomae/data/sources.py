"""Open what the user named: the built-in motion set, a folder, a glob pattern, a file, or a data set of the Hub."""

import difflib
import os
from functools import partial
from pathlib import Path

from .folder import VIDEO_EXTENSIONS, find_videos, is_pattern, open_file, open_folder, open_pattern
from .labels import SINGLE, LabelKind
from .motion import MotionSource
from .samples import AnySource, DataError
from .streamed import DatasetsSource, is_hub_id

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
    label_kind: LabelKind = SINGLE,
    cache_dir: str | None = None,
) -> AnySource:
    """Open a data set by the name that the user gave.

    `motion` is the built-in set (a folder of that name is `./motion`). Otherwise a file or folder that exists wins;
    then comes a pattern, then `org/name` on the Hub.

    Args:
        dataset: `motion`, a folder (searched at any depth), a glob pattern, a video file, or `org/name` of the Hub. A
            folder that holds Parquet or WebDataset files and no videos is read like the Hub's data sets.
        split: `train` is everything where the data set has no splits.
        require_labels: refuse a data set without labels.
        config: of a Hub data set.
        revision: of a Hub data set: branch, tag or commit.
        video_column: of a Hub data set; found by its type.
        label_column: of a Hub data set; found by its type.
        label_kind: one class per video, several, or a number.
        cache_dir: keep the shards of a Hub data set in this folder, or in huggingface_hub's own cache (`hub`).

    Returns:
        A `Source` (any order) or a `StreamedSource` (shard by shard).

    Raises:
        DataError: in one line, for whatever keeps the data set from being used.
    """
    if not dataset.strip():
        raise DataError(
            "the name of the data set is empty; give `motion`, a folder, a pattern, or org/name of the Hub"
        )
    path = os.path.expanduser(dataset)
    if dataset == BUILT_IN:
        if label_kind != SINGLE:
            raise DataError(f"the motion data set has one class per video, no labels for {label_kind}")
        return MotionSource(split=split)
    streamed = partial(
        DatasetsSource,
        split=split,
        config=config,
        revision=revision,
        video_column=video_column,
        label_column=label_column,
        require_labels=require_labels,
        label_kind=label_kind,
        cache_dir=cache_dir,
    )
    if os.path.isdir(path):
        if _is_sharded(path):
            return streamed(path)
        return open_folder(path, split=split, require_labels=require_labels, kind=label_kind)
    if os.path.isfile(path):
        return open_file(path, require_labels=require_labels, kind=label_kind)
    if is_pattern(dataset):
        return open_pattern(path, split=split, require_labels=require_labels, kind=label_kind)
    if is_hub_id(dataset) and not _looks_like_path(dataset):
        return streamed(dataset)
    raise DataError(_not_found(dataset))


def _is_sharded(folder: str) -> bool:
    """Whether a folder holds Parquet or WebDataset files, and no video files."""
    root = Path(folder)
    shards = any(next(root.glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet", "*.tar", "*/*.tar"))
    return shards and not find_videos(root)


def _looks_like_path(dataset: str) -> bool:
    """Whether a name with a slash can only be meant as a path: `./x`, `/x`, `~/x`, `a/b.mp4`, or its folder exists."""
    is_file = os.path.splitext(dataset)[1].lower() in VIDEO_EXTENSIONS
    return dataset.startswith((".", "/", "~")) or is_file or os.path.isdir(os.path.dirname(dataset))


def _not_found(dataset: str) -> str:
    if difflib.get_close_matches(dataset, [BUILT_IN], cutoff=0.7):
        return f"there is no data set {dataset!r}; did you mean `{BUILT_IN}`?"
    return (
        f"there is no file or folder {dataset}; give a folder of videos, a glob pattern in quotes, org/name of the "
        f"Hub, or `{BUILT_IN}`"
    )
