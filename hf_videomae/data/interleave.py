"""Schedule draws: which dataset of a mix, and which of the run's first ranks, each draw belongs to.

A run draws its samples slot by slot. Slots come in rows, with one slot for each canonical rank (a rank that the run
began with; see `stream_sampler.py`). The schedule is arithmetic on whole numbers, so it is exact at any length.

Example: datasets A and B with weights 2 : 1, two canonical ranks. A3 is the fourth draw from A.

    slot                     0  1 | 2  3 | 4  5
    dataset                 A  A | B  A | A  B      (2 of 3 slots go to A, never more than one slot off)
    canonical rank 0 draws   A0     B0     A3
    canonical rank 1 draws      A1     A2     B1

Which dataset (`choose_next_source`): among those behind their share, the one whose next draw is due first, where a
draw is due at the slot by which its dataset would be one whole draw behind. So every dataset is within one draw of
its share after every slot. The simpler rule, always the one furthest behind, breaks this bound from six datasets on.

Which canonical rank (`_assign_canonical_ranks`): the one that had least of that dataset, so that all get about the
same mix. A single dataset goes to the canonical ranks in turn.
"""

from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

# Canonical ranks and datasets are few; rows have no end.
DrawnCounts = list[list[int]]
"""Slots of each dataset (row) that each canonical rank (column) was given."""


class ScheduleSlot(NamedTuple):
    """Schedule entry: the `at`-th slot of `canonical_rank` takes draw `number` (over all ranks) of dataset `part`."""

    canonical_rank: int
    at: int
    part: int
    number: int


class InterleaveSchedule:
    """The endless slots of some canonical ranks, from a position on.

    Args:
        weights: whole numbers, one for each dataset.
        drawn_counts: the counts at the start of the row that holds the position.
        position: the next slot.
        canonical_ranks: whose slots are wanted.
    """

    def __init__(
        self, weights: Sequence[int], drawn_counts: DrawnCounts, *, position: int, canonical_ranks: range
    ) -> None:
        self.weights, self.canonical_ranks, self.position = tuple(weights), canonical_ranks, position
        self._drawn = [list(row) for row in drawn_counts]
        self._num_canonical_ranks = len(drawn_counts[0])
        self._pending_rows: deque[tuple[DrawnCounts, list[ScheduleSlot]]] = deque()

    @property
    def drawn_counts(self) -> DrawnCounts:
        """Return the counts at the start of the row that holds `position`."""
        return self._row(0)[0]

    def take(self, num_slots: int) -> list[ScheduleSlot]:
        """Advance by `num_slots` slots of the run; return the wanted ones, sorted by canonical rank."""
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
        """Return the next slots of one canonical rank without taking them."""
        slots: list[ScheduleSlot] = []
        for row in count():
            ahead = [slot for slot in self._row(row)[1] if slot.at >= self.position]
            slots += [slot for slot in ahead if slot.canonical_rank == canonical_rank]
            if len(slots) >= num_slots:
                break
        return slots[:num_slots]

    def _row(self, number: int) -> tuple[DrawnCounts, list[ScheduleSlot]]:
        """Return a row, counted from the one that holds `position`: the counts before it, and its wanted slots."""
        while len(self._pending_rows) <= number:
            before = [list(row) for row in self._drawn]
            self._pending_rows.append((before, self._schedule_row()))
        return self._pending_rows[number]

    def _schedule_row(self) -> list[ScheduleSlot]:
        """Schedule the next row. Only wanted slots are returned, but the counts include all of them."""
        drawn = [sum(row) for row in self._drawn]
        first = sum(drawn)
        if len(self.weights) == 1:
            self._drawn[0] = [number + 1 for number in self._drawn[0]]
            return [ScheduleSlot(rank, first + rank, 0, first + rank) for rank in self.canonical_ranks]
        slots_of_part: list[list[tuple[int, int]]] = [[] for _ in drawn]  # (at, number)
        for at in range(first, first + self._num_canonical_ranks):
            part = choose_next_source(self.weights, drawn)
            slots_of_part[part].append((at, drawn[part]))
            drawn[part] += 1
        return self._assign_canonical_ranks(slots_of_part)

    def _assign_canonical_ranks(self, slots_of_part: list[list[tuple[int, int]]]) -> list[ScheduleSlot]:
        """Give each dataset's slots to the canonical ranks that had least of it.

        The most unevenly spread dataset chooses first, then the rarest. With fixed turns, a dataset whose slots are
        always at the same place of a row could go to one canonical rank forever.
        """
        free, slots = set(range(self._num_canonical_ranks)), []
        for part in sorted(range(len(slots_of_part)), key=self._assignment_key):
            drawn, part_slots = self._drawn[part], slots_of_part[part]
            least_first = sorted(free, key=lambda rank: (drawn[rank], rank))
            chosen = sorted(least_first[: len(part_slots)])
            free.difference_update(chosen)
            for canonical_rank, (at, number) in zip(chosen, part_slots, strict=True):
                drawn[canonical_rank] += 1
                if canonical_rank in self.canonical_ranks:
                    slots.append(ScheduleSlot(canonical_rank, at, part, number))
        return slots

    def _assignment_key(self, part: int) -> tuple[int, int, int]:
        return min(self._drawn[part]) - max(self._drawn[part]), self.weights[part], part


def choose_next_source(weights: Sequence[int], drawn: Sequence[int]) -> int:
    """Return the dataset that the next slot goes to.

    Args:
        weights: whole numbers, one for each dataset.
        drawn: draws from each dataset so far.
    """
    total, slots = sum(weights), sum(drawn) + 1
    underdrawn = [part for part, weight in enumerate(weights) if weight * slots > drawn[part] * total]
    # Rounded up: the first slot at which the share is one more than what was drawn.
    return min(underdrawn, key=lambda part: (-(-(drawn[part] + 1) * total // weights[part]), part))
