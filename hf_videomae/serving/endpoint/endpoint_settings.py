"""Set the limits of an endpoint: how much one request may use, and how many requests are processed at once."""

import os
from dataclasses import dataclass, field, fields

SECONDS_VARIABLE = "HF_VIDEOMAE_ENDPOINT_SECONDS"

_MIB = 2**20
_DEFAULT_REQUEST_SECONDS = 120.0


def _default_request_seconds() -> float:
    """Return HF_VIDEOMAE_ENDPOINT_SECONDS if it is set, else 120."""
    text = os.environ.get(SECONDS_VARIABLE, "").strip()
    try:
        seconds = float(text or _DEFAULT_REQUEST_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{SECONDS_VARIABLE} is {text!r}; give seconds above 0, or unset it")
    return seconds


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """The limits of an endpoint.

    Args:
        max_bytes: bytes of one video file.
        max_pixels: height times width of one frame; the default allows 8K (7680 x 4320).
        max_frames: frames of one video.
        max_clip_bytes: bytes of all frames of a request as RGB; 16 frames of 4K are 0.4 GB.
        max_views: temporal positions times crops.
        max_num_frames: frames of one clip.
        request_seconds: time from the arrival of a request to its answer: waiting, download, decoding and prediction.
            Checked between frames and between batches of views. Default: HF_VIDEOMAE_ENDPOINT_SECONDS, or 120.
        download_seconds: time to download a URL, redirects included. Resolving the host's name comes on top, for as
            long as the system's resolver waits.
        read_seconds: how long a server may send nothing.
        max_redirects: redirects that are followed; each is checked like the first URL.
        max_concurrent_downloads: downloads at once; a file that waits to be decoded counts.
        max_concurrent_decodes: videos that are decoded, and run through the model, at once.
        allow: `ADDRESS:PORT` (`10.0.0.5:9000`, `[::1]:8080`) that URLs may lead to although the address is not
            public, or the port is not that of a web server.

    Raises:
        ValueError: for a limit that allows nothing, or an `allow` that is not an address with a port.
    """

    max_bytes: int = 64 * _MIB
    max_pixels: int = 2**25
    max_frames: int = 100_000
    max_clip_bytes: int = 1024 * _MIB
    max_views: int = 30
    max_num_frames: int = 64
    request_seconds: float = field(default_factory=_default_request_seconds)
    download_seconds: float = 60.0
    read_seconds: float = 10.0
    max_redirects: int = 3
    max_concurrent_downloads: int = 8
    max_concurrent_decodes: int = 4
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from .addresses import parse_allowlist

        for limit in fields(self):
            value = getattr(self, limit.name)
            if limit.name not in ("allow", "max_redirects") and not value > 0:
                raise ValueError(f"{limit.name} must be above 0, got {value!r}")
        if self.max_redirects < 0:
            raise ValueError(f"max_redirects must be 0 or more, got {self.max_redirects!r}")
        parse_allowlist(self.allow)
