"""One encoded video -> one clip with its masks; several of them -> a batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from ..ops.masking import make_mask, masked_count
from ..video import sampling, transforms
from ..video.decoding import decode_clip
from .samples import DataError, Sample

if TYPE_CHECKING:
    from ..configuration_videomae import VideoMAEConfig


# Shapes: B clips, T frames, C channels, H, W pixels, N tokens.
Batch = dict[str, Any]
Augment = Literal["multi_scale_crop", "random_resized_crop", "center_crop"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# ITU-R BT.601, as PIL's mode L.
_LUMA = (0.299, 0.587, 0.114)
# What cross-entropy leaves out.
NO_LABEL = -100


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How a video becomes a clip.

    Attributes:
        num_frames: T.
        stride: distance of neighbouring frames, in frames of the video.
        image_size: of the clip, one number or (height, width).
        image_mean, image_std: per channel, for pixels in [0, 1]. One channel makes the clip grey.
        augment: `multi_scale_crop` (the paper's pre-training), `random_resized_crop`, or `center_crop` (no chance).
        flip: probability of a horizontal flip of the whole clip; the published code does not flip in pre-training.
        grid: (T', H', W') tokens of the model; None draws no masks.
        mask_type, mask_ratio: of the encoder's mask.
        decoder_mask_type, decoder_mask_ratio: of VideoMAE V2's decoder mask, where there is one.

    Raises:
        ValueError: when built with values that cannot work.
    """

    num_frames: int = 16
    stride: int = 4
    image_size: int | tuple[int, int] = 224
    image_mean: Sequence[float] = IMAGENET_MEAN
    image_std: Sequence[float] = IMAGENET_STD
    augment: Augment = "multi_scale_crop"
    flip: float = 0.0
    grid: tuple[int, int, int] | None = None
    mask_type: str = "tube"
    mask_ratio: float = 0.9
    decoder_mask_type: str | None = None
    decoder_mask_ratio: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("num_frames", self.num_frames), ("stride", self.stride), ("image_size", min(self.size))):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.augment not in get_args(Augment):
            raise ValueError(f"augment is {self.augment!r}; choose one of {', '.join(get_args(Augment))}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is {self.flip}; it is a probability, from 0 to 1")
        if len(self.image_mean) not in (1, 3) or len(self.image_std) != len(self.image_mean):
            raise ValueError(
                f"image_mean has {len(self.image_mean)} and image_std {len(self.image_std)} values; videos have 3 "
                f"colour channels, so both need 3 values, or 1 for grey clips"
            )
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std is {tuple(self.image_std)}; every value must be above 0")
        if self.grid is not None:
            masked_count(self.mask_type, self.grid, self.mask_ratio)
            if self.decoder_mask_type is not None:
                masked_count(self.decoder_mask_type, self.grid, self.decoder_mask_ratio)

    @classmethod
    def from_config(
        cls, config: "VideoMAEConfig", *, stride: int = 4, masks: bool = True, **settings: Any
    ) -> "ClipSettings":
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


def stable_seed(*parts: object) -> int:
    """A seed from numbers and text, the same in every process and on every machine (Python's `hash` is not)."""
    key = "\0".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def sample_generator(sample_id: str, *, seed: int, epoch: int, purpose: str) -> torch.Generator:
    """The source of a sample's own randomness. Each purpose has its own, so that a new crop leaves the masks alone."""
    return torch.Generator().manual_seed(stable_seed(seed, epoch, purpose, sample_id))


def make_clip(sample: Sample, *, settings: ClipSettings, seed: int, epoch: int) -> dict[str, Tensor]:
    """Decode one clip, transform it and draw its masks, by (seed, epoch, sample id) alone.

    Returns:
        `pixel_values` (T, C, H, W) float32, normalised; with a grid `bool_masked_pos` (N,) bool, and with a decoder
        mask `bool_decoder_masked_pos` (N,) bool.

    Raises:
        VideoDecodeError: when the video is bad.
        VideoBackendError: when this machine cannot decode videos.
    """

    def generator(purpose: str) -> torch.Generator:
        return sample_generator(sample.id, seed=seed, epoch=epoch, purpose=purpose)

    def plan(total: int, fps: float) -> list[int]:
        return sampling.pretrain_indices(
            total, num_frames=settings.num_frames, stride=settings.stride, generator=generator("frames")
        )

    name = sample.id if isinstance(sample.video, bytes) else None
    frames = decode_clip(sample.video, plan, name=name)
    clip = {"pixel_values": _transform(frames, settings=settings, generator=generator("pixels"))}
    if settings.grid is not None:
        mask = make_mask(settings.mask_type, settings.grid, settings.mask_ratio, generator=generator("mask"))
        clip["bool_masked_pos"] = mask[0]
        if settings.decoder_mask_type is not None:
            mask = make_mask(
                settings.decoder_mask_type,
                settings.grid,
                settings.decoder_mask_ratio,
                generator=generator("decoder mask"),
            )
            clip["bool_decoder_masked_pos"] = mask[0]
    return clip


def _transform(frames: Tensor, *, settings: ClipSettings, generator: torch.Generator) -> Tensor:
    """(T, 3, H, W) uint8 as decoded -> (T, C, H, W) float32 as the model wants it."""
    if settings.augment == "multi_scale_crop":
        clip = transforms.multi_scale_crop(frames, settings.size, generator=generator)
    elif settings.augment == "random_resized_crop":
        clip = transforms.random_resized_crop(frames, settings.size, generator=generator)
    else:
        clip = _center(frames, settings.size)
    if settings.flip:
        clip = transforms.horizontal_flip(clip, generator=generator, probability=settings.flip)
    clip = transforms.to_float(clip)
    if len(settings.image_mean) == 1:
        clip = (clip * clip.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    return transforms.normalize(clip, settings.image_mean, settings.image_std)


def _center(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest centred part of the wanted shape, resized: nothing is squashed."""
    height, width = frames.shape[-2:]
    scale = min(height / size[0], width / size[1])
    crop = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return transforms.resize(transforms.center_crop(frames, crop), size)


def collate(clips: list[dict[str, Tensor]], samples: list[Sample], *, labelled: bool) -> Batch:
    """Clips -> `pixel_values` (B, T, C, H, W), masks (B, N), `sample_ids`, and `labels` (B,) of a labelled source."""
    if not clips:
        raise DataError("a batch needs at least one clip; give a batch size of 1 or more")
    batch: Batch = {name: torch.stack([clip[name] for clip in clips]) for name in clips[0]}
    batch["sample_ids"] = [sample.id for sample in samples]
    if labelled:
        batch["labels"] = torch.tensor([NO_LABEL if sample.label is None else sample.label for sample in samples])
    return batch
