"""What happens in a video: the class, the classes or the numbers that a fine-tuned model sees in it.

Shapes: S temporal views, C crops, V = S * C, T frames, K classes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from ..credentials import redact_credentials
from ..data.labels import SINGLE_LABEL, LabelKind
from ..ops.view_scores import average_view_scores
from ..video.decoding import VideoDecodeError
from ..video.hdr import hdr_counter, warn_new_hdr_videos
from ..video.segments import VideoSegment
from ..video.views import MultiViewConfig, build_views, decode_views, parse_views, resize_views
from ..video_processing_videomae import VideoMAEVideoProcessor
from .model_loading import (
    display_name,
    find_inputs,
    get_problem_type,
    load_classifier,
    load_processor,
    log_remote_host,
    resolve_device,
)
from .output_checks import NonFiniteOutputError, check_finite
from .sampling_check import find_sampling_mismatches

logger = logging.get_logger("hf_videomae")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer for one video.

    Attributes:
        video: its path or URL, or `<video 0>` and so on for frames and bytes.
        labels: the most likely classes, the best first; of a regression the names of all its outputs.
        scores: of these classes: the mean of the views' softmax, or of their sigmoid where a video may have several
            classes (each has a probability of its own, which do not sum to 1); of a regression the mean numbers.
        probabilities: (K,) of all classes; None for a regression.
        views: (temporal views, crops) that were averaged.
        kind: of the model: one class per video, several, or numbers.
        error: why it could not be read, or has no finite scores; then there are no labels.
        decoded: whether it could be read.
    """

    video: str
    labels: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    probabilities: Tensor | None = None
    views: tuple[int, int] = (1, 1)
    kind: LabelKind = SINGLE_LABEL
    error: str | None = None
    decoded: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        if self.error is not None:
            return {"video": self.video, "error": self.error}
        scored, views = list(zip(self.labels, self.scores, strict=True)), "{}x{}".format(*self.views)
        if self.kind == "regression":
            return {"video": self.video, "prediction": dict(scored), "views": views}
        answers = [{"label": label, "score": score} for label, score in scored]
        return {"video": self.video, "predictions": answers, "views": views}

    def to_text(self) -> str:
        """The answer in a line."""
        if self.error is not None:
            return f"no answer: {self.error}" if self.decoded else f"cannot be decoded: {self.error}"
        form = ".6g" if self.kind == "regression" else ".3f"
        return "  ".join(f"{label} {score:{form}}" for label, score in zip(self.labels, self.scores, strict=True))


@torch.no_grad()
def predict(
    model: PreTrainedModel | str | os.PathLike[str],
    videos: Any,
    *,
    views: str | tuple[int, int] = (1, 1),
    top_k: int = 5,
    sampling: str | None = None,
    stride: int | None = None,
    processor: VideoMAEVideoProcessor | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 16,
    keep_going: bool = False,
) -> list[Prediction]:
    """Name what happens in videos, or give the numbers that a regression predicts.

    Args:
        model: a classifier, or the Hub id or folder of one: ours or stock transformers'.
        videos: one or a list of: a path, a URL, a folder of videos, a glob pattern, or whatever
            `VideoMAEVideoProcessor` takes (bytes, frames, a decoder). Decoded frames are one video. A URL is read from
            wherever it leads, this machine's own network included, so pass none that a stranger chose (an endpoint
            of `hf-videomae endpoint` checks those); each server is named once in the log.
        views: temporal positions x crops that are averaged. 1x1, the centre, is the quickest; the paper's test is 5x3
            (Kinetics) or 2x3 (Something-Something), with the frames resized as `processor` does.
        top_k: classes in the answer; a regression gives all its numbers.
        sampling: `dense` or `uniform`, instead of what was saved with the model.
        stride: of dense clips, instead of what was saved with the model.
        processor: how a video becomes a clip; the one saved with the model, or one made for its configuration.
        device: where to compute; where the model is, by default.
        batch_size: clips per forward pass.
        keep_going: put the error of a video that cannot be decoded, or has no finite scores, into its `Prediction`
            and go on.

    Returns:
        one `Prediction` per video, in order.

    Raises:
        ValueError: for a model without a classifier, or input that is no video; `VideoDecodeError` for a video that
            cannot be decoded, and `NonFiniteOutputError` for scores that are not finite, unless `keep_going`.
    """
    view_counts = parse_views(views)
    if top_k < 1 or batch_size < 1:
        raise ValueError(f"top_k is {top_k} and batch_size {batch_size}; both must be at least 1")
    device = resolve_device(device)
    network = load_classifier(model)
    if processor is None:
        processor = load_processor(model, network)
        if sampling is None and not isinstance(model, PreTrainedModel):
            for mismatch in find_sampling_mismatches(os.fspath(model), network.config, processor.clip_sampler):
                logger.warning(mismatch)
    plan = _override_sampling(processor, sampling=sampling, stride=stride)
    if device is not None:
        network.to(device)  # type: ignore[arg-type]
    training, hdr_before = network.training, hdr_counter.names()
    network.eval()
    try:
        return [
            _predict_one(network, video, name, plan, view_counts, top_k, batch_size, keep_going)
            for name, video in resolve_videos(videos)
        ]
    finally:
        network.train(training)
        warn_new_hdr_videos(hdr_before)


def _predict_one(
    network: PreTrainedModel,
    video: Any,
    name: str,
    processor: VideoMAEVideoProcessor,
    views: tuple[int, int],
    top_k: int,
    batch_size: int,
    keep_going: bool,
) -> Prediction:
    try:
        clips = make_view_clips(video, processor=processor, views=views)  # (V, T, channels, H, W)
        logits = compute_view_logits(network, clips, batch_size=batch_size)
        check_finite(logits, what="scores", video=name)
    except (VideoDecodeError, NonFiniteOutputError) as error:
        if not keep_going:
            raise
        decoded = isinstance(error, NonFiniteOutputError)
        return Prediction(video=name, error=redact_credentials(error.reason or str(error)), decoded=decoded)
    kind, names = get_problem_type(network.config), network.config.id2label
    scores = average_view_scores(logits[None], problem_type=kind)[0]
    if kind == "regression":
        labels = [names[number] for number in range(len(scores))]
        return Prediction(video=name, labels=labels, scores=scores.tolist(), views=views, kind=kind)
    best = scores.topk(min(top_k, len(scores)))
    labels = [names[number] for number in best.indices.tolist()]
    return Prediction(
        video=name, labels=labels, scores=best.values.tolist(), probabilities=scores, views=views, kind=kind
    )


def compute_view_logits(network: PreTrainedModel, clips: Tensor, *, batch_size: int) -> Tensor:
    """What a classifier makes of the views of one video: (V, K) float32, on the CPU."""
    clips = clips.to(network.dtype)
    parts = [
        network(pixel_values=part.to(network.device), return_dict=True).logits.float().cpu()
        for part in clips.split(batch_size)
    ]
    return torch.cat(parts)


def make_view_clips(video: Any, *, processor: VideoMAEVideoProcessor, views: tuple[int, int]) -> Tensor:
    """The S x C views of one video, resized and normalised as the processor does: (S * C, T, channels, H, W).

    Raises:
        ValueError: for input that is no video; `VideoDecodeError` for one that cannot be decoded.
    """
    positions, crops = views
    if crops == 1:
        clips: Tensor = processor(video, num_views=positions)["pixel_values"]
        return clips
    plan = MultiViewConfig(
        clip=replace(processor.clip_sampler, views=positions),
        crops=crops,
        size=(processor.crop_size["height"], processor.crop_size["width"]),
        image_mean=processor.image_mean,
        image_std=processor.image_std,
        antialias=True,
    )
    if isinstance(video, (str, os.PathLike, bytes, bytearray, memoryview, VideoSegment)):
        return build_views(decode_views(video, plan=plan), plan=plan)
    raw = {"do_resize": False, "do_center_crop": False, "do_normalize": False}
    pixels = processor(video, num_views=positions, **raw)["pixel_values"]  # (S, T, channels, H, W) in [0, 1]
    return build_views(resize_views(pixels, plan=plan), plan=plan)


def _override_sampling(
    processor: VideoMAEVideoProcessor, *, sampling: str | None, stride: int | None
) -> VideoMAEVideoProcessor:
    """The processor, with another clip plan where one was asked for; the caller's is left as it was."""
    if sampling is None and stride is None:
        return processor
    mode: Any = sampling
    plan = processor.clip_sampler.with_overrides(mode=mode, stride=stride)
    changes = {"sampling_mode": plan.mode, "frame_stride": plan.stride, "frame_seconds": plan.frame_seconds}
    adapted: VideoMAEVideoProcessor = type(processor).from_dict(processor.to_dict() | changes)
    return adapted


def resolve_videos(videos: Any) -> list[tuple[str, Any]]:
    """(name, video) of what the caller gave; folders and patterns opened."""
    if _is_path(videos) or isinstance(videos, VideoSegment):
        videos = [videos]
    if isinstance(videos, Sequence) and not isinstance(videos, (bytes, bytearray, memoryview)):
        if not videos:
            raise ValueError("an empty list came; give at least one video")
        if all(_is_path(item) or isinstance(item, VideoSegment) for item in videos):
            return [(display_name(video), video) for video in find_inputs(videos)]
        if not all(_is_frame(item) for item in videos):
            for item in filter(_is_path, videos):
                log_remote_host(item)
            return [(display_name(item) if _is_path(item) else f"<video {n}>", item) for n, item in enumerate(videos)]
    elif getattr(videos, "ndim", 4) == 5:
        return [(f"<video {number}>", video) for number, video in enumerate(videos)]
    return [("<video 0>", videos)]


def _is_path(video: Any) -> bool:
    return isinstance(video, (str, os.PathLike))


def _is_frame(item: Any) -> bool:
    """A picture of one video, as `VideoMAEVideoProcessor` takes lists of them."""
    return hasattr(item, "getbands") or getattr(item, "ndim", 0) in (2, 3)
