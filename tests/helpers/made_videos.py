"""Make small videos with the ffmpeg command, and read them with it."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

needs_ffmpeg_command = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg and return what it writes to standard output."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def make_video(path: Path, *options: str, size: str = "64x48", frames: int = 10, rate: str = "25") -> Path:
    """Write a moving test picture, unless the file is there; `options` come before the name of the file."""
    if path.exists():
        return path
    picture = f"testsrc2=size={size}:rate={rate}"
    ffmpeg("-f", "lavfi", "-i", picture, "-frames:v", str(frames), *options, "-fflags", "+bitexact", path)
    return path


def at_times(times: list[float]) -> str:
    """Return the filter that shows frame i at the i-th time, in seconds."""
    steps = "".join(
        f"+gte(N\\,{place})*{time - before}" for place, (before, time) in enumerate(_pairs(times), start=1)
    )
    return f"settb=1/1000,setpts=round(({times[0]}{steps})/TB)"


def _pairs(times: list[float]) -> list[tuple[float, float]]:
    return list(zip(times[:-1], times[1:], strict=True))


def frames_of_ffmpeg(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """Return the frames `(T, 3, H, W)` that the ffmpeg command reads as rgb24."""
    options = ("-fps_mode", "passthrough", "-sws_flags", "bicubic+accurate_rnd+full_chroma_int")
    raw = ffmpeg("-i", path, *options, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, *size, 3).permute(0, 3, 1, 2)
