"""Probe a frozen VideoMAE: measure how much its features say about the class, without training the encoder.

    python examples/probe.py --model outputs/demo --probe linear      # the paper's linear probe, built-in data
    python examples/probe.py --model outputs/demo --probe attentive   # one learned query over all tokens
    python examples/probe.py --model tiny --probe knn                 # untrained weights, to compare with
    python examples/probe.py --recipe v1-ssv2-base-linear --dataset DIR

The model is any VideoMAE checkpoint, pre-trained or fine-tuned, a directory or org/name of the Hub. Videos are decoded
and encoded once; the probe itself takes seconds. Flags override the recipe file, which overrides the defaults.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers.utils import logging

from hf_videomae import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor
from hf_videomae.configuration_videomae import PRESETS
from hf_videomae.console import log_main
from hf_videomae.data import describe_source, has_columns, open_source, source_notes
from hf_videomae.evaluation import parse_views
from hf_videomae.evaluation.frozen_features import (
    AugmentedClips,
    EvalClips,
    FrozenFeatures,
    ProbePooling,
    extract_frozen_features,
)
from hf_videomae.evaluation.probes import (
    ATTENTIVE_CONFIG,
    PAPER_LINEAR_CONFIG,
    ProbeConfig,
    ProbeKind,
    ProbeResult,
    run_probe,
)
from hf_videomae.filesystem import check_folder_writable, create_folder, wrap_write_errors
from hf_videomae.inference import load_processor
from hf_videomae.provenance import describe_hardware, package_versions, redacted_command_line
from hf_videomae.run_files import write_json
from hf_videomae.training import RecipeError, exit_on_user_error, option, parse_recipe
from hf_videomae.training.model_source import ensure_model
from hf_videomae.training.recipe import check_at_least

RESULT_FILE = "probe.json"


@dataclass(frozen=True, kw_only=True)
class ProbeRecipe:
    """Settings of a probe. None means the default of that kind of probe: the paper's for a linear one."""

    dataset: str = option("motion", "motion, a folder, a glob, a list (CSV), or a Hub dataset org/name", group="data")
    split: str = option("train", "split to train on", group="data")
    test_dataset: str | None = option(None, "dataset of the test videos (default: --dataset)", group="data")
    video_column: str | None = option(
        None, "column of the videos, of Parquet or WebDataset files (default: found by its type)", group="data"
    )
    label_column: str | None = option(
        None, "column of the labels, of Parquet or WebDataset files (default: found by its type or name)", group="data"
    )
    allow_paths: tuple[str, ...] = option(
        (),
        "hosts, folders and URL prefixes that the rows of a dataset may name (default: only its own files)",
        group="data",
    )
    test_split: str = option("test", "split of the test videos", group="data")
    views: str = option(
        "1x1", "temporal positions x crops of a test video, whose softmax is averaged (SSV2: 2x3)", group="data"
    )
    antialias: bool = option(
        True,
        "filter when resizing test views, as the serving processor does and the paper's test code does not",
        group="data",
    )
    clips: int = option(
        0, "random crops of each training video; 0: its center; as many as epochs: like the paper", group="data"
    )
    frame_stride: int | None = option(
        None, "frames between the frames of a clip (default: the checkpoint's; 2 for tiny, else 4)", group="data"
    )
    sampling: str | None = option(None, "dense or uniform test clips (default: the checkpoint's)", group="data")
    num_workers: int = option(1, "decoding processes; 0 decodes in this one", group="data")

    model: str = option("tiny", "a local checkpoint, org/name of the Hub, or a preset (untrained)", group="model")
    layer: int = option(-1, "layer of the encoder: 0 the embeddings, -1 the output", group="model")
    pool: ProbePooling | None = option(
        None, "pooling of an attentive probe: tokens (none) or per_frame", group="model"
    )

    probe: ProbeKind = option("linear", "linear, attentive or knn", group="probe")
    epochs: int | None = option(None, "passes over the features (linear: 100, attentive: 50)", group="probe")
    warmup_epochs: int | None = option(None, "epochs of warm-up (linear: 10, attentive: 5)", group="probe")
    batch_size: int | None = option(None, "videos per step (linear: 1024, attentive: 128)", group="probe")
    learning_rate: float | None = option(
        None, "the peak, not scaled by the batch (linear: 0.1, attentive: 1e-3)", group="probe"
    )
    momentum: float = option(0.9, "momentum of SGD", group="probe")
    weight_decay: float | None = option(None, "default: 0 for linear, 0.05 for attentive", group="probe")
    standardize: bool | None = option(None, "scale features to mean 0 and deviation 1 (default: true)", group="probe")
    neighbours: int = option(20, "k of knn", group="probe")

    forward_batch: int = option(16, "clips per forward pass of the encoder", group="speed")
    output_dir: str = option("outputs/probe", f"directory of {RESULT_FILE}")
    overwrite: bool = option(False, f"overwrite an earlier {RESULT_FILE}")
    seed: int = option(0, "seed of the random crops, the probe's weights and the order of the videos")
    log_every: int = option(10, "epochs between lines")

    def __post_init__(self) -> None:
        if self.views.isdecimal():
            object.__setattr__(self, "views", f"{self.views}x1")
        try:
            parse_views(self.views)
        except ValueError as error:
            raise RecipeError(f"views is {self.views}: {error}") from None
        check_at_least(self, 1, "forward_batch", "neighbours", "log_every")
        check_at_least(self, 0, "clips", "num_workers", "seed")
        if self.sampling not in (None, "dense", "uniform"):
            raise RecipeError(f"sampling is {self.sampling!r}; choose dense or uniform")
        if self.pool == "mean" and self.probe == "attentive":
            raise RecipeError("pool is mean, but an attentive probe attends over tokens; choose tokens or per_frame")
        if self.pool not in (None, "mean") and self.probe != "attentive":
            raise RecipeError(f"pool is {self.pool}, but a {self.probe} probe takes the mean of all tokens")

    def training(self) -> ProbeConfig:
        """Return the training settings of this kind of probe, with the given ones over them."""
        default = ATTENTIVE_CONFIG if self.probe == "attentive" else PAPER_LINEAR_CONFIG
        names = ("epochs", "warmup_epochs", "batch_size", "learning_rate", "weight_decay", "standardize")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "epochs" in given and "warmup_epochs" not in given:
            given["warmup_epochs"] = round(given["epochs"] * default.warmup_epochs / default.epochs)
        return replace(default, momentum=self.momentum, seed=self.seed, **given)


def load_encoder(recipe: ProbeRecipe) -> tuple[VideoMAEModel, VideoMAEVideoProcessor]:
    """Return the frozen encoder and its processor."""
    settings = {"frame_stride": recipe.frame_stride, "sampling_mode": recipe.sampling}
    settings = {name: value for name, value in settings.items() if value is not None}
    if recipe.model in PRESETS:
        torch.manual_seed(recipe.seed)
        config = VideoMAEConfig.from_preset(recipe.model)
        settings.setdefault("frame_stride", 2 if recipe.model == "tiny" else 4)
        model = VideoMAEModel(config)
        processor = VideoMAEVideoProcessor.from_config(config, **settings)
        log_main(f"note: {recipe.model} is a preset, so its weights are untrained: use it to compare others with")
    else:
        logging.disable_progress_bar()  # loading takes a second
        ensure_model(recipe.model)
        model = VideoMAEModel.from_pretrained(recipe.model)
        processor = load_processor(recipe.model, model, **settings)
        if recipe.frame_stride is not None and processor.sampling_mode == "uniform":
            raise RecipeError(
                f"--frame_stride {recipe.frame_stride} has no effect on the uniform sampling of {recipe.model}; "
                f"leave it out, or give --sampling dense"
            )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return model.requires_grad_(False).eval().to(device), processor


def extract_probe_features(
    recipe: ProbeRecipe, model: VideoMAEModel, processor: VideoMAEVideoProcessor, *, test: bool
) -> FrozenFeatures:
    """Return the features of the training or the test videos."""
    dataset, split = recipe.dataset, recipe.split
    if test:
        dataset, split = recipe.test_dataset or recipe.dataset, recipe.test_split
    columns = {"video_column": recipe.video_column, "label_column": recipe.label_column}
    if dataset != recipe.dataset and any(columns.values()) and not has_columns(dataset):
        columns = {}
    source = open_source(dataset, split=split, require_labels=True, allow_paths=recipe.allow_paths, **columns)
    log_main(f"{'test' if test else 'training'} videos: {describe_source(source)}")
    for note in source_notes(source):
        log_main(f"note: {note}")
    views, crops = parse_views(recipe.views) if test else (1, 1)
    antialias = recipe.antialias or not test
    clips: EvalClips | AugmentedClips = EvalClips(processor, num_views=views, crops=crops, antialias=antialias)
    if recipe.clips and not test:
        clips = AugmentedClips(processor, count=recipe.clips, seed=recipe.seed)
    started = time.time()
    features = extract_frozen_features(
        model,
        source,
        clips=clips,
        pool=(recipe.pool or "tokens") if recipe.probe == "attentive" else "mean",
        layer=recipe.layer,
        batch_size=recipe.forward_batch,
        num_workers=recipe.num_workers,
    )
    seconds, num_failed = time.time() - started, len(features.failed)
    log_main(f"encoded {len(features.labels)} videos in {seconds:.0f} s, {num_failed} cannot be decoded")
    for entry in features.failed[:3]:
        log_main(f"warning: {entry['id']} cannot be decoded ({entry['reason']})")
    return features


def report(recipe: ProbeRecipe, result: ProbeResult, *, seconds: float, device: torch.device) -> None:
    """Print the numbers, and write them to a file."""
    top5 = f", top-5 {result.top(5):.4f}" if len(result.class_names) > 5 else ""
    failed = f", {len(result.failed)} of which cannot be decoded and count as wrong" if result.failed else ""
    chance = 1 / len(result.class_names)
    log_main(
        f"{recipe.probe} probe of {recipe.model}: top-1 {result.top(1):.4f}{top5}, mean class accuracy "
        f"{result.mean_class_accuracy:.4f}, chance {chance:.4f}, on {result.num_videos} videos{failed}"
    )
    record = {
        **result.to_dict(),
        "views": recipe.views,
        "command": redacted_command_line(),
        "recipe": vars(recipe),
        "hardware": describe_hardware(1, device),
        "versions": package_versions(),
        "seconds": round(seconds, 1),
    }
    path = Path(recipe.output_dir) / RESULT_FILE
    create_folder(path.parent, kind=RecipeError)
    with wrap_write_errors("the result", path.parent, kind=RecipeError):
        write_json(path, record)
    log_main(f"wrote {path}")


def main(arguments: list[str] | None = None) -> int:
    """Encode the videos, train and test the probe, and report; return the exit code."""
    recipe = parse_recipe(ProbeRecipe, arguments, description=__doc__, folder=Path(__file__).parent / "recipes")
    started = time.time()
    with exit_on_user_error():
        check_folder_writable(recipe.output_dir, kind=RecipeError)
        path = Path(recipe.output_dir) / RESULT_FILE
        if path.exists() and not recipe.overwrite:
            raise RecipeError(f"{path} exists already; give another --output_dir, or --overwrite")
        training = recipe.training()
        model, processor = load_encoder(recipe)
        train, test = (extract_probe_features(recipe, model, processor, test=test) for test in (False, True))
        if recipe.probe != "knn":
            log_main(
                f"{recipe.probe} probe: {training.optimizer}, learning rate {training.learning_rate:g}, "
                f"{min(training.batch_size, len(train.labels))} videos per step, {training.epochs} epochs"
            )
        if recipe.probe == "linear" and len(train.labels) < training.batch_size:
            log_main(
                f"warning: {len(train.labels)} training videos are one batch, the recipe's is {training.batch_size}: "
                f"so few steps may not be enough, --batch_size 64 makes more of them"
            )

        def progress(epoch: int, loss: float) -> None:
            if epoch % recipe.log_every == 0 or epoch == training.epochs:
                log_main(f"epoch {epoch}: loss {loss:.4f}")

        result = run_probe(
            recipe.probe,
            train,
            test,
            training=training,
            num_neighbors=recipe.neighbours,
            device=model.device,
            progress=progress,
        )
        report(recipe, result, seconds=time.time() - started, device=model.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
