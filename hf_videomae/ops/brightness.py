"""Estimate brightness and contrast of masked cubes, from the continuity of the image across their borders alone.

A model with normalized targets predicts the content of a cube, but not its brightness: for a cube with values p the
image is m + s * p with an unknown mean m and contrast s. At the border of two cubes, adjacent pixels are about equal,
in space and from one frame to the next. That is a least-squares problem, linear in all m and s; undetermined ones stay
near a guess. Example: with s = 1, border values p = -1 and visible pixels of 0.5 next to them give m = 1.5.

Shapes: B clips, C channels, N tokens, P pixels of a cube, E borders along one axis, K touching pixels of a border.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .patches import Cube, Grid

# Weight of a guess, relative to the borders of a cube (their mean squared differences weigh 1 each).
_MEAN_PRIOR_WEIGHT, _CONTRAST_PRIOR_WEIGHT = 0.02, 0.1
_MAX_STEPS = 1000  # of conjugate gradients


class _NormalEquations:
    """The normal equations of all borders, as 2 x 2 blocks per token and per pair of adjacent tokens."""

    def __init__(self, cubes: Tensor, *, cube: Cube, grid: Grid) -> None:
        pixels = cubes.double().unflatten(3, cube).unflatten(2, grid)  # (B, C, T', H', W', t, h, w)
        numbers = torch.arange(cubes.shape[2], device=cubes.device).view(grid)
        self.diagonal = pixels.new_zeros(*cubes.shape[:3], 2, 2)
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        for axis in range(3):
            count = grid[axis] - 1
            first, second = numbers.narrow(axis, 0, count).flatten(), numbers.narrow(axis, 1, count).flatten()
            before = pixels.narrow(2 + axis, 0, count).select(5 + axis, -1)
            after = pixels.narrow(2 + axis, 1, count).select(5 + axis, 0)
            # (B, C, E, K, 2): a pixel is (1, p) times (m, s).
            one, other = (
                torch.stack((torch.ones_like(p), p), -1) for p in (_flatten_border(before), _flatten_border(after))
            )
            size = one.shape[-2]
            self.diagonal.index_add_(2, first, one.mT @ one / size)
            self.diagonal.index_add_(2, second, other.mT @ other / size)
            self.pairs.append((first, second, -(one.mT @ other) / size))

    def matvec(self, unknowns: Tensor) -> Tensor:
        """Multiply the matrix of the normal equations by (B, C, N, 2, 1)."""
        result = self.diagonal @ unknowns
        for first, second, block in self.pairs:
            result.index_add_(2, first, block @ unknowns[:, :, second])
            result.index_add_(2, second, block.mT @ unknowns[:, :, first])
        return result


def _flatten_border(border: Tensor) -> Tensor:
    """Flatten (B, C, three axes of the grid, two axes of pixels) to (B, C, E, K)."""
    return border.flatten(5).flatten(2, 4)


def match_brightness(
    cubes: Tensor, masked_tokens: Tensor, *, center: Tensor, scale: Tensor, cube: Cube, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Return mean and contrast of masked cubes with which the image continues across borders.

    Args:
        cubes: (B, N, C, P) normalized values: true for visible cubes, predicted for masked ones.
        masked_tokens: (B, N), True = masked.
        center: (B, N, C, 1) mean of every cube, true for visible cubes, a guess for masked ones.
        scale: (B, N, C, 1) deviation of every cube, likewise.
        cube: (t, h, w), with t * h * w = P.
        grid: (T', H', W'), with N tokens.

    Returns:
        `center` and `scale` (contrasts are at least 0) with masked cubes filled in; visible ones are unchanged.
    """
    borders = _NormalEquations(cubes.transpose(1, 2), cube=cube, grid=grid)
    guess = torch.cat((center, scale), -1).transpose(1, 2).unsqueeze(-1).double()  # (B, C, N, 2, 1)
    free = masked_tokens[:, None, :, None, None]
    prior_weight = torch.tensor(
        [_MEAN_PRIOR_WEIGHT, _CONTRAST_PRIOR_WEIGHT], dtype=torch.float64, device=cubes.device
    )[:, None]
    # (A + prior) (u - guess) = -A guess, over the masked cubes alone.
    solution = guess + _conjugate_gradients(
        lambda u: (borders.matvec(u) + prior_weight * u) * free,
        -borders.matvec(guess) * free,
        blocks=borders.diagonal + torch.diag(prior_weight[:, 0]),
    )
    mean, contrast = solution.squeeze(-1).transpose(1, 2).to(center.dtype).split(1, -1)
    visible = ~masked_tokens[:, :, None, None]
    return torch.where(visible, center, mean), torch.where(visible, scale, contrast.clamp(min=0))


def _conjugate_gradients(matrix: Callable[[Tensor], Tensor], rhs: Tensor, *, blocks: Tensor) -> Tensor:
    """Solve matrix(x) = rhs for every clip and channel at once, preconditioned with the 2 x 2 blocks.

    The residual falls to a millionth, or the steps end.
    """
    inverse = torch.linalg.inv(blocks)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((2, 3, 4), keepdim=True)

    solution, residual = torch.zeros_like(rhs), rhs
    direction = step = inverse @ residual
    residual_dot = dot(residual, step)
    tolerance = 1e-12 * dot(rhs, rhs)
    for _ in range(_MAX_STEPS):
        if (dot(residual, residual) <= tolerance).all():
            break
        matrix_direction = matrix(direction)
        step_size = residual_dot / dot(direction, matrix_direction).clamp(min=1e-300)
        solution, residual = solution + step_size * direction, residual - step_size * matrix_direction
        step = inverse @ residual
        residual_dot, before = dot(residual, step), residual_dot
        direction = step + residual_dot / before.clamp(min=1e-300) * direction
    return solution
