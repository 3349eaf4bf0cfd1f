"""Convert checkpoints of the original VideoMAE and VideoMAE V2 repositories.

The originals save `.pth` files: `{"model": ...}` from pre-training, `{"module": ...}` from fine-tuning under
DeepSpeed, with `module.` (DDP) or `_orig_mod.` (compile) before the names. V2's Hub repositories hold an encoder with
its `fc_norm` under the same names, and describe it in a `config.json` of their own (`model_config`).
"""

import argparse
import re
from typing import Any

import torch
from torch import Tensor

from ..configuration_videomae import VideoMAEConfig
from ..modeling_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from ..ops.patches import sinusoid_table
from .checkpoint_files import SourceCheckpoint, StateDict, count_layers, describe_first_keys
from .key_report import FIXED_POSITIONS_REASON, ConversionReport, WeightMapping, begin_report, load_full_state_dict

ConvertedModel = VideoMAEForPreTraining | VideoMAEForVideoClassification | VideoMAEModel

# Heads of the published sizes by width: 64 channels per head except for huge and giant (and V1's huge decoder).
ENCODER_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
DECODER_HEADS = {192: 3, 384: 6, 512: 8, 640: 8}

_PROJECTION = "patch_embed.proj.weight"
_STOCK_PROJECTION = "embeddings.patch_embeddings.projection.weight"
# V2's `model_config` -> ours: what the weights do not tell. Widths and depths are inferred from the weights.
_V2_CONFIG_KEYS = {
    "img_size": "image_size",
    "num_frames": "num_frames",
    "num_heads": "num_attention_heads",
    "layer_norm_eps": "layer_norm_eps",
    "drop_path_rate": "drop_path_rate",
    "head_drop_rate": "head_dropout",
}
# Options that this package does not support, with the value that means "not used".
_V2_UNSUPPORTED = {"init_values": 0, "cos_attn": False, "use_learnable_pos_emb": False, "qk_scale": None}

_MAX_KEYS_SHOWN = 5

_BLOCK_KEYS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
}
_PREFIX_MAP = (
    ("head.", "classifier."),
    ("fc_norm.", "fc_norm."),
    ("decoder.norm.", "decoder.norm."),
    ("decoder.head.", "decoder.head."),
    ("encoder_to_decoder.", "encoder_to_decoder."),
    ("patch_embed.proj.", "videomae.embeddings.patch_embeddings.projection."),
    ("norm.", "videomae.layernorm."),
)


def is_original(weights: StateDict) -> bool:
    """Return whether these are weights of the original VideoMAE code: 3-D patches under its names."""
    return any(name.endswith(_PROJECTION) and value.dim() == 5 for name, value in weights.items())


def convert_original(source: SourceCheckpoint, fields: dict[str, Any]) -> tuple[ConvertedModel, ConversionReport]:
    """Return a checkpoint of the original code as our model in evaluation mode, with a report of every key.

    Args:
        source: the checkpoint.
        fields: of `VideoMAEConfig`, override what was inferred.

    Raises:
        ValueError: for a file of another model, weights that have no place in ours, or a size whose number of heads is
            not known.
    """
    if not is_original(source.weights):
        has_stock_names = any(name.endswith(_STOCK_PROJECTION) for name in source.weights)
        neither = "" if has_stock_names else f", nor the {_STOCK_PROJECTION} of transformers"
        raise ValueError(
            f"{source.name} is not a checkpoint of the VideoMAE or VideoMAE V2 repositories: it has no 3-D "
            f"{_PROJECTION}{neither} ({describe_first_keys(source.weights)}). A checkpoint of transformers loads with "
            f"from_pretrained"
        )
    check_config_fields(fields)
    _check_missing_weights(source)
    report = begin_report(source, _describe_kind(source))
    inferred = infer_config(source.weights)
    stated = {**_v2_fields(source, report), **_training_fields(source.training)}
    _record_assumptions(report, inferred, stated, fields)
    config = VideoMAEConfig(**check_num_heads({**inferred, **stated, **fields}, source=source.name))
    weight_mapping = _map_weights(source)
    has_head = "head.weight" in source.weights or "fc_norm.weight" in source.weights
    model = choose_model_class(has_decoder=_is_pretrained(source.weights), has_head=has_head)(config)
    weights = weight_mapping.weights
    if isinstance(model, VideoMAEModel):
        weights = {name.removeprefix("videomae."): value for name, value in weights.items()}
    load_full_state_dict(model, weights, source=source.name)
    report.model, report.keys = type(model).__name__, weight_mapping.key_mappings
    return model.eval(), report


def check_config_fields(fields: dict[str, Any]) -> None:
    """Raise ValueError for a field that the configuration does not have, or that a conversion cannot change."""
    if "num_labels" in fields:
        raise ValueError(
            f"num_labels {fields['num_labels']} has no effect in a conversion: the classes are those of the weights. "
            f"Leave it out; keep some of them with --head_indices, or fine-tune for others"
        )
    unknown = sorted(set(fields) - set(VideoMAEConfig().to_dict()))
    if unknown:
        raise ValueError(f"VideoMAEConfig has no field {', '.join(unknown)}: see VideoMAEConfig for the names")


def _check_missing_weights(source: SourceCheckpoint) -> None:
    """Check that a checkpoint of the original code holds all weights of its model.

    Raises:
        ValueError: with the names of missing weights, as the file would have them.
    """
    expected = _expected_keys(source.weights)
    missing = [name for name in expected if name not in source.weights]
    if missing:
        kind = "a pre-trained model" if _is_pretrained(source.weights) else "an encoder"
        more = f" and {len(missing) - _MAX_KEYS_SHOWN} more" if len(missing) > _MAX_KEYS_SHOWN else ""
        raise ValueError(
            f"{source.name} lacks {', '.join(missing[:_MAX_KEYS_SHOWN])}{more} of the {len(expected)} weights of "
            f"{kind} of {_describe_depth(source.weights)}: it was cut off or saved in part; take the whole file"
        )


def _expected_keys(weights: StateDict) -> list[str]:
    """Return the names that the original code gives the weights of such a model."""
    pretrained = _is_pretrained(weights)
    prefix = "encoder." if pretrained else ""
    biased = any(name.endswith((".attn.q_bias", ".attn.v_bias")) for name in weights)
    inner = [f"{module}.{leaf}" for module in _BLOCK_KEYS if "_bias" not in module for leaf in ("weight", "bias")]
    inner += ["attn.qkv.weight", *(["attn.q_bias", "attn.v_bias"] if biased else [])]
    expected = [f"{prefix}patch_embed.proj.{leaf}" for leaf in ("weight", "bias")]
    towers = [prefix, "decoder."] if pretrained else [prefix]
    expected += [
        f"{tower}blocks.{n}.{name}" for tower in towers for n in range(_num_layers(weights, tower)) for name in inner
    ]
    if pretrained:
        expected += ["mask_token", "encoder_to_decoder.weight", "encoder.norm.weight", "encoder.norm.bias"]
        expected += [f"decoder.{module}.{leaf}" for module in ("norm", "head") for leaf in ("weight", "bias")]
    for module in ("norm", "fc_norm", "head"):
        pair = [f"{module}.weight", f"{module}.bias"]
        expected += pair if any(name in weights for name in pair) else []
    return expected


def _describe_depth(weights: StateDict) -> str:
    pretrained = _is_pretrained(weights)
    layers = f"{_num_layers(weights, 'encoder.' if pretrained else '')} layers"
    return f"{layers} and {_num_layers(weights, 'decoder.')} of the decoder" if pretrained else layers


def _num_layers(weights: StateDict, prefix: str) -> int:
    return count_layers(weights, re.escape(prefix) + r"blocks\.(\d+)\.")


def _is_pretrained(weights: StateDict) -> bool:
    return f"encoder.{_PROJECTION}" in weights or (_PROJECTION not in weights and "mask_token" in weights)


def _describe_kind(source: SourceCheckpoint) -> str:
    if "model_config" in source.config:
        return "a VideoMAE V2 repository of the Hub (its code is not used)"
    pretrained = _is_pretrained(source.weights)
    return f"{'pre-trained' if pretrained else 'fine-tuned or encoder'} weights of the original VideoMAE or V2 code"


def choose_model_class(*, has_decoder: bool, has_head: bool) -> type[ConvertedModel]:
    """Return the class of our model with these parts; an `fc_norm` counts as a head."""
    if has_decoder:
        return VideoMAEForPreTraining
    return VideoMAEForVideoClassification if has_head else VideoMAEModel


def infer_config(weights: StateDict) -> dict[str, Any]:
    """Return the configuration that the weights tell, and what is as published where they do not tell it."""
    pretrained = _is_pretrained(weights)
    prefix = "encoder." if pretrained else ""
    width, channels, tubelet, *patch = weights[f"{prefix}{_PROJECTION}"].shape
    fields: dict[str, Any] = {
        "num_channels": channels,
        "tubelet_size": tubelet,
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        **infer_transformer_fields(weights, prefix, width, ENCODER_HEADS, ""),
        "qv_bias": f"{prefix}blocks.0.attn.q_bias" in weights,
        "use_mean_pooling": f"{prefix}norm.weight" not in weights,
        "layer_norm_eps": 1e-6,
        "final_layer_norm_eps": 1e-6,
    }
    if pretrained:
        decoder_width = weights["mask_token"].shape[-1]
        fields |= infer_transformer_fields(weights, "decoder.", decoder_width, DECODER_HEADS, "decoder_")
    else:
        fields["num_labels"] = weights["head.weight"].shape[0] if "head.weight" in weights else 0
    return fields


def infer_transformer_fields(
    weights: StateDict, prefix: str, width: int, heads: dict[int, int], field: str
) -> dict[str, Any]:
    """Return width, depth, heads and MLP size of the encoder (field "") or the decoder (field "decoder_")."""
    fields = {f"{field}hidden_size": width, f"{field}num_hidden_layers": _num_layers(weights, prefix)}
    first = weights.get(f"{prefix}blocks.0.mlp.fc1.weight")
    if first is not None:
        fields[f"{field}intermediate_size"] = first.shape[0]
    fields[f"{field}num_attention_heads"] = heads.get(width, width // 64 if width % 64 == 0 else 0)
    return fields


def check_num_heads(fields: dict[str, Any], *, source: str) -> dict[str, Any]:
    """Return the fields, if they say how many heads there are.

    Raises:
        ValueError: if no published size tells the number of heads for a width.
    """
    for prefix in ("", "decoder_"):
        if fields.get(f"{prefix}num_attention_heads") == 0:
            raise ValueError(
                f"{source} is {fields[f'{prefix}hidden_size']} wide{' in the decoder' if prefix else ''}, which is "
                f"not a published size, and the weights do not tell its heads: give {prefix}num_attention_heads"
            )
    return fields


def _v2_fields(source: SourceCheckpoint, report: ConversionReport) -> dict[str, Any]:
    """Return what the `config.json` of a V2 repository says; all of it is optional."""
    stated = source.config.get("model_config")
    if not isinstance(stated, dict):
        return {}
    used = [name for name, unused in _V2_UNSUPPORTED.items() if (stated.get(name) or unused) != unused]
    if used:
        raise ValueError(
            f"{source.name} says {', '.join(f'{name}={stated[name]!r}' for name in used)} in its config.json: a "
            f"variant that this package does not support"
        )
    fields = {ours: stated[theirs] for theirs, ours in _V2_CONFIG_KEYS.items() if stated.get(theirs) is not None}
    if "layer_norm_eps" in fields:
        fields["final_layer_norm_eps"] = fields["layer_norm_eps"]
    report.assumed += [
        f"{name} is not in config.json" for name in _V2_CONFIG_KEYS.keys() - stated.keys() - {"head_drop_rate"}
    ]
    return fields


def _training_fields(training: argparse.Namespace | None) -> dict[str, Any]:
    """Return what the training arguments in the file say about frames, pixels and masks."""
    if training is None:
        return {}
    known = vars(training)
    names = {"num_frames": "num_frames", "input_size": "image_size", "mask_ratio": "mask_ratio"}
    fields = {ours: known[theirs] for theirs, ours in names.items() if known.get(theirs) is not None}
    if isinstance(known.get("num_segments"), int) and "num_frames" in fields:
        fields["num_frames"] *= known["num_segments"]  # the originals' `all_frames`
    # If V2 decodes everything masked, it writes decoder_mask_type run_cell and decoder_mask_ratio 0.
    ratio = known.get("decoder_mask_ratio", 0.5)
    if known.get("decoder_mask_type") == "run_cell" and ratio:
        fields |= {"decoder_mask_type": "running_cell", "decoder_mask_ratio": ratio}
    return fields


def _record_assumptions(
    report: ConversionReport, inferred: dict[str, Any], stated: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Record in the report what neither the weights nor anybody said, and was taken as published."""
    known = stated | fields
    default = VideoMAEConfig()
    for name in ("image_size", "num_frames"):
        if name not in known:
            report.assumed.append(f"{name} {getattr(default, name)}, as published: the weights do not tell it")
    for prefix in ("", "decoder_"):
        name = f"{prefix}num_attention_heads"
        if name in inferred and name not in known:
            width = inferred[f"{prefix}hidden_size"]
            report.assumed.append(
                f"{name} {inferred[name]}, as published for a width of {width}: the weights do not tell it"
            )
    if "layer_norm_eps" not in known:
        report.assumed.append("layer_norm_eps 1e-06, as in the original code")


def _map_weights(source: SourceCheckpoint) -> WeightMapping:
    """Return all weights under our names; position tables of some exports are verified and dropped."""
    weight_mapping, unknown = WeightMapping(), []
    for name, value in source.weights.items():
        if name.endswith("pos_embed"):
            _check_fixed_positions(name, value, source.name)
            weight_mapping.skip(name, FIXED_POSITIONS_REASON)
            continue
        mapped = map_weight(name, value)
        if mapped is None:
            unknown.append(name)
        else:
            weight_mapping.assign(name, mapped)
    if unknown:
        raise ValueError(
            f"{source.name} holds weights that a VideoMAE has no place for: {', '.join(sorted(unknown))}. "
            f"It is another model, or a variant (layer scale, cosine attention) that this package does not support"
        )
    return weight_mapping


def map_weight(name: str, value: Tensor) -> StateDict | None:
    """Return one original weight under our names; None if it has no place in our models."""
    if name == "mask_token":
        return {name: value}
    if name.startswith("decoder.blocks."):
        return _map_block_weight(name.removeprefix("decoder.blocks."), value, "decoder.decoder_layers")
    name = name.removeprefix("encoder.")
    if name.startswith("blocks."):
        return _map_block_weight(name.removeprefix("blocks."), value, "videomae.encoder.layer")
    for original, ours in _PREFIX_MAP:
        if name.startswith(original):
            return {ours + name.removeprefix(original): value}
    return None


def _map_block_weight(name: str, value: Tensor, stem: str) -> StateDict | None:
    number, _, rest = name.partition(".")
    stem = f"{stem}.{number}"
    if rest == "attn.qkv.weight":
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{stem}.attention.attention.{part}.weight": chunk.contiguous() for part, chunk in parts}
    if rest in _BLOCK_KEYS:
        return {f"{stem}.{_BLOCK_KEYS[rest]}": value}
    module, _, leaf = rest.rpartition(".")
    is_known = module in _BLOCK_KEYS and leaf in ("weight", "bias")
    return {f"{stem}.{_BLOCK_KEYS[module]}.{leaf}": value} if is_known else None


def _check_fixed_positions(name: str, value: Tensor, source: str) -> None:
    table = sinusoid_table(value.shape[-2], value.shape[-1])
    if value.shape[0] != 1 or not torch.allclose(value[0].float(), table, atol=1e-3):
        raise ValueError(
            f"{source} holds position embeddings {name} that are not VideoMAE's fixed sinusoid (learned ones?): "
            f"converting without them would give other numbers"
        )
