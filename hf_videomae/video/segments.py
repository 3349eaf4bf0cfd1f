"""Read a part of a video between two times as a video of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import torch

from ._source import VideoSource
from .decode_errors import VideoDecodeError
from .hdr import HighDynamicRange
from .reader import IndexSampling, VideoReader, check_indices

# Times are often written with three digits: 0.067 means the frame at 2/30 s.
TIME_TOLERANCE = 0.0005


@dataclass(frozen=True, slots=True)
class VideoSegment:
    """A part of a video. Everything that opens videos opens it too.

    Args:
        video: a path, URL, bytes or binary file.
        start: in seconds after the first frame.
        end: likewise; None is the end of the video.

    Raises:
        ValueError: nothing lies between the two, or a time is negative or not finite.
    """

    video: VideoSource
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        last = math.inf if self.end is None else self.end
        if not (0 <= self.start < last and math.isfinite(self.start) and (self.end is None or math.isfinite(last))):
            raise ValueError(
                f"nothing lies between {self.start:g} and {last:g} s of the video; give start and end in seconds, the "
                f"start first"
            )


def frames_between(timestamps: torch.Tensor, *, start: float, end: float | None) -> range:
    """Return the frames with start <= time < end, times rounded to half a millisecond.

    Args:
        timestamps: (N,) in seconds, never falling.
        start: in seconds.
        end: in seconds; None is the end of the video.
    """
    edges = torch.tensor(
        [start - TIME_TOLERANCE, math.inf if end is None else end - TIME_TOLERANCE], dtype=timestamps.dtype
    )
    first, last = torch.searchsorted(timestamps, edges).tolist()
    return range(first, last)


class SegmentReader(IndexSampling):
    """An open `VideoSegment`, from `open_video`: a `VideoReader` of its frames alone, counted from 0.

    Args:
        reader: reads the whole file.
        segment: the part to read.

    Raises:
        VideoDecodeError: no frame lies between its start and end.
    """

    def __init__(self, reader: VideoReader, segment: VideoSegment) -> None:
        self._reader, self._start, self._end = reader, segment.start, segment.end
        self.num_clamped = 0
        self._cached_window: tuple[int, range] | None = None
        self._window()

    @property
    def name(self) -> str:
        """Return the name of this video in errors."""
        return self._reader.name

    @property
    def num_frames(self) -> int:
        """Return how many frames lie between start and end; at least 1."""
        return len(self._window())

    @property
    def first_frame(self) -> int:
        """Return the number of the first frame in the file."""
        return self._window().start

    @property
    def fps(self) -> float:
        """Return the frame rate of the file in 1/s; 0.0 if it is not known."""
        return self._reader.fps

    @property
    def timestamps(self) -> torch.Tensor:
        """Return when each frame is shown, in seconds after the first frame of the segment: (num_frames,) float64."""
        window = self._window()
        times = self._reader.timestamps[window.start : window.stop]
        return times - times[0]

    @property
    def height(self) -> int:
        """Return the height in pixels, as displayed."""
        return self._reader.height

    @property
    def width(self) -> int:
        """Return the width in pixels, as displayed."""
        return self._reader.width

    @property
    def hdr(self) -> HighDynamicRange | None:
        """Return the kind of high dynamic range of the file; None for standard range."""
        return self._reader.hdr

    @property
    def backend(self) -> str:
        """Return the decoder in use."""
        return self._reader.backend

    def frames(self, indices: Sequence[int]) -> torch.Tensor:
        """Return frames of the segment, as `VideoReader.frames` does; an index past its end gives its last frame."""
        wanted = check_indices(indices)
        window = self._window()
        self.num_clamped += sum(index >= len(window) for index in wanted)
        return self._reader.frames([window[min(index, len(window) - 1)] for index in wanted])

    def close(self) -> None:
        """Free the decoder."""
        self._reader.close()

    def __enter__(self) -> "SegmentReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)

    def _window(self) -> range:
        """Return the frames of the segment in the file; computed again if decoding shows that the file has fewer."""
        total = self._reader.num_frames
        if self._cached_window is None or self._cached_window[0] != total:
            timestamps = self._reader.timestamps
            window = frames_between(timestamps, start=self._start, end=self._end)
            if not window:
                raise VideoDecodeError(self.name, self._empty_reason(float(timestamps[-1])))
            self._cached_window = len(timestamps), window
        return self._cached_window[1]

    def _empty_reason(self, last: float) -> str:
        if self._start > last:
            return f"its segment starts at {self._start:g} s, but its last frame is at {last:.3f} s"
        return f"no frame of it lies between {self._start:g} and {math.inf if self._end is None else self._end:g} s"
