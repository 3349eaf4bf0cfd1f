"""Define samples and sources, the two kinds of datasets that a loader reads, and describe them for the user."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..credentials import redact_credentials
from ..video.segments import VideoSegment, VideoSource
from ..video.url_allowlist import BlockedVideo

# With so few shards for each process, one more makes a large difference.
_MAX_UNEVEN_SHARDS = 3

Label = int | float | tuple[int, ...]
"""One class, a number, or several classes (of a multi-label dataset)."""
Segment = tuple[float | None, float | None]
"""Start and end in seconds of the file; None for its beginning and its end."""


def segment_id(path: str, *, start: float | None, end: float | None) -> str:
    """Return a path, followed by `@START-END` in seconds for a segment: `a.mp4@0.5-2`, `a.mp4@3-`.

    Prepared datasets use the same ids.
    """
    if start is None and end is None:
        return path
    return f"{path}@{start or 0:.12g}-{'' if end is None else f'{end:.12g}'}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded video.

    Attributes:
        id: unique and stable within the dataset: the relative path (folder), `file#row` (Parquet), `shard/__key__`
            (WebDataset), `split/index` (motion); followed by `@START-END` for a segment (`segment_id`).
        video: the file's bytes, or a path or URL.
        label: index (or indices) into the source's `class_names`, or a number; None if unlabeled.
        start, end: of a segment, in seconds after the file's first frame: the frames with start <= time < end. None
            for the beginning and the end of the file.
    """

    id: str
    video: bytes | str
    label: Label | None = None
    start: float | None = None
    end: float | None = None

    @property
    def source(self) -> VideoSource | VideoSegment:
        """Return what to decode: the video, or the segment of it."""
        if self.start is None and self.end is None:
            return self.video
        return VideoSegment(self.video, start=self.start or 0.0, end=self.end)

    @property
    def location(self) -> str:
        """Return the path or URL of the video without credentials, or the id of one that is held in memory."""
        if isinstance(self.video, (str, BlockedVideo)):
            return redact_credentials(self.video if isinstance(self.video, str) else self.video.path)
        return self.id

    @property
    def num_bytes(self) -> int:
        """Return the bytes that this sample holds in memory."""
        return len(self.video)


@runtime_checkable
class Source(Protocol):
    """A dataset whose samples can be read in any order, so a resume costs nothing.

    `source[i]` is pure: the same index gives the same sample in every process. Sources travel to worker processes by
    fork or pickle, so they hold no open files.
    """

    name: str
    class_names: list[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class StreamedSource(Protocol):
    """A dataset that can only be read shard by shard, from the front.

    `read_shard` retries for `retry_seconds` seconds while the network fails (None: as long as a run may), then raises
    `hf_videomae.hub.retry.SourceUnavailable`.
    """

    name: str
    class_names: list[str] | None
    num_shards: int
    num_samples: int | None  # if known

    def read_shard(self, shard: int, *, retry_seconds: float | None = None) -> Iterator[Sample]:
        """Yield the samples of a shard, in order."""
        ...


AnySource = Source | StreamedSource


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several datasets to draw from by weights; opened by `open_mixture`.

    The ids of its samples are `NAME:ID`, with the name of the dataset.

    Attributes:
        parts: the datasets, of any kind.
        weights: whole numbers, one for each part.
        class_names: the classes that all parts share; None if they differ.
    """

    parts: tuple[AnySource, ...]
    weights: tuple[int, ...]
    class_names: list[str] | None = None

    @property
    def name(self) -> str:
        """Return the names of all parts."""
        return " + ".join(part.name for part in self.parts)

    @property
    def num_samples(self) -> int | None:
        """Return the videos of all parts, which is also the number of draws in an epoch of the mix."""
        sizes = [num_videos(part) for part in self.parts]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def shares(self) -> list[float]:
        """Return the share of the draws for each part."""
        return [weight / sum(self.weights) for weight in self.weights]


AnyData = AnySource | Mixture


def num_videos(source: AnyData) -> int | None:
    """Return the number of videos; None if it is not known."""
    return len(source) if isinstance(source, Source) else source.num_samples


def describe_source(source: AnyData) -> str:
    """Return a line with name, number of videos and classes; for a mix, one more line for each part with its share."""
    line = f"{source.name}: {_describe_size(num_videos(source))}, {_describe_classes(source)}{_describe_cache(source)}"
    if not isinstance(source, Mixture):
        return line
    return "\n".join([line, *(_describe_part(source, part) for part in range(len(source.parts)))])


def source_notes(source: AnyData) -> list[str]:
    """Return notes for the user on how the data was read, one line each; for a mix, those of all parts."""
    parts = source.parts if isinstance(source, Mixture) else (source,)
    return [note for part in parts for note in getattr(part, "notes", ())]


def describe_epoch(source: AnyData) -> str | None:
    """Return what an epoch is; None if it is simply every video once."""
    if num_videos(source) is None:
        what = "not every dataset of the mix says" if isinstance(source, Mixture) else f"{source.name} does not say"
        return f"an epoch has no known length: {what} how many videos it has"
    if not isinstance(source, Mixture):
        return None
    return f"an epoch of the mix is {source.num_samples} draws, as many as all its datasets have videos"


def describe_shards(source: AnyData, *, processes: int) -> list[str]:
    """Return how several processes share the shards of streamed data, and what to do if that is uneven."""
    parts = source.parts if isinstance(source, Mixture) else (source,)
    return [
        _describe_shard_split(part.name, part.num_shards, processes=processes)
        for part in parts
        if isinstance(part, StreamedSource) and processes > 1
    ]


def _describe_shard_split(name: str, shards: int, *, processes: int) -> str:
    each, more = divmod(shards, processes)
    has = f"{name} has {shards} shard{'' if shards == 1 else 's'} for {processes} processes"
    even = processes * (each + bool(more))
    remedy = f"`hf-videomae prepare {name} OUT --num_shards {even}` makes {even // processes} for each"
    if each == 0:
        return f"warning: {has}, so every process reads all of it; {remedy}"
    if more and each <= _MAX_UNEVEN_SHARDS:
        return (
            f"note: {has}, {each} or {each + 1} for each, so some processes finish theirs long before others; {remedy}"
        )
    return f"{has}, {each if not more else f'{each} or {each + 1}'} for each; the processes read them, workers decode"


def _describe_part(mixture: Mixture, number: int) -> str:
    part, share = mixture.parts[number], mixture.shares[number]
    size, every = num_videos(part), mixture.num_samples
    passes = "" if not size or every is None else f", {share * every / size:.3g} passes over it in an epoch of the mix"
    classes, cache = _describe_classes(part), _describe_cache(part)
    return f"  {100 * share:.3g} % {part.name}: {_describe_size(size)}, {classes}{passes}{cache}"


def _describe_size(count: int | None) -> str:
    return "an unknown number of videos" if count is None else f"{count} video{'' if count == 1 else 's'}"


def _describe_classes(source: AnyData) -> str:
    return "no labels" if source.class_names is None else f"{len(source.class_names)} classes"


def _describe_cache(source: AnyData) -> str:
    shard_cache = getattr(source, "shard_cache", None)
    return "" if shard_cache is None else f"; {shard_cache}"
