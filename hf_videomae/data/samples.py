"""What a data set is to the stream: samples, sources, and the one typed error."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Label = int | float | tuple[int, ...]
"""One class, a number, or several classes (of a multi-label set)."""


class DataError(ValueError):
    """A data set cannot be used as asked: it is missing, empty, too small, unlabelled or mostly broken.

    The message is one line that says what came, what is wanted and what to do. Missing software (FFmpeg, PyAV) is
    never a `DataError`: that is `hf_videomae.video.decoding.VideoBackendError`.
    """


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded video.

    Attributes:
        id: unique and stable within the data set: the relative path (folder), `file#row` (Parquet), `shard/__key__`
            (WebDataset), `split/index` (motion).
        video: the file's bytes, or a path or URL.
        label: index (or indices) into the source's `class_names`, or a number, where the source is labelled.
    """

    id: str
    video: bytes | str
    label: Label | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes this sample holds in memory."""
        return len(self.video)


@runtime_checkable
class Source(Protocol):
    """A data set whose samples can be had in any order: its order is drawn by the stream, and a resume costs nothing.

    `source[i]` is pure: the same index gives the same sample in every process. Sources travel to worker processes by
    fork or pickle, so they hold no open files.
    """

    name: str
    class_names: list[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class StreamedSource(Protocol):
    """A data set that can only be read shard by shard, from the front.

    `read_shard` sits out a network that fails for `patience` seconds (None: as long as a run may), then raises
    `hf_videomae.data.network.SourceUnavailable`.
    """

    name: str
    class_names: list[str] | None
    num_shards: int
    num_samples: int | None  # where the data set says so

    def read_shard(self, shard: int, *, patience: float | None = None) -> Iterator[Sample]: ...


AnySource = Source | StreamedSource


def describe_source(source: AnySource) -> str:
    """One line for people: name, number of videos and classes."""
    count = source.num_samples if isinstance(source, StreamedSource) else len(source)
    videos = "an unknown number of videos" if count is None else f"{count} video{'' if count == 1 else 's'}"
    classes = "no labels" if source.class_names is None else f"{len(source.class_names)} classes"
    kept = getattr(source, "kept", None)
    return f"{source.name}: {videos}, {classes}{'' if kept is None else f'; {kept}'}"
