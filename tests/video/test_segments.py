"""Test parts of videos between two times, for every reader and for prepared sets."""

import math
from pathlib import Path

import pytest
import torch

from hf_videomae.video.decoding import VideoDecodeError, decode_clip, open_video
from hf_videomae.video.encoding import EncodeSettings, Trim, encode_video
from hf_videomae.video.sampling import ClipSampler
from hf_videomae.video.segments import SegmentReader, VideoSegment, frames_between
from hf_videomae.video.views import MultiViewConfig, decode_views
from tests.helpers.made_videos import at_times, make_video, needs_ffmpeg_command
from tests.helpers.numbered import each_backend, numbered_video, numbers

pytestmark = pytest.mark.fault

# 24 frames at 12 per second: frame i is shown at i / 12 s.


@each_backend
@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (0.0, None, range(24)),
        (0.5, None, range(6, 24)),
        (0.5, 1.0, range(6, 12)),
        (0.083, 0.25, range(1, 3)),  # 1/12 s, rounded to three digits
        (1.9, 99.0, range(23, 24)),
        (0.0, 0.01, range(1)),
    ],
)
def test_segment_holds_the_frames_between_its_times(
    backend: str, start: float, end: float | None, frames: range
) -> None:
    segment = VideoSegment(numbered_video(), start=start, end=end)
    with open_video(segment, backend=backend) as reader:
        assert isinstance(reader, SegmentReader)
        assert reader.num_frames == len(frames) and reader.first_frame == frames[0]
        assert numbers(reader.frames(range(reader.num_frames))) == list(frames)
        assert reader.timestamps.tolist() == pytest.approx([place / 12 for place in range(len(frames))], abs=1e-3)
        assert reader.fps == 12
        assert numbers(reader.frames([len(frames) + 5])) == [frames[-1]] and reader.num_clamped == 1


def test_sampling_sees_the_segment_alone() -> None:
    segment = VideoSegment(numbered_video(), start=0.5, end=1.0)
    seen = []

    def plan(total: int, fps: float) -> list[int]:
        seen.append((total, fps))
        return [0, total - 1]

    assert numbers(decode_clip(segment, plan)) == [6, 11]
    assert seen == [(6, 12.0)]
    read = decode_views(
        segment, plan=MultiViewConfig(clip=ClipSampler(num_frames=2, mode="uniform", views=2), size=(32, 32))
    )
    found = {round(float(frame.float().mean()) / 10) for frame in read.frames}
    assert found == {6, 7, 9, 10}


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (2.5, None, "its segment starts at 2.5 s, but its last frame is at 1.917 s"),
        (0.51, 0.56, "no frame of it lies between 0.51 and 0.56 s"),
    ],
)
def test_segment_without_frames_is_a_bad_video(start: float, end: float | None, reason: str) -> None:
    with pytest.raises(VideoDecodeError) as caught:
        open_video(VideoSegment(numbered_video(), start=start, end=end), name="x.mp4")
    assert (caught.value.path, caught.value.reason) == ("x.mp4", reason)


@pytest.mark.parametrize(("start", "end"), [(1.0, 1.0), (2.0, 1.0), (-1.0, 2.0), (math.nan, None), (0.0, math.inf)])
def test_impossible_segment_is_refused(start: float, end: float | None) -> None:
    with pytest.raises(ValueError, match="give start and end in seconds"):
        VideoSegment("x.mp4", start=start, end=end)


def test_neighboring_segments_share_no_frame() -> None:
    times = torch.arange(100, dtype=torch.float64) / 29.97
    cuts = [0.0, 0.3337, 1.0, 2.222, None]
    found = [
        frame
        for start, end in zip(cuts[:-1], cuts[1:], strict=True)
        for frame in frames_between(times, start=start or 0.0, end=end)
    ]
    assert found == list(range(100))


@needs_ffmpeg_command
@each_backend
def test_segment_of_uneven_video_follows_time_stamps(tmp_path: Path, backend: str) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.52, 0.8, 1.5, 1.54, 1.6, 2.4]
    options = ("-vf", at_times(times), "-fps_mode", "passthrough", "-enc_time_base", "1:1000")
    path = make_video(tmp_path / "x.mkv", *options, "-c:v", "libx264")
    with (
        open_video(path, backend=backend) as whole,
        open_video(VideoSegment(path, 0.5, 1.54), backend=backend) as part,
    ):
        assert part.num_frames == 4 and part.first_frame == 3
        assert torch.equal(part.frames(range(4)), whole.frames([3, 4, 5, 6]))


@needs_ffmpeg_command
def test_prepared_segment_without_frames_is_an_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "x.mp4", frames=30, rate="30")
    for trim, reason in ((Trim(start=5), "its segment starts at 5 s"), (Trim(start=0.51, end=0.52), "no frame of it")):
        with pytest.raises(VideoDecodeError, match=reason):
            encode_video(path, tmp_path / "y.mp4", settings=EncodeSettings(short_side=48), trim=trim)


@needs_ffmpeg_command
@pytest.mark.parametrize(("start", "end"), [(0.2, 0.6), (0.067, 0.3), (0.1335, None)])
def test_prepared_segment_has_the_frames_of_the_raw_one(tmp_path: Path, start: float, end: float | None) -> None:
    path = make_video(tmp_path / "x.mp4", frames=30, rate="30")
    made = encode_video(
        path, tmp_path / "y.mp4", settings=EncodeSettings(short_side=48), trim=Trim(start=start, end=end)
    )
    with open_video(VideoSegment(path, start, end)) as raw, open_video(tmp_path / "y.mp4") as prepared:
        assert made.num_frames == prepared.num_frames == raw.num_frames
        # Neighboring frames of the moving picture differ by far more than encoding changes.
        for place in (0, raw.num_frames - 1):
            difference = raw.frames([place]).float() - prepared.frames([place]).float()
            assert float(difference.abs().mean()) < 8
