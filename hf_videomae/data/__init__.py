"""Turn a dataset into a stream of batches.

`open_source` opens a dataset by name, `open_mixture` several of them to mix, and `build_loader` makes the endless
batches of one rank: sharded, shuffled, independent of the number of workers, resumable at any step, with bad videos
replaced and counted. `loader.py` lists the steps from a dataset to a batch.
"""

from ..errors import DataError
from .clips import ClipConfig
from .labels import LabelEncoder, LabelKind
from .loader import Loader, build_loader
from .motion import MotionSource
from .open import has_columns, open_mixture, open_source
from .source import (
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

__all__ = [
    "ClipConfig",
    "DataError",
    "LabelEncoder",
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
