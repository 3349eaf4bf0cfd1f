"""Find the shards of a dataset in a local folder, and their splits, in cases that `datasets` does not handle.

`datasets` recognizes files and folders called `train`, `validation` and so on only in lower case, and takes all files.
Here names are compared without case, and in a folder written by `save_to_disk` only the listed files are taken.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .split_folders import find_split_folders, split_from_name
from .split_names import normalize_split
from .video_files import FolderScan, is_shard

_RESAVE_HINT = "save the dataset again with save_to_disk"
_STATE_FILE, _DATASET_DICT_FILE = "state.json", "dataset_dict.json"


def has_shards(scan: FolderScan) -> bool:
    """Return whether a folder holds Parquet, WebDataset or Arrow files."""
    saved = saved_splits(scan.root)
    return bool(scan.shards if saved is None else saved)


def find_shards(root: Path) -> list[str]:
    """Return the relative posix paths of all shards under a folder, sorted; hidden folders are skipped."""
    saved = saved_splits(root)
    if saved is not None:
        return sorted(file for files in saved.values() for file in files)
    shards: list[str] = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_symlink_loop(folder, name)]
        inner = Path(folder).relative_to(root)
        shards += [(inner / name).as_posix() for name in files if is_shard(name)]
    return sorted(shards)


def _is_symlink_loop(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    return os.path.islink(path) and os.path.realpath(folder).startswith(os.path.realpath(path))


def saved_splits(root: Path) -> dict[str, list[str]] | None:
    """Return the Arrow files of each split of a folder that `save_to_disk` wrote; None for any other folder.

    Raises:
        DataError: if a listed file is missing.
    """
    if (root / _DATASET_DICT_FILE).is_file():
        names = _read_json(root / _DATASET_DICT_FILE).get("splits")
        names = names if isinstance(names, list) else []
        odd = [name for name in names if not isinstance(name, str) or _is_not_plain_name(name)]
        if odd:
            listing = root / _DATASET_DICT_FILE
            raise DataError(f"{listing} lists the split {odd[0]!r}, which is not a folder of it; {_RESAVE_HINT}")
        return {name: _list_saved_files(root, root / name) for name in names}
    if (root / _STATE_FILE).is_file() and (root / "dataset_info.json").is_file():
        saved = str(_read_json(root / _STATE_FILE).get("_split") or "train")
        split = normalize_split(saved) if normalize_split(saved) in ("validation", "test") else "train"
        return {split: _list_saved_files(root, root)}
    return None


def _is_not_plain_name(name: str) -> bool:
    """Return whether a name is not that of a single file or folder, such as `../other`."""
    return os.path.basename(name) != name or name in ("", ".", "..") or "\0" in name


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_RESAVE_HINT}") from error
    return content if isinstance(content, dict) else {}


def _list_saved_files(root: Path, folder: Path) -> list[str]:
    listed = _read_json(folder / _STATE_FILE).get("_data_files")
    entries = [entry if isinstance(entry, dict) else {} for entry in listed] if isinstance(listed, list) else []
    names = [str(entry.get("filename")) for entry in entries]
    missing = next((name for name in names if _is_not_plain_name(name) or not (folder / name).is_file()), None)
    if missing is not None or not names:
        raise DataError(f"{folder} lists {missing or 'no files'}, which is not there; {_RESAVE_HINT}")
    return [(folder / name).relative_to(root).as_posix() for name in names]


def shard_splits(root: Path, *, name: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the shards of each split, by the names of their folders or files, and notes; empty without splits.

    Raises:
        DataError: if only some folders look like splits.
    """
    shards = find_shards(root)
    level, notes = find_split_folders(shards, name=name, suggest_pattern=False)
    if level is not None:
        return _group_by_split(shards, [level.split_of(shard) for shard in shards]), notes
    splits = [split_from_name(os.path.splitext(os.path.basename(shard))[0]) for shard in shards]
    if None in splits or len(set(splits)) < 2:
        return {}, notes
    return _group_by_split(shards, [split or "" for split in splits]), [
        "the splits are taken from the names of the files"
    ]


def _group_by_split(shards: Sequence[str], splits: Sequence[str]) -> dict[str, list[str]]:
    by_split: dict[str, list[str]] = {}
    for shard, split in zip(shards, splits, strict=True):
        by_split.setdefault(split, []).append(shard)
    return by_split
