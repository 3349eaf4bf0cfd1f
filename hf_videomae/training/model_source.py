"""Build the model that `--model` names: a preset, a local checkpoint, or one of the Hub, which is downloaded."""

from pathlib import Path
from typing import Any

import torch

from ..configuration_videomae import PRESETS, VideoMAEConfig
from ..errors import RunError
from ..hub.download import download_model
from ..run_files import read_json
from .recipe import RunRecipe


def build_model(
    head: Any, recipe: RunRecipe, resume: Path | None = None, *, fields: dict[str, Any], **options: Any
) -> Any:
    """Return the model of a recipe: a preset with new weights, a checkpoint, or the model of the resumed run.

    Args:
        head: the class of the model.
        recipe: settings of the run.
        resume: from `resolve_resume_checkpoint`.
        fields: fields of `VideoMAEConfig` that differ from the preset or the checkpoint.
        **options: arguments of `from_pretrained` for a checkpoint that the run starts from.

    Raises:
        RunError: for a name that is neither a preset nor a checkpoint.
        ValueError: for a checkpoint of another model, or settings that do not fit it.
    """
    if resume is not None:
        model = head.from_pretrained(str(resume), dtype=torch.float32, **fields)
    elif recipe.model in PRESETS:
        model = head(VideoMAEConfig.from_preset(recipe.model, **fields))
    else:
        model = head.from_pretrained(ensure_model(recipe.model), dtype=torch.float32, **options, **fields)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def ensure_model(name: str) -> str:
    """Validate `--model`, download it if it is on the Hub, and return it.

    Raises:
        RunError: for anything else.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise RunError(
                f"--model {name}: the directory holds no config.json, so it is not a checkpoint; give one that "
                f"save_pretrained wrote"
            )
        remedy = "give a directory that save_pretrained wrote"
        model_type = read_json(folder / "config.json", remedy=remedy, kind=RunError).get("model_type")
        if model_type != "videomae":
            raise RunError(f"--model {name}: this is a checkpoint of another model ({model_type}), not of VideoMAE")
    elif "/" not in name or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise RunError(f"--model {name}: neither a preset ({', '.join(PRESETS)}) nor a directory nor org/name")
    else:
        download_model(name)
    return name
