"""Video files on a disk: a folder, a glob pattern or a single file; labels from class folders or an index file."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .index_files import INDEX_FILES, Index, read_index
from .index_paths import IndexPaths
from .labels import SINGLE, LabelKind, parse_labels
from .samples import DataError, Label, Sample, segment_id

VIDEO_EXTENSIONS = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
# What people call the folders of a split.
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
_GLOB_SIGNS = frozenset("*?[")


def is_video_name(name: str) -> bool:
    """Whether a file is taken for a video: by its extension, hidden files (macOS leaves `._x.mp4`) left out."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def is_pattern(dataset: str) -> bool:
    """Whether a name is a glob pattern."""
    return not _GLOB_SIGNS.isdisjoint(dataset)


def find_videos(root: Path) -> list[str]:
    """Relative posix paths of all videos under a folder, sorted; symbolic links are followed, each folder once."""
    found, visited = [], {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and _first_visit(folder, name, visited)]
        relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
        found += [str(relative / name) for name in files if is_video_name(name)]
    return sorted(found)


def _first_visit(folder: str, name: str, visited: set[str]) -> bool:
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return True
    target = os.path.realpath(path)
    is_new = target not in visited
    visited.add(target)
    return is_new


Segment = tuple[float | None, float | None]
"""Start and end in seconds."""


class FolderSource:
    """Files on a disk as a `Source`, by `open_folder`, `open_pattern` or `open_file`.

    Args:
        name: what messages call it.
        root: the paths are relative to it; it is no part of the samples' ids.
        paths: relative posix paths, which are the samples' ids.
        labels: of each path, or None for an unlabelled set.
        kind: what the labels say.
        notes: how the folder was read, for the user.
        segments: start and end in seconds of each path, None where it is the whole file.
        unlabelled: why there are no labels, for errors.
        class_names: all classes in their order, of a set with one class per video; by default those of the labels.
    """

    def __init__(
        self,
        name: str,
        *,
        root: Path,
        paths: list[str],
        labels: list[str] | None = None,
        kind: LabelKind = SINGLE,
        notes: Sequence[str] = (),
        segments: Sequence[Segment] | None = None,
        unlabelled: str = "",
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.segments, self.unlabelled = segments, unlabelled
        self.notes = list(notes)
        self.name, self.root, self.paths = name, root, paths
        self.class_names: list[str] | None = None
        self.labels: list[Label] | None = None
        if labels is not None:
            self.class_names, self.labels = parse_labels(labels, kind=kind, ids=paths, name=name)
        if self.class_names is not None and class_names is not None and labels is not None:
            number = {known: place for place, known in enumerate(class_names)}
            self.class_names, self.labels = list(class_names), [number[label] for label in labels]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        label = None if self.labels is None else self.labels[index]
        start, end = (None, None) if self.segments is None else self.segments[index]
        id = segment_id(path, start=start, end=end)
        return Sample(id=id, video=str(self.root / path), label=label, start=start, end=end)

    @classmethod
    def of_index(
        cls, name: str, index: Index, *, root: Path, kind: LabelKind, class_names: Sequence[str] | None = None
    ) -> "FolderSource":
        """Return what an index file lists as a source; `class_names` are all classes in order."""
        is_cut = any(segment != (None, None) for segment in index.segments)
        return cls(
            name,
            root=root,
            paths=index.paths,
            labels=index.labels,
            kind=kind,
            notes=index.notes,
            segments=index.segments if is_cut else None,
            unlabelled=index.unlabelled,
            class_names=class_names,
        )


def open_folder(
    dataset: str, *, split: str = "train", require_labels: bool = False, kind: LabelKind = SINGLE
) -> FolderSource:
    """Open all videos under a folder.

    An index file (`INDEX_FILES`) at its top, with a column `path` or `file_name` and optionally `label` and `split`,
    says which videos belong to the set. Without one, all videos do; the folder that directly holds a video is its
    class, unless that is the top or the folder of a split (`SPLIT_FOLDERS`). Several classes of one video are
    separated by `|`.

    Raises:
        DataError: for a folder without videos, an index file that does not fit the folder, an unknown split, or
            missing labels where they are required.
    """
    root = Path(dataset)
    index = next((root / name for name in INDEX_FILES if (root / name).is_file()), None)
    paths = find_videos(root)
    if index is not None:
        listed = read_index(index, paths=IndexPaths(root), split=split, kind=kind)
        source = FolderSource.of_index(dataset, listed, root=root, kind=kind)
    elif not paths:
        raise DataError(_without_videos(root))
    else:
        paths, prefix = _of_split(paths, split=split, dataset=dataset)
        labels = folder_labels(paths, prefix=prefix)
        source = FolderSource(dataset, root=root, paths=paths, labels=labels, kind=kind)
    return _checked_labels(source, require_labels)


def open_pattern(
    pattern: str, *, split: str = "train", require_labels: bool = False, kind: LabelKind = SINGLE
) -> FolderSource:
    """Open the videos that a glob pattern matches (`**` is recursive). Ids are relative to the folder before the first
    sign.

    Raises:
        DataError: when nothing matches, no match is a video, or labels are required and missing.
    """
    if split != "train":
        raise DataError(f"{pattern} is a pattern and has no split {split!r}; give the pattern of that split's files")
    matches = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    videos = [path for path in matches if is_video_name(os.path.basename(path))]
    if not videos:
        what = f"{len(matches)} files match but none has a video's extension" if matches else "no file matches"
        raise DataError(f"{pattern}: {what}; check the pattern, or give a folder (its subfolders are searched)")
    fixed = pattern[: min(pattern.index(sign) for sign in _GLOB_SIGNS if sign in pattern)]
    root = Path(os.path.dirname(fixed) or ".")
    paths = [Path(path).relative_to(root).as_posix() for path in videos]
    labels = folder_labels(paths, prefix="")
    source = FolderSource(pattern, root=root, paths=paths, labels=labels, kind=kind)
    return _checked_labels(source, require_labels)


def open_file(dataset: str, *, require_labels: bool = False, kind: LabelKind = SINGLE) -> FolderSource:
    """Open a single video, or the folder of an index file that was named itself.

    Raises:
        DataError: for any other file.
    """
    path = Path(dataset)
    if path.name in INDEX_FILES:
        return open_folder(str(path.parent), require_labels=require_labels, kind=kind)
    if not is_video_name(path.name):
        known = " ".join(sorted(VIDEO_EXTENSIONS))
        raise DataError(f"{dataset} is not a video file (known extensions: {known}); give a folder of videos")
    return _checked_labels(FolderSource(dataset, root=path.parent, paths=[path.name]), require_labels)


def _without_videos(root: Path) -> str:
    others = sum(len(files) for _, _, files in os.walk(root))
    what = f"none of the {others} files in the folder {root} is a video" if others else f"the folder {root} is empty"
    return f"{what}; give a folder that holds videos (.mp4, .avi, .mkv, .webm, ...), at any depth"


# Splits and labels from folders.


def split_folders(paths: list[str]) -> dict[str, str]:
    """The split of each folder at the top: all are splits, or none is, as a class may be called "train" too."""
    known = {folder: name for name, folders in SPLIT_FOLDERS.items() for folder in folders}
    tops = {path.split("/", 1)[0] for path in paths}
    return {top: known[top] for top in tops} if tops <= known.keys() else {}


def _of_split(paths: list[str], *, split: str, dataset: str) -> tuple[list[str], str]:
    """The paths of a split, and the split's folder ("" without split folders: all is training data)."""
    present = {name: folder for folder, name in sorted(split_folders(paths).items())}
    present.setdefault("train", "") if not present else None
    if split not in present:
        raise DataError(
            f"{dataset} has no split {split!r} (it has: {', '.join(sorted(present))}); name a split that it has, put "
            f"the split's videos into a folder {split}/, or add a column `split` to its index file"
        )
    prefix = present[split] and present[split] + "/"
    return [path for path in paths if path.startswith(prefix)], prefix


def folder_labels(paths: list[str], *, prefix: str = "") -> list[str] | None:
    """Each video's folder is its class; None when any lies outside of a class folder, or there is but one class."""
    parents = [os.path.dirname(path[len(prefix) :]).rsplit("/", 1)[-1] for path in paths]
    return parents if all(parents) and len(set(parents)) > 1 else None


def _checked_labels(source: FolderSource, require_labels: bool) -> FolderSource:
    if require_labels and source.labels is None and source.unlabelled:
        raise DataError(f"{source.name} has no labels: {source.unlabelled}; give every row its class in that column")
    if require_labels and source.labels is None:
        raise DataError(
            f"{source.name} has no labels; put each class's videos into a folder of its name (two or more), or "
            f"add an {INDEX_FILES[0]} with the columns path,label"
        )
    return source
