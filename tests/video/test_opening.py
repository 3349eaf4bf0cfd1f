"""Test what opens: every kind of source, files broken on purpose, and files beyond the limits."""

import http.server
import io
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from hf_videomae.video import _frame_cache, limits
from hf_videomae.video._frame_cache import FrameCache
from hf_videomae.video.decode_errors import LimitExceeded
from hf_videomae.video.decoding import (
    VideoBackendError,
    VideoDecodeError,
    count_fallbacks,
    decode_clip,
    open_video,
)
from tests.helpers.datasets_on_disk import sound_only
from tests.helpers.numbered import BACKENDS, each_backend, numbered_video, numbers, with_pyav
from tests.helpers.real_clips import needs_ffmpeg

# sources


def test_every_kind_of_source_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    path = tmp_path / "12:30.mp4"  # FFmpeg by itself takes "12" for a protocol
    path.write_bytes(numbered)
    monkeypatch.chdir(tmp_path)
    with open(path, "rb") as opened:
        for source in (path, str(path), "12:30.mp4", numbered, memoryview(numbered), io.BytesIO(numbered), opened):
            assert numbers(decode_clip(source, lambda total, fps: [8])) == [8]
        assert numbers(decode_clip(path.as_uri(), lambda total, fps: [8])) == [8]


def test_file_object_opened_as_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with open(tmp_path / "a.txt") as file, pytest.raises(ValueError, match="'rb'"):
        open_video(file)  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path, numbered: bytes) -> Iterator[str]:
    (tmp_path / "video.mp4").write_bytes(numbered)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_urls_are_read(server: str) -> None:
    assert numbers(decode_clip(f"{server}/video.mp4", lambda total, fps: [8])) == [8]
    with pytest.raises(VideoDecodeError, match="HTTP 404") as caught:
        open_video(f"{server}/nothing.mp4")
    assert caught.value.path == f"{server}/nothing.mp4"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/video.mp4", "nosuchstore://video.mp4", "memory://no/such/file.mp4"]
)
def test_unreachable_urls_are_decode_errors(url: str) -> None:
    with pytest.raises(VideoDecodeError, match="cannot be downloaded") as caught:
        open_video(url)
    assert caught.value.path == url


# bad files


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize("backend", ["auto", *[with_pyav(name) for name in BACKENDS]])
@pytest.mark.parametrize("kind", ["empty", "text", "zeros", "truncated", "sound"])
def test_bad_files_are_decode_errors(tmp_path: Path, numbered: bytes, kind: str, backend: str, as_path: bool) -> None:
    data = {
        "empty": b"",
        "text": b"this is not a video\n" * 200,
        "zeros": bytes(20_000),
        "truncated": numbered[: len(numbered) // 2],
        "sound": sound_only(),
    }[kind]
    path = tmp_path / "bad.mp4"
    path.write_bytes(data)
    start = time.monotonic()
    with pytest.raises(VideoDecodeError) as caught:
        open_video(path if as_path else data, name=None if as_path else "shard-0/clip", backend=backend)
    assert time.monotonic() - start < 5
    assert caught.value.path == (str(path) if as_path else "shard-0/clip")
    expected = {"empty": "empty", "sound": "no video stream", "truncated": "Invalid data"}.get(kind, "not a video")
    assert expected in caught.value.reason and "\n" not in str(caught.value)
    assert ".cpp" not in caught.value.reason and "report an issue" not in caught.value.reason


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.mp4", "no such file"), (tmp_path, "directory"), ("a\0b", "null")):
        with pytest.raises(VideoDecodeError, match=reason) as caught:
            open_video(path)
        assert caught.value.path == str(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(VideoDecodeError, match="not a regular file"):
            open_video(tmp_path / "pipe")


def test_damaged_middle_decodes_or_is_a_decode_error(clips_dir: Path) -> None:
    whole = (clips_dir / "mma_demo.mp4").read_bytes()
    noise = torch.randint(256, (len(whole) // 3,), dtype=torch.uint8).numpy().tobytes()
    damaged = whole[: len(whole) // 3] + noise + whole[2 * len(whole) // 3 :]
    try:
        clip = decode_clip(damaged, lambda total, fps: range(0, 280, 20), name="damaged")
    except VideoDecodeError as error:
        assert error.path == "damaged" and error.reason
    else:
        assert clip.shape == (14, 3, 256, 340)


def test_errors_have_the_documented_types() -> None:
    error = VideoDecodeError("a.mp4", "it is empty")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(error, ValueError) and not issubclass(VideoBackendError, ValueError)
    assert (again.path, again.reason, str(again)) == ("a.mp4", "it is empty", "cannot decode a.mp4: it is empty")
    # torch's DataLoader rebuilds the error of a worker from one string
    assert "a.mp4" in str(VideoDecodeError(f"Caught in worker 0: {error}"))


# limits


@pytest.mark.integration
@needs_ffmpeg
@each_backend
def test_decompression_bomb_is_refused_before_it_takes_memory(tmp_path: Path, backend: str) -> None:
    """Refuse frames of 16000 x 16000 pixels in 3 MB: one of them is 768 MB as RGB."""
    path = tmp_path / "bomb.mov"
    picture = ["-f", "lavfi", "-i", "color=c=black:s=16000x16000:r=1:d=1", "-c:v", "mjpeg", "-q:v", "31"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, "-pix_fmt", "yuvj420p", str(path)], check=True)
    assert path.stat().st_size < 4 * 2**20
    code = f"""
import resource
from hf_videomae.video.decoding import VideoDecodeError, check_backends, open_video
check_backends([{backend!r}])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    open_video({str(path)!r}, backend={backend!r})
except VideoDecodeError as error:
    print(error)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    reason, kilobytes = done.stdout.splitlines()
    for part in (str(path), "16000 x 16000 = 256000000 pixels", "at most 134217728", "MAX_PIXELS"):
        assert part in reason
    assert int(kilobytes) < 100_000


@needs_ffmpeg
@each_backend
def test_8k_video_is_within_the_limits(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "8k.mov"
    picture = ["-f", "lavfi", "-i", "color=c=gray:s=7680x4320:r=1:d=1", "-c:v", "mjpeg", "-q:v", "31"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, "-pix_fmt", "yuvj420p", str(path)], check=True)
    assert decode_clip(path, lambda total, fps: [0], backend=backend).shape == (1, 3, 4320, 7680)


def test_long_and_large_videos_are_within_the_limits() -> None:
    limits.check_frame_size(8640, 15360)
    limits.check_frame_count(20 * 3600 * 120)
    limits.check_clip_bytes(5 * 16, 4320, 7680)  # five views of sixteen 8K frames


@each_backend
def test_limit_errors_name_value_and_limit(monkeypatch: pytest.MonkeyPatch, numbered: bytes, backend: str) -> None:
    monkeypatch.setattr(limits, "MAX_CLIP_BYTES", 10 * 32 * 48 * 3)
    with open_video(numbered, name="clip", backend=backend) as reader:
        assert numbers(reader.frames(range(10))) == list(range(10))
        with pytest.raises(VideoDecodeError, match=r"11 frames of 48 x 32 .* 50688 bytes.* 46080 .*MAX_CLIP_BYTES"):
            reader.frames([0] * 11)
        assert numbers(reader.frames([3])) == [3]
    monkeypatch.setattr(limits, "MAX_FRAMES", 23)
    with pytest.raises(VideoDecodeError, match="clip: it has 24 frames .* at most 23 .*MAX_FRAMES"):
        open_video(numbered, name="clip", backend=backend)
    monkeypatch.setattr(limits, "MAX_FRAMES", 24)
    assert open_video(numbered, backend=backend).num_frames == 24


@each_backend
def test_frames_that_grow_while_decoding_are_refused(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    data = numbered_video(6, height=16, width=16, container="mpegts") + numbered_video(6, container="mpegts")
    monkeypatch.setattr(limits, "MAX_PIXELS", 16 * 16)
    with pytest.raises(VideoDecodeError, match=r"48 x 32 = 1536 pixels.* 256 .*MAX_PIXELS"):
        open_video(data, backend=backend)


def test_exceeded_limit_asks_no_other_decoder(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS", 1)
    before = count_fallbacks()
    with pytest.raises(VideoDecodeError) as caught:
        open_video(numbered)
    assert "pyav" not in caught.value.reason and count_fallbacks() == before


def no_time() -> AbstractContextManager[None]:
    return limits.override_limits(pixels=10**9, frames=10**9, clip_bytes=10**12, deadline=time.monotonic())


@pytest.mark.parametrize("backend", ["auto", *(with_pyav(name) for name in BACKENDS)])
@pytest.mark.parametrize("num_frames", [3, 24])
def test_exceeded_deadline_is_a_decode_error(backend: str, num_frames: int) -> None:
    """Short files are decoded whole when opened, longer ones in parts."""
    content = noise(num_frames)
    with no_time(), pytest.raises(VideoDecodeError, match="takes longer than is allowed") as caught:
        decode_clip(content, lambda total, fps: [0, 2], backend=backend)
    assert caught.value.reason.count("longer") == 1  # no other decoder was asked
    assert len(decode_clip(content, lambda total, fps: [0, 2], backend=backend)) == 2


def noise(num_frames: int) -> bytes:
    """Write H.264 that is large enough for every way of reading parts."""
    from torchcodec.encoders import VideoEncoder

    frames = torch.randint(0, 256, (num_frames, 3, 240, 320), dtype=torch.uint8)
    return VideoEncoder(frames, frame_rate=12).to_tensor(format="mp4", codec="libx264", crf=20).numpy().tobytes()


@each_backend
def test_deadline_in_the_future_changes_nothing(backend: str) -> None:
    content = noise(24)
    for wanted in ([5, 2, 2, 23], [7], list(range(24))):
        expected = decode_clip(content, lambda total, fps, wanted=wanted: wanted, backend=backend)
        with limits.override_limits(pixels=10**9, frames=10**9, clip_bytes=10**12, deadline=time.monotonic() + 600):
            assert torch.equal(
                decode_clip(content, lambda total, fps, wanted=wanted: wanted, backend=backend), expected
            )


def test_deadline_is_checked_between_frames() -> None:
    decoded = []

    def decode() -> Iterator[tuple[int, None]]:
        for frame in range(20):
            decoded.append(frame)
            time.sleep(0.05)
            yield frame, None

    with limits.override_limits(pixels=1, frames=100, clip_bytes=1, deadline=time.monotonic() + 0.1):
        with pytest.raises(LimitExceeded):
            FrameCache(decode, nbytes=lambda frame: 1)
    assert 1 <= len(decoded) < 10


def test_bytes_read_into_memory_are_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str, numbered: bytes
) -> None:
    monkeypatch.setattr(limits, "MAX_FETCHED_BYTES", len(numbered))
    assert numbers(decode_clip(f"{server}/video.mp4", lambda total, fps: [8])) == [8]
    monkeypatch.setattr(limits, "MAX_FETCHED_BYTES", len(numbered) - 1)
    endless = io.BytesIO(numbered)
    for source in (f"{server}/video.mp4", endless):
        with pytest.raises(VideoDecodeError, match=f"at most {len(numbered) - 1} .*MAX_FETCHED_BYTES"):
            open_video(source)
    path = tmp_path / "video.mp4"  # from a path nothing is read whole
    path.write_bytes(numbered)
    assert open_video(path).num_frames == 24


def test_frames_of_one_pixel_are_cached_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frame_cache, "MAX_CACHED_BYTES", 2**20)
    store = FrameCache(lambda: ((number, None) for number in range(5000)), nbytes=lambda frame: 3)
    assert store._cached_frames is None and store.get_frames([4999, 0]) == [4999, 0]
