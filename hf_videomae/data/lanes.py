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

from .dealing import Slot, Slots, first_rows
from .order import (
    WINDOW_BYTES,
    Cursor,
    Draw,
    EndlessOrder,
    Job,
    Lane,
    LanePlace,
    Place,
    Share,
    common_position,
    read_ahead,
)
from .samples import AnySource, DataError, Source, StreamedSource

# Each travels to the worker with its bytes. With fewer, a small batch would soon have a bad sample and no other.
_FEW_SPARES = 3


class LanePlan:
    """The order of one streamed source, or of several sources of any kind by weights.

    A cursor holds the `position`, what the rows before it `dealt`, the `weights`, and the places of each part's
    `lanes`: None for a lane that this rank does not read, and for parts that are not streamed.

    Args:
        parts: the sources.
        share: this rank's part of the work.
        weights: whole numbers, one for each source.
        start_step: steps to leave out.
        window_bytes: encoded videos held to shuffle, of each streamed source and lane that is read.
    """

    def __init__(
        self,
        parts: Sequence[AnySource],
        share: Share,
        *,
        weights: Sequence[int] = (1,),
        start_step: int = 0,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self.share, self.weights, self.window_bytes = share, tuple(weights), window_bytes
        self.names = [part.name for part in parts]
        self._streams = [part if isinstance(part, StreamedSource) else None for part in parts]
        self._orders = [EndlessOrder(part, seed=share.seed) if isinstance(part, Source) else None for part in parts]
        sizes = [len(part) if isinstance(part, Source) else part.num_samples for part in parts]
        for part, size in enumerate(sizes):
            if size is not None:
                self._check_size(part, size)
        known = [size for size in sizes if size is not None]
        self._size = sum(known) if len(known) == len(sizes) else None
        self.steps_per_epoch = None if self._size is None else self._size // share.global_batch
        self.start = self._start(rows=start_step * share.batch_size)
        self._few = self._num_spares = _FEW_SPARES + share.batch_size // 16

    def accept(self, cursors: Sequence[Cursor]) -> Cursor:
        """The places of all lanes together.

        Raises:
            DataError: when the run mixed other data sets, or by other weights.
        """
        position, first = common_position(cursors), cursors[0]
        if list(first["weights"]) != list(self.weights):
            raise DataError(
                f"the saved position is of a mix of {len(first['weights'])} data sets by the weights "
                f"{_colons(first['weights'])}, this is one of {len(self.weights)} by {_colons(self.weights)}; give "
                f"the same data sets and --dataset_weights, or start a new run from the weights of the model"
            )
        every = zip(*(cursor["lanes"] for cursor in cursors), strict=True)
        lanes = [[_known(places) for places in zip(*part, strict=True)] for part in every]
        return {**first, "position": position, "lanes": lanes}

    def jobs(self, cursor: Cursor) -> Iterator[Job]:
        """One job per step, for ever, read one step ahead in a thread."""
        return read_ahead(self._jobs(cursor))

    def draws(self, job: Job) -> tuple[Iterator[Draw], Iterator[Draw]]:
        """A bad sample is replaced by one of the next batch's, then by others of its own batch, and so on around.

        Spares beyond the usual few come last, so that they change nothing where the few are enough.
        """
        first, more = job.spares[: self._few], job.spares[self._few :]
        return map(self._draw, job.draws), map(self._draw, cycle((*first, *job.draws, *more)))

    def widen(self, most: int) -> bool:
        """Read more samples ahead for each batch: four times as many, as far as it takes to try `most` of them."""
        enough = max(self._few, most - self.share.batch_size)
        if self._num_spares >= enough:
            return False
        self._num_spares = min(4 * self._num_spares, enough)
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
        return {**self.__dict__, "_streams": [None] * len(self._streams)}

    # Places.

    def _check_size(self, part: int, size: int) -> None:
        if len(self.names) == 1:
            self.share.check_size(size, name=self.names[part])
        wanted = self._most(part, self.share.global_batch)
        if size < wanted:
            raise DataError(
                f"{self.names[part]} has {size} video{'' if size == 1 else 's'}, too few for its {wanted} of a batch "
                f"of {self.share.global_batch}; lower its weight (--dataset_weights) or --batch_size, or add videos"
            )

    def _most(self, part: int, slots: int) -> int:
        """How many of so many slots a part has, rounded up."""
        return -(-slots * self.weights[part] // sum(self.weights))

    def _start(self, *, rows: int) -> Cursor:
        lanes = self.share.world_size
        dealt = first_rows(self.weights, lanes=lanes, rows=rows)
        places: list[list[LanePlace | None]] = [
            [None if stream is None else {"epoch": 0, "offset": offset, "put_back": []} for offset in row]
            for stream, row in zip(self._streams, dealt, strict=True)
        ]
        return {"position": rows * lanes, "dealt": dealt, "lanes": places, "weights": list(self.weights)}

    def _readers(self, lane: int, *, each: int | None) -> range:
        """The ranks that read a lane, of which every step has `each` slots; None: that changes."""
        if each is None:
            return range(self.share.world_size)
        return range(lane * each // self.share.batch_size, ((lane + 1) * each - 1) // self.share.batch_size + 1)

    def _open(self, cursor: Cursor, *, each: int | None) -> dict[tuple[int, int], Lane]:
        """The lanes that this rank reads, by part and number."""
        of = len(cursor["dealt"][0])
        slots = -(-self.share.global_batch // of)
        lanes = {}
        for part, stream in enumerate(self._streams):
            for number, place in enumerate(cursor["lanes"][part]) if stream is not None else ():
                readers = self._readers(number, each=each)
                if self.share.rank not in readers:
                    continue
                if place is None:
                    raise DataError(
                        f"the saved position lacks a part of {self.names[part]} that this process is to read; resume "
                        f"from a whole checkpoint (Loader.load_states takes the states of all its processes)"
                    )
                assert stream is not None
                lanes[part, number] = Lane(
                    stream,
                    number=number,
                    of=of,
                    seed=self.share.seed,
                    window_bytes=self.window_bytes,
                    place=place,
                    alone=len(readers) == 1,
                    least=self._most(part, slots),
                )
        return lanes

    # Batches.

    def _jobs(self, cursor: Cursor) -> Iterator[Job]:
        size, step, of = self.share.batch_size, self.share.global_batch, len(cursor["dealt"][0])
        is_even = step % of == 0 and cursor["position"] % of == 0
        each = step // of if is_even else None
        lanes = self._open(cursor, each=each)
        numbers = [number for number in range(of) if self.share.rank in self._readers(number, each=each)]
        slots = Slots(
            self.weights,
            cursor["dealt"],
            position=cursor["position"],
            lanes=range(numbers[0], numbers[-1] + 1),
        )
        skip = self.share.rank * size - numbers[0] * (each or 0)
        while True:
            taken = slots.take(step)
            # All of them are read: this rank's part begins behind those of others.
            picks = [self._pick(slot, lanes) for slot in taken][skip : skip + size]
            after = {
                "position": slots.position,
                "dealt": slots.dealt,
                "lanes": [
                    [lanes[part, number].place if (part, number) in lanes else None for number in range(of)]
                    for part in range(len(self.names))
                ],
                "weights": list(self.weights),
            }
            spares = self._spares(slots, lanes, lane=taken[skip + size - 1].lane)
            yield Job(after=after, draws=tuple(picks), spares=spares)

    def _pick(self, slot: Slot, lanes: dict[tuple[int, int], Lane]) -> Draw | Place:
        lane = lanes.get((slot.part, slot.lane))
        return Place(slot.part, slot.number) if lane is None else self._named(slot.part, lane.take())

    def _spares(self, slots: Slots, lanes: dict[tuple[int, int], Lane], *, lane: int) -> tuple[Draw | Place, ...]:
        """The next of a lane."""
        spares: list[Draw | Place] = []
        read = [0] * len(self.names)
        for slot in slots.peek(lane, self._num_spares):
            stream = lanes.get((slot.part, lane))
            if stream is None:
                spares.append(Place(slot.part, slot.number))
            else:
                read[slot.part] += 1
                spares.append(self._named(slot.part, stream.peek(read[slot.part])[-1]))
        return tuple(spares)

    def _draw(self, pick: Draw | Place) -> Draw:
        if isinstance(pick, Draw):
            return pick
        order = self._orders[pick.part]
        assert order is not None
        return self._named(pick.part, order.at(pick.position))

    def _named(self, part: int, draw: Draw) -> Draw:
        """In a mix, ids begin with the name of the data set: those of two may be the same."""
        if len(self.names) == 1:
            return draw
        return Draw(draw.epoch, replace(draw.sample, id=f"{self.names[part]}:{draw.sample.id}"))


def _known(places: Sequence[LanePlace | None]) -> LanePlace | None:
    """A lane's place, from the ranks that read it."""
    return next((place for place in places if place is not None), None)


def _colons(weights: Sequence[int]) -> str:
    return " : ".join(map(str, weights))
