"""Test the workers of an evaluation: every video once over all ranks, and errors that keep their type."""

from collections.abc import Iterator

import pytest

from hf_videomae.data import DataError, LabelEncoder, Sample
from hf_videomae.evaluation.decode_workers import decode_in_workers
from hf_videomae.hub.source_errors import SourceRefused


class Shards:
    """A streamed source of three shards of two videos, whose last shard may be refused."""

    name, class_names, num_shards, num_samples = "shards", ["a", "b"], 3, 6

    def __init__(self, *, refuse: bool = False, label: int = 1) -> None:
        self.refuse, self.label = refuse, label

    def read_shard(self, shard: int, *, retry_seconds: float | None = None) -> Iterator[Sample]:
        if self.refuse and shard == 2:
            raise SourceRefused("shards: refused")
        yield from (Sample(id=f"{shard}/{row}", video=b"x" * row, label=self.label) for row in range(2))


def decode_length(sample: Sample) -> int:
    return len(sample.video)


def decode(source: Shards, *, num_workers: int = 0, rank: int = 0, world_size: int = 1) -> Iterator[tuple[str, int]]:
    videos = decode_in_workers(
        source,
        decode_length,
        label_encoder=LabelEncoder(num_classes=2),
        num_workers=num_workers,
        rank=rank,
        world_size=world_size,
    )
    for video in videos:
        assert video.content is not None
        yield video.id, video.content


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_see_every_video_once(world_size: int) -> None:
    videos = [video for rank in range(world_size) for video in decode(Shards(), rank=rank, world_size=world_size)]
    assert sorted(videos) == [(f"{shard}/{row}", row) for shard in range(3) for row in range(2)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_refused_shard_raises_its_error_after_earlier_videos(num_workers: int) -> None:
    videos = decode(Shards(refuse=True), num_workers=num_workers)
    assert [next(videos)[0] for _ in range(4)] == ["0/0", "0/1", "1/0", "1/1"]
    with pytest.raises(SourceRefused, match="shards: refused"):
        next(videos)


def test_label_of_the_wrong_kind_names_source_and_video() -> None:
    with pytest.raises(DataError, match="shards: 0/0 has the label 7"):
        next(decode(Shards(label=7)))
