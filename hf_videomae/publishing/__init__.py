"""Publish runs on the Hub, in the background while they train or afterwards by `hf-videomae push`."""

from .background import BackgroundPublisher, PushTiming
from .push import PublishResult, format_publish_result, push_run

__all__ = [
    "BackgroundPublisher",
    "PublishResult",
    "PushTiming",
    "format_publish_result",
    "push_run",
]
