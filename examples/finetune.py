"""Fine-tune a VideoMAE on labelled videos, as the paper does.

    python examples/finetune.py --model outputs/demo                  # from a pre-trained checkpoint, built-in data
    python examples/finetune.py --model tiny                          # from scratch
    python examples/finetune.py --output_dir outputs/mine --resume    # goes on exactly where it stopped
    accelerate launch examples/finetune.py --model MCG-NJU/videomae-base --dataset DIR --epochs 50 --test_split test

Labels come from the class folders of the data set, or from its index.csv (path,label). Settings come from defaults,
then the recipe file, then the flags. With --test_split the model is validated after the last step (--eval_every N:
every N steps as well) and what was saved is tested by the paper's protocol. Ctrl-C and SIGTERM save a checkpoint and
leave.
"""

import sys
from pathlib import Path
from typing import Any

from hf_videomae.data import DataError, build_loader, open_mixture, open_source
from hf_videomae.hub import build_publisher
from hf_videomae.training import (
    FinetuneRecipe,
    FinetuneTask,
    Run,
    RunError,
    SplitValidation,
    announce_finetuning,
    build_accelerator,
    build_classifier,
    find_stride,
    finetune_settings,
    label_coding,
    layer_decay_scales,
    parse_recipe,
    resume_point,
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
        publisher = build_publisher(recipe, resume=resume)
        named: dict[str, Any] = {"label_kind": recipe.problem_type, "cache_dir": recipe.cache_dir}
        source = open_mixture(
            recipe.dataset, weights=recipe.dataset_weights, split=recipe.split, require_labels=True, **named
        )
        classes = source.class_names
        model = build_classifier(recipe, resume, class_names=classes)
        stride = find_stride(recipe, resume)
        settings = finetune_settings(recipe, model.config, class_names=classes, stride=stride, source=source)
        announce_finetuning(recipe, model=model, source=source, settings=settings, processes=accelerator.num_processes)
        loader = build_loader(
            source,
            settings=settings,
            labels=label_coding(recipe, classes),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            num_workers=recipe.num_workers,
            prefetch=recipe.prefetch,
            on_bad_video=recipe.on_bad_video,
            max_bad_share=recipe.max_bad_share,
            pin_memory=accelerator.device.type == "cuda",
        )
        task = FinetuneTask(recipe, model=model, source=source, stride=stride, resume=resume)
        validation = None
        if recipe.test_split is not None:
            test = open_source(recipe.test_set, split=recipe.test_split, require_labels=True, **named)
            validation = SplitValidation(recipe, task=task, source=test, accelerator=accelerator)
        run = Run(
            recipe,
            accelerator=accelerator,
            model=model,
            task=task,
            loader=loader,
            resume=resume,
            lr_scale=layer_decay_scales(model, recipe.layer_decay),
            validation=validation,
            publisher=publisher,
        )
        task.watch(run.optimizer)

    # From here on only what the data or the numbers do can end the run early.
    with user_errors(RunError, DataError, VideoBackendError):
        return run.train().exit_code


if __name__ == "__main__":
    sys.exit(main())
