"""Define the VideoMAE models: attention -> layer -> encoder -> decoder -> the heads.

Module and parameter names are those of stock transformers, and on disk those of the published checkpoints.

Shapes: B clips, T frames, C channels, H x W pixels, N tokens, V visible, M masked, K decoded, D width, P pixels of a
    cube.
"""

from . import _check_dependencies  # noqa: F401  reports a torchvision that does not fit torch in one line

# isort: split
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_videomae import VideoMAEConfig
from .ops.attention import eager_attention_forward
from .ops.layer_norm import LayerNorm
from .ops.losses import classification_loss, reconstruction_loss
from .ops.masking import make_mask, mask_indices
from .ops.normalization_check import NormalizationCheck
from .ops.patches import (
    Grid,
    gather_patches,
    interpolate_positions,
    patchify,
    pixel_targets,
    sinusoid_table,
    token_grid,
)
from .strict_loading import (
    StrictLoadingMixin,
    load_with_mean_pooling,
    register_checkpoint_renames,
    rename_published_biases,
)

register_checkpoint_renames()

_DECODER_KEYS = (r"decoder\.", r"encoder_to_decoder\.", r"mask_token$")
_CLASSIFIER_KEYS = (r"fc_norm\.", r"classifier\.")
# All other heads keep their own weights under this name.
_HEAD_KEYS = (r"head\.",)


@dataclass
class VideoMAEForPreTrainingOutput(ModelOutput):
    """The output of the pre-training head.

    Attributes:
        loss: scalar float32, the reconstruction loss.
        logits: (B, K, P * C) of the decoded tokens in raster order: all masked ones, or what the decoder mask keeps.
        bool_masked_pos: (B, N) bool, the encoder's mask, True = masked: the given one, or the one drawn.
        bool_decoder_masked_pos: (B, N) bool, True = not decoded; None if all masked tokens are decoded.
        hidden_states, attentions: those of the encoder, if asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    bool_masked_pos: Tensor | None = None
    bool_decoder_masked_pos: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class VideoMAESelfAttention(nn.Module):
    """Joint space-time attention. Keys have no bias (as in BEiT): it would have no gradient, but would decay."""

    def __init__(self, config: VideoMAEConfig, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.config = config
        self.head_size = hidden_size // num_heads
        self.scaling = self.head_size**-0.5
        self.dropout_prob = config.attention_probs_dropout_prob
        self.is_causal = False
        self.query = nn.Linear(hidden_size, hidden_size, bias=config.qv_bias)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, hidden_size, bias=config.qv_bias)
        for part in (self.query, self.key, self.value):
            # One (3D, D) matrix in the originals: Xavier's fan-out.
            part.num_fused_projections = 3  # type: ignore[assignment]
        self.register_load_state_dict_pre_hook(rename_published_biases)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        heads = (*hidden_states.shape[:-1], -1, self.head_size)
        query = self.query(hidden_states).view(heads).transpose(1, 2)  # (B, heads, N, D / heads)
        key = self.key(hidden_states).view(heads).transpose(1, 2)
        value = self.value(hidden_states).view(heads).transpose(1, 2)
        attend, dropout = self._attention_function(kwargs), self.dropout_prob if self.training else 0.0
        context, weights = attend(
            self, query, key, value, None, is_causal=self.is_causal, scaling=self.scaling, dropout=dropout
        )
        return context.flatten(2), weights

    def _attention_function(self, kwargs: dict[str, Any]) -> Callable[..., tuple[Tensor, Tensor | None]]:
        """Return the configured attention; eager if the call asks for weights, which fused kernels do not return."""
        wanted = kwargs.get("output_attentions", self.config.output_attentions)
        name = "eager" if wanted else self.config._attn_implementation
        return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)


class VideoMAEOutput(nn.Module):
    """The linear layer with dropout that ends the attention and the MLP."""

    def __init__(self, config: VideoMAEConfig, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(input_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.dropout(self.dense(hidden_states))


class VideoMAEAttention(nn.Module):
    def __init__(self, config: VideoMAEConfig, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.attention = VideoMAESelfAttention(config, hidden_size, num_heads)
        self.output = VideoMAEOutput(config, hidden_size, hidden_size)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        context, _ = self.attention(hidden_states, **kwargs)
        return self.output(context)


class VideoMAEIntermediate(nn.Module):
    def __init__(self, config: VideoMAEConfig, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.intermediate_act_fn(self.dense(hidden_states))


class VideoMAEDropPath(nn.Module):
    """Stochastic depth: drop the branch for some clips of the batch while training (table 9 of the paper)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return branch
        keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.rate
        return branch * keep.to(branch.dtype) / (1.0 - self.rate)


class VideoMAELayer(GradientCheckpointingLayer):
    """A pre-norm transformer block, of the encoder or of the decoder."""

    def __init__(
        self,
        config: VideoMAEConfig,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        *,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = VideoMAEAttention(config, hidden_size, num_heads)
        self.intermediate = VideoMAEIntermediate(config, hidden_size, intermediate_size)
        self.output = VideoMAEOutput(config, intermediate_size, hidden_size)
        self.layernorm_before = LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.layernorm_after = LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.drop_path = VideoMAEDropPath(drop_path)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        hidden_states = hidden_states + self.drop_path(self.attention(self.layernorm_before(hidden_states), **kwargs))
        mlp = self.output(self.intermediate(self.layernorm_after(hidden_states)))
        return hidden_states + self.drop_path(mlp)


class VideoMAECubeProjection(nn.Conv3d):
    """Embed cubes: a convolution whose stride is its kernel, so one matrix product on cubes already cut."""

    def forward(self, cubes: Tensor) -> Tensor:
        weight = self.weight.flatten(1)  # (D, C * P)
        return nn.functional.linear(cubes.flatten(2).to(weight.dtype), weight, self.bias)


class VideoMAEPatchEmbeddings(nn.Module):
    """Embed clips (B, T, C, H, W) as tokens (B, V, D); only the cubes asked for are cut and embedded."""

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.cube = config.cube
        self.num_patches = math.prod(config.grid)
        self.projection = VideoMAECubeProjection(
            config.num_channels, config.hidden_size, kernel_size=config.cube, stride=config.cube
        )

    def forward(self, pixel_values: Tensor, index: Tensor | None = None) -> Tensor:
        if index is None:
            return self.projection(patchify(pixel_values, self.cube))
        return self.projection(gather_patches(pixel_values, self.cube, index))


class VideoMAEEmbeddings(nn.Module):
    """Add positions to cubes: the paper's fixed sinusoid, stored in no file, or a table that is learned and stored."""

    position_table: Tensor
    position_embeddings: Tensor

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.table_grid = config.table_grid
        self.patch_embeddings = VideoMAEPatchEmbeddings(config)
        table = sinusoid_table(math.prod(self.table_grid), config.hidden_size)
        self.learned = config.position_embedding == "learned"
        if self.learned:
            self.position_embeddings = nn.Parameter(table)
        else:
            self.register_buffer("position_table", table, persistent=False)

    @property
    def positions(self) -> Tensor:
        """Return (N, D) for the grid of the table."""
        return self.position_embeddings if self.learned else self.position_table

    def forward(self, pixel_values: Tensor, grid: Grid, index: Tensor | None = None) -> Tensor:
        tokens = self.patch_embeddings(pixel_values, index)
        table = interpolate_positions(self.positions, source=self.table_grid, target=grid)
        positions = table if index is None else table[index]
        return tokens + positions.to(tokens.dtype)


class VideoMAEEncoder(nn.Module):
    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        rates = torch.linspace(0, config.drop_path_rate, config.num_hidden_layers, device="cpu").tolist()
        size, heads, inner = config.hidden_size, config.num_attention_heads, config.intermediate_size
        self.layer = nn.ModuleList(VideoMAELayer(config, size, heads, inner, drop_path=rate) for rate in rates)
        self.gradient_checkpointing = False

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        for layer in self.layer:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states


class VideoMAEPreTrainedModel(StrictLoadingMixin):
    """The base of all heads: what transformers must know about the model, and how weights are initialized.

    A head states what differs from the facts below. Its own weights are in modules under `head`, which it starts with
    fresh values from any checkpoint of an encoder.
    """

    auto_class: str | None = None
    """The name of its Auto class in transformers."""
    _allowed_unexpected_keys: tuple[str, ...] = (*_DECODER_KEYS, *_CLASSIFIER_KEYS, r"layernorm\.")
    _allowed_missing_keys: tuple[str, ...] = _HEAD_KEYS

    config: VideoMAEConfig
    base_model_prefix = "videomae"
    main_input_name = "pixel_values"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["VideoMAEEmbeddings", "VideoMAELayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": VideoMAELayer, "attentions": VideoMAESelfAttention}
    # Losses are means over a batch, so stock `Trainer` must divide them by its accumulation steps.
    accepts_loss_kwargs = False

    _xavier = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as the paper: xavier for pre-training, deviation 0.02 for the rest, torch's default for cubes."""
        if isinstance(module, VideoMAECubeProjection):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Linear):
            if self._xavier:
                fan_out = getattr(module, "num_fused_projections", 1) * module.out_features
                bound = math.sqrt(6 / (module.in_features + fan_out))
                init.uniform_(module.weight, -bound, bound)
            else:
                init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, VideoMAEEmbeddings):
            # The sinusoid is in no file, and a buffer leaves the meta device without values.
            init.copy_(module.positions, _sinusoid_like(module.positions))


class VideoMAEModel(VideoMAEPreTrainedModel):
    """The encoder: tokens of a clip, or of its visible cubes, as the last layer returns them.

    There is no [CLS] token: average the tokens for a feature of the clip.
    """

    auto_class = "AutoModel"
    _allowed_unexpected_keys = (*VideoMAEPreTrainedModel._allowed_unexpected_keys, *_HEAD_KEYS)

    def __init__(self, config: VideoMAEConfig, *, xavier: bool = False) -> None:
        super().__init__(config)
        self._xavier = xavier
        self.embeddings = VideoMAEEmbeddings(config)
        self.encoder = VideoMAEEncoder(config)
        self.layernorm = None
        if not config.use_mean_pooling:
            self.layernorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self._normalization_check = NormalizationCheck(config.image_mean or (), config.image_std or ())
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    def clip_grid(self, pixel_values: Tensor) -> Grid:
        """Return the token grid (T', H', W') of a batch of clips.

        Raises:
            ValueError: for anything that is not (B, T, C, H, W) with the configured channels and whole cubes.
        """
        channels = self.config.num_channels
        if pixel_values.dim() != 5 or pixel_values.shape[2] != channels:
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}; wanted (batch, frames, {channels}, height, "
                f"width) as VideoMAEVideoProcessor gives"
            )
        _, num_frames, _, height, width = pixel_values.shape
        return token_grid(num_frames=num_frames, height=height, width=width, cube=self.config.cube)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Tensor | None = None,
        visible_index: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode clips.

        Args:
            pixel_values: (B, T, C, H, W), normalized. For other sizes than the trained one the position table is
                interpolated.
            bool_masked_pos: (B, N) bool, True = masked: these cubes are never embedded. None: all are visible.
            visible_index: (B, V) the visible tokens by number, instead of a mask.
            **kwargs: `output_hidden_states`, `output_attentions`.

        Returns:
            `last_hidden_state` (B, V, D), visible tokens in raster order.

        Raises:
            ValueError: for clips or masks of the wrong shape, masks with unequal counts, or raw pixels (uint8).
        """
        grid = self.clip_grid(pixel_values)
        self._normalization_check(pixel_values)
        if bool_masked_pos is not None:
            expected = (self.config.mask_type, self.config.mask_ratio)
            visible_index, _ = mask_indices(bool_masked_pos, clips=pixel_values, grid=grid, expected=expected)
        tokens = self.encoder(self.embeddings(pixel_values, grid, visible_index), **kwargs)
        if self.layernorm is not None:
            tokens = self.layernorm(tokens)
        return BaseModelOutput(last_hidden_state=tokens)


class VideoMAEDecoder(nn.Module):
    """Predict the pixels of the last `num_decoded` tokens with a light transformer."""

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        heads, inner = config.decoder_num_attention_heads, config.decoder_intermediate_size
        self.decoder_layers = nn.ModuleList(
            VideoMAELayer(config, config.decoder_hidden_size, heads, inner)
            for _ in range(config.decoder_num_hidden_layers)
        )
        # Stock fixes this eps at 1e-5, so it is a separate field.
        self.norm = LayerNorm(config.decoder_hidden_size, eps=config.final_layer_norm_eps)
        self.head = nn.Linear(config.decoder_hidden_size, config.num_channels * math.prod(config.cube))
        self.gradient_checkpointing = False

    def forward(self, hidden_states: Tensor, num_decoded: int) -> Tensor:
        for layer in self.decoder_layers:
            hidden_states = layer(hidden_states, output_attentions=False)
        start = hidden_states.shape[1] - num_decoded
        return self.head(self.norm(hidden_states[:, start:]))


class VideoMAEForPreTraining(VideoMAEPreTrainedModel):
    """Masked autoencoder of video: encoder, decoder, targets and loss (paper, section 3; decoder mask: V2, 3.2)."""

    auto_class = "AutoModelForPreTraining"
    _xavier = True
    _stores_decoder = True
    _key_error_hint = (
        "If the file holds an encoder only (a fine-tuned or VideoMAE V2 checkpoint), pass new_decoder=True "
        "(--new_decoder) to start with a fresh decoder; otherwise check that config.json belongs to these weights."
    )

    decoder_position_table: Tensor

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config)
        self.videomae = VideoMAEModel(config, xavier=True)
        self.encoder_to_decoder = nn.Linear(config.hidden_size, config.decoder_hidden_size, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_hidden_size))
        table = sinusoid_table(math.prod(config.table_grid), config.decoder_hidden_size)
        self.register_buffer("decoder_position_table", table, persistent=False)
        self.decoder = VideoMAEDecoder(config)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: Any,
        *args: Any,
        new_decoder: bool = False,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load strictly; `new_decoder=True` starts with a fresh decoder if the file holds an encoder only."""
        surplus = (*_CLASSIFIER_KEYS, *_HEAD_KEYS)
        allowed = {"allowed_missing": _DECODER_KEYS, "allowed_unexpected": surplus} if new_decoder else {}
        loaded = cls._load_strict(pretrained_model_name_or_path, args, kwargs, **allowed)
        return loaded if output_loading_info else loaded[0]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
            init.copy_(self.decoder_position_table, _sinusoid_like(self.decoder_position_table))
        elif module is self.encoder_to_decoder:
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))  # torch's default, as in the paper's code
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Tensor | None = None,
        bool_decoder_masked_pos: Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> VideoMAEForPreTrainingOutput:
        """Mask, encode and decode clips, and compare with the masked pixels.

        Args:
            pixel_values: (B, T, C, H, W), normalized by `config.image_mean` and `config.image_std`.
            bool_masked_pos: (B, N) bool, True = masked, the same count in every clip. None: drawn by the config
                (`mask_type`, `mask_ratio`).
            bool_decoder_masked_pos: (B, N) bool, True = not decoded. None: drawn if the config sets
                `decoder_mask_type`.
            generator: for masks that are drawn; not under `torch.compile`, which cannot take one: draw the masks
                outside with `hf_videomae.ops.masking`.
            return_loss: unused. If it exists, stock `Trainer` shows an `eval_loss` without `label_names`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            VideoMAEForPreTrainingOutput. With a decoder mask the loss is the mean over tokens decoded and masked.

        Raises:
            ValueError: for clips or masks of the wrong shape, or masks with unequal counts.
        """
        config, device, grid = self.config, pixel_values.device, self.videomae.clip_grid(pixel_values)
        options: dict[str, Any] = {"batch_size": pixel_values.shape[0], "generator": generator, "device": device}
        mask, decoder_mask, weight = bool_masked_pos, bool_decoder_masked_pos, None
        if mask is None:
            mask = make_mask(config.mask_type, grid, config.mask_ratio, **options)
        if decoder_mask is None and config.decoder_mask_type is not None:
            decoder_mask = make_mask(config.decoder_mask_type, grid, config.decoder_mask_ratio, **options)
        indices = functools.partial(mask_indices, clips=pixel_values, grid=grid)
        mask = mask.to(device)
        visible, decoded = indices(mask, expected=(config.mask_type, config.mask_ratio))
        if decoder_mask is not None:
            expected = (config.decoder_mask_type, config.decoder_mask_ratio)
            decoder_mask = decoder_mask.to(device)
            decoded, _ = indices(decoder_mask, name="bool_decoder_masked_pos", expected=expected)
            weight = mask.gather(1, decoded)

        outputs = self.videomae(pixel_values, visible_index=visible, **{**kwargs, "return_dict": True})
        logits = self._decode(outputs.last_hidden_state, grid, visible, decoded)  # (B, K, P * C)
        targets = self.targets(pixel_values, decoded)
        return VideoMAEForPreTrainingOutput(
            loss=reconstruction_loss(logits, targets, kind=config.reconstruction_loss, weight=weight),
            logits=logits,
            bool_masked_pos=mask,
            bool_decoder_masked_pos=decoder_mask,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def targets(self, pixel_values: Tensor, index: Tensor) -> Tensor:
        """Return the pixels to predict at some tokens: (B, T, C, H, W) and (B, K) -> (B, K, P * C) float32."""
        config = self.config
        cubes = gather_patches(pixel_values, config.cube, index)
        mean, std = config.image_mean or (), config.image_std or ()
        return pixel_targets(cubes, mean=mean, std=std, normalize=config.norm_pix_loss)

    def _decode(self, visible_tokens: Tensor, grid: Grid, visible: Tensor, decoded: Tensor) -> Tensor:
        """Decode [visible + position | mask token + position], and return the last tokens: the pixels to predict."""
        tokens = self.encoder_to_decoder(visible_tokens)  # (B, V, decoder D)
        table = interpolate_positions(self.decoder_position_table, source=self.config.table_grid, target=grid)
        table = table.to(tokens.dtype)
        hidden = torch.cat((tokens + table[visible], self.mask_token.to(tokens.dtype) + table[decoded]), dim=1)
        return self.decoder(hidden, decoded.shape[1])


class VideoMAEForVideoClassification(VideoMAEPreTrainedModel):
    """A classifier: the mean of all tokens, `fc_norm`, a linear head (paper, appendix; its released code)."""

    auto_class = "AutoModelForVideoClassification"
    _allowed_unexpected_keys = (*_DECODER_KEYS, r"layernorm\.", *_HEAD_KEYS)
    _allowed_missing_keys = _CLASSIFIER_KEYS

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.videomae = VideoMAEModel(config)
        self.fc_norm = None
        if config.use_mean_pooling:
            self.fc_norm = LayerNorm(config.hidden_size, eps=config.final_layer_norm_eps)
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Load strictly. A checkpoint without a classifier gets the paper's: mean pooling and a fresh `fc_norm`.

        Published pre-training configurations say `use_mean_pooling: false`, with which a new classifier would read
        token 0 alone. A checkpoint that holds a classifier keeps its own pooling.
        """
        model, info = load_with_mean_pooling(super().from_pretrained, pretrained_model_name_or_path, args, kwargs)
        return (model, info) if output_loading_info else model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.classifier and isinstance(module, nn.Linear):
            init.normal_(module.weight, std=self.config.initializer_range * self.config.head_init_scale)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        """Classify clips.

        Args:
            pixel_values: (B, T, C, H, W), normalized.
            labels: (B,) classes, or (B, K) soft targets; see `hf_videomae.ops.losses.classification_loss`.
            num_items_in_batch: number of labels in all batches of an optimizer step; the loss is then this batch's
                part of their mean. None, as in stock `Trainer`: the mean of this batch.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `logits` (B, K), `loss` if labels are given, `hidden_states` and `attentions` if asked for.
        """
        outputs = self.videomae(pixel_values, **{**kwargs, "return_dict": True})
        tokens = outputs.last_hidden_state  # (B, N, D)
        pooled = tokens[:, 0] if self.fc_norm is None else self.fc_norm(tokens.mean(1))
        logits = self.classifier(self.dropout(pooled))
        loss = None
        if labels is not None:
            kind, labels = self.config.problem_type, labels.to(logits.device)
            loss = classification_loss(logits, labels, problem_type=kind, num_items=num_items_in_batch)
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def _sinusoid_like(table: Tensor) -> Tensor:
    return sinusoid_table(table.shape[0], table.shape[1], device=table.device)


__all__ = ["VideoMAEForPreTraining", "VideoMAEForVideoClassification", "VideoMAEModel", "VideoMAEPreTrainedModel"]
