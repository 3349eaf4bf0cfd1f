"""What happens in a video, and when: the scores of windows that slide along it.

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
from ..video.segments import SegmentReader
from ..video.timestamps import has_constant_rate, window_seconds
from ..video.views import sliding_window_indices
from ..video_processing_videomae import VideoMAEVideoProcessor
from .clip_windows import read_windows
from .figure_text import figure_fonts
from .images import evenly_spaced_indices
from .model_loading import get_problem_type, load_classifier, load_processor, resolve_device
from .output_checks import check_finite

if TYPE_CHECKING:
    from PIL.Image import Image

# Where a file does not say how fast it runs.
_DEFAULT_FPS = 25.0


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The scores of a video's windows.

    Attributes:
        video: its path or URL, or `<video>` for bytes.
        scores: (W, K) float32 on the CPU: softmax, or sigmoid where a video may have several classes; the numbers
            themselves of a regression.
        frames: (W, T) the frames of each window, counted from 0.
        fps: frame rate in 1/s; 25 where nothing tells it.
        labels: names of the K classes.
        kind: of the model: one class per video, several, or numbers.
        num_frames: of the video.
        num_frames_covered: the first so many of them were cut into windows.
        seconds: (W, 2) where each window begins and ends, by the time stamps of the file.
        duration: of the video, in seconds.
        seconds_covered: where the last of the `num_frames_covered` ends.
        num_skipped_windows: of those that would follow each other at the given distance.
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
        """The classes with the highest scores in any window, the highest first; all outputs of a regression."""
        if self.kind == "regression":
            return list(range(len(self.labels)))[:count]
        best: list[int] = self.scores.amax(0).topk(min(count, len(self.labels))).indices.tolist()
        return best

    def peak(self, label: int) -> int:
        """The window in which a class has its highest score."""
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
    """Scores of windows that slide along a video.

    A window is a dense clip, also of a model that was trained with clips spread over whole videos (`uniform`).

    Args:
        model: a classifier, or the Hub id or folder of one: ours or stock transformers'.
        video: a path, a URL or the bytes of a file.
        hop: frames between the starts of two windows; half a window by default.
        stride: frames between two of a window, instead of what was saved with the model.
        max_seconds: look at the first so many seconds only.
        max_windows: look at no more windows than these, evenly spread.
        processor: how a video becomes a clip; the one saved with the model, or one made for its configuration.
        device: where to compute; where the model is, by default.
        batch_size: windows per forward pass.

    Raises:
        ValueError: for settings that cannot work, or a model without a classifier; `VideoDecodeError` for a video
            that cannot be decoded.
    """
    limits = {"hop": hop, "stride": stride, "max_windows": max_windows, "batch_size": batch_size}
    for name, value in limits.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if max_seconds is not None and max_seconds <= 0:
        raise ValueError(f"max_seconds is {max_seconds}; it must be above 0")
    device = resolve_device(device)
    network = load_classifier(model)
    processor = processor or load_processor(model, network)
    plan = processor.clip_sampler.with_overrides(stride=stride)
    if device is not None:
        network.to(device)  # type: ignore[arg-type]

    with open_video(video, name="<video>" if isinstance(video, (bytes, bytearray, memoryview)) else None) as reader:
        covered_frames = reader.num_frames if max_seconds is None else _frames_before(reader, max_seconds)

        def window_indices(total: int, fps: float) -> list[list[int]]:
            step = plan.stride_at_fps(fps)
            hop_frames = hop or max(1, plan.num_frames * step // 2)
            return sliding_window_indices(total, num_frames=plan.num_frames, stride=step, hop=hop_frames)

        windows = reader.sample_indices(window_indices, frame_seconds=plan.frame_seconds, first=covered_frames)
        selected_windows = [
            windows[place] for place in evenly_spaced_indices(len(windows), max_windows or len(windows))
        ]
        clips = read_windows(reader, selected_windows, processor=processor, batch_size=batch_size)
        scores = torch.cat([_scores(network, group) for group in clips])
        check_finite(scores, what="scores", video=reader.name)
        frames = torch.tensor(selected_windows)
        ends = window_seconds(reader, torch.tensor([[reader.num_frames - 1], [covered_frames - 1]]))
        names = [network.config.id2label[number] for number in range(scores.shape[1])]
        return Timeline(
            video=reader.name,
            scores=scores,
            frames=frames,
            fps=reader.fps or _DEFAULT_FPS,
            labels=names,
            kind=get_problem_type(network.config),
            num_frames=reader.num_frames,
            num_frames_covered=covered_frames,
            num_skipped_windows=len(windows) - len(selected_windows),
            seconds=window_seconds(reader, frames).float(),
            duration=float(ends[0, 1]),
            seconds_covered=float(ends[1, 1]),
        )


def _frames_before(reader: VideoReader | SegmentReader, seconds: float) -> int:
    """Return how many frames are shown before a time; at least 1."""
    if has_constant_rate(reader.timestamps, fps=reader.fps or _DEFAULT_FPS):
        return min(reader.num_frames, max(1, int(seconds * (reader.fps or _DEFAULT_FPS))))
    return max(1, int((reader.timestamps < seconds).sum()))


def _scores(network: PreTrainedModel, clips: Tensor) -> Tensor:
    training = network.training
    network.eval()
    try:
        logits = (
            network(pixel_values=clips.to(device=network.device, dtype=network.dtype), return_dict=True)
            .logits.float()
            .cpu()
        )
    finally:
        network.train(training)
    return average_view_scores(logits[:, None], problem_type=get_problem_type(network.config))


def draw_timeline(timeline_result: Timeline, *, count: int = 5) -> "Image":
    """A row for each of the strongest classes: its score along the video.

    Args:
        timeline_result: of `predict_timeline`.
        count: classes in the picture.
    """
    import io

    from matplotlib.figure import Figure
    from PIL import Image

    shown, edges = timeline_result.top(count), _stair_edges(timeline_result.seconds)
    with figure_fonts([timeline_result.labels[label] for label in shown]) as show:
        figure = Figure(figsize=(9, 0.6 + 0.62 * len(shown)), dpi=110, layout="constrained")
        rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axis, label in zip(rows, shown, strict=True):
            scores = timeline_result.scores[:, label].numpy()
            axis.stairs(scores, edges, fill=True, color="#f59e0b", alpha=0.85)
            if timeline_result.kind != "regression":
                axis.set_ylim(0, 1)
            axis.set_yticks([])
            axis.set_ylabel(
                show(_truncate_name(timeline_result.labels[label])), rotation=0, ha="right", va="center", fontsize=11
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
    """The times at which one window's part of the picture ends and the next one's begins: half way between them."""
    middles = seconds.mean(1)
    between = (middles[1:] + middles[:-1]) / 2
    return [float(seconds[0, 0]), *between.tolist(), float(seconds[-1, 1])]


def _truncate_name(name: str, max_length: int = 28) -> str:
    return name if len(name) <= max_length else f"{name[: max_length - 1]}…"


__all__ = ["Timeline", "draw_timeline", "predict_timeline"]
