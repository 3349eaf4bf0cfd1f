"""In which order samples are drawn: a function of the seed, the epoch, the rank and the number of ranks, nothing else.

A plan runs in the training process and yields one job per batch. A job is sent to whichever worker process is free,
and holds all that its batch depends on; so the number of workers changes nothing but the speed.

Seekable sources (any sample can be had at once) need no more than a position: position p of the endless stream is
`permutation(epoch p // n)[p % n]`, step s of B x R samples covers the positions from s * B * R on, and rank r takes
the r-th B of them. Every epoch is exactly the data set, ranks never share a sample, all have the same number of them
for ever, a resume costs nothing, and with the same global batch any number of ranks trains on the same batches.

Streamed sources are read from the front, in the training process alone, whatever the number of workers. They are dealt
into lanes, one for each rank that the run began with (`lanes.py`: which rank reads which): shards are shuffled per
epoch, then samples within a window that is bounded in bytes. A shard that the network does not give is put back behind
the others; the cursor says which and where, so that a resume, which reads the current epoch again up to where it was,
puts it back at the same place.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from typing import Any, NamedTuple, Protocol

import torch

from ..errors import DataError
from ..hub.retry import SourceUnavailable, cancel_waits_on, shard_retry_seconds
from .clips import stable_seed
from .source import Sample, Source, StreamedSource

logger = logging.getLogger(__name__)

Cursor = dict[str, Any]
"""JSON-able: where a plan stands."""
DeferredShards = list[list[int]]
"""Of the current epoch, in order: [shard, samples of it that were read before the network failed]."""
CanonicalRankState = dict[str, Any]
"""Where a lane stands: `epoch`, `offset` (samples of it that were drawn) and `put_back`."""
SHUFFLE_BUFFER_BYTES = 128 * 2**20
SHUFFLE_BUFFER_SAMPLES = 8192


class SampleRef(NamedTuple):
    """A sample, and the epoch whose randomness it gets."""

    epoch: int
    sample: Sample


class SampleIndex(NamedTuple):
    """A sample that the worker looks up itself: which data set of a mix, and the position in its endless order."""

    part: int
    position: int


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What one batch is made of.

    Attributes:
        after: where the plan stands once this batch has been used.
        position: in the endless stream, of a seekable source alone.
        sample_refs, replacement_refs: else the batch's samples and what replaces bad ones among them.
        read_seconds: that reading them took; for people alone.
    """

    after: Cursor
    position: int = 0
    sample_refs: tuple[SampleRef | SampleIndex, ...] = ()
    replacement_refs: tuple[SampleRef | SampleIndex, ...] = ()
    read_seconds: float = 0.0


class BatchSampler(Protocol):
    """The order of one rank."""

    share: "RankInfo"
    start: Cursor
    steps_per_epoch: int | None

    def merge_cursors(self, cursors: Sequence[Cursor]) -> Cursor:
        """Where to go on after a run whose processes, however many, stood at these places.

        Raises:
            DataError: when they are of another plan.
        """

    def batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        """The endless batches from a cursor on; in the training process."""

    def sample_refs(self, batch_spec: BatchSpec) -> tuple[Iterator[SampleRef], Iterator[SampleRef]]:
        """The samples of a batch, and what replaces bad ones, in order; in any process."""

    def epoch(self, cursor: Cursor) -> int:
        """Of the next sample."""

    def add_replacements(self, most: int) -> bool:
        """Have more videos at hand to replace bad ones, up to `most`; False: there are as many already."""


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
        """Samples of all ranks in one step."""
        return self.batch_size * self.world_size

    def check_size(self, num_samples: int, *, name: str) -> None:
        """Refuse a data set that does not fill one global batch."""
        if num_samples < self.global_batch:
            processes = f" x {self.world_size} processes" if self.world_size > 1 else ""
            raise DataError(
                f"{name} has {num_samples} video{'' if num_samples == 1 else 's'}, too few for one batch of "
                f"{self.global_batch} ({self.batch_size}{processes}); lower --batch_size or add videos"
            )


def require_common_position(cursors: Sequence[Cursor]) -> int:
    """The position at which all processes stood."""
    positions = sorted({int(cursor["position"]) for cursor in cursors})
    if len(positions) != 1:
        raise DataError(
            f"the saved positions of the processes differ ({positions[0]} and {positions[-1]}), so they are of "
            f"different steps; resume from another checkpoint"
        )
    return positions[0]


def epoch_permutation(size: int, *, seed: int, epoch: int) -> torch.Tensor:
    """The order of one epoch."""
    generator = torch.Generator().manual_seed(stable_seed("order", seed, epoch))
    return torch.randperm(size, generator=generator)


class InfiniteShuffle:
    """The endless order of a source whose samples can be had in any order: position p lies in epoch p // n."""

    def __init__(self, source: Source, *, seed: int) -> None:
        self.source, self.seed = source, seed
        self.size = len(source)
        self._orders: dict[int, torch.Tensor] = {}

    def at(self, position: int) -> SampleRef:
        """The draw at a position."""
        epoch, place = divmod(position, self.size)
        return SampleRef(epoch, self.source[int(self._order(epoch)[place])])

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            # Two epochs meet in a batch, and replacements come from the next one.
            for old in sorted(self._orders)[:-2]:
                del self._orders[old]
            self._orders[epoch] = epoch_permutation(self.size, seed=self.seed, epoch=epoch)
        return self._orders[epoch]


class MapStyleSampler:
    """The order of a source whose samples can be had in any order."""

    def __init__(self, source: Source, share: RankInfo, *, start_step: int = 0) -> None:
        self.share, self._order = share, InfiniteShuffle(source, seed=share.seed)
        self.size = self._order.size
        share.check_size(self.size, name=source.name)
        self.start: Cursor = {"position": start_step * share.global_batch}
        self.steps_per_epoch: int | None = self.size // share.global_batch

    def merge_cursors(self, cursors: Sequence[Cursor]) -> Cursor:
        """The one position of all processes."""
        return {"position": require_common_position(cursors)}

    def batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        """One job per step, for ever."""
        step = self.share.global_batch
        for position in count(cursor["position"], step):
            yield BatchSpec(after={"position": position + step}, position=position)

    def sample_refs(self, batch_spec: BatchSpec) -> tuple[Iterator[SampleRef], Iterator[SampleRef]]:
        """A bad sample is replaced by what this rank draws in the steps to come."""
        share = self.share
        first = batch_spec.position + share.rank * share.batch_size
        later = (first + steps_ahead * share.global_batch for steps_ahead in count(1))
        replacements = (self._order.at(start + slot) for start in later for slot in range(share.batch_size))
        return (self._order.at(first + slot) for slot in range(share.batch_size)), replacements

    def epoch(self, cursor: Cursor) -> int:
        """Of the next sample."""
        return cursor["position"] // self.size

    def add_replacements(self, most: int) -> bool:
        """Return False: any video of the data set is at hand."""
        return False


class CanonicalRank:
    """One of the endless sequences that a streamed source is dealt into, read from a place on.

    With at least as many shards as lanes, each epoch deals the shards out to the lanes; with fewer, every lane reads
    all shards and takes each `num_canonical_ranks`-th sample.

    Args:
        source: what is read.
        number: of this lane, counted from 0.
        num_canonical_ranks: number of lanes.
        seed: of the order.
        shuffle_buffer_bytes: encoded videos held to shuffle.
        place: where to begin.
        is_sole_reader: whether no other process reads this lane. Several that do must see the same order, so none of them puts
            a shard back: they wait for it.
        min_samples: samples that an epoch of it must have.
    """

    def __init__(
        self,
        source: StreamedSource,
        *,
        number: int,
        num_canonical_ranks: int,
        seed: int,
        shuffle_buffer_bytes: int,
        place: CanonicalRankState,
        is_sole_reader: bool,
        min_samples: int,
    ) -> None:
        self.source, self.number, self.num_canonical_ranks, self.seed = source, number, num_canonical_ranks, seed
        self.shuffle_buffer_bytes, self.is_sole_reader, self.min_samples = (
            shuffle_buffer_bytes,
            is_sole_reader,
            min_samples,
        )
        self.place = place
        self._stream = self._iter_sample_refs(place)
        self._peeked: deque[tuple[SampleRef, CanonicalRankState]] = deque()

    def take(self) -> SampleRef:
        """The next draw; `place` is then behind it."""
        self.peek(1)
        sample_ref, self.place = self._peeked.popleft()
        return sample_ref

    def peek(self, count: int) -> list[SampleRef]:
        """The next few draws, which stay to be taken."""
        self._peeked.extend(islice(self._stream, max(0, count - len(self._peeked))))
        return [sample_ref for sample_ref, _ in islice(self._peeked, count)]

    def _iter_sample_refs(self, place: CanonicalRankState) -> Iterator[tuple[SampleRef, CanonicalRankState]]:
        """Each draw, and the place behind it. The place's offset may lie beyond its epoch."""
        skip = place["offset"]
        for epoch in count(place["epoch"]):
            drawn = 0
            put_back: DeferredShards = list(place["put_back"]) if epoch == place["epoch"] else []
            for drawn, sample in enumerate(self._epoch(epoch, put_back), start=1):
                if drawn > skip:
                    yield SampleRef(epoch, sample), {"epoch": epoch, "offset": drawn, "put_back": list(put_back)}
            skip = max(0, skip - drawn)
            if drawn < self.min_samples:
                raise DataError(
                    f"{self.source.name} has {drawn} videos for process {self.number} of {self.num_canonical_ranks}, "
                    f"too few for one batch of {self.min_samples}; lower --batch_size or add videos"
                )

    def _epoch(self, epoch: int, put_back: DeferredShards) -> Iterator[Sample]:
        """One epoch; `put_back` says what to put back, and is added to."""
        shards = epoch_permutation(self.source.num_shards, seed=self.seed, epoch=epoch).tolist()
        if self.source.num_shards >= self.num_canonical_ranks:
            samples = self._read(shards[self.number :: self.num_canonical_ranks], put_back)
        else:
            # All lanes must be dealt from the same order here: again nothing is put back.
            every = chain.from_iterable(self.source.read_shard(shard) for shard in shards)
            samples = islice(every, self.number, None, self.num_canonical_ranks)
        rng = random.Random(stable_seed("window", self.seed, epoch, self.number, self.num_canonical_ranks))
        return shuffle_with_buffer(samples, rng=rng, max_bytes=self.shuffle_buffer_bytes)

    def _read(self, shards: list[int], put_back: DeferredShards) -> Iterator[Sample]:
        """All samples of the shards; one that stays out of reach is put back behind the others, and tried later."""
        waiting, recorded_deferrals = deque((shard, 0) for shard in shards), deque(put_back)
        failed = 0
        while waiting:
            shard, read = waiting.popleft()
            if recorded_deferrals and recorded_deferrals[0][0] == shard:
                # As in the run that this one goes on with.
                stop = recorded_deferrals.popleft()[1]
                yield from islice(self.source.read_shard(shard), read, stop)
                waiting.append((shard, stop))
                continue
            # With all others out of reach as well there is nothing to do but wait.
            retry_seconds = shard_retry_seconds() if self.is_sole_reader and failed < len(waiting) else None
            try:
                for sample in islice(self.source.read_shard(shard, retry_seconds=retry_seconds), read, None):
                    read, failed = read + 1, 0
                    yield sample
            except SourceUnavailable as error:
                if retry_seconds is None:
                    raise
                logger.warning("shard %d of %s is put back, to be tried later: %s", shard, self.source.name, error)
                put_back.append([shard, read])
                waiting.append((shard, read))
                failed += 1


def shuffle_with_buffer(
    samples: Iterator[Sample], *, rng: random.Random, max_bytes: int, max_samples: int = SHUFFLE_BUFFER_SAMPLES
) -> Iterator[Sample]:
    """Shuffle a stream by a window that holds at most `max_bytes` of encoded videos (or one larger video)."""
    buffer: list[Sample] = []
    size = 0
    for sample in samples:
        while buffer and (size + sample.num_bytes > max_bytes or len(buffer) >= max_samples):
            chosen = _pop_random(buffer, rng)
            size -= chosen.num_bytes
            yield chosen
        buffer.append(sample)
        size += sample.num_bytes
    while buffer:
        yield _pop_random(buffer, rng)


def _pop_random(buffer: list[Sample], rng: random.Random) -> Sample:
    place = rng.randrange(len(buffer))
    buffer[place], buffer[-1] = buffer[-1], buffer[place]
    return buffer.pop()


def prefetch_batch_specs(batch_specs: Iterator[BatchSpec]) -> Iterator[BatchSpec]:
    """Work out the next job while the last one is used; the thread starts only after the workers were forked."""
    canceled = threading.Event()
    thread = ThreadPoolExecutor(1, "read-ahead", initializer=cancel_waits_on, initargs=(canceled,))
    try:
        next_batch_spec = thread.submit(_read, batch_specs)
        while True:
            batch_spec = next_batch_spec.result()
            next_batch_spec = thread.submit(_read, batch_specs)
            yield batch_spec
    finally:
        canceled.set()
        thread.shutdown(wait=False, cancel_futures=True)


def _read(batch_specs: Iterator[BatchSpec]) -> BatchSpec:
    begun = time.perf_counter()
    batch_spec = next(batch_specs)
    return replace(batch_spec, read_seconds=time.perf_counter() - begun)
