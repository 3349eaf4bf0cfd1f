"""Find the folders of train, validation and test videos among the folders of a data set.

Names are compared without case. Folders are looked at level by level from the top, so that `train/`, `UCF101/train/`
and `run/train/` are found alike. Where only some folders of a level look like splits, nothing is guessed.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..records import readable
from .samples import DataError
from .split_names import SPLIT_NAMES, split_name

_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
# What stands beside the split in a folder's name: train_256, videos_train, trainlist01, kinetics400_val.
_PLAIN_WORDS = frozenset(
    "video videos vid vids clip clips data dataset set sets split splits subset list lists file files part parts "
    "frame frames rgb raw full all mini small tiny large resized compressed cropped processed trimmed p px fps hd "
    "avi mp4 webm of kinetics k ucf hmdb ssv v".split()
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_FOLD = re.compile(r"(split|fold|cv|partition)s?[\W_]*\d+", re.IGNORECASE)
_SHOWN = 4


def words_of(name: str) -> list[str]:
    """Return the words and numbers of a file or folder name, in lower case."""
    return [word.casefold() for word in _WORDS.findall(name)]


@dataclass(frozen=True)
class SplitLevel:
    """Folders of splits at one depth of a data set.

    Attributes:
        depth: number of folders above them.
        folders: split of each folder's name.
    """

    depth: int
    folders: dict[str, str]

    def split_of(self, path: str) -> str:
        """Return the split that a video lies in."""
        return self.folders[path.split("/")[self.depth]]

    def without(self, path: str) -> tuple[str, ...]:
        """Return the folders of a video, from outside in, without that of the split."""
        folders = path.split("/")[:-1]
        return (*folders[: self.depth], *folders[self.depth + 1 :])

    def by_split(self) -> dict[str, list[str]]:
        """Return the folder names of each split."""
        found: dict[str, list[str]] = {}
        for folder, split in sorted(self.folders.items()):
            found.setdefault(split, []).append(folder)
        return found


@dataclass
class Splits:
    """How the folders of a data set are read: the level of its splits, if there is one, and notes for the user."""

    level: SplitLevel | None = None
    notes: list[str] = field(default_factory=list)


def find_splits(paths: Sequence[str], *, name: str, patterns: bool = True) -> Splits:
    """Find the folders of splits.

    Args:
        paths: relative paths of all videos.
        name: of the data set, for errors.
        patterns: whether the user may name a glob pattern instead, for errors.

    Raises:
        DataError: where only some of the folders look like splits, or several folds lie side by side.
    """
    split_paths = [path.split("/")[:-1] for path in paths]
    for depth in range(max(map(len, split_paths), default=0)):
        names = Counter(folders[depth] for folders in split_paths if len(folders) > depth)
        alike = _splits_among(names)
        if not alike:
            continue
        others = sorted(names.keys() - alike.keys())
        outside = [path for path, folders in zip(paths, split_paths, strict=True) if len(folders) <= depth]
        if others or outside:
            if _is_class(alike, others, outside, lengths={len(folders) for folders in split_paths}, depth=depth):
                return Splits(notes=[_taken_for_class(next(iter(alike)), name)])
            beside = [f"{readable(other)}/ ({names[other]} videos)" for other in others] + list(map(readable, outside))
            parents = _parents(split_paths, depth)
            where = os.path.join(name, parents[0]) if len(parents) == 1 and parents[0] else name
            raise DataError(_half(alike, beside, name=readable(where), one=len(parents) == 1, patterns=patterns))
        _refuse_folds(split_paths, depth=depth, name=name)
        return Splits(SplitLevel(depth, alike), _told(alike, split_paths, depth=depth))
    return Splits()


def splits_reached(paths: Sequence[str]) -> list[str]:
    """Return the folders at the first level that looks like splits, where there are those of two splits or more."""
    split_paths = [path.split("/")[:-1] for path in paths]
    for depth in range(max(map(len, split_paths), default=0)):
        alike = _splits_among({folders[depth] for folders in split_paths if len(folders) > depth})
        if alike:
            return sorted(alike) if len(set(alike.values())) > 1 else []
    return []


def split_in_name(folder: str) -> str | None:
    """Return the split that a folder's name alone stands for (`Train`, `val_256`, `test2017`, `trainlist01`)."""
    found = _parted(folder)
    return found[0] if found is not None and not _other_words(found[1]) else None


def _parted(folder: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the split in a folder's name and the other words; None where there is no split or more than one."""
    if folder.casefold() in _SPLIT_OF:
        return _SPLIT_OF[folder.casefold()], ()
    splits, rest = set(), []
    for word in words_of(folder):
        split, left = _split_in_word(word)
        splits |= {split} - {None}
        rest += [left] if left else []
    if splits == {"train", "validation"} and not _other_words(rest):
        return "train", tuple(rest)  # trainval: both together, to train on
    return (splits.pop() or "", tuple(rest)) if len(splits) == 1 else None


def _split_in_word(word: str) -> tuple[str | None, str]:
    """Return the split in a word and what is left of it: `trainlist`, `videotest`."""
    if word in _SPLIT_OF:
        return _SPLIT_OF[word], ""
    if word == "trainval":
        return "train", ""
    for plain in _PLAIN_WORDS:
        for head, tail in ((word.removesuffix(plain), plain), (word.removeprefix(plain), plain)):
            if head != word and head in _SPLIT_OF:
                return _SPLIT_OF[head], tail
    return None, word


def _other_words(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.isdigit() and word not in _PLAIN_WORDS]


def _splits_among(names: Iterable[str]) -> dict[str, str]:
    """Return the split of each folder name that looks like one.

    A name counts by itself, or where another has a word in common with it and another split: `indoor_train` and
    `indoor_test`.
    """
    parted = {name: found for name in names if (found := _parted(name)) is not None}
    kinds: dict[str, set[str]] = {}
    for split, rest in parted.values():
        for word in _other_words(rest):
            kinds.setdefault(word, set()).add(split)
    return {
        name: split
        for name, (split, rest) in parted.items()
        if not _other_words(rest) or any(len(kinds[word]) > 1 for word in _other_words(rest))
    }


def _is_class(
    alike: dict[str, str], others: Sequence[str], outside: Sequence[str], *, lengths: set[int], depth: int
) -> bool:
    """Whether a folder `train` is a class (of vehicles): two or more others beside it hold videos just as it does."""
    return set(alike.values()) == {"train"} and len(alike) == 1 and len(others) > 1 and lengths == {depth + 1}


def _taken_for_class(folder: str, name: str) -> str:
    return (
        f"{readable(folder)}/ is taken for a class, as are the folders beside it; if it is the training split, give "
        f"that folder itself ({readable(os.path.join(name, folder))})"
    )


def _half(alike: dict[str, str], beside: Sequence[str], *, name: str, one: bool, patterns: bool) -> str:
    look, them = ("looks like a split", "it") if len(alike) == 1 else ("look like splits", "them")
    more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
    first = min(alike, key=lambda folder: (alike[folder] != "train", folder))
    folder = f"give one folder ({os.path.join(name, readable(first))}), " if one else ""
    classes = f", or give the pattern '{os.path.join(name, '**/*')}' if all are classes" if patterns else ""
    return (
        f"{name}: {_listed(alike)} {look}, but not what else is beside {them}: {beside[0]}{more}; {folder}move the "
        f"rest out, list the videos in an index.csv (path,label,split){classes}"
    )


def _parents(split_paths: Sequence[Sequence[str]], depth: int) -> list[str]:
    return sorted({"/".join(folders[:depth]) for folders in split_paths if len(folders) > depth})


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    shown = ", ".join(f"{readable(name)}/" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _refuse_folds(split_paths: Sequence[Sequence[str]], *, depth: int, name: str) -> None:
    """Refuse `split1/train`, `split2/train`: the test videos of one are training videos of another."""
    parents = _parents(split_paths, depth)
    folds = [parent for parent in parents if parent and _FOLD.fullmatch(parent.rsplit("/", 1)[-1])]
    if len(folds) > 1:
        raise DataError(
            readable(
                f"{name} holds {len(folds)} folds with splits of their own ({_listed(folds)}), which share videos; "
                f"give one of them ({os.path.join(name, folds[0])})"
            )
        )


def _told(alike: dict[str, str], split_paths: Sequence[Sequence[str]], *, depth: int) -> list[str]:
    """Return a note on splits that are not simply called `train`, `val`, ... at the top."""
    if depth == 0 and all(folder in _SPLIT_OF for folder in alike):
        return []
    parents = _parents(split_paths, depth)
    where = "" if depth == 0 else f" in {readable(parents[0])}/" if len(parents) == 1 else " under each of "
    if len(parents) > 1:
        where += _listed(parents)
    read = ", ".join(f"{readable(folder)}/ is {split}" for folder, split in sorted(alike.items()))
    return [f"the folders{where} are read as splits: {read}"]


# Choosing one.


def choose_folders(level: SplitLevel, split: str, *, name: str) -> tuple[list[str], list[str]]:
    """Choose the folders of a split.

    Args:
        level: by `find_splits`.
        split: a split (`validation`), another word for it (`val`), or the very name of a folder.
        name: of the data set, for errors.

    Returns:
        names of folders at that level, and notes.

    Raises:
        DataError: for a split that is not there, or several folders for it.
    """
    same = [folder for folder in level.folders if folder == split]
    same = same or [folder for folder in level.folders if folder.casefold() == split.casefold()]
    found = level.by_split()
    of_kind = found.get(split_name(split), [])
    if len(same) == 1:
        others = [folder for folder in found[level.folders[same[0]]] if folder != same[0]]
        return same, [f"{readable(same[0])}/ is read; {_listed(others)} left out"] if others else []
    if len(of_kind) > 1:
        raise DataError(
            readable(
                f"{name} has {len(of_kind)} folders for the split {split!r}: {_listed(of_kind)}; say which by its "
                f"name, for example as the split {of_kind[0]}, or give that folder itself"
            )
        )
    if not of_kind:
        known = ", ".join(sorted(found))
        classes = ""
        if len(found) == 1 and not all(folder in _SPLIT_OF for folder in level.folders):
            pattern = os.path.join(name, "**/*")
            classes = f", or give the pattern '{pattern}' if {_listed(level.folders)} are classes"
        raise DataError(
            readable(
                f"{name} has no split {split!r} (it has: {known}); name a split that it has, put the split's videos "
                f"into a folder {split}/, add a column `split` to its index file{classes}"
            )
        )
    return of_kind, []
