"""Test long and remote files: only what a clip needs is read, and the frames match those of the whole file."""

import http.server
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hf_videomae.data import build_loader
from hf_videomae.data.clips import ClipConfig
from hf_videomae.data.source import Sample
from hf_videomae.hub.retry import is_transient
from hf_videomae.video import (
    _h264_skip,
    _mp4,
    _mp4_index,
    _pyav,
    _remote,
    limits,
)
from hf_videomae.video._source import ResolvedSource, resolve_source
from hf_videomae.video.decode_errors import BackendFailure
from hf_videomae.video.decoding import VideoDecodeError, VideoReader, open_video
from tests.helpers.real_clips import CLIPS, needs_ffmpeg
from tests.local_hub import LocalHub

needs_pyav = pytest.mark.skipif(_pyav.unavailable_reason() is not None, reason="needs PyAV (`pip install av`)")
pytestmark = [needs_pyav, needs_ffmpeg]

_BLOCK = 16 * 2**10
_PICTURE = [
    "-f",
    "lavfi",
    "-i",
    "testsrc2=s=320x240:r=30:d=20",
    "-pix_fmt",
    "yuv420p",
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
]
_SOUND = ["-f", "lavfi", "-i", "sine=d=20", "-c:a", "aac"]


def ffmpeg(path: Path, *arguments: str) -> Path:
    subprocess.run(["ffmpeg", "-v", "error", *arguments, "-threads", "1", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 600 frames with B-frames and sound, the index at the end."""
    return ffmpeg(tmp_path_factory.mktemp("long") / "long.mp4", *_SOUND, *_PICTURE, "-bf", "2", "-g", "24")


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the small files of these tests like files of gigabytes."""
    monkeypatch.setattr(_h264_skip, "_MIN_FILE_BYTES", 0)
    monkeypatch.setattr(_h264_skip, "_MAX_FILE_BYTES", 0)
    monkeypatch.setattr(_remote, "_MAX_WHOLE_DOWNLOAD_BYTES", 0)
    monkeypatch.setattr(_remote, "_BLOCK_BYTES", _BLOCK)


def uses_mp4_index(reader: VideoReader) -> bool:
    return isinstance(reader._open, _mp4_index.Mp4IndexVideo)


def some_indices(num_frames: int) -> list[int]:
    return [*torch.randint(num_frames, (6,)).tolist(), 0, num_frames - 1]


def assert_as_whole(reader: VideoReader, path: Path) -> None:
    """Assert that count, rate and frames match torchcodec, which scans the file."""
    with open_video(path, backend="torchcodec") as whole:
        assert reader.num_frames == whole.num_frames and reader.fps == pytest.approx(whole.fps, rel=0.01)
        assert torch.equal(reader.timestamps, whole.timestamps)
        start = int(torch.randint(whole.num_frames, ()))
        window = [min(start + 3 * step, whole.num_frames - 1) for step in range(8)]
        for wanted in (some_indices(whole.num_frames), window):
            assert torch.equal(reader.frames(wanted), whole.frames(wanted))
        assert (reader.height, reader.width) == (whole.height, whole.width)


# files on the disk


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize(
    "options",
    [
        ["-bf", "3", "-g", "48"],
        ["-bf", "0", "-g", "12", "-movflags", "+faststart"],
        ["-bf", "2", "-g", "30", "-movflags", "negative_cts_offsets"],
        ["-bf", "2", "-g", "30", "-vf", "select='not(mod(n,7))+gt(n,300)'", "-vsync", "vfr"],
    ],
)
def test_long_file_is_read_by_its_index(tmp_path: Path, options: list[str]) -> None:
    path = ffmpeg(tmp_path / "video.mp4", *_PICTURE, *options)
    with open_video(path) as reader:
        assert_as_whole(reader, path)
        assert uses_mp4_index(reader)


@pytest.mark.usefixtures("small_steps")
def test_index_tables_in_unusual_places_are_found(long: Path, tmp_path: Path) -> None:
    """Read a MOV with the sound first and a start that is not 0."""
    path = ffmpeg(tmp_path / "video.mov", "-itsoffset", "1.5", "-i", str(long), "-c", "copy")
    with open_video(path) as reader:
        assert_as_whole(reader, path)
        assert uses_mp4_index(reader)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cut.mp4", ["-ss", "1.3", "-i", "{long}", "-c", "copy"]),  # an edit list hides frames
        ("ends.mov", ["-ss", "1.3", "-to", "5.1", "-i", "{long}", "-c", "copy"]),
        ("parts.mp4", ["-i", "{long}", "-c", "copy", "-movflags", "frag_keyframe+empty_moov"]),
        ("parts_later.mp4", ["-i", "{long}", "-c", "copy", "-movflags", "frag_keyframe"]),
        ("video.mkv", ["-i", "{long}", "-c", "copy"]),
        ("open.mp4", [*_PICTURE, "-x264opts", "open-gop=1:keyint=20:bframes=4"]),
        ("refresh.mp4", [*_PICTURE, "-x264opts", "intra-refresh=1:keyint=20"]),
        ("mpeg4.mp4", ["-i", "{long}", "-c:v", "mpeg4", "-g", "12"]),
    ],
)
def test_file_without_usable_index_is_read_whole(long: Path, tmp_path: Path, name: str, options: list[str]) -> None:
    path = ffmpeg(tmp_path / name, *[option.format(long=long) for option in options])
    with open_video(path) as reader:
        assert_as_whole(reader, path)
        assert not uses_mp4_index(reader)


@pytest.mark.parametrize("options", ["open-gop=1:keyint=20:bframes=4", "intra-refresh=1:keyint=20"])
def test_keyframe_crossed_by_references_is_no_start(tmp_path: Path, options: str) -> None:
    path = ffmpeg(tmp_path / "video.mp4", *_PICTURE, "-t", "2", "-x264opts", options)
    video = _mp4_index.Mp4IndexVideo(resolve_source(path), num_threads=1)
    assert video.frames([5]).shape == (1, 3, 240, 320)
    with pytest.raises(BackendFailure, match="look back"):
        video.frames([45])
    video.close()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("name", sorted(CLIPS))
def test_real_clips_by_index_match_full_decoding(clips_dir: Path, name: str) -> None:
    with open_video(clips_dir / name) as reader:
        assert_as_whole(reader, clips_dir / name)


@pytest.mark.usefixtures("small_steps")
def test_truncated_long_file_is_rejected(long: Path, tmp_path: Path) -> None:
    whole = ffmpeg(tmp_path / "fast.mp4", "-i", str(long), "-c", "copy", "-movflags", "+faststart")
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(VideoDecodeError, match="torchcodec: .*; pyav: "):
        open_video(half)


def damaged(content: bytes, kind: bytes, *, at: int, value: int) -> bytes:
    """Return the file with another number in a box of the video track, so many bytes after its name."""
    place = content.index(kind, content.index(b"moov")) + 4 + at
    return content[:place] + value.to_bytes(4) + content[place + 4 :]


@pytest.mark.parametrize(("kind", "at"), [(b"ctts", 4), (b"ctts", 8), (b"stsd", 4), (b"tkhd", 12)])
def test_inconsistent_index_is_rejected(tmp_path: Path, kind: bytes, at: int) -> None:
    path = ffmpeg(tmp_path / "video.mp4", *_PICTURE, "-t", "1", "-bf", "2")
    with open(path, "rb") as file:
        offsets = list(_mp4.read_composition_offsets(file, track=1, num_packets=30))
    assert len(offsets) == 30 and len(set(offsets)) > 1
    path.write_bytes(damaged(path.read_bytes(), kind, at=at, value=7))
    with open(path, "rb") as file, pytest.raises(BackendFailure):
        _mp4.read_composition_offsets(file, track=1, num_packets=30)


# files on a server


class Server(http.server.ThreadingHTTPServer):
    """Serve one file, with ranges if `parts`; range requests break early if `breaks`."""

    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        self.parts, self.breaks, self.status = True, False, 200
        self.sent, self.asked = 0, 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/video.mp4"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that has read enough."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def setup(self) -> None:
        # What nobody reads is not to be counted, so it must not lie in the buffers of the connection.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BLOCK)
        super().setup()

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server, content = self.server, self.server.content
        server.asked += 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and server.status != 200:
            self.send_error(server.status)
            return
        self.send_response(206 if asked and server.parts else 200)
        if server.parts:
            self.send_header("Accept-Ranges", "bytes")
        if asked and server.parts:
            first, last = map(int, asked.groups())
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self._send(content[: len(content) // 2] if asked and server.breaks else content)

    def _send(self, content: bytes) -> None:
        for place in range(0, len(content), 4096):
            self.wfile.write(content[place : place + 4096])
            self.server.sent += len(content[place : place + 4096])


@pytest.fixture
def server(long: Path) -> Iterator[Server]:
    with Server(long) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.usefixtures("small_steps")
def test_clip_of_remote_file_downloads_a_part(server: Server, long: Path) -> None:
    with open_video(server.url) as reader, open_video(long) as local:
        wanted = range(300, 348, 3)
        assert torch.equal(reader.frames(wanted), local.frames(wanted))
        assert uses_mp4_index(reader) and reader.num_frames == 600
        assert server.sent < len(server.content) / 3
        assert_as_whole(reader, long)


class OneVideo:
    """A dataset of one file."""

    name, class_names = "one", None

    def __init__(self, video: str) -> None:
        self.video = video

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample(id="long.mp4", video=self.video)


@pytest.mark.usefixtures("small_steps")
def test_training_on_remote_file_downloads_a_part(server: Server, long: Path) -> None:
    settings = ClipConfig(num_frames=8, stride=2, image_size=32)
    remote, local = (
        next(iter(build_loader(OneVideo(video), clip_config=settings, batch_size=1, seed=0)))
        for video in (server.url, str(long))
    )
    assert torch.equal(remote["pixel_values"], local["pixel_values"])
    assert server.sent < len(server.content) / 2


@pytest.mark.usefixtures("small_steps")
def test_cached_blocks_are_not_fetched_again(server: Server) -> None:
    with open_video(server.url) as reader:
        first = reader.frames([100])
        asked = server.asked
        assert torch.equal(reader.frames([100]), first)
        assert server.asked == asked


@pytest.mark.usefixtures("small_steps")
def test_server_without_ranges_is_downloaded_whole(server: Server, long: Path) -> None:
    server.parts = False
    with open_video(server.url) as reader:
        assert_as_whole(reader, long)
    assert server.asked == 1


def test_small_file_takes_one_request(server: Server, long: Path) -> None:
    with open_video(server.url) as reader:
        assert_as_whole(reader, long)
    assert server.asked == 1


@pytest.mark.usefixtures("small_steps")
def test_server_that_stops_serving_ranges_is_downloaded_whole(server: Server, long: Path) -> None:
    with open_video(server.url) as reader:
        server.parts = False
        assert_as_whole(reader, long)
        assert not uses_mp4_index(reader)


@pytest.mark.usefixtures("small_steps")
def test_changed_remote_file_is_not_read_by_its_old_index(server: Server, long: Path, tmp_path: Path) -> None:
    other = ffmpeg(tmp_path / "other.mp4", *_PICTURE, "-vf", "negate", "-g", "12")
    with open_video(server.url) as reader:
        server.content = other.read_bytes()
        assert_as_whole(reader, other)


@pytest.mark.usefixtures("small_steps")
def test_remote_file_of_another_container_is_downloaded_whole(server: Server, long: Path, tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "video.mkv", "-i", str(long), "-c", "copy")
    server.content = path.read_bytes()
    with open_video(server.url) as reader:
        assert_as_whole(reader, path)
    assert server.asked == 2  # the first one left after one block


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("when", ["at the table", "at a frame"])
@pytest.mark.parametrize("fault", ["breaks off", "503", "is gone"])
def test_network_failure_is_no_decoder_failure(server: Server, when: str, fault: str) -> None:
    def fail() -> None:
        server.breaks = fault == "breaks off"
        server.status = 503 if fault == "503" else 200
        if fault == "is gone":
            server.shutdown()
            server.server_close()

    if when == "at the table":
        found = _remote.download_or_open_remote(server.url)
        assert isinstance(found, _remote.RemoteVideoFile)
        fail()
        with pytest.raises(VideoDecodeError) as caught:
            _h264_skip.open_fast_path(ResolvedSource("video", found), num_threads=1)
    else:
        with open_video(server.url) as reader:
            fail()
            with pytest.raises(VideoDecodeError) as caught:
                reader.frames([300])
    assert caught.value.path == server.url and is_transient(caught.value)


@pytest.mark.usefixtures("small_steps")
def test_reader_continues_after_a_network_failure(server: Server, long: Path) -> None:
    with open_video(server.url) as reader:
        server.breaks = True
        with pytest.raises(VideoDecodeError, match="cannot be downloaded"):
            reader.frames([300])
        server.breaks = False
        assert_as_whole(reader, long)
        assert uses_mp4_index(reader)


@pytest.mark.usefixtures("small_steps")
def test_vanished_file_is_a_decode_error(server: Server) -> None:
    with open_video(server.url) as reader:
        server.status = 404
        with pytest.raises(VideoDecodeError, match="HTTP 404") as caught:
            reader.frames([300])
    assert not is_transient(caught.value)


@pytest.mark.usefixtures("small_steps")
def test_memory_limit_applies_to_downloads_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FETCHED_BYTES", len(server.content) - 1)
    with open_video(server.url) as reader:
        assert uses_mp4_index(reader) and reader.frames([599]).shape == (1, 3, 240, 320)
    with pytest.raises(VideoDecodeError, match="MAX_FETCHED_BYTES"):
        open_video(server.url, backend="torchcodec")


@pytest.mark.usefixtures("small_steps")
def test_clip_of_hub_file_is_read(hub: LocalHub, long: Path) -> None:
    (hub.dataset("org/videos") / "long.mp4").write_bytes(long.read_bytes())
    with open_video("hf://datasets/org/videos/long.mp4") as reader, open_video(long) as local:
        wanted = range(300, 348, 3)
        assert torch.equal(reader.frames(wanted), local.frames(wanted))
        assert uses_mp4_index(reader)
    assert 0 < sum(request.sent for request in hub.requests("GET ")) < long.stat().st_size / 3


def test_blocks_match_the_bytes_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remote, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(_remote, "_MAX_CACHED_BLOCKS", 5)
    content = torch.randint(256, (1234,), dtype=torch.uint8).numpy().tobytes()
    blocks = _remote._BlockReader("url", lambda start, end: content[start:end], size=1234, head=content[:100])
    for start, length in torch.randint(1400, (200, 2)).tolist():
        assert blocks.seek(start) == start
        assert blocks.read(length) == content[start : start + length]
    assert len(blocks._cached_blocks) == 5
