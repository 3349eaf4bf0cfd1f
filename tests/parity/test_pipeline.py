"""Test that stock `pipeline("video-classification")` and our `predict` agree on the same frames.

Without torchvision stock builds the pipeline with `VideoMAEImageProcessorPil`, which takes the first `num_frames`
frames of a file, decoded by PyAV.
"""

from pathlib import Path

import numpy as np
import pytest
import transformers

from hf_videomae import VideoMAEVideoProcessor, predict
from hf_videomae.data.motion import MotionSource, encode_clip
from tests.helpers.models import loads_in_stock, save_model

pytestmark = loads_in_stock
NAMES = ["boxing", "clapping", "waving", "jumping", "running", "walking"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fine-tuned")
    return save_model(folder, frame_stride=1, id2label=dict(enumerate(NAMES)), num_frames=16)


def stock_scores(checkpoint: Path, video: Path) -> dict[str, float]:
    pytest.importorskip("av", reason="the stock pipeline decodes with PyAV")
    classify = transformers.pipeline("video-classification", model=str(checkpoint), device="cpu")
    assert type(classify.model).__module__.startswith("transformers.")
    return {answer["label"]: answer["score"] for answer in classify(str(video), top_k=len(NAMES))}


def our_scores(checkpoint: Path, video: object) -> dict[str, float]:
    (found,) = predict(str(checkpoint), video, top_k=len(NAMES), device="cpu")
    return dict(zip(found.labels, found.scores, strict=True))


def frames_by_pyav(video: Path, count: int) -> np.ndarray:
    import av

    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames[:count])


def write(path: Path, frames: np.ndarray) -> Path:
    path.write_bytes(encode_clip(frames))
    return path


@pytest.mark.parametrize("index", [0, 4, 6])
def test_pipeline_agrees_at_the_models_size(checkpoint: Path, tmp_path: Path, index: int) -> None:
    video = write(tmp_path / "v.mp4", MotionSource(split="test").frames(index)[:16])
    stock = stock_scores(checkpoint, video)
    assert max(stock.values()) < 0.999  # far from saturated: a difference would show
    assert our_scores(checkpoint, frames_by_pyav(video, 16)) == pytest.approx(stock, abs=1e-4)
    assert our_scores(checkpoint, video) == pytest.approx(stock, abs=1e-4)  # decoded by torchcodec


def test_pipeline_agrees_on_frames_that_both_resize(checkpoint: Path, tmp_path: Path) -> None:
    frames = MotionSource(split="test").frames(2)[:16]
    large = frames.repeat(3, axis=-1).repeat(2, axis=-2)
    video = write(tmp_path / "v.mp4", large)
    stock = stock_scores(checkpoint, video)
    assert our_scores(checkpoint, frames_by_pyav(video, 16)) == pytest.approx(stock, abs=1e-2)
    assert our_scores(checkpoint, video) == pytest.approx(stock, abs=1e-2)


def test_stock_pipeline_accepts_our_processor(checkpoint: Path, tmp_path: Path) -> None:
    video = write(tmp_path / "v.mp4", MotionSource(split="test").frames(1))
    processor = VideoMAEVideoProcessor.from_pretrained(checkpoint)
    model = transformers.VideoMAEForVideoClassification.from_pretrained(checkpoint)
    classify = transformers.pipeline("video-classification", model=model, video_processor=processor, device="cpu")
    stock = {answer["label"]: answer["score"] for answer in classify(str(video), top_k=len(NAMES))}
    assert our_scores(checkpoint, video) == pytest.approx(stock, abs=1e-4)
