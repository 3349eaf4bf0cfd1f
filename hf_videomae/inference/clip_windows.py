"""Read windows of frames from one open video, a few at a time: all frames of a long video would take gigabytes.

Shapes: W windows, T frames of each, C channels, H x W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ..video.decoding import VideoReader
from ..video.segments import SegmentReader
from ..video_processing_videomae import VideoMAEVideoProcessor

Item = TypeVar("Item")


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def read_windows(
    reader: VideoReader | SegmentReader,
    windows: Sequence[Sequence[int]],
    *,
    processor: VideoMAEVideoProcessor,
    batch_size: int,
) -> Iterator[Tensor]:
    """Yield batches of windows, (W, T, C, H, W) each, as the processor makes clips; no frame is read twice in a batch.

    Args:
        reader: the open video.
        windows: the frame indices of each window, counted from 0.
        processor: resizes, crops and normalizes the frames.
        batch_size: windows per batch.

    Raises:
        VideoDecodeError: if the file is damaged at one of the frames.
    """
    for batch in batched(windows, batch_size):
        distinct = sorted({index for window in batch for index in window})
        frames, position = reader.frames(distinct), {index: row for row, index in enumerate(distinct)}
        settings = {"do_sample_frames": False, "input_data_format": "channels_first"}
        (pixels,) = processor(frames, **settings)["pixel_values"]
        yield torch.stack([pixels[[position[index] for index in window]] for window in batch])
