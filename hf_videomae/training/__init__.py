"""Training: recipes, optimizer, and the run under Accelerate. `examples/` shows how the parts go together."""

from .checkpoints import CheckpointError, find_checkpoint, newest_checkpoint
from .errors import RunError, say, user_errors
from .finetuning import (
    FinetuneRecipe,
    FinetuneTask,
    announce_finetuning,
    build_classifier,
    find_stride,
    finetune_settings,
    label_coding,
    layer_decay_scales,
)
from .not_finite import NotFiniteError
from .optim import CosineSchedule, build_optimizer, parameter_groups, scaled_lr
from .outcome import Outcome
from .preparation import Loader, Measured, Task, Validation, build_accelerator, resume_point
from .pretraining import (
    PretrainRecipe,
    PretrainTask,
    announce,
    build_pretraining_model,
    clip_settings,
)
from .recipes import RecipeError, RunRecipe, parse_recipe, setting
from .run import Run
from .validation import SplitValidation

__all__ = [
    "CheckpointError",
    "CosineSchedule",
    "FinetuneRecipe",
    "FinetuneTask",
    "Loader",
    "Measured",
    "NotFiniteError",
    "Outcome",
    "PretrainRecipe",
    "PretrainTask",
    "RecipeError",
    "Run",
    "RunError",
    "RunRecipe",
    "SplitValidation",
    "Task",
    "Validation",
    "announce",
    "announce_finetuning",
    "build_accelerator",
    "build_classifier",
    "build_optimizer",
    "build_pretraining_model",
    "clip_settings",
    "find_checkpoint",
    "find_stride",
    "finetune_settings",
    "label_coding",
    "layer_decay_scales",
    "newest_checkpoint",
    "parameter_groups",
    "parse_recipe",
    "resume_point",
    "say",
    "scaled_lr",
    "setting",
    "user_errors",
]
