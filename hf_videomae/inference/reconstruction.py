"""Reconstruct a masked video with a pre-training model, and draw the result.

Shapes: B clips, T frames, C channels, H x W pixels, N tokens, M masked, P pixels of a cube.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..configuration_videomae import VideoMAEConfig
from ..modeling_videomae import VideoMAEForPreTraining
from ..ops.brightness import match_brightness
from ..ops.masking import make_mask, split_by_mask
from ..ops.patches import (
    Cube,
    Grid,
    cube_statistics,
    patchify,
    pixels_to_cubes,
    unnormalize,
    unpatchify,
)
from ..video_processing_videomae import VideoMAEVideoProcessor
from .images import draw_frame_grid, evenly_spaced_indices, to_uint8_frames
from .model_loading import evaluation_mode, load_pretrained, load_processor
from .output_checks import check_finite
from .video_inputs import log_remote_host

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Reconstruction:
    """Masked cubes predicted from visible ones; visible cubes are unchanged.

    With normalized targets (`norm_pix_loss`) the model predicts structure without brightness and contrast, which must
    come from elsewhere to make an image. The clips differ in where they come from. All but the mask are
    (B, T, C, H, W) in [0, 1].

    Attributes:
        original: the clip.
        masked: the clip with masked cubes in gray.
        prediction: the masked cubes as predicted, on a fixed gray scale (0.5 + 0.2 x the normalized value), without
            any statistics. If targets are not normalized: the predicted pixels.
        visible_statistics: mean and deviation of every masked cube are chosen so that the image continues across the
            borders of cubes, from the visible ones inward: what the model and the visible cubes give alone.
        true_statistics: the true mean and deviation of the masked cubes, as in the paper's figures. Uses the ground
            truth.
        bool_masked_pos: (B, N) True = masked.
        loss: the reconstruction loss of these clips.
        normalized: whether the targets are normalized; if not, the last three clips are the same.
    """

    original: Tensor
    masked: Tensor
    prediction: Tensor
    visible_statistics: Tensor
    true_statistics: Tensor
    bool_masked_pos: Tensor
    loss: float
    normalized: bool


@torch.no_grad()
def reconstruct(
    model: VideoMAEForPreTraining | str | os.PathLike[str],
    video: Any,
    *,
    bool_masked_pos: Tensor | None = None,
    mask_ratio: float | None = None,
    processor: VideoMAEVideoProcessor | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Mask most of a video and let the model predict it (paper, figures 5 to 8).

    Args:
        model: a pre-training model, or the Hub id or folder of one.
        video: a file, a URL or anything that `VideoMAEVideoProcessor` takes; or (B, T, C, H, W) normalized
            floating-point `pixel_values`, used unchanged.
        bool_masked_pos: (B, N) which tokens to mask; None draws them as the model's configuration says.
        mask_ratio: share of masked tokens instead of the configuration's.
        processor: turns a video into a clip; by default the one saved with the model, or one for its configuration.
        seed: seed of the drawn mask.

    Returns:
        Reconstruction, on the CPU.

    Raises:
        ValueError: for a model without a decoder, or a video or mask of the wrong shape.
        VideoDecodeError: for a video that cannot be decoded.
    """
    if isinstance(model, (str, os.PathLike)):
        network = load_pretrained(model)
        processor = processor or load_processor(model, network, num_views=1)
    else:
        network = model
    config = network.config
    if not (isinstance(video, Tensor) and video.dim() == 5 and video.is_floating_point()):
        processor = processor or VideoMAEVideoProcessor.from_config(config)
        if isinstance(video, (str, os.PathLike)):
            log_remote_host(video)
        video = processor(video, return_tensors="pt")["pixel_values"]
    clip = video.to(network.device)
    grid = network.videomae.clip_grid(clip)
    if bool_masked_pos is None:
        generator = torch.Generator().manual_seed(seed)
        ratio = config.mask_ratio if mask_ratio is None else mask_ratio
        bool_masked_pos = make_mask(config.mask_type, grid, ratio, batch_size=len(clip), generator=generator)
    mask = bool_masked_pos.to(clip.device)
    with evaluation_mode(network):
        outputs = network(clip, mask, bool_decoder_masked_pos=~mask, return_dict=True)  # decode exactly what is masked
    check_finite(outputs.logits, what="predictions", video="the clip")
    logits, loss = outputs.logits.float().cpu(), outputs.loss.item()
    return _build_reconstruction(config, grid, clip.cpu(), mask.cpu(), logits, loss)


def _build_reconstruction(
    config: VideoMAEConfig, grid: Grid, clip: Tensor, mask: Tensor, logits: Tensor, loss: float
) -> Reconstruction:
    mean, std = list(config.image_mean or []), list(config.image_std or [])
    cubes = unnormalize(patchify(clip.float(), config.cube), mean, std)  # (B, N, C, P)
    predicted = pixels_to_cubes(logits, config.num_channels)  # (B, M, C, P)
    _, masked_tokens = split_by_mask(mask, predicted.shape[1])

    def render_clip(values: Tensor, *, base: Tensor = cubes) -> Tensor:
        return _inpaint(base, masked_tokens, values, config.cube, grid)

    gray = torch.full_like(predicted, 0.5)
    if not config.norm_pix_loss:
        inpainted = render_clip(predicted)
        return Reconstruction(
            render_clip(cubes[:, :0]), render_clip(gray), inpainted, inpainted, inpainted, mask, loss, False
        )
    # With normalized targets a cube is center + scale * structure, and the model predicts the structure. Example: the
    # structure -1, 0, 1 of a cube with center 0.4 and scale 0.1 gives the pixels 0.3, 0.4, 0.5. The center and
    # scale of masked cubes are the true ones, or estimated: interpolated from visible cubes, then adjusted until the
    # pixels match across the borders of cubes.
    center, scale = cube_statistics(cubes)
    index = masked_tokens[:, :, None, None].expand(-1, -1, config.num_channels, 1)
    structure = ((cubes - center) / scale).scatter(1, index.expand_as(predicted), predicted)
    interpolated = [
        torch.where(mask[:, :, None, None], _interpolate_from_visible(values, mask, grid), values)
        for values in (center, scale)
    ]
    estimated_center, estimated_scale = match_brightness(
        structure, mask, center=interpolated[0], scale=interpolated[1], cube=config.cube, grid=grid
    )
    return Reconstruction(
        original=render_clip(cubes[:, :0]),
        masked=render_clip(gray),
        prediction=render_clip(0.5 + 0.2 * predicted, base=0.5 + 0.2 * structure),
        visible_statistics=render_clip(
            predicted * estimated_scale.gather(1, index) + estimated_center.gather(1, index)
        ),
        true_statistics=render_clip(predicted * scale.gather(1, index) + center.gather(1, index)),
        bool_masked_pos=mask,
        loss=loss,
        normalized=True,
    )


def _inpaint(base: Tensor, masked_tokens: Tensor, values: Tensor, cube: Cube, grid: Grid) -> Tensor:
    """Return clips in [0, 1] of the `base` cubes, with `values` (if any) at the masked ones."""
    cubes = base.clone()
    if values.shape[1]:
        cubes.scatter_(1, masked_tokens[:, :, None, None].expand_as(values), values)
    return unpatchify(cubes, cube, grid).clamp(0, 1)


def _interpolate_from_visible(values: Tensor, mask: Tensor, grid: Grid) -> Tensor:
    """Interpolate a value for every token from the visible ones, weighted by a Gaussian of the distance in the grid.

    The Gaussian's standard deviation is one token. `values` are (B, N, C, 1), `mask` is (B, N), True = masked.
    """
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in grid), indexing="ij")
    coordinates = torch.stack(axes, dim=-1).view(-1, 3)  # (N, 3)
    distance = torch.cdist(coordinates, coordinates).square() / 2
    weights = torch.where(mask[:, None, :], -torch.inf, -distance).softmax(-1)  # (B, N, N)
    return torch.einsum("bnm,bmcp->bncp", weights, values)


def save_reconstruction(
    reconstruction: Reconstruction,
    stem: str | os.PathLike[str],
    *,
    sample: int = 0,
    columns: int = 8,
    frames_per_second: float = 6.0,
) -> list[Path]:
    """Write a strip of frames (`STEM.png`) and an animation (`STEM.gif`), each row labeled.

    Args:
        reconstruction: the result of `reconstruct`.
        stem: path without extension (`.png` and `.gif` are removed); folders are created.
        sample: which clip of the batch.
        columns: frames in the strip, evenly spaced.
        frames_per_second: speed of the animation.

    Returns:
        the two files.
    """
    stem = Path(stem)
    stem = stem.with_suffix("") if stem.suffix.lower() in (".png", ".gif") else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    strip, animation = Path(f"{stem}.png"), Path(f"{stem}.gif")
    draw_reconstruction(reconstruction, sample=sample, columns=columns).save(strip)
    clips = _labeled_clips(reconstruction, sample)
    gif_frames = [
        draw_frame_grid([(label, clip[t : t + 1]) for label, clip in clips], side_by_side=True)
        for t in range(clips[0][1].shape[0])
    ]
    gif_frames[0].save(
        animation,
        save_all=True,
        append_images=gif_frames[1:],
        duration=round(1000 / frames_per_second),
        loop=0,
        disposal=2,
    )
    return [strip, animation]


def draw_reconstruction(reconstruction: Reconstruction, *, sample: int = 0, columns: int = 8) -> "Image":
    """Draw the strip of frames: a labeled row for each clip of the reconstruction.

    Args:
        reconstruction: the result of `reconstruct`.
        sample: which clip of the batch.
        columns: frames in the strip, evenly spaced.
    """
    clips = _labeled_clips(reconstruction, sample)
    shown = evenly_spaced_indices(clips[0][1].shape[0], columns)
    return draw_frame_grid([(label, clip[shown]) for label, clip in clips])


def _labeled_clips(reconstruction: Reconstruction, sample: int) -> list[tuple[str, Tensor]]:
    masked_percent = round(100 * reconstruction.bool_masked_pos.float().mean().item())
    clips = [("original", reconstruction.original), (f"input: {masked_percent} % masked", reconstruction.masked)]
    if not reconstruction.normalized:
        clips += [("predicted by the model", reconstruction.prediction)]
    else:
        clips += [
            ("predicted, normalized cubes (no brightness)", reconstruction.prediction),
            ("predicted, brightness continued from visible cubes", reconstruction.visible_statistics),
            ("predicted, true brightness (uses ground truth)", reconstruction.true_statistics),
        ]
    return [(label, to_uint8_frames(clip[sample])) for label, clip in clips]
