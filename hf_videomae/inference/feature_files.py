"""Save features of many videos to Parquet or safetensors files, part by part, so that an interrupted run can resume.

A folder holds `features.json` (model and settings), `part-00000.parquet` and so on, each written whole or not at all,
and `bad_videos.jsonl`. A second run with the same settings skips the videos that the parts hold; other settings are
refused.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..credentials import redact_credentials
from ..filesystem import create_folder, replace_durably, wrap_write_errors
from ..folder_lock import lock_folder
from ..provenance import package_versions, utc_timestamp
from ..run_files import BAD_VIDEOS_FILE, copy_file_mode, read_json, write_json
from ..video.decoding import VideoDecodeError
from ..video.segments import VideoSegment
from .features import FeatureExtractor, VideoFeatures
from .output_checks import NonFiniteOutputError
from .video_inputs import display_name, find_inputs

FeatureFormat = Literal["parquet", "safetensors"]
FEATURES_METADATA_FILE = "features.json"
_FRAMES_PREFIX = "frames of "


@dataclass(frozen=True, kw_only=True)
class SaveFeaturesResult:
    """What a call of `save_features` did.

    Attributes:
        written: number of videos whose features were written now.
        skipped: number of videos that an earlier run wrote.
        bad: path and reason of each video that could not be decoded, or whose features are not finite.
        not_finite: number of bad videos that could be decoded.
    """

    written: int
    skipped: int
    bad: list[dict[str, str]]
    not_finite: int = 0


def save_features(
    extractor: FeatureExtractor,
    videos: Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    *,
    model: str,
    file_format: FeatureFormat = "parquet",
    videos_per_file: int = 32,
    progress: Callable[[str], None] | None = None,
) -> SaveFeaturesResult:
    """Extract features and write them; earlier videos are skipped, bad ones are listed and tried again next time.

    Args:
        extractor: the model and its settings.
        videos: files, URLs, folders, glob patterns and lists of videos, which may name segments.
        output_dir: the folder of the files, created if needed.
        model: the model's name, for `features.json`.
        file_format: `parquet` has a row per window: `video`, `window`, `first_frame`, `last_frame`, `first_second`,
            `last_second`, `shape`, and the flattened `features`. `safetensors` has a tensor per video under its path,
            and its frames under `frames of PATH`.
        videos_per_file: videos per part; an interruption loses at most so many.
        progress: called with a line for each video.

    Raises:
        ValueError: if the folder holds features of other settings.
    """
    if file_format not in ("parquet", "safetensors") or videos_per_file < 1:
        raise ValueError(
            f"file_format is {file_format!r} and videos_per_file {videos_per_file}; give parquet or safetensors, and "
            f"1 or more"
        )
    if file_format == "parquet":
        _pyarrow()
    folder = create_folder(Path(output_dir))
    with wrap_write_errors(
        "the features", folder, also="; what was written stays, and the same command resumes from there"
    ):
        lock = lock_folder(folder)
        try:
            _check_or_write_metadata(folder, {"model": model, "format": file_format, **extractor.settings()})
            return _extract_and_write(extractor, videos, folder, file_format, videos_per_file, progress)
        finally:
            lock.release()


def _extract_and_write(
    extractor: FeatureExtractor,
    videos: Sequence[str | os.PathLike[str]],
    folder: Path,
    file_format: FeatureFormat,
    videos_per_file: int,
    progress: Callable[[str], None] | None,
) -> SaveFeaturesResult:
    stored, bad, not_finite = list_stored_videos(folder), [], 0
    pending: list[VideoFeatures] = []
    requested = _index_by_name(find_inputs(videos))
    todo = {name: video for name, video in requested.items() if name not in stored}
    for count, (name, video) in enumerate(todo.items(), start=1):
        try:
            pending.append(extractor(video, name=name))
            note = f"{tuple(pending[-1].features.shape)}"
        except (VideoDecodeError, NonFiniteOutputError) as error:
            reason = redact_credentials(error.reason)
            bad.append({"path": name, "reason": reason})
            not_finite += isinstance(error, NonFiniteOutputError)
            note = f"skipped: {reason}"
        if progress is not None:
            progress(f"{count}/{len(todo)} {name} {note}")
        if len(pending) == videos_per_file:
            _write_part(folder, pending, file_format)
            pending = []
    if pending:
        _write_part(folder, pending, file_format)
    text = "".join(json.dumps(line) + "\n" for line in bad)
    (folder / BAD_VIDEOS_FILE).write_text(text, encoding="utf-8")
    return SaveFeaturesResult(
        written=len(todo) - len(bad), skipped=len(requested) - len(todo), bad=bad, not_finite=not_finite
    )


def _index_by_name(videos: Sequence[str | VideoSegment]) -> dict[str, str | VideoSegment]:
    """Map the names under which features are written to the videos."""
    by_name: dict[str, str | VideoSegment] = {}
    for video in videos:
        name = display_name(video)
        if by_name.setdefault(name, video) != video:
            raise ValueError(f"{name} is given twice, with different credentials; give each video once")
    return by_name


def load_features(folder: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the features in a folder by video: (W, ...) float32, like `VideoFeatures.features`.

    Raises:
        ValueError: for a folder without features.
    """
    parts = _part_files(Path(folder))
    if not parts:
        raise ValueError(f"{folder} holds no features (part-*.parquet or part-*.safetensors); check the path")
    features: dict[str, Tensor] = {}
    for part in parts:
        features |= _read_safetensors(part) if part.suffix == ".safetensors" else _read_parquet(part)
    return features


def list_stored_videos(folder: Path) -> set[str]:
    """Return the names of the videos whose features are in a folder, without reading the features."""
    names: set[str] = set()
    for part in _part_files(folder):
        if part.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(part, framework="pt") as file:
                names |= {key for key in file.keys() if not key.startswith(_FRAMES_PREFIX)}  # noqa: SIM118
        else:
            names |= set(_pyarrow().parquet.read_table(part, columns=["video"])["video"].to_pylist())
    return names


def _check_or_write_metadata(folder: Path, settings: dict[str, Any]) -> None:
    """Write `features.json`, or check that the parts in the folder were made with the same settings."""
    metadata_path = folder / FEATURES_METADATA_FILE
    if not metadata_path.exists():
        if _part_files(folder):
            raise ValueError(
                f"{folder} holds parts without {FEATURES_METADATA_FILE}, so their settings are unknown; give another"
            )
        write_json(metadata_path, {**settings, "date": utc_timestamp(), "versions": package_versions()})
        return
    existing = read_json(metadata_path, remedy="the settings of the parts next to it are unknown; give another folder")
    mismatches = [
        f"{name} {existing.get(name)} (now {value})" for name, value in settings.items() if existing.get(name) != value
    ]
    if mismatches:
        raise ValueError(f"{folder} holds features made with {', '.join(mismatches)}; give another folder")


def _part_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("part-*") if path.suffix in (".parquet", ".safetensors"))


def _write_part(folder: Path, videos: list[VideoFeatures], file_format: FeatureFormat) -> None:
    from safetensors import SafetensorError

    path = folder / f"part-{len(_part_files(folder)):05d}.{file_format}"
    temporary = path.with_name(f".unfinished-{path.name}")
    try:
        if file_format == "parquet":
            _write_parquet(temporary, videos)
        else:
            _write_safetensors(temporary, videos)
        copy_file_mode(folder / FEATURES_METADATA_FILE, [temporary])
        replace_durably(temporary, path)
    except (OSError, SafetensorError):
        temporary.unlink(missing_ok=True)  # the disk may be full
        raise


def _write_safetensors(path: Path, videos: list[VideoFeatures]) -> None:
    from safetensors.torch import save_file

    tensors = {video.video: video.features.contiguous() for video in videos}
    save_file(tensors | {_FRAMES_PREFIX + video.video: video.frames for video in videos}, path)


def _write_parquet(path: Path, videos: list[VideoFeatures]) -> None:
    arrow = _pyarrow()
    rows = [row for video in videos for row in _feature_rows(video)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    types = {"features": arrow.list_(arrow.float32()), "shape": arrow.list_(arrow.int32())}
    arrays = {name: arrow.array(values, type=types.get(name)) for name, values in columns.items()}
    arrow.parquet.write_table(arrow.table(arrays), path)


def _feature_rows(video: VideoFeatures) -> Iterable[dict[str, Any]]:
    for window, (features, frames) in enumerate(zip(video.features, video.frames.tolist(), strict=True)):
        yield {
            "video": video.video,
            "window": window,
            "first_frame": frames[0],
            "last_frame": frames[-1],
            "first_second": None if video.seconds is None else float(video.seconds[window, 0]),
            "last_second": None if video.seconds is None else float(video.seconds[window, -1]),
            "shape": list(features.shape),
            "features": features.flatten().numpy(),
        }


def _read_parquet(path: Path) -> dict[str, Tensor]:
    table = _pyarrow().parquet.read_table(path, columns=["video", "shape", "features"])
    windows: dict[str, list[Tensor]] = {}
    names, shapes = table["video"].to_pylist(), table["shape"].to_pylist()
    for name, shape, values in zip(names, shapes, table["features"], strict=True):
        array = np.array(values.values.to_numpy(zero_copy_only=False), dtype=np.float32)
        windows.setdefault(name, []).append(torch.from_numpy(array).view(shape))
    return {name: torch.stack(parts) for name, parts in windows.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: value for name, value in load_file(path).items() if not name.startswith(_FRAMES_PREFIX)}


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow: pip install pyarrow, or write safetensors") from error
    return pyarrow
