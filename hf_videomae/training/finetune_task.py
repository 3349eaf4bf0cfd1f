"""Define fine-tuning as a task of the trainer: its clips, targets and loss (paper, appendix; its code)."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..configuration_videomae import PRESETS, VideoMAEConfig
from ..console import log_main
from ..data import ClipConfig, LabelEncoder
from ..data.folder import FolderSource
from .ema import EMA
from .finetune_model import TRAINED_WEIGHTS_FILE, load_trainable, merge_lora, save_trainable, trainable_parameters
from .finetune_recipe import FinetuneRecipe
from .mixup import smooth_targets
from .run_summary import log_data_summary
from .task import Batch, VideoMAETask

if TYPE_CHECKING:
    from ..data.source import AnyData

_DIRECTION_WORDS = re.compile(r"(?<![a-z])(left|right|(anti|counter)?clockwise)(?![a-z])")
_MAX_SHOWN_CLASSES = 3


# The data.


def build_finetune_clip_config(
    recipe: FinetuneRecipe,
    config: VideoMAEConfig,
    *,
    class_names: list[str] | None,
    stride: int,
    source: "AnyData | None" = None,
) -> ClipConfig:
    """Return how the loader makes clips.

    Args:
        recipe: settings of the run.
        config: configuration of the model.
        class_names: classes of the data.
        stride: from `resolve_frame_stride`.
        source: the data; needed if the datasets of a mix have different strides.
    """
    return ClipConfig.from_config(
        config,
        masks=False,
        stride=stride,
        set_strides=recipe.strides_by_dataset(source),
        sampling=recipe.sampling,
        front_pad=recipe.front_pad,
        frame_seconds=recipe.frame_seconds,
        augment=recipe.augment or "finetune",
        flip=0.0 if has_directional_classes(class_names) else recipe.flip,
        rand_augment=recipe.rand_augment,
        crop_scale=recipe.crop_scale,
        erasing=recipe.reprob,
        clips_per_video=recipe.clips_per_video,
        num_sample=recipe.num_sample,
    )


def resolve_frame_stride(recipe: FinetuneRecipe, resume: Path | None = None) -> int:
    """Return the frame stride of the recipe, or the one that the checkpoint was trained with, or 4."""
    if recipe.frame_stride is not None or (resume is None and recipe.model in PRESETS):
        return recipe.frame_stride or 4
    from ..inference.model_loading import load_saved_processor

    source = str(resume or recipe.model)
    processor = load_saved_processor(source)
    if processor is None:
        log_main(f"note: {source} has no processor; clips are taken with a stride of 4 (--frame_stride)")
        return 4
    if recipe.frame_seconds is None and processor.frame_seconds is not None:
        log_main(f"note: {source} was trained on frames {processor.frame_seconds:g} s apart (--frame_seconds)")
    stride: int = processor.frame_stride
    return stride


def has_directional_classes(class_names: list[str] | None) -> bool:
    """Return whether a class names left, right or a direction of rotation, so that a flip would change the class."""
    return any(_DIRECTION_WORDS.search(name.lower().replace("_", " ")) for name in class_names or ())


def build_label_encoder(recipe: FinetuneRecipe, class_names: list[str] | None) -> LabelEncoder:
    """Return how the loader encodes the labels of a batch."""
    return LabelEncoder(kind=recipe.problem_type, num_classes=len(class_names or [""]))


# The task.


class FinetuneTask(VideoMAETask):
    """Classify clips, or predict a number.

    Args:
        recipe: settings of the run.
        model: from `build_classifier`; it is saved.
        source: the data.
        stride: frame stride of the processor that is saved with the model.
        resume: from `resolve_resume_checkpoint`.
    """

    name = FinetuneRecipe.task

    def __init__(
        self, recipe: FinetuneRecipe, *, model: Any, source: "AnyData", stride: int = 4, resume: Path | None = None
    ) -> None:
        super().__init__(recipe, model=model, source=source, frame_stride=stride, sampling_mode=recipe.sampling)
        self.mixup_cutmix = recipe.mixup_cutmix
        self.num_labels: int = model.config.num_labels
        # A head that was kept may have the classes in another order.
        self._class_indices = torch.tensor([model.config.label2id[name] for name in source.class_names or ()])
        self._uniform_loss = {
            "single_label_classification": math.log(self.num_labels),
            "multi_label_classification": math.log(2),
        }.get(recipe.problem_type)
        self.baseline_name = None if self._uniform_loss is None else "give every class the same chance"
        self.ema: EMA | None = None
        self._resume = resume

    def targets(self, labels: Tensor) -> Tensor:
        """Return (B, K) targets for the labels of a batch; for a regression (B,) values."""
        if self.recipe.problem_type == "regression":
            return labels.float()
        class_indices = self._class_indices.to(labels.device)
        if self.recipe.problem_type == "multi_label_classification":
            targets = labels.new_zeros(len(labels), self.num_labels)
            return targets.index_copy(1, class_indices, labels)
        return smooth_targets(
            class_indices[labels], num_classes=self.num_labels, smoothing=self.recipe.label_smoothing
        )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over the clips of a batch, mixed and with smoothed targets."""
        clips, targets = batch["pixel_values"], self.targets(batch["labels"])
        if self.mixup_cutmix is not None:
            clips, targets = self.mixup_cutmix(clips, targets)
        loss: Tensor = model(clips, labels=targets, return_dict=True).loss
        return loss

    def baseline(self, batch: Batch) -> float | None:
        """Return the loss of equal chances: ln K, or ln 2 if a video may have several classes; None for regression."""
        return self._uniform_loss

    def attach_ema(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the weights after every step of the optimizer, if the recipe says so.

        Call it after the trainer is built: only then are the weights on their device and equal in all processes.
        """
        if self.recipe.ema_decay is None:
            return
        ema = EMA(self.model, decay=self.recipe.ema_decay)
        if self._resume is not None:
            ema.load(load_trainable(self._resume, "average"))
        optimizer.register_step_post_hook(lambda *_: ema.update())
        self.ema = ema

    @contextmanager
    def inference_model(self) -> Iterator[nn.Module]:
        """Yield the classifier with the weights that are saved: averaged, if the recipe says so."""
        with nullcontext() if self.ema is None else self.ema.average_parameters():
            yield self.model.get_base_model() if self.recipe.lora_rank is not None else self.model

    def save(self, folder: Path) -> None:
        """Write model and processor, as `from_pretrained` reads them: weights averaged and LoRA merged, if used.

        The trained weights that a resumed run needs go into a separate file then.
        """
        if self.ema is not None or self.recipe.lora_rank is not None:
            average = {} if self.ema is None else self.ema.tensors
            save_trainable(folder, weights=trainable_parameters(self.model), average=average)
        with self.inference_model():
            merge_lora(self.model).save_pretrained(folder)
        self.processor.save_pretrained(folder)

    @cached_property
    def _run_metadata(self) -> dict[str, Any]:
        run_metadata = super()._run_metadata
        return {**run_metadata, "data": {**run_metadata["data"], "classes": self.source.class_names}}

    def finalize_output(self, output_dir: Path) -> list[str]:
        """Remove the trained weights next to the final model: only checkpoints need them."""
        (output_dir / TRAINED_WEIGHTS_FILE).unlink(missing_ok=True)
        return []


def log_finetune_summary(
    recipe: FinetuneRecipe, *, model: Any, source: "AnyData", settings: ClipConfig, processes: int = 1
) -> None:
    """Print the data, the model, and where the run deviates from the recipe, one line each."""
    log_data_summary(source, processes=processes)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) / 1e6
    num_parameters = f"{millions:.1f} million parameters" + (f" ({trained:.2f} trained)" if trained < millions else "")
    height, width = settings.size
    if recipe.sampling == "uniform":
        frames = "one of each segment"
    elif settings.frame_seconds is not None:
        frames = f"{settings.frame_seconds:g} s apart"
    elif settings.set_strides:
        frames = ", ".join(f"stride {stride} in {name}" for name, stride in settings.set_strides)
    else:
        frames = f"stride {settings.stride}"
    clips = settings.clips_per_video * settings.num_sample
    log_main(
        f"{recipe.model}: {num_parameters}, clips of {settings.num_frames} frames, "
        f"{height} x {width} pixels, {frames}, {clips} of each video, layer decay {recipe.layer_decay:g}"
    )
    if recipe.flip and not settings.flip:
        log_main("note: the class names contain left or right, so clips are not flipped")
    if settings.frame_seconds is not None:
        log_main(f"note: the saved processor uses a stride of {settings.stride} frames, whatever the frame rate")
    if recipe.problem_type == "regression" and (recipe.mixup or recipe.cutmix or recipe.label_smoothing):
        log_main("note: regression uses neither mixup, cutmix nor label smoothing")
    _warn_single_video_classes(source)


def _warn_single_video_classes(source: "AnyData") -> None:
    if not isinstance(source, FolderSource) or source.class_names is None:
        return
    counts: Counter[object] = Counter()
    for label in source.labels or ():
        counts.update(label if isinstance(label, tuple) else (label,))
    single = [name for number, name in enumerate(source.class_names) if counts[number] == 1]
    if single:
        shown = ", ".join(single[:_MAX_SHOWN_CLASSES]) + (" and more" if len(single) > _MAX_SHOWN_CLASSES else "")
        log_main(f"warning: {len(single)} of {len(source.class_names)} classes have a single video: {shown}")
