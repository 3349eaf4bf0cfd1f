"""Measure whether pre-training helps on a small real dataset, UT-Interaction: 83 clips of two people, 6 interactions.

    python examples/compare_ut_interaction.py --recipe compare-ut-interaction --dataset ../shared/data/ut_interaction

The clips are split into five folds by recording sequence (`recipes/ut-interaction-folds.csv`). In each fold three
models get the same labels, steps and settings: from scratch; pre-trained on the fold's training clips; pre-trained on
the built-in motion videos and then on those clips. No pre-training sees a test clip. The table also has what a single
frame gives (the third model shown one repeated frame, and hand-made features of the middle frame), and what a clip's
aspect ratio and length give away, as these clips were cut by hand. The dataset is never copied: folds are folders of
links.
"""

import csv
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from compare.baselines import kernel_ridge, middle_frame_features, video_geometry
from compare.comparison import ComparisonRow, binomial_standard_error
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
from hf_videomae.data import DataError, Source, open_source
from hf_videomae.training import RecipeError, exit_on_user_error, option, parse_recipe

RECIPES = Path(__file__).resolve().parent / "recipes"
SCRATCH, PRETRAINED, MOTION = "from scratch", "pre-trained on the clips", "pre-trained on motion, then on the clips"
REPEATED_FRAME, FRAME = "the third model, shown one repeated frame", "middle frame, hand-made features"
GEOMETRY = "aspect ratio and length alone"


@dataclass(frozen=True, kw_only=True)
class InteractionComparison:
    """Settings of the comparison."""

    dataset: str = option("../shared/data/ut_interaction", "folder of the clips with their index.csv", group="data")
    folds: str = option("ut-interaction-folds.csv", "fold of each sequence: a file, or one in recipes/", group="data")
    only_fold: int | None = option(None, "run one fold only, for example to share the work", group="data")
    seeds: tuple[int, ...] = option((0,), "seeds; each is pre-trained and fine-tuned separately", group="runs")
    model: str = option("tiny", "preset of all three models", group="runs")
    motion_model: str | None = option(
        None, "a checkpoint pre-trained on the motion videos, instead of pre-training it here (one seed)", group="runs"
    )
    motion_recipe: str = option("tiny", "recipe of pre-training on the motion videos", group="runs")
    motion_steps: int | None = option(None, "steps instead of the recipe's", group="runs")
    pretrain_recipe: str = option("ut-pretrain", "recipe of pre-training on the clips", group="runs")
    pretrain_steps: int | None = option(None, "steps instead of the recipe's", group="runs")
    finetune_recipe: str = option("ut-finetune", "recipe of fine-tuning", group="runs")
    finetune_steps: int | None = option(None, "steps instead of the recipe's, for all three models", group="runs")
    views: str = option("4x1", "temporal views x crops of the test", group="test")
    batch_size: int = option(16, "clips per forward pass of the test", group="test")
    num_workers: int = option(1, "decoding processes", group="speed")
    output_dir: str = option("outputs/ut-interaction", "output directory")

    def __post_init__(self) -> None:
        check_seeds(self.seeds, motion_model=self.motion_model)
        parse_views_setting(self.views)


# The folds.


def read_folds(file: str | Path) -> dict[str, int]:
    """Return the fold of each sequence, from a table with the columns fold and sequence.

    Raises:
        DataError: for a missing file, a missing column, or a sequence in two folds.
    """
    path = Path(file) if Path(file).is_file() else RECIPES / file
    if not path.is_file():
        raise DataError(f"there is no list of folds {file}; give a CSV file with the columns fold,sequence")
    with open(path, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    folds: dict[str, int] = {}
    for row in rows:
        if not (row.get("fold") or "").isdecimal() or not row.get("sequence"):
            raise DataError(f"{path}: a row is {row}; every row needs a number `fold` and a `sequence`")
        if folds.setdefault(row["sequence"], int(row["fold"])) != int(row["fold"]):
            raise DataError(f"{path}: sequence {row['sequence']} is in two folds, so its clips would be tested twice")
    if len(set(folds.values())) < 2:
        raise DataError(f"{path} lists {len(set(folds.values()))} folds; cross-validation needs two or more")
    return folds


def assign_folds(dataset: Path, folds: dict[str, int]) -> dict[str, int]:
    """Return the fold of every clip, by its path in the dataset's index.csv.

    Raises:
        DataError: for a missing index, or a clip whose sequence is in no fold.
    """
    index = dataset / "index.csv"
    if not index.is_file():
        raise DataError(f"{dataset} has no index.csv; give the folder of UT-Interaction with path,label,sequence")
    with open(index, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    unassigned = [row["path"] for row in rows if row.get("sequence") not in folds]
    if unassigned:
        raise DataError(
            f"{len(unassigned)} clips are of sequences in no fold, the first is {unassigned[0]}; add them to the list"
        )
    return {row["path"]: folds[row["sequence"]] for row in rows}


def link_fold(dataset: Path, folder: Path, *, fold: int, clips: dict[str, int]) -> Path:
    """Create `folder/{train,test}/CLASS/CLIP` as links to the dataset, for `--dataset` of the stages.

    Raises:
        DataError: for a class without a clip in either part, or a folder with clips of another fold.
    """
    parts = {path: "test" if clip_fold == fold else "train" for path, clip_fold in clips.items()}
    classes = {part: {os.path.dirname(path) for path in parts if parts[path] == part} for part in ("train", "test")}
    if classes["train"] != classes["test"]:
        missing = sorted(classes["train"] ^ classes["test"])
        raise DataError(f"fold {fold} has no clip of {missing[0]} in training or in test; make other folds")
    for path, part in parts.items():
        link, target = folder / part / path, (dataset / path).resolve()
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() and link.resolve() != target:
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(target)
    links = {link.relative_to(folder).as_posix() for link in folder.glob("*/*/*")}
    foreign = links - {f"{part}/{path}" for path, part in parts.items()}
    if foreign:
        raise DataError(f"{folder} holds {min(foreign)} of other folds; give another --output_dir, or remove it")
    return folder


# The models of a fold.


def train_models(settings: InteractionComparison, *, fold: Path, motion: Path, seed: int, folder: Path) -> list[Path]:
    """Return the three fine-tuned models of a fold: from scratch, pre-trained, and pre-trained on motion first."""
    shared = ["--dataset", fold, "--seed", str(seed), "--num_workers", str(settings.num_workers)]
    pretrain = ["--recipe", settings.pretrain_recipe, *shared, *optional_flag("max_steps", settings.pretrain_steps)]
    finetune = ["--recipe", settings.finetune_recipe, *shared, *optional_flag("max_steps", settings.finetune_steps)]
    on_clips = run_stage("pretrain.py", [*pretrain, "--model", settings.model], output_dir=folder / "pretrain")
    on_both = run_stage("pretrain.py", [*pretrain, "--model", motion], output_dir=folder / "pretrain-motion")
    starts = {"scratch": settings.model, "pretrained": on_clips, "motion": on_both}
    return [
        run_stage("finetune.py", [*finetune, "--model", start], output_dir=folder / name)
        for name, start in starts.items()
    ]


def pretrain_on_motion(settings: InteractionComparison, *, seed: int, folder: Path) -> Path:
    """Return the model pre-trained on the motion videos, one for all folds of a seed."""
    if settings.motion_model is not None:
        return Path(settings.motion_model)
    flags = ["--recipe", settings.motion_recipe, "--model", settings.model, "--seed", str(seed)]
    flags += ["--num_workers", str(settings.num_workers), *optional_flag("max_steps", settings.motion_steps)]
    return run_stage("pretrain.py", flags, output_dir=folder / "motion")


def evaluate_models(settings: InteractionComparison, folds: Sequence[Path]) -> list[ComparisonRow]:
    """Return the accuracies over all clips of all folds, per seed, of the three models and the repeated frame."""
    names = (SCRATCH, PRETRAINED, MOTION, REPEATED_FRAME)
    right: dict[str, list[float]] = {name: [] for name in names}
    eval_settings = EvalSettings(parse_views_setting(settings.views), settings.batch_size, settings.num_workers)
    total = 0
    for seed in settings.seeds:
        root = Path(settings.output_dir) / f"seed-{seed}"
        motion = pretrain_on_motion(settings, seed=seed, folder=root)
        counts, total = Counter[str](), 0
        for fold in folds:
            models = train_models(settings, fold=fold, motion=motion, seed=seed, folder=root / f"fold-{fold.name}")
            source = open_source(str(fold), split="test", require_labels=True)
            assert isinstance(source, Source)
            total += len(source)
            for name, model in zip(names, [*models, models[-1]], strict=True):
                is_repeated = name == REPEATED_FRAME
                accuracy = measure_accuracy(model, source, settings=eval_settings, repeat_frame=is_repeated)
                counts[name] += round(accuracy * len(source))
            log_main(f"seed {seed}, fold {fold.name}: {total} clips so far, right: {dict(counts)}")
        for name in names:
            right[name].append(counts[name] / total)
    return [ComparisonRow(name, tuple(right[name]), is_baseline=name == REPEATED_FRAME) for name in names]


def evaluate_baselines(dataset: Path, clips: dict[str, int], *, folds: Sequence[int]) -> list[ComparisonRow]:
    """Return the accuracies of kernel ridge on the middle frame and on the geometry, on the same folds."""
    source = open_source(str(dataset), require_labels=True)
    assert isinstance(source, Source) and source.class_names is not None
    samples = [source[index] for index in range(len(source))]
    labels = torch.tensor([sample.label for sample in samples])
    clip_folds = torch.tensor([clips[sample.id] for sample in samples])
    entries = []
    for name, make in ((FRAME, middle_frame_features), (GEOMETRY, video_geometry)):
        features = make(source, range(len(source)))
        right = tested = 0
        for fold in folds:
            test = clip_folds == fold
            answers = kernel_ridge(features[~test], labels[~test], features[test], num_classes=len(source.class_names))
            right, tested = right + int((answers == labels[test]).sum()), tested + int(test.sum())
        entries.append(ComparisonRow(name, (right / tested,), is_baseline=True))
    return entries


def main(arguments: list[str] | None = None) -> int:
    """Run the missing stages, and write the table and the figure; return the exit code."""
    settings = parse_recipe(InteractionComparison, arguments, description=__doc__, folder=RECIPES)
    with exit_on_user_error():
        dataset = Path(settings.dataset)
        clips = assign_folds(dataset, read_folds(settings.folds))
        numbers = sorted(set(clips.values()))
        if settings.only_fold is not None:
            if settings.only_fold not in numbers:
                raise RecipeError(f"only_fold is {settings.only_fold}; the list has the folds {numbers}")
            numbers = [settings.only_fold]
        root = Path(settings.output_dir) / "folds"
        folds = [link_fold(dataset, root / str(number), fold=number, clips=clips) for number in numbers]
        entries = [*evaluate_models(settings, folds), *evaluate_baselines(dataset, clips, folds=numbers)]
        tested = sum(fold in numbers for fold in clips.values())
        spread = binomial_standard_error(entries[2].values[0], tested)
        write_comparison(
            entries,
            Path(settings.output_dir),
            title=f"{settings.model} on UT-Interaction, {len(numbers)} folds by sequence",
            chance=1 / 6,
            seeds=settings.seeds,
            facts={"settings": vars(settings), "clips": tested, "folds": numbers},
            remarks=[
                f"Chance is {1 / 6:.3f}; {tested} test clips in {len(numbers)} folds by sequence, {settings.views} "
                f"views, one for the repeated frame.",
                f"So few clips alone give every row a standard error of about {spread:.3f}, seeds come on top.",
            ],
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
