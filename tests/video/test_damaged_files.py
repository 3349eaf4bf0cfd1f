"""Test damaged files that once ended a run with a traceback; each is made here."""

import random
from pathlib import Path

import pytest

from hf_videomae.video import _h264_skip, limits
from hf_videomae.video.decode_errors import LimitExceeded
from hf_videomae.video.decoding import VideoDecodeError, open_video
from tests.helpers.numbered import BACKENDS, needs_pyav, numbered_video, with_pyav
from tests.helpers.real_clips import needs_ffmpeg

pytestmark = pytest.mark.fault

# A name of a codec in each container, and one that no decoder has. PyAV gives such a stream no codec context.
UNKNOWN_CODECS = {
    "mp4": (b"avc1", b"zzzz"), "mov": (b"avc1", b"zzzz"), "matroska": (b"V_MPEG4/ISO/AVC", b"V_NOSUCH/ISO/ZZZ"),
    "avi": (b"H264", b"zzzz"),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["auto", *[with_pyav(name) for name in BACKENDS]])
@pytest.mark.parametrize("container", UNKNOWN_CODECS)
def test_unknown_codec_is_a_decode_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, backend: str
) -> None:
    monkeypatch.setattr(_h264_skip, "_MIN_FILE_BYTES", 0)
    known, unknown = UNKNOWN_CODECS[container]
    content = numbered_video(container=container)
    assert known in content
    damaged = content.replace(known, unknown[: len(known)])
    path = tmp_path / "a.mp4"
    path.write_bytes(damaged)
    for source in (damaged, path):
        with pytest.raises(VideoDecodeError) as caught:
            open_video(source, backend=backend)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@needs_pyav
def test_unknown_codec_is_named_in_the_error() -> None:
    damaged = numbered_video().replace(b"avc1", b"zzzz")
    with pytest.raises(VideoDecodeError, match="no decoder for its codec"):
        open_video(damaged, backend="pyav")


@needs_ffmpeg
@pytest.mark.parametrize("container", ["mp4", "matroska", "avi", "mpegts"])
def test_truncated_files_decode_or_raise_decode_error(monkeypatch: pytest.MonkeyPatch, container: str) -> None:
    """Cut at sixteen places, with the ways of short and of long files."""
    whole, numbers = numbered_video(8, container=container), random.Random(0)
    for number in range(16):
        monkeypatch.setattr(_h264_skip, "_MIN_FILE_BYTES", 0)
        monkeypatch.setattr(_h264_skip, "_MAX_FILE_BYTES", 0 if number % 2 else 64 * 2**20)
        cut = whole[: numbers.randrange(1, len(whole))]
        try:
            with open_video(cut) as reader:
                assert reader.frames([0, reader.num_frames - 1]).shape[0] == 2
        except VideoDecodeError as error:
            assert error.reason


def test_frame_with_a_million_lines_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="64 x 1048624 pixels.*MAX_SIDE"):
        limits.check_frame_size(2**20 + 48, 64)
    limits.check_frame_size(limits.MAX_SIDE, 64)


def test_avi_with_a_million_lines_is_refused_before_opening(tmp_path: Path) -> None:
    content = bytearray(numbered_video(container="avi"))
    place = content.index(b"strf") + 16  # the height in the header of the picture
    content[place : place + 4] = (2**20 + 48).to_bytes(4, "little")
    (tmp_path / "x.avi").write_bytes(content)
    with pytest.raises(VideoDecodeError, match="1048624 pixels.*MAX_SIDE"):
        open_video(tmp_path / "x.avi")
