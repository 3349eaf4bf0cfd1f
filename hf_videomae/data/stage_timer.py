"""Measure where the time of a batch goes, by stage.

| stage | what | where |
|---|---|---|
| `read` | shards of a streamed dataset, from the network or a disk | one thread of the training process |
| `fetch` | single videos: downloaded, or generated (a file on a disk is read while it is decoded) | workers |
| `decode` | opening and decoding | workers |
| `transform` | crops, resizing, augmentation, normalization, masks | workers |
| `collate` | stacking clips into a batch | workers |
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

Stage = Literal["read", "fetch", "decode", "transform", "collate"]


class StageTimer:
    """Add up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        """Add the time inside the `with` block to a stage, even if it ends in an error."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - begin})

    def add(self, seconds: Mapping[str, float], *, share: float = 1.0) -> None:
        """Add the seconds of another timer, or a share of them."""
        for stage, value in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + share * value


def bottleneck(seconds: Mapping[str, float]) -> str | None:
    """Return the stage that limits the speed, or None if no time was counted.

    Reading and the workers run in parallel; the stages of a worker run one after another.

    Args:
        seconds: `Loader.seconds`, or the difference of two.
    """
    work = {stage: value for stage, value in seconds.items() if stage != "read"}
    if seconds.get("read", 0.0) > sum(work.values()):
        return "read"
    return max(work, key=lambda stage: work[stage], default=None)
