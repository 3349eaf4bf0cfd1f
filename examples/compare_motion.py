"""Measure whether pre-training helps, on the built-in motion videos, whose label is in no single frame.

    python examples/compare_motion.py --output_dir outputs/motion                          # one seed
    python examples/compare_motion.py --recipe compare-motion --output_dir outputs/motion  # three seeds

For each seed it pre-trains without labels, fine-tunes that encoder and an untrained one with the same labels, steps
and settings, and tests both on the test videos with several views. A third row shows the pre-trained model one frame
of each video, repeated: what it still gets right is in a single image and not in the motion. The stages are the other
example scripts, run as a user runs them. Finished ones are kept, so an interrupted comparison resumes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from compare.comparison import ComparisonRow, format_mean_and_error, paired_difference
from compare.stages import (
    EvalSettings,
    check_seeds,
    measure_accuracy,
    optional_flag,
    parse_views_setting,
    run_stage,
    write_comparison,
)

from hf_videomae.console import log_main
from hf_videomae.data import DataError, open_source
from hf_videomae.data.source import AnySource
from hf_videomae.training import exit_on_user_error, option, parse_recipe

PRETRAINED, SCRATCH, REPEATED_FRAME = (
    "pre-trained, then fine-tuned",
    "from scratch",
    "pre-trained, shown one repeated frame",
)


@dataclass(frozen=True, kw_only=True)
class MotionComparison:
    """Settings of the comparison."""

    seeds: tuple[int, ...] = option((0,), "seeds; each is pre-trained and fine-tuned separately", group="runs")
    model: str = option("tiny", "preset of both models", group="runs")
    pretrained: str | None = option(
        None, "a pre-trained checkpoint instead of pre-training here (one seed)", group="runs"
    )
    pretrain_recipe: str = option("tiny", "recipe of examples/pretrain.py", group="runs")
    pretrain_steps: int | None = option(None, "steps instead of the recipe's", group="runs")
    finetune_recipe: str = option("tiny-finetune", "recipe of examples/finetune.py", group="runs")
    finetune_steps: int | None = option(None, "steps instead of the recipe's, for both models", group="runs")
    split: str = option("test", "split to test on", group="test")
    views: str = option("3x1", "temporal views x crops of the test", group="test")
    batch_size: int = option(32, "clips per forward pass of the test", group="test")
    num_workers: int = option(1, "decoding processes", group="speed")
    output_dir: str = option("outputs/motion", "output directory")

    def __post_init__(self) -> None:
        check_seeds(self.seeds, pretrained=self.pretrained)
        parse_views_setting(self.views)


def finetune_models(settings: MotionComparison, *, seed: int, folder: Path) -> tuple[Path, Path]:
    """Return the two models of a seed: fine-tuned from the pre-trained encoder, and from scratch."""
    shared = ["--dataset", "motion", "--seed", str(seed), "--num_workers", str(settings.num_workers)]
    encoder = Path(settings.pretrained or folder / "pretrain")
    if settings.pretrained is None:
        steps = optional_flag("max_steps", settings.pretrain_steps)
        chosen = ["--recipe", settings.pretrain_recipe, "--model", settings.model]
        run_stage("pretrain.py", [*chosen, *shared, *steps], output_dir=encoder)
    common = ["--recipe", settings.finetune_recipe, *shared, *optional_flag("max_steps", settings.finetune_steps)]
    return (
        run_stage("finetune.py", [*common, "--model", encoder], output_dir=folder / "pretrained"),
        run_stage("finetune.py", [*common, "--model", settings.model], output_dir=folder / "scratch"),
    )


def compare(settings: MotionComparison, source: AnySource) -> list[ComparisonRow]:
    """Return the rows of the table: pre-trained, from scratch, and shown one repeated frame."""
    eval_settings = EvalSettings(parse_views_setting(settings.views), settings.batch_size, settings.num_workers)
    values: dict[str, list[float]] = {PRETRAINED: [], SCRATCH: [], REPEATED_FRAME: []}
    for seed in settings.seeds:
        pretrained, scratch = finetune_models(settings, seed=seed, folder=Path(settings.output_dir) / f"seed-{seed}")
        values[PRETRAINED].append(measure_accuracy(pretrained, source, settings=eval_settings))
        values[SCRATCH].append(measure_accuracy(scratch, source, settings=eval_settings))
        values[REPEATED_FRAME].append(measure_accuracy(pretrained, source, settings=eval_settings, repeat_frame=True))
        log_main(f"seed {seed}: " + ", ".join(f"{name} {accuracies[-1]:.3f}" for name, accuracies in values.items()))
    return [ComparisonRow(name, tuple(row), is_baseline=name == REPEATED_FRAME) for name, row in values.items()]


def main(arguments: list[str] | None = None) -> int:
    """Run the missing stages, and write the table and the figure; return the exit code."""
    folder = Path(__file__).parent / "recipes"
    settings = parse_recipe(MotionComparison, arguments, description=__doc__, folder=folder)
    with exit_on_user_error():
        source = open_source("motion", split=settings.split, require_labels=True)
        if source.class_names is None:
            raise DataError("the motion dataset has no labels")
        entries = compare(settings, source)
        difference, error = paired_difference(entries[0], entries[1])
        times = "" if not error else f", {difference / error:.1f} standard errors"
        gap = format_mean_and_error([a - b for a, b in zip(entries[0].values, entries[1].values, strict=True)])
        chance = 1 / len(source.class_names)
        write_comparison(
            entries,
            Path(settings.output_dir),
            title=f"{settings.model} on the motion videos, {settings.split} split",
            chance=chance,
            seeds=settings.seeds,
            facts={"settings": vars(settings), "pretrained_above_scratch": [difference, error]},
            remarks=[
                f"{PRETRAINED} is {gap} above {SCRATCH}{times}.",
                f"Chance is {chance:.3f}; {len(source)} test videos, {settings.views} views, one for the frame.",
            ],
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
