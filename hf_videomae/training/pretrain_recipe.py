"""Define the settings of a pre-training run."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..ops.masking import MaskType
from .recipe import RecipeError, RunRecipe, check_at_least, option

# Defaults of the paper's code, and those that suit the tiny preset.
_PAPER_DEFAULTS = {"base_lr": 1.5e-4, "frame_stride": 4}
_TINY_DEFAULTS = {"base_lr": 1.2e-2, "frame_stride": 2, "max_steps": 1700}
_MASKING_FIELDS = (
    "mask_type",
    "mask_ratio",
    "decoder_mask_type",
    "decoder_mask_ratio",
    "reconstruction_loss",
    "norm_pix_loss",
)


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(RunRecipe):
    """The settings of a pre-training run. None leaves a setting to the model: its preset or its checkpoint."""

    task: ClassVar[str] = "pretrain"
    config_names: ClassVar[tuple[str, ...]] = (*RunRecipe.config_names, *_MASKING_FIELDS)

    mask_type: MaskType | None = option(None, "which tokens are masked (paper: tube)", group="masking")
    mask_ratio: float | None = option(None, "fraction of tokens that are masked (paper: 0.9)", group="masking")
    decoder_mask_type: MaskType | None = option(
        None, "which tokens are not decoded (VideoMAE V2: running_cell)", group="masking"
    )
    decoder_mask_ratio: float | None = option(
        None, "fraction of tokens that are not decoded (V2: 0.5)", group="masking"
    )
    reconstruction_loss: Literal["mse", "l1", "smooth_l1"] | None = option(
        None, "distance to the masked pixels", group="masking"
    )
    norm_pix_loss: bool | None = option(
        None, "normalize the targets of each cube: true or false (paper: true)", group="masking"
    )
    decoder_layers: int | None = option(None, "depth of the decoder (default: the preset's)", group="model")
    decoder_width: int | None = option(None, "width of the decoder (default: the preset's)", group="model")
    new_decoder: bool = option(False, "start from a checkpoint that holds only an encoder", group="model")
    clips_per_video: int = option(
        1, "clips with different starts from each video, which is read once; not counted in the batch", group="data"
    )
    num_sample: int = option(
        1,
        "clips made of each decoded video, with different crops and masks (V2: 4); not counted in the batch",
        group="data",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "clips_per_video", "num_sample")
        for name in ("mask_ratio", "decoder_mask_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise RecipeError(f"{name} is {value}; give a fraction between 0 and 1, e.g. 0.9")
        self._fill_defaults(_TINY_DEFAULTS if self.model == "tiny" else _PAPER_DEFAULTS)

    def config_fields(self) -> dict[str, Any]:
        """Return the fields of `VideoMAEConfig` that the recipe sets."""
        fields = super().config_fields()
        if self.decoder_layers is not None:
            fields["decoder_num_hidden_layers"] = self.decoder_layers
        if self.decoder_width is not None:
            fields |= {"decoder_hidden_size": self.decoder_width, "decoder_intermediate_size": 4 * self.decoder_width}
        return fields
