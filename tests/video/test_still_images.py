"""Test that still images and sound with a cover are refused, and animated images are videos."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image, features

from hf_videomae.video._still_images import find_still_format
from hf_videomae.video.decoding import VideoDecodeError, open_video
from tests.helpers.made_videos import ffmpeg, make_video, needs_ffmpeg_command
from tests.helpers.numbered import each_backend

pytestmark = pytest.mark.fault


def picture(number: int = 0, mode: str = "RGB") -> Image.Image:
    return Image.radial_gradient("L").resize((48, 32)).rotate(40 * number).convert(mode)


def saved(kind: str, *, frames: int = 1, **options: object) -> bytes:
    file = io.BytesIO()
    rest = {"save_all": True, "append_images": [picture(number) for number in range(1, frames)]} if frames > 1 else {}
    picture().save(file, kind, **rest, **options)
    return file.getvalue()


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
STILLS = [
    ("TIFF", {}),
    ("TIFF", {"frames": 10}),
    ("TIFF", {"big_tiff": True}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("MPO", {"frames": 2}),
    ("PNG", {}),
    ("BMP", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True, "exif": b"Exif\0\0"}),
    ("GIF", {}),
    ("PPM", {}),
    ("ICO", {}),
    ("SGI", {}),
    ("DDS", {}),
    ("JPEG2000", {}),
    ("PCX", {}),
    ("TGA", {}),
    pytest.param("AVIF", {}, marks=needs_avif),
]


@each_backend
@pytest.mark.parametrize(("kind", "options"), STILLS)
def test_still_image_is_refused(tmp_path: Path, backend: str, kind: str, options: dict) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(saved(kind, **options))
    with pytest.raises(VideoDecodeError, match="still picture|cannot decode") as error:
        open_video(path, backend=backend)
    assert "still picture" in error.value.reason or kind in ("TGA", "PCX", "ICO"), error.value.reason


def test_still_image_named_like_a_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(saved("JPEG"))
    with pytest.raises(VideoDecodeError, match="still picture"):
        open_video(path)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x10meta" + bytes(8), "HEIC or AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0\0\0\x10moov" + bytes(8), "HEIC or AVIF"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc" + b"\0\0\0\x10moov" + bytes(8), None),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1msf1" + b"\0\0\0\x10moov" + bytes(8), None),
        (b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + b"\0\0\0\x10moov" + bytes(8), None),
        (b"RIFF\x24\0\0\0AVI LIST", None),
        (b"BM in a text", None),
        (b"", None),
        (b"P", None),
        (b"\xff\xd8\xff", None),
        (b"GIF89a", None),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
    ],
)
def test_formats_are_recognized_by_their_first_bytes(head: bytes, kind: str | None) -> None:
    assert find_still_format(io.BytesIO(head)) == kind


@each_backend
@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_animated_images_are_videos(backend: str, kind: str) -> None:
    with open_video(saved(kind, frames=3, duration=100), backend=backend) as reader:
        assert reader.num_frames == 3 and reader.fps == pytest.approx(10, rel=0.05)
        assert not torch.equal(*reader.frames([0, 2]).split(1))


def test_animated_webp_is_refused_with_a_remedy() -> None:
    with pytest.raises(VideoDecodeError, match=r"animated WebP.*GIF"):
        open_video(saved("WEBP", frames=3, duration=100))


@needs_avif
def test_animated_avif_is_no_still_image() -> None:
    try:
        with open_video(saved("AVIF", frames=3, duration=100)) as reader:
            assert reader.num_frames == 3
    except VideoDecodeError as error:
        assert "still picture" not in error.reason


@needs_ffmpeg_command
@each_backend
@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "libx264"), ("mov", "png"), ("avi", "mjpeg"), ("mkv", "mjpeg"), ("mov", "mjpeg")]
)
def test_video_of_one_frame_is_a_video(tmp_path: Path, backend: str, ending: str, codec: str) -> None:
    with open_video(make_video(tmp_path / f"x.{ending}", "-c:v", codec, frames=1), backend=backend) as reader:
        assert reader.num_frames == 1 and reader.frames([0]).shape == (1, 3, 48, 64)
        assert reader.timestamps.tolist() == [0.0] and reader.fps == pytest.approx(25, abs=0.1)


@needs_ffmpeg_command
@each_backend
def test_consecutive_jpeg_images_are_a_video(tmp_path: Path, backend: str) -> None:
    path = make_video(tmp_path / "x.mjpeg", "-c:v", "mjpeg", frames=4)
    with open_video(path, backend=backend) as reader:
        assert reader.num_frames == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold each file for all decoders."""
    return tmp_path_factory.mktemp("made")


COVERS = [
    ("m4v", "aac", "png"),
    ("mp4", "aac", "mjpeg"),
    ("mp3", "libmp3lame", "mjpeg"),
    ("flac", "flac", "png"),
    ("wma", "wmav2", "mjpeg"),
]


@needs_ffmpeg_command
@each_backend
@pytest.mark.parametrize(("ending", "audio", "codec"), COVERS)
def test_sound_with_cover_image_is_refused(folder: Path, backend: str, ending: str, audio: str, codec: str) -> None:
    cover, path = folder / f"cover.{'jpg' if codec == 'mjpeg' else codec}", folder / f"{codec}.{ending}"
    if not path.exists():
        ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", cover)
        sound = ("-f", "lavfi", "-i", "sine=d=1", "-i", cover, "-map", "0", "-map", "1", "-c:a", audio)
        kind = ["-f", "mp4"] if ending == "m4v" else []
        ffmpeg(*sound, "-c:v", "copy", "-disposition:v", "attached_pic", *kind, path)
    with pytest.raises(VideoDecodeError, match="cover picture|sound file") as error:
        open_video(path.read_bytes(), name="song", backend=backend)
    assert error.value.path == "song"


@needs_ffmpeg_command
@each_backend
def test_video_with_cover_image_is_a_video(folder: Path, backend: str) -> None:
    cover, path = folder / "cover.jpg", folder / "x.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=256x256", "-frames:v", "1", cover)
    video = make_video(folder / "video.mp4", "-c:v", "libx264")
    ffmpeg("-i", video, "-attach", cover, "-metadata:s:t", "mimetype=image/jpeg", "-c", "copy", path)
    with open_video(path, backend=backend) as reader:
        assert reader.num_frames == 10 and (reader.height, reader.width) == (48, 64)
