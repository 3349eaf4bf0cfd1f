"""Read the classes of videos from the folders that they lie in.

`run/a.mp4` is of the class `run`. Where folders are nested, one level is the class and the others say a take, a person
or a part of the download:

    biking/v_biking_01/a.avi      class/group: the inner folders are numbered, the class is `biking`
    person01/run/a.avi            part/class: the outer folders are numbered, the class is `run`
    sports/jump/a.mp4             beside run/b.mp4, so no level names all classes: the innermost, `jump`
    run/alice/a.mp4               beside jump/bob/b.mp4, either may be the class: not decided
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..records import readable
from .split_folders import words_of

Folders = tuple[str, ...]
"""The folders of a video from outside in."""

# With a number or alone, these name takes, people, places, times and parts, not classes.
_GROUP_WORDS = frozenset(
    "actor angle batch cam camera cameras chunk clip clips data date day device dir disc disk dvd env environment ep "
    "episode fold folder frames g group groups grp id instance kinect loc location month p part participant parts "
    "patient pers person performer player pt raw rep repetition rgb room round s sample scene seg segment seq "
    "sequence ses session sessions set shard shot site split sub subj subject subset take track trial uncomp user v "
    "vid video videos view viewpoint vol volume week year".split()
)
_CLASS_WORDS = frozenset("class cls category label action activity event gesture exercise act c a".split())
_SHOWN = 3


@dataclass(frozen=True)
class ClassReading:
    """What the folders say.

    Attributes:
        labels: of each video; None where the folders name no classes, or it is not certain which do.
        why: there are no labels; "" where there are not two class folders.
        note: how nested folders were read, for the user.
    """

    labels: list[str] | None = None
    why: str = ""
    note: str = ""


def read_classes(folders: Sequence[Folders], *, paths: Sequence[str], pattern: str | None = None) -> ClassReading:
    """Read the class of each video from its folders.

    Args:
        folders: of each video, without that of the split.
        paths: of the videos, for messages.
        pattern: that takes the innermost folders, for messages; None where no pattern can be given.
    """
    outside = [path for path, own in zip(paths, folders, strict=True) if not own]
    if outside:
        if len(outside) == len(folders):
            return ClassReading()
        return ClassReading(why=f"{len(outside)} videos lie in no class folder, the first is {readable(outside[0])}")
    shared = _shared(folders)
    inner = [own[shared:] for own in folders]
    if shared and all(len(own) == 1 and _is_numbered_of(own[0], folders[0][shared - 1]) for own in inner):
        return ClassReading(why=f"the folders are groups of one class, {readable(folders[0][shared - 1])}")
    holders = set(inner)
    # A folder that holds videos itself is a class, and what lies deeper in it are groups.
    inner = [next(own[:end] for end in range(1, len(own) + 1) if own[:end] in holders) for own in inner]
    labels = _classes(inner)
    if labels is None and len(set(map(len, inner))) > 1:
        labels = [own[-1] for own in inner]  # run/a.mp4 beside sports/jump/b.mp4
    if labels is None:
        return ClassReading(why=_two_readings(inner, pattern=pattern))
    if len(set(labels)) < 2:
        return ClassReading()
    return ClassReading(labels=labels, note=_note([own[shared:] for own in folders], labels))


def innermost_classes(folders: Sequence[Folders]) -> list[str] | None:
    """Return the innermost folder of each video; None where one has none, or all have the same."""
    labels = [own[-1] if own else "" for own in folders]
    return labels if all(labels) and len(set(labels)) > 1 else None


def _shared(folders: Sequence[Folders]) -> int:
    """Return how many outer folders are the same for all videos; each keeps one at least."""
    first, last = min(folders), max(folders)
    same = next((depth for depth, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(same, min(map(len, folders)) - 1)


def _classes(folders: Sequence[Folders]) -> list[str] | None:
    """Return the one folder of each video that is no group and no part; None where that is not one."""
    series = _series(folders)
    labels = []
    for own in folders:
        left = [place for place, name in enumerate(own) if not _is_group(name, parent=own[place - 1] if place else "")]
        if len(own) == 1:
            left = [0]
        elif len(left) > 1:
            left = [place for place in left if own[: place + 1] not in series]
        if len(left) != 1:
            return None
        labels.append(own[left[0]])
    return labels


def _is_group(name: str, *, parent: str = "") -> bool:
    """Whether a folder is called by a number or a letter, with or without a word for a group or its parent's words."""
    known = set(words_of(parent))
    left = [word for word in words_of(name) if word not in known]
    numbered = not left or any(word.isdigit() or len(word) == 1 for word in left)
    words = [word for word in left if not word.isdigit() and len(word) > 1]
    return numbered and not _CLASS_WORDS & set(left) and _GROUP_WORDS.issuperset(words)


def _is_numbered_of(name: str, parent: str) -> bool:
    """Whether a folder holds a numbered group of its parent: `biking/v_biking_01`."""
    words = words_of(name)
    return (
        set(words_of(parent)) <= set(words)
        and any(word.isdigit() for word in words)
        and _is_group(name, parent=parent)
    )


def _series(folders: Iterable[Folders]) -> set[Folders]:
    """Return the folders that differ from those beside them in a number alone, and those that stand alone everywhere.

    `v_shooting_01`, `v_shooting_02`, ... within `basketball` are a series; so is `video` in every class. At the top a
    word has to tell a series of parts from numbered classes: `Anomaly-Videos-Part-1`.
    """
    children: dict[Folders, set[str]] = {}
    by_depth: dict[int, set[str]] = {}
    for own in set(folders):
        for depth in range(1, len(own)):
            children.setdefault(own[:depth], set()).add(own[depth])
            by_depth.setdefault(depth, set()).add(own[depth])
    top = {own[0] for own in folders}
    is_parts = len(top) > 1 and _is_series(top) and any(_GROUP_WORDS & set(words_of(name)) for name in top)
    found: set[Folders] = {(name,) for name in top} if is_parts else set()
    for depth, names in by_depth.items():
        parents = [parent for parent in children if len(parent) == depth]
        alike = len(parents) > 1 and len(names) == 1
        if alike or all(_is_series(children[parent]) for parent in parents):
            found |= {(*parent, child) for parent in parents for child in children[parent]}
    return found


def _is_series(names: set[str]) -> bool:
    stems = {re.sub(r"\d+", "", name) for name in names}
    numbered = all(re.search(r"\d", name) for name in names)
    return numbered and len(stems) == 1 and not _CLASS_WORDS & set(words_of(stems.pop()))


def _two_readings(folders: Sequence[Folders], *, pattern: str | None) -> str:
    nested = [own for own in folders if len(own) > 1]
    outer, inner = ({own[place] for own in nested} for place in (0, -1))
    return (
        f"the folders are nested ({readable('/'.join(nested[0]))}): the classes may be the outer ones "
        f"({_listed(outer)}) or the inner ones ({_listed(inner)}); list the videos in an index.csv (path,label)"
        + ("" if pattern is None else f", or give the pattern '{readable(pattern)}' for the inner ones")
    )


def _note(folders: Sequence[Folders], labels: Sequence[str]) -> str:
    passed = Counter(name for own, label in zip(folders, labels, strict=True) for name in own if name != label)
    if not passed:
        return ""
    return (
        f"the folders are nested: {_listed(set(labels))} are taken for the classes, and {_listed(passed)} for groups "
        f"within them or parts around them"
    )


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    shown = ", ".join(map(readable, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
