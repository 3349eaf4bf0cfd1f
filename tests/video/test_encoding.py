"""Test that encoded videos are small, upright and even, and show the frames of their source."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from hf_videomae.video import encoding
from hf_videomae.video.decoding import VideoBackendError, VideoDecodeError, open_video
from hf_videomae.video.encoding import EncodedVideo, EncodeSettings, Trim, encode_video

av = pytest.importorskip("av", reason="the extra hf-videomae[av] is not installed")
np = pytest.importorskip("numpy")

SMALL = EncodeSettings(short_side=32, gop=5)


@pytest.fixture(params=["ffmpeg", "pyav"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with both encoders."""
    if request.param == "pyav":
        monkeypatch.setattr(encoding, "_ffmpeg_program", lambda: None)
    elif encoding._ffmpeg_program() is None:
        pytest.skip("the program ffmpeg is not installed")
    return str(request.param)


def write_video(
    path: Path,
    *,
    frames: int = 23,
    height: int = 46,
    width: int = 70,
    times: list[int] | None = None,
    audio: bool = False,
) -> Path:
    """Write frames that get brighter, with a dark left half; `times` in 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = encoding.Fraction(1, 1000)
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for index in range(frames):
            picture = np.full((height, width, 3), 60 + 6 * index % 180, dtype=np.uint8)
            picture[:, : width // 2] = 0
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[index] if times else 40 * index, encoding.Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
            noise.sample_rate = 8000
            container.mux(sound.encode(noise))
            container.mux(sound.encode())
    return path


def packets(path: Path) -> tuple[list[float], list[bool], int]:
    """Return time stamps in s, keyframes, and the number of streams."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [frame.time for frame in frames], [frame.key_frame for frame in frames], len(container.streams)


def brightness(path: Path) -> list[float]:
    with open_video(path) as video:
        return video.frames(range(video.num_frames))[..., -4:].float().mean((1, 2, 3)).tolist()


def test_result_is_small_even_and_without_audio(tmp_path: Path, either: str) -> None:
    source, output = write_video(tmp_path / "a.mp4", audio=True), tmp_path / "b.mp4"
    assert encoding.find_encoder() == either and packets(source)[2] == 2
    made = encode_video(source, output, settings=SMALL)
    assert made == EncodedVideo(num_frames=23, fps=25.0, height=32, width=48, num_bytes=output.stat().st_size)
    times, keys, streams = packets(output)
    assert streams == 1 and [index for index, key in enumerate(keys) if key] == [0, 5, 10, 15, 20]
    assert times == pytest.approx([0.04 * index for index in range(23)], abs=1e-4)
    assert brightness(output) == pytest.approx(brightness(source), abs=3)
    content = output.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.mp4", "b.mp4"]


def test_encoding_is_deterministic(tmp_path: Path, either: str) -> None:
    source = write_video(tmp_path / "a.mp4")
    digests = set()
    for name in ("b.mp4", "c.mp4"):
        encode_video(source, tmp_path / name, settings=SMALL)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_small_videos_are_not_enlarged_and_sides_become_even() -> None:
    assert EncodeSettings(short_side=256).size_of(1080, 1920) == (256, 456)
    assert EncodeSettings(short_side=320).size_of(1920, 1080) == (568, 320)
    assert EncodeSettings(short_side=256).size_of(241, 135) == (240, 136)
    assert EncodeSettings(short_side=256).size_of(1, 1) == (2, 2)


def test_variable_frame_rate_keeps_its_time_stamps(tmp_path: Path, either: str) -> None:
    times = [0, 40, 80, 200, 203, 300, 301, 700, 1000, 1007]
    source = write_video(tmp_path / "a.mkv", frames=10, times=times)
    encode_video(source, tmp_path / "b.mp4", settings=SMALL)
    assert packets(tmp_path / "b.mp4")[0] == pytest.approx([time / 1000 for time in times], abs=1e-3)


def test_trim_keeps_the_frames_between_its_times(tmp_path: Path, either: str) -> None:
    source = write_video(tmp_path / "a.mp4")
    made = encode_video(source, tmp_path / "b.mp4", settings=SMALL, trim=Trim(start=0.2, end=0.6))
    assert made.num_frames == 10
    assert brightness(tmp_path / "b.mp4") == pytest.approx(brightness(source)[5:15], abs=3)
    assert packets(tmp_path / "b.mp4")[0][0] == 0
    with pytest.raises(VideoDecodeError, match="a.mp4"):
        encode_video(source, tmp_path / "c.mp4", settings=SMALL, trim=Trim(start=5))
    assert not (tmp_path / "c.mp4").exists()
    with pytest.raises(ValueError, match="nothing lies between 3 and 2"):
        Trim(start=3, end=2)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotated_videos_become_upright(tmp_path: Path, either: str, turn: int) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("the program ffmpeg is needed to write the rotation")
    upright = write_video(tmp_path / "a.mp4")
    for options in (["-display_rotation", str(turn)], ["-noautorotate"]):
        command = [program, "-v", "error", "-y", *options, "-i", str(upright), "-c", "copy"]
        old = ["-metadata:s:v", f"rotate={turn}"] if "-noautorotate" in options else []
        if subprocess.run([*command, *old, str(tmp_path / "t.mp4")], capture_output=True).returncode == 0:
            break
    with open_video(tmp_path / "t.mp4") as video:
        source = video.frames([0])
    if turn != 180:
        assert source.shape[-2:] == (70, 46)
    encode_video(tmp_path / "t.mp4", tmp_path / "b.mp4", settings=EncodeSettings(short_side=256))
    with open_video(tmp_path / "b.mp4") as video:
        result = video.frames([0])
    assert result.shape == source.shape
    assert (result.float() - source.float()).abs().mean() < 3


def test_errors_name_files_without_their_path(tmp_path: Path, either: str) -> None:
    write_video(tmp_path / "good.mkv", frames=60, height=120, width=200)
    whole = (tmp_path / "good.mkv").read_bytes()
    bad = {"empty.mp4": b"", "text.mp4": b"no video\n" * 20}
    if either == "ffmpeg":
        bad["cut.mkv"] = whole[: len(whole) // 2]
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoDecodeError) as caught:
            encode_video(tmp_path / name, tmp_path / "out.mp4", settings=SMALL, name=name)
        assert caught.value.path == name and caught.value.reason and str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_missing_encoder_is_a_backend_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "a.mp4")
    monkeypatch.setattr(encoding, "_ffmpeg_program", lambda: None)
    monkeypatch.setattr(encoding._pyav, "unavailable_reason", lambda: "not installed")
    with pytest.raises(VideoBackendError, match="install FFmpeg with libx264"):
        encode_video(source, tmp_path / "b.mp4", settings=SMALL)


def test_interrupted_encoder_is_no_bad_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal's Ctrl-C reaches every program started from it."""
    source = write_video(tmp_path / "a.mp4")
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nkill -TERM $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(encoding, "_ffmpeg_program", lambda: (str(program), "-vsync"))
    with pytest.raises(InterruptedError):
        encode_video(source, tmp_path / "b.mp4", settings=SMALL)
    program.write_text("#!/bin/sh\necho 'av_interleaved_write_frame(): No space left on device' >&2; exit 1\n")
    with pytest.raises(OSError, match="No space left"):
        encode_video(source, tmp_path / "b.mp4", settings=SMALL)


@pytest.mark.parametrize("wrong", [{"short_side": 8}, {"gop": 0}, {"crf": 60}])
def test_invalid_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        EncodeSettings(**wrong)


@pytest.mark.slow
def test_real_clips_are_encoded(clips_dir: Path, tmp_path: Path, either: str) -> None:
    clips = [path for path in sorted(clips_dir.iterdir()) if path.suffix != ".md"]
    assert len(clips) == 20
    settings = EncodeSettings(short_side=64)
    for clip in clips:
        made = encode_video(clip, tmp_path / "b.mp4", settings=settings)
        with open_video(clip) as source, open_video(tmp_path / "b.mp4") as result:
            assert (result.num_frames, made.note) == (source.num_frames, ""), clip.name
            assert (result.height, result.width) == settings.size_of(source.height, source.width), clip.name
            ends = [0, source.num_frames - 1]
            means = [video.frames(ends).float().mean((2, 3)) for video in (source, result)]
            assert (means[0] - means[1]).abs().max() < 3, clip.name
