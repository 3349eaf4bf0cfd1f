"""Decode every video of a dataset once, in worker processes.

Videos are dealt to the ranks by their position in the dataset, so that none is lost or seen twice, whatever the
number of processes, and two files of one name stay two videos. A streamed source is read in the process that iterates,
which sends each sample to a worker: one large shard keeps all workers busy.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from ..data.labels import LabelEncoder
from ..data.source import AnySource, Label, Sample, Source
from ..data.workers import WorkerResult, run_in_workers
from ..errors import DataError

VideoKey = tuple[int, int]
"""The position of a video: (shard, row in the shard). A source in any order is one shard."""
_Content = TypeVar("_Content")


class _VideoRef(NamedTuple):
    """One video to decode: its position, and of a streamed source the sample itself."""

    key: VideoKey
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class DecodedVideo(Generic[_Content]):
    """What was decoded of a video, or why it could not be.

    Attributes:
        key: the video's position in the dataset.
        id: the sample's id.
        path: where the video lies, without credentials.
        label: the sample's label.
        content: what was decoded; None for a bad video.
        reason: why a video is bad.
    """

    key: VideoKey
    id: str
    path: str
    label: Label
    content: _Content | None
    reason: str


def decode_in_workers(
    source: AnySource,
    decode: Callable[[Sample], _Content],
    *,
    label_encoder: LabelEncoder,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[DecodedVideo[_Content], None, None]:
    """Yield the videos of one rank, decoded, in the order of the dataset. Close it like `run_in_workers`.

    Args:
        source: the dataset; every video needs a label.
        decode: opens and decodes a sample; it must be picklable.
        label_encoder: checks the labels.
        num_workers: decoding processes; 0 decodes in this one.
        rank, world_size: which share of the videos to decode.

    Raises:
        DataError: for a video without a label of the right kind, a source that cannot be read, or a killed worker.
        VideoBackendError: if no decoder works on this machine.
    """
    video_refs = _iter_video_refs(source, rank=rank, world_size=world_size)
    with closing(
        run_in_workers(_VideoDecoder(source, decode, label_encoder), video_refs, num_workers=num_workers)
    ) as results:
        for result in results:
            yield result.unwrap()


@dataclass(frozen=True)
class _VideoDecoder(Generic[_Content]):
    """Decodes the videos of references, in any process."""

    source: Any
    decode: Callable[[Sample], _Content]
    label_encoder: LabelEncoder

    def __call__(self, video_ref: _VideoRef, result: WorkerResult[DecodedVideo[_Content]]) -> DecodedVideo[_Content]:
        sample = video_ref.sample or self.source[video_ref.key[1]]
        label_error, label = self.label_encoder.label_error(sample.label), sample.label
        if label_error is not None or label is None:
            raise DataError(
                f"{self.source.name}: {sample.id} {label_error}; every video needs a label here: fix it, take a "
                f"labeled split, or remove this video"
            )
        content = result.decode(sample, self.decode)
        reason = "" if content is not None else result.bad[-1]["reason"]
        return DecodedVideo(video_ref.key, sample.id, sample.location, label, content, reason)

    def __getstate__(self) -> dict[str, Any]:
        # A streamed source stays in the process that iterates; errors in workers need its name alone.
        if isinstance(self.source, Source):
            return self.__dict__
        return {**self.__dict__, "source": _NameOnlySource(self.source.name)}


class _NameOnlySource(NamedTuple):
    name: str


def _iter_video_refs(source: AnySource, *, rank: int, world_size: int) -> Iterator[_VideoRef]:
    """Yield the videos of one rank; in the evaluating process.

    Example with two ranks: of 3 shards rank 0 reads shards 0 and 2, rank 1 reads shard 1. Of a single shard both read
    all rows, and rank 0 keeps the even ones, rank 1 the odd ones.
    """
    if isinstance(source, Source):
        yield from (_VideoRef((0, row)) for row in range(rank, len(source), world_size))
        return
    splits_shards = source.num_shards < world_size
    first, step = (0, 1) if splits_shards else (rank, world_size)
    for shard in range(first, source.num_shards, step):
        samples = enumerate(source.read_shard(shard))
        rank_samples = islice(samples, rank, None, world_size) if splits_shards else samples
        yield from (_VideoRef((shard, row), sample) for row, sample in rank_samples)
