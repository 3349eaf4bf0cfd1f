"""The two ways in which reading a video fails: the file is bad, or the machine cannot decode at all."""


class VideoDecodeError(ValueError):
    """This file does not hold a video that can be decoded.

    Attributes:
        path: what the caller named: the path, the URL, or the `name` given with bytes.
        reason: what is wrong with it, in one line.
    """

    # `reason` has a default because torch's DataLoader rebuilds a worker's exception from its message alone.
    def __init__(self, path: str, reason: str = "") -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode {self.path}: {self.reason}" if self.reason else self.path


class VideoBackendError(RuntimeError):
    """No video decoder can be used on this machine. Says how to get one; never the fault of a file."""


class MissingFilesystemError(VideoBackendError):
    """The package that reads the store of an address is not installed; a set-up error only where the user named it."""


class IncompleteReadError(OSError):
    """An answer with fewer or more bytes than were asked for."""


class UnknownFrameRateError(ValueError):
    """Clips are planned in seconds, and nothing says how many frames of this video make one."""


class LimitExceeded(Exception):
    """Internal: a file goes beyond one of the `limits`, so no decoder is to be asked. Never reaches a user."""


class BackendFailure(Exception):
    """Internal: one backend gave up on one file, for the reason that it carries. Never reaches a user."""
