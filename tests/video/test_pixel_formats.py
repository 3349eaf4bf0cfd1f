"""Compare both decoders with the ffmpeg command, for every pixel format that a codec here can store.

A decoder reads a file as ffmpeg does, or refuses it. Releases of FFmpeg interpolate color between pixels differently,
so the test picture is smooth, and the mean difference of a frame may be `BOUND` levels of 255.
"""

import subprocess
from pathlib import Path

import pytest
import torch

from hf_videomae.video import _pyav
from hf_videomae.video.decoding import VideoDecodeError, open_video
from tests.helpers.made_videos import ffmpeg, needs_ffmpeg_command
from tests.helpers.numbered import each_backend, needs_pyav

pytestmark = [pytest.mark.fault, needs_ffmpeg_command]

BOUND = 3.0
FRAMES = 2

# codec and ending -> pixel formats
FAST = {
    ("rawvideo", "avi"): "monow bgra",
    ("rawvideo", "nut"): "gray10le xyz12le rgb565le",
    ("qtrle", "mov"): "gray",
    ("png", "mov"): "pal8",
    ("ffv1", "mkv"): "yuv410p gbrp12le",
    ("mjpeg", "avi"): "yuvj420p",
    ("libx264", "mp4"): "gray10le",
    ("libvpx-vp9", "webm"): "gbrp",
}
ALL = {
    (
        "rawvideo",
        "nut",
    ): "0bgr 0rgb abgr argb bgr0 bgr24 bgr444be bgr444le bgr48be bgr48le bgr4_byte bgr555be bgr555le "
    "bgr565be bgr565le bgr8 bgra bgra64be bgra64le gbrap gbrap10be gbrap10le gbrap12le gbrap16be "
    "gbrap16le gbrp gbrp9le gbrp10be gbrp10le gbrp12le gbrp14le gbrp16be gbrp16le gray gray9le gray10be "
    "gray10le gray12le gray14le gray16be gray16le monob monow nv12 nv16 nv20le nv21 nv24 nv42 p010be "
    "p010le p016le p210le p410le pal8 rgb0 rgb24 rgb444le rgb48be rgb48le rgb4_byte rgb555be rgb555le "
    "rgb565be rgb565le rgb8 rgba rgba64be rgba64le uyvy422 xyz12be xyz12le ya8 ya16be ya16le yuv410p "
    "yuv411p yuv420p yuv420p9le yuv420p10be yuv420p10le yuv420p12le yuv420p14le yuv420p16be yuv420p16le "
    "yuv422p yuv422p10le yuv422p16le yuv440p yuv440p10le yuv444p yuv444p9le yuv444p10be yuv444p16le "
    "yuva420p yuva420p10le yuva422p yuva444p yuva444p16le yuvj420p yuvj422p yuvj444p yuvj440p yuyv422 "
    "yvyu422",
    ("rawvideo", "avi"): "gray rgb555le bgr24 bgra pal8 monow yuv410p yuv411p yuv420p yuv422p yuv444p yuyv422 uyvy422",
    (
        "rawvideo",
        "mov",
    ): "gray rgb24 argb abgr bgr24 pal8 yuv420p yuyv422 uyvy422 rgb555be rgb48be gray16be monob monow",
    (
        "ffv1",
        "mkv",
    ): "bgr0 bgra gbrap10le gbrap12le gbrap16le gbrp9le gbrp10le gbrp14le gbrp16le gray gray9le gray10le "
    "gray16le rgb48le rgba64le ya8 yuv411p yuv420p9le yuv420p10le yuv420p12le yuv420p14le yuv420p16le yuv422p10le "
    "yuv440p10le yuv444p yuv444p9le yuv444p14le yuv444p16le yuva422p yuva444p10le",
    ("ffvhuff", "avi"): "bgra gbrap gbrp gray gray16le rgb24 yuv410p yuv411p yuv420p yuv422p yuv444p16le yuva444p",
    ("huffyuv", "avi"): "yuv422p rgb24 bgra",
    ("utvideo", "avi"): "gbrp gbrap yuv422p yuv420p yuv444p",
    ("magicyuv", "avi"): "gbrp gbrap gray yuv420p yuv422p yuv444p yuva444p",
    ("png", "avi"): "rgb24 rgba rgb48be rgba64be pal8 gray ya8 gray16be ya16be monob",
    ("qtrle", "mov"): "rgb24 rgb555be argb gray",
    ("bmp", "avi"): "bgra bgr24 rgb565le rgb555le rgb444le rgb8 bgr8 rgb4_byte bgr4_byte gray pal8 monob",
    ("tiff", "mov"): "rgb24 rgb48le pal8 rgba rgba64le gray ya8 gray16le ya16le monob monow yuv420p yuv422p yuv444p",
    ("targa", "mov"): "bgr24 bgra rgb555le gray pal8",
    ("zmbv", "avi"): "pal8 rgb555le rgb565le bgr0",
    ("mjpeg", "mov"): "yuvj420p yuvj422p yuvj444p",
    ("jpeg2000", "mkv"): "rgb24 yuv444p gray yuv420p yuv422p gray16le rgb48le pal8",
    ("prores_ks", "mov"): "yuv422p10le yuv444p10le yuva444p10le",
    ("cfhd", "mov"): "yuv422p10le gbrp12le",
    ("r210", "mov"): "gbrp10le",
    ("v210", "mov"): "yuv422p10le",
    ("v410", "mov"): "yuv444p10le",
    ("libx264", "mkv"): "yuvj422p yuvj444p yuv422p yuv444p nv12 nv16 nv21 yuv420p10le yuv422p10le gray",
    ("libx264rgb", "mp4"): "bgr0 bgr24 rgb24",
    (
        "libx265",
        "mp4",
    ): "yuv420p yuvj420p yuv422p yuvj422p yuv444p yuvj444p gbrp yuv420p10le gray gray10le yuv444p12le",
    ("libaom-av1", "mp4"): "yuv420p yuv422p yuv444p gbrp yuv420p10le gray",
    ("mpeg4", "avi"): "yuv420p",
    ("gif", "gif"): "pal8 gray rgb8",
    ("apng", "apng"): "rgb24 rgba pal8 gray ya8",
}
SIZES = ["64x48", "50x36", "33x27"]  # 32 divides the first width; the last is odd


def smooth(size: str) -> str:
    width, height = size.split("x")
    ends = f"x0=0:y0=0:x1={width}:y1={height}"
    return f"gradients=s={size}:c0=0xE03010:c1=0x1060D0:c2=0x20C040:nb_colors=3:{ends}:speed=0.00001:rate=10:seed=1"


def write(folder: Path, codec: str, ending: str, pixel_format: str, size: str) -> Path | None:
    """Return a file of this kind; None where the codec cannot store such pixels, or FFmpeg does not read them back."""
    path = folder / f"{codec}-{pixel_format}-{size}.{ending}"
    quiet = ("-x265-params", "log-level=none") if codec == "libx265" else ()
    quick = ("-cpu-used", "8", "-row-mt", "0") if codec == "libaom-av1" else ()
    range_ = ("-vf", "scale=out_range=pc") if pixel_format.startswith("yuvj") else ()
    try:
        picture = ("-f", "lavfi", "-i", smooth(size), "-frames:v", str(FRAMES))
        ffmpeg(*picture, *range_, "-c:v", codec, "-strict", "-2", "-pix_fmt", pixel_format, *quiet, *quick, path)
    except subprocess.CalledProcessError:
        return None
    return path if path.stat().st_size else None


def read_by_ffmpeg(path: Path, size: str) -> torch.Tensor | None:
    width, height = map(int, size.split("x"))
    try:
        raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    except subprocess.CalledProcessError:
        return None
    if not raw or len(raw) % (width * height * 3):
        return None
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, height, width, 3).permute(0, 3, 1, 2)


def check(path: Path, played: torch.Tensor, backend: str) -> str | None:
    """Return what is wrong with a decoder's frames."""
    try:
        with open_video(path, backend=backend) as reader:
            frames = reader.frames(range(reader.num_frames))
    except VideoDecodeError as error:
        return None if backend != "auto" else f"{path.name}: {error.reason}"
    if frames.shape != played.shape:
        return f"{path.name}: {tuple(frames.shape)} instead of {tuple(played.shape)}"
    difference = (frames.float() - played.float()).abs().mean((1, 2, 3)).max()
    return None if difference <= BOUND else f"{path.name}: {difference:.1f} levels"


def problems(folder: Path, codec: str, ending: str, pixel_formats: str, sizes: list[str], backends: list[str]) -> list:
    found, compared = [], 0
    for pixel_format in pixel_formats.split():
        for size in sizes:
            path = write(folder, codec, ending, pixel_format, size)
            played = None if path is None else read_by_ffmpeg(path, size)
            if path is not None and played is not None:
                compared += 1
                found += [(backend, check(path, played, backend)) for backend in backends]
                path.unlink()
    if not compared:
        pytest.skip(f"this ffmpeg cannot write {codec}")
    return [(backend, problem) for backend, problem in found if problem]


@needs_pyav
@pytest.mark.parametrize(("codec", "ending"), list(FAST))
def test_common_pixel_formats_match_ffmpeg(tmp_path: Path, codec: str, ending: str) -> None:
    assert not problems(tmp_path, codec, ending, FAST[codec, ending], ["64x48"], ["auto"])


@needs_pyav
@pytest.mark.slow
@pytest.mark.parametrize(("codec", "ending"), list(ALL))
def test_every_pixel_format_matches_ffmpeg(tmp_path: Path, codec: str, ending: str) -> None:
    assert not problems(tmp_path, codec, ending, ALL[codec, ending], SIZES, ["torchcodec", "pyav", "auto"])


def test_palette_without_pyav_is_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "png", "mov", "pal8", "64x48")
    monkeypatch.setattr(_pyav, "unavailable_reason", lambda: "not installed")
    assert path is not None
    with pytest.raises(VideoDecodeError, match=r"pal8.*pip install av"):
        open_video(path)


@needs_pyav
def test_palette_is_decoded_by_pyav(tmp_path: Path) -> None:
    path = write(tmp_path, "png", "mov", "pal8", "64x48")
    assert path is not None
    with open_video(path) as reader:
        assert reader.backend == "pyav" and reader.frames([0]).float().std() > 20


@each_backend
@pytest.mark.parametrize(
    ("codec", "ending", "pixel_format"),
    [("libvpx-vp9", "webm", "yuv420p"), ("libx264", "mp4", "yuv420p10le"), ("ffv1", "mkv", "yuv422p")],
)
def test_full_range_is_respected(tmp_path: Path, backend: str, codec: str, ending: str, pixel_format: str) -> None:
    path = tmp_path / f"x.{ending}"
    picture = ("-f", "lavfi", "-i", smooth("64x48"), "-frames:v", "2", "-vf", "scale=out_range=pc")
    ffmpeg(*picture, "-c:v", codec, "-color_range", "pc", "-pix_fmt", pixel_format, path)
    played = read_by_ffmpeg(path, "64x48")
    assert played is not None and check(path, played, backend) is None
