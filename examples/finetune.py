"""Fine-tune a VideoMAE on labelled videos, as the paper does.

    python examples/finetune.py --model outputs/demo                  # from a pre-trained checkpoint, built-in data
    python examples/finetune.py --model tiny                          # from scratch
    python examples/finetune.py --output_dir outputs/mine --resume    # goes on exactly where it stopped
    accelerate launch examples/finetune.py --model MCG-NJU/videomae-base --dataset DIR --epochs 50 --test_split test

Labels come from the class folders of the data set, or from its index.csv (path,label). Settings come from defaults,
then the recipe file, then the flags. Ctrl-C and SIGTERM save a checkpoint and leave.
"""

import sys
from pathlib import Path

import torch

from hf_videomae import VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.data import DataError, build_loader, open_source
from hf_videomae.data.samples import AnySource
from hf_videomae.training import (
    FinetuneRecipe,
    FinetuneTask,
    Run,
    RunError,
    announce_finetuning,
    build_accelerator,
    build_classifier,
    find_stride,
    finetune_settings,
    label_coding,
    layer_decay_scales,
    parse_recipe,
    resume_point,
    say,
    user_errors,
)
from hf_videomae.video.decoding import VideoBackendError


def main(arguments: list[str] | None = None) -> int:
    """Fine-tune; returns the exit code: 0, or 128 + the signal that stopped the run."""
    recipe = parse_recipe(FinetuneRecipe, arguments, description=__doc__, folder=Path(__file__).parent / "recipes")

    # Whatever is wrong shows here, in one line, before anything is written.
    with user_errors():
        accelerator = build_accelerator(recipe)
        resume = resume_point(recipe)
        source = open_source(recipe.dataset, split=recipe.split, require_labels=True, label_kind=recipe.problem_type)
        test = None if recipe.test_split is None else open_test(recipe)
        classes = source.class_names
        model = build_classifier(recipe, resume, class_names=classes)
        stride = find_stride(recipe, resume)
        settings = finetune_settings(recipe, model.config, class_names=classes, stride=stride)
        announce_finetuning(recipe, model=model, source=source, settings=settings)
        loader = build_loader(
            source,
            settings=settings,
            labels=label_coding(recipe, classes),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            num_workers=recipe.num_workers,
            max_bad_share=recipe.max_bad_share,
            pin_memory=accelerator.device.type == "cuda",
        )
        task = FinetuneTask(recipe, model=model, source=source, stride=stride, resume=resume)
        run = Run(
            recipe,
            accelerator=accelerator,
            model=model,
            task=task,
            loader=loader,
            resume=resume,
            lr_scale=layer_decay_scales(model, recipe.layer_decay),
        )
        task.watch(run.optimizer)

    # From here on only what the data or the numbers do can end the run early.
    with user_errors(RunError, DataError, VideoBackendError):
        outcome = run.train()
        if test is not None and outcome.step == run.schedule.total_steps and accelerator.is_main_process:
            test_saved(recipe, test, device=accelerator.device)
    return outcome.exit_code


def open_test(recipe: FinetuneRecipe) -> AnySource:
    """The videos of `--test_split`."""
    assert recipe.test_split is not None
    return open_source(recipe.dataset, split=recipe.test_split, require_labels=True, label_kind=recipe.problem_type)


def test_saved(recipe: FinetuneRecipe, source: AnySource, *, device: torch.device) -> None:
    """Evaluate the model that was saved (the average of the weights, where there is one) by the paper's protocol."""
    from hf_videomae.evaluation import evaluate

    result = evaluate(
        VideoMAEForVideoClassification.from_pretrained(recipe.output_dir).to(device),
        source,
        processor=VideoMAEVideoProcessor.from_pretrained(recipe.output_dir),
        views=recipe.views,
        num_workers=recipe.num_workers,
    )
    result.save(recipe.output_dir)
    say(result.summary())


if __name__ == "__main__":
    sys.exit(main())
