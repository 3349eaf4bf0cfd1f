"""Train a model: recipes, tasks, and the trainer under Accelerate. `examples/` shows how the parts go together."""

from ..checkpoint_dir import CheckpointError, find_checkpoint, latest_checkpoint
from ..console import exit_on_user_error, log_main
from ..errors import RunError
from .distributed import build_accelerator
from .finetune_model import build_classifier
from .finetune_recipe import FinetuneRecipe
from .finetune_task import (
    FinetuneTask,
    build_finetune_clip_config,
    build_label_encoder,
    log_finetune_summary,
    resolve_frame_stride,
)
from .nonfinite import NonFiniteError
from .optim import CosineSchedule, build_optimizer, build_param_groups, layer_decay_scales, scale_lr
from .pretrain_recipe import PretrainRecipe
from .pretrain_task import PretrainTask, build_pretrain_clip_config, build_pretraining_model, log_pretrain_summary
from .recipe import RecipeError, RunRecipe, option
from .recipe_cli import parse_recipe
from .resume import resolve_resume_checkpoint
from .run_setup import build_publisher, build_train_loader
from .task import Task, TrainLoader, ValidationResult, Validator
from .trainer import Trainer, TrainResult
from .validation import SplitValidator

__all__ = [
    "CheckpointError",
    "CosineSchedule",
    "FinetuneRecipe",
    "FinetuneTask",
    "NonFiniteError",
    "PretrainRecipe",
    "PretrainTask",
    "RecipeError",
    "RunError",
    "RunRecipe",
    "SplitValidator",
    "Task",
    "TrainLoader",
    "TrainResult",
    "Trainer",
    "ValidationResult",
    "Validator",
    "build_accelerator",
    "build_classifier",
    "build_finetune_clip_config",
    "build_label_encoder",
    "build_optimizer",
    "build_param_groups",
    "build_pretrain_clip_config",
    "build_pretraining_model",
    "build_publisher",
    "build_train_loader",
    "exit_on_user_error",
    "find_checkpoint",
    "latest_checkpoint",
    "layer_decay_scales",
    "log_finetune_summary",
    "log_main",
    "log_pretrain_summary",
    "option",
    "parse_recipe",
    "resolve_frame_stride",
    "resolve_resume_checkpoint",
    "scale_lr",
]
