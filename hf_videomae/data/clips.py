"""Decode a video into clips, augment them, draw their masks, and collate the clips of several videos into a batch.

`make_clips` does all but the last, with random numbers that depend on (seed, epoch, sample id) only. `_draw_masks`
draws the masks for training.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import DataError
from ..ops.masking import compute_num_masked, make_mask
from ..video import sampling, transforms
from ..video._source import resolve_source
from ..video.decoded_frames import LUMA_WEIGHTS
from ..video.decoding import decode_clip
from ..video.randaugment import RandAugment, random_erasing
from ..video.transforms import IMAGENET_MEAN, IMAGENET_STD
from .labels import LabelEncoder
from .source import Sample
from .stage_timer import StageTimer

if TYPE_CHECKING:
    from ..configuration_videomae import VideoMAEConfig


# Shapes: B clips, T frames, C channels, H, W pixels, N tokens.
Batch = dict[str, Any]
Clip = dict[str, Tensor]
Augment = Literal["multi_scale_crop", "random_resized_crop", "center_crop", "finetune"]
Sampling = Literal["pretrain", "dense", "uniform"]
# Cross-entropy ignores this label.
IGNORE_INDEX = -100


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How a video becomes a clip.

    Attributes:
        num_frames: T.
        stride: distance of neighboring frames, in frames of the video.
        set_strides: (name, stride) for datasets of a mix that have a stride of their own.
        image_size: of the clip, one number or (height, width).
        image_mean, image_std: per channel, for pixels in [0, 1]. One channel makes the clip gray.
        sampling: `pretrain` (exactly `stride` apart), `dense` (over a window of num_frames * stride) or `uniform` (one
            frame from each of num_frames segments): the paper's tables.
        front_pad: what `uniform` makes of a video with fewer frames than the clip: its first frame only, as VideoMAE;
            or, if true, the first frame repeated and then each frame once, as VideoMAE V2.
        frame_seconds: the stride in seconds, by each video's own frame rate; `uniform` ignores it.
        augment: `multi_scale_crop` (the paper's pre-training), `finetune` (its fine-tuning: RandAugment, random
            resized crop, erasing), `random_resized_crop` alone, or `center_crop` (nothing random).
        rand_augment: policy of `finetune`, in timm's notation; None: none.
        crop_scale: bounds of the crop's share of the frame, for `finetune`.
        erasing: probability of erasing a box, for `finetune`.
        clips_per_video: clips from each video, each with a start of its own. The video is opened once, and frames that
            the clips share are decoded once.
        num_sample: how often each clip is augmented (repeated augmentation): the same frames, other pixels and masks.
        flip: probability of a horizontal flip of the whole clip; the published code does not flip in pre-training.
        grid: (T', H', W') tokens of the model; None draws no masks.
        mask_type, mask_ratio: of the encoder's mask.
        decoder_mask_type, decoder_mask_ratio: of VideoMAE V2's decoder mask; a type of None draws none.

    Raises:
        ValueError: when a value cannot work.
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
                f"color channels, so both need 3 values, or 1 for gray clips"
            )
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std is {tuple(self.image_std)}; every value must be above 0")
        if self.grid is not None:
            compute_num_masked(self.mask_type, self.grid, self.mask_ratio)
            if self.decoder_mask_type is not None:
                compute_num_masked(self.decoder_mask_type, self.grid, self.decoder_mask_ratio)

    @classmethod
    def from_config(
        cls, config: "VideoMAEConfig", *, stride: int = 4, masks: bool = True, **options: Any
    ) -> "ClipConfig":
        """Return the clips and masks that a model wants; `options` are further attributes."""
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
                **options,
            }
        )

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the clip."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    def stride_for_sample(self, sample_id: str) -> int:
        """Return the stride of a sample, whose id begins with the name of its dataset in a mix."""
        matching = [(name, stride) for name, stride in self.set_strides if sample_id.startswith(f"{name}:")]
        return max(matching, key=lambda entry: len(entry[0]))[1] if matching else self.stride


def stable_seed(*parts: object) -> int:
    """Return a seed from numbers and text that is the same on every machine (Python's `hash` is not)."""
    key = "\0".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def sample_generator(sample_id: str, *, seed: int, epoch: int, purpose: str) -> torch.Generator:
    """Return a sample's own generator. Each purpose has its own, so that a new crop does not change the masks."""
    return torch.Generator().manual_seed(stable_seed(seed, epoch, purpose, sample_id))


def make_clips(
    sample: Sample, *, clip_config: ClipConfig, seed: int, epoch: int, timer: StageTimer | None = None
) -> list[Clip]:
    """Decode `clips_per_video` clips, transform each `num_sample` times, and draw masks.

    All random numbers depend on (seed, epoch, sample id). The time of each stage is added to the timer.

    Returns:
        one dict for each clip and repeat, the repeats of a clip next to each other: `pixel_values` (T, C, H, W)
        float32, normalized; with a grid `bool_masked_pos` (N,) bool, and with a decoder mask `bool_decoder_masked_pos`
        (N,) bool. The first clip does not depend on `clips_per_video` or `num_sample`.

    Raises:
        VideoDecodeError: when the video is bad.
        VideoBackendError: when this machine cannot decode videos.
    """

    def generator(purpose: str) -> torch.Generator:
        return sample_generator(sample.id, seed=seed, epoch=epoch, purpose=purpose)

    suffixes = ["", *(f" clip {number}" for number in range(1, clip_config.clips_per_video))]

    def frame_plan(total: int, fps: float) -> list[int]:
        stride = clip_config.stride_for_sample(sample.id)
        indices_per_clip = (
            _sample_frame_indices(total, fps, clip_config, stride=stride, generator=generator("frames" + suffix))
            for suffix in suffixes
        )
        return [index for indices in indices_per_clip for index in indices]

    timer = timer or StageTimer()
    with timer("fetch"):
        sample = _download_video(sample)
    with timer("decode"):
        seconds = None if clip_config.sampling == "uniform" else clip_config.frame_seconds
        name = sample.id if isinstance(sample.video, bytes) else None
        decoded = decode_clip(sample.source, frame_plan, frame_seconds=seconds, name=name)
    clips = []
    repeats = product(zip(suffixes, decoded.split(clip_config.num_frames), strict=True), range(clip_config.num_sample))
    for (clip_suffix, frames), repeat in repeats:
        suffix = clip_suffix + (f" {repeat}" if repeat else "")
        with timer("transform"):
            pixels = _transform(frames, clip_config, generator=generator("pixels" + suffix))
            clips.append({"pixel_values": pixels, **_draw_masks(clip_config, generator, suffix)})
    return clips


def _download_video(sample: Sample) -> Sample:
    """Return the sample with its video downloaded; a large one on a server that sends parts of it stays a URL.

    Raises:
        VideoDecodeError: when it cannot be downloaded.
    """
    if isinstance(sample.video, str) and "://" in sample.video:
        resolved = resolve_source(sample.video)
        return sample if resolved.is_remote else replace(sample, video=resolved.data)
    return sample


def _sample_frame_indices(
    total: int, fps: float, config: ClipConfig, *, stride: int, generator: torch.Generator
) -> list[int]:
    strides: dict[str, Any] = {"stride": stride, "frame_seconds": config.frame_seconds}
    if config.sampling == "pretrain":
        stride = sampling.stride_at_fps(fps, **strides)
        return sampling.pretrain_indices(total, num_frames=config.num_frames, stride=stride, generator=generator)
    if config.sampling == "uniform":
        return sampling.uniform_train_indices(
            total, num_frames=config.num_frames, front_pad=config.front_pad, generator=generator
        )
    sampler = sampling.ClipSampler(num_frames=config.num_frames, mode=config.sampling, **strides)
    return sampler.train_indices(total, fps, generator=generator)


def _draw_masks(config: ClipConfig, generator: Callable[[str], torch.Generator], suffix: str) -> Clip:
    """Draw the masks of one clip for training, (N,) bool each; no masks without a grid."""
    masks: Clip = {}
    if config.grid is not None:
        mask = make_mask(config.mask_type, config.grid, config.mask_ratio, generator=generator("mask" + suffix))
        masks["bool_masked_pos"] = mask[0]
        if config.decoder_mask_type is not None:
            decoder_generator = generator("decoder mask" + suffix)
            mask = make_mask(
                config.decoder_mask_type, config.grid, config.decoder_mask_ratio, generator=decoder_generator
            )
            masks["bool_decoder_masked_pos"] = mask[0]
    return masks


def _transform(frames: Tensor, config: ClipConfig, *, generator: torch.Generator) -> Tensor:
    """Turn decoded frames, (T, 3, H, W) uint8, into what the model wants, (T, C, H, W) float32."""
    if config.augment == "finetune":
        return _finetune_transform(frames, config, generator=generator)
    if config.augment == "multi_scale_crop":
        clip = transforms.multi_scale_crop(frames, config.size, generator=generator)
    elif config.augment == "random_resized_crop":
        clip = transforms.random_resized_crop(frames, config.size, generator=generator)
    else:
        clip = _center_crop_resize(frames, config.size)
    if config.flip:
        clip = transforms.horizontal_flip(clip, generator=generator, probability=config.flip)
    return _normalize(clip, config)


def _finetune_transform(frames: Tensor, config: ClipConfig, *, generator: torch.Generator) -> Tensor:
    """Augment in the order of the paper's code: the crop comes after normalization, and shrinks without a filter."""
    if config.rand_augment is not None:
        frames = RandAugment.parse(config.rand_augment)(frames, generator=generator)
    clip = _normalize(frames, config)
    clip = transforms.random_resized_crop(
        clip, config.size, generator=generator, scale=config.crop_scale, antialias=False
    )
    if config.flip:
        clip = transforms.horizontal_flip(clip, generator=generator, probability=config.flip)
    if config.erasing:
        clip = random_erasing(clip, probability=config.erasing, generator=generator)
    return clip


def _normalize(clip: Tensor, config: ClipConfig) -> Tensor:
    if len(config.image_mean) == 1:
        clip = transforms.to_float(clip)
        clip = (clip * clip.new_tensor(LUMA_WEIGHTS).view(3, 1, 1)).sum(1, keepdim=True)
    return transforms.normalize(clip, config.image_mean, config.image_std)


def _center_crop_resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the largest centered part that has the wanted shape, so that nothing is squashed."""
    height, width = frames.shape[-2:]
    scale = min(height / size[0], width / size[1])
    crop = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return transforms.resize(transforms.center_crop(frames, crop), size)


def collate(clips: list[list[Clip]], samples: list[Sample], *, labels: LabelEncoder | bool) -> Batch:
    """Collate the clips of B samples, R of each, into a batch.

    Args:
        clips: of each sample, by `make_clips`.
        samples: B of them.
        labels: how to make `labels`; True: class numbers, and `IGNORE_INDEX` for samples without one; False: none.

    Returns:
        `pixel_values` (B * R, T, C, H, W), masks (B * R, N), `labels` with B * R rows, and `sample_ids`, B strings.
    """
    if not clips:
        raise DataError("a batch needs at least one clip; give a batch size of 1 or more")
    all_clips = [clip for repeats in clips for clip in repeats]
    batch: Batch = {name: torch.stack([clip[name] for clip in all_clips]) for name in all_clips[0]}
    batch["sample_ids"] = [sample.id for sample in samples]
    if labels:
        if isinstance(labels, LabelEncoder):
            encoded = labels.encode(samples)
        else:
            encoded = torch.tensor([IGNORE_INDEX if sample.label is None else sample.label for sample in samples])
        batch["labels"] = encoded.repeat_interleave(len(clips[0]), 0)
    return batch
