"""Define the two ways in which reading a video fails: the file is bad, or the machine cannot decode at all."""


class VideoDecodeError(ValueError):
    """A file does not hold a video that can be decoded.

    Attributes:
        path: the path, the URL, or the `name` given with bytes.
        reason: why it cannot be decoded, in one line.
    """

    # `reason` has a default because torch's DataLoader rebuilds a worker's exception from its message alone.
    def __init__(self, path: str, reason: str = "") -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode {self.path}: {self.reason}" if self.reason else self.path


class VideoBackendError(RuntimeError):
    """No video decoder can be used on this machine. The message says how to get one; the file is not to blame."""


class MissingFilesystemError(VideoBackendError):
    """The package that reads URLs of this scheme is not installed; a set-up error only if the user named the URL."""


class IncompleteReadError(OSError):
    """A server sent fewer or more bytes than were asked for."""


class UnknownFrameRateError(ValueError):
    """Clips are sampled in seconds, but the frame rate of a video is not known."""


class LimitExceeded(Exception):
    """A file exceeds one of the `limits`, so no decoder is asked. Internal: it never reaches a user."""


class BackendFailure(Exception):
    """One decoder gave up on one file, for the stated reason. Internal: it never reaches a user."""
