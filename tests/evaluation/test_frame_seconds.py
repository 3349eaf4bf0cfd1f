"""Test that a model that samples in seconds sees the same frames at 15 and 30 fps, wherever it is used."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hf_videomae import VideoMAEVideoProcessor, extract_features, predict
from hf_videomae.data import MotionSource, Sample
from hf_videomae.data.motion import encode_clip
from hf_videomae.evaluation import evaluate
from hf_videomae.video.decoding import VideoDecodeError, VideoReader, decode_clip
from hf_videomae.video.sampling import ClipSampler
from tests.helpers.videos import Listed, classifier


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write one video of 48 frames at 15 fps, and the same with each frame twice at 30 fps."""
    folder = tmp_path_factory.mktemp("copies")
    frames = np.concatenate([MotionSource(split="test").frames(number) for number in (0, 1)])
    for rate, repeats in ((15, 1), (30, 2)):
        (folder / f"{rate}.mp4").write_bytes(encode_clip(frames.repeat(repeats, axis=0), frame_rate=rate))
    return [str(folder / "15.mp4"), str(folder / "30.mp4")]


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """Save a model whose clips have frames 2 / 15 s apart."""
    model = classifier()
    model.save_pretrained(tmp_path)
    VideoMAEVideoProcessor.from_config(model.config, frame_seconds=2 / 15).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def decoded_indices(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Record the frame indices that are decoded, of each video in turn."""
    result: list[list[int]] = []
    frames = VideoReader.frames

    def spy(reader: VideoReader, indices: list[int]) -> torch.Tensor:
        result.append([int(index) for index in indices])
        return frames(reader, indices)

    monkeypatch.setattr(VideoReader, "frames", spy)
    return result


def show_same_frames(decoded_indices: list[list[int]]) -> bool:
    slow, fast = decoded_indices
    return fast != slow and [index // 2 for index in fast] == slow


@pytest.mark.parametrize("views", ["1x1", "3x2"])
def test_evaluate_samples_in_seconds(
    model_dir: Path, copies: list[str], decoded_indices: list[list[int]], views: str
) -> None:
    source = Listed([Sample(id=path, video=path, label=0) for path in copies])
    processor = VideoMAEVideoProcessor.from_pretrained(model_dir)
    result = evaluate(classifier(), source, processor=processor, views=views)
    assert show_same_frames(decoded_indices)
    torch.testing.assert_close(result.logits[0], result.logits[1], atol=0.03, rtol=0)
    assert result.views["frame_seconds"] == pytest.approx(2 / 15) and result.views["stride"] is None


@pytest.mark.parametrize("views", ["1x1", "3x1", "3x2"])
def test_predict_samples_in_seconds(
    model_dir: Path, copies: list[str], decoded_indices: list[list[int]], views: str
) -> None:
    slow, fast = predict(model_dir, copies, views=views)
    assert show_same_frames(decoded_indices)
    torch.testing.assert_close(slow.probabilities, fast.probabilities, atol=0.006, rtol=0)
    decoded_indices.clear()
    predict(model_dir, copies, stride=2, views=views)  # in frames, as asked for
    assert not show_same_frames(decoded_indices)


@pytest.mark.parametrize("hop", [None, 20])
def test_features_sample_in_seconds(model_dir: Path, copies: list[str], hop: int | None) -> None:
    slow, fast = extract_features(model_dir, copies, hop=hop)
    assert (fast.frames // 2)[0].tolist() == slow.frames[0].tolist() != fast.frames[0].tolist()
    torch.testing.assert_close(fast.frames[0] / fast.fps, slow.frames[0] / slow.fps, atol=1 / 30 + 1e-6, rtol=0)


def test_file_without_frame_rate_is_a_bad_video(
    model_dir: Path, copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoReader, "fps", 0.0)
    with pytest.raises(VideoDecodeError, match="15.mp4: its frame rate is not known"):
        decode_clip(copies[0], ClipSampler(frame_seconds=0.1).train_indices)
    (result,) = predict(model_dir, copies[0], keep_going=True)
    assert result.error is not None and "frame rate" in result.error
    with pytest.raises(VideoDecodeError, match="frame rate"):
        extract_features(model_dir, copies[0])
    assert predict(model_dir, copies[0], stride=2)[0].labels
