"""Test time stamps of every reader, and the frame rates that follow from them."""

import math
from pathlib import Path

import pytest
import torch

from hf_videomae.video import _h264_skip, _mp4_index, _torchcodec
from hf_videomae.video.decode_errors import UnknownFrameRateError
from hf_videomae.video.decoding import open_video
from hf_videomae.video.timestamps import choose_monotonic_times, estimate_fps, presentation_times, time_array
from tests.helpers.made_videos import at_times, ffmpeg, make_video, needs_ffmpeg_command
from tests.helpers.numbered import each_backend, needs_pyav

pytestmark = pytest.mark.fault

# Options that keep the times given by a filter.
EVERY_TIME = ("-fps_mode", "passthrough", "-enc_time_base", "1:1000")
UNEVEN = [0.0, 0.04, 0.1, 0.5, 0.52, 0.8, 1.5, 1.54, 1.6, 2.4]

# ending of the file, options of ffmpeg, finest step of its clock in seconds
CONTAINERS = [
    ("mp4", ("-c:v", "libx264", "-bf", "2", "-video_track_timescale", "90000"), 1e-3),
    ("mkv", ("-c:v", "libx264", "-bf", "2"), 1.1e-3),
    ("webm", ("-c:v", "libvpx", "-deadline", "realtime"), 1.1e-3),
    ("mov", ("-c:v", "mpeg4"), 1e-3),
    ("gif", (), 0.011),
    ("ts", ("-c:v", "libx264", "-bf", "2"), 1e-3),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold each file for all decoders."""
    return tmp_path_factory.mktemp("made")


@needs_ffmpeg_command
@each_backend
@pytest.mark.parametrize(("ending", "options", "clock"), CONTAINERS)
def test_timestamps_of_an_uneven_file(folder: Path, backend: str, ending: str, options: tuple, clock: float) -> None:
    path = make_video(folder / f"uneven.{ending}", "-vf", at_times(UNEVEN), *EVERY_TIME, *options)
    with open_video(path, backend=backend) as reader:
        assert reader.timestamps.dtype == torch.float64
        assert reader.timestamps.tolist() == pytest.approx(UNEVEN, abs=clock)


@needs_ffmpeg_command
@each_backend
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts", "mpg", "m2v", "h264", "flv"])
def test_timestamps_of_an_even_file(folder: Path, backend: str, ending: str) -> None:
    if backend == "torchcodec" and ending == "h264":
        pytest.skip("torchcodec does not open raw H.264")
    with open_video(make_video(folder / f"even.{ending}", rate="30"), backend=backend) as reader:
        assert reader.num_frames == 10
        assert reader.timestamps.tolist() == pytest.approx([place / 30 for place in range(10)], abs=1.1e-3)
        assert reader.fps == pytest.approx(30, abs=0.1)


@needs_ffmpeg_command
@each_backend
def test_timestamps_follow_an_edit_list(folder: Path, backend: str) -> None:
    whole = make_video(folder / "whole.mp4", "-c:v", "libx264", "-g", "25", "-bf", "2", frames=50)
    trimmed = folder / "trimmed.mp4"
    if not trimmed.exists():
        ffmpeg("-ss", "0.4", "-i", whole, "-c", "copy", trimmed)
    with open_video(trimmed, backend=backend) as reader:
        assert reader.num_frames < 50 and len(reader.timestamps) == reader.num_frames
        assert reader.timestamps.tolist() == pytest.approx([place / 25 for place in range(reader.num_frames)])


@needs_ffmpeg_command
@needs_pyav
@pytest.mark.parametrize("way", ["nonref_skipping", "mp4_index", "index"])
def test_every_fast_path_reports_the_timestamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    options = ("-vf", at_times(UNEVEN), *EVERY_TIME, "-c:v", "libx264", "-bf", "2")
    path = make_video(tmp_path / "x.mp4", *options, "-video_track_timescale", "90000", "-movflags", "+faststart")
    monkeypatch.setattr(_h264_skip, "_MIN_FILE_BYTES", 0)
    kind: type = {"nonref_skipping": _h264_skip.NonRefSkippingVideo, "mp4_index": _mp4_index.Mp4IndexVideo}.get(
        way, _torchcodec.TorchcodecVideo
    )
    if way == "mp4_index":
        monkeypatch.setattr(_h264_skip, "_MAX_FILE_BYTES", 0)
    monkeypatch.setattr(_torchcodec, "_MAX_SEQUENTIAL_BYTES", 0)
    monkeypatch.setattr(_torchcodec, "_ALWAYS_SEQUENTIAL_BYTES", 0)
    with open_video(path, backend="torchcodec" if way == "index" else "pyav") as reader:
        assert isinstance(reader._open, kind)
        assert reader.timestamps.tolist() == pytest.approx(UNEVEN, abs=1e-3)
        assert reader.fps == pytest.approx(9 / 2.4, rel=0.12)


@needs_ffmpeg_command
def test_index_reports_timestamps_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("-vf", at_times(UNEVEN), *EVERY_TIME, "-c:v", "libx264", "-bf", "2")
    path = make_video(tmp_path / "x.mp4", *options, "-video_track_timescale", "90000")
    monkeypatch.setattr(_torchcodec, "_MAX_SEQUENTIAL_BYTES", 0)
    monkeypatch.setattr(_torchcodec, "_ALWAYS_SEQUENTIAL_BYTES", 0)
    monkeypatch.setattr(_torchcodec._pyav, "unavailable_reason", lambda: "not installed")
    with open_video(path, backend="torchcodec") as reader:
        assert isinstance(reader._open, _torchcodec.TorchcodecVideo) and reader._open._seeking_decoder is not None
        assert reader.timestamps.tolist() == pytest.approx(UNEVEN, abs=1e-3)


# frame rates


def without_default_duration(data: bytes) -> bytes:
    """Return a WebM as a browser's MediaRecorder writes it: the element DefaultDuration becomes a void one."""
    start = data.index(b"\x23\xe3\x83")  # an identifier of three bytes, a size of one, the value
    length = 4 + (data[start + 3] & 0x7F)
    # A void element has an identifier of one byte and a size of one.
    return data[:start] + bytes((0xEC, 0x80 | length - 2)) + bytes(length - 2) + data[start + length :]


@needs_ffmpeg_command
@each_backend
def test_webm_without_default_duration_has_its_real_rate(folder: Path, backend: str) -> None:
    times = [place / 30 + (0.004 if place % 3 else 0.0) for place in range(40)]
    path = make_video(folder / "recorded.webm", "-vf", at_times(times), *EVERY_TIME, "-c:v", "libvpx", frames=40)
    with open_video(without_default_duration(path.read_bytes()), backend=backend) as reader:
        assert reader.num_frames == 40
        assert reader.fps == pytest.approx(30, rel=0.02)


@needs_ffmpeg_command
@each_backend
def test_uneven_gif_has_its_mean_rate(folder: Path, backend: str) -> None:
    times = [0.0, 0.03, 0.16, 0.19, 0.3, 0.41, 0.5, 0.63, 0.7, 0.83]
    path = make_video(folder / "mean.gif", "-vf", at_times(times), *EVERY_TIME)
    with open_video(path, backend=backend) as reader:
        assert reader.fps == pytest.approx(9 / 0.83, rel=0.1)


@pytest.mark.parametrize(
    ("stated", "num_frames", "duration", "rate"),
    [
        (25.0, 50, 49 / 25, 25.0),
        (30000 / 1001, 300, 299 / 29.97, 30000 / 1001),
        (30.0, 5, 0.133, 30.0),  # a clock of milliseconds
        (30.0, 2, 0.034, 30.0),
        (30.0, 300, 299 / 28.5, 30.0),  # a phone: the nominal rate is kept
        (1000.0, 50, 1.6, 49 / 1.6),
        (90000.0, 50, 1.96, 25.0),
        (1 / 1001, 50, 1.96, 25.0),
        (0.0, 50, 1.96, 25.0),
        (math.inf, 50, 1.96, 25.0),
        (math.nan, 50, 1.96, 25.0),
        (10000.0, 2001, 0.2, 10000.0),  # a high-speed camera that tells the truth
        (25.0, 1, 0.0, 25.0),
        (90000.0, 1, 0.0, 0.0),
        (25.0, 50, math.nan, 25.0),
        (0.0, 50, math.nan, 0.0),
    ],
)
def test_measured_rate_replaces_an_implausible_one(
    stated: float, num_frames: int, duration: float, rate: float
) -> None:
    assert estimate_fps(stated=stated, num_frames=num_frames, duration=duration) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("raw", "times"),
    [
        ([], []),
        ([7.0], [0.0]),
        ([1.4, 1.5, 1.7], [0.0, 0.1, 0.3]),
        ([None, 0.1, 0.2, None], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.1, None, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4]),
        ([0.0, 0.1, 0.2, 0.0, 0.1, 0.2], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),  # two files joined
        ([None, None, None], [0.0, 0.04, 0.08]),
        ([2.0, 2.0, 2.0], [0.0, 0.04, 0.08]),
        ([0.04, 0.08, -3.7e17], [0.0, 0.04, 0.08]),
    ],
)
def test_presentation_times(raw: list[float | None], times: list[float]) -> None:
    assert presentation_times(time_array(raw), fps=25.0).tolist() == pytest.approx(times)


def test_missing_times_and_rate_are_an_error() -> None:
    with pytest.raises(UnknownFrameRateError, match="frame rate"):
        presentation_times(time_array([None, None]), fps=0.0)


def test_decoding_times_replace_presentation_times_that_run_back() -> None:
    decoded = time_array([0.0, 0.1, 0.2, 0.3])
    assert choose_monotonic_times(time_array([0.1, 0.3, 0.2, 0.4]), decoded) is decoded
    shown = time_array([0.0, 0.1, 0.3, 0.4])
    assert choose_monotonic_times(shown, decoded) is shown
