"""Read the segments of videos that rows name by path: numeric columns `start` and `end`, in seconds."""

from typing import Any

from ..video.url_allowlist import BlockedVideo
from .index_columns import find_typed_column
from .index_files import check_segment, parse_seconds
from .source import Segment

_WHOLE_VIDEO: Segment = (None, None)


class SegmentColumns:
    """The columns of a dataset that give the part of a video that a row uses.

    A video embedded in its row is used whole: such clips are cut already, and their times refer to the original.

    Args:
        features: of the dataset, by `datasets`.
        name: of the dataset, for the note.
    """

    def __init__(self, features: Any, *, name: str) -> None:
        self.start, self.end = (
            find_typed_column(features, role, dtypes=("int", "uint", "float")) for role in ("start", "end")
        )
        self.columns = [column for column in (self.start, self.end) if column is not None]
        self.notes: list[str] = []
        if self.columns:
            named = " and ".join(f"`{column}`" for column in self.columns)
            self.notes.append(
                f"{name}: {named} cut segments (in seconds) out of the videos that rows name by path; videos that are "
                f"embedded in the rows are used whole"
            )

    def with_segment(self, row: dict[str, Any], video: bytes | str, *, place: str) -> tuple[bytes | str, Segment]:
        """Return the video of a row and its segment; a `BlockedVideo` if the segment is empty."""
        if not self.columns or not isinstance(video, str):
            return video, _WHOLE_VIDEO
        times = [None if column is None else row[column] for column in (self.start, self.end)]
        try:
            start, end = (None if time is None else parse_seconds(str(time)) for time in times)
            check_segment(start, end)
        except ValueError as error:
            return BlockedVideo(place, str(error)), _WHOLE_VIDEO
        return video, (start, end)
