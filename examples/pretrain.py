"""Pre-train a VideoMAE: mask most cubes of each clip and reconstruct them.

    python examples/pretrain.py                                       # tiny model, built-in data, minutes on a CPU
    python examples/pretrain.py --recipe tiny --output_dir outputs/tiny
    python examples/pretrain.py --output_dir outputs/tiny --resume    # continues exactly where it stopped
    accelerate launch examples/pretrain.py --recipe v1-ucf101-base --dataset DIR

Settings come from the defaults, the recipe file and the flags; later ones win. Ctrl-C and SIGTERM save a checkpoint
and exit.
"""

import sys
from pathlib import Path

from hf_videomae.data import DataError, open_mixture
from hf_videomae.training import (
    PretrainRecipe,
    PretrainTask,
    RunError,
    Trainer,
    build_accelerator,
    build_pretrain_clip_config,
    build_pretraining_model,
    build_publisher,
    build_train_loader,
    exit_on_user_error,
    log_pretrain_summary,
    parse_recipe,
    resolve_resume_checkpoint,
)
from hf_videomae.video.decoding import VideoBackendError


def main(arguments: list[str] | None = None) -> int:
    """Pre-train; return the exit code: 0, or 128 + the signal that stopped the run."""
    recipe = parse_recipe(PretrainRecipe, arguments, description=__doc__, folder=Path(__file__).parent / "recipes")

    # Whatever is wrong shows here, in one line, before anything is written.
    with exit_on_user_error():
        accelerator = build_accelerator(recipe)
        resume = resolve_resume_checkpoint(recipe)
        publisher = build_publisher(recipe, resume=resume)
        source = open_mixture(
            recipe.dataset,
            weights=recipe.dataset_weights,
            split=recipe.split,
            cache_dir=recipe.cache_dir,
            **recipe.columns,
        )
        model = build_pretraining_model(recipe, resume)
        log_pretrain_summary(recipe, model=model, source=source, processes=accelerator.num_processes)
        clips = build_pretrain_clip_config(recipe, model.config, source)
        trainer = Trainer(
            recipe,
            accelerator=accelerator,
            model=model,
            task=PretrainTask(recipe, model=model, source=source),
            loader=build_train_loader(recipe, source, clips, accelerator=accelerator),
            resume=resume,
            publisher=publisher,
        )
        trainer.setup()

    # From here on only the data and the numbers can end the run early.
    with exit_on_user_error(RunError, DataError, VideoBackendError):
        return trainer.train().exit_code


if __name__ == "__main__":
    sys.exit(main())
