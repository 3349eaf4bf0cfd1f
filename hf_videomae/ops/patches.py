"""Cut clips into cubes of tokens and back, make pixel targets and position tables.

A clip is cut into cubes of `cube = (t, h, w)` frames x pixels x pixels (2 x 16 x 16 in the paper, section 3.3). One
cube is one token, and tokens stand in raster order of the grid (T', H', W'): n = t * H' * W' + h * W' + w.

Shapes: B clips, T frames, C channels, H x W pixels, N tokens, V selected tokens, P = t * h * w pixels of a cube, D
    width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Grid = tuple[int, int, int]
Cube = tuple[int, int, int]


def token_grid(*, num_frames: int, height: int, width: int, cube: Cube) -> Grid:
    """Return the token grid (T', H', W') of a clip.

    Args:
        num_frames: frames T of the clip.
        height: height H in pixels.
        width: width W in pixels.
        cube: (frames, pixels, pixels) of one token.

    Raises:
        ValueError: if the clip cannot be cut into whole cubes.
    """
    sizes = {"frames": (num_frames, cube[0]), "height": (height, cube[1]), "width": (width, cube[2])}
    for name, (size, step) in sizes.items():
        if size < step or size % step:
            raise ValueError(
                f"a clip of {num_frames} frames, {height}x{width} pixels cannot be cut into cubes of {cube[0]} frames "
                f"x {cube[1]}x{cube[2]} pixels: {name} = {size} is not a positive multiple of {step}. "
                f"Sample or crop the clip to such a size."
            )
    return num_frames // cube[0], height // cube[1], width // cube[2]


def _cube_view(video: Tensor, cube: Cube) -> Tensor:
    """View (B, T, C, H, W) as (B, T', H', W', C, t, h, w); splitting a dimension never copies."""
    t, h, w = cube
    split = video.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(1, (-1, t))
    return split.permute(0, 1, 4, 6, 3, 2, 5, 7)


def patchify(video: Tensor, cube: Cube) -> Tensor:
    """Cut clips into cubes.

    Args:
        video: (B, T, C, H, W).
        cube: (t, h, w), dividing (T, H, W).

    Returns:
        (B, N, C, P). Flattened it is in the order of a `Conv3d` weight (c, t, h, w).
    """
    return _cube_view(video, cube).flatten(5).flatten(1, 3)


def gather_patches(video: Tensor, cube: Cube, index: Tensor) -> Tensor:
    """Return the cubes at some tokens, without cutting the others.

    Args:
        video: (B, T, C, H, W).
        cube: (t, h, w), dividing (T, H, W).
        index: (B, V) token numbers in raster order.

    Returns:
        (B, V, C, P).
    """
    view = _cube_view(video, cube)
    _, _, grid_h, grid_w = view.shape[:4]
    batch = torch.arange(index.shape[0], device=index.device)[:, None]
    picked = view[batch, index // (grid_h * grid_w), index // grid_w % grid_h, index % grid_w]
    return picked.flatten(3)


def unpatchify(cubes: Tensor, cube: Cube, grid: Grid) -> Tensor:
    """Put cubes together again: the inverse of `patchify`.

    Args:
        cubes: (B, N, C, P).
        cube: (t, h, w).
        grid: (T', H', W') with T' * H' * W' = N.

    Returns:
        (B, T, C, H, W).
    """
    view = cubes.unflatten(3, cube).unflatten(1, grid)
    merged = view.permute(0, 1, 5, 4, 2, 6, 3, 7)
    return merged.flatten(6, 7).flatten(4, 5).flatten(1, 2)


def cubes_to_pixels(cubes: Tensor) -> Tensor:
    """Reorder (B, N, C, P) to (B, N, P * C), the order of the decoder's output, channels last as in the originals."""
    return cubes.transpose(-1, -2).flatten(-2)


def pixels_to_cubes(pixels: Tensor, num_channels: int) -> Tensor:
    """Reorder (B, N, P * C) to (B, N, C, P): the inverse of `cubes_to_pixels`."""
    return pixels.unflatten(-1, (-1, num_channels)).transpose(-1, -2)


def cube_statistics(cubes: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and scale of every cube, per channel over its P pixels, with which targets are normalized.

    Returns:
        mean and scale, (B, N, C, 1) each. The scale is the root of the unbiased variance plus 1e-6, the epsilon
        outside the root, as in the paper's code.
    """
    return cubes.mean(-1, keepdim=True), cubes.var(-1, unbiased=True, keepdim=True).sqrt() + 1e-6


def unnormalize(cubes: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undo the processor's channel normalization: (B, N, C, P) normalized pixels -> pixels in [0, 1], float32."""
    cubes = cubes.float()
    return cubes * cubes.new_tensor(list(std))[:, None] + cubes.new_tensor(list(mean))[:, None]


def pixel_targets(cubes: Tensor, *, mean: Sequence[float], std: Sequence[float], normalize: bool) -> Tensor:
    """Return the pixels that the decoder must predict (paper, section 3.1; the formula of the released code).

    Pixels are brought back to [0, 1] first, then each cube is normalized per channel by its own mean and deviation:
    "per channel" and "unbiased" are what the released weights were trained with, not what image MAE does.

    Args:
        cubes: (B, M, C, P) cubes of the processor's output.
        mean: the processor's mean, C numbers.
        std: the processor's deviation, C numbers.
        normalize: per-cube normalization (`config.norm_pix_loss`); otherwise pixels in [0, 1].

    Returns:
        (B, M, P * C) float32 whatever the dtype of the input: bfloat16 targets are off by up to 0.3.
    """
    pixels = unnormalize(cubes, mean, std)
    if normalize:
        center, scale = cube_statistics(pixels)
        pixels = (pixels - center) / scale
    return cubes_to_pixels(pixels)


def sinusoid_table(num_positions: int, width: int, *, device: torch.device | str | None = None) -> Tensor:
    """Return the fixed position table of VideoMAE: a sinusoid over the flat token number, not over (t, h, w).

    angle[n, j] = n / 10000^(2 * (j // 2) / width), sine at even j and cosine at odd j. Computed in float64: float32
    angles are off by 1e-4.

    Returns:
        (N, D) float32.
    """
    position = torch.arange(num_positions, dtype=torch.float64, device=device)[:, None]
    pair = torch.arange((width + 1) // 2, dtype=torch.float64, device=device)
    angle = position / torch.pow(10000.0, 2 * pair / width)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :width].float()


def interpolate_positions(table: Tensor, *, source: Grid, target: Grid) -> Tensor:
    """Bring a position table to another grid: bicubic over space, linear over time.

    Recomputing the sinusoid would give every position another code, since the flat number counts rows of another
    length; interpolation keeps the codes that the weights were trained with.

    Args:
        table: (N, D) for `source`.
        source: (T', H', W') of the table.
        target: (T', H', W') wanted.

    Returns:
        (N_target, D); `table` itself if the grids are equal.
    """
    if source == target:
        return table
    width = table.shape[-1]
    planes = table.float().reshape(*source, width).permute(0, 3, 1, 2)  # (T', D, H', W')
    if source[1:] != target[1:]:
        planes = nn.functional.interpolate(planes, size=target[1:], mode="bicubic", align_corners=False)
    if source[0] != target[0]:
        lines = planes.permute(2, 3, 1, 0).flatten(0, 1)  # (H' * W', D, T')
        lines = nn.functional.interpolate(lines, size=target[0], mode="linear", align_corners=False)
        planes = lines.unflatten(0, target[1:]).permute(3, 2, 0, 1)
    return planes.permute(0, 2, 3, 1).reshape(-1, width).to(table.dtype)
