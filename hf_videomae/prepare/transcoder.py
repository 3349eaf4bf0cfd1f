"""Encode videos smaller in a work folder, with a record for each, so that a killed run can continue."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ..data.source import Sample
from ..data.url_videos import retry_video
from ..hub.retry import cancel_waits_on
from ..run_files import write_json
from ..video.decoding import VideoDecodeError
from ..video.encoding import EncodedVideo, EncodeSettings, Trim, encode_video
from ..video.url_allowlist import BlockedVideo
from .entries import SkippedVideo
from .scan import InputVideo
from .shards import PreparedVideo, iter_shard_clips

WORK_FOLDER = ".prepare"


class Transcoder:
    """Clips and their records under `DESTINATION/.prepare`.

    Args:
        destination: folder of the prepared dataset.
        encode: size, key frames and quality.
        trim: the seconds to keep of videos that have no segment of their own.
    """

    def __init__(self, destination: Path, *, encode: EncodeSettings, trim: Trim) -> None:
        self.folder, self.encode, self.trim = destination / WORK_FOLDER, encode, trim
        self.clips, self.shards = self.folder / "clips", self.folder / "shards"
        for folder in (self.clips, self.shards):
            folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Remove the work folder, when everything is in the dataset."""
        shutil.rmtree(self.folder)

    def clip_path(self, id: str) -> Path:
        """Return the path of the encoded video."""
        return self.clips / f"{_hash_id(id)}.mp4"

    def transcode(self, input_video: InputVideo) -> PreparedVideo | SkippedVideo:
        """Return the encoded video, or why there is none; encode only if there is no record of it."""
        recorded = self._read_record(input_video)
        if recorded is not None:
            return recorded
        trim = input_video.trim or self.trim
        try:
            made = self._encode(input_video, trim=trim)
        except VideoDecodeError as error:
            self._write_record(input_video, {"reason": error.reason})
            return SkippedVideo(input_video.id, error.reason)
        self._write_record(input_video, {"made": asdict(made)})
        return _build_row(input_video, made)

    def restore_clips(self, shard: Path, wanted: dict[str, PreparedVideo]) -> None:
        """Restore encoded videos from a shard of the dataset, instead of encoding them again.

        Args:
            shard: the file.
            wanted: the rows to restore, by id.
        """
        for id, content in iter_shard_clips(shard):
            row = wanted.get(id)
            if row is None or self._record_path(id).exists():
                continue
            temporary = self.clip_path(id).with_suffix(".restored")
            temporary.write_bytes(content)
            os.replace(temporary, self.clip_path(id))
            record = {"stamp": row.stamp, "trim": row.trim, "made": asdict(row.made)}
            write_json(self._record_path(id), record, sync=False)

    def _encode(self, input_video: InputVideo, *, trim: Trim) -> EncodedVideo:
        clip = self.clip_path(input_video.id)
        encode = partial(encode_video, settings=self.encode, trim=trim, name=input_video.id)
        if isinstance(input_video.video, str) and "://" not in input_video.video:
            return encode(input_video.video, clip)
        source = clip.with_suffix(".source")
        try:
            source.write_bytes(_read_content(input_video))
            return encode(source, clip)
        finally:
            source.unlink(missing_ok=True)

    def _record_path(self, id: str) -> Path:
        return self.clips / f"{_hash_id(id)}.json"

    def _read_record(self, input_video: InputVideo) -> PreparedVideo | SkippedVideo | None:
        path = self._record_path(input_video.id)
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # damaged: the clip is encoded again
            return None
        if (record["stamp"], record["trim"]) != (input_video.stamp, json.loads(json.dumps(_trim_bounds(input_video)))):
            return None
        if "reason" in record:
            return SkippedVideo(input_video.id, record["reason"])
        made = EncodedVideo(**record["made"])
        clip = self.clip_path(input_video.id)
        is_whole = clip.exists() and clip.stat().st_size == made.num_bytes
        return _build_row(input_video, made) if is_whole else None

    def _write_record(self, input_video: InputVideo, outcome: dict[str, Any]) -> None:
        # Not synced, because there is one per video: if a power cut loses it, the video is encoded again.
        record = {"stamp": input_video.stamp, "trim": _trim_bounds(input_video), **outcome}
        write_json(self._record_path(input_video.id), record, sync=False)


def transcode_all(
    transcoder: Transcoder, videos: Iterable[InputVideo], *, jobs: int
) -> Iterator[PreparedVideo | SkippedVideo]:
    """Yield the outcome for every video as it is done, `jobs` at a time; few wait in memory."""
    stop_event = threading.Event()
    pool = ThreadPoolExecutor(jobs, "prepare", initializer=cancel_waits_on, initargs=(stop_event,))
    waiting: set[Future[PreparedVideo | SkippedVideo]] = set()
    try:
        for input_video in videos:
            waiting.add(pool.submit(transcoder.transcode, input_video))
            if len(waiting) >= 2 * jobs:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        # Ends the waits for the network.
        stop_event.set()
        pool.shutdown(cancel_futures=True)


def _hash_id(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8")).hexdigest()[:24]


def _trim_bounds(input_video: InputVideo) -> tuple[float, float | None] | None:
    return None if input_video.trim is None else (input_video.trim.start, input_video.trim.end)


def _build_row(input_video: InputVideo, made: EncodedVideo) -> PreparedVideo:
    return PreparedVideo(
        id=input_video.id,
        split=input_video.split,
        label=input_video.label,
        stamp=input_video.stamp,
        trim=_trim_bounds(input_video),
        made=made,
    )


def _read_content(input_video: InputVideo) -> bytes:
    if isinstance(input_video.video, BlockedVideo):
        raise VideoDecodeError(input_video.id, input_video.video.reason)
    if isinstance(input_video.video, bytes):
        if not input_video.video:
            raise VideoDecodeError(input_video.id, "it is empty (0 bytes)")
        return input_video.video
    from ..video._source import resolve_source

    url = input_video.video
    # A network failure is retried: leaving the video out would lose it silently.
    content = retry_video(Sample(input_video.id, url), lambda _: resolve_source(url, name=input_video.id).data)
    assert isinstance(content, bytes)
    return content
