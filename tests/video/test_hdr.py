"""Test videos of high dynamic range: recognized by their tags, counted once, mapped to standard range by `prepare`."""

import logging
import subprocess
from pathlib import Path

import pytest
import torch

from hf_videomae.video import encoding, hdr
from hf_videomae.video.decoding import open_video
from hf_videomae.video.encoding import EncodeSettings, encode_video
from hf_videomae.video.hdr import HdrCounter, HighDynamicRange, describe_hdr_videos
from tests.helpers.made_videos import ffmpeg, needs_ffmpeg_command
from tests.helpers.numbered import each_backend, needs_pyav, numbered_video

pytestmark = pytest.mark.fault

PQ, HLG = HighDynamicRange("PQ", "bt709"), HighDynamicRange("HLG", "bt709")
# Bars of standard range, in BT.709 and 8 bits.
BARS = torch.tensor([[190, 190, 190], [120, 120, 120], [60, 60, 60], [160, 100, 80], [80, 130, 90], [90, 100, 160]])


def gray(level: float) -> torch.Tensor:
    return torch.tensor([level] * 3, dtype=torch.float64)


def pq_signal(light: torch.Tensor) -> torch.Tensor:
    """Return the signal of light in cd/m2, by the standard's own formula in this direction."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (light / 10000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg_signal(light: torch.Tensor) -> torch.Tensor:
    """Return the signal of light in cd/m2 on a display of 1000 cd/m2."""
    luminance = (light * light.new_tensor((0.2627, 0.6780, 0.0593))).sum(-1, keepdim=True)
    scene = light / 1000 * (luminance / 1000) ** (1 / 1.2 - 1)
    return torch.where(
        scene <= 1 / 12, (3 * scene).sqrt(), 0.17883277 * (12 * scene - 0.28466892).clamp(1e-9).log() + 0.55991073
    )


@pytest.mark.parametrize(("transfer", "signal"), [("PQ", pq_signal), ("HLG", hlg_signal)])
def test_colors_within_standard_range_round_trip(transfer: str, signal: object) -> None:
    standard = BARS.double() / 255
    light = 203 * standard**2.4  # BT.1886, white of 203 cd/m2
    to_bt2020 = torch.tensor(hdr._TO_BT709["bt2020"], dtype=torch.float64).inverse()
    mapped = HighDynamicRange(transfer).to_sdr(signal(light @ to_bt2020.T))
    assert (mapped - standard).abs().max() < 0.5 / 255


def test_curves_match_known_points() -> None:
    assert float(hdr._pq_light(gray(0.508))[0]) == pytest.approx(100, rel=0.01)  # BT.2408, table 1
    assert float(hdr._pq_light(gray(0.58))[0]) == pytest.approx(203, rel=0.01)
    assert float(hdr._pq_light(gray(1.0))[0]) == pytest.approx(10000)
    assert float(hdr._hlg_light(gray(0.75))[0]) == pytest.approx(203, rel=0.01)
    assert float(hdr._hlg_light(gray(1.0))[0]) == pytest.approx(1000, rel=0.001)


@pytest.mark.parametrize("range_", [PQ, HLG])
def test_mapping_is_monotonic_and_stays_in_range(range_: HighDynamicRange) -> None:
    mapped = range_.to_sdr(torch.linspace(0, 1, 1000, dtype=torch.float64)[:, None].expand(-1, 3))
    assert mapped.min() == 0 and mapped.max() <= 1 and (mapped.diff(dim=0) >= 0).all()
    colors = torch.rand(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mapped = HighDynamicRange(range_.transfer).to_sdr(colors)
    assert mapped.isfinite().all() and mapped.min() >= 0 and mapped.max() <= 1


def test_cube_file_holds_the_mapping() -> None:
    lines = HighDynamicRange("PQ").to_cube_lut().splitlines()
    side = int(lines[0].split()[1])
    assert len(lines) == side**3 + 1
    red_second = torch.tensor([1 / (side - 1), 0.0, 0.0], dtype=torch.float64)
    written = torch.tensor([float(value) for value in lines[2].split()], dtype=torch.float64)
    assert torch.allclose(written, HighDynamicRange("PQ").to_sdr(red_second), atol=1e-6)


# files


def hdr_bars(path: Path, transfer: str = "PQ") -> Path:
    """Write the bars in HDR, each 16 pixels wide, 10 bits, with its tags."""
    signal = (pq_signal if transfer == "PQ" else hlg_signal)(
        203 * (BARS.double() / 255) ** 2.4 @ torch.tensor(hdr._TO_BT709["bt2020"], dtype=torch.float64).inverse().T
    )
    row = (signal * 65535).round().repeat_interleave(16, 0).numpy().astype("<u2")
    raw = path.with_suffix(".raw")
    raw.write_bytes(row.tobytes() * 32 * 3)
    tags = ("-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-color_range", "tv")
    tags += ("-color_trc", "smpte2084" if transfer == "PQ" else "arib-std-b67")
    matrix = "scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le"
    source = ("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", "96x32", "-r", "10", "-i", raw)
    ffmpeg(*source, "-vf", matrix, "-c:v", "libx265", "-x265-params", "log-level=none:crf=4", *tags, path)
    return path


def bars_in(path: Path) -> torch.Tensor:
    """Return the color of the middle of each bar."""
    with open_video(path) as reader:
        return reader.frames([1])[0, :, 16, 8::16].T.float()


@needs_ffmpeg_command
@each_backend
@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_hdr_is_recognized_by_its_tags(tmp_path: Path, backend: str, transfer: str) -> None:
    with open_video(hdr_bars(tmp_path / "x.mp4", transfer), backend=backend) as reader:
        assert reader.hdr == HighDynamicRange(transfer, "bt2020")
    with open_video(numbered_video(), backend=backend) as reader:
        assert reader.hdr is None


@needs_ffmpeg_command
@pytest.mark.parametrize("encoder", ["ffmpeg", pytest.param("pyav", marks=needs_pyav)])
@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_prepared_hdr_has_the_colors_of_standard_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, transfer: str
) -> None:
    if encoder == "pyav":
        monkeypatch.setattr(encoding, "_ffmpeg_program", lambda: None)
    source, made = hdr_bars(tmp_path / "it's 1:2, x.mp4", transfer), tmp_path / "made.mp4"
    as_read = (bars_in(source) - BARS).abs()
    monkeypatch.chdir(tmp_path)
    facts = encode_video(source, made.name, settings=EncodeSettings(short_side=32, crf=4))
    assert facts.hdr == transfer and facts.num_frames == 3 and facts.note == ""
    assert (bars_in(made) - BARS).abs().max() <= 8 and as_read.mean() > 15
    asked = "stream=color_transfer,color_primaries,color_space,color_range"
    command = ["ffprobe", "-v", "error", "-show_entries", asked, "-of", "csv=p=0", str(made)]
    assert set(subprocess.run(command, capture_output=True, text=True).stdout.strip().split(",")) == {"bt709", "tv"}


def test_standard_range_is_encoded_without_mapping(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(numbered_video())
    made = encode_video(tmp_path / "x.mp4", tmp_path / "made.mp4", settings=EncodeSettings(short_side=32))
    assert made.hdr == ""


# counting


def test_first_hdr_video_warns_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    count = HdrCounter()
    with caplog.at_level(logging.WARNING, logger="hf_videomae.video.hdr"):
        for name in ("a.mp4", "b.mp4", "a.mp4"):
            count.add({name: "PQ"})
        count.add({})
    assert len(count) == 2 and len(caplog.records) == 1
    assert "a.mp4" in caplog.text and "prepare" in caplog.text
    assert describe_hdr_videos(count.names()).startswith("2 videos are HDR") and "a.mp4 (PQ)" in describe_hdr_videos(
        count.names()
    )


def test_only_the_main_process_warns(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    count = HdrCounter()
    count.add({"a.mp4": "PQ"})
    assert len(count) == 1 and not caplog.records


@needs_ffmpeg_command
@pytest.mark.parametrize("num_workers", [0, 1])
def test_loader_collects_counts_in_the_main_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    from hf_videomae.data import build_loader, open_source, workers
    from hf_videomae.data.clips import ClipConfig

    for number in range(2):
        hdr_bars(tmp_path / f"{number}.mp4")
    fresh = HdrCounter()
    for module in (hdr, workers):
        monkeypatch.setattr(module, "hdr_counter", fresh)
    monkeypatch.setattr("hf_videomae.video.reader.hdr_counter", fresh)
    settings = ClipConfig(num_frames=2, stride=1, image_size=32)
    loader = build_loader(
        open_source(str(tmp_path)), clip_config=settings, batch_size=2, seed=0, num_workers=num_workers
    )
    batches = iter(loader)
    next(batches)
    batches.close()
    assert sorted(Path(name).name for name in fresh.names()) == ["0.mp4", "1.mp4"]
    assert set(fresh.names().values()) == {"PQ"}
