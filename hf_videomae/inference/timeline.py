"""Predict what happens in a video and when, from windows that slide along it.

Shapes: W windows, T frames of each, K classes.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..data.labels import LabelKind
from ..ops.view_scores import average_view_scores
from ..video.decoding import VideoReader, open_video
from ..video.sampling import ClipSampler
from ..video.segments import SegmentReader
from ..video.timestamps import has_constant_rate, window_seconds
from ..video.views import sliding_window_indices
from ..video_processing_videomae import VideoMAEVideoProcessor
from .clip_windows import read_windows
from .figure_text import figure_fonts
from .images import evenly_spaced_indices
from .model_loading import evaluation_mode, get_problem_type, load_classifier_and_processor
from .output_checks import check_finite
from .prediction import compute_view_logits

if TYPE_CHECKING:
    from PIL.Image import Image

_DEFAULT_FPS = 25.0  # for files that state no frame rate


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The scores of a video's windows.

    Attributes:
        video: its path or URL, or `<video>` for bytes.
        scores: (W, K) float32 on the CPU: the softmax, or the sigmoid if a video may have several classes; the numbers
            themselves for a regression.
        frames: (W, T) the frame indices of each window, counted from 0.
        fps: frame rate in 1/s; 25 if the file states none.
        labels: names of the K classes.
        kind: the model's problem type: one class per video, several, or numbers.
        num_frames: number of frames in the video.
        num_frames_covered: number of frames, from the start, that were cut into windows.
        seconds: (W, 2) start and end of each window, by the timestamps of the file.
        duration: length of the video in seconds.
        seconds_covered: end of the covered frames in seconds.
        num_skipped_windows: number of windows that `max_windows` left out.
    """

    video: str
    scores: Tensor
    frames: Tensor
    fps: float
    labels: list[str]
    kind: LabelKind
    num_frames: int
    num_frames_covered: int
    seconds: Tensor
    duration: float
    seconds_covered: float
    num_skipped_windows: int = 0

    def top(self, count: int) -> list[int]:
        """Return the classes with the highest scores in any window, highest first.

        A regression returns its outputs in their own order.
        """
        if self.kind == "regression":
            return list(range(len(self.labels)))[:count]
        best: list[int] = self.scores.amax(0).topk(min(count, len(self.labels))).indices.tolist()
        return best

    def peak(self, label: int) -> int:
        """Return the window in which a class has its highest score."""
        return int(self.scores[:, label].argmax())


@torch.no_grad()
def predict_timeline(
    model: PreTrainedModel | str | os.PathLike[str],
    video: Any,
    *,
    hop: int | None = None,
    stride: int | None = None,
    max_seconds: float | None = None,
    max_windows: int | None = None,
    processor: VideoMAEVideoProcessor | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 8,
) -> Timeline:
    """Score windows that slide along a video.

    A window is a dense clip, even for a model trained on clips spread over whole videos (`uniform`).

    Args:
        model: a classifier, or the Hub id or folder of one: from this package or from stock transformers.
        video: a path, a URL or the bytes of a file.
        hop: frames between the starts of two windows; by default half a window.
        stride: frames between two frames of a window, instead of the stride saved with the model.
        max_seconds: cover only the first so many seconds.
        max_windows: score at most so many windows, evenly spaced.
        processor: turns a video into clips; by default the one saved with the model, or one for its configuration.
        device: where to compute; by default where the model is.
        batch_size: windows per forward pass.

    Raises:
        ValueError: for settings that cannot work, or a model without a classifier.
        VideoDecodeError: for a video that cannot be decoded.
    """
    _check_settings(max_seconds, hop=hop, stride=stride, max_windows=max_windows, batch_size=batch_size)
    network, processor = load_classifier_and_processor(model, processor, device)
    sampler = processor.clip_sampler.with_overrides(stride=stride)
    with open_video(video, name="<video>" if isinstance(video, (bytes, bytearray, memoryview)) else None) as reader:
        covered_frames = reader.num_frames if max_seconds is None else _frames_before(reader, max_seconds)
        windows = _sliding_windows(reader, sampler, hop=hop, covered_frames=covered_frames)
        selected = [windows[index] for index in evenly_spaced_indices(len(windows), max_windows or len(windows))]
        clips = read_windows(reader, selected, processor=processor, batch_size=batch_size)
        with evaluation_mode(network):
            logits = torch.cat([compute_view_logits(network, batch, batch_size=batch_size) for batch in clips])
        kind = get_problem_type(network.config)
        scores = average_view_scores(logits[:, None], problem_type=kind)
        check_finite(scores, what="scores", video=reader.name)
        frames = torch.tensor(selected)
        ends = window_seconds(reader, torch.tensor([[reader.num_frames - 1], [covered_frames - 1]]))
        return Timeline(
            video=reader.name,
            scores=scores,
            frames=frames,
            fps=reader.fps or _DEFAULT_FPS,
            labels=[network.config.id2label[index] for index in range(scores.shape[1])],
            kind=kind,
            num_frames=reader.num_frames,
            num_frames_covered=covered_frames,
            num_skipped_windows=len(windows) - len(selected),
            seconds=window_seconds(reader, frames).float(),
            duration=float(ends[0, 1]),
            seconds_covered=float(ends[1, 1]),
        )


def _check_settings(max_seconds: float | None, **counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if max_seconds is not None and max_seconds <= 0:
        raise ValueError(f"max_seconds is {max_seconds}; it must be above 0")


def _sliding_windows(
    reader: VideoReader | SegmentReader, sampler: ClipSampler, *, hop: int | None, covered_frames: int
) -> list[list[int]]:
    """Return the frame indices of dense windows over the first `covered_frames`, half a window apart without `hop`."""

    def window_indices(total: int, fps: float) -> list[list[int]]:
        stride = sampler.stride_at_fps(fps)
        hop_frames = hop or max(1, sampler.num_frames * stride // 2)
        return sliding_window_indices(total, num_frames=sampler.num_frames, stride=stride, hop=hop_frames)

    return reader.sample_indices(window_indices, frame_seconds=sampler.frame_seconds, first=covered_frames)


def _frames_before(reader: VideoReader | SegmentReader, seconds: float) -> int:
    """Return the number of frames shown before a time; at least 1."""
    if has_constant_rate(reader.timestamps, fps=reader.fps or _DEFAULT_FPS):
        return min(reader.num_frames, max(1, int(seconds * (reader.fps or _DEFAULT_FPS))))
    return max(1, int((reader.timestamps < seconds).sum()))


def draw_timeline(timeline: Timeline, *, count: int = 5) -> "Image":
    """Draw the scores of the strongest classes along the video, a row for each class.

    Args:
        timeline: the result of `predict_timeline`.
        count: number of classes to draw.
    """
    import io

    from matplotlib.figure import Figure
    from PIL import Image

    shown, edges = timeline.top(count), _stair_edges(timeline.seconds)
    with figure_fonts([timeline.labels[label] for label in shown]) as show:
        figure = Figure(figsize=(9, 0.6 + 0.62 * len(shown)), dpi=110, layout="constrained")
        rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axis, label in zip(rows, shown, strict=True):
            scores = timeline.scores[:, label].numpy()
            axis.stairs(scores, edges, fill=True, color="#f59e0b", alpha=0.85)
            if timeline.kind != "regression":
                axis.set_ylim(0, 1)
            axis.set_yticks([])
            axis.set_ylabel(
                show(_truncate_name(timeline.labels[label])), rotation=0, ha="right", va="center", fontsize=11
            )
            axis.text(
                1.01, 0.5, f"{scores.max():.2f}", transform=axis.transAxes, va="center", fontsize=10, color="#555"
            )
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.set_xlim(edges[0], edges[-1])
        rows[0].set_title("highest", loc="right", x=1.06, fontsize=9, color="#555")
        rows[-1].set_xlabel("seconds")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def _stair_edges(seconds: Tensor) -> list[float]:
    """Return the (W + 1) times between which each window's score is drawn: halfway between neighboring windows.

    Windows of 0 to 2, 1 to 3 and 2 to 4 seconds have their middles at 1, 2 and 3, so the edges are 0, 1.5, 2.5, 4.
    """
    middles = seconds.mean(1)
    between = (middles[1:] + middles[:-1]) / 2
    return [float(seconds[0, 0]), *between.tolist(), float(seconds[-1, 1])]


def _truncate_name(name: str, max_length: int = 28) -> str:
    return name if len(name) <= max_length else f"{name[: max_length - 1]}…"
