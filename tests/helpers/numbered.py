"""Make videos whose frames hold their numbers, and run tests with each decoder."""

import pytest
import torch

from hf_videomae.video import _pyav

BACKENDS = ["torchcodec", "pyav"]
LEVEL = 10  # frame i of a numbered video is gray of value i * LEVEL

needs_pyav = pytest.mark.skipif(_pyav.unavailable_reason() is not None, reason="needs PyAV (`pip install av`)")


def with_pyav(name: str) -> object:
    return pytest.param(name, marks=needs_pyav) if name == "pyav" else name


each_backend = pytest.mark.parametrize("backend", [with_pyav(name) for name in BACKENDS])


def numbered_video(num_frames: int = 24, *, height: int = 32, width: int = 48, container: str = "mp4") -> bytes:
    from torchcodec.encoders import VideoEncoder

    levels = torch.arange(num_frames, dtype=torch.uint8).view(-1, 1, 1, 1) * LEVEL
    frames = levels.expand(num_frames, 3, height, width).contiguous()
    encoded = VideoEncoder(frames, frame_rate=12).to_tensor(format=container, codec="libx264", crf=1)
    return encoded.numpy().tobytes()


def numbers(frames: torch.Tensor) -> list[int]:
    """Return the numbers in frames of a numbered video."""
    return (frames.float().mean(dim=(1, 2, 3)) / LEVEL).round().int().tolist()
