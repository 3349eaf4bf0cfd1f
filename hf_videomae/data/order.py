"""In which order samples are drawn: a function of the seed, the epoch, the rank and the number of ranks, nothing else.

A plan runs in the training process and yields one job per batch. A job is sent to whichever worker process is free,
and holds all that its batch depends on; so the number of workers changes nothing but the speed.

Seekable sources (any sample can be had at once) need no more than a position: position p of the endless stream is
`permutation(epoch p // n)[p % n]`, step s of B x R samples covers the positions from s * B * R on, and rank r takes
the r-th B of them. Every epoch is exactly the data set, ranks never share a sample, all have the same number of them
for ever, a resume costs nothing, and with the same global batch any number of ranks trains on the same batches.

Streamed sources are read from the front, in the training process alone, whatever the number of workers: shards are
shuffled per epoch, then samples within a window that is bounded in bytes. A shard that the network does not give is
put back behind the others; the cursor says which and where, so that a resume, which reads the current epoch again up
to where it was, puts it back at the same place.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from typing import Any, NamedTuple, Protocol

import torch

from .collate import stable_seed
from .network import SHARD_SECONDS, SourceUnavailable, stop_waiting_on
from .samples import DataError, Sample, Source, StreamedSource

logger = logging.getLogger(__name__)

Cursor = dict[str, Any]
"""JSON-able: where a plan stands."""
PutBack = list[list[int]]
"""Of the current epoch, in order: [shard, samples of it that were read before the network failed]."""
WINDOW_BYTES = 128 * 2**20
WINDOW_SAMPLES = 8192


class Draw(NamedTuple):
    """A sample, and the epoch whose randomness it gets."""

    epoch: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class Job:
    """What one batch is made of.

    Attributes:
        after: where the plan stands once this batch has been used.
        position: in the endless stream, of a seekable source.
        draws, spares: of a streamed source, the batch's samples and what replaces bad ones among them.
        read_seconds: that reading them took; for people alone.
    """

    after: Cursor
    position: int = 0
    draws: tuple[Draw, ...] = ()
    spares: tuple[Draw, ...] = ()
    read_seconds: float = 0.0


class Plan(Protocol):
    """The order of one rank."""

    start: Cursor
    steps_per_epoch: int | None

    def jobs(self, cursor: Cursor) -> Iterator[Job]:
        """The endless batches from a cursor on; in the training process."""

    def draws(self, job: Job) -> tuple[Iterator[Draw], Iterator[Draw]]:
        """The samples of a batch, and what replaces bad ones, in order; in any process."""

    def epoch(self, cursor: Cursor) -> int:
        """Of the next sample."""


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


def permutation(size: int, *, seed: int, epoch: int) -> torch.Tensor:
    """The order of one epoch."""
    generator = torch.Generator().manual_seed(stable_seed("order", seed, epoch))
    return torch.randperm(size, generator=generator)


class SeekablePlan:
    """The order of a source whose samples can be had in any order."""

    def __init__(self, source: Source, share: Share, *, start_step: int = 0) -> None:
        self.source, self.share = source, share
        self.size = len(source)
        share.check_size(self.size, name=source.name)
        self.start: Cursor = {"position": start_step * share.global_batch}
        self.steps_per_epoch: int | None = self.size // share.global_batch
        self._orders: dict[int, torch.Tensor] = {}

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
        replacements = (self._at(start + slot) for start in later for slot in range(share.batch_size))
        return (self._at(first + slot) for slot in range(share.batch_size)), replacements

    def epoch(self, cursor: Cursor) -> int:
        """Of the next sample."""
        return cursor["position"] // self.size

    def _at(self, position: int) -> Draw:
        epoch, place = divmod(position, self.size)
        return Draw(epoch, self.source[int(self._order(epoch)[place])])

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            # Two epochs meet in a batch, and replacements come from the next one.
            for old in sorted(self._orders)[:-2]:
                del self._orders[old]
            self._orders[epoch] = permutation(self.size, seed=self.share.seed, epoch=epoch)
        return self._orders[epoch]


class StreamedPlan:
    """The order of a source that is read shard by shard.

    With at least as many shards as ranks, each epoch deals the shards out to the ranks; with fewer, every rank reads
    all shards and takes each `world_size`-th sample.
    """

    def __init__(
        self, source: StreamedSource, share: Share, *, start_step: int = 0, window_bytes: int = WINDOW_BYTES
    ) -> None:
        self.source, self.share, self.window_bytes = source, share, window_bytes
        self.steps_per_epoch: int | None = None
        if source.num_samples is not None:
            share.check_size(source.num_samples, name=source.name)
            self.steps_per_epoch = source.num_samples // share.global_batch
        self.start = self._cursor(epoch=0, offset=start_step * share.batch_size, put_back=[])
        self._num_spares = 1 + share.batch_size // 16

    def jobs(self, cursor: Cursor) -> Iterator[Job]:
        """One job per step, for ever, read one step ahead in a thread."""
        if cursor["world_size"] != self.share.world_size:
            raise DataError(
                f"this position in {self.source.name} is of a run with {cursor['world_size']} processes, here are "
                f"{self.share.world_size}; a streamed data set resumes with the same number only"
            )
        return _read_ahead(self._jobs(cursor))

    def draws(self, job: Job) -> tuple[Iterator[Draw], Iterator[Draw]]:
        """A bad sample is replaced by one of the next batch's, then by others of its own batch."""
        return iter(job.draws), chain(job.spares, job.draws)

    def epoch(self, cursor: Cursor) -> int:
        """Of the next sample."""
        return cursor["epoch"]

    def __getstate__(self) -> dict[str, Any]:
        # Workers get their samples with the job: they need no source.
        return {**self.__dict__, "source": None}

    def _cursor(self, *, epoch: int, offset: int, put_back: PutBack) -> Cursor:
        return {"epoch": epoch, "offset": offset, "world_size": self.share.world_size, "put_back": put_back}

    def _jobs(self, cursor: Cursor) -> Iterator[Job]:
        stream = self._stream(cursor)
        size = self.share.batch_size
        ahead: deque[tuple[Draw, int, PutBack]] = deque()
        while True:
            ahead.extend(islice(stream, size + self._num_spares - len(ahead)))
            batch = [ahead.popleft() for _ in range(size)]
            last, offset, put_back = batch[-1]
            yield Job(
                after=self._cursor(epoch=last.epoch, offset=offset + 1, put_back=put_back),
                draws=tuple(draw for draw, _, _ in batch),
                spares=tuple(draw for draw, _, _ in ahead),
            )

    def _stream(self, cursor: Cursor) -> Iterator[tuple[Draw, int, PutBack]]:
        """Each draw with its place in its epoch and what was put back until then.

        The cursor's offset may lie beyond its epoch.
        """
        skip = cursor["offset"]
        for epoch in count(cursor["epoch"]):
            drawn = 0
            put_back: PutBack = list(cursor["put_back"]) if epoch == cursor["epoch"] else []
            for drawn, sample in enumerate(self._epoch(epoch, put_back), start=1):
                if drawn > skip:
                    yield Draw(epoch, sample), drawn - 1, list(put_back)
            skip = max(0, skip - drawn)
            if drawn < self.share.batch_size:
                raise DataError(
                    f"{self.source.name} has {drawn} videos for process {self.share.rank} of {self.share.world_size}, "
                    f"too few for one batch of {self.share.batch_size}; lower --batch_size or add videos"
                )

    def _epoch(self, epoch: int, put_back: PutBack) -> Iterator[Sample]:
        """One epoch; `put_back` says what to put back, and is added to."""
        share = self.share
        shards = permutation(self.source.num_shards, seed=share.seed, epoch=epoch).tolist()
        split_shards = self.source.num_shards >= share.world_size
        mine = shards[share.rank :: share.world_size] if split_shards else shards
        if split_shards:
            samples = self._read(mine, put_back)
        else:
            # All ranks must read the same order here, so none puts a shard back: it waits for it.
            every = chain.from_iterable(self.source.read_shard(shard) for shard in mine)
            samples = islice(every, share.rank, None, share.world_size)
        rng = random.Random(stable_seed("window", share.seed, epoch, share.rank, share.world_size))
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
            patience = SHARD_SECONDS if failed < len(waiting) else None
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


def _read_ahead(jobs: Iterator[Job]) -> Iterator[Job]:
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
