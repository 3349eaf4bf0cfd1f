"""Masked reconstruction of a video, as numbers and as pictures.

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
from ..ops.cubes import Cube, Grid, cube_statistics, from_cubes, pixels_to_cubes, to_cubes, unnormalize
from ..ops.masking import make_mask, split_by_mask
from ..ops.seams import continue_brightness
from ..video_processing_videomae import VideoMAEVideoProcessor
from .files import load_pretrained, note_fetched
from .finite import check_finite
from .pictures import sheet, spread, to_bytes

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Reconstruction:
    """Hidden cubes predicted from visible ones; visible cubes are shown as they are.

    With normalised targets (`norm_pix_loss`) the model predicts structure without brightness and contrast, which must
    come from somewhere to make a picture. The fields differ in where from. All but the masks are (B, T, C, H, W) in
    [0, 1].

    Attributes:
        original: the clip.
        masked: hidden cubes in grey.
        prediction: hidden cubes as predicted, on a fixed grey scale (0.5 + 0.2 x the normalised value): no statistics
            used. Pixels themselves where targets are not normalised.
        visible_statistics: mean and deviation of every hidden cube chosen so that the picture goes on across the
            borders of cubes, from the visible ones inwards: what the model and the visible cubes give alone.
        true_statistics: the hidden cubes' true mean and deviation, as in the paper's pictures. Uses the ground truth.
        bool_masked_pos: (B, N) True = hidden.
        loss: the reconstruction loss of these clips.
        normalized: whether the targets are normalised; if not, the three pictures are one.
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
    """Hide most of a video and let the model paint it (paper, figures 5 to 8).

    Args:
        model: a pre-training model, or the Hub id or folder of one.
        video: a file, a URL or whatever `VideoMAEVideoProcessor` takes; or (B, T, C, H, W) normalised floating-point
            `pixel_values`, used as they are.
        bool_masked_pos: (B, N) which tokens to hide; drawn from the model's config where it is None.
        mask_ratio: share of hidden tokens instead of the config's.
        processor: how a video becomes a clip; the one saved with the model, or one made for its config.
        seed: of the drawn mask.

    Returns:
        Reconstruction, on the CPU.

    Raises:
        ValueError: for a model without a decoder, a video or mask of the wrong shape; `VideoDecodeError` for one that
            cannot be decoded.
    """
    if isinstance(model, (str, os.PathLike)):
        network = load_pretrained(model)
        processor = processor or VideoMAEVideoProcessor.from_pretrained(model, num_views=1)
    else:
        network = model
    config = network.config
    if not (isinstance(video, Tensor) and video.dim() == 5 and video.is_floating_point()):
        processor = processor or VideoMAEVideoProcessor.from_config(config)
        if isinstance(video, (str, os.PathLike)):
            note_fetched(video)
        video = processor(video, return_tensors="pt")["pixel_values"]
    clip = video.to(network.device)
    grid = network.videomae.clip_grid(clip)
    if bool_masked_pos is None:
        generator = torch.Generator().manual_seed(seed)
        ratio = config.mask_ratio if mask_ratio is None else mask_ratio
        bool_masked_pos = make_mask(config.mask_type, grid, ratio, batch_size=len(clip), generator=generator)
    mask = bool_masked_pos.to(clip.device)
    training = network.training
    network.eval()
    try:
        # decode all that is hidden, and nothing else
        outputs = network(clip, mask, bool_decoder_masked_pos=~mask, return_dict=True)
    finally:
        network.train(training)
    check_finite(outputs.logits, what="predictions", video="the clip")
    return _pictures(config, grid, clip.cpu(), mask.cpu(), outputs.logits.float().cpu(), outputs.loss.item())


def _pictures(
    config: VideoMAEConfig, grid: Grid, clip: Tensor, mask: Tensor, logits: Tensor, loss: float
) -> Reconstruction:
    mean, std = list(config.image_mean or []), list(config.image_std or [])
    cubes = unnormalize(to_cubes(clip.float(), config.cube), mean, std)  # (B, N, C, P)
    predicted = pixels_to_cubes(logits, config.num_channels)  # (B, M, C, P)
    _, hidden = split_by_mask(mask, predicted.shape[1])

    def picture(values: Tensor, *, base: Tensor = cubes) -> Tensor:
        return _paste(base, hidden, values, config.cube, grid)

    grey = torch.full_like(predicted, 0.5)
    if not config.norm_pix_loss:
        painted = picture(predicted)
        return Reconstruction(picture(cubes[:, :0]), picture(grey), painted, painted, painted, mask, loss, False)
    center, scale = cube_statistics(cubes)
    index = hidden[:, :, None, None].expand(-1, -1, config.num_channels, 1)
    structure = ((cubes - center) / scale).scatter(1, index.expand_as(predicted), predicted)
    near = [
        torch.where(mask[:, :, None, None], _from_visible(values, mask, grid), values) for values in (center, scale)
    ]
    guessed_center, guessed_scale = continue_brightness(
        structure, mask, center=near[0], scale=near[1], cube=config.cube, grid=grid
    )
    return Reconstruction(
        original=picture(cubes[:, :0]),
        masked=picture(grey),
        prediction=picture(0.5 + 0.2 * predicted, base=0.5 + 0.2 * structure),
        visible_statistics=picture(predicted * guessed_scale.gather(1, index) + guessed_center.gather(1, index)),
        true_statistics=picture(predicted * scale.gather(1, index) + center.gather(1, index)),
        bool_masked_pos=mask,
        loss=loss,
        normalized=True,
    )


def _paste(base: Tensor, hidden: Tensor, values: Tensor, cube: Cube, grid: Grid) -> Tensor:
    """`base` cubes with `values` at the hidden ones (none where there are none), as clips in [0, 1]."""
    cubes = base.clone()
    if values.shape[1]:
        cubes.scatter_(1, hidden[:, :, None, None].expand_as(values), values)
    return from_cubes(cubes, cube, grid).clamp(0, 1)


def _from_visible(values: Tensor, mask: Tensor, grid: Grid, *, reach: float = 1.0) -> Tensor:
    """Every token's value guessed from the visible ones, weighted by a Gaussian of the distance in the grid.

    Args:
        values: (B, N, C, 1).
        mask: (B, N), True = hidden.
        reach: deviation of the Gaussian in tokens.
    """
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in grid), indexing="ij")
    places = torch.stack(axes, dim=-1).view(-1, 3)  # (N, 3)
    distance = torch.cdist(places, places).square() / (2 * reach**2)
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
    """Write a strip of frames (`STEM.png`) and an animation (`STEM.gif`), each row labelled.

    Args:
        reconstruction: of `reconstruct`.
        stem: path without ending (`.png` and `.gif` are taken off); folders are made.
        sample: which clip of the batch.
        columns: frames in the strip, evenly spread.
        frames_per_second: of the animation.

    Returns:
        the two files.
    """
    stem = Path(stem)
    stem = stem.with_suffix("") if stem.suffix.lower() in (".png", ".gif") else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    strip, animation = Path(f"{stem}.png"), Path(f"{stem}.gif")
    draw_reconstruction(reconstruction, sample=sample, columns=columns).save(strip)
    clips = _shown(reconstruction, sample)
    pages = [
        sheet([(label, clip[t : t + 1]) for label, clip in clips], beside=True) for t in range(clips[0][1].shape[0])
    ]
    pages[0].save(
        animation, save_all=True, append_images=pages[1:], duration=round(1000 / frames_per_second), loop=0, disposal=2
    )
    return [strip, animation]


def draw_reconstruction(reconstruction: Reconstruction, *, sample: int = 0, columns: int = 8) -> "Image":
    """The strip of frames as a picture: a labelled row for each of the clips of `reconstruct`.

    Args:
        reconstruction: of `reconstruct`.
        sample: which clip of the batch.
        columns: frames in the strip, evenly spread.
    """
    clips = _shown(reconstruction, sample)
    shown = spread(clips[0][1].shape[0], columns)
    return sheet([(label, clip[shown]) for label, clip in clips])


def _shown(reconstruction: Reconstruction, sample: int) -> list[tuple[str, Tensor]]:
    return [(label, to_bytes(clip[sample])) for label, clip in _panels(reconstruction)]


def _panels(found: Reconstruction) -> list[tuple[str, Tensor]]:
    hidden = round(100 * found.bool_masked_pos.float().mean().item())
    panels = [("original", found.original), (f"given to the model: {hidden} % hidden", found.masked)]
    if not found.normalized:
        return [*panels, ("painted by the model", found.prediction)]
    return [
        *panels,
        ("predicted, normalised cubes (no brightness)", found.prediction),
        ("painted, brightness continued from visible cubes", found.visible_statistics),
        ("painted, true brightness (uses ground truth)", found.true_statistics),
    ]


__all__ = ["Reconstruction", "draw_reconstruction", "reconstruct", "save_reconstruction"]
