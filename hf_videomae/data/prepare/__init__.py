"""A folder of raw videos, or a data set of the Hub -> a small, evenly sharded set that streams well.

`inputs` finds the videos, their labels and splits; `workshop` makes each small, in parallel, and remembers what it
made; `shards` spreads them over Parquet or WebDataset files; `card` describes the result; `run` is the way through.
"""

from .run import Prepared, PrepareSettings, prepare

__all__ = ["PrepareSettings", "Prepared", "prepare"]
