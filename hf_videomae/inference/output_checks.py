"""Numbers of a model that are none: not a number, or infinite. They are refused, and never written."""

from torch import Tensor


class NonFiniteOutputError(ValueError):
    """What a model gives for a video is not finite.

    Attributes:
        video: its path, or what it is called.
        reason: what is wrong, in one line.
    """

    def __init__(self, video: str, reason: str) -> None:
        super().__init__(f"{video}: {reason}")
        self.video, self.reason = video, reason


def check_finite(values: Tensor, *, what: str, video: str) -> None:
    """Refuse numbers that are not finite.

    Args:
        values: of any shape.
        what: they are, in the plural.
        video: they are of.

    Raises:
        NotFiniteOutput: for a NaN or an infinite number among them.
    """
    if not values.isfinite().all():
        raise NonFiniteOutputError(
            video,
            f"the model's {what} are not finite numbers: its weights are damaged, or its precision is too low; get or "
            f"convert the weights again, or load them in float32",
        )
