"""Where the time of a batch goes, by part.

| part | what | where |
|---|---|---|
| `read` | shards of a streamed data set, from the network or a disk | one thread of the training process |
| `fetch` | single videos: downloaded, or made on the spot (a file on a disk is read while it is decoded) | workers |
| `decode` | opening and decoding | workers |
| `transform` | crops, resizing, augmentation, normalisation, masks | workers |
| `collate` | clips to a batch | workers |
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

Stage = Literal["read", "fetch", "decode", "transform", "collate"]


class StageTimer:
    """Seconds by part, added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        """Time inside counts for a part, also where it ends in an error."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - begun})

    def add(self, seconds: Mapping[str, float], *, share: float = 1.0) -> None:
        """Add what another watch counted, or a share of it."""
        for stage, value in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + share * value


def bottleneck(seconds: Mapping[str, float]) -> str | None:
    """The part that holds up the data: reading and the workers go on side by side, a worker's parts one after another.

    Args:
        seconds: of `Loader.seconds`, or the difference of two.

    Returns:
        the name of the part, or None where no time was counted.
    """
    work = {stage: value for stage, value in seconds.items() if stage != "read"}
    if seconds.get("read", 0.0) > sum(work.values()):
        return "read"
    return max(work, key=lambda stage: work[stage], default=None)
