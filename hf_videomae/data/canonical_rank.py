"""Read the endless shuffled samples of a stream for one canonical rank (a rank that the run began with), resumably.

Each epoch shuffles the shards, then samples within a shuffle buffer that is bounded in bytes. The order
depends on the seed, the epoch, the canonical rank and their number.

If the network does not deliver a shard, it is deferred: read later, behind the other shards. The state records which
shard was deferred and after how many samples. A resume reads the current epoch again up to where the run was, and
defers the same shards at the same samples:

    shards of the epoch         2 0 1, with 3 samples each; the network fails after the first sample of shard 0
    samples before the shuffle  2#0 2#1 2#2  0#0  1#0 1#1 1#2  0#1 0#2
    in the state                "put_back": [[0, 1]]
"""

import logging
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any

from ..errors import DataError
from ..hub.retry import SourceUnavailable, shard_retry_seconds
from .clips import stable_seed
from .sampler import SampleRef, epoch_permutation
from .source import Sample, StreamedSource

logger = logging.getLogger(__name__)

DeferredShards = list[list[int]]
"""Deferred shards of the current epoch, in order: [shard, samples read before the network failed]."""
CanonicalRankState = dict[str, Any]
"""Where a canonical rank stands: `epoch`, `offset` (samples drawn of it) and `put_back` (its `DeferredShards`)."""
SHUFFLE_BUFFER_BYTES = 128 * 2**20
SHUFFLE_BUFFER_SAMPLES = 8192


@dataclass(kw_only=True, eq=False)
class CanonicalRank:
    """The endless shuffled samples of one share of a stream; as many shares as ranks at the start.

    With at least as many shards as canonical ranks, each epoch shares out the shards; with fewer, every canonical rank
    reads all shards and takes each `num_canonical_ranks`-th sample.

    Attributes:
        source: what to read.
        number: this canonical rank, counted from 0.
        num_canonical_ranks: how many there are.
        seed: of the order.
        shuffle_buffer_bytes: encoded videos held to shuffle.
        state: where to begin; then where it stands, behind the last sample taken.
        is_sole_reader: whether only one process reads this canonical rank. Several readers must see the same order,
            so they wait for a shard and never defer it.
        min_samples: samples that an epoch must have.
    """

    source: StreamedSource
    number: int
    num_canonical_ranks: int
    seed: int
    shuffle_buffer_bytes: int
    state: CanonicalRankState
    is_sole_reader: bool
    min_samples: int

    def __post_init__(self) -> None:
        self._stream = self._iter_sample_refs(self.state)
        self._peeked: deque[tuple[SampleRef, CanonicalRankState]] = deque()

    def take(self) -> SampleRef:
        """Return the next sample, and advance `state`."""
        self.peek(1)
        sample_ref, self.state = self._peeked.popleft()
        return sample_ref

    def peek(self, count: int) -> list[SampleRef]:
        """Return the next few samples without taking them."""
        self._peeked.extend(islice(self._stream, max(0, count - len(self._peeked))))
        return [sample_ref for sample_ref, _ in islice(self._peeked, count)]

    def _iter_sample_refs(self, state: CanonicalRankState) -> Iterator[tuple[SampleRef, CanonicalRankState]]:
        """Yield each sample with the state behind it. The offset to begin at may lie beyond its epoch."""
        skip = state["offset"]
        for epoch in count(state["epoch"]):
            drawn = 0
            deferred: DeferredShards = list(state["put_back"]) if epoch == state["epoch"] else []
            for drawn, sample in enumerate(self._iter_epoch(epoch, deferred), start=1):
                if drawn > skip:
                    yield SampleRef(epoch, sample), {"epoch": epoch, "offset": drawn, "put_back": list(deferred)}
            skip = max(0, skip - drawn)
            if drawn < self.min_samples:
                raise DataError(
                    f"{self.source.name} has {drawn} videos for process {self.number} of {self.num_canonical_ranks}, "
                    f"too few for one batch of {self.min_samples}; lower --batch_size or add videos"
                )

    def _iter_epoch(self, epoch: int, deferred: DeferredShards) -> Iterator[Sample]:
        """Yield the shuffled samples of one epoch. Defer the shards in `deferred`, and append newly deferred ones."""
        shards = epoch_permutation(self.source.num_shards, seed=self.seed, epoch=epoch).tolist()
        if self.source.num_shards >= self.num_canonical_ranks:
            samples = self._read_shards(shards[self.number :: self.num_canonical_ranks], deferred)
        else:
            # All canonical ranks must take turns over the same order, so no shard is deferred.
            all_samples = chain.from_iterable(self.source.read_shard(shard) for shard in shards)
            samples = islice(all_samples, self.number, None, self.num_canonical_ranks)
        rng = random.Random(stable_seed("window", self.seed, epoch, self.number, self.num_canonical_ranks))
        return shuffle_with_buffer(samples, rng=rng, max_bytes=self.shuffle_buffer_bytes)

    def _read_shards(self, shards: list[int], deferred: DeferredShards) -> Iterator[Sample]:
        """Yield all samples of the shards; a shard that stays unavailable is deferred behind the others."""
        waiting, recorded_deferrals = deque((shard, 0) for shard in shards), deque(deferred)
        failed = 0
        while waiting:
            shard, read = waiting.popleft()
            if recorded_deferrals and recorded_deferrals[0][0] == shard:
                # Defer it where the resumed run did.
                stop = recorded_deferrals.popleft()[1]
                yield from islice(self.source.read_shard(shard), read, stop)
                waiting.append((shard, stop))
                continue
            # If all others are unavailable too, there is nothing to do but wait.
            retry_seconds = shard_retry_seconds() if self.is_sole_reader and failed < len(waiting) else None
            try:
                for sample in islice(self.source.read_shard(shard, retry_seconds=retry_seconds), read, None):
                    read, failed = read + 1, 0
                    yield sample
            except SourceUnavailable as error:
                if retry_seconds is None:
                    raise
                logger.warning("shard %d of %s is put back, to be tried later: %s", shard, self.source.name, error)
                deferred.append([shard, read])
                waiting.append((shard, read))
                failed += 1


def shuffle_with_buffer(
    samples: Iterator[Sample], *, rng: random.Random, max_bytes: int, max_samples: int = SHUFFLE_BUFFER_SAMPLES
) -> Iterator[Sample]:
    """Shuffle a stream with a buffer that holds at most `max_bytes` of encoded videos (or one larger video)."""
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
    index = rng.randrange(len(buffer))
    buffer[index], buffer[-1] = buffer[-1], buffer[index]
    return buffer.pop()
