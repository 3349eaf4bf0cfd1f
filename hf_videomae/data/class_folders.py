"""Read the classes of videos from the folders that contain them.

`run/a.mp4` belongs to the class `run`. In nested folders, one level is the class and the others are takes, persons or
parts of the download:

    biking/v_biking_01/a.avi      class/group: the inner folders are numbered, the class is `biking`
    person01/run/a.avi            part/class: the outer folders are numbered, the class is `run`
    sports/jump/a.mp4             next to run/b.mp4, so no level names all classes: the innermost, `jump`
    run/alice/a.mp4               next to jump/bob/b.mp4, where either level may be the class: not decided
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..text import escape_non_utf8
from .split_folders import split_into_words

FolderNames = tuple[str, ...]
"""The folders of a video, the outermost first."""

# Alone or with a number, these words name takes, people, places, times and parts, not classes.
_GROUP_WORDS = frozenset(
    "actor angle batch cam camera cameras chunk clip clips data date day device dir disc disk dvd env environment ep "
    "episode fold folder frames g group groups grp id instance kinect loc location month p part participant parts "
    "patient pers person performer player pt raw rep repetition rgb room round s sample scene seg segment seq "
    "sequence ses session sessions set shard shot site split sub subj subject subset take track trial uncomp user v "
    "vid video videos view viewpoint vol volume week year".split()
)
_CLASS_WORDS = frozenset("class cls category label action activity event gesture exercise act c a".split())
_MAX_SHOWN = 3


@dataclass(frozen=True)
class FolderClasses:
    """The classes that folders name.

    Attributes:
        labels: the class of each video; None if the folders name no classes, or it is not certain which do.
        no_labels_reason: why there are no labels; "" if there are fewer than two class folders.
        note: how nested folders were read, for the user.
    """

    labels: list[str] | None = None
    no_labels_reason: str = ""
    note: str = ""


def read_classes(folders: Sequence[FolderNames], *, paths: Sequence[str], pattern: str | None = None) -> FolderClasses:
    """Read the class of each video from its folders.

    Args:
        folders: the folders of each video, without the folder of its split.
        paths: the videos, for messages.
        pattern: a glob pattern that takes the innermost folders, for messages; None if there is none.
    """
    outside = [path for path, parts in zip(paths, folders, strict=True) if not parts]
    if outside:
        if len(outside) == len(folders):
            return FolderClasses()
        first = escape_non_utf8(outside[0])
        return FolderClasses(no_labels_reason=f"{len(outside)} videos lie in no class folder, the first is {first}")
    shared = _count_shared_folders(folders)
    inner = [parts[shared:] for parts in folders]
    if shared and all(len(parts) == 1 and _is_numbered_group(parts[0], folders[0][shared - 1]) for parts in inner):
        return FolderClasses(
            no_labels_reason=f"the folders are groups of one class, {escape_non_utf8(folders[0][shared - 1])}"
        )
    holders = set(inner)
    # A folder that holds videos itself is a class, and the folders in it are groups.
    inner = [next(parts[:end] for end in range(1, len(parts) + 1) if parts[:end] in holders) for parts in inner]
    labels = _find_class_level(inner)
    if labels is None and len(set(map(len, inner))) > 1:
        labels = [parts[-1] for parts in inner]  # run/a.mp4 next to sports/jump/b.mp4
    if labels is None:
        return FolderClasses(no_labels_reason=_describe_ambiguity(inner, pattern=pattern))
    if len(set(labels)) < 2:
        return FolderClasses()
    return FolderClasses(labels=labels, note=_describe_nesting([parts[shared:] for parts in folders], labels))


def innermost_classes(folders: Sequence[FolderNames]) -> list[str] | None:
    """Return the innermost folder of each video; None if one has none, or all have the same."""
    labels = [parts[-1] if parts else "" for parts in folders]
    return labels if all(labels) and len(set(labels)) > 1 else None


def _count_shared_folders(folders: Sequence[FolderNames]) -> int:
    """Return how many outer folders all videos share; each keeps at least one of its own."""
    first, last = min(folders), max(folders)
    same = next((depth for depth, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(same, min(map(len, folders)) - 1)


def _find_class_level(folders: Sequence[FolderNames]) -> list[str] | None:
    """Return the one folder of each video that is neither a group nor a part; None unless it is exactly one."""
    series = _find_numbered_series(folders)
    labels = []
    for parts in folders:
        left = [
            position
            for position, name in enumerate(parts)
            if not _is_group(name, parent=parts[position - 1] if position else "")
        ]
        if len(parts) == 1:
            left = [0]
        elif len(left) > 1:
            left = [position for position in left if parts[: position + 1] not in series]
        if len(left) != 1:
            return None
        labels.append(parts[left[0]])
    return labels


def _is_group(name: str, *, parent: str = "") -> bool:
    """Return whether a folder's name is a number or a letter, with or without group words or its parent's."""
    known = set(split_into_words(parent))
    left = [word for word in split_into_words(name) if word not in known]
    numbered = not left or any(word.isdigit() or len(word) == 1 for word in left)
    words = [word for word in left if not word.isdigit() and len(word) > 1]
    # "c1" is a class as well as a camera, "cam_c" is none.
    is_class = bool(_CLASS_WORDS & set(words or left))
    return numbered and not is_class and _GROUP_WORDS.issuperset(words)


def _is_numbered_group(name: str, parent: str) -> bool:
    """Return whether a folder is a numbered group of its parent, such as `biking/v_biking_01`."""
    words = split_into_words(name)
    return (
        set(split_into_words(parent)) <= set(words)
        and any(word.isdigit() for word in words)
        and _is_group(name, parent=parent)
    )


def _find_numbered_series(folders: Iterable[FolderNames]) -> set[FolderNames]:
    """Return the folders that differ from their siblings only in a number, and those that never have siblings.

    `v_shooting_01`, `v_shooting_02`, ... within `basketball` are a series; so is `video` in every class. At the top, a
    word must distinguish a series of parts from numbered classes: `Anomaly-Videos-Part-1`.
    """
    children: dict[FolderNames, set[str]] = {}
    by_depth: dict[int, set[str]] = {}
    for parts in set(folders):
        for depth in range(1, len(parts)):
            children.setdefault(parts[:depth], set()).add(parts[depth])
            by_depth.setdefault(depth, set()).add(parts[depth])
    top = {parts[0] for parts in folders}
    is_parts = len(top) > 1 and _is_series(top) and any(_GROUP_WORDS & set(split_into_words(name)) for name in top)
    series: set[FolderNames] = {(name,) for name in top} if is_parts else set()
    for depth, names in by_depth.items():
        parents = [parent for parent in children if len(parent) == depth]
        alike = len(parents) > 1 and len(names) == 1
        if alike or all(_is_series(children[parent]) for parent in parents):
            series |= {(*parent, child) for parent in parents for child in children[parent]}
    return series


def _is_series(names: set[str]) -> bool:
    stems = {re.sub(r"\d+", "", name) for name in names}
    numbered = all(re.search(r"\d", name) for name in names)
    return numbered and len(stems) == 1 and not _CLASS_WORDS & set(split_into_words(stems.pop()))


def _describe_ambiguity(folders: Sequence[FolderNames], *, pattern: str | None) -> str:
    nested = [parts for parts in folders if len(parts) > 1]
    outer, inner = ({parts[position] for parts in nested} for position in (0, -1))
    return (
        f"the folders are nested ({escape_non_utf8('/'.join(nested[0]))}): the classes may be the outer ones "
        f"({_format_names(outer)}) or the inner ones ({_format_names(inner)}); "
        f"list the videos in an index.csv (path,label)"
        + ("" if pattern is None else f", or give the pattern '{escape_non_utf8(pattern)}' for the inner ones")
    )


def _describe_nesting(folders: Sequence[FolderNames], labels: Sequence[str]) -> str:
    ignored = Counter(name for parts, label in zip(folders, labels, strict=True) for name in parts if name != label)
    if not ignored:
        return ""
    return (
        f"the folders are nested: {_format_names(set(labels))} are taken for the classes, and "
        f"{_format_names(ignored)} for groups within them or parts around them"
    )


def _format_names(names: Iterable[str]) -> str:
    names = sorted(names)
    shown = ", ".join(map(escape_non_utf8, names[:_MAX_SHOWN]))
    return shown + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")
