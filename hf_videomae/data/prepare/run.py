"""The way through: find, make small, spread over shards, put in place. Every step can be killed and goes on.

Everything is made under `DESTINATION/.prepare` and put in place at the end, so that a set which is not whole never
looks like one. That takes twice the space of the result while it works.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...cards import LicenceError, Origin, inherited_licence, public_text
from ...locking import LOCK_FILE, check_folder_is_free, take_folder
from ...records import read_json, write_json, write_whole
from ...storage import check_folder, make_folder, sync_folder, writing
from ...video.encoding import EncodeSettings, Trim, encoder
from ..labels import SINGLE, LabelKind
from ..samples import DataError
from .card import keep_or_write
from .entries import Dropped
from .inputs import RawSet, open_raw, without_repeats
from .layout import DROPPED, REPORT, VIDEOS, is_whole, read_report, whole_shards
from .report import make_report
from .shards import EXTENSIONS, MEGABYTE, Row, Shard, ShardFormat, features_of, plan_shards, write_shard
from .workshop import FOLDER, Workshop, make_all

_UNFINISHED, _PUBLISHING = "unfinished.json", "publishing.json"
# Of the settings, those that a video was made with; the others only say how videos are laid out.
_OF_VIDEOS = ("source", "short_side", "gop", "crf", "start", "end")


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """What a prepared set looks like.

    Args:
        encode: size, key frames and quality.
        trim: what is kept of each video.
        format: of the shards.
        shard_megabytes: aimed at (10^6 bytes).
        num_shards: of every split; chosen from the bytes.
        label_kind: one class per video, several, or a number.
        license: named in the data card.

    Raises:
        DataError: for settings that make no sense.
    """

    encode: EncodeSettings = field(default_factory=EncodeSettings)
    trim: Trim = field(default_factory=Trim)
    format: ShardFormat = "parquet"
    shard_megabytes: float = 100.0
    num_shards: int | None = None
    label_kind: LabelKind = SINGLE
    license: str | None = None

    def __post_init__(self) -> None:
        if self.format not in EXTENSIONS:
            raise DataError(f"the format is {self.format!r}; give {' or '.join(EXTENSIONS)}")
        if self.shard_megabytes <= 0 or (self.num_shards is not None and self.num_shards < 1):
            raise DataError(
                f"shards of {self.shard_megabytes:g} MB, {self.num_shards} of them; both must be more than 0"
            )
        if self.format == "webdataset" and self.label_kind != SINGLE:
            raise DataError(f"WebDataset holds one class per video, no labels for {self.label_kind}; use parquet")

    def to_dict(self) -> dict[str, Any]:
        """For `report.json`, flat."""
        values = {name: getattr(self, name) for name in ("format", "shard_megabytes", "num_shards", "label_kind")}
        return {**asdict(self.encode), **asdict(self.trim), **values, "license": self.license}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a call of `prepare` did.

    Attributes:
        report: as in `report.json`.
        nothing_new: everything was there already, and nothing was written.
        reused: videos that an earlier call had made.
        notes: on the card, for the user.
    """

    report: dict[str, Any]
    nothing_new: bool = False
    reused: int = 0
    notes: tuple[str, ...] = ()


def prepare(
    source: str,
    destination: str | os.PathLike[str],
    *,
    settings: PrepareSettings | None = None,
    index: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
    allow_paths: Sequence[str] = (),
    publish: bool = False,
    jobs: int | None = None,
    progress: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Prepared:
    """Make a small, evenly sharded, streamable data set. A killed call is gone on with by the same call.

    Args:
        source: a folder of videos, a folder of Parquet or WebDataset files, or `org/name` of the Hub.
        destination: a folder that is empty, not there, or was made by this function.
        settings: what the set looks like.
        index: CSV or JSONL with labels and splits; as for `open_raw`, as are the five that follow.
        config: of a data set with several.
        revision: of a Hub data set.
        video_column: found by its type.
        label_column: found by its type or name.
        allow_paths: hosts, folders and beginnings of URLs that rows may name.
        publish: the set is to be published: refuse a folder whose links lead out of it, other than to `allow_paths`.
        jobs: videos made at a time; one per core. Their number changes nothing in the result.
        progress: show a bar on stderr.
        tell: is called with each note on how the source is read, before the work begins.

    Raises:
        DataError: in one line, for whatever keeps the whole set from being made; never for a bad video.
        VideoBackendError: this machine cannot decode or encode.
        OSError: the result cannot be written.
    """
    settings, destination = settings or PrepareSettings(), Path(destination)
    if jobs is not None and jobs < 1:
        raise DataError(f"{jobs} videos at a time cannot be made; give 1 or more jobs")
    _need_datasets()
    encoder()
    before = _claimed(source, destination)
    raw = open_raw(
        source,
        index=index,
        label_kind=settings.label_kind,
        config=config,
        revision=revision,
        video_column=video_column,
        label_column=label_column,
        allow_paths=allow_paths,
    )
    if publish and raw.linked_out:
        raise DataError(raw.linked_out)
    if tell is not None:
        for note in raw.notes:
            tell(note)
    _check_licence_of(raw, settings)
    asked = {"source": raw.name, **settings.to_dict()}
    if before is not None:
        _check_same(before, asked, destination)
        if _is_done(before, raw, asked, destination):
            return Prepared(report=before, nothing_new=True, reused=before["kept"])
    make_folder(destination, flag="the folder", kind=DataError)
    also = "; what was made is kept, and the same command goes on from here"
    with writing("the data set", destination, kind=DataError, also=also):
        lock = take_folder(destination, flag="the folder", kind=DataError)
        try:
            workshop = _open_workshop(destination, settings=settings, asked=asked)
            _restore(workshop, before, destination)
            return _make_set(workshop, raw, destination, settings=settings, jobs=jobs or _cores(), progress=progress)
        finally:
            lock.release()


def _make_set(
    workshop: Workshop, raw: RawSet, destination: Path, *, settings: PrepareSettings, jobs: int, progress: bool
) -> Prepared:
    reused = len(list(workshop.clips.glob("*.mp4")))
    rows, dropped = _make(workshop, raw, jobs=jobs, progress=progress)
    if not rows:
        workshop.close()
        raise DataError(f"none of the {len(dropped)} videos can be used; {dropped[0].path}: {dropped[0].reason}")
    report, notes = _build(workshop, raw, rows, dropped, settings=settings, destination=destination)
    workshop.close()
    return Prepared(report=report, reused=min(reused, len(rows)), notes=notes)


def _check_licence_of(raw: RawSet, settings: PrepareSettings) -> None:
    """Refuse a licence that the source does not allow, before the work begins."""
    source = Origin(name=raw.name, licence=raw.origin.get("license"), is_data=True)
    try:
        inherited_licence([source], stated=settings.license)
    except LicenceError as error:
        raise DataError(str(error)) from None


def _need_datasets() -> None:
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise DataError(f"preparing needs `datasets` ({error}): pip install 'hf-videomae[train]'") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# What is there already.


def _claimed(source: str, destination: Path) -> dict[str, Any] | None:
    """The report of the set that lies there, if there is one; a folder with anything else is left alone."""
    inside, outside = destination.expanduser().resolve(), Path(source).expanduser().resolve()
    if outside.is_dir() and inside.is_relative_to(outside):
        raise DataError(f"{destination} lies within {source}; give a folder outside of it")
    if destination.exists() and not destination.is_dir():
        raise DataError(f"{destination} is a file; give a folder")
    check_folder(destination, flag="the folder", kind=DataError)
    check_folder_is_free(destination, flag="the folder", kind=DataError)
    found = read_report(destination)
    if found is not None:
        return found
    others = [path.name for path in destination.iterdir() if path.name != LOCK_FILE] if destination.exists() else []
    if others and FOLDER not in others:
        raise DataError(f"{destination} holds other files ({sorted(others)[0]}, ...); give an empty or new folder")
    return None


def _check_same(before: dict[str, Any], asked: dict[str, Any], destination: Path) -> None:
    made = {"source": before["source"], **before["settings"]}
    other = [f"{name} {made[name]} (now {asked[name]})" for name in _OF_VIDEOS if made[name] != asked[name]]
    if other:
        raise DataError(f"{destination} holds a set made with {', '.join(other)}; give another folder or remove it")


def _is_done(before: dict[str, Any], raw: RawSet, asked: dict[str, Any], destination: Path) -> bool:
    same = before["fingerprint"] == raw.fingerprint and {"source": before["source"], **before["settings"]} == asked
    return same and is_whole(before, destination) and not (destination / FOLDER).exists()


def _open_workshop(destination: Path, *, settings: PrepareSettings, asked: dict[str, Any]) -> Workshop:
    """The workshop, new or as a killed call left it; clips made with other settings are refused."""
    unfinished = destination / FOLDER / _UNFINISHED
    wanted = {name: asked[name] for name in _OF_VIDEOS}
    if unfinished.exists():
        begun = read_json(unfinished, remedy=f"remove {destination / FOLDER}", kind=DataError)
        other = [f"{name} {begun[name]} (now {wanted[name]})" for name in _OF_VIDEOS if begun[name] != wanted[name]]
        if other:
            raise DataError(
                f"{destination} holds an unfinished run with {', '.join(other)}; finish that one, or remove "
                f"{destination / FOLDER}"
            )
    workshop = Workshop(destination, encode=settings.encode, trim=settings.trim)
    write_json(unfinished, wanted)
    return workshop


def _restore(workshop: Workshop, before: dict[str, Any] | None, destination: Path) -> None:
    """Videos of the set that lies there need not be made again when others come or go."""
    videos = destination / VIDEOS
    # A set that is just being replaced is no longer what its report says; its videos are in the workshop.
    if before is None or not videos.exists() or (workshop.folder / _PUBLISHING).exists():
        return
    try:
        rows = [Row.from_dict(json.loads(line)["row"]) for line in videos.read_text(encoding="utf-8").splitlines()]
    except (ValueError, KeyError, TypeError):  # damaged: the clips are made again
        return
    wanted = {row.id: row for row in rows}
    for shard in whole_shards(before, destination):
        workshop.restore(shard, wanted)


# Making.


def _make(workshop: Workshop, raw: RawSet, *, jobs: int, progress: bool) -> tuple[list[Row], list[Dropped]]:
    rows: list[Row] = []
    dropped: list[Dropped] = []
    made = make_all(workshop, without_repeats(raw.videos), jobs=jobs)
    for outcome in _with_bar(made, raw, dropped, shown=progress):
        rows.append(outcome) if isinstance(outcome, Row) else dropped.append(outcome)
    # What is said of them is published.
    dropped = [Dropped(drop.path, public_text(drop.reason)) for drop in (*raw.refused, *dropped)]
    rows = [replace(row, made=replace(row.made, note=public_text(row.made.note))) for row in rows]
    dropped.sort(key=lambda drop: (drop.path, drop.reason))
    return sorted(rows, key=lambda row: (row.split, row.id)), dropped


def _with_bar(
    outcomes: Iterable[Row | Dropped], raw: RawSet, dropped: list[Dropped], *, shown: bool
) -> Iterable[Row | Dropped]:
    if not shown:
        yield from outcomes
        return
    from tqdm import tqdm

    with tqdm(total=raw.count, unit="video", dynamic_ncols=True, smoothing=0.05, desc=raw.name) as bar:
        size = 0
        for outcome in outcomes:
            yield outcome
            size += outcome.made.num_bytes if isinstance(outcome, Row) else 0
            bar.set_postfix_str(f"{size / MEGABYTE:.1f} MB, {len(dropped) + len(raw.refused)} dropped", refresh=False)
            bar.update()


def _build(
    workshop: Workshop,
    raw: RawSet,
    rows: list[Row],
    dropped: list[Dropped],
    *,
    settings: PrepareSettings,
    destination: Path,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The report, and notes on the card."""
    kind = None if raw.unlabelled else settings.label_kind
    features = features_of(settings.format, class_names=raw.class_names, kind=kind)
    shard_bytes = round(settings.shard_megabytes * MEGABYTE)
    shards = plan_shards(rows, format=settings.format, shard_bytes=shard_bytes, num_shards=settings.num_shards)
    plan = [[shard.file, [row.to_dict() for row in shard.rows]] for shard in shards]
    published = _write_shards(workshop, shards, features=features, plan=plan, destination=destination)
    flat = settings.to_dict()
    report = make_report(raw, rows, dropped, shards=shards, sizes=_sizes(published), settings=flat)
    _publish(workshop, shards, destination=destination)
    lines = [{"shard": shard.file, "row": row.to_dict()} for shard in shards for row in shard.rows]
    write_whole(destination / VIDEOS, _lines(lines))
    write_whole(destination / DROPPED, _lines([asdict(drop) for drop in dropped]))
    notes = keep_or_write(destination, report)
    write_json(destination / REPORT, report)
    return report, notes


def _lines(objects: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in objects)


def _sizes(files: dict[str, Path]) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in files.items()}


def _plan_in(path: Path) -> Any:
    """Return the plan that a killed call left; None where there is none, or a damaged one."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _write_shards(
    workshop: Workshop, shards: list[Shard], *, features: Any, plan: Any, destination: Path
) -> dict[str, Path]:
    """Where each shard lies, in the workshop or, where a killed call had begun to publish this plan, in its place."""
    plan = json.loads(json.dumps([plan, features.to_dict()]))
    kept = workshop.folder / "plan.json"
    if _plan_in(kept) != plan:
        (workshop.folder / _PUBLISHING).unlink(missing_ok=True)
        for stale in workshop.shards.iterdir():
            stale.unlink()
        write_json(kept, plan)
    is_publishing = (workshop.folder / _PUBLISHING).exists()
    files = {}
    for shard in shards:
        path = files[shard.file] = workshop.shards / Path(shard.file).name
        if not path.exists() and is_publishing and (destination / shard.file).exists():
            files[shard.file] = destination / shard.file
        elif not path.exists():
            write_shard(path, shard, features=features, read_clip=lambda row: workshop.clip(row.id).read_bytes())
    return files


def _publish(workshop: Workshop, shards: list[Shard], *, destination: Path) -> None:
    """Put the shards in place of those of an earlier set."""
    write_json(workshop.folder / _PUBLISHING, {})
    data = destination / "data"
    data.mkdir(exist_ok=True)
    for shard in shards:
        made = workshop.shards / Path(shard.file).name
        if made.exists():
            os.replace(made, destination / shard.file)
    sync_folder(data)
    wanted = {Path(shard.file).name for shard in shards}
    for path in data.glob("*-of-*"):
        if path.name not in wanted:
            path.unlink()


__all__ = ["PrepareSettings", "Prepared", "prepare"]
