"""Fine-tuning as a task for the run engine: its recipe, data, targets and loss (paper, appendix; its code)."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..configuration_videomae import PRESETS, VideoMAEConfig
from ..console import log_main
from ..data import ClipConfig, LabelEncoder, LabelKind
from ..data.folder import FolderSource
from ..video.randaugment import RandAugment
from .classifier_head import (
    TRAINED_WEIGHTS_FILE,
    build_classifier,
    layer_decay_scales,
    load_trainable,
    merge_lora,
    save_trainable,
    trainable_parameters,
)
from .ema import EMA
from .lineage_record import collect_run_metadata
from .mixup import MixupCutmix, smooth_targets
from .pretrain_task import log_data_summary, set_strides
from .recipe import RecipeError, RunRecipe, option
from .run_setup import Batch

if TYPE_CHECKING:
    from ..data.source import AnyData
    from ..video_processing_videomae import VideoMAEVideoProcessor

_PAPER_DEFAULTS = {"base_lr": 5e-4}
_TINY_DEFAULTS = {"base_lr": 8e-3, "frame_stride": 2, "max_steps": 400}
_DIRECTION_WORDS = re.compile(r"(?<![a-z])(left|right|(anti|counter)?clockwise)(?![a-z])")
_MAX_SHOWN_CLASSES = 3


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(RunRecipe):
    """Settings of a fine-tuning run; the defaults are the paper's."""

    task: ClassVar[str] = "finetune"

    problem_type: LabelKind = option(
        "single_label_classification", "one class per video, several (separated by |), or a number", group="data"
    )
    sampling: Literal["dense", "uniform"] = option(
        "dense", "frames over a window of the stride (Kinetics), or one from each segment (SSV2)", group="data"
    )
    front_pad: bool = option(
        False,
        "uniform clips of videos with fewer frames than the clip: the first frame repeated, then each once (VideoMAE "
        "V2); otherwise the first frame alone (VideoMAE)",
        group="data",
    )
    flip: float = option(
        0.5, "probability of a flip of the clip; off where the classes tell left from right", group="data"
    )
    rand_augment: str | None = option(
        "rand-m7-n4-mstd0.5-inc1", "RandAugment, the same for all frames of a clip; none: off", group="data"
    )
    crop_scale: tuple[float, float] = option((0.08, 1.0), "bounds of the crop's share of the frame", group="data")
    reprob: float = option(0.25, "probability of erasing a box, the same in all frames", group="data")
    clips_per_video: int = option(
        1,
        "clips with starts of their own from each video, which is read once (not counted in the batch)",
        group="data",
    )
    num_sample: int = option(2, "clips made of each decoded video (not counted in the batch)", group="data")
    mixup: float = option(0.8, "alpha of mixup, 0: off", group="data")
    cutmix: float = option(1.0, "alpha of cutmix, 0: off", group="data")
    mix_prob: float = option(1.0, "probability of mixing a batch", group="data")
    mix_switch_prob: float = option(0.5, "share of cutmix among the mixed batches", group="data")
    label_smoothing: float = option(0.1, "share of each target spread over all classes", group="data")

    head: Literal["auto", "new", "keep", "pick"] = option(
        "auto",
        "a checkpoint's classifier: kept where the classes are the same (auto), dropped (new), kept, or the rows of "
        "the data's classes picked by name (pick: Kinetics-710 to 400 or 600)",
        group="model",
    )
    head_dropout: float = option(0.0, "dropout before the classifier", group="model")
    drop_path: float | None = option(0.1, "stochastic depth of the last layer", group="model")
    freeze: str | None = option(
        None, "layers that stay as they are: a number (and the embedding), or encoder", group="model"
    )
    lora_rank: int | None = option(None, "train low-rank adapters of this rank and the head alone", group="model")
    lora_alpha: float = option(16.0, "scale of the adapters: they count alpha / rank", group="model")

    betas: tuple[float, float] = option((0.9, 0.999), "of AdamW", group="optimization")
    min_lr: float = option(1e-6, "floor of the cosine for 256 clips per step; scaled too", group="optimization")
    layer_decay: float = option(0.75, "factor on the learning rate per layer, from the top down", group="optimization")
    ema_decay: float | None = option(
        None, "average the weights, e.g. 0.9999; the average is saved and evaluated", group="optimization"
    )

    test_dataset: str | None = option(
        None, "data set of --test_split (default: --dataset)", group="evaluation", affects_numerics=False
    )
    test_split: str | None = option(
        None, "split to validate on, and to test the saved model on", group="evaluation", affects_numerics=False
    )
    eval_every: int | None = option(
        None,
        "steps between two validations (default: after the last step alone)",
        group="evaluation",
        affects_numerics=False,
    )
    eval_views: str = option(
        "1x1", "clips x crops of each video in a validation", group="evaluation", affects_numerics=False
    )
    views: str = option("5x3", "clips x crops of each video in the test", group="evaluation", affects_numerics=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reprob", "mix_prob", "mix_switch_prob", "label_smoothing", "head_dropout", "drop_path"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise RecipeError(f"{name} is {value}, but it is a share; give a number from 0 to 1")
        for name in ("mixup", "cutmix", "lora_alpha"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"{name} is {getattr(self, name)}; give a number of 0 or more")
        if not 0 < self.layer_decay <= 1:
            raise RecipeError(f"layer_decay is {self.layer_decay}; give a factor above 0, 1 for none")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise RecipeError(f"ema_decay is {self.ema_decay}; give a number from 0 to below 1, e.g. 0.9999")
        self._check_data_options()
        self._check_model_options()
        for name, value in (_TINY_DEFAULTS if self.model == "tiny" else _PAPER_DEFAULTS).items():
            if getattr(self, name) is None and not (name == "max_steps" and self.epochs is not None):
                object.__setattr__(self, name, value)

    def _check_data_options(self) -> None:
        for name in ("clips_per_video", "num_sample"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.sampling == "uniform" and self.dataset_strides is not None:
            raise RecipeError("dataset_strides are of dense clips, and sampling is uniform; leave them out")
        if self.sampling == "dense" and self.front_pad:
            raise RecipeError("front_pad is for uniform clips, and sampling is dense; leave it out")
        if self.rand_augment is not None:
            try:
                RandAugment.parse(self.rand_augment)
            except ValueError as error:
                raise RecipeError(f"rand_augment: {error}") from None
        for name in ("views", "eval_views"):
            if re.fullmatch(r"[1-9]\d*x[1-9]\d*", getattr(self, name)) is None:
                raise RecipeError(f"{name} is {getattr(self, name)!r}; write clips x crops, e.g. 5x3")
        if self.eval_every is not None and self.eval_every < 1:
            raise RecipeError(f"eval_every is {self.eval_every}; give a number of steps, 1 or more")
        if self.eval_every is not None and self.test_split is None:
            raise RecipeError("eval_every needs videos to validate on; name their split with test_split")
        if self.test_split is not None and self.test_dataset is None and not isinstance(self.dataset, str):
            raise RecipeError(
                "test_split is given and dataset names several; say with test_dataset whose videos to test on"
            )
        if self.mixup_cutmix is not None and self.batch_size * self.clips_per_video * self.num_sample < 2:
            raise RecipeError("mixup and cutmix need two clips per forward pass; give --batch_size 2, or both as 0")

    def _check_model_options(self) -> None:
        if self.head == "pick" and (self.problem_type == "regression" or self.model in PRESETS):
            reason = (
                "a regression has no classes" if self.problem_type == "regression" else f"{self.model} is untrained"
            )
            raise RecipeError(f"head is pick, which takes rows of a trained classifier, but {reason}; leave head out")
        if self.freeze is not None and self.freeze != "encoder" and not self.freeze.isdecimal():
            raise RecipeError(f"freeze is {self.freeze!r}; give a number of layers, or encoder")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise RecipeError(f"lora_rank is {self.lora_rank}; give 1 or more")
        if self.lora_rank is not None and self.freeze is not None:
            raise RecipeError("lora_rank freezes everything but the adapters and the head; leave freeze out")

    @property
    def test_dataset_name(self) -> str:
        """The data set of `test_split`."""
        assert self.test_dataset is not None or isinstance(self.dataset, str)
        return self.test_dataset or str(self.dataset)

    @property
    def mixup_cutmix(self) -> MixupCutmix | None:
        """How batches are mixed; None for regression, whose targets are no classes."""
        mixup_cutmix = MixupCutmix(
            mixup=self.mixup, cutmix=self.cutmix, prob=self.mix_prob, switch_prob=self.mix_switch_prob
        )
        return mixup_cutmix if mixup_cutmix.is_enabled and self.problem_type != "regression" else None

    def config_fields(self) -> dict[str, Any]:
        """The fields of `VideoMAEConfig` that the recipe sets."""
        fields = {
            "num_frames": self.num_frames,
            "image_size": self.image_size,
            "drop_path_rate": self.drop_path,
            "head_dropout": self.head_dropout,
        }
        return {name: value for name, value in fields.items() if value is not None}


# The data.


def build_finetune_clip_config(
    recipe: FinetuneRecipe,
    config: VideoMAEConfig,
    *,
    class_names: list[str] | None,
    stride: int,
    source: "AnyData | None" = None,
) -> ClipConfig:
    """How the loader makes the clips of a model.

    Args:
        recipe: of the run.
        config: of the model.
        class_names: of the data.
        stride: from `resolve_frame_stride`.
        source: the data; needed where the data sets of a mix have strides of their own.
    """
    augment: Any = recipe.augment or "finetune"
    return ClipConfig.from_config(
        config,
        masks=False,
        stride=stride,
        set_strides=set_strides(recipe, source),
        sampling=recipe.sampling,
        front_pad=recipe.front_pad,
        frame_seconds=recipe.frame_seconds,
        augment=augment,
        flip=0.0 if has_directional_classes(class_names) else recipe.flip,
        rand_augment=recipe.rand_augment,
        crop_scale=recipe.crop_scale,
        erasing=recipe.reprob,
        clips_per_video=recipe.clips_per_video,
        num_sample=recipe.num_sample,
    )


def resolve_frame_stride(recipe: FinetuneRecipe, resume: Path | None = None) -> int:
    """The recipe's frame stride, or the one that the checkpoint was trained with, or 4."""
    if recipe.frame_stride is not None or (resume is None and recipe.model in PRESETS):
        return recipe.frame_stride or 4
    from ..video_processing_videomae import VideoMAEVideoProcessor

    source = str(resume or recipe.model)
    try:
        processor = VideoMAEVideoProcessor.from_pretrained(source)
    except OSError:
        log_main(f"note: {source} has no processor; clips are taken with a stride of 4 (--frame_stride)")
        return 4
    if recipe.frame_seconds is None and processor.frame_seconds is not None:
        log_main(f"note: {source} was trained on frames {processor.frame_seconds:g} s apart (--frame_seconds)")
    stride: int = processor.frame_stride
    return stride


def has_directional_classes(class_names: list[str] | None) -> bool:
    """Whether a class names left, right or a sense of rotation: a flipped clip would belong to another class."""
    return any(_DIRECTION_WORDS.search(name.lower().replace("_", " ")) for name in class_names or ())


def build_label_encoder(recipe: FinetuneRecipe, class_names: list[str] | None) -> LabelEncoder:
    """How the loader makes the labels of a batch."""
    return LabelEncoder(kind=recipe.problem_type, num_classes=len(class_names or [""]))


# The task.


class FinetuneTask:
    """Classify clips, or predict a number.

    Args:
        recipe: of the run.
        model: as `build_classifier` gives it, which is saved.
        source: the data.
        stride: of the processor that is saved beside the model.
        resume: from `resolve_resume_checkpoint`.
    """

    name = FinetuneRecipe.task

    def __init__(
        self,
        recipe: FinetuneRecipe,
        *,
        model: Any,
        source: "AnyData",
        stride: int = 4,
        resume: Path | None = None,
    ) -> None:
        self.recipe, self.model, self.source = recipe, model, source
        self.mixup_cutmix = recipe.mixup_cutmix
        self.num_labels: int = model.config.num_labels
        self.processor = _build_processor(recipe, model.config, stride=stride)
        # A head that was kept may count the classes in another order.
        class_indices = [model.config.label2id[name] for name in source.class_names or ()]
        self._class_indices = torch.tensor(class_indices)
        self._uniform_loss = {
            "single_label_classification": math.log(self.num_labels),
            "multi_label_classification": math.log(2),
        }.get(recipe.problem_type)
        self.baseline_name = None if self._uniform_loss is None else "give every class the same chance"
        self.average: EMA | None = None
        self._resume = resume

    def targets(self, labels: Tensor) -> Tensor:
        """What the loader gives -> (B, K) targets, or (B,) numbers of a regression."""
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
        """Mean over the clips of the batch, mixed and with smoothed targets."""
        clips, targets = batch["pixel_values"], self.targets(batch["labels"])
        if self.mixup_cutmix is not None:
            clips, targets = self.mixup_cutmix(clips, targets)
        loss: Tensor = model(clips, labels=targets, return_dict=True).loss
        return loss

    def baseline(self, batch: Batch) -> float | None:
        """ln K, whatever the targets; ln 2 where each class is a question of its own."""
        return self._uniform_loss

    def attach_ema(self, optimizer: torch.optim.Optimizer) -> None:
        """Take every step that is applied into the average of the weights.

        It begins here, once the run is built: only then are the weights on their device and the same everywhere.
        """
        if self.recipe.ema_decay is None:
            return
        average = EMA(self.model, decay=self.recipe.ema_decay)
        if self._resume is not None:
            average.load(load_trainable(self._resume, "average"))
        optimizer.register_step_post_hook(lambda *_: average.update())
        self.average = average

    @contextmanager
    def inference_model(self) -> Iterator[nn.Module]:
        """The classifier with the weights that are saved: inside, it has their average, where that was asked for."""
        with nullcontext() if self.average is None else self.average.average_parameters():
            yield self.model.get_base_model() if self.recipe.lora_rank is not None else self.model

    def save(self, folder: Path) -> None:
        """Model and processor, as `from_pretrained` reads them: averaged and merged, where that was asked for.

        What a resumed run needs besides goes into a file of its own.
        """
        if self.average is not None or self.recipe.lora_rank is not None:
            average = {} if self.average is None else self.average.tensors
            save_trainable(folder, weights=trainable_parameters(self.model), average=average)
        with self.inference_model():
            merge_lora(self.model).save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def run_metadata(self) -> dict[str, Any]:
        """Recipe, data, classes and parents for `run.json`."""
        return self._run_metadata

    @cached_property
    def _run_metadata(self) -> dict[str, Any]:
        run_metadata = collect_run_metadata(self.recipe, config=self.model.config, source=self.source)
        return {**run_metadata, "data": {**run_metadata["data"], "classes": self.source.class_names}}

    def finalize_output(self, output_dir: Path) -> list[str]:
        """The state of training stays in the checkpoints."""
        (output_dir / TRAINED_WEIGHTS_FILE).unlink(missing_ok=True)
        return []


def _build_processor(recipe: FinetuneRecipe, config: VideoMAEConfig, *, stride: int) -> "VideoMAEVideoProcessor":
    from ..video_processing_videomae import VideoMAEVideoProcessor

    return VideoMAEVideoProcessor.from_config(
        config, frame_stride=stride, sampling_mode=recipe.sampling, frame_seconds=recipe.frame_seconds
    )


def log_finetune_summary(
    recipe: FinetuneRecipe, *, model: Any, source: "AnyData", settings: ClipConfig, processes: int = 1
) -> None:
    """What is trained on what, and what deviates from what was asked for, a line each."""
    log_data_summary(source, processes=processes)
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad or every) / 1e6 for every in (True, False)]
    trained = "" if counts[0] == counts[1] else f" ({counts[1]:.2f} trained)"
    height, width = settings.size
    frames = f"stride {settings.stride}" if recipe.sampling == "dense" else "one of each segment"
    if settings.set_strides and recipe.sampling == "dense":
        frames = ", ".join(f"stride {stride} in {name}" for name, stride in settings.set_strides)
    if settings.frame_seconds is not None and recipe.sampling == "dense":
        frames = f"{settings.frame_seconds:g} s apart"
    clips = settings.clips_per_video * settings.num_sample
    log_main(
        f"{recipe.model}: {counts[0]:.1f} million parameters{trained}, clips of {settings.num_frames} frames, "
        f"{height} x {width} pixels, {frames}, {clips} of each video, layer decay {recipe.layer_decay:g}"
    )
    if recipe.flip and not settings.flip:
        log_main("note: the classes tell left from right, so nothing is flipped")
    if settings.frame_seconds is not None:
        log_main(f"note: the saved processor counts in frames, {settings.stride} apart, whatever the frame rate")
    if recipe.problem_type == "regression" and (recipe.mixup or recipe.cutmix or recipe.label_smoothing):
        log_main("note: regression: neither mixup, cutmix nor label smoothing")
    _warn_single_video_classes(source)


def _warn_single_video_classes(source: "AnyData") -> None:
    if not isinstance(source, FolderSource) or source.class_names is None:
        return
    counts: Counter[object] = Counter()
    for label in source.labels or ():
        counts.update(label if isinstance(label, tuple) else (label,))
    scarce = [name for number, name in enumerate(source.class_names) if counts[number] == 1]
    if scarce:
        shown = ", ".join(scarce[:_MAX_SHOWN_CLASSES]) + (" and more" if len(scarce) > _MAX_SHOWN_CLASSES else "")
        log_main(f"warning: {len(scarce)} of {len(source.class_names)} classes have a single video: {shown}")


__all__ = [
    "FinetuneRecipe",
    "FinetuneTask",
    "log_finetune_summary",
    "build_classifier",
    "resolve_frame_stride",
    "build_finetune_clip_config",
    "build_label_encoder",
    "layer_decay_scales",
    "has_directional_classes",
]
