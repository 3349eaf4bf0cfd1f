"""Inflate image models to video: transformers' ViT, ViTMAE and DeiT, and models with timm's names.

The 2-D patch embedding becomes a 3-D one, the blocks stay as they are, and the [CLS] token is dropped: VideoMAE has
none.
"""

import math
import re
from typing import Any, Literal

import torch
from torch import Tensor

from ..configuration_videomae import VideoMAEConfig
from ..modeling_videomae import VideoMAEForVideoClassification, VideoMAEModel
from .checkpoint_files import SourceCheckpoint, StateDict
from .key_report import KEY_BIAS_REASON, ConversionReport, WeightMapping, begin_report, load_full_state_dict
from .originals import ENCODER_HEADS, check_config_fields, check_num_heads, infer_transformer_fields, map_weight

Inflate = Literal["mean", "center"]
Positions = Literal["image", "sinusoid"]

INFLATE: tuple[Inflate, ...] = ("mean", "center")
POSITIONS: tuple[Positions, ...] = ("image", "sinusoid")

_PROJECTION = "patch_embed.proj.weight"
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")
# Names of stock transformers, on disk and in memory in its newer releases -> timm's.
_STOCK_NAMES = (
    (r"^(vit|deit)\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.", ""),
    (r"^(encoder\.layer|layers)\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"(?<=\d)\.attention\.attention\.query\.|(?<=\d)\.attention\.q_proj\.", ".attn.q."),
    (r"(?<=\d)\.attention\.attention\.key\.|(?<=\d)\.attention\.k_proj\.", ".attn.k."),
    (r"(?<=\d)\.attention\.attention\.value\.|(?<=\d)\.attention\.v_proj\.", ".attn.v."),
    (r"(?<=\d)\.attention\.output\.dense\.|(?<=\d)\.attention\.o_proj\.", ".attn.proj."),
    (r"(?<=\d)\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(?<=\d)\.output\.dense\.", ".mlp.fc2."),
    (r"(?<=\d)\.layernorm_before\.", ".norm1."),
    (r"(?<=\d)\.layernorm_after\.", ".norm2."),
)
_SKIPPED_KEYS = (
    (r"(cls|dist|reg)_token$", "VideoMAE has no such token"),
    (
        r"mask_token$|decoder",
        "the image decoder: start a new one with VideoMAEForPreTraining.from_pretrained(..., new_decoder=True)",
    ),
    (r"pooler\.|classifier\.|cls_classifier\.|distillation_classifier\.|head|pre_logits", "reads the [CLS] token"),
)


def is_image_model(weights: StateDict) -> bool:
    """Return whether these are weights of an image transformer: 2-D patches under transformers' or timm's names."""
    names = ("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight")
    return any(name.endswith(names) and value.dim() == 4 for name, value in weights.items())


def timm_names(weights: StateDict) -> dict[str, str]:
    """Return timm's name for each key of the file, one to one."""
    names = {}
    for key in weights:
        name = key
        for pattern, replacement in _STOCK_NAMES:
            name = re.sub(pattern, replacement, name)
        names[key] = name
    return names


def convert_image(
    source: SourceCheckpoint, fields: dict[str, Any], *, inflate: Inflate = "mean", positions: Positions = "image"
) -> tuple[VideoMAEModel | VideoMAEForVideoClassification, ConversionReport, Tensor]:
    """Return an image model as our encoder in evaluation mode, the report, and the image's positions.

    Args:
        source: what was read.
        fields: of `VideoMAEConfig`, override what was inferred; `num_frames`, `tubelet_size` and `image_size` shape
            the video.
        inflate: `mean` gives every frame of a cube the weights divided by `tubelet_size`, `center` gives all of them
            to one frame; on a still video both give what the image gave.
        positions: `image` repeats the image's positions in every slice, in a table that is stored and trained;
            `sinusoid` uses VideoMAE's fixed table, which stock transformers has too.

    Returns:
        The model, the report, and the image's positions (1, N, D).

    Raises:
        ValueError: for weights that have no place in the model, or sizes that do not fit.
    """
    if inflate not in INFLATE:
        raise ValueError(f"inflate={inflate!r} is not known; choose one of {', '.join(INFLATE)}")
    if positions not in POSITIONS:
        raise ValueError(f"positions={positions!r} are not known; choose one of {', '.join(POSITIONS)}")
    check_config_fields(fields)
    names = timm_names(source.weights)
    weights = {names[key]: value for key, value in source.weights.items()}
    report = begin_report(source, "an image model, inflated to video")
    image_positions, grid = _image_positions(source, weights)
    config = _infer_config(source, weights, fields, grid=grid, positions=positions, report=report)
    table = image_positions.repeat(config.table_grid[0], 1) if positions == "image" else None
    weight_mapping = _map_weights(source, names, config, inflate=inflate, table=table)
    pooled = "fc_norm.weight" in weights
    model = VideoMAEForVideoClassification(config) if pooled else VideoMAEModel(config)
    mapped = weight_mapping.weights
    if not pooled:
        mapped = {name.removeprefix("videomae."): value for name, value in mapped.items()}
    load_full_state_dict(model, mapped, source=source.name)
    report.model, report.keys = type(model).__name__, weight_mapping.key_mappings
    _add_warnings(report, weights, positions)
    return model.eval(), report, image_positions[None]


def _image_positions(source: SourceCheckpoint, weights: StateDict) -> tuple[Tensor, tuple[int, int]]:
    """Return the positions of the patches (N, D), without those of tokens before them, and their grid (H', W')."""
    table = weights.get("pos_embed")
    if table is None:
        raise ValueError(f"{source.name} has no position embeddings (rotary or relative ones?): it cannot be inflated")
    table = table.float().reshape(-1, table.shape[-1])
    patch = weights[_PROJECTION].shape[-1]
    size = source.config.get("image_size")
    before = sum(weights[name].shape[1] for name in _PREFIX_TOKENS if name in weights)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        grid = height // patch, width // patch
        return table[len(table) - grid[0] * grid[1] :], grid
    # Without a known image size: drop as few leading tokens as leave a square. Example: 197 positions and one [CLS]
    # token; 197 is not a square, 196 = 14 x 14 is.
    for extra in range(before + 1):
        side = math.isqrt(len(table) - extra)
        if side * side == len(table) - extra:
            return table[extra:], (side, side)
    raise ValueError(
        f"{source.name} has {len(table)} positions and {before} tokens before its patches, which is not a square "
        f"grid: put its config.json with image_size into its folder"
    )


def _infer_config(
    source: SourceCheckpoint,
    weights: StateDict,
    fields: dict[str, Any],
    *,
    grid: tuple[int, int],
    positions: Positions,
    report: ConversionReport,
) -> VideoMAEConfig:
    width, channels, *patch = weights[_PROJECTION].shape
    stated: dict[str, Any] = {
        name: source.config[name] for name in ("num_attention_heads", "hidden_act") if name in source.config
    }
    eps = source.config.get("layer_norm_eps", 1e-6)
    inferred: dict[str, Any] = {
        "num_channels": channels,
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
        "image_size": [side * size for side, size in zip(grid, patch, strict=True)],
        **infer_transformer_fields(weights, "", width, ENCODER_HEADS, ""),
        "qv_bias": "blocks.0.attn.qkv.bias" in weights or "blocks.0.attn.q.bias" in weights,
        "use_mean_pooling": "norm.weight" not in weights,
        "layer_norm_eps": eps,
        "final_layer_norm_eps": eps,
        "position_embedding": "learned" if positions == "image" else "sinusoid",
        **_pixel_statistics(source),
    }
    if inferred["image_size"][0] == inferred["image_size"][1]:
        inferred["image_size"] = inferred["image_size"][0]
    if "fc_norm.weight" in weights:
        inferred["num_labels"] = weights["head.weight"].shape[0] if "head.weight" in weights else 0
    _record_assumptions(report, {**inferred, **stated}, source, fields)
    config = VideoMAEConfig(**check_num_heads({**inferred, **stated, **fields}, source=source.name))
    if positions == "image" and config.grid[1:] != grid and config.position_grid is None:
        config.position_grid = [config.grid[0], *grid]
        report.assumed.append(f"image positions of a {grid[0]}x{grid[1]} grid are interpolated to {config.grid[1:]}")
    return config


def _pixel_statistics(source: SourceCheckpoint) -> dict[str, Any]:
    names = ("image_mean", "image_std")
    return {name: source.preprocessor[name] for name in names} if source.preprocessor.keys() >= set(names) else {}


def _record_assumptions(
    report: ConversionReport, config: dict[str, Any], source: SourceCheckpoint, fields: dict[str, Any]
) -> None:
    default = VideoMAEConfig()
    for name in ("num_frames", "tubelet_size"):
        if name not in fields:
            report.assumed.append(f"{name} {getattr(default, name)}: an image model has none")
    if "num_attention_heads" not in source.config.keys() | fields.keys():
        report.assumed.append(f"num_attention_heads {config['num_attention_heads']}, as is usual for this width")
    if "layer_norm_eps" not in source.config.keys() | fields.keys():
        report.assumed.append("layer_norm_eps 1e-06, as in timm")
    if "hidden_act" not in source.config.keys() | fields.keys():
        report.assumed.append("hidden_act gelu, the exact one")
    if "image_mean" not in config.keys() | fields.keys():
        report.assumed.append(
            "pixels normalized by ImageNet's mean and deviation: there is no preprocessor_config.json"
        )


def _map_weights(
    source: SourceCheckpoint, names: dict[str, str], config: VideoMAEConfig, *, inflate: Inflate, table: Tensor | None
) -> WeightMapping:
    weight_mapping, unknown = WeightMapping(), []
    pooled = "fc_norm.weight" in names.values()
    for key, value in source.weights.items():
        name = names[key]
        reason = _skip_reason(name, pooled=pooled)
        if reason:
            weight_mapping.skip(key, reason)
        elif name == "pos_embed":
            _map_position_embeddings(weight_mapping, key, table)
        elif name == _PROJECTION:
            weight = _inflate_weight(value, config.tubelet_size, inflate)
            weight_mapping.assign(
                key, map_weight(name, weight) or {}, note=f"inflated to {config.tubelet_size} frames, {inflate}"
            )
        elif re.search(r"\.attn\.(qkv|[qkv])\.", name):
            _map_attention_weights(weight_mapping, key, name, value)
        elif mapped := map_weight(name, value):
            weight_mapping.assign(key, mapped)
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{source.name} holds weights that a VideoMAE has no place for: {', '.join(sorted(unknown))}. "
            f"It is not a plain ViT (layer scale, relative positions, gated MLP?) and cannot be inflated"
        )
    return weight_mapping


def _skip_reason(name: str, *, pooled: bool) -> str | None:
    if re.match(r"blocks\.\d+\.attn\.k\.bias$", name):
        return KEY_BIAS_REASON
    if pooled and re.match(r"head\.(weight|bias)$", name):
        return None
    return next((reason for pattern, reason in _SKIPPED_KEYS if re.match(pattern, name)), None)


def _map_position_embeddings(weight_mapping: WeightMapping, key: str, table: Tensor | None) -> None:
    if table is None:
        weight_mapping.skip(key, "VideoMAE's fixed sinusoid is used instead, as requested")
    else:
        note = "those of the patches, the same in every time slice"
        weight_mapping.assign(key, {"videomae.embeddings.position_embeddings": table}, note=note)


def _map_attention_weights(weight_mapping: WeightMapping, key: str, name: str, value: Tensor) -> None:
    """Map fused or separate query, key and value weights; the key's bias is dropped."""
    stem, _, rest = name.partition(".attn.")
    part, leaf = rest.split(".")
    ours = f"videomae.encoder.layer.{stem.removeprefix('blocks.')}.attention.attention"
    parts = ("query", "key", "value") if part == "qkv" else ({"q": "query", "k": "key", "v": "value"}[part],)
    chunks = value.chunk(len(parts))
    mapped = {
        f"{ours}.{which}.{leaf}": chunk.contiguous()
        for which, chunk in zip(parts, chunks, strict=True)
        if (which, leaf) != ("key", "bias")
    }
    note = f"without the key's third: {KEY_BIAS_REASON}" if (part, leaf) == ("qkv", "bias") else ""
    weight_mapping.assign(key, mapped, note=note)


def _inflate_weight(weight: Tensor, tubelet: int, inflate: Inflate) -> Tensor:
    """Return (D, C, h, w) as (D, C, t, h, w), so that t equal frames give what one image gave."""
    if inflate == "mean":
        return (weight[:, :, None] / tubelet).repeat(1, 1, tubelet, 1, 1)
    inflated = torch.zeros(*weight.shape[:2], tubelet, *weight.shape[2:], dtype=weight.dtype)
    inflated[:, :, tubelet // 2] = weight
    return inflated


def _add_warnings(report: ConversionReport, weights: StateDict, positions: Positions) -> None:
    if any(name in weights for name in _PREFIX_TOKENS):
        report.warnings.append(
            "the image model's patches also attended to its [CLS] token, which was dropped: features "
            "are those of the image model run without it, so fine-tune or pre-train before use"
        )
    if positions == "image":
        report.stock = False
        report.warnings.append(
            "every time slice starts with the same positions, so their order must be learned in training "
            "(--positions sinusoid starts with an order, and loads in stock transformers too)"
        )
    else:
        report.warnings.append("the image's positions were replaced, so features are far from the image model's")
