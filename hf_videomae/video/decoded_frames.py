"""Convert decoded frames (PIL images, arrays, tensors) to tensors `(T, C, H, W)`.

Shapes: T frames, C channels, H and W pixels.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

ChannelOrder = Literal["channels_first", "channels_last"]

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Luma of red, green and blue by ITU-R BT.601, as Pillow's `convert("L")` computes it."""

# Pillow's mode for each number of channels.
_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Of other ranges than 8 bits: `convert` cuts these off at 255 instead of scaling them.
_WIDE_MODES = ("I", "F")


def is_pil_image(frame: Any) -> bool:
    """Return whether this is a PIL image, without importing PIL."""
    return hasattr(frame, "getbands") and hasattr(frame, "convert")


def is_frame(item: Any) -> bool:
    """Return whether this is one frame of a video."""
    return is_pil_image(item) or (isinstance(item, (Tensor, np.ndarray)) and item.ndim in (2, 3))


def frames_to_tensor(video: Any, num_channels: int, channel_order: ChannelOrder | None) -> Tensor:
    """Return decoded frames of any form as (T, C, H, W)."""
    if isinstance(video, (list, tuple)):
        video = _stack(video, num_channels)
    if not isinstance(video, (Tensor, np.ndarray)):
        raise ValueError(
            f"{type(video).__name__} is no video: give a path, URL, bytes, decoder, array, or list of frames"
        )
    frames = _to_tensor(video)
    if frames.ndim == 3:
        frames = frames[:, None]
    elif frames.ndim == 4:
        last = channel_order == "channels_last" if channel_order else _is_channels_last(frames, num_channels)
        frames = frames.movedim(-1, 1) if last else frames
    if frames.ndim != 4 or 0 in frames.shape or frames.dtype == torch.bool or frames.is_complex():
        raise ValueError(
            f"{frames.dtype} frames of shape {tuple(frames.shape)} came; give (T, C, H, W), (T, H, W, C) or gray "
            f"(T, H, W) as uint8 or float"
        )
    return frames


def _stack(frames: Sequence[Any], num_channels: int) -> Tensor:
    """Stack a list of images or arrays to (T, H, W), (T, C, H, W) or (T, H, W, C)."""
    arrays = []
    for frame in frames:
        if not is_frame(frame):
            raise ValueError(f"a frame of type {type(frame).__name__} came; give PIL images, arrays or tensors")
        if is_pil_image(frame):
            frame = _pil_to_array(frame, num_channels)
        arrays.append(_to_tensor(frame))
    shapes, kinds = {tuple(array.shape) for array in arrays}, {str(array.dtype) for array in arrays}
    if len(shapes) != 1:
        raise ValueError(f"the frames of one video must have one shape; {sorted(shapes)} came")
    if len(kinds) != 1:
        raise ValueError(f"the frames of one video must have one type of pixels; {', '.join(sorted(kinds))} came")
    return torch.stack(arrays)


def _pil_to_array(image: Any, num_channels: int) -> np.ndarray:
    """Return a PIL image as an array: 8 bits (H, W) or (H, W, C), or (H, W) unchanged for other ranges."""
    if image.mode.startswith("I;16"):
        raise ValueError(
            f"a PIL image of 16 bits (mode {image.mode!r}) came, and its file does not say which value is white: "
            f"give np.asarray(image) / 65535 (4095 for a camera of 12 bits), floats in [0, 1]"
        )
    if image.mode in _WIDE_MODES:
        return np.asarray(image)
    mode = _PIL_MODES.get(num_channels)
    if mode is None and image.mode in ("P", "PA"):
        raise ValueError(f"a PIL image with a palette came for {num_channels} channels; convert it first")
    if image.mode == "La":  # Pillow converts it to nothing else
        image = image.convert("LA")
    try:
        return np.array(image.convert(mode) if mode else image)
    except ValueError as error:
        raise ValueError(f"a PIL image of mode {image.mode!r} came: {error}; give RGB or L images") from error


def _to_tensor(array: Tensor | np.ndarray) -> Tensor:
    if isinstance(array, Tensor):
        return array
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)  # torch computes little in unsigned types other than uint8
    # torch takes neither the negative strides of array[..., ::-1] nor, without a warning, read-only memory.
    plain = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if plain else array.copy())


def _is_channels_last(frames: Tensor, num_channels: int) -> bool:
    first, last = frames.shape[1], frames.shape[3]
    likely = {1, 3, 4, num_channels}
    if first == last == num_channels or (first not in likely and last not in likely):
        raise ValueError(
            f"the shape {tuple(frames.shape)} does not tell where the {num_channels} channels are: give (T, C, H, W) "
            f"or (T, H, W, C), and input_data_format='channels_first' or 'channels_last' if both are possible"
        )
    if num_channels in (first, last):
        return last == num_channels
    return first not in likely


def match_channels(frames: Tensor, wanted: int) -> Tensor:
    """Return frames (T, any, H, W) as (T, wanted, H, W): repeat gray, turn color into luma, refuse the rest."""
    channels = frames.shape[1]
    if channels == wanted:
        return frames
    if channels == 1:
        return frames.expand(-1, wanted, -1, -1)
    if (channels, wanted) == (3, 1):
        weights = torch.tensor(LUMA_WEIGHTS, device=frames.device).view(3, 1, 1)
        luma = (frames * weights).sum(1, keepdim=True)
        return luma if frames.is_floating_point() else luma.round().to(frames.dtype)
    raise ValueError(
        f"frames of {channels} channels came for {wanted} (the number of values in image_mean): choose the channels "
        f"first, for example video[:, :{wanted}]"
    )
