"""Turn a folder of videos, or a Hub dataset, into a smaller, evenly sharded dataset that streams well.

`scan` finds the videos, their labels and splits. `transcoder` encodes each one smaller, in parallel, and records what
is done. `shards` distributes them over Parquet or WebDataset files. `prepare_report` and `dataset_card` describe the
result. `pipeline` runs all of it. `push_dataset` publishes it.
"""

from ..hub.client import PushError
from .dataset_card import check_dataset_card, write_dataset_card
from .layout import read_report
from .pipeline import PrepareResult, PrepareSettings, prepare
from .prepare_report import describe_report
from .push_dataset import check_dataset_target, push_dataset

__all__ = [
    "PrepareSettings",
    "PrepareResult",
    "PushError",
    "check_dataset_card",
    "check_dataset_target",
    "describe_report",
    "prepare",
    "push_dataset",
    "read_report",
    "write_dataset_card",
]
