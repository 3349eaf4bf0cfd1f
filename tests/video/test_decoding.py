"""Test decoding against the README of the real clips and FFmpeg's output, and the fallback between decoders."""

import csv
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hf_videomae.video import _frame_cache, _h264_skip, _pyav, _torchcodec, decoding
from hf_videomae.video import reader as reader_module
from hf_videomae.video._frame_cache import FrameCache
from hf_videomae.video._source import ResolvedSource
from hf_videomae.video.decode_errors import BackendFailure
from hf_videomae.video.decoding import (
    VideoBackendError,
    VideoDecodeError,
    VideoReader,
    count_fallbacks,
    decode_clip,
    open_video,
)
from tests.helpers.numbered import BACKENDS, each_backend, needs_pyav, numbered_video, numbers
from tests.helpers.real_clips import CLIPS, assert_same_frames, ffmpeg_frames, needs_ffmpeg


def always_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the index if it is reliable, however small the video is."""
    monkeypatch.setattr(_torchcodec, "_MAX_SEQUENTIAL_BYTES", 0)
    monkeypatch.setattr(_torchcodec, "_ALWAYS_SEQUENTIAL_BYTES", 0)


# real files


@each_backend
@pytest.mark.parametrize("name", sorted(CLIPS))
def test_real_clips_have_the_frames_of_their_readme(clips_dir: Path, name: str, backend: str) -> None:
    num_frames, (height, width), fps = CLIPS[name]
    with open_video(clips_dir / name, backend=backend) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (num_frames, height, width)
        assert reader.fps == pytest.approx(fps, abs=0.01)
        ends = reader.frames([0, num_frames // 2, num_frames - 1])
        assert ends.shape == (3, 3, height, width) and ends.dtype == torch.uint8
        assert reader.backend == backend and reader.num_clamped == 0


def test_every_real_clip_is_in_the_table(clips_dir: Path) -> None:
    assert sorted(CLIPS) == sorted(path.name for path in clips_dir.iterdir() if path.suffix != ".md")


@needs_ffmpeg
@each_backend
@pytest.mark.parametrize(
    "name",
    [
        "dec_video_90.mov", "dec_video_180.mov", "dec_unordered.mov", "hfd_test_video_66x50.mov", "mma_test.avi",
        "mma_demo.mp4", "tc_nasa_13013.mp4", "tc_h265_video.mp4", "tc_h264_10bits.mp4", "mpy_bitmap.mp4",
        "skv_carphone_pristine.mp4",
    ],
)  # fmt: skip
def test_random_access_matches_ffmpeg(clips_dir: Path, name: str, backend: str) -> None:
    num_frames, size, _ = CLIPS[name]
    played = ffmpeg_frames(clips_dir / name, size)
    assert len(played) == num_frames
    wanted = torch.randint(num_frames, (12,)).tolist() + [num_frames - 1, 0]
    with open_video(clips_dir / name, backend=backend) as reader:
        # Chroma of 10 bits is interpolated differently by different releases of FFmpeg.
        assert_same_frames(reader.frames(wanted), played[wanted], tolerance=4.0 if "10bits" in name else 0.5)


@needs_ffmpeg
@each_backend
def test_packed_b_frames_of_real_avi_match_ffmpeg(data_dir: Path, backend: str) -> None:
    """The containers count 1 to 3 frames too many, and most packets have no time stamp."""
    with open(data_dir / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::20]
    for row in rows:
        decoded, size = int(row["decoded_frames"]), (int(row["height"]), int(row["width"]))
        assert decoded < int(row["packets"])
        played = ffmpeg_frames(data_dir / row["path"], size)
        wanted = [decoded - 1, 0, decoded // 2, 7]
        with open_video(data_dir / row["path"], backend=backend) as reader:
            assert reader.num_frames == decoded
            assert_same_frames(reader.frames(wanted), played[wanted])


def test_rotated_files_are_upright(clips_dir: Path) -> None:
    """Compare files of one scene, of which one is coded on its side and one upside down."""
    upright, head, side = (
        decode_clip(clips_dir / f"dec_video_{turn}.mov", lambda total, fps: [0])[0].float() for turn in (0, 180, 90)
    )
    smaller = torch.nn.functional.interpolate
    assert side.shape == (3, 568, 320)
    thumbnails = [
        smaller(frame[None], size=(8, 8), mode="area").flatten() for frame in (upright, head, head.flip(1, 2))
    ]
    right, wrong = (torch.corrcoef(torch.stack([thumbnails[0], other]))[0, 1] for other in thumbnails[1:])
    assert right > wrong


@each_backend
def test_numbered_frames_decode_in_order(clips_dir: Path, backend: str) -> None:
    """Each frame of this file prints its own number: all differ, and order and repeats are as asked."""
    with open_video(clips_dir / "tc_h265_video.mp4", backend=backend) as reader:
        in_order = reader.frames(range(10))
        assert all(not torch.equal(in_order[i], in_order[j]) for i in range(10) for j in range(i))
    for wanted in ([7, 3, 3, 9, 0], [9], [5, 4, 3, 2, 1, 0]):
        assert torch.equal(decode_clip(clips_dir / "tc_h265_video.mp4", lambda n, fps, w=wanted: w), in_order[wanted])


@needs_ffmpeg
@pytest.mark.parametrize("through_index", [True, False])
@pytest.mark.parametrize(
    ("container", "options"),
    [
        ("mp4", ["-ss", "1.3", "-i", "{source}", "-c", "copy"]),  # an edit list hides the frames before 1.3 s
        ("mov", ["-ss", "1.3", "-to", "2.6", "-i", "{source}", "-c", "copy"]),
        ("mp4", ["-i", "{source}", "-vf", "select='not(mod(n,7))+gt(n,60)'", "-vsync", "vfr"]),  # variable rate
        ("mkv", ["-i", "{source}", "-vf", "select='not(mod(n,7))+gt(n,60)'", "-vsync", "vfr"]),
        ("avi", ["-i", "{source}", "-c:v", "mpeg4", "-bf", "2", "-q:v", "3"]),
        ("mpg", ["-i", "{source}", "-c:v", "mpeg2video", "-bf", "2", "-q:v", "3"]),
        ("ts", ["-i", "{source}", "-c", "copy"]),
    ],
)
def test_trimmed_and_variable_rate_files_decode_all_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, options: list[str], through_index: bool
) -> None:
    source, path = tmp_path / "source.mp4", tmp_path / f"video.{container}"
    quiet = ["ffmpeg", "-v", "error", "-y"]
    pattern = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=64x48:r=30:d=3.5",
        "-c:v",
        "libx264",
        "-g",
        "30",
        "-pix_fmt",
        "yuv420p",
    ]
    subprocess.run([*quiet, *pattern, str(source)], check=True)
    subprocess.run([*quiet, *(part.format(source=source) for part in options), str(path)], check=True)
    if through_index:
        always_by_index(monkeypatch)
    played = ffmpeg_frames(path, (48, 64))
    with open_video(path, backend="torchcodec") as reader:
        assert reader.num_frames == len(played)
        wanted = [*torch.randint(len(played), (15,)).tolist(), len(played) - 1, 0]
        assert_same_frames(reader.frames(wanted), played[wanted])


# the two ways of torchcodec, and the store of the frames


def test_long_files_by_index_return_the_same_frames(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    whole = open_video(numbered, backend="torchcodec")
    always_by_index(monkeypatch)
    indexed = open_video(numbered, backend="torchcodec")
    assert indexed._open._seeking_decoder is not None and whole._open._seeking_decoder is None  # type: ignore[attr-defined]
    assert indexed.num_frames == whole.num_frames == 24
    for wanted in ([3, 20, 20, 0], [5], [23, 22, 21]):
        assert numbers(indexed.frames(wanted)) == wanted
        assert torch.equal(indexed.frames(wanted), whole.frames(wanted))


def test_complete_mp4_needs_no_check_of_its_last_frame(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    always_by_index(monkeypatch)
    with open_video(numbered, backend="torchcodec") as reader:
        video = reader._open
        assert isinstance(video, _torchcodec.TorchcodecVideo) and video._seeking_decoder is not None
        assert video._is_table_complete(video._seeking_decoder)
    for changed in (numbered + b"more", numbered[:-1], b"\0\0\0\0" + numbered[4:], numbered[:12]):
        assert not ResolvedSource("changed", changed).is_complete_mp4()


def test_small_complete_mp4_is_seeked_and_others_decode_sequentially(
    monkeypatch: pytest.MonkeyPatch, numbered: bytes
) -> None:
    monkeypatch.setattr(_torchcodec, "_ALWAYS_SEQUENTIAL_BYTES", 0)
    mkv = numbered_video(container="matroska")
    with open_video(numbered, backend="torchcodec") as believed, open_video(mkv, backend="torchcodec") as checked:
        assert believed._open._seeking_decoder is not None and checked._open._seeking_decoder is None  # type: ignore[attr-defined]
        assert torch.equal(believed.frames([23, 3, 3, 0]), checked.frames([23, 3, 3, 0]))


@pytest.mark.parametrize("name", ["hfd_test_video_66x50.mov", "mma_test.avi"])
def test_wrong_index_is_detected(monkeypatch: pytest.MonkeyPatch, clips_dir: Path, name: str) -> None:
    """torchcodec 0.17 reads the edit list of the MOV right; its index may then be used, with the same frames."""
    with open_video(clips_dir / name, backend="torchcodec") as reader:
        whole = reader.frames(range(CLIPS[name][0]))
    always_by_index(monkeypatch)
    with open_video(clips_dir / name, backend="torchcodec") as reader:
        assert reader.num_frames == CLIPS[name][0]
        assert reader._open._seeking_decoder is None or name.endswith(".mov")  # type: ignore[attr-defined]
        assert torch.equal(reader.frames(range(CLIPS[name][0])), whole)


# The fast path: H.264 without unneeded frames


@needs_pyav
@pytest.mark.parametrize("name", sorted(CLIPS))
def test_fast_path_matches_torchcodec_pixels(monkeypatch: pytest.MonkeyPatch, clips_dir: Path, name: str) -> None:
    monkeypatch.setattr(_h264_skip, "_MIN_FILE_BYTES", 0)
    end = CLIPS[name][0] - 1
    with open_video(clips_dir / name, backend="torchcodec") as plain, open_video(clips_dir / name) as quick:
        assert quick.num_frames == end + 1 and quick.fps == plain.fps
        starts = torch.randint(end + 1, (3,)).tolist()
        windows = [[min(start + step * stride, end) for step in range(8)] for start in starts for stride in (1, 4)]
        for wanted in [*windows, [end, 0, end // 2, 0]]:
            assert torch.equal(quick.frames(wanted), plain.frames(wanted))
        assert (quick.height, quick.width) == (plain.height, plain.width)


@needs_pyav
def test_fast_path_skips_unneeded_frames(clips_dir: Path) -> None:
    """The clip spans 61 frames of 250; the decoder must output fewer than those."""
    with open_video(clips_dir / "skv_bikes.mp4") as reader:
        video = reader._open
        assert isinstance(video, _h264_skip.NonRefSkippingVideo)
        wanted = {video._times[index] for index in range(100, 161, 4)}
        decoded = [frame.pts for frame in video._decode(wanted)]
    assert wanted <= set(decoded) and len(decoded) < 61


@needs_pyav
@needs_ffmpeg
@pytest.mark.parametrize("cut", [[], ["-ss", "0.7"]])
@pytest.mark.parametrize("options", ["open-gop=1:keyint=20:bframes=4", "intra-refresh=1:keyint=20", "keyint=250"])
def test_fast_path_handles_all_gop_structures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str, cut: list[str]
) -> None:
    monkeypatch.setattr(_h264_skip, "_MIN_FILE_BYTES", 0)
    source, path = tmp_path / "source.mp4", tmp_path / "video.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=66x50:r=30:d=2", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, "-x264opts", options, str(source)], check=True)
    subprocess.run(["ffmpeg", "-v", "error", *cut, "-i", str(source), "-c", "copy", str(path)], check=True)
    played = ffmpeg_frames(path, (50, 66))
    with open_video(path) as reader:
        # What begins with a frame that looks back across the cut is left to decoders that count what comes out.
        assert (reader._fast_path is not None) == (not cut or options == "keyint=250")
        assert reader.num_frames == len(played)
        for start in range(0, len(played), 5):
            wanted = [min(start + 3 * step, len(played) - 1) for step in range(6)]
            assert_same_frames(reader.frames(wanted), played[wanted])


@needs_pyav
@needs_ffmpeg
def test_truncated_file_skips_the_fast_path(tmp_path: Path, clips_dir: Path) -> None:
    path = tmp_path / "whole.mp4"
    copy = ["-i", str(clips_dir / "mma_demo.mp4"), "-an", "-c", "copy", "-movflags", "+faststart", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *copy], check=True)
    whole = path.read_bytes()
    with open_video(whole) as reader:
        assert reader.num_frames == 280 and reader._fast_path is not None
    with pytest.raises(VideoDecodeError, match="torchcodec: .*; pyav: "):  # the last packet is half there
        open_video(whole[: len(whole) // 2])
    with pytest.raises(BackendFailure, match="breaks off"):
        _h264_skip.open_fast_path(ResolvedSource("half", whole[: len(whole) // 2]), num_threads=1)


def test_missing_frames_resample_the_clip(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    decode = _torchcodec.TorchcodecVideo.frames

    def shrink(self: _torchcodec.TorchcodecVideo, indices: list[int]) -> torch.Tensor:
        self.num_frames = 20
        return decode(self, [min(index, 19) for index in indices])

    monkeypatch.setattr(_torchcodec.TorchcodecVideo, "frames", shrink)
    assert numbers(decode_clip(numbered, lambda total, fps: [total - 2])) == [18]


def test_failing_index_falls_back_to_decoding_order(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    always_by_index(monkeypatch)
    monkeypatch.setattr(_torchcodec, "_frames_by_index", lambda decoder, indices: None)
    with open_video(numbered, backend="torchcodec") as reader:
        assert numbers(reader.frames([2, 23, 40])) == [2, 23, 23]
        assert reader.num_clamped == 1


def test_repeated_frames_from_the_index_are_rejected(numbered: bytes) -> None:
    class Repeating:
        def get_frames_at(self, indices: list[int]) -> object:
            from torchcodec import FrameBatch

            times = torch.zeros(len(indices), dtype=torch.float64)
            return FrameBatch(torch.zeros(len(indices), 4, 4, 3, dtype=torch.uint8), times, times)

    assert _torchcodec._frames_by_index(Repeating(), [1, 2]) is None  # type: ignore[arg-type]
    assert _torchcodec._frames_by_index(Repeating(), [1, 1]) is not None  # type: ignore[arg-type]


def test_short_clip_opens_one_decoder(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    opened, open_decoder = [], _torchcodec.TorchcodecVideo._open
    monkeypatch.setattr(_torchcodec.TorchcodecVideo, "_open", lambda self: opened.append(1) or open_decoder(self))
    assert numbers(decode_clip(numbered, lambda total, fps: range(0, total, 4))) == [0, 4, 8, 12, 16, 20]
    assert len(opened) == 1


@each_backend
def test_frame_cache_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, numbered: bytes, backend: str) -> None:
    monkeypatch.setattr(_frame_cache, "MAX_CACHED_BYTES", 5 * 32 * 48 * 3)
    with open_video(numbered, backend=backend) as reader:
        assert reader._open._frame_cache._cached_frames is None  # type: ignore[attr-defined]
        assert reader.num_frames == 24
        assert numbers(reader.frames([20, 3, 3, 23])) == [20, 3, 3, 23]


def test_frame_cache_stops_at_the_last_wanted_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def decode_all() -> Iterator[tuple[int, None]]:
        for number in range(100):
            decoded.append(number)
            yield number, None

    monkeypatch.setattr(_frame_cache, "MAX_CACHED_BYTES", 10)
    store = FrameCache(decode_all, nbytes=lambda frame: 1)
    assert store.num_frames == 100
    decoded.clear()
    assert store.get_frames([7, 2, 7]) == [7, 2, 7]
    assert decoded == list(range(8))


# what is asked


@each_backend
def test_frames_keep_order_and_repeats_and_clamp_past_the_end(numbered: bytes, backend: str) -> None:
    with open_video(numbered, backend=backend) as reader:
        assert numbers(reader.frames([9, 2, 2, 17])) == [9, 2, 2, 17]
        assert reader.num_clamped == 0
        assert numbers(reader.frames([23, 24, 1000])) == [23, 23, 23]
        assert reader.num_clamped == 2
        assert reader.frames([]).shape == (0, 3, 32, 48)
        with pytest.raises(ValueError, match="never negative"):
            reader.frames([-1])
    with pytest.raises(ValueError, match="closed"):
        reader.frames([0])


@each_backend
@pytest.mark.parametrize("num_threads", [0, 1, 2])
def test_thread_count_does_not_change_frames(numbered: bytes, backend: str, num_threads: int) -> None:
    clip = decode_clip(numbered, lambda total, fps: range(total), backend=backend, num_threads=num_threads)
    assert numbers(clip) == list(range(24))


def test_invalid_arguments_are_refused(numbered: bytes) -> None:
    with pytest.raises(ValueError, match="num_threads"):
        open_video(numbered, num_threads=-1)
    with pytest.raises(ValueError, match="'decord'"):
        open_video(numbered, backend="decord")
    with pytest.raises(ValueError, match="got int"):
        open_video(5)  # type: ignore[arg-type]


def test_index_function_gets_frame_count_and_rate(numbered: bytes) -> None:
    seen = []
    clip = decode_clip(numbered, lambda total, fps: seen.append((total, fps)) or [4, 6])
    assert seen == [(24, 12.0)] and numbers(clip) == [4, 6]


@each_backend
def test_video_of_one_frame_decodes(backend: str) -> None:
    with open_video(numbered_video(1), backend=backend) as reader:
        assert reader.num_frames == 1
        assert numbers(reader.frames([0, 0, 5])) == [0, 0, 0]


@needs_pyav
def test_both_decoders_return_the_same_pixels(numbered: bytes) -> None:
    first, second = (decode_clip(numbered, lambda total, fps: range(total), backend=name) for name in BACKENDS)
    assert_same_frames(first, second, tolerance=1.0)


@pytest.mark.parametrize("size", [(36, 50), (240, 320)])
def test_shared_converter_matches_one_per_frame(size: tuple[int, int]) -> None:
    """Frames of one video change color range and matrix; their rows are padded or not."""
    av = pytest.importorskip("av")
    height, width = size
    noise = torch.randint(0, 256, (6, height * 3 // 2, width), dtype=torch.uint8, generator=torch.manual_seed(0))
    frames = [av.VideoFrame.from_ndarray(picture.numpy(), format="yuv420p") for picture in noise]
    for frame, (color_range, colorspace) in zip(frames, [(1, 1), (2, 1), (1, 5), (2, 5), (1, 1), (0, 2)], strict=True):
        frame.color_range, frame.colorspace = color_range, colorspace
    one = _pyav.RgbConverter(size)
    clip = _pyav.stack_frames((([2 * i, 2 * i + 1], one(frame)) for i, frame in enumerate(frames)), length=12)
    for i, frame in enumerate(frames):
        own = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC").to_ndarray()
        for place in (2 * i, 2 * i + 1):
            assert torch.equal(clip[place].permute(1, 2, 0), torch.from_numpy(own))
    assert clip.permute(0, 2, 3, 1).is_contiguous()


# machines without decoders, and the second decoder


def test_missing_decoder_is_a_backend_error(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    monkeypatch.setattr(_torchcodec, "unavailable_reason", lambda: "Could not load libtorchcodec")
    monkeypatch.setattr(_pyav, "unavailable_reason", lambda: "No module named 'av'")
    for source in (numbered, b"not a video", "no/such/file.mp4"):
        with pytest.raises(VideoBackendError) as caught:
            open_video(source)
        for part in ("libtorchcodec", "No module named 'av'", "apt-get install ffmpeg", "pip install av"):
            assert part in str(caught.value)


def test_broken_import_is_reported_with_its_reason() -> None:
    code = """
import sys
sys.modules["torchcodec"] = sys.modules["av"] = None
from hf_videomae.video.decoding import VideoBackendError, open_video
try:
    open_video(b"data")
except VideoBackendError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torchcodec: " in result.stdout and "pip install av" in result.stdout


@needs_pyav
def test_missing_torchcodec_falls_back_to_pyav_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, numbered: bytes
) -> None:
    monkeypatch.setattr(_torchcodec, "unavailable_reason", lambda: "no FFmpeg here")
    monkeypatch.setattr(decoding, "_warned", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with open_video(numbered) as reader:
                assert reader.backend == "pyav" and numbers(reader.frames([5])) == [5]
    assert len(caplog.records) == 1 and "no FFmpeg here" in caplog.text
    with pytest.raises(VideoBackendError, match="no FFmpeg here"):
        open_video(numbered, backend="torchcodec")


@needs_pyav
def test_file_that_torchcodec_cannot_open_falls_back_to_pyav(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, numbered: bytes
) -> None:
    def refuse(self: object, source: object, *, num_threads: int) -> None:
        raise BackendFailure("a reason of its own")

    monkeypatch.setattr(_torchcodec.TorchcodecVideo, "__init__", refuse)
    monkeypatch.setattr(reader_module, "_fallbacks", Counter())
    with caplog.at_level(logging.WARNING):
        for name in ("first", "second"):
            with open_video(numbered, name=name) as reader:
                assert reader.backend == "pyav" and numbers(reader.frames([5, 30])) == [5, 23]
                assert reader.num_clamped == 1
    assert count_fallbacks() == 2
    assert len(caplog.records) == 1 and "first" in caplog.text and "a reason of its own" in caplog.text


@needs_pyav
def test_failure_while_decoding_falls_back_to_pyav(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    def fail(self: object, indices: object) -> torch.Tensor:
        raise BackendFailure("broken half-way")

    monkeypatch.setattr(_torchcodec.TorchcodecVideo, "frames", fail)
    with open_video(numbered) as reader:
        assert reader.backend == "torchcodec"
        assert numbers(reader.frames([5])) == [5]
        assert reader.backend == "pyav"
    with open_video(numbered, backend="torchcodec") as reader:
        for _ in range(2):
            with pytest.raises(VideoDecodeError, match="half-way"):
                reader.frames([5])


def test_frames_that_change_size_are_handled() -> None:
    """Join two MPEG-TS streams: a player scales to the first size. torchcodec cannot, PyAV can."""
    data = numbered_video(6, container="mpegts") + numbered_video(6, height=16, width=16, container="mpegts")
    try:
        clip = decode_clip(data, lambda total, fps: range(total))
    except VideoDecodeError as error:
        assert _pyav.unavailable_reason() is not None and "frame size changes" in error.reason
    else:
        assert clip.shape == (12, 3, 32, 48)


def test_forked_process_reopens_the_file(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    reader: VideoReader = open_video(numbered)
    decoder = reader._open
    assert numbers(reader.frames([3])) == [3] and reader._open is decoder
    monkeypatch.setattr(reader_module.os, "getpid", lambda: -1)
    assert numbers(reader.frames([3])) == [3] and reader._open is not decoder
