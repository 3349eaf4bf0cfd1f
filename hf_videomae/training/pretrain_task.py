"""Define masked pre-training as a task of the trainer: its model, clips, loss and preview images."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..configuration_videomae import VideoMAEConfig
from ..console import log_main
from .model_source import build_model
from .pretrain_recipe import PretrainRecipe
from .run_summary import log_data_summary
from .task import Batch, VideoMAETask

if TYPE_CHECKING:
    from ..data import ClipConfig
    from ..data.source import AnyData
    from ..modeling_videomae import VideoMAEForPreTraining

_NUM_PREVIEW_CLIPS = 3


def build_pretraining_model(recipe: PretrainRecipe, resume: Path | None = None) -> "VideoMAEForPreTraining":
    """Return the model of the recipe, as `build_model` does."""
    from ..modeling_videomae import VideoMAEForPreTraining

    model: VideoMAEForPreTraining = build_model(
        VideoMAEForPreTraining, recipe, resume, fields=recipe.config_fields(), new_decoder=recipe.new_decoder
    )
    return model


def build_pretrain_clip_config(
    recipe: PretrainRecipe, config: VideoMAEConfig, source: "AnyData | None" = None
) -> "ClipConfig":
    """Return how the loader makes clips and masks. Masks are drawn in the loader, so that the step compiles.

    Args:
        recipe: settings of the run.
        config: configuration of the model.
        source: the data; needed if the datasets of a mix have different strides.
    """
    from ..data import ClipConfig

    assert recipe.frame_stride is not None  # the recipe fills it in
    return ClipConfig.from_config(
        config,
        stride=recipe.frame_stride,
        set_strides=recipe.strides_by_dataset(source),
        frame_seconds=recipe.frame_seconds,
        augment=recipe.augment or "multi_scale_crop",
        flip=recipe.flip,
        clips_per_video=recipe.clips_per_video,
        num_sample=recipe.num_sample,
    )


class PretrainTask(VideoMAETask):
    """Reconstruct masked cubes."""

    name = PretrainRecipe.task
    baseline_name = "predict the mean of each cube"
    _last_batch: Batch | None = None

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over masked (and, with a decoder mask, decoded) pixels."""
        self._last_batch = batch
        masks = {name: batch[name] for name in ("bool_masked_pos", "bool_decoder_masked_pos") if name in batch}
        loss: Tensor = model(batch["pixel_values"], **masks, return_dict=True).loss
        return loss

    @torch.no_grad()
    def baseline(self, batch: Batch) -> float:
        """Return the loss of predicting the mean color of each masked cube: about 1 for normalized targets, MSE."""
        from ..ops.losses import reconstruction_loss

        channels = self.model.config.num_channels
        mask = batch["bool_masked_pos"]
        index = mask.nonzero()[:, 1].view(mask.shape[0], -1)  # (B, M)
        target = self.model.targets(batch["pixel_values"], index)  # (B, M, P * C), channels last
        mean = target.unflatten(-1, (-1, channels)).mean(-2, keepdim=True)
        prediction = mean.expand(-1, -1, target.shape[-1] // channels, -1).flatten(-2)
        return float(reconstruction_loss(prediction, target, kind=self.model.config.reconstruction_loss))

    def finalize_output(self, output_dir: Path) -> list[str]:
        """Write strips and animations of original, masked and reconstructed frames; return their paths."""
        if self._last_batch is None:
            return []
        from ..inference import reconstruct, save_reconstruction

        clips, masks = (self._last_batch[name][:_NUM_PREVIEW_CLIPS] for name in ("pixel_values", "bool_masked_pos"))
        result = reconstruct(self.model, clips, bool_masked_pos=masks)
        stem = output_dir / "reconstruction"
        written = [save_reconstruction(result, f"{stem}-{number + 1}", sample=number) for number in range(len(clips))]
        return [str(path) for paths in written for path in paths]


def log_pretrain_summary(
    recipe: PretrainRecipe, *, model: "VideoMAEForPreTraining", source: "AnyData", processes: int = 1
) -> None:
    """Print the data and the model, one line each."""
    log_data_summary(source, processes=processes)
    config = model.config
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    height, width = config.image_height_width
    spacing = f"stride {recipe.frame_stride}" if recipe.frame_seconds is None else f"{recipe.frame_seconds:g} s apart"
    if recipe.dataset_strides is not None:
        spacing = ", ".join(f"stride {stride} in {name}" for name, stride in recipe.strides_by_dataset(source))
    log_main(
        f"{recipe.model}: {millions:.1f} million parameters, clips of {config.num_frames} frames, "
        f"{height} x {width} pixels, {spacing}, {config.mask_type} mask {config.mask_ratio:g}"
    )
