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

from hf_videomae.console import log_main
from hf_videomae.data import DataError, build_loader, has_columns, open_mixture, open_source, source_notes
from hf_videomae.training import (
    FinetuneRecipe,
    FinetuneTask,
    RunError,
    SplitValidator,
    Trainer,
    build_accelerator,
    build_classifier,
    build_finetune_clip_config,
    build_label_encoder,
    build_publisher,
    exit_on_user_error,
    layer_decay_scales,
    log_finetune_summary,
    parse_recipe,
    resolve_frame_stride,
    resolve_resume_checkpoint,
)
from hf_videomae.video.decoding import VideoBackendError


def main(arguments: list[str] | None = None) -> int:
    """Fine-tune; returns the exit code: 0, or 128 + the signal that stopped the run."""
    recipe = parse_recipe(FinetuneRecipe, arguments, description=__doc__, folder=Path(__file__).parent / "recipes")

    # Whatever is wrong shows here, in one line, before anything is written.
    with exit_on_user_error():
        accelerator = build_accelerator(recipe)
        resume = resolve_resume_checkpoint(recipe)
        publisher = build_publisher(recipe, resume=resume)
        named: dict[str, Any] = {"label_kind": recipe.problem_type, "cache_dir": recipe.cache_dir}
        source = open_mixture(
            recipe.dataset,
            weights=recipe.dataset_weights,
            split=recipe.split,
            require_labels=True,
            **named,
            **recipe.columns,
        )
        classes = source.class_names
        model = build_classifier(recipe, resume, class_names=classes)
        stride = resolve_frame_stride(recipe, resume)
        settings = build_finetune_clip_config(recipe, model.config, class_names=classes, stride=stride, source=source)
        log_finetune_summary(
            recipe, model=model, source=source, settings=settings, processes=accelerator.num_processes
        )
        loader = build_loader(
            source,
            clip_config=settings,
            labels=build_label_encoder(recipe, classes),
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
            if has_columns(recipe.test_dataset_name):
                named |= recipe.columns
            test = open_source(recipe.test_dataset_name, split=recipe.test_split, require_labels=True, **named)
            for note in source_notes(test):
                log_main(f"note: of the videos to test on: {note}")
            validation = SplitValidator(recipe, task=task, source=test, accelerator=accelerator)
        run = Trainer(
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
        task.attach_ema(run.optimizer)

    # From here on only what the data or the numbers do can end the run early.
    with exit_on_user_error(RunError, DataError, VideoBackendError):
        return run.train().exit_code


if __name__ == "__main__":
    sys.exit(main())
