"""Convert checkpoints of transformers' VideoMAE: find and correct what is wrong in their config.json.

The published S models say 16 heads and 12 decoder layers; the weights were trained with 6 and 4. A wrong number of
heads loads without an error, because no weight has the shape of a head, and gives other numbers.
"""

import copy
import re
from dataclasses import dataclass
from typing import Any

import torch

from ..configuration_videomae import VideoMAEConfig
from ..modeling_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from ..ops.masking import tube_mask
from .checkpoint_files import SourceCheckpoint, StateDict, count_layers
from .key_report import (
    FIXED_POSITIONS_REASON,
    KEY_BIAS_REASON,
    ConversionReport,
    Difference,
    WeightMapping,
    begin_report,
    compare_outputs,
    load_full_state_dict,
)
from .originals import DECODER_HEADS, ENCODER_HEADS, ConvertedModel, check_config_fields, choose_model_class
from .reference import random_clip

# Decoder layers of the published sizes, by the width of the decoder; huge has 12 in V1 and 4 in V2, at one width.
_DECODER_LAYERS = {192: 4, 384: 4}
_PROJECTION = "embeddings.patch_embeddings.projection.weight"
_KEY_BIAS = re.compile(r"(encoder\.layer|decoder\.decoder_layers)\.\d+\.attention\.attention\.key\.bias$")
_UNUSED_BUFFERS = re.compile(r"(videomae\.embeddings\.|decoder_)position_embeddings$|position_table$")


@dataclass(frozen=True)
class ConfigProblem:
    """A field of config.json that the weights contradict, or that no published model has."""

    field: str
    value: int
    expected: int
    reason: str

    def __str__(self) -> str:
        return f"{self.field} {self.value} should be {self.expected}: {self.reason}"


def is_stock(weights: StateDict) -> bool:
    """Return whether these are weights of transformers' VideoMAE, or of ours, which has its names."""
    return any(name.endswith(_PROJECTION) and value.dim() == 5 for name, value in weights.items())


def find_config_problems(config: VideoMAEConfig, weights: StateDict) -> list[ConfigProblem]:
    """Return what is wrong with the sizes of a checkpoint, as far as weights and published sizes tell.

    Args:
        config: the checkpoint's configuration.
        weights: its weights.
    """
    problems = [_depth_problem("num_hidden_layers", config, weights, r"(?:videomae\.)?encoder\.layer\.(\d+)\.")]
    problems += [_heads_problem("num_attention_heads", config.hidden_size, config, ENCODER_HEADS)]
    if _has_decoder(weights):
        problems += [_decoder_depth_problem(config, weights)]
        problems += [_heads_problem("decoder_num_attention_heads", config.decoder_hidden_size, config, DECODER_HEADS)]
    elif config.hidden_size in ENCODER_HEADS:
        problems += [_unused_decoder_problem(config)]
    return [problem for problem in problems if problem is not None]


def convert_stock(
    source: SourceCheckpoint, fields: dict[str, Any], *, fix: bool = False
) -> tuple[ConvertedModel, ConversionReport]:
    """Return a checkpoint of transformers as our model in evaluation mode, with a report of every key.

    Args:
        source: the checkpoint; it must have a config.json.
        fields: of `VideoMAEConfig`, override the file's values and the corrections.
        fix: correct what `find_config_problems` names; otherwise it is only reported.

    Raises:
        ValueError: without a config.json, or if weights and configuration do not fit.
    """
    check_config_fields(fields)
    if not source.config:
        raise ValueError(
            f"{source.name} holds a VideoMAE of transformers without its config.json, and the weights do not tell its "
            f"heads: give the folder that has both"
        )
    report = begin_report(source, "a VideoMAE of transformers")
    config = VideoMAEConfig.from_dict(source.config)
    problems = find_config_problems(config, source.weights)
    fixed_values = {problem.field: problem.expected for problem in problems} if fix else {}
    config = VideoMAEConfig.from_dict(source.config, **{**fixed_values, **fields})
    has_head = "classifier.weight" in source.weights or "fc_norm.weight" in source.weights
    model = choose_model_class(has_decoder=_has_decoder(source.weights), has_head=has_head)(config)
    weight_mapping = _map_weights(source.weights, config, model)
    load_full_state_dict(model, weight_mapping.weights, source=source.name)
    report.model, report.keys = type(model).__name__, weight_mapping.key_mappings
    _report_problems(report, problems, fix=fix, fields=fields)
    _add_warnings(report, model)
    return model.eval(), report


@torch.no_grad()
def compare_with_stock(model: ConvertedModel) -> Difference:
    """Compare our outputs of a random clip with transformers' own class, with the same weights and configuration."""
    import transformers

    config = transformers.VideoMAEConfig.from_dict({**model.config.to_dict(), "return_dict": True})
    stock = getattr(transformers, type(model).__name__)(config).eval()
    _copy_published_biases(model, stock)
    return _compare_models("transformers' own class", model, stock)


@torch.no_grad()
def compare_with_unfixed(model: ConvertedModel, source: SourceCheckpoint) -> Difference | None:
    """Compare the outputs before and after the number of heads was corrected; None if it was right."""
    before = VideoMAEConfig.from_dict(source.config).num_attention_heads
    if before == model.config.num_attention_heads:
        return None
    config = copy.deepcopy(model.config)
    config.num_attention_heads, config.return_dict = before, True
    unfixed = type(model)(config).eval()
    unfixed.load_state_dict(model.state_dict())
    return _compare_models(f"{source.name} as it was, with {before} heads", model, unfixed)


def _compare_models(against: str, model: ConvertedModel, reference: torch.nn.Module) -> Difference:
    clip, generator = random_clip(model.config)
    inputs = [clip]
    if isinstance(model, VideoMAEForPreTraining):
        inputs.append(tube_mask(model.config.grid, max(model.config.mask_ratio, 0.5), generator=generator))
    name = "last_hidden_state" if isinstance(model, VideoMAEModel) else "logits"
    return compare_outputs(against, model(*inputs, return_dict=True)[name], reference(*inputs)[name])


def _heads_problem(field: str, width: int, config: VideoMAEConfig, heads: dict[int, int]) -> ConfigProblem | None:
    value, expected = getattr(config, field), heads.get(width)
    if expected is None or value == expected:
        return None
    reason = f"every published VideoMAE {width} wide has {expected}, and the weights do not tell (yours may differ)"
    return ConfigProblem(field, value, expected, reason)


def _depth_problem(field: str, config: VideoMAEConfig, weights: StateDict, pattern: str) -> ConfigProblem | None:
    depth = count_layers(weights, pattern)
    value = getattr(config, field)
    return None if value == depth else ConfigProblem(field, value, depth, f"the file holds {depth} layers")


def _decoder_depth_problem(config: VideoMAEConfig, weights: StateDict) -> ConfigProblem | None:
    """Find decoder layers that are missing in the file, or were initialized and never trained."""
    field, pattern = "decoder_num_hidden_layers", r"decoder\.decoder_layers\.(\d+)\."
    problem = _depth_problem(field, config, weights, pattern)
    if problem is not None:
        return problem
    depth = count_layers(weights, pattern)
    trained = depth
    while trained and _is_untrained(weights, trained - 1):
        trained -= 1
    if trained in (0, depth):
        return None
    reason = (
        f"layers {trained} to {depth - 1} of the file were never trained (norms of exactly 1, biases of exactly 0)"
    )
    return ConfigProblem(field, depth, trained, reason)


def _is_untrained(weights: StateDict, layer: int) -> bool:
    stem = f"decoder.decoder_layers.{layer}."
    norms = [value for name, value in weights.items() if name.startswith(stem) and "layernorm" in name]
    return bool(norms) and all(bool((value == value.flatten()[0]).all()) and value[0] in (0, 1) for value in norms)


def _unused_decoder_problem(config: VideoMAEConfig) -> ConfigProblem | None:
    expected = _DECODER_LAYERS.get(config.decoder_hidden_size)
    value = config.decoder_num_hidden_layers
    if expected is None or value == expected:
        return None
    reason = f"published with {expected}; the file holds no decoder, so this only shapes a new one"
    return ConfigProblem("decoder_num_hidden_layers", value, expected, reason)


def _has_decoder(weights: StateDict) -> bool:
    return any(name.startswith("decoder.") for name in weights)


def _map_weights(weights: StateDict, config: VideoMAEConfig, model: ConvertedModel) -> WeightMapping:
    weight_mapping = WeightMapping()
    own = model.state_dict()
    backbone = "" if isinstance(model, VideoMAEModel) else "videomae."
    for key, value in weights.items():
        is_backbone = key.startswith(("videomae.", "embeddings.", "encoder.", "layernorm."))
        name = backbone + key.removeprefix("videomae.") if is_backbone else key
        name = name.replace("attention.attention.q_bias", "attention.attention.query.bias")
        name = name.replace("attention.attention.v_bias", "attention.attention.value.bias")
        layer = re.match(r"decoder\.decoder_layers\.(\d+)\.", name)
        if _KEY_BIAS.search(name):
            weight_mapping.skip(key, KEY_BIAS_REASON)
        elif name not in own and _UNUSED_BUFFERS.search(name):
            weight_mapping.skip(key, FIXED_POSITIONS_REASON)
        elif layer and int(layer[1]) >= config.decoder_num_hidden_layers:
            weight_mapping.skip(key, "never trained, and in no published decoder")
        else:
            weight_mapping.assign(key, {name: value})
    return weight_mapping


def _report_problems(
    report: ConversionReport, problems: list[ConfigProblem], *, fix: bool, fields: dict[str, Any]
) -> None:
    for problem in problems:
        if problem.field in fields:
            continue
        if fix:
            report.assumed.append(f"{problem.field} {problem.expected} instead of {problem.value}: {problem.reason}")
        else:
            report.warnings.append(f"config.json looks wrong: {problem}. Nothing was changed; --fix corrects it")


def _add_warnings(report: ConversionReport, model: ConvertedModel) -> None:
    config = model.config
    if isinstance(model, VideoMAEForVideoClassification) and not config.use_mean_pooling:
        report.warnings.append("this classifier reads only token 0 (use_mean_pooling is false), as it was trained")
    if config.position_embedding == "learned":
        report.stock = False


def _copy_published_biases(model: ConvertedModel, stock: torch.nn.Module) -> None:
    """Load our weights into the stock class, whose query and value biases had other names before release 5.18."""
    weights = dict(model.state_dict())
    if not any(name.endswith("query.bias") for name in stock.state_dict()):
        weights = {
            name.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): value
            for name, value in weights.items()
        }
    missing, unexpected = stock.load_state_dict(weights, strict=False)
    left = [name for name in missing if not name.endswith("key.bias")]
    assert not left and not unexpected, (left, unexpected)
