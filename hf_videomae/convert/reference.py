"""Compute the forward pass of the originals and of image models, written out on the source's own names and weights.

It shares no module with our models, so that a wrong mapping shows up as a difference.

Shapes: N tokens, V visible, M masked, D width; one clip (1, T, C, H, W) at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import ACT2FN

from ..configuration_videomae import VideoMAEConfig
from ..modeling_videomae import VideoMAEForPreTraining
from ..ops.masking import random_mask
from ..ops.patches import sinusoid_table
from .checkpoint_files import StateDict
from .key_report import Difference, compare_outputs
from .originals import ConvertedModel

_MAX_VISIBLE_TOKENS = 160
"""Compare at most so many tokens, as in pre-training at 90 %: a giant model takes seconds and uses every weight."""


@torch.no_grad()
def compare_original(model: ConvertedModel, weights: StateDict) -> Difference:
    """Compare our outputs of a random clip with the original forward pass on the weights of the file.

    Args:
        model: the converted model, in evaluation mode.
        weights: the file's, under their original names.
    """
    config = model.config
    clip, mask = _clip_and_mask(config)
    if isinstance(model, VideoMAEForPreTraining):
        # V2's decoder mask only selects what is decoded; here everything masked is compared.
        decode_all = torch.zeros_like(mask) if config.decoder_mask_type else None
        outputs = model(clip, mask, bool_decoder_masked_pos=decode_all, return_dict=True).logits
        reference = _pretraining(weights, config, clip, mask)[:, -outputs.shape[1] :]
    else:
        outputs = _outputs(model(clip, bool_masked_pos=mask, return_dict=True))
        reference = _head(weights, config, _encode_visible(weights, "", config, clip, mask))
    return compare_outputs("the original forward pass", outputs, reference)


@torch.no_grad()
def compare_image(model: ConvertedModel, weights: StateDict, *, position: Tensor) -> Difference:
    """Compare our outputs of a still clip of one time slice with the image model without its [CLS] token.

    Args:
        model: the inflated model, in evaluation mode.
        weights: the image model's, under timm's names.
        position: (1, N, D), the position embeddings of its patches.
    """
    config = model.config
    height, width = (side * size for side, size in zip(config.table_grid[1:], config.cube[1:], strict=True))
    image = torch.randn(1, config.num_channels, height, width, generator=torch.Generator().manual_seed(0))
    still = image[:, None].expand(-1, config.tubelet_size, -1, -1, -1)
    tokens = F.conv2d(
        image, weights["patch_embed.proj.weight"].float(), _bias(weights, "patch_embed.proj"), config.cube[1:]
    )
    tokens = _blocks(weights, "", tokens.flatten(2).mT + position, config, heads=config.num_attention_heads)
    return compare_outputs(
        "the image model without [CLS], on a still",
        _outputs(model(still, return_dict=True)),
        _head(weights, config, tokens),
    )


def _outputs(outputs: Any) -> Tensor:
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state


def random_clip(config: VideoMAEConfig) -> tuple[Tensor, torch.Generator]:
    """Return a reproducible random clip (1, T, C, H, W) and the generator, to draw a mask from."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, config.num_frames, config.num_channels, *config.image_height_width)
    return torch.randn(shape, generator=generator), generator


def _clip_and_mask(config: VideoMAEConfig) -> tuple[Tensor, Tensor]:
    clip, generator = random_clip(config)
    count = config.grid[0] * config.grid[1] * config.grid[2]
    mask_ratio = max(1 - _MAX_VISIBLE_TOKENS / count, 0.5)
    return clip, random_mask(config.grid, mask_ratio, generator=generator)


def _bias(weights: StateDict, stem: str) -> Tensor | None:
    bias = weights.get(f"{stem}.bias")
    return None if bias is None else bias.float()


def _linear(weights: StateDict, stem: str, inputs: Tensor) -> Tensor:
    return F.linear(inputs, weights[f"{stem}.weight"].float(), _bias(weights, stem))


def _norm(weights: StateDict, stem: str, inputs: Tensor, eps: float) -> Tensor:
    return F.layer_norm(inputs, inputs.shape[-1:], weights[f"{stem}.weight"].float(), _bias(weights, stem), eps)


def _attention(weights: StateDict, stem: str, inputs: Tensor, heads: int) -> Tensor:
    if f"{stem}.q.weight" in weights:
        joint = torch.cat([_linear(weights, f"{stem}.{part}", inputs) for part in "qkv"], dim=-1)
    else:
        joint = _linear(weights, f"{stem}.qkv", inputs)
    if f"{stem}.q_bias" in weights:
        q_bias, v_bias = weights[f"{stem}.q_bias"].float(), weights[f"{stem}.v_bias"].float()
        joint = joint + torch.cat((q_bias, torch.zeros_like(q_bias), v_bias))
    query, key, value = joint.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (1, heads, N, D / heads) each
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    return _linear(weights, f"{stem}.proj", (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


def _blocks(weights: StateDict, prefix: str, tokens: Tensor, config: VideoMAEConfig, *, heads: int) -> Tensor:
    depth = config.decoder_num_hidden_layers if prefix == "decoder." else config.num_hidden_layers
    activate = ACT2FN[config.hidden_act]
    for number in range(depth):
        stem, eps = f"{prefix}blocks.{number}", config.layer_norm_eps
        tokens = tokens + _attention(weights, f"{stem}.attn", _norm(weights, f"{stem}.norm1", tokens, eps), heads)
        inner = activate(_linear(weights, f"{stem}.mlp.fc1", _norm(weights, f"{stem}.norm2", tokens, eps)))
        tokens = tokens + _linear(weights, f"{stem}.mlp.fc2", inner)
    return tokens


def _encode_visible(weights: StateDict, prefix: str, config: VideoMAEConfig, clip: Tensor, mask: Tensor) -> Tensor:
    """Return the encoder's tokens of the visible cubes (1, V, D), before the last norm."""
    stem = f"{prefix}patch_embed.proj"
    grid = F.conv3d(clip.transpose(1, 2), weights[f"{stem}.weight"].float(), _bias(weights, stem), config.cube)
    tokens = grid.flatten(2).mT  # (1, N, D)
    tokens = (tokens + sinusoid_table(tokens.shape[1], tokens.shape[2]))[:, ~mask[0]]
    return _blocks(weights, prefix, tokens, config, heads=config.num_attention_heads)


def _pretraining(weights: StateDict, config: VideoMAEConfig, clip: Tensor, mask: Tensor) -> Tensor:
    """Return the decoder's output at the masked cubes, or at every cube if V2's decoder mask is in use."""
    tokens = _encode_visible(weights, "encoder.", config, clip, mask)
    if "encoder.norm.weight" in weights:
        tokens = _norm(weights, "encoder.norm", tokens, config.layer_norm_eps)
    tokens = _linear(weights, "encoder_to_decoder", tokens)
    positions = sinusoid_table(mask.shape[1], config.decoder_hidden_size)
    decoded = torch.ones_like(mask) if config.decoder_mask_type else mask
    masked = weights["mask_token"].float() + positions[decoded[0]]
    joint = torch.cat((tokens + positions[~mask[0]], masked), dim=1)
    joint = _blocks(weights, "decoder.", joint, config, heads=config.decoder_num_attention_heads)
    return _linear(weights, "decoder.head", _norm(weights, "decoder.norm", joint, config.final_layer_norm_eps))


def _head(weights: StateDict, config: VideoMAEConfig, tokens: Tensor) -> Tensor:
    """Return logits, pooled features, or normalized tokens from the tokens of the last block."""
    if "fc_norm.weight" in weights:
        pooled = _norm(weights, "fc_norm", tokens.mean(1), config.final_layer_norm_eps)
        return _linear(weights, "head", pooled) if config.num_labels else pooled
    if "norm.weight" in weights:
        tokens = _norm(weights, "norm", tokens, config.layer_norm_eps)
    return tokens
