"""Build the model to fine-tune: a head for the classes of the data, frozen layers, LoRA; save its trained weights."""

import copy
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..configuration_videomae import PRESETS, VideoMAEConfig
from ..console import log_main
from ..errors import RunError
from ..ops.class_names import find_class_rows
from .finetune_recipe import FinetuneRecipe
from .model_source import ensure_model

if TYPE_CHECKING:
    from ..modeling_videomae import VideoMAEForVideoClassification

TRAINED_WEIGHTS_FILE = "trained.safetensors"
"""Holds the trained weights of a checkpoint whose `model.safetensors` holds averaged or merged ones."""

_LORA_TARGETS = ["query", "value"]
_HEAD_MODULES = ["fc_norm", "classifier"]


def build_classifier(recipe: FinetuneRecipe, resume: Path | None = None, *, class_names: list[str] | None) -> Any:
    """Return the classifier of the recipe for the classes of the dataset.

    It is a preset with new weights, a pre-trained or fine-tuned checkpoint, or the model of the resumed run. A
    checkpoint that was trained on the same classes keeps its head; otherwise it gets a new one, with a note.

    Args:
        recipe: settings of the run.
        resume: from `resolve_resume_checkpoint`.
        class_names: classes of the dataset; None for regression.

    Returns:
        a VideoMAEForVideoClassification, inside a `peft.PeftModel` if the recipe asks for LoRA.

    Raises:
        RunError: for a name that is neither a preset nor a checkpoint, or classes that do not fit.
        ValueError: for a checkpoint of another model, or settings that do not fit it.
    """
    model = _load_classifier(recipe, resume, class_names=_check_class_names(recipe, class_names))
    model.config.problem_type = recipe.problem_type
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if recipe.freeze is not None:
        freeze_layers(model, recipe.freeze)
    if recipe.lora_rank is not None:
        model = _with_lora(model, rank=recipe.lora_rank, alpha=recipe.lora_alpha)
    if resume is not None and (resume / TRAINED_WEIGHTS_FILE).exists():
        _load_trainable_parameters(model, load_trainable(resume, "weights"))
    return model.train()


def _check_class_names(recipe: FinetuneRecipe, class_names: list[str] | None) -> list[str]:
    if recipe.problem_type == "regression":
        return ["value"]
    if class_names is None or len(class_names) < (2 if recipe.problem_type.startswith("single") else 1):
        labels = "no labels" if class_names is None else f"only the class {class_names[0]!r}"
        raise RunError(f"{recipe.dataset_name} has {labels}; a classifier needs videos of two classes or more")
    return class_names


def _load_classifier(recipe: FinetuneRecipe, resume: Path | None, *, class_names: list[str]) -> Any:
    from ..modeling_videomae import VideoMAEForVideoClassification

    fields = recipe.config_fields()
    if resume is not None and recipe.lora_rank is None:
        return VideoMAEForVideoClassification.from_pretrained(str(resume), dtype=torch.float32, **fields)
    if recipe.model in PRESETS:
        if recipe.lora_rank is not None:
            raise RunError(f"--lora_rank: LoRA adapts trained weights, --model {recipe.model} has none yet")
        fields["id2label"] = dict(enumerate(class_names))
        config = VideoMAEConfig.from_preset(recipe.model, task="classification", **fields)
        return VideoMAEForVideoClassification(config)
    source, options = ensure_model(recipe.model), {"dtype": torch.float32, **fields}
    model, info = VideoMAEForVideoClassification.from_pretrained(source, output_loading_info=True, **options)
    trained = None
    if not any(key.startswith("classifier.") for key in info["missing_keys"]):
        trained = [model.config.id2label[number] for number in range(model.config.num_labels)]
    if _keep_head(recipe, model, trained=trained, class_names=class_names):
        return model
    if model.fc_norm is None:
        log_main(f"note: {source} reads only token 0; the new head gets the mean of all tokens, as in the paper")
        model = VideoMAEForVideoClassification.from_pretrained(source, use_mean_pooling=True, **options)
    _replace_head(model, class_names)
    return model


def _keep_head(recipe: FinetuneRecipe, model: Any, *, trained: list[str] | None, class_names: list[str]) -> bool:
    """Return whether a checkpoint keeps its head: all of it, or the rows of the classes of the data (`--head pick`).

    `trained` are the classes of its classifier; None: it has none. A note says if the data has others.
    """
    if recipe.head == "keep":
        unknown = [name for name in class_names if name not in (trained or ())]
        if unknown:
            has = "no classifier" if trained is None else f"{len(trained)} classes, {trained[0]!r} and so on"
            raise RunError(
                f"--head keep: {recipe.model} has {has}, and none is {unknown[0]!r} of the dataset "
                f"({len(unknown)} such classes); rename them, or leave --head out for a new head"
            )
        return True
    if recipe.head == "pick":
        _pick_head(model, class_names, trained, owner=recipe.model)
        return True
    if trained is None:
        return False
    if recipe.head == "auto" and trained == class_names and model.config.problem_type in (None, recipe.problem_type):
        return True
    if recipe.head == "auto":
        log_main(
            f"note: {recipe.model} was trained on {len(trained)} classes, the dataset has {len(class_names)} "
            f"(others, or in another order): it gets a new head (--head keep keeps the old one, --head pick keeps the "
            f"rows of these classes)"
        )
    return False


def _pick_head(model: Any, class_names: list[str], trained: list[str] | None, *, owner: str) -> None:
    from ..convert.class_selection import select_classifier_rows

    if trained is None:
        raise RunError(f"--head pick: {owner} has no classifier to pick from; leave --head out for a new one")
    try:
        rows = find_class_rows(class_names, trained, owner=owner)
    except ValueError as error:
        raise RunError(f"--head pick: {error}; or leave --head out for a new head") from None
    select_classifier_rows(model, rows, dict(enumerate(class_names)))
    log_main(f"note: {len(rows)} of the {len(trained)} rows of {owner}'s classifier are picked by name")


def _replace_head(model: "VideoMAEForVideoClassification", class_names: list[str]) -> None:
    model.num_labels = len(class_names)
    model.config.id2label = dict(enumerate(class_names))
    model.classifier = nn.Linear(model.config.hidden_size, len(class_names))
    model._init_weights(model.classifier)


# What is trained.


def freeze_layers(model: "VideoMAEForVideoClassification", what: str) -> None:
    """Exclude the cube embedding and the first layers from training.

    Args:
        model: `requires_grad` of its parameters is changed.
        what: number of layers, or `encoder` for all of it, so that only the head is trained.

    Raises:
        RunError: if the model has fewer layers.
    """
    if what == "encoder":
        model.videomae.requires_grad_(False)
        return
    layers = model.videomae.encoder.layer
    if int(what) > len(layers):
        raise RunError(f"--freeze {what}: the encoder has {len(layers)} layers; give at most that, or encoder")
    if int(what):
        model.videomae.embeddings.requires_grad_(False)
        layers[: int(what)].requires_grad_(False)


def _with_lora(model: "VideoMAEForVideoClassification", *, rank: int, alpha: float) -> Any:
    if importlib.util.find_spec("peft") is None:
        raise RunError("--lora_rank needs peft, which is not installed; pip install 'hf-videomae[lora]'")
    import peft

    head = _HEAD_MODULES if model.fc_norm is not None else _HEAD_MODULES[1:]
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=_LORA_TARGETS, modules_to_save=head)
    return peft.get_peft_model(model, settings)


def merge_lora(model: Any) -> Any:
    """Return a copy of a model with its LoRA adapters added to the weights; any other model is returned itself."""
    if not hasattr(model, "merge_and_unload"):
        return model
    return copy.deepcopy(model).merge_and_unload()


def trainable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that require gradients, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def save_trainable(folder: Path, **groups: dict[str, Tensor]) -> None:
    """Save the trained parameters for a resume: groups such as current and averaged, as GROUP/NAME."""
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous()
        for group, parameters in groups.items()
        for name, value in parameters.items()
    }
    save_file(tensors, folder / TRAINED_WEIGHTS_FILE)


def load_trainable(folder: Path, group: str) -> dict[str, Tensor]:
    """Read one group that `save_trainable` wrote, by name."""
    tensors = load_file(folder / TRAINED_WEIGHTS_FILE)
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{group}/")}


@torch.no_grad()
def _load_trainable_parameters(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    parameters = trainable_parameters(model)
    if tensors.keys() != parameters.keys():
        different = sorted(tensors.keys() ^ parameters.keys())
        raise RunError(
            f"the checkpoint trained other weights: {different[0]} and {len(different) - 1} more; keep --freeze as it "
            f"was"
        )
    for name, value in tensors.items():
        parameters[name].copy_(value)
