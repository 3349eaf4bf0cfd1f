"""Order the samples of streamed sources and of mixes, so that a run can resume with any number of ranks.

The order belongs to *canonical ranks*: one for each rank that the run began with, kept for good. Each canonical rank
has endless sequences of its own, one per streamed source (`canonical_rank.py`). `interleave.py` says which source and
which canonical rank each slot of the run belongs to, whatever the number of ranks.

A step of B samples on each of R ranks covers the next B * R slots. Sorted by canonical rank, they are cut into R runs,
and rank r takes the r-th. Example: one source, two canonical ranks, global batch 4. Slots 0, 2, 4, 6 ... belong to
canonical rank 0 and slots 1, 3, 5, 7 ... to canonical rank 1.

    step 0, sorted        0  2  1  3
    2 ranks with B = 2    rank 0: 0 2            rank 1: 1 3              each reads its own canonical rank
    1 rank with B = 4     rank 0: 0 2 1 3                                 one rank reads both
    4 ranks with B = 1    rank 0: 0    rank 1: 2    rank 2: 1    rank 3: 3    two ranks read the same canonical rank

All three train on the same batches. If the global batch is not a multiple of the canonical ranks, the cuts are
elsewhere in every step, and every rank reads all canonical ranks.

The training process reads the streams, one batch ahead in a thread; the workers get the encoded videos.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from typing import Any

from ..errors import DataError
from ..hub.retry import cancel_waits_on
from .canonical_rank import SHUFFLE_BUFFER_BYTES, CanonicalRank, CanonicalRankState
from .interleave import DrawnCounts, InterleaveSchedule
from .sampler import (
    BatchSpec,
    Cursor,
    InfiniteShuffle,
    RankInfo,
    SampleIndex,
    SampleRef,
    require_common_position,
)
from .source import AnySource, Source, StreamedSource, num_videos

# Each travels to the worker with its bytes. With fewer, a small batch would soon have no replacement left.
_DEFAULT_REPLACEMENTS = 3


class StreamSampler:
    """The order of one streamed source, or of several sources of any kind by weights.

    A cursor holds the `position` (the next slot), the counts `dealt` before its row, the `weights`, and in `lanes` the
    state of each canonical rank of each part: None for one that this rank does not read, and for map-style parts.

    Args:
        parts: the sources.
        rank_info: which part of the data this rank takes.
        weights: whole numbers, one for each source.
        shuffle_buffer_bytes: encoded videos held to shuffle, for each streamed source and canonical rank that is read.
    """

    def __init__(
        self,
        parts: Sequence[AnySource],
        rank_info: RankInfo,
        *,
        weights: Sequence[int] = (1,),
        shuffle_buffer_bytes: int = SHUFFLE_BUFFER_BYTES,
    ) -> None:
        self.rank_info, self.weights, self.shuffle_buffer_bytes = rank_info, tuple(weights), shuffle_buffer_bytes
        self.names = [part.name for part in parts]
        self._streams = [part if isinstance(part, StreamedSource) else None for part in parts]
        self._orders = [InfiniteShuffle(p, seed=rank_info.seed) if isinstance(p, Source) else None for p in parts]
        sizes = [num_videos(part) for part in parts]
        for part, size in enumerate(sizes):
            if size is not None:
                self._check_source_size(part, size)
        known = [size for size in sizes if size is not None]
        self._size = sum(known) if len(known) == len(sizes) else None
        self.steps_per_epoch = None if self._size is None else self._size // rank_info.global_batch
        self.start = self._start_cursor()
        self._default_replacements = self._num_replacements = _DEFAULT_REPLACEMENTS + rank_info.batch_size // 16

    def merge_cursors(self, cursors: Sequence[Cursor]) -> Cursor:
        """Return one cursor with the states of all canonical ranks.

        Raises:
            DataError: when the saved run mixed other datasets, or by other weights.
        """
        position, first = require_common_position(cursors), cursors[0]
        if list(first["weights"]) != list(self.weights):
            raise DataError(
                f"the saved position belongs to a mix of {len(first['weights'])} datasets by the weights "
                f"{_format_weights(first['weights'])}, this is one of {len(self.weights)} by "
                f"{_format_weights(self.weights)}; give the same datasets and --dataset_weights, or start a new run "
                f"from the weights of the model"
            )
        states_of_parts = zip(*(cursor["lanes"] for cursor in cursors), strict=True)
        merged = [[_first_known_state(states) for states in zip(*part, strict=True)] for part in states_of_parts]
        return {**first, "position": position, "lanes": merged}

    def iter_batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        """Yield one spec per step, without end, each read one step ahead in a thread."""
        return _prefetch_batch_specs(self._read_batch_specs(cursor))

    def resolve_samples(self, batch_spec: BatchSpec) -> tuple[Iterator[SampleRef], Iterator[SampleRef]]:
        """Return the samples of a batch and the replacements for bad ones.

        Replacements are the next samples of the stream, then the other samples of the batch, and so on in a cycle.
        Those beyond the default number come last, so that they change nothing if the default number is enough.
        """
        default, more = (
            batch_spec.replacement_refs[: self._default_replacements],
            batch_spec.replacement_refs[self._default_replacements :],
        )
        replacements = cycle((*default, *batch_spec.sample_refs, *more))
        return map(self._resolve, batch_spec.sample_refs), map(self._resolve, replacements)

    def add_replacements(self, most: int) -> bool:
        """Quadruple the replacements of a batch, up to what `most` tries need; return False if there are that many."""
        enough = max(self._default_replacements, most - self.rank_info.batch_size)
        if self._num_replacements >= enough:
            return False
        self._num_replacements = min(4 * self._num_replacements, enough)
        return True

    def epoch(self, cursor: Cursor) -> int:
        """Return the passes over the data, counted in draws for a mix whose size is known.

        If the size is not known: the fewest passes over any part.
        """
        if self._size is not None and len(self.names) > 1:
            return int(cursor["position"]) // self._size
        passes = [state["epoch"] for part in cursor["lanes"] for state in part if state is not None]
        for order, drawn in zip(self._orders, cursor["dealt"], strict=True):
            passes += [] if order is None else [sum(drawn) // order.size]
        return min(passes)

    def __getstate__(self) -> dict[str, Any]:
        # Workers get the samples of streams with the spec, so they need no stream.
        return {**self.__dict__, "_streams": [None] * len(self._streams)}

    # Cursors and canonical ranks.

    def _check_source_size(self, part: int, size: int) -> None:
        if len(self.names) == 1:
            self.rank_info.check_size(size, name=self.names[part])
        wanted = self._max_slots(part, self.rank_info.global_batch)
        if size < wanted:
            raise DataError(
                f"{self.names[part]} has {size} video{'' if size == 1 else 's'}, too few for its {wanted} of a "
                f"batch of {self.rank_info.global_batch}; lower its weight (--dataset_weights) or "
                f"--batch_size, or add videos"
            )

    def _max_slots(self, part: int, slots: int) -> int:
        """Return how many of so many slots a part has at most."""
        return -(-slots * self.weights[part] // sum(self.weights))

    def _start_cursor(self) -> Cursor:
        canonical_ranks = range(self.rank_info.world_size)
        states: list[list[CanonicalRankState | None]] = [
            [None if stream is None else {"epoch": 0, "offset": 0, "put_back": []} for _ in canonical_ranks]
            for stream in self._streams
        ]
        return self._make_cursor(0, [[0] * len(canonical_ranks) for _ in self.weights], states)

    def _make_cursor(
        self, position: int, drawn_counts: DrawnCounts, states: list[list[CanonicalRankState | None]]
    ) -> Cursor:
        return {"position": position, "dealt": drawn_counts, "lanes": states, "weights": list(self.weights)}

    def _reader_ranks(self, canonical_rank: int, *, slots_per_step: int | None) -> range:
        """Return the ranks that read a canonical rank with `slots_per_step` slots in every step; None: they vary."""
        if slots_per_step is None:
            return range(self.rank_info.world_size)
        first, last = canonical_rank * slots_per_step, (canonical_rank + 1) * slots_per_step - 1
        return range(first // self.rank_info.batch_size, last // self.rank_info.batch_size + 1)

    def _open_canonical_ranks(
        self, cursor: Cursor, *, slots_per_step: int | None
    ) -> dict[tuple[int, int], CanonicalRank]:
        """Open the canonical ranks of streams that this rank reads, by (part, number)."""
        num_canonical_ranks = len(cursor["dealt"][0])
        slots = -(-self.rank_info.global_batch // num_canonical_ranks)
        opened = {}
        for part, stream in enumerate(self._streams):
            for number, state in enumerate(cursor["lanes"][part]) if stream is not None else ():
                readers = self._reader_ranks(number, slots_per_step=slots_per_step)
                if self.rank_info.rank not in readers:
                    continue
                if state is None:
                    raise DataError(
                        f"the saved position lacks a part of {self.names[part]} that this process must read; resume "
                        f"from a complete checkpoint (Loader.load_states takes the states of all its processes)"
                    )
                assert stream is not None
                opened[part, number] = CanonicalRank(
                    source=stream,
                    number=number,
                    num_canonical_ranks=num_canonical_ranks,
                    seed=self.rank_info.seed,
                    shuffle_buffer_bytes=self.shuffle_buffer_bytes,
                    state=state,
                    is_sole_reader=len(readers) == 1,
                    min_samples=self._max_slots(part, slots),
                )
        return opened

    # Batches.

    def _read_batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        """Yield the specs of this rank: take the slots of a step, read its samples, and record where all stand."""
        size, step = self.rank_info.batch_size, self.rank_info.global_batch
        num_canonical_ranks = len(cursor["dealt"][0])
        is_even = step % num_canonical_ranks == 0 and cursor["position"] % num_canonical_ranks == 0
        slots_per_step = step // num_canonical_ranks if is_even else None
        opened = self._open_canonical_ranks(cursor, slots_per_step=slots_per_step)
        numbers = [
            number
            for number in range(num_canonical_ranks)
            if self.rank_info.rank in self._reader_ranks(number, slots_per_step=slots_per_step)
        ]
        wanted = range(numbers[0], numbers[-1] + 1)
        schedule = InterleaveSchedule(
            self.weights, cursor["dealt"], position=cursor["position"], canonical_ranks=wanted
        )
        skip = self.rank_info.rank * size - numbers[0] * (slots_per_step or 0)
        while True:
            slots = schedule.take(step)
            # All of them are read, because this rank's part begins behind those of other ranks.
            sample_refs = [
                self._take_ref(opened.get((slot.part, slot.canonical_rank)), part=slot.part, number=slot.number)
                for slot in slots
            ][skip : skip + size]
            states: list[list[CanonicalRankState | None]] = [
                [opened[part, n].state if (part, n) in opened else None for n in range(num_canonical_ranks)]
                for part in range(len(self.names))
            ]
            next_cursor = self._make_cursor(schedule.position, schedule.drawn_counts, states)
            last = slots[skip + size - 1].canonical_rank
            replacement_refs = self._peek_replacements(schedule, opened, canonical_rank=last)
            yield BatchSpec(next_cursor, sample_refs=tuple(sample_refs), replacement_refs=replacement_refs)

    def _take_ref(self, stream: CanonicalRank | None, *, part: int, number: int) -> SampleRef | SampleIndex:
        return SampleIndex(part, number) if stream is None else self._with_source_prefix(part, stream.take())

    def _peek_replacements(
        self, schedule: InterleaveSchedule, opened: dict[tuple[int, int], CanonicalRank], *, canonical_rank: int
    ) -> tuple[SampleRef | SampleIndex, ...]:
        """Return the samples that follow in a canonical rank."""
        replacement_refs: list[SampleRef | SampleIndex] = []
        peeked = [0] * len(self.names)
        for slot in schedule.peek(canonical_rank, self._num_replacements):
            stream = opened.get((slot.part, canonical_rank))
            if stream is None:
                replacement_refs.append(SampleIndex(slot.part, slot.number))
            else:
                peeked[slot.part] += 1
                replacement_refs.append(self._with_source_prefix(slot.part, stream.peek(peeked[slot.part])[-1]))
        return tuple(replacement_refs)

    def _resolve(self, ref: SampleRef | SampleIndex) -> SampleRef:
        if isinstance(ref, SampleRef):
            return ref
        order = self._orders[ref.part]
        assert order is not None
        return self._with_source_prefix(ref.part, order.at(ref.position))

    def _with_source_prefix(self, part: int, sample_ref: SampleRef) -> SampleRef:
        """Begin the ids of a mix with the name of the dataset, because two datasets may have the same ids."""
        if len(self.names) == 1:
            return sample_ref
        return SampleRef(sample_ref.epoch, replace(sample_ref.sample, id=f"{self.names[part]}:{sample_ref.sample.id}"))


def _first_known_state(states: Sequence[CanonicalRankState | None]) -> CanonicalRankState | None:
    """Return the state of a canonical rank, saved by any of the ranks that read it."""
    return next((state for state in states if state is not None), None)


def _format_weights(weights: Sequence[int]) -> str:
    return " : ".join(map(str, weights))


def _prefetch_batch_specs(batch_specs: Iterator[BatchSpec]) -> Iterator[BatchSpec]:
    """Read the next spec in a thread while the last one is used. The thread starts after the workers were forked."""

    def read_next() -> BatchSpec:
        begin = time.perf_counter()
        batch_spec = next(batch_specs)
        return replace(batch_spec, read_seconds=time.perf_counter() - begin)

    canceled = threading.Event()
    thread = ThreadPoolExecutor(1, "read-ahead", initializer=cancel_waits_on, initargs=(canceled,))
    try:
        next_batch_spec = thread.submit(read_next)
        while True:
            batch_spec = next_batch_spec.result()
            next_batch_spec = thread.submit(read_next)
            yield batch_spec
    finally:
        canceled.set()
        thread.shutdown(wait=False, cancel_futures=True)
