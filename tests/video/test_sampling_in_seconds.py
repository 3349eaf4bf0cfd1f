"""Test clips sampled in seconds: by time stamps at an uneven frame rate, by index at a constant one."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hf_videomae.video.decode_errors import UnknownFrameRateError
from hf_videomae.video.decoding import decode_clip, open_video
from hf_videomae.video.sampling import ClipSampler, pretrain_indices
from hf_videomae.video.timestamps import (
    frame_times,
    has_constant_rate,
    nearest_frame,
    resolve_frame_indices,
    window_seconds,
)
from hf_videomae.video.views import MultiViewConfig, decode_views, sliding_window_indices
from tests.helpers.made_videos import at_times, make_video, needs_ffmpeg_command
from tests.helpers.numbered import each_backend, numbered_video

pytestmark = pytest.mark.fault

# A screen recorder: bursts of 50 frames per second, and seconds without a new frame.
SCREEN = [0.02 * n for n in range(20)] + [1.4 + 0.02 * n for n in range(20)] + [3.0, 4.0, 4.02, 4.5]
# A phone in the dark: 30 frames per second, half of them missing in the second half.
PHONE = [n / 30 for n in range(60)] + [2 + n / 15 for n in range(30)]


def video(times: list[float], fps: float) -> SimpleNamespace:
    return SimpleNamespace(num_frames=len(times), fps=fps, timestamps=torch.tensor(times, dtype=torch.float64))


def mean_rate(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0])


@pytest.mark.parametrize("seconds", [0.04, 0.1, 0.25])
@pytest.mark.parametrize("times", [SCREEN, PHONE], ids=["screen", "phone"])
def test_clip_of_uneven_video_has_frames_at_the_sampled_times(times: list[float], seconds: float) -> None:
    fps = mean_rate(times)
    start = 0

    def plan(total: int, rate: float) -> list[int]:
        nonlocal start
        start = (
            (total - 8 * stride) // 2
            if total > 8 * (stride := ClipSampler(frame_seconds=seconds).stride_at_fps(rate))
            else 0
        )
        return [start + place * stride for place in range(8)]

    frames = resolve_frame_indices(video(times, fps), plan, frame_seconds=seconds)
    rate = max(1, round(seconds * fps)) / seconds
    stamps = torch.tensor(times)
    for place, frame in enumerate(frames):
        wanted = start / rate + place * seconds
        assert abs(times[frame] - wanted) == pytest.approx(float((stamps - wanted).abs().min()), abs=1e-6)


@pytest.mark.parametrize("fps", [15.0, 24000 / 1001, 25.0, 30000 / 1001, 60.0])
@pytest.mark.parametrize("clock", [1e-9, 1e-3])
@pytest.mark.parametrize("frame_seconds", [0.05, 2 / 15, 0.5])
def test_constant_rate_keeps_its_indices(fps: float, clock: float, frame_seconds: float) -> None:
    times = [round(place / fps / clock) * clock for place in range(300)]
    plan = ClipSampler(num_frames=16, frame_seconds=frame_seconds, views=5)
    assert resolve_frame_indices(
        video(times, fps), plan.test_indices, frame_seconds=plan.stride_seconds
    ) == plan.test_indices(300, fps)


def test_sampling_in_frames_ignores_time_stamps() -> None:
    plan = ClipSampler(num_frames=8, stride=2, views=3)
    uneven = video(SCREEN, mean_rate(SCREEN))
    assert plan.stride_seconds is None and ClipSampler(mode="uniform", frame_seconds=0.1).stride_seconds is None
    assert resolve_frame_indices(uneven, plan.test_indices, frame_seconds=plan.stride_seconds) == plan.test_indices(
        len(SCREEN)
    )


@pytest.mark.parametrize("frame_seconds", [0.01, 0.04, 0.3, 2.0, 100.0])
@pytest.mark.parametrize("times", [SCREEN, PHONE, [0.0, 7.0], [0.0, 0.001, 5.0]])
def test_indices_stay_within_the_video(times: list[float], frame_seconds: float) -> None:
    clip = ClipSampler(num_frames=8, frame_seconds=frame_seconds, views=3)
    uneven = video(times, 100.0 if len(times) > 3 else mean_rate(times))

    def pretrain(total: int, fps: float) -> list[int]:
        return pretrain_indices(total, num_frames=8, stride=clip.stride_at_fps(fps))

    views = resolve_frame_indices(uneven, clip.test_indices, frame_seconds=frame_seconds)
    clips = [
        resolve_frame_indices(uneven, plan, frame_seconds=frame_seconds) for plan in (clip.train_indices, pretrain)
    ]
    for indices in (*views, *clips):
        assert len(indices) == 8 and indices == sorted(indices)
        assert 0 <= indices[0] and indices[-1] < len(times)


def test_video_of_one_frame_needs_no_rate() -> None:
    plan = ClipSampler(num_frames=4, frame_seconds=0.1)
    assert resolve_frame_indices(video([0.0], 0.0), plan.test_indices, frame_seconds=0.1) == [[0, 0, 0, 0]]


def test_implausibly_short_time_stamps_are_refused() -> None:
    squeezed = video([place / 90000 for place in range(200)], 90000.0)
    plan = ClipSampler(num_frames=4, frame_seconds=0.1)
    with pytest.raises(UnknownFrameRateError, match=r"90000 per second.*stride in frames"):
        resolve_frame_indices(squeezed, plan.test_indices, frame_seconds=plan.stride_seconds)
    in_frames = ClipSampler(num_frames=4, stride=4)
    assert resolve_frame_indices(squeezed, in_frames.test_indices, frame_seconds=in_frames.stride_seconds)
    high_speed = ClipSampler(num_frames=4, frame_seconds=0.0002)
    assert resolve_frame_indices(squeezed, high_speed.test_indices, frame_seconds=0.0002) == high_speed.test_indices(
        200, 90000
    )


def test_first_limits_the_sampled_frames() -> None:
    def slide(total: int, fps: float) -> list[list[int]]:
        return sliding_window_indices(
            total, num_frames=4, stride=ClipSampler(frame_seconds=0.1).stride_at_fps(fps), hop=2
        )

    windows = resolve_frame_indices(video(SCREEN, mean_rate(SCREEN)), slide, frame_seconds=0.1, first=40)
    assert 30 < max(map(max, windows)) <= 39


def test_nearest_frame_prefers_the_earlier() -> None:
    times = torch.tensor([0.0, 0.1, 0.5])
    assert [nearest_frame(times, time) for time in (0.0, 0.04, 0.06, 0.29, 0.31, 9.0)] == [0, 0, 1, 1, 2, 2]


def test_constant_rate_allows_less_than_half_a_frame() -> None:
    even = torch.arange(10, dtype=torch.float64) / 25
    assert has_constant_rate(even, fps=25)
    assert has_constant_rate(even + torch.tensor([0, 0.019] * 5), fps=25)
    assert not has_constant_rate(even + torch.tensor([0, 0.021] * 5), fps=25)
    assert not has_constant_rate(even, fps=30)


def test_window_seconds_of_uneven_and_even_videos() -> None:
    even, uneven = video([0.0, 0.04, 0.08, 0.12], 25.0), video([0.0, 0.1, 0.9, 1.0], 3.0)
    windows = torch.tensor([[0, 1], [2, 3]])
    assert window_seconds(even, windows).tolist() == [[0.0, 0.08], [0.08, 0.16]]
    assert window_seconds(uneven, windows).flatten().tolist() == pytest.approx([0.0, 0.9, 0.9, 1.0 + 1 / 3])
    assert frame_times(uneven, windows).flatten().tolist() == pytest.approx([0.0, 0.1, 0.9, 1.0])
    assert frame_times(even, windows).tolist() == (windows.double() / 25).tolist()


# files


@pytest.fixture(scope="module")
def uneven_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("-vf", at_times(SCREEN), "-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-c:v", "libx264")
    path = tmp_path_factory.mktemp("uneven") / "screen.mp4"
    return make_video(path, *options, "-video_track_timescale", "90000", frames=len(SCREEN))


@needs_ffmpeg_command
@each_backend
def test_test_clip_of_uneven_file_follows_its_times(uneven_file: Path, backend: str) -> None:
    plan = ClipSampler(num_frames=4, frame_seconds=1.0)  # 0, 1.33, 2.66, 4 s spread over the window; see ClipSampler
    with open_video(uneven_file, backend=backend) as reader:
        (clip,) = reader.sample_indices(plan.test_indices, frame_seconds=plan.stride_seconds)
        shown = reader.timestamps[clip].tolist()
        frames = reader.frames(clip)
        one_second = [nearest_frame(reader.timestamps, time) for time in (0.0, 1.0, 2.0, 3.0)]
        exact = reader.sample_indices(
            lambda total, fps: [place * plan.stride_at_fps(fps) for place in range(4)], frame_seconds=1.0
        )
    assert exact == one_second and [round(SCREEN[index], 2) for index in exact] == [0.0, 1.4, 1.78, 3.0]
    assert shown == sorted(shown) and shown[-1] - shown[0] > 2.0
    assert torch.equal(
        decode_clip(
            uneven_file, lambda total, fps: plan.test_indices(total, fps)[0], frame_seconds=1.0, backend=backend
        ),
        frames,
    )


@needs_ffmpeg_command
def test_views_of_uneven_file_follow_its_times(uneven_file: Path) -> None:
    plan = MultiViewConfig(clip=ClipSampler(num_frames=4, frame_seconds=0.4, views=2), crops=1, size=(32, 32))
    read = decode_views(uneven_file, plan=plan)
    in_frames = decode_views(
        uneven_file, plan=MultiViewConfig(clip=ClipSampler(num_frames=4, stride=4), crops=1, size=(32, 32))
    )
    assert read.frames.shape[0] > 4 and in_frames.frames.shape[0] == 4


def test_file_of_constant_rate_samples_as_in_frames() -> None:
    data = numbered_video()  # 24 frames, 12 per second
    plan = ClipSampler(num_frames=4, frame_seconds=1 / 6, views=3)
    with open_video(data) as reader:
        assert reader.sample_indices(plan.test_indices, frame_seconds=plan.stride_seconds) == plan.test_indices(
            24, 12.0
        )
