"""Test that every video container opens by its first bytes, and that no file opens other files."""

import http.server
import io
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

from hf_videomae.video import _pyav, _source, encoding
from hf_videomae.video.containers import Container, find_container
from hf_videomae.video.decoding import VideoDecodeError, open_video
from hf_videomae.video.encoding import EncodeSettings, encode_video
from tests.helpers.hostile import hidden_texts, reference_movie, referring_texts
from tests.helpers.numbered import BACKENDS, each_backend, needs_pyav, numbers, with_pyav
from tests.helpers.real_clips import needs_ffmpeg

pytestmark = pytest.mark.fault

_X264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
_MPEG2 = ["-c:v", "mpeg2video", "-r", "25"]
ENDINGS: dict[str, list[str]] = {
    "3gp": _X264, "3g2": _X264, "asf": ["-c:v", "wmv2"], "avi": ["-c:v", "mpeg4"],
    "divx": ["-c:v", "mpeg4", "-vtag", "DIVX", "-f", "avi"], "f4v": _X264, "flv": ["-c:v", "flv1"], "gif": [],
    "h264": _X264, "hevc": ["-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p"],
    "ivf": ["-c:v", "libvpx"], "m2ts": [*_X264, "-f", "mpegts", "-mpegts_m2ts_mode", "1"], "m2v": _MPEG2,
    "m4v": _X264, "mjpeg": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"], "mkv": _X264, "mov": _X264, "mp4": _X264,
    "mpeg": _MPEG2, "mpg": ["-c:v", "mpeg1video", "-r", "25"], "mts": [*_MPEG2, "-f", "mpegts"],
    "mxf": _MPEG2, "nut": ["-c:v", "mpeg4"], "ogv": ["-c:v", "libtheora"], "rm": ["-c:v", "rv10"], "ts": _X264,
    "vob": [*_MPEG2, "-f", "vob"], "webm": ["-c:v", "libvpx"], "wmv": ["-c:v", "wmv2"], "wtv": _MPEG2,
    "y4m": ["-pix_fmt", "yuv420p"], "apng": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("endings")


def made(folder: Path, ending: str) -> Path:
    """Return a test picture of 0.8 s in the container of an ending."""
    path = folder / f"a.{ending}"
    if path.exists():
        return path
    source = ["-f", "lavfi", "-i", "testsrc=size=96x64:rate=10:duration=0.8"]
    container = ["-f", "mp4"] if ending == "m4v" else []
    command = ["ffmpeg", "-v", "error", *source, *ENDINGS[ending], *container, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "Unknown encoder" in done.stderr:
        pytest.skip(f"this ffmpeg cannot make .{ending}")
    assert done.returncode == 0, done.stderr
    return path


@needs_ffmpeg
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_container_opens_by_its_content(folder: Path, ending: str) -> None:
    path = made(folder, ending)
    for source in (path, path.read_bytes()):
        with open_video(source) as reader:
            assert reader.num_frames in (8, 20) and (reader.height, reader.width) == (64, 96)
            assert reader.frames([0, 7]).float().mean() == pytest.approx(125, abs=3)


@needs_pyav
@needs_ffmpeg
def test_dav_file_of_surveillance_camera_opens(folder: Path) -> None:
    content = made(folder, "h264").read_bytes()
    starts = [place for place in range(len(content)) if content[place : place + 3] == b"\0\0\1"] + [len(content)]
    chunks, unit = b"", b""
    for start, end in zip(starts, starts[1:], strict=False):
        unit += b"\0" + content[start:end]
        if content[start + 3] & 31 in (1, 5):
            chunks += _dav_chunk(unit, key=content[start + 3] & 31 == 5, number=chunks.count(b"dhav"))
            unit = b""
    with open_video(chunks) as reader:
        assert reader.num_frames == 8 and (reader.height, reader.width) == (64, 96)


def _dav_chunk(unit: bytes, *, key: bool, number: int) -> bytes:
    more = bytes([0x81, 0, 2, 10, 0x80, 0, 96 // 8, 64 // 8])
    length = 24 + len(more) + len(unit) + 8
    head = b"DHAV" + bytes([0xFD if key else 0xFC, 0, 0, 0]) + struct.pack("<III", number, length, 1747058688 + number)
    return head + struct.pack("<HBB", 100 * number, len(more), 0) + more + unit + b"dhav" + struct.pack("<I", length)


def test_file_name_does_not_matter(tmp_path: Path, numbered: bytes) -> None:
    for name in ("a.m3u8", "a.sdp", "a.mpd", "a.txt", "a.jpg", "a", "playlist.ffconcat", "a.avs", "a.vpy"):
        (tmp_path / name).write_bytes(numbered)
        for backend in BACKENDS:
            if backend == "pyav" and _pyav.unavailable_reason():
                continue
            with open_video(tmp_path / name, backend=backend) as reader:
                assert numbers(reader.frames([8])) == [8]


@pytest.mark.parametrize("name", ["a%d.jpg", "a%03d.png", "a*.gif", "a?.tif", "a{1,2}.bmp", "a[1].yuv", "100%.mp4"])
@each_backend
def test_file_name_like_a_pattern_reads_its_own_file(tmp_path: Path, numbered: bytes, name: str, backend: str) -> None:
    """FFmpeg reads `a%d.jpg` as a series of images, whatever the file itself holds."""
    for number in range(3):
        Image.fromarray(np.full((48, 64, 3), 255, np.uint8)).save(tmp_path / f"a{number}.jpg")
    (tmp_path / name).write_bytes(numbered)
    with open_video(tmp_path / name, backend=backend) as reader:
        assert reader.num_frames == 24 and numbers(reader.frames([8])) == [8]


# nothing is fetched, nothing beside the file is read


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("backend", ["auto", *[with_pyav(name) for name in BACKENDS]])
@pytest.mark.parametrize("collect", [referring_texts, hidden_texts], ids=["texts", "hidden texts"])
def test_files_named_inside_a_file_are_never_read(
    tmp_path: Path, numbered: bytes, server: tuple[str, list[str]], backend: str, collect: object
) -> None:
    url, asked = server
    (tmp_path / "neighbor.mp4").write_bytes(numbered)
    (tmp_path / "a.sub").write_bytes(numbered)
    start = time.monotonic()
    for kind, content in collect("neighbor.mp4", url).items():  # type: ignore[operator]
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        for source in (path, content, io.BytesIO(content), path.as_uri()):
            with pytest.raises(VideoDecodeError) as caught:
                open_video(source, backend=backend)
            reason = caught.value.reason
            assert "not a video file" in reason or "names other files or addresses" in reason or "MP3" in reason, kind
            assert "\n" not in str(caught.value)
    assert asked == [] and time.monotonic() - start < 5


def test_ffmpeg_alone_would_fetch_playlist_entries(server: tuple[str, list[str]]) -> None:
    """Show that the test above can fail."""
    from torchcodec.decoders import VideoDecoder

    url, asked = server
    with pytest.raises(RuntimeError):
        VideoDecoder(referring_texts("neighbor.mp4", url)["hls_master"])
    if not asked:
        pytest.skip("this release of torchcodec fetches no playlist")
    assert asked == ["/b.m3u8"]


@needs_ffmpeg
@pytest.mark.parametrize("kind", [b"alis", b"url "])
@each_backend
def test_quicktime_reference_movie_opens_no_other_file(
    folder: Path, tmp_path: Path, kind: bytes, backend: str
) -> None:
    whole = made(folder, "mov").read_bytes()
    (tmp_path / "elsewhere.mov").write_bytes(whole)
    without_pixels = whole[: whole.index(b"mdat") - 4] + whole[whole.index(b"moov") - 4 :]
    path = tmp_path / "reference.mov"
    path.write_bytes(reference_movie(without_pixels, tmp_path / "elsewhere.mov", kind=kind))
    for source in (path, path.read_bytes()):
        with pytest.raises(VideoDecodeError, match="lies in another file"):
            open_video(source, backend=backend)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_still_image_is_refused(tmp_path: Path, kind: str) -> None:
    pages = [Image.fromarray(np.full((48, 64, 3), value, np.uint8)) for value in (0, 99)]
    more = {"save_all": True, "append_images": pages[1:]} if kind == "TIFF" else {}
    path = tmp_path / "a.mp4"
    pages[0].save(path, kind, **more)
    for source in (path, path.read_bytes()):
        with pytest.raises(VideoDecodeError, match=rf"(?i){kind}.*picture|picture.*{kind}"):
            open_video(source)
    with pytest.raises(VideoDecodeError, match="picture"):
        find_container(io.BytesIO(path.read_bytes()), name="a.mp4")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "HTML page"),
        (b"\n <HTML><body>Sign in</body>", "HTML page"),
        (b"PK\x03\x04" + bytes(99), "zip archive"),
        (b"PAR1" + bytes(99), "Parquet"),
        (bytes(9999), "zeros alone"),
        (b"\0", "zeros alone"),
        (b"x", "not a video file"),
        (b"\0\0\0\1", "not a video file"),
        (b"\0\0\1\0\1\0\x10\x10" + bytes(99), "not a video file"),
    ],
)
def test_error_names_the_kind_of_other_files(content: bytes, words: str) -> None:
    with pytest.raises(VideoDecodeError, match=words):
        find_container(io.BytesIO(content), name="a.mp4")


def test_phone_photo_with_second_image_is_no_motion_jpeg() -> None:
    """Recognize a photo with a second image for the display (MPF) as a still image."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "JPEG")
    picture = file.getvalue()
    assert find_container(io.BytesIO(picture + picture), name="a").demuxer == "mjpeg"
    mpf = b"\xff\xe2" + struct.pack(">H", 10) + b"MPF\0" + bytes(4)
    for content in (picture[:2] + mpf + picture[2:] + picture, picture[:-2], picture[:2] + b"\xff\xe2\0\0" + picture):
        with pytest.raises(VideoDecodeError, match="JPEG picture"):
            find_container(io.BytesIO(content), name="a")


@needs_ffmpeg
def test_ffmpeg_command_names_the_demuxer(tmp_path: Path, numbered: bytes) -> None:
    """`prepare` passes the recognized demuxer to ffmpeg, which would otherwise choose one by the file's name."""
    path = tmp_path / "a%d.jpg"
    path.write_bytes(numbered)
    made = encode_video(path, tmp_path / "out.mp4", settings=EncodeSettings(short_side=32))
    assert made.num_frames == 24
    command = encoding._command(
        encoding._EncodeJob(encoding.resolve_source(path), 32, 48, 24, encoding.Trim(), EncodeSettings(), None),
        tmp_path / "out.mp4", *encoding._ffmpeg_program(),  # type: ignore[misc]
    )  # fmt: skip
    before = command[: command.index("-i")]
    assert before[before.index("-f") + 1] == "mov" and before[before.index("-protocol_whitelist") + 1] == "file"
    (tmp_path / "b.mp4").write_bytes(referring_texts("a.mp4", "http://127.0.0.1:9")["hls"])
    with pytest.raises(VideoDecodeError, match="HLS"):
        encode_video(tmp_path / "b.mp4", tmp_path / "out2.mp4", settings=EncodeSettings())


def test_start_of_file_is_read_once(monkeypatch: pytest.MonkeyPatch, numbered: bytes) -> None:
    looks: list[str] = []

    def counted(file: BinaryIO, *, name: str) -> Container:
        looks.append(name)
        return find_container(file, name=name)

    monkeypatch.setattr(_source, "find_container", counted)
    with open_video(numbered, name="a") as reader:
        assert torch.equal(reader.frames([3]), reader.frames([3]))
    assert looks == ["a"]
