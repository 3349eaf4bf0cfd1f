"""Define the order in which samples are drawn, whatever the number of workers; that of a map-style source in full.

A `BatchSampler` runs in the training process and yields one `BatchSpec` per batch. Any free worker may build the batch
(`batch_builder.py`), because the spec holds everything that the batch depends on. So the number of workers changes the
speed only.

Map-style sources (any sample at any time, such as a folder) use `MapStyleSampler`. Position p of the endless stream is
`permutation(epoch p // n)[p % n]`. Step s of B samples on each of R ranks covers B * R positions from s * B * R on,
and rank r takes the r-th B of them. Example with n = 5 videos, B = 1, R = 2:

    position   0  1 | 2  3 | 4  5 | 6 ...
    epoch      0  0 | 0  0 | 0  1 | 1 ...
    video      3  0 | 4  1 | 2  1 | 4 ...     (3 0 4 1 2 is the shuffled order of epoch 0)
    rank       0  1 | 0  1 | 0  1 | 0 ...

So an epoch is exactly the dataset, ranks never share a sample and always have the same number of them, a resume costs
nothing, and with the same global batch any number of ranks trains on the same batches.

Streamed sources (read shard by shard), and mixes of several sources, use `StreamSampler` in `stream_sampler.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Protocol

import torch

from ..errors import DataError
from .clips import stable_seed
from .source import Sample, Source

Cursor = dict[str, Any]
"""Where a sampler stands, JSON-able."""


class SampleRef(NamedTuple):
    """A sample, and the epoch that its random numbers are drawn for."""

    epoch: int
    sample: Sample


class SampleIndex(NamedTuple):
    """A sample for the worker to look up: a dataset of a mix, and a position in its endless order."""

    part: int
    position: int


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What to build one batch from.

    Attributes:
        next_cursor: where the sampler stands once this batch was used.
        position: in the endless stream; of a map-style source only.
        sample_refs, replacement_refs: of other sources, the batch's samples and replacements for bad ones.
        read_seconds: time that reading them took, for reports only.
    """

    next_cursor: Cursor
    position: int = 0
    sample_refs: tuple[SampleRef | SampleIndex, ...] = ()
    replacement_refs: tuple[SampleRef | SampleIndex, ...] = ()
    read_seconds: float = 0.0


class BatchSampler(Protocol):
    """The order of one rank's samples."""

    rank_info: "RankInfo"
    start: Cursor
    steps_per_epoch: int | None

    def merge_cursors(self, cursors: Sequence[Cursor]) -> Cursor:
        """Return where to resume, from the cursors of all ranks of the saved run, however many.

        Raises:
            DataError: when they belong to another order.
        """

    def iter_batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        """Yield the endless batches from a cursor on; in the training process."""

    def resolve_samples(self, batch_spec: BatchSpec) -> tuple[Iterator[SampleRef], Iterator[SampleRef]]:
        """Return the samples of a batch, and the replacements for bad ones, in order; in any process."""

    def epoch(self, cursor: Cursor) -> int:
        """Return the epoch of the next sample."""

    def add_replacements(self, most: int) -> bool:
        """Provide more replacements for bad videos, up to `most`; False if that many are provided already."""


@dataclass(frozen=True, kw_only=True)
class RankInfo:
    """Which part of the data one rank takes."""

    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DataError(f"the batch size is {self.batch_size}; it must be at least 1")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} is not one of {self.world_size} ranks, counted from 0")

    @property
    def global_batch(self) -> int:
        """Return the samples of all ranks in one step."""
        return self.batch_size * self.world_size

    def check_size(self, num_samples: int, *, name: str) -> None:
        """Raise `DataError` for a dataset that does not fill one global batch."""
        if num_samples < self.global_batch:
            processes = f" x {self.world_size} processes" if self.world_size > 1 else ""
            raise DataError(
                f"{name} has {num_samples} video{'' if num_samples == 1 else 's'}, too few for one batch of "
                f"{self.global_batch} ({self.batch_size}{processes}); lower --batch_size or add videos"
            )


def require_common_position(cursors: Sequence[Cursor]) -> int:
    """Return the position of all ranks.

    Raises:
        DataError: when they differ.
    """
    positions = sorted({int(cursor["position"]) for cursor in cursors})
    if len(positions) != 1:
        raise DataError(
            f"the saved positions of the processes differ ({positions[0]} and {positions[-1]}), so they are from "
            f"different steps; resume from another checkpoint"
        )
    return positions[0]


def epoch_permutation(size: int, *, seed: int, epoch: int) -> torch.Tensor:
    """Return the order of one epoch: a permutation of `size` indices."""
    generator = torch.Generator().manual_seed(stable_seed("order", seed, epoch))
    return torch.randperm(size, generator=generator)


class InfiniteShuffle:
    """The endless order of a map-style source: position p is in epoch p // n."""

    def __init__(self, source: Source, *, seed: int) -> None:
        self.source, self.seed = source, seed
        self.size = len(source)
        self._orders: dict[int, torch.Tensor] = {}

    def at(self, position: int) -> SampleRef:
        """Return the sample at a position."""
        epoch, index = divmod(position, self.size)
        if epoch not in self._orders:
            # Two epochs meet in a batch, and replacements come from the next one.
            for old in sorted(self._orders)[:-2]:
                del self._orders[old]
            self._orders[epoch] = epoch_permutation(self.size, seed=self.seed, epoch=epoch)
        return SampleRef(epoch, self.source[int(self._orders[epoch][index])])


class MapStyleSampler:
    """The order of a source whose samples can be had in any order."""

    def __init__(self, source: Source, rank_info: RankInfo) -> None:
        self.rank_info, self._order = rank_info, InfiniteShuffle(source, seed=rank_info.seed)
        self.size = self._order.size
        rank_info.check_size(self.size, name=source.name)
        self.start: Cursor = {"position": 0}
        self.steps_per_epoch: int | None = self.size // rank_info.global_batch

    def merge_cursors(self, cursors: Sequence[Cursor]) -> Cursor:
        """Return the one position of all ranks."""
        return {"position": require_common_position(cursors)}

    def iter_batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        """Yield one spec per step, without end."""
        step = self.rank_info.global_batch
        for position in count(cursor["position"], step):
            yield BatchSpec(next_cursor={"position": position + step}, position=position)

    def resolve_samples(self, batch_spec: BatchSpec) -> tuple[Iterator[SampleRef], Iterator[SampleRef]]:
        """Return the samples of a batch; replacements are what this rank draws in the following steps."""
        size, step = self.rank_info.batch_size, self.rank_info.global_batch
        first = batch_spec.position + self.rank_info.rank * size
        following_steps = count(first + step, step)
        replacements = (self._order.at(start + slot) for start in following_steps for slot in range(size))
        return (self._order.at(first + slot) for slot in range(size)), replacements

    def epoch(self, cursor: Cursor) -> int:
        """Return the epoch of the next sample."""
        return cursor["position"] // self.size

    def add_replacements(self, most: int) -> bool:
        """Return False: any video of the dataset can be a replacement already."""
        return False
