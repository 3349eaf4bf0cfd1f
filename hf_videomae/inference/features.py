"""Extract features of videos with a VideoMAE: of clips, of their slices in time, or of their tokens.

A token covers two frames (`tubelet_size`), so a clip of T frames has T' = T / 2 slices, not T: 8 for 16 frames. There
is no [CLS] token: the feature of a clip is the mean of its tokens. No tokens are masked: features taken through a
random mask, as some scripts do, describe only a part of the video.

Shapes: W windows of one video, T frames of a window, T' slices, H' x W' positions of the token grid, D width.
"""

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..ops.patches import Grid, token_grid
from ..video.decoding import open_video
from ..video.timestamps import frame_times
from ..video.views import sliding_window_indices
from ..video_processing_videomae import VideoMAEVideoProcessor
from .clip_windows import batched, read_windows
from .model_loading import (
    as_videomae_config,
    evaluation_mode,
    layer_tokens,
    load_encoder,
    load_processor,
    resolve_device,
    resolve_layer,
)
from .output_checks import check_finite
from .video_inputs import FILE_TYPES, resolve_videos

Pool = Literal["mean", "frame", "token"]


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """The features of one video.

    Attributes:
        video: its path or URL, or `<video 0>` and so on for frames and bytes.
        features: float32 on the CPU: (W, D) for `mean`, (W, T', D) for `frame`, (W, T', H', W', D) for `token`.
        frames: (W, T) the frame indices of each window, counted from 0, the first frame of the video or segment.
        fps: frame rate in 1/s, 0.0 if it is not known.
        seconds: (W, T) when the frames are shown, in seconds after the first frame, by the timestamps of the file;
            None for decoded frames, which have none.
    """

    video: str
    features: Tensor
    frames: Tensor
    fps: float = 0.0
    seconds: Tensor | None = None


def extract_features(
    model: PreTrainedModel | str | os.PathLike[str],
    videos: Any,
    *,
    pool: Pool = "mean",
    layer: int = -1,
    hop: int | None = None,
    stride: int | None = None,
    processor: VideoMAEVideoProcessor | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 8,
) -> list[VideoFeatures]:
    """Extract features of videos.

    Args:
        model: any VideoMAE, pre-trained or fine-tuned, or the Hub id or folder of one: from this package or from
            stock transformers.
        videos: one or a list of: a path, a URL, a folder of videos, a glob pattern, or anything that
            `VideoMAEVideoProcessor` takes. Decoded frames are one video.
        pool: `mean` over all tokens of a window, `frame` over the positions of each of the T' slices, or `token`: all
            tokens.
        layer: -1 for the encoder's output, including its final norm if it has one (for `pool="mean"` the `fc_norm` of
            a classifier that pools the mean is applied too: its last layer reads this). Otherwise the output of a
            block: 1 is the first, -2 the last but one, 0 the embeddings.
        hop: None uses the clips that were saved with the model, by default one in the middle. A number slides a window
            over the whole video, one every `hop` frames; with `num_frames * stride` the windows do not overlap.
        stride: frames between two frames of a window, instead of the stride saved with the model.
        processor: turns a video into clips; by default the one saved with the model, or one made for its
            configuration.
        device: where to compute; by default where the model is.
        batch_size: windows per forward pass.

    Returns:
        one `VideoFeatures` per video, in order.

    Raises:
        ValueError: for settings that cannot work.
        VideoDecodeError: for a video that cannot be decoded.
    """
    extractor = FeatureExtractor(
        model,
        pool=pool,
        layer=layer,
        hop=hop,
        stride=stride,
        processor=processor,
        device=device,
        batch_size=batch_size,
    )
    return [extractor(video, name=name) for name, video in resolve_videos(videos)]


class FeatureExtractor:
    """Extract features of one video at a time with a model that is loaded once.

    Args:
        Those of `extract_features`.
    """

    def __init__(
        self,
        model: PreTrainedModel | str | os.PathLike[str],
        *,
        pool: Pool = "mean",
        layer: int = -1,
        hop: int | None = None,
        stride: int | None = None,
        processor: VideoMAEVideoProcessor | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 8,
    ) -> None:
        if pool not in get_args(Pool):
            raise ValueError(f"pool is {pool!r}; choose one of {', '.join(get_args(Pool))}")
        for name, value in (("hop", hop), ("stride", stride), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        device = resolve_device(device)
        self.network = load_encoder(model)
        self.processor = processor or load_processor(model, self.network)
        self.config = as_videomae_config(self.network.config)
        self.layer = resolve_layer(layer, num_layers=self.config.num_hidden_layers)
        self.pool, self.hop, self.batch_size = pool, hop, batch_size
        # The frames of sliding windows are a stride apart, even if the model samples uniformly over whole videos.
        mode: Any = "dense" if hop is not None and stride is not None else None
        self.sampler = self.processor.clip_sampler.with_overrides(mode=mode, stride=stride)
        if device is not None:
            self.network.to(device)  # type: ignore[arg-type]

    @torch.no_grad()
    def __call__(self, video: Any, *, name: str = "<video 0>") -> VideoFeatures:
        """Return the features of one video.

        Raises:
            ValueError: for an input that is not a video.
            VideoDecodeError: for a video that cannot be decoded.
            NonFiniteOutputError: for features that are not finite.
        """
        with evaluation_mode(self.network):
            result = self._from_file(video, name) if isinstance(video, FILE_TYPES) else self._from_frames(video, name)
        check_finite(result.features, what="features", video=name)
        return result

    def settings(self) -> dict[str, Any]:
        """Return the settings that the features depend on besides the weights, as plain values."""
        return {
            "pool": self.pool,
            "layer": self.layer,
            "hop": self.hop,
            "num_frames": self.sampler.num_frames,
            "stride": self.sampler.stride,
            "frame_seconds": self.sampler.frame_seconds,
            "sampling": self.sampler.mode,
            "views": self.sampler.views,
        }

    def _from_file(self, video: Any, name: str) -> VideoFeatures:
        named = name if isinstance(video, (bytes, bytearray, memoryview)) else None
        with open_video(video, name=named) as reader:
            windows = reader.sample_indices(self._window_indices, frame_seconds=self._frame_seconds)
            clips = read_windows(reader, windows, processor=self.processor, batch_size=self.batch_size)
            features = torch.cat([self._forward(batch) for batch in clips])
            frames = torch.tensor(windows)
            seconds = frame_times(reader, frames)
            return VideoFeatures(video=name, features=features, frames=frames, fps=reader.fps or 0.0, seconds=seconds)

    def _from_frames(self, video: Any, name: str) -> VideoFeatures:
        (pixels,) = self.processor(video, do_sample_frames=False)["pixel_values"]  # (all frames, C, H, W)
        total, clip_length = len(pixels), self.processor.num_frames
        if self.hop is None and total <= clip_length:
            # Like the processor: these frames are a sampled clip, filled up with its last frame if it is short.
            windows = [[min(index, total - 1) for index in range(clip_length)]]
        else:
            windows = self._window_indices(total)
        parts = [self._forward(torch.stack([pixels[w] for w in batch])) for batch in batched(windows, self.batch_size)]
        return VideoFeatures(video=name, features=torch.cat(parts), frames=torch.tensor(windows))

    @property
    def _frame_seconds(self) -> float | None:
        """Return the time between two frames in seconds, if set; sliding windows are dense in every sampling mode."""
        return self.sampler.stride_seconds if self.hop is None else self.sampler.frame_seconds

    def _window_indices(self, total: int, fps: float = 0.0) -> list[list[int]]:
        sampler = self.sampler
        if self.hop is None:
            return sampler.test_indices(total, fps)
        stride = sampler.stride_at_fps(fps)
        return sliding_window_indices(total, num_frames=sampler.num_frames, stride=stride, hop=self.hop)

    def _forward(self, clips: Tensor) -> Tensor:
        """Return the features of windows (W, T, C, H, W), on the CPU."""
        _, num_frames, _, height, width = clips.shape
        grid = token_grid(num_frames=num_frames, height=height, width=width, cube=self.config.cube)
        clips = clips.to(device=self.network.device, dtype=self.network.dtype)
        tokens = layer_tokens(getattr(self.network, "videomae", self.network), clips, self.layer)
        return self._pool_tokens(tokens, grid).float().cpu()

    def _pool_tokens(self, tokens: Tensor, grid: Grid) -> Tensor:
        if self.pool == "mean":
            pooled = tokens.mean(1)
            norm = getattr(self.network, "fc_norm", None)
            is_last = self.layer == self.config.num_hidden_layers
            return norm(pooled) if norm is not None and is_last else pooled
        tokens = tokens.unflatten(1, grid)  # (W, T', H', W', D)
        return tokens.mean((2, 3)) if self.pool == "frame" else tokens
