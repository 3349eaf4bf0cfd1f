"""Test that features and scores of a video of variable frame rate have the times of its timestamps."""

import shutil
import subprocess

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEVideoProcessor, extract_features
from hf_videomae.inference import predict_timeline
from hf_videomae.inference.feature_files import _feature_rows
from hf_videomae.video.decoding import open_video

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command"),
]

# 20 frames per second, then a pause of 3 seconds, then 5 per second
TIMES = [0.05 * index for index in range(20)] + [4.0 + 0.2 * index for index in range(20)]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("uneven") / "x.mkv"
    steps = "".join(f"+gte(N\\,{index})*{TIMES[index] - TIMES[index - 1]:.3f}" for index in range(1, len(TIMES)))
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25", "-frames:v", "40"]
    command += ["-vf", f"settb=1/1000,setpts=round((0{steps})/TB)", "-fps_mode", "passthrough"]
    subprocess.run([*command, "-enc_time_base", "1:1000", "-c:v", "libx264", str(path)], check=True)
    return str(path)


@pytest.fixture(scope="module")
def model() -> VideoMAEForVideoClassification:
    torch.manual_seed(0)
    config = VideoMAEConfig.from_preset("tiny", num_frames=4, num_hidden_layers=1, num_labels=3)
    return VideoMAEForVideoClassification(config)


def test_features_have_the_times_of_their_frames(model: VideoMAEForVideoClassification, uneven: str) -> None:
    (result,) = extract_features(model, uneven, hop=8, stride=2)
    assert result.seconds is not None and result.seconds.shape == result.frames.shape
    assert result.seconds.flatten().tolist() == pytest.approx(
        [TIMES[frame] for frame in result.frames.flatten()], abs=2e-3
    )
    rows = list(_feature_rows(result))
    assert rows[-1]["last_second"] == pytest.approx(TIMES[-1], abs=2e-3)
    assert rows[1]["first_second"] == pytest.approx(TIMES[8], abs=2e-3)


def test_windows_planned_in_seconds_span_seconds(model: VideoMAEForVideoClassification, uneven: str) -> None:
    processor = VideoMAEVideoProcessor.from_config(model.config, frame_seconds=0.4)
    (result,) = extract_features(model, uneven, hop=4, processor=processor)
    assert result.seconds is not None
    spans = result.seconds[:, -1] - result.seconds[:, 0]
    late = spans[result.seconds[:, 0] > 4.1].tolist()  # planned after the pause
    assert len(late) > 2 and late == pytest.approx([1.2] * len(late), abs=0.11)


def test_timeline_has_the_times_of_the_file(model: VideoMAEForVideoClassification, uneven: str) -> None:
    result = predict_timeline(model, uneven, hop=4, stride=1)
    begins = [TIMES[window[0]] for window in result.frames.tolist()]
    assert result.seconds[:, 0].tolist() == pytest.approx(begins, abs=2e-3)
    assert result.seconds[4, 1] == pytest.approx(4.0, abs=2e-3)  # frames 16 to 19 are shown up to the end of the pause
    assert result.duration == pytest.approx(TIMES[-1], abs=0.3)


def test_max_seconds_counts_seconds_of_the_file(model: VideoMAEForVideoClassification, uneven: str) -> None:
    result = predict_timeline(model, uneven, hop=4, stride=1, max_seconds=4.3)
    assert result.num_frames_covered == 22 and result.frames.max() == 21
    with open_video(uneven) as reader:
        assert int((reader.timestamps < 4.3).sum()) == 22
