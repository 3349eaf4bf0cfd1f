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

from .collate import stable_seed
from .network import SourceUnavailable, shard_seconds, stop_waiting_on
from .samples import DataError, Sample, Source, StreamedSource

logger = logging.getLogger(__name__)

Cursor = dict[str, Any]
"""JSON-able: where a plan stands."""
PutBack = list[list[int]]
"""Of the current epoch, in order: [shard, samples of it that were read before the network failed]."""
LanePlace = dict[str, Any]
"""Where a lane stands: `epoch`, `offset` (samples of it that were drawn) and `put_back`."""
WINDOW_BYTES = 128 * 2**20
WINDOW_SAMPLES = 8192


class Draw(NamedTuple):
    """A sample, and the epoch whose randomness it gets."""

    epoch: int
    sample: Sample


class Place(NamedTuple):
    """A sample that the worker looks up itself: which data set of a mix, and the position in its endless order."""

    part: int
    position: int


@dataclass(frozen=True, slots=True)
class Job:
    """What one batch is made of.

    Attributes:
        after: where the plan stands once this batch has been used.
        position: in the endless stream, of a seekable source alone.
        draws, spares: else the batch's samples and what replaces bad ones among them.
        read_seconds: that reading them took; for people alone.
    """

    after: Cursor
    position: int = 0
    draws: tuple[Draw | Place, ...] = ()
    spares: tuple[Draw | Place, ...] = ()
    read_seconds: float = 0.0


class Plan(Protocol):
    """The order of one rank."""

    share: "Share"
    start: Cursor
    steps_per_epoch: int | None

    def accept(self, cursors: Sequence[Cursor]) -> Cursor:
        """Where to go on after a run whose processes, however many, stood at these places.

        Raises:
            DataError: when they are of another plan.
        """

    def jobs(self, cursor: Cursor) -> Iterator[Job]:
        """The endless batches from a cursor on; in the training process."""

    def draws(self, job: Job) -> tuple[Iterator[Draw], Iterator[Draw]]:
        """The samples of a batch, and what replaces bad ones, in order; in any process."""

    def epoch(self, cursor: Cursor) -> int:
        """Of the next sample."""

    def widen(self, most: int) -> bool:
        """Have more videos at hand to replace bad ones, up to `most`; False: there are as many already."""


@dataclass(frozen=True, kw_only=True)
class Share:
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


def common_position(cursors: Sequence[Cursor]) -> int:
    """The position at which all processes stood."""
    positions = sorted({int(cursor["position"]) for cursor in cursors})
    if len(positions) != 1:
        raise DataError(
            f"the saved positions of the processes differ ({positions[0]} and {positions[-1]}), so they are of "
            f"different steps; resume from another checkpoint"
        )
    return positions[0]


def permutation(size: int, *, seed: int, epoch: int) -> torch.Tensor:
    """The order of one epoch."""
    generator = torch.Generator().manual_seed(stable_seed("order", seed, epoch))
    return torch.randperm(size, generator=generator)


class EndlessOrder:
    """The endless order of a source whose samples can be had in any order: position p lies in epoch p // n."""

    def __init__(self, source: Source, *, seed: int) -> None:
        self.source, self.seed = source, seed
        self.size = len(source)
        self._orders: dict[int, torch.Tensor] = {}

    def at(self, position: int) -> Draw:
        """The draw at a position."""
        epoch, place = divmod(position, self.size)
        return Draw(epoch, self.source[int(self._order(epoch)[place])])

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            # Two epochs meet in a batch, and replacements come from the next one.
            for old in sorted(self._orders)[:-2]:
                del self._orders[old]
            self._orders[epoch] = permutation(self.size, seed=self.seed, epoch=epoch)
        return self._orders[epoch]


class SeekablePlan:
    """The order of a source whose samples can be had in any order."""

    def __init__(self, source: Source, share: Share, *, start_step: int = 0) -> None:
        self.share, self._order = share, EndlessOrder(source, seed=share.seed)
        self.size = self._order.size
        share.check_size(self.size, name=source.name)
        self.start: Cursor = {"position": start_step * share.global_batch}
        self.steps_per_epoch: int | None = self.size // share.global_batch

    def accept(self, cursors: Sequence[Cursor]) -> Cursor:
        """The one position of all processes."""
        return {"position": common_position(cursors)}

    def jobs(self, cursor: Cursor) -> Iterator[Job]:
        """One job per step, for ever."""
        step = self.share.global_batch
        for position in count(cursor["position"], step):
            yield Job(after={"position": position + step}, position=position)

    def draws(self, job: Job) -> tuple[Iterator[Draw], Iterator[Draw]]:
        """A bad sample is replaced by what this rank draws in the steps to come."""
        share = self.share
        first = job.position + share.rank * share.batch_size
        later = (first + ahead * share.global_batch for ahead in count(1))
        replacements = (self._order.at(start + slot) for start in later for slot in range(share.batch_size))
        return (self._order.at(first + slot) for slot in range(share.batch_size)), replacements

    def epoch(self, cursor: Cursor) -> int:
        """Of the next sample."""
        return cursor["position"] // self.size

    def widen(self, most: int) -> bool:
        """Return False: any video of the data set is at hand."""
        return False


class Lane:
    """One of the endless sequences that a streamed source is dealt into, read from a place on.

    With at least as many shards as lanes, each epoch deals the shards out to the lanes; with fewer, every lane reads
    all shards and takes each `of`-th sample.

    Args:
        source: what is read.
        number: of this lane, counted from 0.
        of: number of lanes.
        seed: of the order.
        window_bytes: encoded videos held to shuffle.
        place: where to begin.
        alone: whether no other process reads this lane. Several that do must see the same order, so none of them puts
            a shard back: they wait for it.
        least: samples that an epoch of it must have.
    """

    def __init__(
        self,
        source: StreamedSource,
        *,
        number: int,
        of: int,
        seed: int,
        window_bytes: int,
        place: LanePlace,
        alone: bool,
        least: int,
    ) -> None:
        self.source, self.number, self.of, self.seed = source, number, of, seed
        self.window_bytes, self.alone, self.least = window_bytes, alone, least
        self.place = place
        self._stream = self._draws(place)
        self._ahead: deque[tuple[Draw, LanePlace]] = deque()

    def take(self) -> Draw:
        """The next draw; `place` is then behind it."""
        self.peek(1)
        draw, self.place = self._ahead.popleft()
        return draw

    def peek(self, count: int) -> list[Draw]:
        """The next few draws, which stay to be taken."""
        self._ahead.extend(islice(self._stream, max(0, count - len(self._ahead))))
        return [draw for draw, _ in islice(self._ahead, count)]

    def _draws(self, place: LanePlace) -> Iterator[tuple[Draw, LanePlace]]:
        """Each draw, and the place behind it. The place's offset may lie beyond its epoch."""
        skip = place["offset"]
        for epoch in count(place["epoch"]):
            drawn = 0
            put_back: PutBack = list(place["put_back"]) if epoch == place["epoch"] else []
            for drawn, sample in enumerate(self._epoch(epoch, put_back), start=1):
                if drawn > skip:
                    yield Draw(epoch, sample), {"epoch": epoch, "offset": drawn, "put_back": list(put_back)}
            skip = max(0, skip - drawn)
            if drawn < self.least:
                raise DataError(
                    f"{self.source.name} has {drawn} videos for process {self.number} of {self.of}, "
                    f"too few for one batch of {self.least}; lower --batch_size or add videos"
                )

    def _epoch(self, epoch: int, put_back: PutBack) -> Iterator[Sample]:
        """One epoch; `put_back` says what to put back, and is added to."""
        shards = permutation(self.source.num_shards, seed=self.seed, epoch=epoch).tolist()
        if self.source.num_shards >= self.of:
            samples = self._read(shards[self.number :: self.of], put_back)
        else:
            # All lanes must be dealt from the same order here: again nothing is put back.
            every = chain.from_iterable(self.source.read_shard(shard) for shard in shards)
            samples = islice(every, self.number, None, self.of)
        rng = random.Random(stable_seed("window", self.seed, epoch, self.number, self.of))
        return shuffle_window(samples, rng=rng, max_bytes=self.window_bytes)

    def _read(self, shards: list[int], put_back: PutBack) -> Iterator[Sample]:
        """All samples of the shards; one that stays out of reach is put back behind the others, and tried later."""
        waiting, again = deque((shard, 0) for shard in shards), deque(put_back)
        failed = 0
        while waiting:
            shard, read = waiting.popleft()
            if again and again[0][0] == shard:
                # As in the run that this one goes on with.
                stop = again.popleft()[1]
                yield from islice(self.source.read_shard(shard), read, stop)
                waiting.append((shard, stop))
                continue
            # With all others out of reach as well there is nothing to do but wait.
            patience = shard_seconds() if self.alone and failed < len(waiting) else None
            try:
                for sample in islice(self.source.read_shard(shard, patience=patience), read, None):
                    read, failed = read + 1, 0
                    yield sample
            except SourceUnavailable as error:
                if patience is None:
                    raise
                logger.warning("shard %d of %s is put back, to be tried later: %s", shard, self.source.name, error)
                put_back.append([shard, read])
                waiting.append((shard, read))
                failed += 1


def shuffle_window(
    samples: Iterator[Sample], *, rng: random.Random, max_bytes: int, max_samples: int = WINDOW_SAMPLES
) -> Iterator[Sample]:
    """Shuffle a stream by a window that holds at most `max_bytes` of encoded videos (or one larger video)."""
    held: list[Sample] = []
    size = 0
    for sample in samples:
        while held and (size + sample.num_bytes > max_bytes or len(held) >= max_samples):
            chosen = _take_any(held, rng)
            size -= chosen.num_bytes
            yield chosen
        held.append(sample)
        size += sample.num_bytes
    while held:
        yield _take_any(held, rng)


def _take_any(held: list[Sample], rng: random.Random) -> Sample:
    place = rng.randrange(len(held))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()


def read_ahead(jobs: Iterator[Job]) -> Iterator[Job]:
    """Work out the next job while the last one is used; the thread starts only after the workers were forked."""
    called_off = threading.Event()
    thread = ThreadPoolExecutor(1, "read-ahead", initializer=stop_waiting_on, initargs=(called_off,))
    try:
        coming = thread.submit(_read, jobs)
        while True:
            job = coming.result()
            coming = thread.submit(_read, jobs)
            yield job
    finally:
        called_off.set()
        thread.shutdown(wait=False, cancel_futures=True)


def _read(jobs: Iterator[Job]) -> Job:
    begun = time.perf_counter()
    job = next(jobs)
    return replace(job, read_seconds=time.perf_counter() - begun)
