"""A folder of raw videos, or a data set of the Hub -> a small, evenly sharded set that streams well.

`inputs` finds the videos, their labels and splits; `workshop` makes each small, in parallel, and remembers what it
made; `shards` spreads them over Parquet or WebDataset files; `report` and `card` describe the
result; `run` is the way through.
"""

from .report import describe_report
from .run import Prepared, PrepareSettings, prepare

__all__ = ["PrepareSettings", "Prepared", "describe_report", "prepare"]
