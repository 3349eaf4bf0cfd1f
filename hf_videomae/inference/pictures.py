"""Clips as pictures: strips of frames under labels.

Shapes: T frames, C channels, H x W pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .figure_text import picture_font

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` places, evenly spread, the first and the last among them."""
    wanted = min(wanted, count)
    return [round(step * (count - 1) / max(wanted - 1, 1)) for step in range(wanted)]


def to_bytes(clip: Tensor) -> Tensor:
    """(T, C, H, W) in [0, 1] -> (T, H, W, 3) uint8; one channel as grey, more than three by their first three."""
    if clip.shape[1] != 3:
        clip = clip[:, :1].expand(-1, 3, -1, -1) if clip.shape[1] < 3 else clip[:, :3]
    return (clip * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def sheet(rows: Sequence[tuple[str, Tensor]], *, beside: bool = False) -> "Picture":
    """Rows of frames, (T, H, W, 3) uint8, under their labels; with `beside` the single frames stand side by side."""
    from PIL import Image, ImageDraw

    height, width = rows[0][1].shape[1:3]
    zoom = max(1, round(128 / width))
    height, width, gap, label_height = height * zoom, width * zoom, 4, 18
    written = [_written(label, size=12) for label, _ in rows]
    longest = max(round(font.getlength(label)) for label, font in written) + 8
    across = [max(width, longest if beside else 0)] * (len(rows) if beside else rows[0][1].shape[0])
    total_width = max(sum(across) + gap * (len(across) + 1), longest + gap)
    down = 1 if beside else len(rows)
    canvas = Image.new("RGB", (total_width, down * (label_height + height + gap) + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (_, frames) in enumerate(rows):
        label, font = written[number]
        left = gap + (number * (across[0] + gap) if beside else 0)
        top = gap + (0 if beside else number * (label_height + height + gap))
        draw.text((left, top), label, fill="black", font=font)
        for column, frame in enumerate(frames):
            picture = Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (left + column * (width + gap), top + label_height))
    return canvas


def _written(label: str, *, size: int) -> tuple[str, Any]:
    """A label as it can be drawn, and its font."""
    from PIL import ImageFont

    text, path = picture_font(label)
    return text, ImageFont.load_default(size=size) if path is None else ImageFont.truetype(str(path), size)
