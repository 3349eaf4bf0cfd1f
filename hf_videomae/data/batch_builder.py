"""Build a batch from its `BatchSpec`, usually in a worker process: decode, replace or skip bad videos, collate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple

from ..errors import DataError
from .clips import Batch, Clip, ClipConfig, collate, make_clips
from .labels import LabelEncoder
from .sampler import BatchSampler, BatchSpec, Cursor, SampleRef
from .source import Sample
from .stage_timer import StageTimer
from .workers import WorkerResult

BadVideoPolicy = Literal["replace", "skip", "raise"]
"""What happens for a bad video: another takes its place, the batch is made without it, or the run stops."""


class BuiltBatch(NamedTuple):
    """A batch, where the sampler stands once it was used, and the time that reading its spec took."""

    batch: Batch
    next_cursor: Cursor
    read_seconds: float


class TooFewReplacementsError(DataError):
    """A batch ran out of replacements; the loader reads more ahead and builds the batch again."""


@dataclass(kw_only=True, frozen=True)
class BatchBuilder:
    """Build batches from their specs, in any process. A decoder ends with its clip, so processes share none.

    Attributes:
        batch_sampler: of the specs.
        clip_config: what the model wants.
        seed: of clips, crops and masks.
        name: of the dataset, for errors.
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

    def __call__(self, batch_spec: BatchSpec, result: WorkerResult[BuiltBatch]) -> BuiltBatch:
        """Build a batch. Bad videos are replaced here."""
        sample_refs, replacements = self.batch_sampler.resolve_samples(batch_spec)
        with result.timer("fetch"):
            drawn = list(sample_refs)  # some sources make a sample when it is asked for
        clips: list[list[Clip]] = []
        samples = []
        for sample_ref in drawn:
            decoded = result.decode(sample_ref.sample, self._clip_maker(sample_ref, result.timer))
            if decoded is None and self.on_bad_video == "raise":
                raise DataError(
                    f"{result.bad[-1]['path']} of {self.name} cannot be decoded ({result.bad[-1]['reason']}): repair "
                    f"it, or continue without it by --on_bad_video replace or skip, from the last checkpoint with "
                    f"--resume"
                )
            if decoded is None and self.on_bad_video == "replace":
                sample_ref, decoded = self._decode_replacement(replacements, result)
            if decoded is not None:
                clips.append(decoded)
                samples.append(sample_ref.sample)
        if not clips:
            # No rank may have an empty batch: the others would wait for it in vain.
            sample_ref, decoded = self._decode_replacement(replacements, result)
            clips, samples = [decoded], [sample_ref.sample]
        with result.timer("collate"):
            batch = collate(clips, samples, labels=self.labels)
        return BuiltBatch(batch, batch_spec.next_cursor, batch_spec.read_seconds)

    def _clip_maker(self, sample_ref: SampleRef, timer: StageTimer) -> Callable[[Sample], list[Clip]]:
        return partial(make_clips, clip_config=self.clip_config, seed=self.seed, epoch=sample_ref.epoch, timer=timer)

    def _decode_replacement(
        self, replacements: Iterator[SampleRef], result: WorkerResult[BuiltBatch]
    ) -> tuple[SampleRef, list[Clip]]:
        """Return the first replacement that decodes, and its clips.

        Raises:
            DataError: when `max_consecutive_bad` videos in a row are bad.
        """
        num_consecutive_bad = 1
        for sample_ref in islice(replacements, self.max_consecutive_bad - 1):
            if any(entry["id"] == sample_ref.sample.id for entry in result.bad):
                continue  # tried already: the replacements of a stream come in a cycle
            decoded = result.decode(sample_ref.sample, self._clip_maker(sample_ref, result.timer))
            if decoded is not None:
                return sample_ref, decoded
            num_consecutive_bad += 1
        error_type = TooFewReplacementsError if num_consecutive_bad < self.max_consecutive_bad else DataError
        raise error_type(
            f"no video of {self.name} decodes: {num_consecutive_bad} in a row failed, the last is "
            f"{result.bad[-1]['path']} ({result.bad[-1]['reason']}); check the files with a video player"
        )
