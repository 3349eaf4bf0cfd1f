"""Masked pre-training as a task for the run engine: its recipe, model, data settings, loss and pictures."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..configuration_videomae import PRESETS, VideoMAEConfig
from ..console import log_main
from ..errors import RunError
from ..hub.download import download_model
from ..run_files import read_json
from .lineage_record import collect_run_metadata
from .recipe import RunRecipe, option
from .run_setup import Batch

if TYPE_CHECKING:
    from ..data import ClipConfig
    from ..data.source import AnyData
    from ..modeling_videomae import VideoMAEForPreTraining
    from ..video_processing_videomae import VideoMAEVideoProcessor

_NUM_PREVIEW_CLIPS = 3
"""Clips of which a picture is made."""

MaskType = Literal["tube", "random", "frame", "running_cell"]

# What the paper's code pre-trains with, and what suits the tiny preset, where a recipe leaves it open.
_PAPER_DEFAULTS = {"base_lr": 1.5e-4, "frame_stride": 4}
_TINY_DEFAULTS = {"base_lr": 1.2e-2, "frame_stride": 2, "max_steps": 1700}
_CONFIG_FIELDS = (
    "num_frames",
    "image_size",
    "mask_type",
    "mask_ratio",
    "decoder_mask_type",
    "decoder_mask_ratio",
    "reconstruction_loss",
    "norm_pix_loss",
)


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(RunRecipe):
    """Settings of a pre-training run. What is None is left to the model: its preset or its checkpoint."""

    task: ClassVar[str] = "pretrain"

    mask_type: MaskType | None = option(None, "which tokens are hidden (paper: tube)", group="masking")
    mask_ratio: float | None = option(None, "share of hidden tokens (paper: 0.9)", group="masking")
    decoder_mask_type: MaskType | None = option(
        None, "which tokens are not decoded (VideoMAE V2: running_cell)", group="masking"
    )
    decoder_mask_ratio: float | None = option(None, "share of tokens that are not decoded (V2: 0.5)", group="masking")
    reconstruction_loss: Literal["mse", "l1", "smooth_l1"] | None = option(
        None, "distance to the hidden pixels", group="masking"
    )
    norm_pix_loss: bool | None = option(
        None, "targets normalised per cube: true or false (paper: true)", group="masking"
    )
    decoder_layers: int | None = option(None, "depth of the decoder (default: the preset's)", group="model")
    decoder_width: int | None = option(None, "width of the decoder (default: the preset's)", group="model")
    new_decoder: bool = option(False, "start from a checkpoint that holds an encoder alone", group="model")
    clips_per_video: int = option(
        1,
        "clips with starts of their own from each video, which is read once; not counted in the batch",
        group="data",
    )
    num_sample: int = option(
        1,
        "clips made of each decoded video, with other crops and masks (V2: 4); not counted",
        group="data",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("clips_per_video", "num_sample"):
            if getattr(self, name) < 1:
                raise RunError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("mask_ratio", "decoder_mask_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise RunError(f"{name} is {value}; give a share between 0 and 1, e.g. 0.9")
        for name, value in (_TINY_DEFAULTS if self.model == "tiny" else _PAPER_DEFAULTS).items():
            if getattr(self, name) is None and not (name == "max_steps" and self.epochs is not None):
                object.__setattr__(self, name, value)

    def config_fields(self) -> dict[str, Any]:
        """The fields of `VideoMAEConfig` that the recipe sets."""
        fields = {name: getattr(self, name) for name in _CONFIG_FIELDS if getattr(self, name) is not None}
        if self.drop_path is not None:
            fields["drop_path_rate"] = self.drop_path
        if self.decoder_layers is not None:
            fields["decoder_num_hidden_layers"] = self.decoder_layers
        if self.decoder_width is not None:
            fields |= {"decoder_hidden_size": self.decoder_width, "decoder_intermediate_size": 4 * self.decoder_width}
        return fields


def build_pretraining_model(recipe: PretrainRecipe, resume: Path | None = None) -> "VideoMAEForPreTraining":
    """The model that the recipe names: a preset with fresh weights, a checkpoint, or that of the resumed run.

    Raises:
        RunError: for a name that is neither a preset nor a checkpoint.
        ValueError: for a checkpoint of another model, or settings that do not fit it.
    """
    from ..modeling_videomae import VideoMAEForPreTraining

    fields = recipe.config_fields()
    if resume is None and recipe.model in PRESETS:
        model = VideoMAEForPreTraining(VideoMAEConfig.from_preset(recipe.model, task="pretraining", **fields))
    else:
        source = str(resume or check_model_name(recipe.model))
        options = {"new_decoder": True} if recipe.new_decoder and resume is None else {}
        model = VideoMAEForPreTraining.from_pretrained(source, dtype=torch.float32, **options, **fields)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def check_model_name(name: str) -> str:
    """`--model` where it is no preset: a local checkpoint of a VideoMAE, or what can be a name on the Hub.

    Raises:
        RunError: for anything else.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise RunError(
                f"--model {name}: the directory holds no config.json, so no checkpoint; "
                f"give one that save_pretrained wrote"
            )
        remedy = "give a directory that save_pretrained wrote"
        found = read_json(folder / "config.json", remedy=remedy, kind=RunError).get("model_type")
        if found != "videomae":
            raise RunError(f"--model {name}: this is a checkpoint of another model ({found}), not of VideoMAE")
    elif "/" not in name or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise RunError(f"--model {name}: neither a preset ({', '.join(PRESETS)}) nor a directory nor org/name")
    else:
        download_model(name)
    return name


def build_pretrain_clip_config(
    recipe: PretrainRecipe, config: VideoMAEConfig, source: "AnyData | None" = None
) -> "ClipConfig":
    """How the loader makes clips and masks for a model: masks are drawn there, so that the step compiles.

    Args:
        recipe: of the run.
        config: of the model.
        source: the data; needed where the data sets of a mix have strides of their own.
    """
    from ..data import ClipConfig

    assert recipe.frame_stride is not None  # the recipe fills it in
    augment = recipe.augment or "multi_scale_crop"
    return ClipConfig.from_config(
        config,
        stride=recipe.frame_stride,
        set_strides=set_strides(recipe, source),
        frame_seconds=recipe.frame_seconds,
        augment=augment,
        flip=recipe.flip,
        clips_per_video=recipe.clips_per_video,
        num_sample=recipe.num_sample,
    )


def set_strides(recipe: RunRecipe, source: "AnyData | None") -> tuple[tuple[str, int], ...]:
    """Return (name, stride) of each data set of a mix, where the recipe gives them strides of their own."""
    if recipe.dataset_strides is None:
        return ()
    names = [part.name for part in getattr(source, "parts", [source]) if part is not None]
    assert len(names) == len(recipe.dataset_strides), "the recipe checks it"
    return tuple(zip(names, recipe.dataset_strides, strict=True))


class PretrainTask:
    """Reconstruct hidden cubes.

    Args:
        recipe: of the run.
        model: the bare model, as it is saved.
        source: the data, for `run.json`.
    """

    name = PretrainRecipe.task
    baseline_name = "predict the mean of each cube"

    def __init__(self, recipe: PretrainRecipe, *, model: "VideoMAEForPreTraining", source: "AnyData") -> None:
        self.recipe, self.model, self.source = recipe, model, source
        self.processor = build_processor(recipe, model.config)
        self._last_batch: Batch | None = None

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean over hidden (and, with a decoder mask, decoded) pixels."""
        self._last_batch = batch
        masks = {name: batch[name] for name in ("bool_masked_pos", "bool_decoder_masked_pos") if name in batch}
        loss: Tensor = model(batch["pixel_values"], **masks, return_dict=True).loss
        return loss

    @torch.no_grad()
    def baseline(self, batch: Batch) -> float:
        """The loss of predicting every hidden cube's mean colour: about 1 with normalised targets and MSE."""
        from ..ops.losses import reconstruction_loss

        channels = self.model.config.num_channels
        mask = batch["bool_masked_pos"]
        index = mask.nonzero()[:, 1].view(mask.shape[0], -1)  # (B, M)
        target = self.model.targets(batch["pixel_values"], index)  # (B, M, P * C), channels last
        mean = target.unflatten(-1, (-1, channels)).mean(-2, keepdim=True)
        prediction = mean.expand(-1, -1, target.shape[-1] // channels, -1).flatten(-2)
        return float(reconstruction_loss(prediction, target, kind=self.model.config.reconstruction_loss))

    def save(self, folder: Path) -> None:
        """Model and processor, as `from_pretrained` reads them."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def run_metadata(self) -> dict[str, Any]:
        """Recipe, data and parents for `run.json`."""
        return self._run_metadata

    @cached_property
    def _run_metadata(self) -> dict[str, Any]:
        return collect_run_metadata(self.recipe, config=self.model.config, source=self.source)

    def finalize_output(self, output_dir: Path) -> list[str]:
        """Strips and animations of original, masked and reconstructed frames, of clips of the last batch."""
        if self._last_batch is None:
            return []
        from ..inference import reconstruct, save_reconstruction

        clips, masks = (self._last_batch[name][:_NUM_PREVIEW_CLIPS] for name in ("pixel_values", "bool_masked_pos"))
        result = reconstruct(self.model, clips, bool_masked_pos=masks)
        stem = output_dir / "reconstruction"
        written = [save_reconstruction(result, f"{stem}-{number + 1}", sample=number) for number in range(len(clips))]
        return [str(path) for paths in written for path in paths]


def build_processor(recipe: RunRecipe, config: VideoMAEConfig) -> "VideoMAEVideoProcessor":
    """The processor that is saved beside the model: its size, frames, stride, mean and standard deviation."""
    from ..video_processing_videomae import VideoMAEVideoProcessor

    return VideoMAEVideoProcessor.from_config(
        config, frame_stride=recipe.frame_stride, frame_seconds=recipe.frame_seconds
    )


def log_data_summary(source: "AnyData", *, processes: int) -> None:
    """The data, what an epoch of it is, and who reads which shards, where there is something to say."""
    from ..data import describe_epoch, describe_shards, describe_source, source_notes

    for line in (describe_source(source), describe_epoch(source), *describe_shards(source, processes=processes)):
        if line is not None:
            log_main(line)
    for note in source_notes(source):
        log_main(f"note: {note}")


def log_pretrain_summary(
    recipe: RunRecipe, *, model: "VideoMAEForPreTraining", source: "AnyData", processes: int = 1
) -> None:
    """What is trained on what, a line each."""
    log_data_summary(source, processes=processes)
    config = model.config
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    height, width = config.image_height_width
    apart = f"stride {recipe.frame_stride}" if recipe.frame_seconds is None else f"{recipe.frame_seconds:g} s apart"
    if recipe.dataset_strides is not None:
        apart = ", ".join(f"stride {stride} in {name}" for name, stride in set_strides(recipe, source))
    log_main(
        f"{recipe.model}: {millions:.1f} million parameters, clips of {config.num_frames} frames, "
        f"{height} x {width} pixels, {apart}, {config.mask_type} mask {config.mask_ratio:g}"
    )
