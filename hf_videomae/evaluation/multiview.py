"""Evaluate a model with the multi-view test: every video once, its views' scores averaged, in any number of processes.

Every process scores its share of the videos. At the end each sends (position, scores) of its videos, padded to equal
counts; the padding is dropped, and the rest is sorted by position.

Shapes: B videos, V views, T frames, N videos of the dataset, K classes.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import stop_signals
from ..data.labels import SINGLE_LABEL, LabelEncoder, LabelKind
from ..data.source import AnySource, Label, Sample, Source
from ..errors import DataError
from ..inference.model_loading import as_videomae_config, evaluation_mode, get_problem_type
from ..inference.prediction import compute_view_logits, make_view_config
from ..ops.view_scores import average_view_scores
from ..stop_signals import SignalInterrupt
from ..video.decoding import VideoBackendError
from ..video.hdr import hdr_counter, warn_new_hdr_videos
from ..video.sampling import ClipSampler
from ..video.views import DecodedViews, MultiViewConfig, build_views, decode_views, parse_views
from ..video_processing_videomae import VideoMAEVideoProcessor
from .class_matching import ClassMismatchError, MatchBy, match_classes
from .decode_workers import DecodedVideo, VideoKey, decode_in_workers
from .multilabel import MultiLabelEvaluation
from .regression import RegressionEvaluation
from .results import Evaluation, FailedVideo

if TYPE_CHECKING:
    from accelerate import Accelerator

_PADDING_KEY = -1
_MERGE_DESCRIPTIONS = {
    "single_label_classification": "mean of softmax",
    "multi_label_classification": "mean of sigmoid",
    "regression": "mean",
}


@dataclass
class _VideoScores:
    """The scores of one process, or of all: a row per video."""

    keys: list[VideoKey] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    failed: dict[VideoKey, FailedVideo] = field(default_factory=dict)
    scores: list[Tensor] = field(default_factory=list)  # (2, K) each: merged scores, mean logits

    def add(self, video: DecodedVideo[DecodedViews], scores: Tensor) -> None:
        self.keys.append(video.key)
        self.ids.append(video.id)
        self.labels.append(video.label)
        self.scores.append(scores)
        if video.content is None:
            self.failed[video.key] = FailedVideo(id=video.id, path=video.path, reason=video.reason)

    def sort_by_key(self) -> "_VideoScores":
        """Return the rows in the order of the dataset."""
        assert len(set(self.keys)) == len(self.keys), "a video was evaluated twice"
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        return _VideoScores(
            keys=[self.keys[row] for row in order],
            ids=[self.ids[row] for row in order],
            labels=[self.labels[row] for row in order],
            failed=self.failed,
            scores=[self.scores[row] for row in order],
        )


def evaluate(
    model: nn.Module,
    source: AnySource,
    *,
    processor: VideoMAEVideoProcessor | None = None,
    plan: ClipSampler | None = None,
    views: str | tuple[int, int] = (5, 3),
    batch_size: int = 16,
    num_workers: int = 0,
    accelerator: "Accelerator | None" = None,
    matching: MatchBy = "name",
    antialias: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation | MultiLabelEvaluation | RegressionEvaluation:
    """Test a model on a labeled dataset as the paper does.

    The model's `problem_type` says what is measured, and so what is returned: accuracies of a classifier of one class
    per video, mean average precision if a video may have several classes, errors of a regression.

    Args:
        model: of this package or of stock transformers, unwrapped, on the device that computes; it keeps its mode.
        source: opened by `hf_videomae.data.open_source` with the model's `label_kind`; every video is seen once.
        processor: gives the size, mean and deviation of the views, and their sampling unless `plan` is given; None
            makes one for the model's configuration.
        plan: frames, stride and mode of the clips; its own number of views is ignored.
        views: temporal positions x crops: 5x3 on Kinetics, 2x3 on Something-Something, 10x3 on HMDB51.
        batch_size: views per forward pass.
        num_workers: decoding processes.
        accelerator: of several processes, which then share the videos and all return the whole result.
        matching: how the dataset's classes are matched to the model's; see `match_classes`. Numbers need none.
        antialias: resize like the serving processor instead of like the paper's test code.
        progress: called with (videos done by this process, its number of videos or None).

    Raises:
        DataError: for a dataset without labels, with a video whose label is missing or of another kind, without any
            video, or of which no video decodes; `ClassMismatchError` if its classes are not the model's.
        ValueError: for a model without a classifier, or whose scores are not finite.
        VideoBackendError: if no decoder works on this machine.
    """
    label_encoder, output_indices = _match_labels(model, source, matching=matching)
    config: Any = model.config
    if batch_size < 1 or num_workers < 0:
        raise ValueError(f"batch_size is {batch_size}, num_workers {num_workers}; give at least 1, at least 0")
    processor = processor or VideoMAEVideoProcessor.from_config(as_videomae_config(config))
    view_config = make_view_config(processor, views=parse_views(views), sampler=plan, antialias=antialias)
    with _failing_together(accelerator):
        scored = _score_videos(
            model,
            source,
            view_config=view_config,
            label_encoder=label_encoder,
            batch_size=batch_size,
            num_workers=num_workers,
            accelerator=accelerator,
            progress=progress,
        )
    scored = _gather_scores(scored, len(config.id2label), accelerator).sort_by_key()
    return _build_evaluation(
        scored, output_indices, label_encoder=label_encoder, model=model, source=source, view_config=view_config
    )


def _match_labels(model: nn.Module, source: AnySource, *, matching: MatchBy) -> tuple[LabelEncoder, list[int]]:
    """Check the model, and return how labels are encoded and the index of its output for each class, or number."""
    config: Any = getattr(model, "config", None)
    if config is None or not hasattr(model, "classifier"):
        raise ValueError(f"{type(model).__name__} has no classifier; give a VideoMAEForVideoClassification")
    kind = get_problem_type(config)
    if kind == SINGLE_LABEL and len(config.id2label) < 2:
        raise ValueError("the model has a single class, so it is always right; give one of two or more classes")
    if kind == "regression":
        if source.class_names is not None:
            raise ClassMismatchError(
                f"{source.name} has {len(source.class_names)} classes, and the model predicts numbers; give a dataset "
                f"whose labels are numbers (label_kind='regression'), or a classifier"
            )
        output_indices = list(range(len(config.id2label)))
    elif source.class_names is None:
        raise DataError(
            f"{source.name} has no labels, so nothing can be evaluated on it; see `--dataset` in examples/README.md"
        )
    else:
        output_indices = match_classes(source.class_names, config.id2label, matching=matching)
    return LabelEncoder(kind=kind, num_classes=len(output_indices)), output_indices


def _decode_sample(sample: Sample, *, view_config: MultiViewConfig) -> DecodedViews:
    name = None if isinstance(sample.video, str) else sample.id
    return decode_views(sample.source, plan=view_config, name=name)


@torch.no_grad()
def _score_videos(
    model: nn.Module,
    source: AnySource,
    *,
    view_config: MultiViewConfig,
    label_encoder: LabelEncoder,
    batch_size: int,
    num_workers: int,
    accelerator: "Accelerator | None",
    progress: Callable[[int, int | None], None] | None,
) -> _VideoScores:
    """Return the scores of this process's videos."""
    rank, world_size = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    num_videos = len(range(rank, len(source), world_size)) if isinstance(source, Source) else None
    scored, hdr_before = _VideoScores(), hdr_counter.names()
    pending: list[DecodedVideo[DecodedViews]] = []
    num_classes = len(model.config.id2label)  # type: ignore[union-attr, arg-type]

    def flush() -> None:
        for video, scores in zip(pending, _compute_scores(model, pending, view_config, batch_size), strict=True):
            if not torch.isfinite(scores).all():
                raise ValueError(f"the model's scores for {video.id} are not finite: its weights or precision are bad")
            scored.add(video, scores)
        pending.clear()

    videos = decode_in_workers(
        source,
        partial(_decode_sample, view_config=view_config),
        label_encoder=label_encoder,
        num_workers=num_workers,
        rank=rank,
        world_size=world_size,
    )
    try:
        with closing(videos), evaluation_mode(model), nullcontext() if accelerator is None else accelerator.autocast():
            for video in videos:
                if video.content is None:
                    scored.add(video, torch.zeros(2, num_classes))
                else:
                    pending.append(video)
                if len(pending) * view_config.num_views >= batch_size:
                    flush()
                if progress is not None:
                    progress(len(scored.keys) + len(pending), num_videos)
            flush()
    finally:
        warn_new_hdr_videos(hdr_before)
    return scored


def _compute_scores(
    model: nn.Module, videos: list[DecodedVideo[DecodedViews]], view_config: MultiViewConfig, batch_size: int
) -> list[Tensor]:
    """Return (2, K) for each video: the mean of its views' softmax (sigmoid, numbers) and the mean of their logits."""
    if not videos:
        return []
    device = next(model.parameters()).device
    views = [build_views(video.content, plan=view_config, device=device) for video in videos if video.content]
    logits = compute_view_logits(model, torch.cat(views), batch_size=batch_size)
    per_video = logits.view(len(videos), view_config.num_views, -1)
    merged = average_view_scores(per_video, problem_type=get_problem_type(model.config))
    return list(torch.stack([merged, per_video.mean(1)], dim=1))


# Several processes.


@contextmanager
def _failing_together(accelerator: "Accelerator | None") -> Iterator[None]:
    """Raise the error of any process in all of them, so that none waits for one that has left."""
    error: BaseException | None = None
    try:
        yield
    except (DataError, VideoBackendError, ValueError) as problem:
        error = problem
    except SignalInterrupt as stop:
        if stop.is_second_signal or not stop_signals.has_unsaved_work():
            raise
        # Without its traceback, which would keep the workers' queues until they are collected, in any order.
        error = SignalInterrupt(stop.number)
    failures = [None if error is None else (getattr(error, "number", None), str(error))]
    if accelerator is not None and accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        failures = gather_object(failures)
    present = [failure for failure in failures if failure is not None]
    for signal_number, _ in present:
        if signal_number is not None:
            raise SignalInterrupt(signal_number)
    if error is not None:
        raise error
    for _, message in present:
        raise DataError(message)


def _gather_scores(scored: _VideoScores, num_classes: int, accelerator: "Accelerator | None") -> _VideoScores:
    """Return the rows of all processes.

    Tensors are padded to the largest number of rows for the exchange. Example: process 0 has the keys (0, 0), (0, 2),
    process 1 has (0, 1), which it pads with (-1, -1); all then hold four keys, and drop the padding.
    """
    if accelerator is None or accelerator.num_processes == 1:
        return scored
    from accelerate.utils import gather_object

    device = accelerator.device
    count = torch.tensor([len(scored.keys)], device=device)
    max_rows = int(accelerator.gather(count).max())
    keys = torch.full((max_rows, 2), _PADDING_KEY, dtype=torch.long)
    scores = torch.zeros(max_rows, 2, num_classes)
    if scored.keys:
        keys[: len(scored.keys)] = torch.tensor(scored.keys)
        scores[: len(scored.keys)] = torch.stack(scored.scores)
    keys, scores = (accelerator.gather(values.to(device)).cpu() for values in (keys, scores))
    is_real = keys[:, 0] != _PADDING_KEY
    return _VideoScores(
        keys=[(shard, row) for shard, row in keys[is_real].tolist()],
        ids=gather_object(scored.ids),
        labels=gather_object(scored.labels),
        failed=dict(gather_object(list(scored.failed.items()))),
        scores=list(scores[is_real]),
    )


def _build_evaluation(
    scored: _VideoScores,
    output_indices: list[int],
    *,
    label_encoder: LabelEncoder,
    model: nn.Module,
    source: AnySource,
    view_config: MultiViewConfig,
) -> Evaluation | MultiLabelEvaluation | RegressionEvaluation:
    if not scored.keys:
        raise DataError(f"{source.name} is empty: there is nothing to evaluate")
    failed = [scored.failed[key] for key in scored.keys if key in scored.failed]
    if len(failed) == len(scored.keys):
        raise DataError(
            f"none of the {len(failed)} videos of {source.name} can be decoded; the first is {failed[0].path} "
            f"({failed[0].reason})"
        )
    config: Any = model.config
    scores = torch.stack(scored.scores)  # (N, 2, K)
    targets, output_index = label_encoder.encode_valid(scored.labels), torch.tensor(output_indices)
    common: dict[str, Any] = {
        "sample_ids": scored.ids,
        "decoded": torch.tensor([key not in scored.failed for key in scored.keys]),
        "failed": failed,
        "class_names": [config.id2label[index] for index in sorted(config.id2label)],
        "views": {**_describe_views(view_config), "merge": _MERGE_DESCRIPTIONS[label_encoder.kind]},
        "model": _describe_model(model, kind=label_encoder.kind),
        "data": {"name": source.name, "videos": len(scored.keys)},
    }
    if label_encoder.kind == "regression":
        return RegressionEvaluation(labels=targets.view(len(targets), -1), values=scores[:, 0], **common)
    common["data"]["classes"] = len(output_indices)
    by_class: dict[str, Any] = {"probabilities": scores[:, 0], "logits": scores[:, 1]}
    if label_encoder.kind == SINGLE_LABEL:
        return Evaluation(labels=output_index[targets], **by_class, **common)
    labels = torch.zeros(len(targets), len(config.id2label), dtype=torch.bool)
    return MultiLabelEvaluation(labels=labels.index_copy(1, output_index, targets.bool()), **by_class, **common)


def _describe_model(model: nn.Module, *, kind: LabelKind) -> dict[str, Any]:
    config: Any = model.config
    return {
        "name": config.name_or_path or type(model).__name__,
        "class": f"{type(model).__module__.split('.')[0]}.{type(model).__name__}",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "problem_type": kind,
        "outputs" if kind == "regression" else "classes": len(config.id2label),
    }


def _describe_views(view_config: MultiViewConfig) -> dict[str, Any]:
    clip = view_config.clip
    return {
        "temporal": clip.views,
        "spatial": view_config.crops,
        "frames": clip.num_frames,
        "stride": clip.stride if clip.mode == "dense" and clip.frame_seconds is None else None,
        "frame_seconds": clip.frame_seconds if clip.mode == "dense" else None,
        "sampling": clip.mode,
        "size": list(view_config.size),
        "antialias": view_config.antialias,
    }
