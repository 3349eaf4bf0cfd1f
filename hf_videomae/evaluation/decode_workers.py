"""Decode every video of a data set once, in worker processes.

Videos are dealt to the ranks by their position in the data set, so that none is lost or seen twice, whatever the
number of processes, and two files of one name stay two videos. A streamed source is read in the process that iterates,
which sends each sample to a worker: one large shard keeps all workers busy.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from .. import stop_signals
from ..credentials import redact_credentials
from ..data.labels import LabelEncoder
from ..data.source import AnySource, Label, Sample, Source, StreamedSource
from ..data.url_videos import retry_video
from ..data.workers import TRIM_EVERY_NUM_VIDEOS, Workers, trim_malloc
from ..errors import DataError
from ..video.decoding import VideoBackendError, VideoDecodeError
from ..video.hdr import Transfer, hdr_counter

VideoKey = tuple[int, int]
"""The position of a video: (shard, row in the shard). A source in any order is one shard."""
_Content = TypeVar("_Content")


@dataclass(frozen=True, slots=True)
class _VideoRef:
    """One video to read: its position, and of a streamed source the sample itself, or why it could not be read."""

    key: VideoKey
    sample: Sample | None = None
    error: DataError | None = None


@dataclass(frozen=True, slots=True)
class DecodedVideo(Generic[_Content]):
    """What a worker sends back for a video: what was decoded, or why it could not be.

    Attributes:
        key: the video's position in the data set.
        id: the sample's id.
        path: where the video lies, without credentials.
        label: the sample's label.
        content: what was decoded; None for a bad video.
        reason: why a video is bad.
        hdr: the videos of high dynamic range that the worker decoded.
        error, error_type: an error that ends the iteration; raised in a worker, it would arrive inside a traceback.
    """

    key: VideoKey
    id: str = ""
    path: str = ""
    label: Label = -1
    content: _Content | None = None
    reason: str = ""
    hdr: Mapping[str, Transfer] = field(default_factory=dict)
    error: str = ""
    error_type: type[Exception] = DataError


def decode_in_workers(
    source: AnySource,
    decode: Callable[[Sample], _Content],
    *,
    label_encoder: LabelEncoder,
    workers: Workers,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[DecodedVideo[_Content]]:
    """Yield the videos of one rank, decoded, in the order of the data set.

    A stop signal ends the wait for a video, even if the evaluation is part of a training. Call
    `workers.exit_on_stop_signal()` when the iteration has ended, for whatever reason.

    Args:
        source: the data set; every video needs a label.
        decode: opens and decodes a sample; it must be picklable.
        label_encoder: checks the labels.
        workers: the decoding processes.
        rank, world_size: which share of the videos to decode.

    Raises:
        DataError: for a video without a label of the right kind, a source that cannot be read, or a killed worker.
        VideoBackendError: if no decoder works on this machine.
    """
    sampler: Any = _RankSampler(source, rank, world_size)
    loader: Any = DataLoader(
        _VideoDataset(source, decode, label_encoder),
        batch_size=None,
        sampler=sampler,
        collate_fn=_return_unchanged,
        generator=torch.Generator(),  # a generator of its own leaves the random state of the process alone
        **workers.options,
    )
    with stop_signals.interruptible():  # starting the workers reads ahead for them
        results = workers.results(loader)
    while True:
        with stop_signals.interruptible():
            video: DecodedVideo[_Content] | None = next(results, None)
        if video is None:
            return
        hdr_counter.add(video.hdr)
        if video.error:
            raise video.error_type(video.error)
        yield video


def _return_unchanged(video: Any) -> Any:
    return video


class _VideoDataset(Dataset[DecodedVideo[_Content]], Generic[_Content]):
    """Decodes the videos of references, in any process."""

    def __init__(self, source: AnySource, decode: Callable[[Sample], _Content], label_encoder: LabelEncoder) -> None:
        self.source, self.decode, self.label_encoder = source, decode, label_encoder
        self._num_decoded = 0

    def __getitem__(self, video_ref: _VideoRef) -> DecodedVideo[_Content]:
        self._num_decoded += 1
        if self._num_decoded % TRIM_EVERY_NUM_VIDEOS == 0:
            trim_malloc()
        try:
            if video_ref.error is not None:
                raise video_ref.error
            sample = video_ref.sample
            if sample is None:
                assert isinstance(self.source, Source)
                sample = self.source[video_ref.key[1]]
            return self._decode(sample, video_ref.key)
        except (DataError, VideoBackendError) as error:
            return DecodedVideo(video_ref.key, error=str(error), error_type=type(error))

    def _decode(self, sample: Sample, key: VideoKey) -> DecodedVideo[_Content]:
        label_error, label = self.label_encoder.label_error(sample.label), sample.label
        if label_error is not None or label is None:
            raise DataError(
                f"{self.source.name}: {sample.id} {label_error}; every video needs a label here: fix it, take a "
                f"labeled split, or remove this video"
            )
        try:
            content = retry_video(sample, self.decode)
        except (VideoDecodeError, OSError) as error:
            reason = redact_credentials(error.reason if isinstance(error, VideoDecodeError) else str(error))
            return DecodedVideo(key, sample.id, sample.location, label, reason=reason)
        return DecodedVideo(key, sample.id, sample.location, label, content, hdr=hdr_counter.take())

    def __getstate__(self) -> dict[str, Any]:
        # A streamed source stays in the process that iterates; errors in workers need its name alone.
        if isinstance(self.source, Source):
            return self.__dict__
        return {**self.__dict__, "source": _NameOnlySource(self.source.name)}


@dataclass(frozen=True)
class _NameOnlySource:
    name: str


@dataclass(frozen=True, slots=True)
class _RankSampler:
    """The videos of one rank, as the `sampler` of a DataLoader, which iterates it in the evaluating process."""

    source: AnySource
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[_VideoRef]:
        source = self.source
        if isinstance(source, Source):
            yield from (_VideoRef((0, row)) for row in range(self.rank, len(source), self.world_size))
            return
        try:
            yield from self._read_shards(source)
        except DataError as error:  # raised here, it would end the DataLoader while it starts its workers
            yield _VideoRef((source.num_shards, 0), error=error)

    def _read_shards(self, source: StreamedSource) -> Iterator[_VideoRef]:
        # Example with two ranks: of 3 shards rank 0 reads shards 0 and 2, rank 1 reads shard 1. Of a single shard both
        # read all rows, and rank 0 keeps the even ones, rank 1 the odd ones.
        splits_shards = source.num_shards < self.world_size
        first, step = (0, 1) if splits_shards else (self.rank, self.world_size)
        for shard in range(first, source.num_shards, step):
            samples = enumerate(source.read_shard(shard))
            rank_samples = islice(samples, self.rank, None, self.world_size) if splits_shards else samples
            yield from (_VideoRef((shard, row), sample) for row, sample in rank_samples)
