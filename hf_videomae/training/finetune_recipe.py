"""Define the settings of a fine-tuning run; the defaults are the paper's (appendix, and its code)."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..configuration_videomae import PRESETS
from ..data import LabelKind
from ..video.randaugment import RandAugment
from .mixup import MixupCutmix
from .recipe import RecipeError, RunRecipe, check_at_least, option

_PAPER_DEFAULTS = {"base_lr": 5e-4}
_TINY_DEFAULTS = {"base_lr": 8e-3, "frame_stride": 2, "max_steps": 400}


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(RunRecipe):
    """The settings of a fine-tuning run; the defaults are the paper's."""

    task: ClassVar[str] = "finetune"
    config_names: ClassVar[tuple[str, ...]] = (*RunRecipe.config_names, "head_dropout")

    problem_type: LabelKind = option(
        "single_label_classification", "one class per video, several (separated by |), or a number", group="data"
    )
    sampling: Literal["dense", "uniform"] = option(
        "dense", "frames at the stride (dense: Kinetics), or one from each segment (uniform: SSV2)", group="data"
    )
    front_pad: bool = option(
        False,
        "uniform clips of videos with fewer frames than the clip: the first frame repeated, then each once (VideoMAE "
        "V2); without it only the first frame (VideoMAE)",
        group="data",
    )
    flip: float = option(
        0.5, "probability of a horizontal flip of the clip; off if class names contain left or right", group="data"
    )
    rand_augment: str | None = option(
        "rand-m7-n4-mstd0.5-inc1", "RandAugment, the same for all frames of a clip; none: off", group="data"
    )
    crop_scale: tuple[float, float] = option(
        (0.08, 1.0), "bounds of the fraction of the frame that a crop covers", group="data"
    )
    reprob: float = option(0.25, "probability of erasing a box, the same in all frames", group="data")
    clips_per_video: int = option(
        1, "clips with different starts from each video, which is read once (not counted in the batch)", group="data"
    )
    num_sample: int = option(2, "clips made of each decoded video (not counted in the batch)", group="data")
    mixup: float = option(0.8, "alpha of mixup, 0: off", group="data")
    cutmix: float = option(1.0, "alpha of cutmix, 0: off", group="data")
    mix_prob: float = option(1.0, "probability of mixing a batch", group="data")
    mix_switch_prob: float = option(0.5, "fraction of mixed batches that use cutmix", group="data")
    label_smoothing: float = option(0.1, "fraction of each target that is spread over all classes", group="data")

    head: Literal["auto", "new", "keep", "pick"] = option(
        "auto",
        "the classifier of a checkpoint: kept if the classes are the same (auto), dropped (new), kept always (keep), "
        "or the rows of the data's classes picked by name (pick: Kinetics-710 to 400 or 600)",
        group="model",
    )
    head_dropout: float = option(0.0, "dropout before the classifier", group="model")
    drop_path: float | None = option(0.1, "stochastic depth of the last layer", group="model")
    freeze: str | None = option(
        None, "layers that are not trained: a number (and the embedding), or encoder", group="model"
    )
    lora_rank: int | None = option(None, "train only the head and low-rank adapters of this rank", group="model")
    lora_alpha: float = option(16.0, "scale of the adapters: they are multiplied by alpha / rank", group="model")

    betas: tuple[float, float] = option((0.9, 0.999), "betas of AdamW", group="optimization")
    min_lr: float = option(1e-6, "floor of the cosine for 256 clips per step; scaled too", group="optimization")
    layer_decay: float = option(0.75, "factor on the learning rate per layer, from the top down", group="optimization")
    ema_decay: float | None = option(
        None, "average the weights, e.g. 0.9999; the average is saved and evaluated", group="optimization"
    )

    test_dataset: str | None = option(
        None, "dataset of --test_split (default: --dataset)", group="evaluation", affects_numerics=False
    )
    test_split: str | None = option(
        None, "split to validate on, and to test the saved model on", group="evaluation", affects_numerics=False
    )
    eval_every: int | None = option(
        None,
        "steps between two validations (default: only after the last step)",
        group="evaluation",
        affects_numerics=False,
    )
    eval_views: str = option(
        "1x1", "clips x crops of each video in a validation", group="evaluation", affects_numerics=False
    )
    views: str = option("5x3", "clips x crops of each video in the test", group="evaluation", affects_numerics=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fractions("reprob", "mix_prob", "mix_switch_prob", "label_smoothing", "head_dropout", "drop_path")
        check_at_least(self, 0, "mixup", "cutmix", "lora_alpha")
        if not 0 < self.layer_decay <= 1:
            raise RecipeError(f"layer_decay is {self.layer_decay}; give a factor above 0, 1 for none")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise RecipeError(f"ema_decay is {self.ema_decay}; give a number from 0 to below 1, e.g. 0.9999")
        self._check_data_options()
        self._check_model_options()
        self._fill_defaults(_TINY_DEFAULTS if self.model == "tiny" else _PAPER_DEFAULTS)

    def _check_data_options(self) -> None:
        check_at_least(self, 1, "clips_per_video", "num_sample", "eval_every", "lora_rank")
        if self.sampling == "uniform" and self.dataset_strides is not None:
            raise RecipeError("dataset_strides are for dense clips, and sampling is uniform; leave them out")
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
        if self.eval_every is not None and self.test_split is None:
            raise RecipeError("eval_every needs videos to validate on; name their split with test_split")
        if self.test_split is not None and self.test_dataset is None and not isinstance(self.dataset, str):
            raise RecipeError(
                "test_split is given and dataset names several; give with test_dataset the one to test on"
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
        if self.lora_rank is not None and self.freeze is not None:
            raise RecipeError("lora_rank freezes everything except the adapters and the head; leave freeze out")

    @property
    def test_dataset_name(self) -> str:
        """Return the name of the dataset of `test_split`."""
        assert self.test_dataset is not None or isinstance(self.dataset, str)
        return self.test_dataset or str(self.dataset)

    @property
    def mixup_cutmix(self) -> MixupCutmix | None:
        """Return how batches are mixed; None if mixing is off, and for regression, whose targets are not classes."""
        mix = MixupCutmix(mixup=self.mixup, cutmix=self.cutmix, prob=self.mix_prob, switch_prob=self.mix_switch_prob)
        return mix if mix.is_enabled and self.problem_type != "regression" else None
