"""Define the errors that a user can fix; each message says what came, what is wanted and what to do."""


class RunError(ValueError):
    """A run cannot proceed until its user changes something."""


class DataError(ValueError):
    """A dataset cannot be used as asked: it is missing, empty, too small, unlabeled or mostly broken.

    Missing software (FFmpeg, PyAV) is
    never a `DataError`: that is `hf_videomae.video.decoding.VideoBackendError`.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or the name of its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
