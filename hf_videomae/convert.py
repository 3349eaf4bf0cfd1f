"""Checkpoints of the original VideoMAE and VideoMAE V2 repositories -> ours.

The originals save `.pth` files: `{"model": ...}` from pre-training, `{"module": ...}` from fine-tuning under
DeepSpeed, with `module.` (DDP) or `_orig_mod.` (compile) before the names. Nothing is ever unpickled beyond tensors
and an `argparse.Namespace`.
"""

import argparse
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from .configuration_videomae import VideoMAEConfig
from .modeling_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from .ops.cubes import sinusoid_table

logger = logging.get_logger("hf_videomae")

Weights = dict[str, Tensor]
Converted = VideoMAEForPreTraining | VideoMAEForVideoClassification | VideoMAEModel

# Heads of the published sizes by width; 64 channels a head but for huge and giant (and V1's huge decoder).
_ENCODER_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
_DECODER_HEADS = {192: 3, 384: 6, 512: 8, 640: 8}

_TORCH_FILES = (b"PK", b"\x80\x02")  # the zip archive of today, and the bare pickle of releases before 1.6
_WRAPPERS = ("model", "module", "state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.")

_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
}


def load_original_checkpoint(path: str | os.PathLike[str], **config_fields: Any) -> Converted:
    """A checkpoint of the original code as our model, in evaluation mode.

    The architecture is read off the weights: widths and depths from their shapes, heads from the published sizes. What
    no weight tells (frames 16, 224 pixels, normalised targets, LayerNorm eps 1e-6) is as published, or as the training
    arguments in the file say. Every weight of the file is used, or the conversion fails naming it.

    Args:
        path: a `.pth`, `.pt`, `.bin` or `.safetensors` file.
        **config_fields: fields of `VideoMAEConfig`, over what was inferred. Needed for sizes that were never
            published: `num_attention_heads`, `decoder_num_attention_heads`, `image_size`, `num_frames`.

    Returns:
        `VideoMAEForPreTraining` for a pre-trained file (it has a decoder), `VideoMAEForVideoClassification` for one
        with a classifier or an `fc_norm` (without a head, `num_labels=0`: its logits are the pooled features),
        `VideoMAEModel` for an encoder alone.

    Raises:
        ValueError: for a file that is missing, unreadable or not of these repositories, weights that cannot be placed,
            or a size whose heads are not known.
    """
    weights, training = _read(Path(path))
    fields = {**_infer_config(weights, path), **_training_fields(training), **config_fields}
    unknown = sorted(set(config_fields) - set(VideoMAEConfig().to_dict()))
    if unknown:
        raise ValueError(f"VideoMAEConfig has no field {', '.join(unknown)}: see VideoMAEConfig for the names")
    config = VideoMAEConfig(**fields)
    model = _model_class(weights)(config)
    renamed = _rename(weights, config, path)
    _load(model, renamed, path)
    logger.info(f"{path}: {len(weights)} weights read, all used, as {type(model).__name__}")
    return model.eval()


def _model_class(weights: Weights) -> type[Converted]:
    if any(name.startswith("encoder.") for name in weights):
        return VideoMAEForPreTraining
    if "head.weight" in weights or "fc_norm.weight" in weights:
        return VideoMAEForVideoClassification
    return VideoMAEModel


def _read(path: Path) -> tuple[Weights, argparse.Namespace | None]:
    if not path.is_file():
        raise ValueError(f"there is no checkpoint file at {path}: give a .pth or .safetensors file")
    training = None
    if path.suffix == ".safetensors":
        content: Any = _read_safetensors(path)
    else:
        content = _read_pickle(path)
        training = content.get("args") if isinstance(content, dict) else None
        for wrapper in _WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
                content = content[wrapper]
                break
    weights = _without_prefixes(content) if isinstance(content, dict) else {}
    projections = [name for name in weights if name.endswith("patch_embed.proj.weight")]
    if not projections or weights[projections[0]].dim() != 5:
        raise ValueError(
            f"{path} is not a checkpoint of the VideoMAE or VideoMAE V2 repositories: it has no 3-D "
            f"patch_embed.proj.weight "
            f"({_first_names(content)}). A checkpoint of transformers loads with from_pretrained"
        )
    return weights, training if isinstance(training, argparse.Namespace) else None


def _read_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): download it again") from error


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            if file.read(2) not in _TORCH_FILES:
                raise EOFError("it does not begin as a file of torch.save does")
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, IndexError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({reason}). It may be cut short, or hold objects other than "
            f"tensors "
            f"and training arguments, which are never unpickled"
        ) from error


def _without_prefixes(content: dict[str, Any]) -> Weights:
    """Tensors by name, without what DDP, compile and wrappers put before every name."""
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    changed = True
    while changed and weights:
        changed = False
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in weights):
                weights = {name.removeprefix(prefix): value for name, value in weights.items()}
                changed = True
    return weights


def _first_names(content: Any) -> str:
    names = list(content)[:3] if isinstance(content, dict) else [type(content).__name__]
    return f"it begins with {', '.join(map(str, names)) or 'nothing'}"


def _infer_config(weights: Weights, path: Any) -> dict[str, Any]:
    pretrained = "mask_token" in weights
    prefix = "encoder." if pretrained else ""
    width, channels, tubelet, *patch = weights[f"{prefix}patch_embed.proj.weight"].shape
    fields: dict[str, Any] = {
        "num_channels": channels,
        "tubelet_size": tubelet,
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        **_tower(weights, prefix, width, _ENCODER_HEADS, ""),
        "qv_bias": f"{prefix}blocks.0.attn.q_bias" in weights,
        "use_mean_pooling": f"{prefix}norm.weight" not in weights,
        "layer_norm_eps": 1e-6,
        "final_layer_norm_eps": 1e-6,
    }
    if pretrained:
        decoder_width = weights["mask_token"].shape[-1]
        fields |= _tower(weights, "decoder.", decoder_width, _DECODER_HEADS, "decoder_")
    else:
        fields["num_labels"] = weights["head.weight"].shape[0] if "head.weight" in weights else 0
    return fields


def _tower(weights: Weights, prefix: str, width: int, heads: dict[int, int], field: str) -> dict[str, Any]:
    """Width, depth, heads and MLP of the encoder (field "") or of the decoder (field "decoder_")."""
    pattern = re.compile(re.escape(prefix) + r"blocks\.(\d+)\.")
    depth = 1 + max((int(found[1]) for name in weights if (found := pattern.match(name))), default=-1)
    fields = {f"{field}hidden_size": width, f"{field}num_hidden_layers": depth}
    first = weights.get(f"{prefix}blocks.0.mlp.fc1.weight")
    if first is not None:
        fields[f"{field}intermediate_size"] = first.shape[0]
    fields[f"{field}num_attention_heads"] = heads.get(width, width // 64 if width % 64 == 0 else 0)
    return fields


def _training_fields(training: argparse.Namespace | None) -> dict[str, Any]:
    """What the training arguments in the file say of frames, pixels and masks."""
    if training is None:
        return {}
    names = {"num_frames": "num_frames", "input_size": "image_size", "mask_ratio": "mask_ratio"}
    found = {ours: getattr(training, theirs) for theirs, ours in names.items() if hasattr(training, theirs)}
    if getattr(training, "decoder_mask_type", None) == "run_cell":
        found["decoder_mask_type"] = "running_cell"
        found["decoder_mask_ratio"] = getattr(training, "decoder_mask_ratio", 0.5)
    return found


def _rename(weights: Weights, config: VideoMAEConfig, path: Any) -> Weights:
    """All weights under our names; the position tables of some exports are compared and left."""
    renamed: Weights = {}
    unknown = []
    for name, value in weights.items():
        if name.endswith("pos_embed"):
            _compare_positions(name, value, path)
            continue
        placed = _place(name, value)
        if placed is None:
            unknown.append(name)
        else:
            renamed |= placed
    if unknown:
        raise ValueError(
            f"{path} holds weights that a VideoMAE has no place for: {', '.join(sorted(unknown))}. "
            f"It is another model, or a variant (layer scale, cosine attention) that this package does not have"
        )
    return renamed


def _place(name: str, value: Tensor) -> Weights | None:
    """One original weight under our names; None where there is no place for it."""
    fixed = {"mask_token": "mask_token", "encoder_to_decoder.weight": "encoder_to_decoder.weight"}
    if name in fixed:
        return {fixed[name]: value}
    for original, ours in (
        ("head.", "classifier."),
        ("fc_norm.", "fc_norm."),
        ("decoder.norm.", "decoder.norm."),
        ("decoder.head.", "decoder.head."),
    ):
        if name.startswith(original):
            return {ours + name.removeprefix(original): value}
    if name.startswith("decoder.blocks."):
        return _place_block(name.removeprefix("decoder.blocks."), value, "decoder.decoder_layers")
    name = name.removeprefix("encoder.")
    if name.startswith("blocks."):
        return _place_block(name.removeprefix("blocks."), value, "videomae.encoder.layer")
    for original, ours in (
        ("patch_embed.proj.", "videomae.embeddings.patch_embeddings.projection."),
        ("norm.", "videomae.layernorm."),
    ):
        if name.startswith(original):
            return {ours + name.removeprefix(original): value}
    return None


def _place_block(name: str, value: Tensor, stem: str) -> Weights | None:
    number, _, rest = name.partition(".")
    stem = f"{stem}.{number}"
    if rest == "attn.qkv.weight":
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{stem}.attention.attention.{part}.weight": chunk.contiguous() for part, chunk in parts}
    if rest in _BLOCK:
        return {f"{stem}.{_BLOCK[rest]}": value}
    module, _, leaf = rest.rpartition(".")
    return {f"{stem}.{_BLOCK[module]}.{leaf}": value} if module in _BLOCK and leaf in ("weight", "bias") else None


def _compare_positions(name: str, value: Tensor, path: Any) -> None:
    table = sinusoid_table(value.shape[-2], value.shape[-1])
    if value.shape[0] != 1 or not torch.allclose(value[0].float(), table, atol=1e-3):
        raise ValueError(
            f"{path} holds position embeddings {name} that are not VideoMAE's fixed sinusoid (learned ones?): "
            f"converting without them would give other numbers"
        )
    logger.info(f"{path}: {name} is the fixed sinusoid and is not stored")


def _load(model: Converted, weights: Weights, path: Any) -> None:
    if isinstance(model, VideoMAEModel):
        weights = {name.removeprefix("videomae."): value for name, value in weights.items()}
    own = model.state_dict()
    wrong = [
        f"{name} {tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in sorted(own.keys() & weights.keys())
        if own[name].shape != weights[name].shape
    ]
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if wrong or missing or unexpected:
        raise ValueError(
            f"the weights of {path} do not fit the configuration. "
            + (f"Other shapes: {'; '.join(wrong)}. " if wrong else "")
            + (f"Not in the file: {', '.join(missing)}. " if missing else "")
            + (f"Not in the model: {', '.join(unexpected)}. " if unexpected else "")
            + "Check the fields that were given."
        )
    model.load_state_dict(weights)


__all__ = ["load_original_checkpoint"]
