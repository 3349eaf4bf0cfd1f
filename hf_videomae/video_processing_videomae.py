"""Turn any form of a video into `pixel_values`, with torch alone: VideoMAEVideoProcessor.

Shapes: B videos, V views of each, T frames of a clip, C channels, H and W pixels.
"""

from . import _check_dependencies  # noqa: F401  reports a torchvision that does not fit torch in one line

# isort: split
import difflib
import inspect
import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import VideoProcessorMixin

from .config_validation import check_processor_dict, read_config
from .configuration_videomae import VideoMAEConfig
from .video.decode_errors import UnknownFrameRateError
from .video.decoded_frames import ChannelOrder, frames_to_tensor, is_frame, match_channels
from .video.decoding import VideoDecodeError, VideoSource, decode_clip
from .video.sampling import ClipSampler
from .video.segments import VideoSegment
from .video.timestamps import estimate_fps
from .video.transforms import IMAGENET_MEAN, IMAGENET_STD, center_crop, normalize, resize

# Pillow's numbers of filters, as published files hold them.
_FILTERS = {2: "bilinear", 3: "bicubic"}
_IMAGE_PROCESSOR_FIELDS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)
# Entries that releases of transformers add: they say who wrote the file, not how to read a video.
_IGNORED_SETTINGS = {
    "image_processor_type",
    "video_processor_type",
    "feature_extractor_type",
    "processor_class",
    "auto_map",
}
_IMAGE_PROCESSOR_FILE = "preprocessor_config.json"

Size = int | Sequence[int] | dict[str, int]


class VideoMAEVideoProcessorKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]
    """Settings of transformers' video processors and ours."""

    frame_stride: int
    sampling_mode: str
    num_views: int
    frame_seconds: float | None


class VideoMAEVideoProcessor(VideoProcessorMixin):
    """Sample the clips of a video, resize, crop and normalize them.

    The steps and their order are those of the paper's test code (resize the short side, cut, normalize) and of stock
    transformers' `VideoMAEImageProcessor`; neither torchvision nor Pillow is needed. `save_pretrained` writes
    `video_preprocessor_config.json` and `preprocessor_config.json`, both as stock transformers reads them;
    `from_pretrained` reads either, and the older forms of published checkpoints.

    Args:
        do_resize: resize the frames to `size`, bilinear and antialiased.
        size: `{"shortest_edge": n}` or a number n: the short side in pixels, the aspect kept; a frame that would then
            be smaller than the crop is enlarged until it covers it. `{"height": h, "width": w}`: exactly this.
        resample: Pillow's number or name of the filter: 2 (bilinear) or 3 (bicubic).
        do_center_crop: crop the center.
        crop_size: `{"height": h, "width": w}` or a number. Default: the square (or rectangle) of `size`.
        do_rescale: multiply by `rescale_factor`. Pixels in [0, 1] are not rescaled again, with a warning.
        rescale_factor: 1/255 for 8-bit frames.
        do_normalize: subtract `image_mean`, divide by `image_std`.
        image_mean, image_std: one value per channel, or one for three channels. ImageNet's by default, which every
            published VideoMAE uses (the 0.5 that stock transformers defaults to is wrong for them). Their number is
            the number of channels: gray videos are repeated over them; a model of one channel gets the luma
            of color videos.
        do_sample_frames: sample `num_frames` frames; otherwise use all frames of the video.
        num_frames: T.
        frame_stride: frames between two sampled ones (paper, section 4.1: 4 on Kinetics, 2 on Something-Something).
        sampling_mode: `dense` (strided clips) or `uniform` (spread over the whole video, TSN).
        num_views: clips per video, spread over its length.
        frame_seconds: seconds between two sampled frames of a dense clip, for videos of mixed frame rates; it
            replaces `frame_stride`. A `frame_stride` given for a call or on loading replaces it in turn.

    Raises:
        ValueError: for invalid settings.
    """

    model_input_names = ["pixel_values"]
    valid_kwargs = VideoMAEVideoProcessorKwargs
    default_to_square = False

    def __init__(
        self,
        *,
        do_resize: bool | None = True,
        size: Size | None = None,
        resample: int | str | None = 2,
        do_center_crop: bool | None = True,
        crop_size: Size | None = None,
        do_rescale: bool | None = True,
        rescale_factor: float | None = 1 / 255,
        do_normalize: bool | None = True,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_sample_frames: bool | None = True,
        num_frames: int | None = 16,
        frame_stride: int | None = 4,
        sampling_mode: str | None = "dense",
        num_views: int | None = 1,
        frame_seconds: float | None = None,
        **extra: Any,
    ) -> None:
        _check_misspelled(extra)
        super().__init__(**{name: value for name, value in extra.items() if name not in _IGNORED_SETTINGS})
        # Class attributes are not written to the files, so all values are set here; null means the default.
        self.do_resize = _or_default(do_resize, True)
        self.size = _size(size)
        self.resample = _filter_number(resample)
        self.do_center_crop = _or_default(do_center_crop, True)
        self.crop_size = _crop_size(crop_size, self.size)
        self.do_rescale = _or_default(do_rescale, True)
        self.rescale_factor = float(_or_default(rescale_factor, 1 / 255))
        self.do_normalize = _or_default(do_normalize, True)
        self.image_mean = _per_channel(image_mean, IMAGENET_MEAN)
        self.image_std = _per_channel(image_std, IMAGENET_STD)
        self.do_sample_frames = _or_default(do_sample_frames, True)
        self.num_frames = _or_default(num_frames, 16)
        self.frame_stride = _or_default(frame_stride, 4)
        self.sampling_mode = _or_default(sampling_mode, "dense")
        self.num_views = _or_default(num_views, 1)
        self.frame_seconds = frame_seconds
        self._validate_settings()

    @classmethod
    def from_config(cls, config: VideoMAEConfig, **settings: Any) -> "VideoMAEVideoProcessor":
        """Return the processor that belongs to a model: its size, frames, mean and std; `settings` override them."""
        height, width = config.image_height_width
        values: dict[str, Any] = {
            "size": {"shortest_edge": min(height, width)},
            "crop_size": {"height": height, "width": width},
            "image_mean": config.image_mean,
            "image_std": config.image_std,
            "num_frames": config.num_frames,
        }
        return cls(**{**values, **settings})

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build as transformers does; a file without our clip settings gets the defaults.

        Stock transformers always writes `do_sample_frames: false`, because its own sampling is not the paper's.
        """
        check_processor_dict(video_processor_dict)
        values = dict(video_processor_dict)
        if "frame_stride" not in values:
            values.pop("do_sample_frames", None)
        return super().from_dict(values, **_resolve_stride_override(kwargs))

    @classmethod
    def get_video_processor_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Read settings as transformers does. Raises `ValueError` for a file that holds none."""
        name = "preprocessor_config.json"
        read = super().get_video_processor_dict
        return read_config(read, pretrained_model_name_or_path, name=name, check=check_processor_dict, **kwargs)

    @property
    def clip_sampler(self) -> ClipSampler:
        """Return how clips are sampled: the same object that training and evaluation use."""
        mode: Any = self.sampling_mode
        return ClipSampler(
            num_frames=self.num_frames,
            stride=self.frame_stride,
            mode=mode,
            views=self.num_views,
            frame_seconds=self.frame_seconds,
        )

    @property
    def num_channels(self) -> int:
        """Return C, the number of values in `image_mean`."""
        return len(self.image_mean)

    def preprocess(
        self,
        videos: Any,
        *,
        return_tensors: str | None = "pt",
        input_data_format: ChannelOrder | None = None,
        device: str | torch.device | None = None,
        video_metadata: Any = None,
        **overrides: Any,
    ) -> BatchFeature:
        """Turn one video or a list of videos into `pixel_values`.

        Args:
            videos: one video or a list of them, each
                - a path, a URL, the bytes of a file, an open binary file, a row of a `datasets.Video` column (decoded
                  or not), or a torchcodec `VideoDecoder`: sampled by `clip_sampler`;
                - decoded frames: a tensor or array (T, C, H, W), (T, H, W, C) or gray (T, H, W), or a list of PIL
                  images or of (C, H, W), (H, W, C) or (H, W) frames. Exactly `num_frames` frames are the clip; more
                  are sampled by `clip_sampler`; fewer are all kept and the last is repeated, as the paper's code pads
                  short videos (a stride would drop frames of a clip that was sampled already).
                A tensor or array of five dimensions is a batch.
            return_tensors: `pt` or `np`.
            input_data_format: `channels_first` or `channels_last` of decoded frames, if their shape is ambiguous.
            device: where to compute, for example `cuda`.
            video_metadata: transformers' `VideoMetadata` or a dictionary with `fps`, or a list of one per video: the
                frame rate of decoded frames, which `frame_seconds` needs. Files and decoders state their own.
            **overrides: any setting, for this call.

        Returns:
            A BatchFeature whose `pixel_values` is (B, T, C, H, W) float32; with V views per video (B * V, T, C, H, W),
            the views of a video in a row: `logits.view(B, V, -1)` then belongs to the videos.

        Raises:
            ValueError: for input that is no video, with what came and what is wanted.
            VideoDecodeError: a file is bad.
        """
        settings = self._with_settings(overrides)
        batch = _as_batch(videos)
        clips = [
            settings._to_pixel_values(clip, device=device)
            for video, fps in zip(batch, _metadata_fps(video_metadata, len(batch)), strict=True)
            for clip in settings._sample_clips(video, channel_order=input_data_format, fps=fps)
        ]
        shapes = {tuple(clip.shape) for clip in clips}
        if len(shapes) > 1:
            raise ValueError(
                f"the processed videos have different shapes {sorted(shapes)} and make no batch: leave do_resize, "
                f"do_center_crop and do_sample_frames on, or give one video at a time"
            )
        return BatchFeature({"pixel_values": torch.stack(clips)}, tensor_type=return_tensors)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Write `video_preprocessor_config.json`, and `preprocessor_config.json` for readers of image processors.

        Returns:
            The paths of the files.
        """
        files = super().save_pretrained(save_directory)
        image_processor = {name: getattr(self, name) for name in _IMAGE_PROCESSOR_FIELDS}
        image_processor["image_processor_type"] = "VideoMAEImageProcessor"
        path = Path(save_directory) / _IMAGE_PROCESSOR_FILE
        path.write_text(json.dumps(image_processor, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return [*files, str(path)]

    def _with_settings(self, overrides: dict[str, Any]) -> "VideoMAEVideoProcessor":
        """Return this processor with other settings; itself if none are given."""
        # Stock transformers passes this; colors are always converted here.
        overrides = _resolve_stride_override(
            {name: value for name, value in overrides.items() if name != "do_convert_rgb"}
        )
        unknown = overrides.keys() - _SETTINGS
        if unknown:
            raise ValueError(f"unknown settings {', '.join(sorted(unknown))}; known are {', '.join(_SETTINGS)}")
        if not overrides:
            return self
        if "size" in overrides:
            overrides.setdefault("crop_size", None)
        return type(self)(**{**{name: getattr(self, name) for name in _SETTINGS}, **overrides})

    def _validate_settings(self) -> None:
        if len(self.image_mean) != len(self.image_std):
            raise ValueError(
                f"image_mean has {len(self.image_mean)} values, image_std {len(self.image_std)}: one per channel each"
            )
        if min(self.image_std) <= 0 or self.rescale_factor <= 0:
            raise ValueError(f"image_std={self.image_std} and rescale_factor={self.rescale_factor} must be above 0")
        _ = self.clip_sampler  # refuses invalid sampling

    # Sampling: any form of video -> its clips, (T, C, H, W) each, pixels unchanged.

    def _sample_clips(self, video: Any, *, channel_order: ChannelOrder | None, fps: float) -> list[Tensor]:
        # A decoded row of `datasets` holds its file; our decoder counts the frames that really decode.
        video = getattr(video, "_hf_encoded", None) or video
        if isinstance(video, dict) and ("bytes" in video or "path" in video):
            name, video = video.get("path"), video.get("bytes") or video.get("path")
            return self._split_views(self._decode(video, name=name))
        if _is_file(video):
            return self._split_views(self._decode(video))
        if _is_decoder(video):
            return self._split_views(_decoder_frames(video, self._file_indices))
        frames = match_channels(frames_to_tensor(video, self.num_channels, channel_order), self.num_channels)
        return [frames[indices] for indices in self._array_indices(len(frames), fps)]

    def _decode(self, video: VideoSource | VideoSegment, *, name: str | None = None) -> Tensor:
        seconds = self.clip_sampler.stride_seconds if self.do_sample_frames else None
        return decode_clip(video, self._file_indices, frame_seconds=seconds, name=name)

    def _file_indices(self, total: int, fps: float) -> list[int]:
        if not self.do_sample_frames:
            return list(range(total))
        return [index for view in self.clip_sampler.test_indices(total, fps) for index in view]

    def _array_indices(self, total: int, fps: float) -> list[list[int]]:
        if not self.do_sample_frames:
            return [list(range(total))]
        if total > self.num_frames:
            try:
                return self.clip_sampler.test_indices(total, fps)
            except UnknownFrameRateError as error:
                remedy = "the file, or video_metadata={'fps': ...}"
                raise ValueError(f"{total} frames came: {error}, {remedy}") from error
        return [[min(index, total - 1) for index in range(self.num_frames)]] * self.num_views

    def _split_views(self, frames: Tensor) -> list[Tensor]:
        frames = match_channels(frames, self.num_channels)
        return list(frames.split(self.num_frames)) if self.do_sample_frames else [frames]

    # Pixels: one clip -> normalized, at the model's size.

    def _to_pixel_values(self, clip: Tensor, *, device: str | torch.device | None) -> Tensor:
        factor = self._rescale_factor_for(clip)
        # Frame by frame: a clip of large frames in float32 would take gigabytes.
        frames = [self._resize_and_crop(frame[None].to(device).float() * factor) for frame in clip]
        pixels = torch.cat(frames)
        return normalize(pixels, self.image_mean, self.image_std) if self.do_normalize else pixels

    def _rescale_factor_for(self, clip: Tensor) -> float:
        low, high = float(clip.min()), float(clip.max())
        if not math.isfinite(high - low):
            raise ValueError("pixels that are not finite (NaN or infinite) came; repair or leave out these frames")
        if not self.do_rescale:
            return 1.0
        limit = max(255.0, 1 / self.rescale_factor) * (1 + 1e-6)
        if not clip.is_floating_point():
            if high > limit or low < 0:
                raise ValueError(
                    f"integer pixels lie in [{low:.0f}, {high:.0f}], outside 8 bits: give uint8 frames, set "
                    f"rescale_factor=1/65535 for 16 bits (1/4095 for 12), or set do_rescale=False and give floats in "
                    f"[0, 1]"
                )
            return self.rescale_factor
        if high > limit + 1:
            raise ValueError(
                f"pixels go up to {high:.6g}, above 255: divide by the highest possible value (65535 for 16 "
                f"bits) and give floats in [0, 1]"
            )
        if low < 0:
            warnings.warn(
                f"pixels go down to {low:.3g}, so they seem to be normalized already; for such input set "
                f"do_rescale=False and do_normalize=False",
                stacklevel=2,
            )
        elif high <= 1:
            warnings.warn(
                "pixels lie in [0, 1] already and are not rescaled a second time; set do_rescale=False for such input",
                stacklevel=2,
            )
            return 1.0
        return self.rescale_factor

    def _resize_and_crop(self, frames: Tensor) -> Tensor:
        crop = (self.crop_size["height"], self.crop_size["width"])
        if self.do_resize:
            target = self._resize_target(frames.shape[-2], frames.shape[-1])
            bilinear = _FILTERS[self.resample] == "bilinear"
            frames = resize(frames, target) if bilinear else _resize_bicubic(frames, target, clamp=self.do_rescale)
        if not self.do_center_crop:
            return frames
        if frames.shape[-2] < crop[0] or frames.shape[-1] < crop[1]:
            raise ValueError(
                f"frames of {frames.shape[-2]}x{frames.shape[-1]} pixels are below crop_size {crop[0]}x{crop[1]}: "
                f"leave do_resize on, with a size that is not smaller"
            )
        return center_crop(frames, crop)

    def _resize_target(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) to resize to."""
        if "height" in self.size:
            return self.size["height"], self.size["width"]
        short, wanted = min(height, width), self.size["shortest_edge"]
        # Rounded down, as in the paper's code and in stock transformers.
        target = wanted * height // short, wanted * width // short
        crop = (self.crop_size["height"], self.crop_size["width"])
        if not self.do_center_crop or (target[0] >= crop[0] and target[1] >= crop[1]):
            return target
        scale = max(crop[0] / height, crop[1] / width)
        return max(crop[0], round(height * scale)), max(crop[1], round(width * scale))


_SETTINGS = tuple(
    name
    for name, parameter in inspect.signature(VideoMAEVideoProcessor.__init__).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
)


# Input: files, decoders, arrays, lists.


def _is_file(video: Any) -> bool:
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, VideoSegment)
    return isinstance(video, kinds) or hasattr(video, "read")


def _is_decoder(video: Any) -> bool:
    return hasattr(video, "get_frames_at") and hasattr(video, "metadata")


def _as_batch(videos: Any) -> list[Any]:
    if isinstance(videos, (Tensor, np.ndarray)):
        if videos.ndim not in (3, 4, 5):
            raise ValueError(
                f"an array of shape {tuple(videos.shape)} is no video: give (T, C, H, W), (T, H, W, C) or gray "
                f"(T, H, W) frames, or a batch of them with five dimensions"
            )
        return list(videos) if videos.ndim == 5 else [videos]
    if _is_file(videos) or _is_decoder(videos) or isinstance(videos, dict):
        return [videos]
    if not isinstance(videos, (list, tuple)):
        raise ValueError(
            f"{type(videos).__name__} is no video: give a path, URL, bytes, decoder, array, or list of frames"
        )
    if not videos:
        raise ValueError("an empty list came; give at least one video")
    return [videos] if all(is_frame(item) for item in videos) else list(videos)


def _metadata_fps(metadata: Any, count: int) -> list[float]:
    """Return the frames per second of each video, 0 if it is not given."""
    if metadata is None:
        return [0.0] * count
    entries = metadata if isinstance(metadata, (list, tuple)) else [metadata]
    if len(entries) != count:
        raise ValueError(f"video_metadata has {len(entries)} entries for {count} videos; give one for each")
    return [float((entry or {}).get("fps") or 0.0) for entry in entries]


def _decoder_fps(metadata: Any) -> float:
    """Return the frame rate of a torchcodec VideoDecoder, by its time stamps if the stated one is implausible."""
    begin, end, number = metadata.begin_stream_seconds, metadata.end_stream_seconds, metadata.num_frames
    duration = math.nan if begin is None or end is None else (end - begin) * (number - 1) / number
    return estimate_fps(stated=metadata.average_fps or 0.0, num_frames=number, duration=duration)


def _decoder_frames(decoder: Any, index_fn: Callable[[int, float], Sequence[int]]) -> Tensor:
    """Return frames (T, C, H, W) of a torchcodec VideoDecoder."""
    metadata = decoder.metadata
    try:
        indices = index_fn(metadata.num_frames, _decoder_fps(metadata))
        frames: Tensor = decoder.get_frames_at(indices=list(indices)).data
    except UnknownFrameRateError as error:
        raise VideoDecodeError("a VideoDecoder's video", str(error)) from error
    except (RuntimeError, IndexError) as error:
        # A decoder seeks by packets, and some files have more of them than frames.
        reason = f"this VideoDecoder cannot seek in it ({error}); give its path or bytes, which are decoded in order"
        raise VideoDecodeError("a VideoDecoder's video", " ".join(reason.split())) from error
    # A decoder opened with dimension_order="NHWC" gives the channels last.
    return (
        frames if (frames.shape[-2], frames.shape[-1]) == (metadata.height, metadata.width) else frames.movedim(-1, 1)
    )


def _resize_bicubic(frames: Tensor, size: tuple[int, int], *, clamp: bool) -> Tensor:
    """Resize as Pillow does: first the rows, then the columns, each clipped to [0, 1]."""
    for height, width in ((frames.shape[-2], size[1]), size):
        frames = F.interpolate(frames, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
        frames = frames.clamp(0, 1) if clamp else frames
    return frames


# Settings as files hold them.


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _size(size: Size | None) -> dict[str, int]:
    if size is None:
        return {"shortest_edge": 224}
    if isinstance(size, int | float):
        return _positive({"shortest_edge": size}, "size")
    if not isinstance(size, dict) and len(size) == 2:
        return _positive({"height": size[0], "width": size[1]}, "size")
    sides = {} if not isinstance(size, dict) else {name: value for name, value in size.items() if value is not None}
    if sides.keys() not in ({"shortest_edge"}, {"height", "width"}):
        raise ValueError(f"size={size!r}: give a number, {{'shortest_edge': n}} or {{'height': h, 'width': w}}")
    return _positive(sides, "size")


def _crop_size(crop_size: Size | None, size: dict[str, int]) -> dict[str, int]:
    crop = _size(crop_size) if crop_size is not None else size
    if "shortest_edge" in crop:
        return {"height": crop["shortest_edge"], "width": crop["shortest_edge"]}
    return dict(crop)


def _positive(size: dict[str, int], name: str) -> dict[str, int]:
    if any(int(value) != value or value < 1 for value in size.values()):
        raise ValueError(f"{name}={size} must be whole pixels, 1 or more")
    return {key: int(value) for key, value in size.items()}


def _filter_number(resample: int | str | None) -> int:
    numbers = {name: number for number, name in _FILTERS.items()}
    number = numbers.get(resample.lower(), -1) if isinstance(resample, str) else int(_or_default(resample, 2))
    if number not in _FILTERS:
        raise ValueError(f"resample={resample!r} is not supported: 2 (bilinear) and 3 (bicubic) are")
    return number


def _per_channel(values: float | Sequence[float] | None, default: Sequence[float]) -> list[float]:
    if values is None:
        return list(default)
    return [float(values)] * 3 if isinstance(values, (int, float)) else [float(value) for value in values]


def _resolve_stride_override(changes: dict[str, Any]) -> dict[str, Any]:
    """Let a stride given in frames replace one in seconds."""
    return changes if changes.get("frame_stride") is None else {"frame_seconds": None, **changes}


def _check_misspelled(extra: dict[str, Any]) -> None:
    """Refuse a name that is nearly one of ours; files may hold other unknown settings."""
    for name in extra.keys() - VideoMAEVideoProcessorKwargs.__annotations__.keys():
        close = difflib.get_close_matches(name, _SETTINGS, n=1, cutoff=0.88)
        if close:
            raise ValueError(f"VideoMAEVideoProcessor has no setting {name!r}; did you mean {close[0]!r}?")


__all__ = ["VideoMAEVideoProcessor"]
