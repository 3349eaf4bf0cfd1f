"""How much one request may take, and how many are worked on at once."""

import os
from dataclasses import dataclass, field, fields

SECONDS_VARIABLE = "HF_VIDEOMAE_ENDPOINT_SECONDS"

_MIB = 2**20
_DEFAULT_REQUEST_SECONDS = 120.0


def _default_request_seconds() -> float:
    """HF_VIDEOMAE_ENDPOINT_SECONDS, where it is set."""
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
        max_bytes: of one video, as a file.
        max_pixels: of one frame, height times width; the default lets 8K (7680 x 4320) pass.
        max_frames: of one video.
        max_clip_bytes: of the frames that are asked for at once, as RGB: 16 of 4K are 0.4 GB.
        max_views: temporal positions times crops.
        max_num_frames: of one clip.
        request_seconds: of one request, from its arrival to its answer: waiting for its turn, download, decoding and
            prediction. Looked at between frames and between batches of views. 120, or what the environment's
            HF_VIDEOMAE_ENDPOINT_SECONDS says.
        download_seconds: for a URL, redirects included. Asking for a name's address comes on top, as long as the
            system's resolver waits.
        read_seconds: that a server may be silent.
        max_redirects: that are followed; each is checked like the first URL.
        max_concurrent_downloads: at once; a file that waits to be decoded counts.
        max_concurrent_decodes: videos that are decoded, and go through the model, at once.
        allow: `ADDRESS:PORT` (`10.0.0.5:9000`, `[::1]:8080`) that URLs may lead to although it is no public address,
            or no web server's port.

    Raises:
        ValueError: for a limit that allows nothing, or an `allow` that is no address with a port.
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
