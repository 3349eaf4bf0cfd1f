"""Build a batch from its `BatchSpec`, usually in a worker process: decode, replace or skip bad videos, collate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import torch
from torch.utils.data import Dataset

from ..credentials import redact_credentials
from ..errors import DataError
from ..video._source import resolve_source
from ..video.decoding import VideoBackendError, VideoDecodeError
from ..video.hdr import Transfer, hdr_counter
from .clips import Batch, ClipConfig, collate, make_clips
from .labels import LabelEncoder
from .sampler import BatchSampler, BatchSpec, Cursor, SampleRef
from .source import Sample
from .stage_timer import StageTimer
from .url_videos import retry_video
from .workers import trim_malloc

BadVideoPolicy = Literal["replace", "skip", "raise"]
"""What happens for a bad video: another takes its place, the batch is made without it, or the run stops."""

# Training batches differ in size a hundredfold, and about as much memory as was used lies idle: so count bytes.
_TRIM_BYTES = 128 * 2**20
ClipList = list[dict[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """What a worker sends: a batch and its bad videos, or the error that ends the run.

    An error raised in a worker would arrive inside a traceback, but users should read its one line.
    """

    next_cursor: Cursor
    batch: Batch | None = None
    bad: tuple[dict[str, str], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    read_seconds: float = 0.0
    hdr: Mapping[str, Transfer] = field(default_factory=dict)
    error: str = ""
    error_type: type[Exception] = DataError


class TooFewReplacementsError(DataError):
    """A batch ran out of replacements; the loader reads more ahead and builds the batch again."""


@dataclass(kw_only=True, eq=False)
class BatchBuilder(Dataset[WorkerResult]):
    """Build batches from their specs, in any process. A decoder ends with its clip, so processes share none.

    Attributes:
        batch_sampler: of the specs.
        clip_config: what the model wants.
        seed: of clips, crops and masks.
        name: of the data set, for errors.
        labels: as `collate` takes it.
        max_consecutive_bad: bad videos in a row that mean that none decodes.
        on_bad_video: what happens for a bad video.
    """

    batch_sampler: BatchSampler
    clip_config: ClipConfig
    seed: int
    name: str
    labels: LabelEncoder | bool
    max_consecutive_bad: int
    on_bad_video: BadVideoPolicy
    _bytes: int = field(default=0, init=False)
    _timer: StageTimer = field(default_factory=StageTimer, init=False)

    def __getitem__(self, batch_spec: BatchSpec) -> WorkerResult:
        bad: list[dict[str, str]] = []
        self._timer = StageTimer()
        if self._bytes >= _TRIM_BYTES:
            self._bytes = 0
            trim_malloc()
        try:
            batch = self._build_batch(batch_spec, bad)
        except (DataError, VideoBackendError) as error:
            return WorkerResult(batch_spec.next_cursor, bad=tuple(bad), error=str(error), error_type=type(error))
        return WorkerResult(
            batch_spec.next_cursor,
            batch=batch,
            bad=tuple(bad),
            seconds=self._timer.seconds,
            read_seconds=batch_spec.read_seconds,
            hdr=hdr_counter.take(),
        )

    def _build_batch(self, batch_spec: BatchSpec, bad: list[dict[str, str]]) -> Batch:
        """Build a batch. Bad videos are replaced here, and appended to `bad`."""
        sample_refs, replacements = map(self._time_fetches, self.batch_sampler.resolve_samples(batch_spec))
        clips: list[ClipList] = []
        samples = []
        for sample_ref in sample_refs:
            decoded = self._decode_clips(sample_ref, bad)
            if decoded is None and self.on_bad_video == "replace":
                sample_ref, decoded = self._decode_replacement(replacements, bad)
            if decoded is not None:
                clips.append(decoded)
                samples.append(sample_ref.sample)
        if not clips:
            # No rank may have an empty batch: the others would wait for it in vain.
            sample_ref, decoded = self._decode_replacement(replacements, bad)
            clips, samples = [decoded], [sample_ref.sample]
        with self._timer("collate"):
            batch = collate(clips, samples, labels=self.labels)
        self._bytes += batch["pixel_values"].nbytes
        return batch

    def _time_fetches(self, sample_refs: Iterator[SampleRef]) -> Iterator[SampleRef]:
        """Yield the samples, and time it: some sources make a sample when it is asked for."""
        while True:
            with self._timer("fetch"):
                sample_ref = next(sample_refs, None)
            if sample_ref is None:
                return
            yield sample_ref

    def _decode_clips(self, sample_ref: SampleRef, bad: list[dict[str, str]]) -> ClipList | None:
        """Return the clips of a sample; None for a bad video, which is appended to `bad`."""
        sample = sample_ref.sample

        def decode(sample: Sample) -> ClipList:
            with self._timer("fetch"):
                local = _download_video(sample)
            return make_clips(
                local, clip_config=self.clip_config, seed=self.seed, epoch=sample_ref.epoch, timer=self._timer
            )

        try:
            return retry_video(sample, decode)
        except (VideoDecodeError, OSError) as error:
            # A file that vanished, or that may not be read, is as bad as a broken one.
            reason = redact_credentials(error.reason if isinstance(error, VideoDecodeError) else str(error))
        bad.append({"path": sample.location, "id": sample.id, "reason": reason})
        if self.on_bad_video == "raise":
            raise DataError(
                f"{sample.location} of {self.name} cannot be decoded ({reason}): repair it, or continue without it by "
                f"--on_bad_video replace or skip, from the last checkpoint with --resume"
            )
        return None

    def _decode_replacement(
        self, replacements: Iterator[SampleRef], bad: list[dict[str, str]]
    ) -> tuple[SampleRef, ClipList]:
        """Return the first replacement that decodes, and its clips.

        Raises:
            DataError: when `max_consecutive_bad` videos in a row are bad.
        """
        num_consecutive_bad = 1
        for sample_ref in islice(replacements, self.max_consecutive_bad - 1):
            if any(entry["id"] == sample_ref.sample.id for entry in bad):
                continue  # tried already: the replacements of a stream come in a cycle
            decoded = self._decode_clips(sample_ref, bad)
            if decoded is not None:
                return sample_ref, decoded
            num_consecutive_bad += 1
        error_type = TooFewReplacementsError if num_consecutive_bad < self.max_consecutive_bad else DataError
        raise error_type(
            f"no video of {self.name} decodes: {num_consecutive_bad} in a row failed, the last is {bad[-1]['path']} "
            f"({bad[-1]['reason']}); check the files with a video player"
        )


def _download_video(sample: Sample) -> Sample:
    """Return the sample with its video downloaded; a large one on a server that sends parts of it stays a URL.

    Raises:
        VideoDecodeError: when it cannot be downloaded.
    """
    if isinstance(sample.video, str) and "://" in sample.video:
        resolved = resolve_source(sample.video)
        return sample if resolved.is_remote else replace(sample, video=resolved.data)
    return sample
