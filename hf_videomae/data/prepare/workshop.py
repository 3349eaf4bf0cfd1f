"""The folder in which videos are made small: a clip and a record for each, so that a killed run goes on."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...records import write_json
from ...video.allowed import RefusedVideo
from ...video.decoding import VideoDecodeError
from ...video.encoding import EncodedVideo, EncodeSettings, Trim, encode_video
from ..network import stop_waiting_on
from ..row_videos import use_video
from ..samples import Sample
from .entries import Dropped
from .inputs import RawVideo
from .shards import Row, read_shard

FOLDER = ".prepare"


class Workshop:
    """Clips and their records under `DESTINATION/.prepare`.

    Args:
        destination: of the data set.
        encode: how videos are made small.
        trim: what is kept of those that have no bounds of their own.
    """

    def __init__(self, destination: Path, *, encode: EncodeSettings, trim: Trim) -> None:
        self.folder, self.encode, self.trim = destination / FOLDER, encode, trim
        self.clips, self.shards = self.folder / "clips", self.folder / "shards"
        for folder in (self.clips, self.shards):
            folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Remove it: everything is in the data set."""
        shutil.rmtree(self.folder)

    def clip(self, id: str) -> Path:
        """Where the small video lies."""
        return self.clips / f"{_key(id)}.mp4"

    def make(self, raw: RawVideo) -> Row | Dropped:
        """The small video of one raw video, or why there is none; made once."""
        known = self._recall(raw)
        if known is not None:
            return known
        trim = raw.trim or self.trim
        try:
            made = self._encode(raw, trim=trim)
        except VideoDecodeError as error:
            self._note(raw, {"reason": error.reason})
            return Dropped(raw.id, error.reason)
        self._note(raw, {"made": asdict(made)})
        return _row(raw, made)

    def restore(self, shard: Path, wanted: dict[str, Row]) -> None:
        """Take videos that were made before out of a shard of the data set, instead of making them again.

        Args:
            shard: the file.
            wanted: the rows of the data set by id, as far as they are wanted.
        """
        for id, content in read_shard(shard):
            row = wanted.get(id)
            if row is None or self._record(id).exists():
                continue
            temporary = self.clip(id).with_suffix(".restored")
            temporary.write_bytes(content)
            os.replace(temporary, self.clip(id))
            write_json(self._record(id), {"stamp": row.stamp, "trim": row.trim, "made": asdict(row.made)}, sync=False)

    def _encode(self, raw: RawVideo, *, trim: Trim) -> EncodedVideo:
        if isinstance(raw.video, str) and "://" not in raw.video:
            return encode_video(raw.video, self.clip(raw.id), settings=self.encode, trim=trim, name=raw.id)
        source = self.clip(raw.id).with_suffix(".source")
        try:
            source.write_bytes(_fetch(raw))
            return encode_video(source, self.clip(raw.id), settings=self.encode, trim=trim, name=raw.id)
        finally:
            source.unlink(missing_ok=True)

    def _record(self, id: str) -> Path:
        return self.clips / f"{_key(id)}.json"

    def _recall(self, raw: RawVideo) -> Row | Dropped | None:
        path = self._record(raw.id)
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # damaged: the clip is made again
            return None
        if (record["stamp"], record["trim"]) != (raw.stamp, json.loads(json.dumps(_bounds(raw)))):
            return None
        if "reason" in record:
            return Dropped(raw.id, record["reason"])
        made = EncodedVideo(**record["made"])
        clip = self.clip(raw.id)
        return _row(raw, made) if clip.exists() and clip.stat().st_size == made.num_bytes else None

    def _note(self, raw: RawVideo, outcome: dict[str, Any]) -> None:
        # One for each video: lost in a power cut, it is made again.
        write_json(self._record(raw.id), {"stamp": raw.stamp, "trim": _bounds(raw), **outcome}, sync=False)


def make_all(workshop: Workshop, videos: Iterable[RawVideo], *, jobs: int) -> Iterator[Row | Dropped]:
    """Every video through the workshop, `jobs` at a time, as they are done; few wait in memory."""
    ends = threading.Event()
    pool = ThreadPoolExecutor(jobs, "prepare", initializer=stop_waiting_on, initargs=(ends,))
    waiting: set[Future[Row | Dropped]] = set()
    try:
        for raw in videos:
            waiting.add(pool.submit(workshop.make, raw))
            if len(waiting) >= 2 * jobs:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        # Whoever waits for the network need not do so to the end.
        ends.set()
        pool.shutdown(cancel_futures=True)


def _key(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8")).hexdigest()[:24]


def _bounds(raw: RawVideo) -> tuple[float, float | None] | None:
    return None if raw.trim is None else (raw.trim.start, raw.trim.end)


def _row(raw: RawVideo, made: EncodedVideo) -> Row:
    return Row(id=raw.id, split=raw.split, label=raw.label, stamp=raw.stamp, trim=_bounds(raw), made=made)


def _fetch(raw: RawVideo) -> bytes:
    if isinstance(raw.video, RefusedVideo):
        raise VideoDecodeError(raw.id, raw.video.reason)
    if isinstance(raw.video, bytes):
        if not raw.video:
            raise VideoDecodeError(raw.id, "it is empty (0 bytes)")
        return raw.video
    from ...video._source import resolve_source

    url = raw.video
    # Where the network is at fault, not the video, leaving it out would be silent loss.
    content = use_video(Sample(raw.id, url), lambda _: resolve_source(url, name=raw.id).data)
    assert isinstance(content, bytes)
    return content
