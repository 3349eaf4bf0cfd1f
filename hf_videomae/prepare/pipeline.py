"""Prepare a dataset: find the videos, encode them, distribute them over shards, put the result in place.

Everything is made under `DESTINATION/.prepare` and put in place at the end, so that an incomplete dataset never looks
like a complete one. That takes twice the space of the result. Every step can be killed and continued.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cards import Ancestor, LicenseError, inherit_license
from ..data.labels import SINGLE_LABEL, LabelKind
from ..errors import DataError
from ..filesystem import check_folder_writable, create_folder, sync_folder, wrap_write_errors
from ..folder_lock import LOCK_FILE, check_folder_unlocked, lock_folder
from ..redaction import redact_text
from ..run_files import read_json, write_atomic, write_json
from ..video.encoding import EncodeSettings, Trim, find_encoder
from .dataset_card import update_dataset_card
from .entries import SkippedVideo
from .layout import (
    DROPPED_FILE,
    REPORT_FILE,
    VIDEOS_FILE,
    find_complete_shards,
    is_complete,
    read_report,
)
from .prepare_report import build_report
from .scan import InputDataset, deduplicate_ids, open_input_dataset
from .shards import (
    MEGABYTE,
    SHARD_EXTENSIONS,
    PreparedVideo,
    Shard,
    ShardFormat,
    build_features,
    plan_shards,
    write_shard,
)
from .transcoder import WORK_FOLDER, Transcoder, transcode_all

_SETTINGS_FILE, _MOVE_MARKER = "unfinished.json", "publishing.json"
# The settings that the encoded videos depend on; the others only concern the layout of the files.
_VIDEO_SETTINGS = ("source", "short_side", "gop", "crf", "start", "end")


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """What a prepared dataset looks like.

    Args:
        encode: size, key frames and quality.
        trim: the seconds to keep of each video.
        format: `parquet` or `webdataset`.
        shard_megabytes: target size of a shard (10^6 bytes).
        num_shards: shards of every split; None: chosen by size.
        label_kind: one class per video, several, or a number.
        license: of the videos, for the dataset card.

    Raises:
        DataError: for settings that contradict each other or are out of range.
    """

    encode: EncodeSettings = field(default_factory=EncodeSettings)
    trim: Trim = field(default_factory=Trim)
    format: ShardFormat = "parquet"
    shard_megabytes: float = 100.0
    num_shards: int | None = None
    label_kind: LabelKind = SINGLE_LABEL
    license: str | None = None

    def __post_init__(self) -> None:
        if self.format not in SHARD_EXTENSIONS:
            raise DataError(f"the format is {self.format!r}; give {' or '.join(SHARD_EXTENSIONS)}")
        if self.shard_megabytes <= 0 or (self.num_shards is not None and self.num_shards < 1):
            raise DataError(f"{self.num_shards} shards of {self.shard_megabytes:g} MB; both must be more than 0")
        if self.format == "webdataset" and self.label_kind != SINGLE_LABEL:
            raise DataError(f"WebDataset holds one class per video, not labels for {self.label_kind}; use parquet")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for `report.json`, flat."""
        values = {name: getattr(self, name) for name in ("format", "shard_megabytes", "num_shards", "label_kind")}
        return {**asdict(self.encode), **asdict(self.trim), **values, "license": self.license}


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """The outcome of `prepare`.

    Attributes:
        report: the content of `report.json`.
        is_unchanged: the dataset was up to date, and nothing was written.
        reused: number of videos that an earlier call encoded.
        notes: about the dataset card, for the user.
    """

    report: dict[str, Any]
    is_unchanged: bool = False
    reused: int = 0
    notes: tuple[str, ...] = ()


def prepare(
    source: str,
    destination: str | os.PathLike[str],
    *,
    settings: PrepareSettings | None = None,
    publish: bool = False,
    jobs: int | None = None,
    progress: bool = False,
    on_note: Callable[[str], None] = lambda note: None,
    **read_options: Any,
) -> PrepareResult:
    """Make a small, evenly sharded dataset that streams well. The same call continues one that was killed.

    Args:
        source: a folder of videos, a list of videos, a folder of Parquet or WebDataset files, or `org/name` on the
            Hub.
        destination: a folder that is empty, does not exist, or was made by this function.
        settings: what the dataset looks like.
        publish: the dataset will be published: refuse a folder with links that lead out of it, other than to
            `allow_paths`.
        jobs: videos encoded at a time; default: one per core. It does not change the result.
        progress: show a bar on stderr.
        on_note: called with each note on how the source is read, before the work begins.
        **read_options: passed to `open_input_dataset`: index, config, revision, video_column, label_column,
            allow_paths.

    Raises:
        DataError: for anything that keeps the dataset from being made, but never for a bad video.
        VideoBackendError: this machine cannot decode or encode.
        OSError: the result cannot be written.
    """
    settings, destination = settings or PrepareSettings(), Path(destination)
    if jobs is not None and jobs < 1:
        raise DataError(f"{jobs} videos at a time are not possible; give 1 or more jobs")
    _require_datasets()
    find_encoder()  # raises if there is none
    previous = _check_destination(source, destination)
    input_dataset = open_input_dataset(source, label_kind=settings.label_kind, **read_options)
    if publish and input_dataset.links_outside:
        raise DataError(input_dataset.links_outside)
    for note in input_dataset.notes:
        on_note(note)
    _check_license(input_dataset, settings)
    new_settings = {"source": input_dataset.name, **settings.to_dict()}
    if previous is not None and _is_up_to_date(previous, input_dataset, new_settings, destination):
        return PrepareResult(report=previous, is_unchanged=True, reused=previous["kept"])
    create_folder(destination, flag="the folder", kind=DataError)
    also = "; what was made is kept, and the same command continues from here"
    with wrap_write_errors("the dataset", destination, kind=DataError, also=also):
        lock = lock_folder(destination, flag="the folder", kind=DataError)
        try:
            transcoder = _open_transcoder(destination, settings=settings, new_settings=new_settings)
            _restore_previous(transcoder, previous, destination)
            return _run_pipeline(
                transcoder, input_dataset, destination, settings=settings, jobs=jobs or _num_cores(), progress=progress
            )
        finally:
            lock.release()


def _run_pipeline(
    transcoder: Transcoder,
    input_dataset: InputDataset,
    destination: Path,
    *,
    settings: PrepareSettings,
    jobs: int,
    progress: bool,
) -> PrepareResult:
    reused = len(list(transcoder.clips.glob("*.mp4")))
    rows, skipped = _transcode_videos(transcoder, input_dataset, jobs=jobs, progress=progress)
    if not rows:
        transcoder.close()
        raise DataError(f"none of the {len(skipped)} videos can be used; {skipped[0].path}: {skipped[0].reason}")
    report, notes = _write_dataset(
        transcoder, input_dataset, rows, skipped, settings=settings, destination=destination
    )
    transcoder.close()
    return PrepareResult(report=report, reused=min(reused, len(rows)), notes=notes)


def _check_license(input_dataset: InputDataset, settings: PrepareSettings) -> None:
    """Refuse a license that the source does not allow, before the work begins."""
    source = Ancestor(name=input_dataset.name, license=input_dataset.origin.get("license"), is_data=True)
    try:
        inherit_license([source], requested=settings.license)
    except LicenseError as error:
        raise DataError(str(error)) from None


def _require_datasets() -> None:
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise DataError(f"preparing needs `datasets` ({error}): pip install 'hf-videomae[train]'") from error


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# An earlier call's result.


def _check_destination(source: str, destination: Path) -> dict[str, Any] | None:
    """Return the report of the dataset at the destination, None if there is none; refuse a folder of other files."""
    inside, outside = destination.expanduser().resolve(), Path(source).expanduser().resolve()
    if outside.is_dir() and inside.is_relative_to(outside):
        raise DataError(f"{destination} lies within {source}; give a folder outside of it")
    if destination.exists() and not destination.is_dir():
        raise DataError(f"{destination} is a file; give a folder")
    check_folder_writable(destination, flag="the folder", kind=DataError)
    check_folder_unlocked(destination, flag="the folder", kind=DataError)
    report = read_report(destination)
    if report is not None:
        return report
    others = [path.name for path in destination.iterdir() if path.name != LOCK_FILE] if destination.exists() else []
    if others and WORK_FOLDER not in others:
        raise DataError(f"{destination} holds other files ({sorted(others)[0]}, ...); give an empty or new folder")
    return None


def _changed_settings(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return the settings that videos were encoded with and that have changed; "" if none have."""
    return ", ".join(f"{name} {old[name]} (now {new[name]})" for name in _VIDEO_SETTINGS if old[name] != new[name])


def _is_up_to_date(
    previous: dict[str, Any], input_dataset: InputDataset, new_settings: dict[str, Any], destination: Path
) -> bool:
    """Return whether nothing is left to do; refuse to continue a dataset that was encoded with other settings."""
    old_settings = {"source": previous["source"], **previous["settings"]}
    if changes := _changed_settings(old_settings, new_settings):
        raise DataError(f"{destination} holds a dataset made with {changes}; give another folder or remove it")
    same = previous["fingerprint"] == input_dataset.fingerprint and old_settings == new_settings
    return same and is_complete(previous, destination) and not (destination / WORK_FOLDER).exists()


def _open_transcoder(destination: Path, *, settings: PrepareSettings, new_settings: dict[str, Any]) -> Transcoder:
    """Open the work folder, new or as a killed call left it; refuse clips that were made with other settings."""
    unfinished = destination / WORK_FOLDER / _SETTINGS_FILE
    if unfinished.exists():
        unfinished_settings = read_json(unfinished, remedy=f"remove {destination / WORK_FOLDER}", kind=DataError)
        if changes := _changed_settings(unfinished_settings, new_settings):
            raise DataError(
                f"{destination} holds an unfinished run with {changes}; finish that one, or remove "
                f"{destination / WORK_FOLDER}"
            )
    transcoder = Transcoder(destination, encode=settings.encode, trim=settings.trim)
    write_json(unfinished, {name: new_settings[name] for name in _VIDEO_SETTINGS})
    return transcoder


def _restore_previous(transcoder: Transcoder, previous: dict[str, Any] | None, destination: Path) -> None:
    """Reuse the encoded videos of the dataset at the destination."""
    videos = destination / VIDEOS_FILE
    # A dataset that is being replaced no longer matches its report; its videos are in the work folder.
    if previous is None or not videos.exists() or (transcoder.folder / _MOVE_MARKER).exists():
        return
    try:
        rows = [
            PreparedVideo.from_dict(json.loads(line)["row"])
            for line in videos.read_text(encoding="utf-8").splitlines()
        ]
    except (ValueError, KeyError, TypeError):  # damaged: the videos are encoded again
        return
    wanted = {row.id: row for row in rows}
    for shard in find_complete_shards(previous, destination):
        transcoder.restore_clips(shard, wanted)


# The work.


def _transcode_videos(
    transcoder: Transcoder, input_dataset: InputDataset, *, jobs: int, progress: bool
) -> tuple[list[PreparedVideo], list[SkippedVideo]]:
    rows: list[PreparedVideo] = []
    skipped: list[SkippedVideo] = []
    outcomes = transcode_all(transcoder, deduplicate_ids(input_dataset.videos), jobs=jobs)
    for outcome in _with_progress_bar(outcomes, input_dataset, skipped, shown=progress):
        rows.append(outcome) if isinstance(outcome, PreparedVideo) else skipped.append(outcome)
    # Reasons and notes are published.
    skipped = [SkippedVideo(video.path, redact_text(video.reason)) for video in (*input_dataset.refused, *skipped)]
    rows = [replace(row, made=replace(row.made, note=redact_text(row.made.note))) for row in rows]
    skipped.sort(key=lambda video: (video.path, video.reason))
    return sorted(rows, key=lambda row: (row.split, row.id)), skipped


def _with_progress_bar(
    outcomes: Iterable[PreparedVideo | SkippedVideo],
    input_dataset: InputDataset,
    skipped: list[SkippedVideo],
    *,
    shown: bool,
) -> Iterable[PreparedVideo | SkippedVideo]:
    if not shown:
        yield from outcomes
        return
    from tqdm import tqdm

    with tqdm(
        total=input_dataset.count, unit="video", dynamic_ncols=True, smoothing=0.05, desc=input_dataset.name
    ) as bar:
        size = 0
        for outcome in outcomes:
            yield outcome
            size += outcome.made.num_bytes if isinstance(outcome, PreparedVideo) else 0
            left_out = len(skipped) + len(input_dataset.refused)
            bar.set_postfix_str(f"{size / MEGABYTE:.1f} MB, {left_out} left out", refresh=False)
            bar.update()


def _write_dataset(
    transcoder: Transcoder,
    input_dataset: InputDataset,
    rows: list[PreparedVideo],
    skipped: list[SkippedVideo],
    *,
    settings: PrepareSettings,
    destination: Path,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write the dataset; return the report, and notes on the card."""
    kind = None if input_dataset.no_labels_reason else settings.label_kind
    features = build_features(settings.format, class_names=input_dataset.class_names, kind=kind)
    shard_bytes = round(settings.shard_megabytes * MEGABYTE)
    shards = plan_shards(rows, format=settings.format, shard_bytes=shard_bytes, num_shards=settings.num_shards)
    shard_plan = [[shard.file, [row.to_dict() for row in shard.rows]] for shard in shards]
    shard_files = _write_shards(transcoder, shards, features=features, shard_plan=shard_plan, destination=destination)
    sizes = {name: path.stat().st_size for name, path in shard_files.items()}
    report = build_report(input_dataset, rows, skipped, shards=shards, sizes=sizes, settings=settings.to_dict())
    _move_shards_into_place(transcoder, shards, destination=destination)
    lines = [{"shard": shard.file, "row": row.to_dict()} for shard in shards for row in shard.rows]
    write_atomic(destination / VIDEOS_FILE, _to_json_lines(lines))
    write_atomic(destination / DROPPED_FILE, _to_json_lines([asdict(video) for video in skipped]))
    notes = update_dataset_card(destination, report)
    write_json(destination / REPORT_FILE, report)
    return report, notes


def _to_json_lines(objects: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in objects)


def _read_shard_plan(path: Path) -> Any:
    """Return the plan that a killed call left; None if there is none, or it is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _write_shards(
    transcoder: Transcoder, shards: list[Shard], *, features: Any, shard_plan: Any, destination: Path
) -> dict[str, Path]:
    """Return where each shard is: in the work folder, or in its final place if a killed call moved it there."""
    # The plan is saved before any shard. A killed call leaves shards in the work folder and, once moving began, in
    # their final place; they are reused if the plan is the same, and removed otherwise.
    shard_plan = json.loads(json.dumps([shard_plan, features.to_dict()]))
    plan_file = transcoder.folder / "plan.json"
    if _read_shard_plan(plan_file) != shard_plan:
        (transcoder.folder / _MOVE_MARKER).unlink(missing_ok=True)
        for stale in transcoder.shards.iterdir():
            stale.unlink()
        write_json(plan_file, shard_plan)
    is_moving = (transcoder.folder / _MOVE_MARKER).exists()
    files = {}
    for shard in shards:
        path = files[shard.file] = transcoder.shards / Path(shard.file).name
        if not path.exists() and is_moving and (destination / shard.file).exists():
            files[shard.file] = destination / shard.file
        elif not path.exists():
            write_shard(
                path, shard, features=features, read_clip=lambda row: transcoder.clip_path(row.id).read_bytes()
            )
    return files


def _move_shards_into_place(transcoder: Transcoder, shards: list[Shard], *, destination: Path) -> None:
    """Put the shards in place of those of an earlier dataset."""
    write_json(transcoder.folder / _MOVE_MARKER, {})
    data = destination / "data"
    data.mkdir(exist_ok=True)
    for shard in shards:
        made = transcoder.shards / Path(shard.file).name
        if made.exists():
            os.replace(made, destination / shard.file)
    sync_folder(data)
    wanted = {Path(shard.file).name for shard in shards}
    for path in data.glob("*-of-*"):
        if path.name not in wanted:
            path.unlink()


__all__ = ["PrepareSettings", "PrepareResult", "prepare"]
