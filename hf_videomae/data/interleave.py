"""Which slot of a run belongs to which data set and which lane: arithmetic on whole numbers, exact at any length.

A run draws from its data sets (its parts) slot by slot, and its slots come in rows of one for each lane. A slot goes
to a part that is behind its share, of these to the one whose next draw is due first (due: the slot by which it would
else be a whole sample behind). With that every part is within one sample of its share after every slot; the simpler
rule, always the part that is furthest behind, fails from six parts on. Within a row the slots are dealt to the lanes
so that each lane gets about as much of each part as any other; a single part has its lanes in turn.
"""

from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

# Lanes and parts are few, rows without end.
DrawnCounts = list[list[int]]
"""Slots of each part (row) that each lane (column) was dealt."""


class ScheduleSlot(NamedTuple):
    """Slot number `at` of a run: of its lane, of a part, of which it is draw `number` over all lanes."""

    canonical_rank: int
    at: int
    part: int
    number: int


class InterleaveSchedule:
    """The slots of some lanes from a position on, without end.

    Args:
        weights: whole numbers, one for each part.
        dealt: at the start of the row that holds the position.
        position: of the next slot.
        lanes: whose slots are wanted.
    """

    def __init__(self, weights: Sequence[int], dealt: DrawnCounts, *, position: int, lanes: range) -> None:
        self.weights, self.lanes, self.position = tuple(weights), lanes, position
        self._drawn = [list(row) for row in dealt]
        self._num_canonical_ranks = len(dealt[0])
        self._pending_rows: deque[tuple[DrawnCounts, list[ScheduleSlot]]] = deque()

    @property
    def dealt(self) -> DrawnCounts:
        """At the start of the row that holds `position`."""
        return self._row(0)[0]

    def take(self, num_slots: int) -> list[ScheduleSlot]:
        """Those of the next `num_slots` slots of the run that the lanes have, lane by lane."""
        end = self.position + num_slots
        taken: list[ScheduleSlot] = []
        while self.position < end:
            row_end = (self.position // self._num_canonical_ranks + 1) * self._num_canonical_ranks
            taken += [slot for slot in self._row(0)[1] if self.position <= slot.at < end]
            if row_end <= end:
                self._pending_rows.popleft()
            self.position = min(row_end, end)
        return sorted(taken)

    def peek(self, canonical_rank: int, num_slots: int) -> list[ScheduleSlot]:
        """The next slots of one lane, which stay to be taken."""
        found: list[ScheduleSlot] = []
        for row in count():
            found += [
                slot
                for slot in self._row(row)[1]
                if slot.canonical_rank == canonical_rank and slot.at >= self.position
            ]
            if len(found) >= num_slots:
                break
        return found[:num_slots]

    def _row(self, number: int) -> tuple[DrawnCounts, list[ScheduleSlot]]:
        while len(self._pending_rows) <= number:
            before = [list(row) for row in self._drawn]
            self._pending_rows.append((before, self._schedule_row()))
        return self._pending_rows[number]

    def _schedule_row(self) -> list[ScheduleSlot]:
        """The next row: its slots in the lanes that are wanted; the table counts all of it."""
        drawn = [sum(row) for row in self._drawn]
        first = sum(drawn)
        if len(self.weights) == 1:
            self._drawn[0] = [number + 1 for number in self._drawn[0]]
            return [
                ScheduleSlot(canonical_rank, first + canonical_rank, 0, first + canonical_rank)
                for canonical_rank in self.lanes
            ]
        slots_of_part: list[list[tuple[int, int]]] = [[] for _ in drawn]  # (at, number)
        for at in range(first, first + self._num_canonical_ranks):
            part = choose_next_source(self.weights, drawn)
            slots_of_part[part].append((at, drawn[part]))
            drawn[part] += 1
        return self._assign_canonical_ranks(slots_of_part)

    def _assign_canonical_ranks(self, slots_of_part: list[list[tuple[int, int]]]) -> list[ScheduleSlot]:
        """Each part to the lanes that had least of it; the most unevenly dealt chooses first, then the rarest.

        By a fixed turn, a part whose slots always stand at the same place of a row could end in one lane for ever.
        """
        free, slots = set(range(self._num_canonical_ranks)), []
        for part in sorted(range(len(slots_of_part)), key=self._assignment_key):
            dealt = self._drawn[part]
            chosen = sorted(
                sorted(free, key=lambda canonical_rank: (dealt[canonical_rank], canonical_rank))[
                    : len(slots_of_part[part])
                ]
            )
            free.difference_update(chosen)
            for canonical_rank, (at, number) in zip(chosen, slots_of_part[part], strict=True):
                dealt[canonical_rank] += 1
                if canonical_rank in self.lanes:
                    slots.append(ScheduleSlot(canonical_rank, at, part, number))
        return slots

    def _assignment_key(self, part: int) -> tuple[int, int, int]:
        dealt = self._drawn[part]
        return min(dealt) - max(dealt), self.weights[part], part


def choose_next_source(weights: Sequence[int], drawn: Sequence[int]) -> int:
    """The part of the next slot.

    Args:
        weights: of the parts.
        drawn: draws of each part so far.
    """
    total, slots = sum(weights), sum(drawn) + 1
    underdrawn = [part for part, weight in enumerate(weights) if weight * slots > drawn[part] * total]
    # Rounded up: the first slot at which the part's share is one more than it has.
    return min(underdrawn, key=lambda part: (-(-(drawn[part] + 1) * total // weights[part]), part))


def drawn_after_rows(weights: Sequence[int], *, lanes: int, rows: int) -> DrawnCounts:
    """What the first rows of a run deal."""
    slots = InterleaveSchedule(weights, [[0] * lanes for _ in weights], position=0, lanes=range(0))
    slots.take(rows * lanes)
    return slots.dealt
