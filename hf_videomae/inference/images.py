"""Draw clips as images: strips of frames under labels.

Shapes: T frames, C channels, H x W pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .figure_text import resolve_font

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


def evenly_spaced_indices(count: int, max_count: int) -> list[int]:
    """Return at most `max_count` of `count` indices, evenly spaced, including the first and the last."""
    max_count = min(max_count, count)
    return [round(step * (count - 1) / max(max_count - 1, 1)) for step in range(max_count)]


def to_uint8_frames(clip: Tensor) -> Tensor:
    """Convert (T, C, H, W) in [0, 1] to (T, H, W, 3) uint8; one channel becomes gray, more than three are cut."""
    if clip.shape[1] != 3:
        clip = clip[:, :1].expand(-1, 3, -1, -1) if clip.shape[1] < 3 else clip[:, :3]
    return (clip * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def draw_frame_grid(rows: Sequence[tuple[str, Tensor]], *, side_by_side: bool = False) -> "PILImage":
    """Draw rows of frames under their labels.

    Args:
        rows: a label and frames (T, H, W, 3) uint8 for each row.
        side_by_side: put the rows, of one frame each, next to each other.
    """
    from PIL import Image, ImageDraw

    height, width = rows[0][1].shape[1:3]
    zoom = max(1, round(128 / width))
    height, width, gap, label_height = height * zoom, width * zoom, 4, 18
    labels = [_label_and_font(label, size=12) for label, _ in rows]
    longest = max(round(font.getlength(label)) for label, font in labels) + 8
    column_widths = [max(width, longest if side_by_side else 0)] * (len(rows) if side_by_side else rows[0][1].shape[0])
    total_width = max(sum(column_widths) + gap * (len(column_widths) + 1), longest + gap)
    num_rows = 1 if side_by_side else len(rows)
    canvas = Image.new("RGB", (total_width, num_rows * (label_height + height + gap) + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for row, (_, frames) in enumerate(rows):
        label, font = labels[row]
        left = gap + (row * (column_widths[0] + gap) if side_by_side else 0)
        top = gap + (0 if side_by_side else row * (label_height + height + gap))
        draw.text((left, top), label, fill="black", font=font)
        for column, frame in enumerate(frames):
            image = Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(image, (left + column * (width + gap), top + label_height))
    return canvas


def _label_and_font(label: str, *, size: int) -> tuple[str, Any]:
    """Return a label in characters that can be drawn, and its font."""
    from PIL import ImageFont

    text, path = resolve_font(label)
    return text, ImageFont.load_default(size=size) if path is None else ImageFont.truetype(str(path), size)
