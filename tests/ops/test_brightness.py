"""Test brightness continued across the borders of cubes."""

import torch
from torch import Tensor

from hf_videomae.ops.brightness import match_brightness
from hf_videomae.ops.masking import tube_mask
from hf_videomae.ops.patches import cube_statistics, patchify, unpatchify

CUBE, GRID = (2, 8, 8), (3, 4, 5)


def smooth_clip() -> Tensor:
    """Return (2, 6, 3, 32, 40): two moving blobs over gradients."""
    t, y, x = torch.meshgrid(torch.arange(6.0), torch.arange(32.0), torch.arange(40.0), indexing="ij")
    clips = []
    for left in (10.0, 22.0):
        blob = torch.exp(-((x - left - t) ** 2 + (y - 14) ** 2) / 90)
        clips.append(torch.stack([0.2 + 0.006 * y + 0.5 * blob, 0.6 - 0.005 * x - 0.3 * blob, 0.3 + 0.004 * x], 1))
    return torch.stack(clips)


def test_masked_brightness_is_recovered_from_structure_alone() -> None:
    clip = smooth_clip()
    cubes = patchify(clip, CUBE)
    center, scale = cube_statistics(cubes)
    masked_tokens = tube_mask(GRID, 0.75, batch_size=2, generator=torch.Generator().manual_seed(0))
    free = masked_tokens[:, :, None, None]
    normal = (cubes - center) / scale
    poor_center, poor_scale = (values.mean((0, 1), keepdim=True).expand_as(values) for values in (center, scale))
    found = match_brightness(
        normal,
        masked_tokens,
        center=torch.where(free, poor_center, center),
        scale=torch.where(free, poor_scale, scale),
        cube=CUBE,
        grid=GRID,
    )
    for value, true in zip(found, (center, scale), strict=True):
        assert torch.equal(value[~masked_tokens], true[~masked_tokens])
    painted = unpatchify(normal * found[1] + found[0], CUBE, GRID)
    guessed = unpatchify(torch.where(free, normal * poor_scale + poor_center, cubes), CUBE, GRID)
    assert (painted - clip).square().mean() < 0.1 * (guessed - clip).square().mean()


def test_solution_minimizes_the_least_squares_error() -> None:
    """Any other brightness of a masked cube has a larger error at borders or a larger distance from the guess."""
    generator = torch.Generator().manual_seed(1)
    cubes = patchify(smooth_clip()[:1, :, :1].double(), CUBE)
    center, scale = cube_statistics(cubes)
    normal = (cubes - center) / scale + 0.02 * torch.randn(cubes.shape, generator=generator, dtype=torch.float64)
    center = center + 0.02 * torch.randn(center.shape, generator=generator, dtype=torch.float64)
    masked_tokens = tube_mask(GRID, 0.75, generator=generator)

    def cost(mean: Tensor, contrast: Tensor) -> Tensor:
        clip = unpatchify(normal * contrast + mean, CUBE, GRID)
        return (
            (clip[:, 2::2] - clip[:, 1:-1:2]).square().sum() / 64
            + (clip[..., 8::8, :] - clip[..., 7:-1:8, :]).square().sum() / 16
            + (clip[..., 8::8] - clip[..., 7:-1:8]).square().sum() / 16
            + 0.02 * (mean - center).square().sum()
            + 0.1 * (contrast - scale).square().sum()
        )

    mean, contrast = match_brightness(normal, masked_tokens, center=center, scale=scale, cube=CUBE, grid=GRID)
    assert contrast.min() > 0  # otherwise it was clamped, and is not the free optimum
    mean.requires_grad_(), contrast.requires_grad_()
    for slope in torch.autograd.grad(cost(mean, contrast), (mean, contrast)):
        assert slope[masked_tokens].abs().max() < 1e-4


def test_no_masked_and_all_masked_cubes_are_handled() -> None:
    normal, center = torch.randn(1, 60, 2, 128), torch.rand(1, 60, 2, 1)
    for masked_tokens in (torch.zeros(1, 60, dtype=torch.bool), torch.ones(1, 60, dtype=torch.bool)):
        mean, contrast = match_brightness(normal, masked_tokens, center=center, scale=center, cube=CUBE, grid=GRID)
        assert mean.isfinite().all() and contrast.isfinite().all()
