"""Describe the real clips, and decode them with the ffmpeg command for comparison."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

# name: frames that decode, (height, width) as displayed, frames per second
CLIPS = {
    "dec_flipping_a_pancake.mkv": (310, (240, 426), 30.0),
    "dec_unordered.mov": (4, (50, 50), 32.0),
    "dec_video_0.mov": (3, (320, 568), 30.0),
    "dec_video_180.mov": (3, (320, 568), 30.0),
    "dec_video_90.mov": (3, (568, 320), 30.0),
    "ffw_bbb_180_10s.webm": (300, (180, 320), 30.0),
    "hfd_test_video_66x50.mov": (82, (50, 66), 60.0),
    "iio_realshort.mp4": (36, (240, 320), 30.02),
    "intel_asl_book.mkv": (109, (480, 640), 30.0),
    "intel_asl_milk.mkv": (51, (480, 640), 30.0),
    "mdn_rabbit320.webm": (234, (240, 320), 30.0),
    "mma_demo.mp4": (280, (256, 340), 28.0),
    "mma_test.avi": (164, (240, 320), 25.0),
    "mpy_bitmap.mp4": (5, (1, 1), 1.0),
    "mpy_chaplin.mp4": (241, (360, 640), 25.0),
    "skv_bikes.mp4": (250, (272, 640), 25.0),
    "skv_carphone_pristine.mp4": (120, (144, 176), 29.97),
    "tc_h264_10bits.mp4": (30, (200, 200), 30.0),
    "tc_h265_video.mp4": (10, (128, 128), 10.0),
    "tc_nasa_13013.mp4": (390, (270, 480), 29.97),
}
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")


def ffmpeg_frames(path: Path, size: tuple[int, int], *, rotated: bool = True) -> torch.Tensor:
    """Return every frame that ffmpeg decodes, (T, 3, H, W), rotated as a player does, or as coded."""
    command = ["ffmpeg", "-v", "error", *([] if rotated else ["-noautorotate"]), "-i", str(path)]
    command += ["-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, *size, 3).permute(0, 3, 1, 2)


def assert_same_frames(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 0.5) -> None:
    """Assert that the mean difference of each frame is at most so many levels of 255."""
    difference = (ours.float() - theirs.float()).abs().mean(dim=(1, 2, 3))
    assert difference.max() <= tolerance, difference
