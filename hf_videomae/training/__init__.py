"""Training: recipes, optimizer, and the run under Accelerate. `examples/` shows how the parts go together."""

from ..checkpoint_dir import CheckpointError, find_checkpoint, latest_checkpoint
from ..console import exit_on_user_error, log_main
from ..errors import RunError
from .finetune_task import (
    FinetuneRecipe,
    FinetuneTask,
    build_classifier,
    build_finetune_clip_config,
    build_label_encoder,
    layer_decay_scales,
    log_finetune_summary,
    resolve_frame_stride,
)
from .nonfinite import NonFiniteError
from .optim import CosineSchedule, build_optimizer, build_param_groups, scale_lr
from .pretrain_task import (
    PretrainRecipe,
    PretrainTask,
    build_pretrain_clip_config,
    build_pretraining_model,
    log_pretrain_summary,
)
from .recipe import RecipeError, RunRecipe, option, parse_recipe
from .run_publisher import build_publisher
from .run_setup import (
    Task,
    TrainLoader,
    ValidationResult,
    Validator,
    build_accelerator,
    resolve_resume_checkpoint,
)
from .train_result import TrainResult
from .trainer import Trainer
from .validation import SplitValidator

__all__ = [
    "CheckpointError",
    "CosineSchedule",
    "FinetuneRecipe",
    "FinetuneTask",
    "TrainLoader",
    "ValidationResult",
    "NonFiniteError",
    "TrainResult",
    "PretrainRecipe",
    "PretrainTask",
    "RecipeError",
    "Trainer",
    "RunError",
    "RunRecipe",
    "SplitValidator",
    "Task",
    "Validator",
    "log_pretrain_summary",
    "log_finetune_summary",
    "build_accelerator",
    "build_classifier",
    "build_optimizer",
    "build_pretraining_model",
    "build_publisher",
    "build_pretrain_clip_config",
    "find_checkpoint",
    "resolve_frame_stride",
    "build_finetune_clip_config",
    "build_label_encoder",
    "layer_decay_scales",
    "latest_checkpoint",
    "build_param_groups",
    "parse_recipe",
    "resolve_resume_checkpoint",
    "log_main",
    "scale_lr",
    "option",
    "exit_on_user_error",
]
