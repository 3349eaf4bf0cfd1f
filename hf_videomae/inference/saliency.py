"""Show where a classifier looks: how much each cube of a clip speaks for or against a class.

There is no [CLS] token whose attention could be shown, and attention tells neither the class nor the sign. Instead the
relevance of a token is its product with the gradient of the class's logit, summed over the width: Grad-CAM (Selvaraju
et al., 2017, arxiv.org/abs/1610.02391) with a separate weight for every position, like gradient x input (Shrikumar et
al., 2016, arxiv.org/abs/1605.01713). To first order it is the change of the logit when the token is scaled up. By
default the tokens are those before the last block: after it they are already mixed, and a head that reads token 0
alone would show only that token.

Shapes: B clips, T frames, C channels, H x W pixels, N = T' x H' x W' cubes, D width, K classes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..ops.patches import token_grid, unnormalize
from ..ops.view_scores import average_view_scores
from ..video.decoding import VideoReader, open_video
from ..video.sampling import ClipSampler
from ..video.segments import SegmentReader
from ..video_processing_videomae import VideoMAEVideoProcessor
from .clip_windows import read_windows
from .images import draw_frame_grid, evenly_spaced_indices, to_uint8_frames
from .model_loading import (
    as_videomae_config,
    evaluation_mode,
    get_problem_type,
    load_classifier_and_processor,
    resolve_layer,
)
from .output_checks import check_finite

if TYPE_CHECKING:
    from PIL.Image import Image

_POSITIVE_COLOR, _NEGATIVE_COLOR = (0.95, 0.25, 0.10), (0.10, 0.35, 0.95)


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """What speaks for a class in a clip.

    Attributes:
        video: its path or URL, or `<video>` for bytes.
        relevance: (T', H', W') float32: above 0 for the class, below 0 against it.
        clip: (T, C, H, W) the frames that the model was given, in [0, 1].
        frames: their indices in the video, counted from 0.
        label: the class.
        score: the clip's score for this class.
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
    """Return how much each cube of a clip speaks for a class.

    Args:
        model: a classifier, or the Hub id or folder of one: from this package or from stock transformers.
        video: a path, a URL or the bytes of a file.
        label: the class, by name or index; by default the most likely one.
        frames: the frame indices of the clip; by default the clip that is saved with the model, in the middle of the
            video.
        layer: the layer whose tokens are scored: -2 the last block but one, 1 the first, 0 the embeddings.
        processor: turns a video into clips; by default the one saved with the model, or one for its configuration.
        device: where to compute; by default where the model is.

    Raises:
        ValueError: for a class or layer that the model does not have.
        VideoDecodeError: for a video that cannot be decoded.
    """
    network, processor = load_classifier_and_processor(model, processor, device)
    target_layer = _get_layer(network, layer)
    class_index = None if label is None else _class_index(network, label)
    with open_video(video, name="<video>" if isinstance(video, (bytes, bytearray, memoryview)) else None) as reader:
        frame_indices = _middle_view_indices(reader, processor.clip_sampler) if frames is None else list(frames)
        (clip,) = read_windows(reader, [frame_indices], processor=processor, batch_size=1)  # (1, T, C, H, W)
        name = reader.name
    relevance, logits, class_index = _gradient_times_input(network, target_layer, clip, class_index)
    check_finite(logits, what="scores", video=name)
    scores = average_view_scores(logits[:, None], problem_type=get_problem_type(network.config))
    cube = as_videomae_config(network.config).cube
    _, num_frames, _, height, width = clip.shape
    return Saliency(
        video=name,
        relevance=relevance.view(token_grid(num_frames=num_frames, height=height, width=width, cube=cube)),
        clip=_denormalize_clip(clip[0], processor),
        frames=frame_indices,
        label=str(network.config.id2label[class_index]),
        score=float(scores[0, class_index]),
    )


def _middle_view_indices(reader: VideoReader | SegmentReader, sampler: ClipSampler) -> list[int]:
    return reader.sample_indices(sampler.test_indices, frame_seconds=sampler.stride_seconds)[(sampler.views - 1) // 2]


def _gradient_times_input(
    network: PreTrainedModel, target_layer: nn.Module, clip: Tensor, class_index: int | None
) -> tuple[Tensor, Tensor, int]:
    """Return the relevance (N,) of the tokens that `target_layer` gives, the logits (1, K), and the class index."""
    activations: list[Tensor] = []

    def capture_activations(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        # What comes before these tokens needs no gradient, so its activations are not kept.
        activations.append(output.detach().requires_grad_())
        return activations[-1]

    hook = target_layer.register_forward_hook(capture_activations)
    try:
        with evaluation_mode(network), torch.enable_grad():
            logits = network(pixel_values=clip.to(device=network.device, dtype=network.dtype), return_dict=True).logits
            class_index = int(logits[0].argmax()) if class_index is None else class_index
            (gradient,) = torch.autograd.grad(logits[0, class_index], activations[-1])
    finally:
        hook.remove()
    relevance = (gradient.float() * activations[-1].detach().float()).sum(-1)[0].cpu()
    return relevance, logits.detach().float().cpu(), class_index


def _get_layer(network: PreTrainedModel, layer: int) -> nn.Module:
    """Return the module whose output the tokens of a layer are, counted as by `extract_features`."""
    blocks = network.videomae.encoder.layer
    index = resolve_layer(layer, num_layers=len(blocks))
    module: nn.Module = network.videomae.embeddings if index == 0 else blocks[index - 1]
    return module


def _class_index(network: PreTrainedModel, label: int | str) -> int:
    id2label = network.config.id2label
    index = label if isinstance(label, int) else next((key for key, name in id2label.items() if name == label), None)
    if index is None or index not in id2label:
        examples = ", ".join(map(str, list(id2label.values())[:5]))
        raise ValueError(
            f"the model has no class {label!r}; give an index below {len(id2label)} or a name ({examples}, ...)"
        )
    return index


def _denormalize_clip(clip: Tensor, processor: VideoMAEVideoProcessor) -> Tensor:
    """Return a clip (T, C, H, W) of the processor with pixels in [0, 1]."""
    if not processor.do_normalize:
        return clip.float().clamp(0, 1)
    pixels = unnormalize(clip.flatten(2), processor.image_mean, processor.image_std)  # (T, C, H * W)
    return pixels.view_as(clip).clamp(0, 1)


def draw_saliency(saliency: Saliency, *, columns: int = 8) -> "Image":
    """Draw the frames, and below them the same in gray: red where a cube speaks for the class, blue where against it.

    Args:
        saliency: the result of `token_saliency`.
        columns: frames in the strip, evenly spaced.
    """
    frames = to_uint8_frames(saliency.clip)
    overlaid = to_uint8_frames(_overlay(saliency))
    shown = evenly_spaced_indices(len(frames), columns)
    below = f"for (red) and against (blue) {saliency.label}, {saliency.score:.2f}"
    return draw_frame_grid([("input of the model", frames[shown]), (below, overlaid[shown])])


def _overlay(saliency: Saliency) -> Tensor:
    """Return the frames in gray, colored by relevance, (T, 3, H, W) in [0, 1]."""
    frames, _, height, width = saliency.clip.shape
    strength = saliency.relevance / saliency.relevance.abs().max().clamp_min(1e-12)  # (T', H', W')
    depth = frames // len(strength)
    fine = nn.functional.interpolate(strength[:, None], size=(height, width), mode="bilinear", align_corners=False)
    fine = fine.repeat_interleave(depth, 0)  # (T, 1, H, W)
    gray = saliency.clip.mean(1, keepdim=True) * 0.75
    red, blue = (torch.tensor(color).view(1, 3, 1, 1) for color in (_POSITIVE_COLOR, _NEGATIVE_COLOR))
    color = torch.where(fine > 0, red, blue)
    amount = fine.abs() * 0.8
    return gray * (1 - amount) + color * amount
