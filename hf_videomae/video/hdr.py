"""Recognize videos of high dynamic range (PQ, HLG), count them, and map them to standard range.

Decoders return the pixels of such a file as if it had standard range: gray and pale, 40 to 60 levels of 255 away from
what a player shows. They are read so, and counted here; `hf-videomae prepare` maps them to standard range (BT.709).

The mapping has four steps:
1. signal to light in cd/m2 (PQ: SMPTE ST 2084; HLG: ITU-R BT.2100 for a display of 1000 cd/m2), in units of the white
   of standard range, 203 cd/m2 (ITU-R BT.2408);
2. primaries to BT.709;
3. light above a knee rolls off up to 1000 cd/m2, by the strongest channel, so that hues stay;
4. light to signal with the exponent 2.4 (BT.1886).
"""

import logging
import multiprocessing
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Transfer = Literal["PQ", "HLG"]

REMEDY = "`hf-videomae prepare` maps such videos to standard range"

# FFmpeg's names, and the numbers that PyAV gives (ISO/IEC 23091-2).
_TRANSFERS: dict[object, Transfer] = {"smpte2084": "PQ", 16: "PQ", "arib-std-b67": "HLG", 18: "HLG"}
_PRIMARIES: dict[object, str] = {"bt709": "bt709", 1: "bt709", "smpte432": "p3", 12: "p3"}

_WHITE = 203.0
_PEAK = 1000.0 / _WHITE
_KNEE = 0.75
_EXPONENT = 2.4
# Linear light of these primaries to BT.709's, which have the same white.
_TO_BT709 = {
    "bt2020": ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    "p3": ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
    "bt709": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
# Steps of the table along each color: the error of a table of 33 is under one level of 255.
_LUT_SIZE = 33
# A server that runs for years keeps no more names than these.
_MAX_NAMES = 1_000_000


@dataclass(frozen=True)
class HighDynamicRange:
    """How pixel values of a video map to light.

    Args:
        transfer: `"PQ"` or `"HLG"`.
        primaries: `"bt2020"`, `"p3"` or `"bt709"`.
    """

    transfer: Transfer
    primaries: str = "bt2020"

    @classmethod
    def from_tags(cls, transfer: object, primaries: object) -> "HighDynamicRange | None":
        """Return the range that a file's tags state, None for standard range.

        Args:
            transfer, primaries: FFmpeg's names, or the numbers of the standard; unknown primaries are BT.2020's.
        """
        known = _TRANSFERS.get(transfer)
        return None if known is None else cls(known, _PRIMARIES.get(primaries, "bt2020"))

    def to_sdr(self, signal: Tensor) -> Tensor:
        """Return the signal of standard range for one of high dynamic range.

        Args:
            signal: (..., 3) red, green, blue in [0, 1].
        """
        light = (_pq_light(signal) if self.transfer == "PQ" else _hlg_light(signal)) / _WHITE
        light = (light @ signal.new_tensor(_TO_BT709[self.primaries]).T).clamp(min=0)
        strongest = light.amax(-1, keepdim=True).clamp(min=1e-9)
        return (light * (_tone_map(strongest) / strongest)).clamp(0, 1) ** (1 / _EXPONENT)

    def to_cube_lut(self) -> str:
        """Return the mapping as a table in the `.cube` format, which FFmpeg's filter `lut3d` reads."""
        steps = torch.linspace(0, 1, _LUT_SIZE, dtype=torch.float64)
        blue, green, red = torch.meshgrid(steps, steps, steps, indexing="ij")  # red changes fastest
        rows = self.to_sdr(torch.stack((red, green, blue), dim=-1)).reshape(-1, 3).tolist()
        lines = (f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in rows)
        return "\n".join((f"LUT_3D_SIZE {_LUT_SIZE}", *lines)) + "\n"


def _pq_light(signal: Tensor) -> Tensor:
    """Return cd/m2, by SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal.clamp(0, 1) ** (1 / m2)
    return 10000 * ((power - c1).clamp(min=0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_light(signal: Tensor) -> Tensor:
    """Return cd/m2 of a display of 1000 cd/m2, by ITU-R BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = torch.where(signal <= 0.5, signal**2 / 3, (((signal - c) / a).exp() + b) / 12)
    luminance = (scene * signal.new_tensor((0.2627, 0.6780, 0.0593))).sum(-1, keepdim=True)
    return 1000 * luminance.clamp(min=0) ** 0.2 * scene


def _tone_map(light: Tensor) -> Tensor:
    """Return light unchanged up to the knee, and above it bent so that the peak becomes 1."""
    k, p = _KNEE, _PEAK
    a = -k * k * (p - 1) / (k * k - 2 * k + p)
    b = (k * k - 2 * k * p + p) / (p - 1)
    bent = (b * b + 2 * b * k + k * k) / (b - a) * (light + a) / (light + b)
    return torch.where(light <= k, light, bent)


# Counting


class HdrCounter:
    """Count the videos of high dynamic range that were read as standard range, each once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._videos: dict[str, Transfer] = {}

    def __len__(self) -> int:
        return len(self._videos)

    def add(self, videos: Mapping[str, Transfer]) -> None:
        """Count videos by name; the main process of a run warns about the first one."""
        with self._lock:
            is_first = not self._videos and bool(videos)
            if len(self._videos) < _MAX_NAMES:
                self._videos.update(videos)
        if is_first and multiprocessing.parent_process() is None and os.environ.get("RANK", "0") == "0":
            name, transfer = next(iter(videos.items()))
            logger.warning(
                "%s is HDR (%s) and is read as if of standard range, gray and pale; %s. "
                "Further such videos are counted, not warned about.",
                name, transfer, REMEDY,
            )  # fmt: skip

    def take(self) -> dict[str, Transfer]:
        """Return what this worker process counted since the last call; nothing in the main process."""
        if multiprocessing.parent_process() is None:
            return {}
        with self._lock:
            taken, self._videos = self._videos, {}
        return taken

    def names(self) -> dict[str, Transfer]:
        """Return the videos counted so far, and their transfer."""
        with self._lock:
            return dict(self._videos)


hdr_counter = HdrCounter()
"""The videos of high dynamic range that this process read."""


def warn_new_hdr_videos(before: Mapping[str, Transfer]) -> None:
    """Warn if several videos of high dynamic range were read since `before`; the first had a warning of its own."""
    videos = {name: transfer for name, transfer in hdr_counter.names().items() if name not in before}
    if len(videos) > 1:
        logger.warning("%s", describe_hdr_videos(videos))


def describe_hdr_videos(videos: Mapping[str, Transfer]) -> str:
    """Return a line with the number of HDR videos and the name of the first."""
    name, transfer = next(iter(videos.items()))
    count = "1 video is" if len(videos) == 1 else f"{len(videos)} videos are"
    return f"{count} HDR and read as if of standard range, the first is {name} ({transfer}); {REMEDY}"
