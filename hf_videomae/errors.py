"""Define the errors that a user can fix; each message says what came, what is wanted and what to do."""


class RunError(ValueError):
    """Something about the run that its user can change; the message says what came, what is wanted and what to do."""


class DataError(ValueError):
    """A data set cannot be used as asked: it is missing, empty, too small, unlabelled or mostly broken.

    The message is one line that says what came, what is wanted and what to do. Missing software (FFmpeg, PyAV) is
    never a `DataError`: that is `hf_videomae.video.decoding.VideoBackendError`.
    """
