"""Extract frozen features of a labeled dataset: every video passes the encoder once, and a probe reads the result.

Shapes: S videos, V clips of each, T frames, C channels, H, W pixels, N tokens of a clip, T' slices in time, D width.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from ..data import DataError, LabelEncoder, Sample, Source
from ..data.clips import sample_generator
from ..data.source import AnySource
from ..inference.model_loading import evaluation_mode, layer_tokens, resolve_layer
from ..inference.prediction import make_view_clips
from ..video.decoding import decode_clip
from ..video.transforms import multi_scale_crop
from .decode_workers import decode_in_workers

if TYPE_CHECKING:
    from ..modeling_videomae import VideoMAEModel
    from ..video_processing_videomae import VideoMAEVideoProcessor

ProbePooling = Literal["mean", "per_frame", "tokens"]
ClipMaker = Callable[[Sample], Tensor]
"""Makes the clips (V, T, C, H, W), normalized, of a sample."""

MAX_FEATURE_BYTES = 16 * 2**30
"""Bytes of features to keep in memory at most, unless the caller says otherwise."""


@dataclass(frozen=True)
class FrozenFeatures:
    """The features of a dataset.

    Attributes:
        features: (S, V, D) pooled, (S, V, T', D) per slice or (S, V, N, D) tokens, on the CPU.
        labels: (S,) class indices.
        sample_ids: S names.
        class_names: names of the classes.
        failed: videos that could not be decoded, which are not among the S: `id`, `label`, `reason`.
    """

    features: Tensor
    labels: Tensor
    sample_ids: list[str]
    class_names: list[str]
    failed: list[dict[str, Any]]

    def relabel(self, class_names: Sequence[str]) -> "FrozenFeatures":
        """Return the same features with the class indices of another dataset.

        Raises:
            DataError: for a class that the other dataset does not have.
        """
        unknown = [name for name in self.class_names if name not in class_names]
        if unknown:
            raise DataError(
                f"the class {unknown[0]!r} is tested but never trained ({len(unknown)} such classes): give splits of "
                f"one dataset, with the same class names"
            )
        indices = torch.tensor([class_names.index(name) for name in self.class_names])
        failed = [{**entry, "label": int(indices[entry["label"]])} for entry in self.failed]
        return replace(self, labels=indices[self.labels], class_names=list(class_names), failed=failed)


class EvalClips:
    """Makes the clips of a test: views spread over the video, and crops of each along the longer side.

    Args:
        processor: the checkpoint's processor.
        num_views: temporal views S.
        crops: crops of each view; 1 is the center.
        antialias: filter when shrinking, as the processor does and the paper's test code does not.
    """

    def __init__(
        self, processor: "VideoMAEVideoProcessor", *, num_views: int = 1, crops: int = 1, antialias: bool = True
    ) -> None:
        self.processor, self.views, self.antialias = processor, (num_views, crops), antialias

    def __call__(self, sample: Sample) -> Tensor:
        name = sample.id if isinstance(sample.video, bytes) else None
        return make_view_clips(
            sample.source, processor=self.processor, views=self.views, antialias=self.antialias, name=name
        )


class AugmentedClips:
    """Makes random training clips: random frames and multi-scale crops, the same for the same seed and sample.

    Args:
        processor: the checkpoint's processor.
        count: clips V of each video. With one per epoch of the probe, every epoch sees a new clip.
        seed: seed of the frames and crops.
    """

    def __init__(self, processor: "VideoMAEVideoProcessor", *, count: int = 1, seed: int = 0) -> None:
        self.processor, self.count, self.seed = processor, count, seed

    def __call__(self, sample: Sample) -> Tensor:
        return torch.cat([self._clip(sample, index) for index in range(self.count)])

    def _clip(self, sample: Sample, index: int) -> Tensor:
        def generator(purpose: str) -> torch.Generator:
            return sample_generator(sample.id, seed=self.seed, epoch=index, purpose=purpose)

        sampler = self.processor.clip_sampler

        def frame_indices(total: int, fps: float) -> list[int]:
            return sampler.train_indices(total, fps, generator=generator("frames"))

        name = sample.id if isinstance(sample.video, bytes) else None
        frames = decode_clip(sample.source, frame_indices, frame_seconds=sampler.stride_seconds, name=name)
        size = (self.processor.crop_size["height"], self.processor.crop_size["width"])
        crop = multi_scale_crop(frames, size, generator=generator("pixels"))
        settings = {"do_sample_frames": False, "input_data_format": "channels_first"}
        clip: Tensor = self.processor(crop, **settings)["pixel_values"]
        return clip


def extract_frozen_features(
    model: "VideoMAEModel",
    source: AnySource,
    *,
    clips: ClipMaker,
    pool: ProbePooling = "mean",
    layer: int = -1,
    batch_size: int = 16,
    num_workers: int = 0,
    max_bytes: int = MAX_FEATURE_BYTES,
    progress: Callable[[int], None] | None = None,
) -> FrozenFeatures:
    """Encode every video of a dataset.

    Args:
        model: the encoder; it is in evaluation mode meanwhile.
        source: labeled videos.
        clips: makes the clips of a video: `EvalClips` or `AugmentedClips`.
        pool: `mean` over all tokens, `per_frame` over the tokens of each slice in time, or all `tokens`.
        layer: of the encoder, as in `hidden_states`: 0 the embeddings, -1 the output (after a final norm, if any).
        batch_size: clips per forward pass.
        num_workers: decoding processes.
        max_bytes: bytes of features to keep at most.
        progress: called with the number of videos done.

    Raises:
        DataError: without labels or a video that decodes; for features over `max_bytes`, or that are not finite.
        ValueError: for a layer that the model does not have.
    """
    if source.class_names is None:
        raise DataError(f"{source.name} has no labels, which a probe needs; put the videos of each class in a folder")
    if pool not in get_args(ProbePooling):
        raise ValueError(f"pool is {pool!r}; choose one of {', '.join(get_args(ProbePooling))}")
    layer = resolve_layer(layer, num_layers=model.config.num_hidden_layers)
    rows: list[tuple[str, Any, Tensor]] = []  # id, label, features
    failed: list[dict[str, Any]] = []
    label_encoder = LabelEncoder(num_classes=len(source.class_names))
    videos = decode_in_workers(source, clips, label_encoder=label_encoder, num_workers=num_workers)
    with closing(videos), evaluation_mode(model):
        for video in videos:
            if video.content is None:
                failed.append({"id": video.id, "label": video.label, "reason": video.reason})
            else:
                features = _encode(model, video.content, pool=pool, layer=layer, batch_size=batch_size)
                _check_features(features, video.id, source, max_bytes)
                rows.append((video.id, video.label, features))
            if progress is not None:
                progress(len(rows) + len(failed))
    if not rows:
        first = f"; the first is {failed[0]['id']} ({failed[0]['reason']})" if failed else ""
        raise DataError(f"none of the {len(failed)} videos of {source.name} can be decoded{first}")
    sample_ids, labels, parts = zip(*rows, strict=True)
    return FrozenFeatures(
        features=torch.stack(parts),
        labels=torch.tensor(labels),
        sample_ids=list(sample_ids),
        class_names=list(source.class_names),
        failed=sorted(failed, key=lambda entry: str(entry["id"])),
    )


@torch.inference_mode()
def _encode(model: "VideoMAEModel", clips: Tensor, *, pool: ProbePooling, layer: int, batch_size: int) -> Tensor:
    """Return the features (V, ..., D) of the clips (V, T, C, H, W) of one video, on the CPU."""
    parts = []
    for batch in clips.split(batch_size):
        batch = batch.to(model.device, model.dtype)
        tokens = layer_tokens(model, batch, layer).float()  # (V, N, D)
        if pool == "mean":
            parts.append(tokens.mean(1).cpu())
        elif pool == "per_frame":
            parts.append(tokens.unflatten(1, (model.clip_grid(batch)[0], -1)).mean(2).cpu())
        else:
            parts.append(tokens.half().cpu())  # the tokens of a large set are many: half the memory
    return torch.cat(parts)


def _check_features(features: Tensor, sample_id: str, source: AnySource, max_bytes: int) -> None:
    """Raise an error if one video's features are not finite, or those of all videos would take too much memory."""
    count = len(source) if isinstance(source, Source) else source.num_samples or 0
    needed = features.numel() * features.element_size() * count
    if needed > max_bytes:
        raise DataError(
            f"the features of {count} videos take {needed / 2**30:.1f} GiB, more than the {max_bytes / 2**30:.1f} GiB "
            f"allowed; pool them more (mean, per_frame), take fewer clips of each video, or raise the limit"
        )
    if not torch.isfinite(features).all():
        raise DataError(f"the features of {sample_id} are not finite: the checkpoint holds broken weights")
