"""Evaluate a video classifier by the paper's protocol: several views of every video, their scores averaged.

    python examples/evaluate.py --model outputs/finetuned                              # the built-in data's test split
    python examples/evaluate.py --model MCG-NJU/videomae-base-finetuned-kinetics --dataset DIR --views 5x3
    python examples/evaluate.py --model DIR --dataset DIR --views 2x3 --sampling uniform     # Something-Something
    accelerate launch examples/evaluate.py --model DIR --dataset org/name --split validation

The model is any VideoMAE classification checkpoint of this package or of stock transformers, a folder or a Hub id. The
dataset's classes are matched to the model's by name. The script writes evaluation.json, predictions.jsonl and
confusion.png. Videos that cannot be decoded are listed and count as wrong. The model says what is measured: accuracies
of one class per video, mean average precision of several, or errors of a regression (both without a figure).
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from hf_videomae import VideoMAEVideoProcessor
from hf_videomae.console import log_main
from hf_videomae.data import DataError, describe_source, open_source, source_notes
from hf_videomae.data.source import AnySource
from hf_videomae.evaluation import BaseEvaluation, evaluate, find_sampling_mismatches, parse_views
from hf_videomae.filesystem import check_folder_writable, create_folder, wrap_write_errors
from hf_videomae.folder_lock import lock_folder
from hf_videomae.inference import get_problem_type, load_classifier, load_processor
from hf_videomae.provenance import describe_hardware, redacted_command_line
from hf_videomae.training import RunError, build_accelerator, exit_on_user_error, option, parse_recipe
from hf_videomae.video.decoding import VideoBackendError
from hf_videomae.video.sampling import ClipSampler, check_frame_seconds


@dataclass(frozen=True, kw_only=True)
class EvaluationRecipe:
    """Settings of an evaluation."""

    model: str | None = option(None, "classification checkpoint: a folder or a Hub id org/name", group="model")
    dataset: str = option(
        "motion", "motion (made on the spot), a folder, a glob, a list (CSV), or a Hub dataset", group="data"
    )
    split: str = option("test", "split of the dataset; train is everything if it has no splits", group="data")
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
    cache_dir: str | None = option(
        None,
        "keep the shards of a Hub dataset on this disk, in the end all of them: a directory, or `hub` for "
        "huggingface_hub's own cache (default: stream them)",
        group="data",
    )
    match_labels: Literal["name", "index"] = option(
        "name", "how the dataset's classes are matched to the model's; index: class i is class i", group="data"
    )
    views: str = option("5x3", "temporal positions x spatial crops (SSV2: 2x3, HMDB51: 10x3)", group="views")
    sampling: Literal["dense", "uniform"] | None = option(
        None, "dense, or uniform over the whole video as on Something-Something (default: the model's)", group="views"
    )
    frame_stride: int | None = option(None, "stride of dense clips (default: the model's)", group="views")
    frame_seconds: float | None = option(
        None, "seconds between the frames of a dense clip, instead of a stride (default: the model's)", group="views"
    )
    antialias: bool = option(
        False, "filter when resizing, as the serving processor does and the paper's test code does not", group="views"
    )
    batch_size: int = option(16, "views per process and forward pass", group="speed")
    num_workers: int = option(1, "decoding processes per process; 0 decodes in it", group="speed")
    mixed_precision: Literal["no", "bf16"] | None = option(
        None, "precision of the forward pass (default: as accelerate launch says)", group="speed"
    )
    output_dir: str = option("outputs/evaluation", "output directory")
    log_every: int = option(50, "videos between lines of progress")
    seed: int = option(0, "ignored: an evaluation draws no random numbers")
    push_to_hub: bool = option(False, "refused: `hf-videomae push` publishes a run with its evaluation")
    hub_model_id: str | None = option(None, "refused, like --push_to_hub")

    report_to = ()  # no trackers: there is one result

    def __post_init__(self) -> None:
        if not self.model:
            raise RunError("--model is missing; give a fine-tuned checkpoint: a folder, or org/name of the Hub")
        if self.push_to_hub or self.hub_model_id is not None:
            raise RunError(
                "--push_to_hub: an evaluation is published with its model; evaluate into the run's folder "
                "(--model DIR --output_dir DIR), then hf-videomae push DIR --hub_model_id ORG/NAME"
            )
        for name, minimum in (("batch_size", 1), ("num_workers", 0), ("log_every", 1), ("frame_stride", 1)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise RunError(f"--{name} is {value}; give {minimum} or more")
        try:
            check_frame_seconds(self.frame_seconds)
        except ValueError as error:
            raise RunError(f"--frame_seconds: {error}") from None
        try:
            parse_views(self.views)
        except ValueError as error:
            raise RunError(f"--views: {error}") from None


def save(result: BaseEvaluation, output_dir: str, *, extra: dict[str, Any]) -> list[Path]:
    """Write the files of the result under a lock: another evaluation may be writing to the same folder."""
    create_folder(output_dir, kind=RunError)
    with wrap_write_errors("the results", output_dir, kind=RunError):
        lock = lock_folder(output_dir, name=".evaluation.lock", wait_seconds=30.0, kind=RunError)
        try:
            return result.save(output_dir, extra=extra)
        finally:
            lock.release()


def load_inputs(
    recipe: EvaluationRecipe, device: torch.device
) -> tuple[PreTrainedModel, AnySource, VideoMAEVideoProcessor, ClipSampler]:
    """Load the model, the dataset and the processor, and print what they are."""
    model = load_classifier(recipe.model)
    kind = get_problem_type(model.config)
    source = open_source(
        recipe.dataset,
        split=recipe.split,
        require_labels=True,
        label_kind=kind,
        cache_dir=recipe.cache_dir,
        video_column=recipe.video_column,
        label_column=recipe.label_column,
        allow_paths=recipe.allow_paths,
    )
    model = model.to(device)
    processor = load_processor(recipe.model, model)
    sampler = processor.clip_sampler.with_overrides(
        mode=recipe.sampling, stride=recipe.frame_stride, frame_seconds=recipe.frame_seconds
    )
    log_main(f"{describe_source(source)}; split {recipe.split}")
    for note in source_notes(source):
        log_main(f"note: {note}")
    if recipe.sampling is None:
        for line in find_sampling_mismatches(recipe.model, model.config, sampler):
            log_main(f"warning: {line}")
    outputs = "a number or numbers" if kind == "regression" else f"{len(model.config.id2label)} classes"
    log_main(f"{recipe.model}: {outputs}; {recipe.views} views, {sampler.mode}")
    return model, source, processor, sampler


def main(arguments: list[str] | None = None) -> int:
    """Evaluate, and return the exit code, 0."""
    recipe = parse_recipe(EvaluationRecipe, arguments, description=__doc__)

    with exit_on_user_error():
        check_folder_writable(recipe.output_dir, kind=RunError)
        accelerator = build_accelerator(recipe)
        model, source, processor, sampler = load_inputs(recipe, accelerator.device)

    def progress(done: int, total: int | None) -> None:
        if done % recipe.log_every == 0:
            log_main(f"{done}{'' if total is None else f'/{total}'} videos of the first process")

    with exit_on_user_error(RunError, DataError, VideoBackendError, ValueError, OSError):
        result = evaluate(
            model,
            source,
            processor=processor,
            plan=sampler,
            views=recipe.views,
            batch_size=recipe.batch_size,
            num_workers=recipe.num_workers,
            accelerator=accelerator,
            matching=recipe.match_labels,
            antialias=recipe.antialias,
            progress=progress,
        )
        if accelerator.is_main_process:
            result.data.update(dataset=recipe.dataset, split=recipe.split)
            where = describe_hardware(accelerator.num_processes, accelerator.device)
            files = save(result, recipe.output_dir, extra={"command": redacted_command_line(), "hardware": where})
            log_main(f"{result.table()}\n{result.summary()}")
            log_main("\n".join(map(str, files)))
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    sys.exit(main())
