"""Predict what happens in videos: the class, the classes or the numbers that a fine-tuned model gives them.

Shapes: S temporal views, C crops, V = S * C, T frames, K classes.
"""

import os
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ..credentials import redact_credentials
from ..data.labels import SINGLE_LABEL, LabelKind
from ..ops.view_scores import average_view_scores
from ..video.decoding import VideoDecodeError
from ..video.hdr import hdr_counter, warn_new_hdr_videos
from ..video.sampling import ClipSampler
from ..video.views import MultiViewConfig, build_views, decode_views, parse_views, resize_views
from ..video_processing_videomae import VideoMAEVideoProcessor
from .model_loading import evaluation_mode, get_problem_type, load_classifier_and_processor
from .output_checks import NonFiniteOutputError, check_finite
from .sampling_check import find_sampling_mismatches
from .video_inputs import FILE_TYPES, resolve_videos

logger = logging.get_logger("hf_videomae")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for one video.

    Attributes:
        video: its path or URL, or `<video 0>` and so on for frames and bytes.
        labels: the most likely classes, best first; for a regression the names of all outputs.
        scores: the scores of these labels, averaged over the views: the softmax; the sigmoid if a video may have
            several classes (each has a probability of its own, and they do not sum to 1); the numbers of a regression.
        probabilities: (K,) of all classes; None for a regression.
        views: (temporal views, crops) that were averaged.
        kind: the model's problem type: one class per video, several, or numbers.
        error: why the video could not be decoded, or has no finite scores; then there are no labels.
        decoded: whether the video could be decoded.
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
        """Return plain values, for JSON."""
        if self.error is not None:
            return {"video": self.video, "error": self.error}
        scored, views = list(zip(self.labels, self.scores, strict=True)), "{}x{}".format(*self.views)
        if self.kind == "regression":
            return {"video": self.video, "prediction": dict(scored), "views": views}
        predictions = [{"label": label, "score": score} for label, score in scored]
        return {"video": self.video, "predictions": predictions, "views": views}

    def to_text(self) -> str:
        """Return the prediction in one line."""
        if self.error is not None:
            return f"no prediction: {self.error}" if self.decoded else f"cannot be decoded: {self.error}"
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
    """Predict the classes of videos, or the numbers of a regression.

    Args:
        model: a classifier, or the Hub id or folder of one: from this package or from stock transformers.
        videos: one or a list of: a path, a URL, a folder of videos, a glob pattern, or anything that
            `VideoMAEVideoProcessor` takes (bytes, frames, a decoder). Decoded frames are one video. A URL is read from
            wherever it leads, including this machine's own network, so do not pass one chosen by a stranger (an
            endpoint made by `hf-videomae endpoint` checks them); each server is logged once.
        views: temporal positions x crops to average. 1x1, the center, is the fastest; the paper tests with 5x3
            (Kinetics) or 2x3 (Something-Something), with the frames resized as `processor` does.
        top_k: number of classes to return; a regression returns all its numbers.
        sampling: `dense` or `uniform`, instead of the mode saved with the model.
        stride: frames between two frames of a dense clip, instead of the stride saved with the model.
        processor: turns a video into clips; by default the one saved with the model, or one for its configuration.
        device: where to compute; by default where the model is.
        batch_size: clips per forward pass.
        keep_going: if a video cannot be decoded or has no finite scores, put the error into its `Prediction` and
            continue.

    Returns:
        one `Prediction` per video, in order.

    Raises:
        ValueError: for a model without a classifier, or an input that is not a video.
        VideoDecodeError: for a video that cannot be decoded, unless `keep_going`.
        NonFiniteOutputError: for scores that are not finite, unless `keep_going`.
    """
    view_counts = parse_views(views)
    if top_k < 1 or batch_size < 1:
        raise ValueError(f"top_k is {top_k} and batch_size {batch_size}; both must be at least 1")
    network, own_processor = load_classifier_and_processor(model, processor, device)
    if processor is None and sampling is None and not isinstance(model, PreTrainedModel):
        for mismatch in find_sampling_mismatches(os.fspath(model), network.config, own_processor.clip_sampler):
            logger.warning(mismatch)
    processor = _override_sampling(own_processor, sampling=sampling, stride=stride)
    hdr_before = hdr_counter.names()
    try:
        with evaluation_mode(network):
            return [
                _predict_one(network, video, name, processor, view_counts, top_k, batch_size, keep_going)
                for name, video in resolve_videos(videos)
            ]
    finally:
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
    kind, id2label = get_problem_type(network.config), network.config.id2label
    scores = average_view_scores(logits[None], problem_type=kind)[0]
    common: dict[str, Any] = {"video": name, "views": views, "kind": kind}
    if kind == "regression":
        labels = [id2label[index] for index in range(len(scores))]
        return Prediction(labels=labels, scores=scores.tolist(), **common)
    best = scores.topk(min(top_k, len(scores)))
    labels = [id2label[index] for index in best.indices.tolist()]
    return Prediction(labels=labels, scores=best.values.tolist(), probabilities=scores, **common)


def compute_view_logits(network: nn.Module, clips: Tensor, *, batch_size: int) -> Tensor:
    """Return the logits (V, K), float32 on the CPU, of clips (V, T, channels, H, W)."""
    weights = next(network.parameters())
    clips = clips.to(weights.dtype)
    parts = [
        network(pixel_values=part.to(weights.device), return_dict=True).logits.float().cpu()
        for part in clips.split(batch_size)
    ]
    return torch.cat(parts)


def make_view_config(
    processor: VideoMAEVideoProcessor,
    *,
    views: tuple[int, int],
    sampler: ClipSampler | None = None,
    antialias: bool = True,
) -> MultiViewConfig:
    """Return the views of a test in the size and normalization of a processor.

    Args:
        processor: gives the size, mean and deviation.
        views: temporal positions and crops; they replace the sampler's own number of views.
        sampler: which frames make a clip; None: the processor's.
        antialias: filter when shrinking, as the processor does and the paper's test code does not.
    """
    return MultiViewConfig(
        clip=replace(sampler or processor.clip_sampler, views=views[0]),
        crops=views[1],
        size=(processor.crop_size["height"], processor.crop_size["width"]),
        image_mean=processor.image_mean,
        image_std=processor.image_std,
        antialias=antialias,
    )


def make_view_clips(
    video: Any,
    *,
    processor: VideoMAEVideoProcessor,
    views: tuple[int, int],
    antialias: bool = True,
    name: str | None = None,
) -> Tensor:
    """Return the S x C views of one video, resized and normalized as the processor does: (S * C, T, channels, H, W).

    Args:
        video: anything that `VideoMAEVideoProcessor` takes.
        processor: turns a video into clips.
        views: temporal positions S and crops C.
        antialias: filter when shrinking, as the processor does and the paper's test code does not.
        name: what errors call a video in memory.

    Raises:
        ValueError: for an input that is not a video.
        VideoDecodeError: for a video that cannot be decoded.
    """
    positions, crops = views
    if crops == 1 and antialias:
        clips: Tensor = processor(video, num_views=positions)["pixel_values"]
        return clips
    config = make_view_config(processor, views=views, antialias=antialias)
    if isinstance(video, FILE_TYPES):
        return build_views(decode_views(video, plan=config, name=name), plan=config)
    raw = {"do_resize": False, "do_center_crop": False, "do_normalize": False}
    pixels = processor(video, num_views=positions, **raw)["pixel_values"]  # (S, T, channels, H, W) in [0, 1]
    return build_views(resize_views(pixels, plan=config), plan=config)


def _override_sampling(
    processor: VideoMAEVideoProcessor, *, sampling: str | None, stride: int | None
) -> VideoMAEVideoProcessor:
    """Return the processor, or a copy of it that samples as asked; the caller's processor does not change."""
    if sampling is None and stride is None:
        return processor
    mode: Any = sampling
    sampler = processor.clip_sampler.with_overrides(mode=mode, stride=stride)
    changes = {
        "sampling_mode": sampler.mode,
        "frame_stride": sampler.stride,
        "frame_seconds": sampler.frame_seconds,
    }
    adapted: VideoMAEVideoProcessor = type(processor).from_dict(processor.to_dict() | changes)
    return adapted
