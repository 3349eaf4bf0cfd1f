"""Test scores along a video: windows, limits, and the figure."""

from pathlib import Path

import pytest
import torch

from hf_videomae import predict
from hf_videomae.inference import draw_timeline, predict_timeline
from hf_videomae.inference.images import evenly_spaced_indices
from hf_videomae.video.decoding import VideoDecodeError, decode_clip
from tests.helpers.models import NAMES, save_model, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a video of 72 frames at 12 fps; a window of 8 frames, 2 apart, spans 15."""
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", repeat=3)


def test_windows_cover_the_video_and_score_like_predict(model_dir: Path, video: Path) -> None:
    timeline = predict_timeline(model_dir, video, batch_size=3)
    assert timeline.frames[:, 0].tolist() == [0, 8, 16, 24, 32, 40, 48, 56, 57] and timeline.frames[-1, -1] == 71
    assert timeline.labels == NAMES and (
        timeline.num_frames,
        timeline.num_frames_covered,
        timeline.num_skipped_windows,
    ) == (
        72,
        72,
        0,
    )
    assert timeline.seconds[0].tolist() == [0, 15 / 12] and timeline.seconds[-1, 1] == 6
    torch.testing.assert_close(timeline.scores.sum(1), torch.ones(9))
    frames = decode_clip(video, lambda total, fps: timeline.frames[3].tolist())
    (answer,) = predict(model_dir, frames)  # as many as a clip has: these are taken
    torch.testing.assert_close(timeline.scores[3], answer.probabilities, atol=1e-5, rtol=0)
    torch.testing.assert_close(predict_timeline(model_dir, video.read_bytes()).scores, timeline.scores)
    label = timeline.top(1)[0]
    assert timeline.scores[timeline.peak(label), label] == timeline.scores.max()


def test_limits_cover_a_part_of_a_long_video(model_dir: Path, video: Path) -> None:
    timeline = predict_timeline(model_dir, video, max_seconds=4)
    assert timeline.num_frames_covered == 48 and timeline.frames.max() == 47 and timeline.num_frames == 72
    spaced = predict_timeline(model_dir, video, hop=1, max_windows=3)
    assert spaced.frames[:, 0].tolist() == [0, 28, 57] and spaced.num_skipped_windows == 55
    assert evenly_spaced_indices(3, 32) == [0, 1, 2]  # more are wanted than there are: each once


def test_regression_keeps_its_outputs_in_order(tmp_path: Path, video: Path) -> None:
    names = {0: "speed", 1: "angle"}
    timeline = predict_timeline(save_model(tmp_path, id2label=names, problem_type="regression"), video)
    assert timeline.kind == "regression" and timeline.top(5) == [0, 1]
    assert draw_timeline(timeline).width > 500


def test_figure_grows_with_each_class(model_dir: Path, video: Path) -> None:
    timeline = predict_timeline(model_dir, video, max_windows=1)
    one, three = draw_timeline(timeline, count=1), draw_timeline(timeline, count=3)
    assert three.height > one.height + 100 and len(one.getcolors(1 << 20) or []) > 10


def test_invalid_settings_are_refused(model_dir: Path, tmp_path: Path) -> None:
    for settings in ({"hop": 0}, {"max_windows": 0}, {"max_seconds": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            predict_timeline(model_dir, "never-read.mp4", **settings)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoDecodeError):
        predict_timeline(model_dir, tmp_path / "text.mp4")
