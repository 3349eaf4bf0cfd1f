"""Refuse model outputs that are not finite, so that NaN and infinity are never written."""

from torch import Tensor


class NonFiniteOutputError(ValueError):
    """The model's output for a video is not finite.

    Attributes:
        video: the video's path or display name.
        reason: what is wrong, in one line.
    """

    def __init__(self, video: str, reason: str) -> None:
        super().__init__(f"{video}: {reason}")
        self.video, self.reason = video, reason


def check_finite(values: Tensor, *, what: str, video: str) -> None:
    """Raise an error if any output is not finite.

    Args:
        values: the outputs, of any shape.
        what: the name of the outputs in the plural, for the error.
        video: the video's path or display name.

    Raises:
        NonFiniteOutputError: for a NaN or an infinity among them.
    """
    if not values.isfinite().all():
        raise NonFiniteOutputError(
            video,
            f"the model's {what} are not finite numbers: its weights are damaged, or its precision is too low; get or "
            f"convert the weights again, or load them in float32",
        )
