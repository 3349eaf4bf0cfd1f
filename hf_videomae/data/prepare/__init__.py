"""A folder of raw videos, or a data set of the Hub -> a small, evenly sharded set that streams well.

`inputs` finds the videos, their labels and splits; `workshop` makes each small, in parallel, and remembers what it
made; `shards` spreads them over Parquet or WebDataset files; `report` and `card` describe the
result; `run` is the way through; `target` and `push` publish it.
"""

from ..uploading import PushError
from .push import Pushed, push_set
from .report import describe_report
from .run import Prepared, PrepareSettings, prepare
from .target import HubTarget, check_target

__all__ = [
    "HubTarget",
    "PrepareSettings",
    "Prepared",
    "PushError",
    "Pushed",
    "check_target",
    "describe_report",
    "prepare",
    "push_set",
]
