"""Publish runs on the Hub: snapshots of an output folder, pushed in the background or by `hf-videomae push`."""

from .background import BackgroundPublisher, PushTiming
from .push import PublishResult, format_publish_result, push_run
from .repo import ModelTarget

__all__ = [
    "BackgroundPublisher",
    "ModelTarget",
    "PublishResult",
    "PushTiming",
    "format_publish_result",
    "push_run",
]
