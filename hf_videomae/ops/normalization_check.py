"""Check that clips were normalized before they reach a model.

Shapes: B clips, T frames, C channels, H x W pixels.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

logger = logging.getLogger("hf_videomae")

_MAX_NORMALIZED_VALUE = 10.0  # the farthest value of noise N(0, 1) in a batch is about 6
_MIN_UNIT_RANGE = 0.8  # of a clip in [0, 1]; normalized clips that lie within [0, 1] have little contrast


class NormalizationCheck:
    """Warn once if a model is given clips that were never normalized.

    The values are read in the 1st, 2nd, 4th, 8th, ... call alone, because reading them makes a GPU wait. They are
    never read under `torch.compile`, `torch.export`, tracing and on the meta device.

    Args:
        mean, std: mean and deviation of the normalization, per channel.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.min_normalized = min((0.0 - m) / s for m, s in zip(mean, std, strict=True))
        self.max_normalized = max((1.0 - m) / s for m, s in zip(mean, std, strict=True))
        self._calls = 0
        self._warned = False

    def __call__(self, clips: Tensor) -> None:
        """Check clips (B, T, C, H, W).

        Raises:
            ValueError: for whole numbers: normalized pixels are fractions.
        """
        if not clips.is_floating_point():
            raise ValueError(
                f"pixel_values are {clips.dtype}: raw pixels, not normalized ones; give what VideoMAEVideoProcessor "
                f"returns, or (pixels / 255 - image_mean) / image_std as floats"
            )
        if self._warned or not _is_readable(clips):
            return
        self._calls += 1
        if self._calls & (self._calls - 1):
            return
        low, high = torch.stack(torch.aminmax(clips.detach())).tolist()
        text = self.find_problem(low, high)
        if text is not None:
            self._warned = True
            logger.warning(text)

    def find_problem(self, low: float, high: float) -> str | None:
        """Return what is wrong with clips whose values run from `low` to `high`; None if they look normalized."""
        is_0_to_255 = max(-low, high) > max(_MAX_NORMALIZED_VALUE, 3 * max(-self.min_normalized, self.max_normalized))
        is_0_to_1 = self.min_normalized < 0 <= low and high <= 1 and high - low > _MIN_UNIT_RANGE
        if not is_0_to_255 and not is_0_to_1:
            return None
        return (
            f"pixel_values run from {low:.3g} to {high:.3g}, as pixels that were never normalized; with the config's "
            f"image_mean and image_std they lie within {self.min_normalized:.3g} and {self.max_normalized:.3g}. "
            f"The outputs are meaningless: give what VideoMAEVideoProcessor returns"
        )


def _is_readable(clips: Tensor) -> bool:
    """Return whether the values of a tensor can be read here."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(clips) is not Tensor:
        return False
    if clips.numel() == 0 or clips.device.type == "meta" or torch._C._functorch.is_functorch_wrapped_tensor(clips):
        return False
    return clips.device.type != "cuda" or not torch.cuda.is_current_stream_capturing()
