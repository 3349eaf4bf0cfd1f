"""Draw masks (tube, random, frame, running cell), and turn masks into token indices.

A mask is (B, N) bool, True = masked (hidden from the encoder), N in raster order (t, h, w) of the grid (T', H', W').
Every sample of a batch has the same number of masked tokens, `compute_num_masked`. Random numbers are drawn on the
generator's device (the default one without a generator), then moved: the same seed gives the same masks everywhere.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from .patches import Grid

MaskType = Literal["tube", "random", "frame", "running_cell"]
MASK_TYPES: tuple[str, ...] = get_args(MaskType)
CELL_TOKENS = 4  # tokens of the 2 x 2 cell that the running-cell mask repeats


def compute_num_masked(mask_type: str, grid: Grid, ratio: float) -> int:
    """Return how many of the N tokens a mask hides.

    Fractions are cut off per unit (slice, clip, frame, cell) as in the paper's code. Example: tube 0.9 on a grid of
    (8, 14, 14) hides int(0.9 * 196) = 176 tokens of each of 8 slices: 1408, not 1411.

    Raises:
        ValueError: for an unknown type, a ratio outside (0, 1), or one that hides nothing or everything on this grid.
    """
    if mask_type not in MASK_TYPES:
        raise ValueError(f"mask type {mask_type!r} is not known; choose one of {', '.join(MASK_TYPES)}")
    if not 0 < ratio < 1:
        raise ValueError(f"mask ratio {ratio} is outside (0, 1); the paper uses 0.9 (tube)")
    frames, height, width = grid
    unit, repeats, unit_name = {
        "tube": (height * width, frames, "tokens of a slice"),
        "random": (frames * height * width, 1, "tokens"),
        "frame": (frames, height * width, "slices"),
        "running_cell": (CELL_TOKENS, frames * height * width // CELL_TOKENS, "tokens of a cell"),
    }[mask_type]
    if mask_type == "running_cell" and (height % 2 or width % 2):
        raise ValueError(
            f"running-cell masks repeat a 2x2 cell and need an even grid, got {height}x{width} tokens; "
            f"use another image size or another mask type"
        )
    masked_per_unit = int(ratio * unit)
    if not 0 < masked_per_unit < unit:
        raise ValueError(
            f"a {mask_type} mask of ratio {ratio} on the grid {grid} hides {masked_per_unit} of {unit} "
            f"{unit_name}: at least one must be hidden and one left visible; change the ratio or the clip's size"
        )
    return masked_per_unit * repeats


def tube_mask(
    grid: Grid,
    ratio: float,
    *,
    batch_size: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw one random spatial mask per clip, the same in every slice (paper, section 3.2).

    Args:
        grid: (T', H', W') tokens.
        ratio: share of masked tokens, in (0, 1); `int(ratio * H' * W')` per slice.
        batch_size: clips B.
        generator: source of randomness; numbers are drawn on its device.
        device: device of the mask.

    Returns:
        (B, N) bool, True = masked.

    Raises:
        ValueError: see `compute_num_masked`.
    """
    masked_per_unit = compute_num_masked("tube", grid, ratio) // grid[0]
    plane = _random_subset(batch_size, grid[1] * grid[2], masked_per_unit, generator=generator, device=device)
    return plane.repeat(1, grid[0])


def random_mask(
    grid: Grid,
    ratio: float,
    *,
    batch_size: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Mask `int(ratio * N)` tokens anywhere in space and time (paper, table 1b). Arguments as for `tube_mask`."""
    masked_per_unit = compute_num_masked("random", grid, ratio)
    return _random_subset(batch_size, grid[0] * grid[1] * grid[2], masked_per_unit, generator=generator, device=device)


def frame_mask(
    grid: Grid,
    ratio: float,
    *,
    batch_size: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Mask `int(ratio * T')` whole slices (paper, table 1b: 87.5 %, 7 of 8). Arguments as for `tube_mask`."""
    plane = grid[1] * grid[2]
    masked_per_unit = compute_num_masked("frame", grid, ratio) // plane
    slices = _random_subset(batch_size, grid[0], masked_per_unit, generator=generator, device=device)
    return slices.repeat_interleave(plane, dim=1)


def running_cell_mask(
    grid: Grid,
    ratio: float,
    *,
    batch_size: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Tile a 2 x 2 cell over space whose masked tokens move by one each slice (VideoMAE V2, section 3.2).

    V2 hides decoder tokens with it (ratio 0.5): True = not decoded. There are only four different masks: the cell's
    starting offsets. Arguments and errors as `tube_mask`; H' and W' must be even.
    """
    frames, height, width = grid
    masked_per_unit = compute_num_masked("running_cell", grid, ratio) * CELL_TOKENS // (frames * height * width)
    start = torch.randint(CELL_TOKENS, (batch_size, 1, 1), generator=generator, device=_rng_device(generator, device))
    step = torch.arange(1, frames + 1, device=start.device)[None, :, None]
    cell_index = torch.arange(CELL_TOKENS, device=start.device)[None, None, :]
    cell = (cell_index + start + step) % CELL_TOKENS < masked_per_unit  # (B, T', 4)
    tiled = cell.unflatten(2, (2, 2)).repeat(1, 1, height // 2, width // 2)
    return tiled.flatten(1).to(device)


def make_mask(
    mask_type: str,
    grid: Grid,
    ratio: float,
    *,
    batch_size: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw a mask of a type (`tube`, `random`, `frame` or `running_cell`): (B, N) bool, True = masked."""
    mask_functions: dict[str, Callable[..., Tensor]] = {
        "tube": tube_mask,
        "random": random_mask,
        "frame": frame_mask,
        "running_cell": running_cell_mask,
    }
    if mask_type not in mask_functions:
        raise ValueError(f"mask type {mask_type!r} is not known; choose one of {', '.join(MASK_TYPES)}")
    return mask_functions[mask_type](grid, ratio, batch_size=batch_size, generator=generator, device=device)


def check_mask(mask: Tensor, *, num_tokens: int, name: str = "bool_masked_pos") -> None:
    """Refuse a mask that is not (B, N) bool.

    Raises:
        ValueError: with what came and what is wanted.
    """
    if mask.dim() != 2 or mask.shape[1] != num_tokens:
        raise ValueError(
            f"{name} has shape {tuple(mask.shape)}; wanted (batch, {num_tokens}): one value per token of the clip, "
            f"in raster order (time, height, width)"
        )
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} is {mask.dtype}; wanted torch.bool with True = masked: pass {name}.bool()")


def count_masked(mask: Tensor, *, num_tokens: int, name: str = "bool_masked_pos") -> int:
    """Return the number of masked tokens, the same in every clip, neither none nor all.

    Raises:
        ValueError: for a mask that is not (B, N) bool with equal, sensible counts.
    """
    check_mask(mask, num_tokens=num_tokens, name=name)
    counts = mask.sum(1).tolist()
    if len(set(counts)) != 1:
        raise ValueError(
            f"{name} hides {counts} tokens in the clips of this batch; every clip must have the same number "
            f"(hf_videomae.ops.masking makes such masks)"
        )
    if not 0 < counts[0] < num_tokens:
        raise ValueError(
            f"{name} hides {counts[0]} of {num_tokens} tokens; some must be hidden and some left (True = masked)"
        )
    return counts[0]


def split_by_mask(mask: Tensor, num_masked: int) -> tuple[Tensor, Tensor]:
    """Return the token numbers of visible and of masked tokens: (B, N - M) and (B, M), each in raster order."""
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    visible = mask.shape[1] - num_masked
    return order[:, :visible], order[:, visible:]


def mask_indices(
    mask: Tensor,
    *,
    clips: Tensor,
    grid: Grid,
    name: str = "bool_masked_pos",
    expected: tuple[str | None, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Check the mask of a batch, and return the numbers of visible and masked tokens: (B, N - M) and (B, M).

    Under `torch.compile` the count M is read off the first batch, so that all shapes are static; a batch with another
    count then fails. `torch.export(strict=False)` shows no values; M then follows from the type and ratio `expected`.

    Raises:
        ValueError: for a mask of another shape than (len(clips), T' * H' * W'), or one that `count_masked` refuses.
    """
    if mask.shape[0] != clips.shape[0]:
        raise ValueError(f"{name} is for {mask.shape[0]} clips, pixel_values hold {clips.shape[0]}")
    mask = mask.to(clips.device)
    num_tokens = grid[0] * grid[1] * grid[2]
    if torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():
        num_masked = _count_masked_by_config(mask, grid, name, expected)
    else:
        num_masked = _count_masked_as_constant(mask, num_tokens, name)
    if torch.compiler.is_compiling():
        torch._assert_async(
            (mask.sum(1) == num_masked).all(),
            f"{name}: another number of masked tokens than the model was compiled or exported with; compile or export "
            f"again for another ratio (an export takes the ratio of the config)",
        )
    return split_by_mask(mask, num_masked)


def _count_masked_by_config(mask: Tensor, grid: Grid, name: str, expected: tuple[str | None, float] | None) -> int:
    """Return the number of masked tokens of an export that shows no values."""
    check_mask(mask, num_tokens=grid[0] * grid[1] * grid[2], name=name)
    kind, ratio = expected or (None, 0.0)
    if kind is None:
        raise ValueError(
            f"{name} cannot be exported with strict=False, which shows no values, and the config does not say how "
            f"many tokens it hides; set decoder_mask_type and decoder_mask_ratio, or export with strict=True"
        )
    return compute_num_masked(kind, grid, ratio)


@torch.compiler.assume_constant_result
def _count_masked_as_constant(mask: Tensor, num_tokens: int, name: str) -> int:
    return count_masked(mask, num_tokens=num_tokens, name=name)


def _rng_device(generator: torch.Generator | None, device: torch.device | str | None) -> torch.device | str | None:
    return generator.device if generator is not None else device


def _random_subset(
    batch_size: int,
    size: int,
    masked_per_unit: int,
    *,
    generator: torch.Generator | None,
    device: torch.device | str | None,
) -> Tensor:
    """Draw (B, size) bool with exactly `masked_per_unit` True in each row."""
    noise = torch.rand(batch_size, size, generator=generator, device=_rng_device(generator, device))
    rank = noise.argsort(dim=1).argsort(dim=1)
    return (rank < masked_per_unit).to(device)
