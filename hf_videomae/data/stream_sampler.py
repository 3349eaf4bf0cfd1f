"""The order of streamed sources and of mixes of several: lanes, and which rank reads which.

A run has a lane for each rank that it began with, and keeps them whatever the number of ranks later. A lane has an
endless sequence of its own, so the endless stream of slots that `dealing.py` makes of all lanes is the same for any
number of ranks. A step of B x R samples covers the next B * R slots; sorted by lane, they are cut into R runs, and
rank r takes the r-th. As long as there are as many ranks as lanes, each reads its own. With fewer, a rank reads
several lanes; with more, several ranks read the same lane, and each takes its part. Where the global batch is no
multiple of the lanes, the cuts lie elsewhere in every step, and every rank reads all lanes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

from ..errors import DataError
from .interleave import InterleaveSchedule, ScheduleSlot, drawn_after_rows
from .sampler import (
    SHUFFLE_BUFFER_BYTES,
    BatchSpec,
    CanonicalRank,
    CanonicalRankState,
    Cursor,
    InfiniteShuffle,
    RankInfo,
    SampleIndex,
    SampleRef,
    prefetch_batch_specs,
    require_common_position,
)
from .source import AnySource, Source, StreamedSource

# Each travels to the worker with its bytes. With fewer, a small batch would soon have a bad sample and no other.
_DEFAULT_REPLACEMENTS = 3


class StreamSampler:
    """The order of one streamed source, or of several sources of any kind by weights.

    A cursor holds the `position`, what the rows before it `dealt`, the `weights`, and the places of each part's
    `lanes`: None for a lane that this rank does not read, and for parts that are not streamed.

    Args:
        parts: the sources.
        share: this rank's part of the work.
        weights: whole numbers, one for each source.
        start_step: steps to leave out.
        shuffle_buffer_bytes: encoded videos held to shuffle, of each streamed source and lane that is read.
    """

    def __init__(
        self,
        parts: Sequence[AnySource],
        share: RankInfo,
        *,
        weights: Sequence[int] = (1,),
        start_step: int = 0,
        shuffle_buffer_bytes: int = SHUFFLE_BUFFER_BYTES,
    ) -> None:
        self.share, self.weights, self.shuffle_buffer_bytes = share, tuple(weights), shuffle_buffer_bytes
        self.names = [part.name for part in parts]
        self._streamed_sources = [part if isinstance(part, StreamedSource) else None for part in parts]
        self._orders = [InfiniteShuffle(part, seed=share.seed) if isinstance(part, Source) else None for part in parts]
        sizes = [len(part) if isinstance(part, Source) else part.num_samples for part in parts]
        for part, size in enumerate(sizes):
            if size is not None:
                self._check_source_size(part, size)
        known = [size for size in sizes if size is not None]
        self._size = sum(known) if len(known) == len(sizes) else None
        self.steps_per_epoch = None if self._size is None else self._size // share.global_batch
        self.start = self._start_cursor(rows=start_step * share.batch_size)
        self._default_replacements = self._num_replacements = _DEFAULT_REPLACEMENTS + share.batch_size // 16

    def merge_cursors(self, cursors: Sequence[Cursor]) -> Cursor:
        """The places of all lanes together.

        Raises:
            DataError: when the run mixed other data sets, or by other weights.
        """
        position, first = require_common_position(cursors), cursors[0]
        if list(first["weights"]) != list(self.weights):
            raise DataError(
                f"the saved position is of a mix of {len(first['weights'])} data sets by the weights "
                f"{_format_weights(first['weights'])}, this is one of {len(self.weights)} by {_format_weights(self.weights)}; give "
                f"the same data sets and --dataset_weights, or start a new run from the weights of the model"
            )
        every = zip(*(cursor["lanes"] for cursor in cursors), strict=True)
        lanes = [[_first_known_state(places) for places in zip(*part, strict=True)] for part in every]
        return {**first, "position": position, "lanes": lanes}

    def batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        """One job per step, for ever, read one step ahead in a thread."""
        return prefetch_batch_specs(self._iter_batch_specs(cursor))

    def sample_refs(self, batch_spec: BatchSpec) -> tuple[Iterator[SampleRef], Iterator[SampleRef]]:
        """A bad sample is replaced by one of the next batch's, then by others of its own batch, and so on around.

        Spares beyond the usual few come last, so that they change nothing where the few are enough.
        """
        first, more = (
            batch_spec.replacement_refs[: self._default_replacements],
            batch_spec.replacement_refs[self._default_replacements :],
        )
        return map(self._resolve, batch_spec.sample_refs), map(
            self._resolve, cycle((*first, *batch_spec.sample_refs, *more))
        )

    def add_replacements(self, most: int) -> bool:
        """Read more samples ahead for each batch: four times as many, as far as it takes to try `most` of them."""
        enough = max(self._default_replacements, most - self.share.batch_size)
        if self._num_replacements >= enough:
            return False
        self._num_replacements = min(4 * self._num_replacements, enough)
        return True

    def epoch(self, cursor: Cursor) -> int:
        """Passes over the data, of a mix over as many draws as it has videos; where that is not known, the fewest
        passes that any part is in."""
        if self._size is not None and len(self.names) > 1:
            return int(cursor["position"]) // self._size
        passes = [place["epoch"] for part in cursor["lanes"] for place in part if place is not None]
        for order, dealt in zip(self._orders, cursor["dealt"], strict=True):
            passes += [] if order is None else [sum(dealt) // order.size]
        return min(passes)

    def __getstate__(self) -> dict[str, Any]:
        # Workers get the samples of streams with the job: they need no stream.
        return {**self.__dict__, "_streams": [None] * len(self._streamed_sources)}

    # Places.

    def _check_source_size(self, part: int, size: int) -> None:
        if len(self.names) == 1:
            self.share.check_size(size, name=self.names[part])
        wanted = self._max_slots(part, self.share.global_batch)
        if size < wanted:
            raise DataError(
                f"{self.names[part]} has {size} video{'' if size == 1 else 's'}, too few for its {wanted} of a batch "
                f"of {self.share.global_batch}; lower its weight (--dataset_weights) or --batch_size, or add videos"
            )

    def _max_slots(self, part: int, slots: int) -> int:
        """How many of so many slots a part has, rounded up."""
        return -(-slots * self.weights[part] // sum(self.weights))

    def _start_cursor(self, *, rows: int) -> Cursor:
        lanes = self.share.world_size
        dealt = drawn_after_rows(self.weights, lanes=lanes, rows=rows)
        places: list[list[CanonicalRankState | None]] = [
            [None if stream is None else {"epoch": 0, "offset": offset, "put_back": []} for offset in row]
            for stream, row in zip(self._streamed_sources, dealt, strict=True)
        ]
        return {"position": rows * lanes, "dealt": dealt, "lanes": places, "weights": list(self.weights)}

    def _reader_ranks(self, canonical_rank: int, *, slots_per_step: int | None) -> range:
        """The ranks that read a lane, of which every step has `slots_per_step` slots; None: that changes."""
        if slots_per_step is None:
            return range(self.share.world_size)
        return range(
            canonical_rank * slots_per_step // self.share.batch_size,
            ((canonical_rank + 1) * slots_per_step - 1) // self.share.batch_size + 1,
        )

    def _open_canonical_ranks(
        self, cursor: Cursor, *, slots_per_step: int | None
    ) -> dict[tuple[int, int], CanonicalRank]:
        """The lanes that this rank reads, by part and number."""
        num_canonical_ranks = len(cursor["dealt"][0])
        slots = -(-self.share.global_batch // num_canonical_ranks)
        lanes = {}
        for part, stream in enumerate(self._streamed_sources):
            for number, place in enumerate(cursor["lanes"][part]) if stream is not None else ():
                readers = self._reader_ranks(number, slots_per_step=slots_per_step)
                if self.share.rank not in readers:
                    continue
                if place is None:
                    raise DataError(
                        f"the saved position lacks a part of {self.names[part]} that this process is to read; resume "
                        f"from a whole checkpoint (Loader.load_states takes the states of all its processes)"
                    )
                assert stream is not None
                lanes[part, number] = CanonicalRank(
                    stream,
                    number=number,
                    num_canonical_ranks=num_canonical_ranks,
                    seed=self.share.seed,
                    shuffle_buffer_bytes=self.shuffle_buffer_bytes,
                    place=place,
                    is_sole_reader=len(readers) == 1,
                    min_samples=self._max_slots(part, slots),
                )
        return lanes

    # Batches.

    def _iter_batch_specs(self, cursor: Cursor) -> Iterator[BatchSpec]:
        size, step, num_canonical_ranks = self.share.batch_size, self.share.global_batch, len(cursor["dealt"][0])
        is_even = step % num_canonical_ranks == 0 and cursor["position"] % num_canonical_ranks == 0
        slots_per_step = step // num_canonical_ranks if is_even else None
        lanes = self._open_canonical_ranks(cursor, slots_per_step=slots_per_step)
        numbers = [
            number
            for number in range(num_canonical_ranks)
            if self.share.rank in self._reader_ranks(number, slots_per_step=slots_per_step)
        ]
        slots = InterleaveSchedule(
            self.weights,
            cursor["dealt"],
            position=cursor["position"],
            lanes=range(numbers[0], numbers[-1] + 1),
        )
        skip = self.share.rank * size - numbers[0] * (slots_per_step or 0)
        while True:
            taken = slots.take(step)
            # All of them are read: this rank's part begins behind those of others.
            picks = [self._take_ref(slot, lanes) for slot in taken][skip : skip + size]
            after = {
                "position": slots.position,
                "dealt": slots.dealt,
                "lanes": [
                    [
                        lanes[part, number].place if (part, number) in lanes else None
                        for number in range(num_canonical_ranks)
                    ]
                    for part in range(len(self.names))
                ],
                "weights": list(self.weights),
            }
            replacement_refs = self._peek_replacements(
                slots, lanes, canonical_rank=taken[skip + size - 1].canonical_rank
            )
            yield BatchSpec(after=after, sample_refs=tuple(picks), replacement_refs=replacement_refs)

    def _take_ref(self, slot: ScheduleSlot, lanes: dict[tuple[int, int], CanonicalRank]) -> SampleRef | SampleIndex:
        canonical_rank = lanes.get((slot.part, slot.canonical_rank))
        return (
            SampleIndex(slot.part, slot.number)
            if canonical_rank is None
            else self._with_source_prefix(slot.part, canonical_rank.take())
        )

    def _peek_replacements(
        self, slots: InterleaveSchedule, lanes: dict[tuple[int, int], CanonicalRank], *, canonical_rank: int
    ) -> tuple[SampleRef | SampleIndex, ...]:
        """The next of a lane."""
        replacement_refs: list[SampleRef | SampleIndex] = []
        read = [0] * len(self.names)
        for slot in slots.peek(canonical_rank, self._num_replacements):
            stream = lanes.get((slot.part, canonical_rank))
            if stream is None:
                replacement_refs.append(SampleIndex(slot.part, slot.number))
            else:
                read[slot.part] += 1
                replacement_refs.append(self._with_source_prefix(slot.part, stream.peek(read[slot.part])[-1]))
        return tuple(replacement_refs)

    def _resolve(self, pick: SampleRef | SampleIndex) -> SampleRef:
        if isinstance(pick, SampleRef):
            return pick
        order = self._orders[pick.part]
        assert order is not None
        return self._with_source_prefix(pick.part, order.at(pick.position))

    def _with_source_prefix(self, part: int, sample_ref: SampleRef) -> SampleRef:
        """In a mix, ids begin with the name of the data set: those of two may be the same."""
        if len(self.names) == 1:
            return sample_ref
        return SampleRef(sample_ref.epoch, replace(sample_ref.sample, id=f"{self.names[part]}:{sample_ref.sample.id}"))


def _first_known_state(places: Sequence[CanonicalRankState | None]) -> CanonicalRankState | None:
    """A lane's place, from the ranks that read it."""
    return next((place for place in places if place is not None), None)


def _format_weights(weights: Sequence[int]) -> str:
    return " : ".join(map(str, weights))
