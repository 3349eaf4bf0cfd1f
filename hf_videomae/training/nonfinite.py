"""A step whose loss or gradient is not finite: never applied, counted and named."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import run_files
from ..errors import RunError


class NonFiniteError(RunError):
    """Too many losses or gradients in a row were not finite."""


@dataclass(frozen=True)
class NonFiniteStep:
    """A step that was not applied.

    Attributes:
        step: its number.
        losses: of every process.
        norm: of the gradient.
        per_rank: `process` and `sample_ids` of every process.
    """

    step: int
    losses: Sequence[float]
    norm: float
    per_rank: Sequence[dict[str, Any]]

    @property
    def what(self) -> str:
        """Return what is not finite."""
        return "loss" if not all(map(math.isfinite, self.losses)) else "gradient"

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Return the rows of `per_rank` whose loss is not finite, or all of them."""
        rows = [row for row in self.per_rank if not math.isfinite(self.losses[row["process"]])]
        return rows or list(self.per_rank)

    def record(self) -> dict[str, Any]:
        """Return a line of `nonfinite.jsonl`."""
        numbers = {"losses": [repr(loss) for loss in self.losses], "grad_norm": repr(self.norm)}
        return {"step": self.step, "what": self.what, **numbers, "samples": self.samples}

    def warning(self, *, consecutive: int, total_skipped: int) -> str:
        """Return a line for the user."""
        return (
            f"warning: step {self.step}: the {self.what} is not finite and was not applied ({consecutive} in a row, "
            f"{total_skipped} in all); {run_files.NONFINITE_FILE} has its samples, the first is "
            f"{self.samples[0]['sample_ids'][0]}"
        )

    def error(self, output_dir: Path, *, consecutive: int, kept: Path | None) -> NonFiniteError:
        """Return the error that ends the run; `kept` is its last checkpoint."""
        return NonFiniteError(
            f"the {self.what} was not finite in {consecutive} steps in a row, up to step {self.step}; "
            f"{'no checkpoint was written yet' if kept is None else f'{kept} is intact'}. Try a lower --base_lr, "
            f"--clip_grad 1, or look at the samples in {output_dir / run_files.NONFINITE_FILE}"
        )
