"""Clips out of one open video, a few at a time: a long video's frames together would take gigabytes.

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
    """Items in their order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def read_windows(
    reader: VideoReader | SegmentReader,
    windows: Sequence[Sequence[int]],
    *,
    processor: VideoMAEVideoProcessor,
    batch_size: int,
) -> Iterator[Tensor]:
    """The windows as the processor makes clips, (W, T, C, H, W) for each group; no frame of a group is read twice.

    Args:
        reader: the open video.
        windows: the frames of each, counted from 0.
        processor: resizes, cuts and normalises them.
        batch_size: windows of a group.

    Raises:
        VideoDecodeError: where the file breaks off.
    """
    for group in batched(windows, batch_size):
        distinct = sorted({index for window in group for index in window})
        frames, place = reader.frames(distinct), {index: number for number, index in enumerate(distinct)}
        settings = {"do_sample_frames": False, "input_data_format": "channels_first"}
        (pixels,) = processor(frames, **settings)["pixel_values"]
        yield torch.stack([pixels[[place[index] for index in window]] for window in group])
