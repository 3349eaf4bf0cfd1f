"""Where a classifier looks: how much each cube of a clip speaks for a class.

There is no [CLS] token whose attention could be shown, and attention says neither for which class nor with which sign.
So this is gradient times token: the relevance of a token is its product with the gradient of the class's logit,
summed over the width, which is Grad-CAM (Selvaraju et al., 2017, arxiv.org/abs/1610.02391) with a weight of its own
for every place, as gradient x input (Shrikumar et al., 2016, arxiv.org/abs/1605.01713). To first order it says how the
logit changes when the token is made stronger. By default the tokens are those before the last block: those after it
are already mixed, and a head that reads token 0 alone would show that token and nothing else.

Shapes: T frames, C channels, H x W pixels, T' x H' x W' cubes, D width.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..ops.patches import unnormalize
from ..ops.view_scores import average_view_scores
from ..video.decoding import VideoReader, open_video
from ..video.sampling import ClipSampler
from ..video.segments import SegmentReader
from ..video_processing_videomae import VideoMAEVideoProcessor
from .clip_windows import read_windows
from .images import draw_frame_grid, evenly_spaced_indices, to_uint8_frames
from .model_loading import as_videomae_config, get_problem_type, load_classifier, load_processor, resolve_device
from .output_checks import check_finite

if TYPE_CHECKING:
    from PIL.Image import Image

_POSITIVE_COLOR, _NEGATIVE_COLOR = (0.95, 0.25, 0.10), (0.10, 0.35, 0.95)


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """What of a clip speaks for a class.

    Attributes:
        video: its path or URL, or `<video>` for bytes.
        relevance: (T', H', W') float32: above 0 for the class, below 0 against it.
        clip: (T, C, H, W) the frames as the model was given them, in [0, 1].
        frames: their numbers in the video, counted from 0.
        label: the class.
        score: of the clip for this class.
    """

    video: str
    relevance: Tensor
    clip: Tensor
    frames: list[int]
    label: str
    score: float


def token_saliency(
    model: PreTrainedModel | str | os.PathLike[str],
    video: Any,
    *,
    label: int | str | None = None,
    frames: Sequence[int] | None = None,
    layer: int = -2,
    processor: VideoMAEVideoProcessor | None = None,
    device: str | torch.device | None = None,
) -> Saliency:
    """How much each cube of a clip speaks for a class.

    Args:
        model: a classifier, or the Hub id or folder of one: ours or stock transformers'.
        video: a path, a URL or the bytes of a file.
        label: the class by name or number; the most likely one by default.
        frames: of the clip; the clip saved with the model, in the middle of the video, by default.
        layer: whose output the tokens are: -2 the last block but one, 1 the first, 0 the embeddings.
        processor: how a video becomes a clip; the one saved with the model, or one made for its configuration.
        device: where to compute; where the model is, by default.

    Raises:
        ValueError: for a class or layer that the model does not have; `VideoDecodeError` for a video that cannot be
            decoded.
    """
    device = resolve_device(device)
    network = load_classifier(model)
    processor = processor or load_processor(model, network)
    target_layer = _get_layer(network, layer)
    number = None if label is None else _class_index(network, label)
    if device is not None:
        network.to(device)  # type: ignore[arg-type]
    with open_video(video, name="<video>" if isinstance(video, (bytes, bytearray, memoryview)) else None) as reader:
        plan = processor.clip_sampler
        frame_indices = list(frames) if frames is not None else _middle_view_indices(reader, plan)
        (clip,) = read_windows(reader, [frame_indices], processor=processor, batch_size=1)  # (1, T, C, H, W)
        name = reader.name
    relevance, logits, number = _gradient_times_input(network, target_layer, clip, number)
    check_finite(logits, what="scores", video=name)
    config = as_videomae_config(network.config)
    depth, height, width = (size // side for size, side in zip(_clip_shape(clip), config.cube, strict=True))
    return Saliency(
        video=name,
        relevance=relevance.view(depth, height, width),
        clip=_denormalize_clip(clip[0], processor),
        frames=frame_indices,
        label=str(network.config.id2label[number]),
        score=float(average_view_scores(logits[:, None], problem_type=get_problem_type(network.config))[0, number]),
    )


def _middle_view_indices(reader: VideoReader | SegmentReader, plan: ClipSampler) -> list[int]:
    return reader.sample_indices(plan.test_indices, frame_seconds=plan.stride_seconds)[(plan.views - 1) // 2]


def _gradient_times_input(
    network: PreTrainedModel, target_layer: nn.Module, clip: Tensor, number: int | None
) -> tuple[Tensor, Tensor, int]:
    """(N,) relevance of the tokens that `target_layer` gives, the logits (1, K), and the class."""
    activations: list[Tensor] = []

    def capture_activations(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        # What lies before the tokens is not differentiated, so it is not kept either.
        activations.append(output.detach().requires_grad_())
        return activations[-1]

    training, hook = network.training, target_layer.register_forward_hook(capture_activations)
    network.eval()
    try:
        with torch.enable_grad():
            logits = network(pixel_values=clip.to(device=network.device, dtype=network.dtype), return_dict=True).logits
            number = int(logits[0].argmax()) if number is None else number
            (gradient,) = torch.autograd.grad(logits[0, number], activations[-1])
    finally:
        hook.remove()
        network.train(training)
    relevance = (gradient.float() * activations[-1].detach().float()).sum(-1)[0].cpu()
    return relevance, logits.detach().float().cpu(), number


def _get_layer(network: PreTrainedModel, layer: int) -> nn.Module:
    """The module that gives the tokens of a layer, counted as by `extract_features`."""
    blocks = network.videomae.encoder.layer
    if not -len(blocks) - 1 <= layer <= len(blocks):
        raise ValueError(f"layer is {layer}; this model has {len(blocks)} blocks: give 0 to {len(blocks)}, or -2")
    number = layer % (len(blocks) + 1)
    found: nn.Module = network.videomae.embeddings if number == 0 else blocks[number - 1]
    return found


def _class_index(network: PreTrainedModel, label: int | str) -> int:
    names = network.config.id2label
    number = label if isinstance(label, int) else next((key for key, name in names.items() if name == label), None)
    if number is None or number not in names:
        shown = ", ".join(map(str, list(names.values())[:5]))
        raise ValueError(
            f"the model has no class {label!r}; give a number below {len(names)} or a name ({shown}, ...)"
        )
    return number


def _clip_shape(clip: Tensor) -> tuple[int, int, int]:
    return clip.shape[1], clip.shape[3], clip.shape[4]


def _denormalize_clip(clip: Tensor, processor: VideoMAEVideoProcessor) -> Tensor:
    """(T, C, H, W) as the processor gives it -> in [0, 1]."""
    if not processor.do_normalize:
        return clip.float().clamp(0, 1)
    pixels = unnormalize(clip.flatten(2), processor.image_mean, processor.image_std)  # (T, C, H * W)
    return pixels.view_as(clip).clamp(0, 1)


def draw_saliency(found: Saliency, *, columns: int = 8) -> "Image":
    """The frames, and below them the same in grey: red where a cube speaks for the class, blue where against it.

    Args:
        found: of `token_saliency`.
        columns: frames in the strip, evenly spread.
    """
    frames = to_uint8_frames(found.clip)
    overlaid = to_uint8_frames(_overlay(found))
    shown = evenly_spaced_indices(len(frames), columns)
    below = f"for (red) and against (blue) {found.label}, {found.score:.2f}"
    return draw_frame_grid([("what the model was given", frames[shown]), (below, overlaid[shown])])


def _overlay(found: Saliency) -> Tensor:
    """(T, 3, H, W) in [0, 1]."""
    frames, _, height, width = found.clip.shape
    strength = found.relevance / found.relevance.abs().max().clamp_min(1e-12)  # (T', H', W')
    depth = frames // len(strength)
    fine = nn.functional.interpolate(strength[:, None], size=(height, width), mode="bilinear", align_corners=False)
    fine = fine.repeat_interleave(depth, 0)  # (T, 1, H, W)
    gray = found.clip.mean(1, keepdim=True) * 0.75
    red, blue = (torch.tensor(side).view(1, 3, 1, 1) for side in (_POSITIVE_COLOR, _NEGATIVE_COLOR))
    color = torch.where(fine > 0, red, blue)
    amount = fine.abs() * 0.8
    return gray * (1 - amount) + color * amount


__all__ = ["Saliency", "draw_saliency", "token_saliency"]
