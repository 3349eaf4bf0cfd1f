"""Fine-tune a VideoMAE on labeled videos, as the paper does.

    python examples/finetune.py --model outputs/demo                  # from a pre-trained checkpoint, built-in data
    python examples/finetune.py --model tiny                          # from scratch
    python examples/finetune.py --output_dir outputs/mine --resume    # continues exactly where it stopped
    accelerate launch examples/finetune.py --model MCG-NJU/videomae-base --dataset DIR --epochs 50 --test_split test

Labels come from the class folders of the dataset, or from its index.csv (path,label). Settings come from the
defaults, the recipe file and the flags; later ones win. With --test_split the model is validated after the last step
(with --eval_every N every N steps as well), and the saved model is tested by the paper's protocol. Ctrl-C and SIGTERM
save a checkpoint and exit.
"""

import sys
from pathlib import Path
from typing import Any

from hf_videomae.data import DataError, has_columns, open_mixture, open_source, source_notes
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
    build_train_loader,
    exit_on_user_error,
    layer_decay_scales,
    log_finetune_summary,
    log_main,
    parse_recipe,
    resolve_frame_stride,
    resolve_resume_checkpoint,
)
from hf_videomae.video.decoding import VideoBackendError


def main(arguments: list[str] | None = None) -> int:
    """Fine-tune; return the exit code: 0, or 128 + the signal that stopped the run."""
    recipe = parse_recipe(FinetuneRecipe, arguments, description=__doc__, folder=Path(__file__).parent / "recipes")

    # Whatever is wrong shows here, in one line, before anything is written.
    with exit_on_user_error():
        accelerator = build_accelerator(recipe)
        resume = resolve_resume_checkpoint(recipe)
        publisher = build_publisher(recipe, resume=resume)
        source_options: dict[str, Any] = {"label_kind": recipe.problem_type, "cache_dir": recipe.cache_dir}
        source = open_mixture(
            recipe.dataset,
            weights=recipe.dataset_weights,
            split=recipe.split,
            require_labels=True,
            **source_options,
            **recipe.columns,
        )
        classes = source.class_names
        model = build_classifier(recipe, resume, class_names=classes)
        stride = resolve_frame_stride(recipe, resume)
        clips = build_finetune_clip_config(recipe, model.config, class_names=classes, stride=stride, source=source)
        log_finetune_summary(recipe, model=model, source=source, settings=clips, processes=accelerator.num_processes)
        labels = build_label_encoder(recipe, classes)
        loader = build_train_loader(recipe, source, clips, accelerator=accelerator, labels=labels)
        task = FinetuneTask(recipe, model=model, source=source, stride=stride, resume=resume)
        validator = None
        if recipe.test_split is not None:
            if any(recipe.columns.values()) and has_columns(recipe.test_dataset_name):
                source_options |= recipe.columns
            test_source = open_source(
                recipe.test_dataset_name, split=recipe.test_split, require_labels=True, **source_options
            )
            for note in source_notes(test_source):
                log_main(f"note: test videos: {note}")
            validator = SplitValidator(recipe, task=task, source=test_source, accelerator=accelerator)
        trainer = Trainer(
            recipe,
            accelerator=accelerator,
            model=model,
            task=task,
            loader=loader,
            resume=resume,
            lr_scale=layer_decay_scales(model, recipe.layer_decay),
            validator=validator,
            publisher=publisher,
        )
        task.attach_ema(trainer.optimizer)
        trainer.setup()

    # From here on only the data and the numbers can end the run early.
    with exit_on_user_error(RunError, DataError, VideoBackendError):
        return trainer.train().exit_code


if __name__ == "__main__":
    sys.exit(main())
