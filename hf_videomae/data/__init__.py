"""A data set -> a stream of batches.

`open_source` opens what the user named, `open_mixture` several of these to mix, `build_loader` makes the endless
batches of one rank from it: sharded, shuffled, the same whatever the number of workers, resumable at any step, and
honest about bad videos.
"""

from .collate import ClipSettings
from .labels import LabelCoding, LabelKind
from .motion import MotionSource
from .samples import (
    DataError,
    Mixture,
    Sample,
    Source,
    StreamedSource,
    describe_epoch,
    describe_shards,
    describe_source,
    num_videos,
    source_notes,
)
from .sources import has_columns, open_mixture, open_source
from .stream import Loader, build_loader

__all__ = [
    "ClipSettings",
    "DataError",
    "LabelCoding",
    "LabelKind",
    "Loader",
    "Mixture",
    "MotionSource",
    "Sample",
    "Source",
    "StreamedSource",
    "build_loader",
    "describe_epoch",
    "describe_shards",
    "describe_source",
    "num_videos",
    "has_columns",
    "open_mixture",
    "open_source",
    "source_notes",
]
