"""Find the folders of train, validation and test videos among the folders of a dataset.

Names are compared without case. Folders are searched level by level from the top, so that `train/`, `UCF101/train/`
and `run/train/` are all found. If only some folders of a level look like splits, nothing is guessed.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import DataError
from ..text import escape_non_utf8
from .split_names import SPLIT_NAMES, normalize_split

_SPLIT_BY_NAME = {name: split for split, names in SPLIT_NAMES.items() for name in names}
# Words next to the split in a folder's name: train_256, videos_train, trainlist01, kinetics400_val.
_FILLER_WORDS = frozenset(
    "video videos vid vids clip clips data dataset set sets split splits subset list lists file files part parts "
    "frame frames rgb raw full all mini small tiny large resized compressed cropped processed trimmed p px fps hd "
    "avi mp4 webm of kinetics k ucf hmdb ssv v".split()
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_FOLD = re.compile(r"(split|fold|cv|partition)s?[\W_]*\d+", re.IGNORECASE)
_MAX_SHOWN = 4


def split_into_words(name: str) -> list[str]:
    """Return the words and numbers of a file or folder name, in lower case."""
    return [word.casefold() for word in _WORDS.findall(name)]


@dataclass(frozen=True)
class SplitLevel:
    """Folders of splits at one depth of a dataset.

    Attributes:
        depth: number of folders above them.
        folders: the split that each folder's name stands for.
    """

    depth: int
    folders: dict[str, str]

    def split_of(self, path: str) -> str:
        """Return the split that a video belongs to."""
        return self.folders[path.split("/")[self.depth]]

    def folders_without_split(self, path: str) -> tuple[str, ...]:
        """Return the folders of a video, the outermost first, without the folder of its split."""
        folders = path.split("/")[:-1]
        return (*folders[: self.depth], *folders[self.depth + 1 :])

    def by_split(self) -> dict[str, list[str]]:
        """Return the folder names of each split."""
        by_split: dict[str, list[str]] = {}
        for folder, split in sorted(self.folders.items()):
            by_split.setdefault(split, []).append(folder)
        return by_split


def find_split_folders(
    paths: Sequence[str], *, name: str, suggest_pattern: bool = True
) -> tuple[SplitLevel | None, list[str]]:
    """Return the level of the folders of splits, if there is one, and notes for the user.

    Args:
        paths: relative paths of all videos.
        name: of the dataset, for errors.
        suggest_pattern: whether errors may suggest a glob pattern.

    Raises:
        DataError: if only some of the folders look like splits, or there are several folds.
    """
    folder_lists = [path.split("/")[:-1] for path in paths]
    for depth in range(max(map(len, folder_lists), default=0)):
        names = Counter(folders[depth] for folders in folder_lists if len(folders) > depth)
        matched = _match_split_names(names)
        if not matched:
            continue
        others = sorted(names.keys() - matched.keys())
        outside = [path for path, folders in zip(paths, folder_lists, strict=True) if len(folders) <= depth]
        if others or outside:
            if _is_class_folder(
                matched, others, outside, lengths={len(folders) for folders in folder_lists}, depth=depth
            ):
                return None, [_describe_class_folder(next(iter(matched)), name)]
            remaining = [f"{escape_non_utf8(other)}/ ({names[other]} videos)" for other in others] + list(
                map(escape_non_utf8, outside)
            )
            parents = _parents(folder_lists, depth)
            where = os.path.join(name, parents[0]) if len(parents) == 1 and parents[0] else name
            raise DataError(
                _describe_mixed_folders(
                    matched,
                    remaining,
                    name=escape_non_utf8(where),
                    one=len(parents) == 1,
                    suggest_pattern=suggest_pattern,
                )
            )
        _refuse_folds(folder_lists, depth=depth, name=name)
        return SplitLevel(depth, matched), _describe_splits(matched, folder_lists, depth=depth)
    return None, []


def find_reached_splits(paths: Sequence[str]) -> list[str]:
    """Return the folders at the first level that looks like splits, if they belong to two splits or more."""
    folder_lists = [path.split("/")[:-1] for path in paths]
    for depth in range(max(map(len, folder_lists), default=0)):
        matched = _match_split_names({folders[depth] for folders in folder_lists if len(folders) > depth})
        if matched:
            return sorted(matched) if len(set(matched.values())) > 1 else []
    return []


def split_from_name(folder: str) -> str | None:
    """Return the split that a folder's name alone stands for (`Train`, `val_256`, `test2017`, `trainlist01`)."""
    parsed = _parse_name(folder)
    return parsed[0] if parsed is not None and not _informative_words(parsed[1]) else None


def _parse_name(folder: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the split in a folder's name and the other words; None unless there is exactly one split."""
    if folder.casefold() in _SPLIT_BY_NAME:
        return _SPLIT_BY_NAME[folder.casefold()], ()
    splits, rest = set(), []
    for word in split_into_words(folder):
        split, left = _split_in_word(word)
        splits |= {split} - {None}
        rest += [left] if left else []
    if splits == {"train", "validation"} and not _informative_words(rest):
        return "train", tuple(rest)  # trainval: both together, to train on
    return (splits.pop() or "", tuple(rest)) if len(splits) == 1 else None


def _split_in_word(word: str) -> tuple[str | None, str]:
    """Return the split in a word such as `trainlist` or `videotest`, and the rest of the word."""
    if word in _SPLIT_BY_NAME:
        return _SPLIT_BY_NAME[word], ""
    if word == "trainval":
        return "train", ""
    for plain in _FILLER_WORDS:
        for head, tail in ((word.removesuffix(plain), plain), (word.removeprefix(plain), plain)):
            if head != word and head in _SPLIT_BY_NAME:
                return _SPLIT_BY_NAME[head], tail
    return None, word


def _informative_words(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.isdigit() and word not in _FILLER_WORDS]


def _match_split_names(names: Iterable[str]) -> dict[str, str]:
    """Return the split of each folder name that looks like one.

    A name counts by itself, or if another name shares a word with it and has another split: `indoor_train` and
    `indoor_test`.
    """
    parsed = {name: found for name in names if (found := _parse_name(name)) is not None}
    splits_by_word: dict[str, set[str]] = {}
    for split, rest in parsed.values():
        for word in _informative_words(rest):
            splits_by_word.setdefault(word, set()).add(split)
    return {
        name: split
        for name, (split, rest) in parsed.items()
        if not _informative_words(rest) or any(len(splits_by_word[word]) > 1 for word in _informative_words(rest))
    }


def _is_class_folder(
    matched: dict[str, str], others: Sequence[str], outside: Sequence[str], *, lengths: set[int], depth: int
) -> bool:
    """Return whether a folder `train` is a class (of vehicles): two or more siblings hold videos at the same depth."""
    return set(matched.values()) == {"train"} and len(matched) == 1 and len(others) > 1 and lengths == {depth + 1}


def _describe_class_folder(folder: str, name: str) -> str:
    return (
        f"{escape_non_utf8(folder)}/ is taken for a class, as are the folders next to it; if it is the training "
        f"split, give that folder itself ({escape_non_utf8(os.path.join(name, folder))})"
    )


def _describe_mixed_folders(
    matched: dict[str, str], remaining: Sequence[str], *, name: str, one: bool, suggest_pattern: bool
) -> str:
    look = "looks like a split" if len(matched) == 1 else "look like splits"
    more = f" and {len(remaining) - 1} more" if len(remaining) > 1 else ""
    first = min(matched, key=lambda folder: (matched[folder] != "train", folder))
    folder = f"give one folder ({os.path.join(name, escape_non_utf8(first))}), " if one else ""
    classes = f", or give the pattern '{os.path.join(name, '**/*')}' if all are classes" if suggest_pattern else ""
    return (
        f"{name}: {_format_folders(matched)} {look}, but not the rest: {remaining[0]}{more}; {folder}move the "
        f"rest out, list the videos in an index.csv (path,label,split){classes}"
    )


def _parents(folder_lists: Sequence[Sequence[str]], depth: int) -> list[str]:
    return sorted({"/".join(folders[:depth]) for folders in folder_lists if len(folders) > depth})


def _format_folders(names: Iterable[str]) -> str:
    names = sorted(names)
    shown = ", ".join(f"{escape_non_utf8(name)}/" for name in names[:_MAX_SHOWN])
    return shown + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")


def _refuse_folds(folder_lists: Sequence[Sequence[str]], *, depth: int, name: str) -> None:
    """Raise for `split1/train`, `split2/train`: the test videos of one fold are training videos of another."""
    parents = _parents(folder_lists, depth)
    folds = [parent for parent in parents if parent and _FOLD.fullmatch(parent.rsplit("/", 1)[-1])]
    if len(folds) > 1:
        raise DataError(
            escape_non_utf8(
                f"{name} holds {len(folds)} folds with their own splits ({_format_folders(folds)}), which share "
                f"videos; give one of them ({os.path.join(name, folds[0])})"
            )
        )


def _describe_splits(matched: dict[str, str], folder_lists: Sequence[Sequence[str]], *, depth: int) -> list[str]:
    """Return a note on splits, unless they are simply called `train`, `val`, ... at the top."""
    if depth == 0 and all(folder in _SPLIT_BY_NAME for folder in matched):
        return []
    parents = _parents(folder_lists, depth)
    where = "" if depth == 0 else f" in {escape_non_utf8(parents[0])}/" if len(parents) == 1 else " under each of "
    if len(parents) > 1:
        where += _format_folders(parents)
    read = ", ".join(f"{escape_non_utf8(folder)}/ is {split}" for folder, split in sorted(matched.items()))
    return [f"the folders{where} are read as splits: {read}"]


# Choose one split.


def select_split_folders(level: SplitLevel, split: str, *, name: str) -> tuple[list[str], list[str]]:
    """Choose the folders of a split.

    Args:
        level: by `find_split_folders`.
        split: a split (`validation`), another word for it (`val`), or the exact name of a folder.
        name: of the dataset, for errors.

    Returns:
        folder names at that level, and notes.

    Raises:
        DataError: for a split that is not there, or several folders for it.
    """
    same = [folder for folder in level.folders if folder == split]
    same = same or [folder for folder in level.folders if folder.casefold() == split.casefold()]
    by_split = level.by_split()
    candidates = by_split.get(normalize_split(split), [])
    if len(same) == 1:
        others = [folder for folder in by_split[level.folders[same[0]]] if folder != same[0]]
        return same, [f"{escape_non_utf8(same[0])}/ is read; {_format_folders(others)} left out"] if others else []
    if len(candidates) > 1:
        raise DataError(
            escape_non_utf8(
                f"{name} has {len(candidates)} folders for the split {split!r}: {_format_folders(candidates)}; name "
                f"one of them, for example as the split {candidates[0]}, or give that folder itself"
            )
        )
    if not candidates:
        known = ", ".join(sorted(by_split))
        classes = ""
        if len(by_split) == 1 and not all(folder in _SPLIT_BY_NAME for folder in level.folders):
            pattern = os.path.join(name, "**/*")
            classes = f", or give the pattern '{pattern}' if {_format_folders(level.folders)} are classes"
        raise DataError(
            escape_non_utf8(
                f"{name} has no split {split!r} (it has: {known}); name one of its splits, put the split's videos "
                f"into a folder {split}/, add a column `split` to its index file{classes}"
            )
        )
    return candidates, []
