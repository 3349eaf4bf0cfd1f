"""Frozen features of a labelled data set: each video through the encoder once, kept in memory for the probes.

Shapes: S videos, V clips of each, T frames, C channels, H, W pixels, N tokens of a clip, T' tubelets, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data import DataError, Sample, Source
from ..data.clips import sample_generator
from ..data.source import AnySource
from ..data.url_videos import retry_video
from ..data.workers import Workers
from ..video.decoding import VideoBackendError, VideoDecodeError, decode_clip
from ..video.transforms import multi_scale_crop
from ..video.views import MultiViewConfig, build_views, decode_views

if TYPE_CHECKING:
    from ..modeling_videomae import VideoMAEModel
    from ..video_processing_videomae import VideoMAEVideoProcessor

ProbePooling = Literal["mean", "per_frame", "tokens"]
ClipMaker = Callable[[Sample], Tensor]
"""Sample -> (V, T, C, H, W), normalised."""

MAX_FEATURE_BYTES = 16 * 2**30
"""Bytes of features that are kept before the user is asked for a smaller form."""


@dataclass(frozen=True)
class FrozenFeatures:
    """What a frozen encoder makes of a data set.

    Attributes:
        features: (S, V, D) pooled, (S, V, T', D) per tubelet or (S, V, N, D) tokens, on the CPU.
        labels: (S,) class numbers.
        sample_ids: S names.
        class_names: what the numbers mean.
        failed: videos that could not be decoded: `id`, `label`, `reason`. They are not among the S.
    """

    features: Tensor
    labels: Tensor
    sample_ids: list[str]
    class_names: list[str]
    failed: list[dict[str, Any]]

    def relabel(self, class_names: Sequence[str]) -> "FrozenFeatures":
        """The same with the class numbers of another data set.

        Raises:
            DataError: for a class that the other data set does not have.
        """
        unknown_classes = [name for name in self.class_names if name not in class_names]
        if unknown_classes:
            raise DataError(
                f"the class {unknown_classes[0]!r} is tested and never trained ({len(unknown_classes)} such classes): give splits of "
                f"one data set, with the same class names"
            )
        numbers = torch.tensor([class_names.index(name) for name in self.class_names])
        failed = [{**entry, "label": int(numbers[entry["label"]])} for entry in self.failed]
        return replace(self, labels=numbers[self.labels], class_names=list(class_names), failed=failed)


class EvalClips:
    """The views of a test: clips spread over the video, and crops of each along the longer side.

    Args:
        processor: of the checkpoint.
        num_views: temporal views S.
        crops: of each; 1 is the centre.
        antialias: filter when shrinking, as the processor does; the paper's test code does not.
    """

    __test__ = False  # a name that pytest would collect

    def __init__(
        self, processor: "VideoMAEVideoProcessor", *, num_views: int = 1, crops: int = 1, antialias: bool = True
    ) -> None:
        self.processor, self.num_views, self.crops, self.antialias = processor, num_views, crops, antialias

    def __call__(self, sample: Sample) -> Tensor:
        if self.crops == 1 and self.antialias:
            clips: Tensor = self.processor(sample.source, num_views=self.num_views, return_tensors="pt")[
                "pixel_values"
            ]
            return clips
        plan = MultiViewConfig(
            clip=replace(self.processor.clip_sampler, views=self.num_views),
            crops=self.crops,
            size=(self.processor.crop_size["height"], self.processor.crop_size["width"]),
            image_mean=self.processor.image_mean,
            image_std=self.processor.image_std,
            antialias=self.antialias,
        )
        name = sample.id if isinstance(sample.video, bytes) else None
        return build_views(decode_views(sample.source, plan=plan, name=name), plan=plan)


class AugmentedClips:
    """Random clips of training: random frames and multi-scale crops, the same for the same (seed, sample).

    Args:
        processor: of the checkpoint.
        count: clips V of each video. With as many as the probe has epochs every epoch sees a fresh one.
        seed: of frames and crops.
    """

    def __init__(self, processor: "VideoMAEVideoProcessor", *, count: int = 1, seed: int = 0) -> None:
        self.processor, self.count, self.seed = processor, count, seed

    def __call__(self, sample: Sample) -> Tensor:
        return torch.cat([self._clip(sample, position) for position in range(self.count)])

    def _clip(self, sample: Sample, position: int) -> Tensor:
        def generator(purpose: str) -> torch.Generator:
            return sample_generator(sample.id, seed=self.seed, epoch=position, purpose=purpose)

        clip_sampler = self.processor.clip_sampler

        def plan(total: int, fps: float) -> list[int]:
            return clip_sampler.train_indices(total, fps, generator=generator("frames"))

        name = sample.id if isinstance(sample.video, bytes) else None
        frames = decode_clip(sample.source, plan, frame_seconds=clip_sampler.stride_seconds, name=name)
        size = (self.processor.crop_size["height"], self.processor.crop_size["width"])
        crop = multi_scale_crop(frames, size, generator=generator("pixels"))
        clip: Tensor = self.processor(
            crop, do_sample_frames=False, input_data_format="channels_first", return_tensors="pt"
        )["pixel_values"]
        return clip


def frozen_features(
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
    """Encode every video of a data set.

    Args:
        model: the encoder; it is put into evaluation mode for this.
        source: labelled videos.
        clips: how a video becomes clips, `EvalClips` or `AugmentedClips`.
        pool: `mean` over all tokens, `per_frame` over each tubelet's, or all `tokens`.
        layer: of the encoder, counted as in `hidden_states`: 0 the embeddings, -1 the output (with the final norm
            where the checkpoint has one).
        batch_size: clips per forward pass.
        num_workers: decoding processes.
        max_bytes: bytes of features to keep at most.
        progress: called with the number of videos done.

    Raises:
        DataError: for a data set without labels, without a video that decodes, features that do not fit or that are
            not finite.
        ValueError: for a layer that the model does not have.
    """
    class_names = _require_class_names(source)
    encode = _FeatureEncoder(model, pool=pool, layer=layer, batch_size=batch_size)
    found: list[tuple[int, str, int, Tensor]] = []
    failed: list[dict[str, Any]] = []
    training = model.training
    model.eval()
    try:
        for decoded in _decode_samples(source, clips, num_workers):
            if decoded.clips is None:
                failed.append({"id": decoded.id, "label": decoded.label, "reason": decoded.reason})
            else:
                features = encode(decoded.clips)
                _check_memory(features, source, max_bytes)
                if not torch.isfinite(features).all():
                    raise DataError(
                        f"the features of {decoded.id} are not finite: the checkpoint holds broken weights"
                    )
                found.append((decoded.position, decoded.id, decoded.label, features))
            if progress is not None:
                progress(len(found) + len(failed))
    finally:
        model.train(training)
    if not found:
        first = f"; the first is {failed[0]['id']} ({failed[0]['reason']})" if failed else ""
        raise DataError(f"none of the {len(failed)} videos of {source.name} decodes{first}")
    return _sort_by_position(found, class_names=class_names, failed=failed)


def _sort_by_position(
    found: list[tuple[int, str, int, Tensor]], *, class_names: list[str], failed: list[dict[str, Any]]
) -> FrozenFeatures:
    """From (place in the source, id, label, features), as the workers happened to finish them."""
    order = sorted(range(len(found)), key=lambda index: found[index][0])
    return FrozenFeatures(
        features=torch.stack([found[index][3] for index in order]),
        labels=torch.tensor([found[index][2] for index in order]),
        sample_ids=[found[index][1] for index in order],
        class_names=class_names,
        failed=sorted(failed, key=lambda entry: str(entry["id"])),
    )


def _require_class_names(source: AnySource) -> list[str]:
    if source.class_names is None:
        raise DataError(f"{source.name} has no labels, and a probe needs them; put each class into a folder")
    return list(source.class_names)


class _FeatureEncoder:
    """(V, T, C, H, W) clips of one video -> (V, ..., D) features on the CPU."""

    def __init__(self, model: "VideoMAEModel", *, pool: ProbePooling, layer: int, batch_size: int) -> None:
        if pool not in get_args(ProbePooling):
            raise ValueError(f"pool is {pool!r}; choose one of {', '.join(get_args(ProbePooling))}")
        depth = model.config.num_hidden_layers
        if not -depth - 1 <= layer <= depth:
            raise ValueError(f"layer is {layer}; the model has the embeddings (0) and the layers 1 to {depth}")
        self.model, self.pool, self.layer, self.batch_size = model, pool, layer, batch_size
        self.last = layer in (-1, model.config.num_hidden_layers)

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        return torch.cat([self._batch(part) for part in clips.split(self.batch_size)])

    def _batch(self, clips: Tensor) -> Tensor:
        clips = clips.to(self.model.device, self.model.dtype)
        outputs = self.model(clips, output_hidden_states=not self.last, return_dict=True)
        tokens = outputs.last_hidden_state if self.last else outputs.hidden_states[self.layer]  # (V, N, D)
        tokens = tokens.float()
        if self.pool == "mean":
            return tokens.mean(1).cpu()
        if self.pool == "per_frame":
            return tokens.unflatten(1, (self.model.clip_grid(clips)[0], -1)).mean(2).cpu()
        return tokens.half().cpu()  # tokens of a large set are many: half the memory


def _check_memory(features: Tensor, source: AnySource, max_bytes: int) -> None:
    count = len(source) if isinstance(source, Source) else source.num_samples or 0
    needed = features.numel() * features.element_size() * count
    if needed > max_bytes:
        raise DataError(
            f"the features of {count} videos take {needed / 2**30:.1f} GiB, more than the {max_bytes / 2**30:.1f} GiB "
            f"allowed; pool them more (mean, per_frame), take fewer clips of each video, or raise the limit"
        )


# Decoding, in any number of processes.


@dataclass(frozen=True)
class _DecodedClips:
    """A video's clips, or why there are none."""

    position: int
    id: str
    label: int
    clips: Tensor | None = None
    reason: str = ""
    error: str = ""
    error_type: type[Exception] = DataError


class _ClipDataset(IterableDataset[_DecodedClips]):
    def __init__(self, source: AnySource, clips: ClipMaker) -> None:
        self.source, self.clips = source, clips

    def __iter__(self) -> Iterator[_DecodedClips]:
        worker = get_worker_info()
        worker_index, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        try:
            for position, sample in _worker_samples(self.source, worker_index, count):
                yield self._decode(position, sample)
        except (DataError, VideoBackendError) as error:
            # Raised in a worker, it would arrive wrapped into a traceback.
            yield _DecodedClips(0, "", 0, error=str(error), error_type=type(error))

    def _decode(self, position: int, sample: Sample) -> _DecodedClips:
        assert self.source.class_names is not None
        label, classes = sample.label, len(self.source.class_names)
        if not isinstance(label, int) or not 0 <= label < classes:
            raise DataError(f"{sample.id} has the label {label}; wanted 0 to {classes - 1}: label it or leave it out")
        try:
            return _DecodedClips(position, sample.id, label, retry_video(sample, self.clips))
        except (VideoDecodeError, OSError) as error:
            reason = error.reason if isinstance(error, VideoDecodeError) else str(error)
            return _DecodedClips(position, sample.id, label, reason=reason)


def _worker_samples(source: AnySource, worker_index: int, count: int) -> Iterator[tuple[int, Sample]]:
    """This worker's samples with their places; a place orders the result, whoever decoded it."""
    if isinstance(source, Source):
        for index in range(worker_index, len(source), count):
            yield index, source[index]
    else:
        for shard in range(worker_index, source.num_shards, count):
            for row, sample in enumerate(source.read_shard(shard)):
                yield (shard << 32) + row, sample


def _decode_samples(source: AnySource, clips: ClipMaker, num_workers: int) -> Iterator[_DecodedClips]:
    workers = Workers(num_workers)
    loader: Any = DataLoader(
        _ClipDataset(source, clips), batch_size=None, generator=torch.Generator(), **workers.options
    )
    try:
        for decoded in workers.results(loader):
            if decoded.error:
                raise decoded.error_type(decoded.error)
            yield decoded
    finally:
        workers.exit_on_stop_signal()


__all__ = ["AugmentedClips", "FrozenFeatures", "EvalClips", "frozen_features"]
