"""The multi-view test: every video of a data set once, its views' scores averaged, in any number of processes.

Videos are dealt out to the processes and the workers by their place in the data set. At the end every process sends
(place, scores) of its videos, filled up to equal counts; the filling is dropped, the rest is put in order. So nothing
is seen twice or lost, whatever the number of processes, and two files of one name stay two videos.

Shapes: B videos, V views, T frames, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .. import stop_signals
from ..credentials import redact_credentials
from ..data.labels import SINGLE_LABEL, LabelEncoder, LabelKind
from ..data.loader import TRIM_EVERY_NUM_VIDEOS, trim_malloc
from ..data.source import AnySource, Label, Sample, Source
from ..data.url_videos import retry_video
from ..data.workers import Workers
from ..errors import DataError
from ..inference.model_loading import as_videomae_config, get_problem_type
from ..ops.view_scores import average_view_scores
from ..stop_signals import SignalInterrupt
from ..video.decoding import VideoBackendError, VideoDecodeError
from ..video.hdr import Transfer, hdr_counter, warn_new_hdr_videos
from ..video.sampling import ClipSampler
from ..video.views import DecodedViews, MultiViewConfig, build_views, decode_views, parse_views
from ..video_processing_videomae import VideoMAEVideoProcessor
from .class_matching import ClassMismatchError, MatchBy, match_classes
from .multilabel import MultiLabelEvaluation
from .regression import RegressionEvaluation
from .results import Evaluation, FailedVideo

if TYPE_CHECKING:
    from accelerate import Accelerator

VideoKey = tuple[int, int]  # (shard, number in it); a source in any order is one shard
_PADDING_KEY = -1
_MERGE_DESCRIPTIONS = {
    "single_label_classification": "mean of softmax",
    "multi_label_classification": "mean of sigmoid",
    "regression": "mean",
}


@dataclass(frozen=True, slots=True)
class _VideoRef:
    """One video to read: its place, and of a streamed source the sample itself."""

    key: VideoKey
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class _DecodedViews:
    """What a worker sends: the frames of a video, or why it has none, or the error that ends the evaluation."""

    key: VideoKey
    id: str = ""
    path: str = ""
    label: Label = _PADDING_KEY
    views: DecodedViews | None = None
    reason: str = ""
    error: str = ""
    error_type: type[Exception] = DataError
    hdr: Mapping[str, Transfer] = field(default_factory=dict)


class _ViewDataset(Dataset[_DecodedViews]):
    """Jobs -> frames, in any process."""

    def __init__(self, source: AnySource, plan: MultiViewConfig, label_encoder: LabelEncoder) -> None:
        self.source, self.plan, self.label_encoder = source, plan, label_encoder
        self._num_decoded = 0

    def __getitem__(self, video_ref: _VideoRef) -> _DecodedViews:
        sample = video_ref.sample
        self._num_decoded += 1
        if self._num_decoded % TRIM_EVERY_NUM_VIDEOS == 0:
            trim_malloc()
        try:
            if sample is None:
                assert isinstance(self.source, Source)
                sample = self.source[video_ref.key[1]]
            return self._read(sample, video_ref.key)
        except (DataError, VideoBackendError) as error:
            return _DecodedViews(video_ref.key, error=str(error), error_type=type(error))

    def _read(self, sample: Sample, key: VideoKey) -> _DecodedViews:
        label_error, label = self.label_encoder.label_error(sample.label), sample.label
        if label_error is not None or label is None:
            raise DataError(
                f"{self.source.name}: {sample.id} {label_error}; every video of an evaluation needs a label: mend it, take "
                f"a labelled split, or remove this video"
            )
        path, name = sample.location, None if isinstance(sample.video, str) else sample.id
        try:
            views = retry_video(sample, lambda here: decode_views(here.source, plan=self.plan, name=name))
        except (VideoDecodeError, OSError) as error:
            reason = redact_credentials(error.reason if isinstance(error, VideoDecodeError) else str(error))
            return _DecodedViews(key, sample.id, path, label, reason=reason)
        return _DecodedViews(key, sample.id, path, label, views, hdr=hdr_counter.take())

    def __getstate__(self) -> dict[str, Any]:
        # Workers of a streamed source get their samples with the job.
        if isinstance(self.source, Source):
            return self.__dict__
        return {**self.__dict__, "source": _NameOnlySource(self.source.name)}


@dataclass(frozen=True)
class _NameOnlySource:
    name: str


@dataclass(frozen=True, slots=True)
class _RankSampler:
    """The videos of one process, as the `sampler` of a DataLoader: it iterates them in the evaluating process."""

    source: AnySource
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[_VideoRef]:
        source = self.source
        if isinstance(source, Source):
            yield from (_VideoRef((0, place)) for place in range(self.rank, len(source), self.world_size))
            return
        # With fewer shards than processes all read all shards, and each takes its share of the samples.
        whole = source.num_shards >= self.world_size
        for shard in range(self.rank if whole else 0, source.num_shards, self.world_size if whole else 1):
            samples = enumerate(source.read_shard(shard))
            rank_samples = samples if whole else islice(samples, self.rank, None, self.world_size)
            yield from (_VideoRef((shard, number), sample) for number, sample in rank_samples)


@dataclass
class _VideoScores:
    """What one process, or all together, found: a row per video."""

    keys: list[VideoKey] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    failed: dict[VideoKey, FailedVideo] = field(default_factory=dict)
    scores: list[Tensor] = field(default_factory=list)  # (2, K) each: merged scores, mean logits

    def add(self, read: _DecodedViews, scores: Tensor) -> None:
        self.keys.append(read.key)
        self.ids.append(read.id)
        self.labels.append(read.label)
        self.scores.append(scores)
        if read.views is None:
            self.failed[read.key] = FailedVideo(id=read.id, path=read.path, reason=read.reason)

    def sort_by_key(self) -> "_VideoScores":
        """Sorted by place. Every place comes once: anything else is a fault of ours."""
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
    """Test a model on a labelled data set, as the paper does: accuracies of a classifier of one class per video, mean
    average precision where a video may have several, errors of a regression, as the model's `problem_type` says.

    Args:
        model: ours or stock transformers', unwrapped, where it shall compute; left in the mode it came in.
        source: by `hf_videomae.data.open_source`, with the `label_kind` of the model; every video is seen once.
        processor: size, mean and deviation of the views, and their sampling where there is no `plan`; made for the
            model's configuration where it is None.
        plan: frames, stride and mode of the clips; its own number of views plays no part.
        views: temporal positions x crops: 5x3 on Kinetics, 2x3 on Something-Something, 10x3 on HMDB51.
        batch_size: views per forward pass.
        num_workers: decoding processes.
        accelerator: of several processes, which then share the videos and all get the whole result.
        matching: how the data set's classes find the model's; see `match_classes`. Numbers need none.
        antialias: resize as the serving processor does, instead of as the paper's test code.
        progress: called with (videos done by this process, its number of videos or None).

    Returns:
        Evaluation, MultiLabelEvaluation or RegressionEvaluation.

    Raises:
        DataError: for a data set without labels, with a video whose label is missing or of another kind, empty, or of
            which nothing decodes; `ClassMismatchError` where its classes are not the model's.
        ValueError: for a model without a classifier, or whose scores are not finite.
        VideoBackendError: when no decoder works on this machine.
    """
    config: Any = getattr(model, "config", None)
    kind = _check_model(model, config)
    if batch_size < 1 or num_workers < 0:
        raise ValueError(f"batch_size is {batch_size}, num_workers {num_workers}; give at least 1, at least 0")
    output_indices = _output_indices(source, config, kind=kind, matching=matching)
    label_encoder = LabelEncoder(kind=kind, num_classes=len(output_indices))
    view_plan = _view_plan(config, processor=processor, plan=plan, views=parse_views(views), antialias=antialias)
    rank, world = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    video_refs = _RankSampler(source, rank, world)
    training = model.training
    model.eval()
    error: BaseException | None = None
    found, workers = _VideoScores(), Workers(num_workers)
    hdr_before = hdr_counter.names()
    try:
        with nullcontext() if accelerator is None else accelerator.autocast():
            with stop_signals.interruptible():  # it reads ahead for the workers
                decoded_views = _decode_in_workers(_ViewDataset(source, view_plan, label_encoder), video_refs, workers)
            found = _score_videos(
                model, decoded_views, view_plan, batch_size, _progress_callback(progress, video_refs)
            )
    except (DataError, VideoBackendError, ValueError) as problem:
        error = problem
    except SignalInterrupt as stop:
        if stop.is_second_signal or not stop_signals.has_unsaved_work():
            raise
        workers.exit_on_stop_signal()
        # Without its traceback, which would keep the workers' queues until they are collected, in any order.
        error = SignalInterrupt(stop.number)
    finally:
        workers.exit_on_stop_signal()
        model.train(training)
    warn_new_hdr_videos(hdr_before)
    _raise_if_any_rank_failed(error, accelerator)
    found = _gather_scores(found, len(config.id2label), accelerator).sort_by_key()
    return _build_evaluation(
        found, output_indices, label_encoder=label_encoder, model=model, source=source, plan=view_plan
    )


def _check_model(model: nn.Module, config: Any) -> LabelKind:
    if config is None or not hasattr(model, "classifier"):
        raise ValueError(f"{type(model).__name__} has no classifier; give a VideoMAEForVideoClassification")
    kind = get_problem_type(config)
    if kind == SINGLE_LABEL and len(config.id2label) < 2:
        raise ValueError("the model knows a single class, so it is always right; give one of two or more classes")
    return kind


def _output_indices(source: AnySource, config: Any, *, kind: LabelKind, matching: MatchBy) -> list[int]:
    """The model's output of each class, or number, of the data set."""
    if kind == "regression":
        if source.class_names is not None:
            raise ClassMismatchError(
                f"{source.name} has {len(source.class_names)} classes, and the model predicts numbers; give a data "
                f"set whose labels are numbers (label_kind='regression'), or a classifier"
            )
        return list(range(len(config.id2label)))
    if source.class_names is None:
        raise DataError(
            f"{source.name} has no labels, so nothing can be evaluated on it; see `--dataset` in the README"
        )
    return match_classes(source.class_names, config.id2label, matching=matching)


def _view_plan(
    config: Any,
    *,
    processor: VideoMAEVideoProcessor | None,
    plan: ClipSampler | None,
    views: tuple[int, int],
    antialias: bool,
) -> MultiViewConfig:
    processor = processor or VideoMAEVideoProcessor.from_config(as_videomae_config(config))
    clip = plan or processor.clip_sampler
    return MultiViewConfig(
        clip=replace(clip, views=views[0]),
        crops=views[1],
        size=(processor.crop_size["height"], processor.crop_size["width"]),
        image_mean=processor.image_mean,
        image_std=processor.image_std,
        antialias=antialias,
    )


def _decode_in_workers(videos: _ViewDataset, video_refs: _RankSampler, workers: Workers) -> Iterator[_DecodedViews]:
    sampler: Any = video_refs
    # A generator of its own leaves the process's random state alone.
    generator = torch.Generator()
    loader: Any = DataLoader(
        videos,
        batch_size=None,
        sampler=sampler,
        collate_fn=_return_unchanged,
        generator=generator,
        **workers.options,
    )
    return workers.results(loader)


def _return_unchanged(read: Any) -> Any:
    return read


def _progress_callback(
    progress: Callable[[int, int | None], None] | None, video_refs: _RankSampler
) -> Callable[[int], None]:
    total = (
        len(range(video_refs.rank, len(video_refs.source), video_refs.world_size))
        if isinstance(video_refs.source, Source)
        else None
    )
    return lambda done: progress(done, total) if progress is not None else None


@torch.no_grad()
def _score_videos(
    model: nn.Module,
    decoded_views: Iterator[_DecodedViews],
    plan: MultiViewConfig,
    batch_size: int,
    report_progress: Callable[[int], None],
) -> _VideoScores:
    """The scores of this process's videos."""
    found = _VideoScores()
    waiting: list[_DecodedViews] = []
    num_classes = len(model.config.id2label)  # type: ignore[union-attr, arg-type]

    def flush() -> None:
        for read, scores in zip(waiting, _compute_scores(model, waiting, plan, batch_size), strict=True):
            if not torch.isfinite(scores).all():
                raise ValueError(f"the model's scores for {read.id} are not finite: its weights or precision are bad")
            found.add(read, scores)
        waiting.clear()

    for read in _interruptible(decoded_views):
        hdr_counter.add(read.hdr)
        if read.error:
            raise read.error_type(read.error)
        if read.views is None:
            found.add(read, torch.zeros(2, num_classes))
        else:
            waiting.append(read)
        if len(waiting) * plan.num_views >= batch_size:
            flush()
        report_progress(len(found.keys) + len(waiting))
    flush()
    return found


def _interruptible(decoded_views: Iterator[_DecodedViews]) -> Iterator[_DecodedViews]:
    """Let a stop signal end the wait for a video, also in an evaluation that is part of a training."""
    while True:
        with stop_signals.interruptible():
            read = next(decoded_views, None)
        if read is None:
            return
        yield read


def _compute_scores(
    model: nn.Module, decoded_views: list[_DecodedViews], plan: MultiViewConfig, batch_size: int
) -> list[Tensor]:
    """(2, K) of each video: the mean of its views' softmax (sigmoid, numbers), and of their logits."""
    if not decoded_views:
        return []
    weights = next(model.parameters())
    clips = torch.cat(
        [build_views(read.views, plan=plan, device=weights.device) for read in decoded_views if read.views]
    )
    clips = clips.to(weights.dtype)
    logits = torch.cat(
        [model(pixel_values=part, return_dict=True).logits.float().cpu() for part in clips.split(batch_size)]
    )
    per_video = logits.view(len(decoded_views), plan.num_views, -1)
    merged = average_view_scores(per_video, problem_type=get_problem_type(model.config))
    return list(torch.stack([merged, per_video.mean(1)], dim=1))


# Several processes.


def _raise_if_any_rank_failed(error: BaseException | None, accelerator: "Accelerator | None") -> None:
    """Raise what went wrong here or in another process, in all of them: none waits for one that has left."""
    faults = [None if error is None else (getattr(error, "number", None), str(error))]
    if accelerator is not None and accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        faults = gather_object(faults)
    found = [label_error for label_error in faults if label_error is not None]
    for number, _ in found:
        if number is not None:
            raise SignalInterrupt(number)
    if error is not None:
        raise error
    for _, message in found:
        raise DataError(message)


def _gather_scores(found: _VideoScores, num_classes: int, accelerator: "Accelerator | None") -> _VideoScores:
    """The rows of all processes: numbers as tensors of equal length, whose filling is dropped again, and names."""
    if accelerator is None or accelerator.num_processes == 1:
        return found
    from accelerate.utils import gather_object

    device = accelerator.device
    count = torch.tensor([len(found.keys)], device=device)
    max_rows = int(accelerator.gather(count).max())
    keys = torch.full((max_rows, 2), _PADDING_KEY, dtype=torch.long)
    scores = torch.zeros(max_rows, 2, num_classes)
    if found.keys:
        keys[: len(found.keys)] = torch.tensor(found.keys)
        scores[: len(found.keys)] = torch.stack(found.scores)
    keys, scores = (accelerator.gather(values.to(device)).cpu() for values in (keys, scores))
    real = keys[:, 0] != _PADDING_KEY
    return _VideoScores(
        keys=[(shard, number) for shard, number in keys[real].tolist()],
        ids=gather_object(found.ids),
        labels=gather_object(found.labels),
        failed=dict(gather_object(list(found.failed.items()))),
        scores=list(scores[real]),
    )


def _build_evaluation(
    found: _VideoScores,
    output_indices: list[int],
    *,
    label_encoder: LabelEncoder,
    model: nn.Module,
    source: AnySource,
    plan: MultiViewConfig,
) -> Evaluation | MultiLabelEvaluation | RegressionEvaluation:
    if not found.keys:
        raise DataError(f"{source.name} is empty: there is nothing to evaluate")
    failed = [found.failed[key] for key in found.keys if key in found.failed]
    if len(failed) == len(found.keys):
        raise DataError(
            f"none of the {len(failed)} videos of {source.name} can be decoded; the first is {failed[0].path} "
            f"({failed[0].reason})"
        )
    config: Any = model.config
    scores = torch.stack(found.scores)  # (N, 2, K)
    targets, output_index = label_encoder.targets(found.labels), torch.tensor(output_indices)
    common: dict[str, Any] = {
        "sample_ids": found.ids,
        "decoded": torch.tensor([key not in found.failed for key in found.keys]),
        "failed": failed,
        "class_names": [config.id2label[number] for number in sorted(config.id2label)],
        "views": {**_describe_views(plan), "merge": _MERGE_DESCRIPTIONS[label_encoder.kind]},
        "model": _describe_model(model, kind=label_encoder.kind),
        "data": {"name": source.name, "videos": len(found.keys)},
    }
    if label_encoder.kind == "regression":
        return RegressionEvaluation(labels=targets.view(len(targets), -1), values=scores[:, 0], **common)
    common["data"]["classes"] = len(output_indices)
    scored: dict[str, Any] = {"probabilities": scores[:, 0], "logits": scores[:, 1]}
    if label_encoder.kind == SINGLE_LABEL:
        return Evaluation(labels=output_index[targets], **scored, **common)
    labels = torch.zeros(len(targets), len(config.id2label), dtype=torch.bool)
    return MultiLabelEvaluation(labels=labels.index_copy(1, output_index, targets.bool()), **scored, **common)


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


def _describe_views(plan: MultiViewConfig) -> dict[str, Any]:
    clip = plan.clip
    return {
        "temporal": clip.views,
        "spatial": plan.crops,
        "frames": clip.num_frames,
        "stride": clip.stride if clip.mode == "dense" and clip.frame_seconds is None else None,
        "frame_seconds": clip.frame_seconds if clip.mode == "dense" else None,
        "sampling": clip.mode,
        "size": list(plan.size),
        "antialias": plan.antialias,
    }


__all__ = ["evaluate"]
