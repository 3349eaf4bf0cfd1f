"""One encoded video -> its clips with their masks; several of them -> a batch."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import DataError
from ..ops.masking import compute_num_masked, make_mask
from ..video import sampling, transforms
from ..video.decoding import decode_clip
from ..video.randaugment import RandAugment, random_erasing
from .labels import LabelEncoder
from .source import Sample
from .stage_timer import StageTimer

if TYPE_CHECKING:
    from ..configuration_videomae import VideoMAEConfig


# Shapes: B clips, T frames, C channels, H, W pixels, N tokens.
Batch = dict[str, Any]
Augment = Literal["multi_scale_crop", "random_resized_crop", "center_crop", "finetune"]
Sampling = Literal["pretrain", "dense", "uniform"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# ITU-R BT.601, as PIL's mode L.
_LUMA = (0.299, 0.587, 0.114)
# What cross-entropy leaves out.
IGNORE_INDEX = -100


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How a video becomes a clip.

    Attributes:
        num_frames: T.
        stride: distance of neighbouring frames, in frames of the video.
        set_strides: (name, stride) of data sets of a mix whose stride is another.
        image_size: of the clip, one number or (height, width).
        image_mean, image_std: per channel, for pixels in [0, 1]. One channel makes the clip grey.
        sampling: `pretrain` (exactly `stride` apart), `dense` (over a window of num_frames * stride) or `uniform` (one
            frame from each of num_frames segments): the paper's tables.
        front_pad: what `uniform` makes of a video with fewer frames than the clip: its first frame alone, as VideoMAE;
            or, with this, the first frame repeated and then each once, as VideoMAE V2.
        frame_seconds: the stride in seconds instead, by each video's own frame rate; plays no part in `uniform`.
        augment: `multi_scale_crop` (the paper's pre-training), `finetune` (its fine-tuning: RandAugment, random
            resized crop, erasing), `random_resized_crop` alone, or `center_crop` (no chance).
        rand_augment: policy of `finetune`, in timm's words; None: none.
        crop_scale: bounds of the crop's share of the frame, of `finetune`.
        erasing: probability of erasing a box, of `finetune`.
        clips_per_video: clips with starts of their own, so other frames, from each video; it is opened once, and
            frames that they share are decoded once.
        num_sample: times that each clip is made (repeated augmentation): the same frames, other pixels and masks.
        flip: probability of a horizontal flip of the whole clip; the published code does not flip in pre-training.
        grid: (T', H', W') tokens of the model; None draws no masks.
        mask_type, mask_ratio: of the encoder's mask.
        decoder_mask_type, decoder_mask_ratio: of VideoMAE V2's decoder mask, where there is one.

    Raises:
        ValueError: when built with values that cannot work.
    """

    num_frames: int = 16
    stride: int = 4
    set_strides: tuple[tuple[str, int], ...] = ()
    image_size: int | tuple[int, int] = 224
    image_mean: Sequence[float] = IMAGENET_MEAN
    image_std: Sequence[float] = IMAGENET_STD
    sampling: Sampling = "pretrain"
    front_pad: bool = False
    frame_seconds: float | None = None
    augment: Augment = "multi_scale_crop"
    rand_augment: str | None = None
    crop_scale: tuple[float, float] = (0.08, 1.0)
    erasing: float = 0.0
    clips_per_video: int = 1
    num_sample: int = 1
    flip: float = 0.0
    grid: tuple[int, int, int] | None = None
    mask_type: str = "tube"
    mask_ratio: float = 0.9
    decoder_mask_type: str | None = None
    decoder_mask_ratio: float = 0.5

    def __post_init__(self) -> None:
        counts = ("num_frames", "stride", "clips_per_video", "num_sample")
        for name, value in {**{name: getattr(self, name) for name in counts}, "image_size": min(self.size)}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        for name, stride in self.set_strides:
            if stride < 1:
                raise ValueError(f"the stride of {name} is {stride}; it must be at least 1")
        for name, choice, known in (("augment", self.augment, Augment), ("sampling", self.sampling, Sampling)):
            if choice not in get_args(known):
                raise ValueError(f"{name} is {choice!r}; choose one of {', '.join(get_args(known))}")
        for name, share in (("flip", self.flip), ("erasing", self.erasing)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; it is a probability, from 0 to 1")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale is {self.crop_scale}; give two shares of the frame, e.g. 0.08 and 1")
        sampling.check_frame_seconds(self.frame_seconds)
        if self.rand_augment is not None:
            RandAugment.parse(self.rand_augment)
        if len(self.image_mean) not in (1, 3) or len(self.image_std) != len(self.image_mean):
            raise ValueError(
                f"image_mean has {len(self.image_mean)} and image_std {len(self.image_std)} values; videos have 3 "
                f"colour channels, so both need 3 values, or 1 for grey clips"
            )
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std is {tuple(self.image_std)}; every value must be above 0")
        if self.grid is not None:
            compute_num_masked(self.mask_type, self.grid, self.mask_ratio)
            if self.decoder_mask_type is not None:
                compute_num_masked(self.decoder_mask_type, self.grid, self.decoder_mask_ratio)

    @classmethod
    def from_config(
        cls, config: "VideoMAEConfig", *, stride: int = 4, masks: bool = True, **settings: Any
    ) -> "ClipConfig":
        """The clips and masks that a model wants."""
        return cls(
            **{
                "num_frames": config.num_frames,
                "stride": stride,
                "image_size": config.image_height_width,
                "image_mean": tuple(config.image_mean or ()),
                "image_std": tuple(config.image_std or ()),
                "grid": config.grid if masks else None,
                "mask_type": config.mask_type,
                "mask_ratio": config.mask_ratio,
                "decoder_mask_type": config.decoder_mask_type,
                "decoder_mask_ratio": config.decoder_mask_ratio,
                **settings,
            }
        )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the clip."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    def stride_for_sample(self, sample_id: str) -> int:
        """Return the stride of a sample, whose id begins with the name of its data set in a mix."""
        matching = [(name, stride) for name, stride in self.set_strides if sample_id.startswith(f"{name}:")]
        return max(matching, key=lambda entry: len(entry[0]))[1] if matching else self.stride


def stable_seed(*parts: object) -> int:
    """A seed from numbers and text, the same in every process and on every machine (Python's `hash` is not)."""
    key = "\0".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def sample_generator(sample_id: str, *, seed: int, epoch: int, purpose: str) -> torch.Generator:
    """The source of a sample's own randomness. Each purpose has its own, so that a new crop leaves the masks alone."""
    return torch.Generator().manual_seed(stable_seed(seed, epoch, purpose, sample_id))


def make_clips(
    sample: Sample, *, settings: ClipConfig, seed: int, epoch: int, timer: StageTimer | None = None
) -> list[dict[str, Tensor]]:
    """Decode `clips_per_video` clips, transform each `num_sample` times, draw masks; all by (seed, epoch, sample id).

    What decoding and transforming take is added to the stopwatch, if there is one.

    Returns:
        for each, those of one clip side by side: `pixel_values` (T, C, H, W) float32, normalised; with a grid
        `bool_masked_pos` (N,) bool, and with a decoder mask `bool_decoder_masked_pos` (N,) bool. The first clip is the
        one that a single clip would be.

    Raises:
        VideoDecodeError: when the video is bad.
        VideoBackendError: when this machine cannot decode videos.
    """

    def generator(purpose: str) -> torch.Generator:
        return sample_generator(sample.id, seed=seed, epoch=epoch, purpose=purpose)

    stride = settings.stride_for_sample(sample.id)
    suffixes = ["", *(f" clip {number}" for number in range(1, settings.clips_per_video))]

    def frame_plan(total: int, fps: float) -> list[int]:
        indices_per_clip = (
            _sample_frame_indices(total, fps, settings=settings, stride=stride, generator=generator("frames" + suffix))
            for suffix in suffixes
        )
        return [index for indices in indices_per_clip for index in indices]

    timer = timer or StageTimer()
    with timer("decode"):
        seconds = None if settings.sampling == "uniform" else settings.frame_seconds
        name = sample.id if isinstance(sample.video, bytes) else None
        decoded = decode_clip(sample.source, frame_plan, frame_seconds=seconds, name=name)
    clips = []
    repeats = product(zip(suffixes, decoded.split(settings.num_frames), strict=True), range(settings.num_sample))
    for (clip_suffix, frames), repeat in repeats:
        suffix = clip_suffix + (f" {repeat}" if repeat else "")
        with timer("transform"):
            clip = {"pixel_values": _transform(frames, settings=settings, generator=generator("pixels" + suffix))}
            clips.append({**clip, **_draw_masks(settings, generator=generator, suffix=suffix)})
    return clips


def _sample_frame_indices(
    total: int, fps: float, *, settings: ClipConfig, stride: int, generator: torch.Generator
) -> list[int]:
    counts: dict[str, Any] = {"stride": stride, "frame_seconds": settings.frame_seconds}
    if settings.sampling == "pretrain":
        stride = sampling.stride_at_fps(fps, **counts)
        return sampling.pretrain_indices(total, num_frames=settings.num_frames, stride=stride, generator=generator)
    if settings.sampling == "uniform":
        frames, pad = settings.num_frames, settings.front_pad
        return sampling.uniform_train_indices(total, num_frames=frames, front_pad=pad, generator=generator)
    frame_plan = sampling.ClipSampler(num_frames=settings.num_frames, mode=settings.sampling, **counts)
    return frame_plan.train_indices(total, fps, generator=generator)


def _draw_masks(
    settings: ClipConfig, *, generator: Callable[[str], torch.Generator], suffix: str
) -> dict[str, Tensor]:
    clip: dict[str, Tensor] = {}
    if settings.grid is not None:
        mask = make_mask(settings.mask_type, settings.grid, settings.mask_ratio, generator=generator("mask" + suffix))
        clip["bool_masked_pos"] = mask[0]
        if settings.decoder_mask_type is not None:
            mask = make_mask(
                settings.decoder_mask_type,
                settings.grid,
                settings.decoder_mask_ratio,
                generator=generator("decoder mask" + suffix),
            )
            clip["bool_decoder_masked_pos"] = mask[0]
    return clip


def _transform(frames: Tensor, *, settings: ClipConfig, generator: torch.Generator) -> Tensor:
    """(T, 3, H, W) uint8 as decoded -> (T, C, H, W) float32 as the model wants it."""
    if settings.augment == "finetune":
        return _finetune_transform(frames, settings=settings, generator=generator)
    if settings.augment == "multi_scale_crop":
        clip = transforms.multi_scale_crop(frames, settings.size, generator=generator)
    elif settings.augment == "random_resized_crop":
        clip = transforms.random_resized_crop(frames, settings.size, generator=generator)
    else:
        clip = _center_crop_resize(frames, settings.size)
    if settings.flip:
        clip = transforms.horizontal_flip(clip, generator=generator, probability=settings.flip)
    return _normalize(clip, settings)


def _finetune_transform(frames: Tensor, *, settings: ClipConfig, generator: torch.Generator) -> Tensor:
    """The paper's code in its order: the crop comes after the normalisation, and shrinks without a filter."""
    if settings.rand_augment is not None:
        frames = RandAugment.parse(settings.rand_augment)(frames, generator=generator)
    clip = _normalize(frames, settings)
    clip = transforms.random_resized_crop(
        clip, settings.size, generator=generator, scale=settings.crop_scale, antialias=False
    )
    if settings.flip:
        clip = transforms.horizontal_flip(clip, generator=generator, probability=settings.flip)
    if settings.erasing:
        clip = random_erasing(clip, probability=settings.erasing, generator=generator)
    return clip


def _normalize(frames: Tensor, settings: ClipConfig) -> Tensor:
    clip = frames
    if len(settings.image_mean) == 1:
        clip = transforms.to_float(clip)
        clip = (clip * clip.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    return transforms.normalize(clip, settings.image_mean, settings.image_std)


def _center_crop_resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest centred part of the wanted shape, resized: nothing is squashed."""
    height, width = frames.shape[-2:]
    scale = min(height / size[0], width / size[1])
    crop = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return transforms.resize(transforms.center_crop(frames, crop), size)


def collate(clips: list[list[dict[str, Tensor]]], samples: list[Sample], *, labels: LabelEncoder | bool) -> Batch:
    """The clips of each sample (R of them, over all its starts and repeats) -> a batch.

    Args:
        clips: by `make_clips`, of each sample.
        samples: B of them.
        labels: how to make `labels`; True: class numbers where there are any, `IGNORE_INDEX` elsewhere; False: none.

    Returns:
        `pixel_values` (B * R, T, C, H, W), masks (B * R, N), `labels` with B * R rows, and `sample_ids`, B strings.
    """
    if not clips:
        raise DataError("a batch needs at least one clip; give a batch size of 1 or more")
    all_clips = [clip for repeats in clips for clip in repeats]
    batch: Batch = {name: torch.stack([clip[name] for clip in all_clips]) for name in all_clips[0]}
    batch["sample_ids"] = [sample.id for sample in samples]
    if isinstance(labels, LabelEncoder):
        batch["labels"] = labels.tensor(samples).repeat_interleave(len(clips[0]), 0)
    elif labels:
        numbers = torch.tensor([IGNORE_INDEX if sample.label is None else sample.label for sample in samples])
        batch["labels"] = numbers.repeat_interleave(len(clips[0]), 0)
    return batch
