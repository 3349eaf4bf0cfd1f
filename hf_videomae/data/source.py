"""What a data set is to the stream: samples, sources, and the one typed error."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..credentials import redact_credentials
from ..video.segments import VideoSegment, VideoSource
from ..video.url_allowlist import BlockedVideo

# So many shards or one more are still very different.
_MAX_UNEVEN_SHARDS = 3

Label = int | float | tuple[int, ...]
"""One class, a number, or several classes (of a multi-label set)."""


def segment_id(path: str, *, start: float | None, end: float | None) -> str:
    """Return a path, followed by `@START-END` in seconds where it is a segment: `a.mp4@0.5-2`, `a.mp4@3-`.

    Prepared sets use the same ids.
    """
    if start is None and end is None:
        return path
    return f"{path}@{start or 0:.12g}-{'' if end is None else f'{end:.12g}'}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded video.

    Attributes:
        id: unique and stable within the data set: the relative path (folder), `file#row` (Parquet), `shard/__key__`
            (WebDataset), `split/index` (motion); followed by `@START-END` for a segment (`segment_id`).
        video: the file's bytes, or a path or URL.
        label: index (or indices) into the source's `class_names`, or a number, where the source is labelled.
        start, end: of the segment that the sample is, in seconds after the file's first frame: the frames with
            start <= time < end. None is the beginning, and the end, of the file.
    """

    id: str
    video: bytes | str
    label: Label | None = None
    start: float | None = None
    end: float | None = None

    @property
    def source(self) -> VideoSource | VideoSegment:
        """Return what decodes to the sample's frames: the video, or the segment of it."""
        if self.start is None and self.end is None:
            return self.video
        return VideoSegment(self.video, start=self.start or 0.0, end=self.end)

    @property
    def location(self) -> str:
        """Where the video lies, without credentials: its path or URL, or the id of one that is held in memory."""
        if isinstance(self.video, (str, BlockedVideo)):
            return redact_credentials(self.video if isinstance(self.video, str) else self.video.path)
        return self.id

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

    `read_shard` sits out a network that fails for `retry_seconds` seconds (None: as long as a run may), then raises
    `hf_videomae.hub.retry.SourceUnavailable`.
    """

    name: str
    class_names: list[str] | None
    num_shards: int
    num_samples: int | None  # where the data set says so

    def read_shard(self, shard: int, *, retry_seconds: float | None = None) -> Iterator[Sample]: ...


AnySource = Source | StreamedSource


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several data sets to draw from by weights, by `open_mixture`.

    The ids of its samples are `NAME:ID`, with the name of the data set.

    Attributes:
        parts: the data sets, of any kind.
        weights: whole numbers, one for each.
        class_names: what all parts have; None where they are not labelled alike.
    """

    parts: tuple[AnySource, ...]
    weights: tuple[int, ...]
    class_names: list[str] | None = None

    @property
    def name(self) -> str:
        """All names."""
        return " + ".join(part.name for part in self.parts)

    @property
    def num_samples(self) -> int | None:
        """Videos of all parts: so many draws are an epoch of the mix, whichever parts they are of."""
        sizes = [num_videos(part) for part in self.parts]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def shares(self) -> list[float]:
        """Of the draws, one for each part."""
        return [weight / sum(self.weights) for weight in self.weights]


AnyData = AnySource | Mixture


def num_videos(source: AnyData) -> int | None:
    """How many videos there are, where that is known."""
    return len(source) if isinstance(source, Source) else source.num_samples


def describe_source(source: AnyData) -> str:
    """For people: name, number of videos and classes; of a mix a line for each part, with its share."""
    line = f"{source.name}: {_describe_size(num_videos(source))}, {_describe_classes(source)}{_describe_cache(source)}"
    if not isinstance(source, Mixture):
        return line
    return "\n".join([line, *(_describe_part(source, part) for part in range(len(source.parts)))])


def source_notes(source: AnyData) -> list[str]:
    """Return what the user must know of how the data was read, a line each; of a mix those of all parts."""
    parts = source.parts if isinstance(source, Mixture) else (source,)
    return [note for part in parts for note in getattr(part, "notes", ())]


def describe_epoch(source: AnyData) -> str | None:
    """What an epoch is, where that is not simply every video once."""
    if num_videos(source) is None:
        what = "not every data set of the mix says" if isinstance(source, Mixture) else f"{source.name} does not say"
        return f"an epoch has no known length: {what} how many videos it has"
    if not isinstance(source, Mixture):
        return None
    return f"an epoch of the mix is {source.num_samples} draws, as many as all its data sets have videos"


def describe_shards(source: AnyData, *, processes: int) -> list[str]:
    """How the shards of streamed data are shared by several processes, and what to do where that goes badly."""
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
            f"note: {has}, {each} or {each + 1} for each, so some are through with theirs long before others; {remedy}"
        )
    return f"{has}, {each if not more else f'{each} or {each + 1}'} for each; the processes read them, workers decode"


def _describe_part(mixture: Mixture, number: int) -> str:
    part, share = mixture.parts[number], mixture.shares[number]
    size, every = num_videos(part), mixture.num_samples
    passes = "" if not size or every is None else f", {share * every / size:.3g} passes over it in an epoch of the mix"
    return f"  {100 * share:.3g} % {part.name}: {_describe_size(size)}, {_describe_classes(part)}{passes}{_describe_cache(part)}"


def _describe_size(count: int | None) -> str:
    return "an unknown number of videos" if count is None else f"{count} video{'' if count == 1 else 's'}"


def _describe_classes(source: AnyData) -> str:
    return "no labels" if source.class_names is None else f"{len(source.class_names)} classes"


def _describe_cache(source: AnyData) -> str:
    shard_cache = getattr(source, "shard_cache", None)
    return "" if shard_cache is None else f"; {shard_cache}"
